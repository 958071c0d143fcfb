/* journal_impl.h - what the files of the journal share; private to journal*.c.
 *
 *   journal.c             slices to groups, groups to disk, completions in order
 *   journal_slice.c       filling a slice
 *   journal_pieces.c      piece files: making, choosing, freeing them
 *   journal_space.c       levels, pressure, free disk space
 *   journal_checkpoint.c  the conversation with the shards, and the catalogue
 *   journal_recover.c     opening: R1 to R4
 *   journal_format.c      the bytes
 *
 * Everything here belongs to the journal's reactor, except what is atomic. */
#ifndef LOG_JOURNAL_IMPL_H
#define LOG_JOURNAL_IMPL_H
#include <stdatomic.h>
#include "log/catalog.h"
#include "log/journal.h"
#include "log/journal_format.h"

/* Largest single write: from 1 MiB on they leave the fast path of the kernel. More than JOURNAL_GROUP_BYTES, since each
 * write flushes the device: a batch of 512 KiB and its headers must not take a second one. */
#define JOURNAL_WRITE_BYTES (768u * 1024)
#define JOURNAL_PIECES_MIN 4u                 /* the head's, the reserved one, and two to fill while a checkpoint runs */
#define JOURNAL_PIECE_BYTES_MIN (64u * 1024)
/* Slices that wait for the disk: beyond so many full groups the shards slow down, then stop. At 500 MB/s a
 * queue of 16 is worked off in 17 ms. */
#define JOURNAL_QUEUE_SLOW_GROUPS 16u
#define JOURNAL_QUEUE_STOP_GROUPS 64u
#define JOURNAL_PIECES_EXTRA 8u               /* slots beyond the limit, for what must not fail for want of a piece */
#define JOURNAL_IDLE_NS (100 * INT64_C(1000000))
#define JOURNAL_QUIET_NS (250 * INT64_C(1000000))      /* without new entries: files may catch up */
#define JOURNAL_AGE_NS (30000 * INT64_C(1000000))      /* files lag behind at most about so long */
#define JOURNAL_SPACE_NS (250 * INT64_C(1000000)) /* free disk space is looked at this often while there is work */
#define JOURNAL_RETRY_NS (1000 * INT64_C(1000000)) /* after a full disk */

/* ---- pieces -------------------------------------------------------------------------------- */

enum piece_state { PIECE_ABSENT, PIECE_MAKING, PIECE_FREE, PIECE_USED };
struct piece {
    int fd;                        /* -1 when absent */
    enum piece_state state;
    uint64_t last_seq;             /* of a used one: its highest group */
    uint32_t bytes;                /* of the file, as recovery found it: a smaller one was never finished, or not durably */
};

/* Who may use how much of the journal. */
enum space_class {
    SPACE_RECORDS,                 /* up to 7/8 */
    SPACE_URGENT,                  /* the last eighth too */
    SPACE_RESERVE                  /* the reserved piece too: cut slices and what a checkpoint may wait for, or nothing becomes free */
};
enum placing { PLACE_HERE, PLACE_LINK, PLACE_BLOCKED };

/* ---- groups -------------------------------------------------------------------------------- */

struct group;
struct group_write { struct io_op op; struct iovec iov; struct group *group; };

/* A FIFO of slices, linked through their mails, which nobody else uses meanwhile. */
struct slice_queue { struct journal_slice *head, *tail; uint64_t bytes; uint32_t count; };

struct group {
    struct group *next;            /* in flight, ascending seq */
    struct journal *journal;
    uint64_t seq;
    struct slice_queue slices;
    struct buf *own;               /* memory of a LINK, an IDLE or joined slices; NULL: the first slice's */
    bool counts;                   /* toward the depth: a LINK does not */
    bool complete;
    enum err err;
    uint32_t writes_pending;
    struct group_write first;
    struct group_write *more;      /* of a group above JOURNAL_WRITE_BYTES; malloc'ed */
};

/* ---- shards and checkpoints ------------------------------------------------------------------ */

struct shard_port {
    struct journal *journal;
    struct mailbox *mailbox;       /* NULL: not attached */
    const struct journal_shard_ops *ops;
    void *ctx;
    struct mail cut_mail, flush_mail, done_mail, pressure_mail, failed_mail;
    atomic_bool pressure_posted;
    bool cut;                      /* its cut slice of the running checkpoint is here: what follows is held */
    bool blocked;                  /* while a group is formed: an earlier slice of it must wait for space */
    uint64_t flush_seq;
    uint32_t posted;               /* slices on their way to a shard of this reactor by mail */
};

struct checkpoint_waiter {
    struct checkpoint_waiter *next;
    void (*done)(void *ctx, enum err err);
    void *ctx;
    bool clean_stop;
};

enum checkpoint_phase {
    CHECKPOINT_NONE,
    CHECKPOINT_CUTTING,            /* shards end their slices; C1 */
    CHECKPOINT_SEALED,             /* group S is submitted */
    CHECKPOINT_FLUSHING,           /* S is durable; shards write files; C2 */
    CHECKPOINT_COMMITTING          /* states and footer go to the catalogue; C3 */
};
struct journal_ck {
    enum checkpoint_phase phase;
    uint32_t cuts_missing;         /* cut slices that are in no group yet */
    uint32_t flushes_missing;
    uint64_t seq;                  /* S */
    struct journal_pos next;       /* behind it */
    uint64_t chain, chain_bytes;
    bool clean_stop;
    bool committing;               /* the catalogue is at work */
    struct journal_state *states;  /* of all shards */
    uint32_t state_count;
    struct checkpoint_waiter *waiters, *next_waiters;
};

/* ---- the journal ------------------------------------------------------------------------------ */

struct journal {
    struct journal_config cfg;     /* dir is a copy */
    struct io *io;
    struct mailbox *mailbox;
    struct timers *timers;
    char *folder;
    uint32_t piece_bytes;          /* as the catalogue says; the configured size is for new journals */
    uint32_t group_bytes;          /* slices join up to this */
    uint64_t seed, salt;

    struct piece *pieces;
    uint32_t piece_slots, piece_limit, piece_count, free_count, used_count;

    struct journal_pos head;       /* where the next group goes; at least one block of the piece is left */
    uint64_t next_seq, chain;
    uint64_t durable_seq;
    uint64_t claimed_seq;          /* durable_seq as the newest group on its way to disk states it */
    uint64_t content_seq;          /* newest group with entries */
    uint64_t chain_bytes;          /* the journal's length from its first block, unused ends of pieces included */
    uint64_t replay_bytes;         /* chain_bytes at the replay start */
    uint64_t checkpoint_seq;       /* S of the last completed checkpoint */
    _Atomic uint64_t live_bytes;

    struct slice_queue queue;      /* to be written, in order of arrival */
    struct slice_queue held;       /* of shards that have cut already */
    struct group *in_flight, *in_flight_tail;
    uint32_t in_flight_count;      /* without LINKs */
    _Atomic uint64_t writing;      /* seq of in_flight; 0: none */
    struct group *spare_groups;
    struct buf *spare_buf;
    struct slice_queue done;       /* to be reported */
    bool completing;               /* inside group_written: reports and pumps by itself */
    enum err err;                  /* latched */

    struct shard_port *shards;
    uint32_t shards_attached;
    struct journal_ck ck;
    struct catalog catalog;
    _Atomic uint64_t next_plid;

    struct { struct io_op op; struct iovec iov; struct buf *zeros; uint32_t piece, offset; bool active, failed; } maker;
    struct timer idle_timer, space_timer, retry_timer, quiet_timer;
    uint64_t idle_mark;            /* next_seq when the idle timer was set */
    uint64_t quiet_mark;           /* content_seq when the quiet timer was set */
    int64_t uncovered_ns;          /* since when there are entries that no checkpoint covers */
    bool space_blocked;            /* something waits that only a checkpoint can help */
    bool piece_blocked;            /* something waits for a piece that is being made or soon will be */
    bool reserve_blocked;          /* something waits that even the limit must not stop */
    atomic_int pressure, capacity_level; /* the second: without the disk */
    atomic_bool starts_wait;
    _Atomic int64_t pending_bytes; /* of all shards, not yet in files */
    _Atomic int64_t owed_bytes;    /* what files will need beside those */
    _Atomic int64_t free_bytes;    /* of the disk, when last seen, less what was written since */
    _Atomic uint64_t catalog_bytes;
    _Atomic uint64_t unmade_bytes; /* of pieces that may still be made: their disk space is not for records */
};

static inline struct journal_slice *slice_of_mail(struct mail *m) {
    return m != NULL ? CONTAINER_OF(m, struct journal_slice, mail) : NULL;
}
static inline struct journal_slice *slice_next(const struct journal_slice *s) { return slice_of_mail(s->mail.next); }
static inline void slice_push(struct slice_queue *q, struct journal_slice *s) {
    s->mail.next = NULL;
    if (q->tail != NULL) q->tail->mail.next = &s->mail;
    else q->head = s;
    q->tail = s;
    q->bytes += s->used - JOURNAL_GROUP_HEADER_BYTES;
    q->count++;
}
static inline struct journal_slice *slice_pop(struct slice_queue *q) {
    struct journal_slice *s = q->head;
    if (s == NULL) return NULL;
    q->head = slice_next(s);
    if (q->head == NULL) q->tail = NULL;
    q->bytes -= s->used - JOURNAL_GROUP_HEADER_BYTES;
    q->count--;
    s->mail.next = NULL;
    return s;
}

/* journal.c */
void journal_pump(struct journal *j);                   /* submits what may be submitted */
void journal_fail(struct journal *j, enum err err, const char *what); /* latches; once */
/* Seals the group at `data` (g->bytes set) with seq, chain and so on, and moves the head behind it; `next` is the
 * LINK's target or UINT32_MAX. */
void journal_seal_next(struct journal *j, uint8_t *data, struct journal_group *g, uint32_t next);
/* Copies `s` behind the `*used` bytes at `data`. */
void journal_join(uint8_t *data, uint32_t *used, const struct journal_slice *s);

/* journal_pieces.c */
void journal_piece_path_of(const struct journal *j, uint32_t piece, char *out, size_t len);
int journal_piece_open(struct journal *j, uint32_t piece, bool create);  /* fd or negative errno */
MUST_CHECK enum err journal_piece_make_now(struct journal *j, uint32_t *piece); /* blocks: start only */
uint32_t journal_piece_take(struct journal *j);         /* a free one becomes used */
void journal_piece_use(struct journal *j, uint32_t piece);
/* The `piece_bytes` bytes at `image`, which is aligned to blocks, in a new, synced file that takes the name of `piece`; the folder is to
 * be synced before anything counts on it. If there is no space, free pieces are given up for it. Negative errno; the old file is whole then.
 * Blocks: start only. `begin` removes what one that was cut short has left. */
int journal_piece_renew_begin(struct journal *j);
int journal_piece_renew_now(struct journal *j, uint32_t piece, const uint8_t *image);
/* Zeros from there to where the file should end, synced. Negative errno. Blocks: start only. */
int journal_piece_finish_now(struct journal *j, uint32_t piece, uint32_t from);
void journal_pieces_release(struct journal *j, uint64_t seq);  /* C4: those wholly at or below `seq`, without the head's */
void journal_pieces_keep_ahead(struct journal *j);      /* begins to make a piece when one will be needed */

/* journal_space.c */
uint64_t journal_capacity(const struct journal *j);     /* without the reserved piece */
uint64_t journal_used(const struct journal *j);
enum placing journal_place(const struct journal *j, uint32_t len, enum space_class class);
enum space_class journal_slice_class(const struct journal_slice *s);
void journal_note_blocked(struct journal *j, uint32_t len, enum space_class class);
void journal_levels(struct journal *j);                 /* pressure; starts a checkpoint when it is time */
void journal_space_poll(struct journal *j);
void journal_space_timer(struct timer *t);
void journal_space_touch(struct journal *j);            /* there is work: look at the disk soon */

/* journal_checkpoint.c */
void journal_quiet_touch(struct journal *j);            /* there may be entries that no checkpoint covers */
void journal_quiet_timer(struct timer *t);
void journal_checkpoint_begin(struct journal *j);       /* nothing when one runs or shards are missing */
void journal_checkpoint_took_cut(struct journal *j);    /* a cut slice has joined a group */
void journal_checkpoint_seal_if_cut(struct journal *j); /* after the group (if any) was submitted */
void journal_checkpoint_durable(struct journal *j);     /* durable_seq has moved */
void journal_checkpoint_fail(struct journal *j);        /* the journal is latched */
void journal_checkpoint_free(struct journal *j);
void journal_retry_timer(struct timer *t);
#endif
