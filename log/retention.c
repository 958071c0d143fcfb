/* retention.c - see retention.h. */
#include "log/retention.h"
#include "log/impl.h"

/* The newest time that the segment tells of. */
static int64_t segment_time(const struct segment *s) { return s->max_timestamp >= 0 ? s->max_timestamp : s->created_ms; }

static uint64_t bytes_of(const struct log_impl *l) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < l->segment_count; i++) bytes += l->segments[i].size_bytes;
    return bytes;
}

static int64_t due(const struct log_impl *l, const struct segment *s) {
    int64_t at;
    if (!l->config.cleanup_delete || l->config.retention_ms < 0) return INT64_MAX;
    return __builtin_add_overflow(segment_time(s), l->config.retention_ms, &at) ? INT64_MAX : at;
}

/* By itself, whatever becomes of the segments before it. `bytes`: of the log from this segment on. */
static enum retention_reason by_itself(const struct log_impl *l, uint32_t i, uint64_t bytes, int64_t now_ms, int64_t bound, bool hold_time) {
    const struct segment *s = &l->segments[i];
    bool last = i + 1 == l->segment_count;
    if (last && s->size_bytes == 0) return RETENTION_ACTIVE;
    int64_t due_ms = due(l, s);
    bool expired = due_ms < now_ms && !hold_time;
    bool sized = l->config.cleanup_delete && l->config.retention_bytes >= 0;
    bool large = sized && !last && bytes >= (uint64_t)l->config.retention_bytes + s->size_bytes;
    if ((expired || large) && s->end > bound) return RETENTION_NOT_COMMITTED;
    if (expired) return RETENTION_EXPIRED;
    if (large) return RETENTION_TOO_LARGE;
    if (last) return RETENTION_ACTIVE;
    if (due_ms != INT64_MAX) return RETENTION_YOUNG;
    return sized ? RETENTION_SMALL : RETENTION_UNLIMITED;
}

static bool goes(enum retention_reason r) { return r == RETENTION_EXPIRED || r == RETENTION_TOO_LARGE; }

struct walk { const struct log_impl *l; int64_t now_ms, bound; bool hold_time; uint64_t bytes; bool before_stays; };

/* Of the segments one by one, from the oldest on. */
static enum retention_reason next(struct walk *w, uint32_t i) {
    enum retention_reason r = by_itself(w->l, i, w->bytes, w->now_ms, w->bound, w->hold_time);
    bool behind = w->before_stays && goes(r);
    w->before_stays |= !goes(r);
    w->bytes -= w->l->segments[i].size_bytes;
    return behind ? RETENTION_BEHIND : r;
}

enum retention_reason retention_of(const struct log *pub, uint32_t index, int64_t now_ms, int64_t bound, bool hold_time, int64_t *due_ms) {
    const struct log_impl *l = impl_of_const(pub);
    struct walk w = {l, now_ms, bound, hold_time, bytes_of(l), false};
    for (uint32_t i = 0; i < index; i++) (void)next(&w, i);
    *due_ms = due(l, &l->segments[index]);
    return next(&w, index);
}

void retention_of_first(const struct log *pub, int64_t now_ms, int64_t bound, bool hold_time, uint32_t n, struct retention_fate *out) {
    const struct log_impl *l = impl_of_const(pub);
    struct walk w = {l, now_ms, bound, hold_time, bytes_of(l), false};
    for (uint32_t i = 0; i < n && i < l->segment_count; i++) out[i] = (struct retention_fate){next(&w, i), due(l, &l->segments[i])};
}

enum err log_retain_start(struct log *pub, int64_t now_ms, int64_t bound, bool hold_time, uint32_t *removed, int64_t *start) {
    struct log_impl *l = impl_of(pub);
    uint64_t bytes = bytes_of(l);
    uint32_t n = 0;
    *removed = 0;
    *start = pub->start;
    while (n < l->segment_count && goes(by_itself(l, n, bytes, now_ms, bound, hold_time))) bytes -= l->segments[n++].size_bytes;
    if (n == 0) return OK;
    int64_t to = n < l->segment_count ? l->segments[n].base : pub->end; /* above the start, which lies in the first segment */
    if (to > pub->durable_end) return OK;
    if (n == l->segment_count) {
        enum err err = log_roll(pub, now_ms);
        if (err != OK) return err;
    }
    *start = to;
    *removed = n;
    return OK;
}

enum err log_retain(struct log *pub, int64_t now_ms, int64_t bound, bool hold_time, uint32_t *removed) {
    int64_t start;
    enum err err = log_retain_start(pub, now_ms, bound, hold_time, removed, &start);
    if (err == OK && *removed > 0) err = log_set_start(pub, start, NULL, NULL);
    if (err != OK) *removed = 0;
    return err;
}
