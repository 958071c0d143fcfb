/* dump_records.c - the record lines of `varve dump --records`. */
#include <inttypes.h>
#include "tools/dump.h"

enum control_type { CONTROL_ABORT, CONTROL_COMMIT, CONTROL_LEADER_CHANGE, CONTROL_SNAPSHOT_HEADER,
                   CONTROL_SNAPSHOT_FOOTER, CONTROL_KRAFT_VERSION, CONTROL_KRAFT_VOTERS };

static int32_t record_sequence(const struct batch_header *h, const struct record *r) {
    if (h->base_sequence < 0) return -1;
    return (int32_t)(((uint32_t)h->base_sequence + (uint32_t)r->offset_delta) & 0x7fffffffu);
}

static int control_type(const struct record *r) {
    return r->key.p && r->key.len >= 4 ? (int16_t)load_be16(r->key.p + 2) : -1;
}

/* Coordinator epoch of a commit or abort marker; -1: the value is too short. */
static int32_t marker_epoch(const struct record *r) {
    return r->value.p && r->value.len >= 6 ? (int32_t)load_be32(r->value.p + 2) : -1;
}

/* Key and payload in words: NULL, as they are. */
typedef void print_decoded_fn(struct json_out *out, bool text, const struct record *r);

static print_decoded_fn *decoder_of(const struct dump *d, const char *path) {
    if (d->offsets_decoder || d->metadata_decoder) return d->offsets_decoder ? print_offsets_record : print_metadata_record;
    return is_offsets_file(path) ? print_offsets_record : is_metadata_file(path) ? print_metadata_record : NULL;
}

static const char *const control_names[] = {"ABORT", "COMMIT", "LeaderChange", "SnapshotHeader", "SnapshotFooter",
                                            "KRaftVersion", "KRaftVoters"};

static void text_control(const struct record *r) {
    int type = control_type(r);
    if (type == CONTROL_ABORT || type == CONTROL_COMMIT)
        printf(" endTxnMarker: %s coordinatorEpoch: %" PRId32, control_names[type], marker_epoch(r));
    else if (type >= 0 && type <= CONTROL_KRAFT_VOTERS) printf(" %s", control_names[type]);
    else printf(" controlType: %d", type);
}

static void text_record(const struct batch_header *h, const struct record *r, print_decoded_fn *decoder) {
    printf("| offset: %" PRId64 " %s: %" PRId64 " keySize: %" PRId32 " valueSize: %" PRId32 " sequence: %" PRId32 " headerKeys: [", r->offset,
           h->attributes & BATCH_LOG_APPEND_TIME ? "LogAppendTime" : "CreateTime", r->timestamp,
           r->key.p ? r->key.len : -1,
           r->value.p ? r->value.len : -1, record_sequence(h, r));
    const uint8_t *cursor = r->headers_raw, *end = cursor + r->headers_raw_len;
    struct record_header header;
    for (int32_t i = 0; i < r->header_count && record_header_next(&cursor, end, &header) == OK; i++)
        printf("%s%.*s", i ? "," : "", header.key.len, header.key.p);
    putchar(']');
    if (h->attributes & BATCH_CONTROL) {
        text_control(r);
    } else if (decoder) {
        decoder(NULL, true, r);
    } else {
        if (r->key.p) {
            fputs(" key: ", stdout);
            fwrite(r->key.p, 1, (size_t)r->key.len, stdout);
        }
        if (r->value.p) {
            fputs(" payload: ", stdout);
            fwrite(r->value.p, 1, (size_t)r->value.len, stdout);
        }
    }
    putchar('\n');
}

static void json_record(struct json_out *j, const char *path, const struct batch_header *h, const struct record *r, print_decoded_fn *decoder) {
    json_object(j, NULL);
    json_text(j, "type", "record");
    json_text(j, "file", path);
    json_i64(j, "offset", r->offset);
    json_i64(j, "timestamp", r->timestamp);
    json_i64(j, "sequence", record_sequence(h, r));
    json_array(j, "headers");
    const uint8_t *cursor = r->headers_raw, *end = cursor + r->headers_raw_len;
    struct record_header header;
    for (int32_t i = 0; i < r->header_count && record_header_next(&cursor, end, &header) == OK; i++) {
        json_object(j, NULL);
        json_str(j, "key", header.key);
        json_bytes(j, "value", header.value);
        json_object_end(j);
    }
    json_array_end(j);
    int type = control_type(r);
    if (decoder && !(h->attributes & BATCH_CONTROL)) {
        decoder(j, false, r);
    } else if (!(h->attributes & BATCH_CONTROL)) {
        json_bytes(j, "key", r->key);
        json_bytes(j, "payload", r->value);
    } else if (type >= 0 && type <= CONTROL_KRAFT_VOTERS) {
        json_text(j, "control", control_names[type]);
        if (type <= CONTROL_COMMIT) json_i64(j, "coordinatorEpoch", marker_epoch(r));
    } else {
        json_i64(j, "control", type);
    }
    json_object_end(j);
    json_line(j);
}

void print_records(struct dump *d, const char *path, uint64_t position, const uint8_t *batch,
                   const struct batch_header *h) {
    struct record_iter it;
    struct record r;
    print_decoded_fn *decoder = decoder_of(d, path);
    enum err err = batch_check(h);
    if (err == OK) err = record_iter_init(&it, batch, h, BATCH_BYTES_MAX);
    if (err == ERR_TOO_LARGE) {
        dump_note(d, path, "position %" PRIu64 ": records are not shown, they are larger than %u bytes", position,
                  BATCH_BYTES_MAX);
        return;
    }
    if (err != OK) {
        dump_damage(d, path, position, "records cannot be read: %s", err_str(err));
        return;
    }
    while ((err = record_iter_next(&it, &r)) == OK) {
        if (!filter_record(&d->filter, &r)) continue;
        if (d->json) json_record(&d->out, path, h, &r, decoder);
        else text_record(h, &r, decoder);
    }
    if (err != ERR_NOT_FOUND) dump_damage(d, path, position, "records cannot be read: %s", err_str(err));
    record_iter_free(&it);
}

bool records_match(struct dump *d, const uint8_t *batch, const struct batch_header *h) {
    struct record_iter it;
    struct record r;
    bool found = false;
    if (batch_check(h) != OK || record_iter_init(&it, batch, h, BATCH_BYTES_MAX) != OK) return true; /* said when it is shown */
    while (!found && record_iter_next(&it, &r) == OK) found = filter_record(&d->filter, &r);
    record_iter_free(&it);
    return found;
}
