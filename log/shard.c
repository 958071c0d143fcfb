/* shard.c - slices, their effects and the memory of the tails. See shard.h. */
#include "log/shard.h"
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "base/trace.h"
#include "log/mutant.h"
#include "log/scrub.h"
#include "log/store.h"
#include "log/swap.h"

/* Slices that the journal has not written yet hold memory: appends wait above this. */
enum { SUBMITTED_BYTES_MAX = 32 << 20 };

/* Records in the journal's queue may keep an IMAGE of their shard behind them, and slices of a shard do not overtake
 * each other: what all shards have submitted must fit the space that is kept for IMAGEs, or a checkpoint that
 * waits for one never ends. */
static uint64_t submitted_bytes_max(const struct log_shard *sh) {
    const struct log_store_config *c = &sh->store->config;
    uint64_t memory = c->submitted_bytes ? c->submitted_bytes / c->shards : SUBMITTED_BYTES_MAX;
    return MIN(memory, c->journal_bytes / 8 / c->shards);
}

static void slice_done(struct journal_slice *s);

/* ---- life ----------------------------------------------------------------------------------- */

static void retry_fire(struct timer *t) {
    struct log_shard *sh = CONTAINER_OF(t, struct log_shard, retry);
    for (struct list *it; (it = list_pop_front(&sh->waiting));) list_push_back(&sh->work, it);
    shard_work(sh);
}

static void more_work_fire(struct timer *t) { shard_work(CONTAINER_OF(t, struct log_shard, more_work)); }

enum err shard_init(struct log_shard *sh, struct log_store *store, uint32_t index) {
    *sh = (struct log_shard){.store = store, .index = index, .io = store->io, .next_serial = 1,
                             .sync_all_logs = io_syncs_all(store->io, store->lock_fd) ? SYNC_ALL_LOGS : UINT32_MAX,
                             .tail_bytes_max = store->config.tail_bytes / store->config.shards,
                             .writers_max = MAX(MIN(store->config.open_files_max / store->config.shards / WRITER_FILES, (uint32_t)WRITERS_MAX), 1u)};
    list_init(&sh->submitted);
    list_init(&sh->tails);
    list_init(&sh->work);
    list_init(&sh->waiting);
    list_init(&sh->unlinks);
    list_init(&sh->reads);
    list_init(&sh->finds);
    list_init(&sh->checks);
    timer_init(&sh->retry, retry_fire);
    timer_init(&sh->more_work, more_work_fire);
    timer_init(&sh->checkpoint_timer, checkpoint_timer);
    timer_init(&sh->stop_timer, shard_stop_timer);
    sh->scrub = calloc(1, sizeof *sh->scrub);
    if (!sh->scrub) return ERR_NOMEM;
    scrub_init(sh->scrub);
    return files_init(&sh->files, store->io, store->dir, store->config.open_files_max / store->config.shards);
}

void shard_attach(struct log_shard *sh, struct io *io, struct mailbox *mailbox, struct timers *timers) {
    sh->io = io;
    sh->files.io = io;
    sh->mailbox = mailbox;
    sh->timers = timers;
    sh->journal = sh->store->journal;
}

static void slice_free(struct shard_slice *ss) {
    buf_unref(ss->memory);
    free(ss->effects);
    free(ss->plids);
    free(ss);
}

static void slices_free(struct list *head) {
    for (struct list *n; (n = list_pop_front(head));) {
        struct shard_slice *ss = LIST_ENTRY(n, struct shard_slice, link);
        if (!ss->durable) buf_unref(ss->s.buf);
        slice_free(ss);
    }
}

void shard_free(struct log_shard *sh) {
    if (sh->timers) {
        timer_cancel(sh->timers, &sh->retry);
        timer_cancel(sh->timers, &sh->more_work);
        timer_cancel(sh->timers, &sh->checkpoint_timer);
        timer_cancel(sh->timers, &sh->stop_timer);
        timer_cancel(sh->timers, &sh->scrub->timer);
    }
    finds_free(sh);
    checks_free(sh);
    compactor_free(sh);
    reads_free(sh);
    writers_free(sh);
    checkpoint_free(sh);
    files_free(&sh->files);
    free(sh->scrub);
    for (uint32_t i = 0; i < sh->log_count; i++) impl_free(sh->logs[i]);
    free(sh->logs);
    free(sh->dirty);
    free(sh->names);
    free(sh->removed);
    if (sh->open) {
        buf_unref(sh->open->s.buf);
        slice_free(sh->open);
    }
    slices_free(&sh->submitted);
    slices_free(&sh->tails);
}

/* ---- the logs ------------------------------------------------------------------------------- */

/* Index of the first log with a plid of at least `plid`. */
static uint32_t lower_bound(const struct log_shard *sh, uint64_t plid) {
    uint32_t low = 0, high = sh->log_count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (sh->logs[mid]->pub.plid < plid) low = mid + 1;
        else high = mid;
    }
    return low;
}

struct log_impl *shard_find(struct log_shard *sh, uint64_t plid) {
    uint32_t i = lower_bound(sh, plid);
    return i < sh->log_count && sh->logs[i]->pub.plid == plid ? sh->logs[i] : NULL;
}

struct log_impl *shard_from(struct log_shard *sh, uint64_t plid) {
    uint32_t i = lower_bound(sh, plid);
    return i < sh->log_count ? sh->logs[i] : NULL;
}

static uint32_t name_slot(const struct log_shard *sh, const char *folder) {
    uint64_t h = 14695981039346656037u; /* FNV-1a */
    for (; *folder; folder++) h = (h ^ (uint8_t)*folder) * 1099511628211u;
    return (uint32_t)(h ^ (h >> 32)) & (sh->name_slots - 1);
}

struct log_impl *shard_find_name(struct log_shard *sh, const char *folder) {
    if (sh->name_count == 0) return NULL;
    struct log_impl *l = sh->names[name_slot(sh, folder)];
    while (l && strcmp(l->folder, folder) != 0) l = l->name_next;
    return l;
}

static void name_insert(struct log_shard *sh, struct log_impl *l) {
    struct log_impl **slot = &sh->names[name_slot(sh, l->folder)];
    l->name_next = *slot;
    *slot = l;
}

static enum err name_add(struct log_shard *sh, struct log_impl *l) {
    if (sh->name_count >= sh->name_slots) {
        uint32_t slots = sh->name_slots ? sh->name_slots * 2 : 16;
        struct log_impl **v = calloc(slots, sizeof *v);
        if (!v) return ERR_NOMEM;
        free(sh->names);
        sh->names = v;
        sh->name_slots = slots;
        for (uint32_t i = 0; i < sh->log_count; i++)
            if (sh->logs[i]->named) name_insert(sh, sh->logs[i]);
    }
    name_insert(sh, l);
    l->named = true;
    sh->name_count++;
    return OK;
}

void shard_forget_name(struct log_shard *sh, struct log_impl *l) {
    if (!l->named) return;
    struct log_impl **at = &sh->names[name_slot(sh, l->folder)];
    while (*at != l) at = &(*at)->name_next;
    *at = l->name_next;
    l->named = false;
    sh->name_count--;
}

enum err shard_add_log(struct log_shard *sh, struct log_impl *l) {
    if (sh->log_count == sh->log_cap) {
        uint32_t cap = sh->log_cap ? sh->log_cap * 2 : 8;
        struct log_impl **v = realloc(sh->logs, cap * sizeof *v);
        if (!v) return ERR_NOMEM;
        sh->logs = v;
        v = realloc(sh->dirty, cap * sizeof *v);
        if (!v) return ERR_NOMEM;
        sh->dirty = v;
        sh->log_cap = cap;
    }
    enum err err = name_add(sh, l);
    if (err != OK) return err;
    uint32_t at = lower_bound(sh, l->pub.plid);
    ASSERT(at == sh->log_count || sh->logs[at]->pub.plid != l->pub.plid);
    memmove(sh->logs + at + 1, sh->logs + at, (sh->log_count - at) * sizeof *sh->logs);
    sh->logs[at] = l;
    sh->log_count++;
    return OK;
}

void shard_remove_log(struct log_shard *sh, struct log_impl *l) {
    uint32_t at = lower_bound(sh, l->pub.plid);
    ASSERT(at < sh->log_count && sh->logs[at] == l);
    shard_forget_name(sh, l);
    sh->log_count--;
    memmove(sh->logs + at, sh->logs + at + 1, (sh->log_count - at) * sizeof *sh->logs);
}

static bool remember_removed(struct log_shard *sh, uint64_t plid) {
    if (sh->removed_count == sh->removed_cap) {
        uint32_t cap = sh->removed_cap ? sh->removed_cap * 2 : 16;
        uint64_t *v = realloc(sh->removed, cap * sizeof *v);
        if (!v) return false;
        sh->removed = v;
        sh->removed_cap = cap;
    }
    sh->removed[sh->removed_count++] = plid;
    return true;
}

void shard_release_log(struct log_shard *sh, struct log_impl *l) {
    if (!l->delete_durable || !l->folder_moved || l->writer || l->reads > 0 || l->in_checkpoint) return;
    /* Told to the server once; the folder's files go on by themselves. */
    void (*deleted)(void *ctx, enum err err) = l->deleted;
    void *ctx = l->deleted_ctx;
    if (l->dirty && !remember_removed(sh, l->pub.plid)) {
        shard_fail(sh, ERR_NOMEM, "no memory to remember a deletion");
        return;
    }
    shard_remove_log(sh, l);
    impl_free(l);
    if (deleted) deleted(ctx, OK);
}

struct log *log_shard_first(struct log_shard *sh) { return log_shard_next(sh, NULL); }

struct log *log_shard_next(struct log_shard *sh, struct log *l) {
    for (uint32_t i = l ? lower_bound(sh, l->plid + 1) : 0; i < sh->log_count; i++)
        if (!sh->logs[i]->delete_joined) return &sh->logs[i]->pub;
    return NULL;
}

struct log *log_shard_by_plid(struct log_shard *sh, uint64_t plid) {
    struct log_impl *l = shard_find(sh, plid);
    return l && !l->delete_joined ? &l->pub : NULL;
}

/* ---- the open slice ------------------------------------------------------------------------- */

/* Memory for effects, and for the plids that they will leave: neither may be missing when the slice is durable. */
static enum err effects_grow(struct shard_slice *ss) {
    uint32_t cap = ss->effect_cap ? ss->effect_cap * 2 : 4;
    struct effect *v = realloc(ss->effects, cap * sizeof *v);
    if (!v) return ERR_NOMEM;
    ss->effects = v;
    uint64_t *plids = realloc(ss->plids, cap * sizeof *plids);
    if (!plids) return ERR_NOMEM;
    ss->plids = plids;
    ss->effect_cap = cap;
    return OK;
}

static enum err slice_open(struct log_shard *sh) {
    struct shard_slice *ss = calloc(1, sizeof *ss);
    if (!ss) return ERR_NOMEM;
    enum err err = effects_grow(ss);
    if (err == OK) err = journal_slice_init(&ss->s, sh->journal, sh->index);
    if (err != OK) {
        slice_free(ss);
        return err;
    }
    ss->s.done = slice_done;
    ss->s.owner = ss;
    ss->shard = sh;
    ss->serial = sh->next_serial++;
    list_init(&ss->link);
    sh->open = ss;
    return OK;
}

enum err shard_message(struct log_shard *sh, enum entry_type type, uint64_t plid, const ProtobufCMessage *m) {
    enum err err;
    size_t len = protobuf_c_message_get_packed_size(m);
    uint8_t *p = shard_entry(sh, type, plid, 0, (uint32_t)len, NULL, &err);
    if (!p) return err;
    size_t packed = protobuf_c_message_pack(m, p);
    ASSERT(packed == len);
    return OK;
}

uint8_t *shard_entry(struct log_shard *sh, enum entry_type type, uint64_t plid, uint32_t header_len, uint32_t body_len, uint32_t *at,
                     enum err *err) {
    for (;;) {
        if (!sh->open && (*err = slice_open(sh)) != OK) return NULL;
        uint8_t *p = journal_slice_add(&sh->open->s, type, 0, plid, header_len, body_len, err);
        if (p) {
            if (at) *at = (uint32_t)(p - sh->open->s.buf->data) + header_len;
            *err = OK;
            return p;
        }
        if (*err != ERR_FULL) return NULL;
        ASSERT(sh->open->s.entries > 0);
        shard_submit(sh, false);
    }
}

enum err shard_effect_reserve(struct log_shard *sh) {
    enum err err;
    if (!sh->open && (err = slice_open(sh)) != OK) return err;
    struct shard_slice *ss = sh->open;
    return ss->effect_count + 2 <= ss->effect_cap ? OK : effects_grow(ss);
}

struct effect *shard_effect(struct log_shard *sh, enum effect_kind kind, struct log_impl *l) {
    ASSERT(sh->open->effect_count < sh->open->effect_cap); /* a slice that the entry itself opened has room, too */
    struct effect *e = &sh->open->effects[sh->open->effect_count++];
    *e = (struct effect){.kind = kind, .log = l};
    return e;
}

void shard_effect_append(struct log_shard *sh, struct log_impl *l, uint32_t bytes) {
    struct shard_slice *ss = sh->open;
    if (l->effect_slice != ss->serial) {
        shard_effect(sh, EFFECT_APPEND, l);
        l->effect_slice = ss->serial;
        l->effect_index = ss->effect_count - 1;
    }
    struct effect *e = &ss->effects[l->effect_index];
    e->offset = l->pub.end;
    e->bytes += bytes;
}

enum err shard_effect_seq(struct log_shard *sh, struct log_impl *l, uint64_t seq) {
    enum err err = shard_effect_reserve(sh);
    if (err != OK) return err;
    struct shard_slice *ss = sh->open;
    if (l->seq_slice != ss->serial) {
        shard_effect(sh, EFFECT_SEQ, l);
        l->seq_slice = ss->serial;
        l->seq_index = ss->effect_count - 1;
    }
    ss->effects[l->seq_index].seq = seq;
    return OK;
}

void shard_effect_seq_void(struct log_shard *sh, struct log_impl *l) {
    if (sh->open && l->seq_slice == sh->open->serial) sh->open->effects[l->seq_index].log = NULL;
}

void shard_submit(struct log_shard *sh, bool cut) {
    struct shard_slice *ss = sh->open;
    ASSERT(ss);
    ss->s.cut = cut;
    sh->open = NULL;
    list_push_back(&sh->submitted, &ss->link);
    sh->submitted_count++;
    sh->submitted_bytes += ss->s.buf->cap;
    journal_submit(sh->journal, &ss->s);
}

static void notify(struct log_impl *l) {
    if (l->pub.on_durable) l->pub.on_durable(&l->pub, l->pub.owner);
}

static void seq_durable(const struct effect *e) {
    struct log_impl *l = e->log;
    if (!l || e->seq <= l->pub.durable_seq) return;
    l->pub.durable_seq = e->seq;
    notify(l);
}

/* Effects without an entry of their own, and nothing before them that is not durable. */
static void run_idle_effects(struct log_shard *sh) {
    struct shard_slice *ss = sh->open;
    if (!ss || ss->s.entries > 0 || ss->effect_count == 0 || sh->submitted_count > 0) return;
    struct effect *effects = ss->effects;
    uint32_t count = ss->effect_count;
    ss->effects = NULL;
    ss->effect_count = ss->effect_cap = 0;
    ss->serial = sh->next_serial++; /* what is remembered of its effects is over */
    for (uint32_t i = 0; i < count; i++) {
        ASSERT(effects[i].kind == EFFECT_ASSIGNED || effects[i].kind == EFFECT_SEQ);
        if (effects[i].kind == EFFECT_ASSIGNED) store_assigned(sh->store, sh, (uint64_t)effects[i].offset);
        else seq_durable(&effects[i]);
    }
    free(effects);
}

void log_shard_turn(struct log_shard *sh) {
    if (sh->failed != OK) return; /* what is open comes behind what will never be durable */
    run_idle_effects(sh);
    struct shard_slice *ss = sh->open;
    if (!ss || ss->s.entries == 0) return;
    /* One unfinished slice at a time: what arrives meanwhile makes the next group. But records that wait for space in
     * the journal must not keep back what a checkpoint needs to make some. */
    bool needed = ss->s.urgent && (sh->checkpoint.active || journal_pressure(sh->journal) >= 2);
    if (sh->submitted_count == 0 || needed) shard_submit(sh, false);
}

/* ---- durable -------------------------------------------------------------------------------- */

static void append_durable(const struct shard_slice *ss, struct log_impl *l, const struct effect *e) {
    ASSERT(e->offset >= l->pub.durable_end || l->change > 0);
    l->pub.durable_end = MAX(l->pub.durable_end, MIN(e->offset, l->pub.end));
    l->pending_bytes += e->bytes;
    if (l->pending_bytes >= WRITE_BYTES) writer_want(l);
    if (l->seq_slice != ss->serial) notify(l); /* else its SEQ follows */
}

static void truncate_durable(struct log_impl *l, const struct effect *e) {
    ASSERT(l->truncates_joined > 0);
    l->truncates_joined--;
    l->truncated = true;
    if (l->truncate_end < 0 || e->offset < l->truncate_end) {
        l->truncate_end = e->offset;
        l->truncate_place = e->place;
    }
    l->droppable_total = e->bytes;
    /* Of those behind S only: what came before is in the state already. */
    if (l->in_checkpoint && e->cuts == l->pub.shard->cuts && place_less(e->place, l->flush_to) && !MUTANT(W_KEPT))
        l->flush_to = e->place;
    /* A checkpoint that ended while this was under way has put W behind it again: what grows there is in no checkpoint. */
    if (place_less(e->place, l->synced) && !MUTANT(W_KEPT)) l->synced = e->place;
    writer_want(l);
    notify(l);
}

static void reset_durable(struct log_impl *l, const struct effect *e) {
    ASSERT(l->truncates_joined > 0);
    l->truncates_joined--;
    l->truncated = false; /* what came before is void */
    l->truncate_end = -1;
    l->reset_due = true;
    l->droppable_total = e->bytes;
    l->synced = (struct place){l->segments[0].base, 0};
    if (l->in_checkpoint && e->cuts == l->pub.shard->cuts) l->flush_to = l->synced;
    writer_want(l);
    notify(l);
}

static void effect_run(struct log_shard *sh, const struct shard_slice *ss, const struct effect *e) {
    struct log_impl *l = e->log;
    switch (e->kind) {
    case EFFECT_APPEND: append_durable(ss, l, e); break;
    case EFFECT_MARKER: notify(l); break;
    case EFFECT_CREATE:
        if (e->done) e->done(&l->pub, e->ctx, OK);
        break;
    case EFFECT_START:
        l->droppable_total = e->bytes;
        writer_want(l);
        if (e->done) e->done(&l->pub, e->ctx, OK);
        break;
    case EFFECT_TRUNCATE: truncate_durable(l, e); break;
    case EFFECT_RESET: reset_durable(l, e); break;
    case EFFECT_SWAP: swap_durable(l, e->offset, e->swap_id, e->bytes); break;
    case EFFECT_ROLL: writer_want(l); break;
    case EFFECT_IMAGE: writer_image_durable(l); break;
    case EFFECT_ASSIGNED: store_assigned(sh->store, sh, (uint64_t)e->offset); break;
    case EFFECT_SEQ: break; /* after the others */
    case EFFECT_DELETE:
        l->delete_durable = true;
        writer_want(l);
        break;
    }
}

static void effect_fail(const struct effect *e, enum err err) {
    struct log_impl *l = e->log;
    if (e->kind == EFFECT_CREATE || e->kind == EFFECT_START) {
        if (e->done) e->done(&l->pub, e->ctx, err);
    } else if (e->kind == EFFECT_DELETE) {
        void (*deleted)(void *ctx, enum err err) = l->deleted;
        l->deleted = NULL;
        if (deleted) deleted(l->deleted_ctx, err);
    } else if (e->kind != EFFECT_IMAGE && e->kind != EFFECT_ASSIGNED && e->kind != EFFECT_SWAP && l) {
        notify(l);
    }
}

/* Turns a durable slice into memory of the tails, if it holds any batch. */
static bool slice_keep(struct log_shard *sh, struct shard_slice *ss) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < ss->effect_count; i++) n += ss->effects[i].kind == EFFECT_APPEND;
    if (n == 0) return false;
    for (uint32_t i = 0; i < ss->effect_count; i++)
        if (ss->effects[i].kind == EFFECT_APPEND) ss->plids[ss->plid_count++] = ss->effects[i].log->pub.plid;
    list_push_back(&sh->tails, &ss->link);
    sh->tail_bytes += ss->memory->cap;
    return true;
}

/* Segment writers must keep up: what is only in the journal is what a checkpoint has to write before anything becomes free,
 * and above the tail's memory it would have to be read back. So records wait while this shard's writers are at work on
 * more than that; every write that is done lets some in, instead of all of them waiting at 7/8 for the checkpoint. */
static uint64_t pending_bytes_max(const struct log_shard *sh) {
    const struct log_store_config *c = &sh->store->config;
    return MAX(MIN(c->journal_bytes / 8, c->tail_bytes / 2), 4 * (uint64_t)WRITE_BYTES);
}
static bool writers_behind(const struct log_shard *sh, uint64_t bytes) {
    return sh->writers_busy > 0 && journal_pending_bytes(sh->journal) > bytes;
}

static void wake_writable(struct log_shard *sh) {
    if (!sh->stopped_appends || sh->submitted_bytes > submitted_bytes_max(sh) / 2) return;
    if (writers_behind(sh, pending_bytes_max(sh) / 4 * 3)) return;
    if (journal_pressure(sh->journal) >= 2) return;
    sh->stopped_appends = false;
    if (sh->writable) sh->writable(sh->writable_ctx);
}

static void slice_done(struct journal_slice *s) {
    struct shard_slice *ss = s->owner;
    struct log_shard *sh = ss->shard;
    ASSERT(LIST_ENTRY(sh->submitted.next, struct shard_slice, link) == ss);
    list_remove(&ss->link);
    sh->submitted_count--;
    sh->submitted_bytes -= s->buf->cap;
    ss->memory = buf_ref(s->buf);
    ss->durable = true;
    enum err err = s->err == OK ? sh->failed : s->err;
    if (err == OK && store_failed(sh->store)) err = ERR_IO;
    struct effect *effects = ss->effects;
    uint32_t count = ss->effect_count;
    bool keep = slice_keep(sh, ss);
    ss->effects = NULL;
    ss->effect_count = ss->effect_cap = 0;
    if (err != OK) sh->failed = err;
    for (uint32_t i = 0; i < count; i++) {
        if (err == OK) effect_run(sh, ss, &effects[i]);
        else effect_fail(&effects[i], err);
    }
    for (uint32_t i = 0; i < count && err == OK; i++)
        if (effects[i].kind == EFFECT_SEQ) seq_durable(&effects[i]);
    free(effects);
    if (!keep) slice_free(ss);
    shard_evict(sh);
    wake_writable(sh);
}

/* ---- memory --------------------------------------------------------------------------------- */

static void log_evict(struct log_impl *l, const struct shard_slice *ss) {
    struct tail *t = &l->tail;
    while (t->journal_only < t->count) {
        struct tail_entry *e = tail_at(t, t->journal_only);
        if (e->slice != ss) break;
        e->pos = shard_slice_pos(ss, e->pos.offset);
        e->slice = NULL;
        t->journal_only++;
    }
    tail_drop_written(l);
}

static void pinned_release(struct buf *b) {
    struct log_shard *sh = b->owner;
    sh->pinned_bytes -= b->cap;
    buf_free(b);
}

/* A slow reader of a small batch keeps the whole slice: that counts, and above a bound readers get copies. */
static void pin(struct log_shard *sh, struct buf *b) {
    if (b->refs < 2 || b->release != buf_free) return;
    b->owner = sh;
    b->release = pinned_release;
    sh->pinned_bytes += b->cap;
}

void shard_evict(struct log_shard *sh) {
    if (sh->failed != OK) return; /* what is not durable has no other copy */
    while (sh->tail_bytes > sh->tail_bytes_max && !list_empty(&sh->tails)) {
        struct shard_slice *ss = LIST_ENTRY(list_pop_front(&sh->tails), struct shard_slice, link);
        for (uint32_t i = 0; i < ss->plid_count; i++) {
            struct log_impl *l = shard_find(sh, ss->plids[i]);
            if (l) log_evict(l, ss);
        }
        sh->tail_bytes -= ss->memory->cap;
        pin(sh, ss->memory);
        slice_free(ss);
    }
}

/* ---- pressure and failure ------------------------------------------------------------------- */

enum log_pressure log_shard_pressure(const struct log_shard *sh) {
    int level = journal_pressure(sh->journal);
    if (level >= 2 || sh->submitted_bytes > submitted_bytes_max(sh)) return LOG_PRESSURE_STOP;
    if (writers_behind(sh, pending_bytes_max(sh))) return LOG_PRESSURE_STOP;
    return level == 1 ? LOG_PRESSURE_SLOW : LOG_PRESSURE_NONE;
}

bool log_shard_disk_full(const struct log_shard *sh) { return journal_pressure(sh->journal) == 3; }

uint64_t log_shard_waiting(const struct log_shard *sh) {
    if (log_shard_pressure(sh) != LOG_PRESSURE_STOP || log_shard_disk_full(sh)) return journal_writing(sh->journal);
    return journal_pending_bytes(sh->journal) * 31 + journal_live_bytes(sh->journal) + 1;
}

void log_shard_on_writable(struct log_shard *sh, void (*writable)(void *ctx), void *ctx) {
    sh->writable = writable;
    sh->writable_ctx = ctx;
}

uint64_t shard_reserve(const struct log_shard *sh, const struct log_config *c) {
    uint64_t reserve = sh->store->config.disk_reserve_bytes;
    return c->whole_reserve ? 0 : c->internal ? reserve / 2 : reserve;
}

enum err shard_room(struct log_shard *sh, const struct log_config *c, uint32_t bytes) {
    if (sh->failed == OK && store_failed(sh->store)) sh->failed = ERR_IO;
    if (sh->failed != OK) return ERR_IO;
    if (sh->stopping) return ERR_CLOSED;
    int level = journal_pressure_within(sh->journal, shard_reserve(sh, c) + bytes);
    bool room = sh->submitted_bytes <= submitted_bytes_max(sh) && !writers_behind(sh, pending_bytes_max(sh));
    if (level < 2 && room) return OK;
    sh->stopped_appends = true;
    return level == 3 ? ERR_NOSPACE : ERR_AGAIN;
}

void shard_pressure_changed(struct log_shard *sh) { wake_writable(sh); }

void shard_failed(struct log_shard *sh, enum err err) {
    if (sh->failed == OK) sh->failed = err;
    struct shard_slice *ss = sh->open;
    if (!ss) return;
    sh->open = NULL;
    for (uint32_t i = 0; i < ss->effect_count; i++) effect_fail(&ss->effects[i], err);
    /* Its batches stay readable: they are in memory, never durable, and nobody was told otherwise. */
    ss->memory = ss->s.buf;
    ss->durable = true;
    list_push_back(&sh->tails, &ss->link);
    sh->tail_bytes += ss->memory->cap;
}

void shard_fail(struct log_shard *sh, enum err err, const char *what) {
    if (sh->failed == OK) sh->failed = err;
    store_fail(sh->store, err, what);
}

/* Every CREATE and DELETE that came before on this shard is durable when this effect runs; the entry
 * goes in once that is true of all shards. */
void log_shard_assigned(struct log_shard *sh, uint64_t metadata_end) {
    if (sh->failed != OK) return;
    if (shard_effect_reserve(sh) != OK) {
        shard_fail(sh, ERR_NOMEM, "no memory for a journal entry");
        return;
    }
    shard_effect(sh, EFFECT_ASSIGNED, NULL)->offset = (int64_t)metadata_end;
}
