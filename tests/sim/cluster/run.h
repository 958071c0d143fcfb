/* run.h - a cluster of whole brokers and its clients in the simulated world, from one seed.
 *
 * Brokers are the server library as it is (log, journal, replication, metadata, coordinators, request handlers) on simulated
 * disks, network and clocks, all in one thread and in virtual time. Clients in the same world speak the Kafka protocol to
 * them. Each seed chooses the size of the cluster, its settings, the load, and a subset of the faults (swarm testing: Groce
 * et al., ISSTA 2012). One step is: time moves to the next event, and whoever has something to do gets a turn; then what can be
 * seen of the invariants of docs/replication.md 12 is checked. After the last step the faults end, and everything must
 * come to agree within bounded virtual time; then all that was acknowledged must be there. */
#ifndef SIM_CLUSTER_RUN_H
#define SIM_CLUSTER_RUN_H
#include <stdbool.h>
#include <stdint.h>

#define CLUSTER_FAULTS(X)                                                                                              \
    X(RESET) X(CUT) X(DELAY) X(PAUSE) X(KILL) X(POWER) X(CRASH_POINT) X(BLACKOUT) X(STOP) X(SYNC_ERROR) X(WRITE_ERROR)    \
    X(FULL_DISK) X(ROT) X(LOST_DISK) X(CLOCK) X(MEMBERS) X(MESSAGES) X(ISOLATE) X(VOTERS)
enum cluster_fault {
#define CLUSTER_FAULT_ENUM(name) FAULT_##name,
    CLUSTER_FAULTS(CLUSTER_FAULT_ENUM)
#undef CLUSTER_FAULT_ENUM
    FAULT_COUNT
};

struct cluster_options {
    uint64_t seed;
    uint32_t steps;
    uint32_t nodes;                      /* 0: the seed chooses */
    uint32_t faults;                     /* bits of enum cluster_fault that the seed may choose from */
    uint32_t faults_max;                 /* so many faults happen at most */
    const char *mutant;                  /* of replication/mutants.h or log/mutant.h; NULL: none */
    bool trace;                          /* the story on standard output */
};
/* Situations of the rules, counted by rules.c. */
#define CLUSTER_RULES(X)                                                                                                     \
    X(pre_votes_refused_last) X(pre_votes_refused_config) X(pre_votes_refused_epoch) X(pre_votes_refused_live) X(pre_votes_refused_first) \
    X(votes_refused_last) X(votes_refused_config) X(votes_refused_epoch) X(votes_refused_voted) X(votes_refused_blank)       \
    X(candidates_learn_config) X(campaigns_lost) X(leaders_resigned) X(leaders_pulled_up) X(leaders_deposed) X(leaders_lost) \
    X(transfers) X(transfers_taken) X(transfers_timed_out) X(quiet_begun) X(quiet_ended) X(quiet_vouched) X(quiet_doubted)   \
    X(appends_stale) X(appends_refused) X(appends_older) X(appends_of_epochs) X(appends_below_start) X(answers_held)         \
    X(cuts_by_walk) X(cuts_of_markers) X(walks_without_cut) X(epochs_empty) X(commits_bounded) X(commits_by_marker)          \
    X(commits_of_older_epochs) X(acks_of_older_epochs) X(acks_of_older_sessions) X(acks_of_strangers) X(hints_below)         \
    X(installs) X(installs_not_needed) X(logs_begun_anew) X(starts_moved) X(starts_followed) X(starts_inherited)             \
    X(reads_confirmed) X(reads_left) X(changes_refused_held) X(changes_refused_committed) X(changes_refused_ready)           \
    X(learners_promoted) X(voters_dropped) X(incarnations_replaced) X(voters_learn_it) X(configs_by_gossip)                  \
    X(logs_damaged) X(logs_mended)
#define CLUSTER_COVERAGE(X)                                                                                                  \
    X(steps) X(seconds) X(clusters) X(restarts) X(recoveries_unclean) X(leaders) X(established) X(truncations) X(produced) X(acked) \
    X(retried) X(read) X(commits) X(commit_checks) X(resets) X(cuts) X(one_way_cuts) X(delays) X(pauses)  \
    X(kills) X(power_losses) X(crash_points) X(blackouts) X(stops) X(disk_failures) X(open_failures) X(full_disks) X(rotten_bits) X(lost_disks)   \
    X(clock_jumps) X(member_changes) X(topics_made) X(topics_deleted) X(verified_batches) X(joins)                      \
    X(messages_lost) X(messages_doubled) X(messages_late) X(latest_told) X(segment_writes) X(holes_in_journal) X(isolations) X(generations) X(rode_through) X(leaves) X(member_commits) \
    X(crew_epochs) X(crew_revoked) X(crew_put_out) X(crew_rode_through) X(crew_leaves) X(crew_static_leaves) X(crew_commits) X(crew_refused) X(crew_described) \
    X(snapshots) X(half_snapshots) X(log_starts) X(images_compared) X(images_loaded) X(images_reloaded) \
    X(configs) X(voters_added) X(voters_removed) X(voters_refused) X(voters_wiped) X(deletions) CLUSTER_RULES(X)
struct cluster_coverage {
#define CLUSTER_COVERAGE_FIELD(name) uint64_t name;
    CLUSTER_COVERAGE(CLUSTER_COVERAGE_FIELD)
#undef CLUSTER_COVERAGE_FIELD
};
struct cluster_result {
    uint64_t hash;
    uint32_t steps, faults;              /* done */
    char violation[240];                 /* begins with the invariant's number; "": none */
    struct cluster_coverage coverage;
};
/* Leaks what crashed brokers held: for a process of its own. */
void cluster_run(const struct cluster_options *o, struct cluster_result *result);
#endif
