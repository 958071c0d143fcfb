/* housekeeping.h - what each reactor does with its partitions from time to time: retention, and the scrubber of the log.
 *
 * Every log.retention.check.interval.ms (the first time after half a minute, or after the interval if that is less) all partitions
 * of the reactor are looked at, a few in each turn. */
#ifndef SERVER_HOUSEKEEPING_H
#define SERVER_HOUSEKEEPING_H
#include <stdbool.h>
#include <stdint.h>
#include "base/timers.h"

struct log;
struct reactor;
struct housekeeping {
    struct timer timer;
    int64_t interval_ns;
    uint64_t next_plid;                  /* where the round goes on; 0: a new one */
    /* Ages count only while the wall clock goes as the monotonic one does, and is where those of other brokers are. */
    int64_t wall_ms, mono_ns;            /* when they were first compared; mono_ns 0: not yet */
    bool clock_jumped, clock_ahead, clock_unknown;
    int64_t unknown_ns;                  /* seen so by rounds since; 0: it is known */
    bool unknown_said;
};
/* Before the first turn, on the reactor's thread or before its threads start. */
void housekeeping_start(struct reactor *r);
/* Whether nothing is to count as old now: the wall clock was set ahead since the start, or is ahead of most of the brokers that are up
 * (this one included), or a majority of all is not up or has not said yet what its clocks show (with pings, every 2 s). */
bool housekeeping_holds(struct reactor *r);
/* The first of these: whether `wall_ms` is ahead of where the clocks of the beginning say it should be. */
bool housekeeping_clock_jumped(struct housekeeping *h, int64_t wall_ms, int64_t mono_ns);
/* The second: of `count` > 0 clocks, one's own and how far the others are ahead of it, in any order. Sorts them. */
bool housekeeping_clock_is_ahead(int64_t *ahead_ms, uint32_t count);
/* For rounds over the reactor's logs: the one of `plid`, or, when that is gone, the next; NULL: the round is over. */
struct log *housekeeping_log(const struct reactor *r, uint64_t plid);
#endif
