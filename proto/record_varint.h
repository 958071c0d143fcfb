/* record_varint.h - the variable-length integers inside records: zigzag, 7 bits a byte, lowest
 * group first, at most 5 bytes for 32 bits and 10 for 64. Used by record_batch.c and
 * batch_builder.c; messages use proto/wire.h. */
#ifndef PROTO_RECORD_VARINT_H
#define PROTO_RECORD_VARINT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RECORD_VARINT_BYTES_MAX = 5, RECORD_VARLONG_BYTES_MAX = 10 };

/* False, with `*p` unspecified, when the bytes end first or the value has too many of them. */
static inline bool record_varlong_get(const uint8_t **p, const uint8_t *end, int64_t *out) {
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (*p == end) return false;
        uint8_t b = *(*p)++;
        if (shift == 63 && b > 1) return false;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80)) {
            *out = (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
            return true;
        }
    }
    return false;
}

static inline bool record_varint_get(const uint8_t **p, const uint8_t *end, int32_t *out) {
    uint32_t v = 0;
    for (unsigned shift = 0; shift < 35; shift += 7) {
        if (*p == end) return false;
        uint8_t b = *(*p)++;
        if (shift == 28 && b > 0x0f) return false;
        v |= (uint32_t)(b & 0x7f) << shift;
        if (!(b & 0x80)) {
            *out = (int32_t)(v >> 1) ^ -(int32_t)(v & 1);
            return true;
        }
    }
    return false;
}

/* Writes at `p`, which has room, and returns what follows. */
static inline uint8_t *record_varlong_put(uint8_t *p, int64_t value) {
    uint64_t v = ((uint64_t)value << 1) ^ (uint64_t)(value >> 63);
    while (v > 0x7f) {
        *p++ = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    *p++ = (uint8_t)v;
    return p;
}

static inline size_t record_varlong_bytes(int64_t value) {
    uint64_t v = ((uint64_t)value << 1) ^ (uint64_t)(value >> 63);
    return v == 0 ? 1 : (size_t)(63 - __builtin_clzll(v)) / 7 + 1;
}
#endif
