/* dump_log.c - prints a .log as kafka-dump-log does, batch by batch. */
#include <inttypes.h>
#include "proto/compress.h"
#include "tools/dump.h"

static void text_batch(const struct batch_header *h, uint64_t position, bool valid) {
    printf("baseOffset: %" PRId64 " lastOffset: %" PRId64 " count: %" PRId32 " baseSequence: %" PRId32
           " lastSequence: %" PRId32 " producerId: %" PRId64 " producerEpoch: %d partitionLeaderEpoch: %" PRId32
           " isTransactional: %s isControl: %s deleteHorizonMs: ",
           h->base_offset, batch_last_offset(h), h->record_count, h->base_sequence, batch_last_sequence(h),
           h->producer_id, h->producer_epoch, h->leader_epoch, h->attributes & BATCH_TRANSACTIONAL ? "true" : "false",
           h->attributes & BATCH_CONTROL ? "true" : "false");
    if (h->attributes & BATCH_DELETE_HORIZON) printf("OptionalLong[%" PRId64 "]", h->base_timestamp);
    else fputs("OptionalLong.empty", stdout);
    const char *codec = batch_codec(h) < CODEC_COUNT ? codec_name(batch_codec(h)) : "unknown";
    printf(" position: %" PRIu64 " %s: %" PRId64 " size: %" PRIu32 " magic: %d compresscodec: %s crc: %" PRIu32
           " isvalid: %s\n",
           position, h->attributes & BATCH_LOG_APPEND_TIME ? "LogAppendTime" : "CreateTime", h->max_timestamp,
           h->total_bytes, h->magic, codec, h->crc, valid ? "true" : "false");
}

static void json_batch(struct json_out *j, const char *path, const struct batch_header *h, uint64_t position, bool valid) {
    json_object(j, NULL);
    json_text(j, "type", "batch");
    json_text(j, "file", path);
    json_i64(j, "baseOffset", h->base_offset);
    json_i64(j, "lastOffset", batch_last_offset(h));
    json_i64(j, "count", h->record_count);
    json_i64(j, "baseSequence", h->base_sequence);
    json_i64(j, "lastSequence", batch_last_sequence(h));
    json_i64(j, "producerId", h->producer_id);
    json_i64(j, "producerEpoch", h->producer_epoch);
    json_i64(j, "partitionLeaderEpoch", h->leader_epoch);
    json_bool(j, "isTransactional", h->attributes & BATCH_TRANSACTIONAL);
    json_bool(j, "isControl", h->attributes & BATCH_CONTROL);
    if (h->attributes & BATCH_DELETE_HORIZON) json_i64(j, "deleteHorizonMs", h->base_timestamp);
    else json_null(j, "deleteHorizonMs");
    json_u64(j, "position", position);
    json_text(j, "timestampType", h->attributes & BATCH_LOG_APPEND_TIME ? "LogAppendTime" : "CreateTime");
    json_i64(j, "maxTimestamp", h->max_timestamp);
    json_u64(j, "size", h->total_bytes);
    json_i64(j, "magic", h->magic);
    json_text(j, "compresscodec", batch_codec(h) < CODEC_COUNT ? codec_name(batch_codec(h)) : "unknown");
    json_u64(j, "crc", h->crc);
    json_bool(j, "isvalid", valid);
    json_object_end(j);
    json_line(j);
}

static const uint8_t *whole_batch(struct dump *d, struct input *in, uint64_t position, const struct batch_header *h) {
    if (h->total_bytes > BATCH_BYTES_MAX) {
        dump_note(d, in->path, "position %" PRIu64 ": records of a batch of %" PRIu32 " bytes are not shown", position,
                  h->total_bytes);
        return NULL;
    }
    size_t got;
    const uint8_t *batch = input_view(in, position, h->total_bytes, &got);
    return got == h->total_bytes ? batch : NULL;
}

/* Bytes behind the last complete batch: the end of a log that is being written, or a damaged length. */
static void show_tail(struct dump *d, const char *path, uint64_t position, uint64_t bytes) {
    const char *name = strrchr(path, '/');
    if (!d->json) {
        printf("Found %" PRIu64 " invalid bytes at the end of %s\n", bytes, name ? name + 1 : path);
        return;
    }
    json_object(&d->out, NULL);
    json_text(&d->out, "type", "tail");
    json_text(&d->out, "file", path);
    json_u64(&d->out, "position", position);
    json_u64(&d->out, "bytes", bytes);
    json_object_end(&d->out);
    json_line(&d->out);
}

/* Not to be read on behind: what is there is no batch, or not all of one. */
static bool broken(struct dump *d, struct input *in, uint64_t position, struct batch_header *h, bool ended) {
    size_t got;
    const uint8_t *p = input_view(in, position, BATCH_HEADER_BYTES, &got);
    enum err parsed = batch_parse(p, got, h);
    if ((parsed == OK || parsed == ERR_TRUNCATED) && h->total_bytes > 0 && h->total_bytes <= in->size - position) return false;
    if (parsed != ERR_TRUNCATED && in->neg_errno == 0 && ended)
        dump_damage(d, in->path, position, parsed == ERR_UNSUPPORTED ? "not a batch of format 2 (magic %d)" : "impossible batch length", h->magic);
    return true;
}

static void print_batch(struct dump *d, struct input *in, uint64_t position, const struct batch_header *h) {
    uint32_t crc = 0;
    bool ranged = d->filter.from.set || d->filter.to.set;
    if (!filter_batch(&d->filter, h)) return;
    bool valid = input_crc(in, position + 21, h->total_bytes - 21, &crc) && crc == h->crc;
    const uint8_t *batch = valid && (d->records || d->summary || ranged) ? whole_batch(d, in, position, h) : NULL;
    if (d->summary) {
        if (batch) (void)summary_batch(d->summary, batch, h, &d->filter, BATCH_BYTES_MAX);
        else *(valid ? &d->summary->unread_batches : &d->summary->bad_batches) += 1;
    } else {
        if (batch && filter_any(&d->filter) && !records_match(d, batch, h)) return;
        if (d->json) json_batch(&d->out, in->path, h, position, valid);
        else text_batch(h, position, valid);
    }
    if (!valid) dump_damage(d, in->path, position, "the batch does not match its CRC");
    else if (d->records && batch && !d->summary) print_records(d, in->path, position, batch, h);
}

void print_batches(struct dump *d, struct input *in, uint64_t *position, int64_t *next_offset, bool ended) {
    while (*position < in->size) {
        struct batch_header h = {0};
        if (broken(d, in, *position, &h, ended)) break;
        if (!next_offset || h.base_offset >= *next_offset) print_batch(d, in, *position, &h);
        if (next_offset) *next_offset = MAX(*next_offset, batch_last_offset(&h) + 1);
        *position += h.total_bytes;
    }
    if (in->neg_errno != 0) {
        dump_unreadable(d, in->path, in->neg_errno);
    } else if (*position < in->size && ended) {
        if (d->summary) d->summary->tail_bytes += in->size - *position;
        else show_tail(d, in->path, *position, in->size - *position);
    }
}

void print_log(struct dump *d, const char *path, int64_t base_offset) {
    struct input in;
    int err = input_open(&in, path);
    if (err != 0) {
        dump_unreadable(d, path, err);
        return;
    }
    if (!d->json && !d->summary && base_offset >= 0) printf("Log starting offset: %" PRId64 "\n", base_offset);
    uint64_t position = 0;
    print_batches(d, &in, &position, NULL, true);
    if (d->summary) {
        d->summary->files++;
        d->summary->file_bytes += in.size;
    }
    input_close(&in);
}
