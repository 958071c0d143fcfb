/* index.c - see index.h. */
#include "log/index.h"
#include <stdlib.h>
#include <string.h>
#include "base/bytes.h"

void index_init(struct segment_index *x, int64_t base_offset, uint32_t interval_bytes, uint32_t max_bytes) {
    *x = (struct segment_index){.base_offset = base_offset, .interval_bytes = interval_bytes, .max_timestamp = -1,
                                .offsets_max = MAX(max_bytes / INDEX_ENTRY_BYTES, 1u),
                                .times_max = MAX(max_bytes / TIME_ENTRY_BYTES, 2u)};
}

void index_free(struct segment_index *x) {
    free(x->offsets);
    free(x->times);
    x->offsets = NULL;
    x->times = NULL;
    x->offset_count = x->offset_cap = x->offset_written = 0;
    x->time_count = x->time_cap = x->time_written = 0;
}

bool index_full(const struct segment_index *x) {
    return x->offset_count >= x->offsets_max || x->time_count + 1 >= x->times_max;
}

/* Room for `count` elements in all. */
static enum err reserve(void **v, uint32_t *cap, uint32_t count, size_t size) {
    if (count <= *cap) return OK;
    uint32_t grown_cap = MAX(*cap * 2, MAX(count, 16u));
    void *grown = realloc(*v, grown_cap * size);
    if (!grown) return ERR_NOMEM;
    *v = grown;
    *cap = grown_cap;
    return OK;
}

static enum err reserve_entries(struct segment_index *x, uint32_t offsets, uint32_t times) {
    enum err err = reserve((void **)&x->offsets, &x->offset_cap, offsets, sizeof *x->offsets);
    return err == OK ? reserve((void **)&x->times, &x->time_cap, times, sizeof *x->times) : err;
}

/* The time entry of the largest timestamp so far, if it says anything new. The array has room. */
static void time_entry_add(struct segment_index *x) {
    int64_t last = x->time_count ? x->times[x->time_count - 1].timestamp : -1;
    if (x->max_timestamp <= last) return;
    x->times[x->time_count++] = (struct time_entry){x->max_timestamp, x->max_timestamp_relative};
}

/* A batch that compaction has emptied has a time, but no record of that time. */
static void note_timestamp(struct segment_index *x, const struct batch_header *h) {
    if (h->record_count == 0) return;
    if (h->max_timestamp <= x->max_timestamp) return;
    x->max_timestamp = h->max_timestamp;
    x->max_timestamp_relative = (uint32_t)(batch_last_offset(h) - x->base_offset);
}

static void note_bytes(struct segment_index *x, const struct batch_header *h) {
    bool overflow = __builtin_add_overflow(x->bytes_since_entry, h->total_bytes, &x->bytes_since_entry);
    if (overflow) x->bytes_since_entry = UINT32_MAX;
}

enum err index_add(struct segment_index *x, const struct batch_header *h, uint32_t position) {
    int64_t relative = batch_last_offset(h) - x->base_offset;
    if (relative < 0 || relative > INT32_MAX || position > INT32_MAX) return ERR_RANGE;
    bool due = x->bytes_since_entry > x->interval_bytes;
    if (due) {
        if (index_full(x)) return ERR_FULL;
        enum err err = reserve_entries(x, x->offset_count + 1, x->time_count + 1);
        if (err != OK) return err;
    }
    note_timestamp(x, h);
    if (due) {
        x->offsets[x->offset_count++] = (struct index_entry){(uint32_t)relative, position};
        time_entry_add(x);
        x->bytes_since_entry = 0;
    }
    note_bytes(x, h);
    return OK;
}

enum err index_seal(struct segment_index *x) {
    enum err err = reserve_entries(x, 0, x->time_count + 1);
    if (err != OK) return err;
    time_entry_add(x);
    return OK;
}

/* The state right after the last entry, before the batch it names: what the entries alone tell. */
static uint32_t restart_at_last_entry(struct segment_index *x) {
    x->bytes_since_entry = 0;
    x->max_timestamp = -1;
    x->max_timestamp_relative = 0;
    if (x->time_count > 0) {
        x->max_timestamp = x->times[x->time_count - 1].timestamp;
        x->max_timestamp_relative = x->times[x->time_count - 1].relative;
    }
    return x->offset_count > 0 ? x->offsets[x->offset_count - 1].position : 0;
}

void index_truncate(struct segment_index *x, int64_t offset, uint32_t position, uint32_t *rescan_from) {
    int64_t relative = offset - x->base_offset;
    while (x->offset_count > 0) {
        const struct index_entry *last = &x->offsets[x->offset_count - 1];
        if (last->position < position && last->relative < relative) break;
        x->offset_count--;
    }
    /* A time entry made together with a dropped offset entry names a batch behind the last one kept. */
    int64_t known = x->offset_count > 0 ? (int64_t)x->offsets[x->offset_count - 1].relative : -1;
    while (x->time_count > 0 && x->times[x->time_count - 1].relative > known) x->time_count--;
    x->offset_written = MIN(x->offset_written, x->offset_count);
    x->time_written = MIN(x->time_written, x->time_count);
    *rescan_from = restart_at_last_entry(x);
}

void index_rescan(struct segment_index *x, const struct batch_header *h) {
    note_timestamp(x, h);
    note_bytes(x, h);
}

const struct index_entry *index_find_entry(const struct segment_index *x, int64_t offset) {
    int64_t relative = offset - x->base_offset;
    uint32_t low = 0, high = x->offset_count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if ((int64_t)x->offsets[mid].relative <= relative) low = mid + 1;
        else high = mid;
    }
    return low > 0 ? &x->offsets[low - 1] : NULL;
}

uint32_t index_find(const struct segment_index *x, int64_t offset) {
    const struct index_entry *e = index_find_entry(x, offset);
    return e ? e->position : 0;
}

int64_t index_find_time(const struct segment_index *x, int64_t timestamp) {
    uint32_t low = 0, high = x->time_count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (x->times[mid].timestamp < timestamp) low = mid + 1;
        else high = mid;
    }
    /* Entry low-1 is older: so is every record up to the last offset of the batch it names. */
    return x->base_offset + (low > 0 ? (int64_t)x->times[low - 1].relative + 1 : 0);
}

void index_encode(const struct segment_index *x, uint32_t from, uint32_t n, uint8_t *out) {
    for (uint32_t i = 0; i < n; i++, out += INDEX_ENTRY_BYTES) {
        store_be32(out, x->offsets[from + i].relative);
        store_be32(out + 4, x->offsets[from + i].position);
    }
}

void index_encode_times(const struct segment_index *x, uint32_t from, uint32_t n, uint8_t *out) {
    for (uint32_t i = 0; i < n; i++, out += TIME_ENTRY_BYTES) {
        store_be64(out, (uint64_t)x->times[from + i].timestamp);
        store_be32(out + 8, x->times[from + i].relative);
    }
}

struct index_entry index_entry_get(const uint8_t *p) {
    return (struct index_entry){load_be32(p), load_be32(p + 4)};
}

struct time_entry time_entry_get(const uint8_t *p) {
    return (struct time_entry){(int64_t)load_be64(p), load_be32(p + 8)};
}

const char *index_entry_wrong(const struct index_entry *last, const struct index_entry *next, uint64_t segment_bytes) {
    if (next->relative > INT32_MAX) return "offset below the segment's base offset";
    if (next->position >= segment_bytes) return "position behind the end of the segment";
    if (next->relative == 0 || next->position == 0) return "an entry for the first batch";
    if (last && next->relative <= last->relative) return "offset not above the one before";
    if (last && next->position <= last->position) return "position not above the one before";
    return NULL;
}

const char *time_entry_wrong(const struct time_entry *last, const struct time_entry *next) {
    if (next->relative > INT32_MAX) return "offset below the segment's base offset";
    if (next->timestamp < 0) return "negative timestamp";
    if (last && next->timestamp <= last->timestamp) return "timestamp not above the one before";
    if (last && next->relative <= last->relative) return "offset not above the one before";
    return NULL;
}

static size_t trim_zeros(const uint8_t *data, size_t len, size_t entry_bytes) {
    static const uint8_t zero[TIME_ENTRY_BYTES];
    while (len >= entry_bytes && memcmp(data + len - entry_bytes, zero, entry_bytes) == 0) len -= entry_bytes;
    return len;
}

static enum err load_offsets(struct segment_index *x, const uint8_t *data, size_t len, uint64_t segment_bytes) {
    const struct index_entry *last = NULL;
    for (size_t at = 0; at < len; at += INDEX_ENTRY_BYTES) {
        struct index_entry next = index_entry_get(data + at);
        if (index_entry_wrong(last, &next, segment_bytes)) return ERR_CORRUPT;
        x->offsets[x->offset_count++] = next;
        last = &x->offsets[x->offset_count - 1];
    }
    x->offset_written = x->offset_count;
    return OK;
}

static enum err load_times(struct segment_index *x, const uint8_t *data, size_t len) {
    const struct time_entry *last = NULL;
    for (size_t at = 0; at < len; at += TIME_ENTRY_BYTES) {
        struct time_entry next = time_entry_get(data + at);
        if (time_entry_wrong(last, &next)) return ERR_CORRUPT;
        x->times[x->time_count++] = next;
        last = &x->times[x->time_count - 1];
    }
    x->time_written = x->time_count;
    return OK;
}

enum err index_load(struct segment_index *x, const uint8_t *offsets, size_t offsets_len, const uint8_t *times,
                    size_t times_len, uint64_t segment_bytes, uint32_t *rescan_from) {
    index_free(x);
    *rescan_from = 0;
    if (offsets_len % INDEX_ENTRY_BYTES || times_len % TIME_ENTRY_BYTES) return ERR_CORRUPT;
    offsets_len = trim_zeros(offsets, offsets_len, INDEX_ENTRY_BYTES);
    /* A first time entry may be all zero (timestamp 0, first offset); lookups do not miss it. */
    times_len = trim_zeros(times, times_len, TIME_ENTRY_BYTES);
    if (offsets_len / INDEX_ENTRY_BYTES > INT32_MAX || times_len / TIME_ENTRY_BYTES > INT32_MAX) return ERR_CORRUPT;
    enum err err = reserve_entries(x, (uint32_t)(offsets_len / INDEX_ENTRY_BYTES),
                                   (uint32_t)(times_len / TIME_ENTRY_BYTES));
    if (err == OK) err = load_offsets(x, offsets, offsets_len, segment_bytes);
    if (err == OK) err = load_times(x, times, times_len);
    if (err != OK) index_free(x);
    *rescan_from = restart_at_last_entry(x);
    return err;
}
