/* Brokers that were replaced and do not know it yet, and those that take over: coordinators that slept, reassignments that are given up.
 * Whole brokers in the simulated world. */
#include "base/trace.h"
#include "tests/unit/cluster_calls.h"

static void set_up(void) {
    trace_set_level(getenv("VARVE_TEST_TRACE") ? TRACE_INFO : TRACE_ERROR);
    world_begin("");
}

/* From all other brokers; the client reaches it. */
static void cut_off(int32_t id, bool is) {
    for (int32_t k = 1; k <= BROKERS; k++) {
        if (k == id) continue;
        sim_link_cut(world, (unsigned)id, (unsigned)k, is);
        sim_link_cut(world, (unsigned)k, (unsigned)id, is);
    }
}

/* ---- coordinators that slept --------------------------------------------------------------------------------------- */

/* Asks for a committed offset; the answer is fetched by asked_offset(). */
static void ask_offset(int32_t id, const char *group) {
    struct k_offset_fetch_request q;
    int32_t partition = 0;
    struct k_offset_fetch_request_groups g;
    struct k_offset_fetch_request_groups_topics t = {.name = STR_LIT("t"), .partition_indexes = &partition, .partition_indexes_n = 1};
    k_offset_fetch_request_init(&q);
    k_offset_fetch_request_groups_init(&g);
    g.group_id = str_from(group);
    g.topics = &t;
    q.groups = &g;
    g.topics_n = q.groups_n = 1;
    k_offset_fetch_request_encode(&q, call_begin(API_OFFSET_FETCH, 8), 8);
    ck_assert(call_send(id));
}
/* -1000 - error. */
static int64_t asked_offset(int32_t id) {
    struct k_offset_fetch_response a;
    struct wire_reader r;
    ck_assert(call_receive(id, &r, 10 * SECOND));
    ck_assert_int_eq(k_offset_fetch_response_decode(&a, &r, 8), OK);
    return a.groups[0].error_code ? -1000 - a.groups[0].error_code : a.groups[0].topics[0].partitions[0].committed_offset;
}

/* A coordinator that has committed offset 1, and nothing has happened for so long that heartbeats pause. */
static int32_t quiet_coordinator(void) {
    ck_assert_int_eq(create_at(1, "t", 1, 3), 0);
    int32_t id = await_coordinator(1, "g");
    for (int i = 0; i < 40 && commit_at(id, "g", 1); i++) world_run(50 * MS);
    world_run(5 * SECOND);
    ck_assert_int_eq(committed_at(id, "g"), 1);
    return id;
}
static void commit_elsewhere(int32_t sleeper) {
    int32_t next = await_coordinator(other_than(sleeper), "g");
    ck_assert_int_ne(next, sleeper);
    for (int i = 0; i < 40 && commit_at(next, "g", 2); i++) world_run(50 * MS);
    ck_assert_int_eq(committed_at(next, "g"), 2);
}

/* It wakes up with the question in its socket. */
static void wakes_with_a_question(int32_t sleeper) {
    ask_offset(sleeper, "g");
    world_run(100 * MS);
    places[sleeper].paused = false;
    int64_t told = asked_offset(sleeper);
    ck_assert_msg(told == 2 || told == -1000 - KERR_NOT_COORDINATOR, "it says %lld", (long long)told);
}

static void says_nothing_more(int32_t sleeper) {
    for (int64_t until = sim_now_ns(world) + 2 * SECOND; sim_now_ns(world) < until; world_run(20 * MS)) {
        ask_offset(sleeper, "g");
        ck_assert_int_eq(asked_offset(sleeper), -1000 - KERR_NOT_COORDINATOR);
    }
}

START_TEST(a_coordinator_that_slept_tells_nothing_old) {
    int32_t sleeper = quiet_coordinator();
    places[sleeper].paused = true;
    world_run(4 * SECOND);
    commit_elsewhere(sleeper);
    wakes_with_a_question(sleeper);
}
END_TEST

/* Nor does one that then hears of nobody what has happened. */
START_TEST(a_coordinator_that_slept_and_is_cut_off_tells_nothing_old) {
    int32_t sleeper = quiet_coordinator();
    cut_off(sleeper, true);
    places[sleeper].paused = true;
    world_run(4 * SECOND);
    commit_elsewhere(sleeper);
    wakes_with_a_question(sleeper);
    says_nothing_more(sleeper);
}
END_TEST

/* What the others said while they still followed lies in its sockets, and nothing of what came after. */
START_TEST(what_was_heard_before_a_sleep_is_no_answer_after_it) {
    int32_t sleeper = quiet_coordinator();
    places[sleeper].paused = true;
    world_run(300 * MS);
    cut_off(sleeper, true);
    world_run(3700 * MS);
    commit_elsewhere(sleeper);
    wakes_with_a_question(sleeper);
    says_nothing_more(sleeper);
}
END_TEST

int main(void) {
    Suite *s = suite_create("takeover");
    TCase *t = tcase_create("coordinators");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, set_up, world_end);
    tcase_add_test(t, a_coordinator_that_slept_tells_nothing_old);
    tcase_add_test(t, a_coordinator_that_slept_and_is_cut_off_tells_nothing_old);
    tcase_add_test(t, what_was_heard_before_a_sleep_is_no_answer_after_it);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
