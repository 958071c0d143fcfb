/* batch_builder.c - making batches, and the same batch under another codec. */
#include <limits.h>
#include <stdlib.h>

#include "base/assert.h"
#include "proto/compress.h"
#include "proto/record_batch.h"
#include "proto/record_varint.h"

enum { TOTAL_BYTES_MAX = INT32_MAX - BATCH_LENGTH_OVERHEAD };

static void builder_clear(struct batch_builder *b) {
    b->attributes = 0;
    b->base_timestamp = b->max_timestamp = -1;
    b->producer_id = -1;
    b->producer_epoch = -1;
    b->base_sequence = -1;
    b->record_count = 0;
    b->last_offset_delta = -1;
    b->len = 0;
}

void batch_builder_init(struct batch_builder *b, enum batch_codec codec, size_t limit_bytes) {
    *b = (struct batch_builder){.codec = codec, .level = INT_MIN, .limit_bytes = MIN(limit_bytes, (size_t)TOTAL_BYTES_MAX)};
    builder_clear(b);
}

void batch_builder_free(struct batch_builder *b) {
    free(b->records);
    b->records = NULL;
    b->len = b->cap = 0;
}

void batch_builder_reset(struct batch_builder *b) { builder_clear(b); }

size_t batch_builder_bytes(const struct batch_builder *b) { return BATCH_HEADER_BYTES + b->len; }

static size_t bytes_size(const void *p, int32_t len) { return p ? record_varlong_bytes(len) + (size_t)len : 1; }

static uint8_t *put_bytes(uint8_t *to, const void *p, int32_t len) {
    to = record_varlong_put(to, p ? len : -1);
    if (p && len > 0) {
        memcpy(to, p, (size_t)len);
        to += len;
    }
    return to;
}

/* Sizes are sums of at most INT32_MAX each over an int32 count: far below 2^64. */
static size_t headers_size(const struct record_header *headers, int32_t count) {
    size_t size = record_varlong_bytes(count);
    for (int32_t i = 0; i < count; i++) {
        size += record_varlong_bytes(headers[i].key.len) + (size_t)headers[i].key.len;
        size += bytes_size(headers[i].value.p, headers[i].value.len);
    }
    return size;
}

static enum err reserve(struct batch_builder *b, size_t more) {
    if (b->cap - b->len >= more) return OK;
    size_t cap = MAX(MAX(b->cap * 2, b->len + more), (size_t)1024);
    uint8_t *grown = realloc(b->records, cap);
    if (!grown) return ERR_NOMEM;
    b->records = grown;
    b->cap = cap;
    return OK;
}

enum err batch_builder_add(struct batch_builder *b, int64_t timestamp_ms, struct bytes key, struct bytes value,
                           const struct record_header *headers, int32_t header_count) {
    ASSERT(header_count >= 0 && (headers || header_count == 0));
    bool first = b->record_count == 0;
    int32_t offset_delta = b->last_offset_delta + 1;
    int64_t base = first ? timestamp_ms : b->base_timestamp;
    int64_t timestamp_delta = (int64_t)((uint64_t)timestamp_ms - (uint64_t)base);
    size_t body = 1 + record_varlong_bytes(timestamp_delta) + record_varlong_bytes(offset_delta) +
                  bytes_size(key.p, key.len) + bytes_size(value.p, value.len) + headers_size(headers, header_count);
    size_t size = record_varlong_bytes((int64_t)body) + body;
    if (body > INT32_MAX) return ERR_TOO_LARGE;
    if (batch_builder_bytes(b) + size > b->limit_bytes) return first ? ERR_TOO_LARGE : ERR_FULL;
    enum err err = reserve(b, size);
    if (err) return err;

    uint8_t *p = record_varlong_put(b->records + b->len, (int64_t)body);
    uint8_t *start = p;
    *p++ = 0;
    p = record_varlong_put(p, timestamp_delta);
    p = record_varlong_put(p, offset_delta);
    p = put_bytes(p, key.p, key.len);
    p = put_bytes(p, value.p, value.len);
    p = record_varlong_put(p, header_count);
    for (int32_t i = 0; i < header_count; i++) {
        p = put_bytes(p, headers[i].key.p ? headers[i].key.p : "", headers[i].key.len);
        p = put_bytes(p, headers[i].value.p, headers[i].value.len);
    }
    ASSERT((size_t)(p - start) == body);
    b->len = (size_t)(p - b->records);
    b->base_timestamp = base;
    b->max_timestamp = first ? timestamp_ms : MAX(b->max_timestamp, timestamp_ms);
    b->last_offset_delta = offset_delta;
    b->record_count++;
    return OK;
}

/* `records` become the payload of a batch whose first 61 bytes the caller fills in and seals. */
static enum err assemble(enum batch_codec codec, int level, const uint8_t *records, size_t len, uint8_t **out,
                         size_t *out_len) {
    uint8_t *blob = NULL;
    size_t blob_len = len;
    if (codec != CODEC_NONE) {
        enum err err = codec_compress(codec, level, records, len, &blob, &blob_len);
        if (err) return err;
    }
    if (blob_len > TOTAL_BYTES_MAX - BATCH_HEADER_BYTES) {
        free(blob);
        return ERR_TOO_LARGE;
    }
    uint8_t *batch = malloc(BATCH_HEADER_BYTES + blob_len);
    if (!batch) {
        free(blob);
        return ERR_NOMEM;
    }
    if (blob_len > 0) memcpy(batch + BATCH_HEADER_BYTES, blob ? blob : records, blob_len);
    free(blob);
    *out = batch;
    *out_len = BATCH_HEADER_BYTES + blob_len;
    return OK;
}

enum err batch_builder_finish(struct batch_builder *b, uint8_t **out, size_t *out_len) {
    ASSERT((b->attributes & BATCH_CODEC_MASK) == 0);
    if (b->record_count == 0) return ERR_INVALID;
    enum err err = assemble(b->codec, b->level, b->records, b->len, out, out_len);
    if (err) return err;
    uint8_t *p = *out;
    store_be64(p, 0);
    store_be32(p + 8, (uint32_t)(*out_len - BATCH_LENGTH_OVERHEAD));
    store_be32(p + 12, (uint32_t)-1);
    p[16] = 2;
    store_be16(p + 21, (uint16_t)(b->attributes | (int16_t)b->codec));
    store_be32(p + 23, (uint32_t)b->last_offset_delta);
    store_be64(p + 27, (uint64_t)b->base_timestamp);
    store_be64(p + 35, (uint64_t)b->max_timestamp);
    batch_set_producer(p, b->producer_id, b->producer_epoch, b->base_sequence);
    store_be32(p + 57, (uint32_t)b->record_count);
    batch_seal(p);
    return OK;
}

enum err batch_recompress(const uint8_t *batch, const struct batch_header *h, enum batch_codec codec, int level,
                          size_t max_decompressed_bytes, uint8_t **out, size_t *out_len) {
    if (codec >= CODEC_COUNT) return ERR_UNSUPPORTED;
    struct record_iter it; /* gives the plain records, after checking that they can hold record_count */
    enum err err = record_iter_init(&it, batch, h, max_decompressed_bytes);
    if (err) return err;
    err = assemble(codec, level, it.p, (size_t)(it.end - it.p), out, out_len);
    record_iter_free(&it);
    if (err) return err;
    uint8_t *p = *out;
    memcpy(p, batch, BATCH_HEADER_BYTES);
    store_be32(p + 8, (uint32_t)(*out_len - BATCH_LENGTH_OVERHEAD));
    store_be16(p + 21, (uint16_t)((h->attributes & ~BATCH_CODEC_MASK) | (int16_t)codec));
    batch_seal(p);
    return OK;
}
