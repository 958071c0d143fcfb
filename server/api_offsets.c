/* api_offsets.c - ListOffsets and OffsetForLeaderEpoch: which offset is where. */
#include "proto/kafka_messages.h"
#include "server/api.h"
#include "server/partition.h"

/* ---- ListOffsets ------------------------------------------------------------------------------------ */

typedef struct k_list_offsets_response_topics_partitions offset_result;

struct offsets_state;
struct offset_item {
    struct partition_offset op;
    struct offsets_state *state;
    offset_result *result;
};
struct offsets_state {
    struct request *rq;
    struct k_list_offsets_request in;
    struct k_list_offsets_response out;
    struct offset_item *items;
    uint32_t item_count, waiting;
    struct number_set seen;
};

static void offsets_finish(struct offsets_state *s) {
    struct wire_writer *w = request_reply_begin(s->rq);
    k_list_offsets_response_encode(&s->out, w, request_version(s->rq));
    request_reply(s->rq);
}

static void offset_done(struct partition_op *base) {
    struct offset_item *item = CONTAINER_OF(base, struct offset_item, op.op);
    struct offsets_state *s = item->state;
    offset_result *r = item->result;
    int16_t version = request_version(s->rq);
    r->error_code = base->error;
    /* Version 5 brought OFFSET_NOT_AVAILABLE. */
    if (base->error == KERR_OFFSET_NOT_AVAILABLE && version < 5) r->error_code = KERR_LEADER_NOT_AVAILABLE;
    if (!base->error) {
        r->offset = item->op.offset;
        r->timestamp = item->op.found_timestamp;
        if (version >= 4) r->leader_epoch = item->op.found_epoch;
    }
    if (--s->waiting == 0) offsets_finish(s);
}

/* The special values of `timestamp`, and the version that brought each. */
static bool timestamp_known(int64_t timestamp, int16_t version) {
    static const int16_t since[] = {[1] = 1, [2] = 1, [3] = 7, [4] = 8, [5] = 9, [6] = 11};
    if (timestamp >= 0) return true;
    return timestamp >= -6 && version >= since[-timestamp];
}

static void add_offset(struct offsets_state *s, struct str topic,
                       const struct k_list_offsets_request_topics_partitions *p, offset_result *r) {
    k_list_offsets_response_topics_partitions_init(r);
    r->partition_index = p->partition_index;
    r->timestamp = r->offset = -1;
    r->leader_epoch = -1;
    struct api_partition where = request_find_partition(s->rq, false, topic, NULL, p->partition_index);
    r->error_code = where.error;
    if (!timestamp_known(p->timestamp, request_version(s->rq))) r->error_code = KERR_UNSUPPORTED_VERSION;
    if (!where.error && !number_set_add(&s->seen, where.plid)) r->error_code = KERR_INVALID_REQUEST;
    if (r->error_code) return;
    struct offset_item *item = &s->items[s->item_count++];
    item->state = s;
    item->result = r;
    item->op = (struct partition_offset){
        .op = {.caller = s->rq->reactor, .owner = where.owner, .plid = where.plid, .done = offset_done},
        .timestamp = p->timestamp, .current_leader_epoch = p->current_leader_epoch,
    };
}

static bool add_offsets(struct offsets_state *s) {
    int32_t topics = s->in.topics_n, total = 0;
    for (int32_t i = 0; i < topics; i++) total += s->in.topics[i].partitions_n;
    s->items = request_alloc(s->rq, (size_t)total, sizeof *s->items);
    if (!s->items || !number_set_init(&s->seen, s->rq, (size_t)total)) return false;
    s->out.topics = request_alloc(s->rq, (size_t)topics, sizeof *s->out.topics);
    if (!s->out.topics) return false;
    s->out.topics_n = topics;
    for (int32_t i = 0; i < topics; i++) {
        const struct k_list_offsets_request_topics *t = &s->in.topics[i];
        struct k_list_offsets_response_topics *r = &s->out.topics[i];
        k_list_offsets_response_topics_init(r);
        r->name = t->name;
        r->partitions = request_alloc(s->rq, (size_t)t->partitions_n, sizeof *r->partitions);
        if (!r->partitions) return false;
        r->partitions_n = t->partitions_n;
        for (int32_t k = 0; k < t->partitions_n; k++) add_offset(s, t->name, &t->partitions[k], &r->partitions[k]);
    }
    return true;
}

void api_list_offsets(struct request *rq) {
    struct offsets_state *s = request_alloc(rq, 1, sizeof *s);
    if (!s) return;
    s->rq = rq;
    if (!request_decoded(rq, k_list_offsets_request_decode(&s->in, &rq->body, request_version(rq)))) return;
    k_list_offsets_response_init(&s->out);
    if (!add_offsets(s)) return;
    s->waiting = s->item_count;
    if (s->waiting == 0) {
        offsets_finish(s);
        return;
    }
    for (uint32_t i = 0, n = s->item_count; i < n; i++) partition_offset(&s->items[i].op);
}

/* ---- OffsetForLeaderEpoch ---------------------------------------------------------------------------- */

typedef struct k_offset_for_leader_epoch_response_topics_partitions epoch_result;

struct epochs_state;
struct epoch_item {
    struct partition_epoch_end op;
    struct epochs_state *state;
    epoch_result *result;
};
struct epochs_state {
    struct request *rq;
    struct k_offset_for_leader_epoch_request in;
    struct k_offset_for_leader_epoch_response out;
    struct epoch_item *items;
    uint32_t item_count, waiting;
};

static void epochs_finish(struct epochs_state *s) {
    struct wire_writer *w = request_reply_begin(s->rq);
    k_offset_for_leader_epoch_response_encode(&s->out, w, request_version(s->rq));
    request_reply(s->rq);
}

static void epoch_done(struct partition_op *base) {
    struct epoch_item *item = CONTAINER_OF(base, struct epoch_item, op.op);
    struct epochs_state *s = item->state;
    item->result->error_code = base->error;
    if (!base->error) {
        item->result->leader_epoch = item->op.found_epoch;
        item->result->end_offset = item->op.end_offset;
    }
    if (--s->waiting == 0) epochs_finish(s);
}

static void add_epoch(struct epochs_state *s, struct str topic,
                      const struct k_offset_for_leader_epoch_request_topics_partitions *p, epoch_result *r) {
    k_offset_for_leader_epoch_response_topics_partitions_init(r);
    r->partition = p->partition;
    r->leader_epoch = -1;
    r->end_offset = -1;
    struct api_partition where = request_find_partition(s->rq, false, topic, NULL, p->partition);
    r->error_code = where.error;
    if (where.error) return;
    struct epoch_item *item = &s->items[s->item_count++];
    item->state = s;
    item->result = r;
    item->op = (struct partition_epoch_end){
        .op = {.caller = s->rq->reactor, .owner = where.owner, .plid = where.plid, .done = epoch_done},
        .current_leader_epoch = p->current_leader_epoch, .epoch = p->leader_epoch,
    };
}

static bool add_epochs(struct epochs_state *s) {
    int32_t topics = s->in.topics_n, total = 0;
    for (int32_t i = 0; i < topics; i++) total += s->in.topics[i].partitions_n;
    s->items = request_alloc(s->rq, (size_t)total, sizeof *s->items);
    if (!s->items) return false;
    s->out.topics = request_alloc(s->rq, (size_t)topics, sizeof *s->out.topics);
    if (!s->out.topics) return false;
    s->out.topics_n = topics;
    for (int32_t i = 0; i < topics; i++) {
        const struct k_offset_for_leader_epoch_request_topics *t = &s->in.topics[i];
        struct k_offset_for_leader_epoch_response_topics *r = &s->out.topics[i];
        k_offset_for_leader_epoch_response_topics_init(r);
        r->topic = t->topic;
        r->partitions = request_alloc(s->rq, (size_t)t->partitions_n, sizeof *r->partitions);
        if (!r->partitions) return false;
        r->partitions_n = t->partitions_n;
        for (int32_t k = 0; k < t->partitions_n; k++) add_epoch(s, t->topic, &t->partitions[k], &r->partitions[k]);
    }
    return true;
}

void api_offset_for_leader_epoch(struct request *rq) {
    struct epochs_state *s = request_alloc(rq, 1, sizeof *s);
    if (!s) return;
    s->rq = rq;
    if (!request_decoded(rq, k_offset_for_leader_epoch_request_decode(&s->in, &rq->body, request_version(rq)))) return;
    k_offset_for_leader_epoch_response_init(&s->out);
    if (!add_epochs(s)) return;
    s->waiting = s->item_count;
    if (s->waiting == 0) {
        epochs_finish(s);
        return;
    }
    for (uint32_t i = 0, n = s->item_count; i < n; i++) partition_epoch_end(&s->items[i].op);
}
