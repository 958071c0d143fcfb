/* impl.h - what a log is made of; private to log/.
 *
 *            file, below W      file, not yet synced        journal only
 *   log  |===================|=======================|~~~~~~~~~~~~~~~~~~~~~|
 *        start               W                       written               end
 *
 * Every byte that is in no file yet has an entry in the tail: with its memory, or (evicted, or found
 * by recovery) with its position in the journal. Files are written strictly in order, so the files
 * hold a prefix and the tail the rest; the tail also keeps written batches until memory is wanted. */
#ifndef LOG_IMPL_H
#define LOG_IMPL_H
#include "base/list.h"
#include "log/compact.h"
#include "log/index.h"
#include "log/journal.h"
#include "log/log.h"
#include "log/mutant.h"

struct shard_slice;
struct seg_writer;

/* ---- segments --------------------------------------------------------------------------- */

/* A place in a log's files. */
struct place { int64_t base; uint32_t position; };

struct segment {
    int64_t base, end;              /* end: exclusive, as of memory */
    uint32_t size_bytes;            /* as of memory */
    uint32_t written_bytes;         /* in the file */
    uint32_t index_bytes, time_index_bytes;      /* in the files */
    int64_t max_timestamp, max_timestamp_offset; /* -1: no records; last offset of the batch that holds it */
    int64_t first_timestamp;        /* of the first batch; -1 */
    int64_t created_ms;
    struct index_entry last_index;  /* of the file, while index_bytes > 0 */
    struct time_entry last_time;    /* of the file, while time_index_bytes > 0 */
    struct segment_index *index;    /* what is not in the files yet, behind the last entries that are; NULL: nothing */
    uint8_t *snapshot;              /* Kafka's producer snapshot as of the roll, not yet in its file */
    uint32_t snapshot_len;
    bool file_made;                 /* the .log exists */
    bool unsynced;                  /* written since the last sync */
    bool index_unsynced, time_index_unsynced;
    bool reindex;                   /* it was cut: its index is to be made again from */
    uint32_t reindex_position;      /* this position on, */
    int64_t reindex_end;            /* which is where the batches below this offset end */
    bool sealed;                    /* no more appends, digests taken */
    uint64_t swap_id;               /* written by compaction, its files still have the names of swap_path(); 0: their own */
};

/* ---- tail ------------------------------------------------------------------------------- */

/* One RECORDS entry of the journal. */
struct tail_entry {
    int64_t base_offset;
    uint32_t count;                 /* end offset - base offset */
    uint32_t len;
    uint32_t position;              /* in its segment: the last one with base <= base_offset */
    struct shard_slice *slice;      /* NULL: only in the journal, at `pos` */
    struct journal_pos pos;         /* in memory: pos.offset is the offset in the slice */
};
struct tail {                       /* v[head .. head + count) ascending; those only in the journal come first */
    struct tail_entry *v;
    uint32_t head, count, cap;
    uint32_t journal_only;          /* how many come first */
};

/* ---- a log ------------------------------------------------------------------------------ */

/* Offsets [start, end), bytes [position, end_position) of segment `base`: log/faulty.h. */
struct faulty_range { int64_t start, end, base; uint32_t position, end_position; };
/* Bytes [from, to) of segment `base`, in the journal at `pos`. */
struct image { int64_t base; uint32_t from, to; struct journal_pos pos; uint8_t bytes[IO_BLOCK_BYTES]; };

struct log_impl {
    struct log pub;
    struct log_config config;
    char *folder;                   /* name within the data directory */
    struct segment *segments;       /* ascending, at least one */
    uint32_t segment_count, segment_cap;
    /* What the turn of a cut looks at, of thousands of logs, lies together. */
    uint32_t dirty_index;           /* in shard->dirty, while `dirty`: changed since the last cut */
    uint32_t untaken;               /* > 0: the running checkpoint has its state still to encode, as of the cut; its place there + 1 */
    bool dirty, in_checkpoint, flushed;
    bool delete_joined;
    struct place flush_to;          /* while `in_checkpoint`: its end, to be written exactly */
    struct tail tail;
    struct faulty_range *faulty;    /* ascending; were durable and cannot be read: kept but not served */
    uint32_t faulty_count, faulty_cap;
    int64_t expire_at_ms;           /* when producers are next looked at */
    uint64_t pending_bytes;         /* durable, not yet in a file */
    uint64_t owed_bytes;            /* of the disk, for more than that: counted in the journal */
    uint32_t owed_mark;             /* of what that was when it was counted */
    struct place synced;            /* W */
    uint32_t truncates_joined;      /* TRUNCATE and RESET entries that are not durable: no file may be touched */
    int64_t truncate_end;           /* while `truncated`: the lowest end, */
    struct place truncate_place;    /* and where it lies */
    int64_t *dropped;               /* bases of segments that left the list and whose files are to go, oldest first */
    uint32_t dropped_count, dropped_cap;
    uint8_t dropped_kind;           /* which file of the first one is next */
    uint32_t dropped_total, droppable_total;   /* ever added; of those, allowed to go: their LOGSTART or TRUNCATE is durable */
    uint32_t change;                /* counts truncations: a read that spans one starts again */
    uint32_t reads;                 /* in flight: hold the memory of the log */
    uint64_t effect_slice;          /* serial of the slice that holds this log's append effect */
    uint32_t effect_index;
    uint64_t seq_slice;             /* the same for its SEQ effect */
    uint32_t seq_index;
    struct list work_link;          /* shard->work: waits for a writer */
    struct log_impl *name_next;     /* in its hash chain */
    bool named;
    struct seg_writer *writer;      /* at work on the files */
    bool folder_made, folder_unsynced, manifest_unsynced;
    bool producers_lost;            /* a truncation emptied the window of some */
    bool producers_complete;        /* none of those that ever wrote here was forgotten */
    bool truncated;                 /* a durable TRUNCATE is to be applied to the files */
    bool reset_due;                 /* a durable RESET: the folder is of a generation that is over */
    bool delete_durable, folder_moved;
    struct image *image;            /* found by recovery: the protected bytes below W of W's block; NULL: none */
    bool export_due;                /* Kafka's checkpoint files are older than the log */
    bool folder_counted;            /* found by recovery: the catalogue counts on bytes in its files, so there must be a folder */
    int64_t cleaned_end;            /* compaction has been here */
    int64_t compacted_end;          /* segments that begin below it may have gaps in their offsets */
    struct compact_run compact_run; /* the last one */
    int64_t compact_retry_ms;       /* after a failed one: not before */
    void (*deleted)(void *ctx, enum err err);
    void *deleted_ctx;
};
static inline struct log_impl *impl_of(struct log *l) { return CONTAINER_OF(l, struct log_impl, pub); }
static inline const struct log_impl *impl_of_const(const struct log *l) { return CONTAINER_OF(l, struct log_impl, pub); }

/* checkpoint.c: encodes the state of a log that is `untaken`, which is still the one as of the cut. */
void checkpoint_take(struct log_impl *l);

/* NULL: memory. */
struct log_impl *impl_new(struct log_shard *sh, uint64_t plid, const char *topic, size_t topic_len, int32_t partition);
void impl_free(struct log_impl *l);
/* Whoever changes what state_encode() encodes calls the one before and the other after, in one turn. */
static inline void impl_change(struct log_impl *l) {
    if (l->untaken > 0 && !MUTANT(CUT_LATE)) checkpoint_take(l);
}
void impl_dirty(struct log_impl *l);
/* space.c: what the log will need of the disk has changed. */
void impl_owe(struct log_impl *l);
void impl_owe_more(struct log_impl *l);   /* the same when it is dirty already: cheap */

/* What an append, and its replay after a crash, do to the log in memory. `e` is copied into the tail. ERR_NOMEM: the
 * log is unusable then. ERR_CORRUPT: the batches do not continue the log. */
MUST_CHECK enum err impl_add_batch(struct log_impl *l, const struct batch_header *h, uint32_t position);
/* The log holds no byte, and its first batch begins at `base`, below the log start, which lies within that batch. */
void impl_begin_below(struct log_impl *l, int64_t base);
/* Journals a batch with the offset and epoch that `h` has, and makes it the log's; there is room. `append_time_ms` >= 0: re-stamp.
 * ERR_NOMEM; ERR_IO: the directory is latched. */
MUST_CHECK enum err impl_append(struct log_impl *l, const uint8_t *batch, const struct batch_header *h, int64_t append_time_ms, int64_t now_ms);
void impl_expire_producers(struct log_impl *l, int64_t now_ms);
/* A new segment begins at the end. ERR_NOMEM. */
MUST_CHECK enum err impl_roll(struct log_impl *l, int64_t created_ms);
/* Cuts memory back to `end`, which lies at `place`. ERR_NOMEM, ERR_IO (indexes are read again). */
MUST_CHECK enum err impl_cut(struct log_impl *l, int64_t end, struct place place, int32_t epoch);
/* The log was cut to `end`: what slices that are not durable yet will say of its batches. */
void impl_effects_cut(struct log_impl *l, int64_t end);
uint64_t impl_unwritten(const struct log_impl *l);     /* bytes in no file */
/* Empty, the next generation, behind a record of `base_epoch`; takes over `producers`. What is in files and the journal is garbage. */
void impl_reset(struct log_impl *l, int32_t base_epoch, int64_t offset, struct producers *producers);
MUST_CHECK enum err reset_fold(struct log_impl *l, const uint8_t *body, uint32_t len);
void impl_set_start(struct log_impl *l, int64_t start);
void impl_epochs_changed(struct log_impl *l);         /* takes pub.epoch, epoch_start and base_epoch from the table */
/* ERR_NOMEM: it is as it was. */
MUST_CHECK enum err impl_set_replica_config(struct log_impl *l, const uint8_t *data, size_t len);
/* The files of a segment that left the list: they go once l->droppable_total says so. */
void impl_drop_files(struct log_impl *l, int64_t base);

/* ---- segments.c --- */
struct segment *segment_last(struct log_impl *l);
struct segment *segment_by_base(struct log_impl *l, int64_t base);       /* NULL: none */
/* The segment whose range holds `offset` (the last one for the end). */
struct segment *segment_of(const struct log_impl *l, int64_t offset);
MUST_CHECK enum err segment_add(struct log_impl *l, int64_t base, int64_t created_ms);
void segment_remove_first(struct log_impl *l);
void segment_remove_last(struct log_impl *l);
int64_t segment_next_base(const struct log_impl *l, const struct segment *s);      /* INT64_MAX: last */
/* Makes s->index, beginning with the last entries of the files. ERR_NOMEM. */
MUST_CHECK enum err segment_index_need(struct log_impl *l, struct segment *s);
void segment_index_free(struct segment *s);
/* Entries up to these counts are in the files now: forgets all of them but the last ones. */
void segment_index_written(struct segment *s, uint32_t offsets, uint32_t times);
bool segment_must_roll(const struct log_impl *l, const struct segment *s, const struct batch_header *h, int64_t now_ms);

/* Whether offsets within the segment may have gaps. */
static inline bool segment_has_gaps(const struct log_impl *l, const struct segment *s) { return s->base < l->compacted_end; }

static inline bool place_less(struct place a, struct place b) {
    return a.base != b.base ? a.base < b.base : a.position < b.position;
}

/* ---- tail.c --- */
static inline struct tail_entry *tail_at(const struct tail *t, uint32_t i) { return &t->v[t->head + i]; }
MUST_CHECK enum err tail_reserve(struct tail *t);                     /* room for one more: ERR_NOMEM */
void tail_push(struct tail *t, const struct tail_entry *e);           /* after tail_reserve */
/* First entry that ends after `offset`; t->count: none. */
uint32_t tail_find(const struct tail *t, int64_t offset);
/* First entry with bytes behind `position` of the segment [base, next_base) (or of a later segment). */
uint32_t tail_find_place(const struct tail *t, int64_t base, int64_t next_base, uint32_t position);
void tail_cut(struct tail *t, int64_t end);                           /* drops entries that begin at or after `end` */
void tail_drop_written(struct log_impl *l);                           /* those whose bytes are in files and not in memory */
void tail_drop_below(struct log_impl *l, int64_t offset);             /* entries that begin below it; all of them are in files */
void tail_free(struct tail *t);
#endif
