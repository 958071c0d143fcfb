/* digests.h - chunk digests of a sealed segment beside its open file; private to log/.
 *
 * They come from varve.manifest when a sealed segment is first read through a handle, and stay as long as the handle does,
 * with a mark for each chunk that was verified once. Their memory is bounded (DIGESTS_BYTES_MAX for a shard): beyond it
 * those of idle handles go, and if that is not enough a segment is read without, by the checks of its batches alone. */
#ifndef LOG_DIGESTS_H
#define LOG_DIGESTS_H
#include "log/manifest.h"
#include "log/shard.h"

enum { DIGESTS_BYTES_MAX = 8 << 20, DIGESTS_MANIFEST_MAX = 64 << 20 };

struct digests {
    struct sealed_segment sealed;   /* chunks owned */
    uint8_t *verified;              /* a bit for each chunk */
    uint64_t bytes;                 /* of memory */
};

struct digest_load {
    struct io_op op;
    struct log_impl *log;
    struct file *file;
    int64_t base;
    uint64_t size_bytes;
    uint32_t change;
    int fd;
    uint8_t *data;
    struct manifest manifest;
    enum err err;
    void (*done)(struct digest_load *x);
    void *owner;
};
/* Whether digests of the sealed segment could still be loaded for `file`. */
bool digests_wanted(const struct file *file, const struct segment *s);
/* `done` runs later, with or without file->digests. The caller holds `file`. */
void digests_load(struct digest_load *x, struct log_impl *l, const struct segment *s, struct file *file, void (*done)(struct digest_load *x),
                  void *owner);
void digest_load_free(struct digest_load *x);   /* for a store that is closed with the node down */
void digests_free(struct files *f, struct file *file);

static inline bool digests_verified(const struct digests *d, uint64_t chunk) { return d->verified[chunk / 8] & (1u << chunk % 8); }
/* Whether bytes [from, to) were all verified before. */
bool digests_cover(const struct digests *d, uint32_t from, uint32_t to);
/* Verifies the chunks that lie wholly in `data`, which is the segment from `from` (a multiple of the chunk size) on, and are
 * not verified yet. False: *chunk is the first from `*chunk` on that does not match; call again with the next. */
bool digests_check(struct digests *d, const uint8_t *data, uint32_t from, uint32_t len, bool again, uint64_t *chunk);
#endif
