/* forward.c - to the controller and back; see forward.h. */
#include "server/forward.h"
#include <stdio.h>
#include <stdlib.h>
#include "base/assert.h"
#include "base/trace.h"
#include "proto/forward.pb-c.h"
#include "proto/kafka_messages.h"
#include "proto/unpack.h"
#include "server/api.h"
#include "server/conn_impl.h"
#include "server/controller.h"
#include "server/quotas.h"

#define RETRY_NS 20000000
#define LOOK_NS 2000000       /* how often the image is looked at */

typedef Varve__Forward__ClientRequest wire_request;
typedef Varve__Forward__ClientAnswer wire_answer;

struct forward {
    struct peer_call call;
    struct reactor *reactor;
    struct request *rq;                  /* NULL: a copy that nobody waits for */
    bool copy;
    void (*done)(struct request *rq, bool ok);
    struct timer timer;
    uint8_t *bytes;                      /* owned: what is sent */
    size_t len;
    int64_t begun_ns, give_up_ns;        /* give up: when no controller was found until then */
    struct arena arena;                  /* of the answer */
    wire_answer *answer;                 /* waits for the image */
    int64_t image_ns;                    /* when that is not waited for any longer */
};

static struct bytes frame_of(const struct request *rq) {
    return (struct bytes){rq->frame->data, (int32_t)(rq->body.end - rq->frame->data)};
}

static void forward_free(struct forward *f) {
    if (f->copy && !f->done) f->reactor->forward_copies--;
    arena_free(&f->arena);
    free(f->bytes);
    free(f);
}

/* NULL: memory, or too large. */
static struct forward *forward_new(struct request *rq) {
    wire_request m = VARVE__FORWARD__CLIENT_REQUEST__INIT;
    struct bytes frame = frame_of(rq);
    char listener[64];
    snprintf(listener, sizeof listener, "%s", request_listener(rq));
    m.frame = (ProtobufCBinaryData){(size_t)frame.len, (uint8_t *)frame.p};
    m.listener = listener;
    m.peer = (char *)request_peer(rq);
    size_t len = varve__forward__client_request__get_packed_size(&m);
    if (len > PEER_CALL_BYTES_MAX) return NULL;
    struct forward *f = calloc(1, sizeof *f);
    if (f) f->bytes = malloc(len);
    if (!f || !f->bytes) {
        free(f);
        return NULL;
    }
    f->len = varve__forward__client_request__pack(&m, f->bytes);
    f->reactor = rq->reactor;
    f->rq = rq;
    f->begun_ns = io_mono_ns(rq->reactor->io);
    f->give_up_ns = f->begun_ns + FORWARD_WAIT_NS;
    return f;
}

/* ---- the end ------------------------------------------------------------------------------------------------- */

/* Its own handler: the controller is here by now, or says that it is not. */
static void handle_here(struct request *rq) {
    const struct conn *c = rq->conn;
    api_find(rq->header.api_key)->handle(rq);
    if (c) request_charge(rq); /* else it may be gone by now */
}

static void end(struct forward *f, bool ok) {
    struct request *rq = f->rq;
    void (*done)(struct request *, bool) = f->done;
    bool here = !f->copy && !ok;
    if (!f->copy && ok) {
        struct wire_writer *w = request_reply_begin(rq);
        wire_put_raw(w, f->answer->body.data, f->answer->body.len);
        if (f->answer->throttle_ms > 0) quota_pause(rq, f->answer->throttle_ms);
        request_reply(rq);
    }
    forward_free(f);
    if (done) done(rq, ok);
    else if (here) handle_here(rq);
}

/* Done there; what it did shows here soon. */
static void look(struct timer *t) {
    struct forward *f = CONTAINER_OF(t, struct forward, timer);
    struct reactor *r = f->reactor;
    bool shows = reactor_image(r) && reactor_image(r)->metadata_end >= f->answer->metadata_end;
    if (shows || r->now_ns >= f->image_ns || atomic_load(&r->broker->stopping)) end(f, true);
    else timer_set(&r->timers, t, r->now_ns + LOOK_NS);
}

/* ---- the call -------------------------------------------------------------------------------------------------- */

static void try_send(struct timer *t);

static void retry(struct forward *f) {
    timer_init(&f->timer, try_send);
    timer_set(&f->reactor->timers, &f->timer, f->reactor->now_ns + RETRY_NS);
}

static void answered(struct forward *f, wire_answer *answer) {
    f->answer = answer;
    f->image_ns = f->reactor->now_ns + FORWARD_IMAGE_NS;
    timer_init(&f->timer, look);
    look(&f->timer);
}

static void call_done(struct peer_call *c) {
    struct forward *f = c->owner;
    wire_answer *answer = c->err ? NULL : unpack(&f->arena, &varve__forward__client_answer__descriptor, c->answer, UNPACK_BYTES);
    bool again = c->err == ERR_CLOSED || c->err == ERR_FULL || (answer && (answer->status == VARVE__FORWARD__CLIENT_ANSWER__STATUS__NOT_CONTROLLER ||
                                                                          answer->status == VARVE__FORWARD__CLIENT_ANSWER__STATUS__BUSY));
    if (answer && answer->status == VARVE__FORWARD__CLIENT_ANSWER__STATUS__DONE) {
        answered(f, answer);
        return;
    }
    arena_free(&f->arena);
    if (again) {
        /* It took a while: the next one gets its time, but not without end. */
        f->give_up_ns = MIN(f->reactor->now_ns + FORWARD_WAIT_NS, f->begun_ns + FORWARD_CALL_NS);
        if (c->err == ERR_FULL || !c->err) f->give_up_ns = MIN(f->give_up_ns, f->begun_ns + FORWARD_WAIT_NS);
        retry(f);
        return;
    }
    if (c->err) trace_info("forward", "a request for the controller got no answer from broker %d: %s", c->node, err_str(c->err));
    end(f, false);
}

static void call_node(struct forward *f, int32_t node) {
    f->call = (struct peer_call){
        .caller = f->reactor, .node = node, .kind = PEER_CALL_CLIENT_REQUEST, .request = {f->bytes, (int32_t)f->len},
        .timeout_ns = FORWARD_CALL_NS, .done = call_done, .owner = f,
    };
    peer_call(&f->call);
}

static void try_send(struct timer *t) {
    struct forward *f = CONTAINER_OF(t, struct forward, timer);
    struct reactor *r = f->reactor;
    const struct broker *b = r->broker;
    int32_t node = controller_leader_node(b);
    if (node >= 0 && node != b->config.node_id && peer_is_up(r, node)) call_node(f, node);
    else if (controller_is_active(b) || r->now_ns >= f->give_up_ns || atomic_load(&b->stopping) || atomic_load(&b->failed)) end(f, false);
    else retry(f);
}

/* From the loop: the caller may not be ready for the end yet. */
static void begin(struct forward *f) {
    timer_init(&f->timer, try_send);
    timer_set(&f->reactor->timers, &f->timer, f->reactor->now_ns);
}

/* Log levels are the broker's own: those requests stay, unless they ask for more. */
static bool only_loggers(struct request *rq) {
    struct wire_reader r = rq->body;
    struct k_incremental_alter_configs_request m;
    if (rq->header.api_key != API_INCREMENTAL_ALTER_CONFIGS) return false;
    if (k_incremental_alter_configs_request_decode(&m, &r, rq->header.api_version)) return true; /* the handler says why not */
    for (int32_t i = 0; i < m.resources_n; i++)
        if (m.resources[i].resource_type != API_RESOURCE_BROKER_LOGGER) return false;
    return true;
}

bool forward_wanted(struct request *rq, const struct api *api) {
    return api->for_controller && !rq->origin && !controller_is_active(request_broker(rq)) && !only_loggers(rq);
}

void forward_request(struct request *rq) {
    struct forward *f = forward_new(rq);
    if (f) begin(f);
    else handle_here(rq);
}

void forward_copy(struct request *rq, void (*done)(struct request *rq, bool ok)) {
    struct reactor *r = rq->reactor;
    bool room = done || r->forward_copies < FORWARD_COPIES_MAX;
    struct forward *f = room ? forward_new(rq) : NULL;
    if (!f) {
        if (done) done(rq, false);
        return;
    }
    f->copy = true;
    f->done = done;
    if (!done) f->rq = NULL;
    if (!done) r->forward_copies++;
    begin(f);
}

/* ---- the controller's side ----------------------------------------------------------------------------------------- */

struct served {
    struct request_origin origin;        /* first: the request frees it */
    struct peer_answer *answer;
    struct broker *broker;
};

static void answer_send(struct broker *b, struct peer_answer *a, wire_answer *m) {
    m->controller = controller_leader_node(b);
    size_t len = varve__forward__client_answer__get_packed_size(m);
    uint8_t *bytes = malloc(len > 0 ? len : 1);
    ASSERT(bytes != NULL);
    varve__forward__client_answer__pack(m, bytes);
    peer_answer_send(a, (struct bytes){bytes, (int32_t)len});
    free(bytes);
}

static void answer_status(struct broker *b, struct peer_answer *a, Varve__Forward__ClientAnswer__Status status) {
    wire_answer m = VARVE__FORWARD__CLIENT_ANSWER__INIT;
    m.status = status;
    answer_send(b, a, &m);
}

/* The handler has replied. Answers of these APIs are in one piece: nothing of them is lent. */
static void served_done(struct request *rq) {
    struct served *s = CONTAINER_OF(rq->origin, struct served, origin);
    struct broker *b = s->broker;
    wire_answer m = VARVE__FORWARD__CLIENT_ANSWER__INIT;
    bool ok = !rq->no_reply && rq->out.ref_count == 0 && rq->out.len >= rq->body_at;
    m.status = ok ? VARVE__FORWARD__CLIENT_ANSWER__STATUS__DONE : VARVE__FORWARD__CLIENT_ANSWER__STATUS__REFUSED;
    if (ok) m.body = (ProtobufCBinaryData){rq->out.len - rq->body_at, rq->out.data + rq->body_at};
    m.throttle_ms = rq->throttle_ms;
    m.metadata_end = reactor_image(&b->reactors[0])->metadata_end;
    answer_send(b, s->answer, &m);
    b->reactors[0].forward_served--;
}

static struct served *served_new(struct broker *b, struct peer_answer *a, const wire_request *m) {
    size_t listener = strlen(m->listener), peer = strlen(m->peer), principal = strlen(m->principal);
    struct served *s = calloc(1, sizeof *s + listener + peer + principal + 3);
    if (!s) return NULL;
    char *text = (char *)(s + 1);
    s->broker = b;
    s->answer = a;
    s->origin.listener = memcpy(text, m->listener, listener + 1);
    s->origin.peer = memcpy(text + listener + 1, m->peer, peer + 1);
    s->origin.principal = memcpy(text + listener + peer + 2, m->principal, principal + 1);
    s->origin.answered = served_done;
    return s;
}

/* True: the request is on its way, or answered already. */
static bool serve_here(struct broker *b, struct peer_answer *a, const wire_request *m) {
    struct reactor *r = &b->reactors[0];
    if (r->forward_served >= FORWARD_SERVED_MAX || !conn_frame_fits(r->conns, (int64_t)m->frame.len)) return false;
    struct served *s = served_new(b, a, m);
    struct buf *frame = s ? buf_new((uint32_t)m->frame.len, 0) : NULL;
    if (!frame) {
        free(s);
        return false;
    }
    memcpy(frame->data, m->frame.data, m->frame.len);
    r->forward_served++;
    request_start_remote(r, frame, (uint32_t)m->frame.len, &s->origin);
    return true;
}

static bool may_be_forwarded(const wire_request *m) {
    if (m->frame.len < CONN_FRAME_BYTES_MIN) return false;
    const struct api *api = api_find((int16_t)(m->frame.data[0] << 8 | m->frame.data[1]));
    return api && (api->for_controller || api->key == API_METADATA || api->key == API_FIND_COORDINATOR);
}

static void serve(struct broker *b, struct peer_answer *a, struct bytes request) {
    struct arena arena;
    const wire_request *m = unpack(&arena, &varve__forward__client_request__descriptor, request, UNPACK_BYTES);
    if (!m || !may_be_forwarded(m)) answer_status(b, a, VARVE__FORWARD__CLIENT_ANSWER__STATUS__REFUSED);
    else if (!controller_is_active(b)) answer_status(b, a, VARVE__FORWARD__CLIENT_ANSWER__STATUS__NOT_CONTROLLER);
    else if (!serve_here(b, a, m)) answer_status(b, a, VARVE__FORWARD__CLIENT_ANSWER__STATUS__BUSY);
    arena_free(&arena);
}

void forward_open(struct broker *b) { peer_serve(b, PEER_CALL_CLIENT_REQUEST, serve); }
