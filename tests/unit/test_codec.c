/* test_codec.c - the generated codec, all messages and versions alike: round trips of random values,
 * truncation at every byte, damage; vectors of another codec; frames of real clients; the rules
 * for values that a version lacks, tags and memory. */
#include <check.h>
#include <stdlib.h>
#include "proto/kafka_errors.h"
#include "proto/kafka_messages_test.h"

enum { SEEDS = 40, ARENA_BYTES = 4 << 20, WRITER_BYTES = 8 << 20 };

/* Makes, encodes and decodes values of one message; all memory goes with the next one. */
struct bench {
    struct arena values, decoded;
    struct wire_writer w, second; /* what was decoded points into `w` */
};

static void bench_init(struct bench *b) {
    arena_init(&b->values, ARENA_BYTES);
    arena_init(&b->decoded, ARENA_BYTES);
    wire_writer_init(&b->w, WRITER_BYTES);
    wire_writer_init(&b->second, WRITER_BYTES);
}

static void bench_free(struct bench *b) {
    arena_free(&b->values);
    arena_free(&b->decoded);
    wire_writer_free(&b->w);
    wire_writer_free(&b->second);
}

/* A random value and, in the writer, its encoding. */
static void *bench_value(struct bench *b, const struct codec_message *m, int16_t version, uint64_t seed) {
    arena_reset(&b->values);
    b->w.len = b->second.len = 0;
    void *value = arena_alloc(&b->values, m->size);
    struct codec_fill fill = {&b->values, seed};
    m->fill(value, &fill, version);
    m->encode(value, &b->w, version);
    ck_assert_msg(b->w.err == OK, "%s v%d seed %llu: %s", m->name, version, (unsigned long long)seed, err_str(b->w.err));
    return value;
}

static enum err bench_decode(struct bench *b, const struct codec_message *m, int16_t version, const void *p, size_t len,
                             void **out, size_t *left) {
    arena_reset(&b->decoded);
    *out = arena_alloc(&b->decoded, m->size);
    memset(*out, 0xa5, m->size); /* decoding must not rely on what was there */
    struct wire_reader r = wire_reader_init(p, len, &b->decoded);
    enum err err = m->decode(*out, &r, version);
    *left = wire_left(&r);
    return err;
}

#define FOR_ALL(m, version)                                                                       \
    for (const struct codec_message *m = kafka_message_tests; m < kafka_message_tests + KAFKA_MESSAGE_TESTS; m++) \
        for (int16_t version = m->min_version; version <= m->max_version; version++)

START_TEST(round_trips) {
    FOR_ALL(m, version) {
        struct bench b;
        bench_init(&b);
        for (uint64_t seed = 0; seed < SEEDS; seed++) {
            void *value = bench_value(&b, m, version, seed), *again;
            size_t left;
            enum err err = bench_decode(&b, m, version, b.w.data, b.w.len, &again, &left);
            ck_assert_msg(err == OK && left == 0 && m->equal(value, again), "%s v%d seed %d: %s, %zu left", m->name,
                          version, (int)seed, err_str(err), left);
            m->encode(again, &b.second, version);
            ck_assert_msg(b.second.len == b.w.len && (b.w.len == 0 || memcmp(b.second.data, b.w.data, b.w.len) == 0),
                          "%s v%d seed %d: other bytes", m->name, version, (int)seed);
        }
        bench_free(&b);
    }
}
END_TEST

START_TEST(truncation_at_every_byte_is_an_error) {
    FOR_ALL(m, version) {
        struct bench b;
        bench_init(&b);
        for (uint64_t seed = 0; seed < 3; seed++) {
            void *again;
            size_t left;
            bench_value(&b, m, version, seed);
            uint8_t *block = malloc(b.w.len + 1);
            for (size_t len = 0; len < b.w.len; len++) {
                /* At the end of the block, where a sanitizer sees a read beyond it. */
                uint8_t *p = block + b.w.len + 1 - len;
                memcpy(p, b.w.data, len);
                ck_assert_msg(bench_decode(&b, m, version, p, len, &again, &left) != OK,
                              "%s v%d seed %d: %zu of %zu bytes are enough",
                              m->name, version, (int)seed, len, b.w.len);
            }
            free(block);
        }
        bench_free(&b);
    }
}
END_TEST

START_TEST(damage_is_an_error_or_another_value) {
    struct codec_fill random = {NULL, 77};
    FOR_ALL(m, version) {
        struct bench b;
        bench_init(&b);
        for (uint64_t seed = 0; seed < 20; seed++) {
            void *again, *third;
            size_t left;
            bench_value(&b, m, version, seed);
            if (b.w.len == 0) break;
            size_t len = b.w.len;
            b.w.data[(uint32_t)fill_i32(&random) % len] = (uint8_t)fill_i8(&random);
            if (bench_decode(&b, m, version, b.w.data, len, &again, &left) != OK) continue;
            m->encode(again, &b.second, version);
            ck_assert_msg(b.second.err == OK, "%s v%d seed %d: decoded but not encoded", m->name, version, (int)seed);
            ck_assert_int_eq(bench_decode(&b, m, version, b.second.data, b.second.len, &third, &left), OK);
        }
        bench_free(&b);
    }
}
END_TEST

START_TEST(defaults_survive_every_version) {
    FOR_ALL(m, version) {
        struct bench b;
        bench_init(&b);
        void *value = arena_alloc(&b.values, m->size), *again;
        size_t left;
        m->init(value);
        m->encode(value, &b.w, version);
        if (b.w.err == OK) { /* a default of null may not be allowed in old versions */
            ck_assert_int_eq(bench_decode(&b, m, version, b.w.data, b.w.len, &again, &left), OK);
            ck_assert_uint_eq(left, 0);
        } else {
            ck_assert_int_eq(b.w.err, ERR_INVALID);
        }
        bench_free(&b);
    }
}
END_TEST

START_TEST(versions_outside_the_range_are_refused) {
    for (const struct codec_message *m = kafka_message_tests; m < kafka_message_tests + KAFKA_MESSAGE_TESTS; m++) {
        struct bench b;
        bench_init(&b);
        void *again;
        size_t left;
        const int16_t outside[] = {(int16_t)(m->min_version - 1), (int16_t)(m->max_version + 1), INT16_MAX, INT16_MIN};
        for (size_t i = 0; i < ARRAY_LEN(outside); i++) {
            ck_assert_int_eq(bench_decode(&b, m, outside[i], "0123456789abcdef", 16, &again, &left), ERR_UNSUPPORTED);
            void *value = arena_alloc(&b.values, m->size);
            m->init(value);
            b.w.err = OK;
            m->encode(value, &b.w, outside[i]);
            ck_assert_int_eq(b.w.err, ERR_INVALID);
        }
        bench_free(&b);
    }
}
END_TEST

/* ---- data files -------------------------------------------------------------------------- */

static const struct codec_message *message_named(const char *name) {
    for (const struct codec_message *m = kafka_message_tests; m < kafka_message_tests + KAFKA_MESSAGE_TESTS; m++)
        if (strcmp(m->name, name) == 0) return m;
    ck_abort_msg("no message %s", name);
}

static const struct codec_message *message_of(int16_t key, bool request) {
    for (const struct codec_message *m = kafka_message_tests; m < kafka_message_tests + KAFKA_MESSAGE_TESTS; m++)
        if (m->api_key == key && m->request == request) return m;
    ck_abort_msg("no API %d", key);
}

struct table { FILE *in; char *line; size_t cap; char *cells[8]; };

static struct table table_open(const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", TEST_DATA_DIR, name);
    struct table t = {.in = fopen(path, "r")};
    ck_assert_msg(t.in != NULL, "%s", path);
    return t;
}

/* The cells of the next line; false at the end, when all is freed. */
static bool table_next(struct table *t, int columns) {
    do {
        if (getline(&t->line, &t->cap, t->in) < 0) {
            free(t->line);
            fclose(t->in);
            return false;
        }
    } while (t->line[0] == '#');
    char *rest = t->line;
    t->line[strcspn(t->line, "\n")] = '\0';
    for (int i = 0; i < columns; i++) t->cells[i] = strsep(&rest, "\t");
    ck_assert(t->cells[columns - 1] != NULL && rest == NULL);
    return true;
}

/* malloc'ed; exactly as large as it needs to be. */
static uint8_t *unhex(const char *hex, size_t *len) {
    *len = strlen(hex) / 2;
    uint8_t *bytes = malloc(*len + !*len);
    for (size_t i = 0; i < *len; i++) {
        unsigned byte;
        ck_assert_int_eq(sscanf(hex + 2 * i, "%2x", &byte), 1);
        bytes[i] = (uint8_t)byte;
    }
    return bytes;
}

START_TEST(vectors_of_another_codec) {
    struct table t = table_open("vectors.tsv");
    int count = 0, expected = 0;
    while (table_next(&t, 4)) {
        const struct codec_message *m = message_named(t.cells[0]);
        int16_t version = (int16_t)atoi(t.cells[1]);
        struct bench b;
        bench_init(&b);
        void *value;
        size_t len, left, text_len;
        uint8_t *bytes = unhex(t.cells[2], &len);
        enum err err = bench_decode(&b, m, version, bytes, len, &value, &left);
        ck_assert_msg(err == OK && left == 0, "%s v%d: %s, %zu left", m->name, version, err_str(err), left);
        char *text;
        FILE *out = open_memstream(&text, &text_len);
        m->dump(out, value, version);
        fclose(out);
        ck_assert_msg(strcmp(text, t.cells[3]) == 0, "%s v%d:\n%s\n%s", m->name, version, text, t.cells[3]);
        m->encode(value, &b.w, version);
        ck_assert_msg(b.w.err == OK && b.w.len == len && (len == 0 || memcmp(b.w.data, bytes, len) == 0),
                      "%s v%d: other bytes", m->name, version);
        free(text);
        free(bytes);
        bench_free(&b);
        count++;
    }
    FOR_ALL(m, version) expected += m->api_key < KAFKA_OWN_KEYS_FIRST; /* what is ours nobody else knows */
    ck_assert_int_eq(count, expected);
}
END_TEST

START_TEST(frames_of_real_clients) {
    struct table t = table_open("captures.tsv");
    int count = 0;
    while (table_next(&t, 6)) {
        size_t len, left;
        uint8_t *bytes = unhex(t.cells[5], &len);
        struct bench b;
        bench_init(&b);
        struct kafka_request_header header;
        struct wire_reader r = wire_reader_init(bytes, len, &b.values);
        ck_assert_int_eq(kafka_request_header_read(&r, &header), OK);
        ck_assert_int_eq(header.api_key, atoi(t.cells[0]));
        ck_assert_int_eq(header.api_version, atoi(t.cells[1]));
        ck_assert_str_eq(kafka_api_by_key(header.api_key)->name, t.cells[2]);
        const struct codec_message *m = message_of(header.api_key, true);
        void *value;
        ck_assert_msg(bench_decode(&b, m, header.api_version, r.p, wire_left(&r), &value, &left) == OK, "%s v%s %s",
                      t.cells[2], t.cells[1], t.cells[3]);
        ck_assert_uint_eq(left, (size_t)atoi(t.cells[4]));
        kafka_request_header_write(&b.w, &header);
        m->encode(value, &b.w, header.api_version);
        ck_assert_int_eq(b.w.err, OK);
        ck_assert_msg(b.w.len == len - left && memcmp(b.w.data, bytes, b.w.len) == 0, "%s v%s %s: other bytes",
                      t.cells[2], t.cells[1], t.cells[3]);
        bench_free(&b);
        free(bytes);
        count++;
    }
    ck_assert_int_gt(count, 150);
}
END_TEST

/* ---- single rules ------------------------------------------------------------------------ */

static struct bench bench;
static void setup(void) { bench_init(&bench); }
static void teardown(void) { bench_free(&bench); }
static struct wire_reader written(void) { return wire_reader_init(bench.w.data, bench.w.len, &bench.decoded); }

START_TEST(values_that_a_version_lacks) {
    struct k_fetch_request m, again;
    struct k_fetch_request_topics topic;
    struct k_fetch_request_topics_partitions partition;
    k_fetch_request_init(&m);
    k_fetch_request_topics_init(&topic);
    k_fetch_request_topics_partitions_init(&partition);
    m.topics = &topic, m.topics_n = 1;
    topic.partitions = &partition, topic.partitions_n = 1;
    m.rack_id = STR_LIT("rack");           /* 11+, may be dropped */
    partition.last_fetched_epoch = 5;      /* 12+, may not */
    k_fetch_request_encode(&m, &bench.w, 4);
    ck_assert_int_eq(bench.w.err, ERR_INVALID);
    bench.w.err = OK;
    bench.w.len = 0;
    partition.last_fetched_epoch = -1;
    k_fetch_request_encode(&m, &bench.w, 4);
    ck_assert_int_eq(bench.w.err, OK);
    struct wire_reader r = written();
    ck_assert_int_eq(k_fetch_request_decode(&again, &r, 4), OK);
    ck_assert(str_is(again.rack_id, ""));
    ck_assert_int_eq(again.session_epoch, -1);
    ck_assert_int_eq(again.topics[0].partitions[0].last_fetched_epoch, -1);
    ck_assert_int_eq(again.topics[0].partitions[0].high_watermark, INT64_MAX);
}
END_TEST

START_TEST(a_tagged_struct_that_a_version_lacks) {
    struct k_fetch_request m;
    k_fetch_request_init(&m);
    m.replica_state.replica_id = 3; /* 15+ */
    k_fetch_request_encode(&m, &bench.w, 14);
    ck_assert_int_eq(bench.w.err, ERR_INVALID);
}
END_TEST

START_TEST(null_arrays) {
    struct k_metadata_request m, again;
    k_metadata_request_init(&m);
    m.topics_n = -1;
    k_metadata_request_encode(&m, &bench.w, 0); /* null is for 1+ */
    ck_assert_int_eq(bench.w.err, ERR_INVALID);
    for (int16_t version = 1; version <= 12; version += 11) {
        bench.w.err = OK;
        bench.w.len = 0;
        k_metadata_request_encode(&m, &bench.w, version);
        ck_assert_int_eq(bench.w.err, OK);
        struct wire_reader r = written();
        ck_assert_int_eq(k_metadata_request_decode(&again, &r, version), OK);
        ck_assert_int_eq(again.topics_n, -1);
    }
    struct wire_reader r = wire_reader_init("\xff\xff\xff\xff", 4, &bench.decoded);
    ck_assert_int_eq(k_metadata_request_decode(&again, &r, 0), ERR_CORRUPT);
}
END_TEST

START_TEST(nullable_structs) {
    struct k_consumer_group_heartbeat_response m, again;
    struct k_consumer_group_heartbeat_response_assignment assignment;
    k_consumer_group_heartbeat_response_init(&m);
    k_consumer_group_heartbeat_response_assignment_init(&assignment);
    for (int present = 0; present < 2; present++) {
        m.assignment = present ? &assignment : NULL;
        bench.w.len = 0;
        k_consumer_group_heartbeat_response_encode(&m, &bench.w, 0);
        struct wire_reader r = written();
        ck_assert_int_eq(k_consumer_group_heartbeat_response_decode(&again, &r, 0), OK);
        ck_assert_int_eq(again.assignment != NULL, present);
    }
}
END_TEST

/* ApiVersions v3 request: name, version, tags. */
START_TEST(unknown_tags_are_skipped) {
    static const uint8_t bytes[] = {2, 'n', 2, 'v', 2, 0, 3, 'a', 'b', 'c', 0xe8, 0x07, 0};
    struct k_api_versions_request m;
    struct wire_reader r = wire_reader_init(bytes, sizeof bytes, &bench.decoded);
    ck_assert_int_eq(k_api_versions_request_decode(&m, &r, 3), OK);
    ck_assert_uint_eq(wire_left(&r), 0);
    ck_assert(str_is(m.client_software_version, "v"));
}
END_TEST

START_TEST(a_tag_may_not_reach_beyond_or_fall_short) {
    /* Fetch v12 ends with its tags; tag 0 is the cluster id. */
    struct k_fetch_request m;
    k_fetch_request_init(&m);
    m.cluster_id = STR_LIT("c");
    k_fetch_request_encode(&m, &bench.w, 12);
    struct wire_reader r = written();
    ck_assert_int_eq(k_fetch_request_decode(&m, &r, 12), OK);
    ck_assert(str_is(m.cluster_id, "c"));
    uint8_t *size = bench.w.data + bench.w.len - 3;
    ck_assert_uint_eq(*size, 2);
    *size = 1; /* the string does not fit */
    r = written();
    ck_assert_int_ne(k_fetch_request_decode(&m, &r, 12), OK);
    *size = 3; /* beyond the frame */
    r = written();
    ck_assert_int_eq(k_fetch_request_decode(&m, &r, 12), ERR_TRUNCATED);
    *size = 2;
    size[1] = 1; /* an empty string leaves a byte */
    r = written();
    ck_assert_int_eq(k_fetch_request_decode(&m, &r, 12), ERR_CORRUPT);
}
END_TEST

START_TEST(a_long_tagged_value) {
    struct k_fetch_request m, again;
    static char cluster[3000];
    memset(cluster, 'c', sizeof cluster);
    k_fetch_request_init(&m);
    m.cluster_id = (struct str){cluster, sizeof cluster};
    m.replica_state.replica_epoch = 9;
    k_fetch_request_encode(&m, &bench.w, 17);
    ck_assert_int_eq(bench.w.err, OK);
    struct wire_reader r = written();
    ck_assert_int_eq(k_fetch_request_decode(&again, &r, 17), OK);
    ck_assert(str_eq(again.cluster_id, m.cluster_id));
    ck_assert_int_eq(again.replica_state.replica_id, -1);
    ck_assert_int_eq(again.replica_state.replica_epoch, 9);
}
END_TEST

START_TEST(decoded_arrays_stay_within_the_arena) {
    /* A frame of one-byte elements whose structs are many times larger. */
    enum { COUNT = 100000 };
    struct k_metadata_request m;
    struct arena small;
    arena_init(&small, 64 << 10);
    uint8_t *frame = calloc(1, 4 + 2 * COUNT);
    store_be32(frame, COUNT);
    struct wire_reader r = wire_reader_init(frame, 4 + 2 * COUNT, &small);
    ck_assert_int_eq(k_metadata_request_decode(&m, &r, 0), ERR_NOMEM);
    ck_assert_uint_le(small.used_bytes, 64 << 10);
    store_be32(frame, 2 * COUNT); /* refused before the arena is asked */
    arena_reset(&small);
    r = wire_reader_init(frame, 4 + 2 * COUNT, &small);
    ck_assert_int_eq(k_metadata_request_decode(&m, &r, 0), ERR_TRUNCATED);
    ck_assert_uint_eq(small.used_bytes, 0);
    free(frame);
    arena_free(&small);
}
END_TEST

START_TEST(records_are_referenced_and_views) {
    static uint8_t records[5000];
    struct k_produce_request m, again;
    struct k_produce_request_topic_data topic;
    struct k_produce_request_topic_data_partition_data partition;
    k_produce_request_init(&m);
    k_produce_request_topic_data_init(&topic);
    k_produce_request_topic_data_partition_data_init(&partition);
    m.topic_data = &topic, m.topic_data_n = 1;
    topic.partition_data = &partition, topic.partition_data_n = 1;
    partition.records = (struct bytes){records, sizeof records};
    k_produce_request_encode(&m, &bench.w, 9);
    struct wire_reader r = written();
    ck_assert_int_eq(k_produce_request_decode(&again, &r, 9), OK);
    const uint8_t *p = again.topic_data[0].partition_data[0].records.p;
    ck_assert(p > bench.w.data && p + sizeof records <= bench.w.data + bench.w.len);
    size_t len = bench.w.len;
    bench.w.len = 0;
    bench.w.ref_min_bytes = 1024;
    k_produce_request_encode(&m, &bench.w, 9);
    ck_assert_uint_eq(bench.w.ref_count, 1);
    ck_assert_ptr_eq(bench.w.refs[0].b.p, records);
    ck_assert_uint_eq(wire_writer_total(&bench.w), len);
}
END_TEST

START_TEST(bytes_after_the_body_are_left) {
    struct k_heartbeat_request m, again;
    k_heartbeat_request_init(&m);
    k_heartbeat_request_encode(&m, &bench.w, 4);
    wire_put_raw(&bench.w, "\x01\x00\x00", 3);
    struct wire_reader r = written();
    ck_assert_int_eq(k_heartbeat_request_decode(&again, &r, 4), OK);
    ck_assert_uint_eq(wire_left(&r), 3);
}
END_TEST

/* ---- headers and tables ------------------------------------------------------------------ */

START_TEST(the_client_id_of_a_flexible_header_is_not_compact) {
    struct kafka_request_header h = {API_METADATA, 9, 7, STR_LIT("me")}, again;
    kafka_request_header_write(&bench.w, &h);
    ck_assert_uint_eq(bench.w.len, 13);
    ck_assert_mem_eq(bench.w.data, "\x00\x03\x00\x09\x00\x00\x00\x07\x00\x02me\x00", 13);
    struct wire_reader r = written();
    ck_assert_int_eq(kafka_request_header_read(&r, &again), OK);
    ck_assert(str_is(again.client_id, "me"));
    ck_assert_uint_eq(wire_left(&r), 0);
}
END_TEST

START_TEST(a_null_client_id_becomes_empty) {
    struct kafka_request_header h;
    struct wire_reader r = wire_reader_init("\x00\x03\x00\x01\x00\x00\x00\x07\xff\xff", 10, &bench.decoded);
    ck_assert_int_eq(kafka_request_header_read(&r, &h), OK);
    ck_assert(str_is(h.client_id, ""));
}
END_TEST

START_TEST(unknown_keys_and_versions) {
    static const struct { const char *bytes; int16_t key, version; } cases[] = {
        {"\x00\x03\x00\x63\x00\x00\x00\x07\x00\x00", 3, 99}, {"\x03\xe7\x00\x00\x00\x00\x00\x07\x00\x00", 999, 0},
        {"\x00\x00\x00\x02\x00\x00\x00\x07\x00\x00", 0, 2}, {"\xff\xff\xff\xff\x00\x00\x00\x07\x00\x00", -1, -1},
        {"\x00\x12\xff\xff\x00\x00\x00\x07\x00\x00", 18, -1}, {"\x00\x04\x00\x00\x00\x00\x00\x07\x00\x00", 4, 0}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct kafka_request_header h;
        struct wire_reader r = wire_reader_init(cases[i].bytes, 10, &bench.decoded);
        ck_assert_int_eq(kafka_request_header_read(&r, &h), ERR_UNSUPPORTED);
        ck_assert_int_eq(h.api_key, cases[i].key);
        ck_assert_int_eq(h.api_version, cases[i].version);
        ck_assert_int_eq(h.correlation_id, 7);
    }
}
END_TEST

START_TEST(api_versions_of_the_future) {
    struct kafka_request_header h;
    struct wire_reader r = wire_reader_init("\x00\x12\x00\x09\x00\x00\x00\x07\x00\x01x\x00rest", 16, &bench.decoded);
    ck_assert_int_eq(kafka_request_header_read(&r, &h), ERR_UNSUPPORTED);
    ck_assert_int_eq(h.correlation_id, 7);
    ck_assert(str_is(h.client_id, "x"));
    ck_assert_uint_eq(wire_left(&r), 4);
}
END_TEST

START_TEST(response_headers) {
    static const struct { int16_t key, version; size_t len; } cases[] = {
        {API_METADATA, 8, 4}, {API_METADATA, 9, 5}, {API_API_VERSIONS, 0, 4},
        {API_API_VERSIONS, 3, 4}, {API_API_VERSIONS, 4, 4},
        {API_SASL_HANDSHAKE, 1, 4}, {API_CONSUMER_GROUP_HEARTBEAT, 0, 5}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int32_t correlation;
        bench.w.len = 0;
        kafka_response_header_write(&bench.w, cases[i].key, cases[i].version, 12345);
        ck_assert_uint_eq(bench.w.len, cases[i].len);
        struct wire_reader r = written();
        ck_assert_int_eq(kafka_response_header_read(&r, cases[i].key, cases[i].version, &correlation), OK);
        ck_assert_int_eq(correlation, 12345);
        ck_assert_uint_eq(wire_left(&r), 0);
    }
}
END_TEST

START_TEST(the_table_of_apis) {
    size_t count;
    const struct kafka_api *all = kafka_api_all(&count);
    ck_assert_uint_ge(count, 70);
    for (size_t i = 0; i < count; i++) {
        ck_assert(i == 0 || all[i - 1].key < all[i].key);
        ck_assert_ptr_eq(kafka_api_by_key(all[i].key), &all[i]);
        ck_assert_int_le(all[i].min_version, all[i].max_version);
    }
    ck_assert_ptr_null(kafka_api_by_key(-1));
    ck_assert_ptr_null(kafka_api_by_key(5));
    ck_assert_ptr_null(kafka_api_by_key(INT16_MAX));
    ck_assert_int_eq(kafka_api_by_key(API_FETCH)->flexible_from, 12);
    ck_assert_int_eq(kafka_api_by_key(API_OFFSET_DELETE)->flexible_from, INT16_MAX);
}
END_TEST

START_TEST(names_of_errors) {
    ck_assert_str_eq(kafka_error_name(KERR_NONE), "NONE");
    ck_assert_str_eq(kafka_error_name(-1), "UNKNOWN_SERVER_ERROR");
    ck_assert_str_eq(kafka_error_name(3), "UNKNOWN_TOPIC_OR_PARTITION");
    ck_assert_str_eq(kafka_error_name(133), "SHARE_SESSION_LIMIT_REACHED");
    ck_assert_str_eq(kafka_error_name(134), "UNKNOWN");
    ck_assert_str_eq(kafka_error_name(-2), "UNKNOWN");
    ck_assert_str_eq(kafka_error_name(INT16_MIN), "UNKNOWN");
    ck_assert(kafka_error_retriable(KERR_NOT_LEADER_OR_FOLLOWER));
    ck_assert(!kafka_error_retriable(KERR_NONE));
    ck_assert(!kafka_error_retriable(KERR_MESSAGE_TOO_LARGE));
    ck_assert(!kafka_error_retriable(500));
    ck_assert_int_eq(KERR_PRODUCER_FENCED, 90);
    ck_assert_int_eq(KERR_UNKNOWN_TOPIC_ID, 100);
}
END_TEST

int main(void) {
    Suite *s = suite_create("codec");
    TCase *all = tcase_create("all messages"), *rules = tcase_create("rules");
    tcase_set_timeout(all, 300);
    tcase_add_test(all, round_trips);
    tcase_add_test(all, truncation_at_every_byte_is_an_error);
    tcase_add_test(all, damage_is_an_error_or_another_value);
    tcase_add_test(all, defaults_survive_every_version);
    tcase_add_test(all, versions_outside_the_range_are_refused);
    tcase_add_test(all, vectors_of_another_codec);
    tcase_add_test(all, frames_of_real_clients);
    tcase_add_checked_fixture(rules, setup, teardown);
    tcase_add_test(rules, values_that_a_version_lacks);
    tcase_add_test(rules, a_tagged_struct_that_a_version_lacks);
    tcase_add_test(rules, null_arrays);
    tcase_add_test(rules, nullable_structs);
    tcase_add_test(rules, unknown_tags_are_skipped);
    tcase_add_test(rules, a_tag_may_not_reach_beyond_or_fall_short);
    tcase_add_test(rules, a_long_tagged_value);
    tcase_add_test(rules, decoded_arrays_stay_within_the_arena);
    tcase_add_test(rules, records_are_referenced_and_views);
    tcase_add_test(rules, bytes_after_the_body_are_left);
    tcase_add_test(rules, the_client_id_of_a_flexible_header_is_not_compact);
    tcase_add_test(rules, a_null_client_id_becomes_empty);
    tcase_add_test(rules, unknown_keys_and_versions);
    tcase_add_test(rules, api_versions_of_the_future);
    tcase_add_test(rules, response_headers);
    tcase_add_test(rules, the_table_of_apis);
    tcase_add_test(rules, names_of_errors);
    suite_add_tcase(s, all);
    suite_add_tcase(s, rules);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
