/* api_delete_records.c - DeleteRecords (KIP-107): log starts that move on request. */
#include "proto/kafka_messages.h"
#include "server/api.h"
#include "server/partition.h"

typedef struct k_delete_records_response_topics_partitions result;

struct deletions;
struct item {
    struct partition_delete_records op;
    struct deletions *all;
    result *result;
};
struct deletions {
    struct request *rq;
    struct k_delete_records_request in;
    struct k_delete_records_response out;
    struct item *items;
    uint32_t item_count, waiting;
    struct number_set seen;
};

static void finish(struct deletions *d) {
    struct wire_writer *w = request_reply_begin(d->rq);
    k_delete_records_response_encode(&d->out, w, request_version(d->rq));
    request_reply(d->rq);
}

static void deleted(struct partition_op *base) {
    struct item *item = CONTAINER_OF(base, struct item, op.op);
    struct deletions *d = item->all;
    item->result->error_code = base->error;
    if (!base->error) item->result->low_watermark = item->op.low_watermark;
    if (--d->waiting == 0) finish(d);
}

static void add(struct deletions *d, struct str topic, const struct k_delete_records_request_topics_partitions *p, result *r) {
    k_delete_records_response_topics_partitions_init(r);
    r->partition_index = p->partition_index;
    r->low_watermark = -1;
    struct api_partition where = request_find_partition(d->rq, false, topic, NULL, p->partition_index);
    r->error_code = where.error;
    if (!where.error && topic_name_internal(topic)) r->error_code = KERR_INVALID_TOPIC_EXCEPTION;
    if (!r->error_code && !number_set_add(&d->seen, where.plid)) r->error_code = KERR_INVALID_REQUEST;
    if (r->error_code) return;
    struct item *item = &d->items[d->item_count++];
    item->all = d;
    item->result = r;
    item->op = (struct partition_delete_records){
        .op = {.caller = d->rq->reactor, .owner = where.owner, .plid = where.plid, .done = deleted}, .offset = p->offset,
    };
}

static bool add_all(struct deletions *d) {
    int32_t topics = d->in.topics_n, total = 0;
    for (int32_t i = 0; i < topics; i++) total += d->in.topics[i].partitions_n;
    d->items = request_alloc(d->rq, (size_t)total, sizeof *d->items);
    if (!d->items || !number_set_init(&d->seen, d->rq, (size_t)total)) return false;
    d->out.topics = request_alloc(d->rq, (size_t)topics, sizeof *d->out.topics);
    if (!d->out.topics) return false;
    d->out.topics_n = topics;
    for (int32_t i = 0; i < topics; i++) {
        const struct k_delete_records_request_topics *t = &d->in.topics[i];
        struct k_delete_records_response_topics *r = &d->out.topics[i];
        k_delete_records_response_topics_init(r);
        r->name = t->name;
        r->partitions = request_alloc(d->rq, (size_t)t->partitions_n, sizeof *r->partitions);
        if (!r->partitions) return false;
        r->partitions_n = t->partitions_n;
        for (int32_t k = 0; k < t->partitions_n; k++) add(d, t->name, &t->partitions[k], &r->partitions[k]);
    }
    return true;
}

void api_delete_records(struct request *rq) {
    struct deletions *d = request_alloc(rq, 1, sizeof *d);
    if (!d) return;
    d->rq = rq;
    if (!request_decoded(rq, k_delete_records_request_decode(&d->in, &rq->body, request_version(rq)))) return;
    k_delete_records_response_init(&d->out);
    if (!add_all(d)) return;
    d->waiting = d->item_count;
    if (d->waiting == 0) {
        finish(d);
        return;
    }
    for (uint32_t i = 0, n = d->item_count; i < n; i++) partition_delete_records(&d->items[i].op);
}
