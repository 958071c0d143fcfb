/* The metadata image of many brokers: who is registered, where replicas are, and what that means for the logs of this one. */
#include <check.h>
#include <stdlib.h>
#include "tests/unit/image_fixture.h"

static const struct image_partition *partition(const char *topic, int32_t index) {
    const struct image_topic *t = image_topic_by_name(im, str_from(topic));
    ck_assert_ptr_nonnull(t);
    return image_partition(t, index);
}
static void check_change(uint32_t i, enum image_change_kind kind, int32_t index, uint32_t life) {
    ck_assert_uint_lt(i, im->change_count);
    ck_assert_int_eq(im->changes[i].kind, kind);
    ck_assert_int_eq(im->changes[i].partition, index);
    ck_assert_uint_eq(im->changes[i].life, life);
}

START_TEST(brokers_register_anew_and_leave) {
    struct image_edit *e = begin();
    ck_assert_int_eq(register_broker(e, 3, 30, "b", 9093), OK);
    ck_assert_int_eq(register_broker(e, 1, 10, "a", 9091), OK);
    ck_assert_int_eq(register_broker(e, 2, 20, "", 9092), OK);
    ck_assert_int_eq(register_broker(e, -1, 20, "", 9092), ERR_CORRUPT);
    ck_assert_int_eq(register_broker(e, 4, 20, "", 65536), ERR_CORRUPT);
    end(e);
    ck_assert_uint_eq(im->node_count, 3);
    for (uint32_t i = 0; i < 3; i++) ck_assert_int_eq(im->nodes[i].node, (int32_t)i + 1);
    ck_assert_ptr_null(image_node(im, 4));
    const struct image_node *before = im->nodes;
    end(begin());
    ck_assert_ptr_eq(im->nodes, before); /* shared until one changes */
    e = begin();
    ck_assert_int_eq(drain(e, 3, true), OK);
    ck_assert_int_eq(drain(e, 4, true), ERR_CORRUPT);
    ck_assert(!before[2].drained);
    end(e);
    e = begin();
    ck_assert_int_eq(register_broker(e, 3, 31, "c", 9099), OK); /* its disk is another one */
    image_edit_drop(e);
    ck_assert_str_eq(image_node(im, 3)->rack, "b");
    e = begin();
    ck_assert_int_eq(register_broker(e, 3, 31, "c", 9099), OK);
    ck_assert_int_eq(unregister(e, 2), OK);
    ck_assert_int_eq(unregister(e, 2), ERR_CORRUPT);
    end(e);
    const struct image_node *n = image_node(im, 3);
    ck_assert_str_eq(n->rack, "c");
    ck_assert_int_eq(n->listeners[0].port, 9099);
    ck_assert_str_eq(n->listeners[0].host, "host");
    ck_assert_uint_eq(n->incarnation.b[0], 31);
    ck_assert(n->drained); /* what was drained stays so */
    ck_assert_uint_eq(n->metadata_offset, offset - 3);
    ck_assert_ptr_null(image_node(im, 2));
    ck_assert_ptr_nonnull(image_node(im, 1));
}
END_TEST

START_TEST(the_quorum_is_kept) {
    struct image_edit *e = begin();
    ck_assert_int_eq(quorum(e, (int32_t[]){2, 1}, 2), ERR_CORRUPT);
    ck_assert_int_eq(quorum(e, (int32_t[]){1, 1}, 2), ERR_CORRUPT);
    ck_assert_int_eq(quorum(e, NULL, 0), ERR_CORRUPT);
    ck_assert_int_eq(quorum(e, (int32_t[]){1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 10), ERR_CORRUPT);
    ck_assert_int_eq(quorum(e, (int32_t[]){1, 2, 5}, 3), OK);
    end(e);
    end(begin());
    ck_assert_uint_eq(im->quorum_voter_count, 3);
    ck_assert_int_eq(im->quorum_voters[2], 5);
}
END_TEST

START_TEST(only_replicas_of_this_node_are_logs_here) {
    end(begin()); /* from the first image on changes are told */
    struct image_edit *e = begin();
    ck_assert_int_eq(add_topic(e, 1, "t"), OK);
    ck_assert_int_eq(add_partition(e, 1, 0, 10, AT({2, 0, 0}, {1, 0, 0}, {3, 0, 0})), OK);
    ck_assert_int_eq(add_partition(e, 1, 1, 11, AT({2, 0, 0}, {3, 0, 0})), OK);
    end(e);
    ck_assert_uint_eq(im->change_count, 1);
    check_change(0, IMAGE_PARTITION_ADDED, 0, 0);
    const struct image_partition *p = partition("t", 0);
    ck_assert_int_eq(p->replica_count, 3);
    ck_assert_int_eq(p->replicas[0], 2);
    ck_assert_int_eq(p->at[1].node, 1);
    ck_assert_uint_eq(p->at[1].incarnation.b[0], 101);
    ck_assert_ptr_eq(image_replica_of(p, 3), &p->at[2]);
    ck_assert_ptr_null(image_replica_of(partition("t", 1), 1));
    ck_assert_int_eq(im->partition_count, 2);
    e = begin();
    ck_assert_int_eq(remove_topic(e, 1), OK);
    end(e);
    ck_assert_uint_eq(im->change_count, 1);
    check_change(0, IMAGE_PARTITION_REMOVED, -1, 0);
}
END_TEST

START_TEST(a_replica_that_comes_back_has_another_life) {
    end(begin());
    struct image_edit *e = begin();
    ck_assert_int_eq(add_topic(e, 1, "t"), OK);
    ck_assert_int_eq(add_partition(e, 1, 0, 10, AT({1, 0, 0}, {2, 0, 0}, {3, 0, 0})), OK);
    end(e);
    e = begin();
    uint64_t moved = offset;
    ck_assert_int_eq(move(e, 1, 0, AT({2, 0, 0}, {3, 0, 0}, {4, 1, '+'}, {1, 0, '-'})), OK);
    end(e);
    ck_assert_uint_eq(im->change_count, 1); /* the log stays until the reassignment is done */
    check_change(0, IMAGE_PARTITION_CHANGED, 0, 0);
    const struct image_partition *p = partition("t", 0);
    ck_assert(image_partition_is_moving(p));
    ck_assert_uint_eq(p->replicas_offset, moved);
    ck_assert_uint_eq(image_replica_of(p, 4)->metadata_offset, moved);
    ck_assert_uint_eq(image_replica_of(p, 1)->metadata_offset, moved - 1);
    ck_assert_uint_eq(p->lives, 2);
    ck_assert_int_eq(p->first_count, 3); /* it began with others */
    ck_assert_int_eq(p->first[0].node, 1);
    e = begin();
    ck_assert_int_eq(move(e, 1, 0, AT({2, 0, 0}, {3, 0, 0}, {4, 1, 0})), OK);
    end(e);
    ck_assert_uint_eq(im->change_count, 2);
    check_change(0, IMAGE_PARTITION_REMOVED, 0, 0);
    check_change(1, IMAGE_PARTITION_CHANGED, 0, 0);
    ck_assert(!image_partition_is_moving(partition("t", 0)));
    e = begin();
    ck_assert_int_eq(move(e, 1, 0, AT({1, 0, '+'}, {2, 0, 0})), ERR_CORRUPT); /* that life is over */
    ck_assert_int_eq(move(e, 1, 0, AT({1, 1, '+'}, {2, 0, 0})), ERR_CORRUPT); /* another had it */
    ck_assert_int_eq(move(e, 1, 0, AT({1, 2, '+'}, {2, 0, 0}, {3, 0, 0}, {4, 1, '-'})), OK);
    end(e);
    check_change(0, IMAGE_PARTITION_ADDED, 0, 2);
    check_change(1, IMAGE_PARTITION_CHANGED, 0, 0);
    p = partition("t", 0);
    ck_assert_uint_eq(p->lives, 3);
    ck_assert_int_eq(p->first_count, 3);
    ck_assert_uint_eq(p->metadata_offset, 1);
}
END_TEST

START_TEST(a_replay_knows_which_logs_are_gone) {
    struct image_edit *e = begin(); /* from the empty image: as at start */
    ck_assert_int_eq(add_topic(e, 1, "t"), OK);
    ck_assert_int_eq(add_partition(e, 1, 0, 10, AT({1, 0, 0}, {2, 0, 0})), OK);
    ck_assert_int_eq(move(e, 1, 0, AT({2, 0, 0})), OK);
    ck_assert_int_eq(move(e, 1, 0, AT({2, 0, 0}, {1, 1, '+'})), OK);
    ck_assert_int_eq(move(e, 1, 0, AT({2, 0, 0})), OK);
    ck_assert_int_eq(move(e, 1, 0, AT({2, 0, 0}, {1, 2, 0})), OK);
    ck_assert_int_eq(add_topic(e, 2, "gone"), OK);
    ck_assert_int_eq(add_partition(e, 2, 0, 11, AT({1, 0, 0}, {2, 0, 0})), OK);
    ck_assert_int_eq(add_partition(e, 2, 1, 12, AT({3, 0, 0}, {2, 0, 0})), OK); /* never here */
    ck_assert_int_eq(remove_topic(e, 2), OK);
    end(e);
    ck_assert_uint_eq(im->change_count, 0);
    ck_assert_uint_eq(im->removed_count, 3);
    ck_assert_uint_eq(im->removed_plids[0], log_plid(10, 0));
    ck_assert_uint_eq(im->removed_plids[1], log_plid(10, 1));
    ck_assert_uint_eq(im->removed_plids[2], log_plid(11, 0));
}
END_TEST

/* A follower may apply what several changes made as one. */
START_TEST(a_topic_that_one_edit_changes_and_removes_goes_as_it_was_shown) {
    end(begin());
    struct image_edit *e = begin();
    ck_assert_int_eq(add_topic(e, 1, "t"), OK);
    ck_assert_int_eq(add_partition(e, 1, 0, 10, AT({1, 0, 0})), OK);
    end(e);
    const struct image_topic *shown = image_topic_by_name(im, STR_LIT("t"));
    e = begin();
    ck_assert_int_eq(add_partition(e, 1, 1, 11, AT({1, 0, 0})), OK); /* never seen by anybody */
    ck_assert_int_eq(remove_topic(e, 1), OK);
    ck_assert_int_eq(add_topic(e, 2, "brief"), OK);
    ck_assert_int_eq(remove_topic(e, 2), OK);
    struct image *next = image_edit_finish(e, offset);
    ck_assert_uint_eq(next->change_count, 1);
    ck_assert_int_eq(next->changes[0].kind, IMAGE_PARTITION_REMOVED);
    ck_assert_ptr_eq(next->changes[0].topic, shown);
    ck_assert_int_eq(next->changes[0].topic->partition_count, 1);
    image_free_older(im, next);
    im = next;
    ck_assert_uint_eq(im->topic_count, 0);
    ck_assert_int_eq(im->partition_count, 0);
}
END_TEST

START_TEST(replicas_that_cannot_be_are_refused) {
    struct image_edit *e = begin();
    ck_assert_int_eq(add_topic(e, 1, "t"), OK);
    ck_assert_int_eq(add_partition(e, 1, 0, 10, AT({1, 0, 0}, {1, 0, 0})), ERR_CORRUPT);
    ck_assert_int_eq(add_partition(e, 1, 0, 10, AT({1, 1, 0})), ERR_CORRUPT);          /* a first life is 0 */
    ck_assert_int_eq(add_partition(e, 1, 0, 10, AT({1, 0, '+'})), ERR_CORRUPT);
    ck_assert_int_eq(add_partition(e, 1, 0, UINT64_C(1) << 40, AT({1, 0, 0})), ERR_CORRUPT);
    ck_assert_int_eq(add_partition(e, 1, 0, 10, AT({1, 0, 0}, {2, 0, 0}, {3, 0, 0}, {4, 0, 0}, {5, 0, 0}, {6, 0, 0}, {7, 0, 0},
                                                   {8, 0, 0}, {9, 0, 0}, {10, 0, 0})), ERR_CORRUPT);
    ck_assert_int_eq(add_partition(e, 1, 0, 10, AT({1, 0, 0})), OK);
    ck_assert_int_eq(move(e, 1, 0, AT({1, 0, '-'})), ERR_CORRUPT);                      /* nobody would be left */
    ck_assert_int_eq(move(e, 1, 0, AT({1, 0, 0}, {-2, 1, 0})), ERR_CORRUPT);
    ck_assert_int_eq(move(e, 1, 0, AT({1, 0, 0}, {2, LOG_LIFE_MAX + 1, 0})), ERR_CORRUPT);
    ck_assert_int_eq(move(e, 1, 1, AT({1, 0, 0})), ERR_CORRUPT);
    ck_assert_int_eq(move(e, 2, 0, AT({1, 0, 0})), ERR_CORRUPT);
    end(e);
    ck_assert_int_eq(partition("t", 0)->replica_count, 1);
    ck_assert_ptr_null(partition("t", 0)->first);
}
END_TEST

int main(void) {
    Suite *s = suite_create("image_nodes");
    TCase *c = tcase_create("image_nodes");
    tcase_add_checked_fixture(c, set_up, tear_down);
    tcase_add_test(c, brokers_register_anew_and_leave);
    tcase_add_test(c, the_quorum_is_kept);
    tcase_add_test(c, only_replicas_of_this_node_are_logs_here);
    tcase_add_test(c, a_replica_that_comes_back_has_another_life);
    tcase_add_test(c, a_replay_knows_which_logs_are_gone);
    tcase_add_test(c, a_topic_that_one_edit_changes_and_removes_goes_as_it_was_shown);
    tcase_add_test(c, replicas_that_cannot_be_are_refused);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
