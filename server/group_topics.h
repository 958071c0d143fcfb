/* group_topics.h - what the cores of groups see of the metadata: topics, their ids and numbers of partitions.
 *
 * A view, good for the call it is passed to. Topics are in ascending order of their names (bytes). `version`
 * grows whenever a topic comes, goes or gets partitions; equal versions show equal topics. */
#ifndef SERVER_GROUP_TOPICS_H
#define SERVER_GROUP_TOPICS_H
#include "base/bytes.h"

struct group_topic {
    struct uuid id;
    struct str name;                       /* good as long as the view */
    int32_t partitions;
    bool internal;
};
struct group_topics {
    uint64_t version;
    uint32_t count;
    const void *image;                     /* for the functions */
    void (*at)(const void *image, uint32_t i, struct group_topic *out);            /* i < count */
    bool (*by_name)(const void *image, struct str name, struct group_topic *out);  /* false: no such topic */
    bool (*by_id)(const void *image, const struct uuid *id, struct group_topic *out);
    /* The distinct racks of the replicas of a partition, ascending, at most `max`; returns their number. NULL: no racks. */
    uint32_t (*racks)(const void *image, const struct uuid *id, int32_t partition, struct str *out, uint32_t max);
};
#endif
