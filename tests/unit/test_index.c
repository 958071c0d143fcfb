/* The sparse indexes against a plain list of batches: Kafka's rule, lookups, truncation, files. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "log/index.h"

enum { BASE = 1000, BATCHES = 400 };
static struct batch_header batches[BATCHES];
static uint32_t positions[BATCHES + 1];
static struct segment_index x;
static uint32_t random_state;

static uint32_t rnd(uint32_t below) {
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % below;
}

static void make_batches(uint32_t seed) {
    int64_t offset = BASE;
    random_state = seed;
    positions[0] = 0;
    for (int i = 0; i < BATCHES; i++) {
        int32_t records = (int32_t)rnd(20) + 1;
        batches[i] = (struct batch_header){.base_offset = offset + rnd(3), .total_bytes = 61 + rnd(900), .magic = 2,
                                           .last_offset_delta = records - 1,
                                           .max_timestamp = 5000 + i * 3 + rnd(40), .record_count = records};
        offset = batch_last_offset(&batches[i]) + 1;
        positions[i + 1] = positions[i] + batches[i].total_bytes;
    }
}

static void build(int from, int to) {
    for (int i = from; i < to; i++) ck_assert_int_eq(index_add(&x, &batches[i], positions[i]), OK);
}
static void fresh(uint32_t interval) {
    index_free(&x);
    index_init(&x, BASE, interval, 10 << 20);
}

/* Kafka's rule, said once more in the plainest way: which entries has a segment of batches [0, n)? */
static void expect_entries_of(int n, uint32_t interval) {
    uint32_t since = 0, offsets = 0, times = 0;
    int64_t max = -1, max_offset = -1, last = -1;
    for (int i = 0; i < n; i++) {
        if (batches[i].max_timestamp > max) {
            max = batches[i].max_timestamp;
            max_offset = batch_last_offset(&batches[i]);
        }
        if (since > interval) {
            ck_assert_uint_lt(offsets, x.offset_count);
            ck_assert_uint_eq(x.offsets[offsets].relative, batch_last_offset(&batches[i]) - BASE);
            ck_assert_uint_eq(x.offsets[offsets++].position, positions[i]);
            if (max > last) {
                ck_assert_uint_lt(times, x.time_count);
                ck_assert_int_eq(x.times[times].timestamp, max);
                ck_assert_uint_eq(x.times[times++].relative, max_offset - BASE);
                last = max;
            }
            since = 0;
        }
        since += batches[i].total_bytes;
    }
    ck_assert_uint_eq(x.offset_count, offsets);
    ck_assert_uint_eq(x.time_count, times);
    ck_assert_int_eq(x.max_timestamp, max);
    ck_assert_uint_eq(x.bytes_since_entry, since);
}

START_TEST(entries_by_kafkas_rule) {
    for (uint32_t seed = 1; seed < 20; seed++) {
        make_batches(seed);
        uint32_t intervals[] = {0, 500, 4096, 1 << 20};
        for (int i = 0; i < 4; i++) {
            fresh(intervals[i]);
            build(0, BATCHES);
            expect_entries_of(BATCHES, intervals[i]);
        }
    }
}
END_TEST

START_TEST(exactly_the_interval_is_not_more) {
    fresh(100);
    struct batch_header h = {.base_offset = BASE, .total_bytes = 100, .max_timestamp = 7};
    ck_assert_int_eq(index_add(&x, &h, 0), OK);
    h.base_offset = BASE + 1;
    h.total_bytes = 61;
    ck_assert_int_eq(index_add(&x, &h, 100), OK);
    ck_assert_uint_eq(x.offset_count, 0);
    h.base_offset = BASE + 2;
    ck_assert_int_eq(index_add(&x, &h, 161), OK);
    ck_assert_uint_eq(x.offset_count, 1);
    ck_assert_uint_eq(x.bytes_since_entry, 61);
}
END_TEST

static void lookups_are_right(void) {
    for (int i = 0; i < BATCHES; i++) {
        for (int64_t o = batches[i].base_offset; o <= batch_last_offset(&batches[i]); o++) {
            uint32_t at = index_find(&x, o);
            ck_assert_uint_le(at, positions[i]);
            int b = 0;
            while (positions[b] < at) b++;
            ck_assert_uint_eq(positions[b], at);   /* a batch begins there */
            uint32_t best = 0;                     /* greatest entry at or below the offset */
            for (uint32_t k = 0; k < x.offset_count; k++)
                if (x.offsets[k].relative + BASE <= o) best = x.offsets[k].position;
            ck_assert_uint_eq(at, best);
        }
    }
    ck_assert_uint_eq(index_find(&x, BASE), 0);
}

START_TEST(find_by_offset) {
    make_batches(3);
    fresh(2000);
    ck_assert_uint_eq(index_find(&x, BASE + 50), 0);
    build(0, BATCHES);
    ck_assert_uint_gt(x.offset_count, 20);
    lookups_are_right();
}
END_TEST

START_TEST(find_by_time_skips_only_what_is_older) {
    make_batches(4);
    fresh(2000);
    ck_assert_int_eq(index_find_time(&x, 0), BASE);
    build(0, BATCHES);
    ck_assert_int_eq(index_seal(&x), OK);
    int skipped = 0;
    for (int64_t t = 4990; t < 6400; t++) {
        int64_t from = index_find_time(&x, t);
        for (int i = 0; i < BATCHES && batch_last_offset(&batches[i]) < from; i++) ck_assert_int_lt(batches[i].max_timestamp, t);
        skipped += from > BASE;
    }
    ck_assert_int_gt(skipped, 1000);
    ck_assert_int_eq(index_find_time(&x, x.max_timestamp), BASE + x.times[x.time_count - 2].relative + 1);
}
END_TEST

START_TEST(seal_adds_the_last_time_entry_once) {
    make_batches(5);
    fresh(4096);
    build(0, 3);
    ck_assert_uint_eq(x.time_count, 0);
    ck_assert_int_eq(index_seal(&x), OK);
    ck_assert_uint_eq(x.time_count, 1);
    ck_assert_int_eq(x.times[0].timestamp, x.max_timestamp);
    ck_assert_int_eq(index_seal(&x), OK);
    ck_assert_uint_eq(x.time_count, 1);
    fresh(4096);
    struct batch_header h = {.base_offset = BASE, .total_bytes = 61, .max_timestamp = -1};
    ck_assert_int_eq(index_add(&x, &h, 0), OK);
    ck_assert_int_eq(index_seal(&x), OK);
    ck_assert_uint_eq(x.time_count, 0);
}
END_TEST

START_TEST(limits) {
    index_free(&x);
    index_init(&x, BASE, 0, 40);   /* five offset entries; three time entries, one of them kept for the roll */
    make_batches(6);
    for (int i = 0; i < BATCHES; i++) batches[i].max_timestamp = 100 + i;
    build(0, 3);
    ck_assert(index_full(&x));
    ck_assert_int_eq(index_add(&x, &batches[3], positions[3]), ERR_FULL);
    ck_assert_uint_eq(x.offset_count, 2);
    ck_assert_int_eq(x.max_timestamp, 102);
    ck_assert_int_eq(index_seal(&x), OK);
    ck_assert_uint_eq(x.time_count, 2);
    fresh(0);
    struct batch_header far = {.base_offset = (int64_t)BASE + INT32_MAX, .total_bytes = 61};
    ck_assert_int_eq(index_add(&x, &far, 0), OK);
    far.base_offset++;
    ck_assert_int_eq(index_add(&x, &far, 61), ERR_RANGE);
    far.base_offset = BASE - 1;
    ck_assert_int_eq(index_add(&x, &far, 61), ERR_RANGE);
    index_free(&x);
    index_init(&x, BASE, 0, 1);
    ck_assert(!index_full(&x));
}
END_TEST

static void cut(int n) {
    uint32_t from;
    index_truncate(&x, n < BATCHES ? batches[n].base_offset : INT64_MAX, positions[n], &from);
    for (int i = 0; i < n; i++)
        if (positions[i] >= from) index_rescan(&x, &batches[i]);
}

START_TEST(truncation_equals_never_having_been_there) {
    make_batches(7);
    for (int n = BATCHES; n >= 0; n -= 7) {
        fresh(3000);
        build(0, BATCHES);
        x.offset_written = x.offset_count;
        x.time_written = x.time_count;
        if (n % 2) ck_assert_int_eq(index_seal(&x), OK);
        cut(n);
        expect_entries_of(n, 3000);
        ck_assert_uint_le(x.offset_written, x.offset_count);
        ck_assert_uint_le(x.time_written, x.time_count);
        build(n, BATCHES);
        expect_entries_of(BATCHES, 3000);
    }
}
END_TEST

static uint8_t *offsets_file, *times_file;
static size_t offsets_len, times_len;
static void encode(size_t pad) {
    free(offsets_file);
    free(times_file);
    offsets_len = x.offset_count * INDEX_ENTRY_BYTES;
    times_len = x.time_count * TIME_ENTRY_BYTES;
    offsets_file = calloc(1, offsets_len + pad * 8 + 1);
    times_file = calloc(1, times_len + pad * 12 + 1);
    index_encode(&x, 0, x.offset_count, offsets_file);
    index_encode_times(&x, 0, x.time_count, times_file);
    offsets_len += pad * 8;
    times_len += pad * 12;
}
static enum err load(void) {
    uint32_t from;
    fresh(3000);
    enum err err = index_load(&x, offsets_file, offsets_len, times_file, times_len, positions[BATCHES], &from);
    if (err == OK)
        for (int i = 0; i < BATCHES; i++)
            if (positions[i] >= from) index_rescan(&x, &batches[i]);
    return err;
}

START_TEST(file_round_trip) {
    make_batches(8);
    for (size_t pad = 0; pad < 3; pad++) {
        fresh(3000);
        build(0, BATCHES);
        encode(pad * 100);
        ck_assert_int_eq(load(), OK);
        expect_entries_of(BATCHES, 3000);
        ck_assert_uint_eq(x.offset_written, x.offset_count);
        ck_assert_uint_eq(x.time_written, x.time_count);
    }
}
END_TEST

START_TEST(file_bytes) {
    fresh(0);
    x.offsets = malloc(sizeof *x.offsets);
    x.times = malloc(sizeof *x.times);
    x.offsets[x.offset_count++] = (struct index_entry){0x01020304, 0x0a0b0c0d};
    x.times[x.time_count++] = (struct time_entry){0x1122334455667788, 0x01020304};
    encode(0);
    ck_assert_mem_eq(offsets_file, "\x01\x02\x03\x04\x0a\x0b\x0c\x0d", 8);
    ck_assert_mem_eq(times_file, "\x11\x22\x33\x44\x55\x66\x77\x88\x01\x02\x03\x04", 12);
}
END_TEST

START_TEST(impossible_files_are_refused) {
    make_batches(9);
    fresh(3000);
    build(0, BATCHES);
    encode(0);
    offsets_len--;
    ck_assert_int_eq(load(), ERR_CORRUPT);
    offsets_len++;
    times_len--;
    ck_assert_int_eq(load(), ERR_CORRUPT);
    times_len++;
    uint8_t *swap[2] = {offsets_file, times_file};
    for (int f = 0; f < 2; f++) {
        size_t n = f ? 12 : 8;
        uint8_t first[12];
        memcpy(first, swap[f], n);
        memcpy(swap[f], swap[f] + n, n);   /* an entry twice */
        ck_assert_int_eq(load(), ERR_CORRUPT);
        ck_assert_uint_eq(x.offset_count + x.time_count, 0);
        memset(swap[f], 0xff, n);
        ck_assert_int_eq(load(), ERR_CORRUPT);
        memset(swap[f], 0, n);             /* zeros before entries */
        ck_assert_int_eq(load(), f ? OK : ERR_CORRUPT);   /* timestamp 0 at the first offset is possible */
        memcpy(swap[f], first, n);
    }
    memset(offsets_file + offsets_len - 4, 0x7f, 4);
    ck_assert_int_eq(load(), ERR_CORRUPT);   /* position behind the segment */
}
END_TEST

static void clear(void) { index_free(&x); }

int main(void) {
    Suite *s = suite_create("index");
    TCase *t = tcase_create("index");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, clear, clear);
    tcase_add_test(t, entries_by_kafkas_rule);
    tcase_add_test(t, exactly_the_interval_is_not_more);
    tcase_add_test(t, find_by_offset);
    tcase_add_test(t, find_by_time_skips_only_what_is_older);
    tcase_add_test(t, seal_adds_the_last_time_entry_once);
    tcase_add_test(t, limits);
    tcase_add_test(t, truncation_equals_never_having_been_there);
    tcase_add_test(t, file_round_trip);
    tcase_add_test(t, file_bytes);
    tcase_add_test(t, impossible_files_are_refused);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    free(offsets_file);
    free(times_file);
    return failed != 0;
}
