/* varve.manifest: round trip, every flipped byte and every torn length noticed, digests fed in any pieces. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include "log/manifest.h"

static uint8_t *bytes_new(size_t len) {
    uint8_t *p = malloc(len + 1);
    for (size_t i = 0; i < len; i++) p[i] = (uint8_t)(i * 31 + (i >> 8) * 17 + (i >> 16));
    return p;
}

static void sealed_of(const uint8_t *data, size_t len, size_t piece, int64_t base, struct sealed_segment *out) {
    struct digester *d = digester_new();
    for (size_t at = 0; at < len; at += piece) ck_assert_int_eq(digester_feed(d, data + at, MIN(piece, len - at)), OK);
    ck_assert_uint_eq(digester_bytes(d), len);
    ck_assert_int_eq(digester_result(d, base, out), OK);
    digester_free(d);
}

START_TEST(digests_do_not_depend_on_the_pieces) {
    size_t lens[] = {0, 1, 65535, 65536, 65537, 200000, 196608}, pieces[] = {1, 100, 4096, 65536, 70000, 1 << 20};
    for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
        uint8_t *data = bytes_new(lens[i]);
        struct digest128 whole = digest128_of(data, lens[i]);
        for (size_t k = 0; k < sizeof pieces / sizeof *pieces; k++) {
            struct sealed_segment s;
            sealed_of(data, lens[i], pieces[k], 5, &s);
            ck_assert_uint_eq(s.size_bytes, lens[i]);
            ck_assert_mem_eq(&s.digest, &whole, sizeof whole);
            for (uint64_t c = 0; c < sealed_chunks(lens[i]); c++) {
                size_t at = c * MANIFEST_CHUNK_BYTES, n = MIN(MANIFEST_CHUNK_BYTES, lens[i] - at);
                ck_assert_uint_eq(s.chunks[c], XXH3_64bits(data + at, n));
                ck_assert(sealed_chunk_ok(&s, c, data + at, n));
                ck_assert(!sealed_chunk_ok(&s, c, data + at, n - 1));
                data[at + n / 2] ^= 1;
                ck_assert(!sealed_chunk_ok(&s, c, data + at, n));
                data[at + n / 2] ^= 1;
            }
            ck_assert(!sealed_chunk_ok(&s, sealed_chunks(lens[i]), data, 1));
            free(s.chunks);
        }
        free(data);
    }
}
END_TEST

START_TEST(digester_goes_on_and_starts_again) {
    uint8_t *data = bytes_new(100000);
    struct digester *d = digester_new();
    struct sealed_segment s;
    ck_assert_int_eq(digester_feed(d, data, 70000), OK);
    ck_assert_int_eq(digester_result(d, 0, &s), OK);
    free(s.chunks);
    ck_assert_int_eq(digester_feed(d, data + 70000, 30000), OK);
    ck_assert_int_eq(digester_result(d, 0, &s), OK);
    struct digest128 whole = digest128_of(data, 100000);
    ck_assert_mem_eq(&s.digest, &whole, sizeof whole);
    ck_assert(sealed_chunk_ok(&s, 1, data + 65536, 100000 - 65536));
    free(s.chunks);
    digester_reset(d);
    ck_assert_int_eq(digester_feed(d, data, 10), OK);
    ck_assert_int_eq(digester_result(d, 0, &s), OK);
    whole = digest128_of(data, 10);
    ck_assert_mem_eq(&s.digest, &whole, sizeof whole);
    free(s.chunks);
    digester_free(d);
    free(data);
}
END_TEST

static void sample(struct manifest *m) {
    manifest_init(m);
    m->plid = 0x1122334455667788;
    memcpy(m->topic_id.b, "0123456789abcdef", 16);
    strcpy(m->topic, "orders.eu");
    m->partition = 7;
    m->generation = 2;
    size_t lens[] = {100000, 0, 65536};
    int64_t bases[] = {500, 10, 900};
    for (int i = 0; i < 3; i++) {
        uint8_t *data = bytes_new(lens[i]);
        struct sealed_segment s;
        sealed_of(data, lens[i], 4096, bases[i], &s);
        ck_assert_int_eq(manifest_put(m, &s), OK);
        free(data);
    }
}

START_TEST(round_trip) {
    struct manifest m, back;
    uint8_t *file;
    size_t len;
    sample(&m);
    ck_assert_int_eq(manifest_encode(&m, &file, &len), OK);
    ck_assert_int_eq(manifest_decode(&back, file, len), OK);
    ck_assert_uint_eq(back.plid, m.plid);
    ck_assert(uuid_eq(&back.topic_id, &m.topic_id));
    ck_assert_str_eq(back.topic, m.topic);
    ck_assert_int_eq(back.partition, 7);
    ck_assert_uint_eq(back.generation, 2);
    ck_assert_uint_eq(back.segment_count, 3);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(back.segments[i].base_offset, m.segments[i].base_offset);
        ck_assert_uint_eq(back.segments[i].size_bytes, m.segments[i].size_bytes);
        ck_assert_mem_eq(&back.segments[i].digest, &m.segments[i].digest, 16);
        if (m.segments[i].size_bytes) ck_assert_mem_eq(back.segments[i].chunks, m.segments[i].chunks,
                                                       8 * sealed_chunks(m.segments[i].size_bytes));
    }
    ck_assert_mem_eq(file, "VMAN\x01\0\0\0", 8);
    manifest_free(&m);
    manifest_free(&back);
    free(file);
}
END_TEST

START_TEST(every_flip_and_every_tear_is_noticed) {
    struct manifest m, back;
    uint8_t *file;
    size_t len;
    sample(&m);
    ck_assert_int_eq(manifest_encode(&m, &file, &len), OK);
    for (size_t i = 0; i < len; i++) {
        for (int bit = 0; bit < 8; bit++) {
            file[i] ^= (uint8_t)(1 << bit);
            ck_assert_int_eq(manifest_decode(&back, file, len), ERR_CORRUPT);
            file[i] ^= (uint8_t)(1 << bit);
        }
    }
    for (size_t i = 0; i < len; i++) ck_assert_int_eq(manifest_decode(&back, file, i), ERR_CORRUPT);
    uint8_t *longer = calloc(1, len + 1);
    memcpy(longer, file, len);
    ck_assert_int_eq(manifest_decode(&back, longer, len + 1), ERR_CORRUPT);
    free(longer);
    manifest_free(&m);
    free(file);
}
END_TEST

START_TEST(segments_by_base_offset) {
    struct manifest m;
    sample(&m);
    ck_assert_int_eq(m.segments[0].base_offset, 10);
    ck_assert_int_eq(m.segments[2].base_offset, 900);
    ck_assert_uint_eq(manifest_find(&m, 500)->size_bytes, 100000);
    ck_assert_ptr_null(manifest_find(&m, 501));
    struct sealed_segment again = {.base_offset = 500, .size_bytes = 1, .chunks = calloc(1, 8)};
    ck_assert_int_eq(manifest_put(&m, &again), OK);
    ck_assert_uint_eq(m.segment_count, 3);
    ck_assert_uint_eq(manifest_find(&m, 500)->size_bytes, 1);
    manifest_remove(&m, 500);
    manifest_remove(&m, 500);
    ck_assert_ptr_null(manifest_find(&m, 500));
    ck_assert_uint_eq(m.segment_count, 2);
    manifest_free(&m);
}
END_TEST

int main(void) {
    Suite *s = suite_create("manifest");
    TCase *t = tcase_create("manifest");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, digests_do_not_depend_on_the_pieces);
    tcase_add_test(t, digester_goes_on_and_starts_again);
    tcase_add_test(t, round_trip);
    tcase_add_test(t, every_flip_and_every_tear_is_noticed);
    tcase_add_test(t, segments_by_base_offset);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
