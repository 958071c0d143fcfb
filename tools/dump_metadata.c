/* dump_metadata.c - records of `__cluster_metadata` (proto/metadata.proto) as JSON, in the shape of kafka-dump-log
 * --cluster-metadata-decoder: {"type":"TOPIC_RECORD","data":{...}}. A piece of a snapshot says so: "kept", as in the record.
 *
 * Fields are shown as the descriptors of the messages have them, so a kind that is new there is shown without a line here. */
#include <ctype.h>
#include <inttypes.h>
#include "log/kafka_files.h"
#include "proto/metadata.pb-c.h"
#include "proto/unpack.h"
#include "tools/dump.h"

enum { NAME_BYTES_MAX = 64, KAFKA_FRAME_VERSION = 1 };

bool is_metadata_file(const char *path) { return dump_folder_is_of(path, "__cluster_metadata-"); }

/* ---- fields ---------------------------------------------------------------------------------- */

/* topic_id is shown as topicId. */
static const char *camel(const char *name, char out[NAME_BYTES_MAX]) {
    size_t n = 0;
    for (const char *p = name; *p && n + 1 < NAME_BYTES_MAX; p++) {
        if (*p == '_' && p[1]) p++, out[n++] = (char)toupper((unsigned char)*p);
        else out[n++] = *p;
    }
    out[n] = '\0';
    return out;
}

/* Of the bytes in these records, some are text; the others are the ids of topics and of lives of brokers' disks. */
static bool is_uuid(const char *name) {
    return strcmp(name, "id") == 0 || strcmp(name, "topic_id") == 0 || strcmp(name, "incarnation") == 0;
}

static void put_binary(struct json_out *j, const char *key, const char *name, const ProtobufCBinaryData *b) {
    char text[UUID_TEXT_BYTES];
    struct uuid id;
    if (!is_uuid(name)) {
        json_bytes(j, key, (struct bytes){b->len > 0 ? b->data : (const uint8_t *)"", (int32_t)b->len});
    } else if (b->len == sizeof id.b) {
        memcpy(id.b, b->data, sizeof id.b);
        uuid_to_text(&id, text);
        json_text(j, key, text);
    } else if (b->len > 0) {
        json_hex(j, key, b->data, b->len);
    } else {
        json_null(j, key);
    }
}

static void put_fields(struct json_out *j, const ProtobufCMessage *m);

static void put_message(struct json_out *j, const char *key, const ProtobufCMessage *m) {
    if (!m) {
        json_null(j, key);
        return;
    }
    json_object(j, key);
    put_fields(j, m);
    json_object_end(j);
}

/* Returns how many bytes one value takes where `at` points to. */
static size_t put_value(struct json_out *j, const char *key, const ProtobufCFieldDescriptor *f, const void *at) {
    switch (f->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_ENUM: json_i64(j, key, *(const int32_t *)at); return sizeof(int32_t);
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32: json_u64(j, key, *(const uint32_t *)at); return sizeof(uint32_t);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64: json_i64(j, key, *(const int64_t *)at); return sizeof(int64_t);
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64: json_u64(j, key, *(const uint64_t *)at); return sizeof(uint64_t);
    case PROTOBUF_C_TYPE_FLOAT: json_f64(j, key, (double)*(const float *)at); return sizeof(float);
    case PROTOBUF_C_TYPE_DOUBLE: json_f64(j, key, *(const double *)at); return sizeof(double);
    case PROTOBUF_C_TYPE_BOOL: json_bool(j, key, *(const protobuf_c_boolean *)at); return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_STRING: json_text(j, key, *(char *const *)at); return sizeof(char *);
    case PROTOBUF_C_TYPE_BYTES: put_binary(j, key, f->name, at); return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_MESSAGE: put_message(j, key, *(const ProtobufCMessage *const *)at); return sizeof(ProtobufCMessage *);
    }
    json_null(j, key);
    return 0;
}

static void put_list(struct json_out *j, const char *key, const ProtobufCFieldDescriptor *f, const uint8_t *message) {
    size_t count;
    const uint8_t *at;
    memcpy(&count, message + f->quantifier_offset, sizeof count);
    memcpy(&at, message + f->offset, sizeof at);
    json_array(j, key);
    for (size_t i = 0; i < count; i++) at += put_value(j, NULL, f, at);
    json_array_end(j);
}

/* How deep this goes the messages say: none holds one of its own kind. */
static void put_fields(struct json_out *j, const ProtobufCMessage *m) {
    const uint8_t *bytes = (const uint8_t *)m;
    char key[NAME_BYTES_MAX];
    for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
        if (f->label == PROTOBUF_C_LABEL_REPEATED) put_list(j, camel(f->name, key), f, bytes);
        else put_value(j, camel(f->name, key), f, bytes + f->offset);
    }
    if (m->n_unknown_fields > 0) json_u64(j, "unknownFields", m->n_unknown_fields); /* a later version wrote it */
}

/* ---- records ---------------------------------------------------------------------------------- */

static void put_record(struct json_out *j, const char *name, const Varve__Metadata__Record *r) {
    const ProtobufCFieldDescriptor *f = protobuf_c_message_descriptor_get_field(r->base.descriptor, (unsigned)r->kind_case);
    char type[NAME_BYTES_MAX] = "", *p = type;
    snprintf(type, sizeof type, "%s_record", f->name);
    for (; *p; p++) *p = (char)toupper((unsigned char)*p);
    json_object(j, name);
    json_text(j, "type", type);
    if (r->kept) json_u64(j, "kept", r->kept);
    put_value(j, "data", f, (const uint8_t *)r + f->offset);
    json_object_end(j);
}

/* A record of Kafka's own begins with the version of its frame, its type and its version. */
static bool is_kafkas(const struct bytes *value) {
    return value->len >= 3 && value->p[0] == KAFKA_FRAME_VERSION && value->p[1] < 0x80 && value->p[2] < 0x80;
}

/* Why the record cannot be shown. */
static void say_why(char *out, size_t size, const struct record *r, const Varve__Metadata__Record *m) {
    if (!r->value.p) snprintf(out, size, "Error at offset %" PRId64 ", skipping. It has no value", r->offset);
    else if (is_kafkas(&r->value))
        snprintf(out, size, "Error at offset %" PRId64 ", skipping. It is a record of Kafka's own, type %d, version %d", r->offset, r->value.p[1], r->value.p[2]);
    else if (!m) snprintf(out, size, "Error at offset %" PRId64 ", skipping. It does not parse", r->offset);
    else if (m->base.n_unknown_fields > 0)
        snprintf(out, size, "Unknown record kind %" PRIu32 " at offset %" PRId64 ", skipping.", m->base.unknown_fields[0].tag, r->offset);
    else snprintf(out, size, "Error at offset %" PRId64 ", skipping. It is of no kind", r->offset);
}

void print_metadata_record(struct json_out *out, bool text, const struct record *r) {
    struct arena arena;
    struct json_out plain;
    char why[120];
    const Varve__Metadata__Record *m = unpack(&arena, &varve__metadata__record__descriptor, r->value, UNPACK_BYTES);
    bool known = m && r->value.p && !is_kafkas(&r->value) && m->kind_case != VARVE__METADATA__RECORD__KIND__NOT_SET;
    if (!known) say_why(why, sizeof why, r, m);
    if (!text) json_bytes(out, "key", r->key); /* none, in records of ours */
    if (text) {
        json_init(&plain, stdout);
        fputs(" payload: ", stdout);
        if (known) put_record(&plain, NULL, m);
        else fputs(why, stdout);
    } else if (known) {
        put_record(out, "payload", m);
    } else {
        json_text(out, "undecoded", why);
        if (r->value.p) json_hex(out, "payload", r->value.p, (size_t)r->value.len);
        else json_null(out, "payload");
    }
    arena_free(&arena);
}
