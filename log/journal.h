/* journal.h - the commit journal of a data directory: the only thing that makes anything durable.
 *
 * Format and rules: docs/storage.md. This layer knows groups, pieces, the catalogue, levels and
 * checkpoints; it does not know what entries mean. Shards (log/shard.h) fill slices with entries
 * and submit them; the journal joins slices to groups, writes each group with one O_DIRECT|DSYNC
 * write (several in parallel above 768 KiB), and reports slices durable strictly in group order.
 *
 *   shard                                journal (reactor 0)
 *     journal_submit(slice)   -- mail ->   queue; group; write
 *     slice->done             <- mail --   durable (every earlier group is too), or err
 *     ops->checkpoint_cut     <- mail --   live bytes passed 1/2, or asked to
 *     journal_submit(cut slice) -- mail -> the cut slices of all shards end group S
 *     ops->checkpoint_flush   <- mail --   S is durable: write and sync files up to S
 *     journal_checkpoint_flushed(states) -- mail -> catalogue: states, footer, fdatasync
 *     ops->checkpoint_done    <- mail --   pieces up to S are free; W may move
 *
 * A shard has one unfinished small slice at a time (it keeps filling the next one meanwhile, and
 * submits it at once when it is full): that is what makes groups without timers.
 * One slice alone becomes its group's buffer in place (its headroom takes the group header): the same
 * memory is the tail that readers use. Further slices of a group are copied behind the first.
 *
 * Threads: the journal lives on reactor 0; functions marked "any" may be called by any shard. */
#ifndef LOG_JOURNAL_H
#define LOG_JOURNAL_H
#include "base/buf.h"
#include "base/err.h"
#include "base/io.h"
#include "base/mailbox.h"
#include "base/timers.h"

#define JOURNAL_GROUP_HEADER_BYTES 80u   /* see journal.c for the layout; a multiple of 8 */
#define JOURNAL_GROUP_BYTES (512u * 1024)
#define JOURNAL_ENTRY_HEAD_BYTES 16u
#define JOURNAL_PLID_GROUP ((UINT64_C(1) << 40) - 1) /* these bits of a plid are given out, the others are their user's */

enum entry_type {
    ENTRY_RECORDS = 1, ENTRY_DIRECT, ENTRY_IMAGE, ENTRY_MARKER, ENTRY_VOTE, ENTRY_CONFIG, ENTRY_TRUNCATE,
    ENTRY_LOGSTART, ENTRY_ROLL, ENTRY_SWAP, ENTRY_RESET, ENTRY_CREATE, ENTRY_DELETE, ENTRY_ASSIGNED
};

/* Where a byte lies: file of the journal and offset in it. */
struct journal_pos { uint32_t piece, offset; };

struct journal;

struct journal_slice {
    struct mail mail;
    struct buf *buf;              /* 4096-aligned; one reference owned by the slice until `done` returns */
    uint32_t used;                /* bytes, headroom included; starts at JOURNAL_GROUP_HEADER_BYTES */
    uint32_t entries;
    uint32_t shard;
    bool cut;                     /* last slice before a checkpoint; may hold no entry */
    bool urgent;                  /* holds other than RECORDS/DIRECT (set by journal_slice_add): may use the space above
                                     7/8 (cut slices and what a checkpoint may wait for: the reserve) */
    void (*done)(struct journal_slice *s);  /* on the shard's thread, in the order of submission */
    void *owner;
    struct journal *journal;      /* set by journal_slice_init, like `limit` */
    uint32_t limit;               /* JOURNAL_GROUP_BYTES; less where pieces are small */
    /* out */
    enum err err;                 /* OK: durable. ERR_IO: never will be, and nothing after it */
    uint64_t seq;                 /* group */
    struct journal_pos pos;       /* of the byte at slice offset JOURNAL_GROUP_HEADER_BYTES; the rest follows it */
};
/* A fresh, empty slice; sets everything except `done` and `owner`. ERR_NOMEM. Any thread. The journal drops the slice's
 * reference to `buf` after `done` has returned (which may have re-initialised or freed the slice); a slice that
 * is not submitted is given up with buf_unref(s->buf). */
MUST_CHECK enum err journal_slice_init(struct journal_slice *s, struct journal *j, uint32_t shard);
/* Adds an entry: writes its head, zeroes its padding, returns where `header_len` bytes of header followed by
 * `body_len` bytes of body go (8-aligned), NULL with `*err` ERR_FULL (it holds something and would pass `limit`: submit
 * it and use another), ERR_NOMEM or ERR_TOO_LARGE (journal_body_max). The pointer is valid until the next add: the
 * buffer may move while the slice is open, so keep offsets. */
uint8_t *journal_slice_add(struct journal_slice *s, enum entry_type type, uint8_t flags, uint64_t plid, uint32_t header_len,
                           uint32_t body_len, enum err *err);
/* Largest body that fits any piece: bounds max.message.bytes. */
uint32_t journal_body_max(const struct journal *j);

struct journal_entry {
    enum entry_type type;
    uint8_t flags;
    uint64_t plid;
    uint64_t seq;
    struct journal_pos pos;       /* of the entry's body */
    const uint8_t *header, *body;
    uint32_t header_len, body_len;
};

struct journal_shard_ops {        /* all run on the shard's thread */
    void (*checkpoint_cut)(void *ctx);           /* submit a slice with cut = true; remember the states as of it */
    void (*checkpoint_flush)(void *ctx, uint64_t seq);   /* S; end with journal_checkpoint_flushed() */
    void (*checkpoint_done)(void *ctx, enum err err);    /* not after `failed` */
    void (*pressure)(void *ctx);                 /* the level changed: journal_pressure() */
    void (*failed)(void *ctx, enum err err);     /* the directory is latched */
};

/* State of one log for the catalogue: opaque here. A NULL data removes the plid. Plids from 2^63 on are never given
 * out: a shard may keep states of its own under them. */
struct journal_state { uint64_t plid; uint8_t *data; uint32_t len; };
/* Malloc'ed array of malloc'ed states; the journal takes both over and sets `v` to NULL when it has. The struct stays
 * the shard's; it may be used again after checkpoint_done. */
struct journal_states {
    struct mail mail;
    struct journal_state *v;
    uint32_t count, shard;
    enum err err;
    struct journal *journal;      /* set by journal_checkpoint_flushed */
};

struct journal_config {
    const char *dir;              /* the data directory; pieces in <dir>/journal-<index>/ */
    uint32_t index, set;
    uint64_t bytes;               /* all pieces together; at most an eighth of the file system is used, at least 4 pieces */
    uint32_t piece_bytes;         /* of a new journal, smaller where that is needed; an old one keeps its own */
    uint32_t depth, shards;
    uint64_t disk_reserve_bytes;
    bool direct, fsync_never;
    bool must_exist;              /* varve.meta names this journal: a missing one is damage, not a first start */
    void (*failed)(void *ctx, enum err err, const char *what);
    void *ctx;
};
struct journal_replay {           /* called during journal_open, synchronously, in order */
    void *ctx;
    enum err (*state)(void *ctx, uint64_t plid, const uint8_t *data, uint32_t len);  /* newest of each live plid, ascending */
    enum err (*entry)(void *ctx, const struct journal_entry *e);                     /* all after the checkpoint */
};
struct journal_recovery {
    bool fresh, clean;
    uint64_t groups, bytes, next_plid, checkpoint_seq, last_seq;
};
/* R1-R4 of recovery and the START group; blocks. ERR_CORRUPT: damage where durability was claimed. `why`: one sentence. */
MUST_CHECK enum err journal_open(struct io *io, const struct journal_config *cfg, const struct journal_replay *h,
                                 struct journal **out, struct journal_recovery *rec, char *why, size_t why_len);
void journal_attach(struct journal *j, struct io *io, struct mailbox *mailbox, struct timers *timers);   /* reactor 0 */
void journal_attach_shard(struct journal *j, uint32_t shard, struct mailbox *mailbox, const struct journal_shard_ops *ops,
                          void *ctx);
void journal_submit(struct journal *j, struct journal_slice *s);          /* any */
/* R5 rewrites file blocks before the reactors run, and must journal IMAGEs first (S3): writes the slice as one
 * group and waits until it is durable. Only between journal_open and journal_attach. `done` is not called, the
 * buffer stays the caller's; seq and pos are set. */
MUST_CHECK enum err journal_write_now(struct journal *j, struct journal_slice *s);
void journal_checkpoint_flushed(struct journal *j, struct journal_states *states);  /* any; err != OK latches */
/* Starts a checkpoint, or another right after the one that runs. `done` (may be NULL) on reactor 0 when a
 * checkpoint that began after this call is complete. */
void journal_checkpoint(struct journal *j, bool clean_stop, void (*done)(void *ctx, enum err err), void *ctx);
/* fd of a piece for reading back pending bytes (opened O_DIRECT when `direct`): any. */
int journal_fd(const struct journal *j, uint32_t piece);
/* 0 none, 1 slow (3/4), 2 stop (7/8), 3 stop because the disk is full: any; a relaxed atomic. */
int journal_pressure(const struct journal *j);
/* The same for who may use more of the disk: `reserve_bytes` instead of disk_reserve_bytes stays free. */
int journal_pressure_within(const struct journal *j, uint64_t reserve_bytes);
/* The journal is so full that log starts, of which clients can ask for any number, must not take more of it: any; a relaxed atomic. */
bool journal_starts_wait(const struct journal *j);
/* Free disk space less what is pending, one catalogue and what the journal may still grow, for those that may go below the reserve: any. */
int64_t journal_disk_room(const struct journal *j);
/* The oldest group that is on its way to the disk, 0: none; the same again and again: the disk does not answer. Any; a relaxed atomic. */
uint64_t journal_writing(const struct journal *j);
/* What shards hold pending (not yet in files), for the disk reserve: any; atomic add. */
void journal_pending_add(struct journal *j, int64_t bytes);
void journal_pending_written(struct journal *j, int64_t bytes); /* pending bytes are in files now */
/* Disk space that logs will need for more than their pending bytes (log/space.c): any; what is no longer owed counts as
 * taken until the disk is looked at. */
void journal_owed_add(struct journal *j, int64_t bytes);
uint64_t journal_pending_bytes(const struct journal *j);           /* of all shards */
uint64_t journal_live_bytes(const struct journal *j);
uint64_t journal_new_plid(struct journal *j);   /* reactor 0; never used before in this directory, survives crashes */
void journal_plid_taken(struct journal *j, uint64_t plid); /* reactor 0: in use though no entry here names it yet */
/* Shard 0, after the last checkpoint: nothing is written any more that nobody asks for. True: nothing is under way either, so that it may
 * be closed. */
bool journal_rest(struct journal *j);
void journal_close(struct journal *j);
#endif
