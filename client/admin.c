/* admin.c - topics and partitions: create, delete, grow, cut. */
#include "client/admin_impl.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/kafka_errors.h"
#include "proto/kafka_messages.h"

enum { VERSION_WITH_TOPIC_STRUCTS = 6 /* of DeleteTopics; earlier ones have plain names */ };

static bool worth_repeating(int16_t code) {
    return code == KERR_NOT_CONTROLLER || code == KERR_THROTTLING_QUOTA_EXCEEDED ||
           code == KERR_COORDINATOR_LOAD_IN_PROGRESS || code == KERR_COORDINATOR_NOT_AVAILABLE;
}

static int32_t left_ms(int64_t deadline_ns) {
    if (deadline_ns == INT64_MAX) return -1;
    return (int32_t)MAX((int64_t)0, MIN((deadline_ns - client_now_ns() + 999999) / 1000000, (int64_t)INT32_MAX));
}

enum err admin_run(struct client *c, const struct client_exchange *x, int32_t timeout_ms, admin_result_fn *result,
                   const char *what, struct client_reply *reply) {
    int64_t deadline_ns = client_deadline(timeout_ms);
    for (int32_t attempt = 0;; attempt++) {
        enum err err = client_call(c, x, left_ms(deadline_ns), reply);
        if (err) return err;
        struct admin_result res = {0};
        result(x->response, &res);
        if (res.present && res.code == KERR_NONE) return OK;
        if (res.present) err = client_fail_code(c, res.code, res.message, "%s", what);
        else err = client_fail(c, ERR_CORRUPT, 0, "%s: the answer is about something else", what);
        client_reply_free(reply);
        metadata_want(c);
        if (!worth_repeating(res.code) || !client_pause(c, attempt, deadline_ns)) return err;
    }
}

static int32_t broker_wait_ms(int32_t timeout_ms) { return timeout_ms < 0 ? INT32_MAX : timeout_ms; }

/* ---- create ----------------------------------------------------------------------------------- */

ADMIN_ADAPTERS(create_topics)

static void create_result(const void *response, struct admin_result *out) {
    const struct k_create_topics_response *m = response;
    if (m->topics_n == 1) *out = (struct admin_result){true, m->topics[0].error_code, m->topics[0].error_message};
}

enum err admin_create_topic(struct client *c, const struct admin_new_topic *topic, int32_t timeout_ms) {
    struct k_create_topics_request m;
    struct k_create_topics_request_topics t;
    k_create_topics_request_init(&m);
    k_create_topics_request_topics_init(&t);
    struct k_create_topics_request_topics_configs *configs = calloc((size_t)topic->setting_count + 1, sizeof *configs);
    if (!configs) return client_fail(c, ERR_NOMEM, 0, "out of memory");
    for (int32_t i = 0; i < topic->setting_count; i++) {
        configs[i].name = str_from(topic->settings[i].name);
        configs[i].value = str_from(topic->settings[i].value);
    }
    t.name = str_from(topic->name);
    t.num_partitions = topic->partitions;
    t.replication_factor = topic->replication_factor;
    t.configs = configs;
    t.configs_n = topic->setting_count;
    m.topics = &t;
    m.topics_n = 1;
    m.timeout_ms = broker_wait_ms(timeout_ms);
    m.validate_only = topic->validate_only;
    struct k_create_topics_response res;
    struct client_exchange x = {.api_key = API_CREATE_TOPICS, .version_max = INT16_MAX, .broker = CLIENT_CONTROLLER,
                                .request = &m, .encode = encode_create_topics,
                                .response = &res, .decode = decode_create_topics};
    struct client_reply reply;
    char what[300];
    snprintf(what, sizeof what, "create topic \"%s\"", topic->name);
    enum err err = admin_run(c, &x, timeout_ms, create_result, what, &reply);
    if (!err) client_reply_free(&reply);
    free(configs);
    return err;
}

/* ---- delete ----------------------------------------------------------------------------------- */

static void encode_delete_topics(const void *message, struct wire_writer *w, int16_t version) {
    const struct k_delete_topics_request *from = message;
    struct k_delete_topics_request m = *from;
    if (version >= VERSION_WITH_TOPIC_STRUCTS) m.topic_names_n = 0;
    else m.topics_n = 0;
    k_delete_topics_request_encode(&m, w, version);
}

static enum err decode_delete_topics(void *m, struct wire_reader *r, int16_t version) {
    return k_delete_topics_response_decode(m, r, version);
}

static void delete_result(const void *response, struct admin_result *out) {
    const struct k_delete_topics_response *m = response;
    if (m->responses_n == 1) {
        *out = (struct admin_result){true, m->responses[0].error_code, m->responses[0].error_message};
    }
}

enum err admin_delete_topic(struct client *c, const char *name, int32_t timeout_ms) {
    struct k_delete_topics_request m;
    struct k_delete_topics_request_topics t;
    struct str plain = str_from(name);
    k_delete_topics_request_init(&m);
    k_delete_topics_request_topics_init(&t);
    t.name = plain;
    m.topics = &t;
    m.topics_n = 1;
    m.topic_names = &plain;
    m.topic_names_n = 1;
    m.timeout_ms = broker_wait_ms(timeout_ms);
    struct k_delete_topics_response res;
    struct client_exchange x = {.api_key = API_DELETE_TOPICS, .version_max = INT16_MAX, .broker = CLIENT_CONTROLLER,
                                .request = &m, .encode = encode_delete_topics,
                                .response = &res, .decode = decode_delete_topics};
    struct client_reply reply;
    char what[300];
    snprintf(what, sizeof what, "delete topic \"%s\"", name);
    enum err err = admin_run(c, &x, timeout_ms, delete_result, what, &reply);
    if (!err) client_reply_free(&reply);
    return err;
}

/* ---- grow ------------------------------------------------------------------------------------- */

ADMIN_ADAPTERS(create_partitions)

static void grow_result(const void *response, struct admin_result *out) {
    const struct k_create_partitions_response *m = response;
    if (m->results_n == 1) *out = (struct admin_result){true, m->results[0].error_code, m->results[0].error_message};
}

enum err admin_create_partitions(struct client *c, const char *topic, int32_t total, bool validate_only,
                                 int32_t timeout_ms) {
    struct k_create_partitions_request m;
    struct k_create_partitions_request_topics t;
    k_create_partitions_request_init(&m);
    k_create_partitions_request_topics_init(&t);
    t.name = str_from(topic);
    t.count = total;
    t.assignments_n = -1; /* null: the broker chooses the replicas */
    m.topics = &t;
    m.topics_n = 1;
    m.timeout_ms = broker_wait_ms(timeout_ms);
    m.validate_only = validate_only;
    struct k_create_partitions_response res;
    struct client_exchange x = {.api_key = API_CREATE_PARTITIONS, .version_max = INT16_MAX, .broker = CLIENT_CONTROLLER,
                                .request = &m, .encode = encode_create_partitions,
                                .response = &res, .decode = decode_create_partitions};
    struct client_reply reply;
    char what[300];
    snprintf(what, sizeof what, "partitions of topic \"%s\"", topic);
    enum err err = admin_run(c, &x, timeout_ms, grow_result, what, &reply);
    if (!err) client_reply_free(&reply);
    return err;
}

/* ---- cut -------------------------------------------------------------------------------------- */

ADMIN_ADAPTERS(delete_records)

static void cut_result(const void *response, struct admin_result *out) {
    const struct k_delete_records_response *m = response;
    if (m->topics_n != 1 || m->topics[0].partitions_n != 1) return;
    *out = (struct admin_result){true, m->topics[0].partitions[0].error_code, STR_NULL};
}

enum err admin_delete_records(struct client *c, const char *topic, int32_t partition, int64_t before_offset,
                              int32_t timeout_ms, int64_t *low) {
    int64_t deadline_ns = client_deadline(timeout_ms);
    struct topic_meta *meta = metadata_topic(c, topic, false);
    if (!meta) return client_fail(c, ERR_NOMEM, 0, "out of memory");
    enum err err = metadata_wait(c, meta, deadline_ns);
    if (err) return err;
    if (partition < 0 || partition >= meta->partition_count) {
        return client_fail(c, ERR_NOT_FOUND, 0, "topic \"%s\" has %d partitions, not partition %d", topic,
                           meta->partition_count, partition);
    }
    struct k_delete_records_request m;
    struct k_delete_records_request_topics t;
    struct k_delete_records_request_topics_partitions p;
    k_delete_records_request_init(&m);
    k_delete_records_request_topics_init(&t);
    k_delete_records_request_topics_partitions_init(&p);
    p.partition_index = partition;
    p.offset = before_offset;
    t.name = str_from(topic);
    t.partitions = &p;
    t.partitions_n = 1;
    m.topics = &t;
    m.topics_n = 1;
    m.timeout_ms = broker_wait_ms(timeout_ms);
    struct k_delete_records_response res;
    struct client_exchange x = {.api_key = API_DELETE_RECORDS, .version_max = INT16_MAX,
                                .request = &m, .encode = encode_delete_records,
                                .response = &res, .decode = decode_delete_records};
    char what[300];
    snprintf(what, sizeof what, "delete records of \"%s\" partition %d", topic, partition);
    for (int32_t attempt = 0;; attempt++) { /* the same records may be deleted twice: any trouble is worth another try */
        const struct partition_meta *leader = metadata_leader(meta, partition);
        struct client_reply reply;
        x.broker = leader ? leader->leader : -1;
        err = leader ? admin_run(c, &x, left_ms(deadline_ns), cut_result, what, &reply)
                     : client_fail_code(c, KERR_LEADER_NOT_AVAILABLE, STR_NULL, "%s", what);
        if (!err) {
            *low = res.topics[0].partitions[0].low_watermark;
            client_reply_free(&reply);
            return OK;
        }
        bool again = err == ERR_CLOSED || err == ERR_TIMEOUT || kafka_error_retriable(client_error_code(c));
        metadata_want(c);
        if (!again || !client_pause(c, attempt, deadline_ns)) return err;
    }
}
