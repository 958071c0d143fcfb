/* Client quotas on a whole broker: setting and listing them, and what clients are told and held to. Clients are "test". */
#include <arpa/inet.h>
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include "proto/kafka_errors.h"
#include "server/conn.h"
#include "tests/unit/broker_fixture.h"

enum { KEY_DESCRIBE_QUOTAS = 48, KEY_ALTER_QUOTAS = 49 };
static struct fixture f;
static struct client c;

/* A burst of one second only, so that little is enough to overdraw. */
static void set_up(void) {
    fixture_start(&f, "quota.window.num=2\ncontroller.quota.window.num=1\n");
    client_open(&c, &f);
    ck_assert_int_eq(create_topic(&c, "t", 2), 0);
}
static void tear_down(void) {
    client_close(&c);
    fixture_stop(&f);
}

/* ---- setting and listing ----------------------------------------------------------------------------------------- */

struct part { const char *type, *name; };
/* Version 1; `value` 0 removes. The error of the entity. */
static int16_t alter(struct part a, struct part b, const char *key, double value, bool validate_only) {
    struct k_alter_client_quotas_request q;
    struct k_alter_client_quotas_response out;
    struct k_alter_client_quotas_request_entries_entity parts[2] = {
        {str_from(a.type), a.name ? str_from(a.name) : STR_NULL}, {str_from(b.type), b.name ? str_from(b.name) : STR_NULL}};
    struct k_alter_client_quotas_request_entries_ops op = {str_from(key), value, value == 0};
    struct k_alter_client_quotas_request_entries entry = {parts, b.type ? 2 : a.type ? 1 : 0, &op, 1};
    k_alter_client_quotas_request_init(&q);
    q.entries = &entry;
    q.entries_n = 1;
    q.validate_only = validate_only;
    CALL(&c, KEY_ALTER_QUOTAS, 1, alter_client_quotas, q, out);
    ck_assert_int_eq(out.entries_n, 1);
    ck_assert_int_eq(out.entries[0].entity_n, b.type ? 2 : a.type ? 1 : 0);
    ck_assert((out.entries[0].error_code != 0) == (out.entries[0].error_message.p != NULL));
    return out.entries[0].error_code;
}
#define USER(n) ((struct part){"user", (n)})
#define CLIENT(n) ((struct part){"client-id", (n)})
#define IP(n) ((struct part){"ip", (n)})
#define NOBODY ((struct part){NULL, NULL})
static void set_quota(struct part who, const char *key, double value) { ck_assert_int_eq(alter(who, NOBODY, key, value, false), 0); }

struct wanted { const char *type; int8_t match; const char *name; };
static struct k_describe_client_quotas_response describe(const struct wanted *w, int32_t n, bool strict) {
    struct k_describe_client_quotas_request q;
    struct k_describe_client_quotas_response out;
    struct k_describe_client_quotas_request_components parts[4];
    for (int32_t i = 0; i < n; i++)
        parts[i] = (struct k_describe_client_quotas_request_components){str_from(w[i].type), w[i].match, w[i].name ? str_from(w[i].name) : STR_NULL};
    k_describe_client_quotas_request_init(&q);
    q.components = parts;
    q.components_n = n;
    q.strict = strict;
    CALL(&c, KEY_DESCRIBE_QUOTAS, 1, describe_client_quotas, q, out);
    return out;
}
static int count(const struct wanted *w, int32_t n, bool strict) {
    struct k_describe_client_quotas_response out = describe(w, n, strict);
    return out.error_code ? -out.error_code : out.entries_n;
}
#define COUNT(strict, ...) count((struct wanted[]){__VA_ARGS__}, (int32_t)(sizeof((struct wanted[]){__VA_ARGS__}) / sizeof(struct wanted)), strict)

START_TEST(quotas_are_set_listed_and_survive_a_restart) {
    ck_assert_int_eq(alter(USER("u"), CLIENT("x"), "producer_byte_rate", 1000, false), 0);
    ck_assert_int_eq(alter(USER("u"), CLIENT(NULL), "producer_byte_rate", 2000, false), 0);
    set_quota(USER("u"), "consumer_byte_rate", 3000);
    set_quota(USER("u"), "request_percentage", 12.5);
    set_quota(USER(NULL), "controller_mutation_rate", 4);
    set_quota(CLIENT("x"), "producer_byte_rate", 5000);
    set_quota(IP("::ffff:127.0.0.9"), "connection_creation_rate", 6);
    set_quota(IP(NULL), "connection_creation_rate", 1000);
    for (int round = 0; round < 2; round++) {
        ck_assert_int_eq(count(NULL, 0, false), 7);
        ck_assert_int_eq(count(NULL, 0, true), 0);
        ck_assert_int_eq(COUNT(false, {"user", 0, "u"}), 3);
        ck_assert_int_eq(COUNT(true, {"user", 0, "u"}), 1);
        ck_assert_int_eq(COUNT(false, {"user", 1, NULL}), 1);
        ck_assert_int_eq(COUNT(false, {"user", 2, NULL}), 4);
        ck_assert_int_eq(COUNT(true, {"user", 2, NULL}, {"client-id", 2, NULL}), 2);
        ck_assert_int_eq(COUNT(false, {"user", 0, "u"}, {"client-id", 1, NULL}), 1);
        ck_assert_int_eq(COUNT(false, {"client-id", 0, "x"}), 2);
        ck_assert_int_eq(COUNT(false, {"ip", 0, "127.0.0.9"}), 1);
        ck_assert_int_eq(COUNT(false, {"ip", 2, NULL}), 2);
        struct k_describe_client_quotas_response out = describe((struct wanted[]){{"user", 0, "u"}}, 1, true);
        ck_assert_int_eq(out.entries[0].values_n, 2);
        ck_assert(str_is(out.entries[0].values[0].key, "consumer_byte_rate"));
        ck_assert_double_eq(out.entries[0].values[0].value, 3000);
        ck_assert_double_eq(out.entries[0].values[1].value, 12.5);
        ck_assert(str_is(out.entries[0].entity[0].entity_name, "u"));
        client_close(&c);
        fixture_restart(&f);
        client_open(&c, &f);
    }
    set_quota(USER("u"), "consumer_byte_rate", 0);
    set_quota(USER("u"), "request_percentage", 0);
    set_quota(USER("u"), "request_percentage", 0); /* it is gone already */
    ck_assert_int_eq(COUNT(true, {"user", 0, "u"}), 0);
    client_close(&c);
    fixture_restart(&f);
    client_open(&c, &f);
    ck_assert_int_eq(count(NULL, 0, false), 6);
}
END_TEST

START_TEST(what_is_refused) {
    ck_assert_int_eq(alter(NOBODY, NOBODY, "producer_byte_rate", 1, false), KERR_INVALID_REQUEST);
    ck_assert_int_eq(alter((struct part){"group", "g"}, NOBODY, "producer_byte_rate", 1, false), KERR_INVALID_REQUEST);
    ck_assert_int_eq(alter(USER("u"), USER("v"), "producer_byte_rate", 1, false), KERR_INVALID_REQUEST);
    ck_assert_int_eq(alter(USER("u"), IP("1.2.3.4"), "producer_byte_rate", 1, false), KERR_INVALID_REQUEST);
    ck_assert_int_eq(alter(USER(""), NOBODY, "producer_byte_rate", 1, false), KERR_INVALID_REQUEST);
    ck_assert_int_eq(alter(IP("not-an-address"), NOBODY, "connection_creation_rate", 1, false), KERR_INVALID_REQUEST);
    ck_assert_int_eq(alter(USER("u"), NOBODY, "no_such_rate", 1, false), KERR_INVALID_REQUEST);
    ck_assert_int_eq(alter(USER("u"), NOBODY, "producer_byte_rate", -1, false), KERR_INVALID_REQUEST);
    ck_assert_int_eq(alter(USER("u"), NOBODY, "producer_byte_rate", 0.5, false), KERR_INVALID_REQUEST);
    ck_assert_int_eq(alter(USER("u"), NOBODY, "producer_byte_rate", NAN, false), KERR_INVALID_REQUEST);
    ck_assert_int_eq(alter(USER("u"), NOBODY, "connection_creation_rate", 1, false), KERR_INVALID_REQUEST);
    ck_assert_int_eq(alter(IP(NULL), NOBODY, "producer_byte_rate", 1, false), KERR_INVALID_REQUEST);
    ck_assert_int_eq(alter(USER("u"), NOBODY, "producer_byte_rate", 1, true), 0); /* only checked */
    ck_assert_int_eq(count(NULL, 0, false), 0);
    ck_assert_int_eq(COUNT(false, {"", 0, "u"}), -KERR_INVALID_REQUEST);
    ck_assert_int_eq(COUNT(false, {"group", 0, "u"}), -KERR_UNSUPPORTED_VERSION);
    ck_assert_int_eq(COUNT(false, {"user", 0, NULL}), -KERR_INVALID_REQUEST);
    ck_assert_int_eq(COUNT(false, {"user", 1, "u"}), -KERR_INVALID_REQUEST);
    ck_assert_int_eq(COUNT(false, {"user", 3, NULL}), -KERR_INVALID_REQUEST);
    ck_assert_int_eq(COUNT(false, {"user", 2, NULL}, {"user", 2, NULL}), -KERR_INVALID_REQUEST);
    ck_assert_int_eq(COUNT(false, {"user", 2, NULL}, {"ip", 2, NULL}), -KERR_INVALID_REQUEST);
    struct k_describe_client_quotas_response out = describe((struct wanted[]){{"", 0, NULL}}, 1, false);
    ck_assert_int_eq(out.entries_n, -1);
}
END_TEST

/* ---- being held to them -------------------------------------------------------------------------------------------- */

/* The throttle time of a produce of so many bytes; the write itself is done. */
static int32_t produce_pause(int16_t version, int32_t value_bytes) {
    struct bytes b = make_batch(CODEC_NONE, 1, value_bytes, now_ms());
    struct k_produce_response a;
    struct wire_reader r;
    produce_send(&c, "t", 0, b, -1, version);
    ck_assert(client_receive(&c, &r));
    ck_assert_int_eq(k_produce_response_decode(&a, &r, version), OK);
    ck_assert_int_eq(a.responses[0].partition_responses[0].error_code, 0);
    free((void *)b.p);
    return a.throttle_time_ms;
}

START_TEST(producers_are_paused) {
    set_quota(CLIENT("test"), "producer_byte_rate", 100000);
    ck_assert_int_eq(produce_pause(12, 50000), 0); /* within the second's burst */
    int32_t pause = 0;
    int64_t begun = 0;
    for (int i = 0; i < 50 && pause == 0; i++) { /* soon, however slow the machine */
        begun = now_ms();
        pause = produce_pause(8, 120000);
    }
    ck_assert_int_gt(pause, 0);
    ck_assert_int_le(pause, 1300);
    struct k_metadata_request q;
    struct k_metadata_response a;
    k_metadata_request_init(&q);
    CALL(&c, KEY_METADATA, 12, metadata, q, a); /* not read before the pause is over */
    ck_assert_int_ge(now_ms() - begun, pause - 10);
    ck_assert_int_eq(a.throttle_time_ms, 0);
    /* Without an answer, too. */
    struct bytes b = make_batch(CODEC_NONE, 1, 300000, now_ms());
    int64_t end = fetch(&c, "t", 0, 0).high_watermark;
    produce_send(&c, "t", 0, b, 0, 9);
    free((void *)b.p);
    fetch_send(&c, "t", 0, 0, 0, 0);
    ck_assert(client_waits(&c));
    ck_assert_int_eq(fetch_receive(&c).high_watermark, end + 1);
    /* Somebody more specific has no quota to speak of. */
    ck_assert_int_eq(alter(USER("ANONYMOUS"), CLIENT("test"), "producer_byte_rate", 1e12, false), 0);
    ck_assert_int_eq(produce_pause(12, 500000), 0);
}
END_TEST

static struct k_fetch_response session_fetch(int32_t id, int32_t epoch, bool name_it) {
    struct k_fetch_request q;
    struct k_fetch_response a;
    struct k_fetch_request_topics t = {.topic = STR_LIT("t")};
    struct k_fetch_request_topics_partitions p;
    k_fetch_request_init(&q);
    k_fetch_request_topics_partitions_init(&p);
    q.session_id = id;
    q.session_epoch = epoch;
    q.max_bytes = p.partition_max_bytes = 1 << 20;
    t.partitions = &p;
    q.topics = &t;
    t.partitions_n = q.topics_n = name_it;
    CALL(&c, KEY_FETCH, 12, fetch, q, a);
    return a;
}

START_TEST(a_throttled_fetch_is_empty_and_keeps_its_session) {
    int32_t id = session_fetch(0, 0, true).session_id, epoch = 1;
    ck_assert_int_gt(id, 0);
    for (int i = 0; i < 3; i++) ck_assert_int_eq(produce_pause(12, 60000), 0);
    set_quota(USER(NULL), "consumer_byte_rate", 100000);
    struct k_fetch_response a = {0};
    int32_t len = 0;
    for (int i = 0; i < 50 && a.throttle_time_ms == 0; i++) {
        a = session_fetch(id, epoch++, false); /* no more than the burst: one batch */
        ck_assert_int_eq(a.error_code, 0);
        ck_assert_int_eq(a.session_id, id);
        if (a.throttle_time_ms > 0) break;
        len = a.responses[0].partitions[0].records.len;
        ck_assert_int_gt(len, 60000);
        ck_assert_int_le(len, 100000);
    }
    ck_assert_int_gt(len, 0);
    ck_assert_int_gt(a.throttle_time_ms, 0);
    ck_assert_int_eq(a.responses_n, 0);
    a = session_fetch(id, epoch++, false); /* comes when the pause is over, and has it all */
    ck_assert_int_eq(a.throttle_time_ms, 0);
    ck_assert_int_eq(a.session_id, id);
    ck_assert_int_eq(a.responses[0].partitions[0].records.len, len);
    for (int i = 0; i < 50 && a.throttle_time_ms == 0; i++) a = session_fetch(0, 0, true);
    ck_assert_int_gt(a.throttle_time_ms, 0);
    ck_assert_int_eq(a.session_id, 0); /* no session is made of an answer without partitions */
    ck_assert_int_eq(a.responses_n, 0);
}
END_TEST

static struct k_create_topics_response create(int16_t version, const char *name, int32_t partitions, bool validate_only) {
    struct k_create_topics_request q;
    struct k_create_topics_response a;
    struct k_create_topics_request_topics t;
    k_create_topics_request_init(&q);
    k_create_topics_request_topics_init(&t);
    t.name = str_from(name);
    t.num_partitions = partitions;
    t.replication_factor = 1;
    q.topics = &t;
    q.topics_n = 1;
    q.validate_only = validate_only;
    CALL(&c, KEY_CREATE_TOPICS, version, create_topics, q, a);
    return a;
}

/* A connection that is not paused. */
static void reconnect(void) {
    client_close(&c);
    client_open(&c, &f);
}

START_TEST(changes_of_metadata_are_refused_or_paused) {
    set_quota(CLIENT(NULL), "controller_mutation_rate", 0.001);
    struct k_create_topics_response a = create(7, "a", 13, false); /* may overdraw */
    ck_assert_int_eq(a.topics[0].error_code, 0);
    ck_assert_int_eq(a.throttle_time_ms, 0);
    ck_assert_int_eq(create(7, "b", 50, true).topics[0].error_code, 0); /* changes nothing */
    a = create(7, "b", 1, false);
    ck_assert_int_eq(a.topics[0].error_code, KERR_THROTTLING_QUOTA_EXCEEDED);
    ck_assert_int_gt(a.throttle_time_ms, 1000000);
    reconnect();
    struct k_delete_topics_request dq;
    struct k_delete_topics_response da;
    struct k_delete_topics_request_topics dt = {.name = STR_LIT("a")};
    k_delete_topics_request_init(&dq);
    dq.topics = &dt;
    dq.topics_n = 1;
    CALL(&c, KEY_DELETE_TOPICS, 6, delete_topics, dq, da);
    ck_assert_int_eq(da.responses[0].error_code, KERR_THROTTLING_QUOTA_EXCEEDED);
    ck_assert_int_gt(da.throttle_time_ms, 0);
    reconnect();
    a = create(5, "d", 15, false); /* older clients are paused */
    ck_assert_int_eq(a.topics[0].error_code, 0);
    ck_assert_int_gt(a.throttle_time_ms, 0);
    reconnect();
    struct k_create_partitions_request gq;
    struct k_create_partitions_response ga;
    struct k_create_partitions_request_topics gt;
    k_create_partitions_request_init(&gq);
    k_create_partitions_request_topics_init(&gt);
    gt.name = STR_LIT("d");
    gt.count = 16;
    gt.assignments_n = -1;
    gq.topics = &gt;
    gq.topics_n = 1;
    CALL(&c, KEY_CREATE_PARTITIONS, 3, create_partitions, gq, ga);
    ck_assert_int_eq(ga.results[0].error_code, KERR_THROTTLING_QUOTA_EXCEEDED);
    ck_assert_int_gt(ga.throttle_time_ms, 0);
    reconnect();
    set_quota(CLIENT(NULL), "controller_mutation_rate", 1000); /* another quota: the debt is forgotten */
    a = create(7, "b", 15, false);
    ck_assert_int_eq(a.topics[0].error_code, 0);
    CALL(&c, KEY_DELETE_TOPICS, 6, delete_topics, dq, da);
    ck_assert_int_eq(da.responses[0].error_code, 0);
    CALL(&c, KEY_CREATE_PARTITIONS, 3, create_partitions, gq, ga);
    ck_assert_int_eq(ga.results[0].error_code, 0);
}
END_TEST

START_TEST(time_of_handlers_is_counted) {
    struct k_metadata_request q;
    struct k_metadata_response a;
    k_metadata_request_init(&q);
    q.topics_n = -1;
    set_quota(CLIENT("test"), "request_percentage", 1e-6);
    CALL(&c, KEY_METADATA, 12, metadata, q, a);
    for (int i = 0; i < 5 && a.throttle_time_ms == 0; i++) CALL(&c, KEY_METADATA, 2 + i, metadata, q, a);
    ck_assert_int_gt(a.throttle_time_ms, 0);
    ck_assert_int_le(a.throttle_time_ms, 1000); /* one window */
    ck_assert_int_eq(a.topics_n, 1);
}
END_TEST

static uint64_t accepted(void) {
    uint64_t n = 0;
    for (int i = 0; i < FIXTURE_REACTORS; i++) n += conn_set_stats(f.b.reactors[i].conns)->accepted;
    return n;
}
/* Connects without giving the broker a turn, so that it sees all of them at once. */
static int connect_only(void) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(f.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

START_TEST(connections_of_an_address_are_counted) {
    enum { CROWD = 8 };
    int fds[CROWD];
    char byte;
    set_quota(IP("127.0.0.1"), "connection_creation_rate", 1);
    uint64_t before = accepted();
    for (int i = 0; i < CROWD; i++) fds[i] = connect_only();
    for (int i = 0; i < 50; i++) fixture_turn(&f);
    uint64_t in = accepted() - before;
    ck_assert_uint_ge(in, 1);
    ck_assert_uint_lt(in, CROWD);
    uint64_t closed = 0; /* those that were not served, some time later */
    for (int turns = 0; turns < 200000 && closed < CROWD - in; turns++) {
        fixture_turn(&f);
        closed = 0;
        for (int i = 0; i < CROWD; i++) closed += recv(fds[i], &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 0;
    }
    ck_assert_uint_eq(closed, CROWD - in);
    ck_assert_int_eq(create_topic(&c, "fine", 1), 0);
    set_quota(IP("127.0.0.1"), "connection_creation_rate", 0);
    for (int i = 0; i < 5; i++) reconnect();
    ck_assert_int_eq(create_topic(&c, "free", 1), 0);
    /* Those that wait to be closed do not hold up the end of the broker. */
    set_quota(IP(NULL), "connection_creation_rate", 1);
    for (int i = 0; i < CROWD; i++) {
        close(fds[i]);
        fds[i] = connect_only();
    }
    for (int i = 0; i < 5; i++) fixture_turn(&f);
    client_close(&c);
    fixture_stop(&f);
    for (int i = 0; i < CROWD; i++) close(fds[i]);
    set_up(); /* for the end of the test */
}
END_TEST

START_TEST(a_paused_connection_ends_with_the_broker) {
    set_quota(CLIENT("test"), "producer_byte_rate", 1);
    ck_assert_int_gt(produce_pause(12, 1000), 900000);
    struct client other; /* who it is does not matter: the bucket is the client id's */
    client_open(&other, &f);
    struct bytes b = make_batch(CODEC_NONE, 1, 10, now_ms());
    produce_send(&other, "t", 1, b, -1, 12);
    free((void *)b.p);
    ck_assert_int_eq(produce_receive(&other, 12).error, 0);
    client_close(&other);
}
END_TEST

/* A pause may last for days, and nothing that is read would tell that the client is gone: it does not keep its place for so long. */
START_TEST(a_long_pause_ends_with_the_idle_time) {
    tear_down();
    fixture_start(&f, "quota.window.num=2\nconnections.max.idle.ms=1500\n");
    client_open(&c, &f);
    ck_assert_int_eq(create_topic(&c, "t", 2), 0);
    set_quota(CLIENT("test"), "producer_byte_rate", 1);
    ck_assert_int_gt(produce_pause(12, 1000), 900000);
    while (!client_is_closed(&c)) { }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("api_quotas");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, quotas_are_set_listed_and_survive_a_restart);
    tcase_add_test(t, what_is_refused);
    tcase_add_test(t, producers_are_paused);
    tcase_add_test(t, a_throttled_fetch_is_empty_and_keeps_its_session);
    tcase_add_test(t, changes_of_metadata_are_refused_or_paused);
    tcase_add_test(t, time_of_handlers_is_counted);
    tcase_add_test(t, connections_of_an_address_are_counted);
    tcase_add_test(t, a_paused_connection_ends_with_the_broker);
    tcase_add_test(t, a_long_pause_ends_with_the_idle_time);
    tcase_set_timeout(t, 120);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
