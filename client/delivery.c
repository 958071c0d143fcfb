/* delivery.c - batches out, answers in: which batch may go, to whom, and what its answer means. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "client/producer_impl.h"
#include "proto/kafka_errors.h"
#include "proto/kafka_messages.h"

enum {
    REQUEST_BATCHES_MAX = 256,
    VERSION_WITH_NAMES = 12,      /* of Produce; later ones say topics by id */
    VERSION_WITH_ZSTD = 7,
    NO_MEMORY_PAUSE_NS = 1000000
};

/* One Produce request: at most one batch per partition. */
struct delivery {
    struct producer *producer;
    int32_t count;
    struct batch *batches[REQUEST_BATCHES_MAX];
};

/* ---- results ---------------------------------------------------------------------------------- */

void delivery_finish(struct producer *p, struct batch *b, enum err err, int16_t code, struct str message) {
    ASSERT(!b->in_flight && !b->finished);
    b->finished = true;
    b->err = err;
    b->code = code;
    if (err) b->message = message.p ? strndup(message.p, (size_t)message.len) : NULL;
    free(b->bytes);
    b->bytes = NULL;
    p->finished++;
    if (err && b->base_sequence >= 0) sequence_hole(p, b->queue);
}

static void finish_code(struct producer *p, struct batch *b, int16_t code, struct str message) {
    char text[300];
    snprintf(text, sizeof text, "%s%s%.*s", kafka_error_name(code), message.p ? ": " : "",
             message.p ? MIN(message.len, 200) : 0, message.p ? message.p : "");
    delivery_finish(p, b, client_err_from_code(code), code, str_from(text));
}

static void retry_later(struct producer *p, struct queue *q) {
    int64_t at_ns = client_now_ns() + client_backoff_ns(p->client, q->failures++);
    q->retry_at_ns = MAX(q->retry_at_ns, at_ns);
    metadata_want(p->client);
}

static void accepted(struct producer *p, struct batch *b, int64_t base_offset, int64_t append_time_ms) {
    b->queue->failures = 0;
    b->base_offset = base_offset;
    b->append_time_ms = append_time_ms;
    sequence_accepted(b);
    delivery_finish(p, b, OK, 0, STR_NULL);
}

static bool is_front(const struct batch *b) {
    LIST_FOREACH(it, &b->queue->batches) {
        const struct batch *first = LIST_ENTRY(it, struct batch, link);
        if (!first->finished) return first == b;
    }
    return false;
}

/* After these the batch may be in the log all the same. */
static bool may_be_written(int16_t code) {
    return code == KERR_REQUEST_TIMED_OUT || code == KERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND ||
           code == KERR_NETWORK_EXCEPTION || code == KERR_KAFKA_STORAGE_ERROR || code == KERR_UNKNOWN_SERVER_ERROR;
}

static void judge(struct producer *p, struct batch *b, const struct k_produce_response_responses_partition_responses *res) {
    struct queue *q = b->queue;
    int16_t code = res->error_code;
    if (code == KERR_NONE) {
        accepted(p, b, res->base_offset, res->log_append_time_ms);
        return;
    }
    if (code == KERR_DUPLICATE_SEQUENCE_NUMBER && p->config.idempotent) {
        accepted(p, b, -1, -1); /* stored before, longer ago than the broker remembers where */
        return;
    }
    /* A refusal speaks of this attempt only, and may precede the search for duplicates; but a number
     * that is out of order cannot be in the log. */
    bool refused = code == KERR_OUT_OF_ORDER_SEQUENCE_NUMBER || (b->attempts == 1 && !may_be_written(code));
    if (refused) b->maybe_written = false;
    if (code == KERR_OUT_OF_ORDER_SEQUENCE_NUMBER && p->config.idempotent && (!is_front(b) || q->bump)) {
        return; /* follows one that did not arrive: goes again after it */
    }
    if (code == KERR_UNKNOWN_PRODUCER_ID && p->config.idempotent && b->attempts == 1) {
        sequence_hole(p, q); /* the broker forgot us: begin again */
        return;
    }
    if (kafka_error_retriable(code)) {
        retry_later(p, q);
        return;
    }
    if (code == KERR_INVALID_PRODUCER_EPOCH || code == KERR_PRODUCER_FENCED) {
        p->fatal = ERR_FENCED;
        p->fatal_code = code;
        snprintf(p->fatal_message, sizeof p->fatal_message, "the producer's epoch is no longer valid: %s",
                 kafka_error_name(code));
    }
    finish_code(p, b, code, res->error_message);
}

static const struct k_produce_response_responses_partition_responses *
find_result(const struct k_produce_response *m, const struct batch *b) {
    const struct topic_meta *meta = b->queue->topic->meta;
    for (int32_t i = 0; i < m->responses_n; i++) {
        const struct k_produce_response_responses *t = &m->responses[i];
        bool same = t->name.len > 0 ? str_is(t->name, meta->name) : uuid_eq(&t->topic_id, &meta->id);
        for (int32_t j = 0; same && j < t->partition_responses_n; j++) {
            if (t->partition_responses[j].index == b->queue->partition) return &t->partition_responses[j];
        }
    }
    return NULL;
}

/* For a batch that waits: the answer to one in flight counts even after its time. */
static void expire_if_due(struct producer *p, struct batch *b, const char *why, int64_t now_ns) {
    if (now_ns < b->expires_ns) return;
    char text[300];
    snprintf(text, sizeof text, "not delivered in time: %s", why);
    delivery_finish(p, b, ERR_TIMEOUT, 0, str_from(text));
}

static void produce_done(void *owner, enum err err, struct client_reply *reply, struct wire_reader *body) {
    struct delivery *d = owner;
    struct producer *p = d->producer;
    struct k_produce_response m;
    bool answered = reply != NULL;
    p->requests--;
    if (answered && k_produce_response_decode(&m, body, reply->version)) err = ERR_CORRUPT;
    for (int32_t i = 0; i < d->count; i++) { /* all first: judging looks at the neighbours */
        d->batches[i]->in_flight = false;
        d->batches[i]->queue->in_flight--;
    }
    for (int32_t i = 0; i < d->count; i++) {
        struct batch *b = d->batches[i];
        if (!err && !answered) { /* acks 0: written to the socket is all that is known */
            accepted(p, b, -1, -1);
        } else {
            const struct k_produce_response_responses_partition_responses *res = err ? NULL : find_result(&m, b);
            if (res) judge(p, b, res);
            else retry_later(p, b->queue);
        }
        producer_report_front(p, b->queue);
    }
    free(d);
}

/* ---- sending ---------------------------------------------------------------------------------- */

static void encode_produce(const void *message, struct wire_writer *w, int16_t version) {
    const struct delivery *d = message;
    struct k_produce_request_topic_data topics[REQUEST_BATCHES_MAX];
    struct k_produce_request_topic_data_partition_data partitions[REQUEST_BATCHES_MAX];
    bool taken[REQUEST_BATCHES_MAX] = {false};
    int32_t topic_count = 0, partition_count = 0;
    for (int32_t i = 0; i < d->count; i++) {
        if (taken[i]) continue;
        const struct producer_topic *topic = d->batches[i]->queue->topic;
        struct k_produce_request_topic_data *t = &topics[topic_count++];
        k_produce_request_topic_data_init(t);
        t->name = str_from(topic->meta->name);
        t->topic_id = topic->meta->id;
        t->partition_data = &partitions[partition_count];
        for (int32_t j = i; j < d->count; j++) {
            const struct batch *b = d->batches[j];
            if (b->queue->topic != topic) continue;
            taken[j] = true;
            partitions[partition_count++] = (struct k_produce_request_topic_data_partition_data){
                b->queue->partition, {b->bytes, (int32_t)b->len}};
            t->partition_data_n++;
        }
    }
    struct k_produce_request m;
    k_produce_request_init(&m);
    m.transactional_id = STR_NULL;
    m.acks = d->producer->config.acks;
    m.timeout_ms = d->producer->config.request_timeout_ms;
    m.topic_data = topics;
    m.topic_data_n = topic_count;
    k_produce_request_encode(&m, w, version);
}

/* The first waiting batch of the queue if it may go now. One that goes again goes alone: later ones
 * must have come back, and new ones wait for it. Otherwise more batches than the broker remembers
 * could pass one whose fate is open, and it could no longer be recognised as a duplicate. */
static struct batch *next_to_send(struct producer *p, struct queue *q, int64_t now_ns) {
    if (now_ns < q->retry_at_ns) return NULL;
    LIST_FOREACH(it, &q->batches) {
        struct batch *b = LIST_ENTRY(it, struct batch, link);
        if (b->finished) continue;
        if (b->in_flight && b->attempts > 1) return NULL;
        if (b->in_flight) continue;
        if (b->attempts > 0 && q->in_flight > 0) return NULL;
        return sequence_assign(p, b) ? b : NULL;
    }
    return NULL;
}

static struct conn *leader_conn(struct producer *p, const struct queue *q, int64_t now_ns) {
    const struct partition_meta *leader = metadata_leader(q->topic->meta, q->partition);
    struct conn *conn = leader ? client_broker_conn(p->client, leader->leader) : NULL;
    if (!conn) {
        metadata_want(p->client);
        return NULL;
    }
    if (conn_want(conn, now_ns)) return conn->in_flight < p->config.in_flight_max ? conn : NULL;
    if (conn->failures > 0) metadata_want(p->client); /* another may lead by now */
    return NULL;
}

static void take(struct delivery *d, struct batch *b) {
    b->in_flight = b->maybe_written = true;
    if (b->attempts++ > 0) d->producer->stats.retries++;
    b->queue->in_flight++;
    d->batches[d->count++] = b;
}

static void submit(struct producer *p, struct conn *conn, struct delivery *d, int64_t now_ns) {
    int16_t version, version_max = INT16_MAX;
    for (int32_t i = 0; i < d->count; i++) {
        if (uuid_is_zero(&d->batches[i]->queue->topic->meta->id)) version_max = VERSION_WITH_NAMES;
    }
    enum err err = conn_version(conn, API_PRODUCE, version_max, &version);
    if (!err && p->config.codec == CODEC_ZSTD && version < VERSION_WITH_ZSTD) err = ERR_UNSUPPORTED;
    int64_t wait_ms = (int64_t)p->config.request_timeout_ms + p->client->config.request_timeout_ms;
    if (!err) {
        err = conn_submit(conn, &(struct conn_message){
            .api_key = API_PRODUCE, .version = version, .unanswered = p->config.acks == 0, .message = d,
            .encode = encode_produce, .deadline_ns = now_ns + wait_ms * 1000000, .done = produce_done, .owner = d});
    }
    if (!err) {
        p->requests++;
        return;
    }
    for (int32_t i = 0; i < d->count; i++) {
        struct batch *b = d->batches[i];
        b->in_flight = false;
        b->queue->in_flight--;
        delivery_finish(p, b, err, 0, err == ERR_UNSUPPORTED
                                          ? STR_LIT("the broker serves no Produce version that we know, with this codec")
                                          : str_from(err_str(err)));
        producer_report_front(p, b->queue);
    }
    free(d);
}

/* One request for the leader of `q`: its batch, and those of other partitions there. The queues
 * served go to the end of the line. */
static bool send_from(struct producer *p, struct queue *q, int64_t now_ns) {
    struct conn *conn = list_empty(&q->batches) || now_ns < q->retry_at_ns ? NULL : leader_conn(p, q, now_ns);
    struct batch *b = conn ? next_to_send(p, q, now_ns) : NULL;
    if (!b) return false;
    struct delivery *d = malloc(sizeof *d);
    if (!d) {
        retry_later(p, q);
        return false;
    }
    *d = (struct delivery){.producer = p};
    size_t bytes = b->len;
    take(d, b);
    LIST_FOREACH(it, &p->active) {
        struct queue *other = LIST_ENTRY(it, struct queue, active_link);
        if (other == q || list_empty(&other->batches) || d->count == REQUEST_BATCHES_MAX) continue;
        if (leader_conn(p, other, now_ns) != conn) continue;
        b = next_to_send(p, other, now_ns);
        if (!b || bytes + b->len > p->config.request_bytes) continue;
        bytes += b->len;
        take(d, b);
    }
    for (int32_t i = 0; i < d->count; i++) {
        struct list *link = &d->batches[i]->queue->active_link;
        list_remove(link);
        list_push_back(&p->active, link);
    }
    submit(p, conn, d, now_ns);
    return true;
}

static void send_all(struct producer *p, int64_t now_ns) {
    bool sent = true;
    while (sent) {
        sent = false;
        LIST_FOREACH(it, &p->active) {
            if (!send_from(p, LIST_ENTRY(it, struct queue, active_link), now_ns)) continue;
            sent = true;
            break; /* the line has changed */
        }
    }
}

/* ---- one step --------------------------------------------------------------------------------- */

/* Closes what has lingered, gives up what is too old. Returns when there is more to do. */
static int64_t tend(struct producer *p, int64_t now_ns) {
    int64_t next_ns = INT64_MAX;
    LIST_FOREACH_SAFE(it, &p->active) {
        struct queue *q = LIST_ENTRY(it, struct queue, active_link);
        int64_t linger_ns = q->open_since_ns + (p->flushing ? 0 : (int64_t)p->config.linger_ms * 1000000);
        if (q->open.record_count > 0) {
            if (now_ns < linger_ns) next_ns = MIN(next_ns, linger_ns);
            else if (producer_close_batch(p, q)) next_ns = MIN(next_ns, now_ns + NO_MEMORY_PAUSE_NS);
        }
        LIST_FOREACH(bt, &q->batches) {
            struct batch *b = LIST_ENTRY(bt, struct batch, link);
            if (b->finished || b->in_flight) continue;
            if (p->fatal) delivery_finish(p, b, p->fatal, p->fatal_code, str_from(p->fatal_message));
            else expire_if_due(p, b, client_unreachable(p->client), now_ns);
            if (!b->finished) {
                next_ns = MIN(next_ns, b->expires_ns);
                if (q->retry_at_ns > now_ns) next_ns = MIN(next_ns, q->retry_at_ns);
                break; /* those behind are younger */
            }
        }
        producer_report_front(p, q);
    }
    return next_ns;
}

void delivery_step(struct producer *p, int64_t deadline_ns) {
    int64_t now_ns = client_now_ns();
    p->stepped_ns = now_ns;
    uint64_t before = p->finished;
    int64_t next_ns = tend(p, now_ns);
    if (!list_empty(&p->active) && !p->fatal) {
        if (sequence_ready(p, now_ns)) send_all(p, now_ns);
        else if (!p->id_in_flight && p->id_retry_at_ns > now_ns) next_ns = MIN(next_ns, p->id_retry_at_ns);
    }
    if (p->fatal || p->finished != before) deadline_ns = 0; /* somebody wants to hear of it */
    client_turn(p->client, MIN(deadline_ns, next_ns));
}
