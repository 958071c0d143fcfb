/* api_configs.c - DescribeConfigs, and the lists behind it. */
#include "server/api_configs.h"
#include <stdio.h>
#include "base/trace.h"
#include "server/group_config.h"

typedef struct k_describe_configs_response_results_configs config_entry;
typedef struct k_describe_configs_response_results_configs_synonyms config_entry_synonym;

static int8_t source_of(enum config_source source) {
    switch (source) {
    case CONFIG_DEFAULT: return SOURCE_DEFAULT;
    case CONFIG_DYNAMIC_BROKER: return SOURCE_DYNAMIC_BROKER;
    case CONFIG_DYNAMIC_DEFAULT: return SOURCE_DYNAMIC_DEFAULT;
    default: return SOURCE_STATIC_BROKER;
    }
}

static const struct config *config_in_force(const struct config_listing *l) { return reactor_config(l->rq->reactor); }

static bool wanted(const struct config_listing *l, const char *name) {
    if (!l->keys) return true;
    for (int32_t i = 0; i < l->key_count; i++)
        if (str_is(l->keys[i], name)) return true;
    return false;
}

static const struct topic_override *override_of(const struct config_listing *l, const char *name) {
    for (size_t i = 0; i < l->override_count; i++)
        if (str_is(l->overrides[i].name, name)) return &l->overrides[i];
    return NULL;
}

static struct str doc_of(const struct config_listing *l, const char *doc) {
    return l->documentation ? str_from(doc) : STR_NULL;
}

/* ---- topics ------------------------------------------------------------------------------------------- */

/* "Synonyms when asked: topic value, then dynamic broker, static broker, default." */
static bool topic_synonyms(struct config_listing *l, config_entry *e, const struct topic_config_key *key,
                           const struct topic_override *set) {
    struct config_synonym broker[TOPIC_CONFIG_SYNONYMS_MAX];
    size_t n = topic_config_synonyms(config_in_force(l), key, 0, broker);
    e->synonyms = request_alloc(l->rq, n + 1, sizeof *e->synonyms);
    if (!e->synonyms) return false;
    if (set) e->synonyms[e->synonyms_n++] = (config_entry_synonym){e->name, e->value, SOURCE_TOPIC};
    for (size_t i = 0; i < n; i++)
        e->synonyms[e->synonyms_n++] = (config_entry_synonym){str_from(broker[i].name), str_from(broker[i].value),
                                                              source_of(broker[i].source)};
    return true;
}

static bool topic_entry(struct config_listing *l, config_entry *e, const struct topic_config_key *key) {
    const struct topic_override *set = override_of(l, key->name);
    char buf[TOPIC_CONFIG_TEXT_BYTES];
    enum config_source source = CONFIG_DEFAULT;
    k_describe_configs_response_results_configs_init(e);
    e->name = str_from(key->name);
    e->config_type = (int8_t)key->type;
    e->documentation = doc_of(l, key->doc);
    if (set) {
        e->value = request_copy(l->rq, set->value);
        e->config_source = SOURCE_TOPIC;
    } else {
        e->value = request_copy(l->rq,
                                str_from(topic_config_default_text(config_in_force(l), key, buf, &source)));
        e->config_source = source_of(source);
    }
    return !l->synonyms || topic_synonyms(l, e, key, set);
}

bool list_topic_configs(struct config_listing *l) {
    size_t n;
    const struct topic_config_key *keys = topic_config_keys(&n);
    l->count = 0;
    l->list = request_alloc(l->rq, n, sizeof *l->list);
    if (!l->list) return false;
    for (size_t i = 0; i < n; i++)
        if (wanted(l, keys[i].name) && !topic_entry(l, &l->list[l->count++], &keys[i])) return false;
    return true;
}

/* ---- the broker ------------------------------------------------------------------------------------------ */

/* A time in ms has those in minutes and hours behind it. */
static size_t broker_layers(const struct config *c, const struct config_key *key, struct config_synonym out[TOPIC_CONFIG_SYNONYMS_MAX]) {
    const struct topic_config_key *topic = key->topic ? topic_config_find(str_from(key->topic)) : NULL;
    for (size_t i = 0; topic && i < ARRAY_LEN(topic->brokers) && topic->brokers[i]; i++)
        if (strcmp(topic->brokers[i], key->name) == 0) return topic_config_synonyms(c, topic, i, out);
    return config_synonyms(c, key, out);
}

static bool broker_synonyms(struct config_listing *l, config_entry *e, const struct config_key *key) {
    struct config_synonym layers[TOPIC_CONFIG_SYNONYMS_MAX];
    size_t n = broker_layers(config_in_force(l), key, layers);
    e->synonyms = request_alloc(l->rq, n, sizeof *e->synonyms);
    if (!e->synonyms) return false;
    for (size_t i = 0; i < n; i++)
        e->synonyms[e->synonyms_n++] = (config_entry_synonym){str_from(layers[i].name), str_from(layers[i].value), source_of(layers[i].source)};
    return true;
}

static config_entry *broker_entry(struct config_listing *l, const struct config_key *key, const struct config_value *v) {
    config_entry *e = &l->list[l->count++];
    k_describe_configs_response_results_configs_init(e);
    e->name = str_from(key->name);
    e->value = str_from(v->text);
    e->read_only = !config_dynamic(key);
    e->config_source = source_of(v->source);
    e->config_type = (int8_t)key->type;
    e->documentation = doc_of(l, key->doc);
    return e;
}

bool list_broker_configs(struct config_listing *l) {
    size_t n;
    const struct config *c = config_in_force(l);
    const struct config_key *keys = config_keys(&n);
    l->count = 0;
    l->list = request_alloc(l->rq, n, sizeof *l->list);
    if (!l->list) return false;
    for (size_t i = 0; i < n; i++) {
        if (!wanted(l, keys[i].name)) continue;
        config_entry *e = broker_entry(l, &keys[i], config_value(c, keys[i].name));
        if (l->synonyms && !broker_synonyms(l, e, &keys[i])) return false;
    }
    return true;
}

/* What was set for all brokers, and nothing else. */
bool list_default_broker_configs(struct config_listing *l) {
    const struct image_broker *b = request_image(l->rq)->broker;
    uint32_t n = b ? b->defaults.count : 0;
    l->count = 0;
    l->list = request_alloc(l->rq, n, sizeof *l->list);
    if (!l->list) return false;
    for (uint32_t i = 0; i < n; i++) {
        const struct config_key *key = config_find(str_from(b->defaults.list[i].name));
        if (!key || !wanted(l, key->name)) continue; /* a key that this version does not have */
        config_entry *e = broker_entry(l, key, &(struct config_value){b->defaults.list[i].value, CONFIG_DYNAMIC_DEFAULT});
        if (!l->synonyms) continue;
        e->synonyms = request_alloc(l->rq, 1, sizeof *e->synonyms);
        if (!e->synonyms) return false;
        e->synonyms[e->synonyms_n++] = (config_entry_synonym){e->name, e->value, SOURCE_DYNAMIC_DEFAULT};
    }
    return true;
}

static const char *const logger_levels[] = {"ERROR", "WARN", "INFO", "DEBUG"};

const char *logger_level_text(int level) { return logger_levels[level]; }

bool logger_level_parse(struct str text, int *level) {
    *level = str_is(text, "FATAL") ? TRACE_ERROR : str_is(text, "TRACE") ? TRACE_DEBUG : -1;
    for (size_t i = 0; i < ARRAY_LEN(logger_levels) && *level < 0; i++)
        if (str_is(text, logger_levels[i])) *level = (int)i;
    return *level >= 0;
}

/* There is one logger, the process's. */
static bool list_loggers(struct config_listing *l) {
    l->list = request_alloc(l->rq, 1, sizeof *l->list);
    if (!l->list) return false;
    if (!wanted(l, LOGGER_ROOT)) return true;
    config_entry *e = &l->list[l->count++];
    k_describe_configs_response_results_configs_init(e);
    e->name = STR_LIT(LOGGER_ROOT);
    e->value = str_from(logger_level_text(trace_level()));
    e->config_source = SOURCE_LOGGER;
    e->config_type = CONFIG_STRING;
    e->documentation = doc_of(l, "The least important diagnostic lines that are written, until the next start; log.level lasts.");
    return true;
}

/* ---- groups ----------------------------------------------------------------------------------------------------- */

static bool group_entry(struct config_listing *l, config_entry *e, const struct group_config_key *key, const struct image_configs *own) {
    const char *set = own ? image_config_get(own, key->name) : NULL;
    const struct config_value *broker = config_value(config_in_force(l), key->broker);
    k_describe_configs_response_results_configs_init(e);
    e->name = str_from(key->name);
    e->value = request_copy(l->rq, str_from(set ? set : broker->text));
    e->config_source = set ? SOURCE_GROUP : source_of(broker->source);
    e->config_type = CONFIG_INT;
    e->documentation = doc_of(l, key->doc);
    if (!l->synonyms) return true;
    e->synonyms = request_alloc(l->rq, 2, sizeof *e->synonyms);
    if (!e->synonyms) return false;
    if (set) e->synonyms[e->synonyms_n++] = (config_entry_synonym){e->name, e->value, SOURCE_GROUP};
    e->synonyms[e->synonyms_n++] = (config_entry_synonym){str_from(key->broker), str_from(broker->text), source_of(broker->source)};
    return true;
}

/* Any group that has a name: it need not exist. */
static bool list_group_configs(struct config_listing *l, struct str group) {
    size_t n;
    const struct group_config_key *keys = group_config_keys(&n);
    const struct image_configs *own = image_group_configs(request_image(l->rq), group);
    l->list = request_alloc(l->rq, n, sizeof *l->list);
    if (!l->list) return false;
    for (size_t i = 0; i < n; i++)
        if (wanted(l, keys[i].name) && !group_entry(l, &l->list[l->count++], &keys[i], own)) return false;
    return true;
}

/* ---- DescribeConfigs --------------------------------------------------------------------------------------- */

typedef struct k_describe_configs_response_results describe_result;

static void refuse(describe_result *r, int16_t error, struct str why) {
    r->error_code = error;
    r->error_message = why;
}

static bool describe_topic(struct config_listing *l, describe_result *r) {
    const char *problem = topic_name_problem(r->resource_name);
    const struct image_topic *t = image_topic_by_name(request_image(l->rq), r->resource_name);
    if (problem || !t) {
        refuse(r, problem ? KERR_INVALID_TOPIC_EXCEPTION : KERR_UNKNOWN_TOPIC_OR_PARTITION,
               problem ? str_from(problem) : STR_LIT("This server does not host this topic-partition."));
        return true;
    }
    struct topic_override *overrides = request_alloc(l->rq, t->configs.count, sizeof *overrides);
    if (!overrides) return false;
    for (uint32_t i = 0; i < t->configs.count; i++)
        overrides[i] = (struct topic_override){str_from(t->configs.list[i].name), str_from(t->configs.list[i].value)};
    l->overrides = overrides;
    l->override_count = t->configs.count;
    return list_topic_configs(l);
}

static bool describe_broker(struct config_listing *l, describe_result *r, bool loggers) {
    char self[16];
    snprintf(self, sizeof self, "%d", request_broker(l->rq)->config.node_id);
    if (str_is(r->resource_name, self)) return loggers ? list_loggers(l) : list_broker_configs(l);
    if (r->resource_name.len == 0 && !loggers) return list_default_broker_configs(l);
    refuse(r, KERR_INVALID_REQUEST, request_printf(l->rq, "Unexpected broker id, expected %s%s, but received %.*s", self,
                                                   loggers ? "" : " or empty string", (int)MIN(r->resource_name.len, 64), r->resource_name.p));
    return true;
}

static bool describe(struct request *rq, const struct k_describe_configs_request *m,
                     const struct k_describe_configs_request_resources *asked, describe_result *r) {
    struct config_listing l = {.rq = rq, .synonyms = m->include_synonyms, .documentation = m->include_documentation};
    if (asked->configuration_keys_n > 0) {
        l.keys = asked->configuration_keys;
        l.key_count = asked->configuration_keys_n;
    }
    k_describe_configs_response_results_init(r);
    r->resource_type = asked->resource_type;
    r->resource_name = asked->resource_name;
    r->error_message = STR_NULL;
    bool ok = true;
    if (asked->resource_type == API_RESOURCE_TOPIC) ok = describe_topic(&l, r);
    else if (asked->resource_type == API_RESOURCE_BROKER) ok = describe_broker(&l, r, false);
    else if (asked->resource_type == API_RESOURCE_BROKER_LOGGER) ok = describe_broker(&l, r, true);
    else if (asked->resource_type == API_RESOURCE_CLIENT_METRICS && r->resource_name.len > 0) ok = true; /* none are collected */
    else if (asked->resource_type == API_RESOURCE_GROUP && r->resource_name.len > 0) ok = list_group_configs(&l, r->resource_name);
    else refuse(r, KERR_INVALID_REQUEST, request_printf(rq, "Unsupported resource type: %d", asked->resource_type));
    r->configs = l.list;
    r->configs_n = l.count;
    return ok;
}

void api_describe_configs(struct request *rq) {
    struct k_describe_configs_request m;
    struct k_describe_configs_response out;
    if (!request_decoded(rq, k_describe_configs_request_decode(&m, &rq->body, request_version(rq)))) return;
    k_describe_configs_response_init(&out);
    int32_t n = MAX(m.resources_n, 0);
    out.results = request_alloc(rq, (size_t)n, sizeof *out.results);
    if (!out.results) return;
    out.results_n = n;
    for (int32_t i = 0; i < n; i++)
        if (!describe(rq, &m, &m.resources[i], &out.results[i])) return;
    struct wire_writer *w = request_reply_begin(rq);
    k_describe_configs_response_encode(&out, w, request_version(rq));
    request_reply(rq);
}
