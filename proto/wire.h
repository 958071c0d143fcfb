/* wire.h - reading and writing the primitive types of the Kafka protocol (big-endian).
 *
 * Reader: views into the caller's bytes, which must outlive what was decoded; arrays come from the
 * arena. The first failure sticks in `err` and every later read returns zero values, so decoders
 * check once at the end. The parser contract: a length is compared with what remains before it is
 * used; an array's count times the least size of an element must fit what remains, and its decoded
 * size must fit the arena, before anything is allocated; varints have at most 5 or 10 bytes.
 *
 * Writer: one growing buffer with a bound, plus references to large payloads (`wire_ref`) that are
 * not copied: wire_writer_iov() interleaves them. Writers fail the same sticky way.
 *
 * Used by the code that proto/protogen.c generates; hand-written use is for frames and headers. */
#ifndef PROTO_WIRE_H
#define PROTO_WIRE_H
#include <sys/uio.h>
#include "base/arena.h"
#include "base/bytes.h"
#include "base/err.h"

struct wire_reader {
    const uint8_t *p, *end;
    struct arena *arena;   /* borrowed */
    enum err err;          /* OK, ERR_TRUNCATED, ERR_CORRUPT (bad value), ERR_NOMEM (arena) */
};
static inline struct wire_reader wire_reader_init(const void *p, size_t len, struct arena *arena) {
    const uint8_t *begin = p ? p : (const void *)""; /* no bytes may be NULL */
    return (struct wire_reader){begin, begin + len, arena, OK};
}
static inline size_t wire_left(const struct wire_reader *r) { return (size_t)(r->end - r->p); }

bool wire_get_bool(struct wire_reader *r);
int8_t wire_get_i8(struct wire_reader *r);
int16_t wire_get_i16(struct wire_reader *r);
uint16_t wire_get_u16(struct wire_reader *r);
int32_t wire_get_i32(struct wire_reader *r);
uint32_t wire_get_u32(struct wire_reader *r);
int64_t wire_get_i64(struct wire_reader *r);
double wire_get_f64(struct wire_reader *r);
struct uuid wire_get_uuid(struct wire_reader *r);
uint32_t wire_get_uvarint(struct wire_reader *r);   /* not zigzag */
int32_t wire_get_varint(struct wire_reader *r);     /* zigzag */
int64_t wire_get_varlong(struct wire_reader *r);    /* zigzag */
/* `compact`: length as uvarint(n+1); else i16 (strings) or i32 (bytes). A null where `nullable`
 * is false is ERR_CORRUPT. */
struct str wire_get_str(struct wire_reader *r, bool compact, bool nullable);
struct bytes wire_get_bytes(struct wire_reader *r, bool compact, bool nullable);
/* Array count, -1 for null; checks count * min_elem_bytes against what remains. */
int32_t wire_get_count(struct wire_reader *r, bool compact, bool nullable, size_t min_elem_bytes);
void *wire_array(struct wire_reader *r, int32_t count, size_t elem_size); /* zeroed; NULL and err when it does not fit, or count <= 0 */
const uint8_t *wire_skip(struct wire_reader *r, size_t len);              /* the skipped bytes; NULL and err */
void wire_skip_tags(struct wire_reader *r);                               /* a whole tag section */

struct wire_ref { size_t at; struct bytes b; };     /* payload that belongs before byte `at` of the buffer */
struct wire_writer {
    uint8_t *data;
    size_t len, cap, limit_bytes;
    struct wire_ref *refs;
    uint32_t ref_count, ref_cap;
    size_t ref_bytes;
    uint32_t ref_min_bytes;  /* records fields at least this long are referenced; UINT32_MAX: always copied (default) */
    enum err err;            /* OK, ERR_NOMEM, ERR_TOO_LARGE, ERR_INVALID (value cannot be encoded at this version) */
};
void wire_writer_init(struct wire_writer *w, size_t limit_bytes);
void wire_writer_free(struct wire_writer *w);
static inline size_t wire_writer_total(const struct wire_writer *w) { return w->len + w->ref_bytes; }

void wire_put_bool(struct wire_writer *w, bool v);
void wire_put_i8(struct wire_writer *w, int8_t v);
void wire_put_i16(struct wire_writer *w, int16_t v);
void wire_put_u16(struct wire_writer *w, uint16_t v);
void wire_put_i32(struct wire_writer *w, int32_t v);
void wire_put_u32(struct wire_writer *w, uint32_t v);
void wire_put_i64(struct wire_writer *w, int64_t v);
void wire_put_f64(struct wire_writer *w, double v);
void wire_put_uuid(struct wire_writer *w, const struct uuid *v);
void wire_put_uvarint(struct wire_writer *w, uint32_t v);
void wire_put_varint(struct wire_writer *w, int32_t v);
void wire_put_varlong(struct wire_writer *w, int64_t v);
void wire_put_raw(struct wire_writer *w, const void *p, size_t len);
/* A null (p == NULL) where `nullable` is false is written as empty. */
void wire_put_str(struct wire_writer *w, struct str s, bool compact, bool nullable);
void wire_put_bytes(struct wire_writer *w, struct bytes b, bool compact, bool nullable);
void wire_put_records(struct wire_writer *w, struct bytes b, bool compact, bool nullable); /* may reference */
void wire_put_count(struct wire_writer *w, int32_t count, bool compact);   /* -1 for null */
/* Overwrite 4 bytes written earlier (frame sizes). */
void wire_patch_i32(struct wire_writer *w, size_t at, int32_t v);
/* Buffer and references in order. `max` must be at least 2 * ref_count + 1. Returns the number used. */
uint32_t wire_writer_iov(const struct wire_writer *w, struct iovec *iov, uint32_t max);
#endif
