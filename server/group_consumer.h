/* group_consumer.h - one group of the consumer protocol (KIP-848): what the coordinator knows and decides.
 *
 * Members tell what they subscribe to and own; the group answers with what each may own. Three steps, each with an epoch
 * that only grows:
 *   group epoch        raised when a subscription or a subscribed topic changes: a new assignment is wanted
 *   assignment epoch   of the target assignment that was computed last (by a server-side assignor)
 *   member epoch       of the assignment that a member has reached
 * A member whose target lacks partitions that it owns is told to give them up and stays in its epoch until it has
 * (UNREVOKED_PARTITIONS); then it moves to the epoch of the target and gets what is free; what others still own it gets when
 * they have let go (UNRELEASED_PARTITIONS). So a partition has one owner at any time: that is the invariant of this file.
 *
 * Pure: no clock, I/O, randomness. Recorded state changes only by consumer_group_replay(), for loading and for commits alike.
 * The other functions compute records from the state, and an answer that may leave when they are committed. Until then no
 * other function that computes may be called for the group, but if they were not appended, the state is as before and the
 * next call may follow at once. What functions do change at once is soft: deadlines and what was looked up last.
 * An answer's `error_code` other than 0 comes without records. Records whose `err` is set (bounds, memory) must not be
 * appended: answer COORDINATOR_NOT_AVAILABLE. Answers borrow from the request, the arena and static text, never from the group.
 *
 * Members of the classic protocol may be in the group (migration): JoinGroup, SyncGroup, Heartbeat and LeaveGroup are mapped
 * onto the same state; a classic group becomes one of these when a member of the consumer protocol joins it, and back
 * when the last such member is gone.
 *
 * Cost: a heartbeat that changes nothing looks up one member. Assignments above CONSUMER_GROUP_INLINE, and regular
 * expressions over many topics, are not computed in the call, but due: consumer_group_tick().
 *
 * One thread; assignor jobs may run on another. */
#ifndef SERVER_GROUP_CONSUMER_H
#define SERVER_GROUP_CONSUMER_H
#include "base/arena.h"
#include "proto/group_records.h"
#include "server/group_topics.h"

enum { CONSUMER_MEMBER_STABLE = 0, CONSUMER_MEMBER_UNREVOKED = 1, CONSUMER_MEMBER_UNRELEASED = 2 };
enum { CONSUMER_LEAVE_EPOCH = -1, CONSUMER_STATIC_LEAVE_EPOCH = -2 }; /* MemberEpoch of a heartbeat that says goodbye */
enum consumer_group_state { CONSUMER_GROUP_EMPTY, CONSUMER_GROUP_ASSIGNING, CONSUMER_GROUP_RECONCILING, CONSUMER_GROUP_STABLE };
enum group_migration { GROUP_MIGRATION_DISABLED, GROUP_MIGRATION_UPGRADE, GROUP_MIGRATION_DOWNGRADE, GROUP_MIGRATION_BIDIRECTIONAL };

/* What a call sees of the world; good for the call. */
struct group_env {
    int64_t now_ms;                        /* of the wall clock: timestamps in records, deadlines */
    const struct group_topics *topics;
    bool memory_full;                      /* nothing that makes a group larger is accepted */
    /* group.consumer.* of the broker, or of the group where it has its own */
    int32_t session_timeout_ms, heartbeat_interval_ms, assignment_interval_ms, regex_refresh_interval_ms;
    int32_t max_size;                      /* members */
    const struct str *assignors;           /* names, the default first */
    uint32_t assignors_n;
    enum group_migration migration;
    int32_t classic_max_size;              /* group.max.size: a larger group is not downgraded */
};
/* Who asks. */
struct group_client { struct str client_id, client_host; };

struct consumer_group;
MUST_CHECK struct consumer_group *consumer_group_new(struct str id); /* NULL: no memory */
void consumer_group_free(struct consumer_group *g);                  /* NULL is fine */
int64_t consumer_group_bytes(const struct consumer_group *g);        /* what the heap holds */

/* One record of types 3 to 8 and 16 of this group; `value` is null for a tombstone. Session and rebalance timers of members
 * that come up begin at env->now_ms. Records of members that are unknown are ignored where Kafka does so, too.
 * ERR_CORRUPT, ERR_TRUNCATED, ERR_UNSUPPORTED (version), ERR_NOMEM: the state is not to be used any more. */
MUST_CHECK enum err consumer_group_replay(struct consumer_group *g, const struct group_env *env, const struct group_key *key,
                                          struct bytes value);
/* After loading: every timer starts anew. */
void consumer_group_loaded(struct consumer_group *g, const struct group_env *env);
/* No record says anything about the group any more (or never did): it may be freed. */
bool consumer_group_is_gone(const struct consumer_group *g);

/* ---- ConsumerGroupHeartbeat ---- */
/* `version` is the request's. `fresh_id`: for a member that brings no id (version 0), else unused. A group that nobody knows:
 * call it with a new, empty group when the request joins (MemberEpoch 0), else answer GROUP_ID_NOT_FOUND. */
void consumer_group_heartbeat(struct consumer_group *g, const struct group_env *env, const struct k_consumer_group_heartbeat_request *rq,
                              int16_t version, const struct group_client *client, struct str fresh_id, struct arena *arena,
                              struct group_records *out, struct k_consumer_group_heartbeat_response *reply);

/* ---- timers and work that is due ---- */
/* When to call consumer_group_tick() next; INT64_MAX: never. May be early, and changes with every call and replay. */
int64_t consumer_group_deadline_ms(const struct consumer_group *g, const struct group_env *env);
enum consumer_group_due {
    CONSUMER_GROUP_NOTHING,
    CONSUMER_GROUP_RECORDS,                /* `out` is to be appended; tick again afterwards, later if it was not */
    CONSUMER_GROUP_ASSIGN,                 /* consumer_group_assign_begin() */
    CONSUMER_GROUP_REGEX                   /* consumer_group_regex_begin() */
};
/* Removes members whose time is over, computes assignments and resolves expressions that are due. One thing at a time.
 * A job that has begun is not due again before it is finished or dropped. */
enum consumer_group_due consumer_group_tick(struct consumer_group *g, const struct group_env *env, struct arena *arena, struct group_records *out);

/* A target assignment on its way. begin and finish on the group's thread, run on any. Changes to the group in between do not
 * matter: what is still sensible is recorded, the rest is due again. */
struct consumer_group_assign;
MUST_CHECK struct consumer_group_assign *consumer_group_assign_begin(struct consumer_group *g, const struct group_env *env); /* NULL: no memory */
void consumer_group_assign_run(struct consumer_group_assign *job);
void consumer_group_assign_finish(struct consumer_group *g, const struct group_env *env, struct consumer_group_assign *job, struct group_records *out);
void consumer_group_assign_drop(struct consumer_group *g, struct consumer_group_assign *job); /* `g` NULL: it is gone */

/* Regular expressions over all topics, in slices on the group's thread. */
struct consumer_group_regex;
MUST_CHECK struct consumer_group_regex *consumer_group_regex_begin(struct consumer_group *g, const struct group_env *env); /* NULL: no memory */
/* Some 0.1 ms of work over the topics of `env`, which may be others than the last time; true: there is more. */
bool consumer_group_regex_run(struct consumer_group_regex *job, const struct group_env *env);
void consumer_group_regex_finish(struct consumer_group *g, const struct group_env *env, struct consumer_group_regex *job, struct arena *arena,
                                 struct group_records *out);
void consumer_group_regex_drop(struct consumer_group *g, struct consumer_group_regex *job);

/* ---- members of the classic protocol ---- */
/* A join to a group that is not empty (an empty one is deleted and the classic group takes over). The member gets its
 * generation at once. `fresh_id` is for members without one. May downgrade: see below. */
void consumer_group_join(struct consumer_group *g, const struct group_env *env, const struct k_join_group_request *rq, int16_t version,
                         const struct group_client *client, struct str fresh_id, struct arena *arena, struct group_records *out,
                         struct k_join_group_response *reply);
void consumer_group_sync(struct consumer_group *g, const struct group_env *env, const struct k_sync_group_request *rq, struct arena *arena,
                         struct k_sync_group_response *reply);
/* The error code of the answer. */
int16_t consumer_group_classic_heartbeat(struct consumer_group *g, const struct group_env *env, const struct k_heartbeat_request *rq);
/* Removes members, of either protocol; versions below 3 have one, without an instance. */
void consumer_group_leave(struct consumer_group *g, const struct group_env *env, const struct k_leave_group_request *rq, int16_t version,
                          struct arena *arena, struct group_records *out, struct k_leave_group_response *reply);

/* ---- migration ---- */
/* A classic group as it is, for the upgrade. Everything is borrowed. */
struct group_upgrade_member {
    struct str member_id, instance_id, client_id, client_host;
    int32_t rebalance_timeout_ms, session_timeout_ms;
    const struct k_join_group_request_protocols *protocols; /* what it supports, in its order */
    int32_t protocols_n;
    struct bytes subscription;             /* its metadata for the group's protocol */
    struct bytes assignment;               /* empty: it has none yet */
};
struct group_upgrade {
    int32_t generation;
    const struct group_upgrade_member *members;
    int32_t members_n;
};
/* A member of the consumer protocol joins a classic group of protocol type "consumer" that has members: `out` gets the tombstone of the
 * classic group, the records of the consumer group and those of the join. When they are committed and replayed, the answer leaves,
 * and JoinGroup and SyncGroup requests that wait in the classic group are answered REBALANCE_IN_PROGRESS.
 * Not possible (policy, size, metadata that does not parse): GROUP_ID_NOT_FOUND, as in Kafka. */
void consumer_group_upgrade(struct str group_id, const struct group_upgrade *classic, const struct group_env *env,
                            const struct k_consumer_group_heartbeat_request *rq, int16_t version, const struct group_client *client,
                            struct str fresh_id, struct arena *arena, struct group_records *out, struct k_consumer_group_heartbeat_response *reply);
/* Whether `out`, filled by one of the functions above, turns the group into a classic one: it ends with a GroupMetadata record (type 2)
 * whose replay makes the classic group, stable in its generation. Once it is committed, the classic group is to rebalance
 * (unless JoinGroup caused it: that member is in the record already). */
bool consumer_group_downgrades(const struct group_records *out);

/* ---- the rest ---- */
/* Kafka error code for an OffsetCommit of this member: 0; UNKNOWN_MEMBER_ID; STALE_MEMBER_EPOCH, ILLEGAL_GENERATION for members of the
 * classic protocol; UNSUPPORTED_VERSION (members of this protocol need version 9). `*per_partition`: the epoch is an old one, and
 * consumer_group_check_partition() decides for each partition. `transactional`: TxnOffsetCommit. */
int16_t consumer_group_check_commit(struct consumer_group *g, const struct group_env *env, struct str member_id, struct str instance_id,
                                    int32_t epoch, bool transactional, int16_t version, bool *per_partition);
/* 0 or STALE_MEMBER_EPOCH: the member has had the partition since a later epoch, or has it no longer (KIP-1251). */
int16_t consumer_group_check_partition(const struct consumer_group *g, const struct group_env *env, struct str member_id, int32_t epoch,
                                       struct str topic, int32_t partition);
/* The same for OffsetFetch; without a member id (null, epoch -1) everybody may. */
int16_t consumer_group_check_fetch(const struct consumer_group *g, struct str member_id, int32_t epoch);
/* Whether some member subscribes to the topic: its offsets neither expire nor are they deleted. */
bool consumer_group_subscribes(const struct consumer_group *g, struct str topic);
/* Tombstones for all that is recorded of a group without members. */
void consumer_group_delete(const struct consumer_group *g, struct group_records *out);

enum consumer_group_state consumer_group_state(const struct consumer_group *g);
const char *consumer_group_state_name(enum consumer_group_state state); /* "Empty", "Assigning", "Reconciling", "Stable" */
uint32_t consumer_group_member_count(const struct consumer_group *g);
int32_t consumer_group_epoch(const struct consumer_group *g);
/* ERR_NOMEM: the arena is full. Members are in ascending order of their ids. `error_code` and the like are not touched. */
MUST_CHECK enum err consumer_group_describe(const struct consumer_group *g, const struct group_env *env, struct arena *arena,
                                            struct k_consumer_group_describe_response_groups *reply);
#endif
