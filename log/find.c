/* find.c - records by time (ListOffsets).
 *
 *   first record at or after a time   the first segment whose largest timestamp is not below it; its time
 *                                     index says where to begin; then batches are read until one fits
 *   record with the largest time      the segment says which batch; where that is at or behind
 *                                     max_offset, the batches before max_offset are read instead
 *
 * Only batches that must hold the answer are opened; the others are judged by their header. */
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "log/lookup.h"
#include "log/store.h"

enum { FIND_READ_BYTES = 512 * 1024 };

struct find_op {
    struct list link;               /* shard->finds */
    struct log_find *f;
    struct log_impl *log;
    struct log_read read;
    struct lookup lookup;
    int64_t segment_base;
    bool *at_once;
    bool reading;                   /* log_read() runs: its callback is not expected */
    /* largest timestamp: the best record so far */
    bool best;
    int64_t best_timestamp, best_offset;   /* some offset of the batch that holds it */
    bool scanning;                  /* batches are compared, up to scan_to */
    int64_t scan_to;
};

static void finish(struct find_op *x, enum err err) {
    struct log_find *f = x->f;
    struct log_impl *l = x->log;
    bool *at_once = x->at_once;
    f->err = err;
    f->state = NULL;
    lookup_free(&x->lookup);
    list_remove(&x->link);
    free(x);
    if (at_once) *at_once = true;
    else f->done(f);
    ASSERT(l->reads > 0);
    l->reads--;
    shard_release_log(l->pub.shard, l);
}

static void read_done(struct log_read *r);

static void read_from(struct find_op *x, int64_t offset) {
    x->read = (struct log_read){.offset = offset, .max_offset = x->f->max_offset, .max_bytes = FIND_READ_BYTES, .min_one = true,
                                .done = read_done, .owner = x};
    if (log_read(&x->log->pub, &x->read)) read_done(&x->read);
}

/* ---- inside a batch ----------------------------------------------------------------------------------- */

/* The first record of the batch that fits; ERR_NOT_FOUND: none does. */
static enum err search_batch(struct find_op *x, const uint8_t *batch, const struct batch_header *h) {
    struct log_find *f = x->f;
    struct record_iter it;
    struct record record;
    int64_t least = f->max_timestamp ? h->max_timestamp : f->timestamp;
    enum err err = record_iter_init(&it, batch, h, f->max_decompressed_bytes);
    if (err != OK) return err;
    while ((err = record_iter_next(&it, &record)) == OK) {
        if (record.timestamp < least || record.offset < x->log->pub.start) continue;
        f->found_offset = record.offset;
        f->found_timestamp = record.timestamp;
        f->found_epoch = h->leader_epoch;
        break;
    }
    record_iter_free(&it);
    return err;
}

static bool batch_fits(const struct find_op *x, const struct batch_header *h) {
    const struct log_find *f = x->f;
    if (!f->max_timestamp) return h->max_timestamp >= f->timestamp;
    return !x->scanning && h->max_timestamp >= x->best_timestamp;
}

static void compare(struct find_op *x, const struct batch_header *h) {
    if (!x->scanning || h->record_count == 0 || (x->best && h->max_timestamp <= x->best_timestamp)) return;
    x->best = true;
    x->best_timestamp = h->max_timestamp;
    x->best_offset = h->base_offset;
}

/* OK: found. ERR_NOT_FOUND: not in these batches. */
static enum err search_slice(struct find_op *x, const struct slice *s) {
    const uint8_t *p = slice_data(s);
    for (uint32_t at = 0; at < s->len;) {
        struct batch_header h;
        enum err err = batch_parse(p + at, s->len - at, &h);
        if (err != OK) return ERR_CORRUPT;
        compare(x, &h);
        if (batch_fits(x, &h)) {
            err = search_batch(x, p + at, &h);
            if (err != ERR_NOT_FOUND) return err;
        }
        at += h.total_bytes;
    }
    return ERR_NOT_FOUND;
}

static void best_take(struct find_op *x);

static void read_done(struct log_read *r) {
    struct find_op *x = r->owner;
    enum err err = r->err;
    if (err == ERR_RANGE) err = ERR_NOT_FOUND; /* the log start moved over it, or it was cut off */
    bool end = r->slice_count == 0;
    for (uint32_t i = 0; i < r->slice_count && err == OK; i++) {
        err = search_slice(x, &r->slices[i]);
        if (err == OK) {
            log_read_release(r);
            finish(x, OK);
            return;
        }
        if (err == ERR_NOT_FOUND) err = OK;
    }
    int64_t next = r->next_offset;
    log_read_release(r);
    if (err != OK) {
        finish(x, err);
    } else if (x->scanning && (end || next >= x->scan_to)) {
        x->scanning = false;
        best_take(x);
    } else if (end || (x->f->max_timestamp && !x->scanning)) {
        finish(x, ERR_NOT_FOUND);
    } else {
        read_from(x, next);
    }
}

/* ---- by time -------------------------------------------------------------------------------------------- */

static void time_found(struct lookup *lookup) {
    struct find_op *x = CONTAINER_OF(lookup, struct find_op, lookup);
    /* Everything up to the last offset of the batch that the entry names is older. */
    int64_t offset = x->segment_base + (lookup->found ? (int64_t)lookup->time.relative + 1 : 0);
    read_from(x, MAX(offset, x->log->pub.start));
}

static void find_time(struct find_op *x) {
    struct log_impl *l = x->log;
    struct log_find *f = x->f;
    const struct segment *s = NULL;
    for (uint32_t i = 0; i < l->segment_count && !s; i++)
        if (l->segments[i].max_timestamp >= f->timestamp && l->segments[i].end > l->pub.start) s = &l->segments[i];
    if (!s || s->base >= f->max_offset) {
        finish(x, ERR_NOT_FOUND);
        return;
    }
    x->segment_base = s->base;
    bool in_memory = s->index && s->index->time_count > 0 && s->index->times[0].timestamp < f->timestamp;
    if (in_memory) read_from(x, MAX(index_find_time(s->index, f->timestamp), l->pub.start));
    else if (s->time_index_bytes > 0) lookup_start(&x->lookup, l, s, true, f->timestamp, time_found);
    else read_from(x, MAX(s->base, l->pub.start));
}

/* ---- largest time ----------------------------------------------------------------------------------------- */

static void best_take(struct find_op *x) {
    if (!x->best) finish(x, ERR_NOT_FOUND);
    else read_from(x, MAX(x->best_offset, x->log->pub.start));
}

static void find_largest(struct find_op *x) {
    struct log_impl *l = x->log;
    int64_t scan_from = INT64_MAX;
    for (uint32_t i = 0; i < l->segment_count; i++) {
        const struct segment *s = &l->segments[i];
        if (s->max_timestamp < 0 || s->base >= x->f->max_offset) continue;
        if (s->max_timestamp_offset >= x->f->max_offset || s->max_timestamp_offset < l->pub.start) {
            scan_from = MIN(scan_from, s->base);
        } else if (!x->best || s->max_timestamp > x->best_timestamp) {
            x->best = true;
            x->best_timestamp = s->max_timestamp;
            x->best_offset = s->max_timestamp_offset;
        }
    }
    if (scan_from == INT64_MAX) {
        best_take(x);
        return;
    }
    x->scanning = true;
    x->scan_to = MIN(x->f->max_offset, l->pub.end);
    read_from(x, MAX(scan_from, l->pub.start));
}

bool log_find(struct log *pub, struct log_find *f) {
    struct log_impl *l = impl_of(pub);
    struct find_op *x = calloc(1, sizeof *x);
    f->log = pub;
    f->state = x;
    f->found_offset = f->found_timestamp = -1;
    f->found_epoch = -1;
    if (!x) {
        f->err = ERR_NOMEM;
        return true;
    }
    bool at_once = false;
    x->f = f;
    x->log = l;
    x->at_once = &at_once;
    list_push_back(&pub->shard->finds, &x->link);
    l->reads++;
    if (f->max_timestamp) find_largest(x);
    else find_time(x);
    if (!at_once) x->at_once = NULL;
    return at_once;
}

void finds_free(struct log_shard *sh) {
    for (struct list *n; (n = list_pop_front(&sh->finds));) {
        struct find_op *x = LIST_ENTRY(n, struct find_op, link);
        free(x->lookup.block);
        free(x);
    }
}
