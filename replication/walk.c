#include "replication/walk.h"
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "replication/mutants.h"

void walk_init(struct walk *w) { *w = (struct walk){0}; }

void walk_free(struct walk *w) {
    free(w->markers);
    walk_init(w);
}

enum err walk_reserve(struct walk *w, uint32_t more) {
    if (more > WALK_MARKERS_MAX - w->count) return ERR_FULL;
    if (w->count + more <= w->cap) return OK;
    uint32_t cap = w->cap * 2 > w->count + more ? w->cap * 2 : w->count + more;
    struct replica_marker *p = realloc(w->markers, cap * sizeof *p);
    if (!p) return ERR_NOMEM;
    w->markers = p;
    w->cap = cap;
    return OK;
}

struct replica_position walk_base(const struct walk *w) { return (struct replica_position){w->base_epoch, w->start}; }

struct replica_position walk_last(const struct walk *w) {
    return (struct replica_position){w->count > 0 ? w->markers[w->count - 1].epoch : w->base_epoch, w->end};
}

/* The last marker whose epoch is at most `epoch`, or -1. */
static int32_t at_or_below(const struct walk *w, int32_t epoch) {
    uint32_t low = 0, high = w->count;
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if (w->markers[mid].epoch <= epoch) low = mid + 1;
        else high = mid;
    }
    return (int32_t)low - 1;
}

int32_t walk_find(const struct walk *w, int32_t epoch) {
    int32_t i = at_or_below(w, epoch);
    return i >= 0 && w->markers[i].epoch == epoch ? i : -1;
}

int64_t walk_end_of(const struct walk *w, int32_t index) {
    return (uint32_t)(index + 1) < w->count ? w->markers[index + 1].start : w->end;
}

int64_t walk_epoch_end(const struct walk *w, int32_t epoch) {
    if (epoch == w->base_epoch) return walk_end_of(w, -1);
    int32_t i = walk_find(w, epoch);
    return i < 0 ? -1 : walk_end_of(w, i);
}

bool walk_contains(const struct walk *w, struct replica_position p) {
    if (p.offset < w->start) return true;
    int32_t i = p.epoch == w->base_epoch ? -1 : walk_find(w, p.epoch);
    if (i < 0 && p.epoch != w->base_epoch) return false;
    int64_t from = i < 0 ? w->start : w->markers[i].start;
    return from <= p.offset && p.offset <= walk_end_of(w, i);
}

bool walk_floor(const struct walk *w, struct replica_position p, struct replica_position *out) {
    if (replica_position_compare(p, walk_base(w)) < 0) return false;
    int32_t i = at_or_below(w, p.epoch);
    int32_t epoch = i < 0 ? w->base_epoch : w->markers[i].epoch;
    int64_t end = walk_end_of(w, i);
    *out = (struct replica_position){epoch, epoch == p.epoch && p.offset < end ? p.offset : end};
    return true;
}

int32_t walk_last_record_epoch(const struct walk *w) {
    for (uint32_t i = w->count; i-- > 0;)
        if (w->markers[i].start < w->end) return w->markers[i].epoch;
    return w->base_epoch;
}

void walk_extend(struct walk *w, int64_t end) {
    ASSERT(end >= w->end);
    w->end = end;
}

void walk_mark(struct walk *w, int32_t epoch) {
    ASSERT(w->count < w->cap);
    ASSERT(epoch > walk_last(w).epoch);
    if (MUTANT(w, DROP_ZERO_LEN))
        while (w->count > 0 && w->markers[w->count - 1].start >= w->end) w->count--;
    w->markers[w->count++] = (struct replica_marker){epoch, w->end};
}

void walk_truncate(struct walk *w, struct replica_position p) {
    ASSERT(p.offset >= w->start && p.offset <= w->end);
    w->end = p.offset;
    if (MUTANT(w, TRUNC_BY_OFFSET))
        while (w->count > 0 && w->markers[w->count - 1].start >= p.offset) w->count--;
    else
        while (w->count > 0 && w->markers[w->count - 1].epoch > p.epoch) w->count--;
    ASSERT(w->count == 0 || w->markers[w->count - 1].start <= w->end);
}

void walk_drop_prefix(struct walk *w, int64_t start) {
    ASSERT(start >= w->start && start <= w->end);
    uint32_t gone = 0;
    int64_t bound = MUTANT(w, PREFIX_DROP_AT_LSO) ? start + 1 : start;
    while (gone < w->count && w->markers[gone].start < bound) gone++;
    if (gone > 0) w->base_epoch = w->markers[gone - 1].epoch;
    if (gone > 0) memmove(w->markers, w->markers + gone, (w->count - gone) * sizeof *w->markers);
    w->count -= gone;
    w->start = start;
}

void walk_reset(struct walk *w, struct replica_position base) {
    w->base_epoch = base.epoch;
    w->start = w->end = base.offset;
    w->count = 0;
}
