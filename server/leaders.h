/* leaders.h - who leads which replica group, as far as this broker knows: one table for each reactor.
 *
 * A group's entry is on the reactor that owns the group (image_partition.owner), whether this broker has a replica of it or
 * not. It comes from three sources, and the newest by (epoch, version) stands:
 *   report   the own replica, which leads: leaders_report(). Sent on to all peers; a new connection is told all of them.
 *   learn    a report of a leader elsewhere, which came from a peer.
 *   follow   the own replica, which has heard a leader of an epoch that nobody has reported yet: who it is, nothing more.
 * An epoch has one leader at most, so versions only order what that one has said. They grow over restarts of its process too (a
 * group of one keeps its epoch then): they begin at the wall clock. What is known is old by a message at least and may be wrong;
 * nothing but where clients are sent and what they are shown depends on it.
 *
 * An entry of a group that metadata does not know (yet) is kept: reports and metadata travel on different ways. leaders_image()
 * drops those of removed topics. Memory: at most as many groups as a cluster may have partitions, and LEADERS_EXTRA more.
 *
 * Thread: the reactor's. */
#ifndef SERVER_LEADERS_H
#define SERVER_LEADERS_H
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "base/list.h"

struct reactor;
struct image;

enum { LEADER_MEMBERS_MAX = 9, LEADERS_EXTRA = 4096 };
struct leader_info {
    int32_t epoch, leader;               /* leader -1: the one of `epoch` leads no more */
    uint64_t version;                    /* leaders_report() sets it */
    bool established;
    uint8_t voters, count;               /* the first `voters` of `members` vote, the others learn; 0: not known */
    uint16_t in_sync;                    /* bits of `members`: alive and with all that is committed */
    int32_t members[LEADER_MEMBERS_MAX]; /* node ids */
    int64_t since_ns;                    /* when this broker heard so, by its own clock; the table sets it, nobody is told */
};

struct leaders;
typedef void leaders_report_fn(struct reactor *r, uint64_t group, const struct leader_info *info);
MUST_CHECK struct leaders *leaders_new(struct reactor *r); /* NULL: memory */
void leaders_free(struct leaders *l);
/* `send` tells all connected peers (peer_report_leader()); until it is set nobody is told. */
void leaders_on_report(struct leaders *l, leaders_report_fn *send);

/* NULL: nothing was ever heard of a leader. Good until the next call that changes something. */
const struct leader_info *leaders_get(const struct reactor *r, uint64_t group);
/* Whether `node` is in sync by what the leader said. False when unknown. */
bool leader_in_sync(const struct leader_info *info, int32_t node);

/* The own replica leads (info->leader is this node), or has just ceased to (-1, with the epoch in which it led): on every change of
 * what the struct says. Equal to what was reported last: nothing happens. Else peers are told at once, by leaders_on_report(). In any
 * case the coordinator of a partition of `__consumer_offsets` begins or ends with it, in this call. */
void leaders_report(struct reactor *r, uint64_t group, const struct leader_info *info);
/* The own replica has heard `leader` in `epoch`. */
void leaders_follow(struct reactor *r, uint64_t group, int32_t epoch, int32_t leader);
/* From a peer; checked here: a report about this node's own leadership is dropped, as are counts out of range. */
void leaders_learn(struct reactor *r, uint64_t group, const struct leader_info *info);
/* The own replica is deleted (its report is not told any more), the group may live on elsewhere. */
void leaders_forget(struct reactor *r, uint64_t group);
/* The reactor has moved to another image: groups of partitions that it removed are forgotten. */
void leaders_image(struct reactor *r, const struct image *im);

/* All that own replicas have reported and lead, for a new connection, a few at a time: entries may come and go in between (what comes is
 * told anyway; something may be met twice). Begin, next until NULL, end; end is also allowed earlier. */
struct leaders_walk { struct list link; struct list *at; };
void leaders_walk_begin(struct reactor *r, struct leaders_walk *w);
const struct leader_info *leaders_walk_next(struct reactor *r, struct leaders_walk *w, uint64_t *group);
void leaders_walk_end(struct leaders_walk *w);
#endif
