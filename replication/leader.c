/* leader.c - what a leader sends, what acknowledgements mean, what is committed (docs/replication.md 5, 6). */
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "replication/replica_impl.h"

enum { IN_FLIGHT_MAX = 4, LAG_TIMEOUTS = 4 };
/* Rounds are compared by their difference: who has been silent for so long does not seem to be ahead. */
#define ROUNDS_APART_MAX (UINT32_MAX / 4)

/* ---- peers ------------------------------------------------------------------------------------- */

struct replica_peer *leader_peer(struct replica *r, const struct replica_member *m) {
    for (uint32_t i = 0; i < r->peer_count; i++)
        if (replica_member_eq(&r->peers[i].member, m)) return &r->peers[i];
    if (MUTANT(r, ACK_NO_INC))
        for (uint32_t i = 0; i < r->peer_count; i++)
            if (r->peers[i].member.node == m->node) return &r->peers[i];
    return NULL;
}

/* Answers repeat it. It names the epoch: whoever has gone on answers an append of an older one with its own epoch, and this node, perhaps
 * another process, may have led that one as well. */
static uint64_t new_session(struct replica *r) { return (uint64_t)(uint32_t)r->epoch << 32 | (uint32_t)++r->next_session; }

static struct replica_peer peer_of(struct step *s, const struct replica_member *m, bool voter) {
    struct replica *r = s->r;
    const struct replica_peer *known = leader_peer(r, m);
    struct replica_peer p = known ? *known : (struct replica_peer){
        .member = *m, .session = new_session(r), .next = walk_last(&r->walk), .match = POSITION_UNKNOWN, .probing = true,
        .acked_ns = s->now_ns, .sent_ns = s->now_ns, .caught_ns = INT64_MIN, .mark = INT64_MAX,
        .acked_round = r->read_confirmed, .held = POSITION_UNKNOWN, .went_back = went_back_known(r, m),
    };
    p.voter = voter;
    return p;
}

enum err leader_peers(struct step *s) {
    struct replica *r = s->r;
    struct replica_peer *peers = NULL;
    uint32_t n = 0, most = r->config.count + r->observer_count;
    if (most > 1) {
        if (step_not_alone(s) != OK) return ERR_NOMEM;
        peers = calloc(most, sizeof *peers);
        if (!peers) return ERR_NOMEM;
    }
    for (int i = 0; i < r->config.count; i++)
        if (!replica_member_eq(&r->config.members[i], &r->self)) peers[n++] = peer_of(s, &r->config.members[i], i < r->config.voters);
    for (uint32_t i = 0; i < r->observer_count; i++)
        if (!replica_config_has_node(&r->config, r->observers[i].node)) peers[n++] = peer_of(s, &r->observers[i], false);
    free(r->peers);
    r->peers = peers;
    r->peer_count = n;
    return OK;
}

void leader_forget_observers(struct replica *r) {
    free(r->observers);
    r->observers = NULL;
    r->observer_count = 0;
}

/* A voter that is alone begins an epoch without waiting until that is durable, because nobody can hear of it before: so nobody may.
 * Otherwise the epoch could begin again after a crash, and an observer have other records of it. */
enum err leader_observe(struct step *s, const struct replica_member *list, uint32_t count) {
    struct replica *r = s->r;
    struct replica_member *before = r->observers, *copy = NULL;
    uint32_t before_count = r->observer_count;
    ASSERT(r->role == REPLICA_LEADER && count <= REPLICA_OBSERVERS_MAX);
    if (!membership_is_settled(r) && !MUTANT(r, OBSERVED_EARLY)) return ERR_AGAIN;
    if (count > 0 && !(copy = malloc(count * sizeof *copy))) return ERR_NOMEM;
    if (count > 0) memcpy(copy, list, count * sizeof *copy);
    r->observers = copy;
    r->observer_count = count;
    enum err err = leader_peers(s);
    if (err) {
        r->observers = before;
        r->observer_count = before_count;
    }
    free(err ? copy : before);
    if (!err) r->heartbeat_ns = s->now_ns; /* they hear of it, and time runs for a group that was alone */
    return err;
}

/* ---- sending ------------------------------------------------------------------------------------ */

/* The elements behind `prev`, as many as a message describes. */
static void fill(const struct walk *w, struct replica_position prev, struct replica_message *m) {
    m->prev = prev;
    m->end_offset = w->end;
    uint32_t i = prev.epoch == w->base_epoch ? 0 : (uint32_t)walk_find(w, prev.epoch) + 1;
    for (; i < w->count; i++) {
        if (m->marker_count == REPLICA_MESSAGE_MARKERS_MAX) {
            m->end_offset = w->markers[i].start;
            return;
        }
        m->markers[m->marker_count++] = w->markers[i];
    }
}

/* What is behind p->next. */
static void compose(const struct replica *r, const struct replica_peer *p, struct replica_message *m) {
    m->session = p->session;
    m->round = r->round;
    m->high_watermark = r->high_watermark;
    m->established = r->established;
    m->quiet = quiet_offered(r);
    m->start = r->walk.start;
    if (!p->below) {
        fill(&r->walk, p->next, m);
        return;
    }
    m->prev = walk_base(&r->walk);
    m->end_offset = r->walk.start;
}

static void send_append(struct step *s, struct replica_peer *p) {
    struct replica *r = s->r;
    struct replica_message *m = step_send(s, p->below ? REPLICA_INSTALL_START : REPLICA_APPEND, &p->member);
    s->out->list[s->out->count - 1].peer = (uint32_t)(p - r->peers);
    compose(r, p, m);
    p->sent_ns = s->now_ns;
    p->sending = !p->below;
}

bool replica_compose(const struct replica *r, uint32_t peer, struct replica_message *out) {
    if (r->role != REPLICA_LEADER || peer >= r->peer_count || !r->peers[peer].sending || r->peers[peer].below) return false;
    const struct replica_peer *p = &r->peers[peer];
    if (p->next.offset < r->walk.start) return false; /* the log start has moved beyond it */
    *out = (struct replica_message){.kind = REPLICA_APPEND, .from = r->self, .to = p->member, .epoch = r->epoch, .config = r->config};
    compose(r, p, out);
    return true;
}

/* Where `p` is to go on, if the log still has it. */
static void aim(struct replica *r, struct replica_peer *p) {
    struct replica_position at;
    if (walk_floor(&r->walk, p->next, &at)) p->next = at;
    else p->below = true;
}

static void pump(struct step *s, struct replica_peer *p, bool heartbeat) {
    struct replica *r = s->r;
    if (p->sending) return;
    aim(r, p);
    bool lacks = replica_position_compare(p->next, walk_last(&r->walk)) < 0 && !p->below;
    bool may = lacks && p->in_flight < (p->probing ? 1 : IN_FLIGHT_MAX);
    if (may || heartbeat) send_append(s, p);
}

void leader_pump(struct step *s) {
    for (uint32_t i = 0; i < s->r->peer_count; i++) pump(s, &s->r->peers[i], false);
}

void leader_sent(struct step *s, uint32_t peer, uint64_t session, struct replica_position position) {
    struct replica *r = s->r;
    if (r->role != REPLICA_LEADER || peer >= r->peer_count || r->peers[peer].session != session) return;
    struct replica_peer *p = &r->peers[peer];
    if (!p->sending) return;
    p->sending = false;
    if (replica_position_compare(position, p->next) <= 0) return; /* it brought nothing */
    if (!p->probing) p->next = position;
    p->in_flight++;
    pump(s, p, false);
}

/* ---- leading ------------------------------------------------------------------------------------ */

static void heartbeat(struct step *s) {
    struct replica *r = s->r;
    quiet_round(s);
    r->heartbeat_ns = s->now_ns + (r->quiet ? r->quiet_ns : heartbeat_interval(r));
    r->round++;
    for (uint32_t i = 0; i < r->peer_count; i++) {
        struct replica_peer *p = &r->peers[i];
        if (r->round - p->acked_round > ROUNDS_APART_MAX) p->acked_round = r->round - ROUNDS_APART_MAX;
        went_back_round(r, p);
        if (s->now_ns - p->acked_ns >= 2 * heartbeat_interval(r)) { /* what was in flight may be lost */
            p->in_flight = 0;
            p->probing = true;
            if (position_known(p->match)) p->next = p->match;
        }
        pump(s, p, true);
    }
}

/* ---- reads ------------------------------------------------------------------------------------ */

static bool round_before(uint32_t a, uint32_t b) { return (int32_t)(a - b) < 0; }
static bool read_waits(const struct replica *r) { return round_before(r->read_confirmed, r->read_round); }

/* The newest round that a majority of the voters has answered in our epoch. */
static uint32_t majority_round(const struct replica *r) {
    uint32_t sorted[REPLICA_MEMBERS_MAX] = {r->round}, n = 1; /* a leader votes */
    for (uint32_t i = 0; i < r->peer_count; i++) {
        if (!r->peers[i].voter) continue;
        uint32_t k = n++, round = r->peers[i].went_back ? r->round - ROUNDS_APART_MAX : r->peers[i].acked_round;
        for (; k > 0 && round_before(sorted[k - 1], round); k--) sorted[k] = sorted[k - 1];
        sorted[k] = round;
    }
    return sorted[replica_config_majority(&r->config) - 1];
}

/* Who has answered a round was not in a later epoch yet when that was sent: as long as a majority says so nobody leads after us, and
 * what was committed by then is below our high watermark. One round at a time: reads that come meanwhile share the next. */
static void confirm_reads(struct step *s) {
    struct replica *r = s->r;
    if (!read_waits(r)) return;
    uint32_t round = majority_round(r);
    if (!round_before(r->read_confirmed, round)) return;
    r->read_confirmed = round;
    step_act(s, REPLICA_READABLE)->seq = round;
    if (round_before(r->round, r->read_round)) heartbeat(s);
}

enum err leader_read(struct step *s) {
    struct replica *r = s->r;
    if (r->role != REPLICA_LEADER) return ERR_CLOSED;
    if (!r->established) return ERR_AGAIN;
    bool under_way = read_waits(r);
    if (!under_way) r->read_confirmed = r->round; /* those were sent before this read came */
    r->read_round = r->round + 1;
    if (MUTANT(r, READ_AT_ONCE)) {
        r->read_confirmed = r->read_round;
        step_act(s, REPLICA_READABLE)->seq = r->read_round;
        return OK;
    }
    if (under_way) return OK;
    heartbeat(s);
    confirm_reads(s);                             /* nobody else votes */
    return OK;
}

/* The marker says to everybody where this epoch begins. Only when it is on a majority is anything of it, or before it,
 * known to be committed. */
enum err leader_begin(struct step *s) {
    struct replica *r = s->r;
    enum err err = walk_reserve(&r->walk, 1);
    if (err) return err;
    ASSERT(r->peer_count == 0 && replica_config_is_voter(&r->config, &r->self));
    err = leader_peers(s); /* they get `next` from before the marker */
    if (err) return err;
    r->role = REPLICA_LEADER;
    r->orphaned = r->favours = false;
    r->tries = r->urged = 0;
    r->read_round = r->read_confirmed = r->round;
    r->epoch_start = r->walk.end;
    step_begin_epoch(s, r->epoch);
    if (!election_alone(r)) {
        r->config.id.epoch = r->epoch;
        step_persist_config(s);
    }
    step_act(s, REPLICA_ROLE);
    heartbeat(s);
    return OK;
}

/* Check-quorum: who cannot reach a majority must not go on as if it led. */
static bool has_majority(const struct step *s) {
    const struct replica *r = s->r;
    uint32_t n = 1;
    for (uint32_t i = 0; i < r->peer_count; i++)
        n += r->peers[i].voter && !r->peers[i].went_back && s->now_ns - r->peers[i].acked_ns < r->timeout_ns;
    return n >= replica_config_majority(&r->config);
}

void leader_tick(struct step *s) {
    struct replica *r = s->r;
    if (r->transferring && s->now_ns >= r->transfer_ns) r->transferring = false;
    quiet_tick(s);
    if (!has_majority(s)) {
        step_become_follower(s);
        return;
    }
    if (s->now_ns >= r->heartbeat_ns) heartbeat(s);
}

/* ---- what was answered ---------------------------------------------------------------------------- */

/* Kafka's rule for replicas that keep up: who has by now what was committed when it answered last was not behind then. */
static void keep_up(struct step *s, struct replica_peer *p) {
    const struct replica *r = s->r;
    if (p->match.epoch != r->epoch) return;
    if (p->match.offset >= r->high_watermark) p->caught_ns = s->now_ns;
    else if (p->match.offset >= p->mark && p->mark_ns > p->caught_ns) p->caught_ns = p->mark_ns;
    else if (p->match.offset < p->mark && p->mark != INT64_MAX) return; /* the mark stands until it is reached */
    p->mark = r->high_watermark;
    p->mark_ns = s->now_ns;
}

static void accepted(struct step *s, struct replica_peer *p, const struct replica_message *m) {
    struct replica *r = s->r;
    struct replica_position match = m->match;
    if (MUTANT(r, ACK_NO_EPOCH) && m->epoch != r->epoch) match.epoch = r->epoch;
    if (replica_position_compare(match, walk_last(&r->walk)) > 0 && !MUTANT(r, ACK_OWN_LEO) && !MUTANT(r, ACK_NO_EPOCH)) return;
    p->acked_config = m->config.id;
    if (m->start > p->start) p->start = m->start;
    if (replica_position_compare(match, p->match) > 0) p->match = match;
    if (p->below) p->next = p->match; /* it began at our base */
    p->probing = p->below = false;
    if (replica_position_compare(match, p->next) > 0) p->next = match;
    if (replica_position_compare(p->match, p->next) >= 0) p->in_flight = 0;
    else if (p->in_flight > 0) p->in_flight--;
    leader_commit(s);
    keep_up(s, p);
    membership_progress(s, p);
}

/* Probes descend strictly, or two replicas could ask each other the same for ever; answers to older probes say nothing new. */
static void rejected(struct step *s, struct replica_peer *p, const struct replica_message *m) {
    struct replica *r = s->r;
    struct replica_position at;
    if (replica_position_compare(m->prev, p->match) <= 0) return;
    if (replica_position_compare(m->prev, p->next) > 0) return;
    p->in_flight = 0;
    p->probing = true;
    bool known = position_known(p->match) && p->match.offset >= r->walk.start; /* what is asked for is never less: went_back.c */
    if (!walk_floor(&r->walk, m->match, &at)) {
        p->below = !known;
        if (p->below) return;
        at = p->match;
    }
    if (known) at = replica_position_max(at, p->match);
    if (replica_position_compare(at, m->prev) >= 0) return;
    p->next = at;
}

void leader_reply(struct step *s, const struct replica_message *m) {
    struct replica *r = s->r;
    if (r->role != REPLICA_LEADER) return;
    if (m->epoch != r->epoch && !MUTANT(r, ACK_NO_EPOCH)) return;
    struct replica_peer *p = leader_peer(r, &m->from);
    if (!p || (m->session != p->session && !MUTANT(r, ACK_NO_INC) && !MUTANT(r, ACK_NO_EPOCH))) return;
    p->acked_ns = s->now_ns;
    if (m->waits) return; /* it is there, and that is all */
    if ((int32_t)(m->round - p->acked_round) > 0) p->acked_round = m->round;
    went_back_look(s, p, m);
    if (m->ok) accepted(s, p, m);
    else rejected(s, p, m);
    if (m->ok) quiet_answered(s, p, m);
    else quiet_end(s);
    confirm_reads(s);
    pump(s, p, p->below && s->now_ns - p->sent_ns >= heartbeat_interval(r));
}

/* ---- commit --------------------------------------------------------------------------------------- */

static struct replica_position match_of(const struct replica *r, const struct replica_member *m) {
    if (replica_member_eq(m, &r->self)) return r->durable;
    for (uint32_t i = 0; i < r->peer_count; i++)
        if (replica_member_eq(&r->peers[i].member, m) && !r->peers[i].went_back) return r->peers[i].match;
    return POSITION_UNKNOWN;
}

/* The largest position that a majority of the voters holds durably; by offset alone for the classic mistake. */
static struct replica_position majority_match(const struct replica *r, bool offsets_only) {
    struct replica_position sorted[REPLICA_MEMBERS_MAX];
    uint32_t n = 0;
    for (int i = 0; i < r->config.voters; i++) {
        struct replica_position p = match_of(r, &r->config.members[i]);
        if (offsets_only) p.epoch = r->epoch;
        uint32_t k = n++;
        for (; k > 0 && replica_position_compare(sorted[k - 1], p) < 0; k--) sorted[k] = sorted[k - 1];
        sorted[k] = p;
    }
    return sorted[replica_config_majority(&r->config) - 1];
}

/* A log start that a majority holds stays: one of them voted for us. What is below it is committed, so we have it (8). */
static void inherit_start(struct step *s) {
    struct replica *r = s->r;
    int64_t start = r->voters_start < r->high_watermark ? r->voters_start : r->high_watermark;
    if (start > r->walk.start && !MUTANT(r, START_FORGOTTEN)) step_set_start(s, start);
}

/* p.epoch == E: an element of an older epoch on a majority can still be overwritten by a candidate that holds a later marker
 * (Raft, figure 8). Once our marker is on a majority nobody without it can win, so all before it is fixed too; for that
 * the marker itself, which takes no offset, is enough. */
void leader_commit(struct step *s) {
    struct replica *r = s->r;
    struct replica_position p = majority_match(r, MUTANT(r, COMMIT_OLD_EPOCH) || MUTANT(r, MARKER_OFFSET_ONLY));
    if (p.epoch != r->epoch || (p.offset < r->epoch_start && !MUTANT(r, COMMIT_OLD_EPOCH))) return;
    bool first = !r->established;
    r->established = true;
    if (p.offset > r->high_watermark) step_high_watermark(s, p.offset);
    if (first) inherit_start(s);
    if (first) step_act(s, REPLICA_ROLE);
}

bool replica_in_sync(const struct replica *r, const struct replica_member *m, int64_t now_ns) {
    if (r->role != REPLICA_LEADER) return false;
    if (replica_member_eq(m, &r->self)) return true;
    struct replica_position committed = {r->epoch, r->high_watermark};
    for (uint32_t i = 0; i < r->peer_count; i++) {
        const struct replica_peer *p = &r->peers[i];
        if (!replica_member_eq(&p->member, m) || p->went_back) continue;
        return now_ns - p->acked_ns < r->timeout_ns && replica_position_compare(p->match, committed) >= 0;
    }
    return false;
}

bool replica_keeps_up(const struct replica *r, const struct replica_member *m, int64_t now_ns) {
    if (replica_in_sync(r, m, now_ns)) return true;
    for (uint32_t i = 0; i < r->peer_count; i++) {
        const struct replica_peer *p = &r->peers[i];
        if (replica_member_eq(&p->member, m) && !p->went_back)
            return now_ns - p->acked_ns < r->timeout_ns && p->caught_ns != INT64_MIN && now_ns - p->caught_ns < LAG_TIMEOUTS * r->timeout_ns;
    }
    return false;
}

uint32_t replica_copies(const struct replica *r, struct replica_position position) {
    uint32_t n = 0;
    for (int i = 0; i < r->config.voters; i++) {
        struct replica_position p = match_of(r, &r->config.members[i]);
        n += replica_position_compare(p, position) >= 0;
    }
    return n;
}
