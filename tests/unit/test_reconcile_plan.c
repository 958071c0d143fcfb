/* From any configuration to any wanted one by single steps: a model of a group whose members come and go takes every step that
 * is planned, and each must be one that the core accepts. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include "server/reconcile_plan.h"

static uint64_t random_state = 7;
static uint32_t below(uint32_t n) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % n;
}
static struct replica_member member(int32_t node, uint8_t incarnation) { return (struct replica_member){node, {{incarnation}}}; }

struct group {
    struct replica_config config;
    struct replica_member self;              /* leads */
    uint32_t down;                           /* bits of node numbers */
    struct reconcile_input in;
};

static void see(struct group *g) {
    g->in.now = &g->config;
    g->in.self = g->self;
    g->in.in_sync = 0;
    for (int i = 0; i < g->config.count; i++) {
        const struct replica_member *m = &g->config.members[i];
        bool lost = false; /* another incarnation of its node is there now */
        for (uint32_t k = 0; k < g->in.voters; k++) lost = lost || (g->in.voter[k].node == m->node && !replica_member_eq(&g->in.voter[k], m));
        for (uint32_t k = 0; k < g->in.learners; k++) lost = lost || (g->in.learner[k].node == m->node && !replica_member_eq(&g->in.learner[k], m));
        if (!lost && (g->down >> m->node & 1) == 0) g->in.in_sync |= 1u << i;
    }
}
static uint32_t alive(const struct group *g, const struct replica_config *c) {
    uint32_t n = 0;
    for (int i = 0; i < c->voters; i++) {
        int at = replica_config_find(&g->config, &c->members[i]);
        n += at >= 0 && (g->in.in_sync >> at & 1) != 0;
    }
    return n;
}

/* The rules of the core (replication/membership.c). False: nothing more happens without a change from outside. */
static bool step(struct group *g, enum reconcile_kind *last) {
    struct reconcile_step s;
    see(g);
    reconcile_plan(&g->in, &s);
    *last = s.kind;
    if (s.kind == RECONCILE_DONE || s.kind == RECONCILE_WAIT) return false;
    if (s.kind == RECONCILE_TRANSFER || s.kind == RECONCILE_PREFER) {
        ck_assert(replica_config_is_voter(&g->config, &s.to));
        ck_assert(!replica_member_eq(&s.to, &g->self));
        ck_assert(g->in.in_sync >> replica_config_find(&g->config, &s.to) & 1);
        g->self = s.to;
        for (uint32_t i = 0; i < g->in.voters; i++)
            if (replica_member_eq(&g->in.voter[i], &g->self)) g->in.self_drains = g->in.draining >> i & 1;
        return true;
    }
    ck_assert(replica_config_is_valid(&s.config));
    ck_assert(replica_config_is_single_step(&g->config, &s.config));
    ck_assert(replica_config_is_voter(&s.config, &g->self));
    for (int i = 0; i < s.config.voters; i++) { /* who votes anew was in sync */
        int at = replica_config_find(&g->config, &s.config.members[i]);
        ck_assert_int_ge(at, 0);
        if (at >= g->config.voters) ck_assert(g->in.in_sync >> at & 1);
    }
    if (alive(g, &g->config) < replica_config_majority(&g->config) || alive(g, &s.config) < replica_config_majority(&s.config)) return false;
    g->config = s.config;
    return true;
}
static enum reconcile_kind run(struct group *g) {
    enum reconcile_kind last = RECONCILE_WAIT;
    for (int i = 0; i < 100; i++)
        if (!step(g, &last)) return last;
    ck_abort_msg("it never ends");
    return last;
}

static struct group group_of(const int32_t *nodes, int n) {
    struct group g = {.config = {.voters = (uint8_t)n, .count = (uint8_t)n}, .in = {.prefers = true}};
    for (int i = 0; i < n; i++) g.config.members[i] = member(nodes[i], 1);
    g.self = g.config.members[0];
    return g;
}
static void want(struct group *g, const int32_t *nodes, uint32_t n) {
    g->in.voters = n;
    for (uint32_t i = 0; i < n; i++) g->in.voter[i] = member(nodes[i], 1);
}
#define NODES(...) ((const int32_t[]){__VA_ARGS__}), (sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))
static void check_voters(const struct group *g, const int32_t *nodes, size_t n) {
    ck_assert_uint_eq(g->config.voters, n);
    for (size_t i = 0; i < n; i++) {
        bool found = false;
        for (int k = 0; k < g->config.voters; k++) found = found || g->config.members[k].node == nodes[i];
        ck_assert_msg(found, "%d does not vote", nodes[i]);
    }
}

START_TEST(a_group_of_one_grows_to_three) {
    struct group g = group_of(NODES(1));
    want(&g, NODES(1, 2, 3));
    ck_assert_int_eq(run(&g), RECONCILE_DONE);
    check_voters(&g, NODES(1, 2, 3));
    ck_assert_int_eq(g.self.node, 1);
}
END_TEST

START_TEST(all_replicas_move_and_leadership_with_them) {
    struct group g = group_of(NODES(1, 2, 3));
    want(&g, NODES(4, 5, 6));
    ck_assert_int_eq(run(&g), RECONCILE_DONE);
    check_voters(&g, NODES(4, 5, 6));
    ck_assert_int_eq(g.config.count, 3);
    ck_assert_int_eq(g.self.node, 4);
}
END_TEST

START_TEST(nobody_leaves_before_all_who_come_vote) {
    struct group g = group_of(NODES(1, 2, 3));
    want(&g, NODES(1, 4, 5));
    g.down = 1u << 5;
    ck_assert_int_eq(run(&g), RECONCILE_WAIT);
    check_voters(&g, NODES(1, 2, 3, 4));
    g.down = 0;
    ck_assert_int_eq(run(&g), RECONCILE_DONE);
    check_voters(&g, NODES(1, 4, 5));
    /* Cancelled on half the way */
    g = group_of(NODES(1, 2, 3));
    want(&g, NODES(1, 4, 5));
    g.down = 1u << 5;
    run(&g);
    want(&g, NODES(1, 2, 3));
    ck_assert_int_eq(run(&g), RECONCILE_DONE);
    check_voters(&g, NODES(1, 2, 3));
    ck_assert_int_eq(g.config.count, 3); /* nobody learns any more */
}
END_TEST

START_TEST(a_lost_disk_is_replaced_by_its_next_incarnation) {
    struct group g = group_of(NODES(1, 2, 3));
    want(&g, NODES(3, 1, 2));
    g.in.voter[0] = member(3, 2);
    struct reconcile_step s;
    see(&g);
    reconcile_plan(&g.in, &s);
    ck_assert_int_eq(s.kind, RECONCILE_CONFIG);
    ck_assert_uint_eq(s.config.voters, 2);
    ck_assert_uint_eq(s.config.count, 3); /* it learns at once */
    ck_assert_uint_eq(s.config.members[2].incarnation.b[0], 2);
    ck_assert_int_eq(run(&g), RECONCILE_DONE);
    check_voters(&g, NODES(1, 2, 3));
    ck_assert_int_eq(g.self.node, 3); /* preferred */
}
END_TEST

START_TEST(leadership_goes_to_the_preferred_unless_it_drains) {
    struct group g = group_of(NODES(1, 2, 3));
    want(&g, NODES(2, 1, 3));
    g.down = 1u << 2;
    ck_assert_int_eq(run(&g), RECONCILE_DONE);
    ck_assert_int_eq(g.self.node, 1);
    g.down = 0;
    g.in.draining = 1;
    ck_assert_int_eq(run(&g), RECONCILE_DONE);
    ck_assert_int_eq(g.self.node, 1);
    g.in.draining = 0;
    g.in.prefers = false;
    ck_assert_int_eq(run(&g), RECONCILE_DONE);
    ck_assert_int_eq(g.self.node, 1);
    g.in.prefers = true;
    ck_assert_int_eq(run(&g), RECONCILE_DONE);
    ck_assert_int_eq(g.self.node, 2);
    g.in.draining = 1;
    g.in.self_drains = true;
    ck_assert_int_eq(run(&g), RECONCILE_DONE);
    ck_assert_int_eq(g.self.node, 1);
    g.in.draining = 7; /* all drain: somebody must lead */
    g.in.self_drains = true;
    ck_assert_int_eq(run(&g), RECONCILE_DONE);
}
END_TEST

/* One that came back a moment ago leads when there is no other; the preferred one gets it back later all the same (whoever takes the
 * steps waits for that). */
START_TEST(who_has_just_come_back_leads_last) {
    struct group g = group_of(NODES(1, 2, 3));
    struct reconcile_step s;
    want(&g, NODES(1, 2, 3));
    g.in.recent = 1u << 1; /* node 2 */
    g.in.self_drains = true;
    see(&g);
    reconcile_plan(&g.in, &s);
    ck_assert_int_eq(s.kind, RECONCILE_TRANSFER);
    ck_assert_int_eq(s.to.node, 3);
    g.down = 1u << 3;
    see(&g);
    reconcile_plan(&g.in, &s);
    ck_assert_int_eq(s.kind, RECONCILE_TRANSFER);
    ck_assert_int_eq(s.to.node, 2);
    g.self = s.to;
    g.in.self_drains = false;
    g.in.recent = 1; /* node 1 */
    g.down = 0;
    see(&g);
    reconcile_plan(&g.in, &s);
    ck_assert_int_eq(s.kind, RECONCILE_PREFER);
    ck_assert_int_eq(s.to.node, 1);
}
END_TEST

START_TEST(learners_are_as_many_as_there_is_room_for) {
    struct group g = group_of(NODES(1, 2, 3));
    want(&g, NODES(1, 2, 3));
    for (int32_t i = 0; i < 20; i++) g.in.learner[g.in.learners++] = member(10 + i, 1);
    ck_assert_int_eq(run(&g), RECONCILE_DONE);
    ck_assert_uint_eq(g.config.voters, 3);
    ck_assert_uint_eq(g.config.count, REPLICA_MEMBERS_MAX);
    g.in.learners = 0;
    ck_assert_int_eq(run(&g), RECONCILE_DONE);
    ck_assert_uint_eq(g.config.count, 3);
}
END_TEST

START_TEST(nine_replicas_move_although_there_is_no_room_to_learn_first) {
    struct group g = group_of(NODES(1, 2, 3, 4, 5, 6, 7, 8, 9));
    want(&g, NODES(11, 12, 13, 14, 15, 16, 17, 18, 19));
    ck_assert_int_eq(run(&g), RECONCILE_DONE);
    check_voters(&g, NODES(11, 12, 13, 14, 15, 16, 17, 18, 19));
}
END_TEST

static uint32_t pick(int32_t *out, uint32_t n, uint32_t of) {
    bool taken[32] = {0};
    for (uint32_t i = 0; i < n;) {
        uint32_t node = 1 + below(of);
        if (taken[node]) continue;
        taken[node] = true;
        out[i++] = (int32_t)node;
    }
    return n;
}

START_TEST(any_group_gets_to_any_other) {
    for (int i = 0; i < 20000; i++) {
        int32_t from[9], to[9];
        uint32_t n = pick(from, 1 + below(5), 9), m = pick(to, 1 + below(5), 9);
        struct group g = group_of(from, (int)n);
        want(&g, to, m);
        if (n >= 3 && below(3) == 0) { /* one that stays or goes lost its disk */
            uint32_t k = 1 + below(n - 1);
            for (uint32_t j = 0; j < m; j++)
                if (g.in.voter[j].node == from[k]) g.in.voter[j] = member(from[k], 2);
        }
        if (below(2) == 0) {
            /* The target changes on the way; lost ones stay lost. */
            enum reconcile_kind last;
            for (uint32_t k = below(8); k > 0 && step(&g, &last); k--) {}
            struct reconcile_input before = g.in;
            m = pick(to, 1 + below(5), 9);
            want(&g, to, m);
            for (uint32_t j = 0; j < m; j++)
                for (uint32_t k = 0; k < before.voters; k++)
                    if (before.voter[k].node == g.in.voter[j].node) g.in.voter[j] = before.voter[k];
            bool self_lost = false; /* whoever leads has its disk */
            for (uint32_t j = 0; j < m; j++) {
                self_lost = self_lost || (g.in.voter[j].node == g.self.node && !replica_member_eq(&g.in.voter[j], &g.self));
                for (int k = 0; k < g.config.voters; k++) /* and a member that came anew stays what it is */
                    if (g.config.members[k].node == g.in.voter[j].node && g.config.members[k].incarnation.b[0] == 2) g.in.voter[j] = g.config.members[k];
            }
            if (self_lost) continue;
        }
        ck_assert_int_eq(run(&g), RECONCILE_DONE);
        ck_assert(reconcile_voters_are_wanted(&g.in));
        ck_assert_int_eq(g.self.node, to[0]);
        ck_assert_uint_eq(g.config.count, m);
    }
}
END_TEST

int main(void) {
    Suite *s = suite_create("reconcile_plan");
    TCase *c = tcase_create("reconcile_plan");
    tcase_add_test(c, a_group_of_one_grows_to_three);
    tcase_add_test(c, all_replicas_move_and_leadership_with_them);
    tcase_add_test(c, nobody_leaves_before_all_who_come_vote);
    tcase_add_test(c, a_lost_disk_is_replaced_by_its_next_incarnation);
    tcase_add_test(c, leadership_goes_to_the_preferred_unless_it_drains);
    tcase_add_test(c, who_has_just_come_back_leads_last);
    tcase_add_test(c, learners_are_as_many_as_there_is_room_for);
    tcase_add_test(c, nine_replicas_move_although_there_is_no_room_to_learn_first);
    tcase_add_test(c, any_group_gets_to_any_other);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
