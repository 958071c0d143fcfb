/* The epoch table: order, truncation by epoch, trimming at the log start, KIP-320's questions, the checkpoint text. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "log/epochs.h"

static struct epochs e;
static int64_t log_start;

static void set(const int64_t (*v)[2], int n) {
    epochs_free(&e);
    for (int i = 0; i < n; i++) ck_assert_int_eq(epochs_append(&e, (int32_t)v[i][0], v[i][1]), OK);
}
#define SET(...) set((const int64_t[][2]){__VA_ARGS__}, sizeof((const int64_t[][2]){__VA_ARGS__}) / 16)

static void expect(const char *text) {
    char *got = epochs_to_checkpoint(&e, log_start);
    ck_assert_str_eq(got, text);
    free(got);
}

START_TEST(order_of_entries) {
    ck_assert_int_eq(epochs_append(&e, 3, 10), OK);
    ck_assert_int_eq(epochs_append(&e, 3, 11), ERR_INVALID);
    ck_assert_int_eq(epochs_append(&e, 2, 11), ERR_INVALID);
    ck_assert_int_eq(epochs_append(&e, 4, 9), ERR_INVALID);
    ck_assert_int_eq(epochs_append(&e, 4, 10), OK);
    ck_assert_int_eq(epochs_append(&e, -1, 20), ERR_INVALID);
    for (int i = 5; i < 200; i++) ck_assert_int_eq(epochs_append(&e, i, 10 + i), OK);
    ck_assert_uint_eq(e.count, 197);
}
END_TEST

START_TEST(truncation_selects_by_epoch_only) {
    SET({1, 0}, {2, 100}, {3, 100}, {5, 100});
    epochs_truncate(&e, 4);
    expect("0\n3\n1 0\n2 100\n3 100\n");
    epochs_truncate(&e, 2);
    expect("0\n2\n1 0\n2 100\n");
    epochs_truncate(&e, 0);
    expect("0\n0\n");
}
END_TEST

static void trim(int64_t start) { epochs_trim(&e, log_start = start); }

START_TEST(trim_drops_what_begins_before_the_start) {
    log_start = 0;
    SET({1, 0}, {2, 100}, {3, 200});
    trim(0);
    expect("0\n3\n1 0\n2 100\n3 200\n");
    ck_assert_int_eq(e.base_epoch, 0);
    trim(50);
    ck_assert_uint_eq(e.count, 2);
    ck_assert_int_eq(e.base_epoch, 1);
    expect("0\n3\n1 50\n2 100\n3 200\n"); /* as Kafka writes what is left of an epoch */
    trim(100);
    ck_assert_uint_eq(e.count, 2);
    expect("0\n2\n2 100\n3 200\n");
    trim(150);
    ck_assert_int_eq(e.base_epoch, 2);
    expect("0\n2\n2 150\n3 200\n");
    trim(5000);
    ck_assert_uint_eq(e.count, 0);
    ck_assert_int_eq(epochs_last(&e), 3);
    expect("0\n1\n3 5000\n");
    ck_assert_int_eq(epochs_append(&e, 3, 5000), ERR_INVALID);
    ck_assert_int_eq(epochs_append(&e, 4, 5000), OK);
    expect("0\n1\n4 5000\n"); /* no record is of the base's epoch */
    epochs_truncate(&e, 3);
    ck_assert_int_eq(epochs_last(&e), 3);
}
END_TEST

START_TEST(trim_keeps_zero_length_markers_at_the_start) {
    log_start = 0;
    SET({1, 0}, {2, 100}, {3, 100}, {4, 100}, {5, 120});
    trim(100);
    expect("0\n4\n2 100\n3 100\n4 100\n5 120\n");
    ck_assert_int_eq(e.base_epoch, 1);
    trim(101);
    expect("0\n2\n4 101\n5 120\n");
    epochs_reset(&e, 7, 101);
    expect("0\n1\n7 101\n");
    log_start = 0;
}
END_TEST

START_TEST(epoch_of_an_offset) {
    ck_assert_int_eq(epochs_at(&e, 0), -1);
    SET({1, 5}, {2, 100}, {4, 100}, {7, 101});
    ck_assert_int_eq(epochs_at(&e, 4), -1);
    ck_assert_int_eq(epochs_at(&e, 5), 1);
    ck_assert_int_eq(epochs_at(&e, 99), 1);
    ck_assert_int_eq(epochs_at(&e, 100), 4);
    ck_assert_int_eq(epochs_at(&e, 101), 7);
    ck_assert_int_eq(epochs_at(&e, INT64_MAX), 7);
    ck_assert(!epochs_begins_at(&e, 4));
    ck_assert(epochs_begins_at(&e, 5));
    ck_assert(!epochs_begins_at(&e, 6)); /* where one only goes on */
    ck_assert(epochs_begins_at(&e, 100));
    epochs_trim(&e, 50);
    ck_assert_int_eq(epochs_at(&e, 50), 1);
    ck_assert_int_eq(epochs_at(&e, 100), 4);
}
END_TEST

/* Segments hold records from before the log start, of epochs that the table has forgotten. */
START_TEST(what_a_batch_may_be_of) {
    SET({1, 0}, {2, 100}, {4, 200}, {7, 300});
    ck_assert(epochs_fit(&e, 90, 99, 1));
    ck_assert(!epochs_fit(&e, 90, 99, 2));
    ck_assert(!epochs_fit(&e, 100, 109, 1));
    epochs_trim(&e, 250); /* the record 249 is of epoch 4 */
    ck_assert(epochs_fit(&e, 90, 99, 1));
    ck_assert(epochs_fit(&e, 240, 248, 3));
    ck_assert(!epochs_fit(&e, 240, 248, 5));
    ck_assert(!epochs_fit(&e, 240, 249, 3));
    ck_assert(epochs_fit(&e, 240, 255, 4)); /* the start may lie inside of a batch */
    ck_assert(!epochs_fit(&e, 240, 255, 2));
    ck_assert(!epochs_fit(&e, 250, 255, 2));
    ck_assert(epochs_fit(&e, 250, 255, 4));
    ck_assert(epochs_fit(&e, 300, 300, 7));
    epochs_trim(&e, 270); /* no epoch begins between */
    ck_assert(epochs_fit(&e, 250, 255, 4));
    ck_assert(epochs_fit(&e, 250, 255, 3));
    ck_assert(!epochs_fit(&e, 250, 269, 3));
}
END_TEST

static void end_is(int32_t epoch, int32_t want_epoch, int64_t want_end) {
    int32_t got_epoch;
    int64_t got_end;
    epochs_end_of(&e, epoch, log_start, 500, &got_epoch, &got_end);
    ck_assert_int_eq(got_epoch, want_epoch);
    ck_assert_int_eq(got_end, want_end);
}

START_TEST(end_of_an_epoch) {
    end_is(1, -1, -1);
    SET({3, 10}, {5, 100}, {6, 100}, {9, 300});
    end_is(-1, -1, -1);
    end_is(0, 0, 10);
    end_is(2, 2, 10);
    end_is(3, 3, 100);
    end_is(4, 3, 100);
    end_is(5, 5, 100);
    end_is(6, 6, 300);
    end_is(8, 6, 300);
    end_is(9, 9, 500);
    end_is(50, 9, 500);
    epochs_trim(&e, log_start = 50);
    end_is(2, 2, 50);
    end_is(3, 3, 100);
    end_is(4, 3, 100);
    end_is(5, 5, 100);
    epochs_reset(&e, 9, 50);
    end_is(8, 8, 50);
    end_is(9, 9, 500);
    end_is(10, 9, 500);
    log_start = 0;
}
END_TEST

static enum err parse(const char *text) {
    epochs_free(&e);
    return epochs_from_checkpoint(&e, text, strlen(text));
}

START_TEST(checkpoint_text) {
    SET({0, 0}, {2147483647, 9223372036854775807});
    expect("0\n2\n0 0\n2147483647 9223372036854775807\n");
    ck_assert_int_eq(parse("0\n2\n0 0\n2147483647 9223372036854775807\n"), OK);
    expect("0\n2\n0 0\n2147483647 9223372036854775807\n");
    ck_assert_int_eq(parse("0\n0\n"), OK);
    ck_assert_int_eq(parse("0\r\n1\r\n4 7\r\n"), OK);
    expect("0\n1\n4 7\n");
    const char *bad[] = {"", "0", "0\n", "1\n0\n", "0\n-1\n", "0\n2\n1 0\n", "0\n1\n1 0\n2 0\n", "0\n1\n1  0\n",
                         "0\n1\n1\n", "0\n1\n1 x\n",
                         "0\n2\n2 0\n1 0\n", "0\n2\n1 5\n2 4\n", "0\n1\n2147483648 0\n", "0\n1\n1 9223372036854775808\n", "0\n1\n-1 0\n",
                         "0\n99999999999\n1 0\n", "0\n1\n1 0 0\n", "x\n1\n1 0\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_msg(parse(bad[i]) == ERR_CORRUPT, "accepted: %s", bad[i]);
        ck_assert_uint_eq(e.count, 0);
    }
}
END_TEST

static void clear(void) { epochs_free(&e); }

int main(void) {
    Suite *s = suite_create("epochs");
    TCase *t = tcase_create("epochs");
    tcase_add_checked_fixture(t, clear, clear);
    tcase_add_test(t, order_of_entries);
    tcase_add_test(t, truncation_selects_by_epoch_only);
    tcase_add_test(t, trim_drops_what_begins_before_the_start);
    tcase_add_test(t, trim_keeps_zero_length_markers_at_the_start);
    tcase_add_test(t, epoch_of_an_offset);
    tcase_add_test(t, what_a_batch_may_be_of);
    tcase_add_test(t, end_of_an_epoch);
    tcase_add_test(t, checkpoint_text);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
