/* forward.h - requests that only the controller can answer and that came to another broker.
 *
 * They go there as they are (PEER_CALL_CLIENT_REQUEST, proto/forward.proto), the handler there runs for a request without a
 * connection, and the body of its answer comes back behind a header of this connection's. So clients need not know who the controller
 * is, as in Kafka. What was forwarded is never forwarded again: a broker that is not the controller any more says so, and the one that
 * asked looks for the new one.
 *
 * Before the answer leaves, this reactor's image has what the request did (for FORWARD_IMAGE_NS at most): who creates a topic here
 * can use it here.
 *
 * While no controller is known, or it cannot be reached, the request waits for FORWARD_WAIT_NS; then it is handled here, where the
 * controller's functions fail with ERR_NOT_CONTROLLER and each handler says that in its own way.
 *
 * A controller that dies with the request makes it be sent again, to the next one, so it may be done twice; Kafka's brokers do the same.
 * None of these requests adds to what is there: each says what shall be (so many partitions, these replicas, this value; an element of a
 * list is there once), so that the second time changes nothing. What it may do is answer as if somebody else had been faster:
 * TOPIC_ALREADY_EXISTS, UNKNOWN_TOPIC_OR_PARTITION, INVALID_PARTITIONS, DUPLICATE_VOTER, VOTER_NOT_FOUND, BROKER_ID_NOT_REGISTERED,
 * ELECTION_NOT_NEEDED; who retries such a request itself meets the same.
 * NOT_CONTROLLER or a timeout instead would be no better: clients send the request again then, and know no more than we whether it was done.
 * A request whose second time would add something must not be made `for_controller` without a number that tells the two apart.
 *
 * Thread: the request's reactor; serving: reactor 0. */
#ifndef SERVER_FORWARD_H
#define SERVER_FORWARD_H
#include "server/peer.h"
#include "server/request.h"

#define FORWARD_WAIT_NS INT64_C(5000000000)
#define FORWARD_CALL_NS INT64_C(30000000000)
#define FORWARD_IMAGE_NS INT64_C(1000000000)
enum { FORWARD_COPIES_MAX = 64, FORWARD_SERVED_MAX = 256 };

/* Before broker_start(): takes calls. */
void forward_open(struct broker *b);
/* Whether `rq` is to be handled by the controller and that is not here. */
bool forward_wanted(struct request *rq, const struct api *api);
/* In the place of the handler. */
void forward_request(struct request *rq);
/* A copy of the request goes to the controller for what it causes there (a topic made on first use); the answer is not used. `done`:
 * true: it was done, and this reactor's image shows it. NULL: nobody waits; `rq` may go meanwhile. */
void forward_copy(struct request *rq, void (*done)(struct request *rq, bool ok));
#endif
