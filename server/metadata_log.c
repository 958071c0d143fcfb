/* metadata_log.c - from the metadata log to the first image: made when the directory is fresh, else
 * replayed from its start. Reactor 0's thread, except where a function says otherwise. */
#include <stdio.h>
#include <stdlib.h>
#include "base/assert.h"
#include "server/api_errors.h"
#include "server/controller_impl.h"

enum { REPLAY_READ_BYTES = 1 << 20 };

static void fail(struct controller *c, enum err err, const char *why) {
    if (c->replay) image_edit_drop(c->replay);
    c->replay = NULL;
    c->ready(c->ready_ctx, err, why);
}

void metadata_log_ready(struct controller *c, enum err err) {
    c->ready(c->ready_ctx, err, err ? "logs that metadata asks for could not be made" : NULL);
}

static void replayed(struct controller *c) {
    struct image *im = image_edit_finish(c->replay, c->replayed);
    c->replay = NULL;
    if (!im) {
        fail(c, ERR_NOMEM, "not enough memory for the metadata");
        return;
    }
    controller_publish(c, im, NULL, true);
}

static enum err replay_batch(struct controller *c, const uint8_t *batch, const struct batch_header *h) {
    struct record_iter it;
    struct record r;
    enum err err = record_iter_init(&it, batch, h, (size_t)c->broker->config.max_decompressed_batch_bytes);
    if (err) return err;
    while ((err = record_iter_next(&it, &r)) == OK) {
        err = image_edit_apply(c->replay, (uint64_t)r.offset, r.value.p, r.value.p ? (size_t)r.value.len : 0);
        if (err) break;
    }
    record_iter_free(&it);
    if (err != ERR_NOT_FOUND) return err;
    c->replayed = (uint64_t)batch_last_offset(h) + 1;
    return OK;
}

static enum err replay_bytes(struct controller *c, const uint8_t *p, size_t len) {
    while (len > 0) {
        struct batch_header h;
        enum err err = batch_parse(p, len, &h);
        if (!err) err = replay_batch(c, p, &h);
        if (err) return err;
        p += h.total_bytes;
        len -= h.total_bytes;
    }
    return OK;
}

/* Slices may part a batch: they are put together first. */
static enum err replay_read(struct controller *c, const struct log_read *r) {
    uint8_t *all = malloc(MAX(r->bytes, 1u));
    if (!all) return ERR_NOMEM;
    size_t len = 0;
    for (uint32_t i = 0; i < r->slice_count; i++) {
        memcpy(all + len, slice_data(&r->slices[i]), r->slices[i].len);
        len += r->slices[i].len;
    }
    enum err err = replay_bytes(c, all, len);
    free(all);
    return err;
}

static void read_home(struct fetch_group *g);

static void read_more(struct controller *c) {
    c->replay_part.offset = (int64_t)c->replayed;
    c->replay_part.budget_bytes = REPLAY_READ_BYTES;
    c->replay_part.min_one = true;
    c->replay_group.home = read_home;
    fetch_group_read(&c->replay_group);
}

static void read_home(struct fetch_group *g) {
    struct controller *c = g->request;
    struct fetch_part *part = &c->replay_part;
    uint64_t before = c->replayed;
    enum err err = part->error || !part->read ? ERR_CORRUPT : replay_read(c, part->read);
    if (g->loan) buf_unref(fetch_loan_buf(g->loan));
    if (!err && c->replayed == before) err = ERR_CORRUPT;
    if (err == ERR_UNSUPPORTED) fail(c, err, "the metadata log was written by a later version of varved");
    else if (err == ERR_NOMEM) fail(c, err, "not enough memory for the metadata");
    else if (err) fail(c, err, "the metadata log is damaged");
    else if (c->replayed < (uint64_t)part->high_watermark) read_more(c);
    else replayed(c);
}

static void plan_home(struct fetch_group *g) {
    struct controller *c = g->request;
    struct fetch_part *part = &c->replay_part;
    if (part->error) fail(c, ERR_CORRUPT, "the metadata log cannot be read");
    else if (part->offset < part->high_watermark) read_more(c);
    else replayed(c);
}

static void replay(struct controller *c) {
    struct image *empty = image_new_empty();
    c->replay = empty ? image_edit_begin(c->broker, empty) : NULL;
    if (empty) image_free_last(empty);
    if (!c->replay) {
        fail(c, ERR_NOMEM, "not enough memory for the metadata");
        return;
    }
    c->replay_parts[0] = &c->replay_part;
    c->replay_part = (struct fetch_part){
        .plid = c->partition.plid, .max_bytes = REPLAY_READ_BYTES, .current_leader_epoch = -1, .last_fetched_epoch = -1,
    };
    c->replay_group = (struct fetch_group){
        .caller = controller_reactor(c), .owner = metadata_owner(c), .parts = c->replay_parts, .part_count = 1,
        .home = plan_home, .request = c,
    };
    fetch_group_plan(&c->replay_group);
}

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
    fail(c, c->start_err, why);
}

static void created_home(struct mail *m) {
    struct controller *c = CONTAINER_OF(m, struct controller, start_mail);
    if (c->start_err) refuse_start(c);
    else replay(c);
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
    partition_create(metadata_owner(c), &c->topic, 0, created, c);
}

static bool any_log(const struct controller *c) {
    for (uint32_t i = 0; i < c->broker->reactor_count; i++)
        if (partition_map_count(c->broker->reactors[i].partitions) > 0) return true;
    return false;
}

void controller_start(struct controller *c, const struct log_recovery *recovery,
                      void (*ready)(void *ctx, enum err err, const char *why), void *ctx) {
    c->ready = ready;
    c->ready_ctx = ctx;
    c->metadata_assigned = recovery->metadata_assigned;
    if (c->found) {
        replay(c);
        return;
    }
    if (any_log(c)) {
        fail(c, ERR_CORRUPT, "the data directory has logs of topics but no metadata log");
        return;
    }
    struct io_space space;
    if (disk_is_below_reserve(c, &space)) {
        created(c, ERR_NOSPACE);
        return;
    }
    c->partition.plid = log_store_new_plid(c->broker->store);
    c->partition.owner = log_store_shard_of(c->broker->store, c->partition.plid);
    c->start_mail.deliver = create_arrive;
    mailbox_post(&metadata_owner(c)->mailbox, &c->start_mail);
}
