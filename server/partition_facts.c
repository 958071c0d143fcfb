/* partition_facts.c - what is known of many partitions of one reactor, whether their replicas are here or not. */
#include <stdlib.h>
#include "server/api_errors.h"
#include "replication/mutants.h"
#include "server/partition_impl.h"

/* A replica that leads alone and has not changed since the start has nothing to report. */
struct leader_info partition_leader(struct reactor *r, const struct partition *p, uint64_t group) {
    const struct leader_info *known = leaders_get(r, group);
    int32_t epoch = known ? known->epoch : -1;
    if (p && p->replica.role == REPLICA_LEADER && partition_shown_epoch(p) > epoch) {
        int32_t self = r->broker->config.node_id;
        return (struct leader_info){.epoch = partition_shown_epoch(p), .leader = self, .established = p->replica.established,
                                    .voters = 1, .count = 1, .in_sync = 1, .members = {self}};
    }
    return known ? *known : (struct leader_info){.epoch = -1, .leader = -1};
}

static bool is_member(const struct leader_info *leader, int32_t node) {
    for (uint8_t i = 0; i < leader->count; i++)
        if (leader->members[i] == node) return true;
    return false;
}

static void fill_observers(const struct reactor *r, const struct partition *p, const struct leader_info *leader, struct partition_progress *out) {
    for (uint32_t k = 0; k < p->replica.peer_count && out->observer_count < REPLICA_OBSERVERS_MAX; k++) {
        const struct replica_peer *peer = &p->replica.peers[k];
        if (is_member(leader, peer->member.node)) continue;
        bool known = peer->match.offset >= 0;
        out->observers[out->observer_count++] = (struct partition_observer){
            .node = peer->member.node, .end = known ? peer->match.offset : -1,
            .silent_ms = known ? MAX(r->awake_ns - peer->acked_ns, 0) / 1000000 : -1,
            .in_sync = replica_keeps_up(&p->replica, &peer->member, r->awake_ns),
        };
    }
}

/* Of those that the leader here has acknowledgements from. */
static void fill_progress(const struct reactor *r, const struct partition *p, const struct leader_info *leader, struct partition_progress *out) {
    for (int i = 0; i < REPLICA_MEMBERS_MAX; i++) out->end[i] = out->silent_ms[i] = -1;
    out->observer_count = 0;
    if (!p || p->replica.role != REPLICA_LEADER) return;
    fill_observers(r, p, leader, out);
    for (uint8_t i = 0; i < leader->count; i++) {
        if (leader->members[i] == p->replica.self.node) {
            out->end[i] = p->log->end;
            out->silent_ms[i] = 0;
        }
        for (uint32_t k = 0; k < p->replica.peer_count; k++) {
            const struct replica_peer *peer = &p->replica.peers[k];
            if (peer->member.node != leader->members[i] || peer->match.offset < 0) continue;
            out->end[i] = peer->match.offset;
            out->silent_ms[i] = MAX(r->awake_ns - peer->acked_ns, 0) / 1000000;
        }
    }
}

static void facts_start(struct partition_op *base) {
    struct partition_facts *op = CONTAINER_OF(base, struct partition_facts, op);
    for (uint32_t i = 0; i < op->count; i++) {
        const struct partition *p = partition_find(base->owner, op->plids[i]);
        struct partition_fact *fact = &op->facts[i];
        *fact = (struct partition_fact){.leader = partition_leader(base->owner, p, op->plids[i]), .here = p != NULL};
        if (op->progress) fill_progress(base->owner, p, &fact->leader, &op->progress[i]);
        if (!p) continue;
        fact->start = p->log->start;
        fact->end = p->log->end;
        fact->high_watermark = partition_bound(p);
        fact->lag = MAX(p->leaders_mark - p->log->end, 0);
        fact->size_bytes = p->log->size_bytes;
    }
    partition_op_finish(base, KERR_NONE);
}
void partition_facts(struct partition_facts *op) { partition_op_send(&op->op, facts_start); }

bool partition_knows_committed(const struct partition *p) { return p->replica.established || MUTANT(&p->replica, EXPOSE_HW_EARLY); }

bool partition_leads(struct reactor *r, uint64_t plid) {
    const struct partition *p = partition_find(r, plid);
    return p && !p->gone && p->replica.role == REPLICA_LEADER && p->replica.established;
}

/* Asked anew after each sleep, and of each leadership that began before one. */
static enum err ask_majority(struct reactor *r, struct partition *p) {
    if (p->asked_ns == r->slept_ns && p->asked_epoch == p->replica.epoch) return OK;
    enum err err = partition_step(p, &(struct replica_event){.kind = REPLICA_READ, .now_ns = r->awake_ns}, NULL);
    if (err != OK) return err;
    p->asked_ns = r->slept_ns;
    p->asked_epoch = p->replica.epoch;
    p->asked_round = p->replica.read_round;
    return OK;
}

bool partition_still_leads(struct reactor *r, uint64_t plid) {
    if (!partition_leads(r, plid)) return false;
    struct partition *p = partition_find(r, plid);
    if (!partition_is_replicated(p) || p->led_since_ns >= r->slept_ns) return true;
    return ask_majority(r, p) == OK && partition_leads(r, plid) && (int32_t)(p->readable_round - p->asked_round) >= 0;
}

static void producers_start(struct partition_op *base) {
    struct partition_producers *op = CONTAINER_OF(base, struct partition_producers, op);
    const struct partition *p = partition_find(base->owner, base->plid);
    op->list = NULL;
    op->count = 0;
    if (!p || p->log->producers.count == 0) {
        partition_op_finish(base, p ? KERR_NONE : KERR_NOT_LEADER_OR_FOLLOWER);
        return;
    }
    op->list = malloc(p->log->producers.count * sizeof *op->list);
    if (!op->list) {
        partition_op_finish(base, KERR_KAFKA_STORAGE_ERROR);
        return;
    }
    uint32_t at = 0;
    const struct producer *e;
    while ((e = producers_next(&p->log->producers, &at)))
        op->list[op->count++] = (struct partition_producer){
            e->id, e->last_timestamp_ms, e->txn_first_offset, e->epoch,
            e->count > 0 ? e->window[e->count - 1].last_sequence : -1, e->coordinator_epoch,
        };
    partition_op_finish(base, KERR_NONE);
}
void partition_producers(struct partition_producers *op) { partition_op_send(&op->op, producers_start); }
