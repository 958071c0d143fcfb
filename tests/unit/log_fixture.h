/* log_fixture.h - one machine with logs, over a real or a simulated disk: what test_log.c and test_log_faults.c
 * share. Static: each test program has its own. */
#ifndef TESTS_LOG_FIXTURE_H
#define TESTS_LOG_FIXTURE_H
#include <check.h>
#include <fcntl.h>
#include <ftw.h>
#include <unistd.h>
#include "tests/unit/log_harness.h"

static struct machine m;
static char real_dir[64];

static inline int remove_entry(const char *path, const struct stat *st, int flag, struct FTW *ftw) {
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(path);
}

/* `kind` 0: simulated, 1: real. */
static inline void setup(int kind, uint32_t shards) {
    m = (struct machine){0};
    if (kind == 0) {
        m.world = sim_world_new(7);
        m.config = machine_config("/var/data", shards);
        return;
    }
    snprintf(real_dir, sizeof real_dir, "/tmp/varve-log-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(real_dir));
    m.config = machine_config(real_dir, shards);
    char why[200];
    struct io_config ic = {0};
    struct io *io = io_blocking_create(&ic, why, sizeof why);
    ck_assert_ptr_nonnull(io);
    m.config.direct = io_probe_direct(io, real_dir, why, sizeof why) >= 0;
    io_destroy(io);
}

static inline void teardown(void) {
    if (m.world) sim_world_free(m.world);
    else nftw(real_dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static inline void start(void) {
    enum err err = machine_open(&m);
    ck_assert_msg(err == OK, "open: %s: %s", err_str(err), m.why);
}

static inline void stop(void) {
    ck_assert(machine_stop(&m));
    machine_close(&m);
}

/* As if the process were killed; on the real disk nothing is in flight then. */
static inline void kill_machine(void) {
    if (m.world) sim_crash(m.world, 0, SIM_LOSE_ALL);
    else
        for (uint32_t i = 0; i < m.config.shards; i++)
            while (m.shards[i]->submitted_count > 0 || m.shards[i]->writers_busy > 0 || timer_armed(&m.shards[i]->more_work) ||
                   !list_empty(&m.shards[i]->unlinks) || m.shards[i]->checkpoint.active)
                machine_turn(&m, 1000000);
    machine_close(&m);
}

static inline void on_create(struct log *l, void *ctx, enum err err) {
    (void)l;
    *(enum err *)ctx = err;
}

static inline struct log_spec spec_of(const char *topic, int32_t partition) {
    struct log_spec s = {.plid = log_store_new_plid(m.store), .topic = topic, .partition = partition, .first_epoch = 1};
    memset(s.topic_id.b, 0x42, sizeof s.topic_id.b);
    log_config_defaults(&s.config);
    return s;
}

static inline struct log *create_spec(struct model *x, const struct log_spec *s) {
    enum err created = ERR_COUNT;
    *x = (struct model){.plid = s->plid, .partition = s->partition};
    snprintf(x->topic, sizeof x->topic, "%s", s->topic);
    struct log_shard *sh = m.shards[log_store_shard_of(m.store, s->plid)];
    ck_assert_int_eq(log_create(sh, s, &x->log, on_create, &created), OK);
    ck_assert_int_eq(created, ERR_COUNT); /* never from inside the call */
    while (created == ERR_COUNT) ck_assert(machine_turn(&m, 1000000000));
    ck_assert_int_eq(created, OK);
    x->log->on_durable = model_durable;
    x->log->owner = x;
    return x->log;
}

static inline struct log *create(struct model *x, const char *topic, int32_t partition) {
    struct log_spec s = spec_of(topic, partition);
    return create_spec(x, &s);
}

static inline void reopened(struct model *x) {
    x->log = log_shard_by_plid(m.shards[log_store_shard_of(m.store, x->plid)], x->plid);
    ck_assert_ptr_nonnull(x->log);
    x->log->on_durable = model_durable;
    x->log->owner = x;
    model_opened(x);
}

static inline void append(struct model *x, const struct batch_spec *s) {
    struct log_append a;
    enum err err;
    while ((err = append_spec(x->log, s, &a)) == ERR_AGAIN) ck_assert(machine_turn(&m, 1000000000));
    ck_assert_msg(err == OK, "append: %s", err_str(err));
    ck_assert(!a.duplicate);
    model_add(x, a.base_offset, a.last_offset, s);
}

static uint64_t next_seed = 1;
static inline void append_n(struct model *x, uint32_t n, int32_t records, uint32_t value_bytes, int64_t timestamp) {
    for (uint32_t i = 0; i < n; i++) {
        append(x, &(struct batch_spec){.records = records, .value_bytes = value_bytes, .timestamp = timestamp + i * 10, .producer_id = -1,
                                       .seed = next_seed++});
        if (i % 16 == 15) ck_assert(machine_turn(&m, 0));
    }
    ck_assert(machine_settle(&m, x->log));
}

static inline void check_all(struct model *x, uint32_t max_bytes) {
    const char *wrong = model_check(&m, x, max_bytes);
    ck_assert_msg(wrong == NULL, "%s-%d: %s", x->topic, x->partition, wrong ? wrong : "");
    ck_assert_int_eq(x->log->end, x->end);
}

static inline void on_checkpoint(void *ctx, enum err err) { *(enum err *)ctx = err; }
static inline void checkpoint(void) {
    enum err done = ERR_COUNT;
    journal_checkpoint(m.store->journal, false, on_checkpoint, &done);
    while (done == ERR_COUNT) ck_assert(machine_turn(&m, 1000000000));
    ck_assert_int_eq(done, OK);
    for (int i = 0; i < 8; i++) ck_assert(machine_turn(&m, 0)); /* the shards hear of it */
}

static inline bool file_exists(const char *folder, const char *name) {
    char path[PATH_BYTES];
    struct io_stat st;
    if (name) path_in_folder(path, m.config.dir, folder, name);
    else path_folder(path, m.config.dir, folder);
    return io_stat_path(m.io, path, &st) >= 0;
}

static inline char *file_text(const char *folder, const char *name) {
    char path[PATH_BYTES];
    uint8_t *data;
    size_t len;
    if (folder) path_in_folder(path, m.config.dir, folder, name);
    else path_folder(path, m.config.dir, name);
    int rc = io_read_file(m.io, path, 1 << 30, &data, &len);
    ck_assert_msg(rc >= 0, "%s: %s", path, strerror(-rc));
    return (char *)data;
}

static inline int run_suite(Suite *s) {
    int quiet = open("/dev/null", O_WRONLY | O_CLOEXEC);
    trace_setup(getenv("VARVE_TRACE") ? TRACE_DEBUG : TRACE_ERROR, TRACE_TEXT, getenv("VARVE_TRACE") ? 2 : quiet);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failures = srunner_ntests_failed(r);
    srunner_free(r);
    return failures ? 1 : 0;
}
#endif
