/* replica.h - the quorum core of one partition: events in, actions out.
 *
 * Pure: no clock, I/O, randomness or allocation. The shell (server/partition.c) tells it what
 * happened and performs the actions in the order in which they are listed. It remembers positions,
 * never bytes. This is the core for a group of one; what it says here stays true with peers.
 *
 * A position (epoch, offset) is ordered lexicographically and names a place in a walk over records
 * and zero-length epoch markers: after every element up to it.
 *
 * Invariants: durable <= last; high_watermark <= durable.offset and never falls; it is meaningful
 * only while `established`. */
#ifndef REPLICATION_REPLICA_H
#define REPLICATION_REPLICA_H
#include <stdbool.h>
#include <stdint.h>

struct replica_position { int32_t epoch; int64_t offset; };
static inline int replica_position_compare(struct replica_position a, struct replica_position b) {
    if (a.epoch != b.epoch) return a.epoch < b.epoch ? -1 : 1;
    return a.offset < b.offset ? -1 : a.offset > b.offset;
}

enum replica_event_kind {
    REPLICA_START,    /* `position`: the last element in the log, all of it durable; epoch 0 when fresh */
    REPLICA_WRITE,    /* a client batch wants to be appended: perform the actions, then append */
    REPLICA_APPENDED, /* `position`: the log's last element now (after a marker or records) */
    REPLICA_DURABLE   /* `position`: everything up to it is durable here */
};
struct replica_event { enum replica_event_kind kind; struct replica_position position; };

enum replica_action_kind {
    REPLICA_BEGIN_EPOCH,   /* append the marker (epoch, end of log); then REPLICA_APPENDED */
    REPLICA_HIGH_WATERMARK /* the high watermark is now `offset` */
};
struct replica_action { enum replica_action_kind kind; int32_t epoch; int64_t offset; };
enum { REPLICA_ACTIONS_MAX = 4 };
struct replica_actions { struct replica_action list[REPLICA_ACTIONS_MAX]; uint32_t count; };

struct replica {
    struct replica_position last, durable;
    int32_t epoch;           /* the epoch that this replica leads */
    int64_t epoch_start;     /* where its marker lies; INT64_MAX until it is appended */
    int64_t high_watermark;  /* exclusive */
    bool established;        /* everything below epoch_start is known to be committed */
    bool begins_on_write;    /* restarted in its last epoch; the first write begins a new one */
};

void replica_init(struct replica *r);
/* `actions` is overwritten. */
void replica_step(struct replica *r, const struct replica_event *event, struct replica_actions *actions);
#endif
