/* config.h - who belongs to a replica group: voters, learners, and which of two configurations is newer.
 *
 * Configurations are not log entries, which would take offsets away from users: they are values with an id
 * (epoch of the leader that made it, version), stored when met, the newest one in force wherever it is stored
 * ("logless" reconfiguration: Schultz, Dardik, Tripakis, OPODIS 2021). Each differs from the one before it by at most one
 * voter, so their quorums intersect. A member is a node *and* its incarnation: a node that lost its disk is another member. */
#ifndef REPLICATION_CONFIG_H
#define REPLICATION_CONFIG_H
#include "base/bytes.h"

struct replica_member { int32_t node; struct uuid incarnation; };
static inline bool replica_member_eq(const struct replica_member *a, const struct replica_member *b) {
    return a->node == b->node && uuid_eq(&a->incarnation, &b->incarnation);
}

enum { REPLICA_MEMBERS_MAX = 9 };
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
bool replica_config_is_voter(const struct replica_config *c, const struct replica_member *m);
/* Whether at most one voter differs, so that any two majorities share a member. */
bool replica_config_is_single_step(const struct replica_config *from, const struct replica_config *to);
/* Counts in range, no node twice. */
bool replica_config_is_valid(const struct replica_config *c);
#endif
