/* Configuration: syntax, sources, errors that help, the two tables, and docs/configuration.md in step. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include "server/address.h"
#include "server/memory.h"
#include "server/options.h"
#include "server/topic_config.h"

static char why[1024];

/* Properties and flags ("a=b") to a configuration. */
static enum err build(struct config *c, const char *properties, char *const *env, const char *const *flags) {
    struct config_builder *b = config_builder_new();
    enum err err = OK;
    why[0] = 0;
    if (properties) err = config_add_properties(b, "test.properties", properties, strlen(properties), why, sizeof why);
    if (err == OK && env) err = config_add_environment(b, env, why, sizeof why);
    for (; err == OK && flags && *flags; flags++) {
        const char *eq = strchr(*flags, '=');
        err = config_add(b, "--set", (struct str){*flags, (int32_t)(eq - *flags)}, str_from(eq + 1), why, sizeof why);
    }
    if (err == OK) err = config_finish(b, c, why, sizeof why);
    config_builder_free(b);
    return err;
}

static void refused(const char *properties, const char *message) {
    struct config c;
    ck_assert_int_eq(build(&c, properties, NULL, NULL), ERR_INVALID);
    ck_assert_msg(strstr(why, message) != NULL, "\"%s\" is not in \"%s\"", message, why);
}

START_TEST(tables_are_sorted_and_their_defaults_valid) {
    size_t count, topics;
    const struct config_key *keys = config_keys(&count);
    for (size_t i = 0; i < count; i++) {
        if (i) ck_assert_msg(strcmp(keys[i - 1].name, keys[i].name) < 0, "%s is out of order", keys[i].name);
        ck_assert_ptr_eq(config_find(str_from(keys[i].name)), &keys[i]);
        ck_assert_msg(!config_is_ignored(str_from(keys[i].name)), "%s is also in the list of ignored keys", keys[i].name);
        ck_assert(keys[i].doc && keys[i].doc[0]);
        if (keys[i].topic) ck_assert_ptr_nonnull(topic_config_find(str_from(keys[i].topic)));
        if (!keys[i].initial) continue;
        enum err err = config_check_value(keys[i].type, keys[i].min, keys[i].max, keys[i].choices, str_from(keys[i].initial), why, sizeof why);
        ck_assert_msg(err == OK, "%s: default %s %s", keys[i].name, keys[i].initial, why);
    }
    const struct topic_config_key *t = topic_config_keys(&topics);
    ck_assert_uint_eq(topics, 33); /* every topic config of Kafka 4.3 */
    for (size_t i = 0; i < topics; i++) {
        if (i) ck_assert_int_lt(strcmp(t[i - 1].name, t[i].name), 0);
        ck_assert_msg(topic_config_check(str_from(t[i].name), str_from(t[i].initial), why, sizeof why) == OK, "%s", why);
        for (size_t k = 0; k < 3 && t[i].brokers[k]; k++) {
            const struct config_key *key = config_find(str_from(t[i].brokers[k]));
            ck_assert_msg(key && key->topic && strcmp(key->topic, t[i].name) == 0, "%s and %s", t[i].name, t[i].brokers[k]);
        }
    }
}
END_TEST

START_TEST(defaults) {
    struct config c;
    ck_assert_int_eq(config_defaults(&c), OK);
    ck_assert_int_eq(c.node_id, 1);
    ck_assert_str_eq(c.data_dir, "./varve-data");
    ck_assert_uint_eq(c.listener_count, 1);
    ck_assert_str_eq(c.listeners[0].host, "127.0.0.1");
    ck_assert_uint_eq(c.listeners[0].port, 9092);
    ck_assert(c.auto_create_topics);
    ck_assert_int_ge(c.reactors, 1);
    ck_assert_int_eq(c.socket_request_max_bytes, 104857600);
    ck_assert_ptr_null(c.broker_rack);
    ck_assert(!c.relaxed);
    config_free(&c);
}
END_TEST

START_TEST(properties_syntax) {
    struct config c;
    ck_assert_int_eq(build(&c,
                           "# comment = 1\n! too\n\n   \t\n"
                           "node.id=7\r\n"
                           "num.partitions : 3\n"
                           "broker.rack   rack\\u00e9 one  \n"
                           "log.retention.\\\n     hours=24\n"
                           "message.max.bytes=\\\r\n  2000000\n"
                           "log.dirs=/a\\ b\\\\c\n"
                           "num.io.threads=8\n"
                           "fetch.max.bytes=1048576", NULL, NULL), OK);
    ck_assert_int_eq(c.node_id, 7);
    ck_assert_int_eq(c.num_partitions, 3);
    ck_assert_str_eq(c.broker_rack, "rack\xc3\xa9 one");
    ck_assert_str_eq(config_value(&c, "log.retention.hours")->text, "24");
    ck_assert_str_eq(config_value(&c, "message.max.bytes")->text, "2000000");
    ck_assert_str_eq(c.data_dir, "/a b\\c");
    ck_assert_int_eq(c.fetch_max_bytes, 1048576);
    config_free(&c);
}
END_TEST

START_TEST(errors_say_where) {
    refused("node.id=1\n\nnum.partition=3\n", "test.properties:3: unknown key \"num.partition\"; did you mean \"num.partitions\"?");
    refused("node.id=1\\\n2\nlog.retention.huors=1\n", "test.properties:3: unknown key \"log.retention.huors\"; did you mean \"log.retention.hours\"?");
    refused("quite.another.thing.altogether.xyzzy=1\n", "unknown key");
    refused("node.id=one\n", "test.properties:1: node.id: \"one\" is not a whole number");
    refused("node.id=-1\n", "must be at least 0");
    refused("node.id= \n", "is not a whole number");
    refused("node.id=99999999999\n", "does not fit 32 bits");
    refused("journal.depth=9\n", "must be between 1 and 8");
    refused("auto.create.topics.enable=yes\n", "must be true or false");
    refused("compression.type=lzma\n", "must be one of uncompressed|zstd");
    refused("log.cleanup.policy=compact,keep\n", "compact|delete");
    refused("log.cleaner.min.cleanable.ratio=1.5\n", "must be between 0 and 1");
    refused("log.cleaner.min.cleanable.ratio=nan\n", "is not a number");
    refused("=x\n", "no key before the separator");
    refused("broker.rack=\\u12g4\n", "malformed \\u escape");
    refused("log.dirs=/a,/b\n", "only one data directory");
    refused("socket.request.max.bytes=10\n", "must be at least 1024");
    refused("max.connections.per.ip=0\n", "test.properties:1: max.connections.per.ip: 0 needs max.connections.per.ip.overrides");
    refused("max.connections.per.ip.overrides=10.0.0.1:5,here:7\n", "is not a list of ADDRESS:COUNT");
    refused("max.connections.per.ip.overrides=10.0.0.1\n", "is not a list of ADDRESS:COUNT");
    refused("max.connections.per.ip.overrides=10.0.0.1:\n", "is not a list of ADDRESS:COUNT");
    refused("max.connections.per.ip.overrides=10.0.0.1:99999999999\n", "is not a list of ADDRESS:COUNT");
}
END_TEST

static uint32_t connections_from(const struct config *c, const char *host) {
    struct sockaddr_storage addr;
    ck_assert(address_resolve(host, 1, &addr));
    return config_connections_from(c, &addr);
}

START_TEST(connections_of_one_address) {
    struct config c;
    ck_assert_int_eq(build(&c, "max.connections.per.ip=0\nmax.connections.per.ip.overrides=10.0.0.1:5, 10.0.0.2:0 ,[2001:db8::1]:7,fe80::2:8,10.0.0.1:6\n", NULL, NULL), OK);
    ck_assert_uint_eq(connections_from(&c, "10.0.0.1"), 5);
    ck_assert_uint_eq(connections_from(&c, "::ffff:10.0.0.1"), 5);
    ck_assert_uint_eq(connections_from(&c, "10.0.0.2"), 0);
    ck_assert_uint_eq(connections_from(&c, "10.0.0.3"), 0);
    ck_assert_uint_eq(connections_from(&c, "2001:db8:0::1"), 7);
    ck_assert_uint_eq(connections_from(&c, "fe80::2"), 8);
    config_free(&c);
    ck_assert_int_eq(build(&c, "max.connections.per.ip=9\n", NULL, NULL), OK);
    ck_assert_uint_eq(connections_from(&c, "10.0.0.1"), 9);
    config_free(&c);
}
END_TEST

START_TEST(later_sources_win_and_are_remembered) {
    struct config c;
    char *env[] = {"KAFKA_NODE_ID=5", "KAFKA_NUM_PARTITIONS=6", "PATH=/bin", "KAFKA_HEAP_OPTS=-Xmx1G", "KAFKA_PORT=tcp://10.0.0.1:9092", NULL};
    const char *flags[] = {"num.partitions=9", NULL};
    ck_assert_int_eq(build(&c, "node.id=1\nnum.partitions=2\nfetch.max.bytes=4096\n", env, flags), OK);
    ck_assert_int_eq(c.node_id, 5);
    ck_assert_int_eq(c.num_partitions, 9);
    ck_assert_int_eq(config_value(&c, "node.id")->source, CONFIG_ENV);
    ck_assert_int_eq(config_value(&c, "num.partitions")->source, CONFIG_FLAG);
    ck_assert_int_eq(config_value(&c, "fetch.max.bytes")->source, CONFIG_FILE);
    ck_assert_int_eq(config_value(&c, "log.retention.hours")->source, CONFIG_DEFAULT);
    config_free(&c);
}
END_TEST

START_TEST(environment_rule) {
    struct config c;
    char *good[] = {"KAFKA_AUTO_CREATE_TOPICS_ENABLE=false", "KAFKA_LOG_DIRS=/data", "KAFKA_BROKER_ID=3", "KAFKA_PROCESS_ROLES=broker", NULL};
    ck_assert_int_eq(build(&c, NULL, good, NULL), OK);
    ck_assert(!c.auto_create_topics);
    ck_assert_str_eq(c.data_dir, "/data");
    ck_assert_int_eq(c.node_id, 3);
    config_free(&c);
    char *bad[] = {"KAFKA_NUM_PARTITION=3", NULL};
    ck_assert_int_eq(build(&c, NULL, bad, NULL), ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(why, "KAFKA_NUM_PARTITION"));
    ck_assert_ptr_nonnull(strstr(why, "num.partitions"));
    char *range[] = {"KAFKA_NUM_PARTITIONS=0", NULL};
    ck_assert_int_eq(build(&c, NULL, range, NULL), ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(why, "environment KAFKA_NUM_PARTITIONS: num.partitions"));
}
END_TEST

START_TEST(ignored_keys_are_summed_up) {
    char line[256];
    struct config c;
    struct config_builder *b = config_builder_new();
    const char *text = "num.network.threads=3\nzookeeper.connect=z:2181\nsocket.send.buffer.bytes=1\n";
    ck_assert(!config_ignored_summary(b, line, sizeof line));
    ck_assert_int_eq(config_add_properties(b, "f", text, strlen(text), why, sizeof why), OK);
    ck_assert(config_ignored_summary(b, line, sizeof line));
    ck_assert_str_eq(line, "3 settings are accepted but mean nothing here (num.network.threads, ...)");
    ck_assert_int_eq(config_finish(b, &c, why, sizeof why), OK);
    config_builder_free(b);
    config_free(&c);
}
END_TEST

START_TEST(listeners) {
    struct config c;
    refused("listeners=PLAINTEXT://0.0.0.0:9092\n", "add --set allow.insecure=true");
    refused("listeners=:9092\n", "no authentication or encryption");
    refused("listeners=PLAINTEXT://[::]:9092\n", "not a loopback address");
    refused("listeners=PLAINTEXT://127.0.0.1\n", "is not NAME://host:port");
    refused("listeners=PLAINTEXT://127.0.0.1:70000\n", "is not NAME://host:port");
    refused("listeners=PLAINTEXT://::1:9092\n", "is not NAME://host:port");
    refused("listeners=A://localhost:1,A://localhost:2\n", "A is there twice");
    refused("listeners=\n", "none is left");
    refused("advertised.listeners=OTHER://x:1\n", "there is no listener OTHER");
    refused("advertised.listeners=PLAINTEXT://0.0.0.0:1\n", "that clients can reach");
    ck_assert_int_eq(build(&c, "listeners=127.0.0.2:0, PLAINTEXT_HOST://[::1]:9093\n", NULL, NULL), OK);
    ck_assert_uint_eq(c.listener_count, 2);
    ck_assert_str_eq(c.listeners[0].name, "PLAINTEXT");
    ck_assert_uint_eq(c.listeners[0].port, 0);
    ck_assert_str_eq(c.listeners[1].host, "::1");
    config_free(&c);
}
END_TEST

START_TEST(other_brokers) {
    struct config c;
    refused("controller.quorum.voters=127.0.0.1:9093\n", "is not id@host:port");
    refused("controller.quorum.voters=@127.0.0.1:9093\n", "is not id@host:port");
    refused("controller.quorum.voters=1@127.0.0.1:0\n", "is not id@host:port");
    refused("controller.quorum.voters=1@0.0.0.0:1\n", "is not id@host:port");
    refused("controller.quorum.voters=4294967297@127.0.0.1:1\n", "is not id@host:port");
    refused("controller.quorum.voters=1@127.0.0.1:1,1@127.0.0.1:2\n", "broker 1 is there twice");
    refused("controller.quorum.voters=1@127.0.0.1:1,2@127.0.0.1:1\n", "brokers 1 and 2 have the same address");
    refused("controller.quorum.voters=1@a:1,2@a:2,3@a:3,4@a:4,5@a:5,6@a:6,7@a:7,8@a:8,9@a:9,10@a:10\n", "more than 9");
    refused("controller.quorum.bootstrap.servers=PLAINTEXT://127.0.0.1:1\n", "is not host:port");
    refused("controller.quorum.voters=1@broker1:9093\n", "allow.insecure=true");
    refused("peer.listen=:9093\n", "allow.insecure=true");
    refused("peer.listen=nowhere\n", "is not host:port");
    refused("allow.insecure=true\npeer.listen=:9093\n", "peer.advertised: needed");
    refused("peer.advertised=0.0.0.0:1\n", "that other brokers can reach");

    ck_assert_int_eq(build(&c, NULL, NULL, NULL), OK); /* a broker for itself */
    ck_assert(!c.peer_listens);
    config_free(&c);

    ck_assert_int_eq(build(&c, "node.id=2\ncontroller.quorum.voters=3@[::1]:9095, 1@127.0.0.1:9093,2@127.0.0.1:9094\n", NULL, NULL), OK);
    ck_assert_uint_eq(c.voter_count, 3);
    for (int32_t i = 0; i < 3; i++) ck_assert_int_eq(c.voters[i].node, i + 1);
    ck_assert_str_eq(c.voters[2].at.host, "::1");
    ck_assert(c.peer_listens);
    ck_assert_str_eq(c.peer_listen.host, "127.0.0.1");
    ck_assert_uint_eq(c.peer_listen.port, 9094);
    ck_assert_uint_eq(c.peer_advertised.port, 9094);
    config_free(&c);

    /* Its own entry is where others reach it, not where it listens. */
    ck_assert_int_eq(build(&c, "allow.insecure=true\ncontroller.quorum.voters=1@broker1:9093\npeer.listen=:9999\n", NULL, NULL), OK);
    ck_assert_str_eq(c.peer_listen.host, "");
    ck_assert_uint_eq(c.peer_listen.port, 9999);
    ck_assert_str_eq(c.peer_advertised.host, "broker1");
    ck_assert_uint_eq(c.peer_advertised.port, 9093);
    config_free(&c);

    ck_assert_int_eq(build(&c, "node.id=7\ncontroller.quorum.bootstrap.servers=127.0.0.1:9093,[::1]:9094\n", NULL, NULL), OK);
    ck_assert_uint_eq(c.bootstrap_count, 2);
    ck_assert_uint_eq(c.bootstrap[1].port, 9094);
    ck_assert_str_eq(c.peer_listen.host, "127.0.0.1");
    ck_assert_uint_eq(c.peer_listen.port, 9093);
    ck_assert_str_eq(c.peer_advertised.host, "");
    config_free(&c);
}
END_TEST

/* The example of the apache/kafka image with a listener for the host and one for other containers. */
START_TEST(compose_file_of_the_kafka_image) {
    struct config c;
    char *env[] = {"KAFKA_NODE_ID=1", "KAFKA_PROCESS_ROLES=broker,controller",
                   "KAFKA_LISTENERS=CONTROLLER://localhost:9091,HOST://0.0.0.0:9092,DOCKER://0.0.0.0:9093",
                   "KAFKA_ADVERTISED_LISTENERS=HOST://localhost:9092,DOCKER://kafka:9093",
                   "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP=CONTROLLER:PLAINTEXT,DOCKER:PLAINTEXT,HOST:PLAINTEXT",
                   "KAFKA_CONTROLLER_LISTENER_NAMES=CONTROLLER", "KAFKA_CONTROLLER_QUORUM_VOTERS=1@localhost:9091",
                   "KAFKA_INTER_BROKER_LISTENER_NAME=DOCKER", "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR=1",
                   "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS=0", "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR=1",
                   "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR=1", "KAFKA_ALLOW_INSECURE=true", NULL};
    enum err err = build(&c, NULL, env, NULL);
    ck_assert_msg(err == OK, "%s", why);
    ck_assert_uint_eq(c.listener_count, 2);
    ck_assert_str_eq(c.listeners[0].name, "HOST");
    ck_assert_str_eq(c.listeners[0].advertised_host, "localhost");
    ck_assert_str_eq(c.listeners[1].advertised_host, "kafka");
    ck_assert_uint_eq(c.listeners[1].advertised_port, 9093);
    ck_assert_uint_eq(c.voter_count, 1);
    ck_assert_str_eq(c.peer_listen.host, "localhost"); /* the listener CONTROLLER */
    ck_assert_uint_eq(c.peer_listen.port, 9091);
    config_free(&c);
}
END_TEST

static enum err options(struct config *c, enum options_action *action, int argc, char **argv) {
    static char *const env[] = {NULL};
    char summary[256];
    return options_read(argc, argv, env, action, c, summary, sizeof summary, why, sizeof why);
}

START_TEST(command_line) {
    struct config c;
    enum options_action action;
    char *all[] = {"varved", "--data", "/d", "--listen", "localhost:1234", "--node-id", "4", "--set", "reactors=3",
                   "--log-format=json", "--set", "broker.rack=a=b", NULL};
    enum err err = options(&c, &action, 12, all);
    ck_assert_msg(err == OK, "%s", why);
    ck_assert_int_eq(action, OPTIONS_RUN);
    ck_assert_str_eq(c.data_dir, "/d");
    ck_assert_uint_eq(c.listeners[0].port, 1234);
    ck_assert_int_eq(c.node_id, 4);
    ck_assert_int_eq(c.reactors, 3);
    ck_assert_str_eq(c.log_format, "json");
    ck_assert_str_eq(c.broker_rack, "a=b");
    config_free(&c);
    char *help[] = {"varved", "--help", NULL}, *version[] = {"varved", "--version", NULL};
    ck_assert_int_eq(options(&c, &action, 2, help), OK);
    ck_assert_int_eq(action, OPTIONS_HELP);
    ck_assert_int_eq(options(&c, &action, 2, version), OK);
    ck_assert_int_eq(action, OPTIONS_VERSION);
    char *unknown[] = {"varved", "--frob", NULL}, *missing[] = {"varved", "--data", NULL}, *pair[] = {"varved", "--set", "reactors", NULL};
    ck_assert_int_eq(options(&c, &action, 2, unknown), ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(why, "--frob"));
    ck_assert_int_eq(options(&c, &action, 2, missing), ERR_INVALID);
    ck_assert_int_eq(options(&c, &action, 3, pair), ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(why, "not KEY=VALUE"));
    char *bad[] = {"varved", "--node-id", "x", NULL}, *nofile[] = {"varved", "/nonexistent.properties", NULL};
    ck_assert_int_eq(options(&c, &action, 3, bad), ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(why, "--node-id: node.id"));
    ck_assert_int_eq(options(&c, &action, 2, nofile), ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(why, "/nonexistent.properties"));
    char *relaxed[] = {"varved", "--set", "durability=relaxed", NULL};
    ck_assert_int_eq(options(&c, &action, 3, relaxed), OK);
    ck_assert(c.relaxed);
    config_free(&c);
}
END_TEST

START_TEST(topic_configs_resolve) {
    struct config c;
    struct topic_config t;
    ck_assert_int_eq(config_defaults(&c), OK);
    topic_config_resolve(&t, &c, NULL, 0);
    ck_assert(t.log.cleanup_delete && !t.log.cleanup_compact);
    ck_assert_int_eq(t.compression, -1);
    ck_assert_int_eq(t.max_message_bytes, 1048588);
    ck_assert_int_eq(t.log.retention_ms, 604800000);
    ck_assert_int_eq(t.log.segment_ms, 604800000);
    ck_assert_uint_eq(t.log.segment_bytes, 1073741824);
    ck_assert_int_eq(t.min_insync_replicas, 1);
    ck_assert(t.timestamp_before_max_ms == INT64_MAX);
    config_free(&c);
    ck_assert_int_eq(build(&c, "log.retention.hours=2\nlog.retention.minutes=-1\nlog.roll.hours=1\nmessage.max.bytes=5000\n", NULL, NULL), OK);
    struct topic_override o[] = {
        {STR_LIT("cleanup.policy"), STR_LIT("compact,delete")},
        {STR_LIT("compression.type"), STR_LIT("zstd")},
        {STR_LIT("compression.zstd.level"), STR_LIT("-7")},
        {STR_LIT("message.timestamp.type"), STR_LIT("LogAppendTime")},
        {STR_LIT("segment.bytes"), STR_LIT("12")}, /* not allowed: the default stays */
    };
    topic_config_resolve(&t, &c, o, ARRAY_LEN(o));
    ck_assert(t.log.cleanup_delete && t.log.cleanup_compact && t.log_append_time);
    ck_assert_int_eq(t.compression, 4);
    ck_assert_int_eq(t.compression_level, -7);
    ck_assert_int_eq(t.log.retention_ms, -1);
    ck_assert_int_eq(t.log.segment_ms, 3600000);
    ck_assert_int_eq(t.max_message_bytes, 5000);
    ck_assert_uint_eq(t.log.segment_bytes, 1073741824);
    config_free(&c);
}
END_TEST

START_TEST(topic_configs_are_checked) {
    static const struct { const char *name, *value; enum err err; } cases[] = {
        {"retention.ms", "-1", OK}, {"retention.ms", "-2", ERR_INVALID}, {"retention.ms", "", ERR_INVALID},
        {"retention.ms", "1e3", ERR_INVALID}, {"local.retention.ms", "-2", OK}, {"segment.bytes", "1048575", ERR_INVALID},
        {"segment.bytes", "1048576", OK}, {"segment.bytes", "2147483648", ERR_INVALID}, {"max.message.bytes", "0", OK},
        {"cleanup.policy", "compact", OK}, {"cleanup.policy", "compact, delete", OK}, {"cleanup.policy", "", ERR_INVALID},
        {"cleanup.policy", "none", ERR_INVALID}, {"compression.type", "gzip", OK}, {"compression.type", "GZIP", ERR_INVALID},
        {"compression.gzip.level", "0", ERR_INVALID}, {"compression.gzip.level", "-1", OK}, {"compression.lz4.level", "18", ERR_INVALID},
        {"compression.zstd.level", "-131072", OK}, {"message.timestamp.type", "CreateTime", OK},
        {"message.timestamp.type", "createtime", ERR_INVALID}, {"min.insync.replicas", "0", ERR_INVALID},
        {"preallocate", "true", OK}, {"preallocate", "1", ERR_INVALID}, {"min.cleanable.dirty.ratio", "0.25", OK},
        {"min.cleanable.dirty.ratio", "2", ERR_INVALID}, {"remote.storage.enable", "true", ERR_INVALID},
        {"remote.storage.enable", "false", OK}, {"leader.replication.throttled.replicas", "*", OK},
        {"leader.replication.throttled.replicas", "0:1,1:2", OK}, {"leader.replication.throttled.replicas", "a", ERR_INVALID},
        {"message.format.version", "2.8", ERR_NOT_FOUND}, {"Retention.ms", "1", ERR_NOT_FOUND}, {"", "1", ERR_NOT_FOUND},
        {"flush.messages", "9223372036854775807", OK}, {"flush.messages", "9223372036854775808", ERR_INVALID},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        enum err err = topic_config_check(str_from(cases[i].name), str_from(cases[i].value), why, sizeof why);
        ck_assert_msg(err == cases[i].err, "%s=%s: %s", cases[i].name, cases[i].value, err_str(err));
    }
    struct config c;
    ck_assert_int_eq(config_defaults(&c), OK);
    struct topic_override lag[] = {{STR_LIT("min.compaction.lag.ms"), STR_LIT("10")}, {STR_LIT("max.compaction.lag.ms"), STR_LIT("9")}};
    ck_assert_int_eq(topic_config_check_all(&c, lag, 2, why, sizeof why), ERR_INVALID);
    ck_assert_int_eq(topic_config_check_all(&c, lag, 1, why, sizeof why), OK);
    config_free(&c);
}
END_TEST

START_TEST(synonyms) {
    struct config c;
    struct config_synonym s[TOPIC_CONFIG_SYNONYMS_MAX];
    char buf[TOPIC_CONFIG_TEXT_BYTES];
    enum config_source source;
    const struct topic_config_key *key = topic_config_find(STR_LIT("retention.ms"));
    ck_assert_int_eq(build(&c, "log.retention.minutes=30\n", NULL, NULL), OK);
    ck_assert_str_eq(topic_config_default_text(&c, key, buf, &source), "1800000");
    ck_assert_int_eq(source, CONFIG_FILE);
    ck_assert_uint_eq(topic_config_synonyms(&c, key, 0, s), 2);
    ck_assert_str_eq(s[0].name, "log.retention.minutes");
    ck_assert_str_eq(s[0].value, "30");
    ck_assert_str_eq(s[1].name, "log.retention.hours");
    ck_assert_int_eq(s[1].source, CONFIG_DEFAULT);
    key = topic_config_find(STR_LIT("flush.ms"));
    ck_assert_str_eq(topic_config_default_text(&c, key, buf, &source), "9223372036854775807");
    ck_assert_uint_eq(topic_config_synonyms(&c, key, 0, s), 0);
    config_free(&c);
}
END_TEST

/* One knob: the others are parts of it; what is set wins; what does not fit is refused with the sum. */
START_TEST(memory_is_one_budget) {
    struct config c;
    static const int64_t budgets[] = {128, 256, 512, 1024, 4096, 65536};
    for (size_t i = 0; i < ARRAY_LEN(budgets); i++) {
        char text[128];
        snprintf(text, sizeof text, "memory.max.bytes=%lld\n", (long long)budgets[i] << 20);
        ck_assert_msg(build(&c, text, NULL, NULL) == OK, "%lld MiB: %s", (long long)budgets[i], why);
        ck_assert_int_eq(c.memory_max_bytes, budgets[i] << 20);
        ck_assert_int_eq(c.tail_bytes, budgets[i] << 16);
        ck_assert_int_eq(c.queued_max_request_bytes, budgets[i] << 18);
        ck_assert_int_eq(c.queued_max_response_bytes, budgets[i] << 17);
        ck_assert_int_le(memory_planned_bytes(&c), c.memory_max_bytes);
        ck_assert_int_le(c.socket_request_max_bytes, 104857600);
        ck_assert_int_le(c.socket_request_max_bytes, c.queued_max_request_bytes / c.reactors);
        config_free(&c);
    }
    ck_assert_int_eq(build(&c, "reactors=2\nmemory.max.bytes=1073741824\ntail.bytes=1048576\nqueued.max.request.bytes=0\n", NULL, NULL), OK);
    ck_assert_int_eq(c.tail_bytes, 1048576);
    ck_assert_int_eq(c.socket_request_max_bytes, 104857600);
    ck_assert_str_eq(config_value(&c, "queued.max.request.bytes")->text, "268435456");
    ck_assert_int_eq(config_value(&c, "queued.max.request.bytes")->source, CONFIG_DEFAULT);
    config_free(&c);
    refused("memory.max.bytes=1000000\n", "at least 134217728");
    refused("memory.max.bytes=268435456\ntail.bytes=200000000\n", "memory.max.bytes is 256 MiB, but the settings need");
    refused("memory.max.bytes=1073741824\nreactors=8\nsocket.request.max.bytes=2147483647\n", "socket.request.max.bytes 2147483647");
    refused("tail.bytes=9223372036854775807\n", "but the settings need");
    refused("tail.bytes=5\n", "tail.bytes must be at least 1048576");
    ck_assert_int_eq(build(&c, "reactors=2\nqueued.max.request.bytes=4294967296\n", NULL, NULL), OK); /* nobody said how much */
    ck_assert_int_ge(c.memory_max_bytes, 4294967296 + c.tail_bytes);
    config_free(&c);
    struct config_builder *b = config_builder_new();
    config_machine_memory(b, 600 << 20); /* a small container: half of it, and no more reactors than that feeds */
    ck_assert_int_eq(config_finish(b, &c, why, sizeof why), OK);
    ck_assert_int_eq(c.memory_max_bytes, 300 << 20);
    ck_assert_int_le(c.reactors, 4);
    config_free(&c);
    ck_assert_int_eq(config_add(b, "--set", STR_LIT("tail.bytes"), STR_LIT("300000000"), why, sizeof why), OK);
    ck_assert_int_eq(config_finish(b, &c, why, sizeof why), ERR_INVALID);
    config_builder_free(b);
    ck_assert_int_gt(memory_machine_bytes(), 1 << 20);
}
END_TEST

struct text { char *p; size_t len; };
static void text_put(void *ctx, const char *s) {
    struct text *t = ctx;
    size_t n = strlen(s);
    t->p = realloc(t->p, t->len + n + 1);
    memcpy(t->p + t->len, s, n + 1);
    t->len += n;
}

START_TEST(reference_is_up_to_date) {
    struct text made = {0};
    config_print_reference(text_put, &made);
    FILE *f = fopen(TEST_DATA_DIR "/../../../docs/configuration.md", "r");
    ck_assert_ptr_nonnull(f);
    char *kept = calloc(1, made.len + 2);
    size_t n = fread(kept, 1, made.len + 1, f);
    fclose(f);
    ck_assert_msg(n == made.len && memcmp(kept, made.p, n) == 0,
                  "docs/configuration.md is not what the tables say: varved --print-config-reference > docs/configuration.md");
    free(kept);
    free(made.p);
}
END_TEST

int main(void) {
    Suite *s = suite_create("config");
    TCase *t = tcase_create("config");
    tcase_add_test(t, tables_are_sorted_and_their_defaults_valid);
    tcase_add_test(t, defaults);
    tcase_add_test(t, properties_syntax);
    tcase_add_test(t, errors_say_where);
    tcase_add_test(t, connections_of_one_address);
    tcase_add_test(t, later_sources_win_and_are_remembered);
    tcase_add_test(t, environment_rule);
    tcase_add_test(t, ignored_keys_are_summed_up);
    tcase_add_test(t, listeners);
    tcase_add_test(t, other_brokers);
    tcase_add_test(t, compose_file_of_the_kafka_image);
    tcase_add_test(t, command_line);
    tcase_add_test(t, topic_configs_resolve);
    tcase_add_test(t, topic_configs_are_checked);
    tcase_add_test(t, synonyms);
    tcase_add_test(t, memory_is_one_budget);
    tcase_add_test(t, reference_is_up_to_date);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
