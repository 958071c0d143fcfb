/* timers.h - deadlines of one reactor: a binary heap, ties broken by insertion order so that
 * runs are reproducible. Timers are embedded in their owner; nothing is allocated per timer
 * except the heap array, which grows. */
#ifndef BASE_TIMERS_H
#define BASE_TIMERS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/compiler.h"

struct timer {
    int64_t deadline_ns;               /* monotonic clock of base/io.h */
    uint64_t seq;
    size_t heap_index;                 /* SIZE_MAX when not armed; see timer_init */
    void (*fire)(struct timer *t);     /* may re-arm `t` or free its owner */
};
struct timers {
    struct timer **heap;
    size_t count, cap;
    uint64_t next_seq;
    int64_t floor_ns;                  /* during timers_run: earliest deadline that can be armed */
};

void timers_init(struct timers *ts);
void timers_free(struct timers *ts);
void timer_init(struct timer *t, void (*fire)(struct timer *t));
bool timer_armed(const struct timer *t);
/* Arms, or moves when armed. Aborts when memory is out (the array is a few words per timer). */
void timer_set(struct timers *ts, struct timer *t, int64_t deadline_ns);
void timer_cancel(struct timers *ts, struct timer *t); /* harmless when not armed */
/* Fires all due at `now_ns`, oldest first; those armed meanwhile wait for the next call. */
void timers_run(struct timers *ts, int64_t now_ns);
/* INT64_MAX when none is armed. */
int64_t timers_next(const struct timers *ts);
#endif
