/* lookup.h - finding a place in an index file without keeping it in memory.
 *
 * A binary search in blocks of up to 64 KiB: one read for most segments, five for the largest.
 * `done` runs from the reactor's loop; a failed read is no error of the log but an index that is not used. */
#ifndef LOG_LOOKUP_H
#define LOG_LOOKUP_H
#include "log/shard.h"

struct lookup {
    struct io_op op;
    struct log_shard *sh;
    struct file *file;
    bool by_time;                   /* .timeindex: last entry with a timestamp below `key`; else last with an offset <= `key` */
    int64_t key;
    uint32_t low, high;             /* the entry before `low` qualifies, `high` does not */
    uint32_t from, count;           /* entries being read */
    uint8_t *block;
    bool found;
    struct index_entry entry;
    struct time_entry time;
    void (*done)(struct lookup *x);
};
/* Searches the first `bytes` bytes of the segment's index file. Relative offsets for .index. */
void lookup_start(struct lookup *x, struct log_impl *l, const struct segment *s, bool by_time, int64_t key,
                  void (*done)(struct lookup *x));
void lookup_free(struct lookup *x);  /* not while in flight */
#endif
