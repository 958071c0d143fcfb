/* api_metadata.c - Metadata: brokers, topics, partitions and their leaders.
 *
 * Leader epochs are real: they are asked from the reactors that own the partitions, so the answer
 * is put together in two steps; everything from the image is copied in the first. */
#include "proto/kafka_messages.h"
#include "server/api_nodes.h"
#include "server/api_partitions.h"
#include "server/conn_impl.h"
#include "server/controller.h"
#include "server/forward.h"
#include "server/peer.h"

enum { AUTO_CREATE_MAX = 100 };  /* names that one request may have created */

/* A leader that died, or handed over, has a successor within some 10 ms; within some 100 where thousands of partitions lost theirs on a
 * busy machine. A client that is told of none asks again a quarter of a second later, or later still; so it is told a little later, but of
 * the successor. Only while the leader was heard from not long ago: a partition that stays without a leader makes nobody wait. And
 * when others wait behind it on its connection, it waits for a moment only: what the client wants besides, of partitions that have a leader,
 * does not suffer from those that have none. Not at once: a client that is told of no leader sends nothing there for up to a second. */
#define ENDED_WITHIN_NS INT64_C(600000000)
#define HOLD_NS INT64_C(300000000)
#define HOLD_OTHERS_NS INT64_C(100000000)    /* when others wait behind it */
#define HOLD_PAUSE_NS INT64_C(10000000)      /* the first; each further one is twice as long, up to */
#define HOLD_PAUSE_MAX_NS INT64_C(40000000)
enum { HOLD_PARTITIONS_MAX = 1000 };

/* Of a broker that was lost a connection is told in two steps, for the sake of current librdkafka. It gives up a broker that is shown no
 * more, at once, and when it learns in the same answer who leads instead, partitions get lost on their way from the old one to the new: it
 * sends nothing to them until it looks for strays, up to a second later. So the answer that names the new leaders shows the old broker once
 * more; one that knows of no leaders yet does not, for then there is nobody to be lost on the way to.
 *
 * But one that stays in its list keeps the pause before the next attempt to connect, which grows to ten seconds when brokers die again and
 * again; one that comes anew begins without. So the next answer about topics leaves out the broker that was shown once more, also if it is back
 * by then, as long as it leads nothing that is asked for, and nothing that only it can lead: a client that asks for some of its topics would
 * give up the leader of others. (What others can lead does not go back to it so soon.) It asks for that next answer soon in most cases: a
 * connection that breaks with records under way makes it ask twice. After ten seconds the pause is over in any case. */
#define NEWS_NS INT64_C(2000000000)
#define LEFT_OUT_NS INT64_C(10000000000)

struct metadata_state;
struct partition_target { struct metadata_state *state; struct k_metadata_response_topics_partitions *out; };
struct metadata_state {
    struct request *rq;
    struct k_metadata_request in;
    struct k_metadata_response out;
    struct api_nodes nodes;
    struct partition_questions questions;
    struct str create[AUTO_CREATE_MAX];
    uint32_t create_count;
    /* partitions, and those of them that will have a leader in a moment */
    uint32_t partitions, expected;
    int64_t hold_until_ns, pause_ns;
    struct timer timer;
};

/* What the image says about one topic. False: closing. */
static bool fill_topic(struct metadata_state *s, struct k_metadata_response_topics *out, const struct image_topic *t) {
    struct request *rq = s->rq;
    out->name = request_copy(rq, (struct str){t->name, t->name_len});
    out->topic_id = t->id;
    out->is_internal = t->internal;
    out->partitions_n = t->partition_count;
    s->partitions += (uint32_t)t->partition_count;
    out->partitions = request_alloc(rq, (size_t)t->partition_count, sizeof *out->partitions);
    struct partition_target *targets = request_alloc(rq, (size_t)t->partition_count, sizeof *targets);
    if (!out->partitions || !targets) return false;
    if (s->in.include_topic_authorized_operations) out->topic_authorized_operations = API_TOPIC_OPERATIONS;
    for (int32_t i = 0; i < t->partition_count; i++) {
        const struct image_partition *from = &t->partitions[i];
        struct k_metadata_response_topics_partitions *p = &out->partitions[i];
        k_metadata_response_topics_partitions_init(p);
        p->partition_index = i;
        p->replica_nodes = request_alloc(rq, (size_t)from->replica_count * 3, sizeof *p->replica_nodes);
        if (!p->replica_nodes) return false;
        memcpy(p->replica_nodes, from->replicas, (size_t)from->replica_count * sizeof *p->replica_nodes);
        p->replica_nodes_n = from->replica_count;
        p->isr_nodes = p->replica_nodes + from->replica_count;
        p->offline_replicas = p->isr_nodes + from->replica_count;
        targets[i] = (struct partition_target){s, p};
        if (!partition_questions_add(&s->questions, from->owner, from->plid, &targets[i])) return false;
    }
    return true;
}

static void refuse_topic(struct metadata_state *s, struct k_metadata_response_topics *out,
                         const struct k_metadata_request_topics *asked, bool by_id, int16_t error) {
    bool nullable = request_version(s->rq) >= 12;
    out->error_code = error;
    out->name = by_id ? (nullable ? STR_NULL : STR_LIT("")) : asked->name;
    if (by_id) out->topic_id = asked->topic_id;
}

/* One topic that was asked for and does not exist. "Create in the background and still answer 3." */
static void unknown_topic(struct metadata_state *s, struct k_metadata_response_topics *out,
                          const struct k_metadata_request_topics *asked) {
    if (topic_name_problem(asked->name)) {
        refuse_topic(s, out, asked, false, KERR_INVALID_TOPIC_EXCEPTION);
        return;
    }
    refuse_topic(s, out, asked, false, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    bool create = s->in.allow_auto_topic_creation && request_broker(s->rq)->config.auto_create_topics;
    if (create && !topic_name_internal(asked->name) && s->create_count < AUTO_CREATE_MAX)
        s->create[s->create_count++] = asked->name;
}

static bool fill_asked(struct metadata_state *s, const struct k_metadata_request_topics *asked,
                       struct number_set *seen) {
    int16_t version = request_version(s->rq);
    /* An id counts, whatever the name: Java's consumer sends an empty one beside the ids of topics that a group assigned to it. */
    bool by_id = asked->name.p == NULL || (version >= 12 && !uuid_is_zero(&asked->topic_id));
    int16_t error = KERR_NONE;
    const struct image_topic *t = NULL;
    if (by_id && version < 12) error = KERR_INVALID_REQUEST; /* ids came with version 10, but to no effect before 12 */
    else t = request_find_topic(s->rq, by_id, asked->name, &asked->topic_id, &error);
    /* A topic that is named twice is answered once: the answer must not grow beyond the cluster. */
    if (t && !number_set_add(seen, (uint64_t)(uintptr_t)t)) return true;
    struct k_metadata_response_topics *out = &s->out.topics[s->out.topics_n++];
    k_metadata_response_topics_init(out);
    if (t) return fill_topic(s, out, t);
    if (error == KERR_UNKNOWN_TOPIC_OR_PARTITION) unknown_topic(s, out, asked);
    else refuse_topic(s, out, asked, by_id, error);
    return true;
}

static bool fill_all(struct metadata_state *s) {
    const struct image *im = request_image(s->rq);
    s->out.topics = request_alloc(s->rq, im->topic_count, sizeof *s->out.topics);
    if (!s->out.topics) return false;
    for (uint32_t i = 0; i < im->topic_count; i++) {
        struct k_metadata_response_topics *out = &s->out.topics[s->out.topics_n++];
        k_metadata_response_topics_init(out);
        if (!fill_topic(s, out, im->by_name[i])) return false;
    }
    return true;
}

static bool fill_topics(struct metadata_state *s) {
    int32_t n = s->in.topics_n;
    /* "v0 empty list = all topics; v1+ null = all, empty = none." */
    if (n < 0 || (n == 0 && request_version(s->rq) == 0)) return fill_all(s);
    struct number_set seen;
    s->out.topics = request_alloc(s->rq, (size_t)n, sizeof *s->out.topics);
    if (!s->out.topics || !number_set_init(&seen, s->rq, (size_t)n)) return false;
    for (int32_t i = 0; i < n; i++)
        if (!fill_asked(s, &s->in.topics[i], &seen)) return false;
    return true;
}

/* Whether that this broker was lost is told here for the first time. */
static bool is_news(const struct metadata_state *s, const struct api_node *n) {
    int64_t silent_ns = peer_silence_ns(s->rq->reactor, n->id);
    return n->host.p && s->rq->conn && silent_ns < NEWS_NS && s->rq->reactor->now_ns - silent_ns > s->rq->conn->lost_told_ns;
}

static bool is_leader(const struct metadata_state *s, int32_t id) {
    for (int32_t i = 0; i < s->out.topics_n; i++)
        for (int32_t k = 0; k < s->out.topics[i].partitions_n; k++)
            if (s->out.topics[i].partitions[k].leader_id == id) return true;
    return false;
}

/* Whether there is a partition that nobody else has. */
static bool has_alone(const struct metadata_state *s, int32_t id) {
    const struct image *im = request_image(s->rq);
    for (uint32_t i = 0; i < im->topic_count; i++)
        for (int32_t k = 0; k < im->by_name[i]->partition_count; k++) {
            const struct image_partition *p = &im->by_name[i]->partitions[k];
            if (p->replica_count == 1 && p->replicas[0] == id) return true;
        }
    return false;
}

/* It was shown though it was lost, and the client has not heard yet that it was. */
static bool is_left_out(const struct metadata_state *s, const struct api_node *n) {
    const struct conn *c = s->rq->conn;
    if (!c || s->rq->reactor->now_ns - c->lost_told_ns > LEFT_OUT_NS || n->id == s->out.controller_id || s->out.topics_n == 0) return false;
    for (uint32_t i = 0; i < c->lost_shown_count; i++)
        if (c->lost_shown[i] == n->id) return !is_leader(s, n->id) && !has_alone(s, n->id);
    return false;
}

static bool fill_cluster(struct metadata_state *s) {
    if (!api_nodes_get(s->rq, &s->nodes)) return false;
    s->out.brokers = request_alloc(s->rq, (size_t)s->nodes.count, sizeof *s->out.brokers);
    if (!s->out.brokers) return false;
    s->out.cluster_id = request_uuid_text(s->rq, &request_broker(s->rq)->cluster_id);
    if (s->in.include_cluster_authorized_operations) s->out.cluster_authorized_operations = API_CLUSTER_OPERATIONS;
    return true;
}

static void show_broker(struct metadata_state *s, const struct api_node *n) {
    struct k_metadata_response_brokers *out = &s->out.brokers[s->out.brokers_n++];
    k_metadata_response_brokers_init(out);
    out->node_id = n->id;
    out->host = n->host;
    out->port = n->port;
    out->rack = n->rack;
}

/* At the end: those that lead now must be among them. */
static void show_brokers(struct metadata_state *s) {
    int32_t again[CONN_LOST_SHOWN_MAX];
    uint32_t again_count = 0;
    bool told = false;
    const struct api_node *controller = api_nodes_find(&s->nodes, controller_leader_node(request_broker(s->rq)));
    s->out.controller_id = controller && api_node_is_shown(controller) ? controller->id : -1;
    for (int32_t i = 0; i < s->nodes.count; i++) {
        const struct api_node *n = &s->nodes.list[i];
        bool lost = !api_node_is_shown(n), news = lost && is_news(s, n), shown_again = news && s->expected == 0;
        told = told || news;
        if (shown_again && again_count < CONN_LOST_SHOWN_MAX) again[again_count++] = n->id;
        if (lost ? shown_again : !is_left_out(s, n)) show_broker(s, n);
    }
    struct conn *c = s->rq->conn;
    if (!c) return;
    if (told) c->lost_told_ns = s->rq->reactor->now_ns;
    if (s->out.topics_n == 0 && again_count == 0) return; /* who asks for brokers only is not told more than that */
    c->lost_shown_count = again_count;
    memcpy(c->lost_shown, again, again_count * sizeof *again);
}

/* Only the controller makes topics. */
static void create_topics(struct metadata_state *s) {
    if (controller_is_active(request_broker(s->rq)) || s->rq->origin) topics_auto_create(s->rq, s->create, s->create_count);
    else forward_copy(s->rq, NULL);
}

static void ask(struct metadata_state *s) {
    s->expected = 0;
    partition_questions_send(&s->questions);
}

static void ask_again(struct timer *t) {
    struct metadata_state *s = CONTAINER_OF(t, struct metadata_state, timer);
    api_nodes_look(s->rq, &s->nodes);
    ask(s);
}

/* Whether the answer is put off, for leaders that there will be in a moment. */
static bool hold(struct metadata_state *s) {
    struct reactor *r = s->rq->reactor;
    if (s->expected == 0 || s->partitions > HOLD_PARTITIONS_MAX) return false;
    if (s->pause_ns == 0) {
        s->hold_until_ns = MIN(s->hold_until_ns, r->now_ns + HOLD_NS);
        s->pause_ns = HOLD_PAUSE_NS;
    }
    if (r->now_ns >= s->hold_until_ns) return false;
    timer_set(&r->timers, &s->timer, MIN(r->now_ns + s->pause_ns, s->hold_until_ns));
    s->pause_ns = MIN(2 * s->pause_ns, HOLD_PAUSE_MAX_NS);
    return true;
}

static void answer(struct metadata_state *s) {
    struct request *rq = s->rq;
    show_brokers(s);
    struct wire_writer *w = request_reply_begin(rq);
    k_metadata_response_encode(&s->out, w, request_version(rq));
    if (s->create_count > 0) create_topics(s);
    request_reply(rq);
}

static void looked(struct partition_questions *q) {
    struct metadata_state *s = CONTAINER_OF(q, struct metadata_state, questions);
    if (!hold(s)) answer(s);
}

/* Others wait behind it, perhaps before it does. */
static void hurry(struct request *rq) {
    struct metadata_state *s = rq->state;
    struct reactor *r = rq->reactor;
    request_refresh_time(rq);
    s->hold_until_ns = MIN(s->hold_until_ns, r->now_ns + HOLD_OTHERS_NS);
    s->pause_ns = MIN(s->pause_ns, HOLD_PAUSE_NS);
    if (timer_armed(&s->timer)) timer_set(&r->timers, &s->timer, MIN(s->timer.deadline_ns, r->now_ns + HOLD_PAUSE_NS));
}

/* Whether there was a leader a moment ago: it is dead, or has said that it leads no more. */
static bool ended_lately(const struct reactor *r, const struct leader_info *known) {
    int64_t ago_ns = known->leader >= 0 ? peer_silence_ns(r, known->leader) : r->now_ns - known->since_ns;
    return known->epoch >= 0 && ago_ns < ENDED_WITHIN_NS;
}

/* "No leader: partition error 5, leader -1." So it is while the log is being made. */
static void take_leader(void *target, const struct partition_fact *fact) {
    const struct partition_target *t = target;
    const struct api_nodes *nodes = &t->state->nodes;
    struct k_metadata_response_topics_partitions *p = t->out;
    struct api_leader leader = api_leader_of(nodes, &fact->leader);
    p->leader_id = leader.id;
    p->leader_epoch = leader.epoch;
    p->error_code = leader.error;
    t->state->expected += leader.error == KERR_LEADER_NOT_AVAILABLE && ended_lately(t->state->rq->reactor, &fact->leader);
    p->isr_nodes_n = api_in_sync(nodes, &fact->leader, p->replica_nodes, p->replica_nodes_n, p->isr_nodes);
    p->offline_replicas_n = api_offline(nodes, p->replica_nodes, p->replica_nodes_n, p->offline_replicas);
}

void api_metadata(struct request *rq) {
    struct metadata_state *s = request_alloc(rq, 1, sizeof *s);
    if (!s) return;
    s->rq = rq;
    rq->state = s;
    rq->hurry = hurry;
    s->hold_until_ns = INT64_MAX;
    timer_init(&s->timer, ask_again);
    if (!request_decoded(rq, k_metadata_request_decode(&s->in, &rq->body, request_version(rq)))) return;
    k_metadata_response_init(&s->out);
    s->questions = (struct partition_questions){.answer = take_leader, .done = looked};
    if (!partition_questions_init(&s->questions, rq)) return;
    if (fill_cluster(s) && fill_topics(s)) ask(s);
}
