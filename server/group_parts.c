#include "server/group_parts.h"

#include <stdlib.h>
#include "base/assert.h"
#include "proto/kafka_messages.h"

#define SAME_LAYOUT(type)                                                                                       \
    STATIC_ASSERT(sizeof(struct type) == sizeof(struct group_topic_parts));                                     \
    STATIC_ASSERT(offsetof(struct type, topic_id) == offsetof(struct group_topic_parts, topic_id));             \
    STATIC_ASSERT(offsetof(struct type, partitions) == offsetof(struct group_topic_parts, partitions));         \
    STATIC_ASSERT(offsetof(struct type, partitions_n) == offsetof(struct group_topic_parts, partitions_n))
SAME_LAYOUT(k_consumer_group_heartbeat_request_topic_partitions);
SAME_LAYOUT(k_consumer_group_heartbeat_response_topic_partitions);
SAME_LAYOUT(k_consumer_group_target_assignment_member_value_topic_partitions);

int group_part_compare(const void *a, const void *b) {
    const struct group_part *x = a, *y = b;
    int order = memcmp(&x->topic, &y->topic, sizeof x->topic);
    return order ? order : (x->partition > y->partition) - (x->partition < y->partition);
}

const struct group_part *group_parts_find(const struct group_parts *set, const struct uuid *topic, int32_t partition) {
    if (set->n == 0) return NULL;
    struct group_part key = {*topic, partition, 0};
    return bsearch(&key, set->list, set->n, sizeof *set->list, group_part_compare);
}

bool group_parts_equal(const struct group_parts *a, const struct group_parts *b, bool epochs_too) {
    if (a->n != b->n) return false;
    if (a->list == b->list) return true;
    for (uint32_t i = 0; i < a->n; i++)
        if (group_part_compare(&a->list[i], &b->list[i]) != 0 || (epochs_too && a->list[i].epoch != b->list[i].epoch)) return false;
    return true;
}

void group_parts_sort(struct group_parts *set) {
    bool sorted = true;
    for (uint32_t i = 1; i < set->n && sorted; i++) sorted = group_part_compare(&set->list[i - 1], &set->list[i]) < 0;
    if (sorted) return;
    qsort(set->list, set->n, sizeof *set->list, group_part_compare);
    uint32_t n = 0;
    for (uint32_t i = 0; i < set->n; i++)
        if (n == 0 || group_part_compare(&set->list[n - 1], &set->list[i]) != 0) set->list[n++] = set->list[i];
    set->n = n;
}

enum err group_parts_room(struct group_parts *set, size_t n, struct arena *arena) {
    *set = (struct group_parts){0};
    if (n == 0) return OK;
    if (n > UINT32_MAX) return ERR_NOMEM;
    set->list = arena_array(arena, n, sizeof *set->list);
    return set->list ? OK : ERR_NOMEM;
}

enum err group_parts_copy(struct group_parts *out, const struct group_parts *set) {
    *out = (struct group_parts){0};
    if (set->n == 0) return OK;
    out->list = malloc(set->n * sizeof *out->list);
    if (!out->list) return ERR_NOMEM;
    memcpy(out->list, set->list, set->n * sizeof *out->list);
    out->n = set->n;
    return OK;
}

enum err group_parts_by_topic(const struct group_parts *set, struct arena *arena, struct group_topic_parts **out, int32_t *out_n) {
    *out = NULL;
    *out_n = 0;
    if (set->n == 0) return OK;
    uint32_t topics = 0;
    for (uint32_t i = 0; i < set->n; i++) topics += i == 0 || !uuid_eq(&set->list[i].topic, &set->list[i - 1].topic);
    struct group_topic_parts *list = arena_array(arena, topics, sizeof *list);
    int32_t *partitions = arena_array(arena, set->n, sizeof *partitions);
    if (!list || !partitions) return ERR_NOMEM;
    struct group_topic_parts *t = list - 1;
    for (uint32_t i = 0; i < set->n; i++) {
        if (i == 0 || !uuid_eq(&set->list[i].topic, &set->list[i - 1].topic))
            *++t = (struct group_topic_parts){.topic_id = set->list[i].topic, .partitions = partitions + i};
        partitions[i] = set->list[i].partition;
        t->partitions_n++;
    }
    *out = list;
    *out_n = (int32_t)topics;
    return OK;
}

enum err group_parts_from_topics(const struct group_topic_parts *in, int32_t in_n, struct arena *arena, struct group_parts *out) {
    size_t total = 0;
    for (int32_t t = 0; t < in_n; t++) total += in[t].partitions_n > 0 ? (size_t)in[t].partitions_n : 0;
    enum err err = group_parts_room(out, total, arena);
    for (int32_t t = 0; t < in_n && err == OK; t++) {
        for (int32_t p = 0; p < in[t].partitions_n && err == OK; p++) {
            if (in[t].partitions[p] < 0) err = ERR_CORRUPT;
            else group_parts_add(out, &in[t].topic_id, in[t].partitions[p], 0);
        }
    }
    if (err == OK) group_parts_sort(out);
    return err;
}
