/* The last rebalances of a group: what begins and ends one, its cause, who came last, only the newest are kept. */
#include <check.h>
#include <stdlib.h>

#include "server/group_history.h"

static bool is(const struct history_id *id, const char *text) { return id->len == strlen(text) && memcmp(id->text, text, id->len) == 0; }

START_TEST(from_cause_to_end) {
    struct group_history h;
    group_history_init(&h, 3);
    group_history_see(&h, false, 3, 1, 1000);
    ck_assert_uint_eq(group_history_size(&h), 0); /* nothing has happened */
    group_history_note(&h, HISTORY_JOINED, STR_LIT("b"), true, 2000);
    group_history_see(&h, true, 3, 2, 2000);
    const struct rebalance *r = group_history_at(&h, 0);
    ck_assert(r->elapsed_ms == -1 && r->cause == HISTORY_JOINED && is(&r->by, "b") && is(&r->last, "b"));
    group_history_note(&h, HISTORY_CHANGED, STR_LIT("a"), true, 2500);
    group_history_see(&h, true, 4, 2, 2500);
    group_history_note(&h, HISTORY_LEFT, STR_LIT("x"), false, 2600); /* who leaves does not come */
    group_history_see(&h, true, 4, 2, 2600);
    group_history_note(&h, HISTORY_UNKNOWN, STR_LIT("c"), true, 2700);
    group_history_see(&h, false, 4, 2, 2700);
    ck_assert_uint_eq(group_history_size(&h), 1);
    ck_assert(r->elapsed_ms == 700 && r->epoch == 4 && r->members == 2 && r->cause == HISTORY_JOINED && is(&r->by, "b"));
    ck_assert(is(&r->last, "c") && r->last_after_ms == 700);
    group_history_see(&h, false, 4, 2, 9000);
    ck_assert_uint_eq(group_history_size(&h), 1);
}
END_TEST

START_TEST(an_epoch_that_passes_at_once) {
    struct group_history h;
    group_history_init(&h, 0);
    group_history_note(&h, HISTORY_SILENT, STR_NULL, false, 10);
    group_history_see(&h, false, 1, 0, 10);
    const struct rebalance *r = group_history_at(&h, 0);
    ck_assert(r->elapsed_ms == 0 && r->epoch == 1 && r->members == 0 && r->cause == HISTORY_SILENT && r->by.len == 0);
}
END_TEST

START_TEST(only_the_newest_are_kept) {
    struct group_history h;
    char id[200];
    memset(id, 'm', sizeof id);
    group_history_init(&h, 0);
    for (int32_t i = 1; i <= 40; i++) {
        group_history_note(&h, HISTORY_LEFT, (struct str){id, i * 5}, false, i * 10);
        group_history_see(&h, false, i, 0, i * 10);
    }
    ck_assert_uint_eq(group_history_size(&h), HISTORY_MAX);
    for (uint32_t i = 0; i < HISTORY_MAX; i++) {
        const struct rebalance *r = group_history_at(&h, i);
        ck_assert_int_eq(r->epoch, (int32_t)(40 - HISTORY_MAX + 1 + i));
        ck_assert_int_eq(r->by.len, HISTORY_ID_BYTES);
    }
}
END_TEST

START_TEST(clocks_that_go_back) {
    struct group_history h;
    group_history_init(&h, 0);
    group_history_note(&h, HISTORY_JOINED, STR_LIT("a"), true, 1000);
    group_history_see(&h, true, 0, 1, 1000);
    group_history_note(&h, HISTORY_JOINED, STR_LIT("a"), true, 500);
    group_history_see(&h, false, 1, 1, 400);
    ck_assert(group_history_at(&h, 0)->elapsed_ms == 0 && group_history_at(&h, 0)->last_after_ms == 0);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("history");
    tcase_add_test(tc, from_cause_to_end);
    tcase_add_test(tc, an_epoch_that_passes_at_once);
    tcase_add_test(tc, only_the_newest_are_kept);
    tcase_add_test(tc, clocks_that_go_back);
    Suite *suite = suite_create("group_history");
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed;
}
