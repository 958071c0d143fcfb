/* Groups on a whole broker with two reactors: coordinators, committed offsets. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include "proto/kafka_errors.h"
#include "server/group_coordinator.h"
#include "tests/unit/broker_fixture.h"

enum { KEY_OFFSET_COMMIT = 8, KEY_OFFSET_FETCH = 9 };

static struct fixture f;
static struct client c;

static void set_up_with(const char *settings) {
    fixture_start(&f, settings);
    client_open(&c, &f);
    ck_assert_int_eq(create_topic(&c, "t", 4), 0);
}
static void set_up(void) { set_up_with("offsets.topic.num.partitions=4\n"); }
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

int main(void) {
    Suite *s = suite_create("api_groups");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, the_first_group_makes_the_topic);
    tcase_add_test(t, partitions_are_javas);
    tcase_add_test(t, every_version_of_commit_and_fetch);
    tcase_add_test(t, what_a_commit_may_not);
    tcase_add_test(t, committed_offsets_survive_a_restart);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
