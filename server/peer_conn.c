/* peer_conn.c - an incoming connection on its reactor, and the way of what it brings to the reactors that own the groups.
 *
 * A frame stays with its connection's reactor; the others get, by mail, a list of the parts that are theirs, read them where they
 * lie, and send the list back. Deliveries wait in an inbox, of which a reactor does a bounded part in a turn. */
#include <stdlib.h>
#include "base/assert.h"
#include "base/trace.h"
#include "server/peer_impl.h"

/* ---- delivery ------------------------------------------------------------------------------------- */

static void frame_back(struct peer_frame *f) {
    if (f->stream) peer_stream_undelivered(f->stream, f, true);
    list_remove(&f->link);
    peer_frame_free(f);
}

static void delivery_back(struct mail *m) { /* at home */
    struct peer_frame *f = CONTAINER_OF(m, struct peer_delivery, mail)->frame;
    if (--f->deliveries == 0) frame_back(f);
}

static void delivery_there(struct mail *m) { /* at the target */
    struct peer_delivery *d = CONTAINER_OF(m, struct peer_delivery, mail);
    list_push_back(&d->target->inbox, &d->link);
}

static void delivery_done(struct peer_delivery *d) {
    list_remove(&d->link);
    d->mail.deliver = delivery_back;
    if (d->home == d->target) delivery_back(&d->mail);
    else mailbox_post(&d->home->reactor->mailbox, &d->mail);
}

static uint32_t owner_of(const struct peers *p, uint64_t group) {
    const struct broker *b = p->broker;
    return b->store ? log_store_shard_of(b->store, group) : (uint32_t)(group % b->reactor_count);
}

static struct peer_delivery *delivery_for(struct peer_set *home, struct peer_frame *f, uint32_t target, int32_t node,
                                          const struct uuid *incarnation, struct list *all) {
    LIST_FOREACH(it, all) {
        struct peer_delivery *d = LIST_ENTRY(it, struct peer_delivery, link);
        if (d->target->reactor->index == target) return d;
    }
    struct peer_delivery *d = arena_alloc(&f->arena, sizeof *d);
    if (!d) return NULL;
    d->parts = arena_array(&f->arena, f->part_count, sizeof *d->parts);
    if (!d->parts) return NULL;
    d->home = home;
    d->target = &home->peers->sets[target];
    d->frame = f;
    d->node = node;
    d->incarnation = *incarnation;
    list_push_back(all, &d->link);
    return d;
}

void peer_deliver(struct peer_set *set, struct peer_frame *f, int32_t node, const struct uuid *incarnation) {
    struct list all, *it;
    list_init(&all);
    for (uint32_t i = 0; i < f->part_count; i++) {
        const struct peer_part *part = &f->parts[i];
        if (part->kind != PEER_PART_REPLICA && part->kind != PEER_PART_LEADER) continue;
        struct peer_delivery *d = delivery_for(set, f, owner_of(set->peers, part->group), node, incarnation, &all);
        if (d) d->parts[d->count++] = i; /* no memory: lost */
    }
    if (list_empty(&all)) {
        peer_frame_free(f);
        return;
    }
    list_push_back(&f->stream->frames, &f->link);
    peer_stream_undelivered(f->stream, f, false);
    for (it = all.next; it != &all; it = it->next) f->deliveries++;
    while ((it = list_pop_front(&all))) {
        struct peer_delivery *d = LIST_ENTRY(it, struct peer_delivery, link);
        if (d->target == set) {
            list_push_back(&set->inbox, &d->link);
        } else {
            d->mail.deliver = delivery_there;
            mailbox_post(&d->target->reactor->mailbox, &d->mail);
        }
    }
}

static void part_run(struct peer_set *set, const struct peer_delivery *d, const struct peer_part *part) {
    const struct peer_hooks *hooks = set->peers->hooks;
    if (part->kind == PEER_PART_LEADER) {
        if (hooks->leader) hooks->leader(set->reactor, d->node, part->group, &part->u.leader);
        return;
    }
    if (!hooks->receive) return;
    struct replica_message m = part->u.replica;
    m.from = (struct replica_member){d->node, replica_incarnation(&d->incarnation, part->from_life)};
    m.to = (struct replica_member){set->peers->node, replica_incarnation(&set->peers->incarnation, part->to_life)};
    hooks->receive(set->reactor, part->group, &m, (struct bytes){peer_frame_body(d->frame) + part->body_at, (int32_t)part->body_bytes});
}

bool peer_inbox_run(struct peer_set *set) {
    int64_t end_ns = 0;
    uint32_t run = 0;
    while (!list_empty(&set->inbox)) {
        struct peer_delivery *d = LIST_ENTRY(set->inbox.next, struct peer_delivery, link);
        while (d->next < d->count && !set->shut) {
            part_run(set, d, &d->frame->parts[d->parts[d->next++]]);
            if (++run % 8 != 0) continue;
            int64_t now_ns = io_mono_ns(set->reactor->io);
            if (end_ns == 0) end_ns = now_ns + PEER_DELIVER_NS;
            if (now_ns >= end_ns) return true;
        }
        delivery_done(d);
    }
    return false;
}

/* ---- the connection ---------------------------------------------------------------------------------- */

/* Parts that are not for the owner of a group. False: the connection was closed. */
static bool own_part(struct peer_conn *c, const struct peer_part *part, struct peer_frame *f) {
    struct peer_part pong = {.kind = PEER_PART_PONG, .u.ping = part->u.ping};
    switch (part->kind) {
    case PEER_PART_PING:
        peer_node_disk(c->peers, c->slot, part->disk);
        peer_node_wall(c->peers, c->slot, part->wall_ms, c->stream.set->reactor->now_ms);
        if (peer_stream_put(&c->stream, &pong, NULL, 0, PEER_QUEUE_CALLS_BYTES)) return true;
        peer_stream_close(&c->stream, "out of memory for an answer to its ping", false);
        return false;
    case PEER_PART_CALL:
        if (peer_call_arrived(c, part, peer_frame_body(f) + part->body_at)) return true;
        peer_stream_close(&c->stream, "the pieces of a call do not fit", true);
        return false;
    case PEER_PART_REPLICA:
    case PEER_PART_LEADER:
    case PEER_PART_BEAT: return true;
    case PEER_PART_PONG:
    case PEER_PART_ANSWER: break;
    }
    peer_stream_close(&c->stream, "it answers what nobody asked", true);
    return false;
}

/* Connections for single calls say nothing of a reactor. */
static void heard(const struct peer_conn *c) {
    struct io *io = c->stream.set->reactor->io;
    peer_node_heard(c->peers, c->slot, io);
    if (c->hello.wanted >= 0 && c->hello.reactor < PEER_REACTORS_MAX)
        atomic_store_explicit(&c->peers->nodes[c->slot].beats[c->hello.reactor], io_mono_ns(io), memory_order_relaxed);
}

static void conn_frame(struct peer_stream *s, struct peer_frame *f) {
    struct peer_conn *c = CONTAINER_OF(s, struct peer_conn, stream);
    struct peer_set *set = s->set;
    heard(c);
    enum err err = peer_frame_decode(&f->arena, f->bytes, f->sizes.header_bytes, f->sizes.body_bytes, &f->parts, &f->part_count);
    if (err != OK) {
        peer_frame_free(f);
        peer_stream_close(s, err == ERR_NOMEM ? "a frame is too large when decoded" : "a frame makes no sense", true);
        return;
    }
    for (uint32_t i = 0; i < f->part_count; i++) {
        if (own_part(c, &f->parts[i], f)) continue;
        peer_frame_free(f);
        return;
    }
    peer_deliver(set, f, c->hello.node, &c->hello.incarnation);
}

static void conn_closing(struct peer_stream *s, const char *why, bool broken) {
    struct peer_conn *c = CONTAINER_OF(s, struct peer_conn, stream);
    if (why && !broken) trace_warn("peer", "%s: broker %d: closing: %s", c->from, c->hello.node, why);
    else if (why) trace_info("peer", "%s: broker %d: closing: %s", c->from, c->hello.node, why);
    struct peer_node *n = &c->peers->nodes[c->slot];
    bool visit = c->hello.wanted < 0; /* to an address, for calls: it ends when there are none */
    if (broken && !visit && (atomic_load(&n->state) & 3) == PEER_NODE_UP) peer_node_change(c->peers, n, PEER_NODE_LOST);
}

static void conn_ended(struct peer_stream *s) {
    struct peer_conn *c = CONTAINER_OF(s, struct peer_conn, stream);
    list_remove(&c->link);
    peer_conn_free(c);
}

static void conn_drained(struct peer_stream *s) { (void)s; }

static const struct peer_stream_type incoming = {conn_frame, conn_closing, conn_ended, conn_drained};

void peer_conn_start(struct peer_conn *c, struct peer_set *set) {
    peer_stream_begin(&c->stream, set, &incoming, c->stream.fd);
    peer_stream_greeted(&c->stream);
    c->id = ++set->next_conn;
    c->moving = false;
    if (c->hello.wanted >= 0 && c->hello.reactors <= PEER_REACTORS_MAX)
        atomic_store_explicit(&c->peers->nodes[c->slot].reactors, c->hello.reactors, memory_order_relaxed);
    list_push_back(&set->conns, &c->link);
    trace_debug("peer", "%s: broker %d: connected to reactor %u", c->from, c->hello.node, set->reactor->index);
    if (set->shut) peer_stream_close(&c->stream, NULL, false);
    else peer_stream_read(&c->stream);
}

void peer_conn_free(struct peer_conn *c) {
    if (c->slot >= 0) atomic_fetch_sub(&c->peers->nodes[c->slot].conns, 1);
    pthread_mutex_lock(&c->peers->lock);
    address_counts_remove(&c->peers->from, &c->addr);
    pthread_mutex_unlock(&c->peers->lock);
    atomic_fetch_sub(&c->peers->conn_count, 1);
    list_remove(&c->stream.work);
    free(c->call.bytes);
    free(c);
}
