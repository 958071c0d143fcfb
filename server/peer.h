/* peer.h - brokers talk to brokers: replica messages, leader reports, calls. The bytes: docs/peer-protocol.md.
 *
 * Every reactor keeps one connection to each other broker that it knows, for what it has to say; what the other one has to say
 * comes on the connections that that one opens. Back on the same connection come only the hello, answers to pings and answers
 * to calls. All that a turn produces for a broker leaves in as few frames as possible.
 *
 * Delivery is as good as a datagram's: in order on one connection, lost when a connection breaks, when nobody is connected,
 * or when a queue is full; calls end with an error then. Everything that arrives was checked: checksum, lengths, counts, that
 * the sender is who its hello said, replica_message_is_valid().
 *
 * A broker that is reset or refuses is lost at once, one that is silent within PEER_SILENT_NS; see peer_hooks.
 *
 * Threads: a function with a reactor runs on that reactor's thread, one with a broker on reactor 0's; hooks likewise. */
#ifndef SERVER_PEER_H
#define SERVER_PEER_H
#include "base/buf.h"
#include "base/err.h"
#include "replication/message.h"
#include "server/broker.h"
#include "server/peer_wire.h"


enum {
    PEER_NODES_MAX = 128,                /* other brokers that one knows, or has known since it started */
    PEER_SLICES_MAX = 256,               /* of one message: with more, copy them together */
    PEER_RECORDS_MAX = 1048576,          /* beside one message; a single batch may be larger: */
    PEER_BATCH_MAX = 104857600,          /* then it travels alone, up to this */
};
#define PEER_SILENT_NS INT64_C(2000000000)
#define PEER_BEAT_NS INT64_C(100000000)

/* ---- who is there -------------------------------------------------------------------------- */

/* Broker `node` is reached at host:port; port 0 forgets it. From the configuration, later from registrations; setting the same
 * again changes nothing. ERR_FULL: too many brokers. ERR_INVALID: the broker itself, or a host that is too long. */
enum err peer_set_node(struct broker *b, int32_t node, const char *host, int32_t port);
/* Where that is. False: not known. */
bool peer_address(const struct broker *b, int32_t node, char host[PEER_HOST_BYTES], int32_t *port);
/* Where `node` said that it listens when it connected last, with this incarnation: for who knows that it is to be believed. False: it has not. */
bool peer_told_address(const struct broker *b, int32_t node, const struct uuid *incarnation, char host[PEER_HOST_BYTES], int32_t *port);
/* The cluster that this broker belongs to, once it is known (a directory that belongs to one already knows it at start).
 * Connections to and from other clusters are refused from then on; without one all are taken. */
void peer_set_cluster(struct broker *b, const struct uuid *cluster_id);
/* Connected, and heard from within PEER_SILENT_NS: what the controller takes for alive. The broker itself: true. */
bool peer_is_up(const struct reactor *r, int32_t node);
/* Up, and no connection of its has just broken: what clients are shown. One that dies loses its connections one after the other, and its
 * partitions are in search of a leader from the first on. */
bool peer_is_well(const struct reactor *r, int32_t node);
/* When the reactor that has `group` at `node` was heard last, in this reactor's awake time: whatever its connection brings says that it
 * runs, and at least every PEER_BEAT_NS * 2 something does. False: never. */
bool peer_vouched(const struct reactor *r, int32_t node, uint64_t group, int64_t *awake_ns);
/* Since it was heard from. INT64_MAX: never; the broker itself: 0. */
int64_t peer_silence_ns(const struct reactor *r, int32_t node);
/* Since it came back after it had been lost. INT64_MAX: it never was; the broker itself, too. */
int64_t peer_back_ns(const struct reactor *r, int32_t node);
/* How its disk is, as it said with its newest ping (every 2 s). */
enum peer_disk peer_disk(const struct reactor *r, int32_t node);
/* How far its wall clock was ahead of this broker's when its newest ping came. False: it is not up, or has not said. */
bool peer_wall_ahead_ms(const struct reactor *r, int32_t node, int64_t *ms);
/* Of the newest hello. False: never connected. */
bool peer_incarnation(const struct reactor *r, int32_t node, struct uuid *out);
/* The incarnation of whoever answers at the address that `node` is known by, while that is connected; another broker that says
 * the same node.id from elsewhere does not show here, as it does above. Reactor 0's. */
bool peer_answers(const struct reactor *r, int32_t node, struct uuid *out);
/* Where other brokers reach this one, for its registration: peer.advertised, the own entry of controller.quorum.voters, or
 * where it listens. False: it has no peer listener. `host` lives as long as the broker. */
bool peer_advertised(const struct broker *b, const char **host, int32_t *port);

/* ---- replica messages and leader reports ----------------------------------------------------- */

/* Queues `m` for m->to.node. Takes over the references of `slices` in any case (dropped when sent or given up); their lengths
 * add up to the records of the append. False: not connected, connected to another incarnation, or the queue is full: as if it
 * was lost. */
bool peer_send(struct reactor *r, uint64_t group, const struct replica_message *m, struct slice *slices, uint32_t count);
/* Tells all connected brokers / one broker who leads `group`. What a full queue drops is asked for again (leaders_wanted). */
void peer_report_leader(struct reactor *r, uint64_t group, const struct leader_info *info);
void peer_report_leader_to(struct reactor *r, int32_t node, uint64_t group, const struct leader_info *info);

/* What the rest of the broker does with what arrives. NULL members: nothing. */
struct peer_hooks {
    /* On the reactor that owns `group`. `records` are good during the call. m->to is this node and incarnation, m->from was
     * checked against the connection. */
    void (*receive)(struct reactor *r, uint64_t group, const struct replica_message *m, struct bytes records);
    /* On every reactor, once for each change: a connection to or from `node` broke, was refused, or it is silent. */
    void (*lost)(struct reactor *r, int32_t node);
    /* On every reactor, once for each change: a connection to `node` works (again). */
    void (*found)(struct reactor *r, int32_t node);
    /* On the reactor that owns `group`. */
    void (*leader)(struct reactor *r, int32_t node, uint64_t group, const struct leader_info *info);
    /* On reactor 0: the broker at host:port, which says `theirs` of itself, refused a connection or was refused one, as often as it happens. */
    void (*refused)(struct reactor *r, const char *host, uint16_t port, enum peer_refusal why, const struct uuid *theirs);
    /* This reactor's connection to `node` is new (or its queue dropped reports): report all leaders to it. */
    void (*leaders_wanted)(struct reactor *r, int32_t node);
};
/* Before broker_start(); `hooks` outlives the broker. The broker's own: server/peer_hooks.c. */
void peer_set_hooks(struct broker *b, const struct peer_hooks *hooks);

/* ---- calls --------------------------------------------------------------------------------------- */

enum peer_call_kind {
    PEER_CALL_REGISTER = 1,              /* a broker says what its record should be */
    PEER_CALL_FORM,                      /* forming the quorum: docs/replication.md 9 */
    PEER_CALL_CLIENT_REQUEST,            /* a client's request for the controller, whole */
    PEER_CALL_IMAGE,                     /* free for the controller's own questions */
    PEER_CALL_PROBE,                     /* who are you: empty request, answered by peers themselves */
    PEER_CALL_REASSIGNED,                /* a leader: these partitions are where metadata wants them (proto/reassign.proto) */
    PEER_CALL_HAND_OVER,                 /* to a leader: hand these partitions over */
    PEER_CALL_RANGE,                     /* records that a replica cannot read any more (proto/range.proto) */
    PEER_CALL_PRODUCER_IDS,              /* the controller: a block of producer ids (proto/cluster.proto) */
    PEER_CALL_KINDS
};
#define PEER_CALL_BYTES_MAX 16777216     /* of a request, of an answer */

/* One question to one broker. Lives with its owner, unmoved, until `done` ran: from the loop, never from peer_call(). */
struct peer_call {
    struct reactor *caller;              /* whose thread calls, and gets `done` */
    int32_t node;                        /* < 0: whoever is at host:port, on a connection of its own */
    const char *host;                    /* borrowed until done */
    int32_t port;
    enum peer_call_kind kind;
    struct bytes request;                /* borrowed until done */
    int64_t timeout_ns;                  /* from now, connecting included; > 0 */
    void (*done)(struct peer_call *c);
    void *owner;
    /* when done */
    enum err err;                        /* OK; ERR_CLOSED: not connected, or broke meanwhile: it may have been done there or not; ERR_TIMEOUT: likewise;
                                            ERR_UNSUPPORTED: nobody serves that there; ERR_FULL: queue; ERR_TOO_LARGE; ERR_NOMEM */
    struct bytes answer;                 /* good during `done` */
    int32_t answered_by;                 /* node */
    struct uuid incarnation, cluster_id; /* its; cluster_id zero: none yet */
    /* private */
    struct list link;
    struct timer timer;
    struct peer_link *via;
    uint64_t id;
    bool queued;
};
void peer_call(struct peer_call *c);
/* Before the answer: `done` will not run. */
void peer_call_cancel(struct peer_call *c);

/* A call that arrived: on reactor 0. Ends with peer_answer_send(), at once or later, exactly once; what became of the connection
 * meanwhile does not matter. */
struct peer_answer {
    struct broker *broker;
    int32_t node;                        /* who asks */
    struct uuid incarnation, cluster_id;
    enum peer_call_kind kind;
    int64_t deadline_ns;                 /* when the caller gives up */
    void *owner;                         /* the server's */
};
typedef void peer_serve_fn(struct broker *b, struct peer_answer *a, struct bytes request); /* `request`: good during the call */
/* Before broker_start(). One server for each kind. */
void peer_serve(struct broker *b, enum peer_call_kind kind, peer_serve_fn *fn);
void peer_answer_send(struct peer_answer *a, struct bytes answer);

/* ---- life (server/broker.c, server/reactor.c) ------------------------------------------------------ */

MUST_CHECK enum err peers_open(struct broker *b);                 /* after the store is open; ERR_NOMEM */
/* Listens if the configuration says so and connects to the brokers that it names. ERR_BUSY: the port is taken. */
MUST_CHECK enum err peers_start(struct broker *b, char *why, size_t why_len);
void peers_stop(struct broker *b);                                /* nothing new is accepted or connected; calls end */
void peer_set_turn(struct reactor *r);                            /* once a turn, early: delivers what arrived */
bool peer_set_flush(struct reactor *r);                           /* at a turn's end: sends; true: deliver more soon */
void peer_set_shut(struct reactor *r);                            /* everything closes; empty some turns later */
bool peer_set_is_empty(const struct reactor *r);
void peer_set_free(struct reactor *r);
void peers_close(struct broker *b);
#endif
