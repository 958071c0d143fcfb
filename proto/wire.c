/* wire.c - see wire.h. */
#include <stdlib.h>
#include "base/assert.h"
#include "proto/wire.h"

enum { STR_MAX_BYTES = INT16_MAX, WRITER_FIRST_BYTES = 256 };

static void reader_fail(struct wire_reader *r, enum err err) {
    if (r->err == OK) r->err = err;
    r->p = r->end; /* nothing more can be read */
}

const uint8_t *wire_skip(struct wire_reader *r, size_t len) {
    if (UNLIKELY(r->err != OK || len > wire_left(r))) {
        reader_fail(r, ERR_TRUNCATED);
        return NULL;
    }
    const uint8_t *p = r->p;
    r->p += len;
    return p;
}

/* ---- numbers ----------------------------------------------------------------------------- */

int8_t wire_get_i8(struct wire_reader *r) {
    const uint8_t *p = wire_skip(r, 1);
    return p ? (int8_t)*p : 0;
}

bool wire_get_bool(struct wire_reader *r) { return wire_get_i8(r) != 0; }

uint16_t wire_get_u16(struct wire_reader *r) {
    const uint8_t *p = wire_skip(r, 2);
    return p ? load_be16(p) : 0;
}

uint32_t wire_get_u32(struct wire_reader *r) {
    const uint8_t *p = wire_skip(r, 4);
    return p ? load_be32(p) : 0;
}

int16_t wire_get_i16(struct wire_reader *r) { return (int16_t)wire_get_u16(r); }
int32_t wire_get_i32(struct wire_reader *r) { return (int32_t)wire_get_u32(r); }

int64_t wire_get_i64(struct wire_reader *r) {
    const uint8_t *p = wire_skip(r, 8);
    return p ? (int64_t)load_be64(p) : 0;
}

double wire_get_f64(struct wire_reader *r) {
    uint64_t bits = (uint64_t)wire_get_i64(r);
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

struct uuid wire_get_uuid(struct wire_reader *r) {
    struct uuid v = {{0}};
    const uint8_t *p = wire_skip(r, sizeof v.b);
    if (p) memcpy(v.b, p, sizeof v.b);
    return v;
}

/* Little-endian groups of 7 bits. Bits beyond `bits` make it corrupt, as does a group too many. */
static uint64_t get_groups(struct wire_reader *r, unsigned bits) {
    uint64_t v = 0;
    for (unsigned shift = 0; shift < bits; shift += 7) {
        const uint8_t *p = wire_skip(r, 1);
        if (!p) return 0;
        uint64_t group = *p & 0x7f;
        if (shift + 7 > bits && group >> (bits - shift)) break;
        v |= group << shift;
        if (!(*p & 0x80)) return v;
    }
    reader_fail(r, ERR_CORRUPT);
    return 0;
}

uint32_t wire_get_uvarint(struct wire_reader *r) {
    if (LIKELY(r->p < r->end && !(*r->p & 0x80))) return *r->p++;
    return (uint32_t)get_groups(r, 32);
}

int32_t wire_get_varint(struct wire_reader *r) {
    uint32_t v = wire_get_uvarint(r);
    return (int32_t)((v >> 1) ^ (0 - (v & 1)));
}

int64_t wire_get_varlong(struct wire_reader *r) {
    uint64_t v = get_groups(r, 64);
    return (int64_t)((v >> 1) ^ (0 - (v & 1)));
}

/* ---- strings, arrays, tags --------------------------------------------------------------- */

/* A length or count; -1 for null. */
static int32_t get_len(struct wire_reader *r, bool compact, bool two_bytes, bool nullable) {
    int64_t len;
    if (compact) len = (int64_t)wire_get_uvarint(r) - 1;
    else len = two_bytes ? wire_get_i16(r) : wire_get_i32(r);
    if (r->err != OK) return 0;
    if (len < (nullable ? -1 : 0) || len > INT32_MAX) {
        reader_fail(r, ERR_CORRUPT);
        return 0;
    }
    return (int32_t)len;
}

struct str wire_get_str(struct wire_reader *r, bool compact, bool nullable) {
    int32_t len = get_len(r, compact, true, nullable);
    if (len < 0) return STR_NULL;
    if (len > STR_MAX_BYTES) reader_fail(r, ERR_CORRUPT);
    const uint8_t *p = wire_skip(r, (size_t)len);
    return p ? (struct str){(const char *)p, len} : STR_NULL;
}

struct bytes wire_get_bytes(struct wire_reader *r, bool compact, bool nullable) {
    int32_t len = get_len(r, compact, false, nullable);
    if (len < 0) return BYTES_NULL;
    const uint8_t *p = wire_skip(r, (size_t)len);
    return p ? (struct bytes){p, len} : BYTES_NULL;
}

int32_t wire_get_count(struct wire_reader *r, bool compact, bool nullable, size_t min_elem_bytes) {
    int32_t count = get_len(r, compact, false, nullable);
    if (count > 0 && (size_t)count > wire_left(r) / MAX(min_elem_bytes, 1)) {
        reader_fail(r, ERR_TRUNCATED);
        return 0;
    }
    return count;
}

void *wire_array(struct wire_reader *r, int32_t count, size_t elem_size) {
    if (r->err != OK || count <= 0) return NULL;
    void *array = arena_array(r->arena, (size_t)count, elem_size);
    if (!array) reader_fail(r, ERR_NOMEM);
    return array;
}

void wire_skip_tags(struct wire_reader *r) {
    for (uint32_t n = wire_get_uvarint(r); n > 0 && r->err == OK; n--) {
        wire_get_uvarint(r);
        uint32_t size = wire_get_uvarint(r);
        wire_skip(r, size);
    }
}

/* ---- writer ------------------------------------------------------------------------------ */

void wire_writer_init(struct wire_writer *w, size_t limit_bytes) {
    *w = (struct wire_writer){.limit_bytes = limit_bytes, .ref_min_bytes = UINT32_MAX};
}

void wire_writer_free(struct wire_writer *w) {
    free(w->data);
    free(w->refs);
    *w = (struct wire_writer){.limit_bytes = w->limit_bytes, .ref_min_bytes = w->ref_min_bytes};
}

static void writer_fail(struct wire_writer *w, enum err err) {
    if (w->err == OK) w->err = err;
}

static bool writer_grow(struct wire_writer *w, size_t len) {
    size_t total;
    if (w->err != OK) return false;
    if (__builtin_add_overflow(wire_writer_total(w), len, &total) || total > w->limit_bytes) {
        writer_fail(w, ERR_TOO_LARGE);
        return false;
    }
    size_t cap = MAX(w->cap * 2, (size_t)WRITER_FIRST_BYTES);
    cap = MAX(MIN(cap, w->limit_bytes), w->len + len);
    uint8_t *data = realloc(w->data, cap);
    if (!data) {
        writer_fail(w, ERR_NOMEM);
        return false;
    }
    w->data = data;
    w->cap = cap;
    return true;
}

/* Room for `len` more bytes, already counted as written; NULL and err when there is none. */
static uint8_t *writer_take(struct wire_writer *w, size_t len) {
    bool fits = w->err == OK && w->cap - w->len >= len && w->limit_bytes - wire_writer_total(w) >= len;
    if (UNLIKELY(!fits) && !writer_grow(w, len)) return NULL;
    uint8_t *p = w->data + w->len;
    w->len += len;
    return p;
}

void wire_put_i8(struct wire_writer *w, int8_t v) {
    uint8_t *p = writer_take(w, 1);
    if (p) *p = (uint8_t)v;
}

void wire_put_bool(struct wire_writer *w, bool v) { wire_put_i8(w, v ? 1 : 0); }

void wire_put_u16(struct wire_writer *w, uint16_t v) {
    uint8_t *p = writer_take(w, 2);
    if (p) store_be16(p, v);
}

void wire_put_u32(struct wire_writer *w, uint32_t v) {
    uint8_t *p = writer_take(w, 4);
    if (p) store_be32(p, v);
}

void wire_put_i16(struct wire_writer *w, int16_t v) { wire_put_u16(w, (uint16_t)v); }
void wire_put_i32(struct wire_writer *w, int32_t v) { wire_put_u32(w, (uint32_t)v); }

void wire_put_i64(struct wire_writer *w, int64_t v) {
    uint8_t *p = writer_take(w, 8);
    if (p) store_be64(p, (uint64_t)v);
}

void wire_put_f64(struct wire_writer *w, double v) {
    int64_t bits;
    memcpy(&bits, &v, sizeof bits);
    wire_put_i64(w, bits);
}

void wire_put_raw(struct wire_writer *w, const void *data, size_t len) {
    if (len == 0) return;
    uint8_t *p = writer_take(w, len);
    if (p) memcpy(p, data, len);
}

void wire_put_uuid(struct wire_writer *w, const struct uuid *v) { wire_put_raw(w, v->b, sizeof v->b); }

static void put_groups(struct wire_writer *w, uint64_t v) {
    uint8_t groups[10];
    size_t n = 0;
    while (v > 0x7f) {
        groups[n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    groups[n++] = (uint8_t)v;
    wire_put_raw(w, groups, n);
}

void wire_put_uvarint(struct wire_writer *w, uint32_t v) {
    if (LIKELY(v < 0x80)) wire_put_i8(w, (int8_t)v);
    else put_groups(w, v);
}

void wire_put_varint(struct wire_writer *w, int32_t v) { wire_put_uvarint(w, ((uint32_t)v << 1) ^ (uint32_t)(v >> 31)); }
void wire_put_varlong(struct wire_writer *w, int64_t v) { put_groups(w, ((uint64_t)v << 1) ^ (uint64_t)(v >> 63)); }

/* A length or count; -1 for null. */
static void put_len(struct wire_writer *w, int32_t len, bool compact, bool two_bytes) {
    if (compact) wire_put_uvarint(w, (uint32_t)(len + 1));
    else if (two_bytes) wire_put_i16(w, (int16_t)len);
    else wire_put_i32(w, len);
}

void wire_put_count(struct wire_writer *w, int32_t count, bool compact) {
    if (count < -1 || count == INT32_MAX) writer_fail(w, ERR_INVALID);
    else put_len(w, count, compact, false);
}

void wire_put_str(struct wire_writer *w, struct str s, bool compact, bool nullable) {
    if (!s.p) {
        put_len(w, nullable ? -1 : 0, compact, true);
    } else if (s.len < 0 || s.len > STR_MAX_BYTES) {
        writer_fail(w, ERR_INVALID);
    } else {
        put_len(w, s.len, compact, true);
        wire_put_raw(w, s.p, (size_t)s.len);
    }
}

/* Whether there is anything to follow. */
static bool put_bytes_len(struct wire_writer *w, struct bytes b, bool compact, bool nullable) {
    if (!b.p) {
        put_len(w, nullable ? -1 : 0, compact, false);
    } else if (b.len < 0 || b.len == INT32_MAX) {
        writer_fail(w, ERR_INVALID);
    } else {
        put_len(w, b.len, compact, false);
        return b.len > 0 && w->err == OK;
    }
    return false;
}

void wire_put_bytes(struct wire_writer *w, struct bytes b, bool compact, bool nullable) {
    if (put_bytes_len(w, b, compact, nullable)) wire_put_raw(w, b.p, (size_t)b.len);
}

static void put_ref(struct wire_writer *w, struct bytes b) {
    if (w->limit_bytes - wire_writer_total(w) < (size_t)b.len) {
        writer_fail(w, ERR_TOO_LARGE);
        return;
    }
    if (w->ref_count == w->ref_cap) {
        uint32_t cap = w->ref_cap ? w->ref_cap * 2 : 8;
        struct wire_ref *refs = realloc(w->refs, cap * sizeof *refs);
        if (!refs) {
            writer_fail(w, ERR_NOMEM);
            return;
        }
        w->refs = refs;
        w->ref_cap = cap;
    }
    w->refs[w->ref_count++] = (struct wire_ref){w->len, b};
    w->ref_bytes += (size_t)b.len;
}

void wire_put_records(struct wire_writer *w, struct bytes b, bool compact, bool nullable) {
    if (!put_bytes_len(w, b, compact, nullable)) return;
    if ((uint32_t)b.len >= w->ref_min_bytes) put_ref(w, b);
    else wire_put_raw(w, b.p, (size_t)b.len);
}

void wire_patch_i32(struct wire_writer *w, size_t at, int32_t v) {
    if (w->err != OK) return;
    ASSERT(at <= w->len && w->len - at >= 4);
    store_be32(w->data + at, (uint32_t)v);
}

uint32_t wire_writer_iov(const struct wire_writer *w, struct iovec *iov, uint32_t max) {
    uint32_t n = 0;
    size_t at = 0;
    ASSERT(max / 2 >= w->ref_count && max > 2 * w->ref_count);
    for (uint32_t i = 0; i < w->ref_count; i++) {
        const struct wire_ref *ref = &w->refs[i];
        if (ref->at > at) iov[n++] = (struct iovec){w->data + at, ref->at - at};
        iov[n++] = (struct iovec){(void *)(uintptr_t)ref->b.p, (size_t)ref->b.len};
        at = ref->at;
    }
    if (w->len > at) iov[n++] = (struct iovec){w->data + at, w->len - at};
    return n;
}
