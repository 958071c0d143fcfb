/* group_coordinator_impl.h - a coordinator from the inside; for server/group_*.c only. */
#ifndef SERVER_GROUP_COORDINATOR_IMPL_H
#define SERVER_GROUP_COORDINATOR_IMPL_H
#include "proto/record_batch.h"
#include "server/group_coordinator.h"
#include "server/partition.h"

/* Where loading is: a read of the log, a batch in it, a record in that. */
struct group_load {
    struct log_read read;
    bool reading;                         /* the log has not answered yet */
    bool in_batch;
    struct record_iter iter;
    int64_t next_offset;                  /* the next record that is wanted */
    uint32_t slice, position;             /* the next batch within `read` */
    uint64_t records, unknown, malformed;
    uint32_t range_errors;                /* the log start moved past what was to be read */
    int64_t begun_ns;
};

/* Where a pass over the groups is. */
struct group_expiry {
    bool running, again;                  /* again: from the beginning, when it is through */
    bool waiting;                         /* for its tombstones */
    struct group *group;                  /* pinned */
    bool scanning;                        /* with the group's exclusive lock */
    struct group_offsets_iter it;
    struct group_records records;
    uint64_t found;                       /* offsets in `records` */
    bool full;                            /* there may be more of this group */
    const struct group_offset_topic *topic;
    bool hold;                            /* the clock jumped ahead: nothing is too old */
    bool topic_gone, kept, subscribed, subscribed_known;
};

enum coordinator_state { COORDINATOR_LOADING, COORDINATOR_ACTIVE, COORDINATOR_FAILED, COORDINATOR_GONE };

struct coordinator {
    struct group_set *set;
    int32_t partition;
    uint64_t plid;
    enum coordinator_state state;
    bool unreadable;                      /* FAILED because the log is damaged: loaded again when it is not any more */
    int64_t loaded_ns;                    /* what was committed by others was committed before */
    struct group *groups;
    struct list link;                     /* in set->all */
    struct list work;                     /* in set->work: has something to do in slices */
    struct group_load load;
    struct group_expiry expiry;
    struct list commits;                  /* group_commit.link: on their way */
    uint32_t jobs;                        /* work of consumer groups on its way; visits that rest here */
    struct list parked;                   /* group_op.link: wait for other members */
    bool dropping;                        /* gone: its groups go in slices */
    struct group *drop_at;                /* pinned */
};

struct group_set {
    struct reactor *reactor;
    struct coordinator **coordinators;    /* by partition; NULL: not here */
    int32_t count;
    struct list all;                      /* coordinator.link: with those that are gone and wait for something in flight */
    struct list work;                     /* coordinator.work */
    struct mail work_mail;
    bool work_posted, stopped;
    struct timer expiry_timer, again_timer;
    int64_t again_ns;                     /* since the last coordinator that could read its log, the pauses between looks grow */
    uint64_t topics_version;              /* struct group_topics */
    int64_t wall_base_ms, mono_base_ns;   /* of the clock of consumer groups */
    struct arena arena;                   /* of one replay */
};

/* One record into the state. ERR_UNSUPPORTED: not ours. ERR_TRUNCATED, ERR_CORRUPT: does not parse. ERR_INVALID: contradicts the
 * state, which is not to be used any more. ERR_NOMEM. */
MUST_CHECK enum err coordinator_replay(struct coordinator *c, struct bytes key, struct bytes value);
/* Has work for slices now. */
void coordinator_work(struct coordinator *c);
/* Loading is over: deadlines begin to count. */
void coordinator_activated(struct coordinator *c);
void coordinator_free_if_gone(struct coordinator *c);
/* It is FAILED and unreadable: a look now and then whether it is mended (server/partition_mend.c). */
void coordinator_load_again(struct coordinator *c);
/* The coordinator of a partition that this reactor leads now; NULL: it is not here, or it may have been replaced while this thread did not
 * run, and a majority has not said otherwise yet. */
struct coordinator *group_set_coordinator(struct group_set *s, int32_t partition);
/* group_coordinator.c: appends that will never come back */
void coordinator_abandon_commits(struct coordinator *c);
void group_free(struct group *g);
/* After anything that may have changed `g`: accounts for it, lets the queue go on, frees it when it is empty. */
void group_settle(struct group *g);

/* group_timers.c: the classic core's deadlines */
void group_tick(struct group *g);         /* with an exclusive lock */
void group_timer_init(struct group *g);

/* group_members.c: consumer groups */
void group_consumer_tick(struct group *g);
int64_t group_consumer_deadline_ns(const struct group *g);
/* As coordinator_replay(). */
MUST_CHECK enum err group_consumer_replay(struct group *g, const struct group_key *key, struct bytes value);
void group_consumer_free(struct group *g);

/* group_expiry.c */
void group_expiry_begin(struct coordinator *c);   /* again, if a pass is under way */
bool group_expiry_step(struct coordinator *c, int64_t deadline_ns); /* true: there is more to do now */
void group_expiry_end(struct coordinator *c);     /* lets go of what is held */

/* group_load.c */
void group_load_begin(struct coordinator *c);
/* Goes on until `deadline_ns`. True: there is more to do now. */
bool group_load_step(struct coordinator *c, int64_t deadline_ns);
void group_load_end(struct coordinator *c); /* lets go of what is held */
#endif
