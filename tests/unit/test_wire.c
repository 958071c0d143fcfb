/* test_wire.c - the primitive types: limits, truncation at every byte, sticky errors, references. */
#include <check.h>
#include <stdlib.h>
#include "proto/wire.h"

static struct arena arena;
static struct wire_writer w;

static void setup(void) {
    arena_init(&arena, 1 << 16);
    wire_writer_init(&w, 1 << 20);
}

static void teardown(void) {
    wire_writer_free(&w);
    arena_free(&arena);
}

static struct wire_reader reader(const void *p, size_t len) { return wire_reader_init(p, len, &arena); }
#define READER(...) reader((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

START_TEST(numbers_are_big_endian) {
    struct wire_reader r = READER(0x01, 0xff, 0x80, 0x00, 0xff, 0xfe, 0x80, 0x00, 0x00, 0x01, 0xff, 0xff, 0xff, 0xff,
                                  0x80, 0, 0, 0, 0, 0, 0, 2);
    ck_assert(wire_get_bool(&r));
    ck_assert_int_eq(wire_get_i8(&r), -1);
    ck_assert_int_eq(wire_get_i16(&r), INT16_MIN);
    ck_assert_int_eq(wire_get_u16(&r), 0xfffe);
    ck_assert_int_eq(wire_get_i32(&r), INT32_MIN + 1);
    ck_assert_uint_eq(wire_get_u32(&r), UINT32_MAX);
    ck_assert_int_eq(wire_get_i64(&r), INT64_MIN + 2);
    ck_assert_int_eq(r.err, OK);
    ck_assert_uint_eq(wire_left(&r), 0);
}
END_TEST

/* One value of each type, so that a truncation at any byte hits one of them. */
static void put_all(struct wire_writer *out) {
    wire_put_bool(out, true);
    wire_put_i8(out, INT8_MIN);
    wire_put_i16(out, INT16_MIN);
    wire_put_u16(out, UINT16_MAX);
    wire_put_i32(out, INT32_MIN);
    wire_put_u32(out, UINT32_MAX);
    wire_put_i64(out, INT64_MIN);
    wire_put_f64(out, -0.5);
    wire_put_uuid(out, &(struct uuid){{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}});
    wire_put_uvarint(out, UINT32_MAX);
    wire_put_varint(out, INT32_MIN);
    wire_put_varlong(out, INT64_MIN);
    wire_put_str(out, STR_LIT("abc"), false, false);
    wire_put_str(out, STR_LIT("defg"), true, false);
    wire_put_bytes(out, (struct bytes){(const uint8_t *)"hi", 2}, false, false);
    wire_put_bytes(out, (struct bytes){(const uint8_t *)"j", 1}, true, false);
    wire_put_count(out, 2, false);
    wire_put_i16(out, 1);
    wire_put_i16(out, 2);
    wire_put_uvarint(out, 1);   /* a tag section */
    wire_put_uvarint(out, 300);
    wire_put_uvarint(out, 3);
    wire_put_raw(out, "xyz", 3);
}

/* Whether all came back as put_all wrote it. */
static bool get_all(struct wire_reader *r) {
    bool good = wire_get_bool(r);
    good &= wire_get_i8(r) == INT8_MIN;
    good &= wire_get_i16(r) == INT16_MIN;
    good &= wire_get_u16(r) == UINT16_MAX;
    good &= wire_get_i32(r) == INT32_MIN;
    good &= wire_get_u32(r) == UINT32_MAX;
    good &= wire_get_i64(r) == INT64_MIN;
    good &= wire_get_f64(r) == -0.5;
    struct uuid u = wire_get_uuid(r);
    good &= u.b[0] == 1 && u.b[15] == 16;
    good &= wire_get_uvarint(r) == UINT32_MAX;
    good &= wire_get_varint(r) == INT32_MIN;
    good &= wire_get_varlong(r) == INT64_MIN;
    good &= str_is(wire_get_str(r, false, false), "abc");
    good &= str_is(wire_get_str(r, true, false), "defg");
    struct bytes b = wire_get_bytes(r, false, false);
    good &= b.len == 2 && memcmp(b.p, "hi", 2) == 0;
    b = wire_get_bytes(r, true, false);
    good &= b.len == 1 && *b.p == 'j';
    good &= wire_get_count(r, false, false, 2) == 2;
    good &= wire_get_i16(r) == 1 && wire_get_i16(r) == 2;
    wire_skip_tags(r);
    return good && r->err == OK;
}

START_TEST(everything_comes_back) {
    put_all(&w);
    struct wire_reader r = reader(w.data, w.len);
    ck_assert(get_all(&r));
    ck_assert_uint_eq(wire_left(&r), 0);
}
END_TEST

START_TEST(truncation_at_every_byte_is_an_error) {
    put_all(&w);
    for (size_t len = 0; len < w.len; len++) {
        uint8_t *copy = malloc(len + !len); /* so that a sanitizer sees a read beyond the end */
        memcpy(copy, w.data, len);
        struct wire_reader r = reader(copy, len);
        ck_assert(!get_all(&r));
        ck_assert_int_eq(r.err, ERR_TRUNCATED);
        free(copy);
    }
}
END_TEST

START_TEST(first_error_sticks_and_values_are_zero) {
    struct wire_reader r = READER(0x00, 0x09, 'a', 'b', 0x01, 0x02, 0x03, 0x04);
    ck_assert_ptr_null(wire_get_str(&r, false, false).p);
    ck_assert_int_eq(r.err, ERR_TRUNCATED);
    ck_assert_int_eq(wire_get_i8(&r), 0);
    ck_assert_uint_eq(wire_get_uvarint(&r), 0);
    ck_assert_ptr_null(wire_get_str(&r, true, true).p);
    ck_assert_ptr_null(wire_get_bytes(&r, true, true).p);
    ck_assert_int_eq(wire_get_count(&r, true, true, 1), 0);
    ck_assert_ptr_null(wire_array(&r, 1, 1));
    ck_assert_ptr_null(wire_skip(&r, 0));
    ck_assert_int_eq(r.err, ERR_TRUNCATED);
}
END_TEST

START_TEST(varints_at_their_limits) {
    static const struct { uint8_t bytes[10]; uint8_t len; uint32_t v; } good[] = {
        {{0x00}, 1, 0}, {{0x7f}, 1, 127}, {{0x80, 0x01}, 2, 128}, {{0xff, 0x7f}, 2, 16383},
        {{0x80, 0x80, 0x01}, 3, 16384}, {{0xff, 0xff, 0xff, 0xff, 0x0f}, 5, UINT32_MAX}, {{0x80, 0x00}, 2, 0}};
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        struct wire_reader r = reader(good[i].bytes, good[i].len);
        ck_assert_uint_eq(wire_get_uvarint(&r), good[i].v);
        ck_assert_int_eq(r.err, OK);
        ck_assert_uint_eq(wire_left(&r), 0);
    }
    struct wire_reader r = READER(0xff, 0xff, 0xff, 0xff, 0x1f); /* 33 bits */
    ck_assert_uint_eq(wire_get_uvarint(&r), 0);
    ck_assert_int_eq(r.err, ERR_CORRUPT);
    r = READER(0x80, 0x80, 0x80, 0x80, 0x80, 0x00); /* six groups */
    wire_get_uvarint(&r);
    ck_assert_int_eq(r.err, ERR_CORRUPT);
    r = READER(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01);
    ck_assert_int_eq(wire_get_varlong(&r), INT64_MIN);
    ck_assert_int_eq(r.err, OK);
    r = READER(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02); /* 65 bits */
    wire_get_varlong(&r);
    ck_assert_int_eq(r.err, ERR_CORRUPT);
}
END_TEST

START_TEST(zigzag) {
    static const int32_t values[] = {0, -1, 1, -2, 2, 63, -64, 64, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        wire_put_varint(&w, values[i]);
        wire_put_varlong(&w, (int64_t)values[i] * 4000000000);
    }
    struct wire_reader r = reader(w.data, w.len);
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        ck_assert_int_eq(wire_get_varint(&r), values[i]);
        ck_assert_int_eq(wire_get_varlong(&r), (int64_t)values[i] * 4000000000);
    }
    ck_assert_int_eq(r.err, OK);
    struct wire_reader ends = READER(0x01, 0x02);
    ck_assert_int_eq(wire_get_varint(&ends), -1);
    ck_assert_int_eq(wire_get_varint(&ends), 1);
}
END_TEST

START_TEST(null_only_where_allowed) {
    struct wire_reader r = READER(0xff, 0xff, 0x00, 0xff, 0xff, 0xff, 0xff, 0x00);
    ck_assert_ptr_null(wire_get_str(&r, false, true).p);
    ck_assert_ptr_null(wire_get_str(&r, true, true).p);
    ck_assert_ptr_null(wire_get_bytes(&r, false, true).p);
    ck_assert_int_eq(wire_get_count(&r, true, true, 1), -1);
    ck_assert_int_eq(r.err, OK);
    for (int compact = 0; compact < 2; compact++) {
        static const uint8_t null[2][4] = {{0xff, 0xff, 0xff, 0xff}, {0}};
        r = reader(null[compact], 4);
        wire_get_str(&r, compact, false);
        ck_assert_int_eq(r.err, ERR_CORRUPT);
        r = reader(null[compact], 4);
        wire_get_bytes(&r, compact, false);
        ck_assert_int_eq(r.err, ERR_CORRUPT);
        r = reader(null[compact], 4);
        wire_get_count(&r, compact, false, 1);
        ck_assert_int_eq(r.err, ERR_CORRUPT);
    }
    r = READER(0xff, 0xfe); /* -2 is nothing at all */
    wire_get_str(&r, false, true);
    ck_assert_int_eq(r.err, ERR_CORRUPT);
}
END_TEST

START_TEST(empty_is_not_null) {
    struct wire_reader r = READER(0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00);
    ck_assert_ptr_nonnull(wire_get_str(&r, false, true).p);
    ck_assert_ptr_nonnull(wire_get_str(&r, true, true).p);
    ck_assert_ptr_nonnull(wire_get_bytes(&r, false, true).p);
    ck_assert_int_eq(r.err, OK);
}
END_TEST

START_TEST(a_string_has_at_most_32767_bytes) {
    uint8_t *big = calloc(1, 40000);
    size_t n = 0;
    for (uint32_t v = 32768 + 1; ; v >>= 7) { /* compact length of 32768 */
        big[n++] = (uint8_t)(v > 0x7f ? v | 0x80 : v);
        if (v <= 0x7f) break;
    }
    struct wire_reader r = reader(big, 40000);
    wire_get_str(&r, true, false);
    ck_assert_int_eq(r.err, ERR_CORRUPT);
    wire_put_str(&w, (struct str){(char *)big, 32767}, true, false);
    ck_assert_int_eq(w.err, OK);
    wire_put_str(&w, (struct str){(char *)big, 32768}, true, false);
    ck_assert_int_eq(w.err, ERR_INVALID);
    free(big);
}
END_TEST

START_TEST(counts_are_checked_before_anything_is_allocated) {
    struct wire_reader r = READER(0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0);
    ck_assert_int_eq(wire_get_count(&r, false, false, 1), 0);
    ck_assert_int_eq(r.err, ERR_TRUNCATED);
    r = READER(0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0);
    ck_assert_int_eq(wire_get_count(&r, true, false, 1), 0);
    ck_assert_int_ne(r.err, OK);
    r = READER(0, 0, 0, 2, 0, 0, 0); /* two elements of at least two bytes do not fit into three */
    ck_assert_int_eq(wire_get_count(&r, false, false, 2), 0);
    ck_assert_int_eq(r.err, ERR_TRUNCATED);
    r = READER(0, 0, 0, 2, 0, 0, 0, 0);
    ck_assert_int_eq(wire_get_count(&r, false, false, 2), 2);
    ck_assert_int_eq(r.err, OK);
    ck_assert_uint_eq(arena.used_bytes, 0);
}
END_TEST

START_TEST(arrays_stay_within_the_arena) {
    struct wire_reader r = READER(0);
    uint8_t *a = wire_array(&r, 100, 10);
    ck_assert_ptr_nonnull(a);
    for (int i = 0; i < 1000; i++) ck_assert_uint_eq(a[i], 0);
    ck_assert_ptr_null(wire_array(&r, 0, 10));
    ck_assert_ptr_null(wire_array(&r, -1, 10));
    ck_assert_int_eq(r.err, OK);
    ck_assert_ptr_null(wire_array(&r, 1 << 16, 10));
    ck_assert_int_eq(r.err, ERR_NOMEM);
    r = READER(0);
    ck_assert_ptr_null(wire_array(&r, INT32_MAX, SIZE_MAX / 2));
    ck_assert_int_eq(r.err, ERR_NOMEM);
}
END_TEST

START_TEST(a_writer_stops_at_its_limit) {
    struct wire_writer small;
    wire_writer_init(&small, 10);
    wire_put_i64(&small, 1);
    wire_put_i16(&small, 2);
    ck_assert_int_eq(small.err, OK);
    wire_put_i8(&small, 3);
    ck_assert_int_eq(small.err, ERR_TOO_LARGE);
    ck_assert_uint_eq(small.len, 10);
    wire_put_raw(&small, "", 0);
    wire_put_str(&small, (struct str){"x", -5}, true, false);
    ck_assert_int_eq(small.err, ERR_TOO_LARGE); /* the first one stays */
    wire_writer_free(&small);
}
END_TEST

START_TEST(null_is_written_as_empty_where_it_is_not_allowed) {
    wire_put_str(&w, STR_NULL, false, false);
    wire_put_str(&w, STR_NULL, false, true);
    wire_put_bytes(&w, BYTES_NULL, true, false);
    wire_put_bytes(&w, BYTES_NULL, true, true);
    ck_assert_int_eq(w.err, OK);
    ck_assert_mem_eq(w.data, "\x00\x00\xff\xff\x01\x00", 6);
    wire_put_count(&w, -2, false);
    ck_assert_int_eq(w.err, ERR_INVALID);
}
END_TEST

/* The bytes that the iovecs of a writer stand for. */
static size_t flatten(const struct wire_writer *out, uint8_t *flat, uint32_t *pieces) {
    struct iovec iov[64];
    size_t len = 0;
    *pieces = wire_writer_iov(out, iov, 64);
    for (uint32_t i = 0; i < *pieces; i++) {
        ck_assert_uint_gt(iov[i].iov_len, 0);
        memcpy(flat + len, iov[i].iov_base, iov[i].iov_len);
        len += iov[i].iov_len;
    }
    return len;
}

START_TEST(references_interleave_with_the_buffer) {
    struct wire_writer copied;
    uint8_t flat[4096], big[600];
    uint32_t pieces;
    memset(big, 'r', sizeof big);
    wire_writer_init(&copied, 1 << 20);
    w.ref_min_bytes = 100;
    struct wire_writer *both[] = {&w, &copied};
    for (int i = 0; i < 2; i++) {
        wire_put_i32(both[i], 0);
        wire_put_records(both[i], (struct bytes){big, 99}, false, false);   /* too short for a reference */
        wire_put_records(both[i], (struct bytes){big, 600}, true, false);
        wire_put_records(both[i], (struct bytes){big, 100}, false, false);
        wire_put_i8(both[i], 7);
        wire_put_records(both[i], BYTES_NULL, false, true);
        wire_put_records(both[i], (struct bytes){big, 200}, false, true);   /* at the very end */
        wire_patch_i32(both[i], 0, (int32_t)wire_writer_total(both[i]) - 4);
    }
    ck_assert_uint_eq(w.ref_count, 3);
    ck_assert_uint_eq(w.ref_bytes, 900);
    ck_assert_uint_eq(copied.ref_count, 0);
    ck_assert_uint_eq(wire_writer_total(&w), copied.len);
    ck_assert_uint_eq(flatten(&w, flat, &pieces), copied.len);
    ck_assert_uint_eq(pieces, 6);
    ck_assert_mem_eq(flat, copied.data, copied.len);
    wire_writer_free(&copied);
}
END_TEST

START_TEST(references_count_towards_the_limit) {
    struct wire_writer small;
    uint8_t big[100] = {0};
    wire_writer_init(&small, 110);
    small.ref_min_bytes = 1;
    wire_put_records(&small, (struct bytes){big, 100}, false, false);
    ck_assert_int_eq(small.err, OK);
    wire_put_i32(&small, 1);
    wire_put_i32(&small, 1);
    ck_assert_int_eq(small.err, ERR_TOO_LARGE);
    wire_writer_free(&small);
    wire_writer_init(&small, 50);
    small.ref_min_bytes = 1;
    wire_put_records(&small, (struct bytes){big, 100}, false, false);
    ck_assert_int_eq(small.err, ERR_TOO_LARGE);
    wire_writer_free(&small);
}
END_TEST

START_TEST(a_writer_grows) {
    for (int i = 0; i < 100000; i++) wire_put_i32(&w, i);
    ck_assert_int_eq(w.err, OK);
    ck_assert_uint_eq(w.len, 400000);
    for (int i = 0; i < 100000; i++) ck_assert_uint_eq(load_be32(w.data + 4 * i), (uint32_t)i);
}
END_TEST

int main(void) {
    Suite *s = suite_create("wire");
    TCase *tc = tcase_create("wire");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, numbers_are_big_endian);
    tcase_add_test(tc, everything_comes_back);
    tcase_add_test(tc, truncation_at_every_byte_is_an_error);
    tcase_add_test(tc, first_error_sticks_and_values_are_zero);
    tcase_add_test(tc, varints_at_their_limits);
    tcase_add_test(tc, zigzag);
    tcase_add_test(tc, null_only_where_allowed);
    tcase_add_test(tc, empty_is_not_null);
    tcase_add_test(tc, a_string_has_at_most_32767_bytes);
    tcase_add_test(tc, counts_are_checked_before_anything_is_allocated);
    tcase_add_test(tc, arrays_stay_within_the_arena);
    tcase_add_test(tc, a_writer_stops_at_its_limit);
    tcase_add_test(tc, null_is_written_as_empty_where_it_is_not_allowed);
    tcase_add_test(tc, references_interleave_with_the_buffer);
    tcase_add_test(tc, references_count_towards_the_limit);
    tcase_add_test(tc, a_writer_grows);
    suite_add_tcase(s, tc);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
