/* run.c - one seed: what it chooses, the steps, and the end in which everything must heal. */
#include "tests/sim/cluster/run.h"
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/assert.h"
#include "base/trace.h"
#include "tests/sim/cluster/cluster.h"

struct cluster *cluster_now;
#define HEAL_NS (120 * SECOND)           /* virtual time in which everything must have come to agree */

void cluster_violated(struct cluster *c, const char *fmt, ...) {
    if (cluster_failed(c)) return;
    va_list args;
    va_start(args, fmt);
    vsnprintf(c->result->violation, sizeof c->result->violation, fmt, args);
    va_end(args);
    cluster_trace(c, "VIOLATED %s", c->result->violation);
}

/* ---- the story ------------------------------------------------------------------------------ */

static void tell_time(const struct cluster *c) {
    printf("%7u %10.6f ", c->step, (double)(sim_now_ns(c->world) - SECOND) / 1e9);
}

void cluster_trace(struct cluster *c, const char *fmt, ...) {
    if (!c->options.trace) return;
    va_list args;
    va_start(args, fmt);
    tell_time(c);
    vprintf(fmt, args);
    putchar('\n');
    va_end(args);
}

/* What the node that had the turn has said. */
static void tell_diagnostics(struct cluster *c, const struct node *n) {
    static char text[65536];
    ssize_t len = c->options.trace ? read(c->trace_fd, text, sizeof text - 1) : 0;
    if (len <= 0) return;
    text[len] = 0;
    char *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        const char *said = strchr(line, ' '); /* behind the time, which is the real one */
        tell_time(c);
        printf("  [%d] %s\n", n->id, said ? said + 1 : line);
    }
}

static void diagnostics_setup(struct cluster *c) {
    int fds[2];
    if (!c->options.trace) {
        int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
        trace_setup(TRACE_ERROR, TRACE_TEXT, fd);
        return;
    }
    ASSERT(pipe2(fds, O_NONBLOCK | O_CLOEXEC) == 0);
    c->trace_fd = fds[0];
    trace_setup(TRACE_DEBUG, TRACE_TEXT, fds[1]);
}

/* ---- one step -------------------------------------------------------------------------------- */

static int64_t wanted_ns(struct cluster *c) {
    int64_t at = timers_next(&c->timers);
    for (uint32_t i = 1; i <= c->node_count; i++) {
        int64_t node = node_wanted_ns(&c->nodes[i]);
        if (node < at) at = node;
    }
    for (uint32_t i = 0; i < CLIENT_NODES; i++)
        if (sim_io_ready(c->client_ios[i])) at = 0;
    int64_t now = sim_now_ns(c->world);
    return at < now ? now : at;
}

void cluster_pass(struct cluster *c) {
    (void)sim_advance(c->world, wanted_ns(c));
    faults_fire_due(c);
    uint32_t first = (uint32_t)below(c, c->node_count);
    for (uint32_t i = 0; i < c->node_count && !cluster_failed(c); i++) {
        struct node *n = &c->nodes[1 + (first + i) % c->node_count];
        node_turn(n);
        tell_diagnostics(c, n);
    }
    for (uint32_t i = 0; i < CLIENT_NODES; i++)
        if (sim_io_ready(c->client_ios[i])) (void)io_turn(c->client_ios[i], 0);
    timers_run(&c->timers, sim_now_ns(c->world));
    c->step++;
    covered(c)->steps++;
}

/* ---- begin and end --------------------------------------------------------------------------- */

static void begin(struct cluster *c) {
    static const uint32_t sizes[] = {1, 3, 3, 3, 3, 5};
    c->world = sim_world_new(c->options.seed);
    ASSERT(c->world != NULL);
    c->prng.state = c->options.seed * 0x9e3779b97f4a7c15u + 1;
    c->work_prng.state = c->options.seed * 0xbf58476d1ce4e5b9u + 2;
    timers_init(&c->timers);
    list_init(&c->clients);
    uint32_t chosen = sizes[below(c, ARRAY_LEN(sizes))];
    c->node_count = c->options.nodes ? c->options.nodes : chosen;
    c->founders = c->node_count;
    c->reactors = chance(c, 4) ? 2 : 1;
    c->snapshot_bytes = 256u << c->options.seed % 5;
    if (c->node_count > 1) covered(c)->clusters++;
    struct sim_tuning *tuning = sim_tuning(c->world);
    tuning->short_receives = chance(c, 2);
    if (chance(c, 3)) tuning->disk_ns_max = (int64_t)(1 + below(c, 20)) * MS;
    if (chance(c, 3)) tuning->net_ns_max = (int64_t)(1 + below(c, 20)) * MS;
    c->check = check_new(c);
    c->images = check_images_new();
    c->members = check_members_new();
    c->walks = check_walk_new();
    c->history = history_new(c);
    for (uint32_t i = 0; i < CLIENT_NODES; i++) c->client_ios[i] = sim_io_create(c->world, CLIENT_NODE + i);
    faults_choose(c);
    if (c->faults >> FAULT_VOTERS & 1 && !chance(c, 4)) c->node_count++;
    for (uint32_t i = 1; i <= c->node_count; i++) {
        c->nodes[i] = (struct node){.c = c, .id = (int32_t)i, .policy = SIM_KILLED};
        if (i > c->founders) { /* starts when it likes */
            c->nodes[i].return_ns = sim_now_ns(c->world) + (int64_t)below(c, SECOND);
            continue;
        }
        node_start(&c->nodes[i]);
        tell_diagnostics(c, &c->nodes[i]);
    }
    admin_start(c);
    voters_start(c);
    deleter_start(c);
    producers_start(c);
    readers_start(c);
    askers_start(c);
    groups_start(c);
    members_start(c);
    consumers_start(c);
    faults_start(c);
}

static const char *waiting(struct cluster *c) {
    const char *what = producers_waiting(c);
    if (!what) what = groups_waiting(c);
    if (!what) what = members_waiting(c);
    if (!what) what = consumers_waiting(c);
    if (!what) what = admin_waiting(c);
    if (!what) what = voters_waiting(c);
    if (!what) what = check_converged(c);
    if (!what) what = check_rest(c);
    if (!what) what = check_members_converged(c);
    if (what) return what;
    if (c->quiet_ns == 0) c->quiet_ns = sim_now_ns(c->world);
    return readers_waiting(c);
}

/* All faults end: everybody comes back, links are whole, disks work. Then everything must come to agree in bounded time, and
 * what was acknowledged must be there. */
static void heal(struct cluster *c) {
    cluster_trace(c, "the faults end");
    faults_end(c);
    c->healed = c->finishing = true;
    int64_t until = sim_now_ns(c->world) + HEAL_NS;
    const char *what = "";
    uint32_t looks = 0;
    while (!cluster_failed(c) && what) {
        cluster_pass(c);
        if (looks++ % 64 == 0) what = waiting(c);
        if (what && sim_now_ns(c->world) > until) {
            cluster_violated(c, "23 not healed after %d s: %s", (int)(HEAL_NS / SECOND), what);
            return;
        }
    }
    if (!cluster_failed(c)) history_check_end(c->history);
}

void cluster_run(const struct cluster_options *o, struct cluster_result *result) {
    struct cluster *c = calloc(1, sizeof *c);
    ASSERT(c != NULL);
    *result = (struct cluster_result){0};
    c->options = *o;
    c->result = result;
    cluster_now = c;
    diagnostics_setup(c);
    begin(c);
    while (c->step < o->steps && !cluster_failed(c)) cluster_pass(c);
    if (!cluster_failed(c)) heal(c);
    if (cluster_failed(c)) check_tell(c);
    result->steps = c->step;
    result->hash = sim_hash(c->world);
    covered(c)->seconds += (uint64_t)((sim_now_ns(c->world) - SECOND) / SECOND);
}
