#include "server/group_config.h"
#include <stdio.h>
#include <stdlib.h>
#include "server/image.h"

static const struct group_config_key table[] = {
    {"consumer.heartbeat.interval.ms", "group.consumer.heartbeat.interval.ms", 5000, 15000, "How often members are told to send heartbeats."},
    {"consumer.session.timeout.ms", "group.consumer.session.timeout.ms", 45000, 60000,
     "A member that has sent no heartbeat for so long is put out."},
};

const struct group_config_key *group_config_keys(size_t *count) {
    *count = ARRAY_LEN(table);
    return table;
}

const struct group_config_key *group_config_find(struct str name) {
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (str_is(name, table[i].name)) return &table[i];
    return NULL;
}

enum err group_config_check(const struct group_config_key *key, struct str value, char *why, size_t why_len) {
    char reason[160];
    if (config_check_value(CONFIG_INT, key->min, key->max, NULL, value, reason, sizeof reason) == OK) return OK;
    snprintf(why, why_len, "Invalid value %.*s for configuration %s: it %s", (int)MIN(value.len, 80), value.p ? value.p : "", key->name, reason);
    return ERR_INVALID;
}

int32_t group_config_value(const struct image_configs *configs, const char *name, int32_t otherwise) {
    const char *text = configs ? image_config_get(configs, name) : NULL;
    return text ? (int32_t)strtol(text, NULL, 10) : otherwise; /* checked when it was set */
}
