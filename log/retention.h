/* retention.h - which of a log's oldest segments may go (cleanup.policy=delete).
 *
 * Kafka's rules: a segment is too old when its largest record timestamp (if it has none: its creation) is more
 * than retention.ms ago; the log is too large while it would still have retention.bytes without its
 * oldest segment. Segments go oldest first, the first that may stay ends the search, and none goes that holds anything at or above `bound`,
 * the high watermark. The segment that is being written goes by age only, when it too is too old: it is complete then. */
#ifndef LOG_RETENTION_H
#define LOG_RETENTION_H
#include "log/log.h"

enum retention_reason {
    RETENTION_EXPIRED,               /* older than retention.ms */
    RETENTION_TOO_LARGE,             /* the log is above retention.bytes */
    RETENTION_ACTIVE,                /* stays: it is being written */
    RETENTION_NOT_COMMITTED,         /* stays: not all of it is below the high watermark */
    RETENTION_YOUNG,                 /* stays until its age is reached */
    RETENTION_SMALL,                 /* stays: only the size is limited, and the log is below it */
    RETENTION_UNLIMITED,             /* stays: nothing limits the log, or its policy does not delete */
    RETENTION_BEHIND                 /* stays: one before it stays */
};
/* What becomes of the log's segment `index` (0: the oldest) now. `due_ms`: when it will be too old (wall clock; INT64_MAX: never).
 * `hold_time`: the clock cannot be trusted, ages count for nothing. Pure. */
enum retention_reason retention_of(const struct log *l, uint32_t index, int64_t now_ms, int64_t bound, bool hold_time, int64_t *due_ms);

/* The same for the first `n` segments. */
struct retention_fate { enum retention_reason reason; int64_t due_ms; };
void retention_of_first(const struct log *l, int64_t now_ms, int64_t bound, bool hold_time, uint32_t n, struct retention_fate *out);

/* How many segments may go, and where the log would start then; rolls the active one when it may go, too. `removed` 0: none.
 * ERR_IO, ERR_NOMEM, ERR_CLOSED, ERR_AGAIN: nothing changed, try again later. Needs no room for records in the journal. */
MUST_CHECK enum err log_retain_start(struct log *l, int64_t now_ms, int64_t bound, bool hold_time, uint32_t *removed, int64_t *start);
/* Moves the start there. Same errors. */
MUST_CHECK enum err log_retain(struct log *l, int64_t now_ms, int64_t bound, bool hold_time, uint32_t *removed);
#endif
