/* test_retention.c - which segments go, and that they stay gone; a clock that cannot be trusted. */
#include "log/retention.h"
#include "server/housekeeping.h"
#include "tests/unit/log_fixture.h"

enum { VALUE_BYTES = 1000, PER_SEGMENT = 10 };

/* `segments` segments of ten records each, the last one still being written; timestamps 1000, 1010, ... */
static struct log *filled(struct model *x, uint32_t segments, const struct log_config *policy) {
    struct log_spec s = spec_of("t", 0);
    s.config.segment_bytes = PER_SEGMENT * (VALUE_BYTES + 100);
    s.config.cleanup_delete = policy->cleanup_delete;
    s.config.retention_ms = policy->retention_ms;
    s.config.retention_bytes = policy->retention_bytes;
    create_spec(x, &s);
    for (uint32_t i = 0; i < segments; i++) {
        append_n(x, PER_SEGMENT, 1, VALUE_BYTES, 1000 + 100 * i);
        if (i + 1 < segments) ck_assert_int_eq(log_roll(x->log, 1000 + 100 * i), OK);
    }
    ck_assert(machine_settle(&m, x->log));
    return x->log;
}

static uint32_t retain(struct log *l, int64_t now_ms, int64_t bound, bool hold) {
    uint32_t removed = 99;
    ck_assert_int_eq(log_retain(l, now_ms, bound, hold, &removed), OK);
    return removed;
}

static enum retention_reason reason(struct log *l, uint32_t i, int64_t now_ms, int64_t bound) {
    int64_t due;
    return retention_of(l, i, now_ms, bound, false, &due);
}

START_TEST(by_age_the_oldest_first_and_the_active_one_last) {
    struct model a;
    setup(0, 1);
    start();
    struct log *l = filled(&a, 4, &(struct log_config){.cleanup_delete = true, .retention_ms = 500, .retention_bytes = -1});
    ck_assert_uint_eq(retain(l, 1000, 40, false), 0);
    ck_assert_int_eq(reason(l, 0, 1000, 40), RETENTION_YOUNG);
    /* The newest record of the first segment has timestamp 1090. */
    ck_assert_uint_eq(retain(l, 1590, 40, false), 0);
    ck_assert_uint_eq(retain(l, 1591, 40, true), 0); /* the clock is not believed */
    ck_assert_int_eq(reason(l, 0, 1591, 5), RETENTION_NOT_COMMITTED);
    ck_assert_uint_eq(retain(l, 1591, 9, false), 0);
    ck_assert_uint_eq(retain(l, 1591, 10, false), 1);
    ck_assert_int_eq(l->start, 10);
    ck_assert_uint_eq(retain(l, 9999, 40, false), 3);
    ck_assert_int_eq(l->start, 40);
    ck_assert_uint_eq(l->size_bytes, 0); /* the one that was being written, too: another has begun */
    ck_assert_uint_eq(retain(l, INT64_MAX, 40, false), 0); /* and it has nothing that could go */
    append_n(&a, 1, 1, 10, 9999);
    kill_machine();
    start();
    reopened(&a);
    ck_assert_int_eq(a.log->start, 40);
    ck_assert_int_eq(a.log->end, 41);
    stop();
    model_free(&a);
    teardown();
}
END_TEST

START_TEST(by_size_never_below_what_is_asked_for) {
    struct model a;
    setup(0, 1);
    start();
    struct log *l = filled(&a, 4, &(struct log_config){.cleanup_delete = true, .retention_ms = -1, .retention_bytes = 25 * VALUE_BYTES});
    ck_assert_int_eq(reason(l, 0, 0, 40), RETENTION_TOO_LARGE);
    ck_assert_int_eq(reason(l, 1, 0, 40), RETENTION_SMALL);
    ck_assert_uint_eq(retain(l, 0, 40, false), 1);
    ck_assert_uint_ge(l->size_bytes, 25 * VALUE_BYTES);
    ck_assert_uint_eq(retain(l, 0, 40, false), 0);
    stop();
    start();
    reopened(&a);
    ck_assert_int_eq(a.log->start, 10);
    stop();
    model_free(&a);
    teardown();
}
END_TEST

START_TEST(by_size_to_the_byte) {
    struct model a;
    uint32_t segments, ranges;
    setup(0, 1);
    start();
    struct log *l = filled(&a, 4, &(struct log_config){.cleanup_delete = true, .retention_ms = -1, .retention_bytes = -1});
    struct log_segment s[4];
    log_segments(l, 4, s);
    struct log_config c = {.cleanup_delete = true, .retention_ms = -1, .retention_bytes = (int64_t)(l->size_bytes - s[0].size_bytes + 1)};
    log_configure(l, &c);
    ck_assert_uint_eq(retain(l, 0, 40, false), 0);
    c.retention_bytes--;
    log_configure(l, &c);
    ck_assert_uint_eq(retain(l, 0, 40, false), 1);
    c.retention_bytes = 0;
    log_configure(l, &c);
    ck_assert_uint_eq(retain(l, 0, 40, false), 2); /* never the one that is being written */
    log_storage(l, &segments, &ranges);
    ck_assert_uint_eq(segments, 1);
    ck_assert_uint_eq(l->size_bytes, s[3].size_bytes);
    stop();
    model_free(&a);
    teardown();
}
END_TEST

/* Records without a time are as old as their segment; ages that no clock can count to are never reached. */
START_TEST(by_age_without_a_time_or_without_an_end) {
    struct model a;
    setup(0, 1);
    start();
    struct log_spec s = spec_of("t", 0);
    s.config.cleanup_delete = true;
    s.config.retention_ms = 500;
    create_spec(&a, &s);
    append(&a, &(struct batch_spec){.records = 1, .value_bytes = 10, .timestamp = -1, .producer_id = -1, .seed = 1});
    ck_assert(machine_settle(&m, a.log));
    int64_t due, created_ms = io_wall_ms(m.io);
    (void)retention_of(a.log, 0, created_ms, 1, false, &due);
    ck_assert_int_le(due, created_ms + 500);
    ck_assert_int_ge(due, created_ms);
    ck_assert_uint_eq(retain(a.log, due, 1, false), 0);
    struct log_config c = s.config;
    c.retention_ms = INT64_MAX;
    log_configure(a.log, &c);
    ck_assert_uint_eq(retain(a.log, INT64_MAX, 1, false), 0);
    ck_assert_int_eq(reason(a.log, 0, INT64_MAX, 1), RETENTION_ACTIVE);
    log_configure(a.log, &s.config);
    ck_assert_uint_eq(retain(a.log, due + 1, 1, false), 1);
    stop();
    model_free(&a);
    teardown();
}
END_TEST

/* The high watermark may be ahead of this replica's own disk. */
START_TEST(not_before_it_is_durable_and_not_in_a_log_that_goes) {
    struct model a;
    setup(0, 1);
    start();
    struct log *l = filled(&a, 1, &(struct log_config){.cleanup_delete = true, .retention_ms = 1, .retention_bytes = -1});
    append(&a, &(struct batch_spec){.records = 1, .value_bytes = 10, .timestamp = 1000, .producer_id = -1, .seed = 1});
    ck_assert_int_lt(l->durable_end, l->end);
    ck_assert_uint_eq(retain(l, 9999, l->end, false), 0);
    ck_assert_int_eq(l->start, 0);
    ck_assert_int_eq(log_roll(l, 1000), OK);
    ck_assert(machine_settle(&m, l));
    log_delete(l, NULL, NULL);
    uint32_t removed = 99;
    ck_assert_int_eq(log_retain(l, 9999, l->end, false, &removed), ERR_CLOSED);
    ck_assert_uint_eq(removed, 0);
    stop();
    model_free(&a);
    teardown();
}
END_TEST

START_TEST(without_the_delete_policy_nothing_goes) {
    struct model a;
    setup(0, 1);
    start();
    struct log *l = filled(&a, 3, &(struct log_config){.cleanup_delete = false, .retention_ms = 1, .retention_bytes = 1});
    ck_assert_uint_eq(retain(l, INT64_MAX, 30, false), 0);
    ck_assert_int_eq(reason(l, 0, INT64_MAX, 30), RETENTION_UNLIMITED);
    ck_assert_int_eq(reason(l, 2, INT64_MAX, 30), RETENTION_ACTIVE);
    stop();
    model_free(&a);
    teardown();
}
END_TEST

START_TEST(a_clock_that_jumps_ahead_is_noticed) {
    const int64_t second_ns = 1000000000, hour_ms = 3600000;
    struct housekeeping h = {0};
    ck_assert(!housekeeping_clock_jumped(&h, 5 * hour_ms, 7 * second_ns));
    ck_assert(!housekeeping_clock_jumped(&h, 5 * hour_ms + 10000, 17 * second_ns));
    ck_assert(!housekeeping_clock_jumped(&h, 6 * hour_ms, 7 * second_ns));          /* an hour: time services do that */
    ck_assert(housekeeping_clock_jumped(&h, 6 * hour_ms + 1, 7 * second_ns));
    ck_assert(!housekeeping_clock_jumped(&h, 1 * hour_ms, 8 * second_ns));          /* back: nothing is lost */
    ck_assert(!housekeeping_clock_jumped(&h, 105 * hour_ms, (7 + 100 * 3600) * second_ns)); /* time that has passed */
}
END_TEST

START_TEST(a_clock_ahead_of_most_others_is_not_believed) {
    const int64_t hour_ms = 3600000, year_ms = 8760 * hour_ms;
    /* The first is one's own. */
    ck_assert(!housekeeping_clock_is_ahead((int64_t[]){0}, 1));
    ck_assert(!housekeeping_clock_is_ahead((int64_t[]){0, -hour_ms}, 2));
    ck_assert(housekeeping_clock_is_ahead((int64_t[]){0, -hour_ms - 1}, 2));
    ck_assert(!housekeeping_clock_is_ahead((int64_t[]){0, 10 * year_ms}, 2));
    ck_assert(!housekeeping_clock_is_ahead((int64_t[]){0, -10 * year_ms, 0}, 3));            /* one is behind */
    ck_assert(!housekeeping_clock_is_ahead((int64_t[]){0, -10 * year_ms, 10 * year_ms}, 3)); /* one of each */
    ck_assert(housekeeping_clock_is_ahead((int64_t[]){0, -10 * year_ms, -9 * year_ms}, 3));
    ck_assert(housekeeping_clock_is_ahead((int64_t[]){0, -year_ms, 5, -year_ms}, 4));        /* nobody has a majority */
}
END_TEST

int main(void) {
    int quiet = open("/dev/null", O_WRONLY | O_CLOEXEC);
    trace_setup(getenv("VARVE_TRACE") ? TRACE_DEBUG : TRACE_ERROR, TRACE_TEXT, getenv("VARVE_TRACE") ? 2 : quiet);
    Suite *s = suite_create("retention");
    TCase *t = tcase_create("retention");
    tcase_add_test(t, by_age_the_oldest_first_and_the_active_one_last);
    tcase_add_test(t, by_size_never_below_what_is_asked_for);
    tcase_add_test(t, by_size_to_the_byte);
    tcase_add_test(t, by_age_without_a_time_or_without_an_end);
    tcase_add_test(t, not_before_it_is_durable_and_not_in_a_log_that_goes);
    tcase_add_test(t, without_the_delete_policy_nothing_goes);
    tcase_add_test(t, a_clock_that_jumps_ahead_is_noticed);
    tcase_add_test(t, a_clock_ahead_of_most_others_is_not_believed);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failures = srunner_ntests_failed(r);
    srunner_free(r);
    return failures ? 1 : 0;
}
