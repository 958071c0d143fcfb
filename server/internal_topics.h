/* internal_topics.h - the topics that the cluster makes for itself: min(3, brokers) replicas, and of these min(2, replicas) in
 * sync for a write. What was made when there were fewer brokers is raised when more have joined (server/reassign.h). */
#ifndef SERVER_INTERNAL_TOPICS_H
#define SERVER_INTERNAL_TOPICS_H
#include "server/controller.h"
#include "server/image.h"

enum { INTERNAL_REPLICAS = 3, INTERNAL_IN_SYNC = 2 };

/* Adds `__consumer_offsets` to a change unless it is there or may not be (said in the trace). */
void internal_topics_add_offsets(struct controller_edit *e);
/* min.insync.replicas that a topic with `replicas` replicas is to have. */
int32_t internal_topics_in_sync(int32_t replicas);
/* Adds min.insync.replicas of an internal topic to a change. */
void internal_topics_set_in_sync(struct controller_edit *e, struct str topic, int32_t replicas);
#endif
