/* controller.c - changes of metadata, one after the other; the controller's life. */
#include "server/controller.h"
#include <stdlib.h>
#include "base/assert.h"
#include "base/trace.h"
#include "server/api_errors.h"
#include "server/controller_impl.h"

bool controller_is_active(const struct broker *b) { return atomic_load_explicit(&b->image, memory_order_relaxed) != NULL; }
int32_t controller_leader_node(const struct broker *b) { return b->config.node_id; }

/* ---- changes -------------------------------------------------------------------------------------- */

enum { CHANGE_BYTES_MAX = 8 << 20 };

static void pump(struct controller *c);

static void change_home(struct mail *m) {
    struct controller_change *ch = CONTAINER_OF(m, struct controller_change, mail);
    ch->done(ch);
}
void controller_change_finish(struct controller_change *ch, enum err err) {
    ch->err = err;
    ch->mail.deliver = change_home;
    mailbox_post(&ch->caller->mailbox, &ch->mail);
}

static void append_done(struct partition_op *base) {
    struct partition_produce *op = CONTAINER_OF(base, struct partition_produce, op);
    struct controller *c = CONTAINER_OF(op, struct controller, append);
    struct controller_change *ch = c->current;
    struct image *next = c->next;
    c->busy = false;
    c->current = NULL;
    c->next = NULL;
    free(c->bytes);
    c->bytes = NULL;
    if (base->error) {
        image_free_unpublished(next);
        controller_change_finish(ch, base->error == KERR_KAFKA_STORAGE_ERROR ? ERR_IO : ERR_CLOSED);
    } else {
        ASSERT(op->base_offset == (int64_t)controller_newest(c)->metadata_end); /* one writer */
        controller_publish(c, next, ch, false);
    }
    pump(c);
}

/* The image that the records will make, before they are written: what cannot be applied is never appended. */
static enum err prepare(struct controller *c, const uint8_t *batch, size_t len) {
    struct batch_header h;
    struct record_iter it;
    const struct image *base = controller_newest(c);
    enum err err = batch_parse(batch, len, &h);
    if (!err) err = record_iter_init(&it, batch, &h, CHANGE_BYTES_MAX);
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
    size_t len = 0;
    enum err err = batch_builder_finish(&c->edit.batch, &c->bytes, &len);
    if (!err) err = prepare(c, c->bytes, len);
    if (err) {
        trace_error("metadata", "a change could not be made: %s", err_str(err));
        free(c->bytes);
        c->bytes = NULL;
        controller_change_finish(ch, err);
        return false;
    }
    c->busy = true;
    c->current = ch;
    c->append = (struct partition_produce){
        .op = {.caller = controller_reactor(c), .owner = metadata_owner(c), .plid = c->partition.plid,
               .done = append_done},
        .records = {c->bytes, (int32_t)len}, .acks = -1, .trusted = true,
    };
    partition_produce(&c->append);
    return true;
}

static void pump(struct controller *c) {
    while (!c->busy && !list_empty(&c->queue)) {
        struct controller_change *ch = LIST_ENTRY(list_pop_front(&c->queue), struct controller_change, link);
        c->queue_count--;
        batch_builder_reset(&c->edit.batch);
        c->edit.err = OK;
        ch->make(ch, &c->edit);
        if (c->edit.err || c->edit.batch.record_count == 0) controller_change_finish(ch, c->edit.err);
        else commit(c, ch);
    }
}

static void change_arrive(struct mail *m) {
    struct controller_change *ch = CONTAINER_OF(m, struct controller_change, mail);
    struct controller *c = ch->caller->broker->controller;
    if (c->stopping || c->queue_count >= CONTROLLER_QUEUE_MAX) {
        controller_change_finish(ch, c->stopping ? ERR_CLOSED : ERR_AGAIN);
        return;
    }
    list_push_back(&c->queue, &ch->link);
    c->queue_count++;
    pump(c);
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
    struct list *node;
    while ((node = list_pop_front(&c->queue)))
        controller_change_finish(LIST_ENTRY(node, struct controller_change, link), ERR_CLOSED);
    c->queue_count = 0;
}

/* ---- coming and going -------------------------------------------------------------------------------- */

uint64_t controller_metadata_plid(const struct controller *c, uint32_t *owner) {
    *owner = c->partition.owner;
    return c->partition.plid;
}

static void find_metadata_log(struct controller *c) {
    for (uint32_t i = 0; i < c->broker->reactor_count; i++) {
        struct log_shard *sh = c->broker->reactors[i].shard;
        for (struct log *l = log_shard_first(sh); l; l = log_shard_next(sh, l)) {
            if (l->partition != 0 || strcmp(l->topic, METADATA_TOPIC) != 0) continue;
            c->found = true;
            c->partition.plid = l->plid;
            c->partition.owner = i;
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
    topic_config_resolve(&c->topic.config, &b->config, NULL, 0);
    c->topic.config.log.internal = c->topic.config.log.whole_reserve = true;
    list_init(&c->queue);
    list_init(&c->publishes);
    timer_init(&c->repair, controller_repair);
    c->edit.controller = c;
    batch_builder_init(&c->edit.batch, CODEC_NONE, CHANGE_BYTES_MAX);
    c->producer_ids = calloc(b->reactor_count, sizeof *c->producer_ids);
    c->behind = calloc(b->reactor_count, sizeof *c->behind);
    if (!c->producer_ids || !c->behind) {
        controller_free(c);
        return NULL;
    }
    for (uint32_t i = 0; i < b->reactor_count; i++) producer_ids_init(c, &c->producer_ids[i], &b->reactors[i]);
    find_metadata_log(c);
    return c;
}

void controller_free(struct controller *c) {
    if (!c) return;
    controller_publishes_free(c);
    if (c->next) image_free_unpublished(c->next);
    if (c->replay) image_edit_drop(c->replay);
    image_free_last(atomic_exchange(&c->broker->image, NULL));
    batch_builder_free(&c->edit.batch);
    free(c->bytes);
    free(c->producer_ids);
    free(c->behind);
    free(c);
}
