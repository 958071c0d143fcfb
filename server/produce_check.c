#include "server/produce_check.h"
#include "server/api_errors.h"

static int16_t refuse(struct produce_check *c, int16_t error, const char *message) {
    c->message = message;
    return error;
}

/* "v3+ only magic 2 and exactly one batch per partition; zstd below version 7 is not understood by
 * the reader that such a producer was made for." */
static int16_t check_shape(struct produce_check *c) {
    struct bytes r = c->records;
    if (r.p == NULL || r.len == 0) return refuse(c, KERR_INVALID_RECORD, "Produce needs exactly one record batch");
    if (r.len > 16 && r.p[16] != 2)
        return refuse(c, KERR_INVALID_RECORD, "Produce takes record batches of magic 2 only");
    switch (batch_parse(r.p, (size_t)r.len, &c->header)) {
    case OK: break;
    case ERR_UNSUPPORTED: return refuse(c, KERR_INVALID_RECORD, "Produce takes record batches of magic 2 only");
    default: return refuse(c, KERR_CORRUPT_MESSAGE, "The record batch is incomplete or its length is wrong");
    }
    if (c->header.total_bytes != (uint32_t)r.len)
        return refuse(c, KERR_INVALID_RECORD, "Produce needs exactly one record batch for each partition");
    if (batch_codec(&c->header) == CODEC_ZSTD && c->api_version < 7)
        return refuse(c, KERR_UNSUPPORTED_COMPRESSION_TYPE, "Produce below version 7 may not use zstd");
    return KERR_NONE;
}

static int16_t check_content(struct produce_check *c) {
    const struct batch_header *h = &c->header;
    if (h->base_offset != 0) return refuse(c, KERR_INVALID_RECORD, "The base offset of a produced batch must be 0");
    if (h->total_bytes > (uint32_t)c->config->max_message_bytes)
        return refuse(c, KERR_MESSAGE_TOO_LARGE, "The batch is larger than max.message.bytes");
    if (!batch_crc_ok(c->records.p, h)) return refuse(c, KERR_CORRUPT_MESSAGE, "The checksum of the batch is wrong");
    if (batch_codec(h) >= CODEC_COUNT) return refuse(c, KERR_INVALID_RECORD, "Unknown compression codec");
    if (h->record_count <= 0 || h->last_offset_delta < 0 || h->record_count - 1 != h->last_offset_delta)
        return refuse(c, KERR_INVALID_RECORD, "The record count does not fit the last offset delta");
    if (h->attributes & BATCH_CONTROL) return refuse(c, KERR_INVALID_RECORD, "Clients may not write control batches");
    if (h->producer_id >= 0 && h->base_sequence < 0)
        return refuse(c, KERR_INVALID_RECORD, "A batch with a producer id needs a sequence number");
    if (h->producer_id >= 0 && h->producer_epoch < 0)
        return refuse(c, KERR_INVALID_RECORD, "A batch with a producer id needs a producer epoch");
    if (h->attributes & BATCH_TRANSACTIONAL)
        return refuse(c, KERR_INVALID_TXN_STATE, "Transactions are not served yet");
    if (h->attributes & BATCH_DELETE_HORIZON)
        return refuse(c, KERR_INVALID_RECORD, "Clients may not set a delete horizon");
    return KERR_NONE;
}

/* "Client LogAppendTime bit, or CreateTime outside [now - before.max, now + after.max]". The batch
 * says its largest timestamp; the first record's stands for the others downwards. */
static int16_t check_time(struct produce_check *c) {
    const struct batch_header *h = &c->header;
    const struct topic_config *t = c->config;
    if (h->attributes & BATCH_LOG_APPEND_TIME)
        return refuse(c, KERR_INVALID_TIMESTAMP, "Producers may not send records with LogAppendTime");
    if (t->log_append_time) return KERR_NONE;
    int64_t limit;
    if (!__builtin_add_overflow(c->now_ms, t->timestamp_after_max_ms, &limit) && h->max_timestamp > limit)
        return refuse(c, KERR_INVALID_TIMESTAMP, "A timestamp is later than message.timestamp.after.max.ms allows");
    if (h->base_timestamp == -1) return KERR_NONE; /* no timestamp */
    if (!__builtin_sub_overflow(c->now_ms, t->timestamp_before_max_ms, &limit) && h->base_timestamp < limit)
        return refuse(c, KERR_INVALID_TIMESTAMP, "A timestamp is earlier than message.timestamp.before.max.ms allows");
    return KERR_NONE;
}

int16_t produce_check(struct produce_check *c) {
    c->message = NULL;
    int16_t error = check_shape(c);
    if (!error) error = check_content(c);
    if (!error) error = check_time(c);
    if (!error && c->header.total_bytes > c->config->log.segment_bytes)
        return refuse(c, KERR_RECORD_LIST_TOO_LARGE, "The batch is larger than segment.bytes");
    return error;
}

bool produce_needs_keys(const struct topic_config *config) { return config->log.cleanup_compact; }

bool produce_needs_recompression(const struct topic_config *config, const struct batch_header *h) {
    return config->compression >= 0 && config->compression != (int8_t)batch_codec(h);
}

enum err produce_find_null_keys(const uint8_t *batch, const struct batch_header *h, size_t max_decompressed_bytes,
                                int32_t *bad, int32_t max, int32_t *bad_count) {
    struct record_iter it;
    *bad_count = 0;
    enum err err = record_iter_init(&it, batch, h, max_decompressed_bytes);
    if (err) return err;
    struct record record;
    int32_t index = 0;
    while ((err = record_iter_next(&it, &record)) == OK) {
        if (record.key.p == NULL) {
            if (*bad_count < max) bad[*bad_count] = index;
            (*bad_count)++;
        }
        index++;
    }
    record_iter_free(&it);
    return err == ERR_NOT_FOUND ? OK : err;
}
