/* reconcile.h - one for each reactor: what server/partition_reconcile.c remembers over the groups that are led there. */
#ifndef SERVER_RECONCILE_H
#define SERVER_RECONCILE_H
#include "server/broker.h"

struct reconciler;
MUST_CHECK struct reconciler *reconciler_new(struct reactor *r); /* NULL: memory */
void reconciler_free(struct reconciler *c);                      /* after the reactor has stopped */
/* The broker is about to stop: what is led here goes to others that can lead it, at once. */
void reconciler_leave(struct reconciler *c);
/* The broker's disk has been full for RECONCILE_DISK_FULL_NS, and has not had room for RECONCILE_DISK_ROOM_NS since: it leads topics'
 * partitions only where nobody else can (other brokers hear of it with pings). False without a reconciler. */
#define RECONCILE_DISK_FULL_NS INT64_C(1000000000)
#define RECONCILE_DISK_ROOM_NS INT64_C(5000000000)
bool reconciler_disk_is_full(const struct reactor *r);
#endif
