/* consumer.c - assignment, and records out of the chunks that fetch.c brings. */
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "client/consumer_impl.h"
#include "proto/kafka_errors.h"

enum { LOOK_UP_MS_MIN = 1000, CONTROL_ABORT = 0 };

void consumer_config_init(struct consumer_config *cfg) {
    *cfg = (struct consumer_config){
        .max_wait_ms = 500, .min_bytes = 1, .max_bytes = 50 << 20, .partition_max_bytes = 1 << 20,
        .batch_bytes_max = 256u << 20, .reset = CONSUMER_RESET_ERROR, .retry_timeout_ms = 60000};
}

struct consumer *consumer_create(struct client *c, const struct consumer_config *cfg) {
    struct consumer *k = calloc(1, sizeof *k);
    if (!k) {
        (void)client_fail(c, ERR_NOMEM, 0, "out of memory");
        return NULL;
    }
    k->client = c;
    k->config = *cfg;
    list_init(&k->assigned);
    list_init(&k->fetches);
    list_init(&k->chunks);
    return k;
}

/* ---- assignment ------------------------------------------------------------------------------- */

static void leave_chunk(struct consumer *k) {
    if (k->in_batch) record_iter_free(&k->iter);
    k->in_batch = false;
    chunk_free(k->chunk);
    k->chunk = NULL;
}

static void drop_chunks(struct consumer *k, const struct assigned *a) {
    if (k->chunk && k->chunk->a == a) leave_chunk(k);
    LIST_FOREACH_SAFE(it, &k->chunks) {
        struct chunk *ch = LIST_ENTRY(it, struct chunk, link);
        if (ch->a != a) continue;
        list_remove(&ch->link);
        chunk_free(ch);
    }
}

struct assigned *consumer_find(const struct consumer *k, const char *topic, int32_t partition) {
    LIST_FOREACH(it, &k->assigned) {
        struct assigned *a = LIST_ENTRY(it, struct assigned, link);
        if (a->partition == partition && strcmp(a->topic->name, topic) == 0) return a;
    }
    return NULL;
}

static void detach(struct consumer *k, struct assigned *a) {
    drop_chunks(k, a);
    fetch_forget(k, a);
    list_remove(&a->link);
}

enum err consumer_assign(struct consumer *k, const char *topic, int32_t partition, int64_t offset) {
    if (partition < 0 || offset < OFFSET_EARLIEST) {
        return client_fail(k->client, ERR_INVALID, 0, "no such partition or offset");
    }
    struct topic_meta *t = metadata_topic(k->client, topic, false);
    struct assigned *a = t ? calloc(1, sizeof *a) : NULL;
    if (!a) return client_fail(k->client, ERR_NOMEM, 0, "out of memory");
    consumer_unassign(k, topic, partition);
    *a = (struct assigned){.topic = t, .partition = partition, .fetch_offset = offset, .position = offset, .end_offset = -1,
                           .position_epoch = -1, .committed = -1, .end_reported = -1, .max_bytes = k->config.partition_max_bytes};
    list_push_back(&k->assigned, &a->link);
    return OK;
}

void consumer_unassign(struct consumer *k, const char *topic, int32_t partition) {
    struct assigned *a = consumer_find(k, topic, partition);
    if (!a) return;
    detach(k, a);
    free(a);
}

int32_t consumer_assigned_count(const struct consumer *k) {
    int32_t count = 0;
    LIST_FOREACH(it, &k->assigned) count++;
    return count;
}

void consumer_destroy(struct consumer *k) {
    if (!k) return;
    /* Requests on their way point to us: their connections go first. */
    while (!list_empty(&k->fetches)) {
        struct conn *conn = client_broker_conn(k->client, LIST_ENTRY(k->fetches.next, struct fetch, link)->broker_id);
        ASSERT(conn);
        conn_close(conn, client_now_ns(), ERR_CLOSED, "the consumer is going away");
    }
    while (!list_empty(&k->assigned)) {
        struct assigned *a = LIST_ENTRY(k->assigned.next, struct assigned, link);
        detach(k, a);
        free(a);
    }
    free(k->gone);
    free(k);
}

/* ---- records ---------------------------------------------------------------------------------- */

/* Type of a control batch: the second field of its record's key; -1 when it cannot be read. */
static int control_type(const uint8_t *batch, const struct batch_header *h) {
    struct record_iter it;
    struct record r;
    if (record_iter_init(&it, batch, h, 0)) return -1;
    int type = !record_iter_next(&it, &r) && r.key.len >= 4 ? (int)load_be16(r.key.p + 2) : -1;
    record_iter_free(&it);
    return type;
}

/* The transaction of this producer that was open at `offset` and aborted, or NULL. */
static struct aborted *find_aborted(struct chunk *ch, int64_t producer_id, int64_t offset) {
    struct aborted *best = NULL;
    for (int32_t i = 0; i < ch->aborted_count; i++) {
        struct aborted *t = &ch->aborted[i];
        if (t->over || t->producer_id != producer_id || t->first_offset > offset) continue;
        if (!best || t->first_offset < best->first_offset) best = t;
    }
    return best;
}

/* Whether the batch holds nothing for the user: a marker, or records that were taken back. */
static bool is_hidden(struct chunk *ch, const uint8_t *batch, const struct batch_header *h) {
    struct aborted *t = NULL;
    if (h->attributes & BATCH_TRANSACTIONAL) t = find_aborted(ch, h->producer_id, batch_last_offset(h));
    if (h->attributes & BATCH_CONTROL) {
        if (t && control_type(batch, h) == CONTROL_ABORT) t->over = true;
        return true;
    }
    return t != NULL;
}

static void unreadable(struct consumer *k, struct assigned *a, enum err err, const char *what) {
    char text[256];
    snprintf(text, sizeof text, "batch at offset %lld: %s", (long long)a->position, what);
    leave_chunk(k);
    drop_chunks(k, a);
    assigned_give_up(a, err, 0, text);
}

/* Enters the next batch of the chunk that has something to give, or leaves the chunk. */
static void next_batch(struct consumer *k) {
    struct chunk *ch = k->chunk;
    struct assigned *a = ch->a;
    struct batch_header h;
    enum err err = ch->p < ch->end ? batch_parse(ch->p, (size_t)(ch->end - ch->p), &h) : ERR_TRUNCATED;
    if (err == ERR_TRUNCATED) {
        leave_chunk(k); /* brokers may cut the last batch */
        return;
    }
    if (!err) err = batch_check(&h);
    if (err) {
        unreadable(k, a, err, err == ERR_UNSUPPORTED ? "a record format older than Kafka 0.11" : "not a batch");
        return;
    }
    const uint8_t *batch = ch->p;
    ch->p += h.total_bytes;
    if (batch_last_offset(&h) < a->position) return;
    if (!batch_crc_ok(batch, &h)) {
        unreadable(k, a, ERR_CORRUPT, "its checksum is wrong");
        return;
    }
    if (is_hidden(ch, batch, &h)) {
        a->position = batch_last_offset(&h) + 1;
        return;
    }
    err = record_iter_init(&k->iter, batch, &h, k->config.batch_bytes_max);
    if (err) unreadable(k, a, err, err == ERR_TOO_LARGE ? "too large when decompressed" : err_str(err));
    k->in_batch = err == OK;
}

static bool next_record(struct consumer *k) {
    struct assigned *a = k->chunk->a;
    struct consumer_event *ev = &k->event;
    const struct batch_header *h = &k->iter.header;
    enum err err = record_iter_next(&k->iter, &ev->record);
    if (err == ERR_NOT_FOUND) {
        a->position = MAX(a->position, batch_last_offset(h) + 1); /* compaction may have taken the last ones */
        record_iter_free(&k->iter);
        k->in_batch = false;
        return false;
    }
    if (err) {
        unreadable(k, a, err, "its records do not parse");
        return false;
    }
    if (ev->record.offset < a->position) return false; /* a batch begins before the offset asked for */
    a->position = ev->record.offset + 1;
    a->position_epoch = h->leader_epoch;
    ev->kind = CONSUMER_RECORD;
    ev->topic = a->topic->name;
    ev->partition = a->partition;
    ev->end_offset = a->end_offset;
    ev->leader_epoch = h->leader_epoch;
    ev->log_append_time = (h->attributes & BATCH_LOG_APPEND_TIME) != 0;
    return true;
}

static bool from_chunks(struct consumer *k) {
    for (;;) {
        if (k->in_batch) {
            if (next_record(k)) return true;
        } else if (k->chunk) {
            next_batch(k);
        } else if (!list_empty(&k->chunks)) {
            k->chunk = LIST_ENTRY(list_pop_front(&k->chunks), struct chunk, link);
            (void)fetch_pump(k); /* the next response travels while this one is read */
            client_turn(k->client, 0);
        } else {
            return false;
        }
    }
}

/* ---- what is not a record --------------------------------------------------------------------- */

static void forget_gone(struct consumer *k) {
    free(k->gone);
    k->gone = NULL;
}

static bool from_partitions(struct consumer *k) {
    struct consumer_event *ev = &k->event;
    LIST_FOREACH(it, &k->assigned) {
        struct assigned *a = LIST_ENTRY(it, struct assigned, link);
        if (a->chunks > 0) continue;
        bool at_end = a->worked && a->end_offset >= 0 && a->fetch_offset >= 0 && a->position >= a->end_offset &&
                      a->end_reported != a->position;
        if (!a->given_up && !at_end) continue;
        *ev = (struct consumer_event){.kind = a->given_up ? CONSUMER_ERROR : CONSUMER_END,
                                      .topic = a->topic->name, .partition = a->partition,
                                      .end_offset = a->end_offset, .next_offset = a->position};
        a->end_reported = a->position;
        if (a->given_up) {
            ev->err = a->err;
            ev->code = a->code;
            ev->message = a->message;
            detach(k, a);
            k->gone = a;
        }
        return true;
    }
    return false;
}

/* Finds out where "earliest" and "latest" are. Whether anything was asked. */
static bool look_up(struct consumer *k, int64_t deadline_ns) {
    int64_t now_ns = client_now_ns();
    bool asked = false;
    int64_t left_ms = deadline_ns == INT64_MAX ? k->client->config.request_timeout_ms : (deadline_ns - now_ns) / 1000000;
    LIST_FOREACH(it, &k->assigned) {
        struct assigned *a = LIST_ENTRY(it, struct assigned, link);
        struct client_offset found;
        if (a->fetch_offset >= 0 || a->given_up || a->chunks > 0 || a->in_flight || now_ns < a->retry_at_ns) continue;
        asked = true;
        enum err err = client_list_offset(k->client, a->topic->name, a->partition, a->fetch_offset,
                                          (int32_t)MAX(left_ms, (int64_t)LOOK_UP_MS_MIN), &found);
        int16_t code = err ? client_error_code(k->client) : KERR_NONE;
        bool again = err == ERR_CLOSED || err == ERR_TIMEOUT || err == ERR_NOMEM ||
                     (code != KERR_NONE && kafka_error_retriable(code));
        if (!err) {
            a->fetch_offset = a->position = found.offset;
            a->failing_since_ns = 0;
            a->failures = 0;
        } else if (again && (a->worked || code != KERR_UNKNOWN_TOPIC_OR_PARTITION)) {
            assigned_failed(k, a, err, code, client_error(k->client));
        } else {
            assigned_give_up(a, err, code, client_error(k->client));
        }
    }
    return asked;
}

enum err consumer_poll(struct consumer *k, int32_t timeout_ms, const struct consumer_event **out) {
    forget_gone(k);
    *out = &k->event;
    if (k->in_batch && next_record(k)) return OK; /* nearly always */
    int64_t deadline_ns = client_deadline(timeout_ms);
    if (list_empty(&k->assigned)) return client_fail(k->client, ERR_INVALID, 0, "no partition is assigned");
    for (bool first = true;; first = false) {
        if (from_chunks(k) || from_partitions(k)) return OK;
        if (!first && (client_now_ns() >= deadline_ns || (k->interrupt && *k->interrupt))) break;
        bool moved = look_up(k, deadline_ns); /* then something may have come meanwhile */
        int64_t next_ns = fetch_pump(k);
        client_turn(k->client, moved ? 0 : MIN(deadline_ns, next_ns));
    }
    return client_fail(k->client, ERR_TIMEOUT, 0, "nothing in %d ms", timeout_ms);
}
