/* shard.h - what one reactor owns of a store; private to log/.
 *
 * Entries go into the open slice in the order in which the logs change in memory. What is to happen
 * when they are durable is kept beside them as effects, which run, in the same order, when the
 * journal hands the slice back. A slice that holds batches then stays as memory of the tails of its
 * logs until the budget needs it; the oldest goes first, so a log's evicted entries come first, too. */
#ifndef LOG_SHARD_H
#define LOG_SHARD_H
#include <protobuf-c/protobuf-c.h>
#include "log/files.h"
#include "log/impl.h"

enum effect_kind {
    EFFECT_APPEND, EFFECT_MARKER, EFFECT_CREATE, EFFECT_DELETE, EFFECT_START, EFFECT_TRUNCATE, EFFECT_ROLL, EFFECT_IMAGE,
    EFFECT_ASSIGNED, EFFECT_SWAP, EFFECT_SEQ,
    EFFECT_RESET
};
struct effect {
    enum effect_kind kind;
    struct log_impl *log;           /* NULL: ASSIGNED; SEQ of a log that is being deleted */
    int64_t offset;                 /* APPEND: end; START: log start; TRUNCATE: end; SWAP: base of the new segment */
    struct place place;             /* TRUNCATE */
    uint64_t cuts;                  /* TRUNCATE, RESET: checkpoints begun before it */
    uint64_t swap_id;               /* SWAP */
    uint64_t seq;                   /* SEQ */
    uint32_t bytes;                 /* APPEND: of batches; START, TRUNCATE, RESET, SWAP: dropped_total */
    void (*done)(struct log *l, void *ctx, enum err err);   /* CREATE, START; may be NULL */
    void *ctx;
};

struct shard_slice {
    struct journal_slice s;
    struct log_shard *shard;
    struct list link;               /* in shard->submitted, then shard->tails */
    uint64_t serial;
    bool durable;
    struct buf *memory;             /* from `done` on */
    struct effect *effects;
    uint32_t effect_count, effect_cap;
    uint64_t *plids;                /* room for effect_cap; from `done` on: logs with tail entries here */
    uint32_t plid_count;
};
static inline struct buf *shard_slice_buf(const struct shard_slice *ss) { return ss->memory ? ss->memory : ss->s.buf; }
static inline struct journal_pos shard_slice_pos(const struct shard_slice *ss, uint32_t offset) {
    return (struct journal_pos){ss->s.pos.piece, ss->s.pos.offset + offset - JOURNAL_GROUP_HEADER_BYTES};
}

struct scrub;
struct checkpoint_log {
    struct log_impl *log;
    struct journal_state state;
    bool remove;
    uint8_t *expected;              /* log_store_config.check_cuts: the state as it was in the turn of the cut */
    uint32_t expected_len;
};
struct checkpoint {
    bool active, flushing;
    bool durable;                   /* S is, which is group `seq` */
    bool sync_all;                  /* the file system as a whole, not file by file */
    uint64_t seq;
    struct checkpoint_log *v;
    uint32_t count, waiting;
    uint32_t taken;                 /* the first so many logs are encoded; of the others those that have changed since the cut */
    uint32_t wanted;                /* the first so many logs have been given to the writers */
    bool done, cut_due;             /* the footer is durable; the next checkpoint waits */
    uint32_t finished;              /* of the first so many logs W has moved */
    uint32_t with_files;
    uint64_t *removed;              /* plids of logs that are gone already */
    uint32_t removed_count;
    struct journal_states *states;  /* on their way to the catalogue */
};

/* Where a reader that goes on from `offset` finds it: saves the index look-up. */
struct read_hint { uint64_t plid; int64_t offset; struct place place; };
enum { READ_HINTS = 256, WRITERS_MAX = 16, SYNC_ALL_LOGS = 12, UNLINKS_MAX = 4 };

struct log_shard {
    struct log_store *store;
    uint32_t index;
    struct io *io;
    struct mailbox *mailbox;
    struct timers *timers;
    struct journal *journal;
    enum err failed;                /* latched */
    bool stopping;

    struct log_impl **logs;         /* ascending plid */
    uint32_t log_count, log_cap;
    struct log_impl **names;        /* hash chains of those that are not deleted, by folder */
    uint32_t name_slots, name_count;

    struct shard_slice *open;       /* NULL: none */
    uint64_t next_serial;
    struct list submitted;          /* oldest first */
    uint32_t submitted_count;
    uint64_t submitted_bytes;
    struct list tails;              /* oldest first */
    uint64_t tail_bytes, tail_bytes_max;
    uint64_t pinned_bytes;          /* gone from the tails, but lent to readers that have not given it back */

    struct log_impl **dirty;        /* logs changed since the last cut; room for all of them */
    uint32_t dirty_count;
    uint64_t *removed;              /* plids deleted since the last cut whose memory is gone */
    uint32_t removed_count, removed_cap;
    uint64_t cuts;                  /* checkpoints begun: an IMAGE counts only within its own */
    struct checkpoint checkpoint;
    struct timer checkpoint_timer;  /* the next slice of it */

    struct files files;
    struct list work;               /* logs that wait for a writer */
    struct list waiting;            /* and those that wait for `retry` first */
    struct seg_writer *writers[WRITERS_MAX];
    uint32_t writers_busy, writers_max; /* a writer needs up to WRITER_FILES descriptors */
    bool working;                   /* in shard_work() */
    struct timer more_work;         /* the next slice of it */
    bool dir_unsynced;              /* folders were made or renamed */
    struct list unlinks;            /* deleted folders that are being emptied, and behind them those that wait */
    uint32_t unlinks_busy;          /* so many of the first, at most UNLINKS_MAX */
    struct io_op sync_op;           /* of a checkpoint of many logs: */
    uint32_t sync_all_logs;         /* so many at least */
    struct timer retry;             /* of writers that wait for a folder's name or for disk space */
    bool disk_full;                 /* said so; until a write succeeds */
    struct compactor *compactor;    /* NULL: none was needed yet */
    struct list reads, finds, checks; /* under way */
    struct read_hint hints[READ_HINTS];
    struct scrub *scrub;            /* owned */

    void (*writable)(void *ctx);
    void *writable_ctx;
    bool stopped_appends;           /* an append was refused since the last `writable` */
    struct mail mail;               /* store to shard: stop, export */
    struct mail reply;
    struct timer stop_timer;        /* polls for idle writers before the export */
};

MUST_CHECK enum err shard_init(struct log_shard *sh, struct log_store *store, uint32_t index);
void shard_attach(struct log_shard *sh, struct io *io, struct mailbox *mailbox, struct timers *timers);
void shard_free(struct log_shard *sh);

struct log_impl *shard_find(struct log_shard *sh, uint64_t plid);
struct log_impl *shard_from(struct log_shard *sh, uint64_t plid);             /* the first at or behind; NULL: none */
struct log_impl *shard_find_name(struct log_shard *sh, const char *folder);   /* not those that are being deleted */
void shard_forget_name(struct log_shard *sh, struct log_impl *l);             /* harmless when repeated */
MUST_CHECK enum err shard_add_log(struct log_shard *sh, struct log_impl *l);   /* ERR_NOMEM */
void shard_remove_log(struct log_shard *sh, struct log_impl *l);               /* from the list; memory stays */
/* Frees a deleted log when nothing refers to it any more. */
void shard_release_log(struct log_shard *sh, struct log_impl *l);

/* Room for an entry in the open slice; where header and body go. NULL: ERR_NOMEM. `*at` is the body's offset in the
 * open slice. */
uint8_t *shard_entry(struct log_shard *sh, enum entry_type type, uint64_t plid, uint32_t header_len, uint32_t body_len, uint32_t *at,
                     enum err *err);
/* An entry whose body is a message. ERR_NOMEM. */
MUST_CHECK enum err shard_message(struct log_shard *sh, enum entry_type type, uint64_t plid, const ProtobufCMessage *m);
/* Whether records can be taken now: OK, ERR_AGAIN, ERR_NOSPACE (both: `writable` will be called), ERR_IO, ERR_CLOSED. */
MUST_CHECK enum err shard_room(struct log_shard *sh, const struct log_config *c, uint32_t bytes);
/* What a log with this configuration must leave free on the disk. */
uint64_t shard_reserve(const struct log_shard *sh, const struct log_config *c);
/* What happens when the entry just added is durable. Reserve first: it cannot fail then. */
MUST_CHECK enum err shard_effect_reserve(struct log_shard *sh);
struct effect *shard_effect(struct log_shard *sh, enum effect_kind kind, struct log_impl *l);
/* Counts a batch that was just added to the open slice towards the log's APPEND effect. */
void shard_effect_append(struct log_shard *sh, struct log_impl *l, uint32_t bytes);
/* The log's changes up to `seq` are durable with the open slice: one effect for each log and slice. ERR_NOMEM. */
MUST_CHECK enum err shard_effect_seq(struct log_shard *sh, struct log_impl *l, uint64_t seq);
/* The log is being deleted with the open slice, and gone when its last effect could run. */
void shard_effect_seq_void(struct log_shard *sh, struct log_impl *l);
void shard_submit(struct log_shard *sh, bool cut);

void shard_stop_timer(struct timer *t);
/* The directory is latched: nothing more is acknowledged. */
void shard_fail(struct log_shard *sh, enum err err, const char *what);
void shard_evict(struct log_shard *sh);

void shard_pressure_changed(struct log_shard *sh);
void shard_failed(struct log_shard *sh, enum err err);   /* by the journal */

/* checkpoint.c: the shard's side of a checkpoint (log/journal.h draws it). */
extern const struct journal_shard_ops shard_journal_ops;
/* The log's files hold what the checkpoint wants, synced; or it is gone. */
void checkpoint_log_flushed(struct log_shard *sh, struct log_impl *l);
void checkpoint_free(struct log_shard *sh);
void checkpoint_timer(struct timer *t);

/* compactor.c: for a store that is closed. */
bool compactor_busy(const struct log_shard *sh);
void compactor_free(struct log_shard *sh);

/* read.c: what was known of places in the log's files is not so any more. */
void read_hints_forget(struct log_shard *sh, uint64_t plid);
/* read.c, find.c, check.c: forget what is under way, for a store that is closed with the node down. */
void reads_free(struct log_shard *sh);
void finds_free(struct log_shard *sh);
void checks_free(struct log_shard *sh);

/* writer.c: brings the files of a log up to what is asked: checkpoint, roll, truncation, deletion, or much pending. */
enum { WRITE_BYTES = 512 * 1024 };
void writer_want(struct log_impl *l);
void shard_work(struct log_shard *sh);        /* starts writers for logs that wait */
void writer_image_durable(struct log_impl *l);
bool writer_needs_folder(const struct log_impl *l);
void writers_free(struct log_shard *sh);
#endif
