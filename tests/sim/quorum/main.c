/* main.c - quorum-sim: runs of the quorum core from the command line.
 *
 *   quorum-sim [--seed N] [--seeds K] [--steps S] [--nodes N] [--voters N] [--features prefix,members,wipe,quiet,observers,late] [--mutant NAME] [--trace]
 *
 * One line for each seed that failed, and a summary; with --verbose one for every seed. Exit 1 on a failure. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/sim/quorum/run.h"

static int usage(void) {
    fprintf(stderr, "usage: quorum-sim [--seed N] [--seeds K] [--steps S] [--nodes N] [--voters N] [--features prefix,members,wipe,quiet,observers,late] "
                    "[--mutant NAME] [--trace] [--verbose]\nmutants:");
    for (int m = 1; m < REPLICA_MUTANT_COUNT; m++) fprintf(stderr, " %s", replica_mutant_name((enum replica_mutant)m));
    fprintf(stderr, "\n");
    return 2;
}

static void print_coverage(const struct quorum_coverage *c) {
    printf("steps %" PRIu64 ", elections %" PRIu64 ", commits %" PRIu64 ", truncations %" PRIu64 " (%" PRIu64 " of several epochs), zero-length epochs %" PRIu64
           ", installs %" PRIu64 ", configs %" PRIu64 ", transfers %" PRIu64 ", wipes %" PRIu64 ", acks of older epochs %" PRIu64 ", rejects %" PRIu64
           ", restarts %" PRIu64 ", pre-votes refused %" PRIu64 ", reads %" PRIu64 "\n",
           c->steps, c->elections, c->commits, c->truncations, c->deep_truncations, c->zero_length_epochs, c->installs, c->configs, c->transfers,
           c->wipes, c->old_epoch_acks, c->rejects, c->restarts, c->pre_votes_refused, c->reads);
}

int main(int argc, char **argv) {
    static const struct option options[] = {
        {"seed", required_argument, NULL, 's'}, {"seeds", required_argument, NULL, 'k'}, {"steps", required_argument, NULL, 'S'},
        {"nodes", required_argument, NULL, 'n'}, {"voters", required_argument, NULL, 'v'}, {"features", required_argument, NULL, 'f'},
        {"mutant", required_argument, NULL, 'm'}, {"trace", no_argument, NULL, 't'}, {"verbose", no_argument, NULL, 'V'}, {0}};
    struct quorum_options o = {.seed = 1, .nodes = 3, .voters = 0, .steps = 600};
    uint64_t seeds = 1, failed = 0;
    bool verbose = false;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 's': o.seed = strtoull(optarg, NULL, 10); break;
        case 'k': seeds = strtoull(optarg, NULL, 10); break;
        case 'S': o.steps = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 'n': o.nodes = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 'v': o.voters = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 'm': o.mutant = replica_mutant_by_name(optarg); break;
        case 't': o.trace = true; break;
        case 'V': verbose = true; break;
        case 'f':
            o.features = (strstr(optarg, "prefix") ? QUORUM_PREFIX : 0) | (strstr(optarg, "members") ? QUORUM_MEMBERS : 0) |
                         (strstr(optarg, "wipe") ? QUORUM_WIPE : 0) | (strstr(optarg, "quiet") ? QUORUM_QUIET : 0) |
                         (strstr(optarg, "observers") ? QUORUM_OBSERVERS : 0) | (strstr(optarg, "late") ? QUORUM_LATE : 0);
            break;
        default: return usage();
        }
    }
    if (o.voters == 0) o.voters = o.nodes;
    if (optind < argc || o.mutant == REPLICA_MUTANT_COUNT || o.nodes < 1 || o.nodes > 5 || o.voters > o.nodes) return usage();
    struct quorum_coverage coverage = {0};
    for (uint64_t i = 0; i < seeds; i++, o.seed++) {
        struct quorum_result r;
        quorum_sim_run(&o, &r, &coverage);
        bool bad = r.violation || r.stuck;
        failed += bad;
        if (bad) printf("seed %" PRIu64 " steps %u hash %016" PRIx64 " FAILED %s\n", o.seed, r.steps, r.hash, r.violation ? r.violation : "23 stuck after the faults ended");
        else if (verbose) printf("seed %" PRIu64 " steps %u hash %016" PRIx64 " ok\n", o.seed, r.steps, r.hash);
    }
    print_coverage(&coverage);
    printf("%" PRIu64 " seeds, %" PRIu64 " failed\n", seeds, failed);
    return failed ? 1 : 0;
}
