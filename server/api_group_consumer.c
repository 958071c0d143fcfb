/* api_group_consumer.c - ConsumerGroupHeartbeat and ConsumerGroupDescribe (KIP-848). */
#include "proto/kafka_messages.h"
#include "server/api.h"
#include "server/features.h"
#include "server/group_api.h"

/* ---- ConsumerGroupHeartbeat -------------------------------------------------------------------------------- */

struct heartbeat_state {
    struct group_op op;
    struct k_consumer_group_heartbeat_request in;
    struct k_consumer_group_heartbeat_response out;
    struct group_client client;
    struct str fresh;
};

static void heartbeat_done(struct group_op *op) {
    struct heartbeat_state *s = op->owner;
    if (op->error) {
        k_consumer_group_heartbeat_response_init(&s->out);
        s->out.error_code = op->error;
    }
    struct wire_writer *w = request_reply_begin(op->rq);
    k_consumer_group_heartbeat_response_encode(&s->out, w, request_version(op->rq));
    request_reply(op->rq);
}

/* A classic group of consumers as it is (KIP-848, migration). False: no memory. */
static bool describe_classic(struct request *rq, const struct classic_group *g, struct group_upgrade *out) {
    struct group_upgrade_member *members = arena_array(&rq->arena, g->count, sizeof *members);
    if (!members) return false;
    *out = (struct group_upgrade){.generation = g->generation, .members = members};
    for (const struct classic_member *m = g->members; m; m = m->hh.next) {
        struct k_join_group_request_protocols *protocols = arena_array(&rq->arena, (size_t)MAX(m->protocol_count, 1), sizeof *protocols);
        if (!protocols) return false;
        for (int32_t i = 0; i < m->protocol_count; i++) {
            protocols[i].name = m->protocols[i].name;
            protocols[i].metadata = m->protocols[i].metadata;
        }
        struct bytes subscription = classic_metadata(m, g->protocol);
        if (!subscription.p && m->protocol_count > 0) subscription = m->protocols[0].metadata;
        members[out->members_n++] = (struct group_upgrade_member){
            .member_id = m->id, .instance_id = m->instance_id, .client_id = m->client_id, .client_host = m->client_host,
            .rebalance_timeout_ms = m->rebalance_ms, .session_timeout_ms = m->session_ms, .protocols = protocols,
            .protocols_n = m->protocol_count, .subscription = subscription, .assignment = m->assignment,
        };
    }
    return true;
}

static void upgrade(struct heartbeat_state *s, struct group *g, const struct group_env *env, struct group_records *records) {
    struct request *rq = s->op.rq;
    struct group_upgrade classic;
    if (!describe_classic(rq, g->classic, &classic)) {
        records->err = ERR_NOMEM;
        return;
    }
    g->upgrades = true;
    consumer_group_upgrade(group_id(g), &classic, env, &s->in, request_version(rq), &s->client, s->fresh, &rq->arena, records, &s->out);
}

static int16_t compute(struct heartbeat_state *s, struct group *g, const struct group_env *env, struct group_records *records) {
    struct request *rq = s->op.rq;
    bool there = group_has_consumer(g), members = !there && g->classic && g->classic->count > 0;
    if (!there && s->in.member_epoch != 0) return KERR_GROUP_ID_NOT_FOUND;
    if (members && !group_uses_consumer_protocol(g)) return KERR_GROUP_ID_NOT_FOUND;
    if (!there && !members && group_memory_full(group_reactor(g))) return KERR_COORDINATOR_NOT_AVAILABLE;
    if (members) {
        upgrade(s, g, env, records);
        return KERR_NONE;
    }
    if (!g->consumer) g->consumer = consumer_group_new(group_id(g));
    if (!g->consumer) return KERR_COORDINATOR_NOT_AVAILABLE;
    if (!there) group_put_group_tombstone(g, records); /* of a classic group that is empty */
    consumer_group_heartbeat(g->consumer, env, &s->in, request_version(rq), &s->client, s->fresh, &rq->arena, records, &s->out);
    if (s->out.error_code) group_records_reset(records);
    return KERR_NONE;
}

static void heartbeat_run(struct group_op *op, struct group *g) {
    struct heartbeat_state *s = op->owner;
    struct group_view v;
    struct group_records records;
    int32_t epoch = s->in.member_epoch;
    group_note(g, epoch == 0 ? HISTORY_JOINED : epoch < 0 ? HISTORY_LEFT : HISTORY_CHANGED, s->in.member_id, epoch >= 0);
    group_view_fill(g, &v);
    group_records_begin(&records);
    int16_t error = compute(s, g, &v.env, &records);
    if (error) {
        group_records_free(&records);
        group_op_finish(op, error);
    } else {
        group_consumer_after(g, &records, op, false);
    }
}

void api_consumer_group_heartbeat(struct request *rq) {
    struct heartbeat_state *s = request_alloc(rq, 1, sizeof *s);
    if (!s) return;
    if (!request_decoded(rq, k_consumer_group_heartbeat_request_decode(&s->in, &rq->body, request_version(rq)))) return;
    k_consumer_group_heartbeat_response_init(&s->out);
    s->client.client_id = rq->header.client_id.p ? rq->header.client_id : STR_LIT("");
    s->client.client_host = request_printf(rq, "/%s", request_peer(rq));
    s->fresh = request_fresh_uuid(rq);
    s->op = (struct group_op){.rq = rq, .group = s->in.group_id, .lock = GROUP_EXCLUSIVE, .run = heartbeat_run, .done = heartbeat_done,
                              .owner = s};
    int16_t level = request_image(rq)->feature_levels[feature_index(feature_find(STR_LIT("group.version")))];
    if (level < 1) group_op_refuse(&s->op, KERR_UNSUPPORTED_VERSION);
    else if (s->in.group_id.len == 0) group_op_refuse(&s->op, KERR_INVALID_REQUEST);
    else group_op_send(&s->op);
}

/* ---- ConsumerGroupDescribe --------------------------------------------------------------------------------------- */

struct describe_state {
    struct request *rq;
    struct k_consumer_group_describe_request in;
    struct k_consumer_group_describe_response out;
    struct group_op op;
    int32_t next;
    bool out_of_memory;
};

static void describe_run(struct group_op *op, struct group *g) {
    struct describe_state *s = op->owner;
    struct group_view v;
    if (!group_has_consumer(g)) {
        group_op_finish(op, KERR_GROUP_ID_NOT_FOUND);
        return;
    }
    group_view_fill(g, &v);
    s->out_of_memory = consumer_group_describe(g->consumer, &v.env, &s->rq->arena, &s->out.groups[s->next]) != OK;
    group_op_finish(op, KERR_NONE);
}

static void describe_go_on(struct describe_state *s);

static void describe_done(struct group_op *op) {
    struct describe_state *s = op->owner;
    struct k_consumer_group_describe_response_groups *r = &s->out.groups[s->next++];
    r->error_code = op->error;
    if (op->error == KERR_GROUP_ID_NOT_FOUND)
        r->error_message = request_printf(s->rq, "Group %.*s is not a consumer group or does not exist.", MIN(op->group.len, 300), op->group.p);
    describe_go_on(s);
}

static void describe_go_on(struct describe_state *s) {
    if (s->out_of_memory) {
        request_close(s->rq, "the answer needs more memory than request.arena.max.bytes");
        return;
    }
    if (s->next < s->out.groups_n) {
        s->op = (struct group_op){.rq = s->rq, .group = s->in.group_ids[s->next], .lock = GROUP_READ, .run = describe_run,
                                  .done = describe_done, .owner = s};
        group_op_begin(&s->op);
        return;
    }
    struct wire_writer *w = request_reply_begin(s->rq);
    k_consumer_group_describe_response_encode(&s->out, w, request_version(s->rq));
    request_reply(s->rq);
}

void api_consumer_group_describe(struct request *rq) {
    struct describe_state *s = request_alloc(rq, 1, sizeof *s);
    if (!s) return;
    s->rq = rq;
    if (!request_decoded(rq, k_consumer_group_describe_request_decode(&s->in, &rq->body, request_version(rq)))) return;
    k_consumer_group_describe_response_init(&s->out);
    s->out.groups_n = MAX(s->in.group_ids_n, 0);
    s->out.groups = request_alloc(rq, (size_t)s->out.groups_n, sizeof *s->out.groups);
    if (!s->out.groups) return;
    for (int32_t i = 0; i < s->out.groups_n; i++) {
        struct k_consumer_group_describe_response_groups *r = &s->out.groups[i];
        k_consumer_group_describe_response_groups_init(r);
        r->group_id = s->in.group_ids[i];
        r->group_state = r->assignor_name = STR_LIT("");
        if (s->in.include_authorized_operations) r->authorized_operations = API_GROUP_OPERATIONS;
    }
    describe_go_on(s);
}
