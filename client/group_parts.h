/* group_parts.h - sorted lists of partitions with an offset each. */
#ifndef CLIENT_GROUP_PARTS_H
#define CLIENT_GROUP_PARTS_H
#include "client/metadata.h"

struct part { struct topic_meta *topic; int32_t partition; int32_t epoch; int64_t offset; };
struct parts { struct part *items; int32_t count, room; };

/* At the end. ERR_NOMEM. */
MUST_CHECK enum err parts_add(struct parts *p, struct topic_meta *topic, int32_t partition, int64_t offset);
/* Ascending by topic name and number, each once. */
void parts_sort(struct parts *p);
/* In a sorted list; NULL. */
struct part *parts_find(const struct parts *p, const struct topic_meta *topic, int32_t partition);
/* Out of a sorted list. */
void parts_remove(struct parts *p, const struct part *which);
/* `out` (emptied first) = a without b; both sorted. ERR_NOMEM. */
MUST_CHECK enum err parts_without(struct parts *out, const struct parts *a, const struct parts *b);
static inline void parts_clear(struct parts *p) { p->count = 0; }
void parts_free(struct parts *p);
#endif
