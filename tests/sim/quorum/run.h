/* run.h - the quorum core by itself: replicas, their disks and the network between them, from one seed.
 *
 * No broker around it, so that a run of hundreds of steps takes microseconds and millions of runs a night. Each step is one of:
 * a message is delivered, delayed, lost or doubled; a client writes; a disk makes a prefix of what waits durable; a clock jumps to
 * the next deadline; a node dies, keeping any prefix of what was not durable, or comes back; a disk is wiped; the leader
 * is asked to change its members, move its log start or hand over. After every step the invariants of
 * docs/replication.md 12 are checked. Then the faults end and the group must come to agree.
 *
 * The same seed gives the same hash with every compiler. Rules that are left out: replication/mutants.h. */
#ifndef SIM_QUORUM_RUN_H
#define SIM_QUORUM_RUN_H
#include <stdbool.h>
#include <stdint.h>
#include "replication/mutants.h"

enum quorum_feature {
    QUORUM_PREFIX = 1,                   /* log starts move */
    QUORUM_MEMBERS = 2,                  /* configurations change, leadership is handed over */
    QUORUM_WIPE = 4,                     /* disks are lost, once at a time */
    QUORUM_QUIET = 8,                    /* little is written, and groups agree to be quiet */
    QUORUM_OBSERVERS = 16,               /* with QUORUM_MEMBERS: leaders are told of observers, dead incarnations among them */
    QUORUM_LATE = 32                     /* appends are made when they leave, as brokers do, and that they left is known later yet */
};
struct quorum_options {
    uint64_t seed;
    uint32_t nodes, voters, steps;       /* nodes <= 5; the first `voters` of them vote at the beginning */
    uint32_t features;
    enum replica_mutant mutant;
    bool trace;
};
/* What was reached, added up over runs: a search that never sees a situation proves nothing about it. */
struct quorum_coverage {
    uint64_t steps, elections, commits, truncations, deep_truncations, zero_length_epochs, installs, configs, transfers, wipes,
        old_epoch_acks, rejects, restarts, pre_votes_refused, reads, vouched, observed, late;
};
struct quorum_result {
    uint64_t hash;
    uint32_t steps;
    const char *violation;               /* NULL: none; static text that begins with the invariant's number */
    bool stuck;                          /* nothing was violated, but the group did not come to agree */
};
void quorum_sim_run(const struct quorum_options *o, struct quorum_result *result, struct quorum_coverage *coverage);
const char *replica_mutant_name(enum replica_mutant m);
/* REPLICA_MUTANT_COUNT: no such. */
enum replica_mutant replica_mutant_by_name(const char *name);
#endif
