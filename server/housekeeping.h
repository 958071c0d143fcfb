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
    /* Ages count only while the wall clock goes as the monotonic one does. */
    int64_t wall_ms, mono_ns;            /* when they were first compared; mono_ns 0: not yet */
    bool clock_jumped;
};
/* Before the first turn, on the reactor's thread or before its threads start. */
void housekeeping_start(struct reactor *r);
/* How far `wall_ms` is ahead of where the clocks of the beginning say it should be. */
bool housekeeping_clock_jumped(struct housekeeping *h, int64_t wall_ms, int64_t mono_ns);
/* For rounds over the reactor's logs: the one of `plid`, or, when that is gone, the next; NULL: the round is over. */
struct log *housekeeping_log(const struct reactor *r, uint64_t plid);
#endif
