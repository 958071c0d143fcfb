/* group_parts.c - see group_parts.h. */
#include "client/group_parts.h"

#include <stdlib.h>
#include <string.h>

static int compare_keys(const struct topic_meta *a, int32_t pa, const struct topic_meta *b, int32_t pb) {
    int order = a == b ? 0 : strcmp(a->name, b->name);
    return order ? order : (pa > pb) - (pa < pb);
}

static int compare(const void *a, const void *b) {
    const struct part *x = a, *y = b;
    return compare_keys(x->topic, x->partition, y->topic, y->partition);
}

enum err parts_add(struct parts *p, struct topic_meta *topic, int32_t partition, int64_t offset) {
    if (p->count == p->room) {
        int32_t room = p->room ? p->room * 2 : 8;
        struct part *items = realloc(p->items, (size_t)room * sizeof *items);
        if (!items) return ERR_NOMEM;
        p->items = items;
        p->room = room;
    }
    p->items[p->count++] = (struct part){topic, partition, -1, offset};
    return OK;
}

void parts_sort(struct parts *p) {
    int32_t kept = 0;
    if (p->count > 1) qsort(p->items, (size_t)p->count, sizeof *p->items, compare);
    for (int32_t i = 0; i < p->count; i++) {
        if (kept > 0 && compare(&p->items[kept - 1], &p->items[i]) == 0) continue;
        p->items[kept++] = p->items[i];
    }
    p->count = kept;
}

struct part *parts_find(const struct parts *p, const struct topic_meta *topic, int32_t partition) {
    int32_t low = 0, high = p->count;
    while (low < high) {
        int32_t mid = low + (high - low) / 2;
        int order = compare_keys(p->items[mid].topic, p->items[mid].partition, topic, partition);
        if (order == 0) return &p->items[mid];
        if (order < 0) low = mid + 1;
        else high = mid;
    }
    return NULL;
}

void parts_remove(struct parts *p, const struct part *which) {
    int32_t at = (int32_t)(which - p->items);
    memmove(&p->items[at], &p->items[at + 1], (size_t)(p->count - at - 1) * sizeof *p->items);
    p->count--;
}

enum err parts_without(struct parts *out, const struct parts *a, const struct parts *b) {
    parts_clear(out);
    for (int32_t i = 0; i < a->count; i++) {
        const struct part *p = &a->items[i];
        if (parts_find(b, p->topic, p->partition)) continue;
        enum err err = parts_add(out, p->topic, p->partition, p->offset);
        if (err) return err;
        out->items[out->count - 1].epoch = p->epoch;
    }
    return OK;
}

void parts_free(struct parts *p) {
    free(p->items);
    *p = (struct parts){0};
}
