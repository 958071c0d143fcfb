/* registration_serve.c - the controller's side of registrations: facts are checked, compared, and become a record.
 *
 * An answer says also where other brokers are: whoever asks may have no metadata yet (registration.c, members_that_told()). */
#include <stdio.h>
#include <stdlib.h>
#include "base/trace.h"
#include "proto/unpack.h"
#include "server/cluster_impl.h"
#include "server/controller_impl.h"

enum { TEXT_BYTES_MAX = 255, VERSION_BYTES_MAX = 64, ANSWER_ADDRESSES_MAX = IMAGE_REPLICAS_MAX };

struct register_work {
    struct controller_change change;
    struct broker *broker;
    registration_done_fn *done;
    void *ctx;
    struct arena arena;                    /* of the facts */
    Varve__Metadata__Broker *facts;
    const char *refused;                   /* by make(); static */
};

/* ---- answers ----------------------------------------------------------------------------------------- */

/* `host` is where a name may be kept. Node -1: not known. */
static Varve__Cluster__Address address_of(const struct broker *b, int32_t node, char host[PEER_HOST_BYTES]) {
    Varve__Cluster__Address a = VARVE__CLUSTER__ADDRESS__INIT;
    const struct image_node *n = image_node(controller_newest(b->controller), node);
    a.node = -1;
    if (node == b->config.node_id) {
        const char *own;
        if (!peer_advertised(b, &own, &a.port)) return a;
        a.node = node;
        a.host = (char *)own;
    } else if (n) {
        a = (Varve__Cluster__Address){.base = a.base, .node = node, .host = n->peer_host, .port = n->peer_port};
    }
    if (a.node < 0 && node >= 0 && peer_address(b, node, host, &a.port)) {
        a.node = node;
        a.host = host;
    }
    return a;
}

/* Members of the metadata log's group, all of them: without a majority of its voters nobody learns anything else. Then other brokers. */
static size_t all_addresses(const struct broker *b, Varve__Cluster__Address *out, char hosts[ANSWER_ADDRESSES_MAX][PEER_HOST_BYTES]) {
    const struct image *im = controller_newest(b->controller);
    const struct replica_config *config = &b->controller->role.config;
    size_t n = 0;
    static_assert((int)ANSWER_ADDRESSES_MAX >= (int)REPLICA_MEMBERS_MAX, "room for all members");
    for (; n < config->count; n++) out[n] = address_of(b, config->members[n].node, hosts[n]);
    for (uint32_t i = 0; i < im->node_count && n < ANSWER_ADDRESSES_MAX; i++)
        if (!replica_config_has_node(config, im->nodes[i].node)) {
            out[n] = address_of(b, im->nodes[i].node, hosts[n]);
            n++;
        }
    return n;
}

static void answer(const struct broker *b, Varve__Cluster__RegisterAnswer__Status status, const char *why, registration_done_fn *done, void *ctx) {
    Varve__Cluster__RegisterAnswer m = VARVE__CLUSTER__REGISTER_ANSWER__INIT;
    char host[PEER_HOST_BYTES], hosts[ANSWER_ADDRESSES_MAX][PEER_HOST_BYTES];
    Varve__Cluster__Address controller = address_of(b, controller_leader_node(b), host), brokers[ANSWER_ADDRESSES_MAX], *list[ANSWER_ADDRESSES_MAX];
    m.status = status;
    m.why = (char *)(why ? why : "");
    m.controller = &controller;
    m.metadata_end = controller_newest(b->controller)->metadata_end;
    m.brokers = list;
    m.n_brokers = all_addresses(b, brokers, hosts);
    for (size_t i = 0; i < m.n_brokers; i++) list[i] = &brokers[i];
    done(ctx, &m);
}

/* ---- the check ----------------------------------------------------------------------------------------- */

static bool facts_are_sound(const Varve__Metadata__Broker *m) {
    bool sound = m->node >= 0 && m->incarnation.len == sizeof(struct uuid) && m->n_listeners <= CONFIG_LISTENERS_MAX &&
                 m->peer_port > 0 && m->peer_port <= 65535 && m->peer_host[0] && strlen(m->peer_host) <= TEXT_BYTES_MAX &&
                 strlen(m->rack) <= TEXT_BYTES_MAX && strlen(m->version) <= VERSION_BYTES_MAX;
    for (size_t i = 0; sound && i < m->n_listeners; i++) {
        const Varve__Metadata__Listener *l = m->listeners[i];
        sound = strlen(l->name) <= TEXT_BYTES_MAX && strlen(l->host) <= TEXT_BYTES_MAX && l->port >= 0 && l->port <= 65535;
    }
    return sound;
}

static void facts_view(const Varve__Metadata__Broker *m, struct image_node *out, struct image_listener *listeners) {
    for (size_t i = 0; i < m->n_listeners; i++)
        listeners[i] = (struct image_listener){m->listeners[i]->name, m->listeners[i]->host, m->listeners[i]->port};
    *out = (struct image_node){
        .node = m->node, .listeners = listeners, .listener_count = (uint32_t)m->n_listeners, .peer_host = m->peer_host,
        .peer_port = m->peer_port, .rack = m->rack, .version = m->version,
    };
    memcpy(out->incarnation.b, m->incarnation.data, sizeof out->incarnation.b);
}

/* Whether the broker that has this id now is there: then another with the same id is a mistake, not a lost disk. */
static bool is_taken(const struct broker *b, const struct image_node *known, const struct image_node *facts) {
    struct uuid there;
    if (!known || uuid_eq(&known->incarnation, &facts->incarnation)) return false;
    if (known->node == b->config.node_id) return true;
    return peer_answers(&b->reactors[0], known->node, &there) && uuid_eq(&there, &known->incarnation);
}

static const char *refusal(const struct broker *b, const struct image *im, const struct image_node *facts) {
    const struct image_node *known = image_node(im, facts->node);
    if (is_taken(b, known, facts))
        return "another broker with the same node.id is running: every broker needs a node.id of its own. (If this one replaces it, stop that one first)";
    if (!known && im->node_count >= IMAGE_NODES_MAX) return "the cluster has as many brokers as it can have: 64";
    return NULL;
}

/* ---- the change ----------------------------------------------------------------------------------------- */

static void make(struct controller_change *ch, struct controller_edit *e) {
    struct register_work *w = ch->owner;
    struct image_node facts;
    struct image_listener listeners[CONFIG_LISTENERS_MAX];
    facts_view(w->facts, &facts, listeners);
    const struct image_node *known = image_node(controller_edit_image(e), facts.node);
    w->refused = refusal(w->broker, controller_edit_image(e), &facts);
    if (w->refused || (known && registration_same_facts(known, &facts))) return;
    if (controller_set_broker(e, &facts)) return; /* `e` remembers */
    if (!known) trace_info("cluster", "broker %d registers (%s:%d)", facts.node, facts.peer_host, facts.peer_port);
    else if (!uuid_eq(&known->incarnation, &facts.incarnation))
        trace_warn("cluster", "broker %d registers with an empty disk: its replicas are made anew", facts.node);
    else trace_info("cluster", "broker %d registers with other facts (%s:%d)", facts.node, facts.peer_host, facts.peer_port);
}

static void changed(struct controller_change *ch) {
    struct register_work *w = ch->owner;
    Varve__Cluster__RegisterAnswer__Status status = VARVE__CLUSTER__REGISTER_ANSWER__STATUS__OK;
    if (ch->err == ERR_NOT_CONTROLLER || ch->err == ERR_CLOSED) status = VARVE__CLUSTER__REGISTER_ANSWER__STATUS__NOT_CONTROLLER; /* whatever it found */
    else if (w->refused) status = VARVE__CLUSTER__REGISTER_ANSWER__STATUS__REFUSED;
    else if (ch->err) status = VARVE__CLUSTER__REGISTER_ANSWER__STATUS__LATER;
    answer(w->broker, status, w->refused, w->done, w->ctx);
    arena_free(&w->arena);
    free(w);
}

void registration_handle(struct broker *b, struct bytes request, registration_done_fn *done, void *ctx) {
    struct arena arena;
    Varve__Metadata__Broker *m = unpack(&arena, &varve__metadata__broker__descriptor, request, UNPACK_BYTES);
    bool sound = m && facts_are_sound(m);
    struct register_work *w = sound ? malloc(sizeof *w) : NULL;
    if (!w) {
        arena_free(&arena);
        answer(b, sound ? VARVE__CLUSTER__REGISTER_ANSWER__STATUS__LATER : VARVE__CLUSTER__REGISTER_ANSWER__STATUS__REFUSED,
               "what the broker says of itself is not understood: are the versions too far apart?", done, ctx);
        return;
    }
    *w = (struct register_work){.broker = b, .done = done, .ctx = ctx, .arena = arena, .facts = m};
    w->change = (struct controller_change){.caller = &b->reactors[0], .make = make, .done = changed, .owner = w};
    controller_submit(b->controller, &w->change);
}

static void send_answer(void *ctx, const Varve__Cluster__RegisterAnswer *m) {
    size_t len = varve__cluster__register_answer__get_packed_size(m);
    uint8_t *packed = malloc(MAX(len, 1u));
    struct bytes bytes = BYTES_NULL;
    if (packed) bytes = (struct bytes){packed, (int32_t)varve__cluster__register_answer__pack(m, packed)};
    peer_answer_send(ctx, bytes); /* nothing: not understood there, and asked again */
    free(packed);
}

void registration_serve(struct broker *b, struct peer_answer *a, struct bytes request) {
    registration_handle(b, request, send_answer, a);
}
