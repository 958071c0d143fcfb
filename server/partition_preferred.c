/* partition_preferred.c - where a client should rather go: the leader (KIP-951), a replica in its own rack (KIP-392). */
#include "server/api_errors.h"
#include "server/image.h"
#include "server/partition_impl.h"
#include "server/peer.h"

int32_t partition_leader_hint(struct reactor *r, uint64_t group, int16_t error, int32_t *epoch) {
    if (error != KERR_NOT_LEADER_OR_FOLLOWER && error != KERR_FENCED_LEADER_EPOCH) return -1;
    struct leader_info known = partition_leader(r, partition_find(r, group), group);
    if (known.leader >= 0) *epoch = known.epoch;
    return known.leader;
}

static bool is_in_rack(const struct reactor *r, int32_t node, struct str rack) {
    const struct image_node *n = image_node(reactor_image(r), node);
    return n && str_is(rack, n->rack);
}

int32_t partition_preferred_replica(const struct reactor *r, uint64_t group, struct str rack) {
    const struct leader_info *known = leaders_get(r, group);
    int32_t self = r->broker->config.node_id;
    if (rack.len <= 0 || !known || known->leader != self || str_eq(rack, str_from(r->broker->config.broker_rack))) return -1;
    for (uint8_t i = 0; i < known->voters; i++) {
        int32_t node = known->members[i];
        if (node != self && known->in_sync >> i & 1 && is_in_rack(r, node, rack) && peer_is_up(r, node)) return node;
    }
    return -1;
}
