/* quotas.h - holding clients to their quotas: who is limited, what a request costs, and the pause that follows.
 *
 * A request that overdraws its quota is still done. Its answer leaves at once and says how long the client is to stay away,
 * and for that long nothing more is read from the connection (KIP-219). A Fetch is answered without records instead, so that
 * none are sent that were not paid for. Changes of metadata that overdraw are refused with THROTTLING_QUOTA_EXCEEDED where
 * the client knows that (KIP-599), else done and paid for by a pause.
 *
 * What is counted: the bytes of a Produce request; the bytes of records in a Fetch answer; the time that the connection's
 * reactor spends in a request's handler; partitions that are made or removed; connections that are accepted. Users are all
 * ANONYMOUS as long as nobody can say who they are. Which quota applies: quota_set.h; the buckets: quota_table.h.
 *
 * Thread: the connection's reactor, but for quota_change(), which is reactor 0's, and quota_connection(). */
#ifndef SERVER_QUOTAS_H
#define SERVER_QUOTAS_H
#include "server/image.h"
#include "server/quota_set.h"
#include "server/quota_table.h"
#include "server/request.h"

/* What limits the client of a connection: looked up again when its client id or the image changes. */
struct client_quotas {
    uint64_t edition;                    /* of the image; 0: not looked up */
    uint64_t client;                     /* hash of the client id */
    struct quota_limit limits[QUOTA_CLIENT_KEYS];
};

/* Most brokers have no quotas at all, and their requests should not pay for the question. */
static inline bool quotas_exist(const struct reactor *r) { return r->image && r->image->quotas; }

/* A Produce of so many bytes has arrived. */
void quota_produce(struct request *rq, size_t bytes);
/* The most that one Fetch answer may hold: what the quota gives at once after a pause. */
int64_t quota_fetch_max(struct request *rq, int64_t max_bytes);
/* False: the answer must go without records; they are not counted. */
bool quota_fetch(struct request *rq, uint64_t bytes);
/* Before and after a request's handler. 0: its time is not limited, and the other one is not called. */
int64_t quota_handler_begin(struct request *rq);
void quota_handler_end(struct request *rq, int64_t begun_ns);

/* `partitions` are to be made or removed for a request whose connection's reactor waits. `strict`: the client knows
 * THROTTLING_QUOTA_EXCEEDED. False: refuse with that. The pause is kept in `*throttle_ms` (the longest one). */
bool quota_change(struct request *rq, bool strict, int64_t partitions, int32_t *throttle_ms);
/* The pause that quota_change() found, back on the request's thread. */
void quota_pause(struct request *rq, int32_t throttle_ms);

/* Reactor 0: one more connection of an address. 0, or for how long to keep it waiting before it is closed. */
int64_t quota_connection(struct broker *b, struct str address, int64_t now_ns);

/* The position of throttle_time_ms in an answer's body that begins with it: whether this version has it. */
bool quota_answer_has_pause(int16_t api_key, int16_t version);
#endif
