/* Exactly once, against a broker that misbehaves by dice: a small one in a thread, with Kafka's
 * sequence rules, which loses answers, hangs up before or after appending, cuts answers short and
 * refuses. Afterwards its log must hold each record that was reported delivered once, in order,
 * and none that was reported as refused. */
#include "tests/unit/tiny_broker.h"

enum { PARTITIONS = TINY_PARTITIONS, LOG_MAX = 100000, WINDOW = 5, PRODUCER_ID = 77 };

struct seen { int32_t first, last; int64_t offset; };
struct part {
    int32_t records[LOG_MAX];     /* the number each record's value spells */
    int32_t count;
    int16_t epoch;                /* -1: the producer is not known here */
    struct seen window[WINDOW];
    int32_t window_count;
};
struct broker {
    struct tiny_broker tiny;
    struct part parts[PARTITIONS];
    uint64_t dice;
    int trouble_percent, refuse_percent;
    int produced, hung_up, refused;
};

static uint32_t roll(struct broker *b, uint32_t n) {
    b->dice ^= b->dice << 13;
    b->dice ^= b->dice >> 7;
    b->dice ^= b->dice << 17;
    return (uint32_t)(b->dice >> 20) % n;
}

/* ---- the log ---------------------------------------------------------------------------------- */

/* Kafka's rules for an idempotent batch: the code, and where it is. */
static int16_t check_sequence(struct part *p, const struct batch_header *h, int64_t *offset) {
    int32_t first = h->base_sequence, last = batch_last_sequence(h);
    if (p->epoch < 0) return KERR_NONE;
    if (h->producer_epoch < p->epoch) return KERR_INVALID_PRODUCER_EPOCH;
    if (h->producer_epoch > p->epoch) return first == 0 ? KERR_NONE : KERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    for (int32_t i = 0; i < p->window_count; i++) {
        if (p->window[i].first != first || p->window[i].last != last) continue;
        *offset = p->window[i].offset;
        return KERR_DUPLICATE_SEQUENCE_NUMBER;
    }
    int32_t next = p->window[p->window_count - 1].last + 1;
    return first == next ? KERR_NONE : KERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
}

static void append(struct part *p, const uint8_t *batch, const struct batch_header *h) {
    struct record_iter it;
    struct record r;
    if (h->producer_epoch != p->epoch) p->window_count = 0;
    p->epoch = h->producer_epoch;
    if (p->window_count == WINDOW) memmove(p->window, p->window + 1, sizeof *p->window * (size_t)--p->window_count);
    p->window[p->window_count++] = (struct seen){h->base_sequence, batch_last_sequence(h), p->count};
    if (record_iter_init(&it, batch, h, 1 << 20)) abort();
    while (record_iter_next(&it, &r) == OK && p->count < LOG_MAX) p->records[p->count++] = (int32_t)strtol((const char *)r.value.p, NULL, 10);
    record_iter_free(&it);
}

static int16_t produce(struct broker *b, struct bytes records, int32_t partition, int64_t *offset, bool may_append) {
    struct batch_header h;
    struct part *p = &b->parts[partition];
    if (batch_parse(records.p, (size_t)records.len, &h) || !batch_crc_ok(records.p, &h)) return KERR_CORRUPT_MESSAGE;
    if (h.producer_id != PRODUCER_ID) return KERR_UNKNOWN_PRODUCER_ID;
    int16_t code = check_sequence(p, &h, offset);
    if (code == KERR_DUPLICATE_SEQUENCE_NUMBER) return KERR_NONE;
    if (code != KERR_NONE || !may_append) return code;
    *offset = p->count;
    append(p, records.p, &h);
    b->produced++;
    return KERR_NONE;
}

/* ---- answers ---------------------------------------------------------------------------------- */

enum fate { ANSWER, APPEND_AND_HANG_UP, HANG_UP, CUT_ANSWER, SAY_TIMED_OUT, SAY_NOT_ENOUGH, SAY_TOO_LARGE };

static enum fate pick_fate(struct broker *b) {
    if ((int)roll(b, 100) < b->refuse_percent) return SAY_TOO_LARGE;
    if ((int)roll(b, 100) >= b->trouble_percent) return ANSWER;
    return (enum fate)(APPEND_AND_HANG_UP + roll(b, 5));
}

static enum fate answer_produce(struct broker *b, struct wire_reader *r, struct wire_writer *w, int16_t version) {
    struct k_produce_request m;
    struct k_produce_response res;
    struct k_produce_response_responses topic;
    struct k_produce_response_responses_partition_responses parts[PARTITIONS];
    if (k_produce_request_decode(&m, r, version) || m.topic_data_n != 1) abort();
    k_produce_response_init(&res);
    k_produce_response_responses_init(&topic);
    topic.name = m.topic_data[0].name;
    topic.partition_responses = parts;
    topic.partition_responses_n = m.topic_data[0].partition_data_n;
    enum fate fate = pick_fate(b);
    for (int32_t i = 0; i < topic.partition_responses_n; i++) {
        const struct k_produce_request_topic_data_partition_data *p = &m.topic_data[0].partition_data[i];
        k_produce_response_responses_partition_responses_init(&parts[i]);
        parts[i].index = p->index;
        parts[i].base_offset = -1;
        bool append_it = fate != HANG_UP && fate != SAY_NOT_ENOUGH && fate != SAY_TOO_LARGE;
        parts[i].error_code = produce(b, p->records, p->index, &parts[i].base_offset, append_it);
        if (parts[i].error_code == KERR_NONE && fate == SAY_TIMED_OUT) parts[i].error_code = KERR_REQUEST_TIMED_OUT;
        if (parts[i].error_code == KERR_NONE && fate == SAY_NOT_ENOUGH) parts[i].error_code = KERR_NOT_ENOUGH_REPLICAS;
        /* A final refusal must be true: not for a batch that is in the log already. */
        if (parts[i].error_code == KERR_NONE && fate == SAY_TOO_LARGE && parts[i].base_offset < 0) {
            parts[i].error_code = KERR_MESSAGE_TOO_LARGE;
            b->refused++;
        }
    }
    res.responses = &topic;
    res.responses_n = 1;
    k_produce_response_encode(&res, w, version);
    return fate;
}

static enum tiny_fate handle(void *ctx, const struct kafka_request_header *h, struct wire_reader *r, struct wire_writer *w) {
    struct broker *b = ctx;
    if (h->api_key == API_INIT_PRODUCER_ID) {
        struct k_init_producer_id_response m;
        k_init_producer_id_response_init(&m);
        m.producer_id = PRODUCER_ID;
        m.producer_epoch = 0;
        k_init_producer_id_response_encode(&m, w, h->api_version);
        return TINY_ANSWER;
    }
    if (h->api_key != API_PRODUCE) abort();
    switch (answer_produce(b, r, w, h->api_version)) {
    case APPEND_AND_HANG_UP:
    case HANG_UP: b->hung_up++; return TINY_HANG_UP;
    case CUT_ANSWER: b->hung_up++; b->tiny.cut_bytes = 1 + roll(b, 1000); return TINY_CUT_ANSWER;
    default: return TINY_ANSWER;
    }
}

static struct broker *broker_start(uint64_t seed, int trouble_percent, int refuse_percent) {
    static const struct k_api_versions_response_api_keys apis[] = {{API_PRODUCE, 3, 9}, {API_INIT_PRODUCER_ID, 0, 4}};
    struct broker *b = calloc(1, sizeof *b);
    b->dice = seed * 0x9e3779b97f4a7c15u + 1;
    b->trouble_percent = trouble_percent;
    b->refuse_percent = refuse_percent;
    for (int i = 0; i < PARTITIONS; i++) b->parts[i].epoch = -1;
    b->tiny.ctx = b;
    b->tiny.handle = handle;
    b->tiny.apis = apis;
    b->tiny.api_count = 2;
    tiny_start(&b->tiny);
    return b;
}

/* ---- the test --------------------------------------------------------------------------------- */

enum { RECORDS = 1500 };
struct outcome { enum err err[RECORDS]; int64_t offset[RECORDS]; int reported[RECORDS]; };

static void on_report(void *ctx, const struct producer_report *r) {
    struct outcome *o = ctx;
    o->err[r->tag] = r->err;
    o->offset[r->tag] = r->offset;
    o->reported[r->tag]++;
}

static void check_logs(const struct broker *b, const struct outcome *o) {
    for (int32_t p = 0; p < PARTITIONS; p++) {
        int32_t at = 0;
        for (int32_t i = p; i < RECORDS; i += PARTITIONS) {
            ck_assert_int_eq(o->reported[i], 1);
            if (o->err[i]) continue;
            ck_assert_int_lt(at, b->parts[p].count);
            ck_assert_msg(b->parts[p].records[at] == i, "partition %d offset %d holds %d, not %d", p, at, b->parts[p].records[at], i);
            if (o->offset[i] >= 0) ck_assert_int_eq(o->offset[i], at);
            at++;
        }
        ck_assert_int_eq(at, b->parts[p].count);
    }
}

static void run(uint64_t seed, int trouble_percent, int refuse_percent, int32_t in_flight) {
    struct broker *b = broker_start(seed, trouble_percent, refuse_percent);
    struct outcome *o = calloc(1, sizeof *o);
    struct client_config cfg;
    struct producer_config pcfg;
    char why[256], value[32];
    client_config_init(&cfg);
    cfg.bootstrap = b->tiny.bootstrap;
    cfg.backoff_ms = 1;
    cfg.backoff_max_ms = 4;
    struct client *c = client_create(&cfg, why, sizeof why);
    ck_assert_ptr_nonnull(c);
    producer_config_init(&pcfg);
    pcfg.batch_bytes = 160;
    pcfg.linger_ms = 1;
    pcfg.in_flight_max = in_flight;
    pcfg.report = on_report;
    pcfg.report_ctx = o;
    struct producer *p = producer_create(c, &pcfg);
    ck_assert_ptr_nonnull(p);
    for (int i = 0; i < RECORDS; i++) {
        int len = snprintf(value, sizeof value, "%d", i);
        struct producer_record r = {.topic = "t", .partition = i % PARTITIONS, .value = {(uint8_t *)value, len + 1}, .timestamp_ms = -1, .tag = (uint64_t)i};
        ck_assert_msg(producer_send(p, &r) == OK, "%s", client_error(c));
    }
    ck_assert_msg(producer_flush(p, 120000) == OK, "%s", client_error(c));
    const struct producer_stats *stats = producer_stats(p);
    ck_assert_uint_eq(stats->records_delivered + stats->records_failed, RECORDS);
    tiny_stop(&b->tiny);
    if (trouble_percent > 0) ck_assert_int_gt(b->hung_up, 0);
    if (trouble_percent > 0) ck_assert_uint_gt(stats->retries, 0);
    if (refuse_percent > 0) ck_assert_int_gt(b->refused, 0);
    else ck_assert_uint_eq(stats->records_failed, 0);
    ck_assert_int_gt(b->produced, RECORDS / 40);
    producer_destroy(p);
    client_destroy(c);
    check_logs(b, o);
    free(b);
    free(o);
}

START_TEST(no_trouble) { run(1, 0, 0, 5); }
END_TEST

START_TEST(lost_answers_and_connections) { run((uint64_t)_i + 100, 10 + 10 * (_i % 4), 0, 1 + _i % 5); }
END_TEST

START_TEST(refusals_too) { run((uint64_t)_i + 200, 10 + 10 * (_i % 4), 6, 1 + _i % 5); }
END_TEST

int main(void) {
    TCase *tc = tcase_create("faults");
    tcase_set_timeout(tc, 300);
    tcase_add_test(tc, no_trouble);
    tcase_add_loop_test(tc, lost_answers_and_connections, 0, 20);
    tcase_add_loop_test(tc, refusals_too, 0, 20);
    Suite *suite = suite_create("client_faults");
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed;
}
