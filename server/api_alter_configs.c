/* api_alter_configs.c - IncrementalAlterConfigs (KIP-339) and AlterConfigs.
 *
 * Both come down to the same thing: the overrides that a topic, this broker or all brokers are to have, checked as
 * a whole, and the records that lead there. The level of the logger is kept by nobody: it is changed at once. */
#include <stdio.h>
#include <stdlib.h>
#include "base/assert.h"
#include "base/trace.h"
#include "proto/kafka_messages.h"
#include "server/api_configs.h"
#include "server/controller.h"
#include "server/group_config.h"

enum operation { OP_SET = 0, OP_DELETE = 1, OP_APPEND = 2, OP_SUBTRACT = 3 };

struct alter_entry { struct str name, value; int8_t operation; };
struct alter_resource {
    int8_t type;
    struct str name;
    struct alter_entry *entries;
    int32_t count;
    bool replace;                       /* AlterConfigs: what is not named is removed */
    int16_t error;
    struct str why;
};
struct alter_state {
    struct request *rq;
    struct alter_resource *resources;
    int32_t count;
    bool validate_only;
    uint32_t new_groups;                /* without configs so far */
    struct controller_change change;
};

static int16_t refuse(struct alter_resource *r, int16_t error, struct str why) {
    r->error = error;
    r->why = why;
    return error;
}

/* ---- the overrides that a resource is to have (reactor 0) ----------------------------------------------------- */

struct overrides { struct topic_override *list; size_t count; };

static struct topic_override *find_override(struct overrides *o, struct str name) {
    for (size_t i = 0; i < o->count; i++)
        if (str_eq(o->list[i].name, name)) return &o->list[i];
    return NULL;
}

static void set_override(struct overrides *o, struct str name, struct str value) {
    struct topic_override *there = find_override(o, name);
    if (there) there->value = value;
    else o->list[o->count++] = (struct topic_override){name, value};
}

static void drop_override(struct overrides *o, struct str name) {
    struct topic_override *there = find_override(o, name);
    if (there) *there = o->list[--o->count];
}

/* The next element of a comma-separated list, without blanks around it; false at the end. */
static bool next_element(struct str *rest, struct str *element) {
    while (rest->len > 0) {
        int32_t n = 0;
        while (n < rest->len && rest->p[n] != ',') n++;
        struct str e = {rest->p, n};
        int32_t skip = n < rest->len ? n + 1 : n;
        rest->p += skip;
        rest->len -= skip;
        while (e.len > 0 && e.p[0] == ' ') e = (struct str){e.p + 1, e.len - 1};
        while (e.len > 0 && e.p[e.len - 1] == ' ') e.len--;
        if (e.len == 0) continue;
        *element = e;
        return true;
    }
    return false;
}

static bool list_has(struct str list, struct str wanted) {
    struct str e;
    while (next_element(&list, &e))
        if (str_eq(e, wanted)) return true;
    return false;
}

static void push_element(char *out, int32_t *len, struct str e) {
    if (*len > 0) out[(*len)++] = ',';
    memcpy(out + *len, e.p, (size_t)e.len);
    *len += e.len;
}

/* `now` with the elements of `change` added or taken away. Null: memory. */
static struct str edit_list(struct request *rq, struct str now, struct str change, bool append) {
    char *out = arena_alloc(&rq->arena, (size_t)now.len + (size_t)change.len + 2);
    if (!out) return STR_NULL;
    int32_t len = 0;
    struct str e, rest = now;
    while (next_element(&rest, &e))
        if (append || !list_has(change, e)) push_element(out, &len, e);
    for (rest = change; append && next_element(&rest, &e);)
        if (!list_has((struct str){out, len}, e)) push_element(out, &len, e);
    return (struct str){out, len};
}

/* Type and present value of a config that check_entries() let pass. `below`: what is in force without the resource's own. */
static enum config_type present_value(const struct alter_resource *r, const struct config *below, struct str name,
                                      char buf[TOPIC_CONFIG_TEXT_BYTES], const char **value) {
    enum config_source source;
    if (r->type == API_RESOURCE_TOPIC) {
        const struct topic_config_key *key = topic_config_find(name);
        ASSERT(key != NULL);
        *value = topic_config_default_text(below, key, buf, &source);
        return key->type;
    }
    if (r->type == API_RESOURCE_GROUP) {
        *value = NULL;
        return CONFIG_INT;
    }
    const struct config_key *key = config_find(name);
    ASSERT(key != NULL);
    *value = config_value(below, key->name)->text;
    return key->type;
}

static int16_t edit_list_config(struct request *rq, struct alter_resource *r, const struct alter_entry *a, struct overrides *o,
                                const struct config *below) {
    char buf[TOPIC_CONFIG_TEXT_BYTES];
    const char *unset;
    bool append = a->operation == OP_APPEND;
    if (present_value(r, below, a->name, buf, &unset) != CONFIG_LIST)
        return refuse(r, KERR_INVALID_CONFIG,
                      request_printf(rq, "Can't %s to key %.*s because its type is not LIST.", append ? "APPEND" : "SUBTRACT",
                                     (int)MIN(a->name.len, 200), a->name.p));
    const struct topic_override *there = find_override(o, a->name);
    struct str value = edit_list(rq, there ? there->value : str_from(unset), a->value, append);
    if (!value.p) return refuse(r, KERR_KAFKA_STORAGE_ERROR, STR_LIT("Out of memory"));
    set_override(o, a->name, value);
    return KERR_NONE;
}

static int16_t apply_entry(struct request *rq, struct alter_resource *r, const struct alter_entry *a, struct overrides *o,
                           const struct config *below) {
    if (a->operation == OP_APPEND || a->operation == OP_SUBTRACT) return edit_list_config(rq, r, a, o, below);
    if (a->operation == OP_DELETE) drop_override(o, a->name);
    else set_override(o, a->name, a->value);
    return KERR_NONE;
}

/* Only what changes becomes a record. */
static void add_records(struct controller_edit *e, const struct alter_resource *r, const struct image_configs *now, struct overrides *o) {
    for (size_t i = 0; i < o->count; i++) {
        const char *value = NULL;
        for (uint32_t k = 0; k < now->count && !value; k++)
            if (str_is(o->list[i].name, now->list[k].name)) value = now->list[k].value;
        if (!value || !str_is(o->list[i].value, value)) controller_set_config(e, r->type, r->name, o->list[i].name, o->list[i].value);
    }
    for (uint32_t k = 0; k < now->count; k++)
        if (!find_override(o, str_from(now->list[k].name)))
            controller_set_config(e, r->type, r->name, str_from(now->list[k].name), STR_NULL);
}

/* Each value, for lists were edited, and the rules that join several configs: topics inherit them. */
static int16_t broker_overrides_check(struct request *rq, struct alter_resource *r, const struct config *below, const struct overrides *o) {
    struct config_override *list = arena_array(&rq->arena, MAX(o->count, (size_t)1), sizeof *list);
    if (!list) return refuse(r, KERR_KAFKA_STORAGE_ERROR, STR_LIT("Out of memory"));
    struct config config;
    char why[256];
    size_t n = 0;
    for (size_t i = 0; i < o->count; i++) {
        struct str name = request_copy(rq, o->list[i].name), value = request_copy(rq, o->list[i].value);
        if (!name.p || !value.p) return refuse(r, KERR_KAFKA_STORAGE_ERROR, STR_LIT("Out of memory"));
        const struct config_key *key = config_find(name);
        if (key && config_dynamic_check(key, value, why, sizeof why) != OK) return refuse(r, KERR_INVALID_REQUEST, request_copy(rq, str_from(why)));
        list[n++] = (struct config_override){name.p, value.p};
    }
    enum config_source layer = r->name.len == 0 ? CONFIG_DYNAMIC_DEFAULT : CONFIG_DYNAMIC_BROKER;
    if (config_overlay(&config, below, layer, list, n) != OK) return refuse(r, KERR_KAFKA_STORAGE_ERROR, STR_LIT("Out of memory"));
    int16_t error = KERR_NONE;
    if (topic_config_check_all(&config, NULL, 0, why, sizeof why) != OK) error = refuse(r, KERR_INVALID_REQUEST, request_copy(rq, str_from(why)));
    config_overlay_free(&config);
    return error;
}

static void alter(struct alter_state *s, struct alter_resource *r, const struct image_configs *now, const struct config *below,
                  struct controller_edit *e) {
    struct request *rq = s->rq;
    struct overrides o = {.list = malloc((now->count + (size_t)r->count + 1) * sizeof *o.list)};
    if (!o.list) {
        refuse(r, KERR_KAFKA_STORAGE_ERROR, STR_LIT("Out of memory"));
        return;
    }
    for (uint32_t i = 0; i < now->count && !r->replace; i++)
        set_override(&o, str_from(now->list[i].name), str_from(now->list[i].value));
    for (int32_t i = 0; i < r->count && !r->error; i++) apply_entry(rq, r, &r->entries[i], &o, below);
    if (!r->error && r->type == API_RESOURCE_TOPIC) r->error = topic_overrides_check(rq, below, o.list, o.count, &r->why);
    else if (!r->error && r->type == API_RESOURCE_BROKER) r->error = broker_overrides_check(rq, r, below, &o);
    if (!r->error && !s->validate_only) add_records(e, r, now, &o);
    free(o.list);
}

static void alter_topic(struct alter_state *s, struct alter_resource *r, struct controller_edit *e) {
    const struct image *im = controller_edit_image(e);
    const struct image_topic *t = image_topic_by_name(im, r->name);
    if (t) alter(s, r, &t->configs, image_config(im, request_broker(s->rq)), e);
    else refuse(r, KERR_UNKNOWN_TOPIC_OR_PARTITION, STR_LIT("This server does not host this topic-partition."));
}

static void alter_broker(struct alter_state *s, struct alter_resource *r, struct controller_edit *e) {
    static const struct image_configs none;
    const struct image *im = controller_edit_image(e);
    const struct image_broker *b = im->broker;
    const struct config *config = &request_broker(s->rq)->config;
    if (r->name.len == 0) {
        alter(s, r, b ? &b->defaults : &none, config, e);
        return;
    }
    char id[16];
    snprintf(id, sizeof id, "%.*s", (int)MIN(r->name.len, 15), r->name.p); /* of a broker that is there: broker_named() */
    const struct image_configs *own = image_broker_configs(im, request_broker(s->rq), (int32_t)strtol(id, NULL, 10));
    alter(s, r, own ? own : &none, b ? &b->with_defaults : config, e);
}

/* A name is all that it takes, so there is a bound. */
static void alter_group(struct alter_state *s, struct alter_resource *r, struct controller_edit *e) {
    static const struct image_configs none;
    const struct image *im = controller_edit_image(e);
    const struct image_configs *now = image_group_configs(im, r->name);
    if (!now && (im->groups ? im->groups->count : 0) + s->new_groups >= GROUP_CONFIGS_MAX) {
        refuse(r, KERR_POLICY_VIOLATION, STR_LIT("There are configs of 10000 groups already"));
        return;
    }
    s->new_groups += now == NULL;
    alter(s, r, now ? now : &none, &request_broker(s->rq)->config, e);
}

/* check_loggers() let it pass: it sets the one logger. */
static void alter_logger(const struct alter_state *s, const struct alter_resource *r) {
    int level;
    if (r->count == 0 || s->validate_only) return;
    bool known = logger_level_parse(r->entries[0].value, &level);
    ASSERT(known);
    trace_set_level((enum trace_level)level);
}

static void make(struct controller_change *ch, struct controller_edit *e) {
    struct alter_state *s = ch->owner;
    for (int32_t i = 0; i < s->count; i++) {
        struct alter_resource *r = &s->resources[i];
        if (r->error) continue;
        if (r->type == API_RESOURCE_TOPIC) alter_topic(s, r, e);
        else if (r->type == API_RESOURCE_BROKER) alter_broker(s, r, e);
        else if (r->type == API_RESOURCE_GROUP) alter_group(s, r, e);
        else alter_logger(s, r);
    }
}

/* ---- what is refused without looking at the image -------------------------------------------------------------- */

/* Whether there is such a config, and whether a broker's may take this value now; a topic's values are checked together. */
static void check_name(struct alter_state *s, struct alter_resource *r, const struct alter_entry *a) {
    int len = (int)MIN(a->name.len, 200);
    char why[320];
    if (r->type == API_RESOURCE_TOPIC) {
        if (!topic_config_find(a->name)) refuse(r, KERR_INVALID_CONFIG, request_printf(s->rq, "Unknown topic config name: %.*s", len, a->name.p));
        return;
    }
    if (r->type == API_RESOURCE_GROUP) {
        const struct group_config_key *known = group_config_find(a->name);
        if (!known) refuse(r, KERR_INVALID_CONFIG, request_printf(s->rq, "Unknown group config name: %.*s", len, a->name.p));
        else if (a->operation == OP_SET && a->value.p && group_config_check(known, a->value, why, sizeof why) != OK)
            refuse(r, KERR_INVALID_CONFIG, request_copy(s->rq, str_from(why)));
        return;
    }
    const struct config_key *key = config_find(a->name);
    if (!key && config_is_ignored(a->name))
        refuse(r, KERR_INVALID_REQUEST,
               request_printf(s->rq, "Cannot update these configs dynamically: [%.*s] (it means nothing here)", len, a->name.p));
    else if (!key) refuse(r, KERR_INVALID_REQUEST, request_printf(s->rq, "Unknown broker config name: %.*s", len, a->name.p));
    else if (!config_dynamic(key))
        refuse(r, KERR_INVALID_REQUEST, request_printf(s->rq, "Cannot update these configs dynamically: [%s]", key->name));
    else if ((a->operation == OP_SET || a->operation == OP_APPEND) && a->value.p && config_dynamic_check(key, a->value, why, sizeof why) != OK)
        refuse(r, KERR_INVALID_REQUEST, request_copy(s->rq, str_from(why)));
}

static bool check_entries(struct alter_state *s, struct alter_resource *r) {
    struct name_set seen;
    struct str *names = request_alloc(s->rq, (size_t)r->count, sizeof *names);
    if (!names || !name_set_init(&seen, s->rq, names, (size_t)r->count)) return false;
    for (int32_t i = 0; i < r->count; i++) {
        const struct alter_entry *a = &r->entries[i];
        names[i] = a->name;
        check_name(s, r, a);
        if (r->error) return true;
        if (name_set_add(&seen, i) >= 0) refuse(r, KERR_INVALID_REQUEST, STR_LIT("Error due to duplicate config keys"));
        else if (a->operation < OP_SET || a->operation > OP_SUBTRACT)
            refuse(r, KERR_INVALID_REQUEST, STR_LIT("Unknown operation type"));
        else if (a->operation != OP_DELETE && !a->value.p)
            refuse(r, KERR_INVALID_REQUEST,
                   request_printf(s->rq, "Null value not supported for : %.*s", (int)MIN(a->name.len, 200), a->name.p));
    }
    return true;
}

/* A request that another broker has forwarded is about that one, or was meant for it. */
static bool registered(const struct alter_state *s, struct str name) {
    const struct image *im = request_image(s->rq);
    char id[16];
    for (uint32_t i = 0; i < im->node_count && s->rq->origin; i++) {
        snprintf(id, sizeof id, "%d", im->nodes[i].node);
        if (str_is(name, id)) return true;
    }
    return false;
}

/* Its name is this broker's id, or for configs empty: all brokers. */
static bool broker_named(struct alter_state *s, struct alter_resource *r) {
    char self[16];
    snprintf(self, sizeof self, "%d", request_broker(s->rq)->config.node_id);
    if (str_is(r->name, self) || (r->type == API_RESOURCE_BROKER && (r->name.len == 0 || registered(s, r->name)))) return true;
    refuse(r, KERR_INVALID_REQUEST, request_printf(s->rq, "Unexpected broker id, expected %s, but received %.*s", self,
                                                   (int)MIN(r->name.len, 64), r->name.p));
    return false;
}

static void check_loggers(struct alter_state *s, struct alter_resource *r) {
    int level;
    if (!broker_named(s, r)) return;
    if (r->replace) refuse(r, KERR_INVALID_REQUEST, STR_LIT("Levels of loggers are changed by IncrementalAlterConfigs only"));
    for (int32_t i = 0; i < r->count && !r->error; i++) {
        const struct alter_entry *a = &r->entries[i];
        int len = (int)MIN(a->name.len, 100);
        if (i > 0) refuse(r, KERR_INVALID_REQUEST, STR_LIT("There is one logger, root"));
        else if (!str_is(a->name, LOGGER_ROOT)) refuse(r, KERR_INVALID_CONFIG, request_printf(s->rq, "Logger %.*s does not exist!", len, a->name.p));
        else if (a->operation != OP_SET) refuse(r, KERR_INVALID_REQUEST, STR_LIT("The level of the root logger can only be set"));
        else if (!logger_level_parse(a->value, &level))
            refuse(r, KERR_INVALID_CONFIG, STR_LIT("Valid log levels are FATAL, ERROR, WARN, INFO, DEBUG, TRACE"));
    }
}

/* Resources of one kind in one set: a topic may be called as a broker is. */
static bool check_twice(struct alter_state *s, int8_t type) {
    struct name_set seen;
    struct str *names = request_alloc(s->rq, (size_t)s->count, sizeof *names);
    if (!names || !name_set_init(&seen, s->rq, names, (size_t)s->count)) return false;
    for (int32_t i = 0; i < s->count; i++) {
        if (s->resources[i].type != type) continue;
        names[i] = s->resources[i].name;
        int32_t before = name_set_add(&seen, i);
        if (before < 0) continue;
        refuse(&s->resources[i], KERR_INVALID_REQUEST, STR_LIT("Each resource must appear at most once."));
        refuse(&s->resources[before], KERR_INVALID_REQUEST, STR_LIT("Each resource must appear at most once."));
    }
    return true;
}

static bool check_resources(struct alter_state *s) {
    for (int32_t i = 0; i < s->count; i++) {
        struct alter_resource *r = &s->resources[i];
        if (r->type == API_RESOURCE_TOPIC || r->type == API_RESOURCE_BROKER) {
            if ((r->type == API_RESOURCE_TOPIC || broker_named(s, r)) && !check_entries(s, r)) return false;
        } else if (r->type == API_RESOURCE_GROUP) {
            if (r->name.len == 0) refuse(r, KERR_INVALID_REQUEST, STR_LIT("The name of a group may not be empty"));
            else if (memchr(r->name.p, 0, (size_t)r->name.len)) refuse(r, KERR_INVALID_REQUEST, STR_LIT("The name of a group may not hold a zero byte"));
            else if (!check_entries(s, r)) return false;
        } else if (r->type == API_RESOURCE_BROKER_LOGGER) {
            check_loggers(s, r);
        } else {
            refuse(r, KERR_INVALID_REQUEST, request_printf(s->rq, "Unexpected resource type: %d", r->type));
        }
    }
    return check_twice(s, API_RESOURCE_TOPIC) && check_twice(s, API_RESOURCE_BROKER) && check_twice(s, API_RESOURCE_GROUP) &&
           check_twice(s, API_RESOURCE_BROKER_LOGGER);
}

static bool only_loggers(const struct alter_state *s) {
    for (int32_t i = 0; i < s->count; i++)
        if (s->resources[i].type != API_RESOURCE_BROKER_LOGGER) return false;
    return true;
}

static void submit(struct alter_state *s, void (*done)(struct controller_change *ch)) {
    if (!check_resources(s)) return;
    s->change = (struct controller_change){.caller = s->rq->reactor, .make = make, .done = done, .owner = s};
    if (only_loggers(s)) { /* no metadata: any broker does that for itself */
        for (int32_t i = 0; i < s->count; i++)
            if (!s->resources[i].error) alter_logger(s, &s->resources[i]);
        done(&s->change);
        return;
    }
    controller_submit(request_broker(s->rq)->controller, &s->change);
}

static void settle(struct alter_state *s) {
    for (int32_t i = 0; i < s->count; i++)
        if (api_change_failed(&s->change, s->resources[i].error))
            refuse(&s->resources[i], api_change_error(s->change.err), str_from(err_str(s->change.err)));
}

static struct alter_state *state_new(struct request *rq) {
    struct alter_state *s = request_alloc(rq, 1, sizeof *s);
    if (s) s->rq = rq;
    return s;
}

/* ---- IncrementalAlterConfigs -------------------- */

static void incremental_done(struct controller_change *ch) {
    struct alter_state *s = ch->owner;
    struct k_incremental_alter_configs_response out;
    k_incremental_alter_configs_response_init(&out);
    settle(s);
    out.responses = request_alloc(s->rq, (size_t)s->count, sizeof *out.responses);
    if (!out.responses) return;
    out.responses_n = s->count;
    for (int32_t i = 0; i < s->count; i++) {
        const struct alter_resource *r = &s->resources[i];
        out.responses[i] = (struct k_incremental_alter_configs_response_responses){r->error, r->why, r->type, r->name};
    }
    struct wire_writer *w = request_reply_begin(s->rq);
    k_incremental_alter_configs_response_encode(&out, w, request_version(s->rq));
    request_reply(s->rq);
}

void api_incremental_alter_configs(struct request *rq) {
    struct k_incremental_alter_configs_request m;
    if (!request_decoded(rq, k_incremental_alter_configs_request_decode(&m, &rq->body, request_version(rq)))) return;
    struct alter_state *s = state_new(rq);
    if (!s) return;
    s->count = MAX(m.resources_n, 0);
    s->validate_only = m.validate_only;
    s->resources = request_alloc(rq, (size_t)s->count, sizeof *s->resources);
    if (!s->resources) return;
    for (int32_t i = 0; i < s->count; i++) {
        struct alter_resource *r = &s->resources[i];
        *r = (struct alter_resource){.type = m.resources[i].resource_type, .name = m.resources[i].resource_name,
                                     .count = MAX(m.resources[i].configs_n, 0)};
        r->entries = request_alloc(rq, (size_t)r->count, sizeof *r->entries);
        if (!r->entries) return;
        for (int32_t k = 0; k < r->count; k++)
            r->entries[k] = (struct alter_entry){m.resources[i].configs[k].name, m.resources[i].configs[k].value,
                                                 m.resources[i].configs[k].config_operation};
    }
    submit(s, incremental_done);
}

/* ---- AlterConfigs -------------------- */

static void alter_done(struct controller_change *ch) {
    struct alter_state *s = ch->owner;
    struct k_alter_configs_response out;
    k_alter_configs_response_init(&out);
    settle(s);
    out.responses = request_alloc(s->rq, (size_t)s->count, sizeof *out.responses);
    if (!out.responses) return;
    out.responses_n = s->count;
    for (int32_t i = 0; i < s->count; i++) {
        const struct alter_resource *r = &s->resources[i];
        out.responses[i] = (struct k_alter_configs_response_responses){r->error, r->why, r->type, r->name};
    }
    struct wire_writer *w = request_reply_begin(s->rq);
    k_alter_configs_response_encode(&out, w, request_version(s->rq));
    request_reply(s->rq);
}

void api_alter_configs(struct request *rq) {
    struct k_alter_configs_request m;
    if (!request_decoded(rq, k_alter_configs_request_decode(&m, &rq->body, request_version(rq)))) return;
    struct alter_state *s = state_new(rq);
    if (!s) return;
    s->count = MAX(m.resources_n, 0);
    s->validate_only = m.validate_only;
    s->resources = request_alloc(rq, (size_t)s->count, sizeof *s->resources);
    if (!s->resources) return;
    for (int32_t i = 0; i < s->count; i++) {
        struct alter_resource *r = &s->resources[i];
        *r = (struct alter_resource){
            .type = m.resources[i].resource_type, .name = m.resources[i].resource_name,
            .count = MAX(m.resources[i].configs_n, 0), .replace = true,
        };
        r->entries = request_alloc(rq, (size_t)r->count, sizeof *r->entries);
        if (!r->entries) return;
        for (int32_t k = 0; k < r->count; k++)
            r->entries[k] = (struct alter_entry){m.resources[i].configs[k].name, m.resources[i].configs[k].value,
                                                 OP_SET};
    }
    submit(s, alter_done);
}
