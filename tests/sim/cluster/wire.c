/* wire.c - client programs' connections: one to each broker, requests in order, answers by correlation id. */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "proto/kafka_errors.h"
#include "tests/sim/cluster/cluster.h"

enum { IN_BYTES = 1 << 20, ARENA_BYTES = 4 << 20 };

struct frame { struct list link; struct wire_writer w; struct iovec iov; };
struct conn_to {
    struct client *client;
    int32_t node;
    int fd;
    bool connected, broken, closing;
    struct io_op connect, send, receive;
    struct list frames;                  /* the first is being sent once `connected` */
    struct list calls;                   /* call.link, in the order of their requests */
    uint8_t *in;
    uint32_t in_len;
    int32_t correlation;
};

static struct wire_writer draft;         /* of call_begin(); one thread, one request at a time */
static int16_t draft_key, draft_version;

const char *topic_name(uint32_t topic) {
    static const char *const names[TOPICS] = {"orders", "events"};
    return names[topic];
}
uint32_t topic_partitions(const struct cluster *c, uint32_t topic) { return topic == 0 ? 1 : c->node_count > 1 ? PARTITIONS_MAX : 2; }

void client_init(struct client *cl, struct cluster *c, const char *name) {
    static unsigned next;
    memset(cl, 0, sizeof *cl);
    if (list_empty(&c->clients)) next = 0;
    cl->c = c;
    cl->name = name;
    cl->at = CLIENT_NODE + next % CLIENT_NODES;
    cl->io = c->client_ios[next++ % CLIENT_NODES];
    cl->controller = 0;
    for (uint32_t t = 0; t < TOPICS; t++)
        for (uint32_t p = 0; p < PARTITIONS_MAX; p++) cl->places[t][p] = (struct topic_place){0, -1};
    list_push_back(&c->clients, &cl->link);
}

/* ---- the end of a connection ------------------------------------------------------------------- */

static void conn_free_if_idle(struct conn_to *x) {
    if (x->connect.in_flight || x->send.in_flight || x->receive.in_flight) return;
    ASSERT(list_empty(&x->calls));
    struct list *it;
    while ((it = list_pop_front(&x->frames))) {
        struct frame *f = LIST_ENTRY(it, struct frame, link);
        wire_writer_free(&f->w);
        free(f);
    }
    (void)io_close(x->client->io, x->fd);
    free(x->in);
    free(x);
}

static void call_end(struct call *call, struct wire_reader *r) {
    timer_cancel(&call->conn->client->c->timers, &call->timer);
    call->done(call, r);
    free(call);
}

/* Out of the client's hands at once; freed when its operations have ended. Its calls are lost. */
static void conn_end(struct conn_to *x) {
    if (x->closing) return;
    x->closing = true;
    x->client->conns[x->node] = NULL;
    (void)io_shutdown(x->client->io, x->fd);
    if (x->connect.in_flight) io_cancel(x->client->io, &x->connect);
    if (x->send.in_flight) io_cancel(x->client->io, &x->send);
    if (x->receive.in_flight) io_cancel(x->client->io, &x->receive);
    struct list *it;
    while ((it = list_pop_front(&x->calls))) call_end(LIST_ENTRY(it, struct call, link), NULL);
    conn_free_if_idle(x);
}

void conn_break(struct client *cl, int32_t node) {
    if (cl->conns[node]) conn_end(cl->conns[node]);
}

/* ---- in ----------------------------------------------------------------------------------------- */

static void receive(struct conn_to *x);

static void answered(struct conn_to *x, const uint8_t *p, size_t len) {
    struct arena arena;
    arena_init(&arena, ARENA_BYTES);
    struct wire_reader r = wire_reader_init(p, len, &arena);
    struct call *call = list_empty(&x->calls) ? NULL : LIST_ENTRY(list_pop_front(&x->calls), struct call, link);
    int32_t correlation = -1;
    bool ok = call && kafka_response_header_read(&r, call->key, call->version, &correlation) == OK && correlation == call->correlation;
    if (!ok) cluster_violated(x->client->c, "13 node %d answers what was not asked", x->node);
    if (call) call_end(call, ok ? &r : NULL);
    arena_free(&arena);
}

static void received(struct io_op *op) {
    struct conn_to *x = CONTAINER_OF(op, struct conn_to, receive);
    if (x->closing || op->result <= 0) {
        if (!x->closing) conn_end(x);
        else conn_free_if_idle(x);
        return;
    }
    x->in_len += (uint32_t)op->result;
    uint32_t at = 0;
    while (!x->closing && x->in_len - at >= 4 && x->in_len - at - 4 >= load_be32(x->in + at)) {
        uint32_t len = load_be32(x->in + at);
        at += 4 + len;
        answered(x, x->in + at - len, len);
    }
    if (x->closing) {
        conn_free_if_idle(x);
        return;
    }
    memmove(x->in, x->in + at, x->in_len - at);
    x->in_len -= at;
    ASSERT(x->in_len < IN_BYTES);
    receive(x);
}

static void receive(struct conn_to *x) {
    x->receive = (struct io_op){.kind = IO_RECV, .fd = x->fd, .buf = x->in + x->in_len, .len = IN_BYTES - x->in_len, .done = received};
    list_init(&x->receive.link);
    io_submit(x->client->io, &x->receive);
}

/* ---- out ---------------------------------------------------------------------------------------- */

static void send_next(struct conn_to *x);

static void sent(struct io_op *op) {
    struct conn_to *x = CONTAINER_OF(op, struct conn_to, send);
    struct frame *f = LIST_ENTRY(list_pop_front(&x->frames), struct frame, link);
    wire_writer_free(&f->w);
    free(f);
    if (x->closing) conn_free_if_idle(x);
    else if (op->result <= 0) conn_end(x);
    else send_next(x);
}

static void send_next(struct conn_to *x) {
    if (!x->connected || x->send.in_flight || list_empty(&x->frames)) return;
    struct frame *f = LIST_ENTRY(x->frames.next, struct frame, link);
    f->iov = (struct iovec){f->w.data, f->w.len};
    x->send = (struct io_op){.kind = IO_SEND, .fd = x->fd, .iov = &f->iov, .iov_count = 1, .done = sent};
    list_init(&x->send.link);
    io_submit(x->client->io, &x->send);
}

static void connected(struct io_op *op) {
    struct conn_to *x = CONTAINER_OF(op, struct conn_to, connect);
    if (x->closing) {
        conn_free_if_idle(x);
        return;
    }
    if (op->result < 0) {
        conn_end(x);
        return;
    }
    x->connected = true;
    receive(x);
    send_next(x);
}

static struct conn_to *conn_open(struct client *cl, int32_t node) {
    struct conn_to *x = calloc(1, sizeof *x);
    ASSERT(x != NULL);
    x->client = cl;
    x->node = node;
    x->in = malloc(IN_BYTES);
    ASSERT(x->in != NULL);
    list_init(&x->frames);
    list_init(&x->calls);
    x->fd = io_socket(cl->io, AF_INET);
    x->connect = (struct io_op){.kind = IO_CONNECT, .fd = x->fd, .done = connected};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)(KAFKA_PORT + node)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    memcpy(&x->connect.addr, &to, sizeof to);
    list_init(&x->connect.link);
    cl->conns[node] = x;
    io_submit(cl->io, &x->connect);
    return x;
}

/* ---- calls -------------------------------------------------------------------------------------- */

struct wire_writer *call_begin(struct client *cl, int16_t key, int16_t version) {
    wire_writer_init(&draft, 16 << 20);
    draft_key = key;
    draft_version = version;
    wire_put_i32(&draft, 0);
    struct kafka_request_header h = {key, version, 0, str_from(cl->name)};
    kafka_request_header_write(&draft, &h);
    return &draft;
}

static void timed_out(struct timer *t) {
    struct call *call = CONTAINER_OF(t, struct call, timer);
    conn_end(call->conn); /* as clients do: what comes later would be an answer to nothing */
}

void call_send(struct client *cl, int32_t node, call_done_fn *done, void *owner, uint64_t tag, int64_t timeout_ns) {
    struct cluster *c = cl->c;
    if (node <= 0) node = (int32_t)(1 + prng_below(&c->work_prng, c->node_count));
    struct conn_to *x = cl->conns[node] ? cl->conns[node] : conn_open(cl, node);
    struct call *call = calloc(1, sizeof *call);
    struct frame *f = calloc(1, sizeof *f);
    ASSERT(call != NULL && f != NULL && draft.err == OK && draft.ref_bytes == 0);
    *call = (struct call){.key = draft_key, .version = draft_version, .correlation = ++x->correlation, .done = done, .owner = owner, .tag = tag, .node = node, .conn = x};
    wire_patch_i32(&draft, 0, (int32_t)draft.len - 4);
    wire_patch_i32(&draft, 8, call->correlation);
    f->w = draft;
    memset(&draft, 0, sizeof draft);
    list_push_back(&x->frames, &f->link);
    list_push_back(&x->calls, &call->link);
    timer_init(&call->timer, timed_out);
    timer_set(&c->timers, &call->timer, sim_now_ns(c->world) + timeout_ns);
    send_next(x);
}

uint32_t conn_calls(const struct client *cl, int32_t node) {
    uint32_t n = 0;
    if (cl->conns[node]) LIST_FOREACH(it, &cl->conns[node]->calls) n++;
    return n;
}

/* ---- who leads what ------------------------------------------------------------------------------ */

static void place_learned(struct client *cl, const struct k_metadata_response_topics *t) {
    for (uint32_t i = 0; i < TOPICS; i++) {
        if (!str_eq(t->name, str_from(topic_name(i)))) continue;
        if (t->error_code == 0) cl->topic_ids[i] = t->topic_id;
        for (int32_t k = 0; k < t->partitions_n; k++) {
            const struct k_metadata_response_topics_partitions *p = &t->partitions[k];
            if (p->partition_index < 0 || p->partition_index >= PARTITIONS_MAX) continue;
            struct topic_place *place = &cl->places[i][p->partition_index];
            if (p->leader_epoch < place->leader_epoch) continue; /* older than what is known */
            *place = (struct topic_place){p->error_code == 0 && p->leader_id > 0 && p->leader_id <= BROKERS_MAX ? p->leader_id : 0, p->leader_epoch};
        }
    }
}

static void metadata_done(struct call *call, struct wire_reader *r) {
    struct client *cl = call->owner;
    struct k_metadata_response a;
    cl->asking = false;
    if (!r || k_metadata_response_decode(&a, r, call->version) != OK) return;
    cl->controller = a.controller_id > 0 && a.controller_id <= BROKERS_MAX ? a.controller_id : 0;
    for (int32_t i = 0; i < a.topics_n; i++) place_learned(cl, &a.topics[i]);
}

void client_find_coordinator(struct client *cl, struct str group, call_done_fn *done, void *owner) {
    struct k_find_coordinator_request q;
    k_find_coordinator_request_init(&q);
    q.coordinator_keys = &group;
    q.coordinator_keys_n = 1;
    k_find_coordinator_request_encode(&q, call_begin(cl, API_FIND_COORDINATOR, 4), 4);
    call_send(cl, 0, done, owner, 0, 2 * SECOND);
}

int32_t client_coordinator(const struct call *call, struct wire_reader *r) {
    struct k_find_coordinator_response a;
    if (!r || k_find_coordinator_response_decode(&a, r, call->version) != OK || a.coordinators_n != 1) return -1;
    return a.coordinators[0].error_code == KERR_NONE && a.coordinators[0].node_id <= BROKERS_MAX ? a.coordinators[0].node_id : -1;
}

void client_refresh(struct client *cl) {
    if (cl->asking) return;
    cl->asking = true;
    struct k_metadata_request q;
    struct k_metadata_request_topics t[TOPICS];
    k_metadata_request_init(&q);
    for (uint32_t i = 0; i < TOPICS; i++) {
        k_metadata_request_topics_init(&t[i]);
        t[i].name = str_from(topic_name(i));
    }
    q.topics = t;
    q.topics_n = TOPICS;
    q.allow_auto_topic_creation = false;
    k_metadata_request_encode(&q, call_begin(cl, API_METADATA, 12), 12);
    call_send(cl, 0, metadata_done, cl, 0, SECOND);
}
