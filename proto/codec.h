/* codec.h - what the generated decoders and encoders share beyond wire.h: arrays of primitive
 * values, nullable structs, tag sections. Not meant for hand-written code.
 *
 * The sticky errors of wire.h hold here too. */
#ifndef PROTO_CODEC_H
#define PROTO_CODEC_H
#include "proto/wire.h"

/* Sets the error unless there is one already. */
void codec_read_fail(struct wire_reader *r, enum err err);
void codec_write_fail(struct wire_writer *w, enum err err);

/* Arrays: the elements (NULL for none) and their number in `*n` (-1 for null, 0 on error). */
int8_t *codec_get_i8s(struct wire_reader *r, int32_t *n, bool compact, bool nullable);
int16_t *codec_get_i16s(struct wire_reader *r, int32_t *n, bool compact, bool nullable);
int32_t *codec_get_i32s(struct wire_reader *r, int32_t *n, bool compact, bool nullable);
int64_t *codec_get_i64s(struct wire_reader *r, int32_t *n, bool compact, bool nullable);
struct uuid *codec_get_uuids(struct wire_reader *r, int32_t *n, bool compact, bool nullable);
struct str *codec_get_strs(struct wire_reader *r, int32_t *n, bool compact, bool nullable);
/* Zeroed structs of `size` bytes for the caller to decode into. */
void *codec_get_structs(struct wire_reader *r, int32_t *n, bool compact, bool nullable, size_t min_bytes, size_t size);
/* A struct that may be null: a marker comes first when `nullable`, in a tag as uvarint (0 null,
 * 1 present), else as int8 (-1 null, 1 present). NULL for null and on error. */
void *codec_get_struct(struct wire_reader *r, bool nullable, bool tagged, size_t size);

void codec_put_i8s(struct wire_writer *w, const int8_t *v, int32_t n, bool compact, bool nullable);
void codec_put_i16s(struct wire_writer *w, const int16_t *v, int32_t n, bool compact, bool nullable);
void codec_put_i32s(struct wire_writer *w, const int32_t *v, int32_t n, bool compact, bool nullable);
void codec_put_i64s(struct wire_writer *w, const int64_t *v, int32_t n, bool compact, bool nullable);
void codec_put_uuids(struct wire_writer *w, const struct uuid *v, int32_t n, bool compact, bool nullable);
void codec_put_strs(struct wire_writer *w, const struct str *v, int32_t n, bool compact, bool nullable);
/* As wire_put_count, but null is ERR_INVALID where it is not allowed. */
void codec_put_count(struct wire_writer *w, int32_t n, bool compact, bool nullable);
/* Writes the marker; whether the struct follows. */
bool codec_put_struct(struct wire_writer *w, bool present, bool nullable, bool tagged);

/* One tagged field. While it is open the reader ends where the field does; closing it with bytes
 * left over is ERR_CORRUPT. */
struct codec_tag {
    uint32_t number;
    const uint8_t *outer_end;
};
struct codec_tag codec_tag_open(struct wire_reader *r);
void codec_tag_skip(struct wire_reader *r);
void codec_tag_close(struct wire_reader *r, const struct codec_tag *tag);
/* The value is written between the two; the size is put before it afterwards. */
size_t codec_tag_begin(struct wire_writer *w, uint32_t number);
void codec_tag_end(struct wire_writer *w, size_t begin);
#endif
