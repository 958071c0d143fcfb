/* housekeeping.c - see housekeeping.h. */
#include "server/housekeeping.h"
#include <stdlib.h>
#include "base/trace.h"
#include "log/log.h"
#include "server/broker.h"
#include "server/config.h"
#include "server/image.h"
#include "server/partition.h"
#include "server/peer.h"

enum { PARTITIONS_PER_TURN = 64, CLOCKS_MAX = 65 };
#define MS_NS INT64_C(1000000)
#define FIRST_NS (30000 * MS_NS)
#define SLICE_NS MS_NS
#define UNKNOWN_NS (60000 * MS_NS)
#define INTERVAL_MAX_MS (INT64_C(365) * 24 * 3600 * 1000)
#define JUMP_MS (INT64_C(3600) * 1000)   /* more than time services correct at once */

/* A clock that was set years ahead would make every record old. Only forward: when it goes back, nothing is lost. */
bool housekeeping_clock_jumped(struct housekeeping *h, int64_t wall_ms, int64_t mono_ns) {
    if (h->mono_ns == 0) {
        h->wall_ms = wall_ms;
        h->mono_ns = mono_ns;
    }
    int64_t expected_ms = h->wall_ms + (mono_ns - h->mono_ns) / MS_NS;
    bool jumped = wall_ms - expected_ms > JUMP_MS;
    if (jumped && !h->clock_jumped)
        trace_warn("broker", "the clock is %lld s ahead of where it was at the start: no records are deleted for their age until it is back; "
                   "if it is right now, start the broker again", (long long)((wall_ms - expected_ms) / 1000));
    h->clock_jumped = jumped;
    return jumped;
}

static int by_size(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* A broker that starts with a wrong clock cannot notice by itself; as leader it would delete everywhere what has an age. Where one half says so
 * and the other not, nothing is deleted. */
bool housekeeping_clock_is_ahead(int64_t *ahead_ms, uint32_t count) {
    qsort(ahead_ms, count, sizeof *ahead_ms, by_size);
    return ahead_ms[(count - 1) / 2] < -JUMP_MS;
}

/* False: less than a majority of the brokers have said what their clocks show. */
static bool compare_clocks(const struct reactor *r, bool *ahead) {
    const struct image *im = reactor_image(r);
    int64_t ahead_ms[CLOCKS_MAX] = {0};
    uint32_t count = 1;
    for (uint32_t i = 0; im && i < im->node_count && count < CLOCKS_MAX; i++)
        if (im->nodes[i].node != r->broker->config.node_id && peer_wall_ahead_ms(r, im->nodes[i].node, &ahead_ms[count])) count++;
    *ahead = housekeeping_clock_is_ahead(ahead_ms, count);
    return !im || 2 * count > im->node_count;
}

bool housekeeping_holds(struct reactor *r) {
    struct housekeeping *h = &r->housekeeping;
    bool ahead, jumped = housekeeping_clock_jumped(h, r->now_ms, r->now_ns), known = compare_clocks(r, &ahead);
    if (ahead && !h->clock_ahead && r->index == 0)
        trace_warn("broker", "the clock is more than %d minutes ahead of most other brokers': no records are deleted for their age until it is not",
                   (int)(JUMP_MS / 60000));
    h->clock_ahead = ahead;
    h->clock_unknown = !known;
    return jumped || ahead || !known;
}

struct log *housekeeping_log(const struct reactor *r, uint64_t plid) {
    if (plid == 0) return log_shard_first(r->shard);
    struct log *l = log_shard_by_plid(r->shard, plid);
    if (l) return l;
    for (l = log_shard_first(r->shard); l && l->plid < plid;) l = log_shard_next(r->shard, l);
    return l;
}

/* An operator wonders why the disk fills up. */
static void say_unknown(struct housekeeping *h, const struct reactor *r) {
    if (!h->clock_unknown) {
        h->unknown_ns = 0;
        h->unknown_said = false;
    } else if (h->unknown_ns == 0) {
        h->unknown_ns = r->now_ns;
    } else if (!h->unknown_said && r->now_ns - h->unknown_ns > UNKNOWN_NS) {
        h->unknown_said = true;
        if (r->index == 0)
            trace_warn("broker", "fewer than a majority of the cluster's brokers tell what their clocks show: until they do no records are "
                       "deleted for their age, and nothing is compacted");
    }
}

static void look(struct timer *t) {
    struct housekeeping *h = CONTAINER_OF(t, struct housekeeping, timer);
    struct reactor *r = CONTAINER_OF(h, struct reactor, housekeeping);
    bool hold = housekeeping_holds(r);
    say_unknown(h, r);
    struct log *l = housekeeping_log(r, h->next_plid);
    for (int i = 0; i < PARTITIONS_PER_TURN && l; i++) {
        struct log *next = log_shard_next(r->shard, l);
        (void)partition_retain(r, l->plid, hold); /* false: the metadata log, which is nobody's partition */
        l = next;
    }
    h->next_plid = l ? l->plid : 0;
    timer_set(&r->timers, &h->timer, r->now_ns + (l ? SLICE_NS : h->interval_ns));
}

void housekeeping_start(struct reactor *r) {
    struct housekeeping *h = &r->housekeeping;
    int64_t interval_ms = strtoll(config_value(&r->broker->config, "log.retention.check.interval.ms")->text, NULL, 10);
    *h = (struct housekeeping){.interval_ns = MIN(interval_ms, INTERVAL_MAX_MS) * MS_NS};
    timer_init(&h->timer, look);
    (void)housekeeping_clock_jumped(h, r->now_ms, r->now_ns);
    timer_set(&r->timers, &h->timer, r->now_ns + MIN(FIRST_NS, h->interval_ns));
    const struct config *c = &r->broker->config;
    uint64_t rate = (uint64_t)c->scrub_bytes_per_second, reactors = r->broker->reactor_count;
    log_shard_scrub(r->shard, rate > 0 ? MAX(rate / reactors, 1u) : 0, c->scrub_interval_ms);
}
