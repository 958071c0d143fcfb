/* Exactly once, against a broker that misbehaves by dice: a small one in a thread, with Kafka's
 * sequence rules, which loses answers, hangs up before or after appending, cuts answers short and
 * refuses. Afterwards its log must hold each record that was reported delivered once, in order,
 * and none that was reported as refused. */
#include <check.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/client.h"
#include "proto/kafka_errors.h"
#include "proto/kafka_messages.h"

enum { PARTITIONS = 2, CONNS = 8, FRAME_MAX = 1 << 20, LOG_MAX = 100000, WINDOW = 5, PRODUCER_ID = 77 };

struct seen { int32_t first, last; int64_t offset; };
struct part {
    int32_t records[LOG_MAX];     /* the number each record's value spells */
    int32_t count;
    int16_t epoch;                /* -1: the producer is not known here */
    struct seen window[WINDOW];
    int32_t window_count;
};
struct broker {
    int listener, port;
    int fds[CONNS];
    uint8_t *in[CONNS];
    size_t in_len[CONNS];
    struct part parts[PARTITIONS];
    uint64_t dice;
    int trouble_percent, refuse_percent;
    int produced, hung_up, refused;
    atomic_bool stop;
    pthread_t thread;
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

static void answer_metadata(const struct broker *b, struct wire_writer *w, int16_t version) {
    struct k_metadata_response m;
    struct k_metadata_response_brokers broker;
    struct k_metadata_response_topics topic;
    struct k_metadata_response_topics_partitions parts[PARTITIONS];
    k_metadata_response_init(&m);
    k_metadata_response_brokers_init(&broker);
    k_metadata_response_topics_init(&topic);
    broker.node_id = 1;
    broker.host = STR_LIT("127.0.0.1");
    broker.port = b->port;
    topic.name = STR_LIT("t");
    for (int32_t i = 0; i < PARTITIONS; i++) {
        k_metadata_response_topics_partitions_init(&parts[i]);
        parts[i].partition_index = i;
        parts[i].leader_id = 1;
    }
    topic.partitions = parts;
    topic.partitions_n = PARTITIONS;
    m.brokers = &broker;
    m.brokers_n = 1;
    m.controller_id = 1;
    m.topics = &topic;
    m.topics_n = 1;
    k_metadata_response_encode(&m, w, version);
}

static void answer_versions(struct wire_writer *w, int16_t version) {
    struct k_api_versions_response m;
    struct k_api_versions_response_api_keys keys[] = {
        {API_PRODUCE, 3, 9}, {API_METADATA, 0, 8}, {API_API_VERSIONS, 0, 3}, {API_INIT_PRODUCER_ID, 0, 4}};
    k_api_versions_response_init(&m);
    m.error_code = version > 3 ? KERR_UNSUPPORTED_VERSION : KERR_NONE;
    m.api_keys = keys;
    m.api_keys_n = 4;
    k_api_versions_response_encode(&m, w, version > 3 ? 0 : version);
}

static enum fate answer(struct broker *b, struct wire_reader *r, struct wire_writer *w) {
    struct kafka_request_header h;
    if (kafka_request_header_read(r, &h)) abort();
    wire_put_i32(w, 0);
    kafka_response_header_write(w, h.api_key, h.api_version > 3 && h.api_key == API_API_VERSIONS ? 0 : h.api_version, h.correlation_id);
    enum fate fate = ANSWER;
    struct k_init_producer_id_response init;
    switch (h.api_key) {
    case API_PRODUCE: fate = answer_produce(b, r, w, h.api_version); break;
    case API_METADATA: answer_metadata(b, w, h.api_version); break;
    case API_API_VERSIONS: answer_versions(w, h.api_version); break;
    case API_INIT_PRODUCER_ID:
        k_init_producer_id_response_init(&init);
        init.producer_id = PRODUCER_ID;
        init.producer_epoch = 0;
        k_init_producer_id_response_encode(&init, w, h.api_version);
        break;
    default: abort();
    }
    wire_patch_i32(w, 0, (int32_t)(w->len - 4));
    return fate;
}

/* ---- sockets ---------------------------------------------------------------------------------- */

static void hang_up(struct broker *b, int i) {
    close(b->fds[i]);
    b->fds[i] = -1;
    b->in_len[i] = 0;
}

static void handle_frame(struct broker *b, int i, size_t size) {
    struct arena arena;
    struct wire_writer w;
    arena_init(&arena, 1 << 20);
    wire_writer_init(&w, 1 << 20);
    struct wire_reader r = wire_reader_init(b->in[i] + 4, size, &arena);
    enum fate fate = answer(b, &r, &w);
    if (w.err) abort();
    size_t len = fate == CUT_ANSWER ? 1 + roll(b, (uint32_t)w.len - 1) : w.len;
    bool gone = fate == APPEND_AND_HANG_UP || fate == HANG_UP;
    if (!gone && send(b->fds[i], w.data, len, MSG_NOSIGNAL) != (ssize_t)len) gone = true;
    if (gone || fate == CUT_ANSWER) {
        b->hung_up++;
        hang_up(b, i);
    }
    wire_writer_free(&w);
    arena_free(&arena);
}

static void readable(struct broker *b, int i) {
    ssize_t n = recv(b->fds[i], b->in[i] + b->in_len[i], FRAME_MAX - b->in_len[i], 0);
    if (n <= 0) {
        hang_up(b, i);
        return;
    }
    b->in_len[i] += (size_t)n;
    while (b->fds[i] >= 0 && b->in_len[i] >= 4) {
        size_t size = load_be32(b->in[i]);
        if (size + 4 > FRAME_MAX) abort();
        if (b->in_len[i] < size + 4) break;
        handle_frame(b, i, size);
        if (b->fds[i] < 0) break;
        b->in_len[i] -= size + 4;
        memmove(b->in[i], b->in[i] + size + 4, b->in_len[i]);
    }
}

static void *serve(void *arg) {
    struct broker *b = arg;
    while (!atomic_load(&b->stop)) {
        struct pollfd fds[CONNS + 1] = {{.fd = b->listener, .events = POLLIN}};
        for (int i = 0; i < CONNS; i++) fds[i + 1] = (struct pollfd){.fd = b->fds[i], .events = POLLIN};
        if (poll(fds, CONNS + 1, 20) <= 0) continue;
        for (int i = 0; i < CONNS; i++) {
            if (fds[i + 1].fd >= 0 && fds[i + 1].revents) readable(b, i);
        }
        for (int i = 0; fds[0].revents && i < CONNS; i++) {
            if (b->fds[i] >= 0) continue;
            b->fds[i] = accept(b->listener, NULL, NULL);
            break;
        }
    }
    return NULL;
}

static struct broker *broker_start(uint64_t seed, int trouble_percent, int refuse_percent) {
    struct broker *b = calloc(1, sizeof *b);
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof addr;
    b->dice = seed * 0x9e3779b97f4a7c15u + 1;
    b->trouble_percent = trouble_percent;
    b->refuse_percent = refuse_percent;
    b->listener = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(b->listener, (struct sockaddr *)&addr, sizeof addr), 0);
    ck_assert_int_eq(listen(b->listener, 16), 0);
    ck_assert_int_eq(getsockname(b->listener, (struct sockaddr *)&addr, &len), 0);
    b->port = ntohs(addr.sin_port);
    for (int i = 0; i < CONNS; i++) {
        b->fds[i] = -1;
        b->in[i] = malloc(FRAME_MAX);
    }
    for (int i = 0; i < PARTITIONS; i++) b->parts[i].epoch = -1;
    ck_assert_int_eq(pthread_create(&b->thread, NULL, serve, b), 0);
    return b;
}

static void broker_join(struct broker *b) {
    atomic_store(&b->stop, true);
    pthread_join(b->thread, NULL);
}

static void broker_free(struct broker *b) {
    for (int i = 0; i < CONNS; i++) {
        if (b->fds[i] >= 0) close(b->fds[i]);
        free(b->in[i]);
    }
    close(b->listener);
    free(b);
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
    char bootstrap[64], why[256], value[32];
    snprintf(bootstrap, sizeof bootstrap, "127.0.0.1:%d", b->port);
    client_config_init(&cfg);
    cfg.bootstrap = bootstrap;
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
    broker_join(b);
    if (trouble_percent > 0) ck_assert_int_gt(b->hung_up, 0);
    if (trouble_percent > 0) ck_assert_uint_gt(stats->retries, 0);
    if (refuse_percent > 0) ck_assert_int_gt(b->refused, 0);
    else ck_assert_uint_eq(stats->records_failed, 0);
    ck_assert_int_gt(b->produced, RECORDS / 40);
    producer_destroy(p);
    client_destroy(c);
    check_logs(b, o);
    broker_free(b);
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
