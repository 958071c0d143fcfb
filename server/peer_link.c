/* peer_link.c - an outgoing connection: to a node for what this reactor has to say to it, or to an address for calls.
 *
 *   OFF -> WAITING -> (RESOLVING) -> CONNECTING -> GREETING -> UP -> ENDING -> WAITING ...
 *
 * A failed attempt, and a connection that broke, are followed by the next one after a pause that doubles, with half of it left to
 * chance, so that brokers that met trouble together do not come back together. Calls that wait for the connection fail with the
 * attempt. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/assert.h"
#include "base/trace.h"
#include "server/peer_impl.h"
#include "server/reconcile.h"

static struct reactor *reactor_of(const struct peer_link *l) { return l->set->reactor; }
static struct peer_node *node_of(const struct peer_link *l) { return l->slot < 0 ? NULL : &l->set->peers->nodes[l->slot]; }

/* ---- the end of an attempt ------------------------------------------------------------------------ */

static int64_t pause_ns(struct peer_link *l) {
    uint32_t chance;
    io_entropy(reactor_of(l)->io, &chance, sizeof chance);
    int64_t ns = l->backoff_ns / 2 + (int64_t)((uint64_t)chance * (uint64_t)(l->backoff_ns / 2) >> 32);
    l->backoff_ns = MIN(l->backoff_ns * 2, PEER_BACKOFF_MAX_NS);
    return ns;
}

/* Everything of the attempt is over: wait for the next one. */
static void rest(struct peer_link *l) {
    if (l->state != PEER_LINK_ENDING || l->busy || l->fd >= 0 || l->stream.fd >= 0) return;
    l->state = PEER_LINK_OFF;
    if (l->slot < 0 || l->off || l->set->shut) return; /* visits: the turn frees them */
    l->state = PEER_LINK_WAITING;
    timer_set(&reactor_of(l)->timers, &l->timer, reactor_of(l)->now_ns + pause_ns(l));
}

static void fd_close(struct peer_link *l) {
    int closed = io_close(reactor_of(l)->io, l->fd);
    if (closed < 0) trace_warn("peer", "close: %s", err_str(err_from_errno(closed)));
    l->fd = -1;
}

/* Counted out at once; the socket is closed when nothing is in flight on it. */
static void give_up(struct peer_link *l, bool broken) {
    struct peer_node *n = node_of(l);
    bool was_up = l->state == PEER_LINK_UP;
    timer_cancel(&reactor_of(l)->timers, &l->timer);
    l->state = PEER_LINK_ENDING;
    l->ping_waits = false;
    if (was_up && reactor_of(l)->now_ns - l->up_ns > PEER_STEADY_NS) l->backoff_ns = PEER_BACKOFF_MIN_NS;
    if (n && was_up) {
        atomic_fetch_sub(&n->links, 1);
        if (broken) peer_node_change(l->set->peers, n, PEER_NODE_LOST);
    }
    peer_calls_fail(l, ERR_CLOSED);
}

void peer_link_close(struct peer_link *l, const char *why, bool broken) {
    switch (l->state) {
    case PEER_LINK_OFF:
    case PEER_LINK_ENDING: return;
    case PEER_LINK_GREETING:
    case PEER_LINK_UP: peer_stream_close(&l->stream, why, broken); return; /* comes back as link_closing() */
    case PEER_LINK_WAITING:
    case PEER_LINK_RESOLVING:
    case PEER_LINK_CONNECTING:
        trace_debug("peer", "%s:%u: %s", l->host, l->port, why ? why : "closed");
        give_up(l, broken);
        if (l->busy) io_cancel(reactor_of(l)->io, &l->op);
        else if (l->fd >= 0) fd_close(l);
        rest(l);
        return;
    }
}

static void link_closing(struct peer_stream *s, const char *why, bool broken) {
    struct peer_link *l = CONTAINER_OF(s, struct peer_link, stream);
    if (why && l->state == PEER_LINK_UP) trace_info("peer", "broker %d at %s:%u: %s", l->hello.node, l->host, l->port, why);
    else if (why) trace_debug("peer", "%s:%u: %s", l->host, l->port, why);
    give_up(l, broken);
}

static void link_ended(struct peer_stream *s) { rest(CONTAINER_OF(s, struct peer_link, stream)); }

/* ---- it is up ----------------------------------------------------------------------------------------- */

void peer_link_report(struct peer_link *l, uint64_t group, const struct leader_info *info) {
    struct peer_part part = {.kind = PEER_PART_LEADER, .group = group, .u.leader = *info};
    if (!peer_stream_put(&l->stream, &part, NULL, 0, PEER_QUEUE_REPORTS_BYTES)) l->reports_lost = true;
}

static void reports_wanted(struct peer_link *l) {
    const struct peer_hooks *hooks = l->set->peers->hooks;
    l->reports_lost = false;
    if (l->slot >= 0 && hooks->leaders_wanted) hooks->leaders_wanted(reactor_of(l), l->hello.node);
}

static void link_drained(struct peer_stream *s) {
    struct peer_link *l = CONTAINER_OF(s, struct peer_link, stream);
    if (l->state == PEER_LINK_UP && l->reports_lost) reports_wanted(l);
}

static void was_refused(struct peer_link *l, enum peer_refusal refusal, const char *why) {
    char text[PEER_REFUSED_BYTES + PEER_HOST_BYTES + 32];
    snprintf(text, sizeof text, "%s:%u: no connection: %s", l->host, l->port, why);
    peer_say_refused(l->set->peers, refusal, reactor_of(l)->now_ns, "", text);
    l->backoff_ns = PEER_BACKOFF_MAX_NS;
    const struct peer_hooks *hooks = l->set->peers->hooks;
    if (hooks->refused && reactor_of(l)->index == 0) hooks->refused(reactor_of(l), l->host, l->port, refusal, &l->hello.cluster_id);
}

static void greeted(struct peer_link *l, struct peer_frame *f) {
    struct peers *p = l->set->peers;
    struct peer_node *n = node_of(l);
    char why[160];
    enum peer_refusal refusal;
    enum err err = peer_hello_decode(&f->arena, f->bytes, f->sizes.header_bytes, &l->hello);
    peer_frame_free(f);
    if (err != OK) {
        peer_stream_close(&l->stream, "its hello makes no sense", true);
        return;
    }
    bool refused = l->hello.refused[0] != 0;
    if ((refusal = refused ? l->hello.refusal : peer_hello_refused(p, &l->hello, n ? n->node : -1, why, sizeof why))) {
        was_refused(l, refusal, refused ? l->hello.refused : why);
        peer_stream_close(&l->stream, NULL, false);
        return;
    }
    timer_cancel(&reactor_of(l)->timers, &l->timer);
    l->state = PEER_LINK_UP;
    l->up_ns = l->used_ns = l->pong_ns = l->ping_ns = io_mono_ns(reactor_of(l)->io);
    peer_stream_greeted(&l->stream);
    if (n) {
        peer_node_heard(p, l->slot, reactor_of(l)->io);
        peer_node_arrived(p, l->slot, &l->hello);
        atomic_fetch_add(&n->links, 1);
        if ((atomic_load(&n->state) & 3) == PEER_NODE_LOST && atomic_load(&n->was_up)) atomic_store(&n->back_ns, l->up_ns);
        peer_node_change(p, n, PEER_NODE_UP);
    }
    peer_calls_begin(l);
    reports_wanted(l);
}

static bool back_part(struct peer_link *l, const struct peer_part *part, struct peer_frame *f) {
    if (part->kind == PEER_PART_PONG) {
        if (part->u.ping == l->ping) l->ping_waits = false;
        return true;
    }
    return part->kind == PEER_PART_ANSWER && peer_call_answered(l, part, peer_frame_body(f) + part->body_at);
}

static void link_frame(struct peer_stream *s, struct peer_frame *f) {
    struct peer_link *l = CONTAINER_OF(s, struct peer_link, stream);
    if (l->state == PEER_LINK_GREETING) {
        greeted(l, f);
        return;
    }
    peer_node_heard(l->set->peers, l->slot, reactor_of(l)->io);
    enum err err = peer_frame_decode(&f->arena, f->bytes, f->sizes.header_bytes, f->sizes.body_bytes, &f->parts, &f->part_count);
    for (uint32_t i = 0; err == OK && i < f->part_count && l->state == PEER_LINK_UP; i++)
        if (!back_part(l, &f->parts[i], f)) err = ERR_CORRUPT;
    peer_frame_free(f);
    if (err != OK && l->state == PEER_LINK_UP) peer_stream_close(s, "what it answered makes no sense", true);
}

static const struct peer_stream_type outgoing = {link_frame, link_closing, link_ended, link_drained};

/* ---- an attempt ------------------------------------------------------------------------------------------ */

static void connected(struct peer_link *l) {
    struct peer_hello hello;
    const struct peer_node *n = node_of(l);
    int fd = l->fd;
    l->fd = -1;
    peer_stream_begin(&l->stream, l->set, &outgoing, fd);
    l->state = PEER_LINK_GREETING;
    peer_hello_fill(l->set->peers, &hello, n ? n->node : -1, reactor_of(l)->index);
    if (peer_stream_put_hello(&l->stream, &hello)) peer_stream_read(&l->stream);
    else peer_stream_close(&l->stream, "out of memory", false);
}

static void connect_done(struct io_op *op) {
    struct peer_link *l = CONTAINER_OF(op, struct peer_link, op);
    struct peer_node *n = node_of(l);
    l->busy = false;
    if (l->state == PEER_LINK_ENDING) { /* given up meanwhile */
        fd_close(l);
        rest(l);
        return;
    }
    if (op->result == 0) {
        connected(l);
        return;
    }
    const char *why = strerrordesc_np((int)-op->result);
    bool refused = op->result == -ECONNREFUSED || op->result == -ECONNRESET;
    if (refused && n) peer_node_change(l->set->peers, n, PEER_NODE_LOST);
    peer_link_close(l, why, false);
}

static void connect_begin(struct peer_link *l) {
    l->state = PEER_LINK_CONNECTING;
    l->fd = io_socket(reactor_of(l)->io, l->addr.ss_family);
    if (l->fd < 0) {
        trace_warn("peer", "cannot make a socket: %s", strerrordesc_np(-l->fd));
        l->fd = -1;
        peer_link_close(l, NULL, false);
        return;
    }
    memset(&l->op, 0, sizeof l->op);
    l->op.kind = IO_CONNECT;
    l->op.fd = l->fd;
    l->op.addr = l->addr;
    l->op.done = connect_done;
    list_init(&l->op.link);
    l->busy = true;
    io_submit(reactor_of(l)->io, &l->op);
}

static void resolve(struct io_op *op) { /* on a helper's thread: reads what does not change meanwhile */
    struct peer_link *l = CONTAINER_OF(op, struct peer_link, op);
    op->result = address_resolve(l->host, l->port, &l->addr) ? 0 : -EHOSTUNREACH;
}

static void resolved(struct io_op *op) {
    struct peer_link *l = CONTAINER_OF(op, struct peer_link, op);
    l->busy = false;
    if (l->state == PEER_LINK_ENDING) rest(l);
    else if (op->result == 0) connect_begin(l);
    else peer_link_close(l, "the host cannot be resolved", false);
}

/* Only between attempts: a helper may be reading it. */
static void address_take(struct peer_link *l) {
    const struct peer_node *n = node_of(l);
    if (!n) return;
    pthread_mutex_lock(&l->set->peers->lock);
    memcpy(l->host, n->host, sizeof l->host);
    l->port = n->port;
    pthread_mutex_unlock(&l->set->peers->lock);
    l->off = l->port == 0;
}

static void attempt(struct peer_link *l) {
    ASSERT(!l->busy && l->fd < 0 && l->stream.fd < 0);
    timer_cancel(&reactor_of(l)->timers, &l->timer);
    l->state = PEER_LINK_OFF;
    address_take(l);
    if (l->off || l->set->shut) return;
    timer_set(&reactor_of(l)->timers, &l->timer, reactor_of(l)->now_ns + PEER_GREET_NS);
    if (address_is_numeric(l->host)) {
        if (address_resolve(l->host, l->port, &l->addr)) {
            connect_begin(l);
            return;
        }
        l->state = PEER_LINK_CONNECTING;
        peer_link_close(l, "not an address", false);
        return;
    }
    l->state = PEER_LINK_RESOLVING; /* each time: names move */
    memset(&l->op, 0, sizeof l->op);
    l->op.kind = IO_WORK;
    l->op.work = resolve;
    l->op.done = resolved;
    list_init(&l->op.link);
    l->busy = true;
    io_submit(reactor_of(l)->io, &l->op);
}

static void timer_due(struct timer *t) {
    struct peer_link *l = CONTAINER_OF(t, struct peer_link, timer);
    if (l->state == PEER_LINK_WAITING) attempt(l);
    else peer_link_close(l, "no connection in time", false);
}

/* ---- for the others ------------------------------------------------------------------------------------------ */

struct peer_link *peer_link_new(struct peer_set *set, int32_t slot) {
    struct peer_link *l = calloc(1, sizeof *l);
    if (!l) return NULL;
    l->set = set;
    l->slot = slot;
    l->fd = l->stream.fd = -1;
    l->backoff_ns = PEER_BACKOFF_MIN_NS;
    list_init(&l->link);
    list_init(&l->waiting);
    list_init(&l->calls);
    list_init(&l->stream.work);
    timer_init(&l->timer, timer_due);
    return l;
}

void peer_link_address(struct peer_link *l, const char *host, uint16_t port) {
    l->off = port == 0;
    if (port == l->port && strcmp(host, l->host) == 0) { /* it may have been forgotten meanwhile */
        if (!l->off && l->slot >= 0 && l->state == PEER_LINK_OFF) attempt(l);
        return;
    }
    peer_link_close(l, "its address has changed", false);
    l->backoff_ns = PEER_BACKOFF_MIN_NS;
    if (l->state == PEER_LINK_WAITING || l->state == PEER_LINK_OFF) attempt(l);
}

void peer_link_begin(struct peer_link *l) { attempt(l); }

void peer_link_kick(struct peer_link *l) {
    if (l->state != PEER_LINK_WAITING) return;
    l->backoff_ns = PEER_BACKOFF_MIN_NS;
    attempt(l);
}

void peer_link_round(struct peer_link *l, int64_t now_ns) {
    bool due = now_ns == INT64_MAX; /* at once */
    now_ns = reactor_of(l)->now_ns;
    if (l->state != PEER_LINK_UP) return;
    if (l->ping_waits) {
        if (now_ns - l->ping_ns > PEER_PONG_NS) peer_stream_close(&l->stream, "pings are not answered on it", true);
        return;
    }
    if (l->slot < 0 && list_empty(&l->calls) && list_empty(&l->waiting) && now_ns - l->used_ns > PEER_VISIT_NS) {
        peer_stream_close(&l->stream, NULL, false);
        return;
    }
    if (!due && now_ns - l->ping_ns < PEER_PING_NS) return;
    struct peer_part ping = {.kind = PEER_PART_PING, .u.ping = l->ping + 1, .disk = reconciler_disk_of_broker(reactor_of(l)),
                             .wall_ms = reactor_of(l)->now_ms};
    if (!peer_stream_put(&l->stream, &ping, NULL, 0, PEER_QUEUE_CALLS_BYTES)) return;
    l->ping++;
    l->ping_ns = now_ns;
    l->ping_waits = true;
}

void peer_link_beat(struct peer_link *l) {
    struct peer_part beat = {.kind = PEER_PART_BEAT};
    if (!l->stream.spoke && !peer_stream_put(&l->stream, &beat, NULL, 0, PEER_QUEUE_SMALL_BYTES)) return; /* full: much is on its way */
    l->stream.spoke = false;
}

bool peer_link_is_idle(const struct peer_link *l) { return !l->busy && l->fd < 0 && l->stream.fd < 0; }

void peer_link_free(struct peer_link *l) {
    timer_cancel(&reactor_of(l)->timers, &l->timer);
    list_remove(&l->link);
    list_remove(&l->stream.work);
    free(l->answer.bytes);
    free(l);
}
