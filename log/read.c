/* read.c - reading whole batches: from memory, from the journal, from segment files.
 *
 * Offsets below the first tail entry are wholly in files; the tail says where the rest is. What comes
 * from a disk is checked, batch by batch, before it leaves: CRC, offsets, epoch, length.
 *
 * In segments that compaction has written there are gaps: a read from within one goes on with what follows, perhaps in the
 * next segment.
 *
 * A read may span a truncation or a swap, or find that its bytes moved from the journal to a file meanwhile: it
 * then starts again. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "base/trace.h"
#include "log/check.h"
#include "log/lookup.h"
#include "log/store.h"

enum {
    READ_BYTES_MIN = 64 * 1024,     /* from a file, however little was asked for */
    READ_BYTES_MAX = 2 << 20,       /* but for a single larger batch */
    SEEK_SLACK_BYTES = 16 * 1024,   /* what may lie between an index entry and the batch that is wanted */
    TRIES_MAX = 4
};

struct read_op {
    struct io_op op;
    struct list link;               /* shard->reads */
    struct lookup lookup;
    struct check *check;            /* of a segment in which damage was met; NULL: none */
    struct digest_load *load;       /* of the segment's digests; NULL: none */
    struct log_read *r;
    struct log_impl *log;
    struct file *file;
    struct buf *buf;
    uint32_t change;
    uint32_t tries;
    bool *at_once;                  /* while log_read() runs: finished before it returned */
    bool from_start;                /* the index has led to what is no batch, at `misled_to`: scan the segment */
    uint32_t misled_to;
    bool located;                   /* by hint or index */
    bool seeking;                   /* the batch that holds the offset was not met yet */
    bool passed;                    /* emptied batches were passed over, nothing was taken yet */
    bool keep_empty;                /* nothing follows them: they are what there is to return */
    int64_t offset;                 /* r->offset, or where the gap ends that it lies in */
    int64_t base;                   /* segment */
    int64_t expected;               /* base offset of the next batch, where there are no gaps; -1: unknown, but */
    int64_t expected_last;          /* the index says what its last offset is */
    uint32_t position, want, got;   /* of the first batch, bytes wanted, bytes there */
    uint32_t skip;                  /* of `buf`: bytes of the chunk before `position`, read for its digest */
    uint32_t asked;                 /* more than came: the file ends too early */
    uint32_t read_from;             /* journal: offset of buf in the piece */
    struct journal_pos pos;
};

static void read_start(struct read_op *x);

static int64_t read_limit(const struct log_impl *l, const struct log_read *r) { return MIN(r->max_offset, l->pub.end); }

static void reset(struct log_read *r) {
    r->slice_count = 0;
    r->bytes = 0;
    r->err = OK;
    r->next_offset = r->offset;
}

static void restart(struct read_op *x);

static void finish(struct read_op *x, enum err err) {
    struct log_read *r = x->r;
    if (x->passed && r->bytes == 0) { /* a reader that gets nothing would not get on */
        x->keep_empty = true;
        x->tries = 0;
        restart(x);
        return;
    }
    struct log_impl *l = x->log;
    struct log_shard *sh = l->pub.shard;
    if (x->file) files_put(&sh->files, x->file);
    buf_unref(x->buf);
    free(x->check);
    free(x->load);
    lookup_free(&x->lookup);
    list_remove(&x->link);
    if (err != OK) log_read_release(r);
    r->err = err;
    r->state = NULL;
    bool *at_once = x->at_once;
    free(x);
    if (at_once) *at_once = true;
    else r->done(r);
    ASSERT(l->reads > 0);
    l->reads--;
    shard_release_log(sh, l);
}

static void restart(struct read_op *x) {
    if (x->file) files_put(&x->log->pub.shard->files, x->file);
    x->file = NULL;
    buf_unref(x->buf);
    x->buf = NULL;
    log_read_release(x->r);
    if (x->change != x->log->change) x->tries = 0;
    x->offset = x->r->offset;
    x->passed = false;
    if (++x->tries > TRIES_MAX) {
        trace_error("log", "%s: offset %lld cannot be read, and no damage is found", x->log->folder, (long long)x->r->offset);
        finish(x, ERR_CORRUPT);
        return;
    }
    read_start(x);
}

/* Bytes of the journal: the segment writer will bring them into a file as they are, where they become a faulty range. */
static void journal_corrupt(struct read_op *x, const struct tail_entry *e, const char *what) {
    struct log_impl *l = x->log;
    trace_error("log", "%s/%s: offset %lld, in piece %u of the journal at %u: %s; reads of it fail", l->pub.shard->store->dir, l->folder,
                (long long)e->base_offset, e->pos.piece, e->pos.offset, what);
    finish(x, ERR_CORRUPT);
}

/* ---- memory --------------------------------------------------------------------------------------- */

/* How many entries from `i` on, all in memory or all in one piece of the journal, fit the request. */
static uint32_t entries_fitting(const struct log_impl *l, const struct log_read *r, uint32_t i, bool memory, uint32_t *bytes) {
    const struct tail *t = &l->tail;
    int64_t limit = read_limit(l, r);
    uint32_t n = 0;
    *bytes = 0;
    for (; i + n < t->count; n++) {
        const struct tail_entry *e = tail_at(t, i + n);
        if (e->base_offset >= limit || (e->slice != NULL) != memory) break;
        if (n > 0 || !r->min_one) {
            if ((uint64_t)*bytes + e->len > r->max_bytes) break;
        }
        *bytes += e->len;
    }
    return n;
}

static enum err copy_entries(struct log_impl *l, struct log_read *r, uint32_t i, uint32_t n, uint32_t bytes) {
    struct buf *b = buf_new(bytes, 0);
    if (!b) return ERR_NOMEM;
    uint32_t at = 0;
    for (uint32_t k = i; k < i + n; k++) {
        const struct tail_entry *e = tail_at(&l->tail, k);
        memcpy(b->data + at, shard_slice_buf(e->slice)->data + e->pos.offset, e->len);
        at += e->len;
    }
    r->slices[0] = (struct slice){b, 0, bytes};
    r->slice_count = 1;
    return OK;
}

static enum err read_memory(struct log_impl *l, struct log_read *r, uint32_t i) {
    uint32_t bytes, n = entries_fitting(l, r, i, true, &bytes);
    if (n == 0) return OK;
    const struct log_shard *sh = l->pub.shard;
    if (n > LOG_READ_SLICES || sh->pinned_bytes > sh->tail_bytes_max / 2) {
        enum err err = copy_entries(l, r, i, n, bytes);
        if (err != OK) return err;
    } else {
        for (uint32_t k = i; k < i + n; k++) {
            const struct tail_entry *e = tail_at(&l->tail, k);
            r->slices[r->slice_count++] = (struct slice){buf_ref(shard_slice_buf(e->slice)), e->pos.offset, e->len};
        }
    }
    const struct tail_entry *last = tail_at(&l->tail, i + n - 1);
    r->bytes = bytes;
    r->next_offset = last->base_offset + last->count;
    return OK;
}

/* ---- the journal -------------------------------------------------------------------------------------- */

/* Moves the batches that were asked for to the front of the buffer, next to each other. */
static void journal_done(struct io_op *op) {
    struct read_op *x = CONTAINER_OF(op, struct read_op, op);
    struct log_impl *l = x->log;
    struct log_read *r = x->r;
    if (op->result < 0 || l->folder_moved) {
        finish(x, l->folder_moved ? ERR_CLOSED : ERR_IO);
        return;
    }
    uint32_t i = tail_find(&l->tail, x->offset), bytes;
    bool same = x->change == l->change && i < l->tail.journal_only && tail_at(&l->tail, i)->base_offset <= x->offset;
    uint32_t n = same ? entries_fitting(l, r, i, false, &bytes) : 0, at = 0;
    for (uint32_t k = i; k < i + n; k++) {
        const struct tail_entry *e = tail_at(&l->tail, k);
        bool inside = e->pos.piece == x->pos.piece && e->pos.offset >= x->read_from &&
                      e->pos.offset + e->len <= x->read_from + (uint64_t)op->result;
        if (!inside) break;
        uint8_t *p = x->buf->data + (e->pos.offset - x->read_from);
        struct batch_header h;
        const struct segment *s = segment_of(l, e->base_offset);
        const char *wrong = batch_parse(p, e->len, &h) != OK || h.total_bytes != e->len || h.base_offset != e->base_offset
                                ? "the batch in the journal is not the one that was written"
                                : batch_wrong(l, s, p, &h);
        if (wrong) {
            journal_corrupt(x, e, wrong);
            return;
        }
        memmove(x->buf->data + at, p, e->len);
        at += e->len;
        r->next_offset = e->base_offset + e->count;
    }
    if (at == 0) {
        restart(x);
        return;
    }
    r->slices[0] = (struct slice){buf_ref(x->buf), 0, at};
    r->slice_count = 1;
    r->bytes = at;
    finish(x, OK);
}

static void read_journal(struct read_op *x, uint32_t i) {
    struct log_impl *l = x->log;
    uint32_t bytes, n = entries_fitting(l, x->r, i, false, &bytes);
    if (n == 0) {
        finish(x, OK);
        return;
    }
    const struct tail_entry *e = tail_at(&l->tail, i);
    x->pos = e->pos;
    x->read_from = ALIGN_DOWN(e->pos.offset, IO_BLOCK_BYTES);
    uint32_t to = e->pos.offset + e->len;
    for (uint32_t k = i + 1; k < i + n; k++) {
        e = tail_at(&l->tail, k);
        if (e->pos.piece != x->pos.piece || e->pos.offset < to || e->pos.offset + e->len - x->read_from > READ_BYTES_MAX) break;
        to = e->pos.offset + e->len;
    }
    uint32_t len = ALIGN_UP(to - x->read_from, IO_BLOCK_BYTES);
    x->buf = buf_new(len, IO_BLOCK_BYTES);
    if (!x->buf) {
        finish(x, ERR_NOMEM);
        return;
    }
    x->change = l->change;
    x->op = (struct io_op){.kind = IO_READ, .fd = journal_fd(l->pub.shard->journal, x->pos.piece), .offset = x->read_from,
                           .buf = x->buf->data, .len = len, .done = journal_done};
    io_submit(l->pub.shard->io, &x->op);
}

/* ---- files ------------------------------------------------------------------------------------------ */

static struct read_hint *hint_slot(struct log_shard *sh, uint64_t plid, int64_t offset) {
    uint64_t h = plid * 0x9e3779b97f4a7c15u + (uint64_t)offset * 0xff51afd7ed558ccdu;
    return &sh->hints[(h >> 32) % READ_HINTS];
}

void read_hints_forget(struct log_shard *sh, uint64_t plid) {
    for (uint32_t i = 0; i < READ_HINTS; i++)
        if (sh->hints[i].plid == plid) sh->hints[i] = (struct read_hint){0};
}

static void file_read(struct read_op *x);

static void checked(struct check *c) {
    struct read_op *x = c->owner;
    if (c->err == ERR_NOMEM || c->err == ERR_IO) {
        finish(x, c->err);
        return;
    }
    if (c->added > 0) x->tries = 0;
    x->from_start = false;
    restart(x);
}

/* There is damage below `until`: it is found, and what is not damaged is read. */
static void examine(struct read_op *x, uint32_t until) {
    struct log_impl *l = x->log;
    struct segment *s = segment_by_base(l, x->base);
    if (!x->check) x->check = calloc(1, sizeof *x->check);
    if (!x->check || !s) {
        finish(x, s ? ERR_NOMEM : ERR_CLOSED);
        return;
    }
    x->check->done = checked;
    x->check->owner = x;
    check_start(x->check, l, s, x->offset, until, false);
}

/* The scan met something that cannot be: perhaps only the index was wrong. */
static void scan_failed(struct read_op *x, uint32_t position) {
    if (x->located && x->seeking) {
        x->misled_to = x->position;
        x->from_start = true;
        x->tries = 0;
        restart(x);
    } else {
        examine(x, position + 1);
    }
}

/* Takes the batch at buf[at]; false: the read ends before it. */
static bool take(struct read_op *x, const struct batch_header *h, uint32_t at) {
    struct log_read *r = x->r;
    if (h->base_offset >= read_limit(x->log, r)) return false;
    bool first = r->bytes == 0;
    if ((uint64_t)r->bytes + h->total_bytes > r->max_bytes && !(first && r->min_one)) return false;
    if (first) {
        r->slices[0] = (struct slice){buf_ref(x->buf), x->skip + at, 0};
        r->slice_count = 1;
    }
    r->slices[0].len += h->total_bytes;
    r->bytes += h->total_bytes;
    r->next_offset = batch_last_offset(h) + 1;
    return true;
}

/* Batches that compaction emptied and only kept for their headers. */
static bool passes_over(const struct read_op *x, const struct batch_header *h) {
    return x->r->skip_empty && !x->keep_empty && x->r->bytes == 0 && h->record_count == 0 && h->base_offset < read_limit(x->log, x->r);
}

static void file_end(struct read_op *x, uint32_t position) {
    struct log_impl *l = x->log;
    if (x->from_start && x->r->bytes > 0)
        trace_warn("log", "%s: segment %lld: the index points to position %u, where no batch begins; it is not used", l->folder,
                   (long long)x->base, x->misled_to);
    if (x->r->bytes > 0)
        *hint_slot(l->pub.shard, l->pub.plid, x->r->next_offset) =
            (struct read_hint){l->pub.plid, x->r->next_offset, {x->base, position}};
    finish(x, OK);
}

/* All batches of the file were seen, none ends behind the offset: on to what follows, in memory or in the next segment. False: this is
 * no gap. */
static bool gap_crossed(struct read_op *x, uint32_t position, uint32_t limit) {
    struct log_impl *l = x->log;
    const struct segment *s = segment_by_base(l, x->base);
    if (!s || !segment_has_gaps(l, s) || position != limit) return false;
    int64_t next = s->end;
    if (l->tail.count > 0 && tail_at(&l->tail, 0)->base_offset < next) next = tail_at(&l->tail, 0)->base_offset;
    if (next < x->offset || (next == x->offset && !x->passed)) return false;
    x->offset = next;
    buf_unref(x->buf);
    x->buf = NULL;
    read_start(x);
    return true;
}

/* The buffer ended inside a batch, or before one: read on from `at`, unless there is something to return. */
static void read_on(struct read_op *x, uint32_t at, uint32_t total, uint32_t limit) {
    if (x->r->bytes > 0) {
        file_end(x, x->position + at);
        return;
    }
    if (x->position + at >= limit && gap_crossed(x, x->position + at, limit)) return;
    bool hopeless = x->position + at >= limit || total > MIN(limit - (x->position + at), (uint32_t)BATCH_IN_FILE_MAX) ||
                    x->got < x->asked;
    if (hopeless || (at == 0 && x->got >= MAX(total, (uint32_t)BATCH_HEADER_BYTES))) {
        scan_failed(x, x->position + at);
        return;
    }
    x->position += at;
    x->want = MAX(total, x->want);
    file_read(x);
}

static void scan(struct read_op *x) {
    struct log_impl *l = x->log;
    struct segment *s = segment_by_base(l, x->base);
    int64_t limit_offset;
    uint32_t at = 0, limit = file_limit(l, s, &limit_offset);
    const struct faulty_range *next = faulty_next(l, x->offset);
    if (next && next->base == x->base) limit_offset = MIN(limit_offset, next->start);
    x->asked = MIN(x->asked, limit > x->position ? limit - x->position : 0);
    x->got = MIN(x->got, x->asked);
    while (at < x->got) {
        struct batch_header h;
        const uint8_t *p = x->buf->data + x->skip + at;
        uint32_t left = x->got - at;
        enum err err = batch_parse(p, left, &h);
        if (err == ERR_TRUNCATED) {
            read_on(x, at, left >= BATCH_HEADER_BYTES ? h.total_bytes : BATCH_HEADER_BYTES, limit);
            return;
        }
        /* Offset and epoch are not under the CRC: the offset must continue what came before. */
        bool follows = h.base_offset == x->expected || (segment_has_gaps(l, s) && h.base_offset > x->expected);
        if (err != OK || !(x->expected >= 0 ? follows : batch_last_offset(&h) == x->expected_last)) {
            if (x->r->bytes > 0) file_end(x, x->position + at); /* the next read finds out */
            else scan_failed(x, x->position + at);
            return;
        }
        if (batch_last_offset(&h) >= x->offset) {
            if (h.base_offset >= limit_offset && x->r->bytes > 0) {
                file_end(x, x->position + at); /* what follows is faulty */
                return;
            }
            if (batch_wrong(l, s, p, &h)) {
                if (x->r->bytes > 0) file_end(x, x->position + at); /* the next read reports it */
                else scan_failed(x, x->position + at);
                return;
            }
            x->seeking = false;
            if (passes_over(x, &h)) {
                x->passed = true;
                x->offset = batch_last_offset(&h) + 1;
            } else if (!take(x, &h, at)) {
                file_end(x, x->position + at);
                return;
            }
        }
        x->expected = batch_last_offset(&h) + 1;
        at += h.total_bytes;
    }
    read_on(x, at, 0, limit);
}

/* False: a chunk that was read is not what was sealed, and no damage is known that explains it; `*until`: its end. */
static bool digests_right(struct read_op *x, struct digests *d, uint32_t got, uint32_t *until) {
    uint32_t from = x->position - x->skip;
    if (from % MANIFEST_CHUNK_BYTES != 0) return true; /* all verified before */
    for (uint64_t c = 0; !digests_check(d, x->buf->data, from, got, false, &c); c++) {
        uint64_t at = c * MANIFEST_CHUNK_BYTES;
        *until = (uint32_t)MIN(at + MANIFEST_CHUNK_BYTES, d->sealed.size_bytes);
        if (!faulty_overlaps(x->log, x->base, (uint32_t)at, *until)) return false;
    }
    return true;
}

static void file_done(struct io_op *op) {
    struct read_op *x = CONTAINER_OF(op, struct read_op, op);
    struct digests *digests = x->file->digests; /* goes with the handle: used at once */
    files_put(&x->log->pub.shard->files, x->file);
    x->file = NULL;
    if (op->result < 0) {
        trace_error("log", "%s/%s: segment %lld cannot be read at %u: %s", x->log->pub.shard->store->dir, x->log->folder,
                    (long long)x->base, x->position, strerror((int)-op->result));
        finish(x, ERR_IO);
        return;
    }
    const struct segment *s = segment_by_base(x->log, x->base);
    if (x->change != x->log->change || !s) {
        restart(x);
        return;
    }
    uint32_t got = (uint32_t)op->result, suspect = 0;
    if (digests && s->sealed && !digests_right(x, digests, got, &suspect)) {
        examine(x, suspect);
        return;
    }
    x->got = got > x->skip ? got - x->skip : 0;
    if (x->got == 0) scan_failed(x, x->position);
    else scan(x);
}

static void file_submit(struct read_op *x);

static void loaded(struct digest_load *load) {
    file_submit(load->owner);
}

static void file_read(struct read_op *x) {
    struct log_impl *l = x->log;
    struct log_shard *sh = l->pub.shard;
    struct segment *s = segment_by_base(l, x->base);
    if (!s || x->change != l->change) {
        restart(x);
        return;
    }
    int64_t limit_offset;
    uint32_t limit = file_limit(l, s, &limit_offset);
    if (x->position >= limit) {
        if (gap_crossed(x, x->position, limit)) return;
        scan_failed(x, x->position);
        return;
    }
    int rc = -ENOMEM;
    x->file = files_get(&sh->files, l, x->base, FILE_LOG, 0, &rc);
    if (!x->file) {
        if (l->delete_durable) finish(x, ERR_CLOSED);
        else if (rc == -ENOENT) examine(x, x->position + 1);
        else finish(x, rc == -ENOMEM ? ERR_NOMEM : ERR_IO);
        return;
    }
    if (digests_wanted(x->file, s) && !x->load) x->load = calloc(1, sizeof *x->load);
    if (digests_wanted(x->file, s) && x->load) digests_load(x->load, l, s, x->file, loaded, x);
    else file_submit(x);
}

/* Reads, together with the rest of the chunks that were not verified yet. */
static void file_submit(struct read_op *x) {
    struct log_impl *l = x->log;
    struct log_shard *sh = l->pub.shard;
    struct segment *s = segment_by_base(l, x->base);
    if (!s || x->change != l->change) {
        restart(x);
        return;
    }
    int64_t limit_offset;
    uint32_t limit = file_limit(l, s, &limit_offset), from = x->position;
    x->asked = MIN(x->want, limit - x->position);
    uint32_t to = x->position + x->asked;
    const struct digests *d = s->sealed ? x->file->digests : NULL;
    if (d && !digests_cover(d, from, to)) {
        from = ALIGN_DOWN(from, MANIFEST_CHUNK_BYTES);
        to = (uint32_t)MIN(ALIGN_UP((uint64_t)to, MANIFEST_CHUNK_BYTES), d->sealed.size_bytes);
    }
    x->skip = x->position - from;
    x->asked = to - x->position;
    buf_unref(x->buf);
    x->buf = buf_new(to - from, 0);
    if (!x->buf) {
        finish(x, ERR_NOMEM);
        return;
    }
    x->op = (struct io_op){.kind = IO_READ, .fd = x->file->fd, .offset = from, .buf = x->buf->data, .len = to - from, .done = file_done};
    io_submit(sh->io, &x->op);
}

/* Batches behind known damage are found from its end on. */
static void pass_faulty(struct read_op *x) {
    const struct faulty_range *f = faulty_before(x->log, x->base, x->offset);
    if (!f || f->end_position < x->position || (x->located && x->expected == x->offset)) return;
    x->located = false;
    x->position = f->end_position;
    x->expected = f->end;
}

static void locate(struct read_op *x, const struct index_entry *e) {
    x->located = true;
    x->position = e->position;
    x->expected = -1;
    x->expected_last = x->base + e->relative;
}

static void looked_up(struct lookup *lookup) {
    struct read_op *x = CONTAINER_OF(lookup, struct read_op, lookup);
    lookup_free(lookup);
    if (lookup->found) locate(x, &lookup->entry);
    pass_faulty(x);
    file_read(x);
}

static void read_file(struct read_op *x) {
    struct log_impl *l = x->log;
    struct log_read *r = x->r;
    const struct segment *s = segment_of(l, x->offset);
    const struct read_hint *hint = hint_slot(l->pub.shard, l->pub.plid, x->offset);
    uint32_t want = MIN(MAX(r->max_bytes, (uint32_t)READ_BYTES_MIN), (uint32_t)READ_BYTES_MAX);
    x->base = s->base;
    x->expected = s->base;
    x->change = l->change;
    x->want = want + SEEK_SLACK_BYTES;
    x->seeking = true;
    x->located = false;
    x->position = 0;
    if (x->from_start || x->offset == s->base) {
        pass_faulty(x);
        file_read(x);
        return;
    }
    int64_t relative = x->offset - s->base;
    if (hint->plid == l->pub.plid && hint->offset == x->offset && hint->place.base == s->base) {
        x->located = true;
        x->want = want;
        x->position = hint->place.position;
        x->expected = x->offset;
        file_read(x);
    } else if (s->index && s->index->offset_count > 0 && s->index->offsets[0].relative <= relative) {
        locate(x, index_find_entry(s->index, x->offset));
        pass_faulty(x);
        file_read(x);
    } else if (s->index_bytes > 0) {
        lookup_start(&x->lookup, l, s, false, relative, looked_up);
    } else {
        pass_faulty(x);
        file_read(x);
    }
}

/* ---- which -------------------------------------------------------------------------------------------- */

static void read_start(struct read_op *x) {
    struct log_impl *l = x->log;
    struct log_read *r = x->r;
    reset(r);
    r->next_offset = x->offset;
    if (l->folder_moved) { /* its name and its pieces of the journal may be others' by now */
        finish(x, ERR_CLOSED);
        return;
    }
    if (x->offset < l->pub.start || x->offset > l->pub.end) {
        finish(x, ERR_RANGE);
        return;
    }
    uint32_t i = tail_find(&l->tail, x->offset);
    if (i > 0 && i < l->tail.count) x->offset = MAX(x->offset, tail_at(&l->tail, i)->base_offset); /* in a gap between two of them */
    if (x->offset >= read_limit(l, r)) {
        finish(x, OK);
        return;
    }
    if (i == l->tail.count || tail_at(&l->tail, i)->base_offset > x->offset) {
        if (faulty_at(l, x->offset)) finish(x, ERR_CORRUPT);
        else read_file(x);
    } else if (tail_at(&l->tail, i)->slice) {
        finish(x, read_memory(l, r, i));
    } else {
        read_journal(x, i);
    }
}

bool log_read(struct log *pub, struct log_read *r) {
    struct log_impl *l = impl_of(pub);
    r->log = pub;
    r->state = NULL;
    reset(r);
    if (r->offset < pub->start || r->offset > pub->end) {
        r->err = ERR_RANGE;
        return true;
    }
    if (r->offset >= read_limit(l, r)) return true;
    uint32_t i = tail_find(&l->tail, r->offset);
    if (i < l->tail.count && tail_at(&l->tail, i)->slice && tail_at(&l->tail, i)->base_offset <= r->offset) {
        r->err = read_memory(l, r, i);
        return true;
    }
    struct read_op *x = calloc(1, sizeof *x);
    if (!x) {
        r->err = ERR_NOMEM;
        return true;
    }
    x->r = r;
    x->log = l;
    x->offset = r->offset;
    r->state = x;
    list_push_back(&pub->shard->reads, &x->link);
    l->reads++;
    bool at_once = false;
    x->at_once = &at_once;
    read_start(x);
    if (!at_once) x->at_once = NULL;
    return at_once;
}

void reads_free(struct log_shard *sh) {
    for (struct list *n; (n = list_pop_front(&sh->reads));) {
        struct read_op *x = LIST_ENTRY(n, struct read_op, link);
        buf_unref(x->buf); /* nothing was handed to x->r yet, which may be gone */
        free(x->lookup.block);
        if (x->load) digest_load_free(x->load);
        free(x->load);
        free(x->check);
        free(x);
    }
}

void log_read_release(struct log_read *r) {
    for (uint32_t i = 0; i < r->slice_count; i++) buf_unref(r->slices[i].buf);
    r->slice_count = 0;
    r->bytes = 0;
}

uint64_t log_bytes_between(const struct log *pub, int64_t offset, int64_t max_offset, uint64_t cap) {
    const struct log_impl *l = impl_of_const(pub);
    int64_t limit = MIN(max_offset, pub->end);
    uint64_t bytes = 0;
    if (offset >= limit) return 0;
    uint32_t i = tail_find(&l->tail, offset);
    int64_t tail_start = i < l->tail.count ? tail_at(&l->tail, i)->base_offset : limit;
    for (; i < l->tail.count && bytes < cap && tail_at(&l->tail, i)->base_offset < limit; i++) bytes += tail_at(&l->tail, i)->len;
    /* In files: as if all records were equal. */
    int64_t file_end = MIN(tail_start, limit);
    for (int64_t at = offset; at < file_end && bytes < cap;) {
        const struct segment *s = segment_of(l, at);
        int64_t end = MIN(s->end, file_end);
        if (end <= at) break;
        bytes += (uint64_t)((double)s->size_bytes / (double)(s->end - s->base) * (double)(end - at)) + 1;
        at = end;
    }
    return MIN(bytes, cap);
}
