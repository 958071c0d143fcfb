/* manifest.h - `varve.manifest`: who a partition folder belongs to, and digests of its sealed segments.
 *
 * Envelope (little-endian), then one protobuf message (proto/storage_manifest.proto):
 *   off size field
 *     0    4 magic "VMAN"
 *     4    2 version = 1
 *     6    2 zero
 *     8    4 length of the message
 *    12    4 zero
 *    16   16 XXH3-128 of the whole file with this field zero, canonical form
 * The file ends with the message. It is replaced as a whole (io_replace_file), so a manifest that does
 * not verify is damage, or a folder whose making was cut short.
 *
 * Digests: XXH3-128 of the .log file, and XXH3-64 of each chunk of 64 KiB (the last may be shorter),
 * so that a read verifies only the chunks that it touches. Seed 0. */
#ifndef LOG_MANIFEST_H
#define LOG_MANIFEST_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/bytes.h"
#include "base/err.h"

#define MANIFEST_FILE "varve.manifest"
#define MANIFEST_CHUNK_BYTES 65536u
#define MANIFEST_BYTES_MAX (256u << 20)   /* about 2 TiB of sealed segments; a parser's bound */

struct digest128 { uint8_t b[16]; };

struct sealed_segment {
    int64_t base_offset;
    uint64_t size_bytes;
    struct digest128 digest;
    uint64_t *chunks;             /* owned; sealed_chunks(size_bytes) of them */
};
struct manifest {
    uint64_t plid;
    struct uuid topic_id;
    char topic[256];              /* NUL-terminated */
    int32_t partition;
    uint64_t generation;
    int64_t compacted_end;        /* segments that begin below it may have gaps in their offsets */
    struct sealed_segment *segments;  /* ascending base offset, owned */
    uint32_t segment_count, segment_cap;
};

static inline uint64_t sealed_chunks(uint64_t size_bytes) { return (size_bytes + MANIFEST_CHUNK_BYTES - 1) / MANIFEST_CHUNK_BYTES; }

void manifest_init(struct manifest *m);
void manifest_free(struct manifest *m);
/* Adds, or replaces the one with the same base offset. Takes `s->chunks` over on OK. ERR_NOMEM. */
MUST_CHECK enum err manifest_put(struct manifest *m, const struct sealed_segment *s);
void manifest_remove(struct manifest *m, int64_t base_offset);   /* harmless when it is not there */
const struct sealed_segment *manifest_find(const struct manifest *m, int64_t base_offset);
/* `*out` is malloc'ed. ERR_NOMEM. ERR_TOO_LARGE: above MANIFEST_BYTES_MAX. */
MUST_CHECK enum err manifest_encode(const struct manifest *m, uint8_t **out, size_t *len);
/* ERR_CORRUPT: torn, flipped, or not one. ERR_UNSUPPORTED: a later version. ERR_NOMEM. `m` is empty after an error. */
MUST_CHECK enum err manifest_decode(struct manifest *m, const uint8_t *data, size_t len);
/* Whose the manifest is, from its first bytes (MANIFEST_PEEK_BYTES, or all there are), for a start with many folders: the sum is
 * verified only if all of the file is there. False: it is none, torn, or flipped where this looks. */
enum { MANIFEST_PEEK_BYTES = 1024 };
bool manifest_peek(const uint8_t *data, size_t len, uint64_t file_bytes, uint64_t *plid);
/* Whether the bytes of chunk `chunk` (whole: 64 KiB, or what is left at the end) are those that were sealed. */
bool sealed_chunk_ok(const struct sealed_segment *s, uint64_t chunk, const uint8_t *data, size_t len);

/* Digests a file fed in order, in pieces of any size. */
struct digester;
MUST_CHECK struct digester *digester_new(void);   /* NULL: memory */
void digester_free(struct digester *d);
void digester_reset(struct digester *d);
MUST_CHECK enum err digester_feed(struct digester *d, const void *data, size_t len);   /* ERR_NOMEM */
uint64_t digester_bytes(const struct digester *d);
/* What was fed so far as a sealed segment; `out->chunks` is malloc'ed. The digester may be fed on. ERR_NOMEM. */
MUST_CHECK enum err digester_result(const struct digester *d, int64_t base_offset, struct sealed_segment *out);

struct digest128 digest128_of(const void *data, size_t len);
#endif
