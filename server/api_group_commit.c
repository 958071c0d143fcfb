/* api_group_commit.c - OffsetCommit: who commits is checked against the group, what is committed against the topics;
 * then one batch of records, and the answer when they are durable. */
#include "proto/kafka_messages.h"
#include "server/api.h"
#include "server/group_api.h"

typedef struct k_offset_commit_request_topics commit_topic;
typedef struct k_offset_commit_request_topics_partitions commit_partition;

struct commit_state {
    struct group_op op;
    struct k_offset_commit_request in;
    struct k_offset_commit_response out;  /* topics and partitions as in the request; errors found on arrival */
};

static void done(struct group_op *op) {
    struct commit_state *s = op->owner;
    struct request *rq = op->rq;
    for (int32_t i = 0; i < s->out.topics_n; i++)
        for (int32_t k = 0; k < s->out.topics[i].partitions_n; k++)
            if (s->out.topics[i].partitions[k].error_code == KERR_NONE) s->out.topics[i].partitions[k].error_code = op->error;
    struct wire_writer *w = request_reply_begin(rq);
    k_offset_commit_response_encode(&s->out, w, request_version(rq));
    request_reply(rq);
}

/* ---- the owner's thread ------------------------------------------------------------------------- */

static void put(struct group_records *records, struct str group, const commit_topic *t, const commit_partition *p, int64_t now_ms,
                int64_t retention_ms) {
    struct group_key key = {.type = K_OFFSET_COMMIT_KEY_TYPE, .group = group, .topic = t->name, .partition = p->partition_index};
    struct group_value value;
    group_value_init(key.type, &value);
    value.offset_commit.offset = p->committed_offset;
    value.offset_commit.leader_epoch = p->committed_leader_epoch;
    value.offset_commit.metadata = p->committed_metadata.p ? p->committed_metadata : STR_LIT("");
    value.offset_commit.commit_timestamp = now_ms;
    value.offset_commit.topic_id = t->topic_id;
    if (retention_ms != -1) { /* versions 2 to 4; only this version of the value can say it, as in Kafka */
        value.version = 1;
        value.offset_commit.expire_timestamp = now_ms + MIN(MAX(retention_ms, 0), INT64_MAX - now_ms);
    }
    group_records_put(records, &key, &value);
}

static int32_t build(struct commit_state *s, struct group *g, struct group_records *records) {
    int64_t retention_ms = request_version(s->op.rq) <= 4 ? s->in.retention_time_ms : -1, now_ms = group_reactor(g)->now_ms;
    for (int32_t i = 0; i < s->in.topics_n; i++)
        for (int32_t k = 0; k < s->in.topics[i].partitions_n; k++)
            if (s->out.topics[i].partitions[k].error_code == KERR_NONE)
                put(records, group_id(g), &s->in.topics[i], &s->in.topics[i].partitions[k], now_ms, retention_ms);
    return (int32_t)records->count;
}

static void committed(struct group *g, void *ctx, int16_t error) {
    struct commit_state *s = ctx;
    (void)g;
    group_op_finish(&s->op, error == KERR_UNKNOWN_SERVER_ERROR ? KERR_INVALID_COMMIT_OFFSET_SIZE : error);
}

/* A member of an older epoch may commit what it has had since (KIP-1251). */
static void check_partitions(struct commit_state *s, struct group *g) {
    struct group_view v;
    group_view_fill(g, &v);
    for (int32_t i = 0; i < s->out.topics_n; i++)
        for (int32_t k = 0; k < s->out.topics[i].partitions_n; k++)
            if (s->out.topics[i].partitions[k].error_code == KERR_NONE)
                s->out.topics[i].partitions[k].error_code =
                    consumer_group_check_partition(g->consumer, &v.env, s->in.member_id, s->in.generation_id_or_member_epoch,
                                                   s->in.topics[i].name, s->in.topics[i].partitions[k].partition_index);
}

/* Offsets that are there already, without longer metadata, may move also when memory is used up. */
static bool grows(const struct commit_state *s, const struct group *g) {
    static const struct uuid any;
    for (int32_t i = 0; i < s->out.topics_n; i++)
        for (int32_t k = 0; k < s->out.topics[i].partitions_n; k++) {
            if (s->out.topics[i].partitions[k].error_code) continue;
            const commit_partition *p = &s->in.topics[i].partitions[k];
            const struct group_offset *o = group_offsets_find(&g->offsets, s->in.topics[i].name, &any, p->partition_index);
            if (!o || p->committed_metadata.len > group_offset_metadata(o).len) return true;
        }
    return false;
}

static void run(struct group_op *op, struct group *g) {
    struct commit_state *s = op->owner;
    struct group_committer who = {s->in.generation_id_or_member_epoch, s->in.member_id, s->in.group_instance_id, request_version(op->rq)};
    bool per_partition;
    int16_t error = group_commit_check(g, &who, &per_partition);
    if (!error && per_partition) check_partitions(s, g);
    if (!error && group_memory_full(group_reactor(g)) && grows(s, g)) error = KERR_COORDINATOR_NOT_AVAILABLE;
    struct group_records records;
    group_records_begin(&records);
    if (!error) build(s, g, &records);
    if (records.err) error = records.err == ERR_TOO_LARGE ? KERR_INVALID_COMMIT_OFFSET_SIZE : KERR_COORDINATOR_NOT_AVAILABLE;
    if (error || records.count == 0) {
        group_records_free(&records);
        group_op_finish(op, error);
    } else {
        group_append(g, GROUP_SHARED, &records, committed, s);
    }
}

/* ---- arrival -------------------------------------------------------------------------------------- */

/* The topic's name and id, as far as they are known; the error of all its partitions. */
static int16_t resolve(struct request *rq, commit_topic *t, const struct image_topic **found) {
    int16_t error;
    *found = request_find_topic(rq, request_version(rq) >= 10, t->name, &t->topic_id, &error);
    if (!*found) return error;
    t->topic_id = (*found)->id;
    if (request_version(rq) >= 10) t->name = request_copy(rq, (struct str){(*found)->name, (*found)->name_len});
    return t->name.p ? KERR_NONE : KERR_COORDINATOR_NOT_AVAILABLE;
}

static int16_t check_partition(struct request *rq, const struct image_topic *t, const commit_partition *p) {
    if (!image_partition(t, p->partition_index)) return KERR_UNKNOWN_TOPIC_OR_PARTITION;
    return p->committed_metadata.len > request_broker(rq)->config.offset_metadata_max_bytes ? KERR_OFFSET_METADATA_TOO_LARGE : KERR_NONE;
}

static bool add_topic(struct request *rq, commit_topic *t, struct k_offset_commit_response_topics *r) {
    const struct image_topic *found;
    k_offset_commit_response_topics_init(r);
    r->name = t->name;
    r->topic_id = t->topic_id;
    int16_t error = resolve(rq, t, &found);
    r->partitions = request_alloc(rq, (size_t)MAX(t->partitions_n, 0), sizeof *r->partitions);
    if (!r->partitions) return false;
    r->partitions_n = MAX(t->partitions_n, 0);
    for (int32_t k = 0; k < r->partitions_n; k++) {
        r->partitions[k].partition_index = t->partitions[k].partition_index;
        r->partitions[k].error_code = error ? error : check_partition(rq, found, &t->partitions[k]);
    }
    return true;
}

void api_offset_commit(struct request *rq) {
    struct commit_state *s = request_alloc(rq, 1, sizeof *s);
    if (!s) return;
    if (!request_decoded(rq, k_offset_commit_request_decode(&s->in, &rq->body, request_version(rq)))) return;
    k_offset_commit_response_init(&s->out);
    s->out.topics = request_alloc(rq, (size_t)MAX(s->in.topics_n, 0), sizeof *s->out.topics);
    if (!s->out.topics) return;
    s->out.topics_n = MAX(s->in.topics_n, 0);
    for (int32_t i = 0; i < s->out.topics_n; i++)
        if (!add_topic(rq, &s->in.topics[i], &s->out.topics[i])) return;
    s->op = (struct group_op){.rq = rq, .group = s->in.group_id, .lock = GROUP_SHARED, .run = run, .done = done, .owner = s};
    group_op_send(&s->op);
}
