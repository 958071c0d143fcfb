/* cluster_impl.h - for cluster_form.c, cluster_refused.c, registration.c and registration_serve.c. */
#ifndef SERVER_CLUSTER_IMPL_H
#define SERVER_CLUSTER_IMPL_H
#include "proto/cluster.pb-c.h"
#include "proto/metadata.pb-c.h"
#include "server/cluster.h"
#include "server/image.h"
#include "server/peer.h"

/* One broker that is asked what it knows. */
struct form_target {
    struct cluster *cluster;
    struct peer_call call;
    bool away;
    bool asked_before;                /* the question that is away is older than the promise */
    int32_t node;                     /* as a voter; -1: a bootstrap server */
    const struct config_address *at;
    bool blank;                       /* by its last answer */
    struct uuid incarnation;          /* blank: its own */
    enum err err;                     /* of the last call */
    bool itself;                      /* this broker answers there */
};
enum { FORM_TARGETS_MAX = CONFIG_VOTERS_MAX + CONFIG_BOOTSTRAP_MAX };

/* What refusals by other brokers say of this one: cluster_refused.c. */
struct cluster_refusals {
    int64_t twin_since_ns, twin_ns;   /* the first and the last one of a row that says: another broker with this node.id is running; 0: none */
    bool foreign;                     /* a broker that this one was told of belongs to another cluster */
    char foreign_why[640];
    struct timer timer;
};

/* Having said "blank" to the first voter, who may propose a cluster because of that, a broker takes no part in an older one
 * that a voter with the same id, wiped since, may have proposed; see cluster_form.c. */
struct form_promise {
    bool made, released;
    struct uuid incarnation;          /* of the first voter */
    struct uuid cluster;              /* released: it joined this one itself */
};

struct registration {
    struct peer_call call;
    bool away, remote, registered;
    int64_t began_ns, said_ns, refused_ns;
    uint32_t next;                    /* of the addresses that are tried while no controller is known */
    int32_t controller;               /* as the last answer said; -1: unknown */
    char host[PEER_HOST_BYTES];
    int32_t port;
    uint8_t *request;                 /* a Broker message, owned */
    uint32_t request_len;
    uint64_t wanted;                  /* metadata is to be here up to this */
    bool again;                       /* the facts have changed, or somebody wants to know how new metadata is */
    struct timer timer;
    int64_t asked_ns;                 /* when the question was sent that is away */
    struct mail wanted_mail;          /* from whichever reactor wants to know */
    atomic_bool wanted_away;
};

struct cluster {
    struct broker *broker;
    _Atomic(int) stage;
    atomic_bool known;
    struct uuid id;                   /* when known */
    bool stopping;
    /* forming */
    struct form_target targets[FORM_TARGETS_MAX];
    uint32_t target_count;
    struct form_promise promise;
    struct timer timer;
    int64_t began_ns, said_ns;
    struct cluster_refusals refusals;
    /* member */
    struct registration registration;
    uint64_t nodes_edition;           /* of the nodes that peers were told of */
    int32_t told[PEER_NODES_MAX];
    uint32_t told_count;
};

static inline struct reactor *cluster_reactor(const struct cluster *cl) { return &cl->broker->reactors[0]; }
void cluster_set_stage(struct cluster *cl, enum cluster_stage stage);

/* ---- cluster_form.c ---- */
/* The brokers that this one was told of, but for itself. */
void cluster_targets(struct cluster *cl);

/* ---- cluster_refused.c ---- */
void cluster_refusals_init(struct cluster *cl);
/* Asks everybody that this broker was told of who they are; it has a directory with a cluster. */
void cluster_ask_neighbours(struct cluster *cl);
/* False: not yet, registration_look() comes again; or never. */
bool cluster_may_serve(struct cluster *cl);
void cluster_refusals_stop(struct cluster *cl);

/* ---- registration.c ---- */
void registration_init(struct cluster *cl);
void registration_begin(struct cluster *cl);
void registration_stop(struct cluster *cl);
void registration_free(struct cluster *cl);
/* The broker's own facts, as its record should be; `listeners` has room for CONFIG_LISTENERS_MAX. Good until the next call. */
void registration_facts(struct broker *b, struct image_node *out, struct image_listener *listeners);
/* The newest image, or where clients connect, is another: is the record in it, and as it should be? */
void registration_look(struct cluster *cl);
bool registration_same_facts(const struct image_node *a, const struct image_node *b);
/* An answer, from the controller or from here. */
void registration_answered(struct cluster *cl, const Varve__Cluster__RegisterAnswer *answer);

/* ---- registration_serve.c ---- */
/* `done` gets the answer, good during the call, perhaps from inside this one. `request` is a Broker message. */
typedef void registration_done_fn(void *ctx, const Varve__Cluster__RegisterAnswer *answer);
void registration_handle(struct broker *b, struct bytes request, registration_done_fn *done, void *ctx);
void registration_serve(struct broker *b, struct peer_answer *a, struct bytes request);
#endif
