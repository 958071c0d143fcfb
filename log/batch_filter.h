/* batch_filter.h - what compaction leaves of one batch. Pure.
 *
 * A record stays when no newer one has its key. One without a value (a tombstone) stays until the delete horizon of its batch, which
 * is set when it is first met: attribute bit 6, the base timestamp is now + delete.retention.ms, the deltas are counted from there
 * (KIP-534). Records without a key go, as in Kafka.
 *
 * A batch keeps its offsets, its producer, epochs and sequence, so there may be gaps within it and between batches. One that has
 * no record left goes, unless it holds the last sequence of its producer (what is known of producers can be found again in
 * the log) or ends its segment or its epoch (so that a reader at any offset finds something to go on from): then its header stays.
 *
 * Batches at or above `map_end` are not touched, and neither are control and transactional ones: what a transaction's end means for them
 * is not known here. */
#ifndef LOG_BATCH_FILTER_H
#define LOG_BATCH_FILTER_H
#include "log/offset_map.h"
#include "proto/record_batch.h"

struct filter_producer { int64_t id, last_offset; };
struct filter_rules {
    const struct offset_map *map;
    int64_t map_end;                         /* offsets below it are in the map */
    int64_t now_ms, delete_retention_ms;
    const struct filter_producer *producers; /* ascending by id */
    uint32_t producer_count;
    size_t max_decompressed_bytes;
};

enum filter_verdict { FILTER_KEEP, FILTER_DROP, FILTER_REPLACE };
struct filter_result {
    enum filter_verdict verdict;
    uint8_t *batch;                          /* REPLACE: malloc'ed, sealed */
    size_t batch_len;
    uint64_t records_in, records_out;
};

/* `h` is the header of the whole batch at `batch`, whose CRC has been checked. `ends_segment`: see above.
 * ERR_CORRUPT, ERR_TOO_LARGE (decompressed), ERR_NOMEM, ERR_UNSUPPORTED. */
MUST_CHECK enum err batch_filter(const struct filter_rules *r, const uint8_t *batch, const struct batch_header *h, bool ends_segment,
                                 struct filter_result *out);
/* Puts the batch's keys that lie at or above `from` into the map. `*end` is the offset up to which (exclusive) the map knows the log now: below
 * the batch's end when it is full, or when the batch is transactional. Errors as above. */
MUST_CHECK enum err batch_keys(struct offset_map *m, const uint8_t *batch, const struct batch_header *h, int64_t from,
                               size_t max_decompressed_bytes, int64_t *end);
#endif
