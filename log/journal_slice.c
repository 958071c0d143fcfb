/* journal_slice.c - filling a slice. Runs on the shard's thread; uses only what is constant in the journal. */
#include <string.h>
#include "base/assert.h"
#include "base/bytes.h"
#include "log/journal_impl.h"

#define SLICE_FIRST_BYTES IO_BLOCK_BYTES

enum err journal_slice_init(struct journal_slice *s, struct journal *j, uint32_t shard) {
    struct buf *b = buf_new(SLICE_FIRST_BYTES, IO_BLOCK_BYTES);
    if (b == NULL) return ERR_NOMEM;
    void (*done)(struct journal_slice *) = s->done;
    void *owner = s->owner;
    *s = (struct journal_slice){.buf = b, .used = JOURNAL_GROUP_HEADER_BYTES, .shard = shard, .done = done, .owner = owner,
                                .journal = j, .limit = j->group_bytes};
    return OK;
}

uint32_t journal_body_max(const struct journal *j) {
    /* One block is left for the LINK; 256 is more than any fixed header needs. */
    return j->piece_bytes - IO_BLOCK_BYTES - JOURNAL_GROUP_HEADER_BYTES - JOURNAL_ENTRY_HEAD_BYTES - 256;
}

/* The buffer grows fourfold, so that a full slice has been copied by a third of itself. */
static enum err grow(struct journal_slice *s, uint32_t needed) {
    uint32_t cap = s->buf->cap;
    while (cap < needed) cap = cap < s->limit && 4 * cap >= s->limit ? s->limit : 4 * cap;
    if (cap > s->limit) cap = ALIGN_UP(needed, IO_BLOCK_BYTES);
    struct buf *b = buf_new(cap, IO_BLOCK_BYTES);
    if (b == NULL) return ERR_NOMEM;
    memcpy(b->data, s->buf->data, s->used);
    buf_unref(s->buf);
    s->buf = b;
    return OK;
}

uint8_t *journal_slice_add(struct journal_slice *s, enum entry_type type, uint8_t flags, uint64_t plid, uint32_t header_len,
                           uint32_t body_len, enum err *err) {
    ASSERT(header_len <= 256 || body_len == 0);
    *err = ERR_TOO_LARGE;
    if (header_len > UINT16_MAX || body_len > journal_body_max(s->journal)) return NULL;
    uint32_t total = journal_entry_bytes(header_len, body_len);
    if (JOURNAL_GROUP_HEADER_BYTES + total > s->journal->piece_bytes - IO_BLOCK_BYTES) return NULL;
    *err = ERR_FULL;
    if (s->entries > 0 && s->used + total > s->limit) return NULL;
    *err = s->used + total <= s->buf->cap ? OK : grow(s, s->used + total);
    if (*err != OK) return NULL;
    uint8_t *p = s->buf->data + s->used;
    p[0] = (uint8_t)type;
    p[1] = flags;
    store_le16(p + 2, (uint16_t)header_len);
    store_le32(p + 4, body_len);
    store_le64(p + 8, plid);
    uint32_t content = JOURNAL_ENTRY_HEAD_BYTES + header_len + body_len;
    memset(p + content, 0, total - content);
    s->used += total;
    s->entries++;
    if (type != ENTRY_RECORDS && type != ENTRY_DIRECT) s->urgent = true;
    return p + JOURNAL_ENTRY_HEAD_BYTES;
}
