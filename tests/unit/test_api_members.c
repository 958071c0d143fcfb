/* Members of the classic protocol on a whole broker with two reactors: joining, generations, silence, restarts, a full disk. */
#include "tests/unit/group_fixture.h"

START_TEST(every_version_of_a_members_life) {
    ck_assert_int_eq(find_coordinator(4, "g"), 0);
    char group[16];
    for (int16_t v = 0; v <= 9; v++) {
        int16_t sync_v = v < 5 ? v : 5, beat_v = v < 4 ? v : 4, leave_v = v < 5 ? v : 5, commit_v = v < 2 ? 2 : v;
        snprintf(group, sizeof group, "life-%d", v);
        struct member m = join_alone(&c, v, group);
        ck_assert(m.leads);
        ck_assert_int_eq(m.generation, 1);
        ck_assert_int_eq(strncmp(m.id, "test-", 5), 0); /* the client's name */
        ck_assert_int_eq(strlen(m.id), 41);
        ck_assert_int_eq(commit_as(commit_v, group, (struct committer){1, m.id, NULL}, "t", 0, 1, NULL), KERR_REBALANCE_IN_PROGRESS);
        sync_send(&c, sync_v, group, &m, NULL, &m, 1);
        assigned_own_id(&c, sync_v, &m);
        ck_assert_int_eq(heartbeat(beat_v, group, &m, NULL), 0);
        ck_assert_int_eq(commit_as(commit_v, group, (struct committer){1, m.id, NULL}, "t", 0, 77, NULL), 0);
        struct member other = m, later = m;
        strcpy(other.id, "nobody");
        later.generation = 2;
        ck_assert_int_eq(heartbeat(beat_v, group, &other, NULL), KERR_UNKNOWN_MEMBER_ID);
        ck_assert_int_eq(heartbeat(beat_v, group, &later, NULL), KERR_ILLEGAL_GENERATION);
        ck_assert_int_eq(heartbeat(beat_v, "unknown", &m, NULL), KERR_UNKNOWN_MEMBER_ID);
        ck_assert_int_eq(heartbeat(beat_v, "", &m, NULL), KERR_INVALID_GROUP_ID);
        ck_assert_int_eq(commit_as(commit_v, group, (struct committer){2, m.id, NULL}, "t", 0, 1, NULL), KERR_ILLEGAL_GENERATION);
        ck_assert_int_eq(commit_as(commit_v, group, (struct committer){1, "nobody", NULL}, "t", 0, 1, NULL), KERR_UNKNOWN_MEMBER_ID);
        ck_assert_int_eq(commit(commit_v, group, "t", 0, 1), KERR_UNKNOWN_MEMBER_ID);
        ck_assert_int_eq(leave(leave_v, group, "nobody", NULL), KERR_UNKNOWN_MEMBER_ID);
        ck_assert_int_eq(leave(leave_v, group, m.id, NULL), 0);
        ck_assert_int_eq(leave(leave_v, group, m.id, NULL), KERR_UNKNOWN_MEMBER_ID);
        ck_assert_int_eq(heartbeat(beat_v, group, &m, NULL), KERR_UNKNOWN_MEMBER_ID);
        ck_assert_int_eq(committed(8, group, "t", 0).offset, 77);
        ck_assert_int_eq(commit(commit_v, group, "t", 0, 78), 0); /* it is empty now */
    }
}
END_TEST

START_TEST(two_members_meet_in_a_generation) {
    struct client d;
    client_open(&d, &f);
    ck_assert_int_eq(find_coordinator(4, "g"), 0);
    struct member a = join_alone(&c, 9, "g");
    sync_send(&c, 5, "g", &a, NULL, &a, 1);
    assigned_own_id(&c, 5, &a);
    /* The second waits for the first, who hears of it with its heartbeat. */
    join_send(&d, 3, "g", range);
    ck_assert(client_waits(&d));
    ck_assert_int_eq(heartbeat(4, "g", &a, NULL), KERR_REBALANCE_IN_PROGRESS);
    sync_send(&c, 5, "g", &a, NULL, NULL, 0);
    ck_assert_int_eq(sync_receive(&c, 5).error_code, KERR_REBALANCE_IN_PROGRESS);
    struct k_join_group_response again = join(&c, 9, "g", (struct joiner){.member = a.id, .protocols = {"range"}});
    struct member two[2] = {member_of(&again)};
    ck_assert(two[0].leads);
    ck_assert_int_eq(two[0].generation, 2);
    ck_assert_int_eq(again.members_n, 2);
    ck_assert_int_eq(again.members[0].metadata.len, 5);
    struct k_join_group_response second = join_receive(&d, 3);
    two[1] = member_of(&second);
    ck_assert(!two[1].leads);
    ck_assert_int_eq(second.members_n, 0);
    ck_assert_int_eq(two[1].generation, 2);
    /* The follower waits for the leader's assignments. */
    sync_send(&d, 2, "g", &two[1], NULL, NULL, 0);
    ck_assert(client_waits(&d));
    ck_assert_int_eq(heartbeat(4, "g", &two[0], NULL), 0);
    sync_send(&c, 5, "g", &two[0], NULL, two, 2);
    assigned_own_id(&c, 5, &two[0]);
    assigned_own_id(&d, 2, &two[1]);
    /* Again with the same metadata: no rebalance for the follower, one for the leader. */
    struct k_join_group_response same = join(&d, 3, "g", (struct joiner){.member = two[1].id, .protocols = {"range"}});
    ck_assert_int_eq(same.generation_id, 2);
    ck_assert_int_eq(same.members_n, 0);
    join_send(&d, 3, "g", (struct joiner){.member = two[1].id, .protocols = {"range"}, .metadata = "changed"});
    ck_assert(client_waits(&d));
    ck_assert_int_eq(leave(4, "g", two[0].id, NULL), 0); /* the last that was waited for */
    struct k_join_group_response alone = join_receive(&d, 3);
    ck_assert_int_eq(alone.generation_id, 3);
    ck_assert_int_eq(alone.members_n, 1);
    ck_assert_int_eq(alone.members[0].metadata.len, 7);
    client_close(&d);
}
END_TEST

START_TEST(what_a_join_may_not) {
    ck_assert_int_eq(find_coordinator(4, "g"), 0);
    struct joiner j = range;
    for (int16_t v = 0; v <= 9; v++) {
        ck_assert_int_eq(join(&c, v, "", range).error_code, KERR_INVALID_GROUP_ID);
        j = range, j.session_ms = 99;
        ck_assert_int_eq(join(&c, v, "g", j).error_code, KERR_INVALID_SESSION_TIMEOUT);
        j.session_ms = 1800001;
        ck_assert_int_eq(join(&c, v, "g", j).error_code, KERR_INVALID_SESSION_TIMEOUT);
        j = range, j.member = "nobody";
        struct k_join_group_response a = join(&c, v, "g", j);
        ck_assert_int_eq(a.error_code, KERR_UNKNOWN_MEMBER_ID);
        ck_assert(str_is(a.member_id, "nobody"));
        ck_assert_int_eq(join(&c, v, "g", (struct joiner){.protocols = {NULL}}).error_code, KERR_INCONSISTENT_GROUP_PROTOCOL);
        j = range, j.type = "";
        ck_assert_int_eq(join(&c, v, "g", j).error_code, KERR_INCONSISTENT_GROUP_PROTOCOL);
    }
    struct member m = join_alone(&c, 9, "g");
    j = range, j.type = "connect";
    ck_assert_int_eq(join(&c, 3, "g", j).error_code, KERR_INCONSISTENT_GROUP_PROTOCOL);
    ck_assert_int_eq(join(&c, 3, "g", (struct joiner){.protocols = {"other"}}).error_code, KERR_INCONSISTENT_GROUP_PROTOCOL);
    sync_send(&c, 5, "g", &m, NULL, &m, 1);
    assigned_own_id(&c, 5, &m);
    m.generation++;
    sync_send(&c, 5, "g", &m, NULL, &m, 1);
    ck_assert_int_eq(sync_receive(&c, 5).error_code, KERR_ILLEGAL_GENERATION);
    sync_send(&c, 5, "unknown", &m, NULL, &m, 1);
    ck_assert_int_eq(sync_receive(&c, 5).error_code, KERR_UNKNOWN_MEMBER_ID);
}
END_TEST

/* What all members have in common is looked for among all with all: an answer in the time of this test says that nobody does that with a
 * hundred thousand. */
START_TEST(a_join_with_too_many_protocols) {
    enum { PROTOCOLS = 100000 };
    ck_assert_int_eq(find_coordinator(4, "g"), 0);
    struct k_join_group_request q;
    struct k_join_group_response a;
    k_join_group_request_init(&q);
    struct k_join_group_request_protocols *p = calloc(PROTOCOLS, sizeof *p);
    char (*names)[8] = calloc(PROTOCOLS, sizeof *names);
    for (int i = 0; i < PROTOCOLS; i++) {
        k_join_group_request_protocols_init(&p[i]);
        snprintf(names[i], sizeof names[i], "%06d", i);
        p[i].name = str_from(names[i]);
        p[i].metadata = (struct bytes){(const uint8_t *)"", 0};
    }
    q.group_id = STR_LIT("g");
    q.member_id = STR_LIT("");
    q.protocol_type = STR_LIT("consumer");
    q.session_timeout_ms = q.rebalance_timeout_ms = 30000;
    q.protocols = p;
    q.protocols_n = PROTOCOLS;
    CALL(&c, KEY_JOIN, 3, join_group, q, a);
    ck_assert_int_eq(a.error_code, KERR_INCONSISTENT_GROUP_PROTOCOL);
    q.protocols_n = CLASSIC_PROTOCOLS_MAX;
    CALL(&c, KEY_JOIN, 3, join_group, q, a);
    ck_assert_int_eq(a.error_code, 0);
    ck_assert(str_is(a.protocol_name, "000000"));
    free(p);
    free(names);
}
END_TEST

/* Who was given an id is a dynamic member: under it nobody takes the instance id of another. */
START_TEST(a_given_id_is_no_static_members) {
    ck_assert_int_eq(find_coordinator(4, "g"), 0);
    struct joiner fixed = {.protocols = {"range"}, .instance = "i"};
    struct k_join_group_response a = join(&c, 9, "g", fixed);
    struct member m = member_of(&a);
    sync_send(&c, 5, "g", &m, "i", &m, 1);
    assigned_own_id(&c, 5, &m);
    a = join(&c, 9, "g", range);
    ck_assert_int_eq(a.error_code, KERR_MEMBER_ID_REQUIRED);
    char id[128];
    snprintf(id, sizeof id, "%.*s", a.member_id.len, a.member_id.p);
    fixed.member = id;
    ck_assert_int_eq(join(&c, 9, "g", fixed).error_code, KERR_FENCED_INSTANCE_ID);
    fixed.instance = "j";
    ck_assert_int_eq(join(&c, 9, "g", fixed).error_code, KERR_UNKNOWN_MEMBER_ID);
    ck_assert_int_eq(heartbeat(4, "g", &m, "i"), 0);
}
END_TEST

START_TEST(a_static_member_comes_back) {
    ck_assert_int_eq(find_coordinator(4, "g"), 0);
    struct joiner j = {.instance = "i1", .protocols = {"range"}};
    struct k_join_group_response a = join(&c, 9, "g", j);
    struct member first = member_of(&a);
    ck_assert_int_eq(strncmp(first.id, "i1-", 3), 0);
    sync_send(&c, 5, "g", &first, "i1", &first, 1);
    assigned_own_id(&c, 5, &first);
    a = join(&c, 9, "g", j);
    struct member second = member_of(&a);
    ck_assert_int_eq(second.generation, 1); /* no rebalance */
    ck_assert(second.leads && a.skip_assignment);
    ck_assert_int_eq(a.members_n, 1);
    ck_assert_str_ne(first.id, second.id);
    sync_send(&c, 5, "g", &second, "i1", NULL, 0);
    struct k_sync_group_response s = sync_receive(&c, 5);
    ck_assert_int_eq(s.error_code, 0);
    ck_assert_int_eq(s.assignment.len, (int32_t)strlen(first.id)); /* it has what the first had */
    ck_assert_int_eq(heartbeat(4, "g", &first, "i1"), KERR_FENCED_INSTANCE_ID);
    ck_assert_int_eq(heartbeat(4, "g", &first, "i2"), KERR_UNKNOWN_MEMBER_ID);
    ck_assert_int_eq(heartbeat(4, "g", &second, "i1"), 0);
    ck_assert_int_eq(commit_as(9, "g", (struct committer){1, first.id, "i1"}, "t", 0, 1, NULL), KERR_FENCED_INSTANCE_ID);
    sync_send(&c, 5, "g", &first, "i1", NULL, 0);
    ck_assert_int_eq(sync_receive(&c, 5).error_code, KERR_FENCED_INSTANCE_ID);
    j.member = first.id;
    ck_assert_int_eq(join(&c, 9, "g", j).error_code, KERR_FENCED_INSTANCE_ID);
    j.member = NULL;
    a = join(&c, 7, "g", j); /* an older client must not think that it leads */
    struct member third = member_of(&a);
    ck_assert(!third.leads);
    ck_assert_int_eq(a.members_n, 0);
    j.metadata = "changed"; /* same protocol: still no rebalance, and what is recorded is new */
    a = join(&c, 9, "g", j);
    ck_assert_int_eq(a.generation_id, 1);
    ck_assert_int_eq(a.members[0].metadata.len, 7);
    ck_assert_int_eq(leave(4, "g", "", "i2"), KERR_UNKNOWN_MEMBER_ID);
    ck_assert_int_eq(leave(4, "g", "", "i1"), 0); /* an administrator may, without the id */
}
END_TEST

/* Turns until a heartbeat says something else than `error`. */
static int16_t heartbeat_changes(const char *group, const struct member *m, int16_t error) {
    int16_t now;
    do now = heartbeat(4, group, m, NULL);
    while (now == error);
    return now;
}

START_TEST(a_silent_member_is_put_out) {
    struct client d;
    client_open(&d, &f);
    ck_assert_int_eq(find_coordinator(4, "g"), 0);
    struct joiner j = range;
    j.session_ms = 150;
    struct k_join_group_response a = join(&d, 3, "g", j);
    struct member silent = member_of(&a);
    client_close(&d); /* its connection's end alone changes nothing */
    ck_assert_int_eq(heartbeat(4, "g", &silent, NULL), 0);
    join_send(&c, 3, "g", range);
    a = join_receive(&c, 3); /* when the other one's time is up */
    ck_assert_int_eq(a.error_code, 0);
    ck_assert_int_eq(a.generation_id, 2);
    ck_assert_int_eq(a.members_n, 1);
    struct member m = member_of(&a);
    ck_assert_int_eq(heartbeat(4, "g", &silent, NULL), KERR_UNKNOWN_MEMBER_ID);
    ck_assert_int_eq(leave(4, "g", m.id, NULL), 0);
    /* Who does not ask for its assignment is out after the rebalance timeout. */
    j.session_ms = 30000, j.rebalance_ms = 150;
    a = join(&c, 3, "g", j);
    m = member_of(&a);
    ck_assert_int_eq(heartbeat_changes("g", &m, 0), KERR_UNKNOWN_MEMBER_ID);
}
END_TEST

START_TEST(members_survive_a_restart) {
    ck_assert_int_eq(find_coordinator(4, "g"), 0);
    struct member stable = join_alone(&c, 9, "stable"), completing = join_alone(&c, 9, "completing");
    sync_send(&c, 5, "stable", &stable, NULL, &stable, 1);
    assigned_own_id(&c, 5, &stable);
    client_close(&c);
    fixture_restart(&f);
    client_open(&c, &f);
    ck_assert_int_eq(heartbeat_changes("stable", &stable, KERR_COORDINATOR_LOAD_IN_PROGRESS), 0);
    ck_assert_int_eq(heartbeat_changes("completing", &completing, KERR_COORDINATOR_LOAD_IN_PROGRESS), 0);
    sync_send(&c, 5, "stable", &stable, NULL, NULL, 0);
    assigned_own_id(&c, 5, &stable);
    sync_send(&c, 5, "completing", &completing, NULL, &completing, 1); /* it goes on where it was */
    assigned_own_id(&c, 5, &completing);
    struct k_join_group_response a = join(&c, 9, "stable", (struct joiner){.member = stable.id, .protocols = {"range"}});
    ck_assert_int_eq(a.generation_id, 2);
}
END_TEST

START_TEST(a_stop_sends_those_who_wait_away) {
    ck_assert_int_eq(find_coordinator(4, "g"), 0);
    struct client d;
    client_open(&d, &f);
    struct member m = join_alone(&c, 9, "g");
    (void)m;
    join_send(&d, 3, "g", range);
    ck_assert(client_waits(&d));
    int64_t begin_ms = now_ms();
    client_close(&c);
    client_close(&d); /* the request outlives its connection */
    fixture_restart(&f);
    ck_assert_int_lt(now_ms() - begin_ms, 60000); /* not for the rebalance timeout */
    client_open(&c, &f);
}
END_TEST

/* ---- when nothing can be written ------------------------------------------------------------------------------------ */

START_TEST(a_full_disk_changes_nothing) {
    ck_assert_int_eq(find_coordinator(4, "g"), 0);
    ck_assert_int_eq(commit(9, "g", "t", 0, 5), 0);
    struct member m = join_alone(&c, 9, "stable");
    sync_send(&c, 5, "stable", &m, NULL, &m, 1);
    assigned_own_id(&c, 5, &m);
    ck_assert_int_eq(commit_as(9, "stable", (struct committer){1, m.id, NULL}, "t", 0, 6, NULL), 0);
    client_close(&c);
    const char *settings = f.settings;
    f.settings = "disk.reserve.bytes=4611686018427387904\noffsets.topic.num.partitions=4\ngroup.initial.rebalance.delay.ms=0\n";
    fixture_restart(&f);
    client_open(&c, &f);
    ck_assert_int_eq(heartbeat_changes("stable", &m, KERR_COORDINATOR_LOAD_IN_PROGRESS), 0);
    int16_t error;
    do error = commit(9, "g", "t", 0, 7);
    while (error == KERR_COORDINATOR_LOAD_IN_PROGRESS);
    ck_assert_int_eq(error, KERR_COORDINATOR_NOT_AVAILABLE);
    ck_assert_int_eq(commit_as(9, "stable", (struct committer){1, m.id, NULL}, "t", 0, 8, NULL), KERR_COORDINATOR_NOT_AVAILABLE);
    ck_assert_int_eq(committed(9, "g", "t", 0).offset, 5);
    ck_assert_int_eq(committed(9, "stable", "t", 0).offset, 6);
    ck_assert_int_eq(delete_group(2, "g"), KERR_COORDINATOR_NOT_AVAILABLE);
    ck_assert_int_eq(delete_offset("g", "t", 0), KERR_COORDINATOR_NOT_AVAILABLE);
    ck_assert_int_eq(beat("new", "b", 0, 0, 0).error, KERR_COORDINATOR_NOT_AVAILABLE);
    ck_assert_int_eq(group_describe(1, "new").error_code, KERR_GROUP_ID_NOT_FOUND);
    ck_assert_int_eq(beat("stable", "b", 0, 0, 0).error, KERR_GROUP_ID_NOT_FOUND); /* its metadata is no subscription */
    ck_assert_int_eq(heartbeat(4, "stable", &m, NULL), 0);
    /* A rebalance gets to the generation that cannot be recorded, again and again; the old one is over. */
    struct k_join_group_response a = join(&c, 9, "stable", (struct joiner){.member = m.id, .protocols = {"range"}});
    ck_assert_int_eq(a.error_code, KERR_COORDINATOR_NOT_AVAILABLE);
    ck_assert_int_eq(heartbeat(4, "stable", &m, NULL), KERR_REBALANCE_IN_PROGRESS);
    client_close(&c);
    f.settings = settings;
    fixture_restart(&f);
    client_open(&c, &f);
    ck_assert_int_eq(heartbeat_changes("stable", &m, KERR_COORDINATOR_LOAD_IN_PROGRESS), 0); /* as it was recorded */
    a = join(&c, 9, "stable", (struct joiner){.member = m.id, .protocols = {"range"}});
    ck_assert_int_eq(a.generation_id, 2);
    ck_assert_int_eq(commit(9, "g", "t", 0, 9), 0);
}
END_TEST

/* ---- many ----------------------------------------------------------------------------------------------------------- */

enum { MANY = 300 };

/* They come within the first delay, or its extensions; the leader's answer names them all. */
START_TEST(many_members_meet) {
    tear_down();
    set_up_with("offsets.topic.num.partitions=4\ngroup.initial.rebalance.delay.ms=300\n");
    ck_assert_int_eq(find_coordinator(4, "g"), 0);
    static struct client many[MANY];
    static char ids[MANY][64];
    struct joiner j = range;
    j.session_ms = j.rebalance_ms = 120000;
    for (int i = 0; i < MANY; i++) { /* first the ids, then all in one rebalance */
        client_open(&many[i], &f);
        struct k_join_group_response a = join(&many[i], 9, "g", j);
        ck_assert_int_eq(a.error_code, KERR_MEMBER_ID_REQUIRED);
        snprintf(ids[i], sizeof ids[i], "%.*s", a.member_id.len, a.member_id.p);
    }
    int64_t generation = 0;
    int listed = 0;
    for (int i = 0; i < MANY; i++) {
        j.member = ids[i];
        join_send(&many[i], 9, "g", j);
    }
    for (int i = 0; i < MANY; i++) {
        struct k_join_group_response a = join_receive(&many[i], 9);
        ck_assert_int_eq(a.error_code, 0);
        if (generation == 0) generation = a.generation_id;
        ck_assert_int_eq(a.generation_id, generation);
        listed += a.members_n;
    }
    ck_assert_int_eq(listed, MANY);
    ck_assert_int_eq(describe(6, "g").members_n, MANY);
    for (int i = 0; i < MANY; i++) client_close(&many[i]);
}
END_TEST

/* ---- the coordinator goes -------------------------------------------------------------------------------------------- */

/* A deadline comes while a record is on its way, then the coordinator's partition is deleted: who waits in the group is told
 * so, once. */
START_TEST(a_deadline_of_a_coordinator_that_is_gone) {
    struct client d;
    client_open(&d, &f);
    ck_assert_int_eq(find_coordinator(4, "g"), 0);
    struct joiner j = {.protocols = {"range"}, .rebalance_ms = 200};
    struct k_join_group_response a = join(&c, 3, "g", j);
    struct member one = member_of(&a);
    join_send(&d, 3, "g", j);
    ck_assert(client_waits(&d));
    j.member = one.id;
    a = join(&c, 3, "g", j);
    ck_assert_int_eq(a.error_code, 0);
    a = join_receive(&d, 3);
    struct member two = member_of(&a);
    sync_send(&d, 2, "g", &two, NULL, NULL, 0); /* waits for the leader, who does not come */
    ck_assert(client_waits(&d));
    /* As group_append() has it while the log is busy. */
    struct group *g = group_of("g");
    struct coordinator *k = g->coordinator;
    g->exclusive = true;
    g->pins++;
    k->jobs++;
    while (!g->tick_due || group_reactor(g)->now_ns / 1000000 < g->classic->sync_deadline_ms) fixture_turn(&f);
    delete_topic("__consumer_offsets");
    ck_assert_int_eq(sync_receive(&d, 2).error_code, KERR_NOT_COORDINATOR);
    ck_assert_int_eq(k->state, COORDINATOR_GONE);
    g->exclusive = false;
    g->pins--;
    group_settle(g);
    ck_assert_int_eq(g->classic->state, CLASSIC_COMPLETING); /* nobody was answered again */
    k->jobs--;
    coordinator_free_if_gone(k);
    ck_assert_int_eq(find_coordinator(4, "g"), 0); /* another one */
    ck_assert_int_eq(commit(9, "g", "t", 0, 1), 0);
    client_close(&d);
}
END_TEST

int main(void) {
    Suite *s = suite_create("api_members");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, every_version_of_a_members_life);
    tcase_add_test(t, two_members_meet_in_a_generation);
    tcase_add_test(t, what_a_join_may_not);
    tcase_add_test(t, a_join_with_too_many_protocols);
    tcase_add_test(t, a_given_id_is_no_static_members);
    tcase_add_test(t, a_static_member_comes_back);
    tcase_add_test(t, a_silent_member_is_put_out);
    tcase_add_test(t, members_survive_a_restart);
    tcase_add_test(t, a_stop_sends_those_who_wait_away);
    tcase_add_test(t, a_deadline_of_a_coordinator_that_is_gone);
    tcase_add_test(t, a_full_disk_changes_nothing);
    tcase_add_test(t, many_members_meet);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
