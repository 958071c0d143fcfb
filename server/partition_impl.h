/* partition_impl.h - a partition from the inside; for server/partition*.c only. */
#ifndef SERVER_PARTITION_IMPL_H
#define SERVER_PARTITION_IMPL_H
#include <uthash.h>
/* Groups are numbered one after the other: no need to mix eight bytes at length. */
#undef HASH_FUNCTION
#define HASH_FUNCTION(key, len, hash) ((hash) = (unsigned)((*(const uint64_t *)(key) * UINT64_C(0x9e3779b97f4a7c15)) >> 32))
#include "replication/replica.h"
#include "server/partition.h"
#include "server/topic_config.h"

struct partition {
    uint64_t plid;
    UT_hash_handle hh;
    struct partition_map *map;
    struct log *log;
    struct replica replica;
    int64_t leaders_mark;         /* the highest high watermark that any leader has told */
    struct timer timer;           /* at or before replica_deadline() */
    struct topic_config config;
    uint64_t marker_seq;          /* a group of one: durable with it is the marker of its last epoch; 0: not known */
    int32_t epoch_due;            /* group of one: marker that could not be entered; 0: none */
    bool campaign_soon;           /* partition_spec, until it starts */
    bool created;                 /* the log, with its first marker, is durable */
    bool started;                 /* the core is */
    bool led;                     /* as reported last */
    bool unsettled;               /* partition_reconcile() is due, now or with the next heartbeat */
    uint16_t in_sync;             /* as reported last */
    int32_t followed_epoch;       /* of the leader that was told to the table of leaders */
    int64_t start_due;            /* where the log is to start as soon as it is durable up to there and there is room; -1: no such */
    uint64_t start_seq;           /* its change */
    bool known;                   /* metadata has claimed it */
    bool gone;                    /* deleted: nobody new may come */
    struct partition_mender *mender; /* NULL: no damage was met */
    uint32_t works;               /* helper work in flight that points here */
    struct list queue;            /* partition_produce.link: not appended yet, in order of arrival */
    struct list committed;        /* wait for the high watermark, ascending by last offset */
    struct list durable;          /* wait for the durable end, ascending by last offset */
    struct list watchers;         /* fetch_part.watch */
    struct list deletions;        /* partition_delete_records.link: durable here, not known to be on a majority */
    int64_t quiet_since_ns;       /* the core is quiet (replication/quiet.c); 0: it is not */
    struct list latest;           /* partition_offset.link: ask for the end of what is committed; a majority has not said yet that we lead */
    uint32_t readable_round;      /* the newest read that a majority confirmed (REPLICA_READABLE) */
    int64_t led_since_ns;         /* awake_ns when it began to lead */
    int64_t asked_ns;             /* partition_still_leads(): slept_ns, the epoch, and the read whose answer tells */
    int32_t asked_epoch;
    uint32_t asked_round;
    struct list handovers;        /* partition_handover.link */
    struct list reads;            /* appends whose records are being read from files (server/partition_send.c) */
    struct list to_send;          /* in map->to_send: peers wait for appends */
    struct list to_settle;        /* in map->to_settle */
    struct list blocked;          /* in map->blocked: the head of the queue, or `start_due`, waits for room */
    void (*create_done)(void *ctx, enum err err);
    void *create_ctx;
    void (*delete_done)(void *ctx, enum err err);
    void *delete_ctx;
};
struct partition_map {
    struct reactor *reactor;
    struct partition *by_plid;
    struct replica_actions actions; /* of the step that is being made */
    struct list blocked, to_send, to_settle;
    int16_t stop_error;           /* not 0: stopping */
    bool leaving;                 /* about to stop: nobody here asks for leadership any more */
    bool writable;                /* the journal has room again */
    bool wake_posted;
    struct mail wake_mail;
    bool failed_seen;
    bool (*send)(struct reactor *r, uint64_t group, const struct replica_message *m, struct slice *slices, uint32_t count); /* peer_send(); tests: theirs */
    int64_t next_error_ns;        /* until then a complaint that repeats is not repeated */
    uint64_t moves;               /* counts what watchers are woken for, whether there are any or not */
};

struct partition *partition_find(struct reactor *r, uint64_t plid);
/* One step of the core and everything that it asks for, in its order; then those who waited are told. `in_hand`: the message that is
 * the event, with its records. */
struct partition_incoming { const struct replica_message *m; struct bytes records; };
enum err partition_step(struct partition *p, const struct replica_event *event, const struct partition_incoming *in_hand);
/* Where the log begins and what is durable: from the log. */
MUST_CHECK enum err partition_start_replica(struct partition *p, bool campaign_soon);
void partition_on_durable(struct log *l, void *owner);
void partition_start_that_was_due(struct partition *p); /* moves the log's start if it can move now */
/* The position up to which the log of a group that was always of one is durable. */
struct replica_position partition_durable_position(const struct partition *p);
void partition_timer(struct timer *t);                 /* p->timer */
/* Whether changes are numbered: it is, or was, a group of several. */
static inline bool partition_is_replicated(const struct partition *p) { return p->replica.marks != NULL; }
static inline bool partition_is_led(const struct partition *p) { return p->replica.role == REPLICA_LEADER; }
/* The epoch that clients and other brokers may hear of: one that a crash takes back they would hold against the next life, for they believe only
 * newer ones. Where others vote the epoch is durable when it begins; a group that was always of one begins it with a write. */
static inline int32_t partition_shown_epoch(const struct partition *p) {
    return partition_is_replicated(p) ? p->replica.epoch : MIN(p->replica.epoch, p->replica.durable.epoch);
}
/* Voters that have everything committed, itself included. */
uint32_t partition_in_sync_voters(struct partition *p);

void partition_settle_soon(struct partition *p);       /* partition_reconcile() from the end of this turn */
bool partition_settle(struct partition_map *m);        /* the end of a turn; true: more wait for the next one */

/* server/partition_send.c: the appends that peers wait for, at the end of a turn. */
void partition_send_appends(struct partition *p);
/* The producers that an InstallStart brings along go with it. */
void partition_send_now(struct partition *p, const struct replica_action *a);
/* A batch without records for [from, to), where compaction left none; NULL: memory. */
struct buf *partition_empty_batch(int64_t from, int64_t to, int32_t epoch);
/* Reads that are under way serve nobody any more. */
void partition_drop_reads(struct partition *p);

/* server/partition_mend.c: log->on_faulty; and the end of what it has begun. */
void partition_on_faulty(struct log *l, void *owner);
void partition_mend_stop(struct partition *p);

/* server/partition_offsets.c */
void partition_end_handovers(struct partition *p, int16_t error);
void partition_check_deletions(struct partition *p);   /* acknowledgements came */
void partition_fail_deletions(struct partition *p, int16_t error);
/* What the peers' connections say of them, to a core that hears nothing else. Before it is asked who is in sync, and before steps. */
void partition_vouch(struct partition *p);
void partition_answer_latest(struct partition *p);     /* a majority has confirmed reads */
void partition_fail_latest(struct partition *p, int16_t error);

/* A leader: its high watermark may be shown. Before it is established that may be below what the leader before it has shown. */
bool partition_knows_committed(const struct partition *p);
/* Where the log ends for readers of committed data; both isolation levels, as long as there are no transactions. */
static inline int64_t partition_bound(const struct partition *p) { return p->replica.high_watermark; }
/* Where it begins for readers: the log's own start may follow a little later. */
static inline int64_t partition_begin(const struct partition *p) { return p->replica.walk.start; }
/* 0, or Kafka's error for a client that knows another leader epoch (KIP-320). */
int16_t partition_check_epoch(const struct partition *p, int32_t current_leader_epoch);

/* Runs `start` on the owner's thread, directly when that is this one. */
void partition_op_send(struct partition_op *op, void (*start)(struct partition_op *op));
void partition_op_finish(struct partition_op *op, int16_t error);

/* server/partition_facts.c: as far as is known here; `p` may be NULL. Leader -1: nobody. */
struct leader_info partition_leader(struct reactor *r, const struct partition *p, uint64_t group);
/* server/partition_preferred.c */
/* Who leads, if `error` sends the client there, and its epoch; -1, and the epoch as it was: unknown. */
int32_t partition_leader_hint(struct reactor *r, uint64_t group, int16_t error, int32_t *epoch);
/* An in-sync replica of a group that is led here which is in `rack`, on a broker that is up; -1: none, or this one is. */
int32_t partition_preferred_replica(const struct reactor *r, uint64_t group, struct str rack);

/* server/partition_fetch.c: the high watermark moved, or the partition is going. */
void partition_wake_watchers(struct partition *p);
#endif
