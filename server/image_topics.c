/* image_topics.c - topics of an image: three sorted arrays of the same ones; what an edit makes, copies and removes. */
#include "base/assert.h"
#include "server/image_impl.h"

/* ---- orders ---------------------------------------------------------------------------------------------- */

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

struct image_topic *image_find_topic(const struct image *im, struct str name) {
    if (name.len <= 0) return NULL;
    struct image_topic key = {.name = (char *)name.p, .name_len = name.len};
    return find(im->by_name, im->topic_count, &key, compare_names);
}
struct image_topic *image_find_topic_by_id(const struct image *im, const struct uuid *id) {
    struct image_topic key = {.id = *id};
    return find(im->by_id, im->topic_count, &key, compare_ids);
}

const struct image_topic *image_topic_by_name(const struct image *im, struct str name) {
    return image_find_topic(im, name);
}
const struct image_topic *image_topic_by_id(const struct image *im, const struct uuid *id) {
    return image_find_topic_by_id(im, id);
}

const struct image_topic *image_topic_colliding(const struct image *im, struct str name) {
    if (name.len <= 0) return NULL;
    struct image_topic key = {.name = (char *)name.p, .name_len = name.len};
    const struct image_topic *t = find(im->by_folded, im->topic_count, &key, compare_folded);
    return t && compare_names(t, &key) != 0 ? t : NULL;
}

/* ---- making and changing --------------------------------------------------------------------------------- */

void image_topic_free(struct image_topic *t) {
    if (!t) return;
    for (int32_t i = 0; i < t->partition_count; i++) image_partition_free(&t->partitions[i]);
    free(t->partitions);
    free(t->name);
    image_configs_free(&t->configs);
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
        image_topic_free(t);
        return NULL;
    }
    return t;
}

static struct image_topic *topic_copy(const struct image_topic *from, uint64_t edition) {
    struct image_topic *t = topic_new(&from->id, from->name, (size_t)from->name_len, edition);
    if (!t) return NULL;
    bool ok = image_configs_copy(&t->configs, &from->configs) == OK;
    t->config = from->config;
    for (int32_t i = 0; ok && i < from->partition_count; i++) ok = image_partition_add(t, &from->partitions[i]);
    if (ok) return t;
    image_topic_free(t);
    return NULL;
}

enum err image_add_change(struct image_edit *e, struct image_change change) {
    if (!e->tracks_changes) return OK;
    if (!image_grow(&e->next->changes, e->next->change_count, &e->change_cap, sizeof *e->next->changes)) return ERR_NOMEM;
    e->next->changes[e->next->change_count++] = change;
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
    return image_grow(&im->by_name, im->topic_count, &e->topic_cap, sizeof(void *)) &&
           image_grow(&im->by_id, im->topic_count, &cap_id, sizeof(void *)) &&
           image_grow(&im->by_folded, im->topic_count, &cap_folded, sizeof(void *));
}

static bool garbage_add(struct image_edit *e, struct image_topic *t) {
    if (!image_grow(&e->next->garbage, e->next->garbage_count, &e->garbage_cap, sizeof(void *))) return false;
    e->next->garbage[e->next->garbage_count++] = t;
    return true;
}

/* The topic as this edit may change it: a copy unless the edit made it. NULL: memory. */
struct image_topic *image_topic_own(struct image_edit *e, struct image_topic *t) {
    struct image *im = e->next;
    if (t->edition == im->edition) return t;
    struct image_topic *copy = topic_copy(t, im->edition);
    if (!copy || !garbage_add(e, t)) {
        image_topic_free(copy);
        return NULL;
    }
    replace_at(im->by_name, im->topic_count, t, compare_names, copy);
    replace_at(im->by_id, im->topic_count, t, compare_ids, copy);
    replace_at(im->by_folded, im->topic_count, t, compare_folded, copy);
    return copy;
}

enum err image_apply_topic(struct image_edit *e, const Varve__Metadata__Topic *m) {
    struct image *im = e->next;
    struct uuid id;
    size_t len = strlen(m->name);
    if (!image_uuid_from(&m->id, &id) || len == 0 || len > 249) return ERR_CORRUPT;
    if (image_find_topic_by_id(im, &id) || image_find_topic(im, str_from(m->name))) return ERR_CORRUPT;
    struct image_topic *t = topic_new(&id, m->name, len, im->edition);
    if (!t || !topics_grow(e) || image_resolve_config(e, t, &t->config) != OK) {
        image_topic_free(t);
        return ERR_NOMEM;
    }
    insert_at(im->by_name, im->topic_count, t, compare_names);
    insert_at(im->by_id, im->topic_count, t, compare_ids);
    insert_at(im->by_folded, im->topic_count, t, compare_folded);
    im->topic_count++;
    return OK;
}

/* Changes that were recorded for a topic which this same edit made or copied are void. */
static void forget_changes(struct image *im, const struct image_topic *t) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < im->change_count; i++)
        if (im->changes[i].topic != t) im->changes[kept++] = im->changes[i];
    im->change_count = kept;
}

/* The older image shows it under the same id; NULL: this edit made it. */
static const struct image_topic *before_edit(const struct image_edit *e, const struct image_topic *t) {
    for (uint32_t i = 0; i < e->next->garbage_count; i++)
        if (compare_ids(e->next->garbage[i], t) == 0) return e->next->garbage[i];
    return NULL;
}

static enum err remember_topic(struct image_edit *e, const struct image_topic *t) {
    for (int32_t i = 0; i < t->partition_count; i++) {
        const struct image_replica *own = image_replica_of(&t->partitions[i], e->broker->config.node_id);
        enum err err = own ? image_remember_removed(e, t->partitions[i].plid, own->life) : OK;
        if (err) return err;
    }
    return OK;
}

enum err image_apply_remove_topic(struct image_edit *e, const Varve__Metadata__RemoveTopic *m) {
    struct image *im = e->next;
    struct uuid id;
    if (!image_uuid_from(&m->topic_id, &id)) return ERR_CORRUPT;
    struct image_topic *t = image_find_topic_by_id(im, &id);
    if (!t) return ERR_CORRUPT;
    if (remember_topic(e, t) != OK) return ERR_NOMEM;
    bool own = t->edition == im->edition;
    if (own) forget_changes(im, t);
    else if (!garbage_add(e, t)) return ERR_NOMEM;
    /* What the reactors have is what the older image shows. */
    const struct image_topic *shown = own ? before_edit(e, t) : t;
    if (shown && image_add_change(e, (struct image_change){.kind = IMAGE_PARTITION_REMOVED, .topic = shown, .partition = -1}) != OK)
        return ERR_NOMEM;
    replace_at(im->by_name, im->topic_count, t, compare_names, NULL);
    replace_at(im->by_id, im->topic_count, t, compare_ids, NULL);
    replace_at(im->by_folded, im->topic_count, t, compare_folded, NULL);
    im->topic_count--;
    im->partition_count -= t->partition_count;
    if (own) image_topic_free(t);
    return OK;
}
