/* dump_summary.c - what a partition holds, in figures; see dump_filter.h. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include "proto/compress.h"
#include "tools/dump_filter.h"

/* ---- tables ---- */

static void tallies_free(struct tallies *t) {
    for (uint32_t i = 0; i < t->cap; i++) free(t->v[i].key);
    free(t->v);
    *t = (struct tallies){0};
}

static struct tally *slot_of(struct tally *v, uint32_t cap, const void *key, uint32_t len) {
    uint32_t i = (uint32_t)XXH3_64bits(key, len) & (cap - 1);
    while (v[i].key && (v[i].len != len || memcmp(v[i].key, key, len) != 0)) i = (i + 1) & (cap - 1);
    return &v[i];
}

static bool grow(struct tallies *t) {
    uint32_t cap = t->cap ? t->cap * 2 : 256;
    struct tally *v = cap <= SUMMARY_TABLE_MAX * 2 ? calloc(cap, sizeof *v) : NULL;
    if (!v) return false;
    for (uint32_t i = 0; i < t->cap; i++)
        if (t->v[i].key) *slot_of(v, cap, t->v[i].key, t->v[i].len) = t->v[i];
    free(t->v);
    t->v = v;
    t->cap = cap;
    return true;
}

static void count(struct tallies *t, const void *key, uint32_t len, uint64_t records, uint64_t bytes) {
    len = MIN(len, (uint32_t)SUMMARY_KEY_BYTES);
    bool room = t->count * 2 < t->cap || grow(t);
    struct tally *x = t->cap > 0 ? slot_of(t->v, t->cap, key, len) : NULL;
    if (x && !x->key && room && (x->key = malloc(len + 1))) {
        memcpy(x->key, key, len);
        x->len = len;
        t->count++;
    }
    if (!x || !x->key) {
        t->uncounted += records;
        return;
    }
    x->records += records;
    x->bytes += bytes;
}

/* The largest, most bytes first, then by key. Reorders the table: nothing is counted after it. */
static int by_bytes(const void *a, const void *b) {
    const struct tally *x = a, *y = b;
    if (!x->key || !y->key) return !x->key - !y->key;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    int c = memcmp(x->key, y->key, MIN(x->len, y->len));
    return c ? c : (x->len > y->len) - (x->len < y->len);
}

static uint32_t top(struct tallies *t) {
    if (t->cap > 0) qsort(t->v, t->cap, sizeof *t->v, by_bytes);
    return MIN(t->count, (uint32_t)SUMMARY_TOP);
}

/* ---- counting ---- */

void summary_init(struct summary *s) {
    *s = (struct summary){.first_offset = -1, .next_offset = -1, .min_timestamp = -1, .max_timestamp = -1, .min_epoch = -1, .max_epoch = -1};
}

void summary_free(struct summary *s) {
    tallies_free(&s->keys);
    tallies_free(&s->producers);
}

static void count_record(struct summary *s, const struct record *r) {
    static const uint8_t none[] = "";
    uint64_t bytes = (r->key.p ? (uint64_t)r->key.len : 0) + (r->value.p ? (uint64_t)r->value.len : 0);
    s->records++;
    if (s->min_timestamp < 0 || r->timestamp < s->min_timestamp) s->min_timestamp = r->timestamp;
    s->max_timestamp = MAX(s->max_timestamp, r->timestamp);
    if (r->key.p) count(&s->keys, r->key.len > 0 ? r->key.p : none, (uint32_t)r->key.len, 1, bytes);
}

static bool count_records(struct summary *s, const uint8_t *batch, const struct batch_header *h, const struct filter *f, size_t max_bytes, uint64_t *n) {
    struct record_iter it;
    struct record r;
    enum err err = batch_check(h);
    if (err == OK) err = record_iter_init(&it, batch, h, max_bytes);
    if (err != OK) return false;
    if (batch_codec(h) != CODEC_NONE) {
        s->packed_bytes += h->total_bytes - BATCH_HEADER_BYTES;
        s->plain_bytes += (uint64_t)(it.end - it.p);
    }
    while ((err = record_iter_next(&it, &r)) == OK) {
        if (!filter_record(f, &r)) continue;
        ++*n;
        if (!(h->attributes & BATCH_CONTROL)) count_record(s, &r);
        else if (r.key.p && r.key.len >= 4 && load_be16(r.key.p + 2) <= 1) *(load_be16(r.key.p + 2) ? &s->commits : &s->aborts) += 1;
    }
    record_iter_free(&it);
    return err == ERR_NOT_FOUND;
}

bool summary_batch(struct summary *s, const uint8_t *batch, const struct batch_header *h, const struct filter *f, size_t max_bytes) {
    uint64_t n = 0;
    bool ok = count_records(s, batch, h, f, max_bytes, &n);
    if (ok && n == 0 && filter_any(f)) return true;
    if (s->first_offset < 0) s->first_offset = h->base_offset;
    else if (h->base_offset > s->next_offset) {
        s->gaps++;
        s->missing_offsets += (uint64_t)(h->base_offset - s->next_offset);
    }
    s->next_offset = MAX(s->next_offset, batch_last_offset(h) + 1);
    s->batches++;
    s->bytes += h->total_bytes;
    s->control_batches += (h->attributes & BATCH_CONTROL) != 0;
    s->transactional += (h->attributes & BATCH_TRANSACTIONAL) != 0;
    if (s->min_epoch < 0 || h->leader_epoch < s->min_epoch) s->min_epoch = h->leader_epoch;
    s->max_epoch = MAX(s->max_epoch, h->leader_epoch);
    s->codec_batches[batch_codec(h) & 7]++;
    s->codec_bytes[batch_codec(h) & 7] += h->total_bytes;
    s->sizes[31 - __builtin_clz(h->total_bytes)]++;
    if (h->producer_id >= 0 && !(h->attributes & BATCH_CONTROL)) {
        char id[24];
        int len = snprintf(id, sizeof id, "%" PRId64, h->producer_id);
        count(&s->producers, id, (uint32_t)len, n, h->total_bytes);
    }
    s->unread_batches += !ok;
    return ok;
}

/* ---- text ---- */

static void printable(const struct tally *t) {
    for (uint32_t i = 0; i < t->len; i++) {
        uint8_t c = t->key[i];
        if (c < 0x20 || c == 0x7f || c == '\\') printf("\\x%02x", c);
        else putchar(c);
    }
    if (t->len == SUMMARY_KEY_BYTES) fputs("...", stdout);
}

static void text_top(const char *title, struct tallies *t) {
    uint32_t n = top(t);
    if (n == 0) return;
    printf("  %s: %" PRIu32 "%s\n", title, t->count, t->uncounted > 0 ? ", and more that are not counted" : "");
    for (uint32_t i = 0; i < n; i++) {
        printf("    ");
        printable(&t->v[i]);
        printf(": %" PRIu64 " records, %" PRIu64 " bytes\n", t->v[i].records, t->v[i].bytes);
    }
}

static const char *codec_text(int c) { return c < CODEC_COUNT ? codec_name((enum batch_codec)c) : "unknown"; }

void summary_text(struct summary *s, const char *name) {
    printf("%s\n", name);
    printf("  files: %" PRIu64 ", %" PRIu64 " bytes", s->files, s->file_bytes);
    if (s->bad_batches > 0) printf(", %" PRIu64 " damaged batches", s->bad_batches);
    if (s->unread_batches > 0) printf(", %" PRIu64 " batches whose records cannot be read", s->unread_batches);
    if (s->tail_bytes > 0) printf(", %" PRIu64 " bytes behind the last batch", s->tail_bytes);
    printf("\n  batches: %" PRIu64 ", %" PRIu64 " bytes\n  records: %" PRIu64 "\n", s->batches, s->bytes, s->records);
    if (s->batches == 0) return;
    printf("  offsets: %" PRId64 " to %" PRId64, s->first_offset, s->next_offset - 1);
    if (s->gaps > 0) printf(", %" PRIu64 " gaps of together %" PRIu64 " offsets", s->gaps, s->missing_offsets);
    printf("\n  leader epochs: %" PRId32 " to %" PRId32 "\n", s->min_epoch, s->max_epoch);
    if (s->min_timestamp >= 0) printf("  timestamps: %" PRId64 " to %" PRId64 "\n", s->min_timestamp, s->max_timestamp);
    if (s->transactional > 0)
        printf("  transactional batches: %" PRIu64 ", commits %" PRIu64 ", aborts %" PRIu64 "\n", s->transactional, s->commits, s->aborts);
    for (int c = 0; c < 8; c++)
        if (s->codec_batches[c] > 0) printf("  codec %s: %" PRIu64 " batches, %" PRIu64 " bytes\n", codec_text(c), s->codec_batches[c], s->codec_bytes[c]);
    if (s->packed_bytes > 0)
        printf("  compression: %.2f (%" PRIu64 " bytes of records in %" PRIu64 ")\n", (double)s->plain_bytes / (double)s->packed_bytes, s->plain_bytes,
               s->packed_bytes);
    printf("  batch sizes:\n");
    for (int i = 0; i < SUMMARY_SIZES; i++)
        if (s->sizes[i] > 0) printf("    %10" PRIu64 " bytes and more: %" PRIu64 "\n", UINT64_C(1) << i, s->sizes[i]);
    text_top("producers", &s->producers);
    text_top("keys, those with most bytes first", &s->keys);
}

/* ---- JSON ---- */

static void json_top(struct json_out *j, const char *name, struct tallies *t) {
    char field[32];
    uint32_t n = top(t);
    json_u64(j, name, t->count);
    snprintf(field, sizeof field, "%sUncountedRecords", name);
    json_u64(j, field, t->uncounted);
    snprintf(field, sizeof field, "%sLargest", name);
    json_array(j, field);
    for (uint32_t i = 0; i < n; i++) {
        json_object(j, NULL);
        json_bytes(j, "id", (struct bytes){t->v[i].key, (int32_t)t->v[i].len});
        json_u64(j, "records", t->v[i].records);
        json_u64(j, "bytes", t->v[i].bytes);
        json_object_end(j);
    }
    json_array_end(j);
}

void summary_json(struct summary *s, const char *name, struct json_out *j) {
    json_object(j, NULL);
    json_text(j, "type", "summary");
    json_text(j, "name", name);
    const struct { const char *name; uint64_t value; } figures[] = {
        {"files", s->files}, {"fileBytes", s->file_bytes}, {"batches", s->batches}, {"bytes", s->bytes}, {"records", s->records},
        {"damagedBatches", s->bad_batches}, {"unreadableBatches", s->unread_batches}, {"tailBytes", s->tail_bytes},
        {"gaps", s->gaps}, {"missingOffsets", s->missing_offsets}, {"controlBatches", s->control_batches},
        {"transactionalBatches", s->transactional}, {"commits", s->commits}, {"aborts", s->aborts},
        {"compressedRecordBytes", s->packed_bytes}, {"uncompressedRecordBytes", s->plain_bytes}};
    for (size_t i = 0; i < ARRAY_LEN(figures); i++) json_u64(j, figures[i].name, figures[i].value);
    json_i64(j, "firstOffset", s->first_offset);
    json_i64(j, "lastOffset", s->next_offset < 0 ? -1 : s->next_offset - 1);
    json_i64(j, "minTimestamp", s->min_timestamp);
    json_i64(j, "maxTimestamp", s->max_timestamp);
    json_i64(j, "minEpoch", s->min_epoch);
    json_i64(j, "maxEpoch", s->max_epoch);
    json_object(j, "codecs");
    for (int c = 0; c < 8; c++) {
        if (s->codec_batches[c] == 0) continue;
        json_object(j, codec_text(c));
        json_u64(j, "batches", s->codec_batches[c]);
        json_u64(j, "bytes", s->codec_bytes[c]);
        json_object_end(j);
    }
    json_object_end(j);
    json_array(j, "batchSizes");
    for (int i = 0; i < SUMMARY_SIZES; i++) {
        if (s->sizes[i] == 0) continue;
        json_object(j, NULL);
        json_u64(j, "atLeastBytes", UINT64_C(1) << i);
        json_u64(j, "batches", s->sizes[i]);
        json_object_end(j);
    }
    json_array_end(j);
    json_top(j, "producers", &s->producers);
    json_top(j, "keys", &s->keys);
    json_object_end(j);
    json_line(j);
}
