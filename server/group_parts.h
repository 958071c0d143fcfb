/* group_parts.h - sets of topic partitions: what a member has, is to have, is to give up.
 *
 * Flat and sorted by topic id (bytes), then partition, without duplicates; `epoch` goes with each (of the assignment that
 * gave it to the member) and does not count for membership. The list belongs to whoever made it: an arena or the heap. */
#ifndef SERVER_GROUP_PARTS_H
#define SERVER_GROUP_PARTS_H
#include "base/arena.h"
#include "base/err.h"

struct group_part { struct uuid topic; int32_t partition, epoch; };
struct group_parts { struct group_part *list; uint32_t n; };

int group_part_compare(const void *a, const void *b); /* for qsort and bsearch */
const struct group_part *group_parts_find(const struct group_parts *set, const struct uuid *topic, int32_t partition);
bool group_parts_equal(const struct group_parts *a, const struct group_parts *b, bool epochs_too);
/* Sorts and removes duplicates (the first of equals in memory stays). */
void group_parts_sort(struct group_parts *set);
/* Room for `n` more in an arena; the set is empty. ERR_NOMEM. */
MUST_CHECK enum err group_parts_room(struct group_parts *set, size_t n, struct arena *arena);
static inline void group_parts_add(struct group_parts *set, const struct uuid *topic, int32_t partition, int32_t epoch) {
    set->list[set->n++] = (struct group_part){*topic, partition, epoch};
}
/* A copy on the heap; an empty set has no memory. */
MUST_CHECK enum err group_parts_copy(struct group_parts *out, const struct group_parts *set);

/* The same by topic, as messages have it. The layout is that of their structs: k_consumer_group_heartbeat_response_topic_partitions,
 * k_consumer_group_target_assignment_member_value_topic_partitions and others. */
struct group_topic_parts { struct uuid topic_id; int32_t *partitions; int32_t partitions_n; };
MUST_CHECK enum err group_parts_by_topic(const struct group_parts *set, struct arena *arena, struct group_topic_parts **out, int32_t *out_n);
/* And back: sorted, in an arena. Negative partitions are ERR_CORRUPT. `in_n` may be -1 (null: empty). */
MUST_CHECK enum err group_parts_from_topics(const struct group_topic_parts *in, int32_t in_n, struct arena *arena, struct group_parts *out);
#endif
