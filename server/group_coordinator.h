/* group_coordinator.h - the coordinator of one partition of `__consumer_offsets`: the groups whose names map to it.
 *
 * It lives on the reactor that owns the partition. Group g belongs to partition |Java String.hashCode(g)| modulo the
 * number of partitions, so every client and tool finds the same one. State is what the partition's records say: an
 * operation computes records from it, they are appended as one batch, and when the high watermark has passed them
 * they are replayed into the state, by the function that loading uses too; then the answer leaves. If the append fails,
 * or leadership ends, the state is as before and the answer makes the client try again.
 *
 *   image shows the partition -> LOADING (from the log, in slices) -> ACTIVE -> gone with the partition
 *                                    damage -> FAILED: nothing is answered from a state that may be too old
 *
 * Operations on one group take a lock for as long as their records are on the way:
 *   READ       sees what is committed, never waits
 *   SHARED     commits of offsets: beside each other, not beside an exclusive one
 *   EXCLUSIVE  all that changes membership
 * Those that wait do so in order of arrival.
 *
 * Threads: group_op_send(), group_visit_send() and `done` on the caller's thread, all else on the owner's. */
#ifndef SERVER_GROUP_COORDINATOR_H
#define SERVER_GROUP_COORDINATOR_H
#include <uthash.h>
#include "base/list.h"
#include "base/mailbox.h"
#include "base/timers.h"
#include "proto/group_records.h"
#include "server/broker.h"
#include "server/group_classic.h"
#include "server/group_consumer.h"
#include "server/group_history.h"
#include "server/group_offsets.h"

#define GROUP_TOPIC "__consumer_offsets"

struct coordinator;
struct request;

struct group {
    UT_hash_handle hh;
    struct coordinator *coordinator;
    struct group_offsets offsets;
    struct classic_group *classic;        /* NULL: has no members and never had, as far as is known */
    struct consumer_group *consumer;      /* of the consumer protocol (KIP-848); NULL: it is not one */
    struct group_assign_job *assign;      /* its work on the way: server/group_members.c */
    struct group_history *history;        /* owned; NULL: nothing has happened yet, or memory was short */
    struct consumer_group_regex *regex;
    struct mail regex_mail;
    bool regex_away;
    bool upgrades, downgrades;            /* what the records that are on the way make of it */
    int64_t rest_until_ns;                /* an append of its own failed: not again before */
    struct timer timer;                   /* its next deadline */
    bool tick_due;                        /* that has passed; waits for the lock */
    bool unseen;                          /* records of the consumer group came since its history looked */
    struct list queue;                    /* group_op.link: wait for the lock */
    uint32_t shared;                      /* commits on their way */
    bool exclusive;                       /* an exclusive operation is on its way */
    uint32_t pins;                        /* others that point here */
    int64_t charged_bytes;                /* what the broker's account has of it */
    int32_t id_len;
    char id[];
};
static inline struct str group_id(const struct group *g) { return (struct str){g->id, g->id_len}; }

enum group_lock { GROUP_READ, GROUP_SHARED, GROUP_EXCLUSIVE };

/* One request's work on one group. Lives in the request; what it points to is lent until `done`. */
struct group_op {
    /* in */
    struct request *rq;                   /* its arena takes the answer: `run` may use it while the caller waits */
    struct str group;
    enum group_lock lock;
    /* The owner's thread; ends with group_op_finish(), now or later. `g` may be empty: nothing is known of it. */
    void (*run)(struct group_op *op, struct group *g);
    void (*done)(struct group_op *op);    /* the caller's thread, from its loop */
    void *owner;
    /* out */
    int16_t error;                        /* Kafka error code */
    /* private */
    struct reactor *caller, *reactor;
    int32_t partition;
    struct mail mail;
    struct list link;
};
/* Ends in `done`, with COORDINATOR_LOAD_IN_PROGRESS, NOT_COORDINATOR or COORDINATOR_NOT_AVAILABLE when there is nobody to ask. */
void group_op_send(struct group_op *op);
void group_op_finish(struct group_op *op, int16_t error);

/* Visits every group of one reactor, one coordinator after the other. */
struct group_visit {
    struct reactor *caller, *owner;
    void (*visit)(struct group_visit *v, struct group *g); /* the owner's thread */
    void (*done)(struct group_visit *v);                   /* the caller's thread, from its loop */
    void *state;
    int16_t error;                        /* out: a partition is loading. Those that failed are passed over, as in Kafka */
    int32_t partition;                    /* private */
    struct group *at;                     /* where it rests */
    struct mail mail;
};
void group_visit_send(struct group_visit *v);
/* Around a visit that fills a request's arena; operations do so themselves. The request's thread. */
void group_arena_away(struct request *rq);
void group_arena_home(struct request *rq);

/* ---- inside `run` ---- */

/* `op` is kept for an answer that comes later; when the coordinator goes, it ends. */
void group_op_park(struct group_op *op, struct group *g);
/* The core of a classic group, made when it is missing. NULL: memory. */
struct classic_group *group_classic(struct group *g);
/* How the core is called now; join and sync tickets are the operations of JoinGroup and SyncGroup (server/api_group_members.c). */
struct classic_env group_classic_env(struct group *g);
void group_arm(struct group *g);          /* after anything that may have changed its deadlines */
/* After a call of the classic core under an exclusive lock: appends what it put into `records` (taken over), and then ends `op`
 * (may be NULL) with `error`, or with why that failed. */
void group_classic_after(struct group *g, struct group_records *records, struct group_op *op, int16_t error);

/* Appends `records` (taken over; at least one, no error in them) with `lock` held meanwhile. `then` runs when they are replayed
 * (error 0), or were not appended and nothing has changed; perhaps before this returns. */
typedef void group_then(struct group *g, void *ctx, int16_t error);
void group_append(struct group *g, enum group_lock lock, struct group_records *records, group_then *then, void *ctx);
/* An empty list with the bounds of one batch. */
void group_records_begin(struct group_records *records);
/* The memory of groups is used up: new groups, members and offsets are refused. */
bool group_memory_full(const struct reactor *r);
/* Even what members and offsets that are there may still add to theirs is used up: whatever might be larger is refused. */
bool group_memory_spent(const struct reactor *r);
struct reactor *group_reactor(const struct group *g);

/* What the core of a consumer group sees; good for the call. */
struct group_view { struct group_env env; struct group_topics topics; };
void group_view_fill(const struct group *g, struct group_view *v);
bool group_has_consumer(const struct group *g);
/* After a call of that core under an exclusive lock: appends `records` (taken over), and then ends `op` (may be NULL) with 0, or with
 * why that failed. `joins`: a JoinGroup caused it. */
void group_consumer_after(struct group *g, struct group_records *records, struct group_op *op, bool joins);

/* ---- the coordinators of one reactor ---- */
struct group_set;
MUST_CHECK struct group_set *group_set_new(struct reactor *r); /* NULL: memory */
/* The reactor has moved to another image: partitions and topics come and go. */
void group_set_image(struct group_set *s);
/* Leadership of the replica here of `group` may have begun or ended. */
void group_set_leadership(struct group_set *s, uint64_t group);
/* Answers all that wait with NOT_COORDINATOR; nothing is accepted any more. */
void group_set_stop(struct group_set *s);
void group_set_free(struct group_set *s);

/* Which of `partitions` a group belongs to. */
int32_t group_partition_of(struct str group, int32_t partitions);
#endif
