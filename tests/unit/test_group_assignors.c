/* The assignors: rules that hold for every input, over random groups that change; and what each is known for. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "server/group_assignor.h"

enum { TOPICS = 12, MEMBERS = 14 };
static struct arena arena;
static uint64_t seed;
static uint32_t dice(uint32_t n) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)((seed * 0x2545f4914f6cdd1dull >> 33) % n);
}
static void setup(void) { arena_init(&arena, 1u << 30); }
static void teardown(void) { arena_free(&arena); }

/* A group over time: members by number, with what they got last. */
struct member { bool alive, is_static; uint32_t topics; struct group_parts has; };
static struct assignor_topic topics[TOPICS];
static struct member members[MEMBERS];
static char names[MEMBERS][16];

static void start(uint64_t from, bool equal) {
    seed = from * 0x9e3779b97f4a7c15ull + 1;
    memset(members, 0, sizeof members);
    for (uint32_t t = 0; t < TOPICS; t++) {
        topics[t] = (struct assignor_topic){.partitions = 1 + (int32_t)dice(9)};
        topics[t].id.b[0] = (uint8_t)(t + 1);
    }
    for (uint32_t m = 0; m < MEMBERS; m++) {
        snprintf(names[m], sizeof names[m], "m%02u", m);
        members[m] = (struct member){.alive = dice(2), .is_static = dice(4) == 0, .topics = equal ? 0xfff : dice(1 << TOPICS)};
    }
}
static void change(bool equal) {
    uint32_t m = dice(MEMBERS);
    members[m].alive = !members[m].alive;
    if (!members[m].alive) members[m].has = (struct group_parts){0};
    if (!equal) members[dice(MEMBERS)].topics ^= 1u << dice(TOPICS);
    if (dice(4) == 0) topics[dice(TOPICS)].partitions++;
}

static struct assignor_input input(void) {
    struct assignor_input in = {.topics = topics, .topics_n = TOPICS, .members = arena_array(&arena, MEMBERS, sizeof *in.members)};
    for (uint32_t m = 0; m < MEMBERS; m++) {
        if (!members[m].alive) continue;
        uint32_t *list = arena_array(&arena, TOPICS, sizeof *list), n = 0;
        for (uint32_t t = 0; t < TOPICS; t++)
            if (members[m].topics >> t & 1) list[n++] = t;
        in.members[in.members_n++] = (struct assignor_member){.id = str_from(names[m]), .instance_id = members[m].is_static ? str_from(names[m]) : STR_NULL,
                                                              .topics = list, .topics_n = n, .current = members[m].has};
    }
    return in;
}
static struct member *member_of(const struct assignor_member *m) { return &members[atoi(m->id.p + 1)]; }

static uint32_t subscribers(const struct assignor_input *in, uint32_t topic) {
    uint32_t n = 0;
    for (uint32_t m = 0; m < in->members_n; m++) n += member_of(&in->members[m])->topics >> topic & 1;
    return n;
}

/* Each partition of each topic with subscribers once, with a subscriber; nothing else. */
static void check_complete(const struct assignor_input *in) {
    uint8_t seen[TOPICS][256] = {{0}};
    for (uint32_t m = 0; m < in->members_n; m++) {
        const struct group_parts *set = &in->members[m].target;
        for (uint32_t i = 0; i < set->n; i++) {
            uint32_t t = set->list[i].topic.b[0] - 1u;
            ck_assert(member_of(&in->members[m])->topics >> t & 1);
            ck_assert_int_lt(set->list[i].partition, topics[t].partitions);
            ck_assert_int_eq(seen[t][set->list[i].partition]++, 0);
            if (i > 0) ck_assert_int_lt(group_part_compare(&set->list[i - 1], &set->list[i]), 0);
        }
    }
    for (uint32_t t = 0; t < TOPICS; t++)
        for (int32_t p = 0; p < topics[t].partitions; p++) ck_assert_int_eq(seen[t][p], subscribers(in, t) > 0);
}

/* Partitions that a member had, that exist and that it still subscribes to, but lost. */
static uint32_t lost(const struct assignor_member *m) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->current.n; i++) {
        const struct group_part *p = &m->current.list[i];
        n += (member_of(m)->topics >> (p->topic.b[0] - 1) & 1) && !group_parts_find(&m->target, &p->topic, p->partition);
    }
    return n;
}

static void keep(const struct assignor_input *in) {
    for (uint32_t m = 0; m < in->members_n; m++) member_of(&in->members[m])->has = in->members[m].target;
}

START_TEST(uniform_of_equal_subscriptions) {
    for (uint64_t s = 1; s <= 40; s++) {
        start(s, true);
        for (int round = 0; round < 25; round++) {
            struct assignor_input in = input();
            ck_assert_int_eq(assignor_uniform(&in, &arena), OK);
            if (in.members_n > 0) {
                check_complete(&in);
                uint32_t least = UINT32_MAX, most = 0, total = 0;
                for (uint32_t m = 0; m < in.members_n; m++) {
                    least = MIN(least, in.members[m].target.n);
                    most = MAX(most, in.members[m].target.n);
                    total += in.members[m].target.n;
                }
                ck_assert_uint_le(most - least, 1);
                for (uint32_t m = 0; m < in.members_n; m++) { /* who had no more than a share loses nothing; who had more, no more than that */
                    uint32_t share = total / in.members_n, had = in.members[m].current.n;
                    ck_assert_uint_le(lost(&in.members[m]), had > share ? had - share : 0);
                }
                keep(&in);
                struct assignor_input again = input();
                ck_assert_int_eq(assignor_uniform(&again, &arena), OK);
                for (uint32_t m = 0; m < again.members_n; m++) ck_assert(group_parts_equal(&again.members[m].target, &in.members[m].target, false));
            }
            change(true);
        }
    }
}
END_TEST

START_TEST(uniform_of_different_subscriptions) {
    for (uint64_t s = 1; s <= 40; s++) {
        start(s, false);
        for (int round = 0; round < 25; round++) {
            struct assignor_input in = input();
            ck_assert_int_eq(assignor_uniform(&in, &arena), OK);
            check_complete(&in);
            for (uint32_t m = 0; m < in.members_n; m++) { /* no single move would make it more even */
                const struct group_parts *set = &in.members[m].target;
                for (uint32_t i = 0; i < set->n; i++)
                    for (uint32_t o = 0; o < in.members_n; o++)
                        if (member_of(&in.members[o])->topics >> (set->list[i].topic.b[0] - 1) & 1) ck_assert_uint_le(set->n, in.members[o].target.n + 1);
            }
            keep(&in);
            struct assignor_input again = input();
            ck_assert_int_eq(assignor_uniform(&again, &arena), OK);
            for (uint32_t m = 0; m < again.members_n; m++) ck_assert_uint_eq(lost(&again.members[m]), 0);
            change(false);
        }
    }
}
END_TEST

START_TEST(range_gives_ranges) {
    for (uint64_t s = 1; s <= 40; s++) {
        start(s, s % 2);
        for (int round = 0; round < 25; round++) {
            struct assignor_input in = input();
            ck_assert_int_eq(assignor_range(&in, &arena), OK);
            check_complete(&in);
            for (uint32_t t = 0; t < TOPICS; t++) {
                int32_t next = 0, n = (int32_t)subscribers(&in, t), before = INT32_MAX;
                for (uint32_t m = 0; m < in.members_n; m++) {
                    if (!(member_of(&in.members[m])->topics >> t & 1)) continue;
                    int32_t count = 0;
                    for (uint32_t i = 0; i < in.members[m].target.n; i++) {
                        if (in.members[m].target.list[i].topic.b[0] != t + 1) continue;
                        ck_assert_int_eq(in.members[m].target.list[i].partition, next++);
                        count++;
                    }
                    ck_assert_int_ge(count, topics[t].partitions / n);
                    ck_assert_int_le(count, topics[t].partitions / n + 1);
                    ck_assert_int_le(count, before); /* the longer ranges come first */
                    before = count;
                }
            }
            for (uint32_t m = 1; m < in.members_n; m++) /* static members first, each kind by its id */
                ck_assert(member_of(&in.members[m - 1])->is_static != member_of(&in.members[m])->is_static
                              ? member_of(&in.members[m - 1])->is_static : strcmp(in.members[m - 1].id.p, in.members[m].id.p) < 0);
            change(s % 2);
        }
    }
}
END_TEST

/* Topics of equal size and equal subscribers are joined by partition: the same member has partition n of all. */
START_TEST(range_partitions_meet) {
    start(5, true);
    for (uint32_t t = 0; t < TOPICS; t++) topics[t].partitions = 7;
    struct assignor_input in = input();
    ck_assert_int_eq(assignor_range(&in, &arena), OK);
    for (uint32_t m = 0; m < in.members_n; m++)
        for (uint32_t i = 0; i < in.members[m].target.n; i++)
            for (uint32_t t = 0; t < TOPICS; t++)
                ck_assert_ptr_nonnull(group_parts_find(&in.members[m].target, &topics[t].id, in.members[m].target.list[i].partition));
}
END_TEST

START_TEST(small_groups) {
    struct assignor_input none = {.topics = topics, .topics_n = 0, .members = arena_array(&arena, 1, sizeof *none.members)};
    ck_assert_int_eq(assignor_uniform(&none, &arena), OK);
    ck_assert_int_eq(assignor_range(&none, &arena), OK);
    none.members_n = 1;
    none.members[0] = (struct assignor_member){.id = STR_LIT("a")};
    ck_assert_int_eq(assignor_uniform(&none, &arena), OK);
    ck_assert_int_eq(assignor_range(&none, &arena), OK);
    ck_assert_uint_eq(none.members[0].target.n, 0);
    ck_assert_ptr_eq(assignor_by_name(STR_LIT("uniform")), assignor_uniform);
    ck_assert_ptr_eq(assignor_by_name(STR_LIT("range")), assignor_range);
    ck_assert_ptr_null(assignor_by_name(STR_LIT("Range")));
    struct arena tiny;
    arena_init(&tiny, 64);
    start(3, true);
    struct assignor_input in = input();
    ck_assert_int_eq(assignor_uniform(&in, &tiny), ERR_NOMEM);
    ck_assert_int_eq(assignor_range(&in, &tiny), ERR_NOMEM);
    arena_free(&tiny);
}
END_TEST

int main(void) {
    Suite *s = suite_create("group_assignors");
    TCase *t = tcase_create("group_assignors");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, uniform_of_equal_subscriptions);
    tcase_add_test(t, uniform_of_different_subscriptions);
    tcase_add_test(t, range_gives_ranges);
    tcase_add_test(t, range_partitions_meet);
    tcase_add_test(t, small_groups);
    suite_add_tcase(s, t);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
