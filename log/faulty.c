/* faulty.c - see faulty.h. */
#include "log/faulty.h"
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "base/trace.h"
#include "log/mend.h"
#include "log/store.h"

/* Index of the first range that ends behind `offset`. */
static uint32_t first_behind(const struct log_impl *l, int64_t offset) {
    uint32_t low = 0, high = l->faulty_count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (l->faulty[mid].end <= offset) low = mid + 1;
        else high = mid;
    }
    return low;
}

const struct faulty_range *faulty_at(const struct log_impl *l, int64_t offset) {
    uint32_t i = first_behind(l, offset);
    return i < l->faulty_count && l->faulty[i].start <= offset ? &l->faulty[i] : NULL;
}

const struct faulty_range *faulty_next(const struct log_impl *l, int64_t offset) {
    uint32_t i = first_behind(l, offset);
    while (i < l->faulty_count && l->faulty[i].start < offset) i++;
    return i < l->faulty_count ? &l->faulty[i] : NULL;
}

const struct faulty_range *faulty_before(const struct log_impl *l, int64_t base, int64_t offset) {
    uint32_t i = first_behind(l, offset);
    return i > 0 && l->faulty[i - 1].base == base ? &l->faulty[i - 1] : NULL;
}

const struct faulty_range *faulty_overlaps(const struct log_impl *l, int64_t base, uint32_t from, uint32_t to) {
    for (uint32_t i = first_behind(l, base); i < l->faulty_count && l->faulty[i].base == base; i++)
        if (l->faulty[i].position < to && l->faulty[i].end_position > from) return &l->faulty[i];
    return NULL;
}

static void changed(struct log_impl *l) {
    if (l->pub.on_faulty) l->pub.on_faulty(&l->pub, l->pub.owner);
}

static void removed(struct log_impl *l, uint32_t from, uint32_t n) {
    if (n > 0) memmove(l->faulty + from, l->faulty + from + n, (l->faulty_count - from - n) * sizeof *l->faulty);
    l->faulty_count -= n;
    l->pub.faulty = l->faulty_count > 0 && l->faulty[l->faulty_count - 1].end > l->pub.start;
    if (n > 0) changed(l);
}

static bool room(struct log_impl *l) {
    if (l->faulty_count < l->faulty_cap) return true;
    uint32_t cap = l->faulty_cap ? l->faulty_cap * 2 : 4;
    struct faulty_range *v = realloc(l->faulty, cap * sizeof *v);
    if (!v) return false;
    l->faulty = v;
    l->faulty_cap = cap;
    return true;
}

static void say(const struct log_impl *l, const struct faulty_range *r, const char *why) {
    trace_error("log", "%s/%s/%020lld.log: damaged from byte %u to %u: offsets %lld to %lld cannot be read (%s); they are kept as they are and "
                "not served, all others are", l->pub.shard->store->dir, l->folder, (long long)r->base, r->position, r->end_position,
                (long long)r->start, (long long)r->end - 1, why);
}

/* Two that touch, or the nearest when there are too many. */
static bool joins(const struct log_impl *l, const struct faulty_range *a, const struct faulty_range *b) {
    return a->base == b->base && (a->end >= b->start || l->faulty_count > FAULTY_MAX);
}

static void join(struct log_impl *l, uint32_t i) {
    struct faulty_range *a = &l->faulty[i], *b = a + 1;
    if (b->end > a->end) {
        a->end = b->end;
        a->end_position = MAX(a->end_position, b->end_position);
    }
    removed(l, i + 1, 1);
}

enum err faulty_add(struct log_impl *l, const struct faulty_range *r, const char *why) {
    ASSERT(r->start < r->end && r->start >= r->base);
    uint32_t i = first_behind(l, r->start);
    if (i < l->faulty_count && l->faulty[i].start <= r->start && l->faulty[i].end >= r->end) return ERR_EXISTS;
    say(l, r, why);
    impl_change(l);
    l->pub.faulty |= r->end > l->pub.start;
    if (!room(l)) return ERR_NOMEM;
    while (i < l->faulty_count && l->faulty[i].start < r->start) i++;
    memmove(l->faulty + i + 1, l->faulty + i, (l->faulty_count - i) * sizeof *l->faulty);
    l->faulty[i] = *r;
    l->faulty_count++;
    while (i + 1 < l->faulty_count && joins(l, &l->faulty[i], &l->faulty[i + 1])) join(l, i);
    if (i > 0 && joins(l, &l->faulty[i - 1], &l->faulty[i])) join(l, i - 1);
    impl_dirty(l);
    changed(l);
    return OK;
}

void faulty_heal(struct log_impl *l, int64_t start) {
    uint32_t i = first_behind(l, start);
    if (i == l->faulty_count || l->faulty[i].start != start) return;
    trace_info("log", "%s: offsets %lld to %lld read right again and are served", l->folder, (long long)start, (long long)l->faulty[i].end - 1);
    impl_change(l);
    removed(l, i, 1);
    impl_dirty(l);
}

uint32_t log_faulty_ranges(const struct log *pub, uint32_t n, struct log_faulty *out) {
    const struct log_impl *l = impl_of_const(pub);
    for (uint32_t i = 0; i < n && i < l->faulty_count; i++)
        out[i] = (struct log_faulty){l->faulty[i].start, l->faulty[i].end, l->faulty[i].base};
    return l->faulty_count;
}

void faulty_cut(struct log_impl *l, int64_t end, struct place place) {
    uint32_t n = l->faulty_count;
    while (n > 0 && l->faulty[n - 1].start >= end) n--;
    if (n < l->faulty_count) removed(l, n, l->faulty_count - n);
    if (n == 0) return;
    struct faulty_range *last = &l->faulty[n - 1];
    last->end = MIN(last->end, end);
    if (last->base == place.base) last->end_position = MIN(last->end_position, place.position);
    last->position = MIN(last->position, last->end_position);
}

void faulty_trim(struct log_impl *l) {
    uint32_t n = 0;
    while (n < l->faulty_count && l->faulty[n].base < l->segments[0].base) n++;
    removed(l, 0, n);
}

void faulty_forget(struct log_impl *l, int64_t from, int64_t to) {
    uint32_t at = first_behind(l, from), n = 0;
    while (at + n < l->faulty_count && l->faulty[at + n].base < to) n++;
    if (n > 0) removed(l, at, n);
}
