/* Groups on a whole broker with two reactors: coordinators, committed offsets, members of both protocols. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include "proto/kafka_errors.h"
#include "server/group_config.h"
#include "server/group_coordinator_impl.h"
#include "tests/unit/broker_fixture.h"

enum { KEY_OFFSET_COMMIT = 8, KEY_OFFSET_FETCH = 9, KEY_JOIN = 11, KEY_HEARTBEAT = 12, KEY_LEAVE = 13, KEY_SYNC = 14,
       KEY_DESCRIBE = 15, KEY_LIST = 16, KEY_DELETE = 42, KEY_OFFSET_DELETE = 47,
       KEY_GROUP_HEARTBEAT = 68, KEY_GROUP_DESCRIBE = 69 };

static struct fixture f;
static struct client c;

static void set_up_with(const char *settings) {
    fixture_start(&f, settings);
    client_open(&c, &f);
    ck_assert_int_eq(create_topic(&c, "t", 4), 0);
}
static void set_up(void) {
    set_up_with("offsets.topic.num.partitions=4\ngroup.initial.rebalance.delay.ms=0\ngroup.min.session.timeout.ms=100\n");
}
static void tear_down(void) {
    client_close(&c);
    fixture_stop(&f);
}

static int16_t find_coordinator(int16_t v, const char *group) {
    struct k_find_coordinator_request q;
    struct k_find_coordinator_response a;
    struct str keys[2] = {str_from(group), STR_LIT("another")};
    k_find_coordinator_request_init(&q);
    if (v < 4) q.key = keys[0];
    else q.coordinator_keys = keys;
    q.coordinator_keys_n = v < 4 ? 0 : 2;
    CALL(&c, KEY_FIND_COORDINATOR, v, find_coordinator, q, a);
    if (v < 4) {
        if (!a.error_code) ck_assert(a.node_id == FIXTURE_ID && a.port == f.port && str_is(a.host, "127.0.0.1"));
        return a.error_code;
    }
    ck_assert_int_eq(a.coordinators_n, 2);
    ck_assert(str_is(a.coordinators[1].key, "another"));
    if (!a.coordinators[0].error_code) ck_assert(a.coordinators[0].node_id == FIXTURE_ID && a.coordinators[0].port == f.port);
    return a.coordinators[0].error_code;
}

struct committer { int32_t generation; const char *member, *instance; };

static int16_t commit_as(int16_t v, const char *group, struct committer who, const char *topic, int32_t partition, int64_t offset,
                         const char *metadata) {
    struct k_offset_commit_request q;
    struct k_offset_commit_response a;
    struct k_offset_commit_request_topics t;
    struct k_offset_commit_request_topics_partitions p;
    k_offset_commit_request_init(&q);
    k_offset_commit_request_topics_init(&t);
    k_offset_commit_request_topics_partitions_init(&p);
    q.group_id = str_from(group);
    q.generation_id_or_member_epoch = who.generation;
    q.member_id = str_from(who.member);
    if (v >= 7) q.group_instance_id = str_from(who.instance);
    if (v < 10) t.name = str_from(topic);
    else t.topic_id = topic_id(&c, topic);
    p.partition_index = partition;
    p.committed_offset = offset;
    if (v >= 6) p.committed_leader_epoch = 1;
    p.committed_metadata = str_from(metadata);
    t.partitions = &p;
    q.topics = &t;
    t.partitions_n = q.topics_n = 1;
    CALL(&c, KEY_OFFSET_COMMIT, v, offset_commit, q, a);
    ck_assert_int_eq(a.topics_n, 1);
    ck_assert(v >= 10 ? uuid_eq(&a.topics[0].topic_id, &t.topic_id) : str_is(a.topics[0].name, topic));
    ck_assert_int_eq(a.topics[0].partitions[0].partition_index, partition);
    return a.topics[0].partitions[0].error_code;
}
static int16_t commit(int16_t v, const char *group, const char *topic, int32_t partition, int64_t offset) {
    return commit_as(v, group, (struct committer){-1, "", NULL}, topic, partition, offset, NULL);
}

struct fetched_offset { int16_t error, group_error; int64_t offset; int32_t epoch; char metadata[64]; int32_t topics; };

static void take(struct fetched_offset *r, int64_t offset, int32_t epoch, struct str metadata, int16_t error) {
    r->offset = offset;
    r->epoch = epoch;
    r->error = error;
    snprintf(r->metadata, sizeof r->metadata, "%.*s", metadata.len, metadata.p ? metadata.p : "");
}

/* Partition `partition` of `topic`; a null topic: all, of which the first is shown. */
static struct fetched_offset committed(int16_t v, const char *group, const char *topic, int32_t partition) {
    struct k_offset_fetch_request q;
    struct k_offset_fetch_response a;
    struct k_offset_fetch_request_topics t = {.name = str_from(topic), .partition_indexes = &partition, .partition_indexes_n = 1};
    struct k_offset_fetch_request_groups g;
    struct k_offset_fetch_request_groups_topics gt = {.name = t.name, .partition_indexes = &partition, .partition_indexes_n = 1};
    struct fetched_offset r = {0};
    k_offset_fetch_request_init(&q);
    k_offset_fetch_request_groups_init(&g);
    if (v < 8) {
        q.group_id = str_from(group);
        q.topics = topic ? &t : NULL;
        q.topics_n = topic ? 1 : -1;
    } else {
        if (v >= 10 && topic) gt.topic_id = topic_id(&c, topic);
        g.group_id = str_from(group);
        g.topics = topic ? &gt : NULL;
        g.topics_n = topic ? 1 : -1;
        q.groups = &g;
        q.groups_n = 1;
    }
    if (v >= 7) q.require_stable = v % 2;
    CALL(&c, KEY_OFFSET_FETCH, v, offset_fetch, q, a);
    r.group_error = v < 8 ? a.error_code : a.groups[0].error_code;
    r.topics = v < 8 ? a.topics_n : a.groups[0].topics_n;
    r.offset = -2;
    if (r.topics <= 0) return r;
    if (v < 8) {
        const struct k_offset_fetch_response_topics_partitions *p = &a.topics[0].partitions[0];
        take(&r, p->committed_offset, v >= 5 ? p->committed_leader_epoch : -1, p->metadata, p->error_code);
    } else {
        const struct k_offset_fetch_response_groups_topics_partitions *p = &a.groups[0].topics[0].partitions[0];
        take(&r, p->committed_offset, p->committed_leader_epoch, p->metadata, p->error_code);
    }
    return r;
}

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

/* ---- members ------------------------------------------------------------------------------------------------ */

struct joiner {
    const char *member, *instance, *protocols[2], *metadata; /* metadata "": the protocol's name */
    int32_t session_ms, rebalance_ms;
    const char *type;
};

static void join_send(struct client *on, int16_t v, const char *group, struct joiner j) {
    struct k_join_group_request q;
    struct k_join_group_request_protocols p[2];
    k_join_group_request_init(&q);
    q.group_id = str_from(group);
    q.session_timeout_ms = j.session_ms ? j.session_ms : 30000;
    if (v >= 1) q.rebalance_timeout_ms = j.rebalance_ms ? j.rebalance_ms : 60000;
    q.member_id = str_from(j.member ? j.member : "");
    if (v >= 5) q.group_instance_id = str_from(j.instance);
    q.protocol_type = str_from(j.type ? j.type : "consumer");
    for (int i = 0; i < 2 && j.protocols[i]; i++) {
        k_join_group_request_protocols_init(&p[i]);
        p[i].name = str_from(j.protocols[i]);
        const char *metadata = j.metadata ? j.metadata : j.protocols[i];
        p[i].metadata = (struct bytes){(const uint8_t *)metadata, (int32_t)strlen(metadata)};
        q.protocols_n = i + 1;
    }
    q.protocols = p;
    k_join_group_request_encode(&q, client_begin(on, KEY_JOIN, v), v);
    client_send(on);
}
static struct k_join_group_response join_receive(struct client *on, int16_t v) {
    struct k_join_group_response a;
    struct wire_reader r;
    ck_assert(client_receive(on, &r));
    ck_assert_int_eq(k_join_group_response_decode(&a, &r, v), OK);
    ck_assert_uint_eq(wire_left(&r), 0);
    return a;
}
static struct k_join_group_response join(struct client *on, int16_t v, const char *group, struct joiner j) {
    join_send(on, v, group, j);
    return join_receive(on, v);
}

struct member { char id[128]; int32_t generation; bool leads; };
static struct member member_of(const struct k_join_group_response *a) {
    struct member m = {.generation = a->generation_id, .leads = str_eq(a->leader, a->member_id)};
    ck_assert_int_eq(a->error_code, 0);
    snprintf(m.id, sizeof m.id, "%.*s", a->member_id.len, a->member_id.p);
    return m;
}

static void sync_send(struct client *on, int16_t v, const char *group, const struct member *m, const char *instance, const struct member *all,
                      int count) {
    struct k_sync_group_request q;
    struct k_sync_group_request_assignments assignments[4];
    k_sync_group_request_init(&q);
    q.group_id = str_from(group);
    q.generation_id = m->generation;
    q.member_id = str_from(m->id);
    if (v >= 3) q.group_instance_id = str_from(instance);
    if (v >= 5) q.protocol_type = STR_LIT("consumer");
    if (v >= 5) q.protocol_name = STR_LIT("range");
    for (int i = 0; i < count; i++) {
        k_sync_group_request_assignments_init(&assignments[i]);
        assignments[i].member_id = str_from(all[i].id);
        assignments[i].assignment = (struct bytes){(const uint8_t *)all[i].id, (int32_t)strlen(all[i].id)}; /* its own id */
    }
    q.assignments = assignments;
    q.assignments_n = count;
    k_sync_group_request_encode(&q, client_begin(on, KEY_SYNC, v), v);
    client_send(on);
}
static struct k_sync_group_response sync_receive(struct client *on, int16_t v) {
    struct k_sync_group_response a;
    struct wire_reader r;
    ck_assert(client_receive(on, &r));
    ck_assert_int_eq(k_sync_group_response_decode(&a, &r, v), OK);
    ck_assert_uint_eq(wire_left(&r), 0);
    return a;
}
static void assigned_own_id(struct client *on, int16_t v, const struct member *m) {
    struct k_sync_group_response a = sync_receive(on, v);
    ck_assert_int_eq(a.error_code, 0);
    ck_assert_int_eq(a.assignment.len, (int32_t)strlen(m->id));
    ck_assert_mem_eq(a.assignment.p, m->id, (size_t)a.assignment.len);
    if (v >= 5) ck_assert(str_is(a.protocol_type, "consumer") && str_is(a.protocol_name, "range"));
}

static int16_t heartbeat(int16_t v, const char *group, const struct member *m, const char *instance) {
    struct k_heartbeat_request q;
    struct k_heartbeat_response a;
    k_heartbeat_request_init(&q);
    q.group_id = str_from(group);
    q.member_id = str_from(m->id);
    q.generation_id = m->generation;
    if (v >= 3) q.group_instance_id = str_from(instance);
    CALL(&c, KEY_HEARTBEAT, v, heartbeat, q, a);
    return a.error_code;
}

/* The error of the member, or of all. */
static int16_t leave(int16_t v, const char *group, const char *member, const char *instance) {
    struct k_leave_group_request q;
    struct k_leave_group_response a;
    struct k_leave_group_request_members m;
    k_leave_group_request_init(&q);
    k_leave_group_request_members_init(&m);
    q.group_id = str_from(group);
    if (v < 3) q.member_id = str_from(member);
    m.member_id = str_from(member);
    m.group_instance_id = str_from(instance);
    q.members = &m;
    q.members_n = v < 3 ? 0 : 1;
    CALL(&c, KEY_LEAVE, v, leave_group, q, a);
    if (v < 3 || a.error_code) return a.error_code;
    ck_assert_int_eq(a.members_n, 1);
    ck_assert(str_is(a.members[0].member_id, member));
    return a.members[0].error_code;
}

static const struct joiner range = {.protocols = {"range"}};

/* As `range`, with the id that it is given first from version 4 on. */
static struct member join_alone(struct client *on, int16_t v, const char *group) {
    struct joiner j = range;
    char id[128];
    struct k_join_group_response a = join(on, v, group, j);
    if (v >= 4) {
        ck_assert_int_eq(a.error_code, KERR_MEMBER_ID_REQUIRED);
        snprintf(id, sizeof id, "%.*s", a.member_id.len, a.member_id.p);
        j.member = id;
        a = join(on, v, group, j);
    }
    return member_of(&a);
}

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

/* ---- what administrators ask ------------------------------------------------------------------------------------ */

/* "group/protocol type/state/type " of each, in order of names. */
static const char *list_groups(int16_t v, const char *state, const char *type) {
    static char text[1024];
    struct k_list_groups_request q;
    struct k_list_groups_response a;
    struct str states[2] = {STR_LIT("dead"), str_from(state)}, types = str_from(type);
    k_list_groups_request_init(&q);
    q.states_filter = states;
    q.states_filter_n = v >= 4 && state ? 2 : 0;
    q.types_filter = &types;
    q.types_filter_n = v >= 5 && type ? 1 : 0;
    CALL(&c, KEY_LIST, v, list_groups, q, a);
    ck_assert_int_eq(a.error_code, 0);
    text[0] = 0;
    for (char first = 'a'; first <= 'z'; first++)
        for (int32_t i = 0; i < a.groups_n; i++) {
            const struct k_list_groups_response_groups *g = &a.groups[i];
            if (g->group_id.p[0] != first) continue;
            snprintf(text + strlen(text), sizeof text - strlen(text), "%.*s/%.*s/%.*s/%.*s ", g->group_id.len, g->group_id.p,
                     g->protocol_type.len, g->protocol_type.p, g->group_state.len, g->group_state.p, g->group_type.len, g->group_type.p);
        }
    return text;
}

static struct k_describe_groups_response_groups describe(int16_t v, const char *group) {
    struct k_describe_groups_request q;
    struct k_describe_groups_response a;
    struct str names[2] = {str_from(group), STR_LIT("nobody's")};
    k_describe_groups_request_init(&q);
    q.groups = names;
    q.groups_n = 2;
    if (v >= 3) q.include_authorized_operations = true;
    CALL(&c, KEY_DESCRIBE, v, describe_groups, q, a);
    ck_assert_int_eq(a.groups_n, 2);
    ck_assert(str_is(a.groups[1].group_id, "nobody's") && str_is(a.groups[1].group_state, "Dead"));
    ck_assert_int_eq(a.groups[1].error_code, v >= 6 ? KERR_GROUP_ID_NOT_FOUND : 0);
    if (v >= 3) ck_assert_int_eq(a.groups[0].authorized_operations, 3400);
    return a.groups[0];
}

static int16_t delete_group(int16_t v, const char *group) {
    struct k_delete_groups_request q;
    struct k_delete_groups_response a;
    struct str names[2] = {STR_LIT("nobody's"), str_from(group)};
    k_delete_groups_request_init(&q);
    q.groups_names = names;
    q.groups_names_n = 2;
    CALL(&c, KEY_DELETE, v, delete_groups, q, a);
    ck_assert_int_eq(a.results[0].error_code, KERR_GROUP_ID_NOT_FOUND);
    ck_assert(str_is(a.results[1].group_id, group));
    return a.results[1].error_code;
}

/* The error of the partition, or of all. */
static int16_t delete_offset(const char *group, const char *topic, int32_t partition) {
    struct k_offset_delete_request q;
    struct k_offset_delete_response a;
    struct k_offset_delete_request_topics t;
    struct k_offset_delete_request_topics_partitions p = {partition};
    k_offset_delete_request_init(&q);
    k_offset_delete_request_topics_init(&t);
    q.group_id = str_from(group);
    t.name = str_from(topic);
    t.partitions = &p;
    q.topics = &t;
    q.topics_n = t.partitions_n = 1;
    CALL(&c, KEY_OFFSET_DELETE, 0, offset_delete, q, a);
    return a.error_code ? a.error_code : a.topics[0].partitions[0].error_code;
}

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

/* ---- the consumer protocol (KIP-848) ----------------------------------------------------------------------------- */

struct beat { int16_t error; char member[64]; int32_t epoch, partitions; bool assigned; };

/* A heartbeat of a member that subscribes to "t"; `owned`: how many partitions it says it has, from `first` on; -1: as before. */
static struct beat beat(const char *group, const char *member, int32_t epoch, int32_t first, int32_t owned) {
    struct k_consumer_group_heartbeat_request q;
    struct k_consumer_group_heartbeat_response a;
    struct str names = STR_LIT("t");
    int32_t list[8];
    struct k_consumer_group_heartbeat_request_topic_partitions tp = {.topic_id = topic_id(&c, "t"), .partitions = list, .partitions_n = owned};
    struct beat r = {0};
    for (int32_t i = 0; i < owned; i++) list[i] = first + i;
    k_consumer_group_heartbeat_request_init(&q);
    q.group_id = str_from(group);
    q.member_id = str_from(member);
    q.member_epoch = epoch;
    if (epoch == 0) {
        q.rebalance_timeout_ms = 60000;
        q.subscribed_topic_names = &names;
        q.subscribed_topic_names_n = 1;
    }
    if (owned >= 0) {
        q.topic_partitions = &tp;
        q.topic_partitions_n = owned > 0;
    }
    CALL(&c, KEY_GROUP_HEARTBEAT, 1, consumer_group_heartbeat, q, a);
    r.error = a.error_code;
    r.epoch = a.member_epoch;
    r.assigned = a.assignment != NULL;
    snprintf(r.member, sizeof r.member, "%.*s", a.member_id.len, a.member_id.p ? a.member_id.p : "");
    for (int32_t i = 0; a.assignment && i < a.assignment->topic_partitions_n; i++) r.partitions += a.assignment->topic_partitions[i].partitions_n;
    return r;
}

static struct k_consumer_group_describe_response_groups group_describe(int16_t v, const char *group) {
    struct k_consumer_group_describe_request q;
    struct k_consumer_group_describe_response a;
    struct str names[2] = {str_from(group), STR_LIT("nobody's")};
    k_consumer_group_describe_request_init(&q);
    q.group_ids = names;
    q.group_ids_n = 2;
    q.include_authorized_operations = true;
    CALL(&c, KEY_GROUP_DESCRIBE, v, consumer_group_describe, q, a);
    ck_assert_int_eq(a.groups[1].error_code, KERR_GROUP_ID_NOT_FOUND);
    ck_assert_int_eq(a.groups[0].authorized_operations, 3400);
    return a.groups[0];
}

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

static void delete_topic(const char *name) {
    struct k_delete_topics_request q;
    struct k_delete_topics_response a;
    struct str names = str_from(name);
    k_delete_topics_request_init(&q);
    q.topic_names = &names;
    q.topic_names_n = 1;
    q.timeout_ms = 30000;
    CALL(&c, KEY_DELETE_TOPICS, 5, delete_topics, q, a);
    ck_assert_int_eq(a.responses[0].error_code, 0);
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

static struct group *group_of(const char *name) {
    for (uint32_t i = 0; i < FIXTURE_REACTORS; i++)
        LIST_FOREACH(it, &f.b.reactors[i].groups->all) {
            struct group *g = LIST_ENTRY(it, struct coordinator, link)->groups;
            for (; g; g = g->hh.next)
                if (str_is(group_id(g), name)) return g;
        }
    ck_abort_msg("no group %s", name);
}

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
    tcase_add_test(t, every_version_of_a_members_life);
    tcase_add_test(t, two_members_meet_in_a_generation);
    tcase_add_test(t, what_a_join_may_not);
    tcase_add_test(t, a_join_with_too_many_protocols);
    tcase_add_test(t, a_given_id_is_no_static_members);
    tcase_add_test(t, a_static_member_comes_back);
    tcase_add_test(t, a_silent_member_is_put_out);
    tcase_add_test(t, members_survive_a_restart);
    tcase_add_test(t, a_stop_sends_those_who_wait_away);
    tcase_add_test(t, groups_are_listed_and_described);
    tcase_add_test(t, groups_and_offsets_are_deleted);
    tcase_add_test(t, an_endless_retention);
    tcase_add_test(t, configs_of_too_many_groups);
    tcase_add_test(t, groups_whose_memory_is_used_up);
    tcase_add_test(t, a_clock_that_jumped_expires_nothing);
    tcase_add_test(t, more_groups_than_one_turn_lists);
    tcase_add_test(t, the_topic_keeps_its_partitions);
    tcase_add_test(t, a_deadline_of_a_coordinator_that_is_gone);
    tcase_add_test(t, offsets_expire_and_empty_groups_go);
    tcase_add_test(t, a_topic_takes_its_offsets_with_it);
    tcase_add_test(t, consumers_share_a_topic);
    tcase_add_test(t, a_group_changes_its_protocol);
    tcase_add_test(t, a_full_disk_changes_nothing);
    tcase_add_test(t, many_members_meet);
    tcase_add_test(t, a_group_has_configs_of_its_own);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
