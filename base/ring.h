/* ring.h - a thin layer over one io_uring: set-up by probing, submission, one system call a turn.
 * Private to io_uring.c.
 *
 * A ring is created disabled, by any thread, and belongs from ring_start() on to the thread that
 * called it. liburing maps the rings and prepares entries; the rest is here, because the version
 * of Debian 12 (2.3) does not know how to wait with DEFER_TASKRUN and a deadline in one call.
 *
 * Results: 0 or more on success, negative errno. */
#ifndef BASE_RING_H
#define BASE_RING_H
#include <liburing.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/compiler.h"

struct ring {
    struct io_uring uring;
    struct io_uring_buf_ring *buffers; /* provided buffers of group RING_BUFFER_GROUP, owned */
    uint32_t buffer_slots;             /* power of two */
    bool started;
    bool deferred;                     /* completions are run only when the kernel is entered */
    bool flags_work;                   /* ... and the ring's flags say when that is due */
};

#define RING_BUFFER_GROUP 1

/* On failure a phrase in `why`, and nothing is held. */
MUST_CHECK int ring_open(struct ring *r, uint32_t entries, uint32_t buffer_count, char *why, size_t why_len);
void ring_close(struct ring *r);
/* By the thread that owns the ring from now on. `workers_max` caps the kernel's own threads. */
int ring_start(struct ring *r, uint32_t workers_max);

/* NULL: the queue is full, enter first. */
static inline struct io_uring_sqe *ring_entry(struct ring *r) { return io_uring_get_sqe(&r->uring); }
/* Hands what is queued to the kernel and waits for a completion, at most `wait_ns` (INT64_MAX: for
 * ever; 0: does not wait, and without anything to do does not even enter the kernel).
 * -EAGAIN, -EBUSY: take completions, then enter again. */
int ring_enter(struct ring *r, int64_t wait_ns);
/* Gives a buffer to the kernel. */
void ring_buffer_add(struct ring *r, void *buf, uint32_t len, uint16_t id);
#endif
