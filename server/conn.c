/* conn.c - the connections of a reactor: beginning, end, deadlines, and the turn's round over those
 * with something to do. Reading: conn_read.c. Writing: conn_write.c. */
#include "server/conn.h"
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/assert.h"
#include "base/trace.h"
#include "server/conn_impl.h"
#include "server/reactor.h"

enum { KEY_FETCH = 1 };

static const struct config *config_of(const struct conn_set *set) { return &set->reactor->broker->config; }

void conn_mark_dirty(struct conn *c) {
    if (list_empty(&c->dirty)) list_push_back(&c->set->dirty, &c->dirty);
}

/* ---- beginning --------------------------------------------------------------------------- */

static void peer_text(const struct sockaddr_storage *addr, char out[INET6_ADDRSTRLEN]) {
    out[0] = 0;
    if (addr->ss_family == AF_INET) {
        inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)addr)->sin_addr, out, INET6_ADDRSTRLEN);
    } else if (addr->ss_family == AF_INET6) {
        const struct in6_addr *a = &((const struct sockaddr_in6 *)(const void *)addr)->sin6_addr;
        if (IN6_IS_ADDR_V4MAPPED(a)) inet_ntop(AF_INET, a->s6_addr + 12, out, INET6_ADDRSTRLEN);
        else inet_ntop(AF_INET6, a, out, INET6_ADDRSTRLEN);
    }
}

static void unmute(struct timer *t) {
    struct conn *c = CONTAINER_OF(t, struct conn, unmute);
    c->muted = false;
    c->active_ns = c->set->reactor->now_ns;
    if (!c->receiving) c->recv_deadline_ns = INT64_MAX; /* what had begun to arrive has its time again */
    conn_mark_dirty(c);
}

void conn_mute(struct conn *c, int64_t until_ns) {
    if (c->closing || (c->muted && c->unmute.deadline_ns >= until_ns)) return;
    c->muted = true;
    timer_set(&c->set->reactor->timers, &c->unmute, until_ns);
}

void conn_start(struct conn_set *set, struct conn_ticket *ticket) {
    struct conn *c = set->draining ? NULL : calloc(1, sizeof *c);
    if (!c) {
        io_close(set->reactor->io, ticket->fd);
        set->closed(ticket);
        return;
    }
    c->set = set;
    c->ticket = ticket;
    c->fd = ticket->fd;
    list_init(&c->dirty);
    list_init(&c->starved);
    list_init(&c->requests);
    timer_init(&c->unmute, unmute);
    c->recv_deadline_ns = c->send_deadline_ns = INT64_MAX;
    c->active_ns = set->reactor->now_ns;
    peer_text(&ticket->peer, c->peer);
    list_push_back(&set->conns, &c->link);
    set->conn_count++;
    set->stats.accepted++;
    trace_debug("conn", "%s: connected", c->peer);
    conn_read(c);
}

/* ---- end --------------------------------------------------------------------------------- */

void conn_close(struct conn *c, const char *why) {
    if (c->closing) return;
    c->closing = true;
    if (why) trace_warn("conn", "%s: closing: %s", c->peer, why);
    list_remove(&c->starved);
    (void)io_shutdown(c->set->reactor->io, c->fd); /* fails when the peer was faster */
    if (c->receiving) io_cancel(c->set->reactor->io, &c->recv_op);
    if (c->sending) io_cancel(c->set->reactor->io, &c->send_op);
    conn_mark_dirty(c);
}

static void conn_free(struct conn *c) {
    struct conn_set *set = c->set;
    LIST_FOREACH_SAFE(it, &c->requests) {
        struct request *rq = LIST_ENTRY(it, struct request, link);
        list_remove(&rq->link);
        rq->conn = NULL;
        if (rq->done) request_free(rq);
        else list_push_back(&set->orphans, &rq->link);
    }
    if (c->frame) {
        set->used_bytes -= c->frame->cap;
        buf_unref(c->frame);
    }
    if (c->backlog) set->backlog_bytes -= c->backlog_len;
    timer_cancel(&set->reactor->timers, &c->unmute);
    free(c->backlog);
    free(c->iov);
    int closed = io_close(set->reactor->io, c->fd);
    if (closed < 0) trace_warn("conn", "%s: close: %s", c->peer, err_str(err_from_errno(closed)));
    list_remove(&c->dirty);
    list_remove(&c->link);
    set->conn_count--;
    set->stats.closed++;
    trace_debug("conn", "%s: closed", c->peer);
    set->closed(c->ticket);
    free(c);
}

/* ---- the turn ---------------------------------------------------------------------------- */

/* While draining a connection is done when it owes nothing; a Fetch that waits is not owed. */
static bool owes_nothing(const struct conn *c) {
    LIST_FOREACH(it, &c->requests) {
        const struct request *rq = LIST_ENTRY(it, struct request, link);
        if (rq->done || rq->header.api_key != KEY_FETCH) return false;
    }
    return true;
}

static void dirty_visit(struct conn *c) {
    if (!c->closing) conn_write(c);
    if (!c->closing) conn_read(c);
    if (!c->closing && c->set->draining && owes_nothing(c)) conn_close(c, NULL);
    if (c->closing && !c->receiving && !c->sending) conn_free(c);
}

static void admit_starved(struct conn_set *set, int64_t size_max) {
    LIST_FOREACH_SAFE(it, &set->starved) {
        struct conn *c = LIST_ENTRY(it, struct conn, starved);
        int64_t size = (int32_t)load_be32(c->head);
        if (size > size_max || !(c->frame ? conn_answers_fit(set) : conn_frame_fits(set, size))) continue;
        list_remove(&c->starved);
        c->active_ns = set->reactor->now_ns;
        conn_read(c);
    }
}

/* Near the end of the room for answers nobody is served until somebody takes theirs: those who have taken nothing for
 * longest must not be waited for. Half of them by time, and no more than it needs. */
static void shed(struct conn_set *set) {
    int64_t now_ns = set->reactor->now_ns, oldest_ns = now_ns, freed = 0, enough = set->reserved_bytes - set->response_budget_bytes / 2;
    bool room = conn_answers_fit(set);
    if (room || now_ns - set->shed_ns < CONN_SHED_NS) return;
    set->shed_ns = now_ns;
    LIST_FOREACH(it, &set->conns) {
        const struct conn *c = LIST_ENTRY(it, struct conn, link);
        if (c->sending && !c->closing) oldest_ns = MIN(oldest_ns, c->send_begun_ns);
    }
    if (now_ns - oldest_ns < CONN_STALLED_NS) return;
    int64_t until_ns = MIN(oldest_ns + (now_ns - oldest_ns) / 2, now_ns - CONN_STALLED_NS);
    LIST_FOREACH(it, &set->conns) {
        struct conn *c = LIST_ENTRY(it, struct conn, link);
        if (!c->sending || c->closing || c->send_begun_ns > until_ns || freed >= enough) continue;
        LIST_FOREACH(r, &c->requests) freed += LIST_ENTRY(r, struct request, link)->reserved_bytes;
        set->stats.closed_slow++;
        conn_close(c, "memory for answers is used up (queued.max.response.bytes), and the client does not take its own");
    }
}

/* Those whom a visit makes dirty again are visited in the next call, so one turn's work stays bounded. */
bool conn_set_turn(struct conn_set *set) {
    admit_starved(set, CONN_CHUNK_BYTES); /* a small request does not wait behind large ones */
    admit_starved(set, INT32_MAX);
    shed(set);
    struct list round;
    list_init(&round);
    while (!list_empty(&set->dirty)) {
        struct list *node = list_pop_front(&set->dirty);
        list_push_back(&round, node);
    }
    while (!list_empty(&round)) {
        struct list *node = list_pop_front(&round);
        dirty_visit(LIST_ENTRY(node, struct conn, dirty));
    }
    return !list_empty(&set->dirty);
}

/* ---- deadlines --------------------------------------------------------------------------- */

static void sweep_visit(struct conn *c, int64_t now_ns) {
    struct conn_set *set = c->set;
    if (c->closing) return;
    bool starved = !list_empty(&c->starved);
    /* While others wait for budget, a frame that has got some must not sit on it. */
    bool holds_up = c->receiving && c->frame && !list_empty(&set->starved);
    int64_t hurry_ns = holds_up ? (int64_t)config_of(set)->receive_timeout_ms * (1000000 - 1000000 / CONN_SHORT_DIVISOR) : 0;
    if ((c->receiving || starved) && now_ns >= c->recv_deadline_ns - hurry_ns) {
        set->stats.closed_slow++;
        conn_close(c, starved ? "no memory budget for its request within receive.timeout.ms (queued.max.request.bytes)"
                              : "a request did not arrive within receive.timeout.ms");
        return;
    }
    bool memory_short = set->short_ns > 0 && now_ns - set->short_ns < 1000000000;
    int64_t grace_ns = memory_short ? (int64_t)config_of(set)->send_timeout_ms * (1000000 - 1000000 / CONN_SHORT_DIVISOR) : 0;
    if (c->sending && now_ns >= c->send_deadline_ns - grace_ns) {
        set->stats.closed_slow++;
        conn_close(c, "the client did not take its response within send.timeout.ms");
        return;
    }
    int64_t idle_ms = config_of(set)->connections_max_idle_ms;
    /* Who was told to stay away may be gone meanwhile, and nothing is read that would tell. */
    bool idle = list_empty(&c->requests) && (c->muted || (!c->frame && c->head_len == 0));
    if (idle_ms >= 0 && idle && (now_ns - c->active_ns) / 1000000 >= idle_ms) {
        set->stats.closed_idle++;
        conn_close(c, NULL);
    }
}

static void sweep(struct timer *t) {
    struct conn_set *set = CONTAINER_OF(t, struct conn_set, sweep);
    LIST_FOREACH(it, &set->conns) sweep_visit(LIST_ENTRY(it, struct conn, link), set->reactor->now_ns);
    timer_set(&set->reactor->timers, t, set->reactor->now_ns + set->sweep_ns);
}

/* ---- the set ----------------------------------------------------------------------------- */

struct conn_set *conn_set_new(struct reactor *r) {
    struct conn_set *set = calloc(1, sizeof *set);
    if (!set) return NULL;
    const struct config *config = &r->broker->config;
    set->reactor = r;
    list_init(&set->conns);
    list_init(&set->dirty);
    list_init(&set->starved);
    list_init(&set->orphans);
    set->budget_bytes = config->queued_max_request_bytes / MAX(config->reactors, 1);
    set->response_budget_bytes = config->queued_max_response_bytes / MAX(config->reactors, 1);
    int64_t shortest_ms = MIN(config->receive_timeout_ms, config->send_timeout_ms);
    if (config->connections_max_idle_ms >= 0) shortest_ms = MIN(shortest_ms, config->connections_max_idle_ms);
    set->sweep_ns = MAX(MIN(shortest_ms / 4, CONN_SWEEP_MS_MAX), 1) * 1000000;
    timer_init(&set->sweep, sweep);
    timer_set(&r->timers, &set->sweep, io_mono_ns(r->io) + set->sweep_ns);
    return set;
}

void conn_set_on_closed(struct conn_set *set, void (*closed)(struct conn_ticket *ticket)) { set->closed = closed; }

void conn_set_drain(struct conn_set *set) {
    set->draining = true;
    LIST_FOREACH(it, &set->conns) conn_mark_dirty(LIST_ENTRY(it, struct conn, link));
}

void conn_set_shut(struct conn_set *set) {
    set->draining = true;
    LIST_FOREACH(it, &set->conns) conn_close(LIST_ENTRY(it, struct conn, link), NULL);
}

size_t conn_set_count(const struct conn_set *set) { return set->conn_count; }
size_t conn_set_requests(const struct conn_set *set) { return set->request_count; }
const struct conn_stats *conn_set_stats(const struct conn_set *set) { return &set->stats; }

void conn_set_free(struct conn_set *set) {
    if (!set) return;
    ASSERT(list_empty(&set->conns));
    LIST_FOREACH_SAFE(it, &set->orphans) {
        list_remove(it);
        request_free(LIST_ENTRY(it, struct request, link));
    }
    timer_cancel(&set->reactor->timers, &set->sweep);
    free(set);
}

/* ---- what handlers ask ------------------------------------------------------------------- */

struct str request_peer_host(struct request *rq) {
    if (!rq->conn) return STR_LIT("");
    char *text = arena_strdup(&rq->arena, str_from(rq->conn->peer));
    return text ? str_from(text) : STR_LIT("");
}
