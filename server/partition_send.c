/* partition_send.c - a leader's messages to its peers, with the records that belong to them.
 *
 * Appends wait until the end of the turn: then they describe everything that was appended in it, and the journal has had its entries
 * first, so that both ways, to the own disk and to the peers, are taken at the same time. Recent records come from memory; what is in
 * files only is read first, one read for each peer (the core sends it nothing else meanwhile).
 *
 * The records of one message are of one epoch: a marker behind records ends it. So that what is missing at the end of an epoch, where
 * compaction may have left nothing, can be told from what did not fit: a read finds nothing, and a batch without records is sent for it. */
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "base/trace.h"
#include "server/partition_impl.h"
#include "server/peer.h"

enum { PROBE_BYTES = 64 * 1024, ERROR_EVERY_NS = 1000000000 };

/* An append whose records are being collected. */
struct outgoing {
    struct list link;                    /* partition.reads, while it is read from files */
    struct partition *partition;         /* NULL: nobody wants it any more */
    struct replica_message m;
    struct log_read read;
};

/* ---- and on ------------------------------------------------------------------------------------------ */

/* The peer may have another place by now; its session says which it is. */
static void report_sent(struct partition *p, uint64_t session, struct replica_position at) {
    for (uint32_t i = 0; i < p->replica.peer_count; i++) {
        if (p->replica.peers[i].session != session) continue;
        struct replica_event event = {.kind = REPLICA_SENT, .now_ns = p->map->reactor->awake_ns,
                                      .u.sent = {.peer = i, .session = session, .position = at}};
        (void)partition_step(p, &event, NULL);
        return;
    }
}

static void send_slices(struct partition *p, struct replica_message *m, struct slice *slices, uint32_t count) {
    bool sent = p->map->send(p->map->reactor, p->plid, m, slices, count);
    report_sent(p, m->session, sent ? replica_message_end(m) : m->prev); /* from there it is tried again */
}

/* ---- offsets without records --------------------------------------------------------------------------- */

struct buf *partition_empty_batch(int64_t from, int64_t to, int32_t epoch) {
    struct buf *b = buf_new(BATCH_HEADER_BYTES, 0);
    if (!b) return NULL;
    uint8_t *p = b->data;
    memset(p, 0, BATCH_HEADER_BYTES);
    store_be32(p + 8, BATCH_HEADER_BYTES - 12);
    p[16] = 2;
    store_be32(p + 23, (uint32_t)MIN(to - from - 1, (int64_t)INT32_MAX - 1));
    store_be64(p + 27, UINT64_MAX);      /* no time */
    store_be64(p + 35, UINT64_MAX);
    store_be64(p + 43, UINT64_MAX);      /* no producer, no epoch, no sequence */
    store_be16(p + 51, UINT16_MAX);
    store_be32(p + 53, UINT32_MAX);
    batch_set_base_offset(p, from);
    batch_set_leader_epoch(p, epoch);
    batch_seal(p);
    return b;
}

static void send_gap(struct partition *p, struct replica_message *m) {
    int32_t epoch = m->prev.epoch;
    for (uint32_t i = 0; i < m->marker_count && m->markers[i].start == m->prev.offset; i++) epoch = m->markers[i].epoch;
    struct slice s = {.buf = partition_empty_batch(m->prev.offset, m->end_offset, epoch), .len = BATCH_HEADER_BYTES};
    if (!s.buf) {
        report_sent(p, m->session, m->prev);
        return;
    }
    replica_message_shorten(m, MIN(m->end_offset, m->prev.offset + INT32_MAX));
    send_slices(p, m, &s, 1);
}

/* ---- records -------------------------------------------------------------------------------------------- */

static void say_unreadable(struct partition *p, const struct replica_message *m, enum err err) {
    struct partition_map *map = p->map;
    if (err == ERR_RANGE || err == ERR_CLOSED || map->reactor->now_ns < map->next_error_ns) return; /* gone meanwhile */
    map->next_error_ns = map->reactor->now_ns + ERROR_EVERY_NS;
    trace_error("replica", "%s-%d: offset %lld cannot be read for broker %d: %s", p->log->topic, p->log->partition, (long long)m->prev.offset,
                m->to.node, err_str(err));
}

static void records_read(struct outgoing *o) {
    struct partition *p = o->partition;
    struct log_read *r = &o->read;
    struct replica_message *m = &o->m;
    if (!p || !p->started || !partition_is_led(p) || p->replica.epoch != m->epoch) {
        log_read_release(r);
        if (p && p->started) report_sent(p, m->session, m->prev);
        return;
    }
    if (r->err != OK) {
        say_unreadable(p, m, r->err);
        report_sent(p, m->session, m->prev);
        return;
    }
    if (r->bytes == 0) {
        send_gap(p, m);
        return;
    }
    ASSERT(r->next_offset > m->prev.offset && r->next_offset <= m->end_offset);
    replica_message_shorten(m, r->next_offset);
    uint32_t count = r->slice_count;
    r->slice_count = 0; /* they are handed on */
    send_slices(p, m, r->slices, count);
}

static void read_done(struct log_read *r) {
    struct outgoing *o = r->owner;
    list_remove(&o->link);
    records_read(o);
    free(o);
}

/* The first marker behind records ends what one message may hold. */
static int64_t end_of_epoch(const struct replica_message *m) {
    for (uint32_t i = 0; i < m->marker_count; i++)
        if (m->markers[i].start > m->prev.offset) return m->markers[i].start;
    return m->end_offset;
}

static void send_records(struct partition *p, uint32_t peer, const struct replica_message *m) {
    struct outgoing *o = malloc(sizeof *o);
    if (!o) {
        report_sent(p, m->session, m->prev);
        return;
    }
    o->partition = p;
    o->m = *m;
    list_init(&o->link);
    o->read = (struct log_read){
        .offset = m->prev.offset, .max_offset = m->end_offset, .min_one = true, .done = read_done, .owner = o,
        .max_bytes = p->replica.peers[peer].probing ? PROBE_BYTES : PEER_RECORDS_MAX,
    };
    if (log_read(p->log, &o->read)) {
        records_read(o);
        free(o);
    } else {
        list_push_back(&p->reads, &o->link);
    }
}

static bool is_read(const struct partition *p, uint64_t session) {
    LIST_FOREACH(node, &p->reads)
        if (LIST_ENTRY(node, struct outgoing, link)->m.session == session) return true;
    return false;
}

static void send_append(struct partition *p, uint32_t peer) {
    struct replica_message m;
    uint64_t session = p->replica.peers[peer].session;
    if (is_read(p, session)) return;
    if (!replica_compose(&p->replica, peer, &m)) {
        report_sent(p, session, (struct replica_position){0, 0});
        return;
    }
    replica_message_shorten(&m, end_of_epoch(&m));
    if (m.end_offset > m.prev.offset) send_records(p, peer, &m);
    else send_slices(p, &m, NULL, 0);
}

/* What is reported as sent may bring the next one: as many as the core lets fly. */
void partition_send_appends(struct partition *p) {
    for (uint32_t i = 0; i < p->replica.peer_count && p->started && partition_is_led(p); i++)
        if (p->replica.peers[i].sending) send_append(p, i);
}

void partition_drop_reads(struct partition *p) {
    struct list *node;
    while ((node = list_pop_front(&p->reads))) LIST_ENTRY(node, struct outgoing, link)->partition = NULL;
}

/* ---- at once ---------------------------------------------------------------------------------------------- */

static void send_start(struct partition *p, const struct replica_message *m) {
    uint8_t *producers;
    size_t len;
    struct slice s = {0};
    if (log_producers_below(p->log, m->prev.offset, &producers, &len) != OK) return; /* as if lost */
    if (len > 0) s.buf = buf_new((uint32_t)len, 0);
    if (s.buf) memcpy(s.buf->data, producers, len);
    free(producers);
    if (len > 0 && !s.buf) return;
    s.len = (uint32_t)len;
    (void)p->map->send(p->map->reactor, p->plid, m, &s, len > 0);
}

void partition_send_now(struct partition *p, const struct replica_action *a) {
    if (a->message.kind == REPLICA_APPEND) {
        if (list_empty(&p->to_send)) list_push_back(&p->map->to_send, &p->to_send);
    } else if (a->message.kind == REPLICA_INSTALL_START) {
        send_start(p, &a->message);
    } else {
        (void)p->map->send(p->map->reactor, p->plid, &a->message, NULL, 0);
    }
}
