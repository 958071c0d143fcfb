/* digester.c - digests of sealed segments; see manifest.h. */
#include <stdlib.h>
#include "log/manifest.h"
#include "log/xxh3.h"

struct digester {
    XXH3_state_t *whole, *chunk;
    uint64_t size_bytes;
    uint64_t *chunks;             /* of the complete chunks */
    uint64_t count, cap;
};

struct digest128 digest128_of(const void *data, size_t len) {
    XXH128_canonical_t canonical;
    struct digest128 out;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(data, len));
    memcpy(&out, &canonical, sizeof out);
    return out;
}

struct digester *digester_new(void) {
    struct digester *d = calloc(1, sizeof *d);
    if (!d) return NULL;
    d->whole = XXH3_createState();
    d->chunk = XXH3_createState();
    if (!d->whole || !d->chunk) {
        digester_free(d);
        return NULL;
    }
    digester_reset(d);
    return d;
}

void digester_free(struct digester *d) {
    if (!d) return;
    XXH3_freeState(d->whole);
    XXH3_freeState(d->chunk);
    free(d->chunks);
    free(d);
}

void digester_reset(struct digester *d) {
    XXH3_128bits_reset(d->whole);
    XXH3_64bits_reset(d->chunk);
    d->size_bytes = d->count = 0;
}

uint64_t digester_bytes(const struct digester *d) { return d->size_bytes; }

static enum err chunk_done(struct digester *d) {
    if (d->count == d->cap) {
        uint64_t cap = d->cap ? d->cap * 2 : 64;
        uint64_t *grown = realloc(d->chunks, cap * sizeof *grown);
        if (!grown) return ERR_NOMEM;
        d->chunks = grown;
        d->cap = cap;
    }
    d->chunks[d->count++] = XXH3_64bits_digest(d->chunk);
    XXH3_64bits_reset(d->chunk);
    return OK;
}

enum err digester_feed(struct digester *d, const void *data, size_t len) {
    const uint8_t *p = data;
    while (len > 0) {
        size_t room = MANIFEST_CHUNK_BYTES - (size_t)(d->size_bytes % MANIFEST_CHUNK_BYTES), n = MIN(len, room);
        XXH3_128bits_update(d->whole, p, n);
        XXH3_64bits_update(d->chunk, p, n);
        d->size_bytes += n;
        p += n;
        len -= n;
        if (n == room) {
            enum err err = chunk_done(d);
            if (err != OK) return err;
        }
    }
    return OK;
}

enum err digester_result(const struct digester *d, int64_t base_offset, struct sealed_segment *out) {
    uint64_t chunks = sealed_chunks(d->size_bytes);
    XXH128_canonical_t canonical;
    *out = (struct sealed_segment){.base_offset = base_offset, .size_bytes = d->size_bytes};
    out->chunks = malloc((chunks + 1) * sizeof *out->chunks);
    if (!out->chunks) return ERR_NOMEM;
    if (d->count > 0) memcpy(out->chunks, d->chunks, d->count * sizeof *out->chunks);
    if (chunks > d->count) out->chunks[d->count] = XXH3_64bits_digest(d->chunk);
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(d->whole));
    memcpy(&out->digest, &canonical, sizeof out->digest);
    return OK;
}

bool sealed_chunk_ok(const struct sealed_segment *s, uint64_t chunk, const uint8_t *data, size_t len) {
    uint64_t count = sealed_chunks(s->size_bytes);
    if (chunk >= count) return false;
    uint64_t whole = chunk + 1 < count ? MANIFEST_CHUNK_BYTES : s->size_bytes - chunk * MANIFEST_CHUNK_BYTES;
    return len == whole && XXH3_64bits(data, len) == s->chunks[chunk];
}
