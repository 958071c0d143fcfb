/* test_log_space.c - small disks that fill up: what was accepted has a place to go. After records are refused a stop finds
 * room for everything, whatever the logs look like; and what fails for want of space while it stops is only late.
 * The seeds are 1..VARVE_SEEDS, from VARVE_SEED_FROM. */
#include "tests/unit/log_fixture.h"
#include "tests/unit/mutants.h"

enum { LOGS_MAX = 40, STOP_NS_MAX = 15 };

struct filling {
    struct prng rng;
    struct model logs[LOGS_MAX];
    uint32_t count;
    bool idempotent;
};

static uint64_t pick(struct filling *f, uint64_t n) { return prng_below(&f->rng, n); }

static void fill_begin(struct filling *f, uint64_t seed) {
    *f = (struct filling){.rng = {seed * 31 + 5}};
    m = (struct machine){.world = sim_world_new(seed)};
    m.config = machine_config("/data", 1 + (uint32_t)pick(f, 2));
    m.config.disk_reserve_bytes = (256u << 10) << pick(f, 5);
    m.config.tail_bytes = (256u << 10) << pick(f, 5);
    sim_disk_capacity(m.world, 0, (8u << 20) + pick(f, 16u << 20));
    f->idempotent = pick(f, 2);
    start();
    f->count = 1 + (uint32_t)(pick(f, 2) ? pick(f, 3) : pick(f, LOGS_MAX));
    uint32_t segment_bytes = pick(f, 2) ? 1u << 30 : (200u << 10) << pick(f, 4);
    uint32_t interval = pick(f, 3) ? 4096 : 0;
    for (uint32_t i = 0; i < f->count; i++) {
        struct log_spec s = spec_of("t", (int32_t)i);
        s.config.segment_bytes = segment_bytes;
        s.config.index_interval_bytes = interval;
        create_spec(&f->logs[i], &s);
    }
}

/* Until records are refused for want of disk space. */
static void fill(struct filling *f) {
    uint32_t value = pick(f, 2) ? 100000 : 3000u << pick(f, 5);
    int64_t id = 1;
    for (uint32_t refused = 0, waits = 0; refused < 50;) {
        struct model *x = &f->logs[pick(f, f->count)];
        struct batch_spec s = {.records = 1, .value_bytes = 1 + (uint32_t)pick(f, value), .timestamp = 1000, .producer_id = -1, .seed = next_seed++};
        if (f->idempotent) s.producer_id = id++ % 500;
        s.base_sequence = 0;
        s.producer_epoch = (int16_t)(id / 500 % 30000);
        struct log_append a;
        enum err err = append_spec(x->log, &s, &a);
        if (err == OK) model_add(x, a.base_offset, a.last_offset, &s);
        ck_assert_msg(err == OK || err == ERR_AGAIN || err == ERR_NOSPACE, "append: %s", err_str(err));
        waits = err == ERR_AGAIN ? waits + 1 : 0;
        ck_assert_uint_lt(waits, 100000);
        refused += err == ERR_NOSPACE;
        if (err != OK || pick(f, 4) == 0) ck_assert(machine_turn(&m, (int64_t)pick(f, 3000000)));
    }
}

/* False: it takes too long. */
static bool stop_in_time(void) {
    int64_t until = io_mono_ns(m.io) + INT64_C(1000000000) * STOP_NS_MAX;
    log_store_stop(m.store, machine_stopped, &m);
    while (!m.stopped && io_mono_ns(m.io) < until)
        if (!machine_turn(&m, 10000000)) return false;
    return m.stopped;
}

static void fill_end(struct filling *f) {
    for (uint32_t i = 0; i < f->count; i++) model_free(&f->logs[i]);
    teardown();
}

static void check_again(struct filling *f) {
    start();
    for (uint32_t i = 0; i < f->count; i++) {
        reopened(&f->logs[i]);
        check_all(&f->logs[i], 1 << 20);
    }
}

static uint64_t from_env(const char *name, uint64_t otherwise) {
    const char *v = getenv(name);
    return v ? strtoull(v, NULL, 10) : otherwise;
}

START_TEST(what_was_accepted_has_a_place) {
    uint64_t from = from_env("VARVE_SEED_FROM", 1), seeds = from_env("VARVE_SEEDS", 40);
    for (uint64_t seed = from; seed < from + seeds; seed++) {
        struct filling f;
        fill_begin(&f, seed);
        fill(&f);
        bool stopped = stop_in_time();
        ck_assert_msg(stopped && m.stop_err == OK, "seed %llu: %u logs, reserve %llu: the stop %s", (unsigned long long)seed, f.count,
                      (unsigned long long)m.config.disk_reserve_bytes, !stopped ? "does not end" : err_str(m.stop_err));
        machine_close(&m);
        check_again(&f);
        ck_assert(m.recovery.clean);
        sim_crash(m.world, 0, SIM_LOSE_ALL);
        machine_close(&m);
        fill_end(&f);
    }
}
END_TEST

static void add_size(void *ctx, const char *path, uint64_t size_bytes) {
    (void)path;
    *(uint64_t *)ctx += ALIGN_UP(size_bytes, (uint64_t)IO_BLOCK_BYTES);
}

/* Somebody else takes the disk, the reserve too, up to a few blocks. A stop then waits, without giving the directory up, and ends
 * well when there is space; or a crash comes first, and nothing is lost. */
START_TEST(a_stop_waits_for_space) {
    uint64_t from = from_env("VARVE_SEED_FROM", 1), seeds = from_env("VARVE_SEEDS", 40), waited = 0;
    for (uint64_t seed = from; seed < from + seeds; seed++) {
        struct filling f;
        fill_begin(&f, seed);
        sim_disk_capacity(m.world, 0, UINT64_C(1) << 30);
        for (uint32_t i = 0; i < 100 + pick(&f, 200); i++) {
            struct model *x = &f.logs[pick(&f, f.count)];
            append_n(x, 1, 1, 1 + (uint32_t)pick(&f, 8000), 1000);
            if (pick(&f, 40) == 0) journal_checkpoint(m.store->journal, false, NULL, NULL);
        }
        uint64_t used = 0;
        sim_files(m.world, 0, add_size, &used);
        sim_disk_capacity(m.world, 0, used + pick(&f, 60) * IO_BLOCK_BYTES);
        bool stopped = stop_in_time();
        waited += !stopped;
        ck_assert_msg(m.failed == OK, "seed %llu: given up: %s", (unsigned long long)seed, err_str(m.failed));
        bool crash = !stopped && pick(&f, 3) == 0;
        sim_disk_capacity(m.world, 0, UINT64_C(1) << 30);
        if (crash) sim_crash(m.world, 0, (enum sim_crash_policy)pick(&f, SIM_KILLED));
        for (int i = 0; !crash && !m.stopped; i++) {
            ck_assert_int_lt(i, 3000);
            ck_assert(machine_turn(&m, 10000000));
        }
        ck_assert_msg(crash || m.stop_err == OK, "seed %llu: the stop: %s", (unsigned long long)seed, err_str(m.stop_err));
        machine_close(&m);
        check_again(&f);
        ck_assert(crash || m.recovery.clean);
        sim_crash(m.world, 0, SIM_LOSE_ALL);
        machine_close(&m);
        fill_end(&f);
    }
    ck_assert_uint_gt(waited, 0);
}
END_TEST

/* ---- a full journal ------------------------------------------------------------------------------- */

static void was_writable(void *ctx) { *(bool *)ctx = true; }

/* Until its slice is durable; false: it waits for space. */
static bool is_durable(struct log_shard *sh) {
    for (int i = 0; i < 200 && sh->submitted_count + (sh->open && sh->open->s.entries > 0) > 0; i++) ck_assert(machine_turn(&m, 1000000));
    return sh->submitted_count == 0;
}

/* A checkpoint that makes no headway, and clients that move log starts: what the checkpoint may have to wait for finds room. */
START_TEST(log_starts_leave_the_reserve_of_the_journal) {
    struct model x;
    m = (struct machine){.world = sim_world_new(77)};
    m.config = machine_config("/data", 1);
    start();
    create(&x, "t", 0);
    append_n(&x, 40, 1, 1000, 1);
    struct log_shard *sh = m.shards[0];
    bool writable = false;
    log_shard_on_writable(sh, was_writable, &writable);
    uint32_t writers = sh->writers_max, moves = 0;
    sh->writers_max = 0;
    journal_checkpoint(m.store->journal, false, NULL, NULL);
    for (; log_start_room(x.log); moves++) {
        ck_assert_uint_lt(moves, 100000);
        ck_assert_int_eq(log_set_start(x.log, x.log->start, NULL, NULL), OK);
        ck_assert(is_durable(sh));
    }
    ck_assert_uint_gt(moves, 1000);
    ck_assert_int_eq(journal_pressure(m.store->journal), 2);
    ck_assert(sh->checkpoint.active && !writable);
    ck_assert_int_eq(log_set_vote(x.log, &(struct log_vote){.epoch = 5}), OK);
    ck_assert(is_durable(sh)); /* the eighth that is not for records */
    for (int i = 0; i < 100; i++) {
        ck_assert_int_eq(log_truncate(x.log, x.log->epoch, x.log->end - 1 > x.log->start ? x.log->end - 1 : x.log->start), OK);
        ck_assert(is_durable(sh));
    }
    sh->writers_max = writers;
    shard_work(sh);
    for (int i = 0; i < 1000 && !writable; i++) ck_assert(machine_turn(&m, 10000000));
    ck_assert(writable && log_start_room(x.log));
    stop();
    model_free(&x);
    teardown();
}
END_TEST

int main(void) {
    mutant_choose();
    Suite *s = suite_create("log space");
    TCase *t = tcase_create("space");
    tcase_set_timeout(t, 0);
    tcase_add_test(t, what_was_accepted_has_a_place);
    suite_add_tcase(s, t);
    t = tcase_create("taken");
    tcase_set_timeout(t, 0);
    tcase_add_test(t, a_stop_waits_for_space);
    tcase_add_test(t, log_starts_leave_the_reserve_of_the_journal);
    suite_add_tcase(s, t);
    return run_suite(s);
}
