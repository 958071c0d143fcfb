/* epochs.h - the epoch table of one log: which leader epoch begins at which offset.
 *
 * Entries (epoch, start): epochs strictly increase, starts never decrease; equal starts are
 * zero-length epochs and are real. Below the first entry lies what is left of the base's epoch. A pure value; docs/replication.md 2 names its rules and
 * KIP-101/KIP-320 the queries. Exported as Kafka's leader-epoch-checkpoint, never read back from it. */
#ifndef LOG_EPOCHS_H
#define LOG_EPOCHS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

struct epoch_entry { int32_t epoch; int64_t start; };
struct epochs {
    struct epoch_entry *entries;
    uint32_t count, cap;
    int32_t base_epoch; /* of the record before `base_end`, the log start; 0: none */
    int64_t base_end;
};

void epochs_init(struct epochs *e);
void epochs_free(struct epochs *e);
MUST_CHECK enum err epochs_append(struct epochs *e, int32_t epoch, int64_t start); /* ERR_INVALID: order broken; ERR_NOMEM */
/* Empty, behind a record of `base_epoch` before offset `start`. */
void epochs_reset(struct epochs *e, int32_t base_epoch, int64_t start);
int32_t epochs_last(const struct epochs *e); /* the base's when there is no entry */
/* Drops entries with epoch > `epoch` (truncTo). Never selects by start. */
void epochs_truncate(struct epochs *e, int32_t epoch);
/* Log start moved: drops the entries that begin before `start`, strictly; the last of them is the base now. */
void epochs_trim(struct epochs *e, int64_t start);
/* Whether an epoch begins exactly at `offset`. */
bool epochs_begins_at(const struct epochs *e, int64_t offset);
/* Epoch of the record at `offset` (< end of log); below the table that of the base, -1 if there is none. */
int32_t epochs_at(const struct epochs *e, int64_t offset);
/* Whether a batch of the offsets [base, last] may be of `epoch`. A segment may begin long before the log start: of what ends before the
 * base is known only that its epoch is no higher. */
bool epochs_fit(const struct epochs *e, int64_t base, int64_t last, int32_t epoch);
/* OffsetForLeaderEpoch (KIP-320): the largest known epoch <= `epoch` and where it ends (`log_end` for the
 * last); the base's epoch is known and begins at `log_start`. Below all: (`epoch`, first known start). No epoch known, or
 * epoch < 0: (-1, -1). */
void epochs_end_of(const struct epochs *e, int32_t epoch, int64_t log_start, int64_t log_end, int32_t *found_epoch, int64_t *end);
/* Text of leader-epoch-checkpoint: "0\n<n>\n<epoch> <start>\n"..., with the base's epoch at `log_start` if records may be of it;
 * malloc'ed, NUL-terminated; NULL: memory. */
char *epochs_to_checkpoint(const struct epochs *e, int64_t log_start);
MUST_CHECK enum err epochs_from_checkpoint(struct epochs *e, const char *text, size_t len); /* ERR_CORRUPT */
#endif
