/* ApiVersions, Metadata, topics, configs, producer ids on a whole broker with two reactors: what each
 * API answers at every version, the error of each wrong input, and what a restart keeps. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include "proto/kafka_errors.h"
#include "server/partition.h"
#include "server/request.h"
#include "tests/unit/broker_fixture.h"

static struct fixture f;
static struct client c;

static void set_up_with(const char *settings) {
    fixture_start(&f, settings);
    client_open(&c, &f);
}
static void set_up(void) { set_up_with(NULL); }
static void tear_down(void) {
    client_close(&c);
    fixture_stop(&f);
}
static void restart(void) {
    client_close(&c);
    fixture_restart(&f);
    client_open(&c, &f);
}

/* ---- who we are --------------------------------------------------------------------------------------- */

START_TEST(api_versions_tells_what_is_served) {
    for (int16_t v = 0; v <= 4; v++) {
        struct k_api_versions_request q = {STR_LIT("test-client"), STR_LIT("1.0.x")};
        struct k_api_versions_response a;
        size_t count;
        if (v < 3) q = (struct k_api_versions_request){STR_LIT(""), STR_LIT("")};
        CALL(&c, KEY_API_VERSIONS, v, api_versions, q, a);
        ck_assert_int_eq(a.error_code, 0);
        const struct api *apis = api_table(&count);
        while (apis[count - 1].key >= KAFKA_OWN_KEYS_FIRST) count--; /* not listed */
        ck_assert_uint_eq((size_t)a.api_keys_n, count);
        for (size_t i = 0; i < count; i++) {
            ck_assert_int_eq(a.api_keys[i].api_key, apis[i].key);
            ck_assert_int_eq(a.api_keys[i].min_version, apis[i].advertised_min);
            ck_assert_int_eq(a.api_keys[i].max_version, apis[i].max_version);
        }
        ck_assert_int_eq(a.api_keys[0].min_version, 0); /* Produce, for old librdkafka */
    }
}
END_TEST

START_TEST(an_unknown_version_of_api_versions_is_answered_at_version_0) {
    struct wire_reader r;
    struct k_api_versions_response a;
    wire_put_raw(client_begin(&c, KEY_API_VERSIONS, 4), "garbage", 7);
    store_be16(c.out.data + 6, 9);
    client_send(&c);
    ck_assert(client_receive(&c, &r));
    ck_assert_int_eq(k_api_versions_response_decode(&a, &r, 0), OK);
    ck_assert_uint_eq(wire_left(&r), 0);
    ck_assert_int_eq(a.error_code, KERR_UNSUPPORTED_VERSION);
    ck_assert_int_eq(a.api_keys_n, 1);
    ck_assert_int_eq(a.api_keys[0].api_key, KEY_API_VERSIONS);
    ck_assert_int_eq(a.api_keys[0].max_version, 4);
}
END_TEST

START_TEST(client_software_names_have_a_grammar) {
    static const char *const bad[] = {"", "-x", "x-", "a b", "a_b", ".", "\xc3\xa9"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct k_api_versions_request q = {str_from(bad[i]), STR_LIT("1")};
        struct k_api_versions_response a;
        CALL(&c, KEY_API_VERSIONS, 3, api_versions, q, a);
        ck_assert_int_eq(a.error_code, KERR_INVALID_REQUEST);
        ck_assert_int_eq(a.api_keys_n, 0);
    }
}
END_TEST

START_TEST(versions_that_are_not_served_close_the_connection) {
    static const struct { int16_t key, version; } bad[] = {{0, 2}, {0, 14}, {1, 3}, {1, 19}, {2, 0}, {3, 14}, {11, 0},
                                                           {22, 6}, {999, 0}, {-1, 0}};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct client other;
        client_open(&other, &f);
        client_begin(&other, KEY_API_VERSIONS, 0);
        store_be16(other.out.data + 4, (uint16_t)bad[i].key);
        store_be16(other.out.data + 6, (uint16_t)bad[i].version);
        client_send(&other);
        ck_assert(client_is_closed(&other));
        client_close(&other);
    }
}
END_TEST

START_TEST(describe_cluster) {
    for (int16_t v = 0; v <= 2; v++) {
        struct k_describe_cluster_request q;
        struct k_describe_cluster_response a;
        k_describe_cluster_request_init(&q);
        q.include_cluster_authorized_operations = true;
        CALL(&c, KEY_DESCRIBE_CLUSTER, v, describe_cluster, q, a);
        ck_assert_int_eq(a.error_code, 0);
        ck_assert_int_eq(a.controller_id, FIXTURE_ID);
        ck_assert_int_eq(a.brokers_n, 1);
        ck_assert_int_eq(a.brokers[0].port, f.port);
        ck_assert(str_is(a.brokers[0].host, "127.0.0.1"));
        ck_assert_int_eq(a.cluster_id.len, 22);
        ck_assert_int_ne(a.cluster_authorized_operations, INT32_MIN);
        if (v == 0) continue;
        q.endpoint_type = 2;
        CALL(&c, KEY_DESCRIBE_CLUSTER, v, describe_cluster, q, a);
        ck_assert_int_eq(a.error_code, KERR_MISMATCHED_ENDPOINT_TYPE);
        q.endpoint_type = 9;
        CALL(&c, KEY_DESCRIBE_CLUSTER, v, describe_cluster, q, a);
        ck_assert_int_eq(a.error_code, KERR_UNSUPPORTED_ENDPOINT_TYPE);
    }
}
END_TEST

START_TEST(transactions_have_no_coordinator_yet) {
    for (int16_t v = 1; v <= 6; v++) {
        struct k_find_coordinator_request q;
        struct k_find_coordinator_response a;
        struct str keys[2] = {STR_LIT("g1"), STR_LIT("g2")};
        k_find_coordinator_request_init(&q);
        q.key_type = 1;
        if (v < 4) q.key = keys[0];
        q.coordinator_keys = v < 4 ? NULL : keys;
        q.coordinator_keys_n = v < 4 ? 0 : 2;
        CALL(&c, KEY_FIND_COORDINATOR, v, find_coordinator, q, a);
        ck_assert_int_eq(v < 4 ? a.error_code : a.coordinators[1].error_code, KERR_COORDINATOR_NOT_AVAILABLE);
    }
}
END_TEST

/* ---- Metadata ------------------------------------------------------------------------------------------ */

static struct k_metadata_response metadata(int16_t version, const char *name, bool create) {
    struct k_metadata_request q;
    struct k_metadata_response a;
    struct k_metadata_request_topics t = {.name = str_from(name)};
    k_metadata_request_init(&q);
    if (version >= 4) q.allow_auto_topic_creation = create;
    q.topics = &t;
    q.topics_n = name ? 1 : 0;
    CALL(&c, KEY_METADATA, version, metadata, q, a);
    return a;
}

START_TEST(every_version_of_metadata) {
    ck_assert_int_eq(create_topic(&c, "m", 3), 0);
    struct uuid id = topic_id(&c, "m");
    ck_assert(!uuid_is_zero(&id));
    for (int16_t v = 0; v <= 13; v++) {
        struct k_metadata_response a = metadata(v, "m", false);
        ck_assert_int_eq(a.brokers_n, 1);
        ck_assert_int_eq(a.brokers[0].node_id, FIXTURE_ID);
        ck_assert_int_eq(a.brokers[0].port, f.port);
        if (v >= 1) ck_assert_int_eq(a.controller_id, FIXTURE_ID);
        if (v >= 2) ck_assert_int_eq(a.cluster_id.len, 22);
        ck_assert_int_eq(a.topics_n, 1);
        ck_assert_int_eq(a.topics[0].error_code, 0);
        ck_assert_int_eq(a.topics[0].partitions_n, 3);
        ck_assert_int_eq(a.topics[0].topic_authorized_operations, INT32_MIN);
        if (v >= 10) ck_assert(uuid_eq(&a.topics[0].topic_id, &id));
        for (int32_t i = 0; i < 3; i++) {
            const struct k_metadata_response_topics_partitions *p = &a.topics[0].partitions[i];
            ck_assert_int_eq(p->error_code, 0);
            ck_assert_int_eq(p->leader_id, FIXTURE_ID);
            ck_assert_int_eq(p->leader_epoch, v >= 7 ? 1 : -1);
            ck_assert_int_eq(p->replica_nodes_n, 1);
            ck_assert_int_eq(p->isr_nodes[0], FIXTURE_ID);
            ck_assert_int_eq(p->offline_replicas_n, 0);
        }
        ck_assert_int_eq(metadata(v, NULL, false).topics_n,
                         v == 0 ? 1 : 0); /* "v0 empty list = all; v1+ empty = none" */
        if (v == 0) continue;
        struct k_metadata_request q;
        k_metadata_request_init(&q);
        q.topics = NULL;
        q.topics_n = -1;
        CALL(&c, KEY_METADATA, v, metadata, q, a);
        ck_assert_int_eq(a.topics_n, 1);
        if (v < 12) continue;
        struct k_metadata_request_topics by_id = {.topic_id = id, .name = STR_LIT("")}; /* as Java's consumer asks for what a group gave it */
        q.topics = &by_id;
        q.topics_n = 1;
        CALL(&c, KEY_METADATA, v, metadata, q, a);
        ck_assert_int_eq(a.topics[0].error_code, 0);
        ck_assert(str_is(a.topics[0].name, "m"));
    }
}
END_TEST

START_TEST(unknown_topics_in_metadata) {
    ck_assert_int_eq(metadata(9, "nobody", false).topics[0].error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    ck_assert_int_eq(metadata(9, "nobody", false).topics[0].error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    static const char *const bad[] = {"", ".", "..", "a/b", "../x", "a b", "\xff\xfe", "__cluster_metadata"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ck_assert_int_eq(metadata(9, bad[i], true).topics[0].error_code, KERR_INVALID_TOPIC_EXCEPTION);
    char long_name[300];
    memset(long_name, 'x', sizeof long_name);
    long_name[250] = 0;
    ck_assert_int_eq(metadata(9, long_name, true).topics[0].error_code, KERR_INVALID_TOPIC_EXCEPTION);
    struct k_metadata_request q;
    struct k_metadata_response a;
    struct k_metadata_request_topics t = {.topic_id = {{1, 2}}, .name = STR_NULL};
    k_metadata_request_init(&q);
    q.topics = &t;
    q.topics_n = 1;
    CALL(&c, KEY_METADATA, 12, metadata, q, a);
    ck_assert_int_eq(a.topics[0].error_code, KERR_UNKNOWN_TOPIC_ID);
    ck_assert_ptr_null(a.topics[0].name.p);
    k_metadata_request_init(&q);
    q.topics = NULL;
    q.topics_n = -1;
    CALL(&c, KEY_METADATA, 9, metadata, q, a);
    ck_assert_int_eq(a.topics_n, 0); /* none of this created anything */
}
END_TEST

START_TEST(topics_are_created_on_first_use) {
    ck_assert_int_eq(metadata(4, "first", true).topics[0].error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    int16_t error = KERR_UNKNOWN_TOPIC_OR_PARTITION;
    for (int64_t end = now_ms() + 30000; error && now_ms() < end;) { /* a bound, not a measurement */
        struct k_metadata_response a = metadata(4, "first", true);
        error = a.topics[0].error_code ? a.topics[0].error_code : a.topics[0].partitions[0].error_code;
    }
    ck_assert_int_eq(error, 0);
    struct bytes b = make_batch(CODEC_NONE, 1, 10, now_ms());
    ck_assert_int_eq(produce(&c, "first", 0, b).error, 0);
    free((void *)b.p);
    ck_assert_int_eq(create_topic(&c, "first", 1), KERR_TOPIC_ALREADY_EXISTS);
}
END_TEST

START_TEST(a_topic_asked_many_times_is_answered_once) {
    enum { TIMES = 10000 };
    static struct k_metadata_request_topics t[TIMES];
    struct k_metadata_request q;
    struct k_metadata_response a;
    ck_assert_int_eq(create_topic(&c, "m", 100), 0);
    for (int i = 0; i < TIMES; i++) t[i].name = STR_LIT("m");
    k_metadata_request_init(&q);
    q.topics = t;
    q.topics_n = TIMES;
    CALL(&c, KEY_METADATA, 9, metadata, q, a);
    ck_assert_int_eq(a.topics_n, 1);
}
END_TEST

/* ---- CreateTopics ------------------------------------------------------------------------------------------ */

struct spec { const char *name; int32_t partitions; int16_t replicas; const char *config, *value; int16_t error; };

static struct k_create_topics_response create_many(int16_t version, const struct spec *specs, int32_t n,
                                                   bool validate_only) {
    struct k_create_topics_request q;
    struct k_create_topics_response a;
    struct k_create_topics_request_topics *t = calloc((size_t)n, sizeof *t);
    struct k_create_topics_request_topics_configs *kv = calloc((size_t)n, sizeof *kv);
    k_create_topics_request_init(&q);
    for (int32_t i = 0; i < n; i++) {
        k_create_topics_request_topics_init(&t[i]);
        kv[i] = (struct k_create_topics_request_topics_configs){str_from(specs[i].config), str_from(specs[i].value)};
        t[i].name = str_from(specs[i].name);
        t[i].num_partitions = specs[i].partitions;
        t[i].replication_factor = specs[i].replicas;
        t[i].configs = &kv[i];
        t[i].configs_n = specs[i].config ? 1 : 0;
    }
    q.topics = t;
    q.topics_n = n;
    q.validate_only = validate_only;
    CALL(&c, KEY_CREATE_TOPICS, version, create_topics, q, a);
    free(t);
    free(kv);
    return a;
}

START_TEST(create_topics_refuses_one_by_one) {
    static const struct spec specs[] = {
        {"ok", 2, 1, NULL, NULL, 0},
        {"defaults", -1, -1, NULL, NULL, 0},
        {"twice", 1, 1, NULL, NULL, KERR_INVALID_REQUEST},
        {"twice", 1, 1, NULL, NULL, KERR_INVALID_REQUEST},
        {"bad/name", 1, 1, NULL, NULL, KERR_INVALID_TOPIC_EXCEPTION},
        {"", 1, 1, NULL, NULL, KERR_INVALID_TOPIC_EXCEPTION},
        {"..", 1, 1, NULL, NULL, KERR_INVALID_TOPIC_EXCEPTION},
        {"__cluster_metadata", 1, 1, NULL, NULL, KERR_INVALID_TOPIC_EXCEPTION},
        {"none", 0, 1, NULL, NULL, KERR_INVALID_PARTITIONS},
        {"minus", -2, 1, NULL, NULL, KERR_INVALID_PARTITIONS},
        {"many", 1000000, 1, NULL, NULL, KERR_POLICY_VIOLATION},
        {"rf0", 1, 0, NULL, NULL, KERR_INVALID_REPLICATION_FACTOR},
        {"rf-2", 1, -2, NULL, NULL, KERR_INVALID_REPLICATION_FACTOR},
        {"rf2", 1, 2, NULL, NULL, KERR_INVALID_REPLICATION_FACTOR},
        {"conf", 1, 1, "no.such.config", "1", KERR_INVALID_CONFIG},
        {"value", 1, 1, "retention.ms", "soon", KERR_INVALID_CONFIG},
        {"null", 1, 1, "retention.ms", NULL, KERR_INVALID_CONFIG},
        {"policy", 1, 1, "cleanup.policy", "shred", KERR_INVALID_CONFIG},
        {"dot.dot", 1, 1, NULL, NULL, 0},
        {"dot_dot", 1, 1, NULL, NULL, KERR_INVALID_TOPIC_EXCEPTION},
        {"set", 1, 1, "retention.ms", "1000", 0},
    };
    struct k_create_topics_response a = create_many(7, specs, ARRAY_LEN(specs), false);
    ck_assert_int_eq(a.topics_n, ARRAY_LEN(specs) - 1); /* the name that came twice is answered once */
    for (int32_t i = 0, k = 0; i < (int32_t)ARRAY_LEN(specs); i++) {
        if (i == 3) continue;
        const struct k_create_topics_response_topics *t = &a.topics[k++];
        ck_assert(str_is(t->name, specs[i].name));
        ck_assert_msg(t->error_code == specs[i].error, "%s: %d", specs[i].name, t->error_code);
        ck_assert_int_eq(t->error_message.p != NULL, specs[i].error != 0);
        ck_assert_int_eq(uuid_is_zero(&t->topic_id), specs[i].error != 0);
        ck_assert_int_eq(t->configs_n > 0, specs[i].error == 0);
    }
    ck_assert_int_eq(metadata(9, "ok", false).topics[0].partitions_n, 2);
    ck_assert_int_eq(metadata(9, "twice", false).topics[0].error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    ck_assert_int_eq(create_topic(&c, "ok", 1), KERR_TOPIC_ALREADY_EXISTS);
    ck_assert_int_eq(create_topic(&c, "dot_dot", 1), KERR_INVALID_TOPIC_EXCEPTION);
}
END_TEST

START_TEST(every_version_of_create_and_delete) {
    for (int16_t v = 2; v <= 7; v++) {
        char name[16];
        snprintf(name, sizeof name, "v%d", v);
        struct spec spec = {name, 1, 1, NULL, NULL, 0};
        ck_assert_int_eq(create_many(v, &spec, 1, true).topics[0].error_code, 0);
        ck_assert_int_eq(metadata(9, name, false).topics[0].error_code,
                         KERR_UNKNOWN_TOPIC_OR_PARTITION); /* only validated */
        struct k_create_topics_response a = create_many(v, &spec, 1, false);
        ck_assert_int_eq(a.topics[0].error_code, 0);
        ck_assert_int_eq(a.topics[0].num_partitions, v >= 5 ? 1 : -1);
        ck_assert_int_eq(create_many(v, &spec, 1, true).topics[0].error_code, KERR_TOPIC_ALREADY_EXISTS);
    }
    for (int16_t v = 1; v <= 6; v++) {
        struct k_delete_topics_request q;
        struct k_delete_topics_response a;
        char name[16];
        snprintf(name, sizeof name, "v%d", v + 1);
        struct str names[2] = {str_from(name), STR_LIT("nobody")};
        struct k_delete_topics_request_topics t[2] = {{.name = names[0]}, {.name = names[1]}};
        k_delete_topics_request_init(&q);
        q.topics = t;
        q.topic_names = names;
        q.topics_n = v >= 6 ? 2 : 0;
        q.topic_names_n = v >= 6 ? 0 : 2;
        CALL(&c, KEY_DELETE_TOPICS, v, delete_topics, q, a);
        ck_assert_int_eq(a.responses[0].error_code, 0);
        ck_assert_int_eq(a.responses[1].error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
        ck_assert_int_eq(metadata(9, name, false).topics[0].error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    }
}
END_TEST

START_TEST(assignments_by_hand) {
    struct k_create_topics_request q;
    struct k_create_topics_response a;
    struct k_create_topics_request_topics t;
    int32_t self = FIXTURE_ID, other = 99, twice[2] = {FIXTURE_ID, FIXTURE_ID};
    struct k_create_topics_request_topics_assignments as[2] = {{1, &self, 1}, {0, &self, 1}};
    k_create_topics_request_init(&q);
    k_create_topics_request_topics_init(&t);
    t.name = STR_LIT("by-hand");
    t.num_partitions = -1;
    t.replication_factor = -1;
    t.assignments = as;
    t.assignments_n = 2;
    q.topics = &t;
    q.topics_n = 1;
    q.validate_only = true;
    CALL(&c, KEY_CREATE_TOPICS, 5, create_topics, q, a);
    ck_assert_int_eq(a.topics[0].error_code, 0);
    ck_assert_int_eq(a.topics[0].num_partitions, 2);
    as[0].partition_index = 2;
    CALL(&c, KEY_CREATE_TOPICS, 5, create_topics, q, a);
    ck_assert_int_eq(a.topics[0].error_code, KERR_INVALID_REPLICA_ASSIGNMENT); /* not consecutive */
    as[0] = (struct k_create_topics_request_topics_assignments){1, &other, 1};
    CALL(&c, KEY_CREATE_TOPICS, 5, create_topics, q, a);
    ck_assert_int_eq(a.topics[0].error_code, KERR_INVALID_REPLICA_ASSIGNMENT); /* no such broker */
    as[0] = (struct k_create_topics_request_topics_assignments){1, twice, 2};
    CALL(&c, KEY_CREATE_TOPICS, 5, create_topics, q, a);
    ck_assert_int_eq(a.topics[0].error_code, KERR_INVALID_REPLICA_ASSIGNMENT);
    as[0] = (struct k_create_topics_request_topics_assignments){1, &self, 1};
    t.num_partitions = 2;
    CALL(&c, KEY_CREATE_TOPICS, 5, create_topics, q, a);
    ck_assert_int_eq(a.topics[0].error_code, KERR_INVALID_REQUEST);
}
END_TEST

/* ---- DeleteTopics, CreatePartitions ----------------------------------------------------------------------------- */

START_TEST(delete_by_id_and_create_again) {
    ck_assert_int_eq(create_topic(&c, "again", 2), 0);
    struct bytes b = make_batch(CODEC_NONE, 3, 10, now_ms());
    ck_assert_int_eq(produce(&c, "again", 1, b).error, 0);
    struct uuid id = topic_id(&c, "again");
    struct k_delete_topics_request q;
    struct k_delete_topics_response a;
    struct k_delete_topics_request_topics t[3] = {{.name = STR_NULL, .topic_id = id},
                                                  {.name = STR_LIT("again"), .topic_id = id}, {.name = STR_NULL}};
    k_delete_topics_request_init(&q);
    q.topics = t;
    q.topics_n = 3;
    CALL(&c, KEY_DELETE_TOPICS, 6, delete_topics, q, a);
    ck_assert_int_eq(a.responses[0].error_code, 0);
    ck_assert(str_is(a.responses[0].name, "again"));
    ck_assert_int_eq(a.responses[1].error_code, KERR_INVALID_REQUEST); /* name and id */
    ck_assert_int_eq(a.responses[2].error_code, KERR_INVALID_REQUEST); /* neither */
    q.topics_n = 1;
    CALL(&c, KEY_DELETE_TOPICS, 6, delete_topics, q, a);
    ck_assert_int_eq(a.responses[0].error_code, KERR_UNKNOWN_TOPIC_ID);
    ck_assert_int_eq(create_topic(&c, "again", 2), 0);
    struct uuid next = topic_id(&c, "again");
    ck_assert(!uuid_eq(&id, &next));
    ck_assert_int_eq(fetch(&c, "again", 1, 0).high_watermark, 0);
    ck_assert_int_eq(produce(&c, "again", 1, b).offset, 0);
    restart();
    ck_assert_int_eq(fetch(&c, "again", 1, 0).high_watermark, 3);
    free((void *)b.p);
}
END_TEST

START_TEST(topic_deletion_may_be_disabled) {
    struct k_delete_topics_request q;
    struct k_delete_topics_response a;
    struct str name = STR_LIT("kept");
    ck_assert_int_eq(create_topic(&c, "kept", 1), 0);
    k_delete_topics_request_init(&q);
    q.topic_names = &name;
    q.topic_names_n = 1;
    CALL(&c, KEY_DELETE_TOPICS, 3, delete_topics, q, a);
    ck_assert_int_eq(a.responses[0].error_code, KERR_TOPIC_DELETION_DISABLED);
    CALL(&c, KEY_DELETE_TOPICS, 1, delete_topics, q, a);
    ck_assert_int_eq(a.responses[0].error_code, KERR_INVALID_REQUEST);
}
END_TEST

static int16_t grow(int16_t version, const char *name, int32_t count, int32_t assigned, bool validate_only) {
    struct k_create_partitions_request q;
    struct k_create_partitions_response a;
    int32_t self = FIXTURE_ID;
    struct k_create_partitions_request_topics_assignments as[8];
    for (int i = 0; i < 8; i++) as[i] = (struct k_create_partitions_request_topics_assignments){&self, 1};
    struct k_create_partitions_request_topics t = {str_from(name), count, assigned < 0 ? NULL : as, assigned};
    k_create_partitions_request_init(&q);
    q.topics = &t;
    q.topics_n = 1;
    q.validate_only = validate_only;
    CALL(&c, KEY_CREATE_PARTITIONS, version, create_partitions, q, a);
    ck_assert_int_eq(a.results_n, 1);
    return a.results[0].error_code;
}

START_TEST(partitions_only_grow) {
    ck_assert_int_eq(create_topic(&c, "p", 2), 0);
    ck_assert_int_eq(grow(0, "p", 2, -1, false), KERR_INVALID_PARTITIONS);
    ck_assert_int_eq(grow(1, "p", 1, -1, false), KERR_INVALID_PARTITIONS);
    ck_assert_int_eq(grow(2, "p", -1, -1, false), KERR_INVALID_PARTITIONS);
    ck_assert_int_eq(grow(3, "nobody", 5, -1, false), KERR_UNKNOWN_TOPIC_OR_PARTITION);
    ck_assert_int_eq(grow(3, "p", 5, 2, false), KERR_INVALID_REPLICA_ASSIGNMENT);
    ck_assert_int_eq(grow(3, "p", 100000000, -1, false), KERR_POLICY_VIOLATION);
    ck_assert_int_eq(grow(3, "p", 5, -1, true), 0);
    ck_assert_int_eq(metadata(9, "p", false).topics[0].partitions_n, 2);
    ck_assert_int_eq(grow(3, "p", 5, 3, false), 0);
    ck_assert_int_eq(metadata(9, "p", false).topics[0].partitions_n, 5);
    struct bytes b = make_batch(CODEC_NONE, 1, 10, now_ms());
    ck_assert_int_eq(produce(&c, "p", 4, b).offset, 0);
    free((void *)b.p);
}
END_TEST

/* ---- configs -------------------- */

static struct k_describe_configs_response describe(int16_t version, int8_t type, const char *name, const char *key,
                                                   bool synonyms) {
    struct k_describe_configs_request q;
    struct k_describe_configs_response a;
    struct str k = str_from(key);
    struct k_describe_configs_request_resources r = {type, str_from(name), key ? &k : NULL, key ? 1 : -1};
    k_describe_configs_request_init(&q);
    q.resources = &r;
    q.resources_n = 1;
    q.include_synonyms = synonyms;
    if (version >= 3) q.include_documentation = true;
    CALL(&c, KEY_DESCRIBE_CONFIGS, version, describe_configs, q, a);
    ck_assert_int_eq(a.results_n, 1);
    return a;
}

static const char *value_of(const char *topic, const char *key) {
    static char text[256];
    struct k_describe_configs_response a = describe(4, 2, topic, key, false);
    ck_assert_int_eq(a.results[0].configs_n, 1);
    snprintf(text, sizeof text, "%.*s", a.results[0].configs[0].value.len, a.results[0].configs[0].value.p);
    return text;
}

enum { SET, DELETE, APPEND, SUBTRACT };
static int16_t alter(int16_t version, int8_t type, const char *name, const char *key, int8_t operation,
                     const char *value, bool validate_only) {
    struct k_incremental_alter_configs_request q;
    struct k_incremental_alter_configs_response a;
    struct k_incremental_alter_configs_request_resources_configs kv = {str_from(key), operation, str_from(value)};
    struct k_incremental_alter_configs_request_resources r = {type, str_from(name), &kv, 1};
    k_incremental_alter_configs_request_init(&q);
    q.resources = &r;
    q.resources_n = 1;
    q.validate_only = validate_only;
    CALL(&c, KEY_INCREMENTAL_ALTER, version, incremental_alter_configs, q, a);
    ck_assert_int_eq(a.responses_n, 1);
    ck_assert_int_eq(a.responses[0].error_message.p != NULL, a.responses[0].error_code != 0);
    return a.responses[0].error_code;
}

START_TEST(describe_configs_of_topics_and_the_broker) {
    ck_assert_int_eq(create_topic_with(&c, "d", 1, "retention.ms", "5000"), 0);
    for (int16_t v = 1; v <= 4; v++) {
        struct k_describe_configs_response a = describe(v, 2, "d", NULL, true);
        ck_assert_int_eq(a.results[0].error_code, 0);
        ck_assert_int_eq(a.results[0].configs_n, 33); /* all that Kafka 4.3 has */
        bool seen = false;
        for (int32_t i = 0; i < a.results[0].configs_n; i++) {
            const struct k_describe_configs_response_results_configs *e = &a.results[0].configs[i];
            if (v >= 3) ck_assert_int_ne(e->config_type, 0);
            if (v >= 3) ck_assert_ptr_nonnull(e->documentation.p);
            if (!str_is(e->name, "retention.ms")) continue;
            seen = true;
            ck_assert(str_is(e->value, "5000"));
            ck_assert_int_eq(e->config_source, 1);
            ck_assert_int_ge(e->synonyms_n, 2);
            ck_assert_int_eq(e->synonyms[0].source, 1);
            ck_assert_int_eq(e->synonyms[e->synonyms_n - 1].source, 5);
        }
        ck_assert(seen);
        a = describe(v, 4, "7", NULL, true);
        ck_assert_int_eq(a.results[0].error_code, 0);
        ck_assert_int_gt(a.results[0].configs_n, 50);
        ck_assert_int_eq(describe(v, 4, "7", "num.partitions", false).results[0].configs_n, 1);
        ck_assert_int_eq(describe(v, 4, "8", NULL, false).results[0].error_code, KERR_INVALID_REQUEST);
        ck_assert_int_eq(describe(v, 4, "", NULL, false).results[0].configs_n, 0);
        ck_assert_int_eq(describe(v, 2, "nobody", NULL, false).results[0].error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
        ck_assert_int_eq(describe(v, 2, "a/b", NULL, false).results[0].error_code, KERR_INVALID_TOPIC_EXCEPTION);
        ck_assert_int_eq(describe(v, 99, "x", NULL, false).results[0].error_code, KERR_INVALID_REQUEST);
        ck_assert_int_eq(describe(v, 2, "d", "no.such.config", false).results[0].configs_n, 0);
    }
}
END_TEST

START_TEST(incremental_alter_configs) {
    ck_assert_int_eq(create_topic(&c, "i", 2), 0);
    ck_assert_int_eq(alter(0, 2, "i", "retention.ms", SET, "1000", true), 0);
    ck_assert_str_eq(value_of("i", "retention.ms"), "604800000");
    ck_assert_int_eq(alter(1, 2, "i", "retention.ms", SET, "1000", false), 0);
    ck_assert_str_eq(value_of("i", "retention.ms"), "1000");
    ck_assert_int_eq(alter(1, 2, "i", "cleanup.policy", APPEND, "compact", false), 0);
    ck_assert_str_eq(value_of("i", "cleanup.policy"), "delete,compact");
    ck_assert_int_eq(alter(1, 2, "i", "cleanup.policy", APPEND, "compact", false), 0);
    ck_assert_str_eq(value_of("i", "cleanup.policy"), "delete,compact");
    ck_assert_int_eq(alter(1, 2, "i", "cleanup.policy", SUBTRACT, "delete", false), 0);
    ck_assert_str_eq(value_of("i", "cleanup.policy"), "compact");
    ck_assert_int_eq(alter(1, 2, "i", "retention.ms", DELETE, NULL, false), 0);
    ck_assert_str_eq(value_of("i", "retention.ms"), "604800000");
    ck_assert_int_eq(alter(1, 2, "i", "retention.ms", APPEND, "1", false), KERR_INVALID_CONFIG);
    ck_assert_int_eq(alter(1, 2, "i", "retention.ms", SET, NULL, false), KERR_INVALID_REQUEST);
    ck_assert_int_eq(alter(1, 2, "i", "retention.ms", SET, "-2", false), KERR_INVALID_CONFIG);
    ck_assert_int_eq(alter(1, 2, "i", "retention.ms", 9, "1", false), KERR_INVALID_REQUEST);
    ck_assert_int_eq(alter(1, 2, "i", "no.such.config", SET, "1", false), KERR_INVALID_CONFIG);
    ck_assert_int_eq(alter(1, 2, "nobody", "retention.ms", SET, "1", false), KERR_UNKNOWN_TOPIC_OR_PARTITION);
    ck_assert_int_eq(alter(1, 4, "7", "num.partitions", SET, "1", false), KERR_INVALID_REQUEST);
    ck_assert_int_eq(alter(1, 77, "x", "retention.ms", SET, "1", false), KERR_INVALID_REQUEST);
    struct k_incremental_alter_configs_request q;
    struct k_incremental_alter_configs_response a;
    struct k_incremental_alter_configs_request_resources_configs kv[2] = {{STR_LIT("retention.ms"), SET, STR_LIT("1")},
        {STR_LIT("retention.ms"), SET, STR_LIT("2")}};
    struct k_incremental_alter_configs_request_resources r[2] = {{2, STR_LIT("i"), kv, 2}, {2, STR_LIT("j"), kv, 1}};
    k_incremental_alter_configs_request_init(&q);
    q.resources = r;
    q.resources_n = 1;
    CALL(&c, KEY_INCREMENTAL_ALTER, 1, incremental_alter_configs, q, a);
    ck_assert_int_eq(a.responses[0].error_code, KERR_INVALID_REQUEST); /* a key twice */
    r[0].configs_n = 1;
    r[1].resource_name = STR_LIT("i");
    q.resources_n = 2;
    CALL(&c, KEY_INCREMENTAL_ALTER, 1, incremental_alter_configs, q, a);
    ck_assert_int_eq(a.responses[0].error_code, KERR_INVALID_REQUEST); /* a resource twice */
    ck_assert_int_eq(a.responses[1].error_code, KERR_INVALID_REQUEST);
}
END_TEST

START_TEST(alter_configs_replaces_all) {
    ck_assert_int_eq(create_topic_with(&c, "r", 1, "retention.ms", "5000"), 0);
    for (int16_t v = 0; v <= 2; v++) {
        struct k_alter_configs_request q;
        struct k_alter_configs_response a;
        struct k_alter_configs_request_resources_configs kv = {STR_LIT("max.message.bytes"),
                                                               v == 0 ? STR_LIT("2000") : STR_LIT("3000")};
        struct k_alter_configs_request_resources r = {2, STR_LIT("r"), &kv, 1};
        k_alter_configs_request_init(&q);
        q.resources = &r;
        q.resources_n = 1;
        CALL(&c, KEY_ALTER_CONFIGS, v, alter_configs, q, a);
        ck_assert_int_eq(a.responses[0].error_code, 0);
        ck_assert_str_eq(value_of("r", "max.message.bytes"), v == 0 ? "2000" : "3000");
        ck_assert_str_eq(value_of("r", "retention.ms"), "604800000");
        kv.value = STR_LIT("x");
        CALL(&c, KEY_ALTER_CONFIGS, v, alter_configs, q, a);
        ck_assert_int_eq(a.responses[0].error_code, KERR_INVALID_CONFIG);
    }
    /* In force at once. */
    struct bytes b = make_batch(CODEC_NONE, 1, 3500, now_ms());
    ck_assert_int_eq(produce(&c, "r", 0, b).error, KERR_MESSAGE_TOO_LARGE);
    ck_assert_int_eq(alter(1, 2, "r", "max.message.bytes", DELETE, NULL, false), 0);
    ck_assert_int_eq(produce(&c, "r", 0, b).error, 0);
    free((void *)b.p);
}
END_TEST

/* ---- producer ids -------------------- */

static struct k_init_producer_id_response init_producer(int16_t version, struct str transactional_id,
                                                        int32_t timeout_ms, int64_t id, int16_t epoch) {
    struct k_init_producer_id_request q;
    struct k_init_producer_id_response a;
    k_init_producer_id_request_init(&q);
    q.transactional_id = transactional_id;
    q.transaction_timeout_ms = timeout_ms;
    if (version >= 3) {
        q.producer_id = id;
        q.producer_epoch = epoch;
    }
    CALL(&c, KEY_INIT_PRODUCER_ID, version, init_producer_id, q, a);
    return a;
}

START_TEST(producer_ids_are_never_given_twice) {
    enum { IDS = 2500 }; /* more than two blocks */
    static bool seen[100000];
    for (int i = 0; i < IDS; i++) {
        struct k_init_producer_id_response a = init_producer((int16_t)(i % 6), STR_NULL, 0, -1, -1);
        ck_assert_int_eq(a.error_code, 0);
        ck_assert_int_eq(a.producer_epoch, 0);
        ck_assert_int_ge(a.producer_id, 0);
        ck_assert(!seen[a.producer_id]);
        seen[a.producer_id] = true;
        if (i % 1000 == 700) restart();
    }
}
END_TEST

START_TEST(wrong_init_producer_id) {
    ck_assert_int_eq(init_producer(4, STR_LIT(""), 1000, -1, -1).error_code, KERR_INVALID_REQUEST);
    ck_assert_int_eq(init_producer(4, STR_LIT("tx"), 0, -1, -1).error_code, KERR_INVALID_TRANSACTION_TIMEOUT);
    ck_assert_int_eq(init_producer(4, STR_LIT("tx"), 900001, -1, -1).error_code, KERR_INVALID_TRANSACTION_TIMEOUT);
    ck_assert_int_eq(init_producer(4, STR_LIT("tx"), 1000, -1, -1).error_code, KERR_COORDINATOR_NOT_AVAILABLE);
    ck_assert_int_eq(init_producer(4, STR_NULL, 0, 5, -1).error_code, KERR_INVALID_REQUEST);
    ck_assert_int_eq(init_producer(4, STR_NULL, 0, -1, 5).error_code, KERR_INVALID_REQUEST);
    struct k_init_producer_id_response a = init_producer(4, STR_NULL, 0, 5,
                                                         5); /* "blindly accept and return a new one" */
    ck_assert_int_eq(a.error_code, 0);
    ck_assert_int_eq(a.producer_epoch, 0);
}
END_TEST

/* ---- restarts -------------------- */

START_TEST(a_restart_keeps_topics_configs_and_records) {
    struct bytes b = make_batch(CODEC_SNAPPY, 4, 100, now_ms());
    char name[32];
    for (int i = 0; i < 30; i++) {
        snprintf(name, sizeof name, "topic-%02d", i);
        ck_assert_int_eq(create_topic(&c, name, 1 + i % 3), 0);
        ck_assert_int_eq(produce(&c, name, 0, b).error, 0);
    }
    ck_assert_int_eq(alter(1, 2, "topic-07", "retention.ms", SET, "77", false), 0);
    ck_assert_int_eq(grow(3, "topic-08", 6, -1, false), 0);
    struct uuid id = topic_id(&c, "topic-09");
    struct k_delete_topics_request q;
    struct k_delete_topics_response a;
    struct str gone = STR_LIT("topic-05");
    k_delete_topics_request_init(&q);
    q.topic_names = &gone;
    q.topic_names_n = 1;
    CALL(&c, KEY_DELETE_TOPICS, 5, delete_topics, q, a);
    ck_assert_int_eq(a.responses[0].error_code, 0);
    restart();
    struct k_metadata_request mq;
    struct k_metadata_response ma;
    k_metadata_request_init(&mq);
    mq.topics = NULL;
    mq.topics_n = -1;
    CALL(&c, KEY_METADATA, 9, metadata, mq, ma);
    ck_assert_int_eq(ma.topics_n, 29);
    ck_assert_int_eq(ma.topics[1].partitions[0].leader_epoch, 1);
    ck_assert_str_eq(value_of("topic-07", "retention.ms"), "77");
    ck_assert_int_eq(metadata(9, "topic-08", false).topics[0].partitions_n, 6);
    struct uuid same = topic_id(&c, "topic-09");
    ck_assert(uuid_eq(&id, &same));
    ck_assert_int_eq(metadata(9, "topic-05", false).topics[0].error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    struct fetched got = fetch(&c, "topic-29", 0, 0);
    ck_assert_int_eq(got.high_watermark, 4);
    ck_assert_int_eq(got.records.len, b.len);
    ck_assert_int_eq(produce(&c, "topic-29", 0, b).offset, 4);
    ck_assert_int_eq(metadata(9, "topic-29", false).topics[0].partitions[0].leader_epoch, 2); /* with the first write */
    ck_assert_int_eq(create_topic(&c, "topic-05", 1), 0);
    free((void *)b.p);
}
END_TEST

START_TEST(the_cluster_id_stays) {
    char before[23], after[23];
    struct k_metadata_response a = metadata(9, NULL, false);
    memcpy(before, a.cluster_id.p, 22);
    restart();
    a = metadata(9, NULL, false);
    memcpy(after, a.cluster_id.p, 22);
    ck_assert_mem_eq(before, after, 22);
}
END_TEST

static int16_t delete_topic(const char *name) {
    struct k_delete_topics_request q;
    struct k_delete_topics_response a;
    struct str names[1] = {str_from(name)};
    k_delete_topics_request_init(&q);
    q.topic_names = names;
    q.topic_names_n = 1;
    CALL(&c, KEY_DELETE_TOPICS, 5, delete_topics, q, a);
    return a.responses[0].error_code;
}

static uint32_t logs_here(void) {
    uint32_t n = 0;
    for (int i = 0; i < FIXTURE_REACTORS; i++) n += partition_map_count(f.b.reactors[i].partitions);
    return n;
}

/* Its logs are made some at a time, each of them before it is deleted. */
START_TEST(a_large_topic_is_deleted_while_it_is_made) {
    struct client other;
    struct k_delete_topics_request q;
    struct k_delete_topics_response a;
    struct k_create_topics_request create;
    struct k_create_topics_response created;
    struct k_create_topics_request_topics t;
    struct wire_reader r;
    struct str names[1] = {STR_LIT("large")};
    uint32_t before = logs_here();
    client_open(&other, &f);
    k_create_topics_request_init(&create);
    k_create_topics_request_topics_init(&t);
    t.name = names[0];
    t.num_partitions = 900;
    t.replication_factor = 1;
    create.topics = &t;
    create.topics_n = 1;
    create.timeout_ms = 30000;
    k_create_topics_request_encode(&create, client_begin(&c, KEY_CREATE_TOPICS, 7), 7);
    client_send(&c);
    k_delete_topics_request_init(&q);
    q.topic_names = names;
    q.topic_names_n = 1;
    do {
        CALL(&other, KEY_DELETE_TOPICS, 5, delete_topics, q, a);
    } while (a.responses[0].error_code == KERR_UNKNOWN_TOPIC_OR_PARTITION);
    ck_assert_int_eq(a.responses[0].error_code, 0);
    ck_assert(client_receive(&c, &r));
    ck_assert_int_eq(k_create_topics_response_decode(&created, &r, 7), OK);
    ck_assert_int_eq(created.topics[0].error_code, 0);
    for (int i = 0; i < 3000 && logs_here() > before; i++) fixture_turn(&f);
    ck_assert_uint_eq(logs_here(), before);
    client_close(&other);
}
END_TEST

/* But changes of metadata that may free something go on, after a restart, too. */
START_TEST(a_full_disk_refuses_changes_but_serves_reads) {
    struct bytes b = make_batch(CODEC_NONE, 3, 10, now_ms());
    ck_assert_int_eq(create_topic(&c, "before", 1), 0);
    ck_assert_int_eq(create_topic(&c, "large", 2), 0);
    ck_assert_int_eq(produce(&c, "before", 0, b).error, 0);
    f.settings = "disk.reserve.bytes=4611686018427387904\n";
    restart();
    ck_assert_int_eq(create_topic(&c, "t", 1), KERR_KAFKA_STORAGE_ERROR);
    ck_assert_int_eq(metadata(9, "t", false).topics[0].error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    ck_assert_int_eq(init_producer(4, STR_NULL, 0, -1, -1).error_code, KERR_COORDINATOR_LOAD_IN_PROGRESS);
    ck_assert_int_eq(produce(&c, "before", 0, b).error, KERR_KAFKA_STORAGE_ERROR);
    ck_assert_int_eq(fetch(&c, "before", 0, 0).records.len, b.len);
    ck_assert_int_eq(grow(3, "large", 3, -1, false), KERR_KAFKA_STORAGE_ERROR);
    ck_assert_int_eq(alter(1, 2, "large", "retention.ms", SET, "1000", false), 0);   /* what frees space goes on */
    ck_assert_int_eq(delete_topic("large"), 0);
    ck_assert_int_eq(metadata(9, "large", false).topics[0].error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    f.settings = NULL;
    restart();
    ck_assert_int_eq(create_topic(&c, "t", 1), 0);
    ck_assert_int_eq(produce(&c, "before", 0, b).offset, 3);
    free((void *)b.p);
}
END_TEST

static void set_up_no_delete(void) { set_up_with("delete.topic.enable=false\n"); }

int main(void) {
    Suite *s = suite_create("api_admin");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, api_versions_tells_what_is_served);
    tcase_add_test(t, an_unknown_version_of_api_versions_is_answered_at_version_0);
    tcase_add_test(t, client_software_names_have_a_grammar);
    tcase_add_test(t, versions_that_are_not_served_close_the_connection);
    tcase_add_test(t, describe_cluster);
    tcase_add_test(t, transactions_have_no_coordinator_yet);
    tcase_add_test(t, every_version_of_metadata);
    tcase_add_test(t, unknown_topics_in_metadata);
    tcase_add_test(t, topics_are_created_on_first_use);
    tcase_add_test(t, a_topic_asked_many_times_is_answered_once);
    tcase_add_test(t, create_topics_refuses_one_by_one);
    tcase_add_test(t, every_version_of_create_and_delete);
    tcase_add_test(t, assignments_by_hand);
    tcase_add_test(t, delete_by_id_and_create_again);
    tcase_add_test(t, partitions_only_grow);
    tcase_add_test(t, describe_configs_of_topics_and_the_broker);
    tcase_add_test(t, incremental_alter_configs);
    tcase_add_test(t, alter_configs_replaces_all);
    tcase_add_test(t, producer_ids_are_never_given_twice);
    tcase_add_test(t, wrong_init_producer_id);
    tcase_add_test(t, a_restart_keeps_topics_configs_and_records);
    tcase_add_test(t, the_cluster_id_stays);
    tcase_add_test(t, a_large_topic_is_deleted_while_it_is_made);
    tcase_add_test(t, a_full_disk_refuses_changes_but_serves_reads);
    suite_add_tcase(s, t);
    TCase *kept = tcase_create("deletion disabled");
    tcase_add_checked_fixture(kept, set_up_no_delete, tear_down);
    tcase_add_test(kept, topic_deletion_may_be_disabled);
    suite_add_tcase(s, kept);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? 1 : 0;
}
