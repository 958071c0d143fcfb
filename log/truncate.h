/* truncate.h - private to log/: see truncate.c. */
#ifndef LOG_TRUNCATE_H
#define LOG_TRUNCATE_H
#include "log/shard.h"

/* Makes the segment's index again: from its files as far as they still hold, then from the batches. ERR_NOMEM, ERR_IO,
 * ERR_CORRUPT: the segment's batches cannot be read. */
MUST_CHECK enum err truncate_reindex(struct log_impl *l, struct segment *s);
/* Producers whose whole window was cut: their state comes from the newest snapshot and the batches behind it, as Kafka
 * makes it. Same errors. */
MUST_CHECK enum err truncate_find_producers(struct log_impl *l);
#endif
