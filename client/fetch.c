/* fetch.c - Fetch requests and what their answers mean for each partition. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "client/consumer_impl.h"
#include "proto/kafka_errors.h"
#include "proto/kafka_messages.h"

enum {
    VERSION_WITH_NAMES = 12,      /* of Fetch; later ones say topics by id */
    SESSION_NONE = -1             /* epoch of a request outside any session (KIP-227) */
};
static const int64_t NEVER_WORKED_NS = 5000000000; /* a partition that never was there is given up after this */

/* ---- trouble ---------------------------------------------------------------------------------- */

void assigned_give_up(struct assigned *a, enum err err, int16_t code, const char *message) {
    if (a->given_up) return;
    a->given_up = true;
    a->err = err;
    a->code = code;
    snprintf(a->message, sizeof a->message, "%s", message);
}

void assigned_failed(struct consumer *k, struct assigned *a, enum err err, int16_t code, const char *message) {
    int64_t now_ns = client_now_ns();
    if (!a->failing_since_ns) a->failing_since_ns = now_ns;
    a->retry_at_ns = now_ns + client_backoff_ns(k->client, a->failures++);
    metadata_want(k->client);
    int64_t patience_ns = (int64_t)k->config.retry_timeout_ms * 1000000;
    bool unknown = code == KERR_UNKNOWN_TOPIC_OR_PARTITION || code == KERR_UNKNOWN_TOPIC_ID;
    if (unknown && !a->worked) patience_ns = MIN(patience_ns, NEVER_WORKED_NS);
    if (now_ns - a->failing_since_ns >= patience_ns) assigned_give_up(a, err, code, message);
}

static void failed_code(struct consumer *k, struct assigned *a, int16_t code) {
    char text[256];
    snprintf(text, sizeof text, "Fetch: %s", kafka_error_name(code));
    enum err err = client_err_from_code(code);
    if (code == KERR_OFFSET_OUT_OF_RANGE && k->config.reset != CONSUMER_RESET_ERROR) {
        a->fetch_offset = k->config.reset == CONSUMER_RESET_EARLIEST ? OFFSET_EARLIEST : OFFSET_LATEST;
    } else if (kafka_error_retriable(code)) {
        assigned_failed(k, a, err, code, text);
    } else {
        snprintf(text, sizeof text, "Fetch at offset %lld: %s", (long long)a->fetch_offset, kafka_error_name(code));
        assigned_give_up(a, err, code, text);
    }
}

/* ---- answers ---------------------------------------------------------------------------------- */

void chunk_free(struct chunk *ch) {
    if (!ch) return;
    ch->a->chunks--;
    if (--ch->fetched->refs == 0) {
        client_reply_free(&ch->fetched->reply);
        free(ch->fetched);
    }
    free(ch->aborted);
    free(ch);
}

/* Past the last whole batch. `*bad`: a batch is there that cannot be read. */
static int64_t offset_after(const uint8_t *p, const uint8_t *end, int64_t offset, bool *bad) {
    *bad = false;
    while (p < end) {
        struct batch_header h;
        enum err err = batch_parse(p, (size_t)(end - p), &h);
        if (err == ERR_TRUNCATED) return offset;
        *bad = err || batch_check(&h);
        if (*bad) return offset;
        offset = MAX(offset, batch_last_offset(&h) + 1);
        p += h.total_bytes;
    }
    return offset;
}

static enum err add_chunk(struct consumer *k, struct assigned *a, struct fetched *f,
                          const struct k_fetch_response_responses_partitions *res) {
    struct chunk *ch = calloc(1, sizeof *ch);
    if (!ch) return ERR_NOMEM;
    if (k->config.read_committed && res->aborted_transactions_n > 0) {
        ch->aborted = calloc((size_t)res->aborted_transactions_n, sizeof *ch->aborted);
        if (!ch->aborted) {
            free(ch);
            return ERR_NOMEM;
        }
        ch->aborted_count = res->aborted_transactions_n;
        for (int32_t i = 0; i < ch->aborted_count; i++) {
            ch->aborted[i].producer_id = res->aborted_transactions[i].producer_id;
            ch->aborted[i].first_offset = res->aborted_transactions[i].first_offset;
        }
    }
    ch->a = a;
    ch->p = res->records.p;
    ch->end = ch->p + res->records.len;
    ch->fetched = f;
    f->refs++;
    a->chunks++;
    list_push_back(&k->chunks, &ch->link);
    return OK;
}

static void answered(struct consumer *k, struct assigned *a, struct fetched *f,
                     const struct k_fetch_response_responses_partitions *res) {
    if (res->error_code != KERR_NONE) {
        failed_code(k, a, res->error_code);
        return;
    }
    a->worked = true;
    a->failing_since_ns = 0;
    a->failures = 0;
    bool stable = k->config.read_committed && res->last_stable_offset >= 0;
    a->end_offset = stable ? res->last_stable_offset : res->high_watermark;
    if (res->records.len <= 0) return;
    int64_t next = offset_after(res->records.p, res->records.p + res->records.len, a->fetch_offset, &a->blocked);
    if (next == a->fetch_offset && !a->blocked) { /* not one whole batch: old brokers do that */
        a->max_bytes = a->max_bytes > INT32_MAX / 2 ? INT32_MAX : a->max_bytes * 2;
        return;
    }
    enum err err = add_chunk(k, a, f, res);
    if (err) {
        a->blocked = false;
        assigned_failed(k, a, err, 0, err_str(err));
        return;
    }
    a->fetch_offset = next;
    list_remove(&a->link); /* others first the next time */
    list_push_back(&k->assigned, &a->link);
}

static struct assigned *find_asked(const struct fetch *f, const struct k_fetch_response_responses *t,
                                   int32_t partition) {
    for (int32_t i = 0; i < f->count; i++) {
        struct assigned *a = f->partitions[i];
        if (!a || a->partition != partition) continue;
        if (t->topic.len > 0 ? str_is(t->topic, a->topic->name) : uuid_eq(&t->topic_id, &a->topic->id)) return a;
    }
    return NULL;
}

static void fetch_free(struct fetch *f) {
    list_remove(&f->link);
    free(f->partitions);
    free(f);
}

static void spread(struct consumer *k, struct fetch *f, const struct k_fetch_response *m, struct fetched *fetched) {
    for (int32_t i = 0; i < m->responses_n; i++) {
        const struct k_fetch_response_responses *t = &m->responses[i];
        for (int32_t j = 0; j < t->partitions_n; j++) {
            struct assigned *a = find_asked(f, t, t->partitions[j].partition_index);
            if (a) answered(k, a, fetched, &t->partitions[j]);
        }
    }
}

static void fetch_done(void *owner, enum err err, struct client_reply *reply, struct wire_reader *body) {
    struct fetch *f = owner;
    struct consumer *k = f->consumer;
    struct k_fetch_response m;
    int16_t code = KERR_NONE;
    for (int32_t i = 0; i < f->count; i++) {
        if (f->partitions[i]) f->partitions[i]->in_flight = false;
    }
    if (!err) err = k_fetch_response_decode(&m, body, reply->version);
    struct fetched *fetched = err ? NULL : calloc(1, sizeof *fetched);
    if (!err && !fetched) err = ERR_NOMEM;
    if (!err) code = m.error_code;
    if (!err && code == KERR_NONE) {
        fetched->refs = 1;
        spread(k, f, &m, fetched);
        fetched->reply = *reply; /* the chunks' records are in it */
        *reply = (struct client_reply){0};
        if (--fetched->refs == 0) client_reply_free(&fetched->reply);
        if (fetched->refs == 0) free(fetched);
    } else {
        free(fetched);
        for (int32_t i = 0; i < f->count; i++) {
            struct assigned *a = f->partitions[i];
            if (a && code != KERR_NONE) failed_code(k, a, code);
            else if (a) assigned_failed(k, a, err, 0, err == ERR_CLOSED ? client_unreachable(k->client) : err_str(err));
        }
    }
    fetch_free(f);
}

/* ---- requests --------------------------------------------------------------------------------- */

static void encode_fetch(const void *message, struct wire_writer *w, int16_t version) {
    const struct fetch *f = message;
    const struct consumer_config *cfg = &f->consumer->config;
    struct k_fetch_request_topics *topics = calloc((size_t)f->count, sizeof *topics);
    struct k_fetch_request_topics_partitions *partitions = calloc((size_t)f->count, sizeof *partitions);
    bool *taken = calloc((size_t)f->count, sizeof *taken);
    struct k_fetch_request m;
    k_fetch_request_init(&m);
    int32_t at = 0;
    for (int32_t i = 0; topics && partitions && taken && i < f->count; i++) {
        if (taken[i]) continue;
        const struct topic_meta *meta = f->partitions[i]->topic;
        struct k_fetch_request_topics *t = &topics[m.topics_n++];
        k_fetch_request_topics_init(t);
        t->topic = str_from(meta->name);
        t->topic_id = meta->id;
        t->partitions = &partitions[at];
        for (int32_t j = i; j < f->count; j++) {
            const struct assigned *a = f->partitions[j];
            if (a->topic != meta) continue;
            taken[j] = true;
            struct k_fetch_request_topics_partitions *p = &partitions[at++];
            k_fetch_request_topics_partitions_init(p);
            p->partition = a->partition;
            p->current_leader_epoch = meta->partitions[a->partition].leader_epoch;
            p->fetch_offset = a->fetch_offset;
            p->partition_max_bytes = a->max_bytes;
            t->partitions_n++;
        }
    }
    if (at == 0) w->err = ERR_NOMEM;
    m.topics = topics;
    m.replica_id = -1;
    m.max_wait_ms = cfg->max_wait_ms;
    m.min_bytes = cfg->min_bytes;
    m.max_bytes = cfg->max_bytes;
    m.isolation_level = cfg->read_committed;
    m.session_epoch = SESSION_NONE;
    m.rack_id = STR_LIT("");
    k_fetch_request_encode(&m, w, version);
    free(topics);
    free(partitions);
    free(taken);
}

/* The connection to the partition's leader when it is ready. */
static struct conn *leader_conn(struct consumer *k, struct assigned *a, int64_t now_ns) {
    char text[256];
    const struct topic_meta *t = a->topic;
    if (t->partition_count > 0 && a->partition >= t->partition_count) {
        snprintf(text, sizeof text, "topic \"%s\" has %d partitions", t->name, t->partition_count);
        assigned_failed(k, a, ERR_NOT_FOUND, KERR_UNKNOWN_TOPIC_OR_PARTITION, text);
        return NULL;
    }
    const struct partition_meta *leader = metadata_leader(t, a->partition);
    struct conn *conn = leader ? client_broker_conn(k->client, leader->leader) : NULL;
    if (!conn) {
        int16_t code = t->asked && t->error != KERR_NONE ? t->error : KERR_LEADER_NOT_AVAILABLE;
        snprintf(text, sizeof text, "no leader: %s", t->asked ? kafka_error_name(code) : client_unreachable(k->client));
        if (t->asked && !kafka_error_retriable(code)) assigned_give_up(a, client_err_from_code(code), code, text);
        else if (t->asked) assigned_failed(k, a, client_err_from_code(code), code, text);
        else assigned_failed(k, a, ERR_CLOSED, KERR_NONE, text);
        return NULL;
    }
    if (conn_want(conn, now_ns)) return conn;
    if (conn->failures > 0) assigned_failed(k, a, ERR_CLOSED, 0, conn->why);
    return NULL;
}

static bool is_ready(const struct assigned *a, int64_t now_ns) {
    return !a->in_flight && !a->blocked && !a->given_up && a->fetch_offset >= 0 && now_ns >= a->retry_at_ns;
}

/* A request is on its way there, or a chunk from there waits to be read. */
static bool broker_busy(const struct consumer *k, int32_t broker_id) {
    LIST_FOREACH(it, &k->fetches) {
        if (LIST_ENTRY(it, struct fetch, link)->broker_id == broker_id) return true;
    }
    LIST_FOREACH(it, &k->chunks) {
        const struct assigned *a = LIST_ENTRY(it, struct chunk, link)->a;
        const struct partition_meta *leader = metadata_leader(a->topic, a->partition);
        if (leader && leader->leader == broker_id) return true;
    }
    return false;
}

static void send_fetch(struct consumer *k, struct conn *conn, struct fetch *f, int64_t now_ns) {
    int16_t version, version_max = INT16_MAX;
    for (int32_t i = 0; i < f->count; i++) {
        f->partitions[i]->in_flight = true;
        if (uuid_is_zero(&f->partitions[i]->topic->id)) version_max = VERSION_WITH_NAMES;
    }
    enum err err = conn_version(conn, API_FETCH, version_max, &version);
    int64_t wait_ms = (int64_t)k->config.max_wait_ms + k->client->config.request_timeout_ms;
    if (!err) {
        err = conn_submit(conn, &(struct conn_message){
            .api_key = API_FETCH, .version = version, .message = f, .encode = encode_fetch,
            .deadline_ns = now_ns + wait_ms * 1000000, .done = fetch_done, .owner = f});
    }
    if (!err) return;
    for (int32_t i = 0; i < f->count; i++) {
        struct assigned *a = f->partitions[i];
        a->in_flight = false;
        if (err == ERR_UNSUPPORTED) assigned_give_up(a, err, 0, "the broker serves no Fetch version that we know");
        else assigned_failed(k, a, err, 0, err_str(err));
    }
    fetch_free(f);
}

/* All partitions that `conn` leads and that are ready, `first` before the others. */
static void fetch_from(struct consumer *k, struct conn *conn, struct assigned *first, int64_t now_ns) {
    struct fetch *f = calloc(1, sizeof *f);
    int32_t room = consumer_assigned_count(k);
    if (f) f->partitions = calloc((size_t)room, sizeof *f->partitions);
    if (!f || !f->partitions) {
        free(f);
        assigned_failed(k, first, ERR_NOMEM, 0, "out of memory");
        return;
    }
    f->consumer = k;
    f->broker_id = conn->broker_id;
    list_push_back(&k->fetches, &f->link);
    f->partitions[f->count++] = first;
    LIST_FOREACH(it, &k->assigned) {
        struct assigned *a = LIST_ENTRY(it, struct assigned, link);
        if (a != first && is_ready(a, now_ns) && leader_conn(k, a, now_ns) == conn) f->partitions[f->count++] = a;
    }
    send_fetch(k, conn, f, now_ns);
}

int64_t fetch_pump(struct consumer *k) {
    int64_t now_ns = client_now_ns(), next_ns = INT64_MAX;
    LIST_FOREACH(it, &k->assigned) {
        struct assigned *a = LIST_ENTRY(it, struct assigned, link);
        if (is_ready(a, now_ns)) {
            struct conn *conn = leader_conn(k, a, now_ns);
            if (conn && !broker_busy(k, conn->broker_id)) fetch_from(k, conn, a, now_ns);
        }
        if (a->retry_at_ns > now_ns && !a->in_flight) next_ns = MIN(next_ns, a->retry_at_ns);
        if (a->given_up) next_ns = 0;
    }
    return next_ns;
}

void fetch_forget(struct consumer *k, const struct assigned *a) {
    LIST_FOREACH(it, &k->fetches) {
        struct fetch *f = LIST_ENTRY(it, struct fetch, link);
        for (int32_t i = 0; i < f->count; i++) {
            if (f->partitions[i] == a) f->partitions[i] = NULL;
        }
    }
}
