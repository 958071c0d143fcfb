/* Members of the classic protocol in a consumer group (migration, KIP-848). Each owns its generation, the member epoch: JoinGroup is a
 * heartbeat that always tells the subscription and what is owned, and is answered at once; SyncGroup fetches the assignment;
 * Heartbeat says when to join again: the group has moved on, there is something to give up, or what was missing is free. */
#include "base/assert.h"
#include "server/group_consumer_impl.h"

static const struct str consumer_type = STR_LIT("consumer");

/* ---- JoinGroup -------------------------------------------------------------------------------- */

/* Some protocol of the request is supported by every classic member. */
static bool supports(const struct consumer_group *g, const struct k_join_group_request *rq, const struct consumer_member *except) {
    if (!str_eq(rq->protocol_type, consumer_type)) return false;
    for (int32_t i = 0; i < rq->protocols_n; i++) {
        bool all = true;
        for (const struct consumer_member *m = g->members; m && all; m = m->hh.next) {
            if (!m->known || !member_is_classic(m) || m == except) continue;
            const struct k_consumer_group_member_metadata_value_classic_member_metadata *classic = m->meta.classic_member_metadata;
            all = false;
            for (int32_t j = 0; j < classic->supported_protocols_n; j++) all |= str_eq(classic->supported_protocols[j].name, rq->protocols[i].name);
        }
        if (all) return true;
    }
    return false;
}

static int16_t locate(struct change *c, const struct k_join_group_request *rq) {
    if (!rq->group_instance_id.p) {
        c->old = consumer_member_find(c->g, c->id);
        return 0;
    }
    struct consumer_member *m = consumer_member_by_instance(c->g, rq->group_instance_id);
    if (rq->member_id.len == 0) {
        c->replaced = m;
    } else {
        if (!m) return KERR_UNKNOWN_MEMBER_ID;
        if (!str_eq(member_id(m), rq->member_id)) return KERR_FENCED_INSTANCE_ID;
        c->old = m;
    }
    return 0;
}

static void apply_join(struct change *c, const struct k_join_group_request *rq, const struct group_client *client,
                       const struct k_consumer_protocol_subscription *subscription) {
    member_meta *meta = &c->meta;
    struct k_consumer_group_member_metadata_value_classic_member_metadata *classic = arena_alloc(c->arena, sizeof *classic);
    struct k_consumer_group_member_metadata_value_classic_member_metadata_supported_protocols *list =
        arena_array(c->arena, (size_t)rq->protocols_n, sizeof *list);
    if (!classic || !list) {
        c->nomem = true;
        return;
    }
    for (int32_t i = 0; i < rq->protocols_n; i++) {
        list[i].name = rq->protocols[i].name;
        list[i].metadata = rq->protocols[i].metadata;
    }
    classic->session_timeout_ms = rq->session_timeout_ms;
    classic->supported_protocols = list;
    classic->supported_protocols_n = rq->protocols_n;
    meta->classic_member_metadata = classic;
    if (rq->group_instance_id.p) meta->instance_id = rq->group_instance_id;
    if (subscription->rack_id.p) meta->rack_id = subscription->rack_id;
    meta->rebalance_timeout_ms = rq->rebalance_timeout_ms >= 0 ? rq->rebalance_timeout_ms : rq->session_timeout_ms;
    meta->subscribed_topic_regex = STR_NULL;
    meta->server_assignor = STR_NULL;
    meta->client_id = client->client_id.p ? client->client_id : STR_LIT("");
    meta->client_host = client->client_host.p ? client->client_host : STR_LIT("");
    change_set_topics(c, subscription->topics, subscription->topics_n);
}

/* What the subscription says that the member owns. */
static void owned_parts(struct change *c, const struct k_consumer_protocol_subscription *s, struct group_parts *out) {
    size_t total = 0;
    for (int32_t t = 0; t < s->owned_partitions_n; t++) total += s->owned_partitions[t].partitions_n > 0 ? (size_t)s->owned_partitions[t].partitions_n : 0;
    if (group_parts_room(out, total, c->arena) != OK) {
        c->nomem = true;
        return;
    }
    for (int32_t t = 0; t < s->owned_partitions_n; t++) {
        struct group_topic topic;
        if (!c->env->topics->by_name(c->env->topics->image, s->owned_partitions[t].topic, &topic)) continue;
        for (int32_t p = 0; p < s->owned_partitions[t].partitions_n; p++) group_parts_add(out, &topic.id, s->owned_partitions[t].partitions[p], 0);
    }
    group_parts_sort(out);
}

static void join(struct change *c, const struct k_join_group_request *rq, const struct group_client *client,
                 const struct k_consumer_protocol_subscription *subscription, struct k_join_group_response *reply) {
    struct group_parts owned = {0};
    change_begin_member(c);
    const member_meta was = c->meta;
    apply_join(c, rq, client, subscription);
    owned_parts(c, subscription, &owned);
    if (c->nomem) return;
    change_member(c, &was, true, &owned);
    reply->member_id = c->id;
    reply->generation_id = c->current.epoch;
    reply->protocol_type = consumer_type;
    reply->protocol_name = rq->protocols[0].name;
    reply->leader = STR_LIT("");
    if (!c->old) return;
    consumer_timer_set(c->g, &c->old->session_ms, c->env->now_ms + rq->session_timeout_ms);
    consumer_timer_set(c->g, &c->old->sync_ms, c->env->now_ms + c->meta.rebalance_timeout_ms);
    c->old->join_ms = c->old->rebalance_ms = INT64_MAX;
}

static int16_t try_join(struct change *c, const struct k_join_group_request *rq, int16_t version, const struct group_client *client,
                        struct str fresh_id, struct k_join_group_response *reply) {
    bool without_id = rq->member_id.len == 0;
    c->id = without_id ? fresh_id : rq->member_id;
    reply->member_id = rq->member_id.p ? rq->member_id : STR_LIT("");
    if (c->env->migration == GROUP_MIGRATION_DISABLED) return KERR_INCONSISTENT_GROUP_PROTOCOL;
    int16_t code = locate(c, rq);
    if (code) return code;
    bool is_new = !c->old && !c->replaced;
    if (is_new && (int64_t)c->g->member_count >= c->env->max_size) return KERR_GROUP_MAX_SIZE_REACHED;
    if (c->env->memory_full && is_new) return KERR_COORDINATOR_NOT_AVAILABLE;
    if (rq->protocols_n <= 0 || !supports(c->g, rq, c->old ? c->old : c->replaced)) return KERR_INCONSISTENT_GROUP_PROTOCOL;
    if (without_id && !rq->group_instance_id.p && version >= 4) {
        reply->member_id = fresh_id;
        return KERR_MEMBER_ID_REQUIRED;
    }
    struct k_consumer_protocol_subscription subscription;
    enum err err = subscription_parse(rq->protocols[0].metadata, c->arena, &subscription);
    if (err == ERR_NOMEM) return KERR_COORDINATOR_NOT_AVAILABLE;
    if (err != OK) return KERR_INCONSISTENT_GROUP_PROTOCOL;
    join(c, rq, client, &subscription, reply);
    return c->nomem || c->out->err != OK ? KERR_COORDINATOR_NOT_AVAILABLE : 0;
}

void consumer_group_join(struct consumer_group *g, const struct group_env *env, const struct k_join_group_request *rq, int16_t version,
                         const struct group_client *client, struct str fresh_id, struct arena *arena, struct group_records *out,
                         struct k_join_group_response *reply) {
    struct change c;
    change_init(&c, g, env, arena, out);
    k_join_group_response_init(reply);
    int16_t code = try_join(&c, rq, version, client, fresh_id, reply);
    if (code == 0) return;
    struct str id = reply->member_id;
    group_records_reset(out);
    k_join_group_response_init(reply);
    reply->error_code = code;
    reply->member_id = id;
    reply->protocol_name = STR_LIT("");
}

/* ---- SyncGroup, Heartbeat --------------------------------------------------------------------- */

static int16_t find_member(const struct consumer_group *g, struct str id, struct str instance_id, struct consumer_member **out) {
    struct consumer_member *m = instance_id.p ? consumer_member_by_instance(g, instance_id) : consumer_member_find(g, id);
    if (!m) return KERR_UNKNOWN_MEMBER_ID;
    if (instance_id.p && !str_eq(member_id(m), id)) return KERR_FENCED_INSTANCE_ID;
    *out = m;
    return 0;
}
static int16_t find_classic(const struct consumer_group *g, struct str id, struct str instance_id, struct consumer_member **out) {
    int16_t code = find_member(g, id, instance_id, out);
    return code == 0 && !member_is_classic(*out) ? KERR_UNKNOWN_MEMBER_ID : code;
}

static void expect_join(struct consumer_group *g, const struct group_env *env, struct consumer_member *m) {
    if (m->join_ms == INT64_MAX) consumer_timer_set(g, &m->join_ms, env->now_ms + MAX(m->meta.rebalance_timeout_ms, 0));
}

static int16_t try_sync(struct consumer_group *g, const struct group_env *env, const struct k_sync_group_request *rq, struct consumer_member **out) {
    int16_t code = find_classic(g, rq->member_id, rq->group_instance_id, out);
    if (code) return code;
    struct consumer_member *m = *out;
    const struct k_consumer_group_member_metadata_value_classic_member_metadata *classic = m->meta.classic_member_metadata;
    if (rq->generation_id != m->current.epoch) return KERR_ILLEGAL_GENERATION;
    if (rq->protocol_type.p && !str_eq(rq->protocol_type, consumer_type)) return KERR_INCONSISTENT_GROUP_PROTOCOL;
    if (rq->protocol_name.p && (classic->supported_protocols_n <= 0 || !str_eq(rq->protocol_name, classic->supported_protocols[0].name)))
        return KERR_INCONSISTENT_GROUP_PROTOCOL;
    if (g->assignment_epoch > m->current.epoch && m->current.state != CONSUMER_MEMBER_UNREVOKED) {
        expect_join(g, env, m);
        return KERR_REBALANCE_IN_PROGRESS;
    }
    return 0;
}

void consumer_group_sync(struct consumer_group *g, const struct group_env *env, const struct k_sync_group_request *rq, struct arena *arena,
                         struct k_sync_group_response *reply) {
    struct consumer_member *m = NULL;
    k_sync_group_response_init(reply);
    reply->error_code = try_sync(g, env, rq, &m);
    reply->assignment = (struct bytes){(const uint8_t *)"", 0};
    if (reply->error_code) return;
    const struct k_consumer_group_member_metadata_value_classic_member_metadata *classic = m->meta.classic_member_metadata;
    struct bytes subscription = classic->supported_protocols_n > 0 ? classic->supported_protocols[0].metadata : BYTES_NULL;
    struct bytes assignment = assignment_bytes(env, &m->current.assigned, subscription, arena);
    if (!assignment.p) {
        reply->error_code = KERR_COORDINATOR_NOT_AVAILABLE;
        return;
    }
    reply->protocol_type = rq->protocol_type;
    reply->protocol_name = rq->protocol_name;
    reply->assignment = assignment;
    m->sync_ms = INT64_MAX;
    consumer_timer_set(g, &m->session_ms, env->now_ms + classic->session_timeout_ms);
}

/* Whether some of what the member is still to get is with somebody else. */
static bool waits_for_others(const struct consumer_group *g, const struct consumer_member *m) {
    for (uint32_t i = 0; i < m->target.n; i++) {
        const struct group_part *p = &m->target.list[i];
        if (!group_parts_find(&m->current.assigned, &p->topic, p->partition) && consumer_owner_of(g, &p->topic, p->partition)) return true;
    }
    return false;
}

int16_t consumer_group_classic_heartbeat(struct consumer_group *g, const struct group_env *env, const struct k_heartbeat_request *rq) {
    struct consumer_member *m = NULL;
    int16_t code = find_classic(g, rq->member_id, rq->group_instance_id, &m);
    if (code) return code;
    if (rq->generation_id != m->current.epoch) return KERR_ILLEGAL_GENERATION;
    consumer_timer_set(g, &m->session_ms, env->now_ms + m->meta.classic_member_metadata->session_timeout_ms);
    bool rejoin = m->current.epoch < g->epoch || m->current.state == CONSUMER_MEMBER_UNREVOKED ||
                  (m->current.state == CONSUMER_MEMBER_UNRELEASED && !waits_for_others(g, m));
    if (!rejoin) return 0;
    expect_join(g, env, m);
    return KERR_REBALANCE_IN_PROGRESS;
}

/* ---- LeaveGroup: of classic members, or by an administrator, who may remove any ------------------ */

void consumer_group_leave(struct consumer_group *g, const struct group_env *env, const struct k_leave_group_request *rq, int16_t version,
                          struct arena *arena, struct group_records *out, struct k_leave_group_response *reply) {
    struct change c;
    change_init(&c, g, env, arena, out);
    k_leave_group_response_init(reply);
    struct k_leave_group_request_members single = {.member_id = rq->member_id};
    const struct k_leave_group_request_members *members = version >= 3 ? rq->members : &single;
    int32_t n = version >= 3 ? MAX(rq->members_n, 0) : 1;
    struct k_leave_group_response_members *answers = arena_array(arena, (size_t)MAX(n, 1), sizeof *answers);
    c.gone = arena_array(arena, (size_t)MAX(n, 1), sizeof *c.gone);
    if (!answers || !c.gone) {
        reply->error_code = KERR_COORDINATOR_NOT_AVAILABLE;
        return;
    }
    for (int32_t i = 0; i < n; i++) {
        struct consumer_member *m = NULL;
        struct str id = members[i].member_id;
        answers[i] = (struct k_leave_group_response_members){.member_id = id, .group_instance_id = members[i].group_instance_id};
        if (members[i].group_instance_id.p && id.len == 0) { /* an administrator removes a static member */
            struct consumer_member *named = consumer_member_by_instance(g, members[i].group_instance_id);
            if (named) id = member_id(named);
        }
        answers[i].error_code = find_member(g, id, members[i].group_instance_id, &m);
        for (uint32_t k = 0; k < c.gone_n && m; k++)
            if (c.gone[k] == m) answers[i].error_code = KERR_UNKNOWN_MEMBER_ID, m = NULL;
        if (m) c.gone[c.gone_n++] = m;
    }
    if (c.gone_n > 0) change_fence(&c);
    if (c.nomem || out->err != OK) {
        group_records_reset(out);
        reply->error_code = KERR_COORDINATOR_NOT_AVAILABLE;
        return;
    }
    if (version < 3) reply->error_code = answers[0].error_code;
    else reply->members = answers, reply->members_n = n;
}
