/* compactor.h - one run of compaction; private to log/. What it is for: compact.h.
 *
 *   map     the dirty part is read, its keys go into the map
 *   clean   for each group of neighbours that fit one segment: read, filter, write; then the indexes; then the swap
 *
 * Each step starts one operation; what comes next is decided when it is done. While an IO_WORK is under way the helper thread has
 * everything below "work" to itself. A truncation ends the run, so does anything that takes one of its segments away.
 *
 * A run that mends (mend.h) has one segment, whose batches all stay; instead of its faulty ranges it takes what it is fed. */
#ifndef LOG_COMPACTOR_H
#define LOG_COMPACTOR_H
#include "base/timers.h"
#include "log/batch_filter.h"
#include "log/check.h"
#include "log/faulty.h"
#include "log/manifest.h"
#include "log/mend.h"
#include "log/shard.h"

struct compact_source {
    int64_t base, end;
    uint32_t size_bytes;
    uint32_t index_bytes;               /* the larger of both */
    bool has_gaps, has_digest;
    struct digest128 digest;
};

struct compactor {
    struct log_shard *sh;
    struct log_impl *log;               /* NULL: idle. `log->reads` keeps it */
    struct io_op op;
    struct iovec iov;
    void (*next)(struct compactor *c, int64_t result);
    struct timer timer;                 /* until the rate allows more */
    void (*resume)(struct compactor *c);
    int64_t started_ns, started_ms, rate_from_ns;
    uint64_t rate_bytes;                /* since then */
    uint32_t change;                    /* the log's */
    struct compact_source *sources;
    uint32_t source_count;
    bool cleaning;                      /* the map is complete */
    uint32_t group_from, group_to;      /* sources [from, to) become one segment */
    int in_fd, out_fd;                  /* -1: none */
    uint64_t swap_id;                   /* 0: no files of ours */
    uint32_t unsynced_bytes;
    enum file_kind out_kind;            /* being finished */
    bool out_written;
    uint8_t *index_bytes;               /* of the index file that is being written */
    struct compact_run run;
    struct check check;                 /* of a segment that is damaged */
    bool checking;
    /* mending */
    bool mending;
    struct log_mend *mend;              /* NULL: nobody waits for it any more */
    bool waiting;                       /* for log_mend_feed() */
    bool refused;                       /* what was fed last */
    bool in_range;                      /* `range` is being fed */
    int64_t feed_from, feed_next;
    int64_t feed_start;                 /* of the log, when it was asked for: nobody need have what ends below that */
    struct digest128 wanted_digest;     /* of the segment as it was, */
    bool has_wanted_digest;             /* if there is one */

    /* work */
    struct faulty_range range;
    bool feeding;                       /* c->in is what was fed */
    bool dense;                         /* no gap was fed */
    bool gaps_fed;                      /* and may have gaps: the other replica may have compacted what this one has not */
    const struct compact_source *source;
    uint32_t source_index;
    bool ends_group;                    /* the source is the last of its group */
    struct offset_map map;
    int64_t map_from, map_end;
    bool map_full;
    struct filter_rules rules;
    struct filter_producer *producers;
    struct epochs epochs;
    uint8_t *in;                        /* bytes of the source from in_at on */
    uint32_t in_at, in_len, in_cap, in_used;
    uint32_t in_need;                   /* of the batch at in_used, when it is not whole */
    int64_t expected;                   /* base offset of the next batch; with gaps the least */
    uint8_t *out;
    size_t out_len, out_cap;
    uint64_t out_at;                    /* position of out[0] in the new file */
    struct segment_index index;
    int64_t first_timestamp;
    bool changed;
    struct digester *in_digest, *out_digest;
    enum err err;
    const char *wrong;
};

/* compactor_work.c: takes the whole batches of c->in: into the map, or filtered into c->out. On a helper thread. */
void compactor_work(struct io_op *op);
/* All of the source was taken: NULL, or what is wrong with it. */
const char *compactor_source_wrong(struct compactor *c);

/* compactor.c, for mend.c. A compactor that is idle; NULL: none, or no memory. */
struct compactor *compactor_take(struct log_shard *sh, struct log_impl *l, int64_t now_ms);
MUST_CHECK enum err compactor_take_buffers(struct compactor *c);
void compactor_begin(struct compactor *c);              /* with c->sources */
void compactor_go_on(struct compactor *c);              /* reads on */
void compactor_feed(struct compactor *c);               /* c->in was filled */
void compactor_written(struct compactor *c);            /* c->out, if there is anything in it, and on */
void compactor_end(struct compactor *c, enum err err, const char *why);
void compactor_forget(struct compactor *c);
void compactor_damaged(struct compactor *c, const char *what);
void compactor_wait(struct compactor *c);               /* with an eye on whether the run is over */
/* mend.c: true: the run waits, or is over. *left: bytes of the file before the next range. */
bool mend_step(struct compactor *c, uint32_t *left);
void mend_fed(struct compactor *c);
/* Whether the new file may take the place of the old one; else what is wrong. */
const char *mend_wrong(const struct compactor *c, const struct digest128 *made);
void mend_over(struct compactor *c, struct log_impl *l, enum err err, const char *why);
#endif
