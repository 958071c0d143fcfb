/* sequence.c - idempotence: producer id, epochs and sequence numbers, per partition.
 *
 * A broker takes a batch if its first sequence number follows the last one it took from this
 * (producer id, epoch, partition), and recognises the last five batches. So every batch keeps its
 * number through all retries. When a batch is given up, its numbers are missing and everything
 * after it would be refused: the partition then begins again at 0 under the next epoch, which a
 * producer without transactions may do by itself (KIP-360). Before that, every batch that may
 * have been written under the old epoch is sent once more with its old number, alone, until the
 * broker has said what became of it; otherwise it could be stored twice.
 *
 * A broker that has no state for a partition accepts any first number. Therefore only one batch is
 * in flight until the first one of an epoch was accepted: a later one must not found the state. */
#include <limits.h>

#include <stdio.h>

#include "base/assert.h"
#include "client/producer_impl.h"
#include "proto/kafka_errors.h"
#include "proto/kafka_messages.h"

static void encode_init(const void *message, struct wire_writer *w, int16_t version) {
    k_init_producer_id_request_encode(message, w, version);
}

static void fatal(struct producer *p, enum err err, int16_t code, const char *what) {
    p->fatal = err;
    p->fatal_code = code;
    snprintf(p->fatal_message, sizeof p->fatal_message, "no producer id: %s", what);
}

static void init_done(void *owner, enum err err, struct client_reply *reply, struct wire_reader *body) {
    struct producer *p = owner;
    struct k_init_producer_id_response m;
    p->id_in_flight = false;
    if (!err) {
        err = k_init_producer_id_response_decode(&m, body, reply->version);
        if (err) {
            fatal(p, ERR_CORRUPT, 0, "the InitProducerId response does not parse");
            return;
        }
    }
    if (!err && m.error_code == KERR_NONE) {
        p->producer_id = m.producer_id;
        p->first_epoch = m.producer_epoch;
        p->id_failures = 0;
        return;
    }
    p->id_retry_at_ns = client_now_ns() + client_backoff_ns(p->client, p->id_failures++);
    if (!err && !kafka_error_retriable(m.error_code)) {
        fatal(p, client_err_from_code(m.error_code), m.error_code, kafka_error_name(m.error_code));
    }
}

bool sequence_ready(struct producer *p, int64_t now_ns) {
    if (!p->config.idempotent || p->producer_id >= 0) return true;
    if (p->id_in_flight || now_ns < p->id_retry_at_ns) return false;
    struct conn *conn = client_any(p->client, now_ns);
    if (!conn) return false;
    int16_t version;
    if (conn_version(conn, API_INIT_PRODUCER_ID, INT16_MAX, &version)) {
        fatal(p, ERR_UNSUPPORTED, 0, "the broker does not serve InitProducerId");
        return false;
    }
    struct k_init_producer_id_request m;
    k_init_producer_id_request_init(&m);
    m.transactional_id = STR_NULL;
    m.transaction_timeout_ms = INT32_MAX;
    enum err err = conn_submit(conn, &(struct conn_message){
        .api_key = API_INIT_PRODUCER_ID, .version = version, .message = &m, .encode = encode_init,
        .deadline_ns = now_ns + (int64_t)p->client->config.request_timeout_ms * 1000000,
        .done = init_done, .owner = p});
    if (err) fatal(p, err, 0, err_str(err));
    p->id_in_flight = err == OK;
    return false;
}

static void restart_numbers(struct producer *p, struct queue *q) {
    if (q->epoch == INT16_MAX) {
        fatal(p, ERR_FENCED, 0, "all epochs of the producer id are used up");
        return;
    }
    q->epoch++;
    q->next_sequence = 0;
    q->established = q->bump = false;
    LIST_FOREACH(it, &q->batches) LIST_ENTRY(it, struct batch, link)->base_sequence = -1;
}

bool sequence_assign(struct producer *p, struct batch *b) {
    struct queue *q = b->queue;
    if (!p->config.idempotent) return true;
    if (q->epoch < 0) q->epoch = p->first_epoch;
    if ((q->bump || !q->established) && q->in_flight > 0) return false;
    if (q->bump && !(b->base_sequence >= 0 && b->maybe_written)) restart_numbers(p, q);
    if (p->fatal) return false;
    if (b->base_sequence < 0) {
        b->base_sequence = q->next_sequence;
        q->next_sequence = (int32_t)(((uint32_t)q->next_sequence + (uint32_t)b->record_count) & 0x7fffffffu);
        batch_set_producer(b->bytes, p->producer_id, q->epoch, b->base_sequence);
        batch_seal(b->bytes);
    }
    return true;
}

void sequence_accepted(struct batch *b) { b->queue->established = true; }

void sequence_hole(struct producer *p, struct queue *q) {
    if (p->config.idempotent) q->bump = true;
}
