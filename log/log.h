/* log.h - the record logs of one broker: what the server sees of storage.
 *
 * A `log_store` is a data directory: its lock, varve.meta, the commit journal and its catalogue.
 * A `log_shard` is the part of it that one reactor owns; a `log` is one partition's log and lives
 * on the shard that its plid maps to. Everything becomes durable through the journal
 * (docs/storage.md); segment files are written from it lazily.
 *
 *   log start <= durable_end <= end
 *     end          the next offset to be given out; records below it are in memory
 *     durable_end  records below it are in a durable journal group (acknowledge only these)
 *
 * Threads: a shard and its logs are used only on their reactor's thread. The store belongs to the
 * reactor of shard 0, which also runs the journal; shards reach it through mailboxes.
 * Completion callbacks run from the reactor's loop (io_turn, mailbox_drain, log_shard_turn), never
 * from inside the call that started the work.
 * Errors: ERR_IO anywhere is final for the directory: it is latched, nothing more is
 * acknowledged, and `log_store_config.failed` is called once. */
#ifndef LOG_LOG_H
#define LOG_LOG_H
#include "base/buf.h"
#include "base/err.h"
#include "base/io.h"
#include "base/mailbox.h"
#include "base/timers.h"
#include "log/epochs.h"
#include "log/producers.h"
#include "proto/record_batch.h"

struct log_store;
struct log_shard;
struct log;

/* ---- plids ------------------------------------------------------------------------------
 * The cluster names a partition by a *group*. A replica of it that leaves this directory and comes back is another log with another
 * folder: its plid holds the group and a *life*, which counts how often the group came here. So a plid is never used twice. */
#define LOG_GROUP_BITS 40u
#define LOG_LIFE_MAX ((1u << 23) - 1)
static inline uint64_t log_plid(uint64_t group, uint32_t life) { return group | (uint64_t)life << LOG_GROUP_BITS; }
static inline uint64_t log_plid_group(uint64_t plid) { return plid & ((UINT64_C(1) << LOG_GROUP_BITS) - 1); }
static inline uint32_t log_plid_life(uint64_t plid) { return (uint32_t)(plid >> LOG_GROUP_BITS); }

/* ---- the directory ---------------------------------------------------------------------- */

struct log_store_config {
    const char *dir;                     /* made if missing */
    int32_t node_id;                     /* must match varve.meta when there is one */
    uint32_t shards;                     /* reactors */
    uint64_t journal_bytes;              /* 256 MiB by default, at most 1/8 of the file system */
    uint32_t journal_piece_bytes;        /* 16 MiB; tests use less */
    uint32_t journal_depth;              /* groups in flight: 2 */
    uint64_t disk_reserve_bytes;
    uint64_t tail_bytes;                 /* memory for recent batches, all shards together */
    uint64_t producers_bytes;            /* memory for idempotent producers, all shards together; 0: only the bound of each log */
    uint64_t submitted_bytes;            /* memory for appends on their way to the journal, all shards together; 0: 32 MiB for each */
    uint64_t compact_map_bytes;          /* memory for the keys that compaction looks at, all shards together; 0: no compaction */
    uint64_t compact_bytes_per_second;   /* read and written by compaction, each shard; 0: as fast as it goes */
    uint64_t compact_batch_bytes;        /* the largest decompressed batch; 0: 64 MiB */
    uint32_t open_files_max;             /* file handles kept open, all shards together */
    bool direct;                         /* O_DIRECT works here (io_probe_direct) */
    bool has_peers;                      /* others have what is here: a journal, catalogue or varve.meta that is damaged is a lost disk */
    bool fsync_never;                    /* relaxed mode for tests of speed only; printed at start */
    uint32_t checkpoint_logs;            /* tests: so many logs does a checkpoint look at in a turn; 0: by the clock */
    bool check_cuts;                     /* tests: those encoded later are held against what they were at the cut */
    void (*failed)(void *ctx, enum err err, const char *what); /* the directory is latched */
    void *failed_ctx;
};

struct log_recovery {                    /* what opening found, for the start lines */
    bool fresh;                          /* the directory was empty */
    bool lost;                           /* what was in it was damaged and is put aside (has_peers) */
    bool clean;                          /* the last life ended with a clean stop */
    uint64_t journal_groups, journal_bytes;
    uint32_t logs, faulty_logs, stray_folders;
    int64_t elapsed_ns;
    uint64_t metadata_assigned;          /* metadata offset of the last ASSIGNED entry + 1; 0: none */
};

/* Locks, reads varve.meta and the catalogue, replays the journal (docs/storage.md, R1-R5). Blocks. On
 * failure `why` holds one sentence for the operator: what is wrong, where, what can be done.
 * ERR_BUSY: another process holds the directory. ERR_CORRUPT: damage below what was durable. With `has_peers` that is a lost disk
 * (votes may be gone): everything is moved to <dir>/damaged.<time>, and the directory begins anew, as another incarnation. */
MUST_CHECK enum err log_store_open(struct io *io, const struct log_store_config *cfg, struct log_store **out,
                                   struct log_recovery *rec, char *why, size_t why_len);
const struct uuid *log_store_cluster_id(const struct log_store *s);  /* made at first start */
/* The directory is to belong to another cluster than the one it was made for, as long as it has no logs. Durable on OK. Blocks;
 * shard 0's thread. */
MUST_CHECK enum err log_store_set_cluster_id(struct log_store *s, const struct uuid *id);
const struct uuid *log_store_incarnation(const struct log_store *s);

/* Hands shard `index` to its reactor: call once per shard, before any log of it is used, on the
 * thread that opened the store; the shard is then used only on the owner of `io`. */
struct log_shard *log_store_attach(struct log_store *s, uint32_t index, struct io *io, struct mailbox *mailbox, struct timers *timers);
/* By the group: all lives of one are on the same shard. */
static inline uint32_t log_shard_of(uint64_t plid, uint32_t shards) { return (uint32_t)(log_plid_group(plid) % shards); }
uint32_t log_store_shard_of(const struct log_store *s, uint64_t plid);
/* A group (a plid of life 0) that was never used in this directory. Shard 0's thread. */
uint64_t log_store_new_plid(struct log_store *s);
/* Metadata gave the group of `plid` to a log whose CREATE may not have become durable: it must not be given out again. Shard 0's thread. */
void log_store_plid_taken(struct log_store *s, uint64_t plid);

/* Clean stop: no more appends; checkpoints everything, writes Kafka's own checkpoint files, then
 * calls `done` on shard 0's thread. Every reactor must go on turning until then. */
void log_store_stop(struct log_store *s, void (*done)(void *ctx, enum err err), void *ctx);
/* Grows while files are brought up to the logs: whether a stop that takes long is getting on. Any thread. */
uint64_t log_store_progress(const struct log_store *s);
/* Frees everything; nothing may be in flight (after `done`, or never started, or simulated death). */
void log_store_close(struct log_store *s);

/* ---- the shard -------------------------------------------------------------------------- */

/* End of a reactor's turn: hands what was appended to the journal when it can take it. */
void log_shard_turn(struct log_shard *sh);
/* Iterates the logs of the shard in ascending plid. */
struct log *log_shard_first(struct log_shard *sh);
struct log *log_shard_next(struct log_shard *sh, struct log *l);
struct log *log_shard_by_plid(struct log_shard *sh, uint64_t plid); /* NULL: none */

/* How full the journal is (docs/storage.md): at SLOW read connections more slowly, at STOP appends of
 * records return ERR_AGAIN (ERR_NOSPACE when the disk is the cause) until `writable` is called. */
enum log_pressure { LOG_PRESSURE_NONE, LOG_PRESSURE_SLOW, LOG_PRESSURE_STOP };
enum log_pressure log_shard_pressure(const struct log_shard *sh);
/* Records of topics are refused because there is less free disk space than the reserve. */
bool log_shard_disk_full(const struct log_shard *sh);
/* What waits for the disk, 0: nothing that is worth a name: the group that is being written to the journal; or, while appends of records are
 * stopped for another reason than a full disk, what is not in files yet. Whoever sees the same number for long knows that the disk does
 * not answer. */
uint64_t log_shard_waiting(const struct log_shard *sh);
void log_shard_on_writable(struct log_shard *sh, void (*writable)(void *ctx), void *ctx);

/* Reads all segments of the shard again and again, to find what has rotted (log/scrub.h): so many bytes a second, a round
 * every `interval_ms` at most. Call once, after attach; 0 bytes: never. */
void log_shard_scrub(struct log_shard *sh, uint64_t bytes_per_second, int64_t interval_ms);
struct log_scrub_stats {                 /* since the start */
    uint64_t rounds, segments, bytes;
    uint64_t damages;                    /* ranges that were not known before */
    uint64_t unreadable;                 /* segments whose reading failed */
};
struct log_scrub_stats log_shard_scrub_stats(const struct log_shard *sh);

/* All CREATEs and DELETEs that metadata up to `metadata_end` (exclusive) asks for on this
 * shard have been started. */
void log_shard_assigned(struct log_shard *sh, uint64_t metadata_end);

/* ---- one partition ---------------------------------------------------------------------- */

struct log_config {                      /* Kafka's topic configs that storage needs */
    uint32_t segment_bytes;              /* 1 GiB */
    int64_t segment_ms;                  /* 7 days */
    uint32_t index_interval_bytes;       /* 4096 */
    uint32_t segment_index_bytes;        /* 10 MiB */
    int64_t producer_id_expiration_ms;   /* 1 day */
    bool cleanup_compact, cleanup_delete;/* cleanup.policy; neither: records stay for ever */
    int64_t retention_ms, retention_bytes;       /* -1: no limit */
    int64_t file_delete_delay_ms;
    int64_t delete_retention_ms;         /* tombstones: how long after they could first be dropped (KIP-534) */
    int64_t min_compaction_lag_ms, max_compaction_lag_ms; /* KIP-354 */
    uint32_t min_cleanable_ppm;          /* min.cleanable.dirty.ratio in millionths */
    bool internal;                       /* may use half of the disk reserve */
    bool whole_reserve;                  /* may use all of it: the metadata log, which says what is deleted (log_append.spares) */
};
void log_config_defaults(struct log_config *c);

struct log_spec {
    uint64_t plid;
    const char *topic;                   /* valid topic name: becomes the folder name; copied */
    int32_t partition;
    struct uuid topic_id;
    struct log_config config;
    int32_t first_epoch;                 /* > 0: the first marker (first_epoch, 0) goes in with the CREATE */
    const uint8_t *replica_config;       /* NULL: none yet; copied */
    uint32_t replica_config_len;
};

/* What this replica has promised in its newest epoch, which may be above that of the last marker. */
struct log_vote { int32_t epoch; bool has_voted; int32_t node; struct uuid incarnation; };

/* Called on the shard's thread whenever durable_end, durable_seq or what is durable of the epoch table moved, or the log failed. */
typedef void log_durable_fn(struct log *l, void *owner);
/* What is known of damage has changed (log/mend.h lists it). The log is in the middle of something: look, and act later. */
typedef void log_faulty_fn(struct log *l, void *owner);

/* Read-only outside log/. */
struct log {
    uint64_t plid;
    const char *topic;
    int32_t partition;
    struct uuid topic_id;
    int64_t start;                       /* log start offset */
    int64_t end;
    int64_t durable_end;
    int32_t epoch;                       /* last epoch in the table; with an empty table that of the base */
    int64_t epoch_start;                 /* where its marker lies; with an empty table the log start */
    int32_t base_epoch;                  /* of the record before `start`; 0: none. Also of those from `start` to the first marker */
    uint64_t seq, durable_seq;           /* of changes: log_set_seq() */
    struct log_vote vote;
    const uint8_t *replica_config;       /* NULL: none; the log's, opaque here */
    uint32_t replica_config_len;
    uint64_t generation;                 /* counts log_reset() */
    uint64_t size_bytes;                 /* of all batches in [start, end) */
    struct epochs epochs;
    struct producers producers;
    bool deleted, faulty;
    log_durable_fn *on_durable;          /* set by the server, like */
    log_faulty_fn *on_faulty;
    void *owner;
    struct log_shard *shard;
};

/* Journals CREATE (and the first marker). The log can be appended to at once; `created` runs when
 * that is durable. ERR_EXISTS: a live log of that topic and partition, or any of that plid. ERR_NOSPACE, ERR_IO. */
MUST_CHECK enum err log_create(struct log_shard *sh, const struct log_spec *spec, struct log **out,
                               void (*created)(struct log *l, void *ctx, enum err err), void *ctx);
/* Journals DELETE; the folder goes after it is durable. `l` may still be read until `deleted` runs, which is the
 * last use of it. Reads in flight finish first. */
void log_delete(struct log *l, void (*deleted)(void *ctx, enum err err), void *ctx);
void log_configure(struct log *l, const struct log_config *c);

/* What the log is made of. */
struct log_segment { int64_t base, end; uint64_t size_bytes; int64_t max_timestamp, created_ms; };
void log_storage(const struct log *l, uint32_t *segments, uint32_t *faulty_ranges);
void log_segments(const struct log *l, uint32_t n, struct log_segment *out);   /* the first `n`, if there are so many */

/* Append: the batch has passed batch_parse(), its CRC and the caller's checks. It is copied; the
 * copy gets its base offset and leader epoch. Producer rules: log/producers.h. */
struct log_append {
    /* in */
    const uint8_t *batch;
    const struct batch_header *header;
    int64_t now_ms;
    int64_t log_append_time_ms;          /* >= 0: re-stamp (LogAppendTime); -1: CreateTime */
    bool spares;                         /* leaves half of the disk reserve also where the log may use all of it */
    /* out */
    int64_t base_offset, last_offset;    /* of the original when `duplicate` */
    int64_t timestamp_ms;                /* log append time or -1; the original's when `duplicate` */
    bool duplicate;
};
/* OK: in memory, will be durable when durable_end > last_offset (also for a duplicate of a batch
 * that is not durable yet). ERR_SEQUENCE, ERR_FENCED: producer rules. ERR_TOO_LARGE: above
 * segment_bytes. ERR_AGAIN: no room in the journal now. ERR_NOSPACE. ERR_IO. ERR_CLOSED: deleted or stopping. */
MUST_CHECK enum err log_append(struct log *l, struct log_append *a);
/* A new leader epoch begins at `end` (a zero-length marker); `epoch` must be above the last one. */
MUST_CHECK enum err log_begin_epoch(struct log *l, int32_t epoch);
/* The segment that is being written is complete: another begins at the end. Nothing when it is empty. ERR_IO, ERR_CLOSED, ERR_NOMEM. */
MUST_CHECK enum err log_roll(struct log *l, int64_t now_ms);
/* Moves the log start to `offset` (start <= offset <= durable_end); `done` (may be NULL) when durable. */
MUST_CHECK enum err log_set_start(struct log *l, int64_t offset, void (*done)(struct log *l, void *ctx, enum err err), void *ctx);
/* Whether it may be moved now. A checkpoint may wait for a LOGSTART to be durable, so what has joined has the journal's reserve to go to, and
 * whoever lets clients move starts asks before: otherwise they could use it up, and nothing would become free any more. When it may
 * again, `writable` is called. Always true of a log that may use the whole reserve of the disk: no client moves its start. */
bool log_start_room(struct log *l);
/* Cuts the log to `offset` (start <= offset <= end) and drops epochs above `epoch` (docs/replication.md 2). A barrier: durable
 * before any file of the log changes; what is appended behind it may follow at once. */
MUST_CHECK enum err log_truncate(struct log *l, int32_t epoch, int64_t offset);

/* ---- a replica's log (docs/replication.md 3) ----------------------------------------------
 * Everything below goes into the journal in the order of the calls, as do markers, records, starts and truncations. If one of them
 * fails, but for want of room and damage of what was handed in, the directory is latched or memory is out: nobody goes on with a
 * log that is behind. */

/* All that was entered for this log until now is change `seq`, which grows. When the slice of the journal that holds it is durable,
 * durable_seq is `seq` and on_durable runs: once for each slice, from the loop, also when everything was durable already. */
void log_set_seq(struct log *l, uint64_t seq);
MUST_CHECK enum err log_set_vote(struct log *l, const struct log_vote *v);
MUST_CHECK enum err log_set_replica_config(struct log *l, const uint8_t *data, uint32_t len);   /* copied */
/* Room for `bytes` of records and a few other entries: when OK, appending copies of so many bytes in this turn fails only with the
 * directory. ERR_AGAIN, ERR_NOSPACE (`writable` will be called), ERR_CLOSED, ERR_IO. */
MUST_CHECK enum err log_room(struct log *l, uint32_t bytes);
/* The largest batch that a group of the journal holds. */
uint32_t log_batch_max(const struct log *l);
/* Batches as the leader has them: base offsets and epochs stay. Each continues the log, at its end or behind it (compaction leaves
 * gaps), and is of `epoch`, which is the log's last. ERR_CORRUPT: a length, CRC, offset or epoch is wrong, and nothing was appended.
 * ERR_TOO_LARGE: a batch fits no group of the journal. Producers follow; segment_bytes bounds no batch here. */
MUST_CHECK enum err log_append_copies(struct log *l, int32_t epoch, const uint8_t *batches, size_t len, int64_t now_ms);
/* Discards everything: the log is empty, of the next generation, and begins at `offset`; the record before it was of `base_epoch`.
 * `producers`: what log_producers_below() gave on the replica that has what is discarded; NULL: none are known. ERR_CORRUPT: not
 * what that gives. A barrier like log_truncate(). */
MUST_CHECK enum err log_reset(struct log *l, int32_t base_epoch, int64_t offset, const uint8_t *producers, size_t len);
/* Idempotent producers as of `offset`, as far as their windows reach back, malloc'ed; at most LOG_PRODUCERS_BYTES_MAX: above that
 * those that wrote last. ERR_NOMEM. */
#define LOG_PRODUCERS_BYTES_MAX (512u * 1024)
MUST_CHECK enum err log_producers_below(const struct log *l, int64_t offset, uint8_t **out, size_t *len);

/* Read whole batches from the one that contains `offset`, up to `max_offset` (exclusive: batches that
 * begin at or after it are not returned) and `max_bytes`; the first batch is returned whole
 * even if larger when `min_one`. Every batch was checked (CRC, offsets, epoch) on its way from a file. */
#define LOG_READ_SLICES 32
struct log_read {
    /* in */
    int64_t offset, max_offset;
    uint32_t max_bytes;
    bool min_one;
    bool skip_empty;                     /* begin behind batches that compaction emptied, unless nothing else is there */
    void (*done)(struct log_read *r);
    void *owner;
    /* out */
    enum err err;                        /* OK (perhaps 0 bytes), ERR_RANGE, ERR_CORRUPT (faulty range), ERR_IO, ERR_NOMEM, ERR_CLOSED */
    struct slice slices[LOG_READ_SLICES];/* references; log_read_release() drops them */
    uint32_t slice_count, bytes;
    int64_t next_offset;                 /* one past the last record returned */
    /* private */
    struct log *log;
    void *state;
};
/* Returns true when finished at once (from memory): `done` is then not called. Otherwise `done`
 * runs later. Reads of one log may overlap. */
MUST_CHECK bool log_read(struct log *l, struct log_read *r);
void log_read_release(struct log_read *r);
/* How many bytes a read from `offset` to `max_offset` would find, an estimate that never exceeds
 * `cap` and is exact in the tail; no I/O. For fetch planning (min_bytes). */
uint64_t log_bytes_between(const struct log *l, int64_t offset, int64_t max_offset, uint64_t cap);

/* The first record with timestamp >= `timestamp` below `max_offset`, or the record with the largest timestamp. */
struct log_find {
    /* in */
    int64_t timestamp;
    bool max_timestamp;
    int64_t max_offset;
    size_t max_decompressed_bytes;
    void (*done)(struct log_find *f);
    void *owner;
    /* out */
    enum err err;                        /* OK, ERR_NOT_FOUND, ERR_CORRUPT, ERR_IO, ERR_NOMEM, ERR_CLOSED */
    int64_t found_offset, found_timestamp;
    int32_t found_epoch;
    /* private */
    struct log *log;
    void *state;
};
MUST_CHECK bool log_find(struct log *l, struct log_find *f); /* true: finished at once */
#endif
