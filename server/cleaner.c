/* cleaner.c - see cleaner.h. */
#include "server/cleaner.h"
#include "log/compact.h"
#include "log/log.h"
#include "server/broker.h"
#include "server/partition.h"

enum { PARTITIONS_PER_TURN = 64 };
#define MS_NS INT64_C(1000000)
#define BUSY_NS (20 * MS_NS)             /* between looks whether a run has ended */
#define BACKOFF_MAX_MS (INT64_C(24) * 3600 * 1000)

static void consider(struct cleaner *c, struct reactor *r, const struct log *l) {
    struct compact_look look;
    if (!partition_compact_look(r, l->plid, &look)) return; /* the metadata log, which is nobody's partition */
    if (look.reason != COMPACT_RATIO && look.reason != COMPACT_LAG) return;
    if (!compact_may_start(l, r->now_ms) || (c->best_plid != 0 && look.dirty_ppm <= c->best_ppm)) return;
    c->best_plid = l->plid;
    c->best_ppm = look.dirty_ppm;
}

static void look(struct timer *t) {
    struct cleaner *c = CONTAINER_OF(t, struct cleaner, timer);
    struct reactor *r = CONTAINER_OF(c, struct reactor, cleaner);
    /* A clock that was set ahead would end the time of tombstones. */
    if (compact_running(r->shard) || housekeeping_holds(r)) {
        timer_set(&r->timers, &c->timer, r->now_ns + BUSY_NS);
        return;
    }
    struct log *l = housekeeping_log(r, c->next_plid);
    for (int i = 0; i < PARTITIONS_PER_TURN && l; i++) {
        struct log *next = log_shard_next(r->shard, l);
        consider(c, r, l);
        l = next;
    }
    c->next_plid = l ? l->plid : 0;
    int64_t wait_ns = l ? MS_NS : c->backoff_ns;
    if (!l && c->best_plid != 0) {
        if (partition_compact(r, c->best_plid)) wait_ns = BUSY_NS;
        c->best_plid = 0;
    }
    timer_set(&r->timers, &c->timer, r->now_ns + wait_ns);
}

void cleaner_start(struct reactor *r) {
    struct cleaner *c = &r->cleaner;
    const struct config *config = &r->broker->config;
    if (!config->log_cleaner_enable) return;
    *c = (struct cleaner){.backoff_ns = MAX(MIN(config->log_cleaner_backoff_ms, BACKOFF_MAX_MS), INT64_C(1)) * MS_NS};
    timer_init(&c->timer, look);
    timer_set(&r->timers, &c->timer, r->now_ns + c->backoff_ns);
}
