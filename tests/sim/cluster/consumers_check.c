/* consumers_check.c - what the consumer protocol promises, as far as members can tell.
 *
 * One owner: a target assignment gives a partition to one member, and a member comes to an epoch only with what its target of that epoch
 * allows; so an epoch and a partition have one member, whoever learns of it late. And at any moment: who owns has a
 * heartbeat answered that left less than a session ago (its lease; until then it is not put out for silence), and others get the
 * partition when it has said that it does not own it any more. A member that has been told to give something up keeps it for a while, but
 * not beyond its rebalance timeout.
 *
 * Epochs only grow, also when the coordinator moves: unless the group is gone, which takes that it was empty and had no offsets. */
#include <stdlib.h>
#include "base/assert.h"
#include "tests/sim/cluster/consumers.h"

enum { EPOCHS = 4096 };
static struct place places[PLACES];
static uint32_t place_count;
static uint16_t owners[EPOCHS][PLACES];  /* 0: nobody yet */
static struct { int32_t epoch; uint16_t who; } latest[PLACES];
static uint16_t identities;
static int32_t newest;
static bool has_offsets, settled;

void claims_begin(void) {
    memset(owners, 0, sizeof owners);
    memset(latest, 0, sizeof latest);
    place_count = 0;
    identities = 0;
    newest = 0;
    has_offsets = settled = false;
}

uint32_t place_of(const struct uuid *topic, int32_t partition) {
    uint32_t i = 0;
    while (i < place_count && (places[i].partition != partition || !uuid_eq(&places[i].topic, topic))) i++;
    ASSERT(i < PLACES);
    if (i == place_count) places[place_count++] = (struct place){*topic, partition, -1};
    for (int32_t t = 0; t < TOPICS && places[i].known < 0; t++)
        for (uint32_t k = 0; k < CONSUMERS; k++)
            if (uuid_eq(topic, &consumers[k].client.topic_ids[t])) places[i].known = t;
    return i;
}

const struct place *place_at(uint32_t i) { return i < place_count ? &places[i] : NULL; }
uint16_t claims_identity(void) {
    ASSERT(identities < UINT16_MAX);
    return ++identities;
}
int32_t claims_newest(void) { return newest; }
void claims_committed(void) { has_offsets = true; }
bool claims_settled(void) { return settled; }
bool claims_superseded(uint32_t place, int32_t epoch, uint16_t who) { return latest[place].who != who && latest[place].epoch > epoch; }

/* ---- epochs -------------------------------------------------------------------------------------- */

void claims_epoch(struct consumer *p, bool joined) {
    if (p->epoch <= 0 || p->epoch >= EPOCHS) {
        cluster_violated(p->c, "13 consumer %u of group crew is in epoch %d", p->index, p->epoch);
        p->epoch = 1;
        return;
    }
    if (joined && p->epoch < p->newest && has_offsets)
        cluster_violated(p->c, "13 consumer %u joins group crew in epoch %d; epoch %d was there before it asked", p->index, p->epoch, p->newest);
    if (joined && p->epoch <= p->newest && !has_offsets) { /* perhaps another group of this name: who had what in such epochs does not count */
        cluster_trace(p->c, "group crew may begin anew");
        memset(owners[p->epoch], 0, sizeof owners - sizeof owners[0] * (size_t)p->epoch);
        memset(latest, 0, sizeof latest);
        newest = p->epoch;
    }
    newest = MAX(newest, p->epoch);
}

/* ---- owners -------------------------------------------------------------------------------------- */

static void check_epoch(struct consumer *p, uint32_t place) {
    uint16_t *owner = &owners[p->epoch][place];
    if (*owner != 0 && *owner != p->who)
        cluster_violated(p->c, "13 in epoch %d of group crew consumer %u is given partition %d of topic %d, which another has in that epoch", p->epoch, p->index,
                         places[place].partition, places[place].known);
    *owner = p->who;
    if (p->epoch <= latest[place].epoch) return;
    bool new_owner = latest[place].who != p->who;
    latest[place].epoch = p->epoch;
    latest[place].who = p->who;
    if (new_owner) offsets_superseded(p, place);
}

static void check_moment(struct consumer *p, uint32_t place) {
    int64_t now = consumer_now(p);
    for (uint32_t i = 0; i < CONSUMERS; i++) {
        const struct consumer *q = &consumers[i];
        if (q == p || q->lease_ns <= now || !consumer_holds(q, place)) continue;
        cluster_violated(p->c, "13 consumers %u (epoch %d) and %u (epoch %d) of group crew both own partition %d of topic %d", q->index, q->epoch, p->index, p->epoch,
                         places[place].partition, places[place].known);
    }
}

void claims_check(struct consumer *p) {
    for (uint32_t i = 0; i < place_count; i++) {
        if (set_has(&p->told, i)) check_epoch(p, i);
        if (p->lease_ns > consumer_now(p) && consumer_holds(p, i)) check_moment(p, i);
    }
}

/* ---- descriptions -------------------------------------------------------------------------------- */

typedef struct k_consumer_group_describe_response_groups described_group;
typedef struct k_consumer_group_describe_response_groups_members described_member;

static struct place_set set_of(const struct k_consumer_group_describe_response_assignment *a) {
    struct place_set s = {{0}};
    for (int32_t t = 0; t < a->topic_partitions_n; t++)
        for (int32_t k = 0; k < a->topic_partitions[t].partitions_n; k++)
            set_add(&s, place_of(&a->topic_partitions[t].topic_id, a->topic_partitions[t].partitions[k]));
    return s;
}

static void check_description(struct consumer *p, const described_group *g) {
    struct place_set all = {{0}};
    for (int32_t i = 0; i < g->members_n; i++) {
        struct place_set s = set_of(&g->members[i].assignment);
        if (g->members[i].member_epoch > g->group_epoch || g->assignment_epoch > g->group_epoch)
            cluster_violated(p->c, "13 group crew is in epoch %d, its target in %d, a member in %d", g->group_epoch, g->assignment_epoch, g->members[i].member_epoch);
        for (uint32_t k = 0; k < place_count; k++) {
            if (!set_has(&s, k)) continue;
            if (set_has(&all, k))
                cluster_violated(p->c, "13 group crew: two members own partition %d of topic %d, says the coordinator", places[k].partition, places[k].known);
            set_add(&all, k);
        }
    }
}

static bool is_as_described(const struct consumer *p, const described_group *g) {
    for (int32_t i = 0; i < g->members_n; i++) {
        const described_member *m = &g->members[i];
        if (!str_eq(m->member_id, str_from(p->id))) continue;
        struct place_set s = set_of(&m->assignment), target = set_of(&m->target_assignment);
        return m->member_epoch == p->epoch && p->epoch == g->group_epoch && set_equal(&s, &p->told) && set_equal(&s, &p->held) && set_equal(&s, &target);
    }
    return false;
}

static bool all_owned(const struct cluster *c) {
    uint32_t owned = 0, wanted = 0;
    for (uint32_t t = 0; t < TOPICS; t++) wanted += topic_partitions(c, t);
    for (uint32_t i = 0; i < place_count; i++)
        for (uint32_t k = 0; k < CONSUMERS && places[i].known >= 0; k++) owned += consumer_holds(&consumers[k], i);
    return owned == wanted;
}

static void described(struct call *call, struct wire_reader *r) {
    struct consumer *p = call->owner;
    struct k_consumer_group_describe_response a;
    p->asking = false;
    if (!r || k_consumer_group_describe_response_decode(&a, r, call->version) != OK || a.groups_n != 1) {
        consumer_lost(p);
        return;
    }
    const described_group *g = &a.groups[0];
    if (g->error_code != KERR_NONE) {
        if (g->error_code != KERR_GROUP_ID_NOT_FOUND) p->coordinator = 0;
        if (!kafka_error_retriable(g->error_code) && g->error_code != KERR_GROUP_ID_NOT_FOUND)
            cluster_violated(p->c, "13 whoever asks for group crew gets error %d", g->error_code);
        return;
    }
    covered(p->c)->crew_described++;
    check_description(p, g);
    if (!p->c->finishing) return;
    bool same = str_is(g->group_state, "Stable") && g->members_n == CONSUMERS && g->assignment_epoch == g->group_epoch;
    for (uint32_t i = 0; i < CONSUMERS && same; i++)
        same = consumers[i].told_subscription == BOTH && consumers[i].subscription == BOTH && is_as_described(&consumers[i], g);
    settled |= same && all_owned(p->c);
    cluster_trace(p->c, "group crew: %.*s in epoch %d, %d members%s", g->group_state.len, g->group_state.p, g->group_epoch, g->members_n, settled ? ", as they say" : "");
}

void claims_describe(struct consumer *p) {
    struct k_consumer_group_describe_request q;
    struct str name = consumers_group;
    k_consumer_group_describe_request_init(&q);
    q.group_ids = &name;
    q.group_ids_n = 1;
    k_consumer_group_describe_request_encode(&q, call_begin(&p->client, API_CONSUMER_GROUP_DESCRIBE, 1), 1);
    p->asking = true;
    call_send(&p->client, p->coordinator, described, p, 0, 2 * SECOND);
}
