/* header_walk.c - see header_walk.h. */
#include "log/header_walk.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "log/check.h"
#include "log/epochs.h"
#include "log/store.h"

enum { WINDOW_BYTES = 256 * 1024, TRIES_MAX = 1000 /* what looks like a batch behind damage, and is none */ };

enum err header_walk_begin(struct header_walk *k, struct log_impl *l, struct segment *s, uint32_t position) {
    *k = (struct header_walk){.log = l, .segment = s, .position = position, .last = UINT32_MAX, .expected = s->base, .exact = position == 0,
                       .lost_at = UINT32_MAX, .first_last = -1};
    k->block = aligned_alloc(IO_BLOCK_BYTES, 2 * IO_BLOCK_BYTES);
    return k->block ? OK : ERR_NOMEM;
}

void header_walk_end(struct header_walk *k) {
    files_put(&k->log->pub.shard->files, k->file);
    free(k->block);
}

static enum err header_from_journal(struct header_walk *k, const struct tail_entry *e, uint32_t skip, struct batch_header *h) {
    struct log_shard *sh = k->log->pub.shard;
    uint32_t at = e->pos.offset + skip, from = ALIGN_DOWN(at, IO_BLOCK_BYTES);
    int64_t n = io_pread(sh->io, journal_fd(sh->journal, e->pos.piece), k->block, 2 * IO_BLOCK_BYTES, from);
    if (n < (int64_t)(at - from) + BATCH_HEADER_BYTES) return ERR_IO;
    enum err err = batch_parse(k->block + (at - from), (size_t)n - (at - from), h);
    return err == ERR_TRUNCATED ? OK : err;
}

/* ERR_NOT_FOUND: the file has less. */
static enum err read_file(struct header_walk *k, uint32_t position, uint8_t *out, uint32_t bytes) {
    struct log_shard *sh = k->log->pub.shard;
    int rc = 0;
    if (!k->file) k->file = files_get(&sh->files, k->log, k->segment->base, FILE_LOG, 0, &rc);
    if (!k->file) return rc == -ENOENT ? ERR_NOT_FOUND : ERR_IO;
    int64_t n = io_pread(sh->io, k->file->fd, out, bytes, position);
    return n == (int64_t)bytes ? OK : n < 0 ? ERR_IO : ERR_NOT_FOUND;
}

/* Whether the header can be the one of a batch of this segment at `position`. */
static bool is_possible(const struct header_walk *k, uint32_t position, const struct batch_header *h) {
    const struct segment *s = k->segment;
    if (batch_check(h) != OK || h->base_offset < k->expected || batch_last_offset(h) >= s->end) return false;
    if (k->exact && h->base_offset != k->expected && !segment_has_gaps(k->log, s)) return false;
    if (k->first_last >= 0 && batch_last_offset(h) != k->first_last) return false;
    return h->total_bytes <= s->size_bytes - position;
}

/* ERR_CORRUPT: there is none. */
static enum err header_from_file(struct header_walk *k, uint32_t position, struct batch_header *h) {
    enum err err = read_file(k, position, k->block, BATCH_HEADER_BYTES);
    if (err != OK) return err == ERR_IO ? ERR_IO : ERR_CORRUPT;
    err = batch_parse(k->block, BATCH_HEADER_BYTES, h);
    return (err == OK || err == ERR_TRUNCATED) && is_possible(k, position, h) ? OK : ERR_CORRUPT;
}

/* ---- behind damage ---------------------------------------------------------------------------------- */

/* Whether the batch, whose header is possible, is sound. ERR_CORRUPT: it is not. */
static enum err sound(struct header_walk *k, uint32_t position, const struct batch_header *h) {
    bool fits = epochs_fit(&k->log->pub.epochs, h->base_offset, batch_last_offset(h), h->leader_epoch);
    if (!fits || h->total_bytes > BATCH_IN_FILE_MAX) return ERR_CORRUPT;
    uint8_t *batch = malloc(h->total_bytes);
    if (!batch) return ERR_NOMEM;
    enum err err = read_file(k, position, batch, h->total_bytes);
    if (err == ERR_NOT_FOUND || (err == OK && !batch_crc_ok(batch, h))) err = ERR_CORRUPT;
    free(batch);
    return err;
}

/* The same, and what follows it in the file can follow it: a record may hold what looks like a batch. */
static enum err sound_and_followed(struct header_walk *k, uint32_t position, uint32_t limit, const struct batch_header *h) {
    struct batch_header next;
    uint32_t behind = position + h->total_bytes;
    if (behind > limit) return ERR_CORRUPT;
    enum err err = sound(k, position, h);
    if (err != OK || behind == limit) return err;
    err = read_file(k, behind, k->block, BATCH_HEADER_BYTES);
    if (err != OK) return err == ERR_NOT_FOUND ? ERR_CORRUPT : err;
    err = batch_parse(k->block, BATCH_HEADER_BYTES, &next);
    if (err != OK && err != ERR_TRUNCATED) return ERR_CORRUPT;
    bool follows = next.base_offset == batch_last_offset(h) + 1 || (segment_has_gaps(k->log, k->segment) && next.base_offset > batch_last_offset(h));
    return follows ? OK : ERR_CORRUPT;
}

/* The first sound batch in [from, limit), or `limit`. */
static enum err search(struct header_walk *k, uint32_t from, uint32_t limit, uint32_t *position) {
    uint8_t *window = malloc(WINDOW_BYTES);
    enum err err = window ? OK : ERR_NOMEM;
    uint32_t tries = 0;
    *position = limit;
    while (err == OK && *position == limit && limit - from >= BATCH_HEADER_BYTES && tries <= TRIES_MAX) {
        uint32_t n = MIN(limit - from, (uint32_t)WINDOW_BYTES), at = 0;
        err = read_file(k, from, window, n);
        if (err != OK) break;
        while (n - at >= BATCH_HEADER_BYTES && *position == limit && err == OK && tries <= TRIES_MAX) {
            struct batch_header h;
            const uint8_t *magic = memchr(window + at + 16, 2, n - at - BATCH_HEADER_BYTES + 1);
            if (!magic) at = n - BATCH_HEADER_BYTES + 1;
            else at = (uint32_t)(magic - window) - 16;
            if (!magic) break;
            enum err parsed = batch_parse(window + at, n - at, &h);
            if ((parsed == OK || parsed == ERR_TRUNCATED) && is_possible(k, from + at, &h)) {
                tries++;
                err = sound_and_followed(k, from + at, limit, &h);
                if (err == OK) *position = from + at;
                else if (err == ERR_CORRUPT) err = OK;
            }
            at++;
        }
        from += at;
    }
    free(window);
    return err == ERR_NOT_FOUND ? OK : err; /* the file is too short: nothing of it is left */
}

/* No batch begins at k->position. A wrong length in the header before may have led there. */
static enum err pass_damage(struct header_walk *k) {
    int64_t limit_offset;
    struct batch_header h;
    uint32_t from = k->position, limit = file_limit(k->log, k->segment, &limit_offset);
    if (from >= limit) return ERR_CORRUPT; /* in the journal */
    k->lost_at = k->position;
    k->lost_from = k->exact ? k->expected : -1;
    k->exact = false;
    k->first_last = -1;
    if (segment_has_gaps(k->log, k->segment)) k->expected = k->segment->base; /* the offset of the one before may be the wrong one */
    if (k->last != UINT32_MAX) {
        int64_t expected = k->expected;
        k->expected = k->segment->base;
        enum err err = header_from_file(k, k->last, &h);
        if (err == OK) err = sound(k, k->last, &h);
        if (err != OK && err != ERR_CORRUPT) return err;
        if (err == OK) {
            k->expected = expected;
        } else {
            from = k->last + 1;
            k->lost_at = k->last;
            k->lost_from = k->last_expected;
        }
    }
    k->last = UINT32_MAX;
    return search(k, from, limit, &k->position);
}

/* ---- the next ----------------------------------------------------------------------------------------- */

static enum err header_here(struct header_walk *k, struct batch_header *h) {
    const struct tail *t = &k->log->tail;
    const struct segment *s = k->segment;
    int64_t next_base = segment_next_base(k->log, s);
    uint32_t i = tail_find_place(t, s->base, next_base, k->position);
    const struct tail_entry *e = i < t->count ? tail_at(t, i) : NULL;
    if (!e || e->base_offset >= next_base || e->position > k->position) {
        enum err err = header_from_file(k, k->position, h);
        if (err == OK) {
            k->last = k->position;
            k->last_expected = k->exact ? k->expected : -1;
        }
        return err == ERR_CORRUPT ? ERR_NOT_FOUND : err;
    }
    uint32_t skip = k->position - e->position;
    k->last = UINT32_MAX;
    enum err err = e->slice ? batch_parse(shard_slice_buf(e->slice)->data + e->pos.offset + skip, e->len - skip, h) : header_from_journal(k, e, skip, h);
    if (err == OK && (h->base_offset < s->base || h->total_bytes > s->size_bytes - k->position)) err = ERR_CORRUPT;
    return err == OK || err == ERR_IO ? err : ERR_CORRUPT;
}

enum err header_walk_next(struct header_walk *k, struct batch_header *h, uint32_t *position) {
    k->lost_at = UINT32_MAX;
    while (k->position < k->segment->size_bytes) {
        enum err err = header_here(k, h);
        if (err == ERR_NOT_FOUND) err = pass_damage(k);
        else if (err != OK) return err;
        else {
            *position = k->position;
            k->position += h->total_bytes;
            k->expected = batch_last_offset(h) + 1;
            k->exact = true;
            k->first_last = -1;
            return OK;
        }
        if (err != OK) return err;
    }
    return ERR_NOT_FOUND;
}
