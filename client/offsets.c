/* offsets.c - ListOffsets: from a time, or a word like "latest", to an offset. */
#include <limits.h>

#include "client/core.h"
#include "proto/kafka_errors.h"
#include "proto/kafka_messages.h"

static void encode_list_offsets(const void *message, struct wire_writer *w, int16_t version) {
    k_list_offsets_request_encode(message, w, version);
}

static enum err decode_list_offsets(void *response, struct wire_reader *r, int16_t version) {
    return k_list_offsets_response_decode(response, r, version);
}

struct question {
    const struct topic_meta *topic;
    int32_t partition;
    int64_t timestamp_ms;
};

/* One attempt at the leader. `*code` is the partition's error. */
static enum err ask_leader(struct client *c, const struct question *q, const struct partition_meta *leader,
                           int64_t deadline_ns, struct client_offset *out, int16_t *code) {
    struct k_list_offsets_request m;
    struct k_list_offsets_request_topics topic;
    struct k_list_offsets_request_topics_partitions partition;
    k_list_offsets_request_init(&m);
    k_list_offsets_request_topics_init(&topic);
    k_list_offsets_request_topics_partitions_init(&partition);
    partition.partition_index = q->partition;
    partition.current_leader_epoch = leader->leader_epoch;
    partition.timestamp = q->timestamp_ms;
    topic.name = str_from(q->topic->name);
    topic.partitions = &partition;
    topic.partitions_n = 1;
    m.replica_id = -1;
    m.topics = &topic;
    m.topics_n = 1;
    struct k_list_offsets_response res;
    struct client_exchange x = {.api_key = API_LIST_OFFSETS, .version_max = INT16_MAX, .broker = leader->leader,
                                .request = &m, .encode = encode_list_offsets,
                                .response = &res, .decode = decode_list_offsets};
    struct client_reply reply;
    int64_t left_ms = (deadline_ns - client_now_ns()) / 1000000 + 1;
    int32_t timeout_ms = deadline_ns == INT64_MAX ? -1 : (int32_t)MAX(0, MIN(left_ms, (int64_t)INT32_MAX));
    enum err err = client_call(c, &x, timeout_ms, &reply);
    if (err) return err;
    bool answered = res.topics_n == 1 && res.topics[0].partitions_n == 1 &&
                    res.topics[0].partitions[0].partition_index == q->partition;
    if (answered) {
        const struct k_list_offsets_response_topics_partitions *p = &res.topics[0].partitions[0];
        *code = p->error_code;
        *out = (struct client_offset){.offset = p->offset, .timestamp = p->timestamp, .leader_epoch = p->leader_epoch};
    } else {
        err = client_fail(c, ERR_CORRUPT, 0, "the answer to ListOffsets is about something else");
    }
    client_reply_free(&reply);
    return err;
}

enum err client_list_offset(struct client *c, const char *topic, int32_t partition, int64_t timestamp_ms,
                            int32_t timeout_ms, struct client_offset *out) {
    int64_t deadline_ns = client_deadline(timeout_ms);
    struct topic_meta *t = metadata_topic(c, topic, false);
    if (!t) return client_fail(c, ERR_NOMEM, 0, "out of memory");
    struct question q = {t, partition, timestamp_ms};
    enum err err = metadata_wait(c, t, deadline_ns);
    for (int32_t attempt = 0; !err; attempt++) {
        int16_t code = KERR_NONE;
        const struct partition_meta *leader = metadata_leader(t, partition);
        if (partition < 0 || partition >= t->partition_count) {
            return client_fail(c, ERR_NOT_FOUND, 0, "topic \"%s\" has %d partitions, not partition %d", topic,
                               t->partition_count, partition);
        }
        if (leader) err = ask_leader(c, &q, leader, deadline_ns, out, &code);
        else code = KERR_LEADER_NOT_AVAILABLE;
        if (!err && code == KERR_NONE) return OK;
        if (!err) err = client_fail_code(c, code, STR_NULL, "ListOffsets of \"%s\" partition %d", topic, partition);
        bool again = code != KERR_NONE && kafka_error_retriable(code);
        again |= err == ERR_CLOSED || err == ERR_TIMEOUT;
        if (!again) return err;
        metadata_want(c);
        if (!client_pause(c, attempt, deadline_ns)) return err;
        err = OK;
    }
    return err;
}
