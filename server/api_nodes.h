/* api_nodes.h - the brokers of the cluster as one client is shown them, and what it is told of a partition's leader.
 *
 * A client is told, for each broker, the address that that broker registered for the listener with the same name as the one that the
 * client came through; for this broker, as request_advertised() says. Brokers that are not up, or have no such listener, are not shown.
 *
 * Everything is copied into the request's memory. Thread: the request's reactor. */
#ifndef SERVER_API_NODES_H
#define SERVER_API_NODES_H
#include "server/api.h"
#include "server/leaders.h"

struct api_node {
    int32_t id, port;
    struct str host, rack;               /* host null: it has no such listener; rack null: none */
    bool up;
};
struct api_nodes { struct api_node *list; int32_t count; }; /* registered brokers and this one, ascending */

MUST_CHECK bool api_nodes_get(struct request *rq, struct api_nodes *out);           /* false: closing */
MUST_CHECK bool api_nodes_try(struct request *rq, struct api_nodes *out);           /* false: no memory */
void api_nodes_look(const struct request *rq, struct api_nodes *n);                 /* who of them is up now */
const struct api_node *api_nodes_find(const struct api_nodes *n, int32_t id);       /* NULL: neither registered nor this one */
static inline bool api_node_is_shown(const struct api_node *n) { return n->up && n->host.p; }

/* id -1 and an error when nobody leads who can be reached. */
struct api_leader { int32_t id, epoch; int16_t error; };
struct api_leader api_leader_of(const struct api_nodes *n, const struct leader_info *info);

/* Which of `replicas` are in sync, in their order, into `out` (room for `count`): as the leader said; without one, those of them that are up
 * or, if none is, the last one that led. As Kafka's tools expect, it is never empty when there are replicas. */
int32_t api_in_sync(const struct api_nodes *n, const struct leader_info *info, const int32_t *replicas, int32_t count, int32_t *out);
/* Which of `replicas` are on brokers that are not up. */
int32_t api_offline(const struct api_nodes *n, const int32_t *replicas, int32_t count, int32_t *out);
#endif
