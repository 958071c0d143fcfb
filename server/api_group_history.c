/* api_group_history.c - DescribeGroupHistory, Varve's own (key 32001, not listed by ApiVersions), and what feeds the history. */
#include <stdlib.h>
#include "proto/kafka_messages.h"
#include "server/api.h"
#include "server/group_api.h"
#include "server/group_history.h"

/* ---- from the group into its history ------------------------------------------------------------------------- */

struct seen { bool in_rebalance; int32_t epoch, members; };

static struct seen look(const struct group *g) {
    struct seen s = {false, 0, 0};
    if (group_has_consumer(g)) {
        enum consumer_group_state state = consumer_group_state(g->consumer);
        s.in_rebalance = state == CONSUMER_GROUP_ASSIGNING || state == CONSUMER_GROUP_RECONCILING;
        s.epoch = consumer_group_epoch(g->consumer);
        s.members = (int32_t)consumer_group_member_count(g->consumer);
    } else if (g->classic) {
        s.in_rebalance = g->classic->state == CLASSIC_PREPARING || g->classic->state == CLASSIC_COMPLETING;
        s.epoch = g->classic->generation;
        s.members = (int32_t)g->classic->count;
    }
    return s;
}

void group_note(struct group *g, enum history_cause cause, struct str member, bool joining) {
    if (!g->history) {
        if (group_memory_full(group_reactor(g))) return;
        g->history = malloc(sizeof *g->history);
        if (!g->history) return; /* then there is none: nothing depends on it */
        group_history_init(g->history, look(g).epoch);
    }
    group_history_note(g->history, cause, member, joining, group_reactor(g)->now_ms);
}

void group_note_tick(struct group *g, int64_t mono_ms) {
    struct str silent = STR_NULL;
    if (!group_has_consumer(g) && g->classic) {
        for (const struct classic_member *m = g->classic->members; m && !silent.p; m = m->hh.next)
            if (!m->join_ticket && !m->sync_ticket && m->deadline_ms <= mono_ms) silent = m->id;
    }
    if (g->history) group_note(g, HISTORY_SILENT, silent, false);
}

void group_see(struct group *g) {
    if (!g->history || (!g->classic && !g->consumer)) return; /* nobody was ever there, or not any more */
    struct seen s = look(g);
    group_history_see(g->history, s.in_rebalance, s.epoch, s.members, group_reactor(g)->now_ms);
}

/* ---- the request ------------------------------------------------------------------------------------------------ */

struct history_state {
    struct request *rq;
    struct k_describe_group_history_request in;
    struct k_describe_group_history_response out;
    struct group_op op;
    int32_t next;
    bool out_of_memory;
};

static struct str copy_id(struct request *rq, const struct history_id *id) { return request_copy(rq, (struct str){id->text, id->len}); }

static bool fill_rebalances(struct request *rq, const struct group_history *h, struct k_describe_group_history_response_groups *out) {
    uint32_t n = h ? group_history_size(h) : 0;
    out->rebalances = arena_array(&rq->arena, MAX(n, 1u), sizeof *out->rebalances);
    for (uint32_t i = 0; out->rebalances && i < n; i++) {
        const struct rebalance *r = group_history_at(h, i);
        struct k_describe_group_history_response_groups_rebalances *to = &out->rebalances[out->rebalances_n++];
        *to = (struct k_describe_group_history_response_groups_rebalances){
            .begun_ms = r->begun_ms, .elapsed_ms = r->elapsed_ms, .epoch = r->epoch, .members = r->members, .cause = (int8_t)r->cause,
            .member = copy_id(rq, &r->by), .last_member = copy_id(rq, &r->last), .last_after_ms = r->last_after_ms};
        if (!to->member.p || !to->last_member.p) return false;
    }
    return out->rebalances != NULL;
}

/* Whom a classic group waits for; of the others the epochs tell (ConsumerGroupDescribe). */
static bool fill_waiting(struct request *rq, const struct classic_group *g, struct k_describe_group_history_response_groups *out) {
    out->waiting_for = arena_array(&rq->arena, MAX(g->count, 1u), sizeof *out->waiting_for);
    for (const struct classic_member *m = g->members; m && out->waiting_for; m = m->hh.next) {
        bool missing = (g->state == CLASSIC_PREPARING && !m->join_ticket) || (g->state == CLASSIC_COMPLETING && !m->synced);
        if (!missing) continue;
        struct str id = request_copy(rq, m->id);
        if (!id.p) return false;
        out->waiting_for[out->waiting_for_n++] = id;
    }
    return out->waiting_for != NULL;
}

static void history_run(struct group_op *op, struct group *g) {
    struct history_state *s = op->owner;
    struct k_describe_group_history_response_groups *out = &s->out.groups[s->next];
    if (group_unknown(g)) {
        group_op_finish(op, KERR_GROUP_ID_NOT_FOUND);
        return;
    }
    out->now_ms = group_reactor(g)->now_ms;
    bool good = fill_rebalances(s->rq, g->history, out);
    if (good && g->classic && !group_has_consumer(g)) good = fill_waiting(s->rq, g->classic, out);
    s->out_of_memory = !good;
    group_op_finish(op, KERR_NONE);
}

static void history_go_on(struct history_state *s);

static void history_done(struct group_op *op) {
    struct history_state *s = op->owner;
    s->out.groups[s->next++].error_code = op->error;
    history_go_on(s);
}

static void history_go_on(struct history_state *s) {
    if (s->out_of_memory) {
        request_close(s->rq, "the answer needs more memory than request.arena.max.bytes");
        return;
    }
    if (s->next < s->out.groups_n) {
        s->op = (struct group_op){.rq = s->rq, .group = s->in.groups[s->next], .lock = GROUP_READ, .run = history_run, .done = history_done,
                                  .owner = s};
        group_op_begin(&s->op);
        return;
    }
    struct wire_writer *w = request_reply_begin(s->rq);
    k_describe_group_history_response_encode(&s->out, w, request_version(s->rq));
    request_reply(s->rq);
}

void api_describe_group_history(struct request *rq) {
    struct history_state *s = request_alloc(rq, 1, sizeof *s);
    if (!s) return;
    s->rq = rq;
    if (!request_decoded(rq, k_describe_group_history_request_decode(&s->in, &rq->body, request_version(rq)))) return;
    k_describe_group_history_response_init(&s->out);
    s->out.groups_n = MAX(s->in.groups_n, 0);
    s->out.groups = request_alloc(rq, (size_t)s->out.groups_n, sizeof *s->out.groups);
    if (!s->out.groups) return;
    for (int32_t i = 0; i < s->out.groups_n; i++) {
        k_describe_group_history_response_groups_init(&s->out.groups[i]);
        s->out.groups[i].group_id = s->in.groups[i];
    }
    history_go_on(s);
}
