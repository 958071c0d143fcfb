/* messages.c - what brokers' replicas say to each other: looked at when it leaves (docs/replication.md 12, number 11), and for a time
 * lost, doubled or late.
 *
 * The connections between brokers keep what they carry whole and in order, so that much of what the quorum core must bear never reaches
 * it by them: an old request behind a new one, the same one twice. Here it does. */
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "server/partition_impl.h"
#include "server/peer.h"
#include "tests/sim/cluster/cluster.h"

enum { LATE_MAX = 512, SMALL_ONE_IN = 5 }; /* messages that wait at once; votes and answers are fewer, and tell more */
#define LATE_NS (2 * SECOND)             /* the longest: elections come and go meanwhile */
struct late {                            /* on the sender's own timers: it dies with it */
    struct timer timer;
    struct node *n;
    struct reactor *r;
    uint64_t group;
    struct replica_message m;
    struct slice records;                /* .buf NULL: none */
};
static struct cluster *of;

struct node *node_of(const struct reactor *r) {
    for (uint32_t i = 1; i <= of->node_count; i++)
        if (&of->nodes[i].broker == r->broker) return &of->nodes[i];
    ASSERT(false); /* a reactor of no node */
}

/* ---- true when it leaves ------------------------------------------------------------------------- */

static void check_promise(struct node *n, const struct partition *p, const struct replica_message *m, const struct replica_member *whom) {
    struct log_vote vote = {m->asked_epoch, true, whom->node, whom->incarnation};
    if (!check_vote_is_durable(n, p, &vote))
        cluster_violated(n->c, "11 group %llu: node %d votes in epoch %d for node %d before that is durable", (unsigned long long)p->plid, n->id, vote.epoch,
                         whom->node);
}

static void check_acknowledgement(struct node *n, const struct partition *p, const struct replica_message *m) {
    struct log_vote epoch = {.epoch = m->epoch};
    if (m->match.offset > p->log->durable_end)
        cluster_violated(n->c, "11 group %llu: node %d acknowledges (%d,%lld) and has %lld durable", (unsigned long long)p->plid, n->id, m->match.epoch,
                         (long long)m->match.offset, (long long)p->log->durable_end);
    if (!check_vote_is_durable(n, p, &epoch))
        cluster_violated(n->c, "11 group %llu: node %d acknowledges in epoch %d before that is durable", (unsigned long long)p->plid, n->id, m->epoch);
}

static void check_message(struct node *n, struct reactor *r, uint64_t group, const struct replica_message *m) {
    const struct partition *p = partition_find(r, group);
    if (!p || !p->started || !partition_is_replicated(p) || n->rotten) return;
    if (m->ok) check_may_speak(n, p, m);
    if (m->kind == REPLICA_VOTE_REPLY && m->ok) check_promise(n, p, m, &m->to);
    if (m->kind == REPLICA_APPEND_REPLY && m->ok) check_acknowledgement(n, p, m);
}

/* ---- what a message does -------------------------------------------------------------------------- */

/* In the place of partition_receive(): a follower takes as committed only what it has found to be its leader's, whatever else its log holds
 * (docs/replication.md 6, F4). */
void __real_partition_receive(struct reactor *r, uint64_t group, const struct replica_message *m, struct bytes records);
void __wrap_partition_receive(struct reactor *r, uint64_t group, const struct replica_message *m, struct bytes records);
void __wrap_partition_receive(struct reactor *r, uint64_t group, const struct replica_message *m, struct bytes records) {
    const struct partition *p = r->partitions ? partition_find(r, group) : NULL;
    int64_t before = p ? p->replica.high_watermark : 0;
    struct replica_peer peers[REPLICA_MEMBERS_MAX];
    uint32_t count = p && p->replica.role == REPLICA_LEADER ? p->replica.peer_count : 0;
    if (count > 0) memcpy(peers, p->replica.peers, count * sizeof *peers);
    __real_partition_receive(r, group, m, records);
    if (!p || partition_find(r, group) != p) return;
    if (count > 0) check_counted(node_of(r), p, m, peers, count);
    if (m->kind != REPLICA_APPEND || p->replica.role != REPLICA_FOLLOWER) return;
    if (p->replica.high_watermark > before && p->replica.high_watermark > p->replica.verified.offset)
        cluster_violated(of, "7 group %llu: node %d takes offsets up to %lld as committed and has found its log to be its leader's up to %lld", (unsigned long long)group,
                         node_of(r)->id, (long long)p->replica.high_watermark, (long long)p->replica.verified.offset);
}

/* ---- the way ---------------------------------------------------------------------------------------- */

static struct slice gather(const struct slice *slices, uint32_t count) {
    uint32_t len = 0, at = 0;
    for (uint32_t i = 0; i < count; i++) len += slices[i].len;
    if (len == 0) return (struct slice){0};
    struct buf *all = buf_new(len, 0);
    ASSERT(all != NULL);
    for (uint32_t i = 0; i < count; i++) {
        memcpy(all->data + at, slice_data(&slices[i]), slices[i].len);
        at += slices[i].len;
    }
    return (struct slice){.buf = all, .len = len};
}

static void arrive_late(struct timer *t) {
    struct late *l = CONTAINER_OF(t, struct late, timer);
    if (l->n->c->healed) buf_unref(l->records.buf);
    else (void)peer_send(l->r, l->group, &l->m, &l->records, l->records.buf ? 1 : 0);
    l->n->late--;
    free(l);
}

static void send_later(struct node *n, struct reactor *r, uint64_t group, const struct replica_message *m, const struct slice *slices, uint32_t count) {
    struct cluster *c = n->c;
    if (n->late >= LATE_MAX) return;
    struct late *l = calloc(1, sizeof *l);
    ASSERT(l != NULL);
    *l = (struct late){.n = n, .r = r, .group = group, .m = *m, .records = gather(slices, count)};
    int64_t most = chance(c, 4) ? LATE_NS : chance(c, 2) ? 200 * MS : 20 * MS;
    timer_init(&l->timer, arrive_late);
    timer_set(&r->timers, &l->timer, sim_now_ns(c->world) + 1 + (int64_t)below(c, (uint64_t)most));
    n->late++;
}

/* Seldom does chance alone hit the one message with which a leader hands over, and never all of them until it gives that up. */
static bool is_to_be_lost(struct cluster *c, const struct replica_message *m) {
    if (m->kind != REPLICA_TIMEOUT_NOW || !(c->faults >> FAULT_MESSAGES & 1) || c->healed) return false;
    int64_t now_ns = sim_now_ns(c->world);
    if (now_ns >= c->hand_overs_lost_until && chance(c, 4)) c->hand_overs_lost_until = now_ns + 800 * MS;
    return now_ns < c->hand_overs_lost_until;
}

static bool message_send(struct reactor *r, uint64_t group, const struct replica_message *m, struct slice *slices, uint32_t count) {
    struct cluster *c = of;
    struct node *n = node_of(r);
    check_message(n, r, group, m);
    if (is_to_be_lost(c, m)) return true; /* it has no records */
    uint64_t one_in = m->kind == REPLICA_APPEND ? c->unruly_one_in : MIN(c->unruly_one_in, (uint64_t)SMALL_ONE_IN);
    if (c->healed || sim_now_ns(c->world) >= c->unruly_until || !chance(c, one_in)) return peer_send(r, group, m, slices, count);
    uint64_t fate = below(c, 3);
    if (fate > 0) {
        send_later(n, r, group, m, slices, count);
        covered(c)->messages_late++;
    }
    if (fate == 1) {
        covered(c)->messages_doubled++;
        return peer_send(r, group, m, slices, count);
    }
    for (uint32_t i = 0; i < count; i++) buf_unref(slices[i].buf);
    covered(c)->messages_lost += fate == 0;
    return true;
}

void messages_follow(struct node *n) {
    of = n->c;
    n->late = 0;
    for (uint32_t i = 0; i < n->c->reactors; i++)
        if (n->broker.reactors[i].partitions) n->broker.reactors[i].partitions->send = message_send;
}
