/* The codecs: round trips, foreign encodings, damage, and inputs that want to become huge. */
#include <check.h>
#include <limits.h>
#include <lz4frame.h>
#include <snappy-c.h>
#include <stdlib.h>
#include <zstd.h>

#include "proto/compress.h"

static const size_t CAP = 64u << 20;
static const size_t SIZES[] = {0, 1, 2, 100, 4095, 4096, 4097, 32767, 32768, 32769, 65536, 65537, 200000, 3000000};

/* Half text, half noise, so that compression works but never trivially. */
static uint8_t *sample(size_t len, uint32_t seed) {
    uint8_t *p = malloc(len + 1);
    uint32_t x = seed * 2654435761u + 1;
    for (size_t i = 0; i < len; i++) {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        p[i] = (i / 64) % 2 ? (uint8_t)x : (uint8_t)"the quick brown fox jumps over "[i % 31];
    }
    return p;
}

static void expect_plain(enum batch_codec codec, const uint8_t *in, size_t in_len, const uint8_t *plain, size_t plain_len) {
    uint8_t *out = NULL;
    size_t out_len = 0;
    ck_assert_int_eq(codec_decompress(codec, in, in_len, CAP, &out, &out_len), OK);
    ck_assert_uint_eq(out_len, plain_len);
    ck_assert(plain_len == 0 || memcmp(out, plain, plain_len) == 0);
    free(out);
}

static void expect_err(enum batch_codec codec, const uint8_t *in, size_t in_len, size_t max, enum err want) {
    uint8_t *out = NULL;
    size_t out_len = 0;
    ck_assert_int_eq(codec_decompress(codec, in, in_len, max, &out, &out_len), want);
    ck_assert_ptr_null(out);
}

START_TEST(round_trips) {
    for (int codec = 0; codec < CODEC_COUNT; codec++) {
        for (size_t i = 0; i < sizeof SIZES / sizeof *SIZES; i++) {
            uint8_t *plain = sample(SIZES[i], (uint32_t)i), *packed = NULL;
            size_t packed_len = 0;
            ck_assert_int_eq(codec_compress((enum batch_codec)codec, INT_MIN, plain, SIZES[i], &packed, &packed_len), OK);
            expect_plain((enum batch_codec)codec, packed, packed_len, plain, SIZES[i]);
            /* The cap is exact. */
            uint8_t *out = NULL;
            size_t out_len;
            ck_assert_int_eq(codec_decompress((enum batch_codec)codec, packed, packed_len, SIZES[i], &out, &out_len), OK);
            free(out);
            if (SIZES[i] > 0) expect_err((enum batch_codec)codec, packed, packed_len, SIZES[i] - 1, ERR_TOO_LARGE);
            free(packed);
            free(plain);
        }
    }
}
END_TEST

START_TEST(levels_on_each_codecs_own_scale) {
    static const int levels[] = {INT_MIN, -200000, -1, 0, 1, 3, 5, 9, 12, 17, 22, 1000};
    uint8_t *plain = sample(50000, 7);
    for (int codec = 1; codec < CODEC_COUNT; codec++) {
        for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
            uint8_t *packed = NULL;
            size_t packed_len = 0;
            ck_assert_int_eq(codec_compress((enum batch_codec)codec, levels[i], plain, 50000, &packed, &packed_len), OK);
            expect_plain((enum batch_codec)codec, packed, packed_len, plain, 50000);
            free(packed);
        }
    }
    free(plain);
}
END_TEST

/* Every proper prefix is damage, never a shorter success. (Snappy in xerial framing ends well at
 * a block boundary; those lengths are left out.) */
START_TEST(truncated_anywhere) {
    uint8_t *plain = sample(70000, 3);
    for (int codec = 1; codec < CODEC_COUNT; codec++) {
        uint8_t *packed = NULL;
        size_t packed_len = 0;
        ck_assert_int_eq(codec_compress((enum batch_codec)codec, INT_MIN, plain, 70000, &packed, &packed_len), OK);
        for (size_t len = 0; len < packed_len; len = len < 200 ? len + 1 : len + 97) {
            uint8_t *exact = malloc(len + 1), *out = NULL; /* so that a sanitizer sees overreads */
            memcpy(exact, packed, len);
            size_t out_len = 0;
            enum err err = codec_decompress((enum batch_codec)codec, exact, len, CAP, &out, &out_len);
            if (codec == CODEC_SNAPPY && len >= 16 && !err) ck_assert_uint_eq(out_len % 32768, 0);
            else ck_assert_int_eq(err, ERR_CORRUPT);
            free(out);
            free(exact);
        }
        free(packed);
    }
    free(plain);
}
END_TEST

START_TEST(garbled_bytes_never_crash) {
    uint8_t *plain = sample(5000, 5);
    for (int codec = 1; codec < CODEC_COUNT; codec++) {
        uint8_t *packed = NULL;
        size_t packed_len = 0;
        ck_assert_int_eq(codec_compress((enum batch_codec)codec, INT_MIN, plain, 5000, &packed, &packed_len), OK);
        for (size_t at = 0; at < packed_len; at++) {
            for (int bit = 0; bit < 8; bit += 3) {
                packed[at] ^= (uint8_t)(1 << bit);
                uint8_t *out = NULL;
                size_t out_len = 0;
                enum err err = codec_decompress((enum batch_codec)codec, packed, packed_len, 1 << 20, &out, &out_len);
                ck_assert(err == OK || err == ERR_CORRUPT || err == ERR_TOO_LARGE);
                free(out);
                packed[at] ^= (uint8_t)(1 << bit);
            }
        }
        free(packed);
    }
    free(plain);
}
END_TEST

START_TEST(bombs_stop_at_the_cap) {
    enum { PLAIN = 256 << 20 };
    const size_t cap = 1 << 20;
    uint8_t *zeros = calloc(1, PLAIN);
    for (int codec = 1; codec < CODEC_COUNT; codec++) {
        uint8_t *packed = NULL;
        size_t packed_len = 0;
        ck_assert_int_eq(codec_compress((enum batch_codec)codec, INT_MIN, zeros, PLAIN, &packed, &packed_len), OK);
        expect_err((enum batch_codec)codec, packed, packed_len, cap, ERR_TOO_LARGE);
        free(packed);
    }
    free(zeros);
}
END_TEST

/* Declared sizes that no data stands behind. */
START_TEST(declared_sizes_are_not_trusted) {
    /* snappy: length 0xffffffff, then one literal byte */
    static const uint8_t huge_raw[] = {0xff, 0xff, 0xff, 0xff, 0x0f, 0x00, 'a'};
    expect_err(CODEC_SNAPPY, huge_raw, sizeof huge_raw, CAP, ERR_CORRUPT);
    /* xerial: block lengths beyond the input and negative */
    uint8_t framed[24] = {0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 5, 1, 0, 'a', 0};
    expect_err(CODEC_SNAPPY, framed, 23, CAP, ERR_CORRUPT);
    memset(framed + 16, 0xff, 4);
    expect_err(CODEC_SNAPPY, framed, 23, CAP, ERR_CORRUPT);
    memset(framed + 16, 0, 4);
    expect_err(CODEC_SNAPPY, framed, 20, CAP, ERR_CORRUPT);
    expect_err(CODEC_SNAPPY, framed, 19, CAP, ERR_CORRUPT);
    /* gzip: a footer that claims 4 GiB - 1 on a valid tiny member: the member's own check fails */
    uint8_t *packed = NULL;
    size_t packed_len = 0;
    ck_assert_int_eq(codec_compress(CODEC_GZIP, INT_MIN, (const uint8_t *)"abc", 3, &packed, &packed_len), OK);
    memset(packed + packed_len - 4, 0xff, 4);
    expect_err(CODEC_GZIP, packed, packed_len, CAP, ERR_CORRUPT);
    free(packed);
    /* zstd: a window of 2 GiB; with a cap of 64 MiB no such buffer is made */
    static const uint8_t wide[] = {0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00};
    expect_err(CODEC_ZSTD, wide, sizeof wide, CAP, ERR_TOO_LARGE);
    /* zstd: content size of 2^60 in a single segment */
    static const uint8_t vast[] = {0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0x01, 0, 0};
    expect_err(CODEC_ZSTD, vast, sizeof vast, CAP, ERR_TOO_LARGE);
    /* zstd: wants a dictionary */
    static const uint8_t dict[] = {0x28, 0xb5, 0x2f, 0xfd, 0x21, 0x07, 0x01, 0x09, 0x00, 0x00, 'a'};
    expect_err(CODEC_ZSTD, dict, sizeof dict, CAP, ERR_CORRUPT);
}
END_TEST

START_TEST(gzip_members_join) {
    uint8_t *plain = sample(100000, 9);
    static const size_t cuts[] = {0, 1, 50000, 50000, 99999, 100000};
    uint8_t joined[200000];
    size_t len = 0;
    for (size_t i = 0; i + 1 < sizeof cuts / sizeof *cuts; i++) {
        uint8_t *packed = NULL;
        size_t packed_len = 0;
        ck_assert_int_eq(codec_compress(CODEC_GZIP, INT_MIN, plain + cuts[i], cuts[i + 1] - cuts[i], &packed, &packed_len), OK);
        memcpy(joined + len, packed, packed_len);
        len += packed_len;
        free(packed);
    }
    expect_plain(CODEC_GZIP, joined, len, plain, 100000);
    expect_err(CODEC_GZIP, joined, len, 99999, ERR_TOO_LARGE);
    joined[len] = 0; /* bytes after the last member */
    expect_err(CODEC_GZIP, joined, len + 1, CAP, ERR_CORRUPT);
    free(plain);
}
END_TEST

START_TEST(snappy_raw_and_recurring_headers) {
    uint8_t *plain = sample(100000, 13);
    size_t raw_len = snappy_max_compressed_length(100000);
    uint8_t *raw = malloc(raw_len);
    ck_assert_int_eq(snappy_compress((const char *)plain, 100000, (char *)raw, &raw_len), SNAPPY_OK);
    expect_plain(CODEC_SNAPPY, raw, raw_len, plain, 100000);
    free(raw);

    uint8_t joined[300000];
    size_t len = 0;
    for (size_t at = 0; at < 100000; at += 25000) {
        uint8_t *packed = NULL;
        size_t packed_len = 0;
        ck_assert_int_eq(codec_compress(CODEC_SNAPPY, INT_MIN, plain + at, 25000, &packed, &packed_len), OK);
        ck_assert_int_eq(memcmp(packed, "\x82SNAPPY\0\0\0\0\1\0\0\0\1", 16), 0);
        memcpy(joined + len, packed, packed_len);
        len += packed_len;
        free(packed);
    }
    expect_plain(CODEC_SNAPPY, joined, len, plain, 100000);
    free(plain);
}
END_TEST

START_TEST(lz4_frames_of_every_kind) {
    uint8_t *plain = sample(500000, 17);
    for (int kind = 0; kind < 16; kind++) {
        LZ4F_preferences_t prefs = {.frameInfo = {
            .blockSizeID = kind & 1 ? LZ4F_max4MB : LZ4F_max64KB,
            .blockMode = kind & 2 ? LZ4F_blockLinked : LZ4F_blockIndependent,
            .contentChecksumFlag = kind & 4 ? LZ4F_contentChecksumEnabled : LZ4F_noContentChecksum,
            .contentSize = kind & 8 ? 500000 : 0}};
        size_t cap = LZ4F_compressFrameBound(500000, &prefs);
        uint8_t *packed = malloc(cap);
        size_t len = LZ4F_compressFrame(packed, cap, plain, 500000, &prefs);
        ck_assert(!LZ4F_isError(len));
        expect_plain(CODEC_LZ4, packed, len, plain, 500000);
        free(packed);
    }
    free(plain);
}
END_TEST

/* Java reads independent blocks only, and checks the frame's descriptor. */
START_TEST(lz4_written_as_kafka_wants_it) {
    uint8_t *plain = sample(500000, 19), *packed = NULL;
    size_t len = 0;
    ck_assert_int_eq(codec_compress(CODEC_LZ4, INT_MIN, plain, 500000, &packed, &len), OK);
    static const uint8_t head[] = {0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82};
    ck_assert_int_eq(memcmp(packed, head, sizeof head), 0); /* version 1, independent; 64 KiB; checksum */
    free(packed);
    ck_assert_int_eq(codec_compress(CODEC_LZ4, INT_MIN, plain, 10, &packed, &len), OK);
    ck_assert_int_eq(memcmp(packed, head, sizeof head), 0);
    free(packed);
    free(plain);
}
END_TEST

START_TEST(zstd_with_and_without_content_size) {
    uint8_t *plain = sample(400000, 23);
    for (int with_size = 0; with_size < 2; with_size++) {
        ZSTD_CCtx *c = ZSTD_createCCtx();
        ZSTD_CCtx_setParameter(c, ZSTD_c_contentSizeFlag, with_size);
        ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 1);
        size_t cap = ZSTD_compressBound(400000) * 2;
        uint8_t *packed = malloc(cap);
        size_t len = ZSTD_compress2(c, packed, cap, plain, 200000);
        len += ZSTD_compress2(c, packed + len, cap - len, plain + 200000, 200000); /* frames join */
        expect_plain(CODEC_ZSTD, packed, len, plain, 400000);
        free(packed);
        ZSTD_freeCCtx(c);
    }
    free(plain);
}
END_TEST

START_TEST(names) {
    enum batch_codec codec;
    for (int i = 0; i < CODEC_COUNT; i++) {
        ck_assert(codec_from_name(codec_name((enum batch_codec)i), &codec));
        ck_assert_int_eq(codec, i);
    }
    ck_assert(codec_from_name("uncompressed", &codec));
    ck_assert_int_eq(codec, CODEC_NONE);
    ck_assert(!codec_from_name("brotli", &codec));
    ck_assert(!codec_from_name("", &codec));
    expect_err((enum batch_codec)7, (const uint8_t *)"x", 1, CAP, ERR_UNSUPPORTED);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("compress");
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, round_trips);
    tcase_add_test(tc, levels_on_each_codecs_own_scale);
    tcase_add_test(tc, truncated_anywhere);
    tcase_add_test(tc, garbled_bytes_never_crash);
    tcase_add_test(tc, bombs_stop_at_the_cap);
    tcase_add_test(tc, declared_sizes_are_not_trusted);
    tcase_add_test(tc, gzip_members_join);
    tcase_add_test(tc, snappy_raw_and_recurring_headers);
    tcase_add_test(tc, lz4_frames_of_every_kind);
    tcase_add_test(tc, lz4_written_as_kafka_wants_it);
    tcase_add_test(tc, zstd_with_and_without_content_size);
    tcase_add_test(tc, names);
    Suite *suite = suite_create("compress");
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed;
}
