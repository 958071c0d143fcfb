/* test_log_damage.c - damage below what was synced, simulated: it is found before it is served, said precisely, kept over restarts,
 * and nothing else suffers. */
#include "log/faulty.h"
#include "log/manifest.h"
#include "log/writer.h"
#include "tests/unit/log_fixture.h"

#define FIRST_LOG "/var/data/t-0/00000000000000000000.log"

static struct io *tools(void) {
    struct io *io = sim_io_create(m.world, 0);
    ck_assert_ptr_nonnull(io);
    return io;
}

/* Reads `offset`: the batch, or that it is damaged. */
static enum err read_one(struct model *a, int64_t offset) {
    struct log_read r = {.offset = offset, .max_offset = a->end, .max_bytes = 1, .min_one = true};
    enum err err = read_wait(&m, a->log, &r);
    if (err == OK) {
        const char *wrong = r.bytes == 0 ? "nothing was read" : model_compare(a, &r);
        ck_assert_msg(wrong == NULL, "offset %lld: %s", (long long)offset, wrong ? wrong : "");
        log_read_release(&r);
    }
    return err;
}

/* Exactly the offsets [start, end) cannot be read; start == end: all can. */
static void expect_lost(struct model *a, int64_t start, int64_t end) {
    for (int64_t offset = a->log->start; offset < a->end; offset++) {
        bool lost = offset >= start && offset < end;
        enum err err = read_one(a, offset);
        ck_assert_msg(err == (lost ? ERR_CORRUPT : OK), "offset %lld, of which [%lld, %lld) should be lost: %s", (long long)offset, (long long)start,
                      (long long)end, err_str(err));
    }
    const struct log_impl *l = impl_of(a->log);
    ck_assert_uint_eq(l->faulty_count, start < end);
    ck_assert(a->log->faulty == (start < end));
    if (start == end) return;
    ck_assert_int_eq(l->faulty[0].start, start);
    ck_assert_int_eq(l->faulty[0].end, end);
}

static uint32_t position_of(const struct model *a, int64_t from, int64_t offset) {
    uint32_t position = 0;
    for (uint32_t i = model_find(a, from); i < a->count && a->batches[i].end <= offset; i++) position += a->batches[i].len;
    return position;
}

enum { BATCHES = 5, RECORDS = 2, VALUE_BYTES = 16 };

/* `kind` 0: after a clean stop; 1: after a crash, with more in the journal. */
static void build(struct model *a, struct model *b, int kind) {
    setup(0, 1);
    start();
    create(a, "t", 0);
    create(b, "t", 1);
    append_n(a, BATCHES, RECORDS, VALUE_BYTES, 1000);
    append_n(b, BATCHES, RECORDS, VALUE_BYTES, 1000);
    if (kind == 0) {
        stop();
        return;
    }
    checkpoint();
    append_n(a, 2, RECORDS, VALUE_BYTES, 5000);
    kill_machine();
}

static void done(struct model *a, struct model *b) {
    stop();
    model_free(a);
    model_free(b);
    teardown();
}

START_TEST(a_segment_cut_to_every_length) {
    struct model a, b;
    for (uint32_t length = 0;; length++) {
        build(&a, &b, _i);
        int64_t end = BATCHES * RECORDS;
        uint32_t full = position_of(&a, 0, end), whole = 0;
        ck_assert_int_ge(sim_file_truncate(m.world, 0, FIRST_LOG, length), 0);
        for (uint32_t i = 0; i < BATCHES && position_of(&a, 0, a.batches[i].end) <= length; i++) whole = i + 1;
        start();
        ck_assert_uint_eq(m.recovery.faulty_logs, length < full);
        reopened(&a);
        reopened(&b);
        ck_assert_int_eq(a.log->end, a.end);
        expect_lost(&a, whole * RECORDS, end);
        check_all(&b, 1 << 20);
        append_n(&a, 2, 1, 30, 9000); /* behind the hole */
        stop();
        start(); /* and it is known after a restart */
        reopened(&a);
        reopened(&b);
        ck_assert_uint_eq(impl_of(a.log)->faulty_count, length < full);
        expect_lost(&a, whole * RECORDS, end);
        done(&a, &b);
        if (length == full) break;
    }
}
END_TEST

/* Three segments of four batches; the last one is being written. */
static void build_segments(struct model *a, struct model *b, bool sealed) {
    setup(0, 1);
    start();
    struct log_spec spec = spec_of("t", 0);
    spec.config.segment_bytes = 4200;
    spec.config.index_interval_bytes = 1000;
    create_spec(a, &spec);
    create(b, "t", 1);
    for (int i = 0; i < 11; i++)
        append(a, &(struct batch_spec){.records = 1, .value_bytes = 900, .timestamp = 1000 + i, .producer_id = 7, .base_sequence = i, .seed = next_seed++});
    ck_assert(machine_settle(&m, a->log));
    append_n(b, 4, 1, 900, 1);
    struct log_impl *l = impl_of(a->log);
    ck_assert_uint_eq(l->segment_count, 3);
    while (sealed && !(l->segments[0].sealed && l->segments[1].sealed)) ck_assert(machine_turn(&m, 1000000000));
    stop();
}

static const struct missing { const char *name; int64_t lost_from, lost_to; } missing_files[] = {
    {"t-0/00000000000000000000.log", 0, 4},
    {"t-0/00000000000000000004.log", 4, 8},
    {"t-0/00000000000000000008.log", 8, 11},
    {"t-0/00000000000000000000.index", 0, 0},
    {"t-0/00000000000000000008.index", 0, 0},
    {"t-0/00000000000000000004.timeindex", 0, 0},
    {"t-0/00000000000000000004.snapshot", 0, 0},
    {"t-0/leader-epoch-checkpoint", 0, 0},
    {"t-0/partition.metadata", 0, 0},
    {"t-0/varve.manifest", 0, 0},
    {"recovery-point-offset-checkpoint", 0, 0},
};

static bool index_exists(const char *name) {
    const char *dot = strrchr(name, '.');
    return !dot || !strstr(dot, "index") || file_exists("t-0", strchr(name, '/') + 1);
}

START_TEST(a_file_is_missing) {
    const struct missing *c = &missing_files[_i];
    struct model a, b;
    build_segments(&a, &b, true);
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "/var/data/%s", c->name);
    struct io *io = tools();
    ck_assert_int_ge(io_unlink(io, path), 0);
    io_destroy(io);
    start();
    ck_assert_uint_eq(m.recovery.faulty_logs, c->lost_from < c->lost_to);
    for (int life = 0; life < 2; life++) {
        reopened(&a);
        reopened(&b);
        ck_assert_int_eq(a.log->end, a.end);
        expect_lost(&a, c->lost_from, c->lost_to);
        check_all(&b, 1 << 20);
        append_n(&a, 1, 1, 100, 9000 + life);
        stop();
        if (life == 0) start();
    }
    start();
    ck_assert_msg(index_exists(c->name), "%s was not made again", c->name);
    reopened(&a);
    /* The manifest has the digests of all complete segments again. */
    struct manifest mf;
    uint8_t *data;
    size_t len;
    ck_assert_int_ge(io_read_file(m.io, "/var/data/t-0/varve.manifest", 1 << 20, &data, &len), 0);
    ck_assert_int_eq(manifest_decode(&mf, data, len), OK);
    for (int i = 0; i < 2; i++) ck_assert(manifest_find(&mf, i * 4) || c->lost_to > 0);
    manifest_free(&mf);
    free(data);
    done(&a, &b);
}
END_TEST

START_TEST(the_folder_is_missing) {
    struct model a, b;
    build_segments(&a, &b, true);
    struct io *io = tools();
    ck_assert_int_ge(io_rename(io, "/var/data/t-0", "/var/data/elsewhere"), 0);
    io_destroy(io);
    start();
    reopened(&a);
    reopened(&b);
    ck_assert_int_eq(a.log->end, 11); /* never an empty topic */
    for (int64_t offset = 0; offset < 11; offset++) ck_assert_int_eq(read_one(&a, offset), ERR_CORRUPT);
    ck_assert_uint_eq(impl_of(a.log)->faulty_count, 3);
    check_all(&b, 1 << 20);
    append_n(&a, 1, 1, 100, 9000);
    stop();
    start();
    reopened(&a);
    ck_assert_int_eq(read_one(&a, 11), OK);
    ck_assert_int_eq(read_one(&a, 10), ERR_CORRUPT);
    done(&a, &b);
}
END_TEST

static void swap(const char *x, const char *y) {
    struct io *io = tools();
    ck_assert_int_ge(io_rename(io, x, "/var/data/aside"), 0);
    ck_assert_int_ge(io_rename(io, y, x), 0);
    ck_assert_int_ge(io_rename(io, "/var/data/aside", y), 0);
    io_destroy(io);
}

START_TEST(two_segments_are_swapped) {
    struct model a, b;
    build_segments(&a, &b, true);
    swap("/var/data/t-0/00000000000000000000.log", "/var/data/t-0/00000000000000000004.log");
    start();
    reopened(&a);
    reopened(&b);
    for (int64_t offset = 0; offset < 11; offset++) ck_assert_int_eq(read_one(&a, offset), offset < 8 ? ERR_CORRUPT : OK);
    check_all(&b, 1 << 20);
    done(&a, &b);
}
END_TEST

/* Batches of the two differ in nothing that a batch says of itself: only the manifest tells. */
START_TEST(the_folders_of_two_partitions_are_swapped) {
    struct model a, b;
    build(&a, &b, _i);
    swap("/var/data/t-0", "/var/data/t-1");
    start();
    ck_assert_uint_eq(m.recovery.faulty_logs, 0);
    reopened(&a);
    reopened(&b);
    check_all(&a, 1 << 20); /* each has its own back */
    check_all(&b, 1 << 20);
    append_n(&a, 1, 1, 100, 9000);
    stop();
    start();
    reopened(&a);
    reopened(&b);
    check_all(&a, 1 << 20);
    check_all(&b, 1 << 20);
    done(&a, &b);
}
END_TEST

/* A copy of one partition in the place of another: put aside, and nothing of it is served. */
START_TEST(a_folder_holds_the_copy_of_another) {
    struct model a, b;
    build(&a, &b, _i);
    struct io *io = tools();
    uint8_t *data;
    size_t len;
    ck_assert_int_ge(io_read_file(io, "/var/data/t-1/varve.manifest", 1 << 20, &data, &len), 0);
    ck_assert_int_ge(io_replace_file(io, "/var/data/t-0/varve.manifest", data, len), 0);
    free(data);
    io_destroy(io);
    start();
    ck_assert_uint_eq(m.recovery.stray_folders, 1);
    reopened(&a);
    reopened(&b);
    expect_lost(&a, 0, BATCHES * RECORDS);
    check_all(&b, 1 << 20);
    append_n(&a, 1, 1, 100, 9000);
    stop();
    start();
    reopened(&a);
    ck_assert_int_eq(read_one(&a, a.end - 1), OK);
    done(&a, &b);
}
END_TEST

/* Every byte of a complete segment. */
START_TEST(a_flip_anywhere_costs_one_batch) {
    struct model a, b;
    build_segments(&a, &b, _i > 0);
    uint32_t full = position_of(&a, 0, 4);
    for (uint32_t at = 0; at < full; at += at % 960 < 70 ? 1 : 53) {
        ck_assert_int_ge(sim_file_flip(m.world, 0, FIRST_LOG, at, 0x10), 0);
        int64_t hit = 0;
        while (position_of(&a, 0, hit + 1) <= at) hit++;
        start();
        reopened(&a);
        reopened(&b);
        expect_lost(&a, hit, hit + 1);
        expect_lost(&a, hit, hit + 1); /* not read again */
        check_all(&b, 1 << 20);
        stop();
        start();
        reopened(&a);
        ck_assert_uint_eq(impl_of(a.log)->faulty_count, 1); /* known before anybody reads */
        ck_assert_uint_eq(m.recovery.faulty_logs, 1);
        ck_assert_int_ge(sim_file_flip(m.world, 0, FIRST_LOG, at, 0x10), 0);
        faulty_heal(impl_of(a.log), hit);
        reopened(&a);
        expect_lost(&a, 0, 0);
        stop();
    }
    start();
    reopened(&a);
    done(&a, &b);
}
END_TEST

/* A log of 12 batches in one segment, whose index has entries; all of it is in files. */
static void build_one(struct model *a) {
    setup(0, 1);
    start();
    struct log_spec spec = spec_of("t", 0);
    spec.config.index_interval_bytes = 2000;
    create_spec(a, &spec);
    for (int i = 0; i < 12; i++)
        append(a, &(struct batch_spec){.records = 1, .value_bytes = 900, .timestamp = 1000 + i, .producer_id = i < 9 ? 7 : 8, .base_sequence = i < 9 ? i : i - 9, .seed = next_seed++});
    ck_assert(machine_settle(&m, a->log));
    stop();
}

static void cut_to(struct model *a, int64_t offset) {
    ck_assert_int_eq(log_truncate(a->log, 1, offset), OK);
    ck_assert_int_eq(a->log->end, offset);
    model_cut(a, offset);
}

/* A header is damaged: magic, length, base offset, CRC. The log is cut before, at and behind that batch, goes on, and comes back after
 * a crash and after a stop: only what is damaged and was not cut is missing, and nothing of what was cut comes back. */
static const struct { uint32_t at; uint8_t mask; } header_flips[] = {{16, 0x10}, {11, 0x40}, {10, 0x04}, {10, 0x10}, {8, 0x80}, {7, 0x01}, {7, 0x08}, {17, 0x01}};
START_TEST(a_damaged_header_and_a_truncation) {
    struct model a;
    for (int64_t hit = 0; hit < 12; hit++)
        for (int64_t offset = 0; offset <= 12; offset++)
            for (int kind = 0; kind < 2; kind++) {
                build_one(&a);
                uint32_t at = position_of(&a, 0, hit) + header_flips[_i].at;
                ck_assert_int_ge(sim_file_flip(m.world, 0, FIRST_LOG, at, header_flips[_i].mask), 0);
                start();
                reopened(&a);
                cut_to(&a, offset);
                append_n(&a, 2, 1, 30, 9000);
                ck_assert_int_eq(a.log->shard->failed, OK);
                if (kind == 0) stop();
                else kill_machine();
                start();
                reopened(&a);
                ck_assert_int_eq(a.log->end, offset + 2);
                for (int64_t i = 0; i < offset + 2; i++) {
                    enum err err = read_one(&a, i);
                    ck_assert_msg(err == (i == hit && hit < offset ? ERR_CORRUPT : OK), "batch %d is damaged, cut at %d: %d: %s", (int)hit, (int)offset, (int)i, err_str(err));
                }
                stop();
                model_free(&a);
                teardown();
            }
}
END_TEST

/* Batches next to each other are damaged, known, and one range. The log is cut inside it, goes on behind the cut (or not), and comes back
 * after a crash and after a stop: of the range the part before the cut is left, and what took the place of the rest is served. */
START_TEST(a_cut_inside_a_known_range) {
    enum { HIT = 4, HITS = 4 };
    struct model a;
    for (int64_t offset = HIT; offset <= HIT + HITS; offset++)
        for (uint32_t more = 0; more < 8; more++)
            for (int kind = 0; kind < 2; kind++) {
                build_one(&a);
                for (int64_t i = HIT; i < HIT + HITS; i++)
                    ck_assert_int_ge(sim_file_flip(m.world, 0, FIRST_LOG, position_of(&a, 0, i) + 300, 0x10), 0);
                start();
                reopened(&a);
                for (int64_t i = HIT; i < HIT + HITS; i++) ck_assert_int_eq(read_one(&a, i), ERR_CORRUPT);
                ck_assert_uint_eq(impl_of(a.log)->faulty_count, 1);
                ck_assert_int_eq(impl_of(a.log)->faulty[0].end, HIT + HITS);
                cut_to(&a, offset);
                struct log_impl *l = impl_of(a.log);
                ck_assert_uint_eq(l->faulty_count, offset > HIT);
                if (offset > HIT) {
                    ck_assert_int_eq(l->faulty[0].end, offset);
                    ck_assert_uint_eq(l->faulty[0].end_position, segment_last(l)->size_bytes);
                }
                append_n(&a, more, 1, 500, 9000);
                while (l->truncates_joined > 0) ck_assert(machine_turn(&m, 1000000));
                if (kind == 0) stop();
                else kill_machine();
                for (int times = 0; times < 2; times++) {
                    start();
                    reopened(&a);
                    ck_assert_int_eq(a.log->end, offset + more);
                    for (int64_t i = 0; i < offset + more; i++) {
                        enum err err = read_one(&a, i);
                        ck_assert_msg(err == (i >= HIT && i < offset && i < HIT + HITS ? ERR_CORRUPT : OK), "cut at %d, %u more: %d: %s", (int)offset, more,
                                      (int)i, err_str(err));
                    }
                    stop();
                }
                model_free(&a);
                teardown();
            }
}
END_TEST

/* Kept where it is, but it does not stand in the way of the log start. */
START_TEST(the_log_start_passes_over_damage) {
    struct model a, b;
    build_segments(&a, &b, true);
    ck_assert_int_ge(sim_file_flip(m.world, 0, FIRST_LOG, 100, 1), 0);
    ck_assert_int_ge(sim_file_flip(m.world, 0, "/var/data/t-0/00000000000000000004.log", 100, 1), 0);
    start();
    reopened(&a);
    ck_assert_int_eq(read_one(&a, 0), ERR_CORRUPT);
    ck_assert_int_eq(read_one(&a, 4), ERR_CORRUPT);
    ck_assert_uint_eq(impl_of(a.log)->faulty_count, 2);
    ck_assert_int_eq(log_set_start(a.log, 1, NULL, NULL), OK);
    ck_assert_uint_eq(impl_of(a.log)->faulty_count, 2);
    ck_assert_int_eq(log_set_start(a.log, 4, NULL, NULL), OK);
    ck_assert_uint_eq(impl_of(a.log)->faulty_count, 1); /* gone with its segment */
    ck_assert(a.log->faulty);
    ck_assert_int_eq(log_set_start(a.log, 5, NULL, NULL), OK);
    ck_assert(!a.log->faulty);
    ck_assert(machine_settle(&m, a.log));
    stop();
    start();
    reopened(&a);
    for (int64_t offset = 5; offset < 11; offset++) ck_assert_int_eq(read_one(&a, offset), OK);
    ck_assert(!a.log->faulty);
    stop();
    model_free(&a);
    model_free(&b);
    teardown();
}
END_TEST

/* A batch that says of itself all that is checked, in a chunk that is not what was sealed: the digest knows. */
START_TEST(a_batch_that_passes_for_another) {
    struct model a, b;
    build_segments(&a, &b, true);
    uint8_t *file;
    size_t len;
    struct io *io = tools();
    ck_assert_int_ge(io_read_file(io, FIRST_LOG, 1 << 20, &file, &len), 0);
    uint32_t at = position_of(&a, 0, 2);
    file[at + 100] ^= 1;
    batch_seal(file + at); /* its CRC is right again */
    ck_assert_int_ge(io_replace_file(io, FIRST_LOG, file, len), 0);
    free(file);
    io_destroy(io);
    start();
    reopened(&a);
    expect_lost(&a, 0, 4); /* which of them it is nobody can tell */
    done(&a, &b);
}
END_TEST

static void run_for(int64_t ns) {
    int64_t until = io_mono_ns(m.io) + ns;
    while (io_mono_ns(m.io) < until) ck_assert(machine_turn(&m, until - io_mono_ns(m.io)));
}

START_TEST(the_scrubber_finds_what_nobody_reads) {
    struct model a, b;
    build_segments(&a, &b, true);
    ck_assert_int_ge(sim_file_flip(m.world, 0, "/var/data/t-0/00000000000000000004.log", 1500, 0x80), 0);
    start();
    reopened(&a);
    log_shard_scrub(m.shards[0], 1 << 20, 5000);
    run_for(4000000000);
    struct log_scrub_stats stats = log_shard_scrub_stats(m.shards[0]);
    ck_assert_uint_eq(stats.rounds, 1);
    ck_assert_uint_eq(stats.segments, 4); /* of each log a complete one and the one that is being written */
    ck_assert_uint_eq(stats.damages, 1);
    ck_assert_uint_eq(impl_of(a.log)->faulty_count, 1);
    expect_lost(&a, 5, 6);
    run_for(5000000000);
    stats = log_shard_scrub_stats(m.shards[0]);
    ck_assert_uint_eq(stats.rounds, 2);
    ck_assert_uint_eq(stats.damages, 1); /* known */
    stop();
    /* Somebody puts the file right: the next life finds that out at once, whatever the interval. */
    ck_assert_int_ge(sim_file_flip(m.world, 0, "/var/data/t-0/00000000000000000004.log", 1500, 0x80), 0);
    start();
    reopened(&a);
    ck_assert_uint_eq(impl_of(a.log)->faulty_count, 1);
    log_shard_scrub(m.shards[0], 1, INT64_MAX);
    run_for(50000000);
    expect_lost(&a, 0, 0);
    done(&a, &b);
}
END_TEST

/* A log start deep in a segment: the epoch table has forgotten what the batches before it are of. Three epochs, 4 batches each. */
static void build_epochs(struct model *a) {
    setup(0, 1);
    start();
    create(a, "t", 0);
    for (int32_t epoch = 1; epoch <= 9; epoch += 4) {
        if (epoch > 1) ck_assert_int_eq(log_begin_epoch(a->log, epoch), OK);
        append_n(a, 4, 1, 300, 1000);
    }
    checkpoint();
    stop(); /* nothing is served from memory any more */
    start();
    reopened(a);
}

static void epochs_done(struct model *a) {
    ck_assert_uint_eq(impl_of(a->log)->faulty_count, 0);
    stop();
    model_free(a);
    teardown();
}

START_TEST(what_lies_before_the_log_start_is_no_damage) {
    struct model a;
    build_epochs(&a);
    ck_assert_int_eq(log_set_start(a.log, 10, NULL, NULL), OK);
    ck_assert(machine_settle(&m, a.log));
    log_shard_scrub(m.shards[0], 1 << 20, 5000);
    run_for(4000000000);
    struct log_scrub_stats stats = log_shard_scrub_stats(m.shards[0]);
    ck_assert_uint_eq(stats.rounds, 1);
    ck_assert_uint_eq(stats.damages, 0);
    stop();
    start();
    reopened(&a);
    for (int64_t offset = 10; offset < 12; offset++) ck_assert_int_eq(read_one(&a, offset), OK);
    ck_assert_int_eq(log_truncate(a.log, 9, 11), OK); /* its index is made again, from the first batch on */
    model_cut(&a, 11);
    ck_assert(machine_settle(&m, a.log));
    stop();
    start();
    reopened(&a);
    ck_assert_int_eq(a.log->end, 11);
    ck_assert_int_eq(read_one(&a, 10), OK);
    ck_assert(!impl_of(a.log)->producers_lost);
    /* The epoch of what is still served, and of the record before, is known. */
    ck_assert_int_eq(a.log->base_epoch, 9);
    epochs_done(&a);
}
END_TEST

START_TEST(the_log_start_moves_during_a_read) {
    struct model a;
    build_epochs(&a);
    bool done = false;
    struct log_read r = {.offset = 0, .max_offset = a.end, .max_bytes = 1, .min_one = true, .done = read_flag, .owner = &done};
    ck_assert(!log_read(a.log, &r));
    ck_assert_int_eq(log_set_start(a.log, 10, NULL, NULL), OK);
    while (!done) ck_assert(machine_turn(&m, 1000000000));
    ck_assert_msg(r.err == OK || r.err == ERR_RANGE, "%s", err_str(r.err));
    if (r.err == OK) ck_assert_ptr_null(model_compare(&a, &r));
    log_read_release(&r);
    epochs_done(&a);
}
END_TEST

static bool has_digest(const struct model *a, int64_t base) {
    struct manifest manifest;
    ck_assert_int_eq(folder_manifest_read(m.io, m.config.dir, impl_of(a->log)->folder, &manifest), OK);
    bool found = manifest_find(&manifest, base) != NULL;
    manifest_free(&manifest);
    return found;
}

/* The epoch is not under the CRC. A digest of the damaged bytes would say that they are right, and refuse those that another replica has. */
START_TEST(a_wrong_epoch_gets_no_digest) {
    struct model a, b;
    build_segments(&a, &b, false);
    ck_assert_int_ge(sim_file_flip(m.world, 0, FIRST_LOG, 15, 0x04), 0);
    start();
    reopened(&a);
    const struct segment *first = &impl_of(a.log)->segments[0];
    if (!first->sealed) ck_assert(!has_digest(&a, 0));
    for (int i = 0; i < 100 && !first->sealed; i++) ck_assert(machine_turn(&m, 100000000));
    ck_assert(first->sealed);
    ck_assert(!has_digest(&a, 0));
    expect_lost(&a, 0, 1);
    done(&a, &b);
}
END_TEST

START_TEST(the_scrubber_keeps_its_pace) {
    struct model a;
    setup(0, 1);
    m.config.tail_bytes = 64 << 10;
    start();
    struct log_spec spec = spec_of("t", 0);
    spec.config.segment_bytes = 2 << 20;
    create_spec(&a, &spec);
    append_n(&a, 300, 1, 16000, 1000);
    struct log_impl *l = impl_of(a.log);
    while (!(l->segments[0].sealed && l->segments[1].sealed)) ck_assert(machine_turn(&m, 1000000000));
    log_shard_scrub(m.shards[0], 1 << 20, 1000);
    run_for(2000000000);
    struct log_scrub_stats stats = log_shard_scrub_stats(m.shards[0]);
    ck_assert_uint_ge(stats.bytes, 1 << 20);
    ck_assert_uint_le(stats.bytes, 3 << 20);
    ck_assert_uint_eq(stats.rounds, 0);
    run_for(4000000000);
    ck_assert_uint_ge(log_shard_scrub_stats(m.shards[0]).rounds, 1);
    /* A stop does not wait for it, nor does a log that goes. */
    log_shard_scrub(m.shards[0], 1, 1);
    run_for(100000000);
    ck_assert(machine_settle(&m, a.log));
    log_delete(a.log, NULL, NULL);
    run_for(1000000000);
    stop();
    model_free(&a);
    teardown();
}
END_TEST

/* Whose directory it is, and what was in it: one copy of varve.meta is enough; without either, or with a damaged catalogue, the broker
 * refuses, says which file, and changes nothing. */
static const struct refused { const char *name; uint64_t flips[3]; bool removed; enum err err; const char *why; } refused[] = {
    {"varve.meta", {30, 0, 0}, false, OK, NULL},
    {"varve.meta", {4096 + 30, 0, 0}, false, OK, NULL},
    {"varve.meta", {30, 4096 + 30, 0}, false, ERR_CORRUPT, "both copies in /var/data/varve.meta are damaged"},
    {"varve.meta", {0}, true, ERR_CORRUPT, "varve.meta is missing"},
    {"journal-0/catalog", {50, 0, 0}, false, ERR_CORRUPT, "catalog"},
    {"journal-0/catalog", {0}, true, ERR_CORRUPT, "the catalogue is missing"},
};
START_TEST(whose_directory_and_what_was_in_it) {
    const struct refused *c = &refused[_i];
    struct model a, b;
    build(&a, &b, 1);
    char path[PATH_BYTES];
    uint8_t *before, *after;
    size_t before_len, after_len;
    snprintf(path, sizeof path, "/var/data/%s", c->name);
    for (int i = 0; i < 3 && c->flips[i] > 0; i++) ck_assert_int_ge(sim_file_flip(m.world, 0, path, c->flips[i], 0x20), 0);
    struct io *io = tools();
    if (c->removed) ck_assert_int_ge(io_unlink(io, path), 0);
    ck_assert_int_ge(io_read_file(io, "/var/data/journal-0/000000.vj", 1 << 24, &before, &before_len), 0);
    io_destroy(io);
    enum err err = machine_open(&m);
    ck_assert_msg(err == c->err, "%s: %s", err_str(err), m.why);
    if (err != OK) {
        ck_assert_msg(strstr(m.why, c->why) != NULL, "%s", m.why);
        ck_assert_int_ge(io_read_file(m.io, "/var/data/journal-0/000000.vj", 1 << 24, &after, &after_len), 0);
        ck_assert_uint_eq(before_len, after_len);
        ck_assert_mem_eq(before, after, after_len);
        ck_assert(file_exists("t-0", "00000000000000000000.log"));
        machine_close(&m);
    } else {
        reopened(&a);
        check_all(&a, 1 << 20);
        ck_assert_int_ge(io_read_file(m.io, path, 1 << 20, &after, &after_len), 0);
        ck_assert_uint_eq(after_len, 8192);
        ck_assert_mem_eq(after, after + 4096, 4096); /* healed */
        stop();
    }
    free(before);
    free(after);
    model_free(&a);
    model_free(&b);
    teardown();
}
END_TEST

START_TEST(ranges_join) {
    struct model a, b;
    build_segments(&a, &b, true);
    start();
    reopened(&a);
    struct log_impl *l = impl_of(a.log);
    static const struct { int64_t start, end; uint32_t count; } steps[] = {{5, 6, 1}, {7, 8, 2}, {5, 6, 2}, {6, 7, 1}, {8, 9, 2}, {0, 1, 3}, {2, 3, 4}, {0, 4, 3}};
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        int64_t base = steps[i].start / 4 * 4;
        struct faulty_range r = {steps[i].start, steps[i].end, base, (uint32_t)(steps[i].start - base) * 100, (uint32_t)(steps[i].end - base) * 100};
        ck_assert_int_eq(faulty_add(l, &r, "test"), i == 2 ? ERR_EXISTS : OK);
        ck_assert_msg(l->faulty_count == steps[i].count, "step %zu: %u", i, l->faulty_count);
    }
    ck_assert_ptr_null(faulty_at(l, 4));
    ck_assert_int_eq(faulty_at(l, 5)->end, 8);
    ck_assert_int_eq(faulty_next(l, 4)->start, 5);
    ck_assert_int_eq(faulty_before(l, 0, 4)->start, 0);
    ck_assert_ptr_null(faulty_before(l, 4, 5));
    faulty_cut(l, 7, (struct place){4, 300});
    ck_assert_uint_eq(l->faulty_count, 2);
    ck_assert_int_eq(l->faulty[0].end, 4);
    ck_assert_uint_eq(l->faulty[0].end_position, 400); /* in the segment before the cut */
    ck_assert_int_eq(l->faulty[1].end, 7);
    ck_assert_uint_eq(l->faulty[1].end_position, 300);
    for (int64_t i = 0; i < 3 * FAULTY_MAX; i++) /* bounded, whatever is found */
        ck_assert_int_eq(faulty_add(l, &(struct faulty_range){10 + 2 * i, 11 + 2 * i, 8, (uint32_t)i, (uint32_t)i + 1}, "test"), OK);
    ck_assert_uint_le(l->faulty_count, FAULTY_MAX + 1);
    faulty_cut(l, 0, (struct place){0, 0});
    ck_assert(!a.log->faulty);
    done(&a, &b);
}
END_TEST

int main(void) {
    Suite *s = suite_create("log damage");
    TCase *t = tcase_create("simulated disk");
    tcase_set_timeout(t, 0);
    tcase_add_loop_test(t, a_segment_cut_to_every_length, 0, 2);
    tcase_add_loop_test(t, a_file_is_missing, 0, ARRAY_LEN(missing_files));
    tcase_add_test(t, the_folder_is_missing);
    tcase_add_test(t, two_segments_are_swapped);
    tcase_add_loop_test(t, the_folders_of_two_partitions_are_swapped, 0, 2);
    tcase_add_loop_test(t, a_folder_holds_the_copy_of_another, 0, 2);
    tcase_add_loop_test(t, a_flip_anywhere_costs_one_batch, 0, 2);
    tcase_add_loop_test(t, a_damaged_header_and_a_truncation, 0, ARRAY_LEN(header_flips));
    tcase_add_test(t, a_cut_inside_a_known_range);
    tcase_add_test(t, the_log_start_passes_over_damage);
    tcase_add_test(t, a_batch_that_passes_for_another);
    tcase_add_test(t, the_scrubber_finds_what_nobody_reads);
    tcase_add_test(t, what_lies_before_the_log_start_is_no_damage);
    tcase_add_test(t, the_log_start_moves_during_a_read);
    tcase_add_test(t, a_wrong_epoch_gets_no_digest);
    tcase_add_test(t, the_scrubber_keeps_its_pace);
    tcase_add_loop_test(t, whose_directory_and_what_was_in_it, 0, ARRAY_LEN(refused));
    tcase_add_test(t, ranges_join);
    suite_add_tcase(s, t);
    return run_suite(s);
}
