/* journal_format.h - the bytes of a journal piece: groups and entries. Pure functions, for the journal,
 * its recovery and the dump tool (which may use them on a live directory: a group that is being
 * written just fails its sum).
 *
 * Group, at a block boundary of a piece; little-endian; never crosses the end of the piece:
 *
 *    0 magic u32        4 version u16      6 flags u16
 *    8 journal u32     12 set u32          which journal of which journal set: a misplaced piece is noticed
 *   16 seq u64                             previous + 1, for ever
 *   24 salt u64                            random per process life
 *   32 prev u64                            low half of the previous group's sum: the chain
 *   40 durable_seq u64                     every group up to this one was flushed when this one was submitted
 *   48 bytes u32       52 entries u32      used bytes with header; the rest of the last block is zero
 *   56 next_piece u32  60 zero u32         where the next group is (flag LINK), else 0
 *   64 sum 16                              XXH3-128 (low half, high half) of the used bytes with this field zero, seeded
 *   80 entries
 *
 * The seed is a random number of the journal, kept in its catalogue: nobody who can only produce
 * records can make a record that passes for a group when recovery looks at every block.
 *
 * Entry, 8-aligned: type u8, flags u8, header bytes u16, body bytes u32, plid u64; header; body; zeros. */
#ifndef LOG_JOURNAL_FORMAT_H
#define LOG_JOURNAL_FORMAT_H
#include "log/journal.h"

#define JOURNAL_MAGIC 0x4a565256u /* "VRVJ" */
#define JOURNAL_VERSION 1u
enum journal_group_flags {
    JOURNAL_LINK = 1,  /* the next group is at the start of next_piece */
    JOURNAL_START = 2, /* first of a process life */
    JOURNAL_IDLE = 4   /* empty: only makes durable_seq cover the group before */
};

struct journal_group {
    uint16_t flags;
    uint32_t journal, set;
    uint64_t seq, salt, prev, durable_seq;
    uint32_t bytes, entries, next_piece;
    uint64_t sum_low, sum_high;
};

static inline uint32_t journal_group_blocks_bytes(uint32_t used) { return ALIGN_UP(used, IO_BLOCK_BYTES); }

/* Writes the header over the first JOURNAL_GROUP_HEADER_BYTES of `g->bytes` bytes at `p` and sets its sums. */
void journal_group_seal(uint8_t *p, struct journal_group *g, uint64_t seed);
/* Reads a header. ERR_CORRUPT: not one, or its length cannot be within `avail` bytes. The sum is not looked at. */
MUST_CHECK enum err journal_group_parse(const uint8_t *p, size_t avail, struct journal_group *g);
/* Whether the `g->bytes` bytes at `p` have the sum that the header states. The bytes are as they were afterwards. */
bool journal_group_sum_ok(uint8_t *p, const struct journal_group *g, uint64_t seed);

/* Space that an entry takes in a group. Does not overflow for lengths below 2^31. */
static inline uint32_t journal_entry_bytes(uint32_t header_len, uint32_t body_len) {
    return ALIGN_UP(JOURNAL_ENTRY_HEAD_BYTES + header_len + body_len, 8u);
}
/* The entry at `*offset` of a group of `bytes` bytes that lies at `group` in the journal; moves `*offset` behind it.
 * ERR_NOT_FOUND: the end. ERR_CORRUPT: it does not fit, or its type is unknown. */
MUST_CHECK enum err journal_entry_next(const uint8_t *p, uint32_t bytes, uint32_t *offset, struct journal_pos group,
                                       uint64_t seq, struct journal_entry *e);
/* "RECORDS"; "?" for what is no type. */
const char *journal_entry_name(enum entry_type type);

/* Walks the blocks of a piece that was read into memory: every header that parses, in order of position; a group with
 * a good sum is stepped over as a whole, after one with a bad sum the walk goes on at the next block. */
typedef void journal_walk_fn(void *ctx, const uint8_t *p, uint32_t offset, const struct journal_group *g, bool sum_ok);
void journal_piece_walk(uint8_t *piece, size_t bytes, uint64_t seed, journal_walk_fn *fn, void *ctx);
/* "<dir>/journal-<index>/<piece>.vj" and "<dir>/journal-<index>/catalog" */
void journal_piece_path(char *out, size_t len, const char *dir, uint32_t index, uint32_t piece);
void journal_catalog_path(char *out, size_t len, const char *dir, uint32_t index);
#endif
