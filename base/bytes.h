/* bytes.h - unaligned loads and stores in a stated byte order, and borrowed spans.
 *
 * Spans never own: what they point to must outlive them. A NULL `p` is Kafka's null value;
 * an empty value has a non-NULL `p` and length 0. */
#ifndef BASE_BYTES_H
#define BASE_BYTES_H
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct str { const char *p; int32_t len; };      /* not NUL-terminated */
struct bytes { const uint8_t *p; int32_t len; };
struct uuid { uint8_t b[16]; };

#define STR_LIT(s) ((struct str){"" s, (int32_t)sizeof(s) - 1})
#define STR_NULL ((struct str){NULL, 0})
#define BYTES_NULL ((struct bytes){NULL, 0})
static inline struct str str_from(const char *z) { return (struct str){z, z ? (int32_t)strlen(z) : 0}; }
static inline bool str_eq(struct str a, struct str b) {
    return (a.p == NULL) == (b.p == NULL) && a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, (size_t)a.len) == 0);
}
static inline bool str_is(struct str a, const char *z) { return str_eq(a, str_from(z)); }
static inline bool uuid_is_zero(const struct uuid *u) {
    static const struct uuid zero;
    return memcmp(u, &zero, sizeof zero) == 0;
}
static inline bool uuid_eq(const struct uuid *a, const struct uuid *b) { return memcmp(a, b, sizeof *a) == 0; }

#define BYTES_DEFINE(bits, order, swap)                                                    \
    static inline uint##bits##_t load_##order##bits(const void *p) {                       \
        uint##bits##_t v;                                                                  \
        memcpy(&v, p, sizeof v);                                                           \
        return swap(v);                                                                    \
    }                                                                                      \
    static inline void store_##order##bits(void *p, uint##bits##_t v) {                    \
        v = swap(v);                                                                       \
        memcpy(p, &v, sizeof v);                                                           \
    }
#define BYTES_SAME(v) (v)
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "Varve supports little-endian machines"
#endif
BYTES_DEFINE(16, be, __builtin_bswap16)
BYTES_DEFINE(32, be, __builtin_bswap32)
BYTES_DEFINE(64, be, __builtin_bswap64)
BYTES_DEFINE(16, le, BYTES_SAME)
BYTES_DEFINE(32, le, BYTES_SAME)
BYTES_DEFINE(64, le, BYTES_SAME)
#undef BYTES_SAME
#undef BYTES_DEFINE
#endif
