/* faults.c - what may befall a cluster, and which of it a seed chooses. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "tests/sim/cluster/cluster.h"

enum { LOST_DISKS_MAX = 4 };

static struct node *some_node(struct cluster *c) { return &c->nodes[1 + below(c, c->node_count)]; }
/* Any end of a connection: a broker, or a client's node. */
static unsigned some_end(struct cluster *c) {
    uint64_t i = below(c, c->node_count * 2 + 2);
    return i < c->node_count * 2 ? (unsigned)(1 + i / 2) : CLIENT_NODE + (unsigned)below(c, CLIENT_NODES);
}
static int64_t some_time(struct cluster *c, int64_t most) { return (int64_t)(1 + below(c, (uint64_t)most)); }

static enum sim_crash_policy some_loss(struct cluster *c) {
    static const enum sim_crash_policy policies[] = {SIM_LOSE_ALL, SIM_LOSE_ALL, SIM_RANDOM, SIM_TORN, SIM_TORN_BLOCK, SIM_LOSE_NONE};
    return policies[below(c, ARRAY_LEN(policies))];
}

/* ---- links ------------------------------------------------------------------------------------ */

struct repair { struct timer timer; struct cluster *c; unsigned a, b; bool reset; };

static void link_repaired(struct timer *t) {
    struct repair *r = CONTAINER_OF(t, struct repair, timer);
    if (!r->c->healed) {
        if (r->reset) sim_link_reset(r->c->world, r->a, r->b);
        sim_link_cut(r->c->world, r->a, r->b, false);
        sim_link_cut(r->c->world, r->b, r->a, false);
        sim_link_delay(r->c->world, r->a, r->b, 0);
        sim_link_delay(r->c->world, r->b, r->a, 0);
        cluster_trace(r->c, "the link %u-%u is whole again%s", r->a, r->b, r->reset ? ", its connections are gone" : "");
    }
    free(r);
}

static void repair_later(struct cluster *c, unsigned a, unsigned b) {
    struct repair *r = malloc(sizeof *r);
    ASSERT(r != NULL);
    *r = (struct repair){.c = c, .a = a, .b = b, .reset = chance(c, 2)};
    timer_init(&r->timer, link_repaired);
    timer_set(&c->timers, &r->timer, sim_now_ns(c->world) + some_time(c, chance(c, 2) ? 400 * MS : 4 * SECOND));
}

static void cut(struct cluster *c) {
    unsigned a = some_end(c), b = some_end(c);
    if (a == b || (a >= CLIENT_NODE && b >= CLIENT_NODE)) return;
    uint64_t way = below(c, 3);
    sim_link_cut(c->world, a, b, true);
    if (way > 0) sim_link_cut(c->world, b, a, true);
    else covered(c)->one_way_cuts++;
    covered(c)->cuts++;
    cluster_trace(c, "the link %u%s%u is cut", a, way > 0 ? "-" : ">", b);
    repair_later(c, a, b);
}

/* One broker loses all others, but not its clients: if it leads, they still write to it what will never be committed. */
static void isolate(struct node *n) {
    struct cluster *c = n->c;
    for (uint32_t i = 1; i <= c->node_count; i++) {
        if ((int32_t)i == n->id) continue;
        sim_link_cut(c->world, (unsigned)n->id, i, true);
        sim_link_cut(c->world, i, (unsigned)n->id, true);
        repair_later(c, (unsigned)n->id, i);
    }
    covered(c)->isolations++;
    cluster_trace(c, "node %d is cut off from all others", n->id);
}

static void delay(struct cluster *c) {
    unsigned a = some_end(c), b = some_end(c);
    if (a == b) return;
    int64_t ns = some_time(c, 300 * MS);
    sim_link_delay(c->world, a, b, ns);
    covered(c)->delays++;
    cluster_trace(c, "the link %u>%u is slow by %d ms", a, b, (int)(ns / MS));
    repair_later(c, a, b);
}

static void reset(struct cluster *c) {
    unsigned a = some_end(c), b = some_end(c);
    if (a == b) return;
    covered(c)->resets++;
    cluster_trace(c, "connections of %u and %u are reset", a, b);
    sim_link_reset(c->world, a, b);
}

static void messages(struct cluster *c) {
    c->unruly_until = sim_now_ns(c->world) + some_time(c, 4 * SECOND);
    c->unruly_one_in = 2 + below(c, 30);
    cluster_trace(c, "for %d ms one message of %d between brokers is lost, doubled or late", (int)((c->unruly_until - sim_now_ns(c->world)) / MS), (int)c->unruly_one_in);
}

/* ---- nodes ------------------------------------------------------------------------------------ */

static void pause_node(struct cluster *c) {
    struct node *n = some_node(c);
    if (!n->up || n->paused_until > 0) return;
    int64_t ns = some_time(c, chance(c, 3) ? 5 * SECOND : 800 * MS);
    n->paused_until = sim_now_ns(c->world) + ns;
    covered(c)->pauses++;
    cluster_trace(c, "node %d stands still for %d ms", n->id, (int)(ns / MS));
}

static void kill(struct cluster *c) {
    struct node *n = some_node(c);
    if (!n->up) return;
    covered(c)->kills++;
    node_crash(n, SIM_KILLED);
}

static void power(struct cluster *c) {
    struct node *n = some_node(c);
    if (!n->up) return;
    covered(c)->power_losses++;
    node_crash(n, some_loss(c));
}

static void crash_point(struct cluster *c) {
    struct node *n = some_node(c);
    if (!n->up) return;
    covered(c)->crash_points++;
    n->policy = chance(c, 4) ? SIM_KILLED : some_loss(c);
    sim_crash_at(c->world, (unsigned)n->id, sim_disk_ops(c->world, (unsigned)n->id) + 1 + below(c, 40));
}

static void blackout(struct cluster *c) {
    covered(c)->blackouts++;
    for (uint32_t i = 1; i <= c->node_count; i++) node_crash(&c->nodes[i], some_loss(c));
}

/* ---- disks ------------------------------------------------------------------------------------ */

static void disk_error(struct cluster *c, enum sim_call call) {
    struct node *n = some_node(c);
    if (!n->up) return;
    cluster_trace(c, "a %s of node %d will fail", call == SIM_SYNC ? "sync" : "write", n->id);
    n->policy = chance(c, 2) ? SIM_KILLED : some_loss(c);
    struct sim_fault f = {.call = call, .skip = below(c, 10), .times = 1, .result = -EIO};
    sim_fault(c->world, (unsigned)n->id, &f);
}

void faults_at_start(struct node *n) {
    struct cluster *c = n->c;
    if (n->life == 1 || c->healed || !(c->faults >> FAULT_SYNC_ERROR & 1) || !chance(c, 6)) return;
    cluster_trace(c, "a sync of node %d will fail, as it starts", n->id);
    sim_fault(c->world, (unsigned)n->id, &(struct sim_fault){.call = SIM_SYNC, .skip = below(c, 8), .times = 1, .result = -EIO});
}

static void size_up(void *ctx, const char *path, uint64_t size) {
    (void)path;
    *(uint64_t *)ctx += size;
}

static void full_disk(struct cluster *c) {
    struct node *n = some_node(c);
    if (!n->up || n->full_until > 0) return;
    uint64_t used = 0;
    sim_files(c->world, (unsigned)n->id, size_up, &used);
    sim_disk_capacity(c->world, (unsigned)n->id, used + below(c, 4 << 20));
    n->full_until = sim_now_ns(c->world) + some_time(c, 3 * SECOND);
    covered(c)->full_disks++;
    cluster_trace(c, "the disk of node %d is full", n->id);
}

/* The disks of one node only are lost or rot in a run: more than a minority may not (docs/replication.md 1). */
static struct node *some_victim(struct cluster *c) {
    if (c->victim == 0) c->victim = (int32_t)(1 + below(c, c->node_count));
    return &c->nodes[c->victim];
}

/* The same one may be lost again: then there is a group that has taken in its successor, or one that has not lost any other. */
bool faults_lose_disk(struct node *n) {
    struct cluster *c = n->c;
    if (c->victim == 0) c->victim = n->id;
    if (c->victim != n->id || n->lost_disks >= LOST_DISKS_MAX || !check_may_lose_disk(c)) return false;
    n->lost_disks++;
    covered(c)->lost_disks++;
    node_crash(n, SIM_LOSE_ALL);
    cluster_trace(c, "the disk of node %d is replaced by an empty one", n->id);
    sim_disk_replace(c->world, (unsigned)n->id);
    check_disk_lost(n);
    return true;
}

static void lose_disk(struct cluster *c) {
    struct node *n = some_victim(c);
    if (n->lost_disks == 0 || chance(c, 4)) (void)faults_lose_disk(n);
}

struct choice { struct cluster *c; uint32_t seen; bool segments; char path[256]; uint64_t size; };
static void choose_file(void *ctx, const char *path, uint64_t size) {
    struct choice *x = ctx;
    if (x->segments && !(strstr(path, ".log") && strstr(path, "-"))) return;
    if (size == 0 || strlen(path) >= sizeof x->path || below(x->c, ++x->seen) != 0) return;
    strcpy(x->path, path);
    x->size = size;
}

static void rot(struct cluster *c) {
    struct node *n = some_victim(c);
    struct choice x = {.c = c, .segments = chance(c, 2)};
    if (!check_may_lose_disk(c)) return;
    sim_files(c->world, (unsigned)n->id, choose_file, &x);
    if (x.seen == 0) return;
    uint64_t at = below(c, x.size);
    n->rotten = true;
    covered(c)->rotten_bits++;
    cluster_trace(c, "a bit of %s of node %d changes at byte %llu", x.path, n->id, (unsigned long long)at);
    (void)sim_file_flip(c->world, (unsigned)n->id, x.path, at, (uint8_t)(1u << below(c, 8)));
    if (chance(c, 2)) node_crash(n, SIM_KILLED); /* what it remembers it need not read */
}

static void clock_jump(struct cluster *c) {
    struct node *n = some_node(c);
    static const int64_t jumps[] = {1000, 60000, 3600000, 86400000};
    int64_t ms = (int64_t)below(c, (uint64_t)jumps[below(c, ARRAY_LEN(jumps))]);
    if (chance(c, 2)) ms = -ms;
    sim_wall_jump(c->world, (unsigned)n->id, ms);
    covered(c)->clock_jumps++;
    cluster_trace(c, "the clock of node %d jumps by %lld ms", n->id, (long long)ms);
}

/* ---- choice ----------------------------------------------------------------------------------- */

static const struct { uint32_t weight; bool cluster_only; } kinds[FAULT_COUNT] = {
    [FAULT_RESET] = {10, false}, [FAULT_CUT] = {10, false}, [FAULT_DELAY] = {6, false}, [FAULT_PAUSE] = {6, false}, [FAULT_KILL] = {6, false},
    [FAULT_POWER] = {5, false}, [FAULT_CRASH_POINT] = {6, false}, [FAULT_BLACKOUT] = {1, false}, [FAULT_STOP] = {3, false},
    [FAULT_SYNC_ERROR] = {2, false}, [FAULT_WRITE_ERROR] = {2, false}, [FAULT_FULL_DISK] = {2, false}, [FAULT_CLOCK] = {3, false},
    [FAULT_ROT] = {3, true}, [FAULT_LOST_DISK] = {2, true}, [FAULT_MEMBERS] = {4, true}, [FAULT_MESSAGES] = {4, true}, [FAULT_ISOLATE] = {4, true},
    [FAULT_VOTERS] = {0, true}, /* voters.c has its own time */
};

void faults_choose(struct cluster *c) {
    static const int64_t gaps[] = {50 * MS, 200 * MS, 800 * MS};
    for (int f = 0; f < FAULT_COUNT; f++) {
        bool wanted = chance(c, 2);
        if (wanted && (c->node_count > 1 || !kinds[f].cluster_only)) c->faults |= 1u << f;
    }
    c->faults &= c->options.faults;
    c->fault_gap_ns = gaps[below(c, ARRAY_LEN(gaps))];
}

static void happen(struct cluster *c, enum cluster_fault f) {
    struct node *n;
    switch (f) {
    case FAULT_RESET: reset(c); break;
    case FAULT_CUT: cut(c); break;
    case FAULT_DELAY: delay(c); break;
    case FAULT_PAUSE: pause_node(c); break;
    case FAULT_KILL: kill(c); break;
    case FAULT_POWER: power(c); break;
    case FAULT_CRASH_POINT: crash_point(c); break;
    case FAULT_BLACKOUT: blackout(c); break;
    case FAULT_STOP:
        n = some_node(c);
        covered(c)->stops++;
        node_stop(n);
        break;
    case FAULT_SYNC_ERROR: disk_error(c, SIM_SYNC); break;
    case FAULT_WRITE_ERROR: disk_error(c, SIM_WRITE); break;
    case FAULT_FULL_DISK: full_disk(c); break;
    case FAULT_CLOCK: clock_jump(c); break;
    case FAULT_ROT: rot(c); break;
    case FAULT_LOST_DISK: lose_disk(c); break;
    case FAULT_MEMBERS: admin_reassign(c); break;
    case FAULT_MESSAGES: messages(c); break;
    case FAULT_ISOLATE: isolate(some_node(c)); break;
    case FAULT_VOTERS:
    case FAULT_COUNT: break;
    }
}

static void fault_due(struct timer *t) {
    struct cluster *c = CONTAINER_OF(t, struct cluster, fault_timer);
    if (c->healed || c->result->faults >= c->options.faults_max) return;
    uint64_t total = 0, choice;
    for (int f = 0; f < FAULT_COUNT; f++) total += c->faults >> f & 1 ? kinds[f].weight : 0;
    timer_set(&c->timers, t, sim_now_ns(c->world) + some_time(c, 2 * c->fault_gap_ns));
    if (total == 0) return;
    choice = below(c, total);
    for (int f = 0; f < FAULT_COUNT; f++) {
        uint32_t weight = c->faults >> f & 1 ? kinds[f].weight : 0;
        if (choice < weight) {
            c->result->faults++;
            happen(c, (enum cluster_fault)f);
            return;
        }
        choice -= weight;
    }
}

void faults_start(struct cluster *c) {
    timer_init(&c->fault_timer, fault_due);
    timer_set(&c->timers, &c->fault_timer, sim_now_ns(c->world) + SECOND / 2 + some_time(c, 2 * c->fault_gap_ns));
}

static void strike(struct node *n) {
    struct cluster *c = n->c;
    n->moment = false;
    if (c->healed || !n->up || !chance(c, 24)) return;
    bool alone = c->faults >> FAULT_ISOLATE & 1, die = c->faults >> FAULT_KILL & 1;
    if (alone && (!die || chance(c, 2))) isolate(n);
    else if (die) node_crash(n, SIM_KILLED);
}

void faults_fire_due(struct cluster *c) {
    int64_t now = sim_now_ns(c->world);
    for (uint32_t i = 1; i <= c->node_count; i++) {
        struct node *n = &c->nodes[i];
        if (n->paused_until > 0 && n->paused_until <= now) {
            n->paused_until = 0;
            cluster_trace(c, "node %d goes on", n->id);
        }
        if (n->full_until > 0 && n->full_until <= now) {
            n->full_until = 0;
            sim_disk_capacity(c->world, (unsigned)n->id, UINT64_C(1) << 40);
            cluster_trace(c, "the disk of node %d has room again", n->id);
        }
        if (!n->up && n->return_ns <= now) node_start(n);
        if (n->moment) strike(n);
        /* Seldom does chance alone cut the power in the moments in which it leaves a hole in the journal. */
        if (n->up && c->faults >> FAULT_POWER & 1 && !c->healed && watch_out_of_order(n) && chance(c, 64)) {
            covered(c)->holes_in_journal++;
            node_crash(n, some_loss(c));
        }
    }
}

void faults_end(struct cluster *c) {
    for (unsigned a = 0; a < SIM_NODES_MAX; a++)
        for (unsigned b = 0; b < SIM_NODES_MAX; b++) {
            sim_link_cut(c->world, a, b, false);
            sim_link_delay(c->world, a, b, 0);
        }
    for (uint32_t i = 1; i <= c->node_count; i++) {
        struct node *n = &c->nodes[i];
        sim_faults_clear(c->world, (unsigned)n->id);
        sim_crash_at(c->world, (unsigned)n->id, 0);
        if (n->paused_until > 0) n->paused_until = 1;
        if (n->full_until > 0) n->full_until = 1;
        if (!n->up) n->return_ns = 0;
    }
}
