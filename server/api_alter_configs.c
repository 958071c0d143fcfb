/* api_alter_configs.c - IncrementalAlterConfigs (KIP-339) and AlterConfigs.
 *
 * Both come down to the same thing: the overrides that a topic is to have, checked as a whole, and
 * the records that lead there. Broker configs are read at start and cannot be changed here. */
#include <stdlib.h>
#include "base/assert.h"
#include "proto/kafka_messages.h"
#include "server/api.h"
#include "server/controller.h"

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
    struct controller_change change;
};

static int16_t refuse(struct alter_resource *r, int16_t error, struct str why) {
    r->error = error;
    r->why = why;
    return error;
}

/* ---- the overrides that a topic is to have (reactor 0) ----------------------------------------------------- */

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

static int16_t edit_list_config(struct request *rq, struct alter_resource *r, const struct alter_entry *a,
                                struct overrides *o) {
    const struct topic_config_key *key = topic_config_find(a->name);
    bool append = a->operation == OP_APPEND;
    ASSERT(key != NULL); /* check_entries() */
    if (key->type != CONFIG_LIST)
        return refuse(r, KERR_INVALID_CONFIG,
                      request_printf(rq, "Can't %s to key %s because its type is not LIST.",
                                     append ? "APPEND" : "SUBTRACT", key->name));
    char buf[TOPIC_CONFIG_TEXT_BYTES];
    enum config_source source;
    const struct topic_override *there = find_override(o, a->name);
    struct str now = there ? there->value : str_from(topic_config_default_text(&request_broker(rq)->config, key, buf,
        &source));
    struct str value = edit_list(rq, now, a->value, append);
    if (!value.p) return refuse(r, KERR_KAFKA_STORAGE_ERROR, STR_LIT("Out of memory"));
    set_override(o, a->name, value);
    return KERR_NONE;
}

static int16_t apply_entry(struct request *rq, struct alter_resource *r, const struct alter_entry *a,
                           struct overrides *o) {
    if (a->operation == OP_APPEND || a->operation == OP_SUBTRACT) return edit_list_config(rq, r, a, o);
    if (a->operation == OP_DELETE) drop_override(o, a->name);
    else set_override(o, a->name, a->value);
    return KERR_NONE;
}

/* Only what changes becomes a record. */
static void add_records(struct controller_edit *e, const struct alter_resource *r, const struct image_topic *t,
                        struct overrides *o) {
    for (size_t i = 0; i < o->count; i++) {
        const char *now = NULL;
        for (uint32_t k = 0; k < t->configs.count && !now; k++)
            if (str_is(o->list[i].name, t->configs.list[k].name)) now = t->configs.list[k].value;
        if (!now || !str_is(o->list[i].value, now))
            controller_set_config(e, API_RESOURCE_TOPIC, r->name, o->list[i].name, o->list[i].value);
    }
    for (uint32_t k = 0; k < t->configs.count; k++)
        if (!find_override(o, str_from(t->configs.list[k].name)))
            controller_set_config(e, API_RESOURCE_TOPIC, r->name, str_from(t->configs.list[k].name), STR_NULL);
}

static void alter_topic(struct alter_state *s, struct alter_resource *r, const struct image_topic *t,
                        struct controller_edit *e) {
    struct request *rq = s->rq;
    struct overrides o = {.list = malloc((t->configs.count + (size_t)r->count + 1) * sizeof *o.list)};
    if (!o.list) {
        refuse(r, KERR_KAFKA_STORAGE_ERROR, STR_LIT("Out of memory"));
        return;
    }
    for (uint32_t i = 0; i < t->configs.count && !r->replace; i++)
        set_override(&o, str_from(t->configs.list[i].name), str_from(t->configs.list[i].value));
    for (int32_t i = 0; i < r->count && !r->error; i++) apply_entry(rq, r, &r->entries[i], &o);
    if (!r->error) r->error = topic_overrides_check(rq, o.list, o.count, &r->why);
    if (!r->error && !s->validate_only) add_records(e, r, t, &o);
    free(o.list);
}

static void make(struct controller_change *ch, struct controller_edit *e) {
    struct alter_state *s = ch->owner;
    for (int32_t i = 0; i < s->count; i++) {
        struct alter_resource *r = &s->resources[i];
        if (r->error) continue;
        const struct image_topic *t = image_topic_by_name(controller_edit_image(e), r->name);
        if (t) alter_topic(s, r, t, e);
        else refuse(r, KERR_UNKNOWN_TOPIC_OR_PARTITION, STR_LIT("This server does not host this topic-partition."));
    }
}

/* ---- what is refused without looking at the image -------------------------------------------------------------- */

static bool check_entries(struct alter_state *s, struct alter_resource *r) {
    struct name_set seen;
    struct str *names = request_alloc(s->rq, (size_t)r->count, sizeof *names);
    if (!names || !name_set_init(&seen, s->rq, names, (size_t)r->count)) return false;
    for (int32_t i = 0; i < r->count; i++) {
        const struct alter_entry *a = &r->entries[i];
        names[i] = a->name;
        if (!topic_config_find(a->name)) {
            refuse(r, KERR_INVALID_CONFIG,
                   request_printf(s->rq, "Unknown topic config name: %.*s", (int)MIN(a->name.len, 200), a->name.p));
            return true;
        }
        if (name_set_add(&seen, i) >= 0) refuse(r, KERR_INVALID_REQUEST, STR_LIT("Error due to duplicate config keys"));
        else if (a->operation < OP_SET || a->operation > OP_SUBTRACT)
            refuse(r, KERR_INVALID_REQUEST, STR_LIT("Unknown operation type"));
        else if (a->operation != OP_DELETE && !a->value.p)
            refuse(r, KERR_INVALID_REQUEST,
                   request_printf(s->rq, "Null value not supported for : %.*s", (int)MIN(a->name.len, 200), a->name.p));
    }
    return true;
}

static bool check_resources(struct alter_state *s) {
    struct name_set topics;
    struct str *names = request_alloc(s->rq, (size_t)s->count, sizeof *names);
    if (!names || !name_set_init(&topics, s->rq, names, (size_t)s->count)) return false;
    for (int32_t i = 0; i < s->count; i++) {
        struct alter_resource *r = &s->resources[i];
        names[i] = r->name;
        if (r->type == API_RESOURCE_BROKER) {
            refuse(r, KERR_INVALID_REQUEST, STR_LIT("Broker configs cannot be changed while the broker runs"));
        } else if (r->type != API_RESOURCE_TOPIC) {
            refuse(r, KERR_INVALID_REQUEST, request_printf(s->rq, "Unexpected resource type: %d", r->type));
        } else {
            int32_t before = name_set_add(&topics, i);
            if (!check_entries(s, r)) return false;
            if (before < 0) continue;
            refuse(r, KERR_INVALID_REQUEST, STR_LIT("Each resource must appear at most once."));
            refuse(&s->resources[before], KERR_INVALID_REQUEST, STR_LIT("Each resource must appear at most once."));
        }
    }
    return true;
}

static void submit(struct alter_state *s, void (*done)(struct controller_change *ch)) {
    if (!check_resources(s)) return;
    s->change = (struct controller_change){.caller = s->rq->reactor, .make = make, .done = done, .owner = s};
    controller_submit(request_broker(s->rq)->controller, &s->change);
}

static void settle(struct alter_state *s) {
    for (int32_t i = 0; i < s->count; i++)
        if (!s->resources[i].error && s->change.err)
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
