/* membership.c - one voter more or less at a time, and leadership handed over (docs/replication.md 7, 9). */
#include "base/assert.h"
#include "replication/replica_impl.h"

/* A majority of the voters has stored the configuration in force, in this epoch (M2): no quorum of an older one can still form. */
bool replica_config_is_held(const struct replica *r) {
    uint32_t n = r->durable_seq >= r->barrier_seq;
    for (uint32_t i = 0; i < r->peer_count; i++) {
        const struct replica_peer *p = &r->peers[i];
        n += p->voter && !p->went_back && position_known(p->match) && replica_config_compare(p->acked_config, r->config.id) == 0;
    }
    return n >= replica_config_majority(&r->config);
}

/* What was committed under this configuration is on a majority of it, in this epoch (M3). */
static bool committed_is_held(const struct replica *r) {
    return replica_copies(r, (struct replica_position){r->epoch, r->high_watermark}) >= replica_config_majority(&r->config);
}

bool membership_is_settled(const struct replica *r) { return replica_config_is_held(r) && committed_is_held(r); }

/* One that votes already has what is committed; one that comes keeps up, for under load it lacks the last message at any moment. */
static bool is_ready(const struct step *s, const struct replica_member *m) {
    if (replica_config_is_voter(&s->r->config, m)) return replica_in_sync(s->r, m, s->now_ns);
    return replica_keeps_up(s->r, m, s->now_ns);
}

/* The new configuration could go on at once (M4). */
static bool works(const struct step *s, const struct replica_config *to) {
    uint32_t n = 0;
    for (int i = 0; i < to->voters; i++) n += is_ready(s, &to->members[i]);
    return n >= replica_config_majority(to);
}

static bool new_voters_caught_up(const struct step *s, const struct replica_config *to) {
    for (int i = 0; i < to->voters; i++)
        if (!replica_config_is_voter(&s->r->config, &to->members[i]) && !is_ready(s, &to->members[i])) return false;
    return true;
}

enum err membership_change(struct step *s, const struct replica_config *to) {
    struct replica *r = s->r;
    ASSERT(r->role == REPLICA_LEADER);
    if (!replica_config_is_valid(to) || !replica_config_is_single_step(&r->config, to) || !replica_config_is_voter(to, &r->self))
        return ERR_INVALID;
    if (r->transferring || r->config.id.version == INT32_MAX) return ERR_AGAIN;
    if (!MUTANT(r, CFG_NO_CQC) && !replica_config_is_held(r)) return ERR_AGAIN;
    if (!MUTANT(r, CFG_NO_COMMIT) && (!committed_is_held(r) || !works(s, to))) return ERR_AGAIN;
    if (!new_voters_caught_up(s, to)) return ERR_AGAIN;
    struct replica_config before = r->config;
    r->config = *to;
    r->config.id = (struct replica_config_id){r->epoch, before.id.version + 1};
    if (leader_peers(s) != OK) {
        r->config = before;
        return ERR_AGAIN;
    }
    step_persist_config(s);
    r->heartbeat_ns = s->now_ns; /* learners hear of it, and time runs for a group that was alone */
    leader_commit(s);
    return OK;
}

enum err membership_transfer(struct step *s, const struct replica_member *to) {
    struct replica *r = s->r;
    if (r->role != REPLICA_LEADER) return ERR_CLOSED;
    struct replica_peer *p = leader_peer(r, to);
    if (!p || !p->voter || p->went_back) return ERR_INVALID;
    if (r->transferring || !r->established) return ERR_AGAIN;
    r->transferring = true;
    r->transfer_to = *to;
    r->transfer_ns = s->now_ns + r->timeout_ns;
    membership_progress(s, p);
    return OK;
}

void membership_progress(struct step *s, struct replica_peer *p) {
    struct replica *r = s->r;
    if (!r->transferring || !replica_member_eq(&p->member, &r->transfer_to)) return;
    if (replica_position_compare(p->match, walk_last(&r->walk)) != 0) return;
    (void)step_send(s, REPLICA_TIMEOUT_NOW, &p->member);
}
