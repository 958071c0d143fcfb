/* producer.c - records in, reports out. Sending is delivery.c. */
#include <limits.h>
#include <stdlib.h>

#include "base/assert.h"
#include "client/producer_impl.h"

enum {
    RECORD_OVERHEAD_BYTES = 32,   /* lengths, deltas and our note, for counting memory */
    IN_FLIGHT_MAX_IDEMPOTENT = 5, /* how many batches a broker remembers per producer */
    STEP_NS = 1000000             /* producer_send looks at the sockets this often at least */
};

void producer_config_init(struct producer_config *cfg) {
    *cfg = (struct producer_config){
        .codec = CODEC_NONE, .level = INT_MIN, .acks = -1, .idempotent = true, .linger_ms = 5,
        .batch_bytes = 128 << 10, .batch_bytes_max = 1048588, .request_bytes = 1 << 20, .buffer_bytes = 32 << 20,
        .in_flight_max = 5, .request_timeout_ms = 30000, .delivery_timeout_ms = 120000, .create_topics = true};
}

struct producer *producer_create(struct client *c, const struct producer_config *cfg) {
    const char *wrong = NULL;
    if (cfg->codec >= CODEC_COUNT) wrong = "unknown codec";
    if (cfg->acks < -1 || cfg->acks > 1) wrong = "acks is -1, 0 or 1";
    if (cfg->idempotent && cfg->acks != -1) wrong = "an idempotent producer needs acks -1";
    if (cfg->in_flight_max < 1 || (cfg->idempotent && cfg->in_flight_max > IN_FLIGHT_MAX_IDEMPOTENT)) {
        wrong = "in_flight_max is at least 1, at most 5 when idempotent";
    }
    if (cfg->batch_bytes_max < BATCH_HEADER_BYTES) wrong = "batch_bytes_max is too small";
    struct producer *p = wrong ? NULL : calloc(1, sizeof *p);
    if (!p) {
        (void)client_fail(c, wrong ? ERR_INVALID : ERR_NOMEM, 0, "%s", wrong ? wrong : "out of memory");
        return NULL;
    }
    p->client = c;
    p->config = *cfg;
    p->producer_id = -1;
    list_init(&p->active);
    return p;
}

const struct producer_stats *producer_stats(const struct producer *p) { return &p->stats; }

/* ---- topics and partitions -------------------------------------------------------------------- */

static struct producer_topic *find_topic(struct producer *p, const char *name) {
    if (p->last_topic && strcmp(p->last_topic->meta->name, name) == 0) return p->last_topic;
    for (struct producer_topic *t = p->topics; t; t = t->next) {
        if (strcmp(t->meta->name, name) == 0) return p->last_topic = t;
    }
    struct topic_meta *meta = metadata_topic(p->client, name, p->config.create_topics);
    struct producer_topic *t = meta ? calloc(1, sizeof *t) : NULL;
    if (!t) return NULL;
    *t = (struct producer_topic){.next = p->topics, .meta = meta, .sticky = -1};
    p->topics = t;
    return p->last_topic = t;
}

static struct queue *find_queue(struct producer *p, struct producer_topic *t, int32_t partition) {
    if (partition < t->queue_count && t->queues[partition]) return t->queues[partition];
    if (partition >= t->queue_count) {
        int32_t count = MAX(partition + 1, t->meta->partition_count);
        struct queue **grown = realloc(t->queues, (size_t)count * sizeof(struct queue *));
        if (!grown) return NULL;
        for (int32_t i = t->queue_count; i < count; i++) grown[i] = NULL;
        t->queues = grown;
        t->queue_count = count;
    }
    struct queue *q = calloc(1, sizeof *q);
    if (!q) return NULL;
    q->topic = t;
    q->partition = partition;
    q->epoch = -1;
    list_init(&q->active_link);
    list_init(&q->batches);
    batch_builder_init(&q->open, p->config.codec, p->config.batch_bytes_max);
    q->open.level = p->config.level;
    t->queues[partition] = q;
    return q;
}

/* Any partition, preferably one with a leader. */
static int32_t pick_sticky(struct producer *p, struct producer_topic *t) {
    int32_t count = t->meta->partition_count;
    int32_t start = (int32_t)(client_random(p->client) % (uint64_t)count);
    for (int32_t i = 0; i < count; i++) {
        int32_t partition = (start + i) % count;
        if (metadata_leader(t->meta, partition)) return partition;
    }
    return start;
}

static int32_t pick_partition(struct producer *p, struct producer_topic *t, const struct producer_record *r) {
    if (r->partition != PARTITION_ANY) return r->partition;
    if (r->key.p) return producer_partition_for_key(r->key, t->meta->partition_count);
    if (t->sticky < 0) t->sticky = pick_sticky(p, t);
    return t->sticky;
}

/* ---- records in ------------------------------------------------------------------------------- */

static size_t charge(const struct producer_record *r) {
    size_t bytes = RECORD_OVERHEAD_BYTES + (size_t)r->key.len + (size_t)r->value.len;
    for (int32_t i = 0; i < r->header_count; i++) {
        bytes += 4 + (size_t)r->headers[i].key.len + (size_t)r->headers[i].value.len;
    }
    return bytes;
}

static bool note_record(struct producer *p, struct queue *q, uint64_t tag, int64_t timestamp_ms) {
    if (!p->config.report) return true;
    int32_t at = q->open.record_count;
    if (at == q->notes_cap) {
        int32_t cap = q->notes_cap ? q->notes_cap * 2 : 64;
        struct note *grown = realloc(q->notes, (size_t)cap * sizeof *grown);
        if (!grown) return false;
        q->notes = grown;
        q->notes_cap = cap;
    }
    q->notes[at] = (struct note){tag, timestamp_ms};
    return true;
}

enum err producer_close_batch(struct producer *p, struct queue *q) {
    ASSERT(q->open.record_count > 0);
    struct batch *b = calloc(1, sizeof *b);
    enum err err = b ? batch_builder_finish(&q->open, &b->bytes, &b->len) : ERR_NOMEM;
    if (err) {
        free(b);
        return err;
    }
    b->queue = q;
    b->record_count = q->open.record_count;
    b->charged_bytes = q->open_charged_bytes;
    b->notes = q->notes;
    b->expires_ns = q->open_since_ns + (int64_t)p->config.delivery_timeout_ms * 1000000;
    b->base_sequence = -1;
    b->base_offset = b->append_time_ms = -1;
    q->notes = NULL;
    q->notes_cap = 0;
    q->open_charged_bytes = 0;
    list_push_back(&q->batches, &b->link);
    batch_builder_reset(&q->open);
    if (q->topic->sticky == q->partition) q->topic->sticky = -1;
    return OK;
}

static enum err add(struct producer *p, struct queue *q, const struct producer_record *r, int64_t now_ns,
                    bool *closed) {
    size_t bytes = charge(r);
    int64_t timestamp_ms = r->timestamp_ms == -1 ? client_wall_ms() : r->timestamp_ms;
    if (q->open.record_count > 0 && batch_builder_bytes(&q->open) + bytes > p->config.batch_bytes) {
        enum err err = producer_close_batch(p, q);
        if (err) return err;
        *closed = true;
    }
    if (!note_record(p, q, r->tag, timestamp_ms)) return ERR_NOMEM;
    enum err err = batch_builder_add(&q->open, timestamp_ms, r->key, r->value, r->headers, r->header_count);
    if (err == ERR_FULL) { /* rare: our estimate was low, or batch_bytes is above batch_bytes_max */
        err = producer_close_batch(p, q);
        *closed = err == OK;
        if (!err && !note_record(p, q, r->tag, timestamp_ms)) err = ERR_NOMEM;
        if (!err) err = batch_builder_add(&q->open, timestamp_ms, r->key, r->value, r->headers, r->header_count);
    }
    if (err) return err;
    if (q->open.record_count == 1) q->open_since_ns = now_ns;
    q->open_charged_bytes += bytes;
    p->stats.buffered_bytes += bytes;
    p->stats.records_sent++;
    if (list_empty(&q->active_link)) list_push_back(&p->active, &q->active_link);
    return OK;
}

static enum err fatal(struct producer *p) {
    return client_fail(p->client, p->fatal, p->fatal_code, "%s", p->fatal_message);
}

/* The topic's metadata and room in the buffer, or the time is up. */
static enum err wait_until_accepted(struct producer *p, struct producer_topic *t, size_t bytes) {
    int64_t deadline_ns = 0;
    bool room = p->stats.buffered_bytes == 0 || p->stats.buffered_bytes + bytes <= p->config.buffer_bytes;
    if (t->meta->partition_count > 0 && room) return OK;
    deadline_ns = client_deadline(p->config.delivery_timeout_ms);
    enum err err = metadata_wait(p->client, t->meta, deadline_ns);
    if (err) return err;
    while (p->stats.buffered_bytes > 0 && p->stats.buffered_bytes + bytes > p->config.buffer_bytes) {
        if (client_now_ns() >= deadline_ns) {
            return client_fail(p->client, ERR_TIMEOUT, 0, "the buffer of %zu bytes stayed full: %s",
                               p->config.buffer_bytes, client_unreachable(p->client));
        }
        delivery_step(p, deadline_ns);
        if (p->fatal) return fatal(p);
    }
    return OK;
}

enum err producer_send(struct producer *p, const struct producer_record *r) {
    struct client *c = p->client;
    if (p->fatal) return fatal(p);
    struct producer_topic *t = find_topic(p, r->topic);
    if (!t) return client_fail(c, ERR_NOMEM, 0, "out of memory");
    enum err err = wait_until_accepted(p, t, charge(r));
    if (err) return err;
    int32_t partition = pick_partition(p, t, r);
    if (partition < 0 || partition >= t->meta->partition_count) {
        return client_fail(c, ERR_INVALID, 0, "topic \"%s\" has %d partitions, not partition %d", r->topic,
                           t->meta->partition_count, partition);
    }
    struct queue *q = find_queue(p, t, partition);
    int64_t now_ns = client_now_ns();
    bool closed = false;
    err = q ? add(p, q, r, now_ns, &closed) : ERR_NOMEM;
    if (err == ERR_TOO_LARGE) {
        err = client_fail(c, err, 0, "a record of %zu bytes does not fit a batch of at most %u", charge(r),
                          p->config.batch_bytes_max);
    } else if (err) {
        err = client_fail(c, err, 0, "the record could not be added: %s", err_str(err));
    }
    if (closed || now_ns - p->stepped_ns >= STEP_NS) delivery_step(p, 0);
    return err;
}

/* ---- reports out ------------------------------------------------------------------------------ */

static void report(struct producer *p, const struct batch *b) {
    if (!p->config.report) return;
    struct producer_report r = {.topic = b->queue->topic->meta->name, .partition = b->queue->partition,
                                .err = b->err, .code = b->code,
                                .message = b->err == OK ? NULL : b->message ? b->message : err_str(b->err)};
    for (int32_t i = 0; i < b->record_count; i++) {
        r.tag = b->notes[i].tag;
        r.offset = b->base_offset >= 0 ? b->base_offset + i : -1;
        r.timestamp_ms = b->append_time_ms >= 0 ? b->append_time_ms : b->notes[i].timestamp_ms;
        p->config.report(p->config.report_ctx, &r);
    }
}

void producer_report_front(struct producer *p, struct queue *q) {
    while (!list_empty(&q->batches)) {
        struct batch *b = LIST_ENTRY(q->batches.next, struct batch, link);
        if (!b->finished) break;
        list_remove(&b->link);
        p->stats.buffered_bytes -= b->charged_bytes;
        if (b->err == OK) {
            p->stats.records_delivered += (uint64_t)b->record_count;
            p->stats.bytes_delivered += b->len;
            p->stats.batches_delivered++;
        } else {
            p->stats.records_failed += (uint64_t)b->record_count;
        }
        report(p, b);
        free(b->notes);
        free(b->message);
        free(b);
    }
    if (list_empty(&q->batches) && q->open.record_count == 0) list_remove(&q->active_link);
}

enum err producer_poll(struct producer *p, int32_t timeout_ms) {
    int64_t deadline_ns = client_deadline(timeout_ms);
    uint64_t before = p->finished;
    do {
        delivery_step(p, timeout_ms == 0 ? 0 : deadline_ns);
    } while (!p->fatal && p->finished == before && !list_empty(&p->active) && client_now_ns() < deadline_ns);
    return p->fatal ? fatal(p) : OK;
}

enum err producer_flush(struct producer *p, int32_t timeout_ms) {
    int64_t deadline_ns = client_deadline(timeout_ms);
    p->flushing = true;
    while (!list_empty(&p->active) && client_now_ns() < deadline_ns) delivery_step(p, deadline_ns);
    p->flushing = false;
    if (!list_empty(&p->active)) {
        uint64_t waiting = p->stats.records_sent - p->stats.records_delivered - p->stats.records_failed;
        return client_fail(p->client, ERR_TIMEOUT, 0, "%llu records are still on their way: %s",
                           (unsigned long long)waiting, client_unreachable(p->client));
    }
    return p->fatal ? fatal(p) : OK;
}

/* ---- the end ---------------------------------------------------------------------------------- */

static void free_topic(struct producer_topic *t) {
    for (int32_t i = 0; i < t->queue_count; i++) {
        if (!t->queues[i]) continue;
        batch_builder_free(&t->queues[i]->open);
        free(t->queues[i]->notes);
        free(t->queues[i]);
    }
    free(t->queues);
    free(t);
}

static void abandon(struct producer *p, struct queue *q) {
    if (q->open.record_count > 0 && producer_close_batch(p, q)) {
        p->stats.records_failed += (uint64_t)q->open.record_count; /* no memory even to say so */
        batch_builder_reset(&q->open);
    }
    LIST_FOREACH_SAFE(it, &q->batches) {
        struct batch *b = LIST_ENTRY(it, struct batch, link);
        if (!b->finished) delivery_finish(p, b, ERR_CLOSED, 0, STR_LIT("the producer was destroyed before delivery"));
    }
    producer_report_front(p, q);
}

void producer_destroy(struct producer *p) {
    if (!p) return;
    /* Requests on their way point to us: their connections go first. */
    for (int32_t i = 0; i < p->client->conn_count && (p->requests > 0 || p->id_in_flight); i++) {
        struct conn *conn = p->client->conns[i];
        if (conn->in_flight > 0) conn_close(conn, client_now_ns(), ERR_CLOSED, "the producer is going away");
    }
    while (!list_empty(&p->active)) abandon(p, LIST_ENTRY(p->active.next, struct queue, active_link));
    while (p->topics) {
        struct producer_topic *t = p->topics;
        p->topics = t->next;
        free_topic(t);
    }
    free(p);
}
