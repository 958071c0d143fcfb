/* Chunks double from 2 KiB to 256 KiB, a larger allocation gets a chunk of its own. The limit
 * counts what was handed out; what chunks waste at their ends is at most as much again. */
#include "base/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include "base/compiler.h"

#define ARENA_ALIGN 16u
#define CHUNK_MIN_BYTES 2048u
#define CHUNK_MAX_BYTES (256u * 1024)

struct arena_chunk {
    struct arena_chunk *older;
    size_t used, cap;
    _Alignas(ARENA_ALIGN) unsigned char bytes[];
};

void arena_init(struct arena *a, size_t limit_bytes) {
    *a = (struct arena){.limit_bytes = limit_bytes};
}

void arena_reset(struct arena *a) {
    struct arena_chunk *chunk = a->chunks;
    while (chunk) {
        struct arena_chunk *older = chunk->older;
        free(chunk);
        chunk = older;
    }
    a->chunks = NULL;
    a->used_bytes = 0;
}

static struct arena_chunk *chunk_add(struct arena *a, size_t size) {
    size_t cap = a->chunks ? MIN(a->chunks->cap * 2, (size_t)CHUNK_MAX_BYTES) : CHUNK_MIN_BYTES;
    cap = MAX(size, MIN(cap, a->limit_bytes - a->used_bytes));
    struct arena_chunk *chunk = calloc(1, sizeof *chunk + cap);
    if (!chunk) return NULL;
    chunk->cap = cap;
    chunk->older = a->chunks;
    a->chunks = chunk;
    return chunk;
}

void *arena_alloc(struct arena *a, size_t size) {
    if (size > SIZE_MAX - ARENA_ALIGN) return NULL;
    size = size ? ALIGN_UP(size, (size_t)ARENA_ALIGN) : ARENA_ALIGN;
    if (size > a->limit_bytes - a->used_bytes) return NULL;
    struct arena_chunk *chunk = a->chunks;
    if (!chunk || size > chunk->cap - chunk->used) chunk = chunk_add(a, size);
    if (!chunk) return NULL;
    void *p = chunk->bytes + chunk->used;
    chunk->used += size;
    a->used_bytes += size;
    return p;
}

void *arena_array(struct arena *a, size_t count, size_t size) {
    size_t total;
    if (__builtin_mul_overflow(count, size, &total)) return NULL;
    return arena_alloc(a, total);
}

char *arena_strdup(struct arena *a, struct str s) {
    size_t len = s.p && s.len > 0 ? (size_t)s.len : 0;
    char *copy = arena_alloc(a, len + 1);
    if (copy && len) memcpy(copy, s.p, len);
    return copy;
}
