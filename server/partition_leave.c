/* partition_leave.c - a broker that is about to stop hands over what it leads, so that clients lose no more than a round trip. */
#include "server/partition_impl.h"
#include "server/reconcile.h"

void partition_map_leave(struct partition_map *m) {
    m->leaving = true;
    reconciler_leave(m->reactor->reconciler);
}

static bool another_could_lead(const struct partition *p) {
    const struct replica *r = &p->replica;
    for (uint32_t i = 0; i < r->config.voters; i++)
        if (!replica_member_eq(&r->config.members[i], &r->self) && replica_keeps_up(r, &r->config.members[i], p->map->reactor->awake_ns))
            return true;
    return false;
}

uint32_t partition_map_to_hand_over(const struct partition_map *m) {
    uint32_t n = 0;
    for (const struct partition *p = m->by_plid; p; p = p->hh.next)
        n += p->started && !p->gone && partition_is_led(p) && another_could_lead(p);
    return n;
}
