/* controller.c - changes of metadata, one after the other, and the way of a new image to the reactors. */
#include "server/controller.h"
#include <stdlib.h>
#include "base/assert.h"
#include "base/trace.h"
#include "proto/metadata.pb-c.h"
#include "server/api_errors.h"
#include "server/controller_impl.h"
#include "server/group_coordinator.h"

/* ---- publishing ---------------------------------------------------------------------------------- */

enum { REPAIR_SECONDS = 5 };

bool controller_is_active(const struct broker *b) { return atomic_load_explicit(&b->image, memory_order_relaxed) != NULL; }
int32_t controller_leader_node(const struct broker *b) { return b->config.node_id; }


struct publish;
struct publish_part {                 /* one reactor's share */
    struct mail mail;
    struct publish *publish;
    struct reactor *reactor;
    uint32_t pending;                 /* logs being made or deleted, and this part itself */
    uint32_t unmade;                  /* logs that could not even be begun */
    enum err err;
};
struct publish {
    struct list link;
    struct controller *controller;
    struct image *older, *newer;
    struct controller_change *change;
    bool compare;                     /* with the logs that are there, not with the older image */
    bool initial, complete;
    uint32_t parts_away;
    struct publish_part parts[];
};

static void change_home(struct mail *m) {
    struct controller_change *ch = CONTAINER_OF(m, struct controller_change, mail);
    ch->done(ch);
}
static void change_finish(struct controller_change *ch, enum err err) {
    ch->err = err;
    ch->mail.deliver = change_home;
    mailbox_post(&ch->caller->mailbox, &ch->mail);
}

/* Images are freed in their order: the garbage of one is listed in the next. */
static void retire(struct controller *c) {
    while (!list_empty(&c->publishes)) {
        struct publish *p = LIST_ENTRY(c->publishes.next, struct publish, link);
        if (!p->complete) return;
        list_remove(&p->link);
        if (p->older) image_free_older(p->older, p->newer);
        free(p);
    }
}

/* Metadata shows a log that could not be made (a full disk): tried again until it is there. */
static void repair_later(struct controller *c) {
    if (c->stopping || timer_armed(&c->repair)) return;
    trace_warn("metadata", "some logs could not be made; tried again every %d seconds", REPAIR_SECONDS);
    timer_set(&controller_reactor(c)->timers, &c->repair,
              controller_reactor(c)->now_ns + REPAIR_SECONDS * 1000000000LL);
}

static void part_home(struct mail *m) {
    struct publish_part *part = CONTAINER_OF(m, struct publish_part, mail);
    struct publish *p = part->publish;
    struct controller *c = p->controller;
    ASSERT(p->parts_away > 0);
    if (--p->parts_away > 0) return;
    enum err err = OK;
    for (uint32_t i = 0; i < c->broker->reactor_count && !err; i++) err = p->parts[i].err;
    if (p->change) change_finish(p->change, err);
    bool initial = p->initial;
    p->complete = true;
    retire(c);
    if (err && err != ERR_IO) repair_later(c);
    if (initial) metadata_log_ready(c, err == ERR_IO ? err : OK);
}

static void part_step_done(void *ctx, enum err err) {
    struct publish_part *part = ctx;
    if (err && !part->err) part->err = err;
    ASSERT(part->pending > 0);
    if (--part->pending > 0) return;
    part->mail.deliver = part_home;
    mailbox_post(&part->reactor->broker->reactors[0].mailbox, &part->mail);
}

static void create_log(struct publish_part *part, const struct image_topic *t, int32_t partition) {
    part->pending++;
    if (!partition_create(part->reactor, t, partition, part_step_done, part)) part->unmade++;
}
static void delete_log(struct publish_part *part, uint64_t plid) {
    part->pending++;
    partition_delete(part->reactor, plid, part_step_done, part);
}

static void follow_change(struct publish_part *part, const struct image_change *change) {
    const struct image_topic *t = change->topic;
    int32_t first = change->partition >= 0 ? change->partition : 0;
    int32_t end = change->partition >= 0 ? change->partition + 1 : t->partition_count;
    for (int32_t i = first; i < end; i++) {
        if (t->partitions[i].owner != part->reactor->index) continue;
        switch (change->kind) {
        case IMAGE_PARTITION_ADDED: create_log(part, t, i); break;
        case IMAGE_PARTITION_REMOVED: delete_log(part, t->partitions[i].plid); break;
        case IMAGE_PARTITION_CHANGED: break;
        case IMAGE_TOPIC_CONFIGURED: partition_configure(part->reactor, t, i); break;
        }
    }
}

/* What metadata gave to this node before the last ASSIGNED must be here: if it is not, it was lost,
 * and an empty log in its place would pass for the truth. */
static void adopt(struct publish_part *part, const struct image_topic *t, int32_t partition) {
    const struct image_partition *p = &t->partitions[partition];
    const struct controller *c = part->publish->controller;
    if (partition_exists(part->reactor, p->plid)) {
        partition_configure(part->reactor, t, partition);
    } else if (p->metadata_offset < c->metadata_assigned) {
        trace_error("metadata",
                    "the log of %s-%d is missing from the data directory; it is not served and not made anew",
                    t->name, partition);
    } else {
        create_log(part, t, partition);
    }
}

static int compare_plids(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Logs that the image does not show: deleted if metadata removed them, else kept and not served. */
static void clear_unknown(struct publish_part *part) {
    const struct image *im = part->publish->newer;
    uint32_t count;
    uint64_t *plids = partition_map_unknown(part->reactor->partitions, &count);
    for (uint32_t i = 0; i < count; i++) {
        if (plids[i] == part->publish->controller->partition.plid) continue;
        if (im->removed_count > 0 &&
            bsearch(&plids[i], im->removed_plids, im->removed_count, sizeof plids[i], compare_plids))
            delete_log(part, plids[i]);
        else
            trace_error("metadata", "log %llu belongs to no topic that metadata knows; it is kept and not served",
                        (unsigned long long)plids[i]);
    }
    free(plids);
}

static void part_arrive(struct mail *m) {
    struct publish_part *part = CONTAINER_OF(m, struct publish_part, mail);
    const struct image *im = part->publish->newer;
    part->reactor->image = part->publish->newer;
    part->pending = 1;
    if (part->publish->compare) {
        for (uint32_t i = 0; i < im->topic_count; i++)
            for (int32_t k = 0; k < im->by_name[i]->partition_count; k++)
                if (im->by_name[i]->partitions[k].owner == part->reactor->index) adopt(part, im->by_name[i], k);
        if (part->publish->initial) clear_unknown(part);
    } else {
        for (uint32_t i = 0; i < im->change_count; i++) follow_change(part, &im->changes[i]);
    }
    leaders_image(part->reactor, im);
    group_set_image(part->reactor->groups);
    /* What is said to be assigned and is not there after a restart would count as lost. */
    bool *behind = &part->publish->controller->behind[part->reactor->index];
    if (part->unmade > 0 || part->publish->compare) *behind = part->unmade > 0;
    if (!*behind) log_shard_assigned(part->reactor->shard, im->metadata_end);
    part_step_done(part, OK);
}

/* To every reactor. `older` is freed when all have moved on; NULL: nothing is replaced. */
static struct publish *publish_new(struct controller *c, struct image *older, struct image *newer) {
    struct broker *b = c->broker;
    struct publish *p = calloc(1, sizeof *p + b->reactor_count * sizeof p->parts[0]);
    ASSERT(p != NULL);
    p->controller = c;
    p->older = older;
    p->newer = newer;
    p->parts_away = b->reactor_count;
    list_push_back(&c->publishes, &p->link);
    return p;
}

static void publish_send(struct publish *p) {
    struct broker *b = p->controller->broker;
    for (uint32_t i = 0; i < b->reactor_count; i++) {
        struct publish_part *part = &p->parts[i];
        part->publish = p;
        part->reactor = &b->reactors[i];
        part->mail.deliver = part_arrive;
        mailbox_post(&part->reactor->mailbox, &part->mail);
    }
}

/* A partition's record is durable before its log's CREATE is: after a crash between the two only metadata knows the plid. */
static void plids_taken(struct controller *c, const struct image *im) {
    struct log_store *store = c->broker->store;
    for (uint32_t i = 0; i < im->topic_count; i++)
        for (int32_t k = 0; k < im->by_name[i]->partition_count; k++) log_store_plid_taken(store, im->by_name[i]->partitions[k].plid);
    for (uint32_t i = 0; i < im->removed_count; i++) log_store_plid_taken(store, im->removed_plids[i]);
}

/* What is not read from the image where it is needed. */
static void follow_broker_config(const struct controller *c, const struct image *older, const struct image *newer) {
    const char *before = image_config(older, c->broker)->log_level, *now = image_config(newer, c->broker)->log_level;
    enum trace_level level;
    if (strcmp(before, now) != 0 && trace_level_parse(now, &level)) trace_set_level(level);
}

void controller_publish(struct controller *c, struct image *image, struct controller_change *ch, bool initial) {
    struct image *older = atomic_load_explicit(&c->broker->image, memory_order_relaxed);
    struct publish *p = publish_new(c, older, image);
    follow_broker_config(c, older, image);
    p->change = ch;
    p->initial = p->compare = initial;
    if (initial) plids_taken(c, image);
    if (image->removed_count > 0)
        qsort(image->removed_plids, image->removed_count, sizeof *image->removed_plids, compare_plids);
    atomic_store_explicit(&c->broker->image, image, memory_order_release);
    publish_send(p);
}

static void repair(struct timer *t) {
    struct controller *c = CONTAINER_OF(t, struct controller, repair);
    struct publish *p = publish_new(c, NULL, atomic_load_explicit(&c->broker->image, memory_order_relaxed));
    p->compare = true;
    publish_send(p);
}

/* ---- changes -------------------------------------------------------------------------------------- */

enum { CHANGE_BYTES_MAX = 8 << 20 };

static void pump(struct controller *c);

static const struct image *newest(const struct controller *c) {
    return atomic_load_explicit(&c->broker->image, memory_order_relaxed);
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
        change_finish(ch, base->error == KERR_KAFKA_STORAGE_ERROR ? ERR_IO : ERR_CLOSED);
    } else {
        ASSERT(op->base_offset == (int64_t)newest(c)->metadata_end); /* one writer */
        controller_publish(c, next, ch, false);
    }
    pump(c);
}

/* The image that the records will make, before they are written: what cannot be applied is never appended. */
static enum err prepare(struct controller *c, const uint8_t *batch, size_t len) {
    struct batch_header h;
    struct record_iter it;
    const struct image *base = newest(c);
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
        change_finish(ch, err);
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
        if (c->edit.err || c->edit.batch.record_count == 0) change_finish(ch, c->edit.err);
        else commit(c, ch);
    }
}

static void change_arrive(struct mail *m) {
    struct controller_change *ch = CONTAINER_OF(m, struct controller_change, mail);
    struct controller *c = ch->caller->broker->controller;
    if (c->stopping || c->queue_count >= CONTROLLER_QUEUE_MAX) {
        change_finish(ch, c->stopping ? ERR_CLOSED : ERR_AGAIN);
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
        change_finish(LIST_ENTRY(node, struct controller_change, link), ERR_CLOSED);
    c->queue_count = 0;
}

/* ---- records of a change --------------------------------------------------------------------------- */

const struct image *controller_edit_image(const struct controller_edit *e) { return newest(e->controller); }
struct broker *controller_edit_broker(const struct controller_edit *e) { return e->controller->broker; }
uint64_t controller_edit_new_plid(struct controller_edit *e) {
    return log_store_new_plid(e->controller->broker->store);
}

/* A random (version 4) UUID; the zero one and those that Kafka reserves cannot come out. */
void controller_edit_new_uuid(struct controller_edit *e, struct uuid *out) {
    io_entropy(controller_reactor(e->controller)->io, out->b, sizeof out->b);
    out->b[6] = (uint8_t)((out->b[6] & 0x0f) | 0x40);
    out->b[8] = (uint8_t)((out->b[8] & 0x3f) | 0x80);
}

static enum err add(struct controller_edit *e, const Varve__Metadata__Record *r) {
    if (e->err) return e->err;
    if (e->batch.record_count >= CONTROLLER_CHANGE_RECORDS_MAX) return e->err = ERR_FULL;
    size_t len = varve__metadata__record__get_packed_size(r);
    uint8_t small[1024], *packed = len <= sizeof small ? small : malloc(len);
    if (!packed) return e->err = ERR_NOMEM;
    varve__metadata__record__pack(r, packed);
    int64_t now_ms = io_wall_ms(controller_reactor(e->controller)->io);
    e->err = batch_builder_add(&e->batch, now_ms, BYTES_NULL, (struct bytes){packed, (int32_t)len}, NULL, 0);
    if (packed != small) free(packed);
    return e->err;
}

/* A NUL-terminated copy; NULL sets the edit's error. */
static char *copy_text(struct controller_edit *e, struct str s) {
    char *z = malloc((size_t)s.len + 1);
    if (!z) {
        if (!e->err) e->err = ERR_NOMEM;
        return NULL;
    }
    if (s.len > 0) memcpy(z, s.p, (size_t)s.len);
    z[s.len] = 0;
    return z;
}

static ProtobufCBinaryData uuid_data(const struct uuid *id) {
    return (ProtobufCBinaryData){sizeof id->b, (uint8_t *)id->b};
}

enum err controller_add_topic(struct controller_edit *e, const struct uuid *id, struct str name) {
    Varve__Metadata__Record r = VARVE__METADATA__RECORD__INIT;
    Varve__Metadata__Topic m = VARVE__METADATA__TOPIC__INIT;
    char *z = copy_text(e, name);
    if (!z) return e->err;
    m.id = uuid_data(id);
    m.name = z;
    r.kind_case = VARVE__METADATA__RECORD__KIND_TOPIC;
    r.topic = &m;
    enum err err = add(e, &r);
    free(z);
    return err;
}

enum err controller_add_partition(struct controller_edit *e, const struct uuid *topic, int32_t partition,
                                  const int32_t *replicas,
                                  int32_t replica_count) {
    Varve__Metadata__Record r = VARVE__METADATA__RECORD__INIT;
    Varve__Metadata__Partition m = VARVE__METADATA__PARTITION__INIT;
    m.topic_id = uuid_data(topic);
    m.partition = partition;
    m.plid = controller_edit_new_plid(e);
    m.replicas = (int32_t *)replicas;
    m.n_replicas = (size_t)replica_count;
    r.kind_case = VARVE__METADATA__RECORD__KIND_PARTITION;
    r.partition = &m;
    return add(e, &r);
}

enum err controller_remove_topic(struct controller_edit *e, const struct uuid *topic) {
    Varve__Metadata__Record r = VARVE__METADATA__RECORD__INIT;
    Varve__Metadata__RemoveTopic m = VARVE__METADATA__REMOVE_TOPIC__INIT;
    m.topic_id = uuid_data(topic);
    r.kind_case = VARVE__METADATA__RECORD__KIND_REMOVE_TOPIC;
    r.remove_topic = &m;
    return add(e, &r);
}

enum err controller_set_config(struct controller_edit *e, int8_t resource_type, struct str resource_name,
                               struct str key,
                               struct str value) {
    Varve__Metadata__Record r = VARVE__METADATA__RECORD__INIT;
    Varve__Metadata__Config m = VARVE__METADATA__CONFIG__INIT;
    char *name = copy_text(e, resource_name), *k = copy_text(e, key), *v = copy_text(e, value);
    if (name && k && v) {
        m.resource_type = resource_type;
        m.resource_name = name;
        m.key = k;
        m.value = v;
        m.removed = value.p == NULL;
        r.kind_case = VARVE__METADATA__RECORD__KIND_CONFIG;
        r.config = &m;
        add(e, &r);
    }
    free(name);
    free(k);
    free(v);
    return e->err;
}

enum err controller_set_next_producer_id(struct controller_edit *e, int64_t next) {
    Varve__Metadata__Record r = VARVE__METADATA__RECORD__INIT;
    Varve__Metadata__ProducerIds m = VARVE__METADATA__PRODUCER_IDS__INIT;
    m.next = next;
    r.kind_case = VARVE__METADATA__RECORD__KIND_PRODUCER_IDS;
    r.producer_ids = &m;
    return add(e, &r);
}

enum err controller_set_feature(struct controller_edit *e, const struct feature *feature, int16_t level) {
    Varve__Metadata__Record r = VARVE__METADATA__RECORD__INIT;
    Varve__Metadata__Feature m = VARVE__METADATA__FEATURE__INIT;
    m.name = (char *)feature->name;
    m.level = level;
    r.kind_case = VARVE__METADATA__RECORD__KIND_FEATURE;
    r.feature = &m;
    return add(e, &r);
}

enum err controller_set_quota(struct controller_edit *e, const struct quota_entity *entity, const char *key, double value) {
    Varve__Metadata__Record r = VARVE__METADATA__RECORD__INIT;
    Varve__Metadata__ClientQuota m = VARVE__METADATA__CLIENT_QUOTA__INIT;
    Varve__Metadata__QuotaEntity parts[QUOTA_TYPES], *list[QUOTA_TYPES];
    m.entity = list;
    for (int t = 0; t < QUOTA_TYPES; t++) {
        if (!entity->has[t]) continue;
        Varve__Metadata__QuotaEntity *part = list[m.n_entity] = &parts[m.n_entity];
        m.n_entity++;
        varve__metadata__quota_entity__init(part);
        part->type = (char *)quota_type_name((enum quota_type)t);
        part->is_default = entity->name[t].p == NULL;
        if (!part->is_default) part->name = (ProtobufCBinaryData){(size_t)entity->name[t].len, (uint8_t *)entity->name[t].p};
    }
    m.key = (char *)key;
    m.value = value;
    m.removed = value == 0;
    r.kind_case = VARVE__METADATA__RECORD__KIND_CLIENT_QUOTA;
    r.client_quota = &m;
    return add(e, &r);
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
    timer_init(&c->repair, repair);
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
    struct list *node;
    while ((node = list_pop_front(&c->publishes))) {
        struct publish *p = LIST_ENTRY(node, struct publish, link);
        if (p->older) image_free_older(p->older, p->newer);
        free(p);
    }
    if (c->next) image_free_unpublished(c->next);
    if (c->replay) image_edit_drop(c->replay);
    image_free_last(atomic_exchange(&c->broker->image, NULL));
    batch_builder_free(&c->edit.batch);
    free(c->bytes);
    free(c->producer_ids);
    free(c->behind);
    free(c);
}
