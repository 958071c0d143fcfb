/* dump_filter.h - which records `varve dump` shows, and what --summary counts. Pure but for memory. */
#ifndef TOOLS_DUMP_FILTER_H
#define TOOLS_DUMP_FILTER_H
#include <stdbool.h>
#include <stdio.h>
#include "proto/record_batch.h"
#include "tools/json_out.h"

/* One end of a range: an offset, or a time. */
struct bound { bool set, time; int64_t value; };
struct filter {
    struct bound from, to;               /* inclusive, exclusive */
    const char *key, *grep;              /* NULL: any */
    const char *header, *header_value;   /* NULL: any */
    size_t header_len;
};

/* "1234" or "@1700000000000" (ms) or "@2026-11-28T09:00:00[.123][Z]" (UTC). */
bool bound_parse(const char *text, struct bound *b);
/* "name=value" or "name" (any value). */
void filter_header(struct filter *f, const char *text);
static inline bool filter_by_record(const struct filter *f) { return f->key || f->grep || f->header; }
static inline bool filter_any(const struct filter *f) { return f->from.set || f->to.set || filter_by_record(f); }
/* Whether the batch may hold a record that is wanted; the record itself. */
bool filter_batch(const struct filter *f, const struct batch_header *h);
bool filter_record(const struct filter *f, const struct record *r);

/* ---- --summary ---- */

enum { SUMMARY_SIZES = 32, SUMMARY_TOP = 10, SUMMARY_TABLE_MAX = 1 << 17, SUMMARY_KEY_BYTES = 128 };
struct tally { uint8_t *key; uint32_t len; uint64_t records, bytes; };
struct tallies { struct tally *v; uint32_t count, cap; uint64_t uncounted; };   /* open addressing; what no longer fits is only counted */
struct summary {
    uint64_t files, file_bytes, batches, bytes, records, control_batches, commits, aborts, transactional, bad_batches, unread_batches, tail_bytes;
    int64_t first_offset, next_offset;   /* -1: none */
    uint64_t gaps, missing_offsets;
    int64_t min_timestamp, max_timestamp;/* -1: none */
    int32_t min_epoch, max_epoch;
    uint64_t codec_batches[8], codec_bytes[8];
    uint64_t packed_bytes, plain_bytes;  /* of the records of compressed batches */
    uint64_t sizes[SUMMARY_SIZES];       /* batches of 2^i bytes and more */
    struct tallies keys, producers;
};
void summary_init(struct summary *s);
void summary_free(struct summary *s);
/* A sound batch; false: its records cannot be read. */
bool summary_batch(struct summary *s, const uint8_t *batch, const struct batch_header *h, const struct filter *f, size_t max_bytes);
void summary_text(struct summary *s, const char *name);
void summary_json(struct summary *s, const char *name, struct json_out *j);
#endif
