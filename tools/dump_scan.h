/* dump_scan.h - one segment under verification: what dump_scan.c finds and dump_entries.c compares. */
#ifndef TOOLS_DUMP_SCAN_H
#define TOOLS_DUMP_SCAN_H
#include "log/index.h"
#include "tools/dump.h"

enum { DAMAGE_TEXT_BYTES = 120 };
struct damage {
    unsigned what;                /* enum verify_what: the file */
    uint64_t position, bytes;     /* of the damaged batch or entry */
    char text[DAMAGE_TEXT_BYTES];
};

/* Bytes of the log that cannot be told apart into batches, and the offsets that may have been in them. */
struct hole { uint64_t from, to; int64_t first, end; };

/* An index file: all its entries, and their order by what the log is walked by (position; offset). */
struct entries {
    enum verify_what what;
    uint8_t *file;
    size_t len, entry_bytes;
    uint32_t count;
    uint32_t *order;
    uint32_t next;                /* in `order`: everything before was compared */
    bool *bad;
};

struct scan {
    struct dump *d;
    const struct folder *folder;
    struct input in;
    int64_t base;                 /* -1: not known before the first batch */
    const struct sealed_segment *sealed;
    bool own;                     /* written by Varve: no zeros anywhere, offsets are dense */
    bool gaps;                    /* but for what compaction has left out */
    bool last;                    /* no later segment: more may be written, or was about to be */
    int64_t next_base;            /* INT64_MAX: none */
    uint64_t durable_bytes;       /* by the catalogue */
    bool ended;                   /* cleanly stopped: nothing lies behind durable_bytes */
    /* as of the batch that is looked at */
    int64_t expected;             /* next offset; after a hole only a lower bound */
    bool expected_exact;
    int32_t epoch;                /* of the last batch believed; -1 */
    int64_t max_timestamp;
    uint64_t end;                 /* of the last batch */
    uint64_t unfinished_bytes;
    struct damage *damages;
    uint32_t damage_count, damage_cap;
    struct hole *holes;
    uint32_t hole_count, hole_cap;
    bool nomem;
    struct entries offsets, times;
};

/* Bytes of a .log that are no sound batches, ascending; malloc'ed. False: it cannot be read, which was said. */
struct bad_range { uint64_t from, to; bool unfinished; char why[DAMAGE_TEXT_BYTES]; };
bool scan_ranges(struct dump *d, const struct folder *f, const char *path, int64_t base, struct bad_range **out, uint32_t *count);

void scan_damage(struct scan *s, unsigned what, uint64_t position, uint64_t bytes, const char *fmt, ...) PRINTF_LIKE(5, 6);

/* ---- dump_batches.c: the walk along the batches ---- */
void scan_batches(struct scan *s);
/* Chunk digests of a sealed segment. */
void scan_digests(struct scan *s);

/* ---- dump_entries.c ---- */
/* A missing file leaves `e` empty, with a damage when it has to be there. */
void entries_load(struct scan *s, struct entries *e, enum verify_what what, const char *path);
void entries_free(struct entries *e);
/* A batch at `position`, in order of position; `last_offset` is the one to be believed. */
void entries_batch(struct scan *s, uint64_t position, const struct batch_header *h, int64_t last_offset);
/* The log ends: what was not compared yet. */
void entries_end(struct scan *s);
#endif
