/* api_describe_storage.c - DescribeStorage: what a partition's log is made of, and what retention and compaction make of it.
 *
 * Varve's own (key 32000, not listed by ApiVersions): Kafka's protocol has nothing that tells it. Read-only. One partition after the
 * other, as in DescribeProducers. */
#include "log/compact.h"
#include "proto/kafka_messages.h"
#include "server/api.h"
#include "server/partition.h"

typedef struct k_describe_storage_response_topics_partitions partition_result;
typedef struct k_describe_storage_response_topics_partitions_last_run run_result;

struct storage_state {
    struct request *rq;
    struct k_describe_storage_request in;
    struct k_describe_storage_response out;
    struct partition_storage ask;
    int32_t topic, partition;            /* the one that is asked, or the next one */
};

/* NULL: there was none. */
static run_result *last_run(struct request *rq, const struct compact_run *run) {
    run_result *r = request_alloc(rq, 1, sizeof *r);
    if (!r) return NULL;
    *r = (run_result){
        .ended_ms = run->at_ms, .elapsed_ms = run->elapsed_ms, .records_before = (int64_t)run->records_before,
        .records_after = (int64_t)run->records_after, .bytes_before = (int64_t)run->bytes_before, .bytes_after = (int64_t)run->bytes_after,
        .map_full = run->map_full, .failed = run->err != OK, .message = request_copy(rq, str_from(run->why)),
    };
    return r;
}

/* False: closing. */
static bool take(struct storage_state *s, partition_result *r) {
    const struct partition_storage *a = &s->ask;
    r->error_code = a->op.error;
    if (a->op.error) return true;
    r->now_ms = a->now_ms;
    r->log_start_offset = a->start;
    r->committed_end = a->bound;
    r->log_end_offset = a->end;
    r->size_bytes = (int64_t)a->size_bytes;
    r->segment_count = (int32_t)a->segment_count;
    r->faulty_ranges = (int32_t)a->faulty_ranges;
    r->deletes = a->deletes;
    r->compacts = a->compacts;
    r->compacted_end = a->look.from;
    r->clean_bytes = (int64_t)a->look.clean_bytes;
    r->dirty_bytes = (int64_t)a->look.dirty_bytes;
    r->dirty_millionths = (int32_t)a->look.dirty_ppm;
    r->compaction = (int8_t)a->look.reason;
    r->compaction_due_ms = a->look.lag_due_ms;
    r->compacting = a->compacting;
    if (a->run.at_ms != 0 && !(r->last_run = last_run(s->rq, &a->run))) return false;
    r->segments = request_alloc(s->rq, a->listed, sizeof *r->segments);
    if (!r->segments) return false;
    r->segments_n = (int32_t)a->listed;
    for (uint32_t i = 0; i < a->listed; i++) {
        const struct log_segment *from = &a->segments[i];
        r->segments[i] = (struct k_describe_storage_response_topics_partitions_segments){
            .base_offset = from->base, .end_offset = from->end, .size_bytes = (int64_t)from->size_bytes,
            .newest_timestamp = from->max_timestamp, .created_ms = from->created_ms, .retention = (int8_t)a->fates[i].reason,
            .retention_due_ms = a->fates[i].due_ms, .compaction = (int8_t)a->compaction[i],
        };
    }
    return true;
}

static void go_on(struct storage_state *s);

static void asked(struct partition_op *base) {
    struct storage_state *s = CONTAINER_OF(base, struct storage_state, ask.op);
    bool ok = take(s, &s->out.topics[s->topic].partitions[s->partition++]);
    partition_storage_free(&s->ask);
    if (ok) go_on(s);
}

/* What does not exist is answered here; true: somebody is asked. */
static bool ask(struct storage_state *s) {
    partition_result *r = &s->out.topics[s->topic].partitions[s->partition];
    struct api_partition where = request_find_partition(s->rq, false, s->out.topics[s->topic].name, NULL, r->partition_index);
    if (where.error) {
        r->error_code = where.error;
        s->partition++;
        return false;
    }
    s->ask = (struct partition_storage){.op = {.caller = s->rq->reactor, .owner = where.owner, .plid = where.plid, .done = asked},
                                        .list_segments = s->in.include_segments};
    partition_storage(&s->ask);
    return true;
}

static void go_on(struct storage_state *s) {
    for (; s->topic < s->out.topics_n; s->topic++, s->partition = 0)
        while (s->partition < s->out.topics[s->topic].partitions_n)
            if (ask(s)) return;
    struct wire_writer *w = request_reply_begin(s->rq);
    k_describe_storage_response_encode(&s->out, w, request_version(s->rq));
    request_reply(s->rq);
}

void api_describe_storage(struct request *rq) {
    struct storage_state *s = request_alloc(rq, 1, sizeof *s);
    if (!s) return;
    s->rq = rq;
    if (!request_decoded(rq, k_describe_storage_request_decode(&s->in, &rq->body, request_version(rq)))) return;
    k_describe_storage_response_init(&s->out);
    int32_t n = MAX(s->in.topics_n, 0);
    s->out.topics = request_alloc(rq, (size_t)n, sizeof *s->out.topics);
    if (!s->out.topics) return;
    s->out.topics_n = n;
    for (int32_t i = 0; i < n; i++) {
        struct k_describe_storage_response_topics *t = &s->out.topics[i];
        k_describe_storage_response_topics_init(t);
        t->name = s->in.topics[i].name;
        int32_t count = MAX(s->in.topics[i].partitions_n, 0);
        t->partitions = request_alloc(rq, (size_t)count, sizeof *t->partitions);
        if (!t->partitions) return;
        t->partitions_n = count;
        for (int32_t k = 0; k < count; k++) {
            k_describe_storage_response_topics_partitions_init(&t->partitions[k]);
            t->partitions[k].partition_index = s->in.topics[i].partitions[k];
        }
    }
    go_on(s);
}
