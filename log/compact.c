/* compact.c - when a log is due for compaction; see compact.h. The run: compactor.c. */
#include "log/compact.h"
#include "log/impl.h"

enum { RATIO_ONE_PPM = 1000000 };

/* What the segment's records have waited since: the first one's time, or the broker's where it has none. */
static int64_t first_time(const struct segment *s) { return s->first_timestamp >= 0 ? s->first_timestamp : s->created_ms; }

static bool dirty(const struct log_impl *l, const struct segment *s) { return s->end > l->cleaned_end; }

static enum compact_segment by_itself(const struct log_impl *l, const struct segment *s, int64_t now_ms, int64_t bound) {
    bool settled = s->written_bytes == s->size_bytes && !s->index && !s->reindex && s->base < l->synced.base;
    if (s == &l->segments[l->segment_count - 1]) return COMPACT_SEGMENT_ACTIVE;
    if (s->end > bound) return COMPACT_SEGMENT_NOT_COMMITTED;
    if (!settled) return COMPACT_SEGMENT_NOT_SYNCED;
    if (!dirty(l, s)) return COMPACT_SEGMENT_CLEAN;
    int64_t newest = s->max_timestamp >= 0 ? s->max_timestamp : s->created_ms;
    bool young = l->config.min_compaction_lag_ms > 0 && newest > now_ms - l->config.min_compaction_lag_ms;
    return young ? COMPACT_SEGMENT_YOUNG : COMPACT_SEGMENT_DIRTY;
}

static bool left_alone(enum compact_segment s) { return s != COMPACT_SEGMENT_CLEAN && s != COMPACT_SEGMENT_DIRTY; }

void compact_segments(const struct log *pub, int64_t now_ms, int64_t bound, uint32_t n, enum compact_segment *out) {
    const struct log_impl *l = impl_of_const(pub);
    bool behind = false;
    for (uint32_t i = 0; i < n && i < l->segment_count; i++) {
        out[i] = by_itself(l, &l->segments[i], now_ms, bound);
        if (behind && out[i] == COMPACT_SEGMENT_DIRTY) out[i] = COMPACT_SEGMENT_BEHIND;
        behind |= left_alone(out[i]);
    }
}

void compact_look(const struct log *pub, int64_t now_ms, int64_t bound, struct compact_look *out) {
    const struct log_impl *l = impl_of_const(pub);
    int64_t from = MAX(l->cleaned_end, pub->start), earliest = INT64_MAX;
    *out = (struct compact_look){.reason = COMPACT_OFF, .from = from, .to = from, .lag_due_ms = INT64_MAX};
    if (!l->config.cleanup_compact) return;
    for (uint32_t i = 0; i < l->segment_count; i++) {
        const struct segment *s = &l->segments[i];
        if (left_alone(by_itself(l, s, now_ms, bound))) break;
        if (dirty(l, s)) {
            out->dirty_bytes += s->size_bytes;
            out->to = s->end;
            earliest = MIN(earliest, first_time(s));
        } else {
            out->clean_bytes += s->size_bytes;
        }
    }
    uint64_t bytes = out->clean_bytes + out->dirty_bytes;
    if (bytes > 0) out->dirty_ppm = (uint32_t)((unsigned __int128)out->dirty_bytes * RATIO_ONE_PPM / bytes);
    if (out->dirty_bytes > 0 && __builtin_add_overflow(earliest, l->config.max_compaction_lag_ms, &out->lag_due_ms)) out->lag_due_ms = INT64_MAX;
    if (l->faulty_count > 0) out->reason = COMPACT_DAMAGED;
    else if (out->dirty_bytes == 0) out->reason = COMPACT_CLEAN;
    else if (out->dirty_ppm >= l->config.min_cleanable_ppm) out->reason = COMPACT_RATIO;
    else out->reason = out->lag_due_ms < now_ms ? COMPACT_LAG : COMPACT_LITTLE;
}

bool compact_wants_roll(const struct log *pub, int64_t now_ms) {
    const struct log_impl *l = impl_of_const(pub);
    const struct segment *s = &l->segments[l->segment_count - 1];
    int64_t most = MIN(l->config.segment_ms, l->config.max_compaction_lag_ms), waited;
    if (!l->config.cleanup_compact || s->size_bytes == 0) return false;
    /* By the broker's clock: records that are old already when they come would make each round roll. */
    return !__builtin_sub_overflow(now_ms, s->created_ms, &waited) && waited > most;
}

bool compact_may_start(const struct log *pub, int64_t now_ms) {
    const struct log_impl *l = impl_of_const(pub);
    for (uint32_t i = 0; i < l->segment_count; i++)
        if (l->segments[i].swap_id) return false;
    return now_ms >= l->compact_retry_ms;
}

const struct compact_run *compact_last_run(const struct log *pub) { return &impl_of_const(pub)->compact_run; }
