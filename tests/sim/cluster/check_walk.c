/* check_walk.c - what one step of a core may do (docs/replication.md 12): compared are the log's elements before and after it, and what it
 * was asked and says.
 *
 * Many a mistake here does harm only when several rare things come together; the step that makes it is seen at once. */
#include <stdlib.h>
#include "base/assert.h"
#include "replication/replica_impl.h"
#include "server/partition_impl.h"
#include "tests/sim/cluster/cluster.h"

enum { KEPT = WALK_STEP_MARKERS, EPOCHS = 4096, STARTS = 1024 };
struct check_walk { struct { uint64_t group; int64_t start[EPOCHS]; } *groups[STARTS]; uint32_t count; }; /* start: of the epoch, and 1; 0: not seen yet */

struct check_walk *check_walk_new(void) {
    struct check_walk *k = calloc(1, sizeof *k);
    ASSERT(k != NULL);
    return k;
}

void check_walk_note(const struct replica *r, struct walk_before *was) {
    const struct walk *w = &r->walk;
    was->role = r->role;
    was->last = walk_last(w);
    was->high_watermark = r->high_watermark;
    was->config = r->config.id;
    was->granted = r->granted;
    was->established = r->established;
    was->voters_start = r->voters_start;
    was->count = MIN(w->count, (uint32_t)KEPT);
    for (uint32_t i = 0; i < was->count; i++) was->markers[i] = w->markers[w->count - was->count + i];
}

static const struct replica_action *find(const struct replica_actions *a, enum replica_action_kind kind) {
    for (uint32_t i = 0; i < a->count; i++)
        if (a->list[i].kind == kind) return &a->list[i];
    return NULL;
}

/* 2, 9, 10: markers go with a cut to a lower epoch, or with the prefix before the log's start, and never otherwise; a leader cuts nothing, nobody
 * what is committed. */
static void check_markers(struct node *n, uint64_t group, const struct replica *r, const struct walk_before *was, const struct replica_actions *a) {
    const struct replica_action *cut = find(a, REPLICA_TRUNCATE), *start = find(a, REPLICA_SET_START);
    if (find(a, REPLICA_RESET)) return;
    if (cut && was->role == REPLICA_LEADER && r->role == REPLICA_LEADER) cluster_violated(n->c, "2 group %llu: node %d leads and cuts its log", (unsigned long long)group, n->id);
    if (cut && cut->position.offset < was->high_watermark)
        cluster_violated(n->c, "9 group %llu: node %d cuts its log at %lld, below its high watermark %lld", (unsigned long long)group, n->id, (long long)cut->position.offset,
                         (long long)was->high_watermark);
    for (uint32_t i = 0; i < was->count; i++) {
        struct replica_marker m = was->markers[i];
        if ((cut && m.epoch > cut->position.epoch) || (start && m.start < start->position.offset)) continue;
        int32_t at = walk_find(&r->walk, m.epoch);
        if (at < 0 || r->walk.markers[at].start != m.start)
            cluster_violated(n->c, "10 group %llu: node %d drops the start of epoch %d at offset %lld; its log was neither cut before that nor begins behind it",
                             (unsigned long long)group, n->id, m.epoch, (long long)m.start);
    }
}

/* 3: an epoch begins at one place. */
static void check_starts(struct node *n, uint64_t group, const struct replica *r, const struct walk_before *was) {
    struct check_walk *k = n->c->walks;
    const struct walk *w = &r->walk;
    if (w->count == 0 || (was->count > 0 && was->last.epoch == w->markers[w->count - 1].epoch)) return; /* no new one */
    uint32_t g = 0;
    while (g < k->count && k->groups[g]->group != group) g++;
    if (g == k->count) {
        ASSERT(k->count < STARTS);
        k->groups[k->count] = calloc(1, sizeof *k->groups[0]);
        ASSERT(k->groups[k->count] != NULL);
        k->groups[k->count++]->group = group;
    }
    for (uint32_t i = 0; i < w->count; i++) {
        ASSERT(w->markers[i].epoch < EPOCHS);
        int64_t *start = &k->groups[g]->start[w->markers[i].epoch];
        if (*start == 0) *start = w->markers[i].start + 1;
        if (*start != w->markers[i].start + 1)
            cluster_violated(n->c, "3 group %llu: epoch %d begins at %lld in the log of node %d, elsewhere at %lld", (unsigned long long)group, w->markers[i].epoch,
                             (long long)w->markers[i].start, n->id, (long long)*start - 1);
    }
}

/* 4: a vote is for who has all that the voter has; and who asks says what it has, epochs without records included. */
static void check_votes(struct node *n, uint64_t group, const struct replica *r, const struct walk_before *was, const struct replica_message *m, const struct replica_actions *a) {
    struct replica_position last = walk_last(&r->walk);
    bool reply = m && (m->kind == REPLICA_VOTE_REPLY || m->kind == REPLICA_PRE_VOTE_REPLY);
    if (reply && r->role == was->role && (r->granted & ~was->granted) && !replica_config_is_voter(&r->config, &m->from))
        cluster_violated(n->c, "17 group %llu: node %d counts the vote of a replica of node %d that is no voter", (unsigned long long)group, n->id, m->from.node);
    for (uint32_t i = 0; i < a->count; i++) {
        const struct replica_message *x = &a->list[i].message;
        if (a->list[i].kind != REPLICA_SEND) continue;
        bool asks = x->kind == REPLICA_VOTE || x->kind == REPLICA_PRE_VOTE, answers = m && x->ok && (x->kind == REPLICA_VOTE_REPLY || x->kind == REPLICA_PRE_VOTE_REPLY);
        if (asks && r->role != REPLICA_LEADER && replica_position_compare(x->last, last) != 0)
            cluster_violated(n->c, "4 group %llu: node %d asks for votes with (%d,%lld) and has (%d,%lld)", (unsigned long long)group, n->id, x->last.epoch, (long long)x->last.offset,
                             last.epoch, (long long)last.offset);
        if (answers && (m->kind == REPLICA_VOTE || m->kind == REPLICA_PRE_VOTE) && replica_position_compare(m->last, was->last) < 0)
            cluster_violated(n->c, "4 group %llu: node %d, which has (%d,%lld), votes for node %d, which has (%d,%lld)", (unsigned long long)group, n->id, was->last.epoch,
                             (long long)was->last.offset, m->from.node, m->last.epoch, (long long)m->last.offset);
        if (answers && (m->kind == REPLICA_VOTE || m->kind == REPLICA_PRE_VOTE) && replica_config_compare(m->config.id, was->config) < 0)
            cluster_violated(n->c, "16 group %llu: node %d votes for node %d, whose configuration is older than its own", (unsigned long long)group, n->id, m->from.node);
    }
}

/* 11: who leads others has voted for itself durably; a crash cannot make it begin the epoch again. */
static void check_own_vote(struct node *n, const struct partition *p, const struct walk_before *was) {
    const struct replica *r = &p->replica;
    struct log_vote own = {r->epoch, true, r->self.node, r->self.incarnation};
    if (was->role == REPLICA_LEADER || r->role != REPLICA_LEADER || election_alone(r) || n->rotten) return;
    if (!check_vote_is_durable(n, p, &own))
        cluster_violated(n->c, "11 group %llu: node %d leads in epoch %d before its own vote is durable", (unsigned long long)p->plid, n->id, r->epoch);
}

/* 15: what a majority has deleted stays deleted: one of those who voted for the leader knows. */
static void check_inherited(struct node *n, uint64_t group, const struct replica *r, const struct walk_before *was) {
    if (was->established || !r->established || was->role != REPLICA_LEADER || r->role != REPLICA_LEADER) return;
    if (r->walk.start < MIN(was->voters_start, r->high_watermark))
        cluster_violated(n->c, "15 group %llu: node %d is established in epoch %d with a log that starts at %lld; one of its voters had deleted up to %lld", (unsigned long long)group,
                         n->id, r->epoch, (long long)r->walk.start, (long long)was->voters_start);
}

void check_walk_step(struct node *n, const struct partition *p, const struct walk_before *was, const struct replica_message *m, const struct replica_actions *a) {
    check_markers(n, p->plid, &p->replica, was, a);
    check_starts(n, p->plid, &p->replica, was);
    check_votes(n, p->plid, &p->replica, was, m, a);
    check_inherited(n, p->plid, &p->replica, was);
    check_own_vote(n, p, was);
}
