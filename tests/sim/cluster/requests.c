/* requests.c - requests about one partition that several of the client programs send. */
#include "proto/kafka_errors.h"
#include "tests/sim/cluster/cluster.h"

void request_fetch(struct client *cl, const char *topic, struct k_fetch_request_topics_partitions *x, int32_t wait_ms, int32_t bytes) {
    struct k_fetch_request q;
    struct k_fetch_request_topics t;
    k_fetch_request_init(&q);
    k_fetch_request_topics_init(&t);
    q.max_wait_ms = wait_ms;
    q.min_bytes = 1;
    q.max_bytes = bytes;
    t.topic = str_from(topic);
    t.partitions = x;
    t.partitions_n = 1;
    q.topics = &t;
    q.topics_n = 1;
    k_fetch_request_encode(&q, call_begin(cl, API_FETCH, 12), 12);
}

void request_offset(struct client *cl, const char *topic, uint32_t partition, int32_t leader_epoch, int64_t timestamp) {
    struct k_list_offsets_request q;
    struct k_list_offsets_request_topics t;
    struct k_list_offsets_request_topics_partitions x;
    k_list_offsets_request_init(&q);
    k_list_offsets_request_topics_init(&t);
    k_list_offsets_request_topics_partitions_init(&x);
    q.replica_id = -1;
    x.partition_index = (int32_t)partition;
    x.current_leader_epoch = leader_epoch;
    x.timestamp = timestamp;
    t.name = str_from(topic);
    t.partitions = &x;
    t.partitions_n = 1;
    q.topics = &t;
    q.topics_n = 1;
    k_list_offsets_request_encode(&q, call_begin(cl, API_LIST_OFFSETS, 6), 6);
}

void request_commit(struct client *cl, struct k_offset_commit_request *q, int16_t version, const char *topic, int32_t partition, int64_t offset) {
    struct k_offset_commit_request_topics t;
    struct k_offset_commit_request_topics_partitions x;
    k_offset_commit_request_topics_init(&t);
    k_offset_commit_request_topics_partitions_init(&x);
    x.partition_index = partition;
    x.committed_offset = offset;
    t.name = str_from(topic);
    t.partitions = &x;
    t.partitions_n = 1;
    q->topics = &t;
    q->topics_n = 1;
    k_offset_commit_request_encode(q, call_begin(cl, API_OFFSET_COMMIT, version), version);
}

void request_committed(struct client *cl, struct k_offset_fetch_request_groups *g, int16_t version, const char *topic, int32_t partition) {
    struct k_offset_fetch_request q;
    struct k_offset_fetch_request_groups_topics t;
    k_offset_fetch_request_init(&q);
    k_offset_fetch_request_groups_topics_init(&t);
    t.name = str_from(topic);
    t.partition_indexes = &partition;
    t.partition_indexes_n = 1;
    g->topics = &t;
    g->topics_n = 1;
    q.groups = g;
    q.groups_n = 1;
    k_offset_fetch_request_encode(&q, call_begin(cl, API_OFFSET_FETCH, version), version);
}

bool committed_told(const struct call *call, struct wire_reader *r, int16_t *error, int64_t *offset) {
    struct k_offset_fetch_response a;
    *offset = OFFSET_UNTOLD;
    if (!r || k_offset_fetch_response_decode(&a, r, call->version) != OK || a.groups_n != 1) return false;
    *error = a.groups[0].error_code;
    if (*error != KERR_NONE || a.groups[0].topics_n != 1 || a.groups[0].topics[0].partitions_n != 1) return true;
    *error = a.groups[0].topics[0].partitions[0].error_code;
    if (*error == KERR_NONE) *offset = a.groups[0].topics[0].partitions[0].committed_offset;
    return true;
}
