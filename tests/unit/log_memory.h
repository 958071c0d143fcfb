/* log_memory.h - what logs know of themselves in memory, worked out anew: sizes, timestamps, epochs and producers from the batches
 * that a log has, what is pending from its segments. A sum that is off shows late, and far from where it went wrong. */
#ifndef TESTS_LOG_MEMORY_H
#define TESTS_LOG_MEMORY_H
#include "tests/unit/log_harness.h"

/* The segment as its batches make it. */
static inline const char *memory_segment_wrong(const struct model *x, const struct segment *s) {
    struct segment fresh = {.max_timestamp = -1, .max_timestamp_offset = -1, .first_timestamp = -1};
    uint32_t first = model_find(x, s->base);
    if (first == x->count ? s->size_bytes > 0 : x->batches[first].base != s->base) return NULL; /* the model knows not all of it */
    for (uint32_t k = first; k < x->count && x->batches[k].base < s->end; k++) {
        struct batch_header h;
        if (batch_parse(x->batches[k].bytes, x->batches[k].len, &h) != OK) return "the model";
        if (fresh.size_bytes == 0) fresh.first_timestamp = h.max_timestamp;
        fresh.size_bytes += h.total_bytes;
        if (h.max_timestamp <= fresh.max_timestamp) continue;
        fresh.max_timestamp = h.max_timestamp;
        fresh.max_timestamp_offset = x->batches[k].end - 1;
    }
    if (s->size_bytes != fresh.size_bytes) return "a segment's size is wrong";
    if (s->first_timestamp != fresh.first_timestamp) return "a segment's first timestamp is wrong";
    if (s->max_timestamp != fresh.max_timestamp) return "a segment's largest timestamp is wrong";
    if (s->max_timestamp_offset != fresh.max_timestamp_offset) return "the offset of a segment's largest timestamp is wrong";
    return NULL;
}

/* What a window says is what the log holds, and the newest batch of each producer is known. */
static inline const char *memory_producers_wrong(const struct model *x) {
    const struct log_impl *l = impl_of_const(x->log);
    int64_t known = MAX(l->segments[0].base, x->count > 0 ? x->batches[0].base : INT64_MAX);
    uint32_t at = 0;
    for (const struct producer *p; (p = producers_next(&x->log->producers, &at));)
        for (uint8_t k = 0; k < p->count; k++) {
            const struct producer_batch *w = &p->window[k];
            if (k > 0 && w->first_offset <= p->window[k - 1].last_offset) return "a producer's window is out of order";
            if (w->last_offset >= x->log->end) return "a producer's window names batches that are gone";
            if (w->first_offset < known) continue;
            uint32_t i = model_find(x, w->first_offset);
            if (i == x->count || x->batches[i].base != w->first_offset || x->batches[i].end != w->last_offset + 1 ||
                x->batches[i].producer_id != p->id || x->batches[i].base_sequence != w->first_sequence)
                return "a producer's window names a batch that the log does not have";
        }
    for (uint32_t i = x->count; i-- > 0 && x->batches[i].base >= known;) {
        bool newest = x->batches[i].producer_id >= 0;
        for (uint32_t k = i + 1; k < x->count && newest; k++) newest = x->batches[k].producer_id != x->batches[i].producer_id;
        if (!newest) continue;
        const struct producer *p = producers_find(&x->log->producers, x->batches[i].producer_id);
        if (!p || p->count == 0 || p->window[p->count - 1].first_offset != x->batches[i].base) return "a producer's newest batch is not known";
    }
    return NULL;
}

static inline const char *memory_epochs_wrong(const struct log *l) {
    const struct epochs *e = &l->epochs;
    if (l->epoch != epochs_last(e)) return "the epoch is not the table's";
    if (e->count > 0 && l->epoch_start != e->entries[e->count - 1].start) return "the start of the epoch is not the table's";
    if (e->count > 0 && e->entries[0].start < l->start) return "an epoch begins below the log's start";
    if (e->count > 0 && e->entries[e->count - 1].start > l->end) return "an epoch begins behind the log's end";
    return NULL;
}

/* Durable, and in no file. */
static inline uint64_t memory_pending(const struct log_impl *l) {
    uint64_t n = impl_unwritten(l);
    for (uint32_t i = l->tail.count; i-- > 0;) {
        const struct tail_entry *e = tail_at(&l->tail, i);
        if (e->base_offset + e->count > l->pub.durable_end) n -= e->len;
    }
    return n;
}

/* A phrase that says what is wrong, or NULL. For a log that is not being deleted, in a store that has not failed. */
static inline const char *memory_log_wrong(const struct model *x) {
    const struct log_impl *l = impl_of_const(x->log);
    const char *wrong = memory_epochs_wrong(x->log);
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < l->segment_count && !wrong; i++) {
        const struct segment *s = &l->segments[i];
        wrong = memory_segment_wrong(x, s);
        if (i > 0 && s[-1].end != s->base) wrong = "segments do not follow each other";
        if (s->written_bytes > s->size_bytes) wrong = "a file has more than its segment";
        bytes += s->size_bytes;
    }
    if (!wrong && x->log->size_bytes != bytes) wrong = "the log's size is wrong";
    if (!wrong && x->log->durable_end > x->log->end) wrong = "more is durable than there is";
    if (!wrong && l->pending_bytes != memory_pending(l)) wrong = "what is pending is wrong";
    if (!wrong && (l->cleaned_end > x->log->end || l->compacted_end > x->log->end)) wrong = "compaction has been behind the end";
    return wrong ? wrong : memory_producers_wrong(x);
}

/* What all logs have in no file is what the journal counts for the disk's reserve. */
static inline bool memory_pending_wrong(const struct machine *x) {
    uint64_t bytes = 0;
    for (uint32_t s = 0; s < x->config.shards; s++)
        for (uint32_t i = 0; i < x->shards[s]->log_count; i++)
            if (!x->shards[s]->logs[i]->folder_moved) bytes += impl_unwritten(x->shards[s]->logs[i]);
    return bytes != journal_pending_bytes(x->store->journal);
}
#endif
