/* catalog.h - the catalogue of a journal: the state of every log as of the last checkpoint.
 *
 * An append-only file of records, 8-aligned, little-endian:
 *
 *    0 magic u32   4 type u8   5 zero u8 x 3   8 length u32   12 zero u32   16 plid u64
 *   24 sum 16      XXH3-128 (low half, high half) of the record, its padding included, with this field zero
 *   40 data, zero-padded to 8
 *
 *   STATE    state of a log (opaque here; LogState of proto/storage.proto)
 *   REMOVED  the log is gone
 *   FOOTER   CatalogFooter: ends a checkpoint. Complete only when the number, length and sum of the records
 *            since the previous footer are as it says: one sync does not order the states before it. Padded to a
 *            block: a torn write of the next checkpoint's first block must not take it (files of before have shorter ones).
 *
 * What the file says is: for each plid the newest record before the last complete footer. What follows that
 * footer is an unfinished checkpoint and is dropped; a bad record before it is damage. A file that
 * would grow over twice what is live in it is written anew (tmp, sync, rename, sync of the folder).
 *
 * Thread: the journal's reactor. One commit at a time. */
#ifndef LOG_CATALOG_H
#define LOG_CATALOG_H
#include "base/io.h"
#include "log/journal.h"

enum catalog_record_type { CATALOG_STATE = 1, CATALOG_REMOVED, CATALOG_FOOTER };
#define CATALOG_HEAD_BYTES 40u
#define CATALOG_FOOTER_BYTES_MAX (2 * IO_BLOCK_BYTES) /* with its padding */
#define CATALOG_REWRITE_MIN_BYTES (16u * 1024) /* a file below this is never worth rewriting */

struct catalog_footer {
    uint64_t checkpoint_seq;      /* S */
    struct journal_pos next;      /* where group S+1 starts */
    uint64_t chain;               /* low half of S's sum */
    uint64_t durable_seq, next_plid;
    uint32_t journal, set, piece_bytes;
    uint64_t seed;                /* of the groups' sums */
    bool clean_stop;
};

struct catalog_record { enum catalog_record_type type; uint64_t plid; const uint8_t *data; uint32_t len, bytes; };
/* The record at `offset`. ERR_TRUNCATED: the file ends within it. ERR_CORRUPT. */
MUST_CHECK enum err catalog_record_parse(const uint8_t *file, size_t size, size_t offset, struct catalog_record *r);

/* Walks the records in a file's bytes up to its last complete footer. `fn` sees each one as it comes (footers with their
 * decoded form); what it returns other than OK ends the walk. */
typedef enum err catalog_walk_fn(void *ctx, size_t offset, const struct catalog_record *r,
                                 const struct catalog_footer *footer);
struct catalog_extent { size_t complete_bytes; size_t last_footer; size_t bad_at; };  /* bad_at: SIZE_MAX when all is well */
/* ERR_CORRUPT: no complete footer, or damage (at `bad_at`) before the last one. Trailing bytes are not an error:
 * `complete_bytes` < size. */
MUST_CHECK enum err catalog_walk(const uint8_t *file, size_t size, catalog_walk_fn *fn, void *ctx, struct catalog_extent *x);

struct catalog_live { uint64_t plid; uint64_t offset; uint32_t bytes; };  /* the record's place in the file */

struct catalog {
    struct io *io;
    char *path, *tmp_path, *folder;
    int fd;                       /* -1: not open */
    uint64_t file_bytes, last_footer;
    struct catalog_live *live;    /* ascending by plid */
    uint32_t live_count;
    uint64_t live_bytes;
    uint64_t promised_bytes;      /* live_bytes as they will be */
    /* the commit in progress: a helper thread's while it puts together what is written, of thousands of states */
    struct io_op op;
    struct iovec iov;
    struct journal_state *states;
    uint32_t state_count;
    struct catalog_live *next_live;
    uint32_t next_count;
    uint64_t next_bytes;
    uint64_t next_footer;         /* where the footer will be */
    enum err work_err;
    uint8_t *buf;                 /* what is written */
    size_t buf_len;
    uint8_t *old;                 /* the old file, for a rewrite */
    int tmp_fd;
    bool rewriting;
    struct catalog_footer footer;
    void (*done)(void *ctx, enum err err);
    void *ctx;
};

/* A catalogue with one footer and no state, durable. */
MUST_CHECK enum err catalog_create(struct catalog *c, struct io *io, const char *path, const struct catalog_footer *f);
/* Reads the file: the last complete footer, and `state` for each live log in ascending plid. Changes nothing on disk.
 * ERR_NOT_FOUND: there is none. ERR_CORRUPT: damage, see `why`. */
MUST_CHECK enum err catalog_load(struct catalog *c, struct io *io, const char *path, struct catalog_footer *f,
                                 enum err (*state)(void *ctx, uint64_t plid, const uint8_t *data, uint32_t len), void *ctx,
                                 char *why, size_t why_len);
/* After catalog_load: writes the live records and `f` to a new file, durable. That makes durable what was only readable,
 * drops the unfinished checkpoint and leaves pages behind whose sync may have failed. */
MUST_CHECK enum err catalog_renew(struct catalog *c, const struct catalog_footer *f);
/* From here on operations go through `io`. */
void catalog_attach(struct catalog *c, struct io *io);
/* Appends `states` (any order, each plid at most once; sorted here; lent until `done`) and `f`; `done` when durable.
 * ERR_NOSPACE: the catalogue is as before, try again later. ERR_IO is final. */
void catalog_commit(struct catalog *c, struct journal_state *states, uint32_t count, const struct catalog_footer *f,
                    void (*done)(void *ctx, enum err err), void *ctx);
/* Disk space for what is to come, without states that are new or grow. */
uint64_t catalog_bytes(const struct catalog *c);
void catalog_close(struct catalog *c);
#endif
