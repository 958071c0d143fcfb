/* repair.h - for `varve dump --repair`: takes what cannot be read out of the logs of a data directory that no broker uses.
 *
 * The directory is opened as a broker does (journal replayed, files settled), every segment is checked whole, and each segment with
 * faulty ranges is written anew without them and takes its place by a SWAP in the journal: so a crash anywhere leaves the
 * old or the new one. Bytes that were taken out are kept in files aside. Offsets that are lost become gaps, as after
 * compaction: readers pass over them. Indexes that do not say what the batches say are written anew. Blocks. */
#ifndef LOG_REPAIR_H
#define LOG_REPAIR_H
#include "log/log.h"

struct repair_range {                    /* what was taken out */
    const char *topic;
    int32_t partition;
    int64_t start, end;                  /* offsets, exclusive */
    int64_t segment_base;
    uint32_t position, bytes;            /* in the old file; `bytes` of them were there */
    const char *aside;                   /* the file that has them; NULL: there were none */
};
struct repair {
    const char *aside;                   /* a folder for them, made if missing */
    void (*lost)(void *ctx, const struct repair_range *r);
    void (*note)(void *ctx, const char *path, const char *what);   /* a file that was made again or removed */
    void *ctx;
};
struct repair_report { uint32_t logs, segments, ranges; uint64_t offsets, bytes; };

/* `cfg` as for log_store_open, with one shard. ERR_BUSY: a broker uses it. Other errors: `why` says; what was done stays done and the
 * directory can be repaired again. */
MUST_CHECK enum err log_repair(struct io *io, const struct log_store_config *cfg, const struct repair *r, struct repair_report *report, char *why,
                               size_t why_len);
#endif
