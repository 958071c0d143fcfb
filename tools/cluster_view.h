/* cluster_view.h - what the brokers together say of the cluster, and what is wrong with each partition. */
#ifndef TOOLS_CLUSTER_VIEW_H
#define TOOLS_CLUSTER_VIEW_H
#include "tools/cli.h"
#include "tools/json_out.h"

struct cluster_view {
    struct admin_nodes *nodes;
    struct admin_quorum *quorum;               /* NULL: not to be had, which was told, or there is no controller */
    struct client_cluster *cluster;            /* all topics */
    struct admin_reassignments *moves;         /* NULL: not to be had, which was told */
    int code;                                  /* of what could not be had; EXIT_OK */
};
/* EXIT_OK, or nothing is there and why was printed. */
int view_load(struct cluster_view *v, struct client *c, const struct options *o);
void view_free(struct cluster_view *v);

const struct admin_node *view_node(const struct cluster_view *v, int32_t id); /* NULL: nobody knows it */
bool view_is_up(const struct cluster_view *v, int32_t id);
const struct admin_quorum_member *view_member(const struct cluster_view *v, int32_t id); /* of the metadata quorum; NULL */
const struct admin_reassignment *view_move(const struct cluster_view *v, const char *topic, int32_t partition); /* NULL: none */

enum partition_state { PARTITION_OK, PARTITION_MOVING, PARTITION_NOT_PREFERRED, PARTITION_UNDER_REPLICATED, PARTITION_OFFLINE };
/* The worst that is true of it. */
enum partition_state view_state(const struct cluster_view *v, const struct client_topic *t, const struct client_partition *p);
const char *partition_state_name(enum partition_state state);
bool id_in(int32_t id, const int32_t *ids, int32_t count);
/* "1,2,3" into `text`; "-" when there are none. */
void ids_text(char *text, size_t size, const int32_t *ids, int32_t count);
void json_ids(struct json_out *json, const char *key, const int32_t *ids, int32_t count);

/* The min.insync.replicas of a topic; 1 when it cannot be had. */
int32_t view_min_in_sync(struct client *c, const struct options *o, const char *topic);

/* "TOPIC" (all partitions), "TOPIC:0,1" or "TOPIC-0". Calls `each` with every one; EXIT_OK, or what failed last. */
typedef int partition_fn(void *ctx, const struct client_topic *t, const struct client_partition *p);
int view_select(const struct cluster_view *v, const struct options *o, const char *text, partition_fn *each, void *ctx);
#endif
