/* partition.h - a partition on its reactor: log, replication core, and those who wait.
 *
 * The only files that join storage and replication. A partition is named by its *group*, a number that all replicas of it share
 * (members called `plid` here hold it); a log's own plid also counts how often it was made in this directory. Everything here can be asked from any
 * reactor: an operation is a struct that its owner (a request) keeps until `done` ran on the
 * caller's thread, from its loop, never from inside the call that started it. On the same reactor
 * the work is done directly, otherwise by mail. What an operation points to (records in a request's
 * frame) is lent until then; bytes that a fetch returns belong to the partition's reactor and go
 * back by mail when the response was sent.
 *
 *   log start <= last stable offset = high watermark <= durable end <= log end
 *
 * Readers see records below the high watermark only. A write is acknowledged when the high
 * watermark has passed it (acks=all), when it is durable here (acks=1; for a group of one the same
 * thing), or at once (acks=0). If the log fails or is deleted, everybody who waits is answered.
 * Errors are Kafka's codes (server/api_errors.h). */
#ifndef SERVER_PARTITION_H
#define SERVER_PARTITION_H
#include "base/buf.h"
#include "base/list.h"
#include "base/mailbox.h"
#include "base/timers.h"
#include "log/compact.h"
#include "log/log.h"
#include "log/retention.h"
#include "replication/message.h"
#include "server/broker.h"
#include "server/leaders.h"

struct image_topic;
struct partition;
struct partition_map;

/* The partitions of one reactor, made from the logs of its shard. Before the threads start. NULL: memory. */
MUST_CHECK struct partition_map *partition_map_new(struct reactor *r);
/* Answers everybody who waits with `error`; nothing new is accepted. The reactor's thread. */
void partition_map_stop(struct partition_map *m, int16_t error);
bool partition_map_stopped(const struct partition_map *m);
/* The broker is about to stop, the reactor still serves: its replicas do not ask for leadership any more, and what they lead goes to
 * voters that have all of it. The reactor's thread, like the next. */
void partition_map_leave(struct partition_map *m);
/* How many groups are led here that another voter could lead. */
uint32_t partition_map_to_hand_over(const struct partition_map *m);
/* After the reactor has stopped. */
void partition_map_free(struct partition_map *m);
/* End of a reactor's turn, before log_shard_turn(): retries writes that the journal had no room for. */
void partition_map_turn(struct partition_map *m);
/* After log_shard_turn(): what the turn brought goes to the peers, and groups are looked at that are not as metadata wants them. True:
 * there is more to do in the next turn. */
bool partition_map_flush(struct partition_map *m);
uint32_t partition_map_count(const struct partition_map *m);
/* plids of logs found in the directory that metadata has not claimed yet (partition_create, partition_configure);
 * malloc'ed, NULL when there are none. */
uint64_t *partition_map_unknown(const struct partition_map *m, uint32_t *count);

/* ---- what the metadata image asks for; the owner's thread ---- */
/* Creates the log; `done` runs when that is durable (from the loop, also on failure). False: it could not
 * even be begun. */
bool partition_create(struct reactor *r, const struct image_topic *t, int32_t partition,
                      void (*done)(void *ctx, enum err err), void *ctx);
/* The same for a replica among others: how it begins. */
struct partition_spec {
    uint64_t group;
    uint32_t life;                       /* how often this node became a replica of it before (log_plid()) */
    const struct replica_config *config; /* the first one of a group that begins here; NULL: it exists, a leader will tell */
    bool campaign_soon;                  /* the first choice for a leader of a group that begins */
};
bool partition_create_replica(struct reactor *r, const struct image_topic *t, int32_t partition, const struct partition_spec *spec,
                              void (*done)(void *ctx, enum err err), void *ctx);
/* Answers who waits, deletes the log. Unknown plid: `done` with OK. */
void partition_delete(struct reactor *r, uint64_t plid, void (*done)(void *ctx, enum err err), void *ctx);
/* The topic's config or id is (again) as in `t`. */
void partition_configure(struct reactor *r, const struct image_topic *t, int32_t partition);
bool partition_exists(const struct reactor *r, uint64_t plid);
/* Whether the replica here leads and is established: everything committed is below its high watermark. */
bool partition_leads(struct reactor *r, uint64_t plid);
/* The same, for an answer that may not be older than the time after which a leader gives up that no majority answers. The core measures
 * that by the time in which this thread ran; after it was kept from running (SIGSTOP), a majority must have answered a round that began
 * since then: what lies in the sockets may have been said before. The first question after a sleep asks for that, and is told no. */
bool partition_still_leads(struct reactor *r, uint64_t plid);
/* For coordinators that load their state from a partition of their own reactor: its log, and where committed records
 * end. NULL: it is not here. */
struct log *partition_log(struct reactor *r, uint64_t plid, int64_t *end);

/* ---- the group (server/partition_replica.c); the owner's thread ---- */

/* What a peer sent, checked by replica_message_is_valid() here; `records` are good during the call. */
void partition_receive(struct reactor *r, uint64_t group, const struct replica_message *m, struct bytes records);
/* A connection to or from `node` broke or was refused. */
void partition_peer_lost(struct reactor *r, int32_t node);
/* `node` says that it does not lead any more in `epoch`. */
void partition_leader_resigned(struct reactor *r, uint64_t group, int32_t node, int32_t epoch);

/* For server/partition_reconcile.c. The replica here, leader or not; NULL: none. */
const struct replica *partition_replica(struct reactor *r, uint64_t group);
/* As REPLICA_OBSERVE says; those that are named already: OK, and nothing happens. */
MUST_CHECK enum err partition_observe(struct reactor *r, uint64_t group, const struct replica_member *list, uint32_t count);
/* As REPLICA_RECONFIGURE (ids in `to` are ignored) and REPLICA_TRANSFER say: ERR_AGAIN, ERR_INVALID, ERR_CLOSED. Not from inside a step. */
MUST_CHECK enum err partition_reconfigure(struct reactor *r, uint64_t group, const struct replica_config *to);
MUST_CHECK enum err partition_transfer(struct reactor *r, uint64_t group, const struct replica_member *to);
/* Implemented by server/partition_reconcile.c: this reactor leads `group` and is established. Makes at most one step towards what metadata
 * wants of it. True: nothing is left to do. It is called, from the end of a turn, after changes of the role, the members, who is in sync,
 * and the topic (partition_configure()); while it says false also with each heartbeat. */
bool partition_reconcile(struct reactor *r, uint64_t group);
/* It is to be called again although nothing that the partition sees has changed. */
void partition_unsettle(struct reactor *r, uint64_t group);
/* The same for all that are led here: nodes came, went, or changed. */
void partition_unsettle_all(struct reactor *r);

/* ---- operations ---- */
struct partition_op {
    struct reactor *caller, *owner;
    uint64_t plid;
    void (*done)(struct partition_op *op);
    int16_t error;                       /* out: Kafka error code, 0 none */
    int32_t leader_epoch;                /* out: of the partition; -1 unknown */
    int32_t leader;                      /* out, with NOT_LEADER_OR_FOLLOWER and FENCED_LEADER_EPOCH: who leads, in leader_epoch; -1 unknown */
    /* private */
    void (*start)(struct partition_op *op);
    struct mail mail;
    bool from_loop;                      /* `done` may run directly */
};

/* Appends one batch of a client (checked here in full) or of the broker itself. */
enum { PRODUCE_BAD_RECORDS_MAX = 10 };
struct partition_produce {
    struct partition_op op;
    /* in */
    struct bytes records;                /* lent; one batch; p NULL: null */
    int16_t api_version, acks;
    int32_t timeout_ms;
    bool trusted;                        /* the broker's own batch: only appended */
    bool conditional;                    /* only if the log ends at `expected_end`; else NOT_LEADER_OR_FOLLOWER, nothing appended */
    int64_t expected_end;
    bool spares;                         /* log_append.spares */
    /* out */
    int64_t base_offset, log_append_time_ms, log_start_offset;
    const char *message;                 /* static; NULL: none */
    int32_t bad_records[PRODUCE_BAD_RECORDS_MAX]; /* record indexes within the batch */
    int32_t bad_record_count;            /* of all, perhaps more than are listed */
    /* private */
    struct list link;
    struct timer timer;
    struct partition *partition;
    struct batch_header header;
    int64_t last_offset;                 /* >= 0: it was appended, whatever the answer is */
    uint8_t *rewritten;                  /* recompressed batch, owned */
    struct io_op *work;
    uint8_t stage;
};
void partition_produce(struct partition_produce *op);

/* Offsets by time or kind (ListOffsets), and where an epoch ends (OffsetForLeaderEpoch). The latest offset is told when a majority has
 * confirmed that this replica still led when it was asked: what was acknowledged before, by whomever, is below it. */
enum { PARTITION_OFFSET_LATEST = -1 };   /* where what is committed ends, and a majority has said that nobody leads after this replica */
struct partition_offset {
    struct partition_op op;
    /* in */
    int64_t timestamp;                   /* ListOffsets' timestamp, special values included */
    int32_t current_leader_epoch;        /* -1: do not check */
    /* out */
    int64_t offset, found_timestamp;
    int32_t found_epoch;
    /* private */
    struct log_find find;
    struct list link;
    uint32_t read_round;
};
void partition_offset(struct partition_offset *op);
struct partition_epoch_end {
    struct partition_op op;
    int32_t current_leader_epoch, epoch; /* in */
    int32_t found_epoch;                 /* out */
    int64_t end_offset;
};
void partition_epoch_end(struct partition_epoch_end *op);

/* Deletes records below `offset` (-1: below the high watermark); done when that is durable on a majority (DeleteRecords, KIP-107). */
struct partition_delete_records {
    struct partition_op op;
    int64_t offset;                      /* in */
    int64_t low_watermark;               /* out: the log start offset */
    /* private */
    struct list link;
    uint64_t seq;
};
void partition_delete_records(struct partition_delete_records *op);

/* Retention of one partition, if metadata has claimed it; false: it is not here. The owner's thread. */
bool partition_retain(struct reactor *r, uint64_t plid, bool hold_time);

/* The same for compaction (server/partition_compact.c): whether it is due, completing the segment that is being written if that has waited
 * long enough; and a run. */
bool partition_compact_look(struct reactor *r, uint64_t plid, struct compact_look *out);
bool partition_compact(struct reactor *r, uint64_t plid);

/* What is known of many partitions of one reactor (Metadata, DescribeLogDirs, DescribeQuorum; server/api_partitions.h). Who leads and who
 * is in sync is also known of groups that have no replica here, as their leader said last (server/leaders.h). */
struct partition_fact {
    struct leader_info leader;           /* epoch -1: nobody was ever heard of; leader -1: nobody leads */
    bool here;                           /* this broker has a replica; the rest is 0 otherwise */
    int64_t start, end, high_watermark;
    int64_t lag;                         /* how much of what is committed, by the leader's last message, is not here yet */
    uint64_t size_bytes;                 /* of all batches */
};
struct partition_observer { int32_t node; int64_t end, silent_ms; bool in_sync; };
/* Only where it is led: how far each of leader.members is known to have got and how long ago it answered. Else -1. */
struct partition_progress {
    int64_t end[REPLICA_MEMBERS_MAX], silent_ms[REPLICA_MEMBERS_MAX];
    uint32_t observer_count;
    struct partition_observer observers[REPLICA_OBSERVERS_MAX]; /* who is no member and is sent the log */
};
struct partition_facts {
    struct partition_op op;              /* plid unused */
    uint32_t count;
    const uint64_t *plids;
    struct partition_fact *facts;        /* out, one for each plid */
    struct partition_progress *progress; /* out, one for each plid; NULL: not wanted */
};
void partition_facts(struct partition_facts *op);

/* Hands leadership to the voter on `node` (ElectLeaders); done when this replica leads no more, or after a while with an error:
 * ELECTION_NOT_NEEDED it leads already, ELIGIBLE_LEADERS_NOT_AVAILABLE not in sync, NOT_LEADER_OR_FOLLOWER, REQUEST_TIMED_OUT. */
struct partition_handover {
    struct partition_op op;
    int32_t node;                        /* in */
    struct list link;                    /* private */
    struct timer timer;
};
void partition_handover(struct partition_handover *op);

/* The idempotent producers that one partition remembers (DescribeProducers). */
struct partition_producer { int64_t id, last_timestamp_ms, txn_first_offset; int32_t epoch, last_sequence, coordinator_epoch; };
struct partition_producers {
    struct partition_op op;
    struct partition_producer *list;     /* out: malloc'ed, the caller frees it; NULL when there are none */
    uint32_t count;
};
void partition_producers(struct partition_producers *op);

/* What the log of one partition is made of (DescribeStorage). The lists are malloc'ed: partition_storage_free(). */
struct partition_storage {
    struct partition_op op;
    bool list_segments;                  /* in */
    int64_t now_ms, start, bound, end;
    uint64_t size_bytes;
    uint32_t segment_count, faulty_ranges, listed;
    bool deletes, compacts, compacting;
    struct compact_look look;
    struct compact_run run;
    struct log_segment *segments;        /* the first `listed` */
    struct retention_fate *fates;
    enum compact_segment *compaction;
};
void partition_storage(struct partition_storage *op);
void partition_storage_free(struct partition_storage *op);

/* ---- fetch ---- */
/* One partition of a fetch. Planned first; the caller deals out `budget`, then it is read. */
struct fetch_part {
    /* in */
    uint64_t plid;
    int64_t offset;
    int32_t max_bytes, current_leader_epoch, last_fetched_epoch;
    uint32_t budget_bytes;               /* for reading; 0: leave out */
    bool from_follower;                  /* a replica that does not lead may answer, with what it knows to be committed (KIP-392) */
    bool min_one;                        /* the first batch is returned whole even if larger */
    /* out of a plan */
    int16_t error;                       /* Kafka error code */
    int32_t leader_epoch;
    int32_t leader;                      /* with NOT_LEADER_OR_FOLLOWER and FENCED_LEADER_EPOCH: who leads, in leader_epoch; -1 unknown */
    int32_t preferred;                   /* an in-sync replica in the reader's rack, which it should read from; -1: none */
    int64_t high_watermark, log_start;
    int64_t begins;                      /* with OFFSET_OUT_OF_RANGE: where the log begins; else -1 */
    uint64_t available_bytes;            /* at most max_bytes, but at least 1 when there is anything */
    int32_t diverging_epoch;             /* -1: none */
    int64_t diverging_end;
    /* out of a read */
    struct log_read *read;               /* NULL: nothing; slices are lent until fetch_group_release() */
    /* private */
    struct fetch_group *group;
    struct partition *partition;         /* as of the plan */
    struct list watch;
};
/* The partitions of one fetch that live on one reactor. Lives in the request until it is home. */
struct fetch_group {
    struct reactor *caller, *owner;
    struct fetch_part **parts;
    uint32_t part_count;
    struct str rack;                     /* of the reader; empty: not said, or it does not matter */
    void (*home)(struct fetch_group *g); /* the caller's thread, from its loop or directly from the call when local */
    void *request;
    uint64_t planned_bytes;              /* out of a plan: sum of available_bytes */
    bool planned_error;                  /* out of a plan: some partition has an error or diverges */
    uint64_t wanted_bytes;               /* in, for a watch: come home when planned_bytes has reached it */
    struct fetch_loan *loan;             /* out of a read: hands the bytes back; NULL: none */
    /* private */
    struct mail mail, cancel_mail;
    uint32_t reads_left;
    uint8_t command;
    bool away, cancel_away, watching;
    bool planned;
    uint64_t planned_moves;              /* of the owner's partitions, at the plan */
};
/* Answers other brokers that cannot read some of their records any more (server/partition_mend.c). */
void partition_mend_serve(struct broker *b);
void fetch_group_plan(struct fetch_group *g);
/* Comes home when enough bytes are there, a partition has an error, or after fetch_group_cancel(). What a plan says is
 * up to date then, but for log starts. */
void fetch_group_watch(struct fetch_group *g);
/* Makes a watching group come home soon; harmless when it is on its way. */
void fetch_group_cancel(struct fetch_group *g);
void fetch_group_read(struct fetch_group *g);
/* A buf of the caller's reactor: its last release returns every slice that the group's read lent. */
struct buf *fetch_loan_buf(struct fetch_loan *l);
#endif
