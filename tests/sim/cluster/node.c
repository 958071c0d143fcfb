/* node.c - a broker's life on the simulated io: start, turns, death at any moment, return. */
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include "base/assert.h"
#include "server/acceptor.h"
#include "server/reactor.h"
#include "tests/sim/cluster/cluster.h"

#define RETURN_MIN_NS (20 * MS)
#define RETURN_MAX_NS (3 * SECOND)

static void settings(const struct node *n, char *text, size_t cap) {
    static const unsigned assignment_intervals[] = {0, 100, 1000};
    struct cluster *c = n->c;
    int at = snprintf(text, cap,
        "log.dirs=/data\nlisteners=127.0.0.1:%d\nnode.id=%d\nreactors=%u\njournal.bytes=%d\ntail.bytes=1048576\nmemory.max.bytes=134217728\n"
        "disk.reserve.bytes=0\nshutdown.timeout.ms=500\nlog.level=%s\nlog.cleaner.enable=false\noffsets.topic.num.partitions=2\n"
        "default.replication.factor=%u\nmin.insync.replicas=%u\nlog.segment.bytes=1048576\nauto.create.topics.enable=false\n"
        "group.initial.rebalance.delay.ms=0\ngroup.min.session.timeout.ms=1000\ngroup.consumer.session.timeout.ms=800\n"
        "group.consumer.heartbeat.interval.ms=80\ngroup.consumer.assignment.interval.ms=%u\nlog.message.timestamp.after.max.ms=9223372036854775807\n"
        "offsets.retention.minutes=2147483647\nlog.retention.ms=-1\nproducer.id.expiration.ms=2147483647\n"
        "metadata.log.max.record.bytes.between.snapshots=%u\n",
        KAFKA_PORT + n->id, n->id, c->reactors, 4 << 20, c->options.trace ? "debug" : "error", c->founders < 3 ? c->founders : 3,
        c->founders < 3 ? 1 : 2, assignment_intervals[c->options.seed % ARRAY_LEN(assignment_intervals)], c->snapshot_bytes);
    if (c->node_count == 1) return;
    bool founder = n->id <= (int32_t)c->founders;
    if (!founder) at += snprintf(text + at, cap - (size_t)at, "peer.listen=127.0.0.1:%d\n", PEER_PORT + n->id);
    at += snprintf(text + at, cap - (size_t)at, founder ? "controller.quorum.voters=" : "controller.quorum.bootstrap.servers=");
    for (uint32_t i = 1; i <= c->founders; i++) {
        at += snprintf(text + at, cap - (size_t)at, i > 1 ? "," : "");
        if (founder) at += snprintf(text + at, cap - (size_t)at, "%u@", i);
        at += snprintf(text + at, cap - (size_t)at, "127.0.0.1:%u", PEER_PORT + i);
    }
    snprintf(text + at, cap - (size_t)at, "\n");
}

static void configure(const struct node *n, struct config *config) {
    char text[2048], why[512];
    settings(n, text, sizeof text);
    struct config_builder *b = config_builder_new();
    ASSERT(b != NULL);
    enum err err = config_add_properties(b, "varve-sim", text, strlen(text), why, sizeof why);
    if (err == OK) err = config_finish(b, config, why, sizeof why);
    if (err != OK) fprintf(stderr, "varve-sim: %s\n", why);
    ASSERT(err == OK);
    config_builder_free(b);
}

/* ---- death ---------------------------------------------------------------------------------- */

static void dead(struct node *n) {
    struct cluster *c = n->c;
    if (!sim_crashed(c->world, (unsigned)n->id)) cluster_trace(c, "node %d dies", n->id);
    else cluster_trace(c, "node %d dies at its disk operation %llu", n->id, (unsigned long long)sim_disk_ops(c->world, (unsigned)n->id));
    check_node(n);
    if (n->policy == SIM_KILLED && sim_names_lost(c->world, (unsigned)n->id)) n->policy = SIM_LOSE_ALL;
    sim_crash(c->world, (unsigned)n->id, n->policy);
    for (uint32_t i = 0; i < c->reactors; i++) io_destroy(n->ios[i]);
    sim_faults_clear(c->world, (unsigned)n->id);
    sim_crash_at(c->world, (unsigned)n->id, 0);
    n->up = n->ready = n->stopping = false;
    n->paused_until = 0;
    int64_t wait = RETURN_MIN_NS + (int64_t)below(c, chance(c, 3) ? RETURN_MAX_NS : 300 * MS);
    n->return_ns = sim_now_ns(c->world) + (c->healed ? RETURN_MIN_NS : wait);
}

void node_crash(struct node *n, enum sim_crash_policy policy) {
    if (!n->up) return;
    n->policy = policy;
    dead(n);
}

/* Whatever the broker does may end it: the disk operation at which it is to crash, or its own io_fatal(). */
static bool guarded(struct node *n, void (*what)(struct node *n)) {
    static jmp_buf jump;
    struct sim_fatal *fatal = sim_fatal(n->c->world);
    fatal->jump = &jump;
    if (setjmp(jump) == 0) {
        what(n);
    } else {
        cluster_trace(n->c, "node %d ends itself: %s", n->id, fatal->message);
        covered(n->c)->disk_failures++;
    }
    fatal->jump = NULL;
    if (!sim_crashed(n->c->world, (unsigned)n->id)) return true;
    dead(n);
    return false;
}

/* ---- start ---------------------------------------------------------------------------------- */

static void ready(void *ctx, enum err err, const char *why) {
    struct node *n = ctx;
    n->ready = err == OK;
    if (err == OK) {
        cluster_trace(n->c, "node %d is ready", n->id);
        return;
    }
    cluster_trace(n->c, "node %d cannot start: %s", n->id, why);
    n->refused = true;
    broker_stop(&n->broker);
}

static enum err open_err;
static char open_why[512];

static void begin(struct node *n) {
    struct config config;
    configure(n, &config);
    open_err = broker_init(&n->broker, &config);
    ASSERT(open_err == OK);
    for (uint32_t i = 0; i < n->c->reactors; i++) {
        n->ios[i] = sim_io_create(n->c->world, (unsigned)n->id);
        ASSERT(n->ios[i] != NULL && reactor_init(&n->broker.reactors[i], n->ios[i]) == OK);
    }
    open_err = broker_open(&n->broker, &n->recovery, open_why, sizeof open_why);
    if (open_err == OK) messages_follow(n);
    if (open_err == OK) broker_start(&n->broker, &n->recovery, ready, n);
}

/* What the operator does with a disk that has rotted so that the broker refuses it. */
static void replace_disk(struct node *n) {
    if (!n->rotten) return;
    cluster_trace(n->c, "the operator of node %d replaces its disk", n->id);
    n->rotten = false;
    n->lost_disks++;
    sim_disk_replace(n->c->world, (unsigned)n->id);
    check_disk_lost(n);
}

void node_start(struct node *n) {
    struct cluster *c = n->c;
    n->up = true;
    n->life++;
    n->policy = SIM_KILLED;
    watch_disk(n);
    cluster_trace(c, "node %d starts, life %u", n->id, n->life);
    faults_at_start(n);
    open_why[0] = 0;
    open_err = OK;
    if (!guarded(n, begin)) return;
    if (n->life > 1) covered(c)->restarts++;
    if (open_err == OK) {
        if (!n->recovery.fresh && !n->recovery.clean) covered(c)->recoveries_unclean++;
        return;
    }
    cluster_trace(c, "node %d does not start: %s", n->id, open_why);
    if (!n->rotten && open_err == ERR_CORRUPT) cluster_violated(c, "3 node %d refuses its own disk: %.150s", n->id, open_why);
    covered(c)->open_failures += open_err == ERR_IO;
    node_crash(n, SIM_KILLED); /* the next process tries again */
    if (open_err == ERR_CORRUPT) replace_disk(n);
}

/* ---- turns ---------------------------------------------------------------------------------- */

static bool due(const struct node *n, uint32_t i) {
    const struct reactor *r = &n->broker.reactors[i];
    return sim_io_ready(n->ios[i]) || r->busy || timers_next(&r->timers) <= sim_now_ns(n->c->world);
}

static uint32_t turn_of;
static void turn_one(struct node *n) { reactor_turn(&n->broker.reactors[turn_of], 0); }

static void ended(struct node *n) {
    struct cluster *c = n->c;
    if (!broker_clean(&n->broker) || n->refused) { /* as main.c: the process ends, whatever is under way */
        covered(c)->disk_failures++;
        cluster_trace(c, "node %d has ended with a failure", n->id);
        node_crash(n, n->refused ? SIM_KILLED : n->policy);
        if (n->refused) replace_disk(n);
        n->refused = false;
        return;
    }
    cluster_trace(c, "node %d has stopped", n->id);
    check_node(n);
    for (uint32_t i = 0; i < c->reactors; i++) reactor_close(&n->broker.reactors[i]);
    broker_close(&n->broker);
    for (uint32_t i = 0; i < c->reactors; i++) io_destroy(n->ios[i]);
    n->up = n->ready = n->stopping = false;
    n->return_ns = sim_now_ns(c->world) + RETURN_MIN_NS + (int64_t)below(c, SECOND);
}

void node_turn(struct node *n) {
    if (!n->up || n->paused_until > 0) return;
    uint32_t first = (uint32_t)below(n->c, n->c->reactors);
    bool turned = false;
    for (uint32_t i = 0; i < n->c->reactors; i++) {
        turn_of = (first + i) % n->c->reactors;
        if (!due(n, turn_of)) continue;
        turned = true;
        if (!guarded(n, turn_one)) return;
    }
    if (broker_ended(&n->broker)) ended(n);
    else if (turned) check_node(n);
}

int64_t node_wanted_ns(const struct node *n) {
    if (!n->up) return n->return_ns;
    if (n->paused_until > 0) return n->paused_until;
    int64_t at = INT64_MAX;
    for (uint32_t i = 0; i < n->c->reactors; i++) {
        if (due(n, i)) return 0;
        int64_t timer = timers_next(&n->broker.reactors[i].timers);
        if (timer < at) at = timer;
    }
    return at;
}

void node_stop(struct node *n) {
    if (!n->up || !n->ready || n->stopping) return;
    n->stopping = true;
    cluster_trace(n->c, "node %d is asked to stop", n->id);
    broker_stop(&n->broker);
}
