#include "server/image.h"
#include <stdio.h>
#include <stdlib.h>
#include "base/assert.h"
#include "proto/metadata.pb-c.h"

/* ---- orders: three sorted arrays of the same topics --------------------------------------------- */

static int compare_names(const struct image_topic *a, const struct image_topic *b) {
    int c = memcmp(a->name, b->name, (size_t)MIN(a->name_len, b->name_len));
    return c ? c : (a->name_len > b->name_len) - (a->name_len < b->name_len);
}
static int compare_ids(const struct image_topic *a, const struct image_topic *b) {
    return memcmp(a->id.b, b->id.b, sizeof a->id.b);
}
static int compare_folded(const struct image_topic *a, const struct image_topic *b) {
    int32_t n = MIN(a->name_len, b->name_len);
    for (int32_t i = 0; i < n; i++) {
        char x = a->name[i] == '_' ? '.' : a->name[i], y = b->name[i] == '_' ? '.' : b->name[i];
        if (x != y) return (unsigned char)x < (unsigned char)y ? -1 : 1;
    }
    return (a->name_len > b->name_len) - (a->name_len < b->name_len);
}
typedef int topic_order(const struct image_topic *a, const struct image_topic *b);

/* Where `key` is or belongs. */
static uint32_t position_of(struct image_topic *const *list, uint32_t count, const struct image_topic *key,
                            topic_order *order,
                            bool *found) {
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (order(list[mid], key) < 0) low = mid + 1;
        else high = mid;
    }
    *found = low < count && order(list[low], key) == 0;
    return low;
}

static struct image_topic *find(struct image_topic *const *list, uint32_t count, const struct image_topic *key,
                                topic_order *order) {
    bool found;
    uint32_t at = position_of(list, count, key, order, &found);
    return found ? list[at] : NULL;
}

static struct image_topic *find_by_name(const struct image *im, struct str name) {
    if (name.len <= 0) return NULL;
    struct image_topic key = {.name = (char *)name.p, .name_len = name.len};
    return find(im->by_name, im->topic_count, &key, compare_names);
}
static struct image_topic *find_by_id(const struct image *im, const struct uuid *id) {
    struct image_topic key = {.id = *id};
    return find(im->by_id, im->topic_count, &key, compare_ids);
}

const struct image_topic *image_topic_by_name(const struct image *im, struct str name) {
    return find_by_name(im, name);
}
const struct image_topic *image_topic_by_id(const struct image *im, const struct uuid *id) {
    return find_by_id(im, id);
}

const struct image_topic *image_topic_colliding(const struct image *im, struct str name) {
    if (name.len <= 0) return NULL;
    struct image_topic key = {.name = (char *)name.p, .name_len = name.len};
    const struct image_topic *t = find(im->by_folded, im->topic_count, &key, compare_folded);
    return t && compare_names(t, &key) != 0 ? t : NULL;
}

const struct image_partition *image_partition(const struct image_topic *t, int32_t partition) {
    return partition >= 0 && partition < t->partition_count ? &t->partitions[partition] : NULL;
}

const struct image_node *image_node(const struct image *im, int32_t node) {
    uint32_t low = 0, high = im->node_count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (im->nodes[mid].node < node) low = mid + 1;
        else high = mid;
    }
    return low < im->node_count && im->nodes[low].node == node ? &im->nodes[low] : NULL;
}

const struct image_replica *image_replica_of(const struct image_partition *p, int32_t node) {
    for (int32_t i = 0; i < p->replica_count; i++)
        if (p->at[i].node == node) return &p->at[i];
    return NULL;
}

bool image_partition_is_moving(const struct image_partition *p) {
    for (int32_t i = 0; i < p->replica_count; i++)
        if (p->at[i].adding || p->at[i].removing) return true;
    return false;
}

/* ---- configs ------------------------------------------------------------------------------------- */

static uint32_t config_position(const struct image_configs *c, const char *name, bool *found) {
    uint32_t low = 0, high = c->count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (strcmp(c->list[mid].name, name) < 0) low = mid + 1;
        else high = mid;
    }
    *found = low < c->count && strcmp(c->list[low].name, name) == 0;
    return low;
}

const char *image_config_get(const struct image_configs *c, const char *name) {
    bool found;
    uint32_t at = config_position(c, name, &found);
    return found ? c->list[at].value : NULL;
}

static void configs_free(struct image_configs *c) {
    for (uint32_t i = 0; i < c->count; i++) {
        free(c->list[i].name);
        free(c->list[i].value);
    }
    free(c->list);
    *c = (struct image_configs){0};
}

/* Sets or, with a NULL value, removes. */
static enum err configs_set(struct image_configs *c, const char *name, const char *value) {
    bool found;
    uint32_t at = config_position(c, name, &found);
    if (!value) {
        if (!found) return OK;
        free(c->list[at].name);
        free(c->list[at].value);
        memmove(&c->list[at], &c->list[at + 1], (c->count - at - 1) * sizeof *c->list);
        c->count--;
        return OK;
    }
    char *copy = strdup(value);
    if (!copy) return ERR_NOMEM;
    if (found) {
        free(c->list[at].value);
        c->list[at].value = copy;
        return OK;
    }
    char *key = strdup(name);
    struct image_config *grown = key ? realloc(c->list, (c->count + 1) * sizeof *grown) : NULL;
    if (!grown) {
        free(key);
        free(copy);
        return ERR_NOMEM;
    }
    c->list = grown;
    memmove(&grown[at + 1], &grown[at], (c->count - at) * sizeof *grown);
    grown[at] = (struct image_config){key, copy};
    c->count++;
    return OK;
}

static enum err configs_copy(struct image_configs *to, const struct image_configs *from) {
    for (uint32_t i = 0; i < from->count; i++) {
        enum err err = configs_set(to, from->list[i].name, from->list[i].value);
        if (err) return err;
    }
    return OK;
}

/* ---- topics -------------------------------------------------------------------------------------- */

static void topic_free(struct image_topic *t) {
    if (!t) return;
    for (int32_t i = 0; i < t->partition_count; i++) free(t->partitions[i].replicas);
    free(t->partitions);
    free(t->name);
    configs_free(&t->configs);
    free(t);
}

static struct image_topic *topic_new(const struct uuid *id, const char *name, size_t name_len, uint64_t edition) {
    struct image_topic *t = calloc(1, sizeof *t);
    if (!t) return NULL;
    t->id = *id;
    t->edition = edition;
    t->name_len = (int32_t)name_len;
    t->internal = strcmp(name, "__consumer_offsets") == 0 || strcmp(name, "__transaction_state") == 0;
    t->name = strdup(name);
    if (!t->name) {
        topic_free(t);
        return NULL;
    }
    return t;
}

/* Room for partition number `partition_count`: the array's capacity is a power of two. */
static bool partitions_grow(struct image_topic *t) {
    uint32_t n = (uint32_t)t->partition_count;
    if (n != 0 && (n & (n - 1)) != 0) return true;
    struct image_partition *grown = realloc(t->partitions, (n ? 2 * (size_t)n : 1) * sizeof *grown);
    if (!grown) return false;
    t->partitions = grown;
    return true;
}

static bool partition_add(struct image_topic *t, const struct image_partition *from) {
    if (!partitions_grow(t)) return false;
    int32_t *replicas = malloc((size_t)MAX(from->replica_count, 1) * sizeof *replicas);
    if (!replicas) return false;
    for (int32_t i = 0; i < from->replica_count; i++) replicas[i] = from->replicas[i];
    t->partitions[t->partition_count] = *from;
    t->partitions[t->partition_count].replicas = replicas;
    t->partition_count++;
    return true;
}

static struct image_topic *topic_copy(const struct image_topic *from, uint64_t edition) {
    struct image_topic *t = topic_new(&from->id, from->name, (size_t)from->name_len, edition);
    if (!t) return NULL;
    bool ok = configs_copy(&t->configs, &from->configs) == OK;
    t->config = from->config;
    for (int32_t i = 0; ok && i < from->partition_count; i++) ok = partition_add(t, &from->partitions[i]);
    if (ok) return t;
    topic_free(t);
    return NULL;
}

/* ---- edit ---------------------------------------------------------------------------------------- */

struct image_edit {
    const struct broker *broker;
    struct image *next;
    bool tracks_changes;             /* `base` was published: reactors act on the differences */
    bool broker_configured;          /* topics are to be resolved again */
    uint32_t topic_cap, change_cap, garbage_cap, removed_cap;
};

/* Grows `*list` (elements of `size`) so that element `count` fits. */
static bool grow(void *list, uint32_t count, uint32_t *cap, size_t size) {
    if (count < *cap) return true;
    uint32_t wanted = *cap ? *cap * 2 : 16;
    void *grown = realloc(*(void **)list, wanted * size);
    if (!grown) return false;
    *(void **)list = grown;
    *cap = wanted;
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
    im->quotas = base->quotas;
    im->groups = base->groups;
    memcpy(im->feature_levels, base->feature_levels, sizeof im->feature_levels);
    im->partition_count = base->partition_count;
    im->broker = base->broker;
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

static void overlays_free(struct image_broker *b) {
    config_overlay_free(&b->config);
    config_overlay_free(&b->with_defaults);
}

static void broker_free(struct image_broker *b) {
    if (!b) return;
    overlays_free(b);
    configs_free(&b->defaults);
    configs_free(&b->own);
    free(b);
}

static void groups_free(struct image_groups *s) {
    for (uint32_t i = 0; s && i < s->count; i++) {
        free(s->list[i].name);
        configs_free(&s->list[i].configs);
    }
    if (s) free(s->list);
    free(s);
}

void image_free_unpublished(struct image *im) {
    if (im->groups && im->groups->edition == im->edition) groups_free(im->groups);
    if (im->broker && im->broker->edition == im->edition) broker_free(im->broker);
    for (uint32_t i = 0; i < im->topic_count; i++)
        if (im->by_name[i]->edition == im->edition) topic_free(im->by_name[i]);
    if (im->quotas && im->quotas->edition == im->edition) quota_set_free(im->quotas);
    image_free_arrays(im);
}

void image_edit_drop(struct image_edit *e) {
    image_free_unpublished(e->next);
    free(e);
}

void image_free_older(struct image *older, struct image *newer) {
    for (uint32_t i = 0; i < newer->garbage_count; i++) topic_free(newer->garbage[i]);
    newer->garbage_count = 0;
    broker_free(newer->broker_garbage);
    newer->broker_garbage = NULL;
    if (older->quotas != newer->quotas) quota_set_free(older->quotas);
    if (older->groups != newer->groups) groups_free(older->groups);
    image_free_arrays(older);
}

void image_free_last(struct image *im) {
    if (!im) return;
    broker_free(im->broker);
    for (uint32_t i = 0; i < im->topic_count; i++) topic_free(im->by_name[i]);
    quota_set_free(im->quotas);
    groups_free(im->groups);
    image_free_arrays(im);
}

static enum err add_change(struct image_edit *e, enum image_change_kind kind, const struct image_topic *t,
                           int32_t partition) {
    if (!e->tracks_changes) return OK;
    if (!grow(&e->next->changes, e->next->change_count, &e->change_cap, sizeof *e->next->changes)) return ERR_NOMEM;
    e->next->changes[e->next->change_count++] = (struct image_change){.kind = kind, .topic = t, .partition = partition};
    return OK;
}

static void insert_at(struct image_topic **list, uint32_t count, struct image_topic *t, topic_order *order) {
    bool found;
    uint32_t at = position_of(list, count, t, order, &found);
    memmove(&list[at + 1], &list[at], (count - at) * sizeof *list);
    list[at] = t;
}
static void replace_at(struct image_topic **list, uint32_t count, const struct image_topic *key, topic_order *order,
                       struct image_topic *with) {
    bool found;
    uint32_t at = position_of(list, count, key, order, &found);
    ASSERT(found);
    if (with) list[at] = with;
    else memmove(&list[at], &list[at + 1], (count - at - 1) * sizeof *list);
}

static bool topics_grow(struct image_edit *e) {
    struct image *im = e->next;
    uint32_t cap = e->topic_cap;
    uint32_t cap_id = cap, cap_folded = cap;
    return grow(&im->by_name, im->topic_count, &e->topic_cap, sizeof(void *)) &&
           grow(&im->by_id, im->topic_count, &cap_id, sizeof(void *)) &&
           grow(&im->by_folded, im->topic_count, &cap_folded, sizeof(void *));
}

static bool garbage_add(struct image_edit *e, struct image_topic *t) {
    if (!grow(&e->next->garbage, e->next->garbage_count, &e->garbage_cap, sizeof(void *))) return false;
    e->next->garbage[e->next->garbage_count++] = t;
    return true;
}

/* The topic as this edit may change it: a copy unless the edit made it. NULL: memory. */
static struct image_topic *topic_own(struct image_edit *e, struct image_topic *t) {
    struct image *im = e->next;
    if (t->edition == im->edition) return t;
    struct image_topic *copy = topic_copy(t, im->edition);
    if (!copy || !garbage_add(e, t)) {
        topic_free(copy);
        return NULL;
    }
    replace_at(im->by_name, im->topic_count, t, compare_names, copy);
    replace_at(im->by_id, im->topic_count, t, compare_ids, copy);
    replace_at(im->by_folded, im->topic_count, t, compare_folded, copy);
    return copy;
}

static bool uuid_from(const ProtobufCBinaryData *b, struct uuid *out) {
    if (b->len != sizeof out->b) return false;
    memcpy(out->b, b->data, sizeof out->b);
    return true;
}

/* What is in force for the topic: its overrides over the broker's defaults. */
static enum err resolve_config(struct image_edit *e, const struct image_topic *t, struct topic_config *out) {
    struct topic_override *overrides = malloc(MAX(t->configs.count, 1u) * sizeof *overrides);
    if (!overrides) return ERR_NOMEM;
    for (uint32_t i = 0; i < t->configs.count; i++)
        overrides[i] = (struct topic_override){str_from(t->configs.list[i].name), str_from(t->configs.list[i].value)};
    topic_config_resolve(out, image_config(e->next, e->broker), overrides, t->configs.count);
    out->log.internal = t->internal;
    free(overrides);
    return OK;
}

static enum err apply_topic(struct image_edit *e, const Varve__Metadata__Topic *m) {
    struct image *im = e->next;
    struct uuid id;
    size_t len = strlen(m->name);
    if (!uuid_from(&m->id, &id) || len == 0 || len > 249) return ERR_CORRUPT;
    if (find_by_id(im, &id) || find_by_name(im, str_from(m->name))) return ERR_CORRUPT;
    struct image_topic *t = topic_new(&id, m->name, len, im->edition);
    if (!t || !topics_grow(e) || resolve_config(e, t, &t->config) != OK) {
        topic_free(t);
        return ERR_NOMEM;
    }
    insert_at(im->by_name, im->topic_count, t, compare_names);
    insert_at(im->by_id, im->topic_count, t, compare_ids);
    insert_at(im->by_folded, im->topic_count, t, compare_folded);
    im->topic_count++;
    return OK;
}

static enum err apply_partition(struct image_edit *e, uint64_t metadata_offset, const Varve__Metadata__Partition *m) {
    struct image *im = e->next;
    struct uuid id;
    if (!uuid_from(&m->topic_id, &id)) return ERR_CORRUPT;
    struct image_topic *t = find_by_id(im, &id);
    if (!t || m->partition != t->partition_count || m->plid == 0 || m->n_replicas == 0) return ERR_CORRUPT;
    t = topic_own(e, t);
    if (!t) return ERR_NOMEM;
    struct image_partition p = {
        .plid = m->plid, .metadata_offset = metadata_offset, .owner = log_store_shard_of(e->broker->store, m->plid),
        .replicas = m->replicas, .replica_count = (int32_t)m->n_replicas,
    };
    if (!partition_add(t, &p)) return ERR_NOMEM;
    im->partition_count++;
    return add_change(e, IMAGE_PARTITION_ADDED, t, m->partition);
}

static enum err remember_removed(struct image_edit *e, const struct image_topic *t) {
    struct image *im = e->next;
    for (int32_t i = 0; !e->tracks_changes && i < t->partition_count; i++) {
        if (!grow(&im->removed_plids, im->removed_count, &e->removed_cap, sizeof *im->removed_plids)) return ERR_NOMEM;
        im->removed_plids[im->removed_count++] = t->partitions[i].plid;
    }
    return OK;
}

/* Changes that were recorded for a topic which this same edit made or copied are void. */
static void forget_changes(struct image *im, const struct image_topic *t) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < im->change_count; i++)
        if (im->changes[i].topic != t) im->changes[kept++] = im->changes[i];
    im->change_count = kept;
}

static enum err apply_remove(struct image_edit *e, const Varve__Metadata__RemoveTopic *m) {
    struct image *im = e->next;
    struct uuid id;
    if (!uuid_from(&m->topic_id, &id)) return ERR_CORRUPT;
    struct image_topic *t = find_by_id(im, &id);
    if (!t) return ERR_CORRUPT;
    if (remember_removed(e, t) != OK) return ERR_NOMEM;
    /* A topic that this edit itself made is only possible in a replay: changes come alone. */
    bool own = t->edition == im->edition;
    ASSERT(!own || !e->tracks_changes);
    if (!own && (!garbage_add(e, t) || add_change(e, IMAGE_PARTITION_REMOVED, t, -1) != OK)) return ERR_NOMEM;
    replace_at(im->by_name, im->topic_count, t, compare_names, NULL);
    replace_at(im->by_id, im->topic_count, t, compare_ids, NULL);
    replace_at(im->by_folded, im->topic_count, t, compare_folded, NULL);
    im->topic_count--;
    im->partition_count -= t->partition_count;
    if (own) {
        forget_changes(im, t);
        topic_free(t);
    }
    return OK;
}

enum { RESOURCE_TOPIC = 2, RESOURCE_BROKER = 4, RESOURCE_GROUP = 32 }; /* Kafka's numbers */

static enum err apply_topic_config(struct image_edit *e, const Varve__Metadata__Config *m) {
    struct image_topic *t = find_by_name(e->next, str_from(m->resource_name));
    if (!t) return ERR_CORRUPT;
    t = topic_own(e, t);
    if (!t || configs_set(&t->configs, m->key, m->removed ? NULL : m->value) != OK) return ERR_NOMEM;
    if (resolve_config(e, t, &t->config) != OK) return ERR_NOMEM;
    return add_change(e, IMAGE_TOPIC_CONFIGURED, t, -1);
}

/* ---- configs of brokers ------------------------------------------------------------------------------ */

/* As this edit may change it: a copy unless the edit made it. NULL: memory. */
static struct image_broker *broker_own(struct image_edit *e) {
    struct image *im = e->next;
    if (im->broker && im->broker->edition == im->edition) return im->broker;
    struct image_broker *b = calloc(1, sizeof *b);
    if (!b) return NULL;
    b->edition = im->edition;
    if (im->broker && (configs_copy(&b->defaults, &im->broker->defaults) != OK || configs_copy(&b->own, &im->broker->own) != OK)) {
        broker_free(b);
        return NULL;
    }
    im->broker_garbage = im->broker;
    im->broker = b;
    return b;
}

static enum err overlay_make(struct config *out, const struct config *below, enum config_source source, const struct image_configs *configs) {
    struct config_override *overrides = malloc(MAX(configs->count, 1u) * sizeof *overrides);
    if (!overrides) return ERR_NOMEM;
    for (uint32_t i = 0; i < configs->count; i++) overrides[i] = (struct config_override){configs->list[i].name, configs->list[i].value};
    enum err err = config_overlay(out, below, source, overrides, configs->count);
    free(overrides);
    return err;
}

static enum err apply_broker_config(struct image_edit *e, const Varve__Metadata__Config *m) {
    char self[16];
    snprintf(self, sizeof self, "%d", e->broker->config.node_id);
    bool all = m->resource_name[0] == 0;
    if (!all && strcmp(m->resource_name, self) != 0) return ERR_UNSUPPORTED; /* another broker's */
    struct image_broker *b = broker_own(e);
    if (!b || configs_set(all ? &b->defaults : &b->own, m->key, m->removed ? NULL : m->value) != OK) return ERR_NOMEM;
    overlays_free(b);
    enum err err = overlay_make(&b->with_defaults, &e->broker->config, CONFIG_DYNAMIC_DEFAULT, &b->defaults);
    if (!err) err = overlay_make(&b->config, &b->with_defaults, CONFIG_DYNAMIC_BROKER, &b->own);
    e->broker_configured = true;
    return err;
}

/* A topic follows the broker in what it does not set itself. */
static enum err topics_follow(struct image_edit *e) {
    struct image *im = e->next;
    struct topic_config plain; /* of all that set nothing */
    topic_config_resolve(&plain, image_config(im, e->broker), NULL, 0);
    for (uint32_t i = 0; i < im->topic_count; i++) {
        struct image_topic *t = im->by_name[i];
        struct topic_config config = plain;
        config.log.internal = t->internal;
        enum err err = t->configs.count > 0 ? resolve_config(e, t, &config) : OK;
        if (err) return err;
        if (memcmp(&config, &t->config, sizeof config) == 0) continue;
        t = topic_own(e, t);
        if (!t) return ERR_NOMEM;
        t->config = config;
        err = add_change(e, IMAGE_TOPIC_CONFIGURED, t, -1);
        if (err) return err;
    }
    return OK;
}

struct image *image_edit_finish(struct image_edit *e, uint64_t metadata_end) {
    struct image *im = e->next;
    if (e->broker_configured && topics_follow(e) != OK) {
        image_edit_drop(e);
        return NULL;
    }
    im->metadata_end = metadata_end;
    free(e);
    return im;
}

/* ---- configs of groups ---------------------------------------------------------------------------------- */

static int compare_text(struct str a, const char *b) {
    size_t len = strlen(b);
    int c = memcmp(a.p, b, MIN((size_t)a.len, len));
    return c ? c : ((size_t)a.len > len) - ((size_t)a.len < len);
}

static uint32_t group_position(const struct image_groups *s, struct str name, bool *found) {
    uint32_t low = 0, high = s ? s->count : 0;
    *found = false;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        int c = compare_text(name, s->list[mid].name);
        if (c == 0) *found = true;
        if (c == 0) return mid;
        if (c < 0) high = mid;
        else low = mid + 1;
    }
    return low;
}

const struct image_configs *image_group_configs(const struct image *im, struct str group) {
    bool found;
    uint32_t at = group_position(im->groups, group, &found);
    return found ? &im->groups->list[at].configs : NULL;
}

/* As this edit may change it, with room for one more. NULL: memory. */
static struct image_groups *groups_own(struct image_edit *e) {
    struct image *im = e->next;
    const struct image_groups *from = im->groups;
    uint32_t count = from ? from->count : 0;
    if (from && from->edition == im->edition) {
        struct image_group *grown = realloc(im->groups->list, (count + 1) * sizeof *grown);
        if (grown) im->groups->list = grown;
        return grown ? im->groups : NULL;
    }
    struct image_groups *s = calloc(1, sizeof *s);
    if (s) s->list = calloc(count + 1, sizeof *s->list);
    bool whole = s && s->list;
    for (uint32_t i = 0; whole && i < count; i++) {
        s->list[i].name = strdup(from->list[i].name);
        s->count = i + 1;
        whole = s->list[i].name && configs_copy(&s->list[i].configs, &from->list[i].configs) == OK;
    }
    if (!whole) {
        groups_free(s);
        return NULL;
    }
    s->edition = im->edition;
    return im->groups = s;
}

static enum err apply_group_config(struct image_edit *e, const Varve__Metadata__Config *m) {
    bool found;
    if (m->resource_name[0] == 0) return ERR_CORRUPT;
    struct image_groups *s = groups_own(e);
    if (!s) return ERR_NOMEM;
    uint32_t at = group_position(s, str_from(m->resource_name), &found);
    if (!found) {
        char *name = strdup(m->resource_name);
        if (!name) return ERR_NOMEM;
        memmove(&s->list[at + 1], &s->list[at], (s->count - at) * sizeof *s->list);
        s->list[at] = (struct image_group){.name = name};
        s->count++;
    }
    struct image_group *g = &s->list[at];
    if (configs_set(&g->configs, m->key, m->removed ? NULL : m->value) != OK) return ERR_NOMEM;
    if (g->configs.count > 0) return OK;
    free(g->name);
    configs_free(&g->configs);
    s->count--;
    memmove(g, g + 1, (s->count - at) * sizeof *g);
    return OK;
}

static enum err apply_config(struct image_edit *e, const Varve__Metadata__Config *m) {
    switch (m->resource_type) {
    case RESOURCE_TOPIC: return apply_topic_config(e, m);
    case RESOURCE_BROKER: return apply_broker_config(e, m);
    case RESOURCE_GROUP: return apply_group_config(e, m);
    default: return ERR_UNSUPPORTED;
    }
}

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
    case VARVE__METADATA__RECORD__KIND_TOPIC: return apply_topic(e, r->topic);
    case VARVE__METADATA__RECORD__KIND_PARTITION: return apply_partition(e, metadata_offset, r->partition);
    case VARVE__METADATA__RECORD__KIND_REMOVE_TOPIC: return apply_remove(e, r->remove_topic);
    case VARVE__METADATA__RECORD__KIND_CONFIG: return apply_config(e, r->config);
    case VARVE__METADATA__RECORD__KIND_PRODUCER_IDS:
        if (r->producer_ids->next < e->next->next_producer_id) return ERR_CORRUPT;
        e->next->next_producer_id = r->producer_ids->next;
        return OK;
    case VARVE__METADATA__RECORD__KIND_FEATURE: return apply_feature(e, r->feature);
    case VARVE__METADATA__RECORD__KIND_CLIENT_QUOTA: return apply_quota(e, r->client_quota);
    default: return ERR_UNSUPPORTED;
    }
}

enum err image_edit_apply(struct image_edit *e, uint64_t metadata_offset, const uint8_t *record, size_t len) {
    Varve__Metadata__Record *r = varve__metadata__record__unpack(NULL, len, record);
    if (!r) return ERR_CORRUPT;
    enum err err = apply(e, metadata_offset, r);
    varve__metadata__record__free_unpacked(r, NULL);
    return err;
}
