/* journal_format.c - groups and entries as bytes; the layout is in journal_format.h. */
#include "log/journal_format.h"
#include <stdio.h>
#include "base/assert.h"
#include "base/bytes.h"
#include "log/xxh3.h"

#define SUM_OFFSET 64u
STATIC_ASSERT(SUM_OFFSET + 16 == JOURNAL_GROUP_HEADER_BYTES);
STATIC_ASSERT(JOURNAL_GROUP_HEADER_BYTES % 8 == 0);

void journal_group_seal(uint8_t *p, struct journal_group *g, uint64_t seed) {
    ASSERT(g->bytes >= JOURNAL_GROUP_HEADER_BYTES);
    store_le32(p, JOURNAL_MAGIC);
    store_le16(p + 4, JOURNAL_VERSION);
    store_le16(p + 6, g->flags);
    store_le32(p + 8, g->journal);
    store_le32(p + 12, g->set);
    store_le64(p + 16, g->seq);
    store_le64(p + 24, g->salt);
    store_le64(p + 32, g->prev);
    store_le64(p + 40, g->durable_seq);
    store_le32(p + 48, g->bytes);
    store_le32(p + 52, g->entries);
    store_le32(p + 56, g->next_piece);
    store_le32(p + 60, 0);
    memset(p + SUM_OFFSET, 0, 16);
    XXH128_hash_t sum = XXH3_128bits_withSeed(p, g->bytes, seed);
    g->sum_low = sum.low64;
    g->sum_high = sum.high64;
    store_le64(p + SUM_OFFSET, sum.low64);
    store_le64(p + SUM_OFFSET + 8, sum.high64);
}

enum err journal_group_parse(const uint8_t *p, size_t avail, struct journal_group *g) {
    if (avail < JOURNAL_GROUP_HEADER_BYTES || load_le32(p) != JOURNAL_MAGIC) return ERR_CORRUPT;
    if (load_le16(p + 4) != JOURNAL_VERSION) return ERR_CORRUPT;
    *g = (struct journal_group){
        .flags = load_le16(p + 6), .journal = load_le32(p + 8), .set = load_le32(p + 12),
        .seq = load_le64(p + 16), .salt = load_le64(p + 24), .prev = load_le64(p + 32),
        .durable_seq = load_le64(p + 40), .bytes = load_le32(p + 48), .entries = load_le32(p + 52),
        .next_piece = load_le32(p + 56), .sum_low = load_le64(p + SUM_OFFSET), .sum_high = load_le64(p + SUM_OFFSET + 8)};
    return g->bytes >= JOURNAL_GROUP_HEADER_BYTES && g->bytes <= avail ? OK : ERR_CORRUPT;
}

bool journal_group_sum_ok(uint8_t *p, const struct journal_group *g, uint64_t seed) {
    memset(p + SUM_OFFSET, 0, 16);
    XXH128_hash_t sum = XXH3_128bits_withSeed(p, g->bytes, seed);
    store_le64(p + SUM_OFFSET, g->sum_low);
    store_le64(p + SUM_OFFSET + 8, g->sum_high);
    return sum.low64 == g->sum_low && sum.high64 == g->sum_high;
}

enum err journal_entry_next(const uint8_t *p, uint32_t bytes, uint32_t *offset, struct journal_pos group, uint64_t seq,
                            struct journal_entry *e) {
    if (*offset == bytes) return ERR_NOT_FOUND;
    if (*offset > bytes || bytes - *offset < JOURNAL_ENTRY_HEAD_BYTES) return ERR_CORRUPT;
    const uint8_t *head = p + *offset;
    uint32_t room = bytes - *offset - JOURNAL_ENTRY_HEAD_BYTES;
    uint32_t header_len = load_le16(head + 2), body_len = load_le32(head + 4);
    if (header_len > room || body_len > room - header_len) return ERR_CORRUPT;
    uint32_t total = journal_entry_bytes(header_len, body_len);
    if (total > bytes - *offset || head[0] < ENTRY_RECORDS || head[0] > ENTRY_ASSIGNED) return ERR_CORRUPT;
    uint32_t body_at = *offset + JOURNAL_ENTRY_HEAD_BYTES + header_len;
    *e = (struct journal_entry){
        .type = (enum entry_type)head[0], .flags = head[1], .plid = load_le64(head + 8), .seq = seq,
        .pos = {group.piece, group.offset + body_at}, .header = head + JOURNAL_ENTRY_HEAD_BYTES, .body = p + body_at,
        .header_len = header_len, .body_len = body_len};
    *offset += total;
    return OK;
}

const char *journal_entry_name(enum entry_type type) {
    static const char *const names[] = {
        [ENTRY_RECORDS] = "RECORDS", [ENTRY_DIRECT] = "DIRECT", [ENTRY_IMAGE] = "IMAGE", [ENTRY_MARKER] = "MARKER",
        [ENTRY_VOTE] = "VOTE", [ENTRY_CONFIG] = "CONFIG", [ENTRY_TRUNCATE] = "TRUNCATE", [ENTRY_LOGSTART] = "LOGSTART",
        [ENTRY_ROLL] = "ROLL", [ENTRY_SWAP] = "SWAP", [ENTRY_RESET] = "RESET", [ENTRY_CREATE] = "CREATE",
        [ENTRY_DELETE] = "DELETE", [ENTRY_ASSIGNED] = "ASSIGNED"};
    return (size_t)type < ARRAY_LEN(names) && names[type] != NULL ? names[type] : "?";
}

void journal_piece_walk(uint8_t *piece, size_t bytes, uint64_t seed, journal_walk_fn *fn, void *ctx) {
    size_t at = 0;
    while (at < bytes && bytes - at >= JOURNAL_GROUP_HEADER_BYTES) {
        struct journal_group g;
        size_t step = IO_BLOCK_BYTES;
        if (journal_group_parse(piece + at, bytes - at, &g) == OK) {
            bool ok = journal_group_sum_ok(piece + at, &g, seed);
            fn(ctx, piece + at, (uint32_t)at, &g, ok);
            if (ok) step = journal_group_blocks_bytes(g.bytes);
        }
        at += step;
    }
}

void journal_piece_path(char *out, size_t len, const char *dir, uint32_t index, uint32_t piece) {
    snprintf(out, len, "%s/journal-%u/%06u.vj", dir, index, piece);
}

void journal_catalog_path(char *out, size_t len, const char *dir, uint32_t index) {
    snprintf(out, len, "%s/journal-%u/catalog", dir, index);
}
