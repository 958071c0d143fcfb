/* group_expiry.c - committed offsets whose time is over, or whose topic is gone, are removed by tombstones; groups that are empty and have none
 * left, too.
 *
 * A pass goes over all groups of a coordinator, in slices; a group that is busy is left for the next. It begins every
 * offsets.retention.check.interval.ms, when a topic was deleted, and after loading (topics may have been deleted before the
 * tombstones were written). Rules: KIP-211. An offset expires offsets.retention.minutes after its group became empty; for a
 * group that never had members, and for topics that a stable group of consumers no longer reads, after its commit. A clock that was set
 * ahead makes nothing old, as with records (housekeeping.h). */
#include "base/trace.h"
#include "server/api.h"
#include "server/cluster.h"
#include "server/group_api.h"
#include "server/group_coordinator_impl.h"

enum { OFFSETS_PER_LOOK = 256, TOMBSTONES_MAX = 1000 };

/* Moves on to the next group. */
static void leave_group(struct coordinator *c) {
    struct group_expiry *x = &c->expiry;
    struct group *g = x->group;
    x->group = g->hh.next;
    if (x->group) x->group->pins++;
    g->pins--;
    group_settle(g);
}

void group_expiry_begin(struct coordinator *c) {
    struct group_expiry *x = &c->expiry;
    if (c->state != COORDINATOR_ACTIVE) return;
    if (x->running) {
        x->again = true;
        return;
    }
    x->running = c->groups != NULL;
    if (!x->running) return;
    x->group = c->groups;
    x->group->pins++;
    coordinator_work(c);
}

void group_expiry_end(struct coordinator *c) {
    struct group_expiry *x = &c->expiry;
    if (x->group) x->group->pins--;
    if (x->scanning) {
        x->group->exclusive = false;
        group_records_free(&x->records);
    }
    *x = (struct group_expiry){0};
}

/* ---- one group -------------------------------------------------------------------------------------------- */

static bool topic_gone(const struct group *g, const struct group_offset_topic *t) {
    /* What an earlier coordinator took commits for, this broker may not have heard of yet. */
    if (!cluster_knows_since(group_reactor(g), g->coordinator->loaded_ns)) return false;
    const struct image_topic *known = image_topic_by_name(reactor_image(group_reactor(g)), (struct str){t->name, t->name_len});
    return !known || (!uuid_is_zero(&t->id) && !uuid_eq(&t->id, &known->id));
}

/* What holds for all offsets of the topic that the scan has come to. */
static void enter_topic(struct group_expiry *x, const struct group *g, const struct group_offset_topic *t) {
    x->topic = t;
    x->topic_gone = topic_gone(g, t);
    x->kept = !group_is_empty(g) && !group_offsets_may_expire(g);
    x->subscribed_known = false;
}

static bool is_over(struct group_expiry *x, const struct group *g, const struct group_offset *o) {
    const struct reactor *r = group_reactor(g);
    int64_t retention_ms = (int64_t)r->broker->config.offsets_retention_minutes * 60000;
    if (x->topic_gone) return true;
    if (x->hold || x->kept || !group_offset_expired(o, r->now_ms, retention_ms, group_empty_since_ms(g), false)) return false;
    if (!x->subscribed_known) { /* looked for only where it matters */
        x->subscribed = !group_is_empty(g) && group_subscribes(g, (struct str){x->topic->name, x->topic->name_len});
        x->subscribed_known = true;
    }
    return !x->subscribed;
}

static void scan_begin(struct group_expiry *x, struct group *g) {
    g->exclusive = true; /* nothing may change under the iterator */
    x->scanning = true;
    x->topic = NULL;
    x->found = 0;
    struct reactor *r = group_reactor(g);
    x->hold = housekeeping_holds(r);
    x->it = group_offsets_begin(&g->offsets);
    group_records_begin(&x->records);
}

/* False: there is more to look at. */
static bool scan(struct group_expiry *x, struct group *g) {
    for (int i = 0; i < OFFSETS_PER_LOOK && x->records.count < TOMBSTONES_MAX; i++) {
        const struct group_offset_topic *t;
        const struct group_offset *o = group_offsets_next(&x->it, &t);
        if (!o) return true;
        if (t != x->topic) enter_topic(x, g, t);
        if (!is_over(x, g, o)) continue;
        group_put_offset_tombstone(g, (struct str){t->name, t->name_len}, o->partition, &x->records);
        x->found++;
    }
    return x->records.count >= TOMBSTONES_MAX;
}

static void removed(struct group *g, void *ctx, int16_t error) {
    struct coordinator *c = ctx;
    struct group_expiry *x = &c->expiry;
    if (c->state == COORDINATOR_GONE) return;
    x->waiting = false;
    if (!error) trace_debug("groups", "group %.*s: %llu committed offsets expired", g->id_len, g->id, (unsigned long long)x->found);
    if (error || !x->full) leave_group(c); /* else once more over the same */
    coordinator_work(c);
}

static void scan_end(struct coordinator *c, struct group *g) {
    struct group_expiry *x = &c->expiry;
    x->scanning = false;
    g->exclusive = false;
    x->full = x->records.count >= TOMBSTONES_MAX;
    if (!x->full && x->found == g->offsets.count && group_is_empty(g)) group_put_group_tombstone(g, &x->records);
    if (x->records.err || x->records.count == 0) {
        group_records_free(&x->records);
        leave_group(c);
        return;
    }
    x->waiting = true;
    group_append(g, GROUP_EXCLUSIVE, &x->records, removed, c);
}

/* ---- the pass ------------------------------------------------------------------------------------------------- */

bool group_expiry_step(struct coordinator *c, int64_t deadline_ns) {
    struct group_expiry *x = &c->expiry;
    while (x->running && !x->waiting && c->state == COORDINATOR_ACTIVE) {
        struct group *g = x->group;
        if (!g) {
            bool again = x->again;
            *x = (struct group_expiry){0};
            if (again) group_expiry_begin(c);
            return false;
        }
        if (!x->scanning) {
            if (g->exclusive || g->shared > 0 || g->tick_due || !list_empty(&g->queue)) leave_group(c);
            else scan_begin(x, g);
        } else if (scan(x, g)) {
            scan_end(c, g);
        }
        if (io_mono_ns(c->set->reactor->io) >= deadline_ns) return x->running && !x->waiting;
    }
    return false;
}
