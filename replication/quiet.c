/* quiet.c - groups in which nothing happens cost next to nothing (docs/replication.md 5).
 *
 * A leader that has said the same for STILL_ROUNDS heartbeats offers to be quiet about it. When every member has accepted such an
 * append, all of it, heartbeats pause: from then on the transport vouches for both sides, once for all groups that two processes
 * share (REPLICA_VOUCHED), and what it vouches for counts as a heartbeat, or as an answer to one. Any change, of the log, the high
 * watermark, the members, the role, a connection that breaks, a member that is not vouched for, a message that is not an
 * acknowledgement, brings the heartbeats back at once. A real one goes out every `quiet_ns` in any case, and a follower believes
 * in silence no longer than three of those.
 *
 * What a process that is vouched for could do to break the agreement unheard, it says: a follower that goes to a higher epoch answers
 * its old leader with it (step_adopt_epoch()), a leader that resigns reports so (REPLICA_DOUBT). Should that be lost, the next
 * real heartbeat, or the end of the agreement, finds out. */
#include "replication/replica_impl.h"

enum { STILL_ROUNDS = 5, UNTIL_ROUNDS = 3, VOUCHED_INTERVALS = 4 };

static struct replica_still now_is(const struct replica *r) {
    return (struct replica_still){.last = walk_last(&r->walk), .high_watermark = r->high_watermark, .start = r->walk.start,
                                  .config = r->config.id, .peer_count = r->peer_count, .established = r->established,
                                  .transferring = r->transferring};
}

static bool is_still(const struct replica *r) {
    struct replica_still a = r->still, b = now_is(r);
    return replica_position_compare(a.last, b.last) == 0 && a.high_watermark == b.high_watermark && a.start == b.start &&
           replica_config_compare(a.config, b.config) == 0 && a.peer_count == b.peer_count && a.established == b.established &&
           a.transferring == b.transferring;
}

/* ---- the leader ------------------------------------------------------------------------------------- */

static void disagree(struct replica *r) {
    r->still_rounds = 0;
    r->quiet = false;
    for (uint32_t i = 0; i < r->peer_count; i++) r->peers[i].quiet = false;
}

/* Everybody has answered the last real heartbeat: else somebody is vouched for who does not hear us. */
static bool all_answered(const struct replica *r) {
    for (uint32_t i = 0; i < r->peer_count; i++)
        if (r->peers[i].acked_round != r->round) return false;
    return true;
}

void quiet_round(struct step *s) {
    struct replica *r = s->r;
    if (r->quiet_ns == 0) return;
    if (!is_still(r) || (r->quiet && !all_answered(r))) {
        disagree(r);
        r->still = now_is(r);
    } else if (r->still_rounds < STILL_ROUNDS && ++r->still_rounds == STILL_ROUNDS) {
        r->still_round = r->round + 1;
    }
}

bool quiet_offered(const struct replica *r) {
    return r->still_rounds == STILL_ROUNDS && r->established && !r->transferring && is_still(r);
}

void quiet_answered(struct step *s, struct replica_peer *p, const struct replica_message *m) {
    struct replica *r = s->r;
    if (r->quiet || !m->quiet || !quiet_offered(r) || (int32_t)(m->round - r->still_round) < 0) return;
    p->quiet = replica_position_compare(p->match, r->still.last) == 0 && !p->sending &&
               replica_config_compare(p->acked_config, r->still.config) == 0;
    for (uint32_t i = 0; i < r->peer_count; i++)
        if (!r->peers[i].quiet) return;
    r->quiet = true;
    r->heartbeat_ns = s->now_ns + r->quiet_ns;
}

void quiet_tick(struct step *s) {
    struct replica *r = s->r;
    if (!r->quiet) return;
    for (uint32_t i = 0; i < r->peer_count; i++) {
        if (s->now_ns - r->peers[i].acked_ns < VOUCHED_INTERVALS * heartbeat_interval(r)) continue;
        quiet_end(s);
        r->heartbeat_ns = s->now_ns;
        return;
    }
}

int64_t quiet_deadline(const struct replica *r) {
    int64_t at = r->heartbeat_ns;
    for (uint32_t i = 0; i < r->peer_count && r->quiet; i++) {
        int64_t vouched_until = r->peers[i].acked_ns + VOUCHED_INTERVALS * heartbeat_interval(r);
        if (vouched_until < at) at = vouched_until;
    }
    return at;
}

/* ---- the follower ------------------------------------------------------------------------------------- */

void quiet_agree(struct step *s, const struct replica_message *m) {
    struct replica *r = s->r;
    bool same = replica_position_compare(walk_last(&r->walk), replica_message_end(m)) == 0 && r->high_watermark == m->high_watermark &&
                r->walk.start == m->start && replica_config_compare(r->config.id, m->config.id) == 0;
    r->leader_quiet = m->quiet && r->quiet_ns > 0 && same;
    r->quiet_until_ns = s->now_ns + UNTIL_ROUNDS * r->quiet_ns;
}

/* ---- both --------------------------------------------------------------------------------------------- */

static void leader_vouched(struct replica *r, const struct replica_member *m, int64_t at_ns) {
    if (!r->quiet) return;
    struct replica_peer *p = leader_peer(r, m);
    if (!p || at_ns <= p->acked_ns) return;
    p->acked_ns = at_ns;
    if (at_ns > p->caught_ns) p->caught_ns = at_ns;
}

void quiet_vouched(struct step *s, const struct replica_member *m, int64_t at_ns) {
    struct replica *r = s->r;
    if (r->role == REPLICA_LEADER) {
        leader_vouched(r, m, at_ns);
        return;
    }
    if (!r->leader_quiet || at_ns >= r->quiet_until_ns || !replica_member_eq(m, &r->leader) || at_ns <= r->heard_ns) return;
    r->heard_ns = at_ns;
    struct step then = {r, at_ns, s->out};
    election_reset(&then);
}

void quiet_end(struct step *s) {
    struct replica *r = s->r;
    r->leader_quiet = false;
    if (!r->quiet) return;
    disagree(r);
    if (r->role != REPLICA_LEADER) return;
    int64_t soon = s->now_ns + heartbeat_interval(r);
    if (soon < r->heartbeat_ns) r->heartbeat_ns = soon;
}

void quiet_look(struct step *s) {
    struct replica *r = s->r;
    if (r->quiet && (r->role != REPLICA_LEADER || !is_still(r))) quiet_end(s);
}
