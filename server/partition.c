/* partition.c - life of a partition, and the order in which the core's actions are performed. */
#include "server/partition.h"
#include <stdlib.h>
#include "base/assert.h"
#include "base/trace.h"
#include "server/api_errors.h"
#include "server/controller.h"
#include "server/group_coordinator.h"
#include "server/image.h"
#include "log/retention.h"
#include "server/partition_impl.h"
#include "server/partition_produce.h"

/* ---- operations: there and back ----------------------------------------------------------- */

static void op_home(struct mail *m) {
    struct partition_op *op = CONTAINER_OF(m, struct partition_op, mail);
    op->done(op);
}

static void op_arrive(struct mail *m) {
    struct partition_op *op = CONTAINER_OF(m, struct partition_op, mail);
    op->start(op);
}

void partition_op_send(struct partition_op *op, void (*start)(struct partition_op *op)) {
    op->start = start;
    op->from_loop = false;
    op->leader_epoch = -1;
    if (op->caller != op->owner) {
        op->mail.deliver = op_arrive;
        mailbox_post(&op->owner->mailbox, &op->mail);
        return;
    }
    start(op);
    op->from_loop = true; /* it has not been delivered: that happens in a later turn of this thread */
}

void partition_op_finish(struct partition_op *op, int16_t error) {
    op->error = error;
    op->leader = partition_leader_hint(op->owner, op->plid, error, &op->leader_epoch);
    if (op->caller == op->owner && op->from_loop) {
        op->done(op);
        return;
    }
    op->mail.deliver = op_home;
    mailbox_post(&op->caller->mailbox, &op->mail);
}

/* ---- lookup ---------------------------------------------------------------------------------- */

struct partition *partition_find(struct reactor *r, uint64_t plid) {
    struct partition *p = NULL;
    HASH_FIND(hh, r->partitions->by_plid, &plid, sizeof plid, p);
    return p;
}

bool partition_exists(const struct reactor *r, uint64_t plid) {
    struct partition *p = NULL;
    HASH_FIND(hh, r->partitions->by_plid, &plid, sizeof plid, p);
    return p != NULL;
}

struct log *partition_log(struct reactor *r, uint64_t plid, int64_t *end) {
    struct partition *p = partition_find(r, plid);
    *end = p ? partition_bound(p) : 0;
    return p ? p->log : NULL;
}

uint32_t partition_map_count(const struct partition_map *m) { return HASH_COUNT(m->by_plid); }

uint64_t *partition_map_unknown(const struct partition_map *m, uint32_t *count) {
    *count = 0;
    uint64_t *plids = NULL;
    uint32_t total = HASH_COUNT(m->by_plid);
    struct partition *p, *next;
    HASH_ITER(hh, m->by_plid, p, next) {
        if (p->known) continue;
        if (!plids) plids = malloc(total * sizeof *plids);
        ASSERT(plids != NULL);
        plids[(*count)++] = p->plid;
    }
    return plids;
}

int16_t partition_check_epoch(const struct partition *p, int32_t current_leader_epoch) {
    if (current_leader_epoch < 0 || current_leader_epoch == p->replica.epoch) return KERR_NONE;
    return current_leader_epoch < p->replica.epoch ? KERR_FENCED_LEADER_EPOCH : KERR_UNKNOWN_LEADER_EPOCH;
}

/* ---- the core and the log --------------------------------------------------------------------- */

static enum err step(struct partition *p, enum replica_event_kind kind, struct replica_position at);

/* What is durable, as a position. The marker of the last epoch counts once something behind it is
 * durable, or with the creation of the log. */
static struct replica_position durable_position(const struct partition *p) {
    const struct log *l = p->log;
    if (l->durable_end > l->epoch_start) return (struct replica_position){l->epoch, l->durable_end};
    if (p->created && l->epochs.count == 1) return (struct replica_position){l->epoch, l->durable_end};
    int32_t below = l->durable_end > 0 ? epochs_at(&l->epochs, l->durable_end - 1) : 0;
    return (struct replica_position){MAX(below, p->replica.durable.epoch), l->durable_end};
}

static void begin_epoch(struct partition *p) {
    if (p->log->epoch != p->epoch_due && log_begin_epoch(p->log, p->epoch_due) != OK) return; /* tried again before the next append */
    p->epoch_due = 0;
}

/* What the core's timers count in; a group of one has none. */
#define REPLICA_TIMEOUT_NS INT64_C(500000000)

/* The order matters: markers go into the log before anything is appended behind them, and the high watermark is published only
 * from the core's action (partition_moved() follows every event that can cause it). A group of one sends nothing, cuts nothing
 * and needs no vote beside its marker. */
static void perform(struct partition *p, const struct replica_action *a) {
    switch (a->kind) {
    case REPLICA_BEGIN_EPOCH:
        p->epoch_due = a->position.epoch;
        begin_epoch(p); /* or it was made with the log */
        break;
    case REPLICA_ROLE:
        controller_quorum_changed(p->map->reactor, p->plid);
        if (p->map->reactor->groups) group_set_leadership(p->map->reactor->groups, p->plid);
        break;
    case REPLICA_HIGH_WATERMARK:
    case REPLICA_PERSIST_VOTE:
        break;
    case REPLICA_PERSIST_CONFIG:
    case REPLICA_SET_START:
    case REPLICA_APPEND_RECORDS:
    case REPLICA_TRUNCATE:
    case REPLICA_RESET:
    case REPLICA_SEND:
        ASSERT(!"an action that a group of one never asks for");
        break;
    }
}

static enum err perform_step(struct partition *p, const struct replica_event *event) {
    struct replica_actions *actions = &p->map->actions;
    enum err err = replica_step(&p->replica, event, actions);
    for (uint32_t i = 0; i < actions->count; i++) perform(p, &actions->list[i]);
    return err;
}

static enum err step(struct partition *p, enum replica_event_kind kind, struct replica_position at) {
    struct replica_event event = {.kind = kind, .now_ns = p->map->reactor->now_ns, .u.position = at};
    return perform_step(p, &event);
}

/* What the log holds, all of it durable, and that there is nobody else. ERR_NOMEM. */
static enum err start(struct partition *p) {
    const struct log *l = p->log;
    struct replica_start from = {
        .self = {p->map->reactor->broker->config.node_id, *log_store_incarnation(p->map->reactor->broker->store)},
        .base = {0, l->start}, .end = l->end, .timeout_ns = REPLICA_TIMEOUT_NS, .seed = p->plid,
    };
    from.config = (struct replica_config){.id = {0, 1}, .voters = 1, .count = 1, .members = {from.self}};
    struct replica_marker last = {l->epoch, l->epoch_start}; /* of the epochs before it nothing is asked in a group of one */
    if (p->created && l->epoch > 0) {
        from.base.offset = MIN(l->start, last.start);
        from.markers = &last;
        from.marker_count = 1;
    } else {
        from.end = l->start;
    }
    struct replica_event event = {.kind = REPLICA_START, .now_ns = p->map->reactor->now_ns, .u.start = &from};
    return perform_step(p, &event);
}

enum err partition_before_append(struct partition *p) {
    if (p->epoch_due == 0) {
        enum err err = step(p, REPLICA_WRITE, (struct replica_position){0, 0});
        if (err != OK) return err;
    }
    if (p->epoch_due != 0) begin_epoch(p);
    return p->epoch_due == 0 ? OK : ERR_AGAIN;
}

void partition_after_append(struct partition *p) {
    (void)step(p, REPLICA_APPENDED, (struct replica_position){p->log->epoch, p->log->end});
}

/* Everybody whose wait is over, once for each move. */
static void partition_moved(struct partition *p) {
    partition_complete_produces(p);
    partition_wake_watchers(p);
}

static void on_durable(struct log *l, void *owner) {
    (void)l;
    struct partition *p = owner;
    if (p->gone) return;
    if (atomic_load_explicit(&p->map->reactor->broker->failed, memory_order_acquire)) {
        partition_fail_produces(p, KERR_KAFKA_STORAGE_ERROR);
        return;
    }
    (void)step(p, REPLICA_DURABLE_AT, durable_position(p));
    partition_moved(p);
}

/* ---- coming and going ---------------------------------------------------------------------------- */

static struct partition *partition_new(struct partition_map *m, uint64_t plid) {
    struct partition *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    p->plid = plid;
    p->map = m;
    replica_init(&p->replica);
    list_init(&p->queue);
    list_init(&p->committed);
    list_init(&p->durable);
    list_init(&p->watchers);
    list_init(&p->blocked);
    topic_config_resolve(&p->config, &m->reactor->broker->config, NULL, 0);
    return p;
}

static void partition_free(struct partition *p) {
    replica_free(&p->replica);
    free(p);
}

static void attach(struct partition *p, struct log *l) {
    p->log = l;
    l->owner = p;
    l->on_durable = on_durable;
    HASH_ADD(hh, p->map->by_plid, plid, sizeof p->plid, p);
}

/* The mail sees to it that the turn which retries comes soon, whoever called. */
static void woken(struct mail *mail) { CONTAINER_OF(mail, struct partition_map, wake_mail)->wake_posted = false; }
static void on_writable(void *ctx) {
    struct partition_map *m = ctx;
    m->writable = true;
    if (m->wake_posted) return;
    m->wake_posted = true;
    m->wake_mail.deliver = woken;
    mailbox_post(&m->reactor->mailbox, &m->wake_mail);
}

struct partition_map *partition_map_new(struct reactor *r) {
    struct partition_map *m = calloc(1, sizeof *m);
    if (!m) return NULL;
    m->reactor = r;
    list_init(&m->blocked);
    for (struct log *l = log_shard_first(r->shard); l; l = log_shard_next(r->shard, l)) {
        struct partition *p = partition_new(m, l->plid);
        if (!p) {
            partition_map_free(m);
            return NULL;
        }
        attach(p, l);
        p->created = true;
        if (start(p) != OK) {
            partition_map_free(m);
            return NULL;
        }
    }
    log_shard_on_writable(r->shard, on_writable, m);
    housekeeping_start(r);
    cleaner_start(r);
    return m;
}

void partition_map_free(struct partition_map *m) {
    if (!m) return;
    struct partition *p, *next;
    HASH_ITER(hh, m->by_plid, p, next) {
        HASH_DEL(m->by_plid, p);
        partition_free(p);
    }
    free(m);
}

void partition_map_stop(struct partition_map *m, int16_t error) {
    m->stop_error = error;
    struct partition *p, *next;
    HASH_ITER(hh, m->by_plid, p, next) {
        partition_fail_produces(p, error);
        partition_wake_watchers(p);
    }
}

void partition_map_turn(struct partition_map *m) {
    if (!m->failed_seen && atomic_load_explicit(&m->reactor->broker->failed, memory_order_acquire)) {
        m->failed_seen = true;
        partition_map_stop(m, KERR_KAFKA_STORAGE_ERROR);
    }
    if (!m->writable) return;
    m->writable = false;
    struct list waiting;
    list_init(&waiting);
    struct list *node;
    while ((node = list_pop_front(&m->blocked))) list_push_back(&waiting, node);
    while ((node = list_pop_front(&waiting))) partition_pump(LIST_ENTRY(node, struct partition, blocked));
}

static void on_created(struct log *l, void *ctx, enum err err) {
    (void)l;
    struct partition *p = ctx;
    void (*done)(void *, enum err) = p->create_done;
    p->create_done = NULL;
    if (!err && !p->gone) {
        p->created = true;
        (void)step(p, REPLICA_DURABLE_AT, durable_position(p));
        partition_moved(p);
    }
    if (done) done(p->create_ctx, err);
}

/* A failure that is known at once is still told from the loop. */
struct later { struct mail mail; void (*done)(void *ctx, enum err err); void *ctx; enum err err; };
static void later_deliver(struct mail *m) {
    struct later *l = CONTAINER_OF(m, struct later, mail);
    void (*done)(void *, enum err) = l->done;
    void *ctx = l->ctx;
    enum err err = l->err;
    free(l);
    done(ctx, err);
}
static void tell_later(struct reactor *r, void (*done)(void *ctx, enum err err), void *ctx, enum err err) {
    struct later *l = malloc(sizeof *l);
    ASSERT(l != NULL);
    *l = (struct later){.mail.deliver = later_deliver, .done = done, .ctx = ctx, .err = err};
    mailbox_post(&r->mailbox, &l->mail);
}

static enum err create(struct reactor *r, const struct image_topic *t, int32_t partition,
                       void (*done)(void *ctx, enum err err), void *ctx) {
    struct partition *p = partition_new(r->partitions, t->partitions[partition].plid);
    if (!p) return ERR_NOMEM;
    p->config = t->config;
    p->known = true;
    p->create_done = done;
    p->create_ctx = ctx;
    struct log_spec spec = {
        .plid = p->plid, .topic = t->name, .partition = partition, .topic_id = t->id,
        .config = t->config.log, .first_epoch = 1, /* the first election writes marker (1, 0) */
    };
    struct log *l = NULL;
    enum err err = log_create(r->shard, &spec, &l, on_created, p);
    if (err) {
        partition_free(p);
        return err;
    }
    attach(p, l);
    err = start(p);
    ASSERT(err == OK); /* a few bytes; the log is there already */
    return OK;
}

bool partition_create(struct reactor *r, const struct image_topic *t, int32_t partition,
                      void (*done)(void *ctx, enum err err), void *ctx) {
    enum err err = r->partitions->stop_error ? ERR_CLOSED : create(r, t, partition, done, ctx);
    if (!err) return true;
    trace_error("partition", "creating %s-%d failed: %s", t->name, partition, err_str(err));
    tell_later(r, done, ctx, err);
    return false;
}

void partition_unref_work(struct partition *p) {
    ASSERT(p->works > 0);
    p->works--;
    if (p->gone && p->works == 0 && !p->log) partition_free(p);
}

static void on_deleted(void *ctx, enum err err) {
    struct partition *p = ctx;
    p->log = NULL;
    void (*done)(void *, enum err) = p->delete_done;
    void *done_ctx = p->delete_ctx;
    if (p->works == 0) partition_free(p);
    done(done_ctx, err);
}

void partition_delete(struct reactor *r, uint64_t plid, void (*done)(void *ctx, enum err err), void *ctx) {
    struct partition *p = partition_find(r, plid);
    if (!p) {
        tell_later(r, done, ctx, OK);
        return;
    }
    HASH_DEL(r->partitions->by_plid, p);
    p->gone = true;
    p->delete_done = done;
    p->delete_ctx = ctx;
    list_remove(&p->blocked);
    partition_fail_produces(p, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    partition_wake_watchers(p);
    log_delete(p->log, on_deleted, p);
}

void partition_configure(struct reactor *r, const struct image_topic *t, int32_t partition) {
    struct partition *p = partition_find(r, t->partitions[partition].plid);
    if (!p) return;
    p->config = t->config;
    p->known = true;
    log_configure(p->log, &p->config.log);
}

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

enum { LATEST = -1, EARLIEST = -2, MAX_TIMESTAMP = -3, EARLIEST_LOCAL = -4 };

static void offset_start(struct partition_op *base) {
    struct partition_offset *op = CONTAINER_OF(base, struct partition_offset, op);
    struct partition *p = partition_find(base->owner, base->plid);
    op->offset = op->found_timestamp = -1;
    op->found_epoch = -1;
    if (!p) {
        partition_op_finish(base, KERR_NOT_LEADER_OR_FOLLOWER);
        return;
    }
    base->leader_epoch = p->replica.epoch;
    int16_t error = partition_check_epoch(p, op->current_leader_epoch);
    if (!error && !p->replica.established) error = KERR_OFFSET_NOT_AVAILABLE;
    if (error) {
        partition_op_finish(base, error);
        return;
    }
    switch (op->timestamp) {
    case LATEST:
        op->offset = partition_bound(p);
        op->found_epoch = p->replica.epoch;
        break;
    case EARLIEST:
    case EARLIEST_LOCAL:
        op->offset = p->log->start;
        op->found_epoch = epoch_at(p->log, p->log->start);
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
    if (!p) {
        partition_op_finish(base, KERR_NOT_LEADER_OR_FOLLOWER);
        return;
    }
    base->leader_epoch = p->replica.epoch;
    int16_t error = partition_check_epoch(p, op->current_leader_epoch);
    /* An epoch that never was has no end. */
    if (!error && op->epoch <= p->log->epoch)
        epochs_end_of(&p->log->epochs, op->epoch, p->log->start, p->log->end, &op->found_epoch, &op->end_offset);
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
    if (!p->replica.established) return KERR_NOT_LEADER_OR_FOLLOWER;
    if (p->config.log.cleanup_compact && !p->config.log.cleanup_delete) return KERR_POLICY_VIOLATION;
    return offset < 0 || offset > partition_bound(p) ? KERR_OFFSET_OUT_OF_RANGE : KERR_NONE;
}

static void delete_records_start(struct partition_op *base) {
    struct partition_delete_records *op = CONTAINER_OF(base, struct partition_delete_records, op);
    struct partition *p = partition_find(base->owner, base->plid);
    op->low_watermark = -1;
    if (!p) {
        partition_op_finish(base, KERR_NOT_LEADER_OR_FOLLOWER);
        return;
    }
    int64_t offset = op->offset == -1 ? partition_bound(p) : op->offset;
    int16_t error = delete_records_error(p, offset);
    if (error) {
        partition_op_finish(base, error);
        return;
    }
    /* Also when nothing goes: the start that is told must be durable. */
    enum err err = log_set_start(p->log, MAX(offset, p->log->start), records_deleted, op);
    if (err) partition_op_finish(base, api_error(err));
}
void partition_delete_records(struct partition_delete_records *op) { partition_op_send(&op->op, delete_records_start); }

bool partition_retain(struct reactor *r, uint64_t plid, bool hold_time) {
    struct partition *p = partition_find(r, plid);
    if (!p) return false;
    if (!p->known || !p->created || p->gone || !p->replica.established) return true;
    uint32_t removed;
    enum err err = log_retain(p->log, r->now_ms, partition_bound(p), hold_time, &removed);
    if (err != OK && err != ERR_CLOSED) trace_warn("log", "%s-%d: retention has to wait: %s", p->log->topic, p->log->partition, err_str(err));
    if (removed > 0)
        trace_info("log", "%s-%d: %u old segments go; the log starts at offset %lld now", p->log->topic, p->log->partition, removed,
                   (long long)p->log->start);
    return true;
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
