/* One suite over all implementations of base/io.h: code above that line cannot tell which it has. */
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/assert.h"
#include "tests/sim/io_sim.h"

enum which { URING, BLOCKING, SIM };
#define SIM_POOLED 64

static enum which which;
static struct sim_world *world;
static struct io *io;
static char dir[128];
static unsigned pooled; /* buffers of `io` */

static struct io *create(const struct io_config *cfg, char *why, size_t why_len) {
    if (which == SIM) return sim_io_create(world, 0);
    return which == URING ? io_uring_create(cfg, why, why_len) : io_blocking_create(cfg, why, why_len);
}

/* Few of everything, so that limits are reached. */
static void begin(void) {
    char why[200] = "";
    world = which == SIM ? sim_world_new(1) : NULL;
    io = create(&(struct io_config){.helper_threads = 2, .pooled_recv_buffers = 4, .ring_entries = 8}, why, sizeof why);
    ck_assert_msg(io, "%s", why);
    pooled = which == SIM ? SIM_POOLED : 4;
    snprintf(dir, sizeof dir, "/var/tmp/varve-test-io-XXXXXX");
    if (which == SIM) {
        snprintf(dir, sizeof dir, "/t");
        ck_assert_int_eq(io_mkdir(io, dir), 0);
    } else {
        ck_assert_ptr_nonnull(mkdtemp(dir));
    }
}

static void remove_entry(void *ctx, const char *name, bool is_dir) {
    char path[512];
    (void)ctx;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    ck_assert_int_eq(is_dir ? io_rmdir(io, path) : io_unlink(io, path), 0);
}

static void end(void) {
    ck_assert_int_eq(io_list(io, dir, remove_entry, NULL), 0);
    ck_assert_int_eq(io_rmdir(io, dir), 0);
    io_destroy(io);
    if (world) sim_world_free(world);
}

static const char *path_in(const char *name) {
    static char paths[4][256];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", dir, name);
    return path;
}

struct waited { struct io_op op; unsigned done; };
static void note_done(struct io_op *op) { CONTAINER_OF(op, struct waited, op)->done++; }

static void submit(struct waited *w, struct io_op op) {
    *w = (struct waited){.op = op};
    w->op.done = note_done;
    io_submit(io, &w->op);
    ck_assert_uint_eq(w->done, 0); /* never from inside io_submit */
}

static int64_t await(struct waited *w) {
    while (!w->done) ck_assert_int_eq(io_turn(io, INT64_MAX), 0);
    ck_assert_uint_eq(w->done, 1);
    ck_assert(!w->op.in_flight);
    return w->op.result;
}

static int64_t run(struct io_op op) {
    struct waited w;
    submit(&w, op);
    return await(&w);
}

/* ---- files ------------------------------------------------------------------------------------ */

static void note_name(void *ctx, const char *name, bool is_dir) {
    char *all = ctx;
    strcat(all, name);
    strcat(all, is_dir ? "/ " : " ");
}

START_TEST(synchronous_file_calls) {
    int fd = io_open(io, path_in("b"), IO_OPEN_READ | IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_EXCL);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(io_open(io, path_in("b"), IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_EXCL), -EEXIST);
    ck_assert_int_eq(io_open(io, path_in("none"), IO_OPEN_READ), -ENOENT);
    ck_assert_int_eq(io_pwrite(io, fd, "hello world", 11, 5), 11);
    ck_assert_int_eq(io_sync(io, fd), 0);
    char buf[32];
    ck_assert_int_eq(io_pread(io, fd, buf, sizeof buf, 0), 16);
    ck_assert_mem_eq(buf, "\0\0\0\0\0hello world", 16);
    ck_assert_int_eq(io_pread(io, fd, buf, sizeof buf, 16), 0);
    ck_assert_int_eq(io_truncate(io, fd, 7), 0);
    int reserved = io_reserve(io, fd, 0, 65536);
    ck_assert(reserved == 0 || reserved == -EOPNOTSUPP);
    struct io_stat st;
    ck_assert_int_eq(io_fstat(io, fd, &st), 0);
    ck_assert_uint_eq(st.size_bytes, 7);
    ck_assert(!st.is_dir);
    ck_assert_int_eq(io_close(io, fd), 0);

    ck_assert_int_eq(io_mkdir(io, path_in("sub")), 0);
    ck_assert_int_eq(io_mkdir(io, path_in("sub")), -EEXIST);
    ck_assert_int_eq(io_replace_file(io, path_in("a"), "first", 5), 0);
    ck_assert_int_eq(io_replace_file(io, path_in("a"), "second!", 7), 0);
    char names[100] = "";
    ck_assert_int_eq(io_list(io, dir, note_name, names), 0);
    ck_assert_str_eq(names, "a b sub/ ");
    ck_assert_int_eq(io_rename(io, path_in("b"), path_in("c")), 0);
    ck_assert_int_eq(io_stat_path(io, path_in("b"), &st), -ENOENT);
    ck_assert_int_eq(io_stat_path(io, path_in("sub"), &st), 0);
    ck_assert(st.is_dir);
    ck_assert_int_eq(io_sync_dir(io, dir), 0);
    ck_assert_int_eq(io_rmdir(io, path_in("sub")), 0);

    uint8_t *data;
    size_t len;
    ck_assert_int_eq(io_read_file(io, path_in("a"), 100, &data, &len), 0);
    ck_assert_uint_eq(len, 7);
    ck_assert_str_eq((char *)data, "second!");
    free(data);
    ck_assert_int_eq(io_read_file(io, path_in("a"), 6, &data, &len), -EFBIG);
    ck_assert_int_eq(io_read_file(io, path_in("none"), 6, &data, &len), -ENOENT);
    struct io_space space;
    ck_assert_int_eq(io_space(io, dir, &space), 0);
    ck_assert_uint_ge(space.total_bytes, space.free_bytes);
} END_TEST

START_TEST(lock_is_exclusive) {
    int fd = io_lock(io, path_in("lock"));
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(io_lock(io, path_in("lock")), -EWOULDBLOCK);
    ck_assert_int_eq(io_close(io, fd), 0);
    fd = io_lock(io, path_in("lock"));
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(io_close(io, fd), 0);
} END_TEST

START_TEST(file_operations) {
    int fd = io_open(io, path_in("f"), IO_OPEN_READ | IO_OPEN_WRITE | IO_OPEN_CREATE);
    struct iovec iov[3] = {{"one,", 4}, {"two,", 4}, {"three", 5}};
    ck_assert_int_eq(run((struct io_op){.kind = IO_WRITE, .fd = fd, .iov = iov, .iov_count = 3, .offset = 2, .flags = IO_DSYNC}), 13);
    ck_assert_int_eq(run((struct io_op){.kind = IO_WRITE, .fd = fd, .iov = iov, .iov_count = 1}), 4);
    ck_assert_int_eq(run((struct io_op){.kind = IO_SYNC, .fd = fd}), 0);
    char buf[32];
    ck_assert_int_eq(run((struct io_op){.kind = IO_READ, .fd = fd, .buf = buf, .len = 32, .offset = 0}), 15);
    ck_assert_mem_eq(buf, "one,e,two,three", 15);
    ck_assert_int_eq(run((struct io_op){.kind = IO_READ, .fd = fd, .buf = buf, .len = 32, .offset = 15}), 0);
    ck_assert_int_eq(run((struct io_op){.kind = IO_READ, .fd = -1, .buf = buf, .len = 32}), -EBADF);
    ck_assert_int_eq(io_close(io, fd), 0);
    ck_assert_int_eq(run((struct io_op){.kind = IO_UNLINK, .path = path_in("f")}), 0);
    ck_assert_int_eq(run((struct io_op){.kind = IO_UNLINK, .path = path_in("f")}), -ENOENT);
} END_TEST

START_TEST(direct_writes) {
    char why[200];
    int probed = io_probe_direct(io, dir, why, sizeof why);
    if (probed < 0) {
        printf("SKIP direct_writes (%s): %s\n", io->v->name, why);
        return;
    }
    static _Alignas(4096) uint8_t blocks[2][8192], back[16384];
    memset(blocks[0], 'a', sizeof blocks[0]);
    memset(blocks[1], 'b', sizeof blocks[1]);
    int fd = io_open(io, path_in("d"), IO_OPEN_READ | IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_DIRECT);
    ck_assert_int_ge(fd, 0);
    struct iovec iov[2] = {{blocks[0], 8192}, {blocks[1], 4096}};
    ck_assert_int_eq(run((struct io_op){.kind = IO_WRITE, .fd = fd, .iov = iov, .iov_count = 2, .flags = IO_DSYNC}), 12288);
    ck_assert_int_eq(run((struct io_op){.kind = IO_READ, .fd = fd, .buf = back, .len = 16384}), 12288);
    ck_assert_uint_eq(back[8191], 'a');
    ck_assert_uint_eq(back[8192], 'b');
    ck_assert_int_eq(io_close(io, fd), 0);
    ck_assert_int_lt(io_probe_direct(io, path_in("none"), why, sizeof why), 0);
    ck_assert_str_ne(why, "");
} END_TEST

/* Many more than the ring has entries, in one turn: none may be lost. */
START_TEST(more_operations_than_the_queue_holds) {
    enum { COUNT = 500 };
    static struct waited ops[COUNT];
    static uint32_t values[COUNT], back[COUNT];
    struct iovec iov[COUNT];
    int fd = io_open(io, path_in("many"), IO_OPEN_READ | IO_OPEN_WRITE | IO_OPEN_CREATE);
    for (uint32_t i = 0; i < COUNT; i++) {
        values[i] = i * 7919;
        iov[i] = (struct iovec){&values[i], 4};
        submit(&ops[i], (struct io_op){.kind = IO_WRITE, .fd = fd, .iov = &iov[i], .iov_count = 1, .offset = i * 4});
    }
    for (uint32_t i = 0; i < COUNT; i++) ck_assert_int_eq(await(&ops[i]), 4);
    for (uint32_t i = 0; i < COUNT; i++)
        submit(&ops[i], (struct io_op){.kind = IO_READ, .fd = fd, .buf = &back[i], .len = 4, .offset = i * 4});
    for (uint32_t i = 0; i < COUNT; i++) ck_assert_int_eq(await(&ops[i]), 4);
    ck_assert_mem_eq(values, back, sizeof values);
    ck_assert_int_eq(io_close(io, fd), 0);
} END_TEST

/* ---- sockets ---------------------------------------------------------------------------------- */

struct pair { int listener, client, server; struct sockaddr_storage addr; };

static int listen_local(struct sockaddr_storage *addr) {
    struct sockaddr_in *in = (struct sockaddr_in *)addr;
    memset(addr, 0, sizeof *addr);
    in->sin_family = AF_INET;
    in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = io_listen(io, addr, 128);
    ck_assert_int_ge(fd, 0);
    ck_assert_uint_ne(in->sin_port, 0);
    return fd;
}

static void connect_to(struct pair *p) {
    struct waited accept, connect;
    p->client = io_socket(io, AF_INET);
    ck_assert_int_ge(p->client, 0);
    submit(&accept, (struct io_op){.kind = IO_ACCEPT, .fd = p->listener});
    submit(&connect, (struct io_op){.kind = IO_CONNECT, .fd = p->client, .addr = p->addr});
    ck_assert_int_eq(await(&connect), 0);
    p->server = (int)await(&accept);
    ck_assert_int_ge(p->server, 0);
    ck_assert_int_eq(accept.op.addr.ss_family, AF_INET);
}

static struct pair pair_open(void) {
    struct pair p;
    p.listener = listen_local(&p.addr);
    connect_to(&p);
    return p;
}

static void pair_close(const struct pair *p) {
    ck_assert_int_eq(io_close(io, p->client), 0);
    ck_assert_int_eq(io_close(io, p->server), 0);
    ck_assert_int_eq(io_close(io, p->listener), 0);
}

static void send_text(int fd, const char *text) {
    struct iovec iov = {(void *)(uintptr_t)text, strlen(text)};
    ck_assert_int_eq(run((struct io_op){.kind = IO_SEND, .fd = fd, .iov = &iov, .iov_count = 1}), (int64_t)strlen(text));
}

START_TEST(sockets_know_their_own_end) {
    struct pair p = pair_open();
    struct sockaddr_storage addr = {0};
    struct sockaddr_in *in = (struct sockaddr_in *)&addr, *listening = (struct sockaddr_in *)&p.addr;
    ck_assert_int_eq(io_sockname(io, p.server, &addr), 0);
    ck_assert_uint_eq(in->sin_port, listening->sin_port);
    ck_assert_uint_eq(in->sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    ck_assert_int_eq(io_sockname(io, p.client, &addr), 0);
    ck_assert_uint_ne(in->sin_port, listening->sin_port);
    ck_assert_int_eq(io_sockname(io, p.listener, &addr), 0);
    ck_assert_uint_eq(in->sin_port, listening->sin_port);
    pair_close(&p);
} END_TEST

START_TEST(sockets_echo) {
    struct pair p = pair_open();
    char buf[64];
    for (int i = 0; i < 20; i++) {
        struct waited recv;
        submit(&recv, (struct io_op){.kind = IO_RECV, .fd = p.server, .buf = buf, .len = sizeof buf});
        send_text(p.client, "ping");
        ck_assert_int_eq(await(&recv), 4);
        ck_assert_mem_eq(buf, "ping", 4);
        send_text(p.server, "pong!");
        ck_assert_int_eq(run((struct io_op){.kind = IO_RECV, .fd = p.client, .buf = buf, .len = sizeof buf}), 5);
        ck_assert_mem_eq(buf, "pong!", 5);
    }
    pair_close(&p);
} END_TEST

START_TEST(waitall_waits_for_all_or_the_end) {
    struct pair p = pair_open();
    char buf[12];
    struct waited recv;
    submit(&recv, (struct io_op){.kind = IO_RECV, .fd = p.server, .buf = buf, .len = 12, .flags = IO_WAITALL});
    send_text(p.client, "abcd");
    send_text(p.client, "efgh");
    ck_assert_uint_eq(recv.done, 0);
    send_text(p.client, "ijklmn");
    ck_assert_int_eq(await(&recv), 12);
    ck_assert_mem_eq(buf, "abcdefghijkl", 12);
    submit(&recv, (struct io_op){.kind = IO_RECV, .fd = p.server, .buf = buf, .len = 12, .flags = IO_WAITALL});
    ck_assert_int_eq(io_shutdown(io, p.client), 0);
    ck_assert_int_eq(await(&recv), 2);
    ck_assert_mem_eq(buf, "mn", 2);
    ck_assert_int_eq(run((struct io_op){.kind = IO_RECV, .fd = p.server, .buf = buf, .len = 12, .flags = IO_WAITALL}), 0);
    pair_close(&p);
} END_TEST

START_TEST(pooled_receive_lends_a_buffer) {
    struct pair p = pair_open();
    struct waited recv;
    submit(&recv, (struct io_op){.kind = IO_RECV, .fd = p.server, .flags = IO_POOLED});
    send_text(p.client, "pooled");
    ck_assert_int_eq(await(&recv), 6);
    ck_assert_mem_eq(recv.op.buf, "pooled", 6);
    io_recv_release(io, recv.op.buf);
    submit(&recv, (struct io_op){.kind = IO_RECV, .fd = p.server, .flags = IO_POOLED});
    ck_assert_int_eq(io_shutdown(io, p.client), 0);
    ck_assert_int_eq(await(&recv), 0); /* no buffer, nothing to give back */
    pair_close(&p);
} END_TEST

/* More connections with data than buffers: the rest wait until one is given back, again and again. */
START_TEST(pooled_receives_wait_for_buffers) {
    enum { EXTRA = 5, MAX = SIM_POOLED + EXTRA };
    static struct pair pairs[MAX];
    static struct waited recvs[MAX];
    static bool taken[MAX];
    memset(taken, 0, sizeof taken);
    unsigned count = pooled + EXTRA, finished = 0, held = 0;
    pairs[0].listener = listen_local(&pairs[0].addr);
    for (unsigned i = 0; i < count; i++) {
        pairs[i].listener = pairs[0].listener;
        pairs[i].addr = pairs[0].addr;
        connect_to(&pairs[i]);
        submit(&recvs[i], (struct io_op){.kind = IO_RECV, .fd = pairs[i].server, .flags = IO_POOLED});
    }
    for (unsigned i = 0; i < count; i++) send_text(pairs[i].client, "x");
    void *buffers[MAX];
    while (finished < count) {
        for (unsigned i = 0; i < count; i++) {
            if (!recvs[i].done || taken[i]) continue;
            taken[i] = true;
            finished++;
            ck_assert_int_eq(recvs[i].op.result, 1);
            ck_assert_uint_eq(*(char *)recvs[i].op.buf, 'x');
            buffers[held++] = recvs[i].op.buf;
        }
        ck_assert_uint_le(held, pooled);
        if (held == pooled || finished == count) io_recv_release(io, buffers[--held]);
        else ck_assert_int_eq(io_turn(io, INT64_MAX), 0);
    }
    while (held > 0) io_recv_release(io, buffers[--held]);
    for (unsigned i = 0; i < count; i++) {
        ck_assert_int_eq(io_close(io, pairs[i].client), 0);
        ck_assert_int_eq(io_close(io, pairs[i].server), 0);
    }
    ck_assert_int_eq(io_close(io, pairs[0].listener), 0);
} END_TEST

START_TEST(large_send_to_a_slow_reader_goes_out_whole) {
    enum { PARTS = 400, PART_MAX = 40000 };
    struct pair p = pair_open();
    static uint8_t bytes[PARTS * PART_MAX];
    struct iovec iov[PARTS];
    size_t total = 0;
    for (size_t i = 0; i < PARTS; i++) { /* empty parts too */
        size_t len = i % 7 == 3 ? 0 : (i * 7919) % PART_MAX + 1;
        iov[i] = (struct iovec){bytes + total, len};
        total += len;
    }
    for (size_t i = 0; i < total; i++) bytes[i] = (uint8_t)(i * 31 + i / 251);
    struct waited send;
    submit(&send, (struct io_op){.kind = IO_SEND, .fd = p.client, .iov = iov, .iov_count = PARTS});
    static uint8_t part[30000];
    size_t got = 0;
    while (got < total) {
        int64_t n = run((struct io_op){.kind = IO_RECV, .fd = p.server, .buf = part, .len = sizeof part});
        ck_assert_int_gt(n, 0);
        ck_assert_mem_eq(part, bytes + got, (size_t)n);
        got += (size_t)n;
    }
    ck_assert_int_eq(await(&send), (int64_t)total);
    pair_close(&p);
} END_TEST

START_TEST(cancel_ends_what_waits) {
    struct pair p = pair_open();
    char buf[8];
    struct waited recv, pooled_recv, accept;
    submit(&recv, (struct io_op){.kind = IO_RECV, .fd = p.server, .buf = buf, .len = 8});
    submit(&accept, (struct io_op){.kind = IO_ACCEPT, .fd = p.listener});
    ck_assert_int_eq(io_turn(io, 0), 0);
    submit(&pooled_recv, (struct io_op){.kind = IO_RECV, .fd = p.client, .flags = IO_POOLED});
    io_cancel(io, &recv.op); /* under way */
    io_cancel(io, &accept.op);
    io_cancel(io, &pooled_recv.op); /* perhaps not even submitted to the kernel */
    ck_assert_uint_eq(recv.done, 0);
    ck_assert_int_eq(await(&recv), -ECANCELED);
    ck_assert_int_eq(await(&accept), -ECANCELED);
    ck_assert_int_eq(await(&pooled_recv), -ECANCELED);
    io_cancel(io, &recv.op); /* done: harmless */
    send_text(p.client, "still");
    ck_assert_int_eq(run((struct io_op){.kind = IO_RECV, .fd = p.server, .buf = buf, .len = 8}), 5);
    pair_close(&p);
} END_TEST

START_TEST(shutdown_ends_pending_operations) {
    struct pair p = pair_open();
    char buf[8];
    static uint8_t big[8 << 20];
    struct iovec iov = {big, sizeof big};
    struct waited recv, send, accept;
    submit(&recv, (struct io_op){.kind = IO_RECV, .fd = p.server, .buf = buf, .len = 8});
    submit(&send, (struct io_op){.kind = IO_SEND, .fd = p.server, .iov = &iov, .iov_count = 1});
    submit(&accept, (struct io_op){.kind = IO_ACCEPT, .fd = p.listener});
    ck_assert_int_eq(io_turn(io, 0), 0);
    ck_assert_int_eq(io_shutdown(io, p.server), 0);
    ck_assert_int_eq(await(&recv), 0);
    ck_assert_int_lt(await(&send), 0);
    ck_assert_int_eq(io_shutdown(io, p.listener), 0);
    ck_assert_int_lt(await(&accept), 0);
    pair_close(&p);
} END_TEST

START_TEST(connect_to_nobody_is_refused) {
    struct sockaddr_storage addr;
    int listener = listen_local(&addr);
    ck_assert_int_eq(io_close(io, listener), 0);
    int fd = io_socket(io, AF_INET);
    ck_assert_int_eq(run((struct io_op){.kind = IO_CONNECT, .fd = fd, .addr = addr}), -ECONNREFUSED);
    ck_assert_int_eq(io_close(io, fd), 0);
} END_TEST

START_TEST(port_in_use_is_said_and_free_after_close) {
    struct sockaddr_storage addr, same;
    int listener = listen_local(&addr);
    same = addr;
    ck_assert_int_eq(io_listen(io, &same, 1), -EADDRINUSE);
    ck_assert_int_eq(io_close(io, listener), 0);
    listener = io_listen(io, &same, 1);
    ck_assert_int_ge(listener, 0);
    ck_assert_int_eq(io_close(io, listener), 0);
} END_TEST

START_TEST(sending_to_a_closed_peer_fails) {
    struct pair p = pair_open();
    ck_assert_int_eq(io_close(io, p.server), 0);
    int64_t result = 1;
    struct iovec iov = {"x", 1};
    for (int i = 0; i < 1000 && result > 0; i++) {
        result = run((struct io_op){.kind = IO_SEND, .fd = p.client, .iov = &iov, .iov_count = 1});
        ck_assert_int_eq(io_turn(io, io_mono_ns(io) + 1000000), 0);
    }
    ck_assert(result == -EPIPE || result == -ECONNRESET);
    ck_assert_int_eq(io_close(io, p.client), 0);
    ck_assert_int_eq(io_close(io, p.listener), 0);
} END_TEST

/* ---- loop ------------------------------------------------------------------------------------- */

struct square { struct waited waited; uint64_t in, out; pthread_t thread; };
static void compute(struct io_op *op) {
    struct square *s = CONTAINER_OF(op, struct square, waited.op);
    s->out = s->in * s->in;
    s->thread = pthread_self();
    op->result = 7;
}

START_TEST(work_runs_on_helpers) {
    static struct square squares[100];
    for (size_t i = 0; i < ARRAY_LEN(squares); i++) {
        squares[i].in = i;
        submit(&squares[i].waited, (struct io_op){.kind = IO_WORK, .work = compute});
    }
    for (size_t i = 0; i < ARRAY_LEN(squares); i++) {
        ck_assert_int_eq(await(&squares[i].waited), 7);
        ck_assert_uint_eq(squares[i].out, i * i);
        ck_assert(which == SIM || !pthread_equal(squares[i].thread, pthread_self()));
    }
} END_TEST

static pthread_barrier_t both;
static void meet(struct io_op *op) {
    pthread_barrier_wait(&both);
    op->result = 1;
}

/* Neither ends before both run: one that waits behind a busy helper while another could be started
 * would hang. */
START_TEST(work_uses_all_helpers) {
    if (which == SIM) return; /* work runs in the loop there */
    pthread_barrier_init(&both, NULL, 2);
    static struct square warm;
    warm.in = 3;
    for (int i = 0; i < 50; i++) {
        struct waited a, b;
        submit(&warm.waited, (struct io_op){.kind = IO_WORK, .work = compute});
        ck_assert_int_eq(await(&warm.waited), 7);
        submit(&a, (struct io_op){.kind = IO_WORK, .work = meet});
        submit(&b, (struct io_op){.kind = IO_WORK, .work = meet});
        ck_assert_int_eq(await(&a), 1);
        ck_assert_int_eq(await(&b), 1);
    }
    pthread_barrier_destroy(&both);
} END_TEST

START_TEST(turn_ends_at_its_deadline) {
    for (int i = 0; i < 5; i++) {
        int64_t deadline = io_mono_ns(io) + 3000000;
        while (io_mono_ns(io) < deadline) ck_assert_int_eq(io_turn(io, deadline), 0);
    }
    ck_assert_int_eq(io_turn(io, 0), 0);
    ck_assert_int_eq(io_turn(io, io_mono_ns(io)), 0);
    ck_assert_int_gt(io_wall_ms(io), INT64_C(1600000000000));
} END_TEST

START_TEST(wake_is_remembered) {
    io_wake(io);
    ck_assert_int_eq(io_turn(io, INT64_MAX), 0); /* would hang without it */
} END_TEST

static atomic_int wakes_wanted, wakes_seen;
static void *wake_often(void *arg) {
    (void)arg;
    for (int i = 0; i < 20000; i++) {
        atomic_fetch_add(&wakes_wanted, 1);
        io_wake(io);
        if (i % 64 == 0) while (atomic_load(&wakes_seen) < i) sched_yield(); /* let it fall asleep */
    }
    return NULL;
}

/* The loop sleeps without a deadline: a lost wake-up would hang. */
START_TEST(wake_from_another_thread_is_never_lost) {
    if (which == SIM) return; /* nothing sleeps there */
    atomic_store(&wakes_wanted, 0);
    atomic_store(&wakes_seen, 0);
    pthread_t waker;
    pthread_create(&waker, NULL, wake_often, NULL);
    while (atomic_load(&wakes_seen) < 20000) {
        ck_assert_int_eq(io_turn(io, INT64_MAX), 0);
        atomic_store(&wakes_seen, atomic_load(&wakes_wanted));
    }
    pthread_join(waker, NULL);
} END_TEST

static void *turn_elsewhere(void *arg) {
    struct io *other = arg, *before = io;
    io = other;
    int fd = io_open(io, path_in("e"), IO_OPEN_READ | IO_OPEN_WRITE | IO_OPEN_CREATE);
    struct iovec iov = {"elsewhere", 9};
    ck_assert_int_eq(run((struct io_op){.kind = IO_WRITE, .fd = fd, .iov = &iov, .iov_count = 1}), 9);
    ck_assert_int_eq(io_close(io, fd), 0);
    io = before;
    return NULL;
}

START_TEST(io_may_be_created_on_one_thread_and_used_by_another) {
    char why[200] = "";
    struct io *other = create(&(struct io_config){0}, why, sizeof why);
    ck_assert_msg(other, "%s", why);
    uint8_t *data;
    size_t len;
    ck_assert_int_eq(io_read_file(other, path_in("e"), 100, &data, &len), -ENOENT); /* synchronous: any thread */
    pthread_t thread;
    pthread_create(&thread, NULL, turn_elsewhere, other);
    pthread_join(thread, NULL);
    io_destroy(other);
    ck_assert_int_eq(io_read_file(io, path_in("e"), 100, &data, &len), 0);
    ck_assert_uint_eq(len, 9);
    free(data);
} END_TEST

START_TEST(entropy_differs) {
    uint8_t a[32], b[32];
    io_entropy(io, a, sizeof a);
    io_entropy(io, b, sizeof b);
    ck_assert_mem_ne(a, b, sizeof a);
} END_TEST

/* As Docker's default profile does since version 25. */
static bool forbid_io_uring(int error) {
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {ARRAY_LEN(rules), rules};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* 0: refused with a reason; 1: not; 2: this machine has no seccomp. */
static int try_forbidden(int error) {
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        char why[200] = "";
        if (!forbid_io_uring(error)) _exit(2);
        _exit(io_uring_create(&(struct io_config){0}, why, sizeof why) == NULL && why[0] ? 0 : 1);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

START_TEST(io_uring_that_is_forbidden_is_refused_with_a_reason) {
    int result = try_forbidden(EPERM);
    if (result == 2) {
        printf("SKIP io_uring_that_is_forbidden_is_refused_with_a_reason: no seccomp here\n");
        return;
    }
    ck_assert_int_eq(result, 0);
    ck_assert_int_eq(try_forbidden(ENOSYS), 0);
} END_TEST

static Suite *suite_for(const char *name) {
    Suite *suite = suite_create(name);
    TCase *tc = tcase_create(name);
    tcase_set_timeout(tc, 120);
    tcase_add_checked_fixture(tc, begin, end);
    tcase_add_test(tc, synchronous_file_calls);
    tcase_add_test(tc, lock_is_exclusive);
    tcase_add_test(tc, file_operations);
    tcase_add_test(tc, direct_writes);
    tcase_add_test(tc, more_operations_than_the_queue_holds);
    tcase_add_test(tc, sockets_know_their_own_end);
    tcase_add_test(tc, sockets_echo);
    tcase_add_test(tc, waitall_waits_for_all_or_the_end);
    tcase_add_test(tc, pooled_receive_lends_a_buffer);
    tcase_add_test(tc, pooled_receives_wait_for_buffers);
    tcase_add_test(tc, large_send_to_a_slow_reader_goes_out_whole);
    tcase_add_test(tc, cancel_ends_what_waits);
    tcase_add_test(tc, shutdown_ends_pending_operations);
    tcase_add_test(tc, connect_to_nobody_is_refused);
    tcase_add_test(tc, port_in_use_is_said_and_free_after_close);
    tcase_add_test(tc, sending_to_a_closed_peer_fails);
    tcase_add_test(tc, work_runs_on_helpers);
    tcase_add_test(tc, work_uses_all_helpers);
    tcase_add_test(tc, turn_ends_at_its_deadline);
    tcase_add_test(tc, wake_is_remembered);
    tcase_add_test(tc, wake_from_another_thread_is_never_lost);
    tcase_add_test(tc, io_may_be_created_on_one_thread_and_used_by_another);
    tcase_add_test(tc, entropy_differs);
    suite_add_tcase(suite, tc);
    if (which == BLOCKING) { /* once is enough */
        TCase *refusal = tcase_create("refusal");
        tcase_add_test(refusal, io_uring_that_is_forbidden_is_refused_with_a_reason);
        suite_add_tcase(suite, refusal);
    }
    return suite;
}

static int run_over(enum which implementation, const char *name) {
    which = implementation;
    if (which == URING) {
        char why[200] = "";
        struct io *probe = io_uring_create(&(struct io_config){0}, why, sizeof why);
        if (!probe) {
            printf("SKIP io_uring: %s\n", why);
            return 0;
        }
        io_destroy(probe);
    }
    SRunner *runner = srunner_create(suite_for(name));
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed;
}

int main(void) {
    alarm(400); /* a lost completion hangs; with CK_FORK=no nobody else would end it */
    int failed = run_over(SIM, "simulated");
    failed += run_over(BLOCKING, "blocking");
    failed += run_over(URING, "io_uring");
    return failed ? 1 : 0;
}
