/* check.c - see check.h. */
#include "log/check.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "log/store.h"

enum {
    TRIES_MAX = 1000                    /* what looks like a batch behind damage, and is none */
};

/* ---- what reads share ------------------------------------------------------------------------ */

const char *batch_wrong(const struct log_impl *l, const struct segment *s, const uint8_t *p, const struct batch_header *h) {
    if (batch_check(h) != OK) return "the batch header is impossible";
    if (batch_last_offset(h) >= s->end) return "the batch's offsets go beyond the segment";
    if (!batch_crc_ok(p, h)) return "the batch's CRC does not match";
    if (!epochs_fit(&l->pub.epochs, h->base_offset, batch_last_offset(h), h->leader_epoch)) return "the batch's leader epoch is not the one of this offset";
    return NULL;
}

uint32_t file_limit(const struct log_impl *l, const struct segment *s, int64_t *offset) {
    *offset = s->end;
    if (l->tail.count == 0) return s->size_bytes;
    const struct tail_entry *e = tail_at(&l->tail, 0);
    if (e->base_offset < s->base) {
        *offset = s->base;
        return 0;
    }
    if (segment_of(l, e->base_offset) != s) return s->size_bytes;
    *offset = e->base_offset;
    return e->position;
}

/* What a check looks at: of a complete segment also what readers still get from memory. */
static uint32_t check_limit(const struct log_impl *l, const struct segment *s, int64_t *offset) {
    if (!s->sealed) return file_limit(l, s, offset);
    *offset = s->end;
    return s->size_bytes;
}

/* ---- the end ---------------------------------------------------------------------------------- */

void check_stop(struct check *x) {
    struct log_impl *l = x->log;
    struct log_shard *sh = l->pub.shard;
    if (x->file) files_put(&sh->files, x->file);
    x->file = NULL;
    free(x->buf);
    free(x->bad);
    x->buf = x->bad = NULL;
    list_remove(&x->link);
    ASSERT(l->reads > 0);
    l->reads--;
    shard_release_log(sh, l);
}

static void finish(struct check *x, enum err err) {
    x->err = err;
    check_stop(x);
    x->done(x);
}

static void keep(struct check *x, const struct faulty_range *r, const char *why) {
    enum err err = faulty_add(x->log, r, why);
    x->found++;
    x->added += err == OK;
    if (err == ERR_NOMEM) x->err = err;
}

/* ---- chunks ------------------------------------------------------------------------------------- */

static bool chunk_bad(const struct check *x, uint64_t c) { return x->bad && (x->bad[c / 8] & (1u << c % 8)); }

static bool in_bad_chunk(const struct check *x, uint32_t from, uint32_t bytes) {
    for (uint64_t c = from / MANIFEST_CHUNK_BYTES; x->bad && c * MANIFEST_CHUNK_BYTES < (uint64_t)from + bytes; c++)
        if (chunk_bad(x, c)) return true;
    return false;
}

/* A bad batch explains why the digests of its chunks are wrong. */
static void explained(struct check *x, const struct faulty_range *r) {
    for (uint64_t c = r->position / MANIFEST_CHUNK_BYTES; x->bad && c * MANIFEST_CHUNK_BYTES < r->end_position; c++)
        x->bad[c / 8] &= (uint8_t)~(1u << c % 8);
}

static void compare_digests(struct check *x) {
    struct digests *d = x->file->digests;
    uint64_t c = 0;
    if (!d) return;
    while (!digests_check(d, x->buf, x->from, x->got, true, &c)) {
        uint64_t at = c * MANIFEST_CHUNK_BYTES;
        const struct faulty_range *r = faulty_overlaps(x->log, x->base, (uint32_t)at, (uint32_t)MIN(at + MANIFEST_CHUNK_BYTES, d->sealed.size_bytes));
        bool walked = r && r->end_position <= x->position; /* others are looked at anew */
        if (!x->bad) x->bad = calloc(1, sealed_chunks(d->sealed.size_bytes) / 8 + 1);
        if (x->bad && !walked) x->bad[c / 8] |= (uint8_t)(1u << c % 8);
        c++;
    }
}

static void suspect_end(struct check *x) {
    if (!x->suspected) return;
    x->suspected = false;
    keep(x, &x->suspect, "the bytes are not those that were sealed");
}

/* ---- the walk ------------------------------------------------------------------------------------- */

static bool window_has(const struct check *x, uint32_t position, uint32_t bytes) {
    return position >= x->from && (uint64_t)position + bytes <= (uint64_t)x->from + x->got;
}
static bool at_file_end(const struct check *x, uint32_t position) { return x->got < x->asked && position >= x->from; }

/* Whether the batch can come behind one that ends before `expected`. */
static bool follows(const struct check *x, const struct segment *s, int64_t expected, const struct batch_header *h) {
    return h->base_offset == expected || (segment_has_gaps(x->log, s) && h->base_offset > expected);
}

/* Whether a batch that can follow the lost ones begins at buf[at]; *need: bytes that the window lacks to tell. */
static bool fits(struct check *x, const struct segment *s, uint32_t position, uint32_t limit, struct batch_header *h, uint32_t *need) {
    const uint8_t *p = x->buf + (position - x->from);
    size_t left = x->from + x->got - position;
    enum err err = batch_parse(p, left, h);
    *need = 0;
    if (err != OK && err != ERR_TRUNCATED) return false;
    if (batch_check(h) != OK || h->base_offset <= x->lost.start || batch_last_offset(h) >= s->end) return false;
    if (h->total_bytes > limit - position || h->total_bytes > BATCH_IN_FILE_MAX) return false;
    if (!epochs_fit(&x->log->pub.epochs, h->base_offset, batch_last_offset(h), h->leader_epoch)) return false;
    if (++x->tries > TRIES_MAX) return false;
    if (err == ERR_TRUNCATED) {
        if (!at_file_end(x, position)) *need = h->total_bytes;
        return false;
    }
    struct batch_header next;
    uint32_t behind = position + h->total_bytes;
    bool followed = window_has(x, behind, BATCH_HEADER_BYTES);
    if (followed && behind < limit) {
        err = batch_parse(p + h->total_bytes, BATCH_HEADER_BYTES, &next);
        /* A record may hold what looks like a batch; one whose successor is damaged as well is the price. */
        if ((err != OK && err != ERR_TRUNCATED) || !follows(x, s, batch_last_offset(h) + 1, &next)) return false;
    }
    return batch_crc_ok(p, h);
}

static void found(struct check *x, int64_t end, uint32_t end_position) {
    x->lost.end = end;
    x->lost.end_position = end_position;
    x->searching = false;
    x->position = end_position;
    x->expected = end;
    explained(x, &x->lost);
    keep(x, &x->lost, x->why);
}

/* False: bytes are wanted first (x->need from x->search_at on). */
static bool search(struct check *x, const struct segment *s, uint32_t limit, int64_t limit_offset) {
    while (x->search_at + BATCH_HEADER_BYTES <= limit && x->tries <= TRIES_MAX) {
        if (!window_has(x, x->search_at, BATCH_HEADER_BYTES)) {
            if (at_file_end(x, x->search_at)) break;
            x->need = BATCH_HEADER_BYTES;
            return false;
        }
        const uint8_t *p = x->buf + (x->search_at - x->from) + 16;
        const uint8_t *magic = memchr(p, 2, x->from + x->got - x->search_at - BATCH_HEADER_BYTES + 1);
        if (!magic) {
            x->search_at = x->from + x->got - BATCH_HEADER_BYTES + 1;
            continue;
        }
        x->search_at += (uint32_t)(magic - p);
        struct batch_header h;
        uint32_t need;
        if (fits(x, s, x->search_at, limit, &h, &need)) {
            found(x, h.base_offset, x->search_at);
            return true;
        }
        if (need > 0 && x->tries <= TRIES_MAX) {
            x->need = need;
            return false;
        }
        x->search_at++;
    }
    found(x, limit_offset, limit);
    return true;
}

static void lose(struct check *x, const char *why) {
    x->suspected = false;
    x->searching = true;
    x->why = why;
    x->known = -1;
    x->lost = (struct faulty_range){.start = x->expected, .base = x->base, .position = x->position};
    x->search_at = x->position + 1;
    x->tries = 0;
}

/* The batch at x->position is sound. */
static void pass(struct check *x, const struct batch_header *h) {
    if (x->known < 0) {
        const struct faulty_range *r = faulty_at(x->log, h->base_offset);
        if (r && r->position == x->position && (r->start == h->base_offset || r->start == x->expected)) { /* before it there may be a gap */
            x->known = r->start;
            x->known_end = r->end;
        }
    }
    if (in_bad_chunk(x, x->position, h->total_bytes)) {
        if (!x->suspected) x->suspect = (struct faulty_range){.start = h->base_offset, .base = x->base, .position = x->position};
        x->suspected = true;
        x->suspect.end = batch_last_offset(h) + 1;
        x->suspect.end_position = x->position + h->total_bytes;
        x->known = -1;
    } else {
        suspect_end(x);
    }
    x->position += h->total_bytes;
    x->expected = batch_last_offset(h) + 1;
    if (x->known >= 0 && x->expected >= x->known_end) {
        faulty_heal(x->log, x->known);
        x->known = -1;
    }
}

/* One batch, or what is wrong with it; false: bytes are wanted first. */
static bool look(struct check *x, const struct segment *s, uint32_t limit) {
    struct batch_header h;
    if (limit - x->position < BATCH_HEADER_BYTES) {
        lose(x, "no batch begins there");
        return true;
    }
    if (!window_has(x, x->position, BATCH_HEADER_BYTES)) {
        if (at_file_end(x, x->position)) lose(x, "the file is shorter than what was written");
        else x->need = BATCH_HEADER_BYTES;
        return x->searching;
    }
    const uint8_t *p = x->buf + (x->position - x->from);
    enum err err = batch_parse(p, x->from + x->got - x->position, &h);
    const char *wrong = NULL;
    if (err != OK && err != ERR_TRUNCATED) wrong = "no batch begins there";
    else if (h.total_bytes > limit - x->position || h.total_bytes > BATCH_IN_FILE_MAX) wrong = "the length of the batch is impossible";
    else if (!follows(x, s, x->expected, &h)) wrong = "the batch there has another offset";
    else if (err == ERR_TRUNCATED && !at_file_end(x, x->position)) x->need = h.total_bytes;
    else if (err == ERR_TRUNCATED) wrong = "the file is shorter than what was written";
    else wrong = batch_wrong(x->log, s, p, &h);
    if (wrong) lose(x, wrong);
    else if (x->need == 0) pass(x, &h);
    return x->need == 0;
}

static void walk(struct check *x) {
    struct log_impl *l = x->log;
    struct segment *s = segment_by_base(l, x->base);
    if (!s || x->change != l->change || l->delete_joined) {
        finish(x, ERR_CLOSED);
        return;
    }
    int64_t limit_offset;
    uint32_t limit = check_limit(l, s, &limit_offset), until = MIN(x->until, limit);
    x->need = 0;
    while (x->need == 0) {
        bool end = !x->searching && (x->position >= until || x->expected >= limit_offset);
        if (end) {
            suspect_end(x);
            finish(x, x->err);
            return;
        }
        if (x->searching) (void)search(x, s, limit, limit_offset);
        else (void)look(x, s, limit);
    }
    if (x->slice) x->slice(x);
    else check_go(x);
}

static void window_read(struct io_op *op) {
    struct check *x = CONTAINER_OF(op, struct check, op);
    if (op->result < 0) {
        finish(x, ERR_IO);
        return;
    }
    x->got = MIN((uint32_t)op->result, x->asked);
    x->bytes += x->got;
    compare_digests(x);
    walk(x);
}

static void loaded(struct digest_load *load) { check_go(CONTAINER_OF(load, struct check, load)); }

static enum err grow(struct check *x, uint32_t bytes) {
    if (bytes <= x->cap) return OK;
    free(x->buf);
    x->buf = aligned_alloc(IO_BLOCK_BYTES, bytes);
    x->cap = x->buf ? bytes : 0;
    return x->buf ? OK : ERR_NOMEM;
}

void check_go(struct check *x) {
    struct log_impl *l = x->log;
    struct log_shard *sh = l->pub.shard;
    struct segment *s = segment_by_base(l, x->base);
    if (!s || x->change != l->change || l->delete_joined) {
        finish(x, ERR_CLOSED);
        return;
    }
    if (digests_wanted(x->file, s)) {
        digests_load(&x->load, l, s, x->file, loaded, NULL);
        return;
    }
    int64_t limit_offset;
    uint32_t limit = check_limit(l, s, &limit_offset), at = x->searching ? x->search_at : x->position;
    x->from = ALIGN_DOWN(at, MANIFEST_CHUNK_BYTES);
    uint64_t to = MAX((uint64_t)x->from + CHECK_READ_BYTES, ALIGN_UP((uint64_t)at + x->need, MANIFEST_CHUNK_BYTES));
    x->asked = (uint32_t)MIN(to, (uint64_t)MAX(limit, at)) - x->from;
    uint32_t len = x->direct ? ALIGN_UP(x->asked, IO_BLOCK_BYTES) : x->asked;
    if (grow(x, MAX(ALIGN_UP(len, IO_BLOCK_BYTES), (uint32_t)CHECK_READ_BYTES)) != OK) {
        finish(x, ERR_NOMEM);
        return;
    }
    x->op = (struct io_op){.kind = IO_READ, .fd = x->file->fd, .offset = x->from, .buf = x->buf, .len = len, .done = window_read};
    io_submit(sh->io, &x->op);
}

static void missing(struct io_op *op) {
    struct check *x = CONTAINER_OF(op, struct check, op);
    struct log_impl *l = x->log;
    struct segment *s = segment_by_base(l, x->base);
    int64_t limit_offset;
    uint32_t limit = s ? check_limit(l, s, &limit_offset) : 0;
    if (s && x->change == l->change && !l->delete_joined && limit > x->position && limit_offset > x->expected) {
        lose(x, "the file is missing");
        found(x, limit_offset, limit);
    }
    finish(x, x->err);
}
static void unopened(struct io_op *op) {
    struct check *x = CONTAINER_OF(op, struct check, op);
    finish(x, x->err);
}
static void no_work(struct io_op *op) { (void)op; }

void check_start(struct check *x, struct log_impl *l, const struct segment *s, int64_t offset, uint32_t until, bool direct) {
    struct log_shard *sh = l->pub.shard;
    const struct faulty_range *behind = faulty_before(l, s->base, offset);
    *x = (struct check){.log = l, .base = s->base, .change = l->change, .until = until, .direct = direct, .known = -1, .slice = x->slice,
                        .done = x->done, .owner = x->owner, .expected = behind ? behind->end : s->base, .position = behind ? behind->end_position : 0};
    list_push_back(&sh->checks, &x->link);
    l->reads++;
    int rc = 0;
    x->file = files_get(&sh->files, l, s->base, FILE_LOG, direct ? IO_OPEN_DIRECT : 0, &rc);
    if (x->file) {
        check_go(x);
        return;
    }
    if (rc != -ENOENT) x->err = rc == -ENOMEM ? ERR_NOMEM : ERR_IO;
    x->op = (struct io_op){.kind = IO_WORK, .work = no_work, .done = rc == -ENOENT ? missing : unopened};
    io_submit(sh->io, &x->op);
}

void checks_free(struct log_shard *sh) {
    for (struct list *n; (n = list_pop_front(&sh->checks));) {
        struct check *x = LIST_ENTRY(n, struct check, link);
        digest_load_free(&x->load);
        free(x->buf);
        free(x->bad);
        x->buf = x->bad = NULL;
    }
}
