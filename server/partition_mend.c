/* partition_mend.c - damage in a partition's log is put right with what other replicas have (docs/replication.md 10).
 *
 *   the log says that it cannot read a range (scrubber, a read, or the start of the process)
 *     -> the core hears of it: a damaged replica does not hurry to lead
 *     -> segment by segment, log_mend_start() writes the file anew (log/mend.h)
 *          -> for each range it asks for batches: PEER_CALL_RANGE to one member of the group after the other
 *     -> nothing is damaged any more: the core hears of that, too
 *
 * What comes is checked by the log, against its own epochs: two logs with the same record epoch at an offset have the same record
 * there. Nobody to ask, or nobody who has it: it stays damaged, is not served, and is tried again. One range at a time in each
 * reactor; a piece of at most PIECE_BYTES, or one batch, is in memory. */
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "base/trace.h"
#include "log/mend.h"
#include "proto/range.pb-c.h"
#include "proto/unpack.h"
#include "server/api_errors.h"
#include "server/partition_impl.h"
#include "server/peer.h"

enum { PIECE_BYTES = 1 << 20, REQUEST_BYTES_MAX = 64 };
#define SECOND_NS INT64_C(1000000000)
#define SOON_NS (SECOND_NS / 100)
#define CALL_NS (5 * SECOND_NS)
#define AGAIN_NS SECOND_NS          /* the log is busy with something else */
#define HOPELESS_NS (10 * SECOND_NS) /* nobody has it, or it went wrong */

struct partition_mender {
    struct partition *p;
    struct timer timer;
    struct log_mend mend;
    struct peer_call call;
    bool calling;
    int64_t offset, end;             /* asked for */
    uint32_t asked;                  /* members in a row that had nothing right */
    uint32_t turn;                   /* whose turn it is */
    uint8_t request[REQUEST_BYTES_MAX];
};

static void later(struct partition_mender *x, int64_t ns) {
    timer_set(&x->p->map->reactor->timers, &x->timer, x->p->map->reactor->now_ns + ns);
}

/* ---- asking ------------------------------------------------------------------------------------ */

static void ask(struct partition_mender *x);

static void give_up_for_now(struct partition_mender *x) {
    trace_warn("replica", "%s-%d: no other replica has offset %lld readable; it stays unreadable here and is tried again", x->p->log->topic,
               x->p->log->partition, (long long)x->offset);
    log_mend_stop(&x->mend);
    later(x, HOPELESS_NS);
}

static void answered(struct peer_call *c) {
    struct partition_mender *x = c->owner;
    x->calling = false;
    struct arena a;
    arena_init(&a, 0);
    const Varve__Range__RangeAnswer *m = c->err ? NULL : unpack(&a, &varve__range__range_answer__descriptor, c->answer, UNPACK_BYTES);
    if (m && m->error == 0 && log_mend_running(&x->mend)) log_mend_feed(&x->mend, m->batches.data, m->batches.len, m->next_offset);
    else if (log_mend_running(&x->mend)) ask(x);
    arena_free(&a);
}

/* The next member that is up. -1: all had their turn since there was something right. */
static int32_t next_member(struct partition_mender *x) {
    const struct replica_config *c = &x->p->replica.config;
    for (; x->asked < c->count; x->asked++) {
        int32_t node = c->members[x->turn++ % c->count].node;
        if (node == x->p->replica.self.node || !peer_is_up(x->p->map->reactor, node)) continue;
        x->asked++;
        return node;
    }
    return -1;
}

static void ask(struct partition_mender *x) {
    int32_t node = next_member(x);
    if (node < 0) {
        give_up_for_now(x);
        return;
    }
    Varve__Range__RangeRequest m = VARVE__RANGE__RANGE_REQUEST__INIT;
    m.group = x->p->plid;
    m.offset = x->offset;
    m.end = x->end;
    m.max_bytes = PIECE_BYTES;
    size_t len = varve__range__range_request__get_packed_size(&m);
    ASSERT(len <= sizeof x->request);
    varve__range__range_request__pack(&m, x->request);
    x->call = (struct peer_call){.caller = x->p->map->reactor, .node = node, .kind = PEER_CALL_RANGE, .request = {x->request, (int32_t)len},
                                 .timeout_ns = CALL_NS, .done = answered, .owner = x};
    x->calling = true;
    peer_call(&x->call);
}

static void want(struct log_mend *mend, int64_t offset, int64_t end, bool refused) {
    struct partition_mender *x = mend->owner;
    if (!refused) {
        x->asked = 0;
        if (x->turn > 0) x->turn--; /* whoever had something right goes on */
    }
    x->offset = offset;
    x->end = end;
    ask(x);
}

static void mended(struct log_mend *mend) {
    struct partition_mender *x = mend->owner;
    if (x->calling) peer_call_cancel(&x->call);
    x->calling = false;
    later(x, mend->err == OK || mend->err == ERR_CORRUPT ? SOON_NS : HOPELESS_NS); /* perhaps there is more */
}

/* ---- what is to be done --------------------------------------------------------------------------- */

static void tell_core(struct partition *p) {
    if (!p->started || p->replica.damaged == p->log->faulty) return;
    struct replica_event event = {.kind = REPLICA_DAMAGED, .now_ns = p->map->reactor->awake_ns, .u.damaged = p->log->faulty};
    (void)partition_step(p, &event, NULL);
}

static void begin(struct partition_mender *x) {
    struct partition *p = x->p;
    struct log_faulty first;
    if (p->gone || !p->log || p->map->stop_error || log_mend_running(&x->mend)) return;
    tell_core(p);
    if (log_faulty_ranges(p->log, 1, &first) == 0) return;
    if (p->replica.config.count < 2) { /* perhaps there will be others */
        later(x, HOPELESS_NS);
        return;
    }
    x->asked = 0;
    x->mend = (struct log_mend){.segment = first.segment, .want = want, .done = mended, .owner = x};
    enum err err = log_mend_start(p->log, &x->mend, io_wall_ms(p->map->reactor->io));
    if (err == OK) return;
    if (err != ERR_AGAIN) trace_warn("replica", "%s-%d: damage cannot be mended now: %s", p->log->topic, p->log->partition, err_str(err));
    later(x, err == ERR_AGAIN ? AGAIN_NS : HOPELESS_NS);
}

static void fire(struct timer *t) { begin(CONTAINER_OF(t, struct partition_mender, timer)); }

void partition_on_faulty(struct log *l, void *owner) {
    struct partition *p = owner;
    (void)l;
    if (p->gone) return;
    if (!p->mender) {
        p->mender = calloc(1, sizeof *p->mender);
        if (!p->mender) return; /* the next damage, or the next start, finds memory */
        p->mender->p = p;
        timer_init(&p->mender->timer, fire);
    }
    if (!timer_armed(&p->mender->timer) && !log_mend_running(&p->mender->mend)) later(p->mender, SOON_NS);
}

void partition_mend_stop(struct partition *p) {
    struct partition_mender *x = p->mender;
    if (!x) return;
    p->mender = NULL;
    timer_cancel(&p->map->reactor->timers, &x->timer);
    if (x->calling) peer_call_cancel(&x->call);
    log_mend_stop(&x->mend);
    free(x);
}

/* ---- answering ---------------------------------------------------------------------------------------- */

struct range_answer {
    struct partition_op op;
    struct peer_answer *to;
    int64_t offset, end;
    uint32_t max_bytes;
    struct log_read read;
    uint8_t *batches;
    size_t len;
    int64_t next_offset;
};

static void range_read(struct log_read *r) {
    struct range_answer *x = r->owner;
    bool ok = r->err == OK;
    if (ok) {
        x->batches = malloc(r->bytes + 1u);
        ok = x->batches != NULL;
    }
    for (uint32_t i = 0; i < r->slice_count && ok; i++) {
        memcpy(x->batches + x->len, slice_data(&r->slices[i]), r->slices[i].len);
        x->len += r->slices[i].len;
    }
    x->next_offset = r->next_offset;
    log_read_release(r);
    partition_op_finish(&x->op, ok ? KERR_NONE : KERR_KAFKA_STORAGE_ERROR);
}

static void range_start(struct partition_op *op) {
    struct range_answer *x = CONTAINER_OF(op, struct range_answer, op);
    struct partition *p = partition_find(op->owner, op->plid);
    bool there = p && p->started && !p->gone && x->offset >= p->log->start && x->offset < x->end && x->end <= p->log->durable_end;
    if (!there) {
        partition_op_finish(op, KERR_OFFSET_OUT_OF_RANGE);
        return;
    }
    x->read = (struct log_read){.offset = x->offset, .max_offset = x->end, .max_bytes = MIN(x->max_bytes, (uint32_t)PIECE_BYTES), .min_one = true,
                                .done = range_read, .owner = x};
    if (log_read(p->log, &x->read)) range_read(&x->read);
}

static void range_done(struct partition_op *op) {
    struct range_answer *x = CONTAINER_OF(op, struct range_answer, op);
    Varve__Range__RangeAnswer m = VARVE__RANGE__RANGE_ANSWER__INIT;
    m.error = op->error != KERR_NONE;
    m.next_offset = x->next_offset;
    m.batches = (ProtobufCBinaryData){x->len, x->batches};
    size_t len = varve__range__range_answer__get_packed_size(&m);
    uint8_t *bytes = malloc(len + 1);
    if (bytes) varve__range__range_answer__pack(&m, bytes);
    peer_answer_send(x->to, (struct bytes){bytes, bytes ? (int32_t)len : 0}); /* empty: offset 0 is no progress, the caller asks another */
    free(bytes);
    free(x->batches);
    free(x);
}

static void serve_range(struct broker *b, struct peer_answer *a, struct bytes request) {
    struct arena arena;
    const Varve__Range__RangeRequest *m = unpack(&arena, &varve__range__range_request__descriptor, request, UNPACK_BYTES);
    struct range_answer *x = m ? calloc(1, sizeof *x) : NULL;
    if (!x) {
        static const uint8_t refused[] = {8, 1}; /* RangeAnswer with error 1 */
        peer_answer_send(a, (struct bytes){refused, sizeof refused});
    } else {
        x->op = (struct partition_op){.caller = &b->reactors[0], .owner = &b->reactors[log_store_shard_of(b->store, m->group)], .plid = m->group,
                                      .done = range_done};
        x->to = a;
        x->offset = m->offset;
        x->end = m->end;
        x->max_bytes = m->max_bytes;
        partition_op_send(&x->op, range_start);
    }
    arena_free(&arena);
}

void partition_mend_serve(struct broker *b) { peer_serve(b, PEER_CALL_RANGE, serve_range); }
