/* swap.c - see swap.h. */
#include "log/swap.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "base/trace.h"
#include "log/faulty.h"
#include "log/names.h"
#include "log/state.h"
#include "log/store.h"

static const enum file_kind KINDS[] = {FILE_INDEX, FILE_TIMEINDEX, FILE_LOG};

/* In memory: `count` segments from made->base on become one. */
static void replace(struct log_impl *l, uint32_t count, const struct segment *made, int64_t cleaned_end, bool dense) {
    struct segment *first = segment_by_base(l, made->base);
    uint32_t at = (uint32_t)(first - l->segments);
    ASSERT(count > 0 && at + count < l->segment_count && first[count - 1].end == made->end);
    for (uint32_t i = 0; i < count; i++) {
        struct segment *s = &first[i];
        ASSERT(s->written_bytes == s->size_bytes);
        l->pub.size_bytes -= s->size_bytes;
        files_forget(&l->pub.shard->files, l->pub.plid, s->base);
        if (i > 0) impl_drop_files(l, s->base);
        segment_index_free(s);
        free(s->snapshot);
    }
    l->pub.size_bytes += made->size_bytes;
    *first = *made;
    memmove(first + 1, first + count, (l->segment_count - at - count) * sizeof *first);
    l->segment_count -= count - 1;
    l->cleaned_end = MAX(l->cleaned_end, cleaned_end);
    if (!dense) l->compacted_end = MAX(l->compacted_end, made->end);
    l->change++;
    faulty_forget(l, made->base, made->end); /* of a file that is not the log's any more; the new one was made of what is sound */
    tail_drop_below(l, made->end);
    read_hints_forget(l->pub.shard, l->pub.plid);
}

enum err swap_join(struct log_impl *l, uint32_t count, const struct segment *made, const struct digest128 *digest, int64_t cleaned_end, bool dense) {
    struct log_shard *sh = l->pub.shard;
    const struct segment *first = segment_by_base(l, made->base);
    ASSERT(first && made->swap_id && made->written_bytes == made->size_bytes);
    Varve__Storage__SwapEntry m = VARVE__STORAGE__SWAP_ENTRY__INIT;
    Varve__Storage__Segment segment;
    int64_t *bases = calloc(count, sizeof *bases);
    if (!bases) return ERR_NOMEM;
    for (uint32_t i = 0; i < count; i++) bases[i] = first[i].base;
    segment_to_message(made, &segment);
    m.n_old_bases = count;
    m.old_bases = bases;
    m.segment = &segment;
    m.digest = (ProtobufCBinaryData){sizeof digest->b, (uint8_t *)(uintptr_t)digest->b};
    m.file_id = made->swap_id;
    m.cleaned_end = cleaned_end;
    m.dense = dense;
    enum err err = shard_effect_reserve(sh);
    if (err == OK) err = shard_message(sh, ENTRY_SWAP, l->pub.plid, &m.base);
    free(bases);
    if (err != OK) return err;
    impl_change(l);
    replace(l, count, made, cleaned_end, dense);
    struct effect *e = shard_effect(sh, EFFECT_SWAP, l);
    e->offset = made->base;
    e->swap_id = made->swap_id;
    e->bytes = l->dropped_total;
    impl_dirty(l);
    return OK;
}

/* The .log last: what an index says is believed only where the batch is. */
int swap_rename(struct io *io, const char *dir, struct log_impl *l, int64_t base, uint64_t swap_id) {
    char from[PATH_BYTES], to[PATH_BYTES];
    l->folder_unsynced = true;
    for (uint32_t i = 0; i < ARRAY_LEN(KINDS); i++) {
        path_swap(from, dir, l->folder, base, swap_id, KINDS[i]);
        path_segment(to, dir, l->folder, base, KINDS[i]);
        int rc = io_rename(io, from, to);
        if (rc < 0 && rc != -ENOENT) return rc;
    }
    return 0;
}

void swap_unlink(struct io *io, const char *dir, const struct log_impl *l, int64_t base, uint64_t swap_id) {
    char path[PATH_BYTES];
    for (uint32_t i = 0; i < ARRAY_LEN(KINDS) && !l->folder_moved; i++) {
        path_swap(path, dir, l->folder, base, swap_id, KINDS[i]);
        int rc = io_unlink(io, path);
        if (rc < 0 && rc != -ENOENT) trace_warn("log", "%s stays until the next start: %s", path, strerror(-rc));
    }
}

/* The log start may have passed the segment meanwhile: then what LOGSTART unlinks, later, is this file. */
void swap_durable(struct log_impl *l, int64_t base, uint64_t swap_id, uint32_t dropped_total) {
    struct log_shard *sh = l->pub.shard;
    if (l->folder_moved) return;
    int rc = swap_rename(sh->io, sh->store->dir, l, base, swap_id);
    if (rc < 0) {
        trace_error("log", "%s/%s: cannot rename compacted segment %lld: %s", sh->store->dir, l->folder, (long long)base, strerror(-rc));
        shard_fail(sh, ERR_IO, "a compacted segment could not be renamed");
        return;
    }
    struct segment *s = segment_by_base(l, base);
    if (s && s->swap_id == swap_id) s->swap_id = 0;
    l->droppable_total = dropped_total;
    writer_want(l);
}

/* ---- replay ------------------------------------------------------------------------------------------- */

static enum err fold(struct log_impl *l, const Varve__Storage__SwapEntry *m) {
    struct segment made;
    enum err err = m->segment && m->n_old_bases > 0 && m->file_id != 0 ? segment_from_message(m->segment, &made) : ERR_CORRUPT;
    if (err != OK) return err;
    struct segment *first = segment_by_base(l, made.base);
    uint32_t at = first ? (uint32_t)(first - l->segments) : 0;
    if (!first || m->n_old_bases >= l->segment_count - at) return ERR_CORRUPT;
    for (uint32_t i = 0; i < m->n_old_bases; i++)
        if (first[i].base != m->old_bases[i] || first[i].written_bytes != first[i].size_bytes) return ERR_CORRUPT;
    if (first[m->n_old_bases - 1].end != made.end || m->cleaned_end > l->pub.end) return ERR_CORRUPT;
    made.swap_id = m->file_id;
    replace(l, (uint32_t)m->n_old_bases, &made, m->cleaned_end, m->dense);
    return OK;
}

enum err swap_fold(struct log_impl *l, const uint8_t *body, uint32_t len) {
    Varve__Storage__SwapEntry *m = varve__storage__swap_entry__unpack(NULL, len, body);
    if (!m) return ERR_CORRUPT;
    enum err err = fold(l, m);
    varve__storage__swap_entry__free_unpacked(m, NULL);
    return err;
}
