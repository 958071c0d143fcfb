/* election.c - who leads: pre-votes, votes, and what must be durable before either counts (docs/replication.md 5).
 *
 * What is slow in an election are syncs, so the votes of all go to their disks side by side, and who waits for one does not give up; and two
 * that campaign against each other: each has its own vote then, and the next attempt costs a timeout. Votes of many groups that lost one leader
 * wait for the same disk, and a thread may not run for a tenth of a second, so no wait of milliseconds keeps two apart for certain. Therefore:
 *   - those that lost their leader by a broken connection ask one after the other, in the configuration's order (leader_peer_lost())
 *   - who says yes to a pre-vote, or votes, waits for what comes of it: it asks no more itself, and says no to others that have no more than
 *     it has and come later
 *   - who asks, or campaigns, says no to those that have no more than it has and come later in that order (goes_first())
 *   - who was refused, or cannot win any more, asks again soon, each time a little later; at once, when the other shows that it has noticed. */
#include "base/assert.h"
#include "replication/replica_impl.h"

/* After a lost leader. A young process waits longer, for clients may not have found it again: 6 ms for each second of youth that is left,
 * so that of two the older one goes first. */
#define SLOT_NS INT64_C(20000000)
#define JITTER_NS INT64_C(10000000)
#define YOUNG_MAX_NS INT64_C(90000000)
enum { YOUTH_PARTS = 1000 / 6 };
/* After a refusal: 1 to 5 of them, then twice that, and so on. */
#define RETRY_NS INT64_C(10000000)
enum { RETRY_DOUBLINGS = 6, QUICK_TRIES = 2 };
/* How often a candidate that may still win asks for votes again, a timeout after the other, before it gives the epoch up; and how often if
 * somebody has refused: two may have split the votes, and the one that both wait for may be dead. */
enum { ASKED_AGAIN_MAX = 4, ASKED_AGAIN_REFUSED = 1 };
/* A fresh group asks within the first of them, and again after one to two of the second; for a few timeouts only: who is not there by then
 * is down. */
#define EAGER_FIRST_NS INT64_C(30000000)
#define EAGER_RETRY_NS INT64_C(20000000)
enum { EAGER_TIMEOUTS = 8 };

static int64_t random_between(struct replica *r, int64_t low, int64_t high) {
    return low + (int64_t)(replica_random(r) % (uint64_t)(high - low));
}

void election_reset(struct step *s) {
    struct replica *r = s->r;
    int64_t wait = random_between(r, r->timeout_ns, 2 * r->timeout_ns);
    r->election_ns = s->now_ns + wait + (r->damaged ? 4 * r->timeout_ns : 0);
}

void election_start(struct step *s, bool soon) {
    struct replica *r = s->r;
    bool only_voter = r->config.voters == 1 && replica_config_is_voter(&r->config, &r->self);
    election_reset(s);
    if (only_voter) r->election_ns = s->now_ns; /* learners beside it: nobody else could lead */
    if (!soon || r->epoch > 0) return;
    r->eager_until_ns = s->now_ns + EAGER_TIMEOUTS * r->timeout_ns;
    r->election_ns = s->now_ns + random_between(r, 0, EAGER_FIRST_NS);
}

bool election_alone(const struct replica *r) {
    return r->config.count == 1 && replica_config_is_voter(&r->config, &r->self);
}

/* What is compared in votes is the last element, markers included: the last record's epoch is not enough. */
static struct replica_position last_for_votes(const struct replica *r) {
    struct replica_position last = walk_last(&r->walk);
    if (MUTANT(r, VOTE_LAST_RECORD)) last.epoch = walk_last_record_epoch(&r->walk);
    return last;
}

/* A blank replica that no configuration counts may have lost a disk on which votes and acknowledgements lay: it must not vote
 * as if it had never done so (docs/replication.md 10). */
static bool amnesiac(const struct replica *r) {
    struct replica_position last = walk_last(&r->walk);
    return last.epoch == 0 && last.offset == 0 && !replica_config_is_voter(&r->config, &r->self);
}

static bool candidate_is_complete(const struct replica *r, const struct replica_message *m) {
    if (replica_position_compare(m->last, last_for_votes(r)) < 0) return false;
    return MUTANT(r, CFG_VOTE) || replica_config_compare(m->config.id, r->config.id) >= 0;
}

static void ask(struct step *s, enum replica_message_kind kind, int32_t asked_epoch, bool transfer) {
    struct replica *r = s->r;
    r->refused = 0;
    for (int i = 0; i < r->config.voters; i++) {
        if (replica_member_eq(&r->config.members[i], &r->self)) continue;
        struct replica_message *m = step_send(s, kind, &r->config.members[i]);
        m->asked_epoch = asked_epoch;
        m->last = last_for_votes(r);
        m->transfer = transfer;
    }
}

/* ---- waiting ----------------------------------------------------------------------------------------- */

static void at_latest(struct step *s, int64_t wait_ns) {
    if (s->now_ns + wait_ns < s->r->election_ns) s->r->election_ns = s->now_ns + wait_ns;
}

static void retry_soon(struct step *s) {
    struct replica *r = s->r;
    uint32_t doublings = r->tries == 0 ? 0 : r->tries <= RETRY_DOUBLINGS ? r->tries - 1 : RETRY_DOUBLINGS;
    at_latest(s, random_between(r, RETRY_NS, 5 * RETRY_NS) << doublings);
}

static void favour(struct step *s, const struct replica_member *m) {
    s->r->favours = true;
    s->r->favourite = *m;
    s->r->favoured_ns = s->now_ns;
}

/* Somebody else is about to campaign, or does. */
static void let_go_first(struct step *s) {
    struct replica *r = s->r;
    int64_t until_ns = s->now_ns + random_between(r, r->timeout_ns / 2, r->timeout_ns);
    if (r->election_ns < until_ns) r->election_ns = until_ns;
}

void election_leader_heard(struct step *s) {
    s->r->orphaned = s->r->favours = false;
    s->r->tries = s->r->urged = 0;
    election_reset(s);
}

/* How many voters come before this one, without `lost`. */
static int64_t place(const struct replica *r, const struct replica_member *lost) {
    int64_t n = 0;
    for (int i = 0; i < r->config.voters && !replica_member_eq(&r->config.members[i], &r->self); i++)
        n += !replica_member_eq(&r->config.members[i], lost);
    return n;
}

static int64_t youth_ns(const struct step *s) {
    int64_t left_ns = s->r->young_until_ns - s->now_ns;
    return left_ns <= 0 ? 0 : left_ns / YOUTH_PARTS < YOUNG_MAX_NS ? left_ns / YOUTH_PARTS : YOUNG_MAX_NS;
}

static void orphan(struct step *s) {
    struct replica *r = s->r;
    int64_t wait_ns = place(r, &r->leader) * SLOT_NS + random_between(r, 0, JITTER_NS);
    r->orphaned = true;
    r->tries = r->urged = 0;
    at_latest(s, wait_ns + youth_ns(s));
}

/* ---- campaigns ---------------------------------------------------------------------------------------- */

static uint32_t bit_of(const struct replica *r, const struct replica_member *m) {
    int i = replica_config_find(&r->config, m);
    return i >= 0 && i < r->config.voters ? 1u << i : 0;
}

/* One more voter of our configuration. */
static void count(struct replica *r, const struct replica_member *from) {
    int i = replica_config_find(&r->config, from);
    if (MUTANT(r, ACK_NO_INC) && i < 0)
        for (int k = 0; k < r->config.count; k++)
            if (r->config.members[k].node == from->node) i = k;
    if (i >= 0 && i < r->config.voters && !went_back_known(r, from)) r->granted |= 1u << i;
}

/* The own vote is always one of them: without it the epoch could begin again after a crash, with another log. */
static bool is_elected(const struct replica *r) {
    return (uint32_t)__builtin_popcount(r->granted) >= replica_config_majority(&r->config) && (r->granted & bit_of(r, &r->self)) != 0;
}

static void win_if_elected(struct step *s) {
    if (!is_elected(s->r)) return;
    if (leader_begin(s) != OK) step_become_follower(s); /* no memory: tried again at the next deadline */
}

void election_campaign(struct step *s, bool transfer) {
    struct replica *r = s->r;
    if (r->role != REPLICA_LEADER) step_become_follower(s);
    r->role = REPLICA_CANDIDATE;
    r->epoch++;
    r->has_voted = true;
    r->voted = r->self;
    r->has_leader = r->leader_lost = r->leader_quiet = r->answer_due = r->begins_on_write = false;
    r->verified = POSITION_UNKNOWN;
    r->granted = r->refused = 0;
    r->voters_start = 0;
    r->vote_seq = 0; /* a grant that was not durable yet is void: this is another epoch */
    election_reset(s);
    if (election_alone(r)) { /* nobody else can hear of the epoch before it is durable: no wait, vote and marker in one group */
        step_persist_vote(s);
        count(r, &r->self);
        win_if_elected(s);
        return;
    }
    r->campaign_transfer = transfer;
    r->asked_again = 0;
    if (!MUTANT(r, CAND_NO_PERSIST)) {
        step_persist_vote(s);
        r->vote_seq = r->seq;
    }
    if (MUTANT(r, CAND_NO_PERSIST) || MUTANT(r, OWN_VOTE_EARLY)) count(r, &r->self);
    ask(s, REPLICA_VOTE, r->epoch, transfer);
    win_if_elected(s);
}

static void grant(struct step *s) {
    struct replica *r = s->r;
    struct replica_message *m = step_send(s, REPLICA_VOTE_REPLY, &r->vote_for);
    m->asked_epoch = r->epoch;
    m->ok = true;
    m->start = r->walk.start;
    m->last = r->vote_last;
}

/* Too many have refused; the leader whose connection broke will hardly vote either. */
static bool is_hopeless(const struct replica *r) {
    uint32_t without = r->refused | (r->orphaned ? bit_of(r, &r->leader) & ~r->granted : 0);
    return (uint32_t)(r->config.voters - __builtin_popcount(without)) < replica_config_majority(&r->config);
}

/* No vote counts before it is durable: one for another does not leave, the own one is not counted. Disks may be slow: whoever waits for
 * what comes of it does so from now on. */
void election_durable(struct step *s) {
    struct replica *r = s->r;
    if (r->vote_seq == 0 || r->vote_seq > r->durable_seq) return;
    r->vote_seq = 0;
    if (r->role == REPLICA_CANDIDATE) {
        count(r, &r->self);
        win_if_elected(s);
        return;
    }
    grant(s);
    if (!r->favours) return; /* a leader was heard meanwhile */
    favour(s, &r->vote_for);
    election_reset(s);
}

/* Another epoch would cost all of them another sync, and be no faster. */
static bool campaign_goes_on(struct step *s) {
    struct replica *r = s->r;
    uint32_t most = r->refused != 0 ? ASKED_AGAIN_REFUSED : ASKED_AGAIN_MAX;
    if (r->role != REPLICA_CANDIDATE || is_hopeless(r) || r->asked_again >= most) return false;
    r->asked_again++;
    election_reset(s);
    ask(s, REPLICA_VOTE, r->epoch, r->campaign_transfer); /* it may have been lost */
    return true;
}

void election_tick(struct step *s) {
    struct replica *r = s->r;
    if (s->now_ns < r->election_ns || !replica_config_is_voter(&r->config, &r->self)) return;
    if (election_alone(r)) {
        election_campaign(s, false);
        return;
    }
    if (campaign_goes_on(s)) return;
    if (r->role == REPLICA_FOLLOWER && r->vote_seq != 0) { /* its vote for another is on the way to the disk */
        election_reset(s);
        return;
    }
    step_become_follower(s);
    election_reset(s);
    if (r->epoch == 0 && s->now_ns < r->eager_until_ns) r->election_ns = s->now_ns + random_between(r, EAGER_RETRY_NS, 2 * EAGER_RETRY_NS);
    r->role = REPLICA_PRE_CANDIDATE;
    r->leader_quiet = false;
    r->asked_ns = s->now_ns;
    if (r->tries < UINT32_MAX) r->tries++;
    /* What was asked may be lost, if connections break. Not for ever: who said yes waits, and should have its turn. */
    if (r->orphaned && r->tries <= QUICK_TRIES) at_latest(s, random_between(r, r->timeout_ns / 5, 2 * r->timeout_ns / 5));
    count(r, &r->self);
    if (is_elected(r)) election_campaign(s, false);
    else ask(s, REPLICA_PRE_VOTE, r->epoch + 1, false);
}

static bool leader_is_heard(const struct step *s) {
    const struct replica *r = s->r;
    if (r->role == REPLICA_LEADER) return true; /* it resigns by itself when it lacks a majority */
    return r->has_leader && !r->leader_lost && s->now_ns - r->heard_ns < r->timeout_ns;
}

/* Whether the own attempt may come to something yet. Pre-votes that are not answered may be lost: they count for a while only. */
static bool is_trying(const struct step *s, const struct replica_member *other) {
    const struct replica *r = s->r;
    if (r->role == REPLICA_CANDIDATE) return !is_hopeless(r);
    int64_t while_ns = r->tries <= QUICK_TRIES ? r->timeout_ns / 2 : SLOT_NS;
    return r->role == REPLICA_PRE_CANDIDATE && s->now_ns - r->asked_ns < while_ns && (r->refused & bit_of(r, other)) == 0;
}

/* A vote stands; a yes to a pre-vote stands against those that come later, for the earlier one is what all agree on. */
static bool favours_another(const struct step *s, const struct replica_member *m) {
    const struct replica *r = s->r;
    if (!r->favours || replica_member_eq(&r->favourite, m)) return false;
    if (r->vote_seq == 0 && s->now_ns - r->favoured_ns >= r->timeout_ns / 2) return false;
    if (r->has_voted && replica_member_eq(&r->voted, &r->favourite)) return true;
    return replica_config_find(&r->config, &r->favourite) < replica_config_find(&r->config, m);
}

/* Whoever refused us asks now: it had not noticed yet that the leader is gone, and has. Where our yes is not all that it needs, others may hold theirs
 * back, for they have given it to us: so we ask again, at once. Once for each voter: perhaps it refuses us for another reason. */
static bool asks_at_once(struct step *s, const struct replica_message *m) {
    struct replica *r = s->r;
    uint32_t late = r->refused & bit_of(r, &m->from) & ~r->urged;
    if (r->role != REPLICA_PRE_CANDIDATE || late == 0 || replica_config_majority(&r->config) <= 2) return false;
    r->urged |= late;
    r->election_ns = s->now_ns;
    return true;
}

/* Two that lost their leader at the same time ask each other, and others. If all said yes both would campaign, and split the votes. Of equals
 * the one that campaigns, or else the one that the configuration names first, or that was there first, goes ahead; whoever has more does
 * anyway. */
static bool goes_first(struct step *s, const struct replica_message *m) {
    const struct replica *r = s->r;
    if (m->asked_epoch != r->epoch + 1) return false;
    if (replica_position_compare(m->last, last_for_votes(r)) != 0 || replica_config_compare(m->config.id, r->config.id) != 0) return false;
    bool earlier = replica_config_find(&r->config, &r->self) < replica_config_find(&r->config, &m->from);
    if (is_trying(s, &m->from)) return r->role == REPLICA_CANDIDATE || earlier;
    return favours_another(s, &m->from) || (earlier && asks_at_once(s, m));
}

/* A candidate that may still win goes on. */
static void pre_vote_given(struct step *s, const struct replica_message *m) {
    struct replica *r = s->r;
    if (r->role == REPLICA_CANDIDATE && !is_hopeless(r)) return;
    if (r->role == REPLICA_CANDIDATE || is_trying(s, &m->from)) step_become_follower(s); /* else it has refused us, and both would wait */
    favour(s, &m->from);
    let_go_first(s);
}

static void pre_vote(struct step *s, const struct replica_message *m) {
    struct replica *r = s->r;
    bool ok = m->asked_epoch > r->epoch && !amnesiac(r) && !went_back_known(r, &m->from) && !leader_is_heard(s) && candidate_is_complete(r, m) &&
              !goes_first(s, m);
    struct replica_message *reply = step_send(s, REPLICA_PRE_VOTE_REPLY, &m->from);
    reply->asked_epoch = m->asked_epoch;
    reply->ok = ok;
    if (ok) pre_vote_given(s, m);
}

static void vote(struct step *s, const struct replica_message *m) {
    struct replica *r = s->r;
    bool same = r->has_voted && replica_member_eq(&r->voted, &m->from);
    bool ok = m->epoch == r->epoch && r->role != REPLICA_LEADER && r->role != REPLICA_CANDIDATE && !amnesiac(r) && !went_back_known(r, &m->from) &&
              (!r->has_voted || same) && candidate_is_complete(r, m);
    if (!ok) {
        struct replica_message *reply = step_send(s, REPLICA_VOTE_REPLY, &m->from);
        reply->asked_epoch = m->epoch;
        return;
    }
    r->role = REPLICA_FOLLOWER;
    r->has_voted = true;
    r->voted = r->vote_for = m->from;
    r->vote_last = m->last;
    favour(s, &m->from);
    election_reset(s);
    if (MUTANT(r, VOTE_NO_PERSIST)) {
        grant(s);
        return;
    }
    if (!same) step_persist_vote(s);
    r->vote_seq = r->barrier_seq > 0 ? r->barrier_seq : 1; /* at or behind the vote's own */
    if (r->barrier_seq <= r->durable_seq) {                /* asked again: it is durable already */
        r->vote_seq = 0;
        grant(s);
    }
}

static void refused(struct step *s, const struct replica_message *m) {
    struct replica *r = s->r;
    bool pre = m->kind == REPLICA_PRE_VOTE_REPLY;
    r->refused |= bit_of(r, &m->from);
    if (pre ? r->orphaned : is_hopeless(r)) retry_soon(s); /* the others may not have noticed yet that the connection broke */
}

/* Whoever asks for votes before its own one is durable may die, forget all of it, and campaign in the same epoch again, with a log or a
 * configuration of less. A vote that was given for what it had then must not count for what it has now; one that was given for just that may,
 * for a position tells the whole log before it. */
static bool is_of_this_campaign(const struct replica *r, const struct replica_message *m) {
    if (MUTANT(r, GRANT_OF_ANY_LOG)) return true;
    return replica_position_compare(m->last, last_for_votes(r)) == 0 &&
           (MUTANT(r, CFG_VOTE) || replica_config_compare(m->config.id, r->config.id) == 0);
}

static void answered(struct step *s, const struct replica_message *m) {
    struct replica *r = s->r;
    bool pre = m->kind == REPLICA_PRE_VOTE_REPLY;
    if (pre && !m->ok && m->asked_epoch == m->epoch && m->epoch == r->epoch && r->role == REPLICA_FOLLOWER) let_go_first(s); /* it campaigns */
    if (m->asked_epoch != r->epoch + (pre ? 1 : 0)) return;
    if (r->role != (pre ? REPLICA_PRE_CANDIDATE : REPLICA_CANDIDATE)) return;
    if (!m->ok) {
        refused(s, m);
        return;
    }
    if (!pre && !is_of_this_campaign(r, m)) return;
    if (!pre && m->start > r->voters_start) r->voters_start = m->start;
    count(r, &m->from);
    if (!pre) win_if_elected(s);
    else if (is_elected(r)) election_campaign(s, false);
}

void election_message(struct step *s, const struct replica_message *m) {
    struct replica *r = s->r;
    switch (m->kind) {
    case REPLICA_PRE_VOTE:
        pre_vote(s, m);
        break;
    case REPLICA_VOTE:
        vote(s, m);
        break;
    case REPLICA_TIMEOUT_NOW:
        if (m->epoch == r->epoch && r->role != REPLICA_LEADER && replica_config_is_voter(&r->config, &r->self)) election_campaign(s, true);
        break;
    default:
        answered(s, m);
        break;
    }
}

void leader_peer_lost(struct step *s, const struct replica_member *m) {
    struct replica *r = s->r;
    struct replica_peer *p = r->role == REPLICA_LEADER ? leader_peer(r, m) : NULL;
    if (p) { /* what was on its way is lost */
        quiet_end(s);
        p->sending = false;
        p->in_flight = 0;
        p->probing = true;
        if (position_known(p->match)) p->next = p->match;
        return;
    }
    if (r->role == REPLICA_LEADER || !r->has_leader || !replica_member_eq(m, &r->leader)) return;
    bool again = r->leader_lost; /* another connection of the same broker: what was begun goes on */
    r->leader_lost = true;
    r->leader_quiet = false;
    if (!again) orphan(s);
}
