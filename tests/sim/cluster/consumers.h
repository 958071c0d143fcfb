/* consumers.h - programs of the consumer protocol (KIP-848), what they share; for tests/sim/cluster/consumers*.c only. */
#ifndef SIM_CLUSTER_CONSUMERS_H
#define SIM_CLUSTER_CONSUMERS_H
#include <string.h>
#include "proto/kafka_errors.h"
#include "tests/sim/cluster/cluster.h"

enum { CONSUMERS = 4, PLACES = 512, MEMBER_ID_BYTES = 64 };
#define LATE_NS (20 * SECOND)            /* longer than any request waits in a link or a node that stands still */
/* As settings() of node.c has it; clocks are told in whole milliseconds, of a turn's beginning. */
#define SESSION_NS (800 * MS - 10 * MS)
#define REBALANCE_MS 1000                /* not shorter than a session: else a member that was not told yet could be put out in its lease */

/* A partition of any topic that somebody was given. */
struct place { struct uuid topic; int32_t partition; int32_t known; /* which of TOPICS; -1: another */ };
struct place_set { uint64_t w[PLACES / 64]; };
static inline bool set_has(const struct place_set *s, uint32_t i) { return s->w[i / 64] >> (i % 64) & 1; }
static inline void set_add(struct place_set *s, uint32_t i) { s->w[i / 64] |= UINT64_C(1) << (i % 64); }
static inline bool set_equal(const struct place_set *a, const struct place_set *b) { return memcmp(a, b, sizeof *a) == 0; }

static inline bool set_within(const struct place_set *a, const struct place_set *b) {
    for (uint32_t i = 0; i < PLACES / 64; i++)
        if (a->w[i] & ~b->w[i]) return false;
    return true;
}

enum subscription { BOTH, EVENTS, BOTH_BY_REGEX, SOME_BY_REGEX, BOTH_BY_RANGE, SUBSCRIPTIONS };
struct consumer {
    struct client client;
    struct cluster *c;
    uint32_t index, lives;
    uint16_t who;                        /* whoever owns what in its name: a static member stays itself when it comes back */
    char instance[16];                   /* "": a dynamic member */
    char id[MEMBER_ID_BYTES];            /* "": the coordinator makes one (version 0) */
    int32_t coordinator;                 /* 0: not known */
    bool moved;                          /* it was asked anew who that is, in this epoch */
    int32_t epoch;                       /* 0: outside */
    int32_t newest;                      /* epoch of anybody when the heartbeat left */
    enum subscription subscription, told_subscription;
    struct place_set told;               /* what it may own, as the coordinator said last */
    struct place_set held;               /* what it owns: with what it has not given up yet */
    struct place_set reported;           /* what the coordinator has heard that it owns */
    struct place_set sent;               /* what the heartbeat on its way says */
    int64_t sent_ns, answered_ns;        /* when that left; when the last one that was answered had */
    int64_t lease_ns;                    /* until then it cannot have been put out for silence */
    int64_t give_up_ns;                  /* what it holds and may not is given up then */
    int64_t revoke_ns;                   /* when the heartbeat left whose answer told it to give something up that its coordinator has not heard to be free; 0: all is */
    int64_t lost_ns;                     /* when an answer was lost: the epoch that the coordinator has may be two ahead */
    int64_t beat_ns, return_ns;          /* when to send the next heartbeat; when to come back */
    bool full;                           /* the next heartbeat says everything: the coordinator may not have heard the last */
    bool asking;
    /* Of the offset request or fetch on its way. */
    uint32_t place;
    int64_t at_least;
    bool superseded;                     /* another one had the place in a later epoch already when the commit left */
    struct place_set fetched;            /* its committed offset is known */
    int64_t position[PLACES];
    bool committing;
    uint32_t past_place;                 /* what it gave up last, */
    int32_t past_epoch;                  /* and the epoch in which it had it; 0: nothing */
    bool belated;                        /* the commit on its way is for that */
    struct timer timer;
};
extern struct consumer consumers[CONSUMERS];
extern const struct str consumers_group;

static inline int64_t consumer_now(const struct consumer *p) { return sim_now_ns(p->c->world); }
static inline uint64_t consumer_draw(const struct consumer *p, uint64_t n) { return prng_below(&p->c->work_prng, n); }

/* ---- consumers.c ---- */
/* What an answer's error means for a member; of a heartbeat or of anything that names member and epoch. */
void consumer_judged(struct consumer *p, int16_t error);
void consumer_lost(struct consumer *p);  /* no answer: the connection, or the broker, is gone */
bool consumer_holds(const struct consumer *p, uint32_t place);

/* ---- consumers_offsets.c ---- */
void offsets_begin(void);
/* Does something for a place that it holds, if it holds any. */
void offsets_work(struct consumer *p);
/* After the faults: asks for the committed offsets of all places. True: it has something to ask. */
bool offsets_final(struct consumer *p);
const char *offsets_waiting(void);
/* From now on commits for the place of anybody but `p`, of an epoch before its, are refused. */
void offsets_superseded(const struct consumer *p, uint32_t place);

/* ---- consumers_check.c: what holds for the group ---- */
void claims_begin(void);
/* ASSERTs that there is room. */
uint32_t place_of(const struct uuid *topic, int32_t partition);
const struct place *place_at(uint32_t i); /* NULL: no more */
uint16_t claims_identity(void);          /* a new one */
/* `p` has entered the group (again), or another epoch. */
void claims_epoch(struct consumer *p, bool joined);
int32_t claims_newest(void);
void claims_committed(void);             /* the group has offsets now: it never begins anew */
/* After an answer: what `p` may own in its epoch nobody else may; what it holds nobody else holds. */
void claims_check(struct consumer *p);
/* Whether the place went to another one than `who` in an epoch after `epoch`. */
bool claims_superseded(uint32_t place, int32_t epoch, uint16_t who);
/* Asks the coordinator for a description of the group. */
void claims_describe(struct consumer *p);
bool claims_settled(void);               /* since the faults ended: a description has agreed with what every member knows */
#endif
