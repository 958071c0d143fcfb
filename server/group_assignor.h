/* group_assignor.h - server-side assignors (KIP-848): which member is to have which partitions.
 *
 * Every partition of every topic that somebody subscribes to goes to exactly one of its subscribers.
 *   uniform  as even as can be, and nobody loses what they need not lose. With equal subscriptions the members' numbers differ
 *            by one at most; else no single move would make them more even.
 *   range    for each topic, subscribers in order get consecutive ranges, so partition n of topics of equal size and equal
 *            subscribers meets at the same member. Knows no stickiness.
 * Order: static members by instance id, then the others by member id. As in Kafka 4.3, racks play no part.
 *
 * Pure, and for any thread. */
#ifndef SERVER_GROUP_ASSIGNOR_H
#define SERVER_GROUP_ASSIGNOR_H
#include "server/group_parts.h"

struct assignor_topic { struct uuid id; int32_t partitions; };
struct assignor_member {
    struct str id, instance_id;            /* instance_id: null for dynamic members */
    const uint32_t *topics;                /* indexes of what it subscribes to, ascending */
    uint32_t topics_n;
    struct group_parts current;            /* its target so far; topics that are gone may be in it */
    struct group_parts target;             /* out, in the arena */
};
struct assignor_input {
    const struct assignor_topic *topics;   /* ascending by id */
    uint32_t topics_n;
    struct assignor_member *members;       /* any order; come out in the order above */
    uint32_t members_n;
};
/* ERR_NOMEM: the arena is full. */
typedef enum err assignor_fn(struct assignor_input *in, struct arena *arena);
assignor_fn assignor_uniform, assignor_range;
/* NULL: no such. */
assignor_fn *assignor_by_name(struct str name);
/* Sorts the members. */
void assignor_order(struct assignor_input *in);
/* The work that an assignment takes, about linear in time. */
uint64_t assignor_cost(const struct assignor_input *in);
#endif
