/* write.c - the bytes of a log on their way into its segment files (docs/storage.md, rules S1-S4).
 *
 * Whole blocks, up to 512 KiB at a time, when that much is pending; to the exact byte for a roll and
 * for a checkpoint. Before a block is written a second time its protected bytes go into the journal
 * as an IMAGE: a torn write could otherwise destroy their only copy. */
#include "base/assert.h"
#include "base/trace.h"
#include "log/entries.h"
#include "log/inspect.h"
#include "log/mutant.h"
#include "log/store.h"
#include "log/writer.h"

enum { DIRECT_BYTES_MIN = 64 * 1024 }; /* below this the page cache is cheaper than waiting for the device */

/* Position up to which the segment's bytes are durable in the journal. */
static uint32_t durable_bytes(const struct log_impl *l, const struct segment *s) {
    int64_t next = segment_next_base(l, s);
    if (MUTANT(FILE_FIRST)) return s->size_bytes;
    if (l->pub.durable_end >= s->end && next != INT64_MAX) return s->size_bytes;
    uint32_t i = tail_find(&l->tail, l->pub.durable_end);
    if (i == l->tail.count) return s->size_bytes;
    const struct tail_entry *e = tail_at(&l->tail, i);
    if (e->base_offset < s->base) return 0;
    return e->base_offset < next ? e->position : s->size_bytes;
}

static struct segment *first_unwritten(struct log_impl *l) {
    uint32_t i = l->segment_count - 1;
    while (i > 0 && l->segments[i - 1].written_bytes < l->segments[i - 1].size_bytes) i--;
    return &l->segments[i];
}

/* Up to where the segment is to be written now. */
static uint32_t write_goal(const struct log_impl *l, const struct segment *s) {
    bool last = segment_next_base(l, s) == INT64_MAX;
    uint32_t durable = durable_bytes(l, s), goal = 0;
    if (l->pending_bytes >= WRITE_BYTES) goal = ALIGN_DOWN(durable, IO_BLOCK_BYTES);
    bool flush = l->in_checkpoint && l->pub.shard->checkpoint.flushing && !l->flushed;
    /* What a checkpoint waits for comes first: in a steady stream there is always more to write, and journal space
     * becomes free only when it is complete. */
    if (flush && !place_less((struct place){s->base, s->written_bytes}, l->flush_to)) return 0;
    uint32_t exact = !last ? s->size_bytes : flush && l->flush_to.base == s->base ? l->flush_to.position : 0;
    exact = MIN(exact, durable);
    return MAX(goal, exact);
}

bool need_image(const struct log_impl *l, const struct segment *s, uint32_t position, uint32_t *from, uint32_t *to) {
    *from = ALIGN_DOWN(position, IO_BLOCK_BYTES);
    uint32_t protected = l->synced.base == s->base ? l->synced.position : l->synced.base > s->base ? position : 0;
    if (l->in_checkpoint && l->flush_to.base >= s->base && !MUTANT(NO_IMAGE_CHECKPOINT))
        protected = MAX(protected, l->flush_to.base == s->base ? l->flush_to.position : position);
    *to = MIN(protected, position);
    return *to > *from;
}

/* ---- IMAGE ------------------------------------------------------------------------------------ */

static void image_read(struct seg_writer *w, int64_t result) {
    struct log_impl *l = w->log;
    struct log_shard *sh = w->sh;
    uint32_t len = w->image_to - w->image_from;
    if (result < 0) {
        writer_fail(w, result, "read a block that is to be written again");
        return;
    }
    struct segment *s = segment_by_base(l, w->image_base);
    uint32_t from, to;
    bool stale = w->change != l->change || !s || !need_image(l, s, w->image_from + len, &from, &to) || to < w->image_to;
    if (stale || sh->failed != OK || l->delete_durable) {
        w->image_to = 0;
        writer_step(w);
        return;
    }
    if (result < len) {
        /* Bytes that were synced are gone, and there is nothing left to protect. The log goes on behind the hole, which
         * no read takes for batches. */
        struct segment *cut = segment_by_base(l, w->image_base);
        ASSERT(cut);
        inspect_short(l, cut, w->image_from + (uint32_t)result, false);
        w->image_cuts = sh->cuts;
        w->image_durable = true;
        writer_step(w);
        return;
    }
    enum err err = shard_effect_reserve(sh);
    uint8_t *p = err == OK ? shard_entry(sh, ENTRY_IMAGE, l->pub.plid, ENTRY_IMAGE_BYTES, len, NULL, &err) : NULL;
    if (!p) {
        writer_fail(w, -12, "journal a block that is to be written again");
        return;
    }
    entry_image_encode(p, &(struct entry_image){.place = {w->image_base, w->image_from}});
    memcpy(p + ENTRY_IMAGE_BYTES, w->buf, len);
    shard_effect(sh, EFFECT_IMAGE, l);
    w->image_cuts = sh->cuts;
    w->image_durable = false;
}

bool image_step(struct seg_writer *w, const struct segment *s, uint32_t position) {
    uint32_t from, to;
    if (MUTANT(NO_IMAGE) || !s->file_made || !need_image(w->log, s, position, &from, &to)) return false; /* gone: nothing to protect */
    bool same = w->image_to > 0 && w->image_base == s->base && w->image_from == from && w->image_to >= to;
    /* "An IMAGE counts only if its group is later than S of the checkpoint in progress." */
    if (same && (w->image_cuts == w->sh->cuts || MUTANT(OLD_IMAGE))) {
        if (w->image_durable) return false;
        return true; /* in the journal, on its way */
    }
    if (!writer_buffers(w) || !writer_open(w, s->base, FILE_LOG, 0)) return true;
    w->image_base = s->base;
    w->image_from = from;
    w->image_to = to;
    w->image_cuts = UINT64_MAX;
    writer_io(w, IO_READ, 0, to - from, from, image_read);
    return true;
}

/* ---- bytes ------------------------------------------------------------------------------------ */

static void write_next(struct seg_writer *w);

static void written(struct seg_writer *w, int64_t result) {
    struct log_impl *l = w->log;
    if (result < 0 || (size_t)result != w->iov.iov_len) {
        writer_fail(w, result < 0 ? result : -ENOSPC, "write to a segment"); /* short: the next try tells the cause */
        return;
    }
    w->sh->disk_full = false;
    uint32_t len = (uint32_t)result;
    w->at += len;
    struct segment *s = segment_by_base(l, w->base);
    /* A segment that was dropped, or cut while the write was in flight, has been accounted for by then. */
    if (!s || w->change != l->change) {
        writer_step(w);
        return;
    }
    ASSERT(s->written_bytes + len == w->at);
    s->written_bytes = w->at;
    s->unsynced = true;
    if (!s->file_made) l->folder_unsynced = true;
    s->file_made = true;
    l->pending_bytes -= MIN(l->pending_bytes, len);
    journal_pending_written(w->sh->journal, len);
    shard_pressure_changed(w->sh);
    tail_drop_written(l);
    write_next(w);
}

static void write_next(struct seg_writer *w) {
    struct log_impl *l = w->log;
    if (w->at >= w->to || w->sh->failed != OK || l->delete_durable || l->truncates_joined > 0 || w->change != l->change) {
        writer_step(w);
        return;
    }
    uint32_t end = w->to;
    bool direct = false;
    if (w->direct && w->at % IO_BLOCK_BYTES != 0) end = MIN(w->to, ALIGN_UP(w->at, IO_BLOCK_BYTES));
    else if (w->direct && w->to - w->at >= IO_BLOCK_BYTES) {
        end = ALIGN_DOWN(w->to, IO_BLOCK_BYTES);
        direct = true;
    }
    if (!writer_open(w, w->base, FILE_LOG, IO_OPEN_CREATE | (direct ? IO_OPEN_DIRECT : 0))) return;
    writer_io(w, IO_WRITE, w->at - w->from, end - w->at, w->at, written);
}

static void gather(struct seg_writer *w);

static struct journal_pos entry_journal_pos(const struct tail_entry *e, uint32_t skip) {
    return (struct journal_pos){e->pos.piece, e->pos.offset + skip};
}

/* Copies what `bounce` holds of the entry at w->at; 0: nothing. */
static uint32_t copy_from_bounce(struct seg_writer *w, const struct tail_entry *e) {
    uint32_t skip = w->at - e->position, n = MIN(e->len - skip, w->to - w->at);
    struct journal_pos pos = entry_journal_pos(e, skip);
    bool inside = !e->slice && pos.piece == w->read_piece && pos.offset >= w->read_offset &&
                  pos.offset + n <= w->read_offset + w->read_len;
    if (!inside) return 0;
    memcpy(w->buf + (w->at - w->from), w->bounce + (pos.offset - w->read_offset), n);
    return n;
}

static void gathered(struct seg_writer *w, int64_t result) {
    struct log_impl *l = w->log;
    if (result < 0 || result < (int64_t)w->read_len) {
        writer_fail(w, result < 0 ? result : 0, "read the journal back");
        return;
    }
    gather(w);
    (void)l;
}

/* Reads the journal around the entry at w->at, and as many entries behind it as one read holds. */
static void read_back(struct seg_writer *w, uint32_t i) {
    struct tail *t = &w->log->tail;
    const struct tail_entry *e = tail_at(t, i);
    uint32_t skip = w->at - e->position, n = MIN(e->len - skip, w->to - w->at);
    struct journal_pos pos = entry_journal_pos(e, skip);
    uint32_t from = ALIGN_DOWN(pos.offset, IO_BLOCK_BYTES), to = pos.offset + n, goal = w->to - w->at - n;
    for (uint32_t j = i + 1; j < t->journal_only && goal > 0; j++) {
        e = tail_at(t, j);
        uint32_t take = MIN(e->len, goal);
        if (e->pos.piece != pos.piece || e->pos.offset < to || e->pos.offset + take - from > WRITE_BYTES) break;
        to = e->pos.offset + take;
        goal -= take;
    }
    w->read_piece = pos.piece;
    w->read_offset = from;
    w->read_len = ALIGN_UP(to, IO_BLOCK_BYTES) - from;
    ASSERT(w->read_len <= WRITE_BYTES + IO_BLOCK_BYTES);
    w->op = (struct io_op){.kind = IO_READ, .fd = journal_fd(w->sh->journal, pos.piece), .offset = from, .buf = w->bounce, .len = w->read_len};
    writer_submit(w, gathered);
}

/* Collects [at, to) in the buffer, then writes it. */
static void gather(struct seg_writer *w) {
    struct log_impl *l = w->log;
    struct segment *s = segment_by_base(l, w->base);
    if (!s || w->change != l->change || l->delete_durable || l->truncates_joined > 0 || w->sh->failed != OK) {
        writer_step(w);
        return;
    }
    while (w->at < w->to) {
        uint32_t i = tail_find_place(&l->tail, s->base, segment_next_base(l, s), w->at);
        ASSERT(i < l->tail.count);
        const struct tail_entry *e = tail_at(&l->tail, i);
        ASSERT(e->base_offset >= s->base && e->base_offset < segment_next_base(l, s) && e->position <= w->at);
        uint32_t n = copy_from_bounce(w, e);
        if (n == 0 && e->slice) {
            uint32_t skip = w->at - e->position;
            n = MIN(e->len - skip, w->to - w->at);
            memcpy(w->buf + (w->at - w->from), shard_slice_buf(e->slice)->data + e->pos.offset + skip, n);
        }
        if (n == 0) {
            read_back(w, i);
            return;
        }
        w->at += n;
    }
    if (image_step(w, s, s->written_bytes)) return; /* a checkpoint has begun while the journal was read */
    w->at = s->written_bytes;
    write_next(w);
}

bool write_step(struct seg_writer *w) {
    struct log_impl *l = w->log;
    struct segment *s = first_unwritten(l);
    uint32_t goal = write_goal(l, s);
    if (goal <= s->written_bytes) return false;
    if (image_step(w, s, s->written_bytes)) return true;
    if (!writer_buffers(w)) return true;
    w->base = s->base;
    w->from = ALIGN_DOWN(s->written_bytes, IO_BLOCK_BYTES);
    w->at = s->written_bytes;
    w->to = MIN(goal, w->from + WRITE_BYTES);
    w->direct = w->sh->store->config.direct && w->to - w->at >= DIRECT_BYTES_MIN;
    w->change = l->change;
    w->read_len = 0;
    gather(w);
    return true;
}
