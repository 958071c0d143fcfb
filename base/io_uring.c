/* The I/O of production: one io_uring for each reactor, one system call a turn.
 *
 * Life of an op (its `stage`):
 *   QUEUED   in `queued`, in the order of submission, until the next turn makes a ring entry of it
 *   KERNEL   the kernel has it; `cancels` holds those that are to be called back
 *   STARVED  a pooled receive that found no buffer: waits for one to be given back
 *   HELPED   IO_WORK and IO_SYNC_ALL, with the helper threads
 *   READY    `done` runs at the end of this turn or in the next
 * A send that went out in part, or a WAITALL receive that came in part, goes back to QUEUED.
 *
 * A full submission queue loses nothing: what found no entry stays in `queued`, and the turn then
 * does not sleep. File operations are never retried in parts: the caller hears of short counts. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "base/assert.h"
#include "base/io_posix.h"
#include "base/recv_pool.h"
#include "base/ring.h"

/* What an entry's user_data is when it is not an op. */
#define TAG_WAKE 1u
#define TAG_NONE 2u

enum stage { STAGE_QUEUED, STAGE_KERNEL, STAGE_STARVED, STAGE_HELPED, STAGE_READY };

/* What an op keeps in io_op.impl. */
struct progress {
    enum stage stage;
    uint32_t iov_index;   /* IO_SEND: the first part that has not gone out whole, */
    uint64_t iov_offset;  /* and how much of it has */
    uint64_t bytes;       /* moved so far: IO_SEND, IO_RECV with IO_WAITALL */
    union {
        struct msghdr msg;
        socklen_t addr_len;
    };
};
STATIC_ASSERT(sizeof(struct progress) <= sizeof(((struct io_op *)0)->impl));

struct uring_io {
    struct io io;
    struct ring ring;
    struct recv_pool pool;        /* only the slab: the free ones are with the kernel, */
    uint32_t kernel_buffers;      /* so many */
    uint32_t workers_max;
    int wake_fd;
    bool wake_armed;
    struct list queued, cancels, starved, ready; /* of io_op.link */
    struct helpers helpers;
    atomic_bool woken, sleeping;
};

static struct uring_io *self(struct io *io) { return CONTAINER_OF(io, struct uring_io, io); }
static struct progress *progress_of(struct io_op *op) { return (struct progress *)op->impl; }

static void move_to(struct io_op *op, struct list *to, enum stage stage) {
    list_push_back(to, &op->link);
    progress_of(op)->stage = stage;
}

static void finish(struct uring_io *u, struct io_op *op, int64_t result) {
    op->result = result;
    move_to(op, &u->ready, STAGE_READY);
}

/* ---- from op to ring entry -------------------------------------------------------------------- */

/* What is left of the send: a part that went out half by itself, whole parts together. */
static void prepare_send(struct io_uring_sqe *sqe, struct io_op *op) {
    struct progress *p = progress_of(op);
    const int flags = MSG_NOSIGNAL | MSG_WAITALL;
    const struct iovec *next = &op->iov[p->iov_index];
    uint32_t left = op->iov_count - p->iov_index;
    if (p->iov_offset > 0 || left == 1) {
        io_uring_prep_send(sqe, op->fd, (uint8_t *)next->iov_base + p->iov_offset, next->iov_len - p->iov_offset, flags);
        return;
    }
    p->msg = (struct msghdr){.msg_iov = (struct iovec *)(uintptr_t)next, .msg_iovlen = left};
    io_uring_prep_sendmsg(sqe, op->fd, &p->msg, flags);
}

static void prepare_recv(struct io_uring_sqe *sqe, struct io_op *op) {
    struct progress *p = progress_of(op);
    if (op->flags & IO_POOLED) {
        io_uring_prep_recv(sqe, op->fd, NULL, IO_POOLED_RECV_BYTES, 0);
        sqe->flags |= IOSQE_BUFFER_SELECT;
        sqe->buf_group = RING_BUFFER_GROUP;
    } else {
        int flags = op->flags & IO_WAITALL ? MSG_WAITALL : 0;
        io_uring_prep_recv(sqe, op->fd, (uint8_t *)op->buf + p->bytes, op->len - p->bytes, flags);
    }
}

static void prepare(struct io_uring_sqe *sqe, struct io_op *op) {
    struct progress *p = progress_of(op);
    switch (op->kind) {
    case IO_READ: io_uring_prep_read(sqe, op->fd, op->buf, op->len, op->offset); break;
    case IO_WRITE:
        if (op->iov_count == 1)
            io_uring_prep_write(sqe, op->fd, op->iov->iov_base, (unsigned)op->iov->iov_len, op->offset);
        else
            io_uring_prep_writev(sqe, op->fd, op->iov, op->iov_count, op->offset);
        if (op->flags & IO_DSYNC) sqe->rw_flags = RWF_DSYNC;
        break;
    case IO_SYNC: io_uring_prep_fsync(sqe, op->fd, IORING_FSYNC_DATASYNC); break;
    case IO_UNLINK: io_uring_prep_unlink(sqe, op->path, 0); break;
    case IO_ACCEPT: /* TCP_NODELAY comes from the listener */
        p->addr_len = sizeof op->addr;
        io_uring_prep_accept(sqe, op->fd, (struct sockaddr *)&op->addr, &p->addr_len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        break;
    case IO_CONNECT: io_uring_prep_connect(sqe, op->fd, (struct sockaddr *)&op->addr, sockaddr_len(&op->addr)); break;
    case IO_RECV: prepare_recv(sqe, op); break;
    case IO_SEND: prepare_send(sqe, op); break;
    case IO_SYNC_ALL:
    case IO_WORK: ASSERT(!"goes to the helpers");
    }
    io_uring_sqe_set_data(sqe, op);
}

/* Entries for all that is queued, entering the kernel whenever the queue is full. False: the
 * kernel takes no more before completions are taken from it. */
static bool queue_entries(struct uring_io *u) {
    for (;;) {
        bool call_back = !list_empty(&u->cancels);
        if (u->wake_armed && !call_back && list_empty(&u->queued)) return true;
        struct io_uring_sqe *sqe = ring_entry(&u->ring);
        if (!sqe && ring_enter(&u->ring, 0) >= 0) sqe = ring_entry(&u->ring);
        if (!sqe) return false;
        if (!u->wake_armed) {
            io_uring_prep_poll_multishot(sqe, u->wake_fd, POLLIN);
            io_uring_sqe_set_data64(sqe, TAG_WAKE);
            u->wake_armed = true;
        } else if (call_back) {
            struct io_op *op = LIST_ENTRY(list_pop_front(&u->cancels), struct io_op, link);
            io_uring_prep_cancel64(sqe, (uint64_t)(uintptr_t)op, 0);
            io_uring_sqe_set_data64(sqe, TAG_NONE);
            sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
        } else {
            struct io_op *op = LIST_ENTRY(list_pop_front(&u->queued), struct io_op, link);
            prepare(sqe, op);
            progress_of(op)->stage = STAGE_KERNEL;
        }
    }
}

/* ---- completions ------------------------------------------------------------------------------ */

static void give_buffer(struct uring_io *u, uint32_t index) {
    ring_buffer_add(&u->ring, recv_pool_at(&u->pool, index), IO_POOLED_RECV_BYTES, (uint16_t)index);
    u->kernel_buffers++;
}

static void requeue(struct uring_io *u, struct io_op *op) {
    if (op->cancelled) finish(u, op, -ECANCELED);
    else move_to(op, &u->queued, STAGE_QUEUED);
}

static void complete_pooled(struct uring_io *u, struct io_op *op, int result, uint32_t flags) {
    if (flags & IORING_CQE_F_BUFFER) {
        uint32_t index = flags >> IORING_CQE_BUFFER_SHIFT;
        ASSERT(u->kernel_buffers > 0);
        u->kernel_buffers--;
        if (result > 0) op->buf = recv_pool_at(&u->pool, index);
        else give_buffer(u, index);
    }
    if (result == -ENOBUFS && !op->cancelled) move_to(op, &u->starved, STAGE_STARVED);
    else finish(u, op, result == -ENOBUFS ? -ECANCELED : result);
}

/* A short count is not the end yet: that shows as 0 at the next try. */
static void complete_waitall(struct uring_io *u, struct io_op *op, int result) {
    struct progress *p = progress_of(op);
    if (result > 0) p->bytes += (uint32_t)result;
    if (result > 0 && p->bytes < op->len) requeue(u, op);
    else finish(u, op, result < 0 && p->bytes == 0 ? result : (int64_t)p->bytes);
}

static void complete_send(struct uring_io *u, struct io_op *op, int result) {
    struct progress *p = progress_of(op);
    if (result < 0) {
        finish(u, op, result);
        return;
    }
    p->bytes += (uint32_t)result;
    uint64_t gone = p->iov_offset + (uint32_t)result;
    while (p->iov_index < op->iov_count && gone >= op->iov[p->iov_index].iov_len)
        gone -= op->iov[p->iov_index++].iov_len;
    p->iov_offset = gone;
    if (p->iov_index == op->iov_count) finish(u, op, (int64_t)p->bytes);
    else requeue(u, op);
}

static void complete(struct uring_io *u, struct io_op *op, int result, uint32_t flags) {
    list_remove(&op->link); /* from `cancels`, if it waited to be called back */
    bool waitall = op->kind == IO_RECV && (op->flags & IO_WAITALL);
    if (result == -EINTR || (result == -ECONNABORTED && op->kind == IO_ACCEPT)) requeue(u, op);
    else if (op->kind == IO_SEND) complete_send(u, op, result);
    else if (op->kind == IO_RECV && (op->flags & IO_POOLED)) complete_pooled(u, op, result, flags);
    else if (waitall) complete_waitall(u, op, result);
    else finish(u, op, result);
}

static void take_completions(struct uring_io *u) {
    struct io_uring_cqe *cqe;
    unsigned head, taken = 0;
    io_uring_for_each_cqe(&u->ring.uring, head, cqe) {
        uint64_t data = io_uring_cqe_get_data64(cqe);
        taken++;
        if (data == TAG_WAKE) u->wake_armed = cqe->flags & IORING_CQE_F_MORE;
        else if (data != TAG_NONE) complete(u, (struct io_op *)(uintptr_t)data, cqe->res, cqe->flags);
    }
    io_uring_cq_advance(&u->ring.uring, taken);
}

static void run_callbacks(struct uring_io *u) {
    struct list batch;
    list_init(&batch);
    helpers_collect(&u->helpers, &batch);
    LIST_FOREACH(it, &batch) progress_of(LIST_ENTRY(it, struct io_op, link))->stage = STAGE_READY;
    while (!list_empty(&u->ready)) list_push_back(&batch, list_pop_front(&u->ready));
    struct list *node;
    while ((node = list_pop_front(&batch))) {
        struct io_op *op = LIST_ENTRY(node, struct io_op, link);
        op->in_flight = false;
        op->done(op);
    }
}

/* ---- the vtable ------------------------------------------------------------------------------- */

static void uring_submit(struct io *io, struct io_op *op) {
    struct uring_io *u = self(io);
    ASSERT(!op->in_flight);
    op->in_flight = true;
    op->cancelled = false;
    op->result = 0;
    *progress_of(op) = (struct progress){0};
    if (op->kind == IO_WORK || op->kind == IO_SYNC_ALL) {
        list_init(&op->link);
        progress_of(op)->stage = STAGE_HELPED;
        helpers_submit(&u->helpers, op);
    } else if (op->kind == IO_SEND && op->iov_count == 0) {
        finish(u, op, 0);
    } else {
        move_to(op, &u->queued, STAGE_QUEUED);
    }
}

static void uring_cancel(struct io *io, struct io_op *op) {
    struct uring_io *u = self(io);
    if (!op->in_flight || op->cancelled) return;
    op->cancelled = true;
    switch (progress_of(op)->stage) {
    case STAGE_READY: break;
    case STAGE_HELPED: helpers_cancel(&u->helpers, op); break;
    case STAGE_KERNEL: list_push_back(&u->cancels, &op->link); break;
    case STAGE_QUEUED:
    case STAGE_STARVED:
        list_remove(&op->link);
        finish(u, op, -ECANCELED);
        break;
    }
}

static void uring_recv_release(struct io *io, void *buf) {
    struct uring_io *u = self(io);
    give_buffer(u, recv_pool_index(&u->pool, buf));
}

/* As many as there are buffers get another try; who turns out to have no data only waits. */
static void feed_starved(struct uring_io *u) {
    for (uint32_t n = u->kernel_buffers; n > 0 && !list_empty(&u->starved); n--)
        move_to(LIST_ENTRY(list_pop_front(&u->starved), struct io_op, link), &u->queued, STAGE_QUEUED);
}

static int64_t time_to_wait(struct uring_io *u, int64_t deadline_ns, bool all_queued) {
    if (!all_queued || !list_empty(&u->ready)) return 0;
    if (!list_empty(&u->starved) && u->kernel_buffers > 0) return 0;
    if (deadline_ns == INT64_MAX) return INT64_MAX;
    return deadline_ns <= 0 ? 0 : MAX(deadline_ns - posix_mono_ns(&u->io), 0);
}

static int uring_turn(struct io *io, int64_t deadline_ns) {
    struct uring_io *u = self(io);
    if (!u->ring.started) {
        int started = ring_start(&u->ring, u->workers_max);
        if (started < 0) return started;
    }
    feed_starved(u);
    bool all_queued = queue_entries(u);
    int64_t wait_ns = time_to_wait(u, deadline_ns, all_queued);
    atomic_store(&u->sleeping, wait_ns > 0);
    if (atomic_load(&u->woken)) wait_ns = 0;
    int result = ring_enter(&u->ring, wait_ns);
    atomic_store(&u->sleeping, false);
    atomic_store(&u->woken, false);
    take_completions(u);
    run_callbacks(u);
    return result < 0 && result != -EAGAIN && result != -EBUSY ? result : 0;
}

/* Who finds `woken` set relies on the one who set it; a loop that is not asleep looks at `woken`
 * before it sleeps. Both variables are sequentially consistent. The eventfd is never read: the
 * ring polls it by edges, and its counter takes 2^64 wake-ups. */
static void uring_wake(struct io *io) {
    struct uring_io *u = self(io);
    if (atomic_exchange(&u->woken, true) || !atomic_load(&u->sleeping)) return;
    uint64_t one = 1;
    ssize_t n = write(u->wake_fd, &one, sizeof one);
    (void)n; /* cannot fail: the counter never gets near its end */
}

static void uring_destroy(struct io *io) {
    struct uring_io *u = self(io);
    ASSERT(list_empty(&u->queued) && list_empty(&u->starved) && list_empty(&u->ready));
    helpers_free(&u->helpers);
    ring_close(&u->ring);
    recv_pool_free(&u->pool);
    close(u->wake_fd);
    free(u);
}

static void uring_detach(struct io *io, int fd) { (void)io, (void)fd; } /* nothing is kept for a socket between its ops */

static const struct io_vtable uring_vtable = {
    .name = "io_uring",
    POSIX_CALLS,
    .close = posix_close,
    .detach = uring_detach,
    .recv_release = uring_recv_release,
    .submit = uring_submit,
    .cancel = uring_cancel,
    .turn = uring_turn,
    .wake = uring_wake,
    .mono_ns = posix_mono_ns,
    .wall_ms = posix_wall_ms,
    .entropy = posix_entropy,
    .fatal = posix_fatal,
    .destroy = uring_destroy,
};

struct io *io_uring_create(const struct io_config *cfg, char *why, size_t why_len) {
    uint32_t buffers = cfg->pooled_recv_buffers ? cfg->pooled_recv_buffers : 64;
    uint32_t entries = cfg->ring_entries ? cfg->ring_entries : 1024;
    struct uring_io *u = calloc(1, sizeof *u);
    if (!u || !recv_pool_init(&u->pool, buffers)) {
        snprintf(why, why_len, "out of memory");
        free(u);
        return NULL;
    }
    u->io.v = &uring_vtable;
    u->workers_max = cfg->helper_threads ? cfg->helper_threads : 4;
    list_init(&u->queued);
    list_init(&u->cancels);
    list_init(&u->starved);
    list_init(&u->ready);
    if (ring_open(&u->ring, entries, buffers, why, why_len) < 0) goto no_ring;
    u->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (u->wake_fd < 0) {
        snprintf(why, why_len, "eventfd: %s", strerror(errno));
        goto no_eventfd;
    }
    if (helpers_init(&u->helpers, &u->io, cfg->helper_threads, posix_run_op) < 0) {
        snprintf(why, why_len, "out of memory");
        goto no_helpers;
    }
    for (uint32_t i = 0; i < buffers; i++) give_buffer(u, i);
    return &u->io;
no_helpers:
    close(u->wake_fd);
no_eventfd:
    ring_close(&u->ring);
no_ring:
    recv_pool_free(&u->pool);
    free(u);
    return NULL;
}
