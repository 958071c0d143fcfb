/* check.c - the invariants of docs/replication.md 12, by their numbers, as far as the inside of the brokers shows them.
 *
 * After each turn of a node its partitions are looked at: role, epoch, high watermark, what is durable. When a high watermark
 * has moved, the batches that it has passed are read from that replica's log: the first replica to show an offset as committed
 * says what it holds, for ever, and all others must agree, byte by byte. */
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "base/crc32c.h"
#include "server/partition_impl.h"
#include "tests/sim/cluster/cluster.h"

enum { GROUPS_MAX = 400, EPOCHS_MAX = 4096, LOSSES_MAX = 4 };
struct batch_seen { int64_t base, last; int32_t epoch; uint32_t bytes, crc; };
struct group {                           /* one replicated log, over all nodes and lives */
    uint64_t id;
    struct batch_seen *batches;          /* what is committed: ascending */
    uint32_t count, cap;
    int64_t committed;                   /* the highest high watermark of an established leader */
    int32_t committed_epoch;             /* the highest epoch of one */
    int64_t promised_start;              /* where somebody was told that it begins */
    struct { int32_t node; uint32_t life; } leaders[EPOCHS_MAX]; /* node 0: none yet */
};
struct sight {                           /* one replica, as it was seen last */
    uint64_t id, plid;
    uint32_t life;                       /* of the node; what follows is of this life */
    bool here, reading, leading, established;
    int64_t high_watermark, start, end, verified;
    int64_t halved_end;                  /* of the batch that the log start lay in when it was read */
    struct uuid incarnation;
    struct replica_position durable;     /* survives a life: what comes back must contain it */
    bool durable_known;
    int32_t epoch;
    struct replica_config config;
    struct log_vote vote;                /* as the log has it since its change `vote_seq`; 0: since before this life */
    uint64_t vote_seq;
    uint32_t vote_life;                  /* of the node, and */
    uint64_t vote_plid;                  /* of the replica: one that left and came back counts its changes anew */
};
struct check {
    struct cluster *c;
    struct group *groups[GROUPS_MAX];
    uint32_t group_count;
    struct sight sights[BROKERS_MAX + 1][GROUPS_MAX]; /* by node, by index of the group */
    struct sight lost[LOSSES_MAX][BROKERS_MAX + 1][GROUPS_MAX]; /* of disks that are lost: what they acknowledged was true then */
    uint32_t losses[BROKERS_MAX + 1];
};
struct reading { struct log_read read; struct check *k; struct node *n; uint32_t life, group; };

static struct cluster *checked;          /* one in a process */

struct check *check_new(struct cluster *c) {
    struct check *k = calloc(1, sizeof *k);
    ASSERT(k != NULL);
    k->c = checked = c;
    return k;
}

static uint32_t group_index(struct check *k, uint64_t id) {
    for (uint32_t i = 0; i < k->group_count; i++)
        if (k->groups[i]->id == id) return i;
    ASSERT(k->group_count < GROUPS_MAX);
    struct group *g = calloc(1, sizeof *g);
    ASSERT(g != NULL);
    g->id = id;
    k->groups[k->group_count] = g;
    return k->group_count++;
}

static uint64_t group_of(const struct partition *p) { return p->plid; }

/* ---- what is committed ------------------------------------------------------------------------- */

static struct batch_seen *batch_at(struct group *g, int64_t base) {
    uint32_t low = 0, high = g->count;
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if (g->batches[mid].base < base) low = mid + 1;
        else high = mid;
    }
    return low < g->count && g->batches[low].base == base ? &g->batches[low] : NULL;
}

static void batch_committed(struct check *k, const struct node *n, struct group *g, const uint8_t *bytes, const struct batch_header *h) {
    struct batch_seen b = {h->base_offset, batch_last_offset(h), h->leader_epoch, h->total_bytes, crc32c(0, bytes, h->total_bytes)};
    covered(k->c)->verified_batches++;
    if (g->count == 0 || b.base > g->batches[g->count - 1].last) {
        const struct sight *here = &k->sights[n->id][group_index(k, g->id)];
        bool deleted = b.base <= here->start || b.base <= here->halved_end; /* before anybody looked at what lay between */
        if (g->count > 0 && b.base != g->batches[g->count - 1].last + 1 && !deleted)
            cluster_violated(k->c, "19 group %llu: behind offset %lld comes %lld", (unsigned long long)g->id, (long long)g->batches[g->count - 1].last, (long long)b.base);
        if (g->count == g->cap) {
            g->cap = g->cap ? g->cap * 2 : 64;
            g->batches = realloc(g->batches, g->cap * sizeof *g->batches);
            ASSERT(g->batches != NULL);
        }
        g->batches[g->count++] = b;
        return;
    }
    const struct batch_seen *have = batch_at(g, b.base);
    if (!have || have->last != b.last || have->epoch != b.epoch || have->bytes != b.bytes || have->crc != b.crc)
        cluster_violated(k->c, "5 group %llu: node %d holds another batch at offset %lld (epoch %d) below its high watermark than what was committed (epoch %d)",
                         (unsigned long long)g->id, n->id, (long long)b.base, b.epoch, have ? have->epoch : -1);
}

struct partition *check_replica(struct node *n, uint64_t group) {
    struct partition *p = NULL;
    for (uint32_t q = 0; q < n->c->reactors && !p; q++)
        if (n->broker.reactors[q].partitions) HASH_FIND(hh, n->broker.reactors[q].partitions->by_plid, &group, sizeof group, p);
    return p && !p->gone && p->log ? p : NULL;
}

/* The log's start has moved over it meanwhile, or the log is gone. */
static bool is_deleted(const struct reading *d) {
    const struct partition *p = check_replica(d->n, d->k->groups[d->group]->id);
    return !p || d->read.offset < p->log->start;
}

static void read_done(struct reading *d) {
    struct check *k = d->k;
    struct sight *s = &k->sights[d->n->id][d->group];
    s->reading = false;
    uint8_t *all = malloc(d->read.bytes + 1);
    size_t len = 0;
    struct batch_header h;
    ASSERT(all != NULL);
    for (uint32_t i = 0; i < d->read.slice_count; i++) {
        memcpy(all + len, slice_data(&d->read.slices[i]), d->read.slices[i].len);
        len += d->read.slices[i].len;
    }
    bool deleted = d->read.err == ERR_RANGE && is_deleted(d);
    if (d->read.err != OK && d->read.err != ERR_CLOSED && d->read.err != ERR_NOMEM && !deleted && !sim_crashed(k->c->world, (unsigned)d->n->id) && !d->n->broker.failed && !d->n->rotten)
        cluster_violated(k->c, "18 group %llu: node %d cannot read its own log at offset %lld: %s", (unsigned long long)k->groups[d->group]->id, d->n->id,
                         (long long)d->read.offset, err_str(d->read.err));
    for (size_t at = 0; at < len && batch_parse(all + at, len - at, &h) == OK; at += h.total_bytes) {
        if (batch_last_offset(&h) >= s->high_watermark) break;
        if (h.base_offset >= s->verified) batch_committed(k, d->n, k->groups[d->group], all + at, &h);
        else s->halved_end = batch_last_offset(&h) + 1;
        s->verified = batch_last_offset(&h) + 1;
    }
    free(all);
    log_read_release(&d->read);
}

static void read_later(struct log_read *r) {
    struct reading *d = r->owner;
    struct node *n = d->n;
    if (n->up && n->life == d->life) read_done(d);
    free(d);
}

static void verify(struct check *k, struct node *n, uint32_t group, struct partition *p) {
    struct sight *s = &k->sights[n->id][group];
    if (n->stopping) return; /* a read would outlive its directory */
    s->verified = MAX(s->verified, p->log->start); /* the start moves over what others have shown */
    while (!s->reading && s->verified < s->high_watermark && !cluster_failed(k->c)) {
        int64_t before = s->verified;
        struct reading *d = calloc(1, sizeof *d);
        ASSERT(d != NULL);
        *d = (struct reading){.k = k, .n = n, .life = n->life, .group = group};
        d->read = (struct log_read){.offset = s->verified, .max_offset = s->high_watermark, .max_bytes = 1 << 18, .min_one = true, .done = read_later, .owner = d};
        s->reading = true;
        if (!log_read(p->log, &d->read)) return;
        read_done(d);
        free(d);
        if (s->verified == before) return;
    }
}

/* ---- one replica ------------------------------------------------------------------------------- */

static bool contains(const struct replica *r, struct replica_position p) { return walk_contains(&r->walk, p); }

/* 3, 6: what the journal has called durable is there after any crash. */
static void check_returned(struct check *k, struct node *n, const struct sight *s, const struct partition *p) {
    if (!s->durable_known || n->rotten) return;
    struct replica_position last = walk_last(&p->replica.walk);
    bool alone = p->replica.config.count == 1; /* it looks at its last epoch only */
    if (replica_position_compare(last, s->durable) < 0 || last.offset < s->durable.offset || (!alone && !contains(&p->replica, s->durable)))
        cluster_violated(k->c, "6 group %llu: node %d had (%d,%lld) durable and comes back with (%d,%lld)", (unsigned long long)s->id, n->id, s->durable.epoch,
                         (long long)s->durable.offset, last.epoch, (long long)last.offset);
}

/* 1, 4: one leader for each epoch, and it has everything that is committed. */
static void check_leader(struct check *k, struct node *n, struct group *g, const struct partition *p) {
    int32_t epoch = p->replica.epoch;
    ASSERT(epoch >= 0 && epoch < EPOCHS_MAX);
    if (g->leaders[epoch].node == n->id && g->leaders[epoch].life == n->life) return;
    /* A group of one goes on in its epoch after a restart. */
    if (g->leaders[epoch].node != 0 && (g->leaders[epoch].node != n->id || p->replica.config.count > 1))
        cluster_violated(k->c, "1 group %llu: nodes %d and %d both lead in epoch %d", (unsigned long long)g->id, g->leaders[epoch].node, n->id, epoch);
    g->leaders[epoch].node = n->id;
    g->leaders[epoch].life = n->life;
    covered(k->c)->leaders++;
    cluster_trace(k->c, "node %d leads group %llu in epoch %d from offset %lld", n->id, (unsigned long long)g->id, epoch, (long long)p->log->end);
    /* One that stood still when it had won may find out late, and lead in an epoch that is over: what came after is not in it. */
    if (epoch >= g->committed_epoch && p->log->end < g->committed)
        cluster_violated(k->c, "4 group %llu: node %d leads in epoch %d with a log that ends at %lld; committed is %lld", (unsigned long long)g->id, n->id, epoch,
                         (long long)p->log->end, (long long)g->committed);
}

/* Of the disk that `m` has, or had when an acknowledgement that is still under way left it. NULL: never seen. */
static const struct sight *sight_of(const struct check *k, uint32_t group, const struct replica_member *m) {
    ASSERT(m->node > 0 && m->node <= BROKERS_MAX);
    const struct sight *s = &k->sights[m->node][group];
    for (uint32_t i = 0; i < LOSSES_MAX && !uuid_eq(&s->incarnation, &m->incarnation); i++) s = &k->lost[i][m->node][group];
    return uuid_eq(&s->incarnation, &m->incarnation) ? s : NULL;
}

/* How many voters of `config` have durably what the leader shows as committed. */
static uint32_t holders(struct check *k, uint32_t group, const struct replica *r, const struct replica_config *config) {
    uint32_t have = 0;
    for (int i = 0; i < config->voters; i++) {
        const struct sight *s = sight_of(k, group, &config->members[i]);
        have += s && s->durable_known && s->durable.epoch >= r->epoch && s->durable.offset >= r->high_watermark;
    }
    return have;
}

/* 6: what a leader shows as committed is durable on a majority. A commit, and the change of members that waited for it, may have come in
 * one turn: then the majority is that of the configuration before. */
static void check_majority(struct check *k, struct node *n, uint32_t group, const struct partition *p, const struct replica_config *before) {
    const struct replica *r = &p->replica;
    uint32_t have = holders(k, group, r, &r->config);
    if (have >= replica_config_majority(&r->config)) return;
    if (replica_config_compare(before->id, r->config.id) == 0 || before->voters == 0 ||
        holders(k, group, r, before) < replica_config_majority(before))
        cluster_violated(k->c, "6 group %llu: node %d commits (%d,%lld), which %u of %u have durably", (unsigned long long)k->groups[group]->id, n->id, r->epoch,
                         (long long)r->high_watermark, have, r->config.voters);
}

static bool same_vote(const struct log_vote *a, const struct log_vote *b) {
    return a->epoch == b->epoch && a->has_voted == b->has_voted && (!a->has_voted || (a->node == b->node && uuid_eq(&a->incarnation, &b->incarnation)));
}

static bool is_of_vote(const struct sight *s, const struct node *n, const struct log *l) { return s->vote_life == n->life && s->vote_plid == l->plid; }

bool check_vote_is_durable(struct node *n, const struct partition *p, const struct log_vote *vote) {
    struct check *k = n->c->check;
    const struct sight *s = &k->sights[n->id][group_index(k, group_of(p))];
    const struct log_vote *have = &p->log->vote;
    if (have->epoch < vote->epoch || (have->epoch == vote->epoch && vote->has_voted && !same_vote(have, vote))) return false;
    if (!is_of_vote(s, n, p->log)) return p->log->durable_seq >= p->log->seq; /* not looked at yet in this life */
    return same_vote(have, &s->vote) && s->vote_seq <= p->log->durable_seq;
}

/* In the place of log_set_seq(): so it is known which change a vote was. */
void __real_log_set_seq(struct log *l, uint64_t seq);
void __wrap_log_set_seq(struct log *l, uint64_t seq);
void __wrap_log_set_seq(struct log *l, uint64_t seq) {
    struct cluster *c = checked;
    __real_log_set_seq(l, seq);
    for (uint32_t i = 1; i <= c->node_count; i++)
        for (uint32_t q = 0; c->nodes[i].up && q < c->reactors; q++) {
            if (c->nodes[i].broker.reactors[q].shard != l->shard) continue;
            struct sight *s = &c->check->sights[i][group_index(c->check, log_plid_group(l->plid))];
            if (is_of_vote(s, &c->nodes[i], l) && same_vote(&s->vote, &l->vote)) continue;
            s->vote = l->vote;
            s->vote_seq = seq;
            s->vote_life = c->nodes[i].life;
            s->vote_plid = l->plid;
        }
}

static void check_partition(struct check *k, struct node *n, struct partition *p) {
    struct cluster *c = k->c;
    uint32_t index = group_index(k, group_of(p));
    struct group *g = k->groups[index];
    struct sight *s = &k->sights[n->id][index];
    const struct replica *r = &p->replica;
    if (s->life != n->life || !s->here || s->plid != p->log->plid) {
        if (s->here && s->plid != p->log->plid) s->here = false; /* it went and came again */
        if (s->here) check_returned(k, n, s, p);
        struct sight fresh = {.id = g->id, .life = n->life, .here = true, .verified = p->log->start, .incarnation = r->self.incarnation, .plid = p->log->plid};
        fresh.vote = s->vote;
        fresh.vote_seq = s->vote_seq;
        fresh.vote_life = s->vote_life;
        fresh.vote_plid = s->vote_plid;
        *s = fresh;
    }
    bool moved = r->high_watermark != s->high_watermark;
    if (r->high_watermark < s->high_watermark)
        cluster_violated(c, "7 group %llu: the high watermark of node %d falls from %lld to %lld", (unsigned long long)g->id, n->id, (long long)s->high_watermark,
                         (long long)r->high_watermark);
    if (r->distrusted_count > 0)
        cluster_violated(c, "10 group %llu: node %d says that the disk of node %d went back", (unsigned long long)g->id, n->id, r->distrusted[0].node);
    if (r->epoch < s->epoch) cluster_violated(c, "8 group %llu: the epoch of node %d falls from %d to %d", (unsigned long long)g->id, n->id, s->epoch, r->epoch);
    if (p->log->start < s->start) cluster_violated(c, "15 group %llu: the log start of node %d falls", (unsigned long long)g->id, n->id);
    if (g->id == 1 && p->log->start > s->start && s->start >= 0) covered(c)->log_starts++;
    if (p->log->end < r->high_watermark) cluster_violated(c, "7 group %llu: the log of node %d ends below its high watermark", (unsigned long long)g->id, n->id);
    if (p->log->end < s->end) {
        covered(c)->truncations++;
        cluster_trace(c, "node %d cuts group %llu from %lld to %lld", n->id, (unsigned long long)g->id, (long long)s->end, (long long)p->log->end);
    }
    if (moved && g->id == 1) cluster_trace(c, "node %d has the metadata log committed to %lld of %lld", n->id, (long long)r->high_watermark, (long long)p->log->end);
    s->high_watermark = r->high_watermark;
    s->start = p->log->start;
    s->end = p->log->end;
    s->epoch = r->epoch;
    s->durable = r->durable;
    s->durable_known = r->durable.offset >= 0;
    if (!is_of_vote(s, n, p->log)) {
        s->vote = p->log->vote;
        s->vote_seq = 0;
        s->vote_life = n->life;
        s->vote_plid = p->log->plid;
    }
    bool leading = r->role == REPLICA_LEADER && !r->begins_on_write;
    if (leading) check_leader(k, n, g, p);
    if (leading && r->established) {
        if (!s->established) covered(c)->established++;
        /* One that does not know that it has been replaced may still count what was acknowledged to it before. */
        if (r->epoch >= g->committed_epoch && r->high_watermark < g->committed && (moved || !s->established))
            cluster_violated(c, "7 group %llu: node %d is established in epoch %d and shows %lld; %lld was shown before", (unsigned long long)g->id, n->id, r->epoch,
                             (long long)r->high_watermark, (long long)g->committed);
        /* A group of one is established as it begins an epoch: what was committed is, whatever comes. */
        if (moved || (!s->established && r->config.count > 1)) check_majority(k, n, index, p, &s->config);
        if (r->epoch >= g->committed_epoch && r->walk.start < g->promised_start)
            cluster_violated(c, "15 group %llu: node %d leads in epoch %d with a log that starts at %lld; that it starts at %lld was answered", (unsigned long long)g->id,
                             n->id, r->epoch, (long long)r->walk.start, (long long)g->promised_start);
        if (r->epoch > g->committed_epoch) g->committed_epoch = r->epoch;
        if (r->high_watermark > g->committed) g->committed = r->high_watermark;
    }
    check_config(n, p);
    s->leading = leading;
    s->config = r->config;
    s->established = leading && r->established;
    if (s->verified < p->log->start) s->verified = p->log->start;
    verify(k, n, index, p);
}

void check_node(struct node *n) {
    if (!n->up) return;
    check_image(n);
    admin_look(n);
    for (uint32_t i = 0; i < n->c->reactors; i++) {
        struct partition_map *m = n->broker.reactors[i].partitions;
        struct partition *p, *next;
        if (!m) continue;
        HASH_ITER(hh, m->by_plid, p, next)
            if (!p->gone && p->log && p->created) check_partition(n->c->check, n, p);
    }
}

void check_start_promised(struct cluster *c, uint64_t group, int64_t to) {
    struct group *g = c->check->groups[group_index(c->check, group)];
    g->promised_start = MAX(g->promised_start, to);
}

/* A group of two whose one disk is gone can never lead again: nothing but an operator could decide that. Nodes that are down are as they
 * were seen last. */
bool check_may_lose_disk(struct cluster *c) {
    const struct check *k = c->check;
    bool any = false;
    for (uint32_t i = 1; i <= c->node_count; i++)
        for (uint32_t g = 0; g < k->group_count; g++) {
            const struct sight *s = &k->sights[i][g];
            if (!s->here || s->config.count == 0) continue;
            any = true;
            if (s->config.voters < 3) return false;
        }
    return any;
}

void check_disk_lost(struct node *n) {
    check_members_disk_lost(n);
    struct check *k = n->c->check;
    memcpy(k->lost[k->losses[n->id]++ % LOSSES_MAX][n->id], k->sights[n->id], sizeof k->sights[n->id]);
    memset(k->sights[n->id], 0, sizeof k->sights[n->id]);
}

static void tell_replica(struct cluster *c, const struct node *n, const struct partition *p) {
    static const char *const roles[] = {"follower", "pre-candidate", "candidate", "leader"};
    const struct replica *r = &p->replica;
    char members[200] = "";
    for (int i = 0, at = 0; i < r->config.count; i++)
        at += snprintf(members + at, sizeof members - (size_t)at, "%s%d%s", i ? "," : "", r->config.members[i].node, i < r->config.voters ? "" : "(learns)");
    cluster_trace(c, "  [%d] group %llu (%s-%d): %s%s e%d, leader %d, log %lld..%lld, high watermark %lld, durable (%d,%lld), config (%d,%d) of %s", n->id,
                  (unsigned long long)group_of(p), p->log->topic, p->log->partition, r->role == REPLICA_LEADER && r->established ? "established " : "", roles[r->role], r->epoch,
                  r->has_leader ? r->leader.node : -1, (long long)p->log->start, (long long)p->log->end, (long long)r->high_watermark, r->durable.epoch,
                  (long long)r->durable.offset, r->config.id.epoch, r->config.id.version, members);
}

static void tell_peers(struct cluster *c, const struct node *n, const struct partition *p) {
    for (uint32_t i = 0; i < p->replica.peer_count; i++) {
        const struct replica_peer *x = &p->replica.peers[i];
        cluster_trace(c, "  [%d]   of %d: next (%d,%lld), match (%d,%lld), answered %lld ms ago, sent %lld ms ago%s%s%s", n->id, x->member.node, x->next.epoch,
                      (long long)x->next.offset, x->match.epoch, (long long)x->match.offset, (long long)((sim_now_ns(c->world) - x->acked_ns) / MS),
                      (long long)((sim_now_ns(c->world) - x->sent_ns) / MS), x->sending ? ", sending" : "", x->probing ? ", probing" : "", x->below ? ", below" : "");
    }
}

void check_tell(struct cluster *c) {
    for (uint32_t i = 1; i <= c->node_count; i++) {
        struct node *n = &c->nodes[i];
        struct partition *p, *next;
        if (!n->up) cluster_trace(c, "  [%d] is down", n->id);
        for (uint32_t q = 0; n->up && q < c->reactors; q++)
            HASH_ITER(hh, n->broker.reactors[q].partitions->by_plid, p, next) {
                tell_replica(c, n, p);
                tell_peers(c, n, p);
            }
    }
}

/* ---- the end ------------------------------------------------------------------------------------ */

const char *check_converged(struct cluster *c) {
    struct check *k = c->check;
    static char what[200];
    for (uint32_t i = 1; i <= c->node_count; i++)
        if (!c->nodes[i].up || !c->nodes[i].ready) {
            snprintf(what, sizeof what, "node %u is not ready", i);
            return what;
        }
    for (uint32_t g = 0; g < k->group_count; g++) {
        uint32_t leaders = 0, here = 0;
        int64_t end = -1;
        for (uint32_t i = 1; i <= c->node_count; i++) {
            struct sight *s = &k->sights[i][g];
            struct partition *p = check_replica(&c->nodes[i], k->groups[g]->id);
            if (!p || s->life != c->nodes[i].life) continue;
            here++;
            leaders += p->replica.role == REPLICA_LEADER && p->replica.established;
            if (p->replica.high_watermark != p->log->end || (s->verified != p->log->end && !c->nodes[i].rotten) || (end >= 0 && end != p->log->end)) {
                snprintf(what, sizeof what, "group %llu: node %u has high watermark %lld of %lld, verified to %lld", (unsigned long long)k->groups[g]->id, i,
                         (long long)p->replica.high_watermark, (long long)p->log->end, (long long)s->verified);
                return what;
            }
            end = p->log->end;
        }
        if (here > 0 && leaders != 1) {
            snprintf(what, sizeof what, "group %llu has %u leaders", (unsigned long long)k->groups[g]->id, leaders);
            return what;
        }
    }
    return NULL;
}
