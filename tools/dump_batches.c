/* dump_batches.c - walks the batches of a segment and says which of them cannot be right.
 *
 * CRC-32C covers a batch from its attributes on. What lies before (base offset, length, epoch, magic)
 * is checked against the neighbours: in our logs offsets are dense; elsewhere (compaction) they only
 * grow; epochs never go back. Where two neighbours contradict each other, the one that the third contradicts
 * is the damaged one. Behind a damaged batch the walk goes on at the next one that fits. */
#include <inttypes.h>
#include <stdlib.h>
#include <xxhash.h>
#include "tools/dump_scan.h"

enum shape { SHAPE_WHOLE, SHAPE_SHORT, SHAPE_BAD };
enum { CRC_FROM = 21, MAGIC_AT = 16, EPOCH_AT = 12 };

/* What lies at `at`: a header whose batch fits, one whose batch does not (or too few bytes for a header), or none. */
static enum shape look(struct scan *s, uint64_t at, struct batch_header *h) {
    size_t got;
    *h = (struct batch_header){0};
    if (at >= s->in.size) return SHAPE_SHORT;
    const uint8_t *p = input_view(&s->in, at, BATCH_HEADER_BYTES, &got);
    enum err err = batch_parse(p, got, h);
    if (err == OK) return SHAPE_WHOLE;
    if (err != ERR_TRUNCATED) return SHAPE_BAD;
    if (got < BATCH_HEADER_BYTES) {
        h->total_bytes = 0;
        return SHAPE_SHORT;
    }
    return h->total_bytes > s->in.size - at ? SHAPE_SHORT : SHAPE_WHOLE;
}

static bool crc_ok(struct scan *s, uint64_t at, const struct batch_header *h) {
    uint32_t crc;
    return input_crc(&s->in, at + CRC_FROM, h->total_bytes - CRC_FROM, &crc) && crc == h->crc;
}

/* Whether a batch with this header could come next. */
static bool fits(const struct scan *s, const struct batch_header *h) {
    if (batch_check(h) != OK || h->base_offset < s->expected) return false;
    return s->base < 0 || batch_last_offset(h) - s->base <= INT32_MAX;
}

/* Start of the next batch behind a damaged one at `at` (`h`: its header, if there is one); the end of the file
 * when the damaged one is the last; 0: nothing to go on with. */
static uint64_t next_batch(struct scan *s, uint64_t at, const struct batch_header *h) {
    struct batch_header n;
    if (h) {
        uint64_t natural = at + h->total_bytes;
        if (natural == s->in.size) return natural;
        enum shape shape = look(s, natural, &n);
        if (shape == SHAPE_SHORT && n.total_bytes == 0) return s->in.size;   /* too little to be told from the damage */
        if (shape != SHAPE_BAD && fits(s, &n)) return natural;
    }
    for (uint64_t q = at + 1; q + BATCH_HEADER_BYTES <= s->in.size; q++) {
        size_t got;
        const uint8_t *p = input_view(&s->in, q, BATCH_HEADER_BYTES, &got);
        if (got < BATCH_HEADER_BYTES) return 0;
        if (p[MAGIC_AT] != 2 || look(s, q, &n) != SHAPE_WHOLE) continue;
        if (fits(s, &n) && crc_ok(s, q, &n)) return q;
    }
    return 0;
}

static bool zero_until_end(struct scan *s, uint64_t at) {
    while (at < s->in.size) {
        size_t got;
        const uint8_t *p = input_view(&s->in, at, INPUT_WINDOW_BYTES, &got);
        if (got == 0) return false;
        for (size_t i = 0; i < got; i++)
            if (p[i] != 0) return false;
        at += got;
    }
    return true;
}

/* Whether what lies at `at` may be the end of a log that was being written. */
static bool may_be_unfinished(struct scan *s, uint64_t at, enum shape shape, const struct batch_header *h) {
    if (s->sealed || !s->last || s->ended || at < s->durable_bytes) return false;
    if (zero_until_end(s, at)) return true;
    if (shape != SHAPE_SHORT) return false;
    if (h->total_bytes == 0) return true;
    /* All of the batch is there: then it is the length that is wrong. */
    uint32_t crc;
    return !(input_crc(&s->in, at + CRC_FROM, s->in.size - at - CRC_FROM, &crc) && crc == h->crc);
}

static void add_hole(struct scan *s, uint64_t from, uint64_t to) {
    if (s->hole_count == s->hole_cap) {
        uint32_t cap = s->hole_cap ? s->hole_cap * 2 : 16;
        struct hole *grown = realloc(s->holes, cap * sizeof *grown);
        if (!grown) {
            s->nomem = true;
            return;
        }
        s->holes = grown;
        s->hole_cap = cap;
    }
    struct batch_header n;
    bool known = look(s, to, &n) == SHAPE_WHOLE;
    s->holes[s->hole_count++] = (struct hole){from, to, s->expected, known ? n.base_offset : INT64_MAX};
    s->expected_exact = false;
}

static bool peek(struct scan *s, uint64_t at, struct batch_header *h) {
    enum shape shape = look(s, at, h);
    return shape == SHAPE_WHOLE || (shape == SHAPE_SHORT && h->total_bytes > 0);
}

/* Checks the base offset and moves `expected`. Returns the last offset that is to be believed. */
static int64_t check_offsets(struct scan *s, uint64_t at, const struct batch_header *h) {
    int64_t dense_next = s->expected + h->last_offset_delta + 1;
    struct batch_header n;
    if (h->base_offset != s->expected) {
        bool has_next = peek(s, at + h->total_bytes, &n);
        int64_t follows = has_next ? n.base_offset : s->next_base;
        bool ahead = h->base_offset > s->expected;
        bool overlaps = follows <= batch_last_offset(h) && (!has_next || follows > s->expected);
        bool too_far = s->base >= 0 && batch_last_offset(h) - s->base > INT32_MAX;
        if (s->expected_exact && (follows == dense_next || (s->own && !has_next))) {
            scan_damage(s, VERIFY_LOG, at, h->total_bytes, "base offset %" PRId64 " where %" PRId64 " is due",
                        h->base_offset, s->expected);
            s->expected = dense_next;
            return dense_next - 1;
        }
        if (!ahead || overlaps || too_far) {
            scan_damage(s, VERIFY_LOG, at, h->total_bytes,
                        "base offset %" PRId64 " does not fit between %" PRId64 " and what follows", h->base_offset,
                        s->expected);
            s->expected = dense_next;
            s->expected_exact = false;
            return dense_next - 1;
        }
        if (s->own && s->expected_exact)
            scan_damage(s, VERIFY_LOG, at, h->total_bytes,
                        "offsets %" PRId64 " to %" PRId64 " are missing before this batch", s->expected, h->base_offset - 1);
    } else if (batch_last_offset(h) >= s->next_base) {
        scan_damage(s, VERIFY_LOG, at, h->total_bytes,
                    "last offset %" PRId64 " lies in the next segment, which begins at %" PRId64, batch_last_offset(h),
                    s->next_base);
    }
    s->expected = batch_last_offset(h) + 1;
    s->expected_exact = !s->own || !s->gaps;
    return batch_last_offset(h);
}

/* Whether the batches behind this one say that its epoch, above the last one, is too high. */
static bool epoch_contradicted(struct scan *s, uint64_t at, const struct batch_header *h) {
    struct batch_header n, n2;
    if (!peek(s, at + h->total_bytes, &n) || n.leader_epoch >= h->leader_epoch) return false;
    return !(peek(s, at + h->total_bytes + n.total_bytes, &n2) && n2.leader_epoch >= h->leader_epoch);
}

static void check_epoch(struct scan *s, uint64_t at, const struct batch_header *h, int64_t offset) {
    const struct folder *f = s->folder;
    int32_t want = f->epochs_known ? epochs_at(&f->epochs, offset) : -1;
    if (want >= 0 && h->leader_epoch != want) {
        bool newer = h->leader_epoch > want && want == f->epochs.entries[f->epochs.count - 1].epoch && !f->epochs_exact;
        if (!newer) {
            scan_damage(s, VERIFY_LOG, at, h->total_bytes,
                        "leader epoch %" PRId32 ", but offset %" PRId64 " is of epoch %" PRId32, h->leader_epoch, offset, want);
            return;
        }
    }
    if (h->leader_epoch < s->epoch || h->leader_epoch < (s->own ? 0 : -1)) {
        scan_damage(s, VERIFY_LOG, at, h->total_bytes, "leader epoch %" PRId32 " after %" PRId32, h->leader_epoch,
                    s->epoch);
    } else if (h->leader_epoch > s->epoch && epoch_contradicted(s, at, h)) {
        scan_damage(s, VERIFY_LOG, at, h->total_bytes,
                    "leader epoch %" PRId32 " is above that of the batches behind it", h->leader_epoch);
    } else {
        s->epoch = h->leader_epoch;
    }
}

static void good_batch(struct scan *s, uint64_t at, const struct batch_header *h) {
    if (s->base < 0) {
        s->base = s->expected = h->base_offset;
        s->expected_exact = true;
    }
    if (batch_check(h) != OK) {
        scan_damage(s, VERIFY_LOG, at, h->total_bytes, "impossible header fields");
        /* All but the base offset is under the CRC, which holds. */
        struct batch_header mended = *h;
        mended.base_offset = s->expected;
        bool only_base = s->expected_exact && batch_check(&mended) == OK;
        if (only_base) entries_batch(s, at, &mended, batch_last_offset(&mended));
        if (only_base) s->expected = batch_last_offset(&mended) + 1;
        else add_hole(s, at, at + h->total_bytes);
        return;
    }
    int64_t last = check_offsets(s, at, h);
    check_epoch(s, at, h, last - h->last_offset_delta);
    entries_batch(s, at, h, last);
    if (h->max_timestamp > s->max_timestamp && h->record_count > 0) s->max_timestamp = h->max_timestamp;
}

static const char *what_is_wrong(enum shape shape, const struct batch_header *h) {
    if (shape == SHAPE_WHOLE) return "the batch does not match its CRC";
    if (shape == SHAPE_SHORT) return "the batch is longer than the file";
    return h->magic != 2 && h->total_bytes == 0 ? "no batch of format 2 begins here" : "impossible batch length";
}

void scan_batches(struct scan *s) {
    uint64_t at = 0;
    s->expected = MAX(s->base, 0);
    s->expected_exact = s->own && !s->gaps && s->base >= 0;
    s->epoch = s->max_timestamp = -1;
    while (at < s->in.size && s->in.neg_errno == 0) {
        struct batch_header h;
        enum shape shape = look(s, at, &h);
        if (shape == SHAPE_WHOLE && crc_ok(s, at, &h)) {
            good_batch(s, at, &h);
            at += h.total_bytes;
            s->end = at;
            continue;
        }
        uint64_t next = next_batch(s, at, shape == SHAPE_WHOLE ? &h : NULL);
        if (next == 0 && may_be_unfinished(s, at, shape, &h)) {
            s->unfinished_bytes = s->in.size - at;
            break;
        }
        if (next == 0) next = s->in.size;
        scan_damage(s, VERIFY_LOG, at, next - at, "%s", what_is_wrong(shape, &h));
        add_hole(s, at, next);
        at = next;
        s->end = at;
    }
}

/* ---- digests ---- */

static bool chunk_explained(const struct scan *s, uint64_t from, uint64_t to) {
    for (uint32_t i = 0; i < s->damage_count; i++) {
        const struct damage *d = &s->damages[i];
        if (d->what == VERIFY_LOG && d->position < to && d->position + d->bytes > from) return true;
    }
    return false;
}

/* Whether the chunk is the sealed one once the epoch of the batch at `at` is `epoch`. */
static bool mended_by_epoch(const struct sealed_segment *sealed, uint64_t chunk, uint8_t *copy, size_t len, uint64_t at,
                            int32_t epoch) {
    uint64_t from = chunk * MANIFEST_CHUNK_BYTES;
    uint8_t saved[4];
    if (at + EPOCH_AT < from || at + EPOCH_AT + 4 > from + len) return false;
    uint8_t *field = copy + (at + EPOCH_AT - from);
    memcpy(saved, field, 4);
    store_be32(field, (uint32_t)epoch);
    bool ok = sealed_chunk_ok(sealed, chunk, copy, len);
    memcpy(field, saved, 4);
    return ok;
}

/* The batch in the chunk that is to blame, if its epoch is; else the first one that reaches into the chunk. */
static uint64_t blame(struct scan *s, uint64_t chunk, const uint8_t *data, size_t len) {
    uint64_t from = chunk * MANIFEST_CHUNK_BYTES, at = 0, first = UINT64_MAX, found = UINT64_MAX;
    struct batch_header h, n;
    int32_t previous = -1;
    uint8_t *copy = malloc(len);
    if (copy) memcpy(copy, data, len);
    while (at < from + len && found == UINT64_MAX && look(s, at, &h) == SHAPE_WHOLE) {
        uint64_t next = at + h.total_bytes;
        if (next > from && first == UINT64_MAX) first = at;
        if (next > from && copy) {
            bool has_next = peek(s, next, &n);
            if (mended_by_epoch(s->sealed, chunk, copy, len, at, previous)) found = at;
            if (has_next && mended_by_epoch(s->sealed, chunk, copy, len, at, n.leader_epoch)) found = at;
        }
        previous = h.leader_epoch;
        at = next;
    }
    free(copy);
    return found != UINT64_MAX ? found : first != UINT64_MAX ? first : from;
}

void scan_digests(struct scan *s) {
    uint64_t chunks = sealed_chunks(s->sealed->size_bytes), common = MIN(s->in.size, s->sealed->size_bytes);
    if (s->in.size != s->sealed->size_bytes && !chunk_explained(s, common > 0 ? common - 1 : 0, UINT64_MAX)) {
        scan_damage(s, VERIFY_LOG, MIN(s->end, s->sealed->size_bytes), 0,
                    "the segment was sealed with %" PRIu64 " bytes and has %" PRIu64, s->sealed->size_bytes,
                    s->in.size);
    }
    for (uint64_t c = 0; c < chunks; c++) {
        uint64_t from = c * MANIFEST_CHUNK_BYTES;
        size_t want = (size_t)MIN((uint64_t)MANIFEST_CHUNK_BYTES, s->sealed->size_bytes - from), got;
        if (from + want > s->in.size) break;   /* said above */
        const uint8_t *data = input_view(&s->in, from, want, &got);
        if (got < want) break;
        if (sealed_chunk_ok(s->sealed, c, data, got) || chunk_explained(s, from, from + got)) continue;
        uint8_t *copy = malloc(got);
        if (!copy) {
            s->nomem = true;
            return;
        }
        memcpy(copy, data, got);
        scan_damage(s, VERIFY_LOG, blame(s, c, copy, got), 0,
                    "bytes %" PRIu64 " to %" PRIu64 " do not match their digest in the manifest", from, from + got - 1);
        free(copy);
    }
}
