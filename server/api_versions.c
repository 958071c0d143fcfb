/* api_versions.c - ApiVersions (KIP-35, KIP-511, KIP-584), DescribeCluster: who we are. */
#include "proto/kafka_messages.h"
#include "server/api_nodes.h"
#include "server/controller.h"

/* [a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])? */
static bool software_name_ok(struct str s) {
    for (int32_t i = 0; i < s.len; i++) {
        char c = s.p[i];
        bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        bool inner = i > 0 && i < s.len - 1;
        if (!alnum && !(inner && (c == '-' || c == '.'))) return false;
    }
    return s.len > 0;
}

/* Levels come with an epoch that grows: the metadata offset. Before version 4 a feature that can be off may not be listed. */
static bool fill_features(struct request *rq, struct k_api_versions_response *m, int16_t version) {
    uint32_t count;
    const struct feature *features = features_table(&count);
    const struct image *im = request_image(rq);
    m->supported_features = request_alloc(rq, count, sizeof *m->supported_features);
    if (!m->supported_features) return false;
    m->finalized_features = request_alloc(rq, count, sizeof *m->finalized_features);
    if (!m->finalized_features) return false;
    for (uint32_t i = 0; i < count; i++) {
        struct str name = str_from(features[i].name);
        int16_t level = im->feature_levels[i];
        if (version >= 4 || features[i].min > 0)
            m->supported_features[m->supported_features_n++] =
                (struct k_api_versions_response_supported_features){name, features[i].min, features[i].max};
        if (level > 0)
            m->finalized_features[m->finalized_features_n++] = (struct k_api_versions_response_finalized_features){name, level, level};
    }
    m->finalized_features_epoch = (int64_t)im->metadata_end;
    return true;
}

static void reply(struct request *rq, int16_t error, bool keys, int16_t version) {
    struct k_api_versions_response m;
    k_api_versions_response_init(&m);
    m.error_code = error;
    size_t count;
    const struct api *apis = api_table(&count);
    if (keys) {
        m.api_keys = request_alloc(rq, count, sizeof *m.api_keys);
        if (!m.api_keys) return;
        for (size_t i = 0; i < count; i++) {
            if (apis[i].key >= KAFKA_OWN_KEYS_FIRST) continue; /* clients would not know what that is */
            /* The answer to a version that is not served names only this API. */
            if (error == KERR_UNSUPPORTED_VERSION && apis[i].key != rq->header.api_key) continue;
            m.api_keys[m.api_keys_n++] = (struct k_api_versions_response_api_keys){
                apis[i].key, apis[i].advertised_min, apis[i].max_version,
            };
        }
    }
    if (!error && version >= 3 && !fill_features(rq, &m, version)) return;
    struct wire_writer *w = request_reply_begin(rq);
    k_api_versions_response_encode(&m, w, version);
    request_reply(rq);
}

void api_api_versions(struct request *rq) {
    int16_t version = request_version(rq);
    if (version < 0 || version > 4) {
        reply(rq, KERR_UNSUPPORTED_VERSION, true, 0);
        return;
    }
    struct k_api_versions_request m;
    if (!request_decoded(rq, k_api_versions_request_decode(&m, &rq->body, version))) return;
    bool ok = version < 3 || (software_name_ok(m.client_software_name) && software_name_ok(m.client_software_version));
    reply(rq, ok ? KERR_NONE : KERR_INVALID_REQUEST, ok, version);
}

/* ---- DescribeCluster ------------------------------------------------------------------------------ */

enum { ENDPOINT_BROKERS = 1, ENDPOINT_CONTROLLERS = 2 };

/* "Fenced" is a registered broker that is not up. */
static void list_brokers(struct k_describe_cluster_response *out, const struct api_nodes *nodes, bool with_fenced) {
    for (int32_t i = 0; i < nodes->count; i++) {
        const struct api_node *n = &nodes->list[i];
        if (!n->host.p || (!n->up && !with_fenced)) continue;
        struct k_describe_cluster_response_brokers *b = &out->brokers[out->brokers_n++];
        k_describe_cluster_response_brokers_init(b);
        b->broker_id = n->id;
        b->host = n->host;
        b->port = n->port;
        b->rack = n->rack;
        b->is_fenced = !n->up;
    }
}

void api_describe_cluster(struct request *rq) {
    struct k_describe_cluster_request m;
    if (!request_decoded(rq, k_describe_cluster_request_decode(&m, &rq->body, request_version(rq)))) return;
    struct broker *b = request_broker(rq);
    struct k_describe_cluster_response out;
    struct api_nodes nodes;
    k_describe_cluster_response_init(&out);
    if (m.endpoint_type != ENDPOINT_BROKERS) {
        bool controllers = m.endpoint_type == ENDPOINT_CONTROLLERS;
        out.error_code = controllers ? KERR_MISMATCHED_ENDPOINT_TYPE : KERR_UNSUPPORTED_ENDPOINT_TYPE;
        out.error_message = controllers ? STR_LIT("The request was sent to an endpoint of a broker")
                                        : STR_LIT("Unknown endpoint type");
        out.endpoint_type = ENDPOINT_BROKERS;
    } else {
        if (!api_nodes_get(rq, &nodes)) return;
        out.brokers = request_alloc(rq, (size_t)nodes.count, sizeof *out.brokers);
        if (!out.brokers) return;
        list_brokers(&out, &nodes, m.include_fenced_brokers);
        out.cluster_id = request_uuid_text(rq, &b->cluster_id);
        const struct api_node *controller = api_nodes_find(&nodes, controller_leader_node(b));
        out.controller_id = controller && api_node_is_shown(controller) ? controller->id : -1;
        if (m.include_cluster_authorized_operations) out.cluster_authorized_operations = API_CLUSTER_OPERATIONS;
    }
    struct wire_writer *w = request_reply_begin(rq);
    k_describe_cluster_response_encode(&out, w, request_version(rq));
    request_reply(rq);
}
