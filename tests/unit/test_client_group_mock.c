/* Two members of libvarve share a topic in a classic group on the mock brokers inside librdkafka: hand-overs
 * lose nothing. */
#include <check.h>
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/client.h"

enum { PARTITIONS = 4, RECORDS = 400, TURNS_MAX = 4000 };

struct member { struct client *client; struct group *group; int32_t partitions; bool joined; };
struct tally { int seen[RECORDS]; int total; }; /* total: different ones */

static struct client *new_client(const char *bootstrap) {
    struct client_config cfg;
    char why[256];
    client_config_init(&cfg);
    cfg.bootstrap = bootstrap;
    struct client *c = client_create(&cfg, why, sizeof why);
    ck_assert_msg(c != NULL, "%s", why);
    return c;
}

static void produce(const char *bootstrap, int from, int to) {
    struct client *c = new_client(bootstrap);
    struct producer_config cfg;
    producer_config_init(&cfg);
    struct producer *p = producer_create(c, &cfg);
    ck_assert_ptr_nonnull(p);
    for (int i = from; i < to; i++) {
        char value[16];
        int len = snprintf(value, sizeof value, "%d", i);
        ck_assert_int_eq(producer_send(p, &(struct producer_record){.topic = "t", .partition = i % PARTITIONS, .key = BYTES_NULL,
                                                                    .value = {(uint8_t *)value, len}, .timestamp_ms = -1}), OK);
    }
    ck_assert_int_eq(producer_flush(p, 30000), OK);
    producer_destroy(p);
    client_destroy(c);
}

static struct member join(const char *bootstrap, const char *assignors) {
    struct group_config cfg;
    static const char *const topics[] = {"t"};
    group_config_init(&cfg);
    cfg.group = "g";
    cfg.topics = topics;
    cfg.topic_count = 1;
    cfg.assignors = assignors;
    cfg.heartbeat_ms = 100;
    cfg.session_timeout_ms = 3500; /* the mock ends its rebalances a second before it */
    cfg.auto_commit_ms = 100;
    cfg.consumer.reset = CONSUMER_RESET_EARLIEST;
    cfg.consumer.max_wait_ms = 10;
    struct member m = {.client = new_client(bootstrap)};
    m.group = group_create(m.client, &cfg);
    ck_assert_msg(m.group != NULL, "%s", client_error(m.client));
    return m;
}

static void turn(struct member *m, struct tally *t) {
    const struct consumer_event *e;
    enum err err = group_poll(m->group, 10, &e);
    if (err == ERR_TIMEOUT) return;
    ck_assert_msg(err == OK, "%s", client_error(m->client));
    if (e->kind == CONSUMER_RECORD) {
        char text[16];
        snprintf(text, sizeof text, "%.*s", e->record.value.len, (const char *)e->record.value.p);
        if (t->seen[atoi(text)]++ == 0) t->total++;
    } else if (e->kind == CONSUMER_ASSIGNED) {
        m->partitions += e->partition_count;
        m->joined = true;
    } else if (e->kind == CONSUMER_REVOKED || e->kind == CONSUMER_LOST) {
        m->partitions -= e->partition_count;
    } else if (e->kind == CONSUMER_ERROR) {
        ck_abort_msg("%s", e->message);
    }
}

START_TEST(two_members_share) {
    static const char *const assignors[] = {"range,roundrobin", "cooperative-sticky"};
    char why[256];
    struct tally t = {0};
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, rd_kafka_conf_new(), why, sizeof why);
    rd_kafka_mock_cluster_t *mock = rd_kafka_mock_cluster_new(rk, 2);
    ck_assert_int_eq(rd_kafka_mock_topic_create(mock, "t", PARTITIONS, 1), 0);
    const char *bootstrap = rd_kafka_mock_cluster_bootstraps(mock);
    produce(bootstrap, 0, RECORDS / 2);
    struct member a = join(bootstrap, assignors[_i]);
    for (int i = 0; i < TURNS_MAX && t.total < RECORDS / 2; i++) turn(&a, &t);
    ck_assert_int_eq(a.partitions, PARTITIONS);
    struct member b = join(bootstrap, assignors[_i]);
    for (int i = 0; i < TURNS_MAX && (a.partitions != PARTITIONS / 2 || b.partitions != PARTITIONS / 2); i++) {
        turn(&a, &t);
        turn(&b, &t);
    }
    ck_assert_int_eq(a.partitions, PARTITIONS / 2);
    ck_assert_int_eq(b.partitions, PARTITIONS / 2);
    produce(bootstrap, RECORDS / 2, RECORDS - 50);
    for (int i = 0; i < TURNS_MAX && t.total < RECORDS - 50; i++) {
        turn(&a, &t);
        turn(&b, &t);
    }
    enum err err = group_close(a.group, 10000);
    ck_assert_msg(err == OK, "%s", client_error(a.client));
    for (int i = 0; i < TURNS_MAX && b.partitions < PARTITIONS; i++) turn(&b, &t);
    ck_assert_int_eq(b.partitions, PARTITIONS);
    produce(bootstrap, RECORDS - 50, RECORDS);
    for (int i = 0; i < TURNS_MAX && t.total < RECORDS; i++) turn(&b, &t);
    for (int i = 0; i < RECORDS; i++) {
        if (_i == 1) ck_assert_int_eq(t.seen[i], 1); /* cooperative: every hand-over was clean */
        else ck_assert_int_ge(t.seen[i], 1); /* the mock takes no commits while it waits for members; Kafka does */
    }
    err = group_close(b.group, 10000);
    ck_assert_msg(err == OK, "%s", client_error(b.client));
    client_destroy(a.client);
    client_destroy(b.client);
    rd_kafka_mock_cluster_destroy(mock);
    rd_kafka_destroy(rk);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("group");
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, two_members_share, 0, 2);
    Suite *suite = suite_create("client_group_mock");
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed;
}
