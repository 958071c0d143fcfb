/* api_assignment.h - what clients may ask of replica assignments: checked as Kafka does. Reactor 0's thread. */
#ifndef SERVER_API_ASSIGNMENT_H
#define SERVER_API_ASSIGNMENT_H
#include "server/api.h"
#include "server/placement.h"

/* The replicas of one partition, named by a client: each a broker that exists and is not drained, each once, not more than a
 * partition may have. KERR_NONE, or INVALID_REPLICA_ASSIGNMENT and why. */
int16_t assignment_check(struct request *rq, const struct image *im, const int32_t *nodes, int32_t count, struct str *why);
/* Of a new partition, which needs somebody who can lead it at once. */
int16_t assignment_check_new(struct request *rq, const struct image *im, int32_t partition, const int32_t *nodes, int32_t count, struct str *why);
/* A number of replicas that the brokers of `p` can hold. KERR_NONE, or INVALID_REPLICATION_FACTOR and why. */
int16_t assignment_check_factor(struct request *rq, const struct placement *p, int32_t factor, struct str *why);
#endif
