/* compress.c - gzip, snappy, lz4 and zstd, one-shot.
 *
 * Sizes that the input declares are hints at most: an output buffer starts near the size of the
 * input and doubles up to the cap, so a few bytes can never make us allocate much, and a bomb
 * stops at the cap. Contexts live for one call. */
#include "proto/compress.h"

#include <libdeflate.h>
#include <limits.h>
#include <lz4frame.h>
#include <lz4hc.h>
#include <snappy-c.h>
#include <stdlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "base/assert.h"

enum {
    OUT_BYTES_MIN = 4096,
    EXPANSION_GUESS = 4,       /* text compresses about this well */
    DEFLATE_RATIO_MAX = 1032,  /* 258 bytes from 2 bits */
    SNAPPY_RATIO_MAX = 22,     /* 64 bytes from a copy of 3 */
    XERIAL_HEADER_BYTES = 16,
    XERIAL_BLOCK_BYTES = 32 * 1024,
    ZSTD_WINDOW_LOG_MIN = 23,  /* every decoder should take 8 MiB: RFC 8878, 3.1.1.1.2 */
    ZSTD_WINDOW_LOG_MAX = 27,  /* what the highest level uses */
    GZIP_LEVEL_DEFAULT = 6, GZIP_LEVEL_MAX = 12,
    LZ4_LEVEL_DEFAULT = 9,     /* Kafka's default; we use lz4's fast compressor for it */
    ZSTD_LEVEL_DEFAULT = 3
};
static const uint8_t XERIAL_MAGIC[8] = {0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0};

/* ---- growing output --------------------------------------------------------------------------- */

/* One byte beyond `max` may be filled: it is how "more than the cap" is told from "exactly". */
struct out {
    uint8_t *p;
    size_t len, cap, max;
};

static enum err out_grow(struct out *o, size_t cap) {
    uint8_t *grown = realloc(o->p, cap);
    if (!grown) return ERR_NOMEM;
    o->p = grown;
    o->cap = cap;
    return OK;
}

static enum err out_init(struct out *o, size_t guess, size_t max) {
    *o = (struct out){.max = MIN(max, SIZE_MAX / 4)};
    return out_grow(o, MIN(MAX(guess, (size_t)OUT_BYTES_MIN), o->max + 1));
}

/* Room for at least `need` more bytes, or for any at all when it is 0. ERR_TOO_LARGE: above the cap. */
static enum err out_reserve(struct out *o, size_t need) {
    if (o->len > o->max || need > o->max - o->len) return ERR_TOO_LARGE;
    if (o->cap > o->len && o->cap - o->len >= need) return OK;
    return out_grow(o, MIN(MAX(o->cap * 2, o->len + need), o->max + 1));
}

static enum err out_take(struct out *o, enum err err, uint8_t **out, size_t *out_len) {
    if (!err && o->len > o->max) err = ERR_TOO_LARGE;
    if (err) {
        free(o->p);
        return err;
    }
    *out = o->p;
    *out_len = o->len;
    return OK;
}

static size_t expansion_guess(size_t in_len) {
    return in_len > SIZE_MAX / EXPANSION_GUESS ? in_len : in_len * EXPANSION_GUESS;
}

/* ---- gzip ------------------------------------------------------------------------------------- */

/* The last member's footer tells its size: right for nearly all streams, and harmless when wrong
 * because more than the highest possible ratio is not believed. */
static size_t gzip_guess(const uint8_t *in, size_t in_len) {
    if (in_len < 18) return 0;
    size_t declared = load_le32(in + in_len - 4);
    return declared / DEFLATE_RATIO_MAX <= in_len ? declared : expansion_guess(in_len);
}

static enum err gunzip_member(struct libdeflate_decompressor *d, struct out *o, const uint8_t **in,
                              const uint8_t *end) {
    for (;;) {
        size_t used = 0, made = 0;
        enum libdeflate_result res = libdeflate_gzip_decompress_ex(d, *in, (size_t)(end - *in), o->p + o->len,
                                                                  o->cap - o->len, &used, &made);
        if (res == LIBDEFLATE_SUCCESS) {
            *in += used;
            o->len += made;
            return OK;
        }
        if (res != LIBDEFLATE_INSUFFICIENT_SPACE) return ERR_CORRUPT;
        if (o->cap > o->max) return ERR_TOO_LARGE;
        enum err err = out_grow(o, MIN(o->cap * 2, o->max + 1)); /* and begin this member again */
        if (err) return err;
    }
}

static enum err gunzip(const uint8_t *in, size_t in_len, struct out *o) {
    struct libdeflate_decompressor *d = libdeflate_alloc_decompressor();
    if (!d) return ERR_NOMEM;
    const uint8_t *end = in + in_len;
    enum err err = OK;
    do {
        err = gunzip_member(d, o, &in, end);
        if (!err && o->len > o->max) err = ERR_TOO_LARGE;
    } while (!err && in < end);
    libdeflate_free_decompressor(d);
    return err;
}

static enum err gzip(int level, const uint8_t *in, size_t in_len, struct out *o) {
    /* Kafka's scale is zlib's, -1 being the default. */
    int clamped = level < 0 ? GZIP_LEVEL_DEFAULT : MIN(level, GZIP_LEVEL_MAX);
    struct libdeflate_compressor *c = libdeflate_alloc_compressor(clamped);
    if (!c) return ERR_NOMEM;
    enum err err = out_reserve(o, libdeflate_gzip_compress_bound(c, in_len));
    if (!err) {
        o->len = libdeflate_gzip_compress(c, in, in_len, o->p, o->cap);
        ASSERT(o->len > 0);
    }
    libdeflate_free_compressor(c);
    return err;
}

/* ---- snappy ----------------------------------------------------------------------------------- */

static enum err unsnappy_block(const uint8_t *in, size_t in_len, struct out *o) {
    size_t len = 0;
    if (snappy_uncompressed_length((const char *)in, in_len, &len) != SNAPPY_OK) return ERR_CORRUPT;
    if (len / SNAPPY_RATIO_MAX > in_len) return ERR_CORRUPT;
    enum err err = out_reserve(o, len);
    if (err) return err;
    if (snappy_uncompress((const char *)in, in_len, (char *)o->p + o->len, &len) != SNAPPY_OK) return ERR_CORRUPT;
    o->len += len;
    return OK;
}

static bool is_xerial(const uint8_t *in, size_t in_len) {
    return in_len >= XERIAL_HEADER_BYTES && memcmp(in, XERIAL_MAGIC, sizeof XERIAL_MAGIC) == 0;
}

/* A raw block cannot look like the header: after its length (two bytes of the magic) a copy would
 * come first, with nothing to copy from. Nor can a block's length: the magic is negative. */
static enum err unsnappy(const uint8_t *in, size_t in_len, struct out *o) {
    if (!is_xerial(in, in_len)) return unsnappy_block(in, in_len, o);
    while (in_len > 0) {
        if (is_xerial(in, in_len)) { /* streams may have been joined */
            in += XERIAL_HEADER_BYTES;
            in_len -= XERIAL_HEADER_BYTES;
            continue;
        }
        if (in_len < 4) return ERR_CORRUPT;
        uint32_t block = load_be32(in);
        if (block > in_len - 4) return ERR_CORRUPT;
        enum err err = unsnappy_block(in + 4, block, o);
        if (err) return err;
        in += 4 + block;
        in_len -= 4 + block;
    }
    return OK;
}

static enum err snappy(const uint8_t *in, size_t in_len, struct out *o) {
    size_t blocks = in_len / XERIAL_BLOCK_BYTES + 1;
    enum err err = out_reserve(o, XERIAL_HEADER_BYTES + blocks * (4 + snappy_max_compressed_length(XERIAL_BLOCK_BYTES)));
    if (err) return err;
    memcpy(o->p, XERIAL_MAGIC, sizeof XERIAL_MAGIC);
    store_be32(o->p + 8, 1);  /* version, and the oldest one that can read it */
    store_be32(o->p + 12, 1);
    o->len = XERIAL_HEADER_BYTES;
    for (size_t at = 0; at < in_len;) {
        size_t take = MIN(in_len - at, (size_t)XERIAL_BLOCK_BYTES);
        size_t made = o->cap - o->len - 4;
        snappy_status status = snappy_compress((const char *)in + at, take, (char *)o->p + o->len + 4, &made);
        ASSERT(status == SNAPPY_OK);
        store_be32(o->p + o->len, (uint32_t)made);
        o->len += 4 + made;
        at += take;
    }
    return OK;
}

/* ---- lz4 -------------------------------------------------------------------------------------- */

static enum err unlz4_with(LZ4F_dctx *ctx, const uint8_t *in, size_t in_len, struct out *o) {
    const uint8_t *end = in + in_len;
    for (;;) {
        enum err err = out_reserve(o, 0);
        if (err) return err;
        size_t space = o->cap - o->len, made = space, used = (size_t)(end - in);
        size_t hint = LZ4F_decompress(ctx, o->p + o->len, &made, in, &used, NULL);
        if (LZ4F_isError(hint)) return ERR_CORRUPT;
        in += used;
        o->len += made;
        if (in == end && hint == 0) return OK;
        if (in == end && made < space) return ERR_CORRUPT; /* ends inside a frame */
        if (used == 0 && made == 0) return ERR_CORRUPT;
    }
}

static enum err unlz4(const uint8_t *in, size_t in_len, struct out *o) {
    LZ4F_dctx *ctx;
    if (LZ4F_isError(LZ4F_createDecompressionContext(&ctx, LZ4F_VERSION))) return ERR_NOMEM;
    enum err err = unlz4_with(ctx, in, in_len, o);
    LZ4F_freeDecompressionContext(ctx);
    return err;
}

static enum err lz4(int level, const uint8_t *in, size_t in_len, struct out *o) {
    LZ4F_preferences_t prefs = {
        .frameInfo = {.blockSizeID = LZ4F_max64KB, .blockMode = LZ4F_blockIndependent},
        .compressionLevel = level == INT_MIN || level == LZ4_LEVEL_DEFAULT ? 0 : MAX(0, MIN(level, LZ4HC_CLEVEL_MAX)),
    };
    /* LZ4F_compressFrame() would switch to a bigger block, or to linked ones, for some inputs; so
     * the frame is written in steps. */
    LZ4F_cctx *ctx;
    if (LZ4F_isError(LZ4F_createCompressionContext(&ctx, LZ4F_VERSION))) return ERR_NOMEM;
    enum err err = out_reserve(o, LZ4F_HEADER_SIZE_MAX + LZ4F_compressBound(in_len, &prefs));
    size_t n = 0;
    if (!err) {
        n = LZ4F_compressBegin(ctx, o->p, o->cap, &prefs);
        o->len = LZ4F_isError(n) ? 0 : n;
    }
    if (!err && !LZ4F_isError(n) && in_len > 0) {
        n = LZ4F_compressUpdate(ctx, o->p + o->len, o->cap - o->len, in, in_len, NULL);
        o->len += LZ4F_isError(n) ? 0 : n;
    }
    if (!err && !LZ4F_isError(n)) {
        n = LZ4F_compressEnd(ctx, o->p + o->len, o->cap - o->len, NULL);
        o->len += LZ4F_isError(n) ? 0 : n;
    }
    LZ4F_freeCompressionContext(ctx);
    if (err) return err;
    return LZ4F_isError(n) ? ERR_NOMEM : OK; /* the output has room: only allocation can fail */
}

/* ---- zstd ------------------------------------------------------------------------------------- */

static enum err zstd_err(size_t code) {
    switch (ZSTD_getErrorCode(code)) {
    case ZSTD_error_memory_allocation: return ERR_NOMEM;
    case ZSTD_error_frameParameter_windowTooLarge: return ERR_TOO_LARGE;
    default: return ERR_CORRUPT;
    }
}

static enum err unzstd_with(ZSTD_DCtx *ctx, const uint8_t *in, size_t in_len, struct out *o) {
    ZSTD_inBuffer src = {in, in_len, 0};
    for (;;) {
        enum err err = out_reserve(o, 0);
        if (err) return err;
        ZSTD_outBuffer dst = {o->p + o->len, o->cap - o->len, 0};
        size_t used = src.pos;
        size_t hint = ZSTD_decompressStream(ctx, &dst, &src);
        if (ZSTD_isError(hint)) return zstd_err(hint);
        o->len += dst.pos;
        if (src.pos == src.size && hint == 0) return OK;
        if (src.pos == src.size && dst.pos < dst.size) return ERR_CORRUPT; /* ends inside a frame */
        if (src.pos == used && dst.pos == 0) return ERR_CORRUPT;
    }
}

static enum err unzstd(const uint8_t *in, size_t in_len, struct out *o) {
    ZSTD_DCtx *ctx = ZSTD_createDCtx();
    if (!ctx) return ERR_NOMEM;
    int window_log = ZSTD_WINDOW_LOG_MIN;
    while (window_log < ZSTD_WINDOW_LOG_MAX && ((size_t)1 << window_log) < o->max) window_log++;
    size_t res = ZSTD_DCtx_setParameter(ctx, ZSTD_d_windowLogMax, window_log);
    ASSERT(!ZSTD_isError(res));
    enum err err = unzstd_with(ctx, in, in_len, o);
    ZSTD_freeDCtx(ctx);
    return err;
}

static enum err zstd(int level, const uint8_t *in, size_t in_len, struct out *o) {
    int clamped = level == INT_MIN ? ZSTD_LEVEL_DEFAULT : MAX(ZSTD_minCLevel(), MIN(level, ZSTD_maxCLevel()));
    enum err err = out_reserve(o, ZSTD_compressBound(in_len));
    if (err) return err;
    size_t made = ZSTD_compress(o->p, o->cap, in, in_len, clamped);
    if (ZSTD_isError(made)) return ERR_NOMEM;
    o->len = made;
    return OK;
}

/* ---- all -------------------------------------------------------------------------------------- */

enum err codec_decompress(enum batch_codec codec, const uint8_t *in, size_t in_len, size_t max_out_bytes,
                          uint8_t **out, size_t *out_len) {
    if (codec >= CODEC_COUNT) return ERR_UNSUPPORTED;
    if (codec == CODEC_NONE && in_len > max_out_bytes) return ERR_TOO_LARGE;
    if (codec != CODEC_NONE && in_len == 0) return ERR_CORRUPT;
    size_t guess = codec == CODEC_NONE ? in_len : codec == CODEC_GZIP ? gzip_guess(in, in_len) : expansion_guess(in_len);
    struct out o;
    enum err err = out_init(&o, guess, max_out_bytes);
    if (err) return err;
    switch (codec) {
    case CODEC_NONE:
        if (in_len > 0) memcpy(o.p, in, in_len);
        o.len = in_len;
        break;
    case CODEC_GZIP: err = gunzip(in, in_len, &o); break;
    case CODEC_SNAPPY: err = unsnappy(in, in_len, &o); break;
    case CODEC_LZ4: err = unlz4(in, in_len, &o); break;
    case CODEC_ZSTD: err = unzstd(in, in_len, &o); break;
    case CODEC_COUNT: err = ERR_UNSUPPORTED; break;
    }
    return out_take(&o, err, out, out_len);
}

enum err codec_compress(enum batch_codec codec, int level, const uint8_t *in, size_t in_len, uint8_t **out,
                        size_t *out_len) {
    if (codec >= CODEC_COUNT) return ERR_UNSUPPORTED;
    struct out o;
    enum err err = out_init(&o, 0, SIZE_MAX);
    if (err) return err;
    switch (codec) {
    case CODEC_NONE:
        err = out_reserve(&o, in_len);
        if (!err && in_len > 0) memcpy(o.p, in, in_len);
        o.len = err ? 0 : in_len;
        break;
    case CODEC_GZIP: err = gzip(level, in, in_len, &o); break;
    case CODEC_SNAPPY: err = snappy(in, in_len, &o); break;
    case CODEC_LZ4: err = lz4(level, in, in_len, &o); break;
    case CODEC_ZSTD: err = zstd(level, in, in_len, &o); break;
    case CODEC_COUNT: err = ERR_UNSUPPORTED; break;
    }
    return out_take(&o, err, out, out_len);
}

static const char *const CODEC_NAMES[CODEC_COUNT] = {"none", "gzip", "snappy", "lz4", "zstd"};

const char *codec_name(enum batch_codec codec) { return codec < CODEC_COUNT ? CODEC_NAMES[codec] : "unknown"; }

bool codec_from_name(const char *name, enum batch_codec *out) {
    for (int i = 0; i < CODEC_COUNT; i++) {
        if (strcmp(name, CODEC_NAMES[i]) == 0) {
            *out = (enum batch_codec)i;
            return true;
        }
    }
    if (strcmp(name, "uncompressed") != 0) return false;
    *out = CODEC_NONE;
    return true;
}
