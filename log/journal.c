/* journal.c - slices to groups, groups to disk, completions in order. The bytes are drawn in journal_format.h.
 *
 *   queue --> group --> in flight (ascending seq) --> durable --> done
 *
 * A group is submitted when none is in flight, or when it is full and fewer than `depth` are; so groups are as
 * large as the disk is slow, without a timer. Completions may come in any order and count in order of seq: a group is
 * durable when it and all before it were written. After one failed write nothing is ever durable again. */
#include "log/journal.h"
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "base/trace.h"
#include "log/journal_impl.h"
#include "log/mutant.h"

/* ---- groups as memory ------------------------------------------------------------------------ */

static struct group *group_new(struct journal *j) {
    struct group *g = j->spare_groups;
    if (g != NULL) j->spare_groups = g->next;
    else g = malloc(sizeof *g);
    if (g != NULL) *g = (struct group){.journal = j, .counts = true};
    return g;
}

static void group_free(struct journal *j, struct group *g) {
    if (g->own != NULL && g->own->cap == j->group_bytes && j->spare_buf == NULL) j->spare_buf = g->own;
    else buf_unref(g->own);
    free(g->more);
    g->next = j->spare_groups;
    j->spare_groups = g;
}

void journal_seal_next(struct journal *j, uint8_t *data, struct journal_group *g, uint32_t next) {
    ASSERT(j->head.offset + journal_group_blocks_bytes(g->bytes) <= j->piece_bytes);
    g->journal = j->cfg.index;
    g->set = j->cfg.set;
    g->seq = j->next_seq++;
    g->salt = j->salt;
    g->prev = j->chain;
    /* Without syncs nothing can be promised to a later recovery but what a checkpoint has synced. */
    g->durable_seq = j->cfg.fsync_never ? j->checkpoint_seq : j->durable_seq;
    if (next != UINT32_MAX) {
        g->flags |= JOURNAL_LINK;
        g->next_piece = next;
    }
    uint32_t len = journal_group_blocks_bytes(g->bytes);
    memset(data + g->bytes, 0, len - g->bytes);
    journal_group_seal(data, g, j->seed);
    j->chain = g->sum_low;
    j->claimed_seq = j->durable_seq;
    if (g->entries > 0) j->content_seq = g->seq;
    j->pieces[j->head.piece].last_seq = g->seq;
    j->chain_bytes += len;
    j->head.offset += len;
    if (next != UINT32_MAX) {
        j->chain_bytes += j->piece_bytes - j->head.offset;
        j->head = (struct journal_pos){next, 0};
        j->pieces[next].last_seq = g->seq; /* its first group is on its way */
    }
}

void journal_join(uint8_t *data, uint32_t *used, const struct journal_slice *s) {
    uint32_t len = s->used - JOURNAL_GROUP_HEADER_BYTES;
    if (data + *used != s->buf->data + JOURNAL_GROUP_HEADER_BYTES)
        memcpy(data + *used, s->buf->data + JOURNAL_GROUP_HEADER_BYTES, len);
    *used += len;
}

/* ---- writing --------------------------------------------------------------------------------- */

static void group_written(struct io_op *op);

static void write_submit(struct journal *j, struct group_write *w, int fd, uint64_t offset, uint8_t *data, uint32_t len) {
    w->iov = (struct iovec){data, len};
    w->op = (struct io_op){.kind = IO_WRITE, .fd = fd, .flags = j->cfg.fsync_never ? 0 : IO_DSYNC, .offset = offset,
                           .iov = &w->iov, .iov_count = 1, .done = group_written};
    io_submit(j->io, &w->op);
}

static void note_writing(struct journal *j) {
    atomic_store_explicit(&j->writing, j->in_flight != NULL ? j->in_flight->seq : 0, memory_order_relaxed);
}

uint64_t journal_writing(const struct journal *j) { return atomic_load_explicit(&j->writing, memory_order_relaxed); }

/* Several writes in parallel when the group is large; the sum covers all of them. `g->more` has room for the others. */
static void group_submit(struct journal *j, struct group *g, struct journal_pos at, uint8_t *data, uint32_t len) {
    int fd = j->pieces[at.piece].fd;
    g->writes_pending = (len + JOURNAL_WRITE_BYTES - 1) / JOURNAL_WRITE_BYTES;
    if (j->in_flight_tail != NULL) j->in_flight_tail->next = g;
    else j->in_flight = g;
    j->in_flight_tail = g;
    note_writing(j);
    if (g->counts) j->in_flight_count++;
    for (uint32_t i = 0, n = g->writes_pending; i < n; i++) {
        uint32_t from = i * JOURNAL_WRITE_BYTES;
        struct group_write *w = i == 0 ? &g->first : &g->more[i - 1];
        w->group = g;
        write_submit(j, w, fd, at.offset + from, data + from, MIN(len - from, JOURNAL_WRITE_BYTES));
    }
}

/* A group without entries in memory of its own: LINK or IDLE. */
static enum err submit_empty(struct journal *j, uint16_t flags, uint32_t next) {
    struct group *g = group_new(j);
    struct buf *b = g == NULL ? NULL : buf_new(IO_BLOCK_BYTES, IO_BLOCK_BYTES);
    if (b == NULL) {
        if (g != NULL) group_free(j, g);
        return ERR_NOMEM;
    }
    g->own = b;
    g->counts = next == UINT32_MAX;
    struct journal_pos at = j->head;
    struct journal_group h = {.flags = flags, .bytes = JOURNAL_GROUP_HEADER_BYTES};
    journal_seal_next(j, b->data, &h, next);
    g->seq = h.seq;
    group_submit(j, g, at, b->data, IO_BLOCK_BYTES);
    return OK;
}

/* ---- forming a group ---------------------------------------------------------------------------- */

/* A slice may pass its space class on to those of its shard that lie before it, for order must be kept. */
static enum space_class effective_class(const struct journal_slice *s) {
    enum space_class class = journal_slice_class(s);
    for (const struct journal_slice *later = slice_next(s); later != NULL; later = slice_next(later)) {
        if (later->shard != s->shard) continue;
        enum space_class c = journal_slice_class(later);
        class = MAX(class, c);
    }
    return class;
}

static bool has_room(struct journal *j, const struct journal_slice *s, uint32_t group_used) {
    uint32_t len = journal_group_blocks_bytes(group_used);
    if (journal_place(j, len, SPACE_RECORDS) != PLACE_BLOCKED) return true;
    enum space_class class = effective_class(s);
    if (class != SPACE_RECORDS && journal_place(j, len, class) != PLACE_BLOCKED) return true;
    journal_note_blocked(j, len, class);
    return false;
}

/* Takes from the queue, in order, what fits into one group and may use the space; slices of a shard never overtake each
 * other. Returns the bytes used. */
static uint32_t take_slices(struct journal *j, struct slice_queue *out) {
    struct slice_queue rest = {0};
    uint32_t used = JOURNAL_GROUP_HEADER_BYTES;
    bool full = false;
    for (uint32_t i = 0; i < j->cfg.shards; i++) j->shards[i].blocked = false;
    while (j->queue.head != NULL && !full) {
        struct journal_slice *s = j->queue.head;
        uint32_t after = used + s->used - JOURNAL_GROUP_HEADER_BYTES;
        full = out->count > 0 && after > j->group_bytes;
        bool blocked = j->shards[s->shard].blocked;
        if (!full && !blocked) blocked = s->entries > 0 && !has_room(j, s, after);
        if (full) break;
        slice_pop(&j->queue);
        if (blocked) {
            j->shards[s->shard].blocked = true;
            slice_push(&rest, s);
            continue;
        }
        slice_push(out, s);
        used = after;
        if (s->cut) journal_checkpoint_took_cut(j);
    }
    /* What was passed over stays before what was not looked at. */
    for (struct journal_slice *s; (s = slice_pop(&j->queue)) != NULL;) slice_push(&rest, s);
    j->queue = rest;
    return used;
}

static struct buf *join_buffer(struct journal *j, const struct journal_slice *first, uint32_t used) {
    if (first->buf->cap >= journal_group_blocks_bytes(used)) return NULL; /* behind the first, in its own memory */
    struct buf *b = j->spare_buf;
    j->spare_buf = NULL;
    if (b == NULL || b->cap < journal_group_blocks_bytes(used)) {
        buf_unref(b);
        b = buf_new(MAX(j->group_bytes, journal_group_blocks_bytes(used)), IO_BLOCK_BYTES);
    }
    return b;
}

static void put_back(struct journal *j, struct slice_queue *taken) {
    struct slice_queue rest = j->queue;
    j->queue = *taken;
    for (struct journal_slice *s; (s = slice_pop(&rest)) != NULL;) slice_push(&j->queue, s);
}

/* Slices that hold nothing need no group of their own: they are durable with the last one. */
static void complete_empty(struct journal *j, struct slice_queue *slices);
static void finish_waiting(struct journal *j);
static void deliver(struct journal *j, bool now);

/* Memory for a group of `used` bytes. */
static struct group *group_prepare(struct journal *j, struct slice_queue *slices, uint32_t used) {
    struct group *g = group_new(j);
    if (g == NULL) return NULL;
    uint32_t len = journal_group_blocks_bytes(used);
    bool ok = true;
    if (len > JOURNAL_WRITE_BYTES) {
        g->more = malloc((len / JOURNAL_WRITE_BYTES) * sizeof *g->more);
        ok = g->more != NULL;
    }
    if (ok && slices->head->buf->cap < len) {
        g->own = join_buffer(j, slices->head, used);
        ok = g->own != NULL;
    }
    if (ok) return g;
    group_free(j, g);
    return NULL;
}

/* Seals and submits. Space was found by has_room for at least the first slice; the others keep within it. */
static enum err submit_group(struct journal *j, struct slice_queue *slices, uint32_t used) {
    uint32_t len = journal_group_blocks_bytes(used);
    struct group *g = group_prepare(j, slices, used);
    if (g == NULL) return ERR_NOMEM;
    if (journal_place(j, len, SPACE_RESERVE) == PLACE_LINK) {
        uint32_t next = journal_piece_take(j);
        ASSERT(next != UINT32_MAX);
        enum err err = submit_empty(j, 0, next);
        if (err != OK) {
            j->pieces[next].state = PIECE_FREE;
            j->used_count--;
            j->free_count++;
            group_free(j, g);
            return err;
        }
    }
    uint8_t *data = g->own != NULL ? g->own->data : slices->head->buf->data;
    struct journal_pos at = j->head;
    struct journal_group h = {.bytes = JOURNAL_GROUP_HEADER_BYTES};
    for (struct journal_slice *s = slices->head; s != NULL; s = slice_next(s)) {
        s->pos = (struct journal_pos){at.piece, at.offset + h.bytes};
        s->seq = j->next_seq;
        h.entries += s->entries;
        journal_join(data, &h.bytes, s);
    }
    ASSERT(h.bytes == used);
    journal_seal_next(j, data, &h, UINT32_MAX);
    g->seq = h.seq;
    g->slices = *slices;
    group_submit(j, g, at, data, len);
    journal_space_touch(j);
    journal_quiet_touch(j);
    if (!timer_armed(&j->idle_timer)) {
        j->idle_mark = j->next_seq;
        timer_set(j->timers, &j->idle_timer, io_mono_ns(j->io) + JOURNAL_IDLE_NS);
    }
    return OK;
}

static bool may_submit(const struct journal *j) {
    if (j->queue.head == NULL || j->err != OK) return false;
    if (j->in_flight_count == 0) return true;
    /* Full: half a group, since the next slice would hardly fit. */
    return j->in_flight_count < j->cfg.depth && j->queue.bytes >= j->group_bytes / 2;
}

static void pump(struct journal *j) {
    j->space_blocked = j->piece_blocked = j->reserve_blocked = false;
    while (may_submit(j)) {
        struct slice_queue slices = {0};
        uint32_t used = take_slices(j, &slices);
        if (slices.head == NULL) break;
        if (used == JOURNAL_GROUP_HEADER_BYTES) {
            complete_empty(j, &slices);
        } else if (submit_group(j, &slices, used) != OK) {
            /* Memory is short: what was taken waits for the next completion, timer or slice. */
            for (struct journal_slice *s = slices.head; s != NULL; s = slice_next(s))
                if (s->cut) j->ck.cuts_missing++;
            put_back(j, &slices);
            journal_space_touch(j);
            break;
        }
        journal_checkpoint_seal_if_cut(j);
    }
    if (j->err == OK) journal_levels(j);
}

void journal_pump(struct journal *j) {
    pump(j);
    if (j->completing) return; /* group_written reports and goes on */
    finish_waiting(j);
    deliver(j, false);
    journal_checkpoint_durable(j);
}

/* ---- completions ---------------------------------------------------------------------------- */

static void slice_deliver(struct mail *m) {
    struct journal_slice *s = slice_of_mail(m);
    struct buf *b = s->buf; /* `done` may use the slice again */
    s->done(s);
    buf_unref(b);
}

/* To a shard of this reactor, from inside a call of it. */
static void slice_deliver_posted(struct mail *m) {
    struct journal_slice *s = slice_of_mail(m);
    s->journal->shards[s->shard].posted--;
    slice_deliver(m);
}

static bool same_reactor(const struct journal *j, uint32_t shard) { return j->shards[shard].mailbox == j->mailbox; }

/* `now`: from the reactor's loop, so that callbacks may run; but none may overtake one that was posted. */
static void deliver(struct journal *j, bool now) {
    for (struct journal_slice *s; (s = slice_pop(&j->done)) != NULL;) {
        struct shard_port *p = &j->shards[s->shard];
        bool here = same_reactor(j, s->shard);
        if (here && now && p->posted == 0) {
            slice_deliver(&s->mail);
            continue;
        }
        if (here) p->posted++;
        s->mail.deliver = here ? slice_deliver_posted : slice_deliver;
        mailbox_post(p->mailbox, &s->mail);
    }
}

static void complete_empty(struct journal *j, struct slice_queue *slices) {
    for (struct journal_slice *s = slices->head; s != NULL; s = slice_next(s)) {
        s->seq = j->next_seq - 1;
        s->pos = j->head;
    }
    struct slice_queue *after = j->in_flight_tail != NULL ? &j->in_flight_tail->slices : &j->done;
    for (struct journal_slice *s; (s = slice_pop(slices)) != NULL;) slice_push(after, s);
}

/* Moves slices to those that are done, with the journal's state: OK, or latched. */
static void finish_slices(struct journal *j, struct slice_queue *q) {
    for (struct journal_slice *s; (s = slice_pop(q)) != NULL;) {
        s->err = j->err;
        slice_push(&j->done, s);
    }
}

/* Once it is latched and nothing is in flight, what waits will never be written. */
static void finish_waiting(struct journal *j) {
    if (j->err == OK || j->in_flight != NULL) return;
    finish_slices(j, &j->queue);
    finish_slices(j, &j->held);
}

static void failed_deliver(struct mail *m) {
    struct shard_port *p = CONTAINER_OF(m, struct shard_port, failed_mail);
    if (p->ops->failed != NULL) p->ops->failed(p->ctx, p->journal->err);
}

static void latch(struct journal *j, enum err err, const char *what) {
    if (j->err != OK) return;
    j->err = err;
    trace_error("journal", "%s: %s: nothing more will be acknowledged", j->folder, what);
    for (uint32_t i = 0; i < j->cfg.shards; i++) {
        struct shard_port *p = &j->shards[i];
        if (p->mailbox == NULL) continue;
        p->failed_mail.deliver = failed_deliver;
        mailbox_post(p->mailbox, &p->failed_mail);
    }
    if (j->cfg.failed != NULL) j->cfg.failed(j->cfg.ctx, err, what);
    journal_checkpoint_fail(j);
}

void journal_fail(struct journal *j, enum err err, const char *what) {
    latch(j, err, what);
    finish_waiting(j);
    if (!j->completing) deliver(j, false);
}

/* Takes complete groups from the front. */
static void collect(struct journal *j) {
    while (j->in_flight != NULL && j->in_flight->complete) {
        struct group *g = j->in_flight;
        j->in_flight = g->next;
        if (j->in_flight == NULL) j->in_flight_tail = NULL;
        if (g->counts) j->in_flight_count--;
        if (g->err != OK) latch(j, g->err, "a write to the journal failed");
        if (j->err == OK) j->durable_seq = g->seq;
        finish_slices(j, &g->slices);
        group_free(j, g);
    }
    note_writing(j);
    finish_waiting(j);
}

static void group_written(struct io_op *op) {
    struct group_write *w = CONTAINER_OF(op, struct group_write, op);
    struct group *g = w->group;
    struct journal *j = g->journal;
    if (op->result != (int64_t)w->iov.iov_len) {
        trace_error("journal", "group %llu: a write of %zu bytes returned %lld", (unsigned long long)g->seq, w->iov.iov_len,
                    (long long)op->result);
        g->err = ERR_IO;
    }
    if (--g->writes_pending > 0) return;
    g->complete = true;
    if (MUTANT(ACK_EARLY)) finish_slices(j, &g->slices);
    j->completing = true;
    collect(j);
    /* The disk first; then what the callbacks submit makes the group after next. */
    journal_pump(j);
    while (j->done.head != NULL) {
        deliver(j, true);
        journal_checkpoint_durable(j);
        journal_pump(j);
    }
    journal_checkpoint_durable(j);
    j->completing = false;
}

/* ---- submission ------------------------------------------------------------------------------- */

static void enqueue(struct journal *j, struct journal_slice *s) {
    struct shard_port *p = &j->shards[s->shard];
    if (p->cut && j->err == OK && !MUTANT(NO_HOLD)) {
        slice_push(&j->held, s);
        return;
    }
    if (s->cut) {
        ASSERT(j->ck.phase == CHECKPOINT_CUTTING || j->err != OK);
        p->cut = true;
    }
    slice_push(&j->queue, s);
    if (!j->completing) journal_pump(j); /* else it is done when all callbacks have run */
}

static void submit_deliver(struct mail *m) {
    struct journal_slice *s = slice_of_mail(m);
    enqueue(s->journal, s);
}

void journal_submit(struct journal *j, struct journal_slice *s) {
    ASSERT(s->journal == j && s->shard < j->cfg.shards && s->used >= JOURNAL_GROUP_HEADER_BYTES);
    if (same_reactor(j, s->shard)) {
        enqueue(j, s);
        return;
    }
    s->mail.deliver = submit_deliver;
    mailbox_post(j->mailbox, &s->mail);
}

/* ---- idle ---------------------------------------------------------------------------------------- */

/* Makes durable_seq on disk cover the last group with entries, so that damage to it would be noticed. */
static void write_idle(struct journal *j) {
    if (j->in_flight != NULL || j->queue.head != NULL || j->err != OK) return;
    if (MAX(j->claimed_seq, j->checkpoint_seq) >= j->content_seq) return;
    enum placing placing = journal_place(j, IO_BLOCK_BYTES, SPACE_URGENT);
    enum err err = OK;
    if (placing == PLACE_HERE) err = submit_empty(j, JOURNAL_IDLE, UINT32_MAX);
    if (placing == PLACE_LINK) err = submit_empty(j, JOURNAL_IDLE, journal_piece_take(j)); /* the LINK says it as well */
    if (err != OK) trace_warn("journal", "no memory for an idle group");
    journal_levels(j);
}

static void idle_timer(struct timer *t) {
    struct journal *j = CONTAINER_OF(t, struct journal, idle_timer);
    if (j->err != OK) return;
    if (j->idle_mark == j->next_seq) {
        write_idle(j);
        return;
    }
    j->idle_mark = j->next_seq;
    timer_set(j->timers, t, io_mono_ns(j->io) + JOURNAL_IDLE_NS);
}

/* ---- life ---------------------------------------------------------------------------------------- */

void journal_attach(struct journal *j, struct io *io, struct mailbox *mailbox, struct timers *timers) {
    j->io = io;
    j->mailbox = mailbox;
    j->timers = timers;
    catalog_attach(&j->catalog, io);
    timer_init(&j->idle_timer, idle_timer);
    timer_init(&j->quiet_timer, journal_quiet_timer);
    timer_init(&j->space_timer, journal_space_timer);
    timer_init(&j->retry_timer, journal_retry_timer);
    journal_levels(j);
    journal_quiet_touch(j); /* for what was replayed */
    journal_space_touch(j); /* looks again when all shards are there: a checkpoint may be due */
}

void journal_attach_shard(struct journal *j, uint32_t shard, struct mailbox *mailbox, const struct journal_shard_ops *ops,
                          void *ctx) {
    ASSERT(shard < j->cfg.shards && j->shards[shard].mailbox == NULL);
    struct shard_port *p = &j->shards[shard];
    p->journal = j;
    p->mailbox = mailbox;
    p->ops = ops;
    p->ctx = ctx;
    j->shards_attached++;
}

uint64_t journal_new_plid(struct journal *j) { return atomic_fetch_add(&j->next_plid, 1); }

void journal_plid_taken(struct journal *j, uint64_t plid) {
    if (plid >= atomic_load(&j->next_plid)) atomic_store(&j->next_plid, plid + 1); /* only reactor 0 writes it */
}

bool journal_rest(struct journal *j) {
    timer_cancel(j->timers, &j->idle_timer);
    return !j->maker.active && j->in_flight == NULL;
}

void journal_close(struct journal *j) {
    if (j == NULL) return;
    if (j->timers != NULL) {
        timer_cancel(j->timers, &j->idle_timer);
        timer_cancel(j->timers, &j->quiet_timer);
        timer_cancel(j->timers, &j->space_timer);
        timer_cancel(j->timers, &j->retry_timer);
    }
    while (j->in_flight != NULL) {
        struct group *g = j->in_flight;
        j->in_flight = g->next;
        group_free(j, g);
    }
    while (j->spare_groups != NULL) {
        struct group *g = j->spare_groups;
        j->spare_groups = g->next;
        free(g);
    }
    journal_checkpoint_free(j);
    buf_unref(j->spare_buf);
    buf_unref(j->maker.zeros);
    catalog_close(&j->catalog);
    for (uint32_t i = 0; j->pieces != NULL && i < j->piece_slots; i++)
        if (j->pieces[i].fd >= 0) io_close(j->io, j->pieces[i].fd);
    free(j->pieces);
    free(j->shards);
    free((char *)j->cfg.dir);
    free(j->folder);
    free(j);
}
