/* api_cluster.c - the cluster seen by its administrator: DescribeQuorum (KIP-595), ListConfigResources (KIP-1142). */
#include "proto/kafka_messages.h"
#include "server/api_nodes.h"
#include "server/controller.h"
#include "server/partition.h"

/* ---- DescribeQuorum: the members of the metadata log, told by their leader --------------------------------- */

typedef struct k_describe_quorum_response_replica_state replica_state;

struct quorum_state {
    struct request *rq;
    struct k_describe_quorum_response out;
    struct k_describe_quorum_response_topics topic;
    struct k_describe_quorum_response_topics_partitions partition;
    struct api_nodes nodes;
    struct partition_facts ask;
    struct partition_fact fact;
    struct partition_progress progress;
    uint64_t plid;
};

static void quorum_reply(struct request *rq, const struct k_describe_quorum_response *out) {
    struct wire_writer *w = request_reply_begin(rq);
    k_describe_quorum_response_encode(out, w, request_version(rq));
    request_reply(rq);
}

/* The leader itself is always caught up. Of the others it knows what they have acknowledged, and when they did so last. */
static replica_state state_of(const struct quorum_state *s, const struct partition_observer *o) {
    struct request *rq = s->rq;
    replica_state r;
    k_describe_quorum_response_replica_state_init(&r);
    r.replica_id = o->node;
    bool self = r.replica_id == request_broker(rq)->config.node_id;
    const struct image_node *n = image_node(request_image(rq), r.replica_id);
    if (request_version(rq) >= 2 && self) r.replica_directory_id = *log_store_incarnation(request_broker(rq)->store);
    else if (request_version(rq) >= 2 && n) r.replica_directory_id = n->incarnation;
    r.log_end_offset = self ? s->fact.end : o->end;
    int64_t silent_ms = self ? 0 : o->silent_ms;
    r.last_fetch_timestamp = silent_ms < 0 ? -1 : rq->reactor->now_ms - silent_ms;
    r.last_caught_up_timestamp = o->in_sync ? r.last_fetch_timestamp : -1;
    return r;
}

/* Kafka calls everybody an observer who does not vote: learners, and those that the configuration has no room for. */
static bool quorum_members(struct quorum_state *s) {
    const struct leader_info *l = &s->fact.leader;
    const struct partition_progress *progress = &s->progress;
    replica_state *all = request_alloc(s->rq, l->count + progress->observer_count, sizeof *all);
    if (!all) return false;
    for (uint8_t i = 0; i < l->count; i++)
        all[i] = state_of(s, &(struct partition_observer){l->members[i], progress->end[i], progress->silent_ms[i], l->in_sync >> i & 1});
    for (uint32_t i = 0; i < progress->observer_count; i++) all[l->count + i] = state_of(s, &progress->observers[i]);
    s->partition.current_voters = all;
    s->partition.current_voters_n = l->voters;
    s->partition.observers = all + l->voters;
    s->partition.observers_n = l->count - l->voters + (int32_t)progress->observer_count;
    return true;
}

static bool quorum_nodes(struct quorum_state *s) {
    struct request *rq = s->rq;
    if (request_version(rq) < 2) return true;
    if (!api_nodes_get(rq, &s->nodes)) return false;
    struct k_describe_quorum_response_nodes_listeners *listeners = request_alloc(rq, (size_t)s->nodes.count, sizeof *listeners);
    if (!listeners) return false;
    s->out.nodes = request_alloc(rq, (size_t)s->nodes.count, sizeof *s->out.nodes);
    if (!s->out.nodes) return false;
    for (int32_t i = 0; i < s->nodes.count; i++) {
        const struct api_node *n = &s->nodes.list[i];
        if (!n->host.p) continue;
        listeners[i] = (struct k_describe_quorum_response_nodes_listeners){
            .name = request_copy(rq, str_from(request_listener(rq))), .host = n->host, .port = (uint16_t)n->port,
        };
        s->out.nodes[s->out.nodes_n++] = (struct k_describe_quorum_response_nodes){.node_id = n->id, .listeners = &listeners[i], .listeners_n = 1};
    }
    return true;
}

static void quorum_done(struct partition_op *base) {
    struct quorum_state *s = CONTAINER_OF(base, struct quorum_state, ask.op);
    bool leads = s->fact.leader.leader == request_broker(s->rq)->config.node_id;
    s->partition.leader_id = s->fact.leader.leader;
    s->partition.leader_epoch = s->fact.leader.epoch;
    s->partition.high_watermark = s->fact.high_watermark;
    if (!leads) { /* and neither has anybody been found that does */
        s->partition.error_code = KERR_NOT_LEADER_OR_FOLLOWER;
        s->partition.error_message = STR_LIT("For requests intended only for the leader, this error indicates that the broker is not the current leader.");
        s->partition.leader_id = s->partition.leader_epoch = -1;
    } else if (!quorum_members(s) || !quorum_nodes(s)) {
        return;
    }
    quorum_reply(s->rq, &s->out);
}

static void quorum_fill(struct quorum_state *s) {
    k_describe_quorum_response_topics_init(&s->topic);
    k_describe_quorum_response_topics_partitions_init(&s->partition);
    s->partition.error_message = STR_NULL;
    s->topic.topic_name = STR_LIT(METADATA_TOPIC);
    s->topic.partitions = &s->partition;
    s->topic.partitions_n = 1;
    s->out.error_message = STR_NULL;
    s->out.topics = &s->topic;
    s->out.topics_n = 1;
}

/* Anything but the one partition of the metadata log: each gets the error. */
static bool quorum_refuse(struct quorum_state *s, const struct k_describe_quorum_request *m) {
    int32_t n = MAX(m->topics_n, 0);
    s->out.error_message = STR_NULL;
    s->out.topics = request_alloc(s->rq, (size_t)n, sizeof *s->out.topics);
    if (!s->out.topics) return false;
    s->out.topics_n = n;
    for (int32_t i = 0; i < n; i++) {
        struct k_describe_quorum_response_topics *t = &s->out.topics[i];
        k_describe_quorum_response_topics_init(t);
        t->topic_name = m->topics[i].topic_name;
        int32_t count = MAX(m->topics[i].partitions_n, 0);
        t->partitions = request_alloc(s->rq, (size_t)count, sizeof *t->partitions);
        if (!t->partitions) return false;
        t->partitions_n = count;
        for (int32_t k = 0; k < count; k++) {
            k_describe_quorum_response_topics_partitions_init(&t->partitions[k]);
            t->partitions[k].partition_index = m->topics[i].partitions[k].partition_index;
            t->partitions[k].error_code = KERR_UNKNOWN_TOPIC_OR_PARTITION;
            t->partitions[k].error_message = STR_LIT("This server does not host this topic-partition.");
        }
    }
    return true;
}

void api_describe_quorum(struct request *rq) {
    struct k_describe_quorum_request m;
    struct quorum_state *s = request_alloc(rq, 1, sizeof *s);
    if (!s) return;
    s->rq = rq;
    if (!request_decoded(rq, k_describe_quorum_request_decode(&m, &rq->body, request_version(rq)))) return;
    k_describe_quorum_response_init(&s->out);
    bool valid = m.topics_n == 1 && str_is(m.topics[0].topic_name, METADATA_TOPIC) && m.topics[0].partitions_n == 1 &&
                 m.topics[0].partitions[0].partition_index == 0;
    if (!valid) {
        if (quorum_refuse(s, &m)) quorum_reply(rq, &s->out);
        return;
    }
    uint32_t owner;
    quorum_fill(s);
    s->plid = controller_metadata_plid(request_broker(rq)->controller, &owner);
    s->ask = (struct partition_facts){
        .op = {.caller = rq->reactor, .owner = &request_broker(rq)->reactors[owner], .done = quorum_done}, .count = 1, .plids = &s->plid,
        .facts = &s->fact, .progress = &s->progress,
    };
    partition_facts(&s->ask);
}

/* ---- ListConfigResources ------------------------------------------------------------------------------------ */

typedef struct k_list_config_resources_response_config_resources resource;

static const int8_t resource_types[] = {
    API_RESOURCE_TOPIC, API_RESOURCE_BROKER, API_RESOURCE_BROKER_LOGGER, API_RESOURCE_CLIENT_METRICS, API_RESOURCE_GROUP,
};

static bool type_known(int8_t type) {
    for (size_t i = 0; i < ARRAY_LEN(resource_types); i++)
        if (resource_types[i] == type) return true;
    return false;
}

static bool type_asked(const struct k_list_config_resources_request *m, int8_t type) {
    if (m->resource_types_n <= 0) return true;
    for (int32_t i = 0; i < m->resource_types_n; i++)
        if (m->resource_types[i] == type) return true;
    return false;
}

/* Version 0 lists client metrics only, of which there are none. */
static bool resources_list(struct request *rq, const struct k_list_config_resources_request *m,
                           struct k_list_config_resources_response *out) {
    const struct image *im = request_image(rq);
    uint32_t groups = im->groups ? im->groups->count : 0;
    out->config_resources = request_alloc(rq, im->topic_count + groups + ARRAY_LEN(resource_types), sizeof *out->config_resources);
    if (!out->config_resources) return false;
    if (request_version(rq) == 0) return true;
    struct str self = request_printf(rq, "%d", request_broker(rq)->config.node_id);
    for (size_t i = 0; i < ARRAY_LEN(resource_types); i++) {
        int8_t type = resource_types[i];
        if (!type_asked(m, type)) continue;
        if (type == API_RESOURCE_BROKER || type == API_RESOURCE_BROKER_LOGGER)
            out->config_resources[out->config_resources_n++] = (resource){self, type};
        for (uint32_t k = 0; type == API_RESOURCE_GROUP && k < groups; k++)
            out->config_resources[out->config_resources_n++] = (resource){str_from(im->groups->list[k].name), type};
        for (uint32_t k = 0; type == API_RESOURCE_TOPIC && k < im->topic_count; k++)
            out->config_resources[out->config_resources_n++] =
                (resource){{im->by_name[k]->name, im->by_name[k]->name_len}, type}; /* encoded in this turn */
    }
    return true;
}

void api_list_config_resources(struct request *rq) {
    struct k_list_config_resources_request m;
    struct k_list_config_resources_response out;
    if (!request_decoded(rq, k_list_config_resources_request_decode(&m, &rq->body, request_version(rq)))) return;
    k_list_config_resources_response_init(&out);
    for (int32_t i = 0; i < m.resource_types_n; i++)
        if (!type_known(m.resource_types[i])) out.error_code = KERR_UNSUPPORTED_VERSION;
    if (!out.error_code && !resources_list(rq, &m, &out)) return;
    struct wire_writer *w = request_reply_begin(rq);
    k_list_config_resources_response_encode(&out, w, request_version(rq));
    request_reply(rq);
}
