/* test_log.c - the log over a real disk (blocking I/O in a temporary folder) and over a simulated one. */
#include <errno.h>
#include "log/kafka_files.h"
#include "log/manifest.h"
#include "tests/unit/log_fixture.h"

/* ---- appending and reading ------------------------------------------------------------------------ */

START_TEST(what_is_appended_is_read) {
    struct model a, b;
    setup(_i, 1);
    start();
    ck_assert(m.recovery.fresh);
    create(&a, "orders", 0);
    create(&b, "orders", 1);
    append_n(&a, 300, 3, 200, 1000);
    append_n(&b, 40, 1, 40000, 1000);
    uint32_t sizes[] = {1, 500, 5000, 100000, 4000000};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        check_all(&a, sizes[i]);
        check_all(&b, sizes[i]);
    }
    checkpoint();
    check_all(&a, 3000);
    kill_machine();
    start();
    ck_assert(!m.recovery.fresh && !m.recovery.clean);
    ck_assert_uint_eq(m.recovery.logs, 2);
    reopened(&a);
    reopened(&b);
    check_all(&a, 3000);
    check_all(&b, 100000);
    append_n(&a, 10, 1, 100, 9000);
    check_all(&a, 700);
    stop();
    start();
    ck_assert(m.recovery.clean);
    reopened(&a);
    reopened(&b);
    check_all(&a, 100000);
    check_all(&b, 100);
    ck_assert_ptr_null(model_check_files(&m, &a, true));
    ck_assert_ptr_null(model_check_files(&m, &b, true));
    stop();
    model_free(&a);
    model_free(&b);
    teardown();
}
END_TEST

START_TEST(read_gives_whole_batches_within_its_bounds) {
    struct model a;
    setup(_i, 1);
    start();
    struct log *l = create(&a, "t", 0);
    append_n(&a, 10, 5, 100, 1000);
    /* From inside a batch: the whole batch. */
    struct log_read r = {.offset = 12, .max_offset = l->end, .max_bytes = 1, .min_one = true};
    ck_assert_int_eq(read_wait(&m, l, &r), OK);
    ck_assert_uint_eq(r.bytes, a.batches[2].len);
    ck_assert_int_eq(r.next_offset, 15);
    log_read_release(&r);
    /* Too small, and nobody insists. */
    r = (struct log_read){.offset = 12, .max_offset = l->end, .max_bytes = 1};
    ck_assert_int_eq(read_wait(&m, l, &r), OK);
    ck_assert_uint_eq(r.bytes, 0);
    /* Batches that begin at or behind max_offset stay out, whichever way they are read. */
    for (int evicted = 0; evicted < 2; evicted++) {
        r = (struct log_read){.offset = 0, .max_offset = 11, .max_bytes = 1 << 20};
        ck_assert_int_eq(read_wait(&m, l, &r), OK);
        ck_assert_int_eq(r.next_offset, 15);
        ck_assert_uint_eq(r.bytes, 3 * a.batches[0].len);
        log_read_release(&r);
        checkpoint();
        m.shards[0]->tail_bytes_max = 0;
        shard_evict(m.shards[0]);
    }
    r = (struct log_read){.offset = l->end, .max_offset = l->end, .max_bytes = 1 << 20};
    ck_assert_int_eq(read_wait(&m, l, &r), OK);
    ck_assert_uint_eq(r.bytes, 0);
    r = (struct log_read){.offset = l->end + 1, .max_offset = l->end, .max_bytes = 1 << 20};
    ck_assert_int_eq(read_wait(&m, l, &r), ERR_RANGE);
    stop();
    model_free(&a);
    teardown();
}
END_TEST

START_TEST(evicted_batches_come_from_the_journal_and_then_from_files) {
    struct model a[3];
    setup(_i, 1);
    m.config.tail_bytes = 0;
    start();
    for (int i = 0; i < 3; i++) create(&a[i], "t", i);
    for (int round = 0; round < 5; round++)
        for (int i = 0; i < 3; i++) append_n(&a[i], 20, 2, 500, 1000 + round * 1000);
    ck_assert_uint_eq(m.shards[0]->tail_bytes, 0);
    for (int i = 0; i < 3; i++) {
        const struct log_impl *l = impl_of(a[i].log);
        ck_assert_uint_gt(l->tail.journal_only, 0);
        ck_assert_uint_eq(l->tail.journal_only, l->tail.count);
        check_all(&a[i], 1);
        check_all(&a[i], 70000);
    }
    checkpoint();
    for (int i = 0; i < 3; i++) {
        ck_assert_uint_eq(impl_of(a[i].log)->tail.count, 0);
        ck_assert_ptr_null(model_check_files(&m, &a[i], true));
        check_all(&a[i], 1);
        check_all(&a[i], 70000);
    }
    stop();
    for (int i = 0; i < 3; i++) model_free(&a[i]);
    teardown();
}
END_TEST

/* Many producers of many logs: the shard's memory for them is the bound, a quiet log keeps its few. */
START_TEST(producers_of_all_logs_share_their_memory) {
    struct model a[3];
    setup(0, 1);
    m.config.producers_bytes = 256u << 10;
    start();
    for (int i = 0; i < 3; i++) create(&a[i], "t", i);
    struct batch_spec s = {.records = 1, .value_bytes = 8, .timestamp = 1000};
    struct log_append out;
    for (int i = 0; i < 6000; i++) {
        s.producer_id = i;
        struct log *l = a[i < 10 ? 2 : i % 2].log;
        enum err err = append_spec(l, &s, &out);
        if (err == ERR_AGAIN) ck_assert(machine_settle(&m, l) && append_spec(l, &s, &out) == OK);
        else ck_assert_int_eq(err, OK);
        if (i % 500 == 0) ck_assert(machine_settle(&m, l));
    }
    uint64_t bytes = 0;
    for (int i = 0; i < 3; i++) bytes += a[i].log->producers.cap * sizeof(struct producer);
    ck_assert_uint_le(bytes, 2 * (256u << 10)); /* one table may just have doubled */
    ck_assert_uint_eq(a[2].log->producers.count, 10);
    ck_assert_ptr_nonnull(producers_find(&a[0].log->producers, 5998));
    for (int i = 0; i < 3; i++) ck_assert(machine_settle(&m, a[i].log));
    stop();
    for (int i = 0; i < 3; i++) model_free(&a[i]);
    teardown();
}
END_TEST

/* Who reads a little and gives it back late keeps whole slices of memory: above half of the tail's share he gets copies. */
START_TEST(what_readers_keep_is_bounded) {
    enum { READS = 200 };
    static struct log_read held[READS];
    struct model a;
    setup(_i, 1);
    m.config.tail_bytes = 64u << 10;
    start();
    create(&a, "t", 0);
    struct log_shard *sh = m.shards[0];
    uint64_t most = 0;
    for (int i = 0; i < READS; i++) {
        append_n(&a, 8, 1, 500, 1000 + i);
        int64_t at = a.log->end - 1;
        held[i] = (struct log_read){.offset = at, .max_offset = a.log->end, .max_bytes = 1 << 20};
        ck_assert_int_eq(read_wait(&m, a.log, &held[i]), OK);
        ck_assert_uint_gt(held[i].bytes, 0);
        most = MAX(most, sh->pinned_bytes + sh->tail_bytes);
    }
    ck_assert_uint_gt(sh->pinned_bytes, 0);
    ck_assert_uint_le(most, 5 * (64u << 10) / 2);
    for (int i = 0; i < READS; i++) {
        struct batch_header h;
        const uint8_t *p = slice_data(&held[i].slices[0]);
        ck_assert_int_eq(batch_parse(p, held[i].slices[0].len, &h), OK);
        ck_assert(batch_crc_ok(p, &h));
        log_read_release(&held[i]);
    }
    ck_assert_uint_eq(sh->pinned_bytes, 0);
    stop();
    model_free(&a);
    teardown();
}
END_TEST

START_TEST(large_batches_pass_every_buffer_size) {
    struct model a;
    setup(_i, 1);
    m.config.journal_bytes = 32u << 20;
    m.config.journal_piece_bytes = 4u << 20;
    start();
    create(&a, "t", 0);
    uint32_t sizes[] = {4096, 65536, 500000, 524288, 600000, 1500000, 3000000};
    for (int round = 0; round < 2; round++)
        for (size_t i = 0; i < ARRAY_LEN(sizes); i++) append_n(&a, 1, 1, sizes[i], 1000);
    check_all(&a, 1);
    m.shards[0]->tail_bytes_max = 0;
    shard_evict(m.shards[0]);
    check_all(&a, 1);
    check_all(&a, 1 << 20);
    struct batch_spec s = {.records = 1, .value_bytes = 4u << 20, .timestamp = 1, .producer_id = -1};
    struct log_append out;
    ck_assert_int_eq(append_spec(a.log, &s, &out), ERR_TOO_LARGE);
    stop();
    start();
    reopened(&a);
    check_all(&a, 1);
    check_all(&a, 8 << 20);
    stop();
    model_free(&a);
    teardown();
}
END_TEST

START_TEST(log_append_time_is_stamped_in_the_copy) {
    struct model a;
    setup(_i, 1);
    start();
    struct log *l = create(&a, "t", 0);
    struct batch_header h;
    uint8_t *batch = batch_make(&(struct batch_spec){.records = 2, .value_bytes = 10, .timestamp = 5, .producer_id = -1}, &h);
    struct log_append ap = {.batch = batch, .header = &h, .now_ms = 777, .log_append_time_ms = 777};
    ck_assert_int_eq(log_append(l, &ap), OK);
    ck_assert_int_eq(ap.timestamp_ms, 777);
    struct log_read r = {.offset = 0, .max_offset = 2, .max_bytes = 1000, .min_one = true};
    ck_assert_int_eq(read_wait(&m, l, &r), OK);
    struct batch_header got;
    ck_assert_int_eq(batch_parse(slice_data(&r.slices[0]), r.bytes, &got), OK);
    ck_assert(batch_crc_ok(slice_data(&r.slices[0]), &got));
    ck_assert_int_eq(got.max_timestamp, 777);
    ck_assert(got.attributes & BATCH_LOG_APPEND_TIME);
    ck_assert_int_eq(got.leader_epoch, 1);
    log_read_release(&r);
    ck_assert_int_eq(h.max_timestamp, 6); /* the caller's own is as it was */
    free(batch);
    ck_assert(machine_settle(&m, l));
    stop();
    teardown();
}
END_TEST

/* ---- segments ------------------------------------------------------------------------------------- */

static void check_sealed(const struct model *x) {
    const struct log_impl *l = impl_of(x->log);
    char path[PATH_BYTES];
    uint8_t *data;
    size_t len;
    struct manifest man;
    path_in_folder(path, m.config.dir, l->folder, MANIFEST_FILE);
    ck_assert_int_ge(io_read_file(m.io, path, 1 << 30, &data, &len), 0);
    ck_assert_int_eq(manifest_decode(&man, data, len), OK);
    free(data);
    ck_assert_uint_eq(man.plid, x->plid);
    ck_assert_uint_eq(man.segment_count, l->segment_count - 1);
    for (uint32_t i = 0; i + 1 < l->segment_count; i++) {
        const struct sealed_segment *s = manifest_find(&man, l->segments[i].base);
        ck_assert_ptr_nonnull(s);
        path_segment(path, m.config.dir, l->folder, l->segments[i].base, FILE_LOG);
        ck_assert_int_ge(io_read_file(m.io, path, 1 << 30, &data, &len), 0);
        ck_assert_uint_eq(len, s->size_bytes);
        struct digest128 d = digest128_of(data, len);
        ck_assert_mem_eq(&d, &s->digest, sizeof d);
        free(data);
    }
    manifest_free(&man);
}

static void wait_sealed(const struct model *x) {
    for (bool all = false; !all;) {
        all = true;
        const struct log_impl *l = impl_of(x->log);
        for (uint32_t i = 0; i + 1 < l->segment_count; i++) all &= l->segments[i].sealed;
        if (!all) ck_assert(machine_turn(&m, 1000000000));
    }
}

START_TEST(segments_roll_by_size_and_are_sealed) {
    struct model a;
    setup(_i, 1);
    start();
    struct log_spec s = spec_of("t", 3);
    s.config.segment_bytes = 100000;
    create_spec(&a, &s);
    append_n(&a, 60, 2, 3000, 1000);
    struct log_impl *l = impl_of(a.log);
    ck_assert_uint_ge(l->segment_count, 3);
    for (uint32_t i = 0; i < l->segment_count; i++) ck_assert_uint_le(l->segments[i].size_bytes, 100000);
    wait_sealed(&a);
    check_sealed(&a);
    check_all(&a, 1);
    kill_machine();
    start();
    reopened(&a);
    wait_sealed(&a);
    check_sealed(&a);
    checkpoint();
    stop();
    start();
    reopened(&a);
    check_sealed(&a);
    ck_assert_ptr_null(model_check_files(&m, &a, true));
    check_all(&a, 1);
    stop();
    model_free(&a);
    teardown();
}
END_TEST

START_TEST(segments_roll_by_time_index_and_offset) {
    struct model a, b, c;
    setup(_i, 1);
    start();
    struct log_spec s = spec_of("time", 0);
    s.config.segment_ms = 1000;
    create_spec(&a, &s);
    append_n(&a, 5, 1, 100, 10000);  /* record time 10000..10040 */
    append_n(&a, 1, 1, 100, 11000);  /* 1000 later: not more than segment.ms */
    ck_assert_uint_eq(impl_of(a.log)->segment_count, 1);
    append_n(&a, 1, 1, 100, 11001);
    ck_assert_uint_eq(impl_of(a.log)->segment_count, 2);
    s = spec_of("index", 0);
    s.config.segment_index_bytes = 10 * TIME_ENTRY_BYTES;
    s.config.index_interval_bytes = 0;
    create_spec(&b, &s);
    append_n(&b, 40, 1, 100, 10000);
    ck_assert_uint_ge(impl_of(b.log)->segment_count, 4);
    checkpoint();
    ck_assert_ptr_null(model_check_files(&m, &b, true));
    create(&c, "offsets", 0);
    stop();
    start();
    reopened(&a);
    ck_assert_uint_eq(impl_of(a.log)->segment_count, 2);
    check_all(&a, 1);
    reopened(&b);
    check_all(&b, 1);
    stop();
    model_free(&a);
    model_free(&b);
    model_free(&c);
    teardown();
}
END_TEST


/* ---- time ------------------------------------------------------------------------------------------- */

static void check_find(struct model *x, int64_t timestamp, int64_t max_offset, int64_t offset, int64_t found) {
    struct log_find f = {.timestamp = timestamp, .max_offset = max_offset};
    enum err err = find_wait(&m, x->log, &f);
    if (offset < 0) {
        ck_assert_msg(err == ERR_NOT_FOUND, "time %lld: %s, offset %lld", (long long)timestamp, err_str(err), (long long)f.found_offset);
        return;
    }
    ck_assert_msg(err == OK, "time %lld: %s", (long long)timestamp, err_str(err));
    ck_assert_int_eq(f.found_offset, offset);
    ck_assert_int_eq(f.found_timestamp, found);
    ck_assert_int_eq(f.found_epoch, 1);
}

static void check_finds(struct model *x) {
    /* 400 batches of 3 records; batch i has times 10000 + 10 i + (0, 1, 2). */
    check_find(x, 0, x->end, 0, 10000);
    check_find(x, 10002, x->end, 2, 10002);
    check_find(x, 10003, x->end, 3, 10010);
    check_find(x, 12001, x->end, 601, 12001);
    check_find(x, 13992, x->end, 1199, 13992);
    check_find(x, 13993, x->end, -1, 0);
    check_find(x, 12001, 601, 601, 12001); /* its batch begins below max_offset */
    check_find(x, 12001, 600, -1, 0);
    struct log_find f = {.max_timestamp = true, .max_offset = x->end};
    ck_assert_int_eq(find_wait(&m, x->log, &f), OK);
    ck_assert_int_eq(f.found_offset, 1199);
    ck_assert_int_eq(f.found_timestamp, 13992);
    f = (struct log_find){.max_timestamp = true, .max_offset = 600};
    ck_assert_int_eq(find_wait(&m, x->log, &f), OK);
    ck_assert_int_eq(f.found_offset, 599);
}

START_TEST(records_are_found_by_time) {
    struct model a, b;
    setup(_i, 1);
    start();
    struct log_spec s = spec_of("t", 0);
    s.config.segment_bytes = 60000;
    create_spec(&a, &s);
    create(&b, "u", 0);
    struct log_find f = {.max_timestamp = true, .max_offset = 0};
    ck_assert_int_eq(find_wait(&m, a.log, &f), ERR_NOT_FOUND);
    append_n(&a, 400, 3, 200, 10000);
    append_n(&b, 400, 3, 200, 10000);
    check_finds(&a);
    check_finds(&b);
    checkpoint();
    m.shards[0]->tail_bytes_max = 0;
    shard_evict(m.shards[0]);
    check_finds(&a);
    check_finds(&b);
    kill_machine();
    start();
    reopened(&a);
    reopened(&b);
    check_finds(&a);
    check_finds(&b);
    stop();
    model_free(&a);
    model_free(&b);
    teardown();
}
END_TEST

/* ---- epochs and producers ----------------------------------------------------------------------------- */

START_TEST(epochs_are_markers_of_no_length) {
    struct model a;
    setup(_i, 1);
    start();
    struct log *l = create(&a, "t", 0);
    append_n(&a, 3, 2, 50, 1);
    ck_assert_int_eq(log_begin_epoch(l, 1), ERR_INVALID);
    ck_assert_int_eq(log_begin_epoch(l, 4), OK);
    ck_assert_int_eq(log_begin_epoch(l, 5), OK);
    append_n(&a, 3, 2, 50, 1);
    for (int pass = 0; pass < 3; pass++) {
        ck_assert_int_eq(l->epoch, 5);
        ck_assert_int_eq(l->epoch_start, 6);
        ck_assert_uint_eq(l->epochs.count, 3);
        ck_assert_int_eq(epochs_at(&l->epochs, 5), 1);
        ck_assert_int_eq(epochs_at(&l->epochs, 6), 5);
        check_all(&a, 1);
        if (pass == 0) kill_machine();
        else if (pass == 1) stop();
        else break;
        start();
        reopened(&a);
        l = a.log;
    }
    stop();
    start();
    char *text = file_text("t-0", EPOCH_CHECKPOINT_FILE);
    ck_assert_str_eq(text, "0\n3\n1 0\n4 6\n5 6\n");
    free(text);
    stop();
    model_free(&a);
    teardown();
}
END_TEST

static enum err produce(struct model *x, int64_t id, int16_t epoch, int32_t sequence, struct log_append *out) {
    struct batch_spec s = {.records = 2, .value_bytes = 30, .timestamp = 1000, .producer_id = id, .producer_epoch = epoch, .base_sequence = sequence,
                           .seed = (uint64_t)sequence + 1};
    enum err err = append_spec(x->log, &s, out);
    if (err == OK && !out->duplicate) model_add(x, out->base_offset, out->last_offset, &s);
    return err;
}

START_TEST(producers_are_known_after_a_restart) {
    struct model a;
    struct log_append out;
    setup(_i, 1);
    start();
    create(&a, "t", 0);
    for (int32_t i = 0; i < 8; i++) ck_assert_int_eq(produce(&a, 9, 3, 2 * i, &out), OK);
    /* A duplicate of what is not durable yet is one already. */
    ck_assert_int_eq(produce(&a, 9, 3, 14, &out), OK);
    ck_assert(out.duplicate);
    ck_assert(machine_settle(&m, a.log));
    for (int pass = 0; pass < 3; pass++) {
        for (int32_t i = 3; i < 8; i++) {
            ck_assert_int_eq(produce(&a, 9, 3, 2 * i, &out), OK);
            ck_assert(out.duplicate);
            ck_assert_int_eq(out.base_offset, 2 * i);
            ck_assert_int_eq(out.last_offset, 2 * i + 1);
        }
        ck_assert_int_eq(produce(&a, 9, 3, 4, &out), ERR_SEQUENCE); /* out of the window */
        ck_assert_int_eq(produce(&a, 9, 3, 18, &out), ERR_SEQUENCE);
        ck_assert_int_eq(produce(&a, 9, 2, 16, &out), ERR_FENCED);
        ck_assert_int_eq(a.log->end, 16);
        if (pass == 0) kill_machine();
        else if (pass == 1) stop();
        else break;
        start();
        reopened(&a);
    }
    ck_assert_int_eq(produce(&a, 9, 3, 16, &out), OK);
    ck_assert(!out.duplicate);
    ck_assert(machine_settle(&m, a.log));
    check_all(&a, 1);
    stop();
    model_free(&a);
    teardown();
}
END_TEST

START_TEST(producers_expire_while_the_log_is_used) {
    struct model a;
    struct log_append out;
    setup(_i, 1);
    start();
    struct log_spec s = spec_of("t", 0);
    s.config.producer_id_expiration_ms = 60 * 1000;
    create_spec(&a, &s);
    ck_assert_int_eq(produce(&a, 9, 0, 0, &out), OK);
    ck_assert_int_eq(produce(&a, 9, 0, 5, &out), ERR_SEQUENCE);
    append_n(&a, 1, 1, 10, 1000 + 3600 * 1000); /* found too old, but it may be about to write, or the clock be wrong */
    ck_assert_uint_eq(a.log->producers.count, 1);
    ck_assert_int_eq(produce(&a, 9, 0, 5, &out), ERR_SEQUENCE);
    append_n(&a, 1, 1, 10, 1000 + 4300 * 1000); /* at the next look, too */
    ck_assert_uint_eq(a.log->producers.count, 0);
    ck_assert_int_eq(produce(&a, 9, 0, 5, &out), OK); /* unknown: any sequence */
    ck_assert(machine_settle(&m, a.log));
    stop();
    model_free(&a);
    teardown();
}
END_TEST

/* ---- deletion, start, truncation ------------------------------------------------------------------------ */

static void on_deleted(void *ctx, enum err err) { *(enum err *)ctx = err; }

START_TEST(a_deleted_log_makes_room_for_its_name) {
    struct model a, b;
    setup(_i, 2);
    start();
    create(&a, "t", 0);
    append_n(&a, 50, 1, 1000, 1);
    checkpoint();
    append_n(&a, 50, 1, 1000, 1);
    ck_assert(file_exists("t-0", NULL));
    struct log_spec s = spec_of("t", 0);
    struct log *other;
    if (log_store_shard_of(m.store, s.plid) != log_store_shard_of(m.store, a.plid)) s = spec_of("t", 0); /* the same shard knows */
    ck_assert_int_eq(log_create(m.shards[log_store_shard_of(m.store, a.plid)], &s, &other, NULL, NULL), ERR_EXISTS);
    enum err deleted = ERR_COUNT;
    log_delete(a.log, on_deleted, &deleted);
    ck_assert_int_eq(deleted, ERR_COUNT);
    ck_assert_ptr_null(log_shard_by_plid(m.shards[log_store_shard_of(m.store, a.plid)], a.plid));
    /* At once, on either shard. */
    create(&b, "t", 0);
    append_n(&b, 30, 1, 2000, 1);
    while (deleted == ERR_COUNT) ck_assert(machine_turn(&m, 1000000000));
    ck_assert_int_eq(deleted, OK);
    checkpoint();
    check_all(&b, 1);
    kill_machine();
    start();
    ck_assert_uint_eq(m.recovery.logs, 1);
    ck_assert_uint_eq(m.recovery.stray_folders, 0);
    reopened(&b);
    check_all(&b, 1);
    ck_assert_ptr_null(log_shard_by_plid(m.shards[log_store_shard_of(m.store, a.plid)], a.plid));
    stop();
    start();
    char name[FOLDER_NAME_BYTES];
    folder_name_deleted(name, "t", 0, a.plid);
    for (int i = 0; i < 50; i++) ck_assert(machine_turn(&m, 1000000));
    ck_assert(!file_exists(name, NULL));
    reopened(&b);
    ck_assert_ptr_null(model_check_files(&m, &b, true));
    stop();
    model_free(&a);
    model_free(&b);
    teardown();
}
END_TEST

/* Logs that wait for a writer and are done at once, one after the other: not one inside the other. */
START_TEST(thousands_of_deleted_logs_do_not_nest) {
    enum { LOGS = 2500 };
    setup(1, 1);
    start();
    static struct log *logs[LOGS];
    static enum err deleted[LOGS];
    char topic[16];
    for (int i = 0; i < LOGS; i++) {
        snprintf(topic, sizeof topic, "t%d", i);
        struct log_spec s = spec_of(topic, 0);
        ck_assert_int_eq(log_create(m.shards[0], &s, &logs[i], NULL, NULL), OK);
        deleted[i] = ERR_COUNT;
    }
    uint32_t writers = m.shards[0]->writers_max;
    m.shards[0]->writers_max = 0;
    for (int i = 0; i < LOGS; i++) log_delete(logs[i], on_deleted, &deleted[i]);
    for (int i = 0; i < 100; i++) ck_assert(machine_turn(&m, 1000000));
    ck_assert_int_eq(deleted[LOGS - 1], ERR_COUNT);
    m.shards[0]->writers_max = writers;
    shard_work(m.shards[0]);
    while (deleted[LOGS - 1] == ERR_COUNT) ck_assert(machine_turn(&m, 1000000000));
    for (int i = 0; i < LOGS; i++) ck_assert_int_eq(deleted[i], OK);
    stop();
    start();
    ck_assert_uint_eq(m.recovery.logs, 0);
    stop();
    teardown();
}
END_TEST

static uint32_t unlinks_at_work(void) {
    uint32_t n = 0;
    LIST_FOREACH(it, &m.shards[0]->unlinks) n++;
    ck_assert_uint_le(m.shards[0]->unlinks_busy, MIN(n, (uint32_t)UNLINKS_MAX));
    return n;
}

/* The journal's writes would wait behind thousands of unlinks: a few folders at a time, and in the end all are gone. */
START_TEST(deleted_folders_are_emptied_a_few_at_a_time) {
    enum { LOGS = 40 };
    setup(_i, 1);
    start();
    struct model models[LOGS];
    char topic[16], name[FOLDER_NAME_BYTES];
    for (int i = 0; i < LOGS; i++) {
        snprintf(topic, sizeof topic, "t%d", i);
        create(&models[i], topic, 0);
        append_n(&models[i], 2, 1, 1000, 1);
    }
    checkpoint();
    static enum err deleted[LOGS];
    for (int i = 0; i < LOGS; i++) log_delete(models[i].log, on_deleted, &deleted[i]);
    uint32_t most = 0;
    for (int turns = 0; turns < 100 || unlinks_at_work() > 0; turns++) {
        ck_assert(machine_turn(&m, 1000000));
        most = MAX(most, unlinks_at_work());
    }
    ck_assert_uint_gt(most, UNLINKS_MAX);
    for (int i = 0; i < LOGS; i++) {
        snprintf(topic, sizeof topic, "t%d", i);
        folder_name_deleted(name, topic, 0, models[i].plid);
        ck_assert(!file_exists(name, NULL));
        model_free(&models[i]);
    }
    stop();
    teardown();
}
END_TEST

/* Many folders to be made, or many bytes to be written: a stop that takes long is seen to get on. */
START_TEST(a_stop_tells_of_its_progress) {
    enum { LOGS = 30 };
    setup(_i, 1);
    start();
    struct model models[LOGS];
    char topic[16];
    for (int i = 0; i < LOGS; i++) {
        snprintf(topic, sizeof topic, "t%d", i);
        create(&models[i], topic, 0);
        append_n(&models[i], 2, 1, 1000, 1);
    }
    uint64_t before = log_store_progress(m.store);
    m.stopped = false;
    log_store_stop(m.store, machine_stopped, &m);
    uint64_t last = before, steps = 0;
    while (!m.stopped) {
        ck_assert(machine_turn(&m, 1000000000));
        steps += log_store_progress(m.store) != last;
        last = log_store_progress(m.store);
    }
    ck_assert_int_eq(m.stop_err, OK);
    ck_assert_uint_ge(last - before, 2 * LOGS); /* each was written, and seen to */
    ck_assert_uint_gt(steps, 1);
    machine_close(&m);
    for (int i = 0; i < LOGS; i++) model_free(&models[i]);
    teardown();
}
END_TEST

START_TEST(a_strange_folder_is_put_aside) {
    struct model a;
    setup(_i, 1);
    start();
    create(&a, "t", 0);
    append_n(&a, 5, 1, 100, 1);
    stop();
    start();
    char path[PATH_BYTES];
    path_folder(path, m.config.dir, "ghost-7");
    ck_assert_int_ge(io_mkdir(m.io, path), 0);
    stop();
    start();
    ck_assert_uint_eq(m.recovery.stray_folders, 1);
    ck_assert(!file_exists("ghost-7", NULL));
    ck_assert(file_exists("t-0", NULL));
    reopened(&a);
    check_all(&a, 1);
    stop();
    start();
    ck_assert_uint_eq(m.recovery.stray_folders, 0); /* once is enough */
    stop();
    model_free(&a);
    teardown();
}
END_TEST

static void on_start(struct log *l, void *ctx, enum err err) {
    (void)l;
    *(enum err *)ctx = err;
}

START_TEST(the_log_start_takes_whole_segments_along) {
    struct model a;
    setup(_i, 1);
    start();
    struct log_spec s = spec_of("t", 0);
    s.config.segment_bytes = 50000;
    struct log *l = create_spec(&a, &s);
    append_n(&a, 100, 2, 1000, 1);
    checkpoint();
    uint32_t before = impl_of(l)->segment_count;
    ck_assert_uint_ge(before, 4);
    char gone[FILE_NAME_BYTES];
    file_name(gone, impl_of(l)->segments[1].base, FILE_LOG);
    ck_assert(file_exists("t-0", gone));
    int64_t offset = impl_of(l)->segments[2].base + 3;
    uint64_t size = l->size_bytes;
    enum err done = ERR_COUNT;
    ck_assert_int_eq(log_set_start(l, l->durable_end + 1, NULL, NULL), ERR_RANGE);
    ck_assert_int_eq(log_set_start(l, offset, on_start, &done), OK);
    while (done == ERR_COUNT) ck_assert(machine_turn(&m, 1000000000));
    ck_assert_int_eq(done, OK);
    ck_assert_int_eq(l->start, offset);
    ck_assert_uint_eq(impl_of(l)->segment_count, before - 2);
    ck_assert_uint_lt(l->size_bytes, size);
    while (impl_of(l)->dropped_count > 0 || impl_of(l)->writer) ck_assert(machine_turn(&m, 1000000));
    ck_assert(!file_exists("t-0", gone));
    struct log_read r = {.offset = offset - 1, .max_offset = l->end, .max_bytes = 1000};
    ck_assert_int_eq(read_wait(&m, l, &r), ERR_RANGE);
    check_all(&a, 1);
    kill_machine();
    start();
    reopened(&a);
    ck_assert_int_eq(a.log->start, offset);
    check_all(&a, 1);
    /* To the very end: nothing is left, and it goes on from there. */
    done = ERR_COUNT;
    ck_assert_int_eq(log_set_start(a.log, a.log->end, on_start, &done), OK);
    while (done == ERR_COUNT) ck_assert(machine_turn(&m, 1000000000));
    append_n(&a, 5, 1, 10, 1);
    check_all(&a, 1);
    stop();
    start();
    reopened(&a);
    check_all(&a, 1);
    stop();
    model_free(&a);
    teardown();
}
END_TEST

START_TEST(truncation_cuts_memory_files_and_indexes) {
    struct model a;
    struct log_append out;
    setup(_i, 1);
    start();
    struct log_spec s = spec_of("t", 0);
    s.config.segment_bytes = 60000;
    s.config.index_interval_bytes = 1000;
    create_spec(&a, &s);
    append_n(&a, 60, 2, 500, 1000);
    for (int32_t i = 0; i < 8; i++) ck_assert_int_eq(produce(&a, 9, 0, 2 * i, &out), OK);
    ck_assert(machine_settle(&m, a.log));
    ck_assert_int_eq(log_begin_epoch(a.log, 7), OK);
    append_n(&a, 60, 2, 500, 5000);
    ck_assert_uint_ge(impl_of(a.log)->segment_count, 3);
    for (int pass = 0; pass < 3; pass++) {
        if (pass > 0) checkpoint();
        if (pass > 1) {
            m.shards[0]->tail_bytes_max = 0;
            shard_evict(m.shards[0]);
        }
        /* Into the middle of a batch: to its beginning. */
        int64_t target = a.batches[a.count - 25].base;
        ck_assert_int_eq(log_truncate(a.log, pass < 2 ? 7 : 1, target + 1), OK);
        ck_assert_int_eq(a.log->end, target);
        model_cut(&a, target);
        check_all(&a, 1);
        append_n(&a, 5, 1, 300, 6000);
        check_all(&a, 3000);
    }
    ck_assert_int_eq(a.log->epoch, 1);
    struct log_find f = {.max_timestamp = true, .max_offset = a.end};
    ck_assert_int_eq(find_wait(&m, a.log, &f), OK);
    ck_assert_int_eq(f.found_timestamp, 6040);
    kill_machine();
    start();
    reopened(&a);
    check_all(&a, 1);
    ck_assert_int_eq(log_truncate(a.log, 1, a.end), OK); /* nothing to cut */
    ck_assert(machine_settle(&m, a.log));
    stop();
    start();
    reopened(&a);
    check_all(&a, 1);
    ck_assert_ptr_null(model_check_files(&m, &a, true));
    stop();
    model_free(&a);
    teardown();
}
END_TEST

START_TEST(producers_survive_the_truncation_of_their_window) {
    struct model a;
    struct log_append out;
    setup(_i, 1);
    start();
    create(&a, "t", 0);
    for (int32_t i = 0; i < 12; i++) ck_assert_int_eq(produce(&a, 9, 0, 2 * i, &out), OK);
    checkpoint();
    ck_assert_int_eq(log_truncate(a.log, 1, 8), OK);
    model_cut(&a, 8);
    ck_assert_int_eq(produce(&a, 9, 0, 6, &out), OK);
    ck_assert(out.duplicate);
    ck_assert_int_eq(produce(&a, 9, 0, 12, &out), ERR_SEQUENCE);
    ck_assert_int_eq(produce(&a, 9, 0, 8, &out), OK);
    ck_assert(!out.duplicate);
    ck_assert(machine_settle(&m, a.log));
    kill_machine();
    start();
    reopened(&a);
    ck_assert_int_eq(produce(&a, 9, 0, 8, &out), OK);
    ck_assert(out.duplicate);
    ck_assert_int_eq(produce(&a, 9, 0, 10, &out), OK);
    ck_assert(machine_settle(&m, a.log));
    check_all(&a, 1);
    stop();
    model_free(&a);
    teardown();
}
END_TEST

/* ---- many logs --------------------------------------------------------------------------------------------- */

enum { MANY = 150 };
START_TEST(two_shards_share_one_journal) {
    static struct model x[MANY];
    setup(_i, 2);
    m.config.journal_bytes = 4u << 20;
    m.config.journal_piece_bytes = 512u << 10;
    m.config.tail_bytes = 256u << 10;
    start();
    for (int i = 0; i < MANY; i++) create(&x[i], "many", i);
    /* More than the journal holds: checkpoints run meanwhile. */
    for (int round = 0; round < 20; round++)
        for (int i = 0; i < MANY; i++) {
            append(&x[i], &(struct batch_spec){.records = 1, .value_bytes = 700 + (uint32_t)i * 8, .timestamp = 1000 + round, .producer_id = -1,
                                               .seed = next_seed++});
            if (i % 10 == 0) ck_assert(machine_turn(&m, 0));
        }
    for (int i = 0; i < MANY; i++) ck_assert(machine_settle(&m, x[i].log));
    for (int i = 0; i < MANY; i++) check_all(&x[i], 3000);
    kill_machine();
    start();
    ck_assert_uint_eq(m.recovery.logs, MANY);
    uint32_t seen = 0;
    for (uint32_t k = 0; k < 2; k++) {
        uint64_t last = 0;
        for (struct log *l = log_shard_first(m.shards[k]); l; l = log_shard_next(m.shards[k], l), seen++) {
            ck_assert_uint_gt(l->plid, last);
            ck_assert_uint_eq(log_store_shard_of(m.store, l->plid), k);
            last = l->plid;
        }
    }
    ck_assert_uint_eq(seen, MANY);
    for (int i = 0; i < MANY; i++) {
        reopened(&x[i]);
        check_all(&x[i], 100000);
    }
    stop();
    start();
    for (int i = 0; i < MANY; i++) {
        reopened(&x[i]);
        ck_assert_ptr_null(model_check_files(&m, &x[i], true));
        model_free(&x[i]);
    }
    stop();
    teardown();
}
END_TEST

START_TEST(assigned_metadata_is_remembered) {
    struct model a;
    setup(_i, 2);
    start();
    ck_assert_uint_eq(m.recovery.metadata_assigned, 0);
    create(&a, "t", 0);
    log_shard_assigned(m.shards[0], 17);
    for (int i = 0; i < 20; i++) machine_turn(&m, 1000000);
    kill_machine();
    start();
    ck_assert_uint_eq(m.recovery.metadata_assigned, 0); /* only one of two shards */
    log_shard_assigned(m.shards[0], 17);
    log_shard_assigned(m.shards[1], 15);
    for (int i = 0; i < 20; i++) machine_turn(&m, 1000000);
    kill_machine();
    start();
    ck_assert_uint_eq(m.recovery.metadata_assigned, 15);
    log_shard_assigned(m.shards[0], 20);
    log_shard_assigned(m.shards[1], 20);
    for (int i = 0; i < 20; i++) machine_turn(&m, 1000000);
    stop();
    start();
    ck_assert_uint_eq(m.recovery.metadata_assigned, 20);
    stop();
    model_free(&a);
    teardown();
}
END_TEST

/* ---- the directory -------------------------------------------------------------------------------------------- */

START_TEST(a_directory_has_one_owner) {
    setup(_i, 1);
    start();
    struct uuid cluster = *log_store_cluster_id(m.store), incarnation = *log_store_incarnation(m.store);
    ck_assert(!uuid_is_zero(&cluster) && !uuid_is_zero(&incarnation));
    struct log_store *second;
    struct log_recovery rec;
    char why[300];
    ck_assert_int_eq(log_store_open(m.io, &m.config, &second, &rec, why, sizeof why), ERR_BUSY);
    ck_assert_ptr_nonnull(strstr(why, m.config.dir));
    stop();
    m.config.node_id = 2;
    ck_assert_int_eq(machine_open(&m), ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(m.why, "node 1"));
    timers_free(&m.timers);
    io_destroy(m.io);
    m.config.node_id = 1;
    start();
    ck_assert(uuid_eq(&cluster, log_store_cluster_id(m.store)));
    ck_assert(uuid_eq(&incarnation, log_store_incarnation(m.store)));
    stop();
    teardown();
}
END_TEST

START_TEST(a_clean_stop_leaves_what_kafka_expects) {
    struct model a, b;
    setup(_i, 1);
    start();
    create(&a, "t", 0);
    create(&b, "empty", 2);
    struct log_append out;
    ck_assert_int_eq(produce(&a, 4, 0, 0, &out), OK);
    append_n(&a, 9, 1, 100, 1);
    ck_assert(!file_exists(CLEAN_SHUTDOWN_FILE, NULL));
    stop();
    char why[100];
    struct io_config ic = {0};
    m.io = m.world ? sim_io_create(m.world, 0) : io_blocking_create(&ic, why, sizeof why);
    ck_assert(file_exists(CLEAN_SHUTDOWN_FILE, NULL));
    char *text = file_text(NULL, RECOVERY_POINT_FILE);
    ck_assert_str_eq(text, "0\n2\nt 0 11\nempty 2 0\n");
    free(text);
    text = file_text(NULL, LOG_START_OFFSET_FILE);
    ck_assert_str_eq(text, "0\n2\nt 0 0\nempty 2 0\n");
    free(text);
    text = file_text("t-0", PARTITION_METADATA_FILE);
    ck_assert_ptr_nonnull(strstr(text, "topic_id: QkJCQkJCQkJCQkJCQkJCQg"));
    free(text);
    text = file_text("t-0", EPOCH_CHECKPOINT_FILE);
    ck_assert_str_eq(text, "0\n1\n1 0\n");
    free(text);
    ck_assert(file_exists("t-0", "00000000000000000011.snapshot"));
    ck_assert(!file_exists("empty-2", NULL)); /* folders come with the first bytes */
    io_destroy(m.io);
    start();
    ck_assert(m.recovery.clean);
    ck_assert_uint_eq(m.recovery.journal_groups, 0);
    ck_assert(!file_exists(CLEAN_SHUTDOWN_FILE, NULL));
    stop();
    model_free(&a);
    model_free(&b);
    teardown();
}
END_TEST

/* Until then the catalogue has all of a log. */
START_TEST(folders_come_with_the_first_bytes) {
    struct model a;
    setup(_i, 1);
    start();
    create(&a, "t", 0);
    checkpoint();
    ck_assert(!file_exists("t-0", NULL));
    kill_machine();
    start();
    reopened(&a);
    ck_assert_int_eq(a.log->epoch, 1);
    ck_assert_uint_eq(m.recovery.faulty_logs, 0);
    append_n(&a, 3, 1, 100, 1);
    ck_assert(!file_exists("t-0", NULL));
    checkpoint();
    ck_assert(file_exists("t-0", MANIFEST_FILE));
    kill_machine();
    start();
    reopened(&a);
    check_all(&a, 1000);
    ck_assert_ptr_null(model_check_files(&m, &a, true));
    stop();
    model_free(&a);
    teardown();
}
END_TEST

/* Metadata has given the name away; the shard of the old log has not heard of it when both are in a checkpoint. */
START_TEST(a_log_without_bytes_leaves_the_folder_to_the_old_one) {
    struct model old, new;
    setup(_i, 2);
    start();
    create(&old, "t", 0);
    append_n(&old, 20, 1, 1000, 1);
    struct log_spec s = spec_of("t", 0);
    while (log_store_shard_of(m.store, s.plid) == log_store_shard_of(m.store, old.plid)) s.plid = log_store_new_plid(m.store);
    create_spec(&new, &s);
    checkpoint();
    kill_machine();
    start();
    ck_assert_uint_eq(m.recovery.faulty_logs, 0);
    ck_assert_uint_eq(m.recovery.stray_folders, 0);
    reopened(&old);
    reopened(&new);
    check_all(&old, 5000);
    append_n(&new, 5, 1, 100, 1);
    enum err deleted = ERR_COUNT;
    log_delete(old.log, on_deleted, &deleted);
    checkpoint();
    ck_assert_int_eq(deleted, OK);
    kill_machine();
    start();
    reopened(&new);
    check_all(&new, 5000);
    ck_assert_ptr_null(model_check_files(&m, &new, true));
    stop();
    model_free(&old);
    model_free(&new);
    teardown();
}
END_TEST

START_TEST(pending_bytes_are_accounted_to_zero) {
    struct model a, b;
    setup(_i, 1);
    start();
    create(&a, "t", 0);
    create(&b, "t", 1);
    append_n(&a, 100, 1, 3000, 1);
    append_n(&b, 100, 1, 3000, 1);
    int64_t room = journal_disk_room(m.store->journal);
    ck_assert_int_eq(log_truncate(a.log, 1, 50), OK);
    model_cut(&a, 50);
    enum err deleted = ERR_COUNT;
    log_delete(b.log, on_deleted, &deleted);
    while (deleted == ERR_COUNT) ck_assert(machine_turn(&m, 1000000));
    ck_assert_int_gt(journal_disk_room(m.store->journal), room + 400000 - (1 << 20));
    checkpoint();
    uint64_t unwritten = 0;
    const struct log_impl *l = impl_of(a.log);
    for (uint32_t i = 0; i < l->segment_count; i++) unwritten += l->segments[i].size_bytes - l->segments[i].written_bytes;
    ck_assert_uint_eq(unwritten, 0);
    ck_assert_uint_eq(l->pending_bytes, 0);
    stop();
    model_free(&a);
    model_free(&b);
    teardown();
}
END_TEST

/* As much as is taken, for several times the journal: records wait for the writers now and then, never for a checkpoint that
 * waits for the stream to pause. */
START_TEST(a_steady_stream_does_not_starve_checkpoints) {
    struct model a;
    setup(_i, 1);
    m.config.journal_bytes = 64u << 20;
    m.config.journal_piece_bytes = 4u << 20;
    m.config.tail_bytes = 64u << 20;
    start();
    create(&a, "t", 0);
    struct batch_header h;
    uint8_t *batch = batch_make(&(struct batch_spec){.records = 1, .value_bytes = 200000, .timestamp = 1, .producer_id = -1, .seed = 1}, &h);
    uint64_t sent = 0, waited = 0;
    while (sent < (256u << 20)) {
        struct log_append x = {.batch = batch, .header = &h, .now_ms = 1, .log_append_time_ms = -1};
        enum err err = log_append(a.log, &x);
        ck_assert(err == OK || err == ERR_AGAIN);
        if (err == OK) sent += h.total_bytes;
        if (err == OK && impl_of(a.log)->pub.shard->submitted_bytes < (1u << 20)) continue;
        waited += err == ERR_AGAIN;
        ck_assert(machine_turn(&m, 1000000));
        ck_assert_int_lt(journal_pressure(m.store->journal), 2);
    }
    ck_assert_uint_gt(waited, 0);
    free(batch);
    stop();
    model_free(&a);
    teardown();
}
END_TEST

int main(void) {
    Suite *s = suite_create("log");
    TCase *t = tcase_create("both disks");
    tcase_set_timeout(t, 0);
    tcase_add_loop_test(t, what_is_appended_is_read, 0, 2);
    tcase_add_loop_test(t, read_gives_whole_batches_within_its_bounds, 0, 2);
    tcase_add_loop_test(t, evicted_batches_come_from_the_journal_and_then_from_files, 0, 2);
    tcase_add_test(t, producers_of_all_logs_share_their_memory);
    tcase_add_loop_test(t, what_readers_keep_is_bounded, 0, 2);
    tcase_add_loop_test(t, large_batches_pass_every_buffer_size, 0, 2);
    tcase_add_loop_test(t, log_append_time_is_stamped_in_the_copy, 0, 2);
    tcase_add_loop_test(t, segments_roll_by_size_and_are_sealed, 0, 2);
    tcase_add_loop_test(t, segments_roll_by_time_index_and_offset, 0, 2);
    tcase_add_loop_test(t, records_are_found_by_time, 0, 2);
    tcase_add_loop_test(t, epochs_are_markers_of_no_length, 0, 2);
    tcase_add_loop_test(t, producers_are_known_after_a_restart, 0, 2);
    tcase_add_loop_test(t, producers_expire_while_the_log_is_used, 0, 2);
    tcase_add_loop_test(t, a_deleted_log_makes_room_for_its_name, 0, 2);
    tcase_add_test(t, thousands_of_deleted_logs_do_not_nest);
    tcase_add_loop_test(t, deleted_folders_are_emptied_a_few_at_a_time, 0, 2);
    tcase_add_loop_test(t, a_stop_tells_of_its_progress, 0, 2);
    tcase_add_loop_test(t, a_strange_folder_is_put_aside, 0, 2);
    tcase_add_loop_test(t, the_log_start_takes_whole_segments_along, 0, 2);
    tcase_add_loop_test(t, truncation_cuts_memory_files_and_indexes, 0, 2);
    tcase_add_loop_test(t, producers_survive_the_truncation_of_their_window, 0, 2);
    tcase_add_loop_test(t, two_shards_share_one_journal, 0, 2);
    tcase_add_loop_test(t, assigned_metadata_is_remembered, 0, 2);
    tcase_add_loop_test(t, a_directory_has_one_owner, 0, 2);
    tcase_add_loop_test(t, a_clean_stop_leaves_what_kafka_expects, 0, 2);
    tcase_add_loop_test(t, folders_come_with_the_first_bytes, 0, 2);
    tcase_add_loop_test(t, a_log_without_bytes_leaves_the_folder_to_the_old_one, 0, 2);
    tcase_add_loop_test(t, pending_bytes_are_accounted_to_zero, 0, 2);
    tcase_add_test(t, a_steady_stream_does_not_starve_checkpoints);
    suite_add_tcase(s, t);
    return run_suite(s);
}
