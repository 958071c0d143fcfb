/* conn.h - connections: bytes in, requests out to handlers, responses back in order.
 *
 * Each connection belongs to one reactor for life. It reads with buffers that the io lends while
 * it waits, and into an exact buffer once a frame is known to be larger than what came. Limits,
 * deadlines and what closes a connection: server/README.md.
 *
 * Order: Produce requests are handed to their handler one after the other without waiting for
 * earlier ones to finish (their appends so keep the order of arrival); any other request waits
 * until all before it are finished, and those behind it wait for it, as in Kafka. Responses leave
 * in request order. A handler that puts its answer off though it has one (Metadata, for a leader that
 * is about to be) asks to be told when others wait behind it: request.hurry.
 *
 * Thread: the reactor's. */
#ifndef SERVER_CONN_H
#define SERVER_CONN_H
#include "server/broker.h"
#include "server/request.h"

/* A listening socket. The address that clients are told depends on the listener they came through. */
struct listener {
    int fd;
    const struct config_listener *config;
    struct sockaddr_storage addr;      /* bound; the port is real */
    bool wildcard;
};

/* What reactor 0 keeps count of (max.connections, max.connections.per.ip) and gets back when the
 * connection is closed. Owned by the connection meanwhile. */
struct conn_ticket {
    struct mail mail;                  /* to the connection's reactor, later back to reactor 0 */
    struct list link;
    struct timer refused;              /* the acceptor's */
    struct reactor *home;              /* the connection's */
    struct acceptor *acceptor;
    const struct listener *listener;
    struct sockaddr_storage peer;
    int fd;
};

struct conn_set;
MUST_CHECK struct conn_set *conn_set_new(struct reactor *r);   /* NULL: no memory */
/* Starts a connection on ticket->fd; takes over the ticket and the socket. */
void conn_start(struct conn_set *set, struct conn_ticket *ticket);
/* Called with the ticket when its connection is gone and its socket closed. */
void conn_set_on_closed(struct conn_set *set, void (*closed)(struct conn_ticket *ticket));
/* No new requests; connections close as soon as they owe no response (a waiting Fetch is dropped). */
void conn_set_drain(struct conn_set *set);
/* Closes all at once. The set is empty some turns later. */
void conn_set_shut(struct conn_set *set);
/* Once a turn: hands out, sends and frees what became possible. True: call again without waiting. */
bool conn_set_turn(struct conn_set *set);
size_t conn_set_count(const struct conn_set *set);             /* connections */
size_t conn_set_requests(const struct conn_set *set);          /* not finished, orphans included */
/* Nothing may be left in it but orphaned requests whose handlers are gone: those are freed. */
void conn_set_free(struct conn_set *set);

/* Counters, for tests and later for metrics. */
struct conn_stats {
    uint64_t accepted, closed, requests, trailing_bytes, refused_frames, refused_requests;
    uint64_t closed_idle, closed_slow;
};
const struct conn_stats *conn_set_stats(const struct conn_set *set);

/* The address that this request's client is told for this broker: advertised.listeners, or the
 * listen address, or, when that is a wildcard, the address that the client connected to. The text
 * lives as long as the request. A request without a connection gets the first listener's. */
void request_advertised(struct request *rq, struct str *host, int32_t *port);
/* "127.0.0.1" of the client; empty when the connection is gone. Lives as long as the request. */
struct str request_peer_host(struct request *rq);
#endif
