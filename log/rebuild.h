/* rebuild.h - for `varve dump --repair`: a catalogue made from the partition folders, when the old one is damaged. Blocks.
 *
 * Folders tell nearly everything: the manifest whose they are, batches the offsets, epochs and producers. Log starts,
 * configurations and generations come from the newest states of the old catalogue that can be read. The journal begins anew: what only
 * the old one held is the caller's to say. */
#ifndef LOG_REBUILD_H
#define LOG_REBUILD_H
#include "base/io.h"
#include "log/meta.h"

struct rebuilt_log { uint64_t plid; char topic[256]; int32_t partition; int64_t end; };
struct rebuilt {
    uint8_t *catalog;                    /* the file's bytes, malloc'ed */
    size_t len;
    struct rebuilt_log *logs;            /* malloc'ed */
    uint32_t count;
    uint64_t seed, checkpoint_seq;       /* of the old journal, by its newest footer that can be read; 0: there is none */
};
/* A folder that was left out, and bytes behind the last sound batch of a log: they are cut off after `keep` has them. */
struct rebuild {
    void (*skipped)(void *ctx, const char *folder, const char *why);
    bool (*keep)(void *ctx, const char *folder, int64_t base, uint32_t position, const uint8_t *data, size_t len);
    bool dry;                            /* nothing is cut */
    void *ctx;
};
/* ERR_IO, ERR_NOMEM; `r` is then empty. */
MUST_CHECK enum err catalog_rebuild(struct io *io, const char *dir, const struct meta *meta, const uint8_t *old, size_t old_len, const struct rebuild *how,
                                    struct rebuilt *r);
void rebuilt_free(struct rebuilt *r);
#endif
