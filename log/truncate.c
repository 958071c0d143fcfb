/* truncate.c - cutting a log back: memory now, files once the TRUNCATE is durable (cut.c).
 *
 * Cutting an index is not enough: the largest timestamp so far and the bytes since the last entry come
 * from batches. Those behind the last entry that stays are read again, by their headers (log/header_walk.h). While recovery folds the journal it
 * cannot read yet; the segment is marked and done after that. */
#include "log/truncate.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "base/trace.h"
#include "log/entries.h"
#include "log/faulty.h"
#include "log/mutant.h"
#include "log/store.h"
#include "log/header_walk.h"

/* ---- the index of a segment, made again --------------------------------------------------------------- */

/* The first `bytes` bytes of an index file, with room for `more`. A file that has less counts as none. */
static enum err index_file(struct log_impl *l, struct segment *s, enum file_kind kind, uint32_t bytes, size_t more, uint8_t **data) {
    struct log_shard *sh = l->pub.shard;
    int rc = 0;
    *data = malloc(bytes + more + 1);
    if (!*data) return ERR_NOMEM;
    if (bytes == 0) return OK;
    struct file *f = files_get(&sh->files, l, s->base, kind, 0, &rc);
    int64_t n = f ? io_pread(sh->io, f->fd, *data, bytes, 0) : rc;
    files_put(&sh->files, f);
    return n == (int64_t)bytes ? OK : ERR_NOT_FOUND;
}

/* Whether nothing of the files was lost: zeros at their end, which loading leaves out, or a last entry that is another one. A power
 * cut tears whole blocks. */
static bool files_whole(const struct segment *s, const struct segment_index *x, uint32_t offsets, uint32_t times) {
    if (x->offset_count != offsets || x->time_count != times) return false;
    const struct index_entry *e = x->offset_written > 0 ? &x->offsets[x->offset_written - 1] : &s->last_index;
    const struct time_entry *t = x->time_written > 0 ? &x->times[x->time_written - 1] : &s->last_time;
    return e->relative == s->last_index.relative && e->position == s->last_index.position && t->timestamp == s->last_time.timestamp &&
           t->relative == s->last_time.relative;
}

/* All entries of the segment: those in its files and behind them those in memory. */
static enum err index_whole(struct log_impl *l, struct segment *s, struct segment_index *x, uint32_t *rescan_from) {
    const struct segment_index *old = s->index;
    uint32_t offsets_new = old ? old->offset_count - old->offset_written : 0;
    uint32_t times_new = old ? old->time_count - old->time_written : 0;
    size_t offsets_more = (size_t)offsets_new * INDEX_ENTRY_BYTES, times_more = (size_t)times_new * TIME_ENTRY_BYTES;
    uint8_t *offsets = NULL, *times = NULL;
    enum err err = index_file(l, s, FILE_INDEX, s->index_bytes, offsets_more, &offsets);
    if (err == OK) err = index_file(l, s, FILE_TIMEINDEX, s->time_index_bytes, times_more, &times);
    if (err == OK && offsets_new) index_encode(old, old->offset_written, offsets_new, offsets + s->index_bytes);
    if (err == OK && times_new) index_encode_times(old, old->time_written, times_new, times + s->time_index_bytes);
    *rescan_from = 0;
    if (err == OK)
        err = index_load(x, offsets, s->index_bytes + offsets_more, times, s->time_index_bytes + times_more, UINT32_MAX, rescan_from);
    free(offsets);
    free(times);
    if (err == ERR_NOT_FOUND || err == ERR_CORRUPT) return OK; /* `x` is empty, and the scan begins at 0 */
    if (err != OK) return err;
    x->offset_written = s->index_bytes / INDEX_ENTRY_BYTES;
    x->time_written = s->time_index_bytes / TIME_ENTRY_BYTES;
    if (!files_whole(s, x, x->offset_written + offsets_new, x->time_written + times_new)) {
        index_free(x);
        index_init(x, s->base, l->config.index_interval_bytes, l->config.segment_index_bytes);
        *rescan_from = 0;
        return OK;
    }
    /* What lies behind the lowest cut is of batches that are gone. */
    index_truncate(x, s->reindex_end, s->reindex_position, rescan_from);
    return OK;
}

static enum err index_scan(struct log_impl *l, struct segment *s, struct segment_index *x, uint32_t from) {
    struct header_walk k;
    enum err err = header_walk_begin(&k, l, s, from);
    bool has_entry = x->offset_count > 0;
    while (err == OK) {
        struct batch_header h;
        uint32_t position;
        err = header_walk_next(&k, &h, &position);
        if (err == OK && has_entry) index_rescan(x, &h);
        else if (err == OK) err = index_add(x, &h, position);
        has_entry = false;
    }
    header_walk_end(&k);
    return err == ERR_NOT_FOUND ? OK : err;
}

enum err truncate_reindex(struct log_impl *l, struct segment *s) {
    struct segment_index *x = malloc(sizeof *x);
    if (!x) return ERR_NOMEM;
    index_init(x, s->base, l->config.index_interval_bytes, l->config.segment_index_bytes);
    uint32_t from = 0;
    enum err err = index_whole(l, s, x, &from);
    if (err == OK) err = index_scan(l, s, x, from);
    if (err == OK && segment_next_base(l, s) != INT64_MAX) err = index_seal(x);
    if (err != OK) {
        index_free(x);
        free(x);
        return err;
    }
    segment_index_free(s);
    s->index = x;
    s->index_bytes = x->offset_written * INDEX_ENTRY_BYTES;
    s->time_index_bytes = x->time_written * TIME_ENTRY_BYTES;
    s->max_timestamp = x->max_timestamp;
    s->max_timestamp_offset = x->max_timestamp >= 0 ? s->base + x->max_timestamp_relative : -1;
    if (s->size_bytes == 0) s->first_timestamp = -1;
    s->reindex = false;
    segment_index_written(s, x->offset_written, x->time_written); /* keeps in memory only what no file has */
    return OK;
}

/* ---- what else memory knows ----------------------------------------------------------------------------- */

/* Batches that were cut leave the windows. A producer of whom none is left is looked for in the log (see
 * truncate_find_producers). */
static enum err producers_cut(struct log_impl *l, int64_t end) {
    struct producers cut;
    bool lost;
    enum err err = producers_below(&l->pub.producers, end, &cut, &lost);
    if (err != OK) return err;
    l->producers_lost |= lost;
    producers_free(&l->pub.producers);
    l->pub.producers = cut;
    return OK;
}

/* Kafka's snapshot as of the segment's base, if there is a sound one. While the segment before is not all in its file,
 * what lies there may be of a log that was cut. */
static bool snapshot_load(struct log_impl *l, const struct segment *s, struct producers *p) {
    struct log_shard *sh = l->pub.shard;
    if (s[-1].written_bytes < s[-1].size_bytes || s[-1].snapshot) return false;
    char path[PATH_BYTES];
    uint8_t *data;
    size_t len;
    path_segment(path, sh->store->dir, l->folder, s->base, FILE_SNAPSHOT);
    if (io_read_file(sh->io, path, 1u << 30, &data, &len) < 0) return false;
    enum err err = producers_from_snapshot(p, data, len);
    free(data);
    return err == OK;
}

static enum err producers_scan(struct log_impl *l, struct segment *s, struct producers *p) {
    struct header_walk k;
    struct batch_header h;
    enum err err = header_walk_begin(&k, l, s, 0);
    uint32_t position;
    while (err == OK) {
        err = header_walk_next(&k, &h, &position);
        if (err == OK) err = producers_apply(p, &h);
    }
    header_walk_end(&k);
    return err == ERR_NOT_FOUND ? OK : err;
}

enum err truncate_find_producers(struct log_impl *l) {
    struct producers found;
    producers_init(&found);
    uint32_t from = l->segment_count - 1, count = 0;
    while (from > 0 && !snapshot_load(l, &l->segments[from], &found)) from--;
    enum err err = OK;
    for (uint32_t i = from; i < l->segment_count && err == OK; i++) err = producers_scan(l, &l->segments[i], &found);
    int64_t *ids = err == OK ? producers_sorted_ids(&found, &count) : NULL;
    if (err == OK && !ids && found.count > 0) err = ERR_NOMEM;
    for (uint32_t i = 0; ids && i < count && err == OK; i++)
        if (!producers_find(&l->pub.producers, ids[i])) err = producers_put(&l->pub.producers, producers_find(&found, ids[i]));
    free(ids);
    producers_free(&found);
    if (err == OK) l->producers_lost = false;
    return err;
}

/* What the slice's effects say of the log's batches: only those that are still there, counted by the last effect. */
static void slice_effects_cut(struct shard_slice *ss, struct log_impl *l, int64_t end) {
    struct effect *last = NULL;
    for (uint32_t i = 0; ss && i < ss->effect_count; i++) {
        struct effect *e = &ss->effects[i];
        if (e->log != l || e->kind != EFFECT_APPEND) continue;
        e->offset = MIN(e->offset, end);
        e->bytes = 0;
        last = e;
    }
    for (uint32_t k = 0; last && k < l->tail.count; k++)
        if (tail_at(&l->tail, k)->slice == ss) last->bytes += tail_at(&l->tail, k)->len;
}

void impl_effects_cut(struct log_impl *l, int64_t end) {
    struct log_shard *sh = l->pub.shard;
    LIST_FOREACH(it, &sh->submitted) slice_effects_cut(LIST_ENTRY(it, struct shard_slice, link), l, end);
    slice_effects_cut(sh->open, l, end);
}

uint64_t impl_unwritten(const struct log_impl *l) {
    uint64_t n = 0;
    for (uint32_t i = 0; i < l->segment_count; i++) n += l->segments[i].size_bytes - l->segments[i].written_bytes;
    return n;
}

/* Bytes that are durable and in no file. */
static uint64_t pending(const struct log_impl *l) {
    uint64_t n = impl_unwritten(l);
    for (uint32_t i = l->tail.count; i-- > 0;) {
        const struct tail_entry *e = tail_at(&l->tail, i);
        if (e->base_offset + e->count <= l->pub.durable_end) break;
        n -= MIN(n, e->len);
    }
    return n;
}

static void image_cut(struct log_impl *l) {
    struct image *i = l->image;
    if (!i) return;
    if (i->base == l->synced.base && i->from < l->synced.position) {
        i->to = MIN(i->to, l->synced.position);
        return;
    }
    free(i);
    l->image = NULL;
}

enum err impl_cut(struct log_impl *l, int64_t end, struct place place, int32_t epoch) {
    struct log *pub = &l->pub;
    struct segment *s = segment_by_base(l, place.base);
    bool folding = !pub->shard->journal;
    if (!s || place.position > s->size_bytes || end < s->base || end > s->end) return ERR_CORRUPT;
    enum err err = producers_cut(l, end);
    if (err != OK) return err;
    uint64_t before = impl_unwritten(l);
    l->change++;
    epochs_truncate(&pub->epochs, epoch);
    impl_epochs_changed(l);
    tail_cut(&l->tail, end);
    faulty_cut(l, end, place);
    while (segment_last(l) != s) {
        pub->size_bytes -= segment_last(l)->size_bytes;
        impl_drop_files(l, segment_last(l)->base);
        segment_remove_last(l);
    }
    pub->size_bytes -= s->size_bytes - place.position;
    s->size_bytes = place.position;
    s->written_bytes = MIN(s->written_bytes, place.position);
    s->end = pub->end = end;
    s->sealed = false;
    if (!folding) files_forget_digests(&pub->shard->files, pub->plid, s->base);
    free(s->snapshot); /* of a roll that is undone */
    s->snapshot = NULL;
    s->reindex_end = s->reindex ? MIN(s->reindex_end, end) : end;
    s->reindex_position = s->reindex ? MIN(s->reindex_position, place.position) : place.position;
    s->reindex = true;
    pub->durable_end = MIN(pub->durable_end, end);
    l->cleaned_end = MIN(l->cleaned_end, end);
    l->compacted_end = MIN(l->compacted_end, end);
    if (place_less(place, l->synced) && !MUTANT(W_KEPT)) l->synced = place;
    image_cut(l);
    impl_effects_cut(l, end);
    if (folding) {
        pub->durable_end = end;
        l->truncate_end = l->truncate_end < 0 ? end : MIN(l->truncate_end, end);
    }
    l->pending_bytes = pending(l);
    if (!folding) journal_pending_add(pub->shard->journal, (int64_t)impl_unwritten(l) - (int64_t)before);
    if (!folding && (err = truncate_reindex(l, s)) != OK) return err;
    if (!folding && l->producers_lost && (err = truncate_find_producers(l)) != OK) return err;
    return OK;
}

/* ---- the call --------------------------------------------------------------------------------------------- */

/* The last entry of the index that is not behind `offset`: position and last offset of a batch. 0 and -1: none. */
static uint32_t index_before(struct log_impl *l, struct segment *s, int64_t offset, int64_t *last) {
    uint8_t *data = NULL;
    uint32_t from = 0;
    *last = -1;
    if (index_file(l, s, FILE_INDEX, s->index_bytes, 0, &data) == OK)
        for (uint32_t at = 0; at < s->index_bytes; at += INDEX_ENTRY_BYTES) {
            struct index_entry e = index_entry_get(data + at);
            if (s->base + e.relative > offset || e.position >= s->size_bytes) continue;
            from = e.position;
            *last = s->base + e.relative;
        }
    free(data);
    return from;
}

/* ERR_AGAIN: `from` lies in damage, and only from the segment's beginning on it can be told. */
static enum err locate_from(struct log_impl *l, struct segment *s, uint32_t from, int64_t last, int64_t offset, int64_t *end, struct place *place) {
    struct header_walk k;
    struct batch_header h;
    uint32_t position;
    bool found = false;
    enum err err = header_walk_begin(&k, l, s, from);
    k.first_last = last;
    while (err == OK && !found) {
        err = header_walk_next(&k, &h, &position);
        found = err == OK && batch_last_offset(&h) >= offset;
    }
    header_walk_end(&k);
    if (err != OK && err != ERR_NOT_FOUND) return err;
    bool damage = k.lost_at != UINT32_MAX && (!found || h.base_offset >= offset);
    if (damage && k.lost_from < 0) return ERR_AGAIN;
    if (damage && k.lost_from >= offset) { /* all of it goes */
        place->position = k.lost_at;
        return OK;
    }
    if (!found) return OK; /* in a gap at the segment's end, or in damage that reaches it */
    /* Or it is in a gap, and nothing of this batch stays; or in damage: what was acknowledged there below `offset` stays for mending. */
    *end = MIN(h.base_offset, offset);
    place->position = position;
    return OK;
}

/* Where the first batch lies that ends after `offset`; its base is the real cut. */
static enum err locate(struct log_impl *l, int64_t offset, int64_t *end, struct place *place) {
    struct segment *s = offset == l->pub.end ? segment_last(l) : segment_of(l, offset);
    *end = offset;
    *place = (struct place){s->base, s->size_bytes};
    if (offset == l->pub.end) return OK;
    uint32_t i = tail_find(&l->tail, offset);
    if (i < l->tail.count && tail_at(&l->tail, i)->base_offset <= offset) {
        *end = tail_at(&l->tail, i)->base_offset;
        place->position = tail_at(&l->tail, i)->position;
        return OK;
    }
    int64_t last;
    uint32_t from = index_before(l, s, offset, &last);
    enum err err = locate_from(l, s, from, last, offset, end, place);
    return err == ERR_AGAIN ? locate_from(l, s, 0, -1, offset, end, place) : err;
}

enum err log_truncate(struct log *pub, int32_t epoch, int64_t offset) {
    struct log_impl *l = impl_of(pub);
    struct log_shard *sh = pub->shard;
    if (sh->failed != OK) return ERR_IO;
    if (sh->stopping || l->delete_joined) return ERR_CLOSED;
    if (offset < pub->start || offset > pub->end) return ERR_RANGE;
    int64_t end;
    struct place place;
    enum err err = locate(l, offset, &end, &place);
    if (err != OK) return err;
    if (end < pub->start) return ERR_RANGE;
    if ((err = shard_effect_reserve(sh)) != OK) return err;
    uint8_t *p = shard_entry(sh, ENTRY_TRUNCATE, pub->plid, ENTRY_TRUNCATE_BYTES, 0, NULL, &err);
    if (!p) return err;
    entry_truncate_encode(p, &(struct entry_truncate){.end = end, .place = {place.base, place.position}, .epoch = epoch});
    l->truncates_joined++;
    impl_change(l);
    impl_dirty(l);
    err = impl_cut(l, end, place, epoch);
    struct effect *e = shard_effect(sh, EFFECT_TRUNCATE, l);
    e->offset = end;
    e->place = place;
    e->bytes = l->dropped_total;
    e->cuts = sh->cuts;
    l->effect_slice = 0; /* what is appended from here on is counted behind the truncation */
    if (err == OK) return OK;
    shard_fail(sh, err, "a log could not be cut back in memory");
    return ERR_IO;
}
