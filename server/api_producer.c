/* api_producer.c - InitProducerId: an identity for an idempotent producer.
 *
 * "If the transactional id is null, blindly accept the request and return a new producer id": what a
 * non-transactional producer says about its earlier id changes nothing. Transactions are not
 * served yet, so a transactional id finds no coordinator. */
#include "proto/kafka_messages.h"
#include "server/api.h"
#include "server/controller.h"

struct init_state {
    struct request *rq;
    struct producer_id_request ask;
};

static void reply(struct request *rq, int16_t error, int64_t producer_id) {
    struct k_init_producer_id_response m;
    k_init_producer_id_response_init(&m);
    m.error_code = error;
    m.producer_id = error ? -1 : producer_id;
    m.producer_epoch = error ? -1 : 0;
    struct wire_writer *w = request_reply_begin(rq);
    k_init_producer_id_response_encode(&m, w, request_version(rq));
    request_reply(rq);
}

static void id_done(struct producer_id_request *ask) {
    struct init_state *s = ask->owner;
    reply(s->rq, ask->err ? KERR_COORDINATOR_LOAD_IN_PROGRESS : KERR_NONE, ask->producer_id);
}

static int16_t refuse(const struct request *rq, const struct k_init_producer_id_request *m) {
    if ((m->producer_id == -1) != (m->producer_epoch == -1)) return KERR_INVALID_REQUEST;
    if (m->transactional_id.p == NULL) return KERR_NONE;
    if (m->transactional_id.len == 0) return KERR_INVALID_REQUEST;
    if (m->transaction_timeout_ms <= 0 ||
        m->transaction_timeout_ms > request_broker(rq)->config.transaction_max_timeout_ms)
        return KERR_INVALID_TRANSACTION_TIMEOUT;
    return KERR_COORDINATOR_NOT_AVAILABLE;
}

void api_init_producer_id(struct request *rq) {
    struct k_init_producer_id_request m;
    if (!request_decoded(rq, k_init_producer_id_request_decode(&m, &rq->body, request_version(rq)))) return;
    int16_t error = refuse(rq, &m);
    if (error) {
        reply(rq, error, -1);
        return;
    }
    struct init_state *s = request_alloc(rq, 1, sizeof *s);
    if (!s) return;
    s->rq = rq;
    s->ask = (struct producer_id_request){.caller = rq->reactor, .done = id_done, .owner = s};
    producer_id_get(request_broker(rq)->controller, &s->ask);
}
