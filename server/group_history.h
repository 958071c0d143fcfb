/* group_history.h - the last rebalances of a group: what began each, how long it took, who came last.
 *
 * Pure. It is told what is being done to the group (a note), and sees the group after everything that may have changed it:
 * a rebalance begins when the group is in one, or has another epoch, that it was not seen in before. The note before that is
 * its cause. Kept in memory only: it begins anew with the coordinator. For `varve group explain`; Kafka's protocol has no place
 * for it. Times are Unix time in milliseconds. */
#ifndef SERVER_GROUP_HISTORY_H
#define SERVER_GROUP_HISTORY_H
#include "base/bytes.h"

enum { HISTORY_MAX = 16, HISTORY_ID_BYTES = 64 };
enum history_cause {                     /* numbers of DescribeGroupHistory */
    HISTORY_UNKNOWN, HISTORY_JOINED, HISTORY_LEFT,
    HISTORY_SILENT,                      /* a deadline passed: session, rebalance */
    HISTORY_CHANGED                      /* a member wants something else, or topics have changed */
};
struct history_id { uint8_t len; char text[HISTORY_ID_BYTES]; }; /* cut off if longer */

struct rebalance {
    int64_t begun_ms, elapsed_ms;        /* elapsed -1: not over */
    int32_t epoch, members;              /* generation or group epoch, and how many, when it was over */
    enum history_cause cause;
    struct history_id by;                /* of the cause; empty: not known */
    struct history_id last;              /* whose request was the last one before it was over */
    int64_t last_after_ms;
};

struct group_history {
    struct rebalance ring[HISTORY_MAX];
    uint32_t count;                      /* ever; the newest is ring[(count - 1) % HISTORY_MAX] */
    bool in_rebalance;
    int32_t epoch;                       /* as last seen */
    enum history_cause cause;            /* the latest note */
    struct history_id by;
};

/* `epoch`: the group's now, before anything has happened. */
void group_history_init(struct group_history *h, int32_t epoch);
/* A member does something (null: nobody in particular). `joining`: towards the end of a rebalance, if there is one. */
void group_history_note(struct group_history *h, enum history_cause cause, struct str member, bool joining, int64_t now_ms);
void group_history_see(struct group_history *h, bool in_rebalance, int32_t epoch, int32_t members, int64_t now_ms);
uint32_t group_history_size(const struct group_history *h);
/* 0: the oldest that is kept. */
const struct rebalance *group_history_at(const struct group_history *h, uint32_t i);
#endif
