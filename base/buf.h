/* buf.h - reference-counted bytes: the only kind of object in Varve that is refcounted.
 *
 * A buf belongs to one reactor: only its thread may touch `refs`. Another reactor that needs the
 * bytes gets a loan, returned by message; the lender keeps its reference meanwhile.
 * Who is handed a buf borrows it; who keeps it calls buf_ref. */
#ifndef BASE_BUF_H
#define BASE_BUF_H
#include <stddef.h>
#include <stdint.h>
#include "base/compiler.h"

struct buf {
    uint32_t refs;
    uint32_t cap;
    uint8_t *data;                        /* `cap` bytes */
    void (*release)(struct buf *b);       /* called when the last reference goes */
    void *owner;                          /* for `release` */
};

/* A part of a buf. Holding a slice means holding one reference to `buf`. */
struct slice {
    struct buf *buf;
    uint32_t off, len;
};

/* NULL when memory is short. `align` is 0 (malloc's) or a power of two (4096 for O_DIRECT). */
MUST_CHECK struct buf *buf_new(uint32_t cap, uint32_t align);
static inline struct buf *buf_ref(struct buf *b) { b->refs++; return b; }
void buf_unref(struct buf *b);            /* NULL is allowed */
void buf_free(struct buf *b);             /* what `release` is in a buf of buf_new(), for those who put theirs before it */
static inline uint8_t *slice_data(const struct slice *s) { return s->buf->data + s->off; }
#endif
