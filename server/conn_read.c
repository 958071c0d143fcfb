/* conn_read.c - bytes from the socket to whole frames, and when not to read. */
#include <errno.h>
#include <stdlib.h>
#include "base/assert.h"
#include "base/trace.h"
#include "server/conn_impl.h"

static const struct config *config_of(const struct conn *c) { return &c->set->reactor->broker->config; }

static bool frame_is_produce(const struct conn *c) { return load_be16(c->frame->data) == 0; }

/* The answer to a Produce is small, and a Fetch asks how large its own may be. */
static bool asks_for_its_answer(const struct conn *c) { return load_be16(c->frame->data) <= 1; }

/* Whether the complete frame may go to its handler now (conn.h, "Order"; limits of one connection). */
static bool may_start(const struct conn *c) {
    if (c->set->draining) return false;
    if (c->request_count == 0) return true;
    if (c->request_count >= (uint32_t)config_of(c)->inflight_requests_max) return false;
    if (c->held_bytes + c->frame->cap > config_of(c)->inflight_bytes_max) return false;
    if (c->unfinished == 0) return true;
    bool produce = frame_is_produce(c);
    if (!produce || c->unfinished_others > 0) return false;
    struct log_shard *shard = c->set->reactor->shard;
    return !shard || log_shard_pressure(shard) == LOG_PRESSURE_NONE;
}

static int64_t deadline_of(const struct conn *c) {
    return c->set->reactor->now_ns + (int64_t)config_of(c)->receive_timeout_ms * 1000000;
}

static bool frame_complete(const struct conn *c) { return c->frame && c->frame_filled == c->frame_len; }

static void wait_for_memory(struct conn *c) {
    if (!list_empty(&c->starved)) return;
    list_push_back(&c->set->starved, &c->starved);
    c->recv_deadline_ns = deadline_of(c);
}

bool conn_frame_fits(const struct conn_set *set, int64_t size) {
    return set->used_bytes == 0 || set->used_bytes + set->backlog_bytes + size <= set->budget_bytes;
}

bool conn_answers_fit(const struct conn_set *set) {
    return set->reserved_bytes < set->response_budget_bytes - set->response_budget_bytes / RESPONSE_LANE;
}

/* What holds back the others is the last that was begun. It may have an answer already. */
static void hurry_last(struct conn *c) {
    if (c->unfinished_others == 0) return;
    struct request *rq = LIST_ENTRY(c->requests.prev, struct request, link);
    void (*hurry)(struct request *) = rq->hurry;
    rq->hurry = NULL;
    if (!rq->done && hurry) hurry(rq);
}

/* Hands out the complete frame if it may go. */
static bool frame_start(struct conn *c) {
    if (!may_start(c)) {
        hurry_last(c);
        return false;
    }
    if (!asks_for_its_answer(c) && !conn_answers_fit(c->set)) {
        wait_for_memory(c);
        return false;
    }
    struct buf *frame = c->frame;
    c->frame = NULL;
    c->head_len = 0;
    return request_start(c, frame, c->frame_len);
}

/* The size is known: is it allowed, and is there budget? False: closed or starved. */
static bool frame_begin(struct conn *c) {
    struct conn_set *set = c->set;
    int32_t size = (int32_t)load_be32(c->head);
    if (size < CONN_FRAME_BYTES_MIN || size > config_of(c)->socket_request_max_bytes) {
        set->stats.refused_frames++;
        trace_warn("conn", "%s: closing: a frame of %d bytes (socket.request.max.bytes is %d)", c->peer, size,
                   config_of(c)->socket_request_max_bytes);
        conn_close(c, NULL);
        return false;
    }
    if (!conn_frame_fits(set, size)) {
        wait_for_memory(c);
        return false;
    }
    c->frame = buf_new((uint32_t)size, 0);
    if (!c->frame) {
        conn_close(c, "out of memory");
        return false;
    }
    set->used_bytes += c->frame->cap;
    c->frame_len = (uint32_t)size;
    c->frame_filled = 0;
    return true;
}

/* A deep pipeline of requests that are answered at once must not keep the others waiting: after so many, or so long, the
 * rest waits for the next turn. */
static bool had_its_turn(struct conn *c, uint32_t started, int64_t *begun_ns) {
    struct io *io = c->set->reactor->io;
    if (started == 0) return false;
    int64_t now_ns = io_mono_ns(io);
    if (*begun_ns == 0) *begun_ns = now_ns; /* one alone needs no clock */
    if (started < CONN_VISIT_REQUESTS && now_ns - *begun_ns < CONN_VISIT_NS) return false;
    conn_mark_dirty(c);
    return true;
}

/* Takes bytes as long as frames can be made and handed out of them. Returns how many were taken. */
static uint32_t consume(struct conn *c, const uint8_t *p, uint32_t len) {
    uint32_t at = 0, started = 0;
    int64_t begun_ns = 0;
    if (c->muted) return 0;
    while (!c->closing) {
        if (frame_complete(c)) {
            if (had_its_turn(c, started, &begun_ns) || !frame_start(c) || c->muted) break;
            started++;
            continue;
        }
        if (!c->frame && c->head_len < sizeof c->head) {
            if (at == len) break;
            c->head[c->head_len++] = p[at++];
            continue;
        }
        if (!c->frame && !frame_begin(c)) break;
        uint32_t n = MIN(c->frame_len - c->frame_filled, len - at);
        if (n > 0) memcpy(c->frame->data + c->frame_filled, p + at, n);
        c->frame_filled += n;
        at += n;
        if (!frame_complete(c)) break;
    }
    return at;
}

static bool backlog_keep(struct conn *c, const uint8_t *p, uint32_t len) {
    if (len == 0) return true;
    ASSERT(!c->backlog);
    c->backlog = malloc(len);
    if (!c->backlog) {
        conn_close(c, "out of memory");
        return false;
    }
    memcpy(c->backlog, p, len);
    c->backlog_off = 0;
    c->backlog_len = len;
    c->set->backlog_bytes += len;
    return true;
}

static void backlog_consume(struct conn *c) {
    c->backlog_off += consume(c, c->backlog + c->backlog_off, c->backlog_len - c->backlog_off);
    if (c->backlog_off < c->backlog_len) return;
    c->set->backlog_bytes -= c->backlog_len;
    free(c->backlog);
    c->backlog = NULL;
    c->backlog_len = c->backlog_off = 0;
}

/* A deadline runs while a request is on its way here; not while the connection is idle. It is
 * not moved by bytes of the size field, so a frame cannot be begun for ever. */
static void receive(struct conn *c) {
    struct io_op *op = &c->recv_op;
    memset(op, 0, sizeof *op);
    op->kind = IO_RECV;
    op->fd = c->fd;
    op->done = conn_recv_done;
    list_init(&op->link);
    if (c->frame) {
        op->buf = c->frame->data + c->frame_filled;
        op->len = MIN(c->frame_len - c->frame_filled, CONN_CHUNK_BYTES);
        op->flags = IO_WAITALL;
        c->recv_deadline_ns = deadline_of(c);
    } else {
        op->flags = IO_POOLED;
        if (c->head_len == 0) c->recv_deadline_ns = INT64_MAX;
        else if (c->recv_deadline_ns == INT64_MAX) c->recv_deadline_ns = deadline_of(c);
    }
    c->receiving = true;
    io_submit(c->set->reactor->io, op);
}

void conn_read(struct conn *c) {
    if (c->closing || c->receiving || c->muted) return;
    if (c->backlog) backlog_consume(c);
    else (void)consume(c, NULL, 0); /* a frame that had to wait */
    if (c->closing || c->backlog || c->set->draining || c->muted) return;
    if (frame_complete(c) || !list_empty(&c->starved)) return;
    if (c->head_len == sizeof c->head && !c->frame) return;
    receive(c);
}

void conn_recv_done(struct io_op *op) {
    struct conn *c = CONTAINER_OF(op, struct conn, recv_op);
    c->receiving = false;
    int64_t n = op->result;
    bool pooled = op->flags & IO_POOLED;
    if (n > 0) {
        c->active_ns = c->set->reactor->now_ns;
        if (!pooled) {
            c->frame_filled += (uint32_t)n;
        } else if (c->closing) {
            io_recv_release(c->set->reactor->io, op->buf);
        } else {
            uint32_t taken = consume(c, op->buf, (uint32_t)n);
            if (!c->closing) (void)backlog_keep(c, (const uint8_t *)op->buf + taken, (uint32_t)n - taken);
            io_recv_release(c->set->reactor->io, op->buf);
        }
    } else if (n != -ENOBUFS && n != -EAGAIN && n != -EINTR) { /* those: no lent buffer just now */
        conn_close(c, NULL);
    }
    if (c->closing) conn_mark_dirty(c);
    else if (list_empty(&c->dirty)) conn_read(c); /* else its visit does it */
}
