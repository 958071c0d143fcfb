/* disk.c - what a node's journal holds and what a crash leaves of it: any prefix, in order. Two mutants are of shells
 * without a journal, which keep records and markers in separate files. */
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "tests/sim/quorum/world.h"

struct record *sim_log_at(struct sim_log *l, int64_t offset) {
    ASSERT(offset >= 0 && offset < RECORDS_MAX);
    return &l->records[offset];
}

static int find(const struct sim_log *l, int32_t epoch) {
    for (uint32_t i = 0; i < l->marker_count; i++)
        if (l->markers[i].epoch == epoch) return (int)i;
    return -1;
}

bool sim_log_contains(const struct sim_log *l, struct replica_position p) {
    if (p.offset < l->start) return true;
    int i = p.epoch == l->base_epoch ? -1 : find(l, p.epoch);
    if (i < 0 && p.epoch != l->base_epoch) return false;
    int64_t from = i < 0 ? l->start : l->markers[i].start;
    int64_t to = (uint32_t)(i + 1) < l->marker_count ? l->markers[i + 1].start : l->end;
    return from <= p.offset && p.offset <= to;
}

static int32_t last_epoch(const struct sim_log *l) { return l->marker_count > 0 ? l->markers[l->marker_count - 1].epoch : l->base_epoch; }
static int32_t last_record_epoch(struct sim_log *l) { return l->end > l->start ? sim_log_at(l, l->end - 1)->epoch : l->base_epoch; }

/* One change to a log: the same for the copy in memory and the one on disk. */
static void apply(struct world *w, struct node *n, struct sim_log *l, const struct op *op) {
    switch (op->kind) {
    case OP_MARKER:
        if (w->options.mutant == REPLICA_MUTANT_DROP_ZERO_LEN)
            while (l->marker_count > 0 && l->markers[l->marker_count - 1].start >= op->position.offset) l->marker_count--;
        ASSERT(l->marker_count < MARKERS_MAX);
        l->markers[l->marker_count++] = (struct replica_marker){op->position.epoch, op->position.offset};
        break;
    case OP_RECORDS:
        for (int64_t o = op->from; o < op->to; o++) *sim_log_at(l, o) = n->values[op->values + (uint32_t)(o - op->from)];
        l->end = op->to;
        break;
    case OP_TRUNCATE:
        l->end = op->position.offset;
        if (w->options.mutant == REPLICA_MUTANT_TRUNC_BY_OFFSET)
            while (l->marker_count > 0 && l->markers[l->marker_count - 1].start >= op->position.offset) l->marker_count--;
        else
            while (l->marker_count > 0 && l->markers[l->marker_count - 1].epoch > op->position.epoch) l->marker_count--;
        break;
    case OP_START: {
        int64_t bound = op->position.offset + (w->options.mutant == REPLICA_MUTANT_PREFIX_DROP_AT_LSO);
        uint32_t gone = 0;
        while (gone < l->marker_count && l->markers[gone].start < bound) gone++;
        memmove(l->markers, l->markers + gone, (l->marker_count - gone) * sizeof *l->markers);
        l->marker_count -= gone;
        l->start = op->position.offset;
        l->base_epoch = op->position.epoch;
        break;
    }
    case OP_RESET:
        l->start = l->end = op->position.offset;
        l->base_epoch = op->position.epoch;
        l->marker_count = 0;
        break;
    default:
        break;
    }
}

static struct op from_action(struct world *w, struct node *n, const struct replica_action *a, const struct packet *in_hand) {
    static const enum op_kind kinds[] = {
        [REPLICA_PERSIST_VOTE] = OP_VOTE, [REPLICA_PERSIST_CONFIG] = OP_CONFIG, [REPLICA_BEGIN_EPOCH] = OP_MARKER,
        [REPLICA_APPEND_RECORDS] = OP_RECORDS, [REPLICA_TRUNCATE] = OP_TRUNCATE, [REPLICA_SET_START] = OP_START, [REPLICA_RESET] = OP_RESET,
    };
    struct op op = {.kind = kinds[a->kind], .seq = a->seq, .epoch = n->replica.epoch, .has_voted = n->replica.has_voted,
                    .voted = n->replica.voted, .config = n->replica.config, .position = a->position, .from = a->from, .to = a->to};
    if (op.kind != OP_RECORDS) return op;
    op.values = n->value_count;
    ASSERT(n->value_count + (uint32_t)(a->to - a->from) <= RECORDS_MAX * 2);
    for (int64_t o = a->from; o < a->to; o++) {
        int64_t at = in_hand ? o - in_hand->message.prev.offset : 0;
        struct record r = {a->position.epoch, 0};
        if (in_hand) {
            ASSERT(at >= 0 && (uint32_t)at < in_hand->record_count);
            r = in_hand->records[at];
            if (r.epoch != a->position.epoch) world_violated(w, "3 a record came with another epoch than its marker says");
        } else {
            r.value = w->next_value++; /* a client's, at the leader */
        }
        n->values[n->value_count++] = r;
    }
    return op;
}

void disk_op(struct world *w, struct node *n, const struct replica_action *a, const struct packet *in_hand) {
    struct op op = from_action(w, n, a, in_hand);
    apply(w, n, &n->log, &op);
    ASSERT(n->op_count < OPS_MAX);
    n->ops[n->op_count++] = op;
}

static void to_disk(struct world *w, struct node *n, const struct op *op) {
    struct disk *d = &n->disk;
    if (op->kind == OP_VOTE) {
        if (op->epoch < d->epoch) world_violated(w, "8 the durable epoch went back");
        d->epoch = op->epoch;
        d->has_voted = op->has_voted;
        d->voted = op->voted;
    } else if (op->kind == OP_CONFIG) {
        if (replica_config_compare(op->config.id, d->config.id) < 0) world_violated(w, "16 the durable configuration went back");
        d->config = op->config;
    } else {
        if (op->kind == OP_TRUNCATE) {
            memcpy(d->tail, d->log.records, sizeof d->tail);
            d->tail_from = op->position.offset;
            d->tail_to = d->log.end;
        }
        apply(w, n, &d->log, op);
    }
}

uint64_t disk_sync(struct world *w, struct node *n, uint32_t count) {
    ASSERT(count > 0 && count <= n->op_count);
    bool truncated = false;
    for (uint32_t i = 0; i < count; i++) {
        to_disk(w, n, &n->ops[i]);
        truncated |= n->ops[i].kind == OP_TRUNCATE;
    }
    uint64_t seq = n->ops[count - 1].seq;
    n->op_count -= count;
    memmove(n->ops, n->ops + count, n->op_count * sizeof *n->ops);
    if (n->op_count == 0) n->value_count = 0;
    if (!truncated) n->disk.tail_to = 0;
    return seq;
}

/* Without a journal: of records and markers some prefix each; a marker whose records are lost is kept, wherever the log ends. */
static void lose_records_before_marker(struct node *n, int64_t durable_end) {
    struct sim_log *l = &n->disk.log;
    if (l->marker_count == 0 || l->end <= durable_end) return;
    l->end = durable_end;
    for (uint32_t i = 0; i < l->marker_count; i++)
        if (l->markers[i].start > l->end) l->markers[i].start = l->end;
}

/* Without the barrier: the tail that was cut lies behind the shorter new data again, and its sums are right. */
static void tail_comes_back(struct node *n) {
    struct disk *d = &n->disk;
    struct sim_log *l = &d->log;
    for (int64_t o = l->end; o >= d->tail_from && o < d->tail_to && d->tail[o].epoch >= last_record_epoch(l); o++) {
        if (d->tail[o].epoch > last_epoch(l)) l->markers[l->marker_count++] = (struct replica_marker){d->tail[o].epoch, o};
        *sim_log_at(l, o) = d->tail[o];
        l->end = o + 1;
    }
}

void disk_crash(struct world *w, struct node *n) {
    enum replica_mutant m = w->options.mutant;
    uint32_t kept = n->op_count > 0 && !w->directed ? (uint32_t)prng_below(&w->prng, n->op_count + 1) : 0;
    int64_t durable_end = n->disk.log.end;
    bool cut = false;
    for (uint32_t i = 0; i < kept; i++) {
        cut |= n->ops[i].kind == OP_TRUNCATE || n->ops[i].kind == OP_RESET || n->ops[i].kind == OP_START;
        to_disk(w, n, &n->ops[i]);
    }
    if (m == REPLICA_MUTANT_MARKER_BEFORE_DATA && !cut && prng_below(&w->prng, 2) == 0) lose_records_before_marker(n, durable_end);
    if (m == REPLICA_MUTANT_TRUNC_NOT_DURABLE && n->disk.tail_to > 0 && prng_below(&w->prng, 2) == 0) tail_comes_back(n);
    n->disk.tail_to = 0;
    n->op_count = n->value_count = 0;
    n->log = n->disk.log;
}
