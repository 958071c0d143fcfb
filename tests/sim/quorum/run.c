/* run.c - one run: what may happen, the choice of what happens next, and the end in which everything must heal. */
#include "tests/sim/quorum/run.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "tests/sim/quorum/world.h"

const char *replica_mutant_name(enum replica_mutant m) {
    static const char *const names[] = {"NONE",
#define NAME(name) #name,
        REPLICA_MUTANTS(NAME)
#undef NAME
    };
    ASSERT(m < REPLICA_MUTANT_COUNT);
    return names[m];
}
enum replica_mutant replica_mutant_by_name(const char *name) {
    int m = 0;
    while (m < REPLICA_MUTANT_COUNT && strcmp(name, replica_mutant_name((enum replica_mutant)m)) != 0) m++;
    return (enum replica_mutant)m;
}

void world_violated(struct world *w, const char *what) {
    if (!w->violation) w->violation = what;
}
void world_hash(struct world *w, uint64_t v) {
    w->hash = (w->hash ^ v) * 0x100000001b3u;
    w->hash ^= w->hash >> 29;
}
void world_trace(struct world *w, const char *fmt, ...) {
    if (!w->out) return;
    va_list args;
    va_start(args, fmt);
    if (w->directed) fputs("  ", w->out);
    else fprintf(w->out, "%6u ", w->step);
    vfprintf(w->out, fmt, args);
    fputc('\n', w->out);
    va_end(args);
}
static uint64_t below(struct world *w, uint64_t n) { return prng_below(&w->prng, n); }
static bool chance(struct world *w, uint64_t one_in) { return below(w, one_in) == 0; }

/* ---- nodes -------------------------------------------------------------------------------------- */

void world_start(struct world *w, struct node *n) {
    const struct disk *d = &n->disk;
    struct replica_start from = {
        .self = n->self, .epoch = d->epoch, .has_voted = d->has_voted, .voted = d->voted, .config = d->config,
        .base = {d->log.base_epoch, d->log.start}, .markers = d->log.markers, .marker_count = d->log.marker_count, .end = d->log.end,
        .timeout_ns = TIMEOUT_NS, .campaign_soon = w->soon && n == &w->nodes[0], .quiet_ns = w->quiet ? 4 * TIMEOUT_NS : 0, .seed = prng_next(&w->prng),
        .young_until_ns = w->young ? INT64_MAX : 0, .relaxed = w->relaxed,
    };
    replica_init(&n->replica);
#ifdef VARVE_MUTANTS
    n->replica.mutant = n->replica.walk.mutant = (int)w->options.mutant;
#endif
    n->up = true;
    n->read_count = n->left_count = 0;
    n->log = d->log;
    n->high_watermark = 0;
    n->leads = n->established = false;
    struct replica_event e = {.kind = REPLICA_START, .u.start = &from};
    world_step(w, n, &e, NULL);
}

void world_crash(struct world *w, struct node *n) {
    disk_crash(w, n);
    replica_free(&n->replica);
    n->up = false;
    world_trace(w, "%d dies, its log ends at %" PRId64, n->self.node, n->log.end);
}

static struct replica_member new_member(struct world *w, int32_t node) {
    struct replica_member m = {.node = node};
    uint64_t incarnation = ++w->next_incarnation;
    memcpy(m.incarnation.b, &incarnation, sizeof incarnation);
    return m;
}

/* The newest configuration anywhere: what a controller would know. */
static const struct replica_config *newest_config(const struct world *w) {
    const struct replica_config *c = &w->nodes[0].disk.config;
    for (uint32_t i = 0; i < w->options.nodes; i++) {
        const struct replica_config *d = &w->nodes[i].disk.config;
        if (replica_config_compare(d->id, c->id) > 0) c = d;
        if (w->nodes[i].up && replica_config_compare(w->nodes[i].replica.config.id, c->id) > 0) c = &w->nodes[i].replica.config;
    }
    return c;
}

/* One disk of three or more, once: fewer than a majority may lose theirs (assumption A5). */
static void wipe(struct world *w, struct node *n) {
    if (!(w->options.features & QUORUM_WIPE) || w->wipes > 0 || newest_config(w)->voters < 3) return;
    w->wipes++;
    w->coverage->wipes++;
    if (n->up) world_crash(w, n);
    struct replica_config config = n->disk.config;
    n->disk = (struct disk){0};
    n->log = n->disk.log;
    n->voted_epoch = 0;
    if (w->options.mutant == REPLICA_MUTANT_AMNESIA_SAME_ID) n->disk.config = config;
    else n->self = new_member(w, n->self.node);
    world_trace(w, "%d loses its disk", n->self.node);
}

/* ---- what may happen ------------------------------------------------------------------------------ */

static struct node *some_node(struct world *w) { return &w->nodes[below(w, w->options.nodes)]; }
static struct node *some_leader(struct world *w) {
    uint32_t first = (uint32_t)below(w, w->options.nodes);
    for (uint32_t i = 0; i < w->options.nodes; i++) {
        struct node *n = &w->nodes[(first + i) % w->options.nodes];
        if (n->up && n->replica.role == REPLICA_LEADER) return n;
    }
    return NULL;
}

void world_deliver(struct world *w, uint32_t i, bool keep) {
    struct packet p = w->net[i];
    if (!keep) w->net[i] = w->net[--w->net_count];
    struct node *n = &w->nodes[p.to];
    if (!n->up) return;
    if (p.message.kind == REPLICA_APPEND_REPLY && p.message.ok && n->replica.role == REPLICA_LEADER && p.message.epoch < n->replica.epoch)
        w->coverage->old_epoch_acks++;
    if (!w->directed) world_trace(w, "%d gets %s of %d", n->self.node, world_message_names[p.message.kind], p.message.from.node);
    struct replica_event e = {.kind = REPLICA_MESSAGE, .u.message = &p.message};
    world_step(w, n, &e, &p);
}

static void deliver_some(struct world *w) {
    uint32_t i = (uint32_t)below(w, w->net_count);
    if (chance(w, w->loss_one_in)) { /* lost */
        w->net[i] = w->net[--w->net_count];
        return;
    }
    world_deliver(w, i, chance(w, w->double_one_in));
}

enum err world_write(struct world *w, struct node *n, uint32_t records) {
    struct replica_event e = {.kind = REPLICA_WRITE, .now_ns = n->now_ns};
    enum err err = world_ask(w, n, &e);
    world_perform(w, n);
    if (err || w->violation) return err;
    int64_t to = n->log.end + records;
    struct replica_action a = {.kind = REPLICA_APPEND_RECORDS, .seq = n->replica.seq + 1, .position = {n->replica.epoch, to}, .from = n->log.end, .to = to};
    disk_op(w, n, &a, NULL);
    struct replica_event appended = {.kind = REPLICA_APPENDED, .u.position = a.position};
    world_step(w, n, &appended, NULL);
    return OK;
}

enum err world_read(struct world *w, struct node *n) {
    if (n->replica.role != REPLICA_LEADER) n->read_count = 0; /* sent away */
    if (n->read_count == READS_MAX) return ERR_AGAIN;
    struct replica_event e = {.kind = REPLICA_READ, .now_ns = n->now_ns};
    int64_t committed = w->committed_end;
    enum err err = world_ask(w, n, &e);
    if (!err) {
        n->reads[n->read_count].round = n->replica.read_round;
        n->reads[n->read_count++].committed = committed;
    }
    world_perform(w, n);
    return err;
}

/* Of several that think so, the one that has led for the longest: perhaps it does no more. */
static void client_reads(struct world *w) {
    struct node *n = NULL;
    for (uint32_t i = 0; i < w->options.nodes; i++) {
        struct node *x = &w->nodes[i];
        if (x->up && x->replica.role == REPLICA_LEADER && x->replica.established && (!n || x->replica.epoch < n->replica.epoch)) n = x;
    }
    if (n) (void)world_read(w, n); /* refused: not now */
}

static void client_writes(struct world *w) {
    struct node *n = some_leader(w);
    if (!n || n->log.end >= RECORDS_MAX - 8 || n->op_count >= OPS_MAX - 20) return;
    (void)world_write(w, n, 1 + (uint32_t)below(w, 3)); /* refused: not now */
}

void world_sync(struct world *w, struct node *n, uint32_t count) {
    struct replica_event e = {.kind = REPLICA_DURABLE, .u.seq = disk_sync(w, n, count)};
    const struct sim_log *l = &n->disk.log;
    if (!n->replica.marks) {
        int32_t epoch = l->marker_count > 0 ? l->markers[l->marker_count - 1].epoch : l->base_epoch;
        e = (struct replica_event){.kind = REPLICA_DURABLE_AT, .u.position = {epoch, l->end}};
    }
    world_step(w, n, &e, NULL);
}

static void sync_some(struct world *w, struct node *n, bool all) {
    if (n->up && n->op_count > 0) world_sync(w, n, all ? n->op_count : 1 + (uint32_t)below(w, n->op_count));
}

void world_vouch(struct world *w, struct node *n, const struct node *of, int64_t ago_ns) {
    int64_t now = w->now_ns + n->skew_ns;
    struct replica_event e = {.kind = REPLICA_VOUCHED, .u.vouched = {of->self, (now > n->now_ns ? now : n->now_ns) - ago_ns}};
    bool known = !n->replica.quiet ? n->replica.leader_quiet : true;
    world_step(w, n, &e, NULL);
    if (w->actions.count > 0) world_violated(w, "a word for another one made somebody act");
    w->coverage->vouched += known;
}

/* Whoever runs is vouched for, more or less, whether messages get through or not. */
static void vouch_for_some(struct world *w, struct node *n) {
    for (uint32_t i = 0; i < w->options.nodes; i++)
        if (&w->nodes[i] != n && w->nodes[i].up && !chance(w, 4)) world_vouch(w, n, &w->nodes[i], 0);
}

void world_tick(struct world *w, struct node *n) {
    if (!n->up) return;
    if (w->quiet && !w->directed) vouch_for_some(w, n);
    int64_t at = replica_deadline(&n->replica);
    if (at != INT64_MAX && at > w->now_ns + n->skew_ns) w->now_ns = at - n->skew_ns;
    struct replica_event e = {.kind = REPLICA_TICK};
    world_step(w, n, &e, NULL);
}

static void remove_member(struct replica_config *c, int i) {
    if (i < c->voters) c->voters--;
    memmove(&c->members[i], &c->members[i + 1], (size_t)(c->count - i - 1) * sizeof c->members[0]);
    c->count--;
}

/* What a controller would ask for: dead incarnations out, the nodes that are there in as learners, learners to voters, and
 * now and then somebody out for no reason. False: nothing to ask. */
static bool next_config(struct world *w, const struct node *leader, struct replica_config *c) {
    *c = leader->replica.config;
    for (int i = 0; i < c->count; i++) {
        if (replica_member_eq(&w->nodes[c->members[i].node].self, &c->members[i])) continue;
        if (c->voters == 1 && i == 0) return false;
        remove_member(c, i);
        return true;
    }
    uint32_t kind = (uint32_t)below(w, 4);
    if (kind == 0 && c->voters > 1) {
        int i = (int)below(w, c->voters);
        if (replica_member_eq(&c->members[i], &leader->self)) return false;
        remove_member(c, i);
        return true;
    }
    if (kind == 1 && c->count > c->voters) { /* the first learner votes from now on */
        c->voters++;
        return true;
    }
    const struct replica_member *who = &some_node(w)->self;
    if (replica_config_find(c, who) >= 0) return false;
    c->members[c->count++] = *who;
    return true;
}

/* Whoever it may be: members, the leader, who is down, what a node was before it lost its disk. */
static void name_observers(struct world *w, struct node *leader) {
    struct replica_member list[NODES_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < w->options.nodes; i++) {
        if (!chance(w, 2)) continue;
        list[count] = w->nodes[i].self;
        list[count++].incarnation.b[15] ^= chance(w, 10); /* somebody else, who never answers */
    }
    struct replica_event e = {.kind = REPLICA_OBSERVE, .u.observers = {list, count}};
    world_step(w, leader, &e, NULL);
    for (uint32_t i = 0; i < leader->replica.peer_count; i++)
        w->coverage->observed += replica_config_find(&leader->replica.config, &leader->replica.peers[i].member) < 0;
}

static void change_members(struct world *w) {
    struct node *n = some_leader(w);
    if (!n) return;
    if ((w->options.features & QUORUM_OBSERVERS) && chance(w, 3)) {
        name_observers(w, n);
        return;
    }
    if (chance(w, 5)) {
        struct replica_event e = {.kind = REPLICA_TRANSFER, .u.member = some_node(w)->self};
        world_step(w, n, &e, NULL);
        return;
    }
    struct replica_config c;
    if (!next_config(w, n, &c)) return;
    struct replica_event e = {.kind = REPLICA_RECONFIGURE, .u.config = &c};
    world_step(w, n, &e, NULL);
}

static void move_start(struct world *w) {
    struct node *n = some_leader(w);
    if (!n || n->replica.high_watermark <= n->log.start) return;
    int64_t to = n->log.start + 1 + (int64_t)below(w, (uint64_t)(n->replica.high_watermark - n->log.start));
    struct replica_event e = {.kind = REPLICA_MOVE_START, .u.position = {0, to}};
    world_step(w, n, &e, NULL);
}

static void connection_breaks(struct world *w) {
    struct node *a = some_node(w), *b = some_node(w);
    if (!a->up || a == b) return;
    struct replica_event e = {.kind = REPLICA_PEER_LOST, .u.member = b->self};
    world_step(w, a, &e, NULL);
}

/* Safety must not depend on pre-votes: somebody campaigns at once, as after a transfer that nobody asked for. */
void world_campaign(struct world *w, struct node *n) {
    struct replica_message m = {.kind = REPLICA_TIMEOUT_NOW, .from = some_node(w)->self, .to = n->self, .epoch = n->replica.epoch};
    struct replica_event e = {.kind = REPLICA_MESSAGE, .u.message = &m};
    world_step(w, n, &e, NULL);
}

static void die_or_return(struct world *w, struct node *n) {
    if (n->up) {
        world_crash(w, n);
        return;
    }
    w->coverage->restarts++;
    world_start(w, n);
}

static void return_one(struct world *w) {
    uint32_t first = (uint32_t)below(w, w->options.nodes);
    for (uint32_t i = 0; i < w->options.nodes; i++) {
        struct node *n = &w->nodes[(first + i) % w->options.nodes];
        if (n->up) continue;
        die_or_return(w, n);
        return;
    }
}

/* `n`, or the next one whose disk has something to do. */
static struct node *waiting(struct world *w, struct node *n) {
    for (uint32_t i = 0; i < w->options.nodes && n->op_count == 0; i++) n = n == &w->nodes[w->options.nodes - 1] ? w->nodes : n + 1;
    return n;
}

enum happening { DELIVER, WRITE, SYNC, TICK, CRASH, RETURN, BREAK, MEMBERS, PREFIX, WIPE, CAMPAIGN, READ, LEAVE, HAPPENINGS };

static void something(struct world *w) {
    uint32_t total = 0, kind = 0;
    for (int i = 0; i < HAPPENINGS; i++) total += w->weights[i];
    uint32_t choice = (uint32_t)below(w, total);
    while (choice >= w->weights[kind]) choice -= w->weights[kind++];
    struct node *n = some_node(w);
    w->now_ns += (int64_t)below(w, w->drift_ns);
    switch ((enum happening)kind) {
    case DELIVER: if (w->net_count > 0) deliver_some(w); else world_tick(w, n); break; /* nothing on its way: time passes */
    case WRITE: client_writes(w); break;
    case SYNC: sync_some(w, waiting(w, n), chance(w, 2)); break;
    case TICK: world_tick(w, n); break;
    case CRASH: if (n->up) die_or_return(w, n); break;
    case RETURN: return_one(w); break;
    case BREAK: connection_breaks(w); break;
    case MEMBERS: change_members(w); break;
    case PREFIX: move_start(w); break;
    case WIPE: wipe(w, n); break;
    case CAMPAIGN: if (n->up) world_campaign(w, n); break;
    case READ: client_reads(w); break;
    case LEAVE: if (n->up) world_appends_leave(w, n); break;
    case HAPPENINGS: break;
    }
    if (n->up && n->op_count > OPS_MAX - 60) sync_some(w, n, true); /* what a node may have on its way is bounded */
}

/* ---- the end ----------------------------------------------------------------------------------------- */

static bool agreed(const struct world *w) {
    const struct node *leader = NULL;
    for (uint32_t i = 0; i < w->options.nodes; i++) {
        const struct node *n = &w->nodes[i];
        if (n->up && n->replica.role == REPLICA_LEADER && n->replica.established && (!leader || n->replica.epoch > leader->replica.epoch)) leader = n;
    }
    if (!leader || leader->replica.high_watermark != leader->log.end) return false;
    const struct replica_config *c = &leader->replica.config;
    for (int i = 0; i < c->count; i++) {
        const struct node *n = &w->nodes[c->members[i].node];
        if (!n->up || !replica_member_eq(&n->self, &c->members[i])) continue;
        if (replica_position_compare(walk_last(&n->replica.walk), walk_last(&leader->replica.walk)) != 0) return false;
        if (n->replica.high_watermark != leader->replica.high_watermark) return false;
    }
    return true;
}

/* A disk that was lost before its replacement was admitted, and then a voter taken out: no majority is left, and nobody may
 * pretend otherwise. */
static bool has_majority(const struct world *w) {
    const struct replica_config *c = newest_config(w);
    uint32_t live = 0;
    for (int i = 0; i < c->voters; i++) live += replica_member_eq(&w->nodes[c->members[i].node].self, &c->members[i]);
    return live >= replica_config_majority(c);
}

/* All faults end: everybody who may be up is, messages arrive in order, disks work, clocks agree. Slow disks are no fault: in half of the runs
 * what is written takes up to two timeouts to become durable. */
enum { ROUNDS_A_TIMEOUT = 50 };
static void heal(struct world *w) {
    int64_t now = 0;
    uint32_t slow = chance(w, 2) ? 1 + (uint32_t)below(w, 2 * ROUNDS_A_TIMEOUT) : 1;
    uint32_t down = w->options.features & (QUORUM_MEMBERS | QUORUM_WIPE) ? 0 : (uint32_t)below(w, (w->options.nodes - 1) / 2 + 1);
    uint32_t first = (uint32_t)below(w, w->options.nodes);
    for (uint32_t i = 0; i < w->options.nodes; i++) {
        struct node *n = &w->nodes[(first + i) % w->options.nodes];
        if (i < down && n->up) world_crash(w, n);
        if (i >= down && !n->up) world_start(w, n);
        n->skew_ns = 0;
        if (n->now_ns > now) now = n->now_ns;
    }
    for (uint32_t round = 0; round < 4000 && !w->violation; round++) {
        w->now_ns = now += TIMEOUT_NS / ROUNDS_A_TIMEOUT;
        for (uint32_t i = 0; i < w->options.nodes; i++) {
            struct node *n = &w->nodes[i];
            if (n->up && replica_deadline(&n->replica) <= now) world_tick(w, n);
            for (int k = 0; k < 4 && n->up; k++) world_appends_leave(w, n);
        }
        for (uint32_t i = 0; i < 100 && w->net_count > 0 && !w->violation; i++) {
            world_deliver(w, 0, false);
            if (slow == 1) sync_some(w, some_node(w), true);
        }
        for (uint32_t i = 0; i < w->options.nodes; i++)
            if (round % slow == 0 || w->nodes[i].op_count > OPS_MAX / 2) sync_some(w, &w->nodes[i], true);
        check_all(w);
        w->step++;
        if (w->net_count == 0 && agreed(w)) return;
    }
}

/* Each seed has its own mix of faults: swarm testing (Groce et al., ISSTA 2012). */
static void mix(struct world *w) {
    static const uint32_t syncs[] = {8, 25, 60}, ticks[] = {2, 5, 12}, campaigns[] = {0, 3, 8}, crashes[] = {1, 3, 6}, breaks[] = {1, 4, 12}, changes[] = {2, 6, 12},
                          losses[] = {3, 10, 100}, doubles[] = {3, 8, 40}, drifts[] = {200, 1000, 50};
    const uint32_t features = w->options.features;
    w->weights[DELIVER] = 100;
    w->weights[WRITE] = 20;
    w->weights[SYNC] = syncs[below(w, 3)];
    w->weights[TICK] = ticks[below(w, 3)];
    w->weights[CAMPAIGN] = campaigns[below(w, 3)];
    w->weights[CRASH] = crashes[below(w, 3)];
    w->weights[RETURN] = 12;
    w->weights[BREAK] = breaks[below(w, 3)];
    w->weights[MEMBERS] = features & QUORUM_MEMBERS ? changes[below(w, 3)] : 0;
    w->weights[PREFIX] = features & QUORUM_PREFIX ? 2 : 0;
    w->weights[LEAVE] = features & QUORUM_LATE ? 60 : 0;
    w->weights[WIPE] = features & QUORUM_WIPE ? 1 : 0;
    w->loss_one_in = losses[below(w, 3)];
    w->double_one_in = doubles[below(w, 3)];
    w->drift_ns = (uint64_t)(TIMEOUT_NS / drifts[below(w, 3)]);
    w->quiet = features & QUORUM_QUIET;
    if (w->quiet) w->weights[WRITE] = 2; /* or nobody would ever be */
    w->soon = chance(w, 2);
    w->weights[READ] = chance(w, 2) ? 30 : 0;
}

void world_begin(struct world *w) {
    struct replica_config c = {.voters = (uint8_t)w->options.voters, .count = (uint8_t)w->options.voters, .id = {0, 1}};
    for (int e = 0; e < EPOCHS_SEEN_MAX; e++) w->leaders[e].node = -1;
    for (uint32_t i = 0; i < w->options.nodes; i++) {
        w->nodes[i].self = new_member(w, (int32_t)i);
        w->nodes[i].skew_ns = (int64_t)below(w, 4 * TIMEOUT_NS);
        if (i < w->options.voters) c.members[i] = w->nodes[i].self;
    }
    for (uint32_t i = 0; i < w->options.nodes; i++) {
        w->nodes[i].disk.config = i < w->options.voters ? c : (struct replica_config){0};
        world_start(w, &w->nodes[i]);
    }
}

void quorum_sim_run(const struct quorum_options *o, struct quorum_result *result, struct quorum_coverage *coverage) {
    ASSERT(o->nodes >= 1 && o->nodes <= NODES_MAX && o->voters >= 1 && o->voters <= o->nodes);
    struct world *w = calloc(1, sizeof *w);
    ASSERT(w != NULL);
    w->options = *o;
    w->out = o->trace ? stdout : NULL;
    w->coverage = coverage;
    w->prng.state = o->seed * 0x9e3779b97f4a7c15u + 1;
    w->hash = 14695981039346656037u;
    mix(w);
    world_begin(w);
    for (; w->step < o->steps && !w->violation; w->step++) {
        something(w);
        check_all(w);
        coverage->steps++;
    }
    if (!w->violation) heal(w);
    *result = (struct quorum_result){.hash = w->hash, .steps = w->step, .violation = w->violation, .stuck = !w->violation && !agreed(w) && has_majority(w)};
    for (uint32_t i = 0; i < o->nodes; i++)
        if (w->nodes[i].up) replica_free(&w->nodes[i].replica);
    free(w);
}
