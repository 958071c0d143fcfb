/* Classic members in a consumer group, a classic group that becomes one, and back. */
#include "group_world.h"

static struct world w;
static struct k_consumer_group_heartbeat_response reply;
static struct k_join_group_response joined;
static char text[8000];
static void setup(void) { world_init(&w); }
static void teardown(void) { world_free(&w); }

static const struct group_client client = {{"client", 6}, {"/127.0.0.1", 10}};

static struct bytes in_arena(struct wire_writer *writer) {
    ck_assert_int_eq(writer->err, OK);
    uint8_t *copy = arena_alloc(&w.arena, writer->len);
    memcpy(copy, writer->data, writer->len);
    struct bytes out = {copy, (int32_t)writer->len};
    wire_writer_free(writer);
    return out;
}
/* Subscribes to `topic`, owns partitions [from, to) of it. */
static struct bytes subscription(int16_t version, const char *topic, int32_t from, int32_t to) {
    struct k_consumer_protocol_subscription s;
    struct k_consumer_protocol_subscription_owned_partitions owned = {.topic = str_from(topic)};
    int32_t partitions[64];
    struct str name = str_from(topic);
    k_consumer_protocol_subscription_init(&s);
    s.topics = &name;
    s.topics_n = 1;
    for (int32_t p = from; p < to; p++) partitions[owned.partitions_n++] = p;
    owned.partitions = partitions;
    if (owned.partitions_n && version >= 1) s.owned_partitions = &owned, s.owned_partitions_n = 1;
    struct wire_writer writer;
    wire_writer_init(&writer, 1 << 16);
    wire_put_i16(&writer, version);
    k_consumer_protocol_subscription_encode(&s, &writer, version);
    return in_arena(&writer);
}
static struct bytes assignment(const char *topic, int32_t from, int32_t to) {
    struct k_consumer_protocol_assignment a;
    struct k_consumer_protocol_assignment_assigned_partitions parts = {.topic = str_from(topic)};
    int32_t partitions[64];
    k_consumer_protocol_assignment_init(&a);
    for (int32_t p = from; p < to; p++) partitions[parts.partitions_n++] = p;
    parts.partitions = partitions;
    a.assigned_partitions = &parts;
    a.assigned_partitions_n = 1;
    struct wire_writer writer;
    wire_writer_init(&writer, 1 << 16);
    wire_put_i16(&writer, 1);
    k_consumer_protocol_assignment_encode(&a, &writer, 1);
    return in_arena(&writer);
}

/* "epoch topic:partitions" */
static const char *heartbeat(const char *id, int32_t epoch, const char *topic) {
    struct k_consumer_group_heartbeat_request rq;
    struct str name = str_from(topic);
    k_consumer_group_heartbeat_request_init(&rq);
    rq.group_id = STR_LIT("g");
    rq.member_id = str_from(id);
    rq.member_epoch = epoch;
    rq.subscribed_topic_names_n = rq.topic_partitions_n = -1;
    if (epoch == 0) {
        rq.rebalance_timeout_ms = 10000;
        rq.topic_partitions_n = 0;
        rq.subscribed_topic_names = &name;
        rq.subscribed_topic_names_n = 1;
    }
    consumer_group_heartbeat(w.group, &w.env, &rq, 1, &client, STR_NULL, &w.arena, &w.out, &reply);
    int at = reply.error_code ? snprintf(text, sizeof text, "error %d", reply.error_code) : snprintf(text, sizeof text, "%d", reply.member_epoch);
    for (int32_t t = 0; reply.assignment && t < reply.assignment->topic_partitions_n; t++)
        for (int32_t p = 0; p < reply.assignment->topic_partitions[t].partitions_n; p++)
            at += snprintf(text + at, sizeof text - (size_t)at, " %d", reply.assignment->topic_partitions[t].partitions[p]);
    bool down = consumer_group_downgrades(&w.out);
    if (!down) world_commit(&w); /* else for the test to look at */
    return text;
}
static int16_t join(const char *id, int16_t version, struct bytes metadata) {
    struct k_join_group_request rq;
    struct k_join_group_request_protocols protocols[] = {{STR_LIT("range"), metadata}, {STR_LIT("roundrobin"), metadata}};
    k_join_group_request_init(&rq);
    rq.group_id = STR_LIT("g");
    rq.member_id = str_from(id);
    rq.session_timeout_ms = 30000;
    rq.rebalance_timeout_ms = 60000;
    rq.protocol_type = STR_LIT("consumer");
    rq.protocols = protocols;
    rq.protocols_n = 2;
    consumer_group_join(w.group, &w.env, &rq, version, &client, STR_LIT("fresh"), &w.arena, &w.out, &joined);
    world_commit(&w);
    return joined.error_code;
}
/* "error n", or the partitions. */
static const char *sync_of(const char *id, int32_t generation) {
    struct k_sync_group_request rq;
    struct k_sync_group_response rs;
    k_sync_group_request_init(&rq);
    rq.member_id = str_from(id);
    rq.generation_id = generation;
    rq.protocol_type = STR_LIT("consumer");
    rq.protocol_name = STR_LIT("range");
    rq.group_instance_id = STR_NULL;
    consumer_group_sync(w.group, &w.env, &rq, &w.arena, &rs);
    int at = snprintf(text, sizeof text, rs.error_code ? "error %d" : "", rs.error_code);
    if (rs.error_code) return text;
    struct wire_reader r = wire_reader_init(rs.assignment.p, (size_t)rs.assignment.len, &w.arena);
    int16_t version = wire_get_i16(&r);
    struct k_consumer_protocol_assignment a;
    ck_assert_int_eq(k_consumer_protocol_assignment_decode(&a, &r, version), OK);
    ck_assert_uint_eq(wire_left(&r), 0);
    for (int32_t t = 0; t < a.assigned_partitions_n; t++)
        for (int32_t p = 0; p < a.assigned_partitions[t].partitions_n; p++)
            at += snprintf(text + at, sizeof text - (size_t)at, "%.*s-%d ", a.assigned_partitions[t].topic.len, a.assigned_partitions[t].topic.p, a.assigned_partitions[t].partitions[p]);
    return text;
}
static int16_t beat(const char *id, int32_t generation) {
    struct k_heartbeat_request rq;
    k_heartbeat_request_init(&rq);
    rq.member_id = str_from(id);
    rq.generation_id = generation;
    rq.group_instance_id = STR_NULL;
    return consumer_group_classic_heartbeat(w.group, &w.env, &rq);
}

START_TEST(classic_member_joins_a_consumer_group) {
    world_topic(&w, "t", 4);
    ck_assert_str_eq(heartbeat("a", 0, "t"), "1 0 1 2 3");
    ck_assert_int_eq(join("", 9, subscription(3, "t", 0, 0)), KERR_MEMBER_ID_REQUIRED);
    ck_assert(str_is(joined.member_id, "fresh"));
    ck_assert_int_eq(join("b", 9, subscription(3, "t", 0, 0)), 0);
    ck_assert_int_eq(joined.generation_id, 2);
    ck_assert(str_is(joined.protocol_name, "range") && str_is(joined.protocol_type, "consumer") && joined.leader.len == 0);
    ck_assert_str_eq(sync_of("b", 2), "");           /* all with a */
    ck_assert_str_eq(sync_of("b", 1), "error 22");
    ck_assert_str_eq(sync_of("a", 1), "error 25");   /* not classic */
    ck_assert_int_eq(beat("b", 2), 0);
    ck_assert_str_eq(heartbeat("a", 1, "t"), "1 0 1");
    ck_assert_int_eq(beat("b", 2), 0);               /* still waiting */
    struct k_consumer_group_heartbeat_request rq;    /* a has let go */
    k_consumer_group_heartbeat_request_init(&rq);
    rq.group_id = STR_LIT("g");
    rq.member_id = STR_LIT("a");
    rq.member_epoch = 1;
    rq.subscribed_topic_names_n = -1;
    int32_t left[] = {0, 1};
    struct k_consumer_group_heartbeat_request_topic_partitions owned = {w.all[0].id, left, 2};
    rq.topic_partitions = &owned;
    rq.topic_partitions_n = 1;
    consumer_group_heartbeat(w.group, &w.env, &rq, 1, &client, STR_NULL, &w.arena, &w.out, &reply);
    world_commit(&w);
    ck_assert_int_eq(beat("b", 2), KERR_REBALANCE_IN_PROGRESS); /* what it lacks is free */
    ck_assert_int_eq(join("b", 9, subscription(3, "t", 0, 0)), 0);
    ck_assert_int_eq(joined.generation_id, 2);
    ck_assert_str_eq(sync_of("b", 2), "t-2 t-3 ");
    ck_assert_int_eq(beat("b", 2), 0);
    ck_assert_int_eq(beat("b", 1), KERR_ILLEGAL_GENERATION);
    ck_assert_int_eq(consumer_group_state(w.group), CONSUMER_GROUP_STABLE);
    bool each;
    ck_assert_int_eq(consumer_group_check_commit(w.group, &w.env, STR_LIT("b"), STR_NULL, 2, false, 2, &each), 0);
    ck_assert_int_eq(consumer_group_check_commit(w.group, &w.env, STR_LIT("b"), STR_NULL, 3, false, 2, &each), KERR_ILLEGAL_GENERATION);
}
END_TEST

START_TEST(joins_that_do_not_fit) {
    world_topic(&w, "t", 4);
    ck_assert_str_eq(heartbeat("a", 0, "t"), "1 0 1 2 3");
    ck_assert_int_eq(join("b", 9, (struct bytes){(const uint8_t *)"\0\1\0", 3}), KERR_INCONSISTENT_GROUP_PROTOCOL);
    w.env.migration = GROUP_MIGRATION_DISABLED;
    ck_assert_int_eq(join("b", 9, subscription(0, "t", 0, 0)), KERR_INCONSISTENT_GROUP_PROTOCOL);
    w.env.migration = GROUP_MIGRATION_DOWNGRADE;
    w.env.max_size = 1;
    ck_assert_int_eq(join("b", 9, subscription(0, "t", 0, 0)), KERR_GROUP_MAX_SIZE_REACHED);
    ck_assert_uint_eq(w.group->member_count, 1);
}
END_TEST

START_TEST(classic_members_that_are_late) {
    world_topic(&w, "t", 4);
    w.env.migration = GROUP_MIGRATION_UPGRADE;
    w.env.session_timeout_ms = 10000000;
    ck_assert_str_eq(heartbeat("a", 0, "t"), "1 0 1 2 3");
    ck_assert_int_eq(join("b", 9, subscription(3, "t", 0, 0)), 0);
    w.env.now_ms += 29000;
    ck_assert_int_eq(beat("b", 2), 0);
    w.env.now_ms += 29000;
    ck_assert_int_eq(beat("b", 2), 0);
    ck_assert_int_eq(consumer_group_tick(w.group, &w.env, &w.arena, &w.out), CONSUMER_GROUP_NOTHING);
    w.env.now_ms += 2001; /* it joined 60 s ago and has not synced */
    ck_assert_int_eq(consumer_group_tick(w.group, &w.env, &w.arena, &w.out), CONSUMER_GROUP_RECORDS);
    world_commit(&w);
    ck_assert_int_eq(beat("b", 2), KERR_UNKNOWN_MEMBER_ID);
}
END_TEST

/* A classic group of two with generation 7; a consumer joins: one batch makes it a consumer group. */
START_TEST(upgrade_and_downgrade) {
    world_topic(&w, "t", 4);
    struct k_join_group_request_protocols protocol = {STR_LIT("range"), subscription(3, "t", 0, 0)};
    struct group_upgrade_member members[] = {
        {.member_id = STR_LIT("x"), .client_id = STR_LIT("cx"), .client_host = STR_LIT("/1"), .rebalance_timeout_ms = 60000, .session_timeout_ms = 30000,
         .protocols = &protocol, .protocols_n = 1, .subscription = protocol.metadata, .assignment = assignment("t", 0, 2)},
        {.member_id = STR_LIT("y"), .client_id = STR_LIT("cy"), .client_host = STR_LIT("/2"), .rebalance_timeout_ms = 60000, .session_timeout_ms = 30000,
         .protocols = &protocol, .protocols_n = 1, .subscription = protocol.metadata, .assignment = assignment("t", 2, 4)}};
    struct group_upgrade classic = {.generation = 7, .members = members, .members_n = 2};
    struct k_consumer_group_heartbeat_request rq;
    struct str name = STR_LIT("t");
    k_consumer_group_heartbeat_request_init(&rq);
    rq.group_id = STR_LIT("g");
    rq.member_id = STR_LIT("a");
    rq.rebalance_timeout_ms = 10000;
    rq.subscribed_topic_names = &name;
    rq.subscribed_topic_names_n = 1;
    rq.topic_partitions_n = 0;

    w.env.migration = GROUP_MIGRATION_DOWNGRADE;
    consumer_group_upgrade(STR_LIT("g"), &classic, &w.env, &rq, 1, &client, STR_NULL, &w.arena, &w.out, &reply);
    ck_assert_int_eq(reply.error_code, KERR_GROUP_ID_NOT_FOUND);
    ck_assert_uint_eq(w.out.count, 0);
    w.env.migration = GROUP_MIGRATION_BIDIRECTIONAL;
    members[1].subscription = (struct bytes){(const uint8_t *)"\0\0\7", 3};
    consumer_group_upgrade(STR_LIT("g"), &classic, &w.env, &rq, 1, &client, STR_NULL, &w.arena, &w.out, &reply);
    ck_assert_int_eq(reply.error_code, KERR_GROUP_ID_NOT_FOUND);
    ck_assert_uint_eq(w.out.count, 0);
    members[1].subscription = protocol.metadata;
    consumer_group_upgrade(STR_LIT("g"), &classic, &w.env, &rq, 1, &client, STR_NULL, &w.arena, &w.out, &reply);
    ck_assert_int_eq(reply.error_code, 0);
    struct group_key key; /* the classic group goes first */
    ck_assert_int_eq(group_key_parse(group_records_key(&w.out, 0), &key), OK);
    ck_assert_int_eq(key.type, K_GROUP_METADATA_KEY_TYPE);
    ck_assert_ptr_null(group_records_value(&w.out, 0).p);
    ck_assert_int_eq(reply.member_epoch, 8);
    ck_assert_int_eq(reply.assignment->topic_partitions_n, 0);
    world_commit(&w);
    ck_assert_uint_eq(w.group->member_count, 3);
    ck_assert_uint_eq(w.group->classic_count, 2);
    ck_assert_int_eq(beat("x", 7), KERR_REBALANCE_IN_PROGRESS);
    /* x is eager: it has given up everything when it joins again */
    ck_assert_int_eq(join("x", 9, subscription(0, "t", 0, 0)), 0);
    ck_assert_int_eq(joined.generation_id, 8);
    const struct consumer_member *x = consumer_member_find(w.group, STR_LIT("x")), *y = consumer_member_find(w.group, STR_LIT("y"));
    ck_assert_uint_eq(x->current.pending.n, 0);
    ck_assert_uint_eq(x->target.n + y->target.n + consumer_member_find(w.group, STR_LIT("a"))->target.n, 4);
    ck_assert_uint_gt(consumer_member_find(w.group, STR_LIT("a"))->target.n, 0);

    /* The last consumer leaves: the classic group is back, with its members and what they have. */
    ck_assert_str_eq(heartbeat("a", -1, "t"), "-1");
    ck_assert(consumer_group_downgrades(&w.out));
    uint32_t last = w.out.count - 1;
    struct group_value value;
    ck_assert_int_eq(group_value_parse(K_GROUP_METADATA_KEY_TYPE, group_records_value(&w.out, last), &w.arena, &value), OK);
    ck_assert_int_eq(value.group_metadata.generation, 8);
    ck_assert(str_is(value.group_metadata.protocol_type, "consumer") && str_is(value.group_metadata.protocol, "range"));
    ck_assert_int_eq(value.group_metadata.members_n, 2);
    for (int32_t i = 0; i < 2; i++) {
        const struct k_group_metadata_value_member_metadata *m = &value.group_metadata.members[i];
        ck_assert(str_is(m->member_id, "x") || str_is(m->member_id, "y"));
        ck_assert_int_eq(m->session_timeout, 30000);
        struct wire_reader r = wire_reader_init(m->assignment.p, (size_t)m->assignment.len, &w.arena);
        int16_t version = wire_get_i16(&r);
        struct k_consumer_protocol_assignment a;
        ck_assert_int_eq(k_consumer_protocol_assignment_decode(&a, &r, version), OK);
        if (str_is(m->member_id, "y")) ck_assert_int_eq(a.assigned_partitions[0].partitions_n, 2);
    }
    world_commit(&w);
    ck_assert(consumer_group_is_gone(w.group));
}
END_TEST

/* A static member of the consumer protocol comes back as a classic one: the last of its kind is gone, the group is due to go back. */
START_TEST(downgrade_is_due) {
    world_topic(&w, "t", 2);
    struct k_consumer_group_heartbeat_request rq;
    struct str name = STR_LIT("t");
    k_consumer_group_heartbeat_request_init(&rq);
    rq.group_id = STR_LIT("g");
    rq.member_id = STR_LIT("a");
    rq.instance_id = STR_LIT("i");
    rq.rebalance_timeout_ms = 10000;
    rq.subscribed_topic_names = &name;
    rq.subscribed_topic_names_n = 1;
    rq.topic_partitions_n = 0;
    consumer_group_heartbeat(w.group, &w.env, &rq, 1, &client, STR_NULL, &w.arena, &w.out, &reply);
    world_commit(&w);
    ck_assert_int_gt(consumer_group_deadline_ms(w.group, &w.env), w.env.now_ms);
    struct k_join_group_request jr;
    struct k_join_group_request_protocols protocol = {STR_LIT("range"), subscription(1, "t", 0, 0)};
    k_join_group_request_init(&jr);
    jr.group_instance_id = STR_LIT("i");
    jr.session_timeout_ms = 30000;
    jr.rebalance_timeout_ms = 60000;
    jr.protocol_type = STR_LIT("consumer");
    jr.protocols = &protocol;
    jr.protocols_n = 1;
    consumer_group_join(w.group, &w.env, &jr, 9, &client, STR_LIT("fresh"), &w.arena, &w.out, &joined);
    ck_assert_int_eq(joined.error_code, 0);
    world_commit(&w);
    ck_assert_uint_eq(w.group->member_count, 1);
    ck_assert_int_eq(consumer_group_deadline_ms(w.group, &w.env), w.env.now_ms);
    ck_assert_int_eq(consumer_group_tick(w.group, &w.env, &w.arena, &w.out), CONSUMER_GROUP_RECORDS);
    ck_assert(consumer_group_downgrades(&w.out));
    world_commit(&w);
    ck_assert(consumer_group_is_gone(w.group));
}
END_TEST

START_TEST(leave_group_removes_members) {
    world_topic(&w, "t", 2);
    w.env.migration = GROUP_MIGRATION_UPGRADE;
    ck_assert_str_eq(heartbeat("a", 0, "t"), "1 0 1");
    ck_assert_int_eq(join("b", 9, subscription(3, "t", 0, 0)), 0);
    ck_assert_int_eq(join("c", 9, subscription(3, "t", 0, 0)), 0);
    struct k_leave_group_request rq;
    struct k_leave_group_response rs;
    struct k_leave_group_request_members members[] = {{.member_id = STR_LIT("b")}, {.member_id = STR_LIT("a")}, {.member_id = STR_LIT("b")}, {.member_id = STR_LIT("z")}};
    k_leave_group_request_init(&rq);
    rq.members = members;
    rq.members_n = 4;
    consumer_group_leave(w.group, &w.env, &rq, 5, &w.arena, &w.out, &rs);
    static const int16_t codes[] = {0, 0, KERR_UNKNOWN_MEMBER_ID, KERR_UNKNOWN_MEMBER_ID}; /* a is of the consumer protocol */
    ck_assert_int_eq(rs.error_code, 0);
    for (int i = 0; i < 4; i++) ck_assert_int_eq(rs.members[i].error_code, codes[i]);
    world_commit(&w);
    ck_assert_uint_eq(w.group->member_count, 1);
    rq.member_id = STR_LIT("c");
    consumer_group_leave(w.group, &w.env, &rq, 1, &w.arena, &w.out, &rs);
    ck_assert_int_eq(rs.error_code, 0);
    world_commit(&w);
    ck_assert_uint_eq(w.group->member_count, 0);
}
END_TEST

/* 1,000 members, 1,000 partitions: assignments are due as jobs, each computed once; a heartbeat that changes nothing keeps nothing. */
START_TEST(a_large_group) {
    world_topic(&w, "t", 1000);
    w.env.assignment_interval_ms = 1000;
    char ids[1000][16];
    int jobs = 0;
    for (int i = 0; i < 1000; i++) {
        snprintf(ids[i], sizeof ids[i], "m%03d", i);
        arena_reset(&w.arena);
        heartbeat(ids[i], 0, "t");
        ck_assert_int_eq(reply.error_code, 0);
        w.env.now_ms += 10;
    }
    for (int round = 0; round < 8 && consumer_group_state(w.group) != CONSUMER_GROUP_STABLE; round++) {
        w.env.now_ms += 1000;
        arena_reset(&w.arena);
        if (consumer_group_tick(w.group, &w.env, &w.arena, &w.out) == CONSUMER_GROUP_ASSIGN) {
            struct consumer_group_assign *job = consumer_group_assign_begin(w.group, &w.env);
            ck_assert_ptr_nonnull(job);
            ck_assert_int_eq(consumer_group_tick(w.group, &w.env, &w.arena, &w.out), CONSUMER_GROUP_NOTHING);
            consumer_group_assign_run(job);
            consumer_group_assign_finish(w.group, &w.env, job, &w.out);
            world_commit(&w);
            jobs++;
        }
        for (int i = 0; i < 1000; i++) {
            struct consumer_member *m = consumer_member_find(w.group, str_from(ids[i]));
            struct k_consumer_group_heartbeat_request rq;
            arena_reset(&w.arena);
            k_consumer_group_heartbeat_request_init(&rq);
            rq.group_id = STR_LIT("g");
            rq.member_id = str_from(ids[i]);
            rq.member_epoch = m->current.epoch;
            rq.subscribed_topic_names_n = -1;
            struct group_topic_parts *topics;
            ck_assert_int_eq(group_parts_by_topic(&m->current.assigned, &w.arena, &topics, &rq.topic_partitions_n), OK);
            rq.topic_partitions = (void *)topics;
            consumer_group_heartbeat(w.group, &w.env, &rq, 1, &client, STR_NULL, &w.arena, &w.out, &reply);
            ck_assert_int_eq(reply.error_code, 0);
            world_commit(&w);
        }
    }
    ck_assert_int_eq(consumer_group_state(w.group), CONSUMER_GROUP_STABLE);
    ck_assert_int_eq(jobs, 1);
    for (int i = 0; i < 1000; i++) ck_assert_uint_eq(consumer_member_find(w.group, str_from(ids[i]))->current.assigned.n, 1);
    int64_t bytes = consumer_group_bytes(w.group);
    size_t log = w.log_n;
    arena_reset(&w.arena);
    int32_t epoch = consumer_group_epoch(w.group);
    for (int i = 0; i < 1000; i++) heartbeat(ids[i], epoch, "t");
    ck_assert_int_eq(consumer_group_bytes(w.group), bytes);
    ck_assert_uint_eq(w.log_n, log);
    ck_assert_uint_lt(w.arena.used_bytes, 1000 * 64); /* what an answer takes */
}
END_TEST

int main(void) {
    Suite *s = suite_create("group_migration");
    TCase *t = tcase_create("group_migration");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, classic_member_joins_a_consumer_group);
    tcase_add_test(t, joins_that_do_not_fit);
    tcase_add_test(t, classic_members_that_are_late);
    tcase_add_test(t, upgrade_and_downgrade);
    tcase_add_test(t, downgrade_is_due);
    tcase_add_test(t, leave_group_removes_members);
    tcase_add_test(t, a_large_group);
    suite_add_tcase(s, t);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
