/* group_timers.c - what joins the classic core to its coordinator: the clock, the log, and who waits. */
#include "base/assert.h"
#include "base/trace.h"
#include "server/api_errors.h"
#include "server/group_api.h"
#include "server/group_coordinator_impl.h"

struct classic_group *group_classic(struct group *g) {
    if (!g->classic) g->classic = classic_new();
    return g->classic;
}

struct classic_env group_classic_env(struct group *g) {
    const struct reactor *r = group_reactor(g);
    const struct config *c = &r->broker->config;
    return (struct classic_env){
        .now_ms = r->now_ns / 1000000, .wall_ms = r->now_ms,
        .session_min_ms = c->group_min_session_timeout_ms, .session_max_ms = c->group_max_session_timeout_ms,
        .initial_delay_ms = c->group_initial_rebalance_delay_ms, .size_max = c->group_max_size,
        .join_reply = group_join_reply, .sync_reply = group_sync_reply, .ctx = g,
    };
}

/* ---- deadlines ------------------------------------------------------------------------------------------ */

/* Only ever moved forward by the core's tick: one that is set too early finds nothing to do. */
void group_arm(struct group *g) {
    struct reactor *r = group_reactor(g);
    int64_t deadline_ns = INT64_MAX;
    if (g->coordinator->state != COORDINATOR_ACTIVE) return;
    if (g->classic && g->classic->next_deadline_ms != CLASSIC_NEVER) deadline_ns = (g->classic->next_deadline_ms + 1) * 1000000;
    if (g->consumer) deadline_ns = MIN(deadline_ns, group_consumer_deadline_ns(g));
    if (deadline_ns == INT64_MAX) return;
    if (!timer_armed(&g->timer) || g->timer.deadline_ns > deadline_ns) timer_set(&r->timers, &g->timer, deadline_ns);
}

static void on_timer(struct timer *t) {
    struct group *g = CONTAINER_OF(t, struct group, timer);
    g->tick_due = true;
    group_settle(g);
}

void group_timer_init(struct group *g) { timer_init(&g->timer, on_timer); }

void group_tick(struct group *g) {
    group_note_tick(g, group_reactor(g)->now_ns / 1000000);
    if (group_has_consumer(g)) {
        group_consumer_tick(g);
        return;
    }
    if (!g->classic) return;
    struct classic_env env = group_classic_env(g);
    struct group_records records;
    group_records_begin(&records);
    classic_tick(g->classic, &env, group_id(g), &records);
    group_classic_after(g, &records, NULL, KERR_NONE);
}

void coordinator_activated(struct coordinator *c) {
    c->set->again_ns = 0;
    for (struct group *g = c->groups; g; g = g->hh.next) {
        struct group_view v;
        group_view_fill(g, &v);
        struct classic_env env = group_classic_env(g);
        if (g->consumer) consumer_group_loaded(g->consumer, &v.env);
        if (g->classic) classic_loaded(g->classic, &env);
        group_arm(g);
    }
    group_expiry_begin(c);
}

/* ---- records of the core ------------------------------------------------------------------------------------ */

static void finished(struct group *g, void *ctx, int16_t error) {
    struct group_op *op = ctx;
    struct classic_env env = group_classic_env(g);
    if (g->coordinator->state == COORDINATOR_GONE) { /* who waited has been told */
    } else if (error) {
        classic_failed(g->classic, &env, error);
    } else {
        classic_committed(g->classic, &env);
    }
    group_arm(g);
    if (op) group_op_finish(op, error ? error : op->error);
}

void group_classic_after(struct group *g, struct group_records *records, struct group_op *op, int16_t error) {
    if (op) op->error = error;
    bool change = g->classic && g->classic->change != CLASSIC_NO_CHANGE;
    if (change && !records->err) {
        group_append(g, GROUP_EXCLUSIVE, records, finished, op);
        return;
    }
    if (change) trace_error("groups", "group %.*s: its record cannot be written: %s", g->id_len, g->id, err_str(records->err));
    int16_t failure = records->err == ERR_NOMEM ? KERR_COORDINATOR_NOT_AVAILABLE : KERR_UNKNOWN_SERVER_ERROR;
    group_records_free(records);
    if (change) {
        finished(g, op, failure);
        return;
    }
    group_arm(g);
    if (op) group_op_finish(op, error);
}
