/* producer_ids.c - producer ids: each reactor gives them out of a block of its own.
 *
 *   get -> block in use -> the spare one -> wait for the controller: a change here, or a call (PEER_CALL_PRODUCER_IDS) to whoever it is
 *
 * A block is written into metadata, and committed, before the first id of it is given out, so an id is given once, whoever dies. What is
 * left of a block when a broker ends, and a block whose answer was lost, nobody gets. The next block is asked for when the one in use
 * comes to its end: without a controller for a while, InitProducerId goes on. */
#include <stdlib.h>
#include "base/assert.h"
#include "proto/cluster.pb-c.h"
#include "proto/unpack.h"
#include "server/controller_impl.h"
#include "server/peer.h"

enum { PRODUCER_ID_BLOCK = 1000, BLOCK_LOW = PRODUCER_ID_BLOCK / 10, BLOCK_MAX = 1000000 };
#define CALL_NS INT64_C(2000000000)
#define RETRY_NS INT64_C(50000000)
#define SPARE_RETRY_NS INT64_C(2000000000)   /* while nobody waits */
#define WAIT_NS INT64_C(5000000000)

/* ---- giving ------------------------------------------------------------------------------------- */

static int64_t left(const struct producer_id_block *b) { return b->end - b->next; }

static void give(struct producer_ids *ids) {
    while (!list_empty(&ids->waiting)) {
        if (left(&ids->block) == 0) {
            if (left(&ids->spare) == 0) return;
            ids->block = ids->spare;
            ids->spare = (struct producer_id_block){0};
        }
        struct producer_id_request *rq = LIST_ENTRY(list_pop_front(&ids->waiting), struct producer_id_request, link);
        rq->err = OK;
        rq->producer_id = ids->block.next++;
        rq->done(rq);
    }
}

/* Those that have waited since `since_ns` or longer. */
static void refuse(struct producer_ids *ids, enum err err, int64_t since_ns) {
    while (!list_empty(&ids->waiting)) {
        struct producer_id_request *rq = LIST_ENTRY(ids->waiting.next, struct producer_id_request, link);
        if (rq->since_ns > since_ns) return;
        list_remove(&rq->link);
        rq->err = err;
        rq->done(rq);
    }
}

/* ---- asking ------------------------------------------------------------------------------------- */

/* Nobody who uses no ids takes a block. */
static bool wants(const struct producer_ids *ids) {
    if (!list_empty(&ids->waiting)) return true;
    return ids->block.end > 0 && left(&ids->block) + left(&ids->spare) <= BLOCK_LOW;
}

static void ask(struct producer_ids *ids);

static void ask_again(struct timer *t) { ask(CONTAINER_OF(t, struct producer_ids, timer)); }

/* `passes`: there will be a controller, or it will have time. */
static void failed(struct producer_ids *ids, enum err err, bool passes) {
    struct reactor *r = ids->reactor;
    ids->asking = false;
    if (atomic_load(&r->broker->stopping)) passes = false;
    refuse(ids, err, passes ? r->now_ns - WAIT_NS : INT64_MAX);
    timer_set(&r->timers, &ids->timer, r->now_ns + (list_empty(&ids->waiting) ? SPARE_RETRY_NS : RETRY_NS));
}

static void taken(struct producer_ids *ids, int64_t first, int64_t count) {
    struct producer_id_block b = {first, first + count};
    ids->asking = false;
    if (left(&ids->block) == 0) ids->block = b;
    else ids->spare = b;
    give(ids);
    ask(ids);
}

/* Reactor 0 of the controller. */
static int64_t take_block(struct controller_edit *e) {
    int64_t first = controller_edit_image(e)->next_producer_id;
    controller_set_next_producer_id(e, first + PRODUCER_ID_BLOCK);
    return first;
}

static void make_here(struct controller_change *ch, struct controller_edit *e) {
    struct producer_ids *ids = ch->owner;
    ids->granted = take_block(e);
}

static void made_here(struct controller_change *ch) {
    struct producer_ids *ids = ch->owner;
    if (ch->err) failed(ids, ch->err, ch->err == ERR_NOT_CONTROLLER || ch->err == ERR_AGAIN);
    else taken(ids, ids->granted, PRODUCER_ID_BLOCK);
}

static void called(struct peer_call *c) {
    struct producer_ids *ids = c->owner;
    struct arena a;
    arena_init(&a, 0);
    const Varve__Cluster__ProducerIdBlock *m =
        c->err || c->answer.len == 0 ? NULL : unpack(&a, &varve__cluster__producer_id_block__descriptor, c->answer, UNPACK_BYTES);
    bool sound = m && m->first >= 0 && m->count > 0 && m->count <= BLOCK_MAX && m->first <= INT64_MAX - m->count;
    int64_t first = sound ? m->first : 0, count = sound ? m->count : 0;
    arena_free(&a);
    if (sound) taken(ids, first, count);
    else failed(ids, ERR_NOT_CONTROLLER, true);
}

static void ask(struct producer_ids *ids) {
    struct broker *b = ids->reactor->broker;
    if (ids->asking || timer_armed(&ids->timer) || !wants(ids)) return;
    int32_t leader = controller_leader_node(b);
    ids->asking = true;
    if (controller_is_active(b)) {
        ids->change = (struct controller_change){.caller = ids->reactor, .make = make_here, .done = made_here, .owner = ids};
        controller_submit(ids->controller, &ids->change);
    } else if (leader >= 0 && leader != b->config.node_id) {
        ids->call = (struct peer_call){.caller = ids->reactor, .node = leader, .kind = PEER_CALL_PRODUCER_IDS, .request = BYTES_NULL,
                                       .timeout_ns = CALL_NS, .done = called, .owner = ids};
        peer_call(&ids->call);
    } else {
        failed(ids, ERR_NOT_CONTROLLER, true);
    }
}

/* ---- the controller's side ------------------------------------------------------------------------- */

struct granting { struct controller_change change; struct peer_answer *answer; int64_t first; };

static void make_there(struct controller_change *ch, struct controller_edit *e) {
    struct granting *g = ch->owner;
    g->first = take_block(e);
}

static void made_there(struct controller_change *ch) {
    struct granting *g = ch->owner;
    Varve__Cluster__ProducerIdBlock m = VARVE__CLUSTER__PRODUCER_ID_BLOCK__INIT;
    uint8_t packed[32];
    m.first = g->first;
    m.count = PRODUCER_ID_BLOCK;
    ASSERT(varve__cluster__producer_id_block__get_packed_size(&m) <= sizeof packed);
    struct bytes bytes = {packed, (int32_t)varve__cluster__producer_id_block__pack(&m, packed)};
    peer_answer_send(g->answer, ch->err ? BYTES_NULL : bytes); /* nothing: asked again, of whoever is the controller then */
    free(g);
}

static void serve(struct broker *b, struct peer_answer *a, struct bytes request) {
    (void)request;
    struct granting *g = malloc(sizeof *g);
    if (!g) {
        peer_answer_send(a, BYTES_NULL);
        return;
    }
    *g = (struct granting){.answer = a};
    g->change = (struct controller_change){.caller = &b->reactors[0], .make = make_there, .done = made_there, .owner = g};
    controller_submit(b->controller, &g->change);
}

void producer_ids_open(struct broker *b) { peer_serve(b, PEER_CALL_PRODUCER_IDS, serve); }

/* ---- life ------------------------------------------------------------------------------------------ */

void producer_ids_init(struct controller *c, struct producer_ids *ids, struct reactor *r) {
    *ids = (struct producer_ids){.controller = c, .reactor = r};
    list_init(&ids->waiting);
    timer_init(&ids->timer, ask_again);
}

/* The callback would run inside the call when an id is at hand, so it goes through the mailbox. */
static void get_arrive(struct mail *m) {
    struct producer_id_request *rq = CONTAINER_OF(m, struct producer_id_request, mail);
    struct producer_ids *ids = &rq->caller->broker->controller->producer_ids[rq->caller->index];
    rq->since_ns = rq->caller->now_ns;
    list_push_back(&ids->waiting, &rq->link);
    give(ids);
    int64_t soon_ns = rq->since_ns + RETRY_NS; /* a spare block could wait for longer */
    if (!list_empty(&ids->waiting) && timer_armed(&ids->timer) && ids->timer.deadline_ns > soon_ns) timer_set(&rq->caller->timers, &ids->timer, soon_ns);
    ask(ids);
}

void producer_id_get(struct controller *c, struct producer_id_request *rq) {
    (void)c;
    list_init(&rq->link);
    rq->mail.deliver = get_arrive;
    mailbox_post(&rq->caller->mailbox, &rq->mail);
}
