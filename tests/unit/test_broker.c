/* Brokers as values, in one thread: start, limits, refusals, clean stop and restart.
 * Everything runs on the blocking I/O and, where the kernel offers it, on io_uring. */
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "proto/kafka_messages.h"
#include "server/acceptor.h"
#include "server/reactor.h"

enum { REACTORS = 2, TURNS_MAX = 20000 };

struct node {
    struct broker b;
    struct io *ios[REACTORS];
    struct log_recovery rec;
    bool ready;
    enum err err;
    char why[512];
    uint16_t port;
};

static char folder[64];

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st, (void)type, (void)ftw;
    return remove(path);
}
static void set_up(void) {
    strcpy(folder, "/tmp/varve-test-broker-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
}
static void tear_down(void) { nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS); }

static bool on_uring;

static struct io *io_new(void) {
    char why[256];
    struct io_config config = {.pooled_recv_buffers = 8};
    struct io *io = (on_uring ? io_uring_create : io_blocking_create)(&config, why, sizeof why);
    ck_assert_ptr_nonnull(io);
    return io;
}

static void on_ready(void *ctx, enum err err, const char *why) {
    struct node *n = ctx;
    n->ready = true;
    n->err = err;
    if (err != OK) snprintf(n->why, sizeof n->why, "%s", why);
}

static void turn(struct node *n) {
    for (int i = 0; i < REACTORS; i++) reactor_turn(&n->b.reactors[i], n->b.reactors[i].now_ns + (i ? 0 : 500000));
}

/* Opens a broker in `dir` on `port` (0: any) with more settings "key=value". Not ready yet when it returns OK. */
static enum err node_open(struct node *n, const char *dir, unsigned port, const char *const *settings) {
    struct config config;
    char text[512];
    struct config_builder *b = config_builder_new();
    memset(n, 0, sizeof *n);
    snprintf(text, sizeof text, "log.dirs=%s\nlisteners=127.0.0.1:%u\nreactors=%d\njournal.bytes=8388608\ntail.bytes=1048576\n"
             "disk.reserve.bytes=0\nshutdown.timeout.ms=2000\n", dir, port, REACTORS);
    enum err err = config_add_properties(b, "test", text, strlen(text), n->why, sizeof n->why);
    for (; err == OK && settings && *settings; settings++)
        err = config_add_properties(b, "setting", *settings, strlen(*settings), n->why, sizeof n->why);
    if (err == OK) err = config_finish(b, &config, n->why, sizeof n->why);
    config_builder_free(b);
    ck_assert_msg(err == OK, "%s", n->why);
    ck_assert_int_eq(broker_init(&n->b, &config), OK);
    for (int i = 0; i < REACTORS; i++) {
        n->ios[i] = io_new();
        ck_assert_int_eq(reactor_init(&n->b.reactors[i], n->ios[i]), OK);
    }
    return broker_open(&n->b, &n->rec, n->why, sizeof n->why);
}

static void node_start(struct node *n) {
    broker_start(&n->b, &n->rec, on_ready, n);
    for (int i = 0; i < TURNS_MAX && !n->ready; i++) turn(n);
    ck_assert(n->ready);
    if (n->err == OK) n->port = ntohs(((struct sockaddr_in *)(void *)&broker_acceptor(&n->b)->listeners[0].addr)->sin_port);
}

static void node_close(struct node *n) {
    for (int i = 0; i < REACTORS; i++) reactor_close(&n->b.reactors[i]);
    broker_close(&n->b);
    for (int i = 0; i < REACTORS; i++) io_destroy(n->ios[i]);
}

static void node_stop(struct node *n) {
    broker_stop(&n->b);
    for (int i = 0; i < TURNS_MAX && !broker_ended(&n->b); i++) turn(n);
    ck_assert(broker_ended(&n->b));
    ck_assert(broker_clean(&n->b));
    node_close(n);
}

static void node_run(struct node *n, const char *dir, const char *const *settings) {
    enum err err = node_open(n, dir, 0, settings);
    ck_assert_msg(err == OK, "%s", n->why);
    node_start(n);
    ck_assert_msg(n->err == OK, "%s", n->why);
}

/* ---- a client in the same thread ------------------------------------------------------------ */

static int client_connect(struct node *n) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(n->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&to, sizeof to), 0); /* the kernel takes it before the broker does */
    fcntl(fd, F_SETFL, O_NONBLOCK);
    for (int i = 0; i < 5; i++) turn(n);
    return fd;
}

/* 1: a byte came, 0: the end, -1: nothing within many turns. */
static int client_get(struct node *n, int fd, void *p, size_t len) {
    size_t got = 0;
    for (int i = 0; i < 4000; i++) {
        ssize_t r = read(fd, (char *)p + got, len - got);
        if (r == 0 || (r < 0 && errno != EAGAIN)) return 0;
        if (r > 0) got += (size_t)r;
        if (got == len) return 1;
        turn(n);
    }
    return -1;
}

static void client_send(struct wire_writer *w, int fd) {
    wire_patch_i32(w, 0, (int32_t)(w->len - 4));
    ck_assert_int_eq(w->err, OK);
    ck_assert_int_eq(write(fd, w->data, w->len), (ssize_t)w->len);
    wire_writer_free(w);
}

static void request_begin(struct wire_writer *w, int16_t key, int16_t version) {
    struct kafka_request_header h = {key, version, 42, STR_LIT("test")};
    wire_writer_init(w, 1 << 20);
    wire_put_i32(w, 0);
    kafka_request_header_write(w, &h);
}

/* The response's body into `buf`; its length. */
static size_t client_answer(struct node *n, int fd, uint8_t *buf, size_t cap) {
    uint8_t head[8];
    ck_assert_int_eq(client_get(n, fd, head, 8), 1);
    ck_assert_uint_eq(load_be32(head + 4), 42);
    size_t len = load_be32(head) - 4;
    ck_assert_uint_le(len, cap);
    ck_assert_int_eq(client_get(n, fd, buf, len), 1);
    return len;
}

static void ask_metadata(int fd, const char *topic) {
    struct wire_writer w;
    struct k_metadata_request m;
    struct k_metadata_request_topics t;
    k_metadata_request_init(&m);
    k_metadata_request_topics_init(&t);
    t.name = str_from(topic);
    m.topics = &t;
    m.topics_n = topic ? 1 : 0;
    m.allow_auto_topic_creation = true;
    request_begin(&w, 3, 4);
    k_metadata_request_encode(&m, &w, 4);
    client_send(&w, fd);
}

/* ---- tests ---------------------------------------------------------------------------------- */

START_TEST(starts_answers_and_stops_cleanly) {
    struct node n;
    uint8_t buf[65536];
    node_run(&n, folder, NULL);
    ck_assert(n.rec.fresh);
    int fd = client_connect(&n);
    ask_metadata(fd, NULL);
    size_t len = client_answer(&n, fd, buf, sizeof buf);
    struct arena arena;
    arena_init(&arena, 1 << 20);
    struct wire_reader r = wire_reader_init(buf, len, &arena);
    struct k_metadata_response m;
    ck_assert_int_eq(k_metadata_response_decode(&m, &r, 4), OK);
    ck_assert_int_eq(m.brokers_n, 1);
    ck_assert(str_is(m.brokers[0].host, "127.0.0.1"));
    ck_assert_int_eq(m.brokers[0].port, n.port);
    ck_assert_int_eq(m.controller_id, 1);
    arena_free(&arena);
    node_stop(&n);
    char byte;
    ck_assert_int_eq(read(fd, &byte, 1), 0);
    close(fd);
}
END_TEST

START_TEST(restarts_on_its_data) {
    struct node n;
    uint8_t buf[65536];
    for (int life = 0; life < 3; life++) {
        node_run(&n, folder, NULL);
        ck_assert(n.rec.fresh == (life == 0));
        if (life > 0) ck_assert(n.rec.clean);
        int fd = client_connect(&n);
        int16_t error = -1;
        for (int i = 0; i < 20000 && error != 0; i++) { /* the first life creates it; later ones know it */
            struct arena arena;
            ask_metadata(fd, "kept");
            size_t len = client_answer(&n, fd, buf, sizeof buf);
            arena_init(&arena, 1 << 20);
            struct wire_reader r = wire_reader_init(buf, len, &arena);
            struct k_metadata_response m;
            ck_assert_int_eq(k_metadata_response_decode(&m, &r, 4), OK);
            ck_assert_int_eq(m.topics_n, 1);
            error = m.topics[0].error_code;
            if (life > 0) ck_assert_int_eq(error, 0);
            arena_free(&arena);
        }
        ck_assert_int_eq(error, 0);
        close(fd);
        node_stop(&n);
    }
}
END_TEST

START_TEST(two_brokers_in_one_process) {
    struct node a, b;
    uint8_t buf[65536];
    char dir_a[128], dir_b[128];
    snprintf(dir_a, sizeof dir_a, "%s/a/deep", folder);
    snprintf(dir_b, sizeof dir_b, "%s/b", folder);
    node_run(&a, dir_a, NULL);
    node_run(&b, dir_b, NULL);
    ck_assert(!uuid_eq(&a.b.cluster_id, &b.b.cluster_id));
    int fa = client_connect(&a), fb = client_connect(&b);
    ask_metadata(fa, NULL);
    ask_metadata(fb, NULL);
    (void)client_answer(&a, fa, buf, sizeof buf);
    (void)client_answer(&b, fb, buf, sizeof buf);
    close(fa);
    close(fb);
    node_stop(&a);
    node_stop(&b);
}
END_TEST

START_TEST(a_directory_has_one_broker) {
    struct node a, b;
    node_run(&a, folder, NULL);
    ck_assert_int_eq(node_open(&b, folder, 0, NULL), ERR_BUSY);
    ck_assert_msg(strstr(b.why, folder) != NULL, "%s", b.why);
    node_close(&b);
    node_stop(&a);
}
END_TEST

START_TEST(a_port_has_one_broker) {
    struct node a, b;
    char dir[128];
    snprintf(dir, sizeof dir, "%s/b", folder);
    node_run(&a, folder, NULL);
    ck_assert_int_eq(node_open(&b, dir, a.port, NULL), OK);
    node_start(&b);
    ck_assert_int_eq(b.err, ERR_BUSY);
    ck_assert_msg(strstr(b.why, "another process listens there") != NULL, "%s", b.why);
    node_stop(&b);
    node_stop(&a);
}
END_TEST

START_TEST(another_node_id_is_refused) {
    struct node n;
    const char *second[] = {"node.id=2", NULL};
    node_run(&n, folder, NULL);
    node_stop(&n);
    ck_assert_int_ne(node_open(&n, folder, 0, second), OK);
    ck_assert_msg(strstr(n.why, "node") != NULL, "%s", n.why);
    node_close(&n);
}
END_TEST

static void connections_limited(const char *setting) {
    struct node n;
    const char *settings[] = {setting, NULL};
    uint8_t buf[65536], byte;
    int fds[4];
    node_run(&n, folder, settings);
    for (int i = 0; i < 4; i++) fds[i] = client_connect(&n);
    ck_assert_int_eq(client_get(&n, fds[3], &byte, 1), 0); /* closed */
    for (int i = 0; i < 3; i++) {
        ask_metadata(fds[i], NULL);
        (void)client_answer(&n, fds[i], buf, sizeof buf);
    }
    close(fds[0]); /* makes room for another */
    for (int i = 0; i < 50; i++) turn(&n);
    int again = client_connect(&n);
    ask_metadata(again, NULL);
    (void)client_answer(&n, again, buf, sizeof buf);
    close(again);
    for (int i = 1; i < 4; i++) close(fds[i]);
    node_stop(&n);
}

START_TEST(connections_are_limited) { connections_limited("max.connections=3"); }
END_TEST
START_TEST(connections_from_one_address_are_limited) { connections_limited("max.connections.per.ip=3"); }
END_TEST
START_TEST(connections_from_a_named_address_are_limited) { connections_limited("max.connections.per.ip.overrides=::1:1000,127.0.0.1:3"); }
END_TEST

START_TEST(stopping_at_once_after_start) {
    struct node n;
    ck_assert_int_eq(node_open(&n, folder, 0, NULL), OK);
    broker_stop(&n.b); /* before it is ready */
    broker_start(&n.b, &n.rec, on_ready, &n);
    for (int i = 0; i < TURNS_MAX && !broker_ended(&n.b); i++) turn(&n);
    ck_assert(broker_ended(&n.b));
    node_close(&n);
    node_run(&n, folder, NULL);
    node_stop(&n);
}
END_TEST

/* What the client is told depends on the listener that it came through. */
START_TEST(advertised_addresses) {
    static const struct { const char *listeners, *advertised, *host; int32_t port; } cases[] = {
        {"listeners=127.0.0.1:0", "", "127.0.0.1", 0},
        {"listeners=localhost:0", "", "localhost", 0},
        {"listeners=:0", "", "127.0.0.1", 0},
        {"listeners=:0", "advertised.listeners=PLAINTEXT://broker.example:7777", "broker.example", 7777},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct node n;
        uint8_t buf[65536];
        const char *settings[] = {"allow.insecure=true", cases[i].listeners, cases[i].advertised, NULL};
        node_run(&n, folder, settings);
        int fd = client_connect(&n);
        ask_metadata(fd, NULL);
        size_t len = client_answer(&n, fd, buf, sizeof buf);
        struct arena arena;
        arena_init(&arena, 1 << 20);
        struct wire_reader r = wire_reader_init(buf, len, &arena);
        struct k_metadata_response m;
        ck_assert_int_eq(k_metadata_response_decode(&m, &r, 4), OK);
        ck_assert_msg(str_is(m.brokers[0].host, cases[i].host), "%.*s", (int)m.brokers[0].host.len, m.brokers[0].host.p);
        ck_assert_int_eq(m.brokers[0].port, cases[i].port ? cases[i].port : n.port);
        arena_free(&arena);
        close(fd);
        node_stop(&n);
    }
}
END_TEST

static TCase *tests(const char *name) {
    TCase *t = tcase_create(name);
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, starts_answers_and_stops_cleanly);
    tcase_add_test(t, restarts_on_its_data);
    tcase_add_test(t, two_brokers_in_one_process);
    tcase_add_test(t, a_directory_has_one_broker);
    tcase_add_test(t, a_port_has_one_broker);
    tcase_add_test(t, another_node_id_is_refused);
    tcase_add_test(t, connections_are_limited);
    tcase_add_test(t, connections_from_one_address_are_limited);
    tcase_add_test(t, connections_from_a_named_address_are_limited);
    tcase_add_test(t, stopping_at_once_after_start);
    tcase_add_test(t, advertised_addresses);
    return t;
}

static int run(bool uring) {
    on_uring = uring;
    Suite *s = suite_create(uring ? "broker on io_uring" : "broker on blocking I/O");
    suite_add_tcase(s, tests(uring ? "io_uring" : "blocking"));
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed;
}

int main(void) {
    char why[256];
    struct io_config config = {0};
    int failed = run(false);
    struct io *probe = io_uring_create(&config, why, sizeof why);
    if (!probe) printf("SKIP io_uring: %s\n", why);
    io_destroy(probe);
    if (probe) failed += run(true);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
