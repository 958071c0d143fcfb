#include "client/metadata.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/core.h"
#include "proto/kafka_errors.h"
#include "proto/kafka_messages.h"

enum { PARTITIONS_MAX = 1000000, LEADER_EPOCHS_SINCE = 9 /* earlier versions told stale ones */ };

/* ---- the cache -------------------------------------------------------------------------------- */

struct topic_meta *metadata_topic(struct client *c, const char *name, bool create) {
    for (struct topic_meta *t = c->metadata.topics; t; t = t->next) {
        if (strcmp(t->name, name) != 0) continue;
        t->create |= create;
        return t;
    }
    struct topic_meta *t = calloc(1, sizeof *t);
    if (t) t->name = strdup(name);
    if (!t || !t->name) {
        free(t);
        return NULL;
    }
    t->create = create;
    t->next = c->metadata.topics;
    c->metadata.topics = t;
    metadata_want(c);
    return t;
}

void metadata_want(struct client *c) { c->metadata.wanted = true; }

const struct partition_meta *metadata_leader(const struct topic_meta *t, int32_t partition) {
    if (partition < 0 || partition >= t->partition_count) return NULL;
    const struct partition_meta *p = &t->partitions[partition];
    return p->leader >= 0 ? p : NULL;
}

void metadata_free(struct client *c) {
    while (c->metadata.topics) {
        struct topic_meta *t = c->metadata.topics;
        c->metadata.topics = t->next;
        free(t->name);
        free(t->partitions);
        free(t);
    }
}

/* ---- learning --------------------------------------------------------------------------------- */

static enum err learn_topic(struct topic_meta *t, const struct k_metadata_response_topics *from, int16_t version) {
    t->asked = true;
    t->error = from->error_code;
    if (from->partitions_n <= 0 || from->error_code == KERR_UNKNOWN_TOPIC_OR_PARTITION) return OK;
    bool other = !uuid_is_zero(&t->id) && !uuid_is_zero(&from->topic_id) && !uuid_eq(&t->id, &from->topic_id);
    if (from->partitions_n > PARTITIONS_MAX) return ERR_TOO_LARGE;
    if (from->partitions_n > t->partition_count) {
        struct partition_meta *grown = realloc(t->partitions, (size_t)from->partitions_n * sizeof *grown);
        if (!grown) return ERR_NOMEM;
        for (int32_t i = t->partition_count; i < from->partitions_n; i++) {
            grown[i] = (struct partition_meta){.leader = -1, .leader_epoch = -1};
        }
        t->partitions = grown;
        t->partition_count = from->partitions_n;
    } else if (other) {
        t->partition_count = from->partitions_n; /* deleted and made again */
    }
    t->id = from->topic_id;
    for (int32_t i = 0; i < from->partitions_n; i++) {
        const struct k_metadata_response_topics_partitions *p = &from->partitions[i];
        if (p->partition_index < 0 || p->partition_index >= t->partition_count) continue;
        struct partition_meta *to = &t->partitions[p->partition_index];
        int32_t epoch = version >= LEADER_EPOCHS_SINCE ? p->leader_epoch : -1;
        if (!other && epoch >= 0 && epoch < to->leader_epoch) continue;
        *to = (struct partition_meta){.leader = p->leader_id, .leader_epoch = epoch, .error = p->error_code};
    }
    return OK;
}

static bool lists(const struct k_metadata_response *m, const struct conn *conn) {
    for (int32_t i = 0; i < m->brokers_n; i++) {
        if (conn->broker_id >= 0 && m->brokers[i].node_id == conn->broker_id) return true;
        if (conn->broker_id < 0 && m->brokers[i].port == conn->port && str_is(m->brokers[i].host, conn->host)) return true;
    }
    return false;
}

/* Brokers that do not answer, and that this one counts among those that are down. A bootstrap address may be under another name. */
static void bury(struct client *c, const struct k_metadata_response *m) {
    for (int32_t i = 0; i < c->conn_count && m->brokers_n > 0; i++) {
        struct conn *conn = c->conns[i];
        if (conn->silent && (conn->broker_id >= 0 || conn->dedicated) && !lists(m, conn)) conn->gone = true;
    }
}

static enum err learn(struct client *c, const struct k_metadata_response *m, int16_t version) {
    int64_t now_ns = client_now_ns();
    bury(c, m);
    enum err err = OK;
    for (int32_t i = 0; i < m->brokers_n && !err; i++) {
        err = client_know_broker(c, m->brokers[i].node_id, m->brokers[i].host, m->brokers[i].port, now_ns);
    }
    c->metadata.controller = m->controller_id;
    for (int32_t i = 0; i < m->topics_n && !err; i++) {
        for (struct topic_meta *t = c->metadata.topics; t && !err; t = t->next) {
            if (str_is(m->topics[i].name, t->name)) err = learn_topic(t, &m->topics[i], version);
        }
    }
    return err;
}

/* ---- asking ----------------------------------------------------------------------------------- */

struct ask {
    struct client *client;
    const char *const *names;     /* NULL: all topics */
    int32_t count;
    bool create;
};

static void encode_metadata(const void *message, struct wire_writer *w, int16_t version) {
    const struct ask *ask = message;
    struct k_metadata_request m;
    k_metadata_request_init(&m);
    struct k_metadata_request_topics *topics = ask->count > 0 ? calloc((size_t)ask->count, sizeof *topics) : NULL;
    if (ask->count > 0 && !topics) {
        w->err = ERR_NOMEM;
        return;
    }
    for (int32_t i = 0; i < ask->count; i++) {
        k_metadata_request_topics_init(&topics[i]);
        topics[i].name = str_from(ask->names[i]);
    }
    m.topics = topics;
    m.topics_n = ask->names ? ask->count : version == 0 ? 0 : -1; /* version 0: an empty list means all */
    m.allow_auto_topic_creation = ask->create || version < 4;     /* earlier ones have no choice */
    k_metadata_request_encode(&m, w, version);
    free(topics);
}

/* Missing: something that only another refresh can tell. */
static bool incomplete(const struct client *c) {
    for (const struct topic_meta *t = c->metadata.topics; t; t = t->next) {
        if (t->error != KERR_NONE || t->partition_count == 0) return true;
        for (int32_t i = 0; i < t->partition_count; i++) {
            if (t->partitions[i].leader < 0) return true;
        }
    }
    return false;
}

/* While a broker is silent the others are asked about it again and again. */
static bool all_answer(const struct client *c) {
    for (int32_t i = 0; i < c->conn_count; i++) {
        if (c->conns[i]->silent) return false;
    }
    return true;
}

static void refresh_over(struct client *c, bool complete, const char *why) {
    struct metadata *md = &c->metadata;
    int64_t now_ns = client_now_ns();
    md->in_flight = false;
    complete = complete && all_answer(c);
    md->answers++;
    snprintf(md->why, sizeof md->why, "%s", why);
    if (complete) md->failures = 0;
    md->wanted |= !complete;
    md->retry_at_ns = now_ns + client_backoff_ns(c, complete ? 0 : md->failures++);
}

static void metadata_done(void *owner, enum err err, struct client_reply *reply, struct wire_reader *body) {
    struct client *c = owner;
    struct k_metadata_response m;
    if (!err) err = k_metadata_response_decode(&m, body, reply->version);
    if (!err) err = learn(c, &m, reply->version);
    if (err) {
        bool wrong = err == ERR_CORRUPT || err == ERR_TRUNCATED;
        refresh_over(c, false, wrong ? "the Metadata response does not parse" : err_str(err));
        return;
    }
    if (m.error_code == KERR_NONE) c->metadata.refreshed_ns = client_now_ns();
    refresh_over(c, m.error_code == KERR_NONE && !incomplete(c),
                 m.error_code == KERR_NONE ? "" : kafka_error_name(m.error_code));
}

/* All topics of the cache in one request; they may be created if all who asked for any agree:
 * a reader's question must not make the topic. So those to be created go first, alone. */
static void refresh(struct client *c, struct conn *conn, int64_t now_ns) {
    struct metadata *md = &c->metadata;
    int32_t count = 0, at = 0;
    bool creating = false;
    for (struct topic_meta *t = md->topics; t; t = t->next) {
        count++;
        creating |= t->create && t->partition_count == 0;
    }
    const char **names = malloc((size_t)(count + 1) * sizeof *names);
    int16_t version;
    if (!names || conn_version(conn, API_METADATA, INT16_MAX, &version)) {
        refresh_over(c, false, names ? "the broker does not serve Metadata at a version that we know" : "out of memory");
        free(names);
        return;
    }
    for (struct topic_meta *t = md->topics; t; t = t->next) {
        if (!creating || (t->create && t->partition_count == 0)) names[at++] = t->name;
    }
    md->wanted = creating && at < count; /* the others next */
    struct ask ask = {.client = c, .names = names, .count = at, .create = creating};
    enum err err = conn_submit(conn, &(struct conn_message){
        .api_key = API_METADATA, .version = version, .message = &ask, .encode = encode_metadata,
        .deadline_ns = now_ns + (int64_t)c->config.request_timeout_ms * 1000000, .done = metadata_done, .owner = c});
    free(names);
    if (err) {
        refresh_over(c, false, err_str(err));
        return;
    }
    md->in_flight = true;
    md->asked = conn;
}

/* A question to a broker that is silent is asked of another one, too: whichever answers. */
static int64_t due_ns(const struct client *c) {
    const struct metadata *md = &c->metadata;
    if (md->in_flight && !md->asked->silent) return INT64_MAX;
    if (md->wanted) return md->retry_at_ns;
    return md->topics ? md->refreshed_ns + (int64_t)c->config.metadata_max_age_ms * 1000000 : INT64_MAX;
}

/* Without a connection it is the connections' own deadlines that matter. */
int64_t metadata_deadline(const struct client *c) {
    for (int32_t i = 0; i < c->conn_count; i++) {
        if (c->conns[i]->state == CONN_READY && !c->conns[i]->silent) return due_ns(c);
    }
    return INT64_MAX;
}

void metadata_pump(struct client *c, int64_t now_ns) {
    if (due_ns(c) > now_ns) return;
    struct conn *conn = client_any(c, now_ns);
    if (conn && !(c->metadata.in_flight && conn == c->metadata.asked)) refresh(c, conn, now_ns);
}

enum err metadata_wait(struct client *c, struct topic_meta *t, int64_t deadline_ns) {
    /* A broker that creates topics does so within moments of being asked. */
    const int64_t unknown_for_good_ns = t->create ? 5000000000 : 500000000;
    int64_t began_ns = client_now_ns();
    for (;;) {
        if (t->partition_count > 0) return OK;
        int64_t now_ns = client_now_ns();
        bool unknown = t->asked && t->error == KERR_UNKNOWN_TOPIC_OR_PARTITION;
        if (unknown && now_ns - began_ns > unknown_for_good_ns) break;
        if (t->asked && t->error != KERR_NONE && !kafka_error_retriable(t->error)) break;
        if (now_ns >= deadline_ns) break;
        metadata_want(c);
        client_turn(c, deadline_ns);
    }
    if (t->asked && t->error != KERR_NONE) return client_fail_code(c, t->error, STR_NULL, "topic \"%s\"", t->name);
    if (t->asked) return client_fail(c, ERR_TIMEOUT, 0, "topic \"%s\": no partitions yet", t->name);
    return client_fail(c, ERR_CLOSED, 0, "no broker can be reached: %s",
                       c->metadata.why[0] ? c->metadata.why : client_unreachable(c));
}

enum err client_partition_count(struct client *c, const char *topic, bool create, int32_t timeout_ms, int32_t *out) {
    struct topic_meta *t = metadata_topic(c, topic, create);
    if (!t) return client_fail(c, ERR_NOMEM, 0, "out of memory");
    enum err err = metadata_wait(c, t, client_deadline(timeout_ms));
    *out = t->partition_count;
    return err;
}

/* ---- client_describe -------------------------------------------------------------------------- */

/* One allocation domain: the cluster and all it points to. */
struct snapshot {
    struct client_cluster cluster;
    struct client_reply reply;
};

static enum err decode_metadata(void *response, struct wire_reader *r, int16_t version) {
    return k_metadata_response_decode(response, r, version);
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct client_topic *)a)->name, ((const struct client_topic *)b)->name);
}

static int by_index(const void *a, const void *b) {
    int32_t x = ((const struct client_partition *)a)->index, y = ((const struct client_partition *)b)->index;
    return (x > y) - (x < y);
}

static bool copy_partitions(struct arena *a, struct client_topic *to, const struct k_metadata_response_topics *from) {
    int32_t n = MAX(from->partitions_n, 0);
    struct client_partition *ps = arena_array(a, (size_t)n + 1, sizeof *ps);
    if (!ps) return false;
    for (int32_t i = 0; i < n; i++) {
        const struct k_metadata_response_topics_partitions *p = &from->partitions[i];
        ps[i] = (struct client_partition){
            .index = p->partition_index, .error = p->error_code, .leader = p->leader_id,
            .leader_epoch = p->leader_epoch, .replicas = p->replica_nodes, .in_sync = p->isr_nodes,
            .offline = p->offline_replicas,
            .replica_count = MAX(p->replica_nodes_n, 0), .in_sync_count = MAX(p->isr_nodes_n, 0),
            .offline_count = MAX(p->offline_replicas_n, 0)};
    }
    qsort(ps, (size_t)n, sizeof *ps, by_index);
    to->partitions = ps;
    to->partition_count = n;
    return true;
}

static bool copy_cluster(struct arena *a, struct client_cluster *to, const struct k_metadata_response *m) {
    int32_t brokers_n = MAX(m->brokers_n, 0), topics_n = MAX(m->topics_n, 0);
    struct client_broker *brokers = arena_array(a, (size_t)brokers_n + 1, sizeof *brokers);
    struct client_topic *topics = arena_array(a, (size_t)topics_n + 1, sizeof *topics);
    if (!brokers || !topics) return false;
    for (int32_t i = 0; i < brokers_n; i++) {
        const struct k_metadata_response_brokers *b = &m->brokers[i];
        const char *rack = b->rack.p ? arena_strdup(a, b->rack) : NULL;
        brokers[i] = (struct client_broker){b->node_id, arena_strdup(a, b->host), b->port, rack};
        if (!brokers[i].host) return false;
    }
    for (int32_t i = 0; i < topics_n; i++) {
        const struct k_metadata_response_topics *t = &m->topics[i];
        topics[i] = (struct client_topic){.name = arena_strdup(a, t->name), .id = t->topic_id,
                                          .error = t->error_code, .internal = t->is_internal};
        if (!topics[i].name || !copy_partitions(a, &topics[i], t)) return false;
    }
    qsort(topics, (size_t)topics_n, sizeof *topics, by_name);
    *to = (struct client_cluster){
        .id = m->cluster_id.p ? arena_strdup(a, m->cluster_id) : NULL, .controller = m->controller_id,
        .brokers = brokers, .broker_count = brokers_n, .topics = topics, .topic_count = topics_n};
    return true;
}

enum err client_describe(struct client *c, const char *const *names, int32_t count, int32_t timeout_ms,
                         struct client_cluster **out) {
    struct k_metadata_response m;
    struct ask ask = {.client = c, .names = names, .count = names ? count : 0};
    struct client_exchange x = {.api_key = API_METADATA, .version_max = INT16_MAX, .broker = CLIENT_ANY,
                                .request = &ask, .encode = encode_metadata, .response = &m, .decode = decode_metadata};
    struct snapshot *s = calloc(1, sizeof *s);
    if (!s) return client_fail(c, ERR_NOMEM, 0, "out of memory");
    enum err err = client_ask(c, &x, client_deadline(timeout_ms), &s->reply);
    if (!err && m.error_code != KERR_NONE) err = client_fail_code(c, m.error_code, STR_NULL, "Metadata");
    if (!err) {
        s->reply.arena.limit_bytes *= 2; /* copies of the names and the arrays join the decoded message */
        err = learn(c, &m, s->reply.version);
        if (!err && !copy_cluster(&s->reply.arena, &s->cluster, &m)) err = ERR_NOMEM;
        if (err) client_fail(c, err, 0, "out of memory");
    }
    if (err) {
        client_reply_free(&s->reply);
        free(s);
        return err;
    }
    *out = &s->cluster;
    return OK;
}

void client_cluster_free(struct client_cluster *cluster) {
    if (!cluster) return;
    struct snapshot *s = CONTAINER_OF(cluster, struct snapshot, cluster);
    client_reply_free(&s->reply);
    free(s);
}
