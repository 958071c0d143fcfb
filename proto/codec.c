/* codec.c - see codec.h. */
#include "proto/codec.h"

void codec_read_fail(struct wire_reader *r, enum err err) {
    if (r->err == OK) r->err = err;
}

void codec_write_fail(struct wire_writer *w, enum err err) {
    if (w->err == OK) w->err = err;
}

/* ---- arrays ------------------------------------------------------------------------------ */

void *codec_get_structs(struct wire_reader *r, int32_t *n, bool compact, bool nullable, size_t min_bytes, size_t size) {
    int32_t count = wire_get_count(r, compact, nullable, min_bytes);
    void *array = wire_array(r, count, size);
    *n = array ? count : MIN(count, 0);
    return array;
}

/* Arrays of numbers are checked and taken as one piece. */
#define CODEC_NUMBERS(bits)                                                                                      \
    int##bits##_t *codec_get_i##bits##s(struct wire_reader *r, int32_t *n, bool compact, bool nullable) {        \
        int##bits##_t *v = codec_get_structs(r, n, compact, nullable, bits / 8, bits / 8);                       \
        const uint8_t *p = v ? wire_skip(r, (size_t)*n * (bits / 8)) : NULL;                                     \
        for (int32_t i = 0; p && i < *n; i++) v[i] = (int##bits##_t)CODEC_LOAD##bits(p + (size_t)i * (bits / 8)); \
        return v;                                                                                                \
    }                                                                                                            \
    void codec_put_i##bits##s(struct wire_writer *w, const int##bits##_t *v, int32_t n, bool compact, bool nullable) { \
        codec_put_count(w, n, compact, nullable);                                                                \
        for (int32_t i = 0; i < n && w->err == OK; i++) wire_put_i##bits(w, v[i]);                               \
    }
#define CODEC_LOAD8(p) (*(p))
#define CODEC_LOAD16(p) load_be16(p)
#define CODEC_LOAD32(p) load_be32(p)
#define CODEC_LOAD64(p) load_be64(p)
CODEC_NUMBERS(8)
CODEC_NUMBERS(16)
CODEC_NUMBERS(32)
CODEC_NUMBERS(64)

struct uuid *codec_get_uuids(struct wire_reader *r, int32_t *n, bool compact, bool nullable) {
    struct uuid *v = codec_get_structs(r, n, compact, nullable, sizeof *v, sizeof *v);
    for (int32_t i = 0; i < *n; i++) v[i] = wire_get_uuid(r);
    return v;
}

struct str *codec_get_strs(struct wire_reader *r, int32_t *n, bool compact, bool nullable) {
    struct str *v = codec_get_structs(r, n, compact, nullable, compact ? 1 : 2, sizeof *v);
    for (int32_t i = 0; i < *n && r->err == OK; i++) v[i] = wire_get_str(r, compact, false);
    return v;
}

void codec_put_uuids(struct wire_writer *w, const struct uuid *v, int32_t n, bool compact, bool nullable) {
    codec_put_count(w, n, compact, nullable);
    for (int32_t i = 0; i < n && w->err == OK; i++) wire_put_uuid(w, &v[i]);
}

void codec_put_strs(struct wire_writer *w, const struct str *v, int32_t n, bool compact, bool nullable) {
    codec_put_count(w, n, compact, nullable);
    for (int32_t i = 0; i < n && w->err == OK; i++) wire_put_str(w, v[i], compact, false);
}

void codec_put_count(struct wire_writer *w, int32_t n, bool compact, bool nullable) {
    if (n < 0 && !nullable) codec_write_fail(w, ERR_INVALID);
    wire_put_count(w, n, compact);
}

/* ---- nullable structs -------------------------------------------------------------------- */

void *codec_get_struct(struct wire_reader *r, bool nullable, bool tagged, size_t size) {
    bool present = true;
    if (nullable && tagged) present = wire_get_uvarint(r) != 0;
    else if (nullable) present = wire_get_i8(r) >= 0;
    if (!present || r->err != OK) return NULL;
    return wire_array(r, 1, size);
}

bool codec_put_struct(struct wire_writer *w, bool present, bool nullable, bool tagged) {
    if (!nullable) {
        if (!present) codec_write_fail(w, ERR_INVALID);
    } else if (tagged) {
        wire_put_uvarint(w, present ? 1 : 0);
    } else {
        wire_put_i8(w, present ? 1 : -1);
    }
    return present;
}

/* ---- tags -------------------------------------------------------------------------------- */

struct codec_tag codec_tag_open(struct wire_reader *r) {
    struct codec_tag tag = {.outer_end = r->end, .number = wire_get_uvarint(r)};
    uint32_t size = wire_get_uvarint(r);
    if (size > wire_left(r)) codec_read_fail(r, ERR_TRUNCATED);
    else r->end = r->p + size;
    return tag;
}

void codec_tag_skip(struct wire_reader *r) { r->p = r->end; }

void codec_tag_close(struct wire_reader *r, const struct codec_tag *tag) {
    if (r->p != r->end) codec_read_fail(r, ERR_CORRUPT);
    r->end = tag->outer_end;
}

size_t codec_tag_begin(struct wire_writer *w, uint32_t number) {
    wire_put_uvarint(w, number);
    return w->len;
}

void codec_tag_end(struct wire_writer *w, size_t begin) {
    size_t size = w->len - begin;
    wire_put_uvarint(w, (uint32_t)size);
    if (w->err != OK) return;
    /* The size now stands behind the value: turn the two around. */
    uint8_t head[5], *value = w->data + begin;
    size_t head_len = w->len - begin - size;
    memcpy(head, value + size, head_len);
    memmove(value + head_len, value, size);
    memcpy(value, head, head_len);
}
