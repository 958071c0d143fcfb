/* mend.h - damaged ranges of a log are put right with what another replica has (docs/replication.md 10).
 *
 * The segment is written anew. What is sound in it is copied, each batch checked on its way; where it is faulty the caller is asked
 * for the batches of another replica, piece by piece, and each is checked like those of a file: CRC, leader epoch, that it
 * follows the one before. If the manifest has a digest of the segment, and the new file is as long, it must have that digest. Then
 * it is synced and takes the place of the old one, by the same SWAP as after compaction. Until then nothing has changed.
 *
 * One in each shard at a time, and not beside compaction. Memory: one piece, and the batches of one read. */
#ifndef LOG_MEND_H
#define LOG_MEND_H
#include "log/log.h"

struct log_faulty { int64_t start, end, segment; };   /* offsets; base of the segment that holds them */
/* How many there are, ascending; the first `n` in `out`. */
uint32_t log_faulty_ranges(const struct log *l, uint32_t n, struct log_faulty *out);

struct compactor;
struct log_mend {
    /* in */
    int64_t segment;
    /* From the loop: batches from the one that holds `offset` on, up to `end` (exclusive); never of offsets that all lie below the log's start. `refused`: what was fed last was wrong, or nothing. Answer with
     * log_mend_feed(), from the loop or at once, or with log_mend_stop(). */
    void (*want)(struct log_mend *m, int64_t offset, int64_t end, bool refused);
    void (*done)(struct log_mend *m);    /* from the loop, the last that is heard; not after log_mend_stop() */
    void *owner;
    /* out */
    enum err err;                        /* OK: mended. ERR_CORRUPT: there is more damage than was known; begin anew. ERR_CLOSED, ERR_NOSPACE, ERR_NOMEM, ERR_IO */
    /* private */
    struct compactor *run;
};
/* OK: `done` will be called. ERR_NOT_FOUND: nothing there is faulty. ERR_AGAIN: later: the shard is busy, or the segment is not yet complete
 * and below a checkpoint (one that is being written is made complete by this call). Others as `err`. */
MUST_CHECK enum err log_mend_start(struct log *l, struct log_mend *m, int64_t now_ms);
/* After `want`: whole batches, copied; `next` >= their end: the sender has nothing between them and `next`. */
void log_mend_feed(struct log_mend *m, const uint8_t *batches, size_t len, int64_t next);
void log_mend_stop(struct log_mend *m);
bool log_mend_running(const struct log_mend *m);
#endif
