/* Connections between brokers: bare reactors of several brokers in the test's thread, over the simulated network and over
 * real sockets. What arrives is noted by hooks. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "proto/reassign.pb-c.h"
#include "proto/unpack.h"
#include "server/peer_impl.h"
#include "tests/sim/io_sim.h"

enum { REACTORS = 2, NODES = 3, GOT_MAX = 4096, REAL_PORT = 10000 };
enum backend { SIMULATED, URING, BLOCKING };
static enum backend backend;
static struct sim_world *world;
static int port_base = 21000;

struct got { uint64_t group; struct replica_message m; uint8_t *records; int32_t len; uint32_t reactor; };
struct node {
    struct broker b;
    struct io *ios[REACTORS];
    bool open;
    int port;
    struct got *got;
    uint32_t got_count, lost, found, wanted, reports;
    uint64_t received_bytes;
    struct leader_info report;
    struct peer_answer *held;            /* a call that is answered later */
    char served[64];
    uint32_t refusals;
    enum peer_refusal refusal;           /* the last one */
};
static struct node nodes[NODES];
static struct peer_hooks hooks;

static struct node *node_of(const struct broker *b) { return CONTAINER_OF(b, struct node, b); }

static void receive(struct reactor *r, uint64_t group, const struct replica_message *m, struct bytes records) {
    struct node *n = node_of(r->broker);
    ck_assert_uint_eq(r->index, group % REACTORS);
    n->received_bytes += (uint64_t)records.len;
    if (n->got_count == GOT_MAX) return;
    struct got *g = &n->got[n->got_count++];
    *g = (struct got){group, *m, malloc((size_t)records.len + 1), records.len, r->index};
    if (records.len > 0) memcpy(g->records, records.p, (size_t)records.len);
}
static void lost(struct reactor *r, int32_t node) {
    (void)node;
    if (r->index == 1) node_of(r->broker)->lost++;
}
static void found(struct reactor *r, int32_t node) {
    (void)node;
    if (r->index == 1) node_of(r->broker)->found++;
}
static void leader(struct reactor *r, int32_t node, uint64_t group, const struct leader_info *info) {
    (void)node, (void)group;
    node_of(r->broker)->reports++;
    node_of(r->broker)->report = *info;
}
static void refused(struct reactor *r, const char *host, uint16_t port, enum peer_refusal why, const struct uuid *theirs) {
    (void)host, (void)port, (void)theirs;
    ck_assert_uint_eq(r->index, 0);
    node_of(r->broker)->refusals++;
    node_of(r->broker)->refusal = why;
}
static void leaders_wanted(struct reactor *r, int32_t node) {
    (void)node;
    node_of(r->broker)->wanted++;
}

/* ---- brokers ------------------------------------------------------------------------------------- */

static struct io *io_new(unsigned node) {
    char why[256];
    struct io_config config = {.helper_threads = 1};
    if (backend == SIMULATED) return sim_io_create(world, node);
    return backend == URING ? io_uring_create(&config, why, sizeof why) : io_blocking_create(&config, why, sizeof why);
}

static int64_t now_ns(void) {
    struct timespec now;
    if (backend == SIMULATED) return sim_now_ns(world);
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void node_open(int i, const char *more) {
    struct node *n = &nodes[i];
    char text[512], why[512] = "";
    struct config config;
    memset(n, 0, sizeof *n);
    n->port = port_base + i;
    n->got = calloc(GOT_MAX, sizeof *n->got);
    snprintf(text, sizeof text, "node.id=%d\nreactors=%d\npeer.listen=127.0.0.1:%d\n%s", i, REACTORS, n->port, more ? more : "");
    struct config_builder *b = config_builder_new();
    ck_assert_int_eq(config_add_properties(b, "test", text, strlen(text), why, sizeof why), OK);
    ck_assert_msg(config_finish(b, &config, why, sizeof why) == OK, "%s", why);
    config_builder_free(b);
    ck_assert_int_eq(broker_init(&n->b, &config), OK);
    for (int k = 0; k < REACTORS; k++) {
        n->ios[k] = io_new((unsigned)i);
        ck_assert_ptr_nonnull(n->ios[k]);
        ck_assert_int_eq(reactor_init(&n->b.reactors[k], n->ios[k]), OK);
    }
    ck_assert_int_eq(peers_open(&n->b), OK);
    hooks = (struct peer_hooks){receive, lost, found, leader, refused, leaders_wanted};
    peer_set_hooks(&n->b, &hooks);
    ck_assert_msg(peers_start(&n->b, why, sizeof why) == OK, "%s", why);
    n->open = true;
}

static void turn_one(struct node *n) {
    for (int k = 0; k < REACTORS; k++) reactor_turn(&n->b.reactors[k], 0);
}

static void turn_all(void) {
    int64_t next = INT64_MAX;
    for (int i = 0; i < NODES; i++) {
        if (!nodes[i].open) continue;
        turn_one(&nodes[i]);
        for (int k = 0; k < REACTORS; k++) {
            struct reactor *r = &nodes[i].b.reactors[k];
            int64_t at = r->busy || !mailbox_empty(&r->mailbox) ? 0 : timers_next(&r->timers);
            if (at < next) next = at;
        }
    }
    if (backend != SIMULATED) {
        usleep(100);
        return;
    }
    int64_t now = sim_now_ns(world), limit = now + 1000000; /* a test that waits for something looks now and then */
    sim_advance(world, next < now ? now : next < limit ? next : limit);
}

static void run_for(int64_t ns) {
    int64_t end = now_ns() + ns;
    while (now_ns() < end) turn_all();
}
/* Until `cond` holds, for 20 s at most. */
#define RUN_UNTIL(cond) \
    do { \
        int64_t end_ns_ = now_ns() + INT64_C(20000000000); \
        while (!(cond) && now_ns() < end_ns_) turn_all(); \
        ck_assert_msg(cond, "%s did not come true", #cond); \
    } while (0)

static void node_close(int i) {
    struct node *n = &nodes[i];
    if (!n->open) return;
    for (int k = 0; k < REACTORS; k++) peer_set_shut(&n->b.reactors[k]);
    for (int turns = 0; turns < 20; turns++) turn_all();
    for (int k = 0; k < REACTORS; k++) reactor_close(&n->b.reactors[k]);
    n->open = false;
    broker_close(&n->b);
    for (int k = 0; k < REACTORS; k++) io_destroy(n->ios[k]);
    for (uint32_t g = 0; g < n->got_count; g++) free(n->got[g].records);
    free(n->got);
}

static void introduce(int a, int b) { ck_assert_int_eq(peer_set_node(&nodes[a].b, b, "127.0.0.1", nodes[b].port), OK); }

static bool link_up(int a, uint32_t reactor, int b) {
    int32_t slot = peer_node_slot(nodes[a].b.peers, b);
    return slot >= 0 && peer_link_is_up(nodes[a].b.reactors[reactor].peers->links[slot]);
}
static bool all_up(int a, int b) { return link_up(a, 0, b) && link_up(a, 1, b); }

static void two_connected(void) {
    node_open(0, NULL);
    node_open(1, NULL);
    introduce(0, 1);
    introduce(1, 0);
    RUN_UNTIL(all_up(0, 1) && all_up(1, 0));
    run_for(2000000);
}

static void setup(void) {
    if (backend == SIMULATED) world = sim_world_new(7);
    port_base += 10;
}
static void teardown(void) {
    for (int i = 0; i < NODES; i++) node_close(i);
    if (world) sim_world_free(world);
    world = NULL;
}

/* ---- messages -------------------------------------------------------------------------------------- */

static struct uuid incarnation_of(int node) { return nodes[node].open ? nodes[node].b.peers->incarnation : (struct uuid){{0}}; }

static struct replica_message message(int to, uint32_t round) {
    struct replica_message m = {.kind = REPLICA_APPEND, .epoch = 5, .session = 77, .round = round, .prev = {4, 100}, .end_offset = 200,
                                .high_watermark = 90, .established = true, .start = 3, .marker_count = 1, .markers = {{5, 150}}};
    m.to = (struct replica_member){to, incarnation_of(to)};
    m.from = (struct replica_member){0, incarnation_of(0)};
    m.config = (struct replica_config){{5, 2}, 2, 3, {{0, incarnation_of(0)}, {1, incarnation_of(1)}, {9, {{1}}}}};
    return m;
}

static struct slice bytes_of(uint32_t len, uint8_t first) {
    struct buf *b = buf_new(len ? len : 1, 0);
    for (uint32_t i = 0; i < len; i++) b->data[i] = (uint8_t)(first + i * 7);
    return (struct slice){b, 0, len};
}

static bool tell(int from, int to, uint64_t group, uint32_t round, uint32_t len) {
    struct replica_message m = message(to, round);
    m.from = (struct replica_member){from, incarnation_of(from)};
    struct slice s = bytes_of(len, (uint8_t)round);
    if (len == 0) buf_unref(s.buf);
    return peer_send(&nodes[from].b.reactors[group % REACTORS], group, &m, &s, len > 0);
}

START_TEST(messages_arrive_in_order_and_whole) {
    static const uint32_t lens[] = {0, 1, 1000, 20000, 300000, 1048576};
    two_connected();
    for (uint32_t i = 0; i < 200; i++) {
        bool told = false;
        for (int turns = 0; !told && turns < 100000; turns++) { /* the queue is bounded */
            told = tell(0, 1, i % 5 + 1, i, lens[i % 6]);
            if (!told) turn_all();
        }
        ck_assert(told);
    }
    RUN_UNTIL(nodes[1].got_count == 200);
    uint32_t next[6];
    for (uint32_t g = 1; g <= 5; g++) next[g] = g - 1;
    for (uint32_t i = 0; i < 200; i++) {
        const struct got *g = &nodes[1].got[i];
        uint32_t round = g->m.round;
        ck_assert_uint_eq(round, next[g->group]); /* in order, each group */
        next[g->group] += 5;
        ck_assert_int_eq(g->len, (int32_t)lens[round % 6]);
        uint32_t same = 0;
        for (int32_t k = 0; k < g->len; k++) same += g->records[k] == (uint8_t)(round + (uint32_t)k * 7);
        ck_assert_uint_eq(same, (uint32_t)g->len);
        struct replica_message sent = message(1, round);
        sent.from = (struct replica_member){0, nodes[0].b.peers->incarnation};
        ck_assert_mem_eq(&g->m.config.id, &sent.config.id, sizeof sent.config.id);
        ck_assert_uint_eq(g->m.config.count, 3);
        ck_assert_uint_eq(g->m.config.voters, 2);
        for (int k = 0; k < 3; k++) ck_assert(replica_member_eq(&g->m.config.members[k], &sent.config.members[k]));
        ck_assert(replica_member_eq(&g->m.from, &sent.from) && replica_member_eq(&g->m.to, &sent.to));
        ck_assert(g->m.kind == REPLICA_APPEND && g->m.epoch == 5 && g->m.session == 77 && g->m.established && !g->m.ok && !g->m.transfer);
        ck_assert(g->m.prev.epoch == 4 && g->m.prev.offset == 100 && g->m.end_offset == 200 && g->m.high_watermark == 90 && g->m.start == 3);
        ck_assert(g->m.marker_count == 1 && g->m.markers[0].epoch == 5 && g->m.markers[0].start == 150);
    }
    ck_assert(peer_is_up(&nodes[0].b.reactors[1], 1) && peer_is_up(&nodes[1].b.reactors[0], 0));
    ck_assert_uint_eq(nodes[0].found, 1);
    ck_assert_uint_eq(nodes[0].lost, 0);
    ck_assert_uint_eq(nodes[0].wanted, REACTORS);
}
END_TEST

/* A replica that came back to its node is another member than it was. */
START_TEST(members_of_later_lives_are_told_apart) {
    two_connected();
    struct replica_message m = message(1, 1);
    m.end_offset = m.prev.offset;
    m.marker_count = 0;
    m.from.incarnation = replica_incarnation(&m.from.incarnation, 70000);
    m.to.incarnation = replica_incarnation(&m.to.incarnation, 3);
    ck_assert(peer_send(&nodes[0].b.reactors[1], 1, &m, NULL, 0));
    RUN_UNTIL(nodes[1].got_count == 1);
    const struct replica_message *got = &nodes[1].got[0].m;
    ck_assert(replica_member_eq(&got->from, &m.from) && replica_member_eq(&got->to, &m.to));
    ck_assert(!replica_member_eq(&got->to, &(struct replica_member){1, incarnation_of(1)}));
}
END_TEST

START_TEST(slices_are_given_back) {
    two_connected();
    struct slice s = bytes_of(5000, 1);
    struct buf *mine = buf_ref(s.buf);
    struct replica_message m = message(1, 1);
    ck_assert(peer_send(&nodes[0].b.reactors[1], 1, &m, &s, 1));
    ck_assert_uint_eq(mine->refs, 2); /* not copied */
    RUN_UNTIL(nodes[1].got_count == 1);
    RUN_UNTIL(mine->refs == 1);
    m.to.incarnation.b[0] ^= 1; /* somebody who is gone */
    s.buf = buf_ref(mine);
    ck_assert(!peer_send(&nodes[0].b.reactors[1], 1, &m, &s, 1));
    m.to.node = 2; /* nobody */
    s.buf = buf_ref(mine);
    ck_assert(!peer_send(&nodes[0].b.reactors[1], 1, &m, &s, 1));
    ck_assert_uint_eq(mine->refs, 1);
    buf_unref(mine);
}
END_TEST

/* Every kind, with what it carries. */
START_TEST(all_kinds_of_messages) {
    two_connected();
    for (uint32_t kind = 0; kind <= REPLICA_TIMEOUT_NOW; kind++) {
        struct replica_message m = message(1, kind);
        bool carries = kind == REPLICA_APPEND || kind == REPLICA_INSTALL_START;
        struct slice s = bytes_of(100, (uint8_t)kind);
        m.kind = (enum replica_message_kind)kind;
        m.ok = m.transfer = m.waits = true;
        m.asked_epoch = 6;
        m.last = (struct replica_position){4, 1234567890123};
        m.match = (struct replica_position){5, 777};
        if (kind % 2) m.config = (struct replica_config){0}; /* none yet */
        if (!carries) buf_unref(s.buf);
        ck_assert(peer_send(&nodes[0].b.reactors[1], 1, &m, &s, carries));
    }
    RUN_UNTIL(nodes[1].got_count == REPLICA_TIMEOUT_NOW + 1);
    for (uint32_t kind = 0; kind <= REPLICA_TIMEOUT_NOW; kind++) {
        const struct got *g = &nodes[1].got[kind];
        ck_assert_uint_eq(g->m.kind, kind);
        ck_assert_int_eq(g->len, kind == REPLICA_APPEND || kind == REPLICA_INSTALL_START ? 100 : 0);
        ck_assert(g->m.ok && g->m.transfer && g->m.waits && g->m.asked_epoch == 6);
        ck_assert(g->m.last.epoch == 4 && g->m.last.offset == 1234567890123 && g->m.match.epoch == 5 && g->m.match.offset == 777);
        ck_assert_uint_eq(g->m.config.count, kind % 2 ? 0 : 3);
    }
}
END_TEST

START_TEST(a_turn_is_one_frame) {
    two_connected();
    int32_t slot = peer_node_slot(nodes[0].b.peers, 1);
    struct peer_stream *s = &nodes[0].b.reactors[0].peers->links[slot]->stream;
    for (uint32_t i = 0; i < 100; i++) ck_assert(tell(0, 1, 2, i, 100));
    ck_assert(s->open && s->open->slice_count == 100 && list_empty(&s->out));
    RUN_UNTIL(nodes[1].got_count == 100);
}
END_TEST

START_TEST(leader_reports) {
    struct leader_info info = {.epoch = 3, .leader = 0, .version = 12345678901, .established = true, .voters = 2, .count = 3, .in_sync = 5,
                               .members = {0, 1, 7}};
    two_connected();
    peer_report_leader(&nodes[0].b.reactors[1], 3, &info);
    RUN_UNTIL(nodes[1].reports == 1);
    ck_assert_mem_eq(&nodes[1].report, &info, sizeof info);
    info.leader = -1;
    peer_report_leader_to(&nodes[0].b.reactors[0], 1, 4, &info);
    RUN_UNTIL(nodes[1].reports == 2);
    ck_assert_int_eq(nodes[1].report.leader, -1);
}
END_TEST

/* ---- connections that break -------------------------------------------------------------------------- */

START_TEST(a_broker_that_ends_is_lost_at_once_and_found_again) {
    two_connected();
    node_close(1);
    int64_t since = now_ns();
    RUN_UNTIL(nodes[0].lost == 1);
    ck_assert_int_lt(now_ns() - since, 100000000);
    ck_assert(!peer_is_up(&nodes[0].b.reactors[0], 1));
    run_for(1500000000); /* many refused attempts: one notice */
    ck_assert_uint_eq(nodes[0].lost, 1);
    node_open(1, NULL);
    introduce(1, 0);
    RUN_UNTIL(all_up(0, 1) && all_up(1, 0));
    RUN_UNTIL(nodes[0].found == 2);
    ck_assert(tell(0, 1, 1, 5, 10));
    RUN_UNTIL(nodes[1].got_count == 1);
}
END_TEST

START_TEST(a_refused_connection_is_noticed) {
    node_open(0, NULL);
    nodes[1].port = port_base + 1;
    introduce(0, 1);
    RUN_UNTIL(nodes[0].lost == 1);
}
END_TEST

START_TEST(who_is_silent_is_lost) {
    two_connected();
    int64_t since = now_ns();
    nodes[1].open = false; /* stands still, its sockets are open */
    RUN_UNTIL(nodes[0].lost == 1);
    ck_assert_int_le(now_ns() - since, PEER_SILENT_NS + INT64_C(3) * PEER_WATCH_NS);
    ck_assert(!peer_is_up(&nodes[0].b.reactors[0], 1));
    nodes[1].open = true;
    RUN_UNTIL(all_up(0, 1) && nodes[0].found == 2);
}
END_TEST

START_TEST(idle_connections_stay) {
    two_connected();
    run_for(INT64_C(5000000000));
    ck_assert(peer_is_up(&nodes[0].b.reactors[0], 1) && peer_is_up(&nodes[1].b.reactors[1], 0));
    ck_assert_uint_eq(nodes[0].lost + nodes[1].lost, 0);
}
END_TEST

START_TEST(an_address_may_change) {
    two_connected();
    node_close(1);
    port_base += 5;
    node_open(1, NULL);
    introduce(0, 1);
    RUN_UNTIL(all_up(0, 1));
    ck_assert_int_eq(peer_set_node(&nodes[0].b, 1, "", 0), OK); /* forgotten */
    RUN_UNTIL(!link_up(0, 0, 1) && !link_up(0, 1, 1));
    run_for(1000000000);
    ck_assert(!link_up(0, 0, 1));
}
END_TEST

/* ---- who is not spoken to ------------------------------------------------------------------------------ */

START_TEST(other_clusters_are_refused) {
    struct uuid a = {{1}}, b = {{2}};
    node_open(0, NULL);
    node_open(1, NULL);
    peer_set_cluster(&nodes[0].b, &a);
    introduce(0, 1);
    introduce(1, 0);
    RUN_UNTIL(all_up(0, 1) && all_up(1, 0)); /* one belongs to none yet */
    peer_set_cluster(&nodes[1].b, &b);
    RUN_UNTIL(!link_up(1, 0, 0) || !link_up(0, 0, 1));
    run_for(1500000000);
    ck_assert(!link_up(0, 0, 1) && !link_up(0, 1, 1) && !link_up(1, 0, 0) && !link_up(1, 1, 0));
    ck_assert(!peer_is_up(&nodes[0].b.reactors[0], 1));
    peer_set_cluster(&nodes[1].b, &a);
    RUN_UNTIL(all_up(0, 1) && all_up(1, 0));
}
END_TEST

START_TEST(another_node_at_the_address_is_refused) {
    node_open(0, NULL);
    node_open(1, NULL);
    ck_assert_int_eq(peer_set_node(&nodes[0].b, 2, "127.0.0.1", nodes[1].port), OK);
    run_for(1000000000);
    ck_assert(!link_up(0, 0, 2));
    ck_assert_int_eq(peer_set_node(&nodes[0].b, 0, "127.0.0.1", nodes[1].port), ERR_INVALID);
    node_close(1);
    node_open(1, "broker.id=0\n"); /* twice the same number */
    ck_assert_int_eq(peer_set_node(&nodes[0].b, 2, "127.0.0.1", nodes[1].port), OK);
    run_for(1000000000);
    ck_assert(!link_up(0, 0, 2));
}
END_TEST

/* A raw connection to the listener of node 0. */
struct raw { struct io_op op; int fd; bool done; struct iovec iov; uint8_t in[4096]; };
static struct raw raw;
static const char *raw_host = "127.0.0.1"; /* in the simulated world also the address that it comes from */
static void raw_done(struct io_op *op) { CONTAINER_OF(op, struct raw, op)->done = true; }
static int64_t raw_op(enum io_kind kind, void *p, uint32_t len) {
    struct io *io = nodes[0].ios[0];
    memset(&raw.op, 0, sizeof raw.op);
    raw.op = (struct io_op){.kind = kind, .fd = raw.fd, .buf = raw.in, .len = sizeof raw.in, .iov = &raw.iov, .iov_count = 1, .done = raw_done};
    list_init(&raw.op.link);
    raw.iov = (struct iovec){p, len};
    if (kind == IO_CONNECT) address_resolve(raw_host, (uint16_t)nodes[0].port, &raw.op.addr);
    raw.done = false;
    io_submit(io, &raw.op);
    RUN_UNTIL(raw.done);
    return raw.op.result;
}
static void raw_connect(void) {
    raw.fd = io_socket(nodes[0].ios[0], AF_INET);
    ck_assert_int_eq(raw_op(IO_CONNECT, NULL, 0), 0);
}
/* Sends; the answer must be the end of the connection (after a hello, if one is due). */
static void raw_refused(const void *p, size_t len) {
    raw_op(IO_SEND, (void *)p, (uint32_t)len);
    int64_t n = raw_op(IO_RECV, NULL, 0);
    for (int i = 0; i < 3 && n > 0; i++) n = raw_op(IO_RECV, NULL, 0);
    ck_assert_int_le(n, 0);
    io_close(nodes[0].ios[0], raw.fd);
}

static size_t frame_make(uint8_t *out, const struct peer_header *h, const uint8_t *body, uint32_t body_len) {
    struct iovec rest[2] = {{h->bytes, h->len}, {(void *)body, body_len}};
    peer_head_write(out, h->len, body_len);
    store_le64(out + 16, peer_checksum(out, rest, 2));
    memcpy(out + PEER_HEAD_BYTES, h->bytes, h->len);
    if (body_len) memcpy(out + PEER_HEAD_BYTES + h->len, body, body_len);
    return PEER_HEAD_BYTES + h->len + body_len;
}

static size_t hello_make(uint8_t *out, int32_t node) {
    struct peer_hello hello = {.version_min = 1, .version_max = 1, .node = node, .wanted = 0, .incarnation = {{9}}};
    struct peer_header h = {0};
    ck_assert(peer_hello_encode(&h, &hello));
    size_t n = frame_make(out, &h, NULL, 0);
    free(h.bytes);
    return n;
}

static void raw_greeted(void) {
    uint8_t hello[512];
    raw_connect();
    raw_op(IO_SEND, hello, (uint32_t)hello_make(hello, 2));
    ck_assert_int_gt(raw_op(IO_RECV, NULL, 0), PEER_HEAD_BYTES);
    run_for(2000000);
}

START_TEST(garbage_closes_the_connection) {
    uint8_t bytes[1024], kafka[] = {0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff};
    node_open(0, NULL);
    raw_connect();
    raw_refused(kafka, sizeof kafka); /* a client's request */
    raw_connect();
    memset(bytes, 0xf6, sizeof bytes);
    raw_refused(bytes, sizeof bytes);
    raw_connect(); /* a hello with a body, or larger than a hello may be */
    peer_head_write(bytes, 100, 1);
    raw_refused(bytes, 100);
    raw_connect();
    peer_head_write(bytes, PEER_HELLO_BYTES + 1, 0);
    raw_refused(bytes, PEER_HEAD_BYTES);
    raw_connect(); /* a wrong checksum */
    size_t n = hello_make(bytes, 2);
    bytes[n - 1] ^= 1;
    raw_refused(bytes, n);
    raw_connect(); /* more than the hello before it is answered */
    n = hello_make(bytes, 2);
    memset(bytes + n, 0, 10);
    raw_refused(bytes, n + 10);
    ck_assert_uint_eq(nodes[0].b.peers->greeting_count, 0);
    raw_connect(); /* nothing: closed in time */
    ck_assert_int_le(raw_op(IO_RECV, NULL, 0), 0);
    io_close(nodes[0].ios[0], raw.fd);
}
END_TEST

START_TEST(garbage_after_the_hello_closes_the_connection) {
    uint8_t bytes[1024];
    node_open(0, NULL);
    for (int what = 0; what < 6; what++) {
        struct peer_header h = {0};
        struct peer_part part = {.kind = PEER_PART_REPLICA, .group = 1, .u.replica = message(0, 1)};
        part.body_bytes = what == 1 ? 5 : 4;
        if (what == 2) part.u.replica.markers[0].epoch = 3; /* does not ascend */
        if (what == 3) part.group = UINT64_C(1) << 41;
        if (what == 4) part = (struct peer_part){.kind = PEER_PART_CALL, .u.call = {.id = 1, .kind = 1, .total = 0xffffffff}, .body_bytes = 4};
        if (what == 5) part = (struct peer_part){.kind = PEER_PART_ANSWER, .u.call = {.id = 1, .kind = 1, .total = 4}, .body_bytes = 4};
        ck_assert(peer_part_encode(&h, &part));
        size_t n = frame_make(bytes, &h, (const uint8_t *)"abcd", 4);
        free(h.bytes);
        if (what == 0) bytes[n - 1] ^= 0x10;
        raw_greeted();
        raw_refused(bytes, n);
    }
    ck_assert_uint_eq(nodes[0].got_count, 0);
    run_for(10000000);
    ck_assert_uint_eq(atomic_load(&nodes[0].b.peers->conn_count), 0);
}
END_TEST

/* ---- bounds ------------------------------------------------------------------------------------------------ */

START_TEST(who_does_not_read_costs_bounded_memory) {
    two_connected();
    nodes[1].open = false;
    int64_t end = now_ns() + 1000000000;
    uint32_t sent = 0, refused = 0;
    while (now_ns() < end) {
        for (int i = 0; i < 4; i++) *(tell(0, 1, 2, 1, 1000000) ? &sent : &refused) += 1;
        turn_all();
    }
    int32_t slot = peer_node_slot(nodes[0].b.peers, 1);
    ck_assert_uint_le(nodes[0].b.reactors[0].peers->links[slot]->stream.queued, PEER_QUEUE_BYTES + PEER_PART_BYTES);
    ck_assert_uint_gt(refused, 0);
    nodes[1].open = true;
    RUN_UNTIL(nodes[1].received_bytes == (uint64_t)sent * 1000000);
}
END_TEST

/* A reactor that is behind: the connection's own reactor stops reading. */
START_TEST(what_waits_for_another_reactor_is_bounded) {
    two_connected();
    struct reactor *home = &nodes[1].b.reactors[0];
    int32_t slot = peer_node_slot(nodes[0].b.peers, 1);
    struct peer_link *l = nodes[0].b.reactors[0].peers->links[slot];
    uint32_t sent = 0;
    for (int i = 0; i < 300; i++) {
        struct replica_message m = message(1, sent);
        struct slice s = bytes_of(200000, 1);
        sent += peer_send(&nodes[0].b.reactors[0], 1, &m, &s, 1); /* group 1 is the other reactor's there */
        turn_one(&nodes[0]);
        reactor_turn(home, 0);
        if (backend == SIMULATED) sim_advance(world, sim_now_ns(world) + 1000000);
        else usleep(1000);
    }
    struct peer_conn *c = NULL;
    LIST_FOREACH(it, &home->peers->conns) c = LIST_ENTRY(it, struct peer_conn, link);
    ck_assert_ptr_nonnull(c);
    ck_assert_uint_le(c->stream.undelivered, PEER_UNDELIVERED_BYTES + PEER_BODY_BYTES);
    ck_assert(c->stream.paused);
    ck_assert_uint_gt(l->stream.queued, 0);
    RUN_UNTIL(nodes[1].received_bytes == (uint64_t)sent * 200000);
}
END_TEST

START_TEST(a_batch_larger_than_a_frame_travels_alone) {
    two_connected();
    ck_assert(tell(0, 1, 2, 1, 10));
    ck_assert(tell(0, 1, 2, 2, 9000000));
    ck_assert(!tell(0, 1, 2, 3, 10)); /* the queue is full with it */
    RUN_UNTIL(nodes[1].got_count == 2);
    ck_assert_int_eq(nodes[1].got[1].len, 9000000);
    for (int32_t k = 0; k < 9000000; k += 1117) ck_assert_uint_eq(nodes[1].got[1].records[k], (uint8_t)(2 + (uint32_t)k * 7));
}
END_TEST

/* ---- calls ------------------------------------------------------------------------------------------------------ */

struct asked { struct peer_call c; int done; uint8_t *answer; };
static void call_done(struct peer_call *c) {
    struct asked *a = c->owner;
    a->done++;
    a->answer = malloc((size_t)c->answer.len + 1);
    if (c->answer.len > 0) memcpy(a->answer, c->answer.p, (size_t)c->answer.len);
}
static void call(struct asked *a, int from, uint32_t reactor, int to, enum peer_call_kind kind, struct bytes request, int64_t timeout_ns) {
    memset(a, 0, sizeof *a);
    turn_one(&nodes[from]); /* its clock */
    a->c = (struct peer_call){.caller = &nodes[from].b.reactors[reactor], .node = to, .host = "127.0.0.1", .port = nodes[0].port,
                              .kind = kind, .request = request, .timeout_ns = timeout_ns, .done = call_done, .owner = a};
    peer_call(&a->c);
    ck_assert_int_eq(a->done, 0); /* never from inside */
}
static void serve_turned(struct broker *b, struct peer_answer *a, struct bytes request) {
    uint8_t *turned = malloc((size_t)request.len + 1);
    snprintf(node_of(b)->served, sizeof node_of(b)->served, "%d %d", a->node, a->kind);
    for (int32_t i = 0; i < request.len; i++) turned[i] = request.p[request.len - 1 - i];
    peer_answer_send(a, (struct bytes){turned, request.len});
    free(turned);
}
static void serve_held(struct broker *b, struct peer_answer *a, struct bytes request) {
    (void)request;
    node_of(b)->held = a;
}

START_TEST(calls_are_answered) {
    struct asked a;
    two_connected();
    peer_serve(&nodes[0].b, PEER_CALL_FORM, serve_turned);
    call(&a, 1, 1, 0, PEER_CALL_FORM, (struct bytes){(const uint8_t *)"hello", 5}, 1000000000);
    RUN_UNTIL(a.done);
    ck_assert_int_eq(a.c.err, OK);
    ck_assert_int_eq(a.c.answer.len, 5);
    ck_assert_mem_eq(a.answer, "olleh", 5);
    ck_assert_int_eq(a.c.answered_by, 0);
    ck_assert(uuid_eq(&a.c.incarnation, &nodes[0].b.peers->incarnation));
    ck_assert_str_eq(nodes[0].served, "1 2");
    free(a.answer);
    /* Large, in pieces. */
    uint8_t *large = malloc(PEER_CALL_BYTES_MAX);
    for (uint32_t i = 0; i < PEER_CALL_BYTES_MAX; i++) large[i] = (uint8_t)(i * 31 + i / 1000);
    call(&a, 1, 0, 0, PEER_CALL_FORM, (struct bytes){large, PEER_CALL_BYTES_MAX}, 15000000000);
    RUN_UNTIL(a.done);
    ck_assert_int_eq(a.c.err, OK);
    for (uint32_t i = 0; i < PEER_CALL_BYTES_MAX; i += 1013) ck_assert_uint_eq(a.answer[PEER_CALL_BYTES_MAX - 1 - i], large[i]);
    free(a.answer);
    call(&a, 1, 0, 0, PEER_CALL_FORM, (struct bytes){large, PEER_CALL_BYTES_MAX + 1}, 1000000000);
    RUN_UNTIL(a.done);
    ck_assert_int_eq(a.c.err, ERR_TOO_LARGE);
    free(a.answer);
    free(large);
    call(&a, 1, 0, 0, PEER_CALL_FORM, BYTES_NULL, 1000000000); /* nothing is an answer too */
    RUN_UNTIL(a.done);
    ck_assert_int_eq(a.c.err, OK);
    free(a.answer);
    call(&a, 1, 0, 0, PEER_CALL_IMAGE, BYTES_NULL, 1000000000); /* nobody serves that */
    RUN_UNTIL(a.done);
    ck_assert_int_eq(a.c.err, ERR_UNSUPPORTED);
    free(a.answer);
}
END_TEST

/* Two bytes are an element of a list: what they become is bounded, and lists of the size that is taken are not too long. */
START_TEST(what_a_call_carries_is_bounded) {
    enum { TAKEN = 1024, HOSTILE = 1 << 20, STRUCTS = UNPACK_BYTES + TAKEN * UNPACK_ELEMENT_BYTES };
    struct arena a;
    uint8_t *hostile = malloc(2 * HOSTILE);
    for (int i = 0; i < HOSTILE; i++) memcpy(hostile + 2 * i, (uint8_t[]){10, 0}, 2);
    ck_assert_ptr_null(unpack(&a, &varve__reassign__at_target__descriptor, (struct bytes){hostile, 2 * HOSTILE}, STRUCTS));
    ck_assert_uint_le(a.used_bytes, STRUCTS + 2 * HOSTILE);
    arena_free(&a);
    for (int i = 0; i < HOSTILE; i++) memcpy(hostile + 2 * i, (uint8_t[]){120, 1}, 2); /* fields that nobody knows */
    ck_assert_ptr_null(unpack(&a, &varve__reassign__at_target__descriptor, (struct bytes){hostile, 2 * HOSTILE}, STRUCTS));
    arena_free(&a);
    free(hostile);

    static const uint8_t topic[16] = {1};
    Varve__Reassign__AtTarget m = VARVE__REASSIGN__AT_TARGET__INIT;
    Varve__Reassign__AtTarget__Partition one = VARVE__REASSIGN__AT_TARGET__PARTITION__INIT, *list[TAKEN];
    one.topic_id = (ProtobufCBinaryData){sizeof topic, (uint8_t *)topic};
    one.partition = INT32_MAX;
    one.replicas_offset = UINT64_MAX;
    for (int i = 0; i < TAKEN; i++) list[i] = &one;
    m.partitions = list;
    m.n_partitions = TAKEN;
    uint8_t *packed = malloc(varve__reassign__at_target__get_packed_size(&m));
    size_t len = varve__reassign__at_target__pack(&m, packed);
    const Varve__Reassign__AtTarget *read = unpack(&a, &varve__reassign__at_target__descriptor, (struct bytes){packed, (int32_t)len}, STRUCTS);
    ck_assert(read && read->n_partitions == TAKEN && read->partitions[TAKEN - 1]->replicas_offset == UINT64_MAX);
    arena_free(&a);
    ck_assert_ptr_null(unpack(&a, &varve__reassign__at_target__descriptor, (struct bytes){packed, (int32_t)len - 1}, STRUCTS)); /* cut short */
    arena_free(&a);
    free(packed);
}
END_TEST

START_TEST(calls_to_an_address) {
    struct asked a, b;
    struct uuid cluster = {{5}};
    node_open(0, NULL);
    node_open(1, NULL);
    peer_set_cluster(&nodes[0].b, &cluster);
    call(&a, 1, 0, -1, PEER_CALL_PROBE, BYTES_NULL, 1000000000); /* a stranger may ask */
    call(&b, 1, 0, -1, PEER_CALL_PROBE, BYTES_NULL, 1000000000);
    RUN_UNTIL(a.done && b.done);
    ck_assert_int_eq(a.c.err, OK);
    ck_assert_int_eq(a.c.answered_by, 0);
    ck_assert(uuid_eq(&a.c.cluster_id, &cluster));
    free(a.answer);
    free(b.answer);
    RUN_UNTIL(list_empty(&nodes[1].b.reactors[0].peers->visits)); /* not kept for ever */
    int right = nodes[0].port;
    nodes[0].port = 1; /* nobody listens there */
    call(&a, 1, 0, -1, PEER_CALL_PROBE, BYTES_NULL, 1000000000);
    nodes[0].port = right;
    RUN_UNTIL(a.done);
    ck_assert_int_eq(a.c.err, ERR_CLOSED);
    free(a.answer);
}
END_TEST

START_TEST(calls_end_in_time) {
    struct asked a, b;
    two_connected();
    peer_serve(&nodes[0].b, PEER_CALL_FORM, serve_held);
    int64_t since = now_ns();
    call(&a, 1, 0, 0, PEER_CALL_FORM, BYTES_NULL, 100000000);
    RUN_UNTIL(a.done);
    ck_assert_int_eq(a.c.err, ERR_TIMEOUT);
    ck_assert_int_ge(now_ns() - since, 100000000);
    ck_assert_int_lt(now_ns() - since, 400000000);
    free(a.answer);
    peer_answer_send(nodes[0].held, BYTES_NULL); /* too late: dropped */
    run_for(20000000);
    ck_assert_int_eq(a.done, 1);
    /* Cancelled before the answer. */
    call(&a, 1, 0, 0, PEER_CALL_FORM, BYTES_NULL, 100000000);
    nodes[0].held = NULL;
    RUN_UNTIL(nodes[0].held);
    peer_call_cancel(&a.c);
    peer_answer_send(nodes[0].held, BYTES_NULL);
    run_for(200000000);
    ck_assert_int_eq(a.done, 0);
    /* The connection breaks. */
    nodes[0].held = NULL;
    call(&a, 1, 0, 0, PEER_CALL_FORM, BYTES_NULL, 10000000000);
    call(&b, 1, 1, 2, PEER_CALL_FORM, BYTES_NULL, 10000000000); /* nobody knows that node */
    RUN_UNTIL(nodes[0].held && b.done);
    ck_assert_int_eq(b.c.err, ERR_CLOSED);
    free(b.answer);
    node_close(0);
    RUN_UNTIL(a.done);
    ck_assert_int_eq(a.c.err, ERR_CLOSED);
    free(a.answer);
}
END_TEST

static uint32_t held_count;
static struct peer_answer *held_all[8];
static void serve_held_all(struct broker *b, struct peer_answer *a, struct bytes request) {
    (void)b, (void)request;
    held_all[held_count++] = a;
}

START_TEST(calls_that_wait_are_bounded) {
    struct asked asked[5];
    uint8_t *large = calloc(1, PEER_CALL_BYTES_MAX);
    two_connected();
    held_count = 0;
    peer_serve(&nodes[0].b, PEER_CALL_FORM, serve_held_all);
    for (uint32_t i = 0; i < 4; i++) {
        call(&asked[i], 1, 0, 0, PEER_CALL_FORM, (struct bytes){large, PEER_CALL_BYTES_MAX}, 60000000000);
        RUN_UNTIL(held_count == i + 1);
    }
    call(&asked[4], 1, 0, 0, PEER_CALL_FORM, (struct bytes){large, 1}, 60000000000);
    RUN_UNTIL(asked[4].done);
    ck_assert_int_eq(asked[4].c.err, ERR_FULL);
    free(asked[4].answer);
    for (uint32_t i = 0; i < 4; i++) peer_answer_send(held_all[i], BYTES_NULL);
    for (uint32_t i = 0; i < 4; i++) {
        RUN_UNTIL(asked[i].done);
        ck_assert_int_eq(asked[i].c.err, OK);
        free(asked[i].answer);
    }
    call(&asked[4], 1, 0, 0, PEER_CALL_FORM, (struct bytes){large, 1}, 60000000000); /* there is room again */
    RUN_UNTIL(held_count == 5);
    peer_answer_send(held_all[4], BYTES_NULL);
    RUN_UNTIL(asked[4].done);
    ck_assert_int_eq(asked[4].c.err, OK);
    free(asked[4].answer);
    free(large);
}
END_TEST

/* Nothing is said: it was refused, or not. */
static int raw_silent(const char *host) {
    raw_host = host;
    raw_connect();
    raw_host = "127.0.0.1";
    return raw.fd;
}
static void raw_turned_away(const char *host) {
    raw_silent(host);
    ck_assert_int_le(raw_op(IO_RECV, NULL, 0), 0);
    io_close(nodes[0].ios[0], raw.fd);
}

START_TEST(too_many_connections_are_refused) {
    node_open(0, NULL);
    int fds[PEER_GREETING_FROM_MAX];
    for (int i = 0; i < PEER_GREETING_FROM_MAX; i++) fds[i] = raw_silent("127.0.0.1");
    RUN_UNTIL(nodes[0].b.peers->greeting_count == PEER_GREETING_FROM_MAX);
    raw_turned_away("127.0.0.1");
    for (int i = 0; i < PEER_GREETING_FROM_MAX; i++) io_close(nodes[0].ios[0], fds[i]);
    RUN_UNTIL(nodes[0].b.peers->greeting_count == 0 && atomic_load(&nodes[0].b.peers->conn_count) == 0);
    raw_greeted();
    io_close(nodes[0].ios[0], raw.fd);
}
END_TEST

/* Who connects and says nothing has half of the places, and a broker elsewhere is heard; nobody has more than all of them. */
START_TEST(one_address_leaves_places_to_others) {
    node_open(0, "peer.listen=:7000\npeer.advertised=127.0.0.1:7000\nallow.insecure=true\n");
    nodes[0].port = 7000;
    int fds[PEER_GREETING_MAX];
    for (int i = 0; i < PEER_GREETING_FROM_MAX; i++) fds[i] = raw_silent("127.0.0.2");
    raw_turned_away("127.0.0.2");
    raw_greeted();
    io_close(nodes[0].ios[0], raw.fd);
    for (int i = PEER_GREETING_FROM_MAX; i < PEER_GREETING_MAX; i++) fds[i] = raw_silent("127.0.0.3");
    RUN_UNTIL(nodes[0].b.peers->greeting_count == PEER_GREETING_MAX);
    raw_turned_away("127.0.0.1");
    for (int i = 0; i < PEER_GREETING_MAX; i++) io_close(nodes[0].ios[0], fds[i]);
    RUN_UNTIL(nodes[0].b.peers->greeting_count == 0);
}
END_TEST

START_TEST(connections_of_one_address_are_bounded) {
    node_open(0, "peer.listen=:7000\npeer.advertised=127.0.0.1:7000\nallow.insecure=true\n");
    nodes[0].port = 7000;
    static int fds[PEER_CONNS_FROM_MAX];
    for (int i = 0; i < PEER_CONNS_FROM_MAX; i++) {
        raw_greeted();
        fds[i] = raw.fd;
    }
    raw_turned_away("127.0.0.1");
    int other = raw_silent("127.0.0.2");
    RUN_UNTIL(atomic_load(&nodes[0].b.peers->conn_count) == PEER_CONNS_FROM_MAX + 1);
    io_close(nodes[0].ios[0], other);
    io_close(nodes[0].ios[0], fds[0]); /* there is room again */
    RUN_UNTIL(atomic_load(&nodes[0].b.peers->conn_count) == PEER_CONNS_FROM_MAX - 1);
    raw_greeted();
    io_close(nodes[0].ios[0], raw.fd);
    for (int i = 1; i < PEER_CONNS_FROM_MAX; i++) io_close(nodes[0].ios[0], fds[i]);
    RUN_UNTIL(atomic_load(&nodes[0].b.peers->conn_count) == 0);
}
END_TEST

static void raw_hello(int32_t node) {
    uint8_t hello[512];
    raw_connect();
    raw_op(IO_SEND, hello, (uint32_t)hello_make(hello, node));
    ck_assert_int_gt(raw_op(IO_RECV, NULL, 0), PEER_HEAD_BYTES);
}

/* Whoever says any number of ids does not keep those out that the broker is told of, or that come later. */
START_TEST(strangers_leave_their_places) {
    node_open(0, NULL);
    const struct peers *p = nodes[0].b.peers;
    for (int32_t id = 100; id < 300; id++) {
        raw_hello(id);
        run_for(2000000);
        ck_assert_int_ge(peer_node_slot(p, id), 0);
        io_close(nodes[0].ios[0], raw.fd);
        RUN_UNTIL(atomic_load(&p->conn_count) == 0);
    }
    ck_assert_uint_le(p->node_count, 2);
    /* Whoever has such a place next is not taken for the stranger. */
    struct reactor *r = &nodes[0].b.reactors[0];
    struct uuid seen;
    int32_t idle = peer_node_slot(p, 299);
    ck_assert(idle >= 0 && peer_incarnation(r, 299, &seen) && peer_silence_ns(r, 299) < INT64_MAX);
    ck_assert_int_eq(peer_set_node(&nodes[0].b, 40, "127.0.0.1", 1), OK);
    ck_assert_int_eq(peer_node_slot(p, 40), idle);
    ck_assert(!peer_incarnation(r, 40, &seen));
    ck_assert(peer_silence_ns(r, 40) == INT64_MAX);
    int fds[PEER_STRANGERS_MAX]; /* who stays connected keeps its place; there are only so many */
    for (int i = 0; i < PEER_STRANGERS_MAX; i++) {
        raw_hello(100 + i);
        fds[i] = raw.fd;
    }
    raw_connect();
    uint8_t hello[512];
    raw_refused(hello, hello_make(hello, 99));
    ck_assert_int_lt(peer_node_slot(p, 99), 0);
    for (int32_t id = 1; id <= 29; id++) ck_assert_int_eq(peer_set_node(&nodes[0].b, id, "127.0.0.1", 1), OK);
    ck_assert_int_eq(peer_set_node(&nodes[0].b, 100, "127.0.0.1", 1), OK); /* one of them is known now: there is room for another */
    raw_hello(99);
    run_for(2000000);
    ck_assert_int_ge(peer_node_slot(p, 99), 0);
    io_close(nodes[0].ios[0], raw.fd);
    for (int i = 0; i < PEER_STRANGERS_MAX; i++) {
        ck_assert_int_ge(peer_node_slot(p, 100 + i), 0);
        io_close(nodes[0].ios[0], fds[i]);
    }
    RUN_UNTIL(atomic_load(&p->conn_count) == 0);
}
END_TEST

static int run(enum backend with) {
    static const char *const names[] = {"peers, simulated", "peers on io_uring", "peers on blocking I/O"};
    backend = with;
    if (with != SIMULATED) port_base = REAL_PORT + (int)(getpid() % 99) * 100;
    Suite *s = suite_create(names[with]);
    TCase *t = tcase_create(names[with]);
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, setup, teardown);
    bool all = with == SIMULATED; /* on real sockets only what they may do otherwise */
    tcase_add_test(t, messages_arrive_in_order_and_whole);
    tcase_add_test(t, members_of_later_lives_are_told_apart);
    if (all) tcase_add_test(t, all_kinds_of_messages);
    tcase_add_test(t, slices_are_given_back);
    if (all) tcase_add_test(t, a_turn_is_one_frame);
    if (all) tcase_add_test(t, leader_reports);
    tcase_add_test(t, a_broker_that_ends_is_lost_at_once_and_found_again);
    tcase_add_test(t, a_refused_connection_is_noticed);
    tcase_add_test(t, who_is_silent_is_lost);
    if (all) tcase_add_test(t, idle_connections_stay);
    if (all) tcase_add_test(t, an_address_may_change);
    if (all) tcase_add_test(t, other_clusters_are_refused);
    if (all) tcase_add_test(t, another_node_at_the_address_is_refused);
    tcase_add_test(t, garbage_closes_the_connection);
    if (all) tcase_add_test(t, garbage_after_the_hello_closes_the_connection);
    tcase_add_test(t, who_does_not_read_costs_bounded_memory);
    if (all) tcase_add_test(t, what_waits_for_another_reactor_is_bounded);
    tcase_add_test(t, a_batch_larger_than_a_frame_travels_alone);
    tcase_add_test(t, calls_are_answered);
    if (all) tcase_add_test(t, what_a_call_carries_is_bounded);
    if (all) tcase_add_test(t, calls_to_an_address);
    tcase_add_test(t, calls_end_in_time);
    if (all) tcase_add_test(t, calls_that_wait_are_bounded);
    tcase_add_test(t, too_many_connections_are_refused);
    if (all) tcase_add_test(t, one_address_leaves_places_to_others);
    if (all) tcase_add_test(t, connections_of_one_address_are_bounded);
    if (all) tcase_add_test(t, strangers_leave_their_places);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed;
}

int main(void) {
    char why[256];
    struct io_config config = {0};
    struct io *probe = io_uring_create(&config, why, sizeof why);
    if (!probe) printf("SKIP io_uring: %s\n", why);
    io_destroy(probe);
    int failed = run(SIMULATED);
    if (probe) failed += run(URING);
    failed += run(BLOCKING);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
