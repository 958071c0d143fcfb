/* metadata_log.c - from the metadata log to images: one way for every broker, whoever wrote the records.
 *
 *   wait until something is committed behind what is applied -> read up to 1 MiB -> apply batch by batch
 *
 * The first image is made of a snapshot, if the log begins with one, and of all that follows and was there when the broker
 * started (a broker alone: its whole log; in a cluster: up to
 * where the controller was when it answered this broker's registration, or all that the broker found committed when it
 * became the leader itself). After that each batch, which is one change, makes one image. What the controller itself
 * appended need not be read: metadata_log_applied(). If the log begins behind what is applied, because this broker was away while
 * a snapshot took the place of what it lacks, another first image is made in the same way, from that. Reactor 0's thread, except where a function says otherwise. */
#include <stdio.h>
#include <stdlib.h>
#include "base/assert.h"
#include "base/trace.h"
#include "server/api_errors.h"
#include "server/cluster.h"
#include "server/controller_impl.h"

enum {
    READ_BYTES = 1 << 20,
    CHANGES_A_TURN = 16,
    RECORDS_A_TURN = 512,          /* of a snapshot, while clients are served */
    REPLAYS_A_TURN = 256,          /* before that */
};
#define RETRY_NS 50000000

/* ---- applying ---------------------------------------------------------------------------------- */

static enum err apply_records(const struct controller *c, struct image_edit *edit, const uint8_t *batch, const struct batch_header *h) {
    struct record_iter it;
    struct record r;
    enum err err = record_iter_init(&it, batch, h, (size_t)c->broker->config.max_decompressed_batch_bytes);
    if (err) return err;
    while ((err = record_iter_next(&it, &r)) == OK) {
        err = image_edit_apply(edit, (uint64_t)r.offset, r.value.p, r.value.p ? (size_t)r.value.len : 0);
        if (err) break;
    }
    record_iter_free(&it);
    return err == ERR_NOT_FOUND ? OK : err;
}

/* One change that another broker made, or this one in a life before. */
static enum err apply_change(struct controller *c, const uint8_t *batch, const struct batch_header *h, uint64_t end) {
    struct image_edit *edit = image_edit_begin(c->broker, controller_newest(c));
    if (!edit) return ERR_NOMEM;
    enum err err = apply_records(c, edit, batch, h);
    if (err) {
        image_edit_drop(edit);
        return err;
    }
    struct image *im = image_edit_finish(edit, end);
    if (!im) return ERR_NOMEM;
    controller_publish(c, im, NULL, false);
    return OK;
}

static enum err apply_batch(struct controller *c, const uint8_t *batch, const struct batch_header *h) {
    struct metadata_follower *f = &c->follow;
    uint64_t end = (uint64_t)batch_last_offset(h) + 1;
    if (end <= f->applied) return OK; /* read again, or this broker's own */
    if ((uint64_t)h->base_offset != f->applied) return ERR_CORRUPT;
    enum err err = OK;
    struct controller_change *ch = NULL;
    struct image *prepared = f->replay ? NULL : controller_take_prepared(c, h, &ch);
    if (f->replay) err = apply_records(c, f->replay, batch, h);
    else if (prepared) controller_publish(c, prepared, ch, false);
    else err = apply_change(c, batch, h, end);
    if (!err) f->applied = end;
    return err;
}

static enum err apply_next(struct controller *c, uint32_t *records) {
    struct metadata_follower *f = &c->follow;
    struct batch_header h;
    enum err err = batch_parse(f->bytes + f->at, f->len - f->at, &h);
    if (!err) err = apply_batch(c, f->bytes + f->at, &h);
    if (!err) *records += (uint32_t)h.record_count;
    if (!err) f->at += h.total_bytes;
    return err;
}

void metadata_log_applied(struct controller *c, struct image *image, struct controller_change *ch) {
    ASSERT(!c->follow.replay && image->metadata_end > c->follow.applied);
    c->follow.applied = image->metadata_end;
    controller_publish(c, image, ch, false);
}

/* ---- the first image ------------------------------------------------------------------------------ */

void metadata_log_look(struct controller *c) {
    struct metadata_follower *f = &c->follow;
    if (!f->replay || !f->running) return;
    if (c->role.config.count > 1 && cluster_stage(c->broker) == CLUSTER_ALONE) {
        controller_fail(c, ERR_INVALID, "the data directory belongs to a cluster of several brokers, and this one has no listener for the others: "
             "set peer.listen, and controller.quorum.voters or controller.quorum.bootstrap.servers");
        return;
    }
    if (f->wanted == UINT64_MAX && c->role.leads) f->wanted = (uint64_t)c->role.high_watermark;
    if (f->applied < f->wanted || !image_edit_is_whole(f->replay)) return;
    struct image *im = image_edit_finish(f->replay, f->applied);
    f->replay = NULL;
    if (im && c->published) trace_info("metadata", "metadata is here again, up to offset %llu", (unsigned long long)f->applied);
    if (im) controller_publish(c, im, NULL, !c->published);
    else controller_fail(c, ERR_NOMEM, "not enough memory for the metadata");
}

void controller_wants(struct controller *c, uint64_t end) {
    if (c->follow.replay && c->follow.wanted == UINT64_MAX) c->follow.wanted = end;
    metadata_log_look(c);
}

void metadata_log_ready(struct controller *c, enum err err) {
    if (err) {
        controller_fail(c, err, "logs that metadata asks for could not be made");
        return;
    }
    c->published = true;
    controller_ask_role(c);
    cluster_image(c->broker);
}

/* ---- reading ---------------------------------------------------------------------------------------- */

static void advance(struct controller *c);

static void follow_deliver(struct mail *m) {
    struct controller *c = CONTAINER_OF(m, struct controller, follow.mail);
    c->follow.away = false;
    advance(c);
}
/* From a group's way home, which may be inside the call that sent it out. */
static void go_on(struct controller *c) {
    c->follow.mail.deliver = follow_deliver;
    mailbox_post(&controller_reactor(c)->mailbox, &c->follow.mail);
}

static void retry(struct timer *t) { advance(CONTAINER_OF(t, struct controller, follow.timer)); }
static void retry_later(struct controller *c) {
    struct reactor *r = controller_reactor(c);
    timer_set(&r->timers, &c->follow.timer, r->now_ns + RETRY_NS);
}

/* The start ends; later the process does: an image that lacks a change would be a lie from then on. */
static void broken(struct controller *c, enum err err) {
    char why[160];
    snprintf(why, sizeof why, "%s, at offset %llu",
             err == ERR_UNSUPPORTED ? "the metadata log was written by a later version of varved" :
             err == ERR_NOMEM ? "not enough memory for the metadata" : "the metadata log is damaged",
             (unsigned long long)c->follow.applied);
    if (err != ERR_NOMEM || !c->published) {
        controller_fail(c, err, why);
        return;
    }
    if (c->follow.replay) { /* half a batch may be in it */
        image_edit_drop(c->follow.replay);
        c->follow.replay = NULL;
        c->follow.applied = controller_newest(c)->metadata_end;
    }
    trace_error("metadata", "%s: tried again", why);
    retry_later(c);
}

/* It is read again and again until it is mended: by itself while another broker has it. */
static enum err damaged(struct controller *c) {
    struct metadata_follower *f = &c->follow;
    if (cluster_stage(c->broker) == CLUSTER_ALONE || c->role.config.count == 1) return ERR_CORRUPT;
    if (!f->unreadable)
        trace_warn("metadata", "the metadata log is damaged, at offset %llu: waiting for another broker's copy", (unsigned long long)f->applied);
    f->unreadable = true;
    return ERR_AGAIN;
}

static enum err take_bytes(struct metadata_follower *f, const struct log_read *r) {
    f->at = f->len = 0;
    if (r->bytes > f->cap) {
        uint8_t *grown = realloc(f->bytes, r->bytes);
        if (!grown) return ERR_NOMEM;
        f->bytes = grown;
        f->cap = r->bytes;
    }
    for (uint32_t i = 0; i < r->slice_count; i++) {
        memcpy(f->bytes + f->len, slice_data(&r->slices[i]), r->slices[i].len);
        f->len += r->slices[i].len;
    }
    return OK;
}

static void read_home(struct fetch_group *g) {
    struct controller *c = g->request;
    struct metadata_follower *f = &c->follow;
    f->err = f->part.error || !f->part.read ? ERR_AGAIN : take_bytes(f, f->part.read);
    if (f->part.error == KERR_KAFKA_STORAGE_ERROR || f->part.error == KERR_CORRUPT_MESSAGE) f->err = damaged(c);
    else f->unreadable = false;
    if (g->loan) buf_unref(fetch_loan_buf(g->loan));
    go_on(c);
}

static void watch_home(struct fetch_group *g) {
    struct controller *c = g->request;
    c->follow.err = c->follow.part.error == KERR_OFFSET_OUT_OF_RANGE ? ERR_RANGE : c->follow.part.error ? ERR_AGAIN : OK;
    c->follow.found = !c->follow.part.error && c->follow.part.high_watermark > (int64_t)c->follow.applied;
    go_on(c);
}

static void ask(struct controller *c) {
    struct metadata_follower *f = &c->follow;
    f->away = true;
    f->part = (struct fetch_part){
        .plid = c->partition.plid, .offset = (int64_t)f->applied, .max_bytes = READ_BYTES, .current_leader_epoch = -1,
        .last_fetched_epoch = -1, .from_follower = true, .budget_bytes = READ_BYTES, .min_one = true,
    };
    f->parts[0] = &f->part;
    f->group = (struct fetch_group){
        .caller = controller_reactor(c), .owner = metadata_owner(c), .parts = f->parts, .part_count = 1,
        .home = f->found ? read_home : watch_home, .request = c, .wanted_bytes = 1,
    };
    if (f->found) {
        f->found = false;
        fetch_group_read(&f->group);
    } else {
        fetch_group_watch(&f->group);
    }
}

/* A broker alone applies what it appended itself; there is nobody else to wait for. */
static bool reads_on(const struct controller *c) { return c->follow.replay || cluster_stage(c->broker) != CLUSTER_ALONE; }

/* The log begins behind what is applied, with a snapshot: this broker starts, or what it lacks went while it was away. */
static enum err begin_anew(struct controller *c) {
    struct metadata_follower *f = &c->follow;
    if (f->part.begins <= (int64_t)f->applied) return ERR_CORRUPT; /* it ends before what was committed */
    if (f->replay) image_edit_drop(f->replay);
    f->replay = image_edit_begin_anew(c->broker, controller_newest(c), (uint64_t)f->part.begins);
    if (!f->replay) return ERR_NOMEM;
    if (c->published) trace_info("metadata", "what follows offset %llu is gone from the metadata log: metadata is read anew from the "
                                 "snapshot at %lld", (unsigned long long)f->applied, (long long)f->part.begins);
    f->applied = (uint64_t)f->part.begins;
    f->at = f->len = 0;
    return OK;
}

static bool turn_is_full(const struct controller *c, uint32_t batches, uint32_t records) {
    if (!c->follow.replay) return batches == CHANGES_A_TURN || records >= RECORDS_A_TURN;
    return c->published ? records >= RECORDS_A_TURN : batches == REPLAYS_A_TURN;
}

static void advance(struct controller *c) {
    struct metadata_follower *f = &c->follow;
    if (f->away || !f->running || c->stopping || timer_armed(&f->timer)) return;
    enum err err = f->err;
    f->err = OK;
    if (err == ERR_RANGE) err = begin_anew(c);
    uint32_t records = 0;
    for (uint32_t n = 0; !err && f->at < f->len; n++) {
        if (!f->replay && !controller_publish_has_room(c)) return; /* metadata_log_continue() */
        if (turn_is_full(c, n, records)) {
            f->away = true;
            go_on(c);
            return;
        }
        err = apply_next(c, &records);
        if (err) f->at = f->len = 0; /* to be read again, if at all */
        controller_ask_role_unless_active(c);
    }
    if (err == ERR_AGAIN) retry_later(c);
    else if (err) broken(c, err);
    if (err) return;
    metadata_log_look(c);
    if (f->running && reads_on(c)) ask(c);
}

void metadata_log_continue(struct controller *c) { advance(c); }

void metadata_log_run(struct controller *c) {
    struct metadata_follower *f = &c->follow;
    f->running = true;
    f->wanted = UINT64_MAX;
    timer_init(&f->timer, retry);
    f->replay = image_edit_begin_anew(c->broker, controller_newest(c), 0);
    if (!f->replay) {
        controller_fail(c, ERR_NOMEM, "not enough memory for the metadata");
        return;
    }
    controller_ask_role(c);
    cluster_join(c->broker);
    advance(c);
}

void metadata_log_stop(struct controller *c) {
    struct metadata_follower *f = &c->follow;
    if (!f->running) return;
    f->running = false;
    timer_cancel(&controller_reactor(c)->timers, &f->timer);
    if (f->away) fetch_group_cancel(&f->group);
}

void metadata_log_free(struct controller *c) {
    if (c->follow.replay) image_edit_drop(c->follow.replay);
    free(c->follow.bytes);
}

/* ---- start -------------------------------------------------------------------------------------------- */

static bool disk_is_below_reserve(const struct controller *c, struct io_space *space) {
    const struct config *config = &c->broker->config;
    return io_space(controller_reactor(c)->io, config->data_dir, space) == 0 && (int64_t)space->free_bytes < config->disk_reserve_bytes;
}

/* A new data directory on a disk that has less than the reserve could never take a record: the operator is told at once. */
static void refuse_start(struct controller *c) {
    const struct config *config = &c->broker->config;
    struct io_space space = {0};
    char why[512] = "the metadata log could not be made";
    if (c->start_err == ERR_NOSPACE && disk_is_below_reserve(c, &space))
        snprintf(why, sizeof why, "the disk of %.200s is too small: it has %llu MiB free of %llu, and disk.reserve.bytes keeps %lld MiB free; "
                 "no record could ever be written. Give it more space, or a smaller disk.reserve.bytes", config->data_dir,
                 (unsigned long long)(space.free_bytes >> 20), (unsigned long long)(space.total_bytes >> 20),
                 (long long)(config->disk_reserve_bytes >> 20));
    controller_fail(c, c->start_err, why);
}

static void created_home(struct mail *m) {
    struct controller *c = CONTAINER_OF(m, struct controller, start_mail);
    if (c->start_err) refuse_start(c);
    else metadata_log_run(c);
}
/* The owner's thread. */
static void created(void *ctx, enum err err) {
    struct controller *c = ctx;
    c->start_err = err;
    c->start_mail.deliver = created_home;
    mailbox_post(&controller_reactor(c)->mailbox, &c->start_mail);
}
/* The owner's thread. */
static void create_arrive(struct mail *m) {
    struct controller *c = CONTAINER_OF(m, struct controller, start_mail);
    const struct broker *b = c->broker;
    if (cluster_stage(b) == CLUSTER_ALONE) {
        partition_create(metadata_owner(c), &c->topic, 0, created, c);
        return;
    }
    struct partition_spec spec = {
        .group = c->partition.plid, .config = c->founding ? &c->first_config : NULL,
        .campaign_soon = c->founding && c->first_config.members[0].node == b->config.node_id,
    };
    partition_create_replica(metadata_owner(c), &c->topic, 0, &spec, created, c);
}

void metadata_log_begin(struct controller *c, const struct replica_config *config) {
    c->founding = config != NULL;
    if (config) c->first_config = *config;
    /* Not the next number: an attempt that failed, for want of room, may have taken the first one already, and there is no log here. */
    c->partition.plid = METADATA_GROUP;
    log_store_plid_taken(c->broker->store, METADATA_GROUP);
    c->partition.owner = log_store_shard_of(c->broker->store, c->partition.plid);
    c->start_mail.deliver = create_arrive;
    mailbox_post(&metadata_owner(c)->mailbox, &c->start_mail);
}

static bool any_log(const struct controller *c) {
    for (uint32_t i = 0; i < c->broker->reactor_count; i++)
        if (partition_map_count(c->broker->reactors[i].partitions) > 0) return true;
    return false;
}

void controller_start(struct controller *c, const struct log_recovery *recovery,
                      void (*ready)(void *ctx, enum err err, const char *why), void *ctx) {
    struct io_space space;
    c->ready = ready;
    c->ready_ctx = ctx;
    c->metadata_assigned = recovery->metadata_assigned;
    if (c->found && cluster_stage(c->broker) != CLUSTER_ALONE && c->partition.plid != METADATA_GROUP)
        controller_fail(c, ERR_UNSUPPORTED, "the metadata log of this data directory cannot be shared with other brokers");
    else if (c->found)
        metadata_log_run(c);
    else if (any_log(c))
        controller_fail(c, ERR_CORRUPT, "the data directory has logs of topics but no metadata log");
    else if (disk_is_below_reserve(c, &space))
        created(c, ERR_NOSPACE);
    else if (cluster_stage(c->broker) != CLUSTER_ALONE)
        cluster_find(c->broker);
    else
        metadata_log_begin(c, NULL);
}
