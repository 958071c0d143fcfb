/* reconcile_plan.h - the next single step of a replica group's configuration towards what metadata wants. Pure.
 *
 * A configuration may change by one voter at a time (replication/config.h), so a reassignment is many: replicas that come learn
 * first, vote when they have everything that is committed, and only when all of them vote do those that leave cease to, one
 * after the other, the leader last, after it handed over. A member whose node has lost its disk since (another incarnation) can
 * never answer again: it goes first, and what its node is now comes back as a learner in the same step. */
#ifndef SERVER_RECONCILE_PLAN_H
#define SERVER_RECONCILE_PLAN_H
#include "replication/config.h"

enum { RECONCILE_LEARNERS_MAX = 64 };
struct reconcile_input {                       /* as its leader, `self`, sees it */
    const struct replica_config *now;
    struct replica_member self;
    uint32_t in_sync;                          /* bits of now->members: alive, with all that is committed */
    /* what is wanted; nodes are distinct, over both lists */
    uint32_t voters, learners;
    struct replica_member voter[REPLICA_MEMBERS_MAX];  /* the first one is preferred as leader, if `prefers` */
    struct replica_member learner[RECONCILE_LEARNERS_MAX]; /* as many as there is room for; the others observe */
    uint32_t recent;                           /* bits of `voter`: came back a moment ago, clients may not have noticed */
    bool prefers;
    uint32_t draining;                         /* bits of `voter`: to lead only where nobody else can */
    bool self_drains;
};
enum reconcile_kind {
    RECONCILE_DONE,                            /* all is as it should be */
    RECONCILE_WAIT,                            /* somebody has to catch up or come back first */
    RECONCILE_CONFIG,                          /* to `config` (its id does not matter) */
    RECONCILE_TRANSFER,                        /* leadership to `to`, so that this goes on or a drained broker is rid of it */
    RECONCILE_PREFER                           /* leadership to `to`, the preferred one: all else is done, there is no hurry */
};
struct reconcile_step { enum reconcile_kind kind; struct replica_config config; struct replica_member to; };
void reconcile_plan(const struct reconcile_input *in, struct reconcile_step *out);
/* Whether exactly the wanted ones vote. */
bool reconcile_voters_are_wanted(const struct reconcile_input *in);
#endif
