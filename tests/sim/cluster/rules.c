/* rules.c - which situations of the rules (docs/replication.md 5 to 10) the brokers' replicas have been in: counted from outside, by what each
 * step of a core was given, was before, is after, and wants done.
 *
 * The same place is where check_walk.c looks.
 *
 * A rule that no run has needed is a rule that no run has tested: --coverage says which. */
#include <string.h>
#include "base/assert.h"
#include "replication/replica_impl.h"
#include "server/partition_impl.h"
#include "tests/sim/cluster/cluster.h"

struct before {
    enum replica_role role;
    int32_t epoch;
    bool established, transferring, quiet, leader_quiet, has_leader, leader_heard, has_voted, blank, damaged, reads_wait;
    struct replica_member voted;
    struct replica_position last;
    int64_t start, high_watermark;
    uint32_t markers;
    struct replica_config config;
};

static struct before note(const struct replica *r, int64_t now_ns) {
    return (struct before){
        .role = r->role, .epoch = r->epoch, .established = r->established, .transferring = r->transferring, .quiet = r->quiet, .leader_quiet = r->leader_quiet,
        .has_leader = r->has_leader, .leader_heard = r->has_leader && !r->leader_lost && now_ns - r->heard_ns < r->timeout_ns, .has_voted = r->has_voted,
        .blank = r->walk.end == 0 && r->walk.count == 0 && !replica_config_is_voter(&r->config, &r->self), .damaged = r->damaged,
        .reads_wait = r->role == REPLICA_LEADER && (int32_t)(r->read_confirmed - r->read_round) < 0, .voted = r->voted, .last = walk_last(&r->walk),
        .start = r->walk.start, .high_watermark = r->high_watermark, .markers = r->walk.count, .config = r->config,
    };
}

static const struct replica_action *find(const struct replica_actions *a, enum replica_action_kind kind) {
    for (uint32_t i = 0; i < a->count; i++)
        if (a->list[i].kind == kind) return &a->list[i];
    return NULL;
}
static const struct replica_message *find_sent(const struct replica_actions *a, enum replica_message_kind kind) {
    for (uint32_t i = 0; i < a->count; i++)
        if (a->list[i].kind == REPLICA_SEND && a->list[i].message.kind == kind) return &a->list[i].message;
    return NULL;
}

/* ---- 5: elections ------------------------------------------------------------------------------------- */

/* Why a candidate was refused: the first reason that holds. */
static void count_refusal(struct cluster_coverage *v, const struct before *was, const struct replica_message *m) {
    bool pre = m->kind == REPLICA_PRE_VOTE, behind = replica_position_compare(m->last, was->last) < 0, old = replica_config_compare(m->config.id, was->config.id) < 0;
    if (!pre && m->epoch < was->epoch) v->votes_refused_epoch++;
    else if (was->blank) v->votes_refused_blank++;
    else if (behind && pre) v->pre_votes_refused_last++;
    else if (behind) v->votes_refused_last++;
    else if (old && pre) v->pre_votes_refused_config++;
    else if (old) v->votes_refused_config++;
    else if (pre && m->asked_epoch <= was->epoch) v->pre_votes_refused_epoch++;
    else if (pre && (was->role == REPLICA_LEADER || was->leader_heard)) v->pre_votes_refused_live++;
    else if (pre) v->pre_votes_refused_first++;
    else if (m->epoch == was->epoch && was->has_voted && !replica_member_eq(&was->voted, &m->from)) v->votes_refused_voted++;
}

static void count_election(struct cluster_coverage *v, const struct replica *r, const struct before *was, const struct replica_event *e, const struct replica_actions *a) {
    const struct replica_message *m = e->kind == REPLICA_MESSAGE ? e->u.message : NULL;
    if (m && (m->kind == REPLICA_PRE_VOTE || m->kind == REPLICA_VOTE)) {
        const struct replica_message *reply = find_sent(a, m->kind == REPLICA_VOTE ? REPLICA_VOTE_REPLY : REPLICA_PRE_VOTE_REPLY);
        if (reply && !reply->ok) count_refusal(v, was, m);
    }
    bool candidate = was->role == REPLICA_CANDIDATE || was->role == REPLICA_PRE_CANDIDATE;
    if (candidate && replica_config_compare(r->config.id, was->config.id) > 0 && r->role == REPLICA_FOLLOWER) v->candidates_learn_config++;
    if (was->role == REPLICA_CANDIDATE && r->role == REPLICA_FOLLOWER) v->campaigns_lost++;
    if (was->role == REPLICA_LEADER && r->role == REPLICA_FOLLOWER) {
        if (e->kind == REPLICA_TICK) v->leaders_resigned++;
        else if (m && m->kind == REPLICA_APPEND_REPLY) v->leaders_pulled_up++;
        else v->leaders_deposed++;
        v->reads_left += was->reads_wait;
    }
    if (e->kind == REPLICA_PEER_LOST && r->leader_lost) v->leaders_lost++;
    if (e->kind == REPLICA_TRANSFER && !was->transferring && r->transferring) v->transfers++;
    if (was->transferring && r->role == REPLICA_LEADER && !r->transferring) v->transfers_timed_out++;
    if (m && m->kind == REPLICA_TIMEOUT_NOW && r->campaign_transfer && r->role == REPLICA_CANDIDATE && r->epoch > was->epoch) v->transfers_taken++;
}

static void count_quiet(struct cluster_coverage *v, const struct replica *r, const struct before *was, const struct replica_event *e) {
    v->quiet_begun += !was->quiet && r->quiet;
    v->quiet_ended += was->quiet && !r->quiet;
    v->quiet_vouched += e->kind == REPLICA_VOUCHED && (was->quiet || was->leader_quiet);
    v->quiet_doubted += e->kind == REPLICA_DOUBT && (was->quiet || was->leader_quiet);
}

/* ---- 6: followers --------------------------------------------------------------------------------------- */

static bool has_zero_length(const struct walk *w, uint32_t from) {
    for (uint32_t i = from > 0 ? from : 1; i < w->count; i++)
        if (w->markers[i].start == w->markers[i - 1].start) return true;
    return false;
}

static void count_append(struct cluster_coverage *v, const struct replica *r, const struct before *was, const struct replica_message *m, const struct replica_actions *a) {
    const struct replica_message *reply = find_sent(a, REPLICA_APPEND_REPLY);
    const struct replica_action *cut = find(a, REPLICA_TRUNCATE);
    struct replica_position end = replica_message_end(m);
    if (m->epoch < was->epoch) {
        v->appends_stale++;
        return;
    }
    if (reply && !reply->ok) v->appends_refused++;
    if (cut) v->cuts_by_walk++;
    if (cut && cut->position.offset == was->last.offset) v->cuts_of_markers++;
    if (was->last.epoch == m->epoch && replica_position_compare(end, was->last) < 0) v->appends_older++;
    if (was->last.epoch < m->epoch && replica_position_compare(m->prev, was->last) < 0 && !cut && reply && reply->ok) v->walks_without_cut++;
    if (m->marker_count > 1) v->appends_of_epochs++;
    if (m->prev.offset < was->start) v->appends_below_start++;
    if (m->established && m->high_watermark > r->verified.offset) v->commits_bounded++;
    if (r->answer_due) v->answers_held++;
    if (r->walk.count > was->markers && has_zero_length(&r->walk, was->markers)) v->epochs_empty++;
    if (find(a, REPLICA_SET_START)) v->starts_followed++;
}

static void count_follower(struct cluster_coverage *v, const struct replica *r, const struct before *was, const struct replica_message *m, const struct replica_actions *a) {
    if (m->kind == REPLICA_APPEND && was->role != REPLICA_LEADER) count_append(v, r, was, m, a);
    if (m->kind == REPLICA_INSTALL_START) {
        if (find(a, REPLICA_RESET)) v->logs_begun_anew++;
        else v->installs_not_needed++;
    }
}

/* ---- 6, 7, 8: leaders ------------------------------------------------------------------------------------ */

static void count_reply(struct cluster_coverage *v, const struct replica *r, const struct before *was, const struct replica_message *m) {
    if (was->role != REPLICA_LEADER || m->epoch > was->epoch) return;
    int at = replica_config_find(&was->config, &m->from);
    if (m->epoch < was->epoch) v->acks_of_older_epochs++;
    else if (at < 0) v->acks_of_strangers++;
    for (uint32_t i = 0; i < r->peer_count && m->epoch == was->epoch; i++)
        if (replica_member_eq(&r->peers[i].member, &m->from)) {
            if (r->peers[i].session != m->session) v->acks_of_older_sessions++;
            else if (!m->ok && r->peers[i].below) v->hints_below++;
        }
}

static void count_leader(struct cluster_coverage *v, const struct replica *r, const struct before *was, const struct replica_event *e, const struct replica_actions *a) {
    bool first = r->role == REPLICA_LEADER && r->established && !was->established && r->peer_count > 0;
    if (first && r->high_watermark == r->epoch_start) v->commits_by_marker++;
    if (first && was->high_watermark < r->epoch_start) v->commits_of_older_epochs++;
    if (first && find(a, REPLICA_SET_START)) v->starts_inherited++;
    if (e->kind == REPLICA_MOVE_START && find(a, REPLICA_SET_START)) v->starts_moved++;
    if (r->peer_count > 0 && find(a, REPLICA_READABLE)) v->reads_confirmed++;
    if (find_sent(a, REPLICA_INSTALL_START)) v->installs++;
}

/* ---- 9, 10: members ------------------------------------------------------------------------------------- */

static void count_refused_change(struct cluster_coverage *v, const struct replica *r, const struct before *was) {
    struct replica_position committed = {was->epoch, was->high_watermark};
    if (was->transferring) return;
    if (!replica_config_is_held(r)) v->changes_refused_held++;
    else if (!was->established || replica_copies(r, committed) < replica_config_majority(&was->config)) v->changes_refused_committed++;
    else v->changes_refused_ready++;
}

static void count_change(struct cluster_coverage *v, const struct replica_config *from, const struct replica_config *to) {
    for (int i = 0; i < to->count; i++) {
        const struct replica_member *m = &to->members[i];
        int at = replica_config_find(from, m);
        if (i < to->voters && at >= from->voters) v->learners_promoted++;
        for (int k = 0; k < from->count; k++) v->incarnations_replaced += from->members[k].node == m->node && !replica_member_eq(&from->members[k], m);
    }
    for (int i = 0; i < from->voters; i++) v->voters_dropped += !replica_config_is_voter(to, &from->members[i]);
}

static void count_members(struct cluster_coverage *v, const struct replica *r, const struct before *was, const struct replica_event *e, enum err err) {
    if (e->kind == REPLICA_RECONFIGURE && err == ERR_AGAIN) count_refused_change(v, r, was);
    if (e->kind == REPLICA_RECONFIGURE && err == OK) count_change(v, &was->config, &r->config);
    bool newer = replica_config_compare(r->config.id, was->config.id) > 0;
    if (newer && e->kind == REPLICA_MESSAGE && e->u.message->kind != REPLICA_APPEND && e->u.message->kind != REPLICA_INSTALL_START) v->configs_by_gossip++;
    if (newer && was->role != REPLICA_LEADER && replica_config_is_voter(&was->config, &r->self) && !replica_config_is_voter(&r->config, &r->self)) v->voters_learn_it++;
    v->logs_damaged += !was->damaged && r->damaged;
    v->logs_mended += was->damaged && !r->damaged;
}

/* ---- moments ----------------------------------------------------------------------------------------------- */

/* What was decided is known here only: seldom does chance alone strike before others hear of it. */
static void notice_moment(struct node *n, const struct replica *r, const struct before *was, const struct replica_event *e, const struct replica_actions *a, enum err err) {
    bool leads = r->role == REPLICA_LEADER && r->peer_count > 0;
    bool decided = (e->kind == REPLICA_RECONFIGURE && err == OK) || (e->kind == REPLICA_TRANSFER && err == OK) ||
                   (e->kind == REPLICA_MOVE_START && find(a, REPLICA_SET_START)) || was->role != REPLICA_LEADER;
    if (leads && decided) n->moment = true;
}

/* ---- in the place of replica_step() ------------------------------------------------------------------------ */

enum err __real_replica_step(struct replica *r, const struct replica_event *event, struct replica_actions *actions);
enum err __wrap_replica_step(struct replica *r, const struct replica_event *event, struct replica_actions *actions);
enum err __wrap_replica_step(struct replica *r, const struct replica_event *event, struct replica_actions *actions) {
    struct cluster_coverage *v = covered(cluster_now);
    struct before was = note(r, event->now_ns);
    struct walk_before walk;
    const struct partition *p = CONTAINER_OF(r, struct partition, replica);
    struct node *n = node_of(p->map->reactor);
    check_walk_note(r, &walk);
    struct replica_message m;
    bool message = event->kind == REPLICA_MESSAGE;
    if (message) m = *event->u.message; /* it may lie in what the step frees */
    enum err err = __real_replica_step(r, event, actions);
    struct replica_event e = *event;
    if (message) e.u.message = &m;
    count_election(v, r, &was, &e, actions);
    count_quiet(v, r, &was, &e);
    count_leader(v, r, &was, &e, actions);
    count_members(v, r, &was, &e, err);
    check_walk_step(n, p, &walk, message ? &m : NULL, actions);
    notice_moment(n, r, &was, &e, actions, err);
    if (!message || !replica_member_eq(&m.to, &r->self)) return err;
    count_follower(v, r, &was, &m, actions);
    if (m.kind == REPLICA_APPEND_REPLY) count_reply(v, r, &was, &m);
    return err;
}
