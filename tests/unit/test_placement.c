/* Which brokers get replicas: properties over random clusters, and a few that a person can check. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include "server/placement.h"

static uint64_t random_state = 1;
static uint32_t below(uint32_t n) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % n;
}

enum { PARTITIONS = 240 };
struct cluster { struct placement_node nodes[PLACEMENT_NODES_MAX]; char racks[PLACEMENT_NODES_MAX][8]; uint32_t count; };

static void random_cluster(struct cluster *c) {
    uint32_t racks = 1 + below(5);
    *c = (struct cluster){.count = 1 + below(12)};
    for (uint32_t i = 0; i < c->count; i++) {
        snprintf(c->racks[i], sizeof c->racks[i], "%u", below(racks));
        c->nodes[i] = (struct placement_node){(int32_t)(i * 3 + 1), racks == 1 ? NULL : c->racks[i], below(5) > 0, below(8) == 0};
    }
}
static const struct placement_node *node_of(const struct cluster *c, int32_t node) {
    for (uint32_t i = 0; i < c->count; i++)
        if (c->nodes[i].node == node) return &c->nodes[i];
    ck_abort_msg("a node that was not given");
    return NULL;
}
static const char *rack_of(const struct cluster *c, int32_t node) {
    const char *rack = node_of(c, node)->rack;
    return rack ? rack : "";
}
static uint32_t usable_racks(const struct cluster *c, bool up_only) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        bool seen = c->nodes[i].drained || (up_only && !c->nodes[i].up);
        for (uint32_t k = 0; k < i; k++)
            seen = seen || (!c->nodes[k].drained && (!up_only || c->nodes[k].up) && strcmp(rack_of(c, c->nodes[k].node), rack_of(c, c->nodes[i].node)) == 0);
        n += !seen;
    }
    return n;
}
static uint32_t different_racks(const struct cluster *c, const int32_t *nodes, uint32_t n) {
    uint32_t found = 0;
    for (uint32_t i = 0; i < n; i++) {
        bool seen = false;
        for (uint32_t k = 0; k < i; k++) seen = seen || strcmp(rack_of(c, nodes[k]), rack_of(c, nodes[i])) == 0;
        found += !seen;
    }
    return found;
}

START_TEST(replicas_are_distinct_leaders_even_and_racks_spread) {
    for (int run = 0; run < 2000; run++) {
        struct cluster c;
        struct placement p;
        random_cluster(&c);
        placement_init(&p, c.nodes, c.count, below(1000));
        ck_assert_uint_eq(p.registered, c.count);
        if (p.up == 0) continue;
        uint32_t factor = 1 + below(MIN(p.count, 9u));
        uint32_t leads[PLACEMENT_NODES_MAX * 3 + 1] = {0};
        for (int i = 0; i < PARTITIONS; i++) {
            int32_t out[PLACEMENT_NODES_MAX];
            placement_next(&p, out, factor);
            leads[out[0]]++;
            uint32_t ups = 0;
            for (uint32_t k = 0; k < factor; k++) {
                ck_assert(!node_of(&c, out[k])->drained);
                ups += node_of(&c, out[k])->up;
                for (uint32_t j = 0; j < k; j++) ck_assert_int_ne(out[j], out[k]);
            }
            ck_assert(node_of(&c, out[0])->up);
            ck_assert_uint_eq(ups, MIN(factor, p.up)); /* those that are not up only when there is nobody else */
            if (factor <= p.up) ck_assert_uint_eq(different_racks(&c, out, factor), MIN(factor, usable_racks(&c, true)));
        }
        uint32_t least = UINT32_MAX, most = 0;
        for (uint32_t i = 0; i < p.up; i++) {
            least = MIN(least, leads[p.row[i].node]);
            most = MAX(most, leads[p.row[i].node]);
        }
        ck_assert_uint_le(most - least, 1);
    }
}
END_TEST

START_TEST(followers_are_even_too_without_racks) {
    for (uint32_t n = 2; n <= 12; n++)
        for (uint32_t factor = 2; factor <= MIN(n, 5u); factor++) {
            struct placement_node nodes[12];
            struct placement p;
            for (uint32_t i = 0; i < n; i++) nodes[i] = (struct placement_node){(int32_t)i, NULL, true, false};
            placement_init(&p, nodes, n, 5);
            uint32_t holds[12] = {0}, rounds = n * (n - 1);
            for (uint32_t i = 0; i < rounds; i++) {
                int32_t out[12];
                placement_next(&p, out, factor);
                for (uint32_t k = 0; k < factor; k++) holds[out[k]]++;
            }
            for (uint32_t i = 0; i < n; i++) ck_assert_uint_eq(holds[i], rounds * factor / n);
        }
}
END_TEST

/* What a broker led, when it is lost, is not all led by the same other one. */
START_TEST(a_lost_brokers_partitions_spread_over_all_others) {
    struct placement_node nodes[5];
    struct placement p;
    for (int32_t i = 0; i < 5; i++) nodes[i] = (struct placement_node){i, NULL, true, false};
    placement_init(&p, nodes, 5, 0);
    uint32_t second[5] = {0};
    for (int i = 0; i < 100; i++) {
        int32_t out[3];
        placement_next(&p, out, 3);
        if (out[0] == 0) second[out[1]]++;
    }
    for (int i = 1; i < 5; i++) ck_assert_uint_eq(second[i], 5);
}
END_TEST

START_TEST(racks_alternate_in_the_row) {
    const struct placement_node nodes[] = {{1, "a", true, false}, {2, "a", true, false}, {3, "b", true, false}, {4, "b", true, false},
                                           {5, "c", false, false}, {6, "c", true, true}};
    struct placement p;
    placement_init(&p, nodes, ARRAY_LEN(nodes), 0);
    ck_assert_uint_eq(p.up, 4);
    ck_assert_uint_eq(p.count, 5);
    const int32_t expected[] = {1, 3, 2, 4, 5};
    for (int i = 0; i < 5; i++) ck_assert_int_eq(p.row[i].node, expected[i]);
    int32_t out[5];
    placement_next(&p, out, 5);
    ck_assert_int_eq(out[0], 1);
    ck_assert_int_eq(out[1], 3); /* the other rack first */
    ck_assert_int_eq(out[4], 5); /* the one that is not up last */
}
END_TEST

START_TEST(more_replicas_go_where_no_rack_has_one) {
    const struct placement_node nodes[] = {{1, "a", true, false}, {2, "a", true, false}, {3, "b", true, false}, {4, "b", true, true},
                                           {5, "c", false, false}, {6, "d", true, false}};
    for (uint64_t first = 0; first < 10; first++) {
        struct placement p;
        placement_init(&p, nodes, ARRAY_LEN(nodes), first);
        int32_t out[9] = {1, 4}; /* 4 drains: its rack counts for nothing */
        ck_assert_uint_eq(placement_extend(&p, out, 1, 3), 3);
        ck_assert((out[1] == 3 && out[2] == 6) || (out[1] == 6 && out[2] == 3));
        ck_assert_uint_eq(placement_extend(&p, out, 3, 9), 4); /* nobody else is up */
        ck_assert_int_eq(out[3], 2);
        ck_assert_uint_eq(placement_extend(&p, out, 4, 2), 4);
    }
}
END_TEST

START_TEST(nobody_who_is_up_is_nobody_to_lead) {
    const struct placement_node nodes[] = {{1, NULL, false, false}, {2, NULL, true, true}};
    struct placement p;
    placement_init(&p, nodes, 2, 0);
    ck_assert_uint_eq(p.up, 0);
    ck_assert_uint_eq(p.count, 1);
    ck_assert_uint_eq(p.registered, 2);
}
END_TEST

int main(void) {
    Suite *s = suite_create("placement");
    TCase *c = tcase_create("placement");
    tcase_add_test(c, replicas_are_distinct_leaders_even_and_racks_spread);
    tcase_add_test(c, followers_are_even_too_without_racks);
    tcase_add_test(c, a_lost_brokers_partitions_spread_over_all_others);
    tcase_add_test(c, racks_alternate_in_the_row);
    tcase_add_test(c, more_replicas_go_where_no_rack_has_one);
    tcase_add_test(c, nobody_who_is_up_is_nobody_to_lead);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
