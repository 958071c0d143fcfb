/* The simulated network: byte streams between sockets of one address space.
 *
 * Bytes leave the sender into an event, arrive in order at the peer's `arrived` buffer after a
 * random delay, and are taken from there by receives. Arrived bytes and bytes under way together
 * never exceed WINDOW_BYTES; a sender waits for the reader beyond that.
 *
 * What is under way to a socket waits in its `inbound` queue, ends of streams and resets included; an
 * event says that the next of them is due. Where the link is cut it stays, and what is due is owed. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "tests/sim/sim_world.h"

#define WINDOW_BYTES 65536u
#define CONNECT_RETRY_NS 200000000 /* a connect over a link that is cut is tried again, as by TCP */

struct delivery {
    struct list link; /* sim_socket.inbound */
    void (*arrive)(struct sim_world *w, struct sim_socket *socket, struct delivery *d);
    size_t len;
    uint8_t bytes[];
};

struct sim_socket {
    struct list link; /* sim_world.sockets; kept until the world ends */
    struct list listener_link; /* sim_world.listeners, for those that ever listened: connects look them up by the million */
    unsigned node;
    bool listening, connected, connecting, closed;
    bool shut;        /* by this side */
    bool peer_ended;  /* end of stream has arrived */
    bool broken;      /* a reset has arrived */
    struct sim_socket *peer;
    struct sockaddr_storage address; /* of this end, once listening or connected */
    uint8_t *arrived;                /* WINDOW_BYTES */
    size_t arrived_len, under_way;   /* under_way: sent to this socket, not yet here */
    int64_t last_arrival_ns;
    struct list inbound;             /* of delivery.link */
    size_t owed;                     /* of them: due, but the link is cut */
    struct list receivers, senders;  /* of io_op.link; accepts wait in receivers */
    struct sim_socket **backlog;     /* connected, not yet accepted */
    size_t backlog_len, backlog_cap;
};

static struct sim_socket *socket_new(struct sim_world *w, unsigned node) {
    struct sim_socket *socket = calloc(1, sizeof *socket);
    ASSERT(socket);
    socket->node = node;
    list_init(&socket->receivers);
    list_init(&socket->senders);
    list_init(&socket->inbound);
    list_push_back(&w->sockets, &socket->link);
    return socket;
}

void net_free(struct sim_world *w) {
    struct list *node;
    while ((node = list_pop_front(&w->sockets))) {
        struct sim_socket *socket = LIST_ENTRY(node, struct sim_socket, link);
        struct list *it;
        while ((it = list_pop_front(&socket->inbound))) free(LIST_ENTRY(it, struct delivery, link));
        free(socket->arrived);
        free(socket->backlog);
        free(socket);
    }
}

/* ---- addresses -------------------------------------------------------------------------------- */

static uint16_t *port_of(struct sockaddr_storage *addr) {
    return addr->ss_family == AF_INET6 ? &((struct sockaddr_in6 *)addr)->sin6_port
                                       : &((struct sockaddr_in *)addr)->sin_port;
}

static bool same_host(const struct sockaddr_storage *listener, const struct sockaddr_storage *wanted) {
    if (listener->ss_family != wanted->ss_family) return false;
    if (listener->ss_family == AF_INET6) {
        const struct sockaddr_in6 *l = (const void *)listener, *a = (const void *)wanted;
        return memcmp(&l->sin6_addr, &in6addr_any, 16) == 0 || memcmp(&l->sin6_addr, &a->sin6_addr, 16) == 0;
    }
    const struct sockaddr_in *l = (const void *)listener, *a = (const void *)wanted;
    return l->sin_addr.s_addr == INADDR_ANY || l->sin_addr.s_addr == a->sin_addr.s_addr;
}

static struct sim_socket *find_listener(struct sim_world *w, struct sockaddr_storage *addr) {
    LIST_FOREACH(it, &w->listeners) {
        struct sim_socket *l = LIST_ENTRY(it, struct sim_socket, listener_link);
        if (l->listening && !l->closed && !l->shut && *port_of(&l->address) == *port_of(addr) &&
            same_host(&l->address, addr))
            return l;
    }
    return NULL;
}

int net_listen(struct sim_world *w, unsigned node, struct sockaddr_storage *addr) {
    if (addr->ss_family != AF_INET && addr->ss_family != AF_INET6) return -EAFNOSUPPORT;
    if (*port_of(addr) == 0) {
        do {
            *port_of(addr) = __builtin_bswap16(w->next_port++);
        } while (find_listener(w, addr));
    } else if (find_listener(w, addr)) {
        return -EADDRINUSE;
    }
    struct sim_socket *socket = socket_new(w, node);
    socket->listening = true;
    list_push_back(&w->listeners, &socket->listener_link);
    socket->address = *addr;
    return sim_handle_new(&w->nodes[node], (struct sim_handle){.socket = socket});
}

int net_socket(struct sim_world *w, unsigned node) {
    return sim_handle_new(&w->nodes[node], (struct sim_handle){.socket = socket_new(w, node)});
}

/* ---- what waits, is tried again --------------------------------------------------------------- */

static void try_senders(struct sim_world *w, struct sim_socket *from);

static size_t take(struct sim_world *w, struct sim_socket *socket, uint8_t *to, size_t len, bool all) {
    len = MIN(len, socket->arrived_len);
    if (!all && len > 1 && w->tuning.short_receives && prng_below(&w->net_prng, 2) == 0)
        len = 1 + (size_t)prng_below(&w->net_prng, len);
    memcpy(to, socket->arrived, len);
    memmove(socket->arrived, socket->arrived + len, socket->arrived_len - len);
    socket->arrived_len -= len;
    return len;
}

/* A result, or -EAGAIN: not yet; -ENOBUFS: no pooled buffer. */
static int64_t try_recv(struct sim_world *w, struct sim_socket *socket, struct io_op *op) {
    struct sim_progress *p = progress_of(op);
    if (socket->broken) return p->bytes ? (int64_t)p->bytes : -ECONNRESET;
    if (!socket->connected) return -ENOTCONN;
    if (socket->shut || (socket->arrived_len == 0 && socket->peer_ended)) return (int64_t)p->bytes;
    if (socket->arrived_len == 0) return -EAGAIN;
    if (op->flags & IO_POOLED) {
        uint8_t *buf = recv_pool_take(&p->s->pool);
        if (!buf) return -ENOBUFS;
        op->buf = buf;
        return (int64_t)take(w, socket, buf, IO_POOLED_RECV_BYTES, false);
    }
    bool all = op->flags & IO_WAITALL;
    p->bytes += take(w, socket, (uint8_t *)op->buf + p->bytes, op->len - p->bytes, all);
    if (!all || p->bytes == op->len) return (int64_t)p->bytes;
    return socket->peer_ended ? (int64_t)p->bytes : -EAGAIN;
}

static int64_t try_accept(struct sim_world *w, struct sim_socket *socket, struct io_op *op) {
    if (socket->shut || socket->closed) return -EINVAL;
    if (socket->backlog_len == 0) return -EAGAIN;
    struct sim_socket *accepted = socket->backlog[0];
    socket->backlog_len--;
    memmove(socket->backlog, socket->backlog + 1, socket->backlog_len * sizeof(*socket->backlog));
    op->addr = accepted->peer->address;
    return sim_handle_new(&w->nodes[socket->node], (struct sim_handle){.socket = accepted});
}

static void try_receivers(struct sim_world *w, struct sim_socket *socket) {
    size_t before = socket->arrived_len;
    while (!list_empty(&socket->receivers)) {
        struct io_op *op = LIST_ENTRY(socket->receivers.next, struct io_op, link);
        int64_t result = op->kind == IO_ACCEPT ? try_accept(w, socket, op) : try_recv(w, socket, op);
        if (result == -EAGAIN) break;
        list_remove(&op->link);
        if (result == -ENOBUFS) {
            progress_of(op)->stage = STAGE_STARVED;
            list_push_back(&progress_of(op)->s->starved, &op->link);
        } else {
            sim_finish(op, result);
        }
    }
    if (socket->arrived_len < before && socket->peer && !socket->peer->closed) try_senders(w, socket->peer);
}

static void arrive_bytes(struct sim_world *w, struct sim_socket *socket, struct delivery *d) {
    socket->under_way -= d->len;
    if (socket->closed || socket->broken) return;
    if (!socket->arrived) socket->arrived = malloc(WINDOW_BYTES);
    ASSERT(socket->arrived && socket->arrived_len + d->len <= WINDOW_BYTES);
    memcpy(socket->arrived + socket->arrived_len, d->bytes, d->len);
    socket->arrived_len += d->len;
    try_receivers(w, socket);
}

static void arrive_end(struct sim_world *w, struct sim_socket *socket, struct delivery *d) {
    (void)d;
    socket->peer_ended = true;
    try_receivers(w, socket);
}

static void break_socket(struct sim_world *w, struct sim_socket *socket) {
    if (socket->closed) return;
    socket->broken = true;
    socket->arrived_len = 0;
    try_receivers(w, socket);
    try_senders(w, socket);
}

static void arrive_reset(struct sim_world *w, struct sim_socket *socket, struct delivery *d) {
    (void)d;
    break_socket(w, socket);
}

static bool is_cut(const struct sim_world *w, const struct sim_socket *to) {
    return to->peer && w->links[to->peer->node][to->node].cut;
}

static void fire_delivery(struct sim_world *w, struct sim_event *e) {
    struct sim_socket *socket = e->socket;
    if (is_cut(w, socket)) {
        socket->owed++;
        return;
    }
    struct delivery *d = LIST_ENTRY(list_pop_front(&socket->inbound), struct delivery, link);
    d->arrive(w, socket, d);
    free(d);
}

/* What arrives at one socket arrives in the order in which it was sent. */
static void schedule_delivery(struct sim_world *w, struct sim_socket *to) {
    int64_t delay_ns = sim_net_delay(w); /* drawn once: MAX evaluates twice */
    if (to->peer) delay_ns += w->links[to->peer->node][to->node].delay_ns;
    int64_t arrival_ns = MAX(w->now_ns + delay_ns, to->last_arrival_ns);
    to->last_arrival_ns = arrival_ns;
    sim_schedule(w, arrival_ns, 0, fire_delivery)->socket = to;
}

static struct delivery *send_delivery(struct sim_world *w, struct sim_socket *to, size_t len,
                                      void (*arrive)(struct sim_world *w, struct sim_socket *socket, struct delivery *d)) {
    struct delivery *d = malloc(sizeof *d + len);
    ASSERT(d);
    d->arrive = arrive;
    d->len = len;
    list_push_back(&to->inbound, &d->link);
    schedule_delivery(w, to);
    return d;
}

static void copy_out(const struct io_op *op, uint64_t offset, uint8_t *to, size_t len) {
    for (uint32_t i = 0; i < op->iov_count && len > 0; i++) {
        size_t have = op->iov[i].iov_len;
        if (offset >= have) {
            offset -= have;
            continue;
        }
        size_t part = MIN(len, have - (size_t)offset);
        memcpy(to, (const uint8_t *)op->iov[i].iov_base + offset, part);
        to += part;
        len -= part;
        offset = 0;
    }
}

static int64_t try_send(struct sim_world *w, struct sim_socket *socket, struct io_op *op) {
    struct sim_progress *p = progress_of(op);
    if (socket->broken) return -ECONNRESET;
    if (!socket->connected) return -ENOTCONN;
    if (socket->shut) return -EPIPE;
    struct sim_socket *peer = socket->peer;
    uint64_t total = 0;
    for (uint32_t i = 0; i < op->iov_count; i++) total += op->iov[i].iov_len;
    while (p->bytes < total) {
        size_t used = peer->closed ? 0 : peer->arrived_len + peer->under_way;
        size_t part = (size_t)MIN(total - p->bytes, (uint64_t)(WINDOW_BYTES - used));
        if (part == 0) return -EAGAIN;
        struct delivery *d = send_delivery(w, peer, part, arrive_bytes);
        copy_out(op, p->bytes, d->bytes, part);
        peer->under_way += part;
        p->bytes += part;
        if (peer->closed || peer->shut) { /* nobody reads there: it answers with a reset */
            send_delivery(w, socket, 0, arrive_reset);
            return (int64_t)total;
        }
    }
    return (int64_t)total;
}

static void try_senders(struct sim_world *w, struct sim_socket *from) {
    while (!list_empty(&from->senders)) {
        struct io_op *op = LIST_ENTRY(from->senders.next, struct io_op, link);
        int64_t result = try_send(w, from, op);
        if (result == -EAGAIN) return;
        list_remove(&op->link);
        sim_finish(op, result);
    }
}

static void backlog_push(struct sim_socket *listener, struct sim_socket *socket) {
    if (listener->backlog_len == listener->backlog_cap) {
        listener->backlog_cap = listener->backlog_cap ? listener->backlog_cap * 2 : 8;
        listener->backlog = realloc(listener->backlog, listener->backlog_cap * sizeof(*listener->backlog));
        ASSERT(listener->backlog);
    }
    listener->backlog[listener->backlog_len++] = socket;
}

static void fire_connect(struct sim_world *w, struct sim_event *e);

static void connect_later(struct sim_world *w, struct sim_socket *client, struct io_op *op, struct sim_io *s, int64_t delay_ns) {
    struct sim_event *e = sim_schedule(w, w->now_ns + delay_ns, 0, fire_connect);
    e->socket = client;
    e->op = op;
    e->s = s;
    client->connecting = true;
}

static void fire_connect(struct sim_world *w, struct sim_event *e) {
    struct sim_socket *client = e->socket;
    client->connecting = false;
    if (!e->op) return;
    struct sim_socket *listener = find_listener(w, &e->op->addr);
    if (listener && (w->links[client->node][listener->node].cut || w->links[listener->node][client->node].cut)) {
        connect_later(w, client, e->op, e->s, CONNECT_RETRY_NS);
        return;
    }
    if (client->closed || !listener) {
        sim_finish(e->op, -ECONNREFUSED);
        return;
    }
    struct sim_socket *server = socket_new(w, listener->node);
    server->address = client->address = e->op->addr; /* one host: only the ports differ */
    *port_of(&client->address) = __builtin_bswap16(w->next_port++);
    client->peer = server;
    server->peer = client;
    client->connected = server->connected = true;
    backlog_push(listener, server);
    sim_finish(e->op, 0);
    try_receivers(w, listener);
}

/* ---- calls ------------------------------------------------------------------------------------ */

void net_submit(struct sim_io *s, struct io_op *op, struct sim_socket *socket) {
    struct sim_world *w = s->world;
    if (op->kind == IO_CONNECT) {
        connect_later(w, socket, op, s, sim_net_delay(w));
        progress_of(op)->stage = STAGE_EVENT;
        return;
    }
    bool sends = op->kind == IO_SEND;
    progress_of(op)->stage = STAGE_SOCKET;
    list_push_back(sends ? &socket->senders : &socket->receivers, &op->link);
    if (sends) try_senders(w, socket);
    else try_receivers(w, socket);
}

void net_retry_starved(struct sim_io *s) {
    while (s->pool.free_count > 0 && !list_empty(&s->starved)) {
        struct io_op *op = LIST_ENTRY(list_pop_front(&s->starved), struct io_op, link);
        struct sim_handle *h = sim_handle(&s->world->nodes[s->node_id], op->fd);
        ASSERT(h && h->socket);
        progress_of(op)->stage = STAGE_SOCKET;
        list_push_front(&h->socket->receivers, &op->link);
        try_receivers(s->world, h->socket);
    }
}

int net_shutdown(struct sim_world *w, struct sim_socket *socket) {
    if (!socket->connected && !socket->listening) return -ENOTCONN;
    if (socket->shut) return 0;
    socket->shut = true;
    if (socket->connected) send_delivery(w, socket->peer, 0, arrive_end);
    try_receivers(w, socket);
    try_senders(w, socket);
    return 0;
}

int net_sockname(const struct sim_socket *socket, struct sockaddr_storage *addr) {
    if (!socket->connected && !socket->listening) return -ENOTCONN;
    *addr = socket->address;
    return 0;
}

/* Bytes that nobody read turn the end of the stream into a reset, as TCP does. */
void net_close(struct sim_world *w, struct sim_socket *socket) {
    ASSERT(list_empty(&socket->receivers) && list_empty(&socket->senders));
    if (socket->connected && !socket->broken) {
        if (socket->arrived_len > 0) send_delivery(w, socket->peer, 0, arrive_reset);
        else if (!socket->shut) send_delivery(w, socket->peer, 0, arrive_end);
    }
    for (size_t i = 0; i < socket->backlog_len; i++) send_delivery(w, socket->backlog[i]->peer, 0, arrive_reset);
    socket->closed = true;
    socket->backlog_len = 0;
    socket->arrived_len = 0;
    free(socket->arrived);
    socket->arrived = NULL;
}

void net_node_down(struct sim_world *w, unsigned node) {
    LIST_FOREACH(it, &w->sockets) {
        struct sim_socket *socket = LIST_ENTRY(it, struct sim_socket, link);
        if (socket->node != node || socket->closed) continue;
        list_init(&socket->receivers); /* the ops are forgotten, not touched */
        list_init(&socket->senders);
        if (socket->connected && !socket->broken) {
            send_delivery(w, socket->peer, 0, arrive_reset);
            socket->broken = true;
        }
        net_close(w, socket);
    }
}

void sim_reset_connection(struct sim_world *w, unsigned node, int fd) {
    struct sim_handle *h = sim_handle(&w->nodes[node], fd);
    ASSERT(h && h->socket && h->socket->connected);
    send_delivery(w, h->socket, 0, arrive_reset);
    send_delivery(w, h->socket->peer, 0, arrive_reset);
}

/* ---- links ------------------------------------------------------------------------------------ */

void sim_link_cut(struct sim_world *w, unsigned from, unsigned to, bool cut) {
    struct sim_link *link = &w->links[from][to];
    if (link->cut == cut) return;
    link->cut = cut;
    sim_note(w, 'l', from, to, cut);
    if (cut) return;
    LIST_FOREACH(it, &w->sockets) {
        struct sim_socket *socket = LIST_ENTRY(it, struct sim_socket, link);
        if (socket->node != to || !socket->peer || socket->peer->node != from) continue;
        for (; socket->owed > 0; socket->owed--) schedule_delivery(w, socket);
    }
}

bool sim_link_is_cut(const struct sim_world *w, unsigned from, unsigned to) { return w->links[from][to].cut; }

void sim_link_delay(struct sim_world *w, unsigned from, unsigned to, int64_t delay_ns) { w->links[from][to].delay_ns = delay_ns; }

void sim_link_reset(struct sim_world *w, unsigned a, unsigned b) {
    sim_note(w, 'L', a, b, 0);
    LIST_FOREACH(it, &w->sockets) {
        struct sim_socket *socket = LIST_ENTRY(it, struct sim_socket, link);
        if (!socket->connected || socket->broken || !socket->peer) continue;
        bool between = (socket->node == a && socket->peer->node == b) || (socket->node == b && socket->peer->node == a);
        if (between) break_socket(w, socket);
    }
}
