/* Groups on a whole broker with two reactors: where their coordinators are, committed offsets, what administrators ask, expiry. */
#include "server/group_config.h"
#include "tests/unit/group_fixture.h"

/* ---- FindCoordinator ------------------------------------------------------------------------------------ */

START_TEST(the_first_group_makes_the_topic) {
    ck_assert_int_eq(commit(2, "g", "t", 0, 1), KERR_NOT_COORDINATOR);
    ck_assert_int_eq(committed(9, "g", "t", 0).group_error, KERR_NOT_COORDINATOR);
    for (int16_t v = 0; v <= 6; v++) ck_assert_int_eq(find_coordinator(v, "g"), 0);
    struct uuid id = topic_id(&c, "__consumer_offsets");
    ck_assert(!uuid_is_zero(&id));
    ck_assert_int_eq(commit(2, "g", "t", 0, 1), 0);
}
END_TEST

START_TEST(partitions_are_javas) {
    ck_assert_int_eq(group_partition_of(STR_LIT(""), 50), 0);
    ck_assert_int_eq(group_partition_of(STR_LIT("test-group"), 50), 12);          /* from Java */
    ck_assert_int_eq(group_partition_of(STR_LIT("console-consumer-12345"), 50), 6);
    ck_assert_int_eq(group_partition_of(STR_LIT("gr\xc3\xbc\xc3\x9f""e"), 50), 23);
    ck_assert_int_eq(group_partition_of(STR_LIT("\xf0\x9f\x90\x9f"), 50), 18);
    ck_assert_int_eq(group_partition_of(STR_LIT("polygenelubricants"), 50), 0);   /* hash is the smallest int */
    for (int i = 0; i < 256; i++) {
        char damaged[3] = {(char)i, (char)(255 - i), (char)0xf4};
        ck_assert_int_ge(group_partition_of((struct str){damaged, 3}, 7), 0);
    }
}
END_TEST

/* ---- offsets without members ------------------------------------------------------------------------------ */

START_TEST(every_version_of_commit_and_fetch) {
    ck_assert_int_eq(find_coordinator(4, "g"), 0);
    for (int16_t v = 1; v <= 10; v++) {
        struct fetched_offset r = committed(v, "g", "t", 3); /* nothing yet: -1 without an error */
        ck_assert_int_eq(r.error, 0);
        ck_assert_int_eq(r.group_error, 0);
        ck_assert_int_eq(r.offset, -1);
        ck_assert_str_eq(r.metadata, "");
        if (v > 1) ck_assert_int_eq(committed(v, "g", NULL, 0).topics, 0);
    }
    for (int16_t v = 2; v <= 10; v++) {
        struct committer nobody = {-1, "", NULL};
        ck_assert_int_eq(commit_as(v, "g", nobody, "t", 3, 100 + v, v % 2 ? "note" : NULL), 0);
        for (int16_t w = 1; w <= 10; w++)
            for (int all = 0; all <= (w > 1); all++) {
                struct fetched_offset r = committed(w, "g", all ? NULL : "t", 3);
                ck_assert_int_eq(r.error, 0);
                ck_assert_int_eq(r.offset, 100 + v);
                ck_assert_str_eq(r.metadata, v % 2 ? "note" : "");
                if (w >= 5) ck_assert_int_eq(r.epoch, v >= 6 ? 1 : -1);
            }
    }
}
END_TEST

START_TEST(what_a_commit_may_not) {
    ck_assert_int_eq(find_coordinator(4, "g"), 0);
    ck_assert_int_eq(commit(9, "g", "nowhere", 0, 1), KERR_UNKNOWN_TOPIC_OR_PARTITION);
    ck_assert_int_eq(commit(9, "g", "t", 4, 1), KERR_UNKNOWN_TOPIC_OR_PARTITION);
    ck_assert_int_eq(commit(9, "g", "t", -1, 1), KERR_UNKNOWN_TOPIC_OR_PARTITION);
    ck_assert_int_eq(commit(10, "g", "nowhere", 0, 1), KERR_UNKNOWN_TOPIC_ID);
    ck_assert_int_eq(committed(10, "g", "nowhere", 0).error, KERR_UNKNOWN_TOPIC_ID);
    struct committer nobody = {-1, "", NULL};
    char text[4098];
    memset(text, 'm', sizeof text);
    text[4097] = 0;
    ck_assert_int_eq(commit_as(5, "g", nobody, "t", 0, 1, text), KERR_OFFSET_METADATA_TOO_LARGE);
    text[4096] = 0;
    ck_assert_int_eq(commit_as(5, "h", nobody, "t", 0, 1, text), KERR_NONE);
    /* Members that do not exist, of a group that does not, and of one that has only offsets. */
    ck_assert_int_eq(commit_as(8, "g", (struct committer){3, "m", NULL}, "t", 0, 1, NULL), KERR_ILLEGAL_GENERATION);
    ck_assert_int_eq(commit_as(9, "g", (struct committer){3, "m", NULL}, "t", 0, 1, NULL), KERR_GROUP_ID_NOT_FOUND);
    ck_assert_int_eq(commit(9, "g", "t", 0, 1), 0);
    ck_assert_int_eq(commit_as(9, "g", (struct committer){3, "m", NULL}, "t", 0, 1, NULL), KERR_UNKNOWN_MEMBER_ID);
    ck_assert_int_eq(committed(9, "g", "t", 0).offset, 1);
}
END_TEST

START_TEST(committed_offsets_survive_a_restart) {
    ck_assert_int_eq(find_coordinator(4, "g"), 0);
    char name[16];
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof name, "g%d", i);
        for (int32_t p = 0; p < 4; p++) ck_assert_int_eq(commit(9, name, "t", p, 1000 * i + p), 0);
    }
    ck_assert_int_eq(commit(9, "g7", "t", 1, 5), 0);
    client_close(&c);
    fixture_restart(&f);
    client_open(&c, &f);
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof name, "g%d", i);
        for (int32_t p = 0; p < 4; p++) {
            struct fetched_offset r;
            do r = committed(9, name, "t", p);
            while (r.group_error == KERR_COORDINATOR_LOAD_IN_PROGRESS);
            ck_assert_int_eq(r.group_error, 0);
            ck_assert_int_eq(r.offset, i == 7 && p == 1 ? 5 : 1000 * i + p);
        }
    }
}
END_TEST

/* ---- what administrators ask ------------------------------------------------------------------------------------ */

static bool text_is(struct bytes b, const char *text) { return b.len == (int32_t)strlen(text) && memcmp(b.p, text, (size_t)b.len) == 0; }

START_TEST(groups_are_listed_and_described) {
    struct client d;
    client_open(&d, &f);
    ck_assert_int_eq(find_coordinator(4, "g"), 0);
    ck_assert_str_eq(list_groups(5, NULL, NULL), "");
    ck_assert_int_eq(commit(9, "simple", "t", 0, 1), 0);
    struct member m = join_alone(&c, 9, "completing"), s = join_alone(&c, 9, "stable"), gone = join_alone(&c, 9, "empty");
    sync_send(&c, 5, "stable", &s, NULL, &s, 1);
    assigned_own_id(&c, 5, &s);
    ck_assert_int_eq(leave(4, "empty", gone.id, NULL), 0);
    struct member p = join_alone(&c, 9, "preparing");
    join_send(&d, 3, "preparing", range);
    ck_assert(client_waits(&d));
    ck_assert_str_eq(list_groups(5, NULL, NULL), "completing/consumer/CompletingRebalance/classic empty/consumer/Empty/classic "
                     "preparing/consumer/PreparingRebalance/classic simple//Empty/classic stable/consumer/Stable/classic ");
    for (int16_t v = 0; v <= 2; v++)
        ck_assert_str_eq(list_groups(v, NULL, NULL), "completing/consumer// empty/consumer// preparing/consumer// simple/// stable/consumer// ");
    ck_assert_str_eq(list_groups(4, "sTABLE", NULL), "stable/consumer/Stable/ ");
    ck_assert_str_eq(list_groups(5, "Empty", "Classic"), "empty/consumer/Empty/classic simple//Empty/classic ");
    ck_assert_str_eq(list_groups(5, NULL, "consumer"), "");
    for (int16_t v = 0; v <= 6; v++) {
        struct k_describe_groups_response_groups g = describe(v, "stable");
        ck_assert(str_is(g.group_state, "Stable") && str_is(g.protocol_type, "consumer") && str_is(g.protocol_data, "range"));
        ck_assert_int_eq(g.members_n, 1);
        ck_assert(str_is(g.members[0].member_id, s.id) && str_is(g.members[0].client_id, "test"));
        ck_assert(str_is(g.members[0].client_host, "/127.0.0.1"));
        ck_assert(text_is(g.members[0].member_metadata, "range") && text_is(g.members[0].member_assignment, s.id));
        g = describe(v, "preparing");
        ck_assert(str_is(g.group_state, "PreparingRebalance") && str_is(g.protocol_data, ""));
        ck_assert_int_eq(g.members_n, 2);
        ck_assert_int_eq(g.members[0].member_metadata.len, 0);
        ck_assert(str_is(describe(v, "simple").group_state, "Empty"));
        ck_assert_int_eq(describe(v, "empty").members_n, 0);
    }
    (void)m;
    ck_assert_int_eq(leave(4, "preparing", p.id, NULL), 0);
    struct k_join_group_response a = join_receive(&d, 3);
    ck_assert_int_eq(a.error_code, 0);
    client_close(&d);
}
END_TEST

START_TEST(groups_and_offsets_are_deleted) {
    ck_assert_int_eq(find_coordinator(4, "g"), 0);
    for (int16_t v = 0; v <= 2; v++) {
        ck_assert_int_eq(delete_group(v, "g"), KERR_GROUP_ID_NOT_FOUND);
        for (int32_t p = 0; p < 4; p++) ck_assert_int_eq(commit(9, "g", "t", p, 5), 0);
        ck_assert_int_eq(delete_group(v, "g"), 0);
        ck_assert_int_eq(committed(9, "g", "t", 0).offset, -1);
        ck_assert_str_eq(list_groups(5, NULL, NULL), "");
    }
    struct member m = join_alone(&c, 9, "g"); /* its subscription "range" is not a consumer's: it may be of any topic */
    sync_send(&c, 5, "g", &m, NULL, &m, 1);
    assigned_own_id(&c, 5, &m);
    ck_assert_int_eq(commit_as(9, "g", (struct committer){1, m.id, NULL}, "t", 0, 5, NULL), 0);
    ck_assert_int_eq(delete_group(2, "g"), KERR_NON_EMPTY_GROUP);
    ck_assert_int_eq(delete_offset("g", "t", 0), KERR_GROUP_SUBSCRIBED_TO_TOPIC);
    ck_assert_int_eq(delete_offset("g", "nowhere", 0), KERR_UNKNOWN_TOPIC_OR_PARTITION);
    ck_assert_int_eq(delete_offset("unknown", "t", 0), KERR_GROUP_ID_NOT_FOUND);
    ck_assert_int_eq(delete_offset("", "t", 0), KERR_INVALID_GROUP_ID);
    ck_assert_int_eq(committed(9, "g", "t", 0).offset, 5);
    ck_assert_int_eq(leave(4, "g", m.id, NULL), 0);
    ck_assert_int_eq(delete_offset("g", "t", 0), 0);
    ck_assert_int_eq(delete_offset("g", "t", 1), 0); /* never was */
    ck_assert_int_eq(committed(9, "g", "t", 0).offset, -1);
    ck_assert_int_eq(delete_group(2, "g"), 0);
    ck_assert_int_eq(delete_group(2, "g"), KERR_GROUP_ID_NOT_FOUND);
    /* A subscription to another topic is no obstacle; another kind of members is. */
    static const char other[] = "\0\0\0\0\0\1\0\5other\xff\xff\xff\xff";
    struct k_join_group_request_protocols protocol = {STR_LIT("range"), {(const uint8_t *)other, sizeof other - 1}};
    for (int consumer = 1; consumer >= 0; consumer--) {
        struct k_join_group_request q;
        struct k_join_group_response a;
        k_join_group_request_init(&q);
        q.group_id = STR_LIT("h");
        q.session_timeout_ms = 30000;
        q.rebalance_timeout_ms = 30000;
        q.protocol_type = consumer ? STR_LIT("consumer") : STR_LIT("connect");
        q.protocols = &protocol;
        q.protocols_n = 1;
        CALL(&c, KEY_JOIN, 3, join_group, q, a);
        struct member h = member_of(&a);
        sync_send(&c, 3, "h", &h, NULL, &h, 1);
        assigned_own_id(&c, 3, &h);
        ck_assert_int_eq(commit_as(9, "h", (struct committer){h.generation, h.id, NULL}, "t", 0, 5, NULL), 0);
        ck_assert_int_eq(delete_offset("h", "t", 0), consumer ? 0 : KERR_NON_EMPTY_GROUP);
        ck_assert_int_eq(leave(4, "h", h.id, NULL), 0);
    }
}
END_TEST

/* ---- expiry ---------------------------------------------------------------------------------------------------- */

static void commit_for(const char *group, const char *topic, int64_t retention_ms) {
    struct k_offset_commit_request q;
    struct k_offset_commit_response a;
    struct k_offset_commit_request_topics t;
    struct k_offset_commit_request_topics_partitions p;
    k_offset_commit_request_init(&q);
    k_offset_commit_request_topics_init(&t);
    k_offset_commit_request_topics_partitions_init(&p);
    q.group_id = str_from(group);
    q.retention_time_ms = retention_ms;
    t.name = str_from(topic);
    p.committed_offset = 1;
    t.partitions = &p;
    q.topics = &t;
    t.partitions_n = q.topics_n = 1;
    CALL(&c, KEY_OFFSET_COMMIT, 3, offset_commit, q, a);
    ck_assert_int_eq(a.topics[0].partitions[0].error_code, 0);
}

/* A retention from the wire that no clock can hold is a long one, not one that is over. */
START_TEST(an_endless_retention) {
    tear_down();
    set_up_with("offsets.topic.num.partitions=1\noffsets.retention.check.interval.ms=20\n");
    ck_assert_int_eq(find_coordinator(4, "g"), 0);
    commit_for("endless", "t", INT64_MAX);
    commit_for("over", "t", INT64_MIN);
    while (strcmp(list_groups(5, NULL, NULL), "endless//Empty/classic ") != 0) { }
    ck_assert_int_eq(committed(9, "endless", "t", 0).offset, 1);
}
END_TEST

/* Strangers who fill the memory of groups do not stop those who commit what they have committed before. */
START_TEST(groups_whose_memory_is_used_up) {
    ck_assert_int_eq(find_coordinator(4, "g"), 0);
    ck_assert_int_eq(commit(9, "g", "t", 0, 5), 0);
    struct joiner j = range;
    struct k_join_group_response a = join(&c, 3, "m", j);
    struct member m = member_of(&a);
    int64_t sixteenth = f.b.config.memory_max_bytes / 16;
    atomic_fetch_add(&f.b.group_bytes, sixteenth);
    ck_assert_int_eq(commit(9, "g", "t", 0, 6), 0);
    ck_assert_int_eq(committed(9, "g", "t", 0).offset, 6);
    ck_assert_int_eq(commit_as(9, "g", (struct committer){-1, "", NULL}, "t", 0, 7, "a text"), KERR_COORDINATOR_NOT_AVAILABLE);
    ck_assert_int_eq(commit(9, "g", "t", 1, 7), KERR_COORDINATOR_NOT_AVAILABLE);
    ck_assert_int_eq(commit(9, "h", "t", 0, 7), KERR_COORDINATOR_NOT_AVAILABLE);
    ck_assert_int_eq(join(&c, 3, "n", range).error_code, KERR_COORDINATOR_NOT_AVAILABLE);
    j.member = m.id;
    ck_assert_int_eq(join(&c, 3, "m", j).error_code, 0);
    atomic_fetch_add(&f.b.group_bytes, sixteenth);
    ck_assert_int_eq(commit(9, "g", "t", 0, 8), 0);
    ck_assert_int_eq(join(&c, 3, "m", j).error_code, KERR_COORDINATOR_NOT_AVAILABLE);
    atomic_fetch_sub(&f.b.group_bytes, 2 * sixteenth);
    ck_assert_int_eq(join(&c, 3, "m", j).error_code, 0);
    ck_assert_int_eq(commit(9, "g", "t", 1, 7), 0);
}
END_TEST

START_TEST(a_clock_that_jumped_expires_nothing) {
    tear_down();
    set_up_with("offsets.topic.num.partitions=1\noffsets.retention.check.interval.ms=20\n");
    ck_assert_int_eq(find_coordinator(4, "g"), 0);
    for (int i = 0; i < FIXTURE_REACTORS; i++) f.b.reactors[i].housekeeping.wall_ms -= 7200000; /* as if it had been right then */
    commit_for("short", "t", 1);
    int64_t until_ms = now_ms() + 150;
    while (now_ms() < until_ms) fixture_turn(&f);
    ck_assert_int_eq(committed(9, "short", "t", 0).offset, 1);
    for (int i = 0; i < FIXTURE_REACTORS; i++) f.b.reactors[i].housekeeping.wall_ms += 7200000;
    while (committed(9, "short", "t", 0).offset != -1) { }
}
END_TEST

START_TEST(more_groups_than_one_turn_lists) {
    enum { GROUPS = 600 };
    tear_down();
    set_up_with("offsets.topic.num.partitions=1\n");
    ck_assert_int_eq(find_coordinator(4, "g"), 0);
    char name[16];
    for (int i = 0; i < GROUPS; i++) {
        snprintf(name, sizeof name, "g%d", i);
        ck_assert_int_eq(commit(9, name, "t", 0, 1), 0);
    }
    struct k_list_groups_request q;
    struct k_list_groups_response a;
    k_list_groups_request_init(&q);
    CALL(&c, KEY_LIST, 5, list_groups, q, a);
    ck_assert_int_eq(a.error_code, 0);
    ck_assert_int_eq(a.groups_n, GROUPS);
}
END_TEST

/* Groups are found by the number of partitions: with another one, all that was committed would be looked for elsewhere. */
START_TEST(the_topic_keeps_its_partitions) {
    ck_assert_int_eq(find_coordinator(4, "g"), 0);
    ck_assert_int_eq(commit(9, "g", "t", 0, 5), 0);
    struct k_create_partitions_request q;
    struct k_create_partitions_response a;
    struct k_create_partitions_request_topics t;
    k_create_partitions_request_init(&q);
    k_create_partitions_request_topics_init(&t);
    t.name = STR_LIT("__consumer_offsets");
    t.count = 8;
    t.assignments_n = -1;
    q.topics = &t;
    q.topics_n = 1;
    q.timeout_ms = 30000;
    CALL(&c, KEY_CREATE_PARTITIONS, 3, create_partitions, q, a);
    ck_assert_int_eq(a.results[0].error_code, KERR_INVALID_PARTITIONS);
    ck_assert_int_eq(committed(9, "g", "t", 0).offset, 5);
}
END_TEST

START_TEST(offsets_expire_and_empty_groups_go) {
    tear_down();
    set_up_with("offsets.topic.num.partitions=4\ngroup.initial.rebalance.delay.ms=0\noffsets.retention.check.interval.ms=20\n");
    ck_assert_int_eq(find_coordinator(4, "g"), 0);
    commit_for("short", "t", 1);
    commit_for("long", "t", 3600000);
    ck_assert_int_eq(commit(9, "kept", "t", 0, 1), 0);
    struct member m = join_alone(&c, 9, "left"), s = join_alone(&c, 9, "stays");
    ck_assert_int_eq(leave(4, "left", m.id, NULL), 0);
    sync_send(&c, 5, "stays", &s, NULL, &s, 1);
    assigned_own_id(&c, 5, &s);
    const char *rest = "kept//Empty/classic long//Empty/classic stays/consumer/Stable/classic ";
    while (strcmp(list_groups(5, NULL, NULL), rest) != 0) { }
    ck_assert_int_eq(committed(9, "short", "t", 0).offset, -1);
    client_close(&c);
    fixture_restart(&f); /* tombstones hold */
    client_open(&c, &f);
    while (committed(9, "short", "t", 0).group_error == KERR_COORDINATOR_LOAD_IN_PROGRESS) { }
    ck_assert_int_eq(committed(9, "short", "t", 0).offset, -1);
    ck_assert_int_eq(committed(9, "long", "t", 0).offset, 1);
    ck_assert_str_eq(list_groups(5, NULL, NULL), rest);
}
END_TEST

START_TEST(a_topic_takes_its_offsets_with_it) {
    ck_assert_int_eq(find_coordinator(4, "g"), 0);
    ck_assert_int_eq(create_topic(&c, "doomed", 4), 0);
    for (int32_t p = 0; p < 4; p++) {
        ck_assert_int_eq(commit(9, "g", "doomed", p, 7), 0);
        ck_assert_int_eq(commit(9, "h", "doomed", p, 7), 0);
        ck_assert_int_eq(commit(9, "g", "t", p, 8), 0);
    }
    delete_topic("doomed");
    while (committed(9, "g", "doomed", 0).offset != -1) { }
    while (strcmp(list_groups(5, NULL, NULL), "g//Empty/classic ") != 0) { }
    for (int32_t p = 0; p < 4; p++) {
        ck_assert_int_eq(committed(9, "g", "doomed", p).offset, -1);
        ck_assert_int_eq(committed(9, "g", "t", p).offset, 8);
    }
    ck_assert_int_eq(create_topic(&c, "doomed", 4), 0);
    ck_assert_int_eq(committed(10, "g", "doomed", 0).offset, -1);
}
END_TEST

/* Whoever names groups cannot fill the metadata with them. */
START_TEST(configs_of_too_many_groups) {
    enum { GROUPS = GROUP_CONFIGS_MAX + 1 };
    struct k_incremental_alter_configs_request q;
    struct k_incremental_alter_configs_response a;
    struct k_incremental_alter_configs_request_resources *r = calloc(GROUPS, sizeof *r);
    char (*names)[8] = calloc(GROUPS, sizeof *names);
    struct k_incremental_alter_configs_request_resources_configs one;
    k_incremental_alter_configs_request_init(&q);
    k_incremental_alter_configs_request_resources_configs_init(&one);
    one.name = STR_LIT("consumer.session.timeout.ms");
    one.value = STR_LIT("50000");
    for (int i = 0; i < GROUPS; i++) {
        k_incremental_alter_configs_request_resources_init(&r[i]);
        snprintf(names[i], sizeof names[i], "%d", i);
        r[i].resource_type = 32;
        r[i].resource_name = str_from(names[i]);
        r[i].configs = &one;
        r[i].configs_n = 1;
    }
    q.resources = r;
    q.resources_n = GROUPS;
    q.validate_only = true;
    CALL(&c, KEY_INCREMENTAL_ALTER, 1, incremental_alter_configs, q, a);
    ck_assert_int_eq(a.responses_n, GROUPS);
    ck_assert_int_eq(a.responses[GROUPS - 2].error_code, 0);
    ck_assert_int_eq(a.responses[GROUPS - 1].error_code, KERR_POLICY_VIOLATION);
    free(r);
    free(names);
}
END_TEST

int main(void) {
    Suite *s = suite_create("api_groups");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, the_first_group_makes_the_topic);
    tcase_add_test(t, partitions_are_javas);
    tcase_add_test(t, every_version_of_commit_and_fetch);
    tcase_add_test(t, what_a_commit_may_not);
    tcase_add_test(t, committed_offsets_survive_a_restart);
    tcase_add_test(t, groups_are_listed_and_described);
    tcase_add_test(t, groups_and_offsets_are_deleted);
    tcase_add_test(t, an_endless_retention);
    tcase_add_test(t, configs_of_too_many_groups);
    tcase_add_test(t, groups_whose_memory_is_used_up);
    tcase_add_test(t, a_clock_that_jumped_expires_nothing);
    tcase_add_test(t, more_groups_than_one_turn_lists);
    tcase_add_test(t, the_topic_keeps_its_partitions);
    tcase_add_test(t, offsets_expire_and_empty_groups_go);
    tcase_add_test(t, a_topic_takes_its_offsets_with_it);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
