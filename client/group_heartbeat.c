/* group_heartbeat.c - KIP-848: the broker assigns, and everything is said in ConsumerGroupHeartbeat.
 *
 * A member joins at epoch 0 with all that it wants. The answer names partitions by topic id; when their
 * names are known they become the target. What is not in it any more is given back first, then what is
 * new is taken, and each step is told by a heartbeat that lists what is owned. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/group_impl.h"
#include "proto/kafka_errors.h"
#include "proto/kafka_messages.h"

enum {
    EPOCH_JOIN = 0, EPOCH_LEAVE = -1, EPOCH_LEAVE_FOR_NOW = -2,
    VERSION_WITH_REGEX = 1, METADATA_BY_ID = 12, TARGET_MAX = 1 << 20, RESOLVE_PAUSE_MS = 200,
    ID_CHARS = 22 /* an uuid as Kafka writes it */
};

static int64_t after_ms(int64_t now_ns, int64_t ms) { return now_ns + ms * 1000000; }

void heartbeat_owned_changed(struct group *g) {
    g->tell_owned = true;
    g->next_heartbeat_ns = 0;
}

/* ---- names for topic ids ---------------------------------------------------------------------- */

static struct topic_meta *by_id(struct group *g, const struct uuid *id) {
    for (struct topic_meta *t = g->client->metadata.topics; t; t = t->next) {
        if (uuid_eq(&t->id, id)) return t;
    }
    return NULL;
}

/* Moves what has a name now from the unresolved to the target. */
static void resolve_known(struct group *g) {
    int32_t kept = 0;
    for (int32_t i = 0; i < g->unresolved_count; i++) {
        struct topic_meta *t = by_id(g, &g->target_ids[i]);
        if (t && parts_add(&g->target, t, g->target_index[i], -1)) {
            group_fail(g, ERR_NOMEM, 0, "out of memory");
            return;
        }
        if (t) continue;
        g->target_ids[kept] = g->target_ids[i];
        g->target_index[kept++] = g->target_index[i];
    }
    g->unresolved_count = kept;
    if (kept > 0) return;
    parts_sort(&g->target);
    group_set_target(g);
}

static void resolve_done(void *owner, enum err err, struct client_reply *reply, struct wire_reader *body) {
    struct group_ask *ask = owner;
    struct group *g = ask->g;
    struct k_metadata_response m;
    free(ask);
    if (!g) return;
    g->resolving = NULL;
    g->resolve_at_ns = after_ms(client_now_ns(), RESOLVE_PAUSE_MS);
    if (!err) err = k_metadata_response_decode(&m, body, reply->version);
    if (err) {
        snprintf(g->why, sizeof g->why, "names of topics: %s", err_str(err));
        return;
    }
    for (int32_t i = 0; i < m.topics_n; i++) {
        char name[256];
        if (m.topics[i].error_code != KERR_NONE || m.topics[i].name.len <= 0 || m.topics[i].name.len >= (int32_t)sizeof name) continue;
        snprintf(name, sizeof name, "%.*s", m.topics[i].name.len, m.topics[i].name.p);
        struct topic_meta *t = metadata_topic(g->client, name, false);
        if (!t) continue; /* asked for again */
        t->id = m.topics[i].topic_id;
        metadata_want(g->client);
    }
    resolve_known(g);
}

static void encode_resolve(const void *message, struct wire_writer *w, int16_t version) {
    const struct group *g = message;
    struct k_metadata_request m;
    struct k_metadata_request_topics *topics = calloc((size_t)g->unresolved_count, sizeof *topics);
    k_metadata_request_init(&m);
    m.topics = topics;
    m.topics_n = 0;
    m.allow_auto_topic_creation = false;
    if (!topics) w->err = ERR_NOMEM;
    for (int32_t i = 0; topics && i < g->unresolved_count; i++) {
        if (i > 0 && uuid_eq(&g->target_ids[i], &g->target_ids[i - 1])) continue;
        k_metadata_request_topics_init(&topics[m.topics_n]);
        topics[m.topics_n].name = STR_NULL;
        topics[m.topics_n++].topic_id = g->target_ids[i];
    }
    k_metadata_request_encode(&m, w, version);
    free(topics);
}

static int64_t resolve_pump(struct group *g, int64_t now_ns) {
    if (g->unresolved_count == 0 || g->resolving) return INT64_MAX;
    if (now_ns < g->resolve_at_ns) return g->resolve_at_ns;
    int16_t version;
    struct conn *any = client_any(g->client, now_ns);
    if (!any) return INT64_MAX;
    struct group_ask *ask = calloc(1, sizeof *ask);
    enum err err = ask ? conn_version(any, API_METADATA, INT16_MAX, &version) : ERR_NOMEM;
    if (!err && version < METADATA_BY_ID) err = ERR_UNSUPPORTED;
    if (!err) {
        ask->g = g;
        err = conn_submit(any, &(struct conn_message){
            .api_key = API_METADATA, .version = version, .message = g, .encode = encode_resolve,
            .deadline_ns = after_ms(now_ns, g->client->config.request_timeout_ms), .done = resolve_done, .owner = ask});
    }
    if (err) {
        free(ask);
        group_fail(g, err, 0, "names of topics cannot be asked for: %s", err_str(err));
        return INT64_MAX;
    }
    g->resolving = ask;
    return INT64_MAX;
}

/* ---- answers ---------------------------------------------------------------------------------- */

static void take_assignment(struct group *g, const struct k_consumer_group_heartbeat_response_assignment *from) {
    int64_t total = 0;
    for (int32_t i = 0; i < from->topic_partitions_n; i++) total += MAX(from->topic_partitions[i].partitions_n, 0);
    if (total > TARGET_MAX) {
        group_fail(g, ERR_TOO_LARGE, 0, "%lld partitions are assigned to us", (long long)total);
        return;
    }
    struct uuid *ids = realloc(g->target_ids, (size_t)(total + 1) * sizeof *ids);
    if (ids) g->target_ids = ids;
    int32_t *indexes = realloc(g->target_index, (size_t)(total + 1) * sizeof *indexes);
    if (indexes) g->target_index = indexes;
    if (!ids || !indexes) {
        group_fail(g, ERR_NOMEM, 0, "out of memory");
        return;
    }
    g->unresolved_count = 0;
    for (int32_t i = 0; i < from->topic_partitions_n; i++) {
        for (int32_t j = 0; j < from->topic_partitions[i].partitions_n; j++) {
            if (from->topic_partitions[i].partitions[j] < 0) continue;
            g->target_ids[g->unresolved_count] = from->topic_partitions[i].topic_id;
            g->target_index[g->unresolved_count++] = from->topic_partitions[i].partitions[j];
        }
    }
    parts_clear(&g->target);
    g->target_set = false; /* until the names are known */
    resolve_known(g);
}

static void out(struct group *g, const char *why) {
    snprintf(g->why, sizeof g->why, "ConsumerGroupHeartbeat: %s", why);
    g->state = MEMBER_OUT;
    g->generation = -1;
    g->unresolved_count = 0;
    g->target_set = false;
    group_expel(g);
}

static void refused(struct group *g, int16_t code, struct str message) {
    if (group_coordinator_code(g, code, "ConsumerGroupHeartbeat")) {
        g->tell_all = true;
    } else if (code == KERR_UNKNOWN_MEMBER_ID || code == KERR_FENCED_MEMBER_EPOCH) {
        out(g, kafka_error_name(code));
    } else if (code == KERR_UNSUPPORTED_VERSION && g->config.protocol == GROUP_AUTO && g->rebalances == 0 && !g->config.regex) {
        g->protocol = GROUP_CLASSIC; /* the broker knows the API, but does not serve it */
        g->state = MEMBER_OUT;
        g->generation = -1;
        g->member_id[0] = '\0'; /* JoinGroup is given one */
    } else {
        bool fenced = code == KERR_UNRELEASED_INSTANCE_ID || code == KERR_FENCED_INSTANCE_ID;
        group_fail(g, fenced ? ERR_FENCED : client_err_from_code(code), code, "group \"%s\": %s%s%.*s", g->config.group,
                   kafka_error_name(code), message.len > 0 ? ": " : "", message.len > 0 ? MIN(message.len, 200) : 0,
                   message.p ? message.p : "");
    }
}

static void heartbeat_done(void *owner, enum err err, struct client_reply *reply, struct wire_reader *body) {
    struct group *g = owner;
    struct k_consumer_group_heartbeat_response m;
    g->in_flight = false;
    if (g->state == MEMBER_LEAVING || g->state == MEMBER_LEFT) return;
    if (!err) err = k_consumer_group_heartbeat_response_decode(&m, body, reply->version);
    if (err) {
        bool lost = err == ERR_CLOSED || err == ERR_TIMEOUT;
        group_trouble(g, lost, "ConsumerGroupHeartbeat: %s", lost && g->conn ? g->conn->why : err_str(err));
        g->tell_all = true; /* what it knew of us may be gone with it */
        g->next_heartbeat_ns = 0;
        return;
    }
    if (m.error_code != KERR_NONE) {
        g->next_heartbeat_ns = 0;
        refused(g, m.error_code, m.error_message);
        return;
    }
    group_well(g);
    if (m.member_id.len > 0 && !str_is(m.member_id, g->member_id)) {
        char *id = strndup(m.member_id.p, (size_t)m.member_id.len);
        if (id) free(g->member_id);
        if (id) g->member_id = id;
        else group_fail(g, ERR_NOMEM, 0, "out of memory");
    }
    if (g->state != MEMBER_STABLE) g->announce = true;
    g->state = MEMBER_STABLE;
    g->generation = m.member_epoch;
    g->heard_ns = client_now_ns();
    g->interval_ms = MAX(m.heartbeat_interval_ms, 1);
    if (!g->tell_owned) g->next_heartbeat_ns = after_ms(g->heard_ns, g->interval_ms);
    if (m.assignment) take_assignment(g, m.assignment);
}

/* ---- requests --------------------------------------------------------------------------------- */

/* What we own, by topic id. */
static enum err list_owned(const struct group *g, struct k_consumer_group_heartbeat_request *m, int32_t **numbers_out) {
    size_t room = (size_t)g->owned.count + 1;
    int32_t *numbers = calloc(room, sizeof *numbers);
    *numbers_out = numbers;
    m->topic_partitions = calloc(room, sizeof *m->topic_partitions);
    m->topic_partitions_n = 0;
    if (!numbers || !m->topic_partitions) return ERR_NOMEM;
    for (int32_t i = 0; i < g->owned.count; i++) {
        const struct part *p = &g->owned.items[i];
        if (i == 0 || p->topic != p[-1].topic) {
            m->topic_partitions[m->topic_partitions_n].topic_id = p->topic->id;
            m->topic_partitions[m->topic_partitions_n++].partitions = &numbers[i];
        }
        numbers[i] = p->partition;
        m->topic_partitions[m->topic_partitions_n - 1].partitions_n++;
    }
    return OK;
}

struct beat { const struct group *g; bool all, owned; };

static void encode_beat(const void *message, struct wire_writer *w, int16_t version) {
    const struct beat *beat = message;
    const struct group *g = beat->g;
    struct k_consumer_group_heartbeat_request m;
    struct str *topics = calloc((size_t)g->config.topic_count + 1, sizeof *topics);
    int32_t *numbers = NULL;
    k_consumer_group_heartbeat_request_init(&m);
    m.group_id = str_from(g->config.group);
    m.member_id = str_from(g->member_id);
    m.member_epoch = MAX(g->generation, EPOCH_JOIN);
    m.instance_id = str_from(g->config.instance_id);
    if (!topics) w->err = ERR_NOMEM;
    if (beat->all && topics) {
        for (int32_t i = 0; i < g->config.topic_count; i++) topics[i] = str_from(g->config.topics[i]);
        m.rebalance_timeout_ms = g->config.rebalance_timeout_ms;
        m.rack_id = str_from(g->config.rack);
        m.server_assignor = str_from(g->config.server_assignor);
        if (g->config.topic_count > 0 || !g->config.regex) {
            m.subscribed_topic_names = topics;
            m.subscribed_topic_names_n = g->config.topic_count;
        }
        m.subscribed_topic_regex = str_from(g->config.regex);
    }
    if (beat->all || beat->owned) {
        enum err err = list_owned(g, &m, &numbers);
        if (err) w->err = err;
    }
    k_consumer_group_heartbeat_request_encode(&m, w, version);
    if (beat->all || beat->owned) free(m.topic_partitions);
    free(numbers);
    free(topics);
}

/* Version 1 members name themselves; the broker names those of version 0. */
static enum err name_member(struct group *g, const struct conn *conn) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    int16_t version;
    enum err err = conn_version(conn, API_CONSUMER_GROUP_HEARTBEAT, INT16_MAX, &version);
    if (err) return err;
    if (g->config.regex && version < VERSION_WITH_REGEX) return ERR_UNSUPPORTED;
    if (version == 0 || g->member_id[0]) return OK;
    char *id = calloc(1, ID_CHARS + 1);
    if (!id) return ERR_NOMEM;
    for (int i = 0; i < ID_CHARS; i++) id[i] = digits[client_random(g->client) >> 29 & (i == 0 ? 31 : 63)]; /* no dash first */
    free(g->member_id);
    g->member_id = id;
    return OK;
}

static void beat(struct group *g, struct conn *conn, int64_t now_ns) {
    enum err err = g->state == MEMBER_OUT ? name_member(g, conn) : OK;
    bool joins = g->state == MEMBER_OUT;
    struct beat message = {g, joins || g->tell_all, g->tell_owned};
    if (!err) {
        err = group_send(g, conn, &(struct group_message){
            .api_key = API_CONSUMER_GROUP_HEARTBEAT, .version_max = INT16_MAX, .message = &message, .encode = encode_beat,
            .done = heartbeat_done, .deadline_ns = after_ms(now_ns, g->client->config.request_timeout_ms)});
    }
    if (err == ERR_UNSUPPORTED && joins && g->config.protocol == GROUP_AUTO && !g->config.regex) {
        g->protocol = GROUP_CLASSIC;
        return;
    }
    if (err) {
        group_fail(g, err, 0, "%s", err == ERR_UNSUPPORTED ? "the broker does not serve the KIP-848 group protocol" : err_str(err));
        return;
    }
    g->in_flight = true;
    g->tell_all = g->tell_owned = false;
    if (joins) g->state = MEMBER_JOINING;
    g->next_heartbeat_ns = INT64_MAX;
}

int64_t heartbeat_pump(struct group *g, int64_t now_ns) {
    int64_t next_ns = resolve_pump(g, now_ns);
    if (g->in_flight || g->state == MEMBER_LEFT || g->state == MEMBER_LEAVING || g->failed) return next_ns;
    if (g->state == MEMBER_JOINING) g->state = MEMBER_OUT; /* that attempt is over */
    if (g->state == MEMBER_OUT && !group_may_join(g)) return next_ns;
    if (g->state == MEMBER_STABLE && now_ns < g->next_heartbeat_ns) return MIN(next_ns, g->next_heartbeat_ns);
    struct conn *conn = group_conn(g, now_ns, &next_ns);
    if (conn) beat(g, conn, now_ns);
    return g->protocol == GROUP_CLASSIC ? now_ns : next_ns;
}

/* ---- leave ------------------------------------------------------------------------------------ */

static void leave_done(void *owner, enum err err, struct client_reply *reply, struct wire_reader *body) {
    struct group *g = owner;
    struct k_consumer_group_heartbeat_response m;
    if (!err) err = k_consumer_group_heartbeat_response_decode(&m, body, reply->version);
    int16_t code = err ? KERR_NONE : m.error_code;
    if (err || (code != KERR_NONE && code != KERR_UNKNOWN_MEMBER_ID && code != KERR_GROUP_ID_NOT_FOUND)) {
        g->err = err ? err : client_err_from_code(code);
        g->code = code;
        snprintf(g->why, sizeof g->why, "leaving the group: %s", err ? err_str(err) : kafka_error_name(code));
    }
    g->state = MEMBER_LEFT;
}

static void encode_leave(const void *message, struct wire_writer *w, int16_t version) {
    const struct group *g = message;
    struct k_consumer_group_heartbeat_request m;
    k_consumer_group_heartbeat_request_init(&m);
    m.group_id = str_from(g->config.group);
    m.member_id = str_from(g->member_id);
    m.instance_id = str_from(g->config.instance_id);
    m.member_epoch = g->config.instance_id ? EPOCH_LEAVE_FOR_NOW : EPOCH_LEAVE;
    k_consumer_group_heartbeat_request_encode(&m, w, version);
}

void heartbeat_leave(struct group *g, struct conn *conn) {
    enum err err = group_send(g, conn, &(struct group_message){
        .api_key = API_CONSUMER_GROUP_HEARTBEAT, .version_max = INT16_MAX, .message = g, .encode = encode_leave,
        .done = leave_done, .deadline_ns = after_ms(client_now_ns(), g->client->config.request_timeout_ms)});
    g->state = err ? MEMBER_LEFT : MEMBER_LEAVING;
}
