/* reassign.h - the controller's part in moving replicas: what it writes, and what it starts by itself.
 *
 * A reassignment is a record that names all replicas, those that come and those that leave (proto/metadata.proto). The partition's
 * leader drives its configuration there (server/partition_reconcile.c) and says so to the controller, which then writes the
 * record without those that left; they delete their logs when they read it. A leader says it only when a majority of the new
 * voters has stored the new configuration: whoever leads afterwards knows that those who left vote no more.
 *
 * By itself the controller gives internal topics more replicas when brokers join (server/internal_topics.h), and moves what drained
 * brokers hold to others, a few partitions at a time.
 *
 * Thread: reactor 0's, but where it is said. */
#ifndef SERVER_REASSIGN_H
#define SERVER_REASSIGN_H
#include "server/controller.h"
#include "server/image.h"

/* Writes what the replicas of `p` are to be: `nodes`, in this order, at most IMAGE_REPLICAS_MAX and each once. Who has one keeps it
 * (a replica that was leaving stays), others come, and who is not named leaves. Nothing when it is so already. */
void reassign_to(struct controller_edit *e, const struct image_topic *t, int32_t partition, const int32_t *nodes, int32_t count);
/* Back to the replicas from before the reassignment. False: none is running. */
bool reassign_cancel(struct controller_edit *e, const struct image_topic *t, int32_t partition);
/* Whether both together are no more than a partition may have: those that come and those that leave. */
bool reassign_fits(const struct image_partition *p, const int32_t *nodes, int32_t count);

/* A leader says that the members of a partition are as the record at `replicas_offset` wants them. */
struct reassign_at_target { struct uuid topic; int32_t partition; uint64_t replicas_offset; };
void reassign_complete(struct controller_edit *e, const struct reassign_at_target *list, uint32_t count);

/* Serves the calls of leaders, and looks after internal topics and drained brokers while this broker is the controller.
 * Before broker_start() / once metadata is there. */
void reassign_open(struct broker *b);
struct reassigner;
MUST_CHECK struct reassigner *reassigner_new(struct broker *b); /* NULL: memory */
void reassigner_start(struct reassigner *s);
void reassigner_free(struct reassigner *s); /* after the reactors have stopped */
#endif
