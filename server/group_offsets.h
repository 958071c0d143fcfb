/* group_offsets.h - the committed offsets of one group: what records of type 1 say, and when they expire.
 *
 * Pure: no clock, no I/O. State changes only by group_offsets_replay(), which loading and a commit that became
 * durable use alike. `bytes` is what the heap holds, for whoever bounds the memory of groups.
 *
 * A topic that is made anew under its old name has another id: the first commit that carries it drops what was
 * committed for the older topic (KIP-848, OffsetCommitValue.TopicId). Commits without an id change nothing about it.
 *
 * One thread. */
#ifndef SERVER_GROUP_OFFSETS_H
#define SERVER_GROUP_OFFSETS_H
#include <uthash.h>
#include "base/bytes.h"
#include "base/compiler.h"
#include "base/err.h"

struct k_offset_commit_value;

/* What only few offsets have. */
struct group_offset_more {
    int64_t expire_ms;                     /* -1: by the group's retention */
    int32_t metadata_len;
    char metadata[];
};
struct group_offset {
    int64_t offset, commit_ms;
    int32_t partition, leader_epoch;       /* epoch -1: unknown */
    struct group_offset_more *more;        /* owned; NULL: no metadata, no expiry of its own */
};
static inline struct str group_offset_metadata(const struct group_offset *o) {
    return o->more ? (struct str){o->more->metadata, o->more->metadata_len} : STR_LIT("");
}

/* Ascending by partition, in pieces, so that inserting moves little. */
struct group_offset_piece { uint32_t count, cap; struct group_offset list[]; };
struct group_offset_topic {
    UT_hash_handle hh;
    struct uuid id;                        /* zero: unknown */
    struct group_offset_piece **pieces;    /* owned; none is empty */
    uint32_t piece_count, piece_cap;
    uint32_t count;
    int32_t name_len;
    char name[];
};
struct group_offsets {
    struct group_offset_topic *topics;
    uint64_t count;
    int64_t bytes;
};

void group_offsets_free(struct group_offsets *o);
/* A null `value` removes. ERR_NOMEM: unchanged. ERR_CORRUPT: no topic, or the partition is negative. */
MUST_CHECK enum err group_offsets_replay(struct group_offsets *o, struct str topic, int32_t partition,
                                         const struct k_offset_commit_value *value);
const struct group_offset_topic *group_offsets_topic(const struct group_offsets *o, struct str name);
/* NULL: none. `id` that is not zero must be the topic's, unless that is unknown. */
const struct group_offset *group_offsets_find(const struct group_offsets *o, struct str topic, const struct uuid *id,
                                              int32_t partition);

/* All offsets, topic by topic; nothing may change in between. */
struct group_offsets_iter { const struct group_offset_topic *topic; uint32_t piece, index; };
static inline struct group_offsets_iter group_offsets_begin(const struct group_offsets *o) {
    return (struct group_offsets_iter){o->topics, 0, 0};
}
/* The next offset and its topic; NULL: no more. */
const struct group_offset *group_offsets_next(struct group_offsets_iter *it, const struct group_offset_topic **topic);

/* Whether an offset has outlived its time (KIP-211). `since_ms`: when the group became empty, -1 for a group that
 * counts from each commit; `subscribed`: the group reads the topic now. */
bool group_offset_expired(const struct group_offset *o, int64_t now_ms, int64_t retention_ms, int64_t since_ms,
                          bool subscribed);
#endif
