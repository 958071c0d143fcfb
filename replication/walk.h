/* walk.h - what a replica remembers of its log: positions and epochs, never bytes.
 *
 * A log is a walk over two kinds of element: a *marker* (epoch, start) says that an epoch begins at
 * an offset and takes no offset itself; a *record* takes one. A position (epoch, offset) names a
 * place in the walk, after every element up to it; positions are ordered lexicographically.
 *
 *   base      (base_epoch, start): epoch of the record before the log start (0: none), log start offset
 *   markers   epochs strictly increase, starts never decrease; equal starts are zero-length epochs
 *             and are real: two logs are compared by them (docs/replication.md 2)
 *   last      (epoch of the last marker, end), not the epoch of the last record
 *
 * Two logs that hold the same marker are equal up to it; two that contain a position are equal up to it.
 * Pure. Memory: realloc() in walk_reserve() only. */
#ifndef REPLICATION_WALK_H
#define REPLICATION_WALK_H
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"

struct replica_position { int32_t epoch; int64_t offset; };
struct replica_marker { int32_t epoch; int64_t start; };

static inline int replica_position_compare(struct replica_position a, struct replica_position b) {
    if (a.epoch != b.epoch) return a.epoch < b.epoch ? -1 : 1;
    return a.offset < b.offset ? -1 : a.offset > b.offset;
}
static inline struct replica_position replica_position_min(struct replica_position a, struct replica_position b) {
    return replica_position_compare(a, b) <= 0 ? a : b;
}
static inline struct replica_position replica_position_max(struct replica_position a, struct replica_position b) {
    return replica_position_compare(a, b) >= 0 ? a : b;
}

struct walk {
    int32_t base_epoch;
    int64_t start, end;                  /* log start offset; log end offset, exclusive */
    struct replica_marker *markers;      /* owned */
    uint32_t count, cap;
#ifdef VARVE_MUTANTS
    int mutant;
#endif
};
/* More would mean thousands of elections without a log start that moves. */
enum { WALK_MARKERS_MAX = 65536 };

void walk_init(struct walk *w);
void walk_free(struct walk *w);
/* Room for `more` markers. ERR_NOMEM, ERR_FULL: nothing changed. */
MUST_CHECK enum err walk_reserve(struct walk *w, uint32_t more);

struct replica_position walk_base(const struct walk *w);
struct replica_position walk_last(const struct walk *w);
/* Index of the marker of `epoch`, or -1. */
int32_t walk_find(const struct walk *w, int32_t epoch);
/* Where the epoch of marker `index` ends; index -1: where the base's does. */
int64_t walk_end_of(const struct walk *w, int32_t index);
/* Where the elements of `epoch` end in this log; -1: it has no such epoch. */
int64_t walk_epoch_end(const struct walk *w, int32_t epoch);
/* Whether `p` is a place in this walk. Everything below the log start is: it was committed. */
bool walk_contains(const struct walk *w, struct replica_position p);
/* The greatest place of this walk at or below `p`. False: it would lie below the base. */
bool walk_floor(const struct walk *w, struct replica_position p, struct replica_position *out);

/* Epoch of the last record, which is not that of walk_last() when epochs without records follow. */
int32_t walk_last_record_epoch(const struct walk *w);
/* The record behind the last one is `end`: it was appended. */
void walk_extend(struct walk *w, int64_t end);
/* A new epoch begins at the end; room was reserved. Never removes another marker. */
void walk_mark(struct walk *w, int32_t epoch);
/* Drops records at and above p.offset and markers of epochs *above p.epoch*: never by their start. */
void walk_truncate(struct walk *w, struct replica_position p);
/* The log starts at `start` <= end now. Markers at or behind it stay, also those exactly at it. */
void walk_drop_prefix(struct walk *w, int64_t start);
/* The log is empty and begins at `base`. */
void walk_reset(struct walk *w, struct replica_position base);
#endif
