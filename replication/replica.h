/* replica.h - the quorum core of one partition: events in, actions out.
 *
 * Pure: no clock, I/O, threads or bytes; time comes with each event, random numbers from a seed. The shell
 * (server/partition_replica.c; in tests the simulator) reports what happened and performs the actions in the order in which they are
 * listed. Rules and their reasons: docs/replication.md, whose section numbers the code names.
 *
 * Durability. Every change that must survive (vote, configuration, marker, records, truncation, log start, reset) is an
 * action with a sequence number `seq`, which grows by one; the shell puts each into its journal in that order and reports
 * REPLICA_DURABLE{seq} when everything up to it is durable, perhaps late, perhaps never. What depends on it (grants,
 * acknowledgements, a leader counting itself) is held back inside until then. After a failed write nothing is reported any more.
 *
 * A leader's own records: the shell asks with REPLICA_WRITE, appends to its log, and reports REPLICA_APPENDED; that takes a seq too.
 *
 * Invariants: high_watermark <= end, never falls, meaningful to clients only while `established`; only a leader publishes.
 * Memory: the walk and, while it leads others, `peers`; both bounded. */
#ifndef REPLICATION_REPLICA_H
#define REPLICATION_REPLICA_H
#include "base/err.h"
#include "replication/message.h"

enum replica_event_kind {
    REPLICA_START,       /* once, first: `start` */
    REPLICA_TICK,        /* time has passed: replica_deadline() says when it is wanted */
    REPLICA_MESSAGE,     /* `message`, valid and addressed to this partition */
    REPLICA_SENT,        /* an append to peers[`peer`] of `session` left, up to `position` (perhaps shortened) */
    REPLICA_DURABLE,     /* all changes up to `seq` */
    REPLICA_DURABLE_AT,  /* a group that was always of one (`marks` NULL), whose log only grows: all elements up to `position` */
    REPLICA_WRITE,       /* a batch wants to be appended: perform the actions, then append. ERR_AGAIN: not now; ERR_CLOSED: not the leader */
    REPLICA_APPENDED,    /* `position`: end of the log after the leader appended records */
    REPLICA_MOVE_START,  /* leader: the log starts at position.offset <= high watermark. ERR_RANGE, ERR_CLOSED */
    REPLICA_RECONFIGURE, /* leader: to `config` (ids are set here). ERR_AGAIN: later; ERR_INVALID; ERR_CLOSED */
    REPLICA_OBSERVE,     /* leader: `observers`, at most REPLICA_OBSERVERS_MAX, are sent the log, too. They are in no configuration and
                            count for nothing; those that are members are passed over. Until it leads no more, or others are
                            named. ERR_AGAIN: later; ERR_CLOSED, ERR_NOMEM */
    REPLICA_TRANSFER,    /* leader: hand over to voter `member`. ERR_AGAIN, ERR_INVALID, ERR_CLOSED */
    REPLICA_READ,        /* leader: somebody wants to know what is committed, nothing less; replica.read_round is what to wait for:
                            REPLICA_READABLE. ERR_AGAIN: not established yet; ERR_CLOSED */
    REPLICA_PEER_LOST,   /* the connection to `member` was reset or refused */
    REPLICA_VOUCHED,     /* the process of `vouched.member` ran at `vouched.at_ns` and reaches us: an agreement to be quiet holds on.
                            No actions */
    REPLICA_DOUBT,       /* it does not: the leader says that it leads no more, or we did not run for a while. No actions */
    REPLICA_DAMAGED      /* `damaged`: the log has (no longer) a range that cannot be read */
};
struct replica_start {                   /* what is durable when a process begins */
    struct replica_member self;
    int32_t epoch;
    bool has_voted;
    struct replica_member voted;         /* in `epoch` */
    struct replica_config config;        /* count 0: none yet */
    struct replica_position base;
    const struct replica_marker *markers;/* copied */
    uint32_t marker_count;
    int64_t end;
    int64_t timeout_ns;                  /* D: a leader that is silent for so long may be replaced; at least 10 x (sync + round trip) */
    /* The first choice of a fresh group, which never had a leader: campaigns after 0 to 30 ms, and asks again soon while the
     * others are not there yet. Means nothing once an epoch was seen, or to who does not vote. */
    bool campaign_soon;
    /* Acknowledgements are of what is not synced: a member that has less than it said lost power, and is served as before. */
    bool relaxed;
    /* Until then it leaves it to others to succeed a leader that was lost, if they are there: the more, the longer that still is. */
    int64_t young_until_ns;
    /* A leader in whose group nothing has changed for a while, as all have confirmed, sends heartbeats only so often, while each of them
     * was vouched for within the last 4/5 of the timeout. 0: never. */
    int64_t quiet_ns;
    uint64_t seed;
};
struct replica_event {
    enum replica_event_kind kind;
    int64_t now_ns;
    union {
        const struct replica_start *start;
        const struct replica_message *message;
        struct { uint32_t peer; uint64_t session; struct replica_position position; } sent;
        uint64_t seq;
        struct replica_position position;
        const struct replica_config *config;
        struct replica_member member;
        struct { const struct replica_member *list; uint32_t count; } observers; /* copied */
        struct { struct replica_member member; int64_t at_ns; } vouched;
        bool damaged;
    } u;
};

enum replica_action_kind {
    /* to the journal, in this order, each with its seq */
    REPLICA_PERSIST_VOTE,    /* epoch, has_voted, voted */
    REPLICA_PERSIST_CONFIG,  /* config: replica->config */
    REPLICA_BEGIN_EPOCH,     /* the marker (position.epoch, position.offset) at the log's end */
    REPLICA_APPEND_RECORDS,  /* records [from, to) of the message in hand, all of epoch position.epoch */
    REPLICA_TRUNCATE,        /* drop records >= position.offset and markers of epochs > position.epoch; a barrier: durable before
                                any file changes */
    REPLICA_SET_START,       /* the log starts at position.offset; position.epoch: of the record before it */
    REPLICA_RESET,           /* discard the log; it is empty and begins at position */
    /* to the world */
    REPLICA_SEND,            /* message; REPLICA_APPEND: attach records, then report REPLICA_SENT for `peer`, at once or later */
    REPLICA_HIGH_WATERMARK,  /* it is position.offset now */
    REPLICA_READABLE,        /* reads that wait for `seq` or less: we led when they came, so the high watermark of now has
                                all that was committed then. Never comes for those that a lost leadership left behind */
    REPLICA_ROLE,            /* leader, established or neither: whoever waits for the old role is to be told */
    REPLICA_WENT_BACK        /* the log of peers[`peer`] ends before `position`, which it has acknowledged: its disk is not the one that it
                                was. It is not counted any more (docs/replication.md 10); somebody should know. Once for each leadership */
};
struct replica_action {
    enum replica_action_kind kind;
    uint64_t seq;
    struct replica_position position;
    int64_t from, to;
    uint32_t peer;
    struct replica_message message;      /* REPLICA_SEND only */
};
/* Large: one for each reactor, reused. The bound follows from one append (a marker and records for each of its markers, a
 * truncation, vote, configuration, start) and two messages to each peer. */
enum { REPLICA_ACTIONS_MAX = 2 * REPLICA_MESSAGE_MARKERS_MAX + 2 * (REPLICA_MEMBERS_MAX + REPLICA_OBSERVERS_MAX) + 13 };
struct replica_actions { uint32_t count; struct replica_action list[REPLICA_ACTIONS_MAX]; };

enum replica_role { REPLICA_FOLLOWER, REPLICA_PRE_CANDIDATE, REPLICA_CANDIDATE, REPLICA_LEADER };

struct replica_peer {                    /* of a leader */
    struct replica_member member;
    bool voter;
    bool sending;                        /* a REPLICA_SEND waits for its REPLICA_SENT */
    bool below;                          /* what it needs is gone: REPLICA_INSTALL_START */
    bool probing;                        /* `next` is a guess: one append at a time */
    uint64_t session;
    struct replica_position next;        /* the position behind what was sent */
    struct replica_position match;       /* durable there; {0, -1}: nothing known */
    int64_t start;                       /* of its log, durable there, as it said with an acknowledgement */
    int64_t acked_ns, sent_ns;
    int64_t caught_ns;                   /* when it had everything that was committed, as its answers tell; INT64_MIN: never */
    int64_t mark, mark_ns;               /* the high watermark when it answered last: who gets there keeps up */
    uint32_t acked_round;
    struct replica_config_id acked_config; /* durable there, said in this epoch */
    uint32_t in_flight;
    bool quiet;                          /* has agreed to `still` as it is */
    struct replica_position held;        /* it had acknowledged this before round `held_round` began: whoever answers that round, or a later
                                            one, has it; {0, -1}: nothing yet */
    uint32_t held_round;
    bool went_back;                      /* it lacked that: served, never counted */
};

/* What a heartbeat tells, and who gets it. */
struct replica_still {
    struct replica_position last;
    int64_t high_watermark, start;
    struct replica_config_id config;
    uint32_t peer_count;
    bool established, transferring;
};

struct replica_mark { uint64_t seq; struct replica_position position; };
enum { REPLICA_MARKS_MAX = 32 };

struct replica {
    struct replica_member self;
    int64_t timeout_ns;
    uint64_t random;
    /* state that survives, as in memory: the disk may be behind */
    int32_t epoch;
    bool has_voted;
    struct replica_member voted;
    struct replica_config config;
    struct walk walk;
    /* how far the disk is */
    uint64_t seq, durable_seq;           /* given out; reported */
    uint64_t barrier_seq;                /* of the newest vote, configuration, truncation, start or reset */
    struct replica_position durable;     /* elements up to it are durable; {0, -1}: unknown while a truncation is not */
    struct replica_mark *marks;          /* ascending: what is durable with which seq; NULL: never had anybody beside it */
    uint32_t mark_count;
    /* state that does not survive */
    enum replica_role role;
    bool established;                    /* leader: everything below epoch_start is known to be committed */
    bool begins_on_write;                /* a group of one after a restart: its first change begins an epoch */
    bool damaged;
    bool leader_lost;                    /* the connection to the leader broke: it counts as not heard */
    bool has_leader;
    struct replica_member leader;        /* of `epoch` */
    int64_t heard_ns;                    /* from it */
    int64_t election_ns;                 /* when to campaign; INT64_MAX: never */
    int64_t asked_ns;                    /* when it asked for pre-votes last */
    int64_t eager_until_ns;              /* until then a pre-vote is repeated soon (campaign_soon) */
    int64_t heartbeat_ns;                /* leader: when to send to all */
    int64_t high_watermark;
    int64_t epoch_start;                 /* leader: where its marker lies */
    struct replica_position verified;    /* follower: equal to the log of `leader` up to here; {0, -1}: unknown */
    uint64_t answer_session;             /* of the append that is answered next */
    uint32_t answer_round;
    bool answer_due;                     /* something was verified that is not acknowledged yet */
    uint32_t granted, refused;           /* those that ask for votes: bits of config.members */
    bool orphaned;                       /* the connection to `leader` broke, and no leader was heard since */
    uint32_t tries;                      /* how often it has asked since it lost a leader */
    uint32_t urged;                      /* voters for which it asked again at once since then: bits of config.members */
    bool favours;                        /* it has said yes to `favourite`, at favoured_ns, and has heard no leader since */
    struct replica_member favourite;
    int64_t favoured_ns;
    int64_t young_until_ns;
    bool relaxed;
    int64_t voters_start;                /* the highest log start among those who voted for us */
    uint64_t vote_seq;                   /* a grant, or a candidate's own vote, waits for this to be durable; 0: none */
    struct replica_member vote_for;      /* the grant: to whom, */
    struct replica_position vote_last;   /* and what it had when it asked */
    uint32_t asked_again;                /* candidate: so often */
    bool campaign_transfer;              /* the leader asked us to campaign */
    bool transferring;
    struct replica_member transfer_to;
    int64_t transfer_ns;                 /* when to give the transfer up */
    uint32_t next_session;
    uint32_t round;
    uint32_t read_round;                 /* leader: the newest that a read waits for, perhaps not sent yet */
    uint32_t read_confirmed;             /* answered by a majority */
    int64_t quiet_ns;
    struct replica_still still;          /* leader: as of the newest heartbeat, */
    uint32_t still_rounds, still_round;  /* the same for so many of them; the first one that offered to be quiet about it */
    bool quiet;                          /* all peers have agreed */
    bool leader_quiet;                   /* follower of `leader`, which it hears: there is nothing to say, */
    int64_t quiet_until_ns;              /* but not beyond */
    struct replica_peer *peers;          /* of the configuration, without self, and observers; owned, only while it leads others */
    uint32_t peer_count;
    struct replica_member *distrusted;   /* owned; those that went back while this process led, as long as they are members */
    uint32_t distrusted_count;
    uint32_t observer_count;
    struct replica_member *observers;    /* as they were named; owned, only while it leads */
#ifdef VARVE_MUTANTS
    int mutant;                          /* tests: the rule that is left out */
#endif
};

void replica_init(struct replica *r);
void replica_free(struct replica *r);
/* `actions` is overwritten. What an error means is said with the event; other events return OK, or ERR_NOMEM: as if it was lost. */
enum err replica_step(struct replica *r, const struct replica_event *event, struct replica_actions *actions);
/* REPLICA_WRITE would be OK and ask for nothing: it may be left out. */
static inline bool replica_takes_writes(const struct replica *r) {
    return r->role == REPLICA_LEADER && !r->transferring && !r->begins_on_write;
}
/* When the next REPLICA_TICK is wanted; INT64_MAX: never. */
int64_t replica_deadline(const struct replica *r);
/* Whether `m`, voter or learner, answered within the timeout and has everything that is committed (leader). */
bool replica_in_sync(const struct replica *r, const struct replica_member *m, int64_t now_ns);
/* The same for those who look at a group under load, where whoever is a message behind lacks something: it answered within the timeout,
 * and had everything not long ago. */
bool replica_keeps_up(const struct replica *r, const struct replica_member *m, int64_t now_ns);
/* The append that peers[peer] waits for (REPLICA_SEND asked for it, REPLICA_SENT was not reported) as it would be now: more may have been
 * appended since. So a shell can send once for many writes. False: it waits for none any more. */
bool replica_compose(const struct replica *r, uint32_t peer, struct replica_message *out);
/* Whether a majority of the voters has stored the configuration in force (leader): no majority of an older one can form any more. */
bool replica_config_is_held(const struct replica *r);
/* How many voters have everything up to `position` durably (leader; itself included). */
uint32_t replica_copies(const struct replica *r, struct replica_position position);
#endif
