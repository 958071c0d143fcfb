/* acceptor.c - see acceptor.h. */
#include "server/acceptor.h"
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/assert.h"
#include "base/trace.h"
#include "server/address.h"
#include "server/conn_impl.h"
#include "server/image.h"
#include "server/quotas.h"
#include "server/reactor.h"

#define LISTEN_BACKLOG 1024
#define RETRY_NS 100000000 /* pause of accepting when descriptors or memory are short */

/* ---- addresses --------------------------------------------------------------------------- */

/* A request that another broker hands on may come before the own listeners are open. */
static void advertised_by_config(const struct config_listener *l, struct str *host, int32_t *port) {
    bool given = l->advertised_host[0];
    *host = given ? str_from(l->advertised_host) : l->host[0] ? str_from(l->host) : STR_LIT("localhost");
    *port = given && l->advertised_port ? l->advertised_port : l->port;
}

void request_advertised(struct request *rq, struct str *host, int32_t *port) {
    const struct acceptor *a = broker_acceptor(rq->reactor->broker);
    if (!rq->conn && a->listener_count == 0) {
        advertised_by_config(&rq->reactor->broker->config.listeners[0], host, port);
        return;
    }
    const struct listener *l = rq->conn ? rq->conn->ticket->listener : &a->listeners[0];
    *host = str_from(l->config->host);
    *port = address_port(&l->addr);
    if (l->config->advertised_host[0]) {
        *host = str_from(l->config->advertised_host);
        if (l->config->advertised_port) *port = l->config->advertised_port;
        return;
    }
    if (!l->wildcard) return;
    char text[INET6_ADDRSTRLEN];
    struct sockaddr_storage local;
    *host = STR_LIT("localhost"); /* when the way in cannot be told */
    if (!rq->conn || rq->conn->closing || io_sockname(rq->reactor->io, rq->conn->fd, &local) < 0) return;
    address_host_text(&local, text);
    char *kept = arena_strdup(&rq->arena, str_from(text));
    if (kept) *host = str_from(kept);
}

void broker_listens_text(const struct broker *b, char *out, size_t len) {
    const struct acceptor *a = broker_acceptor(b);
    size_t at = 0;
    out[0] = 0;
    for (uint32_t i = 0; i < a->listener_count; i++) {
        char host[INET6_ADDRSTRLEN];
        address_host_text(&a->listeners[i].addr, host);
        bool v6 = strchr(host, ':') != NULL;
        int n = snprintf(out + at, len - at, "%s%s%s%s:%u", i ? ", " : "", v6 ? "[" : "", host, v6 ? "]" : "",
                         address_port(&a->listeners[i].addr));
        if (n < 0 || (size_t)n >= len - at) return;
        at += (size_t)n;
    }
}

/* ---- accepting --------------------------------------------------------------------------- */

static struct reactor *home_of(const struct acceptor *a) { return &a->broker->reactors[0]; }

static void listener_close_when_idle(struct acceptor *a, struct listener *l) {
    if (!a->stopping || l->fd < 0) return;
    for (uint32_t i = 0; i < a->slot_count; i++)
        if (a->slots[i].listener == l && a->slots[i].in_flight) return;
    int closed = io_close(home_of(a)->io, l->fd);
    if (closed < 0) trace_warn("accept", "closing a listener: %s", err_str(err_from_errno(closed)));
    l->fd = -1;
}

static void ticket_home(struct mail *m) { /* on reactor 0 */
    struct conn_ticket *t = CONTAINER_OF(m, struct conn_ticket, mail);
    struct acceptor *a = t->acceptor;
    ASSERT(a->conn_count > 0);
    a->conn_count--;
    address_counts_remove(&a->addresses, &t->peer);
    free(t);
}

void acceptor_ticket_closed(struct conn_ticket *ticket) {
    if (ticket->home->index == 0) {
        ticket_home(&ticket->mail);
        return;
    }
    ticket->mail.deliver = ticket_home;
    mailbox_post(&home_of(ticket->acceptor)->mailbox, &ticket->mail);
}

static void ticket_delivered(struct mail *m) { /* on the connection's reactor */
    struct conn_ticket *t = CONTAINER_OF(m, struct conn_ticket, mail);
    conn_start(t->home->conns, t);
}

/* Counts the connection in. NULL: over a limit, or no memory. */
static struct conn_ticket *ticket_new(struct acceptor *a, const struct accept_slot *slot, const char **why) {
    const struct config *config = reactor_config(home_of(a));
    const struct sockaddr_storage *peer = &slot->op.addr;
    *why = "max.connections is reached";
    if (a->conn_count >= (uint32_t)config->max_connections) return NULL;
    *why = "max.connections.per.ip is reached";
    if (address_counts_of(&a->addresses, peer) >= config_connections_from(config, peer)) return NULL;
    *why = "out of memory";
    struct conn_ticket *t = calloc(1, sizeof *t);
    if (!t) return NULL;
    if (address_counts_add(&a->addresses, peer) != OK) {
        free(t);
        return NULL;
    }
    a->conn_count++;
    return t;
}

/* ---- connection_creation_rate (KIP-612) ---------------------------------------------------------- */

static void refused_close(struct conn_ticket *t) {
    timer_cancel(&home_of(t->acceptor)->timers, &t->refused);
    list_remove(&t->link);
    io_close(home_of(t->acceptor)->io, t->fd);
    ticket_home(&t->mail);
}
static void refused_due(struct timer *timer) { refused_close(CONTAINER_OF(timer, struct conn_ticket, refused)); }

/* More connections than the quota of their address allows are not served: they are closed, and as a client would come back
 * at once, only when its quota has room again. */
static bool too_many_at_once(struct acceptor *a, struct conn_ticket *t) {
    char host[INET6_ADDRSTRLEN];
    address_host_text(&t->peer, host);
    int64_t now_ns = home_of(a)->now_ns, wait_ns = quota_connection(a->broker, str_from(host), now_ns);
    if (wait_ns == 0) return false;
    trace_debug("accept", "%s: refused: connection_creation_rate is exceeded", host);
    list_push_back(&a->refused, &t->link);
    timer_init(&t->refused, refused_due);
    timer_set(&home_of(a)->timers, &t->refused, now_ns + wait_ns);
    return true;
}

static void accepted(struct acceptor *a, struct accept_slot *slot, int fd) {
    const char *why;
    struct conn_ticket *t = a->stopping ? NULL : ticket_new(a, slot, &why);
    if (!t) {
        if (!a->stopping) {
            char host[INET6_ADDRSTRLEN];
            address_host_text(&slot->op.addr, host);
            trace_warn("accept", "%s: refused: %s", host, why);
        }
        io_close(home_of(a)->io, fd);
        return;
    }
    t->acceptor = a;
    t->peer = slot->op.addr;
    t->fd = fd;
    if (too_many_at_once(a, t)) return;
    t->home = &a->broker->reactors[a->next_reactor];
    a->next_reactor = (a->next_reactor + 1) % a->broker->reactor_count;
    t->listener = slot->listener;
    if (t->home->index == 0) {
        conn_start(t->home->conns, t);
        return;
    }
    t->mail.deliver = ticket_delivered;
    mailbox_post(&t->home->mailbox, &t->mail);
}

static void accept_done(struct io_op *op);

static void accept_submit(struct accept_slot *slot) {
    memset(&slot->op, 0, sizeof slot->op);
    slot->op.kind = IO_ACCEPT;
    slot->op.fd = slot->listener->fd;
    slot->op.done = accept_done;
    list_init(&slot->op.link);
    slot->in_flight = true;
    io_submit(home_of(slot->acceptor)->io, &slot->op);
}

static void accept_retry(struct timer *t) {
    struct accept_slot *slot = CONTAINER_OF(t, struct accept_slot, retry);
    if (!slot->acceptor->stopping) accept_submit(slot);
}

static void accept_done(struct io_op *op) {
    struct accept_slot *slot = CONTAINER_OF(op, struct accept_slot, op);
    struct acceptor *a = slot->acceptor;
    slot->in_flight = false;
    if (op->result >= 0) {
        accepted(a, slot, (int)op->result);
        if (a->exhausted) trace_info("accept", "connections are accepted again");
        a->exhausted = false;
    }
    if (a->stopping) {
        listener_close_when_idle(a, slot->listener);
        return;
    }
    bool exhausted = op->result == -EMFILE || op->result == -ENFILE || op->result == -ENOBUFS || op->result == -ENOMEM ||
                     op->result == -EINVAL || op->result == -EBADF;
    if (!exhausted) { /* accepted, or the client was gone again */
        accept_submit(slot);
        return;
    }
    if (!a->exhausted)
        trace_warn("accept", "cannot accept connections now (%s): they wait; tried again every %d ms, said once until it works again",
                   strerrordesc_np((int)-op->result), RETRY_NS / 1000000);
    a->exhausted = true;
    timer_set(&home_of(a)->timers, &slot->retry, home_of(a)->now_ns + RETRY_NS);
}

/* ---- life -------------------------------------------------------------------------------- */

void acceptor_init(struct acceptor *a, struct broker *b) {
    memset(a, 0, sizeof *a);
    a->broker = b;
    list_init(&a->refused);
}

static enum err listener_open(struct acceptor *a, const struct config_listener *config, char *why, size_t why_len) {
    struct listener *l = &a->listeners[a->listener_count];
    l->config = config;
    if (!address_resolve(config->host, config->port, &l->addr)) {
        snprintf(why, why_len, "listeners: the host \"%s\" cannot be resolved", config->host);
        return ERR_INVALID;
    }
    l->wildcard = address_is_wildcard(&l->addr);
    l->fd = io_listen(home_of(a)->io, &l->addr, LISTEN_BACKLOG);
    if (l->fd < 0) {
        const char *reason = l->fd == -EADDRINUSE      ? "another process listens there"
                             : l->fd == -EADDRNOTAVAIL ? "this machine has no such address"
                             : l->fd == -EACCES        ? "not permitted (ports below 1024 need a privilege)"
                                                       : strerrordesc_np(-l->fd);
        snprintf(why, why_len, "cannot listen on %s:%u: %s", config->host[0] ? config->host : "0.0.0.0", config->port, reason);
        return l->fd == -EADDRINUSE ? ERR_BUSY : ERR_INVALID;
    }
    a->listener_count++;
    return OK;
}

enum err acceptor_listen(struct acceptor *a, char *why, size_t why_len) {
    const struct config *config = &a->broker->config;
    for (uint32_t i = 0; i < config->listener_count; i++) {
        enum err err = listener_open(a, &config->listeners[i], why, why_len);
        if (err == OK) continue;
        acceptor_stop(a);
        return err;
    }
    for (uint32_t i = 0; i < a->listener_count; i++) {
        for (uint32_t k = 0; k < ACCEPTS_IN_FLIGHT; k++) {
            struct accept_slot *slot = &a->slots[a->slot_count++];
            slot->acceptor = a;
            slot->listener = &a->listeners[i];
            timer_init(&slot->retry, accept_retry);
            accept_submit(slot);
        }
    }
    return OK;
}

void acceptor_stop(struct acceptor *a) {
    if (a->stopping) return;
    a->stopping = true;
    LIST_FOREACH_SAFE(it, &a->refused) refused_close(LIST_ENTRY(it, struct conn_ticket, link));
    for (uint32_t i = 0; i < a->slot_count; i++) {
        timer_cancel(&home_of(a)->timers, &a->slots[i].retry);
        if (a->slots[i].in_flight) io_cancel(home_of(a)->io, &a->slots[i].op);
    }
    for (uint32_t i = 0; i < a->listener_count; i++) {
        (void)io_shutdown(home_of(a)->io, a->listeners[i].fd); /* ends accepts that the cancel missed */
        listener_close_when_idle(a, &a->listeners[i]);
    }
}

bool acceptor_stopped(const struct acceptor *a) {
    for (uint32_t i = 0; i < a->listener_count; i++)
        if (a->listeners[i].fd >= 0) return false;
    return true;
}

void acceptor_free(struct acceptor *a) { address_counts_free(&a->addresses); }
