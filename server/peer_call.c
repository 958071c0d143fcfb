/* peer_call.c - questions and answers between brokers, both sides. Larger ones travel in pieces. */
#include <stdio.h>
#include <stdlib.h>
#include "base/assert.h"
#include "base/trace.h"
#include "server/peer_impl.h"

/* ---- pieces ---------------------------------------------------------------------------------------- */

enum assembled { PIECE_BAD, PIECE_MORE, PIECE_WHOLE };

static void assembly_reset(struct peer_assembly *a) {
    free(a->bytes);
    memset(a, 0, sizeof *a);
}

/* Without memory for it the whole is taken as ERR_NOMEM, its pieces are passed over. */
static enum assembled piece_add(struct peer_assembly *a, const struct peer_part *p, const uint8_t *body) {
    if (!a->busy) {
        if (p->u.call.at != 0 || p->u.call.total > PEER_CALL_BYTES_MAX) return PIECE_BAD;
        *a = (struct peer_assembly){true, p->u.call.id, p->u.call.timeout_ms, p->u.call.kind, p->u.call.total, 0, p->u.call.error, NULL};
        a->bytes = malloc(MAX(a->total, 1u));
        if (!a->bytes) a->error = ERR_NOMEM;
    }
    if (a->id != p->u.call.id || a->filled != p->u.call.at || a->total != p->u.call.total) return PIECE_BAD;
    if (a->bytes) memcpy(a->bytes + a->filled, body, p->body_bytes);
    a->filled += p->body_bytes;
    return a->filled == a->total ? PIECE_WHOLE : PIECE_MORE;
}

/* False: the queue is full or there is no memory. */
static bool pieces_put(struct peer_stream *s, struct peer_part *p, struct bytes whole) {
    uint32_t len = (uint32_t)whole.len;
    p->u.call.total = len;
    p->u.call.at = 0;
    if (s->queued + len > PEER_QUEUE_CALLS_BYTES) return false;
    do {
        struct slice piece = {NULL, 0, MIN(len - p->u.call.at, PEER_PIECE_BYTES)};
        if (piece.len > 0) {
            piece.buf = buf_new(piece.len, 0);
            if (!piece.buf) return false;
            memcpy(piece.buf->data, whole.p + p->u.call.at, piece.len);
        }
        if (!peer_stream_put(s, p, &piece, piece.len > 0, UINT64_MAX)) return false;
        p->u.call.at += piece.len;
    } while (p->u.call.at < len);
    return true;
}

/* ---- the caller -------------------------------------------------------------------------------------- */

static struct peer_set *set_of(const struct peer_call *c) { return c->caller->peers; }

static void call_detach(struct peer_call *c) {
    timer_cancel(&c->caller->timers, &c->timer);
    list_remove(&c->link);
    c->queued = false;
}

static void call_done(struct peer_call *c, enum err err, struct bytes answer) {
    call_detach(c);
    c->err = err;
    c->answer = answer;
    c->done(c);
}

/* `done` runs from the loop. */
static void call_end_later(struct peer_call *c, enum err err) {
    call_detach(c);
    c->err = err;
    c->answer = BYTES_NULL;
    c->queued = true;
    list_push_back(&set_of(c)->done_calls, &c->link);
    c->caller->busy = true;
}

void peer_calls_run(struct peer_set *set) {
    struct list batch, *node;
    list_init(&batch);
    while ((node = list_pop_front(&set->done_calls))) list_push_back(&batch, node);
    while ((node = list_pop_front(&batch))) {
        struct peer_call *c = LIST_ENTRY(node, struct peer_call, link);
        call_done(c, c->err, BYTES_NULL);
    }
}

static void call_late(struct timer *t) { call_done(CONTAINER_OF(t, struct peer_call, timer), ERR_TIMEOUT, BYTES_NULL); }

static void call_send(struct peer_link *l, struct peer_call *c) {
    int64_t left_ns = c->timer.deadline_ns - c->caller->now_ns;
    struct peer_part p = {.kind = PEER_PART_CALL,
                          .u.call = {.id = c->id, .kind = c->kind, .timeout_ms = (uint64_t)MAX(left_ns, 0) / 1000000}};
    list_remove(&c->link);
    if (pieces_put(&l->stream, &p, c->request)) {
        list_push_back(&l->calls, &c->link);
        l->used_ns = c->caller->now_ns;
        return;
    }
    call_end_later(c, ERR_FULL);
    /* A request of which a part is queued can be neither finished nor taken back. */
    if (p.u.call.at > 0) peer_stream_close(&l->stream, "out of memory within a call", false);
}

void peer_calls_begin(struct peer_link *l) {
    struct list batch, *node;
    list_init(&batch);
    while ((node = list_pop_front(&l->waiting))) list_push_back(&batch, node);
    while ((node = list_pop_front(&batch))) {
        struct peer_call *c = LIST_ENTRY(node, struct peer_call, link);
        if (l->state == PEER_LINK_UP) call_send(l, c);
        else call_end_later(c, ERR_CLOSED);
    }
}

void peer_calls_fail(struct peer_link *l, enum err err) {
    while (!list_empty(&l->waiting)) call_end_later(LIST_ENTRY(l->waiting.next, struct peer_call, link), err);
    while (!list_empty(&l->calls)) call_end_later(LIST_ENTRY(l->calls.next, struct peer_call, link), err);
    assembly_reset(&l->answer);
}

/* The link to a node, or the one to an address, made if need be. */
static struct peer_link *link_for(struct peer_set *set, const struct peer_call *c) {
    if (c->node >= 0) {
        int32_t slot = peer_node_slot(set->peers, c->node);
        return slot < 0 ? NULL : set->links[slot];
    }
    LIST_FOREACH(it, &set->visits) {
        struct peer_link *l = LIST_ENTRY(it, struct peer_link, link);
        bool usable = l->state != PEER_LINK_OFF && l->state != PEER_LINK_ENDING;
        if (usable && l->port == c->port && strcmp(l->host, c->host) == 0) return l;
    }
    if (strlen(c->host) >= PEER_HOST_BYTES) return NULL;
    struct peer_link *l = peer_link_new(set, -1);
    if (!l) return NULL;
    strcpy(l->host, c->host);
    l->port = (uint16_t)c->port;
    list_push_back(&set->visits, &l->link);
    return l;
}

void peer_call(struct peer_call *c) {
    struct peer_set *set = set_of(c);
    ASSERT(c->timeout_ns > 0 && c->done && c->caller);
    list_init(&c->link);
    timer_init(&c->timer, call_late);
    c->queued = false;
    c->answered_by = -1;
    c->incarnation = c->cluster_id = (struct uuid){{0}};
    c->via = NULL;
    if (c->request.len < 0 || (uint32_t)c->request.len > PEER_CALL_BYTES_MAX) {
        call_end_later(c, ERR_TOO_LARGE);
        return;
    }
    struct peer_link *l = set->shut ? NULL : link_for(set, c);
    if (!l || l->off) {
        call_end_later(c, ERR_CLOSED);
        return;
    }
    c->id = ++set->next_call;
    c->via = l;
    timer_set(&c->caller->timers, &c->timer, c->caller->now_ns + c->timeout_ns);
    list_push_back(&l->waiting, &c->link);
    if (l->state == PEER_LINK_UP) call_send(l, c);
    else if (l->slot < 0 && l->state == PEER_LINK_OFF) peer_link_begin(l);
}

void peer_call_cancel(struct peer_call *c) { call_detach(c); }

bool peer_call_answered(struct peer_link *l, const struct peer_part *p, const uint8_t *body) {
    enum assembled got = piece_add(&l->answer, p, body);
    if (got != PIECE_WHOLE) return got != PIECE_BAD;
    struct peer_assembly a = l->answer;
    memset(&l->answer, 0, sizeof l->answer);
    LIST_FOREACH(it, &l->calls) {
        struct peer_call *c = LIST_ENTRY(it, struct peer_call, link);
        if (c->id != a.id) continue;
        c->answered_by = l->hello.node;
        c->incarnation = l->hello.incarnation;
        c->cluster_id = l->hello.cluster_id;
        call_done(c, a.error, a.error == OK ? (struct bytes){a.bytes, (int32_t)a.total} : BYTES_NULL);
        break;
    } /* none: it was too late, or cancelled */
    free(a.bytes);
    return true;
}

/* ---- who is called -------------------------------------------------------------------------------------- */

/* One that is not answered yet. Its request waits for reactor 0, its answer for the connection's reactor. */
struct incoming {
    struct list link;                    /* in peers.incoming */
    struct mail mail;
    struct peer_answer answer;
    struct peers *peers;
    struct peer_set *home;
    uint64_t conn, id;
    struct peer_assembly request;
    enum err error;
    struct bytes reply;                  /* owned */
};

static void incoming_free(struct incoming *in) {
    pthread_mutex_lock(&in->peers->lock);
    list_remove(&in->link);
    pthread_mutex_unlock(&in->peers->lock);
    free(in->request.bytes);
    free((void *)in->reply.p);
    free(in);
}

void peer_incoming_free_all(struct peers *p) {
    while (!list_empty(&p->incoming)) incoming_free(LIST_ENTRY(p->incoming.next, struct incoming, link));
}

static void reply_there(struct mail *m) { /* on the connection's reactor */
    struct incoming *in = CONTAINER_OF(m, struct incoming, mail);
    struct peer_part p = {.kind = PEER_PART_ANSWER, .u.call = {.id = in->id, .error = in->error}};
    LIST_FOREACH(it, &in->home->conns) {
        struct peer_conn *c = LIST_ENTRY(it, struct peer_conn, link);
        if (c->id != in->conn) continue;
        c->calls--;
        c->calls_bytes -= in->request.total;
        if (!c->stream.closing && !pieces_put(&c->stream, &p, in->reply))
            peer_stream_close(&c->stream, "it does not take the answers to its calls", true);
        break;
    } /* none: the caller is gone */
    incoming_free(in);
}

static void reply_send(struct incoming *in, enum err error) {
    in->error = error;
    in->mail.deliver = reply_there;
    mailbox_post(&in->home->reactor->mailbox, &in->mail);
}

void peer_answer_send(struct peer_answer *a, struct bytes answer) {
    struct incoming *in = CONTAINER_OF(a, struct incoming, answer);
    if (answer.len < 0 || (uint32_t)answer.len > PEER_CALL_BYTES_MAX) {
        reply_send(in, ERR_TOO_LARGE);
        return;
    }
    uint8_t *copy = malloc((size_t)MAX(answer.len, 1));
    if (copy && answer.len > 0) memcpy(copy, answer.p, (size_t)answer.len);
    if (copy) in->reply = (struct bytes){copy, answer.len};
    reply_send(in, copy ? OK : ERR_NOMEM);
}

static void call_there(struct mail *m) { /* on reactor 0 */
    struct incoming *in = CONTAINER_OF(m, struct incoming, mail);
    struct peers *p = in->peers;
    if (in->request.error != OK) {
        reply_send(in, in->request.error);
        return;
    }
    if (in->answer.kind == PEER_CALL_PROBE) {
        peer_answer_send(&in->answer, BYTES_NULL);
        return;
    }
    peer_serve_fn *serve = in->answer.kind < PEER_CALL_KINDS ? p->serve[in->answer.kind] : NULL;
    if (!serve || atomic_load(&p->stopping)) {
        reply_send(in, serve ? ERR_CLOSED : ERR_UNSUPPORTED);
        return;
    }
    in->answer.deadline_ns = p->broker->reactors[0].now_ns + (int64_t)MIN(in->request.timeout_ms, 3600000) * 1000000;
    serve(p->broker, &in->answer, (struct bytes){in->request.bytes, (int32_t)in->request.total});
}

bool peer_call_arrived(struct peer_conn *c, const struct peer_part *p, const uint8_t *body) {
    enum assembled got = piece_add(&c->call, p, body);
    if (got != PIECE_WHOLE) return got != PIECE_BAD;
    struct incoming *in = calloc(1, sizeof *in);
    if (!in || c->calls >= PEER_CALLS_MAX || c->calls_bytes + c->call.total > PEER_CALLS_BYTES) {
        struct peer_part refused = {.kind = PEER_PART_ANSWER, .u.call = {.id = c->call.id, .error = in ? ERR_FULL : ERR_NOMEM}};
        free(in);
        assembly_reset(&c->call);
        return peer_stream_put(&c->stream, &refused, NULL, 0, PEER_QUEUE_CALLS_BYTES);
    }
    c->calls++;
    c->calls_bytes += c->call.total;
    in->peers = c->peers;
    in->home = c->stream.set;
    in->conn = c->id;
    in->id = c->call.id;
    in->request = c->call;
    memset(&c->call, 0, sizeof c->call);
    in->answer = (struct peer_answer){.broker = c->peers->broker, .node = c->hello.node, .incarnation = c->hello.incarnation,
                                      .cluster_id = c->hello.cluster_id, .kind = (enum peer_call_kind)in->request.kind};
    pthread_mutex_lock(&c->peers->lock);
    list_push_back(&c->peers->incoming, &in->link);
    pthread_mutex_unlock(&c->peers->lock);
    in->mail.deliver = call_there;
    mailbox_post(&c->peers->broker->reactors[0].mailbox, &in->mail);
    return true;
}
