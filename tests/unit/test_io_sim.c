/* The simulator itself: what a crash keeps, what faults do, and that a seed decides everything. */
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "tests/sim/io_sim.h"

#define RW (IO_OPEN_READ | IO_OPEN_WRITE)
#define CREATE (RW | IO_OPEN_CREATE)

static struct sim_world *world;
static struct io *io;

static void begin(void) {
    world = sim_world_new(42);
    io = sim_io_create(world, 0);
    ck_assert_int_eq(io_mkdir(io, "/d"), 0);
    ck_assert_int_eq(io_sync_dir(io, "/"), 0);
}

static void end(void) {
    io_destroy(io);
    sim_world_free(world);
}

static void crash(enum sim_crash_policy policy) {
    sim_crash(world, 0, policy);
    io_destroy(io);
    io = sim_io_create(world, 0);
}

static int create(const char *path) {
    int fd = io_open(io, path, CREATE);
    ck_assert_int_ge(fd, 0);
    return fd;
}

static void write_at(int fd, uint64_t offset, const char *text) {
    ck_assert_int_eq(io_pwrite(io, fd, text, strlen(text), offset), (int64_t)strlen(text));
}

/* A file that a crash cannot take away. */
static int create_durable(const char *path, const char *text) {
    int fd = create(path);
    write_at(fd, 0, text);
    ck_assert_int_eq(io_sync(io, fd), 0);
    ck_assert_int_eq(io_sync_dir(io, "/d"), 0);
    return fd;
}

static void expect(const char *path, const char *text) {
    uint8_t *data;
    size_t len;
    int result = io_read_file(io, path, 1 << 20, &data, &len);
    if (!text) {
        ck_assert_int_eq(result, -ENOENT);
        return;
    }
    ck_assert_int_eq(result, 0);
    ck_assert_uint_eq(len, strlen(text));
    ck_assert_mem_eq(data, text, len);
    free(data);
}

struct counted { struct io_op op; unsigned done; };
static void count_done(struct io_op *op) { CONTAINER_OF(op, struct counted, op)->done++; }

static void submit_write(struct counted *c, int fd, uint64_t offset, struct iovec *iov, uint32_t flags) {
    *c = (struct counted){.op = {.kind = IO_WRITE, .fd = fd, .offset = offset, .iov = iov, .iov_count = 1, .flags = flags, .done = count_done}};
    io_submit(io, &c->op);
}

static void finish(struct counted *c) {
    while (!c->done) ck_assert_int_eq(io_turn(io, INT64_MAX), 0);
}

START_TEST(lose_all_keeps_what_was_synced) {
    int fd = create_durable("/d/a", "synced");
    write_at(fd, 6, " and not");
    create("/d/unnamed");
    crash(SIM_LOSE_ALL);
    expect("/d/a", "synced");
    expect("/d/unnamed", NULL);
} END_TEST

START_TEST(lose_none_keeps_everything) {
    int fd = create_durable("/d/a", "synced");
    write_at(fd, 6, " and not");
    create("/d/empty");
    crash(SIM_LOSE_NONE);
    expect("/d/a", "synced and not");
    expect("/d/empty", "");
} END_TEST

START_TEST(synced_content_without_durable_name_is_lost) {
    int fd = create("/d/a");
    write_at(fd, 0, "text");
    ck_assert_int_eq(io_sync(io, fd), 0);
    crash(SIM_LOSE_ALL);
    expect("/d/a", NULL);
} END_TEST

START_TEST(unsynced_truncation_comes_undone) {
    int fd = create_durable("/d/a", "0123456789");
    ck_assert_int_eq(io_truncate(io, fd, 4), 0);
    expect("/d/a", "0123");
    crash(SIM_LOSE_ALL);
    expect("/d/a", "0123456789");
    fd = io_open(io, "/d/a", RW);
    ck_assert_int_eq(io_truncate(io, fd, 4), 0);
    ck_assert_int_eq(io_sync(io, fd), 0);
    crash(SIM_LOSE_ALL);
    expect("/d/a", "0123");
} END_TEST

START_TEST(rename_is_old_or_new) {
    bool seen_old = false, seen_new = false;
    for (int i = 0; i < 40; i++) {
        create_durable("/d/a", "old");
        int fd = create("/d/a.tmp");
        write_at(fd, 0, "new");
        ck_assert_int_eq(io_sync(io, fd), 0);
        ck_assert_int_eq(io_rename(io, "/d/a.tmp", "/d/a"), 0);
        crash(SIM_RANDOM);
        uint8_t *data;
        size_t len;
        ck_assert_int_eq(io_read_file(io, "/d/a", 100, &data, &len), 0);
        ck_assert_uint_eq(len, 3);
        bool is_new = memcmp(data, "new", 3) == 0;
        ck_assert(is_new || memcmp(data, "old", 3) == 0);
        seen_new |= is_new;
        seen_old |= !is_new;
        free(data);
        int removed = io_unlink(io, "/d/a.tmp");
        ck_assert(removed == 0 || removed == -ENOENT);
        ck_assert_int_eq(io_unlink(io, "/d/a"), 0);
        ck_assert_int_eq(io_sync_dir(io, "/d"), 0);
    }
    ck_assert(seen_old && seen_new);
} END_TEST

START_TEST(replaced_file_survives_every_crash_point) {
    for (uint64_t point = 1; point < 100; point++) {
        ck_assert_int_eq(io_replace_file(io, "/d/state", "first", 5), 0);
        sim_crash_at(world, 0, sim_disk_ops(world, 0) + point);
        int result = io_replace_file(io, "/d/state", "second", 6);
        if (result == 0) {
            ck_assert_uint_gt(point, 4); /* else not one point was tried */
            return;
        }
        ck_assert(sim_crashed(world, 0));
        crash(SIM_TORN);
        uint8_t *data;
        size_t len;
        ck_assert_int_eq(io_read_file(io, "/d/state", 100, &data, &len), 0);
        ck_assert((len == 5 && memcmp(data, "first", 5) == 0) || (len == 6 && memcmp(data, "second", 6) == 0));
        free(data);
    }
    ck_abort_msg("never finished");
} END_TEST

START_TEST(dsync_write_is_durable_when_done) {
    int fd = create_durable("/d/a", "");
    write_at(fd, 0, "xxxxxxxx"); /* stays un-synced before it */
    struct counted c;
    struct iovec iov = {"DURABLE", 7};
    submit_write(&c, fd, 1, &iov, IO_DSYNC);
    finish(&c);
    ck_assert_int_eq(c.op.result, 7);
    crash(SIM_LOSE_ALL);
    uint8_t *data;
    size_t len;
    ck_assert_int_eq(io_read_file(io, "/d/a", 100, &data, &len), 0);
    ck_assert_uint_eq(len, 8);
    ck_assert_mem_eq(data, "\0DURABLE", 8);
    free(data);
} END_TEST

START_TEST(write_in_flight_may_be_lost_or_torn) {
    static uint8_t new_bytes[4096], old_bytes[4096];
    memset(new_bytes, 'n', sizeof new_bytes);
    memset(old_bytes, 'o', sizeof old_bytes);
    unsigned kept = 0, lost = 0, garbled = 0;
    for (int round = 0; round < 20; round++) {
        int fd = create("/d/a");
        ck_assert_int_eq(io_pwrite(io, fd, old_bytes, 4096, 0), 4096);
        ck_assert_int_eq(io_sync(io, fd), 0);
        ck_assert_int_eq(io_sync_dir(io, "/d"), 0);
        struct counted c;
        struct iovec iov = {new_bytes, 4096};
        submit_write(&c, fd, 0, &iov, IO_DSYNC);
        crash(SIM_TORN);
        ck_assert_uint_eq(c.done, 0);
        uint8_t *data;
        size_t len;
        ck_assert_int_eq(io_read_file(io, "/d/a", 8192, &data, &len), 0);
        ck_assert_uint_eq(len, 4096);
        for (size_t at = 0; at < len; at += SIM_SECTOR_BYTES) {
            if (memcmp(data + at, new_bytes, SIM_SECTOR_BYTES) == 0) kept++;
            else if (memcmp(data + at, old_bytes, SIM_SECTOR_BYTES) == 0) lost++;
            else garbled++;
        }
        free(data);
    }
    ck_assert(kept > 0 && lost > 0 && garbled > 0);
} END_TEST

START_TEST(a_torn_block_may_take_what_shares_it) {
    static uint8_t old_bytes[4096 + 600];
    memset(old_bytes, 'o', sizeof old_bytes);
    unsigned whole = 0, taken = 0, cut_taken = 0;
    for (int round = 0; round < 60; round++) {
        int fd = create("/d/a");
        ck_assert_int_eq(io_pwrite(io, fd, old_bytes, sizeof old_bytes, 0), (int64_t)sizeof old_bytes);
        ck_assert_int_eq(io_sync(io, fd), 0);
        ck_assert_int_eq(io_sync_dir(io, "/d"), 0);
        bool cut = round % 2;
        if (cut) ck_assert_int_eq(io_truncate(io, fd, 4096 + 550), 0);
        else write_at(fd, sizeof old_bytes, "appended");
        crash(SIM_TORN_BLOCK);
        uint8_t *data;
        size_t len;
        ck_assert_int_eq(io_read_file(io, "/d/a", 8192, &data, &len), 0);
        ck_assert_uint_ge(len, 4096 + 550);
        ck_assert_mem_eq(data, old_bytes, 4096); /* the block before is another one */
        bool same = memcmp(data + 4096, old_bytes + 4096, 550) == 0;
        whole += same;
        taken += !same && !cut;
        cut_taken += !same && cut;
        free(data);
        ck_assert_int_eq(io_unlink(io, "/d/a"), 0);
        ck_assert_int_eq(io_sync_dir(io, "/d"), 0);
    }
    ck_assert(whole > 10 && taken > 3 && cut_taken > 3);
} END_TEST

START_TEST(failed_sync_loses_the_data_for_good) {
    int fd = create_durable("/d/a", "old");
    write_at(fd, 0, "new");
    sim_fault(world, 0, &(struct sim_fault){.call = SIM_SYNC, .result = -EIO});
    ck_assert_int_eq(io_sync(io, fd), -EIO);
    expect("/d/a", "new");
    ck_assert_int_eq(io_sync(io, fd), 0); /* lies, as kernels do */
    crash(SIM_LOSE_NONE);
    expect("/d/a", "old");
} END_TEST

START_TEST(failed_directory_sync_loses_the_names) {
    create("/d/a");
    sim_fault(world, 0, &(struct sim_fault){.call = SIM_SYNC_DIR, .result = -EIO});
    ck_assert_int_eq(io_sync_dir(io, "/d"), -EIO);
    ck_assert_int_eq(io_sync_dir(io, "/d"), 0);
    expect("/d/a", "");
    crash(SIM_LOSE_NONE);
    expect("/d/a", NULL);
} END_TEST

START_TEST(failed_write_may_leave_whole_sectors) {
    static char bytes[8192];
    memset(bytes, 'n', sizeof bytes);
    bool seen_some = false;
    for (int i = 0; i < 20; i++) {
        int fd = io_open(io, "/d/a", CREATE | IO_OPEN_TRUNC);
        sim_fault(world, 0, &(struct sim_fault){.call = SIM_WRITE, .result = -EIO});
        ck_assert_int_eq(io_pwrite(io, fd, bytes, sizeof bytes, 0), -EIO);
        struct io_stat st;
        ck_assert_int_eq(io_fstat(io, fd, &st), 0);
        ck_assert_uint_eq(st.size_bytes % SIM_SECTOR_BYTES, 0);
        seen_some |= st.size_bytes > 0 && st.size_bytes < sizeof bytes;
    }
    ck_assert(seen_some);
} END_TEST

START_TEST(fault_strikes_the_nth_matching_call) {
    int a = create("/d/a"), b = create("/d/b");
    sim_fault(world, 0, &(struct sim_fault){.call = SIM_WRITE, .path_part = "/b", .skip = 1, .times = 2, .result = -ENOSPC});
    write_at(a, 0, "1");
    write_at(b, 0, "1");
    write_at(a, 0, "2");
    ck_assert_int_eq(io_pwrite(io, b, "2", 1, 0), -ENOSPC);
    ck_assert_int_eq(io_pwrite(io, b, "2", 1, 0), -ENOSPC);
    write_at(b, 0, "3");
    sim_fault(world, 0, &(struct sim_fault){.call = SIM_READ, .result = 2});
    char buf[8];
    write_at(a, 0, "12345");
    ck_assert_int_eq(io_pread(io, a, buf, 5, 0), 2);
    ck_assert_int_eq(io_pread(io, a, buf, 5, 0), 5);
} END_TEST

START_TEST(full_disk_cuts_short_then_fails) {
    struct io_space space;
    ck_assert_int_eq(io_space(io, "/d", &space), 0);
    sim_disk_capacity(world, 0, space.total_bytes - space.free_bytes + 8192);
    static char bytes[10000];
    int fd = create("/d/a");
    ck_assert_int_eq(io_pwrite(io, fd, bytes, sizeof bytes, 0), 8192);
    ck_assert_int_eq(io_pwrite(io, fd, bytes, 1, 8192), -ENOSPC);
    ck_assert_int_eq(io_pwrite(io, fd, bytes, 100, 0), 100);
    ck_assert_int_eq(io_truncate(io, fd, 0), 0);
    ck_assert_int_eq(io_reserve(io, fd, 0, 16384), -ENOSPC);
    ck_assert_int_eq(io_reserve(io, fd, 0, 8192), 0);
    ck_assert_int_eq(io_space(io, "/d", &space), 0);
    ck_assert_uint_eq(space.free_bytes, 0);
    ck_assert_int_eq(io_close(io, fd), 0);
    ck_assert_int_eq(io_unlink(io, "/d/a"), 0);
    ck_assert_int_eq(io_space(io, "/d", &space), 0);
    ck_assert_uint_eq(space.free_bytes, 8192);
} END_TEST

START_TEST(old_life_is_dead) {
    int fd = create_durable("/d/a", "x");
    int lock = io_lock(io, "/d/lock");
    ck_assert_int_ge(lock, 0);
    ck_assert_int_eq(io_lock(io, "/d/lock"), -EWOULDBLOCK);
    sim_crash(world, 0, SIM_LOSE_NONE);
    ck_assert_int_eq(io_pwrite(io, fd, "y", 1, 0), -ESHUTDOWN);
    ck_assert_int_eq(io_turn(io, INT64_MAX), -ESHUTDOWN);
    io_destroy(io);
    io = sim_io_create(world, 0);
    ck_assert_int_eq(io_pwrite(io, fd, "y", 1, 0), -EBADF);
    ck_assert_int_ge(io_lock(io, "/d/lock"), 0);
} END_TEST

START_TEST(damage_reaches_both_images) {
    create_durable("/d/a", "abcdef");
    ck_assert_int_eq(sim_file_flip(world, 0, "/d/a", 2, 0x20), 0);
    expect("/d/a", "abCdef");
    ck_assert_int_eq(sim_file_truncate(world, 0, "/d/a", 4), 0);
    crash(SIM_LOSE_ALL);
    expect("/d/a", "abCd");
    uint8_t *data;
    size_t len;
    ck_assert_int_eq(sim_file_read(world, 0, "/d/a", SIM_DURABLE, &data, &len), 0);
    ck_assert_uint_eq(len, 4);
    free(data);
} END_TEST

START_TEST(direct_io_demands_alignment) {
    int fd = io_open(io, "/d/a", CREATE | IO_OPEN_DIRECT);
    static _Alignas(4096) uint8_t block[8192];
    ck_assert_int_eq(io_pwrite(io, fd, block, 4096, 4096), 4096);
    ck_assert_int_eq(io_pwrite(io, fd, block + 1, 4096, 0), -EINVAL);
    ck_assert_int_eq(io_pwrite(io, fd, block, 4095, 0), -EINVAL);
    ck_assert_int_eq(io_pread(io, fd, block, 4096, 512), -EINVAL);
} END_TEST

/* Four writes in flight at once, crashed at each operation in turn: what completed is there whole. */
START_TEST(every_crash_point_of_parallel_writes) {
    static char blocks[4][4096];
    for (int i = 0; i < 4; i++) memset(blocks[i], '1' + i, sizeof blocks[i]);
    unsigned crashes = 0;
    for (uint64_t point = 1; point <= 5; point++) {
        int fd = io_open(io, "/d/a", CREATE | IO_OPEN_TRUNC);
        ck_assert_int_eq(io_sync(io, fd), 0);
        ck_assert_int_eq(io_sync_dir(io, "/d"), 0);
        sim_crash_at(world, 0, sim_disk_ops(world, 0) + point);
        struct counted ops[4];
        struct iovec iov[4];
        for (unsigned i = 0; i < 4; i++) {
            iov[i] = (struct iovec){blocks[i], 4096};
            submit_write(&ops[i], fd, i * 4096, &iov[i], IO_DSYNC);
        }
        unsigned done = 0;
        while (done < 4 && io_turn(io, INT64_MAX) == 0)
            for (done = 0; done < 4 && ops[done].done; done++) {}
        ck_assert_uint_eq(done < 4, sim_crashed(world, 0));
        crashes += sim_crashed(world, 0);
        crash(SIM_TORN);
        uint8_t *data;
        size_t len;
        ck_assert_int_eq(io_read_file(io, "/d/a", 1 << 20, &data, &len), 0);
        for (unsigned i = 0; i < 4; i++) {
            if (!ops[i].done) continue;
            ck_assert_uint_ge(len, (i + 1) * 4096);
            ck_assert_mem_eq(data + i * 4096, blocks[i], 4096);
        }
        free(data);
    }
    ck_assert_uint_eq(crashes, 4);
    sim_crash_at(world, 0, 0);
} END_TEST

/* ---- network ---------------------------------------------------------------------------------- */

struct stream { int listener, client, server; };

static struct stream stream_open(struct io *server_io, struct io *client_io) {
    struct sockaddr_storage addr = {0};
    struct sockaddr_in *in = (struct sockaddr_in *)&addr;
    in->sin_family = AF_INET;
    in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct stream st = {.listener = io_listen(server_io, &addr, 1), .client = io_socket(client_io, AF_INET)};
    ck_assert_int_ge(st.listener, 0);
    struct counted accept = {.op = {.kind = IO_ACCEPT, .fd = st.listener, .done = count_done}};
    struct counted connect = {.op = {.kind = IO_CONNECT, .fd = st.client, .addr = addr, .done = count_done}};
    io_submit(server_io, &accept.op);
    io_submit(client_io, &connect.op);
    while (!connect.done) ck_assert_int_eq(io_turn(client_io, INT64_MAX), 0);
    while (!accept.done) ck_assert_int_eq(io_turn(server_io, INT64_MAX), 0);
    ck_assert_int_eq(connect.op.result, 0);
    st.server = (int)accept.op.result;
    ck_assert_int_ge(st.server, 0);
    return st;
}

static int64_t recv_on(struct io *on, int fd, void *buf, uint32_t len) {
    struct counted c = {.op = {.kind = IO_RECV, .fd = fd, .buf = buf, .len = len, .done = count_done}};
    io_submit(on, &c.op);
    while (!c.done) ck_assert_int_eq(io_turn(on, INT64_MAX), 0);
    return c.op.result;
}

static int64_t send_on(struct io *on, int fd, const char *text) {
    struct iovec iov = {(void *)(uintptr_t)text, strlen(text)};
    struct counted c = {.op = {.kind = IO_SEND, .fd = fd, .iov = &iov, .iov_count = 1, .done = count_done}};
    io_submit(on, &c.op);
    while (!c.done) ck_assert_int_eq(io_turn(on, INT64_MAX), 0);
    return c.op.result;
}

START_TEST(crash_resets_the_connections_of_the_node) {
    struct io *other = sim_io_create(world, 1);
    struct stream st = stream_open(io, other);
    char buf[8];
    ck_assert_int_eq(send_on(io, st.server, "x"), 1);
    ck_assert_int_eq(recv_on(other, st.client, buf, 8), 1);
    crash(SIM_LOSE_NONE);
    ck_assert_int_eq(recv_on(other, st.client, buf, 8), -ECONNRESET);
    ck_assert_int_eq(io_close(other, st.client), 0);
    io_destroy(other);
} END_TEST

START_TEST(connection_resets_on_demand) {
    struct io *other = sim_io_create(world, 1);
    struct stream st = stream_open(io, other);
    char buf[8];
    sim_reset_connection(world, 1, st.client);
    ck_assert_int_eq(recv_on(io, st.server, buf, 8), -ECONNRESET);
    ck_assert_int_eq(recv_on(other, st.client, buf, 8), -ECONNRESET);
    ck_assert_int_eq(send_on(io, st.server, "x"), -ECONNRESET);
    ck_assert_int_eq(io_close(other, st.client), 0);
    io_destroy(other);
} END_TEST

/* One way: what goes the other way arrives; then all that stalled comes in order. */
START_TEST(a_cut_link_stalls_what_goes_over_it) {
    struct io *other = sim_io_create(world, 1);
    struct stream st = stream_open(io, other);
    char buf[8];
    sim_link_cut(world, 1, 0, true);
    ck_assert_int_eq(send_on(other, st.client, "ab"), 2);
    ck_assert_int_eq(send_on(io, st.server, "x"), 1);
    ck_assert_int_eq(recv_on(other, st.client, buf, 8), 1);
    struct counted c = {.op = {.kind = IO_RECV, .fd = st.server, .flags = IO_WAITALL, .buf = buf, .len = 4, .done = count_done}};
    io_submit(io, &c.op);
    ck_assert_int_eq(io_turn(io, io_mono_ns(io) + 10000000000), 0);
    ck_assert_int_eq(c.done, 0);
    ck_assert_int_eq(send_on(other, st.client, "c"), 1);
    sim_link_cut(world, 1, 0, false);
    ck_assert_int_eq(send_on(other, st.client, "d"), 1);
    while (!c.done) ck_assert_int_eq(io_turn(io, INT64_MAX), 0);
    ck_assert_mem_eq(buf, "abcd", 4);
    ck_assert_int_eq(io_close(other, st.client), 0);
    io_destroy(other);
} END_TEST

START_TEST(connections_of_a_cut_link_may_end_unheard) {
    struct io *other = sim_io_create(world, 1);
    struct stream st = stream_open(io, other);
    char buf[8];
    sim_link_cut(world, 1, 0, true);
    sim_link_cut(world, 0, 1, true);
    ck_assert_int_eq(send_on(other, st.client, "ab"), 2);
    sim_link_reset(world, 0, 1);
    ck_assert_int_eq(recv_on(io, st.server, buf, 8), -ECONNRESET);
    ck_assert_int_eq(recv_on(other, st.client, buf, 8), -ECONNRESET);
    ck_assert_int_eq(io_close(other, st.client), 0);
    io_destroy(other);
} END_TEST

START_TEST(a_connect_waits_for_the_link) {
    struct io *other = sim_io_create(world, 1);
    struct stream st = stream_open(io, other);
    struct sockaddr_storage addr;
    ck_assert_int_eq(io_sockname(io, st.listener, &addr), 0);
    sim_link_cut(world, 0, 1, true);
    int fd = io_socket(other, AF_INET);
    struct counted c = {.op = {.kind = IO_CONNECT, .fd = fd, .addr = addr, .done = count_done}};
    io_submit(other, &c.op);
    ck_assert_int_eq(io_turn(other, io_mono_ns(other) + 10000000000), 0);
    ck_assert_int_eq(c.done, 0);
    sim_link_cut(world, 0, 1, false);
    while (!c.done) ck_assert_int_eq(io_turn(other, INT64_MAX), 0);
    ck_assert_int_eq(c.op.result, 0);
    ck_assert_int_eq(io_close(other, fd), 0);
    ck_assert_int_eq(io_close(other, st.client), 0);
    io_destroy(other);
} END_TEST

START_TEST(short_receives_cut_anywhere) {
    struct io *other = sim_io_create(world, 1);
    struct stream st = stream_open(io, other);
    sim_tuning(world)->short_receives = true;
    const char *text = "0123456789abcdefghijklmnopqrstuvwxyz";
    unsigned receives = 0;
    for (int round = 0; round < 20; round++) {
        char got[64];
        size_t len = 0;
        ck_assert_int_eq(send_on(other, st.client, text), (int64_t)strlen(text));
        for (; len < strlen(text); receives++) {
            int64_t n = recv_on(io, st.server, got + len, (uint32_t)(sizeof got - len));
            ck_assert_int_gt(n, 0);
            len += (size_t)n;
        }
        ck_assert_mem_eq(got, text, strlen(text));
    }
    ck_assert_uint_gt(receives, 25);
    ck_assert_int_eq(io_close(other, st.client), 0);
    io_destroy(other);
} END_TEST

static jmp_buf fatal_jump;

START_TEST(fatal_takes_the_node_down) {
    sim_fatal(world)->jump = &fatal_jump;
    if (setjmp(fatal_jump) == 0) io_fatal(io, 3, "no more");
    ck_assert(sim_fatal(world)->happened && sim_fatal(world)->exit_code == 3);
    ck_assert_str_eq(sim_fatal(world)->message, "no more");
    ck_assert(sim_crashed(world, 0));
    ck_assert_int_eq(io_mkdir(io, "/x"), -ESHUTDOWN);
} END_TEST

START_TEST(nothing_to_wait_for_is_said) {
    ck_assert_int_eq(io_turn(io, INT64_MAX), -EDEADLK);
    int64_t deadline = io_mono_ns(io) + 5000000;
    ck_assert_int_eq(io_turn(io, deadline), 0);
    ck_assert_int_ge(io_mono_ns(io), deadline);
} END_TEST

/* A bit of everything, ending in a crash in mid-work. */
static uint64_t busy_run(uint64_t seed, uint64_t *content) {
    struct sim_world *w = sim_world_new(seed);
    struct io *mine = sim_io_create(w, 3), *before = io;
    io = mine;
    ck_assert_int_eq(io_mkdir(io, "/d"), 0);
    int fd = create("/d/a");
    static uint8_t bytes[8][4096];
    struct counted ops[8];
    struct iovec iov[8];
    for (unsigned round = 0; round < 10; round++) {
        for (unsigned i = 0; i < 8; i++) {
            io_entropy(io, bytes[i], sizeof bytes[i]);
            iov[i] = (struct iovec){bytes[i], sizeof bytes[i]};
            submit_write(&ops[i], fd, i * 4096, &iov[i], i % 2 ? IO_DSYNC : 0);
        }
        for (unsigned i = 0; i < 8; i++) finish(&ops[i]);
    }
    for (unsigned i = 0; i < 4; i++) submit_write(&ops[i], fd, i * 4096, &iov[7 - i], 0);
    ck_assert_int_eq(io_sync_dir(io, "/d"), 0);
    ck_assert_int_eq(io_sync_dir(io, "/"), 0);
    sim_crash(w, 3, SIM_TORN);
    io_destroy(mine);
    io = before;
    uint8_t *data;
    size_t len;
    ck_assert_int_eq(sim_file_read(w, 3, "/d/a", SIM_DURABLE, &data, &len), 0);
    *content = len;
    for (size_t i = 0; i < len; i++) *content = *content * 31 + data[i];
    free(data);
    uint64_t hash = sim_hash(w);
    sim_world_free(w);
    return hash;
}

START_TEST(same_seed_same_run) {
    uint64_t first, again, other;
    uint64_t hash = busy_run(7, &first);
    ck_assert_uint_eq(busy_run(7, &again), hash);
    ck_assert_uint_eq(first, again);
    ck_assert_uint_ne(busy_run(8, &other), hash);
    ck_assert_uint_ne(first, other);
} END_TEST

int main(void) {
    Suite *suite = suite_create("io_sim");
    TCase *tc = tcase_create("disk");
    tcase_add_checked_fixture(tc, begin, end);
    tcase_add_test(tc, lose_all_keeps_what_was_synced);
    tcase_add_test(tc, lose_none_keeps_everything);
    tcase_add_test(tc, synced_content_without_durable_name_is_lost);
    tcase_add_test(tc, unsynced_truncation_comes_undone);
    tcase_add_test(tc, rename_is_old_or_new);
    tcase_add_test(tc, replaced_file_survives_every_crash_point);
    tcase_add_test(tc, dsync_write_is_durable_when_done);
    tcase_add_test(tc, write_in_flight_may_be_lost_or_torn);
    tcase_add_test(tc, a_torn_block_may_take_what_shares_it);
    tcase_add_test(tc, failed_sync_loses_the_data_for_good);
    tcase_add_test(tc, failed_directory_sync_loses_the_names);
    tcase_add_test(tc, failed_write_may_leave_whole_sectors);
    tcase_add_test(tc, fault_strikes_the_nth_matching_call);
    tcase_add_test(tc, full_disk_cuts_short_then_fails);
    tcase_add_test(tc, old_life_is_dead);
    tcase_add_test(tc, damage_reaches_both_images);
    tcase_add_test(tc, direct_io_demands_alignment);
    tcase_add_test(tc, every_crash_point_of_parallel_writes);
    tcase_add_test(tc, crash_resets_the_connections_of_the_node);
    tcase_add_test(tc, connection_resets_on_demand);
    tcase_add_test(tc, a_cut_link_stalls_what_goes_over_it);
    tcase_add_test(tc, connections_of_a_cut_link_may_end_unheard);
    tcase_add_test(tc, a_connect_waits_for_the_link);
    tcase_add_test(tc, short_receives_cut_anywhere);
    tcase_add_test(tc, fatal_takes_the_node_down);
    tcase_add_test(tc, nothing_to_wait_for_is_said);
    tcase_add_test(tc, same_seed_same_run);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
