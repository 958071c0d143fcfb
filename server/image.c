/* image.c - the life of an image: begun as an edit of the one before, finished, freed. */
#include "base/assert.h"
#include "proto/unpack.h"
#include "server/image_impl.h"

/* Grows `*list` (elements of `size`) so that element `count` fits. */
bool image_grow(void *list, uint32_t count, uint32_t *cap, size_t size) {
    if (count < *cap) return true;
    uint32_t wanted = *cap ? *cap * 2 : 16;
    void *grown = realloc(*(void **)list, wanted * size);
    if (!grown) return false;
    *(void **)list = grown;
    *cap = wanted;
    return true;
}

bool image_uuid_from(const ProtobufCBinaryData *b, struct uuid *out) {
    if (b->len != sizeof out->b) return false;
    memcpy(out->b, b->data, sizeof out->b);
    return true;
}

struct image *image_new_empty(void) {
    struct image *im = calloc(1, sizeof *im);
    uint32_t count;
    const struct feature *features = features_table(&count);
    for (uint32_t i = 0; im && i < count; i++) im->feature_levels[i] = features[i].initial;
    return im;
}

static void image_free_arrays(struct image *im) {
    free(im->by_name);
    free(im->by_id);
    free(im->by_folded);
    free(im->changes);
    free(im->garbage);
    free(im->removed_plids);
    free(im);
}

struct image_edit *image_edit_begin_anew(const struct broker *b, const struct image *shown, uint64_t from) {
    struct image *empty = image_new_empty();
    if (!empty) return NULL;
    empty->edition = shown->edition;
    struct image_edit *e = image_edit_begin(b, empty);
    image_free_last(empty);
    if (!e) return NULL;
    e->tracks_changes = false;
    e->shown = shown;
    e->from = from;
    e->blank = true;
    return e;
}

bool image_edit_is_whole(const struct image_edit *e) { return !e->loading && !(e->blank && e->from > 0); }

struct image_edit *image_edit_begin(const struct broker *b, const struct image *base) {
    struct image_edit *e = calloc(1, sizeof *e);
    struct image *im = calloc(1, sizeof *im);
    if (!e || !im) goto fail;
    e->broker = b;
    e->next = im;
    e->tracks_changes = base->edition > 0;
    e->topic_cap = base->topic_count + 16;
    im->edition = base->edition + 1;
    im->metadata_end = base->metadata_end;
    im->topic_count = base->topic_count;
    im->next_producer_id = base->next_producer_id;
    im->nodes = base->nodes;
    im->node_count = base->node_count;
    im->nodes_edition = base->nodes_edition;
    memcpy(im->quorum_voters, base->quorum_voters, sizeof im->quorum_voters);
    im->quorum_voter_count = base->quorum_voter_count;
    im->quotas = base->quotas;
    im->groups = base->groups;
    im->other_brokers = base->other_brokers;
    memcpy(im->feature_levels, base->feature_levels, sizeof im->feature_levels);
    im->partition_count = base->partition_count;
    im->groups_end = base->groups_end;
    im->broker = base->broker;
    im->snapshots = base->snapshots;
    im->by_name = malloc(e->topic_cap * sizeof(void *));
    im->by_id = malloc(e->topic_cap * sizeof(void *));
    im->by_folded = malloc(e->topic_cap * sizeof(void *));
    if (!im->by_name || !im->by_id || !im->by_folded) goto fail;
    if (base->topic_count > 0) {
        memcpy(im->by_name, base->by_name, base->topic_count * sizeof(void *));
        memcpy(im->by_id, base->by_id, base->topic_count * sizeof(void *));
        memcpy(im->by_folded, base->by_folded, base->topic_count * sizeof(void *));
    }
    return e;
fail:
    free(e);
    if (im) image_free_arrays(im);
    return NULL;
}

void image_free_unpublished(struct image *im) {
    if (im->nodes_edition == im->edition) image_nodes_free(im->nodes, im->node_count);
    if (im->groups && im->groups->edition == im->edition) image_groups_free(im->groups);
    if (im->other_brokers && im->other_brokers->edition == im->edition) image_groups_free(im->other_brokers);
    if (im->broker && im->broker->edition == im->edition) image_broker_free(im->broker);
    for (uint32_t i = 0; i < im->topic_count; i++)
        if (im->by_name[i]->edition == im->edition) image_topic_free(im->by_name[i]);
    if (im->quotas && im->quotas->edition == im->edition) quota_set_free(im->quotas);
    image_free_arrays(im);
}

void image_edit_drop(struct image_edit *e) {
    image_free_unpublished(e->next);
    free(e);
}

void image_free_older(struct image *older, struct image *newer) {
    for (uint32_t i = 0; i < newer->garbage_count; i++) image_topic_free(newer->garbage[i]);
    newer->garbage_count = 0;
    image_broker_free(newer->broker_garbage);
    newer->broker_garbage = NULL;
    if (older->quotas != newer->quotas) quota_set_free(older->quotas);
    if (older->nodes != newer->nodes) image_nodes_free(older->nodes, older->node_count);
    if (older->groups != newer->groups) image_groups_free(older->groups);
    if (older->other_brokers != newer->other_brokers) image_groups_free(older->other_brokers);
    image_free_arrays(older);
}

void image_free_last(struct image *im) {
    if (!im) return;
    image_broker_free(im->broker);
    image_nodes_free(im->nodes, im->node_count);
    for (uint32_t i = 0; i < im->topic_count; i++) image_topic_free(im->by_name[i]);
    quota_set_free(im->quotas);
    image_groups_free(im->groups);
    image_groups_free(im->other_brokers);
    image_free_arrays(im);
}

struct image *image_edit_finish(struct image_edit *e, uint64_t metadata_end) {
    struct image *im = e->next;
    ASSERT(image_edit_is_whole(e));
    enum err err = e->broker_configured ? image_topics_follow(e) : OK;
    if (!err && e->shown && e->shown->edition > 0) err = image_diff(e);
    if (err) {
        image_edit_drop(e);
        return NULL;
    }
    im->metadata_end = metadata_end;
    free(e);
    return im;
}

/* ---- records ----------------------------------------------------------------------------------------- */

/* A level that is not known here was set by a later version. */
static enum err apply_feature(struct image_edit *e, const Varve__Metadata__Feature *m) {
    const struct feature *f = feature_find(str_from(m->name));
    if (!f || m->level < 0 || m->level > f->max || (m->level != 0 && m->level < f->min)) return ERR_UNSUPPORTED;
    e->next->feature_levels[feature_index(f)] = (int16_t)m->level;
    return OK;
}

static enum err apply_quota(struct image_edit *e, const Varve__Metadata__ClientQuota *m) {
    struct image *im = e->next;
    struct quota_entity entity = {0};
    enum quota_key key;
    enum quota_type type;
    if (!quota_key_find(str_from(m->key), &key)) return ERR_CORRUPT;
    for (size_t i = 0; i < m->n_entity; i++) {
        const Varve__Metadata__QuotaEntity *part = m->entity[i];
        if (!quota_type_find(str_from(part->type), &type) || entity.has[type] || part->name.len > QUOTA_NAME_BYTES_MAX) return ERR_CORRUPT;
        entity.has[type] = true;
        if (part->is_default) continue;
        if (part->name.len == 0) return ERR_CORRUPT;
        entity.name[type] = (struct str){(const char *)part->name.data, (int32_t)part->name.len};
    }
    if (!im->quotas || im->quotas->edition != im->edition) {
        struct quota_set *copy = quota_set_copy(im->quotas, im->edition);
        if (!copy) return ERR_NOMEM;
        im->quotas = copy;
    }
    if (!m->removed && m->value == 0) return ERR_CORRUPT;
    enum err err = quota_set_put(im->quotas, &entity, key, m->removed ? 0 : m->value);
    return err == ERR_INVALID ? ERR_CORRUPT : err;
}

static enum err apply(struct image_edit *e, uint64_t metadata_offset, const Varve__Metadata__Record *r) {
    switch (r->kind_case) {
    case VARVE__METADATA__RECORD__KIND_TOPIC: return image_apply_topic(e, r->topic);
    case VARVE__METADATA__RECORD__KIND_PARTITION: return image_apply_partition(e, metadata_offset, r->partition);
    case VARVE__METADATA__RECORD__KIND_REMOVE_TOPIC: return image_apply_remove_topic(e, r->remove_topic);
    case VARVE__METADATA__RECORD__KIND_CONFIG: return image_apply_config(e, r->config);
    case VARVE__METADATA__RECORD__KIND_PRODUCER_IDS:
        if (r->producer_ids->next < e->next->next_producer_id) return ERR_CORRUPT;
        e->next->next_producer_id = r->producer_ids->next;
        return OK;
    case VARVE__METADATA__RECORD__KIND_FEATURE: return apply_feature(e, r->feature);
    case VARVE__METADATA__RECORD__KIND_CLIENT_QUOTA: return apply_quota(e, r->client_quota);
    case VARVE__METADATA__RECORD__KIND_BROKER: return image_apply_broker(e, metadata_offset, r->broker);
    case VARVE__METADATA__RECORD__KIND_REMOVE_BROKER: return image_apply_remove_broker(e, r->remove_broker);
    case VARVE__METADATA__RECORD__KIND_PARTITION_REPLICAS: return image_apply_replicas(e, metadata_offset, r->partition_replicas);
    case VARVE__METADATA__RECORD__KIND_QUORUM_VOTERS: return image_apply_quorum(e, r->quorum_voters);
    case VARVE__METADATA__RECORD__KIND_DRAIN: return image_apply_drain(e, r->drain);
    default: return ERR_UNSUPPORTED; /* snapshots are not here: image_snapshot.c */
    }
}

enum err image_edit_apply(struct image_edit *e, uint64_t metadata_offset, const uint8_t *record, size_t len) {
    struct arena arena;
    if (len > INT32_MAX) return ERR_CORRUPT;
    const Varve__Metadata__Record *r = unpack(&arena, &varve__metadata__record__descriptor, (struct bytes){record, (int32_t)len}, UNPACK_BYTES);
    enum err err = r ? image_snapshot_apply(e, metadata_offset, r, record, len, apply) : ERR_CORRUPT;
    arena_free(&arena);
    return err;
}

