/* group_classic.h - one group of the classic protocol: who is in it, which generation, who was assigned what.
 *
 * Pure: no clock, no I/O, no randomness. A call may answer requests through the environment, may keep a request (its
 * ticket) for later, and may put one record of the group into `out`. Then the caller appends it, `change` says so, and until
 * classic_committed() (after the record was replayed) or classic_failed() only questions may be asked.
 *
 *            join                     all have joined, or time is up          the leader's assignment
 *   EMPTY ---------> PREPARING ---------------------------------> COMPLETING ------------------------> STABLE
 *                    ^   | nobody is left: EMPTY                      |                                  |
 *                    +---+--------------------------------------------+-- joins, leaves, silence --------+
 *
 * Recorded (type 2, GroupMetadataValue) are generation, protocol, leader, members and assignments. A generation is recorded
 * before its members hear of it, with empty assignments, and once more with the leader's: so generations only grow, also over
 * a restart of the coordinator, and a group that was between the two goes on from there. Who joined or left since is not recorded: after a
 * restart the members of the last record have their session timeout to show up.
 *
 * Rules: KIP-62 (rebalance timeout), KIP-134 (initial delay), KIP-345 (static members), KIP-394 (MEMBER_ID_REQUIRED), KIP-814
 * (skip assignment). What members exchange is opaque here. Times in ms of a monotonic clock, except `wall_ms`. */
#ifndef SERVER_GROUP_CLASSIC_H
#define SERVER_GROUP_CLASSIC_H
#include <uthash.h>
#include "base/bytes.h"
#include "base/compiler.h"
#include "proto/group_records.h"

enum classic_state { CLASSIC_EMPTY, CLASSIC_PREPARING, CLASSIC_COMPLETING, CLASSIC_STABLE };
/* What the record that is on its way means. */
enum classic_change { CLASSIC_NO_CHANGE, CLASSIC_GENERATION, CLASSIC_EMPTIED, CLASSIC_ASSIGNMENT, CLASSIC_REPLACEMENT };
#define CLASSIC_NEVER INT64_MAX
/* Of one member; more are INCONSISTENT_GROUP_PROTOCOL. Clients have a handful, and finding what all have in common compares all with all. */
enum { CLASSIC_PROTOCOLS_MAX = 64 };

struct classic_protocol { struct str name; struct bytes metadata; };

struct classic_member {
    UT_hash_handle hh, hh_instance;
    struct str id, instance_id;              /* owned; instance id null: a dynamic member */
    struct str client_id, client_host;       /* owned */
    int32_t session_ms, rebalance_ms;
    struct classic_protocol *protocols;      /* owned, with all they point to; in the member's order of preference */
    int32_t protocol_count;
    struct bytes assignment;                 /* owned; recorded */
    bool is_new;                             /* has not been in a generation */
    bool synced;                             /* has asked for its assignment of this generation */
    bool named;                              /* while a record is replayed: it names it */
    struct bytes given;                      /* while the leader's SyncGroup is handled: what it assigns; borrowed */
    void *join_ticket, *sync_ticket;         /* requests that wait */
    int64_t deadline_ms;                     /* when it counts as gone; not while it waits */
    int64_t bytes;
};

struct classic_pending;                      /* an id that was given out and has not come back (KIP-394) */
struct classic_replacement;

struct classic_group {
    enum classic_state state;
    enum classic_change change;
    bool recorded;                           /* the log has a record of it */
    int32_t generation;
    struct str protocol_type, protocol, leader; /* owned; null: none */
    int64_t state_wall_ms;                   /* of the last record */
    struct classic_member *members, *by_instance; /* in order of joining */
    uint32_t count, joining;                 /* members; those with a join ticket */
    struct classic_pending *pending;
    struct classic_replacement *replacement; /* of CLASSIC_REPLACEMENT */
    bool initial, joined_since;              /* PREPARING from EMPTY; somebody joined since the delay began */
    int64_t initial_left_ms;                 /* how far the delay may be extended */
    int64_t join_deadline_ms, sync_deadline_ms, next_deadline_ms;
    int64_t bytes;                           /* of the heap */
};

struct classic_join_reply {
    int16_t error;
    int32_t generation;                      /* -1 with an error */
    struct str protocol_type, protocol, leader, member_id;
    bool skip_assignment;
    const struct classic_group *members;     /* for the leader: whose members and metadata to list; else NULL */
};
struct classic_sync_reply { int16_t error; struct str protocol_type, protocol; struct bytes assignment; };

struct classic_env {
    int64_t now_ms, wall_ms;
    int32_t session_min_ms, session_max_ms, initial_delay_ms, size_max;
    /* Ends a request: what it lent the core may be gone then. What the reply points to is lent for the call; the core may not be
     * called from here. */
    void (*join_reply)(void *ctx, void *ticket, const struct classic_join_reply *reply);
    void (*sync_reply)(void *ctx, void *ticket, const struct classic_sync_reply *reply);
    void *ctx;
};

MUST_CHECK struct classic_group *classic_new(void); /* NULL: memory */
/* Tickets that are left are forgotten. */
void classic_free(struct classic_group *g);

struct classic_join {
    void *ticket;
    struct str group, member_id, instance_id, client_id, client_host, protocol_type;
    int32_t session_ms, rebalance_ms;
    const struct classic_protocol *protocols;
    int32_t protocol_count;
    bool id_required;                        /* version 4 and above: a new dynamic member must come back with its id */
    bool can_skip_assignment;                /* version 9 and above */
    struct str fresh;                        /* unique, for a new member id */
};
void classic_join(struct classic_group *g, const struct classic_env *env, const struct classic_join *in, struct group_records *out);

struct classic_assignment { struct str member_id; struct bytes assignment; };
struct classic_sync {
    void *ticket;
    struct str group, member_id, instance_id;
    int32_t generation;
    struct str protocol_type, protocol;      /* null: not said */
    const struct classic_assignment *assignments;
    int32_t assignment_count;
};
void classic_sync(struct classic_group *g, const struct classic_env *env, const struct classic_sync *in, struct group_records *out);

/* Kafka error codes. */
int16_t classic_heartbeat(struct classic_group *g, const struct classic_env *env, int32_t generation, struct str member_id,
                          struct str instance_id);
int16_t classic_commit_check(struct classic_group *g, const struct classic_env *env, int32_t generation, struct str member_id,
                             struct str instance_id);
/* One member; an empty id with an instance id removes whoever has that. After the last of a request: classic_left(). */
int16_t classic_leave(struct classic_group *g, const struct classic_env *env, struct str member_id, struct str instance_id);
void classic_left(struct classic_group *g, const struct classic_env *env, struct str group, struct group_records *out);
/* To be called at `next_deadline_ms`; earlier changes nothing. */
void classic_tick(struct classic_group *g, const struct classic_env *env, struct str group, struct group_records *out);

/* A record of the group. ERR_NOMEM. */
MUST_CHECK enum err classic_replay(struct classic_group *g, const struct classic_env *env, const struct k_group_metadata_value *value);
/* All records are replayed: sessions and the rebalance that was under way get their full time from now on. */
void classic_loaded(struct classic_group *g, const struct classic_env *env);
/* It is deleted: who waits hears `error`. */
void classic_forget(struct classic_group *g, const struct classic_env *env, int16_t error);
/* After the record of `change` was replayed, or could not be appended: answers those who waited for it. */
void classic_committed(struct classic_group *g, const struct classic_env *env);
void classic_failed(struct classic_group *g, const struct classic_env *env, int16_t error);

/* Whether it can be forgotten: nothing recorded, nobody in it or about to be. */
bool classic_is_nothing(const struct classic_group *g);
struct classic_member *classic_member(const struct classic_group *g, struct str id);
/* What a member says under `protocol`; null: it does not know it. */
struct bytes classic_metadata(const struct classic_member *m, struct str protocol);
const char *classic_state_name(enum classic_state state);
#endif
