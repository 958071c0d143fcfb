/* lookup.c - see lookup.h. */
#include "log/lookup.h"
#include <stdlib.h>
#include "base/assert.h"

enum { BLOCK_BYTES = 64 * 1024 };

static uint32_t entry_bytes(const struct lookup *x) { return x->by_time ? TIME_ENTRY_BYTES : INDEX_ENTRY_BYTES; }

static bool qualifies(struct lookup *x, uint32_t i) {
    const uint8_t *p = x->block + (i - x->from) * entry_bytes(x);
    return x->by_time ? time_entry_get(p).timestamp < x->key : (int64_t)index_entry_get(p).relative <= x->key;
}

static void finish(struct lookup *x) {
    files_put(&x->sh->files, x->file);
    x->file = NULL;
    x->done(x);
}

static void keep(struct lookup *x, uint32_t i) {
    const uint8_t *p = x->block + (i - x->from) * entry_bytes(x);
    x->found = true;
    if (x->by_time) x->time = time_entry_get(p);
    else x->entry = index_entry_get(p);
}

static void next(struct lookup *x);

static void block_read(struct io_op *op) {
    struct lookup *x = CONTAINER_OF(op, struct lookup, op);
    if (op->result < (int64_t)x->count * entry_bytes(x)) {
        x->found = false;
        finish(x);
        return;
    }
    uint32_t low = x->from, high = x->from + x->count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (qualifies(x, mid)) low = mid + 1;
        else high = mid;
    }
    if (low > x->from) keep(x, low - 1);
    if (low == x->from) x->high = x->from;
    else if (low == x->from + x->count) x->low = low;
    else x->low = x->high = low;
    next(x);
}

static void next(struct lookup *x) {
    if (x->low >= x->high) {
        finish(x);
        return;
    }
    uint32_t block = BLOCK_BYTES / entry_bytes(x), left = x->high - x->low;
    x->from = left <= block ? x->low : x->low + (left - block) / 2;
    x->count = MIN(left, block);
    x->op = (struct io_op){.kind = IO_READ, .fd = x->file->fd, .offset = (uint64_t)x->from * entry_bytes(x), .buf = x->block,
                           .len = x->count * entry_bytes(x), .done = block_read};
    io_submit(x->sh->io, &x->op);
}

void lookup_start(struct lookup *x, struct log_impl *l, const struct segment *s, bool by_time, int64_t key,
                  void (*done)(struct lookup *x)) {
    *x = (struct lookup){.sh = l->pub.shard, .by_time = by_time, .key = key, .done = done};
    int rc;
    x->block = malloc(BLOCK_BYTES);
    if (x->block) x->file = files_get(&x->sh->files, l, s->base, by_time ? FILE_TIMEINDEX : FILE_INDEX, 0, &rc);
    x->high = (by_time ? s->time_index_bytes : s->index_bytes) / entry_bytes(x);
    if (x->file) next(x);
    else done(x);
}

void lookup_free(struct lookup *x) {
    ASSERT(!x->file);
    free(x->block);
    x->block = NULL;
}
