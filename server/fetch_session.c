/* fetch_session.c - see fetch_session.h. */
#include "server/fetch_session.h"
#include <stdlib.h>
#include <xxhash.h>
#include "base/assert.h"
#include "proto/kafka_errors.h"

#define NONE FETCH_SESSION_NO_PART
enum { PARTS_MIN = 4 };

struct fetch_want fetch_want_of(const struct k_fetch_request_topics_partitions *p) {
    return (struct fetch_want){p->partition, p->partition_max_bytes, p->current_leader_epoch, p->last_fetched_epoch,
                               p->fetch_offset};
}

/* ---- memory ------------------------------------------------------------------------------------------ */

static void count(struct fetch_session_cache *c, struct fetch_session *s, int64_t bytes) {
    s->bytes += bytes;
    c->bytes += bytes;
}

static int64_t parts_bytes(uint64_t parts) {
    return (int64_t)(parts * (sizeof(struct fetch_session_part) + sizeof(uint32_t)));
}

static int64_t topic_bytes(const struct fetch_session_topic *t) { return (int64_t)sizeof *t + t->name_len; }

static void topic_drop(struct fetch_session_cache *c, struct fetch_session *s, struct fetch_session_topic *t) {
    ASSERT(t->refs > 0);
    if (--t->refs > 0) return;
    count(c, s, -topic_bytes(t));
    free(t);
}

static struct fetch_session_topic *topic_new(struct fetch_session_cache *c, struct fetch_session *s, struct str name,
                                             const struct uuid *id) {
    int32_t len = s->by_id ? 0 : MAX(name.len, 0);
    struct fetch_session_topic *t = calloc(1, sizeof *t + (size_t)len);
    if (!t) return NULL;
    t->name_len = len;
    if (len > 0) memcpy(t->name, name.p, (size_t)len);
    if (s->by_id) t->id = *id;
    count(c, s, topic_bytes(t));
    return t;
}

/* ---- the partitions of a session ------------------------------------------------------------------------ */

static bool is_topic(const struct fetch_session *s, const struct fetch_session_topic *t, struct str name,
                     const struct uuid *id) {
    if (s->by_id) return uuid_eq(&t->id, id);
    return t->name_len == MAX(name.len, 0) && (t->name_len == 0 || memcmp(t->name, name.p, (size_t)t->name_len) == 0);
}

static uint32_t *bucket_of(const struct fetch_session *s, struct str name, const struct uuid *id, int32_t partition) {
    const void *p = s->by_id ? (const void *)id->b : (const void *)name.p;
    size_t len = s->by_id ? sizeof id->b : (size_t)MAX(name.len, 0);
    return &s->buckets[XXH3_64bits_withSeed(p, len, (uint64_t)(uint32_t)partition) & s->bucket_mask];
}

static uint32_t *bucket_of_part(const struct fetch_session *s, const struct fetch_session_part *p) {
    return bucket_of(s, (struct str){p->topic->name, p->topic->name_len}, &p->topic->id, p->want.partition);
}

static uint32_t part_find(const struct fetch_session *s, struct str name, const struct uuid *id, int32_t partition) {
    if (!s->buckets) return NONE;
    uint32_t at = *bucket_of(s, name, id, partition);
    while (at != NONE && (s->parts[at].want.partition != partition || !is_topic(s, s->parts[at].topic, name, id)))
        at = s->parts[at].chain;
    return at;
}

static void order_append(struct fetch_session *s, uint32_t at) {
    struct fetch_session_part *p = &s->parts[at];
    p->prev = s->last;
    p->next = NONE;
    if (s->last == NONE) s->first = at;
    else s->parts[s->last].next = at;
    s->last = at;
}

static void order_remove(struct fetch_session *s, uint32_t at) {
    const struct fetch_session_part *p = &s->parts[at];
    if (p->prev == NONE) s->first = p->next;
    else s->parts[p->prev].next = p->next;
    if (p->next == NONE) s->last = p->prev;
    else s->parts[p->next].prev = p->prev;
}

/* Room for `cap` partitions, a power of two; as many buckets. */
static enum err grow(struct fetch_session_cache *c, struct fetch_session *s, uint32_t cap) {
    int64_t more = parts_bytes(cap) - parts_bytes(s->part_cap);
    if (c->bytes + more > c->limits.bytes_max) return ERR_NOMEM;
    uint32_t *buckets = malloc(cap * sizeof *buckets);
    struct fetch_session_part *parts = buckets ? realloc(s->parts, cap * sizeof *parts) : NULL;
    if (!parts) {
        free(buckets);
        return ERR_NOMEM;
    }
    memset(buckets, 0xff, cap * sizeof *buckets);
    free(s->buckets);
    s->buckets = buckets;
    s->bucket_mask = cap - 1;
    s->parts = parts;
    s->part_cap = cap;
    count(c, s, more);
    for (uint32_t i = s->first; i != NONE; i = s->parts[i].next) {
        uint32_t *bucket = bucket_of_part(s, &s->parts[i]);
        s->parts[i].chain = *bucket;
        *bucket = i;
    }
    return OK;
}

static uint32_t part_slot(struct fetch_session *s) {
    if (s->free == NONE) return s->slots_used++;
    uint32_t at = s->free;
    s->free = s->parts[at].chain;
    return at;
}

enum err fetch_session_add(struct fetch_session_cache *c, struct fetch_session *s, struct fetch_session_topic **topic,
                           struct str name, const struct uuid *id, const struct fetch_want *want, uint32_t *part) {
    *part = part_find(s, name, id, want->partition);
    if (*part != NONE) {
        s->parts[*part].want = *want;
        return OK;
    }
    if (s->free == NONE && s->slots_used == s->part_cap) {
        enum err err = s->part_cap > UINT32_MAX / 4 ? ERR_NOMEM : grow(c, s, s->part_cap ? s->part_cap * 2 : PARTS_MIN);
        if (err != OK) return err;
    }
    if (!*topic || !is_topic(s, *topic, name, id)) {
        struct fetch_session_topic *t = topic_new(c, s, name, id);
        if (!t) return ERR_NOMEM;
        *topic = t;
    }
    uint32_t at = part_slot(s);
    struct fetch_session_part *p = &s->parts[at];
    *p = (struct fetch_session_part){.topic = *topic, .want = *want, .high_watermark = -1, .log_start = -1};
    p->topic->refs++;
    uint32_t *bucket = bucket_of_part(s, p);
    p->chain = *bucket;
    *bucket = at;
    order_append(s, at);
    s->part_count++;
    s->edition = 0;
    *part = at;
    return c->bytes > c->limits.bytes_max ? ERR_NOMEM : OK;
}

static void part_forget(struct fetch_session_cache *c, struct fetch_session *s, struct str name, const struct uuid *id,
                        int32_t partition) {
    uint32_t at = part_find(s, name, id, partition);
    if (at == NONE) return;
    struct fetch_session_part *p = &s->parts[at];
    uint32_t *link = bucket_of_part(s, p);
    while (*link != at) link = &s->parts[*link].chain;
    *link = p->chain;
    order_remove(s, at);
    topic_drop(c, s, p->topic);
    p->topic = NULL;
    p->chain = s->free;
    s->free = at;
    s->part_count--;
}

/* What the request adds or changes, then what it forgets. */
static enum err update(struct fetch_session_cache *c, struct fetch_session *s, const struct k_fetch_request *in) {
    for (int32_t i = 0; i < in->topics_n; i++) {
        const struct k_fetch_request_topics *t = &in->topics[i];
        struct fetch_session_topic *topic = NULL;
        for (int32_t k = 0; k < t->partitions_n; k++) {
            struct fetch_want want = fetch_want_of(&t->partitions[k]);
            uint32_t part;
            enum err err = fetch_session_add(c, s, &topic, t->topic, &t->topic_id, &want, &part);
            if (err != OK) return err;
        }
    }
    for (int32_t i = 0; i < in->forgotten_topics_data_n; i++) {
        const struct k_fetch_request_forgotten_topics_data *t = &in->forgotten_topics_data[i];
        for (int32_t k = 0; k < t->partitions_n; k++) part_forget(c, s, t->topic, &t->topic_id, t->partitions[k]);
    }
    return OK;
}

/* ---- the cache ----------------------------------------------------------------------------------------- */

struct fetch_session_cache *fetch_session_cache_new(const struct fetch_session_limits *limits) {
    ASSERT(limits->id_first > 0 && limits->id_count > 0);
    struct fetch_session_cache *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    c->limits = *limits;
    list_init(&c->by_use);
    return c;
}

void fetch_session_cache_free(struct fetch_session_cache *c) {
    struct fetch_session *s, *next;
    if (!c) return;
    HASH_ITER(hh, c->by_id, s, next) fetch_session_remove(c, s);
    ASSERT(c->count == 0 && c->bytes == 0);
    free(c);
}

struct fetch_session *fetch_session_find(struct fetch_session_cache *c, int32_t id) {
    struct fetch_session *s;
    HASH_FIND_INT(c->by_id, &id, s);
    return s;
}

void fetch_session_remove(struct fetch_session_cache *c, struct fetch_session *s) {
    for (uint32_t i = s->first; i != NONE; i = s->parts[i].next) topic_drop(c, s, s->parts[i].topic);
    free(s->parts);
    free(s->buckets);
    HASH_DEL(c->by_id, s);
    list_remove(&s->by_use);
    c->count--;
    c->bytes -= s->bytes;
    free(s);
}

static void touch(struct fetch_session_cache *c, struct fetch_session *s, int64_t now_ms) {
    s->used_ms = now_ms;
    s->settled = now_ms - s->created_ms > c->limits.evict_ms;
    list_remove(&s->by_use);
    list_push_back(&c->by_use, &s->by_use);
}

/* One that gives way to a session of `parts` partitions; NULL: none does. */
static struct fetch_session *find_evictable(const struct fetch_session_cache *c, uint32_t parts, int64_t now_ms) {
    if (list_empty(&c->by_use)) return NULL;
    struct fetch_session *oldest = LIST_ENTRY(c->by_use.next, struct fetch_session, by_use), *smallest = NULL;
    if (now_ms - oldest->used_ms > c->limits.evict_ms) return oldest;
    LIST_FOREACH(it, &c->by_use) {
        struct fetch_session *s = LIST_ENTRY(it, struct fetch_session, by_use);
        if (!s->settled || (smallest && s->part_count > smallest->part_count)) continue;
        if (!smallest || s->part_count < smallest->part_count || s->id < smallest->id) smallest = s;
    }
    return smallest && smallest->part_count < parts ? smallest : NULL;
}

static bool make_room(struct fetch_session_cache *c, uint32_t parts, int64_t bytes, int64_t now_ms) {
    while (c->count >= c->limits.slots || c->bytes + bytes > c->limits.bytes_max) {
        struct fetch_session *s = find_evictable(c, parts, now_ms);
        if (!s) return false;
        fetch_session_remove(c, s);
        c->evicted++;
    }
    return true;
}

static int32_t free_id(struct fetch_session_cache *c, uint32_t random) {
    uint32_t range = (uint32_t)c->limits.id_count, at = random % range;
    while (fetch_session_find(c, c->limits.id_first + (int32_t)at)) at = (at + 1) % range;
    return c->limits.id_first + (int32_t)at;
}

struct fetch_session *fetch_session_make(struct fetch_session_cache *c, uint32_t parts, bool by_id, uint32_t random,
                                         int64_t now_ms) {
    struct fetch_session *s = NULL;
    bool possible = c->limits.slots > 0 && c->count < (uint32_t)c->limits.id_count;
    int64_t bytes = (int64_t)sizeof *s + parts_bytes(parts);
    if (possible && bytes <= c->limits.bytes_max && make_room(c, parts, bytes, now_ms)) s = calloc(1, sizeof *s);
    if (!s) {
        c->refused++;
        return NULL;
    }
    s->id = free_id(c, random);
    s->epoch = 1;
    s->by_id = by_id;
    s->created_ms = now_ms;
    s->serial = ++c->next_serial;
    s->free = s->first = s->last = NONE;
    list_init(&s->by_use);
    HASH_ADD_INT(c->by_id, id, s);
    c->count++;
    c->made++;
    count(c, s, (int64_t)sizeof *s);
    touch(c, s, now_ms);
    return s;
}

/* ---- requests -------------------------------------------------------------------------------------------- */

static int32_t next_epoch(int32_t epoch) { return epoch == INT32_MAX ? 1 : epoch + 1; }

int16_t fetch_session_begin(struct fetch_session_cache *c, const struct k_fetch_request *in, int16_t version,
                            int64_t now_ms, enum fetch_kind *kind, struct fetch_session **session) {
    struct fetch_session *s = in->session_id ? fetch_session_find(c, in->session_id) : NULL;
    *session = NULL;
    *kind = FETCH_PLAIN;
    if (in->session_epoch == FETCH_SESSION_EPOCH_FINAL || in->session_epoch == FETCH_SESSION_EPOCH_INITIAL) {
        if (s) fetch_session_remove(c, s);
        if (in->session_epoch == FETCH_SESSION_EPOCH_INITIAL) *kind = FETCH_NEW;
        return KERR_NONE;
    }
    if (!s) return KERR_FETCH_SESSION_ID_NOT_FOUND;
    if (s->epoch != in->session_epoch) return KERR_INVALID_FETCH_SESSION_EPOCH;
    if (s->by_id != (version >= 13)) return KERR_FETCH_SESSION_TOPIC_ID_ERROR;
    if (update(c, s, in) != OK) { /* the client falls back to a full fetch */
        fetch_session_remove(c, s);
        return KERR_FETCH_SESSION_ID_NOT_FOUND;
    }
    if (s->part_count == 0) {
        fetch_session_remove(c, s);
        return KERR_NONE;
    }
    touch(c, s, now_ms);
    s->epoch = next_epoch(s->epoch);
    *kind = FETCH_CONTINUED;
    *session = s;
    return KERR_NONE;
}

struct fetch_session *fetch_session_end(struct fetch_session_cache *c, int32_t id, uint64_t serial, int32_t epoch,
                                        int16_t *error) {
    struct fetch_session *s = fetch_session_find(c, id);
    *error = KERR_NONE;
    if (!s || s->serial != serial) *error = KERR_FETCH_SESSION_ID_NOT_FOUND;
    else if (s->epoch != next_epoch(epoch)) *error = KERR_INVALID_FETCH_SESSION_EPOCH;
    return *error ? NULL : s;
}

bool fetch_session_tell(struct fetch_session *s, uint32_t part, const struct fetch_told *told) {
    ASSERT(part < s->slots_used && s->parts[part].topic);
    struct fetch_session_part *p = &s->parts[part];
    bool news = told->records || told->error || told->diverging || p->high_watermark != told->high_watermark ||
                p->log_start != told->log_start;
    p->high_watermark = told->error ? -1 : told->high_watermark;
    p->log_start = told->log_start;
    if (told->records) {
        order_remove(s, part);
        order_append(s, part);
    }
    return news;
}
