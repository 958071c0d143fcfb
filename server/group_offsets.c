/* group_offsets.c - see group_offsets.h. */
#include "server/group_offsets.h"
#include <stdlib.h>
#include "base/assert.h"
#include "proto/kafka_messages.h"

enum { PIECE_FIRST = 4, PIECE_MAX = 128 };

static size_t piece_bytes(uint32_t cap) { return sizeof(struct group_offset_piece) + cap * sizeof(struct group_offset); }
static size_t more_bytes(const struct group_offset_more *m) { return m ? sizeof *m + (size_t)m->metadata_len : 0; }
static size_t topic_bytes(int32_t name_len) { return sizeof(struct group_offset_topic) + (size_t)name_len; }

static struct group_offset_topic *find_topic(const struct group_offsets *o, struct str name) {
    struct group_offset_topic *t = NULL;
    if (name.len > 0) HASH_FIND(hh, o->topics, name.p, (unsigned)name.len, t);
    return t;
}
const struct group_offset_topic *group_offsets_topic(const struct group_offsets *o, struct str name) { return find_topic(o, name); }

static void topic_clear(struct group_offsets *o, struct group_offset_topic *t) {
    for (uint32_t i = 0; i < t->piece_count; i++) {
        struct group_offset_piece *p = t->pieces[i];
        for (uint32_t k = 0; k < p->count; k++) {
            o->bytes -= (int64_t)more_bytes(p->list[k].more);
            free(p->list[k].more);
        }
        o->bytes -= (int64_t)piece_bytes(p->cap);
        free(p);
    }
    o->bytes -= (int64_t)(t->piece_cap * sizeof(struct group_offset_piece *));
    free(t->pieces);
    o->count -= t->count;
    t->pieces = NULL;
    t->piece_count = t->piece_cap = t->count = 0;
}

static void topic_remove(struct group_offsets *o, struct group_offset_topic *t) {
    topic_clear(o, t);
    o->bytes -= (int64_t)topic_bytes(t->name_len);
    HASH_DEL(o->topics, t);
    free(t);
}

void group_offsets_free(struct group_offsets *o) {
    struct group_offset_topic *t, *next;
    HASH_ITER(hh, o->topics, t, next) topic_remove(o, t);
    ASSERT(o->count == 0 && o->bytes == 0);
}

static struct group_offset_topic *topic_add(struct group_offsets *o, struct str name) {
    struct group_offset_topic *t = calloc(1, topic_bytes(name.len));
    if (!t) return NULL;
    memcpy(t->name, name.p, (size_t)name.len);
    t->name_len = name.len;
    HASH_ADD(hh, o->topics, name, (unsigned)name.len, t);
    o->bytes += (int64_t)topic_bytes(name.len);
    return t;
}

/* ---- places ------------------------------------------------------------------------------------ */

/* The piece that holds `partition` or into which it goes, and the place in it. */
struct place { uint32_t piece, index; bool found; };
static struct place locate(const struct group_offset_topic *t, int32_t partition) {
    uint32_t lo = 0, hi = t->piece_count;
    while (lo < hi) { /* the first piece whose last partition is not below */
        uint32_t mid = lo + (hi - lo) / 2;
        const struct group_offset_piece *p = t->pieces[mid];
        if (p->list[p->count - 1].partition < partition) lo = mid + 1;
        else hi = mid;
    }
    struct place at = {lo, 0, false};
    if (lo == t->piece_count) { /* behind everything: the last piece grows */
        if (lo > 0) at = (struct place){lo - 1, t->pieces[lo - 1]->count, false};
        return at;
    }
    const struct group_offset_piece *p = t->pieces[lo];
    lo = 0, hi = p->count;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (p->list[mid].partition < partition) lo = mid + 1;
        else hi = mid;
    }
    at.index = lo;
    at.found = p->list[lo].partition == partition;
    return at;
}

/* Room for one more piece at `at`. */
static bool pieces_open(struct group_offsets *o, struct group_offset_topic *t, uint32_t at, struct group_offset_piece *piece) {
    if (t->piece_count == t->piece_cap) {
        uint32_t cap = t->piece_cap ? t->piece_cap * 2 : 1;
        struct group_offset_piece **grown = realloc(t->pieces, cap * sizeof *grown);
        if (!grown) return false;
        o->bytes += (int64_t)((cap - t->piece_cap) * sizeof *grown);
        t->pieces = grown;
        t->piece_cap = cap;
    }
    memmove(&t->pieces[at + 1], &t->pieces[at], (t->piece_count - at) * sizeof t->pieces[0]);
    t->pieces[at] = piece;
    t->piece_count++;
    return true;
}

static struct group_offset_piece *piece_new(struct group_offsets *o, struct group_offset_topic *t, uint32_t at, uint32_t cap) {
    struct group_offset_piece *p = malloc(piece_bytes(cap));
    if (!p) return NULL;
    *p = (struct group_offset_piece){.cap = cap};
    if (!pieces_open(o, t, at, p)) {
        free(p);
        return NULL;
    }
    o->bytes += (int64_t)piece_bytes(cap);
    return p;
}

/* A full piece grows up to PIECE_MAX, then its upper half (or nothing, at its end) becomes a piece of its own. */
static bool make_room(struct group_offsets *o, struct group_offset_topic *t, struct place *at) {
    if (t->piece_count == 0) return piece_new(o, t, 0, 1) != NULL;
    struct group_offset_piece *p = t->pieces[at->piece];
    if (p->count < p->cap) return true;
    if (p->cap < PIECE_MAX) {
        uint32_t cap = MIN(MAX(p->cap * 2, (uint32_t)PIECE_FIRST), (uint32_t)PIECE_MAX);
        struct group_offset_piece *grown = realloc(p, piece_bytes(cap));
        if (!grown) return false;
        o->bytes += (int64_t)(piece_bytes(cap) - piece_bytes(grown->cap));
        grown->cap = cap;
        t->pieces[at->piece] = grown;
        return true;
    }
    uint32_t moved = at->index == p->count ? 0 : p->count / 2;
    struct group_offset_piece *upper = piece_new(o, t, at->piece + 1, PIECE_MAX);
    if (!upper) return false;
    p->count -= moved;
    memcpy(upper->list, &p->list[p->count], moved * sizeof p->list[0]);
    upper->count = moved;
    if (at->index >= p->count && (moved == 0 || at->index > p->count)) {
        at->index -= p->count;
        at->piece++;
    }
    return true;
}

static struct group_offset *insert(struct group_offsets *o, struct group_offset_topic *t, struct place at, int32_t partition) {
    if (!make_room(o, t, &at)) return NULL;
    struct group_offset_piece *p = t->pieces[at.piece];
    struct group_offset *slot = &p->list[at.index];
    memmove(slot + 1, slot, (p->count - at.index) * sizeof *slot);
    p->count++;
    *slot = (struct group_offset){.partition = partition};
    t->count++;
    o->count++;
    return slot;
}

static void remove_at(struct group_offsets *o, struct group_offset_topic *t, struct place at) {
    struct group_offset_piece *p = t->pieces[at.piece];
    struct group_offset *slot = &p->list[at.index];
    o->bytes -= (int64_t)more_bytes(slot->more);
    free(slot->more);
    p->count--;
    memmove(slot, slot + 1, (p->count - at.index) * sizeof *slot);
    t->count--;
    o->count--;
    if (p->count > 0) return;
    o->bytes -= (int64_t)piece_bytes(p->cap);
    free(p);
    t->piece_count--;
    memmove(&t->pieces[at.piece], &t->pieces[at.piece + 1], (t->piece_count - at.piece) * sizeof t->pieces[0]);
    if (t->count == 0) topic_remove(o, t);
}

/* ---- replay ------------------------------------------------------------------------------------- */

static bool more_make(const struct k_offset_commit_value *value, struct group_offset_more **out) {
    *out = NULL;
    if (value->metadata.len == 0 && value->expire_timestamp == -1) return true;
    struct group_offset_more *m = malloc(sizeof *m + (size_t)value->metadata.len);
    if (!m) return false;
    m->expire_ms = value->expire_timestamp;
    m->metadata_len = value->metadata.len;
    if (value->metadata.len > 0) memcpy(m->metadata, value->metadata.p, (size_t)value->metadata.len);
    *out = m;
    return true;
}

static enum err put(struct group_offsets *o, struct str topic, int32_t partition, const struct k_offset_commit_value *value) {
    struct group_offset_more *more;
    struct group_offset_topic *t = find_topic(o, topic);
    if (!t) t = topic_add(o, topic);
    if (!t) return ERR_NOMEM;
    if (!more_make(value, &more)) {
        if (t->count == 0) topic_remove(o, t);
        return ERR_NOMEM;
    }
    if (!uuid_is_zero(&value->topic_id) && !uuid_eq(&value->topic_id, &t->id)) {
        if (!uuid_is_zero(&t->id)) topic_clear(o, t);
        t->id = value->topic_id;
    }
    struct place at = locate(t, partition);
    struct group_offset *slot = at.found ? &t->pieces[at.piece]->list[at.index] : insert(o, t, at, partition);
    if (!slot) {
        free(more);
        if (t->count == 0) topic_remove(o, t);
        return ERR_NOMEM;
    }
    o->bytes += (int64_t)more_bytes(more) - (int64_t)more_bytes(slot->more);
    free(slot->more);
    slot->more = more;
    slot->offset = value->offset;
    slot->commit_ms = value->commit_timestamp;
    slot->leader_epoch = value->leader_epoch;
    return OK;
}

enum err group_offsets_replay(struct group_offsets *o, struct str topic, int32_t partition,
                              const struct k_offset_commit_value *value) {
    if (topic.len <= 0 || partition < 0) return ERR_CORRUPT;
    if (value) return put(o, topic, partition, value);
    struct group_offset_topic *t = find_topic(o, topic);
    if (!t) return OK;
    struct place at = locate(t, partition);
    if (at.found) remove_at(o, t, at);
    return OK;
}

/* ---- questions ------------------------------------------------------------------------------------ */

const struct group_offset *group_offsets_find(const struct group_offsets *o, struct str topic, const struct uuid *id,
                                              int32_t partition) {
    const struct group_offset_topic *t = find_topic(o, topic);
    if (!t) return NULL;
    if (!uuid_is_zero(id) && !uuid_is_zero(&t->id) && !uuid_eq(id, &t->id)) return NULL;
    struct place at = locate(t, partition);
    return at.found ? &t->pieces[at.piece]->list[at.index] : NULL;
}

const struct group_offset *group_offsets_next(struct group_offsets_iter *it, const struct group_offset_topic **topic) {
    while (it->topic) {
        if (it->piece < it->topic->piece_count) {
            struct group_offset_piece *p = it->topic->pieces[it->piece];
            *topic = it->topic;
            const struct group_offset *found = &p->list[it->index++];
            if (it->index == p->count) {
                it->index = 0;
                it->piece++;
            }
            return found;
        }
        *it = (struct group_offsets_iter){it->topic->hh.next, 0, 0};
    }
    return NULL;
}

bool group_offset_expired(const struct group_offset *o, int64_t now_ms, int64_t retention_ms, int64_t since_ms,
                          bool subscribed) {
    if (o->more && o->more->expire_ms != -1) return !subscribed && now_ms >= o->more->expire_ms; /* clients before 2.1 */
    if (subscribed) return false;
    int64_t base_ms = since_ms >= 0 ? since_ms : o->commit_ms;
    return now_ms - base_ms >= retention_ms;
}
