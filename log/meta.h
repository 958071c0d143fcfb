/* meta.h - varve.meta: whose data directory this is.
 *
 * Two copies of message Meta (proto/storage.proto), each in a block of its own:
 *   magic u32 | length u32 | sum 16 (XXH3-128 of the message, low half, high half) | message | zeros to 4096
 * The file is replaced as a whole, so both copies are equal unless a disk has changed one.
 *
 * First start: meta_store() with journals = 0, then the journals are made, then meta_store() with their number.
 * So a directory that is found with journals > 0 has them, and journal_config.must_exist may be set. */
#ifndef LOG_META_H
#define LOG_META_H
#include "base/bytes.h"
#include "base/err.h"
#include "base/io.h"

struct meta {
    int32_t node_id;
    struct uuid cluster_id, incarnation;
    uint32_t journal_set;         /* generation of the journals, from 1 */
    uint32_t journals;            /* 0: not made yet */
    uint64_t sequence;            /* of this state of the file; set by meta_store and meta_load */
};

#define META_BYTES (2 * IO_BLOCK_BYTES)
/* Either copy of a file's bytes. ERR_CORRUPT: both are bad. `bad_copies` (may be NULL) 0 or 1. For the dump tool too. */
MUST_CHECK enum err meta_parse(const uint8_t *file, size_t len, struct meta *m, int *bad_copies);
/* Reads <dir>/varve.meta and writes it anew, so that what was read is durable and both copies are good.
 * ERR_NOT_FOUND: there is none. ERR_CORRUPT: both copies are bad, or it is from a later version. `why`: a sentence. */
MUST_CHECK enum err meta_load(struct io *io, const char *dir, struct meta *m, char *why, size_t why_len);
/* Durable when it returns OK. */
MUST_CHECK enum err meta_store(struct io *io, const char *dir, struct meta *m);
#endif
