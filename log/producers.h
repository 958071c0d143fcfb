/* producers.h - idempotent producers of one log: a pure function of its records.
 *
 * Per producer id: epoch and the last five batches (KIP-98, KAFKA-5494; rules as Kafka 4.x applies them):
 *   1. same epoch and (first, last sequence) of a cached batch -> duplicate, original offsets
 *   2. epoch < stored -> ERR_FENCED; epoch > stored: first sequence must be 0, else ERR_SEQUENCE
 *   3. same epoch: first sequence must follow the last one (0 after 2147483647), else ERR_SEQUENCE
 *   4. unknown producer: any sequence is accepted here; log_append() demands 0 where none was ever forgotten, which Kafka does not
 * Exported as Kafka's `.snapshot` files (last batch of each only); recovery takes the state with its
 * windows from the catalogue and replays the journal. */
#ifndef LOG_PRODUCERS_H
#define LOG_PRODUCERS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "proto/record_batch.h"

enum { PRODUCER_WINDOW = 5 };
/* A log remembers at most 3/4 of this; then the half that wrote longest ago is forgotten, as if expired (rule 4). */
#define PRODUCERS_SLOTS_MAX 16384u
struct producer_batch { int32_t first_sequence, last_sequence; int64_t first_offset, last_offset, timestamp_ms; };
struct producer {
    int64_t id;
    int16_t epoch;
    uint8_t count;                                  /* batches in the window, oldest first */
    bool silent;                                    /* it has not written since it was found too old; not stored */
    struct producer_batch window[PRODUCER_WINDOW];
    int32_t coordinator_epoch;                      /* -1 */
    int64_t txn_first_offset;                       /* -1: no open transaction */
    int64_t last_timestamp_ms;
};
struct producers {
    struct producer *table;                         /* open addressing by id; private layout */
    uint32_t count, cap;
};

void producers_init(struct producers *p);
void producers_free(struct producers *p);
/* Applies the rules to a client's batch; changes nothing. Without producer id: OK. `dup` is set when
 * ERR_DUPLICATE. ERR_FENCED, ERR_SEQUENCE. */
MUST_CHECK enum err producers_check(const struct producers *p, const struct batch_header *h, struct producer_batch *dup);
/* Records a batch that entered the log (appended or replayed). ERR_NOMEM. */
MUST_CHECK enum err producers_apply(struct producers *p, const struct batch_header *h);
/* Forgets those whose newest timestamp is so old, if they were found so the last time, too, and have not written since: timestamps are the
 * clients', and may be years old (or the clock wrong) while a producer writes, and has batches under way that may come twice. */
void producers_expire(struct producers *p, int64_t now_ms, int64_t expiration_ms);
/* The next new producer needs a larger table. */
bool producers_full(const struct producers *p);
/* Forgets those whose last offset is below the median, but none with an open transaction. ERR_NOMEM: none. */
MUST_CHECK enum err producers_halve(struct producers *p);
const struct producer *producers_find(const struct producers *p, int64_t id);
/* The next one at or behind position `*at` (begin with 0), in no order, while nothing changes; NULL: no more. */
const struct producer *producers_next(const struct producers *p, uint32_t *at);
/* Iteration in ascending id, for snapshots (deterministic). `ids` is malloc'ed; NULL when empty or memory is out. */
int64_t *producers_sorted_ids(const struct producers *p, uint32_t *count);
/* Those of batches that end below `end`, with windows cut back to it. `*lost`: of some no batch is left, so they are left out.
 * `out` is initialised; ERR_NOMEM. */
MUST_CHECK enum err producers_below(const struct producers *p, int64_t end, struct producers *out, bool *lost);
MUST_CHECK enum err producers_put(struct producers *p, const struct producer *entry); /* restoring */
/* Kafka's .snapshot file (version 1). `*out` is malloc'ed. */
MUST_CHECK enum err producers_to_snapshot(const struct producers *p, uint8_t **out, size_t *len);
MUST_CHECK enum err producers_from_snapshot(struct producers *p, const uint8_t *data, size_t len); /* ERR_CORRUPT */
#endif
