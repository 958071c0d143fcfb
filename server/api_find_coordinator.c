/* api_find_coordinator.c - FindCoordinator, and `__consumer_offsets` made when the first group asks for it.
 *
 * One broker coordinates all groups; transactions and share groups find nobody yet. */
#include "base/trace.h"
#include "proto/kafka_messages.h"
#include "server/api.h"
#include "server/controller.h"
#include "server/group_coordinator.h"
#include "server/internal_topics.h"

enum { KEY_GROUP = 0, KEY_TRANSACTION = 1, KEY_SHARE = 2 };

struct find_state {
    struct request *rq;
    struct k_find_coordinator_request in;
    struct controller_change change;
};

static void fill(struct request *rq, int16_t error, struct k_find_coordinator_response_coordinators *c) {
    c->error_code = error;
    switch (error) {
    case KERR_NONE:
        c->node_id = request_broker(rq)->config.node_id;
        request_advertised(rq, &c->host, &c->port);
        return;
    case KERR_INVALID_REQUEST: c->error_message = STR_LIT("Unknown key type"); break;
    default: c->error_message = STR_LIT("The coordinator is not available."); break;
    }
    c->node_id = -1;
    c->port = -1;
}

static void reply(struct find_state *s, int16_t error) {
    struct request *rq = s->rq;
    struct k_find_coordinator_response out;
    struct k_find_coordinator_response_coordinators one;
    k_find_coordinator_response_init(&out);
    k_find_coordinator_response_coordinators_init(&one);
    fill(rq, error, &one);
    if (request_version(rq) < 4) {
        out.error_code = one.error_code;
        out.error_message = one.error_message;
        out.node_id = one.node_id;
        out.host = one.host;
        out.port = one.port;
    } else {
        int32_t n = MAX(s->in.coordinator_keys_n, 0);
        out.coordinators = request_alloc(rq, (size_t)n, sizeof *out.coordinators);
        if (!out.coordinators) return;
        out.coordinators_n = n;
        for (int32_t i = 0; i < n; i++) {
            out.coordinators[i] = one;
            out.coordinators[i].key = s->in.coordinator_keys[i];
        }
    }
    struct wire_writer *w = request_reply_begin(rq);
    k_find_coordinator_response_encode(&out, w, request_version(rq));
    request_reply(rq);
}

static void make_topic(struct controller_change *ch, struct controller_edit *e) {
    (void)ch;
    internal_topics_add_offsets(e);
}

static int16_t topic_error(const struct find_state *s) {
    return image_topic_by_name(request_image(s->rq), STR_LIT(GROUP_TOPIC)) ? KERR_NONE : KERR_COORDINATOR_NOT_AVAILABLE;
}

static void topic_made(struct controller_change *ch) {
    struct find_state *s = ch->owner;
    if (ch->err) trace_warn("groups", "making %s failed: %s", GROUP_TOPIC, err_str(ch->err));
    reply(s, ch->err ? KERR_COORDINATOR_NOT_AVAILABLE : topic_error(s));
}

void api_find_coordinator(struct request *rq) {
    struct find_state *s = request_alloc(rq, 1, sizeof *s);
    if (!s) return;
    s->rq = rq;
    if (!request_decoded(rq, k_find_coordinator_request_decode(&s->in, &rq->body, request_version(rq)))) return;
    int8_t last = request_version(rq) >= 6 ? KEY_SHARE : KEY_TRANSACTION;
    if (s->in.key_type < 0 || s->in.key_type > last) {
        reply(s, KERR_INVALID_REQUEST);
    } else if (s->in.key_type != KEY_GROUP) {
        reply(s, KERR_COORDINATOR_NOT_AVAILABLE);
    } else if (topic_error(s) == KERR_NONE) {
        reply(s, KERR_NONE);
    } else {
        s->change = (struct controller_change){.caller = rq->reactor, .make = make_topic, .done = topic_made, .owner = s};
        controller_submit(request_broker(rq)->controller, &s->change);
    }
}
