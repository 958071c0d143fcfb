/* producers.c - see producers.h.
 *
 * The table is open addressing with linear probing, at most 3/4 full, a power of two of slots; an
 * empty slot has id -1 (producer ids are never negative). Entries leave by expiry, and the older half when
 * there are too many; both rebuild the table, so there are no tombstones.
 *
 * The snapshot file is Kafka's (version 1), big-endian:
 *   off size field              then per producer, 46 bytes:
 *     0    2 version = 1          0  8 producer id        26  8 timestamp
 *     2    4 CRC-32C of 6..end    8  2 epoch              34  4 coordinator epoch (-1)
 *     6    4 count               10  4 last sequence      38  8 first offset of the open
 *                                14  8 last offset              transaction (-1)
 *                                22  4 offset delta
 * A producer without a cached batch has last sequence -1, last offset -1, delta 0. */
#include "log/producers.h"
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"

enum { SNAPSHOT_VERSION = 1, SNAPSHOT_HEAD_BYTES = 10, SNAPSHOT_CRC_FROM = 6, SNAPSHOT_ENTRY_BYTES = 46,
      TABLE_SLOTS_MIN = 16 };

void producers_init(struct producers *p) { *p = (struct producers){0}; }

void producers_free(struct producers *p) {
    free(p->table);
    producers_init(p);
}

static uint32_t slot_of(int64_t id, uint32_t cap) {
    return (uint32_t)(((uint64_t)id * 0x9e3779b97f4a7c15u) >> 32) & (cap - 1);
}

/* The slot that holds `id`, or the empty one where it belongs. */
static struct producer *probe(struct producer *table, uint32_t cap, int64_t id) {
    uint32_t i = slot_of(id, cap);
    while (table[i].id != -1 && table[i].id != id) i = (i + 1) & (cap - 1);
    return &table[i];
}

static struct producer *table_new(uint32_t cap) {
    struct producer *table = calloc(cap, sizeof *table);
    if (!table) return NULL;
    for (uint32_t i = 0; i < cap; i++) table[i].id = -1;
    return table;
}

bool producers_full(const struct producers *p) { return p->count + 1 > p->cap / 4 * 3; }

static int64_t last_offset(const struct producer *e) {
    if (e->txn_first_offset >= 0) return INT64_MAX; /* never forgotten */
    return e->count > 0 ? e->window[e->count - 1].last_offset : -1;
}

static int by_value(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

enum err producers_halve(struct producers *p) {
    if (p->count < 2) return OK;
    int64_t *offsets = malloc(p->count * sizeof *offsets);
    struct producer *table = offsets ? table_new(p->cap) : NULL;
    if (!table) {
        free(offsets);
        return ERR_NOMEM;
    }
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->cap; i++)
        if (p->table[i].id != -1) offsets[n++] = last_offset(&p->table[i]);
    qsort(offsets, n, sizeof *offsets, by_value);
    int64_t median = offsets[n / 2];
    free(offsets);
    n = 0;
    for (uint32_t i = 0; i < p->cap; i++) {
        if (p->table[i].id == -1 || last_offset(&p->table[i]) < median) continue;
        *probe(table, p->cap, p->table[i].id) = p->table[i];
        n++;
    }
    free(p->table);
    p->table = table;
    p->count = n;
    return OK;
}

static enum err grow(struct producers *p) {
    if (!producers_full(p)) return OK;
    if (p->cap >= PRODUCERS_SLOTS_MAX) {
        enum err err = producers_halve(p);
        if (err != OK || !producers_full(p)) return err; /* full of open transactions: those it must hold */
    }
    uint32_t cap = p->cap ? p->cap * 2 : TABLE_SLOTS_MIN;
    struct producer *table = cap > p->cap ? table_new(cap) : NULL;
    if (!table) return ERR_NOMEM;
    for (uint32_t i = 0; i < p->cap; i++)
        if (p->table[i].id != -1) *probe(table, cap, p->table[i].id) = p->table[i];
    free(p->table);
    p->table = table;
    p->cap = cap;
    return OK;
}

const struct producer *producers_find(const struct producers *p, int64_t id) {
    if (p->count == 0 || id < 0) return NULL;
    const struct producer *e = probe(p->table, p->cap, id);
    return e->id == id ? e : NULL;
}

static bool has_duplicate(const struct producer *e, int32_t first, int32_t last, struct producer_batch *dup) {
    for (int i = 0; i < e->count; i++) {
        if (e->window[i].first_sequence != first || e->window[i].last_sequence != last) continue;
        *dup = e->window[i];
        return true;
    }
    return false;
}

/* The sequence that the next batch of this epoch must begin with. */
static int32_t next_sequence(const struct producer *e) {
    if (e->count == 0) return 0;
    int32_t last = e->window[e->count - 1].last_sequence;
    return last == INT32_MAX ? 0 : last + 1;
}

enum err producers_check(const struct producers *p, const struct batch_header *h, struct producer_batch *dup) {
    if (h->producer_id < 0) return OK;
    if (h->base_sequence < 0) return ERR_SEQUENCE;
    const struct producer *e = producers_find(p, h->producer_id);
    if (!e) return OK;
    bool same_epoch = h->producer_epoch == e->epoch;
    if (same_epoch && has_duplicate(e, h->base_sequence, batch_last_sequence(h), dup)) return ERR_DUPLICATE;
    if (h->producer_epoch < e->epoch) return ERR_FENCED;
    if (h->producer_epoch > e->epoch) return h->base_sequence == 0 ? OK : ERR_SEQUENCE;
    return h->base_sequence == next_sequence(e) ? OK : ERR_SEQUENCE;
}

static void window_push(struct producer *e, const struct producer_batch *b) {
    if (e->count == PRODUCER_WINDOW) {
        memmove(e->window, e->window + 1, (PRODUCER_WINDOW - 1) * sizeof e->window[0]);
        e->count--;
    }
    e->window[e->count++] = *b;
}

enum err producers_apply(struct producers *p, const struct batch_header *h) {
    if (h->producer_id < 0) return OK;
    enum err err = producers_find(p, h->producer_id) ? OK : grow(p);
    if (err != OK) return err;
    struct producer *e = probe(p->table, p->cap, h->producer_id);
    if (e->id == -1) {
        *e = (struct producer){.id = h->producer_id, .epoch = h->producer_epoch, .coordinator_epoch = -1, .txn_first_offset = -1};
        p->count++;
    }
    if (e->epoch != h->producer_epoch) {
        e->epoch = h->producer_epoch;
        e->count = 0;
    }
    e->last_timestamp_ms = h->max_timestamp;
    e->silent = false;
    if (h->attributes & BATCH_CONTROL) {
        e->txn_first_offset = -1;
        return OK;
    }
    if ((h->attributes & BATCH_TRANSACTIONAL) && e->txn_first_offset < 0) e->txn_first_offset = h->base_offset;
    if (h->base_sequence < 0) return OK;
    window_push(e, &(struct producer_batch){h->base_sequence, batch_last_sequence(h), h->base_offset,
                                            batch_last_offset(h), h->max_timestamp});
    return OK;
}

static bool expired(const struct producer *e, int64_t now_ms, int64_t expiration_ms) {
    int64_t age;
    if (e->txn_first_offset >= 0) return false;
    return !__builtin_sub_overflow(now_ms, e->last_timestamp_ms, &age) && age >= expiration_ms;
}

void producers_expire(struct producers *p, int64_t now_ms, int64_t expiration_ms) {
    uint32_t keep = 0;
    for (uint32_t i = 0; i < p->cap; i++)
        if (p->table[i].id != -1 && !(p->table[i].silent && expired(&p->table[i], now_ms, expiration_ms))) keep++;
    struct producer *table = keep < p->count ? table_new(p->cap) : NULL; /* no memory: they stay one round longer, harmless */
    for (uint32_t i = 0; i < p->cap; i++) {
        struct producer *e = &p->table[i];
        bool old = e->id != -1 && expired(e, now_ms, expiration_ms), goes = e->silent && old;
        e->silent = old;
        if (table && e->id != -1 && !goes) *probe(table, p->cap, e->id) = *e;
    }
    if (!table) return;
    free(p->table);
    p->table = table;
    p->count = keep;
}

const struct producer *producers_next(const struct producers *p, uint32_t *at) {
    while (*at < p->cap) {
        const struct producer *e = &p->table[(*at)++];
        if (e->id != -1) return e;
    }
    return NULL;
}

int64_t *producers_sorted_ids(const struct producers *p, uint32_t *count) {
    *count = 0;
    int64_t *ids = p->count ? malloc(p->count * sizeof *ids) : NULL;
    if (!ids) return NULL;
    for (uint32_t i = 0; i < p->cap; i++)
        if (p->table[i].id != -1) ids[(*count)++] = p->table[i].id;
    ASSERT(*count == p->count);
    qsort(ids, *count, sizeof *ids, by_value);
    return ids;
}

enum err producers_below(const struct producers *p, int64_t end, struct producers *out, bool *lost) {
    enum err err = OK;
    producers_init(out);
    *lost = false;
    for (uint32_t i = 0; i < p->cap && err == OK; i++) {
        struct producer e = p->table[i];
        if (e.id == -1) continue;
        uint8_t before = e.count;
        while (e.count > 0 && e.window[e.count - 1].last_offset >= end) e.count--;
        bool gone = e.count == 0 && before > 0;
        *lost |= gone;
        if (e.count > 0) e.last_timestamp_ms = e.window[e.count - 1].timestamp_ms;
        if (!gone) err = producers_put(out, &e);
    }
    if (err != OK) producers_free(out);
    return err;
}

enum err producers_put(struct producers *p, const struct producer *entry) {
    if (entry->id < 0 || entry->count > PRODUCER_WINDOW) return ERR_INVALID;
    enum err err = producers_find(p, entry->id) ? OK : grow(p);
    if (err != OK) return err;
    struct producer *e = probe(p->table, p->cap, entry->id);
    if (e->id == -1) p->count++;
    *e = *entry;
    return OK;
}

static void snapshot_put(uint8_t *out, const struct producer *e) {
    const struct producer_batch *last = e->count ? &e->window[e->count - 1] : NULL;
    store_be64(out, (uint64_t)e->id);
    store_be16(out + 8, (uint16_t)e->epoch);
    store_be32(out + 10, (uint32_t)(last ? last->last_sequence : -1));
    store_be64(out + 14, (uint64_t)(last ? last->last_offset : -1));
    store_be32(out + 22, (uint32_t)(last ? last->last_offset - last->first_offset : 0));
    store_be64(out + 26, (uint64_t)e->last_timestamp_ms);
    store_be32(out + 34, (uint32_t)e->coordinator_epoch);
    store_be64(out + 38, (uint64_t)e->txn_first_offset);
}

enum err producers_to_snapshot(const struct producers *p, uint8_t **out, size_t *len) {
    uint32_t count;
    int64_t *ids = producers_sorted_ids(p, &count);
    if (!ids && p->count > 0) return ERR_NOMEM;
    *len = SNAPSHOT_HEAD_BYTES + (size_t)count * SNAPSHOT_ENTRY_BYTES;
    uint8_t *data = malloc(*len);
    if (data) {
        for (uint32_t i = 0; i < count; i++)
            snapshot_put(data + SNAPSHOT_HEAD_BYTES + (size_t)i * SNAPSHOT_ENTRY_BYTES, producers_find(p, ids[i]));
        store_be16(data, SNAPSHOT_VERSION);
        store_be32(data + 6, count);
        store_be32(data + 2, crc32c(0, data + SNAPSHOT_CRC_FROM, *len - SNAPSHOT_CRC_FROM));
    }
    free(ids);
    *out = data;
    return data ? OK : ERR_NOMEM;
}

/* Sequence `back` before `sequence`, through the wrap from 0 to 2147483647. */
static int32_t sequence_before(int32_t sequence, int32_t back) {
    return sequence >= back ? sequence - back : (int32_t)((int64_t)INT32_MAX + 1 - back + sequence);
}

static enum err snapshot_get(const uint8_t *in, struct producer *e) {
    int32_t last_sequence = (int32_t)load_be32(in + 10), delta = (int32_t)load_be32(in + 22);
    int64_t last_offset = (int64_t)load_be64(in + 14);
    *e = (struct producer){.id = (int64_t)load_be64(in), .epoch = (int16_t)load_be16(in + 8),
                           .last_timestamp_ms = (int64_t)load_be64(in + 26), .coordinator_epoch = (int32_t)load_be32(in + 34),
                           .txn_first_offset = (int64_t)load_be64(in + 38)};
    if (e->id < 0 || delta < 0) return ERR_CORRUPT;
    if (last_offset < 0 || last_sequence < 0) return OK;
    if (delta > last_offset) return ERR_CORRUPT;
    e->count = 1;
    e->window[0] = (struct producer_batch){sequence_before(last_sequence, delta), last_sequence, last_offset - delta,
                                           last_offset, e->last_timestamp_ms};
    return OK;
}

enum err producers_from_snapshot(struct producers *p, const uint8_t *data, size_t len) {
    producers_init(p);
    if (len < SNAPSHOT_HEAD_BYTES || load_be16(data) != SNAPSHOT_VERSION) return ERR_CORRUPT;
    if (load_be32(data + 2) != crc32c(0, data + SNAPSHOT_CRC_FROM, len - SNAPSHOT_CRC_FROM)) return ERR_CORRUPT;
    uint32_t count = load_be32(data + 6);
    size_t entries_len = len - SNAPSHOT_HEAD_BYTES;
    if (count != entries_len / SNAPSHOT_ENTRY_BYTES || entries_len % SNAPSHOT_ENTRY_BYTES != 0) return ERR_CORRUPT;
    for (uint32_t i = 0; i < count; i++) {
        struct producer e;
        enum err err = snapshot_get(data + SNAPSHOT_HEAD_BYTES + (size_t)i * SNAPSHOT_ENTRY_BYTES, &e);
        if (err == OK && producers_find(p, e.id)) err = ERR_CORRUPT;
        if (err == OK) err = producers_put(p, &e);
        if (err != OK) {
            producers_free(p);
            return err;
        }
    }
    return OK;
}
