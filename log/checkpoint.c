/* checkpoint.c - the shard's side of a checkpoint (JOURNAL rules C1-C3, docs/storage.md).
 *
 *   cut     the open slice goes in as the last one up to S; the states of the changed logs are those of this turn
 *   flush   S is durable: their files are written exactly up to that state, and synced
 *   done    the footer is durable: W of these logs is where their state ends, or where a later TRUNCATE cut them
 *
 * To encode the states of thousands of logs takes a tenth of a second, too long for one turn. So the turn of the cut only marks the logs,
 * and a few are encoded in each turn from there on, while appends go on. Each state is nevertheless the one of the cut, for whoever
 * is about to change a log that is marked has it encoded first (impl_change). That this is forgotten nowhere:
 *   - what a change must not be without, impl_dirty(), asserts that the log is not marked any more; a change without impl_dirty() has
 *     no entry in the journal, for it would be lost by the next checkpoint;
 *   - tests encode all states in the turn of the cut, too, and compare (log_store_config.check_cuts).
 * Everything else that a cut means holds from its own turn on: which TRUNCATEs and IMAGEs lie behind it (`cuts`), which bytes are
 * protected and are to be flushed (`in_checkpoint`, `flush_to`). Files are flushed, and the states handed over, when all are encoded. */
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "base/trace.h"
#include "log/shard.h"
#include "log/state.h"
#include "log/store.h"

enum { STATES_A_TURN = 8, CLOCK_LOGS = 64, SLICE_NS = 250 * 1000 };

static void states_free(struct checkpoint *c) {
    for (uint32_t i = 0; i < c->count; i++) {
        free(c->v[i].state.data);
        free(c->v[i].expected);
    }
    free(c->v);
    free(c->removed);
    /* Not taken over by the journal: the store was closed with the node down. */
    for (uint32_t i = 0; c->states && c->states->v && i < c->states->count; i++) free(c->states->v[i].data);
    if (c->states) free(c->states->v);
    free(c->states);
    *c = (struct checkpoint){0};
}

void checkpoint_free(struct log_shard *sh) { states_free(&sh->checkpoint); }

/* ---- slices ----------------------------------------------------------------------------------
 * What is done to thousands of logs is done in many turns. */

static bool slice_ends(const struct log_shard *sh, uint32_t logs, int64_t begun_ns) {
    uint32_t max = sh->store->config.checkpoint_logs;
    return max ? logs >= max : logs % CLOCK_LOGS == 0 && io_mono_ns(sh->io) - begun_ns > SLICE_NS;
}

static void next_slice(struct log_shard *sh) { timer_set(sh->timers, &sh->checkpoint_timer, io_mono_ns(sh->io)); }

/* ---- C1 ------------------------------------------------------------------------------------- */

/* "Encode the state of every partition changed since the last checkpoint": of which logs, as of now. */
static enum err logs_mark(struct log_shard *sh) {
    struct checkpoint *c = &sh->checkpoint;
    c->v = calloc(sh->dirty_count + 1, sizeof *c->v);
    if (!c->v) return ERR_NOMEM;
    for (uint32_t i = 0; i < sh->dirty_count; i++) {
        struct log_impl *l = sh->dirty[i];
        const struct segment *last = segment_last(l);
        c->v[c->count++] = (struct checkpoint_log){.log = l, .remove = l->delete_joined};
        l->untaken = c->count;
        l->dirty = false;
        l->in_checkpoint = true;
        l->flushed = false;
        l->flush_to = (struct place){last->base, last->size_bytes};
    }
    sh->dirty_count = 0;
    c->removed = sh->removed;
    c->removed_count = sh->removed_count;
    sh->removed = NULL;
    sh->removed_count = sh->removed_cap = 0;
    return OK;
}

static enum err states_expect(struct checkpoint *c) {
    enum err err = OK;
    for (uint32_t i = 0; i < c->count && err == OK; i++)
        if (!c->v[i].remove) err = state_encode(c->v[i].log, &c->v[i].expected, &c->v[i].expected_len);
    return err;
}

void checkpoint_take(struct log_impl *l) {
    struct log_shard *sh = l->pub.shard;
    struct checkpoint *c = &sh->checkpoint;
    ASSERT(l->untaken > 0 && l->untaken <= c->count);
    struct checkpoint_log *x = &c->v[l->untaken - 1];
    ASSERT(x->log == l && !x->state.data);
    x->state.plid = l->pub.plid;
    l->untaken = 0;
    c->with_files += writer_needs_folder(l);
    if (x->remove) return;
    /* No footer is written then: the directory is latched. */
    if (state_encode(l, &x->state.data, &x->state.len) != OK) shard_fail(sh, ERR_NOMEM, "a checkpoint could not be taken: out of memory");
    else if (x->expected && !MUTANT(CUT_LATE)) ASSERT(x->state.len == x->expected_len && memcmp(x->state.data, x->expected, x->expected_len) == 0);
}


static void flush_begin(struct log_shard *sh);

static void states_take(struct log_shard *sh) {
    struct checkpoint *c = &sh->checkpoint;
    uint32_t max = sh->store->config.checkpoint_logs ? sh->store->config.checkpoint_logs : STATES_A_TURN;
    for (uint32_t n = 0; c->taken < c->count && n < max; c->taken++) {
        struct log_impl *l = c->v[c->taken].log;
        if (l->untaken == 0) continue;
        checkpoint_take(l);
        n++;
    }
    if (sh->failed != OK) return;
    if (c->taken < c->count) next_slice(sh);
    else if (c->durable) flush_begin(sh);
}

static void cut(struct log_shard *sh) {
    ASSERT(!sh->checkpoint.active);
    enum err err = sh->failed == OK ? shard_effect_reserve(sh) : sh->failed;
    if (err == OK) {
        sh->checkpoint.active = true;
        sh->cuts++;
        err = logs_mark(sh);
        if (err == OK && sh->store->config.check_cuts) err = states_expect(&sh->checkpoint);
    }
    if (err != OK) {
        /* The journal gets no cut slice and never completes: the directory is latched. What is in the open slice may be the
         * first half of what failed. */
        shard_fail(sh, err, "a checkpoint could not be taken: out of memory");
        return;
    }
    shard_submit(sh, true);
    states_take(sh);
}

static void checkpoint_cut(void *ctx) {
    struct log_shard *sh = ctx;
    ASSERT(!sh->checkpoint.active || sh->checkpoint.done || sh->failed != OK);
    if (sh->checkpoint.active) sh->checkpoint.cut_due = true; /* W of some logs has still to move */
    else cut(sh);
}

static void send_states(struct log_shard *sh, enum err err) {
    struct checkpoint *c = &sh->checkpoint;
    struct journal_states *states = calloc(1, sizeof *states);
    bool store_state = sh->index == 0;
    uint32_t n = c->count + c->removed_count + store_state;
    if (states) states->v = calloc(n + 1, sizeof *states->v);
    if (!states || !states->v) {
        free(states);
        shard_fail(sh, ERR_NOMEM, "a checkpoint could not be written: out of memory");
        return;
    }
    states->shard = sh->index;
    states->err = err;
    for (uint32_t i = 0; i < c->removed_count; i++) states->v[states->count++] = (struct journal_state){.plid = c->removed[i]};
    for (uint32_t i = 0; i < c->count; i++) {
        states->v[states->count++] = c->v[i].state;
        c->v[i].state.data = NULL;
    }
    if (store_state) {
        struct journal_state *s = &states->v[states->count];
        s->plid = STORE_PLID;
        uint64_t assigned = atomic_load_explicit(&sh->store->assigned_all, memory_order_relaxed);
        if (assigned > 0 && state_encode_store(assigned, &s->data, &s->len) == OK) states->count++;
    }
    c->states = states;
    journal_checkpoint_flushed(sh->journal, states);
}

/* One sync of the file system for many logs: a sync of each file costs a commit of the file system's journal, too. */
static void synced_all(struct io_op *op) {
    struct log_shard *sh = CONTAINER_OF(op, struct log_shard, sync_op);
    if (op->result < 0) shard_fail(sh, ERR_IO, "the file system could not be synced");
    else send_states(sh, sh->failed);
}

static void sync_all(struct log_shard *sh) {
    struct checkpoint *c = &sh->checkpoint;
    for (uint32_t i = 0; i < c->count; i++) {
        struct log_impl *l = c->v[i].log;
        for (uint32_t k = 0; k < l->segment_count; k++)
            l->segments[k].unsynced = l->segments[k].index_unsynced = l->segments[k].time_index_unsynced = false;
        l->folder_unsynced = l->manifest_unsynced = false;
    }
    sh->dir_unsynced = false;
    sh->sync_op = (struct io_op){.kind = IO_SYNC_ALL, .fd = sh->store->lock_fd, .done = synced_all};
    io_submit(sh->io, &sh->sync_op);
}

static void flushed_all(struct log_shard *sh) {
    if (sh->checkpoint.sync_all) {
        sync_all(sh);
        return;
    }
    if (sh->dir_unsynced) {
        int rc = io_sync_dir(sh->io, sh->store->dir);
        if (rc < 0) {
            shard_fail(sh, ERR_IO, "the data directory could not be synced");
            return;
        }
        sh->dir_unsynced = false;
    }
    send_states(sh, sh->failed);
}

void checkpoint_log_flushed(struct log_shard *sh, struct log_impl *l) {
    if (!l->in_checkpoint || l->flushed) return;
    ASSERT(sh->checkpoint.flushing);
    l->flushed = true;
    atomic_fetch_add_explicit(&sh->store->progress, 1, memory_order_relaxed);
    ASSERT(sh->checkpoint.waiting > 0);
    if (--sh->checkpoint.waiting == 0) flushed_all(sh);
}

static void logs_want(struct log_shard *sh) {
    struct checkpoint *c = &sh->checkpoint;
    int64_t begun_ns = io_mono_ns(sh->io);
    for (uint32_t n = 1; c->wanted < c->count && sh->failed == OK; n++) {
        struct log_impl *l = c->v[c->wanted++].log;
        if (l->folder_moved) checkpoint_log_flushed(sh, l);
        else if (!l->flushed) writer_want(l);
        if (slice_ends(sh, n, begun_ns)) break;
    }
    if (c->wanted < c->count && sh->failed == OK) next_slice(sh);
}

static void flush_begin(struct log_shard *sh) {
    struct checkpoint *c = &sh->checkpoint;
    c->flushing = true;
    c->waiting = c->count;
    c->sync_all = c->with_files >= sh->sync_all_logs;
    if (c->waiting == 0) flushed_all(sh);
    else logs_want(sh);
}

static void checkpoint_flush(void *ctx, uint64_t seq) {
    struct log_shard *sh = ctx;
    struct checkpoint *c = &sh->checkpoint;
    if (sh->failed != OK) return; /* perhaps the cut itself: the directory is latched, and no footer will be written */
    ASSERT(c->active && !c->durable);
    c->durable = true;
    c->seq = seq;
    if (c->taken == c->count) flush_begin(sh);
}

static void logs_finish(struct log_shard *sh) {
    struct checkpoint *c = &sh->checkpoint;
    int64_t begun_ns = io_mono_ns(sh->io);
    for (uint32_t n = 1; c->finished < c->count; n++) {
        struct log_impl *l = c->v[c->finished++].log;
        l->in_checkpoint = false;
        /* C3: "W = min(end as of S, P of every TRUNCATE behind S that is durable)": flush_to was lowered by those. */
        l->synced = l->flush_to;
        impl_owe(l);
        shard_release_log(sh, l);
        if (slice_ends(sh, n, begun_ns)) break;
    }
    if (c->finished < c->count) {
        next_slice(sh);
        return;
    }
    trace_debug("log", "shard %u: checkpoint of %u logs up to group %llu complete", sh->index, c->count, (unsigned long long)c->seq);
    bool again = c->cut_due;
    states_free(c);
    if (again) cut(sh);
}

static void checkpoint_done(void *ctx, enum err err) {
    struct log_shard *sh = ctx;
    ASSERT(err == OK && sh->checkpoint.flushing);
    sh->checkpoint.done = true;
    logs_finish(sh);
}

void checkpoint_timer(struct timer *t) {
    struct log_shard *sh = CONTAINER_OF(t, struct log_shard, checkpoint_timer);
    if (sh->failed != OK) return;
    if (sh->checkpoint.done) logs_finish(sh);
    else if (sh->checkpoint.flushing) logs_want(sh);
    else if (sh->checkpoint.active) states_take(sh);
}

static void pressure(void *ctx) { shard_pressure_changed(ctx); }

static void failed(void *ctx, enum err err) { shard_failed(ctx, err); }

const struct journal_shard_ops shard_journal_ops = {
    .checkpoint_cut = checkpoint_cut,
    .checkpoint_flush = checkpoint_flush,
    .checkpoint_done = checkpoint_done,
    .pressure = pressure,
    .failed = failed,
};
