/* cluster_calls.h - requests to the brokers of cluster_world.h, in short. */
#ifndef TESTS_UNIT_CLUSTER_CALLS_H
#define TESTS_UNIT_CLUSTER_CALLS_H
#include "tests/unit/cluster_world.h"

static inline int32_t other_than(int32_t id) { return id % BROKERS + 1; }

/* ---- topics ------------------------------------------------------------------------------------------------------ */

/* The error code; -1000: no answer. */
static inline int16_t create_at(int32_t id, const char *name, int32_t partitions, int16_t replicas) {
    struct k_create_topics_request q;
    struct k_create_topics_response a;
    struct k_create_topics_request_topics t;
    k_create_topics_request_init(&q);
    k_create_topics_request_topics_init(&t);
    t.name = str_from(name);
    t.num_partitions = partitions;
    t.replication_factor = replicas;
    q.topics = &t;
    q.topics_n = 1;
    q.timeout_ms = 30000;
    if (!TRY(id, API_CREATE_TOPICS, 7, create_topics, q, a)) return -1000;
    ck_assert_int_eq(a.topics_n, 1);
    return a.topics[0].error_code;
}

static inline struct k_metadata_response metadata_of(int32_t id, const char *topic, bool create) {
    struct k_metadata_request q;
    struct k_metadata_response a;
    struct k_metadata_request_topics t;
    k_metadata_request_init(&q);
    k_metadata_request_topics_init(&t);
    t.name = str_from(topic);
    q.topics = &t;
    q.topics_n = 1;
    q.allow_auto_topic_creation = create;
    ck_assert(TRY(id, API_METADATA, 12, metadata, q, a));
    ck_assert_int_eq(a.topics_n, 1);
    return a;
}

/* Partition 0's leader as `id` says; -1: none. */
static inline int32_t leader_at(int32_t id, const char *topic) {
    struct k_metadata_response a = metadata_of(id, topic, false);
    return a.topics[0].error_code || a.topics[0].partitions_n == 0 ? -1 : a.topics[0].partitions[0].leader_id;
}
static inline int32_t await_leader(int32_t id, const char *topic) {
    for (int i = 0; i < 100; i++) {
        int32_t leader = leader_at(id, topic);
        if (leader > 0) return leader;
        world_run(50 * MS);
    }
    ck_abort_msg("no leader of %s after five seconds", topic);
}

struct produced { int16_t error; int32_t leader, epoch; uint16_t port; };
static inline struct produced produce_at(int32_t id, const char *topic) {
    struct k_produce_request q;
    struct k_produce_response a;
    struct k_produce_request_topic_data t;
    struct k_produce_request_topic_data_partition_data p;
    struct batch_builder b;
    uint8_t *batch;
    size_t len;
    batch_builder_init(&b, CODEC_NONE, 1 << 20);
    ck_assert_int_eq(batch_builder_add(&b, 1000, BYTES_NULL, (struct bytes){(const uint8_t *)"v", 1}, NULL, 0), OK);
    ck_assert_int_eq(batch_builder_finish(&b, &batch, &len), OK);
    batch_builder_free(&b);
    k_produce_request_init(&q);
    k_produce_request_topic_data_init(&t);
    k_produce_request_topic_data_partition_data_init(&p);
    p.records = (struct bytes){batch, (int32_t)len};
    t.name = str_from(topic);
    t.partition_data = &p;
    q.topic_data = &t;
    t.partition_data_n = q.topic_data_n = 1;
    q.acks = -1;
    q.timeout_ms = 5000;
    struct produced r = {.error = -1000};
    if (TRY(id, API_PRODUCE, 11, produce, q, a)) {
        const struct k_produce_response_responses_partition_responses *got = &a.responses[0].partition_responses[0];
        r = (struct produced){got->error_code, got->current_leader.leader_id, got->current_leader.leader_epoch, 0};
        if (a.node_endpoints_n > 0) r.port = (uint16_t)a.node_endpoints[0].port;
    }
    free(batch);
    return r;
}

struct fetched { int16_t error; int32_t preferred, bytes; int64_t high_watermark; };
static inline struct fetched fetch_at(int32_t id, const char *topic, int64_t offset, const char *rack, int16_t version) {
    struct k_fetch_request q;
    struct k_fetch_response a;
    struct k_fetch_request_topics t;
    struct k_fetch_request_topics_partitions p;
    k_fetch_request_init(&q);
    k_fetch_request_topics_init(&t);
    k_fetch_request_topics_partitions_init(&p);
    p.fetch_offset = offset;
    p.partition_max_bytes = 1 << 20;
    t.topic = str_from(topic);
    t.partitions = &p;
    q.topics = &t;
    t.partitions_n = q.topics_n = 1;
    q.max_bytes = 1 << 20;
    q.max_wait_ms = 0;
    if (version >= 11) q.rack_id = str_from(rack);
    ck_assert(TRY(id, API_FETCH, version, fetch, q, a));
    const struct k_fetch_response_responses_partitions *got = &a.responses[0].partitions[0];
    return (struct fetched){got->error_code, version >= 11 ? got->preferred_read_replica : -1, got->records.len, got->high_watermark};
}

/* ---- groups ------------------------------------------------------------------------------------------------------ */

/* 0: none. */
static inline int32_t coordinator_at(int32_t id, const char *group) {
    struct k_find_coordinator_request q;
    struct k_find_coordinator_response a;
    struct str keys[2] = {str_from(group), STR_LIT("another")};
    k_find_coordinator_request_init(&q);
    q.coordinator_keys = keys;
    q.coordinator_keys_n = 2;
    if (!TRY(id, API_FIND_COORDINATOR, 4, find_coordinator, q, a) || a.coordinators[0].error_code) return 0;
    ck_assert_int_eq(a.coordinators[0].port, KAFKA + a.coordinators[0].node_id);
    return a.coordinators[0].node_id;
}

static inline int16_t commit_at(int32_t id, const char *group, int64_t offset) {
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
    return TRY(id, API_OFFSET_COMMIT, 8, offset_commit, q, a) ? a.topics[0].partitions[0].error_code : -1000;
}

/* The question for what a group has committed of partition 0 of topic t; it points into itself. */
struct committed_question {
    struct k_offset_fetch_request q;
    struct k_offset_fetch_request_groups group;
    struct k_offset_fetch_request_groups_topics topic;
    int32_t partition;
};
static inline void committed_question_init(struct committed_question *x, const char *group) {
    x->partition = 0;
    x->topic = (struct k_offset_fetch_request_groups_topics){.name = STR_LIT("t"), .partition_indexes = &x->partition, .partition_indexes_n = 1};
    k_offset_fetch_request_init(&x->q);
    k_offset_fetch_request_groups_init(&x->group);
    x->group.group_id = str_from(group);
    x->group.topics = &x->topic;
    x->q.groups = &x->group;
    x->group.topics_n = x->q.groups_n = 1;
}
/* The offset; -1000 - error. */
static inline int64_t committed_answer(const struct k_offset_fetch_response *a) {
    return a->groups[0].error_code ? -1000 - a->groups[0].error_code : a->groups[0].topics[0].partitions[0].committed_offset;
}
/* The same; -3000: no answer. */
static inline int64_t committed_at(int32_t id, const char *group) {
    struct committed_question x;
    struct k_offset_fetch_response a;
    committed_question_init(&x, group);
    return TRY(id, API_OFFSET_FETCH, 8, offset_fetch, x.q, a) ? committed_answer(&a) : -3000;
}

static inline int32_t await_coordinator(int32_t at, const char *group) {
    for (int i = 0; i < 200; i++) {
        int32_t id = coordinator_at(at, group);
        if (id > 0) return id;
        world_run(50 * MS);
    }
    ck_abort_msg("no coordinator after ten seconds");
}
static inline int64_t await_committed(int32_t at, const char *group) {
    for (int i = 0; i < 200; i++) {
        int64_t offset = committed_at(await_coordinator(at, group), group);
        if (offset >= -1) return offset;
        world_run(50 * MS);
    }
    ck_abort_msg("committed offsets are not told within ten seconds");
}
#endif
