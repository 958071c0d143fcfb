/* metadata.h - the topics a client works with: partitions, leaders, epochs, ids.
 *
 * A topic enters the cache when somebody asks for it and stays. Refreshes run in the background of
 * client_turn(): when wanted, when old, and again with back-off while anything is missing.
 * Leader epochs never go backwards: an answer from a broker that lags is ignored, per partition. */
#ifndef CLIENT_METADATA_H
#define CLIENT_METADATA_H
#include <stdint.h>
#include "base/bytes.h"
#include "base/err.h"

struct client;
struct conn;
struct k_metadata_response;

struct partition_meta {
    int32_t leader, leader_epoch; /* -1: none, unknown */
    int16_t error;
};
struct topic_meta {
    struct topic_meta *next;
    char *name;
    struct uuid id;               /* zero: none told */
    bool create;                  /* may be created by asking for it */
    bool asked;                   /* an answer about it has come; then `error` counts */
    int16_t error;
    struct partition_meta *partitions;
    int32_t partition_count;      /* 0 until known; kept when a later answer is an error */
};
struct metadata {
    struct topic_meta *topics;
    int32_t controller;           /* -1 */
    uint64_t answers;             /* refreshes that came back, well or not */
    bool wanted, in_flight;
    struct conn *asked;           /* whom, while in flight */
    int64_t refreshed_ns, retry_at_ns;
    int32_t failures;
    char why[160];                /* of the latest failed refresh; "" when it went well */
};

/* Finds or adds; adding makes a refresh due. NULL: memory. */
struct topic_meta *metadata_topic(struct client *c, const char *name, bool create);
void metadata_want(struct client *c);
/* The leader, or NULL when there is none or the partition is not known. */
const struct partition_meta *metadata_leader(const struct topic_meta *t, int32_t partition);
/* Turns until the topic's partitions are known. ERR_NOT_FOUND, ERR_TIMEOUT, ERR_CLOSED, or what its error means. */
MUST_CHECK enum err metadata_wait(struct client *c, struct topic_meta *t, int64_t deadline_ns);

/* For client_turn(): begins a due refresh. When the next one is due: INT64_MAX for never. */
void metadata_pump(struct client *c, int64_t now_ns);
int64_t metadata_deadline(const struct client *c);
void metadata_free(struct client *c);
#endif
