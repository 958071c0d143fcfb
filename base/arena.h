/* arena.h - bump allocator with a hard bound: everything of one request lives and dies together.
 *
 * Grows in chunks up to `limit_bytes` in all; beyond it arena_alloc returns NULL and nothing has
 * changed. Memory is zeroed and 16-byte aligned. One thread. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H
#include <stddef.h>
#include "base/bytes.h"

struct arena_chunk;
struct arena {
    struct arena_chunk *chunks; /* newest first, owned */
    size_t used_bytes;          /* handed out, rounding included */
    size_t limit_bytes;
};

void arena_init(struct arena *a, size_t limit_bytes);
void arena_reset(struct arena *a); /* frees everything but keeps the limit */
#define arena_free arena_reset
void *arena_alloc(struct arena *a, size_t size);                  /* NULL: limit reached */
void *arena_array(struct arena *a, size_t count, size_t size);    /* overflow-checked; NULL: limit */
char *arena_strdup(struct arena *a, struct str s);                /* NUL-terminated copy; NULL: limit */
#endif
