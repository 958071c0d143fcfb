/* recv_pool.h - buffers of IO_POOLED_RECV_BYTES that an io lends to IO_POOLED receives.
 *
 * One slab, a stack of free indexes. One thread. Private to the implementations of base/io.h. */
#ifndef BASE_RECV_POOL_H
#define BASE_RECV_POOL_H
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include "base/assert.h"
#include "base/io.h"

struct recv_pool {
    uint8_t *slab;       /* `count` buffers, page-aligned, owned */
    uint32_t *free;      /* stack of indexes, the first `free_count` are valid, owned */
    uint32_t count, free_count;
};

/* False: out of memory, nothing is held. */
static inline bool recv_pool_init(struct recv_pool *p, uint32_t count) {
    *p = (struct recv_pool){.count = count, .free_count = count};
    if (posix_memalign((void **)&p->slab, IO_BLOCK_BYTES, (size_t)count * IO_POOLED_RECV_BYTES) != 0) p->slab = NULL;
    p->free = malloc(count * sizeof *p->free);
    if (!p->slab || !p->free) {
        free(p->slab);
        free(p->free);
        return false;
    }
    for (uint32_t i = 0; i < count; i++) p->free[i] = count - 1 - i;
    return true;
}

static inline void recv_pool_free(struct recv_pool *p) {
    free(p->slab);
    free(p->free);
}

static inline uint8_t *recv_pool_at(const struct recv_pool *p, uint32_t index) {
    ASSERT(index < p->count);
    return p->slab + (size_t)index * IO_POOLED_RECV_BYTES;
}

static inline uint32_t recv_pool_index(const struct recv_pool *p, const void *buf) {
    ASSERT((const uint8_t *)buf >= p->slab);
    size_t distance = (size_t)((const uint8_t *)buf - p->slab);
    ASSERT(distance % IO_POOLED_RECV_BYTES == 0 && distance / IO_POOLED_RECV_BYTES < p->count);
    return (uint32_t)(distance / IO_POOLED_RECV_BYTES);
}

static inline uint8_t *recv_pool_take(struct recv_pool *p) {
    return p->free_count ? recv_pool_at(p, p->free[--p->free_count]) : NULL;
}

static inline void recv_pool_give(struct recv_pool *p, void *buf) {
    ASSERT(p->free_count < p->count); /* else something was given back twice */
    p->free[p->free_count++] = recv_pool_index(p, buf);
}
#endif
