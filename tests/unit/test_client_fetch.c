/* The consumer, and answers to Fetch that brokers rarely give: every version, batches cut short,
 * gaps, markers and aborted transactions, damage, errors of many kinds, bytes that mean nothing. */
#include "tests/unit/tiny_broker.h"

#include "proto/record_batch.h"

enum { TIMEOUT_MS = 60000, LOG_BYTES = 4 << 20 };

struct reader { /* what the broker serves: partition 0 of "t" */
    struct tiny_broker tiny;
    uint8_t log[LOG_BYTES];
    size_t len;
    int64_t end_offset, last_stable_offset;
    size_t bytes_max;             /* of one answer, cut within a batch; 0: as asked for */
    bool null_records;
    int16_t errors[8];            /* of the partition, for the first requests */
    int16_t top_error;            /* of the first request */
    int error_count;
    struct { int64_t producer_id, first_offset, marker_offset; } aborted[4];
    int aborted_count;            /* -1: the list is null */
    uint32_t garble;              /* garble about one byte in so many; 0: none */
    uint64_t dice;
    struct k_api_versions_response_api_keys apis[2];
    int requests;
    int16_t version;              /* of the latest request */
    bool by_id, epoch_sent;
};

static uint32_t roll(struct reader *b, uint32_t n) {
    b->dice ^= b->dice << 13;
    b->dice ^= b->dice >> 7;
    b->dice ^= b->dice << 17;
    return (uint32_t)(b->dice >> 20) % n;
}

static struct bytes from_offset(struct reader *b, int64_t offset, int32_t max_bytes) {
    size_t at = 0;
    struct batch_header h;
    while (at + BATCH_HEADER_BYTES <= b->len && batch_parse(b->log + at, b->len - at, &h) == OK && batch_last_offset(&h) < offset) at += h.total_bytes;
    size_t limit = b->bytes_max ? b->bytes_max : (size_t)max_bytes;
    return (struct bytes){b->log + at, (int32_t)MIN(b->len - at, limit)};
}

static void answer_fetch(struct reader *b, struct wire_reader *r, struct wire_writer *w, int16_t version) {
    struct k_fetch_request m;
    struct k_fetch_response res;
    struct k_fetch_response_responses topic;
    struct k_fetch_response_responses_partitions part;
    if (k_fetch_request_decode(&m, r, version) || m.topics_n != 1 || m.topics[0].partitions_n != 1) abort();
    const struct k_fetch_request_topics_partitions *asked = &m.topics[0].partitions[0];
    b->version = version;
    b->by_id = m.topics[0].topic.len == 0;
    b->epoch_sent = asked->current_leader_epoch == 3;
    k_fetch_response_init(&res);
    k_fetch_response_responses_init(&topic);
    k_fetch_response_responses_partitions_init(&part);
    int request = b->requests++;
    part.partition_index = asked->partition;
    part.high_watermark = b->end_offset;
    part.last_stable_offset = b->last_stable_offset;
    part.records = b->null_records ? BYTES_NULL : from_offset(b, asked->fetch_offset, asked->partition_max_bytes);
    struct k_fetch_response_responses_partitions_aborted_transactions aborted[4];
    part.aborted_transactions = aborted;
    part.aborted_transactions_n = MIN(b->aborted_count, 0);
    for (int i = 0; i < b->aborted_count; i++) { /* those that overlap what is asked for */
        if (b->aborted[i].marker_offset < asked->fetch_offset) continue;
        aborted[part.aborted_transactions_n].producer_id = b->aborted[i].producer_id;
        aborted[part.aborted_transactions_n++].first_offset = b->aborted[i].first_offset;
    }
    if (request < b->error_count) {
        part.error_code = b->errors[request];
        part.records = (struct bytes){(const uint8_t *)"", 0};
    }
    if (request == 0) res.error_code = b->top_error;
    topic.topic = m.topics[0].topic;
    topic.topic_id = m.topics[0].topic_id;
    topic.partitions = &part;
    topic.partitions_n = 1;
    res.responses = &topic;
    res.responses_n = request == 0 && b->top_error ? 0 : 1;
    size_t begin = w->len;
    k_fetch_response_encode(&res, w, version);
    for (size_t i = begin; b->garble && i < w->len; i++) {
        if (roll(b, b->garble) == 0) w->data[i] = (uint8_t)roll(b, 256);
    }
}

static enum tiny_fate handle(void *ctx, const struct kafka_request_header *h, struct wire_reader *r, struct wire_writer *w) {
    if (h->api_key != API_FETCH) abort();
    answer_fetch(ctx, r, w, h->api_version);
    return TINY_ANSWER;
}

static struct reader *reader_new(void) {
    struct reader *b = calloc(1, sizeof *b);
    b->dice = 88172645463325252u;
    b->apis[0] = (struct k_api_versions_response_api_keys){API_FETCH, 4, 17};
    b->tiny.ctx = b;
    b->tiny.handle = handle;
    b->tiny.apis = b->apis;
    b->tiny.api_count = 1;
    memset(b->tiny.topic_id.b, 7, sizeof b->tiny.topic_id.b);
    return b;
}

/* Appends a batch of `count` records "N", N counting on from the end offset; after it `gap` offsets are missing. */
static void add_batch(struct reader *b, int32_t count, int32_t gap, enum batch_codec codec, int16_t attributes, int64_t producer_id) {
    struct batch_builder bb;
    batch_builder_init(&bb, codec, 1 << 20);
    bb.attributes = attributes;
    bb.producer_id = producer_id;
    for (int32_t i = 0; i < count; i++) {
        char value[64];
        int len = snprintf(value, sizeof value, "%lld", (long long)b->end_offset + i);
        ck_assert_int_eq(batch_builder_add(&bb, 1000 + i, BYTES_NULL, (struct bytes){(uint8_t *)value, len + 1}, NULL, 0), OK);
    }
    uint8_t *bytes;
    size_t len;
    bb.last_offset_delta += gap;
    ck_assert_int_eq(batch_builder_finish(&bb, &bytes, &len), OK);
    batch_set_base_offset(bytes, b->end_offset);
    memcpy(b->log + b->len, bytes, len);
    b->len += len;
    b->end_offset += count + gap;
    b->last_stable_offset = b->end_offset;
    free(bytes);
    batch_builder_free(&bb);
}

static void add_marker(struct reader *b, bool commit, int64_t producer_id) {
    struct batch_builder bb;
    uint8_t *bytes;
    size_t len;
    batch_builder_init(&bb, CODEC_NONE, 1000);
    bb.attributes = BATCH_CONTROL | BATCH_TRANSACTIONAL;
    bb.producer_id = producer_id;
    ck_assert_int_eq(batch_builder_add(&bb, 1, (struct bytes){(const uint8_t *)(commit ? "\0\0\0\1" : "\0\0\0\0"), 4},
                                       (struct bytes){(const uint8_t *)"\0\0\0\0\0\0", 6}, NULL, 0), OK);
    ck_assert_int_eq(batch_builder_finish(&bb, &bytes, &len), OK);
    batch_set_base_offset(bytes, b->end_offset++);
    memcpy(b->log + b->len, bytes, len);
    b->len += len;
    b->last_stable_offset = b->end_offset;
    free(bytes);
    batch_builder_free(&bb);
}

/* ---- reading ---------------------------------------------------------------------------------- */

struct result {
    int64_t offsets[4096];
    int count;
    bool ended;
    int64_t next_offset;
    enum err err;
    int16_t code;
    char message[256];
};

/* Reads from `offset` to the end or an error; the broker is gone afterwards. */
static struct result read_all(struct reader *b, int64_t offset, void (*tune)(struct consumer_config *cfg)) {
    struct client_config cfg;
    struct consumer_config kcfg;
    struct result res = {.count = 0};
    char why[256];
    tiny_start(&b->tiny);
    client_config_init(&cfg);
    cfg.bootstrap = b->tiny.bootstrap;
    cfg.backoff_ms = 1;
    cfg.backoff_max_ms = 5;
    struct client *c = client_create(&cfg, why, sizeof why);
    ck_assert_ptr_nonnull(c);
    consumer_config_init(&kcfg);
    kcfg.max_wait_ms = 10;
    if (tune) tune(&kcfg);
    struct consumer *k = consumer_create(c, &kcfg);
    ck_assert_ptr_nonnull(k);
    ck_assert_int_eq(consumer_assign(k, "t", 0, offset), OK);
    while (!res.ended && !res.err) {
        const struct consumer_event *ev;
        ck_assert_msg(consumer_poll(k, TIMEOUT_MS, &ev) == OK, "%s", client_error(c));
        if (ev->kind == CONSUMER_RECORD) {
            if (!b->garble) ck_assert_int_eq(strtoll((const char *)ev->record.value.p, NULL, 10), ev->record.offset);
            ck_assert_int_lt(res.count, 4096);
            res.offsets[res.count++] = ev->record.offset;
        } else if (ev->kind == CONSUMER_END) {
            res.ended = true;
            res.next_offset = ev->next_offset;
        } else {
            res.err = ev->err;
            res.code = ev->code;
            snprintf(res.message, sizeof res.message, "%s", ev->message);
            ck_assert_int_eq(consumer_assigned_count(k), 0);
        }
    }
    consumer_destroy(k);
    client_destroy(c);
    tiny_stop(&b->tiny);
    return res;
}

static void expect_range(const struct result *res, int64_t from, int64_t to) {
    ck_assert_msg(res->err == OK, "%s", res->message);
    ck_assert_int_eq(res->count, to - from);
    for (int i = 0; i < res->count; i++) ck_assert_int_eq(res->offsets[i], from + i);
    ck_assert_int_eq(res->next_offset, to);
}

/* ---- tests ------------------------------------------------------------------------------------ */

START_TEST(every_version) {
    struct reader *b = reader_new();
    b->apis[0].min_version = b->apis[0].max_version = (int16_t)_i;
    for (int i = 0; i < 20; i++) add_batch(b, 10, 0, (enum batch_codec)(i % CODEC_COUNT), 0, -1);
    struct result res = read_all(b, 0, NULL);
    expect_range(&res, 0, 200);
    ck_assert_int_eq(b->version, _i);
    ck_assert(b->by_id == (_i >= 13));
    if (_i >= 9) ck_assert(b->epoch_sent);
    free(b);
}
END_TEST

START_TEST(names_when_there_are_no_ids) {
    struct reader *b = reader_new();
    memset(&b->tiny.topic_id, 0, sizeof b->tiny.topic_id);
    add_batch(b, 10, 0, CODEC_NONE, 0, -1);
    struct result res = read_all(b, 0, NULL);
    expect_range(&res, 0, 10);
    ck_assert_int_eq(b->version, 12);
    free(b);
}
END_TEST

START_TEST(from_the_middle_of_a_batch) {
    struct reader *b = reader_new();
    for (int i = 0; i < 3; i++) add_batch(b, 100, 0, i == 1 ? CODEC_ZSTD : CODEC_NONE, 0, -1);
    struct result res = read_all(b, 155, NULL);
    expect_range(&res, 155, 300);
    free(b);
}
END_TEST

/* Answers that end in a batch: at every length that holds the largest one. */
START_TEST(cut_batches) {
    struct reader *b = reader_new();
    for (int i = 0; i < 30; i++) add_batch(b, 1 + i % 5, 0, CODEC_NONE, 0, -1);
    int64_t end = b->end_offset;
    for (size_t max = 200; max < 700; max += 37) {
        b->bytes_max = max;
        struct result res = read_all(b, 0, NULL);
        expect_range(&res, 0, end);
    }
    free(b);
}
END_TEST

static void tiny_partition_bytes(struct consumer_config *cfg) { cfg->partition_max_bytes = 10; }

START_TEST(asks_for_more_when_a_batch_does_not_fit) {
    struct reader *b = reader_new();
    add_batch(b, 100, 0, CODEC_NONE, 0, -1);
    add_batch(b, 500, 0, CODEC_NONE, 0, -1);
    struct result res = read_all(b, 0, tiny_partition_bytes);
    expect_range(&res, 0, 600);
    ck_assert_int_gt(b->requests, 5);
    free(b);
}
END_TEST

START_TEST(gaps_of_compaction) {
    struct reader *b = reader_new();
    add_batch(b, 3, 2, CODEC_NONE, 0, -1);  /* 0 1 2, then 3 4 are missing */
    add_batch(b, 1, 9, CODEC_LZ4, 0, -1);   /* 5 */
    uint8_t *empty = b->log + b->len;       /* a batch that lost all its records: 15..24 */
    memset(empty, 0, BATCH_HEADER_BYTES);
    store_be32(empty + 8, BATCH_HEADER_BYTES - BATCH_LENGTH_OVERHEAD);
    empty[16] = 2;
    store_be32(empty + 23, 9);
    batch_set_base_offset(empty, 15);
    batch_seal(empty);
    b->len += BATCH_HEADER_BYTES;
    b->end_offset = b->last_stable_offset = 25;
    struct result res = read_all(b, 0, NULL);
    ck_assert_int_eq(res.count, 4);
    ck_assert_int_eq(res.offsets[3], 5);
    ck_assert_int_eq(res.next_offset, 25);
    res = read_all(b, 17, NULL);
    ck_assert_int_eq(res.count, 0);
    ck_assert_int_eq(res.next_offset, 25);
    free(b);
}
END_TEST

static void committed_only(struct consumer_config *cfg) { cfg->read_committed = true; }

/* Two producers interleaved: 1 aborts then commits, 2 commits; one without transactions. */
START_TEST(aborted_transactions) {
    struct reader *b = reader_new();
    add_batch(b, 2, 0, CODEC_NONE, 0, -1);                   /* 0 1   */
    add_batch(b, 2, 0, CODEC_NONE, BATCH_TRANSACTIONAL, 1);  /* 2 3   aborted */
    add_batch(b, 2, 0, CODEC_GZIP, BATCH_TRANSACTIONAL, 2);  /* 4 5   */
    add_batch(b, 2, 0, CODEC_GZIP, BATCH_TRANSACTIONAL, 1);  /* 6 7   aborted */
    add_marker(b, false, 1);                                 /* 8     */
    add_batch(b, 2, 0, CODEC_NONE, BATCH_TRANSACTIONAL, 1);  /* 9 10  */
    add_marker(b, true, 2);                                  /* 11    */
    add_marker(b, true, 1);                                  /* 12    */
    add_batch(b, 1, 0, CODEC_NONE, BATCH_TRANSACTIONAL, 1);  /* 13    aborted */
    add_batch(b, 1, 0, CODEC_NONE, 0, 1);                    /* 14    not of the transaction */
    add_marker(b, false, 1);                                 /* 15    */
    b->aborted[0].producer_id = b->aborted[1].producer_id = 1;
    b->aborted[0].first_offset = 13;
    b->aborted[0].marker_offset = 15;
    b->aborted[1].first_offset = 2;
    b->aborted[1].marker_offset = 8;
    b->aborted_count = 2;
    static const int64_t committed[] = {0, 1, 4, 5, 9, 10, 14}, all[] = {0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 13, 14};
    struct result res = read_all(b, 0, committed_only);
    ck_assert_int_eq(res.count, 7);
    ck_assert_int_eq(memcmp(res.offsets, committed, sizeof committed), 0);
    ck_assert_int_eq(res.next_offset, 16);
    b->bytes_max = 200; /* the same when it comes in pieces */
    res = read_all(b, 0, committed_only);
    ck_assert_int_eq(res.count, 7);
    ck_assert_int_eq(memcmp(res.offsets, committed, sizeof committed), 0);
    b->bytes_max = 0;
    b->aborted_count = -1;
    res = read_all(b, 0, NULL);
    ck_assert_int_eq(res.count, 12);
    ck_assert_int_eq(memcmp(res.offsets, all, sizeof all), 0);
    free(b);
}
END_TEST

START_TEST(damage_is_told_after_what_was_sound) {
    struct reader *b = reader_new();
    add_batch(b, 5, 0, CODEC_NONE, 0, -1);
    size_t second = b->len;
    add_batch(b, 5, 0, CODEC_NONE, 0, -1);
    b->log[b->len - 3] ^= 1;
    struct result res = read_all(b, 0, NULL);
    ck_assert_int_eq(res.count, 5);
    ck_assert_int_eq(res.err, ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(res.message, "offset 5"));
    b->log[second + 16] = 1; /* an older format */
    res = read_all(b, 0, NULL);
    ck_assert_int_eq(res.count, 5);
    ck_assert_int_eq(res.err, ERR_UNSUPPORTED);
    b->log[second + 16] = 2;
    store_be32(b->log + second + 8, 3);
    res = read_all(b, 0, NULL);
    ck_assert_int_eq(res.count, 5);
    ck_assert_int_eq(res.err, ERR_CORRUPT);
    free(b);
}
END_TEST

static void small_batches_only(struct consumer_config *cfg) { cfg->batch_bytes_max = 1000; }

START_TEST(bombs) {
    struct reader *b = reader_new();
    add_batch(b, 3, 0, CODEC_ZSTD, 0, -1);
    add_batch(b, 2000, 0, CODEC_ZSTD, 0, -1);
    struct result res = read_all(b, 0, small_batches_only);
    ck_assert_int_eq(res.count, 3);
    ck_assert_int_eq(res.err, ERR_TOO_LARGE);
    free(b);
}
END_TEST

START_TEST(errors_that_pass) {
    static const int16_t passing[] = {KERR_FENCED_LEADER_EPOCH, KERR_UNKNOWN_LEADER_EPOCH, KERR_NOT_LEADER_OR_FOLLOWER, KERR_UNKNOWN_TOPIC_ID,
                                      KERR_INCONSISTENT_TOPIC_ID, KERR_OFFSET_NOT_AVAILABLE, KERR_REPLICA_NOT_AVAILABLE, KERR_KAFKA_STORAGE_ERROR};
    struct reader *b = reader_new();
    add_batch(b, 10, 0, CODEC_NONE, 0, -1);
    memcpy(b->errors, passing, sizeof passing);
    b->error_count = 8;
    b->top_error = KERR_FETCH_SESSION_ID_NOT_FOUND;
    struct result res = read_all(b, 0, NULL);
    expect_range(&res, 0, 10);
    ck_assert_int_gt(b->requests, 8);
    free(b);
}
END_TEST

START_TEST(errors_that_stay) {
    static const int16_t staying[] = {KERR_TOPIC_AUTHORIZATION_FAILED, KERR_OFFSET_OUT_OF_RANGE, KERR_UNKNOWN_SERVER_ERROR, 999};
    for (size_t i = 0; i < sizeof staying / sizeof *staying; i++) {
        struct reader *b = reader_new();
        b->errors[0] = staying[i];
        b->error_count = 1;
        struct result res = read_all(b, 0, NULL);
        ck_assert_int_ne(res.err, OK);
        ck_assert_int_eq(res.code, staying[i]);
        free(b);
    }
}
END_TEST

START_TEST(null_records_are_none) {
    struct reader *b = reader_new();
    b->null_records = true;
    struct result res = read_all(b, 0, NULL);
    ck_assert(res.ended);
    ck_assert_int_eq(res.count, 0);
    free(b);
}
END_TEST

static void impatient(struct consumer_config *cfg) { cfg->retry_timeout_ms = 30; }

/* Whatever comes, nothing crashes, and it ends. (Offsets may be nonsense: only batches have checksums.) */
START_TEST(garbled_answers) {
    for (uint64_t seed = 0; seed < 30; seed++) {
        struct reader *b = reader_new();
        b->dice = (seed + (uint64_t)_i * 1000) * 0x9e3779b97f4a7c15u + 1;
        b->apis[0].min_version = b->apis[0].max_version = (int16_t)_i;
        b->garble = seed % 3 == 0 ? 20 : 200;
        for (int i = 0; i < 5; i++) add_batch(b, 5, 0, (enum batch_codec)i, 0, -1);
        struct result res = read_all(b, 0, impatient);
        ck_assert(res.ended || res.err);
        free(b);
    }
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("fetch");
    tcase_set_timeout(tc, 300);
    tcase_add_loop_test(tc, every_version, 4, 18);
    tcase_add_test(tc, names_when_there_are_no_ids);
    tcase_add_test(tc, from_the_middle_of_a_batch);
    tcase_add_test(tc, cut_batches);
    tcase_add_test(tc, asks_for_more_when_a_batch_does_not_fit);
    tcase_add_test(tc, gaps_of_compaction);
    tcase_add_test(tc, aborted_transactions);
    tcase_add_test(tc, damage_is_told_after_what_was_sound);
    tcase_add_test(tc, bombs);
    tcase_add_test(tc, errors_that_pass);
    tcase_add_test(tc, errors_that_stay);
    tcase_add_test(tc, null_records_are_none);
    tcase_add_loop_test(tc, garbled_answers, 4, 18);
    Suite *suite = suite_create("client_fetch");
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed;
}
