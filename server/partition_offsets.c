/* partition_offsets.c - questions about offsets (ListOffsets, OffsetForLeaderEpoch), records that go (DeleteRecords, retention), and
 * leadership that is handed over on request (ElectLeaders). */
#include "base/assert.h"
#include "base/trace.h"
#include "log/retention.h"
#include "server/api_errors.h"
#include "server/partition_impl.h"

/* ---- small questions ------------------------------------------------------------------------- */

static void find_done(struct log_find *f) {
    struct partition_offset *op = f->owner;
    int16_t error = KERR_NONE;
    switch (f->err) {
    case OK:
        op->offset = f->found_offset;
        op->found_timestamp = f->found_timestamp;
        op->found_epoch = f->found_epoch;
        break;
    case ERR_NOT_FOUND: break;
    case ERR_CORRUPT: error = KERR_KAFKA_STORAGE_ERROR; break; /* a range that is kept but not served */
    default: error = api_error(f->err);
    }
    partition_op_finish(&op->op, error);
}

static void find(struct partition_offset *op, struct partition *p, bool max_timestamp) {
    op->find = (struct log_find){
        .timestamp = op->timestamp, .max_timestamp = max_timestamp, .max_offset = partition_bound(p),
        .max_decompressed_bytes = (size_t)p->map->reactor->broker->config.max_decompressed_batch_bytes,
        .done = find_done, .owner = op,
    };
    if (log_find(p->log, &op->find)) find_done(&op->find);
}

/* The epoch in force at `offset`, which may be the end. */
static int32_t epoch_at(const struct log *l, int64_t offset) {
    return epochs_at(&l->epochs, offset);
}

enum { EARLIEST = -2, MAX_TIMESTAMP = -3, EARLIEST_LOCAL = -4 };

/* Only a leader knows what is committed; before its own marker is, it does not either. */
static int16_t leader_error(const struct partition *p, int32_t current_leader_epoch, int16_t not_yet) {
    if (!p || !partition_is_led(p)) return KERR_NOT_LEADER_OR_FOLLOWER;
    int16_t error = partition_check_epoch(p, current_leader_epoch);
    return !error && !p->replica.established ? not_yet : error;
}

/* ---- the end of what is committed ---- */

static bool is_confirmed(const struct partition *p, const struct partition_offset *op) {
    return (int32_t)(p->readable_round - op->read_round) >= 0;
}

static void tell_latest(struct partition *p, struct partition_offset *op) {
    op->offset = partition_bound(p);
    op->found_epoch = partition_shown_epoch(p);
    partition_op_finish(&op->op, KERR_NONE);
}

void partition_answer_latest(struct partition *p) {
    LIST_FOREACH_SAFE(node, &p->latest) {
        struct partition_offset *op = LIST_ENTRY(node, struct partition_offset, link);
        if (!is_confirmed(p, op)) continue;
        list_remove(node);
        tell_latest(p, op);
    }
}

void partition_fail_latest(struct partition *p, int16_t error) {
    struct list *node;
    while ((node = list_pop_front(&p->latest))) partition_op_finish(&LIST_ENTRY(node, struct partition_offset, link)->op, error);
}

/* Another leader may have acknowledged more, unless a majority says after this question that there is none. */
static void latest(struct partition *p, struct partition_offset *op) {
    if (!partition_is_replicated(p)) {
        tell_latest(p, op);
        return;
    }
    struct replica_event event = {.kind = REPLICA_READ, .now_ns = p->map->reactor->awake_ns};
    enum err err = partition_step(p, &event, NULL);
    if (err != OK) {
        partition_op_finish(&op->op, err == ERR_AGAIN ? KERR_OFFSET_NOT_AVAILABLE : KERR_NOT_LEADER_OR_FOLLOWER);
        return;
    }
    op->read_round = p->replica.read_round;
    if (is_confirmed(p, op)) tell_latest(p, op); /* nobody else votes */
    else list_push_back(&p->latest, &op->link);
}

static void offset_start(struct partition_op *base) {
    struct partition_offset *op = CONTAINER_OF(base, struct partition_offset, op);
    struct partition *p = partition_find(base->owner, base->plid);
    op->offset = op->found_timestamp = -1;
    op->found_epoch = -1;
    int16_t error = leader_error(p, op->current_leader_epoch, KERR_OFFSET_NOT_AVAILABLE);
    if (p) base->leader_epoch = partition_shown_epoch(p);
    if (error) {
        partition_op_finish(base, error);
        return;
    }
    switch (op->timestamp) {
    case PARTITION_OFFSET_LATEST: latest(p, op); return;
    case EARLIEST:
    case EARLIEST_LOCAL:
        op->offset = partition_begin(p);
        op->found_epoch = epoch_at(p->log, op->offset);
        break;
    case MAX_TIMESTAMP: find(op, p, true); return;
    default:
        if (op->timestamp >= 0) {
            find(op, p, false);
            return;
        }
        break; /* nothing is tiered: no offset */
    }
    partition_op_finish(base, KERR_NONE);
}
void partition_offset(struct partition_offset *op) { partition_op_send(&op->op, offset_start); }

static void epoch_end_start(struct partition_op *base) {
    struct partition_epoch_end *op = CONTAINER_OF(base, struct partition_epoch_end, op);
    struct partition *p = partition_find(base->owner, base->plid);
    op->found_epoch = -1;
    op->end_offset = -1;
    int16_t error = leader_error(p, op->current_leader_epoch, KERR_NOT_LEADER_OR_FOLLOWER);
    if (p) base->leader_epoch = partition_shown_epoch(p);
    /* An epoch that never was has no end. */
    if (!error && op->epoch <= p->log->epoch)
        epochs_end_of(&p->log->epochs, op->epoch, partition_begin(p), p->log->end, &op->found_epoch, &op->end_offset);
    partition_op_finish(base, error);
}
void partition_epoch_end(struct partition_epoch_end *op) { partition_op_send(&op->op, epoch_end_start); }

/* ---- records that go ------------------------------------------------------------------------------ */

static void records_deleted(struct log *l, void *ctx, enum err err) {
    struct partition_delete_records *op = ctx;
    op->low_watermark = l->start;
    partition_op_finish(&op->op, api_error(err));
}

static int16_t delete_records_error(const struct partition *p, int64_t offset) {
    if (p->config.log.cleanup_compact && !p->config.log.cleanup_delete) return KERR_POLICY_VIOLATION;
    return offset < 0 || offset > partition_bound(p) ? KERR_OFFSET_OUT_OF_RANGE : KERR_NONE;
}

static enum err move_start(struct partition *p, int64_t offset) {
    struct replica_event event = {.kind = REPLICA_MOVE_START, .now_ns = p->map->reactor->awake_ns, .u.position = {0, offset}};
    return partition_step(p, &event, NULL);
}

/* What is said to be deleted stays so under the next leader: the moved start is durable on a majority. That is so here when our change is,
 * and at a peer whose acknowledgement said so. */
static bool is_deleted(const struct partition *p, const struct partition_delete_records *op) {
    const struct replica *r = &p->replica;
    uint32_t n = r->durable_seq >= op->seq && replica_config_is_voter(&r->config, &r->self);
    for (uint32_t i = 0; i < r->peer_count; i++) {
        const struct replica_peer *peer = &r->peers[i];
        n += peer->voter && !peer->went_back && peer->start >= op->low_watermark;
    }
    return n >= replica_config_majority(&r->config);
}

void partition_check_deletions(struct partition *p) {
    LIST_FOREACH_SAFE(node, &p->deletions) {
        struct partition_delete_records *op = LIST_ENTRY(node, struct partition_delete_records, link);
        if (!is_deleted(p, op)) continue;
        list_remove(node);
        partition_op_finish(&op->op, KERR_NONE);
    }
}

void partition_fail_deletions(struct partition *p, int16_t error) {
    struct list *node;
    while ((node = list_pop_front(&p->deletions)))
        partition_op_finish(&LIST_ENTRY(node, struct partition_delete_records, link)->op, error);
}

static void delete_records_start(struct partition_op *base) {
    struct partition_delete_records *op = CONTAINER_OF(base, struct partition_delete_records, op);
    struct partition *p = partition_find(base->owner, base->plid);
    op->low_watermark = -1;
    int16_t error = leader_error(p, -1, KERR_NOT_LEADER_OR_FOLLOWER);
    int64_t offset = !error && op->offset == -1 ? partition_bound(p) : op->offset;
    if (!error) error = delete_records_error(p, offset);
    if (!error && !log_start_room(p->log)) error = api_error(ERR_AGAIN);
    if (error) {
        partition_op_finish(base, error);
        return;
    }
    /* Also when nothing goes: the start that is told must be durable. */
    enum err err = move_start(p, offset);
    if (err == OK && !partition_is_replicated(p)) err = log_set_start(p->log, p->log->start, records_deleted, op);
    if (err != OK) {
        partition_op_finish(base, api_error(err));
        return;
    }
    if (!partition_is_replicated(p)) return;
    op->low_watermark = partition_begin(p);
    op->seq = p->replica.seq;
    list_push_back(&p->deletions, &op->link);
}
void partition_delete_records(struct partition_delete_records *op) { partition_op_send(&op->op, delete_records_start); }

/* Only the leader looks; the others follow where it has put the start. */
bool partition_retain(struct reactor *r, uint64_t plid, bool hold_time) {
    struct partition *p = partition_find(r, plid);
    if (!p) return false;
    if (!p->known || !p->created || p->gone || !partition_is_led(p) || !p->replica.established) return true;
    uint32_t removed;
    int64_t start;
    enum err err = log_retain_start(p->log, r->now_ms, MIN(partition_bound(p), p->log->durable_end), hold_time, &removed, &start);
    if (err == OK && removed > 0) err = move_start(p, start);
    if (err != OK && err != ERR_CLOSED) trace_warn("log", "%s-%d: retention has to wait: %s", p->log->topic, p->log->partition, err_str(err));
    if (err == OK && removed > 0)
        trace_info("log", "%s-%d: %u old segments go; the log starts at offset %lld now", p->log->topic, p->log->partition, removed,
                   (long long)partition_begin(p));
    return true;
}

/* ---- leadership on request --------------------------------------------------------------------------- */

enum { HANDOVER_NS_MAX = 2000000000 };   /* some timeouts: the other one campaigns at once or is gone */

static void handover_end(struct partition_handover *op, int16_t error) {
    timer_cancel(&op->op.owner->timers, &op->timer);
    list_remove(&op->link);
    partition_op_finish(&op->op, error);
}

static void handover_late(struct timer *t) { handover_end(CONTAINER_OF(t, struct partition_handover, timer), KERR_REQUEST_TIMED_OUT); }

void partition_end_handovers(struct partition *p, int16_t error) {
    while (!list_empty(&p->handovers)) handover_end(LIST_ENTRY(p->handovers.next, struct partition_handover, link), error);
}

static int16_t handover(struct partition *p, int32_t node) {
    const struct replica *r = &p->replica;
    if (r->self.node == node) return KERR_ELECTION_NOT_NEEDED;
    partition_vouch(p);
    for (uint32_t i = 0; i < r->config.voters; i++) {
        struct replica_member m = r->config.members[i];
        if (m.node != node) continue;
        if (!replica_keeps_up(r, &m, p->map->reactor->awake_ns)) return KERR_ELIGIBLE_LEADERS_NOT_AVAILABLE;
        struct replica_event event = {.kind = REPLICA_TRANSFER, .now_ns = p->map->reactor->awake_ns, .u.member = m};
        enum err err = partition_step(p, &event, NULL);
        return err == OK || err == ERR_AGAIN ? KERR_NONE : KERR_ELIGIBLE_LEADERS_NOT_AVAILABLE;
    }
    return KERR_ELIGIBLE_LEADERS_NOT_AVAILABLE;
}

static void handover_start(struct partition_op *base) {
    struct partition_handover *op = CONTAINER_OF(base, struct partition_handover, op);
    struct partition *p = partition_find(base->owner, base->plid);
    struct reactor *r = base->owner;
    list_init(&op->link);
    timer_init(&op->timer, handover_late);
    int16_t error = leader_error(p, -1, KERR_NOT_LEADER_OR_FOLLOWER);
    if (p) base->leader_epoch = partition_shown_epoch(p);
    if (!error) error = handover(p, op->node);
    if (error) {
        partition_op_finish(base, error);
        return;
    }
    list_push_back(&p->handovers, &op->link);
    timer_set(&r->timers, &op->timer, r->now_ns + HANDOVER_NS_MAX);
}
void partition_handover(struct partition_handover *op) { partition_op_send(&op->op, handover_start); }
