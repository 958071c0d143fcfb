/* group_impl.h - the state of a group member, shared by group*.c.
 *
 *   group.c              what users call; events; partitions taken and given back
 *   group_coordinator.c  finding the coordinator, a connection of our own to it
 *   group_classic.c      JoinGroup, SyncGroup, Heartbeat, LeaveGroup
 *   group_heartbeat.c    ConsumerGroupHeartbeat (KIP-848)
 *   group_commit.c       OffsetCommit and OffsetFetch of a member
 *   group_assign.*       classic assignors: pure
 *
 * Who may do what: the pump (from any client_turn) sends requests, and completions change state. Only
 * group_poll() changes what the consumer reads, because records that it handed out point there. So
 * the protocols set `target` or `expelled`, raise `attention`, and wait until the partitions follow. */
#ifndef CLIENT_GROUP_IMPL_H
#define CLIENT_GROUP_IMPL_H
#include "client/consumer_impl.h"
#include "client/group_parts.h"

enum member_state {
    MEMBER_OUT,                   /* must join (again) */
    MEMBER_JOINING,               /* request on its way */
    MEMBER_JOINED,                /* classic leader: waits for metadata, then assigns */
    MEMBER_SYNCING,
    MEMBER_STABLE,                /* heartbeats */
    MEMBER_LEAVING, MEMBER_LEFT
};

enum handover {                   /* partitions on their way, one step at a time */
    HANDOVER_NONE,
    HANDOVER_TOLD,                /* CONSUMER_REVOKED was handed out */
    HANDOVER_COMMITTING,          /* their offsets are being committed */
    HANDOVER_FETCHING             /* committed offsets of new ones are being read */
};

/* A request that is not on our own connection: outlives the group if it must. */
struct group_ask { struct group *g; };

struct member_row { char *id, *instance_id; uint8_t *metadata; int32_t metadata_len; }; /* owned copies */

struct commit {
    bool in_flight, wanted;       /* wanted: again when it is back */
    bool done;                    /* of the latest; then err, code */
    int64_t deadline_ns;
    enum err err;
    int16_t code;
    struct parts sent;            /* what is on its way, with offsets */
};

struct group {
    struct client_task task;
    struct client *client;
    struct consumer *consumer;
    struct group_config config;   /* its strings are ours */
    enum group_protocol protocol; /* in use, never GROUP_AUTO once settled */
    bool settled;
    bool cooperative;             /* classic: what stays is read on during a rebalance */

    /* coordinator */
    struct conn *conn;            /* NULL: none yet */
    bool coordinator_known;
    struct group_ask *finding;    /* FindCoordinator on its way */
    int64_t retry_at_ns;          /* the next try of anything at the coordinator */
    int32_t failures;
    char why[256];                /* the latest trouble, "" when all is well */

    /* membership */
    enum member_state state;
    char *member_id;              /* "" at first */
    int32_t generation;           /* or member epoch; -1 none */
    bool in_flight;               /* a membership request */
    int64_t next_heartbeat_ns;
    int64_t heard_ns;             /* the latest good heartbeat */
    uint64_t rebalances;
    /* classic */
    bool leader;
    bool rejoin;                  /* as soon as the partitions allow */
    bool skip_assignment;
    char *assignor;               /* that the group chose */
    struct member_row *members;   /* leader only */
    int32_t member_count;
    struct { struct topic_meta *topic; int32_t count; } *counts; /* leader: what was assigned by */
    int32_t count_count;
    uint64_t counted_answers;     /* metadata answers looked at */
    /* KIP-848 */
    int32_t interval_ms;
    bool tell_owned;              /* the next heartbeat lists what we own */
    bool tell_all;                /* and everything else */
    struct uuid *target_ids;      /* target whose names are not known yet: pairs with target_index */
    int32_t *target_index;
    int32_t unresolved_count;
    struct group_ask *resolving;
    int64_t resolve_at_ns;

    /* partitions */
    struct parts owned;           /* ascending; read by the consumer, unless given up or paused */
    struct parts target;          /* what we should own */
    bool target_set;              /* owned must become target */
    bool announce;                /* CONSUMER_ASSIGNED even when nothing is new */
    bool expelled;                /* all partitions are lost */
    bool attention;               /* group_poll() has something to do */
    enum handover handover;
    struct parts moving;          /* of the handover */
    bool fetched;                 /* the answer has come: `moving` has offsets */
    bool fetch_in_flight;
    bool fetch_stale;             /* what is on its way was asked for another handover */
    bool gave_back;               /* cooperative: since joining; others wait for it */
    struct parts told;            /* what the latest event points to */
    struct group_partition *told_list;
    struct consumer_event event;
    /* The record that group_poll() handed out last is the user's until the next call about it; other calls on the client turn us
     * meanwhile, and must not commit it. NULL: none. */
    struct { const struct topic_meta *topic; int32_t partition; int64_t offset; } in_hand;

    /* commits */
    struct commit commit;
    int64_t auto_commit_at_ns;
    uint64_t commits, commits_failed;

    bool failed;                  /* for good */
    enum err err;
    int16_t code;
};

/* ---- group.c */
void group_fail(struct group *g, enum err err, int16_t code, const char *fmt, ...) PRINTF_LIKE(4, 5);
/* The partitions are gone: group_poll() takes them away; then a new member joins. */
void group_expel(struct group *g);
/* `target` is complete and sorted. */
void group_set_target(struct group *g);
/* Whether a member may join: nothing is owned that it could not keep. Raises attention otherwise. */
bool group_may_join(struct group *g);

/* ---- group_coordinator.c */
/* Our ready connection to the coordinator, or NULL; `*next_ns` is lowered to when to try again. */
struct conn *group_conn(struct group *g, int64_t now_ns, int64_t *next_ns);
/* What is wrong is kept in g->why; the coordinator is looked up again when `lost`. */
void group_trouble(struct group *g, bool lost, const char *fmt, ...) PRINTF_LIKE(3, 4);
void group_well(struct group *g);
/* Codes that every group API has in common: true when the coordinator has to be found, or asked again later. */
bool group_coordinator_code(struct group *g, int16_t code, const char *what);
struct group_message {
    int16_t api_key, version_max;
    int64_t deadline_ns;
    const void *message;
    void (*encode)(const void *message, struct wire_writer *w, int16_t version);
    void (*done)(void *group, enum err err, struct client_reply *reply, struct wire_reader *body);
};
MUST_CHECK enum err group_send(struct group *g, struct conn *conn, const struct group_message *m);
void group_forget_asks(struct group *g);

/* ---- the protocols */
int64_t classic_pump(struct group *g, int64_t now_ns);
void classic_leave(struct group *g, struct conn *conn);
void classic_free(struct group *g);
int64_t heartbeat_pump(struct group *g, int64_t now_ns);
void heartbeat_leave(struct group *g, struct conn *conn);
void heartbeat_owned_changed(struct group *g);

/* ---- group_commit.c */
/* Sends a commit of what has moved when one is wanted and none is on its way. */
int64_t commit_pump(struct group *g, int64_t now_ns);
/* Whether there is anything to commit. */
bool commit_needed(const struct group *g);
void commit_start(struct group *g);
/* Reads the committed offsets of g->moving; sets g->fetched. */
int64_t fetch_offsets_pump(struct group *g, int64_t now_ns);
#endif
