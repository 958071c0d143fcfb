/* api_describe_producers.c - DescribeProducers (KIP-664): who has written to a partition, as its log remembers it.
 *
 * One partition after the other: a log may remember thousands, and only one list is held beside the answer, which
 * is bounded by the request's memory. */
#include <stdlib.h>
#include "proto/kafka_messages.h"
#include "server/api.h"
#include "server/partition.h"

typedef struct k_describe_producers_response_topics_partitions partition_result;

struct producers_state {
    struct request *rq;
    struct k_describe_producers_request in;
    struct k_describe_producers_response out;
    struct partition_producers ask;
    int32_t topic, partition;            /* the one that is asked, or the next one */
};

static void refuse(partition_result *r, int16_t error) {
    r->error_code = error;
    r->error_message = error == KERR_NOT_LEADER_OR_FOLLOWER ? STR_LIT("The log of the partition is not available.")
                                                            : STR_LIT("This server does not host this topic-partition.");
}

/* False: closing. */
static bool take(struct producers_state *s, partition_result *r) {
    if (s->ask.op.error) {
        refuse(r, s->ask.op.error);
        return true;
    }
    r->active_producers = request_alloc(s->rq, s->ask.count, sizeof *r->active_producers);
    if (!r->active_producers) return false;
    r->active_producers_n = (int32_t)s->ask.count;
    for (uint32_t i = 0; i < s->ask.count; i++) {
        const struct partition_producer *from = &s->ask.list[i];
        r->active_producers[i] = (struct k_describe_producers_response_topics_partitions_active_producers){
            .producer_id = from->id, .producer_epoch = from->epoch, .last_sequence = from->last_sequence,
            .last_timestamp = from->last_timestamp_ms, .coordinator_epoch = from->coordinator_epoch,
            .current_txn_start_offset = from->txn_first_offset,
        };
    }
    return true;
}

static void go_on(struct producers_state *s);

static void asked(struct partition_op *base) {
    struct producers_state *s = CONTAINER_OF(base, struct producers_state, ask.op);
    bool ok = take(s, &s->out.topics[s->topic].partitions[s->partition++]);
    free(s->ask.list);
    if (ok) go_on(s);
}

/* What does not exist is answered here; true: somebody is asked. */
static bool ask(struct producers_state *s) {
    partition_result *r = &s->out.topics[s->topic].partitions[s->partition];
    struct api_partition where = request_find_partition(s->rq, false, s->out.topics[s->topic].name, NULL, r->partition_index);
    if (where.error) {
        refuse(r, where.error);
        s->partition++;
        return false;
    }
    s->ask = (struct partition_producers){.op = {.caller = s->rq->reactor, .owner = where.owner, .plid = where.plid, .done = asked}};
    partition_producers(&s->ask);
    return true;
}

static void go_on(struct producers_state *s) {
    for (; s->topic < s->out.topics_n; s->topic++, s->partition = 0)
        while (s->partition < s->out.topics[s->topic].partitions_n)
            if (ask(s)) return;
    struct wire_writer *w = request_reply_begin(s->rq);
    k_describe_producers_response_encode(&s->out, w, request_version(s->rq));
    request_reply(s->rq);
}

void api_describe_producers(struct request *rq) {
    struct producers_state *s = request_alloc(rq, 1, sizeof *s);
    if (!s) return;
    s->rq = rq;
    if (!request_decoded(rq, k_describe_producers_request_decode(&s->in, &rq->body, request_version(rq)))) return;
    k_describe_producers_response_init(&s->out);
    int32_t n = MAX(s->in.topics_n, 0);
    s->out.topics = request_alloc(rq, (size_t)n, sizeof *s->out.topics);
    if (!s->out.topics) return;
    s->out.topics_n = n;
    for (int32_t i = 0; i < n; i++) {
        struct k_describe_producers_response_topics *t = &s->out.topics[i];
        k_describe_producers_response_topics_init(t);
        t->name = s->in.topics[i].name;
        int32_t count = MAX(s->in.topics[i].partition_indexes_n, 0);
        t->partitions = request_alloc(rq, (size_t)count, sizeof *t->partitions);
        if (!t->partitions) return;
        t->partitions_n = count;
        for (int32_t k = 0; k < count; k++) {
            k_describe_producers_response_topics_partitions_init(&t->partitions[k]);
            t->partitions[k].partition_index = s->in.topics[i].partition_indexes[k];
            t->partitions[k].error_message = STR_NULL;
        }
    }
    go_on(s);
}
