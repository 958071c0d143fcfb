/* peer_accept.c - the listener for other brokers, and the first words of a connection.
 *
 * Reactor 0 accepts and hears the hello; a connection whose hello it likes goes to the reactor with the number of the one that
 * speaks there: with as many reactors on both sides a group's messages arrive where the group lives. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/assert.h"
#include "base/trace.h"
#include "server/peer_impl.h"

#define RETRY_NS 100000000
#define BACKLOG 128

static struct reactor *home_of(const struct peers *p) { return &p->broker->reactors[0]; }

/* ---- the hello ------------------------------------------------------------------------------------ */

static void greeting_leave(struct peer_conn *c) {
    timer_cancel(&home_of(c->peers)->timers, &c->timer);
    list_remove(&c->link);
    c->peers->greeting_count--;
    address_counts_remove(&c->peers->greeting_from, &c->addr);
}

static void greet_late(struct timer *t) {
    peer_stream_close(&CONTAINER_OF(t, struct peer_conn, timer)->stream, "it did not say hello in time", true);
}

static void moved(struct mail *m) { /* on its reactor */
    struct peer_conn *c = CONTAINER_OF(m, struct peer_conn, mail);
    peer_conn_start(c, c->stream.set);
}

static void greet_frame(struct peer_stream *s, struct peer_frame *f) {
    struct peer_conn *c = CONTAINER_OF(s, struct peer_conn, stream);
    struct peers *p = c->peers;
    struct peer_hello answer;
    char why[160], text[256];
    bool extra = c->moving || c->refused;
    enum err err = extra ? ERR_CORRUPT : peer_hello_decode(&f->arena, f->bytes, f->sizes.header_bytes, &c->hello);
    peer_frame_free(f);
    if (err != OK) {
        peer_stream_close(s, extra ? "it spoke before it was answered" : "its hello makes no sense", true);
        return;
    }
    s->paused = true;
    peer_hello_fill(p, &answer, c->hello.node, 0);
    if (c->hello.wanted >= 0 && c->hello.wanted != p->node) {
        snprintf(answer.refused, sizeof answer.refused, "this is broker %d, not %d", p->node, c->hello.wanted);
        answer.refusal = PEER_REFUSED_WRONG_NODE;
    } else if ((answer.refusal = peer_hello_refused(p, &c->hello, -1, why, sizeof why))) {
        snprintf(text, sizeof text, ": broker %d is refused: %s", c->hello.node, why);
        peer_say_refused(p, answer.refusal, home_of(p)->now_ns, c->from, text);
        snprintf(answer.refused, sizeof answer.refused, "broker %d refuses: %s", p->node, why);
    } else if ((c->slot = peer_node_make(p, c->hello.node, false)) < 0) {
        snprintf(text, sizeof text, ": broker %d is refused: too many brokers that this one does not know are connected", c->hello.node);
        peer_say_refused(p, answer.refusal = PEER_REFUSED_OTHER, home_of(p)->now_ns, c->from, text);
        snprintf(answer.refused, sizeof answer.refused, "too many brokers that broker %d does not know are connected to it", p->node);
    } else {
        atomic_fetch_add(&p->nodes[c->slot].conns, 1);
    }
    c->refused = answer.refused[0] != 0;
    c->moving = !c->refused;
    if (!peer_stream_put_hello(s, &answer)) peer_stream_close(s, "out of memory", false);
}

static void greet_closing(struct peer_stream *s, const char *why, bool broken) {
    struct peer_conn *c = CONTAINER_OF(s, struct peer_conn, stream);
    if (why && broken && !c->refused) trace_warn("peer", "%s: closing a connection to the listener for brokers: %s", c->from, why);
}

static void greet_ended(struct peer_stream *s) {
    struct peer_conn *c = CONTAINER_OF(s, struct peer_conn, stream);
    greeting_leave(c);
    peer_conn_free(c);
}

static void greet_drained(struct peer_stream *s) {
    struct peer_conn *c = CONTAINER_OF(s, struct peer_conn, stream);
    struct peers *p = c->peers;
    if (c->refused) {
        peer_stream_close(s, NULL, false);
        return;
    }
    if (!c->moving) return;
    if (s->head_len > 0 || s->frame) {
        peer_stream_close(s, "it spoke before it was answered", true);
        return;
    }
    greeting_leave(c);
    peer_node_heard(p, c->slot, home_of(p)->io);
    peer_node_arrived(p, c->slot, &c->hello);
    atomic_fetch_add(&p->nodes[c->slot].arrivals, 1);
    peer_nodes_changed(p);
    struct peer_set *set = &p->sets[c->hello.reactor % p->broker->reactor_count];
    int fd = peer_stream_release(s);
    peer_stream_begin(s, set, NULL, fd); /* again, when it is there */
    c->mail.deliver = moved;
    mailbox_post(&set->reactor->mailbox, &c->mail);
}

static const struct peer_stream_type greeting = {greet_frame, greet_closing, greet_ended, greet_drained};

/* ---- accepting --------------------------------------------------------------------------------------- */

/* Counts a connection in, as one that is there and as one that has not said hello. NULL: it may be; else why not. */
static const char *count_in(struct peers *p, const struct sockaddr_storage *from) {
    const char *why = NULL;
    if (atomic_load(&p->conn_count) >= PEER_CONNS_MAX || p->greeting_count >= PEER_GREETING_MAX) return "too many connections";
    if (address_counts_of(&p->greeting_from, from) >= PEER_GREETING_FROM_MAX) return "too many connections of this address that say nothing";
    if (address_counts_add(&p->greeting_from, from) != OK) return "out of memory";
    pthread_mutex_lock(&p->lock);
    if (address_counts_of(&p->from, from) >= PEER_CONNS_FROM_MAX) why = "too many connections of this address";
    else if (address_counts_add(&p->from, from) != OK) why = "out of memory";
    pthread_mutex_unlock(&p->lock);
    if (why) address_counts_remove(&p->greeting_from, from);
    else p->greeting_count++;
    return why;
}

static void refuse(struct peers *p, int fd, const struct sockaddr_storage *from, const char *why) {
    char text[ADDRESS_TEXT_BYTES], host[INET6_ADDRSTRLEN], said[INET6_ADDRSTRLEN + 128];
    address_text(from, text);
    address_host_text(from, host);
    snprintf(said, sizeof said, ": refused at the listener for brokers: %s (%s)", why, host);
    peer_say_refused(p, PEER_REFUSED_OTHER, home_of(p)->now_ns, text, said);
    io_close(home_of(p)->io, fd);
}

static void accepted(struct peers *p, int fd, const struct sockaddr_storage *from) {
    struct peer_conn *c = calloc(1, sizeof *c);
    const char *why = c ? count_in(p, from) : "out of memory";
    if (why) {
        free(c);
        refuse(p, fd, from, why);
        return;
    }
    atomic_fetch_add(&p->conn_count, 1);
    c->peers = p;
    c->slot = -1;
    c->addr = *from;
    address_text(from, c->from);
    peer_stream_begin(&c->stream, &p->sets[0], &greeting, fd);
    timer_init(&c->timer, greet_late);
    timer_set(&home_of(p)->timers, &c->timer, home_of(p)->now_ns + PEER_GREET_NS);
    list_push_back(&p->greeting, &c->link);
    peer_stream_read(&c->stream);
}

static void accept_done(struct io_op *op);

static void accept_submit(struct peer_accept *a) {
    memset(&a->op, 0, sizeof a->op);
    a->op.kind = IO_ACCEPT;
    a->op.fd = a->peers->listen_fd;
    a->op.done = accept_done;
    list_init(&a->op.link);
    a->in_flight = true;
    io_submit(home_of(a->peers)->io, &a->op);
}

static void accept_retry(struct timer *t) {
    struct peer_accept *a = CONTAINER_OF(t, struct peer_accept, retry);
    if (a->peers->listen_fd >= 0 && !atomic_load(&a->peers->stopping)) accept_submit(a);
}

static void listener_close_when_idle(struct peers *p) {
    if (p->listen_fd < 0) return;
    for (uint32_t i = 0; i < PEER_ACCEPTS; i++)
        if (p->accepts[i].in_flight) return;
    int closed = io_close(home_of(p)->io, p->listen_fd);
    if (closed < 0) trace_warn("peer", "closing the listener: %s", err_str(err_from_errno(closed)));
    p->listen_fd = -1;
}

static void accept_done(struct io_op *op) {
    struct peer_accept *a = CONTAINER_OF(op, struct peer_accept, op);
    struct peers *p = a->peers;
    a->in_flight = false;
    bool stopping = atomic_load(&p->stopping);
    if (op->result >= 0) {
        if (stopping) io_close(home_of(p)->io, (int)op->result);
        else accepted(p, (int)op->result, &op->addr);
    }
    if (stopping) {
        listener_close_when_idle(p);
    } else if (op->result >= 0 || op->result == -ECONNABORTED || op->result == -EINTR) {
        accept_submit(a);
    } else {
        trace_warn("peer", "cannot accept connections now: %s", strerrordesc_np((int)-op->result));
        timer_set(&home_of(p)->timers, &a->retry, home_of(p)->now_ns + RETRY_NS);
    }
}

static void say_where(struct peers *p) {
    const char *host;
    int32_t port;
    if (!peer_advertised(p->broker, &host, &port) || strlen(host) >= sizeof p->own_host) return;
    pthread_mutex_lock(&p->lock);
    strcpy(p->own_host, host);
    p->own_port = (uint16_t)port;
    pthread_mutex_unlock(&p->lock);
}

enum err peer_listen(struct peers *p, char *why, size_t why_len) {
    const struct config_address *at = &p->broker->config.peer_listen;
    const char *host = at->host[0] ? at->host : "0.0.0.0";
    if (!address_resolve(at->host, at->port, &p->listen_addr)) {
        snprintf(why, why_len, "the listener for other brokers: the host \"%s\" cannot be resolved", at->host);
        return ERR_INVALID;
    }
    int fd = io_listen(home_of(p)->io, &p->listen_addr, BACKLOG);
    if (fd < 0) {
        const char *reason = fd == -EADDRINUSE      ? "another process listens there"
                             : fd == -EADDRNOTAVAIL ? "this machine has no such address (peer.listen says where to listen instead)"
                                                    : strerrordesc_np(-fd);
        snprintf(why, why_len, "cannot listen for other brokers on %s:%u: %s", host, at->port, reason);
        return fd == -EADDRINUSE ? ERR_BUSY : ERR_INVALID;
    }
    p->listen_fd = fd;
    address_host_text(&p->listen_addr, p->listen_host);
    say_where(p);
    for (uint32_t i = 0; i < PEER_ACCEPTS; i++) {
        p->accepts[i].peers = p;
        timer_init(&p->accepts[i].retry, accept_retry);
        accept_submit(&p->accepts[i]);
    }
    return OK;
}

void peer_listen_stop(struct peers *p) {
    if (p->listen_fd < 0) return;
    for (uint32_t i = 0; i < PEER_ACCEPTS; i++) {
        timer_cancel(&home_of(p)->timers, &p->accepts[i].retry);
        if (p->accepts[i].in_flight) io_cancel(home_of(p)->io, &p->accepts[i].op);
    }
    (void)io_shutdown(home_of(p)->io, p->listen_fd); /* ends accepts that the cancel missed */
    listener_close_when_idle(p);
}
