/* config.h - who belongs to a replica group: voters, learners, and which of two configurations is newer.
 *
 * Configurations are not log entries, which would take offsets away from users: they are values with an id
 * (epoch of the leader that made it, version), stored when met, the newest one in force wherever it is stored
 * ("logless" reconfiguration: Schultz, Dardik, Tripakis, OPODIS 2021). Each differs from the one before it by at most one
 * voter, so their quorums intersect. A member is a node *and* its incarnation: a node that lost its disk is another member. */
#ifndef REPLICATION_CONFIG_H
#define REPLICATION_CONFIG_H
#include <string.h>
#include "base/bytes.h"

#define REPLICA_LIVES_MAX (1u << 23)
struct replica_member { int32_t node; struct uuid incarnation; };
static inline bool replica_member_eq(const struct replica_member *a, const struct replica_member *b) {
    return a->node == b->node && uuid_eq(&a->incarnation, &b->incarnation);
}

/* A replica that left its node and came back begins with an empty log: it has forgotten what it voted and acknowledged, so it is another
 * member, whose incarnation differs from the node's in the last bytes. The first life: the node's own. */
static inline struct uuid replica_incarnation(const struct uuid *node, uint32_t life) {
    struct uuid u = *node;
    for (int i = 0; i < 4; i++) u.b[12 + i] ^= (uint8_t)(life >> (8 * (3 - i)));
    return u;
}
/* Which life of a replica on `node` has `member`. False: of none, it is of another disk. */
static inline bool replica_life(const struct uuid *node, const struct uuid *member, uint32_t *life) {
    *life = 0;
    for (int i = 0; i < 4; i++) *life |= (uint32_t)(node->b[12 + i] ^ member->b[12 + i]) << (8 * (3 - i));
    return memcmp(node->b, member->b, 12) == 0 && *life < REPLICA_LIVES_MAX;
}

enum {
    REPLICA_MEMBERS_MAX = 9,
    REPLICA_OBSERVERS_MAX = 64           /* who is sent the log without being a member: REPLICA_OBSERVE */
};
struct replica_config_id { int32_t epoch, version; };
struct replica_config {
    struct replica_config_id id;
    uint8_t voters, count;               /* the first `voters` of `count` members vote, the others learn */
    struct replica_member members[REPLICA_MEMBERS_MAX];
};

static inline int replica_config_compare(struct replica_config_id a, struct replica_config_id b) {
    if (a.epoch != b.epoch) return a.epoch < b.epoch ? -1 : 1;
    return (a.version > b.version) - (a.version < b.version);
}
static inline uint32_t replica_config_majority(const struct replica_config *c) { return c->voters / 2u + 1; }
/* Index in `members`, or -1. */
int replica_config_find(const struct replica_config *c, const struct replica_member *m);
bool replica_config_has_node(const struct replica_config *c, int32_t node); /* as whichever incarnation */
bool replica_config_is_voter(const struct replica_config *c, const struct replica_member *m);
/* Whether at most one voter differs, so that any two majorities share a member. */
bool replica_config_is_single_step(const struct replica_config *from, const struct replica_config *to);
/* Counts in range, no node twice. */
bool replica_config_is_valid(const struct replica_config *c);
#endif
