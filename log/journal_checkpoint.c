/* journal_checkpoint.c - C1, C3 and C4: the conversation with the shards, and the catalogue.
 *
 *   NONE --begin--> CUTTING --last cut slice in a group--> SEALED --S durable--> FLUSHING
 *     ^                                                                              | every shard's states
 *     +-------------------- catalogue durable; pieces free -------- COMMITTING <-----+
 *
 * While CUTTING, what a shard submits behind its cut slice is held, so that group S ends exactly where all
 * shards have remembered their states. */
#include <stdlib.h>
#include "base/assert.h"
#include "base/trace.h"
#include "log/journal_impl.h"
#include "log/mutant.h"

static void cut_deliver(struct mail *m) {
    struct shard_port *p = CONTAINER_OF(m, struct shard_port, cut_mail);
    p->ops->checkpoint_cut(p->ctx);
}

static void flush_deliver(struct mail *m) {
    struct shard_port *p = CONTAINER_OF(m, struct shard_port, flush_mail);
    p->ops->checkpoint_flush(p->ctx, p->flush_seq);
}

static void done_deliver(struct mail *m) {
    struct shard_port *p = CONTAINER_OF(m, struct shard_port, done_mail);
    p->ops->checkpoint_done(p->ctx, OK);
}

void journal_checkpoint_begin(struct journal *j) {
    struct journal_ck *ck = &j->ck;
    if (ck->phase != CHECKPOINT_NONE || j->shards_attached < j->cfg.shards || j->mailbox == NULL || j->err != OK) return;
    ck->phase = CHECKPOINT_CUTTING;
    ck->cuts_missing = j->cfg.shards;
    ck->clean_stop = false;
    ck->waiters = ck->next_waiters;
    ck->next_waiters = NULL;
    for (const struct checkpoint_waiter *w = ck->waiters; w != NULL; w = w->next) ck->clean_stop |= w->clean_stop;
    for (uint32_t i = 0; i < j->cfg.shards; i++) {
        struct shard_port *p = &j->shards[i];
        p->cut_mail.deliver = cut_deliver;
        mailbox_post(p->mailbox, &p->cut_mail);
    }
}

/* Space does not ask for it, the operator does: files show what is in the log soon after a burst, and a restart has
 * little to replay. In a steady stream only every JOURNAL_AGE_NS, for each checkpoint syncs every changed file. */
void journal_quiet_touch(struct journal *j) {
    if (timer_armed(&j->quiet_timer) || j->content_seq <= j->checkpoint_seq) return;
    j->uncovered_ns = io_mono_ns(j->io);
    j->quiet_mark = j->content_seq;
    timer_set(j->timers, &j->quiet_timer, j->uncovered_ns + JOURNAL_QUIET_NS);
}

void journal_quiet_timer(struct timer *t) {
    struct journal *j = CONTAINER_OF(t, struct journal, quiet_timer);
    if (j->err != OK || j->content_seq <= j->checkpoint_seq) return;
    int64_t now_ns = io_mono_ns(j->io);
    if (j->quiet_mark == j->content_seq || now_ns - j->uncovered_ns >= JOURNAL_AGE_NS) {
        journal_checkpoint_begin(j);
        return; /* what came meanwhile arms the timer when that one is complete */
    }
    j->quiet_mark = j->content_seq;
    timer_set(j->timers, t, now_ns + JOURNAL_QUIET_NS);
}

void journal_checkpoint(struct journal *j, bool clean_stop, void (*done)(void *ctx, enum err err), void *ctx) {
    struct checkpoint_waiter *w = malloc(sizeof *w);
    if (w == NULL || j->err != OK) {
        free(w);
        if (done != NULL) done(ctx, j->err != OK ? j->err : ERR_NOMEM);
        return;
    }
    *w = (struct checkpoint_waiter){j->ck.next_waiters, done, ctx, clean_stop};
    j->ck.next_waiters = w;
    journal_checkpoint_begin(j);
}

static void call_waiters(struct checkpoint_waiter *w, enum err err) {
    while (w != NULL) {
        struct checkpoint_waiter *next = w->next;
        if (w->done != NULL) w->done(w->ctx, err);
        free(w);
        w = next;
    }
}

/* ---- C1 ------------------------------------------------------------------------------------ */

void journal_checkpoint_took_cut(struct journal *j) {
    ASSERT(j->ck.phase == CHECKPOINT_CUTTING && j->ck.cuts_missing > 0);
    j->ck.cuts_missing--;
}

void journal_checkpoint_seal_if_cut(struct journal *j) {
    struct journal_ck *ck = &j->ck;
    if (ck->phase != CHECKPOINT_CUTTING || ck->cuts_missing > 0) return;
    ck->phase = CHECKPOINT_SEALED;
    ck->seq = j->next_seq - 1;
    ck->next = j->head;
    ck->chain = j->chain;
    ck->chain_bytes = j->chain_bytes;
    for (uint32_t i = 0; i < j->cfg.shards; i++) j->shards[i].cut = false;
    for (struct journal_slice *s; (s = slice_pop(&j->held)) != NULL;) slice_push(&j->queue, s);
}

/* ---- C2 is the shards' ------------------------------------------------------------------------- */

void journal_checkpoint_durable(struct journal *j) {
    struct journal_ck *ck = &j->ck;
    if (ck->phase != CHECKPOINT_SEALED || j->durable_seq < ck->seq || j->err != OK) return;
    if (j->done.head != NULL) return; /* shards learn first that their slices are durable */
    ck->phase = CHECKPOINT_FLUSHING;
    ck->flushes_missing = j->cfg.shards;
    for (uint32_t i = 0; i < j->cfg.shards; i++) {
        struct shard_port *p = &j->shards[i];
        p->flush_seq = ck->seq;
        p->flush_mail.deliver = flush_deliver;
        mailbox_post(p->mailbox, &p->flush_mail);
    }
}

static void states_free(struct journal_state *v, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) free(v[i].data);
    free(v);
}

/* Moves the shard's states to the end of the checkpoint's. */
static enum err gather(struct journal_ck *ck, struct journal_states *states) {
    if (ck->states == NULL) {
        ck->states = states->v;
        ck->state_count = states->count;
        return OK;
    }
    struct journal_state *v = realloc(ck->states, (ck->state_count + states->count + 1) * sizeof *v);
    if (v == NULL) {
        states_free(states->v, states->count);
        return ERR_NOMEM;
    }
    for (uint32_t i = 0; i < states->count; i++) v[ck->state_count++] = states->v[i];
    ck->states = v;
    free(states->v);
    return OK;
}

static void commit(struct journal *j);

static void flushed_deliver(struct mail *m) {
    struct journal_states *states = CONTAINER_OF(m, struct journal_states, mail);
    struct journal *j = states->journal;
    struct journal_ck *ck = &j->ck;
    if (j->err != OK || states->err != OK) {
        states_free(states->v, states->count);
        states->v = NULL;
        journal_fail(j, states->err != OK ? states->err : ERR_IO, "a checkpoint could not write the logs' files");
        return;
    }
    ASSERT(ck->phase == CHECKPOINT_FLUSHING && ck->flushes_missing > 0);
    enum err err = gather(ck, states);
    states->v = NULL; /* until here whoever closes the shard frees them */
    if (err != OK) {
        journal_fail(j, ERR_NOMEM, "no memory for a checkpoint");
        return;
    }
    if (--ck->flushes_missing == 0) commit(j);
}

void journal_checkpoint_flushed(struct journal *j, struct journal_states *states) {
    states->journal = j;
    states->mail.deliver = flushed_deliver;
    mailbox_post(j->mailbox, &states->mail);
}

/* ---- C3, C4 --------------------------------------------------------------------------------- */

static void complete(struct journal *j) {
    struct journal_ck *ck = &j->ck;
    struct checkpoint_waiter *waiters = ck->waiters;
    ck->waiters = NULL;
    states_free(ck->states, ck->state_count);
    ck->states = NULL;
    ck->state_count = 0;
    ck->phase = CHECKPOINT_NONE;
    j->checkpoint_seq = ck->seq;
    j->replay_bytes = ck->chain_bytes;
    journal_pieces_release(j, ck->seq);
    for (uint32_t i = 0; i < j->cfg.shards; i++) {
        struct shard_port *p = &j->shards[i];
        p->done_mail.deliver = done_deliver;
        mailbox_post(p->mailbox, &p->done_mail);
    }
    timer_cancel(j->timers, &j->quiet_timer);
    journal_quiet_touch(j);
    if (ck->next_waiters != NULL) journal_checkpoint_begin(j);
    call_waiters(waiters, OK);
    journal_pump(j);
}

static void committed(void *ctx, enum err err) {
    struct journal *j = ctx;
    j->ck.committing = false;
    if (j->err != OK) {
        states_free(j->ck.states, j->ck.state_count);
        j->ck.states = NULL;
        j->ck.state_count = 0;
        return;
    }
    if (err == OK) {
        complete(j);
    } else if (err == ERR_NOSPACE || err == ERR_NOMEM) {
        trace_warn("journal", "the catalogue cannot be written (%s): trying again", err_str(err));
        journal_space_poll(j);
        journal_levels(j);
        timer_set(j->timers, &j->retry_timer, io_mono_ns(j->io) + JOURNAL_RETRY_NS);
    } else {
        journal_fail(j, err, "the catalogue cannot be written");
    }
}

static void commit(struct journal *j) {
    struct journal_ck *ck = &j->ck;
    ck->phase = CHECKPOINT_COMMITTING;
    if (MUTANT(FREE_EARLY)) journal_pieces_release(j, ck->seq);
    struct catalog_footer f = {
        .checkpoint_seq = ck->seq, .next = ck->next, .chain = ck->chain,
        .durable_seq = j->cfg.fsync_never ? ck->seq : j->durable_seq,
        .next_plid = atomic_load(&j->next_plid), .journal = j->cfg.index, .set = j->cfg.set,
        .piece_bytes = j->piece_bytes, .seed = j->seed, .clean_stop = ck->clean_stop};
    ck->committing = true;
    catalog_commit(&j->catalog, ck->states, ck->state_count, &f, committed, j);
}

void journal_retry_timer(struct timer *t) {
    struct journal *j = CONTAINER_OF(t, struct journal, retry_timer);
    if (j->err != OK) return;
    j->maker.failed = false;
    if (j->ck.phase == CHECKPOINT_COMMITTING && !j->ck.committing) commit(j);
    journal_pump(j);
}

/* ---- failure ----------------------------------------------------------------------------------- */

void journal_checkpoint_fail(struct journal *j) {
    struct journal_ck *ck = &j->ck;
    struct checkpoint_waiter *now = ck->waiters, *next = ck->next_waiters;
    ck->waiters = ck->next_waiters = NULL;
    call_waiters(now, j->err);
    call_waiters(next, j->err);
}

void journal_checkpoint_free(struct journal *j) {
    struct journal_ck *ck = &j->ck;
    while (ck->waiters != NULL || ck->next_waiters != NULL) {
        struct checkpoint_waiter **list = ck->waiters != NULL ? &ck->waiters : &ck->next_waiters;
        struct checkpoint_waiter *w = *list;
        *list = w->next;
        free(w);
    }
    states_free(ck->states, ck->state_count);
    ck->states = NULL;
}
