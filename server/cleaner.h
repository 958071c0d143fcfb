/* cleaner.h - when each reactor compacts which of its logs (log/compact.h says how).
 *
 * Rounds over all partitions of the reactor, a few in each turn: segments that have waited long enough are completed, and the dirtiest log
 * that is due is compacted, one at a time. The next round begins when that is done, or, when none was due, after log.cleaner.backoff.ms. */
#ifndef SERVER_CLEANER_H
#define SERVER_CLEANER_H
#include <stdint.h>
#include "base/timers.h"

struct reactor;
struct cleaner {
    struct timer timer;
    int64_t backoff_ns;
    uint64_t next_plid;                  /* where the round goes on; 0: a new one */
    uint64_t best_plid;                  /* the dirtiest so far; 0: none */
    uint32_t best_ppm;
};
/* Before the first turn. Nothing when log.cleaner.enable is false. */
void cleaner_start(struct reactor *r);
#endif
