/* entries.h - the headers of journal entries that have a fixed layout, and what the others hold.
 *
 * An entry is a head of JOURNAL_ENTRY_HEAD_BYTES (log/journal.h), a header and a body. All integers
 * are little-endian, reserved bytes are zero and ignored by readers.
 *
 *   type      header                                                        body
 *   RECORDS   ENTRY_RECORDS_BYTES                                           batches as they will lie in the file
 *   DIRECT    ENTRY_DIRECT_BYTES                                            the last partial block of the run
 *   IMAGE     ENTRY_IMAGE_BYTES                                             protected bytes of one file block
 *   MARKER    ENTRY_MARKER_BYTES                                            -
 *   VOTE      ENTRY_VOTE_BYTES                                              -
 *   TRUNCATE  ENTRY_TRUNCATE_BYTES                                          -
 *   the rest  empty                                                         a message of proto/storage.proto:
 *     CREATE CreateEntry, DELETE DeleteEntry, CONFIG ConfigEntry, LOGSTART LogStartEntry, ROLL RollEntry,
 *     SWAP SwapEntry, RESET ResetEntry, ASSIGNED AssignedEntry (plid 0)
 *
 * Encoders fill exactly the stated number of bytes. Decoders check the length and the ranges that
 * make the value safe to use (offsets not negative, base < end); ERR_CORRUPT otherwise. Pure. */
#ifndef LOG_ENTRIES_H
#define LOG_ENTRIES_H
#include "base/bytes.h"
#include "base/err.h"

/* Where bytes lie in a partition's files: the segment (by its base offset) and the position in its .log. */
struct entry_place { int64_t segment_base; uint32_t position; };

/*  base_offset 8 | end_offset 8 | segment_base 8 | epoch 4 | position 4  */
#define ENTRY_RECORDS_BYTES 32u
struct entry_records {
    int64_t base_offset, end_offset;     /* end exclusive */
    struct entry_place place;            /* of the first byte of the body (of the run, for DIRECT) */
    int32_t epoch;
};
void entry_records_encode(uint8_t out[ENTRY_RECORDS_BYTES], const struct entry_records *e);
MUST_CHECK enum err entry_records_decode(struct entry_records *e, const uint8_t *header, uint32_t len);

/*  RECORDS' header 32 | length 4 | zero 4 | digest 16  */
#define ENTRY_DIRECT_BYTES 56u
struct entry_direct {
    struct entry_records records;
    uint32_t length;                     /* bytes of the run, the part in the body included */
    uint8_t digest[16];                  /* XXH3-128 of the run, canonical (big-endian) form */
};
void entry_direct_encode(uint8_t out[ENTRY_DIRECT_BYTES], const struct entry_direct *e);
MUST_CHECK enum err entry_direct_decode(struct entry_direct *e, const uint8_t *header, uint32_t len);

/*  segment_base 8 | position 4 | zero 4  */
#define ENTRY_IMAGE_BYTES 16u
struct entry_image { struct entry_place place; };   /* of the body's first byte; the body stays in one block */
void entry_image_encode(uint8_t out[ENTRY_IMAGE_BYTES], const struct entry_image *e);
MUST_CHECK enum err entry_image_decode(struct entry_image *e, const uint8_t *header, uint32_t len);

/*  start 8 | epoch 4 | zero 4  */
#define ENTRY_MARKER_BYTES 16u
struct entry_marker { int64_t start; int32_t epoch; };
void entry_marker_encode(uint8_t out[ENTRY_MARKER_BYTES], const struct entry_marker *e);
MUST_CHECK enum err entry_marker_decode(struct entry_marker *e, const uint8_t *header, uint32_t len);

/*  epoch 4 | id 4 | incarnation 16  */
#define ENTRY_VOTE_BYTES 24u
struct entry_vote { int32_t epoch, id; struct uuid incarnation; };   /* id -1: the epoch only */
void entry_vote_encode(uint8_t out[ENTRY_VOTE_BYTES], const struct entry_vote *e);
MUST_CHECK enum err entry_vote_decode(struct entry_vote *e, const uint8_t *header, uint32_t len);

/*  end 8 | segment_base 8 | epoch 4 | position 4  */
#define ENTRY_TRUNCATE_BYTES 24u
struct entry_truncate {
    int64_t end;                         /* P: the log ends here now */
    struct entry_place place;            /* where P comes to lie */
    int32_t epoch;                       /* epochs above it are dropped */
};
void entry_truncate_encode(uint8_t out[ENTRY_TRUNCATE_BYTES], const struct entry_truncate *e);
MUST_CHECK enum err entry_truncate_decode(struct entry_truncate *e, const uint8_t *header, uint32_t len);
#endif
