/* partition_impl.h - a partition from the inside; for server/partition*.c only. */
#ifndef SERVER_PARTITION_IMPL_H
#define SERVER_PARTITION_IMPL_H
#include <uthash.h>
#include "replication/replica.h"
#include "server/partition.h"
#include "server/topic_config.h"

struct partition {
    uint64_t plid;
    UT_hash_handle hh;
    struct partition_map *map;
    struct log *log;
    struct replica replica;
    struct topic_config config;
    int32_t epoch_due;            /* marker that the journal had no room for; 0: none */
    bool created;                 /* the log, with its first marker, is durable */
    bool known;                   /* metadata has claimed it */
    bool gone;                    /* deleted: nobody new may come */
    uint32_t works;               /* helper work in flight that points here */
    struct list queue;            /* partition_produce.link: not appended yet, in order of arrival */
    struct list committed;        /* wait for the high watermark, ascending by last offset */
    struct list durable;          /* wait for the durable end, ascending by last offset */
    struct list watchers;         /* fetch_part.watch */
    struct list blocked;          /* in map->blocked: the head of the queue waits for room */
    void (*create_done)(void *ctx, enum err err);
    void *create_ctx;
    void (*delete_done)(void *ctx, enum err err);
    void *delete_ctx;
};
struct partition_map {
    struct reactor *reactor;
    struct partition *by_plid;
    struct replica_actions actions; /* of the step that is being made */
    struct list blocked;
    int16_t stop_error;           /* not 0: stopping */
    bool writable;                /* the journal has room again */
    bool wake_posted;
    struct mail wake_mail;
    bool failed_seen;
    uint64_t moves;               /* counts what watchers are woken for, whether there are any or not */
};

struct partition *partition_find(struct reactor *r, uint64_t plid);
/* Where the log ends for readers of committed data; both isolation levels, as long as there are no transactions. */
static inline int64_t partition_bound(const struct partition *p) { return p->replica.high_watermark; }
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
