/* test_log_replica.c - what a replica adds to a log: votes, configurations, numbered changes, batches as the leader has them, a new
 * beginning. Over the simulated disk, with crashes between. */
#include <check.h>
#include "log/journal_format.h"
#include "tests/unit/log_fixture.h"

static void begin(void) { setup(0, 2); start(); }
static void turns(int n) { while (n-- > 0) ck_assert(machine_turn(&m, 1000000)); }

/* ---- votes and configurations ----------------------------------------------------------------- */

static struct log_vote vote_of(int32_t epoch, int32_t node) {
    struct log_vote v = {.epoch = epoch, .has_voted = node >= 0, .node = node};
    memset(v.incarnation.b, 0x30 + epoch, sizeof v.incarnation.b);
    return v;
}

static void expect_vote(const struct log *l, int32_t epoch, int32_t node) {
    struct log_vote v = vote_of(epoch, node);
    ck_assert_int_eq(l->vote.epoch, epoch);
    ck_assert_int_eq(l->vote.has_voted, node >= 0);
    if (node < 0) return;
    ck_assert_int_eq(l->vote.node, node);
    ck_assert(uuid_eq(&l->vote.incarnation, &v.incarnation));
}

static void expect_config(const struct log *l, const char *text) {
    ck_assert_ptr_nonnull(l->replica_config);
    ck_assert_uint_eq(l->replica_config_len, strlen(text));
    ck_assert_mem_eq(l->replica_config, text, strlen(text));
}

static void set_vote(struct log *l, int32_t epoch, int32_t node) {
    struct log_vote v = vote_of(epoch, node);
    ck_assert_int_eq(log_set_vote(l, &v), OK);
}

static void set_config(struct log *l, const char *text) {
    ck_assert_int_eq(log_set_replica_config(l, (const uint8_t *)text, (uint32_t)strlen(text)), OK);
}

/* `_i` 0: found in the journal; 1: in the catalogue; 2: after a clean stop. */
static void leave(struct model *x, int how) {
    ck_assert(machine_settle(&m, x->log));
    while (x->log->durable_seq < x->log->seq) ck_assert(machine_turn(&m, 1000000));
    if (how == 1) checkpoint();
    if (how == 2) stop();
    else kill_machine();
    start();
    reopened(x);
}

START_TEST(votes_and_configurations_survive) {
    struct model x;
    begin();
    struct log_spec s = spec_of("a", 0);
    s.first_epoch = 0;
    s.replica_config = (const uint8_t *)"first";
    s.replica_config_len = 5;
    struct log *l = create_spec(&x, &s);
    expect_config(l, "first");
    expect_vote(l, 0, -1);
    leave(&x, _i);
    expect_config(x.log, "first");
    set_vote(x.log, 3, 7);
    set_config(x.log, "second, longer");
    log_set_seq(x.log, 1);
    leave(&x, _i);
    expect_vote(x.log, 3, 7);
    expect_config(x.log, "second, longer");
    set_vote(x.log, 4, -1);
    set_config(x.log, "");
    log_set_seq(x.log, 1);
    leave(&x, _i);
    expect_vote(x.log, 4, -1);
    expect_config(x.log, "");
    struct log_vote older = vote_of(3, 1);
    ck_assert_int_eq(log_set_vote(x.log, &older), ERR_INVALID);
    kill_machine();
    model_free(&x);
}
END_TEST

/* ---- numbered changes --------------------------------------------------------------------------- */

struct told { uint32_t times; uint64_t seq; int64_t end; };
static void tell(struct log *l, void *owner) {
    struct told *t = owner;
    t->times++;
    t->seq = l->durable_seq;
    t->end = l->durable_end;
}

START_TEST(changes_are_durable_by_number) {
    struct model x;
    struct told told = {0};
    begin();
    struct log *l = create(&x, "a", 0);
    l->on_durable = tell;
    l->owner = &told;
    set_vote(l, 5, 1);
    log_set_seq(l, 1);
    append(&x, &(struct batch_spec){.records = 3, .value_bytes = 10, .timestamp = 1, .producer_id = -1});
    log_set_seq(l, 2);
    set_config(l, "c");
    log_set_seq(l, 3);
    ck_assert_uint_eq(l->durable_seq, 0);
    while (l->durable_seq < 3) ck_assert(machine_turn(&m, 1000000));
    ck_assert_uint_eq(told.times, 1); /* one slice, one call, when everything is as it will be */
    ck_assert_uint_eq(told.seq, 3);
    ck_assert_int_eq(told.end, 3);
    log_set_seq(l, 4); /* nothing was entered: told all the same, and not from inside the call */
    ck_assert_uint_eq(l->durable_seq, 3);
    turns(1);
    ck_assert_uint_eq(l->durable_seq, 4);
    log_set_seq(l, 4);
    turns(2);
    ck_assert_uint_eq(told.times, 2);
    /* While a slice is under way its numbers wait for it, those behind it for the next. */
    set_vote(l, 6, 1);
    log_set_seq(l, 5);
    log_shard_turn(l->shard);
    set_vote(l, 7, 1);
    log_set_seq(l, 6);
    log_set_seq(l, 7);
    while (l->durable_seq == 4) ck_assert(machine_turn(&m, 1000000));
    ck_assert_uint_eq(l->durable_seq, 5);
    while (l->durable_seq == 5) ck_assert(machine_turn(&m, 1000000));
    ck_assert_uint_eq(l->durable_seq, 7);
    kill_machine();
    model_free(&x);
}
END_TEST

static void gone(void *ctx, enum err err) { *(enum err *)ctx = err; }

START_TEST(a_deleted_log_is_told_nothing) {
    struct model x;
    struct told told = {0};
    begin();
    struct log *l = create(&x, "a", 0);
    turns(3);
    l->on_durable = tell;
    l->owner = &told;
    set_vote(l, 5, 1);
    log_set_seq(l, 1);
    enum err err = ERR_COUNT;
    log_delete(l, gone, &err);
    log_set_seq(l, 2);
    while (err == ERR_COUNT) ck_assert(machine_turn(&m, 1000000));
    ck_assert_int_eq(err, OK);
    ck_assert_uint_eq(told.times, 0);
    kill_machine();
    model_free(&x);
}
END_TEST

START_TEST(nothing_is_durable_after_a_failed_write) {
    struct model x;
    begin();
    struct log *l = create(&x, "a", 0);
    turns(3);
    sim_fault(m.world, 0, &(struct sim_fault){.call = SIM_WRITE, .times = 1, .result = -5});
    set_vote(l, 5, 1);
    log_set_seq(l, 1);
    log_shard_turn(l->shard);
    log_set_seq(l, 2); /* what has no entry of its own waits for the vote before it, too */
    for (int i = 0; i < 20; i++) (void)machine_turn(&m, 1000000);
    ck_assert_int_ne(m.failed, OK);
    ck_assert_uint_eq(l->durable_seq, 0);
    struct log_vote v = vote_of(9, 1);
    ck_assert_int_eq(log_set_vote(l, &v), ERR_IO);
    ck_assert_int_eq(log_reset(l, 1, 5, NULL, 0), ERR_IO);
    ck_assert_int_eq(log_room(l, 1), ERR_IO);
    kill_machine();
    model_free(&x);
}
END_TEST

/* ---- copies --------------------------------------------------------------------------------------- */

struct batches { uint8_t *p; size_t len; };

/* A batch as a leader has it. */
static void put_batch(struct batches *b, int64_t base, int32_t records, int32_t epoch, int64_t producer_id, int32_t sequence) {
    struct batch_header h;
    uint8_t *one = batch_make(&(struct batch_spec){.records = records, .value_bytes = 50, .timestamp = 1000 + base, .producer_id = producer_id,
                                                   .base_sequence = sequence, .seed = next_seed++}, &h);
    batch_set_base_offset(one, base);
    batch_set_leader_epoch(one, epoch);
    b->p = realloc(b->p, b->len + h.total_bytes);
    ck_assert_ptr_nonnull(b->p);
    memcpy(b->p + b->len, one, h.total_bytes);
    b->len += h.total_bytes;
    free(one);
}

static enum err copies(struct log *l, struct batches *b, int32_t epoch) {
    enum err err = log_append_copies(l, epoch, b->p, b->len, 1);
    free(b->p);
    *b = (struct batches){0};
    return err;
}

/* All batches from `offset` on, in as many reads as it takes: their bytes are `want`, from `skip` on. */
static void expect_read(struct log *l, int64_t offset, const struct batches *want, size_t skip) {
    size_t at = skip;
    while (offset < l->end) {
        struct log_read r = {.offset = offset, .max_offset = l->end, .max_bytes = 1, .min_one = true};
        ck_assert_int_eq(read_wait(&m, l, &r), OK);
        ck_assert_uint_gt(r.bytes, 0);
        for (uint32_t i = 0; i < r.slice_count; i++) {
            ck_assert_uint_le(at + r.slices[i].len, want->len);
            ck_assert_mem_eq(slice_data(&r.slices[i]), want->p + at, r.slices[i].len);
            at += r.slices[i].len;
        }
        ck_assert_int_gt(r.next_offset, offset);
        offset = r.next_offset;
        log_read_release(&r);
    }
    ck_assert_uint_eq(at, want->len);
}

static void evict(struct log *l) {
    uint64_t max = l->shard->tail_bytes_max;
    l->shard->tail_bytes_max = 0;
    shard_evict(l->shard);
    l->shard->tail_bytes_max = max;
}

static struct batches copy_of(const struct batches *b) {
    struct batches c = {malloc(b->len), b->len};
    memcpy(c.p, b->p, b->len);
    return c;
}

/* 0: memory, 1: the journal, 2: files, 3: after a crash, 4: after a clean stop. */
static void move_to(struct model *x, int where) {
    ck_assert(machine_settle(&m, x->log));
    if (where == 1) evict(x->log);
    if (where == 2) {
        checkpoint();
        evict(x->log);
    }
    if (where == 3) leave(x, 0);
    if (where == 4) leave(x, 2);
}

START_TEST(copies_keep_offsets_epochs_and_gaps) {
    struct model x;
    begin();
    struct log *l = create(&x, "a", 0);
    struct batches all = {0}, some;
    put_batch(&all, 0, 3, 1, 9, 0);
    size_t second = all.len;
    put_batch(&all, 7, 2, 1, 9, 3);
    put_batch(&all, 9, 1, 1, -1, 0);
    size_t third = all.len;
    some = copy_of(&all);
    ck_assert_int_eq(copies(l, &some, 1), OK);
    ck_assert_int_eq(l->end, 10);
    ck_assert_int_eq(log_begin_epoch(l, 4), OK);
    put_batch(&all, 40, 5, 4, 9, 5);
    some = (struct batches){all.p + third, all.len - third};
    some = copy_of(&some);
    ck_assert_int_eq(copies(l, &some, 4), OK);
    ck_assert_int_eq(l->end, 45);
    log_set_seq(l, 1);
    move_to(&x, _i);
    l = x.log;
    ck_assert_int_eq(l->end, 45);
    ck_assert_int_eq(l->durable_end, 45);
    expect_read(l, 0, &all, 0);
    for (int64_t at = 3; at <= 7; at++) expect_read(l, at, &all, second);
    for (int64_t at = 10; at < 45; at += 5) expect_read(l, at, &all, third);
    /* Nothing below the next batch: a reader waits. */
    struct log_read none = {.offset = 12, .max_offset = 30, .max_bytes = 1000, .min_one = true};
    ck_assert_int_eq(read_wait(&m, l, &none), OK);
    ck_assert_uint_eq(none.bytes, 0);
    struct log_find f = {.timestamp = 1007, .max_offset = l->end};
    ck_assert_int_eq(find_wait(&m, l, &f), OK);
    ck_assert_int_eq(f.found_offset, 7);
    ck_assert_int_eq(epochs_at(&l->epochs, 9), 1);
    ck_assert_int_eq(epochs_at(&l->epochs, 41), 4);
    /* The producer goes on where the leader's would. */
    struct batch_header h;
    uint8_t *next = batch_make(&(struct batch_spec){.records = 1, .producer_id = 9, .base_sequence = 10, .timestamp = 1}, &h);
    struct producer_batch dup;
    ck_assert_int_eq(producers_check(&l->producers, &h, &dup), OK);
    free(next);
    /* Cut within the gap, and at its ends. */
    ck_assert_int_eq(log_truncate(l, 4, 40), OK);
    ck_assert_int_eq(l->end, 40);
    ck_assert_int_eq(log_truncate(l, 1, 10), OK);
    ck_assert_int_eq(l->end, 10);
    ck_assert_int_eq(l->epoch, 1);
    all.len = third;
    expect_read(l, 0, &all, 0);
    free(all.p);
    log_set_seq(l, 2);
    leave(&x, 0);
    ck_assert_int_eq(x.log->end, 10);
    kill_machine();
    model_free(&x);
}
END_TEST

START_TEST(bad_copies_change_nothing) {
    struct model x;
    begin();
    struct log *l = create(&x, "a", 0);
    struct batches b = {0};
    put_batch(&b, 0, 5, 1, -1, 0);
    ck_assert_int_eq(copies(l, &b, 1), OK);
    for (int bad = 0; bad < 8; bad++) {
        enum err want = ERR_CORRUPT;
        put_batch(&b, 5, 2, 1, -1, 0);
        size_t second = b.len;
        put_batch(&b, bad == 0 ? 6 : 7, 2, bad == 1 ? 2 : 1, -1, 0);
        if (bad == 2) b.p[b.len - 1] ^= 1;
        if (bad == 3) b.len -= 1;
        if (bad == 4) b.p[second + 16] = 1;
        if (bad == 5) batch_set_base_offset(b.p + second, INT64_C(3) << 31);
        if (bad == 6) batch_set_base_offset(b.p + second, -5);
        if (bad == 7) batch_set_base_offset(b.p + second, INT64_MAX - 1);
        ck_assert_int_eq(copies(l, &b, 1), want);
        ck_assert_int_eq(l->end, 5);
    }
    put_batch(&b, 5, 1, 2, -1, 0);
    ck_assert_int_eq(copies(l, &b, 2), ERR_INVALID); /* the epoch has not begun */
    put_batch(&b, 4, 2, 1, -1, 0);
    ck_assert_int_eq(copies(l, &b, 1), ERR_CORRUPT);
    ck_assert_int_eq(log_room(l, 1000), OK);
    ck_assert_int_eq(log_append_copies(l, 1, NULL, 0, 1), OK);
    leave(&x, 0);
    ck_assert_int_eq(x.log->end, 5);
    kill_machine();
    model_free(&x);
}
END_TEST

/* ---- a new beginning -------------------------------------------------------------------------------- */

static struct log *small_segments(struct model *x) {
    struct log_spec s = spec_of("a", 0);
    s.config.segment_bytes = 20000;
    return create_spec(x, &s);
}

START_TEST(a_log_begins_anew) {
    struct model x;
    begin();
    struct log *l = small_segments(&x);
    append_n(&x, 60, 2, 500, 1000);
    if (_i / 5 == 1) checkpoint(); /* the folder is there */
    set_vote(l, 8, 2);
    ck_assert_uint_gt(impl_of(l)->segment_count, 2);
    ck_assert_int_eq(log_reset(l, 6, 50, NULL, 0), OK);
    ck_assert_int_eq(l->start, 50);
    ck_assert_int_eq(l->end, 50);
    ck_assert_int_eq(l->epoch, 6);
    ck_assert_int_eq(l->base_epoch, 6);
    ck_assert_uint_eq(l->epochs.count, 0);
    ck_assert_uint_eq(l->generation, 1);
    ck_assert_uint_eq(l->size_bytes, 0);
    struct log_read r = {.offset = 40, .max_offset = 120, .max_bytes = 1000, .min_one = true};
    ck_assert_int_eq(read_wait(&m, l, &r), ERR_RANGE);
    struct batches all = {0}, some;
    put_batch(&all, 50, 4, 6, -1, 0); /* the epoch of the base goes on, without a marker */
    some = copy_of(&all);
    ck_assert_int_eq(copies(l, &some, 6), OK);
    ck_assert_int_eq(log_begin_epoch(l, 8), OK);
    size_t first = all.len;
    put_batch(&all, 54, 1, 8, -1, 0);
    some = (struct batches){all.p + first, all.len - first};
    some = copy_of(&some);
    ck_assert_int_eq(copies(l, &some, 8), OK);
    log_set_seq(l, 1);
    move_to(&x, _i % 5);
    l = x.log;
    ck_assert_int_eq(l->start, 50);
    ck_assert_int_eq(l->end, 55);
    ck_assert_int_eq(l->epoch, 8);
    ck_assert_int_eq(l->base_epoch, 6);
    ck_assert_uint_eq(l->generation, 1);
    expect_vote(l, 8, 2);
    expect_read(l, 50, &all, 0);
    ck_assert_int_eq(epochs_at(&l->epochs, 52), 6);
    /* Once more, to a lower offset, twice before it is durable; then nothing of the folders before is left. */
    ck_assert_int_eq(log_reset(l, 3, 20, NULL, 0), OK);
    ck_assert_int_eq(log_reset(l, 3, 10, NULL, 0), OK);
    log_set_seq(l, 2);
    if (_i % 2) leave(&x, 0);
    else turns(30);
    ck_assert_int_eq(x.log->end, 10);
    ck_assert_uint_eq(x.log->generation, 3);
    free(all.p);
    stop();
    start();
    reopened(&x);
    ck_assert_int_eq(x.log->start, 10);
    ck_assert_uint_eq(x.log->generation, 3);
    ck_assert(!file_exists("a-0", "00000000000000000000.log"));
    ck_assert(!file_exists("a-0", "00000000000000000050.log"));
    ck_assert(!x.log->faulty);
    kill_machine();
    model_free(&x);
}
END_TEST

/* A start that lies within a batch: the leader can only send the whole of it. */
START_TEST(the_first_batch_may_begin_below_the_start) {
    struct model x;
    begin();
    struct log *l = create(&x, "a", 0);
    append_n(&x, 3, 2, 500, 1000);
    ck_assert_int_eq(log_reset(l, 2, 103, NULL, 0), OK);
    struct batches all = {0}, some;
    put_batch(&all, 100, 3, 2, -1, 0);
    some = copy_of(&all);
    ck_assert_int_eq(copies(l, &some, 2), ERR_CORRUPT); /* ends at the start */
    all.len = 0;
    put_batch(&all, 100, 8, 2, -1, 0);
    put_batch(&all, 108, 1, 2, -1, 0);
    some = copy_of(&all);
    ck_assert_int_eq(copies(l, &some, 2), OK);
    log_set_seq(l, 1);
    move_to(&x, _i);
    l = x.log;
    ck_assert_int_eq(l->start, 103);
    ck_assert_int_eq(l->end, 109);
    expect_read(l, 103, &all, 0);
    ck_assert_int_eq(impl_of(l)->segments[0].base, 100);
    struct log_read r = {.offset = 102, .max_offset = 109, .max_bytes = 1000, .min_one = true};
    ck_assert_int_eq(read_wait(&m, l, &r), ERR_RANGE);
    free(all.p);
    stop();
    start();
    ck_assert(file_exists("a-0", "00000000000000000100.log"));
    reopened(&x);
    ck_assert_int_eq(x.log->start, 103);
    ck_assert_int_eq(x.log->end, 109);
    kill_machine();
    model_free(&x);
}
END_TEST

static void produce(struct model *x, int64_t id, int32_t sequence, int32_t records) {
    append(x, &(struct batch_spec){.records = records, .value_bytes = 10, .timestamp = 5, .producer_id = id, .base_sequence = sequence, .seed = 1});
}

START_TEST(producers_come_with_the_new_beginning) {
    struct model x, y;
    begin();
    create(&x, "a", 0);
    create(&y, "b", 0);
    for (int32_t i = 0; i < 8; i++) produce(&x, 5, i, 1); /* offsets 0 to 7 */
    produce(&x, 6, 0, 2);
    uint8_t *known;
    size_t len;
    ck_assert_int_eq(log_producers_below(x.log, 6, &known, &len), OK);
    ck_assert_int_eq(log_reset(y.log, 1, 6, known, len), OK);
    log_set_seq(y.log, 1);
    if (_i < 3) leave(&y, _i);
    struct log *l = y.log;
    ck_assert_uint_eq(l->producers.count, 1);
    const struct producer *p = producers_find(&l->producers, 5);
    ck_assert_ptr_nonnull(p);
    ck_assert_uint_eq(p->count, 3); /* the leader's window begins at 3 */
    ck_assert_int_eq(p->window[0].first_offset, 3);
    ck_assert_int_eq(p->window[2].last_sequence, 5);
    /* What is not such a thing is refused, and the log stays. */
    ck_assert_int_eq(log_reset(l, 1, 5, known, len), ERR_CORRUPT); /* of batches behind it */
    ck_assert_int_eq(log_reset(l, 1, 9, (const uint8_t *)"\x0a\x7f", 2), ERR_CORRUPT);
    ck_assert_int_eq(log_reset(l, -1, 9, NULL, 0), ERR_INVALID);
    ck_assert_int_eq(l->start, 6);
    free(known);
    kill_machine();
    model_free(&x);
    model_free(&y);
}
END_TEST

START_TEST(too_many_producers_are_cut_to_the_newest) {
    struct log l = {0};
    enum { MANY = 12000 };
    for (int64_t i = 0; i < MANY; i++) {
        struct producer p = {.id = i, .count = 5, .coordinator_epoch = -1, .txn_first_offset = -1, .last_timestamp_ms = INT64_C(1) << 40};
        for (int k = 0; k < 5; k++) p.window[k] = (struct producer_batch){100000, 100000, (i << 30) + k, (i << 30) + k, INT64_C(1) << 40};
        ck_assert_int_eq(producers_put(&l.producers, &p), OK);
    }
    uint8_t *known;
    size_t len;
    ck_assert_int_eq(log_producers_below(&l, INT64_MAX, &known, &len), OK);
    ck_assert_uint_le(len, LOG_PRODUCERS_BYTES_MAX);
    ck_assert_uint_gt(len, LOG_PRODUCERS_BYTES_MAX / 4);
    struct model x;
    begin();
    create(&x, "a", 0);
    ck_assert_int_eq(log_reset(x.log, 1, INT64_MAX / 2, known, len), OK);
    ck_assert_ptr_nonnull(producers_find(&x.log->producers, MANY - 1));
    ck_assert_ptr_null(producers_find(&x.log->producers, 0));
    free(known);
    producers_free(&l.producers);
    log_set_seq(x.log, 1);
    leave(&x, 0);
    ck_assert_ptr_nonnull(producers_find(&x.log->producers, MANY - 1));
    kill_machine();
    model_free(&x);
}
END_TEST

/* ---- lives, and the base of the epoch table ------------------------------------------------------------ */

START_TEST(a_group_comes_back_as_another_log) {
    struct model x, y;
    begin();
    struct log_spec s = spec_of("a", 0);
    uint64_t group = s.plid;
    create_spec(&x, &s);
    append_n(&x, 3, 2, 500, 1000);
    struct log *twin;
    struct log_spec again = s;
    again.topic = "b";
    ck_assert_int_eq(log_create(x.log->shard, &again, &twin, NULL, NULL), ERR_EXISTS);
    checkpoint();
    enum err err = ERR_COUNT;
    log_delete(x.log, gone, &err);
    s.plid = log_plid(group, 1);
    ck_assert_uint_eq(log_store_shard_of(m.store, s.plid), log_store_shard_of(m.store, group));
    create_spec(&y, &s);
    append_n(&y, 2, 2, 500, 1000);
    while (err == ERR_COUNT) ck_assert(machine_turn(&m, 1000000));
    if (_i) leave(&y, _i);
    ck_assert_uint_eq(log_plid_group(y.log->plid), group);
    ck_assert_uint_eq(log_plid_life(y.log->plid), 1);
    check_all(&y, 1000);
    ck_assert_uint_eq(log_store_new_plid(m.store), group + 1);
    kill_machine();
    model_free(&x);
    model_free(&y);
}
END_TEST

START_TEST(the_base_is_the_epoch_before_the_start) {
    struct model x;
    begin();
    struct log *l = create(&x, "a", 0);
    append_n(&x, 3, 2, 10, 1000);
    ck_assert_int_eq(log_begin_epoch(l, 2), OK);
    ck_assert_int_eq(log_begin_epoch(l, 3), OK);
    append_n(&x, 3, 2, 10, 2000);
    ck_assert_int_eq(l->base_epoch, 0);
    ck_assert_int_eq(log_set_start(l, 6, NULL, NULL), OK);
    ck_assert_int_eq(l->base_epoch, 1);
    ck_assert_uint_eq(l->epochs.count, 2); /* markers at the start stay, also one without records */
    log_set_seq(l, 1);
    leave(&x, _i);
    l = x.log;
    ck_assert_int_eq(l->base_epoch, 1);
    ck_assert_uint_eq(l->epochs.count, 2);
    ck_assert_int_eq(log_set_start(l, 8, NULL, NULL), OK);
    ck_assert_uint_eq(l->epochs.count, 0);
    ck_assert_int_eq(l->base_epoch, 3);
    ck_assert_int_eq(l->epoch, 3);
    log_set_seq(l, 2);
    leave(&x, _i);
    l = x.log;
    ck_assert_int_eq(l->epoch, 3);
    ck_assert_int_eq(l->base_epoch, 3);
    ck_assert_int_eq(log_begin_epoch(l, 3), ERR_INVALID);
    append_n(&x, 1, 2, 10, 2000);
    ck_assert_int_eq(epochs_at(&l->epochs, 12), 3);
    struct log_read r = {.offset = 12, .max_offset = 14, .max_bytes = 1000, .min_one = true};
    ck_assert_int_eq(read_wait(&m, l, &r), OK);
    struct batch_header h;
    ck_assert_int_eq(batch_parse(slice_data(&r.slices[0]), r.slices[0].len, &h), OK);
    ck_assert_int_eq(h.leader_epoch, 3);
    log_read_release(&r);
    kill_machine();
    model_free(&x);
}
END_TEST

/* ---- a lost disk ------------------------------------------------------------------------------------------ */

struct seen { bool aside, folder; };
static void see(void *ctx, const char *path, uint64_t size) {
    struct seen *s = ctx;
    (void)size;
    s->aside |= strstr(path, "/var/data/damaged.") != NULL;
    s->folder |= strstr(path, "/a-0/00000000000000000000.log") != NULL && strstr(path, "/var/data/damaged.") != NULL;
}

/* 0: the catalogue, 1: varve.meta, both copies, 2: the journal, in a group that was durable. */
static void damage(int what) {
    struct model x;
    begin();
    create(&x, "a", 0);
    append_n(&x, 30, 2, 500, 1000);
    if (what == 2) {
        kill_machine();
        char path[100];
        journal_piece_path(path, sizeof path, "/var/data", 0, 0);
        ck_assert_int_eq(sim_file_flip(m.world, 0, path, 2 * 4096 + 100, 1), 0);
    } else {
        stop();
        if (what == 0) ck_assert_int_eq(sim_file_truncate(m.world, 0, "/var/data/journal-0/catalog", 100), 0);
        for (uint64_t at = 20; what == 1 && at < 8192; at += 4096) ck_assert_int_eq(sim_file_flip(m.world, 0, "/var/data/varve.meta", at, 1), 0);
    }
    model_free(&x);
}

static void close_failed(void) {
    timers_free(&m.timers);
    io_destroy(m.io);
}

START_TEST(with_peers_a_damaged_directory_is_a_lost_disk) {
    damage(_i);
    ck_assert_int_eq(machine_open(&m), ERR_CORRUPT);
    close_failed();
    m.config.has_peers = true;
    start();
    ck_assert(m.recovery.lost);
    ck_assert(m.recovery.fresh);
    ck_assert_uint_eq(m.recovery.logs, 0);
    struct seen seen = {0};
    sim_files(m.world, 0, see, &seen);
    ck_assert(seen.aside && (seen.folder || _i == 2)); /* after the crash all records were in the journal only */
    struct uuid incarnation = *log_store_incarnation(m.store);
    struct model x;
    create(&x, "a", 0); /* the name is free */
    append_n(&x, 3, 2, 500, 1000);
    stop();
    start();
    ck_assert(!m.recovery.lost);
    ck_assert_uint_eq(m.recovery.logs, 1);
    ck_assert(uuid_eq(&incarnation, log_store_incarnation(m.store)));
    stop();
    model_free(&x);
}
END_TEST

START_TEST(a_lost_disk_and_a_crash_anywhere) {
    for (uint64_t at = 1, cut = 1; cut; at++) {
        damage(_i);
        m.config.has_peers = true;
        sim_crash_at(m.world, 0, sim_disk_ops(m.world, 0) + at);
        bool up = machine_open(&m) == OK;
        cut = sim_crashed(m.world, 0);
        sim_crash_at(m.world, 0, 0);
        sim_crash(m.world, 0, (enum sim_crash_policy)(at % (SIM_KILLED + 1)));
        if (up) machine_close(&m);
        else close_failed();
        start();
        ck_assert_uint_eq(m.recovery.logs, 0);
        stop();
        if (cut) teardown(); /* the last one is the fixture's */
    }
}
END_TEST

int main(void) {
    int quiet = open("/dev/null", O_WRONLY | O_CLOEXEC); /* a directory that fails says so */
    trace_setup(getenv("VARVE_TRACE") ? TRACE_DEBUG : TRACE_ERROR, TRACE_TEXT, getenv("VARVE_TRACE") ? 2 : quiet);
    Suite *s = suite_create("log_replica");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, NULL, teardown);
    tcase_add_loop_test(t, votes_and_configurations_survive, 0, 3);
    tcase_add_test(t, changes_are_durable_by_number);
    tcase_add_test(t, a_deleted_log_is_told_nothing);
    tcase_add_test(t, nothing_is_durable_after_a_failed_write);
    tcase_add_loop_test(t, copies_keep_offsets_epochs_and_gaps, 0, 5);
    tcase_add_test(t, bad_copies_change_nothing);
    tcase_add_loop_test(t, a_log_begins_anew, 0, 10);
    tcase_add_loop_test(t, the_first_batch_may_begin_below_the_start, 0, 5);
    tcase_add_loop_test(t, producers_come_with_the_new_beginning, 0, 4);
    tcase_add_test(t, too_many_producers_are_cut_to_the_newest);
    tcase_add_loop_test(t, a_group_comes_back_as_another_log, 0, 3);
    tcase_add_loop_test(t, the_base_is_the_epoch_before_the_start, 0, 3);
    tcase_add_loop_test(t, with_peers_a_damaged_directory_is_a_lost_disk, 0, 3);
    tcase_add_loop_test(t, a_lost_disk_and_a_crash_anywhere, 0, 3);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failures = srunner_ntests_failed(r);
    srunner_free(r);
    return failures ? 1 : 0;
}
