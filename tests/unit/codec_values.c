/* codec_values.c - see codec_values.h. */
#include <inttypes.h>
#include "base/assert.h"
#include "tests/unit/codec_values.h"

/* ---- making ------------------------------------------------------------------------------ */

/* splitmix64 (Steele, Lea, Flood 2014) */
static uint64_t next(struct codec_fill *f) {
    uint64_t z = f->state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t below(struct codec_fill *f, uint64_t n) { return next(f) % n; }

/* Small values and the ends of the range are as frequent as all others together. */
static uint64_t integer(struct codec_fill *f, unsigned bits) {
    uint64_t mask = bits == 64 ? UINT64_MAX : (1ull << bits) - 1;
    switch (below(f, 4)) {
    case 0: return below(f, 4);
    case 1: return (uint64_t)-1 & mask;
    case 2: return (1ull << (bits - 1)) - below(f, 2);
    default: return next(f) & mask;
    }
}

bool fill_chance(struct codec_fill *f) { return below(f, 2) == 0; }
bool fill_null(struct codec_fill *f, bool nullable) { return nullable && below(f, 4) == 0; }
int32_t fill_count(struct codec_fill *f, bool nullable) { return fill_null(f, nullable) ? -1 : (int32_t)below(f, 4); }

void *fill_array(struct codec_fill *f, int32_t count, size_t size) {
    if (count <= 0) return NULL;
    void *array = arena_array(f->arena, (size_t)count, size);
    ASSERT(array != NULL);
    return array;
}

bool fill_bool(struct codec_fill *f) { return fill_chance(f); }
int8_t fill_i8(struct codec_fill *f) { return (int8_t)integer(f, 8); }
int16_t fill_i16(struct codec_fill *f) { return (int16_t)integer(f, 16); }
uint16_t fill_u16(struct codec_fill *f) { return (uint16_t)integer(f, 16); }
int32_t fill_i32(struct codec_fill *f) { return (int32_t)integer(f, 32); }
uint32_t fill_u32(struct codec_fill *f) { return (uint32_t)integer(f, 32); }
int64_t fill_i64(struct codec_fill *f) { return (int64_t)integer(f, 64); }
double fill_f64(struct codec_fill *f) { return (double)fill_i64(f) / 8; }

struct uuid fill_uuid(struct codec_fill *f) {
    struct uuid u = {{0}};
    if (fill_chance(f))
        for (size_t i = 0; i < sizeof u.b; i++) u.b[i] = (uint8_t)next(f);
    return u;
}

/* Mostly short; now and then the length needs two bytes as a varint. */
static int32_t length(struct codec_fill *f) {
    return (int32_t)(below(f, 16) == 0 ? 120 + below(f, 200) : below(f, 12));
}

struct str fill_str(struct codec_fill *f, bool nullable) {
    if (fill_null(f, nullable)) return STR_NULL;
    int32_t len = length(f);
    char *p = fill_array(f, len, 1);
    for (int32_t i = 0; i < len; i++) p[i] = (char)('a' + below(f, 26));
    return p ? (struct str){p, len} : STR_LIT("");
}

struct bytes fill_bytes(struct codec_fill *f, bool nullable) {
    if (fill_null(f, nullable)) return BYTES_NULL;
    int32_t len = length(f);
    uint8_t *p = fill_array(f, len, 1);
    for (int32_t i = 0; i < len; i++) p[i] = (uint8_t)next(f);
    return (struct bytes){p ? p : (const uint8_t *)"", len};
}

/* ---- comparing --------------------------------------------------------------------------- */

bool equal_bytes(struct bytes a, struct bytes b) {
    return (a.p == NULL) == (b.p == NULL) && a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, (size_t)a.len) == 0);
}

/* ---- printing ---------------------------------------------------------------------------- */

void dump_name(FILE *out, const char *name) { fprintf(out, " %s=", name); }

bool dump_open(FILE *out, int32_t count) {
    fputs(count < 0 ? "null" : "[", out);
    return count >= 0;
}

void dump_comma(FILE *out, int32_t index) {
    if (index > 0) fputc(',', out);
}

void dump_bool(FILE *out, bool v) { fputs(v ? "true" : "false", out); }
void dump_i8(FILE *out, int8_t v) { fprintf(out, "%d", v); }
void dump_i16(FILE *out, int16_t v) { fprintf(out, "%d", v); }
void dump_u16(FILE *out, uint16_t v) { fprintf(out, "%u", v); }
void dump_i32(FILE *out, int32_t v) { fprintf(out, "%" PRId32, v); }
void dump_u32(FILE *out, uint32_t v) { fprintf(out, "%" PRIu32, v); }
void dump_i64(FILE *out, int64_t v) { fprintf(out, "%" PRId64, v); }
void dump_f64(FILE *out, double v) { fprintf(out, "%.3f", v); }

void dump_uuid(FILE *out, struct uuid v) {
    for (size_t i = 0; i < sizeof v.b; i++) fprintf(out, "%02x", v.b[i]);
}

void dump_str(FILE *out, struct str v) {
    if (v.p) fprintf(out, "\"%.*s\"", (int)v.len, v.p);
    else fputs("null", out);
}

void dump_bytes(FILE *out, struct bytes v) {
    fputs(v.p ? "#" : "null", out);
    for (int32_t i = 0; i < v.len; i++) fprintf(out, "%02x", v.p[i]);
}
