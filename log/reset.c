/* reset.c - a log begins anew, empty, at another offset: a replica whose leader no longer has what it lacks.
 *
 * The RESET entry is a barrier like TRUNCATE: until it is durable no file of the log changes; then its folder moves away
 * (cut.c) and the next generation makes its own. A folder whose manifest names an older generation is garbage. */
#include <stdlib.h>
#include "base/assert.h"
#include "base/trace.h"
#include "log/faulty.h"
#include "log/shard.h"
#include "log/state.h"

void impl_reset(struct log_impl *l, int32_t base_epoch, int64_t offset, struct producers *producers) {
    struct log *pub = &l->pub;
    struct log_shard *sh = pub->shard;
    if (sh->journal) journal_pending_add(sh->journal, -(int64_t)impl_unwritten(l));
    l->change++;
    while (l->segment_count > 0) segment_remove_last(l);
    enum err err = segment_add(l, offset, io_wall_ms(sh->io));
    ASSERT(err == OK); /* there is memory for one: there was one */
    tail_free(&l->tail);
    impl_effects_cut(l, offset);
    l->effect_slice = 0; /* what is appended from here on is counted behind this */
    faulty_forget(l, 0, INT64_MAX);
    epochs_reset(&pub->epochs, base_epoch, offset);
    pub->start = pub->end = pub->durable_end = offset;
    impl_epochs_changed(l);
    pub->size_bytes = 0;
    pub->generation++;
    producers_free(&pub->producers);
    pub->producers = *producers;
    producers_init(producers);
    l->producers_lost = l->producers_complete = false;
    l->pending_bytes = 0;
    l->synced = (struct place){offset, 0};
    l->dropped_count = 0; /* they go with the folder */
    l->dropped_kind = 0;
    l->droppable_total = l->dropped_total;
    l->truncate_end = -1;
    l->cleaned_end = l->compacted_end = 0;
    l->compact_retry_ms = 0;
    free(l->image);
    l->image = NULL;
    read_hints_forget(sh, pub->plid);
}

/* ---- producers, as messages ------------------------------------------------------------------ */

static enum err producers_take(Varve__Storage__Producer **v, size_t count, int64_t offset, struct producers *out) {
    enum err err = OK;
    int64_t last_id = -1;
    producers_init(out);
    for (size_t i = 0; i < count && err == OK; i++) {
        struct producer p;
        err = count <= PRODUCERS_SLOTS_MAX ? producer_from_message(v[i], &p) : ERR_CORRUPT;
        if (err == OK && p.id <= last_id) err = ERR_CORRUPT;
        for (uint8_t k = 0; err == OK && k < p.count; k++)
            if (p.window[k].first_offset > p.window[k].last_offset || p.window[k].last_offset >= offset) err = ERR_CORRUPT;
        if (err != OK) break;
        last_id = p.id;
        err = producers_put(out, &p);
    }
    if (err != OK) producers_free(out);
    return err;
}

/* Of those that are too many for `bytes`, the ones that wrote longest ago go. */
static enum err keep_newest(struct producers *p, size_t bytes) {
    while (producers_packed_bytes(p) > bytes && p->count > 1) {
        uint32_t before = p->count;
        enum err err = producers_halve(p);
        if (err != OK) return err;
        if (p->count == before) return OK; /* open transactions */
    }
    return OK;
}

enum err log_producers_below(const struct log *pub, int64_t offset, uint8_t **out, size_t *len) {
    struct producers below;
    struct producer_messages messages;
    bool lost;
    *out = NULL;
    *len = 0;
    enum err err = producers_below(&pub->producers, offset, &below, &lost);
    if (err != OK) return err;
    err = keep_newest(&below, LOG_PRODUCERS_BYTES_MAX);
    if (err == OK) err = producers_to_messages(&below, &messages);
    producers_free(&below);
    if (err != OK) return err;
    Varve__Storage__ProducersBelow m = VARVE__STORAGE__PRODUCERS_BELOW__INIT;
    m.n_producers = messages.count;
    m.producers = messages.v;
    *len = varve__storage__producers_below__get_packed_size(&m);
    *out = malloc(*len + 1);
    if (*out) varve__storage__producers_below__pack(&m, *out);
    producer_messages_free(&messages);
    return *out ? OK : ERR_NOMEM;
}

/* ---- the call, and its replay ------------------------------------------------------------------ */

static enum err join_reset(struct log_impl *l, int32_t base_epoch, int64_t offset, const Varve__Storage__ProducersBelow *below) {
    Varve__Storage__ResetEntry m = VARVE__STORAGE__RESET_ENTRY__INIT;
    m.base_offset = offset;
    m.generation = l->pub.generation + 1;
    m.base_epoch = base_epoch;
    m.n_producers = below ? below->n_producers : 0;
    m.producers = below ? below->producers : NULL;
    return shard_message(l->pub.shard, ENTRY_RESET, l->pub.plid, &m.base);
}

static enum err may_reset(const struct log_impl *l) {
    const struct log_shard *sh = l->pub.shard;
    if (sh->failed != OK) return ERR_IO;
    return sh->stopping || l->delete_joined ? ERR_CLOSED : OK;
}

enum err log_reset(struct log *pub, int32_t base_epoch, int64_t offset, const uint8_t *producers, size_t len) {
    struct log_impl *l = impl_of(pub);
    struct log_shard *sh = pub->shard;
    struct producers known;
    Varve__Storage__ProducersBelow *below = NULL;
    enum err err = may_reset(l);
    if (err == OK && (offset < 0 || base_epoch < 0)) err = ERR_INVALID;
    if (err != OK) return err;
    producers_init(&known);
    if (producers) {
        below = varve__storage__producers_below__unpack(NULL, len, producers);
        err = below ? producers_take(below->producers, below->n_producers, offset, &known) : ERR_CORRUPT;
    }
    if (err == OK) err = shard_effect_reserve(sh);
    if (err == OK) err = join_reset(l, base_epoch, offset, below);
    if (below) varve__storage__producers_below__free_unpacked(below, NULL);
    if (err != OK) {
        producers_free(&known);
        return err;
    }
    trace_info("log", "%s: discarded; it begins anew at offset %lld", l->folder, (long long)offset);
    l->truncates_joined++;
    impl_change(l);
    impl_dirty(l);
    impl_reset(l, base_epoch, offset, &known);
    struct effect *e = shard_effect(sh, EFFECT_RESET, l);
    e->offset = offset;
    e->bytes = l->dropped_total;
    e->cuts = sh->cuts;
    return OK;
}

enum err reset_fold(struct log_impl *l, const uint8_t *body, uint32_t len) {
    Varve__Storage__ResetEntry *m = varve__storage__reset_entry__unpack(NULL, len, body);
    if (!m) return ERR_CORRUPT;
    struct producers known;
    bool sound = m->base_offset >= 0 && m->base_epoch >= 0 && m->generation == l->pub.generation + 1;
    enum err err = sound ? producers_take(m->producers, m->n_producers, m->base_offset, &known) : ERR_CORRUPT;
    if (err == OK) {
        impl_reset(l, m->base_epoch, m->base_offset, &known);
        l->folder_counted = false; /* its folder is made again, like that of a log that was just created */
        l->folder_made = false;
    }
    varve__storage__reset_entry__free_unpacked(m, NULL);
    return err;
}
