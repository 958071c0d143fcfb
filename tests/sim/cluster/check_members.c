/* check_members.c - who may decide (docs/replication.md 9, 10, 12: numbers 16 and 17).
 *
 * 16: configurations never go back, in a process and, once durable, over crashes; one id names one configuration; and of two that can still
 *     find a quorum each, any two quorums share a member. A configuration can as long as a majority of its voters could still act by it: is
 *     alive, and has no newer one durably. Once it cannot it never can again, and is forgotten here.
 * 17: what a disk promised is gone with it: its successor, and a replica that left its node and came back, is another member. Who was replaced
 *     says nothing any more, who is blank and not counted grants nothing, and a leader counts nobody but the members of its configuration. */
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "server/image.h"
#include "server/partition_impl.h"
#include "tests/sim/cluster/cluster.h"

enum { ACTIVE_MAX = 64, DEAD_MAX = 32 };
struct place {                           /* one replica */
    bool known;
    struct uuid incarnation;
    uint32_t life;                       /* of its node */
    struct replica_config_id now, durable;
};
struct lineage {                         /* the configurations of one group */
    uint64_t group;
    struct place places[BROKERS_MAX + 1];
    struct replica_config active[ACTIVE_MAX];
    uint32_t active_count;
    struct replica_member dead[DEAD_MAX];
    uint32_t dead_count;
};
struct check_members { struct lineage **groups; uint32_t count, cap; };

struct check_members *check_members_new(void) {
    struct check_members *k = calloc(1, sizeof *k);
    ASSERT(k != NULL);
    return k;
}

static struct lineage *lineage_of(struct check_members *k, uint64_t group) {
    for (uint32_t i = 0; i < k->count; i++)
        if (k->groups[i]->group == group) return k->groups[i];
    if (k->count == k->cap) {
        k->cap = k->cap ? k->cap * 2 : 64;
        k->groups = realloc(k->groups, k->cap * sizeof *k->groups);
        ASSERT(k->groups != NULL);
    }
    struct lineage *l = k->groups[k->count++] = calloc(1, sizeof *l);
    ASSERT(l != NULL);
    l->group = group;
    return l;
}

/* ---- 17: who is gone ------------------------------------------------------------------------------ */

static bool is_dead(const struct lineage *l, const struct replica_member *m) {
    for (uint32_t i = 0; i < l->dead_count; i++)
        if (replica_member_eq(&l->dead[i], m)) return true;
    return false;
}

static void bury(struct lineage *l, int32_t node) {
    struct place *at = &l->places[node];
    if (at->known) l->dead[l->dead_count++] = (struct replica_member){node, at->incarnation};
    ASSERT(l->dead_count < DEAD_MAX);
    *at = (struct place){0};
}

void check_members_disk_lost(struct node *n) {
    struct check_members *k = n->c->members;
    for (uint32_t i = 0; i < k->count; i++) bury(k->groups[i], n->id);
}

/* What `p` says counts: a grant, or an acknowledgement. */
void check_may_speak(struct node *n, const struct partition *p, const struct replica_message *m) {
    const struct lineage *l = lineage_of(n->c->members, p->plid);
    bool grants = m->kind == REPLICA_VOTE_REPLY || m->kind == REPLICA_PRE_VOTE_REPLY;
    bool blank = p->log->end == 0 && p->replica.walk.count == 0;
    if (is_dead(l, &m->from))
        cluster_violated(n->c, "17 group %llu: node %d %s as the replica that it had before it lost its disk, or left", (unsigned long long)p->plid, n->id,
                         grants ? "votes" : "acknowledges");
    if (grants && blank && !replica_config_is_voter(&p->replica.config, &m->from))
        cluster_violated(n->c, "17 group %llu: node %d is blank, counts nowhere, and votes for node %d", (unsigned long long)p->plid, n->id, m->to.node);
}

/* What a message has changed of those who are counted, but for who sent it. */
void check_counted(struct node *n, const struct partition *p, const struct replica_message *m, const struct replica_peer *before, uint32_t count) {
    const struct replica *r = &p->replica;
    if (r->role != REPLICA_LEADER || r->peer_count != count) return;
    for (uint32_t i = 0; i < count; i++) {
        const struct replica_peer *x = &r->peers[i];
        if (!replica_member_eq(&before[i].member, &x->member)) continue;
        bool counted = replica_position_compare(before[i].match, x->match) != 0 || before[i].acked_round != x->acked_round;
        if (counted && m->epoch != r->epoch)
            cluster_violated(n->c, "6 group %llu: leader %d counts in epoch %d what node %d acknowledged in epoch %d", (unsigned long long)p->plid, n->id, r->epoch, m->from.node,
                             m->epoch);
        if (counted && !replica_member_eq(&x->member, &m->from))
            cluster_violated(n->c, "17 group %llu: leader %d takes what another replica of node %d says for its member's", (unsigned long long)p->plid, n->id,
                             m->from.node);
    }
}

/* ---- 16: quorums ----------------------------------------------------------------------------------- */

/* Whether `m` could still vote, or be counted, by configuration `id`. */
static bool could_act(const struct lineage *l, const struct replica_member *m, struct replica_config_id id) {
    const struct place *at = &l->places[m->node];
    if (is_dead(l, m)) return false;
    return !at->known || !uuid_eq(&at->incarnation, &m->incarnation) || replica_config_compare(at->durable, id) <= 0;
}

static uint32_t able(const struct lineage *l, const struct replica_config *c) {
    uint32_t n = 0;
    for (int i = 0; i < c->voters; i++) n += could_act(l, &c->members[i], c->id);
    return n;
}

/* A quorum of each, with nobody in both. */
static bool could_part(const struct lineage *l, const struct replica_config *a, const struct replica_config *b) {
    uint32_t only_a = 0, only_b = 0, both = 0, of_a = replica_config_majority(a), of_b = replica_config_majority(b);
    for (int i = 0; i < a->voters; i++) {
        if (!could_act(l, &a->members[i], a->id)) continue;
        bool in_b = replica_config_is_voter(b, &a->members[i]) && could_act(l, &a->members[i], b->id);
        both += in_b;
        only_a += !in_b;
    }
    for (int i = 0; i < b->voters; i++)
        if (could_act(l, &b->members[i], b->id)) only_b += !(replica_config_is_voter(a, &b->members[i]) && could_act(l, &b->members[i], a->id));
    uint32_t more_a = of_a > only_a ? of_a - only_a : 0, more_b = of_b > only_b ? of_b - only_b : 0;
    return more_a + more_b <= both;
}

static void forget_past(struct lineage *l) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < l->active_count; i++)
        if (able(l, &l->active[i]) >= replica_config_majority(&l->active[i])) l->active[kept++] = l->active[i];
    l->active_count = kept;
}

static bool same_members(const struct replica_config *a, const struct replica_config *b) {
    bool same = a->voters == b->voters && a->count == b->count;
    for (int i = 0; same && i < a->count; i++) same = replica_member_eq(&a->members[i], &b->members[i]);
    return same;
}

static void add_config(struct node *n, struct lineage *l, const struct replica_config *c) {
    for (uint32_t i = 0; i < l->active_count; i++) {
        if (replica_config_compare(l->active[i].id, c->id) != 0) continue;
        if (!same_members(&l->active[i], c))
            cluster_violated(n->c, "16 group %llu: configuration (%d,%d) has other members on node %d than elsewhere", (unsigned long long)l->group, c->id.epoch, c->id.version, n->id);
        return;
    }
    ASSERT(l->active_count < ACTIVE_MAX);
    l->active[l->active_count++] = *c;
    covered(n->c)->configs++;
}

static void check_quorums(struct node *n, struct lineage *l) {
    for (uint32_t i = 0; i < l->active_count; i++)
        for (uint32_t k = 0; k < i; k++)
            if (could_part(l, &l->active[i], &l->active[k]))
                cluster_violated(n->c, "16 group %llu: configurations (%d,%d) and (%d,%d) can find quorums without a common member", (unsigned long long)l->group,
                                 l->active[k].id.epoch, l->active[k].id.version, l->active[i].id.epoch, l->active[i].id.version);
}

static void goes_back(struct node *n, const struct lineage *l, struct replica_config_id from, struct replica_config_id to, const char *when) {
    if (replica_config_compare(to, from) < 0)
        cluster_violated(n->c, "16 group %llu: the configuration of node %d goes back from (%d,%d) to (%d,%d)%s", (unsigned long long)l->group, n->id, from.epoch, from.version,
                         to.epoch, to.version, when);
}

void check_config(struct node *n, const struct partition *p) {
    struct lineage *l = lineage_of(n->c->members, p->plid);
    const struct replica *r = &p->replica;
    struct place *at = &l->places[n->id];
    struct replica_config_id id = r->config.id;
    if (!p->started) return;
    if (at->known && !uuid_eq(&at->incarnation, &r->self.incarnation)) bury(l, n->id);
    bool durable = r->config.count != 1 && r->durable_seq >= r->barrier_seq;
    bool same = at->known && at->life == n->life && replica_config_compare(at->now, id) == 0;
    if (same && (!durable || replica_config_compare(at->durable, id) == 0)) return;
    if (at->known && !n->rotten) {
        if (at->life == n->life) goes_back(n, l, at->now, id, "");
        else goes_back(n, l, at->durable, id, ", which it had durably");
    }
    struct replica_config_id kept = durable ? id : at->durable;
    *at = (struct place){.known = true, .incarnation = r->self.incarnation, .life = n->life, .now = id, .durable = kept};
    forget_past(l);
    if (r->config.count > 0 && able(l, &r->config) >= replica_config_majority(&r->config)) add_config(n, l, &r->config);
    check_quorums(n, l);
}

/* ---- the end ---------------------------------------------------------------------------------------- */

/* Whether exactly `nodes` vote in `config`, each as it is registered now. */
static bool are_voters(const struct replica_config *config, const struct image *im, const int32_t *nodes, uint32_t count, const struct image_replica *at) {
    uint32_t wanted = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct image_node *node = image_node(im, nodes[i]);
        if (at && at[i].removing) continue;
        wanted++;
        if (!node) return false;
        struct replica_member m = {nodes[i], at ? replica_incarnation(&node->incarnation, at[i].life) : node->incarnation};
        if (!replica_config_is_voter(config, &m)) return false;
    }
    return wanted == config->voters;
}

static const char *converged(struct cluster *c, const struct image *im, uint64_t group, const int32_t *nodes, uint32_t count, const struct image_replica *at) {
    static char what[160];
    for (uint32_t i = 1; i <= c->node_count; i++) {
        const struct partition *p = check_replica(&c->nodes[i], group);
        if (!p || !p->started || are_voters(&p->replica.config, im, nodes, count, at)) continue;
        snprintf(what, sizeof what, "group %llu: the voters that node %u knows are not those of the metadata", (unsigned long long)group, i);
        return what;
    }
    return NULL;
}

/* Everybody's metadata is the same by now (check_converged()). */
const char *check_members_converged(struct cluster *c) {
    const struct image *im = atomic_load(&c->nodes[1].broker.image);
    const char *what = im->quorum_voter_count > 0 ? converged(c, im, 1, im->quorum_voters, im->quorum_voter_count, NULL) : NULL;
    for (uint32_t t = 0; t < im->topic_count && c->node_count > 1; t++)
        for (int32_t k = 0; k < im->by_name[t]->partition_count && !what; k++) {
            const struct image_partition *p = &im->by_name[t]->partitions[k];
            what = converged(c, im, p->plid, p->replicas, (uint32_t)p->replica_count, p->at);
        }
    if (!what) voters_check_end(im);
    return what;
}
