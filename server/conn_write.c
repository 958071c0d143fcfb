/* conn_write.c - responses to the socket: in request order, several in one send, a chunk at a time. */
#include <stdlib.h>
#include "base/assert.h"
#include "base/trace.h"
#include "server/conn_impl.h"

static struct request *front(const struct conn *c) {
    return list_empty(&c->requests) ? NULL : LIST_ENTRY(c->requests.next, struct request, link);
}

static void front_drop(struct conn *c) {
    struct request *rq = front(c);
    bool close_after = rq->close_after && !rq->no_reply;
    list_remove(&rq->link);
    c->request_count--;
    c->held_bytes -= rq->held_bytes;
    request_free(rq);
    if (close_after) conn_close(c, NULL);
}

static bool iov_reserve(struct conn *c, uint32_t count) {
    if (count <= c->iov_cap) return true;
    uint32_t cap = MAX(count, MAX(c->iov_cap * 2, 16u));
    struct iovec *grown = realloc(c->iov, cap * sizeof *grown);
    if (!grown) return false;
    c->iov = grown;
    c->iov_cap = cap;
    return true;
}

/* Collects finished responses from the front. False: out of memory. */
static bool batch_gather(struct conn *c) {
    size_t bytes = 0;
    c->iov_count = c->iov_pos = c->batch = 0;
    LIST_FOREACH(it, &c->requests) {
        struct request *rq = LIST_ENTRY(it, struct request, link);
        if (!rq->done || bytes >= CONN_GATHER_BYTES) break;
        if (!rq->no_reply) {
            uint32_t most = 2 * rq->out.ref_count + 1;
            if (!iov_reserve(c, c->iov_count + most)) return false;
            c->iov_count += wire_writer_iov(&rq->out, c->iov + c->iov_count, most);
            bytes += wire_writer_total(&rq->out);
        }
        request_slim(rq);
        c->batch++;
        if (rq->close_after) break;
    }
    return true;
}

/* Sends the next chunk of the gathered batch. */
static void window_send(struct conn *c) {
    struct io_op *op = &c->send_op;
    uint32_t n = 0;
    c->window_bytes = 0;
    c->iov_rest = (struct iovec){NULL, 0};
    while (n < IO_IOV_MAX && c->iov_pos + n < c->iov_count && c->window_bytes < CONN_CHUNK_BYTES) {
        struct iovec *v = &c->iov[c->iov_pos + n++];
        size_t room = CONN_CHUNK_BYTES - c->window_bytes;
        if (v->iov_len > room) {
            c->iov_rest = (struct iovec){(char *)v->iov_base + room, v->iov_len - room};
            v->iov_len = room;
        }
        c->window_bytes += v->iov_len;
    }
    c->iov_window = n;
    memset(op, 0, sizeof *op);
    op->kind = IO_SEND;
    op->fd = c->fd;
    op->iov = c->iov + c->iov_pos;
    op->iov_count = n;
    op->done = conn_send_done;
    list_init(&op->link);
    c->sending = true;
    c->send_begun_ns = c->set->reactor->now_ns;
    c->send_deadline_ns = c->set->reactor->now_ns + (int64_t)c->set->reactor->broker->config.send_timeout_ms * 1000000;
    io_submit(c->set->reactor->io, op);
}

static void batch_drop(struct conn *c) {
    for (; c->batch > 0 && !c->closing; c->batch--) front_drop(c);
    conn_mark_dirty(c); /* room for more requests */
}

void conn_write(struct conn *c) {
    while (!c->closing && !c->sending && front(c) && front(c)->done) {
        if (!batch_gather(c)) {
            conn_close(c, "out of memory");
            return;
        }
        if (c->iov_count > 0) window_send(c);
        else batch_drop(c);
    }
}

void conn_send_done(struct io_op *op) {
    struct conn *c = CONTAINER_OF(op, struct conn, send_op);
    c->sending = false;
    c->send_deadline_ns = INT64_MAX;
    if (op->result != (int64_t)c->window_bytes) {
        conn_close(c, NULL);
    } else if (!c->closing) {
        c->active_ns = c->set->reactor->now_ns;
        c->iov_pos += c->iov_window;
        if (c->iov_rest.iov_len > 0) c->iov[--c->iov_pos] = c->iov_rest;
        if (c->iov_pos < c->iov_count) window_send(c);
        else batch_drop(c);
    }
    conn_mark_dirty(c);
}
