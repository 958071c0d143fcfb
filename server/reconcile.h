/* reconcile.h - one for each reactor: what server/partition_reconcile.c remembers over the groups that are led there. */
#ifndef SERVER_RECONCILE_H
#define SERVER_RECONCILE_H
#include "server/broker.h"
#include "server/peer_wire.h"

struct reconciler;
MUST_CHECK struct reconciler *reconciler_new(struct reactor *r); /* NULL: memory */
void reconciler_free(struct reconciler *c);                      /* after the reactor has stopped */
/* The broker is about to stop: what is led here goes to others that can lead it, at once. */
void reconciler_leave(struct reconciler *c);
/* The broker's disk. FULL: it has been for RECONCILE_DISK_FULL_NS; then it leads topics' partitions only where nobody else can. STUCK: a
 * write that others wait for was still under way after RECONCILE_DISK_STUCK_LOOKS looks, half a second apart (so that a pause of the whole
 * process is not taken for that); then it leads nothing that somebody else can. Both last until it has been well for RECONCILE_DISK_WELL_NS; one
 * that is stuck again soon after that, for twice as long, and so on up to RECONCILE_DISK_WELL_MAX_NS. Other brokers hear of it with pings. WELL
 * without a reconciler. */
#define RECONCILE_DISK_FULL_NS INT64_C(1000000000)
#define RECONCILE_DISK_WELL_NS INT64_C(5000000000)
#define RECONCILE_DISK_WELL_MAX_NS INT64_C(40000000000)
enum { RECONCILE_DISK_STUCK_LOOKS = 4 };
enum peer_disk reconciler_disk(const struct reactor *r);
/* The same for others: each reactor says it for itself, but all send pings, and who hears them asks for the broker. STUCK if one says so. */
enum peer_disk reconciler_disk_of_broker(const struct reactor *r);
#endif
