/* A world for the cores of groups: topics, a clock, one consumer group, and the log that its records go to. */
#ifndef TESTS_UNIT_GROUP_WORLD_H
#define TESTS_UNIT_GROUP_WORLD_H
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "proto/kafka_errors.h"
#include "server/group_consumer.h"
#include "server/group_consumer_impl.h"

enum { WORLD_TOPICS_MAX = 512 };
struct world_topic { char name[64]; struct uuid id; int32_t partitions; bool exists, internal; char rack[8]; };
struct world_record { uint8_t *key, *value; int32_t key_len, value_len; };
struct world {
    struct world_topic all[WORLD_TOPICS_MAX]; /* in order of creation */
    uint32_t all_n;
    const struct world_topic *sorted[WORLD_TOPICS_MAX];
    struct group_topics topics;
    struct group_env env;
    struct consumer_group *group;
    struct arena arena;
    struct group_records out;
    struct world_record *log;
    size_t log_n, log_cap;
    bool drop_append; /* the next append fails */
};

static void world_at(const void *image, uint32_t i, struct group_topic *out) {
    const struct world *w = image;
    *out = (struct group_topic){w->sorted[i]->id, str_from(w->sorted[i]->name), w->sorted[i]->partitions, w->sorted[i]->internal};
}
static bool world_by_name(const void *image, struct str name, struct group_topic *out) {
    const struct world *w = image;
    uint32_t low = 0, high = w->topics.count;
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        world_at(w, mid, out);
        int order = str_compare(out->name, name);
        if (order == 0) return true;
        if (order < 0) low = mid + 1;
        else high = mid;
    }
    return false;
}
static bool world_by_id(const void *image, const struct uuid *id, struct group_topic *out) {
    const struct world *w = image;
    uint32_t n = load_be32(id->b + 12); /* ids are made of the index */
    if (n >= w->all_n || !w->all[n].exists || !uuid_eq(&w->all[n].id, id)) return false;
    *out = (struct group_topic){w->all[n].id, str_from(w->all[n].name), w->all[n].partitions, w->all[n].internal};
    return true;
}
static uint32_t world_racks(const void *image, const struct uuid *id, int32_t partition, struct str *out, uint32_t max) {
    const struct world *w = image;
    (void)partition;
    const struct world_topic *t = &w->all[load_be32(id->b + 12)];
    if (!t->rack[0] || max == 0) return 0;
    out[0] = str_from(t->rack);
    return 1;
}
static int world_order(const void *a, const void *b) { return strcmp((*(const struct world_topic *const *)a)->name, (*(const struct world_topic *const *)b)->name); }
static inline void world_changed(struct world *w) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < w->all_n; i++)
        if (w->all[i].exists) w->sorted[n++] = &w->all[i];
    qsort(w->sorted, n, sizeof *w->sorted, world_order);
    w->topics.count = n;
    w->topics.version++;
}
static inline struct world_topic *world_topic(struct world *w, const char *name, int32_t partitions) {
    ASSERT(w->all_n < WORLD_TOPICS_MAX);
    struct world_topic *t = &w->all[w->all_n];
    *t = (struct world_topic){.partitions = partitions, .exists = true};
    snprintf(t->name, sizeof t->name, "%s", name);
    t->id.b[0] = (uint8_t)(w->all_n * 37 + 11); /* so that the order of ids is not that of names */
    store_be32(t->id.b + 12, w->all_n++);
    world_changed(w);
    return t;
}

static const struct str world_assignors[] = {{"uniform", 7}, {"range", 5}};
static inline void world_init(struct world *w) {
    *w = (struct world){.topics = {.image = w, .at = world_at, .by_name = world_by_name, .by_id = world_by_id, .racks = world_racks}};
    w->env = (struct group_env){.now_ms = 1000000, .topics = &w->topics, .session_timeout_ms = 45000, .heartbeat_interval_ms = 5000,
                                .assignment_interval_ms = 0, .regex_refresh_interval_ms = 600000, .max_size = 1000000,
                                .assignors = world_assignors, .assignors_n = 2, .migration = GROUP_MIGRATION_BIDIRECTIONAL, .classic_max_size = 1000000};
    w->group = consumer_group_new(STR_LIT("g"));
    ck_assert_ptr_nonnull(w->group);
    arena_init(&w->arena, 256 << 20);
    group_records_init(&w->out, 16 << 20, 1 << 20);
}
static inline void world_free(struct world *w) {
    consumer_group_free(w->group);
    arena_free(&w->arena);
    group_records_free(&w->out);
    for (size_t i = 0; i < w->log_n; i++) {
        free(w->log[i].key);
        free(w->log[i].value);
    }
    free(w->log);
}

static inline uint8_t *world_copy(struct bytes b) {
    if (!b.p) return NULL;
    uint8_t *copy = malloc((size_t)b.len + 1);
    if (b.len) memcpy(copy, b.p, (size_t)b.len);
    return copy;
}
static inline void world_replay(struct world *w, struct consumer_group *g, size_t from) {
    for (size_t i = from; i < w->log_n; i++) {
        struct group_key key;
        ck_assert_int_eq(group_key_parse((struct bytes){w->log[i].key, w->log[i].key_len}, &key), OK);
        if (key.type == K_GROUP_METADATA_KEY_TYPE) continue;
        ck_assert_int_eq(consumer_group_replay(g, &w->env, &key, (struct bytes){w->log[i].value, w->log[i].value_len}), OK);
    }
}
/* What is in `out` becomes durable, or does not. */
static inline bool world_commit(struct world *w) {
    ck_assert_int_eq(w->out.err, OK);
    bool ok = !w->drop_append || w->out.count == 0;
    w->drop_append = false;
    size_t from = w->log_n;
    for (uint32_t i = 0; i < w->out.count && ok; i++) {
        struct bytes key = group_records_key(&w->out, i), value = group_records_value(&w->out, i);
        if (w->log_n == w->log_cap) {
            w->log_cap = w->log_cap ? w->log_cap * 2 : 64;
            w->log = realloc(w->log, w->log_cap * sizeof *w->log);
        }
        w->log[w->log_n++] = (struct world_record){world_copy(key), world_copy(value), key.len, value.len};
    }
    if (ok) world_replay(w, w->group, from);
    group_records_reset(&w->out);
    return ok;
}

/* Everything recorded, as text; members in order. */
static inline void world_dump_parts(FILE *f, const struct group_parts *set) {
    for (uint32_t i = 0; i < set->n; i++) fprintf(f, " %u-%d@%d", load_be32(set->list[i].topic.b + 12), set->list[i].partition, set->list[i].epoch);
}
static int world_member_order(const void *a, const void *b) { return str_compare(member_id(*(struct consumer_member *const *)a), member_id(*(struct consumer_member *const *)b)); }
static inline char *world_dump(const struct consumer_group *g) {
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    fprintf(f, "epoch %d hash %lld assignment %d at %lld\n", g->epoch, (long long)g->metadata_hash, g->assignment_epoch, (long long)g->assignment_ms);
    struct consumer_member **list = calloc(HASH_CNT(hh, g->members) + 1, sizeof *list);
    uint32_t n = 0;
    for (struct consumer_member *m = g->members; m; m = m->hh.next) list[n++] = m;
    qsort(list, n, sizeof *list, world_member_order);
    for (uint32_t i = 0; i < n; i++) {
        const struct consumer_member *m = list[i];
        fprintf(f, "%.*s instance %.*s epoch %d<%d state %d names", m->id_len, m->id, m->meta.instance_id.len, m->meta.instance_id.p ? m->meta.instance_id.p : "",
                m->current.epoch, m->current.previous_epoch, m->current.state);
        for (int32_t t = 0; t < m->meta.subscribed_topic_names_n; t++) fprintf(f, " %.*s", m->meta.subscribed_topic_names[t].len, m->meta.subscribed_topic_names[t].p);
        fprintf(f, " regex %.*s has", m->meta.subscribed_topic_regex.len, m->meta.subscribed_topic_regex.p ? m->meta.subscribed_topic_regex.p : "");
        world_dump_parts(f, &m->current.assigned);
        fprintf(f, " gives");
        world_dump_parts(f, &m->current.pending);
        fprintf(f, " target");
        world_dump_parts(f, &m->target);
        fprintf(f, "\n");
    }
    free(list);
    fclose(f);
    return text;
}
#endif
