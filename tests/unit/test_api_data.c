/* Produce, Fetch, ListOffsets, OffsetForLeaderEpoch and idempotence on a whole broker with two reactors. */
#include <check.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include "proto/kafka_errors.h"
#include "tests/unit/broker_fixture.h"

static struct fixture f;
static struct client c;

static void set_up(void) {
    fixture_start(&f, NULL);
    client_open(&c, &f);
    ck_assert_int_eq(create_topic(&c, "t", 4), 0);
}
static void tear_down(void) {
    client_close(&c);
    fixture_stop(&f);
}

static struct batch_header header_of(struct bytes b) {
    struct batch_header h;
    ck_assert_int_eq(batch_parse(b.p, (size_t)b.len, &h), OK);
    return h;
}

/* Produces a batch after `spoil` changed it (sealed again unless `keep_crc`); the error it gets. */
static int16_t produce_spoilt(const char *topic, int at, uint8_t xor, bool seal) {
    struct bytes b = make_batch(CODEC_NONE, 2, 10, now_ms());
    ((uint8_t *)b.p)[at] ^= xor;
    if (seal) batch_seal((uint8_t *)b.p);
    int16_t error = produce(&c, topic, 0, b).error;
    free((void *)b.p);
    return error;
}

static int16_t produce_n(const char *topic, int32_t partition, int32_t count, int32_t value_bytes) {
    struct bytes b = make_batch(CODEC_NONE, count, value_bytes, now_ms());
    int16_t error = produce(&c, topic, partition, b).error;
    free((void *)b.p);
    return error;
}

/* ---- Produce and Fetch ------------------------------------------------------------------------------ */

START_TEST(every_version_of_produce_and_fetch) {
    struct uuid id = topic_id(&c, "t");
    struct bytes b = make_batch(CODEC_LZ4, 3, 100, now_ms());
    for (int16_t v = 3; v <= 13; v++) {
        struct k_produce_request q;
        struct k_produce_response a;
        struct k_produce_request_topic_data t = {.name = v < 13 ? STR_LIT("t") : STR_LIT("")};
        struct k_produce_request_topic_data_partition_data p = {1, b};
        k_produce_request_init(&q);
        if (v >= 13) t.topic_id = id;
        q.acks = v % 2 ? 1 : -1;
        q.timeout_ms = 30000;
        t.partition_data = &p;
        q.topic_data = &t;
        t.partition_data_n = q.topic_data_n = 1;
        CALL(&c, KEY_PRODUCE, v, produce, q, a);
        ck_assert_int_eq(a.responses[0].partition_responses[0].error_code, 0);
        ck_assert_int_eq(a.responses[0].partition_responses[0].base_offset, (v - 3) * 3);
    }
    for (int16_t v = 4; v <= 18; v++) {
        struct k_fetch_request q;
        struct k_fetch_response a;
        struct k_fetch_request_topics t = {.topic = v < 13 ? STR_LIT("t") : STR_LIT("")};
        struct k_fetch_request_topics_partitions p;
        k_fetch_request_init(&q);
        k_fetch_request_topics_partitions_init(&p);
        if (v >= 13) t.topic_id = id;
        q.max_bytes = 1 << 20;
        p.partition = 1;
        p.fetch_offset = 4; /* within the second batch */
        p.partition_max_bytes = 1 << 20;
        t.partitions = &p;
        q.topics = &t;
        t.partitions_n = q.topics_n = 1;
        CALL(&c, KEY_FETCH, v, fetch, q, a);
        const struct k_fetch_response_responses_partitions *r = &a.responses[0].partitions[0];
        ck_assert_int_eq(r->error_code, 0);
        ck_assert_int_eq(r->high_watermark, 33);
        ck_assert_int_eq(r->last_stable_offset, 33);
        ck_assert_int_eq(r->aborted_transactions_n, -1);
        ck_assert_int_eq(header_of(r->records).base_offset, 3);
        ck_assert_int_eq(header_of(r->records).leader_epoch, 1);
        ck_assert_int_eq(r->records.len, 10 * b.len);
    }
    free((void *)b.p);
}
END_TEST

START_TEST(what_was_produced_is_fetched_byte_for_byte) {
    struct bytes b = make_batch(CODEC_ZSTD, 5, 1000, now_ms());
    ck_assert_int_eq(produce(&c, "t", 2, b).offset, 0);
    struct fetched got = fetch(&c, "t", 2, 0);
    ck_assert_int_eq(got.records.len, b.len);
    ck_assert_mem_eq(got.records.p + 16, b.p + 16, (size_t)b.len - 16); /* all but offset, length and epoch */
    free((void *)b.p);
}
END_TEST

START_TEST(a_bad_batch_gets_kafkas_error_and_is_not_appended) {
    ck_assert_int_eq(produce_spoilt("t", 17, 1, false), KERR_CORRUPT_MESSAGE);  /* CRC */
    ck_assert_int_eq(produce_spoilt("t", 70, 1, false), KERR_CORRUPT_MESSAGE);  /* content */
    ck_assert_int_eq(produce_spoilt("t", 9, 1, false), KERR_CORRUPT_MESSAGE);   /* length too large */
    ck_assert_int_eq(produce_spoilt("t", 16, 2 ^ 1, false), KERR_INVALID_RECORD); /* magic 1 */
    ck_assert_int_eq(produce_spoilt("t", 16, 2 ^ 0, false), KERR_INVALID_RECORD);
    ck_assert_int_eq(produce_spoilt("t", 16, 2 ^ 3, false), KERR_INVALID_RECORD);
    ck_assert_int_eq(produce_spoilt("t", 7, 1, false), KERR_INVALID_RECORD);    /* base offset */
    ck_assert_int_eq(produce_spoilt("t", 60, 1, true), KERR_INVALID_RECORD);    /* record count */
    ck_assert_int_eq(produce_spoilt("t", 57, 0x80, true), KERR_INVALID_RECORD); /* negative count */
    ck_assert_int_eq(produce_spoilt("t", 23, 0x80, true), KERR_INVALID_RECORD); /* negative delta */
    ck_assert_int_eq(produce_spoilt("t", 22, BATCH_CONTROL, true), KERR_INVALID_RECORD);
    ck_assert_int_eq(produce_spoilt("t", 22, BATCH_LOG_APPEND_TIME, true), KERR_INVALID_TIMESTAMP);
    ck_assert_int_eq(produce_spoilt("t", 22, 7, true), KERR_INVALID_RECORD);    /* unknown codec */
    ck_assert_int_eq(produce_spoilt("t", 43, 0x80, true), KERR_INVALID_RECORD); /* a producer id without sequence */
    ck_assert_int_eq(fetch(&c, "t", 0, 0).high_watermark, 0);
    ck_assert_int_eq(produce(&c, "t", 0, BYTES_NULL).error, KERR_INVALID_RECORD);
    struct bytes b = make_batch(CODEC_NONE, 1, 10, now_ms()), two = {malloc((size_t)b.len * 2), b.len * 2};
    memcpy((uint8_t *)two.p, b.p, (size_t)b.len);
    memcpy((uint8_t *)two.p + b.len, b.p, (size_t)b.len);
    ck_assert_int_eq(produce(&c, "t", 0, two).error, KERR_INVALID_RECORD);
    for (int32_t n = 0; n < b.len; n++) { /* cut off everywhere */
        int16_t error = produce(&c, "t", 0, (struct bytes){b.p, n}).error;
        ck_assert(error == KERR_CORRUPT_MESSAGE || error == KERR_INVALID_RECORD);
    }
    ck_assert_int_eq(fetch(&c, "t", 0, 0).high_watermark, 0);
    free((void *)two.p);
    free((void *)b.p);
}
END_TEST

START_TEST(limits_of_a_batch) {
    ck_assert_int_eq(create_topic_with(&c, "small", 1, "max.message.bytes", "1000"), 0);
    ck_assert_int_eq(produce_n("small", 0, 1, 2000), KERR_MESSAGE_TOO_LARGE);
    ck_assert_int_eq(produce_n("small", 0, 1, 800), KERR_NONE);
    ck_assert_int_eq(produce_n("t", 0, 1, 1048588 - 61), KERR_MESSAGE_TOO_LARGE);
    ck_assert_int_eq(produce_n("t", 0, 1, 1048588 - 80), KERR_NONE);
    struct bytes late = make_batch(CODEC_NONE, 1, 10, now_ms() + 2 * 3600000),
        old = make_batch(CODEC_NONE, 1, 10, 1000);
    ck_assert_int_eq(produce(&c, "t", 0, late).error, KERR_INVALID_TIMESTAMP);
    ck_assert_int_eq(produce(&c, "t", 0, old).error, KERR_NONE); /* before.max is without limit by default */
    ck_assert_int_eq(create_topic_with(&c, "recent", 1, "message.timestamp.before.max.ms", "60000"), 0);
    ck_assert_int_eq(produce(&c, "recent", 0, old).error, KERR_INVALID_TIMESTAMP);
    struct bytes zstd = make_batch(CODEC_ZSTD, 1, 10, now_ms());
    produce_send(&c, "t", 0, zstd, -1, 6);
    ck_assert_int_eq(produce_receive(&c, 6).error, KERR_UNSUPPORTED_COMPRESSION_TYPE);
    free((void *)late.p);
    free((void *)old.p);
    free((void *)zstd.p);
}
END_TEST

START_TEST(produce_to_nowhere) {
    struct bytes b = make_batch(CODEC_NONE, 1, 10, now_ms());
    ck_assert_int_eq(produce(&c, "unknown", 0, b).error, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    ck_assert_int_eq(produce(&c, "t", 4, b).error, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    ck_assert_int_eq(produce(&c, "t", -1, b).error, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    ck_assert_int_eq(produce(&c, "../t", 0, b).error, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    ck_assert_int_eq(produce(&c, "__cluster_metadata", 0, b).error, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    produce_send(&c, "t", 0, b, 2, 12);
    ck_assert_int_eq(produce_receive(&c, 12).error, KERR_INVALID_REQUIRED_ACKS);
    struct k_produce_request q;
    struct k_produce_response a;
    struct k_produce_request_topic_data t = {.name = STR_LIT(""), .topic_id = {{1, 2, 3}}};
    struct k_produce_request_topic_data_partition_data p = {0, b};
    k_produce_request_init(&q);
    q.acks = -1;
    t.partition_data = &p;
    q.topic_data = &t;
    t.partition_data_n = q.topic_data_n = 1;
    CALL(&c, KEY_PRODUCE, 13, produce, q, a);
    ck_assert_int_eq(a.responses[0].partition_responses[0].error_code, KERR_UNKNOWN_TOPIC_ID);
    free((void *)b.p);
}
END_TEST

START_TEST(acks_0_is_never_answered) {
    struct bytes b = make_batch(CODEC_NONE, 1, 10, now_ms());
    produce_send(&c, "t", 3, b, 0, 9);
    ck_assert(client_waits(&c));
    int64_t end = now_ms() + 30000; /* nobody says when it is durable */
    while (fetch(&c, "t", 3, 0).high_watermark != 1 && now_ms() < end) continue;
    ck_assert_int_eq(fetch(&c, "t", 3, 0).high_watermark, 1);
    produce_send(&c, "unknown", 0, b, 0, 9);
    ck_assert(client_is_closed(&c));
    free((void *)b.p);
}
END_TEST

START_TEST(many_partitions_in_one_request) {
    enum { PARTITIONS = 4, TIMES = 500 };
    struct bytes b = make_batch(CODEC_NONE, 1, 10, now_ms());
    struct k_produce_request q;
    struct k_produce_response a;
    struct k_produce_request_topic_data t = {.name = STR_LIT("t")};
    static struct k_produce_request_topic_data_partition_data p[PARTITIONS * TIMES];
    for (int i = 0; i < PARTITIONS * TIMES; i++)
        p[i] = (struct k_produce_request_topic_data_partition_data){i % PARTITIONS, b};
    k_produce_request_init(&q);
    q.acks = -1;
    q.timeout_ms = 30000;
    t.partition_data = p;
    t.partition_data_n = PARTITIONS * TIMES;
    q.topic_data = &t;
    q.topic_data_n = 1;
    CALL(&c, KEY_PRODUCE, 9, produce, q, a);
    for (int i = 0; i < PARTITIONS * TIMES; i++) { /* in the order of the request */
        ck_assert_int_eq(a.responses[0].partition_responses[i].error_code, 0);
        ck_assert_int_eq(a.responses[0].partition_responses[i].base_offset, i / PARTITIONS);
    }
    free((void *)b.p);
}
END_TEST

START_TEST(pipelined_writes_keep_their_order) {
    struct client other;
    client_open(&other, &f);
    for (int i = 0; i < 20; i++) {
        struct bytes b = make_batch(CODEC_NONE, 1, i, now_ms());
        produce_send(&c, "t", i % 2, b, -1, 9);
        free((void *)b.p);
    }
    c.correlation -= 20;
    for (int i = 0; i < 20; i++) {
        c.correlation++;
        ck_assert_int_eq(produce_receive(&c, 9).offset, i / 2);
    }
    client_close(&other);
}
END_TEST

/* ---- Fetch ---------------------------------------------------------------------------------------------- */

START_TEST(fetch_waits_for_data) {
    struct client other;
    client_open(&other, &f);
    for (int32_t partition = 0; partition < 4; partition++) { /* on both reactors */
        fetch_send(&other, "t", partition, 0, 1, 60000);
        ck_assert(client_waits(&other));
        ck_assert_int_eq(produce_n("t", partition, 1, 10), 0);
        struct fetched got = fetch_receive(&other);
        ck_assert_int_eq(got.error, 0);
        ck_assert_int_eq(header_of(got.records).record_count, 1);
    }
    client_close(&other);
}
END_TEST

START_TEST(fetch_waits_for_min_bytes) {
    struct client other;
    client_open(&other, &f);
    fetch_send(&other, "t", 0, 0, 1000, 60000);
    ck_assert_int_eq(produce_n("t", 0, 1, 400), 0);
    ck_assert(client_waits(&other));
    ck_assert_int_eq(produce_n("t", 0, 1, 600), 0);
    ck_assert_int_gt(fetch_receive(&other).records.len, 1000);
    client_close(&other);
}
END_TEST

START_TEST(fetch_returns_empty_when_time_is_up) {
    fetch_send(&c, "t", 0, 0, 1, 30);
    struct fetched got = fetch_receive(&c);
    ck_assert_int_eq(got.error, 0);
    ck_assert_int_eq(got.records.len, 0);
    ck_assert_int_eq(got.high_watermark, 0);
}
END_TEST

/* Many partitions over both reactors, min bytes spread over them. */
static void fetch_many(struct client *who, int32_t max_bytes, int32_t part_bytes, int32_t min_bytes, int32_t wait_ms,
                       const int64_t offsets[4]) {
    struct k_fetch_request q;
    struct k_fetch_request_topics t = {.topic = STR_LIT("t")};
    struct k_fetch_request_topics_partitions p[4];
    k_fetch_request_init(&q);
    for (int i = 0; i < 4; i++) {
        k_fetch_request_topics_partitions_init(&p[i]);
        p[i].partition = 3 - i; /* the request's order counts */
        p[i].fetch_offset = offsets[3 - i];
        p[i].partition_max_bytes = part_bytes;
    }
    q.max_bytes = max_bytes;
    q.min_bytes = min_bytes;
    q.max_wait_ms = wait_ms;
    t.partitions = p;
    t.partitions_n = 4;
    q.topics = &t;
    q.topics_n = 1;
    k_fetch_request_encode(&q, client_begin(who, KEY_FETCH, 11), 11);
    client_send(who);
}
static void fetch_many_receive(struct client *who, int32_t lengths[4]) {
    struct k_fetch_response a;
    struct wire_reader r;
    ck_assert(client_receive(who, &r));
    ck_assert_int_eq(k_fetch_response_decode(&a, &r, 11), OK);
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(a.responses[0].partitions[i].error_code, 0);
        ck_assert_int_eq(a.responses[0].partitions[i].partition_index, 3 - i);
        lengths[i] = a.responses[0].partitions[i].records.len;
    }
}

START_TEST(min_bytes_add_up_over_partitions_and_reactors) {
    static const int64_t zero[4];
    struct client other;
    int32_t lengths[4];
    client_open(&other, &f);
    fetch_many(&other, INT_MAX, 1 << 20, 2000, 60000, zero);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(produce_n("t", i, 1, 500), 0);
        ck_assert(client_waits(&other));
    }
    ck_assert_int_eq(produce_n("t", 3, 1, 500), 0);
    fetch_many_receive(&other, lengths);
    for (int i = 0; i < 4; i++) ck_assert_int_gt(lengths[i], 500);
    client_close(&other);
}
END_TEST

START_TEST(the_first_batch_comes_whole_and_the_rest_within_the_budget) {
    static const int64_t zero[4], later[4] = {0, 0, 0, 2};
    int32_t lengths[4];
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < 2; k++) ck_assert_int_eq(produce_n("t", i, 1, 1000), 0);
    struct bytes one = make_batch(CODEC_NONE, 1, 1000, now_ms());
    fetch_many(&c, 100, 1 << 20, 0, 0, zero); /* smaller than any batch */
    fetch_many_receive(&c, lengths);
    ck_assert_int_eq(lengths[0], one.len);
    for (int i = 1; i < 4; i++) ck_assert_int_eq(lengths[i], 0);
    fetch_many(&c, 1 << 20, 10, 0, 0, zero); /* partition limits: only the first may exceed its own */
    fetch_many_receive(&c, lengths);
    ck_assert_int_eq(lengths[0], one.len);
    for (int i = 1; i < 4; i++) ck_assert_int_eq(lengths[i], 0);
    fetch_many(&c, one.len * 3 + 5, 1 << 20, 0, 0, zero); /* 2 + 1 */
    fetch_many_receive(&c, lengths);
    ck_assert_int_eq(lengths[0], one.len * 2);
    ck_assert_int_eq(lengths[1], one.len);
    ck_assert_int_eq(lengths[2], 0);
    fetch_many(&c, 100, 1 << 20, 0, 0, later); /* the first partition is empty: the next one is the first with data */
    fetch_many_receive(&c, lengths);
    ck_assert_int_eq(lengths[0], 0);
    ck_assert_int_eq(lengths[1], one.len);
    ck_assert_int_eq(lengths[2], 0);
    free((void *)one.p);
}
END_TEST

START_TEST(offsets_out_of_range) {
    ck_assert_int_eq(produce_n("t", 0, 5, 10), 0);
    struct fetched got = fetch(&c, "t", 0, 6);
    ck_assert_int_eq(got.error, KERR_OFFSET_OUT_OF_RANGE);
    ck_assert_int_eq(got.high_watermark, -1);
    ck_assert_int_eq(got.log_start, -1);
    ck_assert_int_eq(got.records.len, 0);
    ck_assert_int_eq(fetch(&c, "t", 0, -1).error, KERR_OFFSET_OUT_OF_RANGE);
    got = fetch(&c, "t", 0, 5); /* the end is not out of range */
    ck_assert_int_eq(got.error, 0);
    ck_assert_int_eq(got.records.len, 0);
    ck_assert_int_eq(fetch(&c, "unknown", 0, 0).error, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    ck_assert_int_eq(fetch(&c, "t", 9, 0).error, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    fetch_send(&c, "t", 0, 99, 1, 60000); /* an error does not wait */
    ck_assert_int_eq(fetch_receive(&c).error, KERR_OFFSET_OUT_OF_RANGE);
}
END_TEST

static struct k_fetch_response fetch_epochs(int16_t version, int32_t current, int32_t last, int64_t offset,
                                            int32_t session_id, int32_t session_epoch) {
    struct k_fetch_request q;
    struct k_fetch_response a;
    struct k_fetch_request_topics t = {.topic = STR_LIT("t")};
    struct k_fetch_request_topics_partitions p;
    k_fetch_request_init(&q);
    k_fetch_request_topics_partitions_init(&p);
    if (version >= 13) {
        t.topic_id = topic_id(&c, "t");
        t.topic = STR_LIT("");
    }
    q.max_bytes = 1 << 20;
    q.session_id = session_id;
    q.session_epoch = session_epoch;
    q.isolation_level = 1;
    p.current_leader_epoch = current;
    p.last_fetched_epoch = last;
    p.fetch_offset = offset;
    p.partition_max_bytes = 1 << 20;
    t.partitions = &p;
    q.topics = &t;
    t.partitions_n = q.topics_n = 1;
    CALL(&c, KEY_FETCH, version, fetch, q, a);
    return a;
}

START_TEST(leader_epochs_are_checked) {
    ck_assert_int_eq(produce_n("t", 0, 5, 10), 0);
    ck_assert_int_eq(fetch_epochs(12, 1, -1, 0, 0, -1).responses[0].partitions[0].error_code, 0);
    ck_assert_int_eq(fetch_epochs(12, 1, -1, 0, 0, -1).responses[0].partitions[0].aborted_transactions_n, 0);
    struct k_fetch_response a = fetch_epochs(16, 0, -1, 0, 0, -1);
    ck_assert_int_eq(a.responses[0].partitions[0].error_code, KERR_FENCED_LEADER_EPOCH);
    ck_assert_int_eq(a.responses[0].partitions[0].current_leader.leader_id, FIXTURE_ID);
    ck_assert_int_eq(a.responses[0].partitions[0].current_leader.leader_epoch, 1);
    ck_assert_int_eq(a.node_endpoints_n, 1);
    ck_assert_int_eq(a.node_endpoints[0].port, f.port);
    ck_assert_int_eq(fetch_epochs(12, 2, -1, 0, 0, -1).responses[0].partitions[0].error_code,
                     KERR_UNKNOWN_LEADER_EPOCH);
    a = fetch_epochs(12, 1, 1, 3, 0, -1);
    ck_assert_int_eq(a.responses[0].partitions[0].diverging_epoch.epoch, -1);
    ck_assert_int_gt(a.responses[0].partitions[0].records.len, 0);
    a = fetch_epochs(12, 1, 2, 3, 0, -1); /* an epoch that this log does not have */
    ck_assert_int_eq(a.responses[0].partitions[0].diverging_epoch.epoch, 1);
    ck_assert_int_eq(a.responses[0].partitions[0].diverging_epoch.end_offset, 5);
    ck_assert_int_eq(a.responses[0].partitions[0].records.len, 0);
}
END_TEST

START_TEST(a_waiting_fetch_learns_that_the_topic_is_gone) {
    struct client other;
    struct k_delete_topics_request q;
    struct k_delete_topics_response a;
    struct k_delete_topics_request_topics t = {.name = STR_LIT("t")};
    client_open(&other, &f);
    fetch_send(&other, "t", 0, 0, 1, 60000);
    ck_assert(client_waits(&other));
    k_delete_topics_request_init(&q);
    q.topics = &t;
    q.topics_n = 1;
    CALL(&c, KEY_DELETE_TOPICS, 6, delete_topics, q, a);
    ck_assert_int_eq(a.responses[0].error_code, 0);
    int16_t error = fetch_receive(&other).error;
    ck_assert(error == KERR_NOT_LEADER_OR_FOLLOWER || error == KERR_UNKNOWN_TOPIC_OR_PARTITION);
    client_close(&other);
}
END_TEST

START_TEST(a_client_that_leaves_while_it_waits_costs_nothing) {
    struct client other;
    client_open(&other, &f);
    fetch_send(&other, "t", 0, 0, 1, 60000);
    ck_assert(client_waits(&other));
    client_close(&other);
    ck_assert_int_eq(produce_n("t", 0, 1, 10), 0);
    ck_assert_int_eq(fetch(&c, "t", 0, 0).high_watermark, 1);
}
END_TEST

/* ---- idempotence: the rules of KIP-98 as Kafka 4 applies them -------------------------------------------------- */

static struct produced produce_as(int64_t id, int16_t epoch, int32_t sequence, int32_t count) {
    struct bytes b = make_batch(CODEC_NONE, count, 10, now_ms());
    batch_set_producer((uint8_t *)b.p, id, epoch, sequence);
    batch_seal((uint8_t *)b.p);
    struct produced p = produce(&c, "t", 0, b);
    free((void *)b.p);
    return p;
}

START_TEST(sequences) {
    ck_assert_int_eq(produce_as(5, 0, 0, 2).offset, 0);
    struct produced again = produce_as(5, 0, 0, 2); /* a duplicate: the original offset, nothing appended */
    ck_assert_int_eq(again.error, 0);
    ck_assert_int_eq(again.offset, 0);
    ck_assert_int_eq(produce_as(5, 0, 3, 1).error, KERR_OUT_OF_ORDER_SEQUENCE_NUMBER);
    ck_assert_int_eq(produce_as(5, 0, 1, 1).error, KERR_OUT_OF_ORDER_SEQUENCE_NUMBER); /* overlaps */
    ck_assert_int_eq(produce_as(5, 0, 2, 1).offset, 2);
    for (int32_t i = 3; i < 8; i++) ck_assert_int_eq(produce_as(5, 0, i, 1).offset, i);
    for (int32_t i = 3; i < 8; i++) ck_assert_int_eq(produce_as(5, 0, i, 1).offset, i); /* the window of five */
    ck_assert_int_eq(produce_as(5, 0, 2, 1).error, KERR_OUT_OF_ORDER_SEQUENCE_NUMBER);  /* before it */
    ck_assert_int_eq(fetch(&c, "t", 0, 0).high_watermark, 8);
    ck_assert_int_eq(produce_as(6, 0, 40, 1).error, KERR_OUT_OF_ORDER_SEQUENCE_NUMBER); /* what came before it is still on its way */
    ck_assert_int_eq(produce_as(6, 0, 0, 40).error, 0);
    ck_assert_int_eq(produce_as(6, 0, 40, 1).error, 0);
    ck_assert_int_eq(produce_as(8, 0, -1, 1).error, KERR_INVALID_RECORD);
}
END_TEST

START_TEST(producer_epochs) {
    ck_assert_int_eq(produce_as(5, 3, 0, 1).error, 0);
    ck_assert_int_eq(produce_as(5, 2, 1, 1).error, KERR_INVALID_PRODUCER_EPOCH);
    ck_assert_int_eq(produce_as(5, 4, 1, 1).error, KERR_OUT_OF_ORDER_SEQUENCE_NUMBER); /* a new epoch begins at 0 */
    ck_assert_int_eq(produce_as(5, 4, 0, 1).error, 0);
    ck_assert_int_eq(produce_as(5, 3, 1, 1).error, KERR_INVALID_PRODUCER_EPOCH);
}
END_TEST

START_TEST(producer_state_survives_a_restart) {
    for (int32_t i = 0; i < 4; i++) ck_assert_int_eq(produce_as(5, 0, i, 1).offset, i);
    client_close(&c);
    fixture_restart(&f);
    client_open(&c, &f);
    ck_assert_int_eq(produce_as(5, 0, 2, 1).offset, 2);
    ck_assert_int_eq(produce_as(5, 0, 9, 1).error, KERR_OUT_OF_ORDER_SEQUENCE_NUMBER);
    ck_assert_int_eq(produce_as(5, 0, 4, 1).offset, 4);
}
END_TEST

/* ---- ListOffsets, OffsetForLeaderEpoch -------------------- */

static struct k_list_offsets_response_topics_partitions list_offset(int16_t version, int64_t timestamp, int32_t epoch) {
    struct k_list_offsets_request q;
    struct k_list_offsets_response a;
    struct k_list_offsets_request_topics t = {.name = STR_LIT("t")};
    struct k_list_offsets_request_topics_partitions p = {.current_leader_epoch = epoch, .timestamp = timestamp};
    k_list_offsets_request_init(&q);
    q.replica_id = -1;
    t.partitions = &p;
    q.topics = &t;
    t.partitions_n = q.topics_n = 1;
    CALL(&c, KEY_LIST_OFFSETS, version, list_offsets, q, a);
    return a.topics[0].partitions[0];
}

START_TEST(offsets_by_time_and_kind) {
    int64_t now = now_ms();
    for (int i = 0; i < 3; i++) {
        struct bytes b = make_batch(CODEC_GZIP, 2, 10, now + (i == 1 ? 5000 : i * 1000));
        ck_assert_int_eq(produce(&c, "t", 0, b).error, 0);
        free((void *)b.p);
    }
    for (int16_t v = 1; v <= 11; v++) {
        ck_assert_int_eq(list_offset(v, -1, -1).offset, 6);
        ck_assert_int_eq(list_offset(v, -2, -1).offset, 0);
        struct k_list_offsets_response_topics_partitions r = list_offset(v, now + 1, -1);
        ck_assert_int_eq(r.offset, 2);
        ck_assert_int_eq(r.timestamp, now + 5000);
        ck_assert_int_eq(r.leader_epoch, v >= 4 ? 1 : -1);
        r = list_offset(v, now + 6000, -1); /* nothing is as late */
        ck_assert_int_eq(r.error_code, 0);
        ck_assert_int_eq(r.offset, -1);
        ck_assert_int_eq(list_offset(v, -3, -1).error_code, v >= 7 ? 0 : KERR_UNSUPPORTED_VERSION);
        ck_assert_int_eq(list_offset(v, -4, -1).error_code, v >= 8 ? 0 : KERR_UNSUPPORTED_VERSION);
        ck_assert_int_eq(list_offset(v, -5, -1).error_code, v >= 9 ? 0 : KERR_UNSUPPORTED_VERSION);
        ck_assert_int_eq(list_offset(v, -6, -1).error_code, v >= 11 ? 0 : KERR_UNSUPPORTED_VERSION);
        ck_assert_int_eq(list_offset(v, -7, -1).error_code, KERR_UNSUPPORTED_VERSION);
        ck_assert_int_eq(list_offset(v, INT64_MIN, -1).error_code, KERR_UNSUPPORTED_VERSION);
    }
    ck_assert_int_eq(list_offset(7, -3, -1).offset, 2);
    ck_assert_int_eq(list_offset(7, -3, -1).timestamp, now + 5000);
    ck_assert_int_eq(list_offset(9, -5, -1).offset, -1);
    ck_assert_int_eq(list_offset(9, -1, 0).error_code, KERR_FENCED_LEADER_EPOCH);
    ck_assert_int_eq(list_offset(9, -1, 2).error_code, KERR_UNKNOWN_LEADER_EPOCH);
}
END_TEST

START_TEST(a_partition_asked_twice_is_refused) {
    struct k_list_offsets_request q;
    struct k_list_offsets_response a;
    struct k_list_offsets_request_topics t = {.name = STR_LIT("t")};
    struct k_list_offsets_request_topics_partitions p[3] = {{1, -1, -1}, {1, -1, -1}, {99, -1, -1}};
    k_list_offsets_request_init(&q);
    t.partitions = p;
    t.partitions_n = 3;
    q.topics = &t;
    q.topics_n = 1;
    CALL(&c, KEY_LIST_OFFSETS, 5, list_offsets, q, a);
    ck_assert_int_eq(a.topics[0].partitions[1].error_code, KERR_INVALID_REQUEST);
    ck_assert_int_eq(a.topics[0].partitions[2].error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
}
END_TEST

static struct k_offset_for_leader_epoch_response_topics_partitions epoch_end(int16_t version, int32_t current,
    int32_t epoch) {
    struct k_offset_for_leader_epoch_request q;
    struct k_offset_for_leader_epoch_response a;
    struct k_offset_for_leader_epoch_request_topics t = {.topic = STR_LIT("t")};
    struct k_offset_for_leader_epoch_request_topics_partitions p = {0, current, epoch};
    k_offset_for_leader_epoch_request_init(&q);
    t.partitions = &p;
    q.topics = &t;
    t.partitions_n = q.topics_n = 1;
    CALL(&c, KEY_EPOCH_END, version, offset_for_leader_epoch, q, a);
    return a.topics[0].partitions[0];
}

START_TEST(epochs_end_where_the_next_begins) {
    ck_assert_int_eq(produce_n("t", 0, 5, 10), 0);
    for (int16_t v = 2; v <= 4; v++) {
        ck_assert_int_eq(epoch_end(v, -1, 1).leader_epoch, 1);
        ck_assert_int_eq(epoch_end(v, -1, 1).end_offset, 5);
        ck_assert_int_eq(epoch_end(v, -1, 7).end_offset, -1);
        ck_assert_int_eq(epoch_end(v, 0, 1).error_code, KERR_FENCED_LEADER_EPOCH);
        ck_assert_int_eq(epoch_end(v, 3, 1).error_code, KERR_UNKNOWN_LEADER_EPOCH);
    }
    client_close(&c);
    fixture_restart(&f);
    client_open(&c, &f);
    ck_assert_int_eq(epoch_end(4, 1, 1).end_offset, 5); /* a restart alone begins no epoch */
    ck_assert_int_eq(produce_n("t", 0, 2, 10), 0);
    ck_assert_int_eq(epoch_end(4, 2, 1).leader_epoch, 1);
    ck_assert_int_eq(epoch_end(4, 2, 1).end_offset, 5);
    ck_assert_int_eq(epoch_end(4, 2, 2).end_offset, 7);
    ck_assert_int_eq(fetch(&c, "t", 0, 0).high_watermark, 7);
}
END_TEST

/* ---- topic configs that change what is written -------------------- */

START_TEST(log_append_time) {
    ck_assert_int_eq(create_topic_with(&c, "lat", 1, "message.timestamp.type", "LogAppendTime"), 0);
    struct bytes b = make_batch(CODEC_NONE, 2, 10, 1000);
    int64_t before = now_ms();
    struct produced p = produce(&c, "lat", 0, b);
    ck_assert_int_eq(p.error, 0);
    ck_assert_int_ge(p.log_append_time, before - 1000); /* the broker's clock is coarse, not old */
    struct batch_header h = header_of(fetch(&c, "lat", 0, 0).records);
    ck_assert(h.attributes & BATCH_LOG_APPEND_TIME);
    ck_assert_int_eq(h.max_timestamp, p.log_append_time);
    ck_assert_int_eq(produce(&c, "t", 0, b).log_append_time, -1);
    free((void *)b.p);
}
END_TEST

START_TEST(the_topic_decides_about_compression) {
    static const char *const types[] = {"uncompressed", "gzip", "snappy", "lz4", "zstd"};
    for (int32_t i = 0; i < 5; i++) {
        char name[32];
        snprintf(name, sizeof name, "as-%s", types[i]);
        ck_assert_int_eq(create_topic_with(&c, name, 1, "compression.type", types[i]), 0);
        for (enum batch_codec codec = CODEC_NONE; codec < CODEC_COUNT; codec++) {
            struct bytes b = make_batch(codec, 10, 5000, now_ms());
            struct produced p = produce(&c, name, 0, b);
            ck_assert_int_eq(p.error, 0);
            struct fetched got = fetch(&c, name, 0, p.offset);
            struct batch_header h = header_of(got.records);
            ck_assert_int_eq(batch_codec(&h), i);
            ck_assert_int_eq(h.record_count, 10);
            ck_assert(batch_crc_ok(got.records.p, &h));
            free((void *)b.p);
        }
    }
}
END_TEST

START_TEST(order_survives_recompression) {
    ck_assert_int_eq(create_topic_with(&c, "z", 1, "compression.type", "zstd"), 0);
    for (int i = 0; i < 10; i++) { /* every other batch needs a helper's work */
        struct bytes b = make_batch(i % 2 ? CODEC_ZSTD : CODEC_NONE, 1, i % 2 ? 1 : 100000, now_ms());
        produce_send(&c, "z", 0, b, -1, 9);
        free((void *)b.p);
    }
    c.correlation -= 10;
    for (int i = 0; i < 10; i++) {
        c.correlation++;
        ck_assert_int_eq(produce_receive(&c, 9).offset, i);
    }
}
END_TEST

START_TEST(compacted_topics_want_keys) {
    ck_assert_int_eq(create_topic_with(&c, "compact", 1, "cleanup.policy", "compact"), 0);
    for (enum batch_codec codec = CODEC_NONE; codec < CODEC_COUNT; codec++) {
        struct batch_builder b;
        uint8_t *out;
        size_t len;
        batch_builder_init(&b, codec, 1 << 20);
        for (int i = 0; i < 3; i++) {
            struct bytes key = {(const uint8_t *)"k", i == 1 ? 0 : 1}, none = BYTES_NULL;
            ck_assert_int_eq(batch_builder_add(&b, now_ms(), i == 2 ? none : key, key, NULL, 0), OK);
        }
        ck_assert_int_eq(batch_builder_finish(&b, &out, &len), OK);
        batch_builder_free(&b);
        struct produced p = produce(&c, "compact", 0, (struct bytes){out, (int32_t)len});
        ck_assert_int_eq(p.error, KERR_INVALID_RECORD);
        ck_assert_int_eq(p.record_errors, 1);
        ck_assert_ptr_nonnull(p.message.p);
        free(out);
        struct bytes good = make_batch(codec, 3, 10, now_ms());
        ck_assert_int_eq(produce(&c, "compact", 0, good).error, 0);
        free((void *)good.p);
    }
}
END_TEST

START_TEST(a_write_that_needs_more_replicas_than_there_are) {
    ck_assert_int_eq(create_topic_with(&c, "two", 1, "min.insync.replicas", "2"), 0);
    struct bytes b = make_batch(CODEC_NONE, 1, 10, now_ms());
    ck_assert_int_eq(produce(&c, "two", 0, b).error, KERR_NOT_ENOUGH_REPLICAS);
    produce_send(&c, "two", 0, b, 1, 9);
    ck_assert_int_eq(produce_receive(&c, 9).error, 0);
    free((void *)b.p);
}
END_TEST

/* Batches nearly as large as a piece of the smallest journal, faster than checkpoints: writes wait for room, and a
 * checkpoint must not wait for them. */
START_TEST(a_small_journal_does_not_stall) {
    enum { CLIENTS = 4, BATCHES = 30 };
    struct client clients[CLIENTS];
    struct bytes b = make_batch(CODEC_NONE, 1, 900000, now_ms());
    for (int k = 0; k < CLIENTS; k++) client_open(&clients[k], &f);
    for (int i = 0; i < BATCHES; i++)
        for (int k = 0; k < CLIENTS; k++) produce_send(&clients[k], "t", k, b, -1, 9);
    for (int k = 0; k < CLIENTS; k++) {
        clients[k].correlation -= BATCHES;
        for (int i = 0; i < BATCHES; i++) {
            clients[k].correlation++;
            struct produced p = produce_receive(&clients[k], 9);
            ck_assert_int_eq(p.error, 0);
            ck_assert_int_eq(p.offset, i);
        }
        client_close(&clients[k]);
    }
    free((void *)b.p);
}
END_TEST

static void set_up_small_journal(void) {
    fixture_start(&f, "journal.bytes=4194304\n");
    client_open(&c, &f);
    ck_assert_int_eq(create_topic(&c, "t", 4), 0);
}

int main(void) {
    Suite *s = suite_create("api_data");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, every_version_of_produce_and_fetch);
    tcase_add_test(t, what_was_produced_is_fetched_byte_for_byte);
    tcase_add_test(t, a_bad_batch_gets_kafkas_error_and_is_not_appended);
    tcase_add_test(t, limits_of_a_batch);
    tcase_add_test(t, produce_to_nowhere);
    tcase_add_test(t, acks_0_is_never_answered);
    tcase_add_test(t, many_partitions_in_one_request);
    tcase_add_test(t, pipelined_writes_keep_their_order);
    tcase_add_test(t, fetch_waits_for_data);
    tcase_add_test(t, fetch_waits_for_min_bytes);
    tcase_add_test(t, fetch_returns_empty_when_time_is_up);
    tcase_add_test(t, min_bytes_add_up_over_partitions_and_reactors);
    tcase_add_test(t, the_first_batch_comes_whole_and_the_rest_within_the_budget);
    tcase_add_test(t, offsets_out_of_range);
    tcase_add_test(t, leader_epochs_are_checked);
    tcase_add_test(t, a_waiting_fetch_learns_that_the_topic_is_gone);
    tcase_add_test(t, a_client_that_leaves_while_it_waits_costs_nothing);
    tcase_add_test(t, sequences);
    tcase_add_test(t, producer_epochs);
    tcase_add_test(t, producer_state_survives_a_restart);
    tcase_add_test(t, offsets_by_time_and_kind);
    tcase_add_test(t, a_partition_asked_twice_is_refused);
    tcase_add_test(t, epochs_end_where_the_next_begins);
    tcase_add_test(t, log_append_time);
    tcase_add_test(t, the_topic_decides_about_compression);
    tcase_add_test(t, order_survives_recompression);
    tcase_add_test(t, compacted_topics_want_keys);
    tcase_add_test(t, a_write_that_needs_more_replicas_than_there_are);
    suite_add_tcase(s, t);
    TCase *small = tcase_create("small journal");
    tcase_set_timeout(small, 120);
    tcase_add_checked_fixture(small, set_up_small_journal, tear_down);
    tcase_add_test(small, a_small_journal_does_not_stall);
    suite_add_tcase(s, small);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? 1 : 0;
}
