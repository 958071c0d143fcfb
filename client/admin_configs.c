/* admin_configs.c - reading and changing the configuration of topics and brokers. */
#include "client/admin_impl.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/kafka_errors.h"
#include "proto/kafka_messages.h"

const char *admin_source_name(enum admin_source source) {
    switch (source) {
    case ADMIN_SOURCE_TOPIC: return "topic";
    case ADMIN_SOURCE_BROKER: return "broker";
    case ADMIN_SOURCE_BROKER_DEFAULT: return "broker-default";
    case ADMIN_SOURCE_STATIC: return "static";
    case ADMIN_SOURCE_DEFAULT: return "default";
    case ADMIN_SOURCE_GROUP: return "group";
    case ADMIN_SOURCE_UNKNOWN: break;
    }
    return "unknown";
}

/* A broker answers for itself; for topics and the cluster-wide defaults any will do. */
static int32_t broker_for(enum admin_resource type, const char *name) {
    char *end;
    long id = type == ADMIN_BROKER && name[0] ? strtol(name, &end, 10) : -1;
    return id >= 0 && id <= INT32_MAX && *end == 0 ? (int32_t)id : CLIENT_ANY;
}

static void describe_what(char *to, size_t len, const char *verb, enum admin_resource type, const char *name) {
    snprintf(to, len, "%s configuration of %s \"%s\"", verb, type == ADMIN_BROKER ? "broker" : "topic", name);
}

/* ---- describe --------------------------------------------------------------------------------- */

ADMIN_ADAPTERS(describe_configs)

static void describe_result(const void *response, struct admin_result *out) {
    const struct k_describe_configs_response *m = response;
    if (m->results_n == 1) *out = (struct admin_result){true, m->results[0].error_code, m->results[0].error_message};
}

struct snapshot {
    struct admin_configs configs;
    struct client_reply reply;
};

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct admin_config *)a)->name, ((const struct admin_config *)b)->name);
}

static bool copy_configs(struct snapshot *s, const struct k_describe_configs_response_results *from) {
    struct arena *a = &s->reply.arena;
    a->limit_bytes *= 2; /* copies of the strings join the decoded message */
    int32_t n = MAX(from->configs_n, 0);
    struct admin_config *configs = arena_array(a, (size_t)n + 1, sizeof *configs);
    if (!configs) return false;
    for (int32_t i = 0; i < n; i++) {
        const struct k_describe_configs_response_results_configs *c = &from->configs[i];
        configs[i] = (struct admin_config){
            .name = arena_strdup(a, c->name), .value = c->value.p ? arena_strdup(a, c->value) : NULL,
            .source = (enum admin_source)MAX((int)c->config_source, 0), .read_only = c->read_only,
            .sensitive = c->is_sensitive};
        if (!configs[i].name || (c->value.p && !configs[i].value)) return false;
    }
    qsort(configs, (size_t)n, sizeof *configs, by_name);
    s->configs = (struct admin_configs){configs, n};
    return true;
}

enum err admin_describe_configs(struct client *c, enum admin_resource type, const char *name, int32_t timeout_ms,
                                struct admin_configs **out) {
    struct k_describe_configs_request m;
    struct k_describe_configs_request_resources r;
    k_describe_configs_request_init(&m);
    k_describe_configs_request_resources_init(&r);
    r.resource_type = (int8_t)type;
    r.resource_name = str_from(name);
    r.configuration_keys_n = -1; /* null: all */
    m.resources = &r;
    m.resources_n = 1;
    struct k_describe_configs_response res;
    struct client_exchange x = {.api_key = API_DESCRIBE_CONFIGS, .version_max = INT16_MAX, .broker = broker_for(type, name),
                                .request = &m, .encode = encode_describe_configs,
                                .response = &res, .decode = decode_describe_configs};
    struct snapshot *s = calloc(1, sizeof *s);
    if (!s) return client_fail(c, ERR_NOMEM, 0, "out of memory");
    char what[300];
    describe_what(what, sizeof what, "read", type, name);
    enum err err = admin_run(c, &x, timeout_ms, describe_result, what, &s->reply);
    if (!err && !copy_configs(s, &res.results[0])) {
        client_reply_free(&s->reply);
        err = client_fail(c, ERR_NOMEM, 0, "out of memory");
    }
    if (err) {
        free(s);
        return err;
    }
    *out = &s->configs;
    return OK;
}

void admin_configs_free(struct admin_configs *configs) {
    if (!configs) return;
    struct snapshot *s = CONTAINER_OF(configs, struct snapshot, configs);
    client_reply_free(&s->reply);
    free(s);
}

/* ---- alter ------------------------------------------------------------------------------------ */

struct alteration {
    enum admin_resource type;
    const char *name;
    const struct admin_change *changes;
    int32_t count;
    bool validate_only;
};

ADMIN_ADAPTERS(incremental_alter_configs)

static void incremental_result(const void *response, struct admin_result *out) {
    const struct k_incremental_alter_configs_response *m = response;
    if (m->responses_n == 1) {
        *out = (struct admin_result){true, m->responses[0].error_code, m->responses[0].error_message};
    }
}

static enum err alter_incrementally(struct client *c, const struct alteration *alt, int32_t timeout_ms,
                                    const char *what) {
    struct k_incremental_alter_configs_request m;
    struct k_incremental_alter_configs_request_resources r;
    k_incremental_alter_configs_request_init(&m);
    k_incremental_alter_configs_request_resources_init(&r);
    struct k_incremental_alter_configs_request_resources_configs *configs = calloc((size_t)alt->count + 1, sizeof *configs);
    if (!configs) return client_fail(c, ERR_NOMEM, 0, "out of memory");
    for (int32_t i = 0; i < alt->count; i++) {
        configs[i].name = str_from(alt->changes[i].name);
        configs[i].config_operation = (int8_t)alt->changes[i].op;
        configs[i].value = alt->changes[i].op == ADMIN_DELETE ? STR_NULL : str_from(alt->changes[i].value);
    }
    r.resource_type = (int8_t)alt->type;
    r.resource_name = str_from(alt->name);
    r.configs = configs;
    r.configs_n = alt->count;
    m.resources = &r;
    m.resources_n = 1;
    m.validate_only = alt->validate_only;
    struct k_incremental_alter_configs_response res;
    struct client_exchange x = {.api_key = API_INCREMENTAL_ALTER_CONFIGS, .version_max = INT16_MAX,
                                .broker = broker_for(alt->type, alt->name),
                                .request = &m, .encode = encode_incremental_alter_configs,
                                .response = &res, .decode = decode_incremental_alter_configs};
    struct client_reply reply;
    enum err err = admin_run(c, &x, timeout_ms, incremental_result, what, &reply);
    if (!err) client_reply_free(&reply);
    free(configs);
    return err;
}

ADMIN_ADAPTERS(alter_configs)

static void alter_result(const void *response, struct admin_result *out) {
    const struct k_alter_configs_response *m = response;
    if (m->responses_n == 1) {
        *out = (struct admin_result){true, m->responses[0].error_code, m->responses[0].error_message};
    }
}

static const struct admin_change *find_change(const struct alteration *alt, const char *name) {
    for (int32_t i = 0; i < alt->count; i++) {
        if (strcmp(alt->changes[i].name, name) == 0) return &alt->changes[i];
    }
    return NULL;
}

/* What is set on the resource itself and stays, then what is to be set. Returns how many. */
static int32_t replacement(const struct alteration *alt, const struct admin_configs *now,
                           struct k_alter_configs_request_resources_configs *to) {
    enum admin_source own = alt->type == ADMIN_TOPIC ? ADMIN_SOURCE_TOPIC
                            : alt->name[0]           ? ADMIN_SOURCE_BROKER
                                                     : ADMIN_SOURCE_BROKER_DEFAULT;
    int32_t n = 0;
    for (int32_t i = 0; i < now->count; i++) {
        const struct admin_config *config = &now->configs[i];
        if (config->source != own || !config->value || find_change(alt, config->name)) continue;
        to[n].name = str_from(config->name);
        to[n++].value = str_from(config->value);
    }
    for (int32_t i = 0; i < alt->count; i++) {
        if (alt->changes[i].op != ADMIN_SET) continue;
        to[n].name = str_from(alt->changes[i].name);
        to[n++].value = str_from(alt->changes[i].value);
    }
    return n;
}

static enum err alter_by_replacing(struct client *c, const struct alteration *alt, int32_t timeout_ms,
                                   const char *what) {
    for (int32_t i = 0; i < alt->count; i++) {
        if (alt->changes[i].op != ADMIN_SET && alt->changes[i].op != ADMIN_DELETE) {
            return client_fail(c, ERR_UNSUPPORTED, 0, "%s: the broker can neither append nor subtract", what);
        }
    }
    struct admin_configs *now;
    enum err err = admin_describe_configs(c, alt->type, alt->name, timeout_ms, &now);
    if (err) return err;
    struct k_alter_configs_request m;
    struct k_alter_configs_request_resources r;
    k_alter_configs_request_init(&m);
    k_alter_configs_request_resources_init(&r);
    r.resource_type = (int8_t)alt->type;
    r.resource_name = str_from(alt->name);
    r.configs = calloc((size_t)now->count + (size_t)alt->count + 1, sizeof *r.configs);
    if (r.configs) r.configs_n = replacement(alt, now, r.configs);
    m.resources = &r;
    m.resources_n = 1;
    m.validate_only = alt->validate_only;
    struct k_alter_configs_response res;
    struct client_exchange x = {.api_key = API_ALTER_CONFIGS, .version_max = INT16_MAX,
                                .broker = broker_for(alt->type, alt->name),
                                .request = &m, .encode = encode_alter_configs,
                                .response = &res, .decode = decode_alter_configs};
    struct client_reply reply;
    err = r.configs ? admin_run(c, &x, timeout_ms, alter_result, what, &reply)
                    : client_fail(c, ERR_NOMEM, 0, "out of memory");
    if (!err) client_reply_free(&reply);
    free(r.configs);
    admin_configs_free(now);
    return err;
}

enum err admin_alter_configs(struct client *c, enum admin_resource type, const char *name,
                             const struct admin_change *changes, int32_t count, bool validate_only,
                             int32_t timeout_ms) {
    struct alteration alt = {type, name, changes, count, validate_only};
    char what[300];
    describe_what(what, sizeof what, "change", type, name);
    enum err err = alter_incrementally(c, &alt, timeout_ms, what);
    bool no_such_api = err == ERR_UNSUPPORTED && client_error_code(c) == KERR_NONE;
    return no_such_api ? alter_by_replacing(c, &alt, timeout_ms, what) : err;
}
