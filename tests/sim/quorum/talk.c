#include "tests/sim/quorum/talk.h"
#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "tests/sim/quorum/world.h"

static struct node *node_of(struct world *w, const char *word) {
    char *end;
    unsigned long i = word ? strtoul(word, &end, 10) : 99;
    return i < w->options.nodes && *end == 0 ? &w->nodes[i] : NULL;
}

static void print_node(struct world *w, const struct node *n) {
    static const char *const roles[] = {"follower", "pre-candidate", "candidate", "leader"};
    const struct replica *r = &n->replica;
    const struct sim_log *l = n->up ? &n->log : &n->disk.log;
    fprintf(w->out, "  %d ", n->self.node);
    if (n->up)
        fprintf(w->out, "%s%s e%d, hw %" PRId64 ", config (%d,%d) of %d+%d", r->established ? "established " : "", roles[r->role], r->epoch,
                r->high_watermark, r->config.id.epoch, r->config.id.version, r->config.voters, r->config.count - r->config.voters);
    else fprintf(w->out, "down");
    fprintf(w->out, ": [%d]", l->base_epoch);
    int64_t at = l->start;
    for (uint32_t i = 0; i <= l->marker_count; i++) {
        int64_t to = i < l->marker_count ? l->markers[i].start : l->end;
        if (to > at) fprintf(w->out, " %" PRId64 "-%" PRId64, at, to - 1);
        if (i < l->marker_count) fprintf(w->out, " %d@%" PRId64, l->markers[i].epoch, l->markers[i].start);
        at = to;
    }
    fprintf(w->out, n->op_count > 0 ? " (%u changes not durable)\n" : "\n", n->op_count);
}

static void print_patience(const struct world *w, const struct node *n) {
    int64_t at = replica_deadline(&n->replica), now = w->now_ns + n->skew_ns;
    if (at == INT64_MAX) fprintf(w->out, "  %d waits for ever\n", n->self.node);
    else fprintf(w->out, "  %d waits %" PRId64 " ms\n", n->self.node, (at - (now > n->now_ns ? now : n->now_ns)) / 1000000);
}

static void print_members(struct world *w, const struct node *n) {
    const struct replica *r = &n->replica;
    for (uint32_t i = 0; i < r->peer_count; i++) {
        const struct replica_peer *p = &r->peers[i];
        const char *is = replica_in_sync(r, &p->member, n->now_ns) ? "is in sync" : replica_keeps_up(r, &p->member, n->now_ns) ? "keeps up" : "is behind";
        fprintf(w->out, "  %d %s%s, its log starts at %" PRId64 "\n", p->member.node, is, p->voter ? "" : ", no voter", p->start);
    }
}

static bool matches(const struct packet *p, const char *link) {
    return !link || (p->message.from.node == link[0] - '0' && p->message.to.node == link[2] - '0');
}
enum fate { ARRIVE, VANISH, ARRIVE_TWICE };
/* Returns how many there were. */
static uint32_t on_their_way(struct world *w, const char *link, enum fate fate) {
    uint32_t passed = 0, done = 0, now = w->net_count;
    for (uint32_t i = 0; i < now && !w->violation; i++) {
        if (!matches(&w->net[passed], link)) {
            passed++;
            continue;
        }
        /* Keep the order of the others: rotate it to the end, where taking it out moves nobody. */
        struct packet p = w->net[passed];
        memmove(&w->net[passed], &w->net[passed + 1], (w->net_count - passed - 1) * sizeof p);
        w->net[w->net_count - 1] = p;
        if (fate == VANISH) w->net_count--;
        else world_deliver(w, w->net_count - 1, fate == ARRIVE_TWICE);
        done++;
        check_all(w);
    }
    return done;
}

static void shorten(struct world *w, const char *link, int64_t end) {
    for (uint32_t i = 0; i < w->net_count; i++) {
        struct packet *p = &w->net[i];
        if (!matches(p, link) || p->message.kind != REPLICA_APPEND || end < p->message.prev.offset || end > p->message.end_offset) continue;
        replica_message_shorten(&p->message, end);
        p->record_count = (uint32_t)(end - p->message.prev.offset);
    }
}

static void sync(struct world *w, struct node *n, uint32_t ops) {
    if (n->up && n->op_count > 0) world_sync(w, n, ops > 0 && ops < n->op_count ? ops : n->op_count);
}

static void settle(struct world *w) {
    for (int i = 0; i < 100 && !w->violation; i++) {
        uint32_t waiting = 0;
        for (uint32_t k = 0; k < w->options.nodes; k++) {
            waiting += w->nodes[k].up ? w->nodes[k].op_count : 0;
            sync(w, &w->nodes[k], 0);
        }
        if (on_their_way(w, NULL, ARRIVE) == 0 && waiting == 0) return;
    }
}

static void beats(struct world *w, struct node *n, int count) {
    FILE *out = w->out;
    for (int i = 1; i <= count; i++) {
        w->out = i < count ? NULL : out;
        world_tick(w, n);
        settle(w);
    }
}

static void rest(struct world *w, struct node *n) {
    FILE *out = w->out;
    w->out = NULL;
    int count = 0;
    for (; count < 20 && !n->replica.quiet && !w->violation; count++) {
        world_tick(w, n);
        settle(w);
    }
    w->out = out;
    world_trace(w, n->replica.quiet ? "%d is silent after %d heartbeats" : "%d goes on after %d heartbeats", n->self.node, count);
}

static void epochs(struct world *w, struct node *n, int count) {
    FILE *out = w->out;
    w->out = NULL;
    for (int i = 0; i < count && !w->violation; i++) {
        world_campaign(w, n);
        settle(w);
        (void)world_write(w, n, 1); /* refused: its epoch is over */
        settle(w);
    }
    w->out = out;
}

static void arrive(struct world *w, const struct node *from, const struct node *to) {
    const char link[] = {(char)('0' + from->self.node), '>', (char)('0' + to->self.node), 0};
    on_their_way(w, link, ARRIVE);
}

static void load(struct world *w, struct node *n, struct node *late, int count) {
    FILE *out = w->out;
    w->out = NULL;
    for (int i = 0; i < count && !w->violation; i++) {
        (void)world_write(w, n, 1);
        sync(w, n, 0);
        for (struct node *x = w->nodes; x < w->nodes + w->options.nodes; x++) {
            if (x == late || x == n) continue;
            arrive(w, n, x);
            sync(w, x, 0);
            arrive(w, x, n);
        }
        arrive(w, late, n);
        arrive(w, n, late);
        sync(w, late, 0);
        w->now_ns += TIMEOUT_NS / 5;
    }
    w->out = out;
}

static bool parse_members(struct world *w, const char *text, struct replica_config *c) {
    bool learners = false;
    for (; *text; text++) {
        if (*text == '|') learners = true;
        if (!isdigit((unsigned char)*text)) continue;
        if ((unsigned)(*text - '0') >= w->options.nodes || c->count == REPLICA_MEMBERS_MAX) return false;
        c->members[c->count++] = w->nodes[*text - '0'].self;
        c->voters += !learners;
    }
    return true;
}

static bool ask(struct world *w, struct node *n, struct replica_event *e) {
    int64_t now = w->now_ns + n->skew_ns;
    if (now > n->now_ns) n->now_ns = now;
    e->now_ns = n->now_ns;
    enum err err = world_ask(w, n, e);
    struct replica_actions kept = w->actions;
    if (err) world_trace(w, "refused: %s", err_str(err));
    w->actions = kept;
    world_perform(w, n);
    return true;
}

static bool command(struct world *w, char *words[4]) {
    const char *verb = words[0];
    struct node *n = node_of(w, words[1]);
    if (strcmp(verb, "state") == 0) {
        for (uint32_t i = 0; i < w->options.nodes; i++) print_node(w, &w->nodes[i]);
        return true;
    }
    if (strcmp(verb, "settle") == 0) return settle(w), true;
    if (strcmp(verb, "deliver") == 0) return on_their_way(w, words[1], ARRIVE), true;
    if (strcmp(verb, "drop") == 0) return on_their_way(w, words[1], VANISH), true;
    if (strcmp(verb, "shorten") == 0 && words[1] && words[2]) return shorten(w, words[1], atoi(words[2])), true;
    if (strcmp(verb, "repeat") == 0) return on_their_way(w, words[1], ARRIVE_TWICE), true;
    if (strcmp(verb, "sync") == 0 && words[1] && strcmp(words[1], "all") == 0) {
        for (uint32_t i = 0; i < w->options.nodes; i++) sync(w, &w->nodes[i], 0);
        return true;
    }
    if (strcmp(verb, "wait") == 0 && words[1]) return w->now_ns += atoi(words[1]) * INT64_C(1000000), true;
    if (!n) return false;
    if (strcmp(verb, "start") == 0 && !n->up) return world_start(w, n), true;
    if (strcmp(verb, "backup") == 0) return n->copy = n->disk, true;
    if (strcmp(verb, "restore") == 0 && !n->up) return n->disk = n->copy, n->rolled_back = true, true;
    if (!n->up) return false;
    if (strcmp(verb, "crash") == 0) return world_crash(w, n), true;
    if (strcmp(verb, "sync") == 0) return sync(w, n, words[2] ? (uint32_t)atoi(words[2]) : 0), true;
    if (strcmp(verb, "campaign") == 0) return world_campaign(w, n), true;
    if (strcmp(verb, "patience") == 0) return print_patience(w, n), true;
    if (strcmp(verb, "tick") == 0) return world_tick(w, n), true;
    if (strcmp(verb, "early") == 0) return world_step(w, n, &(struct replica_event){.kind = REPLICA_TICK}, NULL), true;
    if (strcmp(verb, "write") == 0 && words[2]) {
        enum err err = world_write(w, n, (uint32_t)atoi(words[2]));
        if (err) world_trace(w, "refused: %s", err_str(err));
        return true;
    }
    if (strcmp(verb, "read") == 0) {
        enum err err = world_read(w, n);
        if (err) world_trace(w, "refused: %s", err_str(err));
        return true;
    }
    if (strcmp(verb, "config") == 0 && words[2]) {
        struct replica_config c = {0};
        struct replica_event e = {.kind = REPLICA_RECONFIGURE, .u.config = &c};
        return parse_members(w, words[2], &c) && ask(w, n, &e);
    }
    if (strcmp(verb, "observe") == 0) { /* nobody named: none */
        struct replica_config c = {0};
        struct replica_event e = {.kind = REPLICA_OBSERVE};
        if (words[2] && !parse_members(w, words[2], &c)) return false;
        e.u.observers.list = c.members;
        e.u.observers.count = c.count;
        return ask(w, n, &e);
    }
    if (strcmp(verb, "start-at") == 0 && words[2]) {
        struct replica_event e = {.kind = REPLICA_MOVE_START, .u.position = {0, atoi(words[2])}};
        return ask(w, n, &e);
    }
    if (strcmp(verb, "transfer") == 0 && node_of(w, words[2])) {
        struct replica_event e = {.kind = REPLICA_TRANSFER, .u.member = node_of(w, words[2])->self};
        return ask(w, n, &e);
    }
    if (strcmp(verb, "epochs") == 0 && words[2]) return epochs(w, n, atoi(words[2])), true;
    if (strcmp(verb, "load") == 0 && node_of(w, words[2]) && words[3]) return load(w, n, node_of(w, words[2]), atoi(words[3])), true;
    if (strcmp(verb, "rest") == 0) return rest(w, n), true;
    if (strcmp(verb, "beats") == 0 && words[2]) return beats(w, n, atoi(words[2])), true;
    if (strcmp(verb, "members") == 0) return print_members(w, n), true;
    if (strcmp(verb, "damage") == 0 || strcmp(verb, "mend") == 0) {
        struct replica_event e = {.kind = REPLICA_DAMAGED, .u.damaged = verb[0] == 'd'};
        return ask(w, n, &e);
    }
    if (strcmp(verb, "vouch") == 0 && node_of(w, words[2]))
        return world_vouch(w, n, node_of(w, words[2]), words[3] ? atoi(words[3]) * INT64_C(1000000) : 0), true;
    if (strcmp(verb, "doubt") == 0) {
        struct replica_event e = {.kind = REPLICA_DOUBT};
        return ask(w, n, &e);
    }
    if (strcmp(verb, "lost") == 0 && node_of(w, words[2])) {
        struct replica_event e = {.kind = REPLICA_PEER_LOST, .u.member = node_of(w, words[2])->self};
        return ask(w, n, &e);
    }
    return false;
}

static bool begin(struct world *w, char *words[4], struct quorum_coverage *coverage, FILE *out, enum replica_mutant mutant) {
    uint32_t nodes = words[1] ? (uint32_t)atoi(words[1]) : 0, voters = words[1] && words[2] ? (uint32_t)atoi(words[2]) : nodes;
    if (strcmp(words[0], "group") != 0 || nodes < 1 || nodes > NODES_MAX || voters < 1 || voters > nodes) return false;
    w->options = (struct quorum_options){.seed = 1, .nodes = nodes, .voters = voters, .mutant = mutant};
    w->soon = words[3] && strcmp(words[3], "soon") == 0;
    w->young = words[3] && strcmp(words[3], "young") == 0;
    w->quiet = words[3] && strcmp(words[3], "quiet") == 0;
    w->relaxed = words[3] && strcmp(words[3], "relaxed") == 0;
    w->coverage = coverage;
    w->directed = true;
    w->out = out;
    world_begin(w);
    return true;
}

static void run_line(struct world *w, char *line, struct quorum_coverage *coverage, FILE *out, enum replica_mutant mutant) {
    char *words[4] = {0}, *save = NULL;
    int count = 0;
    for (char *word = strtok_r(line, " ", &save); word && count < 4; word = strtok_r(NULL, " ", &save)) words[count++] = word;
    bool ok = w->out ? command(w, words) : begin(w, words, coverage, out, mutant);
    if (!ok) world_violated(w, "talk: a command is not understood, or its node is not in the state for it");
    else check_all(w);
    if (w->violation) fprintf(out, "  %s\n", w->violation);
}

const char *quorum_talk(const char *text, enum replica_mutant mutant, FILE *out) {
    struct world *w = calloc(1, sizeof *w);
    struct quorum_coverage coverage = {0};
    ASSERT(w != NULL);
    while (*text && !w->violation) {
        size_t len = strcspn(text, "\n");
        char line[200];
        ASSERT(len < sizeof line);
        memcpy(line, text, len);
        line[len] = 0;
        text += len + (text[len] == '\n');
        if (strncmp(line, "  ", 2) == 0) continue; /* an outcome of the last time */
        fprintf(out, "%s\n", line);
        if (islower((unsigned char)line[0])) run_line(w, line, &coverage, out, mutant);
    }
    const char *violation = w->violation;
    for (uint32_t i = 0; i < w->options.nodes; i++)
        if (w->nodes[i].up) replica_free(&w->nodes[i].replica);
    free(w);
    return violation;
}
