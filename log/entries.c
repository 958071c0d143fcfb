/* entries.c - fixed headers of journal entries; layouts in entries.h. */
#include "log/entries.h"

static void store_place(uint8_t *base_at, uint8_t *position_at, const struct entry_place *p) {
    store_le64(base_at, (uint64_t)p->segment_base);
    store_le32(position_at, p->position);
}

static struct entry_place load_place(const uint8_t *base_at, const uint8_t *position_at) {
    return (struct entry_place){(int64_t)load_le64(base_at), load_le32(position_at)};
}

void entry_records_encode(uint8_t out[ENTRY_RECORDS_BYTES], const struct entry_records *e) {
    store_le64(out, (uint64_t)e->base_offset);
    store_le64(out + 8, (uint64_t)e->end_offset);
    store_le32(out + 24, (uint32_t)e->epoch);
    store_place(out + 16, out + 28, &e->place);
}

static enum err records_load(struct entry_records *e, const uint8_t *header) {
    e->base_offset = (int64_t)load_le64(header);
    e->end_offset = (int64_t)load_le64(header + 8);
    e->epoch = (int32_t)load_le32(header + 24);
    e->place = load_place(header + 16, header + 28);
    bool sound = e->base_offset >= 0 && e->end_offset > e->base_offset && e->place.segment_base >= 0 &&
                 e->place.segment_base <= e->base_offset;
    return sound ? OK : ERR_CORRUPT;
}

enum err entry_records_decode(struct entry_records *e, const uint8_t *header, uint32_t len) {
    return len == ENTRY_RECORDS_BYTES ? records_load(e, header) : ERR_CORRUPT;
}

void entry_direct_encode(uint8_t out[ENTRY_DIRECT_BYTES], const struct entry_direct *e) {
    entry_records_encode(out, &e->records);
    store_le32(out + 32, e->length);
    store_le32(out + 36, 0);
    memcpy(out + 40, e->digest, sizeof e->digest);
}

enum err entry_direct_decode(struct entry_direct *e, const uint8_t *header, uint32_t len) {
    if (len != ENTRY_DIRECT_BYTES) return ERR_CORRUPT;
    e->length = load_le32(header + 32);
    memcpy(e->digest, header + 40, sizeof e->digest);
    return records_load(&e->records, header);
}

void entry_image_encode(uint8_t out[ENTRY_IMAGE_BYTES], const struct entry_image *e) {
    store_place(out, out + 8, &e->place);
    store_le32(out + 12, 0);
}

enum err entry_image_decode(struct entry_image *e, const uint8_t *header, uint32_t len) {
    if (len != ENTRY_IMAGE_BYTES) return ERR_CORRUPT;
    e->place = load_place(header, header + 8);
    return e->place.segment_base >= 0 ? OK : ERR_CORRUPT;
}

void entry_marker_encode(uint8_t out[ENTRY_MARKER_BYTES], const struct entry_marker *e) {
    store_le64(out, (uint64_t)e->start);
    store_le32(out + 8, (uint32_t)e->epoch);
    store_le32(out + 12, 0);
}

enum err entry_marker_decode(struct entry_marker *e, const uint8_t *header, uint32_t len) {
    if (len != ENTRY_MARKER_BYTES) return ERR_CORRUPT;
    e->start = (int64_t)load_le64(header);
    e->epoch = (int32_t)load_le32(header + 8);
    return e->start >= 0 ? OK : ERR_CORRUPT;
}

void entry_vote_encode(uint8_t out[ENTRY_VOTE_BYTES], const struct entry_vote *e) {
    store_le32(out, (uint32_t)e->epoch);
    store_le32(out + 4, (uint32_t)e->id);
    memcpy(out + 8, e->incarnation.b, sizeof e->incarnation.b);
}

enum err entry_vote_decode(struct entry_vote *e, const uint8_t *header, uint32_t len) {
    if (len != ENTRY_VOTE_BYTES) return ERR_CORRUPT;
    e->epoch = (int32_t)load_le32(header);
    e->id = (int32_t)load_le32(header + 4);
    memcpy(e->incarnation.b, header + 8, sizeof e->incarnation.b);
    return OK;
}

void entry_truncate_encode(uint8_t out[ENTRY_TRUNCATE_BYTES], const struct entry_truncate *e) {
    store_le64(out, (uint64_t)e->end);
    store_le32(out + 16, (uint32_t)e->epoch);
    store_place(out + 8, out + 20, &e->place);
}

enum err entry_truncate_decode(struct entry_truncate *e, const uint8_t *header, uint32_t len) {
    if (len != ENTRY_TRUNCATE_BYTES) return ERR_CORRUPT;
    e->end = (int64_t)load_le64(header);
    e->epoch = (int32_t)load_le32(header + 16);
    e->place = load_place(header + 8, header + 20);
    return e->end >= 0 && e->place.segment_base >= 0 && e->place.segment_base <= e->end ? OK : ERR_CORRUPT;
}
