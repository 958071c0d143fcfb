/* swap.h - segments that compaction has made take the place of others (journal entry SWAP); private to log/.
 *
 *   1. the new .log, .index and .timeindex are complete and synced under names of their own, the folder is synced, and the manifest
 *      has no digests any more of what goes
 *   2. the SWAP entry joins the slice: from here on memory is of the new segment, read from those names (segment.swap_id)
 *   3. it is durable: the files are renamed, over those of the first old segment; the files of the others are unlinked
 *
 * A crash before 3 leaves the old files, and new ones that nobody knows, which go at the next start. A crash later: the entry is
 * in the journal until a checkpoint has synced the folder, and recovery renames what is not renamed. An attempt never
 * has a name that another had. */
#ifndef LOG_SWAP_H
#define LOG_SWAP_H
#include "log/manifest.h"
#include "log/shard.h"

/* `made`: base of the first old one, end of the last, swap_id set. `count` segments from made->base on go. ERR_NOMEM: nothing changed. */
MUST_CHECK enum err swap_join(struct log_impl *l, uint32_t count, const struct segment *made, const struct digest128 *digest, int64_t cleaned_end, bool dense);
void swap_durable(struct log_impl *l, int64_t base, uint64_t swap_id, uint32_t dropped_total);
/* Replay. ERR_CORRUPT, ERR_NOMEM. */
MUST_CHECK enum err swap_fold(struct log_impl *l, const uint8_t *body, uint32_t len);
/* Negative errno; a file that is not there was renamed before. */
MUST_CHECK int swap_rename(struct io *io, const char *dir, struct log_impl *l, int64_t base, uint64_t swap_id);
/* Removes what an attempt has left. */
void swap_unlink(struct io *io, const char *dir, const struct log_impl *l, int64_t base, uint64_t swap_id);
#endif
