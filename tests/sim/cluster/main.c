/* main.c - varve-sim: whole clusters in the simulated world, from the command line.
 *
 *   varve-sim --seed N --seeds K [--steps S] [--nodes N] [--mutant NAME] [--trace] [--shrink] [--coverage[=seldom]] [--jobs J] [--first]
 *
 * --coverage counts the situations that were reached, and fails when one of them never was; what is seldom need be there only with
 * --coverage=seldom, for hundreds of seeds. --first ends with the first failure. One line for each seed: `seed N steps S hash H ok` or `... FAILED invariant K: what`. Exit 1 on a failure. Each seed runs
 * in a process of its own, so a broken assertion or a hang is a failure of that seed; with --trace in this one. */
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tests/sim/cluster/mutants.h"
#include "tests/sim/cluster/run.h"

enum { JOBS_MAX = 64, SECONDS_MAX = 300 };
struct job { pid_t pid; uint64_t seed; struct cluster_result *result; /* shared with the child */ };

static const char *const fault_names[] = {
#define NAME(name) #name,
    CLUSTER_FAULTS(NAME)
#undef NAME
};

static void name_put(const char *name) { fprintf(stderr, " %s", name); }
static int usage(void) {
    fprintf(stderr, "usage: varve-sim --seed N --seeds K [--steps S] [--nodes N] [--faults a,b] [--mutant NAME] [--trace] [--shrink] [--coverage] [--jobs J]\n"
                    "faults: reset cut delay pause kill power crash_point blackout stop sync_error write_error full_disk rot lost_disk clock members messages isolate voters\nmutants:");
    core_mutants_list(name_put);
    journal_mutants_list(name_put);
    fputc('\n', stderr);
    return 2;
}

static struct cluster_result *shared_result(void) {
    void *p = mmap(NULL, sizeof(struct cluster_result), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) abort();
    return p;
}

/* A diagnostic of the child that says which assertion broke goes to stderr; the seed's line says that one did. */
static void run_child(const struct cluster_options *o, struct cluster_result *result) {
    alarm(SECONDS_MAX);
    memset(result, 0, sizeof *result);
    cluster_run(o, result);
    _exit(0);
}

static void judge(struct cluster_result *r, int status) {
    if (WIFSIGNALED(status) && r->violation[0] == 0)
        snprintf(r->violation, sizeof r->violation, WTERMSIG(status) == SIGALRM ? "23: does not end" : "0: the process died of signal %d (a broken assertion?)", WTERMSIG(status));
}

static bool run_one(const struct cluster_options *o, struct cluster_result *result) {
    pid_t pid = fork();
    if (pid < 0) abort();
    if (pid == 0) run_child(o, result);
    int status;
    while (waitpid(pid, &status, 0) < 0) {}
    judge(result, status);
    return result->violation[0] == 0;
}

static void print_result(uint64_t seed, const struct cluster_result *r) {
    if (r->violation[0]) printf("seed %" PRIu64 " steps %u hash %016" PRIx64 " FAILED invariant %s\n", seed, r->steps, r->hash, r->violation);
    else printf("seed %" PRIu64 " steps %u hash %016" PRIx64 " ok\n", seed, r->steps, r->hash);
    fflush(stdout);
}

static void add_coverage(struct cluster_coverage *to, const struct cluster_coverage *c) {
#define ADD(name) to->name += c->name;
    CLUSTER_COVERAGE(ADD)
#undef ADD
}
/* Not to be expected in so few runs as every change is tested with. Other tests see to them: quorum-sim
 * (votes, acknowledgements, log starts, changes of members), tests/e2e/test_cluster_snapshot.py, tests/unit/test_log_mend.c, tests/e2e/test_mend.py. */
static bool is_seldom(const char *name) {
    static const char *const names[] = {"half_snapshots", "images_reloaded", "voters_wiped", "votes_refused_config", "votes_refused_epoch", "votes_refused_blank",
                                        "transfers_timed_out", "cuts_of_markers", "appends_below_start", "acks_of_older_epochs", "acks_of_older_sessions",
                                        "acks_of_strangers", "votes_refused_voted", "campaigns_lost", "crew_refused", "starts_inherited",
                                        "changes_refused_committed", "logs_damaged", "logs_mended"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(names[i], name) == 0) return true;
    return false;
}
/* Nor in hundreds: a blank replica that is asked to vote has heard of its membership with the question, as a rule; and who has stored a configuration
 * has the commit that it waited for; sessions name their epoch, so an older one answers only for a member that left and came back within one. */
static bool is_hardly_ever(const char *name) {
    return strcmp(name, "images_reloaded") == 0 || strcmp(name, "votes_refused_blank") == 0 || strcmp(name, "changes_refused_committed") == 0 ||
           strcmp(name, "acks_of_older_sessions") == 0;
}

/* False: something did not happen in any run. */
static bool print_coverage(const struct cluster_coverage *c, bool seldom) {
    bool all = true;
#define PUT(name) all &= c->name > 0 || (seldom ? is_hardly_ever(#name) : is_seldom(#name)), printf("%-22s %" PRIu64 "%s\n", #name, c->name, c->name ? "" : "  NEVER");
    CLUSTER_COVERAGE(PUT)
#undef PUT
    return all;
}

static void print_faults(uint32_t bits) {
    const char *comma = "";
    for (int f = 0; f < FAULT_COUNT; f++) {
        if (!(bits >> f & 1)) continue;
        printf("%s%s", comma, fault_names[f]);
        comma = ",";
    }
}

/* The command that shows it again; its trace says the rest. */
static void print_replay(const struct cluster_options *o, const struct cluster_result *r) {
    printf("shrunk: varve-sim --seed %" PRIu64 " --steps %u", o->seed, o->steps);
    if (o->nodes) printf(" --nodes %u", o->nodes);
    if (o->mutant) printf(" --mutant %s", o->mutant);
    if (o->faults == 0) {
        printf(" --faults-mask 0");
    } else {
        printf(" --faults ");
        print_faults(o->faults);
    }
    if (o->faults_max != UINT32_MAX) printf(" --faults-max %u", o->faults_max);
    printf(" --trace: step %u, invariant %s\n", r->steps, r->violation[0] ? r->violation : "ok");
}

/* The fewest kinds of faults, then the fewest faults, then the fewest steps with which the seed still fails. */
static void shrink(struct cluster_options o, struct cluster_result *r) {
    uint32_t given = o.steps;
    for (int f = 0; f < FAULT_COUNT; f++) {
        struct cluster_options less = o;
        less.faults &= ~(1u << f);
        if (less.faults != o.faults && !run_one(&less, r)) o = less;
    }
    (void)run_one(&o, r);
    if (r->steps < o.steps) o.steps = r->steps;
    if (run_one(&o, r)) o.steps = given;
    uint32_t low = 0, high = r->faults;
    while (low < high) { /* the first so many faults suffice */
        struct cluster_options less = o;
        less.faults_max = (low + high) / 2;
        if (!run_one(&less, r)) high = less.faults_max;
        else low = less.faults_max + 1;
    }
    o.faults_max = high;
    low = 1;
    high = o.steps;
    while (low < high) {
        struct cluster_options less = o;
        less.steps = (low + high) / 2;
        if (!run_one(&less, r)) high = less.steps;
        else low = less.steps + 1;
    }
    o.steps = high;
    (void)run_one(&o, r);
    print_replay(&o, r);
}

static uint32_t parse_faults(char *text) {
    uint32_t bits = 0;
    for (char *save = NULL, *word = strtok_r(text, ",", &save); word; word = strtok_r(NULL, ",", &save))
        for (int f = 0; f < FAULT_COUNT; f++)
            if (strcasecmp(fault_names[f], word) == 0) bits |= 1u << f;
    return bits;
}

struct run { struct cluster_options options; uint64_t seeds; uint32_t jobs; bool shrink, coverage, seldom, first; };

static bool options_read(int argc, char **argv, struct run *run) {
    static const struct option options[] = {
        {"seed", required_argument, NULL, 's'}, {"seeds", required_argument, NULL, 'k'}, {"steps", required_argument, NULL, 'S'},
        {"nodes", required_argument, NULL, 'n'}, {"mutant", required_argument, NULL, 'm'}, {"trace", no_argument, NULL, 't'},
        {"shrink", no_argument, NULL, 'r'}, {"coverage", optional_argument, NULL, 'c'}, {"jobs", required_argument, NULL, 'j'}, {"first", no_argument, NULL, '1'},
        {"faults", required_argument, NULL, 'f'}, {"faults-mask", required_argument, NULL, 'F'}, {"faults-max", required_argument, NULL, 'M'}, {0}};
    struct cluster_options *o = &run->options;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 's': o->seed = strtoull(optarg, NULL, 10); break;
        case 'k': run->seeds = strtoull(optarg, NULL, 10); break;
        case 'S': o->steps = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 'n': o->nodes = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 'm': o->mutant = optarg; break;
        case 't': o->trace = true; break;
        case 'r': run->shrink = true; break;
        case 'c':
            run->coverage = true;
            run->seldom = optarg && strcmp(optarg, "seldom") == 0;
            break;
        case '1': run->first = true; break;
        case 'j': run->jobs = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 'f': o->faults = parse_faults(optarg); break;
        case 'F': o->faults = (uint32_t)strtoul(optarg, NULL, 0); break;
        case 'M': o->faults_max = (uint32_t)strtoul(optarg, NULL, 10); break;
        default: return false;
        }
    }
    if (o->mutant && !core_mutant_choose(o->mutant) && !journal_mutant_choose(o->mutant)) return false;
    return optind == argc && o->nodes <= 5 && run->jobs >= 1 && run->jobs <= JOBS_MAX;
}

static struct cluster_coverage total;

/* Seeds end in any order and are told in theirs. */
static uint64_t run_all(const struct run *run) {
    struct job jobs[JOBS_MAX] = {0};
    uint64_t next = 0, told = 0, failed = 0;
    for (uint32_t i = 0; i < run->jobs; i++) jobs[i].result = shared_result();
    struct cluster_options o = run->options;
    while (told < run->seeds) {
        struct job *job = &jobs[next % run->jobs];
        if (next < run->seeds && next - told < run->jobs) {
            o.seed = run->options.seed + next++;
            job->seed = o.seed;
            job->pid = fork();
            if (job->pid < 0) abort();
            if (job->pid == 0) run_child(&o, job->result);
            continue;
        }
        job = &jobs[told++ % run->jobs];
        int status;
        while (waitpid(job->pid, &status, 0) < 0) {}
        judge(job->result, status);
        print_result(job->seed, job->result);
        add_coverage(&total, &job->result->coverage);
        if (job->result->violation[0] == 0) continue;
        failed++;
        if (run->shrink) {
            struct cluster_options failing = run->options;
            failing.seed = job->seed;
            shrink(failing, job->result);
        }
        if (run->first) return failed;
    }
    return failed;
}

int main(int argc, char **argv) {
    struct run run = {.options = {.seed = 1, .steps = 30000, .faults = ~0u, .faults_max = UINT32_MAX}, .seeds = 1, .jobs = 1};
    uint64_t failed = 0;
    if (!options_read(argc, argv, &run)) return usage();
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (run.options.trace) {
        for (uint64_t i = 0; i < run.seeds; i++, run.options.seed++) {
            struct cluster_result r;
            cluster_run(&run.options, &r);
            print_result(run.options.seed, &r);
            add_coverage(&total, &r.coverage);
            failed += r.violation[0] != 0;
        }
    } else {
        failed = run_all(&run);
    }
    if (run.coverage && !print_coverage(&total, run.seldom)) failed++;
    return failed ? 1 : 0;
}
