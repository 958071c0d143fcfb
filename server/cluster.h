/* cluster.h - which cluster this broker belongs to, and how it came to be in it.
 *
 * A directory with a metadata log knows its cluster: the one that its `varve.meta` names. A blank one (no logs at all) of a
 * broker with a peer listener does not: it has an incarnation and waits. It asks the brokers that it was told of
 * (controller.quorum.voters, else controller.quorum.bootstrap.servers) what they know:
 *
 *   FORMING   all listed voters are blank: the one with the lowest id proposes {cluster id, configuration (0,1) of the metadata
 *             log with all incarnations}. It is stored by the proposer first, so that a crash anywhere goes on with it
 *   JOINING   somebody knows a cluster: its id is stored, an empty metadata log is made (a founding voter: one with the
 *             founding configuration), and the broker registers
 *   MEMBER    registered, and metadata is here up to where it was when that was answered: clients are served
 * A broker without a peer listener is ALONE: a cluster of its own, formed at its first start (docs/replication.md, Forming).
 *
 * Threads: what is declared here may be asked on any. */
#ifndef SERVER_CLUSTER_H
#define SERVER_CLUSTER_H
#include "base/bytes.h"
#include "server/broker.h"

enum cluster_stage { CLUSTER_ALONE, CLUSTER_FORMING, CLUSTER_JOINING, CLUSTER_MEMBER };
enum cluster_stage cluster_stage(const struct broker *b);

/* False: none yet (FORMING). It never changes once there is one. */
bool cluster_id(const struct broker *b, struct uuid *out);
#endif
