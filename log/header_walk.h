/* header_walk.h - the headers of a segment's batches, one after the other, from wherever they lie: memory, journal, file. Private to log/.
 *
 * For what is rare and short (truncation), so its reads are synchronous. Damage in the file is passed over: the walk goes on at
 * the next batch that is sound. It says nothing of that and records nothing: who reads that range, or scrubs it, finds it
 * (log/check.h), and what was acknowledged in it stays where it is until it is mended. */
#ifndef LOG_HEADER_WALK_H
#define LOG_HEADER_WALK_H
#include "log/shard.h"

struct header_walk {
    struct log_impl *log;
    struct segment *segment;
    struct file *file;
    uint8_t *block;                 /* two blocks, aligned */
    uint32_t position;              /* of the batch that is next */
    uint32_t last;                  /* of the one before; UINT32_MAX: none, or it is known to be sound */
    int64_t expected;               /* the next batch begins here or behind it, */
    bool exact;                     /* here, unless the segment has gaps */
    int64_t last_expected;          /* what was expected at `last` */
    uint32_t lost_at;               /* damage that was passed over before the newest header begins here; UINT32_MAX: none */
    int64_t lost_from;              /* at this offset; -1: unknown, for the walk began there */
    int64_t first_last;             /* last offset of the first batch, as the index says; -1: unknown */
};

/* `position`: a batch begins there. ERR_NOMEM. End it in any case. */
MUST_CHECK enum err header_walk_begin(struct header_walk *k, struct log_impl *l, struct segment *s, uint32_t position);
/* The next header; `*position`: of its batch, k->position is behind it. ERR_NOT_FOUND: there is none any more. ERR_IO; ERR_CORRUPT: what the
 * journal holds is damaged; ERR_NOMEM. */
MUST_CHECK enum err header_walk_next(struct header_walk *k, struct batch_header *h, uint32_t *position);
void header_walk_end(struct header_walk *k);
#endif
