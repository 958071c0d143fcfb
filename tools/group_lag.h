/* group_lag.h - how far behind a group is, in records and in time. */
#ifndef TOOLS_GROUP_LAG_H
#define TOOLS_GROUP_LAG_H
#include "client/client.h"

/* One partition. Set topic, partition, committed; group_lag() finds out the rest. */
struct lag {
    const char *topic;
    int32_t partition;
    int64_t committed;            /* -1: nothing is committed */
    int64_t end;                  /* -1: not known */
    int64_t records;              /* end - committed; -1: not known */
    /* The age of the first record that is not consumed yet, by its timestamp and our clock: how long somebody has waited
     * for it. 0 when there is none; -1: not known. Where that record is deleted already: of the first that is left. */
    int64_t ms;
    enum err err;                 /* why `end` is not known */
};
/* Asks for the ends, and reads one record of each partition that lags. The rows' errors are in them. */
void group_lag(struct client *c, struct lag *rows, int32_t count, int32_t timeout_ms);
#endif
