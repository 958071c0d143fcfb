/* state.c - see state.h. */
#include "log/state.h"
#include <stdlib.h>
#include "base/assert.h"
#include "log/faulty.h"
#include "log/names.h"

void config_to_message(const struct log_config *c, Varve__Storage__LogConfig *m) {
    varve__storage__log_config__init(m);
    m->segment_bytes = c->segment_bytes;
    m->segment_ms = c->segment_ms;
    m->index_interval_bytes = c->index_interval_bytes;
    m->segment_index_bytes = c->segment_index_bytes;
    m->producer_id_expiration_ms = c->producer_id_expiration_ms;
    m->internal = c->internal;
}

void config_from_message(const Varve__Storage__LogConfig *m, struct log_config *c) {
    log_config_defaults(c);
    if (!m) return;
    if (m->segment_bytes > 0 && m->segment_bytes <= INT32_MAX) c->segment_bytes = m->segment_bytes;
    if (m->segment_ms > 0) c->segment_ms = m->segment_ms;
    if (m->index_interval_bytes <= INT32_MAX) c->index_interval_bytes = m->index_interval_bytes;
    if (m->segment_index_bytes >= TIME_ENTRY_BYTES) c->segment_index_bytes = m->segment_index_bytes;
    if (m->producer_id_expiration_ms > 0) c->producer_id_expiration_ms = m->producer_id_expiration_ms;
    c->internal = m->internal;
}

/* ---- encoding: the messages are built in one block of memory, pointers first ---------------------- */

void segment_to_message(const struct segment *s, Varve__Storage__Segment *m) {
    varve__storage__segment__init(m);
    m->base_offset = s->base;
    m->end = s->end;
    m->size_bytes = s->size_bytes;
    m->max_timestamp = s->max_timestamp;
    m->max_timestamp_offset = s->max_timestamp_offset;
    m->sealed = s->sealed;
    m->created_ms = s->created_ms;
    m->first_timestamp = s->first_timestamp;
    /* What the index files will hold once the checkpoint has written them. */
    uint32_t offsets_new = 0, times_new = 0;
    struct index_entry last_index = s->last_index;
    struct time_entry last_time = s->last_time;
    if (s->index) {
        offsets_new = s->index->offset_count - s->index->offset_written;
        times_new = s->index->time_count - s->index->time_written;
        if (offsets_new) last_index = s->index->offsets[s->index->offset_count - 1];
        if (times_new) last_time = s->index->times[s->index->time_count - 1];
    }
    m->index_bytes = s->index_bytes + offsets_new * INDEX_ENTRY_BYTES;
    m->time_index_bytes = s->time_index_bytes + times_new * TIME_ENTRY_BYTES;
    if (m->index_bytes) {
        m->last_index_offset = last_index.relative;
        m->last_index_position = last_index.position;
    }
    if (m->time_index_bytes) {
        m->last_time = last_time.timestamp;
        m->last_time_offset = last_time.relative;
    }
}

static void producer_to_message(const struct producer *p, struct producer_message *out) {
    varve__storage__producer__init(&out->m);
    out->m.id = p->id;
    out->m.epoch = p->epoch;
    out->m.coordinator_epoch = p->coordinator_epoch;
    out->m.txn_first_offset = p->txn_first_offset;
    out->m.last_timestamp_ms = p->last_timestamp_ms;
    out->m.n_window = p->count;
    out->m.window = out->pointers;
    for (uint32_t i = 0; i < p->count; i++) {
        const struct producer_batch *b = &p->window[i];
        Varve__Storage__ProducerBatch *w = &out->window[i];
        varve__storage__producer_batch__init(w);
        w->first_sequence = b->first_sequence;
        w->last_sequence = b->last_sequence;
        w->first_offset = b->first_offset;
        w->last_offset = b->last_offset;
        w->timestamp_ms = b->timestamp_ms;
        out->pointers[i] = w;
    }
}

enum err producers_to_messages(const struct producers *p, struct producer_messages *out) {
    *out = (struct producer_messages){0};
    int64_t *ids = producers_sorted_ids(p, &out->count);
    bool made = ids || p->count == 0;
    if (made) {
        out->items = calloc(out->count + 1, sizeof *out->items);
        out->v = calloc(out->count + 1, sizeof *out->v);
        made = out->items && out->v;
    }
    for (uint32_t i = 0; i < out->count && made; i++) {
        producer_to_message(producers_find(p, ids[i]), &out->items[i]);
        out->v[i] = &out->items[i].m;
    }
    free(ids);
    if (!made) producer_messages_free(out);
    return made ? OK : ERR_NOMEM;
}

void producer_messages_free(struct producer_messages *m) {
    free(m->items);
    free(m->v);
    *m = (struct producer_messages){0};
}

size_t producers_packed_bytes(const struct producers *p) {
    size_t bytes = 0;
    uint32_t at = 0;
    for (const struct producer *e; (e = producers_next(p, &at));) {
        struct producer_message m;
        producer_to_message(e, &m);
        bytes += varve__storage__producer__get_packed_size(&m.m) + 4; /* tag and length */
    }
    return bytes;
}

struct lists {
    Varve__Storage__EpochEntry *epochs;
    Varve__Storage__EpochEntry **epoch_pointers;
    Varve__Storage__Segment *segments;
    Varve__Storage__Segment **segment_pointers;
    Varve__Storage__FaultyRange *faulty;
    Varve__Storage__FaultyRange **faulty_pointers;
    struct producer_messages producers;
};

static void lists_free(struct lists *x) {
    free(x->epochs);
    free(x->epoch_pointers);
    free(x->segments);
    free(x->segment_pointers);
    free(x->faulty);
    free(x->faulty_pointers);
    producer_messages_free(&x->producers);
}

static bool lists_init(struct lists *x, const struct log_impl *l) {
    *x = (struct lists){0};
    if (producers_to_messages(&l->pub.producers, &x->producers) != OK) return false;
    uint32_t epochs = l->pub.epochs.count + 1, faulty = l->faulty_count + 1;
    x->epochs = calloc(epochs, sizeof *x->epochs);
    x->epoch_pointers = calloc(epochs, sizeof *x->epoch_pointers);
    x->segments = calloc(l->segment_count, sizeof *x->segments);
    x->segment_pointers = calloc(l->segment_count, sizeof *x->segment_pointers);
    x->faulty = calloc(faulty, sizeof *x->faulty);
    x->faulty_pointers = calloc(faulty, sizeof *x->faulty_pointers);
    return x->epochs && x->epoch_pointers && x->segments && x->segment_pointers && x->faulty && x->faulty_pointers;
}

static void lists_fill(struct lists *x, const struct log_impl *l, Varve__Storage__LogState *m) {
    for (uint32_t i = 0; i < l->pub.epochs.count; i++) {
        varve__storage__epoch_entry__init(&x->epochs[i]);
        x->epochs[i].epoch = l->pub.epochs.entries[i].epoch;
        x->epochs[i].start = l->pub.epochs.entries[i].start;
        x->epoch_pointers[i] = &x->epochs[i];
    }
    for (uint32_t i = 0; i < l->segment_count; i++) {
        segment_to_message(&l->segments[i], &x->segments[i]);
        x->segment_pointers[i] = &x->segments[i];
    }
    for (uint32_t i = 0; i < l->faulty_count; i++) {
        varve__storage__faulty_range__init(&x->faulty[i]);
        x->faulty[i].start = l->faulty[i].start;
        x->faulty[i].end = l->faulty[i].end;
        x->faulty[i].segment_base = l->faulty[i].base;
        x->faulty[i].position = l->faulty[i].position;
        x->faulty[i].end_position = l->faulty[i].end_position;
        x->faulty_pointers[i] = &x->faulty[i];
    }
    m->n_epochs = l->pub.epochs.count;
    m->epochs = x->epoch_pointers;
    m->n_segments = l->segment_count;
    m->segments = x->segment_pointers;
    m->n_faulty = l->faulty_count;
    m->faulty = x->faulty_pointers;
    m->n_producers = x->producers.count;
    m->producers = x->producers.v;
}

static enum err pack(const Varve__Storage__LogState *m, uint8_t **data, uint32_t *len) {
    *len = (uint32_t)varve__storage__log_state__get_packed_size(m);
    *data = malloc(*len + 1);
    if (!*data) return ERR_NOMEM;
    varve__storage__log_state__pack(m, *data);
    return OK;
}

static Varve__Storage__Vote *vote_to_message(const struct log_vote *v, struct uuid *incarnation, Varve__Storage__Vote *m) {
    varve__storage__vote__init(m);
    m->epoch = v->epoch;
    m->voted_id = v->has_voted ? v->node : -1;
    if (v->has_voted) m->voted_incarnation = (ProtobufCBinaryData){sizeof incarnation->b, incarnation->b};
    return m;
}

enum err state_encode(const struct log_impl *l, uint8_t **data, uint32_t *len) {
    struct lists lists;
    if (!lists_init(&lists, l)) {
        lists_free(&lists);
        return ERR_NOMEM;
    }
    Varve__Storage__LogState m = VARVE__STORAGE__LOG_STATE__INIT;
    Varve__Storage__LogConfig config;
    config_to_message(&l->config, &config);
    struct uuid topic_id = l->pub.topic_id;
    m.plid = l->pub.plid;
    m.topic = (char *)(uintptr_t)l->pub.topic;
    m.partition = l->pub.partition;
    m.topic_id = (ProtobufCBinaryData){sizeof topic_id.b, topic_id.b};
    m.generation = l->pub.generation;
    m.start = l->pub.start;
    m.end = l->pub.end;
    m.config = &config;
    m.size_bytes = l->pub.size_bytes;
    m.cleaned_end = l->cleaned_end;
    m.compacted_end = l->compacted_end;
    m.producers_complete = l->producers_complete;
    Varve__Storage__Vote vote;
    struct uuid voted = l->pub.vote.incarnation;
    if (l->pub.vote.epoch > 0) m.vote = vote_to_message(&l->pub.vote, &voted, &vote);
    m.has_replica_config = l->pub.replica_config != NULL;
    m.replica_config = (ProtobufCBinaryData){l->pub.replica_config_len, (uint8_t *)(uintptr_t)l->pub.replica_config};
    m.base_epoch = l->pub.epochs.base_epoch;
    lists_fill(&lists, l, &m);
    enum err err = pack(&m, data, len);
    lists_free(&lists);
    return err;
}

enum err state_encode_store(uint64_t metadata_assigned, uint8_t **data, uint32_t *len) {
    Varve__Storage__LogState m = VARVE__STORAGE__LOG_STATE__INIT;
    m.end = (int64_t)metadata_assigned;
    return pack(&m, data, len);
}

/* ---- decoding ----------------------------------------------------------------------------------- */

enum err segment_from_message(const Varve__Storage__Segment *m, struct segment *s) {
    bool sound = m->base_offset >= 0 && m->end >= m->base_offset && m->size_bytes <= INT32_MAX && m->index_bytes <= INT32_MAX &&
                 m->time_index_bytes <= INT32_MAX && m->index_bytes % INDEX_ENTRY_BYTES == 0 &&
                 m->time_index_bytes % TIME_ENTRY_BYTES == 0;
    if (!sound) return ERR_CORRUPT;
    *s = (struct segment){.base = m->base_offset, .end = m->end, .created_ms = m->created_ms};
    s->size_bytes = s->written_bytes = (uint32_t)m->size_bytes;
    s->file_made = m->size_bytes > 0;
    s->index_bytes = (uint32_t)m->index_bytes;
    s->time_index_bytes = (uint32_t)m->time_index_bytes;
    s->last_index = (struct index_entry){m->last_index_offset, m->last_index_position};
    s->last_time = (struct time_entry){m->last_time, m->last_time_offset};
    s->max_timestamp = m->max_timestamp;
    s->max_timestamp_offset = m->max_timestamp_offset;
    s->first_timestamp = m->first_timestamp;
    s->sealed = m->sealed;
    return OK;
}

static enum err decode_segment(struct log_impl *l, const Varve__Storage__Segment *m) {
    struct segment s;
    enum err err = segment_from_message(m, &s);
    if (err == OK && l->segment_count > 0 && (segment_last(l)->end != s.base || segment_last(l)->base >= s.base)) err = ERR_CORRUPT;
    if (err == OK) err = segment_add(l, s.base, s.created_ms);
    if (err == OK) *segment_last(l) = s;
    return err;
}

enum err producer_from_message(const Varve__Storage__Producer *m, struct producer *out) {
    if (m->n_window > PRODUCER_WINDOW || m->id < 0 || m->epoch < INT16_MIN || m->epoch > INT16_MAX) return ERR_CORRUPT;
    *out = (struct producer){.id = m->id, .epoch = (int16_t)m->epoch, .count = (uint8_t)m->n_window,
                             .coordinator_epoch = m->coordinator_epoch, .txn_first_offset = m->txn_first_offset, .last_timestamp_ms = m->last_timestamp_ms};
    for (size_t i = 0; i < m->n_window; i++) {
        const Varve__Storage__ProducerBatch *b = m->window[i];
        out->window[i] = (struct producer_batch){b->first_sequence, b->last_sequence, b->first_offset, b->last_offset, b->timestamp_ms};
    }
    return OK;
}

static enum err decode_producer(struct log_impl *l, const Varve__Storage__Producer *m) {
    struct producer p;
    enum err err = producer_from_message(m, &p);
    return err == OK ? producers_put(&l->pub.producers, &p) : err;
}

static enum err decode_faulty(struct log_impl *l, const Varve__Storage__LogState *m) {
    if (m->n_faulty == 0) return OK;
    l->faulty = calloc(m->n_faulty, sizeof *l->faulty);
    if (!l->faulty) return ERR_NOMEM;
    l->faulty_cap = (uint32_t)m->n_faulty;
    for (size_t i = 0; i < m->n_faulty; i++) {
        const Varve__Storage__FaultyRange *r = m->faulty[i];
        const struct segment *s = l->segment_count > 0 ? segment_by_base(l, r->segment_base) : NULL;
        bool sound = s && r->start >= s->base && r->start < r->end && r->end <= s->end && r->position <= r->end_position &&
                     r->end_position <= s->size_bytes && (i == 0 || m->faulty[i - 1]->end <= r->start);
        if (!sound) return ERR_CORRUPT;
        l->faulty[l->faulty_count++] = (struct faulty_range){r->start, r->end, r->segment_base, r->position, r->end_position};
    }
    return OK;
}

static enum err decode_lists(struct log_impl *l, const Varve__Storage__LogState *m) {
    enum err err = OK;
    for (size_t i = 0; i < m->n_epochs && err == OK; i++)
        err = epochs_append(&l->pub.epochs, m->epochs[i]->epoch, m->epochs[i]->start);
    for (size_t i = 0; i < m->n_segments && err == OK; i++) err = decode_segment(l, m->segments[i]);
    for (size_t i = 0; i < m->n_producers && err == OK; i++) err = decode_producer(l, m->producers[i]);
    if (err == OK) err = decode_faulty(l, m);
    return err == ERR_INVALID ? ERR_CORRUPT : err;
}

static enum err decode_vote(struct log_impl *l, const Varve__Storage__Vote *m) {
    if (!m) return OK;
    bool voted = m->voted_id >= 0;
    if (m->epoch < 0 || (voted && m->voted_incarnation.len != sizeof l->pub.vote.incarnation.b)) return ERR_CORRUPT;
    l->pub.vote = (struct log_vote){.epoch = m->epoch, .has_voted = voted, .node = m->voted_id};
    if (voted) memcpy(l->pub.vote.incarnation.b, m->voted_incarnation.data, m->voted_incarnation.len);
    return OK;
}

static enum err decode(struct log_impl *l, const Varve__Storage__LogState *m) {
    if (m->topic_id.len == sizeof l->pub.topic_id.b) memcpy(l->pub.topic_id.b, m->topic_id.data, sizeof l->pub.topic_id.b);
    config_from_message(m->config, &l->config);
    if (m->base_epoch < 0) return ERR_CORRUPT;
    l->pub.epochs.base_epoch = m->base_epoch;
    enum err err = decode_lists(l, m);
    if (err == OK) err = decode_vote(l, m->vote);
    if (err == OK && m->has_replica_config) err = impl_set_replica_config(l, m->replica_config.data, m->replica_config.len);
    if (err != OK) return err;
    if (l->segment_count == 0 || m->start < l->segments[0].base || m->start > m->end) return ERR_CORRUPT;
    if (segment_last(l)->end != m->end) return ERR_CORRUPT;
    struct log *pub = &l->pub;
    pub->start = m->start;
    pub->end = pub->durable_end = m->end;
    pub->size_bytes = m->size_bytes;
    faulty_trim(l);
    epochs_trim(&pub->epochs, pub->start); /* states of versions before kept the entry in force at the start */
    impl_epochs_changed(l);
    l->pub.generation = m->generation;
    l->cleaned_end = m->cleaned_end;
    l->compacted_end = m->compacted_end;
    l->producers_complete = m->producers_complete;
    l->synced = (struct place){segment_last(l)->base, segment_last(l)->size_bytes};
    l->folder_counted = l->folder_made = l->segment_count > 1 || l->synced.position > 0;
    return OK;
}

enum err state_decode(struct log_shard *sh, uint64_t plid, const uint8_t *data, size_t len, struct log_impl **out) {
    Varve__Storage__LogState *m = varve__storage__log_state__unpack(NULL, len, data);
    if (!m) return ERR_CORRUPT;
    enum err err = ERR_CORRUPT;
    struct log_impl *l = NULL;
    if (m->plid == plid && m->partition >= 0 && topic_name_ok(str_from(m->topic))) {
        l = impl_new(sh, plid, m->topic, strlen(m->topic), m->partition);
        err = l ? decode(l, m) : ERR_NOMEM;
    }
    varve__storage__log_state__free_unpacked(m, NULL);
    if (err != OK && l) impl_free(l);
    else *out = l;
    return err;
}

enum err state_decode_store(const uint8_t *data, size_t len, uint64_t *metadata_assigned) {
    Varve__Storage__LogState *m = varve__storage__log_state__unpack(NULL, len, data);
    if (!m) return ERR_CORRUPT;
    *metadata_assigned = (uint64_t)m->end;
    varve__storage__log_state__free_unpacked(m, NULL);
    return OK;
}
