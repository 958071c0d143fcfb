/* voters.c - an operator who changes who votes for the metadata log, as `varve cluster add` and `remove` do: asks who votes, adds one that does not,
 * takes the vote of one that does, puts an empty disk into one that has lost its vote, and adds it again.
 *
 * Nobody else changes it: a node whose requests were all answered votes, or does not, as the last answer said. */
#include <string.h>
#include "base/assert.h"
#include "proto/kafka_errors.h"
#include "server/image.h"
#include "tests/sim/cluster/cluster.h"

#define PEER_LISTENER "CONTROLLER"
static struct {
    struct client client;
    struct cluster *c;
    bool asking;
    uint32_t wanted;                     /* bits of nodes: as the last answer about each said */
    uint32_t unsure;                     /* an answer was lost, or came while the request may still be carried out: either way */
    uint32_t leaving;                    /* was perhaps removed, or will be */
    uint32_t voters, observers;          /* as DescribeQuorum said last */
    struct uuid directories[BROKERS_MAX + 1];
    struct timer timer;
} ops;

static uint64_t draw(uint64_t n) { return prng_below(&ops.c->work_prng, n); }
static void again(int64_t most_ns) { timer_set(&ops.c->timers, &ops.timer, sim_now_ns(ops.c->world) + 1 + (int64_t)draw((uint64_t)most_ns)); }

/* ---- a change ------------------------------------------------------------------------------------ */

/* The operator takes the opportunity: nothing of it counts any more. */
static void perhaps_replace_disk(int32_t node) {
    struct cluster *c = ops.c;
    if (c->healed || !(c->faults >> FAULT_LOST_DISK & 1) || draw(2) == 0) return;
    if (faults_lose_disk(&c->nodes[node])) covered(c)->voters_wiped++;
}

static void answered(int32_t node, bool add, bool known, int16_t error) {
    uint32_t bit = 1u << node;
    bool sure = known && (error == KERR_NONE || error == (add ? KERR_DUPLICATE_VOTER : KERR_VOTER_NOT_FOUND));
    bool refused = known && (error == KERR_INVALID_REQUEST || error == KERR_INVALID_VOTER_KEY || error == KERR_BROKER_ID_NOT_REGISTERED);
    ops.asking = false;
    cluster_trace(ops.c, "%s voter %d: error %d%s", add ? "adding" : "removing", node, error, known ? "" : " (no answer)");
    if (error == KERR_NOT_CONTROLLER || !known) client_refresh(&ops.client);
    if (known && error != KERR_NONE && !kafka_error_retriable(error)) covered(ops.c)->voters_refused++;
    if (!sure && !refused) {
        ops.unsure |= bit;
        if (!add) ops.leaving |= bit;
        if (known && !kafka_error_retriable(error) && error != KERR_DUPLICATE_VOTER && error != KERR_VOTER_NOT_FOUND && error != KERR_UNKNOWN_SERVER_ERROR)
            cluster_violated(ops.c, "13 %s voter %d: error %d", add ? "adding" : "removing", node, error);
        return;
    }
    if (refused) return;
    /* Otherwise a broker may have asked the controller twice for us. */
    if (error == KERR_NONE && add == ((ops.wanted & bit) != 0) && !(ops.unsure & bit))
        cluster_violated(ops.c, "12 node %d was %s as a voter, which it %s before", node, add ? "added" : "removed", add ? "was" : "was not");
    if (add) ops.wanted |= bit;
    else ops.wanted &= ~bit;
    if (error != KERR_NONE) return;
    if (add) covered(ops.c)->voters_added++;
    else covered(ops.c)->voters_removed++;
    if (!add) perhaps_replace_disk(node);
}

static void added(struct call *call, struct wire_reader *r) {
    struct k_add_raft_voter_response a;
    bool known = r && k_add_raft_voter_response_decode(&a, r, call->version) == OK;
    answered((int32_t)call->tag, true, known, known ? a.error_code : KERR_NETWORK_EXCEPTION);
}

static void removed(struct call *call, struct wire_reader *r) {
    struct k_remove_raft_voter_response a;
    bool known = r && k_remove_raft_voter_response_decode(&a, r, call->version) == OK;
    answered((int32_t)call->tag, false, known, known ? a.error_code : KERR_NETWORK_EXCEPTION);
}

static void add(int32_t node) {
    struct k_add_raft_voter_request q;
    struct k_add_raft_voter_request_listeners l = {.name = STR_LIT(PEER_LISTENER), .host = STR_LIT("127.0.0.1"), .port = (uint16_t)(PEER_PORT + node)};
    k_add_raft_voter_request_init(&q);
    q.cluster_id = STR_NULL;
    q.timeout_ms = 2000;
    q.voter_id = node;
    q.voter_directory_id = ops.directories[node];
    q.listeners = &l;
    q.listeners_n = 1;
    q.ack_when_committed = draw(4) > 0;
    k_add_raft_voter_request_encode(&q, call_begin(&ops.client, API_ADD_RAFT_VOTER, 1), 1);
    call_send(&ops.client, ops.client.controller, added, &ops, (uint64_t)node, 3 * SECOND);
}

static void take_vote(int32_t node) {
    struct k_remove_raft_voter_request q;
    k_remove_raft_voter_request_init(&q);
    q.cluster_id = STR_NULL;
    q.voter_id = node;
    q.voter_directory_id = ops.directories[node];
    k_remove_raft_voter_request_encode(&q, call_begin(&ops.client, API_REMOVE_RAFT_VOTER, 0), 0);
    call_send(&ops.client, ops.client.controller, removed, &ops, (uint64_t)node, 3 * SECOND);
}

/* One lost disk must be a minority; otherwise any number will do. */
static bool may_remove(int32_t node) {
    uint32_t least = ops.c->faults & (1u << FAULT_LOST_DISK | 1u << FAULT_ROT) ? 3 : draw(8) == 0 ? 1 : 2;
    return (uint32_t)__builtin_popcount(ops.wanted & ~ops.leaving & ~(1u << node)) >= least;
}

/* Now and then what makes no sense: adding who votes, or is not known; removing who does not vote. */
static void change(void) {
    int32_t node = (int32_t)(1 + draw(ops.c->node_count));
    bool mistake = draw(10) == 0, votes = (ops.voters >> node & 1) != 0;
    if (ops.c->finishing || (!mistake && !((ops.voters | ops.observers) >> node & 1))) return;
    if (votes == mistake) {
        ops.asking = true;
        add(node);
    } else if (may_remove(node)) {
        ops.asking = true;
        take_vote(node);
    }
}

/* ---- who votes ----------------------------------------------------------------------------------- */

static uint32_t note(const struct k_describe_quorum_response_replica_state *list, int32_t n) {
    uint32_t bits = 0;
    for (int32_t i = 0; i < n; i++) {
        int32_t id = list[i].replica_id;
        if (id < 1 || id > BROKERS_MAX) continue;
        bits |= 1u << id;
        ops.directories[id] = list[i].replica_directory_id;
    }
    return bits;
}

static void described(struct call *call, struct wire_reader *r) {
    struct k_describe_quorum_response a;
    ops.asking = false;
    bool known = r && k_describe_quorum_response_decode(&a, r, call->version) == OK && a.error_code == KERR_NONE && a.topics_n == 1 &&
                 a.topics[0].partitions_n == 1 && a.topics[0].partitions[0].error_code == KERR_NONE;
    if (!known) {
        client_refresh(&ops.client);
        return;
    }
    const struct k_describe_quorum_response_topics_partitions *p = &a.topics[0].partitions[0];
    ops.voters = note(p->current_voters, p->current_voters_n);
    ops.observers = note(p->observers, p->observers_n);
    change();
}

static void describe(void) {
    struct k_describe_quorum_request q;
    struct k_describe_quorum_request_topics_partitions p = {.partition_index = 0};
    struct k_describe_quorum_request_topics t = {.topic_name = STR_LIT("__cluster_metadata"), .partitions = &p, .partitions_n = 1};
    k_describe_quorum_request_init(&q);
    q.topics = &t;
    q.topics_n = 1;
    k_describe_quorum_request_encode(&q, call_begin(&ops.client, API_DESCRIBE_QUORUM, 2), 2);
    ops.asking = true;
    call_send(&ops.client, 0, described, &ops, 0, SECOND);
}

static void work(struct timer *timer) {
    (void)timer;
    again(120 * MS);
    if (!ops.asking && !ops.c->finishing) describe();
}

void voters_start(struct cluster *c) {
    memset(&ops, 0, sizeof ops);
    ops.c = c;
    client_init(&ops.client, c, "operator");
    timer_init(&ops.timer, work);
    for (uint32_t i = 1; i <= c->founders; i++) ops.wanted |= 1u << i;
    if (c->faults >> FAULT_VOTERS & 1) again(700 * MS);
}

/* ---- the end ------------------------------------------------------------------------------------- */

const char *voters_waiting(struct cluster *c) {
    (void)c;
    return ops.asking ? "a change of voters is not answered" : NULL;
}

void voters_check_end(const struct image *im) {
    uint32_t now = 0;
    if (im->quorum_voter_count == 0) return; /* as it was founded */
    for (uint32_t i = 0; i < im->quorum_voter_count; i++) now |= 1u << im->quorum_voters[i];
    if ((now ^ ops.wanted) & ~ops.unsure)
        cluster_violated(ops.c, "12 the voters are %#x (bits of nodes); the answers to those who changed them say %#x, but for %#x", now, ops.wanted, ops.unsure);
}
