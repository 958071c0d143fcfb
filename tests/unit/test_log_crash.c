/* test_log_crash.c - random workloads over the simulated disk, crashes anywhere, recovery, and then:
 * what was reported durable is there, byte for byte and in order; nothing else is (J2); files are prefixes of their logs.
 * log_watch.h looks at every request on its way to the disk. The seeds are 1..VARVE_SEEDS, from VARVE_SEED_FROM when that is set. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include "tests/unit/log_memory.h"
#include "tests/unit/log_watch.h"
#include "tests/unit/alloc_hook.h"
#include "tests/unit/mutants.h"

enum { MODELS_MAX = 6 };

struct run {
    struct machine m;
    struct prng rng;
    uint64_t seed;
    struct model models[MODELS_MAX];
    struct log_watch watch;
    uint64_t created_high;               /* the highest plid of a log that was durably created */
    bool down;
    bool faulted, short_of_memory;
    char message[600];
    int lives;
    bool strays;                         /* recovery left ranges for the writer: files may hold stray bytes meanwhile */
};

#define RUN_FAIL(run, ...)                                              \
    do {                                                                \
        if (!(run)->message[0]) snprintf((run)->message, sizeof (run)->message, __VA_ARGS__); \
        return;                                                         \
    } while (0)

/* What may be answered while memory has ended. */
static bool excused(const struct run *x, enum err err) { return err == ERR_NOMEM && x->short_of_memory; }

#ifdef VARVE_MUTANTS
static void memory_fails(struct run *x, bool on) { alloc_hook.paused = !on || !x->short_of_memory; }
#else
static void memory_fails(struct run *x, bool on) { (void)x, (void)on; }
#endif

static uint64_t pick(struct run *x, uint64_t n) { return prng_below(&x->rng, n); }

/* For a look at one seed with VARVE_TRACE=1. */
static void note(const struct model *x, const char *what, int64_t offset) {
    trace_debug("test", "plid %llu: %s %lld", (unsigned long long)x->plid, what, (long long)offset);
}

static void created(struct log *l, void *ctx, enum err err) {
    (void)l;
    note(ctx, "created", err);
    struct model *x = ctx;
    if (err == OK) x->created = true;
    if (err == OK && x->created_high && x->plid > *x->created_high) *x->created_high = x->plid;
}

static void deleted(void *ctx, enum err err) {
    struct model *x = ctx;
    note(x, "deleted", err);
    if (err == OK) x->deleted = true;
    x->log = NULL;
}

/* LOGSTARTs become durable in the order in which they were asked for. */
static void started(struct log *l, void *ctx, enum err err) {
    (void)l;
    struct model *x = ctx;
    int64_t offset = x->starts[x->starts_done++ % STARTS_MAX];
    if (err == OK && offset > x->start_durable) x->start_durable = offset;
}

static struct log_shard *shard_for(struct run *x, uint64_t plid) { return x->m.shards[log_store_shard_of(x->m.store, plid)]; }

static void do_create(struct run *x, struct model *mo, uint32_t slot) {
    model_free(mo);
    *mo = (struct model){.plid = log_store_new_plid(x->m.store), .partition = (int32_t)slot, .created_high = &x->created_high};
    if (mo->plid <= x->created_high) RUN_FAIL(x, "J8: plid %llu is given out again", (unsigned long long)mo->plid);
    snprintf(mo->topic, sizeof mo->topic, "topic");
    struct log_spec spec = {.plid = mo->plid, .topic = mo->topic, .partition = mo->partition, .first_epoch = pick(x, 4) ? 1 : 0};
    log_config_defaults(&spec.config);
    spec.config.segment_bytes = pick(x, 2) ? 1u << 30 : 20000 + (uint32_t)pick(x, 100000);
    spec.config.index_interval_bytes = pick(x, 2) ? 4096 : 0;
    enum err err = log_create(shard_for(x, mo->plid), &spec, &mo->log, created, mo);
    if (err == ERR_NOSPACE || err == ERR_IO || err == ERR_CLOSED || err == ERR_EXISTS || excused(x, err)) {
        mo->log = NULL;
        mo->delete_asked = excused(x, err) && shard_for(x, mo->plid)->failed != OK; /* half done: nobody knows until the next start */
        if (!mo->delete_asked) mo->plid = 0;
        return;
    }
    if (err != OK) RUN_FAIL(x, "create: %s", err_str(err));
    mo->log->on_durable = model_durable;
    mo->log->owner = mo;
    note(mo, "create", mo->partition);
}

static void do_append(struct run *x, struct model *mo) {
    uint32_t kind = (uint32_t)pick(x, 100);
    struct batch_spec s = {.records = 1 + (int32_t)pick(x, 4), .value_bytes = (uint32_t)pick(x, 600), .timestamp = 1000000 + (int64_t)pick(x, 1000),
                           .producer_id = -1, .seed = prng_next(&x->rng)};
    if (kind < 5) s.value_bytes = 30000 + (uint32_t)pick(x, 60000);
    else if (kind < 15) s.value_bytes = (uint32_t)pick(x, 6000);
    s.timestamp += mo->log->end;
    if (kind > 60) {
        s.producer_id = MODEL_FIRST_PRODUCER + (kind > 80) + (kind > 95);
        s.producer_epoch = 0;
        s.base_sequence = (int32_t)mo->next_sequence[s.producer_id - MODEL_FIRST_PRODUCER];
    }
    struct log_append a;
    enum err err = append_spec(mo->log, &s, &a);
    if (err == ERR_AGAIN || err == ERR_NOSPACE || err == ERR_IO || err == ERR_TOO_LARGE || err == ERR_CLOSED || excused(x, err)) return;
    if (err != OK) RUN_FAIL(x, "append: %s", err_str(err));
    if (a.duplicate) RUN_FAIL(x, "append: a new batch was called a duplicate");
    if (a.base_offset != mo->end) RUN_FAIL(x, "append: base offset %lld, expected %lld", (long long)a.base_offset, (long long)mo->end);
    if (s.producer_id >= 0) mo->next_sequence[s.producer_id - MODEL_FIRST_PRODUCER] += s.records;
    model_add(mo, a.base_offset, a.last_offset, &s);
}

static void do_set_start(struct run *x, struct model *mo) {
    struct log *l = mo->log;
    if (l->durable_end <= l->start) return;
    /* At a batch boundary, as retention does, or inside one, as DeleteRecords does. */
    int64_t offset = l->start + 1 + (int64_t)pick(x, (uint64_t)(l->durable_end - l->start));
    if (mo->starts_asked - mo->starts_done == STARTS_MAX) return;
    enum err err = log_set_start(l, offset, started, mo);
    if (err == OK) {
        mo->starts[mo->starts_asked++ % STARTS_MAX] = offset;
        mo->start_asked = offset;
    }
    if (err != OK && err != ERR_IO && err != ERR_CLOSED && !excused(x, err)) RUN_FAIL(x, "set_start: %s", err_str(err));
}

static void find_sequence(struct model *mo) {
    memset(mo->next_sequence, 0, sizeof mo->next_sequence);
    for (uint32_t i = 0; i < mo->count; i++) {
        struct batch_header h;
        if (mo->batches[i].producer_id >= 0 && batch_parse(mo->batches[i].bytes, mo->batches[i].len, &h) == OK)
            mo->next_sequence[mo->batches[i].producer_id - MODEL_FIRST_PRODUCER] = (int64_t)h.base_sequence + h.last_offset_delta + 1;
    }
}

static void do_truncate(struct run *x, struct model *mo) {
    struct log *l = mo->log;
    if (mo->count == 0) return;
    uint32_t most = mo->count < 5 || pick(x, 4) == 0 ? mo->count : 5, back = 1 + (uint32_t)pick(x, most);
    int64_t offset = mo->batches[mo->count - back].base;
    if (offset < l->start) return;
    int32_t epoch = epochs_at(&l->epochs, offset > 0 ? offset - 1 : 0);
    enum err err = log_truncate(l, epoch < 0 ? 0 : epoch, offset);
    if (err == ERR_IO || err == ERR_CLOSED || err == ERR_UNSUPPORTED || excused(x, err)) return;
    if (err != OK) RUN_FAIL(x, "truncate: %s", err_str(err));
    if (l->end != offset) RUN_FAIL(x, "truncate: end is %lld instead of %lld", (long long)l->end, (long long)offset);
    note(mo, "truncate", offset);
    model_cut(mo, offset);
    find_sequence(mo);
}

/* As a replica does whose leader's log starts behind what it has. */
static void do_reset(struct run *x, struct model *mo) {
    struct log *l = mo->log;
    int64_t offset = l->start + (int64_t)pick(x, (uint64_t)(l->end - l->start) + 20);
    enum err err = log_reset(l, l->epoch, offset, NULL, 0);
    if (err == ERR_IO || err == ERR_CLOSED || excused(x, err)) return;
    if (err != OK) RUN_FAIL(x, "reset: %s", err_str(err));
    note(mo, "reset", offset);
    model_reset(mo, offset);
    mo->start_asked = offset;
    find_sequence(mo);
}

static void do_read(struct run *x, struct model *mo) {
    struct log *l = mo->log;
    if (l->end == l->start) return;
    struct log_read r = {.offset = l->start + (int64_t)pick(x, (uint64_t)(l->end - l->start)), .max_offset = l->end,
                         .max_bytes = (uint32_t)pick(x, 100000), .min_one = true};
    int64_t start = l->start;
    enum err err = read_wait(&x->m, l, &r);
    if (err == ERR_CLOSED) {
        x->down = true;
        return;
    }
    if (err == ERR_RANGE && l->start > start) return;
    if ((err == ERR_IO && x->m.failed != OK) || excused(x, err)) return;
    if (err != OK) RUN_FAIL(x, "read of %lld: %s", (long long)r.offset, err_str(err));
    const char *wrong = r.bytes ? model_compare(mo, &r) : "nothing";
    if (wrong) RUN_FAIL(x, "read of %lld: %s", (long long)r.offset, wrong);
    log_read_release(&r);
}

static void do_duplicate(struct run *x, struct model *mo) {
    int64_t producer_id = MODEL_FIRST_PRODUCER + (int64_t)pick(x, MODEL_PRODUCERS);
    for (uint32_t i = mo->count; i-- > 0;) {
        const struct model_batch *b = &mo->batches[i];
        if (b->producer_id != producer_id) continue;
        /* A truncation may have emptied the window; then the state is made from what the log still has. */
        if (b->base < impl_of(mo->log)->segments[0].base) return;
        struct batch_header h;
        if (batch_parse(b->bytes, b->len, &h) != OK) RUN_FAIL(x, "the model's batch does not parse");
        struct log_append a = {.batch = b->bytes, .header = &h, .now_ms = 1, .log_append_time_ms = -1};
        enum err err = log_append(mo->log, &a);
        if (err == ERR_IO || err == ERR_CLOSED || excused(x, err)) return;
        if (err != OK || !a.duplicate || a.base_offset != b->base)
            RUN_FAIL(x, "the last idempotent batch again: %s, duplicate %d, offset %lld, expected %lld", err_str(err), a.duplicate,
                     (long long)a.base_offset, (long long)b->base);
        return;
    }
}

static void step(struct run *x) {
    uint32_t slot = (uint32_t)pick(x, MODELS_MAX);
    struct model *mo = &x->models[slot];
    uint32_t what = (uint32_t)pick(x, 100);
    if (!mo->log) {
        if (!mo->delete_asked || mo->deleted) do_create(x, mo, slot);
        return;
    }
    if (mo->delete_asked) return;
    if (what < 62) do_append(x, mo);
    else if (what < 74) do_read(x, mo);
    else if (what < 80) do_duplicate(x, mo);
    else if (what < 84) {
        enum err err = log_begin_epoch(mo->log, mo->log->epoch + 1);
        if (err != OK && err != ERR_IO && err != ERR_CLOSED && !excused(x, err)) RUN_FAIL(x, "begin_epoch: %s", err_str(err));
    } else if (what < 87) do_set_start(x, mo);
    else if (what < 90 && pick(x, 8) > 0) do_truncate(x, mo);
    else if (what < 90) do_reset(x, mo);
    else if (what < 92) journal_checkpoint(x->m.store->journal, false, NULL, NULL);
    else if (what < 93) {
        mo->delete_asked = true;
        log_delete(mo->log, deleted, mo);
    } else if (what < 94 && !x->strays) {
        const char *wrong = impl_of(mo->log)->truncated || impl_of(mo->log)->truncates_joined ? NULL : model_check_files(&x->m, mo, false);
        if (wrong && !sim_crashed(x->m.world, 0)) RUN_FAIL(x, "partition %d: %s", mo->partition, wrong);
    } else {
        uint32_t turns = 1 + (uint32_t)pick(x, 20);
        for (uint32_t i = 0; i < turns && !x->down; i++) x->down = !machine_turn(&x->m, 1000000);
    }
}

/* What logs know of themselves, wherever the life is. */
static void check_memory(struct run *x) {
    for (uint32_t i = 0; i < MODELS_MAX; i++) {
        struct model *mo = &x->models[i];
        if (!mo->log || mo->delete_asked || x->m.failed != OK || mo->log->shard->failed != OK) continue;
        const char *wrong = memory_log_wrong(mo);
        if (wrong) RUN_FAIL(x, "partition %d, in memory: %s", mo->partition, wrong);
    }
    bool failed = x->m.failed != OK; /* which is told by mail */
    for (uint32_t i = 0; i < x->m.config.shards; i++) failed |= x->m.shards[i]->failed != OK;
    if (!failed && memory_pending_wrong(&x->m)) RUN_FAIL(x, "the journal counts other bytes as pending than the logs have");
}

/* ---- after recovery ----------------------------------------------------------------------------------- */

static void check_log(struct run *x, struct model *mo, struct log *l) {
    mo->log = l;
    l->on_durable = model_durable;
    l->owner = mo;
    if (l->start < mo->start_durable || l->start > mo->start_asked)
        RUN_FAIL(x, "partition %d: start %lld, durable %lld, asked %lld", mo->partition, (long long)l->start, (long long)mo->start_durable,
                 (long long)mo->start_asked);
    if (l->faulty) RUN_FAIL(x, "partition %d is faulty", mo->partition);
    mo->start_asked = mo->start_durable = l->start;
    mo->starts_asked = mo->starts_done = 0;
    /* The log is what some prefix of the operations made, one that holds all that were durable. */
    const char *wrong = "no prefix of what was done ends where the log does";
    uint32_t least = mo->ops_durable, most = mo->op_count;
    mo->unsure = true;
    for (uint32_t n = most + 1; n-- > least && wrong;) {
        model_as_of(mo, n);
        if (mo->end == l->end) wrong = model_check(&x->m, mo, 1 + (uint32_t)pick(x, 200000));
        if (wrong && (!wrong[0] || sim_crashed(x->m.world, 0))) {
            x->down = true;
            return;
        }
    }
    mo->unsure = false;
    if (wrong)
        RUN_FAIL(x, "partition %d [%lld, %lld): %s; %u to %u operations", mo->partition, (long long)l->start, (long long)l->end, wrong, least, most);
    model_opened(mo);
    find_sequence(mo);
    do_duplicate(x, mo);
}

static void check_all(struct run *x) {
    for (uint32_t i = 0; i < MODELS_MAX && !x->message[0] && !x->down; i++) {
        struct model *mo = &x->models[i];
        if (!mo->plid) continue;
        struct log *l = log_shard_by_plid(shard_for(x, mo->plid), mo->plid);
        if (!l && mo->created && !mo->delete_asked) RUN_FAIL(x, "partition %d is gone", mo->partition);
        if (l && mo->deleted) RUN_FAIL(x, "partition %d is back", mo->partition);
        if (!l) {
            model_free(mo);
            continue;
        }
        mo->created = true;
        mo->delete_asked = false;
        check_log(x, mo, l);
    }
    uint32_t logs = 0;
    for (uint32_t s = 0; s < x->m.config.shards; s++)
        for (struct log *l = log_shard_first(x->m.shards[s]); l; l = log_shard_next(x->m.shards[s], l)) logs++;
    for (uint32_t i = 0; i < MODELS_MAX; i++) logs -= x->models[i].log != NULL;
    if (logs != 0 && !x->message[0] && !x->down) RUN_FAIL(x, "there are logs that nobody created");
}

static void check_files_exact(struct run *x) {
    for (uint32_t i = 0; i < MODELS_MAX; i++) {
        struct model *mo = &x->models[i];
        if (!mo->log) continue;
        const char *wrong = model_check_files(&x->m, mo, true);
        if (wrong) RUN_FAIL(x, "after a clean stop, partition %d: %s", mo->partition, wrong);
    }
}

static void forget_logs(struct run *x) {
    for (uint32_t i = 0; i < MODELS_MAX; i++) x->models[i].log = NULL;
}

static void crash(struct run *x) {
    sim_faults_clear(x->m.world, 0);
    sim_crash_at(x->m.world, 0, 0);
    /* Behind a failure rather the process begins anew, and reads what the disk has not. */
    bool stays_up = !sim_names_lost(x->m.world, 0);
    enum sim_crash_policy policy = (enum sim_crash_policy)pick(x, stays_up ? SIM_KILLED + 1 : SIM_KILLED);
    if (x->faulted && stays_up && pick(x, 2)) policy = SIM_KILLED;
    trace_debug("test", "crash, policy %d", (int)policy);
    sim_crash(x->m.world, 0, policy);
}

/* One call fails, in the recovery or later; most such failures latch the directory. What was reported durable before must still
 * be there. */
static void inject_fault(struct run *x) {
    static const enum sim_call calls[] = {SIM_WRITE, SIM_SYNC, SIM_SYNC_DIR, SIM_RENAME, SIM_UNLINK, SIM_TRUNCATE, SIM_MKDIR};
    static const int64_t results[] = {-EIO, -ENOSPC, 512};
    uint64_t call = pick(x, ARRAY_LEN(calls)), result = pick(x, ARRAY_LEN(results)), skip = pick(x, pick(x, 2) ? 12 : 120);
    if (calls[call] != SIM_WRITE) result = 0;
    trace_debug("test", "fault in call %d after %llu: %lld", (int)calls[call], (unsigned long long)skip, (long long)results[result]);
    sim_fault(x->m.world, 0, &(struct sim_fault){.call = calls[call], .skip = skip, .times = 1, .result = results[result]});
    x->faulted = true;
}

/* `crash_in`: the node goes down at that disk operation from now on; 0: not by itself. */
static void one_life(struct run *x, uint64_t crash_in, uint32_t steps, bool stop) {
    x->down = false;
    if (crash_in) sim_crash_at(x->m.world, 0, sim_disk_ops(x->m.world, 0) + crash_in);
    enum err err = machine_open(&x->m);
    if (err != OK) {
        bool crashed = x->down = sim_crashed(x->m.world, 0);
        crash(x);
        io_destroy(x->m.io);
        timers_free(&x->m.timers);
        if (!crashed && !x->faulted) RUN_FAIL(x, "open: %s: %s", err_str(err), x->m.why);
        return;
    }
    trace_debug("test", "life: %u logs, %llu groups", x->m.recovery.logs, (unsigned long long)x->m.recovery.journal_groups);
    for (uint32_t i = 0; i < x->m.config.shards; i++) x->m.shards[i]->sync_all_logs = 1 + (uint32_t)pick(x, 6);
    x->strays = !x->m.recovery.fresh && !x->m.recovery.clean;
    memory_fails(x, false); /* what is tried is the log, not the comparing */
    check_all(x);
    if (!x->down) check_memory(x);
    memory_fails(x, true);
    for (uint32_t i = 0; i < steps && !x->down && !x->message[0]; i++) {
        step(x);
        if (i % 8 == 0) check_memory(x);
        (void)watch_durable(&x->watch);
        x->down |= sim_crashed(x->m.world, 0);
    }
    if (!x->down && x->m.failed != OK && !x->message[0] && !x->faulted) snprintf(x->message, sizeof x->message, "latched: %s", err_str(x->m.failed));
    bool stopped = !x->down && !x->message[0] && stop && x->m.failed == OK && machine_stop(&x->m);
    memory_fails(x, false);
    if (stopped) check_files_exact(x);
    else crash(x);
    if (x->watch.wrong[0] && !x->message[0]) snprintf(x->message, sizeof x->message, "%s", x->watch.wrong);
    forget_logs(x);
    machine_close(&x->m);
}

static void run_begin(struct run *x, uint64_t seed) {
    *x = (struct run){.seed = seed, .rng = {seed * 0x9e3779b97f4a7c15u}};
    x->m.world = sim_world_new(seed);
    ASSERT(x->m.world);
    x->m.config = machine_config("/data", 1 + (uint32_t)pick(x, 2));
    x->m.config.journal_bytes = pick(x, 2) ? 2u << 20 : 8u << 20;
    x->m.config.journal_piece_bytes = 256u << 10;
    x->m.config.tail_bytes = pick(x, 2) ? 64u << 10 : 4u << 20;
    x->m.config.open_files_max = 16;
    x->m.config.direct = pick(x, 4) != 0;
    x->watch = (struct log_watch){.m = &x->m, .models = x->models, .model_count = MODELS_MAX};
    sim_watch(x->m.world, 0, watch_request, &x->watch);
}

static void run_end(struct run *x) {
    for (uint32_t i = 0; i < MODELS_MAX; i++) model_free(&x->models[i]);
    watch_free(&x->watch);
    sim_world_free(x->m.world);
}

static void run_seed(struct run *x, uint64_t seed) {
    run_begin(x, seed);
    uint64_t lives = 1 + pick(x, 6);
    for (uint64_t i = 0; i < lives && !x->message[0]; i++) {
        uint64_t crash_in = pick(x, 3) ? 1 + pick(x, 400) : 0, steps = 20 + pick(x, 600), stop = pick(x, 4);
        x->faulted = false;
        sim_faults_clear(x->m.world, 0); /* one that has not struck */
        if (pick(x, 5) == 0) inject_fault(x);
        one_life(x, crash_in, (uint32_t)steps, stop == 0);
    }
    run_end(x);
}

/* The same life, cut off at its operation number `at`, then a recovery that is cut off too, then one that is not. False: the life
 * has fewer operations. */
static bool run_cut_at(struct run *x, uint64_t seed, uint64_t at) {
    run_begin(x, seed);
    one_life(x, at, 120, true);
    bool cut = x->down;
    if (!x->message[0]) one_life(x, 1 + at % 23, 0, false);
    if (!x->message[0]) one_life(x, 0, 5, true);
    run_end(x);
    return cut;
}

static uint64_t from_env(const char *name, uint64_t otherwise) {
    const char *v = getenv(name);
    return v ? strtoull(v, NULL, 10) : otherwise;
}

/* ---- directed: one log, one shard, what a random life meets too rarely ------------------------------------ */

static void fixed_begin(struct run *x, uint64_t seed) {
    run_begin(x, seed);
    x->m.config.shards = 1;
    x->m.config.direct = true;
    enum err err = machine_open(&x->m);
    ASSERT(err == OK);
    struct model *mo = &x->models[0];
    *mo = (struct model){.plid = log_store_new_plid(x->m.store), .topic = "topic"};
    struct log_spec spec = {.plid = mo->plid, .topic = mo->topic, .first_epoch = 1};
    log_config_defaults(&spec.config);
    spec.config.index_interval_bytes = 0;
    err = log_create(x->m.shards[0], &spec, &mo->log, created, mo);
    ASSERT(err == OK);
    mo->log->on_durable = model_durable;
    mo->log->owner = mo;
}

static void fixed_append(struct run *x, int n) {
    struct model *mo = &x->models[0];
    for (int i = 0; i < n; i++) {
        struct batch_spec s = {.records = 1, .value_bytes = 300, .timestamp = 1000 + mo->log->end, .producer_id = -1, .seed = (uint64_t)mo->end};
        struct log_append a;
        if (append_spec(mo->log, &s, &a) != OK) RUN_FAIL(x, "append");
        model_add(mo, a.base_offset, a.last_offset, &s);
    }
    if (!machine_settle(&x->m, mo->log)) x->down = true;
}

static void set_flag(void *ctx, enum err err) { *(int *)ctx = err == OK ? 1 : -1; }

static void fixed_checkpoint(struct run *x) {
    int done = 0;
    journal_checkpoint(x->m.store->journal, false, set_flag, &done);
    while (done == 0 && !x->down) x->down = !machine_turn(&x->m, 1000000);
}

static void fixed_crash(struct run *x, enum sim_crash_policy policy) {
    sim_crash_at(x->m.world, 0, 0);
    sim_crash(x->m.world, 0, policy);
    forget_logs(x);
    machine_close(&x->m);
    x->down = false;
}

static void fixed_reopen(struct run *x) {
    enum err err = machine_open(&x->m);
    if (err != OK) RUN_FAIL(x, "open: %s: %s", err_str(err), x->m.why);
    check_all(x);
}

static void fixed_end(struct run *x) {
    if (!x->message[0] && x->watch.wrong[0]) snprintf(x->message, sizeof x->message, "%s", x->watch.wrong);
    fixed_crash(x, SIM_LOSE_ALL);
    run_end(x);
}

/* A TRUNCATE is durable and the file not yet cut; recovery cuts it inside a block that holds bytes below W, and dies. */
START_TEST(recovery_protects_the_block_that_it_cuts) {
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct run x;
        fixed_begin(&x, seed);
        struct model *mo = &x.models[0];
        fixed_append(&x, 8);
        fixed_checkpoint(&x);
        int64_t to = mo->batches[5].base;
        ck_assert_int_eq(log_truncate(mo->log, 1, to), OK);
        model_cut(mo, to);
        while (impl_of(mo->log)->truncates_joined > 0) ck_assert(machine_turn(&x.m, 1000000));
        fixed_crash(&x, SIM_LOSE_ALL);
        fixed_reopen(&x);
        ck_assert_msg(!x.message[0], "seed %llu: %s", (unsigned long long)seed, x.message);
        ck_assert_int_eq(mo->log->end, to);
        fixed_crash(&x, SIM_TORN_BLOCK);
        fixed_reopen(&x);
        ck_assert_msg(!x.message[0], "seed %llu, after the cut: %s", (unsigned long long)seed, x.message);
        fixed_end(&x);
    }
}
END_TEST

/* A second checkpoint writes into blocks of the log and of its indexes that the first one counts on, and is torn anywhere. */
START_TEST(a_torn_checkpoint_takes_nothing_of_the_one_before) {
    for (uint64_t seed = 1; seed <= 8; seed++)
        for (uint64_t at = 1, struck = 1; struck; at++) {
            struct run x;
            fixed_begin(&x, seed);
            fixed_append(&x, 10);
            fixed_checkpoint(&x);
            fixed_append(&x, 3);
            ck_assert(!x.down);
            sim_crash_at(x.m.world, 0, sim_disk_ops(x.m.world, 0) + at);
            fixed_checkpoint(&x);
            struck = x.down;
            fixed_crash(&x, SIM_TORN_BLOCK);
            fixed_reopen(&x);
            if (!x.message[0] && !machine_stop(&x.m)) snprintf(x.message, sizeof x.message, "no clean stop");
            if (!x.message[0]) check_files_exact(&x);
            ck_assert_msg(!x.message[0], "seed %llu, operation %llu: %s", (unsigned long long)seed, (unsigned long long)at, x.message);
            ck_assert(at > 8 || struck);
            fixed_end(&x);
        }
}
END_TEST

/* ---- a fixed life, cut off everywhere, in every way ------------------------------------------------------- */

static void turns(struct run *x, int n) {
    while (n-- > 0 && !x->down) x->down = !machine_turn(&x->m, 1000000);
}

static void scripted_create(struct run *x, uint32_t slot, int32_t partition) {
    struct model *mo = &x->models[slot];
    if (x->down) return;
    *mo = (struct model){.plid = log_store_new_plid(x->m.store), .topic = "topic", .partition = partition};
    struct log_spec spec = {.plid = mo->plid, .topic = mo->topic, .partition = partition, .first_epoch = 1};
    log_config_defaults(&spec.config);
    spec.config.segment_bytes = 9000;
    spec.config.index_interval_bytes = partition == 0 || partition == 4 ? 4096 : 0;
    enum err err = log_create(x->m.shards[0], &spec, &mo->log, created, mo);
    if (err != OK) {
        mo->log = NULL;
        mo->plid = 0;
        if (!(x->down = sim_crashed(x->m.world, 0))) RUN_FAIL(x, "create: %s", err_str(err));
        return;
    }
    mo->log->on_durable = model_durable;
    mo->log->owner = mo;
}

static void scripted_append(struct run *x, uint32_t slot, int n, uint32_t bytes) {
    struct model *mo = &x->models[slot];
    for (int i = 0; i < n && !x->down && mo->log; i++) {
        struct batch_spec s = {.records = 1 + i % 3, .value_bytes = bytes, .timestamp = 1000 + mo->log->end, .producer_id = i % 2 ? 7 : -1,
                               .base_sequence = (int32_t)mo->next_sequence[0], .seed = mo->plid * 1000 + (uint64_t)mo->end};
        struct log_append a;
        enum err err = append_spec(mo->log, &s, &a);
        if (err == OK && s.producer_id >= 0) mo->next_sequence[0] += s.records;
        if (err == OK) model_add(mo, a.base_offset, a.last_offset, &s);
        else if (!(x->down = sim_crashed(x->m.world, 0))) RUN_FAIL(x, "append: %s", err_str(err));
    }
}

static void scripted_roll(struct run *x, uint32_t slot) {
    struct model *mo = &x->models[slot];
    if (x->down || !mo->log) return;
    enum err err = log_roll(mo->log, 1000);
    if (err != OK && !(x->down = sim_crashed(x->m.world, 0))) RUN_FAIL(x, "roll: %s", err_str(err));
}

static void scripted_truncate(struct run *x, uint32_t slot, uint32_t back) {
    struct model *mo = &x->models[slot];
    if (x->down || !mo->log) return;
    int64_t to = mo->batches[mo->count - back].base;
    enum err err = log_truncate(mo->log, mo->log->epoch, to);
    if (err == OK) {
        model_cut(mo, to);
        find_sequence(mo);
    } else if (!(x->down = sim_crashed(x->m.world, 0))) {
        RUN_FAIL(x, "truncate: %s", err_str(err));
    }
}

static void scripted_start(struct run *x, uint32_t slot, uint32_t batch) {
    struct model *mo = &x->models[slot];
    if (x->down || !mo->log || mo->batches[batch].end > mo->log->durable_end) return;
    enum err err = log_set_start(mo->log, mo->batches[batch].base, started, mo);
    if (err != OK) return;
    mo->starts[mo->starts_asked++ % STARTS_MAX] = mo->batches[batch].base;
    mo->start_asked = mo->batches[batch].base;
}

static void scripted_checkpoint(struct run *x) {
    if (!x->down) journal_checkpoint(x->m.store->journal, false, NULL, NULL);
}

static void scripted_delete(struct run *x, uint32_t slot) {
    struct model *mo = &x->models[slot];
    if (x->down || !mo->log) return;
    mo->delete_asked = true;
    log_delete(mo->log, deleted, mo);
}

/* Segments roll; one before a checkpoint, so that what comes has a file and no index to write; files are cut inside a block below W, and across segments; the log start moves over a segment, twice before it is
 * durable; a topic is deleted and made again under its name at once; checkpoints run beside all that. */
static void script(struct run *x) {
    for (uint32_t i = 0; i < 3; i++) scripted_create(x, i, (int32_t)i);
    scripted_create(x, 4, 4);
    for (uint32_t i = 0; i < 3; i++) scripted_append(x, i, 5, 700);
    scripted_append(x, 4, 1, 100);
    turns(x, 2);
    scripted_roll(x, 4);
    turns(x, 4);
    scripted_checkpoint(x);
    turns(x, 3);
    scripted_append(x, 4, 2, 100);
    scripted_append(x, 0, 9, 900);
    scripted_append(x, 1, 2, 100);
    turns(x, 20);
    scripted_truncate(x, 0, 3);
    scripted_append(x, 0, 2, 300);
    turns(x, 2);
    scripted_truncate(x, 1, 4);
    scripted_append(x, 1, 1, 50);
    scripted_checkpoint(x);
    turns(x, 25);
    scripted_truncate(x, 1, 2);
    turns(x, 12);
    scripted_start(x, 0, 8);
    scripted_append(x, 0, 6, 1500);
    scripted_start(x, 0, 9);
    turns(x, 8);
    scripted_delete(x, 2);
    scripted_create(x, 3, 2);
    scripted_append(x, 3, 6, 800);
    turns(x, 3);
    scripted_checkpoint(x);
    scripted_append(x, 3, 3, 2000);
    scripted_append(x, 0, 1, 100);
    turns(x, 25);
    scripted_truncate(x, 0, 9);
    scripted_append(x, 0, 3, 600);
    scripted_checkpoint(x);
    turns(x, 30);
    scripted_delete(x, 3);
    scripted_append(x, 1, 4, 400);
    turns(x, 4);
}

/* What the logs are, as far as a user or the next recovery can tell. */
static uint64_t state_hash(struct run *x) {
    uint64_t h = 1;
    for (struct log *l = log_shard_first(x->m.shards[0]); l; l = log_shard_next(x->m.shards[0], l)) {
        const struct log_impl *i = impl_of_const(l);
        uint64_t v[] = {l->plid, (uint64_t)l->start, (uint64_t)l->end, (uint64_t)l->epoch, l->producers.count, i->segment_count, l->faulty};
        for (size_t k = 0; k < ARRAY_LEN(v); k++) h = (h ^ v[k]) * UINT64_C(0x9e3779b97f4a7c15) + (h >> 29);
        for (uint32_t k = 0; k < i->segment_count; k++)
            h = (h ^ (uint64_t)i->segments[k].base ^ (uint64_t)i->segments[k].size_bytes << 32) * UINT64_C(0x9e3779b97f4a7c15) + (h >> 29);
    }
    return h;
}

static void open_failed(struct run *x) {
    io_destroy(x->m.io);
    timers_free(&x->m.timers);
}

static void scripted_begin(struct run *x) {
    run_begin(x, 4242);
    x->m.config.shards = 1;
    x->m.config.direct = true;
    x->m.config.journal_bytes = 2u << 20;
    x->m.config.tail_bytes = 64u << 10;
}

struct cut_run { uint64_t hash, recovery_ops; bool struck, struck_again; };

/* The script cut off at its operation `at`, its recovery at `again` (0: not), then a whole recovery and a clean stop. */
static struct cut_run scripted_run(struct run *x, enum sim_crash_policy policy, uint64_t at, uint64_t again) {
    struct cut_run r = {0};
    scripted_begin(x);
    sim_crash_at(x->m.world, 0, at);
    if (machine_open(&x->m) == OK) {
        x->m.shards[0]->sync_all_logs = policy % 2 ? 100 : 3;
        script(x);
        r.struck = sim_crashed(x->m.world, 0);
        if (!r.struck) r.struck = !machine_stop(&x->m);
        fixed_crash(x, policy);
    } else {
        r.struck = true;
        sim_crash(x->m.world, 0, policy);
        open_failed(x);
    }
    if (again > 0) {
        sim_crash_at(x->m.world, 0, sim_disk_ops(x->m.world, 0) + again);
        bool up = machine_open(&x->m) == OK;
        r.struck_again = sim_crashed(x->m.world, 0);
        if (!up && !r.struck_again) snprintf(x->message, sizeof x->message, "second open: %s", x->m.why);
        if (up) {
            fixed_crash(x, policy);
        } else {
            sim_crash(x->m.world, 0, policy);
            open_failed(x);
        }
    }
    sim_crash_at(x->m.world, 0, 0);
    x->down = false;
    uint64_t before = sim_disk_ops(x->m.world, 0);
    enum err err = x->message[0] ? OK : machine_open(&x->m);
    r.recovery_ops = sim_disk_ops(x->m.world, 0) - before;
    if (err != OK) {
        snprintf(x->message, sizeof x->message, "open: %s: %s", err_str(err), x->m.why);
        open_failed(x);
    } else if (!x->message[0]) {
        r.hash = state_hash(x);
        check_all(x);
        if (!x->message[0] && !machine_stop(&x->m)) snprintf(x->message, sizeof x->message, "no clean stop");
        if (!x->message[0]) check_files_exact(x);
        if (!x->message[0] && x->watch.wrong[0]) snprintf(x->message, sizeof x->message, "%s", x->watch.wrong);
        fixed_crash(x, SIM_LOSE_ALL);
    }
    run_end(x);
    return r;
}

/* Every operation of the script may be the last, in every way to lose what was not synced; and a recovery cut short anywhere and
 * repeated finds what one finds that was not (J9). Normally one place in each recovery is tried, another one each time; with
 * VARVE_SEEDS from 1000 on all of them. VARVE_SCRIPT_FROM: from this operation on. */
START_TEST(a_fixed_life_cut_off_everywhere) {
    bool all = from_env("VARVE_SEEDS", 150) >= 1000;
    uint64_t ops = 0, recoveries = 0;
    for (uint64_t at = from_env("VARVE_SCRIPT_FROM", 1), struck = 1; struck; at++)
        for (int policy = SIM_LOSE_NONE; policy <= SIM_KILLED; policy++) {
            struct run x;
            struct cut_run whole = scripted_run(&x, (enum sim_crash_policy)policy, at, 0);
            ck_assert_msg(!x.message[0], "policy %d, operation %llu: %s", policy, (unsigned long long)at, x.message);
            struck = whole.struck;
            ops++;
            if (!all && at % (SIM_KILLED + 1) != (uint64_t)policy) continue;
            uint64_t from = all ? 1 : 1 + (at / (SIM_KILLED + 1)) % (whole.recovery_ops + 1), to = all ? whole.recovery_ops : from;
            for (uint64_t again = from; again <= to; again++) {
                struct cut_run cut = scripted_run(&x, (enum sim_crash_policy)policy, at, again);
                ck_assert_msg(!x.message[0], "policy %d, operation %llu, recovery cut at %llu: %s", policy, (unsigned long long)at,
                              (unsigned long long)again, x.message);
                recoveries += cut.struck_again;
                ck_assert_msg(cut.hash == whole.hash, "J9: policy %d, operation %llu: a recovery cut at %llu finds something else", policy,
                              (unsigned long long)at, (unsigned long long)again);
            }
        }
    if (getenv("VARVE_TRACE")) fprintf(stderr, "%llu lives, %llu recoveries cut\n", (unsigned long long)ops, (unsigned long long)recoveries);
    ck_assert_uint_gt(ops, 1000);
    ck_assert_uint_gt(recoveries, 100);
}
END_TEST

/* A process killed anywhere leaves files and folders that are in no directory yet as far as a power cut is concerned. The next one
 * finds them, and may count on them in a checkpoint only when it has synced them itself. */
START_TEST(a_checkpoint_syncs_what_a_killed_process_left) {
    uint64_t lives = 0;
    for (uint64_t at = 1, struck = 1; struck; at++)
        for (uint32_t sync_all_logs = 3; sync_all_logs <= 100; sync_all_logs += 97) {
            struct run x;
            scripted_begin(&x);
            sim_crash_at(x.m.world, 0, at);
            if (machine_open(&x.m) == OK) {
                script(&x);
                struck = sim_crashed(x.m.world, 0) || !machine_stop(&x.m);
                fixed_crash(&x, SIM_KILLED);
            } else {
                sim_crash(x.m.world, 0, SIM_KILLED);
                open_failed(&x);
            }
            sim_crash_at(x.m.world, 0, 0);
            x.down = false;
            fixed_reopen(&x);
            x.m.shards[0]->sync_all_logs = sync_all_logs;
            fixed_checkpoint(&x);
            fixed_crash(&x, SIM_LOSE_ALL);
            if (!x.message[0]) fixed_reopen(&x);
            ck_assert_msg(!x.message[0], "operation %llu: %s", (unsigned long long)at, x.message);
            fixed_end(&x);
            lives++;
        }
    ck_assert_uint_gt(lives, 300);
}
END_TEST

START_TEST(crashes_lose_nothing_that_was_durable) {
    uint64_t from = from_env("VARVE_SEED_FROM", 1), seeds = from_env("VARVE_SEEDS", 150);
    for (uint64_t seed = from; seed < from + seeds; seed++) {
        struct run x;
        run_seed(&x, seed);
        ck_assert_msg(!x.message[0], "seed %llu: %s", (unsigned long long)seed, x.message);
    }
}
END_TEST

START_TEST(every_operation_may_be_the_last) {
    uint64_t from = from_env("VARVE_SEED_FROM", 1), seeds = (from_env("VARVE_SEEDS", 150) + 74) / 75, operations = 0;
    for (uint64_t seed = from; seed < from + seeds; seed++)
        for (uint64_t at = 1;; at++, operations++) {
            struct run x;
            bool cut = run_cut_at(&x, seed, at);
            ck_assert_msg(!x.message[0], "seed %llu, operation %llu: %s", (unsigned long long)seed, (unsigned long long)at, x.message);
            if (cut) continue;
            ck_assert_uint_gt(at, 10);
            break;
        }
    if (getenv("VARVE_TRACE")) fprintf(stderr, "%llu operations in %llu lives\n", (unsigned long long)operations, (unsigned long long)seeds);
    ck_assert_uint_gt(operations, 30 * seeds); /* one may be short, but they were lives worth the name */
}
END_TEST

#ifdef VARVE_MUTANTS
/* Allocations of the log fail, one or many, anywhere in a life and in its stop: calls say so, or the directory is given up;
 * nothing that was durable is lost, and nothing falls. */
START_TEST(memory_may_end_anywhere) {
    uint64_t from = from_env("VARVE_SEED_FROM", 1), seeds = from_env("VARVE_SEEDS", 150), failed = 0, stops = 0;
    for (uint64_t seed = from; seed < from + seeds; seed++) {
        struct run x;
        run_begin(&x, seed);
        for (int life = 0; life < 3 && !x.message[0]; life++) {
            bool short_now = life < 2;
            x.faulted = x.short_of_memory = short_now;
            alloc_hook = (struct alloc_hook){.from = short_now ? 1 + pick(&x, 600) : 0, .times = pick(&x, 2) ? 1 : 1 + pick(&x, 200)};
            one_life(&x, 0, 20 + (uint32_t)pick(&x, 200), true);
            failed += alloc_hook.failed;
            stops += x.m.stopped && x.m.stop_err == OK;
            x.m.stopped = false;
            alloc_hook = (struct alloc_hook){0};
        }
        run_end(&x);
        ck_assert_msg(!x.message[0], "seed %llu: %s", (unsigned long long)seed, x.message);
    }
    ck_assert_uint_gt(failed, seeds);
    ck_assert_uint_gt(stops, seeds);
}
END_TEST
#endif

/* By themselves, so that CK_RUN_CASE can choose. */
static void case_add(Suite *s, const char *name, const TTest *test) {
    TCase *t = tcase_create(name);
    tcase_set_timeout(t, 0);
    tcase_add_test(t, test);
    suite_add_tcase(s, t);
}

int main(void) {
    mutant_choose();
    /* A node that is down complains about every call. */
    int quiet = open("/dev/null", O_WRONLY | O_CLOEXEC);
    trace_setup(getenv("VARVE_TRACE") ? TRACE_DEBUG : TRACE_ERROR, TRACE_TEXT, getenv("VARVE_TRACE") ? 2 : quiet);
    Suite *s = suite_create("log_crash");
    case_add(s, "killed", a_checkpoint_syncs_what_a_killed_process_left);
    case_add(s, "random", crashes_lose_nothing_that_was_durable);
    case_add(s, "every", every_operation_may_be_the_last);
    case_add(s, "script", a_fixed_life_cut_off_everywhere);
    case_add(s, "cut", recovery_protects_the_block_that_it_cuts);
    case_add(s, "torn", a_torn_checkpoint_takes_nothing_of_the_one_before);
#ifdef VARVE_MUTANTS
    case_add(s, "memory", memory_may_end_anywhere);
#endif
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failures = srunner_ntests_failed(r);
    srunner_free(r);
    return failures ? 1 : 0;
}
