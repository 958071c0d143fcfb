/* api_produce.c - Produce: one write for each partition, answered together.
 *
 * acks=0 has no answer at all; if anything went wrong the connection is closed instead, for that
 * is the only way in which such a client learns of it. */
#include "proto/kafka_messages.h"
#include "server/api_nodes.h"
#include "server/partition.h"
#include "server/quotas.h"

typedef struct k_produce_response_responses_partition_responses produce_result;

struct produce_state;
struct produce_item {
    struct partition_produce op;
    struct produce_state *state;
    produce_result *result;
};
struct produce_state {
    struct request *rq;
    struct k_produce_request in;
    struct k_produce_response out;
    struct produce_item *items;
    uint32_t item_count, waiting;
    bool failed;
    struct api_nodes nodes;              /* if leaders are named */
};

static void finish(struct produce_state *s) {
    struct request *rq = s->rq;
    if (s->in.acks == 0) {
        if (s->failed) request_close(rq, "a write with acks=0 failed");
        else request_finish_silently(rq);
        return;
    }
    s->out.throttle_time_ms = rq->throttle_ms;
    struct wire_writer *w = request_reply_begin(rq);
    k_produce_response_encode(&s->out, w, request_version(rq));
    request_reply(rq);
}

static void set_error(struct produce_state *s, produce_result *r, int16_t error) {
    r->error_code = error;
    r->base_offset = r->log_append_time_ms = r->log_start_offset = -1;
    s->failed = true;
}

/* KIP-951: who leads now. No memory: the client asks. */
static void name_leader(struct produce_state *s, produce_result *r, const struct partition_op *op) {
    struct request *rq = s->rq;
    if (op->leader < 0 || request_version(rq) < 10) return;
    r->current_leader.leader_id = op->leader;
    r->current_leader.leader_epoch = op->leader_epoch;
    for (int32_t i = 0; i < s->out.node_endpoints_n; i++)
        if (s->out.node_endpoints[i].node_id == op->leader) return;
    if (s->nodes.count == 0 && !api_nodes_try(rq, &s->nodes)) return;
    if (!s->out.node_endpoints) s->out.node_endpoints = arena_array(&rq->arena, (size_t)s->nodes.count, sizeof *s->out.node_endpoints);
    const struct api_node *n = api_nodes_find(&s->nodes, op->leader);
    if (!n || !api_node_is_shown(n) || !s->out.node_endpoints) return;
    struct k_produce_response_node_endpoints *out = &s->out.node_endpoints[s->out.node_endpoints_n++];
    k_produce_response_node_endpoints_init(out);
    out->node_id = n->id;
    out->host = n->host;
    out->port = n->port;
    out->rack = n->rack;
}

/* KIP-467: which records of the batch are to blame. */
static void list_bad_records(struct request *rq, const struct partition_produce *op, produce_result *r) {
    int32_t n = MIN(op->bad_record_count, PRODUCE_BAD_RECORDS_MAX);
    r->record_errors = arena_array(&rq->arena, (size_t)MAX(n, 1), sizeof *r->record_errors);
    if (!r->record_errors) return;
    r->record_errors_n = n;
    for (int32_t i = 0; i < n; i++) {
        r->record_errors[i].batch_index = op->bad_records[i];
        r->record_errors[i].batch_index_error_message = str_from(op->message);
    }
}

static void item_done(struct partition_op *base) {
    struct produce_item *item = CONTAINER_OF(base, struct produce_item, op.op);
    struct produce_state *s = item->state;
    produce_result *r = item->result;
    const struct partition_produce *op = &item->op;
    if (base->error) {
        set_error(s, r, base->error);
        r->error_message = str_from(op->message);
        name_leader(s, r, base);
        if (op->bad_record_count > 0) list_bad_records(s->rq, op, r);
    } else {
        r->base_offset = op->base_offset;
        r->log_append_time_ms = op->log_append_time_ms;
        r->log_start_offset = op->log_start_offset;
    }
    if (--s->waiting == 0) finish(s);
}

static bool client_is_admin(const struct request *rq) { return str_is(rq->header.client_id, "__admin_client"); }

/* Everything that refuses a partition before its reactor is asked. */
static int16_t refuse(struct produce_state *s, const struct k_produce_request_topic_data *t, int32_t partition,
                      struct api_partition *where) {
    struct request *rq = s->rq;
    bool by_id = request_version(rq) >= 13;
    if (s->in.acks < -1 || s->in.acks > 1) return KERR_INVALID_REQUIRED_ACKS;
    int16_t error;
    const struct image_topic *topic = request_find_topic(rq, by_id, t->name, &t->topic_id, &error);
    if (!topic) return error;
    if (topic->internal && !client_is_admin(rq)) return KERR_INVALID_TOPIC_EXCEPTION;
    *where = request_find_partition(rq, by_id, t->name, &t->topic_id, partition);
    return where->error;
}

static void add_item(struct produce_state *s, const struct k_produce_request_topic_data *t,
                     const struct k_produce_request_topic_data_partition_data *p, produce_result *result) {
    struct api_partition where;
    k_produce_response_responses_partition_responses_init(result);
    result->index = p->index;
    result->base_offset = -1;
    int16_t error = refuse(s, t, p->index, &where);
    if (error) {
        set_error(s, result, error);
        return;
    }
    struct produce_item *item = &s->items[s->item_count++];
    item->state = s;
    item->result = result;
    item->op = (struct partition_produce){
        .op = {.caller = s->rq->reactor, .owner = where.owner, .plid = where.plid, .done = item_done},
        .records = p->records, .api_version = request_version(s->rq), .acks = s->in.acks,
        .timeout_ms = s->in.timeout_ms,
    };
}

static bool add_items(struct produce_state *s) {
    int32_t topics = s->in.topic_data_n, total = 0;
    for (int32_t i = 0; i < topics; i++) total += s->in.topic_data[i].partition_data_n;
    s->items = request_alloc(s->rq, (size_t)total, sizeof *s->items);
    if (!s->items) return false;
    s->out.responses = request_alloc(s->rq, (size_t)topics, sizeof *s->out.responses);
    if (!s->out.responses) return false;
    s->out.responses_n = topics;
    for (int32_t i = 0; i < topics; i++) {
        const struct k_produce_request_topic_data *t = &s->in.topic_data[i];
        struct k_produce_response_responses *r = &s->out.responses[i];
        k_produce_response_responses_init(r);
        r->name = t->name;
        r->topic_id = t->topic_id;
        r->partition_responses = request_alloc(s->rq, (size_t)t->partition_data_n, sizeof *r->partition_responses);
        if (!r->partition_responses) return false;
        r->partition_responses_n = t->partition_data_n;
        for (int32_t k = 0; k < t->partition_data_n; k++)
            add_item(s, t, &t->partition_data[k], &r->partition_responses[k]);
    }
    return true;
}

void api_produce(struct request *rq) {
    struct produce_state *s = request_alloc(rq, 1, sizeof *s);
    if (!s) return;
    s->rq = rq;
    if (!request_decoded(rq, k_produce_request_decode(&s->in, &rq->body, request_version(rq)))) return;
    k_produce_response_init(&s->out);
    request_refresh_time(rq);
    if (quotas_exist(rq->reactor)) quota_produce(rq, rq->frame->cap);
    if (!add_items(s)) return;
    s->waiting = s->item_count;
    if (s->waiting == 0) {
        finish(s);
        return;
    }
    /* In the order of the request: the appends of one connection keep the order of arrival. */
    for (uint32_t i = 0, n = s->item_count; i < n; i++) partition_produce(&s->items[i].op);
}
