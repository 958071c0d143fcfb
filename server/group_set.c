/* group_set.c - the coordinators of one reactor: they come with the leadership of their partitions, go with it, and work in slices.
 *
 * A coordinator begins when the replica here leads its partition and is established: all that is committed is known then, and lies
 * below the high watermark. It ends in the call that says that leadership has ended; who waits for it is answered at once or in
 * the next turns, its memory goes in slices. What is still in the log's hands comes back to a coordinator that is gone. */
#include <stdlib.h>
#include "base/assert.h"
#include "base/trace.h"
#include "server/api_errors.h"
#include "server/group_coordinator_impl.h"
#include "server/image.h"

#define AGAIN_NS INT64_C(250000000)
#define AGAIN_MAX_NS INT64_C(10000000000)
enum {
    WORK_SLICE_NS = 400000,
    DROPS_PER_LOOK = 64,
    REPLAY_ARENA_BYTES = 256 << 20, /* an array's element has 3 bytes in a record at least, and up to 40 in memory */
};

/* ---- slices ------------------------------------------------------------------------------------------------ */

/* `g` has a pin of the caller, which goes. */
static void drop_one(struct group *g) {
    struct list *node;
    timer_cancel(&group_reactor(g)->timers, &g->timer);
    while ((node = list_pop_front(&g->queue))) group_op_finish(LIST_ENTRY(node, struct group_op, link), KERR_NOT_COORDINATOR);
    g->pins--;
    if (g->pins == 0) group_free(g);
}

/* Those that are pinned by others stay for coordinator_free(). True: there is more to do. */
static bool drop_some(struct coordinator *c, int64_t deadline_ns) {
    for (int i = 0; c->drop_at; i++) {
        if (i % DROPS_PER_LOOK == DROPS_PER_LOOK - 1 && io_mono_ns(c->set->reactor->io) >= deadline_ns) return true;
        struct group *g = c->drop_at;
        c->drop_at = g->hh.next;
        if (c->drop_at) c->drop_at->pins++;
        drop_one(g);
    }
    c->dropping = false;
    return false;
}

static void work_post(struct group_set *s);

/* True: there is more to do. */
static bool work_slice(struct coordinator *c, int64_t deadline_ns) {
    switch (c->state) {
    case COORDINATOR_LOADING: return group_load_step(c, deadline_ns);
    case COORDINATOR_GONE: return drop_some(c, deadline_ns);
    case COORDINATOR_ACTIVE:
    case COORDINATOR_FAILED: break;
    }
    return group_expiry_step(c, deadline_ns);
}

/* One coordinator after the other, a slice each turn. */
static void work(struct mail *m) {
    struct group_set *s = CONTAINER_OF(m, struct group_set, work_mail);
    s->work_posted = false;
    struct list *node = s->stopped ? NULL : list_pop_front(&s->work);
    if (!node) return;
    struct coordinator *c = LIST_ENTRY(node, struct coordinator, work);
    bool more = work_slice(c, io_mono_ns(s->reactor->io) + WORK_SLICE_NS);
    if (more && list_empty(&c->work)) list_push_back(&s->work, &c->work);
    if (!more) coordinator_free_if_gone(c);
    if (!list_empty(&s->work)) work_post(s);
}

static void work_post(struct group_set *s) {
    if (s->work_posted) return;
    s->work_posted = true;
    s->work_mail.deliver = work;
    mailbox_post(&s->reactor->mailbox, &s->work_mail);
}

void coordinator_work(struct coordinator *c) {
    if (c->set->stopped) return;
    if (list_empty(&c->work)) list_push_back(&c->set->work, &c->work);
    work_post(c->set);
}

/* ---- coordinators come and go --------------------------------------------------------------------------------- */

static void arm_expiry(struct group_set *s) {
    int64_t interval_ms = s->reactor->broker->config.offsets_retention_check_interval_ms;
    timer_set(&s->reactor->timers, &s->expiry_timer, s->reactor->now_ns + MIN(interval_ms, INT64_MAX / 4000000) * 1000000);
}

static void expire_all(struct group_set *s) {
    for (int32_t i = 0; i < s->count; i++)
        if (s->coordinators[i]) group_expiry_begin(s->coordinators[i]);
}

static void on_expiry(struct timer *t) {
    struct group_set *s = CONTAINER_OF(t, struct group_set, expiry_timer);
    expire_all(s);
    arm_expiry(s);
}

static void on_again(struct timer *t);

struct group_set *group_set_new(struct reactor *r) {
    struct group_set *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->reactor = r;
    s->wall_base_ms = r->now_ms;
    s->mono_base_ns = r->now_ns;
    list_init(&s->all);
    list_init(&s->work);
    arena_init(&s->arena, REPLAY_ARENA_BYTES);
    timer_init(&s->expiry_timer, on_expiry);
    timer_init(&s->again_timer, on_again);
    return s;
}

static void drop_begin(struct coordinator *c) {
    c->dropping = true;
    c->drop_at = c->groups;
    if (c->drop_at) c->drop_at->pins++;
}

static void coordinator_free(struct coordinator *c) {
    coordinator_abandon_commits(c); /* the process ends under them, or there are none */
    group_expiry_end(c);
    if (c->drop_at) c->drop_at->pins--;
    drop_begin(c);
    drop_some(c, INT64_MAX);
    group_load_end(c);
    list_remove(&c->work);
    list_remove(&c->link);
    free(c);
}

void coordinator_free_if_gone(struct coordinator *c) {
    bool away = !list_empty(&c->commits) || c->load.reading || c->jobs > 0 || c->dropping;
    if (c->state == COORDINATOR_GONE && !away) coordinator_free(c);
}

static void coordinator_leave(struct coordinator *c) {
    c->set->coordinators[c->partition] = NULL;
    c->state = COORDINATOR_GONE;
    list_remove(&c->work);
    group_expiry_end(c);
    while (!list_empty(&c->parked)) group_op_finish(LIST_ENTRY(c->parked.next, struct group_op, link), KERR_NOT_COORDINATOR);
    drop_begin(c);
    if (!c->set->stopped) {
        coordinator_work(c);
        return;
    }
    drop_some(c, INT64_MAX);
    coordinator_free_if_gone(c);
}

static void coordinator_begin(struct group_set *s, int32_t partition, uint64_t plid) {
    struct coordinator *c = calloc(1, sizeof *c);
    ASSERT(c != NULL);
    c->set = s;
    c->partition = partition;
    c->plid = plid;
    list_push_back(&s->all, &c->link);
    list_init(&c->work);
    list_init(&c->commits);
    list_init(&c->parked);
    s->coordinators[partition] = c;
    group_load_begin(c);
}

/* Whether this reactor coordinates the partition now. */
static bool leads(const struct group_set *s, const struct image_topic *t, int32_t partition) {
    if (!t || partition >= t->partition_count || t->partitions[partition].owner != s->reactor->index) return false;
    return partition_leads(s->reactor, t->partitions[partition].plid);
}

/* The coordinator of one partition is there, or not, as leadership and image say. */
static void adjust(struct group_set *s, const struct image_topic *t, int32_t partition) {
    struct coordinator *c = s->coordinators[partition];
    bool mine = leads(s, t, partition);
    if (c && (!mine || c->plid != t->partitions[partition].plid)) {
        coordinator_leave(c);
        c = NULL;
    }
    if (mine && !c) coordinator_begin(s, partition, t->partitions[partition].plid);
}

static const struct image_topic *group_topic(const struct group_set *s) {
    const struct image *im = reactor_image(s->reactor);
    return im ? image_topic_by_name(im, STR_LIT(GROUP_TOPIC)) : NULL;
}

void coordinator_load_again(struct coordinator *c) {
    struct group_set *s = c->set;
    c->unreadable = true;
    if (s->stopped || timer_armed(&s->again_timer)) return;
    s->again_ns = MIN(MAX(2 * s->again_ns, AGAIN_NS), AGAIN_MAX_NS);
    timer_set(&s->reactor->timers, &s->again_timer, s->reactor->now_ns + s->again_ns);
}

/* Those whose logs can be read now begin once more. */
static void on_again(struct timer *t) {
    struct group_set *s = CONTAINER_OF(t, struct group_set, again_timer);
    for (int32_t i = 0; i < s->count; i++) {
        struct coordinator *c = s->coordinators[i];
        int64_t end;
        if (!c || c->state != COORDINATOR_FAILED || !c->unreadable) continue;
        const struct log *log = partition_log(s->reactor, c->plid, &end);
        if (log && log->faulty) {
            coordinator_load_again(c);
            continue;
        }
        coordinator_leave(c);
        adjust(s, group_topic(s), i);
    }
}

static void grow(struct group_set *s, int32_t count) {
    if (count <= s->count) return;
    s->coordinators = realloc(s->coordinators, (size_t)count * sizeof *s->coordinators);
    ASSERT(s->coordinators != NULL);
    memset(s->coordinators + s->count, 0, (size_t)(count - s->count) * sizeof *s->coordinators);
    s->count = count;
}

/* Committed offsets of topics that are gone go; consumer groups look at theirs again. */
static void topics_changed(struct group_set *s, const struct image *im) {
    bool removed = false, changed = s->topics_version == 0;
    for (uint32_t i = 0; i < im->change_count; i++) {
        removed = removed || im->changes[i].kind == IMAGE_PARTITION_REMOVED;
        changed = changed || im->changes[i].kind != IMAGE_TOPIC_CONFIGURED;
    }
    if (removed) expire_all(s);
    if (!changed) return;
    s->topics_version++;
    for (int32_t i = 0; i < s->count; i++)
        for (struct group *g = s->coordinators[i] ? s->coordinators[i]->groups : NULL; g; g = g->hh.next)
            if (g->consumer) group_arm(g);
}

void group_set_image(struct group_set *s) {
    if (s->stopped) return;
    const struct image_topic *t = group_topic(s);
    if (t) grow(s, t->partition_count);
    for (int32_t i = 0; i < s->count; i++) adjust(s, t, i);
    if (s->count > 0 && !timer_armed(&s->expiry_timer)) arm_expiry(s);
    topics_changed(s, reactor_image(s->reactor));
}

void group_set_leadership(struct group_set *s, uint64_t group) {
    if (s->stopped) return;
    const struct image_topic *t = group_topic(s);
    for (int32_t i = 0; t && i < t->partition_count; i++)
        if (t->partitions[i].plid == group && i < s->count) adjust(s, t, i);
}

struct coordinator *group_set_coordinator(struct group_set *s, int32_t partition) {
    if (s->stopped || partition >= s->count || !s->coordinators[partition]) return NULL;
    if (partition_still_leads(s->reactor, s->coordinators[partition]->plid)) return s->coordinators[partition];
    adjust(s, group_topic(s), partition); /* if it has not been told so */
    return NULL;
}

void group_set_stop(struct group_set *s) {
    s->stopped = true;
    timer_cancel(&s->reactor->timers, &s->expiry_timer);
    timer_cancel(&s->reactor->timers, &s->again_timer);
    for (int32_t i = 0; i < s->count; i++)
        if (s->coordinators[i]) coordinator_leave(s->coordinators[i]);
}

void group_set_free(struct group_set *s) {
    if (!s) return;
    LIST_FOREACH_SAFE(it, &s->all) coordinator_free(LIST_ENTRY(it, struct coordinator, link));
    free(s->coordinators);
    arena_free(&s->arena);
    free(s);
}
