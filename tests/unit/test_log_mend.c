/* test_log_mend.c - damage is put right with another replica's batches: the file is what it was, whatever was wrong with it, whatever
 * else happens meanwhile, and wherever a crash cuts it off. */
#include "log/faulty.h"
#include "log/mend.h"
#include "tests/unit/log_fixture.h"

#define LOG(n) "/var/data/t-0/" n ".log"
#define FIRST LOG("00000000000000000000")

struct mender {
    struct model *a;
    struct log_mend mend;
    bool done, hold;                     /* hold: want is not answered */
    uint32_t wanted, refused, bad;       /* so many answers are wrong first */
    uint32_t piece_bytes;
    int64_t begins;                      /* the other replica's log does there */
    int64_t hole;                        /* the other replica has no batch that begins there; -1 */
};

/* The other replica is the model. */
static void want(struct log_mend *mend, int64_t offset, int64_t end, bool refused) {
    struct mender *x = mend->owner;
    x->wanted++;
    x->refused += refused;
    ck_assert_int_ge(offset, x->begins);
    if (x->hold) return;
    uint8_t buf[40000];
    size_t len = 0;
    int64_t next = offset;
    for (uint32_t i = model_find(x->a, offset); i < x->a->count && x->a->batches[i].base < end && (len == 0 || len < x->piece_bytes); i++) {
        const struct model_batch *b = &x->a->batches[i];
        next = b->end;
        if (b->base == x->hole) continue;
        memcpy(buf + len, b->bytes, b->len);
        len += b->len;
    }
    if (x->bad > 0) {
        uint32_t how = x->bad-- % 5;
        if (how == 0) buf[len - 1] ^= 1;
        else if (how == 1) batch_set_leader_epoch(buf, 77);
        else if (how == 2) batch_set_base_offset(buf, offset + 1);
        else if (how == 3) len--;
        else len = 0, next = offset;
    }
    log_mend_feed(mend, buf, len, next);
}
static void mended(struct log_mend *mend) { ((struct mender *)mend->owner)->done = true; }

static struct mender mender_of(struct model *a, int64_t segment) {
    return (struct mender){.a = a, .mend = {.segment = segment, .want = want, .done = mended}, .piece_bytes = 3000, .hole = -1};
}

static enum err mend_begin(struct mender *x) {
    enum err err;
    x->mend.owner = x;
    x->done = false;
    for (int i = 0; (err = log_mend_start(x->a->log, &x->mend, 1000)) == ERR_AGAIN && i < 100; i++)
        if (!machine_turn(&m, 1000000000)) return ERR_CLOSED;
    return err;
}

static enum err mend(struct mender *x) {
    enum err err = mend_begin(x);
    if (err != OK) return err;
    ck_assert(log_mend_running(&x->mend));
    ck_assert(!x->done); /* not from inside the call */
    while (!x->done)
        if (!machine_turn(&m, 1000000000)) return ERR_CLOSED;
    ck_assert(!log_mend_running(&x->mend));
    return x->mend.err;
}

struct bytes_of_file { uint8_t *p; size_t len; };
static struct bytes_of_file file_now(const char *path) {
    struct bytes_of_file f;
    ck_assert_int_eq(sim_file_read(m.world, 0, path, SIM_CURRENT, &f.p, &f.len), 0);
    return f;
}

/* Three segments and more, all sealed but the last. `batches` of about 2.5 KB each. */
static struct bytes_of_file build(struct model *a) {
    setup(0, 1);
    start();
    struct log_spec s = spec_of("t", 0);
    s.config.segment_bytes = 30000;
    create_spec(a, &s);
    append_n(a, 40, 2, 1200, 1000);
    checkpoint();
    for (int i = 0; i < 30; i++) ck_assert(machine_turn(&m, 1000000));
    m.shards[0]->tail_bytes_max = 0;
    shard_evict(m.shards[0]);
    ck_assert_uint_ge(impl_of(a->log)->segment_count, 4);
    ck_assert(impl_of(a->log)->segments[0].sealed);
    return file_now(FIRST);
}

static void find_damage(struct model *a) {
    for (int64_t offset = a->log->start; offset < a->log->end; offset += 2) {
        struct log_read r = {.offset = offset, .max_offset = a->log->end, .max_bytes = 1, .min_one = true};
        (void)read_wait(&m, a->log, &r);
        if (r.err == OK) log_read_release(&r);
    }
}

static void expect_whole(struct model *a, const struct bytes_of_file *before) {
    ck_assert(!a->log->faulty);
    ck_assert_uint_eq(log_faulty_ranges(a->log, 0, NULL), 0);
    const char *wrong = model_check(&m, a, 5000);
    ck_assert_msg(wrong == NULL, "%s", wrong ? wrong : "");
    for (int i = 0; i < 30; i++) ck_assert(machine_turn(&m, 1000000)); /* SWAP is durable, the file has its name */
    struct bytes_of_file now = file_now(FIRST);
    ck_assert_uint_eq(now.len, before->len);
    ck_assert_mem_eq(now.p, before->p, now.len);
    free(now.p);
    ck_assert(impl_of(a->log)->segments[0].sealed);
}

static void end(struct model *a, struct bytes_of_file *f) {
    free(f->p);
    stop();
    start(); /* and is so after a start */
    reopened(a);
    ck_assert(!a->log->faulty);
    const char *wrong = model_check(&m, a, 5000);
    ck_assert_msg(wrong == NULL, "%s", wrong ? wrong : "");
    stop();
    model_free(a);
    teardown();
}

static uint32_t told;
static void faulty_changed(struct log *l, void *owner) {
    (void)l;
    (void)owner;
    told++;
}

START_TEST(a_flipped_bit_is_put_right) {
    struct model a;
    struct bytes_of_file before = build(&a);
    struct log_faulty list[2];
    a.log->on_faulty = faulty_changed;
    told = 0;
    ck_assert_int_eq(sim_file_flip(m.world, 0, FIRST, (uint64_t)_i * before.len / 12 + 40, 4), 0);
    struct mender x = mender_of(&a, 0);
    ck_assert_int_eq(mend(&x), ERR_NOT_FOUND); /* nobody knows */
    find_damage(&a);
    ck_assert_uint_eq(log_faulty_ranges(a.log, 2, list), 1);
    ck_assert_int_eq(list[0].segment, 0);
    ck_assert_int_lt(list[0].start, list[0].end);
    ck_assert_uint_ge(told, 1);
    told = 0;
    ck_assert_int_eq(mend(&x), OK);
    ck_assert_uint_ge(told, 1);
    ck_assert_uint_ge(x.wanted, 1);
    ck_assert_uint_eq(x.refused, 0);
    expect_whole(&a, &before);
    ck_assert_int_eq(impl_of(a.log)->compacted_end, 0); /* no gaps are to be expected now */
    end(&a, &before);
}
END_TEST

START_TEST(several_ranges_and_wrong_answers) {
    struct model a;
    struct bytes_of_file before = build(&a);
    for (uint64_t at = 3000; at + 500 < before.len; at += 8000) ck_assert_int_eq(sim_file_flip(m.world, 0, FIRST, at, 1), 0);
    find_damage(&a);
    ck_assert_uint_ge(log_faulty_ranges(a.log, 0, NULL), 1);
    struct mender x = mender_of(&a, 0);
    x.bad = 9;
    ck_assert_int_eq(mend(&x), OK);
    ck_assert_uint_eq(x.refused, 9);
    expect_whole(&a, &before);
    end(&a, &before);
}
END_TEST

START_TEST(a_file_that_is_short_or_gone) {
    struct model a;
    struct bytes_of_file before = build(&a);
    if (_i == 0) {
        stop();
        ck_assert_int_eq(sim_file_truncate(m.world, 0, FIRST, 7001), 0);
        start();
        reopened(&a);
    } else {
        stop();
        struct io *io = sim_io_create(m.world, 0);
        ck_assert_int_eq(io_unlink(io, FIRST), 0);
        io_destroy(io);
        start();
        reopened(&a);
    }
    ck_assert(a.log->faulty);
    struct mender x = mender_of(&a, 0);
    ck_assert_int_eq(mend(&x), OK);
    ck_assert_uint_gt(x.wanted, 2); /* in pieces */
    expect_whole(&a, &before);
    end(&a, &before);
}
END_TEST

/* More damage than was known: it is found, and the next try has it all. */
START_TEST(damage_found_on_the_way) {
    struct model a;
    struct bytes_of_file before = build(&a);
    ck_assert_int_eq(sim_file_flip(m.world, 0, FIRST, 3000, 4), 0);
    find_damage(&a);
    ck_assert_int_eq(sim_file_flip(m.world, 0, FIRST, before.len - 3000, 4), 0);
    struct mender x = mender_of(&a, 0);
    ck_assert_int_eq(mend(&x), ERR_CORRUPT);
    ck_assert_int_eq(mend(&x), OK);
    expect_whole(&a, &before);
    end(&a, &before);
}
END_TEST

/* The segment that is being written is made complete first. */
START_TEST(damage_in_the_newest_segment) {
    struct model a;
    struct bytes_of_file before = build(&a);
    int64_t base = segment_last(impl_of(a.log))->base;
    char path[100];
    snprintf(path, sizeof path, "/var/data/t-0/%020lld.log", (long long)base);
    ck_assert_int_eq(sim_file_flip(m.world, 0, path, 100, 4), 0);
    find_damage(&a);
    ck_assert(a.log->faulty);
    struct mender x = mender_of(&a, base);
    ck_assert_int_eq(mend(&x), OK);
    expect_whole(&a, &before);
    append_n(&a, 3, 2, 100, 1000);
    end(&a, &before);
}
END_TEST

/* The other replica has compacted: its batches are other ones. Only where the topic is compacted. */
START_TEST(another_replica_has_gaps) {
    struct model a;
    struct bytes_of_file before = build(&a);
    if (_i) impl_of(a.log)->config.cleanup_compact = true;
    ck_assert_int_eq(sim_file_flip(m.world, 0, FIRST, 5100, 4), 0);
    find_damage(&a);
    struct log_faulty range;
    ck_assert_uint_eq(log_faulty_ranges(a.log, 1, &range), 1);
    struct mender x = mender_of(&a, 0);
    x.hole = range.start;
    if (!_i) {
        ck_assert_int_eq(mend_begin(&x), OK);
        while (x.refused < 3) ck_assert(machine_turn(&m, 1000000)); /* it goes on asking */
        x.hole = -1;
        while (!x.done) ck_assert(machine_turn(&m, 1000000));
        ck_assert_int_eq(x.mend.err, OK);
        expect_whole(&a, &before);
    } else {
        ck_assert_int_eq(mend(&x), OK);
        ck_assert(!a.log->faulty);
        struct log_read r = {.offset = range.start, .max_offset = a.log->end, .max_bytes = 1, .min_one = true};
        ck_assert_int_eq(read_wait(&m, a.log, &r), OK);
        ck_assert_int_gt(r.next_offset, range.end);
        log_read_release(&r);
    }
    free(before.p);
    stop();
    model_free(&a);
    teardown();
}
END_TEST

/* The log's start has moved into the damage: what lies below is nobody's any more, but for the rest of the batch that holds the start. */
START_TEST(the_log_starts_within_the_damage) {
    struct model a;
    struct bytes_of_file before = build(&a);
    struct log_faulty range;
    for (uint64_t at = 5100; at < 12000; at += 500) ck_assert_int_eq(sim_file_flip(m.world, 0, FIRST, at, 4), 0);
    find_damage(&a);
    ck_assert_uint_eq(log_faulty_ranges(a.log, 1, &range), 1);
    ck_assert_int_ge(range.end - range.start, 6);
    int64_t start = range.start + 2 * _i + 1;
    ck_assert_int_eq(log_set_start(a.log, start, NULL, NULL), OK);
    for (int i = 0; i < 30; i++) ck_assert(machine_turn(&m, 1000000));
    struct mender x = mender_of(&a, 0);
    x.begins = start;
    ck_assert_int_eq(mend(&x), OK);
    ck_assert_uint_eq(x.refused, 0);
    ck_assert(!a.log->faulty);
    for (int64_t offset = start; offset < range.end; offset++) {
        struct log_read r = {.offset = offset, .max_offset = a.log->end, .max_bytes = 1, .min_one = true};
        ck_assert_int_eq(read_wait(&m, a.log, &r), OK);
        log_read_release(&r);
    }
    free(before.p);
    stop();
    model_free(&a);
    teardown();
}
END_TEST

static void gone(void *ctx, enum err err) { *(enum err *)ctx = err; }

/* 0: the log is deleted; 1: cut back; 2: begun anew; 3: stopped; 4: nobody waits; 5: the same, with an operation under way. */
START_TEST(what_ends_it) {
    struct model a;
    struct bytes_of_file before = build(&a);
    enum err err = ERR_COUNT;
    ck_assert_int_eq(sim_file_flip(m.world, 0, FIRST, 5100, 4), 0);
    find_damage(&a);
    struct mender x = mender_of(&a, 0);
    x.hold = true;
    ck_assert_int_eq(mend_begin(&x), OK);
    while (x.wanted == 0 && _i != 5) ck_assert(machine_turn(&m, 1000000));
    if (_i == 0) log_delete(a.log, gone, &err);
    if (_i == 1) ck_assert_int_eq(log_truncate(a.log, 1, a.log->end - 2), OK);
    if (_i == 2) ck_assert_int_eq(log_reset(a.log, 1, 500, NULL, 0), OK);
    if (_i >= 4) log_mend_stop(&x.mend);
    if (_i == 3) {
        stop();
        ck_assert(x.done);
    } else {
        for (int i = 0; i < 300 && !(x.done && (err != ERR_COUNT || _i > 0)); i++) ck_assert(machine_turn(&m, 1000000));
        ck_assert_int_eq(x.done, _i < 4);
        if (_i == 0) ck_assert_int_eq(err, OK);
        stop();
    }
    if (x.done) ck_assert_int_eq(x.mend.err, ERR_CLOSED);
    free(before.p);
    model_free(&a);
    teardown();
}
END_TEST

/* Each operation of the run, and of what follows, may be the last: after the crash the log has the damage, or it is whole; never
 * anything else, and a second run puts it right. */
START_TEST(cut_off_anywhere) {
    uint64_t struck = 0;
    for (uint64_t at = 1;; at++) {
        struct model a;
        struct bytes_of_file before = build(&a);
        ck_assert_int_eq(sim_file_flip(m.world, 0, FIRST, 5100, 4), 0);
        find_damage(&a);
        model_opened(&a);
        struct mender x = mender_of(&a, 0);
        sim_crash_at(m.world, 0, sim_disk_ops(m.world, 0) + at);
        enum err err = mend(&x);
        for (int i = 0; i < 40 && err == OK && !sim_crashed(m.world, 0); i++) (void)machine_turn(&m, 1000000);
        enum err checkpointed = ERR_COUNT;
        if (!sim_crashed(m.world, 0)) journal_checkpoint(m.store->journal, false, on_checkpoint, &checkpointed);
        while (!sim_crashed(m.world, 0) && checkpointed == ERR_COUNT) (void)machine_turn(&m, 1000000000);
        bool cut = sim_crashed(m.world, 0);
        struck += cut;
        sim_crash_at(m.world, 0, 0);
        sim_crash(m.world, 0, (enum sim_crash_policy)((at + (uint64_t)_i) % (SIM_KILLED + 1)));
        machine_close(&m);
        start();
        reopened(&a);
        find_damage(&a);
        struct mender again = mender_of(&a, 0);
        err = a.log->faulty ? mend(&again) : OK;
        ck_assert_msg(err == OK, "operation %llu: %s", (unsigned long long)at, err_str(err));
        ck_assert(!a.log->faulty);
        const char *wrong = model_check(&m, &a, 5000);
        ck_assert_msg(wrong == NULL, "operation %llu: %s", (unsigned long long)at, wrong ? wrong : "");
        end(&a, &before);
        if (!cut) break;
    }
    ck_assert_uint_gt(struck, 15);
}
END_TEST

START_TEST(a_disk_that_fails) {
    for (uint64_t skip = 0; skip < 14; skip++) {
        struct model a;
        struct bytes_of_file before = build(&a);
        ck_assert_int_eq(sim_file_flip(m.world, 0, FIRST, 5100, 4), 0);
        find_damage(&a);
        struct mender x = mender_of(&a, 0);
        sim_fault(m.world, 0, &(struct sim_fault){.call = _i ? SIM_SYNC : SIM_WRITE, .skip = skip, .times = 1, .result = _i ? -5 : -28});
        enum err err = mend(&x);
        for (int i = 0; i < 3; i++) (void)machine_turn(&m, 1000); /* the failure is told by mail */
        sim_faults_clear(m.world, 0);
        ck_assert(err == OK || err == ERR_NOSPACE || err == ERR_IO || err == ERR_CLOSED);
        if (m.failed == OK && err != OK) {
            ck_assert_int_eq(mend(&x), OK);
            expect_whole(&a, &before);
        }
        kill_machine();
        free(before.p);
        model_free(&a);
        teardown();
    }
}
END_TEST

int main(void) {
    int quiet = open("/dev/null", O_WRONLY | O_CLOEXEC); /* damage is said aloud */
    trace_setup(getenv("VARVE_TRACE") ? TRACE_DEBUG : TRACE_ERROR, TRACE_TEXT, getenv("VARVE_TRACE") ? 2 : quiet);
    Suite *s = suite_create("log_mend");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, a_flipped_bit_is_put_right, 0, 12);
    tcase_add_test(t, several_ranges_and_wrong_answers);
    tcase_add_loop_test(t, a_file_that_is_short_or_gone, 0, 2);
    tcase_add_test(t, damage_found_on_the_way);
    tcase_add_test(t, damage_in_the_newest_segment);
    tcase_add_loop_test(t, another_replica_has_gaps, 0, 2);
    tcase_add_loop_test(t, the_log_starts_within_the_damage, 0, 3);
    tcase_add_loop_test(t, what_ends_it, 0, 6);
    tcase_add_loop_test(t, cut_off_anywhere, 0, 3);
    tcase_add_loop_test(t, a_disk_that_fails, 0, 2);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failures = srunner_ntests_failed(r);
    srunner_free(r);
    return failures ? 1 : 0;
}
