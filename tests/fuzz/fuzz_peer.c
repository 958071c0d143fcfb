/* What comes from other brokers: the header of a frame as it is; the messages of calls, within their memory; and a connection on which a right hello is followed by frames
 * with right sums around any bytes, or by the bytes themselves. The broker behind it is bare: what it takes for replica messages
 * and reports is checked by hooks, calls are answered with what they ask. */
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "proto/cluster.pb-c.h"
#include "proto/forward.pb-c.h"
#include "proto/metadata.pb-c.h"
#include "proto/range.pb-c.h"
#include "proto/reassign.pb-c.h"
#include "proto/unpack.h"
#include "server/peer_impl.h"
#include "tests/sim/io_sim.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- decoding alone: what is accepted can be said again, and means the same ---------------------------- */

static void header(const uint8_t *data, size_t size) {
    struct arena a, again;
    struct peer_part *parts, *same;
    struct peer_hello hello;
    uint32_t count, same_count;
    arena_init(&a, PEER_ARENA_BYTES);
    if (peer_hello_decode(&a, data, (uint32_t)size, &hello) == OK) {
        struct peer_header h = {0};
        ASSERT(memchr(hello.refused, 0, sizeof hello.refused));
        if (peer_hello_encode(&h, &hello)) free(h.bytes);
    }
    uint32_t body = size > 1 ? data[0] : 0;
    if (peer_frame_decode(&a, data, (uint32_t)size, body, &parts, &count) == OK) {
        struct peer_header h = {0};
        for (uint32_t i = 0; i < count; i++) ASSERT(parts[i].body_at + parts[i].body_bytes <= body && peer_part_encode(&h, &parts[i]));
        arena_init(&again, 2 * PEER_ARENA_BYTES);
        ASSERT(peer_frame_decode(&again, h.bytes, h.len, body, &same, &same_count) == OK && same_count == count);
        ASSERT(memcmp(parts, same, count * sizeof *parts) == 0);
        arena_free(&again);
        free(h.bytes);
    }
    arena_free(&a);
}

/* ---- what calls carry ------------------------------------------------------------------------------------- */

static void messages(const uint8_t *data, size_t size) {
    static const ProtobufCMessageDescriptor *const all[] = {
        &varve__cluster__form_answer__descriptor, &varve__cluster__register_answer__descriptor, &varve__metadata__broker__descriptor,
        &varve__forward__client_request__descriptor, &varve__forward__client_answer__descriptor, &varve__range__range_request__descriptor,
        &varve__range__range_answer__descriptor, &varve__reassign__at_target__descriptor, &varve__reassign__hand_over__descriptor,
        &varve__reassign__hand_over_answer__descriptor,
    };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        struct arena a;
        ProtobufCMessage *m = unpack(&a, all[i], (struct bytes){data, (int32_t)size}, UNPACK_BYTES);
        ASSERT(a.used_bytes <= UNPACK_BYTES + size && (!m || m->descriptor == all[i]));
        if (m) {
            uint8_t *again = malloc(protobuf_c_message_get_packed_size(m) + 1);
            ASSERT(again);
            (void)protobuf_c_message_pack(m, again);
            free(again);
        }
        arena_free(&a);
    }
}

/* ---- a broker and a connection to it --------------------------------------------------------------------- */

enum { REACTORS = 2, PORT = 9093 };
static struct sim_world *world;
static struct broker b;
static struct io *client;

static void receive(struct reactor *r, uint64_t group, const struct replica_message *m, struct bytes records) {
    ASSERT(group % REACTORS == r->index && replica_message_is_valid(m) && m->from.node == 2 && m->to.node == 1);
    uint8_t sum = 0;
    for (int32_t i = 0; i < records.len; i++) sum ^= records.p[i];
    if (sum == 1) free(malloc(1)); /* the bytes are looked at */
}
static void leader(struct reactor *r, int32_t node, uint64_t group, const struct leader_info *info) {
    ASSERT(node == 2 && group % REACTORS == r->index && info->count <= LEADER_MEMBERS_MAX && info->voters <= info->count);
}
static void serve(struct broker *of, struct peer_answer *a, struct bytes request) {
    ASSERT(of == &b && request.len >= 0);
    peer_answer_send(a, request);
}

static void turn(void) {
    for (int i = 0; i < REACTORS; i++) reactor_turn(&b.reactors[i], 0);
    (void)io_turn(client, 0);
    (void)sim_advance(world, sim_now_ns(world) + 1000000);
}

static void broker_make(void) {
    static const char text[] = "node.id=1\nreactors=2\npeer.listen=127.0.0.1:9093\n";
    static const struct peer_hooks hooks = {.receive = receive, .leader = leader};
    char why[256];
    struct config config;
    struct config_builder *builder = config_builder_new();
    ASSERT(builder && config_add_properties(builder, "fuzz", text, sizeof text - 1, why, sizeof why) == OK);
    ASSERT(config_finish(builder, &config, why, sizeof why) == OK);
    config_builder_free(builder);
    world = sim_world_new(1);
    ASSERT(broker_init(&b, &config) == OK);
    for (unsigned i = 0; i < REACTORS; i++) ASSERT(reactor_init(&b.reactors[i], sim_io_create(world, 0)) == OK);
    client = sim_io_create(world, 1);
    ASSERT(peers_open(&b) == OK);
    peer_set_hooks(&b, &hooks);
    peer_serve(&b, PEER_CALL_FORM, serve);
    ASSERT(peers_start(&b, why, sizeof why) == OK);
}

struct client_op { struct io_op op; struct iovec iov; bool done; uint8_t in[65536]; };
static void client_done(struct io_op *op) { CONTAINER_OF(op, struct client_op, op)->done = true; }

static void client_begin(struct client_op *c, enum io_kind kind, int fd, const void *p, size_t len) {
    memset(&c->op, 0, sizeof c->op);
    c->op.kind = kind;
    c->op.fd = fd;
    c->op.buf = c->in;
    c->op.len = sizeof c->in;
    c->iov = (struct iovec){(void *)p, len};
    c->op.iov = &c->iov;
    c->op.iov_count = 1;
    c->op.done = client_done;
    list_init(&c->op.link);
    if (kind == IO_CONNECT) ASSERT(address_resolve("127.0.0.1", PORT, &c->op.addr));
    c->done = false;
    io_submit(client, &c->op);
}

static void client_run(struct client_op *c, enum io_kind kind, int fd, const void *p, size_t len) {
    client_begin(c, kind, fd, p, len);
    for (int i = 0; i < 200 && !c->done; i++) turn();
}

static size_t frame(uint8_t *out, const uint8_t *head, size_t head_len, const uint8_t *body, size_t body_len) {
    struct iovec rest[2] = {{(void *)head, head_len}, {(void *)body, body_len}};
    peer_head_write(out, (uint32_t)head_len, (uint32_t)body_len);
    store_le64(out + 16, peer_checksum(out, rest, 2));
    memcpy(out + PEER_HEAD_BYTES, head, head_len);
    if (body_len > 0) memcpy(out + PEER_HEAD_BYTES + head_len, body, body_len);
    return PEER_HEAD_BYTES + head_len + body_len;
}

/* Header and body lengths of frames come from the input, two bytes each. */
static size_t frames(const uint8_t *data, size_t size, uint8_t *out, size_t cap) {
    size_t n = 0;
    while (size >= 4) {
        size_t head = MIN((size_t)load_le16(data) % 4096, size - 4), body = MIN((size_t)load_le16(data + 2) % 4096, size - 4 - head);
        if (n + PEER_HEAD_BYTES + head + body > cap) break;
        n += frame(out + n, data + 4, head, data + 4 + head, body);
        data += 4 + head + body;
        size -= 4 + head + body;
    }
    return n;
}

static void connection(const uint8_t *data, size_t size, bool raw) {
    static uint8_t out[131072];
    static struct client_op c;
    struct peer_hello hello = {.version_min = 1, .version_max = 1, .node = 2, .wanted = 1, .incarnation = {{7}}, .reactor = data[0]};
    struct peer_header h = {0};
    int fd = io_socket(client, AF_INET);
    client_run(&c, IO_CONNECT, fd, NULL, 0);
    ASSERT(c.op.result == 0 && peer_hello_encode(&h, &hello));
    size_t n = frame(out, h.bytes, h.len, NULL, 0);
    free(h.bytes);
    client_run(&c, IO_SEND, fd, out, n);
    client_run(&c, IO_RECV, fd, NULL, 0);
    ASSERT(c.op.result > PEER_HEAD_BYTES); /* its hello */
    for (int i = 0; i < 3; i++) turn();
    n = raw ? MIN(size, sizeof out) : frames(data, size, out, sizeof out);
    if (raw) memcpy(out, data, n);
    if (n > 0) client_run(&c, IO_SEND, fd, out, n);
    for (int i = 0; i < 5; i++) turn();
    if (!c.done) io_cancel(client, &c.op);
    for (int i = 0; i < 5 && !c.done; i++) turn();
    ASSERT(c.done);
    io_shutdown(client, fd);
    for (int i = 0; i < 50 && atomic_load(&b.peers->conn_count) > 0; i++) turn();
    io_close(client, fd);
    for (int i = 0; i < 50 && atomic_load(&b.peers->conn_count) > 0; i++) turn();
    ASSERT(atomic_load(&b.peers->conn_count) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) return 0;
    header(data, size);
    messages(data, size);
    if (!world) broker_make();
    connection(data, size, data[1] & 1);
    return 0;
}
