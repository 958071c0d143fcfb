/* Committed offsets of a group: against a plain model, with any order of events; the bytes they are charged for; expiry. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include "proto/kafka_messages.h"
#include "server/group_offsets.h"
#include "tests/sim/prng.h"

enum { TOPICS = 3, PARTITIONS = 700 };

static struct k_offset_commit_value value_of(int64_t offset, const char *metadata) {
    struct k_offset_commit_value v;
    k_offset_commit_value_init(&v);
    v.offset = offset;
    v.leader_epoch = (int32_t)(offset % 5) - 1;
    v.metadata = str_from(metadata);
    v.commit_timestamp = offset * 10;
    return v;
}

static struct str name_of(int topic) {
    static const char *names[TOPICS] = {"a", "topic.b", "c-c"};
    return str_from(names[topic]);
}

static void compare(const struct group_offsets *o, const int64_t model[TOPICS][PARTITIONS]) {
    static const struct uuid no_id;
    uint64_t count = 0, seen = 0;
    for (int t = 0; t < TOPICS; t++)
        for (int p = 0; p < PARTITIONS; p++) {
            const struct group_offset *found = group_offsets_find(o, name_of(t), &no_id, p);
            ck_assert_int_eq(found != NULL, model[t][p] != 0);
            if (!found) continue;
            count++;
            ck_assert_int_eq(found->offset, model[t][p]);
            ck_assert_int_eq(found->leader_epoch, (int32_t)(model[t][p] % 5) - 1);
            ck_assert_int_eq(found->commit_ms, model[t][p] * 10);
            ck_assert(str_is(group_offset_metadata(found), model[t][p] % 7 == 0 ? "meta" : ""));
        }
    ck_assert_uint_eq(o->count, count);
    const struct group_offset_topic *topic, *last = NULL;
    struct group_offsets_iter it = group_offsets_begin(o);
    int32_t before = -1;
    for (const struct group_offset *x; (x = group_offsets_next(&it, &topic)); seen++, last = topic, before = x->partition)
        ck_assert(topic != last || x->partition > before);
    ck_assert_uint_eq(seen, count);
}

START_TEST(any_order_of_commits_and_removals) {
    struct prng rng = {(uint64_t)_i + 1};
    struct group_offsets o = {0};
    static int64_t model[TOPICS][PARTITIONS];
    memset(model, 0, sizeof model);
    int range = _i % 2 ? PARTITIONS : 40;
    for (int step = 1; step <= 6000; step++) {
        int t = (int)prng_below(&rng, TOPICS), p = _i == 4 && step < PARTITIONS ? step : (int)prng_below(&rng, (uint64_t)range);
        bool remove = prng_below(&rng, 10) < (step > 4000 ? 8u : 2u);
        struct k_offset_commit_value v = value_of(step, step % 7 == 0 ? "meta" : "");
        ck_assert_int_eq(group_offsets_replay(&o, name_of(t), p, remove ? NULL : &v), OK);
        model[t][p] = remove ? 0 : step;
        if (step % 1500 == 0) compare(&o, (const int64_t(*)[PARTITIONS])model);
    }
    compare(&o, (const int64_t(*)[PARTITIONS])model);
    group_offsets_free(&o); /* asserts that every byte was accounted for */
}
END_TEST

START_TEST(a_topic_made_anew_has_no_offsets) {
    static const struct uuid no_id, old_id = {{1}}, new_id = {{2}};
    struct group_offsets o = {0};
    struct k_offset_commit_value v = value_of(5, "");
    ck_assert_int_eq(group_offsets_replay(&o, STR_LIT("t"), 0, &v), OK);
    v.topic_id = old_id;
    ck_assert_int_eq(group_offsets_replay(&o, STR_LIT("t"), 1, &v), OK); /* the id becomes known: nothing is lost */
    ck_assert_uint_eq(o.count, 2);
    ck_assert_ptr_nonnull(group_offsets_find(&o, STR_LIT("t"), &old_id, 0));
    ck_assert_ptr_null(group_offsets_find(&o, STR_LIT("t"), &new_id, 0));
    v.topic_id = no_id;
    ck_assert_int_eq(group_offsets_replay(&o, STR_LIT("t"), 2, &v), OK);
    ck_assert_uint_eq(o.count, 3);
    v.topic_id = new_id;
    ck_assert_int_eq(group_offsets_replay(&o, STR_LIT("t"), 1, &v), OK);
    ck_assert_uint_eq(o.count, 1);
    ck_assert_ptr_nonnull(group_offsets_find(&o, STR_LIT("t"), &new_id, 1));
    ck_assert_int_eq(group_offsets_replay(&o, STR_LIT("t"), -1, &v), ERR_CORRUPT);
    ck_assert_int_eq(group_offsets_replay(&o, STR_LIT(""), 0, &v), ERR_CORRUPT);
    ck_assert_int_eq(group_offsets_replay(&o, STR_LIT("t"), INT32_MAX, &v), OK);
    ck_assert_int_eq(group_offsets_replay(&o, STR_LIT("u"), 0, NULL), OK);
    group_offsets_free(&o);
}
END_TEST

START_TEST(expiry_counts_from_the_emptiness_of_the_group) {
    struct group_offset o = {.commit_ms = 1000};
    ck_assert(!group_offset_expired(&o, 1099, 100, -1, false));
    ck_assert(group_offset_expired(&o, 1100, 100, -1, false));
    ck_assert(!group_offset_expired(&o, 1100, 100, 1001, false));
    ck_assert(group_offset_expired(&o, 1101, 100, 1001, false));
    ck_assert(!group_offset_expired(&o, 99999, 100, -1, true));
    struct group_offset_more more = {.expire_ms = 5000};
    o.more = &more;
    ck_assert(!group_offset_expired(&o, 4999, 100, -1, false));
    ck_assert(group_offset_expired(&o, 5000, 1000000, 4999, false));
}
END_TEST

int main(void) {
    Suite *s = suite_create("group_offsets");
    TCase *t = tcase_create("all");
    tcase_add_loop_test(t, any_order_of_commits_and_removals, 0, 6);
    tcase_add_test(t, a_topic_made_anew_has_no_offsets);
    tcase_add_test(t, expiry_counts_from_the_emptiness_of_the_group);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
