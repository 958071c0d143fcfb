/* api_find_coordinator.c - FindCoordinator, and `__consumer_offsets` made when the first group asks for it.
 *
 * A group's coordinator is the leader of its partition; transactions and share groups find nobody yet. */
#include "base/trace.h"
#include "proto/kafka_messages.h"
#include "server/api_nodes.h"
#include "server/api_partitions.h"
#include "server/controller.h"
#include "server/forward.h"
#include "server/group_coordinator.h"
#include "server/internal_topics.h"

enum { KEY_GROUP = 0, KEY_TRANSACTION = 1, KEY_SHARE = 2 };

struct find_state;
struct coordinator_target { struct find_state *state; struct k_find_coordinator_response_coordinators *out; };
struct find_state {
    struct request *rq;
    struct k_find_coordinator_request in;
    struct k_find_coordinator_response out;
    struct k_find_coordinator_response_coordinators *found; /* one for each key */
    struct coordinator_target *targets;
    int32_t count;
    struct api_nodes nodes;
    struct partition_questions questions;
    struct controller_change change;
};

static void refuse(struct k_find_coordinator_response_coordinators *c, int16_t error) {
    c->error_code = error;
    c->error_message = error == KERR_INVALID_REQUEST ? STR_LIT("Unknown key type") : STR_LIT("The coordinator is not available.");
    c->node_id = -1;
    c->port = -1;
}

static void reply(struct find_state *s) {
    struct request *rq = s->rq;
    if (request_version(rq) < 4) {
        s->out.error_code = s->found->error_code;
        s->out.error_message = s->found->error_message;
        s->out.node_id = s->found->node_id;
        s->out.host = s->found->host;
        s->out.port = s->found->port;
    } else {
        s->out.coordinators = s->found;
        s->out.coordinators_n = s->count;
    }
    struct wire_writer *w = request_reply_begin(rq);
    k_find_coordinator_response_encode(&s->out, w, request_version(rq));
    request_reply(rq);
}

static void reply_error(struct find_state *s, int16_t error) {
    for (int32_t i = 0; i < s->count; i++) refuse(&s->found[i], error);
    if (request_version(s->rq) < 4) refuse(&s->found[0], error);
    reply(s);
}

/* The coordinator is whoever leads the partition. */
static void take_leader(void *target, const struct partition_fact *fact) {
    const struct coordinator_target *t = target;
    struct api_leader leader = api_leader_of(&t->state->nodes, &fact->leader);
    const struct api_node *n = leader.error ? NULL : api_nodes_find(&t->state->nodes, leader.id);
    if (!n) {
        refuse(t->out, KERR_COORDINATOR_NOT_AVAILABLE);
        return;
    }
    t->out->node_id = n->id;
    t->out->host = n->host;
    t->out->port = n->port;
}

static void found(struct partition_questions *q) { reply(CONTAINER_OF(q, struct find_state, questions)); }

static struct str key_of(const struct find_state *s, int32_t i) {
    return request_version(s->rq) < 4 ? s->in.key : s->in.coordinator_keys[i];
}

static const struct image_topic *group_topic(const struct find_state *s) {
    return image_topic_by_name(request_image(s->rq), STR_LIT(GROUP_TOPIC));
}

static void look_up(struct find_state *s) {
    const struct image_topic *t = group_topic(s);
    if (!t || t->partition_count == 0) {
        reply_error(s, KERR_COORDINATOR_NOT_AVAILABLE);
        return;
    }
    s->questions = (struct partition_questions){.answer = take_leader, .done = found};
    if (!api_nodes_get(s->rq, &s->nodes) || !partition_questions_init(&s->questions, s->rq)) return;
    for (int32_t i = 0; i < s->count; i++) {
        const struct image_partition *p = &t->partitions[group_partition_of(key_of(s, i), t->partition_count)];
        s->targets[i] = (struct coordinator_target){s, &s->found[i]};
        if (!partition_questions_add(&s->questions, p->owner, p->plid, &s->targets[i])) return;
    }
    partition_questions_send(&s->questions);
}

/* ---- the topic ------------------------------------------------------------------------------------------- */

static void make_topic(struct controller_change *ch, struct controller_edit *e) {
    (void)ch;
    internal_topics_add_offsets(e);
}

static void topic_made(struct controller_change *ch) {
    if (ch->err) trace_warn("groups", "making %s failed: %s", GROUP_TOPIC, err_str(ch->err));
    look_up(ch->owner);
}

static void topic_made_elsewhere(struct request *rq, bool ok) {
    (void)ok; /* the image tells */
    look_up(rq->state);
}

static void make_group_topic(struct find_state *s) {
    struct broker *b = request_broker(s->rq);
    s->rq->state = s;
    if (!s->rq->origin && !controller_is_active(b)) {
        forward_copy(s->rq, topic_made_elsewhere);
        return;
    }
    s->change = (struct controller_change){.caller = s->rq->reactor, .make = make_topic, .done = topic_made, .owner = s};
    controller_submit(b->controller, &s->change);
}

/* ---- arrival ---------------------------------------------------------------------------------------------- */

static bool prepare(struct find_state *s) {
    k_find_coordinator_response_init(&s->out);
    s->count = request_version(s->rq) < 4 ? 1 : MAX(s->in.coordinator_keys_n, 0);
    s->found = request_alloc(s->rq, (size_t)MAX(s->count, 1), sizeof *s->found);
    if (!s->found) return false;
    s->targets = request_alloc(s->rq, (size_t)s->count, sizeof *s->targets);
    if (!s->targets) return false;
    for (int32_t i = 0; i < s->count; i++) {
        k_find_coordinator_response_coordinators_init(&s->found[i]);
        s->found[i].key = key_of(s, i);
    }
    return true;
}

void api_find_coordinator(struct request *rq) {
    struct find_state *s = request_alloc(rq, 1, sizeof *s);
    if (!s) return;
    s->rq = rq;
    if (!request_decoded(rq, k_find_coordinator_request_decode(&s->in, &rq->body, request_version(rq)))) return;
    if (!prepare(s)) return;
    int8_t last = request_version(rq) >= 6 ? KEY_SHARE : KEY_TRANSACTION;
    if (s->in.key_type < 0 || s->in.key_type > last) reply_error(s, KERR_INVALID_REQUEST);
    else if (s->in.key_type != KEY_GROUP) reply_error(s, KERR_COORDINATOR_NOT_AVAILABLE);
    else if (group_topic(s)) look_up(s);
    else make_group_topic(s);
}
