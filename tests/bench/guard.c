/* guard: a broker with one reactor in the simulated world under a fixed load, the same in every run.
 *
 *   guard WORKLOAD ROUNDS
 *
 * Prints a line of counts: requests answered, and for all rounds together how often the broker asked its
 * io for something (`submits`: by io_submit; `calls`: the synchronous ones; `turns`; `wakes`) and how many bytes it
 * wrote to files. tests/bench/guard.py compares with guards.tsv, and runs it under callgrind, which counts
 * the instructions of our own code to the digit. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "proto/kafka_api.h"
#include "proto/kafka_messages.h"
#include "proto/record_batch.h"
#include "server/acceptor.h"
#include "server/reactor.h"
#include "tests/sim/io_sim.h"

enum { CONNECTIONS_MAX = 64, BROKER = 0, CLIENTS = 1, PORT = 9092, ANSWER_BYTES = 4 << 20 };

static const struct workload {
    const char *name;
    uint32_t connections, batch_bytes, fetches; /* `fetches`: read what was produced, so much of it in one answer */
} workloads[] = {{"produce-1k", 64, 1024, 0}, {"produce-16k", 16, 16384, 0}, {"produce-512k", 4, 524288, 0}, {"fetch-1m", 4, 16384, 1 << 20}};

/* ---- counting -------------------------------------------------------------------------------- */

static struct { uint64_t submits, calls, turns, wakes, written; } counts;
static const struct io_vtable *real;

static void count_submit(struct io *io, struct io_op *op) {
    counts.submits++;
    if (op->kind == IO_WRITE)
        for (uint32_t i = 0; i < MAX(op->iov_count, 1u); i++) counts.written += op->iov ? op->iov[i].iov_len : op->len;
    real->submit(io, op);
}
static int count_turn(struct io *io, int64_t deadline_ns) {
    counts.turns++;
    return real->turn(io, deadline_ns);
}
static void count_wake(struct io *io) {
    counts.wakes++;
    real->wake(io);
}
static int count_open(struct io *io, const char *path, int flags) {
    counts.calls++;
    return real->open(io, path, flags);
}
static int64_t count_pread(struct io *io, int fd, void *buf, size_t len, uint64_t offset) {
    counts.calls++;
    return real->pread(io, fd, buf, len, offset);
}
static int64_t count_pwrite(struct io *io, int fd, const void *buf, size_t len, uint64_t offset) {
    counts.calls++;
    counts.written += len;
    return real->pwrite(io, fd, buf, len, offset);
}
static int count_sync(struct io *io, int fd) {
    counts.calls++;
    return real->sync(io, fd);
}
static int count_space(struct io *io, const char *path, struct io_space *out) {
    counts.calls++;
    return real->space(io, path, out);
}

static struct io *counted_io(struct sim_world *w) {
    static struct io_vtable table;
    struct io *io = sim_io_create(w, BROKER);
    real = io->v;
    table = *real;
    table.submit = count_submit;
    table.turn = count_turn;
    table.wake = count_wake;
    table.open = count_open;
    table.pread = count_pread;
    table.pwrite = count_pwrite;
    table.sync = count_sync;
    table.space = count_space;
    io->v = &table;
    return io;
}

/* ---- broker ---------------------------------------------------------------------------------- */

static bool is_ready;
static void ready(void *ctx, enum err err, const char *why) {
    (void)ctx;
    if (err != OK) fprintf(stderr, "guard: %s\n", why);
    ASSERT(err == OK);
    is_ready = true;
}

static struct broker broker;
static struct io *broker_io, *client_io;

static void turn(void) {
    reactor_turn(&broker.reactors[0], 0);
    int rc = io_turn(client_io, 0);
    ASSERT(rc == 0 || rc == -EDEADLK);
}

static void start(struct sim_world *w) {
    struct config config;
    struct log_recovery recovery;
    char why[512];
    static const char text[] = "log.dirs=/data\nlisteners=127.0.0.1:9092\nreactors=1\njournal.bytes=67108864\ntail.bytes=33554432\n"
                               "disk.reserve.bytes=0\nlog.level=error\nnum.partitions=1\n";
    struct config_builder *b = config_builder_new();
    enum err err = config_add_properties(b, "guard", text, strlen(text), why, sizeof why);
    if (err == OK) err = config_finish(b, &config, why, sizeof why);
    if (err != OK) fprintf(stderr, "guard: %s\n", why);
    ASSERT(err == OK);
    config_builder_free(b);
    broker_io = counted_io(w);
    client_io = sim_io_create(w, CLIENTS);
    err = broker_init(&broker, &config);
    if (err == OK) err = reactor_init(&broker.reactors[0], broker_io);
    if (err == OK) err = broker_open(&broker, &recovery, why, sizeof why);
    if (err != OK) fprintf(stderr, "guard: %s\n", why);
    ASSERT(err == OK);
    broker_start(&broker, &recovery, ready, NULL);
    while (!is_ready) {
        turn();
        sim_advance(w, sim_now_ns(w) + 1000000);
    }
}

/* ---- clients --------------------------------------------------------------------------------- */

struct conn {
    struct io_op op;
    int fd;
    struct wire_writer request;
    struct iovec iov;
    uint8_t *in;
    uint32_t in_len, todo, fetch_bytes;
    int64_t offset;
    bool connected;
};
static struct conn conns[CONNECTIONS_MAX];
static uint32_t busy, answered;
static uint64_t fetched_bytes;

static void conn_next(struct conn *c);

static void conn_receive(struct conn *c);

static void encode_produce(struct wire_writer *w, uint32_t batch_bytes) {
    struct batch_builder b;
    static uint8_t value[16384];
    uint8_t *batch;
    size_t len;
    batch_builder_init(&b, CODEC_NONE, batch_bytes + 4096);
    for (size_t left = batch_bytes - 100; left > 0;) {
        size_t n = MIN(left, sizeof value);
        ASSERT(batch_builder_add(&b, INT64_C(1700000000000), BYTES_NULL, (struct bytes){value, (int32_t)n}, NULL, 0) == OK);
        left -= n;
    }
    ASSERT(batch_builder_finish(&b, &batch, &len) == OK);
    struct k_produce_request_topic_data_partition_data p;
    struct k_produce_request_topic_data t;
    struct k_produce_request rq;
    k_produce_request_topic_data_partition_data_init(&p);
    p.records = (struct bytes){batch, (int32_t)len};
    k_produce_request_topic_data_init(&t);
    t.name = STR_LIT("t");
    t.partition_data = &p;
    t.partition_data_n = 1;
    k_produce_request_init(&rq);
    rq.acks = -1;
    rq.timeout_ms = 30000;
    rq.topic_data = &t;
    rq.topic_data_n = 1;
    kafka_request_header_write(w, &(struct kafka_request_header){0, 7, 1, STR_LIT("guard")});
    k_produce_request_encode(&rq, w, 7);
    free(batch);
    batch_builder_free(&b);
}

static void encode_fetch(struct wire_writer *w, const struct conn *c) {
    struct k_fetch_request_topics_partitions p;
    struct k_fetch_request_topics t;
    struct k_fetch_request rq;
    k_fetch_request_topics_partitions_init(&p);
    p.fetch_offset = c->offset;
    p.partition_max_bytes = (int32_t)c->fetch_bytes;
    k_fetch_request_topics_init(&t);
    t.topic = STR_LIT("t");
    t.partitions = &p;
    t.partitions_n = 1;
    k_fetch_request_init(&rq);
    rq.replica_id = -1;
    rq.max_wait_ms = 100;
    rq.min_bytes = 1;
    rq.max_bytes = (int32_t)c->fetch_bytes;
    rq.session_epoch = -1;
    rq.rack_id = STR_LIT("");
    rq.topics = &t;
    rq.topics_n = 1;
    kafka_request_header_write(w, &(struct kafka_request_header){1, 11, 1, STR_LIT("guard")});
    k_fetch_request_encode(&rq, w, 11);
}

static void encode_metadata(struct wire_writer *w) { /* makes the topic */
    struct k_metadata_request rq;
    struct k_metadata_request_topics t;
    k_metadata_request_init(&rq);
    k_metadata_request_topics_init(&t);
    t.name = STR_LIT("t");
    rq.topics = &t;
    rq.topics_n = 1;
    rq.allow_auto_topic_creation = true;
    kafka_request_header_write(w, &(struct kafka_request_header){3, 4, 1, STR_LIT("guard")});
    k_metadata_request_encode(&rq, w, 4);
}

/* What the broker must have said for the run to count. */
static void check_answer(struct conn *c) {
    if (!c->fetch_bytes) return;
    struct arena arena;
    struct k_fetch_response rs;
    int32_t id;
    arena_init(&arena, 1 << 20);
    struct wire_reader r = wire_reader_init(c->in + 4, c->in_len - 4, &arena);
    k_fetch_response_init(&rs);
    ASSERT(kafka_response_header_read(&r, 1, 11, &id) == OK && k_fetch_response_decode(&rs, &r, 11) == OK);
    ASSERT(rs.error_code == 0 && rs.responses_n == 1 && rs.responses[0].partitions[0].error_code == 0);
    fetched_bytes += (uint64_t)MAX(rs.responses[0].partitions[0].records.len, 0);
    arena_free(&arena);
}

static void received(struct io_op *op) {
    struct conn *c = CONTAINER_OF(op, struct conn, op);
    ASSERT(op->result > 0);
    c->in_len += (uint32_t)op->result;
    if (c->in_len < 4 || c->in_len < 4 + load_be32(c->in)) {
        conn_receive(c);
        return;
    }
    answered++;
    check_answer(c);
    conn_next(c);
}

static void conn_receive(struct conn *c) {
    c->op = (struct io_op){.kind = IO_RECV, .fd = c->fd, .buf = c->in + c->in_len, .len = ANSWER_BYTES - c->in_len, .done = received};
    list_init(&c->op.link);
    io_submit(client_io, &c->op);
}

static void sent(struct io_op *op) {
    struct conn *c = CONTAINER_OF(op, struct conn, op);
    ASSERT(op->result > 0);
    c->in_len = 0;
    conn_receive(c);
}

static void conn_next(struct conn *c) {
    if (c->todo == 0) {
        busy--;
        return;
    }
    c->todo--;
    c->iov = (struct iovec){c->request.data, c->request.len};
    c->op = (struct io_op){.kind = IO_SEND, .fd = c->fd, .iov = &c->iov, .iov_count = 1, .done = sent};
    list_init(&c->op.link);
    io_submit(client_io, &c->op);
}

static void connected(struct io_op *op) {
    struct conn *c = CONTAINER_OF(op, struct conn, op);
    ASSERT(op->result == 0);
    c->connected = true;
}

static void run(struct sim_world *w) {
    while (busy > 0) {
        turn();
        sim_advance(w, sim_now_ns(w) + 100000000);
    }
}

static void open_connections(struct sim_world *w, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        struct conn *c = &conns[i];
        c->in = malloc(ANSWER_BYTES);
        ASSERT(c->in);
        c->fd = io_socket(client_io, AF_INET);
        c->op = (struct io_op){.kind = IO_CONNECT, .fd = c->fd, .done = connected};
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        memcpy(&c->op.addr, &to, sizeof to);
        list_init(&c->op.link);
        io_submit(client_io, &c->op);
        while (!c->connected) {
            turn();
            sim_advance(w, sim_now_ns(w) + 1000000);
        }
    }
}

/* `rounds` requests on each connection, encoded once. */
static void requests(struct sim_world *w, uint32_t connections, uint32_t rounds, void (*encode)(struct wire_writer *w, uint32_t arg), uint32_t arg) {
    for (uint32_t i = 0; i < connections; i++) {
        struct conn *c = &conns[i];
        wire_writer_free(&c->request);
        wire_writer_init(&c->request, 64 << 20);
        wire_put_i32(&c->request, 0);
        encode(&c->request, arg);
        ASSERT(c->request.err == OK && c->request.ref_bytes == 0);
        wire_patch_i32(&c->request, 0, (int32_t)c->request.len - 4);
        c->todo = rounds;
        busy++;
        conn_next(c);
    }
    run(w);
}

static void fetch_request(struct wire_writer *w, uint32_t bytes) { encode_fetch(w, &(struct conn){.fetch_bytes = bytes}); }

/* What callgrind collects (--toggle-collect). */
__attribute__((noinline)) static void measured(struct sim_world *w, const struct workload *x, uint32_t rounds) {
    if (x->fetches) requests(w, x->connections, rounds, fetch_request, x->fetches);
    else requests(w, x->connections, rounds, encode_produce, x->batch_bytes);
}

static void metadata_request(struct wire_writer *w, uint32_t unused) {
    (void)unused;
    encode_metadata(w);
}

int main(int argc, char **argv) {
    const struct workload *x = NULL;
    for (size_t i = 0; argc == 3 && i < ARRAY_LEN(workloads); i++)
        if (strcmp(argv[1], workloads[i].name) == 0) x = &workloads[i];
    if (!x) {
        fprintf(stderr, "usage: guard produce-1k|produce-16k|produce-512k|fetch-1m ROUNDS\n");
        return 2;
    }
    uint32_t rounds = (uint32_t)atoi(argv[2]);
    struct sim_world *w = sim_world_new(1);
    ASSERT(w);
    start(w);
    open_connections(w, x->connections);
    requests(w, 1, 3, metadata_request, 0);
    if (x->fetches) requests(w, x->connections, 20, encode_produce, x->batch_bytes);
    uint32_t before = answered;
    memset(&counts, 0, sizeof counts);
    for (uint32_t i = 0; i < x->connections; i++) conns[i].fetch_bytes = x->fetches;
    measured(w, x, rounds);
    printf("requests %u submits %llu calls %llu turns %llu wakes %llu written %llu fetched %llu\n", answered - before,
           (unsigned long long)counts.submits, (unsigned long long)counts.calls, (unsigned long long)counts.turns,
           (unsigned long long)counts.wakes, (unsigned long long)counts.written, (unsigned long long)fetched_bytes);
    fflush(stdout);
    _Exit(0); /* the stop is not part of it */
}
