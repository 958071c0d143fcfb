/* check_rest.c - what brokers must know and have when everything has come to rest: members of each group as metadata wants them, replicas where they
 * belong and nowhere else, and every broker able to tell a client who leads what and who is in sync. */
#include <stdarg.h>
#include "server/controller.h"
#include "server/image.h"
#include "server/leaders.h"
#include "server/partition_impl.h"
#include "tests/sim/cluster/cluster.h"

static char what[200];
__attribute__((format(printf, 1, 2))) static const char *missing(const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    return what;
}

static struct reactor *owner(struct node *n, const struct image_partition *p) { return &n->broker.reactors[p->owner]; }

static bool is_voter(const struct replica_config *config, int32_t node) {
    for (int i = 0; i < config->voters; i++)
        if (config->members[i].node == node) return true;
    return false;
}

static const char *check_replicas(struct cluster *c, const struct image_topic *t, const struct image_partition *p, const struct partition **leader) {
    int k = (int)(p - t->partitions);
    *leader = NULL;
    if (image_partition_is_moving(p)) return missing("%s-%d: its reassignment does not end", t->name, k);
    for (uint32_t i = 1; i <= c->node_count; i++) {
        const struct partition *here = partition_find(owner(&c->nodes[i], p), p->plid);
        bool wanted = image_replica_of(p, (int32_t)i) != NULL;
        if (wanted != (here && !here->gone)) return missing("%s-%d: node %u has a replica%s", t->name, k, i, wanted ? " to have" : ", which should be gone");
        if (here && here->replica.role == REPLICA_LEADER && here->replica.established) *leader = here;
    }
    if (!*leader) return missing("%s-%d has no leader", t->name, k);
    const struct replica_config *config = &(*leader)->replica.config;
    bool same = config->voters == p->replica_count && config->count == config->voters;
    for (int32_t i = 0; i < p->replica_count; i++) same &= is_voter(config, p->replicas[i]);
    return same ? NULL : missing("%s-%d: its members are not those that metadata names", t->name, k);
}

static const char *check_known(struct cluster *c, const struct image_topic *t, const struct image_partition *p, const struct partition *leader) {
    const struct replica_config *config = &leader->replica.config;
    int32_t node = leader->replica.self.node;
    for (uint32_t i = 1; i <= c->node_count; i++) {
        struct reactor *r = owner(&c->nodes[i], p);
        struct leader_info known = partition_leader(r, partition_find(r, p->plid), p->plid);
        int k = (int)(p - t->partitions);
        if (known.leader != node || known.epoch != leader->replica.epoch || !known.established)
            return missing("%s-%d: node %d leads in epoch %d; node %u says node %d, epoch %d", t->name, k, node, leader->replica.epoch, i, known.leader, known.epoch);
        bool same = known.count == config->count && known.voters == config->voters;
        for (int m = 0; m < config->count && same; m++) same = known.members[m] == config->members[m].node && (known.in_sync >> m & 1);
        if (!same) return missing("%s-%d: node %u does not say that all its members are in sync", t->name, k, i);
    }
    return NULL;
}

static const char *check_quorum(struct cluster *c, const struct image *im) {
    for (uint32_t i = 1; i <= c->node_count && c->node_count > 1; i++)
        for (uint32_t q = 0; q < c->reactors; q++) {
            const struct partition *p = partition_find(&c->nodes[i].broker.reactors[q], METADATA_GROUP);
            if (!p || p->replica.role != REPLICA_LEADER) continue;
            bool same = p->replica.config.voters == im->quorum_voter_count;
            for (uint32_t v = 0; v < im->quorum_voter_count && same; v++) same = is_voter(&p->replica.config, im->quorum_voters[v]);
            if (!same) return missing("the voters of the metadata log are not those that metadata names");
        }
    return NULL;
}

const char *check_rest(struct cluster *c) {
    const struct image *im = atomic_load(&c->nodes[1].broker.image);
    for (uint32_t i = 2; i <= c->node_count; i++)
        if (atomic_load(&c->nodes[i].broker.image)->metadata_end != im->metadata_end) return missing("nodes 1 and %u have not read the same metadata", i);
    for (uint32_t t = 0; t < im->topic_count; t++)
        for (int32_t k = 0; k < im->by_name[t]->partition_count; k++) {
            const struct partition *leader;
            const struct image_partition *p = &im->by_name[t]->partitions[k];
            const char *why = check_replicas(c, im->by_name[t], p, &leader);
            if (!why) why = check_known(c, im->by_name[t], p, leader);
            if (why) return why;
        }
    return check_quorum(c, im);
}
