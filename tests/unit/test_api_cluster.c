/* What an administrator asks about one node, on a whole broker with two reactors: every version of each API, every refusal. */
#include <check.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/crc32c.h"
#include "proto/kafka_errors.h"
#include "server/features.h"
#include "server/request.h"
#include "tests/unit/broker_fixture.h"

static struct fixture f;
static struct client c;

static void set_up_with(const char *settings) {
    fixture_start(&f, settings);
    client_open(&c, &f);
}
static void set_up(void) { set_up_with(NULL); }
static void set_up_small_pages(void) { set_up_with("max.request.partition.size.limit=2\n"); }
static void tear_down(void) {
    client_close(&c);
    fixture_stop(&f);
}
static void restart(void) {
    client_close(&c);
    fixture_restart(&f);
    client_open(&c, &f);
}


/* ---- DescribeLogDirs ---------------------------------------------------------------------------------- */

static struct k_describe_log_dirs_response log_dirs(int16_t version, struct k_describe_log_dirs_request_topics *topics, int32_t n) {
    struct k_describe_log_dirs_request q = {topics, n};
    struct k_describe_log_dirs_response a;
    CALL(&c, API_DESCRIBE_LOG_DIRS, version, describe_log_dirs, q, a);
    ck_assert_int_eq(a.error_code, 0);
    ck_assert_int_eq(a.results_n, 1);
    ck_assert_int_eq(a.results[0].error_code, 0);
    ck_assert(str_is(a.results[0].log_dir, f.dir));
    ck_assert_int_eq(a.results[0].total_bytes > 0, version >= 4);
    ck_assert_int_eq(a.results[0].usable_bytes > 0, version >= 4);
    return a;
}

START_TEST(log_dirs_hold_what_was_written) {
    struct bytes b = make_batch(CODEC_NONE, 5, 1000, now_ms());
    ck_assert_int_eq(create_topic(&c, "empty", 1), 0);
    ck_assert_int_eq(create_topic(&c, "full", 3), 0);
    ck_assert_int_eq(produce(&c, "full", 2, b).error, 0);
    ck_assert_int_eq(produce(&c, "full", 2, b).error, 0);
    for (int16_t v = 1; v <= 5; v++) {
        struct k_describe_log_dirs_response a = log_dirs(v, NULL, -1);
        const struct k_describe_log_dirs_response_results *dir = &a.results[0];
        ck_assert_int_eq(dir->topics_n, 2);
        ck_assert(str_is(dir->topics[0].name, "empty"));
        ck_assert_int_eq(dir->topics[1].partitions_n, 3);
        for (int32_t i = 0; i < 3; i++) {
            ck_assert_int_eq(dir->topics[1].partitions[i].partition_index, i);
            ck_assert_int_eq(dir->topics[1].partitions[i].partition_size, i == 2 ? 2 * (int64_t)b.len : 0);
            ck_assert_int_eq(dir->topics[1].partitions[i].offset_lag, 0);
            ck_assert(!dir->topics[1].partitions[i].is_future_key);
        }
        /* Only some; what is not here is left out, what is named twice is told once. */
        int32_t indexes[] = {2, 7, -1, 2};
        struct k_describe_log_dirs_request_topics asked[] = {{STR_LIT("nobody"), indexes, 1}, {STR_LIT("full"), indexes, 4},
                                                             {STR_LIT("full"), indexes, 1}, {STR_LIT("empty"), NULL, 0}};
        a = log_dirs(v, asked, 4);
        ck_assert_int_eq(a.results[0].topics_n, 1);
        ck_assert_int_eq(a.results[0].topics[0].partitions_n, 1);
        ck_assert_int_eq(a.results[0].topics[0].partitions[0].partition_index, 2);
        ck_assert_int_eq(log_dirs(v, asked, 0).results[0].topics_n, 0);
    }
    restart();
    struct k_describe_log_dirs_response a = log_dirs(4, NULL, -1);
    ck_assert_int_eq(a.results[0].topics[1].partitions[2].partition_size, 2 * (int64_t)b.len);
    free((void *)b.p);
}
END_TEST

START_TEST(replicas_stay_in_the_one_directory) {
    ck_assert_int_eq(create_topic(&c, "t", 2), 0);
    for (int16_t v = 1; v <= 2; v++) {
        struct k_alter_replica_log_dirs_request q;
        struct k_alter_replica_log_dirs_response a;
        int32_t indexes[] = {1, 2};
        struct k_alter_replica_log_dirs_request_dirs_topics t[] = {{STR_LIT("t"), indexes, 2}, {STR_LIT("nobody"), indexes, 1}};
        struct k_alter_replica_log_dirs_request_dirs dirs[] = {{str_from(f.dir), t, 2}, {STR_LIT("/elsewhere"), t, 1}, {STR_LIT(""), NULL, 0}};
        k_alter_replica_log_dirs_request_init(&q);
        q.dirs = dirs;
        q.dirs_n = 3;
        CALL(&c, API_ALTER_REPLICA_LOG_DIRS, v, alter_replica_log_dirs, q, a);
        ck_assert_int_eq(a.results_n, 3);
        ck_assert_int_eq(a.results[0].partitions_n, 2);
        ck_assert_int_eq(a.results[0].partitions[0].partition_index, 1);
        ck_assert_int_eq(a.results[0].partitions[0].error_code, 0);
        ck_assert_int_eq(a.results[0].partitions[1].error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
        ck_assert_int_eq(a.results[1].partitions[0].error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
        ck_assert_int_eq(a.results[2].partitions[0].error_code, KERR_LOG_DIR_NOT_FOUND);
    }
}
END_TEST

/* ---- DescribeTopicPartitions -------------------------------------------------------------------------- */

static struct k_describe_topic_partitions_response page(const char *const *names, int32_t n, int32_t limit, const char *cursor, int32_t partition) {
    struct k_describe_topic_partitions_request q;
    struct k_describe_topic_partitions_response a;
    struct k_describe_topic_partitions_request_topics t[8];
    struct k_describe_topic_partitions_request_cursor from = {str_from(cursor), partition};
    k_describe_topic_partitions_request_init(&q);
    for (int32_t i = 0; i < n; i++) t[i].name = str_from(names[i]);
    q.topics = t;
    q.topics_n = n;
    q.response_partition_limit = limit;
    q.cursor = cursor ? &from : NULL;
    CALL(&c, API_DESCRIBE_TOPIC_PARTITIONS, 0, describe_topic_partitions, q, a);
    return a;
}

static void expect_next(const struct k_describe_topic_partitions_response *a, const char *topic, int32_t partition) {
    ck_assert_ptr_nonnull(a->next_cursor);
    ck_assert(str_is(a->next_cursor->topic_name, topic));
    ck_assert_int_eq(a->next_cursor->partition_index, partition);
}

START_TEST(topic_partitions_come_in_pages) {
    ck_assert_int_eq(create_topic(&c, "b", 3), 0);
    ck_assert_int_eq(create_topic(&c, "a", 2), 0);
    ck_assert_int_eq(create_topic(&c, "d", 1), 0);
    struct uuid id = topic_id(&c, "b");
    struct k_describe_topic_partitions_response a = page(NULL, 0, 2000, NULL, 0);
    ck_assert_int_eq(a.topics_n, 3);
    ck_assert_ptr_null(a.next_cursor);
    const struct k_describe_topic_partitions_response_topics *t = &a.topics[1];
    ck_assert(str_is(t->name, "b"));
    ck_assert(uuid_eq(&t->topic_id, &id));
    ck_assert(!t->is_internal);
    ck_assert_int_ne(t->topic_authorized_operations, INT32_MIN);
    ck_assert_int_eq(t->partitions_n, 3);
    for (int32_t i = 0; i < 3; i++) {
        ck_assert_int_eq(t->partitions[i].error_code, 0);
        ck_assert_int_eq(t->partitions[i].partition_index, i);
        ck_assert_int_eq(t->partitions[i].leader_id, FIXTURE_ID);
        ck_assert_int_eq(t->partitions[i].leader_epoch, 1);
        ck_assert_int_eq(t->partitions[i].replica_nodes_n, 1);
        ck_assert_int_eq(t->partitions[i].isr_nodes[0], FIXTURE_ID);
        ck_assert_int_eq(t->partitions[i].eligible_leader_replicas_n, 0);
        ck_assert_int_eq(t->partitions[i].offline_replicas_n, 0);
    }
    /* Page by page: within a topic, at its end, and from a topic that is gone. */
    a = page(NULL, 0, 4, NULL, 0);
    ck_assert_int_eq(a.topics_n, 2);
    ck_assert_int_eq(a.topics[1].partitions_n, 2);
    expect_next(&a, "b", 2);
    a = page(NULL, 0, 1, "b", 2);
    ck_assert_int_eq(a.topics_n, 1);
    ck_assert_int_eq(a.topics[0].partitions[0].partition_index, 2);
    expect_next(&a, "d", 0);
    a = page(NULL, 0, 1, "d", 0);
    ck_assert_int_eq(a.topics_n, 1);
    ck_assert_ptr_null(a.next_cursor);
    a = page(NULL, 0, 9, "c", 5);
    ck_assert_int_eq(a.topics_n, 1);
    ck_assert_int_eq(a.topics[0].partitions_n, 1);
    ck_assert_int_eq(page(NULL, 0, 9, "e", 0).topics_n, 0);
    ck_assert_int_eq(page(NULL, 0, 9, "b", 99).topics[0].partitions_n, 0); /* behind its last one */
    ck_assert_int_eq(page(NULL, 0, -5, NULL, 0).topics[0].partitions_n, 1); /* one at least */
}
END_TEST

START_TEST(named_topics_are_sorted_and_told_once) {
    ck_assert_int_eq(create_topic(&c, "b", 2), 0);
    ck_assert_int_eq(create_topic(&c, "a", 1), 0);
    static const char *const names[] = {"z", "b", "a", "b", "no/name"};
    struct k_describe_topic_partitions_response a = page(names, 5, 2000, NULL, 0);
    ck_assert_int_eq(a.topics_n, 4);
    ck_assert(str_is(a.topics[0].name, "a"));
    ck_assert(str_is(a.topics[1].name, "b"));
    ck_assert_int_eq(a.topics[2].error_code, KERR_INVALID_TOPIC_EXCEPTION);
    ck_assert_int_eq(a.topics[3].error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    a = page(names, 5, 2, NULL, 0);
    expect_next(&a, "b", 1);
    a = page(names, 5, 2, "b", 1);
    ck_assert_int_eq(a.topics_n, 3);
    ck_assert_int_eq(a.topics[0].partitions_n, 1);
    ck_assert_ptr_null(a.next_cursor);
    /* A cursor that no answer gave: not among the topics, or below 0. */
    a = page(names, 5, 2, "c", 0);
    ck_assert_int_eq(a.topics_n, 5);
    ck_assert_int_eq(a.topics[4].error_code, KERR_INVALID_REQUEST);
    ck_assert_int_eq(page(names, 5, 2, "b", -1).topics[0].error_code, KERR_INVALID_REQUEST);
    ck_assert_int_eq(page(NULL, 0, 2, "b", -1).topics_n, 0);
}
END_TEST

START_TEST(the_broker_bounds_a_page) {
    ck_assert_int_eq(create_topic(&c, "t", 5), 0);
    struct k_describe_topic_partitions_response a = page(NULL, 0, 2000, NULL, 0);
    ck_assert_int_eq(a.topics[0].partitions_n, 2);
    expect_next(&a, "t", 2);
}
END_TEST

/* ---- DescribeProducers ---------------------------------------------------------------------------------- */

START_TEST(producers_of_a_partition) {
    ck_assert_int_eq(create_topic(&c, "p", 2), 0);
    struct bytes b = make_batch(CODEC_NONE, 3, 10, now_ms());
    uint8_t *raw = (uint8_t *)b.p;
    for (int64_t id = 5; id < 8; id++) { /* producer id, epoch and base sequence lie behind the checksum's start */
        store_be64(raw + 43, (uint64_t)id);
        store_be16(raw + 51, 2);
        store_be32(raw + 53, 0);
        store_be32(raw + 17, crc32c(0, raw + 21, (size_t)b.len - 21));
        ck_assert_int_eq(produce(&c, "p", 1, b).error, 0);
    }
    free(raw);
    struct k_describe_producers_request q;
    struct k_describe_producers_response a;
    int32_t indexes[] = {1, 0, 2};
    struct k_describe_producers_request_topics t[] = {{STR_LIT("p"), indexes, 3}, {STR_LIT("nobody"), indexes, 1}};
    k_describe_producers_request_init(&q);
    q.topics = t;
    q.topics_n = 2;
    for (int round = 0; round < 2; round++) {
        CALL(&c, API_DESCRIBE_PRODUCERS, 0, describe_producers, q, a);
        ck_assert_int_eq(a.topics_n, 2);
        ck_assert_int_eq(a.topics[0].partitions_n, 3);
        const struct k_describe_producers_response_topics_partitions *p = a.topics[0].partitions;
        ck_assert_int_eq(p[0].error_code, 0);
        ck_assert_int_eq(p[0].active_producers_n, 3);
        int64_t sum = 0;
        for (int32_t i = 0; i < 3; i++) {
            sum += p[0].active_producers[i].producer_id;
            ck_assert_int_eq(p[0].active_producers[i].producer_epoch, 2);
            ck_assert_int_eq(p[0].active_producers[i].last_sequence, 2);
            ck_assert_int_gt(p[0].active_producers[i].last_timestamp, 0);
            ck_assert_int_eq(p[0].active_producers[i].current_txn_start_offset, -1);
        }
        ck_assert_int_eq(sum, 5 + 6 + 7);
        ck_assert_int_eq(p[1].error_code, 0);
        ck_assert_int_eq(p[1].active_producers_n, 0);
        ck_assert_int_eq(p[2].error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
        ck_assert_int_eq(a.topics[1].partitions[0].error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
        restart();
    }
}
END_TEST

/* ---- ElectLeaders ------------------------------------------------------------------------------------------ */

START_TEST(no_election_is_needed) {
    ck_assert_int_eq(create_topic(&c, "e", 3), 0);
    for (int16_t v = 0; v <= 2; v++) {
        for (int8_t type = 0; type <= (v > 0 ? 1 : 0); type++) {
            struct k_elect_leaders_request q;
            struct k_elect_leaders_response a;
            int32_t indexes[] = {0, 2, 3};
            struct k_elect_leaders_request_topic_partitions t[] = {{STR_LIT("e"), indexes, 3}, {STR_LIT("nobody"), indexes, 1}};
            k_elect_leaders_request_init(&q);
            q.election_type = type;
            q.topic_partitions = t;
            q.topic_partitions_n = 2;
            CALL(&c, API_ELECT_LEADERS, v, elect_leaders, q, a);
            ck_assert_int_eq(a.error_code, 0);
            ck_assert_int_eq(a.replica_election_results_n, 2);
            ck_assert_int_eq(a.replica_election_results[0].partition_result_n, 3);
            ck_assert_int_eq(a.replica_election_results[0].partition_result[0].error_code, KERR_ELECTION_NOT_NEEDED);
            ck_assert_int_eq(a.replica_election_results[0].partition_result[1].error_code, KERR_ELECTION_NOT_NEEDED);
            ck_assert_int_eq(a.replica_election_results[0].partition_result[1].partition_id, 2);
            ck_assert_int_eq(a.replica_election_results[0].partition_result[2].error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
            ck_assert_int_eq(a.replica_election_results[1].partition_result[0].error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
            q.topic_partitions = NULL;
            q.topic_partitions_n = -1; /* all: those that need none are left out */
            CALL(&c, API_ELECT_LEADERS, v, elect_leaders, q, a);
            ck_assert_int_eq(a.error_code, 0);
            ck_assert_int_eq(a.replica_election_results_n, 0);
        }
        if (v == 0) continue;
        struct k_elect_leaders_request q;
        struct k_elect_leaders_response a;
        k_elect_leaders_request_init(&q);
        q.election_type = 2;
        CALL(&c, API_ELECT_LEADERS, v, elect_leaders, q, a);
        ck_assert_int_eq(a.error_code, KERR_INVALID_REQUEST);
    }
}
END_TEST

/* ---- reassignments ------------------------------------------------------------------------------------------- */

static int16_t move(int16_t version, const char *topic, int32_t partition, int32_t *replicas, int32_t n) {
    struct k_alter_partition_reassignments_request q;
    struct k_alter_partition_reassignments_response a;
    struct k_alter_partition_reassignments_request_topics_partitions p = {partition, replicas, n};
    struct k_alter_partition_reassignments_request_topics t = {str_from(topic), &p, 1};
    k_alter_partition_reassignments_request_init(&q);
    q.topics = &t;
    q.topics_n = 1;
    if (version >= 1) q.allow_replication_factor_change = false;
    CALL(&c, API_ALTER_PARTITION_REASSIGNMENTS, version, alter_partition_reassignments, q, a);
    ck_assert_int_eq(a.error_code, 0);
    ck_assert_int_eq(a.allow_replication_factor_change, version == 0);
    ck_assert_int_eq(a.responses_n, 1);
    ck_assert(str_is(a.responses[0].name, topic));
    ck_assert_int_eq(a.responses[0].partitions[0].partition_index, partition);
    ck_assert_int_eq(a.responses[0].partitions[0].error_message.p != NULL, a.responses[0].partitions[0].error_code != 0);
    return a.responses[0].partitions[0].error_code;
}

START_TEST(brokers_that_nobody_knows_cannot_be_drained) {
    struct k_drain_brokers_request q;
    struct k_drain_brokers_response a;
    struct k_drain_brokers_request_nodes nodes[] = {{FIXTURE_ID + 1, 1}, {FIXTURE_ID + 1, 0}, {FIXTURE_ID, 7}, {-5, 0}};
    k_drain_brokers_request_init(&q);
    CALL(&c, API_DRAIN_BROKERS, 0, drain_brokers, q, a); /* null: all that are registered; a broker alone is not */
    ck_assert_int_eq(a.error_code, 0);
    ck_assert_int_eq(a.nodes_n, 0);
    q.nodes = nodes;
    q.nodes_n = 4;
    CALL(&c, API_DRAIN_BROKERS, 0, drain_brokers, q, a);
    ck_assert_int_eq(a.error_code, 0);
    ck_assert_int_eq(a.nodes_n, 4);
    ck_assert_int_eq(a.nodes[0].error_code, KERR_BROKER_ID_NOT_REGISTERED);
    ck_assert_int_eq(a.nodes[1].error_code, KERR_INVALID_REQUEST); /* twice */
    ck_assert_int_eq(a.nodes[2].error_code, KERR_INVALID_REQUEST); /* no such change */
    ck_assert_int_eq(a.nodes[3].error_code, KERR_BROKER_ID_NOT_REGISTERED);
    struct k_drain_brokers_request_nodes many[66] = {{0}};
    q.nodes = many;
    q.nodes_n = 66;
    CALL(&c, API_DRAIN_BROKERS, 0, drain_brokers, q, a);
    ck_assert_int_eq(a.error_code, KERR_INVALID_REQUEST);
}
END_TEST

/* They are counted some in a turn, over the ends of topics and in the middle of them; all are. */
START_TEST(what_drained_brokers_hold_is_counted) {
    struct k_drain_brokers_request q;
    struct k_drain_brokers_response a;
    struct k_drain_brokers_request_nodes nodes[] = {{FIXTURE_ID, 0}, {FIXTURE_ID + 1, 0}, {FIXTURE_ID + 2, 0}, {FIXTURE_ID + 3, 0}};
    ck_assert_int_eq(create_topic(&c, "large", 2500), 0);
    ck_assert_int_eq(create_topic(&c, "larger", 1), 0);
    ck_assert_int_eq(create_topic(&c, "a", 999), 0);
    k_drain_brokers_request_init(&q);
    q.nodes = nodes;
    q.nodes_n = 4;
    CALL(&c, API_DRAIN_BROKERS, 0, drain_brokers, q, a);
    ck_assert_int_eq(a.nodes_n, 4);
    ck_assert_int_eq(a.nodes[0].replicas, 3500);
    ck_assert_int_eq(a.nodes[3].replicas, 0);
}
END_TEST

START_TEST(partitions_stay_where_they_are) {
    int32_t self[] = {FIXTURE_ID, FIXTURE_ID}, other[] = {FIXTURE_ID, 9};
    ck_assert_int_eq(create_topic(&c, "r", 2), 0);
    for (int16_t v = 0; v <= 1; v++) {
        ck_assert_int_eq(move(v, "r", 1, self, 1), 0);
        ck_assert_int_eq(move(v, "r", 1, NULL, -1), KERR_NO_REASSIGNMENT_IN_PROGRESS);
        ck_assert_int_eq(move(v, "r", 1, self, 0), KERR_INVALID_REPLICA_ASSIGNMENT);
        ck_assert_int_eq(move(v, "r", 1, self, 2), KERR_INVALID_REPLICA_ASSIGNMENT);
        ck_assert_int_eq(move(v, "r", 1, other, 2), KERR_INVALID_REPLICA_ASSIGNMENT);
        ck_assert_int_eq(move(v, "r", 1, other + 1, 1), KERR_INVALID_REPLICA_ASSIGNMENT);
        ck_assert_int_eq(move(v, "r", 2, self, 1), KERR_UNKNOWN_TOPIC_OR_PARTITION);
        ck_assert_int_eq(move(v, "r", 2, NULL, -1), KERR_UNKNOWN_TOPIC_OR_PARTITION);
        ck_assert_int_eq(move(v, "nobody", 0, self, 1), KERR_UNKNOWN_TOPIC_OR_PARTITION);
    }
    struct k_list_partition_reassignments_request q;
    struct k_list_partition_reassignments_response a;
    int32_t indexes[] = {0, 1};
    struct k_list_partition_reassignments_request_topics t = {STR_LIT("r"), indexes, 2};
    k_list_partition_reassignments_request_init(&q);
    for (int all = 0; all < 2; all++) {
        q.topics = all ? NULL : &t;
        q.topics_n = all ? -1 : 1;
        CALL(&c, API_LIST_PARTITION_REASSIGNMENTS, 0, list_partition_reassignments, q, a);
        ck_assert_int_eq(a.error_code, 0);
        ck_assert_int_eq(a.topics_n, 0);
    }
}
END_TEST

/* ---- the cluster --------------------------------------------------------------------------------------------- */

START_TEST(the_quorum_is_this_broker) {
    int64_t end = -1;
    ck_assert_int_eq(create_topic(&c, "q", 4), 0);
    for (int16_t v = 0; v <= 2; v++) {
        struct k_describe_quorum_request q;
        struct k_describe_quorum_response a;
        struct k_describe_quorum_request_topics_partitions p = {0};
        struct k_describe_quorum_request_topics t[2] = {{STR_LIT("__cluster_metadata"), &p, 1}, {STR_LIT("q"), &p, 1}};
        k_describe_quorum_request_init(&q);
        q.topics = t;
        q.topics_n = 1;
        CALL(&c, API_DESCRIBE_QUORUM, v, describe_quorum, q, a);
        ck_assert_int_eq(a.error_code, 0);
        ck_assert_int_eq(a.topics_n, 1);
        const struct k_describe_quorum_response_topics_partitions *r = &a.topics[0].partitions[0];
        ck_assert_int_eq(r->error_code, 0);
        ck_assert_int_eq(r->leader_id, FIXTURE_ID);
        ck_assert_int_ge(r->leader_epoch, 1);
        ck_assert_int_ge(r->high_watermark, 5); /* a topic and four partitions */
        ck_assert_int_eq(r->current_voters_n, 1);
        ck_assert_int_eq(r->observers_n, 0);
        ck_assert_int_eq(r->current_voters[0].replica_id, FIXTURE_ID);
        ck_assert_int_eq(r->current_voters[0].log_end_offset, r->high_watermark);
        ck_assert_int_eq(r->current_voters[0].last_caught_up_timestamp > 0, v >= 1);
        ck_assert_int_eq(uuid_is_zero(&r->current_voters[0].replica_directory_id), v < 2);
        ck_assert_int_eq(a.nodes_n, v >= 2 ? 1 : 0);
        if (v >= 2) ck_assert_int_eq(a.nodes[0].listeners[0].port, f.port);
        ck_assert(end < 0 || end == r->high_watermark);
        end = r->high_watermark;
        q.topics_n = 2; /* nothing else has a quorum */
        CALL(&c, API_DESCRIBE_QUORUM, v, describe_quorum, q, a);
        ck_assert_int_eq(a.topics_n, 2);
        ck_assert_int_eq(a.topics[1].partitions[0].error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
        p.partition_index = 1;
        q.topics_n = 1;
        CALL(&c, API_DESCRIBE_QUORUM, v, describe_quorum, q, a);
        ck_assert_int_eq(a.topics[0].partitions[0].error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
        q.topics_n = 0;
        CALL(&c, API_DESCRIBE_QUORUM, v, describe_quorum, q, a);
        ck_assert_int_eq(a.topics_n, 0);
    }
}
END_TEST

START_TEST(no_broker_can_be_unregistered) {
    for (int32_t id = FIXTURE_ID; id <= FIXTURE_ID + 1; id++) {
        struct k_unregister_broker_request q = {id};
        struct k_unregister_broker_response a;
        CALL(&c, API_UNREGISTER_BROKER, 0, unregister_broker, q, a);
        ck_assert_int_eq(a.error_code, id == FIXTURE_ID ? KERR_INVALID_REQUEST : KERR_BROKER_ID_NOT_REGISTERED);
        ck_assert_ptr_nonnull(a.error_message.p);
    }
}
END_TEST

START_TEST(resources_that_have_configs) {
    struct k_list_config_resources_request q;
    struct k_list_config_resources_response a;
    ck_assert_int_eq(create_topic(&c, "t2", 1), 0);
    ck_assert_int_eq(create_topic(&c, "t1", 1), 0);
    k_list_config_resources_request_init(&q);
    CALL(&c, API_LIST_CONFIG_RESOURCES, 0, list_config_resources, q, a);
    ck_assert_int_eq(a.error_code, 0);
    ck_assert_int_eq(a.config_resources_n, 0); /* version 0: client metrics */
    CALL(&c, API_LIST_CONFIG_RESOURCES, 1, list_config_resources, q, a);
    ck_assert_int_eq(a.config_resources_n, 4);
    static const struct { int8_t type; int32_t n; const char *first; } asked[] = {
        {2, 2, "t1"}, {4, 1, "7"}, {8, 1, "7"}, {16, 0, NULL}, {32, 0, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(asked); i++) {
        int8_t type = asked[i].type;
        q.resource_types = &type;
        q.resource_types_n = 1;
        CALL(&c, API_LIST_CONFIG_RESOURCES, 1, list_config_resources, q, a);
        ck_assert_int_eq(a.error_code, 0);
        ck_assert_int_eq(a.config_resources_n, asked[i].n);
        for (int32_t k = 0; k < a.config_resources_n; k++) ck_assert_int_eq(a.config_resources[k].resource_type, type);
        if (asked[i].n > 0) ck_assert(str_is(a.config_resources[0].resource_name, asked[i].first));
    }
    int8_t unknown = 3;
    q.resource_types = &unknown;
    CALL(&c, API_LIST_CONFIG_RESOURCES, 1, list_config_resources, q, a);
    ck_assert_int_eq(a.error_code, KERR_UNSUPPORTED_VERSION);
    ck_assert_int_eq(a.config_resources_n, 0);
}
END_TEST

/* ---- features ------------------------------------------------------------------------------------------------- */

static struct k_api_versions_response versions(int16_t version) {
    struct k_api_versions_request q = {version < 3 ? STR_LIT("") : STR_LIT("t"), version < 3 ? STR_LIT("") : STR_LIT("1")};
    struct k_api_versions_response a;
    CALL(&c, API_API_VERSIONS, version, api_versions, q, a);
    return a;
}

static int16_t finalized(const char *name) {
    struct k_api_versions_response a = versions(4);
    for (int32_t i = 0; i < a.finalized_features_n; i++)
        if (str_is(a.finalized_features[i].name, name)) return a.finalized_features[i].max_version_level;
    return 0;
}

START_TEST(api_versions_tells_the_features) {
    uint32_t count;
    const struct feature *features = features_table(&count);
    ck_assert_int_eq(versions(2).supported_features_n, 0);
    for (int16_t v = 3; v <= 4; v++) {
        struct k_api_versions_response a = versions(v);
        uint32_t listed = 0, in_force = 0;
        for (uint32_t i = 0; i < count; i++) {
            listed += v >= 4 || features[i].min > 0;
            in_force += features[i].initial > 0;
        }
        ck_assert_int_eq(a.supported_features_n, listed);
        ck_assert_int_eq(a.finalized_features_n, in_force);
        ck_assert_int_ge(a.finalized_features_epoch, 0);
    }
    ck_assert_int_eq(finalized("metadata.version"), 30);
    int64_t before = versions(4).finalized_features_epoch; /* grows, also over a restart */
    ck_assert_int_eq(create_topic(&c, "t", 1), 0);
    int64_t after = versions(4).finalized_features_epoch;
    ck_assert_int_gt(after, before);
    restart();
    ck_assert_int_ge(versions(4).finalized_features_epoch, after);
}
END_TEST

START_TEST(the_documentation_lists_what_is_served) {
    static char text[65536];
    FILE *file = fopen(TEST_DATA_DIR "/../../../docs/protocol.md", "r");
    ck_assert_ptr_nonnull(file);
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
    size_t count, rows = 0;
    const struct api *apis = api_table(&count);
    for (size_t i = 0; i < count; i++) {
        char row[128], versions_text[16];
        if (apis[i].min_version == apis[i].max_version) snprintf(versions_text, sizeof versions_text, "%d", apis[i].min_version);
        else snprintf(versions_text, sizeof versions_text, "%d-%d", apis[i].min_version, apis[i].max_version);
        snprintf(row, sizeof row, "\n| %d | %s | %s | `server/", apis[i].key, kafka_api_by_key(apis[i].key)->name, versions_text);
        ck_assert_msg(strstr(text, row) != NULL, "docs/protocol.md lacks this row: %s", row + 1);
    }
    for (const char *p = text; (p = strstr(p, " | `server/api_")); p++) rows++;
    ck_assert_uint_eq(rows, count);
}
END_TEST

static int16_t update(int16_t version, const char *name, int16_t level, int8_t type, bool validate_only) {
    struct k_update_features_request q;
    struct k_update_features_response a;
    struct k_update_features_request_feature_updates u;
    k_update_features_request_init(&q);
    k_update_features_request_feature_updates_init(&u);
    u.feature = str_from(name);
    u.max_version_level = level;
    if (version == 0) u.allow_downgrade = type != 1;
    else u.upgrade_type = type;
    q.feature_updates = &u;
    q.feature_updates_n = 1;
    if (version >= 1) q.validate_only = validate_only;
    CALL(&c, API_UPDATE_FEATURES, version, update_features, q, a);
    ck_assert_int_eq(a.error_message.p != NULL, a.error_code != 0);
    ck_assert_int_eq(a.results_n, version < 2 ? 1 : 0);
    if (version < 2) ck_assert_int_eq(a.results[0].error_code, a.error_code);
    return a.error_code;
}

START_TEST(features_are_updated_within_what_is_supported) {
    uint32_t count;
    const struct feature *features = features_table(&count);
    for (int16_t v = 0; v <= 2; v++) {
        ck_assert_int_eq(update(v, "metadata.version", 30, 1, false), 0);
        ck_assert_int_eq(update(v, "metadata.version", 31, 1, false), KERR_INVALID_UPDATE_VERSION);
        ck_assert_int_eq(update(v, "metadata.version", 29, 2, false), KERR_INVALID_UPDATE_VERSION);
        ck_assert_int_eq(update(v, "metadata.version", 0, 2, false), KERR_INVALID_UPDATE_VERSION);
        ck_assert_int_eq(update(v, "metadata.version", -1, 1, false), KERR_INVALID_UPDATE_VERSION);
        ck_assert_int_eq(update(v, "no.such.feature", 1, 1, false), KERR_INVALID_UPDATE_VERSION);
        if (v > 0) ck_assert_int_eq(update(v, "metadata.version", 30, 0, false), KERR_INVALID_REQUEST);
        if (v > 0) ck_assert_int_eq(update(v, "metadata.version", 30, 4, false), KERR_INVALID_REQUEST);
    }
    for (uint32_t i = 0; i < count; i++) { /* those that have more than one level: down, kept, and up again */
        const struct feature *x = &features[i];
        if (x->min == x->max) continue;
        ck_assert_int_eq(update(2, x->name, x->min, 1, false), x->initial > x->min ? KERR_INVALID_UPDATE_VERSION : 0);
        ck_assert_int_eq(update(2, x->name, x->min, 2, true), 0);
        ck_assert_int_eq(finalized(x->name), x->initial);
        ck_assert_int_eq(update(2, x->name, x->min, 2, false), 0);
        restart();
        ck_assert_int_eq(finalized(x->name), x->min);
        ck_assert_int_eq(update(2, x->name, x->max, 3, false), KERR_INVALID_UPDATE_VERSION);
        ck_assert_int_eq(update(2, x->name, x->max, 1, false), 0);
        ck_assert_int_eq(finalized(x->name), x->max);
    }
    struct k_update_features_request q;
    struct k_update_features_response a;
    struct k_update_features_request_feature_updates u[2];
    k_update_features_request_init(&q);
    for (int i = 0; i < 2; i++) {
        k_update_features_request_feature_updates_init(&u[i]);
        u[i].feature = STR_LIT("metadata.version");
        u[i].max_version_level = 30;
    }
    q.feature_updates = u;
    q.feature_updates_n = 2;
    CALL(&c, API_UPDATE_FEATURES, 2, update_features, q, a);
    ck_assert_int_eq(a.error_code, KERR_INVALID_REQUEST); /* a feature twice */
    u[1].feature = STR_LIT("other");
    CALL(&c, API_UPDATE_FEATURES, 1, update_features, q, a);
    ck_assert_int_eq(a.error_code, KERR_INVALID_UPDATE_VERSION); /* one wrong: none is done */
    ck_assert_int_eq(a.results[0].error_code, KERR_INVALID_UPDATE_VERSION);
}
END_TEST

/* ---- security --------------------------------------------------------------------------------------------------- */

START_TEST(there_is_no_authorizer) {
    for (int16_t v = 1; v <= 3; v++) {
        struct k_describe_acls_request dq;
        struct k_describe_acls_response da;
        k_describe_acls_request_init(&dq);
        CALL(&c, API_DESCRIBE_ACLS, v, describe_acls, dq, da);
        ck_assert_int_eq(da.error_code, KERR_SECURITY_DISABLED);
        ck_assert_ptr_nonnull(da.error_message.p);
        struct k_create_acls_request cq;
        struct k_create_acls_response ca;
        struct k_create_acls_request_creations creations[2];
        k_create_acls_request_init(&cq);
        for (int i = 0; i < 2; i++) k_create_acls_request_creations_init(&creations[i]);
        cq.creations = creations;
        cq.creations_n = 2;
        CALL(&c, API_CREATE_ACLS, v, create_acls, cq, ca);
        ck_assert_int_eq(ca.results_n, 2);
        ck_assert_int_eq(ca.results[1].error_code, KERR_SECURITY_DISABLED);
        struct k_delete_acls_request xq;
        struct k_delete_acls_response xa;
        struct k_delete_acls_request_filters filter;
        k_delete_acls_request_init(&xq);
        k_delete_acls_request_filters_init(&filter);
        xq.filters = &filter;
        xq.filters_n = 1;
        CALL(&c, API_DELETE_ACLS, v, delete_acls, xq, xa);
        ck_assert_int_eq(xa.filter_results_n, 1);
        ck_assert_int_eq(xa.filter_results[0].error_code, KERR_SECURITY_DISABLED);
        ck_assert_int_eq(xa.filter_results[0].matching_acls_n, 0);
    }
}
END_TEST

START_TEST(nobody_has_scram_credentials) {
    struct k_describe_user_scram_credentials_request q;
    struct k_describe_user_scram_credentials_response a;
    struct k_describe_user_scram_credentials_request_users users[] = {{STR_LIT("a")}, {STR_LIT("b")}, {STR_LIT("a")}};
    k_describe_user_scram_credentials_request_init(&q);
    q.users = NULL;
    q.users_n = -1;
    CALL(&c, API_DESCRIBE_USER_SCRAM_CREDENTIALS, 0, describe_user_scram_credentials, q, a);
    ck_assert_int_eq(a.error_code, 0);
    ck_assert_int_eq(a.results_n, 0);
    q.users = users;
    q.users_n = 3;
    CALL(&c, API_DESCRIBE_USER_SCRAM_CREDENTIALS, 0, describe_user_scram_credentials, q, a);
    ck_assert_int_eq(a.results_n, 2);
    ck_assert_int_eq(a.results[0].error_code, KERR_DUPLICATE_RESOURCE);
    ck_assert_int_eq(a.results[1].error_code, KERR_RESOURCE_NOT_FOUND);
    ck_assert(str_is(a.results[1].user, "b"));
}
END_TEST

int main(void) {
    Suite *s = suite_create("api_cluster");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, log_dirs_hold_what_was_written);
    tcase_add_test(t, replicas_stay_in_the_one_directory);
    tcase_add_test(t, topic_partitions_come_in_pages);
    tcase_add_test(t, named_topics_are_sorted_and_told_once);
    tcase_add_test(t, producers_of_a_partition);
    tcase_add_test(t, no_election_is_needed);
    tcase_add_test(t, brokers_that_nobody_knows_cannot_be_drained);
    tcase_add_test(t, what_drained_brokers_hold_is_counted);
    tcase_add_test(t, partitions_stay_where_they_are);
    tcase_add_test(t, the_quorum_is_this_broker);
    tcase_add_test(t, no_broker_can_be_unregistered);
    tcase_add_test(t, resources_that_have_configs);
    tcase_add_test(t, api_versions_tells_the_features);
    tcase_add_test(t, the_documentation_lists_what_is_served);
    tcase_add_test(t, features_are_updated_within_what_is_supported);
    tcase_add_test(t, there_is_no_authorizer);
    tcase_add_test(t, nobody_has_scram_credentials);
    suite_add_tcase(s, t);
    TCase *small = tcase_create("small pages");
    tcase_add_checked_fixture(small, set_up_small_pages, tear_down);
    tcase_add_test(small, the_broker_bounds_a_page);
    suite_add_tcase(s, small);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
