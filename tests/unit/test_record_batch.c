/* Record batches: what clients sent, what we build, and every kind of damage. */
#include <check.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/crc32c.h"
#include "proto/compress.h"
#include "proto/record_batch.h"

static const size_t CAP = 64u << 20;

static struct bytes bytes_of(const char *z) { return (struct bytes){(const uint8_t *)z, z ? (int32_t)strlen(z) : 0}; }

static bool bytes_equal(struct bytes a, struct bytes b) {
    return (a.p == NULL) == (b.p == NULL) && a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, (size_t)a.len) == 0);
}

/* Three records: plain; null key, empty value; headers and an older timestamp. */
static uint8_t *three(enum batch_codec codec, size_t *len) {
    struct batch_builder b;
    batch_builder_init(&b, codec, 1 << 20);
    struct record_header headers[] = {{STR_LIT("h1"), bytes_of("v1")}, {STR_LIT(""), BYTES_NULL}, {STR_LIT("h3"), bytes_of("")}};
    ck_assert_int_eq(batch_builder_add(&b, 1000, bytes_of("key"), bytes_of("value"), NULL, 0), OK);
    ck_assert_int_eq(batch_builder_add(&b, 2000, BYTES_NULL, bytes_of(""), NULL, 0), OK);
    ck_assert_int_eq(batch_builder_add(&b, 500, bytes_of(""), BYTES_NULL, headers, 3), OK);
    uint8_t *out = NULL;
    ck_assert_int_eq(batch_builder_finish(&b, &out, len), OK);
    if (codec == CODEC_NONE) ck_assert_uint_eq(*len, batch_builder_bytes(&b));
    batch_builder_free(&b);
    return out;
}

static struct batch_header parsed(const uint8_t *p, size_t len) {
    struct batch_header h;
    ck_assert_int_eq(batch_parse(p, len, &h), OK);
    return h;
}

START_TEST(build_and_read_back) {
    for (int codec = 0; codec < CODEC_COUNT; codec++) {
        size_t len;
        uint8_t *batch = three((enum batch_codec)codec, &len);
        batch_set_base_offset(batch, 1234567890123);
        batch_set_leader_epoch(batch, 7);
        struct batch_header h = parsed(batch, len);
        ck_assert(batch_crc_ok(batch, &h));
        ck_assert_int_eq(batch_check(&h), OK);
        ck_assert_int_eq(batch_codec(&h), codec);
        ck_assert_int_eq(h.base_offset, 1234567890123);
        ck_assert_int_eq(h.leader_epoch, 7);
        ck_assert_int_eq(h.total_bytes, (int64_t)len);
        ck_assert_int_eq(h.record_count, 3);
        ck_assert_int_eq(batch_last_offset(&h), 1234567890125);
        ck_assert_int_eq(h.base_timestamp, 1000);
        ck_assert_int_eq(h.max_timestamp, 2000);
        ck_assert_int_eq(h.producer_id, -1);
        ck_assert_int_eq(batch_last_sequence(&h), -1);

        struct record_iter it;
        struct record r;
        ck_assert_int_eq(record_iter_init(&it, batch, &h, CAP), OK);
        ck_assert((it.owned == NULL) == (codec == CODEC_NONE));
        ck_assert_int_eq(record_iter_next(&it, &r), OK);
        ck_assert(bytes_equal(r.key, bytes_of("key")) && bytes_equal(r.value, bytes_of("value")));
        ck_assert_int_eq(r.offset, 1234567890123);
        ck_assert_int_eq(r.timestamp, 1000);
        ck_assert_int_eq(record_iter_next(&it, &r), OK);
        ck_assert(bytes_equal(r.key, BYTES_NULL) && bytes_equal(r.value, bytes_of("")));
        ck_assert_int_eq(r.timestamp, 2000);
        ck_assert_int_eq(record_iter_next(&it, &r), OK);
        ck_assert(bytes_equal(r.key, bytes_of("")) && bytes_equal(r.value, BYTES_NULL));
        ck_assert_int_eq(r.timestamp_delta, -500);
        ck_assert_int_eq(r.timestamp, 500);
        ck_assert_int_eq(r.offset_delta, 2);
        ck_assert_int_eq(r.header_count, 3);
        const uint8_t *cursor = r.headers_raw, *end = cursor + r.headers_raw_len;
        struct record_header rh;
        ck_assert_int_eq(record_header_next(&cursor, end, &rh), OK);
        ck_assert(str_is(rh.key, "h1") && bytes_equal(rh.value, bytes_of("v1")));
        ck_assert_int_eq(record_header_next(&cursor, end, &rh), OK);
        ck_assert(rh.key.len == 0 && bytes_equal(rh.value, BYTES_NULL));
        ck_assert_int_eq(record_header_next(&cursor, end, &rh), OK);
        ck_assert(str_is(rh.key, "h3") && bytes_equal(rh.value, bytes_of("")));
        ck_assert_ptr_eq(cursor, end);
        ck_assert_int_eq(record_header_next(&cursor, end, &rh), ERR_CORRUPT);
        ck_assert_int_eq(record_iter_next(&it, &r), ERR_NOT_FOUND);
        record_iter_free(&it);
        free(batch);
    }
}
END_TEST

START_TEST(crc_covers_everything_after_it) {
    size_t len;
    uint8_t *batch = three(CODEC_NONE, &len);
    struct batch_header h = parsed(batch, len);
    for (size_t at = 21; at < len; at++) {
        batch[at] ^= 1;
        ck_assert(!batch_crc_ok(batch, &h));
        batch[at] ^= 1;
    }
    ck_assert(batch_crc_ok(batch, &h));
    free(batch);
}
END_TEST

START_TEST(parse_refuses) {
    size_t len;
    uint8_t *batch = three(CODEC_NONE, &len);
    struct batch_header h = {0};
    for (size_t n = 0; n < len; n++) {
        uint8_t *exact = malloc(n + 1);
        memcpy(exact, batch, n);
        h.record_count = 0;
        ck_assert_int_eq(batch_parse(exact, n, &h), ERR_TRUNCATED);
        ck_assert_int_eq(h.record_count, n >= BATCH_HEADER_BYTES ? 3 : 0);
        free(exact);
    }
    static const int32_t lengths[] = {0, -1, 48, INT32_MIN, INT32_MAX, INT32_MAX - 11, 4};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        store_be32(batch + 8, (uint32_t)lengths[i]);
        ck_assert_int_eq(batch_parse(batch, len, &h), ERR_CORRUPT);
        ck_assert_int_eq(batch_parse(batch, 16, &h), ERR_CORRUPT);
    }
    store_be32(batch + 8, INT32_MAX - 12);
    ck_assert_int_eq(batch_parse(batch, len, &h), ERR_TRUNCATED);
    store_be32(batch + 8, (uint32_t)len - 12);
    static const uint8_t magics[] = {0, 1, 3, 0xff};
    for (size_t i = 0; i < sizeof magics; i++) {
        batch[16] = magics[i];
        ck_assert_int_eq(batch_parse(batch, len, &h), ERR_UNSUPPORTED);
    }
    free(batch);
}
END_TEST

START_TEST(check_refuses) {
    size_t len;
    uint8_t *batch = three(CODEC_NONE, &len);
    const struct batch_header good = parsed(batch, len);
    struct batch_header h = good;
    ck_assert_int_eq(batch_check(&h), OK);
#define REFUSED(field, value) \
    h = good; h.field = (value); ck_assert_int_eq(batch_check(&h), ERR_CORRUPT)
    REFUSED(attributes, 5);
    REFUSED(attributes, 7);
    REFUSED(last_offset_delta, -1);
    REFUSED(record_count, -1);
    REFUSED(record_count, 4);
    REFUSED(base_offset, -1);
    REFUSED(base_offset, INT64_MAX - 2);
    REFUSED(magic, 1);
    REFUSED(total_bytes, 60);
#undef REFUSED
    h = good;
    h.base_offset = INT64_MAX - 3; /* last + 1 still fits */
    ck_assert_int_eq(batch_check(&h), OK);
    h = good;
    h.record_count = 1; /* compaction left gaps */
    ck_assert_int_eq(batch_check(&h), OK);
    h.record_count = INT32_MAX;
    h.last_offset_delta = INT32_MAX;
    ck_assert_int_eq(batch_check(&h), OK);
    free(batch);
}
END_TEST

START_TEST(sequences_wrap) {
    struct batch_header h = {.base_sequence = INT32_MAX - 1, .last_offset_delta = 1};
    ck_assert_int_eq(batch_last_sequence(&h), INT32_MAX);
    h.last_offset_delta = 2;
    ck_assert_int_eq(batch_last_sequence(&h), 0);
    h.last_offset_delta = 12;
    ck_assert_int_eq(batch_last_sequence(&h), 10);
    h = (struct batch_header){.base_sequence = 0, .last_offset_delta = 0};
    ck_assert_int_eq(batch_last_sequence(&h), 0);
    h.base_sequence = -1;
    ck_assert_int_eq(batch_last_sequence(&h), -1);
}
END_TEST

START_TEST(setters) {
    size_t len;
    uint8_t *batch = three(CODEC_ZSTD, &len);
    batch_set_log_append_time(batch, 987654321);
    struct batch_header h = parsed(batch, len);
    ck_assert(batch_crc_ok(batch, &h));
    ck_assert_int_eq(h.max_timestamp, 987654321);
    ck_assert_int_eq(h.attributes, BATCH_LOG_APPEND_TIME | CODEC_ZSTD);
    struct record_iter it;
    struct record r;
    ck_assert_int_eq(record_iter_init(&it, batch, &h, CAP), OK);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(record_iter_next(&it, &r), OK);
        ck_assert_int_eq(r.timestamp, 987654321);
    }
    record_iter_free(&it);
    batch_set_producer(batch, 4242, 3, INT32_MAX - 1);
    h = parsed(batch, len);
    ck_assert(!batch_crc_ok(batch, &h));
    batch_seal(batch);
    h = parsed(batch, len);
    ck_assert(batch_crc_ok(batch, &h));
    ck_assert(h.producer_id == 4242 && h.producer_epoch == 3 && batch_last_sequence(&h) == 0);
    free(batch);
}
END_TEST

/* Records cut short by every amount, with the CRC made right again: the iterator must see it. */
START_TEST(truncated_records) {
    size_t len;
    uint8_t *batch = three(CODEC_NONE, &len);
    for (size_t n = BATCH_HEADER_BYTES; n < len; n++) {
        uint8_t *exact = malloc(n);
        memcpy(exact, batch, n);
        store_be32(exact + 8, (uint32_t)(n - BATCH_LENGTH_OVERHEAD));
        batch_seal(exact);
        struct batch_header h = parsed(exact, n);
        struct record_iter it;
        struct record r;
        enum err err = record_iter_init(&it, exact, &h, CAP);
        while (!err) err = record_iter_next(&it, &r);
        ck_assert_int_eq(err, ERR_CORRUPT);
        record_iter_free(&it);
        free(exact);
    }
    free(batch);
}
END_TEST

START_TEST(garbled_records_never_crash) {
    size_t len;
    uint8_t *batch = three(CODEC_NONE, &len);
    for (size_t at = 21; at < len; at++) {
        for (int value = 0; value < 256; value++) {
            uint8_t *exact = malloc(len);
            memcpy(exact, batch, len);
            exact[at] = (uint8_t)value;
            struct batch_header h;
            ck_assert_int_eq(batch_parse(exact, len, &h), OK);
            struct record_iter it;
            struct record r;
            enum err err = record_iter_init(&it, exact, &h, 1 << 20);
            int count = 0;
            if (!err) {
                while (!(err = record_iter_next(&it, &r))) count++;
                record_iter_free(&it);
            }
            ck_assert(count <= 3);
            free(exact);
        }
    }
    free(batch);
}
END_TEST

START_TEST(counts_that_lie) {
    size_t len;
    for (int codec = 0; codec < CODEC_COUNT; codec++) {
        uint8_t *batch = three((enum batch_codec)codec, &len);
        static const int32_t counts[] = {2, 4, INT32_MAX, -1};
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
            store_be32(batch + 57, (uint32_t)counts[i]);
            store_be32(batch + 23, INT32_MAX);
            struct batch_header h = parsed(batch, len);
            struct record_iter it;
            struct record r;
            enum err err = record_iter_init(&it, batch, &h, CAP);
            while (!err) err = record_iter_next(&it, &r);
            ck_assert_int_eq(err, ERR_CORRUPT);
            record_iter_free(&it);
        }
        free(batch);
    }
}
END_TEST

START_TEST(batches_without_records) {
    uint8_t batch[BATCH_HEADER_BYTES] = {0};
    store_be32(batch + 8, sizeof batch - BATCH_LENGTH_OVERHEAD);
    batch[16] = 2;
    store_be32(batch + 23, 9);
    for (int codec = 0; codec < CODEC_COUNT; codec++) {
        batch[22] = (uint8_t)codec;
        batch_seal(batch);
        struct batch_header h = parsed(batch, sizeof batch);
        ck_assert(batch_crc_ok(batch, &h));
        ck_assert_int_eq(batch_check(&h), OK);
        struct record_iter it;
        struct record r;
        ck_assert_int_eq(record_iter_init(&it, batch, &h, CAP), OK);
        ck_assert_int_eq(record_iter_next(&it, &r), ERR_NOT_FOUND);
        record_iter_free(&it);
    }
}
END_TEST

/* A transaction marker: version 0, type 1 (commit); value: version 0, coordinator epoch 5. */
START_TEST(control_batch) {
    struct batch_builder b;
    batch_builder_init(&b, CODEC_NONE, 1000);
    b.attributes = BATCH_CONTROL | BATCH_TRANSACTIONAL;
    b.producer_id = 77;
    b.producer_epoch = 1;
    ck_assert_int_eq(batch_builder_add(&b, 1, (struct bytes){(const uint8_t *)"\0\0\0\1", 4},
                                       (struct bytes){(const uint8_t *)"\0\0\0\0\0\5", 6}, NULL, 0), OK);
    uint8_t *batch;
    size_t len;
    ck_assert_int_eq(batch_builder_finish(&b, &batch, &len), OK);
    batch_builder_free(&b);
    struct batch_header h = parsed(batch, len);
    ck_assert_int_eq(h.attributes, BATCH_CONTROL | BATCH_TRANSACTIONAL);
    ck_assert_int_eq(h.base_sequence, -1);
    ck_assert_int_eq(batch_check(&h), OK);
    free(batch);
}
END_TEST

START_TEST(builder_limits) {
    struct batch_builder b;
    uint8_t value[100] = {0};
    struct bytes v = {value, sizeof value};
    batch_builder_init(&b, CODEC_NONE, 300);
    uint8_t *batch;
    size_t len;
    ck_assert_int_eq(batch_builder_finish(&b, &batch, &len), ERR_INVALID);
    int added = 0;
    while (batch_builder_add(&b, 1, BYTES_NULL, v, NULL, 0) == OK) added++;
    ck_assert_int_eq(added, 2);
    ck_assert_int_eq(batch_builder_add(&b, 1, BYTES_NULL, v, NULL, 0), ERR_FULL);
    ck_assert_uint_le(batch_builder_bytes(&b), 300);
    batch_builder_reset(&b);
    ck_assert_uint_eq(batch_builder_bytes(&b), BATCH_HEADER_BYTES);
    uint8_t big[400] = {0};
    ck_assert_int_eq(batch_builder_add(&b, 1, BYTES_NULL, (struct bytes){big, sizeof big}, NULL, 0), ERR_TOO_LARGE);
    /* 61 of the header; 2 for the length, 7 for the fields: exactly the limit */
    ck_assert_int_eq(batch_builder_add(&b, 1, BYTES_NULL, (struct bytes){big, 300 - 61 - 2 - 7}, NULL, 0), OK);
    ck_assert_uint_eq(batch_builder_bytes(&b), 300);
    batch_builder_free(&b);
}
END_TEST

START_TEST(extreme_timestamps_wrap) {
    static const int64_t times[] = {INT64_MAX, INT64_MIN, 0, -1, INT64_MAX};
    struct batch_builder b;
    batch_builder_init(&b, CODEC_NONE, 10000);
    for (int i = 0; i < 5; i++) ck_assert_int_eq(batch_builder_add(&b, times[i], BYTES_NULL, BYTES_NULL, NULL, 0), OK);
    uint8_t *batch;
    size_t len;
    ck_assert_int_eq(batch_builder_finish(&b, &batch, &len), OK);
    batch_builder_free(&b);
    struct batch_header h = parsed(batch, len);
    struct record_iter it;
    struct record r;
    ck_assert_int_eq(record_iter_init(&it, batch, &h, CAP), OK);
    for (int i = 0; i < 5; i++) {
        ck_assert_int_eq(record_iter_next(&it, &r), OK);
        ck_assert_int_eq(r.timestamp, times[i]);
    }
    record_iter_free(&it);
    free(batch);
}
END_TEST

START_TEST(recompress_between_all_codecs) {
    for (int from = 0; from < CODEC_COUNT; from++) {
        size_t len;
        uint8_t *batch = three((enum batch_codec)from, &len);
        batch_set_base_offset(batch, 55);
        batch_set_producer(batch, 9, 2, 100);
        batch_seal(batch);
        struct batch_header h = parsed(batch, len);
        for (int to = 0; to < CODEC_COUNT; to++) {
            uint8_t *other;
            size_t other_len;
            ck_assert_int_eq(batch_recompress(batch, &h, (enum batch_codec)to, INT_MIN, CAP, &other, &other_len), OK);
            struct batch_header g = parsed(other, other_len);
            ck_assert(batch_crc_ok(other, &g));
            ck_assert_int_eq(batch_codec(&g), to);
            ck_assert(g.base_offset == 55 && g.producer_id == 9 && g.producer_epoch == 2 && g.base_sequence == 100);
            ck_assert(g.record_count == 3 && g.max_timestamp == h.max_timestamp && g.leader_epoch == h.leader_epoch);
            struct record_iter it;
            struct record r;
            ck_assert_int_eq(record_iter_init(&it, other, &g, CAP), OK);
            ck_assert_int_eq(record_iter_next(&it, &r), OK);
            ck_assert(bytes_equal(r.value, bytes_of("value")) && r.offset == 55);
            record_iter_free(&it);
            free(other);
        }
        uint8_t *other;
        size_t other_len;
        if (from) ck_assert_int_eq(batch_recompress(batch, &h, CODEC_NONE, INT_MIN, 10, &other, &other_len), ERR_TOO_LARGE);
        free(batch);
    }
}
END_TEST

START_TEST(unknown_codec) {
    size_t len;
    uint8_t *batch = three(CODEC_NONE, &len);
    batch[22] = 6;
    struct batch_header h = parsed(batch, len);
    struct record_iter it;
    ck_assert_int_eq(record_iter_init(&it, batch, &h, CAP), ERR_UNSUPPORTED);
    free(batch);
}
END_TEST

/* ---- what clients sent -------------------------------------------------------------------------- */

static size_t unhex(const char *hex, uint8_t *out) {
    size_t n = 0;
    unsigned byte;
    while (sscanf(hex + 2 * n, "%2x", &byte) == 1) out[n++] = (uint8_t)byte;
    return n;
}

START_TEST(batches_of_real_clients) {
    FILE *f = fopen(TEST_DATA_DIR "/client_batches.tsv", "r");
    ck_assert_ptr_nonnull(f);
    char line[8192], client[64], note[32], hex[8000];
    uint8_t batch[4096];
    int batches = 0, seen_codecs = 0;
    while (fgets(line, sizeof line, f)) {
        int count;
        if (line[0] == '#') continue;
        ck_assert_int_eq(sscanf(line, "%63[^\t]\t%31[^\t]\t%d\t%7999s", client, note, &count, hex), 4);
        size_t len = unhex(hex, batch);
        struct batch_header h = parsed(batch, len);
        ck_assert_uint_eq(h.total_bytes, len);
        ck_assert(batch_crc_ok(batch, &h));
        ck_assert_int_eq(batch_check(&h), OK);
        ck_assert_int_eq(h.record_count, count);
        ck_assert_int_eq(h.last_offset_delta, count - 1);
        ck_assert(strncmp(note, codec_name(batch_codec(&h)), strcspn(note, "+")) == 0);
        ck_assert((strstr(note, "+pid") != NULL) == (h.producer_id >= 0));
        ck_assert((strstr(note, "+txn") != NULL) == ((h.attributes & BATCH_TRANSACTIONAL) != 0));
        struct record_iter it;
        struct record r;
        ck_assert_int_eq(record_iter_init(&it, batch, &h, CAP), OK);
        for (int i = 0; i < count; i++) {
            ck_assert_int_eq(record_iter_next(&it, &r), OK);
            ck_assert_int_eq(r.offset, i);
            ck_assert(r.timestamp >= h.base_timestamp && r.timestamp <= h.max_timestamp);
            ck_assert_int_ge(r.value.len, 1);
        }
        ck_assert_int_eq(record_iter_next(&it, &r), ERR_NOT_FOUND);
        record_iter_free(&it);
        batches++;
        seen_codecs |= 1 << batch_codec(&h);
    }
    fclose(f);
    ck_assert_int_ge(batches, 28);
    ck_assert_int_eq(seen_codecs & 0x0f, 0x0f);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("batch");
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, build_and_read_back);
    tcase_add_test(tc, crc_covers_everything_after_it);
    tcase_add_test(tc, parse_refuses);
    tcase_add_test(tc, check_refuses);
    tcase_add_test(tc, sequences_wrap);
    tcase_add_test(tc, setters);
    tcase_add_test(tc, truncated_records);
    tcase_add_test(tc, garbled_records_never_crash);
    tcase_add_test(tc, counts_that_lie);
    tcase_add_test(tc, batches_without_records);
    tcase_add_test(tc, control_batch);
    tcase_add_test(tc, builder_limits);
    tcase_add_test(tc, extreme_timestamps_wrap);
    tcase_add_test(tc, recompress_between_all_codecs);
    tcase_add_test(tc, unknown_codec);
    tcase_add_test(tc, batches_of_real_clients);
    Suite *suite = suite_create("record_batch");
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed;
}
