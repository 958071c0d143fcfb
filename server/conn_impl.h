/* conn_impl.h - inside a connection. Private to conn*.c and request.c.
 *
 * The bytes of a frame pass through:
 *   head     size field, gathered byte by byte if need be
 *   frame    an exact buffer, once its size is known, allowed and within the reactor's budget
 *   backlog  what a lent buffer held beyond a frame that cannot be handed out yet
 * While `frame` is complete and cannot be handed out, or waits for budget, nothing is received:
 * that is the back-pressure.
 *
 * A connection ends in two steps: conn_close() stops everything, and the turn's end frees it as soon as
 * no operation is in flight. Until then pointers to it stay good. */
#ifndef SERVER_CONN_IMPL_H
#define SERVER_CONN_IMPL_H
#include "server/conn.h"
#include "server/quotas.h"

#define CONN_CHUNK_BYTES 1048576u       /* a receive or send of this much has one deadline */
#define CONN_GATHER_BYTES 262144u       /* small responses are gathered up to here */
#define CONN_VISIT_REQUESTS 64          /* of one connection that are begun in a row */
#define CONN_VISIT_NS 500000
#define CONN_FRAME_BYTES_MIN 8          /* key, version, correlation id */
#define CONN_SWEEP_MS_MAX 500           /* how late a deadline may be noticed */
#define CONN_SHORT_DIVISOR 10           /* of receive.timeout.ms and send.timeout.ms, while memory is short */
#define RESPONSE_BATCH_BYTES 1048576      /* what a Fetch that wants much takes at least */
#define RESPONSE_SMALL_BYTES 16384
#define RESPONSE_LANE 8                 /* this part of the room for answers is for small Fetches: the others stop before it */
#define CONN_STALLED_NS 300000000       /* without room for answers: who has taken nothing for so long may be closed */
#define CONN_SHED_NS 50000000           /* how often it is looked for them */
#define CONN_RESPONSE_BYTES_MAX 268435456u
#define CONN_LOST_SHOWN_MAX 4

struct conn {
    struct list link;                   /* in set->conns */
    struct list dirty;                  /* in set->dirty: something to do at the turn's end */
    struct list starved;                /* in set->starved: waits for the reactor's budget */
    struct conn_set *set;
    struct conn_ticket *ticket;
    int fd;
    bool closing, recv_ended;
    char peer[INET6_ADDRSTRLEN];
    /* reading */
    struct io_op recv_op;
    bool receiving;
    int64_t recv_deadline_ns;           /* INT64_MAX: none */
    uint8_t head[4];
    uint32_t head_len;
    struct buf *frame;                  /* NULL until the size is known and admitted */
    uint32_t frame_len, frame_filled;
    uint8_t *backlog;
    uint32_t backlog_off, backlog_len;
    int64_t active_ns;
    /* what Metadata has told here of brokers that were lost (api_metadata.c): when last, and which it showed all the same in its last answer */
    int64_t lost_told_ns;
    int32_t lost_shown[CONN_LOST_SHOWN_MAX];
    uint32_t lost_shown_count;
    /* quotas */
    struct client_quotas quotas;
    bool muted;                         /* nothing is read until `unmute` fires (KIP-219) */
    struct timer unmute;
    /* requests, in order of arrival */
    struct list requests;
    uint32_t request_count;             /* in the list */
    uint32_t unfinished, unfinished_others; /* of them without a reply yet; those that are not Produce */
    int64_t held_bytes;                 /* frames in the list and responses not sent */
    /* sending */
    struct io_op send_op;
    bool sending;
    int64_t send_deadline_ns, send_begun_ns;
    struct iovec *iov;
    uint32_t iov_cap, iov_count, iov_pos, iov_window;
    struct iovec iov_rest;              /* of the window's last element when that was cut */
    size_t window_bytes;
    uint32_t batch;                     /* requests at the front of the list that the iov covers */
};

struct conn_set {
    struct reactor *reactor;
    struct list conns, dirty, starved;
    struct list orphans;                /* unfinished requests of connections that are gone */
    size_t conn_count, request_count;
    int64_t budget_bytes, used_bytes;   /* of this reactor: frames, backlogs, decoded forms */
    int64_t response_budget_bytes, reserved_bytes; /* of this reactor: request_reserve(), and answers that wait without it */
    int64_t small_bytes;                /* of reserved_bytes, beyond the budget, for those who want little */
    int64_t short_ns;                   /* when that last had nothing left */
    int64_t backlog_bytes;              /* of used_bytes' kind, but nobody waits for them to go */
    int64_t shed_ns;                    /* when conns were last looked through for those to close */
    bool draining;
    struct timer sweep;
    int64_t sweep_ns;
    struct conn_stats stats;
    void (*closed)(struct conn_ticket *ticket);
};

void conn_mark_dirty(struct conn *c);
void conn_close(struct conn *c, const char *why);   /* why: NULL says nothing */
/* Nothing more is read until `until_ns`. */
void conn_mute(struct conn *c, int64_t until_ns);
/* Hands out what is there and receives more, as far as limits allow. */
void conn_read(struct conn *c);
void conn_recv_done(struct io_op *op);
/* Whether the reactor's budgets have room: for a frame of `size` bytes; for the answer to one that is complete. */
bool conn_frame_fits(const struct conn_set *set, int64_t size);
bool conn_answers_fit(const struct conn_set *set);
/* Sends what is ready, in order. */
void conn_write(struct conn *c);
void conn_send_done(struct io_op *op);

/* A frame becomes a request and goes to its handler. Takes over the frame; false: the connection was closed. */
bool request_start(struct conn *c, struct buf *frame, uint32_t len);
/* The same for one that another broker has forwarded. Takes over frame and origin. */
void request_start_remote(struct reactor *r, struct buf *frame, uint32_t len, struct request_origin *origin);
void request_free(struct request *rq);
/* Its answer is complete: all else that it holds goes. From the loop only, handlers are through with it. */
void request_slim(struct request *rq);
static inline bool request_is_produce(const struct request *rq) { return rq->header.api_key == 0; }
#endif
