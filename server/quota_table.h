/* quota_table.h - how much of its quota each client has used: token buckets that all reactors share.
 *
 * A bucket is one number, the time at which it will be full again. With a rate of R a second and B seconds of burst it
 * holds R * (B - (full - now)) tokens; taking n moves `full` n/R later. If that is more than B seconds ahead, the bucket is
 * overdrawn, and the client is to stay away until it is not: overdraft / R, which is also what Kafka's (O - T) / T * W
 * comes to, W being its window. So the sustained rate is R, after a pause B seconds' worth may come at once (Kafka's full
 * windows: quota.window.num - 1 of them), and a client that is throttled loses nothing.
 *
 * Buckets live in a fixed table of atomics, found by the hash of whom they limit. A full bucket says the same as none, so
 * idle ones expire by themselves: their slot goes to whoever comes. When all the slots that a name may have are in use, the
 * fullest bucket gives way; a crowd of invented client ids so costs nothing but precision. The table belongs to the broker;
 * any thread may take from any bucket, without waiting for another. Time is an argument. */
#ifndef SERVER_QUOTA_TABLE_H
#define SERVER_QUOTA_TABLE_H
#include <stdatomic.h>
#include "base/bytes.h"
#include "base/compiler.h"

enum { QUOTA_SLOTS = 8192, QUOTA_PROBES = 8 };

struct quota_bucket {
    _Atomic uint64_t name;      /* hash; 0: free */
    _Atomic int64_t full_ns;
};
struct quota_table {
    uint64_t seed;              /* of the hash: names come from strangers */
    struct quota_bucket slots[QUOTA_SLOTS];
};

struct quota_limit {
    double rate;                /* tokens a second; 0: no limit */
    int64_t burst_ns;           /* how long at this rate may come at once */
    uint64_t name;              /* of the bucket: quota_name() */
};

/* NULL: no memory. free() it. */
MUST_CHECK struct quota_table *quota_table_new(uint64_t seed);
/* The bucket for `kind` (any small number) of a user, a client id, an address: null parts are not part of the name. The rate
 * is: who is given another quota begins anew, whatever the old one made them owe. */
uint64_t quota_name(const struct quota_table *t, uint32_t kind, double rate, struct str user, struct str client);

/* Takes `tokens` whether they are there or not. How long to stay away: 0, or at most QUOTA_DEBT_NS_MAX. */
#define QUOTA_DEBT_NS_MAX INT64_C(10000000000000000)
int64_t quota_take(struct quota_table *t, const struct quota_limit *l, double tokens, int64_t now_ns);
/* Takes them only if that does not overdraw the bucket, or if it is full: more than it can ever hold is not kept waiting for
 * ever. Else takes nothing and says how long it will be until they are there. */
int64_t quota_try(struct quota_table *t, const struct quota_limit *l, double tokens, int64_t now_ns);
/* How long the bucket will be overdrawn; 0: it is not. */
int64_t quota_overdrawn(struct quota_table *t, const struct quota_limit *l, int64_t now_ns);
#endif
