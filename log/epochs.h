/* epochs.h - the epoch table of one log: which leader epoch begins at which offset.
 *
 * Entries (epoch, start): epochs strictly increase, starts never decrease; equal starts are
 * zero-length epochs and are real. A pure value; docs/replication.md 2 names its rules and
 * KIP-101/KIP-320 the queries. Exported as Kafka's leader-epoch-checkpoint, never read back from it. */
#ifndef LOG_EPOCHS_H
#define LOG_EPOCHS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

struct epoch_entry { int32_t epoch; int64_t start; };
struct epochs { struct epoch_entry *entries; uint32_t count, cap; };

void epochs_init(struct epochs *e);
void epochs_free(struct epochs *e);
MUST_CHECK enum err epochs_append(struct epochs *e, int32_t epoch, int64_t start); /* ERR_INVALID: order broken; ERR_NOMEM */
/* Drops entries with epoch > `epoch` (truncTo). Never selects by start. */
void epochs_truncate(struct epochs *e, int32_t epoch);
/* Log start moved: drops entries that ended at or before `start` keeping the one in force there and
 * all markers with start >= `start`. */
void epochs_trim(struct epochs *e, int64_t start);
/* Epoch of the record at `offset` (< end of log); -1 below the table. */
int32_t epochs_at(const struct epochs *e, int64_t offset);
/* OffsetForLeaderEpoch (KIP-320): the largest known epoch <= `epoch` and where it ends (`log_end` for the
 * last). Below all: (`epoch`, first known start). Empty table or epoch < 0: (-1, -1). */
void epochs_end_of(const struct epochs *e, int32_t epoch, int64_t log_end, int32_t *found_epoch, int64_t *end);
/* Text of leader-epoch-checkpoint: "0\n<n>\n<epoch> <start>\n"...; malloc'ed, NUL-terminated; NULL: memory. */
char *epochs_to_checkpoint(const struct epochs *e);
MUST_CHECK enum err epochs_from_checkpoint(struct epochs *e, const char *text, size_t len); /* ERR_CORRUPT */
#endif
