/* api_client_quotas.c - DescribeClientQuotas and AlterClientQuotas (KIP-546), checked as Kafka's controller does.
 *
 * Quotas are records of the metadata log, one for each key of an entity; each entity of a request succeeds or fails by
 * itself. What they mean: quota_set.h. */
#include "proto/kafka_messages.h"
#include "server/api.h"
#include "server/controller.h"
#include "server/quota_set.h"

/* ---- AlterClientQuotas ---------------------------------------------------------------------------------- */

typedef struct k_alter_client_quotas_request_entries alter_entry;
typedef struct k_alter_client_quotas_response_entries alter_result;

struct alter_quotas {
    struct request *rq;
    struct k_alter_client_quotas_request in;
    struct k_alter_client_quotas_response out;
    struct quota_entity *entities;    /* beside out.entries */
    struct controller_change change;
};

static void refuse(alter_result *r, int16_t error, struct str why) {
    r->error_code = error;
    r->error_message = why;
}

/* False: `why` is said. Addresses are written in one way. */
static bool read_entity(struct request *rq, const alter_entry *in, struct quota_entity *e, struct str *why) {
    char address[QUOTA_ADDRESS_BYTES];
    for (int32_t i = 0; i < in->entity_n; i++) {
        enum quota_type type;
        struct str type_name = in->entity[i].entity_type;
        if (!quota_type_find(type_name, &type)) {
            *why = request_printf(rq, "Unhandled client quota entity type: %.*s", (int)MIN(type_name.len, 200), type_name.p);
            return false;
        }
        if (e->has[type]) {
            *why = request_printf(rq, "Invalid client quota entity, duplicate entity entry %s", quota_type_name(type));
            return false;
        }
        e->has[type] = true;
        e->name[type] = in->entity[i].entity_name;
    }
    const char *problem = quota_entity_problem(e);
    if (problem) {
        *why = str_from(problem);
        return false;
    }
    if (e->has[QUOTA_IP] && e->name[QUOTA_IP].p && quota_address(e->name[QUOTA_IP], address))
        e->name[QUOTA_IP] = request_copy(rq, str_from(address));
    return true;
}

static bool check_ops(struct request *rq, const alter_entry *in, const struct quota_entity *e, struct str *why) {
    for (int32_t i = 0; i < in->ops_n; i++) {
        const struct str name = in->ops[i].key;
        enum quota_key key;
        bool known = quota_key_find(name, &key);
        if (in->ops[i].remove) continue; /* what is not set is not there to remove */
        const char *problem = known ? quota_value_problem(e, key, in->ops[i].value) : "Invalid configuration key";
        if (!problem) continue;
        *why = request_printf(rq, "%s: %.*s", problem, (int)MIN(name.len, 200), name.p);
        return false;
    }
    return true;
}

/* Only what changes becomes a record. A request may name an entity twice, so then all of it does. */
static void add_records(struct alter_quotas *s, int32_t i, const struct quota *now, struct controller_edit *e) {
    const alter_entry *in = &s->in.entries[i];
    bool alone = s->out.entries_n == 1 && in->ops_n == 1;
    for (int32_t k = 0; k < in->ops_n; k++) {
        enum quota_key key;
        if (!quota_key_find(in->ops[k].key, &key)) continue;
        double value = in->ops[k].remove ? 0 : in->ops[k].value, is = now ? now->values[key] : 0;
        if (alone && value == is) continue;
        controller_set_quota(e, &s->entities[i], quota_key_name(key), value);
    }
}

static void make(struct controller_change *ch, struct controller_edit *e) {
    struct alter_quotas *s = ch->owner;
    const struct quota_set *set = controller_edit_image(e)->quotas;
    uint32_t count = set ? set->count : 0;
    for (int32_t i = 0; i < s->out.entries_n; i++) {
        alter_result *r = &s->out.entries[i];
        if (r->error_code) continue;
        const struct quota *now = quota_set_find(set, &s->entities[i]);
        if (!now && count >= QUOTA_ENTITIES_MAX) {
            refuse(r, KERR_POLICY_VIOLATION, STR_LIT("There are quotas for 10000 entities already"));
            continue;
        }
        if (!now) count++;
        if (!s->in.validate_only) add_records(s, i, now, e);
    }
}

static void alter_done(struct controller_change *ch) {
    struct alter_quotas *s = ch->owner;
    for (int32_t i = 0; i < s->out.entries_n; i++)
        if (api_change_failed(ch, s->out.entries[i].error_code))
            refuse(&s->out.entries[i], api_change_error(ch->err), str_from(err_str(ch->err)));
    struct wire_writer *w = request_reply_begin(s->rq);
    k_alter_client_quotas_response_encode(&s->out, w, request_version(s->rq));
    request_reply(s->rq);
}

/* The answer repeats the entities as they were asked for. */
static bool prepare(struct alter_quotas *s, int32_t i) {
    const alter_entry *in = &s->in.entries[i];
    alter_result *r = &s->out.entries[i];
    struct str why;
    k_alter_client_quotas_response_entries_init(r);
    r->error_message = STR_NULL;
    r->entity = request_alloc(s->rq, (size_t)MAX(in->entity_n, 0), sizeof *r->entity);
    if (!r->entity) return false;
    r->entity_n = MAX(in->entity_n, 0);
    for (int32_t k = 0; k < r->entity_n; k++)
        r->entity[k] = (struct k_alter_client_quotas_response_entries_entity){in->entity[k].entity_type, in->entity[k].entity_name};
    if (!read_entity(s->rq, in, &s->entities[i], &why) || !check_ops(s->rq, in, &s->entities[i], &why)) refuse(r, KERR_INVALID_REQUEST, why);
    return true;
}

void api_alter_client_quotas(struct request *rq) {
    struct alter_quotas *s = request_alloc(rq, 1, sizeof *s);
    if (!s) return;
    s->rq = rq;
    if (!request_decoded(rq, k_alter_client_quotas_request_decode(&s->in, &rq->body, request_version(rq)))) return;
    k_alter_client_quotas_response_init(&s->out);
    size_t n = (size_t)MAX(s->in.entries_n, 0);
    s->out.entries = request_alloc(rq, n, sizeof *s->out.entries);
    if (!s->out.entries) return;
    s->entities = request_alloc(rq, n, sizeof *s->entities);
    if (!s->entities) return;
    s->out.entries_n = (int32_t)n;
    for (int32_t i = 0; i < (int32_t)n; i++)
        if (!prepare(s, i)) return;
    s->change = (struct controller_change){.caller = rq->reactor, .make = make, .done = alter_done, .owner = s};
    controller_submit(request_broker(rq)->controller, &s->change);
}

/* ---- DescribeClientQuotas --------------------------------------------------------------------------------- */

enum match { MATCH_EXACT = 0, MATCH_DEFAULT = 1, MATCH_ANY = 2 };

struct filter {
    bool used[QUOTA_TYPES];
    enum match match[QUOTA_TYPES];
    struct str name[QUOTA_TYPES];
    int32_t count;
    bool strict;
};

static int16_t add_component(struct request *rq, const struct k_describe_client_quotas_request_components *in, struct filter *f,
                             struct str *why) {
    enum quota_type type;
    char address[QUOTA_ADDRESS_BYTES];
    *why = STR_LIT("Invalid empty entity type.");
    if (in->entity_type.len == 0) return KERR_INVALID_REQUEST;
    *why = request_printf(rq, "Unsupported entity type: %.*s", (int)MIN(in->entity_type.len, 200), in->entity_type.p);
    if (!quota_type_find(in->entity_type, &type)) return KERR_UNSUPPORTED_VERSION;
    *why = request_printf(rq, "Entity type %s cannot appear more than once in the filter.", quota_type_name(type));
    if (f->used[type]) return KERR_INVALID_REQUEST;
    *why = request_printf(rq, "Unknown match type %d", in->match_type);
    if (in->match_type < MATCH_EXACT || in->match_type > MATCH_ANY) return KERR_INVALID_REQUEST;
    *why = STR_LIT("An exact match needs a match string, and no other match may have one.");
    if ((in->match_type == MATCH_EXACT) != (in->match.p != NULL)) return KERR_INVALID_REQUEST;
    f->used[type] = true;
    f->match[type] = (enum match)in->match_type;
    f->name[type] = in->match;
    if (type == QUOTA_IP && in->match.p && quota_address(in->match, address)) f->name[type] = request_copy(rq, str_from(address));
    f->count++;
    *why = STR_LIT("Invalid entity filter component combination. IP filter component should not be used with user or clientId filter "
                   "component.");
    return f->used[QUOTA_IP] && (f->used[QUOTA_USER] || f->used[QUOTA_CLIENT]) ? KERR_INVALID_REQUEST : KERR_NONE;
}

static bool matches(const struct filter *f, const struct quota_entity *e) {
    int32_t count = 0;
    for (int t = 0; t < QUOTA_TYPES; t++) {
        count += e->has[t];
        if (!f->used[t]) continue;
        if (!e->has[t]) return false;
        if (f->match[t] == MATCH_DEFAULT && e->name[t].p) return false;
        if (f->match[t] == MATCH_EXACT && !str_eq(f->name[t], e->name[t])) return false;
    }
    return !f->strict || count == f->count;
}

/* False: the connection is being closed. The image is there until the answer is encoded. */
static bool list_entry(struct request *rq, const struct quota *q, struct k_describe_client_quotas_response_entries *out) {
    k_describe_client_quotas_response_entries_init(out);
    out->entity = request_alloc(rq, QUOTA_TYPES, sizeof *out->entity);
    if (!out->entity) return false;
    out->values = request_alloc(rq, QUOTA_KEYS, sizeof *out->values);
    if (!out->values) return false;
    for (int t = 0; t < QUOTA_TYPES; t++)
        if (q->entity.has[t])
            out->entity[out->entity_n++] = (struct k_describe_client_quotas_response_entries_entity){
                str_from(quota_type_name((enum quota_type)t)), q->entity.name[t]};
    for (int k = 0; k < QUOTA_KEYS; k++)
        if (q->values[k] > 0)
            out->values[out->values_n++] = (struct k_describe_client_quotas_response_entries_values){
                str_from(quota_key_name((enum quota_key)k)), q->values[k]};
    return true;
}

static bool list_matching(struct request *rq, const struct filter *f, struct k_describe_client_quotas_response *out) {
    const struct quota_set *set = request_image(rq)->quotas;
    int32_t count = 0;
    for (uint32_t i = 0; set && i < set->count; i++) count += matches(f, &set->list[i]->entity);
    out->entries = request_alloc(rq, (size_t)count, sizeof *out->entries);
    if (!out->entries) return false;
    for (uint32_t i = 0; set && i < set->count; i++)
        if (matches(f, &set->list[i]->entity) && !list_entry(rq, set->list[i], &out->entries[out->entries_n++])) return false;
    return true;
}

void api_describe_client_quotas(struct request *rq) {
    struct k_describe_client_quotas_request m;
    struct k_describe_client_quotas_response out;
    if (!request_decoded(rq, k_describe_client_quotas_request_decode(&m, &rq->body, request_version(rq)))) return;
    struct filter f = {.strict = m.strict};
    k_describe_client_quotas_response_init(&out);
    out.error_message = STR_NULL;
    for (int32_t i = 0; i < m.components_n && !out.error_code; i++)
        out.error_code = add_component(rq, &m.components[i], &f, &out.error_message);
    if (out.error_code) {
        out.entries_n = -1;
    } else {
        out.error_message = STR_NULL;
        if (!list_matching(rq, &f, &out)) return;
    }
    struct wire_writer *w = request_reply_begin(rq);
    k_describe_client_quotas_response_encode(&out, w, request_version(rq));
    request_reply(rq);
}
