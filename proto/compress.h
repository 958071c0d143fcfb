/* compress.h - the four codecs of record batches, one-shot, output capped.
 *
 * gzip: RFC 1952, any number of members. snappy: raw block and xerial framing (both read; written
 * as xerial, which every client reads). lz4: frame format, independent 64 KiB blocks. zstd: plain
 * frames, with or without content size. Contexts are made per call or kept per thread.
 * (The prefix keeps clear of zlib, which owns the name compress().) */
#ifndef PROTO_COMPRESS_H
#define PROTO_COMPRESS_H
#include <stddef.h>
#include "base/err.h"
#include "proto/record_batch.h"

/* `*out` is malloc'ed and holds `*out_len` bytes. ERR_CORRUPT: not the codec's format.
 * ERR_TOO_LARGE: more than `max_out_bytes`. ERR_NOMEM. ERR_UNSUPPORTED: unknown codec.
 * Memory never exceeds max_out_bytes plus the codec's window. */
MUST_CHECK enum err codec_decompress(enum batch_codec codec, const uint8_t *in, size_t in_len, size_t max_out_bytes, uint8_t **out, size_t *out_len);
/* `level` INT_MIN: the codec's default. */
MUST_CHECK enum err codec_compress(enum batch_codec codec, int level, const uint8_t *in, size_t in_len, uint8_t **out, size_t *out_len);
const char *codec_name(enum batch_codec codec);                  /* "none", "gzip", ... */
bool codec_from_name(const char *name, enum batch_codec *out);   /* also "uncompressed" */
#endif
