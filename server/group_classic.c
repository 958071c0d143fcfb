/* group_classic.c - members and records of a classic group, and what became of a record. Joining: group_classic_join.c. */
#include "server/group_classic.h"
#include <stdlib.h>
#include "base/assert.h"
#include "proto/kafka_errors.h"
#include "proto/kafka_messages.h"
#include "server/group_classic_impl.h"

/* ---- memory ------------------------------------------------------------------------------------------ */

static bool set_text(struct classic_group *g, struct str *field, struct str value) {
    char *copy = NULL;
    if (value.p) {
        copy = malloc((size_t)MAX(value.len, 1));
        if (!copy) return false;
        if (value.len > 0) memcpy(copy, value.p, (size_t)value.len);
    }
    g->bytes += value.len - field->len;
    free((char *)field->p);
    *field = copy ? (struct str){copy, value.len} : STR_NULL;
    return true;
}

struct classic_group *classic_new(void) {
    struct classic_group *g = calloc(1, sizeof *g);
    if (!g) return NULL;
    g->bytes = sizeof *g;
    g->join_deadline_ms = g->sync_deadline_ms = g->next_deadline_ms = CLASSIC_NEVER;
    return g;
}

static void member_free(struct classic_group *g, struct classic_member *m) {
    g->bytes -= m->bytes;
    free((char *)m->id.p);
    free(m->protocols);
    free((uint8_t *)m->assignment.p);
    free(m);
}

/* All texts in one block, which `id` owns. */
struct classic_member *classic_add(struct classic_group *g, struct str id, struct str instance_id, struct str client_id,
                                   struct str client_host) {
    struct classic_member *m = calloc(1, sizeof *m);
    size_t len = (size_t)id.len + (size_t)instance_id.len + (size_t)client_id.len + (size_t)client_host.len;
    char *text = malloc(len + 1);
    if (!m || !text) {
        free(m);
        free(text);
        return NULL;
    }
    const struct str from[] = {id, instance_id, client_id, client_host};
    struct str *to[] = {&m->id, &m->instance_id, &m->client_id, &m->client_host};
    for (unsigned i = 0; i < ARRAY_LEN(from); i++) {
        *to[i] = from[i].p ? (struct str){text, from[i].len} : STR_NULL;
        if (from[i].len > 0) memcpy(text, from[i].p, (size_t)from[i].len);
        text += from[i].len;
    }
    m->deadline_ms = CLASSIC_NEVER;
    m->bytes = (int64_t)(sizeof *m + len);
    g->bytes += m->bytes;
    HASH_ADD_KEYPTR(hh, g->members, m->id.p, (unsigned)m->id.len, m);
    if (m->instance_id.p) HASH_ADD_KEYPTR(hh_instance, g->by_instance, m->instance_id.p, (unsigned)m->instance_id.len, m);
    g->count++;
    return m;
}

bool classic_set_protocols(struct classic_group *g, struct classic_member *m, const struct classic_protocol *list, int32_t count) {
    size_t bytes = (size_t)count * sizeof *list, size = bytes;
    for (int32_t i = 0; i < count; i++) size += (size_t)list[i].name.len + (size_t)MAX(list[i].metadata.len, 0);
    struct classic_protocol *copy = malloc(MAX(size, (size_t)1));
    if (!copy) return false;
    uint8_t *at = (uint8_t *)copy + bytes;
    int64_t before = 0;
    for (int32_t i = 0; i < m->protocol_count; i++)
        before += (int64_t)sizeof *list + m->protocols[i].name.len + m->protocols[i].metadata.len;
    for (int32_t i = 0; i < count; i++) {
        int32_t len = MAX(list[i].metadata.len, 0);
        copy[i] = (struct classic_protocol){{(char *)at, list[i].name.len}, {at + list[i].name.len, len}};
        if (list[i].name.len > 0) memcpy(at, list[i].name.p, (size_t)list[i].name.len);
        if (len > 0) memcpy(at + list[i].name.len, list[i].metadata.p, (size_t)len);
        at += list[i].name.len + len;
    }
    free(m->protocols);
    m->protocols = copy;
    m->protocol_count = count;
    m->bytes += (int64_t)size - before;
    g->bytes += (int64_t)size - before;
    return true;
}

static bool set_assignment(struct classic_group *g, struct classic_member *m, struct bytes assignment) {
    uint8_t *copy = NULL;
    if (assignment.len > 0) {
        copy = malloc((size_t)assignment.len);
        if (!copy) return false;
        memcpy(copy, assignment.p, (size_t)assignment.len);
    }
    m->bytes += assignment.len - m->assignment.len;
    g->bytes += assignment.len - m->assignment.len;
    free((uint8_t *)m->assignment.p);
    m->assignment = (struct bytes){copy, copy ? assignment.len : 0};
    return true;
}

void classic_remove(struct classic_group *g, const struct classic_env *env, struct classic_member *m, int16_t error) {
    if (m->join_ticket) {
        classic_answer_join(env, m->join_ticket, error, m->id);
        g->joining--;
    }
    if (m->sync_ticket) classic_answer_sync(env, m->sync_ticket, error);
    HASH_DELETE(hh, g->members, m);
    if (m->instance_id.p) HASH_DELETE(hh_instance, g->by_instance, m);
    g->count--;
    member_free(g, m);
}

static void replacement_free(struct classic_group *g) {
    if (!g->replacement) return;
    free(g->replacement->protocols);
    free((char *)g->replacement->member_id.p);
    free((char *)g->replacement->old_leader.p);
    free(g->replacement);
    g->replacement = NULL;
}

void classic_free(struct classic_group *g) {
    if (!g) return;
    struct classic_member *m, *next;
    HASH_CLEAR(hh_instance, g->by_instance);
    HASH_ITER(hh, g->members, m, next) {
        HASH_DELETE(hh, g->members, m);
        member_free(g, m);
    }
    struct classic_pending *p, *p_next;
    HASH_ITER(hh, g->pending, p, p_next) classic_pending_remove(g, p);
    replacement_free(g);
    set_text(g, &g->protocol_type, STR_NULL);
    set_text(g, &g->protocol, STR_NULL);
    set_text(g, &g->leader, STR_NULL);
    ASSERT(g->bytes == sizeof *g);
    free(g);
}

bool classic_set_type(struct classic_group *g, struct str type) { return set_text(g, &g->protocol_type, type); }

/* ---- questions ----------------------------------------------------------------------------------------- */

bool classic_is_nothing(const struct classic_group *g) {
    return !g->recorded && g->count == 0 && !g->pending && g->change == CLASSIC_NO_CHANGE;
}

struct classic_member *classic_member(const struct classic_group *g, struct str id) {
    struct classic_member *m = NULL;
    HASH_FIND(hh, g->members, id.p, (unsigned)id.len, m);
    return m;
}

int16_t classic_find(const struct classic_group *g, struct str member_id, struct str instance_id, struct classic_member **out) {
    struct classic_member *m = NULL;
    *out = NULL;
    if (instance_id.p) {
        HASH_FIND(hh_instance, g->by_instance, instance_id.p, (unsigned)instance_id.len, m);
        if (!m) return KERR_UNKNOWN_MEMBER_ID;
        if (!str_eq(m->id, member_id)) return KERR_FENCED_INSTANCE_ID;
    } else {
        m = classic_member(g, member_id);
        if (!m) return KERR_UNKNOWN_MEMBER_ID;
    }
    *out = m;
    return KERR_NONE;
}

struct bytes classic_metadata(const struct classic_member *m, struct str protocol) {
    for (int32_t i = 0; i < m->protocol_count; i++)
        if (str_eq(m->protocols[i].name, protocol)) return m->protocols[i].metadata;
    return BYTES_NULL;
}

const char *classic_state_name(enum classic_state state) {
    static const char *const names[] = {"Empty", "PreparingRebalance", "CompletingRebalance", "Stable"};
    return names[state];
}

void classic_due(struct classic_group *g, int64_t deadline_ms) { g->next_deadline_ms = MIN(g->next_deadline_ms, deadline_ms); }

void classic_alive(struct classic_group *g, const struct classic_env *env, struct classic_member *m) {
    m->deadline_ms = env->now_ms + m->session_ms;
    classic_due(g, m->deadline_ms);
}

int32_t classic_rebalance_ms(const struct classic_group *g) {
    int32_t most = 0;
    for (const struct classic_member *m = g->members; m; m = m->hh.next) most = MAX(most, m->rebalance_ms);
    return most;
}

/* ---- answers --------------------------------------------------------------------------------------------- */

void classic_answer_join(const struct classic_env *env, void *ticket, int16_t error, struct str member_id) {
    struct classic_join_reply reply = {.error = error, .generation = -1, .leader = STR_LIT(""), .member_id = member_id};
    env->join_reply(env->ctx, ticket, &reply);
}

void classic_answer_sync(const struct classic_env *env, void *ticket, int16_t error) {
    struct classic_sync_reply reply = {.error = error, .assignment = {(const uint8_t *)"", 0}};
    env->sync_reply(env->ctx, ticket, &reply);
}

void classic_answer_assigned(const struct classic_group *g, const struct classic_env *env, void *ticket, const struct classic_member *m) {
    struct classic_sync_reply reply = {KERR_NONE, g->protocol_type, g->protocol, m->assignment};
    if (!reply.assignment.p) reply.assignment = (struct bytes){(const uint8_t *)"", 0};
    env->sync_reply(env->ctx, ticket, &reply);
}

/* ---- records ----------------------------------------------------------------------------------------------- */

static struct bytes not_null(struct bytes b) { return b.p ? b : (struct bytes){(const uint8_t *)"", 0}; }

static struct bytes assignment_of(const struct classic_member *m, const struct classic_future *f) {
    return not_null(f->assigned == CLASSIC_HAVE ? m->assignment : f->assigned == CLASSIC_GIVEN ? m->given : BYTES_NULL);
}

static struct k_group_metadata_value_member_metadata member_value(const struct classic_member *m, const struct classic_future *f) {
    struct k_group_metadata_value_member_metadata v;
    k_group_metadata_value_member_metadata_init(&v);
    v.member_id = m->id;
    v.group_instance_id = m->instance_id;
    v.client_id = m->client_id;
    v.client_host = m->client_host;
    v.rebalance_timeout = m->rebalance_ms;
    v.session_timeout = m->session_ms;
    v.subscription = not_null(classic_metadata(m, f->protocol));
    v.assignment = assignment_of(m, f);
    return v;
}

void classic_put(const struct classic_group *g, const struct classic_env *env, const struct classic_future *f, struct group_records *out) {
    struct group_key key = {.type = K_GROUP_METADATA_KEY_TYPE, .group = f->group};
    struct group_value value;
    group_value_init(key.type, &value);
    struct k_group_metadata_value *v = &value.group_metadata;
    v->protocol_type = g->protocol_type.p ? g->protocol_type : STR_LIT("");
    v->generation = f->generation;
    v->protocol = f->protocol;
    v->leader = f->leader;
    v->current_state_timestamp = env->wall_ms;
    struct k_group_metadata_value_member_metadata *members = calloc(MAX(g->count, 1u), sizeof *members);
    if (!members) {
        if (!out->err) out->err = ERR_NOMEM;
        return;
    }
    v->members = members;
    for (const struct classic_member *m = g->members; m; m = m->hh.next) members[v->members_n++] = member_value(m, f);
    if (g->replacement && g->change == CLASSIC_REPLACEMENT) classic_replace_in(g, f, members, v->members_n);
    group_records_put(out, &key, &value);
    free(members);
}

/* ---- replay --------------------------------------------------------------------------------------------------- */

static enum err replay_member(struct classic_group *g, const struct classic_env *env, struct str protocol,
                              const struct k_group_metadata_value_member_metadata *v) {
    struct classic_member *m = classic_member(g, v->member_id);
    if (!m) {
        struct classic_member *other = NULL; /* a static member that was replaced */
        if (v->group_instance_id.p)
            HASH_FIND(hh_instance, g->by_instance, v->group_instance_id.p, (unsigned)v->group_instance_id.len, other);
        if (other) classic_remove(g, env, other, KERR_FENCED_INSTANCE_ID);
        m = classic_add(g, v->member_id, v->group_instance_id, v->client_id, v->client_host);
        if (!m) return ERR_NOMEM;
        struct classic_protocol only = {protocol, v->subscription};
        if (!classic_set_protocols(g, m, &only, protocol.p ? 1 : 0)) return ERR_NOMEM;
        m->session_ms = v->session_timeout;
        m->rebalance_ms = v->rebalance_timeout >= 0 ? v->rebalance_timeout : v->session_timeout;
        classic_alive(g, env, m);
    }
    m->named = true;
    return set_assignment(g, m, v->assignment) ? OK : ERR_NOMEM;
}

/* Those that the record does not name are gone. */
static void replay_gone(struct classic_group *g, const struct classic_env *env) {
    struct classic_member *m, *next;
    HASH_ITER(hh, g->members, m, next) {
        if (!m->named) classic_remove(g, env, m, KERR_UNKNOWN_MEMBER_ID);
        else m->named = false;
    }
}

void classic_forget(struct classic_group *g, const struct classic_env *env, int16_t error) {
    struct classic_pending *p, *p_next;
    HASH_ITER(hh, g->pending, p, p_next) classic_pending_remove(g, p);
    struct classic_member *m, *next;
    HASH_ITER(hh, g->members, m, next) classic_remove(g, env, m, error);
    set_text(g, &g->protocol, STR_NULL);
    set_text(g, &g->leader, STR_NULL);
    set_text(g, &g->protocol_type, STR_NULL);
    g->generation = 0;
    g->state = CLASSIC_EMPTY;
    g->recorded = false;
    g->join_deadline_ms = g->sync_deadline_ms = CLASSIC_NEVER;
}

enum err classic_replay(struct classic_group *g, const struct classic_env *env, const struct k_group_metadata_value *v) {
    if (!set_text(g, &g->protocol_type, v->protocol_type.len > 0 ? v->protocol_type : STR_NULL) || !set_text(g, &g->protocol, v->protocol) ||
        !set_text(g, &g->leader, v->leader)) return ERR_NOMEM;
    g->recorded = true;
    g->generation = v->generation;
    g->state_wall_ms = v->current_state_timestamp;
    bool assigned = false;
    for (int32_t i = 0; i < v->members_n; i++) {
        enum err err = replay_member(g, env, v->protocol, &v->members[i]);
        if (err) return err;
        assigned = assigned || v->members[i].assignment.len > 0;
    }
    replay_gone(g, env);
    g->join_deadline_ms = g->sync_deadline_ms = CLASSIC_NEVER;
    g->initial = false;
    g->state = g->count == 0 ? CLASSIC_EMPTY : assigned ? CLASSIC_STABLE : CLASSIC_COMPLETING;
    if (g->count > 0 && !assigned) {
        for (struct classic_member *m = g->members; m; m = m->hh.next) m->synced = false;
        g->sync_deadline_ms = env->now_ms + classic_rebalance_ms(g);
        classic_due(g, g->sync_deadline_ms);
    }
    return OK;
}

void classic_loaded(struct classic_group *g, const struct classic_env *env) {
    for (struct classic_member *m = g->members; m; m = m->hh.next) classic_alive(g, env, m);
    if (g->sync_deadline_ms == CLASSIC_NEVER) return;
    g->sync_deadline_ms = env->now_ms + classic_rebalance_ms(g);
    classic_due(g, g->sync_deadline_ms);
}

/* ---- what became of the record ------------------------------------------------------------------------------------ */

static void generation_begins(struct classic_group *g, const struct classic_env *env) {
    for (struct classic_member *m = g->members; m; m = m->hh.next) {
        m->synced = false;
        m->is_new = false;
        if (m->join_ticket) {
            void *ticket = m->join_ticket;
            m->join_ticket = NULL;
            classic_alive(g, env, m);
            classic_answer_joined(g, env, ticket, m, str_eq(m->id, g->leader), false);
        }
    }
    g->joining = 0;
}

static void assignment_begins(struct classic_group *g, const struct classic_env *env) {
    g->state = CLASSIC_STABLE; /* also when the leader assigned nothing to anybody */
    g->sync_deadline_ms = env->now_ms + classic_rebalance_ms(g);
    classic_due(g, g->sync_deadline_ms);
    for (struct classic_member *m = g->members; m; m = m->hh.next) {
        if (!m->sync_ticket) continue;
        void *ticket = m->sync_ticket;
        m->sync_ticket = NULL;
        classic_alive(g, env, m);
        classic_answer_assigned(g, env, ticket, m);
    }
}

static void replacement_begins(struct classic_group *g, const struct classic_env *env) {
    struct classic_replacement *r = g->replacement;
    struct classic_member *m = classic_member(g, r->member_id);
    ASSERT(m != NULL); /* just replayed */
    bool leader = str_eq(m->id, g->leader);
    if (!classic_set_protocols(g, m, r->protocols, r->protocol_count)) { /* then it goes on with what was recorded */ }
    m->session_ms = r->session_ms;
    m->rebalance_ms = r->rebalance_ms;
    m->synced = true;
    classic_alive(g, env, m);
    if (r->can_skip_assignment) {
        classic_answer_joined(g, env, r->ticket, m, leader, leader);
    } else { /* an older client must not take itself for the leader: nobody waits for its assignment */
        struct classic_join_reply reply = {KERR_NONE, g->generation, g->protocol_type, g->protocol, r->old_leader, m->id, false, NULL};
        env->join_reply(env->ctx, r->ticket, &reply);
    }
}

void classic_committed(struct classic_group *g, const struct classic_env *env) {
    enum classic_change change = g->change;
    g->change = CLASSIC_NO_CHANGE;
    switch (change) {
    case CLASSIC_NO_CHANGE:
    case CLASSIC_EMPTIED: break;
    case CLASSIC_GENERATION: generation_begins(g, env); break;
    case CLASSIC_ASSIGNMENT: assignment_begins(g, env); break;
    case CLASSIC_REPLACEMENT: replacement_begins(g, env); break;
    }
    replacement_free(g);
}

/* Those who wait come again: the rebalance ends with them, or when its time is up. */
static void generation_failed(struct classic_group *g, const struct classic_env *env, int16_t error) {
    for (struct classic_member *m = g->members; m; m = m->hh.next) {
        if (!m->join_ticket) continue;
        void *ticket = m->join_ticket;
        m->join_ticket = NULL;
        classic_alive(g, env, m);
        classic_answer_join(env, ticket, error, m->id);
    }
    g->joining = 0;
    g->initial = false;
    g->join_deadline_ms = env->now_ms + classic_rebalance_ms(g);
    classic_due(g, g->join_deadline_ms);
}

static void assignment_failed(struct classic_group *g, const struct classic_env *env, int16_t error) {
    for (struct classic_member *m = g->members; m; m = m->hh.next) {
        if (!m->sync_ticket) continue;
        void *ticket = m->sync_ticket;
        m->sync_ticket = NULL;
        m->synced = false;
        classic_alive(g, env, m);
        classic_answer_sync(env, ticket, error);
    }
}

enum { RETRY_MS = 1000 };

void classic_failed(struct classic_group *g, const struct classic_env *env, int16_t error) {
    enum classic_change change = g->change;
    g->change = CLASSIC_NO_CHANGE;
    switch (change) {
    case CLASSIC_NO_CHANGE: break;
    case CLASSIC_EMPTIED:
        g->join_deadline_ms = env->now_ms + RETRY_MS;
        classic_due(g, g->join_deadline_ms);
        break;
    case CLASSIC_GENERATION: generation_failed(g, env, error); break;
    case CLASSIC_ASSIGNMENT: assignment_failed(g, env, error); break;
    case CLASSIC_REPLACEMENT: classic_answer_join(env, g->replacement->ticket, error, STR_LIT("")); break;
    }
    replacement_free(g);
}
