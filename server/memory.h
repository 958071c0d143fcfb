/* memory.h - one budget, memory.max.bytes, and what every other bound takes of it.
 *
 *   tail.bytes                     1/16  recent batches; slow readers may keep 1.5 times as much of it alive (log/shard.h)
 *   queued.max.request.bytes       1/4   frames, what waits behind them, their decoded forms
 *   queued.max.response.bytes      1/8   answers that nobody has taken yet
 *   request.arena.max.bytes        1/32  in decoding, one request on each reactor
 *   max.decompressed.batch.bytes   1/8   being looked into, one batch on each reactor
 *   log.cleaner.dedupe.buffer.size 1/32  keys that compaction looks at, where there is something to compact
 *   appends on their way           1/16  to the journal (log_store_config.submitted_bytes)
 *   fixed                                the process, and for each reactor its ring and buffers to receive into
 *
 * What is left, a fifth at least, is for compaction's batches (one on each reactor, as it was and as it will be) and for what grows with topics, partitions, producers and connections. Those have
 * bounds of their own (max.topic.partitions, max.connections; consumer groups 1/16, idempotent producers 1/16, log_store_config.producers_bytes; fetch sessions 1/32). A set value wins over its share; a sum
 * above the budget is refused.
 *
 * A pure function: what the machine has is an argument. */
#ifndef SERVER_MEMORY_H
#define SERVER_MEMORY_H
#include "server/config.h"

/* Fills the fields that were left to their defaults, and their texts. `machine_bytes`: 0: unknown.
 * ERR_INVALID: `why` says what does not fit. ERR_NOMEM. */
MUST_CHECK enum err memory_plan(struct config *c, int64_t machine_bytes, char *why, size_t why_len);
/* All parts as they are now, at their worst. */
int64_t memory_planned_bytes(const struct config *c);
/* Of one reactor: appends that the journal does not have yet. */
int64_t memory_submitted_bytes(const struct config *c);

/* What this machine or container gives the process: memory_machine.c. 0: cannot be told. */
int64_t memory_machine_bytes(void);
#endif
