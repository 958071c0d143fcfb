/* index.h - the sparse indexes of one segment, in memory and as Kafka's files. Pure: no I/O.
 *
 *   .index      8 bytes an entry: i32 offset - base, i32 position. The LAST offset of a batch and where
 *               that batch begins. Both strictly increase, and position > 0: the first batch needs no entry.
 *   .timeindex 12 bytes an entry: i64 timestamp, i32 offset - base. The largest timestamp so far and the last
 *               offset of the (first) batch that holds it. Both strictly increase.
 *
 * Kafka's rule, so that equal logs have equal files: before a batch goes in, when more than
 * `interval_bytes` of batches went in since the last entry, the batch gets an offset entry, and the
 * largest timestamp so far (this batch included) a time entry if it is larger than the last
 * one. Rolling adds a last time entry. Bytes since the last entry count the batch of the entry itself.
 *
 * `*_written` counts the entries that the owner has already put into the file: it is the owner's mark
 * (this module only lowers it when a truncation drops written entries). */
#ifndef LOG_INDEX_H
#define LOG_INDEX_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "proto/record_batch.h"

enum { INDEX_ENTRY_BYTES = 8, TIME_ENTRY_BYTES = 12 };

struct index_entry { uint32_t relative, position; };
struct time_entry { int64_t timestamp; uint32_t relative; };

struct segment_index {
    int64_t base_offset;
    uint32_t interval_bytes;
    uint32_t offsets_max, times_max;      /* entries that fit segment.index.bytes */
    uint32_t bytes_since_entry;
    int64_t max_timestamp;                /* so far; -1: none */
    uint32_t max_timestamp_relative;      /* last offset of the first batch that holds it */
    struct index_entry *offsets;
    uint32_t offset_count, offset_cap, offset_written;
    struct time_entry *times;
    uint32_t time_count, time_cap, time_written;
};

/* Empty; `max_bytes` is segment.index.bytes and bounds each of the two files. */
void index_init(struct segment_index *x, int64_t base_offset, uint32_t interval_bytes, uint32_t max_bytes);
void index_free(struct segment_index *x);

/* No entry fits any more (the last slot of the time index is kept for the roll): roll before the next append. */
bool index_full(const struct segment_index *x);
/* The next batch of the segment, which begins at `position`. ERR_RANGE: its last offset does not fit 31 bits: roll
 * first. ERR_FULL: see index_full. ERR_NOMEM. After an error nothing has changed. */
MUST_CHECK enum err index_add(struct segment_index *x, const struct batch_header *h, uint32_t position);
/* The segment is complete: the last time entry. ERR_NOMEM. Harmless when repeated. */
MUST_CHECK enum err index_seal(struct segment_index *x);
/* Cuts to the batches below `offset`, which end at `position`. What the entries do not tell (largest timestamp, bytes since)
 * must then be told again: `*rescan_from` is the position of the first batch to pass to index_rescan(); all up
 * to `position` follow. */
void index_truncate(struct segment_index *x, int64_t offset, uint32_t position, uint32_t *rescan_from);
/* Takes a batch into account that has its entry, or needs none: after index_truncate() and after loading. */
void index_rescan(struct segment_index *x, const struct batch_header *h);

/* Greatest position known to lie at or before the batch that holds `offset`: start scanning there. */
uint32_t index_find(const struct segment_index *x, int64_t offset);
/* The entry that says so; NULL: none does, and that position is 0. */
const struct index_entry *index_find_entry(const struct segment_index *x, int64_t offset);
/* First offset that may hold a record with a timestamp >= `timestamp`: everything before it is older. */
int64_t index_find_time(const struct segment_index *x, int64_t timestamp);

/* File bytes of entries [from, from + n). `out` has n * *_ENTRY_BYTES. */
void index_encode(const struct segment_index *x, uint32_t from, uint32_t n, uint8_t *out);
void index_encode_times(const struct segment_index *x, uint32_t from, uint32_t n, uint8_t *out);
struct index_entry index_entry_get(const uint8_t *p);
struct time_entry time_entry_get(const uint8_t *p);
/* Whether `next` may follow `last` (NULL: first entry) in a segment of `segment_bytes`. A phrase that names what is
 * wrong, or NULL when nothing is. */
const char *index_entry_wrong(const struct index_entry *last, const struct index_entry *next, uint64_t segment_bytes);
const char *time_entry_wrong(const struct time_entry *last, const struct time_entry *next);

/* Replaces the entries with those of a file, all counted as written; the caller then rescans the batches from
 * `*rescan_from` on. Zeros behind the last entry (Kafka preallocates its files) are left out. ERR_CORRUPT: a
 * length that is no multiple, an entry that cannot be; `x` is then empty and the index is to be rebuilt. ERR_NOMEM. */
MUST_CHECK enum err index_load(struct segment_index *x, const uint8_t *offsets, size_t offsets_len, const uint8_t *times,
                               size_t times_len, uint64_t segment_bytes, uint32_t *rescan_from);
#endif
