/* api_drain.c - DrainBrokers, Varve's own (key 32002, not listed by ApiVersions): brokers that are to be emptied, and how far that is. */
#include "base/assert.h"
#include "proto/kafka_messages.h"
#include "server/api.h"
#include "server/controller.h"
#include "server/placement.h"

enum { CHANGE_NONE = 0, CHANGE_DRAIN = 1, CHANGE_UNDRAIN = 2 };
typedef struct k_drain_brokers_response_nodes drain_result;

enum { COUNTED_IN_A_TURN = 4000 };          /* partitions, times brokers */

struct drain_state {
    struct request *rq;
    /* counting */
    struct mail mail;
    int32_t up[PLACEMENT_NODES_MAX];     /* that take replicas */
    uint32_t up_count;
    char topic[249];                     /* where it goes on: in it, or behind where it was */
    int32_t topic_len, partition;        /* topic_len 0: at the beginning */
    struct k_drain_brokers_request in;
    struct k_drain_brokers_response out;
    struct controller_change change;
};

static void refuse(drain_result *r, int16_t error, struct str why) {
    r->error_code = error;
    r->error_message = why;
}

/* ---- what a broker holds ---------------------------------------------------------------------------------------- */

/* Whether every broker that could take a replica of `p` has one. */
static bool is_stuck(const struct drain_state *s, const struct image_partition *p) {
    for (uint32_t i = 0; i < s->up_count; i++)
        if (!image_replica_of(p, s->up[i])) return false;
    return true;
}

static void count(struct drain_state *s, const struct image_partition *p) {
    for (int32_t n = 0; n < s->out.nodes_n; n++) {
        drain_result *r = &s->out.nodes[n];
        const struct image_replica *at = image_replica_of(p, r->node_id);
        if (!at) continue;
        r->replicas++;
        r->moving += at->removing;
        r->stuck += r->drained && !at->removing && is_stuck(s, p);
    }
}

static int order(const struct drain_state *s, const struct image_topic *t) {
    int differ = memcmp(t->name, s->topic, (size_t)MIN(t->name_len, s->topic_len));
    return differ ? differ : (t->name_len > s->topic_len) - (t->name_len < s->topic_len);
}

/* The first topic that is not before where counting goes on. */
static uint32_t next_topic(const struct drain_state *s, const struct image *im) {
    uint32_t from = 0, to = im->topic_count;
    while (from < to) {
        uint32_t middle = from + (to - from) / 2;
        if (order(s, im->by_name[middle]) < 0) from = middle + 1;
        else to = middle;
    }
    return from;
}

/* Some partitions, of the image of this turn: the next one may see others, which is why it goes on by name. False: there are more. */
static bool count_some(struct drain_state *s) {
    const struct image *im = request_image(s->rq);
    int32_t budget = COUNTED_IN_A_TURN / MAX(s->out.nodes_n, 1);
    for (uint32_t i = next_topic(s, im); i < im->topic_count; i++) {
        const struct image_topic *t = im->by_name[i];
        int32_t k = s->topic_len > 0 && order(s, t) == 0 ? s->partition : 0;
        for (; k < t->partition_count; k++, budget--) {
            if (budget > 0) {
                count(s, &t->partitions[k]);
                continue;
            }
            ASSERT(t->name_len <= (int32_t)sizeof s->topic);
            memcpy(s->topic, t->name, (size_t)t->name_len);
            s->topic_len = t->name_len;
            s->partition = k;
            return false;
        }
    }
    return true;
}

static void answer(struct drain_state *s) {
    struct wire_writer *w = request_reply_begin(s->rq);
    k_drain_brokers_response_encode(&s->out, w, request_version(s->rq));
    request_reply(s->rq);
}

static void count_on(struct mail *m) {
    struct drain_state *s = CONTAINER_OF(m, struct drain_state, mail);
    if (count_some(s)) {
        answer(s);
        return;
    }
    s->mail.deliver = count_on;
    mailbox_post(&s->rq->reactor->mailbox, &s->mail);
}

/* ---- the change --------------------------------------------------------------------------------------------------- */

static void make(struct controller_change *ch, struct controller_edit *e) {
    struct drain_state *s = ch->owner;
    const struct image *im = controller_edit_image(e);
    for (int32_t i = 0; i < s->out.nodes_n; i++) {
        drain_result *r = &s->out.nodes[i];
        const struct image_node *n = image_node(im, r->node_id);
        int8_t change = s->in.nodes_n >= 0 ? s->in.nodes[i].change : CHANGE_NONE;
        if (r->error_code) continue;
        if (!n) {
            refuse(r, KERR_BROKER_ID_NOT_REGISTERED, request_printf(s->rq, "Broker %d is not registered.", r->node_id));
            continue;
        }
        r->drained = change == CHANGE_NONE ? n->drained : change == CHANGE_DRAIN;
        if (r->drained != n->drained) controller_set_drained(e, r->node_id, r->drained);
    }
    struct placement places;
    placement_of_image(&places, request_broker(s->rq), im, 0);
    for (uint32_t i = 0; i < places.up; i++) s->up[i] = places.row[i].node;
    s->up_count = places.up;
}

static void done(struct controller_change *ch) {
    struct drain_state *s = ch->owner;
    if (ch->err) {
        s->out.error_code = api_change_error(ch->err);
        s->out.error_message = str_from(err_str(ch->err));
        s->out.nodes_n = 0;
        answer(s);
        return;
    }
    count_on(&s->mail);
}

/* False: closing. */
static bool prepare(struct drain_state *s) {
    const struct image *im = request_image(s->rq);
    bool all = s->in.nodes_n < 0;
    size_t n = all ? im->node_count : (size_t)s->in.nodes_n;
    struct number_set seen;
    s->out.nodes = request_alloc(s->rq, n, sizeof *s->out.nodes);
    if (!s->out.nodes || !number_set_init(&seen, s->rq, n)) return false;
    for (size_t i = 0; i < n; i++) {
        drain_result *r = &s->out.nodes[s->out.nodes_n++];
        k_drain_brokers_response_nodes_init(r);
        r->error_message = STR_NULL;
        r->node_id = all ? im->nodes[i].node : s->in.nodes[i].node_id;
        int8_t change = all ? CHANGE_NONE : s->in.nodes[i].change;
        if (change < CHANGE_NONE || change > CHANGE_UNDRAIN) refuse(r, KERR_INVALID_REQUEST, STR_LIT("Unknown change."));
        else if (!number_set_add(&seen, (uint64_t)(uint32_t)r->node_id + 1)) refuse(r, KERR_INVALID_REQUEST, STR_LIT("Duplicate broker in the request."));
    }
    return true;
}

void api_drain_brokers(struct request *rq) {
    struct drain_state *s = request_alloc(rq, 1, sizeof *s);
    if (!s) return;
    s->rq = rq;
    if (!request_decoded(rq, k_drain_brokers_request_decode(&s->in, &rq->body, request_version(rq)))) return;
    k_drain_brokers_response_init(&s->out);
    s->out.error_message = STR_NULL;
    if (s->in.nodes_n > PLACEMENT_NODES_MAX) { /* no cluster has so many */
        s->out.error_code = KERR_INVALID_REQUEST;
        answer(s);
        return;
    }
    if (!prepare(s)) return;
    s->change = (struct controller_change){.caller = rq->reactor, .make = make, .done = done, .owner = s};
    controller_submit(request_broker(rq)->controller, &s->change);
}
