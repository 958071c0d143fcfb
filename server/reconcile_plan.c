#include "server/reconcile_plan.h"
#include "base/assert.h"

/* ---- asking ------------------------------------------------------------------------------------------------------ */

static bool wants_voter(const struct reconcile_input *in, const struct replica_member *m) {
    for (uint32_t i = 0; i < in->voters; i++)
        if (replica_member_eq(&in->voter[i], m)) return true;
    return false;
}

/* The member of that node which is wanted now, voter or learner; NULL: none. */
static const struct replica_member *wanted_of_node(const struct reconcile_input *in, int32_t node) {
    for (uint32_t i = 0; i < in->voters; i++)
        if (in->voter[i].node == node) return &in->voter[i];
    for (uint32_t i = 0; i < in->learners; i++)
        if (in->learner[i].node == node) return &in->learner[i];
    return NULL;
}

/* It has lost its disk: another incarnation of its node is wanted. */
static bool is_lost(const struct reconcile_input *in, const struct replica_member *m) {
    const struct replica_member *now = wanted_of_node(in, m->node);
    return now && !replica_member_eq(now, m);
}

static bool in_sync(const struct reconcile_input *in, const struct replica_member *m) {
    int at = replica_config_find(in->now, m);
    return at >= 0 && (in->in_sync >> at & 1) != 0;
}

static bool all_wanted_vote(const struct reconcile_input *in) {
    for (uint32_t i = 0; i < in->voters; i++)
        if (!replica_config_is_voter(in->now, &in->voter[i])) return false;
    return true;
}

bool reconcile_voters_are_wanted(const struct reconcile_input *in) { return all_wanted_vote(in) && in->now->voters == in->voters; }

/* ---- building ----------------------------------------------------------------------------------------------------- */

static bool has_node(const struct replica_config *c, int32_t node) {
    for (int i = 0; i < c->count; i++)
        if (c->members[i].node == node) return true;
    return false;
}

static void add_learner(struct replica_config *c, const struct replica_member *m) {
    if (c->count < REPLICA_MEMBERS_MAX && !has_node(c, m->node)) c->members[c->count++] = *m;
}

/* The voters of now without `without`, and `with` (NULL: nobody); behind them those that are to learn, wanted voters first. */
static void build(const struct reconcile_input *in, const struct replica_member *without, const struct replica_member *with,
                  struct replica_config *out) {
    *out = (struct replica_config){.id = in->now->id};
    for (int i = 0; i < in->now->voters; i++)
        if (!without || !replica_member_eq(&in->now->members[i], without)) out->members[out->count++] = in->now->members[i];
    if (with) {
        ASSERT(out->count < REPLICA_MEMBERS_MAX);
        out->members[out->count++] = *with;
    }
    out->voters = out->count;
    for (uint32_t i = 0; i < in->voters; i++) add_learner(out, &in->voter[i]);
    for (uint32_t i = 0; i < in->learners; i++) add_learner(out, &in->learner[i]);
}

static bool same_members(const struct replica_config *a, const struct replica_config *b) {
    if (a->voters != b->voters || a->count != b->count) return false;
    for (int i = 0; i < a->count; i++) {
        int at = replica_config_find(b, &a->members[i]);
        if (at < 0 || (i < a->voters) != (at < b->voters)) return false;
    }
    return true;
}

/* ---- choosing ----------------------------------------------------------------------------------------------------- */

static const struct replica_member *lost_voter(const struct reconcile_input *in) {
    for (int i = 0; i < in->now->voters; i++) {
        const struct replica_member *m = &in->now->members[i];
        if (is_lost(in, m) && !replica_member_eq(m, &in->self)) return m;
    }
    return NULL;
}

static const struct replica_member *ready_learner(const struct reconcile_input *in) {
    for (uint32_t i = 0; i < in->voters; i++) {
        const struct replica_member *m = &in->voter[i];
        if (!replica_config_is_voter(in->now, m) && in_sync(in, m)) return m;
    }
    return NULL;
}

/* Who is dead goes first: the others need it less. */
static const struct replica_member *leaving_voter(const struct reconcile_input *in) {
    const struct replica_member *found = NULL;
    for (int i = 0; i < in->now->voters; i++) {
        const struct replica_member *m = &in->now->members[i];
        if (wants_voter(in, m) || replica_member_eq(m, &in->self)) continue;
        if (!found || !in_sync(in, m)) found = m;
        if (!in_sync(in, m)) break;
    }
    return found;
}

static bool can_lead(const struct reconcile_input *in, uint32_t i) {
    const struct replica_member *m = &in->voter[i];
    return !replica_member_eq(m, &in->self) && replica_config_is_voter(in->now, m) && in_sync(in, m);
}

/* A wanted voter that can lead now, in the order of preference; one that came back a moment ago only when there is no other. */
static const struct replica_member *successor(const struct reconcile_input *in, bool may_drain) {
    const struct replica_member *recent = NULL;
    for (uint32_t i = 0; i < in->voters; i++) {
        if (!can_lead(in, i) || (!may_drain && (in->draining >> i & 1))) continue;
        if ((in->recent >> i & 1) == 0) return &in->voter[i];
        if (!recent) recent = &in->voter[i];
    }
    return recent;
}

static void transfer(struct reconcile_step *out, enum reconcile_kind kind, const struct replica_member *to) {
    out->kind = kind;
    out->to = *to;
}

/* Somebody who is wanted cannot even learn yet: there is no place for it. */
static bool no_room(const struct reconcile_input *in) {
    if (in->now->count < REPLICA_MEMBERS_MAX) return false;
    for (uint32_t i = 0; i < in->voters; i++)
        if (!has_node(in->now, in->voter[i].node)) return true;
    return false;
}

/* Members are as wanted, or wait for others: only who leads may be to change. */
static void plan_leadership(const struct reconcile_input *in, struct reconcile_step *out) {
    bool member = wants_voter(in, &in->self);
    if ((all_wanted_vote(in) || no_room(in)) && !member) { /* the last of those who leave */
        const struct replica_member *to = successor(in, false);
        if (!to) to = successor(in, true);
        if (to) transfer(out, RECONCILE_TRANSFER, to);
        return;
    }
    if (in->self_drains) {
        const struct replica_member *to = successor(in, false);
        if (to) transfer(out, RECONCILE_TRANSFER, to);
        return;
    }
    if (out->kind != RECONCILE_DONE || !in->prefers || in->voters == 0) return;
    if (can_lead(in, 0) && (in->draining & 1) == 0) transfer(out, RECONCILE_PREFER, &in->voter[0]);
}

void reconcile_plan(const struct reconcile_input *in, struct reconcile_step *out) {
    out->kind = RECONCILE_CONFIG;
    const struct replica_member *m = lost_voter(in);
    if (m) {
        build(in, m, NULL, &out->config);
        return;
    }
    m = ready_learner(in);
    if (m) {
        build(in, NULL, m, &out->config);
        return;
    }
    if (all_wanted_vote(in) || no_room(in)) {
        m = leaving_voter(in);
        if (m) {
            build(in, m, NULL, &out->config);
            return;
        }
    }
    build(in, NULL, NULL, &out->config);
    if (!same_members(in->now, &out->config)) return;
    out->kind = reconcile_voters_are_wanted(in) ? RECONCILE_DONE : RECONCILE_WAIT;
    plan_leadership(in, out);
}
