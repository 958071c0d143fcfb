/* peer_node.c - which other brokers there are, and which of them are alive.
 *
 *   UNKNOWN --- a link works ---> UP --- a connection breaks, is refused, or silence ---> LOST --- a link works ---> UP
 *
 * A connection that breaks makes its node LOST although others may still work: reactor 0's watch finds those and makes it UP
 * again. Each reactor compares what it has told its hooks with the count of changes, so none is missed and none told twice. */
#include <stdio.h>
#include <xxhash.h>
#include "base/assert.h"
#include "base/trace.h"
#include "server/api.h"
#include "server/peer_impl.h"

#define SAY_AGAIN_NS INT64_C(15000000000)

void peer_nodes_changed(struct peers *p) {
    atomic_fetch_add(&p->changes, 1);
    for (uint32_t i = 0; i < p->broker->reactor_count; i++)
        if (p->broker->reactors[i].io) io_wake(p->broker->reactors[i].io);
}

int32_t peer_node_slot(const struct peers *p, int32_t node) {
    uint32_t count = atomic_load(&p->node_count);
    for (uint32_t i = 0; i < count; i++)
        if (p->nodes[i].node == node) return (int32_t)i;
    return -1;
}

/* Nothing that others remember of a slot belongs to a stranger: links are to addresses, and connections end first. */
static void give_away(struct peers *p, struct peer_node *n, int32_t node) {
    pthread_mutex_lock(&p->lock);
    n->has_incarnation = false;
    n->told_port = 0;
    pthread_mutex_unlock(&p->lock);
    atomic_store(&n->reactors, 0);
    for (uint32_t i = 0; i < PEER_REACTORS_MAX; i++) atomic_store(&n->beats[i], 0);
    atomic_store(&n->heard_ns, 0);
    atomic_store(&n->disk, PEER_DISK_WELL);
    atomic_store(&n->wall_ahead_ms, PEER_WALL_UNKNOWN);
    atomic_store(&n->node, node);
}

int32_t peer_node_make(struct peers *p, int32_t node, bool has_address) {
    uint32_t count = atomic_load(&p->node_count), strangers = 0;
    int32_t slot = peer_node_slot(p, node), idle = -1;
    for (uint32_t i = 0; i < count; i++) {
        if (p->nodes[i].has_address) continue;
        strangers++;
        if (atomic_load(&p->nodes[i].conns) == 0) idle = (int32_t)i;
    }
    if (slot < 0 && idle >= 0) {
        slot = idle;
        give_away(p, &p->nodes[slot], node);
    } else if (slot < 0) {
        if (count == PEER_NODES_MAX || (!has_address && strangers >= PEER_STRANGERS_MAX)) return -1;
        slot = (int32_t)count;
        atomic_store(&p->nodes[slot].wall_ahead_ms, PEER_WALL_UNKNOWN);
        atomic_store(&p->nodes[slot].node, node);
        atomic_store(&p->node_count, count + 1);
        if (count == 0) peer_watch_begin(p);
    }
    p->nodes[slot].has_address |= has_address;
    return slot;
}

void peer_node_change(struct peers *p, struct peer_node *n, enum peer_node_state to) {
    uint64_t state = atomic_load(&n->state);
    enum peer_node_state from;
    do {
        from = (enum peer_node_state)(state & 3);
        if (from == to) return;
    } while (!atomic_compare_exchange_weak(&n->state, &state, ((state >> 2) + 1) << 2 | (uint64_t)to));
    if (from == PEER_NODE_UP) atomic_store(&n->was_up, true);
    peer_nodes_changed(p);
}

void peer_node_heard(struct peers *p, int32_t slot, struct io *io) {
    if (slot >= 0) atomic_store_explicit(&p->nodes[slot].heard_ns, io_mono_ns(io), memory_order_relaxed);
}

void peer_node_disk(struct peers *p, int32_t slot, enum peer_disk disk) {
    static const char *const words[] = {[PEER_DISK_WELL] = "is well again", [PEER_DISK_FULL] = "is full", [PEER_DISK_STUCK] = "does not answer"};
    if (slot < 0 || atomic_exchange(&p->nodes[slot].disk, (int)disk) == (int)disk) return;
    trace_info("peer", "broker %d: its disk %s", p->nodes[slot].node, words[disk]);
}

void peer_node_wall(struct peers *p, int32_t slot, int64_t wall_ms, int64_t now_ms) {
    int64_t ahead_ms;
    if (slot < 0 || wall_ms == 0 || __builtin_sub_overflow(wall_ms, now_ms, &ahead_ms)) return;
    atomic_store(&p->nodes[slot].wall_ahead_ms, ahead_ms);
}

/* Its hello was taken, on whichever connection. */
void peer_node_arrived(struct peers *p, int32_t slot, const struct peer_hello *hello) {
    struct peer_node *n = &p->nodes[slot];
    pthread_mutex_lock(&p->lock);
    bool other = n->has_incarnation && !uuid_eq(&n->incarnation, &hello->incarnation);
    n->has_incarnation = true;
    n->incarnation = hello->incarnation;
    n->process = hello->process;
    n->told_port = hello->port;
    memcpy(n->told_host, hello->host, sizeof n->told_host);
    pthread_mutex_unlock(&p->lock);
    if (other) trace_warn("peer", "broker %d has another data directory than before", n->node);
}

/* ---- what each reactor does about it ------------------------------------------------------------- */

static void tell(struct peer_set *set, uint32_t slot) {
    struct peer_node *n = &set->peers->nodes[slot];
    const struct peer_hooks *hooks = set->peers->hooks;
    uint64_t state = atomic_load(&n->state), seen = set->node_seen[slot];
    if (state == seen) return;
    set->node_seen[slot] = state;
    bool up = (state & 3) == PEER_NODE_UP, was_lost = !up || (state >> 2) - (seen >> 2) > 1;
    if (set->reactor->index == 0) {
        if (was_lost) trace_warn("peer", "broker %d: not reached", n->node);
        if (up) trace_info("peer", "broker %d: connected", n->node);
    }
    if (was_lost && hooks->lost) hooks->lost(set->reactor, n->node);
    if (up && hooks->found) hooks->found(set->reactor, n->node);
}

/* Nothing comes from there any more: every connection may be one that nobody will ever answer on. */
static void silence(struct peer_set *set, uint32_t slot) {
    uint32_t silences = atomic_load(&set->peers->nodes[slot].silences);
    if (silences == set->silence_seen[slot]) return;
    set->silence_seen[slot] = silences;
    if (set->links[slot]) peer_link_close(set->links[slot], "the broker is silent", true);
    LIST_FOREACH_SAFE(it, &set->conns) {
        struct peer_conn *c = LIST_ENTRY(it, struct peer_conn, link);
        if (c->slot == (int32_t)slot) peer_stream_close(&c->stream, "the broker is silent", true);
    }
}

static void address(struct peer_set *set, uint32_t slot) {
    struct peer_node *n = &set->peers->nodes[slot];
    char host[PEER_HOST_BYTES];
    pthread_mutex_lock(&set->peers->lock);
    uint16_t port = n->port;
    memcpy(host, n->host, sizeof host);
    pthread_mutex_unlock(&set->peers->lock);
    if (!set->links[slot] && port > 0) set->links[slot] = peer_link_new(set, (int32_t)slot);
    if (!set->links[slot]) return; /* no memory: tried again with the next change */
    peer_link_address(set->links[slot], host, port);
    uint32_t arrivals = atomic_load(&n->arrivals);
    if (arrivals == set->arrival_seen[slot]) return;
    set->arrival_seen[slot] = arrivals;
    peer_link_kick(set->links[slot]);
}

/* Connections that were made before the cluster was known may turn out to be with another one. */
static bool is_foreign(struct peers *p, const struct peer_hello *h) {
    pthread_mutex_lock(&p->lock);
    bool foreign = !uuid_is_zero(&p->cluster_id) && !uuid_is_zero(&h->cluster_id) && !uuid_eq(&p->cluster_id, &h->cluster_id);
    pthread_mutex_unlock(&p->lock);
    return foreign;
}

static void drop_foreign(struct peer_set *set, uint32_t slot) {
    struct peer_link *l = set->links[slot];
    if (peer_link_is_up(l) && is_foreign(set->peers, &l->hello)) peer_link_close(l, "it belongs to another cluster", true);
    LIST_FOREACH_SAFE(it, &set->conns) {
        struct peer_conn *c = LIST_ENTRY(it, struct peer_conn, link);
        if (c->slot == (int32_t)slot && is_foreign(set->peers, &c->hello)) peer_stream_close(&c->stream, "it belongs to another cluster", true);
    }
}

void peer_nodes_sync(struct peer_set *set) {
    struct peers *p = set->peers;
    uint64_t changes = atomic_load(&p->changes);
    if (changes == set->seen || set->shut) return;
    set->seen = changes;
    uint32_t count = atomic_load(&p->node_count);
    for (uint32_t i = 0; i < count; i++) {
        silence(set, i);
        address(set, i);
        drop_foreign(set, i);
        tell(set, i);
    }
}

/* ---- reactor 0 watches ----------------------------------------------------------------------------- */

static void watch_node(struct peers *p, struct peer_node *n, int64_t now_ns) {
    bool fresh = now_ns - atomic_load(&n->heard_ns) <= PEER_SILENT_NS, works = atomic_load(&n->links) > 0;
    enum peer_node_state state = (enum peer_node_state)(atomic_load(&n->state) & 3);
    if (!fresh && state == PEER_NODE_UP) {
        trace_warn("peer", "broker %d: nothing was heard from it for %d ms", n->node, (int)(PEER_SILENT_NS / 1000000));
        atomic_fetch_add(&n->silences, 1);
        peer_node_change(p, n, PEER_NODE_LOST);
    } else if (fresh && works && state == PEER_NODE_LOST) {
        peer_node_change(p, n, PEER_NODE_UP);
    }
}

/* When this broker itself stood still, what the others sent meanwhile may not have been read yet. */
static void watch(struct timer *t) {
    struct peers *p = CONTAINER_OF(t, struct peers, watch);
    struct reactor *r = &p->broker->reactors[0];
    bool late = r->now_ns - p->watch_ns > PEER_SILENT_NS / 2;
    uint32_t count = atomic_load(&p->node_count);
    for (uint32_t i = 0; i < count; i++) {
        struct peer_link *l = r->peers->links[i];
        bool quiet = r->now_ns - atomic_load(&p->nodes[i].heard_ns) > PEER_QUIET_NS;
        if (l && quiet) peer_link_round(l, INT64_MAX);
        if (!late) watch_node(p, &p->nodes[i], r->now_ns);
    }
    p->watch_ns = r->now_ns + PEER_WATCH_NS;
    if (!atomic_load(&p->stopping)) timer_set(&r->timers, t, p->watch_ns);
}

void peer_watch_begin(struct peers *p) {
    struct reactor *r = &p->broker->reactors[0];
    timer_init(&p->watch, watch);
    p->watch_ns = r->now_ns + PEER_WATCH_NS;
    timer_set(&r->timers, &p->watch, p->watch_ns);
}

/* ---- hellos ------------------------------------------------------------------------------------------- */

void peer_hello_fill(struct peers *p, struct peer_hello *h, int32_t wanted, uint32_t reactor) {
    memset(h, 0, sizeof *h);
    h->version_min = h->version_max = PEER_VERSION;
    h->node = p->node;
    h->incarnation = p->incarnation;
    h->wanted = wanted;
    h->reactor = reactor;
    h->reactors = p->broker->reactor_count;
    h->process = p->process;
    pthread_mutex_lock(&p->lock);
    memcpy(h->host, p->own_host, sizeof h->host);
    h->port = p->own_port;
    h->cluster_id = p->cluster_id;
    pthread_mutex_unlock(&p->lock);
}

/* Another process, perhaps with another directory, has this node.id and is connected. A process that has just died may still seem so, until
 * its connections are reset or PEER_SILENT_NS have passed: who was started in its place is refused for so long, and tries again. */
static bool is_twin(struct peers *p, const struct peer_hello *h) {
    int32_t slot = peer_node_slot(p, h->node);
    if (slot < 0) return false;
    struct peer_node *n = &p->nodes[slot];
    pthread_mutex_lock(&p->lock);
    bool other = !uuid_is_zero(&p->cluster_id) && n->has_incarnation && /* who forms a cluster speaks to both */
                 (!uuid_eq(&n->incarnation, &h->incarnation) || (n->process && h->process && n->process != h->process));
    pthread_mutex_unlock(&p->lock);
    return other && atomic_load(&n->links) > 0 && (atomic_load(&n->state) & 3) == PEER_NODE_UP;
}

static bool version_fits(struct peer_hello *h) {
    if (h->version_min > PEER_VERSION || h->version_max < PEER_VERSION) return false;
    h->version_min = h->version_max = PEER_VERSION;
    return true;
}

enum peer_refusal peer_hello_refused(struct peers *p, struct peer_hello *h, int32_t wanted, char *why, size_t why_len) {
    char theirs[UUID_TEXT_BYTES], ours[UUID_TEXT_BYTES];
    struct peer_hello own;
    if (!version_fits(h)) {
        snprintf(why, why_len, "it speaks versions %u to %u of the protocol, this broker %d", h->version_min, h->version_max, PEER_VERSION);
        return PEER_REFUSED_OTHER;
    }
    if (h->node == p->node && uuid_eq(&h->incarnation, &p->incarnation) && (h->process == p->process || h->process == 0)) {
        snprintf(why, why_len, "it is this broker itself");
        return PEER_REFUSED_ITSELF;
    }
    if (h->node == p->node) {
        snprintf(why, why_len, "it has the same node.id, %d", h->node);
        return PEER_REFUSED_SAME_ID;
    }
    if (wanted >= 0 && h->node != wanted) {
        snprintf(why, why_len, "it is broker %d, not %d", h->node, wanted);
        return PEER_REFUSED_WRONG_NODE;
    }
    if (is_foreign(p, h)) {
        peer_hello_fill(p, &own, -1, 0);
        uuid_text(&h->cluster_id, theirs);
        uuid_text(&own.cluster_id, ours);
        snprintf(why, why_len, "it belongs to another cluster (%s, not %s); a broker joins one with an empty data directory", theirs, ours);
        return PEER_REFUSED_FOREIGN;
    }
    if (is_twin(p, h)) {
        snprintf(why, why_len, "another broker with node.id %d is running: every broker needs a node.id of its own", h->node);
        return PEER_REFUSED_TWIN;
    }
    return PEER_NOT_REFUSED;
}

void peer_say_refused(struct peers *p, enum peer_refusal refusal, int64_t now_ns, const char *where, const char *text) {
    if (refusal == PEER_REFUSED_ITSELF) { /* its own address may well be among those that it was told to ask */
        trace_debug("peer", "%s%s", where, text);
        return;
    }
    uint64_t hash = XXH3_64bits(text, strlen(text));
    pthread_mutex_lock(&p->lock);
    struct peer_said *oldest = &p->said[0], *same = NULL;
    for (uint32_t i = 0; i < PEER_SAID_MAX; i++) {
        if (p->said[i].hash == hash) same = &p->said[i];
        if (p->said[i].at_ns < oldest->at_ns) oldest = &p->said[i];
    }
    bool again = same && now_ns - same->at_ns < SAY_AGAIN_NS;
    if (!again) *(same ? same : oldest) = (struct peer_said){hash, now_ns};
    pthread_mutex_unlock(&p->lock);
    if (again) trace_debug("peer", "%s%s", where, text);
    else trace_warn("peer", "%s%s", where, text);
}
