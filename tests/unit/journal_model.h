/* journal_model.h - a model of shards over the journal, for test_journal.c.
 *
 * It appends numbered entries to logs, answers checkpoints, dies at any disk operation and recovers. What it
 * demands all the time, and after each recovery:
 *   J1  slices are reported durable in order, with group numbers that only grow
 *   J2  what is replayed on top of the catalogue is, for every log, a prefix of what was appended, of the present timeline,
 *       that holds everything reported durable; slices are whole or absent
 *   J4  follows from J2: a piece that was freed too early loses entries above the footer
 *   J5  follows from J2 with torn writes */
#ifndef JOURNAL_MODEL_H
#define JOURNAL_MODEL_H
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/bytes.h"
#include "base/trace.h"
#include "log/catalog_impl.h"
#include "log/journal_impl.h"
#include "log/meta.h"
#include "tests/sim/io_sim.h"
#include "tests/sim/prng.h"

#define DIR "/data"
/* What the random runs must have seen to be worth anything. */
static struct {
    uint64_t crashes, recovery_crashes, recovery_faults, checkpoints, rewrites, recycled, stops, held, joined, images;
} seen;
enum { SHARDS_MAX = 3, LOGS_MAX = 24, ENTRIES_MAX = 4000, SLICES_MAX = 4096 };

/* ---- the model ---------------------------------------------------------------------------------- */

struct model_log {
    uint64_t plid;
    uint32_t shard;
    uint32_t count;                       /* entries appended in the present timeline */
    uint32_t durable;                     /* of them, reported */
    uint64_t hash[ENTRIES_MAX + 1];       /* of the first n entries */
    bool dirty;
    /* recovery */
    uint32_t found;
    bool stated;
};

struct model_slice {
    struct journal_slice s;
    struct model *m;
    bool used, finished;
    uint32_t order;                       /* of submission, per shard */
    uint32_t log_end[LOGS_MAX];           /* count of each log behind this slice; 0: not in it */
    bool image;
};

struct model_shard {
    struct model *m;
    uint32_t index;
    struct mailbox own, *mailbox;
    struct model_slice *open;
    uint32_t submitted, reported, small_in_flight;
    uint64_t last_seq;                    /* reported */
    struct journal_states states;
    uint32_t cut_count[LOGS_MAX];         /* as of the cut */
    bool cut_dirty[LOGS_MAX];
    bool flush_due;                       /* held back by the test */
    bool failed;
};

struct model {
    struct sim_world *w;
    struct io *io;
    struct mailbox mailbox;
    struct timers timers;
    struct journal *j;
    struct prng rnd;
    uint32_t shards, piece_bytes, pieces, depth;
    bool direct;
    struct model_shard shard[SHARDS_MAX];
    struct model_log log[LOGS_MAX];
    uint32_t logs;
    struct model_slice slice[SLICES_MAX];
    uint32_t slices;
    uint64_t nonce;
    uint64_t plid_high;
    uint64_t ck_seq;                      /* S of the checkpoint that is being flushed */
    uint32_t checkpoints_done, cuts, waiters_done;
    enum err failed;
    bool expect_failure;
    bool hold_flush;                      /* shards do not answer checkpoint_flush */
    bool dead;                            /* crashed, to be opened again */
    struct journal_recovery rec;
    char why[512];
    uint64_t replay_seq;
};

static struct model *model_new(uint64_t seed) {
    struct model *m = calloc(1, sizeof *m);
    m->w = sim_world_new(seed);
    m->rnd.state = seed * 77 + 1;
    m->shards = 1 + (uint32_t)prng_below(&m->rnd, SHARDS_MAX);
    m->piece_bytes = 4096u << (2 + prng_below(&m->rnd, 4));
    m->pieces = 4 + (uint32_t)prng_below(&m->rnd, 8);
    m->depth = 1 + (uint32_t)prng_below(&m->rnd, 3);
    m->direct = prng_below(&m->rnd, 4) != 0;
    return m;
}

static struct model *model_fixed(uint64_t seed, uint32_t shards, uint32_t piece_bytes, uint32_t pieces, uint32_t depth) {
    struct model *m = model_new(seed);
    m->shards = shards;
    m->piece_bytes = piece_bytes;
    m->pieces = pieces;
    m->depth = depth;
    m->direct = true;
    return m;
}

static void model_free(struct model *m) {
    sim_world_free(m->w);
    free(m);
}

static bool down(const struct model *m) { return m->dead || sim_crashed(m->w, 0); }

static uint64_t mix(uint64_t a, uint64_t b) {
    a ^= b + 0x9e3779b97f4a7c15u + (a << 6) + (a >> 2);
    a *= 0xff51afd7ed558ccdu;
    return a ^ (a >> 33);
}

/* ---- shards: filling and submitting ---------------------------------------------------------------- */

static void slice_done(struct journal_slice *s);
static void flush_finish(struct model_shard *sh);

static struct model_slice *slice_open(struct model_shard *sh) {
    if (sh->open != NULL) return sh->open;
    struct model *m = sh->m;
    ck_assert_uint_lt(m->slices, SLICES_MAX);
    struct model_slice *ms = &m->slice[m->slices++];
    *ms = (struct model_slice){.m = m, .used = true};
    ms->s.done = slice_done;
    ms->s.owner = sh;
    ck_assert_int_eq(journal_slice_init(&ms->s, m->j, sh->index), OK);
    return sh->open = ms;
}

static void slice_submit(struct model_shard *sh) {
    struct model_slice *ms = sh->open;
    sh->open = NULL;
    ms->order = ++sh->submitted;
    sh->small_in_flight++;
    journal_submit(sh->m->j, &ms->s);
}

/* header: log number u32, count u32, hash u64; body: bytes that the hash determines. */
static void append(struct model_shard *sh, uint32_t log, enum entry_type type, uint32_t body_len) {
    struct model *m = sh->m;
    struct model_log *l = &m->log[log];
    if (l->count == ENTRIES_MAX) return;
    for (;;) {
        struct model_slice *ms = slice_open(sh);
        enum err err;
        uint8_t *p = journal_slice_add(&ms->s, type, 0, l->plid, 16, body_len, &err);
        if (p == NULL) {
            ck_assert_int_eq(err, ERR_FULL);
            slice_submit(sh);
            continue;
        }
        uint64_t hash = mix(mix(l->hash[l->count], ++m->nonce), body_len);
        l->hash[++l->count] = hash;
        l->dirty = true;
        ms->log_end[log] = l->count;
        store_le32(p, log);
        store_le32(p + 4, l->count);
        store_le64(p + 8, hash);
        for (uint32_t i = 0; i < body_len; i++) p[16 + i] = (uint8_t)(hash >> (i % 8 * 8));
        return;
    }
}

static void slice_done(struct journal_slice *s) {
    struct model_slice *ms = CONTAINER_OF(s, struct model_slice, s);
    struct model_shard *sh = s->owner;
    struct model *m = sh->m;
    ck_assert(!ms->finished);
    ms->finished = true;
    sh->small_in_flight--;
    ck_assert_uint_eq(ms->order, sh->reported + 1);
    sh->reported = ms->order;
    if (s->err != OK) {
        ck_assert(down(m) || m->expect_failure);
        sh->failed = true;
        return;
    }
    ck_assert(!sh->failed);
    ck_assert_uint_ge(s->seq, sh->last_seq);
    sh->last_seq = s->seq;
    for (uint32_t i = 0; i < m->logs; i++)
        if (ms->log_end[i] > m->log[i].durable) m->log[i].durable = ms->log_end[i];
    if (ms->image) flush_finish(sh);
}

/* ---- shards: checkpoints ---------------------------------------------------------------------------- */

static void on_cut(void *ctx) {
    struct model_shard *sh = ctx;
    struct model *m = sh->m;
    m->cuts++;
    struct model_slice *ms = slice_open(sh);
    ms->s.cut = true;
    for (uint32_t i = 0; i < m->logs; i++) {
        sh->cut_count[i] = m->log[i].count;
        sh->cut_dirty[i] = m->log[i].shard == sh->index && m->log[i].dirty;
        if (sh->cut_dirty[i]) m->log[i].dirty = false;
    }
    slice_submit(sh);
}

/* state: log number u32, count u32, hash u64, then filler */
static void flush_finish(struct model_shard *sh) {
    struct model *m = sh->m;
    sh->states = (struct journal_states){.v = calloc(LOGS_MAX, sizeof(struct journal_state)), .shard = sh->index};
    for (uint32_t i = 0; i < m->logs; i++) {
        if (!sh->cut_dirty[i]) continue;
        uint32_t len = 16 + (uint32_t)prng_below(&m->rnd, 400);
        uint8_t *data = calloc(1, len);
        store_le32(data, i);
        store_le32(data + 4, sh->cut_count[i]);
        store_le64(data + 8, m->log[i].hash[sh->cut_count[i]]);
        sh->states.v[sh->states.count++] = (struct journal_state){m->log[i].plid, data, len};
    }
    journal_checkpoint_flushed(m->j, &sh->states);
}

static void on_flush(void *ctx, uint64_t seq) {
    struct model_shard *sh = ctx;
    struct model *m = sh->m;
    m->ck_seq = seq;
    /* S is durable: all that was in the cut has been reported. */
    for (uint32_t i = 0; i < m->logs; i++)
        if (m->log[i].shard == sh->index) ck_assert_uint_ge(m->log[i].durable, sh->cut_count[i]);
    sh->flush_due = m->hold_flush;
    if (sh->flush_due) return;
    uint32_t log = (uint32_t)prng_below(&m->rnd, m->logs);
    if (m->log[log].shard != sh->index || prng_below(&m->rnd, 2)) {
        flush_finish(sh);
        return;
    }
    append(sh, log, ENTRY_IMAGE, (uint32_t)prng_below(&m->rnd, 2000));
    if (sh->open == NULL) {
        flush_finish(sh);
        return;
    }
    sh->open->image = true;
    seen.images++;
    slice_submit(sh);
}

static void on_done(void *ctx, enum err err) {
    struct model_shard *sh = ctx;
    ck_assert_int_eq(err, OK);
    sh->m->checkpoints_done++;
    seen.checkpoints++;
}
static void on_pressure(void *ctx) { (void)ctx; }
static void on_failed(void *ctx, enum err err) {
    struct model_shard *sh = ctx;
    ck_assert_int_ne(err, OK);
    ck_assert(down(sh->m) || sh->m->expect_failure);
}
static const struct journal_shard_ops ops = {on_cut, on_flush, on_done, on_pressure, on_failed};

static void on_latched(void *ctx, enum err err, const char *what) {
    struct model *m = ctx;
    ck_assert(down(m) || m->expect_failure);
    ck_assert_ptr_nonnull(what);
    ck_assert_int_eq(m->failed, OK);
    m->failed = err;
}

/* ---- recovery ---------------------------------------------------------------------------------------- */

static enum err replay_state(void *ctx, uint64_t plid, const uint8_t *data, uint32_t len) {
    struct model *m = ctx;
    ck_assert_uint_ge(len, 16);
    uint32_t log = load_le32(data), count = load_le32(data + 4);
    ck_assert_uint_lt(log, m->logs);
    struct model_log *l = &m->log[log];
    ck_assert_uint_eq(l->plid, plid);
    ck_assert(!l->stated);
    l->stated = true;
    ck_assert_msg(count <= l->count && l->hash[count] == load_le64(data + 8), "a state of another timeline");
    l->found = count;
    return OK;
}

static enum err replay_entry(void *ctx, const struct journal_entry *e) {
    struct model *m = ctx;
    ck_assert_uint_ge(e->seq, m->replay_seq);
    m->replay_seq = e->seq;
    ck_assert_uint_eq(e->header_len, 16);
    uint32_t log = load_le32(e->header), count = load_le32(e->header + 4);
    uint64_t hash = load_le64(e->header + 8);
    ck_assert_uint_lt(log, m->logs);
    struct model_log *l = &m->log[log];
    ck_assert_uint_eq(l->plid, e->plid);
    ck_assert_msg(count == l->found + 1, "log %u: entry %u follows %u", log, count, l->found);
    ck_assert_msg(count <= l->count && l->hash[count] == hash, "log %u: entry %u of another timeline", log, count);
    bool same = true;
    for (uint32_t i = 0; i < e->body_len; i++) same &= e->body[i] == (uint8_t)(hash >> (i % 8 * 8));
    ck_assert(same);
    l->found = count;
    return OK;
}

static struct journal_config config_of(struct model *m) {
    return (struct journal_config){.dir = DIR, .index = 0, .set = 1, .bytes = (uint64_t)m->pieces * m->piece_bytes,
                                   .piece_bytes = m->piece_bytes, .depth = m->depth, .shards = m->shards, .direct = m->direct,
                                   .failed = on_latched, .ctx = m};
}

static enum err model_open(struct model *m) {
    m->dead = false;
    m->io = sim_io_create(m->w, 0);
    ck_assert_ptr_nonnull(m->io);
    int rc = io_mkdir(m->io, DIR);
    ck_assert(rc == 0 || rc == -EEXIST || down(m));
    if (!down(m)) io_sync_dir(m->io, "/");
    for (uint32_t i = 0; i < LOGS_MAX; i++) {
        m->log[i].found = 0;
        m->log[i].stated = false;
    }
    m->replay_seq = 0;
    m->failed = OK;
    struct journal_config cfg = config_of(m);
    struct journal_replay h = {m, replay_state, replay_entry};
    return journal_open(m->io, &cfg, &h, &m->j, &m->rec, m->why, sizeof m->why);
}

/* What was found becomes the model's present. */
static void adopt_found(struct model *m) {
    for (uint32_t i = 0; i < m->logs; i++) {
        struct model_log *l = &m->log[i];
        ck_assert_msg(l->found >= l->durable, "log %u: %u entries were durable, %u are left", i, l->durable, l->found);
        l->count = l->durable = l->found;
        l->dirty = true;
    }
    /* Slices are whole or absent. */
    for (uint32_t i = 0; i < m->slices; i++) {
        int present = -1;
        for (uint32_t k = 0; k < m->logs; k++) {
            if (m->slice[i].log_end[k] == 0) continue;
            int here = m->slice[i].log_end[k] <= m->log[k].count;
            ck_assert(present < 0 || present == here);
            present = here;
        }
    }
    m->slices = 0;
    for (uint32_t i = 0; i < m->shards; i++) m->shard[i] = (struct model_shard){0};
}

static void model_attach(struct model *m) {
    adopt_found(m);
    if (m->logs == 0) {
        m->logs = m->shards + (uint32_t)prng_below(&m->rnd, 6);
        for (uint32_t i = 0; i < m->logs; i++) {
            m->log[i].shard = i % m->shards;
            m->log[i].plid = journal_new_plid(m->j);
        }
    }
    mailbox_init(&m->mailbox, m->io);
    timers_init(&m->timers);
    for (uint32_t i = 0; i < m->shards; i++) {
        struct model_shard *sh = &m->shard[i];
        sh->m = m;
        sh->index = i;
        mailbox_init(&sh->own, m->io);
        sh->mailbox = i == 0 ? &m->mailbox : &sh->own; /* the others are reached by mail */
        journal_attach_shard(m->j, i, sh->mailbox, &ops, sh);
    }
    journal_attach(m->j, m->io, &m->mailbox, &m->timers);
}

static void model_detach(struct model *m) {
    m->dead = true;
    for (int i = 0; i < 4; i++) { /* nobody is left to deliver to: what mails carry goes back to its owner */
        mailbox_drain(&m->mailbox);
        for (uint32_t k = 0; k < m->shards; k++) mailbox_drain(&m->shard[k].own);
    }
    journal_close(m->j);
    m->j = NULL;
    timers_free(&m->timers);
    for (uint32_t i = 0; i < m->slices; i++) {
        if (m->slice[i].finished) continue;
        buf_unref(m->slice[i].s.buf);
        m->slice[i].s.buf = NULL;
    }
    io_destroy(m->io);
    m->io = NULL;
}

/* ---- running ----------------------------------------------------------------------------------------- */

static void look(const struct model *m) {
    seen.held += m->j->held.count > 0;
    seen.stops += journal_pressure(m->j) >= 2;
    seen.rewrites += m->j->catalog.rewriting;
    for (const struct group *g = m->j->in_flight; g != NULL; g = g->next) {
        seen.joined += g->slices.count > 1;
    }
    if (m->j->chain_bytes > 2 * (uint64_t)m->j->piece_count * m->piece_bytes) seen.recycled++;
}

static int turn(struct model *m, int64_t wait_ns) {
    look(m);
    mailbox_drain(&m->mailbox);
    for (uint32_t i = 0; i < m->shards; i++) mailbox_drain(&m->shard[i].own);
    timers_run(&m->timers, io_mono_ns(m->io));
    int64_t deadline = io_mono_ns(m->io) + wait_ns;
    deadline = MIN(deadline, timers_next(&m->timers));
    bool mail = !mailbox_empty(&m->mailbox);
    for (uint32_t i = 0; i < m->shards; i++) mail |= !mailbox_empty(&m->shard[i].own);
    return io_turn(m->io, mail ? 0 : deadline);
}

static void waiter_done(void *ctx, enum err err) {
    struct model *m = ctx;
    if (err == OK) m->waiters_done++;
    else ck_assert(down(m) || m->expect_failure);
}

static void random_action(struct model *m) {
    struct model_shard *sh = &m->shard[prng_below(&m->rnd, m->shards)];
    uint32_t log = (uint32_t)prng_below(&m->rnd, m->logs);
    sh = &m->shard[m->log[log].shard];
    uint64_t what = prng_below(&m->rnd, 100);
    if (what < 60) {
        if (journal_pressure(m->j) >= 2) return;
        uint32_t max = journal_body_max(m->j);
        uint32_t len = (uint32_t)prng_below(&m->rnd, 300);
        if (prng_below(&m->rnd, 10) == 0) len = (uint32_t)prng_below(&m->rnd, MIN(m->piece_bytes / 4, max));
        if (prng_below(&m->rnd, 80) == 0) len = (uint32_t)prng_below(&m->rnd, max + 1);
        append(sh, log, ENTRY_RECORDS, len);
    } else if (what < 64) {
        if (journal_used(m->j) < journal_capacity(m->j)) append(sh, log, ENTRY_VOTE, 8);
    } else if (what < 90) {
        if (sh->open != NULL && sh->small_in_flight == 0) slice_submit(sh);
    } else if (what < 91) {
        journal_checkpoint(m->j, false, waiter_done, m);
    } else {
        turn(m, (int64_t)prng_below(&m->rnd, 3000000));
    }
}

/* Everything submitted, nothing in flight. */
static bool quiet(struct model *m) {
    for (int i = 0; i < 20000 && !down(m); i++) {
        bool busy = m->j->ck.phase != CHECKPOINT_NONE || m->j->maker.active;
        for (uint32_t k = 0; k < m->shards; k++) {
            struct model_shard *sh = &m->shard[k];
            if (sh->open != NULL && sh->small_in_flight == 0) slice_submit(sh);
            busy |= sh->open != NULL || sh->small_in_flight > 0;
        }
        if (!busy && i > 3) return true;
        int rc = turn(m, 1000000);
        ck_assert_msg(rc >= 0 || down(m), "turn: %d", rc);
    }
    ck_assert_msg(down(m), "the journal does not come to rest");
    return false;
}

static enum sim_crash_policy any_policy(struct model *m) { return (enum sim_crash_policy)prng_below(&m->rnd, SIM_KILLED + 1); }

/* One sync of the recovery to come fails: of a file or, more rarely, of a folder. */
static void sync_fails(struct model *m) {
    enum sim_call call = prng_below(&m->rnd, 4) ? SIM_SYNC : SIM_SYNC_DIR;
    sim_fault(m->w, 0, &(struct sim_fault){.call = call, .skip = prng_below(&m->rnd, 8), .times = 1, .result = -EIO});
}

/* Behind a sync that failed the process begins anew while the machine stays up, and reads what the disk has not. */
static enum sim_crash_policy policy_behind_fault(struct model *m) {
    if (sim_names_lost(m->w, 0)) return (enum sim_crash_policy)prng_below(&m->rnd, SIM_KILLED);
    return prng_below(&m->rnd, 4) ? SIM_KILLED : any_policy(m);
}

/* Opens again until neither a crash nor a failing sync cuts the recovery short. */
static void reopen_until_up(struct model *m, bool trouble) {
    for (int tries = 0;; tries++) {
        ck_assert_int_lt(tries, 60);
        bool may = trouble && tries < 40;
        bool crashes = may && prng_below(&m->rnd, 3) == 0, fails = may && !crashes && prng_below(&m->rnd, 3) == 0;
        sim_crash_at(m->w, 0, crashes ? sim_disk_ops(m->w, 0) + 1 + prng_below(&m->rnd, 20) : 0);
        if (fails) sync_fails(m);
        enum err err = model_open(m);
        sim_faults_clear(m->w, 0);
        if (err == OK && !down(m)) {
            sim_crash_at(m->w, 0, 0);
            return;
        }
        ck_assert_msg(down(m) || (fails && err == ERR_IO), "recovery refuses: %s (%s)", m->why, err_str(err));
        seen.recovery_crashes += down(m);
        seen.recovery_faults += !down(m);
        sim_crash(m->w, 0, down(m) ? any_policy(m) : policy_behind_fault(m));
        journal_close(m->j);
        m->j = NULL;
        io_destroy(m->io);
    }
}

static void random_life(struct model *m, uint32_t actions) {
    for (uint32_t i = 0; i < actions && !down(m); i++) random_action(m);
}

static uint64_t seed_from(void) {
    const char *env = getenv("VARVE_SEED_FROM");
    return env != NULL ? strtoull(env, NULL, 10) : 1;
}

static uint64_t seeds(uint64_t normal) {
    const char *env = getenv("VARVE_SEEDS");
    return env != NULL && atoll(env) > 0 ? (uint64_t)atoll(env) : normal;
}

#endif
