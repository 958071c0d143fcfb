/* cluster_form.c - forming a cluster, or finding the one that there is.
 *
 * A blank broker asks everybody it was told of, again and again, until somebody knows a cluster. Whoever has chosen a cluster and
 * has no metadata log yet, or has not opened it yet, says neither that it is blank (another cluster would be formed around it) nor
 * what it knows (it may still die, and know nothing).
 *
 * Nothing is sent to a blank broker unasked, so a proposal can be late in one way only: as the answer to a question that was asked before. The case that
 * this could hurt: the first voter proposes cluster P, its answer to us is under way, it loses its disk, comes back blank, asks
 * all, we say that we are blank too, it proposes cluster Q; and then the answer arrives and we found P. So whoever told the first
 * voter that it is blank takes no founding configuration that names another incarnation of it, unless that voter joined
 * that cluster itself meanwhile. Nor does it join such a cluster without being a founder (it has lost its disk, too) when the
 * question is older than the promise: whoever is asked later and knows that cluster is no blank voter of another one. A promise
 * needs no disk: an answer under way does not outlive the process that asked. */
#include <stdio.h>
#include <stdlib.h>
#include "base/assert.h"
#include "base/trace.h"
#include "proto/unpack.h"
#include "server/api.h"
#include "server/cluster_impl.h"
#include "server/controller_impl.h"

#define ASK_NS 200000000
#define ASK_TIMEOUT_NS 1000000000
#define SAY_FIRST_NS 3000000000
#define SAY_NS 15000000000

enum cluster_stage cluster_stage(const struct broker *b) {
    return b->cluster ? (enum cluster_stage)atomic_load_explicit(&b->cluster->stage, memory_order_acquire) : CLUSTER_ALONE;
}

bool cluster_id(const struct broker *b, struct uuid *out) {
    if (b->cluster && !atomic_load_explicit(&b->cluster->known, memory_order_acquire)) return false;
    *out = b->cluster ? b->cluster->id : b->cluster_id;
    return true;
}

void cluster_set_stage(struct cluster *cl, enum cluster_stage stage) { atomic_store_explicit(&cl->stage, stage, memory_order_release); }

static void set_known(struct cluster *cl, const struct uuid *id) {
    cl->id = cl->broker->cluster_id = *id;
    atomic_store_explicit(&cl->known, true, memory_order_release);
    peer_set_cluster(cl->broker, id);
}

static struct replica_member self(const struct broker *b) {
    return (struct replica_member){b->config.node_id, *log_store_incarnation(b->store)};
}

/* ---- the answer ---------------------------------------------------------------------------------- */

static ProtobufCBinaryData uuid_data(const struct uuid *id) { return (ProtobufCBinaryData){sizeof id->b, (uint8_t *)id->b}; }

static bool is_first_voter(const struct broker *b, int32_t node) {
    return b->config.voter_count > 0 && b->config.voters[0].node == node;
}

static void answer_send(struct peer_answer *a, const Varve__Cluster__FormAnswer *m) {
    uint8_t packed[1024];
    ASSERT(varve__cluster__form_answer__get_packed_size(m) <= sizeof packed);
    size_t len = varve__cluster__form_answer__pack(m, packed);
    peer_answer_send(a, (struct bytes){packed, (int32_t)len});
}

static void promise_make(struct cluster *cl, const struct uuid *first) {
    if (cl->promise.made && uuid_eq(&cl->promise.incarnation, first)) return;
    cl->promise = (struct form_promise){.made = true, .incarnation = *first};
    for (uint32_t i = 0; i < cl->target_count; i++) cl->targets[i].asked_before = cl->targets[i].away;
}

static void serve(struct broker *b, struct peer_answer *a, struct bytes request) {
    (void)request;
    struct cluster *cl = b->cluster;
    const struct controller *c = b->controller;
    Varve__Cluster__FormAnswer m = VARVE__CLUSTER__FORM_ANSWER__INIT;
    Varve__Cluster__QuorumConfig config = VARVE__CLUSTER__QUORUM_CONFIG__INIT;
    Varve__Cluster__Member members[REPLICA_MEMBERS_MAX], *list[REPLICA_MEMBERS_MAX];
    bool known = atomic_load_explicit(&cl->known, memory_order_relaxed);
    m.knows = known && c->follow.running;
    m.blank = !known;
    if (m.knows) {
        const struct replica_config *from = &c->role.config;
        m.cluster_id = uuid_data(&cl->id);
        m.config = &config;
        config.epoch = from->id.epoch;
        config.version = from->id.version;
        config.voters = from->voters;
        config.n_members = from->count;
        config.members = list;
        for (uint32_t i = 0; i < from->count; i++) {
            list[i] = &members[i];
            varve__cluster__member__init(list[i]);
            list[i]->node = from->members[i].node;
            list[i]->incarnation = uuid_data(&from->members[i].incarnation);
        }
    }
    if (m.blank && is_first_voter(b, a->node)) promise_make(cl, &a->incarnation);
    answer_send(a, &m);
}

/* ---- what was found ---------------------------------------------------------------------------------- */

static void stop_asking(struct cluster *cl) {
    timer_cancel(&cluster_reactor(cl)->timers, &cl->timer);
    for (uint32_t i = 0; i < cl->target_count; i++) {
        if (cl->targets[i].away) peer_call_cancel(&cl->targets[i].call);
        cl->targets[i].away = false;
    }
}

/* `config` NULL: a leader will tell. */
static void begin(struct cluster *cl, const struct uuid *id, const struct replica_config *config) {
    char text[UUID_TEXT_BYTES];
    uuid_text(id, text);
    stop_asking(cl);
    enum err err = log_store_set_cluster_id(cl->broker->store, id);
    if (err) {
        controller_fail(cl->broker->controller, err, "the cluster's id could not be written to varve.meta");
        return;
    }
    set_known(cl, id);
    cluster_set_stage(cl, CLUSTER_JOINING);
    trace_info("cluster", "this broker %s cluster %s", config ? "is a founding member of" : "joins", text);
    metadata_log_begin(cl->broker->controller, config);
}

static bool config_from(const Varve__Cluster__QuorumConfig *m, struct replica_config *out) {
    *out = (struct replica_config){0};
    if (!m || m->n_members == 0) return true;
    if (m->n_members > REPLICA_MEMBERS_MAX || m->voters > m->n_members) return false;
    out->id = (struct replica_config_id){m->epoch, m->version};
    out->voters = (uint8_t)m->voters;
    out->count = (uint8_t)m->n_members;
    for (size_t i = 0; i < m->n_members; i++) {
        const Varve__Cluster__Member *from = m->members[i];
        if (from->incarnation.len != sizeof out->members[i].incarnation.b) return false;
        out->members[i].node = from->node;
        memcpy(out->members[i].incarnation.b, from->incarnation.data, from->incarnation.len);
    }
    return replica_config_is_valid(out);
}

/* Whether the promise (above) allows to begin with `config`. */
static bool may_found(const struct cluster *cl, const struct uuid *id, const struct replica_config *config) {
    const struct form_promise *p = &cl->promise;
    if (!p->made || (p->released && uuid_eq(&p->cluster, id))) return true;
    for (uint32_t i = 0; i < config->count; i++)
        if (is_first_voter(cl->broker, config->members[i].node)) return uuid_eq(&config->members[i].incarnation, &p->incarnation);
    return true;
}

static void found(struct cluster *cl, const struct form_target *t, const struct uuid *id, const struct replica_config *config) {
    struct replica_member me = self(cl->broker);
    struct form_promise *p = &cl->promise;
    if (p->made && is_first_voter(cl->broker, t->call.answered_by) && uuid_eq(&t->call.incarnation, &p->incarnation)) {
        p->released = true;
        p->cluster = *id;
    }
    bool founding = replica_config_find(config, &me) >= 0;
    if ((founding || t->asked_before) && !may_found(cl, id, config)) return; /* asked again */
    begin(cl, id, founding ? config : NULL);
}

/* All other voters are blank, and this is the first one. */
static bool may_propose(const struct cluster *cl) {
    const struct config *config = &cl->broker->config;
    if (!is_first_voter(cl->broker, config->node_id)) return false;
    uint32_t blank = 0;
    for (uint32_t i = 0; i < cl->target_count; i++) blank += cl->targets[i].node >= 0 && cl->targets[i].blank;
    return blank + 1 == config->voter_count;
}

/* The id is the random one that varve.meta has had from the first start on. Nobody hears of it before the log is durable. */
static void propose(struct cluster *cl) {
    struct replica_config config = {.id = {0, 1}};
    config.members[config.count++] = self(cl->broker);
    for (uint32_t i = 0; i < cl->target_count; i++)
        if (cl->targets[i].node >= 0) config.members[config.count++] = (struct replica_member){cl->targets[i].node, cl->targets[i].incarnation};
    config.voters = config.count;
    struct uuid id = *log_store_cluster_id(cl->broker->store);
    begin(cl, &id, &config);
}

/* ---- the question ------------------------------------------------------------------------------------ */

static void take_answer(struct form_target *t, const Varve__Cluster__FormAnswer *m) {
    struct cluster *cl = t->cluster;
    struct replica_config config;
    if (!m || (m->knows && m->blank) || (m->knows && (m->cluster_id.len != sizeof(struct uuid) || !config_from(m->config, &config)))) {
        trace_warn("cluster", "%s:%d answered something that is not understood: is it a later version?", t->at->host, t->at->port);
        return;
    }
    if (!m->knows && !m->blank) return; /* soon */
    if (m->knows) {
        struct uuid id;
        memcpy(id.b, m->cluster_id.data, sizeof id.b);
        found(cl, t, &id, &config);
    } else if (t->node >= 0 && t->call.answered_by != t->node) {
        trace_error("cluster", "controller.quorum.voters has broker %d at %s:%d, but broker %d answers there", t->node, t->at->host,
                    t->at->port, t->call.answered_by);
    } else if (t->node >= 0) {
        t->blank = true;
        t->incarnation = t->call.incarnation;
        if (may_propose(cl)) propose(cl);
    }
}

static void asked(struct peer_call *call) {
    struct form_target *t = call->owner;
    t->away = false;
    t->blank = false;
    t->err = call->err;
    if (call->err || t->cluster->stopping) return;
    struct arena a;
    take_answer(t, unpack(&a, &varve__cluster__form_answer__descriptor, call->answer, UNPACK_BYTES));
    arena_free(&a);
}

static void say_what_is_waited_for(struct cluster *cl, int64_t now_ns) {
    char list[512] = "";
    size_t at = 0;
    if (now_ns - cl->began_ns < SAY_FIRST_NS || (cl->said_ns && now_ns - cl->said_ns < SAY_NS)) return;
    cl->said_ns = now_ns;
    for (uint32_t i = 0; i < cl->target_count && at < sizeof list - 1; i++) {
        const struct form_target *t = &cl->targets[i];
        if (t->itself) continue;
        char node[16] = "";
        if (t->node >= 0) snprintf(node, sizeof node, "%d@", t->node);
        int n = snprintf(list + at, sizeof list - at, "%s%s%s:%d (%s)", at ? ", " : "", node, t->at->host, t->at->port,
                         t->blank ? "blank too" : t->err ? err_str(t->err) : "no answer yet");
        at = MIN(at + (size_t)MAX(n, 0), sizeof list - 1);
    }
    trace_info("cluster", "this directory belongs to no cluster yet; waiting for one that is there, or for all voters to form one: %s", list);
}

static void ask_all(struct timer *timer) {
    struct cluster *cl = CONTAINER_OF(timer, struct cluster, timer);
    struct reactor *r = cluster_reactor(cl);
    say_what_is_waited_for(cl, r->now_ns);
    timer_set(&r->timers, timer, r->now_ns + ASK_NS);
    for (uint32_t i = 0; i < cl->target_count; i++) {
        struct form_target *t = &cl->targets[i];
        if (t->away || t->itself) continue;
        t->away = true;
        t->asked_before = false;
        t->call = (struct peer_call){
            .caller = r, .node = -1, .host = t->at->host, .port = t->at->port, .kind = PEER_CALL_FORM, .request = BYTES_NULL,
            .timeout_ns = ASK_TIMEOUT_NS, .done = asked, .owner = t,
        };
        peer_call(&t->call);
    }
}

static void target_add(struct cluster *cl, int32_t node, const struct config_address *at) {
    cl->targets[cl->target_count++] = (struct form_target){.cluster = cl, .node = node, .at = at};
}

void cluster_targets(struct cluster *cl) {
    const struct config *config = &cl->broker->config;
    if (cl->target_count > 0) return;
    for (uint32_t i = 0; i < config->voter_count; i++)
        if (config->voters[i].node != config->node_id) target_add(cl, config->voters[i].node, &config->voters[i].at);
    for (uint32_t i = 0; i < config->bootstrap_count; i++) target_add(cl, -1, &config->bootstrap[i]);
}

void cluster_find(struct broker *b) {
    struct cluster *cl = b->cluster;
    cluster_targets(cl);
    if (cl->target_count == 0) { /* nobody else: a cluster of its own */
        struct replica_config config_alone = {.id = {0, 1}, .voters = 1, .count = 1, .members = {self(b)}};
        begin(cl, log_store_cluster_id(b->store), &config_alone);
        return;
    }
    cl->began_ns = cluster_reactor(cl)->now_ns;
    ask_all(&cl->timer);
}

/* ---- life ---------------------------------------------------------------------------------------------- */

enum err cluster_open(struct broker *b) {
    if (!b->config.peer_listens) return OK;
    struct cluster *cl = calloc(1, sizeof *cl);
    if (!cl) return ERR_NOMEM;
    b->cluster = cl;
    cl->broker = b;
    timer_init(&cl->timer, ask_all);
    registration_init(cl);
    cluster_refusals_init(cl);
    atomic_store(&cl->stage, CLUSTER_FORMING);
    peer_serve(b, PEER_CALL_FORM, serve);
    peer_serve(b, PEER_CALL_REGISTER, registration_serve);
    if (b->controller->found) set_known(cl, log_store_cluster_id(b->store));
    return OK;
}

void cluster_join(struct broker *b) {
    struct cluster *cl = b->cluster;
    if (!cl) return;
    cluster_set_stage(cl, CLUSTER_JOINING);
    if (!cl->began_ns) cluster_ask_neighbours(cl); /* else it has just found its cluster by asking them */
    registration_begin(cl);
}

/* What peers need to know of other brokers. Those of the configuration they know already, and keep. */
static void tell_peers(struct cluster *cl, const struct image *im) {
    struct broker *b = cl->broker;
    for (uint32_t i = 0; i < cl->told_count; i++) {
        bool configured = false;
        for (uint32_t k = 0; k < b->config.voter_count; k++) configured = configured || b->config.voters[k].node == cl->told[i];
        if (!image_node(im, cl->told[i]) && !configured) (void)peer_set_node(b, cl->told[i], "", 0);
    }
    cl->told_count = 0;
    for (uint32_t i = 0; i < im->node_count; i++) {
        const struct image_node *n = &im->nodes[i];
        if (n->node == b->config.node_id || n->peer_port == 0) continue;
        enum err err = peer_set_node(b, n->node, n->peer_host, n->peer_port);
        if (err) trace_error("cluster", "broker %d at %s:%d cannot be connected to: %s", n->node, n->peer_host, n->peer_port, err_str(err));
        else if (cl->told_count < PEER_NODES_MAX) cl->told[cl->told_count++] = n->node;
    }
}

void cluster_image(struct broker *b) {
    struct cluster *cl = b->cluster;
    const struct image *im = atomic_load_explicit(&b->image, memory_order_relaxed);
    if (!cl || cl->stopping) return;
    if (im->nodes_edition != cl->nodes_edition) {
        cl->nodes_edition = im->nodes_edition;
        tell_peers(cl, im);
    }
    registration_look(cl);
}

void cluster_stop(struct broker *b) {
    struct cluster *cl = b->cluster;
    if (!cl || cl->stopping) return;
    cl->stopping = true;
    stop_asking(cl);
    cluster_refusals_stop(cl);
    registration_stop(cl);
}

void cluster_close(struct broker *b) {
    if (!b->cluster) return;
    registration_free(b->cluster);
    free(b->cluster);
    b->cluster = NULL;
}
