/* producer_impl.h - the producer's state, shared by producer.c (taking records in), delivery.c
 * (sending batches, judging answers) and sequence.c (idempotence).
 *
 * Each partition has a queue of closed batches in the order of their records:
 *
 *     finished*  in flight*  waiting*        then the open batch, where records are added
 *
 * A batch in front of others may return to waiting (a retry). It is sent again when no later batch
 * is in flight any more, and alone, so nothing overtakes. Finished ones leave from the front only:
 * reports come in order. */
#ifndef CLIENT_PRODUCER_IMPL_H
#define CLIENT_PRODUCER_IMPL_H
#include "base/list.h"
#include "client/core.h"

struct note { uint64_t tag; int64_t timestamp_ms; }; /* what a report needs of each record */

struct batch {
    struct list link;
    struct queue *queue;
    uint8_t *bytes;               /* owned; freed early, when finished */
    size_t len, charged_bytes;    /* as sent; as counted against buffer_bytes */
    int32_t record_count;
    struct note *notes;           /* owned; NULL without a report function */
    int64_t expires_ns;
    int32_t base_sequence;        /* -1: none yet */
    bool in_flight, finished;
    bool maybe_written;           /* was sent, and no answer says that it was refused */
    int32_t attempts;
    /* when finished */
    enum err err;
    int16_t code;
    int64_t base_offset, append_time_ms;
    char *message;                /* owned, or NULL */
};

struct queue {
    struct list active_link;      /* in producer.active while anything is open or closed */
    struct producer_topic *topic;
    int32_t partition;
    struct batch_builder open;
    size_t open_charged_bytes;
    int64_t open_since_ns;
    struct note *notes;
    int32_t notes_cap;
    struct list batches;
    int32_t in_flight;
    int64_t retry_at_ns;
    int32_t failures;             /* in a row: back-off */
    /* idempotence; the producer id is the producer's */
    int16_t epoch;
    int32_t next_sequence;
    bool established;             /* the broker has taken a batch of this epoch */
    bool bump;                    /* sequences have a hole: begin again under the next epoch */
};

struct producer_topic {
    struct producer_topic *next;
    struct topic_meta *meta;      /* the client's */
    struct queue **queues;        /* by partition; NULL until used */
    int32_t queue_count;
    int32_t sticky;               /* partition for records without a key; -1: pick one */
};

struct producer {
    struct client *client;
    struct producer_config config;
    struct producer_topic *topics, *last_topic;
    struct list active;
    struct producer_stats stats;
    int64_t stepped_ns;
    bool flushing;
    uint64_t finished;            /* batches, ever */
    int32_t requests;             /* on their way */
    /* idempotence */
    int64_t producer_id;          /* -1: not asked yet */
    int16_t first_epoch;
    bool id_in_flight;
    int64_t id_retry_at_ns;
    int32_t id_failures;
    /* the end: ERR_FENCED or what made idempotence impossible */
    enum err fatal;
    int16_t fatal_code;
    char fatal_message[200];
};

/* producer.c */
MUST_CHECK enum err producer_close_batch(struct producer *p, struct queue *q); /* of a queue with open records */
void producer_report_front(struct producer *p, struct queue *q);               /* reports and frees finished ones */

/* delivery.c */
void delivery_step(struct producer *p, int64_t deadline_ns); /* closes, sends, turns, judges */
/* Gives the batch its final result; it is reported when it comes to the front. */
void delivery_finish(struct producer *p, struct batch *b, enum err err, int16_t code, struct str message);

/* sequence.c */
/* Whether batches may be sent; asks for a producer id when there is none. */
bool sequence_ready(struct producer *p, int64_t now_ns);
/* Whether `b`, the first that waits in its queue, may go now; gives it its sequence number. */
bool sequence_assign(struct producer *p, struct batch *b);
void sequence_accepted(struct batch *b);
/* A refused batch leaves the queue for good: what follows it needs new numbers. */
void sequence_hole(struct producer *p, struct queue *q);
#endif
