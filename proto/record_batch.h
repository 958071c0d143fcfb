/* record_batch.h - record batches, format v2 (magic 2): parse, verify, iterate, build.
 *
 *   off size field                          off size field
 *     0    8 baseOffset                      27    8 baseTimestamp (delete horizon if bit 6)
 *     8    4 batchLength = total - 12        35    8 maxTimestamp
 *    12    4 partitionLeaderEpoch            43    8 producerId
 *    16    1 magic = 2                       51    2 producerEpoch
 *    17    4 crc = CRC-32C of 21..end        53    4 baseSequence
 *    21    2 attributes                      57    4 recordsCount
 *    23    4 lastOffsetDelta                 61   .. records, compressed as one blob
 *
 * attributes: 0-2 codec, 3 timestamp type (1 LogAppendTime), 4 transactional, 5 control,
 * 6 delete horizon. baseOffset and leader epoch lie outside the CRC, so a broker assigns both in
 * place. Source: Kafka's documentation of the message format; KIP-98. */
#ifndef PROTO_RECORD_BATCH_H
#define PROTO_RECORD_BATCH_H
#include "base/arena.h"
#include "base/bytes.h"
#include "base/err.h"

enum { BATCH_HEADER_BYTES = 61, BATCH_LENGTH_OVERHEAD = 12 };
enum batch_codec { CODEC_NONE, CODEC_GZIP, CODEC_SNAPPY, CODEC_LZ4, CODEC_ZSTD, CODEC_COUNT };
enum batch_attributes {
    BATCH_CODEC_MASK = 0x07, BATCH_LOG_APPEND_TIME = 0x08, BATCH_TRANSACTIONAL = 0x10,
    BATCH_CONTROL = 0x20, BATCH_DELETE_HORIZON = 0x40
};

/* The header in host order. */
struct batch_header {
    int64_t base_offset;
    uint32_t total_bytes;            /* batchLength + 12 */
    int32_t leader_epoch;
    int8_t magic;
    uint32_t crc;
    int16_t attributes;
    int32_t last_offset_delta;
    int64_t base_timestamp, max_timestamp;
    int64_t producer_id;
    int16_t producer_epoch;
    int32_t base_sequence;
    int32_t record_count;
};
static inline enum batch_codec batch_codec(const struct batch_header *h) { return (enum batch_codec)(h->attributes & BATCH_CODEC_MASK); }
static inline int64_t batch_last_offset(const struct batch_header *h) { return h->base_offset + h->last_offset_delta; }
/* Sequence number of the last record; wraps from 2147483647 to 0. -1 without a producer. */
int32_t batch_last_sequence(const struct batch_header *h);

/* Reads the header of the batch at `p`. ERR_TRUNCATED: fewer than `len` bytes hold the header or
 * the whole batch (when the header could be read `out` is filled). ERR_CORRUPT: length below 49 or
 * above INT32_MAX-12. ERR_UNSUPPORTED: magic other than 2. Does not look at the CRC. */
MUST_CHECK enum err batch_parse(const uint8_t *p, size_t len, struct batch_header *out);
/* Whether the CRC matches; `p` holds the whole batch. */
bool batch_crc_ok(const uint8_t *p, const struct batch_header *h);
/* Structure of a batch that is already in a log: codec known, counts and deltas not negative,
 * offsets do not overflow, record_count <= last_offset_delta + 1. ERR_CORRUPT otherwise. */
MUST_CHECK enum err batch_check(const struct batch_header *h);

/* In place. The first two leave the CRC valid; after others call batch_seal(). */
void batch_set_base_offset(uint8_t *p, int64_t base_offset);
void batch_set_leader_epoch(uint8_t *p, int32_t epoch);
void batch_set_log_append_time(uint8_t *p, int64_t timestamp_ms); /* bit 3 and maxTimestamp; recomputes the CRC */
void batch_set_producer(uint8_t *p, int64_t producer_id, int16_t epoch, int32_t base_sequence);
void batch_seal(uint8_t *p); /* recomputes the CRC from batchLength */

/* One record; key, value and headers are views. A null key or value has p == NULL. */
struct record_header { struct str key; struct bytes value; };
struct record {
    int64_t offset, timestamp;
    int32_t offset_delta;
    int64_t timestamp_delta;
    struct bytes key, value;
    int32_t header_count;
    const uint8_t *headers_raw;      /* header_count headers, as encoded */
    size_t headers_raw_len;
};
/* Walks the records of one batch. Uncompressed batches are walked in place; others are first
 * decompressed into memory owned by the iterator, at most `max_decompressed_bytes`. */
struct record_iter {
    struct batch_header header;
    const uint8_t *p, *end;
    uint8_t *owned;                  /* decompressed records, or NULL */
    int32_t next_index;
};
/* ERR_CORRUPT, ERR_TOO_LARGE (output cap), ERR_NOMEM, ERR_UNSUPPORTED (codec). */
MUST_CHECK enum err record_iter_init(struct record_iter *it, const uint8_t *batch, const struct batch_header *h, size_t max_decompressed_bytes);
/* OK: `out` filled. ERR_NOT_FOUND: end reached, all record_count records seen and no bytes left. ERR_CORRUPT. */
MUST_CHECK enum err record_iter_next(struct record_iter *it, struct record *out);
void record_iter_free(struct record_iter *it);
/* Header `index` (0..header_count-1) is found by walking; `cursor` starts as headers_raw. */
MUST_CHECK enum err record_header_next(const uint8_t **cursor, const uint8_t *end, struct record_header *out);

/* Builds one batch. Offsets are 0, 1, 2, ... unless given; base offset 0 until the broker sets it. */
struct batch_builder {
    enum batch_codec codec;
    int level;                       /* codec's own scale; INT_MIN: the codec's default */
    int16_t attributes;              /* without codec bits */
    int64_t base_timestamp, max_timestamp;
    int64_t producer_id;
    int16_t producer_epoch;
    int32_t base_sequence;
    int32_t record_count, last_offset_delta;
    uint8_t *records;                /* owned */
    size_t len, cap, limit_bytes;
};
void batch_builder_init(struct batch_builder *b, enum batch_codec codec, size_t limit_bytes);
void batch_builder_free(struct batch_builder *b);
void batch_builder_reset(struct batch_builder *b);  /* keeps memory, codec, level and limit */
/* Appends a record at the next offset delta. `headers` may be NULL. ERR_FULL: would pass
 * limit_bytes (uncompressed) and the batch is not empty; ERR_TOO_LARGE: alone above the limit; ERR_NOMEM. */
MUST_CHECK enum err batch_builder_add(struct batch_builder *b, int64_t timestamp_ms, struct bytes key, struct bytes value,
                                      const struct record_header *headers, int32_t header_count);
/* Size of the batch if it were finished now without compression. */
size_t batch_builder_bytes(const struct batch_builder *b);
/* Compresses, seals, returns malloc'ed bytes in `*out` (caller frees). The builder may be reset. */
MUST_CHECK enum err batch_builder_finish(struct batch_builder *b, uint8_t **out, size_t *out_len);
/* The same batch with its records under another codec (KIP: compression.type of the topic).
 * Header fields other than codec, length and CRC stay. `*out` is malloc'ed. */
MUST_CHECK enum err batch_recompress(const uint8_t *batch, const struct batch_header *h, enum batch_codec codec, int level,
                                     size_t max_decompressed_bytes, uint8_t **out, size_t *out_len);
#endif
