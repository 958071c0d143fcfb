/* The quorum core for a group of one: each test is a conversation of events and actions. */
#include <check.h>
#include "replication/replica.h"

static struct replica_actions acts;

static void step(struct replica *r, enum replica_event_kind kind, int32_t epoch, int64_t offset) {
    struct replica_event e = {kind, {epoch, offset}};
    replica_step(r, &e, &acts);
}
static void expect_none(void) { ck_assert_uint_eq(acts.count, 0); }
static void expect_begin(int32_t epoch) {
    ck_assert_uint_eq(acts.count, 1);
    ck_assert_int_eq(acts.list[0].kind, REPLICA_BEGIN_EPOCH);
    ck_assert_int_eq(acts.list[0].epoch, epoch);
}
static void expect_hw(int64_t offset) {
    ck_assert_uint_eq(acts.count, 1);
    ck_assert_int_eq(acts.list[0].kind, REPLICA_HIGH_WATERMARK);
    ck_assert_int_eq(acts.list[0].offset, offset);
}

START_TEST(a_fresh_log_begins_with_epoch_one) {
    struct replica r;
    replica_init(&r);
    step(&r, REPLICA_START, 0, 0);
    expect_begin(1);
    step(&r, REPLICA_APPENDED, 1, 0);
    expect_none();
    ck_assert(!r.established);
    step(&r, REPLICA_DURABLE, 1, 0);
    expect_hw(0);
    ck_assert(r.established);
    step(&r, REPLICA_WRITE, 0, 0);
    expect_none(); /* the first write of this life needs no new epoch */
}
END_TEST

START_TEST(the_high_watermark_is_what_is_durable) {
    struct replica r;
    replica_init(&r);
    step(&r, REPLICA_START, 0, 0);
    step(&r, REPLICA_APPENDED, 1, 0);
    step(&r, REPLICA_APPENDED, 1, 10);
    step(&r, REPLICA_APPENDED, 1, 20);
    ck_assert_int_eq(r.high_watermark, 0);
    step(&r, REPLICA_DURABLE, 1, 10);
    expect_hw(10);
    step(&r, REPLICA_DURABLE, 1, 10); /* reported twice */
    expect_none();
    step(&r, REPLICA_DURABLE, 1, 20);
    expect_hw(20);
}
END_TEST

START_TEST(after_a_restart_established_at_once_in_the_last_epoch) {
    struct replica r;
    replica_init(&r);
    step(&r, REPLICA_START, 3, 42);
    expect_hw(42);
    ck_assert(r.established);
    ck_assert_int_eq(r.epoch, 3);
}
END_TEST

START_TEST(the_first_write_after_a_restart_begins_an_epoch) {
    struct replica r;
    replica_init(&r);
    step(&r, REPLICA_START, 3, 42);
    step(&r, REPLICA_WRITE, 0, 0);
    expect_begin(4);
    step(&r, REPLICA_APPENDED, 4, 42);
    step(&r, REPLICA_WRITE, 0, 0);
    expect_none();
    step(&r, REPLICA_APPENDED, 4, 43);
    step(&r, REPLICA_DURABLE, 4, 43);
    expect_hw(43);
    ck_assert_int_eq(r.epoch_start, 42);
}
END_TEST

/* Raft dissertation 3.6.2: an entry of an older epoch is never committed by its position alone. */
START_TEST(a_position_of_an_older_epoch_commits_nothing) {
    struct replica r;
    replica_init(&r);
    step(&r, REPLICA_START, 2, 10);
    expect_hw(10);
    step(&r, REPLICA_WRITE, 0, 0);
    expect_begin(3);
    step(&r, REPLICA_APPENDED, 3, 10);
    step(&r, REPLICA_DURABLE, 2, 10);
    expect_none();
    step(&r, REPLICA_APPENDED, 3, 12);
    step(&r, REPLICA_DURABLE, 3, 10);
    expect_none(); /* the marker is durable, but nothing new lies below it */
    ck_assert_int_eq(r.high_watermark, 10);
    step(&r, REPLICA_DURABLE, 3, 12);
    expect_hw(12);
}
END_TEST

START_TEST(an_empty_log_that_restarts_keeps_its_epoch) {
    struct replica r;
    replica_init(&r);
    step(&r, REPLICA_START, 1, 0);
    expect_hw(0);
    ck_assert_int_eq(r.epoch, 1);
}
END_TEST

int main(void) {
    Suite *s = suite_create("replica");
    TCase *t = tcase_create("group of one");
    tcase_add_test(t, a_fresh_log_begins_with_epoch_one);
    tcase_add_test(t, the_high_watermark_is_what_is_durable);
    tcase_add_test(t, after_a_restart_established_at_once_in_the_last_epoch);
    tcase_add_test(t, the_first_write_after_a_restart_begins_an_epoch);
    tcase_add_test(t, a_position_of_an_older_epoch_commits_nothing);
    tcase_add_test(t, an_empty_log_that_restarts_keeps_its_epoch);
    suite_add_tcase(s, t);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? 1 : 0;
}
