#include "base/timers.h"

#include <stdlib.h>
#include "base/assert.h"

void timers_init(struct timers *ts) { *ts = (struct timers){.floor_ns = INT64_MIN}; }

void timers_free(struct timers *ts) {
    for (size_t i = 0; i < ts->count; i++) ts->heap[i]->heap_index = SIZE_MAX;
    free(ts->heap);
    timers_init(ts);
}

void timer_init(struct timer *t, void (*fire)(struct timer *t)) {
    *t = (struct timer){.heap_index = SIZE_MAX, .fire = fire};
}

bool timer_armed(const struct timer *t) { return t->heap_index != SIZE_MAX; }

static bool before(const struct timer *a, const struct timer *b) {
    if (a->deadline_ns != b->deadline_ns) return a->deadline_ns < b->deadline_ns;
    return a->seq < b->seq;
}

static void place(struct timers *ts, struct timer *t, size_t index) {
    ts->heap[index] = t;
    t->heap_index = index;
}

static void sift_up(struct timers *ts, struct timer *t, size_t index) {
    while (index > 0) {
        size_t parent = (index - 1) / 2;
        if (!before(t, ts->heap[parent])) break;
        place(ts, ts->heap[parent], index);
        index = parent;
    }
    place(ts, t, index);
}

static void sift_down(struct timers *ts, struct timer *t, size_t index) {
    for (;;) {
        size_t child = index * 2 + 1;
        if (child >= ts->count) break;
        if (child + 1 < ts->count && before(ts->heap[child + 1], ts->heap[child])) child++;
        if (!before(ts->heap[child], t)) break;
        place(ts, ts->heap[child], index);
        index = child;
    }
    place(ts, t, index);
}

/* `t` may belong above or below `index`. */
static void settle(struct timers *ts, struct timer *t, size_t index) {
    if (index > 0 && before(t, ts->heap[(index - 1) / 2])) sift_up(ts, t, index);
    else sift_down(ts, t, index);
}

void timer_set(struct timers *ts, struct timer *t, int64_t deadline_ns) {
    t->deadline_ns = MAX(deadline_ns, ts->floor_ns);
    t->seq = ts->next_seq++;
    if (timer_armed(t)) {
        settle(ts, t, t->heap_index);
        return;
    }
    if (ts->count == ts->cap) {
        size_t cap = ts->cap ? ts->cap * 2 : 64;
        struct timer **heap = realloc(ts->heap, cap * sizeof *heap);
        ASSERT(heap != NULL);
        ts->heap = heap;
        ts->cap = cap;
    }
    ts->count++;
    sift_up(ts, t, ts->count - 1);
}

void timer_cancel(struct timers *ts, struct timer *t) {
    if (!timer_armed(t)) return;
    size_t index = t->heap_index;
    ASSERT(index < ts->count && ts->heap[index] == t);
    struct timer *last = ts->heap[--ts->count];
    t->heap_index = SIZE_MAX;
    if (last != t) settle(ts, last, index);
}

void timers_run(struct timers *ts, int64_t now_ns) {
    uint64_t limit = ts->next_seq;
    ts->floor_ns = now_ns < INT64_MAX ? now_ns + 1 : INT64_MAX;
    while (ts->count > 0 && ts->heap[0]->deadline_ns <= now_ns && ts->heap[0]->seq < limit) {
        struct timer *t = ts->heap[0];
        timer_cancel(ts, t);
        t->fire(t);
    }
    ts->floor_ns = INT64_MIN;
}

int64_t timers_next(const struct timers *ts) { return ts->count ? ts->heap[0]->deadline_ns : INT64_MAX; }
