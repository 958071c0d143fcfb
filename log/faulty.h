/* faulty.h - ranges of a log that were durable and cannot be read; private to log/.
 *
 * A range lies within one segment: from the first batch that is bad to the next that is not. It is kept where it is,
 * never cut, not served, and recorded with the log's state, so that it is known after a restart. Reads of it fail, others
 * go on before and behind it. It leaves the list when its segment goes, when a truncation cuts it off, or when it
 * is found to be sound again (faulty_heal). A pure list; whoever finds damage calls faulty_add. */
#ifndef LOG_FAULTY_H
#define LOG_FAULTY_H
#include "log/impl.h"

enum { FAULTY_MAX = 1024 };         /* ranges of one log; above it the nearest become one */

/* The range that holds `offset`; NULL: none. */
const struct faulty_range *faulty_at(const struct log_impl *l, int64_t offset);
/* The first that begins at or behind `offset`; NULL: none. */
const struct faulty_range *faulty_next(const struct log_impl *l, int64_t offset);
/* The last in segment `base` that ends at or before `offset`: behind it batches can be read again. NULL: none. */
const struct faulty_range *faulty_before(const struct log_impl *l, int64_t base, int64_t offset);
/* The first in segment `base` that overlaps bytes [from, to); NULL: none. */
const struct faulty_range *faulty_overlaps(const struct log_impl *l, int64_t base, uint32_t from, uint32_t to);
/* Says once what was found, and keeps it. ERR_EXISTS: known already, not said again. ERR_NOMEM: said, not kept. */
enum err faulty_add(struct log_impl *l, const struct faulty_range *r, const char *why);
/* The range that begins at `start` reads right. */
void faulty_heal(struct log_impl *l, int64_t start);
/* The log was cut to `end`, its file at `place`: of a range that this cuts the part before it is left. What takes the place of the rest is
 * sound, and no range reaches beyond its file. */
void faulty_cut(struct log_impl *l, int64_t end, struct place place);
/* Its start moved, segments may be gone. */
void faulty_trim(struct log_impl *l);
/* The segments that begin in [from, to) are others now. */
void faulty_forget(struct log_impl *l, int64_t from, int64_t to);
#endif
