/* record_batch.c - reading batches and patching them in place. Building: batch_builder.c. */
#include "proto/record_batch.h"

#include <limits.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "proto/compress.h"
#include "proto/record_varint.h"

enum batch_positions {
    AT_BASE_OFFSET = 0, AT_LENGTH = 8, AT_LEADER_EPOCH = 12, AT_MAGIC = 16, AT_CRC = 17,
    AT_ATTRIBUTES = 21, AT_LAST_OFFSET_DELTA = 23, AT_BASE_TIMESTAMP = 27, AT_MAX_TIMESTAMP = 35,
    AT_PRODUCER_ID = 43, AT_PRODUCER_EPOCH = 51, AT_BASE_SEQUENCE = 53, AT_RECORD_COUNT = 57
};
enum {
    LENGTH_MIN = BATCH_HEADER_BYTES - BATCH_LENGTH_OVERHEAD,
    RECORD_BYTES_MIN = 7, /* length, attributes, two deltas, two lengths, header count: a byte each */
    RECORD_HEADER_BYTES_MIN = 2
};

int32_t batch_last_sequence(const struct batch_header *h) {
    if (h->base_sequence < 0) return -1;
    uint32_t sum = (uint32_t)h->base_sequence + (uint32_t)h->last_offset_delta;
    return (int32_t)(sum & 0x7fffffffu); /* modulo 2^31: 2147483647 is followed by 0 */
}

enum err batch_parse(const uint8_t *p, size_t len, struct batch_header *out) {
    if (len < BATCH_LENGTH_OVERHEAD) return ERR_TRUNCATED;
    int32_t length = (int32_t)load_be32(p + AT_LENGTH);
    if (length < AT_CRC - BATCH_LENGTH_OVERHEAD) return ERR_CORRUPT;
    if (len < AT_CRC) {
        return length < LENGTH_MIN || length > INT32_MAX - BATCH_LENGTH_OVERHEAD ? ERR_CORRUPT : ERR_TRUNCATED;
    }
    out->magic = (int8_t)p[AT_MAGIC];
    if (out->magic != 2) return ERR_UNSUPPORTED; /* older formats may be shorter than our header */
    if (length < LENGTH_MIN || length > INT32_MAX - BATCH_LENGTH_OVERHEAD) return ERR_CORRUPT;
    if (len < BATCH_HEADER_BYTES) return ERR_TRUNCATED;

    out->base_offset = (int64_t)load_be64(p + AT_BASE_OFFSET);
    out->total_bytes = (uint32_t)length + BATCH_LENGTH_OVERHEAD;
    out->leader_epoch = (int32_t)load_be32(p + AT_LEADER_EPOCH);
    out->crc = load_be32(p + AT_CRC);
    out->attributes = (int16_t)load_be16(p + AT_ATTRIBUTES);
    out->last_offset_delta = (int32_t)load_be32(p + AT_LAST_OFFSET_DELTA);
    out->base_timestamp = (int64_t)load_be64(p + AT_BASE_TIMESTAMP);
    out->max_timestamp = (int64_t)load_be64(p + AT_MAX_TIMESTAMP);
    out->producer_id = (int64_t)load_be64(p + AT_PRODUCER_ID);
    out->producer_epoch = (int16_t)load_be16(p + AT_PRODUCER_EPOCH);
    out->base_sequence = (int32_t)load_be32(p + AT_BASE_SEQUENCE);
    out->record_count = (int32_t)load_be32(p + AT_RECORD_COUNT);
    return len < out->total_bytes ? ERR_TRUNCATED : OK;
}

bool batch_crc_ok(const uint8_t *p, const struct batch_header *h) {
    return crc32c(0, p + AT_ATTRIBUTES, h->total_bytes - AT_ATTRIBUTES) == h->crc;
}

enum err batch_check(const struct batch_header *h) {
    int64_t last;
    if (h->magic != 2 || h->total_bytes < BATCH_HEADER_BYTES) return ERR_CORRUPT;
    if (batch_codec(h) >= CODEC_COUNT) return ERR_CORRUPT;
    if (h->base_offset < 0 || h->last_offset_delta < 0 || h->record_count < 0) return ERR_CORRUPT;
    if (h->record_count > (int64_t)h->last_offset_delta + 1) return ERR_CORRUPT;
    /* The log end offset, one past the last, must be representable too. */
    if (__builtin_add_overflow(h->base_offset, (int64_t)h->last_offset_delta + 1, &last)) return ERR_CORRUPT;
    return OK;
}

void batch_set_base_offset(uint8_t *p, int64_t base_offset) { store_be64(p + AT_BASE_OFFSET, (uint64_t)base_offset); }

void batch_set_leader_epoch(uint8_t *p, int32_t epoch) { store_be32(p + AT_LEADER_EPOCH, (uint32_t)epoch); }

void batch_set_log_append_time(uint8_t *p, int64_t timestamp_ms) {
    store_be16(p + AT_ATTRIBUTES, load_be16(p + AT_ATTRIBUTES) | BATCH_LOG_APPEND_TIME);
    store_be64(p + AT_MAX_TIMESTAMP, (uint64_t)timestamp_ms);
    batch_seal(p);
}

void batch_set_producer(uint8_t *p, int64_t producer_id, int16_t epoch, int32_t base_sequence) {
    store_be64(p + AT_PRODUCER_ID, (uint64_t)producer_id);
    store_be16(p + AT_PRODUCER_EPOCH, (uint16_t)epoch);
    store_be32(p + AT_BASE_SEQUENCE, (uint32_t)base_sequence);
}

void batch_seal(uint8_t *p) {
    size_t total = (size_t)load_be32(p + AT_LENGTH) + BATCH_LENGTH_OVERHEAD;
    ASSERT(total >= BATCH_HEADER_BYTES);
    store_be32(p + AT_CRC, crc32c(0, p + AT_ATTRIBUTES, total - AT_ATTRIBUTES));
}

/* ---- records ---------------------------------------------------------------------------------- */

enum err record_iter_init(struct record_iter *it, const uint8_t *batch, const struct batch_header *h,
                          size_t max_decompressed_bytes) {
    *it = (struct record_iter){.header = *h};
    if (h->total_bytes < BATCH_HEADER_BYTES || h->record_count < 0) return ERR_CORRUPT;
    if (batch_codec(h) >= CODEC_COUNT) return ERR_UNSUPPORTED;
    const uint8_t *records = batch + BATCH_HEADER_BYTES;
    size_t len = h->total_bytes - BATCH_HEADER_BYTES;
    /* A batch that compaction emptied keeps its attributes and has no blob to decompress. */
    if (batch_codec(h) != CODEC_NONE && !(h->record_count == 0 && len == 0)) {
        enum err err = codec_decompress(batch_codec(h), records, len, max_decompressed_bytes, &it->owned, &len);
        if (err) return err;
        records = it->owned;
    }
    it->p = records;
    it->end = records + len;
    if ((uint64_t)h->record_count * RECORD_BYTES_MIN > len) {
        record_iter_free(it);
        return ERR_CORRUPT;
    }
    return OK;
}

void record_iter_free(struct record_iter *it) {
    free(it->owned);
    it->owned = NULL;
    it->p = it->end = NULL;
}

/* Length-prefixed bytes; -1 is null where that is allowed. */
static bool get_bytes(const uint8_t **p, const uint8_t *end, bool nullable, struct bytes *out) {
    int32_t len;
    if (!record_varint_get(p, end, &len)) return false;
    if (len == -1 && nullable) {
        *out = BYTES_NULL;
        return true;
    }
    if (len < 0 || len > end - *p) return false;
    *out = (struct bytes){*p, len};
    *p += len;
    return true;
}

enum err record_header_next(const uint8_t **cursor, const uint8_t *end, struct record_header *out) {
    struct bytes key;
    if (!get_bytes(cursor, end, false, &key)) return ERR_CORRUPT;
    out->key = (struct str){(const char *)key.p, key.len};
    return get_bytes(cursor, end, true, &out->value) ? OK : ERR_CORRUPT;
}

/* Everything after the record's length; `end` is the record's own end. */
static bool get_record(const uint8_t *p, const uint8_t *end, struct record *out) {
    if (p == end) return false;
    p++; /* attributes of a record: none are defined */
    if (!record_varlong_get(&p, end, &out->timestamp_delta)) return false;
    if (!record_varint_get(&p, end, &out->offset_delta)) return false;
    if (!get_bytes(&p, end, true, &out->key) || !get_bytes(&p, end, true, &out->value)) return false;
    if (!record_varint_get(&p, end, &out->header_count) || out->header_count < 0) return false;
    if (out->header_count > (end - p) / RECORD_HEADER_BYTES_MIN) return false;
    out->headers_raw = p;
    out->headers_raw_len = (size_t)(end - p);
    for (int32_t i = 0; i < out->header_count; i++) {
        struct record_header header;
        if (record_header_next(&p, end, &header)) return false;
    }
    return p == end;
}

enum err record_iter_next(struct record_iter *it, struct record *out) {
    const struct batch_header *h = &it->header;
    if (it->next_index >= h->record_count) return it->p == it->end ? ERR_NOT_FOUND : ERR_CORRUPT;
    int32_t len;
    if (!record_varint_get(&it->p, it->end, &len)) return ERR_CORRUPT;
    if (len < 0 || len > it->end - it->p) return ERR_CORRUPT;
    if (!get_record(it->p, it->p + len, out)) return ERR_CORRUPT;
    if (out->offset_delta < 0 || out->offset_delta > h->last_offset_delta) return ERR_CORRUPT;
    if (__builtin_add_overflow(h->base_offset, (int64_t)out->offset_delta, &out->offset)) return ERR_CORRUPT;
    /* A client may pick any timestamps; their sum wraps, as in Kafka, rather than being refused. */
    out->timestamp = h->attributes & BATCH_LOG_APPEND_TIME
                         ? h->max_timestamp
                         : (int64_t)((uint64_t)h->base_timestamp + (uint64_t)out->timestamp_delta);
    it->p += len;
    it->next_index++;
    return OK;
}
