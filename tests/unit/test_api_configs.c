/* Configs that change while the broker runs, on a whole broker with two reactors: layers, effect, restarts, refusals. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/trace.h"
#include "proto/kafka_errors.h"
#include "tests/unit/broker_fixture.h"

static struct fixture f;
static struct client c;

static void set_up(void) {
    fixture_start(&f, "log.retention.ms=86400000\n");
    client_open(&c, &f);
}
static void tear_down(void) {
    client_close(&c);
    fixture_stop(&f);
}
static void restart(void) {
    client_close(&c);
    fixture_restart(&f);
    client_open(&c, &f);
}

enum { TOPIC = 2, BROKER = 4, LOGGER = 8, METRICS = 16, GROUP = 32 };
enum { SET, DELETE, APPEND, SUBTRACT };
enum { FROM_TOPIC = 1, FROM_BROKER = 2, FROM_ALL = 3, FROM_FILE = 4, FROM_DEFAULT = 5, FROM_LOGGER = 6 };
#define SELF "7"

static struct k_describe_configs_response describe(int16_t version, int8_t type, const char *name, const char *key) {
    struct k_describe_configs_request q;
    struct k_describe_configs_response a;
    struct str k = str_from(key);
    struct k_describe_configs_request_resources r = {type, str_from(name), key ? &k : NULL, key ? 1 : -1};
    k_describe_configs_request_init(&q);
    q.resources = &r;
    q.resources_n = 1;
    q.include_synonyms = true;
    if (version >= 3) q.include_documentation = true;
    CALL(&c, KEY_DESCRIBE_CONFIGS, version, describe_configs, q, a);
    ck_assert_int_eq(a.results_n, 1);
    return a;
}

/* The value, its source, and the sources of its synonyms, as "5000 4: 2 4 5". */
static const char *told(int8_t type, const char *name, const char *key) {
    static char text[256];
    struct k_describe_configs_response a = describe(4, type, name, key);
    ck_assert_int_eq(a.results[0].error_code, 0);
    if (a.results[0].configs_n == 0) return "";
    const struct k_describe_configs_response_results_configs *e = &a.results[0].configs[0];
    int n = snprintf(text, sizeof text, "%.*s %d:", e->value.len, e->value.p, e->config_source);
    for (int32_t i = 0; i < e->synonyms_n; i++) n += snprintf(text + n, sizeof text - (size_t)n, " %d", e->synonyms[i].source);
    return text;
}

static int16_t alter_with(int16_t version, int8_t type, const char *name, const char *key, int8_t operation, const char *value,
                          bool validate_only) {
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
static int16_t alter(int8_t type, const char *name, const char *key, int8_t operation, const char *value) {
    return alter_with(1, type, name, key, operation, value, false);
}

static int16_t produce_bytes(const char *topic, int32_t partition, int32_t bytes) {
    struct bytes b = make_batch(CODEC_NONE, 1, bytes, now_ms());
    int16_t error = produce(&c, topic, partition, b).error;
    free((void *)b.p);
    return error;
}

/* ---- layers ------------------------------------------------------------------------------------------- */

START_TEST(layers_lie_over_each_other) {
    ck_assert_int_eq(create_topic(&c, "t", 1), 0);
    ck_assert_str_eq(told(BROKER, SELF, "log.retention.ms"), "86400000 4: 4 5");
    ck_assert_str_eq(told(TOPIC, "t", "retention.ms"), "86400000 4: 4 5");
    ck_assert_int_eq(alter(BROKER, "", "log.retention.ms", SET, "3000"), 0);
    ck_assert_str_eq(told(BROKER, SELF, "log.retention.ms"), "3000 3: 3 4 5");
    ck_assert_str_eq(told(BROKER, "", "log.retention.ms"), "3000 3: 3");
    ck_assert_str_eq(told(TOPIC, "t", "retention.ms"), "3000 3: 3 4 5");
    ck_assert_int_eq(alter(BROKER, SELF, "log.retention.ms", SET, "2000"), 0);
    ck_assert_str_eq(told(BROKER, SELF, "log.retention.ms"), "2000 2: 2 3 4 5");
    ck_assert_str_eq(told(BROKER, "", "log.retention.ms"), "3000 3: 3");
    ck_assert_str_eq(told(TOPIC, "t", "retention.ms"), "2000 2: 2 3 4 5");
    ck_assert_int_eq(alter(TOPIC, "t", "retention.ms", SET, "1000"), 0);
    ck_assert_str_eq(told(TOPIC, "t", "retention.ms"), "1000 1: 1 2 3 4 5");
    ck_assert_int_eq(alter(BROKER, SELF, "compression.type", SET, "zstd"), 0);
    ck_assert_str_eq(told(BROKER, SELF, "compression.type"), "zstd 2: 2 5");
    restart();
    ck_assert_str_eq(told(TOPIC, "t", "retention.ms"), "1000 1: 1 2 3 4 5");
    ck_assert_str_eq(told(BROKER, SELF, "compression.type"), "zstd 2: 2 5");
    ck_assert_int_eq(alter(BROKER, "", "log.retention.ms", DELETE, NULL), 0);
    ck_assert_str_eq(told(TOPIC, "t", "retention.ms"), "1000 1: 1 2 4 5");
    ck_assert_str_eq(told(BROKER, "", "log.retention.ms"), "");
    ck_assert_int_eq(alter(BROKER, SELF, "log.retention.ms", DELETE, NULL), 0);
    ck_assert_int_eq(alter(BROKER, SELF, "log.retention.ms", DELETE, NULL), 0); /* it is not there: fine */
    ck_assert_str_eq(told(BROKER, SELF, "log.retention.ms"), "86400000 4: 4 5");
    for (int16_t v = 1; v <= 4; v++) {
        struct k_describe_configs_response a = describe(v, BROKER, SELF, NULL);
        int dynamic = 0;
        for (int32_t i = 0; i < a.results[0].configs_n; i++) dynamic += !a.results[0].configs[i].read_only;
        ck_assert_int_gt(dynamic, 25);
        ck_assert_int_lt(dynamic, a.results[0].configs_n);
    }
}
END_TEST

/* ---- effect --------------------------------------------------------------------------------------------- */

START_TEST(topics_follow_at_once_on_every_reactor) {
    enum { PARTITIONS = 8 };
    ck_assert_int_eq(create_topic(&c, "follows", PARTITIONS), 0);
    ck_assert_int_eq(create_topic_with(&c, "own", 1, "max.message.bytes", "5000"), 0);
    ck_assert_int_eq(alter(BROKER, "", "message.max.bytes", SET, "2000"), 0);
    for (int32_t i = 0; i < PARTITIONS; i++) ck_assert_int_eq(produce_bytes("follows", i, 3000), KERR_MESSAGE_TOO_LARGE);
    ck_assert_int_eq(produce_bytes("own", 0, 3000), 0);
    ck_assert_int_eq(create_topic(&c, "later", 1), 0);
    ck_assert_int_eq(produce_bytes("later", 0, 3000), KERR_MESSAGE_TOO_LARGE);
    ck_assert_int_eq(alter(BROKER, SELF, "message.max.bytes", SET, "4000"), 0);
    for (int32_t i = 0; i < PARTITIONS; i++) ck_assert_int_eq(produce_bytes("follows", i, 3000), 0);
    restart();
    ck_assert_int_eq(produce_bytes("follows", 1, 5000), KERR_MESSAGE_TOO_LARGE);
    ck_assert_int_eq(alter(TOPIC, "own", "max.message.bytes", DELETE, NULL), 0);
    ck_assert_int_eq(produce_bytes("own", 0, 4500), KERR_MESSAGE_TOO_LARGE);
    ck_assert_int_eq(alter(BROKER, SELF, "message.max.bytes", DELETE, NULL), 0);
    ck_assert_int_eq(alter(BROKER, "", "message.max.bytes", DELETE, NULL), 0);
    for (int32_t i = 0; i < PARTITIONS; i++) ck_assert_int_eq(produce_bytes("follows", i, 5000), 0);
}
END_TEST

START_TEST(connections_are_limited_from_now_on) {
    struct client more;
    ck_assert_int_eq(alter(BROKER, SELF, "max.connections.per.ip", SET, "1"), 0);
    client_open(&more, &f);
    ck_assert(client_is_closed(&more));
    client_close(&more);
    for (const char *const *zero = (const char *const[]){"0", "00", "+0", "-0", NULL}; *zero; zero++)          /* nobody could take it back */
        ck_assert_int_eq(alter(BROKER, SELF, "max.connections.per.ip", SET, *zero), KERR_INVALID_REQUEST);
    ck_assert_int_eq(alter(BROKER, SELF, "max.connections.per.ip.overrides", SET, "somebody:2"), KERR_INVALID_REQUEST);
    ck_assert_int_eq(alter(BROKER, SELF, "max.connections.per.ip.overrides", SET, "127.0.0.1:2"), 0);
    client_open(&more, &f);
    ck_assert(client_waits(&more));
    client_close(&more);
    ck_assert_int_eq(alter(BROKER, SELF, "max.connections.per.ip", DELETE, NULL), 0);
    ck_assert_int_eq(alter(BROKER, SELF, "max.connections.per.ip.overrides", DELETE, NULL), 0);
    client_open(&more, &f);
    ck_assert(client_waits(&more));
    client_close(&more);
}
END_TEST

START_TEST(the_level_of_the_diagnostics_changes) {
    enum trace_level before = trace_level();
    ck_assert_int_eq(alter(BROKER, "", "log.level", SET, "error"), 0);
    ck_assert_int_eq(trace_level(), TRACE_ERROR);
    ck_assert_int_eq(alter(BROKER, SELF, "log.level", SET, "shout"), KERR_INVALID_REQUEST);
    trace_set_level(before);
    restart();
    ck_assert_int_eq(trace_level(), TRACE_ERROR);
    /* The logger is another way to it, until the next start. */
    ck_assert_str_eq(told(LOGGER, SELF, "root"), "ERROR 6:");
    ck_assert_int_eq(alter_with(1, LOGGER, SELF, "root", SET, "WARN", true), 0);
    ck_assert_int_eq(trace_level(), TRACE_ERROR);
    ck_assert_int_eq(alter_with(0, LOGGER, SELF, "root", SET, "WARN", false), 0);
    ck_assert_str_eq(told(LOGGER, SELF, "root"), "WARN 6:");
    ck_assert_int_eq(alter(BROKER, SELF, "message.max.bytes", SET, "5000"), 0); /* nothing to do with it */
    ck_assert_int_eq(trace_level(), TRACE_WARN);
    ck_assert_str_eq(told(LOGGER, SELF, "org.example"), "");
    ck_assert_int_eq(alter(LOGGER, SELF, "root", SET, "LOUD"), KERR_INVALID_CONFIG);
    ck_assert_int_eq(alter(LOGGER, SELF, "root", SET, NULL), KERR_INVALID_CONFIG);
    ck_assert_int_eq(alter(LOGGER, SELF, "root", DELETE, NULL), KERR_INVALID_REQUEST);
    ck_assert_int_eq(alter(LOGGER, SELF, "org.example", SET, "INFO"), KERR_INVALID_CONFIG);
    ck_assert_int_eq(alter(LOGGER, "8", "root", SET, "INFO"), KERR_INVALID_REQUEST);
    ck_assert_int_eq(alter(LOGGER, "", "root", SET, "INFO"), KERR_INVALID_REQUEST);
    ck_assert_int_eq(describe(4, LOGGER, "8", NULL).results[0].error_code, KERR_INVALID_REQUEST);
    ck_assert_int_eq(describe(4, LOGGER, "", NULL).results[0].error_code, KERR_INVALID_REQUEST);
    ck_assert_int_eq(trace_level(), TRACE_WARN);
    ck_assert_int_eq(alter(BROKER, "", "log.level", DELETE, NULL), 0);
    trace_set_level(before);
}
END_TEST

/* ---- lists, rules over several configs, replacing ----------------------------------------------------------- */

START_TEST(lists_are_edited) {
    ck_assert_int_eq(create_topic(&c, "t", 1), 0);
    ck_assert_int_eq(alter(BROKER, "", "log.cleanup.policy", APPEND, "compact"), 0);
    ck_assert_str_eq(told(BROKER, SELF, "log.cleanup.policy"), "delete,compact 3: 3 5");
    ck_assert_int_eq(alter(BROKER, SELF, "log.cleanup.policy", SUBTRACT, "delete"), 0);
    ck_assert_str_eq(told(TOPIC, "t", "cleanup.policy"), "compact 2: 2 3 5");
    ck_assert_int_eq(alter(BROKER, SELF, "log.cleanup.policy", SUBTRACT, "compact"), KERR_INVALID_REQUEST); /* nothing left */
    ck_assert_int_eq(alter(BROKER, SELF, "log.cleanup.policy", APPEND, "shred"), KERR_INVALID_REQUEST);
    ck_assert_int_eq(alter(BROKER, SELF, "message.max.bytes", APPEND, "1"), KERR_INVALID_CONFIG);
    ck_assert_str_eq(told(TOPIC, "t", "cleanup.policy"), "compact 2: 2 3 5");
}
END_TEST

START_TEST(what_topics_inherit_must_fit_together) {
    ck_assert_int_eq(alter(BROKER, SELF, "log.cleaner.max.compaction.lag.ms", SET, "1000"), 0);
    ck_assert_int_eq(alter(BROKER, SELF, "log.cleaner.min.compaction.lag.ms", SET, "2000"), KERR_INVALID_REQUEST);
    ck_assert_int_eq(create_topic_with(&c, "t", 1, "min.compaction.lag.ms", "2000"), KERR_INVALID_CONFIG);
    ck_assert_int_eq(alter(BROKER, SELF, "log.cleaner.max.compaction.lag.ms", DELETE, NULL), 0);
    ck_assert_int_eq(create_topic_with(&c, "t", 1, "min.compaction.lag.ms", "2000"), 0);
}
END_TEST

START_TEST(alter_configs_replaces_what_the_broker_has) {
    ck_assert_int_eq(alter(BROKER, SELF, "log.roll.ms", SET, "5000"), 0);
    for (int16_t v = 0; v <= 2; v++) {
        struct k_alter_configs_request q;
        struct k_alter_configs_response a;
        struct k_alter_configs_request_resources_configs kv = {STR_LIT("log.segment.bytes"), STR_LIT("2000000")};
        struct k_alter_configs_request_resources r[2] = {{BROKER, STR_LIT(SELF), &kv, 1}, {TOPIC, STR_LIT(SELF), NULL, 0}};
        k_alter_configs_request_init(&q);
        q.resources = r;
        q.resources_n = 2;
        CALL(&c, KEY_ALTER_CONFIGS, v, alter_configs, q, a);
        ck_assert_int_eq(a.responses[0].error_code, 0);
        ck_assert_int_eq(a.responses[1].error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION); /* not the same resource */
        ck_assert_str_eq(told(BROKER, SELF, "log.roll.ms"), " 5: 5");
        ck_assert_str_eq(told(BROKER, SELF, "log.segment.bytes"), "2000000 2: 2 5");
        r[1] = r[0];
        CALL(&c, KEY_ALTER_CONFIGS, v, alter_configs, q, a);
        ck_assert_int_eq(a.responses[0].error_code, KERR_INVALID_REQUEST); /* twice */
        q.resources_n = 1;
        kv.name = STR_LIT("node.id");
        CALL(&c, KEY_ALTER_CONFIGS, v, alter_configs, q, a);
        ck_assert_int_eq(a.responses[0].error_code, KERR_INVALID_REQUEST);
        r[0] = (struct k_alter_configs_request_resources){LOGGER, STR_LIT(SELF), NULL, 0};
        CALL(&c, KEY_ALTER_CONFIGS, v, alter_configs, q, a);
        ck_assert_int_eq(a.responses[0].error_code, KERR_INVALID_REQUEST);
    }
}
END_TEST

/* ---- refusals ------------------------------------------------------------------------------------------------- */

START_TEST(the_rest_is_refused) {
    static const struct { const char *broker, *key; int8_t operation; const char *value; } wrong[] = {
        {SELF, "num.partitions", SET, "3"}, {"", "num.partitions", SET, "3"}, {SELF, "num.partitions", DELETE, NULL}, /* read at start */
        {SELF, "log.retention.hours", SET, "3"}, {SELF, "log.dirs", SET, "/tmp"}, {SELF, "listeners", SET, "PLAINTEXT://:1"},
        {SELF, "num.io.threads", SET, "3"},      /* means nothing here */
        {SELF, "no.such.config", SET, "3"}, {SELF, "", SET, "3"},
        {SELF, "message.max.bytes", SET, "x"}, {SELF, "message.max.bytes", SET, "-5"}, {SELF, "message.max.bytes", SET, ""},
        {SELF, "message.max.bytes", SET, NULL}, {SELF, "message.max.bytes", 7, "1"}, {SELF, "compression.type", SET, "rar"},
        {SELF, "compression.gzip.level", SET, "0"}, {SELF, "log.cleanup.policy", SET, ""},
        {"8", "message.max.bytes", SET, "5000"}, {"x", "message.max.bytes", SET, "5000"}, {"07", "message.max.bytes", SET, "5000"},
    };
    for (int16_t v = 0; v <= 1; v++)
        for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
            ck_assert_msg(alter_with(v, BROKER, wrong[i].broker, wrong[i].key, wrong[i].operation, wrong[i].value, false) ==
                              KERR_INVALID_REQUEST, "%s=%s", wrong[i].key, wrong[i].value ? wrong[i].value : "null");
    ck_assert_int_eq(alter_with(1, BROKER, SELF, "message.max.bytes", SET, "5000", true), 0);
    ck_assert_str_eq(told(BROKER, SELF, "message.max.bytes"), "1048588 5: 5");
    ck_assert_str_eq(told(METRICS, "m", NULL), "");
    ck_assert_int_eq(describe(4, METRICS, "", NULL).results[0].error_code, KERR_INVALID_REQUEST);
    ck_assert_int_eq(alter(METRICS, "m", "interval.ms", SET, "1000"), KERR_INVALID_REQUEST);
    ck_assert_int_eq(describe(4, BROKER, "8", NULL).results[0].error_code, KERR_INVALID_REQUEST);
    /* Kafka's tools take away what they may have set; throttles have no effect here but can be. */
    ck_assert_int_eq(alter(BROKER, SELF, "leader.replication.throttled.rate", DELETE, NULL), 0);
    ck_assert_int_eq(alter(BROKER, SELF, "follower.replication.throttled.rate", SET, "1000"), 0);
    ck_assert_int_eq(alter(BROKER, SELF, "replica.alter.log.dirs.io.max.bytes.per.second", DELETE, NULL), 0);
}
END_TEST

int main(void) {
    Suite *s = suite_create("api_configs");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, layers_lie_over_each_other);
    tcase_add_test(t, topics_follow_at_once_on_every_reactor);
    tcase_add_test(t, connections_are_limited_from_now_on);
    tcase_add_test(t, the_level_of_the_diagnostics_changes);
    tcase_add_test(t, lists_are_edited);
    tcase_add_test(t, what_topics_inherit_must_fit_together);
    tcase_add_test(t, alter_configs_replaces_what_the_broker_has);
    tcase_add_test(t, the_rest_is_refused);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
