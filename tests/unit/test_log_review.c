/* test_log_review.c - one sequence of steps each that once lost, mixed up or hid something; over the simulated disk. */
#include <check.h>
#include <fcntl.h>
#include "log/faulty.h"
#include "tests/unit/log_harness.h"

static struct machine m;

static void setup(const char *dir) {
    m = (struct machine){.world = sim_world_new(11)};
    ck_assert_ptr_nonnull(m.world);
    m.config = machine_config(dir, 1);
}

static void teardown(void) { sim_world_free(m.world); }

static void start(void) {
    enum err err = machine_open(&m);
    ck_assert_msg(err == OK, "open: %s: %s", err_str(err), m.why);
}

static void crash(enum sim_crash_policy policy) {
    sim_crash(m.world, 0, policy);
    machine_close(&m);
}

static void turns(int n) {
    while (n-- > 0) ck_assert(machine_turn(&m, 1000000));
}

static void on_created(struct log *l, void *ctx, enum err err) {
    (void)l;
    *(enum err *)ctx = err;
}

static struct log *create(struct model *x, const char *topic, uint32_t segment_bytes) {
    enum err created = ERR_COUNT;
    struct log_spec s = {.plid = log_store_new_plid(m.store), .topic = topic, .first_epoch = 1};
    log_config_defaults(&s.config);
    s.config.segment_bytes = segment_bytes;
    *x = (struct model){.plid = s.plid};
    snprintf(x->topic, sizeof x->topic, "%s", topic);
    ck_assert_int_eq(log_create(m.shards[0], &s, &x->log, on_created, &created), OK);
    while (created == ERR_COUNT) ck_assert(machine_turn(&m, 1000000));
    ck_assert_int_eq(created, OK);
    x->log->on_durable = model_durable;
    x->log->owner = x;
    return x->log;
}

static void reopened(struct model *x) {
    x->log = log_shard_by_plid(m.shards[0], x->plid);
    ck_assert_ptr_nonnull(x->log);
    x->log->on_durable = model_durable;
    x->log->owner = x;
    model_opened(x);
}

static void append(struct model *x, int n, uint32_t value_bytes) {
    static uint64_t seed;
    for (int i = 0; i < n; i++) {
        struct batch_spec s = {.records = 2, .value_bytes = value_bytes, .timestamp = 1000, .producer_id = -1, .seed = ++seed};
        struct log_append a;
        enum err err;
        while ((err = append_spec(x->log, &s, &a)) == ERR_AGAIN) ck_assert(machine_turn(&m, 1000000));
        ck_assert_msg(err == OK, "append: %s", err_str(err));
        model_add(x, a.base_offset, a.last_offset, &s);
    }
    ck_assert(machine_settle(&m, x->log));
}

static void check_all(struct model *x) {
    const char *wrong = model_check(&m, x, 1);
    ck_assert_msg(wrong == NULL, "%s: %s", x->topic, wrong ? wrong : "");
    ck_assert_int_eq(x->log->end, x->end);
}

static void on_checkpoint(void *ctx, enum err err) { *(enum err *)ctx = err; }

static void checkpoint(void) {
    enum err done = ERR_COUNT;
    journal_checkpoint(m.store->journal, false, on_checkpoint, &done);
    while (done == ERR_COUNT) ck_assert(machine_turn(&m, 1000000));
    ck_assert_int_eq(done, OK);
    turns(8);
}

/* What is in files is read from there from now on. */
static void evict_all(void) {
    m.shards[0]->tail_bytes_max = 0;
    shard_evict(m.shards[0]);
}

static void ignore_start(struct log *l, void *ctx, enum err err) {
    (void)l;
    *(enum err *)ctx = err;
}

static void set_start(struct model *x, int64_t offset) {
    enum err done = ERR_COUNT;
    ck_assert_int_eq(log_set_start(x->log, offset, ignore_start, &done), OK);
    while (done == ERR_COUNT) ck_assert(machine_turn(&m, 1000000));
    ck_assert_int_eq(done, OK);
}

/* A truncation drops a segment, and the log grows again so that a segment has the same base: all that in the journal
 * only, for the folder did not survive. The file of the new one must not go with the next thing that drops files. */
START_TEST(a_plid_that_metadata_gave_is_not_given_again) {
    setup("/plid");
    start();
    uint64_t next = log_store_new_plid(m.store);
    log_store_plid_taken(m.store, next + 10);
    log_store_plid_taken(m.store, next);
    ck_assert_uint_eq(log_store_new_plid(m.store), next + 11);
    crash(SIM_LOSE_ALL);
    teardown();
}
END_TEST

START_TEST(a_segment_made_again_outlives_the_dropped_one) {
    struct model a;
    setup("/data");
    start();
    create(&a, "t", 3000);
    append(&a, 6, 400);
    int64_t base = impl_of(a.log)->segments[1].base;
    int64_t to = a.batches[1].base;
    ck_assert_int_eq(log_truncate(a.log, 1, to), OK);
    model_cut(&a, to);
    append(&a, 8, 400);
    ck_assert_int_eq(impl_of(a.log)->segments[1].base, base);
    crash(SIM_LOSE_ALL);
    start();
    reopened(&a);
    check_all(&a);
    checkpoint();
    evict_all();
    check_all(&a);
    set_start(&a, 1);
    turns(50);
    checkpoint();
    files_forget(&m.shards[0]->files, a.plid, -1);
    check_all(&a);
    crash(SIM_LOSE_ALL);
    model_free(&a);
    teardown();
}
END_TEST

/* While a checkpoint is under way the log start moves, and before that is durable the node dies. Then the log starts where
 * it did, and everything is there. */
START_TEST(a_checkpoint_waits_for_the_log_start) {
    struct model a;
    setup("/data");
    start();
    create(&a, "t", 3000);
    append(&a, 12, 400);
    ck_assert_uint_gt(impl_of(a.log)->segment_count, 2);
    append(&a, 1, 10);
    /* The files have nothing of the last segments yet. */
    journal_checkpoint(m.store->journal, false, NULL, NULL);
    while (!m.shards[0]->checkpoint.active) ck_assert(machine_turn(&m, 0));
    int64_t offset = a.batches[a.count - 1].base;
    enum err started = ERR_COUNT;
    ck_assert_int_eq(log_set_start(a.log, offset, ignore_start, &started), OK);
    for (int i = 0; i < 2000; i++) {
        /* A turn of the machine, but the shard submits nothing. */
        mailbox_drain(&m.mail[0]);
        timers_run(&m.timers, io_mono_ns(m.io));
        (void)io_turn(m.io, io_mono_ns(m.io) + 100000);
    }
    ck_assert_int_eq(started, ERR_COUNT);
    crash(SIM_LOSE_ALL);
    start();
    reopened(&a);
    ck_assert(!a.log->faulty);
    ck_assert_int_eq(a.log->start, 0);
    check_all(&a);
    /* And with every turn it goes through. */
    checkpoint();
    journal_checkpoint(m.store->journal, false, NULL, NULL);
    append(&a, 12, 400);
    journal_checkpoint(m.store->journal, false, NULL, NULL);
    while (!m.shards[0]->checkpoint.active) ck_assert(machine_turn(&m, 0));
    set_start(&a, a.log->durable_end);
    checkpoint();
    crash(SIM_LOSE_ALL);
    start();
    reopened(&a);
    ck_assert(!a.log->faulty);
    crash(SIM_LOSE_ALL);
    model_free(&a);
    teardown();
}
END_TEST

/* A read that is under way while the partition is deleted and made anew finds nothing rather than the new one's records. */
START_TEST(a_read_of_a_deleted_log_never_sees_its_namesake) {
    struct model a, b;
    setup("/data");
    start();
    create(&a, "t", 1u << 30);
    append(&a, 40, 2000);
    checkpoint();
    evict_all();
    files_forget(&m.shards[0]->files, a.plid, -1);
    sim_tuning(m.world)->disk_ns_min = sim_tuning(m.world)->disk_ns_max = 20000000000;
    bool done = false;
    struct log_read r = {.offset = 60, .max_offset = a.log->end, .max_bytes = 1, .min_one = true, .done = read_flag,
                         .owner = &done};
    ck_assert(!log_read(a.log, &r)); /* the index is read first, slowly */
    sim_tuning(m.world)->disk_ns_min = sim_tuning(m.world)->disk_ns_max = 20000;
    log_delete(a.log, NULL, NULL);
    turns(20);
    create(&b, "t", 1u << 30);
    append(&b, 40, 2000);
    checkpoint();
    ck_assert(!done);
    while (!done) ck_assert(machine_turn(&m, 1000000000));
    ck_assert_int_eq(r.err, ERR_CLOSED);
    ck_assert_uint_eq(r.bytes, 0);
    turns(5);
    check_all(&b);
    crash(SIM_LOSE_ALL);
    model_free(&a);
    model_free(&b);
    teardown();
}
END_TEST

/* Base offset and leader epoch are not under the batch's CRC. */
START_TEST(every_flipped_bit_of_a_batch_in_a_file_is_noticed) {
    struct model a;
    setup("/data");
    start();
    create(&a, "t", 1u << 30);
    /* Small ones, whose successors are in the same read and give them away, and large ones. */
    append(&a, 12, _i == 0 ? 1000 : 60000);
    checkpoint();
    evict_all();
    uint32_t position = 0;
    for (int k = 0; k < 11; k++) {
        static const char path[] = "/data/t-0/00000000000000000000.log";
        for (uint32_t bit = 0; bit < 8 * 16 && k % 4 != 1; bit += _i == 0 || bit < 8 ? 1 : 7) { /* base offset, length, epoch */
            ck_assert_int_eq(sim_file_flip(m.world, 0, path, position + bit / 8, (uint8_t)(1u << bit % 8)), 0);
            memset(m.shards[0]->hints, 0, sizeof m.shards[0]->hints);
            for (int64_t offset = a.batches[k].base; offset < a.batches[k].end; offset++) {
                struct log_read r = {.offset = offset, .max_offset = a.log->end, .max_bytes = 1, .min_one = true};
                enum err err = read_wait(&m, a.log, &r);
                const char *wrong = err == OK ? model_compare(&a, &r) : NULL;
                ck_assert_msg(err != OK, "batch %d bit %u: read of %lld succeeds: %s", k, bit, (long long)offset,
                              wrong ? wrong : "the same bytes");
                log_read_release(&r);
            }
            ck_assert_int_eq(sim_file_flip(m.world, 0, path, position + bit / 8, (uint8_t)(1u << bit % 8)), 0);
            const struct log_impl *l = impl_of(a.log);
            ck_assert_uint_eq(l->faulty_count, 1); /* this batch and no other */
            ck_assert_int_eq(l->faulty[0].start, a.batches[k].base);
            ck_assert_int_eq(l->faulty[0].end, a.batches[k].end);
            faulty_heal(impl_of(a.log), a.batches[k].base);
        }
        position += a.batches[k].len;
    }
    check_all(&a);
    crash(SIM_LOSE_ALL);
    model_free(&a);
    teardown();
}
END_TEST

/* A folder of the log's name whose manifest is not there yet may be another shard's, made this very moment. */
START_TEST(a_folder_without_a_manifest_is_not_taken) {
    struct model a;
    setup("/data");
    start();
    ck_assert_int_eq(io_mkdir(m.io, "/data/t-0"), 0);
    create(&a, "t", 1u << 30);
    append(&a, 3, 300000);
    turns(200);
    struct io_stat st;
    ck_assert_int_lt(io_stat_path(m.io, "/data/t-0/varve.manifest", &st), 0);
    ck_assert_int_lt(io_stat_path(m.io, "/data/t-0/00000000000000000000.log", &st), 0);
    check_all(&a);
    ck_assert_int_eq(io_rmdir(m.io, "/data/t-0"), 0);
    checkpoint();
    ck_assert_ptr_null(model_check_files(&m, &a, true));
    crash(SIM_LOSE_ALL);
    model_free(&a);
    teardown();
}
END_TEST

/* Killed anywhere in its first start, a store starts again, acknowledges, and keeps that when the power fails. */
START_TEST(a_first_start_cut_short_anywhere) {
    for (uint64_t op = 1;; op++) {
        struct model a;
        setup("/var/lib/data");
        sim_crash_at(m.world, 0, op);
        enum err err = machine_open(&m);
        bool whole = err == OK && !sim_crashed(m.world, 0);
        if (err != OK) ck_assert_msg(sim_crashed(m.world, 0), "op %llu: %s: %s", (unsigned long long)op, err_str(err), m.why);
        sim_crash_at(m.world, 0, 0);
        sim_crash(m.world, 0, SIM_KILLED);
        if (m.store) {
            machine_close(&m);
        } else {
            timers_free(&m.timers);
            io_destroy(m.io);
        }
        start();
        create(&a, "t", 1u << 30);
        append(&a, 3, 100);
        crash(SIM_LOSE_ALL);
        start();
        ck_assert_msg(!m.recovery.fresh, "op %llu: the directory is gone", (unsigned long long)op);
        reopened(&a);
        check_all(&a);
        crash(SIM_LOSE_ALL);
        model_free(&a);
        teardown();
        if (whole) break;
    }
}
END_TEST

/* What a failed sync has lost is written again by the next life, whatever its page cache says. */
START_TEST(a_failed_sync_of_a_segment_loses_nothing) {
    for (uint64_t skip = 0; skip < 3; skip++) {
        struct model a;
        setup("/data");
        start();
        create(&a, "t", 1u << 30);
        append(&a, 5, 300);
        checkpoint();
        append(&a, 5, 700);
        static const char *const parts[] = {".log", "/t-0", ""};
        enum sim_call call = skip == 1 ? SIM_SYNC_DIR : SIM_SYNC;
        sim_fault(m.world, 0, &(struct sim_fault){.call = call, .path_part = parts[skip], .result = -5});
        journal_checkpoint(m.store->journal, false, NULL, NULL);
        append(&a, 1, 700);
        for (int i = 0; i < 300 && m.failed == OK; i++) (void)machine_turn(&m, 1000000);
        sim_faults_clear(m.world, 0);
        crash(SIM_KILLED);
        start();
        reopened(&a);
        check_all(&a);
        checkpoint();
        crash(SIM_LOSE_ALL);
        start();
        reopened(&a);
        ck_assert(!a.log->faulty);
        check_all(&a);
        evict_all();
        check_all(&a);
        crash(SIM_LOSE_ALL);
        model_free(&a);
        teardown();
    }
}
END_TEST

/* A block that is written again, or cut, may be torn as a whole when the power fails: what was synced in it must come back
 * from the journal. Whenever the node dies while a change of the file is not synced, a byte below W in that block is spoilt. */
START_TEST(a_torn_block_comes_back_from_its_image) {
    static const char path[] = "/data/t-0/00000000000000000000.log";
    uint32_t torn = 0;
    for (uint64_t op = 1; op < 60; op++) {
        struct model a;
        setup("/data");
        start();
        create(&a, "t", 1u << 30);
        append(&a, 3, 300);
        checkpoint();
        append(&a, 1, 300);
        if (_i == 1) {
            append(&a, 3, 300);
            checkpoint();
        }
        const struct log_impl *l = impl_of(a.log);
        uint32_t position = l->segments[0].written_bytes;
        sim_crash_at(m.world, 0, sim_disk_ops(m.world, 0) + op);
        int64_t to = a.batches[4 < a.count ? 4 : 0].base;
        if (_i == 1) {
            ck_assert_int_eq(log_truncate(a.log, 1, to), OK);
            model_cut(&a, to);
            position = l->segments[0].size_bytes;
        }
        journal_checkpoint(m.store->journal, false, NULL, NULL);
        for (int i = 0; i < 100 && !sim_crashed(m.world, 0); i++) (void)machine_turn(&m, 1000000);
        uint8_t *durable, *current;
        size_t durable_len, current_len;
        ck_assert_int_eq(sim_file_read(m.world, 0, path, SIM_DURABLE, &durable, &durable_len), 0);
        ck_assert_int_eq(sim_file_read(m.world, 0, path, SIM_CURRENT, &current, &current_len), 0);
        free(durable);
        free(current);
        sim_crash_at(m.world, 0, 0);
        crash(SIM_LOSE_ALL);
        bool unsynced = durable_len != current_len;
        if (unsynced) {
            torn++;
            ck_assert_int_eq(sim_file_flip(m.world, 0, path, position - 1, 0x55), 0);
        }
        start();
        a.log = log_shard_by_plid(m.shards[0], a.plid);
        ck_assert_ptr_nonnull(a.log);
        if (_i == 1 && a.log->end != a.end) model_as_of(&a, 7); /* the truncation was not durable yet */
        check_all(&a);
        checkpoint();
        evict_all();
        check_all(&a);
        ck_assert_ptr_null(model_check_files(&m, &a, true));
        crash(SIM_LOSE_ALL);
        model_free(&a);
        teardown();
    }
    ck_assert_uint_gt(torn, 0);
}
END_TEST

/* The same when it is recovery that cuts the file, and dies with the cut not synced. */
START_TEST(a_block_that_recovery_cuts_comes_back_from_its_image) {
    static const char path[] = "/data/t-0/00000000000000000000.log";
    uint32_t torn = 0;
    for (uint64_t op = 1, cut_op = 1; op < 12; cut_op++) {
        struct model a;
        setup("/data");
        start();
        create(&a, "t", 1u << 30);
        append(&a, 7, 300);
        checkpoint();
        int64_t to = a.batches[4].base;
        sim_crash_at(m.world, 0, sim_disk_ops(m.world, 0) + op);
        ck_assert_int_eq(log_truncate(a.log, 1, to), OK);
        model_cut(&a, to);
        uint32_t position = impl_of(a.log)->segments[0].size_bytes;
        for (int i = 0; i < 100 && !sim_crashed(m.world, 0); i++) (void)machine_turn(&m, 1000000);
        sim_crash_at(m.world, 0, 0);
        crash(SIM_LOSE_ALL);
        sim_crash_at(m.world, 0, sim_disk_ops(m.world, 0) + cut_op);
        bool whole = machine_open(&m) == OK && !sim_crashed(m.world, 0);
        sim_crash_at(m.world, 0, 0);
        uint8_t *durable, *current;
        size_t durable_len, current_len;
        ck_assert_int_eq(sim_file_read(m.world, 0, path, SIM_DURABLE, &durable, &durable_len), 0);
        ck_assert_int_eq(sim_file_read(m.world, 0, path, SIM_CURRENT, &current, &current_len), 0);
        free(durable);
        free(current);
        sim_crash(m.world, 0, SIM_LOSE_ALL);
        if (m.store) {
            machine_close(&m);
        } else {
            timers_free(&m.timers);
            io_destroy(m.io);
        }
        if (durable_len != current_len) {
            torn++;
            ck_assert_int_eq(sim_file_flip(m.world, 0, path, position - 1, 0x55), 0);
        }
        start();
        a.log = log_shard_by_plid(m.shards[0], a.plid);
        ck_assert_ptr_nonnull(a.log);
        if (a.log->end != a.end) model_as_of(&a, 7);
        check_all(&a);
        checkpoint();
        evict_all();
        check_all(&a);
        ck_assert_ptr_null(model_check_files(&m, &a, true));
        crash(SIM_LOSE_ALL);
        model_free(&a);
        teardown();
        if (!whole) continue;
        op++;
        cut_op = 0;
    }
    ck_assert_uint_gt(torn, 0);
}
END_TEST

/* A log whose records and whose end are both in the journal: no file will hold them, and nobody waits for that. */
START_TEST(a_deleted_log_is_not_pending_after_a_start) {
    struct model a;
    setup("/data");
    start();
    create(&a, "t", 1u << 30);
    append(&a, 20, 2000);
    enum err gone = ERR_COUNT;
    log_delete(a.log, on_checkpoint, &gone);
    while (gone == ERR_COUNT) ck_assert(machine_turn(&m, 1000000));
    crash(SIM_LOSE_ALL);
    start();
    ck_assert_uint_gt(m.recovery.journal_groups, 0);
    ck_assert_ptr_null(log_shard_by_plid(m.shards[0], a.plid));
    ck_assert_uint_eq(journal_pending_bytes(m.store->journal), 0);
    crash(SIM_LOSE_ALL);
    model_free(&a);
    teardown();
}
END_TEST

/* Without varve.meta a journal is not this node's to use: its votes belong to an incarnation that nobody knows. */
START_TEST(a_journal_without_varve_meta_is_refused) {
    struct model a;
    setup("/data");
    start();
    create(&a, "t", 1u << 30);
    append(&a, 1, 100);
    ck_assert_int_eq(io_unlink(m.io, "/data/varve.meta"), 0);
    crash(SIM_LOSE_NONE);
    enum err err = machine_open(&m);
    ck_assert_int_eq(err, ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(m.why, "varve.meta"));
    timers_free(&m.timers);
    io_destroy(m.io);
    model_free(&a);
    teardown();
}
END_TEST

int main(void) {
    int quiet = open("/dev/null", O_WRONLY | O_CLOEXEC);
    trace_setup(getenv("VARVE_TRACE") ? TRACE_DEBUG : TRACE_ERROR, TRACE_TEXT, getenv("VARVE_TRACE") ? 2 : quiet);
    Suite *s = suite_create("log_review");
    TCase *t = tcase_create("sequences");
    tcase_set_timeout(t, 0);
    tcase_add_test(t, a_plid_that_metadata_gave_is_not_given_again);
    tcase_add_test(t, a_segment_made_again_outlives_the_dropped_one);
    tcase_add_test(t, a_checkpoint_waits_for_the_log_start);
    tcase_add_test(t, a_read_of_a_deleted_log_never_sees_its_namesake);
    tcase_add_loop_test(t, every_flipped_bit_of_a_batch_in_a_file_is_noticed, 0, 2);
    tcase_add_test(t, a_folder_without_a_manifest_is_not_taken);
    tcase_add_test(t, a_first_start_cut_short_anywhere);
    tcase_add_test(t, a_failed_sync_of_a_segment_loses_nothing);
    tcase_add_loop_test(t, a_torn_block_comes_back_from_its_image, 0, 2);
    tcase_add_test(t, a_block_that_recovery_cuts_comes_back_from_its_image);
    tcase_add_test(t, a_deleted_log_is_not_pending_after_a_start);
    tcase_add_test(t, a_journal_without_varve_meta_is_refused);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failures = srunner_ntests_failed(r);
    srunner_free(r);
    return failures ? 1 : 0;
}
