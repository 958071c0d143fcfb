/* group_classic_join.c - how members of a classic group come, meet in a generation, get their assignments, and go. */
#include <stdlib.h>
#include "base/assert.h"
#include "proto/kafka_errors.h"
#include "proto/kafka_messages.h"
#include "server/group_classic_impl.h"

enum {
    NEW_MEMBER_MS = 300000,     /* a member that was in no generation yet may wait so long for its first */
    MEMBER_ID_BYTES_MAX = 32000 /* a string of the protocol has 32767 at most */
};

/* ---- protocols ----------------------------------------------------------------------------------------- */

static bool knows(const struct classic_protocol *list, int32_t count, struct str name) {
    for (int32_t i = 0; i < count; i++)
        if (str_eq(list[i].name, name)) return true;
    return false;
}

/* What a member says; `in` speaks for `replaced`. */
struct said { const struct classic_protocol *list; int32_t count; };
static struct said says(const struct classic_member *m, const struct classic_member *replaced, const struct classic_join *in) {
    return m == replaced ? (struct said){in->protocols, in->protocol_count} : (struct said){m->protocols, m->protocol_count};
}

static bool all_know(const struct classic_group *g, const struct classic_member *replaced, const struct classic_join *in, struct str name) {
    for (const struct classic_member *m = g->members; m; m = m->hh.next) {
        struct said s = says(m, replaced, in);
        if (!knows(s.list, s.count, name)) return false;
    }
    return true;
}

/* `n`: it is not there. */
static int32_t index_of(const struct str *list, int32_t n, struct str name) {
    int32_t i = 0;
    while (i < n && !str_eq(list[i], name)) i++;
    return i;
}

/* Each member votes for the first of its protocols that all know; the most votes win, of equals the first found. Null: none. */
static struct str choose(const struct classic_group *g, const struct classic_member *replaced, const struct classic_join *in) {
    if (!g->members) return STR_NULL;
    struct said first = says(g->members, replaced, in);
    struct str common[CLASSIC_PROTOCOLS_MAX]; /* in the order of the first member */
    uint32_t votes[CLASSIC_PROTOCOLS_MAX] = {0};
    int32_t n = 0, best = 0;
    for (int32_t i = 0; i < first.count && n < CLASSIC_PROTOCOLS_MAX; i++)
        if (all_know(g, replaced, in, first.list[i].name)) common[n++] = first.list[i].name;
    if (n == 0) return STR_NULL;
    for (const struct classic_member *m = g->members; m; m = m->hh.next) {
        struct said s = says(m, replaced, in);
        int32_t at = n;
        for (int32_t k = 0; k < s.count && at == n; k++) at = index_of(common, n, s.list[k].name);
        ASSERT(at < n); /* it knows all of them */
        votes[at]++;
    }
    for (int32_t i = 1; i < n; i++)
        if (votes[i] > votes[best]) best = i;
    return common[best];
}

static bool supported(const struct classic_group *g, const struct classic_join *in) {
    if (in->protocol_type.len == 0 || in->protocol_count <= 0 || in->protocol_count > CLASSIC_PROTOCOLS_MAX) return false;
    if (g->count == 0) return true;
    if (!str_eq(g->protocol_type, in->protocol_type)) return false;
    for (int32_t i = 0; i < in->protocol_count; i++)
        if (all_know(g, NULL, NULL, in->protocols[i].name)) return true;
    return false;
}

static bool same_protocols(const struct classic_member *m, const struct classic_join *in) {
    if (m->protocol_count != in->protocol_count) return false;
    for (int32_t i = 0; i < m->protocol_count; i++) {
        const struct classic_protocol *a = &m->protocols[i], *b = &in->protocols[i];
        if (!str_eq(a->name, b->name) || a->metadata.len != b->metadata.len) return false;
        if (a->metadata.len > 0 && memcmp(a->metadata.p, b->metadata.p, (size_t)a->metadata.len) != 0) return false;
    }
    return true;
}

/* ---- the rebalance ------------------------------------------------------------------------------------------ */

void classic_answer_joined(const struct classic_group *g, const struct classic_env *env, void *ticket, const struct classic_member *m,
                           bool list, bool skip) {
    struct classic_join_reply reply = {KERR_NONE, g->generation, g->protocol_type, g->protocol, g->leader, m->id, skip, list ? g : NULL};
    env->join_reply(env->ctx, ticket, &reply);
}

/* The leader of the generation before, if it is here, else whoever was here first. */
static struct str elect(const struct classic_group *g) {
    const struct classic_member *leader = g->leader.p ? classic_member(g, g->leader) : NULL;
    if (leader && leader->join_ticket) return leader->id;
    for (const struct classic_member *m = g->members; m; m = m->hh.next)
        if (m->join_ticket) return m->id;
    return STR_NULL;
}

/* Time is up or all are here: dynamic members that did not come are out. Static ones keep their place (KIP-345), but
 * somebody has to lead. */
static void complete(struct classic_group *g, const struct classic_env *env, struct str group, struct group_records *out) {
    struct classic_member *m, *next;
    HASH_ITER(hh, g->members, m, next)
        if (!m->join_ticket && !m->instance_id.p) classic_remove(g, env, m, KERR_UNKNOWN_MEMBER_ID);
    g->join_deadline_ms = CLASSIC_NEVER;
    struct classic_future f = {.group = group, .generation = g->generation + 1, .assigned = CLASSIC_NONE};
    if (g->count > 0) {
        f.leader = elect(g);
        f.protocol = choose(g, NULL, NULL);
        if (!f.leader.p || !f.protocol.p) { /* nobody came; those who are kept may have nothing in common with who did */
            g->initial = false;
            g->join_deadline_ms = env->now_ms + MAX(classic_rebalance_ms(g), 1);
            classic_due(g, g->join_deadline_ms);
            return;
        }
    } else {
        f.protocol = f.leader = STR_NULL;
    }
    g->initial = false;
    g->change = g->count > 0 ? CLASSIC_GENERATION : CLASSIC_EMPTIED;
    classic_put(g, env, &f, out);
}

static void maybe_complete(struct classic_group *g, const struct classic_env *env, struct str group, struct group_records *out) {
    if (g->state != CLASSIC_PREPARING || g->initial || g->change != CLASSIC_NO_CHANGE) return;
    if (g->joining == g->count && !g->pending) complete(g, env, group, out);
}

/* The first delay is over: once more if somebody came meanwhile (KIP-134). */
static void delay_over(struct classic_group *g, const struct classic_env *env, struct str group, struct group_records *out) {
    if (!g->joined_since || g->initial_left_ms <= 0) {
        complete(g, env, group, out);
        return;
    }
    int64_t delay_ms = MIN((int64_t)env->initial_delay_ms, g->initial_left_ms);
    g->joined_since = false;
    g->initial_left_ms -= delay_ms;
    g->join_deadline_ms = env->now_ms + delay_ms;
    classic_due(g, g->join_deadline_ms);
}

static void prepare(struct classic_group *g, const struct classic_env *env) {
    for (struct classic_member *m = g->members; m; m = m->hh.next) {
        m->synced = false;
        if (!m->sync_ticket) continue;
        void *ticket = m->sync_ticket;
        m->sync_ticket = NULL;
        classic_alive(g, env, m);
        classic_answer_sync(env, ticket, KERR_REBALANCE_IN_PROGRESS);
    }
    g->sync_deadline_ms = CLASSIC_NEVER;
    g->initial = g->state == CLASSIC_EMPTY;
    g->state = CLASSIC_PREPARING;
    int64_t wait_ms = classic_rebalance_ms(g);
    if (g->initial) {
        g->joined_since = false;
        g->initial_left_ms = MAX(wait_ms - env->initial_delay_ms, 0);
        wait_ms = env->initial_delay_ms;
    }
    g->join_deadline_ms = env->now_ms + wait_ms;
    classic_due(g, g->join_deadline_ms);
}

void classic_rebalance(struct classic_group *g, const struct classic_env *env, struct str group, struct group_records *out) {
    if (g->state != CLASSIC_PREPARING) prepare(g, env);
    if (g->initial && env->initial_delay_ms == 0) complete(g, env, group, out);
    else maybe_complete(g, env, group, out);
}

/* ---- JoinGroup -------------------------------------------------------------------------------------------------- */

static bool id_make(const struct classic_join *in, char out[MEMBER_ID_BYTES_MAX + 64], struct str *id) {
    struct str prefix = in->instance_id.p ? in->instance_id : in->client_id;
    int32_t len = MIN(prefix.len, MEMBER_ID_BYTES_MAX);
    if (in->fresh.len > 60) return false;
    if (len > 0) memcpy(out, prefix.p, (size_t)len);
    out[len] = '-';
    memcpy(out + len + 1, in->fresh.p, (size_t)in->fresh.len);
    *id = (struct str){out, len + 1 + in->fresh.len};
    return true;
}

void classic_pending_remove(struct classic_group *g, struct classic_pending *p) {
    HASH_DEL(g->pending, p);
    g->bytes -= p->bytes;
    free(p);
}

static struct classic_pending *pending_find(const struct classic_group *g, struct str id) {
    struct classic_pending *p = NULL;
    HASH_FIND(hh, g->pending, id.p, (unsigned)id.len, p);
    return p;
}

static bool pending_add(struct classic_group *g, const struct classic_env *env, struct str id, int32_t session_ms) {
    struct classic_pending *p = calloc(1, sizeof *p + (size_t)id.len);
    if (!p) return false;
    memcpy(p->id, id.p, (size_t)id.len);
    p->id_len = id.len;
    p->bytes = (int64_t)sizeof *p + id.len;
    p->deadline_ms = env->now_ms + session_ms;
    g->bytes += p->bytes;
    HASH_ADD(hh, g->pending, id, (unsigned)id.len, p);
    classic_due(g, p->deadline_ms);
    return true;
}

/* What it says now; it waits for the generation. An older request of its own is over. */
static bool member_joins(struct classic_group *g, const struct classic_env *env, struct classic_member *m, const struct classic_join *in) {
    if (!classic_set_protocols(g, m, in->protocols, in->protocol_count)) return false;
    m->session_ms = in->session_ms;
    m->rebalance_ms = in->rebalance_ms;
    if (m->join_ticket) classic_answer_join(env, m->join_ticket, KERR_REBALANCE_IN_PROGRESS, m->id);
    else g->joining++;
    m->join_ticket = in->ticket;
    m->deadline_ms = env->now_ms + (m->is_new ? NEW_MEMBER_MS : m->session_ms);
    classic_due(g, m->deadline_ms);
    return true;
}

static void add(struct classic_group *g, const struct classic_env *env, const struct classic_join *in, struct str id, bool is_new,
                struct group_records *out) {
    bool first = g->count == 0;
    struct classic_member *m = !first || classic_set_type(g, in->protocol_type) ? classic_add(g, id, in->instance_id, in->client_id,
                                                                                              in->client_host) : NULL;
    if (m) m->is_new = is_new;
    if (!m || !member_joins(g, env, m, in)) {
        if (m) classic_remove(g, env, m, KERR_NONE);
        classic_answer_join(env, in->ticket, KERR_COORDINATOR_NOT_AVAILABLE, STR_LIT(""));
        return;
    }
    if (g->state == CLASSIC_PREPARING && g->initial) g->joined_since = true;
    classic_rebalance(g, env, in->group, out);
}

/* ---- static members that come back ----------------------------------------------------------------------------- */

static bool copy_into(uint8_t **at, struct str from, struct str *to) {
    *to = from.p ? (struct str){(char *)*at, from.len} : STR_NULL;
    if (from.len > 0) memcpy(*at, from.p, (size_t)from.len);
    *at += from.len;
    return true;
}

static struct classic_replacement *replacement_new(const struct classic_group *g, const struct classic_member *old, const struct classic_join *in,
                                                   struct str id) {
    struct classic_replacement *r = calloc(1, sizeof *r);
    size_t size = (size_t)in->protocol_count * sizeof *in->protocols + (size_t)in->client_id.len + (size_t)in->client_host.len;
    for (int32_t i = 0; i < in->protocol_count; i++) size += (size_t)in->protocols[i].name.len + (size_t)MAX(in->protocols[i].metadata.len, 0);
    char *id_copy = malloc((size_t)id.len), *leader = malloc((size_t)MAX(g->leader.len, 1));
    struct classic_protocol *protocols = malloc(MAX(size, (size_t)1));
    if (!r || !id_copy || !leader || !protocols) {
        free(r);
        free(id_copy);
        free(leader);
        free(protocols);
        return NULL;
    }
    memcpy(id_copy, id.p, (size_t)id.len);
    if (g->leader.len > 0) memcpy(leader, g->leader.p, (size_t)g->leader.len);
    *r = (struct classic_replacement){
        .ticket = in->ticket, .old_id = old->id, .member_id = {id_copy, id.len}, .old_leader = {leader, g->leader.len},
        .protocols = protocols, .protocol_count = in->protocol_count, .session_ms = in->session_ms, .rebalance_ms = in->rebalance_ms,
        .can_skip_assignment = in->can_skip_assignment,
    };
    uint8_t *at = (uint8_t *)(protocols + in->protocol_count);
    for (int32_t i = 0; i < in->protocol_count; i++) {
        struct str metadata;
        copy_into(&at, in->protocols[i].name, &protocols[i].name);
        copy_into(&at, (struct str){(const char *)in->protocols[i].metadata.p, MAX(in->protocols[i].metadata.len, 0)}, &metadata);
        protocols[i].metadata = (struct bytes){(const uint8_t *)metadata.p, metadata.len};
    }
    copy_into(&at, in->client_id, &r->client_id);
    copy_into(&at, in->client_host, &r->client_host);
    return r;
}

void classic_replace_in(const struct classic_group *g, const struct classic_future *f, struct k_group_metadata_value_member_metadata *members,
                        int32_t count) {
    const struct classic_replacement *r = g->replacement;
    for (int32_t i = 0; i < count; i++) {
        struct k_group_metadata_value_member_metadata *v = &members[i];
        if (!str_eq(v->member_id, r->old_id)) continue;
        v->member_id = r->member_id;
        v->client_id = r->client_id;
        v->client_host = r->client_host;
        v->rebalance_timeout = r->rebalance_ms;
        v->session_timeout = r->session_ms;
        for (int32_t k = 0; k < r->protocol_count; k++)
            if (str_eq(r->protocols[k].name, f->protocol) && r->protocols[k].metadata.p) v->subscription = r->protocols[k].metadata;
    }
}

/* The group is stable and stays so: the assignment of the old id goes to the new one. */
static void replace(struct classic_group *g, const struct classic_env *env, const struct classic_member *old, const struct classic_join *in,
                    struct str id, struct group_records *out) {
    g->replacement = replacement_new(g, old, in, id);
    if (!g->replacement) {
        classic_answer_join(env, in->ticket, KERR_COORDINATOR_NOT_AVAILABLE, STR_LIT(""));
        return;
    }
    struct classic_future f = {.group = in->group, .protocol = g->protocol, .generation = g->generation, .assigned = CLASSIC_HAVE};
    f.leader = str_eq(old->id, g->leader) ? g->replacement->member_id : g->leader;
    g->change = CLASSIC_REPLACEMENT;
    classic_put(g, env, &f, out);
}

static void static_returns(struct classic_group *g, const struct classic_env *env, struct classic_member *old, const struct classic_join *in,
                           struct str id, struct group_records *out) {
    if (g->state == CLASSIC_STABLE && str_eq(choose(g, old, in), g->protocol)) {
        replace(g, env, old, in, id, out);
        return;
    }
    bool is_new = old->is_new;
    classic_remove(g, env, old, KERR_FENCED_INSTANCE_ID);
    add(g, env, in, id, is_new, out);
}

static void join_new(struct classic_group *g, const struct classic_env *env, const struct classic_join *in, struct group_records *out) {
    char buffer[MEMBER_ID_BYTES_MAX + 64];
    struct str id;
    struct classic_member *old = NULL;
    if (!id_make(in, buffer, &id)) {
        classic_answer_join(env, in->ticket, KERR_UNKNOWN_SERVER_ERROR, STR_LIT(""));
        return;
    }
    if (in->instance_id.p)
        HASH_FIND(hh_instance, g->by_instance, in->instance_id.p, (unsigned)in->instance_id.len, old);
    if (old) {
        static_returns(g, env, old, in, id, out);
    } else if (in->id_required && !in->instance_id.p) {
        bool added = pending_add(g, env, id, in->session_ms);
        classic_answer_join(env, in->ticket, added ? KERR_MEMBER_ID_REQUIRED : KERR_COORDINATOR_NOT_AVAILABLE, added ? id : STR_LIT(""));
    } else {
        add(g, env, in, id, true, out);
    }
}

/* ---- members that are known ----------------------------------------------------------------------------------------- */

static void rejoin(struct classic_group *g, const struct classic_env *env, struct classic_member *m, const struct classic_join *in,
                   struct group_records *out) {
    if (member_joins(g, env, m, in)) classic_rebalance(g, env, in->group, out);
    else classic_answer_join(env, in->ticket, KERR_COORDINATOR_NOT_AVAILABLE, in->member_id);
}

static void join_known(struct classic_group *g, const struct classic_env *env, const struct classic_join *in, struct group_records *out) {
    struct classic_pending *pending = pending_find(g, in->member_id);
    if (pending && !in->instance_id.p) { /* those ids were given to dynamic members */
        classic_pending_remove(g, pending);
        add(g, env, in, in->member_id, true, out);
        return;
    }
    struct classic_member *m;
    int16_t error = classic_find(g, in->member_id, in->instance_id, &m);
    if (!error && g->state == CLASSIC_EMPTY) error = KERR_UNKNOWN_MEMBER_ID;
    if (error) {
        classic_answer_join(env, in->ticket, error, in->member_id);
        return;
    }
    bool leads = str_eq(m->id, g->leader), same = same_protocols(m, in);
    if (g->state == CLASSIC_COMPLETING && same) { /* the answer got lost on its way */
        classic_alive(g, env, m);
        classic_answer_joined(g, env, in->ticket, m, leads, false);
    } else if (g->state == CLASSIC_STABLE && same && !leads) {
        classic_alive(g, env, m);
        classic_answer_joined(g, env, in->ticket, m, false, false);
    } else {
        rejoin(g, env, m, in, out);
    }
}

/* A full group takes those that it knows; in a rebalance, whoever comes first. */
static bool accepts(const struct classic_group *g, const struct classic_env *env, const struct classic_join *in) {
    const struct classic_member *m = in->member_id.len > 0 ? classic_member(g, in->member_id) : NULL;
    switch (g->state) {
    case CLASSIC_EMPTY: return true;
    case CLASSIC_PREPARING: return (m && m->join_ticket) || g->joining < (uint32_t)env->size_max;
    case CLASSIC_COMPLETING:
    case CLASSIC_STABLE: break;
    }
    return m || g->count < (uint32_t)env->size_max;
}

void classic_join(struct classic_group *g, const struct classic_env *env, const struct classic_join *in, struct group_records *out) {
    ASSERT(g->change == CLASSIC_NO_CHANGE);
    struct str id = in->member_id.p ? in->member_id : STR_LIT("");
    if (in->session_ms < env->session_min_ms || in->session_ms > env->session_max_ms) {
        classic_answer_join(env, in->ticket, KERR_INVALID_SESSION_TIMEOUT, id);
    } else if (!accepts(g, env, in)) {
        struct classic_member *m = id.len > 0 ? classic_member(g, id) : NULL;
        if (m) classic_remove(g, env, m, KERR_GROUP_MAX_SIZE_REACHED);
        if (m) maybe_complete(g, env, in->group, out);
        classic_answer_join(env, in->ticket, KERR_GROUP_MAX_SIZE_REACHED, STR_LIT(""));
    } else if (!supported(g, in)) {
        classic_answer_join(env, in->ticket, KERR_INCONSISTENT_GROUP_PROTOCOL, id);
    } else if (id.len == 0) {
        join_new(g, env, in, out);
    } else {
        join_known(g, env, in, out);
    }
}

/* ---- SyncGroup ----------------------------------------------------------------------------------------------------------- */

static int16_t sync_check(const struct classic_group *g, const struct classic_sync *in, struct classic_member **m) {
    int16_t error = classic_find(g, in->member_id, in->instance_id, m);
    if (error) return error;
    if (in->generation != g->generation) return KERR_ILLEGAL_GENERATION;
    if (in->protocol_type.p && !str_eq(in->protocol_type, g->protocol_type)) return KERR_INCONSISTENT_GROUP_PROTOCOL;
    if (in->protocol.p && !str_eq(in->protocol, g->protocol)) return KERR_INCONSISTENT_GROUP_PROTOCOL;
    if (g->state == CLASSIC_EMPTY) return KERR_UNKNOWN_MEMBER_ID;
    return g->state == CLASSIC_PREPARING ? KERR_REBALANCE_IN_PROGRESS : KERR_NONE;
}

static void assign(struct classic_group *g, const struct classic_env *env, const struct classic_sync *in, struct group_records *out) {
    for (struct classic_member *m = g->members; m; m = m->hh.next) m->given = BYTES_NULL;
    for (int32_t i = 0; i < in->assignment_count; i++) {
        struct classic_member *m = classic_member(g, in->assignments[i].member_id);
        if (m) m->given = in->assignments[i].assignment;
    }
    struct classic_future f = {.group = in->group, .protocol = g->protocol, .leader = g->leader, .generation = g->generation,
                               .assigned = CLASSIC_GIVEN};
    g->change = CLASSIC_ASSIGNMENT;
    classic_put(g, env, &f, out);
}

void classic_sync(struct classic_group *g, const struct classic_env *env, const struct classic_sync *in, struct group_records *out) {
    ASSERT(g->change == CLASSIC_NO_CHANGE);
    struct classic_member *m;
    int16_t error = sync_check(g, in, &m);
    if (error) {
        classic_answer_sync(env, in->ticket, error);
        return;
    }
    m->synced = true;
    classic_alive(g, env, m);
    if (g->state == CLASSIC_STABLE) {
        classic_answer_assigned(g, env, in->ticket, m);
        return;
    }
    if (m->sync_ticket) classic_answer_sync(env, m->sync_ticket, KERR_REBALANCE_IN_PROGRESS); /* an older one of its own */
    m->sync_ticket = in->ticket;
    if (str_eq(m->id, g->leader)) assign(g, env, in, out);
}

/* ---- Heartbeat, OffsetCommit, LeaveGroup --------------------------------------------------------------------------------- */

int16_t classic_heartbeat(struct classic_group *g, const struct classic_env *env, int32_t generation, struct str member_id,
                          struct str instance_id) {
    struct classic_member *m;
    int16_t error = classic_find(g, member_id, instance_id, &m);
    if (error) return error;
    if (generation != g->generation) return KERR_ILLEGAL_GENERATION;
    if (g->state == CLASSIC_EMPTY) return KERR_UNKNOWN_MEMBER_ID;
    classic_alive(g, env, m);
    return g->state == CLASSIC_PREPARING ? KERR_REBALANCE_IN_PROGRESS : KERR_NONE;
}

int16_t classic_commit_check(struct classic_group *g, const struct classic_env *env, int32_t generation, struct str member_id,
                             struct str instance_id) {
    struct classic_member *m;
    if (generation < 0 && g->state == CLASSIC_EMPTY) return KERR_NONE;
    if (generation < 0 && member_id.len == 0 && !instance_id.p) return KERR_UNKNOWN_MEMBER_ID;
    int16_t error = classic_find(g, member_id, instance_id, &m);
    if (error) return error;
    if (generation != g->generation) return KERR_ILLEGAL_GENERATION;
    if (g->state == CLASSIC_COMPLETING) return KERR_REBALANCE_IN_PROGRESS;
    classic_alive(g, env, m);
    return KERR_NONE;
}

int16_t classic_leave(struct classic_group *g, const struct classic_env *env, struct str member_id, struct str instance_id) {
    ASSERT(g->change == CLASSIC_NO_CHANGE);
    struct classic_member *m = NULL;
    struct classic_pending *pending = pending_find(g, member_id);
    if (pending) {
        classic_pending_remove(g, pending);
        return KERR_NONE;
    }
    if (member_id.len == 0 && instance_id.p) { /* an administrator's */
        HASH_FIND(hh_instance, g->by_instance, instance_id.p, (unsigned)instance_id.len, m);
        if (!m) return KERR_UNKNOWN_MEMBER_ID;
    } else {
        int16_t error = classic_find(g, member_id, instance_id, &m);
        if (error) return error;
    }
    classic_remove(g, env, m, KERR_UNKNOWN_MEMBER_ID);
    return KERR_NONE;
}

void classic_left(struct classic_group *g, const struct classic_env *env, struct str group, struct group_records *out) {
    ASSERT(g->change == CLASSIC_NO_CHANGE);
    if (g->state != CLASSIC_EMPTY) classic_rebalance(g, env, group, out);
}

/* ---- time ---------------------------------------------------------------------------------------------------------------- */

static bool expire_pending(struct classic_group *g, const struct classic_env *env) {
    struct classic_pending *p, *next;
    bool gone = false;
    HASH_ITER(hh, g->pending, p, next) {
        if (p->deadline_ms > env->now_ms) continue;
        classic_pending_remove(g, p);
        gone = true;
    }
    return gone;
}

/* Who waits for an answer is not silent, except a new member: its first generation should have come by now. */
static bool expire_members(struct classic_group *g, const struct classic_env *env) {
    struct classic_member *m, *next;
    bool gone = false, sync_over = g->sync_deadline_ms <= env->now_ms;
    HASH_ITER(hh, g->members, m, next) {
        bool silent = m->deadline_ms <= env->now_ms;
        if (silent && (m->sync_ticket || (m->join_ticket && !m->is_new))) {
            classic_alive(g, env, m);
            silent = false;
        }
        if (!silent && !(sync_over && !m->synced)) continue;
        classic_remove(g, env, m, KERR_UNKNOWN_MEMBER_ID);
        gone = true;
    }
    if (sync_over) g->sync_deadline_ms = CLASSIC_NEVER;
    return gone;
}

static void find_next_deadline(struct classic_group *g) {
    g->next_deadline_ms = MIN(g->join_deadline_ms, g->sync_deadline_ms);
    for (const struct classic_member *m = g->members; m; m = m->hh.next) classic_due(g, m->deadline_ms);
    for (const struct classic_pending *p = g->pending; p; p = p->hh.next) classic_due(g, p->deadline_ms);
}

void classic_tick(struct classic_group *g, const struct classic_env *env, struct str group, struct group_records *out) {
    if (env->now_ms < g->next_deadline_ms) return;
    ASSERT(g->change == CLASSIC_NO_CHANGE);
    bool gone = expire_pending(g, env);
    gone = expire_members(g, env) || gone;
    if (gone && g->state != CLASSIC_EMPTY) classic_rebalance(g, env, group, out);
    if (g->state == CLASSIC_PREPARING && g->change == CLASSIC_NO_CHANGE && g->join_deadline_ms <= env->now_ms) {
        if (g->initial) delay_over(g, env, group, out);
        else complete(g, env, group, out);
    }
    find_next_deadline(g);
}
