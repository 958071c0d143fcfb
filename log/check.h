/* check.h - walks along a segment's file and finds what is damaged in it; private to log/.
 *
 * Every batch is checked (CRC, offsets, epoch, length), every chunk of a sealed segment has the digest that it was
 * sealed with. Behind a bad batch the walk goes on at the next one that fits; what lies between becomes a faulty range. A chunk
 * whose digest is wrong although all its batches are sound is faulty as a whole. A range that was faulty and is sound again
 * is healed. Reads start one when they meet damage; the scrubber runs one over every sealed segment. */
#ifndef LOG_CHECK_H
#define LOG_CHECK_H
#include "log/digests.h"
#include "log/faulty.h"

enum { CHECK_READ_BYTES = 256 * 1024, BATCH_IN_FILE_MAX = 32 << 20 /* larger than any that a piece of a journal holds */ };

struct check {
    struct io_op op;
    struct list link;               /* shard->checks */
    struct digest_load load;
    struct log_impl *log;
    struct file *file;
    bool direct;
    int64_t base;                   /* segment */
    uint32_t change;
    uint32_t position, until;       /* of the batch that is next; the walk ends there */
    int64_t expected;               /* its offset */
    uint8_t *buf;                   /* the file from `from` on: `got` bytes of `asked` */
    uint32_t cap, from, got, asked, need;
    bool searching;                 /* for the batch behind `lost`, */
    struct faulty_range lost;
    const char *why;
    uint32_t search_at, tries;      /* from here on */
    bool suspected;                 /* sound batches in chunks that are not what was sealed */
    struct faulty_range suspect;
    uint8_t *bad;                   /* a bit for each such chunk; NULL: none so far */
    int64_t known, known_end;       /* a range that was faulty before, while it is walked through; -1: none */
    void (*slice)(struct check *x); /* after each slice: call check_go(). NULL: go on at once */
    void (*done)(struct check *x);  /* last use of `x` by the check */
    void *owner;
    /* out */
    enum err err;                   /* OK; ERR_CLOSED: cut, dropped or deleted meanwhile; ERR_IO, ERR_NOMEM */
    uint32_t found, added;          /* damages met; those that were not known */
    uint64_t bytes;                 /* read */
};

/* From the segment's beginning, or from behind the last faulty range that ends at or before `offset`, until bytes up to `until` are
 * walked over. The caller has set slice, done and owner; `done` may run from inside when memory is short. */
void check_start(struct check *x, struct log_impl *l, const struct segment *s, int64_t offset, uint32_t until, bool direct);
void check_go(struct check *x);
/* Between two slices: ends it without a call. */
void check_stop(struct check *x);

/* What is wrong with the whole batch at `p`, whose header was parsed; NULL: nothing. */
const char *batch_wrong(const struct log_impl *l, const struct segment *s, const uint8_t *p, const struct batch_header *h);
/* Position up to which the segment's file holds whole batches, and the offset that follows them. */
uint32_t file_limit(const struct log_impl *l, const struct segment *s, int64_t *offset);
#endif
