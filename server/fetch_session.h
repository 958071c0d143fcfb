/* fetch_session.h - fetch sessions (KIP-227): what a consumer said before and need not say again.
 *
 * A session keeps the partitions that a client fetches, in the order in which they are served, and what it was last
 * told about each. The client then sends only what changes, and gets only what changed.
 *
 *   (id, epoch)   meaning
 *   (0, -1)       no session                      (x, -1)  close x, no session
 *   (0, 0)        make one if there is room       (x, 0)   close x, then as (0, 0)
 *   (x, n)        continue x; n is 1 after the full fetch, then 2, ... INT32_MAX, 1
 *
 * An answer lists a partition if it has records, another high watermark or log start than the client knows, an error
 * or a diverging epoch. One with records goes to the end of the order, so that all get their share of max_bytes. After
 * an error the high watermark counts as unknown: the partition is told again when the error is gone.
 *
 * When no slot is free, or no memory, a new session takes the place of one that was not used for `evict_ms`, else of
 * the smallest one that is older than `evict_ms` and has fewer partitions than the new one, else it is not made: the
 * answer says id 0, which every client must accept. Rules, errors and their order are those of Kafka's FetchManager.
 *
 * Pure: no I/O, no clock, no randomness. Each reactor has a cache of its own for a range of ids (as Kafka's cache has
 * shards); a request that arrives elsewhere is taken to it by mail (api_fetch_session.c).
 *
 * Thread: the owning reactor's. */
#ifndef SERVER_FETCH_SESSION_H
#define SERVER_FETCH_SESSION_H
#include <uthash.h>
#include "base/bytes.h"
#include "base/err.h"
#include "base/list.h"
#include "proto/kafka_messages.h"

enum { FETCH_SESSION_EPOCH_FINAL = -1, FETCH_SESSION_EPOCH_INITIAL = 0, FETCH_SESSION_EVICT_MS = 120000 };
#define FETCH_SESSION_NO_PART UINT32_MAX

/* What a client asks of one partition. */
struct fetch_want {
    int32_t partition, max_bytes, current_leader_epoch, last_fetched_epoch;
    int64_t offset;
};
struct fetch_want fetch_want_of(const struct k_fetch_request_topics_partitions *p);

/* What an answer says of one partition. */
struct fetch_told {
    int64_t high_watermark, log_start;  /* -1 with an error */
    int16_t error;
    bool records, diverging;            /* diverging: or it is to read elsewhere */
};

struct fetch_session_topic {            /* shared by the partitions that one request named together */
    uint32_t refs;
    int32_t name_len;
    struct uuid id;                     /* sessions by id; else zero */
    char name[];                        /* sessions by name */
};
struct fetch_session_part {
    struct fetch_session_topic *topic;  /* NULL: free */
    struct fetch_want want;
    int64_t high_watermark, log_start;  /* as the client knows them; -1 unknown */
    uint64_t plid;                      /* the caller's: where the partition is, as of the session's `edition` */
    uint32_t owner;
    int16_t error;
    uint32_t next, prev;                /* the order in which they are served; FETCH_SESSION_NO_PART ends it */
    uint32_t chain;                     /* of its bucket, or of the free ones */
};

struct fetch_session {
    UT_hash_handle hh;                  /* by id */
    struct list by_use;
    int32_t id, epoch;                  /* epoch: what the next request must say */
    bool by_id;                         /* made by a version that names topics by id (13 and later) */
    bool settled;                       /* older than evict_ms when it was last used: may give way */
    int64_t created_ms, used_ms, bytes;
    uint64_t serial;                    /* never used twice */
    uint64_t edition;                   /* the caller's: of the image that `plid`, `owner`, `error` come from; 0 none */
    struct fetch_session_part *parts;
    uint32_t part_count, part_cap, slots_used, free, first, last;
    uint32_t *buckets, bucket_mask;
};

struct fetch_session_limits {
    uint32_t slots;
    int64_t bytes_max;
    int32_t id_first, id_count;         /* ids are given out of [id_first, id_first + id_count) */
    int64_t evict_ms;
};
struct fetch_session_cache {
    struct fetch_session_limits limits;
    struct fetch_session *by_id;
    struct list by_use;                 /* least recently used first */
    uint32_t count;
    int64_t bytes;                      /* of all sessions */
    uint64_t next_serial;
    uint64_t made, evicted, refused;    /* counters */
};

struct reactor;
enum { FETCH_SESSIONS_MAX = 10000 };    /* of one reactor: all of them are looked through when there are no slots left */
/* With this reactor's part of max.incremental.fetch.session.cache.slots, of the memory and of the ids
 * (api_fetch_session.c). NULL: no memory. */
MUST_CHECK struct fetch_session_cache *fetch_sessions_new(struct reactor *r);

MUST_CHECK struct fetch_session_cache *fetch_session_cache_new(const struct fetch_session_limits *limits);
void fetch_session_cache_free(struct fetch_session_cache *c);
struct fetch_session *fetch_session_find(struct fetch_session_cache *c, int32_t id); /* NULL: none */

/* ---- a request arrives ---- */
enum fetch_kind { FETCH_PLAIN, FETCH_NEW, FETCH_CONTINUED };
/* What (id, epoch) of the request mean, in the cache that the id belongs to. FETCH_PLAIN: the request names its
 * partitions. FETCH_NEW: the same, and a session may be made of them. FETCH_CONTINUED: `*session` now has the request's
 * changes, is marked as used and expects the next epoch. Else Kafka's error for the whole answer. */
int16_t fetch_session_begin(struct fetch_session_cache *c, const struct k_fetch_request *in, int16_t version,
                            int64_t now_ms, enum fetch_kind *kind, struct fetch_session **session);

/* ---- its answer is known ---- */
/* The session as it was left by the request that began with `epoch`, or NULL with Kafka's error: another request was
 * faster, or the session is gone. */
struct fetch_session *fetch_session_end(struct fetch_session_cache *c, int32_t id, uint64_t serial, int32_t epoch,
                                        int16_t *error);
/* Whether the answer lists the partition. Keeps what it says. */
bool fetch_session_tell(struct fetch_session *s, uint32_t part, const struct fetch_told *told);

/* ---- a new one ---- */
/* Room for a session of `parts` partitions, perhaps in place of another one; NULL: not now. `random` chooses the id.
 * Then fetch_session_add() each partition. */
MUST_CHECK struct fetch_session *fetch_session_make(struct fetch_session_cache *c, uint32_t parts, bool by_id,
                                                    uint32_t random, int64_t now_ms);
/* One more partition, or new wishes for one that is there. `*topic`: NULL, or what the call before set it to if that was
 * for the same topic. ERR_NOMEM: the caller removes the session. `*part`: which one. */
MUST_CHECK enum err fetch_session_add(struct fetch_session_cache *c, struct fetch_session *s,
                                      struct fetch_session_topic **topic, struct str name, const struct uuid *id,
                                      const struct fetch_want *want, uint32_t *part);
void fetch_session_remove(struct fetch_session_cache *c, struct fetch_session *s);
#endif
