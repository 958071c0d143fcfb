/* conn.h - one connection to one broker: connecting, ApiVersions, requests in order, frames.
 *
 *   IDLE -> CONNECTING -> ASKING_VERSIONS -> READY -> (failure) IDLE, with a pause before the next try
 *
 * Sockets do not block; everything happens in conn_ready() and conn_expire(), called by
 * client_turn(). Answers come in the order of the requests (the protocol promises it), so a wrong
 * correlation id closes the connection. When it closes, every request on it is done with an error;
 * a request with an error may or may not have reached the broker.
 *
 * A broker that hangs, or is cut off, closes nothing. A connection that is silent for a while makes the client ask the others
 * (metadata.h); when they say that the broker is down, it is closed long before its requests' deadlines. */
#ifndef CLIENT_CONN_H
#define CLIENT_CONN_H
#include <poll.h>
#include "base/list.h"
#include "client/client.h"

enum { CONN_API_KEYS = 128 };     /* of the client protocol; larger ones are not remembered */
#define CONN_SILENT_NS 1500000000 /* longer than a healthy broker takes for anything but a JoinGroup */
enum conn_state { CONN_IDLE, CONN_CONNECTING, CONN_ASKING_VERSIONS, CONN_READY };

/* `reply` and `body` on OK only. `body` stands behind the response header, its arena is the
 * reply's. The reply is freed afterwards, unless the callee moves it out and zeroes it. Must not
 * submit or turn. */
typedef void request_done_fn(void *owner, enum err err, struct client_reply *reply, struct wire_reader *body);

struct request {
    struct list link;
    int16_t api_key, version;
    int32_t correlation_id;
    bool unanswered;              /* done once it is written (Produce with acks 0) */
    int64_t deadline_ns;
    uint8_t *frame;               /* owned */
    size_t frame_bytes, sent_bytes;
    request_done_fn *done;
    void *owner;
};

struct conn {
    struct client *client;
    int32_t broker_id;            /* -1: a bootstrap address */
    bool dedicated;               /* one owner's: not for requests to any broker */
    char *host;
    int32_t port;
    enum conn_state state;
    bool wanted;                  /* somebody waits for it: try again at retry_at_ns */
    int fd;                       /* -1 when idle */
    struct addrinfo *addresses, *address; /* all, and the next to try; NULL: look the name up again */
    int64_t connect_deadline_ns, retry_at_ns;
    int32_t failures;             /* in a row */
    int16_t asking_version;       /* of ApiVersions */
    struct { int16_t min, max; } apis[CONN_API_KEYS]; /* max -1: not served */
    struct list unsent, unanswered; /* requests, oldest first */
    int32_t in_flight;            /* requests in both lists */
    int32_t next_correlation_id;
    int64_t heard_ns;             /* when bytes came, the first of the requests in flight was submitted, or connecting began */
    bool silent;                  /* nothing came for CONN_SILENT_NS although requests wait, or connecting took that long */
    bool gone;                    /* silent, and the other brokers say that it is down: to be closed */
    uint8_t head[4];              /* of the frame that is arriving */
    uint8_t *frame;
    size_t head_bytes, frame_bytes, frame_size;
    char why[160];                /* of the latest failure */
};

struct conn *conn_new(struct client *c, int32_t broker_id, struct str host, int32_t port); /* NULL: memory */
void conn_free(struct conn *conn);
/* Whether it is ready; otherwise begins to connect unless it is too early. */
bool conn_want(struct conn *conn, int64_t now_ns);
/* The newest version up to `version_max` that both sides know. ERR_UNSUPPORTED. */
MUST_CHECK enum err conn_version(const struct conn *conn, int16_t api_key, int16_t version_max, int16_t *out);

struct conn_message {
    int16_t api_key, version;
    bool unanswered;
    int64_t deadline_ns;
    const void *message;
    void (*encode)(const void *message, struct wire_writer *w, int16_t version);
    request_done_fn *done;
    void *owner;
};
/* Encodes and queues; `done` follows unless this fails (ERR_NOMEM, ERR_INVALID, ERR_TOO_LARGE). READY only. */
MUST_CHECK enum err conn_submit(struct conn *conn, const struct conn_message *m);

short conn_events(const struct conn *conn);         /* for poll(2); 0: nothing */
void conn_ready(struct conn *conn, short revents, int64_t now_ns);
int64_t conn_deadline(const struct conn *conn);     /* when conn_expire has something to do; INT64_MAX */
void conn_expire(struct conn *conn, int64_t now_ns);
/* Fails all requests with `err` and goes back to IDLE. */
void conn_close(struct conn *conn, int64_t now_ns, enum err err, const char *fmt, ...) PRINTF_LIKE(4, 5);
/* Another address; closes when it is different. ERR_NOMEM. */
MUST_CHECK enum err conn_move(struct conn *conn, struct str host, int32_t port, int64_t now_ns);
#endif
