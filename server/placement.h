/* placement.h - which brokers get the replicas of new partitions.
 *
 * Brokers are put in a row in which racks alternate for as long as they can. The first replica, which is preferred as leader, goes
 * round the row: leaders are even however brokers are spread over racks. The others go on from there, with a step that grows
 * after each round (so that a lost broker's load spreads over all others), and leave out racks that have a replica already for
 * as long as there are others (KIP-36).
 *
 * Brokers that are not up come behind all that are, and never first; drained ones never. Pure; the same input gives the same output. */
#ifndef SERVER_PLACEMENT_H
#define SERVER_PLACEMENT_H
#include "server/broker.h"

enum { PLACEMENT_NODES_MAX = 65 };           /* this broker and its peers */
struct placement_node {
    int32_t node;
    const char *rack;                        /* borrowed; NULL or empty: none, which counts as one rack */
    bool up, drained;
};
struct placement {
    uint32_t up, count;                      /* the first `up` of the row are up */
    uint32_t registered;                     /* drained ones included */
    struct { int32_t node; uint32_t rack; } row[PLACEMENT_NODES_MAX];
    uint32_t racks, racks_up;
    uint64_t next;                           /* partitions placed so far */
};

/* At most PLACEMENT_NODES_MAX nodes, each once. `first`: where in the row the next partition begins, any number; consecutive
 * numbers for consecutive partitions keep leaders even. */
void placement_init(struct placement *p, const struct placement_node *nodes, uint32_t count, uint64_t first);
/* Replicas of the next partition: 1 <= count <= p->count, and p->up > 0. */
void placement_next(struct placement *p, int32_t *out, uint32_t count);

/* More replicas for a partition that has `count` already (in `nodes`, which has room for `wanted`): brokers that are up, racks without
 * one first. Returns how many it has then, perhaps fewer than `wanted`. */
uint32_t placement_extend(struct placement *p, int32_t *nodes, uint32_t count, uint32_t wanted);

struct image;
/* Of the brokers that the image shows, as alive as reactor 0 sees them; a broker alone: of itself. Reactor 0's thread. */
void placement_of_image(struct placement *p, const struct broker *b, const struct image *im, uint64_t first);
/* Whether `node` may be named in an assignment. Reactor 0's thread. */
bool placement_knows(const struct broker *b, const struct image *im, int32_t node);
/* Whether it is up, too. */
bool placement_is_up(const struct broker *b, const struct image *im, int32_t node);
#endif
