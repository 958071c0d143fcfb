/* scrub.h - reads all segment files, slowly, and finds what has rotted; private to log/.
 *
 * A round goes once over all segments of the shard, from a log chosen at random, so that restarts do not favour the
 * first ones. It reads in slices, past the page cache, so many bytes a second on average, and waits while the journal is
 * short of space. What it finds becomes a faulty range (log/faulty.h). Before the first round segments that have faulty ranges are
 * read again: what somebody has repaired is served from then on. */
#ifndef LOG_SCRUB_H
#define LOG_SCRUB_H
#include "base/timers.h"
#include "log/check.h"

struct scrub {
    struct timer timer;
    struct check check;
    bool checking, paused;          /* a segment is at hand; between two slices of it */
    bool recheck;                   /* the segments with faulty ranges, before the first round */
    bool in_round, wrapped;
    uint64_t bytes_per_second;      /* 0: off */
    int64_t interval_ns;            /* from the beginning of one round to that of the next */
    int64_t round_ns;
    uint64_t first_plid;            /* where the round began */
    uint64_t plid;                  /* what comes next: the first log at or behind, */
    int64_t base;                   /* and the first segment of it */
    uint64_t slice_from;            /* check.bytes before this slice */
    struct log_scrub_stats stats, round;
};
void scrub_init(struct scrub *x);
/* No more slices; one may be in flight until `checking` is false. */
void scrub_stop(struct log_shard *sh);
bool scrub_busy(const struct log_shard *sh);
#endif
