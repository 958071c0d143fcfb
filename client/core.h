/* core.h - what the parts of libvarve share: the client itself, its clock and its loop. */
#ifndef CLIENT_CORE_H
#define CLIENT_CORE_H
#include "client/conn.h"
#include "client/metadata.h"

/* Work that goes on in every client_turn(). `pump` submits what is due and returns when it wants to be called
 * again (INT64_MAX: when something happens); it must not turn. */
struct client_task {
    struct list link;
    int64_t (*pump)(struct client_task *task, int64_t now_ns);
};

struct client {
    struct client_config config;  /* its strings are ours */
    struct conn **conns;          /* bootstrap addresses first, then brokers as they become known */
    int32_t conn_count;
    int32_t any_next;             /* where client_any() looks next */
    uint32_t turns;               /* ever; wraps */
    struct list tasks;
    struct metadata metadata;
    char error[512];
    int16_t error_code;
    uint64_t random;              /* xorshift state: back-off jitter, sticky partitions */
};

int64_t client_now_ns(void);      /* monotonic */
int64_t client_wall_ms(void);
int64_t client_deadline(int32_t timeout_ms); /* from now; a negative timeout never ends */
uint64_t client_random(struct client *c);
/* `attempt` 0, 1, ...: doubling, with jitter, up to the limit. */
int64_t client_backoff_ns(struct client *c, int32_t attempt);

/* Records why and returns `err`. */
enum err client_fail(struct client *c, enum err err, int16_t code, const char *fmt, ...) PRINTF_LIKE(4, 5);
/* For an answer's code: "WHAT: NAME" or "WHAT: NAME: MESSAGE". */
enum err client_fail_code(struct client *c, int16_t code, struct str message, const char *fmt, ...) PRINTF_LIKE(4, 5);

/* Moves data on all connections, refreshes metadata when asked for, runs what is done. Waits until
 * something happened or the deadline (0: does not wait). */
void client_turn(struct client *c, int64_t deadline_ns);
/* A ready connection, or NULL after beginning to make one: turn and ask again. */
struct conn *client_any(struct client *c, int64_t now_ns);
struct conn *client_broker_conn(struct client *c, int32_t broker_id); /* ready or not; NULL: unknown broker */
/* Brokers of a Metadata response. ERR_NOMEM. */
MUST_CHECK enum err client_know_broker(struct client *c, int32_t id, struct str host, int32_t port, int64_t now_ns);
/* A connection for one purpose, to be handed back with client_remove_conn(), which fails its requests. NULL: memory. */
struct conn *client_add_conn(struct client *c, struct str host, int32_t port);
void client_remove_conn(struct client *c, struct conn *conn);
/* client_call() for requests that may be repeated: again, after a pause, while connections fail. */
MUST_CHECK enum err client_ask(struct client *c, const struct client_exchange *x, int64_t deadline_ns,
                               struct client_reply *reply);
/* Turns for one back-off. False: the deadline has passed. */
bool client_pause(struct client *c, int32_t attempt, int64_t deadline_ns);
/* Why nothing can be reached, for people. */
const char *client_unreachable(const struct client *c);
#endif
