/* The I/O of containers that forbid io_uring: epoll for sockets, helper threads for files and work.
 *
 * Life of an op (its `stage`):
 *   socket ops   QUEUED -> tried in turn() -> READY, or WAITING on their fd until epoll reports it
 *   pooled recv  may also wait STARVED, for somebody to give a buffer back
 *   the others   HELPED: with the helper threads, which wake the loop when one is finished
 *   READY        `done` runs at the end of this turn or in the next
 *
 * epoll is edge-triggered and a socket is registered once, when an op first has to wait: an op is
 * always tried before it waits, so an edge between two tries cannot be missed. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "base/assert.h"
#include "base/io_posix.h"
#include "base/recv_pool.h"

#define EVENTS_MAX 256
#define SEND_IOV_BATCH 64

enum stage { STAGE_QUEUED, STAGE_WAITING, STAGE_STARVED, STAGE_HELPED, STAGE_READY };

/* What an op keeps in io_op.impl. */
struct progress {
    enum stage stage;
    bool connecting;
    uint64_t bytes;  /* moved so far: IO_SEND, IO_RECV with IO_WAITALL */
};
STATIC_ASSERT(sizeof(struct progress) <= sizeof(((struct io_op *)0)->impl));

/* One socket that ops have waited for. */
struct watch {
    bool registered;
    struct list readers, writers; /* of io_op.link */
};

struct blocking_io {
    struct io io;
    int epoll_fd, wake_fd;
    struct watch **watches;       /* by fd; NULL where none was needed */
    size_t watch_count;
    struct list queued, starved, ready;
    struct recv_pool pool;
    struct helpers helpers;
    atomic_bool woken, sleeping;
};

static struct blocking_io *self(struct io *io) { return CONTAINER_OF(io, struct blocking_io, io); }
static struct progress *progress_of(struct io_op *op) { return (struct progress *)op->impl; }

static void move_to(struct io_op *op, struct list *to, enum stage stage) {
    list_push_back(to, &op->link);
    progress_of(op)->stage = stage;
}

static void finish(struct blocking_io *b, struct io_op *op, int64_t result) {
    op->result = result;
    move_to(op, &b->ready, STAGE_READY);
}

/* ---- one try of a socket op: a result, or -EAGAIN ------------------------------------------- */

static int64_t try_accept(struct io_op *op) {
    socklen_t len = sizeof op->addr;
    int fd; /* TCP_NODELAY comes from the listener */
    do {
        fd = accept4(op->fd, (struct sockaddr *)&op->addr, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    } while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
    return fd < 0 ? -errno : fd;
}

static int64_t try_connect(struct io_op *op) {
    struct progress *p = progress_of(op);
    if (!p->connecting) {
        p->connecting = true;
        if (connect(op->fd, (struct sockaddr *)&op->addr, sockaddr_len(&op->addr)) == 0) return 0;
        return errno == EINPROGRESS || errno == EINTR ? -EAGAIN : -errno;
    }
    struct sockaddr_storage peer;
    socklen_t len = sizeof peer;
    if (getpeername(op->fd, (struct sockaddr *)&peer, &len) == 0) return 0;
    int error = 0;
    len = sizeof error;
    if (getsockopt(op->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0) return -errno;
    return error ? -error : -EAGAIN;
}

static int64_t recv_once(int fd, void *buf, size_t len) {
    ssize_t n;
    do {
        n = recv(fd, buf, len, 0);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static int64_t try_recv_pooled(struct blocking_io *b, struct io_op *op) {
    void *buf = recv_pool_take(&b->pool);
    if (!buf) return -ENOBUFS;
    int64_t n = recv_once(op->fd, buf, IO_POOLED_RECV_BYTES);
    if (n > 0) op->buf = buf;
    else recv_pool_give(&b->pool, buf);
    return n;
}

static int64_t try_recv(struct io_op *op) {
    if (!(op->flags & IO_WAITALL)) return recv_once(op->fd, op->buf, op->len);
    struct progress *p = progress_of(op);
    while (p->bytes < op->len) {
        int64_t n = recv_once(op->fd, (uint8_t *)op->buf + p->bytes, op->len - p->bytes);
        if (n == -EAGAIN) return n;
        if (n < 0 && p->bytes == 0) return n;
        if (n <= 0) break;
        p->bytes += (uint64_t)n;
    }
    return (int64_t)p->bytes;
}

/* The part of `op->iov` behind `sent` bytes, at most SEND_IOV_BATCH entries of it. */
static size_t iov_rest(const struct io_op *op, uint64_t sent, struct iovec *rest) {
    size_t count = 0;
    for (uint32_t i = 0; i < op->iov_count && count < SEND_IOV_BATCH; i++) {
        size_t len = op->iov[i].iov_len;
        if (sent >= len) {
            sent -= len;
            continue;
        }
        rest[count++] = (struct iovec){(uint8_t *)op->iov[i].iov_base + sent, len - sent};
        sent = 0;
    }
    return count;
}

static int64_t try_send(struct io_op *op) {
    struct progress *p = progress_of(op);
    struct iovec rest[SEND_IOV_BATCH];
    for (;;) {
        struct msghdr msg = {.msg_iov = rest, .msg_iovlen = iov_rest(op, p->bytes, rest)};
        if (msg.msg_iovlen == 0) return (int64_t)p->bytes;
        ssize_t n = sendmsg(op->fd, &msg, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return -errno;
        p->bytes += (uint64_t)n;
    }
}

static int64_t try_op(struct blocking_io *b, struct io_op *op) {
    switch (op->kind) {
    case IO_ACCEPT: return try_accept(op);
    case IO_CONNECT: return try_connect(op);
    case IO_RECV: return op->flags & IO_POOLED ? try_recv_pooled(b, op) : try_recv(op);
    case IO_SEND: return try_send(op);
    default: ASSERT(!"not a socket operation"); return -EINVAL;
    }
}

/* ---- waiting ---------------------------------------------------------------------------------- */

static struct watch *watch_get(struct blocking_io *b, int fd) {
    size_t index = (size_t)fd;
    if (index >= b->watch_count) {
        size_t count = MAX(index + 1, b->watch_count * 2);
        struct watch **watches = realloc(b->watches, count * sizeof(*watches));
        if (!watches) return NULL;
        memset(watches + b->watch_count, 0, (count - b->watch_count) * sizeof(*watches));
        b->watches = watches;
        b->watch_count = count;
    }
    if (!b->watches[index]) {
        struct watch *w = malloc(sizeof *w);
        if (!w) return NULL;
        w->registered = false;
        list_init(&w->readers);
        list_init(&w->writers);
        b->watches[index] = w;
    }
    return b->watches[index];
}

static int wait_for(struct blocking_io *b, struct io_op *op) {
    struct watch *w = watch_get(b, op->fd);
    if (!w) return -ENOMEM;
    bool writes = op->kind == IO_SEND || op->kind == IO_CONNECT;
    if (!w->registered) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.fd = op->fd};
        if (epoll_ctl(b->epoll_fd, EPOLL_CTL_ADD, op->fd, &event) < 0) return -errno;
        w->registered = true;
    }
    move_to(op, writes ? &w->writers : &w->readers, STAGE_WAITING);
    return 0;
}

/* `op` is in no list. Leaves it in one. */
static void advance(struct blocking_io *b, struct io_op *op) {
    if (op->fd < 0) {
        finish(b, op, -EBADF);
        return;
    }
    int64_t result = try_op(b, op);
    if (result == -ENOBUFS && op->kind == IO_RECV && (op->flags & IO_POOLED)) {
        move_to(op, &b->starved, STAGE_STARVED);
        return;
    }
    if (result == -EAGAIN) result = wait_for(b, op);
    else {
        finish(b, op, result);
        return;
    }
    if (result < 0) finish(b, op, result);
}

static void advance_all(struct blocking_io *b, struct list *from) {
    struct list batch;
    list_init(&batch);
    while (!list_empty(from)) list_push_back(&batch, list_pop_front(from));
    struct list *node;
    while ((node = list_pop_front(&batch))) advance(b, LIST_ENTRY(node, struct io_op, link));
}

/* ---- the vtable ------------------------------------------------------------------------------- */

static void blocking_submit(struct io *io, struct io_op *op) {
    struct blocking_io *b = self(io);
    ASSERT(!op->in_flight);
    op->in_flight = true;
    op->cancelled = false;
    op->result = 0;
    *progress_of(op) = (struct progress){0};
    switch (op->kind) {
    case IO_ACCEPT:
    case IO_CONNECT:
    case IO_RECV:
    case IO_SEND:
        move_to(op, &b->queued, STAGE_QUEUED);
        break;
    default:
        list_init(&op->link);
        progress_of(op)->stage = STAGE_HELPED;
        helpers_submit(&b->helpers, op);
    }
}

static void blocking_cancel(struct io *io, struct io_op *op) {
    struct blocking_io *b = self(io);
    if (!op->in_flight) return;
    op->cancelled = true;
    switch (progress_of(op)->stage) {
    case STAGE_READY: break;
    case STAGE_HELPED: helpers_cancel(&b->helpers, op); break;
    case STAGE_QUEUED:
    case STAGE_WAITING:
    case STAGE_STARVED:
        list_remove(&op->link);
        finish(b, op, -ECANCELED);
        break;
    }
}

/* Whether epoll knew it. */
static bool watch_drop(struct blocking_io *b, int fd) {
    if (fd < 0 || (size_t)fd >= b->watch_count || !b->watches[fd]) return false;
    struct watch *w = b->watches[fd];
    bool registered = w->registered;
    ASSERT(list_empty(&w->readers) && list_empty(&w->writers));
    free(w);
    b->watches[fd] = NULL;
    return registered;
}

static int blocking_close(struct io *io, int fd) {
    watch_drop(self(io), fd); /* epoll itself forgets a closed socket */
    return posix_close(io, fd);
}

static void blocking_detach(struct io *io, int fd) {
    struct blocking_io *b = self(io);
    if (watch_drop(b, fd)) (void)epoll_ctl(b->epoll_fd, EPOLL_CTL_DEL, fd, NULL); /* events that come all the same meet no watch */
}

static void blocking_recv_release(struct io *io, void *buf) {
    struct blocking_io *b = self(io);
    recv_pool_give(&b->pool, buf);
}

/* As many as there are buffers get another try; who turns out to have no data only waits. */
static void feed_starved(struct blocking_io *b) {
    for (uint32_t n = b->pool.free_count; n > 0 && !list_empty(&b->starved); n--)
        move_to(LIST_ENTRY(list_pop_front(&b->starved), struct io_op, link), &b->queued, STAGE_QUEUED);
}

/* Milliseconds for epoll_wait, rounded up so that a deadline has passed when it returns. */
static int timeout_ms(struct blocking_io *b, int64_t deadline_ns) {
    if (!list_empty(&b->ready) || !list_empty(&b->queued)) return 0;
    if (!list_empty(&b->starved) && b->pool.free_count > 0) return 0;
    if (deadline_ns == INT64_MAX) return -1;
    int64_t left_ns = deadline_ns - posix_mono_ns(&b->io);
    if (left_ns <= 0) return 0;
    return (int)MIN((left_ns + 999999) / 1000000, (int64_t)3600 * 1000);
}

static void take_events(struct blocking_io *b, const struct epoll_event *events, int count) {
    for (int i = 0; i < count; i++) {
        int fd = events[i].data.fd;
        if (fd == b->wake_fd) {
            uint64_t wakes;
            ssize_t n = read(fd, &wakes, sizeof wakes);
            (void)n; /* non-blocking, only to clear it */
            continue;
        }
        struct watch *w = (size_t)fd < b->watch_count ? b->watches[fd] : NULL;
        if (!w) continue;
        if (events[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) advance_all(b, &w->readers);
        if (events[i].events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) advance_all(b, &w->writers);
    }
}

static void run_callbacks(struct blocking_io *b) {
    struct list batch;
    list_init(&batch);
    helpers_collect(&b->helpers, &batch);
    LIST_FOREACH(it, &batch) progress_of(LIST_ENTRY(it, struct io_op, link))->stage = STAGE_READY;
    while (!list_empty(&b->ready)) list_push_back(&batch, list_pop_front(&b->ready));
    struct list *node;
    while ((node = list_pop_front(&batch))) {
        struct io_op *op = LIST_ENTRY(node, struct io_op, link);
        op->in_flight = false;
        op->done(op);
    }
}

static int blocking_turn(struct io *io, int64_t deadline_ns) {
    struct blocking_io *b = self(io);
    struct epoll_event events[EVENTS_MAX];
    feed_starved(b);
    advance_all(b, &b->queued);
    int timeout = timeout_ms(b, deadline_ns);
    atomic_store(&b->sleeping, true);
    if (atomic_load(&b->woken)) timeout = 0;
    int count = epoll_wait(b->epoll_fd, events, EVENTS_MAX, timeout);
    int error = count < 0 && errno != EINTR ? -errno : 0;
    atomic_store(&b->sleeping, false);
    atomic_store(&b->woken, false);
    take_events(b, events, count);
    run_callbacks(b);
    return error;
}

/* Who finds `woken` set relies on the one who set it; a loop that is not asleep looks at `woken`
 * before it sleeps. Both variables are sequentially consistent. */
static void blocking_wake(struct io *io) {
    struct blocking_io *b = self(io);
    if (atomic_exchange(&b->woken, true) || !atomic_load(&b->sleeping)) return;
    uint64_t one = 1;
    ssize_t n = write(b->wake_fd, &one, sizeof one);
    (void)n; /* fails only when the counter is full: then it is awake */
}

static void blocking_destroy(struct io *io) {
    struct blocking_io *b = self(io);
    ASSERT(list_empty(&b->queued) && list_empty(&b->starved) && list_empty(&b->ready));
    helpers_free(&b->helpers);
    for (size_t i = 0; i < b->watch_count; i++) free(b->watches[i]);
    free(b->watches);
    recv_pool_free(&b->pool);
    close(b->epoll_fd);
    close(b->wake_fd);
    free(b);
}

static const struct io_vtable blocking_vtable = {
    .name = "blocking",
    POSIX_CALLS,
    .close = blocking_close,
    .detach = blocking_detach,
    .recv_release = blocking_recv_release,
    .submit = blocking_submit,
    .cancel = blocking_cancel,
    .turn = blocking_turn,
    .wake = blocking_wake,
    .mono_ns = posix_mono_ns,
    .wall_ms = posix_wall_ms,
    .entropy = posix_entropy,
    .fatal = posix_fatal,
    .destroy = blocking_destroy,
};

static int open_loop(struct blocking_io *b) {
    b->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (b->epoll_fd < 0) return -errno;
    b->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (b->wake_fd < 0) return -errno;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = b->wake_fd};
    return epoll_ctl(b->epoll_fd, EPOLL_CTL_ADD, b->wake_fd, &event) < 0 ? -errno : 0;
}

struct io *io_blocking_create(const struct io_config *cfg, char *why, size_t why_len) {
    struct blocking_io *b = calloc(1, sizeof *b);
    if (!b) {
        snprintf(why, why_len, "out of memory");
        return NULL;
    }
    b->io.v = &blocking_vtable;
    b->epoll_fd = b->wake_fd = -1;
    list_init(&b->queued);
    list_init(&b->starved);
    list_init(&b->ready);
    const char *step = "epoll";
    int error = open_loop(b);
    bool pooled = false;
    if (!error) {
        step = "receive buffers";
        pooled = recv_pool_init(&b->pool, cfg->pooled_recv_buffers ? cfg->pooled_recv_buffers : 64);
        error = pooled ? helpers_init(&b->helpers, &b->io, cfg->helper_threads, posix_run_op) : -ENOMEM;
    }
    if (!error) return &b->io;
    snprintf(why, why_len, "%s: %s", step, strerror(-error));
    if (pooled) recv_pool_free(&b->pool);
    if (b->epoll_fd >= 0) close(b->epoll_fd);
    if (b->wake_fd >= 0) close(b->wake_fd);
    free(b);
    return NULL;
}
