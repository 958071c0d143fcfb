/* The walk by itself: what contains what, and what a cut or a moved start leaves. */
#include <check.h>
#include <stdlib.h>
#include "replication/walk.h"

#define P(e, o) ((struct replica_position){(e), (o)})

/* 5@0, records 0-2, 24@3, 27@3, 29@3, records 3-4 */
static void build(struct walk *w) {
    walk_init(w);
    ck_assert_int_eq(walk_reserve(w, 4), OK);
    walk_mark(w, 5);
    walk_extend(w, 3);
    walk_mark(w, 24);
    walk_mark(w, 27);
    walk_mark(w, 29);
    walk_extend(w, 5);
}
static void expect(struct replica_position got, int32_t epoch, int64_t offset) {
    ck_assert_int_eq(got.epoch, epoch);
    ck_assert_int_eq(got.offset, offset);
}

START_TEST(positions_are_places_in_the_walk) {
    struct walk w;
    build(&w);
    expect(walk_last(&w), 29, 5);
    ck_assert(walk_contains(&w, P(0, 0)));
    ck_assert(walk_contains(&w, P(5, 0)) && walk_contains(&w, P(5, 3)));
    ck_assert(!walk_contains(&w, P(5, 4)));
    ck_assert(walk_contains(&w, P(24, 3)) && !walk_contains(&w, P(24, 2)) && !walk_contains(&w, P(24, 4)));
    ck_assert(!walk_contains(&w, P(26, 3)));
    ck_assert(walk_contains(&w, P(29, 5)) && !walk_contains(&w, P(29, 6)));
    walk_free(&w);
}
END_TEST

START_TEST(the_floor_is_the_greatest_place_at_or_below) {
    struct walk w;
    struct replica_position at;
    build(&w);
    ck_assert(walk_floor(&w, P(29, 9), &at));
    expect(at, 29, 5);
    ck_assert(walk_floor(&w, P(28, 0), &at));
    expect(at, 27, 3);
    ck_assert(walk_floor(&w, P(5, 2), &at));
    expect(at, 5, 2);
    ck_assert(walk_floor(&w, P(3, 7), &at));
    expect(at, 0, 0);
    walk_free(&w);
}
END_TEST

START_TEST(a_cut_drops_markers_by_epoch_never_by_start) {
    struct walk w;
    build(&w);
    walk_truncate(&w, P(24, 3));
    expect(walk_last(&w), 24, 3);
    ck_assert_int_eq(walk_find(&w, 24), 1);
    ck_assert_int_eq(walk_last_record_epoch(&w), 5);
    walk_free(&w);
}
END_TEST

START_TEST(a_moved_start_keeps_the_markers_at_it) {
    struct walk w;
    struct replica_position at;
    build(&w);
    walk_drop_prefix(&w, 3);
    expect(walk_base(&w), 5, 3);
    ck_assert_uint_eq(w.count, 3);
    ck_assert(walk_contains(&w, P(5, 3)) && walk_contains(&w, P(24, 3)));
    ck_assert(walk_contains(&w, P(5, 1))); /* below the start: it was committed */
    ck_assert(!walk_floor(&w, P(4, 3), &at));
    walk_drop_prefix(&w, 5);
    expect(walk_base(&w), 29, 5);
    expect(walk_last(&w), 29, 5);
    ck_assert_uint_eq(w.count, 0);
    walk_reset(&w, P(40, 100));
    expect(walk_last(&w), 40, 100);
    walk_free(&w);
}
END_TEST

START_TEST(it_is_bounded) {
    struct walk w;
    walk_init(&w);
    ck_assert_int_eq(walk_reserve(&w, WALK_MARKERS_MAX + 1), ERR_FULL);
    ck_assert_int_eq(walk_reserve(&w, UINT32_MAX), ERR_FULL);
    walk_free(&w);
}
END_TEST

int main(void) {
    Suite *s = suite_create("walk");
    TCase *t = tcase_create("walk");
    tcase_add_test(t, positions_are_places_in_the_walk);
    tcase_add_test(t, the_floor_is_the_greatest_place_at_or_below);
    tcase_add_test(t, a_cut_drops_markers_by_epoch_never_by_start);
    tcase_add_test(t, a_moved_start_keeps_the_markers_at_it);
    tcase_add_test(t, it_is_bounded);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
