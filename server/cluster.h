/* cluster.h - which cluster this broker belongs to, and how it came to be in it.
 *
 * A directory with a metadata log knows its cluster: the one that its `varve.meta` names. A blank one (no logs at all) of a
 * broker with a peer listener does not: it has an incarnation and waits. It asks the brokers that it was told of
 * (controller.quorum.voters, controller.quorum.bootstrap.servers) what they know:
 *
 *   FORMING   nobody is known to know a cluster. When all listed voters have said that they are blank, the one with the lowest
 *             id makes a metadata log whose configuration (0,1) has all of them with their incarnations: the cluster exists.
 *             The others hear of it the next time they ask
 *   JOINING   the cluster is known and its metadata log is here (empty for now; who is not in the configuration waits for the
 *             leader to add it); the broker registers with the controller
 *   MEMBER    registered, and metadata is here up to where it was when that was answered: clients are served
 * A broker without a peer listener is ALONE: a cluster of its own, formed at its first start. One with a peer listener and without
 * other voters and bootstrap servers forms one of its own as well; others may join that (docs/replication.md, Forming).
 *
 * Threads: reactor 0's, but for what is said to be asked on any. */
#ifndef SERVER_CLUSTER_H
#define SERVER_CLUSTER_H
#include "base/bytes.h"
#include "server/broker.h"
#include "server/peer_wire.h"

enum cluster_stage { CLUSTER_ALONE, CLUSTER_FORMING, CLUSTER_JOINING, CLUSTER_MEMBER };
/* Any thread. */
enum cluster_stage cluster_stage(const struct broker *b);
/* False: none yet (FORMING). It never changes once there is one. Any thread. */
bool cluster_id(const struct broker *b, struct uuid *out);

/* ---- life (server/broker.c, server/controller*.c) ---- */
/* Before the threads start, after the controller. ERR_NOMEM. */
MUST_CHECK enum err cluster_open(struct broker *b);
/* There is no metadata log: forms or joins, then metadata_log_begin(). */
void cluster_find(struct broker *b);
/* The metadata log is here (again): registers, and keeps its record as it should be. */
void cluster_join(struct broker *b);
/* The client listeners are open: their ports are known now. */
void cluster_listening(struct broker *b);
/* Whether the image of `r`, the caller's reactor, certainly has all that was committed to the metadata log at `since_ns` (io_mono_ns()): what
 * it lacks is gone then, and not merely unheard of. If that is not known the controller is asked: another time it may be. */
bool cluster_knows_since(struct reactor *r, int64_t since_ns);
/* A new image is the newest: where other brokers are, whether this one is still one of them. */
void cluster_image(struct broker *b);
/* Another broker refused a connection, or was refused one (struct peer_hooks): what that means is in cluster_refused.c. */
void cluster_refused(struct broker *b, const char *host, uint16_t port, enum peer_refusal why, const struct uuid *theirs);
void cluster_stop(struct broker *b);
void cluster_close(struct broker *b);
#endif
