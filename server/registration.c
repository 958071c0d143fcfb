/* registration.c - this broker's record in the metadata, kept as it should be.
 *
 * Asks whoever may be the controller, again and again, until the controller has said that the record is there; then waits
 * until metadata is here up to that point, and the broker is a member. Later it looks at each new image: a record that is gone
 * or different (an operator removed this broker, its ports are known only now) is asked for again; one with another
 * incarnation says that another broker has taken this one's place.
 *
 * The same question tells how new the image is here: cluster_knows_since(). */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/trace.h"
#include "proto/unpack.h"
#include "server/acceptor.h"
#include "server/reactor.h"
#include "server/cluster_impl.h"
#include "server/controller_impl.h"

#define RETRY_NS 100000000
#define AGAIN_NS 1000000000   /* until metadata is here: others may have come whom it has to be got from */
#define CALL_NS 2000000000
#define REFUSED_NS 5000000000 /* a broker that was killed, or whose disk was replaced, is believed to be there for a moment */
#define SAY_FIRST_NS 3000000000
#define SAY_NS 15000000000

static void attempt(struct timer *t);

static void attempt_in(struct cluster *cl, int64_t ns) {
    struct reactor *r = cluster_reactor(cl);
    if (!cl->stopping) timer_set(&r->timers, &cl->registration.timer, r->now_ns + ns);
}

/* ---- the facts ------------------------------------------------------------------------------------- */

static bool is_wildcard(const char *host) { return !host[0] || strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0; }

/* As request_advertised() says it, without a connection whose local address could stand in. */
static struct image_listener listener_fact(const struct broker *b, uint32_t i, const char *peer_host) {
    const struct config_listener *l = &b->config.listeners[i];
    const char *host = l->advertised_host[0] ? l->advertised_host : is_wildcard(l->host) ? peer_host : l->host;
    int32_t port = l->advertised_host[0] && l->advertised_port ? l->advertised_port : l->port;
    const struct acceptor *a = broker_acceptor(b);
    if (port == 0 && i < a->listener_count) port = ntohs(((const struct sockaddr_in *)(const void *)&a->listeners[i].addr)->sin_port); /* v6: the same place */
    return (struct image_listener){(char *)l->name, (char *)host, port};
}

void registration_facts(struct broker *b, struct image_node *out, struct image_listener *listeners) {
    const char *peer_host = "";
    int32_t peer_port = 0;
    if (!peer_advertised(b, &peer_host, &peer_port)) peer_host = "";
    for (uint32_t i = 0; i < b->config.listener_count; i++) listeners[i] = listener_fact(b, i, peer_host);
    *out = (struct image_node){
        .node = b->config.node_id, .incarnation = *log_store_incarnation(b->store), .listeners = listeners,
        .listener_count = b->config.listener_count, .peer_host = (char *)peer_host, .peer_port = peer_port,
        .rack = (char *)(b->config.broker_rack ? b->config.broker_rack : ""), .version = (char *)VARVE_VERSION,
    };
}

static bool pack_request(struct cluster *cl) {
    struct registration *g = &cl->registration;
    struct image_node facts;
    struct image_listener listeners[CONFIG_LISTENERS_MAX];
    Varve__Metadata__Broker m = VARVE__METADATA__BROKER__INIT;
    Varve__Metadata__Listener packed[CONFIG_LISTENERS_MAX], *list[CONFIG_LISTENERS_MAX];
    registration_facts(cl->broker, &facts, listeners);
    for (uint32_t i = 0; i < facts.listener_count; i++) {
        varve__metadata__listener__init(&packed[i]);
        packed[i].name = listeners[i].name;
        packed[i].host = listeners[i].host;
        packed[i].port = listeners[i].port;
        list[i] = &packed[i];
    }
    m.node = facts.node;
    m.incarnation = (ProtobufCBinaryData){sizeof facts.incarnation.b, facts.incarnation.b};
    m.listeners = list;
    m.n_listeners = facts.listener_count;
    m.peer_host = facts.peer_host;
    m.peer_port = facts.peer_port;
    m.rack = facts.rack;
    m.version = facts.version;
    free(g->request);
    size_t len = varve__metadata__broker__get_packed_size(&m);
    g->request = malloc(MAX(len, 1u));
    if (!g->request) return false;
    g->request_len = (uint32_t)varve__metadata__broker__pack(&m, g->request);
    return true;
}

/* ---- whom to ask ----------------------------------------------------------------------------------------- */

/* Sets host and port of the call, which are borrowed by it; false: nobody is known. Takes turns while no controller is known. */
static bool choose(struct cluster *cl, struct peer_call *call) {
    struct registration *g = &cl->registration;
    int32_t leader = controller_leader_node(cl->broker);
    if (leader >= 0 && leader != cl->broker->config.node_id && peer_is_up(cluster_reactor(cl), leader)) {
        call->node = leader;
        return true;
    }
    call->node = -1;
    call->host = g->host;
    if (g->controller >= 0) {
        call->port = g->port;
        g->controller = -1; /* once */
        return true;
    }
    for (uint32_t i = 0; i < cl->target_count; i++) {
        const struct form_target *t = &cl->targets[g->next++ % cl->target_count];
        if (t->itself) continue;
        call->host = t->at->host;
        call->port = t->at->port;
        return true;
    }
    return false;
}

static void say_waiting(struct cluster *cl) {
    struct registration *g = &cl->registration;
    const struct controller *c = cl->broker->controller;
    int64_t now_ns = cluster_reactor(cl)->now_ns;
    if (now_ns - g->began_ns < SAY_FIRST_NS || (g->said_ns && now_ns - g->said_ns < SAY_NS)) return;
    g->said_ns = now_ns;
    char voters[256] = "";
    size_t at = 0;
    const struct replica_config *config = &c->role.config;
    for (uint32_t i = 0; i < config->voters && at < sizeof voters - 1; i++) {
        int32_t node = config->members[i].node;
        int n = snprintf(voters + at, sizeof voters - at, "%s%d%s", at ? ", " : "", node,
                         peer_is_up(cluster_reactor(cl), node) ? "" : " (not connected)");
        at = MIN(at + (size_t)MAX(n, 0), sizeof voters - 1);
    }
    if (g->refused_ns)
        trace_info("cluster", "asking again whether this broker may register");
    else if (g->registered)
        trace_info("cluster", "waiting for metadata up to offset %llu; %llu are here", (unsigned long long)g->wanted,
                   (unsigned long long)c->follow.applied);
    else if (c->role.leader >= 0)
        trace_info("cluster", "waiting for broker %d, which leads the metadata log, to register this one", c->role.leader);
    else
        trace_info("cluster", "waiting for a majority of the voters of the metadata log: %s", voters[0] ? voters : "they are not known yet");
}

/* ---- where the others are ---------------------------------------------------------------------------------- */

/* Where brokers are is written in the metadata, and nobody has that who starts before there is a controller. The configuration names those
 * who founded the cluster, at best: voters that were added later would wait for each other for ever. But whoever connects says where it
 * listens, those who start ask all that they were told of to be registered, and are told of others by them. Members of the metadata
 * log's group are believed, as it has them. Who can reach this listener, knows a member's incarnation and is first might say so for it, until the member itself comes. */
static void members_that_told(struct cluster *cl) {
    const struct broker *b = cl->broker;
    const struct replica_config *config = &b->controller->role.config;
    const struct image *im = atomic_load_explicit(&b->image, memory_order_relaxed);
    for (uint32_t i = 0; i < config->count; i++) {
        const struct replica_member *m = &config->members[i];
        char host[PEER_HOST_BYTES];
        int32_t port;
        if (m->node == b->config.node_id || image_node(im, m->node) || !peer_told_address(b, m->node, &m->incarnation, host, &port)) continue;
        enum err err = peer_set_node(cl->broker, m->node, host, port);
        if (err) trace_warn("cluster", "broker %d at %s:%d cannot be connected to: %s", m->node, host, port, err_str(err));
    }
}

/* ---- asking ------------------------------------------------------------------------------------------------ */

static void answered_here(void *ctx, const Varve__Cluster__RegisterAnswer *answer) {
    struct cluster *cl = ctx;
    cl->registration.away = false;
    if (!cl->stopping) registration_answered(cl, answer);
}

static void called(struct peer_call *call) {
    struct cluster *cl = call->owner;
    struct registration *g = &cl->registration;
    g->away = false;
    if (cl->stopping) return;
    struct arena a;
    arena_init(&a, 0);
    registration_answered(cl, call->err ? NULL : unpack(&a, &varve__cluster__register_answer__descriptor, call->answer, UNPACK_BYTES));
    arena_free(&a);
}

static void attempt(struct timer *t) {
    struct cluster *cl = CONTAINER_OF(t, struct cluster, registration.timer);
    struct registration *g = &cl->registration;
    if (g->away || cl->stopping) return;
    if (cluster_stage(cl->broker) != CLUSTER_MEMBER) {
        members_that_told(cl);
        say_waiting(cl);
    }
    if (g->registered && !g->again && cluster_stage(cl->broker) == CLUSTER_MEMBER) return;
    g->call = (struct peer_call){
        .caller = cluster_reactor(cl), .kind = PEER_CALL_REGISTER, .timeout_ns = CALL_NS, .done = called, .owner = cl,
    };
    bool here = controller_is_active(cl->broker);
    if (!pack_request(cl) || (!here && !choose(cl, &g->call))) {
        attempt_in(cl, RETRY_NS);
        return;
    }
    g->call.request = (struct bytes){g->request, (int32_t)g->request_len};
    g->away = true;
    g->again = false;
    g->asked_ns = io_mono_ns(cluster_reactor(cl)->io); /* the turn may have begun before somebody wanted to know */
    g->remote = !here;
    if (here) registration_handle(cl->broker, g->call.request, answered_here, cl);
    else peer_call(&g->call);
}

/* Without its address nothing can be acknowledged to a leader; metadata, which has them all, comes from that leader. */
static void take_address(struct cluster *cl, const Varve__Cluster__Address *a) {
    if (!a || a->node < 0 || a->node == cl->broker->config.node_id || a->port <= 0 || a->port > 65535) return;
    enum err err = peer_set_node(cl->broker, a->node, a->host, a->port);
    if (err) trace_warn("cluster", "broker %d at %s:%d cannot be connected to: %s", a->node, a->host, a->port, err_str(err));
}
static void take_addresses(struct cluster *cl, const Varve__Cluster__RegisterAnswer *m) {
    if (cluster_stage(cl->broker) == CLUSTER_MEMBER) return; /* metadata knows better */
    take_address(cl, m->controller);
    for (size_t i = 0; i < m->n_brokers; i++) take_address(cl, m->brokers[i]);
}

static void take_controller(struct registration *g, const Varve__Cluster__Address *a) {
    g->controller = -1;
    if (!a || a->node < 0 || a->port <= 0 || a->port > 65535 || strlen(a->host) >= sizeof g->host) return;
    g->controller = a->node;
    g->port = a->port;
    strcpy(g->host, a->host);
}

/* ---- how new metadata is -------------------------------------------------------------------------------------- */

/* The controller's image showed all that was committed when it was asked, for a majority has said since that nobody else is it
 * (controller.c, changes that change nothing); and it is written up to `end`. What it tells by itself, with its heartbeats, may have been
 * under way for any time, or lain in a socket whose thread stood still. */
static void note_known(struct cluster *cl, uint64_t end) {
    struct broker *b = cl->broker;
    atomic_store_explicit(&b->metadata_known_end, end, memory_order_relaxed);
    atomic_store_explicit(&b->metadata_asked_ns, cl->registration.asked_ns, memory_order_release);
}

static void known_wanted(struct mail *m) {
    struct cluster *cl = CONTAINER_OF(m, struct cluster, registration.wanted_mail);
    struct registration *g = &cl->registration;
    atomic_store_explicit(&g->wanted_away, false, memory_order_release);
    if (cl->stopping || cluster_stage(cl->broker) != CLUSTER_MEMBER) return; /* it asks anyway */
    g->again = true;
    if (!g->away) attempt_in(cl, 0);
}

bool cluster_knows_since(struct reactor *r, int64_t since_ns) {
    struct broker *b = r->broker;
    if (!r->image) return false;
    if (!b->cluster) return true; /* nobody else writes any */
    int64_t asked_ns = atomic_load_explicit(&b->metadata_asked_ns, memory_order_acquire);
    uint64_t end = atomic_load_explicit(&b->metadata_known_end, memory_order_relaxed);
    if (asked_ns >= since_ns) return r->image->metadata_end >= end;
    struct registration *g = &b->cluster->registration;
    if (!atomic_exchange_explicit(&g->wanted_away, true, memory_order_acq_rel)) {
        g->wanted_mail.deliver = known_wanted;
        mailbox_post(&cluster_reactor(b->cluster)->mailbox, &g->wanted_mail);
    }
    return false;
}

/* ---- answers ------------------------------------------------------------------------------------------------- */

void registration_answered(struct cluster *cl, const Varve__Cluster__RegisterAnswer *m) {
    struct registration *g = &cl->registration;
    bool done = m && m->status == VARVE__CLUSTER__REGISTER_ANSWER__STATUS__OK;
    g->again = g->again || !done;
    attempt_in(cl, done ? AGAIN_NS : RETRY_NS);
    if (!m) return;
    take_addresses(cl, m);
    if (m->status == VARVE__CLUSTER__REGISTER_ANSWER__STATUS__OK) g->refused_ns = 0;
    switch (m->status) {
    case VARVE__CLUSTER__REGISTER_ANSWER__STATUS__OK:
        if (!g->registered) g->wanted = m->metadata_end;
        g->registered = true;
        note_known(cl, m->metadata_end);
        controller_wants(cl->broker->controller, m->metadata_end);
        registration_look(cl);
        break;
    case VARVE__CLUSTER__REGISTER_ANSWER__STATUS__REFUSED:
        if (!g->refused_ns) trace_warn("cluster", "the controller refuses this broker: %s", m->why);
        if (!g->refused_ns) g->refused_ns = cluster_reactor(cl)->now_ns;
        if (cluster_reactor(cl)->now_ns - g->refused_ns > REFUSED_NS) controller_fail(cl->broker->controller, ERR_EXISTS, m->why);
        return;
    case VARVE__CLUSTER__REGISTER_ANSWER__STATUS__NOT_CONTROLLER: take_controller(g, m->controller); break;
    default: break;
    }
}

/* ---- what became of it ---------------------------------------------------------------------------------------- */

bool registration_same_facts(const struct image_node *a, const struct image_node *b) {
    bool same = uuid_eq(&a->incarnation, &b->incarnation) && a->listener_count == b->listener_count && a->peer_port == b->peer_port &&
                strcmp(a->peer_host, b->peer_host) == 0 && strcmp(a->rack, b->rack) == 0 && strcmp(a->version, b->version) == 0;
    for (uint32_t i = 0; same && i < a->listener_count; i++)
        same = a->listeners[i].port == b->listeners[i].port && strcmp(a->listeners[i].name, b->listeners[i].name) == 0 &&
               strcmp(a->listeners[i].host, b->listeners[i].host) == 0;
    return same;
}

void registration_look(struct cluster *cl) {
    struct broker *b = cl->broker;
    struct registration *g = &cl->registration;
    const struct image *im = atomic_load_explicit(&b->image, memory_order_relaxed);
    if (!g->registered || im->metadata_end < g->wanted || !b->controller->published) return;
    struct image_node facts;
    struct image_listener listeners[CONFIG_LISTENERS_MAX];
    const struct image_node *own = image_node(im, b->config.node_id);
    registration_facts(b, &facts, listeners);
    if (own && !uuid_eq(&own->incarnation, &facts.incarnation)) {
        controller_fail(b->controller, ERR_EXISTS, "another broker with the same node.id has taken this one's place in the cluster: "
                        "every broker needs a node.id of its own");
        return;
    }
    if (!own || !registration_same_facts(own, &facts)) {
        g->again = true;
        if (!g->away) attempt_in(cl, 0);
    }
    if (cluster_stage(b) != CLUSTER_MEMBER && cluster_may_serve(cl)) {
        cluster_set_stage(cl, CLUSTER_MEMBER);
        controller_look_served(b->controller);
    }
}

void cluster_listening(struct broker *b) {
    if (b->cluster) registration_look(b->cluster);
}

void registration_init(struct cluster *cl) { timer_init(&cl->registration.timer, attempt); }

void registration_begin(struct cluster *cl) {
    struct registration *g = &cl->registration;
    g->began_ns = cluster_reactor(cl)->now_ns;
    g->controller = -1;
    attempt_in(cl, 0);
}

void registration_stop(struct cluster *cl) {
    struct registration *g = &cl->registration;
    timer_cancel(&cluster_reactor(cl)->timers, &g->timer);
    if (g->away && g->remote) peer_call_cancel(&g->call);
}

void registration_free(struct cluster *cl) { free(cl->registration.request); }
