/* replica.c - events to their files, changes that must survive, what is durable, roles. */
#include "replication/replica.h"
#include <stdlib.h>
#include "base/assert.h"
#include "replication/replica_impl.h"

/* splitmix64 (Steele, Lea, Flood, OOPSLA 2014): election deadlines need to differ, no more. */
uint64_t replica_random(struct replica *r) {
    uint64_t z = r->random += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* ---- actions ---------------------------------------------------------------------------------- */

struct replica_action *step_act(struct step *s, enum replica_action_kind kind) {
    ASSERT(s->out->count < REPLICA_ACTIONS_MAX);
    struct replica_action *a = &s->out->list[s->out->count++];
    a->kind = kind;
    a->seq = 0;
    return a;
}

struct replica_message *step_send(struct step *s, enum replica_message_kind kind, const struct replica_member *to) {
    struct replica_action *a = step_act(s, REPLICA_SEND);
    a->message = (struct replica_message){.kind = kind, .from = s->r->self, .to = *to, .epoch = s->r->epoch, .config = s->r->config};
    return &a->message;
}

static struct replica_action *persist(struct step *s, enum replica_action_kind kind) {
    struct replica_action *a = step_act(s, kind);
    a->seq = ++s->r->seq;
    return a;
}

void step_persist_vote(struct step *s) { s->r->barrier_seq = persist(s, REPLICA_PERSIST_VOTE)->seq; }
void step_persist_config(struct step *s) { s->r->barrier_seq = persist(s, REPLICA_PERSIST_CONFIG)->seq; }

/* When there is no room for another mark the newest one waits longer: late is safe. */
void step_note(struct step *s) {
    struct replica *r = s->r;
    if (!r->marks) return;
    if (r->mark_count == REPLICA_MARKS_MAX) r->mark_count--;
    r->marks[r->mark_count++] = (struct replica_mark){r->seq, walk_last(&r->walk)};
}

enum err step_not_alone(struct step *s) {
    struct replica *r = s->r;
    if (r->marks) return OK;
    r->marks = calloc(REPLICA_MARKS_MAX, sizeof *r->marks);
    if (!r->marks) return ERR_NOMEM;
    step_note(s);
    return OK;
}

void step_begin_epoch(struct step *s, int32_t epoch) {
    walk_mark(&s->r->walk, epoch);
    persist(s, REPLICA_BEGIN_EPOCH)->position = walk_last(&s->r->walk);
    step_note(s);
}

void step_append_records(struct step *s, int64_t to) {
    struct replica_action *a = persist(s, REPLICA_APPEND_RECORDS);
    a->from = s->r->walk.end;
    a->to = to;
    walk_extend(&s->r->walk, to);
    a->position = walk_last(&s->r->walk);
    step_note(s);
}

/* Until this is durable nothing of the log counts as durable: the old elements could come back (rule 6, barrier). */
static void barrier(struct step *s, struct replica_action *a, struct replica_position p) {
    a->position = p;
    s->r->barrier_seq = a->seq;
    s->r->durable = POSITION_UNKNOWN;
    s->r->mark_count = 0;
    step_note(s);
}

void step_truncate(struct step *s, struct replica_position p) {
    ASSERT(s->r->role != REPLICA_LEADER);
    walk_truncate(&s->r->walk, p);
    barrier(s, persist(s, REPLICA_TRUNCATE), p);
}

void step_reset(struct step *s, struct replica_position base) {
    ASSERT(s->r->role != REPLICA_LEADER);
    walk_reset(&s->r->walk, base);
    barrier(s, persist(s, REPLICA_RESET), base);
}

void step_set_start(struct step *s, int64_t start) {
    ASSERT(start <= s->r->high_watermark);
    walk_drop_prefix(&s->r->walk, start);
    struct replica_action *a = persist(s, REPLICA_SET_START);
    a->position = walk_base(&s->r->walk);
    s->r->barrier_seq = a->seq;
}

void step_high_watermark(struct step *s, int64_t offset) {
    ASSERT(offset >= s->r->high_watermark && (MUTANT_ANY(s->r) || offset <= s->r->walk.end));
    s->r->high_watermark = offset;
    step_act(s, REPLICA_HIGH_WATERMARK)->position = (struct replica_position){s->r->epoch, offset};
}

/* ---- roles ------------------------------------------------------------------------------------- */

void step_become_follower(struct step *s) {
    struct replica *r = s->r;
    bool led = r->role == REPLICA_LEADER;
    if (r->role == REPLICA_CANDIDATE) r->vote_seq = 0; /* nobody waits for its own vote any more */
    r->role = REPLICA_FOLLOWER;
    r->granted = 0;
    if (!led) return;
    r->established = r->transferring = r->begins_on_write = false;
    free(r->peers);
    r->peers = NULL;
    r->peer_count = 0;
    leader_forget_observers(r);
    election_reset(s);
    step_act(s, REPLICA_ROLE);
}

void step_adopt_epoch(struct step *s, int32_t epoch) {
    struct replica *r = s->r;
    ASSERT(epoch > r->epoch);
    step_become_follower(s);
    bool tell = r->leader_quiet; /* it would take our silence for consent */
    r->epoch = epoch;
    r->has_voted = r->has_leader = r->leader_lost = r->leader_quiet = r->answer_due = false;
    r->verified = POSITION_UNKNOWN;
    r->vote_seq = 0;
    step_persist_vote(s);
    if (tell) step_send(s, REPLICA_APPEND_REPLY, &r->leader)->match = walk_base(&r->walk);
}

void step_adopt_config(struct step *s, const struct replica_config *c) {
    struct replica *r = s->r;
    if (MUTANT(r, NO_GOSSIP) || r->role == REPLICA_LEADER || c->count == 0) return;
    if (replica_config_compare(c->id, r->config.id) <= 0 || step_not_alone(s) != OK) return;
    r->config = *c;
    step_persist_config(s);
    /* Grants were counted by the old one: try again with the new. */
    step_become_follower(s);
    if (r->election_ns == INT64_MAX) election_reset(s);
}

/* ---- events ------------------------------------------------------------------------------------- */

static enum err start(struct step *s, const struct replica_start *from) {
    struct replica *r = s->r;
    r->self = from->self;
    r->timeout_ns = from->timeout_ns;
    r->random = from->seed;
    r->quiet_ns = from->quiet_ns;
    r->young_until_ns = from->young_until_ns;
    r->relaxed = from->relaxed;
    r->config = from->config;
    enum err err = walk_reserve(&r->walk, from->marker_count + 1);
    if (err) return err;
    walk_reset(&r->walk, from->base);
    for (uint32_t i = 0; i < from->marker_count; i++) {
        walk_extend(&r->walk, from->markers[i].start);
        walk_mark(&r->walk, from->markers[i].epoch);
    }
    walk_extend(&r->walk, from->end);
    struct replica_position last = walk_last(&r->walk);
    r->epoch = from->epoch > last.epoch ? from->epoch : last.epoch;
    r->has_voted = from->has_voted && from->epoch == r->epoch;
    r->voted = from->voted;
    r->durable = last;
    r->high_watermark = r->walk.start;
    if (!election_alone(r)) {
        election_start(s, from->campaign_soon);
        return step_not_alone(s);
    }
    /* A group of one: what is durable is committed, for no other log can exist. A new epoch begins with the first
     * change, so idle partitions gain no markers by restarts. A fresh log has no epoch yet. */
    if (last.epoch == 0 || r->epoch > last.epoch) {
        election_campaign(s, false);
        return OK;
    }
    r->role = REPLICA_LEADER;
    r->begins_on_write = true;
    leader_commit(s);
    return OK;
}

static void durable_at(struct step *s, struct replica_position p) {
    struct replica *r = s->r;
    ASSERT(!r->marks && replica_position_compare(p, walk_last(&r->walk)) <= 0);
    if (replica_position_compare(p, r->durable) > 0) r->durable = p;
    if (replica_position_compare(p, walk_last(&r->walk)) == 0) r->durable_seq = r->seq;
    if (r->role == REPLICA_LEADER) leader_commit(s);
}

static void durable(struct step *s, uint64_t seq) {
    struct replica *r = s->r;
    ASSERT(seq <= r->seq);
    if (seq <= r->durable_seq) return;
    r->durable_seq = seq;
    ASSERT(r->marks != NULL);
    uint32_t n = 0;
    while (n < r->mark_count && r->marks[n].seq <= seq) r->durable = r->marks[n++].position;
    for (uint32_t i = n; i < r->mark_count; i++) r->marks[i - n] = r->marks[i];
    r->mark_count -= n;
    election_durable(s);
    if (r->role == REPLICA_LEADER) leader_commit(s);
    else append_answer(s);
}

static void message(struct step *s, const struct replica_message *m) {
    struct replica *r = s->r;
    ASSERT(replica_message_is_valid(m));
    if (!MUTANT(r, ACK_NO_INC) && !replica_member_eq(&m->to, &r->self)) return;
    if (m->kind != REPLICA_PRE_VOTE && m->epoch > r->epoch) step_adopt_epoch(s, m->epoch);
    /* A grant that brings a newer configuration voids the campaign: a second line behind the comparison in votes. */
    if (!MUTANT(r, CFG_VOTE) || m->kind != REPLICA_VOTE_REPLY || !m->ok) step_adopt_config(s, &m->config);
    if (r->quiet && m->kind != REPLICA_APPEND_REPLY) quiet_end(s); /* somebody is not content */
    switch (m->kind) {
    case REPLICA_PRE_VOTE:
    case REPLICA_PRE_VOTE_REPLY:
    case REPLICA_VOTE:
    case REPLICA_VOTE_REPLY:
    case REPLICA_TIMEOUT_NOW:
        election_message(s, m);
        break;
    case REPLICA_APPEND:
        append_message(s, m);
        break;
    case REPLICA_INSTALL_START:
        append_install(s, m);
        break;
    case REPLICA_APPEND_REPLY:
        leader_reply(s, m);
        break;
    }
}

static enum err begin_if_due(struct step *s) {
    struct replica *r = s->r;
    if (!r->begins_on_write) return OK;
    enum err err = walk_reserve(&r->walk, 1);
    if (err) return err;
    election_campaign(s, false);
    ASSERT(r->role == REPLICA_LEADER && !r->begins_on_write);
    return OK;
}

static enum err write_wanted(struct step *s) {
    if (s->r->role != REPLICA_LEADER) return ERR_CLOSED;
    if (s->r->transferring) return ERR_AGAIN;
    return begin_if_due(s);
}

static void appended(struct step *s, struct replica_position p) {
    struct replica *r = s->r;
    ASSERT(r->role == REPLICA_LEADER && !r->begins_on_write);
    walk_extend(&r->walk, p.offset);
    r->seq++;
    step_note(s);
    leader_pump(s);
}

static enum err move_start(struct step *s, int64_t offset) {
    struct replica *r = s->r;
    if (!r->established) return ERR_CLOSED;
    if (offset > r->high_watermark) return ERR_RANGE;
    if (offset > r->walk.start) step_set_start(s, offset);
    r->heartbeat_ns = s->now_ns; /* others hear of it soon: somebody waits until a majority has it */
    return OK;
}

static void damaged(struct step *s, bool is) {
    struct replica *r = s->r;
    r->damaged = is;
    /* Its range is repaired from a peer; meanwhile others should lead. */
    if (is && r->role != REPLICA_LEADER && r->election_ns != INT64_MAX) r->election_ns = s->now_ns + 4 * r->timeout_ns;
}

#ifdef VARVE_MUTANTS
int replica_mutant_now = REPLICA_MUTANT_NONE;
#endif

void replica_init(struct replica *r) {
    *r = (struct replica){.election_ns = INT64_MAX, .heartbeat_ns = INT64_MAX, .verified = POSITION_UNKNOWN};
    walk_init(&r->walk);
#ifdef VARVE_MUTANTS
    r->mutant = r->walk.mutant = replica_mutant_now;
#endif
}

void replica_free(struct replica *r) {
    walk_free(&r->walk);
    free(r->peers);
    leader_forget_observers(r);
    free(r->marks);
    free(r->distrusted);
    r->peers = NULL;
    r->marks = NULL;
    r->distrusted = NULL;
}

enum err replica_step(struct replica *r, const struct replica_event *e, struct replica_actions *actions) {
    struct step s = {r, e->now_ns, actions};
    enum err err = OK;
    actions->count = 0;
    switch (e->kind) {
    case REPLICA_START:
        err = start(&s, e->u.start);
        break;
    case REPLICA_TICK:
        if (r->role == REPLICA_LEADER) leader_tick(&s);
        else election_tick(&s);
        break;
    case REPLICA_MESSAGE:
        message(&s, e->u.message);
        break;
    case REPLICA_SENT:
        leader_sent(&s, e->u.sent.peer, e->u.sent.session, e->u.sent.position);
        break;
    case REPLICA_DURABLE:
        durable(&s, e->u.seq);
        break;
    case REPLICA_DURABLE_AT:
        durable_at(&s, e->u.position);
        break;
    case REPLICA_WRITE:
        err = write_wanted(&s);
        break;
    case REPLICA_APPENDED:
        appended(&s, e->u.position);
        break;
    case REPLICA_MOVE_START:
        err = move_start(&s, e->u.position.offset);
        break;
    case REPLICA_RECONFIGURE:
        err = r->role != REPLICA_LEADER ? ERR_CLOSED : begin_if_due(&s);
        if (!err) err = membership_change(&s, e->u.config);
        break;
    case REPLICA_OBSERVE:
        err = r->role != REPLICA_LEADER ? ERR_CLOSED : begin_if_due(&s);
        if (!err) err = leader_observe(&s, e->u.observers.list, e->u.observers.count);
        break;
    case REPLICA_TRANSFER:
        err = membership_transfer(&s, &e->u.member);
        break;
    case REPLICA_READ:
        err = leader_read(&s);
        break;
    case REPLICA_PEER_LOST:
        leader_peer_lost(&s, &e->u.member);
        break;
    case REPLICA_VOUCHED:
        quiet_vouched(&s, &e->u.vouched.member, e->u.vouched.at_ns);
        break;
    case REPLICA_DOUBT:
        quiet_end(&s);
        break;
    case REPLICA_DAMAGED:
        damaged(&s, e->u.damaged);
        break;
    }
    quiet_look(&s);
    ASSERT(MUTANT_ANY(r) || r->high_watermark <= r->walk.end); /* a mutant is for the simulator to notice */
    ASSERT(r->walk.start <= r->walk.end);
    return err;
}

int64_t replica_deadline(const struct replica *r) {
    if (r->role == REPLICA_LEADER) return r->peer_count > 0 ? quiet_deadline(r) : INT64_MAX;
    return replica_config_is_voter(&r->config, &r->self) ? r->election_ns : INT64_MAX;
}
