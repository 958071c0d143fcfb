#include "proto/group_records.h"

#include <stdlib.h>
#include "base/assert.h"

struct group_record_span {
    uint32_t key_at, key_len, value_len; /* the value lies behind the key */
    bool tombstone;
};

/* X(type of the key, message of the value, its version as Kafka 4.3 writes it, member of the union) */
#define VALUES(X)                                                                                             \
    X(K_LEGACY_OFFSET_COMMIT_KEY_TYPE, offset_commit_value, 1, offset_commit)                                 \
    X(K_OFFSET_COMMIT_KEY_TYPE, offset_commit_value, 4, offset_commit)                                        \
    X(K_GROUP_METADATA_KEY_TYPE, group_metadata_value, 3, group_metadata)                                     \
    X(K_CONSUMER_GROUP_METADATA_KEY_TYPE, consumer_group_metadata_value, 0, consumer_group)                   \
    X(K_CONSUMER_GROUP_PARTITION_METADATA_KEY_TYPE, consumer_group_partition_metadata_value, 0, partition_metadata) \
    X(K_CONSUMER_GROUP_MEMBER_METADATA_KEY_TYPE, consumer_group_member_metadata_value, 0, member)             \
    X(K_CONSUMER_GROUP_TARGET_ASSIGNMENT_METADATA_KEY_TYPE, consumer_group_target_assignment_metadata_value, 0, target_metadata) \
    X(K_CONSUMER_GROUP_TARGET_ASSIGNMENT_MEMBER_KEY_TYPE, consumer_group_target_assignment_member_value, 0, target_member) \
    X(K_CONSUMER_GROUP_CURRENT_MEMBER_ASSIGNMENT_KEY_TYPE, consumer_group_current_member_assignment_value, 0, current_member) \
    X(K_CONSUMER_GROUP_REGULAR_EXPRESSION_KEY_TYPE, consumer_group_regular_expression_value, 0, regex)

bool group_record_type_known(int16_t type) {
    switch (type) {
#define X(key_type, message, kafka_version, field) case key_type:
        VALUES(X)
#undef X
        return true;
    default:
        return false;
    }
}

/* Keys have no arrays, so they are written out: strings one after the other. */
enum err group_key_parse(struct bytes key, struct group_key *out) {
    struct wire_reader r = wire_reader_init(key.p, key.p ? (size_t)key.len : 0, NULL);
    *out = (struct group_key){.type = wire_get_i16(&r)};
    if (r.err) return r.err;
    if (!group_record_type_known(out->type)) return ERR_UNSUPPORTED;
    out->group = wire_get_str(&r, false, false);
    switch (out->type) {
    case K_LEGACY_OFFSET_COMMIT_KEY_TYPE:
    case K_OFFSET_COMMIT_KEY_TYPE:
        out->topic = wire_get_str(&r, false, false);
        out->partition = wire_get_i32(&r);
        break;
    case K_CONSUMER_GROUP_MEMBER_METADATA_KEY_TYPE:
    case K_CONSUMER_GROUP_TARGET_ASSIGNMENT_MEMBER_KEY_TYPE:
    case K_CONSUMER_GROUP_CURRENT_MEMBER_ASSIGNMENT_KEY_TYPE:
        out->member_id = wire_get_str(&r, false, false);
        break;
    case K_CONSUMER_GROUP_REGULAR_EXPRESSION_KEY_TYPE:
        out->regex = wire_get_str(&r, false, false);
        break;
    default:
        break;
    }
    return r.err;
}

static void key_write(struct wire_writer *w, const struct group_key *key) {
    wire_put_i16(w, key->type);
    wire_put_str(w, key->group, false, false);
    switch (key->type) {
    case K_LEGACY_OFFSET_COMMIT_KEY_TYPE:
    case K_OFFSET_COMMIT_KEY_TYPE:
        wire_put_str(w, key->topic, false, false);
        wire_put_i32(w, key->partition);
        break;
    case K_CONSUMER_GROUP_MEMBER_METADATA_KEY_TYPE:
    case K_CONSUMER_GROUP_TARGET_ASSIGNMENT_MEMBER_KEY_TYPE:
    case K_CONSUMER_GROUP_CURRENT_MEMBER_ASSIGNMENT_KEY_TYPE:
        wire_put_str(w, key->member_id, false, false);
        break;
    case K_CONSUMER_GROUP_REGULAR_EXPRESSION_KEY_TYPE:
        wire_put_str(w, key->regex, false, false);
        break;
    default:
        break;
    }
}

enum err group_value_parse(int16_t type, struct bytes value, struct arena *arena, struct group_value *out) {
    struct wire_reader r = wire_reader_init(value.p, value.p ? (size_t)value.len : 0, arena);
    *out = (struct group_value){.version = wire_get_i16(&r)};
    if (r.err) return r.err;
    switch (type) {
#define X(key_type, message, kafka_version, field) \
    case key_type: return k_##message##_decode(&out->field, &r, out->version);
        VALUES(X)
#undef X
    default: return ERR_UNSUPPORTED;
    }
}

void group_value_init(int16_t type, struct group_value *out) {
    *out = (struct group_value){0};
    switch (type) {
#define X(key_type, message, kafka_version, field)  \
    case key_type:                                  \
        out->version = kafka_version;               \
        k_##message##_init(&out->field);            \
        break;
        VALUES(X)
#undef X
    default: ASSERT(!"a type of record that is not ours");
    }
}

static void value_write(struct wire_writer *w, int16_t type, const struct group_value *value) {
    wire_put_i16(w, value->version);
    switch (type) {
#define X(key_type, message, kafka_version, field) \
    case key_type: k_##message##_encode(&value->field, w, value->version); break;
        VALUES(X)
#undef X
    default: break;
    }
}

/* ---- lists of records ------------------------------------------------------------------------- */

void group_records_init(struct group_records *records, size_t limit_bytes, uint32_t limit_count) {
    ASSERT(limit_bytes <= INT32_MAX);
    *records = (struct group_records){.limit = limit_count};
    wire_writer_init(&records->bytes, limit_bytes);
}

void group_records_free(struct group_records *records) {
    wire_writer_free(&records->bytes);
    free(records->spans);
    *records = (struct group_records){0};
}

void group_records_reset(struct group_records *records) {
    records->bytes.len = 0;
    records->bytes.err = OK;
    records->count = 0;
    records->err = OK;
}

static enum err span_room(struct group_records *records) {
    if (records->count < records->cap) return OK;
    if (records->cap == records->limit) return ERR_TOO_LARGE;
    uint32_t cap = records->cap ? records->cap : 4;
    cap = cap > records->limit / 2 ? records->limit : cap * 2;
    struct group_record_span *spans = realloc(records->spans, cap * sizeof *spans);
    if (!spans) return ERR_NOMEM;
    records->spans = spans;
    records->cap = cap;
    return OK;
}

void group_records_put(struct group_records *records, const struct group_key *key, const struct group_value *value) {
    ASSERT(group_record_type_known(key->type));
    if (records->err == OK) records->err = span_room(records);
    if (records->err != OK) return;
    struct wire_writer *w = &records->bytes;
    struct group_record_span span = {.key_at = (uint32_t)w->len, .tombstone = !value};
    key_write(w, key);
    span.key_len = (uint32_t)w->len - span.key_at;
    if (value) value_write(w, key->type, value);
    span.value_len = (uint32_t)w->len - span.key_at - span.key_len;
    records->err = w->err;
    if (w->err) w->len = span.key_at; /* what was complete stays readable */
    else records->spans[records->count++] = span;
}

struct bytes group_records_key(const struct group_records *records, uint32_t i) {
    ASSERT(i < records->count);
    const struct group_record_span *span = &records->spans[i];
    return (struct bytes){records->bytes.data + span->key_at, (int32_t)span->key_len};
}

struct bytes group_records_value(const struct group_records *records, uint32_t i) {
    ASSERT(i < records->count);
    const struct group_record_span *span = &records->spans[i];
    if (span->tombstone) return BYTES_NULL;
    return (struct bytes){records->bytes.data + span->key_at + span->key_len, (int32_t)span->value_len};
}
