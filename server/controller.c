/* controller.c - changes of metadata, one after the other; the controller's life. */
#include "server/controller.h"
#include <stdlib.h>
#include "base/assert.h"
#include "base/trace.h"
#include "server/api_errors.h"
#include "server/cluster.h"
#include "server/controller_impl.h"

/* ---- changes -------------------------------------------------------------------------------------- */


static bool is_active(const struct controller *c) { return atomic_load_explicit(&c->active, memory_order_relaxed); }

static void change_home(struct mail *m) {
    struct controller_change *ch = CONTAINER_OF(m, struct controller_change, mail);
    ch->done(ch);
}
void controller_change_finish(struct controller_change *ch, enum err err) {
    ch->err = err;
    ch->mail.deliver = change_home;
    mailbox_post(&ch->caller->mailbox, &ch->mail);
}

static void refuse_queued(struct controller *c, enum err err) {
    struct list *node;
    while ((node = list_pop_front(&c->queue))) controller_change_finish(LIST_ENTRY(node, struct controller_change, link), err);
    c->queue_count = 0;
}

/* ---- whether this broker is the controller ---- */

static void set_active(struct controller *c, bool active) {
    if (is_active(c) == active) return;
    atomic_store_explicit(&c->active, active, memory_order_release);
    if (!active) refuse_queued(c, ERR_NOT_CONTROLLER);
    if (cluster_stage(c->broker) == CLUSTER_ALONE) return;
    if (active) trace_info("metadata", "this broker is the controller now (epoch %d)", c->role.epoch);
    else trace_info("metadata", "this broker is not the controller any more");
}

void controller_fail(struct controller *c, enum err err, const char *why) {
    if (c->stopping) return;
    metadata_log_stop(c);
    if (!c->served) {
        c->served = true;
        c->ready(c->ready_ctx, err, why);
        return;
    }
    trace_error("metadata", "%s: the broker ends", why);
    io_fatal(controller_reactor(c)->io, 1, why);
}

void controller_look_served(struct controller *c) {
    bool alone = cluster_stage(c->broker) == CLUSTER_ALONE;
    if (c->served || !c->published || c->stopping) return;
    if (alone ? !is_active(c) : cluster_stage(c->broker) != CLUSTER_MEMBER) return;
    c->served = true;
    c->ready(c->ready_ctx, OK, NULL);
}

/* A leader is the controller once its image shows all that its log holds: everything of others, committed or not, and what
 * became of its own changes whose outcome was unknown. From then on it is alone in appending, as long as the epoch lasts. */
void controller_review(struct controller *c) {
    metadata_log_look(c);
    if (!c->published || c->stopping) return;
    bool same = is_active(c) && c->role.leads && c->role.epoch == c->active_epoch;
    bool fresh = c->role.leads && !c->follow.replay && !c->appending && !c->current && (int64_t)c->follow.applied == c->role.end;
    if (!same) set_active(c, false);
    if (!same && fresh) {
        c->active_epoch = c->role.epoch;
        set_active(c, true);
    }
    controller_look_served(c);
    controller_snapshot_trim(c);
    controller_pump(c);
}

/* ---- the end of a change ---- */

struct image *controller_take_prepared(struct controller *c, const struct batch_header *h, struct controller_change **ch) {
    struct batch_header own;
    if (!c->current || batch_parse(c->bytes, c->bytes_len, &own) != OK || own.crc != h->crc || own.total_bytes != h->total_bytes) return NULL;
    struct image *image = c->next;
    *ch = c->current;
    c->current = NULL;
    c->next = NULL;
    return image;
}

static enum err append_error(const struct controller *c, int16_t error) {
    if (error == KERR_KAFKA_STORAGE_ERROR) return ERR_IO;
    return c->stopping ? ERR_CLOSED : ERR_NOT_CONTROLLER;
}

/* Whether its records are ever in force is decided by whoever leads next, unless they were never appended. */
static void change_lost(struct controller *c, int16_t error) {
    struct controller_change *ch = c->current;
    ch->unknown = c->append.last_offset >= 0;
    if (ch->unknown || error != KERR_KAFKA_STORAGE_ERROR) set_active(c, false);
    image_free_unpublished(c->next);
    c->next = NULL;
    c->current = NULL;
    controller_change_finish(ch, append_error(c, error));
}

static void append_done(struct partition_op *op) {
    struct controller *c = CONTAINER_OF(CONTAINER_OF(op, struct partition_produce, op), struct controller, append);
    c->appending = false;
    if (c->current && op->error) {
        change_lost(c, op->error);
    } else if (c->current) {
        struct controller_change *ch = c->current;
        struct image *next = c->next;
        ASSERT(c->append.base_offset == (int64_t)c->follow.applied); /* it was appended where it was to be */
        c->current = NULL;
        c->next = NULL;
        metadata_log_applied(c, next, ch);
    }
    free(c->bytes);
    c->bytes = NULL;
    controller_ask_role_unless_active(c);
    controller_pump(c);
}

/* ---- making one ---- */

/* The image that the records will make, before they are written: what cannot be applied is never appended. */
static enum err prepare(struct controller *c, const uint8_t *batch, size_t len) {
    struct batch_header h;
    struct record_iter it;
    const struct image *base = controller_newest(c);
    enum err err = batch_parse(batch, len, &h);
    if (!err) err = record_iter_init(&it, batch, &h, CHANGE_BYTES_MAX + PIECE_BYTES_MORE);
    if (err) return err;
    struct image_edit *edit = image_edit_begin(c->broker, base);
    if (!edit) err = ERR_NOMEM;
    struct record r;
    while (!err && (err = record_iter_next(&it, &r)) == OK)
        err = image_edit_apply(edit, base->metadata_end + (uint64_t)r.offset_delta, r.value.p, (size_t)r.value.len);
    record_iter_free(&it);
    if (err == ERR_NOT_FOUND) {
        c->next = image_edit_finish(edit, base->metadata_end + (uint64_t)h.record_count);
        return c->next ? OK : ERR_NOMEM;
    }
    if (edit) image_edit_drop(edit);
    return err;
}

/* Returns false when the change ended here. */
static bool commit(struct controller *c, struct controller_change *ch) {
    enum err err = batch_builder_finish(&c->edit.batch, &c->bytes, &c->bytes_len);
    if (!err) err = prepare(c, c->bytes, c->bytes_len);
    if (err) {
        trace_error("metadata", "a change could not be made: %s", err_str(err));
        free(c->bytes);
        c->bytes = NULL;
        controller_change_finish(ch, err);
        return false;
    }
    c->appending = true;
    c->current = ch;
    c->append = (struct partition_produce){
        .op = {.caller = controller_reactor(c), .owner = metadata_owner(c), .plid = c->partition.plid,
               .done = append_done},
        .records = {c->bytes, (int32_t)c->bytes_len}, .acks = -1, .trusted = true,
        .conditional = true, .expected_end = (int64_t)c->follow.applied, .spares = c->edit.grows,
    };
    partition_produce(&c->append);
    return true;
}

/* ---- changes that change nothing ----
 *
 * That something is there already, or is not, is told by the image: of the controller alone. One that was kept from running may have been
 * replaced without knowing it; so a majority says first that it has not been. One question at a time, for all that have come by then. */

static void confirm(struct controller *c);

static void confirmed(struct partition_op *op) {
    struct controller *c = CONTAINER_OF(CONTAINER_OF(op, struct partition_offset, op), struct controller, confirmation);
    struct list *node;
    while ((node = list_pop_front(&c->confirming))) {
        struct controller_change *ch = LIST_ENTRY(node, struct controller_change, link);
        controller_change_finish(ch, !op->error ? ch->err : c->stopping ? ERR_CLOSED : ERR_NOT_CONTROLLER);
    }
    confirm(c);
}

static void confirm(struct controller *c) {
    struct list *node;
    if (!list_empty(&c->confirming) || list_empty(&c->unchanged)) return;
    while ((node = list_pop_front(&c->unchanged))) list_push_back(&c->confirming, node);
    c->confirmation = (struct partition_offset){
        .op = {.caller = controller_reactor(c), .owner = metadata_owner(c), .plid = c->partition.plid, .done = confirmed},
        .timestamp = PARTITION_OFFSET_LATEST, .current_leader_epoch = -1,
    };
    partition_offset(&c->confirmation);
}

static void finish_unchanged(struct controller *c, struct controller_change *ch, enum err err) {
    if (cluster_stage(c->broker) == CLUSTER_ALONE) {
        controller_change_finish(ch, err);
        return;
    }
    ch->err = err;
    list_push_back(&c->unchanged, &ch->link);
    confirm(c);
}

static struct controller_change *next_change(struct controller *c) {
    bool hold = false;
    struct controller_change *ch = controller_snapshot_next(c, &hold);
    if (ch || hold || list_empty(&c->queue)) return ch;
    c->queue_count--;
    return LIST_ENTRY(list_pop_front(&c->queue), struct controller_change, link);
}

void controller_pump(struct controller *c) {
    struct controller_change *ch;
    while (is_active(c) && !c->appending && !c->current && (ch = next_change(c))) {
        batch_builder_reset(&c->edit.batch);
        c->edit.err = OK;
        c->edit.batch.limit_bytes = CHANGE_BYTES_MAX;
        c->edit.kept = 0;
        c->edit.grows = false;
        c->edit.now_ms = io_wall_ms(controller_reactor(c)->io);
        ch->make(ch, &c->edit);
        if (c->edit.err || c->edit.batch.record_count == 0) finish_unchanged(c, ch, c->edit.err);
        else commit(c, ch);
    }
}

static void change_arrive(struct mail *m) {
    struct controller_change *ch = CONTAINER_OF(m, struct controller_change, mail);
    struct controller *c = ch->caller->broker->controller;
    if (c->stopping || !is_active(c) || c->queue_count >= CONTROLLER_QUEUE_MAX) {
        controller_change_finish(ch, c->stopping ? ERR_CLOSED : !is_active(c) ? ERR_NOT_CONTROLLER : ERR_AGAIN);
        return;
    }
    list_push_back(&c->queue, &ch->link);
    c->queue_count++;
    controller_pump(c);
}

void controller_submit(struct controller *c, struct controller_change *ch) {
    ch->err = OK;
    ch->unknown = false;
    list_init(&ch->link);
    ch->mail.deliver = change_arrive;
    mailbox_post(&controller_reactor(c)->mailbox, &ch->mail);
}

void controller_stop(struct controller *c) {
    c->stopping = true;
    timer_cancel(&controller_reactor(c)->timers, &c->repair);
    controller_snapshot_stop(c);
    metadata_log_stop(c);
    cluster_stop(c->broker);
    refuse_queued(c, ERR_CLOSED);
}

/* ---- coming and going -------------------------------------------------------------------------------- */

uint64_t controller_metadata_plid(const struct controller *c, uint32_t *owner) {
    *owner = c->partition.owner;
    return c->partition.plid;
}

/* Its records go when a snapshot stands for them (controller_snapshot.c), and only then; files, when none of a segment's is left. */
static void configure_metadata_log(struct controller *c) {
    topic_config_resolve(&c->topic.config, &c->broker->config, NULL, 0);
    struct log_config *log = &c->topic.config.log;
    log->internal = log->whole_reserve = true;
    log->cleanup_compact = log->cleanup_delete = false;
    log->segment_bytes = METADATA_SEGMENT_BYTES;
}

static void find_metadata_log(struct controller *c) {
    for (uint32_t i = 0; i < c->broker->reactor_count; i++) {
        struct log_shard *sh = c->broker->reactors[i].shard;
        for (struct log *l = log_shard_first(sh); l; l = log_shard_next(sh, l)) {
            if (l->partition != 0 || strcmp(l->topic, METADATA_TOPIC) != 0) continue;
            c->found = true;
            c->partition.plid = log_plid_group(l->plid);
            c->partition.owner = i;
            log_configure(l, &c->topic.config.log);
        }
    }
}

struct controller *controller_new(struct broker *b) {
    static const struct uuid metadata_topic_id = {{[15] = 1}}; /* Kafka's own id for it */
    struct controller *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    c->broker = b;
    c->topic = (struct image_topic){
        .id = metadata_topic_id, .name = METADATA_TOPIC, .name_len = sizeof METADATA_TOPIC - 1, .internal = true,
        .partitions = &c->partition, .partition_count = 1,
    };
    configure_metadata_log(c);
    list_init(&c->queue);
    list_init(&c->unchanged);
    list_init(&c->confirming);
    list_init(&c->publishes);
    timer_init(&c->repair, controller_repair);
    controller_snapshot_init(c);
    c->edit.controller = c;
    c->role = (struct metadata_role){.epoch = -1, .leader = -1};
    atomic_store_explicit(&c->leader, -1, memory_order_relaxed);
    batch_builder_init(&c->edit.batch, CODEC_NONE, CHANGE_BYTES_MAX);
    c->producer_ids = calloc(b->reactor_count, sizeof *c->producer_ids);
    c->behind = calloc(b->reactor_count, sizeof *c->behind);
    c->parts = calloc(b->reactor_count, sizeof *c->parts);
    if (!c->producer_ids || !c->behind || !c->parts) {
        controller_free(c);
        return NULL;
    }
    struct image *empty = image_new_empty(); /* until something is known; reactors have none then */
    if (!empty) {
        controller_free(c);
        return NULL;
    }
    atomic_store_explicit(&b->image, empty, memory_order_relaxed);
    for (uint32_t i = 0; i < b->reactor_count; i++) {
        producer_ids_init(c, &c->producer_ids[i], &b->reactors[i]);
        list_init(&c->parts[i]);
    }
    find_metadata_log(c);
    return c;
}

void controller_free(struct controller *c) {
    if (!c) return;
    controller_publishes_free(c);
    if (c->next) image_free_unpublished(c->next);
    metadata_log_free(c);
    image_free_last(atomic_exchange(&c->broker->image, NULL));
    batch_builder_free(&c->edit.batch);
    free(c->bytes);
    free(c->producer_ids);
    free(c->behind);
    free(c->parts);
    free(c);
}
