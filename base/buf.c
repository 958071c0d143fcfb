#include "base/buf.h"

#include <stdlib.h>
#include "base/assert.h"

void buf_free(struct buf *b) {
    free(b->data);
    free(b);
}

struct buf *buf_new(uint32_t cap, uint32_t align) {
    ASSERT((align & (align - 1)) == 0);
    struct buf *b = malloc(sizeof *b);
    if (!b) return NULL;
    void *data = NULL;
    if (align > sizeof(void *)) {
        if (posix_memalign(&data, align, cap ? cap : 1) != 0) data = NULL;
    } else {
        data = malloc(cap ? cap : 1);
    }
    if (!data) {
        free(b);
        return NULL;
    }
    *b = (struct buf){.refs = 1, .cap = cap, .data = data, .release = buf_free};
    return b;
}

void buf_unref(struct buf *b) {
    if (!b) return;
    ASSERT(b->refs > 0);
    if (--b->refs == 0) b->release(b);
}
