/* libvarve against the mock brokers inside librdkafka: a peer that we did not write. Some tests
 * also let librdkafka's own consumer read what we wrote, and ours what it wrote. */
#include <check.h>
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/client.h"
#include "proto/compress.h"
#include "proto/kafka_errors.h"
#include "proto/kafka_messages.h"

enum { BROKERS = 3, PARTITIONS = 4, TIMEOUT_MS = 60000 };

struct world {
    rd_kafka_t *rk;
    rd_kafka_mock_cluster_t *mock;
    struct client *client;
};

static struct client *new_client(const char *bootstrap) {
    struct client_config cfg;
    char why[256];
    client_config_init(&cfg);
    cfg.bootstrap = bootstrap;
    cfg.request_timeout_ms = 10000;
    struct client *c = client_create(&cfg, why, sizeof why);
    ck_assert_msg(c != NULL, "%s", why);
    return c;
}

static struct world world_open(void) {
    char why[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "log_level", "3", why, sizeof why);
    struct world w = {.rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why)};
    ck_assert_ptr_nonnull(w.rk);
    w.mock = rd_kafka_mock_cluster_new(w.rk, BROKERS);
    ck_assert_ptr_nonnull(w.mock);
    ck_assert_int_eq(rd_kafka_mock_topic_create(w.mock, "t", PARTITIONS, 1), 0);
    w.client = new_client(rd_kafka_mock_cluster_bootstraps(w.mock));
    return w;
}

static void world_close(struct world *w) {
    client_destroy(w->client);
    rd_kafka_mock_cluster_destroy(w->mock);
    rd_kafka_destroy(w->rk);
}

/* ---- producing -------------------------------------------------------------------------------- */

struct tally { /* what the reports said, per partition: offsets must be dense and tags ascending */
    int64_t next_offset[PARTITIONS];
    uint64_t last_tag[PARTITIONS];
    int ok, failed, disorder;
    enum err err;
    int16_t code;
};

static void on_report(void *ctx, const struct producer_report *r) {
    struct tally *t = ctx;
    if (r->err) {
        t->failed++;
        t->err = r->err;
        t->code = r->code;
        return;
    }
    t->ok++;
    if (r->offset >= 0 && r->offset != t->next_offset[r->partition]) t->disorder++;
    t->next_offset[r->partition] = r->offset + 1;
    if (r->tag <= t->last_tag[r->partition]) t->disorder++;
    t->last_tag[r->partition] = r->tag;
}

static struct producer *new_producer(struct world *w, struct tally *t, void (*tune)(struct producer_config *cfg)) {
    struct producer_config cfg;
    producer_config_init(&cfg);
    cfg.report = on_report;
    cfg.report_ctx = t;
    if (tune) tune(&cfg);
    struct producer *p = producer_create(w->client, &cfg);
    ck_assert_msg(p != NULL, "%s", client_error(w->client));
    return p;
}

static struct bytes text(const char *s) { return (struct bytes){(const uint8_t *)s, s ? (int32_t)strlen(s) : 0}; }

/* Record `i`, made so that a reader can check every byte: keys and values of many kinds. */
struct sample {
    char key[32], value[400];
    struct bytes k, v;
    struct record_header headers[2];
    int32_t header_count;
};

static void make_sample(struct sample *s, int i) {
    snprintf(s->key, sizeof s->key, "key-%d", i % 97);
    snprintf(s->value, sizeof s->value, "value %d %.*s", i, i % 300, "the quick brown fox jumps over the lazy dog again and again, "
             "the quick brown fox jumps over the lazy dog again and again, the quick brown fox jumps over the lazy dog again and again, "
             "the quick brown fox jumps over the lazy dog again and again, the quick brown fox jumps over the lazy dog again and agai");
    s->k = i % 7 == 0 ? BYTES_NULL : i % 11 == 0 ? text("") : text(s->key);
    s->v = i % 13 == 1 ? BYTES_NULL : i % 17 == 1 ? text("") : text(s->value);
    s->header_count = i % 3;
    s->headers[0] = (struct record_header){STR_LIT("trace"), text(s->key)};
    s->headers[1] = (struct record_header){STR_LIT("empty"), i % 2 ? BYTES_NULL : text("")};
}

static void send_sample(struct world *w, struct producer *p, const char *topic, int32_t partition, int i) {
    struct sample s;
    make_sample(&s, i);
    enum err err = producer_send(p, &(struct producer_record){
        .topic = topic, .partition = partition, .key = s.k, .value = s.v, .headers = s.headers, .header_count = s.header_count,
        .timestamp_ms = 1700000000000 + i, .tag = (uint64_t)i + 1});
    ck_assert_msg(err == OK, "%s", client_error(w->client));
}

static void flush(struct world *w, struct producer *p) {
    enum err err = producer_flush(p, TIMEOUT_MS);
    ck_assert_msg(err == OK, "%s", client_error(w->client));
}

static bool same(struct bytes a, struct bytes b) {
    return (a.p == NULL) == (b.p == NULL) && a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, (size_t)a.len) == 0);
}

static void expect_sample(const struct record *r, int i) {
    struct sample s;
    make_sample(&s, i);
    ck_assert(same(r->key, s.k));
    ck_assert(same(r->value, s.v));
    ck_assert_int_eq(r->timestamp, 1700000000000 + i);
    ck_assert_int_eq(r->header_count, s.header_count);
    const uint8_t *cursor = r->headers_raw, *end = cursor + r->headers_raw_len;
    for (int32_t h = 0; h < s.header_count; h++) {
        struct record_header got;
        ck_assert_int_eq(record_header_next(&cursor, end, &got), OK);
        ck_assert(str_eq(got.key, s.headers[h].key) && same(got.value, s.headers[h].value));
    }
}

/* ---- consuming -------------------------------------------------------------------------------- */

static struct consumer *new_consumer(struct client *c, void (*tune)(struct consumer_config *cfg)) {
    struct consumer_config cfg;
    consumer_config_init(&cfg);
    cfg.max_wait_ms = 50;
    if (tune) tune(&cfg);
    struct consumer *k = consumer_create(c, &cfg);
    ck_assert_ptr_nonnull(k);
    return k;
}

static const struct consumer_event *poll_event(struct client *c, struct consumer *k) {
    const struct consumer_event *ev;
    enum err err = consumer_poll(k, TIMEOUT_MS, &ev);
    ck_assert_msg(err == OK, "%s", client_error(c));
    return ev;
}

/* All of one partition, samples first, first + step, ... in order. Returns how many. */
static int expect_partition(struct client *c, const char *topic, int32_t partition, int first, int step) {
    struct consumer *k = new_consumer(c, NULL);
    ck_assert_int_eq(consumer_assign(k, topic, partition, OFFSET_EARLIEST), OK);
    int count = 0;
    for (;;) {
        const struct consumer_event *ev = poll_event(c, k);
        ck_assert_msg(ev->kind != CONSUMER_ERROR, "%s", ev->kind == CONSUMER_ERROR ? ev->message : "");
        if (ev->kind == CONSUMER_END) {
            ck_assert_int_eq(ev->next_offset, count);
            break;
        }
        ck_assert_int_eq(ev->record.offset, count);
        ck_assert_str_eq(ev->topic, topic);
        ck_assert_int_eq(ev->partition, partition);
        expect_sample(&ev->record, first + count * step);
        count++;
    }
    consumer_destroy(k);
    return count;
}

/* librdkafka's consumer reads the same. */
static void expect_by_librdkafka(struct world *w, const char *topic, int32_t partition, int count) {
    char why[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    ck_assert_int_eq(rd_kafka_conf_set(conf, "bootstrap.servers", rd_kafka_mock_cluster_bootstraps(w->mock), why, sizeof why), RD_KAFKA_CONF_OK);
    ck_assert_int_eq(rd_kafka_conf_set(conf, "check.crcs", "true", why, sizeof why), RD_KAFKA_CONF_OK);
    ck_assert_int_eq(rd_kafka_conf_set(conf, "group.id", "g", why, sizeof why), RD_KAFKA_CONF_OK);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof why);
    ck_assert_ptr_nonnull(rk);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, topic, partition)->offset = 0;
    ck_assert_int_eq(rd_kafka_assign(rk, list), 0);
    for (int i = 0; i < count; i++) {
        rd_kafka_message_t *m = rd_kafka_consumer_poll(rk, TIMEOUT_MS);
        ck_assert_ptr_nonnull(m);
        ck_assert_msg(m->err == 0, "%s", rd_kafka_message_errstr(m));
        struct sample s;
        make_sample(&s, i);
        ck_assert_int_eq(m->offset, i);
        ck_assert(same(s.k, (struct bytes){m->key, (int32_t)m->key_len}));
        ck_assert(same(s.v, (struct bytes){m->payload, (int32_t)m->len}));
        rd_kafka_headers_t *headers = NULL;
        rd_kafka_message_headers(m, &headers);
        ck_assert_int_eq(headers ? (int)rd_kafka_header_cnt(headers) : 0, s.header_count);
        rd_kafka_message_destroy(m);
    }
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_consumer_close(rk);
    rd_kafka_destroy(rk);
}

/* ---- tests ------------------------------------------------------------------------------------ */

static enum batch_codec the_codec;
static void with_codec(struct producer_config *cfg) { cfg->codec = the_codec; }

START_TEST(round_trip_with_each_codec) {
    enum { COUNT = 5000 };
    the_codec = (enum batch_codec)_i;
    struct world w = world_open();
    struct tally t = {0};
    struct producer *p = new_producer(&w, &t, with_codec);
    for (int i = 0; i < COUNT; i++) send_sample(&w, p, "t", 2, i);
    flush(&w, p);
    ck_assert_int_eq(t.ok, COUNT);
    ck_assert_int_eq(t.failed + t.disorder, 0);
    ck_assert_uint_eq(producer_stats(p)->records_delivered, COUNT);
    ck_assert_uint_eq(producer_stats(p)->buffered_bytes, 0);
    producer_destroy(p);
    ck_assert_int_eq(expect_partition(w.client, "t", 2, 0, 1), COUNT);
    expect_by_librdkafka(&w, "t", 2, COUNT);
    world_close(&w);
}
END_TEST

START_TEST(reads_what_librdkafka_writes) {
    enum { COUNT = 3000 };
    char why[256];
    struct world w = world_open();
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", rd_kafka_mock_cluster_bootstraps(w.mock), why, sizeof why);
    ck_assert_int_eq(rd_kafka_conf_set(conf, "compression.codec", codec_name((enum batch_codec)_i), why, sizeof why), RD_KAFKA_CONF_OK);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    ck_assert_ptr_nonnull(rk);
    for (int i = 0; i < COUNT; i++) {
        struct sample s;
        make_sample(&s, i);
        rd_kafka_headers_t *headers = rd_kafka_headers_new(2);
        for (int32_t h = 0; h < s.header_count; h++) {
            rd_kafka_header_add(headers, s.headers[h].key.p, s.headers[h].key.len, s.headers[h].value.p, s.headers[h].value.len);
        }
        ck_assert_int_eq(rd_kafka_producev(rk, RD_KAFKA_V_TOPIC("t"), RD_KAFKA_V_PARTITION(1), RD_KAFKA_V_KEY(s.k.p, (size_t)s.k.len),
                                           RD_KAFKA_V_VALUE((void *)s.v.p, (size_t)s.v.len), RD_KAFKA_V_TIMESTAMP(1700000000000 + i),
                                           RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_HEADERS(headers), RD_KAFKA_V_END), 0);
    }
    ck_assert_int_eq(rd_kafka_flush(rk, TIMEOUT_MS), 0);
    rd_kafka_destroy(rk);
    ck_assert_int_eq(expect_partition(w.client, "t", 1, 0, 1), COUNT);
    world_close(&w);
}
END_TEST

/* Values of org.apache.kafka.common.utils.Utils.murmur2, made positive. */
START_TEST(keys_go_where_java_sends_them) {
    static const struct { const char *key; int32_t hash; } known[] = {
        {"21", -973932308}, {"foobar", -790332482}, {"a-little-bit-long-string", -985981536},
        {"a-little-bit-longer-string", -1486304829}, {"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971}, {"abc", 479470107}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        ck_assert_int_eq(producer_partition_for_key(text(known[i].key), 1000), (known[i].hash & 0x7fffffff) % 1000);
    }
}
END_TEST

START_TEST(keys_choose_partitions_and_no_key_shares) {
    enum { COUNT = 4000 };
    struct world w = world_open();
    struct tally t = {0};
    struct producer *p = new_producer(&w, &t, NULL);
    char key[32];
    for (int i = 0; i < COUNT; i++) {
        snprintf(key, sizeof key, "k%d", i % 50);
        ck_assert_int_eq(producer_send(p, &(struct producer_record){.topic = "t", .partition = PARTITION_ANY, .key = text(key),
                                                                     .value = text("v"), .timestamp_ms = -1, .tag = (uint64_t)i + 1}), OK);
    }
    flush(&w, p);
    ck_assert_int_eq(t.ok, COUNT);
    int total = 0;
    struct consumer *k = new_consumer(w.client, NULL);
    for (int i = 0; i < PARTITIONS; i++) ck_assert_int_eq(consumer_assign(k, "t", i, 0), OK);
    for (int ended = 0; ended < PARTITIONS;) {
        const struct consumer_event *ev = poll_event(w.client, k);
        ck_assert_int_ne(ev->kind, CONSUMER_ERROR);
        ended += ev->kind == CONSUMER_END;
        if (ev->kind != CONSUMER_RECORD) continue;
        ck_assert_int_eq(ev->partition, producer_partition_for_key(ev->record.key, PARTITIONS));
        total++;
    }
    ck_assert_int_eq(total, COUNT);
    consumer_destroy(k);
    struct tally all = {0};
    struct producer *q = new_producer(&w, &all, NULL);
    for (int i = 0; i < 200; i++) { /* a batch each: they spread */
        ck_assert_int_eq(producer_send(q, &(struct producer_record){.topic = "t", .partition = PARTITION_ANY, .value = text("v"),
                                                                     .timestamp_ms = -1, .tag = (uint64_t)i + 1}), OK);
        flush(&w, q);
    }
    ck_assert_int_eq(all.ok, 200);
    for (int i = 0; i < PARTITIONS; i++) ck_assert_int_gt(all.next_offset[i], t.next_offset[i]);
    producer_destroy(q);
    producer_destroy(p);
    world_close(&w);
}
END_TEST

START_TEST(describes_the_cluster) {
    struct world w = world_open();
    struct client_cluster *cluster;
    ck_assert_msg(client_describe(w.client, NULL, 0, TIMEOUT_MS, &cluster) == OK, "%s", client_error(w.client));
    ck_assert_int_eq(cluster->broker_count, BROKERS);
    ck_assert_int_eq(cluster->topic_count, 1);
    ck_assert_str_eq(cluster->topics[0].name, "t");
    ck_assert_int_eq(cluster->topics[0].partition_count, PARTITIONS);
    for (int i = 0; i < PARTITIONS; i++) {
        ck_assert_int_eq(cluster->topics[0].partitions[i].index, i);
        ck_assert_int_gt(cluster->topics[0].partitions[i].leader, 0);
        ck_assert_int_ge(cluster->topics[0].partitions[i].replica_count, 1);
    }
    client_cluster_free(cluster);
    int32_t count = 0;
    ck_assert_int_eq(client_partition_count(w.client, "t", false, TIMEOUT_MS, &count), OK);
    ck_assert_int_eq(count, PARTITIONS);
    world_close(&w);
}
END_TEST

START_TEST(follows_a_leader_that_moves) {
    struct world w = world_open();
    struct tally t = {0};
    struct producer *p = new_producer(&w, &t, NULL);
    int sent = 0;
    for (int round = 0; round < 6; round++) {
        ck_assert_int_eq(rd_kafka_mock_partition_set_leader(w.mock, "t", 0, round % BROKERS + 1), 0);
        for (int i = 0; i < 200; i++) send_sample(&w, p, "t", 0, sent++);
        flush(&w, p);
    }
    ck_assert_int_eq(t.ok, sent);
    ck_assert_int_eq(t.failed + t.disorder, 0);
    producer_destroy(p);
    struct consumer *k = new_consumer(w.client, NULL);
    ck_assert_int_eq(consumer_assign(k, "t", 0, 0), OK);
    for (int i = 0; i < sent; i++) {
        if (i % 300 == 100) ck_assert_int_eq(rd_kafka_mock_partition_set_leader(w.mock, "t", 0, i / 300 % BROKERS + 1), 0);
        const struct consumer_event *ev = poll_event(w.client, k);
        ck_assert_int_eq(ev->kind, CONSUMER_RECORD);
        expect_sample(&ev->record, i);
    }
    consumer_destroy(k);
    world_close(&w);
}
END_TEST

static void in_small_batches(struct producer_config *cfg) {
    cfg->batch_bytes = 500;
    cfg->linger_ms = 0;
}
/* The mock does not refuse a batch whose predecessor failed, as a broker would; so one at a time. */
static void one_at_a_time(struct producer_config *cfg) {
    in_small_batches(cfg);
    cfg->in_flight_max = 1;
}

START_TEST(retries_what_may_be_retried) {
    struct world w = world_open();
    rd_kafka_mock_push_request_errors(w.mock, API_METADATA, 2, RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
    rd_kafka_mock_push_request_errors(w.mock, API_INIT_PRODUCER_ID, 2, RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
                                      RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE);
    rd_kafka_mock_push_request_errors(w.mock, API_PRODUCE, 6, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
                                      RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT, RD_KAFKA_RESP_ERR_NO_ERROR, RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
                                      RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR);
    struct tally t = {0};
    struct producer *p = new_producer(&w, &t, one_at_a_time);
    for (int i = 0; i < 500; i++) send_sample(&w, p, "t", 3, i);
    flush(&w, p);
    ck_assert_int_eq(t.ok, 500);
    ck_assert_int_eq(t.failed + t.disorder, 0);
    ck_assert_uint_ge(producer_stats(p)->retries, 5);
    producer_destroy(p);
    rd_kafka_mock_push_request_errors(w.mock, API_LIST_OFFSETS, 2, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE);
    rd_kafka_mock_push_request_errors(w.mock, API_FETCH, 3, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
                                      RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR);
    ck_assert_int_eq(expect_partition(w.client, "t", 3, 0, 1), 500);
    world_close(&w);
}
END_TEST

START_TEST(reports_what_may_not_be_retried) {
    struct world w = world_open();
    struct tally t = {0};
    struct producer *p = new_producer(&w, &t, in_small_batches);
    send_sample(&w, p, "t", 0, 0);
    flush(&w, p);
    rd_kafka_mock_push_request_errors(w.mock, API_PRODUCE, 1, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
    send_sample(&w, p, "t", 0, 1);
    flush(&w, p);
    ck_assert_int_eq(t.failed, 1);
    ck_assert_int_eq(t.err, ERR_TOO_LARGE);
    ck_assert_int_eq(t.code, KERR_MESSAGE_TOO_LARGE);
    send_sample(&w, p, "t", 0, 2); /* and goes on, under the next epoch */
    flush(&w, p);
    ck_assert_int_eq(t.ok, 2);
    enum err err = producer_send(p, &(struct producer_record){.topic = "t", .partition = PARTITIONS, .value = text("v")});
    ck_assert_int_eq(err, ERR_INVALID);
    char *big = calloc(1, 2 << 20);
    err = producer_send(p, &(struct producer_record){.topic = "t", .partition = 0, .value = {(uint8_t *)big, 2 << 20}});
    ck_assert_int_eq(err, ERR_TOO_LARGE);
    free(big);
    ck_assert_uint_eq(producer_stats(p)->records_sent, 3);
    /* Many empty headers behind a record that waits: larger than they look. */
    struct record_header *many = calloc(400000, sizeof *many);
    for (int i = 0; i < 400000; i++) many[i].key = STR_LIT("");
    send_sample(&w, p, "t", 0, 3);
    err = producer_send(p, &(struct producer_record){.topic = "t", .partition = 0, .value = text("v"), .headers = many, .header_count = 400000, .tag = 5});
    ck_assert_msg(err == OK, "%s", client_error(w.client));
    err = producer_send(p, &(struct producer_record){.topic = "t", .partition = 0, .value = text("v"), .headers = many, .header_count = 400000, .tag = 6});
    ck_assert_msg(err == OK, "%s", client_error(w.client));
    flush(&w, p);
    ck_assert_int_eq(t.ok, 5);
    free(many);
    producer_destroy(p);
    world_close(&w);
}
END_TEST

START_TEST(survives_a_broker_that_goes_and_comes) {
    struct world w = world_open();
    struct tally t = {0};
    ck_assert_int_eq(rd_kafka_mock_partition_set_leader(w.mock, "t", 0, 1), 0);
    struct producer *p = new_producer(&w, &t, in_small_batches);
    int sent = 0;
    for (int i = 0; i < 300; i++) send_sample(&w, p, "t", 0, sent++);
    rd_kafka_mock_broker_set_down(w.mock, 1);
    for (int i = 0; i < 300; i++) send_sample(&w, p, "t", 0, sent++);
    ck_assert_int_eq(producer_flush(p, 300), ERR_TIMEOUT);
    ck_assert_int_eq(t.failed, 0);
    rd_kafka_mock_broker_set_up(w.mock, 1);
    flush(&w, p);
    ck_assert_int_eq(t.ok, sent);
    ck_assert_int_eq(t.failed, 0);
    producer_destroy(p);
    /* The same for a reader in the middle of its work. */
    struct consumer *k = new_consumer(w.client, NULL);
    ck_assert_int_eq(consumer_assign(k, "t", 0, 0), OK);
    const struct consumer_event *ev;
    for (int i = 0; i < 100; i++) ck_assert_int_eq(poll_event(w.client, k)->kind, CONSUMER_RECORD);
    rd_kafka_mock_broker_set_down(w.mock, 1);
    while (consumer_poll(k, 200, &ev) == OK) ck_assert_int_ne(ev->kind, CONSUMER_ERROR);
    rd_kafka_mock_broker_set_up(w.mock, 1);
    struct tally t2 = {0};
    struct world other = {.client = new_client(rd_kafka_mock_cluster_bootstraps(w.mock))};
    p = new_producer(&other, &t2, NULL);
    send_sample(&other, p, "t", 0, 7);
    flush(&other, p);
    int got = 0;
    while (got == 0) {
        ev = poll_event(w.client, k);
        ck_assert_int_ne(ev->kind, CONSUMER_ERROR);
        if (ev->kind == CONSUMER_RECORD && ev->record.timestamp == 1700000000007 && ev->record.offset >= sent) got = 1;
    }
    producer_destroy(p);
    client_destroy(other.client);
    consumer_destroy(k);
    world_close(&w);
}
END_TEST

static void short_lived(struct producer_config *cfg) { cfg->delivery_timeout_ms = 500; }

START_TEST(gives_up_after_the_delivery_time) {
    struct world w = world_open();
    struct tally t = {0};
    struct producer *p = new_producer(&w, &t, NULL);
    for (int i = 0; i < 10; i++) send_sample(&w, p, "t", 0, i);
    flush(&w, p);
    producer_destroy(p);
    p = new_producer(&w, &t, short_lived);
    for (int b = 1; b <= BROKERS; b++) rd_kafka_mock_broker_set_down(w.mock, b);
    for (int i = 10; i < 20; i++) send_sample(&w, p, "t", 0, i);
    flush(&w, p);
    ck_assert_int_eq(t.ok, 10);
    ck_assert_int_eq(t.failed, 10);
    ck_assert_int_eq(t.err, ERR_TIMEOUT);
    for (int b = 1; b <= BROKERS; b++) rd_kafka_mock_broker_set_up(w.mock, b);
    producer_destroy(p);
    p = new_producer(&w, &t, NULL);
    for (int i = 20; i < 30; i++) send_sample(&w, p, "t", 0, i);
    flush(&w, p);
    ck_assert_int_eq(t.ok, 20);
    producer_destroy(p);
    world_close(&w);
}
END_TEST

static void without_acks(struct producer_config *cfg) {
    cfg->acks = 0;
    cfg->idempotent = false;
}
static void leader_acks(struct producer_config *cfg) {
    cfg->acks = 1;
    cfg->idempotent = false;
}

START_TEST(acks_of_each_kind) {
    struct world w = world_open();
    struct tally t = {0};
    struct producer *p = new_producer(&w, &t, without_acks);
    for (int i = 0; i < 100; i++) send_sample(&w, p, "t", 0, i);
    flush(&w, p);
    ck_assert_int_eq(t.ok, 100);
    producer_destroy(p);
    world_close(&w); /* this mock answers acks=0, too, some time; such a connection is closed, and what was sent on it is sent again */
    w = world_open();
    p = new_producer(&w, &t, leader_acks);
    for (int i = 0; i < 100; i++) send_sample(&w, p, "t", 1, i);
    flush(&w, p);
    ck_assert_int_eq(t.ok, 200);
    producer_destroy(p);
    ck_assert_int_eq(expect_partition(w.client, "t", 1, 0, 1), 100);
    struct producer_config cfg;
    producer_config_init(&cfg);
    cfg.acks = 1;
    ck_assert_ptr_null(producer_create(w.client, &cfg)); /* idempotence needs all */
    world_close(&w);
}
END_TEST

static void little_memory(struct producer_config *cfg) {
    cfg->buffer_bytes = 20000;
    cfg->batch_bytes = 2000;
}

START_TEST(waits_when_the_buffer_is_full) {
    struct world w = world_open();
    struct tally t = {0};
    struct producer *p = new_producer(&w, &t, little_memory);
    for (int i = 0; i < 3000; i++) {
        send_sample(&w, p, "t", i % PARTITIONS, i);
        ck_assert_uint_le(producer_stats(p)->buffered_bytes, 20000);
    }
    ck_assert_int_gt(t.ok, 1000);
    flush(&w, p);
    ck_assert_int_eq(t.ok, 3000);
    producer_destroy(p);
    for (int i = 0; i < PARTITIONS; i++) ck_assert_int_eq(expect_partition(w.client, "t", i, i, PARTITIONS), 3000 / PARTITIONS);
    world_close(&w);
}
END_TEST

static void in_no_hurry(struct producer_config *cfg) { cfg->linger_ms = TIMEOUT_MS; }

START_TEST(destroying_a_producer_reports_the_rest) {
    struct world w = world_open();
    struct tally t = {0};
    struct producer *p = new_producer(&w, &t, in_no_hurry);
    for (int i = 0; i < 10; i++) send_sample(&w, p, "t", 0, i);
    producer_destroy(p);
    ck_assert_int_eq(t.failed, 10);
    ck_assert_int_eq(t.err, ERR_CLOSED);
    world_close(&w);
}
END_TEST

START_TEST(offsets_and_the_end_of_a_partition) {
    struct world w = world_open();
    struct tally t = {0};
    struct producer *p = new_producer(&w, &t, NULL);
    for (int i = 0; i < 50; i++) send_sample(&w, p, "t", 0, i);
    flush(&w, p);
    struct client_offset at;
    ck_assert_int_eq(client_list_offset(w.client, "t", 0, OFFSET_EARLIEST, TIMEOUT_MS, &at), OK);
    ck_assert_int_eq(at.offset, 0);
    ck_assert_int_eq(client_list_offset(w.client, "t", 0, OFFSET_LATEST, TIMEOUT_MS, &at), OK);
    ck_assert_int_eq(at.offset, 50);
    ck_assert_int_eq(client_list_offset(w.client, "t", PARTITIONS, OFFSET_LATEST, TIMEOUT_MS, &at), ERR_NOT_FOUND);

    struct consumer *k = new_consumer(w.client, NULL);
    const struct consumer_event *ev;
    ck_assert_int_eq(consumer_poll(k, 10, &ev), ERR_INVALID);
    ck_assert_int_eq(consumer_assign(k, "t", 0, OFFSET_LATEST), OK);
    ev = poll_event(w.client, k);
    ck_assert_int_eq(ev->kind, CONSUMER_END);
    ck_assert_int_eq(ev->next_offset, 50);
    ck_assert_int_eq(consumer_poll(k, 100, &ev), ERR_TIMEOUT); /* said once */
    send_sample(&w, p, "t", 0, 50);
    flush(&w, p);
    ev = poll_event(w.client, k);
    ck_assert_int_eq(ev->kind, CONSUMER_RECORD);
    expect_sample(&ev->record, 50);
    ev = poll_event(w.client, k);
    ck_assert_int_eq(ev->kind, CONSUMER_END); /* and again after catching up */
    ck_assert_int_eq(ev->next_offset, 51);
    ck_assert_int_eq(consumer_assign(k, "t", 0, 20), OK); /* into the middle of a batch */
    for (int i = 20; i < 51; i++) {
        ev = poll_event(w.client, k);
        ck_assert_int_eq(ev->record.offset, i);
        expect_sample(&ev->record, i);
    }
    consumer_unassign(k, "t", 0);
    ck_assert_int_eq(consumer_assigned_count(k), 0);
    consumer_destroy(k);
    producer_destroy(p);
    world_close(&w);
}
END_TEST

static void reset_to_earliest(struct consumer_config *cfg) { cfg->reset = CONSUMER_RESET_EARLIEST; }
static void reset_to_latest(struct consumer_config *cfg) { cfg->reset = CONSUMER_RESET_LATEST; }

START_TEST(offset_out_of_range) {
    struct world w = world_open();
    struct tally t = {0};
    struct producer *p = new_producer(&w, &t, NULL);
    for (int i = 0; i < 5; i++) send_sample(&w, p, "t", 0, i);
    flush(&w, p);
    struct consumer *k = new_consumer(w.client, NULL);
    ck_assert_int_eq(consumer_assign(k, "t", 0, 1000), OK);
    const struct consumer_event *ev = poll_event(w.client, k);
    ck_assert_int_eq(ev->kind, CONSUMER_ERROR);
    ck_assert_int_eq(ev->err, ERR_RANGE);
    ck_assert_int_eq(ev->code, KERR_OFFSET_OUT_OF_RANGE);
    ck_assert_int_eq(consumer_assigned_count(k), 0);
    consumer_destroy(k);
    k = new_consumer(w.client, reset_to_earliest);
    ck_assert_int_eq(consumer_assign(k, "t", 0, 1000), OK);
    for (int i = 0; i < 5; i++) expect_sample(&poll_event(w.client, k)->record, i);
    consumer_destroy(k);
    k = new_consumer(w.client, reset_to_latest);
    ck_assert_int_eq(consumer_assign(k, "t", 0, 1000), OK);
    ev = poll_event(w.client, k);
    ck_assert_int_eq(ev->kind, CONSUMER_END);
    ck_assert_int_eq(ev->next_offset, 5);
    consumer_destroy(k);
    producer_destroy(p);
    world_close(&w);
}
END_TEST

START_TEST(nobody_there) {
    struct client *c = new_client("127.0.0.1:1");
    struct client_cluster *cluster;
    ck_assert_int_eq(client_describe(c, NULL, 0, 300, &cluster), ERR_CLOSED);
    ck_assert_ptr_nonnull(strstr(client_error(c), "refused"));
    struct consumer *k = new_consumer(c, NULL);
    const struct consumer_event *ev;
    ck_assert_int_eq(consumer_assign(k, "t", 0, 0), OK);
    ck_assert_int_eq(consumer_poll(k, 300, &ev), ERR_TIMEOUT);
    consumer_destroy(k);
    client_destroy(c);
}
END_TEST

START_TEST(bootstrap_lists) {
    static const char *const good[] = {"a", "a:1", "a:1,b:2", "[::1]:9092", "[::1]", "::1", " a:1 , b:2 ", "h.example:65535"};
    static const char *const bad[] = {"", ",", "a:", "a:0", "a:65536", "a:b", ":9092", "[::1", "[]:1", "[::1]x"};
    struct client_config cfg;
    char why[256];
    client_config_init(&cfg);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        cfg.bootstrap = good[i];
        struct client *c = client_create(&cfg, why, sizeof why);
        ck_assert_msg(c != NULL, "%s: %s", good[i], why);
        client_destroy(c);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cfg.bootstrap = bad[i];
        why[0] = 0;
        struct client *c = client_create(&cfg, why, sizeof why);
        ck_assert_msg(c == NULL, "%s", bad[i]);
        ck_assert_int_gt((int)strlen(why), 0);
    }
}
END_TEST

START_TEST(a_bootstrap_broker_that_is_down_is_passed_over) {
    struct world w = world_open();
    char list[512];
    snprintf(list, sizeof list, "127.0.0.1:1,%s", rd_kafka_mock_cluster_bootstraps(w.mock));
    for (int i = 0; i < 3; i++) {
        struct client *c = new_client(list);
        struct client_cluster *cluster;
        ck_assert_int_eq(client_describe(c, NULL, 0, TIMEOUT_MS, &cluster), OK);
        client_cluster_free(cluster);
        client_destroy(c);
    }
    world_close(&w);
}
END_TEST

/* Older brokers: the oldest versions that we know must do. */
START_TEST(speaks_old_versions) {
    struct world w = world_open();
    rd_kafka_mock_set_apiversion(w.mock, API_PRODUCE, 0, 3);
    rd_kafka_mock_set_apiversion(w.mock, API_FETCH, 0, 4);
    rd_kafka_mock_set_apiversion(w.mock, API_METADATA, 0, 2);
    rd_kafka_mock_set_apiversion(w.mock, API_LIST_OFFSETS, 0, 1);
    rd_kafka_mock_set_apiversion(w.mock, API_INIT_PRODUCER_ID, 0, 0);
    rd_kafka_mock_set_apiversion(w.mock, API_API_VERSIONS, 0, 0);
    struct tally t = {0};
    struct producer *p = new_producer(&w, &t, NULL);
    for (int i = 0; i < 500; i++) send_sample(&w, p, "t", 0, i);
    flush(&w, p);
    ck_assert_int_eq(t.ok, 500);
    producer_destroy(p);
    ck_assert_int_eq(expect_partition(w.client, "t", 0, 0, 1), 500);
    rd_kafka_mock_set_apiversion(w.mock, API_PRODUCE, 0, 2); /* before record batches: refused with words */
    struct client *c = new_client(rd_kafka_mock_cluster_bootstraps(w.mock));
    struct world old = {.client = c};
    t = (struct tally){0};
    p = new_producer(&old, &t, NULL);
    send_sample(&old, p, "t", 0, 0);
    flush(&old, p);
    ck_assert_int_eq(t.failed, 1);
    ck_assert_int_eq(t.err, ERR_UNSUPPORTED);
    producer_destroy(p);
    client_destroy(c);
    world_close(&w);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("client");
    tcase_set_timeout(tc, 300);
    tcase_add_loop_test(tc, round_trip_with_each_codec, 0, CODEC_COUNT);
    tcase_add_loop_test(tc, reads_what_librdkafka_writes, 0, CODEC_COUNT);
    tcase_add_test(tc, keys_go_where_java_sends_them);
    tcase_add_test(tc, keys_choose_partitions_and_no_key_shares);
    tcase_add_test(tc, describes_the_cluster);
    tcase_add_test(tc, follows_a_leader_that_moves);
    tcase_add_test(tc, retries_what_may_be_retried);
    tcase_add_test(tc, reports_what_may_not_be_retried);
    tcase_add_test(tc, survives_a_broker_that_goes_and_comes);
    tcase_add_test(tc, gives_up_after_the_delivery_time);
    tcase_add_test(tc, acks_of_each_kind);
    tcase_add_test(tc, waits_when_the_buffer_is_full);
    tcase_add_test(tc, destroying_a_producer_reports_the_rest);
    tcase_add_test(tc, offsets_and_the_end_of_a_partition);
    tcase_add_test(tc, offset_out_of_range);
    tcase_add_test(tc, nobody_there);
    tcase_add_test(tc, bootstrap_lists);
    tcase_add_test(tc, a_bootstrap_broker_that_is_down_is_passed_over);
    tcase_add_test(tc, speaks_old_versions);
    Suite *suite = suite_create("client_mock");
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed;
}
