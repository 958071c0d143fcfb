/* Fetch sessions on a whole broker with two reactors: what goes over the wire, and sessions of another reactor. */
#include <check.h>
#include <stdlib.h>
#include "proto/kafka_errors.h"
#include "server/fetch_session.h"
#include "tests/unit/broker_fixture.h"

enum { PARTITIONS = 6 };
static struct fixture f;
static struct client c;
static struct uuid id_of_t;

static void start(const char *settings) {
    fixture_start(&f, settings);
    client_open(&c, &f);
    ck_assert_int_eq(create_topic(&c, "t", PARTITIONS), 0);
    id_of_t = topic_id(&c, "t");
}
static void set_up(void) { start(NULL); }
static void tear_down(void) {
    client_close(&c);
    fixture_stop(&f);
}

static void produce_bytes(int32_t partition, int32_t value_bytes) {
    struct bytes b = make_batch(CODEC_NONE, 1, value_bytes, now_ms());
    ck_assert_int_eq(produce(&c, "t", partition, b).error, 0);
    free((void *)b.p);
}
static void produce_one(int32_t partition) { produce_bytes(partition, 10); }

/* ---- a fetch: partitions of t at an offset, partitions to forget ------------------------------------------------ */

struct fetch_call {
    int16_t version;
    int32_t id, epoch, max_bytes, max_wait_ms, min_bytes;
    struct uuid topic;
    const char *name;
    const int32_t *parts, *forget;
    int32_t part_count, forget_count;
    int64_t offset;
};
static void session_send(struct client *to, const struct fetch_call *call) {
    struct k_fetch_request q;
    struct k_fetch_request_topics t = {.topic = STR_LIT("")};
    struct k_fetch_request_topics_partitions p[PARTITIONS];
    struct k_fetch_request_forgotten_topics_data g = {.topic = STR_LIT("")};
    k_fetch_request_init(&q);
    q.session_id = call->id;
    q.session_epoch = call->epoch;
    q.max_bytes = call->max_bytes ? call->max_bytes : 1 << 20;
    q.max_wait_ms = call->max_wait_ms;
    q.min_bytes = call->min_bytes ? call->min_bytes : 1;
    if (call->version < 13) t.topic = g.topic = str_from(call->name ? call->name : "t");
    else t.topic_id = g.topic_id = call->topic;
    for (int32_t i = 0; i < call->part_count; i++) {
        k_fetch_request_topics_partitions_init(&p[i]);
        p[i].partition = call->parts[i];
        p[i].fetch_offset = call->offset;
        p[i].partition_max_bytes = 1 << 20;
    }
    t.partitions = p;
    t.partitions_n = call->part_count;
    q.topics = &t;
    q.topics_n = call->part_count > 0;
    g.partitions = (int32_t *)call->forget;
    g.partitions_n = call->forget_count;
    q.forgotten_topics_data = &g;
    q.forgotten_topics_data_n = call->forget_count > 0;
    k_fetch_request_encode(&q, client_begin(to, KEY_FETCH, call->version), call->version);
    client_send(to);
}
static struct k_fetch_response session_receive(struct client *from, int16_t version) {
    struct k_fetch_response a;
    struct wire_reader r;
    ck_assert_msg(client_receive(from, &r), "connection closed");
    ck_assert_int_eq(k_fetch_response_decode(&a, &r, version), OK);
    ck_assert_uint_eq(wire_left(&r), 0);
    return a;
}
static struct k_fetch_response session_fetch(struct client *with, struct fetch_call call) {
    if (!call.version) call.version = 12;
    session_send(with, &call);
    return session_receive(with, call.version);
}
static const int32_t all[PARTITIONS] = {0, 1, 2, 3, 4, 5};
#define ALL .parts = all, .part_count = PARTITIONS

/* The partitions that an answer lists, as digits of a number: 1 and 3 are 13. */
static int listed(const struct k_fetch_response *a) {
    int digits = 0;
    for (int32_t i = 0; i < a->responses_n; i++)
        for (int32_t k = 0; k < a->responses[i].partitions_n; k++)
            digits = digits * 10 + a->responses[i].partitions[k].partition_index + 1;
    return digits;
}
#define ck_listed(a, digits) ck_assert_int_eq(listed(&(a)), (digits))

/* ---- tests ---------------------------------------------------------------------------------------------------------- */

START_TEST(only_what_changed_is_sent) {
    for (int16_t v = 7; v <= 18; v++) {
        struct k_fetch_response a = session_fetch(&c, (struct fetch_call){.version = v, .topic = id_of_t, ALL});
        ck_assert_int_eq(a.error_code, 0);
        ck_assert_int_gt(a.session_id, 0);
        ck_listed(a, 123456);
        int32_t id = a.session_id;
        a = session_fetch(&c, (struct fetch_call){.version = v, .id = id, .epoch = 1});
        ck_assert_int_eq(a.error_code, 0);
        ck_assert_int_eq(a.session_id, id);
        ck_assert_int_eq(a.responses_n, 0);
        a = session_fetch(&c, (struct fetch_call){.version = v, .topic = id_of_t, .id = id, .epoch = 2,
                                                  .parts = all + 2, .part_count = 2, .offset = 99});
        ck_listed(a, 34);
        ck_assert_int_eq(a.responses[0].partitions[0].error_code, KERR_OFFSET_OUT_OF_RANGE);
        ck_assert(v < 13 || uuid_eq(&a.responses[0].topic_id, &id_of_t));
        ck_assert(v >= 13 || str_is(a.responses[0].topic, "t"));
        a = session_fetch(&c, (struct fetch_call){.version = v, .id = id, .epoch = 3}); /* the error stays */
        ck_listed(a, 34);
        a = session_fetch(&c, (struct fetch_call){.version = v, .topic = id_of_t, .id = id, .epoch = 4,
                                                  .parts = all + 2, .part_count = 2});
        ck_listed(a, 34); /* it is gone: told again */
        ck_assert_int_eq(a.responses[0].partitions[0].error_code, 0);
        a = session_fetch(&c, (struct fetch_call){.version = v, .id = id, .epoch = 5});
        ck_assert_int_eq(a.responses_n, 0);
        a = session_fetch(&c, (struct fetch_call){.version = v, .topic = id_of_t, .id = id, .epoch = -1, ALL});
        ck_assert_int_eq(a.session_id, 0);
        ck_listed(a, 123456);
        a = session_fetch(&c, (struct fetch_call){.version = v, .id = id, .epoch = 6});
        ck_assert_int_eq(a.error_code, KERR_FETCH_SESSION_ID_NOT_FOUND);
        ck_assert_int_eq(a.session_id, 0);
        ck_assert_int_eq(a.responses_n, 0);
    }
    ck_assert_uint_eq(f.b.reactors[0].fetch_sessions->count + f.b.reactors[1].fetch_sessions->count, 0);
}
END_TEST

START_TEST(who_had_records_goes_to_the_end) {
    for (int i = 0; i < PARTITIONS; i++) produce_one(i);
    struct k_fetch_response a = session_fetch(&c, (struct fetch_call){.max_bytes = 1, ALL});
    int32_t id = a.session_id;
    ck_listed(a, 123456);
    int seen = 0;
    for (int32_t epoch = 1; epoch <= PARTITIONS; epoch++) { /* the client's offsets stay where they are */
        a = session_fetch(&c, (struct fetch_call){.id = id, .epoch = epoch, .max_bytes = 1});
        ck_assert_int_eq(a.responses_n, 1);
        ck_assert_int_gt(a.responses[0].partitions[0].records.len, 0);
        seen = seen * 10 + a.responses[0].partitions[0].partition_index + 1;
    }
    ck_assert_int_eq(seen, 123456);
    a = session_fetch(&c, (struct fetch_call){.id = id, .epoch = PARTITIONS + 1});
    ck_listed(a, 123456); /* room for all: in the order as it is now */
}
END_TEST

START_TEST(a_waiting_session_tells_what_came) {
    struct client other;
    client_open(&other, &f);
    int32_t id = session_fetch(&other, (struct fetch_call){ALL}).session_id;
    session_send(&other, &(struct fetch_call){.version = 12, .id = id, .epoch = 1, .max_wait_ms = 60000});
    ck_assert(client_waits(&other));
    produce_one(4);
    struct k_fetch_response a = session_receive(&other, 12);
    ck_listed(a, 5);
    ck_assert_int_eq(a.responses[0].partitions[0].high_watermark, 1);
    ck_assert_int_gt(a.responses[0].partitions[0].records.len, 0);
    client_close(&other);
}
END_TEST

START_TEST(added_and_forgotten_partitions) {
    struct k_fetch_response a = session_fetch(&c, (struct fetch_call){.parts = all, .part_count = 2});
    int32_t id = a.session_id;
    ck_listed(a, 12);
    a = session_fetch(&c, (struct fetch_call){.id = id, .epoch = 1, .parts = all + 3, .part_count = 2, .forget = all, .forget_count = 1});
    ck_listed(a, 45); /* new ones are told */
    produce_one(0);
    produce_one(1);
    a = session_fetch(&c, (struct fetch_call){.id = id, .epoch = 2});
    ck_listed(a, 2);
    a = session_fetch(&c, (struct fetch_call){.id = id, .epoch = 3, .forget = all, .forget_count = PARTITIONS});
    ck_assert_int_eq(a.error_code, 0); /* nothing left: no session */
    ck_assert_int_eq(a.session_id, 0);
    ck_assert_int_eq(a.responses_n, 0);
    a = session_fetch(&c, (struct fetch_call){.id = id, .epoch = 4});
    ck_assert_int_eq(a.error_code, KERR_FETCH_SESSION_ID_NOT_FOUND);
}
END_TEST

START_TEST(a_session_goes_on_through_any_connection) {
    struct client others[4];
    for (int i = 0; i < 4; i++) client_open(&others[i], &f); /* on both reactors */
    int32_t id = session_fetch(&others[0], (struct fetch_call){.version = 13, .topic = id_of_t, ALL}).session_id;
    for (int32_t epoch = 1; epoch <= 8; epoch++) {
        produce_one(epoch % PARTITIONS);
        struct k_fetch_response a = session_fetch(&others[epoch % 4], (struct fetch_call){
            .version = 13, .id = id, .epoch = epoch, .topic = id_of_t, .parts = all, .part_count = epoch % 2});
        ck_assert_int_eq(a.session_id, id);
        ck_assert_int_ge(a.responses_n, 1);
        ck_assert(uuid_eq(&a.responses[0].topic_id, &id_of_t));
        ck_assert_int_gt(a.responses[0].partitions[0].records.len, 0);
    }
    ck_assert_int_eq(session_fetch(&others[1], (struct fetch_call){.version = 12, .id = id, .epoch = 9}).error_code,
                     KERR_FETCH_SESSION_TOPIC_ID_ERROR);
    /* Overtaken while it waits. */
    session_send(&others[2], &(struct fetch_call){.version = 13, .id = id, .epoch = 9, .max_wait_ms = 60000,
                                                  .min_bytes = 20000});
    ck_assert(client_waits(&others[2]));
    ck_assert_int_eq(session_fetch(&others[1], (struct fetch_call){.version = 13, .id = id, .epoch = 10}).error_code, 0);
    produce_bytes(3, 30000);
    struct k_fetch_response late = session_receive(&others[2], 13);
    ck_assert_int_eq(late.error_code, KERR_INVALID_FETCH_SESSION_EPOCH);
    ck_assert_int_eq(late.responses_n, 0);
    /* Closed from elsewhere while it waits. */
    ck_assert_int_eq(session_fetch(&others[3], (struct fetch_call){.version = 13, .id = id, .epoch = 0, .topic = id_of_t, ALL}).error_code, 0);
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(session_fetch(&others[i], (struct fetch_call){.version = 13, .id = id, .epoch = 11}).error_code,
                         KERR_FETCH_SESSION_ID_NOT_FOUND);
    }
    for (int i = 0; i < 4; i++) client_close(&others[i]);
}
END_TEST

static void delete_t(void) {
    struct k_delete_topics_request q;
    struct k_delete_topics_response a;
    struct k_delete_topics_request_topics t = {.name = STR_LIT("t")};
    k_delete_topics_request_init(&q);
    q.topics = &t;
    q.topics_n = 1;
    CALL(&c, KEY_DELETE_TOPICS, 6, delete_topics, q, a);
    ck_assert_int_eq(a.responses[0].error_code, 0);
}

START_TEST(a_topic_deleted_and_made_again_under_a_session) {
    int32_t by_name = session_fetch(&c, (struct fetch_call){ALL}).session_id;
    int32_t by_id = session_fetch(&c, (struct fetch_call){.version = 13, .topic = id_of_t, ALL}).session_id;
    delete_t();
    struct k_fetch_response a = session_fetch(&c, (struct fetch_call){.id = by_name, .epoch = 1});
    ck_listed(a, 123456);
    ck_assert_int_eq(a.responses[0].partitions[0].error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    ck_assert_int_eq(a.responses[0].partitions[0].high_watermark, -1);
    a = session_fetch(&c, (struct fetch_call){.version = 13, .id = by_id, .epoch = 1});
    ck_listed(a, 123456);
    ck_assert_int_eq(a.responses[0].partitions[0].error_code, KERR_UNKNOWN_TOPIC_ID);
    ck_assert_int_eq(create_topic(&c, "t", 2), 0);
    produce_one(0);
    a = session_fetch(&c, (struct fetch_call){.id = by_name, .epoch = 2}); /* by name it is there again */
    ck_listed(a, 123456);
    ck_assert_int_gt(a.responses[0].partitions[0].records.len, 0);
    ck_assert_int_eq(a.responses[0].partitions[1].error_code, 0);
    ck_assert_int_eq(a.responses[0].partitions[2].error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    a = session_fetch(&c, (struct fetch_call){.version = 13, .id = by_id, .epoch = 2}); /* by id it is not */
    ck_listed(a, 123456);
    ck_assert_int_eq(a.responses[0].partitions[0].error_code, KERR_UNKNOWN_TOPIC_ID);
    /* The client learns the new id, and forgets the old one. */
    struct uuid fresh = topic_id(&c, "t");
    a = session_fetch(&c, (struct fetch_call){.version = 13, .id = by_id, .epoch = 3, .topic = id_of_t, .forget = all, .forget_count = PARTITIONS});
    ck_assert_int_eq(a.session_id, 0);
    a = session_fetch(&c, (struct fetch_call){.version = 13, .topic = fresh, .parts = all, .part_count = 2});
    ck_assert_int_gt(a.session_id, 0);
    ck_assert_int_gt(a.responses[0].partitions[0].records.len, 0);
}
END_TEST

START_TEST(without_free_slots_there_is_no_session) {
    tear_down();
    start("max.incremental.fetch.session.cache.slots=2\n"); /* one for each reactor */
    struct client others[4];
    int made = 0;
    for (int i = 0; i < 4; i++) {
        client_open(&others[i], &f);
        struct k_fetch_response a = session_fetch(&others[i], (struct fetch_call){ALL});
        ck_assert_int_eq(a.error_code, 0);
        ck_listed(a, 123456);
        made += a.session_id != 0;
    }
    ck_assert_int_eq(made, 2);
    for (int i = 0; i < 4; i++) client_close(&others[i]);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("api_sessions");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, only_what_changed_is_sent);
    tcase_add_test(t, who_had_records_goes_to_the_end);
    tcase_add_test(t, a_waiting_session_tells_what_came);
    tcase_add_test(t, added_and_forgotten_partitions);
    tcase_add_test(t, a_session_goes_on_through_any_connection);
    tcase_add_test(t, a_topic_deleted_and_made_again_under_a_session);
    tcase_add_test(t, without_free_slots_there_is_no_session);
    tcase_set_timeout(t, 120);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
