/* cluster_refused.c - what it means for this broker that others refuse to speak with it.
 *
 *   itself    one of the addresses that it was told to ask is its own: that one is not asked any more
 *   a twin    another broker with its node.id is running. Right after a broker died the others may take it for alive for a moment
 *             longer, and refuse the one that is started in its place: the refusals have to go on for TWIN_NS before this one ends
 *   foreign   the other one belongs to another cluster. For a member of a cluster of several that is the other one's mistake. A broker
 *             alone that was told of brokers of another cluster was meant to join that one, and cannot with this directory: were it
 *             to serve, clients would write to a cluster that nobody thinks of. So it asks before it serves, and does not start.
 *             Nobody there, or nobody who knows a cluster: then it serves, and the others may join it */
#include <stdio.h>
#include "base/trace.h"
#include "server/api.h"
#include "server/cluster_impl.h"
#include "server/controller_impl.h"

#define TWIN_NS INT64_C(5000000000)
#define TWIN_PAUSE_NS INT64_C(2500000000)      /* so long without one: a new row begins */
#define NEIGHBOURS_NS INT64_C(1000000000)

/* ---- neighbours ------------------------------------------------------------------------------------ */

static bool is_asking(const struct cluster *cl) {
    for (uint32_t i = 0; i < cl->target_count; i++)
        if (cl->targets[i].away) return true;
    return false;
}

/* What counts was heard before: cluster_refused(). */
static void answered(struct peer_call *call) {
    struct form_target *t = call->owner;
    t->away = false;
    if (!t->cluster->stopping && !is_asking(t->cluster)) registration_look(t->cluster);
}

void cluster_ask_neighbours(struct cluster *cl) {
    cluster_targets(cl);
    for (uint32_t i = 0; i < cl->target_count; i++) {
        struct form_target *t = &cl->targets[i];
        t->away = true;
        t->call = (struct peer_call){
            .caller = cluster_reactor(cl), .node = -1, .host = t->at->host, .port = t->at->port, .kind = PEER_CALL_PROBE, .request = BYTES_NULL,
            .timeout_ns = NEIGHBOURS_NS, .done = answered, .owner = t,
        };
        peer_call(&t->call);
    }
}

static bool is_alone(const struct cluster *cl) {
    const struct image *im = atomic_load_explicit(&cl->broker->image, memory_order_relaxed);
    return cl->broker->controller->role.config.count <= 1 && im->node_count <= 1;
}

bool cluster_may_serve(struct cluster *cl) {
    if (!is_alone(cl)) return true;
    if (is_asking(cl)) return false;
    if (cl->refusals.foreign) controller_fail(cl->broker->controller, ERR_EXISTS, cl->refusals.foreign_why);
    return !cl->refusals.foreign;
}

/* ---- refusals ---------------------------------------------------------------------------------------- */

static void note_itself(struct cluster *cl, const char *host, uint16_t port) {
    for (uint32_t i = 0; i < cl->target_count; i++) {
        struct form_target *t = &cl->targets[i];
        if (t->at->port == port && strcmp(t->at->host, host) == 0) t->itself = true;
    }
}

static void note_foreign(struct cluster *cl, const char *host, uint16_t port, const struct uuid *theirs) {
    char ours[UUID_TEXT_BYTES], other[UUID_TEXT_BYTES];
    bool told = false;
    for (uint32_t i = 0; i < cl->target_count; i++) told = told || (cl->targets[i].at->port == port && strcmp(cl->targets[i].at->host, host) == 0);
    if (!told || cl->refusals.foreign) return;
    uuid_text(&cl->id, ours);
    uuid_text(theirs, other);
    cl->refusals.foreign = true;
    snprintf(cl->refusals.foreign_why, sizeof cl->refusals.foreign_why,
             "this data directory has a cluster of its own, %s, but the broker at %s:%u (controller.quorum.voters, "
             "controller.quorum.bootstrap.servers) belongs to cluster %s: to join that one start with an empty data directory, to go on "
             "with this one take that address out of the configuration", ours, host, port, other);
}

static void note_twin(struct cluster *cl) {
    struct cluster_refusals *f = &cl->refusals;
    int64_t now_ns = cluster_reactor(cl)->now_ns;
    if (!f->twin_ns || now_ns - f->twin_ns > TWIN_PAUSE_NS) f->twin_since_ns = now_ns;
    f->twin_ns = now_ns;
    if (now_ns - f->twin_since_ns >= TWIN_NS) timer_set(&cluster_reactor(cl)->timers, &f->timer, now_ns);
}

/* Not from inside the connection that was refused. */
static void end_as_twin(struct timer *t) {
    struct cluster *cl = CONTAINER_OF(t, struct cluster, refusals.timer);
    controller_fail(cl->broker->controller, ERR_EXISTS, "another broker with the same node.id is running: every broker needs a node.id of its own");
}

void cluster_refused(struct broker *b, const char *host, uint16_t port, enum peer_refusal why, const struct uuid *theirs) {
    struct cluster *cl = b->cluster;
    if (!cl || cl->stopping) return;
    switch (why) {
    case PEER_REFUSED_ITSELF: note_itself(cl, host, port); return;
    case PEER_REFUSED_FOREIGN: note_foreign(cl, host, port, theirs); return;
    case PEER_REFUSED_SAME_ID:
    case PEER_REFUSED_TWIN: note_twin(cl); return;
    default: return; /* a line was written; it may be over when it is tried again */
    }
}

void cluster_refusals_init(struct cluster *cl) { timer_init(&cl->refusals.timer, end_as_twin); }

void cluster_refusals_stop(struct cluster *cl) { timer_cancel(&cluster_reactor(cl)->timers, &cl->refusals.timer); }
