/* partition_produce.c - one write: checked, perhaps rewritten by a helper, appended in order of
 * arrival, and answered when it is as durable as its acks ask.
 *
 *   CHECKED -> (WORKING ->) READY -> appended -> WAITING -> answered
 *
 * A write whose records must be decoded or compressed goes to a helper thread; those behind it on
 * the same partition wait in the queue, so a connection's order of arrival is the order of offsets. */
#include <stdlib.h>
#include "base/assert.h"
#include "server/api_errors.h"
#include "server/partition_produce.h"
#include "server/produce_check.h"

enum stage { STAGE_READY, STAGE_WORKING, STAGE_WAITING };

/* Uncompressed batches up to this size are looked through on the reactor. */
enum { INLINE_RECORDS_BYTES = 32 * 1024 };

static void finish(struct partition_produce *op, int16_t error) {
    timer_cancel(&op->op.owner->timers, &op->timer);
    list_remove(&op->link);
    free(op->rewritten);
    op->rewritten = NULL;
    if (error) op->base_offset = op->log_append_time_ms = -1;
    partition_op_finish(&op->op, error);
}

/* ---- how many replicas -------------------------------------------------------------------------- */

/* So many voters must have it. The high watermark stands for a majority; only min.insync.replicas above that adds anything. What
 * the broker writes itself asks for a majority. */
static uint32_t copies_wanted(const struct partition *p, const struct partition_produce *op) {
    return op->trusted || p->config.min_insync_replicas <= 1 ? 0 : (uint32_t)p->config.min_insync_replicas;
}

static bool is_committed(const struct partition *p, const struct partition_produce *op) {
    if (p->replica.high_watermark <= op->last_offset) return false;
    uint32_t wanted = copies_wanted(p, op);
    if (wanted <= replica_config_majority(&p->replica.config)) return true;
    return replica_copies(&p->replica, (struct replica_position){p->replica.epoch, op->last_offset + 1}) >= wanted;
}

static bool has_enough_replicas(struct partition *p, const struct partition_produce *op) {
    uint32_t wanted = op->acks == -1 ? copies_wanted(p, op) : 0;
    return wanted <= 1 || partition_in_sync_voters(p) >= wanted;
}

/* ---- time ----------------------------------------------------------------------------------------- */

static void on_timeout(struct timer *t) {
    struct partition_produce *op = CONTAINER_OF(t, struct partition_produce, timer);
    bool few = op->stage == STAGE_WAITING && !has_enough_replicas(op->partition, op);
    finish(op, few ? KERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND : KERR_REQUEST_TIMED_OUT);
}

/* A request's timeout is meant for other replicas: Kafka never counts the leader's own append, and clients that
 * ask for 0 ms get their answer. The own device gets this much time at least. */
enum { LOCAL_WAIT_MS_MIN = 10000 };

static void arm_timeout(struct partition *p, struct partition_produce *op) {
    if (op->trusted || timer_armed(&op->timer)) return;
    struct reactor *r = op->op.owner;
    bool others = op->stage == STAGE_WAITING && op->acks == -1 && p->replica.config.voters > 1;
    op->partition = p;
    timer_set(&r->timers, &op->timer, r->now_ns + (others ? MAX(op->timeout_ms, 0) : MAX(op->timeout_ms, LOCAL_WAIT_MS_MIN)) * 1000000LL);
}

/* Ascending by last offset; only a duplicate of an earlier batch is not the last. */
static void insert_waiter(struct list *waiters, struct partition_produce *op) {
    struct list *at = waiters;
    while (at->prev != waiters && LIST_ENTRY(at->prev, struct partition_produce, link)->last_offset > op->last_offset)
        at = at->prev;
    list_insert_before(at, &op->link);
}

static int16_t append_error(enum err err) {
    switch (err) {
    case ERR_TOO_LARGE: return KERR_RECORD_LIST_TOO_LARGE;
    case ERR_INVALID: return KERR_INVALID_RECORD;
    default: return api_error(err);
    }
}

static void appended(struct partition *p, struct partition_produce *op, const struct log_append *a) {
    op->base_offset = a->base_offset;
    op->last_offset = a->last_offset;
    op->log_append_time_ms = a->timestamp_ms;
    op->log_start_offset = partition_begin(p);
    bool relaxed = op->acks == 1 && p->map->reactor->broker->config.relaxed;
    if (op->acks == 0 || relaxed) {
        finish(op, KERR_NONE);
        return;
    }
    bool all = op->acks == -1;
    if (all ? is_committed(p, op) : p->log->durable_end > op->last_offset) {
        finish(op, KERR_NONE); /* a duplicate of what is safe already */
        return;
    }
    list_remove(&op->link);
    free(op->rewritten);
    op->rewritten = NULL;
    op->stage = STAGE_WAITING;
    insert_waiter(all ? &p->committed : &p->durable, op);
    arm_timeout(p, op);
}

/* False: no room now; the write stays where it is. */
static bool append(struct partition *p, struct partition_produce *op) {
    if (op->conditional && p->log->end != op->expected_end) {
        finish(op, KERR_NOT_LEADER_OR_FOLLOWER);
        return true;
    }
    if (!has_enough_replicas(p, op)) {
        finish(op, KERR_NOT_ENOUGH_REPLICAS);
        return true;
    }
    struct log_append a = {
        .batch = op->rewritten ? op->rewritten : op->records.p, .header = &op->header,
        .now_ms = p->map->reactor->now_ms,
        .log_append_time_ms = p->config.log_append_time && !op->trusted ? p->map->reactor->now_ms : -1, .spares = op->spares,
    };
    enum err err = partition_before_append(p);
    if (!err) err = log_append(p->log, &a);
    if (err == ERR_AGAIN) return false;
    if (err) {
        finish(op, append_error(err));
        return true;
    }
    if (!a.duplicate) partition_after_append(p);
    appended(p, op, &a);
    return true;
}

static void wait_in_queue(struct partition *p) {
    LIST_FOREACH(node, &p->queue) {
        struct partition_produce *waiting = LIST_ENTRY(node, struct partition_produce, link);
        if (waiting->stage == STAGE_READY) arm_timeout(p, waiting);
    }
}

/* What may be appended now. A new leader waits for its own marker, which tells who is there; one that hands over waits for the other one
 * to lead, or for the time when it gives up. */
static bool takes_records(const struct partition *p) { return p->replica.established && !p->replica.transferring; }

void partition_pump(struct partition *p) {
    if (!takes_records(p)) {
        wait_in_queue(p);
        return;
    }
    while (!list_empty(&p->queue)) {
        struct partition_produce *op = LIST_ENTRY(p->queue.next, struct partition_produce, link);
        if (op->stage == STAGE_WORKING) return;
        if (append(p, op)) continue;
        if (list_empty(&p->blocked)) list_push_back(&p->map->blocked, &p->blocked);
        wait_in_queue(p);
        return;
    }
}

void partition_complete_durable(struct partition *p) {
    while (!list_empty(&p->durable)) {
        struct partition_produce *op = LIST_ENTRY(p->durable.next, struct partition_produce, link);
        if (op->last_offset >= p->log->durable_end) return;
        finish(op, KERR_NONE);
    }
}

/* Whoever comes later needs no fewer. */
void partition_complete_produces(struct partition *p) {
    while (!list_empty(&p->committed)) {
        struct partition_produce *op = LIST_ENTRY(p->committed.next, struct partition_produce, link);
        if (!is_committed(p, op)) return;
        finish(op, KERR_NONE);
    }
}

void partition_fail_produces(struct partition *p, int16_t error) {
    while (!list_empty(&p->durable)) finish(LIST_ENTRY(p->durable.next, struct partition_produce, link), error);
    while (!list_empty(&p->committed)) finish(LIST_ENTRY(p->committed.next, struct partition_produce, link), error);
    struct list working;
    list_init(&working);
    while (!list_empty(&p->queue)) {
        struct partition_produce *op = LIST_ENTRY(p->queue.next, struct partition_produce, link);
        if (op->stage == STAGE_WORKING) {
            list_remove(&op->link);
            list_push_back(&working, &op->link); /* answered when its helper is done */
        } else {
            finish(op, error);
        }
    }
    struct list *node;
    while ((node = list_pop_front(&working))) list_push_back(&p->queue, node);
}

/* ---- helper work ---------------------------------------------------------------------------- */

/* What a helper thread sees: copies, and the batch, which is lent. */
struct rewrite {
    struct io_op io;
    struct partition_produce *op;
    struct partition *partition;
    const uint8_t *batch;
    struct batch_header header;
    bool keys, recompress;
    enum batch_codec codec;
    int level;
    size_t max_decompressed_bytes;
    /* out */
    enum err err;
    int32_t bad[PRODUCE_BAD_RECORDS_MAX], bad_count;
    uint8_t *out;
    size_t out_len;
};

static void rewrite_run(struct rewrite *w) {
    w->err = OK;
    if (w->keys)
        w->err = produce_find_null_keys(w->batch, &w->header, w->max_decompressed_bytes, w->bad,
                                        PRODUCE_BAD_RECORDS_MAX, &w->bad_count);
    if (!w->err && w->bad_count == 0 && w->recompress)
        w->err = batch_recompress(w->batch, &w->header, w->codec, w->level, w->max_decompressed_bytes, &w->out,
                                  &w->out_len);
}
static void rewrite_work(struct io_op *io) { rewrite_run(CONTAINER_OF(io, struct rewrite, io)); }

static int16_t rewrite_error(enum err err) {
    switch (err) {
    case OK: return KERR_NONE;
    case ERR_TOO_LARGE: return KERR_MESSAGE_TOO_LARGE;
    case ERR_NOMEM: return KERR_KAFKA_STORAGE_ERROR;
    default: return KERR_CORRUPT_MESSAGE; /* the checksum was right, the content is not */
    }
}

/* Takes the result over; the write is then ready or has its error. */
static int16_t rewrite_apply(struct rewrite *w) {
    struct partition_produce *op = w->op;
    int16_t error = rewrite_error(w->err);
    if (!error && w->bad_count > 0) {
        error = KERR_INVALID_RECORD;
        op->bad_record_count = w->bad_count;
        for (int32_t i = 0; i < MIN(w->bad_count, PRODUCE_BAD_RECORDS_MAX); i++) op->bad_records[i] = w->bad[i];
        op->message = "A compacted topic takes no records without a key";
    }
    if (!error && w->out && batch_parse(w->out, w->out_len, &op->header) != OK) error = KERR_CORRUPT_MESSAGE;
    if (!error && w->out && op->header.total_bytes > (uint32_t)w->partition->config.max_message_bytes)
        error = KERR_MESSAGE_TOO_LARGE;
    if (error) {
        free(w->out);
        return error;
    }
    op->rewritten = w->out;
    op->stage = STAGE_READY;
    return KERR_NONE;
}

static void rewrite_done(struct io_op *io) {
    struct rewrite *w = CONTAINER_OF(io, struct rewrite, io);
    struct partition *p = w->partition;
    struct partition_produce *op = w->op;
    int16_t error = rewrite_apply(w);
    free(w);
    if (p->gone) error = KERR_UNKNOWN_TOPIC_OR_PARTITION;
    else if (p->map->stop_error) error = p->map->stop_error;
    else if (!partition_is_led(p)) error = KERR_NOT_LEADER_OR_FOLLOWER;
    if (error) finish(op, error);
    if (!p->gone) partition_pump(p);
    partition_unref_work(p);
}

static void rewrite_fill(struct rewrite *w, struct partition *p, struct partition_produce *op) {
    *w = (struct rewrite){
        .op = op, .partition = p, .batch = op->records.p, .header = op->header,
        .keys = produce_needs_keys(&p->config), .recompress = produce_needs_recompression(&p->config, &op->header),
        .codec = p->config.compression >= 0 ? (enum batch_codec)p->config.compression : CODEC_NONE,
        .level = p->config.compression_level,
        .max_decompressed_bytes = (size_t)p->map->reactor->broker->config.max_decompressed_batch_bytes,
    };
}

/* 0: the write may be appended or is with a helper. */
static int16_t rewrite_start(struct partition *p, struct partition_produce *op) {
    bool compressed = batch_codec(&op->header) != CODEC_NONE;
    bool recompress = produce_needs_recompression(&p->config, &op->header);
    if (!compressed && !recompress && op->header.total_bytes <= INLINE_RECORDS_BYTES) {
        struct rewrite w;
        rewrite_fill(&w, p, op);
        rewrite_run(&w);
        return rewrite_apply(&w);
    }
    struct rewrite *w = malloc(sizeof *w);
    if (!w) return KERR_KAFKA_STORAGE_ERROR;
    rewrite_fill(w, p, op);
    w->io.kind = IO_WORK;
    w->io.work = rewrite_work;
    w->io.done = rewrite_done;
    op->stage = STAGE_WORKING;
    p->works++;
    io_submit(p->map->reactor->io, &w->io);
    return KERR_NONE;
}

/* ---- arrival -------------------------------------------------------------------------------- */

static int16_t check(struct partition *p, struct partition_produce *op) {
    if (op->trusted)
        return batch_parse(op->records.p, (size_t)op->records.len,
                           &op->header) == OK ? KERR_NONE : KERR_CORRUPT_MESSAGE;
    struct produce_check c = {
        .records = op->records, .api_version = op->api_version, .now_ms = p->map->reactor->now_ms, .config = &p->config,
    };
    int16_t error = produce_check(&c);
    op->header = c.header;
    op->message = c.message;
    if (!error && takes_records(p) && !has_enough_replicas(p, op)) error = KERR_NOT_ENOUGH_REPLICAS; /* before any work is done */
    if (!error && (produce_needs_keys(&p->config) || produce_needs_recompression(&p->config, &op->header)))
        error = rewrite_start(p, op);
    return error;
}

static void produce_start(struct partition_op *base) {
    struct partition_produce *op = CONTAINER_OF(base, struct partition_produce, op);
    struct partition *p = partition_find(base->owner, base->plid);
    list_init(&op->link);
    timer_init(&op->timer, on_timeout);
    op->base_offset = op->last_offset = op->log_append_time_ms = op->log_start_offset = -1;
    op->stage = STAGE_READY;
    op->bad_record_count = 0;
    op->message = NULL;
    op->rewritten = NULL;
    int16_t error = p ? p->map->stop_error : KERR_NOT_LEADER_OR_FOLLOWER;
    if (!error && !partition_is_led(p)) error = KERR_NOT_LEADER_OR_FOLLOWER;
    if (!error) error = check(p, op);
    if (error) {
        finish(op, error);
        return;
    }
    base->leader_epoch = partition_shown_epoch(p);
    list_push_back(&p->queue, &op->link);
    if (list_empty(&p->blocked)) partition_pump(p);
    else if (op->stage == STAGE_READY) arm_timeout(p, op);
}

void partition_produce(struct partition_produce *op) { partition_op_send(&op->op, produce_start); }
