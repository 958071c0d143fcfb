/* checkpoint.c - the shard's side of a checkpoint (JOURNAL rules C1-C3, docs/storage.md).
 *
 *   cut     the open slice goes in as the last one up to S; states of the changed logs are encoded now
 *   flush   S is durable: their files are written exactly up to that state, and synced
 *   done    the footer is durable: W of these logs is where their state ends, or where a later TRUNCATE cut them */
#include <stdlib.h>
#include "base/assert.h"
#include "base/trace.h"
#include "log/shard.h"
#include "log/state.h"
#include "log/store.h"

static void states_free(struct checkpoint *c) {
    for (uint32_t i = 0; i < c->count; i++) free(c->v[i].state.data);
    free(c->v);
    free(c->removed);
    /* Not taken over by the journal: the store was closed with the node down. */
    for (uint32_t i = 0; c->states && c->states->v && i < c->states->count; i++) free(c->states->v[i].data);
    if (c->states) free(c->states->v);
    free(c->states);
    *c = (struct checkpoint){0};
}

void checkpoint_free(struct log_shard *sh) { states_free(&sh->checkpoint); }

static enum err state_take(struct log_impl *l, struct checkpoint_log *out) {
    *out = (struct checkpoint_log){.log = l, .state = {.plid = l->pub.plid}, .remove = l->delete_joined};
    if (out->remove) return OK;
    return state_encode(l, &out->state.data, &out->state.len);
}

/* C1: "encode the state of every partition changed since the last checkpoint". */
static enum err states_take(struct log_shard *sh) {
    struct checkpoint *c = &sh->checkpoint;
    uint32_t n = 0;
    LIST_FOREACH(it, &sh->dirty) n++;
    c->v = calloc(n + 1, sizeof *c->v);
    if (!c->v) return ERR_NOMEM;
    for (struct list *it; (it = list_pop_front(&sh->dirty));) {
        struct log_impl *l = LIST_ENTRY(it, struct log_impl, dirty_link);
        enum err err = state_take(l, &c->v[c->count++]);
        if (err != OK) return err;
        struct segment *last = segment_last(l);
        l->dirty = false;
        l->in_checkpoint = true;
        l->flushed = false;
        l->flush_to = (struct place){last->base, last->size_bytes};
    }
    c->removed = sh->removed;
    c->removed_count = sh->removed_count;
    sh->removed = NULL;
    sh->removed_count = sh->removed_cap = 0;
    return OK;
}

static void checkpoint_cut(void *ctx) {
    struct log_shard *sh = ctx;
    ASSERT(!sh->checkpoint.active);
    enum err err = sh->failed == OK ? shard_effect_reserve(sh) : sh->failed;
    if (err == OK) {
        sh->checkpoint.active = true;
        sh->cuts++;
        err = states_take(sh);
    }
    if (err != OK) {
        /* The journal gets no cut slice and never completes: the directory is latched. What is in the open slice may be the
         * first half of what failed. */
        shard_fail(sh, err, "a checkpoint could not be taken: out of memory");
        return;
    }
    shard_submit(sh, true);
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

static void checkpoint_flush(void *ctx, uint64_t seq) {
    struct log_shard *sh = ctx;
    struct checkpoint *c = &sh->checkpoint;
    if (sh->failed != OK) return; /* perhaps the cut itself: the directory is latched, and no footer will be written */
    ASSERT(c->active && !c->flushing);
    c->flushing = true;
    c->seq = seq;
    c->waiting = c->count;
    uint32_t with_files = 0;
    for (uint32_t i = 0; i < c->count; i++) with_files += writer_needs_folder(c->v[i].log);
    c->sync_all = with_files >= sh->sync_all_logs;
    if (c->waiting == 0) {
        flushed_all(sh);
        return;
    }
    for (uint32_t i = 0; i < c->count; i++) {
        struct log_impl *l = c->v[i].log;
        if (l->folder_moved) checkpoint_log_flushed(sh, l);
        else writer_want(l);
    }
}

static void checkpoint_done(void *ctx, enum err err) {
    struct log_shard *sh = ctx;
    struct checkpoint c = sh->checkpoint;
    sh->checkpoint = (struct checkpoint){0};
    for (uint32_t i = 0; i < c.count; i++) {
        struct log_impl *l = c.v[i].log;
        l->in_checkpoint = false;
        if (err == OK) {
            /* C3: "W = min(end as of S, P of every TRUNCATE behind S that is durable)": flush_to was lowered by those. */
            l->synced = l->flush_to;
        }
        impl_owe(l);
        shard_release_log(sh, l);
    }
    trace_debug("log", "shard %u: checkpoint of %u logs up to group %llu complete", sh->index, c.count, (unsigned long long)c.seq);
    states_free(&c);
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
