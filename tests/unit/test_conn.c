/* Connections over real sockets and a table of fake APIs: framing at every byte, pipelining, order of
 * responses, limits, deadlines and ends. Time is the reactor's `now_ns`, moved by the tests.
 * Everything runs on the blocking I/O and, where the kernel offers it, on io_uring. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "server/conn.h"
#include "server/conn_impl.h"
#include "server/reactor.h"
#include "server/request.h"

/* ---- the APIs: Produce echoes what it got, some later or never; ApiVersions and Fetch too --------- */

enum { KEY_PRODUCE = 0, KEY_FETCH = 1, KEY_METADATA = 3, KEY_API_VERSIONS = 18 };

static struct { struct request *held[1024]; unsigned count, started, hurried; bool hold; uint32_t reply_bytes; char order[4096]; } api;

static void reply(struct request *rq) {
    struct wire_writer *w = request_reply_begin(rq);
    size_t left = wire_left(&rq->body);
    const uint8_t *body = wire_skip(&rq->body, left);
    wire_put_raw(w, body, left);
    if (api.reply_bytes) {
        uint8_t *fill = calloc(1, api.reply_bytes);
        wire_put_raw(w, fill, api.reply_bytes);
        free(fill);
    }
    request_reply(rq);
}

static void hurried(struct request *rq) {
    api.hurried++;
    if (api.hold) return; /* it cannot yet */
    reply(rq);
}

/* The body's first byte says what to do: 'h' hold, 'p' put off until others wait, 's' silently, 'c' close, 'a' close after, 't' leave bytes. */
static void handle(struct request *rq) {
    char what = wire_left(&rq->body) ? (char)*rq->body.p : 0;
    api.order[api.started++] = what;
    if (what == 'h') api.held[api.count++] = rq;
    else if (what == 'p') rq->hurry = hurried;
    else if (what == 's') request_finish_silently(rq);
    else if (what == 'c') request_close(rq, "the test says so");
    else if (what == 't') {
        request_reply_begin(rq);
        request_reply(rq);
    } else {
        rq->close_after = what == 'a';
        reply(rq);
    }
}

static const struct api apis[] = {
    {KEY_PRODUCE, 3, 9, 0, handle, false}, {KEY_FETCH, 4, 12, 4, handle, false}, {KEY_METADATA, 0, 8, 0, handle, false}, {KEY_API_VERSIONS, 0, 4, 0, handle, false}};
const struct api *api_find(int16_t key) {
    for (size_t i = 0; i < ARRAY_LEN(apis); i++)
        if (apis[i].key == key) return &apis[i];
    return NULL;
}
const struct api *api_table(size_t *count) {
    *count = ARRAY_LEN(apis);
    return apis;
}

/* ---- the world ---------------------------------------------------------------------------- */

static struct broker broker;
static struct reactor reactor;
static unsigned tickets_closed;

static void closed(struct conn_ticket *t) {
    tickets_closed++;
    free(t);
}

static bool on_uring;

static void set_up(void) {
    char why[256];
    struct io_config config = {.pooled_recv_buffers = 8};
    memset(&broker, 0, sizeof broker);
    memset(&reactor, 0, sizeof reactor);
    memset(&api, 0, sizeof api);
    tickets_closed = 0;
    ck_assert_int_eq(config_defaults(&broker.config), OK);
    broker.config.reactors = 1;
    reactor.broker = &broker;
    reactor.io = (on_uring ? io_uring_create : io_blocking_create)(&config, why, sizeof why);
    ck_assert_ptr_nonnull(reactor.io);
    mailbox_init(&reactor.mailbox, reactor.io);
    timers_init(&reactor.timers);
    reactor.now_ns = io_mono_ns(reactor.io);
}

/* After the configuration was changed. */
static void begin(void) {
    reactor.conns = conn_set_new(&reactor);
    ck_assert_ptr_nonnull(reactor.conns);
    conn_set_on_closed(reactor.conns, closed);
}

static void turn(int64_t wait_ns) {
    if (conn_set_turn(reactor.conns)) wait_ns = 0;
    ck_assert_int_ge(io_turn(reactor.io, io_mono_ns(reactor.io) + wait_ns), 0);
    timers_run(&reactor.timers, reactor.now_ns);
    while (conn_set_turn(reactor.conns)) {}
}

static void settle(void) {
    for (int i = 0; i < 20; i++) turn(1000000);
}

static void pass_ms(int64_t ms) { /* in steps, so that re-armed timers fire too */
    for (int64_t step = 0; step < 20; step++) {
        reactor.now_ns += ms * 1000000 / 20;
        turn(0);
    }
    settle();
}

static void tear_down(void) {
    for (unsigned i = 0; i < api.count; i++)
        if (api.held[i]) reply(api.held[i]);
    conn_set_shut(reactor.conns);
    for (int i = 0; i < 2000 && conn_set_count(reactor.conns) > 0; i++) turn(1000000);
    ck_assert_uint_eq(conn_set_count(reactor.conns), 0);
    ck_assert_uint_eq(conn_set_requests(reactor.conns), 0);
    conn_set_free(reactor.conns);
    timers_free(&reactor.timers);
    io_destroy(reactor.io);
    config_free(&broker.config);
}

static int connect_client(void) {
    int fds[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    for (int i = 0; i < 2; i++) fcntl(fds[i], F_SETFL, O_NONBLOCK);
    struct conn_ticket *t = calloc(1, sizeof *t);
    t->fd = fds[1];
    t->home = &reactor;
    conn_start(reactor.conns, t);
    turn(0);
    return fds[0];
}

static void send_all(int fd, const void *p, size_t len) {
    const char *at = p;
    for (int stuck = 0; len > 0;) {
        ssize_t n = write(fd, at, len);
        if (n > 0) {
            at += n;
            len -= (size_t)n;
            stuck = 0;
        } else {
            ck_assert_int_eq(errno, EAGAIN);
            ck_assert_int_lt(stuck++, 5000);
        }
        turn(0);
        if (n <= 0) turn(1000000);
    }
}

/* Reads `len` bytes, turning meanwhile. Returns what came before the end or a long silence. */
static size_t receive(int fd, void *p, size_t len) {
    size_t got = 0;
    for (int silent = 0; got < len && silent < 1000;) {
        ssize_t n = read(fd, (char *)p + got, len - got);
        if (n == 0 || (n < 0 && errno != EAGAIN)) break;
        if (n > 0) got += (size_t)n;
        silent = n > 0 ? 0 : silent + 1;
        turn(n > 0 ? 0 : 1000000);
    }
    return got;
}

static bool at_end(int fd) {
    char c;
    for (int i = 0; i < 1000; i++) {
        ssize_t n = read(fd, &c, 1);
        if (n == 0 || (n < 0 && errno != EAGAIN)) return true;
        if (n > 0) return false;
        turn(1000000);
    }
    return false;
}

/* A frame: size, header v1 (v0 of ours is never flexible at these versions), body. Returns its length. */
static size_t frame(uint8_t *out, int16_t key, int16_t version, int32_t id, const void *body, size_t len) {
    store_be32(out, (uint32_t)(10 + len));
    store_be16(out + 4, (uint16_t)key);
    store_be16(out + 6, (uint16_t)version);
    store_be32(out + 8, (uint32_t)id);
    store_be16(out + 12, 0); /* client id "" */
    memcpy(out + 14, body, len);
    return 14 + len;
}

static int32_t next_id(int fd, uint8_t *body, size_t cap, size_t *len) {
    uint8_t head[8];
    if (receive(fd, head, 8) != 8) return -1;
    size_t n = load_be32(head) - 4;
    if (len) *len = n;
    ck_assert_uint_le(n, cap);
    ck_assert_uint_eq(receive(fd, body, n), n);
    return (int32_t)load_be32(head + 4);
}

/* ---- tests -------------------------------------------------------------------------------- */

START_TEST(split_at_every_byte) {
    uint8_t in[256], body[64];
    size_t len = frame(in, KEY_PRODUCE, 3, 1, "hello", 5), n;
    in[14] = 'x';
    len += frame(in + len, KEY_PRODUCE, 3, 2, "world", 5);
    begin();
    for (size_t cut = 0; cut <= len; cut++) {
        int fd = connect_client();
        send_all(fd, in, cut);
        settle();
        send_all(fd, in + cut, len - cut);
        ck_assert_int_eq(next_id(fd, body, sizeof body, &n), 1);
        ck_assert(n == 5 && memcmp(body, "xello", 5) == 0);
        ck_assert_int_eq(next_id(fd, body, sizeof body, &n), 2);
        ck_assert(n == 5 && memcmp(body, "world", 5) == 0);
        close(fd);
    }
    for (size_t i = 0; i < 1; i++) { /* and one byte at a time */
        int fd = connect_client();
        for (size_t at = 0; at < len; at++) send_all(fd, in + at, 1);
        ck_assert_int_eq(next_id(fd, body, sizeof body, &n), 1);
        ck_assert_int_eq(next_id(fd, body, sizeof body, &n), 2);
        close(fd);
    }
}
END_TEST

START_TEST(responses_leave_in_request_order) {
    uint8_t in[4096], body[64];
    size_t len = 0;
    begin();
    int fd = connect_client();
    for (int32_t i = 0; i < 20; i++) len += frame(in + len, KEY_PRODUCE, 3, i, i % 2 ? "x" : "h", 1);
    send_all(fd, in, len);
    settle();
    ck_assert_uint_eq(api.started, 20); /* all in work at once */
    char c;
    ck_assert_int_eq(read(fd, &c, 1), -1); /* the first one is not done */
    for (unsigned i = api.count; i-- > 0;) {
        reply(api.held[i]);
        api.held[i] = NULL;
        if (i > 0) {
            settle();
            ck_assert_int_eq(read(fd, &c, 1), -1);
        }
    }
    for (int32_t i = 0; i < 20; i++) ck_assert_int_eq(next_id(fd, body, sizeof body, NULL), i);
    close(fd);
}
END_TEST

START_TEST(others_wait_for_those_before_and_hold_back_those_behind) {
    uint8_t in[512], body[64];
    size_t len = frame(in, KEY_PRODUCE, 3, 1, "h", 1);
    len += frame(in + len, KEY_METADATA, 1, 2, "h", 1);
    len += frame(in + len, KEY_PRODUCE, 3, 3, "x", 1);
    begin();
    int fd = connect_client();
    send_all(fd, in, len);
    settle();
    ck_assert_uint_eq(api.started, 1);
    reply(api.held[0]);
    api.held[0] = NULL;
    settle();
    ck_assert_uint_eq(api.started, 2);
    ck_assert_int_eq(next_id(fd, body, sizeof body, NULL), 1);
    reply(api.held[1]);
    api.held[1] = NULL;
    ck_assert_int_eq(next_id(fd, body, sizeof body, NULL), 2);
    ck_assert_int_eq(next_id(fd, body, sizeof body, NULL), 3);
    close(fd);
}
END_TEST

START_TEST(who_waits_and_need_not_holds_nobody_up) {
    uint8_t in[512], body[64];
    begin();
    int fd = connect_client();
    send_all(fd, in, frame(in, KEY_PRODUCE, 3, 1, "h", 1));
    send_all(fd, in, frame(in, KEY_METADATA, 1, 2, "p", 1)); /* waits for the one before it, which has no answer yet */
    settle();
    ck_assert(api.started == 1 && api.hurried == 0);
    reply(api.held[0]);
    api.held[0] = NULL;
    ck_assert_int_eq(next_id(fd, body, sizeof body, NULL), 1);
    settle();
    ck_assert(api.started == 2 && api.hurried == 0); /* nobody is behind it */
    size_t len = frame(in, KEY_PRODUCE, 3, 3, "x", 1);
    send_all(fd, in, len - 1);
    settle();
    ck_assert_uint_eq(api.hurried, 0); /* not quite */
    send_all(fd, in + len - 1, 1);
    for (int32_t id = 2; id <= 3; id++) ck_assert_int_eq(next_id(fd, body, sizeof body, NULL), id);
    ck_assert_uint_eq(api.hurried, 1);

    len = frame(in, KEY_METADATA, 1, 4, "p", 1); /* those behind it came with it */
    len += frame(in + len, KEY_METADATA, 1, 5, "p", 1);
    len += frame(in + len, KEY_FETCH, 4, 6, "x", 1);
    send_all(fd, in, len);
    for (int32_t id = 4; id <= 6; id++) ck_assert_int_eq(next_id(fd, body, sizeof body, NULL), id);
    ck_assert_uint_eq(api.hurried, 3);
    close(fd);
}
END_TEST

START_TEST(who_waits_is_told_once) {
    uint8_t in[512];
    api.hold = true;
    begin();
    int fd = connect_client();
    size_t len = frame(in, KEY_METADATA, 1, 1, "p", 1);
    for (int32_t id = 2; id <= 4; id++) len += frame(in + len, KEY_METADATA, 1, id, "x", 1);
    send_all(fd, in, len);
    settle();
    ck_assert(api.started == 1 && api.hurried == 1);
    struct conn *c = LIST_ENTRY(reactor.conns->conns.next, struct conn, link);
    reply(LIST_ENTRY(c->requests.next, struct request, link));
    uint8_t body[64];
    for (int32_t id = 1; id <= 4; id++) ck_assert_int_eq(next_id(fd, body, sizeof body, NULL), id);
    ck_assert_uint_eq(api.hurried, 1);
    close(fd);
}
END_TEST

START_TEST(silent_requests_take_no_place) {
    uint8_t in[512], body[64];
    size_t len = frame(in, KEY_PRODUCE, 3, 1, "s", 1);
    len += frame(in + len, KEY_PRODUCE, 3, 2, "x", 1);
    len += frame(in + len, KEY_PRODUCE, 3, 3, "s", 1);
    len += frame(in + len, KEY_PRODUCE, 3, 4, "x", 1);
    begin();
    int fd = connect_client();
    send_all(fd, in, len);
    ck_assert_int_eq(next_id(fd, body, sizeof body, NULL), 2);
    ck_assert_int_eq(next_id(fd, body, sizeof body, NULL), 4);
    settle();
    ck_assert_uint_eq(conn_set_requests(reactor.conns), 0);
    close(fd);
}
END_TEST

START_TEST(large_frames_and_responses) {
    static const size_t sizes[] = {16370, 16371, 16384, 65536, 1048576, 1048577, 5000000};
    begin();
    for (size_t s = 0; s < ARRAY_LEN(sizes); s++) {
        size_t n, size = sizes[s], small;
        uint8_t *payload = malloc(size), *in = malloc(2 * size + 64), *out = malloc(size + 64), tiny[16];
        for (size_t i = 0; i < size; i++) payload[i] = (uint8_t)(i * 7 + i / 251);
        payload[0] = 'x';
        size_t len = frame(in, KEY_PRODUCE, 3, 1, payload, size);
        len += frame(in + len, KEY_PRODUCE, 3, 2, "x", 1);
        int fd = connect_client();
        size_t sent = 0, got = 0, want = size + 8 + 9;
        for (int silent = 0; got < want && silent < 2000; silent++) { /* both ways at once: sockets hold little */
            ssize_t w = sent < len ? write(fd, in + sent, len - sent) : 0;
            if (w > 0) sent += (size_t)w;
            ssize_t r = read(fd, got < size + 8 ? out + got : tiny, got < size + 8 ? size + 8 - got : want - got);
            ck_assert_int_ne(r, 0);
            if (r > 0) got += (size_t)r;
            if (w > 0 || r > 0) silent = 0;
            turn(w > 0 || r > 0 ? 0 : 1000000);
        }
        ck_assert_uint_eq(got, want);
        n = load_be32(out) - 4;
        small = memcmp(out + 8, payload, size);
        ck_assert(n == size && small == 0);
        close(fd);
        free(payload);
        free(in);
        free(out);
    }
}
END_TEST

START_TEST(bad_frame_sizes_close) {
    static const uint32_t sizes[] = {0, 1, 3, 7, 0xffffffffu, 0x80000000u, 0x7fffffffu, 104857601u, 0x16030100u};
    begin();
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        uint8_t in[4];
        store_be32(in, sizes[i]);
        int fd = connect_client();
        send_all(fd, in, 4);
        ck_assert_msg(at_end(fd), "size %u", sizes[i]);
        close(fd);
    }
    settle();
    ck_assert_uint_eq(conn_set_stats(reactor.conns)->refused_frames, ARRAY_LEN(sizes));
    ck_assert_uint_eq(api.started, 0);
}
END_TEST

START_TEST(what_is_not_served_closes) {
    static const struct { int16_t key, version; } bad[] = {
        {999, 0}, {-1, 0}, {KEY_PRODUCE, 2}, {KEY_PRODUCE, 10}, {KEY_PRODUCE, -1}, {KEY_FETCH, 3}, {2, 1}};
    uint8_t in[64], body[64];
    begin();
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        size_t len = frame(in, bad[i].key, bad[i].version, 1, "x", 1);
        int fd = connect_client();
        send_all(fd, in, len);
        ck_assert_msg(at_end(fd), "key %d version %d", bad[i].key, bad[i].version);
        close(fd);
    }
    ck_assert_uint_eq(api.started, 0);
    int fd = connect_client(); /* ApiVersions answers for itself */
    send_all(fd, in, frame(in, KEY_API_VERSIONS, 99, 7, "\0x", 2));
    ck_assert_int_eq(next_id(fd, body, sizeof body, NULL), 7);
    close(fd);
    fd = connect_client(); /* client id longer than the frame */
    size_t len = frame(in, KEY_PRODUCE, 3, 1, "x", 1);
    store_be16(in + 12, 500);
    send_all(fd, in, len);
    ck_assert(at_end(fd));
    close(fd);
}
END_TEST

START_TEST(handlers_may_close) {
    uint8_t in[128], body[64];
    begin();
    int fd = connect_client();
    size_t len = frame(in, KEY_PRODUCE, 3, 1, "x", 1);
    len += frame(in + len, KEY_PRODUCE, 3, 2, "c", 1);
    len += frame(in + len, KEY_PRODUCE, 3, 3, "x", 1);
    send_all(fd, in, len);
    ck_assert(at_end(fd) || api.started == 2);
    ck_assert_uint_eq(api.started, 2);
    close(fd);
    fd = connect_client();
    len = frame(in, KEY_PRODUCE, 3, 1, "a", 1);
    len += frame(in + len, KEY_PRODUCE, 3, 2, "x", 1);
    send_all(fd, in, len);
    ck_assert_int_eq(next_id(fd, body, sizeof body, NULL), 1); /* the answer first, then the end */
    ck_assert(at_end(fd));
    close(fd);
}
END_TEST

START_TEST(trailing_bytes_are_counted) {
    uint8_t in[64], body[64];
    begin();
    int fd = connect_client();
    send_all(fd, in, frame(in, KEY_METADATA, 0, 5, "t123", 4));
    ck_assert_int_eq(next_id(fd, body, sizeof body, NULL), 5);
    ck_assert_uint_eq(conn_set_stats(reactor.conns)->trailing_bytes, 4);
    close(fd);
}
END_TEST

START_TEST(a_request_outlives_its_connection) {
    uint8_t in[64];
    begin();
    int fd = connect_client();
    send_all(fd, in, frame(in, KEY_FETCH, 4, 5, "h", 1));
    settle();
    ck_assert_uint_eq(api.count, 1);
    close(fd);
    settle();
    ck_assert_uint_eq(conn_set_count(reactor.conns), 0);
    ck_assert_uint_eq(conn_set_requests(reactor.conns), 1);
    ck_assert_ptr_null(api.held[0]->conn);
    reply(api.held[0]);
    api.held[0] = NULL;
    ck_assert_uint_eq(conn_set_requests(reactor.conns), 0);
    ck_assert_uint_eq(tickets_closed, 1);
}
END_TEST

START_TEST(in_flight_requests_are_limited) {
    uint8_t in[1024], body[64];
    size_t len = 0;
    broker.config.inflight_requests_max = 4;
    begin();
    int fd = connect_client();
    for (int32_t i = 0; i < 10; i++) len += frame(in + len, KEY_PRODUCE, 3, i, "h", 1);
    send_all(fd, in, len);
    settle();
    ck_assert_uint_eq(api.started, 4);
    for (unsigned i = 0; i < 10; i++) {
        reply(api.held[i]);
        api.held[i] = NULL;
        settle();
        ck_assert_uint_eq(api.started, MIN(5 + i, 10u));
        ck_assert_int_eq(next_id(fd, body, sizeof body, NULL), (int32_t)i);
    }
    close(fd);
}
END_TEST

/* The client sends for ever and takes nothing: what the broker holds for it stays bounded. */
START_TEST(unsent_responses_stop_reading) {
    uint8_t in[64];
    broker.config.inflight_bytes_max = 1000000;
    begin();
    api.reply_bytes = 300000;
    int fd = connect_client();
    size_t len = frame(in, KEY_FETCH, 4, 5, "x", 1);
    for (int i = 0; i < 200; i++) {
        if (write(fd, in, len) != (ssize_t)len) break;
        turn(0);
    }
    settle();
    ck_assert_uint_ge(api.started, 3);
    ck_assert_uint_le(api.started, 10);
    close(fd);
}
END_TEST

START_TEST(the_reactors_budget_is_shared) {
    uint8_t *big = calloc(1, 900100);
    broker.config.queued_max_request_bytes = 1000000;
    begin();
    int a = connect_client(), b = connect_client();
    memset(big, 'h', 900100);
    size_t len = frame(big, KEY_PRODUCE, 3, 1, "h", 1);
    store_be32(big, 900000);
    len = 900004;
    send_all(a, big, len);
    settle();
    ck_assert_uint_eq(api.started, 1);
    size_t sent = 0; /* b's frame finds no budget: it is not read, but not closed either */
    for (int i = 0; i < 200 && sent < len; i++) {
        ssize_t n = write(b, big + sent, len - sent);
        if (n > 0) sent += (size_t)n;
        turn(100000);
    }
    ck_assert_uint_eq(api.started, 1);
    int late = connect_client(); /* no budget for this one in time */
    pass_ms(20000);
    send_all(late, big, 5);
    settle();
    pass_ms(9000);
    ck_assert_uint_eq(conn_set_count(reactor.conns), 3);
    request_reply_begin(api.held[0]);
    request_reply(api.held[0]);
    api.held[0] = NULL;
    settle();
    send_all(b, big + sent, len - sent);
    settle();
    ck_assert_uint_eq(api.started, 2);
    pass_ms(25000);
    ck_assert(at_end(late));
    ck_assert_uint_eq(conn_set_count(reactor.conns), 2);
    close(late);
    request_reply_begin(api.held[1]);
    request_reply(api.held[1]);
    api.held[1] = NULL;
    free(big);
    close(a);
    close(b);
}
END_TEST

START_TEST(deadlines) {
    uint8_t in[64], body[64];
    broker.config.receive_timeout_ms = 1000;
    broker.config.connections_max_idle_ms = 5000;
    begin();
    size_t len = frame(in, KEY_PRODUCE, 3, 1, "x", 1);
    int half_size = connect_client(), half_frame = connect_client(), idle = connect_client(), busy = connect_client(), works = connect_client();
    send_all(half_size, in, 2);
    send_all(half_frame, in, 10);
    settle();
    pass_ms(900);
    ck_assert_uint_eq(conn_set_count(reactor.conns), 5);
    send_all(half_size, in + 2, 1); /* a byte now and then does not help */
    pass_ms(600);
    ck_assert(at_end(half_size) && at_end(half_frame));
    ck_assert_uint_eq(conn_set_stats(reactor.conns)->closed_slow, 2);
    len = frame(in, KEY_FETCH, 4, 1, "h", 1);
    send_all(busy, in, len); /* waits for its answer: not idle */
    pass_ms(2000);
    send_all(works, in, frame(in, KEY_PRODUCE, 3, 1, "x", 1));
    ck_assert_int_eq(next_id(works, body, sizeof body, NULL), 1);
    pass_ms(4000);
    ck_assert(at_end(idle));
    ck_assert_uint_eq(conn_set_count(reactor.conns), 2);
    ck_assert_uint_eq(conn_set_stats(reactor.conns)->closed_idle, 1);
    int fds[] = {half_size, half_frame, idle, busy, works};
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) close(fds[i]);
}
END_TEST

START_TEST(slow_readers_are_closed) {
    uint8_t in[64], sink[4096];
    broker.config.send_timeout_ms = 1000;
    begin();
    api.reply_bytes = 20000000;
    int fd = connect_client();
    send_all(fd, in, frame(in, KEY_FETCH, 4, 5, "x", 1));
    settle();
    pass_ms(500);
    ck_assert_int_gt(read(fd, sink, sizeof sink), 0); /* a little is not a megabyte */
    pass_ms(1000);
    ck_assert_uint_eq(conn_set_count(reactor.conns), 0);
    ck_assert_uint_eq(conn_set_stats(reactor.conns)->closed_slow, 1);
    close(fd);
}
END_TEST

START_TEST(memory_for_responses_is_shared_out) {
    uint8_t in[64], body[64];
    broker.config.queued_max_response_bytes = 8000000;
    begin();
    int fd = connect_client();
    send_all(fd, in, frame(in, KEY_FETCH, 4, 1, "h", 1));
    settle();
    struct request *rq = api.held[0];
    ck_assert_uint_eq(request_reserve(rq, 100), 100);
    ck_assert_uint_eq(request_reserve(rq, 5000000), (4000000 - 100) / 4); /* never all of it */
    unsigned grants = 0;
    while (request_reserve(rq, 5000000) > 0) grants++;
    ck_assert_uint_gt(grants, 5);
    ck_assert_int_le(rq->reserved_bytes, 8000000);
    reply(rq);
    ck_assert_int_eq(next_id(fd, body, sizeof body, NULL), 1);
    settle();
    send_all(fd, in, frame(in, KEY_FETCH, 4, 2, "h", 1));
    settle();
    ck_assert_uint_eq(request_reserve(api.held[1], 5000000), 1000000); /* all came back */
    reply(api.held[1]);
    api.count = 0;
    close(fd);
}
END_TEST

/* While that memory is short, who does not take his response has a tenth of the time. */
START_TEST(slow_readers_have_less_time_when_memory_is_short) {
    uint8_t in[64];
    broker.config.send_timeout_ms = 10000;
    broker.config.queued_max_response_bytes = 24 << 20;
    begin();
    api.reply_bytes = 20000000;
    int slow = connect_client(), other = connect_client();
    send_all(slow, in, frame(in, KEY_FETCH, 4, 1, "x", 1));
    send_all(other, in, frame(in, KEY_FETCH, 4, 2, "h", 1));
    settle();
    pass_ms(1500);
    ck_assert_uint_eq(conn_set_count(reactor.conns), 2);
    while (request_reserve(api.held[0], 1000000) > 0) {}
    pass_ms(600);
    ck_assert_uint_eq(conn_set_count(reactor.conns), 1);
    ck_assert_uint_eq(conn_set_stats(reactor.conns)->closed_slow, 1);
    close(slow);
    close(other);
}
END_TEST

/* Hundreds of requests of one connection, all there at once: another one gets its turn between them. */
START_TEST(a_deep_pipeline_takes_turns) {
    uint8_t in[64], *all = malloc(200 * 64);
    begin();
    int greedy = connect_client(), other = connect_client();
    size_t len = 0;
    for (int i = 0; i < 200; i++) len += frame(all + len, KEY_FETCH, 4, i, "x", 1);
    ck_assert_int_eq(write(greedy, all, len), len);
    ck_assert_int_ge(io_turn(reactor.io, io_mono_ns(reactor.io) + 100000000), 0);
    unsigned first = api.started;
    ck_assert_uint_ge(first, 1);
    ck_assert_uint_le(first, 64);
    size_t one = frame(in, KEY_FETCH, 4, 7, "x", 1);
    ck_assert_int_eq(write(other, in, one), one);
    ck_assert(conn_set_turn(reactor.conns)); /* there is more */
    ck_assert_uint_le(api.started, first + 64);
    settle();
    ck_assert_uint_eq(api.started, 201);
    for (int i = 0; i < 200; i++) ck_assert_int_eq(next_id(greedy, in, sizeof in, NULL), i);
    ck_assert_int_eq(next_id(other, in, sizeof in, NULL), 7);
    free(all);
    close(greedy);
    close(other);
}
END_TEST

/* Answers count whoever made them: without room nobody but producers is served, until those are cut off who have
 * taken nothing for longest. What a request was decoded into is not kept for its answer's sake. */
START_TEST(answers_that_nobody_takes_are_bounded) {
    uint8_t in[64], body[64];
    broker.config.queued_max_response_bytes = 2 << 20;
    begin();
    api.reply_bytes = 700000;
    int slow[8];
    size_t len = frame(in, KEY_METADATA, 1, 1, "x", 1);
    for (int i = 0; i < 8; i++) {
        slow[i] = connect_client();
        send_all(slow[i], in, len);
        settle();
    }
    ck_assert_uint_eq(api.started, 3); /* 2.1 MB wait: the others are read but not begun */
    ck_assert_int_eq(reactor.conns->used_bytes, 5 * (int64_t)(len - 4));
    api.reply_bytes = 0;
    int producer = connect_client();
    send_all(producer, in, frame(in, KEY_PRODUCE, 3, 7, "x", 1));
    ck_assert_int_eq(next_id(producer, body, sizeof body, NULL), 7);
    api.reply_bytes = 700000;
    pass_ms(200);
    ck_assert_uint_eq(conn_set_count(reactor.conns), 9);
    for (int i = 0; i < 40; i++) pass_ms(100);
    ck_assert_uint_eq(api.started, 9); /* all got their turn */
    ck_assert_uint_ge(conn_set_stats(reactor.conns)->closed_slow, 5);
    ck_assert_int_le(reactor.conns->reserved_bytes, 3 * 700100);
    for (int i = 0; i < 8; i++) close(slow[i]);
    close(producer);
}
END_TEST

START_TEST(draining_finishes_what_was_begun) {
    uint8_t in[64], body[64];
    begin();
    int idle = connect_client(), waits = connect_client(), owed = connect_client();
    send_all(waits, in, frame(in, KEY_FETCH, 4, 1, "h", 1));
    send_all(owed, in, frame(in, KEY_PRODUCE, 3, 2, "h", 1));
    settle();
    conn_set_drain(reactor.conns);
    settle();
    ck_assert(at_end(idle) && at_end(waits));
    ck_assert_uint_eq(conn_set_count(reactor.conns), 1);
    send_all(owed, in, frame(in, KEY_PRODUCE, 3, 3, "x", 1)); /* comes too late */
    settle();
    ck_assert_uint_eq(api.started, 2);
    reply(api.held[1]);
    api.held[1] = NULL;
    ck_assert_int_eq(next_id(owed, body, sizeof body, NULL), 2);
    ck_assert(at_end(owed));
    close(idle);
    close(waits);
    close(owed);
}
END_TEST

static struct { unsigned count; } released;
static void lent_release(struct buf *b) {
    released.count++;
    free(b);
}

START_TEST(lent_bytes_are_sent_and_given_back) {
    uint8_t in[64], body[4096], lent[2000];
    memset(lent, 'L', sizeof lent);
    begin();
    released.count = 0;
    int fd = connect_client();
    send_all(fd, in, frame(in, KEY_FETCH, 4, 9, "h", 1));
    settle();
    struct request *rq = api.held[0];
    api.held[0] = NULL;
    struct buf *b = calloc(1, sizeof *b);
    *b = (struct buf){.refs = 1, .cap = sizeof lent, .data = lent, .release = lent_release};
    ck_assert_int_eq(request_lend(rq, (struct slice){b, 0, sizeof lent}), OK);
    struct wire_writer *w = request_reply_begin(rq);
    w->ref_min_bytes = 100;
    wire_put_records(w, (struct bytes){lent, sizeof lent}, false, true);
    wire_put_i32(w, 77);
    request_reply(rq);
    size_t n;
    ck_assert_uint_eq(released.count, 0);
    ck_assert_int_eq(next_id(fd, body, sizeof body, &n), 9);
    ck_assert_uint_eq(n, 4 + sizeof lent + 4);
    ck_assert(memcmp(body + 4, lent, sizeof lent) == 0 && load_be32(body + 4 + sizeof lent) == 77);
    settle();
    ck_assert_uint_eq(released.count, 1);
    close(fd);
}
END_TEST

START_TEST(random_bytes) {
    begin();
    uint64_t x = 88172645463325252u;
    for (int c = 0; c < 200; c++) {
        uint8_t junk[512];
        for (size_t i = 0; i < sizeof junk; i++) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            junk[i] = (uint8_t)x;
        }
        if (c % 2) store_be32(junk, (uint32_t)(x % 500) + 8);
        if (c % 4 == 1) store_be32(junk + 4, 0x00000003);
        int fd = connect_client();
        size_t sent = 0;
        while (sent < sizeof junk) {
            ssize_t n = send(fd, junk + sent, MIN(sizeof junk - sent, x % 97 + 1), MSG_NOSIGNAL);
            if (n <= 0) break;
            sent += (size_t)n;
            turn(0);
        }
        close(fd);
    }
    for (unsigned i = 0; i < api.count; i++) reply(api.held[i]);
    api.count = 0;
    settle();
    ck_assert_uint_eq(conn_set_count(reactor.conns), 0);
    ck_assert_uint_eq(tickets_closed, 200);
}
END_TEST

static TCase *tests(const char *name) {
    TCase *t = tcase_create(name);
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, split_at_every_byte);
    tcase_add_test(t, responses_leave_in_request_order);
    tcase_add_test(t, others_wait_for_those_before_and_hold_back_those_behind);
    tcase_add_test(t, who_waits_and_need_not_holds_nobody_up);
    tcase_add_test(t, who_waits_is_told_once);
    tcase_add_test(t, silent_requests_take_no_place);
    tcase_add_test(t, large_frames_and_responses);
    tcase_add_test(t, bad_frame_sizes_close);
    tcase_add_test(t, what_is_not_served_closes);
    tcase_add_test(t, handlers_may_close);
    tcase_add_test(t, trailing_bytes_are_counted);
    tcase_add_test(t, a_request_outlives_its_connection);
    tcase_add_test(t, in_flight_requests_are_limited);
    tcase_add_test(t, unsent_responses_stop_reading);
    tcase_add_test(t, the_reactors_budget_is_shared);
    tcase_add_test(t, deadlines);
    tcase_add_test(t, slow_readers_are_closed);
    tcase_add_test(t, memory_for_responses_is_shared_out);
    tcase_add_test(t, slow_readers_have_less_time_when_memory_is_short);
    tcase_add_test(t, answers_that_nobody_takes_are_bounded);
    tcase_add_test(t, a_deep_pipeline_takes_turns);
    tcase_add_test(t, draining_finishes_what_was_begun);
    tcase_add_test(t, lent_bytes_are_sent_and_given_back);
    tcase_add_test(t, random_bytes);
    return t;
}

static int run(bool uring) {
    on_uring = uring;
    Suite *s = suite_create(uring ? "conn on io_uring" : "conn on blocking I/O");
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
