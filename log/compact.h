/* compact.h - compaction (cleanup.policy=compact): when a log is due, and doing it.
 *
 * Kafka's rules. The log is clean up to where compaction has been, dirty behind it; the segment that is being written, what is not
 * committed, and from the first dirty segment on that is younger than min.compaction.lag.ms, all is left alone. A log is due when
 * dirty / (clean + dirty) bytes is at least min.cleanable.dirty.ratio, or its first dirty record has waited for max.compaction.lag.ms
 * (KIP-354). A run reads the dirty part and keeps the newest offset of each key (offset_map.h); if not all fit, only up to
 * there, and the next run goes on. Then segments are written anew, oldest first, small neighbours as one (batch_filter.h),
 * and take the place of the old ones (swap.h).
 *
 * One log at a time in each shard. Batches are looked into on helper threads; reading and writing keep to the rate that is set.
 * Every byte is checked on its way: CRC, offsets, epochs, and the digest of the segment where there is one. A log in which anything is wrong
 * is left as it is, and says so. */
#ifndef LOG_COMPACT_H
#define LOG_COMPACT_H
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"

struct log;
struct log_shard;

enum compact_reason {
    COMPACT_OFF,                     /* the policy does not say compact */
    COMPACT_DAMAGED,                 /* the log has damage: it is left as it is */
    COMPACT_CLEAN,                   /* nothing is dirty but what is left alone */
    COMPACT_LITTLE,                  /* the dirty share is below min.cleanable.dirty.ratio, and has not waited long enough */
    COMPACT_RATIO, COMPACT_LAG       /* due */
};
struct compact_look {
    enum compact_reason reason;
    uint64_t clean_bytes, dirty_bytes;
    uint32_t dirty_ppm;              /* of both, in millionths */
    int64_t from, to;                /* the dirty part: offsets */
    int64_t lag_due_ms;              /* when max.compaction.lag.ms makes it due; INT64_MAX: never */
};
/* The last run over a log in this life; at_ms 0: none yet. */
struct compact_run {
    int64_t at_ms, elapsed_ms;       /* its end */
    enum err err;
    char why[120];                   /* what went wrong */
    uint64_t bytes_before, bytes_after, records_before, records_after;
    uint64_t map_bytes;
    bool map_full;
};

/* Whether the log is due. `bound`: all below it is committed, and no transaction is open. Pure. */
void compact_look(const struct log *l, int64_t now_ms, int64_t bound, struct compact_look *out);
/* What keeps each of the first `n` segments from being compacted, or nothing. */
enum compact_segment {
    COMPACT_SEGMENT_CLEAN,           /* compaction has been there */
    COMPACT_SEGMENT_DIRTY,           /* goes into the next run */
    COMPACT_SEGMENT_ACTIVE,          /* it is being written */
    COMPACT_SEGMENT_NOT_COMMITTED,   /* not all of it is below the bound */
    COMPACT_SEGMENT_NOT_SYNCED,      /* its files are complete with the next checkpoint */
    COMPACT_SEGMENT_YOUNG,           /* min.compaction.lag.ms */
    COMPACT_SEGMENT_BEHIND           /* one before it has to wait */
};
void compact_segments(const struct log *l, int64_t now_ms, int64_t bound, uint32_t n, enum compact_segment *out);
/* The segment that is being written has waited for segment.ms or max.compaction.lag.ms: log_roll() makes it complete, and cleanable. */
bool compact_wants_roll(const struct log *l, int64_t now_ms);
/* False: the last run failed a moment ago, or its files do not have their names yet. */
bool compact_may_start(const struct log *l, int64_t now_ms);
const struct compact_run *compact_last_run(const struct log *l);

/* Starts a run. False: one is under way in this shard, the log was not due after all, or its last run failed a moment ago.
 * `log_store_config.compact_*` bound its memory and its rate. */
bool compact_start(struct log_shard *sh, struct log *l, int64_t now_ms, int64_t bound);
bool compact_running(const struct log_shard *sh);
bool compact_running_on(const struct log *l);
#endif
