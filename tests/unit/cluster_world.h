/* cluster_world.h - three whole brokers and a client in one thread, in the simulated world (tests/sim/io_sim.h).
 *
 * Brokers are numbered by their ids, 1 to 3, each in a rack of its own ("r1"...). A client's call turns the world until the answer is
 * there, in virtual time. */
#ifndef TESTS_UNIT_CLUSTER_WORLD_H
#define TESTS_UNIT_CLUSTER_WORLD_H
#include <arpa/inet.h>
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "proto/kafka_errors.h"
#include "proto/kafka_messages.h"
#include "proto/record_batch.h"
#include "server/controller.h"
#include "server/image.h"
#include "server/leaders.h"
#include "server/reactor.h"
#include "tests/sim/io_sim.h"

enum { BROKERS = 3, REACTORS = 2, KAFKA = 9100, PEERS = 9200, CLIENT_AT = 8, IN_BYTES = 4 << 20 };
#define MS INT64_C(1000000)
#define SECOND (1000 * MS)

struct place {
    int32_t id;                          /* its number in the world, too */
    struct broker *b;                    /* NULL: down */
    struct io *ios[REACTORS];
    struct log_recovery recovery;
    bool ready, paused;
    bool stands[REACTORS];               /* this thread does not get to run */
};
static struct sim_world *world;
static struct place places[BROKERS + 1];
static const char *more_settings = "";

/* ---- brokers ------------------------------------------------------------------------------------------- */

static void place_ready(void *ctx, enum err err, const char *why) {
    struct place *p = ctx;
    ck_assert_msg(err == OK, "broker %d: %s", p->id, why);
    p->ready = true;
}

static void place_start(int32_t id) {
    struct place *p = &places[id];
    struct config config;
    char text[2048], why[512];
    ck_assert(!p->b);
    *p = (struct place){.id = id, .b = calloc(1, sizeof *p->b)};
    snprintf(text, sizeof text, "log.dirs=/data\nlisteners=127.0.0.1:%d\nnode.id=%d\nreactors=%d\njournal.bytes=8388608\ntail.bytes=1048576\n"
             "memory.max.bytes=134217728\ndisk.reserve.bytes=0\nshutdown.timeout.ms=200\nlog.level=%s\nbroker.rack=r%d\n"
             "offsets.topic.num.partitions=4\ngroup.initial.rebalance.delay.ms=0\n"
             "controller.quorum.voters=1@127.0.0.1:9201,2@127.0.0.1:9202,3@127.0.0.1:9203\n%s",
             KAFKA + id, id, REACTORS, getenv("VARVE_TEST_TRACE") ? "info" : "error", id, more_settings);
    struct config_builder *b = config_builder_new();
    ck_assert_msg(config_add_properties(b, "test", text, strlen(text), why, sizeof why) == OK, "%s", why);
    ck_assert_msg(config_finish(b, &config, why, sizeof why) == OK, "%s", why);
    config_builder_free(b);
    ck_assert_int_eq(broker_init(p->b, &config), OK);
    for (int i = 0; i < REACTORS; i++) {
        p->ios[i] = sim_io_create(world, (unsigned)id);
        ck_assert(p->ios[i] && reactor_init(&p->b->reactors[i], p->ios[i]) == OK);
    }
    ck_assert_msg(broker_open(p->b, &p->recovery, why, sizeof why) == OK, "%s", why);
    broker_start(p->b, &p->recovery, place_ready, p);
}

/* As after kill -9; what it had in memory is lost with it. */
#ifdef __SANITIZE_ADDRESS__
/* Killed brokers leave their memory behind, as processes do. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0"; }
#endif

static void place_kill(int32_t id) {
    struct place *p = &places[id];
    sim_crash(world, (unsigned)id, SIM_KILLED);
    for (int i = 0; i < REACTORS; i++) io_destroy(p->ios[i]);
    p->b = NULL;
    p->ready = false;
}

static bool place_turns(struct place *p, int64_t *next) {
    bool turned = false;
    for (int i = 0; p->b && !p->paused && i < REACTORS; i++) {
        struct reactor *r = &p->b->reactors[i];
        if (p->stands[i]) continue;
        if (sim_io_ready(p->ios[i]) || r->busy || timers_next(&r->timers) <= sim_now_ns(world)) {
            turned = true;
            reactor_turn(r, 0);
        } else {
            *next = MIN(*next, timers_next(&r->timers));
        }
    }
    return turned;
}

/* ---- the client ------------------------------------------------------------------------------------------ */

static struct {
    struct io *io;
    int fd[BROKERS + 1];                 /* -1: not connected */
    struct io_op op;
    bool done;
    uint8_t in[IN_BYTES];
    struct wire_writer out;
    struct arena arena;
    int16_t key, version;
    int32_t correlation;
} client;

static void world_pass(void) {
    int64_t next = sim_now_ns(world) + SECOND;
    bool turned = false;
    for (int32_t id = 1; id <= BROKERS; id++) turned = place_turns(&places[id], &next) || turned;
    if (sim_io_ready(client.io)) {
        io_turn(client.io, 0);
        turned = true;
    }
    if (!turned) sim_advance(world, next);
}
static void world_run(int64_t ns) {
    int64_t until = sim_now_ns(world) + ns;
    while (sim_now_ns(world) < until) world_pass();
}
static bool world_until(bool (*what)(void), int64_t ns) {
    int64_t until = sim_now_ns(world) + ns;
    while (!what()) {
        if (sim_now_ns(world) >= until) return false;
        world_pass();
    }
    return true;
}

static void client_op_done(struct io_op *op) {
    (void)op;
    client.done = true;
}
static int64_t client_do(struct io_op op, int64_t until_ns) {
    client.op = op;
    client.op.done = client_op_done;
    list_init(&client.op.link);
    client.done = false;
    io_submit(client.io, &client.op);
    while (!client.done && sim_now_ns(world) < until_ns) world_pass();
    if (!client.done) {
        io_cancel(client.io, &client.op);
        while (!client.done) world_pass();
        return -ETIMEDOUT;
    }
    return client.op.result;
}

static void client_hang_up(int32_t id) {
    if (client.fd[id] >= 0) (void)io_close(client.io, client.fd[id]);
    client.fd[id] = -1;
}

static bool client_connect(int32_t id) {
    if (client.fd[id] >= 0) return true;
    struct io_op op = {.kind = IO_CONNECT, .fd = io_socket(client.io, AF_INET)};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)(KAFKA + id)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    memcpy(&op.addr, &to, sizeof to);
    client.fd[id] = op.fd;
    if (client_do(op, sim_now_ns(world) + SECOND) >= 0) return true;
    client_hang_up(id);
    return false;
}

static struct wire_writer *call_begin(int16_t key, int16_t version) {
    wire_writer_free(&client.out);
    wire_writer_init(&client.out, IN_BYTES);
    client.key = key;
    client.version = version;
    wire_put_i32(&client.out, 0);
    struct kafka_request_header h = {key, version, ++client.correlation, STR_LIT("test")};
    kafka_request_header_write(&client.out, &h);
    return &client.out;
}

/* False: the connection broke, or there was no answer in time. */
static bool call_send(int32_t id) {
    wire_patch_i32(&client.out, 0, (int32_t)client.out.len - 4);
    if (!client_connect(id)) return false;
    struct iovec iov = {client.out.data, client.out.len};
    if (client_do((struct io_op){.kind = IO_SEND, .fd = client.fd[id], .iov = &iov, .iov_count = 1}, sim_now_ns(world) + SECOND) > 0) return true;
    client_hang_up(id);
    return false;
}
static bool call_receive(int32_t id, struct wire_reader *r, int64_t ns) {
    int64_t until = sim_now_ns(world) + ns;
    uint32_t have = 0;
    while (have < 4 || have < load_be32(client.in) + 4) {
        struct io_op op = {.kind = IO_RECV, .fd = client.fd[id], .buf = client.in + have, .len = IN_BYTES - have};
        int64_t n = client_do(op, until);
        if (n <= 0) {
            client_hang_up(id);
            return false;
        }
        have += (uint32_t)n;
    }
    int32_t correlation;
    arena_free(&client.arena);
    arena_init(&client.arena, 16 << 20);
    *r = wire_reader_init(client.in + 4, have - 4, &client.arena);
    ck_assert_int_eq(kafka_response_header_read(r, client.key, client.version, &correlation), OK);
    ck_assert_int_eq(correlation, client.correlation);
    return true;
}

/* Whether there was an answer. */
#define TRY(id, api_key, api_version, name, request, response)                                             \
    ({                                                                                                     \
        struct wire_reader try_r;                                                                          \
        k_##name##_request_encode(&(request), call_begin((api_key), (api_version)), (api_version));        \
        bool try_ok = call_send(id) && call_receive((id), &try_r, 40 * SECOND);                            \
        if (try_ok) ck_assert_int_eq(k_##name##_response_decode(&(response), &try_r, (api_version)), OK);  \
        if (try_ok) ck_assert_uint_eq(wire_left(&try_r), 0);                                               \
        try_ok;                                                                                            \
    })

/* ---- all of it -------------------------------------------------------------------------------------------- */

static int32_t controller_id(void) {
    for (int32_t id = 1; id <= BROKERS; id++)
        if (places[id].b && !places[id].paused && controller_is_active(places[id].b)) return id;
    return 0;
}
static bool is_whole(void) {
    if (!controller_id()) return false;
    uint64_t end = atomic_load(&places[controller_id()].b->image)->metadata_end;
    for (int32_t id = 1; id <= BROKERS; id++) {
        const struct place *p = &places[id];
        if (!p->b || !p->ready) return false;
        const struct image *im = atomic_load(&p->b->image);
        if (im->node_count < BROKERS || im->metadata_end != end) return false;
    }
    return true;
}

static void world_begin(const char *settings) {
    static uint64_t seed;
    more_settings = settings;
    world = sim_world_new(++seed);
    client.io = sim_io_create(world, CLIENT_AT);
    for (int32_t id = 1; id <= BROKERS; id++) {
        client.fd[id] = -1;
        places[id].b = NULL;
        place_start(id);
    }
    ck_assert(world_until(is_whole, 20 * SECOND));
}
static void world_end(void) {
    for (int32_t id = 1; id <= BROKERS; id++) client_hang_up(id);
    for (int32_t id = 1; id <= BROKERS; id++)
        if (places[id].b) place_kill(id);
    io_destroy(client.io);
    sim_world_free(world);
    wire_writer_free(&client.out);
    arena_free(&client.arena);
    memset(&client.out, 0, sizeof client.out);
}
#endif
