/* peer_impl.h - inside the connections between brokers. Private to peer*.c.
 *
 *   struct peers        one for each broker: which nodes there are, the listener, who serves calls
 *   struct peer_node    another broker, as all reactors see it: address, alive or not
 *   struct peer_set     one for each reactor: its links, the connections that were dealt to it, what waits for delivery
 *   struct peer_link    an outgoing connection: to a node, or to an address for calls
 *   struct peer_conn    an incoming one
 *   struct peer_stream  the bytes of either: frames in, frames out
 *
 * Reactors share struct peers: its atomics, and what `lock` guards. Whoever changes something there that reactors must act
 * on counts `changes` up and wakes them; each looks in its next turn (peer_nodes_sync()). */
#ifndef SERVER_PEER_IMPL_H
#define SERVER_PEER_IMPL_H
#include <pthread.h>
#include <stdatomic.h>
#include "server/address.h"
#include "server/address_counts.h"
#include "server/peer.h"
#include "server/peer_wire.h"
#include "server/reactor.h"

#define PEER_QUEUE_BYTES 8388608u           /* of one stream, not sent: beyond it records are dropped, */
#define PEER_QUEUE_SMALL_BYTES 12582912u    /* then other replica messages, */
#define PEER_QUEUE_REPORTS_BYTES 33554432u  /* then leader reports, which are asked for again; */
#define PEER_QUEUE_CALLS_BYTES 67108864u    /* then calls; answers: the connection is given up */
#define PEER_PIECE_BYTES 262144u            /* of a call */
#define PEER_RECV_BYTES 262144u             /* at once, once the size of a frame is known */
#define PEER_UNDELIVERED_BYTES 4194304u     /* frames of one stream that wait for other reactors: then it is not read */
#define PEER_DELIVER_NS 300000              /* of a turn */
#define PEER_WALL_UNKNOWN INT64_MIN
#define PEER_GREET_NS 2000000000            /* connecting and saying hello */
#define PEER_BACKOFF_MIN_NS 10000000
#define PEER_BACKOFF_MAX_NS 500000000
#define PEER_STEADY_NS 1000000000           /* a connection that held for so long begins the backoff anew */
#define PEER_WATCH_NS 250000000             /* how often reactor 0 looks who is silent */
#define PEER_QUIET_NS 400000000             /* it pings who was not heard for so long */
#define PEER_PING_NS 2000000000             /* each link is pinged so often in any case */
#define PEER_PONG_NS 6000000000             /* a ping without an answer: this connection is dead though others live */
#define PEER_VISIT_NS 10000000000           /* a connection to an address is kept so long without a call */
#define PEER_CONNS_MAX 4096                 /* incoming, all reactors, */
#define PEER_CONNS_FROM_MAX 512             /* of one address: eight brokers with 64 reactors each may live there */
#define PEER_STRANGERS_MAX 16               /* nodes that connect and of which neither configuration nor metadata knows an address */
#define PEER_GREETING_MAX 64                /* of them without a hello, */
#define PEER_GREETING_FROM_MAX 32           /* of one address: whoever says nothing there leaves room for others */
#define PEER_ACCEPTS 2
#define PEER_REACTORS_MAX 64                /* of one broker that can be vouched for */
#define PEER_CALLS_MAX 256                  /* of one connection that are not answered, */
#define PEER_CALLS_BYTES 67108864u          /* and their requests */

/* ---- frames -------------------------------------------------------------------------------------- */

struct peer_stream;
struct peer_frame;

/* One that arrives, or waits until the reactors that own its groups are through with it. Lives on its stream's reactor; parts and
 * bytes are read by the others meanwhile. */
struct peer_frame {
    struct list link;                    /* in stream->frames, from complete on; orphans: set->orphans */
    struct peer_stream *stream;          /* NULL: gone */
    uint8_t head[PEER_HEAD_BYTES];
    struct peer_head sizes;
    uint32_t filled;                     /* of bytes */
    uint32_t deliveries;                 /* not back yet */
    struct arena arena;                  /* parts, deliveries */
    struct peer_part *parts;
    uint32_t part_count;
    uint8_t bytes[];                     /* header, body */
};

/* The parts of a frame that belong to one reactor. */
struct peer_delivery {
    struct mail mail;                    /* there and back */
    struct list link;                    /* in its set's inbox */
    struct peer_set *home, *target;
    struct peer_frame *frame;
    uint32_t *parts;
    uint32_t count, next;
    int32_t node;
    struct uuid incarnation;
};

/* One that is to be sent. */
struct peer_out {
    struct list link;
    uint8_t head[PEER_HEAD_BYTES];
    struct peer_header header;
    struct slice *slices;                /* references */
    uint32_t slice_count, slice_cap, body_bytes;
};

/* ---- streams (peer_stream.c) ------------------------------------------------------------------------ */

struct peer_stream_type {
    /* A complete frame whose checksum is right; taken over. May close the stream. */
    void (*frame)(struct peer_stream *s, struct peer_frame *f);
    /* It begins to close: nothing more will come. `why` NULL: wanted. `broken`: by the other side, or the network. */
    void (*closing)(struct peer_stream *s, const char *why, bool broken);
    /* No operation is in flight, the socket is closed. From the loop. */
    void (*ended)(struct peer_stream *s);
    /* What was queued last was sent. */
    void (*drained)(struct peer_stream *s);
};

struct peer_stream {
    const struct peer_stream_type *type;
    struct peer_set *set;
    struct list work;                    /* in set->work */
    int fd;                              /* -1: none */
    bool closing, receiving, sending, paused;
    bool spoke;                          /* something was queued since the last beat */
    /* in */
    struct io_op recv_op;
    uint8_t head[PEER_HEAD_BYTES];
    uint32_t head_len, header_max, body_max;
    struct peer_frame *frame;            /* being received */
    struct list frames;                  /* being delivered */
    uint32_t undelivered;
    /* out */
    struct io_op send_op;
    struct list out;                     /* complete; the first `in_flight` of them are being sent */
    struct peer_out *open;               /* NULL: none begun */
    uint32_t in_flight;
    uint64_t queued;                     /* bytes of all */
    struct iovec iov[IO_IOV_MAX];
};

/* `fd` is connected and becomes its. Bounds are those of a hello. */
void peer_stream_begin(struct peer_stream *s, struct peer_set *set, const struct peer_stream_type *type, int fd);
void peer_stream_greeted(struct peer_stream *s);   /* frames of full size from now on */
void peer_stream_read(struct peer_stream *s);
/* Queues a part with its body; takes over the slices in any case. False: more than `limit` bytes are queued, no memory, closing. */
bool peer_stream_put(struct peer_stream *s, const struct peer_part *p, struct slice *slices, uint32_t count, uint64_t limit);
bool peer_stream_put_hello(struct peer_stream *s, const struct peer_hello *hello);
void peer_stream_flush(struct peer_stream *s);
bool peer_stream_is_drained(const struct peer_stream *s);
void peer_stream_close(struct peer_stream *s, const char *why, bool broken);
/* Gives the socket away; nothing is in flight. */
int peer_stream_release(struct peer_stream *s);
void peer_stream_mark(struct peer_stream *s);      /* visited at the end of this turn, or of the next */
void peer_stream_visit(struct peer_stream *s);
void peer_stream_undelivered(struct peer_stream *s, const struct peer_frame *f, bool back);
void peer_frame_free(struct peer_frame *f);
static inline uint8_t *peer_frame_body(struct peer_frame *f) { return f->bytes + f->sizes.header_bytes; }

/* ---- nodes (peer_node.c) ----------------------------------------------------------------------------- */

enum peer_node_state { PEER_NODE_UNKNOWN, PEER_NODE_UP, PEER_NODE_LOST };
struct peer_node {
    _Atomic int32_t node;                /* another one, when a stranger's slot is given away (reactor 0) */
    bool has_address;                    /* or had one: it is nobody else's any more. Reactor 0's */
    _Atomic uint32_t conns;              /* incoming, from their hello on */
    _Atomic uint64_t state;              /* enum peer_node_state | changes << 2 */
    _Atomic int64_t heard_ns;            /* anything, on any connection */
    atomic_bool was_up;                  /* before it was lost: at a start nobody is reached at first */
    _Atomic int64_t back_ns;             /* a link worked again after that; 0: never */
    _Atomic uint32_t links;              /* outgoing connections that work */
    _Atomic uint32_t reactors;           /* it has, as its newest hello says; 0: not known, or too many */
    _Atomic int64_t beats[PEER_REACTORS_MAX]; /* when something came from each of them */
    _Atomic uint32_t silences, arrivals; /* counted up: it went silent; it connected */
    atomic_int disk;                     /* enum peer_disk, as its newest ping says */
    _Atomic int64_t wall_ahead_ms;       /* of this broker's clock, when that came; PEER_WALL_UNKNOWN: it never said */
    /* under peers.lock */
    char host[PEER_HOST_BYTES];
    uint16_t port;                       /* 0: no address */
    char told_host[PEER_HOST_BYTES];     /* by itself, with its newest hello */
    uint16_t told_port;                  /* 0: not */
    bool has_incarnation;
    struct uuid incarnation;
    uint64_t process;                    /* peer_hello.process; 0: not known */
};

/* A refusal that was written about. */
struct peer_said { uint64_t hash; int64_t at_ns; };
enum { PEER_SAID_MAX = 16 };

struct peer_accept { struct io_op op; struct timer retry; struct peers *peers; bool in_flight; };

struct peers {
    struct broker *broker;
    struct peer_set *sets;               /* of the reactors */
    const struct peer_hooks *hooks;
    peer_serve_fn *serve[PEER_CALL_KINDS];
    int32_t node;
    struct uuid incarnation;
    uint64_t process;
    uint32_t body_max;
    pthread_mutex_t lock;
    struct uuid cluster_id;              /* under lock; zero: none yet */
    struct peer_said said[PEER_SAID_MAX]; /* under lock */
    char own_host[PEER_HOST_BYTES];      /* under lock: where this broker says that it listens; empty: nowhere */
    uint16_t own_port;
    struct address_counts from;          /* under lock: incoming connections */
    struct list incoming;                /* under lock: calls that are not answered */
    struct list leftovers;               /* under lock: frames whose reactor has ended */
    _Atomic uint64_t changes;
    _Atomic uint32_t node_count;         /* grows only */
    struct peer_node nodes[PEER_NODES_MAX];
    atomic_bool stopping;
    _Atomic uint32_t conn_count;
    /* reactor 0's */
    struct timer watch;
    int64_t watch_ns;
    int listen_fd;                       /* -1: none */
    struct sockaddr_storage listen_addr;
    char listen_host[INET6_ADDRSTRLEN];
    struct peer_accept accepts[PEER_ACCEPTS];
    struct list greeting;                /* struct peer_conn */
    uint32_t greeting_count;
    struct address_counts greeting_from;
};

struct peer_set {
    struct peers *peers;
    struct reactor *reactor;
    uint64_t seen;                       /* of peers.changes */
    struct peer_link *links[PEER_NODES_MAX]; /* as nodes; NULL: none yet */
    uint64_t node_seen[PEER_NODES_MAX];
    uint32_t silence_seen[PEER_NODES_MAX], arrival_seen[PEER_NODES_MAX];
    struct list visits;                  /* struct peer_link to addresses */
    struct list conns;
    struct list work;                    /* streams with something to send, or that end */
    struct list inbox;                   /* struct peer_delivery */
    struct list orphans;                 /* frames of streams that are gone */
    struct list done_calls;              /* struct peer_call whose `done` is due */
    struct timer round;                  /* pings */
    struct timer beat;
    uint64_t next_call, next_conn;
    bool shut;
};

/* Slot of `node`. -1: none. */
int32_t peer_node_slot(const struct peers *p, int32_t node);
/* Made when it is new; reactor 0's. A stranger without a connection leaves its slot to the next one. -1: no room. */
int32_t peer_node_make(struct peers *p, int32_t node, bool has_address);
void peer_node_change(struct peers *p, struct peer_node *n, enum peer_node_state to);
void peer_node_heard(struct peers *p, int32_t slot, struct io *io);
void peer_node_disk(struct peers *p, int32_t slot, enum peer_disk disk);
void peer_node_wall(struct peers *p, int32_t slot, int64_t wall_ms, int64_t now_ms);
void peer_node_arrived(struct peers *p, int32_t slot, const struct peer_hello *hello);
void peer_nodes_sync(struct peer_set *set);
void peer_nodes_changed(struct peers *p);    /* reactors look */
void peer_watch_begin(struct peers *p);
/* What this broker says of itself. */
void peer_hello_fill(struct peers *p, struct peer_hello *h, int32_t wanted, uint32_t reactor);
/* Whether the sender of `h` is not spoken to, and why, in a sentence too. `wanted` < 0: whoever. Sets the version. */
enum peer_refusal peer_hello_refused(struct peers *p, struct peer_hello *h, int32_t wanted, char *why, size_t why_len);
/* A line about a refusal, unless the same one was written in the last 15 seconds: whoever is refused tries again and again.
 * `where`, put in front, is not compared: a port, which is another one each time. */
void peer_say_refused(struct peers *p, enum peer_refusal refusal, int64_t now_ns, const char *where, const char *text);

/* ---- incoming (peer_accept.c, peer_conn.c) -------------------------------------------------------------- */

struct peer_assembly {                   /* of the pieces of a request or an answer */
    bool busy;
    uint64_t id, timeout_ms;
    uint32_t kind, total, filled;
    enum err error;
    uint8_t *bytes;
};

struct peer_conn {
    struct mail mail;                    /* to its reactor */
    struct list link;                    /* in peers.greeting, later set.conns */
    struct peer_stream stream;
    struct peers *peers;
    struct peer_hello hello;
    struct sockaddr_storage addr;
    char from[ADDRESS_TEXT_BYTES];       /* the same as text */
    int32_t slot;                        /* -1: no hello yet */
    uint64_t id;                         /* among its set's */
    struct timer timer;                  /* the hello is due */
    bool moving, refused;                /* when what is queued was sent: to its reactor, or closed */
    struct peer_assembly call;
    uint32_t calls;                      /* not answered */
    uint64_t calls_bytes;                /* of their requests */
};

enum err peer_listen(struct peers *p, char *why, size_t why_len);
void peer_listen_stop(struct peers *p);
void peer_conn_start(struct peer_conn *c, struct peer_set *set); /* greeted, on its reactor */
void peer_conn_free(struct peer_conn *c);
/* Parts for the owners of groups; takes over the frame. */
void peer_deliver(struct peer_set *set, struct peer_frame *f, int32_t node, const struct uuid *incarnation);
bool peer_inbox_run(struct peer_set *set);   /* true: there is more */

/* ---- outgoing (peer_link.c) -------------------------------------------------------------------------------- */

enum peer_link_state {
    PEER_LINK_OFF, PEER_LINK_WAITING, PEER_LINK_RESOLVING, PEER_LINK_CONNECTING, PEER_LINK_GREETING, PEER_LINK_UP, PEER_LINK_ENDING
};
struct peer_link {
    struct peer_set *set;
    struct list link;                    /* visits: in set.visits */
    int32_t slot;                        /* -1: to an address */
    char host[PEER_HOST_BYTES];
    uint16_t port;
    enum peer_link_state state;
    bool off;                            /* no new attempt */
    struct timer timer;                  /* backoff, or connecting takes too long */
    int64_t backoff_ns, up_ns;
    struct io_op op;                     /* resolve, connect */
    bool busy;                           /* op is in flight */
    int fd;                              /* while connecting */
    struct sockaddr_storage addr;
    struct peer_stream stream;
    struct peer_hello hello;
    bool reports_lost;                   /* the queue was full: everything is reported again */
    uint64_t ping;                       /* the newest */
    int64_t ping_ns, pong_ns;            /* sent; answered */
    bool ping_waits;
    struct list waiting, calls;          /* until it is up; for their answers */
    struct peer_assembly answer;
    int64_t used_ns;                     /* visits */
};
struct peer_link *peer_link_new(struct peer_set *set, int32_t slot);
void peer_link_address(struct peer_link *l, const char *host, uint16_t port); /* of its node, now; port 0: off */
void peer_link_begin(struct peer_link *l);   /* the first attempt of one to an address */
void peer_link_kick(struct peer_link *l);    /* it seems to be there: do not wait */
void peer_link_close(struct peer_link *l, const char *why, bool broken);
void peer_link_round(struct peer_link *l, int64_t now_ns);
void peer_link_beat(struct peer_link *l);    /* says that this reactor runs, unless something else just did */
void peer_link_report(struct peer_link *l, uint64_t group, const struct leader_info *info);
bool peer_link_is_idle(const struct peer_link *l);
void peer_link_free(struct peer_link *l);
static inline bool peer_link_is_up(const struct peer_link *l) { return l && l->state == PEER_LINK_UP; }

/* ---- calls (peer_call.c) --------------------------------------------------------------------------------------- */

void peer_calls_begin(struct peer_link *l);  /* up: those that wait are sent */
void peer_calls_fail(struct peer_link *l, enum err err);
bool peer_call_answered(struct peer_link *l, const struct peer_part *p, const uint8_t *body);  /* false: nonsense */
bool peer_call_arrived(struct peer_conn *c, const struct peer_part *p, const uint8_t *body);   /* false: nonsense */
void peer_calls_run(struct peer_set *set);
void peer_incoming_free_all(struct peers *p);
#endif
