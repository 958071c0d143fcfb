/* Admin calls against a broker that remembers what it was asked, at old versions and new ones. */
#include "tests/unit/tiny_broker.h"

enum { TIMEOUT_MS = 60000 };

struct admin_broker {
    struct tiny_broker tiny;
    struct k_api_versions_response_api_keys apis[8];
    int16_t first_code;           /* answered to the first request only */
    int requests;
    int16_t api_key, version;     /* of the latest request */
    char topic[64], names[256], message[64];
    int32_t count;                /* partitions asked for */
    bool validate_only;
};

static void remember(char *to, size_t len, struct str name, struct str value) {
    size_t at = strlen(to);
    snprintf(to + at, len - at, "%.*s=%.*s;", name.len, name.p, value.p ? value.len : 4, value.p ? value.p : "null");
}

static void remember_topic(struct admin_broker *b, struct str name) { snprintf(b->topic, sizeof b->topic, "%.*s", name.len, name.p); }

static int16_t next_code(struct admin_broker *b) { return b->requests++ == 0 ? b->first_code : KERR_NONE; }

static void create_topics(struct admin_broker *b, struct wire_reader *r, struct wire_writer *w, int16_t version) {
    struct k_create_topics_request m;
    struct k_create_topics_response res;
    struct k_create_topics_response_topics t;
    if (k_create_topics_request_decode(&m, r, version) || m.topics_n != 1) abort();
    remember_topic(b, m.topics[0].name);
    b->count = m.topics[0].num_partitions;
    b->validate_only = m.validate_only;
    b->names[0] = 0;
    for (int32_t i = 0; i < m.topics[0].configs_n; i++) remember(b->names, sizeof b->names, m.topics[0].configs[i].name, m.topics[0].configs[i].value);
    k_create_topics_response_init(&res);
    k_create_topics_response_topics_init(&t);
    t.name = m.topics[0].name;
    t.error_code = next_code(b);
    t.error_message = t.error_code ? str_from(b->message) : STR_NULL;
    res.topics = &t;
    res.topics_n = 1;
    k_create_topics_response_encode(&res, w, version);
}

static void delete_topics(struct admin_broker *b, struct wire_reader *r, struct wire_writer *w, int16_t version) {
    struct k_delete_topics_request m;
    struct k_delete_topics_response res;
    struct k_delete_topics_response_responses t;
    if (k_delete_topics_request_decode(&m, r, version)) abort();
    if ((version >= 6 ? m.topics_n : m.topic_names_n) != 1) abort();
    remember_topic(b, version >= 6 ? m.topics[0].name : m.topic_names[0]);
    k_delete_topics_response_init(&res);
    k_delete_topics_response_responses_init(&t);
    t.name = str_from(b->topic);
    t.error_code = next_code(b);
    res.responses = &t;
    res.responses_n = 1;
    k_delete_topics_response_encode(&res, w, version);
}

static void create_partitions(struct admin_broker *b, struct wire_reader *r, struct wire_writer *w, int16_t version) {
    struct k_create_partitions_request m;
    struct k_create_partitions_response res;
    struct k_create_partitions_response_results t;
    if (k_create_partitions_request_decode(&m, r, version) || m.topics_n != 1 || m.topics[0].assignments_n != -1) abort();
    remember_topic(b, m.topics[0].name);
    b->count = m.topics[0].count;
    k_create_partitions_response_init(&res);
    k_create_partitions_response_results_init(&t);
    t.name = m.topics[0].name;
    t.error_code = next_code(b);
    res.results = &t;
    res.results_n = 1;
    k_create_partitions_response_encode(&res, w, version);
}

static void describe_configs(struct wire_reader *r, struct wire_writer *w, int16_t version) {
    struct k_describe_configs_request m;
    struct k_describe_configs_response res;
    struct k_describe_configs_response_results t;
    struct k_describe_configs_response_results_configs c[4];
    static const struct { const char *name, *value; int8_t source; } rows[] = {
        {"retention.ms", "1000", 1}, {"cleanup.policy", "delete", 5}, {"segment.bytes", "4096", 1}, {"secret", NULL, 4}};
    if (k_describe_configs_request_decode(&m, r, version) || m.resources_n != 1 || m.resources[0].configuration_keys_n != -1) abort();
    k_describe_configs_response_init(&res);
    k_describe_configs_response_results_init(&t);
    for (int i = 0; i < 4; i++) {
        k_describe_configs_response_results_configs_init(&c[i]);
        c[i].name = str_from(rows[i].name);
        c[i].value = str_from(rows[i].value);
        c[i].config_source = rows[i].source;
        c[i].is_sensitive = rows[i].value == NULL;
    }
    t.resource_type = m.resources[0].resource_type;
    t.resource_name = m.resources[0].resource_name;
    t.configs = c;
    t.configs_n = 4;
    res.results = &t;
    res.results_n = 1;
    k_describe_configs_response_encode(&res, w, version);
}

static void alter_configs(struct admin_broker *b, struct wire_reader *r, struct wire_writer *w, int16_t version) {
    struct k_alter_configs_request m;
    struct k_alter_configs_response res;
    struct k_alter_configs_response_responses t;
    if (k_alter_configs_request_decode(&m, r, version) || m.resources_n != 1) abort();
    remember_topic(b, m.resources[0].resource_name);
    b->names[0] = 0;
    for (int32_t i = 0; i < m.resources[0].configs_n; i++) remember(b->names, sizeof b->names, m.resources[0].configs[i].name, m.resources[0].configs[i].value);
    k_alter_configs_response_init(&res);
    k_alter_configs_response_responses_init(&t);
    t.resource_type = m.resources[0].resource_type;
    t.resource_name = m.resources[0].resource_name;
    res.responses = &t;
    res.responses_n = 1;
    k_alter_configs_response_encode(&res, w, version);
}

static void incremental_alter_configs(struct admin_broker *b, struct wire_reader *r, struct wire_writer *w, int16_t version) {
    struct k_incremental_alter_configs_request m;
    struct k_incremental_alter_configs_response res;
    struct k_incremental_alter_configs_response_responses t;
    if (k_incremental_alter_configs_request_decode(&m, r, version) || m.resources_n != 1) abort();
    b->names[0] = 0;
    for (int32_t i = 0; i < m.resources[0].configs_n; i++) {
        size_t at = strlen(b->names);
        snprintf(b->names + at, sizeof b->names - at, "%d:", m.resources[0].configs[i].config_operation);
        remember(b->names, sizeof b->names, m.resources[0].configs[i].name, m.resources[0].configs[i].value);
    }
    k_incremental_alter_configs_response_init(&res);
    k_incremental_alter_configs_response_responses_init(&t);
    t.error_code = next_code(b);
    t.error_message = t.error_code ? str_from(b->message) : STR_NULL;
    t.resource_type = m.resources[0].resource_type;
    t.resource_name = m.resources[0].resource_name;
    res.responses = &t;
    res.responses_n = 1;
    k_incremental_alter_configs_response_encode(&res, w, version);
}

static void delete_records(struct admin_broker *b, struct wire_reader *r, struct wire_writer *w, int16_t version) {
    struct k_delete_records_request m;
    struct k_delete_records_response res;
    struct k_delete_records_response_topics t;
    struct k_delete_records_response_topics_partitions p;
    if (k_delete_records_request_decode(&m, r, version) || m.topics_n != 1 || m.topics[0].partitions_n != 1) abort();
    k_delete_records_response_init(&res);
    k_delete_records_response_topics_init(&t);
    k_delete_records_response_topics_partitions_init(&p);
    p.partition_index = m.topics[0].partitions[0].partition_index;
    p.low_watermark = m.topics[0].partitions[0].offset;
    p.error_code = next_code(b);
    t.name = m.topics[0].name;
    t.partitions = &p;
    t.partitions_n = 1;
    res.topics = &t;
    res.topics_n = 1;
    k_delete_records_response_encode(&res, w, version);
}

static enum tiny_fate handle(void *ctx, const struct kafka_request_header *h, struct wire_reader *r, struct wire_writer *w) {
    struct admin_broker *b = ctx;
    b->api_key = h->api_key;
    b->version = h->api_version;
    switch (h->api_key) {
    case API_CREATE_TOPICS: create_topics(b, r, w, h->api_version); break;
    case API_DELETE_TOPICS: delete_topics(b, r, w, h->api_version); break;
    case API_CREATE_PARTITIONS: create_partitions(b, r, w, h->api_version); break;
    case API_DESCRIBE_CONFIGS: describe_configs(r, w, h->api_version); break;
    case API_ALTER_CONFIGS: alter_configs(b, r, w, h->api_version); break;
    case API_INCREMENTAL_ALTER_CONFIGS: incremental_alter_configs(b, r, w, h->api_version); break;
    case API_DELETE_RECORDS: delete_records(b, r, w, h->api_version); break;
    default: abort();
    }
    return TINY_ANSWER;
}

/* At the newest versions, or the oldest; without IncrementalAlterConfigs when old. */
static struct admin_broker *broker_new(bool old) {
    static const int16_t keys[] = {API_CREATE_TOPICS, API_DELETE_TOPICS, API_CREATE_PARTITIONS, API_DESCRIBE_CONFIGS,
                                   API_ALTER_CONFIGS, API_DELETE_RECORDS, API_INCREMENTAL_ALTER_CONFIGS};
    struct admin_broker *b = calloc(1, sizeof *b);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const struct kafka_api *api = kafka_api_by_key(keys[i]);
        b->apis[i] = (struct k_api_versions_response_api_keys){api->key, api->min_version, old ? api->min_version : api->max_version};
    }
    b->tiny.ctx = b;
    b->tiny.handle = handle;
    b->tiny.apis = b->apis;
    b->tiny.api_count = old ? 6 : 7;
    tiny_start(&b->tiny);
    return b;
}

static struct client *client_for(struct admin_broker *b) {
    struct client_config cfg;
    char why[256];
    client_config_init(&cfg);
    cfg.bootstrap = b->tiny.bootstrap;
    cfg.backoff_ms = 1;
    struct client *c = client_create(&cfg, why, sizeof why);
    ck_assert_ptr_nonnull(c);
    return c;
}

static void done(struct client *c, struct admin_broker *b) {
    client_destroy(c);
    tiny_stop(&b->tiny);
    free(b);
}

#define EXPECT_OK(call) ck_assert_msg((call) == OK, "%s", client_error(c))

START_TEST(topics) {
    struct admin_broker *b = broker_new(_i == 0);
    struct client *c = client_for(b);
    struct admin_setting settings[] = {{"retention.ms", "5"}, {"cleanup.policy", "compact"}};
    struct admin_new_topic t = {.name = "orders", .partitions = 3, .replication_factor = 1, .settings = settings, .setting_count = 2};
    EXPECT_OK(admin_create_topic(c, &t, TIMEOUT_MS));
    ck_assert_str_eq(b->topic, "orders");
    ck_assert_int_eq(b->count, 3);
    ck_assert_str_eq(b->names, "retention.ms=5;cleanup.policy=compact;");
    ck_assert(!b->validate_only);
    EXPECT_OK(admin_create_partitions(c, "orders", 9, false, TIMEOUT_MS));
    ck_assert_int_eq(b->count, 9);
    EXPECT_OK(admin_delete_topic(c, "old-orders", TIMEOUT_MS));
    ck_assert_str_eq(b->topic, "old-orders");
    ck_assert_int_eq(b->version, kafka_api_by_key(API_DELETE_TOPICS)->max_version * _i + kafka_api_by_key(API_DELETE_TOPICS)->min_version * (1 - _i));
    int64_t low = -1;
    EXPECT_OK(admin_delete_records(c, "t", 1, 42, TIMEOUT_MS, &low));
    ck_assert_int_eq(low, 42);
    ck_assert_int_eq(admin_delete_records(c, "t", TINY_PARTITIONS, 42, TIMEOUT_MS, &low), ERR_NOT_FOUND);
    done(c, b);
}
END_TEST

START_TEST(again_when_another_is_the_controller) {
    struct admin_broker *b = broker_new(false);
    struct client *c = client_for(b);
    b->first_code = KERR_NOT_CONTROLLER;
    EXPECT_OK(admin_delete_topic(c, "x", TIMEOUT_MS));
    ck_assert_int_eq(b->requests, 2);
    done(c, b);
}
END_TEST

START_TEST(refusals_carry_the_brokers_words) {
    struct admin_broker *b = broker_new(false);
    struct client *c = client_for(b);
    struct admin_new_topic t = {.name = "orders", .partitions = -1, .replication_factor = -1};
    b->first_code = KERR_TOPIC_ALREADY_EXISTS;
    snprintf(b->message, sizeof b->message, "there is one");
    ck_assert_int_eq(admin_create_topic(c, &t, TIMEOUT_MS), ERR_EXISTS);
    ck_assert_int_eq(client_error_code(c), KERR_TOPIC_ALREADY_EXISTS);
    ck_assert_str_eq(client_error(c), "create topic \"orders\": TOPIC_ALREADY_EXISTS: there is one");
    ck_assert_int_eq(b->requests, 1);
    done(c, b);
}
END_TEST

START_TEST(reading_and_changing_configs) {
    struct admin_broker *b = broker_new(_i == 0);
    struct client *c = client_for(b);
    struct admin_configs *configs;
    EXPECT_OK(admin_describe_configs(c, ADMIN_TOPIC, "orders", TIMEOUT_MS, &configs));
    ck_assert_int_eq(configs->count, 4);
    ck_assert_str_eq(configs->configs[0].name, "cleanup.policy");
    ck_assert_int_eq(configs->configs[0].source, ADMIN_SOURCE_DEFAULT);
    ck_assert_str_eq(configs->configs[1].value, "1000");
    ck_assert_ptr_null(configs->configs[2].value);
    ck_assert(configs->configs[2].sensitive);
    admin_configs_free(configs);
    struct admin_change changes[] = {{ADMIN_SET, "retention.ms", "7"}, {ADMIN_DELETE, "flush.ms", NULL}, {ADMIN_SET, "cleanup.policy", "compact"}};
    EXPECT_OK(admin_alter_configs(c, ADMIN_TOPIC, "orders", changes, 3, false, TIMEOUT_MS));
    if (_i == 0) { /* what was set on the topic stays */
        ck_assert_int_eq(b->api_key, API_ALTER_CONFIGS);
        ck_assert_str_eq(b->names, "segment.bytes=4096;retention.ms=7;cleanup.policy=compact;");
    } else {
        ck_assert_int_eq(b->api_key, API_INCREMENTAL_ALTER_CONFIGS);
        ck_assert_str_eq(b->names, "0:retention.ms=7;1:flush.ms=null;0:cleanup.policy=compact;");
    }
    struct admin_change append = {ADMIN_APPEND, "cleanup.policy", "compact"};
    ck_assert_int_eq(admin_alter_configs(c, ADMIN_TOPIC, "orders", &append, 1, false, TIMEOUT_MS), _i == 0 ? ERR_UNSUPPORTED : OK);
    EXPECT_OK(admin_alter_configs(c, ADMIN_BROKER, "1", changes, 1, false, TIMEOUT_MS));
    done(c, b);
}
END_TEST

START_TEST(a_wrong_value_is_not_a_missing_api) {
    struct admin_broker *b = broker_new(false);
    struct client *c = client_for(b);
    struct admin_change change = {ADMIN_SET, "retention.ms", "x"};
    b->first_code = KERR_INVALID_CONFIG;
    ck_assert_int_eq(admin_alter_configs(c, ADMIN_TOPIC, "orders", &change, 1, false, TIMEOUT_MS), ERR_INVALID);
    ck_assert_int_eq(b->api_key, API_INCREMENTAL_ALTER_CONFIGS);
    ck_assert_int_eq(client_error_code(c), KERR_INVALID_CONFIG);
    done(c, b);
}
END_TEST

START_TEST(a_missing_api_is_said) {
    struct admin_broker *b = broker_new(false);
    struct client *c = client_for(b);
    b->tiny.api_count = 0;
    ck_assert_int_eq(admin_delete_topic(c, "x", TIMEOUT_MS), ERR_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(client_error(c), "DeleteTopics"));
    done(c, b);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("admin");
    tcase_set_timeout(tc, 300);
    tcase_add_loop_test(tc, topics, 0, 2);
    tcase_add_test(tc, again_when_another_is_the_controller);
    tcase_add_test(tc, refusals_carry_the_brokers_words);
    tcase_add_loop_test(tc, reading_and_changing_configs, 0, 2);
    tcase_add_test(tc, a_wrong_value_is_not_a_missing_api);
    tcase_add_test(tc, a_missing_api_is_said);
    Suite *suite = suite_create("client_admin");
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed;
}
