/* append.c - a follower takes elements from its leader (docs/replication.md 6, F1 to F5). */
#include "base/assert.h"
#include "replication/replica_impl.h"

static void reject(struct step *s, const struct replica_message *m) {
    struct replica *r = s->r;
    struct replica_position hint;
    if (!walk_floor(&r->walk, m->prev, &hint)) hint = walk_base(&r->walk);
    struct replica_message *reply = step_send(s, REPLICA_APPEND_REPLY, &m->from);
    reply->session = m->session;
    reply->round = m->round;
    reply->prev = m->prev;
    reply->match = hint;
}

static void acknowledge(struct step *s, struct replica_position match) {
    struct replica *r = s->r;
    struct replica_message *reply = step_send(s, REPLICA_APPEND_REPLY, &r->leader);
    reply->session = r->answer_session;
    reply->round = r->answer_round;
    reply->start = r->walk.start; /* durable like all that barrier_seq counts */
    reply->ok = true;
    reply->quiet = r->leader_quiet;
    reply->match = match;
}

/* A disk may need longer for what a new epoch changes than a leader waits for an answer: one that asks again (a heartbeat) is told that it is heard,
 * and nothing else. */
static void say_waiting(struct step *s, const struct replica_message *m) {
    struct replica_message *reply = step_send(s, REPLICA_APPEND_REPLY, &m->from);
    reply->session = m->session;
    reply->round = m->round;
    reply->prev = reply->match = m->prev;
    reply->waits = true;
}

static bool may_acknowledge(const struct replica *r) { return r->durable_seq >= r->barrier_seq; }

/* F5: what is acknowledged is durable, and so are epoch, configuration and earlier truncations; of every request, also of those
 * that bring nothing. */
void append_answer(struct step *s) {
    struct replica *r = s->r;
    if (!r->answer_due) return; /* due to the leader of this epoch: another epoch, or a campaign, ends that */
    if (MUTANT(r, ACK_BEFORE_FSYNC)) {
        r->answer_due = false;
        acknowledge(s, r->verified);
        return;
    }
    if (!may_acknowledge(r)) return;
    struct replica_position match = replica_position_min(r->verified, r->durable);
    if (replica_position_compare(match, r->verified) == 0) r->answer_due = false;
    if (MUTANT(r, ACK_OWN_LEO)) match = (struct replica_position){r->epoch, r->walk.end};
    acknowledge(s, match);
}

/* From whom, in this epoch; whatever we were, we follow now. */
static bool follow(struct step *s, const struct replica_message *m) {
    struct replica *r = s->r;
    if (m->epoch < r->epoch) { /* it has been replaced, or we campaigned alone: either way it must hear of our epoch */
        reject(s, m);
        return false;
    }
    if (r->role == REPLICA_LEADER) return false; /* two leaders in one epoch: not from a peer that keeps the rules */
    step_become_follower(s);
    r->has_leader = true;
    r->leader_lost = r->leader_quiet = false;
    r->leader = m->from;
    r->heard_ns = s->now_ns;
    election_leader_heard(s);
    return true;
}

/* A reader of a message's elements in the order of the walk. */
struct elements { const struct replica_message *m; struct replica_position at; uint32_t marker; };

static int64_t records_end(const struct elements *e) { /* of the records that come next, before a marker or the end */
    return e->marker < e->m->marker_count ? e->m->markers[e->marker].start : e->m->end_offset;
}
static bool at_end(const struct elements *e) { return e->marker == e->m->marker_count && e->at.offset >= e->m->end_offset; }

static bool has_marker(const struct replica *r, struct replica_marker m) {
    const struct walk *w = &r->walk;
    if (m.start < w->start) return true; /* as is that of the base's epoch */
    int32_t i = walk_find(w, m.epoch);
    if (i >= 0) return w->markers[i].start == m.start;
    if (MUTANT(r, GC)) /* as if zero-length epochs that are committed had been collected */
        for (uint32_t k = 0; k < w->count; k++)
            if (w->markers[k].start == m.start && w->markers[k].epoch > m.epoch && m.start <= r->high_watermark) return true;
    return false;
}

/* F3: passes over the elements that we have; stops at the first that we lack, or at the end. */
static void skip_present(const struct replica *r, struct elements *e) {
    const struct walk *w = &r->walk;
    for (;;) {
        int64_t to = records_end(e);
        int64_t have = walk_epoch_end(w, e->at.epoch);
        if (to > w->start && to > have) { /* have is -1 for epochs that we lack: then nothing of it is here */
            if (have > e->at.offset) e->at.offset = have;
            return;
        }
        e->at.offset = to;
        if (e->marker == e->m->marker_count || !has_marker(r, e->m->markers[e->marker])) return;
        e->at.epoch = e->m->markers[e->marker++].epoch;
    }
}

/* F2: our log ends in the leader's own epoch, so it is a prefix of the leader's: whatever an old message says, nothing is cut. */
static void skip_to_last(const struct replica *r, struct elements *e) {
    struct replica_position last = walk_last(&r->walk);
    uint32_t n = e->m->marker_count;
    if (n > 0) e->at = (struct replica_position){e->m->markers[n - 1].epoch, e->m->markers[n - 1].start};
    e->marker = n;
    if (e->at.epoch < last.epoch) e->at.offset = e->m->end_offset;  /* ends before our last epoch */
    else if (e->at.offset < last.offset) e->at.offset = last.offset < e->m->end_offset ? last.offset : e->m->end_offset;
}

static void append_rest(struct step *s, struct elements *e) {
    while (!at_end(e)) {
        int64_t to = records_end(e);
        if (to > e->at.offset) step_append_records(s, to);
        e->at.offset = to;
        if (e->marker == e->m->marker_count) continue;
        e->at.epoch = e->m->markers[e->marker++].epoch;
        step_begin_epoch(s, e->at.epoch);
    }
}

static void take(struct step *s, const struct replica_message *m) {
    struct replica *r = s->r;
    struct elements e = {m, m->prev, 0};
    bool own_epoch = walk_last(&r->walk).epoch == m->epoch && !MUTANT(r, TRUNC_TO_REQUEST);
    if (own_epoch) skip_to_last(r, &e);
    else skip_present(r, &e);
    bool all = at_end(&e);
    if (!all || (MUTANT(r, TRUNC_TO_REQUEST) && replica_position_compare(e.at, walk_last(&r->walk)) < 0)) {
        if (replica_position_compare(e.at, walk_last(&r->walk)) != 0) {
            ASSERT(!own_epoch || MUTANT(r, ACK_NO_INC));
            ASSERT(MUTANT_ANY(r) || e.at.offset >= r->high_watermark); /* committed elements are in every leader's log */
            step_truncate(s, e.at);
        }
        append_rest(s, &e);
    }
    r->verified = walk_last(&r->walk).epoch == m->epoch ? walk_last(&r->walk) : e.at;
}

/* F4: bounded by what was verified, not by the end of our log. */
static void follow_high_watermark(struct step *s, const struct replica_message *m) {
    struct replica *r = s->r;
    if (!m->established && !MUTANT(r, EXPOSE_HW_EARLY)) return;
    int64_t bound = MUTANT(r, FOLLOWER_HW_LEO) ? r->walk.end : r->verified.offset;
    int64_t hw = m->high_watermark < bound ? m->high_watermark : bound;
    if (hw > r->high_watermark) step_high_watermark(s, hw);
    if (m->start > r->walk.start && m->start <= r->high_watermark) step_set_start(s, m->start);
}

static void answer(struct step *s, const struct replica_message *m, bool changed) {
    struct replica *r = s->r;
    r->answer_session = m->session;
    r->answer_round = m->round;
    r->answer_due = true;
    bool empty = m->kind == REPLICA_APPEND && m->marker_count == 0 && m->end_offset == m->prev.offset;
    if (MUTANT(r, EMPTY_ACK_EARLY) && empty) {
        acknowledge(s, r->verified);
        return;
    }
    append_answer(s);
    if (!changed && r->answer_due && !may_acknowledge(r)) say_waiting(s, m);
}

void append_message(struct step *s, const struct replica_message *m) {
    struct replica *r = s->r;
    if (!follow(s, m)) return;
    if (walk_reserve(&r->walk, m->marker_count) != OK) return; /* as if lost */
    if (!walk_contains(&r->walk, m->prev)) {
        reject(s, m);
        return;
    }
    uint64_t before = r->seq;
    take(s, m);
    follow_high_watermark(s, m);
    quiet_agree(s, m);
    answer(s, m, r->seq != before);
}

/* The leader has no elements below m->prev any more; all of them are committed. */
void append_install(struct step *s, const struct replica_message *m) {
    struct replica *r = s->r;
    if (!follow(s, m)) return;
    struct replica_position base = m->prev;
    uint64_t before = r->seq;
    if (walk_contains(&r->walk, base)) {
        struct replica_position at = base.offset < r->walk.start ? walk_base(&r->walk) : base;
        if (walk_last(&r->walk).epoch == m->epoch) at = walk_last(&r->walk);
        r->verified = position_known(r->verified) ? replica_position_max(r->verified, at) : at;
    } else if (base.offset <= r->high_watermark) {
        reject(s, m);
        return;
    } else {
        step_reset(s, base);
        r->verified = base;
        if (base.offset > r->high_watermark) step_high_watermark(s, base.offset);
    }
    answer(s, m, r->seq != before);
}
