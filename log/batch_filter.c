/* batch_filter.c - see batch_filter.h. */
#include "log/batch_filter.h"
#include <limits.h>
#include <stdlib.h>
#include "base/assert.h"
#include "proto/compress.h"
#include "proto/record_varint.h"

enum { AT_LENGTH = 8, AT_ATTRIBUTES = 21, AT_BASE_TIMESTAMP = 27, AT_MAX_TIMESTAMP = 35, AT_RECORD_COUNT = 57 };

static bool ends_producer(const struct filter_rules *r, const struct batch_header *h) {
    uint32_t low = 0, high = r->producer_count;
    if (h->producer_id < 0) return false;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (r->producers[mid].id < h->producer_id) low = mid + 1;
        else high = mid;
    }
    return low < r->producer_count && r->producers[low].id == h->producer_id && r->producers[low].last_offset == batch_last_offset(h);
}

static bool untouched(const struct filter_rules *r, const struct batch_header *h) {
    return h->base_offset >= r->map_end || (h->attributes & (BATCH_CONTROL | BATCH_TRANSACTIONAL));
}

static bool tombstone(const struct record *record) { return record->value.p == NULL; }

static bool stays(const struct filter_rules *r, const struct batch_header *h, const struct record *record) {
    if (record->offset >= r->map_end) return true;
    if (record->key.p == NULL || record->offset < offset_map_get(r->map, record->key)) return false;
    bool horizon_passed = (h->attributes & BATCH_DELETE_HORIZON) && r->now_ms >= h->base_timestamp;
    return !tombstone(record) || !horizon_passed;
}

/* ---- what is left ------------------------------------------------------------------------------------- */

struct kept {
    uint8_t *p;                      /* encoded records */
    size_t len, cap;
    int32_t count;
    int64_t max_timestamp;
};

static enum err kept_room(struct kept *k, size_t more) {
    if (k->cap - k->len >= more) return OK;
    size_t cap = MAX(k->cap * 2, k->len + more + 1024);
    uint8_t *p = realloc(k->p, cap);
    if (!p) return ERR_NOMEM;
    k->p = p;
    k->cap = cap;
    return OK;
}

/* The record as it was, [from, to), or, with its timestamp counted from `horizon`, otherwise the same. */
static enum err kept_add(struct kept *k, const struct batch_header *h, const uint8_t *from, const uint8_t *to, const struct record *record,
                         bool rebase, int64_t horizon) {
    size_t len = (size_t)(to - from);
    enum err err = kept_room(k, len + 2 * RECORD_VARLONG_BYTES_MAX);
    if (err != OK) return err;
    if (!rebase) {
        memcpy(k->p + k->len, from, len);
        k->len += len;
    } else {
        int64_t body, delta, unused;
        bool sound = record_varlong_get(&from, to, &body) && from < to;
        uint8_t attributes = sound ? *from++ : 0;
        if (!sound || !record_varlong_get(&from, to, &unused)) return ERR_CORRUPT;
        delta = (int64_t)((uint64_t)h->base_timestamp + (uint64_t)record->timestamp_delta - (uint64_t)horizon);
        size_t rest = (size_t)(to - from);
        uint8_t *p = record_varlong_put(k->p + k->len, (int64_t)(1 + record_varlong_bytes(delta) + rest));
        *p++ = attributes;
        p = record_varlong_put(p, delta);
        memcpy(p, from, rest);
        k->len = (size_t)(p + rest - k->p);
    }
    k->max_timestamp = k->count == 0 ? record->timestamp : MAX(k->max_timestamp, record->timestamp);
    k->count++;
    return OK;
}

static enum err make(const uint8_t *batch, const struct batch_header *h, const struct kept *k, bool rebase, int64_t horizon, struct filter_result *out) {
    uint8_t *blob = NULL;
    size_t len = k->len;
    enum batch_codec codec = k->count > 0 ? batch_codec(h) : CODEC_NONE;
    if (codec != CODEC_NONE) {
        enum err err = codec_compress(codec, INT_MIN, k->p, k->len, &blob, &len);
        if (err != OK) return err;
    }
    uint8_t *p = len <= INT32_MAX - BATCH_HEADER_BYTES ? malloc(BATCH_HEADER_BYTES + len) : NULL;
    if (!p) {
        free(blob);
        return len <= INT32_MAX - BATCH_HEADER_BYTES ? ERR_NOMEM : ERR_TOO_LARGE;
    }
    memcpy(p, batch, BATCH_HEADER_BYTES);
    if (len > 0) memcpy(p + BATCH_HEADER_BYTES, blob ? blob : k->p, len);
    free(blob);
    int16_t attributes = h->attributes;
    if (k->count == 0) attributes = (int16_t)(attributes & ~(BATCH_CODEC_MASK | BATCH_DELETE_HORIZON));
    else if (rebase) attributes |= BATCH_DELETE_HORIZON;
    store_be32(p + AT_LENGTH, (uint32_t)(BATCH_HEADER_BYTES + len - BATCH_LENGTH_OVERHEAD));
    store_be16(p + AT_ATTRIBUTES, (uint16_t)attributes);
    if (k->count == 0) store_be64(p + AT_BASE_TIMESTAMP, (uint64_t)-1);
    else if (rebase) store_be64(p + AT_BASE_TIMESTAMP, (uint64_t)horizon);
    if (k->count > 0 && !(h->attributes & BATCH_LOG_APPEND_TIME)) store_be64(p + AT_MAX_TIMESTAMP, (uint64_t)k->max_timestamp);
    store_be32(p + AT_RECORD_COUNT, (uint32_t)k->count);
    batch_seal(p);
    out->verdict = FILTER_REPLACE;
    out->batch = p;
    out->batch_len = BATCH_HEADER_BYTES + len;
    return OK;
}

/* ---- the batch ------------------------------------------------------------------------------------------ */

/* How many records stay, and how many tombstones below map_end are among them. */
static enum err count(const struct filter_rules *r, const struct record_iter *start, int32_t *staying, int32_t *tombstones) {
    struct record_iter it = *start;
    struct record record;
    enum err err;
    *staying = *tombstones = 0;
    while ((err = record_iter_next(&it, &record)) == OK) {
        if (!stays(r, &it.header, &record)) continue;
        (*staying)++;
        *tombstones += tombstone(&record) && record.key.p != NULL;
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

static enum err rebuild(const struct filter_rules *r, const uint8_t *batch, struct record_iter *it, bool rebase, struct filter_result *out) {
    struct kept k = {.max_timestamp = -1};
    struct record record;
    int64_t horizon;
    if (__builtin_add_overflow(r->now_ms, r->delete_retention_ms, &horizon)) horizon = INT64_MAX;
    enum err err = OK;
    while (err == OK) {
        const uint8_t *from = it->p;
        err = record_iter_next(it, &record);
        if (err == OK && stays(r, &it->header, &record)) err = kept_add(&k, &it->header, from, it->p, &record, rebase, horizon);
    }
    if (err == ERR_NOT_FOUND) err = make(batch, &it->header, &k, rebase, horizon, out);
    free(k.p);
    return err;
}

enum err batch_filter(const struct filter_rules *r, const uint8_t *batch, const struct batch_header *h, bool ends_segment,
                      struct filter_result *out) {
    *out = (struct filter_result){.verdict = FILTER_KEEP, .records_in = (uint64_t)h->record_count, .records_out = (uint64_t)h->record_count};
    if (untouched(r, h)) return OK;
    bool header_stays = ends_segment || ends_producer(r, h);
    if (h->record_count == 0) {
        if (!header_stays) out->verdict = FILTER_DROP;
        return OK;
    }
    struct record_iter it;
    enum err err = record_iter_init(&it, batch, h, r->max_decompressed_bytes);
    if (err != OK) return err;
    int32_t staying, tombstones;
    err = count(r, &it, &staying, &tombstones);
    /* A batch that is known in part only gets its horizon when all of it is. */
    bool rebase = tombstones > 0 && !(h->attributes & BATCH_DELETE_HORIZON) && batch_last_offset(h) < r->map_end;
    if (err == OK) {
        out->records_out = (uint64_t)staying;
        if (staying == 0 && !header_stays) out->verdict = FILTER_DROP;
        else if (staying < h->record_count || rebase) err = rebuild(r, batch, &it, rebase, out);
    }
    record_iter_free(&it);
    return err;
}

enum err batch_keys(struct offset_map *m, const uint8_t *batch, const struct batch_header *h, int64_t from, size_t max_decompressed_bytes,
                    int64_t *end) {
    *end = batch_last_offset(h) + 1;
    if (h->attributes & BATCH_CONTROL) return OK;
    if (h->attributes & BATCH_TRANSACTIONAL) {
        *end = h->base_offset;
        return OK;
    }
    if (*end <= from) return OK;
    struct record_iter it;
    struct record record;
    enum err err = record_iter_init(&it, batch, h, max_decompressed_bytes);
    if (err != OK) return err;
    while ((err = record_iter_next(&it, &record)) == OK) {
        if (record.offset < from || record.key.p == NULL || offset_map_put(m, record.key, record.offset)) continue;
        *end = record.offset;
        break;
    }
    record_iter_free(&it);
    return err == ERR_NOT_FOUND ? OK : err;
}
