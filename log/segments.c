/* segments.c - the list of a log's segments, and the part of their indexes that is in no file yet. */
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "log/impl.h"

struct segment *segment_last(struct log_impl *l) {
    ASSERT(l->segment_count > 0);
    return &l->segments[l->segment_count - 1];
}

struct segment *segment_of(const struct log_impl *l, int64_t offset) {
    uint32_t low = 0, high = l->segment_count;
    while (high - low > 1) {
        uint32_t mid = low + (high - low) / 2;
        if (l->segments[mid].base <= offset) low = mid;
        else high = mid;
    }
    return &l->segments[low];
}

struct segment *segment_by_base(struct log_impl *l, int64_t base) {
    struct segment *s = segment_of(l, base);
    return s->base == base ? s : NULL;
}

int64_t segment_next_base(const struct log_impl *l, const struct segment *s) {
    return s == &l->segments[l->segment_count - 1] ? INT64_MAX : s[1].base;
}

enum err segment_add(struct log_impl *l, int64_t base, int64_t created_ms) {
    ASSERT(l->segment_count == 0 || segment_last(l)->base < base);
    if (l->segment_count == l->segment_cap) {
        uint32_t cap = l->segment_cap ? l->segment_cap * 2 : 1;
        struct segment *v = realloc(l->segments, cap * sizeof *v);
        if (!v) return ERR_NOMEM;
        l->segments = v;
        l->segment_cap = cap;
    }
    l->segments[l->segment_count++] = (struct segment){
        .base = base, .end = base, .max_timestamp = -1, .max_timestamp_offset = -1, .first_timestamp = -1, .created_ms = created_ms};
    return OK;
}

void segment_index_free(struct segment *s) {
    if (s->index) index_free(s->index);
    free(s->index);
    s->index = NULL;
}

static void segment_free(struct segment *s) {
    segment_index_free(s);
    free(s->snapshot);
    s->snapshot = NULL;
}

void segment_remove_first(struct log_impl *l) {
    ASSERT(l->segment_count > 1);
    segment_free(&l->segments[0]);
    l->segment_count--;
    memmove(l->segments, l->segments + 1, l->segment_count * sizeof *l->segments);
}

void segment_remove_last(struct log_impl *l) {
    ASSERT(l->segment_count > 0);
    segment_free(segment_last(l));
    l->segment_count--;
}

static enum err index_make(struct log_impl *l, struct segment *s) {
    struct segment_index *x = malloc(sizeof *x);
    if (!x) return ERR_NOMEM;
    index_init(x, s->base, l->config.index_interval_bytes, l->config.segment_index_bytes);
    uint8_t offset[INDEX_ENTRY_BYTES], time[TIME_ENTRY_BYTES];
    store_be32(offset, s->last_index.relative);
    store_be32(offset + 4, s->last_index.position);
    store_be64(time, (uint64_t)s->last_time.timestamp);
    store_be32(time + 8, s->last_time.relative);
    uint32_t rescan;
    enum err err = index_load(x, offset, s->index_bytes ? sizeof offset : 0, time, s->time_index_bytes ? sizeof time : 0, UINT32_MAX,
                              &rescan);
    if (err != OK) {
        free(x);
        return err;
    }
    /* The entries before the last ones are in the files only. */
    uint32_t offsets_before = s->index_bytes ? s->index_bytes / INDEX_ENTRY_BYTES - 1 : 0;
    uint32_t times_before = s->time_index_bytes ? s->time_index_bytes / TIME_ENTRY_BYTES - 1 : 0;
    x->offsets_max -= MIN(x->offsets_max, offsets_before);
    x->times_max -= MIN(x->times_max, times_before);
    x->bytes_since_entry = s->size_bytes - (s->index_bytes ? s->last_index.position : 0);
    x->max_timestamp = s->max_timestamp;
    x->max_timestamp_relative = s->max_timestamp >= 0 ? (uint32_t)(s->max_timestamp_offset - s->base) : 0;
    s->index = x;
    return OK;
}

enum err segment_index_need(struct log_impl *l, struct segment *s) { return s->index ? OK : index_make(l, s); }

/* Forgets the first `drop` of `count` elements. */
static void forget(void *v, uint32_t count, uint32_t drop, size_t size) {
    memmove(v, (char *)v + drop * size, (count - drop) * size);
}

void segment_index_written(struct segment *s, uint32_t offsets, uint32_t times) {
    struct segment_index *x = s->index;
    ASSERT(offsets <= x->offset_count && times <= x->time_count);
    s->index_bytes += (offsets - x->offset_written) * INDEX_ENTRY_BYTES;
    s->time_index_bytes += (times - x->time_written) * TIME_ENTRY_BYTES;
    x->offset_written = offsets;
    x->time_written = times;
    if (offsets > 0) {
        s->last_index = x->offsets[offsets - 1];
        forget(x->offsets, x->offset_count, offsets - 1, sizeof *x->offsets);
        x->offset_count -= offsets - 1;
        x->offsets_max -= MIN(x->offsets_max, offsets - 1);
        x->offset_written = 1;
    }
    if (times > 0) {
        s->last_time = x->times[times - 1];
        forget(x->times, x->time_count, times - 1, sizeof *x->times);
        x->time_count -= times - 1;
        x->times_max -= MIN(x->times_max, times - 1);
        x->time_written = 1;
    }
    if (x->offset_written < x->offset_count || x->time_written < x->time_count) return;
    segment_index_free(s);
}

bool segment_must_roll(const struct log_impl *l, const struct segment *s, const struct batch_header *h, int64_t now_ms) {
    if (s->size_bytes == 0) return false;
    if ((uint64_t)s->size_bytes + h->total_bytes > l->config.segment_bytes) return true;
    if (batch_last_offset(h) - s->base > INT32_MAX) return true;
    if (s->index && index_full(s->index)) return true;
    /* Kafka's rule: by record time where there is one, so that replaying old data rolls as it did then. */
    int64_t waited = s->first_timestamp >= 0 && h->max_timestamp >= 0 ? h->max_timestamp - s->first_timestamp : now_ms - s->created_ms;
    int64_t most = l->config.cleanup_compact ? MIN(l->config.segment_ms, l->config.max_compaction_lag_ms) : l->config.segment_ms;
    return waited > most;
}

void log_storage(const struct log *pub, uint32_t *segments, uint32_t *faulty_ranges) {
    const struct log_impl *l = impl_of_const(pub);
    *segments = l->segment_count;
    *faulty_ranges = l->faulty_count;
}

void log_segments(const struct log *pub, uint32_t n, struct log_segment *out) {
    const struct log_impl *l = impl_of_const(pub);
    for (uint32_t i = 0; i < n && i < l->segment_count; i++) {
        const struct segment *s = &l->segments[i];
        out[i] = (struct log_segment){s->base, s->end, s->size_bytes, s->max_timestamp, s->created_ms};
    }
}
