/* consumer_impl.h - the consumer's state, shared by consumer.c (records out) and fetch.c (requests).
 *
 * Data of one partition in one response is a chunk. At most one request is on its way to each
 * broker, and it is sent when no chunk of that broker's partitions waits in line: so the next
 * response travels while the latest chunk is being read, and never more than that piles up. */
#ifndef CLIENT_CONSUMER_IMPL_H
#define CLIENT_CONSUMER_IMPL_H
#include "base/list.h"
#include "client/core.h"

struct assigned {
    struct list link;             /* in consumer.assigned; the order of fetching, rotated */
    struct topic_meta *topic;     /* the client's */
    int32_t partition;
    int64_t fetch_offset;         /* where the next request begins; negative: OFFSET_EARLIEST or _LATEST, to be found out */
    int64_t position;             /* the next to hand out */
    int32_t position_epoch;       /* leader epoch of the record before; -1 */
    int64_t committed;            /* groups: the offset that the coordinator has; -1 */
    int64_t end_offset;           /* as last told; -1 */
    int64_t end_reported;         /* position of the latest CONSUMER_END; -1 */
    int32_t max_bytes;            /* grows when a batch does not fit */
    bool in_flight;               /* part of a request that is on its way */
    bool blocked;                 /* what follows cannot be read: fetch no further */
    int32_t chunks;               /* in line or being read */
    /* trouble */
    int64_t failing_since_ns;     /* 0: all is well */
    int64_t retry_at_ns;
    int32_t failures;
    bool worked;                  /* the broker has answered well once */
    bool given_up;
    enum err err;
    int16_t code;
    char message[256];
};

struct fetched { int32_t refs; struct client_reply reply; }; /* a response, shared by its chunks */
struct aborted { int64_t producer_id, first_offset; bool over; };
struct chunk {
    struct list link;
    struct assigned *a;
    struct fetched *fetched;
    const uint8_t *p, *end;       /* batches not read yet */
    struct aborted *aborted;      /* owned; transactions to skip, read_committed only */
    int32_t aborted_count;
};

struct fetch {                    /* a request on its way */
    struct list link;
    struct consumer *consumer;
    int32_t broker_id;
    struct assigned **partitions; /* owned; NULL where it was unassigned meanwhile */
    int32_t count;
};

struct consumer {
    struct client *client;
    struct consumer_config config;
    struct list assigned, fetches;
    struct list chunks;           /* in line */
    struct chunk *chunk;          /* being read, or NULL */
    struct record_iter iter;      /* of its current batch */
    bool in_batch;
    const bool *interrupt;        /* groups: consumer_poll() returns when it becomes true; NULL: none */
    struct assigned *gone;        /* of the latest CONSUMER_ERROR: lives until the next call */
    struct consumer_event event;
};

/* consumer.c */
struct assigned *consumer_find(const struct consumer *k, const char *topic, int32_t partition); /* or NULL */

/* fetch.c */
/* Sends what may be sent. Returns when there is something to do by time. */
int64_t fetch_pump(struct consumer *k);
/* Forgets the partition in requests that are on their way. */
void fetch_forget(struct consumer *k, const struct assigned *a);
void chunk_free(struct chunk *ch);
/* Trouble with a partition: retriable (given up when it has lasted too long), or final. */
void assigned_failed(struct consumer *k, struct assigned *a, enum err err, int16_t code, const char *message);
void assigned_give_up(struct assigned *a, enum err err, int16_t code, const char *message);
#endif
