/* Idempotent producers: every rule of producers.h, the wrap of sequence numbers, the window of five, Kafka's snapshot bytes. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "base/crc32c.h"
#include "log/producers.h"

static struct producers p;

static struct batch_header batch(int64_t id, int16_t epoch, int32_t sequence, int32_t records, int64_t offset) {
    return (struct batch_header){.base_offset = offset, .magic = 2, .last_offset_delta = records - 1,
                                 .max_timestamp = 1000 + offset,
                                 .producer_id = id, .producer_epoch = epoch, .base_sequence = sequence, .record_count = records};
}
static enum err check(int64_t id, int16_t epoch, int32_t sequence, int32_t records) {
    struct producer_batch dup;
    struct batch_header h = batch(id, epoch, sequence, records, 0);
    return producers_check(&p, &h, &dup);
}
static void apply(int64_t id, int16_t epoch, int32_t sequence, int32_t records, int64_t offset) {
    struct batch_header h = batch(id, epoch, sequence, records, offset);
    ck_assert_int_eq(producers_apply(&p, &h), OK);
}

START_TEST(without_an_id_nothing_is_kept) {
    ck_assert_int_eq(check(-1, -1, -1, 5), OK);
    apply(-1, -1, -1, 5, 0);
    ck_assert_uint_eq(p.count, 0);
}
END_TEST

START_TEST(unknown_producer_may_begin_anywhere) {
    ck_assert_int_eq(check(7, 3, 1234, 5), OK);
    ck_assert_int_eq(check(7, 3, -1, 5), ERR_SEQUENCE);
    ck_assert_uint_eq(p.count, 0);
}
END_TEST

START_TEST(sequences_must_follow) {
    apply(7, 0, 10, 5, 100);
    ck_assert_int_eq(check(7, 0, 15, 1), OK);
    ck_assert_int_eq(check(7, 0, 16, 1), ERR_SEQUENCE);
    ck_assert_int_eq(check(7, 0, 14, 1), ERR_SEQUENCE);
    ck_assert_int_eq(check(7, 0, 10, 4), ERR_SEQUENCE);
    ck_assert_int_eq(check(7, 0, 0, 1), ERR_SEQUENCE);
}
END_TEST

START_TEST(duplicate_tells_the_original_offsets) {
    apply(7, 0, 0, 5, 100);
    apply(7, 0, 5, 5, 200);
    struct producer_batch dup;
    struct batch_header h = batch(7, 0, 0, 5, 0);
    ck_assert_int_eq(producers_check(&p, &h, &dup), ERR_DUPLICATE);
    ck_assert_int_eq(dup.first_offset, 100);
    ck_assert_int_eq(dup.last_offset, 104);
    ck_assert_int_eq(dup.timestamp_ms, 1100);
    ck_assert_int_eq(check(7, 0, 5, 5), ERR_DUPLICATE);
    ck_assert_int_eq(check(7, 0, 0, 10), ERR_SEQUENCE);
}
END_TEST

START_TEST(window_holds_five) {
    for (int i = 0; i < 6; i++) apply(7, 0, i, 1, i);
    ck_assert_int_eq(check(7, 0, 0, 1), ERR_SEQUENCE);
    for (int i = 1; i < 6; i++) ck_assert_int_eq(check(7, 0, i, 1), ERR_DUPLICATE);
    ck_assert_int_eq(check(7, 0, 6, 1), OK);
    ck_assert_uint_eq(producers_find(&p, 7)->count, 5);
}
END_TEST

START_TEST(epochs_fence) {
    apply(7, 3, 0, 5, 0);
    ck_assert_int_eq(check(7, 2, 0, 5), ERR_FENCED);
    ck_assert_int_eq(check(7, 2, 5, 5), ERR_FENCED);
    ck_assert_int_eq(check(7, 4, 5, 5), ERR_SEQUENCE);
    ck_assert_int_eq(check(7, 4, 0, 5), OK);
    apply(7, 4, 0, 5, 10);
    ck_assert_int_eq(check(7, 3, 0, 5), ERR_FENCED);
    ck_assert_uint_eq(producers_find(&p, 7)->count, 1);
    ck_assert_int_eq(check(7, 4, 0, 5), ERR_DUPLICATE);
}
END_TEST

START_TEST(sequence_wraps_between_batches) {
    apply(7, 0, 2147483643, 5, 0);
    ck_assert_int_eq(check(7, 0, 0, 3), OK);
    ck_assert_int_eq(check(7, 0, 1, 3), ERR_SEQUENCE);
}
END_TEST

START_TEST(sequence_wraps_inside_a_batch) {
    apply(7, 0, 2147483645, 5, 0);   /* ...45 46 47 0 1 */
    ck_assert_int_eq(producers_find(&p, 7)->window[0].last_sequence, 1);
    ck_assert_int_eq(check(7, 0, 2147483645, 5), ERR_DUPLICATE);
    ck_assert_int_eq(check(7, 0, 2, 1), OK);
    ck_assert_int_eq(check(7, 0, 0, 1), ERR_SEQUENCE);
    uint8_t *snapshot;
    size_t len;
    ck_assert_int_eq(producers_to_snapshot(&p, &snapshot, &len), OK);
    producers_free(&p);
    ck_assert_int_eq(producers_from_snapshot(&p, snapshot, len), OK);
    ck_assert_int_eq(producers_find(&p, 7)->window[0].first_sequence, 2147483645);
    free(snapshot);
}
END_TEST

START_TEST(marker_ends_the_transaction_and_raises_the_epoch) {
    struct batch_header h = batch(7, 1, 0, 3, 50);
    h.attributes = BATCH_TRANSACTIONAL;
    ck_assert_int_eq(producers_apply(&p, &h), OK);
    h = batch(7, 1, 3, 3, 60);
    h.attributes = BATCH_TRANSACTIONAL;
    ck_assert_int_eq(producers_apply(&p, &h), OK);
    ck_assert_int_eq(producers_find(&p, 7)->txn_first_offset, 50);
    h = batch(7, 2, -1, 1, 70);
    h.attributes = BATCH_TRANSACTIONAL | BATCH_CONTROL;
    ck_assert_int_eq(producers_apply(&p, &h), OK);
    const struct producer *e = producers_find(&p, 7);
    ck_assert_int_eq(e->txn_first_offset, -1);
    ck_assert_int_eq(e->epoch, 2);
    ck_assert_uint_eq(e->count, 0);
    ck_assert_int_eq(check(7, 2, 0, 1), OK);
    ck_assert_int_eq(check(7, 2, 6, 1), ERR_SEQUENCE);
}
END_TEST

START_TEST(many_producers_and_expiry) {
    for (int64_t id = 0; id < 5000; id++) apply(id * 1000003, 0, 0, 1, id);   /* timestamps 1000 .. 5999 */
    ck_assert_uint_eq(p.count, 5000);
    for (int64_t id = 0; id < 5000; id++) ck_assert_ptr_nonnull(producers_find(&p, id * 1000003));
    ck_assert_ptr_null(producers_find(&p, 1));
    uint32_t count;
    int64_t *ids = producers_sorted_ids(&p, &count);
    ck_assert_uint_eq(count, 5000);
    for (uint32_t i = 0; i < count; i++) ck_assert_int_eq(ids[i], (int64_t)i * 1000003);
    free(ids);
    struct producer open = {.id = 0, .last_timestamp_ms = 1000, .txn_first_offset = 3, .coordinator_epoch = -1};
    ck_assert_int_eq(producers_put(&p, &open), OK);
    producers_expire(&p, 3500, 500);   /* timestamps up to 3000 are 500 ms old */
    ck_assert_uint_eq(p.count, 5000);
    apply(1000 * 1000003ll, 0, 1, 1, 0); /* writes, with a timestamp that is as old */
    producers_expire(&p, 3500, 500);
    ck_assert_uint_eq(p.count, 5000 - 2001 + 2);
    ck_assert_ptr_nonnull(producers_find(&p, 1000 * 1000003ll));
    producers_expire(&p, 3500, 500);
    ck_assert_uint_eq(p.count, 5000 - 2001 + 1);
    ck_assert_ptr_nonnull(producers_find(&p, 0));
    ck_assert_ptr_null(producers_find(&p, 2000ll * 1000003));
    for (int64_t id = 2001; id < 5000; id++) ck_assert_ptr_nonnull(producers_find(&p, id * 1000003));
    ck_assert_int_eq(check(1000003, 0, 77, 1), OK);
}
END_TEST

/* Two producers, bytes written down from the description of the format (version 1). */
static const uint8_t vector[] = {
    0, 1, /* CRC, set below */ 0, 0, 0, 0, /* count */ 0, 0, 0, 2,
    0, 0, 0, 0, 0, 0, 0x03, 0xe9, /* epoch */ 0, 2, /* last sequence */ 0, 0, 0, 0x0b, /* last offset */ 0, 0, 0, 0, 0, 0, 1, 4,
    /* delta */ 0, 0, 0, 4, /* timestamp 1700000000000 */ 0, 0, 0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x00, /* coordinator */ 0xff, 0xff, 0xff, 0xff,
    /* no transaction */ 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0, 0, 0, 0, 0, 0, 0x07, 0xd0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0,
    0, 0, 0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x01, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 1, 0};

static void vector_make(uint8_t out[sizeof vector]) {
    memcpy(out, vector, sizeof vector);
    uint32_t crc = crc32c(0, out + 6, sizeof vector - 6);
    for (int i = 0; i < 4; i++) out[2 + i] = (uint8_t)(crc >> (24 - 8 * i));
}

/* Without end new producers: the older half is forgotten, those with an open transaction never, the newest go on. */
START_TEST(their_number_is_bounded) {
    struct producer open = {.id = 5, .coordinator_epoch = -1, .txn_first_offset = 3};
    ck_assert_int_eq(producers_put(&p, &open), OK);
    for (int i = 0; i < 100000; i++) {
        apply(1000 + i, 0, 0, 1, i);
        ck_assert_uint_le(p.count, PRODUCERS_SLOTS_MAX / 4 * 3);
        ck_assert_uint_le(p.cap, PRODUCERS_SLOTS_MAX);
    }
    ck_assert_uint_ge(p.count, PRODUCERS_SLOTS_MAX / 4 * 3 / 2);
    ck_assert_ptr_nonnull(producers_find(&p, 5));
    ck_assert_ptr_null(producers_find(&p, 1000));
    for (int i = 99999; i > 95000; i--) ck_assert_int_eq(check(1000 + i, 0, 1, 1), OK);
    uint32_t before = p.count;
    for (int i = 0; i < 1000; i++) apply(1000 + 99999, 0, 1 + i, 1, 100000 + i); /* a known one costs nobody his place */
    ck_assert_uint_eq(p.count, before);
    ck_assert_int_eq(producers_halve(&p), OK);
    ck_assert_uint_le(p.count, before / 2 + 1);
    ck_assert_ptr_nonnull(producers_find(&p, 1000 + 99999));
}
END_TEST

START_TEST(snapshot_bytes) {
    uint8_t want[sizeof vector], *got;
    size_t len;
    vector_make(want);
    struct producer a = {.id = 2000, .last_timestamp_ms = 1700000000001, .coordinator_epoch = 9, .txn_first_offset = 256};
    ck_assert_int_eq(producers_put(&p, &a), OK);
    struct batch_header h = batch(1001, 2, 0, 7, 100);
    ck_assert_int_eq(producers_apply(&p, &h), OK);
    h = batch(1001, 2, 7, 5, 256);
    h.max_timestamp = 1700000000000;
    ck_assert_int_eq(producers_apply(&p, &h), OK);
    ck_assert_int_eq(producers_to_snapshot(&p, &got, &len), OK);
    ck_assert_uint_eq(len, sizeof want);
    ck_assert_mem_eq(got, want, sizeof want);
    free(got);
}
END_TEST

START_TEST(snapshot_read) {
    uint8_t data[sizeof vector];
    vector_make(data);
    ck_assert_int_eq(producers_from_snapshot(&p, data, sizeof data), OK);
    ck_assert_uint_eq(p.count, 2);
    const struct producer *e = producers_find(&p, 1001);
    ck_assert_uint_eq(e->count, 1);
    ck_assert_int_eq(e->window[0].first_sequence, 7);
    ck_assert_int_eq(e->window[0].last_sequence, 11);
    ck_assert_int_eq(e->window[0].first_offset, 256);
    ck_assert_int_eq(e->window[0].last_offset, 260);
    ck_assert_int_eq(e->epoch, 2);
    ck_assert_int_eq(producers_find(&p, 2000)->txn_first_offset, 256);
    ck_assert_int_eq(producers_find(&p, 2000)->coordinator_epoch, 9);
}
END_TEST

START_TEST(snapshot_damage_is_noticed) {
    uint8_t data[sizeof vector];
    for (size_t i = 0; i < sizeof data; i++) {
        vector_make(data);
        data[i] ^= 0x10;
        ck_assert_msg(producers_from_snapshot(&p, data, sizeof data) == ERR_CORRUPT, "byte %zu", i);
    }
    vector_make(data);
    for (size_t len = 0; len < sizeof data; len++) ck_assert_int_eq(producers_from_snapshot(&p, data, len), ERR_CORRUPT);
}
END_TEST

/* With the sum that it has: only what it says is wrong. */
static enum err resealed(uint8_t *data, size_t len) {
    uint32_t crc = crc32c(0, data + 6, len - 6);
    for (int i = 0; i < 4; i++) data[2 + i] = (uint8_t)(crc >> (24 - 8 * i));
    return producers_from_snapshot(&p, data, len);
}

START_TEST(snapshot_that_makes_no_sense) {
    enum { ENTRY = 10, ENTRY_BYTES = 46, LAST_OFFSET = 14, DELTA = 22 };
    uint8_t data[sizeof vector + 1] = {0};
    vector_make(data);
    ck_assert_int_eq(resealed(data, sizeof vector + 1), ERR_CORRUPT); /* a byte too many */
    vector_make(data);
    data[9] = 1; /* entries that nobody counts */
    ck_assert_int_eq(resealed(data, sizeof vector), ERR_CORRUPT);
    vector_make(data);
    memcpy(data + ENTRY + ENTRY_BYTES, data + ENTRY, 8); /* one producer twice */
    ck_assert_int_eq(resealed(data, sizeof vector), ERR_CORRUPT);
    ck_assert_uint_eq(p.count, 0);
    vector_make(data);
    data[ENTRY] = 0x80; /* a negative id */
    ck_assert_int_eq(resealed(data, sizeof vector), ERR_CORRUPT);
    vector_make(data);
    data[ENTRY + DELTA] = 0x80; /* the batch ends before it begins */
    ck_assert_int_eq(resealed(data, sizeof vector), ERR_CORRUPT);
    vector_make(data);
    data[ENTRY + LAST_OFFSET + 6] = 0;
    data[ENTRY + LAST_OFFSET + 7] = 3; /* of five records, the last one at offset 3 */
    ck_assert_int_eq(resealed(data, sizeof vector), ERR_CORRUPT);
    data[ENTRY + LAST_OFFSET + 7] = 4;
    ck_assert_int_eq(resealed(data, sizeof vector), OK);
    ck_assert_int_eq(producers_find(&p, 1001)->window[0].first_offset, 0);
}
END_TEST

/* What a log that is cut at an offset still knows. */
START_TEST(windows_are_cut_back) {
    apply(7, 0, 0, 5, 100);
    apply(7, 0, 5, 1, 105);
    apply(7, 0, 6, 5, 106);
    apply(8, 0, 0, 1, 111);
    struct producer silent = {.id = 9, .epoch = 2, .last_timestamp_ms = 77, .coordinator_epoch = -1, .txn_first_offset = -1};
    ck_assert_int_eq(producers_put(&p, &silent), OK); /* has nothing in its window, and loses nothing */
    struct producers cut;
    bool lost;
    ck_assert_int_eq(producers_below(&p, 112, &cut, &lost), OK);
    ck_assert(!lost);
    ck_assert_uint_eq(cut.count, 3);
    ck_assert_uint_eq(producers_find(&cut, 7)->count, 3);
    producers_free(&cut);
    ck_assert_int_eq(producers_below(&p, 111, &cut, &lost), OK); /* the batch at the cut goes, of one record, too */
    ck_assert(lost);
    ck_assert_ptr_null(producers_find(&cut, 8));
    ck_assert_uint_eq(producers_find(&cut, 7)->count, 3);
    producers_free(&cut);
    ck_assert_int_eq(producers_below(&p, 105, &cut, &lost), OK);
    ck_assert(lost);
    ck_assert_uint_eq(cut.count, 2);
    ck_assert_uint_eq(producers_find(&cut, 7)->count, 1);
    ck_assert_int_eq(producers_find(&cut, 7)->window[0].last_sequence, 4);
    ck_assert_int_eq(producers_find(&cut, 7)->last_timestamp_ms, 1100); /* it expires as if it had never written the others */
    ck_assert_uint_eq(producers_find(&cut, 9)->count, 0);
    ck_assert_int_eq(producers_find(&cut, 9)->last_timestamp_ms, 77);
    producers_free(&cut);
}
END_TEST

/* Of those that wrote longest ago half go; when all of the newer half have a transaction open, none of these. */
START_TEST(open_transactions_are_not_halved) {
    for (int i = 0; i < 4; i++) {
        struct batch_header h = batch(i, 0, 0, 1, i);
        h.attributes = i > 0 ? BATCH_TRANSACTIONAL : 0;
        ck_assert_int_eq(producers_apply(&p, &h), OK);
    }
    ck_assert_int_eq(producers_halve(&p), OK);
    ck_assert_uint_eq(p.count, 3);
    ck_assert_ptr_null(producers_find(&p, 0));
}
END_TEST

START_TEST(without_a_sequence_nothing_is_remembered) {
    apply(7, 0, 3, 1, 0);
    apply(7, 0, -1, 1, 1);
    ck_assert_uint_eq(producers_find(&p, 7)->count, 1);
    ck_assert_int_eq(check(7, 0, 4, 1), OK);
}
END_TEST

START_TEST(what_is_no_producer_is_not_put) {
    struct producer e = {.id = -1};
    ck_assert_int_eq(producers_put(&p, &e), ERR_INVALID);
    e = (struct producer){.id = 3, .count = PRODUCER_WINDOW + 1};
    ck_assert_int_eq(producers_put(&p, &e), ERR_INVALID);
    ck_assert_uint_eq(p.count, 0);
}
END_TEST

START_TEST(empty_snapshot) {
    uint8_t *data;
    size_t len;
    ck_assert_int_eq(producers_to_snapshot(&p, &data, &len), OK);
    ck_assert_uint_eq(len, 10);
    ck_assert_int_eq(producers_from_snapshot(&p, data, len), OK);
    ck_assert_uint_eq(p.count, 0);
    free(data);
}
END_TEST

static void clear(void) { producers_free(&p); }

int main(void) {
    Suite *s = suite_create("producers");
    TCase *t = tcase_create("producers");
    tcase_add_checked_fixture(t, clear, clear);
    tcase_add_test(t, without_an_id_nothing_is_kept);
    tcase_add_test(t, unknown_producer_may_begin_anywhere);
    tcase_add_test(t, sequences_must_follow);
    tcase_add_test(t, duplicate_tells_the_original_offsets);
    tcase_add_test(t, window_holds_five);
    tcase_add_test(t, epochs_fence);
    tcase_add_test(t, sequence_wraps_between_batches);
    tcase_add_test(t, sequence_wraps_inside_a_batch);
    tcase_add_test(t, marker_ends_the_transaction_and_raises_the_epoch);
    tcase_add_test(t, many_producers_and_expiry);
    tcase_add_test(t, their_number_is_bounded);
    tcase_add_test(t, snapshot_bytes);
    tcase_add_test(t, snapshot_read);
    tcase_add_test(t, snapshot_damage_is_noticed);
    tcase_add_test(t, snapshot_that_makes_no_sense);
    tcase_add_test(t, windows_are_cut_back);
    tcase_add_test(t, open_transactions_are_not_halved);
    tcase_add_test(t, without_a_sequence_nothing_is_remembered);
    tcase_add_test(t, what_is_no_producer_is_not_put);
    tcase_add_test(t, empty_snapshot);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
