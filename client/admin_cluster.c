/* admin_cluster.c - nodes, the metadata quorum, reassignments. */
#include "client/admin_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/kafka_errors.h"
#include "proto/kafka_messages.h"

#define METADATA_TOPIC "__cluster_metadata"
#define PEER_LISTENER "CONTROLLER"

static enum err no_memory(struct client *c, struct client_reply *reply) {
    client_reply_free(reply);
    return client_fail(c, ERR_NOMEM, 0, "out of memory");
}

/* ---- nodes ------------------------------------------------------------------------------------ */

ADMIN_ADAPTERS(describe_cluster)

struct nodes_snapshot { struct admin_nodes nodes; struct client_reply reply; };

static void cluster_result(const void *response, struct admin_result *out) {
    const struct k_describe_cluster_response *m = response;
    *out = (struct admin_result){true, m->error_code, m->error_message};
}

static int by_node(const void *a, const void *b) {
    int32_t x = ((const struct admin_node *)a)->id, y = ((const struct admin_node *)b)->id;
    return (x > y) - (x < y);
}

static bool copy_nodes(struct nodes_snapshot *s, const struct k_describe_cluster_response *m) {
    struct arena *a = &s->reply.arena;
    a->limit_bytes *= 2; /* copies join the decoded message */
    int32_t n = MAX(m->brokers_n, 0);
    struct admin_node *nodes = arena_array(a, (size_t)n + 1, sizeof *nodes);
    if (!nodes) return false;
    for (int32_t i = 0; i < n; i++) {
        const struct k_describe_cluster_response_brokers *b = &m->brokers[i];
        nodes[i] = (struct admin_node){b->broker_id, arena_strdup(a, b->host), b->port, b->rack.p ? arena_strdup(a, b->rack) : NULL, !b->is_fenced};
        if (!nodes[i].host || (b->rack.p && !nodes[i].rack)) return false;
    }
    qsort(nodes, (size_t)n, sizeof *nodes, by_node);
    s->nodes = (struct admin_nodes){arena_strdup(a, m->cluster_id), m->controller_id, nodes, n};
    return s->nodes.cluster_id != NULL;
}

/* Old versions do not know the field, which has to be left at its default for them. */
static void encode_cluster_all(const void *message, struct wire_writer *w, int16_t version) {
    struct k_describe_cluster_request m = *(const struct k_describe_cluster_request *)message;
    if (version < 2) m.include_fenced_brokers = false;
    encode_describe_cluster(&m, w, version);
}

enum err admin_describe_nodes(struct client *c, int32_t timeout_ms, struct admin_nodes **out) {
    struct k_describe_cluster_request m;
    struct k_describe_cluster_response res;
    struct client_exchange x = {.api_key = API_DESCRIBE_CLUSTER, .version_max = INT16_MAX, .broker = CLIENT_ANY, .request = &m,
                                .encode = encode_cluster_all, .response = &res, .decode = decode_describe_cluster};
    struct nodes_snapshot *s = calloc(1, sizeof *s);
    if (!s) return client_fail(c, ERR_NOMEM, 0, "out of memory");
    k_describe_cluster_request_init(&m);
    m.include_fenced_brokers = true;
    enum err err = admin_run(c, &x, timeout_ms, cluster_result, "describe cluster", &s->reply);
    if (!err && !copy_nodes(s, &res)) err = no_memory(c, &s->reply);
    if (err) {
        free(s);
        return err;
    }
    *out = &s->nodes;
    return OK;
}

void admin_nodes_free(struct admin_nodes *nodes) {
    if (!nodes) return;
    struct nodes_snapshot *s = CONTAINER_OF(nodes, struct nodes_snapshot, nodes);
    client_reply_free(&s->reply);
    free(s);
}

/* ---- quorum ----------------------------------------------------------------------------------- */

ADMIN_ADAPTERS(describe_quorum)

struct quorum_snapshot { struct admin_quorum quorum; struct client_reply reply; };
typedef struct k_describe_quorum_response_topics_partitions quorum_part;

static const quorum_part *only_quorum(const struct k_describe_quorum_response *m) {
    return m->topics_n == 1 && m->topics[0].partitions_n == 1 ? &m->topics[0].partitions[0] : NULL;
}

static void quorum_result(const void *response, struct admin_result *out) {
    const struct k_describe_quorum_response *m = response;
    const quorum_part *p = only_quorum(m);
    if (m->error_code) *out = (struct admin_result){true, m->error_code, m->error_message};
    else if (p) *out = (struct admin_result){true, p->error_code, p->error_message};
}

static int by_member(const void *a, const void *b) {
    int32_t x = ((const struct admin_quorum_member *)a)->id, y = ((const struct admin_quorum_member *)b)->id;
    return (x > y) - (x < y);
}

/* Where it listens for the others; of several listeners the first. */
static bool copy_address(struct arena *a, struct admin_quorum_member *to, const struct k_describe_quorum_response *m) {
    for (int32_t i = 0; i < m->nodes_n; i++) {
        if (m->nodes[i].node_id != to->id || m->nodes[i].listeners_n < 1) continue;
        to->host = arena_strdup(a, m->nodes[i].listeners[0].host);
        to->port = m->nodes[i].listeners[0].port;
        return to->host != NULL;
    }
    return true;
}

static bool copy_member(struct arena *a, struct admin_quorum_member *to, const struct k_describe_quorum_response_replica_state *from, bool voter,
                        const struct k_describe_quorum_response *m) {
    *to = (struct admin_quorum_member){.id = from->replica_id, .incarnation = from->replica_directory_id, .end = from->log_end_offset,
                                       .heard_ms = from->last_fetch_timestamp, .caught_up_ms = from->last_caught_up_timestamp, .voter = voter};
    return copy_address(a, to, m);
}

static bool copy_quorum(struct quorum_snapshot *s, const struct k_describe_quorum_response *m) {
    struct arena *a = &s->reply.arena;
    const quorum_part *p = only_quorum(m);
    int32_t voters = MAX(p->current_voters_n, 0), observers = MAX(p->observers_n, 0), n = 0;
    a->limit_bytes *= 2; /* copies join the decoded message */
    struct admin_quorum_member *members = arena_array(a, (size_t)voters + (size_t)observers + 1, sizeof *members);
    if (!members) return false;
    for (int32_t i = 0; i < voters; i++)
        if (!copy_member(a, &members[n++], &p->current_voters[i], true, m)) return false;
    for (int32_t i = 0; i < observers; i++)
        if (!copy_member(a, &members[n++], &p->observers[i], false, m)) return false;
    qsort(members, (size_t)n, sizeof *members, by_member);
    s->quorum = (struct admin_quorum){p->leader_id, p->leader_epoch, p->high_watermark, members, n};
    return true;
}

enum err admin_describe_quorum(struct client *c, int32_t timeout_ms, struct admin_quorum **out) {
    struct k_describe_quorum_request_topics_partitions p = {.partition_index = 0};
    struct k_describe_quorum_request_topics t = {.topic_name = STR_LIT(METADATA_TOPIC), .partitions = &p, .partitions_n = 1};
    struct k_describe_quorum_request m = {.topics = &t, .topics_n = 1};
    struct k_describe_quorum_response res;
    struct client_exchange x = {.api_key = API_DESCRIBE_QUORUM, .version_max = INT16_MAX, .broker = CLIENT_ANY, .request = &m,
                                .encode = encode_describe_quorum, .response = &res, .decode = decode_describe_quorum};
    struct quorum_snapshot *s = calloc(1, sizeof *s);
    if (!s) return client_fail(c, ERR_NOMEM, 0, "out of memory");
    enum err err = admin_run(c, &x, timeout_ms, quorum_result, "describe the metadata quorum", &s->reply);
    if (!err && !copy_quorum(s, &res)) err = no_memory(c, &s->reply);
    if (err) {
        free(s);
        return err;
    }
    *out = &s->quorum;
    return OK;
}

void admin_quorum_free(struct admin_quorum *quorum) {
    if (!quorum) return;
    struct quorum_snapshot *s = CONTAINER_OF(quorum, struct quorum_snapshot, quorum);
    client_reply_free(&s->reply);
    free(s);
}

/* ---- voters ----------------------------------------------------------------------------------- */

ADMIN_ADAPTERS(add_raft_voter)
ADMIN_ADAPTERS(remove_raft_voter)
ADMIN_ADAPTERS(unregister_broker)

static void add_result(const void *response, struct admin_result *out) {
    const struct k_add_raft_voter_response *m = response;
    *out = (struct admin_result){true, m->error_code, m->error_message};
}

static void remove_result(const void *response, struct admin_result *out) {
    const struct k_remove_raft_voter_response *m = response;
    *out = (struct admin_result){true, m->error_code, m->error_message};
}

static void unregister_result(const void *response, struct admin_result *out) {
    const struct k_unregister_broker_response *m = response;
    *out = (struct admin_result){true, m->error_code, m->error_message};
}

/* admin_run() when nothing but success is of interest. */
static enum err change(struct client *c, const struct client_exchange *x, int32_t timeout_ms, admin_result_fn *result, const char *what) {
    struct client_reply reply;
    enum err err = admin_run(c, x, timeout_ms, result, what, &reply);
    if (!err) client_reply_free(&reply);
    return err;
}

enum err admin_add_voter(struct client *c, const struct admin_quorum_member *node, int32_t timeout_ms) {
    struct k_add_raft_voter_request_listeners l = {.name = STR_LIT(PEER_LISTENER), .host = str_from(node->host ? node->host : ""),
                                                   .port = (uint16_t)node->port};
    struct k_add_raft_voter_request m;
    struct k_add_raft_voter_response res;
    struct client_exchange x = {.api_key = API_ADD_RAFT_VOTER, .version_max = INT16_MAX, .broker = CLIENT_CONTROLLER, .request = &m,
                                .encode = encode_add_raft_voter, .response = &res, .decode = decode_add_raft_voter};
    char what[64];
    k_add_raft_voter_request_init(&m);
    m.cluster_id = STR_NULL;
    m.timeout_ms = timeout_ms < 0 ? INT32_MAX : timeout_ms;
    m.voter_id = node->id;
    m.voter_directory_id = node->incarnation;
    m.listeners = &l;
    m.listeners_n = 1;
    snprintf(what, sizeof what, "make node %d a voter", node->id);
    return change(c, &x, timeout_ms, add_result, what);
}

enum err admin_remove_voter(struct client *c, const struct admin_quorum_member *node, int32_t timeout_ms) {
    struct k_remove_raft_voter_request m;
    struct k_remove_raft_voter_response res;
    struct client_exchange x = {.api_key = API_REMOVE_RAFT_VOTER, .version_max = INT16_MAX, .broker = CLIENT_CONTROLLER, .request = &m,
                                .encode = encode_remove_raft_voter, .response = &res, .decode = decode_remove_raft_voter};
    char what[64];
    k_remove_raft_voter_request_init(&m);
    m.cluster_id = STR_NULL;
    m.voter_id = node->id;
    m.voter_directory_id = node->incarnation;
    snprintf(what, sizeof what, "take the vote of node %d away", node->id);
    return change(c, &x, timeout_ms, remove_result, what);
}

enum err admin_unregister_node(struct client *c, int32_t node, int32_t timeout_ms) {
    struct k_unregister_broker_request m = {.broker_id = node};
    struct k_unregister_broker_response res;
    struct client_exchange x = {.api_key = API_UNREGISTER_BROKER, .version_max = INT16_MAX, .broker = CLIENT_CONTROLLER, .request = &m,
                                .encode = encode_unregister_broker, .response = &res, .decode = decode_unregister_broker};
    char what[64];
    snprintf(what, sizeof what, "unregister node %d", node);
    return change(c, &x, timeout_ms, unregister_result, what);
}

/* ---- drains ----------------------------------------------------------------------------------- */

ADMIN_ADAPTERS(drain_brokers)

struct drains_snapshot { struct admin_drains drains; struct client_reply reply; };

static void drain_result(const void *response, struct admin_result *out) {
    const struct k_drain_brokers_response *m = response;
    *out = (struct admin_result){true, m->error_code, m->error_message};
}

static bool copy_drains(struct drains_snapshot *s, const struct k_drain_brokers_response *m) {
    struct arena *a = &s->reply.arena;
    int32_t n = MAX(m->nodes_n, 0);
    a->limit_bytes *= 2; /* copies join the decoded message */
    struct admin_drain *list = arena_array(a, (size_t)n + 1, sizeof *list);
    if (!list) return false;
    for (int32_t i = 0; i < n; i++) {
        const struct k_drain_brokers_response_nodes *from = &m->nodes[i];
        list[i] = (struct admin_drain){.node = from->node_id, .code = from->error_code, .drained = from->drained, .replicas = from->replicas,
                                       .moving = from->moving, .stuck = from->stuck};
        if (from->error_message.p && !(list[i].message = arena_strdup(a, from->error_message))) return false;
    }
    s->drains = (struct admin_drains){list, n};
    return true;
}

/* The first of the nodes that was refused. */
static enum err drain_refusal(struct client *c, const struct admin_drains *d) {
    for (int32_t i = 0; i < d->count; i++)
        if (d->list[i].code) return client_fail_code(c, d->list[i].code, str_from(d->list[i].message), "drain node %d", d->list[i].node);
    return OK;
}

enum err admin_drain(struct client *c, const int32_t *nodes, int32_t count, enum admin_drain_change change, int32_t timeout_ms,
                     struct admin_drains **out) {
    struct k_drain_brokers_request m = {.nodes_n = nodes ? count : -1};
    struct k_drain_brokers_response res;
    struct client_exchange x = {.api_key = API_DRAIN_BROKERS, .version_max = 0, .broker = CLIENT_CONTROLLER, .request = &m,
                                .encode = encode_drain_brokers, .response = &res, .decode = decode_drain_brokers};
    struct drains_snapshot *s = calloc(1, sizeof *s);
    m.nodes = calloc((size_t)MAX(count, 0) + 1, sizeof *m.nodes);
    *out = NULL;
    enum err err = s && m.nodes ? OK : client_fail(c, ERR_NOMEM, 0, "out of memory");
    for (int32_t i = 0; !err && nodes && i < count; i++) m.nodes[i] = (struct k_drain_brokers_request_nodes){nodes[i], (int8_t)change};
    if (!err) err = admin_run(c, &x, timeout_ms, drain_result, "drain", &s->reply);
    if (!err && !copy_drains(s, &res)) err = no_memory(c, &s->reply);
    free(m.nodes);
    if (err) {
        free(s);
        return err;
    }
    *out = &s->drains;
    return drain_refusal(c, &s->drains);
}

void admin_drains_free(struct admin_drains *drains) {
    if (!drains) return;
    struct drains_snapshot *s = CONTAINER_OF(drains, struct drains_snapshot, drains);
    client_reply_free(&s->reply);
    free(s);
}

/* ---- reassignments ---------------------------------------------------------------------------- */

ADMIN_ADAPTERS(list_partition_reassignments)
ADMIN_ADAPTERS(alter_partition_reassignments)

struct moves_snapshot { struct admin_reassignments moves; struct client_reply reply; };

static void list_result(const void *response, struct admin_result *out) {
    const struct k_list_partition_reassignments_response *m = response;
    *out = (struct admin_result){true, m->error_code, m->error_message};
}

static int by_partition(const void *a, const void *b) {
    const struct admin_reassignment *x = a, *y = b;
    int order = strcmp(x->topic, y->topic);
    return order ? order : (x->partition > y->partition) - (x->partition < y->partition);
}

static bool copy_moves(struct moves_snapshot *s, const struct k_list_partition_reassignments_response *m) {
    struct arena *a = &s->reply.arena;
    int32_t n = 0;
    for (int32_t i = 0; i < m->topics_n; i++) n += MAX(m->topics[i].partitions_n, 0);
    a->limit_bytes *= 2; /* copies join the decoded message */
    struct admin_reassignment *list = arena_array(a, (size_t)n + 1, sizeof *list);
    if (!list) return false;
    n = 0;
    for (int32_t i = 0; i < m->topics_n; i++) {
        const char *topic = arena_strdup(a, m->topics[i].name);
        if (!topic) return false;
        for (int32_t k = 0; k < m->topics[i].partitions_n; k++) {
            const struct k_list_partition_reassignments_response_topics_partitions *p = &m->topics[i].partitions[k];
            list[n++] = (struct admin_reassignment){
                topic, p->partition_index, p->replicas, p->adding_replicas, p->removing_replicas,
                MAX(p->replicas_n, 0), MAX(p->adding_replicas_n, 0), MAX(p->removing_replicas_n, 0)};
        }
    }
    qsort(list, (size_t)n, sizeof *list, by_partition);
    s->moves = (struct admin_reassignments){list, n};
    return true;
}

enum err admin_list_reassignments(struct client *c, int32_t timeout_ms, struct admin_reassignments **out) {
    struct k_list_partition_reassignments_request m = {.timeout_ms = timeout_ms < 0 ? INT32_MAX : timeout_ms, .topics_n = -1}; /* null: all */
    struct k_list_partition_reassignments_response res;
    struct client_exchange x = {.api_key = API_LIST_PARTITION_REASSIGNMENTS, .version_max = INT16_MAX, .broker = CLIENT_CONTROLLER, .request = &m,
                                .encode = encode_list_partition_reassignments, .response = &res,
                                .decode = decode_list_partition_reassignments};
    struct moves_snapshot *s = calloc(1, sizeof *s);
    if (!s) return client_fail(c, ERR_NOMEM, 0, "out of memory");
    enum err err = admin_run(c, &x, timeout_ms, list_result, "list reassignments", &s->reply);
    if (!err && !copy_moves(s, &res)) err = no_memory(c, &s->reply);
    if (err) {
        free(s);
        return err;
    }
    *out = &s->moves;
    return OK;
}

void admin_reassignments_free(struct admin_reassignments *reassignments) {
    if (!reassignments) return;
    struct moves_snapshot *s = CONTAINER_OF(reassignments, struct moves_snapshot, moves);
    client_reply_free(&s->reply);
    free(s);
}

static void reassign_result(const void *response, struct admin_result *out) {
    const struct k_alter_partition_reassignments_response *m = response;
    if (m->error_code) *out = (struct admin_result){true, m->error_code, m->error_message};
    else if (m->responses_n == 1 && m->responses[0].partitions_n == 1)
        *out = (struct admin_result){true, m->responses[0].partitions[0].error_code, m->responses[0].partitions[0].error_message};
}

enum err admin_reassign(struct client *c, const char *topic, int32_t partition, const int32_t *replicas, int32_t count, int32_t timeout_ms) {
    struct k_alter_partition_reassignments_request_topics_partitions p = {.partition_index = partition, .replicas_n = count > 0 ? count : -1};
    struct k_alter_partition_reassignments_request_topics t = {.name = str_from(topic), .partitions = &p, .partitions_n = 1};
    struct k_alter_partition_reassignments_request m;
    struct k_alter_partition_reassignments_response res;
    struct client_exchange x = {.api_key = API_ALTER_PARTITION_REASSIGNMENTS, .version_max = INT16_MAX, .broker = CLIENT_CONTROLLER, .request = &m,
                                .encode = encode_alter_partition_reassignments, .response = &res,
                                .decode = decode_alter_partition_reassignments};
    char what[300];
    int32_t *copy = malloc(((size_t)MAX(count, 0) + 1) * sizeof *copy);
    if (!copy) return client_fail(c, ERR_NOMEM, 0, "out of memory");
    if (count > 0) memcpy(copy, replicas, (size_t)count * sizeof *copy);
    p.replicas = copy;
    k_alter_partition_reassignments_request_init(&m);
    m.timeout_ms = timeout_ms < 0 ? INT32_MAX : timeout_ms;
    m.topics = &t;
    m.topics_n = 1;
    snprintf(what, sizeof what, "move %s-%d", topic, partition);
    enum err err = change(c, &x, timeout_ms, reassign_result, what);
    free(copy);
    return err;
}
