/* catalog_format.c - the catalogue as bytes: records, footers, and what a file says. */
#include <stdlib.h>
#include <string.h>
#define XXH_STATIC_LINKING_ONLY /* XXH3_state_t on the stack */
#include <xxhash.h>
#include "base/assert.h"
#include "base/bytes.h"
#include "log/catalog_impl.h"
#include "log/mutant.h"
#include "proto/storage.pb-c.h"

#define CATALOG_MAGIC 0x43565256u /* "VRVC" */
#define SUM_OFFSET 24u

uint32_t catalog_record_bytes(uint32_t len) { return ALIGN_UP(CATALOG_HEAD_BYTES + len, 8u); }

uint32_t catalog_record_put(uint8_t *out, enum catalog_record_type type, uint64_t plid, const uint8_t *data, uint32_t len) {
    uint32_t bytes = catalog_record_bytes(len);
    memset(out, 0, CATALOG_HEAD_BYTES);
    store_le32(out, CATALOG_MAGIC);
    out[4] = (uint8_t)type;
    store_le32(out + 8, len);
    store_le64(out + 16, plid);
    if (len > 0) memcpy(out + CATALOG_HEAD_BYTES, data, len);
    memset(out + CATALOG_HEAD_BYTES + len, 0, bytes - CATALOG_HEAD_BYTES - len);
    XXH128_hash_t sum = XXH3_128bits(out, bytes);
    store_le64(out + SUM_OFFSET, sum.low64);
    store_le64(out + SUM_OFFSET + 8, sum.high64);
    return bytes;
}

/* The sum field counts as zero; hashing in two parts leaves the caller's bytes alone. */
static bool record_sum_ok(const uint8_t *p, uint32_t bytes) {
    if (MUTANT(FOOTER_FIRST) && p[4] != CATALOG_FOOTER) return true;
    uint8_t head[CATALOG_HEAD_BYTES];
    memcpy(head, p, sizeof head);
    memset(head + SUM_OFFSET, 0, 16);
    XXH3_state_t state;
    XXH3_128bits_reset(&state);
    XXH3_128bits_update(&state, head, sizeof head);
    XXH3_128bits_update(&state, p + sizeof head, bytes - sizeof head);
    XXH128_hash_t sum = XXH3_128bits_digest(&state);
    return load_le64(p + SUM_OFFSET) == sum.low64 && load_le64(p + SUM_OFFSET + 8) == sum.high64;
}

enum err catalog_record_parse(const uint8_t *file, size_t size, size_t offset, struct catalog_record *r) {
    if (offset > size || size - offset < CATALOG_HEAD_BYTES) return ERR_TRUNCATED;
    const uint8_t *p = file + offset;
    if (load_le32(p) != CATALOG_MAGIC || p[4] < CATALOG_STATE || p[4] > CATALOG_FOOTER) return ERR_CORRUPT;
    uint32_t len = load_le32(p + 8);
    if (len > size - offset - CATALOG_HEAD_BYTES) return ERR_TRUNCATED;
    uint32_t bytes = catalog_record_bytes(len);
    if (bytes < len || bytes > size - offset) return ERR_TRUNCATED;
    if (!record_sum_ok(p, bytes)) return ERR_CORRUPT;
    *r = (struct catalog_record){(enum catalog_record_type)p[4], load_le64(p + 16), p + CATALOG_HEAD_BYTES, len, bytes};
    return OK;
}

static XXH128_canonical_t sum_of(const uint8_t *p, size_t len) {
    XXH128_canonical_t out;
    XXH128_canonicalFromHash(&out, XXH3_128bits(p, len));
    return out;
}

/* Bytes of padding that make a footer whose message has `len` bytes without it end at a block: the field costs two bytes
 * for its tag and one or two for its length, and the record is 8-aligned by itself. */
static size_t footer_padding(uint64_t at, size_t len) {
    uint64_t end = at + catalog_record_bytes((uint32_t)len);
    size_t gap = (size_t)(ALIGN_UP(end, (uint64_t)IO_BLOCK_BYTES) - (at + CATALOG_HEAD_BYTES + len));
    if (gap < 8 || MUTANT(FOOTER_UNPADDED)) return 0;
    return gap <= 130 ? gap - 3 : gap - 4;
}

uint8_t *catalog_footer_build(const struct catalog_footer *f, const uint8_t *states, size_t states_len, uint32_t count,
                              uint64_t previous, uint64_t at, uint32_t *bytes) {
    static const uint8_t zeros[IO_BLOCK_BYTES];
    ASSERT(at % 8 == 0);
    XXH128_canonical_t sum = sum_of(states, states_len);
    Varve__Storage__CatalogFooter m = VARVE__STORAGE__CATALOG_FOOTER__INIT;
    m.checkpoint_seq = f->checkpoint_seq;
    m.next_piece = f->next.piece;
    m.next_offset = f->next.offset;
    m.chain = f->chain;
    m.durable_seq = f->durable_seq;
    m.next_plid = f->next_plid;
    m.journal = f->journal;
    m.journal_set = f->set;
    m.clean_stop = f->clean_stop;
    m.state_count = count;
    m.state_bytes = states_len;
    m.state_sum = (ProtobufCBinaryData){sizeof sum.digest, sum.digest};
    m.previous_footer = previous;
    m.piece_bytes = f->piece_bytes;
    m.sum_seed = f->seed;
    m.padding.len = footer_padding(at, varve__storage__catalog_footer__get_packed_size(&m));
    m.padding.data = (uint8_t *)(uintptr_t)zeros;
    size_t len = varve__storage__catalog_footer__get_packed_size(&m);
    uint8_t *data = malloc(len);
    uint8_t *out = malloc(catalog_record_bytes((uint32_t)len));
    if (data != NULL && out != NULL) {
        varve__storage__catalog_footer__pack(&m, data);
        *bytes = catalog_record_put(out, CATALOG_FOOTER, 0, data, (uint32_t)len);
        ASSERT(((at + *bytes) % IO_BLOCK_BYTES == 0 || MUTANT(FOOTER_UNPADDED)) && *bytes <= CATALOG_FOOTER_BYTES_MAX);
    } else {
        free(out);
        out = NULL;
    }
    free(data);
    return out;
}

/* What a footer says of the records before it. */
struct coverage { uint64_t previous, from, count; };

/* Decodes a footer record that lies at `offset` and checks that the bytes it covers are there. */
static enum err footer_check(const uint8_t *file, size_t offset, const struct catalog_record *r, struct catalog_footer *f,
                             struct coverage *c) {
    Varve__Storage__CatalogFooter *m = varve__storage__catalog_footer__unpack(NULL, r->len, r->data);
    if (m == NULL) return ERR_CORRUPT;
    enum err err = ERR_CORRUPT;
    if (m->state_bytes <= offset && m->state_sum.len == 16) {
        XXH128_canonical_t sum = sum_of(file + offset - m->state_bytes, m->state_bytes);
        if (memcmp(sum.digest, m->state_sum.data, 16) == 0 || MUTANT(FOOTER_FIRST)) err = OK;
    }
    *f = (struct catalog_footer){
        .checkpoint_seq = m->checkpoint_seq, .next = {m->next_piece, m->next_offset}, .chain = m->chain,
        .durable_seq = m->durable_seq, .next_plid = m->next_plid, .journal = m->journal, .set = m->journal_set,
        .piece_bytes = m->piece_bytes, .seed = m->sum_seed, .clean_stop = m->clean_stop};
    *c = (struct coverage){m->previous_footer, offset - m->state_bytes, m->state_count};
    varve__storage__catalog_footer__free_unpacked(m, NULL);
    return err;
}

/* Whether a complete footer lies anywhere at or behind `from`. */
static bool footer_behind(const uint8_t *file, size_t size, size_t from) {
    for (size_t at = ALIGN_UP(from, (size_t)8); at < size; at += 8) {
        struct catalog_record r;
        struct catalog_footer f;
        struct coverage c;
        if (catalog_record_parse(file, size, at, &r) != OK || r.type != CATALOG_FOOTER) continue;
        if (footer_check(file, at, &r, &f, &c) == OK) return true;
    }
    return false;
}

/* Finds the last complete footer of the unbroken run of records from the start. */
static void find_extent(const uint8_t *file, size_t size, struct catalog_extent *x) {
    size_t at = 0;
    uint64_t count = 0;
    *x = (struct catalog_extent){.bad_at = SIZE_MAX};
    while (at < size) {
        struct catalog_record r;
        if (catalog_record_parse(file, size, at, &r) != OK) break;
        if (r.type == CATALOG_FOOTER) {
            struct catalog_footer f;
            struct coverage c;
            if (footer_check(file, at, &r, &f, &c) != OK) break;
            if (c.previous != x->last_footer || c.from != x->complete_bytes || c.count != count) break;
            x->last_footer = at;
            x->complete_bytes = at + r.bytes;
            count = 0;
        } else {
            count++;
        }
        at += r.bytes;
    }
    if (at < size) x->bad_at = at;
}

enum err catalog_walk(const uint8_t *file, size_t size, catalog_walk_fn *fn, void *ctx, struct catalog_extent *x) {
    find_extent(file, size, x);
    if (x->complete_bytes == 0) {
        if (x->bad_at == SIZE_MAX) x->bad_at = 0;
        return ERR_CORRUPT;
    }
    for (size_t at = 0; at < x->complete_bytes;) {
        struct catalog_record r;
        struct catalog_footer f;
        struct coverage c;
        enum err err = catalog_record_parse(file, size, at, &r);
        if (err == OK && r.type == CATALOG_FOOTER) err = footer_check(file, at, &r, &f, &c);
        if (err == OK) err = fn(ctx, at, &r, r.type == CATALOG_FOOTER ? &f : NULL);
        if (err != OK) return err;
        at += r.bytes;
    }
    /* Recovery cuts what an unfinished checkpoint left before anything is appended, so bad bytes
     * with a complete footer behind them are not the remains of a crash. */
    return x->bad_at != SIZE_MAX && footer_behind(file, size, x->bad_at) ? ERR_CORRUPT : OK;
}
