/* producer.c - programs that write: plain ones with acks 1 or all, idempotent ones that try again until it is acknowledged.
 *
 * Each record is sent by one producer under one number, to one partition. A plain producer sends it once and takes what
 * comes; an idempotent one keeps up to five batches on their way, and when one is lost or refused waits for the others, then
 * sends all from the first that is not acknowledged on, in order, with the same sequence numbers: as real clients do. */
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "proto/kafka_errors.h"
#include "proto/record_batch.h"
#include "tests/sim/cluster/cluster.h"

enum { IN_FLIGHT_MAX = 5, RECORDS_MAX = 6, PADDING_MAX = 3000 };

struct batch {
    uint32_t first, count;               /* numbers of its records */
    int32_t sequence;
    uint8_t values[RECORDS_MAX][VALUE_BYTES];
    bool on_its_way;
    uint32_t sends;
};
struct writer {
    struct client client;
    struct cluster *c;
    uint32_t index, topic, partition, in_flight_max;
    bool idempotent, asking_id, rewinding;
    bool acked;                          /* something under this id */
    bool anew;                           /* with another id, when all answers are there */
    int16_t acks;
    int64_t id;                          /* -1: none yet */
    int16_t epoch;
    int32_t sequence;
    int64_t pace_ns, stuck_since_ns;
    struct batch batches[IN_FLIGHT_MAX]; /* the oldest first; not acknowledged */
    uint32_t count, away;
    struct timer timer;
};
static const uint8_t padding[PADDING_MAX]; /* keys of records: in some runs journals wrap and segments fill */
static int32_t padding_bytes;
static struct writer *all[PRODUCERS_MAX];
static uint32_t all_count;
enum { IDS_MAX = 4096 };
static int64_t ids[IDS_MAX];             /* that were given out */
static uint32_t id_count;

static uint64_t draw(struct writer *p, uint64_t n) { return prng_below(&p->c->work_prng, n); }
static void again(struct writer *p, int64_t most_ns) {
    timer_set(&p->c->timers, &p->timer, sim_now_ns(p->c->world) + 1 + (int64_t)draw(p, (uint64_t)most_ns));
}

static struct batch *find(struct writer *p, uint32_t first) {
    for (uint32_t i = 0; i < p->count; i++)
        if (p->batches[i].first == first) return &p->batches[i];
    return NULL;
}

static void drop_batch(struct writer *p, struct batch *b) {
    uint32_t i = (uint32_t)(b - p->batches);
    memmove(b, b + 1, (p->count - i - 1) * sizeof *b);
    p->count--;
}

static void acked(struct writer *p, struct batch *b, int64_t offset) {
    /* In a cluster acks=1 is a promise of one disk only. */
    bool sure = p->acks == -1 || p->c->node_count == 1;
    for (uint32_t i = 0; i < b->count; i++)
        history_acked(p->c->history, p->index, b->first + i, offset < 0 ? -1 : offset + i, sure);
    p->acked = true;
    if (b->sends > 1) covered(p->c)->retried++;
    drop_batch(p, b);
}

/* It was lost or refused; perhaps it is in the log all the same. */
static void failed(struct writer *p, struct batch *b) {
    if (!p->idempotent) {
        drop_batch(p, b);
        return;
    }
    b->on_its_way = false;
    p->rewinding = true;
}

static void refused(struct writer *p, struct batch *b, int16_t error) {
    bool first = b == p->batches;
    if (error == KERR_DUPLICATE_SEQUENCE_NUMBER && p->idempotent) { /* older than the window: it is there */
        acked(p, b, -1);
        return;
    }
    /* A producer that the partition does not know may begin with any number (its state may have expired), so one that was refused for want of room
     * may be overtaken. What was sent is left to its fate. */
    if (error == KERR_OUT_OF_ORDER_SEQUENCE_NUMBER && p->idempotent && first && !p->rewinding && !p->acked) {
        p->anew = true;
    } else if (error == KERR_OUT_OF_ORDER_SEQUENCE_NUMBER && p->idempotent && first && !p->rewinding)
        /* Behind one that failed itself this is only order; but the first that is not acknowledged continues what is. */
        cluster_violated(p->c, "20 producer %u: sequence %d does not continue what was acknowledged", p->index, b->sequence);
    if (error == KERR_UNKNOWN_PRODUCER_ID || error == KERR_INVALID_PRODUCER_EPOCH)
        cluster_violated(p->c, "20 producer %u: its state is gone (error %d)", p->index, error);
    if (!kafka_error_retriable(error) && error != KERR_OUT_OF_ORDER_SEQUENCE_NUMBER && error != KERR_UNKNOWN_SERVER_ERROR)
        cluster_violated(p->c, "13 producer %u gets error %d", p->index, error);
    failed(p, b);
}

static void produced(struct call *call, struct wire_reader *r) {
    struct writer *p = call->owner;
    struct batch *b = find(p, (uint32_t)call->tag);
    struct k_produce_response a;
    ASSERT(b != NULL);
    p->away--;
    if (!r || k_produce_response_decode(&a, r, call->version) != OK || a.responses_n != 1 || a.responses[0].partition_responses_n != 1) {
        cluster_trace(p->c, "producer %u, %s-%u: sequence %d at node %d: no answer", p->index, topic_name(p->topic), p->partition, b->sequence, call->node);
        failed(p, b);
        client_refresh(&p->client);
    } else {
        const struct k_produce_response_responses_partition_responses *x = &a.responses[0].partition_responses[0];
        if (x->error_code != KERR_NONE)
            cluster_trace(p->c, "producer %u, %s-%u: sequence %d at node %d: error %d", p->index, topic_name(p->topic), p->partition, b->sequence, call->node, x->error_code);
        if (x->error_code == KERR_NONE) acked(p, b, x->base_offset);
        else {
            refused(p, b, x->error_code);
            client_refresh(&p->client);
        }
    }
    if (p->c->finishing) again(p, 20 * MS);
}

static uint8_t *encode(const struct writer *p, const struct batch *b, size_t *len) {
    struct batch_builder builder;
    uint8_t *out;
    batch_builder_init(&builder, CODEC_NONE, 1 << 20);
    builder.producer_id = p->idempotent ? p->id : -1;
    builder.producer_epoch = p->idempotent ? p->epoch : -1;
    builder.base_sequence = p->idempotent ? b->sequence : -1;
    for (uint32_t i = 0; i < b->count; i++)
        ASSERT(batch_builder_add(&builder, INT64_C(1700000000000), (struct bytes){padding, padding_bytes}, (struct bytes){b->values[i], VALUE_BYTES}, NULL, 0) == OK);
    ASSERT(batch_builder_finish(&builder, &out, len) == OK);
    batch_builder_free(&builder);
    return out;
}

static void send_batch(struct writer *p, struct batch *b, int32_t leader) {
    size_t len;
    uint8_t *records = encode(p, b, &len);
    struct k_produce_request q;
    struct k_produce_request_topic_data t;
    struct k_produce_request_topic_data_partition_data d;
    k_produce_request_init(&q);
    k_produce_request_topic_data_init(&t);
    k_produce_request_topic_data_partition_data_init(&d);
    q.acks = p->acks;
    q.timeout_ms = 1500;
    t.name = str_from(topic_name(p->topic));
    d.index = (int32_t)p->partition;
    d.records = (struct bytes){records, (int32_t)len};
    t.partition_data = &d;
    t.partition_data_n = 1;
    q.topic_data = &t;
    q.topic_data_n = 1;
    k_produce_request_encode(&q, call_begin(&p->client, API_PRODUCE, 9), 9);
    free(records);
    b->on_its_way = true;
    b->sends++;
    p->away++;
    call_send(&p->client, leader, produced, p, b->first, 3 * SECOND);
}

static struct batch *new_batch(struct writer *p) {
    struct batch *b = &p->batches[p->count++];
    *b = (struct batch){.count = 1 + (uint32_t)draw(p, RECORDS_MAX), .sequence = p->sequence};
    for (uint32_t i = 0; i < b->count; i++) {
        uint32_t number = history_sent(p->c->history, p->index, p->topic, p->partition, p->idempotent, b->values[i]);
        if (i == 0) b->first = number;
    }
    p->sequence += (int32_t)b->count;
    return b;
}

/* No two producers have one id, whoever gave them out. */
static void check_id(struct cluster *c, int64_t id) {
    for (uint32_t i = 0; i < id_count; i++)
        if (ids[i] == id) cluster_violated(c, "20 the producer id %lld is given out twice", (long long)id);
    if (id_count < IDS_MAX) ids[id_count++] = id;
}

/* Asks for ids that nobody will use: whoever is the controller next must not give them out again. */
static void spare_given(struct call *call, struct wire_reader *r) {
    struct writer *p = call->owner;
    struct k_init_producer_id_response a;
    p->asking_id = false;
    if (r && k_init_producer_id_response_decode(&a, r, call->version) == OK && a.error_code == KERR_NONE) check_id(p->c, a.producer_id);
}

static void id_given(struct call *call, struct wire_reader *r) {
    struct writer *p = call->owner;
    struct k_init_producer_id_response a;
    p->asking_id = false;
    if (!r || k_init_producer_id_response_decode(&a, r, call->version) != OK || a.error_code != KERR_NONE) {
        if (r) cluster_trace(p->c, "producer %u gets no id: error %d", p->index, a.error_code);
        return;
    }
    check_id(p->c, a.producer_id);
    p->acked = false;
    p->id = a.producer_id;
    p->epoch = a.producer_epoch;
}

static void ask_id(struct writer *p, call_done_fn *done) {
    if (p->asking_id) return;
    struct k_init_producer_id_request q;
    k_init_producer_id_request_init(&q);
    q.transactional_id = STR_NULL;
    k_init_producer_id_request_encode(&q, call_begin(&p->client, API_INIT_PRODUCER_ID, 4), 4);
    p->asking_id = true;
    call_send(&p->client, 0, done, p, 0, 2 * SECOND);
}

static void work(struct timer *timer) {
    struct writer *p = CONTAINER_OF(timer, struct writer, timer);
    again(p, p->pace_ns);
    if (p->idempotent && p->id < 0) {
        if (!p->c->finishing) ask_id(p, id_given);
        return;
    }
    if (p->rewinding) { /* order: nobody overtakes what is sent again */
        if (p->away > 0) return;
        p->rewinding = false;
        if (p->anew) {
            p->anew = false;
            p->id = -1;
            p->count = 0;
            p->sequence = 0;
            return;
        }
    }
    int32_t leader = p->client.places[p->topic][p->partition].leader;
    if (leader == 0) {
        client_refresh(&p->client);
        return;
    }
    if (!p->idempotent && !p->c->finishing && draw(p, 20) == 0) ask_id(p, spare_given);
    for (uint32_t i = 0; i < p->count; i++)
        if (!p->batches[i].on_its_way) send_batch(p, &p->batches[i], leader);
    if (!p->c->finishing && p->count < p->in_flight_max) send_batch(p, new_batch(p), leader);
}

void producers_start(struct cluster *c) {
    static const int64_t paces[] = {4 * MS, 20 * MS, 100 * MS};
    static const int32_t paddings[] = {0, 0, 600, PADDING_MAX};
    padding_bytes = paddings[prng_below(&c->work_prng, ARRAY_LEN(paddings))];
    id_count = 0;
    all_count = 4 + (uint32_t)prng_below(&c->work_prng, 5);
    for (uint32_t i = 0; i < all_count; i++) {
        struct writer *p = all[i] = calloc(1, sizeof *p);
        ASSERT(p != NULL);
        client_init(&p->client, c, "producer");
        p->c = c;
        p->index = i;
        p->topic = (uint32_t)draw(p, TOPICS);
        p->partition = (uint32_t)draw(p, topic_partitions(c, p->topic));
        p->idempotent = draw(p, 3) > 0;
        p->acks = p->idempotent || draw(p, 2) ? -1 : 1;
        p->in_flight_max = 1 + (uint32_t)draw(p, IN_FLIGHT_MAX);
        p->id = -1;
        p->epoch = -1;
        p->pace_ns = paces[draw(p, ARRAY_LEN(paces))];
        timer_init(&p->timer, work);
        again(p, 200 * MS);
    }
}

const char *producers_waiting(struct cluster *c) {
    (void)c;
    for (uint32_t i = 0; i < all_count; i++)
        if (all[i]->count > 0) return "a producer waits for an acknowledgement";
    return NULL;
}
