/* writer.h - one segment writer; private to log/.
 *
 * A writer takes a log, looks at what its files lack, starts one operation, looks again when that is
 * done, and lets go when nothing is lacking. What is lacking is always read off the log itself, so
 * whatever happened meanwhile (appends, a truncation, a deletion, a checkpoint) is seen. */
#ifndef LOG_WRITER_H
#define LOG_WRITER_H
#include "log/manifest.h"
#include "log/shard.h"

struct seg_writer {
    struct log_shard *sh;
    struct log_impl *log;           /* NULL: idle */
    struct io_op op;
    struct iovec iov;
    void (*next)(struct seg_writer *w, int64_t result);
    struct file *file;              /* in use by `op` */
    char *path;                     /* of an unlink */
    uint8_t *buf, *bounce;          /* WRITE_BYTES each, plus a block; 4096-aligned; NULL until needed */
    /* the write at hand: bytes [at, to) of segment `base` */
    int64_t base;
    uint32_t from, at, to;
    uint32_t change;                /* the log's, when the operation began */
    bool direct;
    uint32_t read_offset, read_len; /* of the journal, into `bounce` */
    uint32_t read_piece;
    /* an IMAGE that covers [image_from, image_to) of segment image_base */
    int64_t image_base;
    uint32_t image_from, image_to;
    uint64_t image_cuts;
    bool image_durable;
    /* a segment that is being sealed */
    int64_t seal_base;              /* -1: none */
    uint32_t seal_at;
    struct digester *digester;
    uint8_t seal_head[BATCH_HEADER_BYTES]; /* of the batch at hand: `seal_have` bytes, then */
    uint32_t seal_have, seal_left;         /* so many more under its CRC */
    uint32_t seal_crc, seal_expected;      /* so far; what it is to be */
    int64_t seal_next;                     /* offset of the next batch */
};

void writer_step(struct seg_writer *w);
void writer_release(struct seg_writer *w);
/* Starts the operation; `next` gets its result. */
void writer_submit(struct seg_writer *w, void (*next)(struct seg_writer *w, int64_t result));
/* File of the log for `op`; false: the shard has failed. */
bool writer_open(struct seg_writer *w, int64_t base, enum file_kind kind, int flags);
void writer_fail(struct seg_writer *w, int64_t neg_errno, const char *what);
bool writer_buffers(struct seg_writer *w);
/* Reads or writes `len` bytes at `offset` of w->file into or from w->buf + skip. */
void writer_io(struct seg_writer *w, enum io_kind kind, uint32_t skip, uint32_t len, uint64_t offset,
               void (*next)(struct seg_writer *w, int64_t result));

/* Each looks for one kind of work; true: an operation was started, or the log was let go. */
bool write_step(struct seg_writer *w);                 /* write.c: bytes of the log */
/* finish.c: indexes and snapshots of complete segments, with `flush` of all; then syncs, with `sync`. */
bool finish_step(struct seg_writer *w, bool flush, bool sync);
bool seal_step(struct seg_writer *w);                  /* seal.c: digests of complete segments */
bool reset_step(struct seg_writer *w);                 /* cut.c: a durable RESET */
void seal_forget(struct seg_writer *w);                /* seal.c: what was read of a segment may not be in it any more */
bool truncate_step(struct seg_writer *w);              /* cut.c: a durable TRUNCATE */
bool drop_step(struct seg_writer *w);                  /* cut.c: files of segments that are gone */
bool delete_step(struct seg_writer *w);                /* cut.c */
bool need_image(const struct log_impl *l, const struct segment *s, uint32_t position, uint32_t *from, uint32_t *to);
bool image_step(struct seg_writer *w, const struct segment *s, uint32_t position); /* true: wait for it */

/* folder.c. Making: 0, -EEXIST (the name is still another's), another errno: nothing is left of the attempt. */
MUST_CHECK int folder_make(struct log_shard *sh, struct log_impl *l);
MUST_CHECK enum err folder_sync(struct log_shard *sh, struct log_impl *l);
MUST_CHECK enum err folder_manifest_read(struct io *io, const char *dir, const char *folder, struct manifest *m);
MUST_CHECK enum err folder_manifest_write(struct io *io, const char *dir, const struct log_impl *l, const struct manifest *m);
/* The manifest is missing or damaged: it is made again, and all digests with it, by the segment writer. Blocks. */
MUST_CHECK enum err folder_manifest_remake(struct log_shard *sh, struct log_impl *l);
/* Empties and removes a folder, a file at a time. */
void folder_unlink(struct log_shard *sh, const char *folder);
void folder_unlinks_free(struct log_shard *sh);
#endif
