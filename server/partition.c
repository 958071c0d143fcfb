/* partition.c - life of a partition: how it comes, is found, is asked from other reactors, and goes. */
#include "server/partition.h"
#include <stdlib.h>
#include "base/assert.h"
#include "base/trace.h"
#include "server/api_errors.h"
#include "server/controller.h"
#include "server/image.h"
#include "log/retention.h"
#include "server/partition_config.h"
#include "server/partition_impl.h"
#include "server/partition_produce.h"
#include "server/peer.h"

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

static struct partition *partition_find_in(const struct partition_map *m, uint64_t plid) {
    struct partition *p = NULL;
    HASH_FIND(hh, m->by_plid, &plid, sizeof plid, p);
    return p;
}

struct partition *partition_find(struct reactor *r, uint64_t plid) { return partition_find_in(r->partitions, plid); }

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
        plids[(*count)++] = p->log->plid;
    }
    return plids;
}

int16_t partition_check_epoch(const struct partition *p, int32_t current_leader_epoch) {
    int32_t epoch = partition_shown_epoch(p);
    if (current_leader_epoch < 0 || current_leader_epoch == epoch) return KERR_NONE;
    return current_leader_epoch < epoch ? KERR_FENCED_LEADER_EPOCH : KERR_UNKNOWN_LEADER_EPOCH;
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
    list_init(&p->deletions);
    list_init(&p->latest);
    list_init(&p->handovers);
    list_init(&p->reads);
    list_init(&p->to_send);
    list_init(&p->to_settle);
    list_init(&p->blocked);
    timer_init(&p->timer, partition_timer);
    p->start_due = -1;
    p->followed_epoch = -1;
    topic_config_resolve(&p->config, &m->reactor->broker->config, NULL, 0);
    return p;
}

static void partition_free(struct partition *p) {
    if (timer_armed(&p->timer)) timer_cancel(&p->map->reactor->timers, &p->timer);
    partition_mend_stop(p);
    partition_drop_reads(p);
    replica_free(&p->replica);
    free(p);
}

static void attach(struct partition *p, struct log *l) {
    p->log = l;
    l->owner = p;
    l->on_durable = partition_on_durable;
    l->on_faulty = partition_on_faulty;
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
    m->send = peer_send;
    list_init(&m->blocked);
    list_init(&m->to_send);
    list_init(&m->to_settle);
    for (struct log *l = log_shard_first(r->shard); l; l = log_shard_next(r->shard, l)) {
        struct partition *p = partition_find_in(m, log_plid_group(l->plid));
        if (p) { /* never: the older log is deleted before a newer one is made */
            trace_error("metadata", "%s-%d has two logs; the older one is kept and not served", l->topic, l->partition);
            HASH_DEL(m->by_plid, p);
            partition_free(p);
        }
        p = partition_new(m, log_plid_group(l->plid));
        if (!p) {
            partition_map_free(m);
            return NULL;
        }
        attach(p, l);
        p->created = true;
        if (partition_start_replica(p, false) != OK) {
            partition_map_free(m);
            return NULL;
        }
        if (l->faulty) partition_on_faulty(l, p);
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

bool partition_map_stopped(const struct partition_map *m) { return m->stop_error != 0; }

void partition_map_stop(struct partition_map *m, int16_t error) {
    m->stop_error = error;
    struct partition *p, *next;
    HASH_ITER(hh, m->by_plid, p, next) {
        timer_cancel(&m->reactor->timers, &p->timer);
        partition_mend_stop(p);
        partition_fail_produces(p, error);
        partition_fail_deletions(p, error);
        partition_fail_latest(p, error);
        partition_end_handovers(p, error);
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
    while ((node = list_pop_front(&waiting))) {
        struct partition *p = LIST_ENTRY(node, struct partition, blocked);
        partition_start_that_was_due(p);
        partition_pump(p);
    }
}

bool partition_map_flush(struct partition_map *m) {
    struct list senders;
    if (list_empty(&m->to_send) && list_empty(&m->to_settle)) return false;
    list_init(&senders);
    struct list *node;
    while ((node = list_pop_front(&m->to_send))) list_push_back(&senders, node);
    while ((node = list_pop_front(&senders))) partition_send_appends(LIST_ENTRY(node, struct partition, to_send));
    return partition_settle(m) || !list_empty(&m->to_send);
}

static void on_created(struct log *l, void *ctx, enum err err) {
    (void)l;
    struct partition *p = ctx;
    void (*done)(void *, enum err) = p->create_done;
    p->create_done = NULL;
    if (!err && !p->gone) {
        p->created = true;
        if (p->started) partition_on_durable(l, p);
        else err = partition_start_replica(p, p->campaign_soon);
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

/* A group of one takes records before its log is durable; of several, nobody hears of it before. */
static enum err create(struct partition *p, const struct image_topic *t, int32_t partition, const struct partition_spec *spec) {
    struct reactor *r = p->map->reactor;
    struct replica_member self = {r->broker->config.node_id, *log_store_incarnation(r->broker->store)};
    struct replica_config config = {0};
    if (spec->config) config = *spec->config;
    bool alone = config.count == 1 && replica_config_is_voter(&config, &self);
    uint8_t bytes[PARTITION_CONFIG_BYTES_MAX];
    struct log_spec log = {
        .plid = log_plid(spec->group, spec->life), .topic = t->name, .partition = partition, .topic_id = t->id,
        .config = t->config.log, .first_epoch = alone, /* then the first election writes marker (1, 0) */
        .replica_config = bytes, .replica_config_len = partition_config_encode(&config, bytes),
    };
    struct log *l = NULL;
    enum err err = log_create(r->shard, &log, &l, on_created, p);
    if (err) return err;
    attach(p, l);
    p->campaign_soon = spec->campaign_soon;
    return alone ? partition_start_replica(p, false) : OK;
}

bool partition_create_replica(struct reactor *r, const struct image_topic *t, int32_t partition, const struct partition_spec *spec,
                              void (*done)(void *ctx, enum err err), void *ctx) {
    struct partition *p = r->partitions->stop_error ? NULL : partition_new(r->partitions, spec->group);
    enum err err = r->partitions->stop_error ? ERR_CLOSED : ERR_NOMEM;
    if (p) {
        p->config = t->config;
        p->known = true;
        p->create_done = done;
        p->create_ctx = ctx;
        err = create(p, t, partition, spec);
    }
    if (!err) return true;
    if (p && !p->log) partition_free(p);
    if (err != ERR_CLOSED) trace_error("partition", "creating %s-%d failed: %s", t->name, partition, err_str(err));
    tell_later(r, done, ctx, err);
    return false;
}

static struct replica_config first_config(const struct image_replica *list, int32_t count) {
    struct replica_config c = {.id = {0, 1}, .voters = (uint8_t)count, .count = (uint8_t)count};
    for (int32_t i = 0; i < count; i++) c.members[i] = (struct replica_member){list[i].node, list[i].incarnation};
    return c;
}

bool partition_create(struct reactor *r, const struct image_topic *t, int32_t partition,
                      void (*done)(void *ctx, enum err err), void *ctx) {
    const struct image_partition *p = &t->partitions[partition];
    struct replica_member self = {r->broker->config.node_id, *log_store_incarnation(r->broker->store)};
    const struct image_replica *first = p->first ? p->first : p->at;
    int32_t count = p->first ? p->first_count : p->replica_count;
    struct replica_config config = {.id = {0, 1}, .voters = 1, .count = 1, .members = {self}};
    struct partition_spec spec = {.group = p->plid, .config = &config};
    bool known = first && count > 0 && count <= REPLICA_MEMBERS_MAX && !uuid_is_zero(&first[0].incarnation);
    for (int32_t i = 0; i < p->replica_count && p->at; i++)
        if (p->at[i].node == self.node) spec.life = p->at[i].life;
    if (known) {
        config = first_config(first, count);
        spec.campaign_soon = first[0].node == self.node;
        if (spec.life != 0 || !replica_config_is_voter(&config, &self)) spec.config = NULL; /* it came later, or its disk did */
    }
    return partition_create_replica(r, t, partition, &spec, done, ctx);
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
    partition_mend_stop(p);
    p->delete_done = done;
    p->delete_ctx = ctx;
    list_remove(&p->blocked);
    list_remove(&p->to_send);
    list_remove(&p->to_settle);
    timer_cancel(&r->timers, &p->timer);
    partition_drop_reads(p);
    leaders_forget(r, plid);
    partition_fail_produces(p, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    partition_fail_deletions(p, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    partition_fail_latest(p, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    partition_end_handovers(p, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    partition_wake_watchers(p);
    log_delete(p->log, on_deleted, p);
}

void partition_configure(struct reactor *r, const struct image_topic *t, int32_t partition) {
    struct partition *p = partition_find(r, t->partitions[partition].plid);
    if (!p) return;
    p->config = t->config;
    p->known = true;
    log_configure(p->log, &p->config.log);
    if (partition_is_led(p)) partition_settle_soon(p);
}
