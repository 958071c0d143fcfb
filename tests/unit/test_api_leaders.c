/* Who leads: the table of one reactor; and coordinators that come and go with the leadership of their partition. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include "proto/kafka_errors.h"
#include "server/group_coordinator_impl.h"
#include "server/image.h"
#include "server/leaders.h"
#include "server/partition_impl.h"
#include "server/reactor.h"
#include "tests/unit/broker_fixture.h"

enum { KEY_OFFSET_COMMIT = 8, KEY_OFFSET_FETCH = 9, KEY_JOIN = 11, KEY_HEARTBEAT = 12, KEY_SYNC = 14 };

static struct fixture f;
static struct client c;

static void set_up(void) {
    fixture_start(&f, "offsets.topic.num.partitions=4\ngroup.initial.rebalance.delay.ms=0\ngroup.min.session.timeout.ms=100\n");
    client_open(&c, &f);
    ck_assert_int_eq(create_topic(&c, "t", 4), 0);
}
static void tear_down(void) {
    client_close(&c);
    fixture_stop(&f);
}

/* ---- the table ------------------------------------------------------------------------------------------ */

static struct { int count; uint64_t group; struct leader_info info; } sent;
static void record(struct reactor *r, uint64_t group, const struct leader_info *info) {
    (void)r;
    sent.count++;
    sent.group = group;
    sent.info = *info;
}

static struct leader_info led_by(int32_t node, int32_t epoch) {
    return (struct leader_info){.epoch = epoch, .leader = node, .established = true, .voters = 3, .count = 3, .in_sync = 7,
                                .members = {FIXTURE_ID, 8, 9}};
}
static struct leader_info heard(int32_t node, int32_t epoch, uint64_t version) {
    struct leader_info i = led_by(node, epoch);
    i.version = version;
    return i;
}
static int32_t leader_of(uint64_t group) {
    const struct leader_info *i = leaders_get(&f.b.reactors[0], group);
    return i ? i->leader : -2;
}

START_TEST(the_newest_report_stands) {
    struct reactor *r = &f.b.reactors[0];
    ck_assert_ptr_null(leaders_get(r, 900));
    struct leader_info i = heard(8, 3, 10);
    leaders_learn(r, 900, &i);
    ck_assert_int_eq(leader_of(900), 8);
    ck_assert(leader_in_sync(leaders_get(r, 900), 9) && !leader_in_sync(leaders_get(r, 900), 1));
    i = heard(9, 2, 99); /* an older epoch, late */
    leaders_learn(r, 900, &i);
    i = heard(-1, 3, 9); /* an older version */
    leaders_learn(r, 900, &i);
    ck_assert_int_eq(leader_of(900), 8);
    i = heard(-1, 3, 11);
    leaders_learn(r, 900, &i);
    ck_assert_int_eq(leader_of(900), -1);
    i = heard(9, 4, 1);
    leaders_learn(r, 900, &i);
    ck_assert_int_eq(leader_of(900), 9);
    leaders_follow(r, 900, 4, 8); /* of an epoch that its leader has reported */
    ck_assert_int_eq(leader_of(900), 9);
    leaders_follow(r, 900, 5, 8);
    ck_assert_int_eq(leader_of(900), 8);
    ck_assert_uint_eq(leaders_get(r, 900)->count, 0);
    i = heard(8, 5, 1); /* the leader says more about the same epoch */
    leaders_learn(r, 900, &i);
    ck_assert_uint_eq(leaders_get(r, 900)->count, 3);
}
END_TEST

START_TEST(what_cannot_be_true_is_dropped) {
    struct reactor *r = &f.b.reactors[0];
    struct leader_info i = heard(FIXTURE_ID, 3, 1); /* nobody else knows that better */
    leaders_learn(r, 900, &i);
    i = heard(8, -1, 1);
    leaders_learn(r, 900, &i);
    i = heard(8, 3, 1);
    i.count = LEADER_MEMBERS_MAX + 1;
    leaders_learn(r, 900, &i);
    i = heard(8, 3, 1);
    i.voters = 4;
    leaders_learn(r, 900, &i);
    i = heard(8, 3, 1);
    i.in_sync = 8;
    leaders_learn(r, 900, &i);
    i = heard(-2, 3, 1);
    leaders_learn(r, 900, &i);
    ck_assert_ptr_null(leaders_get(r, 900));
}
END_TEST

START_TEST(own_reports_are_sent_when_they_say_something_new) {
    struct reactor *r = &f.b.reactors[0];
    memset(&sent, 0, sizeof sent);
    leaders_on_report(r->leaders, record);
    struct leader_info i = led_by(FIXTURE_ID, 3);
    leaders_report(r, 900, &i);
    ck_assert(sent.count == 1 && sent.group == 900 && sent.info.leader == FIXTURE_ID);
    uint64_t version = sent.info.version;
    leaders_report(r, 900, &i);
    ck_assert_int_eq(sent.count, 1);
    i.in_sync = 3;
    leaders_report(r, 900, &i);
    ck_assert(sent.count == 2 && sent.info.version > version);
    version = sent.info.version;
    i = led_by(-1, 3);
    leaders_report(r, 900, &i);
    ck_assert(sent.count == 3 && sent.info.version > version && leader_of(900) == -1);
    i = heard(9, 7, 1);
    leaders_learn(r, 900, &i);
    i = led_by(FIXTURE_ID, 6); /* it does not know yet that another one has been elected since */
    leaders_report(r, 900, &i);
    ck_assert(sent.count == 3 && leader_of(900) == 9);
}
END_TEST

static uint32_t walked(struct leaders_walk *w, uint32_t most) {
    uint32_t n = 0;
    uint64_t group;
    const struct leader_info *i;
    while (n < most && (i = leaders_walk_next(&f.b.reactors[0], w, &group))) {
        ck_assert_int_eq(i->leader, FIXTURE_ID);
        n += group >= 900; /* the others: what the broker itself has */
    }
    return n;
}

START_TEST(a_walk_meets_what_is_led_here) {
    struct reactor *r = &f.b.reactors[0];
    struct leaders_walk w;
    struct leader_info i = led_by(FIXTURE_ID, 3), other = heard(8, 3, 1);
    for (uint64_t g = 900; g < 910; g++) leaders_report(r, g, &i);
    leaders_learn(r, 950, &other);
    leaders_walk_begin(r, &w);
    ck_assert_uint_eq(walked(&w, 3), 3);
    leaders_forget(r, 903); /* the one that comes next */
    leaders_follow(r, 904, 5, 9);
    i.epoch = 4;
    leaders_report(r, 900, &i); /* again, at the end */
    ck_assert_uint_eq(walked(&w, 100), 6);
    leaders_walk_end(&w);
    ck_assert_int_eq(leader_of(903), -1);
    ck_assert_int_eq(leader_of(904), 9);
}
END_TEST

/* ---- coordinators ------------------------------------------------------------------------------------------ */

static const struct image_partition *partition_of(const char *group) {
    const struct image_topic *t = image_topic_by_name(reactor_image(&f.b.reactors[0]), STR_LIT(GROUP_TOPIC));
    return &t->partitions[group_partition_of(str_from(group), t->partition_count)];
}

/* The replica ceases to lead, or leads again, as if others had voted. */
static void lose(const char *group) {
    const struct image_partition *at = partition_of(group);
    struct reactor *r = &f.b.reactors[at->owner];
    struct partition *p = partition_find(r, at->plid);
    p->replica.role = REPLICA_FOLLOWER;
    p->replica.established = false;
    struct leader_info i = led_by(-1, p->replica.epoch);
    leaders_report(r, at->plid, &i);
}
static void win(const char *group) {
    const struct image_partition *at = partition_of(group);
    struct reactor *r = &f.b.reactors[at->owner];
    struct partition *p = partition_find(r, at->plid);
    p->replica.role = REPLICA_LEADER;
    p->replica.established = true;
    struct leader_info i = led_by(FIXTURE_ID, p->replica.epoch);
    leaders_report(r, at->plid, &i);
}

static int16_t commit(const char *group, int64_t offset) {
    struct k_offset_commit_request q;
    struct k_offset_commit_response a;
    struct k_offset_commit_request_topics t;
    struct k_offset_commit_request_topics_partitions p;
    k_offset_commit_request_init(&q);
    k_offset_commit_request_topics_init(&t);
    k_offset_commit_request_topics_partitions_init(&p);
    q.group_id = str_from(group);
    q.generation_id_or_member_epoch = -1;
    t.name = STR_LIT("t");
    p.committed_offset = offset;
    t.partitions = &p;
    q.topics = &t;
    t.partitions_n = q.topics_n = 1;
    CALL(&c, KEY_OFFSET_COMMIT, 8, offset_commit, q, a);
    return a.topics[0].partitions[0].error_code;
}

/* The offset, or an error as -1000 - code. */
static int64_t committed(const char *group) {
    struct k_offset_fetch_request q;
    struct k_offset_fetch_response a;
    int32_t partition = 0;
    struct k_offset_fetch_request_groups g;
    struct k_offset_fetch_request_groups_topics t = {.name = STR_LIT("t"), .partition_indexes = &partition, .partition_indexes_n = 1};
    k_offset_fetch_request_init(&q);
    k_offset_fetch_request_groups_init(&g);
    g.group_id = str_from(group);
    g.topics = &t;
    g.topics_n = 1;
    q.groups = &g;
    q.groups_n = 1;
    do CALL(&c, KEY_OFFSET_FETCH, 8, offset_fetch, q, a);
    while (a.groups[0].error_code == KERR_COORDINATOR_LOAD_IN_PROGRESS);
    return a.groups[0].error_code ? -1000 - a.groups[0].error_code : a.groups[0].topics[0].partitions[0].committed_offset;
}

static void make_group_topic(void) {
    struct k_find_coordinator_request q;
    struct k_find_coordinator_response a;
    struct str key = STR_LIT("g");
    k_find_coordinator_request_init(&q);
    q.coordinator_keys = &key;
    q.coordinator_keys_n = 1;
    CALL(&c, KEY_FIND_COORDINATOR, 4, find_coordinator, q, a);
    ck_assert_int_eq(a.coordinators[0].error_code, 0);
}

START_TEST(a_coordinator_moves_with_its_partition) {
    make_group_topic();
    ck_assert_int_eq(commit("g", 1), 0);
    for (int64_t i = 0; i < 3; i++) {
        lose("g");
        ck_assert_int_eq(commit("g", 100), KERR_NOT_COORDINATOR);
        ck_assert_int_eq(committed("g"), -1000 - KERR_NOT_COORDINATOR);
        win("g");
        ck_assert_int_eq(committed("g"), 1 + i);
        ck_assert_int_eq(commit("g", 2 + i), 0);
    }
}
END_TEST

START_TEST(a_leader_that_was_not_told_finds_out) {
    make_group_topic();
    ck_assert_int_eq(commit("g", 1), 0);
    const struct image_partition *at = partition_of("g");
    struct partition *p = partition_find(&f.b.reactors[at->owner], at->plid);
    p->replica.established = false; /* nobody has said anything yet */
    ck_assert_int_eq(committed("g"), -1000 - KERR_NOT_COORDINATOR);
    p->replica.established = true;
    win("g");
    ck_assert_int_eq(committed("g"), 1);
}
END_TEST

static void join_send(struct client *on, const char *group, const char *member, int32_t session_ms) {
    struct k_join_group_request q;
    struct k_join_group_request_protocols p;
    k_join_group_request_init(&q);
    k_join_group_request_protocols_init(&p);
    q.group_id = str_from(group);
    q.session_timeout_ms = session_ms;
    q.rebalance_timeout_ms = 60000;
    q.member_id = str_from(member);
    q.protocol_type = STR_LIT("consumer");
    p.name = STR_LIT("range");
    p.metadata = (struct bytes){(const uint8_t *)"m", 1};
    q.protocols = &p;
    q.protocols_n = 1;
    k_join_group_request_encode(&q, client_begin(on, KEY_JOIN, 3), 3);
    client_send(on);
}
static struct k_join_group_response join_receive(struct client *on) {
    struct k_join_group_response a;
    struct wire_reader r;
    ck_assert(client_receive(on, &r));
    ck_assert_int_eq(k_join_group_response_decode(&a, &r, 3), OK);
    return a;
}

static char member[128];
static int32_t generation;
static void join(const char *group, int32_t session_ms) {
    join_send(&c, group, "", session_ms);
    struct k_join_group_response a = join_receive(&c);
    ck_assert_int_eq(a.error_code, 0);
    snprintf(member, sizeof member, "%.*s", a.member_id.len, a.member_id.p);
    generation = a.generation_id;
    struct k_sync_group_request q;
    struct k_sync_group_response s;
    struct k_sync_group_request_assignments one;
    k_sync_group_request_init(&q);
    k_sync_group_request_assignments_init(&one);
    q.group_id = str_from(group);
    q.generation_id = generation;
    q.member_id = one.member_id = str_from(member);
    one.assignment = (struct bytes){(const uint8_t *)"a", 1};
    q.assignments = &one;
    q.assignments_n = 1;
    CALL(&c, KEY_SYNC, 2, sync_group, q, s);
    ck_assert_int_eq(s.error_code, 0);
}
static int16_t heartbeat(const char *group) {
    struct k_heartbeat_request q;
    struct k_heartbeat_response a;
    k_heartbeat_request_init(&q);
    q.group_id = str_from(group);
    q.member_id = str_from(member);
    q.generation_id = generation;
    do CALL(&c, KEY_HEARTBEAT, 2, heartbeat, q, a);
    while (a.error_code == KERR_COORDINATOR_LOAD_IN_PROGRESS);
    return a.error_code;
}
static void pass(int64_t ms) {
    int64_t until = now_ms() + ms;
    while (now_ms() < until) fixture_turn(&f);
}

START_TEST(sessions_begin_anew_at_the_next_coordinator) {
    make_group_topic();
    join("g", 400);
    lose("g");
    pass(600); /* nobody counts */
    ck_assert_int_eq(heartbeat("g"), KERR_NOT_COORDINATOR);
    win("g");
    pass(200);
    ck_assert_int_eq(heartbeat("g"), 0); /* the same generation, the same member */
    pass(600);
    ck_assert_int_eq(heartbeat("g"), KERR_UNKNOWN_MEMBER_ID); /* and now it is silent for too long */
}
END_TEST

START_TEST(who_waits_is_sent_away) {
    make_group_topic();
    join("g", 30000);
    struct client other;
    client_open(&other, &f);
    join_send(&other, "g", "", 30000); /* waits for the first one to join again */
    ck_assert(client_waits(&other));
    lose("g");
    ck_assert_int_eq(join_receive(&other).error_code, KERR_NOT_COORDINATOR);
    win("g");
    ck_assert_int_eq(heartbeat("g"), 0); /* the join that ended was never recorded */
    client_close(&other);
}
END_TEST

START_TEST(commits_under_way_when_leadership_ends) {
    make_group_topic();
    ck_assert_int_eq(commit("g", 1), 0);
    for (int i = 0; i < 50; i++) {
        struct k_offset_commit_request q;
        struct k_offset_commit_response a;
        struct k_offset_commit_request_topics t;
        struct k_offset_commit_request_topics_partitions p;
        struct wire_reader r;
        k_offset_commit_request_init(&q);
        k_offset_commit_request_topics_init(&t);
        k_offset_commit_request_topics_partitions_init(&p);
        q.group_id = STR_LIT("g");
        q.generation_id_or_member_epoch = -1;
        t.name = STR_LIT("t");
        p.committed_offset = 1000 + i;
        t.partitions = &p;
        q.topics = &t;
        t.partitions_n = q.topics_n = 1;
        k_offset_commit_request_encode(&q, client_begin(&c, KEY_OFFSET_COMMIT, 8), 8);
        client_send(&c);
        for (int k = 0; k < i % 10; k++) fixture_turn(&f);
        lose("g");
        win("g");
        ck_assert(client_receive(&c, &r));
        ck_assert_int_eq(k_offset_commit_response_decode(&a, &r, 8), OK);
        int16_t error = a.topics[0].partitions[0].error_code;
        ck_assert(error == 0 || error == KERR_NOT_COORDINATOR || error == KERR_COORDINATOR_LOAD_IN_PROGRESS);
        int64_t now = committed("g");
        if (!error) ck_assert_int_eq(now, 1000 + i);
        ck_assert(now >= 1 && now <= 1000 + i);
    }
}
END_TEST

START_TEST(many_groups_go_in_slices) {
    make_group_topic();
    char name[16];
    enum { GROUPS = 300 };
    for (int i = 0; i < GROUPS; i++) {
        snprintf(name, sizeof name, "g%d", i);
        ck_assert_int_eq(commit(name, i), 0);
    }
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 4; i++) {
            snprintf(name, sizeof name, "g%d", i);
            lose(name); /* of some partitions several times */
            if (round % 2) fixture_turn(&f);
            win(name);
        }
        for (int i = 0; i < GROUPS; i++) {
            snprintf(name, sizeof name, "g%d", i);
            ck_assert_int_eq(committed(name), i);
        }
    }
    pass(20);
    for (uint32_t i = 0; i < f.b.reactor_count; i++) { /* what has ended is freed */
        int active = 0;
        LIST_FOREACH(it, &f.b.reactors[i].groups->all) active += LIST_ENTRY(it, struct coordinator, link)->state == COORDINATOR_ACTIVE;
        LIST_FOREACH(it, &f.b.reactors[i].groups->all) active--;
        ck_assert_int_eq(active, 0);
    }
}
END_TEST

/* ---- what clients are told ------------------------------------------------------------------------------------- */

static void ask_for_leaders(void) {
    struct k_metadata_request q;
    struct k_metadata_request_topics t;
    k_metadata_request_init(&q);
    k_metadata_request_topics_init(&t);
    t.name = STR_LIT("t");
    q.topics = &t;
    q.topics_n = 1;
    k_metadata_request_encode(&q, client_begin(&c, KEY_METADATA, 12), 12);
    client_send(&c);
}
static int32_t told_leader(int32_t partition) {
    struct k_metadata_response a;
    struct wire_reader r;
    ck_assert(client_receive(&c, &r));
    ck_assert_int_eq(k_metadata_response_decode(&a, &r, 12), OK);
    for (int32_t i = 0; i < a.topics[0].partitions_n; i++)
        if (a.topics[0].partitions[i].partition_index == partition) return a.topics[0].partitions[i].leader_id;
    return -2;
}

START_TEST(who_asks_between_two_leaders_is_told_of_the_next_one) {
    const struct image_topic *t = image_topic_by_name(reactor_image(&f.b.reactors[0]), STR_LIT("t"));
    struct reactor *r = &f.b.reactors[t->partitions[2].owner];
    uint64_t group = t->partitions[2].plid;
    int32_t epoch = leaders_get(r, group)->epoch;
    partition_find(r, group)->replica.role = REPLICA_FOLLOWER; /* it handed over, and says so */
    struct leader_info ended = led_by(-1, epoch), next = led_by(FIXTURE_ID, epoch + 1);
    leaders_report(r, group, &ended);
    int64_t asked_ms = now_ms();
    ask_for_leaders();
    bool waits = client_waits(&c), in_time = now_ms() - asked_ms < 200; /* or this thread stood still */
    ck_assert(waits || !in_time);
    leaders_report(r, group, &next);
    int32_t told = told_leader(2);
    ck_assert(told == FIXTURE_ID || !in_time);

    ended = led_by(-1, epoch + 1); /* nobody comes */
    leaders_report(r, group, &ended);
    ask_for_leaders();
    ck_assert_int_eq(told_leader(2), -1);
    partition_find(r, group)->replica.role = REPLICA_LEADER; /* as it was, to stop */
}
END_TEST

/* Partition 2 has just lost its leader; two questions, the second of which has nothing behind it. How long the first took. */
static int64_t ask_twice(struct reactor *r, uint64_t group, bool at_once) {
    struct leader_info next = led_by(FIXTURE_ID, leaders_get(r, group)->epoch + 1), ended = led_by(-1, next.epoch);
    leaders_report(r, group, &next);
    leaders_report(r, group, &ended);
    int64_t asked_ms = now_ms();
    ask_for_leaders();
    bool waits = at_once || client_waits(&c);
    ask_for_leaders();
    c.correlation--;
    ck_assert_int_eq(told_leader(2), -1);
    int64_t took_ms = now_ms() - asked_ms;
    c.correlation++;
    waits = waits && client_waits(&c);
    ck_assert_int_eq(told_leader(2), -1);
    return waits ? took_ms : INT64_MAX;
}

START_TEST(who_asks_for_more_waits_less_for_a_leader) {
    const struct image_topic *t = image_topic_by_name(reactor_image(&f.b.reactors[0]), STR_LIT("t"));
    struct reactor *r = &f.b.reactors[t->partitions[2].owner];
    uint64_t group = t->partitions[2].plid;
    partition_find(r, group)->replica.role = REPLICA_FOLLOWER;
    for (int i = 0; i < 2; i++) {
        int64_t took_ms = INT64_MAX; /* this thread may stand still for longer than a question may wait */
        for (int tries = 0; tries < 5 && took_ms >= 250; tries++) took_ms = ask_twice(r, group, i == 1);
        ck_assert_int_lt(took_ms, 250); /* alone: 300 */
    }
    partition_find(r, group)->replica.role = REPLICA_LEADER; /* as it was, to stop */
}
END_TEST

int main(void) {
    Suite *s = suite_create("api_leaders");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, the_newest_report_stands);
    tcase_add_test(t, what_cannot_be_true_is_dropped);
    tcase_add_test(t, own_reports_are_sent_when_they_say_something_new);
    tcase_add_test(t, a_walk_meets_what_is_led_here);
    tcase_add_test(t, a_coordinator_moves_with_its_partition);
    tcase_add_test(t, a_leader_that_was_not_told_finds_out);
    tcase_add_test(t, sessions_begin_anew_at_the_next_coordinator);
    tcase_add_test(t, who_waits_is_sent_away);
    tcase_add_test(t, commits_under_way_when_leadership_ends);
    tcase_add_test(t, many_groups_go_in_slices);
    tcase_add_test(t, who_asks_between_two_leaders_is_told_of_the_next_one);
    tcase_add_test(t, who_asks_for_more_waits_less_for_a_leader);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
