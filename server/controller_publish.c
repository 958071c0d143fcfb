/* controller_publish.c - the way of a new image to the reactors, and what each does for it: logs are made and deleted.
 *
 * Some at a time: a change may be of thousands of partitions, and a turn is short. A reactor takes the images in their order, the next
 * one when it is through with the one before: what a later one removes has been made by then. */
#include <stdlib.h>
#include "base/assert.h"
#include "base/trace.h"
#include "server/cluster.h"
#include "server/controller_impl.h"
#include "server/group_coordinator.h"

enum { REPAIR_SECONDS = 5 };
enum { COST_OF_LOG = 4, COST_OF_LOOK = 1, COST_A_TURN = 128, PASSED_A_LOOK = 32 }; /* a log that is made or deleted takes 10 us or so */

struct publish;
struct publish_part {                 /* one reactor's share */
    struct mail mail;
    struct publish *publish;
    struct reactor *reactor;
    uint32_t pending;                 /* logs being made or deleted, and this part itself */
    uint32_t unmade;                  /* logs that could not even be begun */
    enum err err;
    struct list link;                 /* among those of this reactor that are not through, oldest first */
    bool begun;
    uint32_t at;                      /* how far it is: changes, or topics; */
    int32_t partition;                /* and partitions of that */
    uint32_t cost;                    /* of this turn */
    uint32_t passed;                  /* partitions that are others' */
};
struct publish {
    struct list link;
    struct controller *controller;
    struct image *older, *newer;
    struct controller_change *change;
    bool compare;                     /* with the logs that are there, not with the older image */
    bool initial, complete;
    uint32_t parts_away;
    struct publish_part parts[];
};

/* Images are freed in their order: the garbage of one is listed in the next. */
static void retire(struct controller *c) {
    while (!list_empty(&c->publishes)) {
        struct publish *p = LIST_ENTRY(c->publishes.next, struct publish, link);
        if (!p->complete) return;
        list_remove(&p->link);
        c->publish_count--;
        if (p->older) image_free_older(p->older, p->newer);
        free(p);
    }
}

/* Images wait for the slowest reactor and for logs to be made. Each holds three lists of all topics. */
enum { PUBLISHED_BYTES_MAX = 64 << 20, PUBLISHES_MIN = 4, PUBLISH_BYTES = 4096 };
bool controller_publish_has_room(const struct controller *c) {
    uint64_t each = PUBLISH_BYTES + 3 * sizeof(void *) * (uint64_t)controller_newest(c)->topic_count;
    return c->publish_count < MAX((uint64_t)PUBLISHES_MIN, PUBLISHED_BYTES_MAX / each);
}

/* Metadata shows a log that could not be made (a full disk): tried again until it is there. */
static void repair_later(struct controller *c) {
    if (c->stopping || timer_armed(&c->repair)) return;
    trace_warn("metadata", "some logs could not be made; tried again every %d seconds", REPAIR_SECONDS);
    timer_set(&controller_reactor(c)->timers, &c->repair,
              controller_reactor(c)->now_ns + REPAIR_SECONDS * 1000000000LL);
}

static void part_home(struct mail *m) {
    struct publish_part *part = CONTAINER_OF(m, struct publish_part, mail);
    struct publish *p = part->publish;
    struct controller *c = p->controller;
    ASSERT(p->parts_away > 0);
    if (--p->parts_away > 0) return;
    enum err err = OK;
    for (uint32_t i = 0; i < c->broker->reactor_count && !err; i++) err = p->parts[i].err;
    if (p->change) controller_change_finish(p->change, err);
    bool initial = p->initial;
    p->complete = true;
    retire(c);
    if (err && err != ERR_IO) repair_later(c);
    metadata_log_continue(c);
    if (initial) metadata_log_ready(c, err == ERR_IO ? err : OK);
}

static void part_step_done(void *ctx, enum err err) {
    struct publish_part *part = ctx;
    if (err && !part->err) part->err = err;
    ASSERT(part->pending > 0);
    if (--part->pending > 0) return;
    part->mail.deliver = part_home;
    mailbox_post(&part->reactor->broker->reactors[0].mailbox, &part->mail);
}

static void create_log(struct publish_part *part, const struct image_topic *t, int32_t partition) {
    part->pending++;
    part->cost += COST_OF_LOG;
    if (!partition_create(part->reactor, t, partition, part_step_done, part)) part->unmade++;
}
static void delete_log(struct publish_part *part, uint64_t plid) {
    part->pending++;
    part->cost += COST_OF_LOG;
    partition_delete(part->reactor, plid, part_step_done, part);
}

/* This node's replica; NULL: none. */
static const struct image_replica *replica_here(const struct publish_part *part, const struct image_topic *t, int32_t partition) {
    return image_replica_of(&t->partitions[partition], part->reactor->broker->config.node_id);
}

static void follow_one(struct publish_part *part, const struct image_change *change, int32_t partition) {
    const struct image_topic *t = change->topic;
    if (t->partitions[partition].owner != part->reactor->index) return;
    part->cost += COST_OF_LOOK;
    switch (change->kind) {
    case IMAGE_PARTITION_ADDED: create_log(part, t, partition); break;
    case IMAGE_PARTITION_REMOVED:
        if (change->partition >= 0 || replica_here(part, t, partition)) delete_log(part, t->partitions[partition].plid);
        break;
    case IMAGE_PARTITION_CHANGED: partition_unsettle(part->reactor, t->partitions[partition].plid); break;
    case IMAGE_TOPIC_CONFIGURED:
        if (replica_here(part, t, partition)) partition_configure(part->reactor, t, partition);
        break;
    }
}

/* False: the turn is over; the part goes on from `at` and `partition`. */
static bool follow_changes(struct publish_part *part) {
    const struct image *im = part->publish->newer;
    for (; part->at < im->change_count; part->at++, part->partition = 0) {
        const struct image_change *change = &im->changes[part->at];
        int32_t end = change->partition >= 0 ? change->partition + 1 : change->topic->partition_count;
        for (part->partition = MAX(part->partition, change->partition); part->partition < end; part->partition++) {
            if (part->cost >= COST_A_TURN) return false;
            follow_one(part, change, part->partition);
        }
    }
    return true;
}

/* The log of a life that is over gives way to that of the one that metadata shows: it left and came back while this broker was down. Both
 * changes enter the journal before it is said that all is assigned. */
static void renew_log(struct publish_part *part, const struct image_topic *t, int32_t partition) {
    delete_log(part, t->partitions[partition].plid);
    create_log(part, t, partition);
}

/* What metadata gave to this node before the last ASSIGNED must be here: if it is not, it was lost,
 * and an empty log in its place would pass for the truth. */
static void adopt(struct publish_part *part, const struct image_topic *t, int32_t partition) {
    const struct image_partition *p = &t->partitions[partition];
    const struct image_replica *own = replica_here(part, t, partition);
    const struct controller *c = part->publish->controller;
    int64_t end;
    if (!own) return;
    part->cost += COST_OF_LOOK;
    const struct log *l = partition_log(part->reactor, p->plid, &end);
    if (l && log_plid_life(l->plid) != own->life) {
        renew_log(part, t, partition);
    } else if (partition_exists(part->reactor, p->plid)) {
        partition_configure(part->reactor, t, partition);
    } else if (own->metadata_offset < c->metadata_assigned) {
        trace_error("metadata",
                    "the log of %s-%d is missing from the data directory; it is not served and not made anew",
                    t->name, partition);
    } else {
        create_log(part, t, partition);
    }
}

/* As follow_changes(). */
static bool adopt_all(struct publish_part *part) {
    const struct image *im = part->publish->newer;
    for (; part->at < im->topic_count; part->at++, part->partition = 0) {
        const struct image_topic *t = im->by_name[part->at];
        for (; part->partition < t->partition_count; part->partition++) {
            if (part->cost >= COST_A_TURN) return false;
            if (t->partitions[part->partition].owner == part->reactor->index) adopt(part, t, part->partition);
            else if (++part->passed % PASSED_A_LOOK == 0) part->cost += COST_OF_LOOK;
        }
    }
    return true;
}

static int compare_plids(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* A snapshot does not say what was removed before it; but a group has its number for ever, and metadata knew it before its log was made. */
static bool was_removed(const struct image *im, uint64_t plid) {
    if (log_plid_group(plid) < im->snapshots.groups_end) return true;
    return im->removed_count > 0 && bsearch(&plid, im->removed_plids, im->removed_count, sizeof plid, compare_plids);
}

/* Logs that the image does not show: deleted if metadata removed them, else kept and not served. */
static void clear_unknown(struct publish_part *part) {
    const struct image *im = part->publish->newer;
    uint32_t count;
    uint64_t *plids = partition_map_unknown(part->reactor->partitions, &count);
    for (uint32_t i = 0; i < count; i++) {
        if (plids[i] == part->publish->controller->partition.plid) continue;
        if (was_removed(im, plids[i]))
            delete_log(part, log_plid_group(plids[i]));
        else
            trace_error("metadata", "log %llu belongs to no topic that metadata knows; it is kept and not served",
                        (unsigned long long)plids[i]);
    }
    free(plids);
}

/* Groups may have other members to want, or another leader. */
static bool members_moved(const struct image *older, const struct image *newer) {
    return older->nodes != newer->nodes || older->quorum_voter_count != newer->quorum_voter_count ||
           memcmp(older->quorum_voters, newer->quorum_voters, sizeof older->quorum_voters) != 0;
}

/* All logs of the image are made, or on their way; or none is any more, because the broker stops. */
static void part_through(struct publish_part *part, bool stopped) {
    const struct image *im = part->publish->newer;
    if (part->publish->initial && !stopped) clear_unknown(part);
    if (part->publish->older && members_moved(part->publish->older, im)) partition_unsettle_all(part->reactor);
    leaders_image(part->reactor, im);
    group_set_image(part->reactor->groups);
    if (stopped) return;
    /* What is said to be assigned and is not there after a restart would count as lost. */
    bool *behind = &part->publish->controller->behind[part->reactor->index];
    if (part->unmade > 0 || part->publish->compare) *behind = part->unmade > 0;
    if (!*behind) log_shard_assigned(part->reactor->shard, im->metadata_end);
}

static void part_go_on(struct mail *m) {
    struct publish_part *part = CONTAINER_OF(m, struct publish_part, mail);
    struct list *parts = &part->publish->controller->parts[part->reactor->index];
    struct reactor *r = part->reactor;
    part->cost = 0;
    if (!part->begun) {
        part->begun = true;
        part->pending = 1;
        r->image = part->publish->newer;
    }
    bool stopped = partition_map_stopped(r->partitions); /* logs are closed: what is left the next start does */
    if (!stopped && !(part->publish->compare ? adopt_all(part) : follow_changes(part))) {
        mailbox_post(&r->mailbox, m);
        return;
    }
    part_through(part, stopped);
    list_remove(&part->link);
    part_step_done(part, stopped ? ERR_CLOSED : OK); /* it may be gone now */
    if (!list_empty(parts)) mailbox_post(&r->mailbox, &LIST_ENTRY(parts->next, struct publish_part, link)->mail);
}

static void part_arrive(struct mail *m) {
    struct publish_part *part = CONTAINER_OF(m, struct publish_part, mail);
    struct list *parts = &part->publish->controller->parts[part->reactor->index];
    bool first = list_empty(parts);
    part->mail.deliver = part_go_on;
    list_push_back(parts, &part->link);
    if (first) part_go_on(m);
}

/* To every reactor. `older` is freed when all have moved on; NULL: nothing is replaced. */
static struct publish *publish_new(struct controller *c, struct image *older, struct image *newer) {
    struct broker *b = c->broker;
    struct publish *p = calloc(1, sizeof *p + b->reactor_count * sizeof p->parts[0]);
    ASSERT(p != NULL);
    p->controller = c;
    p->older = older;
    p->newer = newer;
    p->parts_away = b->reactor_count;
    list_push_back(&c->publishes, &p->link);
    c->publish_count++;
    return p;
}

static void publish_send(struct publish *p) {
    struct broker *b = p->controller->broker;
    for (uint32_t i = 0; i < b->reactor_count; i++) {
        struct publish_part *part = &p->parts[i];
        part->publish = p;
        part->reactor = &b->reactors[i];
        part->mail.deliver = part_arrive;
        mailbox_post(&part->reactor->mailbox, &part->mail);
    }
}

/* What is not read from the image where it is needed. */
static void follow_broker_config(const struct controller *c, const struct image *older, const struct image *newer) {
    const char *before = image_config(older, c->broker)->log_level, *now = image_config(newer, c->broker)->log_level;
    enum trace_level level;
    if (strcmp(before, now) != 0 && trace_level_parse(now, &level)) trace_set_level(level);
}

void controller_publish(struct controller *c, struct image *image, struct controller_change *ch, bool initial) {
    struct image *older = atomic_load_explicit(&c->broker->image, memory_order_relaxed);
    struct publish *p = publish_new(c, older, image);
    follow_broker_config(c, older, image);
    p->change = ch;
    p->initial = p->compare = initial;
    /* Whoever is the controller next must know what other ones have given out, and after a crash between a partition's record and its log's
     * CREATE only metadata does. */
    if (image->groups_end > 0) log_store_plid_taken(c->broker->store, image->groups_end - 1);
    if (image->removed_count > 0)
        qsort(image->removed_plids, image->removed_count, sizeof *image->removed_plids, compare_plids);
    atomic_store_explicit(&c->broker->image, image, memory_order_release);
    publish_send(p);
    cluster_image(c->broker);
}

void controller_repair(struct timer *t) {
    struct controller *c = CONTAINER_OF(t, struct controller, repair);
    struct publish *p = publish_new(c, NULL, atomic_load_explicit(&c->broker->image, memory_order_relaxed));
    p->compare = true;
    publish_send(p);
}

void controller_publishes_free(struct controller *c) {
    struct list *node;
    while ((node = list_pop_front(&c->publishes))) {
        struct publish *p = LIST_ENTRY(node, struct publish, link);
        if (p->older) image_free_older(p->older, p->newer);
        free(p);
    }
}
