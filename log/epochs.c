/* epochs.c - see epochs.h. A sorted array; a log sees few epochs, so every edit is a memmove. */
#include "log/epochs.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "log/text.h"

void epochs_init(struct epochs *e) { *e = (struct epochs){0}; }

void epochs_free(struct epochs *e) {
    free(e->entries);
    epochs_init(e);
}

static enum err reserve_one(struct epochs *e) {
    if (e->count < e->cap) return OK;
    uint32_t cap = e->cap ? e->cap * 2 : 4;
    struct epoch_entry *grown = realloc(e->entries, cap * sizeof *grown);
    if (!grown) return ERR_NOMEM;
    e->entries = grown;
    e->cap = cap;
    return OK;
}

enum err epochs_append(struct epochs *e, int32_t epoch, int64_t start) {
    if (epoch < 0 || start < 0) return ERR_INVALID;
    if (e->base_epoch > 0 && epoch <= e->base_epoch) return ERR_INVALID;
    if (e->count > 0) {
        const struct epoch_entry *last = &e->entries[e->count - 1];
        if (epoch <= last->epoch || start < last->start) return ERR_INVALID;
    }
    enum err err = reserve_one(e);
    if (err != OK) return err;
    e->entries[e->count++] = (struct epoch_entry){epoch, start};
    return OK;
}

void epochs_reset(struct epochs *e, int32_t base_epoch, int64_t start) {
    e->count = 0;
    e->base_epoch = base_epoch;
    e->base_end = start;
}

int32_t epochs_last(const struct epochs *e) { return e->count > 0 ? e->entries[e->count - 1].epoch : e->base_epoch; }

void epochs_truncate(struct epochs *e, int32_t epoch) {
    while (e->count > 0 && e->entries[e->count - 1].epoch > epoch) e->count--;
}

void epochs_trim(struct epochs *e, int64_t start) {
    uint32_t gone = 0;
    e->base_end = start;
    while (gone < e->count && e->entries[gone].start < start) gone++;
    if (gone == 0) return;
    e->base_epoch = e->entries[gone - 1].epoch;
    e->count -= gone;
    memmove(e->entries, e->entries + gone, e->count * sizeof *e->entries);
}

/* How many entries begin at or before `offset`. */
static uint32_t count_started(const struct epochs *e, int64_t offset) {
    uint32_t low = 0, high = e->count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (e->entries[mid].start <= offset) low = mid + 1;
        else high = mid;
    }
    return low;
}

bool epochs_begins_at(const struct epochs *e, int64_t offset) {
    uint32_t started = count_started(e, offset);
    return started > 0 && e->entries[started - 1].start == offset;
}

int32_t epochs_at(const struct epochs *e, int64_t offset) {
    uint32_t started = count_started(e, offset);
    if (started > 0) return e->entries[started - 1].epoch;
    return e->base_epoch > 0 ? e->base_epoch : -1;
}

bool epochs_fit(const struct epochs *e, int64_t base, int64_t last, int32_t epoch) {
    if (last + 1 < e->base_end) return e->base_epoch == 0 || epoch <= e->base_epoch;
    int32_t want = epochs_at(e, base);
    return want < 0 || epoch == want;
}

void epochs_end_of(const struct epochs *e, int32_t epoch, int64_t log_start, int64_t log_end, int32_t *found_epoch, int64_t *end) {
    bool base = e->base_epoch > 0;
    *found_epoch = -1;
    *end = -1;
    if ((e->count == 0 && !base) || epoch < 0) return;
    if (epoch < (base ? e->base_epoch : e->entries[0].epoch)) {
        *found_epoch = epoch;
        *end = base ? log_start : e->entries[0].start;
        return;
    }
    if (e->count == 0 || epoch < e->entries[0].epoch) {
        *found_epoch = e->base_epoch;
        *end = e->count > 0 ? e->entries[0].start : log_end;
        return;
    }
    uint32_t last = e->count - 1;
    while (e->entries[last].epoch > epoch) last--;
    *found_epoch = e->entries[last].epoch;
    *end = last + 1 < e->count ? e->entries[last + 1].start : log_end;
}

char *epochs_to_checkpoint(const struct epochs *e, int64_t log_start) {
    bool base = e->base_epoch > 0 && (e->count == 0 || e->entries[0].start > log_start);
    /* Two decimal numbers, a blank and a newline need at most 11 + 20 + 2 bytes. */
    size_t cap = 32 + (size_t)(e->count + 1) * 34, len;
    char *text = malloc(cap);
    if (!text) return NULL;
    len = (size_t)snprintf(text, cap, "0\n%u\n", e->count + base);
    if (base) len += (size_t)snprintf(text + len, cap - len, "%d %lld\n", e->base_epoch, (long long)log_start);
    for (uint32_t i = 0; i < e->count; i++)
        len += (size_t)snprintf(text + len, cap - len, "%d %lld\n", e->entries[i].epoch, (long long)e->entries[i].start);
    return text;
}

enum err epochs_from_checkpoint(struct epochs *e, const char *text, size_t len) {
    struct text_cursor c = {text, text + len};
    int64_t count;
    epochs_init(e);
    if (!text_checkpoint_head(&c, &count)) return ERR_CORRUPT;
    for (int64_t i = 0; i < count; i++) {
        int64_t epoch, start;
        enum err err = ERR_CORRUPT;
        if (text_i64(&c, &epoch) && text_char(&c, ' ') && text_i64(&c, &start) && text_line_end(&c) && epoch <= INT32_MAX)
            err = epochs_append(e, (int32_t)epoch, start);
        if (err != OK) {
            epochs_free(e);
            return err == ERR_NOMEM ? ERR_NOMEM : ERR_CORRUPT;
        }
    }
    if (!text_at_end(&c)) {
        epochs_free(e);
        return ERR_CORRUPT;
    }
    return OK;
}
