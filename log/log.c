/* log.c - one partition's log: what changes it. Reading is in read.c and find.c, files in writer.c. */
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "base/trace.h"
#include "log/entries.h"
#include "log/faulty.h"
#include "log/mutant.h"
#include "log/names.h"
#include "log/shard.h"
#include "log/state.h"
#include "log/store.h"

enum { EXPIRE_INTERVAL_MS = 10 * 60 * 1000 }; /* as often as Kafka looks */
enum { PRODUCERS_ALWAYS = 64 }; /* slots that a log may have however short memory is */

void log_config_defaults(struct log_config *c) {
    *c = (struct log_config){.segment_bytes = 1u << 30,
                             .segment_ms = INT64_C(7) * 24 * 3600 * 1000,
                             .index_interval_bytes = 4096,
                             .segment_index_bytes = 10u << 20,
                             .producer_id_expiration_ms = INT64_C(24) * 3600 * 1000,
                             .retention_ms = -1,
                             .retention_bytes = -1,
                             .file_delete_delay_ms = 60000,
                             .delete_retention_ms = INT64_C(24) * 3600 * 1000,
                             .max_compaction_lag_ms = INT64_MAX,
                             .min_cleanable_ppm = 500000,
                             .internal = false};
}

/* ---- memory --------------------------------------------------------------------------------- */

struct log_impl *impl_new(struct log_shard *sh, uint64_t plid, const char *topic, size_t topic_len, int32_t partition) {
    struct log_impl *l = calloc(1, sizeof *l);
    char *name = l ? strndup(topic, topic_len) : NULL;
    char folder[FOLDER_NAME_BYTES];
    if (name) folder_name(folder, name, partition);
    char *folder_copy = name ? strdup(folder) : NULL;
    if (!folder_copy) {
        free(name);
        free(l);
        return NULL;
    }
    l->pub = (struct log){.plid = plid, .topic = name, .partition = partition, .shard = sh};
    epochs_init(&l->pub.epochs);
    producers_init(&l->pub.producers);
    log_config_defaults(&l->config);
    l->folder = folder_copy;
    l->truncate_end = -1;
    list_init(&l->work_link);
    return l;
}

static void dirty_remove(struct log_impl *l) {
    struct log_shard *sh = l->pub.shard;
    ASSERT(l->dirty_index < sh->dirty_count && sh->dirty[l->dirty_index] == l);
    struct log_impl *last = sh->dirty[--sh->dirty_count];
    sh->dirty[l->dirty_index] = last;
    last->dirty_index = l->dirty_index;
}

void impl_free(struct log_impl *l) {
    if (l->owed_bytes > 0) journal_owed_add(l->pub.shard->journal, -(int64_t)l->owed_bytes);
    if (l->dirty) dirty_remove(l);
    list_remove(&l->work_link);
    while (l->segment_count > 0) segment_remove_last(l);
    free(l->segments);
    tail_free(&l->tail);
    epochs_free(&l->pub.epochs);
    producers_free(&l->pub.producers);
    free(l->faulty);
    free(l->dropped);
    free(l->image);
    free((void *)(uintptr_t)l->pub.replica_config);
    free((void *)(uintptr_t)l->pub.topic);
    free(l->folder);
    free(l);
}

void impl_dirty(struct log_impl *l) {
    ASSERT(l->untaken == 0 || MUTANT(CUT_LATE)); /* else the state at the cut is lost: impl_change() was not called */
    l->export_due = true;
    if (l->dirty) {
        impl_owe_more(l);
        return;
    }
    l->dirty = true;
    struct log_shard *sh = l->pub.shard;
    ASSERT(sh->dirty_count < sh->log_cap);
    l->dirty_index = sh->dirty_count;
    sh->dirty[sh->dirty_count++] = l;
    impl_owe(l);
}

/* All logs of a shard share the memory for producers: above it a log forgets its oldest instead of growing. */
static void producers_bound(struct log_impl *l) {
    struct log_shard *sh = l->pub.shard;
    struct producers *p = &l->pub.producers;
    uint64_t max = sh->store->config.producers_bytes / sh->store->config.shards, bytes = 0;
    if (max == 0 || p->cap < PRODUCERS_ALWAYS || !producers_full(p)) return;
    for (uint32_t i = 0; i < sh->log_count; i++) bytes += (uint64_t)sh->logs[i]->pub.producers.cap * sizeof(struct producer);
    if (bytes <= max) return;
    l->producers_complete = false;
    if (producers_halve(p) != OK) trace_warn("log", "%s: no memory to forget old producers", l->folder);
}

enum err impl_add_batch(struct log_impl *l, const struct batch_header *h, uint32_t position) {
    struct segment *s = segment_last(l);
    struct log *pub = &l->pub;
    if (h->base_offset < pub->end || position != s->size_bytes || batch_last_offset(h) - s->base > INT32_MAX) return ERR_CORRUPT;
    enum err err = s->reindex ? OK : segment_index_need(l, s);
    if (err == OK && !s->reindex) err = index_add(s->index, h, position);
    if (h->producer_id >= 0 && !producers_find(&pub->producers, h->producer_id)) producers_bound(l);
    uint32_t known = pub->producers.count;
    if (err == OK) err = producers_apply(&pub->producers, h);
    if (err != OK) return err;
    if (pub->producers.count < known) l->producers_complete = false;
    if (h->base_offset > pub->end) l->compacted_end = MAX(l->compacted_end, s->base + 1);
    if (s->size_bytes == 0) s->first_timestamp = h->max_timestamp;
    s->size_bytes += h->total_bytes;
    s->end = pub->end = batch_last_offset(h) + 1;
    if (h->max_timestamp > s->max_timestamp) {
        s->max_timestamp = h->max_timestamp;
        s->max_timestamp_offset = batch_last_offset(h);
    }
    pub->size_bytes += h->total_bytes;
    return OK;
}

void impl_begin_below(struct log_impl *l, int64_t base) {
    struct segment *s = segment_last(l);
    ASSERT(l->segment_count == 1 && s->size_bytes == 0 && s->written_bytes == 0 && l->pub.end == l->pub.start && base < l->pub.start);
    segment_index_free(s); /* empty */
    s->base = s->end = l->pub.end = base;
    l->synced = (struct place){base, 0};
    if (l->in_checkpoint) l->flush_to = l->synced;
}

void impl_drop_files(struct log_impl *l, int64_t base) {
    if (l->dropped_count == l->dropped_cap) {
        uint32_t cap = l->dropped_cap ? l->dropped_cap * 2 : 4;
        int64_t *v = realloc(l->dropped, cap * sizeof *v);
        if (!v) {
            trace_warn("log", "%s: out of memory: the files of segment %lld stay until the next start", l->folder, (long long)base);
            return;
        }
        l->dropped = v;
        l->dropped_cap = cap;
    }
    l->dropped[l->dropped_count++] = base;
    l->dropped_total++;
}

void impl_epochs_changed(struct log_impl *l) {
    struct log *pub = &l->pub;
    const struct epochs *e = &pub->epochs;
    pub->epoch = epochs_last(e);
    pub->epoch_start = e->count > 0 ? e->entries[e->count - 1].start : pub->start;
    pub->base_epoch = e->base_epoch;
}

enum err impl_set_replica_config(struct log_impl *l, const uint8_t *data, size_t len) {
    uint8_t *copy = malloc(len + 1);
    if (!copy) return ERR_NOMEM;
    if (len > 0) memcpy(copy, data, len);
    free((void *)(uintptr_t)l->pub.replica_config);
    l->pub.replica_config = copy;
    l->pub.replica_config_len = (uint32_t)len;
    return OK;
}

void impl_set_start(struct log_impl *l, int64_t start) {
    l->pub.start = start;
    epochs_trim(&l->pub.epochs, start);
    impl_epochs_changed(l);
    bool removed = false;
    while (l->segment_count > 1 && l->segments[1].base <= start) {
        struct segment *s = &l->segments[0];
        impl_drop_files(l, s->base);
        l->pub.size_bytes -= s->size_bytes;
        uint32_t unwritten = s->size_bytes - s->written_bytes;
        l->pending_bytes -= MIN(l->pending_bytes, unwritten);
        if (l->pub.shard->journal) journal_pending_add(l->pub.shard->journal, -(int64_t)unwritten);
        segment_remove_first(l);
        removed = true;
    }
    faulty_trim(l);
    if (!removed) return;
    tail_drop_written(l);
    struct segment *first = &l->segments[0];
    if (l->synced.base < first->base) l->synced = (struct place){first->base, 0};
    if (l->in_checkpoint && l->flush_to.base < first->base) l->flush_to = (struct place){first->base, 0};
}

/* ---- create, delete ------------------------------------------------------------------------- */

static enum err join_create(struct log_shard *sh, const struct log_impl *l) {
    Varve__Storage__CreateEntry m = VARVE__STORAGE__CREATE_ENTRY__INIT;
    Varve__Storage__LogConfig config;
    config_to_message(&l->config, &config);
    struct uuid topic_id = l->pub.topic_id;
    m.plid = l->pub.plid;
    m.topic = (char *)(uintptr_t)l->pub.topic;
    m.partition = l->pub.partition;
    m.topic_id = (ProtobufCBinaryData){sizeof topic_id.b, topic_id.b};
    m.config = &config;
    m.replica_config = (ProtobufCBinaryData){l->pub.replica_config_len, (uint8_t *)(uintptr_t)l->pub.replica_config};
    return shard_message(sh, ENTRY_CREATE, l->pub.plid, &m.base);
}

static enum err join_marker(struct log_shard *sh, struct log_impl *l, int32_t epoch) {
    impl_change(l);
    enum err err = shard_effect_reserve(sh);
    if (err == OK) err = epochs_append(&l->pub.epochs, epoch, l->pub.end);
    if (err != OK) return err;
    uint8_t *p = shard_entry(sh, ENTRY_MARKER, l->pub.plid, ENTRY_MARKER_BYTES, 0, NULL, &err);
    if (!p) {
        l->pub.epochs.count--;
        return err;
    }
    entry_marker_encode(p, &(struct entry_marker){.start = l->pub.end, .epoch = epoch});
    impl_epochs_changed(l);
    shard_effect(sh, EFFECT_MARKER, l);
    impl_dirty(l);
    return OK;
}

enum err log_create(struct log_shard *sh, const struct log_spec *spec, struct log **out,
                    void (*created)(struct log *l, void *ctx, enum err err), void *ctx) {
    if (sh->failed != OK) return ERR_IO;
    if (sh->stopping) return ERR_CLOSED;
    if (journal_pressure_within(sh->journal, shard_reserve(sh, &spec->config)) == 3) return ERR_NOSPACE;
    if (!topic_name_ok(str_from(spec->topic)) || spec->partition < 0) return ERR_INVALID;
    struct log_impl *l = impl_new(sh, spec->plid, spec->topic, strlen(spec->topic), spec->partition);
    if (!l) return ERR_NOMEM;
    l->pub.topic_id = spec->topic_id;
    l->config = spec->config;
    l->producers_complete = true;
    enum err err = shard_find_name(sh, l->folder) || shard_find(sh, spec->plid) ? ERR_EXISTS : segment_add(l, 0, io_wall_ms(sh->io));
    if (err == OK && spec->replica_config) err = impl_set_replica_config(l, spec->replica_config, spec->replica_config_len);
    if (err == OK) err = shard_effect_reserve(sh);
    if (err == OK) err = shard_add_log(sh, l);
    if (err != OK) {
        impl_free(l);
        return err;
    }
    err = join_create(sh, l);
    if (err != OK) {
        shard_remove_log(sh, l);
        impl_free(l);
        return err;
    }
    struct effect *e = shard_effect(sh, EFFECT_CREATE, l);
    e->done = created;
    e->ctx = ctx;
    impl_dirty(l);
    if (spec->first_epoch > 0) err = join_marker(sh, l, spec->first_epoch);
    if (err != OK) shard_fail(sh, err, "no memory for a journal entry");
    *out = &l->pub;
    return err;
}

void log_delete(struct log *pub, void (*deleted)(void *ctx, enum err err), void *ctx) {
    struct log_impl *l = impl_of(pub);
    struct log_shard *sh = pub->shard;
    ASSERT(!l->delete_joined);
    impl_change(l);
    l->delete_joined = true;
    shard_forget_name(sh, l);
    pub->deleted = true;
    l->deleted = deleted;
    l->deleted_ctx = ctx;
    Varve__Storage__DeleteEntry m = VARVE__STORAGE__DELETE_ENTRY__INIT;
    m.plid = pub->plid;
    enum err err = sh->failed == OK ? shard_effect_reserve(sh) : ERR_IO;
    if (err == OK) err = shard_message(sh, ENTRY_DELETE, pub->plid, &m.base);
    if (err != OK) {
        shard_fail(sh, err, "no memory for a journal entry");
        return;
    }
    shard_effect(sh, EFFECT_DELETE, l);
    shard_effect_seq_void(sh, l);
    impl_dirty(l);
}

/* The truth about configs is the metadata log, which is applied at every start: the state in the
 * catalogue only bridges the time until then, so no journal entry is needed. */
void log_configure(struct log *pub, const struct log_config *c) {
    struct log_impl *l = impl_of(pub);
    impl_change(l);
    l->config = *c;
    impl_dirty(l);
}

/* ---- append --------------------------------------------------------------------------------- */

/* Memory did not suffice for a roll: the segment goes on without the entry that ends a time index. */
static void unseal(struct segment *s, uint32_t times) {
    if (s->index) s->index->time_count = MIN(s->index->time_count, times);
    free(s->snapshot);
    s->snapshot = NULL;
}

enum err impl_roll(struct log_impl *l, int64_t created_ms) {
    struct segment *s = segment_last(l);
    enum err err = s->reindex ? OK : segment_index_need(l, s);
    uint32_t times = err == OK && !s->reindex ? s->index->time_count : 0;
    if (err == OK && !s->reindex) err = index_seal(s->index);
    free(s->snapshot); /* of a roll that memory did not suffice for */
    s->snapshot = NULL;
    if (err == OK && l->pub.producers.count > 0) {
        size_t len;
        err = producers_to_snapshot(&l->pub.producers, &s->snapshot, &len);
        s->snapshot_len = err == OK ? (uint32_t)len : 0;
    }
    if (err == OK) err = segment_add(l, l->pub.end, created_ms);
    if (err != OK && !s->reindex) unseal(s, times);
    return err;
}

static enum err roll(struct log_impl *l, int64_t now_ms) {
    struct log_shard *sh = l->pub.shard;
    impl_change(l);
    Varve__Storage__RollEntry m = VARVE__STORAGE__ROLL_ENTRY__INIT;
    m.segment_base = l->pub.end;
    m.created_ms = now_ms;
    enum err err = shard_effect_reserve(sh);
    if (err == OK) err = segment_index_need(l, segment_last(l));
    uint32_t times = err == OK ? segment_last(l)->index->time_count : 0;
    if (err == OK) err = impl_roll(l, now_ms);
    if (err != OK) return err;
    err = shard_message(sh, ENTRY_ROLL, l->pub.plid, &m.base);
    if (err != OK) {
        segment_remove_last(l);
        unseal(segment_last(l), times);
        return err;
    }
    shard_effect(sh, EFFECT_ROLL, l);
    impl_dirty(l);
    return OK;
}

enum err log_roll(struct log *pub, int64_t now_ms) {
    struct log_impl *l = impl_of(pub);
    if (pub->shard->failed != OK) return ERR_IO;
    if (pub->shard->stopping || l->delete_joined) return ERR_CLOSED;
    return segment_last(l)->size_bytes > 0 ? roll(l, now_ms) : OK;
}

/* Copies the batch into the open slice and makes it the log's: offset, epoch, perhaps its time. */
static enum err join_batch(struct log_impl *l, const uint8_t *from, const struct batch_header *h, int64_t append_time_ms) {
    struct log_shard *sh = l->pub.shard;
    struct segment *s = segment_last(l);
    enum err err;
    uint32_t at;
    uint8_t *p = shard_entry(sh, ENTRY_RECORDS, l->pub.plid, ENTRY_RECORDS_BYTES, h->total_bytes, &at, &err);
    if (!p) return err;
    struct entry_records e = {.base_offset = h->base_offset, .end_offset = batch_last_offset(h) + 1, .epoch = h->leader_epoch,
                              .place = {s->base, s->size_bytes}};
    entry_records_encode(p, &e);
    uint8_t *batch = p + ENTRY_RECORDS_BYTES;
    memcpy(batch, from, h->total_bytes);
    batch_set_base_offset(batch, h->base_offset);
    batch_set_leader_epoch(batch, h->leader_epoch);
    if (append_time_ms >= 0) batch_set_log_append_time(batch, append_time_ms);
    struct tail_entry t = {.base_offset = h->base_offset, .count = (uint32_t)h->last_offset_delta + 1, .len = h->total_bytes,
                           .position = s->size_bytes, .slice = sh->open, .pos = {0, at}};
    tail_push(&l->tail, &t);
    return OK;
}

static enum err append_room(struct log_impl *l, const struct batch_header *h, bool spares) {
    struct log_shard *sh = l->pub.shard;
    struct log_config config = l->config;
    if (l->delete_joined) return ERR_CLOSED;
    if (h->total_bytes > l->config.segment_bytes || h->total_bytes > journal_body_max(sh->journal)) return ERR_TOO_LARGE;
    config.whole_reserve &= !spares;
    return shard_room(sh, &config, h->total_bytes);
}

/* What follows can no longer fail halfway for want of memory, except in the producers. */
static enum err append_reserve(struct log_impl *l, const struct batch_header *h, int64_t now_ms) {
    struct log_shard *sh = l->pub.shard;
    enum err err = segment_index_need(l, segment_last(l));
    if (err == OK && segment_must_roll(l, segment_last(l), h, now_ms)) {
        err = roll(l, now_ms);
        if (err == OK) err = segment_index_need(l, segment_last(l));
    }
    if (err == OK) err = tail_reserve(&l->tail);
    if (err == OK) err = shard_effect_reserve(sh);
    return err;
}

void impl_expire_producers(struct log_impl *l, int64_t now_ms) {
    if (l->pub.producers.count == 0 || now_ms < l->expire_at_ms) return;
    uint32_t known = l->pub.producers.count;
    impl_change(l);
    producers_expire(&l->pub.producers, now_ms, l->config.producer_id_expiration_ms);
    if (l->pub.producers.count < known) l->producers_complete = false;
    l->expire_at_ms = now_ms + EXPIRE_INTERVAL_MS;
}

enum err impl_append(struct log_impl *l, const uint8_t *batch, const struct batch_header *h, int64_t append_time_ms, int64_t now_ms) {
    struct log_shard *sh = l->pub.shard;
    impl_change(l);
    enum err err = append_reserve(l, h, now_ms);
    if (err == OK) err = join_batch(l, batch, h, append_time_ms);
    if (err != OK) return err;
    journal_pending_add(sh->journal, h->total_bytes);
    err = impl_add_batch(l, h, segment_last(l)->size_bytes);
    if (err != OK) {
        shard_fail(sh, err, "out of memory in the middle of an append");
        return ERR_IO;
    }
    shard_effect_append(sh, l, h->total_bytes);
    impl_dirty(l);
    return OK;
}

/* A producer that never wrote here begins with sequence 0: another one comes before a batch that is still to be sent again, and would be taken
 * in its place. Only where nothing can have been forgotten: else any sequence may be the next one of an old producer. */
static bool first_is_missing(const struct log_impl *l, const struct batch_header *h) {
    return h->producer_id >= 0 && h->base_sequence > 0 && l->producers_complete && l->pub.start == 0 && l->compacted_end == 0 &&
           !producers_find(&l->pub.producers, h->producer_id);
}

enum err log_append(struct log *pub, struct log_append *a) {
    struct log_impl *l = impl_of(pub);
    struct log_shard *sh = pub->shard;
    if (sh->failed != OK) return ERR_IO; /* before the sequence is looked at: what the log knows of it may be half an append */
    impl_expire_producers(l, a->now_ms);
    struct batch_header h = *a->header;
    struct producer_batch duplicate;
    a->duplicate = false;
    a->timestamp_ms = a->log_append_time_ms;
    enum err err = l->delete_joined ? ERR_CLOSED : producers_check(&pub->producers, &h, &duplicate);
    if (err == ERR_DUPLICATE) {
        a->duplicate = true;
        a->base_offset = duplicate.first_offset;
        a->last_offset = duplicate.last_offset;
        if (a->log_append_time_ms >= 0) a->timestamp_ms = duplicate.timestamp_ms;
        return sh->failed == OK ? OK : ERR_IO;
    }
    if (err == OK && first_is_missing(l, &h)) err = ERR_SEQUENCE;
    if (err == OK) err = append_room(l, &h, a->spares);
    if (err != OK) return err;
    h.base_offset = pub->end;
    h.leader_epoch = pub->epoch;
    if (a->log_append_time_ms >= 0) {
        h.attributes |= BATCH_LOG_APPEND_TIME;
        h.max_timestamp = a->log_append_time_ms;
    }
    if ((err = impl_append(l, a->batch, &h, a->log_append_time_ms, a->now_ms)) != OK) return err;
    a->base_offset = h.base_offset;
    a->last_offset = batch_last_offset(&h);
    return OK;
}

/* ---- epochs, start, truncation -------------------------------------------------------------- */

enum err log_begin_epoch(struct log *pub, int32_t epoch) {
    struct log_impl *l = impl_of(pub);
    struct log_shard *sh = pub->shard;
    if (sh->failed != OK) return ERR_IO;
    if (sh->stopping || l->delete_joined) return ERR_CLOSED;
    if (epoch <= pub->epoch) return ERR_INVALID;
    return join_marker(sh, l, epoch);
}

bool log_start_room(struct log *pub) {
    struct log_shard *sh = pub->shard;
    if (!journal_starts_wait(sh->journal) || impl_of(pub)->config.whole_reserve) return true;
    sh->stopped_appends = true; /* that is what `writable` is called for */
    return false;
}

enum err log_set_start(struct log *pub, int64_t offset, void (*done)(struct log *l, void *ctx, enum err err), void *ctx) {
    struct log_impl *l = impl_of(pub);
    struct log_shard *sh = pub->shard;
    if (sh->failed != OK) return ERR_IO;
    if (sh->stopping || l->delete_joined) return ERR_CLOSED;
    if (offset < pub->start || offset > pub->durable_end) return ERR_RANGE;
    Varve__Storage__LogStartEntry m = VARVE__STORAGE__LOG_START_ENTRY__INIT;
    m.start = offset;
    m.segment_base = segment_of(l, offset)->base;
    m.base_epoch = offset > pub->start ? MAX(epochs_at(&pub->epochs, offset - 1), 0) : pub->base_epoch;
    enum err err = shard_effect_reserve(sh);
    if (err == OK) err = shard_message(sh, ENTRY_LOGSTART, pub->plid, &m.base);
    if (err != OK) return err;
    impl_change(l);
    impl_set_start(l, offset);
    if (MUTANT(UNLINK_EARLY)) {
        l->droppable_total = l->dropped_total;
        writer_want(l);
    }
    struct effect *e = shard_effect(sh, EFFECT_START, l);
    e->offset = offset;
    e->bytes = l->dropped_total;
    e->done = done;
    e->ctx = ctx;
    impl_dirty(l);
    return OK;
}
