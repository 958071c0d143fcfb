/* api_group_members.c - JoinGroup, SyncGroup, Heartbeat and LeaveGroup: requests to the classic core and its answers.
 *
 * A JoinGroup or SyncGroup that has to wait for other members keeps its place in its connection's order, as in Kafka; if the
 * connection goes meanwhile, its member stays for its session timeout. */
#include "proto/kafka_messages.h"
#include "server/api.h"
#include "server/group_api.h"

/* ---- JoinGroup ------------------------------------------------------------------------------------------ */

struct join_state {
    struct group_op op;
    struct k_join_group_request in;
    struct k_join_group_response out;
    struct str host;
    char fresh[UUID_HEX_BYTES];
    struct str fresh_uuid;
    bool out_of_memory;
};

static void join_done(struct group_op *op) {
    struct join_state *s = op->owner;
    struct request *rq = op->rq;
    if (s->out_of_memory) {
        request_close(rq, "the answer needs more memory than request.arena.max.bytes");
        return;
    }
    if (op->error && !s->out.error_code) { /* it has not come to the core, or what that wrote not into the log */
        k_join_group_response_init(&s->out);
        s->out.error_code = op->error;
        s->out.member_id = s->in.member_id;
    }
    struct wire_writer *w = request_reply_begin(rq);
    k_join_group_response_encode(&s->out, w, request_version(rq));
    request_reply(rq);
}

/* A copy of what the group holds, for its leader only: the memory of groups bounds it, whatever the bound of a request. */
static bool copy_members(struct join_state *s, const struct classic_group *g) {
    struct request *rq = s->op.rq;
    size_t bytes = (size_t)g->bytes + g->count * (sizeof *s->out.members + 64) + 64;
    rq->arena.limit_bytes = MAX(rq->arena.limit_bytes, rq->arena.used_bytes + bytes);
    s->out.members = arena_array(&rq->arena, MAX(g->count, 1u), sizeof *s->out.members);
    if (!s->out.members) return false;
    for (const struct classic_member *m = g->members; m; m = m->hh.next) {
        struct k_join_group_response_members *r = &s->out.members[s->out.members_n++];
        k_join_group_response_members_init(r);
        r->member_id = request_copy(rq, m->id);
        r->group_instance_id = request_copy(rq, m->instance_id);
        r->metadata = request_copy_bytes(rq, classic_metadata(m, g->protocol));
        if (!r->member_id.p || !r->metadata.p || (m->instance_id.p && !r->group_instance_id.p)) return false;
    }
    return true;
}

void group_join_reply(void *ctx, void *ticket, const struct classic_join_reply *reply) {
    struct group_op *op = ticket;
    struct join_state *s = op->owner;
    struct request *rq = op->rq;
    (void)ctx;
    s->out.error_code = reply->error;
    s->out.generation_id = reply->generation;
    s->out.protocol_type = request_copy(rq, reply->protocol_type);
    s->out.protocol_name = request_copy(rq, reply->protocol);
    s->out.leader = request_copy(rq, reply->leader);
    s->out.member_id = request_copy(rq, reply->member_id);
    s->out.skip_assignment = reply->skip_assignment;
    s->out_of_memory = !s->out.leader.p || !s->out.member_id.p || (reply->members && !copy_members(s, reply->members));
    group_op_finish(op, reply->error);
}

static void join_run(struct group_op *op, struct group *g);

static void join_again(struct group *g, void *ctx, int16_t error) {
    if (error) group_op_finish(ctx, error);
    else join_run(ctx, g);
}

/* A group of the consumer protocol: with members it takes classic ones, too; an empty one is deleted. */
static void join_consumer(struct group_op *op, struct group *g) {
    struct join_state *s = op->owner;
    struct request *rq = op->rq;
    struct group_view v;
    struct group_records records;
    group_records_begin(&records);
    if (consumer_group_member_count(g->consumer) == 0) {
        consumer_group_delete(g->consumer, &records);
        if (!records.err && records.count > 0) {
            group_append(g, GROUP_EXCLUSIVE, &records, join_again, op);
            return;
        }
        group_records_free(&records);
        group_op_finish(op, KERR_COORDINATOR_NOT_AVAILABLE);
        return;
    }
    struct group_client client = {rq->header.client_id, s->host};
    group_view_fill(g, &v);
    consumer_group_join(g->consumer, &v.env, &s->in, request_version(rq), &client, s->fresh_uuid, &rq->arena, &records, &s->out);
    group_consumer_after(g, &records, op, true);
}

static void join_run(struct group_op *op, struct group *g) {
    struct join_state *s = op->owner;
    if (group_memory_spent(group_reactor(g))) {
        group_op_finish(op, KERR_COORDINATOR_NOT_AVAILABLE);
        return;
    }
    bool back = g->classic && s->in.member_id.len > 0 && classic_member(g->classic, s->in.member_id);
    struct str who = s->in.member_id.len > 0 ? s->in.member_id : s->in.group_instance_id.p ? s->in.group_instance_id : op->rq->header.client_id;
    group_note(g, back ? HISTORY_CHANGED : HISTORY_JOINED, who, true);
    if (group_has_consumer(g)) {
        join_consumer(op, g);
        return;
    }
    const struct k_join_group_request *in = &s->in;
    int16_t version = request_version(op->rq);
    struct classic_group *core = group_classic(g);
    struct classic_protocol *protocols = arena_array(&op->rq->arena, (size_t)MAX(in->protocols_n, 1), sizeof *protocols);
    bool known = core && in->member_id.len > 0 && classic_member(core, in->member_id);
    if (!core || !protocols || (!known && group_memory_full(group_reactor(g)))) {
        group_op_finish(op, KERR_COORDINATOR_NOT_AVAILABLE);
        return;
    }
    for (int32_t i = 0; i < in->protocols_n; i++) protocols[i] = (struct classic_protocol){in->protocols[i].name, in->protocols[i].metadata};
    struct classic_join join = {
        .ticket = op, .group = group_id(g), .member_id = in->member_id, .instance_id = in->group_instance_id,
        .client_id = op->rq->header.client_id, .client_host = s->host, .protocol_type = in->protocol_type,
        .session_ms = in->session_timeout_ms, .rebalance_ms = version >= 1 ? in->rebalance_timeout_ms : in->session_timeout_ms,
        .protocols = protocols, .protocol_count = MAX(in->protocols_n, 0),
        .id_required = version >= 4, .can_skip_assignment = version >= 9, .fresh = str_from(s->fresh),
    };
    struct classic_env env = group_classic_env(g);
    struct group_records records;
    group_records_begin(&records);
    group_op_park(op, g);
    classic_join(core, &env, &join, &records);
    group_classic_after(g, &records, NULL, KERR_NONE);
}

/* What holds for groups of either protocol. */
static int16_t join_check(const struct broker *b, const struct k_join_group_request *in) {
    const struct config *c = &b->config;
    if (in->group_id.len == 0) return KERR_INVALID_GROUP_ID;
    if (in->session_timeout_ms < c->group_min_session_timeout_ms || in->session_timeout_ms > c->group_max_session_timeout_ms)
        return KERR_INVALID_SESSION_TIMEOUT;
    return in->protocols_n > CLASSIC_PROTOCOLS_MAX ? KERR_INCONSISTENT_GROUP_PROTOCOL : KERR_NONE;
}

void api_join_group(struct request *rq) {
    struct join_state *s = request_alloc(rq, 1, sizeof *s);
    if (!s) return;
    if (!request_decoded(rq, k_join_group_request_decode(&s->in, &rq->body, request_version(rq)))) return;
    k_join_group_response_init(&s->out);
    s->op = (struct group_op){.rq = rq, .group = s->in.group_id, .lock = GROUP_EXCLUSIVE, .run = join_run, .done = join_done, .owner = s};
    if (rq->header.client_id.p == NULL) rq->header.client_id = STR_LIT("");
    s->host = request_printf(rq, "/%s", request_peer(rq));
    request_fresh_id(rq, s->fresh);
    s->fresh_uuid = request_fresh_uuid(rq);
    int16_t error = join_check(request_broker(rq), &s->in);
    if (error) group_op_refuse(&s->op, error);
    else group_op_begin(&s->op);
}

/* ---- SyncGroup ------------------------------------------------------------------------------------------------- */

struct sync_state {
    struct group_op op;
    struct k_sync_group_request in;
    struct k_sync_group_response out;
    bool out_of_memory;
};

static void sync_done(struct group_op *op) {
    struct sync_state *s = op->owner;
    struct request *rq = op->rq;
    if (s->out_of_memory) {
        request_close(rq, "the answer needs more memory than request.arena.max.bytes");
        return;
    }
    if (op->error) s->out.error_code = op->error;
    struct wire_writer *w = request_reply_begin(rq);
    k_sync_group_response_encode(&s->out, w, request_version(rq));
    request_reply(rq);
}

void group_sync_reply(void *ctx, void *ticket, const struct classic_sync_reply *reply) {
    struct group_op *op = ticket;
    struct sync_state *s = op->owner;
    (void)ctx;
    s->out.error_code = reply->error;
    s->out.protocol_type = request_copy(op->rq, reply->protocol_type);
    s->out.protocol_name = request_copy(op->rq, reply->protocol);
    s->out.assignment = request_copy_bytes(op->rq, reply->assignment);
    s->out_of_memory = !s->out.assignment.p;
    group_op_finish(op, reply->error);
}

static void sync_run(struct group_op *op, struct group *g) {
    struct sync_state *s = op->owner;
    const struct k_sync_group_request *in = &s->in;
    group_note(g, HISTORY_UNKNOWN, in->member_id, true);
    if (group_has_consumer(g)) {
        struct group_view v;
        group_view_fill(g, &v);
        consumer_group_sync(g->consumer, &v.env, in, &op->rq->arena, &s->out);
        group_arm(g);
        group_op_finish(op, KERR_NONE);
        return;
    }
    struct classic_assignment *assignments = arena_array(&op->rq->arena, (size_t)MAX(in->assignments_n, 1), sizeof *assignments);
    bool too_much = in->assignments_n > 0 && group_memory_spent(group_reactor(g));
    if (!g->classic || !assignments || too_much) {
        group_op_finish(op, g->classic ? KERR_COORDINATOR_NOT_AVAILABLE : KERR_UNKNOWN_MEMBER_ID);
        return;
    }
    for (int32_t i = 0; i < in->assignments_n; i++)
        assignments[i] = (struct classic_assignment){in->assignments[i].member_id, in->assignments[i].assignment};
    struct classic_sync sync = {
        .ticket = op, .group = group_id(g), .member_id = in->member_id, .instance_id = in->group_instance_id, .generation = in->generation_id,
        .protocol_type = in->protocol_type, .protocol = in->protocol_name, .assignments = assignments,
        .assignment_count = MAX(in->assignments_n, 0),
    };
    struct classic_env env = group_classic_env(g);
    struct group_records records;
    group_records_begin(&records);
    group_op_park(op, g);
    classic_sync(g->classic, &env, &sync, &records);
    group_classic_after(g, &records, NULL, KERR_NONE);
}

void api_sync_group(struct request *rq) {
    struct sync_state *s = request_alloc(rq, 1, sizeof *s);
    if (!s) return;
    if (!request_decoded(rq, k_sync_group_request_decode(&s->in, &rq->body, request_version(rq)))) return;
    k_sync_group_response_init(&s->out);
    s->op = (struct group_op){.rq = rq, .group = s->in.group_id, .lock = GROUP_EXCLUSIVE, .run = sync_run, .done = sync_done, .owner = s};
    bool unnamed = request_version(rq) >= 5 && (!s->in.protocol_type.p || !s->in.protocol_name.p);
    if (unnamed) group_op_refuse(&s->op, KERR_INCONSISTENT_GROUP_PROTOCOL); /* KIP-559 */
    else group_op_begin(&s->op);
}

/* ---- Heartbeat ------------------------------------------------------------------------------------------------- */

struct heartbeat_state { struct group_op op; struct k_heartbeat_request in; };

static void heartbeat_done(struct group_op *op) {
    struct k_heartbeat_response out;
    k_heartbeat_response_init(&out);
    out.error_code = op->error;
    struct wire_writer *w = request_reply_begin(op->rq);
    k_heartbeat_response_encode(&out, w, request_version(op->rq));
    request_reply(op->rq);
}

static void heartbeat_run(struct group_op *op, struct group *g) {
    const struct heartbeat_state *s = op->owner;
    int16_t error = KERR_UNKNOWN_MEMBER_ID;
    if (group_has_consumer(g)) {
        struct group_view v;
        group_view_fill(g, &v);
        error = consumer_group_classic_heartbeat(g->consumer, &v.env, &s->in);
        group_arm(g);
    } else if (g->classic) {
        struct classic_env env = group_classic_env(g);
        error = classic_heartbeat(g->classic, &env, s->in.generation_id, s->in.member_id, s->in.group_instance_id);
    }
    group_op_finish(op, error);
}

void api_heartbeat(struct request *rq) {
    struct heartbeat_state *s = request_alloc(rq, 1, sizeof *s);
    if (!s) return;
    if (!request_decoded(rq, k_heartbeat_request_decode(&s->in, &rq->body, request_version(rq)))) return;
    s->op = (struct group_op){.rq = rq, .group = s->in.group_id, .lock = GROUP_READ, .run = heartbeat_run, .done = heartbeat_done, .owner = s};
    group_op_begin(&s->op);
}

/* ---- LeaveGroup -------------------------------------------------------------------------------------------------- */

struct leave_state {
    struct group_op op;
    struct k_leave_group_request in;
    struct k_leave_group_response out;
    struct k_leave_group_request_members single; /* to version 2 */
};

static void leave_done(struct group_op *op) {
    struct leave_state *s = op->owner;
    struct request *rq = op->rq;
    if (op->error) s->out.error_code = op->error;
    if (s->out.error_code) s->out.members_n = 0;
    else if (request_version(rq) < 3 && s->out.members_n > 0) s->out.error_code = s->out.members[0].error_code;
    if (request_version(rq) < 3) s->out.members_n = 0;
    struct wire_writer *w = request_reply_begin(rq);
    k_leave_group_response_encode(&s->out, w, request_version(rq));
    request_reply(rq);
}

static void leave_run(struct group_op *op, struct group *g) {
    struct leave_state *s = op->owner;
    bool some = false;
    if (s->out.members_n > 0) group_note(g, HISTORY_LEFT, s->in.members[0].member_id.len > 0 ? s->in.members[0].member_id : s->in.members[0].group_instance_id, false);
    if (group_has_consumer(g)) {
        struct group_view v;
        struct group_records records;
        group_view_fill(g, &v);
        group_records_begin(&records);
        k_leave_group_response_init(&s->out);
        consumer_group_leave(g->consumer, &v.env, &s->in, request_version(op->rq), &op->rq->arena, &records, &s->out);
        group_consumer_after(g, &records, op, false);
        return;
    }
    struct classic_env env = group_classic_env(g);
    for (int32_t i = 0; i < s->out.members_n; i++) {
        const struct k_leave_group_request_members *m = &s->in.members[i];
        int16_t error = g->classic ? classic_leave(g->classic, &env, m->member_id, m->group_instance_id) : KERR_UNKNOWN_MEMBER_ID;
        s->out.members[i].error_code = error;
        some = some || !error;
    }
    struct group_records records;
    group_records_begin(&records);
    if (some) classic_left(g->classic, &env, group_id(g), &records);
    group_classic_after(g, &records, op, KERR_NONE);
}

void api_leave_group(struct request *rq) {
    struct leave_state *s = request_alloc(rq, 1, sizeof *s);
    if (!s) return;
    if (!request_decoded(rq, k_leave_group_request_decode(&s->in, &rq->body, request_version(rq)))) return;
    k_leave_group_response_init(&s->out);
    if (request_version(rq) < 3) {
        k_leave_group_request_members_init(&s->single);
        s->single.member_id = s->in.member_id;
        s->in.members = &s->single;
        s->in.members_n = 1;
    }
    s->out.members_n = MAX(s->in.members_n, 0);
    s->out.members = request_alloc(rq, (size_t)s->out.members_n, sizeof *s->out.members);
    if (!s->out.members) return;
    for (int32_t i = 0; i < s->out.members_n; i++) {
        k_leave_group_response_members_init(&s->out.members[i]);
        s->out.members[i].member_id = s->in.members[i].member_id;
        s->out.members[i].group_instance_id = s->in.members[i].group_instance_id;
    }
    s->op = (struct group_op){.rq = rq, .group = s->in.group_id, .lock = GROUP_EXCLUSIVE, .run = leave_run, .done = leave_done, .owner = s};
    group_op_begin(&s->op);
}
