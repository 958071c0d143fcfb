/* config_reference.c - docs/configuration.md from the two tables. */
#include <stdio.h>
#include "server/topic_config.h"

typedef void put_fn(void *ctx, const char *text);

static const char *type_name(enum config_type type) {
    switch (type) {
    case CONFIG_BOOL: return "boolean";
    case CONFIG_STRING: return "string";
    case CONFIG_INT: return "int";
    case CONFIG_LONG: return "long";
    case CONFIG_DOUBLE: return "double";
    case CONFIG_LIST: return "list";
    }
    return "";
}

/* "1 .. 32767", "-1 ..", "a, b, c": what values are taken beyond their type. */
static void put_range(put_fn *put, void *ctx, enum config_type type, double min, double max, const char *choices) {
    char text[64];
    if (choices) {
        for (const char *p = choices; *p; p++) {
            char c[2] = {*p, 0};
            put(ctx, *p == '|' ? ", " : c);
        }
        return;
    }
    if (min == 0 && max == 0) return;
    bool open = max >= 9223372036854775807.0 || (type == CONFIG_INT && max >= 2147483647.0);
    if (open) snprintf(text, sizeof text, "from %.0f", min);
    else if (type == CONFIG_DOUBLE) snprintf(text, sizeof text, "%g to %g", min, max);
    else snprintf(text, sizeof text, "%.0f to %.0f", min, max);
    put(ctx, text);
}

static void put_row(put_fn *put, void *ctx, const char *name, enum config_type type, const char *initial) {
    put(ctx, "| `");
    put(ctx, name);
    put(ctx, "` | ");
    put(ctx, type_name(type));
    put(ctx, " | ");
    put(ctx, !initial ? "not set" : !*initial ? "empty" : initial);
    put(ctx, " | ");
}

void config_print_reference(void (*put)(void *ctx, const char *text), void *ctx) {
    size_t count;
    put(ctx, "# Configuration\n\n"
             "<!-- Made by `varved --print-config-reference` from the tables in server/. Do not edit. -->\n\n"
             "Sources, weakest first: the default, the configuration file (`varved FILE`, properties syntax), the environment\n"
             "(`KAFKA_` + the key in capitals, `.` written `_`, `_` written `__`, `-` written `___`), the command line\n"
             "(`--set key=value` and flags). A value out of range or an unknown key is an error at start. Keys of Kafka's\n"
             "that mean nothing here (threads, buffers, ZooKeeper, KRaft's controllers, ...) are accepted with one line that says so.\n"
             "`broker.id` is another name for `node.id`.\n\n"
             "## Broker\n\nRead once at start; below the table is what may be changed later.\n\n"
             "| key | type | default | values | meaning |\n|---|---|---|---|---|\n");
    const struct config_key *keys = config_keys(&count);
    for (size_t i = 0; i < count; i++) {
        put_row(put, ctx, keys[i].name, keys[i].type, keys[i].initial);
        put_range(put, ctx, keys[i].type, keys[i].min, keys[i].max, keys[i].choices);
        put(ctx, " | ");
        put(ctx, keys[i].doc);
        if (keys[i].topic) {
            put(ctx, " Topic config: `");
            put(ctx, keys[i].topic);
            put(ctx, "`.");
        }
        put(ctx, " |\n");
    }
    put(ctx, "\nThese may be set while the broker runs, for this broker or for all (`kafka-configs --entity-type brokers`): ");
    for (size_t i = 0, listed = 0; i < count; i++) {
        if (!config_dynamic(&keys[i])) continue;
        put(ctx, listed++ ? ", `" : "`");
        put(ctx, keys[i].name);
        put(ctx, "`");
    }
    put(ctx, ".\n");
    put(ctx, "\n## Topics\n\nSet when a topic is created or while it is used; what is not set follows the broker's key.\n\n"
             "| config | type | default | values | broker key | meaning |\n|---|---|---|---|---|---|\n");
    const struct topic_config_key *topics = topic_config_keys(&count);
    for (size_t i = 0; i < count; i++) {
        put_row(put, ctx, topics[i].name, topics[i].type, topics[i].initial);
        put_range(put, ctx, topics[i].type, topics[i].min, topics[i].max, topics[i].choices);
        put(ctx, " | ");
        for (size_t k = 0; k < ARRAY_LEN(topics[i].brokers) && topics[i].brokers[k]; k++) {
            put(ctx, k ? ", `" : "`");
            put(ctx, topics[i].brokers[k]);
            put(ctx, "`");
        }
        put(ctx, " | ");
        put(ctx, topics[i].doc);
        put(ctx, " |\n");
    }
}
