/* api_group_list.c - ListGroups and DescribeGroups. */
#include <ctype.h>
#include "proto/kafka_messages.h"
#include "server/api.h"
#include "server/group_api.h"

/* ---- ListGroups: one reactor after the other, for they share the request's memory ------------------------- */

struct list_state {
    struct request *rq;
    struct k_list_groups_request in;
    struct k_list_groups_response out;
    int32_t room;
    struct group_visit visit;
    uint32_t next_reactor;
    bool out_of_memory;
};

static bool equal_ignoring_case(struct str a, struct str b) {
    if (a.len != b.len) return false;
    for (int32_t i = 0; i < a.len; i++)
        if (tolower((unsigned char)a.p[i]) != tolower((unsigned char)b.p[i])) return false;
    return true;
}

/* No filter takes everything. */
static bool passes(const struct str *filter, int32_t count, struct str value) {
    for (int32_t i = 0; i < count; i++)
        if (equal_ignoring_case(filter[i], value)) return true;
    return count <= 0;
}

static bool make_room(struct list_state *s) {
    if (s->out.groups_n < s->room) return true;
    int32_t room = MAX(s->room * 2, 64);
    struct k_list_groups_response_groups *grown = arena_array(&s->rq->arena, (size_t)room, sizeof *grown);
    if (!grown) return false;
    if (s->out.groups_n > 0) memcpy(grown, s->out.groups, (size_t)s->out.groups_n * sizeof *grown);
    s->out.groups = grown;
    s->room = room;
    return true;
}

static void list_one(struct group_visit *v, struct group *g) {
    struct list_state *s = v->state;
    if (group_unknown(g) || s->out_of_memory) return;
    struct group_summary sum = group_summary(g);
    if (!passes(s->in.states_filter, s->in.states_filter_n, str_from(sum.state))) return;
    if (!passes(s->in.types_filter, s->in.types_filter_n, str_from(sum.type))) return;
    s->out_of_memory = !make_room(s);
    if (s->out_of_memory) return;
    struct k_list_groups_response_groups *r = &s->out.groups[s->out.groups_n++];
    k_list_groups_response_groups_init(r);
    r->group_id = request_copy(s->rq, group_id(g));
    r->protocol_type = request_copy(s->rq, sum.protocol_type);
    r->group_state = str_from(sum.state);
    r->group_type = str_from(sum.type);
    s->out_of_memory = !r->group_id.p || !r->protocol_type.p;
}

static void list_go_on(struct list_state *s);

static void list_visited(struct group_visit *v) {
    struct list_state *s = v->state;
    group_arena_home(s->rq);
    if (v->error) s->out.error_code = v->error;
    list_go_on(s);
}

static void list_go_on(struct list_state *s) {
    struct broker *b = request_broker(s->rq);
    if (s->out_of_memory) {
        request_close(s->rq, "the answer needs more memory than request.arena.max.bytes");
        return;
    }
    if (s->next_reactor < b->reactor_count) {
        s->visit = (struct group_visit){.caller = s->rq->reactor, .owner = &b->reactors[s->next_reactor++], .visit = list_one,
                                        .done = list_visited, .state = s};
        group_arena_away(s->rq);
        group_visit_send(&s->visit);
        return;
    }
    struct wire_writer *w = request_reply_begin(s->rq);
    k_list_groups_response_encode(&s->out, w, request_version(s->rq));
    request_reply(s->rq);
}

void api_list_groups(struct request *rq) {
    struct list_state *s = request_alloc(rq, 1, sizeof *s);
    if (!s) return;
    s->rq = rq;
    if (!request_decoded(rq, k_list_groups_request_decode(&s->in, &rq->body, request_version(rq)))) return;
    k_list_groups_response_init(&s->out);
    list_go_on(s);
}

/* ---- DescribeGroups ------------------------------------------------------------------------------------------ */

struct describe_state {
    struct request *rq;
    struct k_describe_groups_request in;
    struct k_describe_groups_response out;
    struct group_op op;
    int32_t next;
    size_t needed_bytes;                 /* the group's part of the answer waits until so much is counted: as in api_group_fetch.c */
    bool out_of_memory;
};

static bool describe_member(struct request *rq, const struct classic_group *g, const struct classic_member *m,
                            struct k_describe_groups_response_groups_members *r) {
    bool stable = g->state == CLASSIC_STABLE;
    k_describe_groups_response_groups_members_init(r);
    r->member_id = request_copy(rq, m->id);
    r->group_instance_id = request_copy(rq, m->instance_id);
    r->client_id = request_copy(rq, m->client_id);
    r->client_host = request_copy(rq, m->client_host);
    struct bytes metadata = stable ? classic_metadata(m, g->protocol) : BYTES_NULL;
    struct bytes empty = {(const uint8_t *)"", 0};
    r->member_metadata = metadata.p ? request_copy_bytes(rq, metadata) : empty;
    r->member_assignment = stable && m->assignment.p ? request_copy_bytes(rq, m->assignment) : empty;
    return r->member_id.p && r->client_id.p && r->client_host.p && r->member_metadata.p && r->member_assignment.p &&
           (!m->instance_id.p || r->group_instance_id.p);
}

/* Metadata and assignments belong to a generation: while there is a rebalance none are shown, as in Kafka. */
static bool describe_classic(struct request *rq, const struct classic_group *g, struct k_describe_groups_response_groups *r) {
    r->members = arena_array(&rq->arena, MAX(g->count, 1u), sizeof *r->members);
    if (!r->members) return false;
    for (const struct classic_member *m = g->members; m; m = m->hh.next)
        if (!describe_member(rq, g, m, &r->members[r->members_n++])) return false;
    if (g->state == CLASSIC_STABLE) r->protocol_data = request_copy(rq, g->protocol);
    return r->protocol_data.p != NULL;
}

/* The most that it takes of the arena. */
static size_t described_bytes(const struct classic_group *g) {
    return (size_t)g->bytes + g->count * (sizeof(struct k_describe_groups_response_groups_members) + 128) + 128;
}

static void describe_run(struct group_op *op, struct group *g) {
    struct describe_state *s = op->owner;
    struct k_describe_groups_response_groups *r = &s->out.groups[s->next];
    struct group_summary sum = group_summary(g);
    int16_t error = group_unknown(g) || sum.consumer ? KERR_GROUP_ID_NOT_FOUND : KERR_NONE;
    size_t left = s->rq->arena.limit_bytes - s->rq->arena.used_bytes;
    s->needed_bytes = !error && g->classic && described_bytes(g->classic) > left ? described_bytes(g->classic) : 0;
    if (!error && s->needed_bytes == 0) {
        r->group_state = str_from(sum.state);
        r->protocol_type = request_copy(s->rq, sum.protocol_type);
        s->out_of_memory = !r->protocol_type.p || (g->classic && !describe_classic(s->rq, g->classic, r));
    }
    group_op_finish(op, error);
}

static void describe_go_on(struct describe_state *s);

/* Before version 6 a group that is not there is one that is dead. */
static void describe_done(struct group_op *op) {
    struct describe_state *s = op->owner;
    if (!op->error && s->needed_bytes > 0) {
        if (request_widen(s->rq, s->needed_bytes)) {
            group_op_send(op);
            return;
        }
        op->error = KERR_COORDINATOR_LOAD_IN_PROGRESS;
    }
    struct k_describe_groups_response_groups *r = &s->out.groups[s->next++];
    r->error_code = op->error;
    if (op->error == KERR_GROUP_ID_NOT_FOUND) {
        r->group_state = STR_LIT("Dead");
        if (request_version(s->rq) >= 6)
            r->error_message = request_printf(s->rq, "Group %.*s is not a classic group or does not exist.", MIN(op->group.len, 300), op->group.p);
        else r->error_code = KERR_NONE;
    }
    describe_go_on(s);
}

static void describe_go_on(struct describe_state *s) {
    if (s->out_of_memory) {
        request_close(s->rq, "the answer needs more memory than request.arena.max.bytes");
        return;
    }
    if (s->next < s->out.groups_n) {
        s->op = (struct group_op){.rq = s->rq, .group = s->in.groups[s->next], .lock = GROUP_READ, .run = describe_run, .done = describe_done,
                                  .owner = s};
        group_op_begin(&s->op);
        return;
    }
    struct wire_writer *w = request_reply_begin(s->rq);
    k_describe_groups_response_encode(&s->out, w, request_version(s->rq));
    request_reply(s->rq);
}

void api_describe_groups(struct request *rq) {
    struct describe_state *s = request_alloc(rq, 1, sizeof *s);
    if (!s) return;
    s->rq = rq;
    if (!request_decoded(rq, k_describe_groups_request_decode(&s->in, &rq->body, request_version(rq)))) return;
    k_describe_groups_response_init(&s->out);
    s->out.groups_n = MAX(s->in.groups_n, 0);
    s->out.groups = request_alloc(rq, (size_t)s->out.groups_n, sizeof *s->out.groups);
    if (!s->out.groups) return;
    for (int32_t i = 0; i < s->out.groups_n; i++) {
        struct k_describe_groups_response_groups *r = &s->out.groups[i];
        k_describe_groups_response_groups_init(r);
        r->group_id = s->in.groups[i];
        r->group_state = r->protocol_type = r->protocol_data = STR_LIT("");
        if (s->in.include_authorized_operations) r->authorized_operations = API_GROUP_OPERATIONS;
    }
    describe_go_on(s);
}
