/* reconcile.h - one for each reactor: what server/partition_reconcile.c remembers over the groups that are led there. */
#ifndef SERVER_RECONCILE_H
#define SERVER_RECONCILE_H
#include "server/broker.h"

struct reconciler;
MUST_CHECK struct reconciler *reconciler_new(struct reactor *r); /* NULL: memory */
void reconciler_free(struct reconciler *c);                      /* after the reactor has stopped */
/* The broker is about to stop: what is led here goes to others that can lead it, at once. */
void reconciler_leave(struct reconciler *c);
#endif
