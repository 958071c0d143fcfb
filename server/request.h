/* request.h - one request on its way through the broker, and what a handler may do with it.
 *
 * A connection reads a frame into a buf, makes a request, decodes the header and calls the
 * handler of the API (server/apis.c). The handler decodes the body (views into the frame, arrays in
 * the arena), works, encodes the response body with request_reply_begin() + k_..._encode() and ends
 * with request_reply(). It may do so later: the request and all it points to live until then.
 * Responses leave in request order whatever order handlers finish in. If the connection dies
 * meanwhile, the request lives on until the handler replies; the reply goes nowhere.
 *
 * Thread: the connection's reactor. Work on partitions of other reactors goes by mail
 * (server/partition.h); only the frame's bytes may be read there, as a loan, until the answer. */
#ifndef SERVER_REQUEST_H
#define SERVER_REQUEST_H
#include "base/arena.h"
#include "base/buf.h"
#include "base/list.h"
#include "proto/kafka_api.h"

struct broker;
struct reactor;
struct conn;
struct request;

/* Where a request without a connection comes from: another broker (server/forward.h). Allocated with malloc(); the request owns it. */
struct request_origin {
    const char *listener, *peer, *principal; /* the listener that the client used there, its address, who it is */
    void (*answered)(struct request *rq);    /* the reply is complete; the request goes when this returns */
};

struct request {
    struct list link;                    /* in the connection's order */
    struct conn *conn;                   /* NULL once the connection is gone */
    struct request_origin *origin;       /* owned; NULL: it came over a connection of this broker's */
    struct reactor *reactor;
    struct buf *frame;                   /* owned; header and body without the size field */
    struct kafka_request_header header;
    struct wire_reader body;             /* positioned at the body; arena is &arena */
    struct arena arena;                  /* bound: request.arena.max.bytes */
    struct wire_writer out;              /* response frame: size field, header, body */
    struct slice *lent;                  /* slices that `out` references; released after the send */
    uint32_t lent_count, lent_cap;
    int64_t received_ns;
    int32_t throttle_ms;                 /* how long its client is to stay away: server/quotas.h */
    size_t body_at;                      /* where the answer's body begins in `out` */
    bool done;                           /* reply finished, waits for its turn */
    bool no_reply;                       /* acks=0 */
    bool close_after;                    /* close the connection once this reply is out */
    int64_t reserved_bytes;              /* of the reactor's budget for responses, until it is freed */
    int64_t small_bytes;                 /* of them, what was given although the budget was used up */
    int64_t used_bytes;                  /* of its budget for requests: the frame and the decoded form */
    int64_t held_bytes;                  /* what it counts for in its connection */
    bool arena_away;                     /* another reactor fills the arena: it is counted when it is back */
    void (*hurry)(struct request *rq);   /* set by a handler that puts its answer off and need not; called once, when others wait behind it */
    void *state;                         /* the handler's, for asynchronous work; in the arena or freed by the handler */
};

/* Writes the size placeholder and response header into rq->out; then encode the body into rq->out. */
struct wire_writer *request_reply_begin(struct request *rq);
/* The response is complete. An encoding error closes the connection (and is traced: it is a bug). */
void request_reply(struct request *rq);
/* No response will ever come (Produce with acks=0); the request is finished. */
void request_finish_silently(struct request *rq);
/* What arrived cannot be answered (does not parse, unsupported version): trace `why`, close. */
void request_close(struct request *rq, const char *why);
/* rq->out refers to bytes of `s`: keeps a reference until the response was sent. Takes over the
 * caller's reference. ERR_NOMEM: reference dropped. */
MUST_CHECK enum err request_lend(struct request *rq, struct slice s);

/* The name of the listener that the client came through. */
const char *request_listener(const struct request *rq);
/* The client's address as text, without the port; "": the connection is gone. */
const char *request_peer(const struct request *rq);

/* A large response takes memory that its client may be slow to fetch: how many of the `wanted` bytes it may hold
 * now. Less when many are waiting to be sent; 0: try again later. The share goes back when the response is gone. */
uint32_t request_reserve(struct request *rq, uint64_t wanted);

/* Writes throttle_ms into the finished answer, if that begins with it. request_reply() does so; again when it has changed. */
void request_show_pause(struct request *rq);

/* What is about to be put into the arena takes up to `bytes`: counted from now on, and the arena's bound is raised to it. It is away
 * until its owner sends it home; then it counts for what it is. Nothing is refused to a request that is alone; false: others have the memory
 * now, the client is to try again. */
MUST_CHECK bool request_widen(struct request *rq, size_t bytes);

/* Counts what the decoded form takes by now. Called after the handler, and by who makes much of it later. */
void request_charge(struct request *rq);

typedef void api_handler(struct request *rq);
/* What is served: one row for each API in server/apis.c, the single list that ApiVersions shows,
 * dispatch uses and docs/protocol.md is checked against. */
struct api {
    int16_t key, min_version, max_version;   /* served */
    int16_t advertised_min;                  /* Produce: 0 (older librdkafka decides compression by it) */
    api_handler *handle;
    bool for_controller;                     /* handled by the controller: forwarded to it from other brokers */
};
const struct api *api_find(int16_t key);     /* NULL: not served */
const struct api *api_table(size_t *count);
#endif
