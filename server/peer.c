/* peer.c - see peer.h: what the rest of the broker calls, and the life of it all. */
#include "server/peer.h"
#include <stdio.h>
#include <stdlib.h>
#include "base/assert.h"
#include "base/trace.h"
#include "log/log.h"
#include "server/partition.h"
#include "server/peer_impl.h"

static const struct peer_hooks no_hooks;

/* ---- who is there ------------------------------------------------------------------------------------ */

enum err peer_set_node(struct broker *b, int32_t node, const char *host, int32_t port) {
    struct peers *p = b->peers;
    if (node == p->node || node < 0 || port < 0 || port > 65535 || strlen(host) >= PEER_HOST_BYTES) return ERR_INVALID;
    int32_t slot = port > 0 ? peer_node_make(p, node, true) : peer_node_slot(p, node);
    if (slot < 0) return port > 0 ? ERR_FULL : OK;
    struct peer_node *n = &p->nodes[slot];
    pthread_mutex_lock(&p->lock);
    bool same = n->port == port && strcmp(n->host, host) == 0;
    strncpy(n->host, host, sizeof n->host - 1);
    n->host[sizeof n->host - 1] = 0;
    n->port = (uint16_t)port;
    pthread_mutex_unlock(&p->lock);
    if (!same) peer_nodes_changed(p);
    return OK;
}

bool peer_address(const struct broker *b, int32_t node, char host[PEER_HOST_BYTES], int32_t *port) {
    struct peers *p = b->peers;
    int32_t slot = p ? peer_node_slot(p, node) : -1;
    if (slot < 0) return false;
    pthread_mutex_lock(&p->lock);
    memcpy(host, p->nodes[slot].host, PEER_HOST_BYTES);
    *port = p->nodes[slot].port;
    pthread_mutex_unlock(&p->lock);
    return *port > 0;
}

bool peer_told_address(const struct broker *b, int32_t node, const struct uuid *incarnation, char host[PEER_HOST_BYTES], int32_t *port) {
    struct peers *p = b->peers;
    int32_t slot = p ? peer_node_slot(p, node) : -1;
    if (slot < 0) return false;
    struct peer_node *n = &p->nodes[slot];
    pthread_mutex_lock(&p->lock);
    bool told = n->has_incarnation && uuid_eq(&n->incarnation, incarnation) && n->told_port > 0 && n->told_host[0];
    memcpy(host, n->told_host, PEER_HOST_BYTES);
    *port = n->told_port;
    pthread_mutex_unlock(&p->lock);
    return told;
}

void peer_set_cluster(struct broker *b, const struct uuid *cluster_id) {
    struct peers *p = b->peers;
    pthread_mutex_lock(&p->lock);
    bool same = uuid_eq(&p->cluster_id, cluster_id);
    p->cluster_id = *cluster_id;
    pthread_mutex_unlock(&p->lock);
    if (!same) peer_nodes_changed(p);
}

bool peer_is_up(const struct reactor *r, int32_t node) {
    struct peers *p = r->broker->peers;
    if (node == r->broker->config.node_id) return true;
    int32_t slot = p ? peer_node_slot(p, node) : -1;
    if (slot < 0 || atomic_load(&p->nodes[slot].links) == 0) return false;
    return r->now_ns - atomic_load(&p->nodes[slot].heard_ns) <= PEER_SILENT_NS;
}

bool peer_is_well(const struct reactor *r, int32_t node) {
    if (!peer_is_up(r, node) || node == r->broker->config.node_id) return peer_is_up(r, node);
    return (atomic_load(&r->broker->peers->nodes[peer_node_slot(r->broker->peers, node)].state) & 3) != PEER_NODE_LOST;
}

bool peer_vouched(const struct reactor *r, int32_t node, uint64_t group, int64_t *awake_ns) {
    struct peers *p = r->broker->peers;
    int32_t slot = p ? peer_node_slot(p, node) : -1;
    uint32_t reactors = slot < 0 ? 0 : atomic_load_explicit(&p->nodes[slot].reactors, memory_order_relaxed);
    if (reactors == 0) return false;
    int64_t beat_ns = atomic_load_explicit(&p->nodes[slot].beats[log_shard_of(group, reactors)], memory_order_relaxed);
    if (beat_ns == 0) return false;
    *awake_ns = r->awake_ns - MAX(r->now_ns - beat_ns, 0);
    return true;
}

static int64_t since(const struct reactor *r, int64_t at_ns) { return at_ns == 0 ? INT64_MAX : MAX(r->now_ns - at_ns, 0); }

int64_t peer_silence_ns(const struct reactor *r, int32_t node) {
    struct peers *p = r->broker->peers;
    if (node == r->broker->config.node_id) return 0;
    int32_t slot = p ? peer_node_slot(p, node) : -1;
    return slot < 0 ? INT64_MAX : since(r, atomic_load(&p->nodes[slot].heard_ns));
}

int64_t peer_back_ns(const struct reactor *r, int32_t node) {
    struct peers *p = r->broker->peers;
    int32_t slot = p ? peer_node_slot(p, node) : -1;
    return slot < 0 ? INT64_MAX : since(r, atomic_load(&p->nodes[slot].back_ns));
}

enum peer_disk peer_disk(const struct reactor *r, int32_t node) {
    struct peers *p = r->broker->peers;
    int32_t slot = p ? peer_node_slot(p, node) : -1;
    return slot >= 0 ? (enum peer_disk)atomic_load(&p->nodes[slot].disk) : PEER_DISK_WELL;
}

bool peer_wall_ahead_ms(const struct reactor *r, int32_t node, int64_t *ms) {
    struct peers *p = r->broker->peers;
    int32_t slot = p ? peer_node_slot(p, node) : -1;
    if (slot < 0 || !peer_is_up(r, node)) return false;
    *ms = atomic_load(&p->nodes[slot].wall_ahead_ms);
    return *ms != PEER_WALL_UNKNOWN;
}

bool peer_incarnation(const struct reactor *r, int32_t node, struct uuid *out) {
    struct peers *p = r->broker->peers;
    *out = p->incarnation;
    if (node == p->node) return true;
    int32_t slot = peer_node_slot(p, node);
    if (slot < 0) return false;
    pthread_mutex_lock(&p->lock);
    bool known = p->nodes[slot].has_incarnation;
    *out = p->nodes[slot].incarnation;
    pthread_mutex_unlock(&p->lock);
    return known;
}

bool peer_answers(const struct reactor *r, int32_t node, struct uuid *out) {
    int32_t slot = peer_node_slot(r->broker->peers, node);
    const struct peer_link *l = slot < 0 ? NULL : r->peers->links[slot];
    if (!l || !peer_link_is_up(l)) return false;
    *out = l->hello.incarnation;
    return true;
}

bool peer_advertised(const struct broker *b, const char **host, int32_t *port) {
    const struct config_address *said = &b->config.peer_advertised;
    if (!b->peers || b->peers->listen_fd < 0) return false;
    *host = said->host[0] ? said->host : b->peers->listen_host;
    *port = said->host[0] ? said->port : address_port(&b->peers->listen_addr);
    return true;
}

/* ---- messages ------------------------------------------------------------------------------------------ */

bool peer_send(struct reactor *r, uint64_t group, const struct replica_message *m, struct slice *slices, uint32_t count) {
    int32_t slot = peer_node_slot(r->broker->peers, m->to.node);
    struct peer_link *l = slot < 0 ? NULL : r->peers->links[slot];
    struct peer_part part;
    if (!peer_link_is_up(l) || !replica_life(&l->hello.incarnation, &m->to.incarnation, &part.to_life) ||
        !replica_life(&r->broker->peers->incarnation, &m->from.incarnation, &part.from_life)) {
        for (uint32_t i = 0; i < count; i++) buf_unref(slices[i].buf);
        return false;
    }
    part.kind = PEER_PART_REPLICA;
    part.group = group;
    part.u.replica = *m;
    return peer_stream_put(&l->stream, &part, slices, count, count > 0 ? PEER_QUEUE_BYTES : PEER_QUEUE_SMALL_BYTES);
}

void peer_report_leader(struct reactor *r, uint64_t group, const struct leader_info *info) {
    if (!r->peers) return;
    uint32_t count = atomic_load(&r->broker->peers->node_count);
    for (uint32_t i = 0; i < count; i++)
        if (peer_link_is_up(r->peers->links[i])) peer_link_report(r->peers->links[i], group, info);
}

void peer_report_leader_to(struct reactor *r, int32_t node, uint64_t group, const struct leader_info *info) {
    int32_t slot = r->peers ? peer_node_slot(r->broker->peers, node) : -1;
    if (slot >= 0 && peer_link_is_up(r->peers->links[slot])) peer_link_report(r->peers->links[slot], group, info);
}

void peer_set_hooks(struct broker *b, const struct peer_hooks *hooks) { b->peers->hooks = hooks; }

void peer_serve(struct broker *b, enum peer_call_kind kind, peer_serve_fn *fn) {
    ASSERT(kind > 0 && kind < PEER_CALL_KINDS);
    b->peers->serve[kind] = fn;
}

/* ---- a turn ---------------------------------------------------------------------------------------------- */

static void round_due(struct timer *t) {
    struct peer_set *set = CONTAINER_OF(t, struct peer_set, round);
    int64_t now_ns = set->reactor->now_ns;
    uint32_t count = atomic_load(&set->peers->node_count);
    for (uint32_t i = 0; i < count; i++)
        if (set->links[i]) peer_link_round(set->links[i], now_ns);
    LIST_FOREACH_SAFE(it, &set->visits) peer_link_round(LIST_ENTRY(it, struct peer_link, link), now_ns);
}

static void beat_due(struct timer *t) {
    struct peer_set *set = CONTAINER_OF(t, struct peer_set, beat);
    uint32_t count = atomic_load(&set->peers->node_count);
    for (uint32_t i = 0; i < count; i++)
        if (peer_link_is_up(set->links[i])) peer_link_beat(set->links[i]);
}

static void visits_sweep(struct peer_set *set) {
    LIST_FOREACH_SAFE(it, &set->visits) {
        struct peer_link *l = LIST_ENTRY(it, struct peer_link, link);
        if (l->state == PEER_LINK_OFF && peer_link_is_idle(l)) peer_link_free(l);
    }
}

/* There are no other brokers, and nothing is left to do: no turn of a broker alone pays for more than this question. */
static bool is_alone(const struct peer_set *set) {
    return atomic_load(&set->peers->node_count) == 0 && atomic_load(&set->peers->changes) == set->seen && list_empty(&set->visits) &&
           list_empty(&set->work) && list_empty(&set->inbox) && list_empty(&set->done_calls);
}

void peer_set_turn(struct reactor *r) {
    struct peer_set *set = r->peers;
    if (!set || is_alone(set)) return;
    peer_nodes_sync(set);
    bool any = atomic_load(&set->peers->node_count) > 0 || !list_empty(&set->visits);
    if (any && !timer_armed(&set->round) && !set->shut)
        timer_set(&r->timers, &set->round, r->now_ns + PEER_PING_NS);
    bool shared = any && r->partitions && partition_map_count(r->partitions) > 0;
    if (shared && !timer_armed(&set->beat) && !set->shut) timer_set(&r->timers, &set->beat, r->now_ns + PEER_BEAT_NS);
    peer_inbox_run(set);
    peer_calls_run(set);
}

bool peer_set_flush(struct reactor *r) {
    struct peer_set *set = r->peers;
    struct list batch, *node;
    if (!set || is_alone(set)) return false;
    list_init(&batch);
    while ((node = list_pop_front(&set->work))) list_push_back(&batch, node);
    while ((node = list_pop_front(&batch))) peer_stream_visit(LIST_ENTRY(node, struct peer_stream, work));
    visits_sweep(set);
    return !list_empty(&set->inbox) || !list_empty(&set->done_calls) || !list_empty(&set->work) ||
           (!set->shut && atomic_load(&set->peers->changes) != set->seen);
}

/* ---- life -------------------------------------------------------------------------------------------------- */

static void set_init(struct peers *p, struct reactor *r) {
    struct peer_set *set = &p->sets[r->index];
    set->peers = p;
    set->reactor = r;
    list_init(&set->visits);
    list_init(&set->conns);
    list_init(&set->work);
    list_init(&set->inbox);
    list_init(&set->orphans);
    list_init(&set->done_calls);
    timer_init(&set->round, round_due);
    timer_init(&set->beat, beat_due);
    r->peers = set;
}

enum err peers_open(struct broker *b) {
    struct peers *p = calloc(1, sizeof *p);
    if (p) p->sets = calloc(b->reactor_count, sizeof *p->sets);
    if (!p || !p->sets) {
        free(p);
        return ERR_NOMEM;
    }
    p->broker = b;
    p->hooks = &no_hooks;
    p->node = b->config.node_id;
    if (b->store) p->incarnation = *log_store_incarnation(b->store);
    else io_entropy(b->reactors[0].io, &p->incarnation, sizeof p->incarnation); /* tests without a directory */
    io_entropy(b->reactors[0].io, &p->process, sizeof p->process);
    p->process |= 1; /* not 0 */
    p->body_max = (uint32_t)MAX(PEER_BATCH_MAX, b->config.socket_request_max_bytes);
    p->listen_fd = -1;
    pthread_mutex_init(&p->lock, NULL);
    list_init(&p->incoming);
    list_init(&p->leftovers);
    list_init(&p->greeting);
    timer_init(&p->watch, NULL);
    b->peers = p;
    for (uint32_t i = 0; i < b->reactor_count; i++) set_init(p, &b->reactors[i]);
    return OK;
}

enum err peers_start(struct broker *b, char *why, size_t why_len) {
    const struct config *config = &b->config;
    enum err err = config->peer_listens ? peer_listen(b->peers, why, why_len) : OK;
    for (uint32_t i = 0; i < config->voter_count && err == OK; i++) {
        const struct config_voter *v = &config->voters[i];
        if (v->node != b->peers->node) err = peer_set_node(b, v->node, v->at.host, v->at.port);
        if (err != OK) snprintf(why, why_len, "controller.quorum.voters: broker %d: %s", v->node, err_str(err));
    }
    return err;
}

void peers_stop(struct broker *b) {
    if (!b->peers || atomic_exchange(&b->peers->stopping, true)) return;
    timer_cancel(&b->reactors[0].timers, &b->peers->watch);
    peer_listen_stop(b->peers);
    LIST_FOREACH_SAFE(it, &b->peers->greeting)
        peer_stream_close(&LIST_ENTRY(it, struct peer_conn, link)->stream, NULL, false);
}

void peer_set_shut(struct reactor *r) {
    struct peer_set *set = r->peers;
    if (!set || set->shut) return;
    set->shut = true;
    timer_cancel(&r->timers, &set->round);
    timer_cancel(&r->timers, &set->beat);
    if (r->index == 0) peers_stop(r->broker);
    for (uint32_t i = 0; i < PEER_NODES_MAX; i++)
        if (set->links[i]) peer_link_close(set->links[i], NULL, false);
    LIST_FOREACH_SAFE(it, &set->visits) peer_link_close(LIST_ENTRY(it, struct peer_link, link), NULL, false);
    LIST_FOREACH_SAFE(it, &set->conns) peer_stream_close(&LIST_ENTRY(it, struct peer_conn, link)->stream, NULL, false);
}

bool peer_set_is_empty(const struct reactor *r) {
    const struct peer_set *set = r->peers;
    if (!set) return true;
    if (!list_empty(&set->visits) || !list_empty(&set->conns)) return false;
    for (uint32_t i = 0; i < PEER_NODES_MAX; i++)
        if (set->links[i] && !peer_link_is_idle(set->links[i])) return false;
    return r->index > 0 || (list_empty(&set->peers->greeting) && set->peers->listen_fd < 0);
}

void peer_set_free(struct reactor *r) {
    struct peer_set *set = r->peers;
    struct list *node;
    if (!set) return;
    for (uint32_t i = 0; i < PEER_NODES_MAX; i++) {
        if (set->links[i]) peer_link_free(set->links[i]);
        set->links[i] = NULL;
    }
    timer_cancel(&r->timers, &set->round);
    timer_cancel(&r->timers, &set->beat);
    if (r->index == 0) timer_cancel(&r->timers, &set->peers->watch);
    pthread_mutex_lock(&set->peers->lock); /* other reactors may still read what they were sent */
    while ((node = list_pop_front(&set->orphans))) list_push_back(&set->peers->leftovers, node);
    pthread_mutex_unlock(&set->peers->lock);
    r->peers = NULL;
}

void peers_close(struct broker *b) {
    struct peers *p = b->peers;
    struct list *node;
    if (!p) return;
    while ((node = list_pop_front(&p->leftovers))) peer_frame_free(LIST_ENTRY(node, struct peer_frame, link));
    peer_incoming_free_all(p);
    address_counts_free(&p->from);
    address_counts_free(&p->greeting_from);
    pthread_mutex_destroy(&p->lock);
    free(p->sets);
    free(p);
    b->peers = NULL;
}
