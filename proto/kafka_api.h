/* kafka_api.h - what the generated code (proto/kafka_messages.h) looks like, and the table of APIs.
 *
 * proto/kafka.schema describes every message; proto/protogen.c turns it into C at build time:
 * `proto/kafka_messages.h` and `.c` in the build folder. For a message `FooRequest`:
 *
 *   struct k_foo_request { ... };
 *   void     k_foo_request_init(struct k_foo_request *m);                      defaults everywhere
 *   enum err k_foo_request_decode(struct k_foo_request *m, struct wire_reader *r, int16_t version);
 *   void     k_foo_request_encode(const struct k_foo_request *m, struct wire_writer *w, int16_t version);
 *
 * Fields are Kafka's names in snake_case. Types: bool, intN_t, uintN_t, double, struct str (string),
 * struct bytes (bytes and records), struct uuid. An array field `topics` is a pair
 * `topics` (pointer) and `topics_n` (int32_t, -1 for null). The struct of an array's or struct
 * field's elements is named parent struct + "_" + field name: the partitions of FooRequest.topics
 * are `struct k_foo_request_topics_partitions`. A nullable struct field is a pointer, NULL for null.
 * Common structs that several fields share are named message + "_" + the struct's own name.
 * Each nested struct has its own `_init`. Decoding yields views into the frame and arrays in the
 * reader's arena; encoding borrows everything. Fields absent in a version take their defaults when
 * decoded; when encoded, a non-default value in a field that the version lacks is dropped if the
 * schema says `ignorable`, otherwise ERR_INVALID.
 * A null string, bytes or records where null is not allowed is written as an empty one (so a zeroed struct
 * is fine but for defaults that are not zero: use _init); a null array (-1) or struct is ERR_INVALID.
 * `records` default to null; a Fetch response must say empty ({non-NULL, 0}).
 * After a failed decode the struct is safe to look at but means nothing.
 * Decoding outside the known versions is ERR_UNSUPPORTED, encoding ERR_INVALID. The generated header
 * also has the API keys (enum kafka_api_key: API_PRODUCE, ...) and, for the messages kept in
 * coordinator records, their types (K_OFFSET_COMMIT_KEY_TYPE, ...).
 * Nothing is consumed beyond the body: bytes left over are the caller's to judge. */
#ifndef PROTO_KAFKA_API_H
#define PROTO_KAFKA_API_H
#include "proto/wire.h"

/* One row for each API of the schema, whether served or not. */
struct kafka_api {
    int16_t key;
    const char *name;               /* "Produce" */
    int16_t min_version, max_version; /* that the codec knows */
    int16_t flexible_from;          /* first flexible version; INT16_MAX: never */
};
enum { KAFKA_OWN_KEYS_FIRST = 32000 };  /* from here on: Varve's own, which ApiVersions does not list; version 0 only */
const struct kafka_api *kafka_api_by_key(int16_t key); /* NULL: unknown */
const struct kafka_api *kafka_api_all(size_t *count);  /* ascending by key */
/* What a broker serves or advertises is its own decision, within these ranges or beside them
 * (Produce is advertised from 0). */

/* Request header v1 or v2, response header v0 or v1 (PROTOCOL: flexible versions have tag sections;
 * the ApiVersions response header is always v0). */
struct kafka_request_header {
    int16_t api_key, api_version;
    int32_t correlation_id;
    struct str client_id;           /* null becomes empty */
};
/* Reads key, version and, when the API and version are known, the rest. An ApiVersions request of
 * an unknown version >= 3 reads as header v2. ERR_UNSUPPORTED: unknown key or version (key, version and
 * correlation id are set). */
MUST_CHECK enum err kafka_request_header_read(struct wire_reader *r, struct kafka_request_header *h);
void kafka_request_header_write(struct wire_writer *w, const struct kafka_request_header *h);
void kafka_response_header_write(struct wire_writer *w, int16_t api_key, int16_t api_version, int32_t correlation_id);
MUST_CHECK enum err kafka_response_header_read(struct wire_reader *r, int16_t api_key, int16_t api_version, int32_t *correlation_id);

/* Names as Kafka spells them ("UNKNOWN_TOPIC_OR_PARTITION"); "UNKNOWN" when there is none. */
const char *kafka_error_name(int16_t code);
bool kafka_error_retriable(int16_t code);
#endif
