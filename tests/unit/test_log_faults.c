/* test_log_faults.c - damage and failing disks, simulated: what is wrong is said, nothing else suffers. */
#include "tests/unit/log_fixture.h"

START_TEST(a_damaged_index_is_not_believed) {
    struct model a;
    setup(0, 1);
    start();
    create(&a, "t", 0);
    append_n(&a, 200, 2, 1000, 1000);
    stop();
    for (int pass = 0; pass < 2; pass++) {
        /* Entries that point into the middle of batches. */
        for (uint64_t at = 7; at < 300; at += 8)
            ck_assert_int_ge(sim_file_flip(m.world, 0, "/var/data/t-0/00000000000000000000.index", at, 0x15), 0);
        start();
        reopened(&a);
        for (int64_t offset = 0; offset < a.end; offset += 37) {
            struct log_read r = {.offset = offset, .max_offset = a.end, .max_bytes = 2000, .min_one = true};
            ck_assert_int_eq(read_wait(&m, a.log, &r), OK);
            ck_assert_ptr_null(model_compare(&a, &r));
            log_read_release(&r);
        }
        ck_assert(!a.log->faulty);
        stop();
    }
    model_free(&a);
    teardown();
}
END_TEST

START_TEST(a_flipped_byte_is_not_served_and_others_go_on) {
    struct model a, b;
    setup(0, 1);
    start();
    create(&a, "t", 0);
    create(&b, "t", 1);
    append_n(&a, 50, 1, 1000, 1);
    append_n(&b, 50, 1, 1000, 1);
    stop();
    uint32_t position = 0;
    for (uint32_t i = 0; i < 20; i++) position += a.batches[i].len;
    ck_assert_int_ge(sim_file_flip(m.world, 0, "/var/data/t-0/00000000000000000000.log", position + 500, 1), 0);
    start();
    reopened(&a);
    reopened(&b);
    struct log_read r = {.offset = 0, .max_offset = 50, .max_bytes = 1 << 20, .min_one = true};
    ck_assert_int_eq(read_wait(&m, a.log, &r), OK); /* up to the damage */
    ck_assert_int_eq(r.next_offset, 20);
    ck_assert_ptr_null(model_compare(&a, &r));
    log_read_release(&r);
    r = (struct log_read){.offset = 20, .max_offset = 50, .max_bytes = 1 << 20, .min_one = true};
    ck_assert_int_eq(read_wait(&m, a.log, &r), ERR_CORRUPT);
    ck_assert(a.log->faulty);
    r = (struct log_read){.offset = 21, .max_offset = 50, .max_bytes = 1 << 20, .min_one = true};
    ck_assert_int_eq(read_wait(&m, a.log, &r), OK); /* behind it */
    ck_assert_ptr_null(model_compare(&a, &r));
    log_read_release(&r);
    check_all(&b, 1 << 20);
    append_n(&a, 3, 1, 10, 1);
    stop();
    model_free(&a);
    model_free(&b);
    teardown();
}
END_TEST

START_TEST(a_file_below_what_was_synced_is_faulty_never_cut) {
    struct model a, b;
    setup(0, 1);
    start();
    create(&a, "t", 0);
    create(&b, "t", 1);
    append_n(&a, 50, 1, 1000, 1);
    append_n(&b, 50, 1, 1000, 1);
    checkpoint();
    append_n(&a, 5, 1, 1000, 1);
    append_n(&b, 5, 1, 1000, 1);
    kill_machine();
    ck_assert_int_ge(sim_file_truncate(m.world, 0, "/var/data/t-0/00000000000000000000.log", 20000), 0);
    start();
    ck_assert_uint_eq(m.recovery.faulty_logs, 1);
    reopened(&a);
    reopened(&b);
    ck_assert(a.log->faulty);
    ck_assert_int_eq(a.log->end, 55);
    check_all(&b, 1 << 20);
    struct log_read r = {.offset = 0, .max_offset = 55, .max_bytes = 10000, .min_one = true};
    ck_assert_int_eq(read_wait(&m, a.log, &r), OK);
    log_read_release(&r);
    r = (struct log_read){.offset = 40, .max_offset = 55, .max_bytes = 10000, .min_one = true};
    ck_assert_int_eq(read_wait(&m, a.log, &r), ERR_CORRUPT);
    r = (struct log_read){.offset = 52, .max_offset = 55, .max_bytes = 10000, .min_one = true};
    ck_assert_int_eq(read_wait(&m, a.log, &r), OK); /* from the journal */
    ck_assert_ptr_null(model_compare(&a, &r));
    log_read_release(&r);
    stop();
    model_free(&a);
    model_free(&b);
    teardown();
}
END_TEST

START_TEST(a_failed_journal_write_is_final) {
    struct model a;
    setup(0, 1);
    start();
    create(&a, "t", 0);
    append_n(&a, 5, 1, 100, 1);
    sim_fault(m.world, 0, &(struct sim_fault){.call = SIM_WRITE, .path_part = ".vj", .times = 1, .result = -EIO});
    struct batch_spec s = {.records = 1, .value_bytes = 10, .timestamp = 1, .producer_id = -1};
    struct log_append out;
    ck_assert_int_eq(append_spec(a.log, &s, &out), OK);
    model_add(&a, out.base_offset, out.last_offset, &s);
    for (int i = 0; i < 100 && m.failed == OK; i++) ck_assert(machine_turn(&m, 1000000));
    ck_assert_int_eq(m.failed, ERR_IO);
    ck_assert_int_eq(a.log->durable_end, 5);
    ck_assert_int_eq(append_spec(a.log, &s, &out), ERR_IO);
    ck_assert_int_eq(log_begin_epoch(a.log, 9), ERR_IO);
    check_all(&a, 1);
    sim_crash(m.world, 0, SIM_LOSE_ALL);
    machine_close(&m);
    start();
    reopened(&a);
    ck_assert_int_ge(a.log->end, 5);
    stop();
    model_free(&a);
    teardown();
}
END_TEST

START_TEST(a_failed_segment_write_or_sync_is_final) {
    static const enum sim_call calls[] = {SIM_WRITE, SIM_SYNC};
    for (size_t k = 0; k < ARRAY_LEN(calls); k++) {
        struct model a;
        setup(0, 1);
        start();
        create(&a, "t", 0);
        append_n(&a, 5, 1, 100, 1);
        sim_fault(m.world, 0, &(struct sim_fault){.call = calls[k], .path_part = ".log", .times = 1, .result = -EIO});
        journal_checkpoint(m.store->journal, false, NULL, NULL);
        for (int i = 0; i < 100 && m.failed == OK; i++) ck_assert(machine_turn(&m, 1000000));
        ck_assert_int_eq(m.failed, ERR_IO);
        struct batch_spec s = {.records = 1, .value_bytes = 10, .timestamp = 1, .producer_id = -1};
        struct log_append out;
        ck_assert_int_eq(append_spec(a.log, &s, &out), ERR_IO);
        check_all(&a, 1); /* reads go on */
        sim_crash(m.world, 0, SIM_LOSE_ALL);
        machine_close(&m);
        start();
        reopened(&a);
        check_all(&a, 1);
        stop();
        model_free(&a);
        teardown();
    }
}
END_TEST

static void on_writable(void *ctx) { *(bool *)ctx = true; }

START_TEST(a_full_disk_refuses_records_until_there_is_space) {
    struct model a;
    setup(0, 1);
    m.config.disk_reserve_bytes = 4u << 20;
    start();
    create(&a, "t", 0);
    append_n(&a, 10, 1, 1000, 1);
    bool writable = false;
    log_shard_on_writable(m.shards[0], on_writable, &writable);
    sim_disk_capacity(m.world, 0, 5u << 20);
    for (int i = 0; i < 500; i++) ck_assert(machine_turn(&m, 1000000)); /* free space is looked at now and then */
    struct batch_spec s = {.records = 1, .value_bytes = 20000, .timestamp = 1, .producer_id = -1};
    struct log_append out;
    enum err err = OK;
    for (int i = 0; i < 3000 && err != ERR_NOSPACE; i++) {
        err = append_spec(a.log, &s, &out);
        if (err == OK) model_add(&a, out.base_offset, out.last_offset, &s);
        ck_assert(err == OK || err == ERR_AGAIN || err == ERR_NOSPACE);
        ck_assert(machine_turn(&m, 1000000));
    }
    ck_assert_int_eq(err, ERR_NOSPACE);
    ck_assert_int_eq(log_shard_pressure(m.shards[0]), LOG_PRESSURE_STOP);
    check_all(&a, 1);
    ck_assert(!writable);
    sim_disk_capacity(m.world, 0, 1u << 30);
    for (int i = 0; i < 3000 && !writable; i++) ck_assert(machine_turn(&m, 1000000));
    ck_assert(writable);
    append_n(&a, 3, 1, 1000, 1);
    check_all(&a, 1);
    ck_assert_int_eq(m.failed, OK);
    stop();
    model_free(&a);
    teardown();
}
END_TEST

/* Somebody else fills the disk while acknowledged records wait for their segment: nothing is lost or final. */
START_TEST(a_segment_waits_for_space) {
    struct model a;
    setup(0, 1);
    m.config.disk_reserve_bytes = 0;
    start();
    create(&a, "t", 0);
    append_n(&a, 40, 1, 20000, 1); /* too little for a write, and more than the disk will have */
    sim_disk_capacity(m.world, 0, 1);
    journal_checkpoint(m.store->journal, false, NULL, NULL);
    for (int i = 0; i < 3000; i++) ck_assert(machine_turn(&m, 1000000));
    ck_assert_int_eq(m.failed, OK);
    check_all(&a, 1);
    ck_assert(m.shards[0]->disk_full);
    sim_disk_capacity(m.world, 0, 1u << 30);
    for (int i = 0; i < 3000 && m.shards[0]->disk_full; i++) ck_assert(machine_turn(&m, 1000000));
    ck_assert(!m.shards[0]->disk_full);
    stop();
    ck_assert_int_eq(m.failed, OK);
    start();
    reopened(&a);
    check_all(&a, 1);
    stop();
    model_free(&a);
    teardown();
}
END_TEST

int main(void) {
    Suite *s = suite_create("log faults");
    TCase *t = tcase_create("simulated disk");
    tcase_set_timeout(t, 0);
    tcase_add_test(t, a_damaged_index_is_not_believed);
    tcase_add_test(t, a_flipped_byte_is_not_served_and_others_go_on);
    tcase_add_test(t, a_file_below_what_was_synced_is_faulty_never_cut);
    tcase_add_test(t, a_failed_journal_write_is_final);
    tcase_add_test(t, a_failed_segment_write_or_sync_is_final);
    tcase_add_test(t, a_full_disk_refuses_records_until_there_is_space);
    tcase_add_test(t, a_segment_waits_for_space);
    suite_add_tcase(s, t);
    return run_suite(s);
}
