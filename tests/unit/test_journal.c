/* test_journal.c - the commit journal over the simulated disk. What the model (journal_model.h) demands holds in
 * all of it; here are the lives it is led through:
 *   J8   no plid is given out twice
 *   J9   a recovery cut short and repeated gives the same
 *   J10  a flipped byte is reported, or changes nothing that the disk knew to be durable
 * VARVE_SEEDS sets how many random runs there are, VARVE_SEED_FROM the first seed. */
#include "tests/unit/journal_model.h"
#include "proto/storage.pb-c.h"
#include "tests/unit/mutants.h"

/* ---- tests ----------------------------------------------------------------------------------------------- */

static void random_run(uint64_t seed) {
    struct model *m = model_new(seed);
    uint32_t lives = 2 + (uint32_t)prng_below(&m->rnd, 5);
    for (uint32_t life = 0; life < lives; life++) {
        reopen_until_up(m, life > 0);
        if (life == 0) ck_assert(m->rec.fresh);
        model_attach(m);
        uint32_t actions = 20 + (uint32_t)prng_below(&m->rnd, 600);
        bool at_random = prng_below(&m->rnd, 3) != 0;
        if (at_random) sim_crash_at(m->w, 0, sim_disk_ops(m->w, 0) + 1 + prng_below(&m->rnd, 150));
        random_life(m, actions);
        if (!at_random && prng_below(&m->rnd, 3) == 0) quiet(m);
        seen.crashes++;
        sim_crash(m->w, 0, any_policy(m));
        model_detach(m);
    }
    reopen_until_up(m, true);
    model_attach(m);
    quiet(m);
    sim_crash(m->w, 0, SIM_LOSE_ALL);
    model_detach(m);
    model_free(m);
}

static uint64_t last_seed; /* of the random runs: named when one fails */

START_TEST(test_random_crashes) {
    uint64_t n = seeds(600), from = seed_from();
    for (uint64_t seed = from; seed < from + n; seed++) {
        last_seed = seed;
        if (getenv("VARVE_TRACE") != NULL) fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
        random_run(seed);
    }
    const uint64_t *counts = (const uint64_t *)&seen;
    static const char *const names[] = {"crashes", "recovery crashes", "recovery faults", "checkpoints", "rewrites", "recycled", "stops", "held", "joined",
                                        "images"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (getenv("VARVE_TRACE") != NULL) fprintf(stderr, "%s: %llu\n", names[i], (unsigned long long)counts[i]);
        if (n >= 300) ck_assert_msg(counts[i] > 0, "%s: never seen", names[i]);
    }
}
END_TEST


/* ---- every crash point of a short run --------------------------------------------------------------- */

static void short_life(struct model *m) {
    for (int i = 0; i < 12 && !down(m); i++) random_action(m);
    if (!quiet(m)) return;
    journal_checkpoint(m->j, false, waiter_done, m);
    for (int i = 0; i < 6 && !down(m); i++) random_action(m);
    if (!quiet(m)) return;
    for (int i = 0; i < 6 && !down(m); i++) random_action(m);
    if (quiet(m)) journal_checkpoint(m->j, true, waiter_done, m);
    quiet(m);
}

/* Crashes at operation `op` of a short run (0: at its end), then at `again` of the recovery. False: there were not so many. */
static bool crash_run(uint64_t seed, uint64_t op, uint64_t again, enum sim_crash_policy policy) {
    struct model *m = model_fixed(seed, 2, 16384, 4, 2);
    sim_crash_at(m->w, 0, op);
    enum err err = model_open(m);
    ck_assert(err == OK || down(m));
    if (err == OK && !down(m)) {
        model_attach(m);
        short_life(m);
    }
    bool struck = down(m);
    sim_crash(m->w, 0, policy);
    if (m->j != NULL && m->shard[0].m != NULL) {
        model_detach(m);
    } else {
        journal_close(m->j);
        io_destroy(m->io);
    }
    m->j = NULL;
    bool struck_again = false;
    if (again > 0) {
        sim_crash_at(m->w, 0, sim_disk_ops(m->w, 0) + again);
        err = model_open(m);
        struck_again = down(m);
        ck_assert_msg(struck_again || err == OK, "%s", m->why);
        sim_crash(m->w, 0, policy);
        journal_close(m->j);
        m->j = NULL;
        io_destroy(m->io);
        sim_crash_at(m->w, 0, 0);
    }
    err = model_open(m);
    ck_assert_msg(err == OK, "crash at %llu, %llu: %s", (unsigned long long)op, (unsigned long long)again, m->why);
    memset(m->shard, 0, sizeof m->shard);
    model_attach(m);
    ck_assert(quiet(m));
    sim_crash(m->w, 0, SIM_LOSE_ALL);
    model_detach(m);
    err = model_open(m); /* and what was found that time stays found */
    ck_assert_msg(err == OK, "crash at %llu, %llu, then later: %s", (unsigned long long)op, (unsigned long long)again, m->why);
    adopt_found(m);
    journal_close(m->j);
    io_destroy(m->io);
    model_free(m);
    return op == 0 ? struck_again : struck && (again == 0 || struck_again);
}

START_TEST(test_every_crash_point) {
    uint64_t runs = MAX(seeds(600) / 200, 1);
    for (uint64_t seed = 1; seed <= runs; seed++) {
        for (int policy = SIM_LOSE_NONE; policy <= SIM_KILLED; policy++) {
            uint64_t op = 1;
            while (crash_run(seed, op, 0, (enum sim_crash_policy)policy)) op++;
            ck_assert_uint_gt(op, 20);
            /* Recovery cut short everywhere, after crashes at a few places. */
            for (uint64_t first = 10; first < op; first += 1 + op / 5)
                for (uint64_t again = 1; crash_run(seed, first, again, (enum sim_crash_policy)policy); again++) {}
        }
    }
}
END_TEST

/* ---- syncs that fail while it is opened ------------------------------------------------------------------ */

static void give_up(struct model *m, enum sim_crash_policy policy) {
    sim_crash(m->w, 0, policy);
    journal_close(m->j);
    m->j = NULL;
    io_destroy(m->io);
}

/* The process is killed at operation `op` of a short run. Of the recovery sync number `nth` fails; the next one, on a machine that stays
 * up, reads what the disk has not, and counts it. Then the power goes. False: there were not so many syncs. */
static bool failed_sync_run(uint64_t seed, uint64_t op, uint64_t nth) {
    struct model *m = model_fixed(seed, 2, 16384, 4, 2);
    ck_assert_int_eq(model_open(m), OK);
    model_attach(m);
    sim_crash_at(m->w, 0, sim_disk_ops(m->w, 0) + op);
    short_life(m);
    sim_crash_at(m->w, 0, 0);
    sim_crash(m->w, 0, SIM_KILLED);
    model_detach(m);
    sim_fault(m->w, 0, &(struct sim_fault){.call = SIM_SYNC, .skip = nth, .times = 1, .result = -EIO});
    enum err err = model_open(m);
    sim_faults_clear(m->w, 0);
    ck_assert_msg(err == OK || err == ERR_IO, "%s (%s)", m->why, err_str(err));
    give_up(m, SIM_KILLED);
    ck_assert_msg(model_open(m) == OK, "sync %llu failed: %s", (unsigned long long)nth, m->why);
    model_attach(m);
    ck_assert(quiet(m));
    sim_crash(m->w, 0, SIM_LOSE_ALL);
    model_detach(m);
    ck_assert_msg(model_open(m) == OK, "killed at %llu, sync %llu failed, and later the power: %s", (unsigned long long)op, (unsigned long long)nth,
                  m->why);
    adopt_found(m);
    give_up(m, SIM_LOSE_ALL);
    model_free(m);
    return err != OK;
}

START_TEST(test_failed_syncs_prove_nothing) {
    unsigned failed = 0;
    for (uint64_t seed = 1; seed <= 3; seed++)
        for (uint64_t op = 1; op <= 30; op++)
            for (uint64_t nth = 0; failed_sync_run(seed, op, nth); nth++) failed++;
    ck_assert_uint_gt(failed, 90);
}
END_TEST

struct flip_later { struct sim_world *w; char path[128]; uint64_t offset; bool done; };
static void flip_before_copies(void *ctx, const struct sim_request *r) {
    struct flip_later *f = ctx;
    if (r->call != SIM_UNLINK || strstr(r->path, "renewed.tmp") == NULL) return;
    f->done = sim_file_flip(f->w, 0, f->path, f->offset, 1) == 0;
}

/* A group that was replayed from memory of the kernel, and is not there any more when its piece is copied: not taken for what it was. */
START_TEST(test_copies_hold_what_was_replayed) {
    struct model *m = model_fixed(7, 1, 16384, 6, 2);
    ck_assert_int_eq(model_open(m), OK);
    model_attach(m);
    while (m->j->piece_count < 2 || m->j->head.offset == 0) {
        append(&m->shard[0], 0, ENTRY_RECORDS, 10);
        ck_assert(quiet(m));
    }
    ck_assert_uint_lt(m->j->claimed_seq, m->j->next_seq - 1);
    struct flip_later f = {.w = m->w, .offset = m->j->head.offset - 4096 + 60};
    journal_piece_path(f.path, sizeof f.path, DIR, 0, m->j->head.piece);
    sim_crash(m->w, 0, SIM_KILLED);
    model_detach(m);
    sim_watch(m->w, 0, flip_before_copies, &f);
    ck_assert_int_eq(model_open(m), ERR_IO);
    ck_assert_msg(f.done && strstr(m->why, "does not read as it did") != NULL, "%s", m->why);
    give_up(m, SIM_LOSE_ALL);
    model_free(m);
}
END_TEST

static uint64_t disk_free(struct model *m) {
    struct io *io = sim_io_create(m->w, 0);
    struct io_space space;
    ck_assert_int_eq(io_space(io, "/", &space), 0);
    io_destroy(io);
    return space.free_bytes;
}

/* The copy of a piece finds no space: one that is free is given up for it. */
START_TEST(test_copies_need_no_space) {
    unsigned given_up = 0;
    for (uint64_t op = 10; op <= 60; op++) {
        struct model *m = model_fixed(7, 2, 16384, 6, 2);
        ck_assert_int_eq(model_open(m), OK);
        model_attach(m);
        sim_crash_at(m->w, 0, sim_disk_ops(m->w, 0) + op);
        short_life(m);
        uint32_t free_before = m->j->free_count, pieces = m->j->piece_count;
        sim_crash_at(m->w, 0, 0);
        sim_crash(m->w, 0, SIM_KILLED);
        model_detach(m);
        uint64_t total = (UINT64_C(1) << 40) - disk_free(m);
        sim_disk_capacity(m->w, 0, total + 2 * 4096); /* enough for the catalogue */
        enum err err = model_open(m);
        ck_assert_msg(err == OK || (err == ERR_NOSPACE && free_before == 0), "%s", m->why);
        given_up += err == OK && m->j->piece_count < pieces;
        give_up(m, SIM_LOSE_ALL);
        sim_disk_capacity(m->w, 0, UINT64_C(1) << 40);
        ck_assert_msg(model_open(m) == OK, "%s", m->why);
        adopt_found(m);
        give_up(m, SIM_LOSE_ALL);
        model_free(m);
    }
    ck_assert_uint_gt(given_up, 3);
}
END_TEST

/* ---- damage ------------------------------------------------------------------------------------------- */

struct image_file { char path[128]; uint8_t *data; size_t len; };
struct image { struct image_file f[16]; unsigned count; };
static void take_file(void *ctx, const char *path, uint64_t size) {
    struct image *img = ctx;
    if (strstr(path, "journal-0") == NULL) return;
    ck_assert_uint_lt(img->count, ARRAY_LEN(img->f));
    struct image_file *f = &img->f[img->count++];
    snprintf(f->path, sizeof f->path, "%s", path);
    f->len = size;
}

static struct image image_take(struct model *m) {
    struct image img = {.count = 0};
    sim_files(m->w, 0, take_file, &img);
    for (unsigned i = 0; i < img.count; i++)
        ck_assert_int_eq(sim_file_read(m->w, 0, img.f[i].path, SIM_DURABLE, &img.f[i].data, &img.f[i].len), 0);
    return img;
}

static void image_free(struct image *img) {
    for (unsigned i = 0; i < img->count; i++) free(img->f[i].data);
}

static void image_put(struct io *io, const struct image *img) {
    io_mkdir(io, DIR);
    io_mkdir(io, DIR "/journal-0");
    for (unsigned i = 0; i < img->count; i++) {
        int fd = io_open(io, img->f[i].path, IO_OPEN_READ | IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_TRUNC);
        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(io_pwrite(io, fd, img->f[i].data, img->f[i].len, 0), (int64_t)img->f[i].len);
        ck_assert_int_eq(io_sync(io, fd), 0);
        io_close(io, fd);
    }
    io_sync_dir(io, "/");
    io_sync_dir(io, DIR);
    io_sync_dir(io, DIR "/journal-0");
}

static enum err replay_any_state(void *ctx, uint64_t plid, const uint8_t *data, uint32_t len) {
    (void)ctx, (void)plid, (void)data, (void)len;
    return OK;
}
static enum err replay_any_entry(void *ctx, const struct journal_entry *e) {
    (void)ctx, (void)e;
    return OK;
}

struct found { uint64_t last_seq; uint32_t count[LOGS_MAX]; struct model *m; bool wrong; };
static enum err found_state(void *ctx, uint64_t plid, const uint8_t *data, uint32_t len) {
    struct found *f = ctx;
    uint32_t log = len >= 16 ? load_le32(data) : UINT32_MAX;
    if (log >= f->m->logs || f->m->log[log].plid != plid) return ERR_CORRUPT;
    f->count[log] = load_le32(data + 4);
    f->wrong |= f->count[log] > f->m->log[log].count || f->m->log[log].hash[f->count[log]] != load_le64(data + 8);
    return OK;
}
static enum err found_entry(void *ctx, const struct journal_entry *e) {
    struct found *f = ctx;
    uint32_t log = e->header_len == 16 ? load_le32(e->header) : UINT32_MAX;
    if (log >= f->m->logs) return ERR_CORRUPT;
    uint32_t count = load_le32(e->header + 4);
    f->wrong |= count != f->count[log] + 1 || count > f->m->log[log].count || f->m->log[log].hash[count] != load_le64(e->header + 8);
    f->count[log] = count;
    f->last_seq = e->seq;
    return OK;
}

/* Opens the image in a world of its own. */
static enum err image_open(struct model *m, const struct image *img, struct found *f) {
    struct sim_world *w = sim_world_new(1);
    struct io *io = sim_io_create(w, 0);
    image_put(io, img);
    struct journal_config cfg = config_of(m);
    cfg.must_exist = true;
    *f = (struct found){.m = m};
    struct journal_replay h = {f, found_state, found_entry};
    struct journal *j;
    struct journal_recovery rec;
    char why[512];
    enum err err = journal_open(io, &cfg, &h, &j, &rec, why, sizeof why);
    if (err != OK) ck_assert(strlen(why) > 10);
    journal_close(j);
    io_destroy(io);
    sim_world_free(w);
    return err;
}

/* A small journal with a checkpoint in it, groups behind it, and an IDLE group at the end. */
static struct model *small_journal(uint64_t seed, uint32_t piece_bytes, bool idle) {
    struct model *m = model_fixed(seed, 1, piece_bytes, 4, 2);
    ck_assert_int_eq(model_open(m), OK);
    model_attach(m);
    for (int round = 0; round < 8; round++) {
        for (uint32_t i = 0; i < m->logs; i++) append(&m->shard[m->log[i].shard], i, ENTRY_RECORDS, (uint32_t)prng_below(&m->rnd, 40));
        ck_assert(quiet(m));
        if (round == 2 || round == 4) journal_checkpoint(m->j, false, waiter_done, m);
    }
    if (idle) {
        int64_t until = io_mono_ns(m->io) + 3 * JOURNAL_IDLE_NS;
        while (io_mono_ns(m->io) < until) turn(m, JOURNAL_IDLE_NS / 4);
        ck_assert_uint_ge(m->j->claimed_seq, m->j->content_seq);
    }
    ck_assert_uint_eq(m->waiters_done, 2);
    return m;
}

static void flip_all(bool idle, uint32_t step) {
    struct model *m = small_journal(5, 16384, idle);
    uint64_t claimed = m->j->claimed_seq;
    uint64_t reported = 0, harmless = 0;
    sim_crash(m->w, 0, SIM_LOSE_ALL);
    model_detach(m);
    struct image img = image_take(m);
    struct found whole;
    ck_assert_int_eq(image_open(m, &img, &whole), OK);
    for (uint32_t i = 0; i < m->logs; i++) ck_assert_uint_eq(whole.count[i], m->log[i].count);
    for (unsigned k = 0; k < img.count; k++) {
        for (size_t at = 0; at < img.f[k].len; at += step) {
            /* Of blocks that hold no group, a few bytes say as much as all. */
            size_t block = at / 4096 * 4096;
            bool piece = strstr(img.f[k].path, ".vj") != NULL;
            if (piece && load_le32(img.f[k].data + block) != JOURNAL_MAGIC && at % 512 != 0) continue;
            if (piece && load_le32(img.f[k].data + block) == JOURNAL_MAGIC && at - block > load_le32(img.f[k].data + block + 48) + 8)
                continue;
            uint8_t *byte = &img.f[k].data[at];
            *byte ^= (uint8_t)(1 << (at % 8));
            struct found f;
            enum err err = image_open(m, &img, &f);
            *byte ^= (uint8_t)(1 << (at % 8));
            if (err != OK) {
                ck_assert_int_eq(err, ERR_CORRUPT);
                reported++;
                continue;
            }
            harmless++;
            ck_assert_msg(!f.wrong, "%s: a flipped byte at %zu changed what is replayed", img.f[k].path, at);
            bool complete = true;
            for (uint32_t i = 0; i < m->logs; i++) complete &= f.count[i] == m->log[i].count;
            ck_assert_msg(complete || f.last_seq >= claimed, "%s: a flipped byte at %zu shortened the log without a word",
                          img.f[k].path, at);
            if (idle) ck_assert_msg(complete, "%s: a flipped byte at %zu lost what the IDLE group covers", img.f[k].path, at);
        }
    }
    ck_assert_uint_gt(reported, 100 / step);
    ck_assert_uint_gt(harmless, 100 / step);
    image_free(&img);
    model_free(m);
}

START_TEST(test_flipped_bytes_are_reported) {
    flip_all(true, 1);
    flip_all(false, 3);
}
END_TEST

/* Groups that became durable while a checkpoint ran: its footer says so, and nothing else does when all of them are gone. */
START_TEST(test_footers_vouch) {
    struct model *m = small_journal(6, 16384, false);
    m->hold_flush = true;
    journal_checkpoint(m->j, false, waiter_done, m);
    while (!m->shard[0].flush_due) turn(m, 1000000);
    append(&m->shard[0], 0, ENTRY_RECORDS, 20);
    slice_submit(&m->shard[0]);
    while (m->shard[0].small_in_flight > 0) turn(m, 1000000);
    m->hold_flush = false;
    flush_finish(&m->shard[0]);
    while (m->waiters_done < 3) turn(m, 1000000);
    uint64_t seq = m->j->checkpoint_seq;
    ck_assert_uint_gt(m->j->durable_seq, seq);
    sim_crash(m->w, 0, SIM_LOSE_ALL);
    model_detach(m);
    struct image img = image_take(m);
    struct found f;
    ck_assert_int_eq(image_open(m, &img, &f), OK);
    unsigned gone = 0;
    for (unsigned k = 0; k < img.count; k++)
        for (size_t at = 0; strstr(img.f[k].path, ".vj") != NULL && at + 4096 <= img.f[k].len; at += 4096) {
            struct journal_group g;
            if (journal_group_parse(img.f[k].data + at, img.f[k].len - at, &g) != OK || g.seq <= seq) continue;
            memset(img.f[k].data + at, 0, 4096);
            gone++;
        }
    ck_assert_uint_gt(gone, 0);
    ck_assert_int_eq(image_open(m, &img, &f), ERR_CORRUPT);
    image_free(&img);
    model_free(m);
}
END_TEST

/* Whatever is appended to the catalogue, the last footer lies in blocks that are not written again. */
START_TEST(test_footers_end_at_blocks) {
    struct model *m = model_fixed(11, 1, 16384, 4, 2);
    ck_assert_int_eq(model_open(m), OK);
    model_attach(m);
    uint64_t before = m->j->catalog.file_bytes;
    unsigned appended = 0;
    for (uint32_t round = 0; round < 60; round++) {
        append(&m->shard[0], 0, ENTRY_RECORDS, 1);
        journal_checkpoint(m->j, false, waiter_done, m);
        ck_assert(quiet(m));
        ck_assert_uint_eq(m->j->catalog.file_bytes % 4096, 0);
        appended += m->j->catalog.file_bytes > before;
        before = m->j->catalog.file_bytes;
    }
    ck_assert_uint_gt(appended, 30);
    ck_assert_uint_lt(before, 64 * 1024);
    /* Every length of what lies before a footer, and every length of its message. */
    struct catalog_footer f = {.next_plid = 1};
    static const uint8_t states[2 * 4096];
    for (uint32_t at = 0; at < sizeof states; at += 8) {
        uint32_t bytes;
        f.checkpoint_seq = (UINT64_C(1) << (at / 8 % 60)) - 1;
        uint8_t *footer = catalog_footer_build(&f, states, at, 1, at * 3, at, &bytes);
        ck_assert_uint_eq((at + bytes) % 4096, 0);
        struct catalog_record r;
        ck_assert_int_eq(catalog_record_parse(footer, bytes, 0, &r), OK);
        ck_assert_uint_eq(r.bytes, bytes);
        free(footer);
    }
    sim_crash(m->w, 0, SIM_LOSE_ALL);
    model_detach(m);
    model_free(m);
}
END_TEST

/* A catalogue as it was before footers had padding: read, and written anew with it. */
START_TEST(test_footers_without_padding_are_read) {
    struct model *m = small_journal(12, 16384, true);
    sim_crash(m->w, 0, SIM_LOSE_ALL);
    model_detach(m);
    struct image img = image_take(m);
    for (unsigned k = 0; k < img.count; k++) {
        if (strstr(img.f[k].path, "catalog") == NULL) continue;
        uint8_t *old = calloc(1, img.f[k].len), *file = img.f[k].data;
        size_t at = 0, last = 0, from = 0;
        struct catalog_record r;
        for (size_t i = 0; i < img.f[k].len; i += r.bytes) {
            ck_assert_int_eq(catalog_record_parse(file, img.f[k].len, i, &r), OK);
            if (r.type != CATALOG_FOOTER) {
                memcpy(old + at, file + i, r.bytes);
                at += r.bytes;
                continue;
            }
            Varve__Storage__CatalogFooter *f = varve__storage__catalog_footer__unpack(NULL, r.len, r.data);
            ck_assert_ptr_nonnull(f);
            ck_assert_uint_eq(f->state_bytes, at - from);
            f->padding.len = 0;
            f->previous_footer = last;
            uint8_t data[512];
            size_t len = varve__storage__catalog_footer__get_packed_size(f);
            ck_assert_uint_le(len, sizeof data);
            varve__storage__catalog_footer__pack(f, data);
            varve__storage__catalog_footer__free_unpacked(f, NULL);
            last = at;
            at += catalog_record_put(old + at, CATALOG_FOOTER, 0, data, (uint32_t)len);
            from = at;
        }
        ck_assert_uint_lt(at, img.f[k].len);
        ck_assert_uint_ne(at % 4096, 0);
        free(img.f[k].data);
        img.f[k].data = old;
        img.f[k].len = at;
    }
    struct found f;
    ck_assert_int_eq(image_open(m, &img, &f), OK);
    for (uint32_t i = 0; i < m->logs; i++) ck_assert_uint_eq(f.count[i], m->log[i].count);
    image_free(&img);
    model_free(m);
}
END_TEST

START_TEST(test_missing_files_are_reported) {
    struct model *m = small_journal(6, 16384, true);
    sim_crash(m->w, 0, SIM_LOSE_ALL);
    model_detach(m);
    struct image img = image_take(m);
    for (unsigned k = 0; k < img.count; k++) {
        struct image less = {.count = 0};
        for (unsigned i = 0; i < img.count; i++)
            if (i != k) less.f[less.count++] = img.f[i];
        struct found f;
        enum err err = image_open(m, &less, &f);
        if (err == OK)
            for (uint32_t i = 0; i < m->logs; i++) ck_assert_uint_eq(f.count[i], m->log[i].count);
        else ck_assert_int_eq(err, ERR_CORRUPT);
        if (strstr(img.f[k].path, "catalog") != NULL) ck_assert_int_eq(err, ERR_CORRUPT);
    }
    image_free(&img);
    model_free(m);
}
END_TEST

/* START is torn, the group behind it is whole, and the machine dies again: were the new START equal to the old one, the
 * group behind it would come back to life. */
START_TEST(test_salt_parts_the_lives) {
    struct model *m = small_journal(7, 131072, true);
    sim_crash(m->w, 0, SIM_LOSE_ALL);
    model_detach(m);
    ck_assert_int_eq(model_open(m), OK); /* START of life 2 */
    struct journal_pos start = {m->j->head.piece, m->j->head.offset - 4096};
    ck_assert_uint_le(start.offset + 8192, m->piece_bytes);
    uint64_t seed = m->j->seed;
    model_attach(m);
    append(&m->shard[0], 0, ENTRY_RECORDS, 10);
    ck_assert(quiet(m));
    sim_crash(m->w, 0, SIM_LOSE_ALL);
    model_detach(m);
    struct image img = image_take(m);
    char path[128];
    journal_piece_path(path, sizeof path, DIR, 0, start.piece);
    for (unsigned k = 0; k < img.count; k++) {
        if (strcmp(img.f[k].path, path) != 0) continue;
        uint8_t *torn = img.f[k].data + start.offset, *behind = torn + 4096;
        memset(torn, 0xee, 512);
        struct journal_group g;
        ck_assert_int_eq(journal_group_parse(behind, 4096, &g), OK);
        ck_assert_uint_eq(g.entries, 1);
        g.durable_seq = g.seq - 2; /* submitted together with START */
        journal_group_seal(behind, &g, seed);
        if (behind + 8192 <= img.f[k].data + img.f[k].len) memset(behind + 4096, 0, 4096);
    }
    struct sim_world *w = sim_world_new(99);
    struct io *io = sim_io_create(w, 0);
    image_put(io, &img);
    struct journal_config cfg = config_of(m);
    for (int life = 0; life < 2; life++) {
        struct found f = {.m = m};
        struct journal_replay h = {&f, found_state, found_entry};
        struct journal *j;
        struct journal_recovery rec;
        char why[512] = "";
        ck_assert_msg(journal_open(io, &cfg, &h, &j, &rec, why, sizeof why) == OK, "%s", why);
        ck_assert_uint_eq(f.count[0], m->log[0].count - 1);
        journal_close(j);
    }
    io_destroy(io);
    sim_world_free(w);
    image_free(&img);
    model_free(m);
}
END_TEST

/* ---- failures ----------------------------------------------------------------------------------------- */

/* One fault somewhere in a busy life: all that was reported before is there after a crash; nothing is reported after. */
static bool fault_run(uint64_t seed, const struct sim_fault *fault, bool must_latch) {
    struct model *m = model_fixed(seed, 2, 16384, 6, 2);
    ck_assert_int_eq(model_open(m), OK);
    model_attach(m);
    for (int i = 0; i < 30; i++) random_action(m);
    m->expect_failure = true;
    sim_fault(m->w, 0, fault);
    for (int i = 0; i < 3000 && m->failed == OK; i++) random_action(m);
    if (must_latch) ck_assert_int_eq(m->failed, ERR_IO);
    for (int i = 0; i < 300; i++) random_action(m);
    if (m->failed != OK)
        for (int i = 0; i < 50; i++) turn(m, 1000000);
    bool latched = m->failed != OK;
    for (uint32_t i = 0; latched && i < m->shards; i++) ck_assert_uint_eq(m->shard[i].reported, m->shard[i].submitted);
    sim_faults_clear(m->w, 0);
    m->expect_failure = false;
    sim_crash(m->w, 0, any_policy(m));
    model_detach(m);
    for (int times = 0; times < 2; times++) { /* what was found the first time stays found */
        reopen_until_up(m, false);
        model_attach(m);
        quiet(m);
        sim_crash(m->w, 0, SIM_LOSE_ALL);
        model_detach(m);
    }
    model_free(m);
    return latched;
}

START_TEST(test_failures_latch) {
    unsigned short_writes = 0;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        fault_run(seed, &(struct sim_fault){.call = SIM_WRITE, .path_part = ".vj", .result = -EIO, .skip = seed}, true);
        /* Of a group: final. While a new piece is made: only a full disk. */
        short_writes += fault_run(seed, &(struct sim_fault){.call = SIM_WRITE, .path_part = ".vj", .result = 512, .skip = seed}, false);
        fault_run(seed, &(struct sim_fault){.call = SIM_SYNC, .path_part = "catalog", .result = -EIO}, true);
        fault_run(seed, &(struct sim_fault){.call = SIM_WRITE, .path_part = "catalog", .result = -EIO}, true);
        fault_run(seed, &(struct sim_fault){.call = SIM_WRITE, .path_part = "catalog", .result = -ENOSPC, .times = 2}, false);
        fault_run(seed, &(struct sim_fault){.call = SIM_WRITE, .path_part = "catalog", .result = 100}, false);
        fault_run(seed, &(struct sim_fault){.call = SIM_RENAME, .path_part = "catalog", .result = -EIO}, false);
    }
    ck_assert_uint_gt(short_writes, 3);
}
END_TEST

/* A full disk is not final: records stop, and go on when there is space. */
START_TEST(test_full_disk_passes) {
    struct model *m = model_fixed(3, 2, 16384, 8, 2);
    ck_assert_int_eq(model_open(m), OK);
    model_attach(m);
    for (int i = 0; i < 30; i++) random_action(m);
    ck_assert(quiet(m));
    sim_disk_capacity(m->w, 0, 40000);
    int64_t until = io_mono_ns(m->io) + 3 * JOURNAL_RETRY_NS;
    while (io_mono_ns(m->io) < until) {
        random_action(m);
        turn(m, 1000000);
    }
    ck_assert_int_eq(journal_pressure(m->j), 3);
    ck_assert_int_eq(m->failed, OK);
    sim_disk_capacity(m->w, 0, UINT64_C(1) << 30);
    ck_assert(quiet(m));
    until = io_mono_ns(m->io) + 3 * JOURNAL_RETRY_NS;
    while (io_mono_ns(m->io) < until) turn(m, 1000000);
    ck_assert_int_eq(journal_pressure(m->j), 0);
    uint32_t done = m->waiters_done;
    journal_checkpoint(m->j, false, waiter_done, m);
    ck_assert(quiet(m));
    ck_assert_uint_eq(m->waiters_done, done + 1);
    sim_crash(m->w, 0, SIM_LOSE_ALL);
    model_detach(m);
    reopen_until_up(m, false);
    model_attach(m);
    sim_crash(m->w, 0, SIM_LOSE_ALL);
    model_detach(m);
    model_free(m);
}
END_TEST

/* ---- levels ------------------------------------------------------------------------------------------- */

/* Shards that do not flush: the journal fills, slows, stops records, still takes what is urgent, and recovers. */
START_TEST(test_levels) {
    struct model *m = model_fixed(4, 2, 32768, 8, 2);
    ck_assert_int_eq(model_open(m), OK);
    model_attach(m);
    m->hold_flush = true;
    uint64_t capacity = journal_capacity(m->j);
    ck_assert_uint_eq(capacity, 7 * 32768);
    bool slow = false;
    for (int i = 0; i < 5000 && journal_pressure(m->j) < 2; i++) {
        slow |= journal_pressure(m->j) == 1;
        uint32_t log = (uint32_t)i % m->logs;
        struct model_shard *sh = &m->shard[m->log[log].shard];
        append(sh, log, ENTRY_RECORDS, 1000);
        if (sh->small_in_flight == 0) slice_submit(sh);
        turn(m, 500000);
        if (m->j->chain_bytes > capacity / 8 * 5) ck_assert_uint_gt(m->cuts, 0);
        if (m->j->chain_bytes < capacity / 8 * 3) ck_assert_uint_eq(m->cuts, 0);
    }
    ck_assert(slow);
    ck_assert_int_eq(journal_pressure(m->j), 2);
    ck_assert_uint_eq(m->checkpoints_done, 0);
    for (int i = 0; i < 200; i++) turn(m, 1000000);
    /* Records wait, in the queue; votes of the other shard do not. */
    uint64_t before = m->j->next_seq;
    append(&m->shard[0], 0, ENTRY_RECORDS, 8000);
    append(&m->shard[0], 0, ENTRY_RECORDS, 8000);
    while (m->shard[0].open != NULL) slice_submit(&m->shard[0]);
    append(&m->shard[1], 1, ENTRY_VOTE, 8);
    slice_submit(&m->shard[1]);
    for (int i = 0; i < 20; i++) turn(m, 1000000);
    ck_assert_uint_eq(m->shard[1].small_in_flight, 0);
    ck_assert_uint_gt(m->j->next_seq, before);
    ck_assert_uint_gt(m->shard[0].small_in_flight, 0);
    ck_assert_uint_le(journal_used(m->j), capacity);
    /* The flush of a shard may wait for a truncation, which lies behind records: they go before it, into the reserve. */
    append(&m->shard[0], 0, ENTRY_TRUNCATE, 8);
    slice_submit(&m->shard[0]);
    for (int i = 0; i < 20; i++) turn(m, 1000000);
    ck_assert_uint_eq(m->shard[0].small_in_flight, 0);
    /* The checkpoint goes on. */
    m->hold_flush = false;
    for (uint32_t i = 0; i < m->shards; i++) {
        if (m->shard[i].flush_due) flush_finish(&m->shard[i]);
        m->shard[i].flush_due = false;
    }
    ck_assert(quiet(m));
    ck_assert_uint_gt(m->checkpoints_done, 0);
    ck_assert_int_eq(journal_pressure(m->j), 0);
    ck_assert_uint_lt(journal_live_bytes(m->j), capacity / 2);
    sim_crash(m->w, 0, SIM_LOSE_ALL);
    model_detach(m);
    reopen_until_up(m, false);
    model_attach(m);
    sim_crash(m->w, 0, SIM_LOSE_ALL);
    model_detach(m);
    model_free(m);
}
END_TEST

/* ---- the rest ------------------------------------------------------------------------------------------- */

START_TEST(test_large_groups_are_written_in_parts) {
    struct model *m = model_fixed(8, 1, 4u << 20, 4, 2);
    ck_assert_int_eq(model_open(m), OK);
    model_attach(m);
    append(&m->shard[0], 0, ENTRY_RECORDS, journal_body_max(m->j));
    struct journal_slice *s = &m->shard[0].open->s;
    enum err err;
    ck_assert_ptr_null(journal_slice_add(s, ENTRY_RECORDS, 0, 1, 16, journal_body_max(m->j) + 1, &err));
    ck_assert_int_eq(err, ERR_TOO_LARGE);
    ck_assert_ptr_null(journal_slice_add(s, ENTRY_RECORDS, 0, 1, 16, 1, &err));
    ck_assert_int_eq(err, ERR_FULL);
    slice_submit(&m->shard[0]);
    uint32_t parts = 0;
    for (int i = 0; i < 1000 && m->shard[0].small_in_flight > 0; i++) { /* pieces are made first, then a LINK leads there */
        for (const struct group *g = m->j->in_flight; g != NULL; g = g->next) parts = MAX(parts, g->writes_pending);
        turn(m, 10000000);
    }
    ck_assert_uint_eq(parts, ((4u << 20) - 1) / JOURNAL_WRITE_BYTES + 1);
    append(&m->shard[0], 0, ENTRY_RECORDS, 100);
    ck_assert(quiet(m));
    ck_assert_uint_eq(m->log[0].durable, 2);
    sim_crash(m->w, 0, SIM_LOSE_ALL);
    model_detach(m);
    reopen_until_up(m, false);
    ck_assert_uint_eq(m->log[0].found, 2);
    model_attach(m);
    sim_crash(m->w, 0, SIM_LOSE_ALL);
    model_detach(m);
    model_free(m);
}
END_TEST

START_TEST(test_clean_stop_and_plids) {
    struct model *m = model_fixed(9, 2, 16384, 4, 2);
    ck_assert_int_eq(model_open(m), OK);
    ck_assert(m->rec.fresh && !m->rec.clean);
    model_attach(m);
    for (uint32_t i = 0; i < m->logs; i++) append(&m->shard[m->log[i].shard], i, ENTRY_RECORDS, 50);
    ck_assert(quiet(m));
    journal_checkpoint(m->j, true, waiter_done, m);
    ck_assert(quiet(m));
    ck_assert_uint_eq(m->waiters_done, 1);
    uint64_t plid = journal_new_plid(m->j);
    model_detach(m); /* nothing is in flight */
    ck_assert_int_eq(model_open(m), OK);
    ck_assert(!m->rec.fresh && m->rec.clean);
    model_attach(m);
    /* Given out after the footer and never used in an entry: may come again. Used in a CREATE: never. */
    ck_assert_uint_eq(journal_new_plid(m->j), plid);
    m->log[0].plid = plid;
    append(&m->shard[m->log[0].shard], 0, ENTRY_CREATE, 0);
    ck_assert(quiet(m));
    sim_crash(m->w, 0, SIM_LOSE_ALL);
    model_detach(m);
    m->log[0].found = 0;
    ck_assert_int_eq(journal_open(m->io = sim_io_create(m->w, 0), &(struct journal_config){.dir = DIR, .set = 2, .bytes = 1 << 20,
                     .piece_bytes = 16384, .depth = 1, .shards = 1}, &(struct journal_replay){m, replay_any_state, replay_any_entry},
                     &m->j, &m->rec, m->why, sizeof m->why), ERR_CORRUPT); /* another journal set */
    struct journal_config cfg = config_of(m);
    ck_assert_int_eq(journal_open(m->io, &cfg, &(struct journal_replay){m, replay_any_state, replay_any_entry}, &m->j, &m->rec, m->why,
                                  sizeof m->why), OK);
    ck_assert(!m->rec.clean);
    ck_assert_uint_gt(journal_new_plid(m->j), plid);
    journal_close(m->j);
    io_destroy(m->io);
    model_free(m);
}
END_TEST

START_TEST(test_write_now) {
    struct model *m = model_fixed(10, 1, 16384, 4, 2);
    m->logs = 1;
    m->log[0].plid = 1;
    for (int life = 0; life < 3; life++) {
        ck_assert_int_eq(model_open(m), OK);
        adopt_found(m);
        m->shard[0].m = m;
        for (int i = 0; i < 6; i++) { /* across pieces */
            append(&m->shard[0], 0, ENTRY_IMAGE, 3000);
            struct model_slice *ms = m->shard[0].open;
            ck_assert_int_eq(journal_write_now(m->j, &ms->s), OK);
            ck_assert_uint_eq(ms->s.seq, m->j->durable_seq);
            m->log[0].durable = m->log[0].count;
            uint8_t *block = NULL;
            ck_assert_int_eq(posix_memalign((void **)&block, 4096, 4096), 0);
            ck_assert_int_eq(io_pread(m->io, journal_fd(m->j, ms->s.pos.piece), block, 4096, ms->s.pos.offset / 4096 * 4096), 4096);
            ck_assert_int_eq(memcmp(block + ms->s.pos.offset % 4096, ms->s.buf->data + JOURNAL_GROUP_HEADER_BYTES, 2000), 0);
            free(block);
            buf_unref(ms->s.buf);
            ms->finished = true;
            m->shard[0].open = NULL;
        }
        sim_crash(m->w, 0, SIM_LOSE_ALL);
        journal_close(m->j);
        io_destroy(m->io);
    }
    ck_assert_uint_eq(m->log[0].count, 18);
    model_free(m);
}
END_TEST

START_TEST(test_meta) {
    struct sim_world *w = sim_world_new(1);
    struct io *io = sim_io_create(w, 0);
    io_mkdir(io, DIR);
    struct meta m = {.node_id = 7, .journal_set = 1, .journals = 1}, back;
    memset(m.cluster_id.b, 0xaa, 16);
    memset(m.incarnation.b, 0xbb, 16);
    char why[256];
    ck_assert_int_eq(meta_load(io, DIR, &back, why, sizeof why), ERR_NOT_FOUND);
    ck_assert_int_eq(meta_store(io, DIR, &m), OK);
    for (uint32_t at = 0; at < 40; at++) { /* one copy bad: healed */
        sim_file_flip(w, 0, DIR "/varve.meta", at, 4);
        ck_assert_int_eq(meta_load(io, DIR, &back, why, sizeof why), OK);
        ck_assert_int_eq(back.node_id, 7);
        ck_assert(uuid_eq(&back.cluster_id, &m.cluster_id) && uuid_eq(&back.incarnation, &m.incarnation));
        uint8_t *file;
        size_t len;
        int bad = -1;
        ck_assert_int_eq(io_read_file(io, DIR "/varve.meta", 1 << 20, &file, &len), 0);
        ck_assert_int_eq(meta_parse(file, len, &back, &bad), OK);
        ck_assert_int_eq(bad, 0);
        free(file);
    }
    ck_assert_uint_gt(back.sequence, 40);
    sim_file_flip(w, 0, DIR "/varve.meta", 30, 4);
    sim_file_flip(w, 0, DIR "/varve.meta", 4096 + 30, 4);
    ck_assert_int_eq(meta_load(io, DIR, &back, why, sizeof why), ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(why, "varve.meta"));
    io_destroy(io);
    sim_world_free(w);
}
END_TEST

/* By themselves, so that CK_RUN_CASE can choose. */
static void case_add(Suite *s, const char *name, const TTest *test) {
    TCase *t = tcase_create(name);
    tcase_set_timeout(t, 0);
    tcase_add_test(t, test);
    suite_add_tcase(s, t);
}

static Suite *suite(void) {
    Suite *s = suite_create("journal");
    case_add(s, "random", test_random_crashes);
    case_add(s, "every", test_every_crash_point);
    case_add(s, "syncs", test_failed_syncs_prove_nothing);
    case_add(s, "copies", test_copies_need_no_space);
    case_add(s, "again", test_copies_hold_what_was_replayed);
    case_add(s, "flip", test_flipped_bytes_are_reported);
    case_add(s, "vouch", test_footers_vouch);
    case_add(s, "footers", test_footers_end_at_blocks);
    case_add(s, "old", test_footers_without_padding_are_read);
    case_add(s, "missing", test_missing_files_are_reported);
    case_add(s, "salt", test_salt_parts_the_lives);
    case_add(s, "failures", test_failures_latch);
    case_add(s, "full", test_full_disk_passes);
    case_add(s, "levels", test_levels);
    case_add(s, "large", test_large_groups_are_written_in_parts);
    case_add(s, "clean", test_clean_stop_and_plids);
    case_add(s, "now", test_write_now);
    case_add(s, "meta", test_meta);
    return s;
}

int main(void) {
    mutant_choose();
    trace_setup(TRACE_INFO, TRACE_TEXT, getenv("VARVE_TRACE") != NULL ? 2 : -1);
    SRunner *r = srunner_create(suite());
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    if (failed != 0) printf("last seed of the random runs: %llu\n", (unsigned long long)last_seed);
    return failed != 0;
}
