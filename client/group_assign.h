/* group_assign.h - how the leader of a classic group shares the partitions out. Pure.
 *
 *   range               topic by topic: each member a run of partitions, the first ones one more
 *   roundrobin          all partitions of all topics in a circle of members
 *   cooperative-sticky  balanced, with as few moves as possible; a partition that moves is given to nobody until
 *                       its present owner has given it back and joined again (KIP-429) */
#ifndef CLIENT_GROUP_ASSIGN_H
#define CLIENT_GROUP_ASSIGN_H
#include "base/bytes.h"
#include "base/err.h"

enum { ASSIGNOR_COUNT = 3 };
struct assign_partition { struct str topic; int32_t partition; };
struct assign_topic { struct str name; int32_t partition_count; };
struct assign_member {
    const char *id, *instance_id;       /* instance_id NULL: dynamic */
    const struct str *topics;           /* what it wants */
    int32_t topic_count;
    struct assign_partition *owned;     /* what it says it has */
    int32_t owned_count;
    int32_t generation;                 /* in which it got that; -1 unknown */
};
/* Topics each once; those that nobody lists are left out. Everything is borrowed. */
struct assign_input {
    struct assign_member *members;
    int32_t member_count;
    struct assign_topic *topics;
    int32_t topic_count;
};
struct assign_row { struct str topic; int32_t partition, member; };
struct assign_output { struct assign_row *rows; int32_t count; }; /* ascending by topic and partition */

/* ERR_UNSUPPORTED: no such assignor. ERR_NOMEM. */
MUST_CHECK enum err group_assign(const char *assignor, const struct assign_input *in, struct assign_output *out);
void assign_free(struct assign_output *out);
/* Whether every name in "a,b" is one. */
bool assignors_known(const char *list);
#endif
