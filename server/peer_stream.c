/* peer_stream.c - frames of one connection between brokers.
 *
 * In: the io lends a buffer while nothing is on its way; once the head of a frame is there its sizes are checked, the frame gets a
 * buffer of exactly its size, and the rest is received into that. Out: parts gather in an open frame until the turn's end or until
 * it is large; complete frames leave together, records from where they lie. */
#include <errno.h>
#include <stdlib.h>
#include "base/assert.h"
#include "base/trace.h"
#include "server/peer_impl.h"

#define OUT_SLICES_MAX 480u
STATIC_ASSERT(OUT_SLICES_MAX + 2 <= IO_IOV_MAX && PEER_SLICES_MAX <= OUT_SLICES_MAX);

static struct io *io_of(const struct peer_stream *s) { return s->set->reactor->io; }

void peer_stream_mark(struct peer_stream *s) {
    if (list_empty(&s->work)) list_push_back(&s->set->work, &s->work);
}

/* ---- life ---------------------------------------------------------------------------------------- */

void peer_stream_begin(struct peer_stream *s, struct peer_set *set, const struct peer_stream_type *type, int fd) {
    memset(s, 0, sizeof *s);
    s->type = type;
    s->set = set;
    s->fd = fd;
    s->header_max = PEER_HELLO_BYTES;
    list_init(&s->work);
    list_init(&s->frames);
    list_init(&s->out);
}

void peer_stream_greeted(struct peer_stream *s) {
    s->header_max = PEER_HEADER_BYTES;
    s->body_max = s->set->peers->body_max;
}

void peer_stream_close(struct peer_stream *s, const char *why, bool broken) {
    if (s->closing) return;
    s->closing = true;
    (void)io_shutdown(io_of(s), s->fd); /* fails when the other side was faster */
    if (s->receiving) io_cancel(io_of(s), &s->recv_op);
    if (s->sending) io_cancel(io_of(s), &s->send_op);
    peer_stream_mark(s);
    s->type->closing(s, why, broken);
}

static void out_free(struct peer_out *o) {
    if (!o) return;
    for (uint32_t i = 0; i < o->slice_count; i++) buf_unref(o->slices[i].buf);
    free(o->slices);
    free(o->header.bytes);
    free(o);
}

static void out_drop(struct peer_stream *s) {
    struct list *node;
    while ((node = list_pop_front(&s->out))) out_free(LIST_ENTRY(node, struct peer_out, link));
    out_free(s->open);
    s->open = NULL;
    s->queued = 0;
}

/* What is being delivered goes on without it. */
static void frames_orphan(struct peer_stream *s) {
    struct list *node;
    while ((node = list_pop_front(&s->frames))) {
        LIST_ENTRY(node, struct peer_frame, link)->stream = NULL;
        list_push_back(&s->set->orphans, node);
    }
    if (s->frame) peer_frame_free(s->frame);
    s->frame = NULL;
}

int peer_stream_release(struct peer_stream *s) {
    int fd = s->fd;
    ASSERT(!s->receiving && !s->sending && list_empty(&s->frames));
    list_remove(&s->work);
    out_drop(s);
    frames_orphan(s);
    io_detach(io_of(s), fd);
    s->fd = -1;
    return fd;
}

static void end(struct peer_stream *s) {
    int closed = io_close(io_of(s), s->fd);
    if (closed < 0) trace_warn("peer", "close: %s", err_str(err_from_errno(closed)));
    s->fd = -1;
    out_drop(s);
    frames_orphan(s);
    s->type->ended(s);
}

void peer_stream_visit(struct peer_stream *s) {
    if (!s->closing) peer_stream_flush(s);
    if (s->closing && !s->receiving && !s->sending && s->fd >= 0) end(s);
}

void peer_frame_free(struct peer_frame *f) {
    arena_free(&f->arena);
    free(f);
}

/* ---- in ------------------------------------------------------------------------------------------- */

static bool frame_begin(struct peer_stream *s) {
    struct peer_head sizes;
    if (!peer_head_read(s->head, &sizes)) {
        peer_stream_close(s, "what came is not a frame of this protocol", true);
        return false;
    }
    if (sizes.header_bytes == 0 || sizes.header_bytes > s->header_max || sizes.body_bytes > s->body_max) {
        peer_stream_close(s, "a frame is larger than allowed", true);
        return false;
    }
    struct peer_frame *f = malloc(sizeof *f + sizes.header_bytes + (size_t)sizes.body_bytes);
    if (!f) {
        peer_stream_close(s, "out of memory", false);
        return false;
    }
    memset(f, 0, sizeof *f);
    memcpy(f->head, s->head, sizeof f->head);
    f->sizes = sizes;
    f->stream = s;
    list_init(&f->link);
    arena_init(&f->arena, PEER_ARENA_BYTES);
    s->frame = f;
    return true;
}

static uint32_t frame_bytes(const struct peer_frame *f) { return f->sizes.header_bytes + f->sizes.body_bytes; }

static void frame_complete(struct peer_stream *s) {
    struct peer_frame *f = s->frame;
    struct iovec rest = {f->bytes, frame_bytes(f)};
    s->frame = NULL;
    s->head_len = 0;
    if (peer_checksum(f->head, &rest, 1) != f->sizes.checksum) {
        peer_frame_free(f);
        peer_stream_close(s, "a frame's checksum is wrong", true);
        return;
    }
    s->type->frame(s, f);
}

static void consume(struct peer_stream *s, const uint8_t *p, uint32_t len) {
    while (len > 0 && !s->closing) {
        if (!s->frame) {
            uint32_t n = MIN(len, PEER_HEAD_BYTES - s->head_len);
            memcpy(s->head + s->head_len, p, n);
            s->head_len += n;
            p += n;
            len -= n;
            if (s->head_len < PEER_HEAD_BYTES || !frame_begin(s)) return;
        }
        uint32_t n = MIN(len, frame_bytes(s->frame) - s->frame->filled);
        memcpy(s->frame->bytes + s->frame->filled, p, n);
        s->frame->filled += n;
        p += n;
        len -= n;
        if (s->frame->filled == frame_bytes(s->frame)) frame_complete(s);
    }
}

static void recv_done(struct io_op *op) {
    struct peer_stream *s = CONTAINER_OF(op, struct peer_stream, recv_op);
    int64_t n = op->result;
    bool pooled = op->flags & IO_POOLED;
    s->receiving = false;
    if (n > 0 && pooled) {
        if (!s->closing) consume(s, op->buf, (uint32_t)n);
        io_recv_release(io_of(s), op->buf);
    } else if (n > 0 && !s->closing) {
        s->frame->filled += (uint32_t)n;
        if (s->frame->filled == frame_bytes(s->frame)) frame_complete(s);
    } else if (n == 0) {
        peer_stream_close(s, "the other side closed the connection", true);
    } else if (n < 0 && n != -ENOBUFS && n != -EAGAIN && n != -EINTR) { /* those: no lent buffer just now */
        peer_stream_close(s, strerrordesc_np((int)-n), true);
    }
    if (s->closing) peer_stream_mark(s);
    else peer_stream_read(s);
}

void peer_stream_read(struct peer_stream *s) {
    if (s->closing || s->receiving || s->paused || s->fd < 0) return;
    struct io_op *op = &s->recv_op;
    memset(op, 0, sizeof *op);
    op->kind = IO_RECV;
    op->fd = s->fd;
    op->done = recv_done;
    list_init(&op->link);
    if (s->frame) {
        op->buf = s->frame->bytes + s->frame->filled;
        op->len = MIN(frame_bytes(s->frame) - s->frame->filled, PEER_RECV_BYTES);
        op->flags = IO_WAITALL;
    } else {
        op->flags = IO_POOLED;
    }
    s->receiving = true;
    io_submit(io_of(s), op);
}

void peer_stream_undelivered(struct peer_stream *s, const struct peer_frame *f, bool back) {
    uint32_t bytes = frame_bytes(f);
    if (!back) {
        s->undelivered += bytes;
        if (s->undelivered > PEER_UNDELIVERED_BYTES) s->paused = true;
        return;
    }
    ASSERT(s->undelivered >= bytes);
    s->undelivered -= bytes;
    if (!s->paused || s->undelivered > PEER_UNDELIVERED_BYTES / 2) return;
    s->paused = false;
    peer_stream_read(s);
}

/* ---- out ------------------------------------------------------------------------------------------- */

static void slices_drop(struct slice *slices, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) buf_unref(slices[i].buf);
}

static void seal(struct peer_stream *s) {
    struct peer_out *o = s->open;
    struct iovec rest[OUT_SLICES_MAX + 1] = {{o->header.bytes, o->header.len}};
    for (uint32_t i = 0; i < o->slice_count; i++) rest[i + 1] = (struct iovec){slice_data(&o->slices[i]), o->slices[i].len};
    peer_head_write(o->head, o->header.len, o->body_bytes);
    store_le64(o->head + 16, peer_checksum(o->head, rest, o->slice_count + 1));
    list_push_back(&s->out, &o->link);
    s->open = NULL;
}

static bool open_fits(const struct peer_out *o, uint32_t body, uint32_t count) {
    return o->header.len + PEER_PART_BYTES <= PEER_HEADER_BYTES / 2 && o->body_bytes + (uint64_t)body <= PEER_BODY_BYTES / 2 &&
           o->slice_count + count <= OUT_SLICES_MAX;
}

static struct peer_out *open_for(struct peer_stream *s, uint32_t body, uint32_t count) {
    if (s->open && !open_fits(s->open, body, count)) seal(s);
    if (!s->open) s->open = calloc(1, sizeof *s->open);
    if (!s->open) return NULL;
    struct peer_out *o = s->open;
    if (o->slice_cap - o->slice_count < count) {
        uint32_t cap = MAX(o->slice_cap * 2, o->slice_count + count);
        struct slice *slices = realloc(o->slices, cap * sizeof *slices);
        if (!slices) return NULL;
        o->slices = slices;
        o->slice_cap = cap;
    }
    return o;
}

bool peer_stream_put(struct peer_stream *s, const struct peer_part *part, struct slice *slices, uint32_t count, uint64_t limit) {
    struct peer_part p = *part;
    uint64_t body = 0;
    ASSERT(count <= PEER_SLICES_MAX);
    for (uint32_t i = 0; i < count; i++) body += slices[i].len;
    p.body_bytes = (uint32_t)body;
    bool fits = !s->closing && body <= s->set->peers->body_max && (s->queued <= limit / 2 || s->queued + body + PEER_PART_BYTES <= limit);
    struct peer_out *o = fits ? open_for(s, (uint32_t)body, count) : NULL;
    uint32_t before = o ? o->header.len : 0;
    if (!o || !peer_part_encode(&o->header, &p)) {
        slices_drop(slices, count);
        return false;
    }
    if (count > 0) memcpy(o->slices + o->slice_count, slices, count * sizeof *slices);
    o->slice_count += count;
    o->body_bytes += (uint32_t)body;
    s->queued += o->header.len - before + body;
    s->spoke = true;
    peer_stream_mark(s);
    return true;
}

bool peer_stream_put_hello(struct peer_stream *s, const struct peer_hello *hello) {
    struct peer_out *o = open_for(s, 0, 0);
    if (!o || !peer_hello_encode(&o->header, hello)) return false;
    s->queued += o->header.len;
    seal(s);
    peer_stream_mark(s);
    return true;
}

static bool is_begun(const struct peer_out *o) { return o && o->header.len > 0; }

bool peer_stream_is_drained(const struct peer_stream *s) { return !s->sending && list_empty(&s->out) && !is_begun(s->open); }

static void send_done(struct io_op *op) {
    struct peer_stream *s = CONTAINER_OF(op, struct peer_stream, send_op);
    uint64_t sent = 0;
    s->sending = false;
    for (; s->in_flight > 0; s->in_flight--) {
        struct peer_out *o = LIST_ENTRY(list_pop_front(&s->out), struct peer_out, link);
        sent += PEER_HEAD_BYTES + o->header.len + (uint64_t)o->body_bytes;
        s->queued -= o->header.len + (uint64_t)o->body_bytes;
        out_free(o);
    }
    if (op->result < 0) peer_stream_close(s, strerrordesc_np((int)-op->result), true);
    else if ((uint64_t)op->result < sent) peer_stream_close(s, "the connection broke while sending", true);
    if (s->closing) {
        peer_stream_mark(s);
        return;
    }
    peer_stream_flush(s);
    if (peer_stream_is_drained(s)) s->type->drained(s);
}

static uint32_t gather(struct peer_stream *s) {
    uint32_t n = 0;
    uint64_t bytes = 0;
    LIST_FOREACH(it, &s->out) {
        const struct peer_out *o = LIST_ENTRY(it, struct peer_out, link);
        if (n + 2 + o->slice_count > IO_IOV_MAX || (n > 0 && bytes >= PEER_BODY_BYTES)) break;
        s->iov[n++] = (struct iovec){(uint8_t *)o->head, PEER_HEAD_BYTES};
        s->iov[n++] = (struct iovec){o->header.bytes, o->header.len};
        for (uint32_t i = 0; i < o->slice_count; i++)
            if (o->slices[i].len > 0) s->iov[n++] = (struct iovec){slice_data(&o->slices[i]), o->slices[i].len};
        bytes += o->header.len + (uint64_t)o->body_bytes;
        s->in_flight++;
    }
    return n;
}

void peer_stream_flush(struct peer_stream *s) {
    if (s->sending || s->closing || s->fd < 0) return;
    if (is_begun(s->open)) seal(s);
    if (list_empty(&s->out)) return;
    struct io_op *op = &s->send_op;
    memset(op, 0, sizeof *op);
    op->kind = IO_SEND;
    op->fd = s->fd;
    op->iov = s->iov;
    op->iov_count = gather(s);
    op->done = send_done;
    list_init(&op->link);
    s->sending = true;
    io_submit(io_of(s), op);
}
