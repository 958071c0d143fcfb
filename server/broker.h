/* broker.h - a broker as a value: configuration, data directory, reactors, metadata image.
 *
 * Two brokers may live in one process (tests do that). Nothing here is global. The broker's own
 * fields are written before the reactors start and read-only afterwards, except `image`, which has
 * one writer (reactor 0) and is published by pointer (server/image.h). */
#ifndef SERVER_BROKER_H
#define SERVER_BROKER_H
#include <stdatomic.h>
#include "base/buf.h"
#include "base/io.h"
#include "base/mailbox.h"
#include "base/timers.h"
#include "log/log.h"
#include "server/config.h"
#include "server/cleaner.h"
#include "server/housekeeping.h"

struct broker_run;
struct image;
struct controller;
struct leaders;
struct peers;
struct peer_set;
struct fetch_session_cache;
struct quota_table;
struct reactor;
struct reassigner;

struct broker {
    struct config config;
    struct log_store *store;
    struct reactor *reactors;            /* config.reactors of them */
    uint32_t reactor_count;
    struct reassigner *reassigner;       /* on reactor 0: server/reassign.h */
    struct controller *controller;       /* on reactor 0: the metadata log and its writer */
    _Atomic(struct image *) image;       /* newest published; readers use reactor_image() */
    struct cluster *cluster;             /* on reactor 0: which one, and how to get in; NULL: alone (server/cluster.h) */
    struct broker_run *run;              /* listeners and the stages of stopping: server/broker.c */
    struct uuid cluster_id;
    struct peers *peers;                 /* other brokers: server/peer.h */
    struct quota_table *quotas;          /* what clients have used of theirs: atomics, any thread (server/quota_table.h) */
    _Atomic(int64_t) metadata_asked_ns;  /* when the controller was asked the last question that it has answered (cluster_knows_since()) */
    _Atomic(uint64_t) metadata_known_end; /* what its image said then, or later */
    _Atomic(int64_t) group_bytes;        /* what consumer groups hold, all reactors together */
    atomic_uint disk_stuck;              /* reactors for which the disk does not answer (server/reconcile.h) */
    atomic_bool stopping;
    atomic_bool failed;                  /* the data directory is latched */
};

/* One thread with its io, timers, connections, shard and partitions. */
struct reactor {
    struct broker *broker;
    uint32_t index;
    struct io *io;
    struct mailbox mailbox;
    struct timers timers;
    struct log_shard *shard;
    struct partition_map *partitions;    /* of this reactor: server/partition.h */
    struct leaders *leaders;             /* of the groups that this reactor owns: server/leaders.h */
    struct list leader_tells;            /* server/peer_hooks.c */
    struct reconciler *reconciler;       /* of the groups that are led here: server/reconcile.h */
    struct group_set *groups;            /* coordinators of its partitions: server/group_coordinator.h */
    struct housekeeping housekeeping;
    struct cleaner cleaner;
    struct image *image;                 /* the one this reactor works with; see server/image.h */
    struct conn_set *conns;              /* server/conn.h */
    struct peer_set *peers;              /* its connections with other brokers: server/peer.h */
    struct fetch_session_cache *fetch_sessions; /* made by this reactor: server/fetch_session.h */
    uint32_t forward_copies, forward_served; /* server/forward.h: on their way from here; requests of other brokers in work */
    bool busy;                           /* there is work for another turn: do not wait */
    int64_t now_ns;                      /* refreshed once a turn */
    int64_t awake_ns;                    /* likewise, but without the time that a turn came late: what replicas measure silence by */
    int64_t slept_ns;                    /* awake_ns when this thread had last not run for so long that others may have acted meanwhile */
    int64_t looked_ns;                   /* when both were refreshed */
    int64_t born_ns;                     /* awake_ns at the beginning */
    int64_t now_ms;                      /* wall clock, once a turn */
};
#endif
