/* api_group_delete.c - DeleteGroups and OffsetDelete. */
#include "proto/kafka_messages.h"
#include "server/api.h"
#include "server/group_api.h"

/* ---- DeleteGroups --------------------------------------------------------------------------------------- */

struct delete_state {
    struct request *rq;
    struct k_delete_groups_request in;
    struct k_delete_groups_response out;
    struct group_op op;
    int32_t next;
};

/* Offsets a batch at a time, then the group. */
static void delete_more(struct group *g, void *ctx, int16_t error) {
    struct delete_state *s = ctx;
    struct group_records records;
    if (error || !group_recorded(g)) {
        group_op_finish(&s->op, error);
        return;
    }
    group_records_begin(&records);
    group_put_tombstones(g, &records);
    if (records.err) {
        group_records_free(&records);
        group_op_finish(&s->op, KERR_COORDINATOR_NOT_AVAILABLE);
        return;
    }
    group_append(g, GROUP_EXCLUSIVE, &records, delete_more, s);
}

static void delete_run(struct group_op *op, struct group *g) {
    int16_t error = KERR_NONE;
    if (group_unknown(g)) error = KERR_GROUP_ID_NOT_FOUND;
    else if (!group_is_empty(g)) error = KERR_NON_EMPTY_GROUP;
    if (!error && !group_recorded(g)) error = KERR_GROUP_ID_NOT_FOUND; /* somebody is about to join it */
    if (error) group_op_finish(op, error);
    else delete_more(g, op->owner, KERR_NONE);
}

static void delete_go_on(struct delete_state *s);

static void delete_done(struct group_op *op) {
    struct delete_state *s = op->owner;
    s->out.results[s->next++].error_code = op->error;
    delete_go_on(s);
}

static void delete_go_on(struct delete_state *s) {
    if (s->next < s->out.results_n) {
        s->op = (struct group_op){.rq = s->rq, .group = s->in.groups_names[s->next], .lock = GROUP_EXCLUSIVE, .run = delete_run,
                                  .done = delete_done, .owner = s};
        group_op_send(&s->op);
        return;
    }
    struct wire_writer *w = request_reply_begin(s->rq);
    k_delete_groups_response_encode(&s->out, w, request_version(s->rq));
    request_reply(s->rq);
}

void api_delete_groups(struct request *rq) {
    struct delete_state *s = request_alloc(rq, 1, sizeof *s);
    if (!s) return;
    s->rq = rq;
    if (!request_decoded(rq, k_delete_groups_request_decode(&s->in, &rq->body, request_version(rq)))) return;
    k_delete_groups_response_init(&s->out);
    s->out.results_n = MAX(s->in.groups_names_n, 0);
    s->out.results = request_alloc(rq, (size_t)s->out.results_n, sizeof *s->out.results);
    if (!s->out.results) return;
    for (int32_t i = 0; i < s->out.results_n; i++) {
        k_delete_groups_response_results_init(&s->out.results[i]);
        s->out.results[i].group_id = s->in.groups_names[i];
    }
    delete_go_on(s);
}

/* ---- OffsetDelete ------------------------------------------------------------------------------------------ */

struct offsets_state {
    struct group_op op;
    struct k_offset_delete_request in;
    struct k_offset_delete_response out;
};

static void offsets_done(struct group_op *op) {
    struct offsets_state *s = op->owner;
    s->out.error_code = op->error;
    if (op->error) s->out.topics_n = 0;
    struct wire_writer *w = request_reply_begin(op->rq);
    k_offset_delete_response_encode(&s->out, w, request_version(op->rq));
    request_reply(op->rq);
}

static void offsets_deleted(struct group *g, void *ctx, int16_t error) {
    struct offsets_state *s = ctx;
    (void)g;
    group_op_finish(&s->op, error);
}

static void delete_topic(struct group *g, const struct k_offset_delete_request_topics *t, struct k_offset_delete_response_topics *r,
                         struct group_records *records) {
    bool subscribed = !group_is_empty(g) && group_subscribes(g, t->name);
    for (int32_t k = 0; k < r->partitions_n; k++) {
        static const struct uuid any;
        if (r->partitions[k].error_code) continue;
        if (subscribed) r->partitions[k].error_code = KERR_GROUP_SUBSCRIBED_TO_TOPIC;
        else if (group_offsets_find(&g->offsets, t->name, &any, t->partitions[k].partition_index))
            group_put_offset_tombstone(g, t->name, t->partitions[k].partition_index, records);
    }
}

static void offsets_run(struct group_op *op, struct group *g) {
    struct offsets_state *s = op->owner;
    struct group_records records;
    int16_t error = KERR_NONE;
    if (group_unknown(g)) error = KERR_GROUP_ID_NOT_FOUND;
    else if (!group_is_empty(g) && !group_uses_consumer_protocol(g)) error = KERR_NON_EMPTY_GROUP;
    group_records_begin(&records);
    for (int32_t i = 0; !error && i < s->out.topics_n; i++) delete_topic(g, &s->in.topics[i], &s->out.topics[i], &records);
    if (records.err) error = KERR_COORDINATOR_NOT_AVAILABLE;
    if (error || records.count == 0) {
        group_records_free(&records);
        group_op_finish(op, error);
    } else {
        group_append(g, GROUP_EXCLUSIVE, &records, offsets_deleted, s);
    }
}

void api_offset_delete(struct request *rq) {
    struct offsets_state *s = request_alloc(rq, 1, sizeof *s);
    if (!s) return;
    if (!request_decoded(rq, k_offset_delete_request_decode(&s->in, &rq->body, request_version(rq)))) return;
    k_offset_delete_response_init(&s->out);
    s->out.topics_n = MAX(s->in.topics_n, 0);
    s->out.topics = request_alloc(rq, (size_t)s->out.topics_n, sizeof *s->out.topics);
    if (!s->out.topics) return;
    for (int32_t i = 0; i < s->out.topics_n; i++) {
        const struct k_offset_delete_request_topics *t = &s->in.topics[i];
        struct k_offset_delete_response_topics *r = &s->out.topics[i];
        int16_t error;
        static const struct uuid none;
        k_offset_delete_response_topics_init(r);
        const struct image_topic *known = request_find_topic(rq, false, t->name, &none, &error);
        r->name = t->name;
        r->partitions_n = MAX(t->partitions_n, 0);
        r->partitions = request_alloc(rq, (size_t)r->partitions_n, sizeof *r->partitions);
        if (!r->partitions) return;
        for (int32_t k = 0; k < r->partitions_n; k++) {
            r->partitions[k].partition_index = t->partitions[k].partition_index;
            r->partitions[k].error_code = known && image_partition(known, r->partitions[k].partition_index) ? KERR_NONE
                                                                                                          : KERR_UNKNOWN_TOPIC_OR_PARTITION;
        }
    }
    s->op = (struct group_op){.rq = rq, .group = s->in.group_id, .lock = GROUP_EXCLUSIVE, .run = offsets_run, .done = offsets_done, .owner = s};
    group_op_begin(&s->op);
}
