/* dump_entries.c - .index and .timeindex against the log that they were made from.
 *
 * The log is walked by position and offset; the entries are taken in the same order (not in that of
 * the file: a damaged entry may say anything), each is compared with the batch it names. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include "tools/dump_scan.h"

static uint32_t key_of(const struct entries *e, uint32_t i) {
    const uint8_t *p = e->file + (size_t)i * e->entry_bytes;
    return e->what == VERIFY_INDEX ? index_entry_get(p).position : time_entry_get(p).relative;
}

static int by_key(const void *a, const void *b, void *ctx) {
    uint32_t x = key_of(ctx, *(const uint32_t *)a), y = key_of(ctx, *(const uint32_t *)b);
    if (x != y) return x < y ? -1 : 1;
    return *(const uint32_t *)a < *(const uint32_t *)b ? -1 : 1;
}

static void bad(struct scan *s, struct entries *e, uint32_t i, const char *text) {
    if (e->bad[i]) return;
    e->bad[i] = true;
    scan_damage(s, e->what, (uint64_t)i * e->entry_bytes, e->entry_bytes, "%s", text);
}

static bool zero_entry(const struct entries *e, uint32_t i) {
    for (size_t k = 0; k < e->entry_bytes; k++)
        if (e->file[i * e->entry_bytes + k] != 0) return false;
    return true;
}

void entries_load(struct scan *s, struct entries *e, enum verify_what what, const char *path) {
    int err;
    *e = (struct entries){.what = what, .entry_bytes = what == VERIFY_INDEX ? INDEX_ENTRY_BYTES : TIME_ENTRY_BYTES};
    e->file = read_whole(path, &e->len, &err);
    if (!e->file) {
        if (err != -ENOENT) dump_unreadable(s->d, path, err);
        return;
    }
    e->count = (uint32_t)(e->len / e->entry_bytes);
    bool may_be_real = e->len == e->entry_bytes && what == VERIFY_TIMES;   /* timestamp 0 at the first offset */
    if (!s->own)   /* Kafka preallocates */
        while (e->count > 0 && zero_entry(e, e->count - 1) && !may_be_real) e->count--;
    if (e->len % e->entry_bytes != 0 && (s->sealed || !s->last || s->ended))
        scan_damage(s, what, e->len - e->len % e->entry_bytes, e->len % e->entry_bytes,
                    "%zu bytes of an unfinished entry", e->len % e->entry_bytes);
    e->order = malloc((e->count + 1) * sizeof *e->order);
    e->bad = calloc(e->count + 1, sizeof *e->bad);
    if (!e->order || !e->bad) {
        s->nomem = true;
        e->count = 0;
        return;
    }
    for (uint32_t i = 0; i < e->count; i++) e->order[i] = i;
    qsort_r(e->order, e->count, sizeof *e->order, by_key, e);
}

void entries_free(struct entries *e) {
    free(e->file);
    free(e->order);
    free(e->bad);
    *e = (struct entries){0};
}

static bool in_hole(const struct scan *s, const struct entries *e, uint32_t key) {
    for (uint32_t i = 0; i < s->hole_count; i++) {
        const struct hole *h = &s->holes[i];
        if (e->what == VERIFY_INDEX && key >= h->from && key < h->to) return true;
        if (e->what == VERIFY_TIMES && s->base + key >= h->first && s->base + key < h->end) return true;
    }
    return false;
}

/* Entries whose key is below `key` name nothing. */
static void skip_below(struct scan *s, struct entries *e, uint64_t key) {
    while (e->next < e->count && key_of(e, e->order[e->next]) < key) {
        uint32_t i = e->order[e->next++];
        if (in_hole(s, e, key_of(e, i))) continue;
        bad(s, e, i, e->what == VERIFY_INDEX ? "no batch begins at the position of this entry"
            : "no batch ends with the offset of this entry");
    }
}

static void compare_index(struct scan *s, uint64_t position, int64_t last_offset) {
    struct entries *e = &s->offsets;
    skip_below(s, e, position);
    while (e->next < e->count && key_of(e, e->order[e->next]) == position) {
        uint32_t i = e->order[e->next++];
        struct index_entry entry = index_entry_get(e->file + (size_t)i * e->entry_bytes);
        bool right = s->base + entry.relative == last_offset;
        if (position == 0) bad(s, e, i, "an entry for the first batch");
        else if (!right) bad(s, e, i, "the batch at this position ends with another offset");
    }
}

/* Versions of Kafka differ in which record of the batch a time entry names; ours is always the last. */
static void compare_times(struct scan *s, const struct batch_header *h, int64_t last_offset, int64_t max_timestamp) {
    struct entries *e = &s->times;
    int64_t first_named = s->own ? last_offset : last_offset - h->last_offset_delta;
    if (first_named < s->base) return;
    skip_below(s, e, (uint64_t)(first_named - s->base));
    while (e->next < e->count && s->base + key_of(e, e->order[e->next]) <= last_offset) {
        uint32_t i = e->order[e->next++];
        int64_t timestamp = time_entry_get(e->file + (size_t)i * e->entry_bytes).timestamp;
        if (timestamp != max_timestamp) bad(s, e, i, "the batch that this entry names has another timestamp");
        else if (timestamp <= s->max_timestamp) bad(s, e, i, "an earlier batch has the timestamp of this entry");
    }
}

void entries_batch(struct scan *s, uint64_t position, const struct batch_header *h, int64_t last_offset) {
    compare_index(s, position, last_offset);
    compare_times(s, h, last_offset, h->max_timestamp);
}

/* First entry of those at the end of the file that all name something behind the end of the log, in order. */
static uint32_t first_ahead(const struct scan *s, const struct entries *e) {
    uint64_t end = e->what == VERIFY_INDEX ? s->end : (uint64_t)(s->expected - s->base);
    uint32_t i = e->count;
    while (i > 0 && key_of(e, i - 1) >= end && (i == e->count || key_of(e, i - 1) < key_of(e, i))) i--;
    return i;
}

static void end_of(struct scan *s, struct entries *e) {
    /* In a directory that is in use, or was not stopped cleanly, an index may be ahead of its log. */
    bool in_use = s->own && s->folder->known && s->last && !s->sealed && !s->ended;
    uint32_t ahead = in_use ? first_ahead(s, e) : e->count;
    while (e->next < e->count) {
        uint32_t i = e->order[e->next++];
        if (i >= ahead || in_hole(s, e, key_of(e, i))) continue;
        bad(s, e, i, "this entry names something behind the end of the log");
    }
    for (uint32_t i = 1; i < e->count; i++)
        if (!e->bad[i] && !e->bad[i - 1] && key_of(e, i) <= key_of(e, i - 1)) bad(s, e, i, "this entry is out of order");
}

void entries_end(struct scan *s) {
    end_of(s, &s->offsets);
    end_of(s, &s->times);
}
