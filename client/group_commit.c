/* group_commit.c - a member's offsets: what is committed, and committing behind what was handed out.
 * One commit is on its way at a time, so what is committed never goes back. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/group_impl.h"
#include "proto/kafka_errors.h"
#include "proto/kafka_messages.h"

enum { VERSION_WITH_NAMES = 9, VERSION_WITH_GROUPS = 8 /* of OffsetFetch */ };

static int64_t request_deadline(const struct group *g, int64_t now_ns) {
    return now_ns + (int64_t)g->client->config.request_timeout_ms * 1000000;
}

static struct topic_meta *meta_named(struct group *g, struct str name) {
    for (struct topic_meta *t = g->client->metadata.topics; t; t = t->next) {
        if (str_is(name, t->name)) return t;
    }
    return NULL;
}

/* How many of `items` from `at` on are of one topic. */
static int32_t run_length(const struct parts *p, int32_t at) {
    int32_t n = 1;
    while (at + n < p->count && p->items[at + n].topic == p->items[at].topic) n++;
    return n;
}

/* ---- commit ----------------------------------------------------------------------------------- */

/* Behind the last record that the user is through with. */
static int64_t done_offset(const struct group *g, const struct assigned *a) {
    return g->in_hand.topic == a->topic && g->in_hand.partition == a->partition ? g->in_hand.offset : a->position;
}

static bool moved(const struct group *g, const struct assigned *a) {
    int64_t at = done_offset(g, a);
    return at >= 0 && at != a->committed && parts_find(&g->owned, a->topic, a->partition);
}

bool commit_needed(const struct group *g) {
    LIST_FOREACH(it, &g->consumer->assigned) {
        if (moved(g, LIST_ENTRY(it, struct assigned, link))) return true;
    }
    return false;
}

void commit_start(struct group *g) {
    g->commit.wanted = true;
    g->commit.done = false;
}

static enum err collect(struct group *g) {
    enum err err = OK;
    parts_clear(&g->commit.sent);
    LIST_FOREACH(it, &g->consumer->assigned) {
        const struct assigned *a = LIST_ENTRY(it, struct assigned, link);
        if (!moved(g, a)) continue;
        err = parts_add(&g->commit.sent, a->topic, a->partition, done_offset(g, a));
        if (err) return err;
        g->commit.sent.items[g->commit.sent.count - 1].epoch = a->position_epoch;
    }
    parts_sort(&g->commit.sent);
    return OK;
}

static void commit_over(struct group *g, enum err err, int16_t code, const char *what) {
    struct commit *c = &g->commit;
    c->done = true;
    c->err = err;
    c->code = code;
    if (!err) {
        g->commits++;
        return;
    }
    g->commits_failed++;
    snprintf(g->why, sizeof g->why, "commit: %s", what);
}

/* Worth sending again by itself. */
static bool commit_again(struct group *g, int16_t code) {
    if (group_coordinator_code(g, code, "OffsetCommit")) return true;
    if (code != KERR_STALE_MEMBER_EPOCH) return false;
    group_trouble(g, false, "OffsetCommit: %s", kafka_error_name(code)); /* the next heartbeat tells the epoch */
    g->next_heartbeat_ns = 0;
    return true;
}

static void committed(struct group *g, const struct k_offset_commit_response *m, int16_t *code) {
    for (int32_t i = 0; i < m->topics_n; i++) {
        const struct topic_meta *t = meta_named(g, m->topics[i].name);
        for (int32_t j = 0; t && j < m->topics[i].partitions_n; j++) {
            const struct part *p = parts_find(&g->commit.sent, t, m->topics[i].partitions[j].partition_index);
            struct assigned *a = p ? consumer_find(g->consumer, t->name, p->partition) : NULL;
            if (m->topics[i].partitions[j].error_code != KERR_NONE) *code = m->topics[i].partitions[j].error_code;
            else if (a) a->committed = p->offset;
        }
    }
}

static void commit_done(void *owner, enum err err, struct client_reply *reply, struct wire_reader *body) {
    struct group *g = owner;
    struct k_offset_commit_response m;
    int16_t code = KERR_NONE;
    g->commit.in_flight = false;
    if (!err) err = k_offset_commit_response_decode(&m, body, reply->version);
    if (!err) committed(g, &m, &code);
    if (err == ERR_CLOSED || err == ERR_TIMEOUT || (code != KERR_NONE && commit_again(g, code))) {
        if (err) group_trouble(g, true, "OffsetCommit: %s", err_str(err));
        g->commit.wanted = true;
        return;
    }
    if (err) {
        commit_over(g, err, 0, err_str(err));
    } else if (code != KERR_NONE) {
        bool fenced = code == KERR_ILLEGAL_GENERATION || code == KERR_UNKNOWN_MEMBER_ID || code == KERR_FENCED_INSTANCE_ID ||
                      code == KERR_FENCED_MEMBER_EPOCH;
        bool later = code == KERR_REBALANCE_IN_PROGRESS || kafka_error_retriable(code);
        commit_over(g, fenced ? ERR_FENCED : later ? ERR_AGAIN : client_err_from_code(code), code, kafka_error_name(code));
        if (code == KERR_FENCED_INSTANCE_ID) {
            group_fail(g, ERR_FENCED, code, "another member has the instance id \"%s\"", g->config.instance_id ? g->config.instance_id : "");
        } else if (fenced && g->state == MEMBER_STABLE) {
            g->next_heartbeat_ns = 0; /* it will tell what we are */
        }
    } else {
        group_well(g);
        commit_over(g, OK, 0, NULL);
    }
}

static void encode_commit(const void *message, struct wire_writer *w, int16_t version) {
    const struct group *g = message;
    const struct parts *sent = &g->commit.sent;
    struct k_offset_commit_request m;
    struct k_offset_commit_request_topics *topics = calloc((size_t)sent->count, sizeof *topics);
    struct k_offset_commit_request_topics_partitions *parts = calloc((size_t)sent->count, sizeof *parts);
    k_offset_commit_request_init(&m);
    m.group_id = str_from(g->config.group);
    m.generation_id_or_member_epoch = g->generation;
    m.member_id = str_from(g->member_id);
    if (version >= 7) m.group_instance_id = str_from(g->config.instance_id);
    m.topics = topics;
    if (!topics || !parts) w->err = ERR_NOMEM;
    for (int32_t i = 0, n; topics && parts && i < sent->count; i += n) {
        struct k_offset_commit_request_topics *t = &topics[m.topics_n++];
        k_offset_commit_request_topics_init(t);
        n = run_length(sent, i);
        t->name = str_from(sent->items[i].topic->name);
        t->partitions = &parts[i];
        t->partitions_n = n;
        for (int32_t j = i; j < i + n; j++) {
            k_offset_commit_request_topics_partitions_init(&parts[j]);
            parts[j].partition_index = sent->items[j].partition;
            parts[j].committed_offset = sent->items[j].offset;
            parts[j].committed_leader_epoch = sent->items[j].epoch;
            parts[j].committed_metadata = STR_LIT("");
        }
    }
    k_offset_commit_request_encode(&m, w, version);
    free(topics);
    free(parts);
}

int64_t commit_pump(struct group *g, int64_t now_ns) {
    struct commit *c = &g->commit;
    int64_t next_ns = INT64_MAX;
    if (!c->wanted || c->in_flight) return next_ns;
    bool member = g->generation >= 0 && g->state != MEMBER_LEFT;
    enum err err = member ? collect(g) : OK;
    if (err) return now_ns + client_backoff_ns(g->client, 0);
    if (!member || g->failed || c->sent.count == 0) {
        c->wanted = false;
        c->done = true; /* nothing to send */
        c->err = OK;
        if (!member || g->failed) commit_over(g, ERR_FENCED, 0, "not a member of the group");
        return 0;
    }
    struct conn *conn = group_conn(g, now_ns, &next_ns);
    if (!conn) return next_ns;
    err = group_send(g, conn, &(struct group_message){
        .api_key = API_OFFSET_COMMIT, .version_max = VERSION_WITH_NAMES, .deadline_ns = request_deadline(g, now_ns),
        .message = g, .encode = encode_commit, .done = commit_done});
    c->wanted = false;
    c->in_flight = err == OK;
    if (err) commit_over(g, err, 0, err_str(err));
    return err ? 0 : next_ns;
}

/* ---- what is committed ------------------------------------------------------------------------ */

static void take_offset(struct group *g, struct str topic, int32_t partition, int64_t offset, int16_t part_code, int16_t *code) {
    const struct topic_meta *t = meta_named(g, topic);
    struct part *p = t ? parts_find(&g->moving, t, partition) : NULL;
    if (part_code != KERR_NONE) *code = part_code;
    else if (p) p->offset = offset;
}

static int16_t take_offsets(struct group *g, const struct k_offset_fetch_response *m, int16_t version) {
    int16_t code = m->error_code;
    if (version < VERSION_WITH_GROUPS) {
        for (int32_t i = 0; i < m->topics_n; i++) {
            for (int32_t j = 0; j < m->topics[i].partitions_n; j++) {
                const struct k_offset_fetch_response_topics_partitions *p = &m->topics[i].partitions[j];
                take_offset(g, m->topics[i].name, p->partition_index, p->committed_offset, p->error_code, &code);
            }
        }
        return code;
    }
    for (int32_t n = 0; n < m->groups_n; n++) {
        if (m->groups[n].error_code != KERR_NONE) code = m->groups[n].error_code;
        for (int32_t i = 0; i < m->groups[n].topics_n; i++) {
            for (int32_t j = 0; j < m->groups[n].topics[i].partitions_n; j++) {
                const struct k_offset_fetch_response_groups_topics_partitions *p = &m->groups[n].topics[i].partitions[j];
                take_offset(g, m->groups[n].topics[i].name, p->partition_index, p->committed_offset, p->error_code, &code);
            }
        }
    }
    return code;
}

static void fetch_done(void *owner, enum err err, struct client_reply *reply, struct wire_reader *body) {
    struct group *g = owner;
    struct k_offset_fetch_response m;
    bool stale = g->fetch_stale;
    g->fetch_in_flight = g->fetch_stale = false;
    if (stale || g->handover != HANDOVER_FETCHING) return;
    if (!err) err = k_offset_fetch_response_decode(&m, body, reply->version);
    int16_t code = err ? KERR_NONE : take_offsets(g, &m, reply->version);
    if (err) {
        group_trouble(g, err == ERR_CLOSED || err == ERR_TIMEOUT, "OffsetFetch: %s", err_str(err));
    } else if (code == KERR_NONE) {
        g->fetched = g->attention = true;
        group_well(g);
    } else if (!group_coordinator_code(g, code, "OffsetFetch")) {
        bool again = kafka_error_retriable(code) || code == KERR_UNSTABLE_OFFSET_COMMIT || code == KERR_STALE_MEMBER_EPOCH ||
                     code == KERR_UNKNOWN_MEMBER_ID || code == KERR_ILLEGAL_GENERATION;
        if (again) group_trouble(g, false, "OffsetFetch: %s", kafka_error_name(code)); /* a heartbeat tells what we are */
        else group_fail(g, client_err_from_code(code), code, "OffsetFetch: %s", kafka_error_name(code));
    }
}

static void encode_fetch(const void *message, struct wire_writer *w, int16_t version) {
    const struct group *g = message;
    const struct parts *asked = &g->moving;
    struct k_offset_fetch_request m;
    struct k_offset_fetch_request_groups group;
    struct k_offset_fetch_request_topics *topics = calloc((size_t)asked->count, sizeof *topics);
    struct k_offset_fetch_request_groups_topics *group_topics = calloc((size_t)asked->count, sizeof *group_topics);
    int32_t *indexes = calloc((size_t)asked->count, sizeof *indexes), count = 0;
    k_offset_fetch_request_init(&m);
    k_offset_fetch_request_groups_init(&group);
    if (!topics || !group_topics || !indexes) w->err = ERR_NOMEM;
    for (int32_t i = 0, n; topics && group_topics && indexes && i < asked->count; i += n, count++) {
        n = run_length(asked, i);
        for (int32_t j = i; j < i + n; j++) indexes[j] = asked->items[j].partition;
        k_offset_fetch_request_topics_init(&topics[count]);
        k_offset_fetch_request_groups_topics_init(&group_topics[count]);
        topics[count].name = group_topics[count].name = str_from(asked->items[i].topic->name);
        topics[count].partition_indexes = group_topics[count].partition_indexes = &indexes[i];
        topics[count].partition_indexes_n = group_topics[count].partition_indexes_n = n;
    }
    if (version >= VERSION_WITH_GROUPS) {
        group.group_id = str_from(g->config.group);
        group.topics = group_topics;
        group.topics_n = count;
        if (version >= 9 && g->protocol == GROUP_CONSUMER) {
            group.member_id = str_from(g->member_id);
            group.member_epoch = g->generation;
        }
        m.groups = &group;
        m.groups_n = 1;
    } else {
        m.group_id = str_from(g->config.group);
        m.topics = topics;
        m.topics_n = count;
    }
    m.require_stable = version >= 7;
    k_offset_fetch_request_encode(&m, w, version);
    free(topics);
    free(group_topics);
    free(indexes);
}

int64_t fetch_offsets_pump(struct group *g, int64_t now_ns) {
    int64_t next_ns = INT64_MAX;
    if (g->handover != HANDOVER_FETCHING || g->fetched || g->fetch_in_flight || g->moving.count == 0) return next_ns;
    struct conn *conn = group_conn(g, now_ns, &next_ns);
    if (!conn) return next_ns;
    enum err err = group_send(g, conn, &(struct group_message){
        .api_key = API_OFFSET_FETCH, .version_max = VERSION_WITH_NAMES, .deadline_ns = request_deadline(g, now_ns),
        .message = g, .encode = encode_fetch, .done = fetch_done});
    g->fetch_in_flight = err == OK;
    if (err) group_fail(g, err, 0, "OffsetFetch: %s", err_str(err));
    return next_ns;
}
