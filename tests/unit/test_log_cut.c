/* test_log_cut.c - what was cut, dropped, deleted or discarded stays so: the power fails after the checkpoint that counts on it, so that
 * nothing puts the files right any more. And what a log that was cut knows of its producers. Over the simulated disk. */
#include "log/writer.h"
#include "tests/unit/log_fixture.h"
#include "tests/unit/log_memory.h"

enum { SEGMENT_BYTES = 3000, VALUE_BYTES = 400 };

static void turns(int n) { while (n-- > 0) ck_assert(machine_turn(&m, 1000000)); }

static void begin(struct model *x) {
    setup(0, 1);
    start();
    struct log_spec s = spec_of("t", 0);
    s.config.segment_bytes = SEGMENT_BYTES;
    s.config.index_interval_bytes = 0;
    create_spec(x, &s);
}

static void end(struct model *x) {
    kill_machine();
    model_free(x);
    teardown();
}

static int32_t next_of[2];
static struct log_append produce(struct model *x, int64_t producer_id, uint32_t value_bytes) {
    struct batch_spec s = {.records = 1, .value_bytes = value_bytes, .timestamp = 1000 + x->log->end, .producer_id = producer_id, .seed = next_seed++};
    struct log_append a;
    if (producer_id >= 0) s.base_sequence = next_of[producer_id]++;
    ck_assert_int_eq(append_spec(x->log, &s, &a), OK);
    if (!a.duplicate) model_add(x, a.base_offset, a.last_offset, &s);
    return a;
}

static void fill(struct model *x, int n) {
    for (int i = 0; i < n; i++) produce(x, 0, VALUE_BYTES);
    ck_assert(machine_settle(&m, x->log));
}

static void cut(struct model *x, int64_t to) {
    ck_assert_int_eq(log_truncate(x->log, 1, to), OK);
    ck_assert_int_eq(x->log->end, to);
    model_cut(x, to);
}

static void restart(struct model *x) {
    kill_machine();
    start();
    reopened(x);
}

/* Names in the log's folder that are nobody's. */
static void stray(void *ctx, const char *name, bool is_dir) {
    const struct model *x = ctx;
    struct log_impl *l = impl_of(x->log);
    int64_t base;
    enum file_kind kind = file_parse(name, &base);
    if (kind == FILE_OTHER || is_dir) return;
    if (kind == FILE_SNAPSHOT) ck_assert_msg(base >= l->segments[0].base && base <= x->log->end, "%s tells of batches that are gone", name);
    else ck_assert_msg(segment_by_base(l, base), "%s is back", name);
}

static void check_folder(struct model *x) {
    char path[PATH_BYTES];
    path_folder(path, m.config.dir, impl_of(x->log)->folder);
    int rc = io_list(m.io, path, stray, x);
    ck_assert(rc >= 0 || rc == -ENOENT);
    const char *wrong = model_check_files(&m, x, true);
    ck_assert_msg(wrong == NULL, "%s", wrong ? wrong : "");
}

/* What the checkpoint counts on is on the disk when the power fails, the indexes too: else the next start would have to read segments. */
static void check_durable(const char *folder, const struct segment *s, enum file_kind kind, uint32_t bytes) {
    char path[PATH_BYTES];
    uint8_t *data = NULL;
    size_t len = 0;
    path_segment(path, m.config.dir, folder, s->base, kind);
    (void)sim_file_read(m.world, 0, path, SIM_DURABLE, &data, &len);
    free(data);
    ck_assert_msg(len == bytes, "%s: %zu bytes are durable, of %u", path, len, bytes);
}

/* The power fails, and the next start finds nothing in the journal that would have it look at the files. */
static void power_cut_after_checkpoint(struct model *x) {
    checkpoint();
    const struct log_impl *l = impl_of(x->log);
    for (uint32_t i = 0; i < l->segment_count; i++) {
        check_durable(l->folder, &l->segments[i], FILE_LOG, l->segments[i].size_bytes);
        check_durable(l->folder, &l->segments[i], FILE_INDEX, l->segments[i].index_bytes);
        check_durable(l->folder, &l->segments[i], FILE_TIMEINDEX, l->segments[i].time_index_bytes);
    }
    restart(x);
    ck_assert(!x->log->faulty);
    check_folder(x);
    check_all(x, 1);
    ck_assert_ptr_null(memory_log_wrong(x));
}

/* `_i` odd: it is the next start that cuts the files. From 2 on there was a clean stop before, with its snapshots. */
START_TEST(cut_files_stay_cut) {
    for (uint32_t keep = 0; keep < 17; keep++) {
        struct model a;
        memset(next_of, 0, sizeof next_of);
        begin(&a);
        fill(&a, 17);
        ck_assert_uint_gt(impl_of(a.log)->segment_count, 2);
        checkpoint();
        if (_i >= 2) {
            stop();
            start();
            reopened(&a);
        }
        cut(&a, a.batches[keep].base);
        while (impl_of(a.log)->truncates_joined > 0) ck_assert(machine_turn(&m, 1000000));
        if (_i % 2) restart(&a);
        else turns(60);
        power_cut_after_checkpoint(&a);
        next_of[0] = (int32_t)keep;
        fill(&a, 8);
        power_cut_after_checkpoint(&a);
        end(&a);
    }
}
END_TEST

/* The process that cut the files is killed before it has synced them, and the next one finds nothing to cut. */
START_TEST(files_that_a_killed_process_cut_stay_cut) {
    for (uint32_t keep = 0; keep < 17; keep++) {
        struct model a;
        memset(next_of, 0, sizeof next_of);
        begin(&a);
        fill(&a, 17);
        checkpoint();
        cut(&a, a.batches[keep].base);
        while (impl_of(a.log)->truncates_joined > 0) ck_assert(machine_turn(&m, 1000000));
        if (_i % 2) restart(&a);
        else turns(60);
        sim_crash(m.world, 0, SIM_KILLED);
        machine_close(&m);
        start();
        reopened(&a);
        power_cut_after_checkpoint(&a);
        end(&a);
    }
}
END_TEST

/* The log grows again, to segments of the names that went: their files are others. */
START_TEST(segments_made_again_have_files_of_their_own) {
    struct model a;
    memset(next_of, 0, sizeof next_of);
    begin(&a);
    fill(&a, 17);
    checkpoint();
    int64_t base = impl_of(a.log)->segments[1].base;
    cut(&a, 3);
    next_of[0] = 3;
    turns(60);
    fill(&a, 14);
    ck_assert_int_eq(impl_of(a.log)->segments[1].base, base);
    power_cut_after_checkpoint(&a);
    end(&a);
}
END_TEST

/* W of thousands of logs moves in slices, and a log may be cut when it was not its turn yet: what becomes durable later lowers W then. */
START_TEST(w_is_not_behind_a_cut_that_was_under_way) {
    struct model a, others[5];
    begin(&a);
    struct log_spec s = spec_of("t", 1);
    for (int i = 0; i < 5; i++) {
        s = spec_of("t", i + 1);
        create_spec(&others[i], &s);
    }
    memset(next_of, 0, sizeof next_of);
    checkpoint();
    for (int i = 0; i < 5; i++) ck_assert_int_eq(log_begin_epoch(others[i].log, 2), OK);
    fill(&a, 17);
    enum err done = ERR_COUNT;
    journal_checkpoint(m.store->journal, false, on_checkpoint, &done);
    for (int i = 0; !m.shards[0]->checkpoint.done; i++) ck_assert(i < 10000 && machine_turn(&m, 1000000));
    ck_assert(impl_of(a.log)->in_checkpoint);
    cut(&a, 0);
    while (impl_of(a.log)->truncates_joined > 0) ck_assert(machine_turn(&m, 1000000));
    turns(60);
    ck_assert_int_eq(impl_of(a.log)->synced.base, 0);
    ck_assert_uint_eq(impl_of(a.log)->synced.position, 0);
    for (int i = 0; i < 5; i++) model_free(&others[i]);
    end(&a);
}
END_TEST

static void on_start(struct log *l, void *ctx, enum err err) {
    (void)l;
    *(enum err *)ctx = err;
}

START_TEST(dropped_segments_stay_gone) {
    struct model a;
    enum err done = ERR_COUNT;
    memset(next_of, 0, sizeof next_of);
    begin(&a);
    fill(&a, 17);
    checkpoint();
    ck_assert_int_eq(log_set_start(a.log, 12, on_start, &done), OK);
    while (done == ERR_COUNT) ck_assert(machine_turn(&m, 1000000));
    if (_i % 2) restart(&a);
    else turns(60);
    power_cut_after_checkpoint(&a);
    ck_assert_int_eq(a.log->start, 12);
    end(&a);
}
END_TEST

static void of_the_topic(void *ctx, const char *name, bool is_dir) {
    (void)is_dir;
    *(uint32_t *)ctx += strncmp(name, "t-", 2) == 0;
}

static uint32_t folders(void) {
    uint32_t n = 0;
    ck_assert_int_ge(io_list(m.io, m.config.dir, of_the_topic, &n), 0);
    return n;
}

START_TEST(deleted_folders_stay_gone) {
    struct model a;
    enum err gone = ERR_COUNT;
    memset(next_of, 0, sizeof next_of);
    begin(&a);
    fill(&a, 9);
    checkpoint();
    ck_assert_uint_eq(folders(), 1);
    log_delete(a.log, on_checkpoint, &gone);
    while (gone == ERR_COUNT) ck_assert(machine_turn(&m, 1000000));
    turns(60);
    checkpoint();
    for (int i = 0; i < 2; i++) { /* what was being emptied is emptied by the next start */
        kill_machine();
        start();
        ck_assert_uint_eq(m.recovery.stray_folders, 0);
        ck_assert_uint_eq(m.recovery.logs, 0);
        turns(60);
        ck_assert_uint_eq(folders(), 0);
    }
    end(&a);
}
END_TEST

START_TEST(discarded_generations_stay_gone) {
    for (int more = 0; more < 2; more++) {
        struct model a;
        memset(next_of, 0, sizeof next_of);
        begin(&a);
        fill(&a, 17);
        checkpoint();
        ck_assert_int_eq(log_reset(a.log, 1, 1000, NULL, 0), OK);
        model_reset(&a, 1000);
        next_of[0] = 0;
        if (more) fill(&a, 3);
        while (impl_of(a.log)->truncates_joined > 0) ck_assert(machine_turn(&m, 1000000));
        if (_i % 2) restart(&a);
        else turns(60);
        power_cut_after_checkpoint(&a);
        turns(60);
        ck_assert_int_eq(a.log->start, 1000);
        ck_assert_uint_le(folders(), 1);
        struct manifest manifest;
        enum err err = folder_manifest_read(m.io, m.config.dir, impl_of(a.log)->folder, &manifest);
        if (err == OK) ck_assert_uint_eq(manifest.generation, a.log->generation);
        else ck_assert_int_eq(err, more ? OK : ERR_NOT_FOUND);
        manifest_free(&manifest);
        ck_assert_uint_eq(m.recovery.stray_folders, 0);
        fill(&a, 9);
        power_cut_after_checkpoint(&a);
        end(&a);
    }
}
END_TEST

/* A checkpoint syncs the names of new files, whichever they are: of a segment without an index; of an index that a segment gets later, by
 * offset only, or, when it is complete, by time only. And what is added to each. */
START_TEST(new_files_are_durable_with_their_names) {
    struct model a;
    setup(0, 1);
    start();
    create(&a, "t", 0);
    struct batch_spec s = {.records = 1, .value_bytes = 3000, .timestamp = _i == 0 ? -1 : 1000, .producer_id = -1, .seed = 1};
    append(&a, &s);
    power_cut_after_checkpoint(&a);
    for (int i = 0; i < 3 && _i != 1; i++) {
        append(&a, &s);
        append(&a, &s);
        if (_i == 0) power_cut_after_checkpoint(&a);
    }
    if (_i == 2) checkpoint(); /* the first segment's files have their names */
    if (_i > 0) ck_assert_int_eq(log_roll(a.log, 1), OK);
    if (_i == 2) append(&a, &s);
    power_cut_after_checkpoint(&a);
    const struct segment *first = &impl_of(a.log)->segments[0];
    ck_assert(_i == 1 ? first->index_bytes == 0 : first->index_bytes > 0);
    ck_assert(_i == 0 ? first->time_index_bytes == 0 : first->time_index_bytes > 0);
    end(&a);
}
END_TEST

/* A block has an IMAGE in the journal; then it is cut, or cut away, and two starts in a row put the file right. */
START_TEST(an_image_brings_nothing_back_that_was_cut) {
    for (uint32_t keep = 0; keep < 4; keep++) {
        struct model a;
        memset(next_of, 0, sizeof next_of);
        begin(&a);
        fill(&a, 3);
        checkpoint();
        fill(&a, 1);
        const struct log_impl *l = impl_of(a.log);
        uint32_t written = l->segments[0].written_bytes;
        journal_checkpoint(m.store->journal, false, NULL, NULL);
        while (l->segments[0].written_bytes == written) ck_assert(machine_turn(&m, 1000000));
        restart(&a);
        cut(&a, a.batches[keep].base);
        while (impl_of(a.log)->truncates_joined > 0) ck_assert(machine_turn(&m, 1000000));
        restart(&a);
        sim_crash(m.world, 0, SIM_LOSE_NONE);
        machine_close(&m);
        start();
        reopened(&a);
        check_all(&a, 1);
        ck_assert(machine_stop(&m));
        ck_assert_ptr_null(model_check_files(&m, &a, true));
        end(&a);
    }
}
END_TEST

/* ---- producers ---------------------------------------------------------------------------------- */

static void expect_duplicate(struct model *x, uint32_t batch, bool duplicate) {
    struct batch_header h;
    ck_assert_int_eq(batch_parse(x->batches[batch].bytes, x->batches[batch].len, &h), OK);
    struct log_append a = {.batch = x->batches[batch].bytes, .header = &h, .now_ms = 1, .log_append_time_ms = -1};
    ck_assert_int_eq(log_append(x->log, &a), OK);
    ck_assert(a.duplicate == duplicate);
    if (duplicate) ck_assert_int_eq(a.base_offset, x->batches[batch].base);
}

/* The first of two cuts takes all of a producer's window; what the log has of it before that is found, also when both are replayed. */
START_TEST(a_producer_is_found_behind_two_cuts) {
    struct model a;
    memset(next_of, 0, sizeof next_of);
    begin(&a);
    for (int i = 0; i < 9; i++) produce(&a, 0, 100);
    cut(&a, 3);
    produce(&a, -1, 100);
    produce(&a, -1, 100);
    cut(&a, 4);
    expect_duplicate(&a, 2, true);
    ck_assert(machine_settle(&m, a.log));
    restart(&a);
    ck_assert_ptr_null(memory_log_wrong(&a));
    expect_duplicate(&a, 2, true);
    end(&a);
}
END_TEST

/* Looking for one producer in the log takes nothing from the windows of the others, though a snapshot has only their last batch. */
START_TEST(looking_for_a_producer_leaves_the_others_alone) {
    struct model a;
    memset(next_of, 0, sizeof next_of);
    begin(&a);
    for (int i = 0; i < 3; i++) produce(&a, 0, 100);
    ck_assert_int_eq(log_roll(a.log, 1), OK);
    produce(&a, 1, 100);
    ck_assert(machine_settle(&m, a.log));
    checkpoint();
    cut(&a, 3);
    for (uint32_t i = 0; i < 3; i++) expect_duplicate(&a, i, true);
    ck_assert_ptr_null(producers_find(&a.log->producers, 1));
    end(&a);
}
END_TEST

/* Until the cut is durable the folder has snapshots of what was cut. A segment that begins where one of theirs did is another one. */
START_TEST(a_snapshot_of_what_was_cut_is_not_believed) {
    struct model a;
    memset(next_of, 0, sizeof next_of);
    begin(&a);
    for (int i = 0; i < 3; i++) produce(&a, 0, 100);
    ck_assert_int_eq(log_roll(a.log, 1), OK);
    produce(&a, -1, 100);
    ck_assert(machine_settle(&m, a.log));
    checkpoint();
    ck_assert(file_exists("t-0", "00000000000000000003.snapshot"));
    cut(&a, 0);
    for (int i = 0; i < 3; i++) produce(&a, -1, 100);
    ck_assert_int_eq(log_roll(a.log, 1), OK);
    produce(&a, 1, 100);
    cut(&a, 3);
    ck_assert_ptr_null(producers_find(&a.log->producers, 0));
    end(&a);
}
END_TEST

int main(void) {
    Suite *s = suite_create("log_cut");
    TCase *t = tcase_create("log_cut");
    tcase_set_timeout(t, 0);
    tcase_add_loop_test(t, cut_files_stay_cut, 0, 4);
    tcase_add_loop_test(t, files_that_a_killed_process_cut_stay_cut, 0, 2);
    tcase_add_test(t, segments_made_again_have_files_of_their_own);
    tcase_add_test(t, w_is_not_behind_a_cut_that_was_under_way);
    tcase_add_loop_test(t, dropped_segments_stay_gone, 0, 2);
    tcase_add_test(t, deleted_folders_stay_gone);
    tcase_add_loop_test(t, discarded_generations_stay_gone, 0, 2);
    tcase_add_loop_test(t, new_files_are_durable_with_their_names, 0, 3);
    tcase_add_test(t, an_image_brings_nothing_back_that_was_cut);
    tcase_add_test(t, a_producer_is_found_behind_two_cuts);
    tcase_add_test(t, looking_for_a_producer_leaves_the_others_alone);
    tcase_add_test(t, a_snapshot_of_what_was_cut_is_not_believed);
    suite_add_tcase(s, t);
    return run_suite(s);
}
