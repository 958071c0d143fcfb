/* tail.c - the newest entries of a log: with their memory, or with where they lie in the journal. */
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "log/impl.h"

enum err tail_reserve(struct tail *t) {
    if (t->head + t->count < t->cap) return OK;
    if (t->head > t->cap / 2) {
        memmove(t->v, t->v + t->head, t->count * sizeof *t->v);
        t->head = 0;
        return OK;
    }
    uint32_t cap = t->cap ? t->cap * 2 : 4;
    struct tail_entry *v = realloc(t->v, cap * sizeof *v);
    if (!v) return ERR_NOMEM;
    t->v = v;
    t->cap = cap;
    return OK;
}

void tail_push(struct tail *t, const struct tail_entry *e) {
    ASSERT(t->head + t->count < t->cap);
    t->v[t->head + t->count++] = *e;
    if (e->slice) return;
    ASSERT(t->journal_only == t->count - 1);
    t->journal_only++;
}

uint32_t tail_find(const struct tail *t, int64_t offset) {
    uint32_t low = 0, high = t->count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        const struct tail_entry *e = tail_at(t, mid);
        if (e->base_offset + e->count <= offset) low = mid + 1;
        else high = mid;
    }
    return low;
}

uint32_t tail_find_place(const struct tail *t, int64_t base, int64_t next_base, uint32_t position) {
    uint32_t low = 0, high = t->count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        const struct tail_entry *e = tail_at(t, mid);
        bool before = e->base_offset < base || (e->base_offset < next_base && e->position + e->len <= position);
        if (before) low = mid + 1;
        else high = mid;
    }
    return low;
}

void tail_cut(struct tail *t, int64_t end) {
    while (t->count > 0 && tail_at(t, t->count - 1)->base_offset >= end) t->count--;
    t->journal_only = MIN(t->journal_only, t->count);
}

void tail_drop_below(struct log_impl *l, int64_t offset) {
    struct tail *t = &l->tail;
    while (t->count > 0 && tail_at(t, 0)->base_offset < offset) {
        t->head++;
        t->count--;
        if (t->journal_only > 0) t->journal_only--;
    }
    if (t->count == 0) tail_free(t);
}

void tail_free(struct tail *t) {
    free(t->v);
    *t = (struct tail){0};
}

void tail_drop_written(struct log_impl *l) {
    struct tail *t = &l->tail;
    while (t->journal_only > 0) {
        const struct tail_entry *e = tail_at(t, 0);
        const struct segment *s = segment_of(l, e->base_offset);
        if (e->base_offset >= l->segments[0].base && e->position + e->len > s->written_bytes) break;
        t->head++;
        t->count--;
        t->journal_only--;
    }
    if (t->count > 0) return;
    t->head = 0;
    if (t->cap > 16) tail_free(t);
}
