/* Members of the consumer protocol (KIP-848) on a whole broker with two reactors, configs of groups, the way from one protocol to the other. */
#include "server/group_history.h"
#include "tests/unit/group_fixture.h"

START_TEST(consumers_share_a_topic) {
    tear_down();
    set_up_with("offsets.topic.num.partitions=4\ngroup.consumer.assignment.interval.ms=0\n");
    ck_assert_int_eq(find_coordinator(4, "g"), 0);
    ck_assert_int_eq(beat("g", "a", 3, 0, -1).error, KERR_GROUP_ID_NOT_FOUND);
    ck_assert_int_eq(beat("", "a", 0, 0, 0).error, KERR_INVALID_REQUEST);
    struct beat a = beat("g", "a", 0, 0, 0);
    ck_assert_int_eq(a.error, 0);
    ck_assert_str_eq(a.member, "a");
    ck_assert(a.epoch > 0 && a.assigned && a.partitions == 4);
    int32_t epoch = a.epoch;
    ck_assert_int_eq(beat("g", "a", epoch, 0, 4).epoch, epoch);
    ck_assert_int_eq(beat("g", "x", epoch, 0, -1).error, KERR_UNKNOWN_MEMBER_ID);
    ck_assert_int_eq(beat("g", "a", epoch + 1, 0, -1).error, KERR_FENCED_MEMBER_EPOCH);
    /* The second gets nothing before the first has let go. */
    struct beat b = beat("g", "b", 0, 0, 0);
    ck_assert_int_eq(b.error, 0);
    ck_assert_int_eq(b.partitions, 0);
    a = beat("g", "a", epoch, 0, 4);
    ck_assert_int_eq(a.epoch, epoch);
    ck_assert(a.assigned && a.partitions == 2);
    ck_assert_int_eq(beat("g", "b", b.epoch, 0, 0).partitions, 0);
    struct k_consumer_group_describe_response_groups d = group_describe(1, "g");
    ck_assert(str_is(d.group_state, "Reconciling") && str_is(d.assignor_name, "uniform"));
    ck_assert_int_eq(d.members_n, 2);
    ck_assert(str_is(d.members[0].member_id, "a") && str_is(d.members[0].client_id, "test") && str_is(d.members[0].client_host, "/127.0.0.1"));
    ck_assert_int_eq(d.members[0].member_type, 1);
    ck_assert(str_is(d.members[0].assignment.topic_partitions[0].topic_name, "t"));
    /* Commits and fetches under epochs; the newest of them only. */
    struct committer first = {epoch, "a", NULL};
    ck_assert_int_eq(commit_as(9, "g", first, "t", 0, 10, NULL), 0);
    ck_assert_int_eq(commit_as(8, "g", first, "t", 0, 11, NULL), KERR_UNSUPPORTED_VERSION);
    first.generation = epoch + 7;
    ck_assert_int_eq(commit_as(9, "g", first, "t", 0, 11, NULL), KERR_STALE_MEMBER_EPOCH);
    first.member = "x";
    ck_assert_int_eq(commit_as(9, "g", first, "t", 0, 11, NULL), KERR_UNKNOWN_MEMBER_ID);
    ck_assert_int_eq(committed(9, "g", "t", 0).offset, 10);
    int32_t kept = -1;
    for (int32_t p = 0; p < 4 && kept < 0; p++) { /* it says which two it has kept: as it was told, one of these */
        a = beat("g", "a", epoch, p, 2);
        if (a.error == 0 && a.epoch > epoch) kept = p;
    }
    if (kept < 0) a = beat("g", "a", epoch, 0, 0);
    ck_assert_int_gt(a.epoch, epoch);
    b = beat("g", "b", b.epoch, 0, 0);
    ck_assert_int_eq(b.partitions, 2);
    ck_assert_str_eq(list_groups(5, NULL, "consumer"), "g/consumer/Stable/consumer ");
    ck_assert_str_eq(list_groups(5, NULL, "classic"), "");
    ck_assert(str_is(describe(6, "g").group_state, "Dead"));
    ck_assert_int_eq(delete_group(2, "g"), KERR_NON_EMPTY_GROUP);
    ck_assert_int_eq(delete_offset("g", "t", 0), KERR_GROUP_SUBSCRIBED_TO_TOPIC);
    /* Over a restart: everybody is where they were. */
    client_close(&c);
    fixture_restart(&f);
    client_open(&c, &f);
    struct beat again;
    do again = beat("g", "b", b.epoch, 0, -1);
    while (again.error == KERR_COORDINATOR_LOAD_IN_PROGRESS);
    ck_assert_int_eq(again.error, 0);
    ck_assert_int_eq(again.epoch, b.epoch);
    ck_assert_int_eq(committed(9, "g", "t", 0).offset, 10);
    /* Goodbye. */
    ck_assert_int_eq(beat("g", "a", -1, 0, -1).epoch, -1);
    ck_assert_int_eq(beat("g", "b", -1, 0, -1).epoch, -1);
    ck_assert(str_is(group_describe(0, "g").group_state, "Empty"));
    ck_assert_int_eq(commit(9, "g", "t", 1, 12), 0);
    ck_assert_int_eq(delete_offset("g", "t", 0), 0);
    ck_assert_int_eq(delete_group(2, "g"), 0);
    ck_assert_int_eq(group_describe(1, "g").error_code, KERR_GROUP_ID_NOT_FOUND);
    ck_assert_str_eq(list_groups(5, NULL, NULL), "");
}
END_TEST

/* A deadline that comes, and a heartbeat, while the record of somebody's leaving is on its way to the disk: what followed from the leaving
 * is put down to it. */
START_TEST(what_began_a_rebalance_is_told) {
    tear_down();
    set_up_with("offsets.topic.num.partitions=4\ngroup.consumer.assignment.interval.ms=0\n");
    ck_assert_int_eq(find_coordinator(4, "g"), 0);
    struct beat a = beat("g", "a", 0, 0, 0), b = beat("g", "b", 0, 0, 0);
    for (int i = 0; i < 4 && (a.epoch != b.epoch || a.partitions != 2); i++) { /* a lets go of two, b gets them */
        struct beat next = beat("g", "a", a.epoch, 0, i == 0 ? -1 : 2);
        a.epoch = next.epoch;
        if (next.assigned) a.partitions = next.partitions;
        b.epoch = beat("g", "b", b.epoch, 0, -1).epoch;
    }
    struct group *g = group_of("g");
    uint32_t before = g->history->count;
    struct k_consumer_group_heartbeat_request q;
    struct k_consumer_group_heartbeat_response left;
    k_consumer_group_heartbeat_request_init(&q);
    q.group_id = STR_LIT("g");
    q.member_id = STR_LIT("b");
    q.member_epoch = -1;
    k_consumer_group_heartbeat_request_encode(&q, client_begin(&c, KEY_GROUP_HEARTBEAT, 1), 1);
    client_send(&c);
    for (int i = 0; i < 1000 && !g->exclusive; i++) fixture_turn(&f);
    ck_assert(g->exclusive);
    g->tick_due = true;
    struct wire_reader r;
    ck_assert(client_receive(&c, &r));
    ck_assert_int_eq(k_consumer_group_heartbeat_response_decode(&left, &r, 1), OK);
    ck_assert_int_eq(left.error_code, 0);
    ck_assert_uint_gt(g->history->count, before);
    const struct rebalance *newest = group_history_at(g->history, group_history_size(g->history) - 1);
    ck_assert_int_eq(newest->cause, HISTORY_LEFT);
    ck_assert(newest->by.len == 1 && newest->by.text[0] == 'b');
}
END_TEST

static int16_t set_group_config(const char *group, const char *name, const char *value) {
    struct k_incremental_alter_configs_request q;
    struct k_incremental_alter_configs_response a;
    struct k_incremental_alter_configs_request_resources r;
    struct k_incremental_alter_configs_request_resources_configs e;
    k_incremental_alter_configs_request_init(&q);
    k_incremental_alter_configs_request_resources_init(&r);
    k_incremental_alter_configs_request_resources_configs_init(&e);
    e.name = str_from(name);
    e.value = str_from(value);
    e.config_operation = value ? 0 : 1;
    r.resource_type = 32;
    r.resource_name = str_from(group);
    r.configs = &e;
    q.resources = &r;
    r.configs_n = q.resources_n = 1;
    CALL(&c, KEY_INCREMENTAL_ALTER, 1, incremental_alter_configs, q, a);
    return a.responses[0].error_code;
}

/* "value/source " of each config of the group. */
static const char *group_configs(const char *group) {
    static char text[128];
    struct k_describe_configs_request q;
    struct k_describe_configs_response a;
    struct k_describe_configs_request_resources r;
    k_describe_configs_request_init(&q);
    k_describe_configs_request_resources_init(&r);
    r.resource_type = 32;
    r.resource_name = str_from(group);
    r.configuration_keys_n = -1;
    q.resources = &r;
    q.resources_n = 1;
    q.include_synonyms = true;
    CALL(&c, KEY_DESCRIBE_CONFIGS, 4, describe_configs, q, a);
    ck_assert_int_eq(a.results[0].error_code, 0);
    text[0] = 0;
    for (int32_t i = 0; i < a.results[0].configs_n; i++) {
        const struct k_describe_configs_response_results_configs *e = &a.results[0].configs[i];
        ck_assert_int_eq(e->synonyms_n, e->config_source == 8 ? 2 : 1);
        snprintf(text + strlen(text), sizeof text - strlen(text), "%.*s/%d ", e->value.len, e->value.p, e->config_source);
    }
    return text;
}

START_TEST(a_group_has_configs_of_its_own) {
    ck_assert_int_eq(find_coordinator(4, "g"), 0);
    ck_assert_str_eq(group_configs("g"), "5000/5 45000/5 ");
    ck_assert_int_eq(set_group_config("g", "consumer.heartbeat.interval.ms", "7000"), 0);
    ck_assert_int_eq(set_group_config("h", "consumer.session.timeout.ms", "50000"), 0);
    ck_assert_int_eq(set_group_config("a", "consumer.session.timeout.ms", "51000"), 0);
    ck_assert_int_eq(set_group_config("g", "consumer.heartbeat.interval.ms", "4999"), KERR_INVALID_CONFIG);
    ck_assert_int_eq(set_group_config("g", "consumer.heartbeat.interval.ms", "x"), KERR_INVALID_CONFIG);
    ck_assert_int_eq(set_group_config("g", "cleanup.policy", "delete"), KERR_INVALID_CONFIG);
    ck_assert_int_eq(set_group_config("", "consumer.heartbeat.interval.ms", "7000"), KERR_INVALID_REQUEST);
    client_close(&c);
    fixture_restart(&f);
    client_open(&c, &f);
    ck_assert_str_eq(group_configs("g"), "7000/8 45000/5 ");
    ck_assert_str_eq(group_configs("h"), "5000/5 50000/8 ");
    ck_assert_str_eq(group_configs("i"), "5000/5 45000/5 ");
    struct k_consumer_group_heartbeat_request q;
    struct k_consumer_group_heartbeat_response a;
    struct str names = STR_LIT("t");
    k_consumer_group_heartbeat_request_init(&q);
    q.group_id = STR_LIT("g");
    q.member_id = STR_LIT("m");
    q.rebalance_timeout_ms = 60000;
    q.subscribed_topic_names = &names;
    q.subscribed_topic_names_n = 1;
    q.topic_partitions_n = 0;
    do CALL(&c, KEY_GROUP_HEARTBEAT, 1, consumer_group_heartbeat, q, a);
    while (a.error_code == KERR_COORDINATOR_LOAD_IN_PROGRESS);
    ck_assert_int_eq(a.error_code, 0);
    ck_assert_int_eq(a.heartbeat_interval_ms, 7000);
    ck_assert_int_eq(set_group_config("g", "consumer.heartbeat.interval.ms", NULL), 0);
    ck_assert_str_eq(group_configs("g"), "5000/5 45000/5 ");
    ck_assert_str_eq(group_configs("a"), "5000/5 51000/8 ");
}
END_TEST

/* One member of each protocol in one group: the classic group becomes one of the consumer protocol and back. */
START_TEST(a_group_changes_its_protocol) {
    tear_down();
    set_up_with("offsets.topic.num.partitions=4\ngroup.initial.rebalance.delay.ms=0\ngroup.consumer.assignment.interval.ms=0\n");
    ck_assert_int_eq(find_coordinator(4, "g"), 0);
    static const char subscription[] = "\0\1\0\0\0\1\0\1t\xff\xff\xff\xff\0\0\0\0"; /* to "t", owning nothing */
    struct k_join_group_request q;
    struct k_join_group_response j;
    struct k_join_group_request_protocols protocol = {STR_LIT("range"), {(const uint8_t *)subscription, sizeof subscription - 1}};
    k_join_group_request_init(&q);
    q.group_id = STR_LIT("g");
    q.session_timeout_ms = q.rebalance_timeout_ms = 30000;
    q.protocol_type = STR_LIT("consumer");
    q.protocols = &protocol;
    q.protocols_n = 1;
    CALL(&c, KEY_JOIN, 3, join_group, q, j);
    struct member m = member_of(&j);
    struct k_sync_group_request sq;
    struct k_sync_group_response sa;
    static const char assignment[] = "\0\1\0\0\0\1\0\1t\0\0\0\4\0\0\0\0\0\0\0\1\0\0\0\2\0\0\0\3\xff\xff\xff\xff";
    struct k_sync_group_request_assignments mine = {str_from(m.id), {(const uint8_t *)assignment, sizeof assignment - 1}};
    k_sync_group_request_init(&sq);
    sq.group_id = STR_LIT("g");
    sq.member_id = str_from(m.id);
    sq.generation_id = m.generation;
    sq.assignments = &mine;
    sq.assignments_n = 1;
    CALL(&c, KEY_SYNC, 3, sync_group, sq, sa);
    ck_assert_int_eq(sa.error_code, 0);
    ck_assert_int_eq(commit_as(8, "g", (struct committer){m.generation, m.id, NULL}, "t", 3, 33, NULL), 0);
    /* The upgrade: offsets and the member stay. */
    struct beat b = beat("g", "b", 0, 0, 0);
    ck_assert_int_eq(b.error, 0);
    ck_assert_str_eq(list_groups(5, NULL, "classic"), "");
    ck_assert_int_eq(group_describe(1, "g").members_n, 2);
    ck_assert_int_eq(committed(9, "g", "t", 3).offset, 33);
    ck_assert_int_eq(heartbeat(4, "g", &m, NULL), KERR_REBALANCE_IN_PROGRESS); /* it is to give up two */
    /* The downgrade, when the last member of the consumer protocol leaves. */
    ck_assert_int_eq(beat("g", "b", -1, 0, -1).error, 0);
    ck_assert_str_eq(list_groups(5, NULL, NULL), "g/consumer/PreparingRebalance/classic ");
    ck_assert_int_eq(group_describe(1, "g").error_code, KERR_GROUP_ID_NOT_FOUND);
    ck_assert_int_eq(committed(9, "g", "t", 3).offset, 33);
    q.member_id = str_from(m.id);
    CALL(&c, KEY_JOIN, 3, join_group, q, j);
    ck_assert_int_gt(member_of(&j).generation, m.generation);
    /* A classic group that is empty is no obstacle, nor is an empty one of the consumer protocol. */
    ck_assert_int_eq(leave(4, "g", m.id, NULL), 0);
    ck_assert_int_eq(beat("g", "b", 0, 0, 0).error, 0);
    ck_assert_str_eq(list_groups(5, NULL, NULL), "g/consumer/Stable/consumer ");
    ck_assert_int_eq(beat("g", "b", -1, 0, -1).error, 0);
    q.member_id = STR_LIT("");
    CALL(&c, KEY_JOIN, 3, join_group, q, j);
    ck_assert_int_eq(j.error_code, 0);
    ck_assert_str_eq(list_groups(5, NULL, NULL), "g/consumer/CompletingRebalance/classic ");
}
END_TEST

int main(void) {
    Suite *s = suite_create("api_consumers");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, consumers_share_a_topic);
    tcase_add_test(t, what_began_a_rebalance_is_told);
    tcase_add_test(t, a_group_changes_its_protocol);
    tcase_add_test(t, a_group_has_configs_of_its_own);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
