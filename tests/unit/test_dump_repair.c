/* test_dump_repair.c - a small data directory, damaged in every way that is cheap to try: `varve dump --verify` finds it, `--repair --to`
 * makes a directory that verifies, opens, and serves every record that the tool did not say is lost; and it says no more than it must. */
#include "tests/unit/log_fixture.h"
#include "log/manifest.h"
#include "tools/dump.h"

enum { BATCHES = 11, RECORDS = 2 };
static char root[64], out[1 << 20];
static struct model a, b;

static void path_in(char path[PATH_BYTES], const char *dir, const char *name) { snprintf(path, PATH_BYTES, "%s/%s/%s", root, dir, name); }

static void remove_tree(const char *name) {
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", root, name);
    nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static char target[PATH_BYTES], source[PATH_BYTES];
static int copy_entry(const char *path, const struct stat *st, int flag, struct FTW *ftw) {
    char to[PATH_BYTES + 8];
    (void)ftw;
    snprintf(to, sizeof to, "%s%s", target, path + strlen(source));
    if (flag == FTW_D) return mkdir(to, 0755);
    FILE *in = fopen(path, "rb"), *copy = fopen(to, "wb");
    char *bytes = malloc((size_t)st->st_size + 1);
    bool ok = in && copy && bytes && fread(bytes, 1, (size_t)st->st_size, in) == (size_t)st->st_size &&
              fwrite(bytes, 1, (size_t)st->st_size, copy) == (size_t)st->st_size;
    free(bytes);
    if (in) fclose(in);
    if (copy) ok = fclose(copy) == 0 && ok;
    return ok ? 0 : -1;
}

static void copy_tree(const char *from, const char *to) {
    snprintf(source, sizeof source, "%s/%s", root, from);
    snprintf(target, sizeof target, "%s/%s", root, to);
    ck_assert_int_eq(nftw(source, copy_entry, 16, FTW_PHYS), 0);
}

static int dump(char **argv, int argc) {
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/output", root);
    fflush(stdout);
    fflush(stderr);
    int saved_out = dup(1), saved_err = dup(2), file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ck_assert_int_ge(file, 0);
    dup2(file, 1);
    dup2(file, 2);
    int code = cmd_dump(argc, argv);
    fflush(stdout);
    fflush(stderr);
    ssize_t n = pread(file, out, sizeof out - 1, 0);
    dup2(saved_out, 1);
    dup2(saved_err, 2);
    close(saved_out);
    close(saved_err);
    close(file);
    out[n > 0 ? n : 0] = '\0';
    return code;
}

static int verify(const char *name) {
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", root, name);
    return dump((char *[]){(char *)"dump", (char *)"--verify", path, NULL}, 3);
}

static int repair(const char *name) {
    char from[PATH_BYTES], to[PATH_BYTES];
    snprintf(from, sizeof from, "%s/%s", root, name);
    snprintf(to, sizeof to, "%s/fixed", root);
    return dump((char *[]){(char *)"dump", (char *)"--repair", (char *)"--to", to, from, NULL}, 5);
}

/* Offsets of the partition that `out` says are lost. */
static uint64_t said_lost(const char *folder) {
    uint64_t lost = 0;
    for (char *p = out; (p = strstr(p, ": offsets ")); p++) {
        char *line = p;
        while (line > out && line[-1] != '\n') line--;
        char name[40];
        snprintf(name, sizeof name, "%s: ", folder);
        char *at = strstr(line, name);
        long long from, to;
        if (!at || at > p || sscanf(p, ": offsets %lld to %lld are lost", &from, &to) != 2) continue;
        for (long long o = from; o <= to; o++) lost |= UINT64_C(1) << o;
    }
    return lost;
}

/* stop() of the fixture waits longer than this directory needs. */
static void stop_soon(void) {
    log_store_stop(m.store, machine_stopped, &m);
    while (!m.stopped) ck_assert(machine_turn(&m, 1000000));
    ck_assert_int_eq(m.stop_err, OK);
    machine_close(&m);
}

/* ---- the directory ---------------------------------------------------------------------------------- */

static void open_at(const char *name) {
    static char dir[PATH_BYTES];
    snprintf(dir, sizeof dir, "%s/%s", root, name);
    m = (struct machine){.config = machine_config(dir, 1)};
    m.config.direct = false;
}

/* Log `a`: three segments, a producer; `b`: one segment. `more`: a crash, with records that only the journal has. */
static void make_data(bool more) {
    open_at("data");
    start();
    struct log_spec spec = spec_of("t", 0);
    spec.config.segment_bytes = 1700;
    spec.config.index_interval_bytes = 400;
    create_spec(&a, &spec);
    create(&b, "t", 1);
    for (int i = 0; i < BATCHES; i++)
        append(&a, &(struct batch_spec){.records = RECORDS, .value_bytes = 120, .timestamp = 1000 + i, .producer_id = 7, .base_sequence = i * RECORDS, .seed = next_seed++});
    ck_assert(machine_settle(&m, a.log));
    append_n(&b, 4, RECORDS, 100, 1);
    struct log_impl *l = impl_of(a.log);
    ck_assert_uint_eq(l->segment_count, 3);
    while (!(l->segments[0].sealed && l->segments[1].sealed)) ck_assert(machine_turn(&m, 1000000));
    if (!more) {
        stop_soon();
        return;
    }
    checkpoint();
    append_n(&a, 2, RECORDS, 100, 5000);
    append_n(&b, 2, RECORDS, 100, 5000);
    kill_machine();
}

static void setup_data(bool more) {
    snprintf(root, sizeof root, "%s/varve-test-repair.XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(root));
    make_data(more);
}

static void teardown_data(void) {
    nftw(root, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    model_free(&a);
    model_free(&b);
}

/* ---- what is served -------------------------------------------------------------------------------------- */

static uint64_t all_of(const struct model *x) { return (UINT64_C(1) << x->end) - 1; }

/* Offsets that are not served; what is served is what was appended. */
static uint64_t not_served(struct model *x) {
    struct log *l = log_shard_by_plid(m.shards[0], x->plid);
    ck_assert_msg(l != NULL, "%s-%d is gone", x->topic, x->partition);
    uint64_t served = 0;
    for (int64_t offset = l->start; offset < l->end;) {
        struct log_read r = {.offset = offset, .max_offset = l->end, .max_bytes = 1, .min_one = true};
        enum err err = read_wait(&m, l, &r);
        ck_assert_msg(err == OK && r.next_offset > offset, "%s-%d offset %lld: %s", x->topic, x->partition, (long long)offset, err_str(err));
        struct batch_header h;
        if (r.bytes > 0) {
            const uint8_t *p = slice_data(&r.slices[0]);
            ck_assert_int_eq(batch_parse(p, r.bytes, &h), OK);
            uint32_t i = model_find(x, h.base_offset);
            bool same = i < x->count && x->batches[i].base == h.base_offset && x->batches[i].len == r.bytes && memcmp(x->batches[i].bytes, p, r.bytes) == 0;
            ck_assert_msg(same || h.record_count == 0, "%s-%d offset %lld: other bytes", x->topic, x->partition, (long long)offset);
            for (int64_t o = h.base_offset; same && o <= batch_last_offset(&h); o++) served |= UINT64_C(1) << o;
        }
        offset = r.next_offset;
        log_read_release(&r);
    }
    return all_of(x) & ~served;
}

/* Repairs `work`: the result verifies, and lacks exactly what is said. Returns how many offsets of `a` and `b` are lost. */
static int check_repair(const char *what) {
    int code = repair("work");
    ck_assert_msg(code == 0, "%s: repair exits with %d\n%.1500s", what, code, out);
    uint64_t lost_a = said_lost("t-0"), lost_b = said_lost("t-1");
    char said[1500];
    snprintf(said, sizeof said, "%.1400s", out);
    code = verify("fixed");
    ck_assert_msg(code == 0, "%s: repaired, verify exits with %d\n%.1500s\n%s", what, code, out, said);
    open_at("fixed");
    start();
    uint64_t gone_a = not_served(&a), gone_b = not_served(&b);
    ck_assert_msg(gone_a == lost_a && gone_b == lost_b, "%s: t-0 lacks %llx, said %llx; t-1 lacks %llx, said %llx\n%s", what, (unsigned long long)gone_a,
                  (unsigned long long)lost_a, (unsigned long long)gone_b, (unsigned long long)lost_b, said);
    struct model fresh = a; /* it can be appended to, and reopened */
    fresh.log = log_shard_by_plid(m.shards[0], a.plid);
    struct batch_spec s = {.records = 1, .value_bytes = 10, .timestamp = 9000, .producer_id = -1};
    struct log_append appended;
    ck_assert_int_eq(append_spec(fresh.log, &s, &appended), OK);
    ck_assert(machine_settle(&m, fresh.log));
    stop_soon();
    code = verify("fixed");
    ck_assert_msg(code == 0, "%s: used, verify exits with %d\n%.1500s", what, code, out);
    remove_tree("fixed");
    remove_tree("fixed.damaged");
    return __builtin_popcountll(lost_a) + __builtin_popcountll(lost_b);
}

static void flip_file(const char *path, long at, int mask) {
    FILE *f = fopen(path, "r+b");
    ck_assert_msg(f != NULL, "%s", path);
    fseek(f, at, SEEK_SET);
    int c = fgetc(f);
    fseek(f, at, SEEK_SET);
    fputc(c ^ mask, f);
    fclose(f);
}

static void flip_at(const char *name, long at, int mask) {
    char path[PATH_BYTES];
    path_in(path, "work", name);
    flip_file(path, at, mask);
}

static long size_of(const char *name) {
    char path[PATH_BYTES];
    struct stat st;
    path_in(path, "data", name);
    return stat(path, &st) == 0 ? (long)st.st_size : -1;
}

/* ---- tests ------------------------------------------------------------------------------------------------- */

#define SEGMENT_A "t-0/00000000000000000000"
#define SEGMENT_B "t-0/00000000000000000010"
#define SEGMENT_C "t-0/00000000000000000020"
/* How much a flip of any byte may cost: offsets. */
static const struct flipped { const char *name; int cost; int step; bool always; } flipped[] = {
    {SEGMENT_A ".log", RECORDS, 67, true},  {SEGMENT_C ".log", RECORDS, 71, true},  {"t-1/00000000000000000000.log", RECORDS, 97, true},
    {SEGMENT_A ".index", 0, 3, true},       {SEGMENT_A ".timeindex", 0, 5, true},   {"t-0/00000000000000000010.snapshot", 0, 9, true},
    {"t-0/varve.manifest", 0, 41, true},    {"t-0/leader-epoch-checkpoint", 0, 2, false}, {"varve.meta", 0, 13, true},
    {"journal-0/catalog", 0, 173, false},
};

START_TEST(a_byte_is_flipped) {
    const struct flipped *c = &flipped[_i];
    setup_data(false);
    long size = size_of(c->name);
    ck_assert_msg(size > 0, "%s", c->name);
    for (long at = 0; at < (strcmp(c->name, "varve.meta") == 0 ? 60 : size); at += c->step) {
        char what[200];
        snprintf(what, sizeof what, "%s byte %ld", c->name, at);
        copy_tree("data", "work");
        flip_at(c->name, at, 1 << at % 8);
        int code = verify("work");
        ck_assert_msg(code == 3 || !c->always, "%s: verify exits with %d", what, code);
        int cost = check_repair(what);
        ck_assert_msg(cost == c->cost, "%s: costs %d", what, cost);
        remove_tree("work");
    }
    teardown_data();
}
END_TEST

static const char *const logs[] = {SEGMENT_A ".log", SEGMENT_C ".log", "t-1/00000000000000000000.log"};
START_TEST(a_segment_is_cut) {
    setup_data(false);
    long size = size_of(logs[_i]);
    for (long length = 0; length < size; length += 149) {
        char what[200], path[PATH_BYTES];
        snprintf(what, sizeof what, "%s cut to %ld", logs[_i], length);
        copy_tree("data", "work");
        path_in(path, "work", logs[_i]);
        ck_assert_int_eq(truncate(path, length), 0);
        ck_assert_int_eq(verify("work"), 3);
        ck_assert_int_gt(check_repair(what), 0);
        remove_tree("work");
    }
    teardown_data();
}
END_TEST

static const struct gone { const char *name; int cost; } gone[] = {
    {SEGMENT_A ".log", 10}, {SEGMENT_C ".log", 2}, {SEGMENT_B ".index", 0}, {SEGMENT_B ".timeindex", 0}, {"t-0/00000000000000000010.snapshot", 0},
    {"t-0/varve.manifest", 0}, {"journal-0/catalog", 0}, {"t-0/leader-epoch-checkpoint", 0}, {"t-0/partition.metadata", 0}, {"replication-offset-checkpoint", 0},
};
START_TEST(a_file_is_missing) {
    char path[PATH_BYTES];
    setup_data(false);
    copy_tree("data", "work");
    path_in(path, "work", gone[_i].name);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(check_repair(gone[_i].name), gone[_i].cost);
    teardown_data();
}
END_TEST

/* Records that only the journal has: damage in the files below them, and in the journal itself. */
START_TEST(with_records_in_the_journal) {
    setup_data(true);
    copy_tree("data", "work");
    ck_assert_int_eq(check_repair("nothing"), 0);
    remove_tree("work");
    for (long at = 5; at < size_of(SEGMENT_C ".log"); at += 50) {
        char what[100];
        snprintf(what, sizeof what, "byte %ld", at);
        copy_tree("data", "work");
        flip_at(SEGMENT_C ".log", at, 4);
        ck_assert_int_eq(check_repair(what), RECORDS);
        remove_tree("work");
    }
    teardown_data();
}
END_TEST

/* Damage in the catalogue and in a segment; records that only the old journal has are said. */
START_TEST(the_catalogue_and_more) {
    setup_data(_i > 0);
    copy_tree("data", "work");
    for (long at = 20; at < 400; at += 40) flip_at("journal-0/catalog", at, 1); /* the last footer stays */
    flip_at(SEGMENT_A ".log", 400, 1);
    ck_assert_int_eq(check_repair("catalogue"), RECORDS + _i * 4 * RECORDS);
    teardown_data();
}
END_TEST

/* Not a data directory: a copied folder, as Kafka would have it. */
START_TEST(a_folder_by_itself) {
    setup_data(false);
    char path[PATH_BYTES];
    for (long at = 3; at < size_of(SEGMENT_A ".log"); at += 120) {
        copy_tree("data/t-0", "alone");
        snprintf(path, sizeof path, "%s/alone/00000000000000000000.log", root);
        flip_file(path, at, 0xa5);
        if (_i == 1) {
            snprintf(path, sizeof path, "%s/alone/varve.manifest", root);
            unlink(path);
        }
        ck_assert_msg(repair("alone") == 0, "byte %ld\n%.1500s", at, out);
        ck_assert_msg(strstr(out, "are lost; kept in ") != NULL, "byte %ld\n%.1500s", at, out);
        ck_assert_msg(verify("fixed") == 0, "byte %ld\n%.1500s", at, out);
        remove_tree("fixed");
        remove_tree("fixed.damaged");
        remove_tree("alone");
    }
    teardown_data();
}
END_TEST

START_TEST(usage_and_what_stands_in_the_way) {
    setup_data(false);
    char path[PATH_BYTES], other[PATH_BYTES];
    snprintf(path, sizeof path, "%s/data", root);
    snprintf(other, sizeof other, "%s/data/t-0", root);
    char *d = (char *)"dump", *r = (char *)"--repair";
    ck_assert_int_eq(dump((char *[]){d, r, path, NULL}, 3), 0); /* nothing to do */
    ck_assert_int_eq(dump((char *[]){d, r, path, other, NULL}, 4), 2);
    ck_assert_int_eq(dump((char *[]){d, r, (char *)"--in-place", other, NULL}, 4), 2);
    ck_assert_int_eq(dump((char *[]){d, r, (char *)"--to", other, path, NULL}, 5), 2); /* is there */
    ck_assert_int_eq(dump((char *[]){d, r, (char *)"--to", root, (char *)"--in-place", path, NULL}, 6), 2);
    ck_assert_int_eq(dump((char *[]){d, (char *)"--in-place", path, NULL}, 3), 2);
    ck_assert_int_eq(dump((char *[]){d, r, (char *)"--summary", path, NULL}, 4), 2);
    open_at("data");
    start();
    ck_assert_int_eq(dump((char *[]){d, r, (char *)"--in-place", path, NULL}, 4), 1);
    ck_assert_ptr_nonnull(strstr(out, "a broker uses this directory"));
    stop_soon();
    ck_assert_int_eq(dump((char *[]){d, r, (char *)"--in-place", path, NULL}, 4), 0);
    teardown_data();
}
END_TEST

int main(void) {
    Suite *s = suite_create("dump --repair");
    TCase *t = tcase_create("real disk");
    tcase_set_timeout(t, 0);
    tcase_add_loop_test(t, a_byte_is_flipped, 0, ARRAY_LEN(flipped));
    tcase_add_loop_test(t, a_segment_is_cut, 0, ARRAY_LEN(logs));
    tcase_add_loop_test(t, a_file_is_missing, 0, ARRAY_LEN(gone));
    tcase_add_test(t, with_records_in_the_journal);
    tcase_add_loop_test(t, the_catalogue_and_more, 0, 2);
    tcase_add_loop_test(t, a_folder_by_itself, 0, 2);
    tcase_add_test(t, usage_and_what_stands_in_the_way);
    suite_add_tcase(s, t);
    return run_suite(s);
}
