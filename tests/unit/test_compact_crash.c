/* test_compact_crash.c - random lives with compaction at work over the simulated disk, crashes anywhere, recovery, and then: the
 * last value of every key that was durable is there; offsets are in order; nothing is there that was never sent; no key is back whose
 * tombstone has gone; the last batch of each idempotent producer can be found. VARVE_SEEDS, VARVE_SEED_FROM as in test_log_crash. */
#include <check.h>
#include <fcntl.h>
#include "log/compact.h"
#include "tests/unit/log_harness.h"

enum { LOGS = 2, KEYS = 12, RETENTION_MS = 3000 };

struct sent { int64_t offset; int key; bool tombstone, cut; int64_t at_ms; };
struct clog {
    uint64_t plid;
    struct log *log;
    struct sent *sent;              /* by id */
    uint32_t sent_count, sent_cap;
    int64_t end, start_asked, start_durable;
    int64_t bound;                  /* nothing below was or will be cut */
    int64_t next_sequence, last_sent_offset;   /* of producer 7 */
    int64_t durable_end;            /* as reported */
    bool unsure;                    /* a truncation may or may not have become durable, */
    bool lost_track;                /* and the node went down before that was known: what the log holds is checked, not what it lacks */
};
struct run {
    struct machine m;
    struct prng rng;
    struct clog logs[LOGS];
    bool down;
    char message[640];
    uint32_t runs, removed, map_full;
    uint64_t idempotent_in;         /* one append of so many: a producer that writes seldom has its last batch among old ones */
};

#define RUN_FAIL(run, ...)                                              \
    do {                                                                \
        if (!(run)->message[0]) snprintf((run)->message, sizeof (run)->message, __VA_ARGS__); \
        return;                                                         \
    } while (0)

static uint64_t pick(struct run *x, uint64_t n) { return prng_below(&x->rng, n); }
static struct log_shard *shard_for(struct run *x, uint64_t plid) { return x->m.shards[log_store_shard_of(x->m.store, plid)]; }
static int64_t now_ms(struct run *x) { return io_wall_ms(x->m.io); }

static void on_durable(struct log *l, void *owner) {
    struct clog *c = owner;
    if (impl_of(l)->truncates_joined == 0) c->durable_end = MAX(c->durable_end, l->durable_end);
}

static void attach(struct clog *c, struct log *l) {
    c->log = l;
    l->on_durable = on_durable;
    l->owner = c;
}

static void on_created(struct log *l, void *ctx, enum err err) {
    (void)l;
    *(enum err *)ctx = err;
}

static void do_create(struct run *x, struct clog *c, int32_t partition) {
    enum err created = ERR_COUNT;
    struct log_spec s = {.plid = log_store_new_plid(x->m.store), .topic = "topic", .partition = partition, .first_epoch = 1};
    log_config_defaults(&s.config);
    s.config.segment_bytes = 10000 + (uint32_t)pick(x, 40000);
    s.config.index_interval_bytes = pick(x, 2) ? 4096 : 0;
    s.config.cleanup_compact = true;
    s.config.min_cleanable_ppm = 0;
    s.config.delete_retention_ms = RETENTION_MS;
    *c = (struct clog){.plid = s.plid, .last_sent_offset = -1};
    struct log *l;
    if (log_create(shard_for(x, s.plid), &s, &l, on_created, &created) != OK) RUN_FAIL(x, "create");
    attach(c, l);
    while (created == ERR_COUNT && machine_turn(&x->m, 1000000)) {}
    x->down |= created != OK;
    if (x->down) c->plid = 0; /* it may be there or not */
}

static void do_append(struct run *x, struct clog *c) {
    struct batch_builder b;
    uint8_t value[3000];
    batch_builder_init(&b, (enum batch_codec)(pick(x, 3) ? 0 : pick(x, CODEC_COUNT)), 64u << 20);
    bool idempotent = pick(x, x->idempotent_in) == 0;
    int32_t n = 1 + (int32_t)pick(x, 5);
    if (idempotent) {
        b.producer_id = 7;
        b.producer_epoch = 0;
        b.base_sequence = (int32_t)c->next_sequence;
    }
    struct sent made[8];
    for (int32_t i = 0; i < n; i++) {
        char key[8], id[16];
        made[i] = (struct sent){.key = (int)pick(x, pick(x, 4) ? 4 : KEYS), .tombstone = pick(x, 5) == 0, .at_ms = now_ms(x)};
        struct bytes k = {(const uint8_t *)key, snprintf(key, sizeof key, "k%d", made[i].key)};
        uint32_t len = (uint32_t)pick(x, pick(x, 5) ? 300 : sizeof value);
        for (uint32_t at = 0; at < len; at++) value[at] = (uint8_t)prng_next(&x->rng);
        struct record_header h = {{"id", 2}, {(const uint8_t *)id, snprintf(id, sizeof id, "%u", c->sent_count + (uint32_t)i)}};
        enum err err = batch_builder_add(&b, made[i].at_ms, k, made[i].tombstone ? BYTES_NULL : (struct bytes){value, (int32_t)len}, &h, 1);
        ASSERT(err == OK);
    }
    uint8_t *batch;
    size_t len;
    enum err err = batch_builder_finish(&b, &batch, &len);
    ASSERT(err == OK);
    batch_builder_free(&b);
    struct batch_header h;
    err = batch_parse(batch, len, &h);
    ASSERT(err == OK);
    struct log_append a = {.batch = batch, .header = &h, .now_ms = now_ms(x), .log_append_time_ms = -1};
    err = log_append(c->log, &a);
    free(batch);
    if (err == ERR_AGAIN || err == ERR_NOSPACE || err == ERR_IO || err == ERR_CLOSED || err == ERR_TOO_LARGE) return;
    if (err != OK || a.duplicate) RUN_FAIL(x, "append: %s", err_str(err));
    for (int32_t i = 0; i < n; i++) {
        made[i].offset = a.base_offset + i;
        c->sent = model_grow(c->sent, &c->sent_cap, c->sent_count, sizeof *c->sent);
        c->sent[c->sent_count++] = made[i];
    }
    if (idempotent) {
        c->next_sequence += n;
        c->last_sent_offset = a.last_offset;
    }
    c->end = a.last_offset + 1;
}

/* ---- what must be there ------------------------------------------------------------------------------- */

struct seen { int64_t last[KEYS], first[KEYS]; bool tombstone[KEYS]; int64_t producer_last; };

static const char *look_at(struct clog *c, const struct log_read *r, int64_t *next, struct seen *s) {
    for (uint32_t k = 0; k < r->slice_count; k++) {
        const uint8_t *p = slice_data(&r->slices[k]);
        for (uint32_t at = 0; at < r->slices[k].len;) {
            struct batch_header h;
            struct record_iter it;
            struct record rec;
            enum err err;
            if (batch_parse(p + at, r->slices[k].len - at, &h) != OK || !batch_crc_ok(p + at, &h)) return "no batch";
            if (batch_last_offset(&h) < *next) return "batches out of order";
            *next = batch_last_offset(&h) + 1;
            if (h.producer_id == 7) s->producer_last = batch_last_offset(&h);
            if (record_iter_init(&it, p + at, &h, 1 << 20) != OK) return "records cannot be read";
            int64_t before = h.base_offset - 1;
            while ((err = record_iter_next(&it, &rec)) == OK) {
                struct record_header header;
                const uint8_t *cursor = rec.headers_raw;
                char id[16] = "";
                if (rec.header_count != 1 || record_header_next(&cursor, rec.headers_raw + rec.headers_raw_len, &header) != OK) return "no id";
                snprintf(id, sizeof id, "%.*s", header.value.len, (const char *)header.value.p);
                uint32_t n = (uint32_t)strtoul(id, NULL, 10);
                char key[8];
                if (n >= c->sent_count) return "a record that was never sent";
                const struct sent *e = &c->sent[n];
                snprintf(key, sizeof key, "k%d", e->key);
                if (e->offset != rec.offset || e->tombstone != (rec.value.p == NULL) || rec.key.len != (int32_t)strlen(key) ||
                    memcmp(rec.key.p, key, strlen(key)) != 0)
                    return "a record is not what was sent";
                if (rec.timestamp != e->at_ms) return "a record has another timestamp";
                if (rec.offset <= before) return "offsets within a batch are not ascending";
                before = rec.offset;
                if (s->first[e->key] < 0) s->first[e->key] = rec.offset;
                s->last[e->key] = rec.offset;
                s->tombstone[e->key] = e->tombstone;
            }
            record_iter_free(&it);
            if (err != ERR_NOT_FOUND) return "the records of a batch are damaged";
            at += h.total_bytes;
        }
    }
    return NULL;
}

static void check_log(struct run *x, struct clog *c) {
    struct log *l = c->log;
    struct seen s = {.producer_last = -1};
    for (int k = 0; k < KEYS; k++) s.first[k] = s.last[k] = -1;
    int64_t next = l->start, start = l->start, end = l->end;
    uint32_t step = 1 + (uint32_t)pick(x, 60000);
    for (int64_t offset = l->start; offset < end;) {
        struct log_read r = {.offset = offset, .max_offset = end, .max_bytes = step, .min_one = true};
        enum err err = read_wait(&x->m, l, &r);
        if (err == ERR_CLOSED || sim_crashed(x->m.world, 0)) {
            if (err == OK) log_read_release(&r);
            x->down = true;
            return;
        }
        if (err != OK) RUN_FAIL(x, "read at %lld of [%lld, %lld): %s", (long long)offset, (long long)start, (long long)end, err_str(err));
        const char *wrong = r.bytes == 0 && r.next_offset <= offset ? "nothing was read" : look_at(c, &r, &next, &s);
        if (!wrong && r.bytes > 0 && r.next_offset != next) wrong = "next_offset is wrong";
        offset = r.next_offset;
        log_read_release(&r);
        if (wrong) RUN_FAIL(x, "partition %d before %lld: %s", l->partition, (long long)next, wrong);
    }
    if (c->unsure || c->lost_track) return;
    int64_t now = now_ms(x);
    for (int k = 0; k < KEYS; k++) {
        const struct sent *last = NULL;
        for (uint32_t i = 0; i < c->sent_count; i++)
            if (c->sent[i].key == k && !c->sent[i].cut && c->sent[i].offset < end && c->sent[i].offset >= start) last = &c->sent[i];
        if (!last || s.last[k] == last->offset) continue;
        bool gone = last->tombstone && now >= last->at_ms + RETENTION_MS;
        if (!gone) RUN_FAIL(x, "partition %d: key %d has %lld, but %lld was sent last", l->partition, k, (long long)s.last[k], (long long)last->offset);
        if (s.first[k] >= 0) RUN_FAIL(x, "partition %d: key %d is back: its tombstone %lld has gone, %lld has not", l->partition, k, (long long)last->offset, (long long)s.first[k]);
    }
    if (c->last_sent_offset >= start && c->last_sent_offset < end && s.producer_last != c->last_sent_offset)
        RUN_FAIL(x, "partition %d: the producer's last batch ends at %lld, not %lld", l->partition, (long long)s.producer_last, (long long)c->last_sent_offset);
}

/* ---- steps ------------------------------------------------------------------------------------------------ */

static void on_started(struct log *l, void *ctx, enum err err) {
    struct clog *c = ctx;
    if (err == OK) c->start_durable = MAX(c->start_durable, MIN(l->start, c->start_asked));
}

static void do_set_start(struct run *x, struct clog *c) {
    struct log *l = c->log;
    if (l->durable_end <= l->start || c->bound <= l->start) return;
    int64_t offset = l->start + 1 + (int64_t)pick(x, (uint64_t)(MIN(l->durable_end, c->bound) - l->start) / 3 + 1);
    enum err err = log_set_start(l, MIN(offset, l->durable_end), on_started, c);
    if (err == OK) c->start_asked = l->start;
    if (err != OK && err != ERR_IO && err != ERR_CLOSED) RUN_FAIL(x, "set_start: %s", err_str(err));
}

static void do_truncate(struct run *x, struct clog *c) {
    struct log *l = c->log;
    if (l->end <= MAX(c->bound, l->start)) return;
    int64_t offset = MAX(c->bound, l->start) + (int64_t)pick(x, (uint64_t)(l->end - MAX(c->bound, l->start)) + 1);
    enum err err = log_truncate(l, l->epoch, offset);
    if (err == ERR_IO || err == ERR_CLOSED || err == ERR_RANGE) return;
    if (err != OK) RUN_FAIL(x, "truncate: %s", err_str(err));
    c->unsure = true;
    for (uint32_t i = 0; i < c->sent_count; i++) c->sent[i].cut |= c->sent[i].offset >= l->end;
    c->end = l->end;
    c->last_sent_offset = INT64_MAX; /* found again by reading: not this test's business */
    c->durable_end = MIN(c->durable_end, l->end);
    while (impl_of(l)->truncates_joined > 0 && !x->down) x->down = !machine_turn(&x->m, 1000000) || x->m.failed != OK;
    if (x->down) return;
    c->unsure = false;
    const struct producer *p = producers_find(&l->producers, 7);
    c->next_sequence = p && p->count > 0 ? (int64_t)p->window[p->count - 1].last_sequence + 1 : 0;
    c->last_sent_offset = p && p->count > 0 ? p->window[p->count - 1].last_offset : -1;
}

static void do_compact(struct run *x, struct clog *c) {
    struct log *l = c->log;
    if (pick(x, 3) == 0) {
        enum err err = log_roll(l, now_ms(x));
        if (err != OK && err != ERR_IO && err != ERR_CLOSED) RUN_FAIL(x, "roll: %s", err_str(err));
    }
    int64_t bound = pick(x, 3) ? l->durable_end : l->start + (int64_t)pick(x, (uint64_t)(l->durable_end - l->start) + 1);
    c->bound = MAX(c->bound, bound);
    if (!compact_start(l->shard, l, now_ms(x), bound)) return;
    x->runs++;
}

static void step(struct run *x) {
    struct clog *c = &x->logs[pick(x, LOGS)];
    uint32_t what = (uint32_t)pick(x, 100);
    if (!c->log) return;
    if (what < 58) do_append(x, c);
    else if (what < 70) do_compact(x, c);
    else if (what < 75) journal_checkpoint(x->m.store->journal, false, NULL, NULL);
    else if (what < 77) do_truncate(x, c);
    else if (what < 78) do_set_start(x, c);
    else if (what < 80) check_log(x, c);
    else {
        uint32_t turns = 1 + (uint32_t)pick(x, 30);
        for (uint32_t i = 0; i < turns && !x->down; i++) x->down = !machine_turn(&x->m, pick(x, 8) ? 1000000 : 200000000);
    }
    const struct compact_run *run = compact_last_run(c->log);
    if (run->err == ERR_CORRUPT) RUN_FAIL(x, "compaction says: %s", run->why);
    x->removed += run->records_before > run->records_after;
    x->map_full += run->map_full;
}

/* ---- lives ------------------------------------------------------------------------------------------------ */

static void recovered(struct run *x, struct clog *c) {
    struct log *l = log_shard_by_plid(shard_for(x, c->plid), c->plid);
    if (!l) RUN_FAIL(x, "a log is gone");
    int64_t durable = c->durable_end;
    c->lost_track |= c->unsure;
    attach(c, l);
    if (l->faulty) RUN_FAIL(x, "partition %d is faulty", l->partition);
    if (l->start < c->start_durable || l->start > MAX(c->start_asked, c->start_durable)) RUN_FAIL(x, "start %lld", (long long)l->start);
    if (!c->unsure && (l->end < durable || l->end > c->end))
        RUN_FAIL(x, "partition %d ends at %lld, durable %lld, sent %lld", l->partition, (long long)l->end, (long long)durable, (long long)c->end);
    for (uint32_t i = 0; i < c->sent_count && !c->unsure; i++) c->sent[i].cut |= c->sent[i].offset >= l->end;
    const struct producer *p = producers_find(&l->producers, 7);
    c->next_sequence = p && p->count > 0 ? (int64_t)p->window[p->count - 1].last_sequence + 1 : 0;
    c->last_sent_offset = p && p->count > 0 ? p->window[p->count - 1].last_offset : -1;
    c->end = c->durable_end = l->end;
    c->unsure = false;
    c->start_asked = c->start_durable = l->start;
    check_log(x, c);
}

static void crash(struct run *x) {
    sim_crash_at(x->m.world, 0, 0);
    sim_crash(x->m.world, 0, (enum sim_crash_policy)pick(x, 4));
}

static void one_life(struct run *x, uint64_t crash_in, uint32_t steps, bool stop) {
    x->down = false;
    if (crash_in) sim_crash_at(x->m.world, 0, sim_disk_ops(x->m.world, 0) + crash_in);
    enum err err = machine_open(&x->m);
    if (err != OK) {
        bool crashed = x->down = sim_crashed(x->m.world, 0);
        crash(x);
        io_destroy(x->m.io);
        timers_free(&x->m.timers);
        if (!crashed) RUN_FAIL(x, "open: %s: %s", err_str(err), x->m.why);
        return;
    }
    for (uint32_t i = 0; i < x->m.config.shards; i++) x->m.shards[i]->sync_all_logs = 1 + (uint32_t)pick(x, 4);
    for (int i = 0; i < LOGS && !x->message[0] && !x->down; i++) {
        if (x->logs[i].plid) recovered(x, &x->logs[i]);
        else if (steps > 0 && x->m.recovery.fresh) do_create(x, &x->logs[i], i);
        x->down |= sim_crashed(x->m.world, 0);
    }
    for (uint32_t i = 0; i < steps && !x->down && !x->message[0]; i++) {
        step(x);
        x->down |= sim_crashed(x->m.world, 0);
    }
    if (!x->down && x->m.failed != OK && !x->message[0]) snprintf(x->message, sizeof x->message, "latched: %s", err_str(x->m.failed));
    bool stopped = !x->down && !x->message[0] && stop && machine_stop(&x->m);
    if (!stopped) crash(x);
    for (int i = 0; i < LOGS; i++) x->logs[i].log = NULL;
    machine_close(&x->m);
}

static void run_begin(struct run *x, uint64_t seed) {
    *x = (struct run){.rng = {seed * 0x9e3779b97f4a7c15u}};
    x->m.world = sim_world_new(seed);
    ASSERT(x->m.world);
    x->m.config = machine_config("/data", 1 + (uint32_t)pick(x, 2));
    x->m.config.journal_bytes = pick(x, 2) ? 2u << 20 : 8u << 20;
    x->m.config.journal_piece_bytes = 256u << 10;
    x->m.config.tail_bytes = pick(x, 2) ? 64u << 10 : 4u << 20;
    x->idempotent_in = pick(x, 2) ? 3 : 60;
    x->m.config.open_files_max = 16;
    x->m.config.direct = pick(x, 4) != 0;
    x->m.config.compact_map_bytes = pick(x, 3) ? 1u << 20 : 24u * 6 * x->m.config.shards;
}

static void run_end(struct run *x) {
    for (int i = 0; i < LOGS; i++) free(x->logs[i].sent);
    sim_world_free(x->m.world);
}

static uint64_t from_env(const char *name, uint64_t otherwise) {
    const char *v = getenv(name);
    return v ? strtoull(v, NULL, 10) : otherwise;
}

START_TEST(crashes_lose_no_last_value) {
    uint64_t from = from_env("VARVE_SEED_FROM", 1), seeds = from_env("VARVE_SEEDS", 80), runs = 0, removed = 0, full = 0;
    for (uint64_t seed = from; seed < from + seeds; seed++) {
        struct run x;
        run_begin(&x, seed);
        uint64_t lives = 2 + pick(&x, 6);
        for (uint64_t i = 0; i < lives && !x.message[0]; i++) {
            uint64_t crash_in = pick(&x, 3) ? 1 + pick(&x, 800) : 0, steps = 50 + pick(&x, 600), stop = pick(&x, 4);
            one_life(&x, crash_in, (uint32_t)steps, stop == 0);
        }
        run_end(&x);
        runs += x.runs;
        removed += x.removed;
        full += x.map_full;
        ck_assert_msg(!x.message[0], "seed %llu: %s", (unsigned long long)seed, x.message);
    }
    /* It was about compaction. */
    if (seeds < 50) return;
    ck_assert_uint_gt(runs, seeds);
    ck_assert_uint_gt(removed, seeds);
    ck_assert_uint_gt(full, 0);
}
END_TEST

/* The same life, cut off at its operation number `at`; then a recovery that is cut off, too, then one that is not. */
static bool run_cut_at(struct run *x, uint64_t seed, uint64_t at) {
    run_begin(x, seed);
    one_life(x, at, 200, true);
    bool cut = x->down;
    if (!x->message[0]) one_life(x, 1 + at % 29, 0, false);
    if (!x->message[0]) one_life(x, 0, 20, true);
    run_end(x);
    return cut;
}

START_TEST(every_operation_may_be_the_last) {
    uint64_t from = from_env("VARVE_SEED_FROM", 1), seeds = (from_env("VARVE_SEEDS", 80) + 74) / 75;
    for (uint64_t seed = from; seed < from + seeds; seed++)
        for (uint64_t at = 1;; at++) {
            struct run x;
            bool cut = run_cut_at(&x, seed, at);
            ck_assert_msg(!x.message[0], "seed %llu, operation %llu: %s", (unsigned long long)seed, (unsigned long long)at, x.message);
            if (cut) continue;
            ck_assert_uint_gt(at, 50);
            break;
        }
}
END_TEST

int main(void) {
    int quiet = open("/dev/null", O_WRONLY | O_CLOEXEC);
    trace_setup(getenv("VARVE_TRACE") ? TRACE_DEBUG : TRACE_ERROR, TRACE_TEXT, getenv("VARVE_TRACE") ? 2 : quiet);
    Suite *s = suite_create("compact_crash");
    TCase *t = tcase_create("crash");
    tcase_set_timeout(t, 0);
    tcase_add_test(t, crashes_lose_no_last_value);
    tcase_add_test(t, every_operation_may_be_the_last);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failures = srunner_ntests_failed(r);
    srunner_free(r);
    return failures ? 1 : 0;
}
