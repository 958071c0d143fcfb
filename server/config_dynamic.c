/* config_dynamic.c - what is set while the broker runs, in layers over what was read at start (KIP-226):
 *
 *   this broker's  >  all brokers'  >  command line, environment, file  >  default
 *
 * A layer is a struct config that shares everything with the one below but what it sets. */
#include <stdio.h>
#include <stdlib.h>
#include "base/assert.h"
#include "server/topic_config.h"

/* Beside the defaults of topic configs. Times in hours and minutes give way to those in milliseconds, which can be set. */
static const char *const others[] = {
    "follower.replication.throttled.rate", "leader.replication.throttled.rate", "log.level", "max.connections",
    "max.connections.per.ip", "max.connections.per.ip.overrides", "producer.id.expiration.ms", "replica.alter.log.dirs.io.max.bytes.per.second",
};

static bool ends_with(const char *s, const char *tail) {
    size_t n = strlen(s), m = strlen(tail);
    return n >= m && strcmp(s + n - m, tail) == 0;
}

bool config_dynamic(const struct config_key *key) {
    if (key->topic) return !ends_with(key->name, ".hours") && !ends_with(key->name, ".minutes");
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        if (strcmp(key->name, others[i]) == 0) return true;
    return false;
}

static bool is_zero(struct str number) {
    for (int32_t i = 0; i < number.len; i++)
        if (!memchr("+-0", number.p[i], 3)) return false;
    return true;
}

enum err config_dynamic_check(const struct config_key *key, struct str value, char *why, size_t why_len) {
    char reason[160];
    if (!config_dynamic(key)) {
        snprintf(why, why_len, "Cannot update these configs dynamically: [%s]", key->name);
        return ERR_INVALID;
    }
    if (config_check_value(key->type, key->min, key->max, key->choices, value, reason, sizeof reason) != OK ||
        config_connections_check(key, value, reason, sizeof reason) != OK) {
        snprintf(why, why_len, "Invalid value %.*s for configuration %s: it %s", (int)MIN(value.len, 80), value.p, key->name, reason);
        return ERR_INVALID;
    }
    if (strcmp(key->name, "max.connections.per.ip") == 0 && is_zero(value)) { /* who would take it back? */
        snprintf(why, why_len, "Invalid value 0 for configuration %s: it is taken at start only, with overrides", key->name);
        return ERR_INVALID;
    }
    /* The rules of the topic config that it is the default of. */
    return key->topic ? topic_config_check(str_from(key->topic), value, why, why_len) : OK;
}

static enum err set(struct config *c, const struct config_key *key, const char *value) {
    size_t count, i = (size_t)(key - config_keys(&count));
    char *text = strdup(value);
    if (!text) return ERR_NOMEM;
    if (c->values[i].source == c->layer) free((char *)c->values[i].text); /* named twice */
    c->values[i] = (struct config_value){text, c->layer};
    if (key->offset != CONFIG_NO_FIELD) config_field_fill(c, key, text);
    return OK;
}

enum err config_overlay(struct config *out, const struct config *below, enum config_source source, const struct config_override *overrides,
                        size_t count) {
    size_t rows;
    char why[256];
    ASSERT(below->layer < source);
    config_keys(&rows);
    *out = *below;
    out->below = below;
    out->layer = source;
    out->values = malloc(rows * sizeof *out->values);
    if (!out->values) return ERR_NOMEM;
    memcpy(out->values, below->values, rows * sizeof *out->values);
    for (size_t i = 0; i < count; i++) {
        const struct config_key *key = config_find(str_from(overrides[i].name));
        if (!key || config_dynamic_check(key, str_from(overrides[i].value), why, sizeof why) != OK) continue;
        if (set(out, key, overrides[i].value) == OK) continue;
        config_overlay_free(out);
        return ERR_NOMEM;
    }
    return OK;
}

void config_overlay_free(struct config *c) {
    size_t rows;
    config_keys(&rows);
    for (size_t i = 0; c->values && i < rows; i++)
        if (c->values[i].source == c->layer) free((char *)c->values[i].text);
    free(c->values);
    memset(c, 0, sizeof *c);
}

size_t config_synonyms(const struct config *c, const struct config_key *key, struct config_synonym out[CONFIG_SYNONYMS_MAX]) {
    size_t rows, n = 0, i = (size_t)(key - config_keys(&rows));
    for (; c; c = c->below) {
        const struct config_value *v = &c->values[i];
        bool set_here = c->below ? v->source == c->layer : v->source != CONFIG_DEFAULT;
        if (set_here && v->text) out[n++] = (struct config_synonym){key->name, v->text, v->source};
    }
    if (key->initial) out[n++] = (struct config_synonym){key->name, key->initial, CONFIG_DEFAULT};
    return n;
}
