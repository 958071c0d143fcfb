/* members.c - programs that are members of one consumer group (the classic protocol): they join, share the partitions of a topic out among
 * themselves, say that they live, commit what they own, leave, and find their coordinator again when it moves.
 *
 * What must hold: in one generation a partition has one owner; what was acknowledged as committed is found by whoever owns the partition
 * next; once a later generation has its shares, commits of an earlier one are refused. A coordinator that moves keeps members and generation:
 * they ride through it. */
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "proto/kafka_errors.h"
#include "tests/sim/cluster/cluster.h"

enum { MEMBERS = 3, TOPIC = 1, GENERATIONS = 4096, ID_BYTES = 128 };
#define LATE_NS (20 * SECOND)            /* longer than any request waits in a link or a node that stands still */
enum stage { OUTSIDE, JOINED, STABLE };
struct member {
    struct client client;
    struct cluster *c;
    uint32_t index;
    int32_t coordinator;                 /* 0: not known */
    bool moved;                          /* it was asked anew who that is, in this generation */
    enum stage stage;
    char id[ID_BYTES];                   /* "": none yet */
    int32_t generation;
    uint32_t share, fetched;             /* bits of partitions: owned; of those, whose committed offset is known */
    int64_t position[PARTITIONS_MAX];
    uint8_t shares[MEMBERS];             /* the leader's plan */
    char ids[MEMBERS][ID_BYTES];
    uint32_t id_count;                   /* 0: another one leads */
    uint32_t partition;                  /* of the commit or fetch that is on its way */
    int64_t at_least;
    int32_t newest;                      /* the newest generation that had shares when the commit left */
    bool asking;
    uint32_t checked;                    /* bits of partitions, after the faults */
    struct timer timer;
};
static struct member all[MEMBERS];
static struct { int8_t owner[PARTITIONS_MAX]; } generations[GENERATIONS]; /* index of the owner and 1 */
static struct { int64_t tried, acked, late, late_until_ns; } commits[PARTITIONS_MAX];
static int32_t newest_generation;        /* that has shares */
static const struct str group_name = {"team", 4}, protocol_type = {"shares", 6}, protocol_name = {"one", 3};

static uint64_t draw(struct member *p, uint64_t n) { return prng_below(&p->c->work_prng, n); }
static void again(struct member *p, int64_t most_ns) {
    timer_set(&p->c->timers, &p->timer, sim_now_ns(p->c->world) + 1 + (int64_t)draw(p, (uint64_t)most_ns));
}

/* What an answer's error means for a member. */
static void judged(struct member *p, int16_t error) {
    if (error != KERR_NONE) cluster_trace(p->c, "member %u gets error %d", p->index, error);
    switch (error) {
    case KERR_NONE: return;
    case KERR_UNKNOWN_MEMBER_ID: p->id[0] = 0; p->stage = OUTSIDE; return;
    case KERR_ILLEGAL_GENERATION:
    case KERR_REBALANCE_IN_PROGRESS: p->stage = OUTSIDE; return;
    default:
        p->coordinator = 0;
        if (!kafka_error_retriable(error) && error != KERR_UNKNOWN_SERVER_ERROR) cluster_violated(p->c, "13 member %u of group team gets error %d", p->index, error);
    }
}
/* No answer: the connection, or the broker, is gone. */
static void lost(struct member *p) { p->coordinator = 0; }

static void found(struct call *call, struct wire_reader *r) {
    struct member *p = call->owner;
    int32_t node = client_coordinator(call, r);
    p->asking = false;
    if (node < 0) return;
    p->coordinator = node;
    p->moved = true;
}

static void find(struct member *p) {
    p->asking = true;
    client_find_coordinator(&p->client, group_name, found, p);
}

/* ---- joining ------------------------------------------------------------------------------------- */

static bool keep_id(char *to, struct str id) {
    if (id.len < 0 || id.len >= ID_BYTES) return false;
    memcpy(to, id.p, (size_t)id.len);
    to[id.len] = 0;
    return true;
}

static void plan(struct member *p, const struct k_join_group_response *a) {
    uint32_t n = (uint32_t)a->members_n, partitions = topic_partitions(p->c, TOPIC);
    if (n > MEMBERS * 2) cluster_violated(p->c, "13 group team has %u members", n);
    p->id_count = MIN(n, (uint32_t)MEMBERS); /* more: of those that are gone and have not been missed yet */
    for (uint32_t i = 0; i < p->id_count; i++) {
        p->shares[i] = 0;
        (void)keep_id(p->ids[i], a->members[i].member_id);
    }
    for (uint32_t k = 0; k < partitions; k++) p->shares[(k + (uint32_t)p->generation) % p->id_count] |= (uint8_t)(1u << k);
}

/* A group that is empty and never committed anything goes, and the next one of that name begins with generation 1. */
static void begins_anew(int32_t generation) {
    for (uint32_t k = 0; k < PARTITIONS_MAX; k++)
        if (commits[k].acked >= 0) return;
    for (int32_t g = MAX(generation, 0); g < GENERATIONS && g <= newest_generation; g++) memset(&generations[g], 0, sizeof generations[g]);
    if (generation <= newest_generation) newest_generation = generation - 1;
}

static void joined(struct call *call, struct wire_reader *r) {
    struct member *p = call->owner;
    struct k_join_group_response a;
    p->asking = false;
    if (!r || k_join_group_response_decode(&a, r, call->version) != OK) {
        lost(p);
        return;
    }
    if (a.error_code == KERR_MEMBER_ID_REQUIRED) {
        if (!keep_id(p->id, a.member_id)) cluster_violated(p->c, "13 a member's id has %d bytes", a.member_id.len);
        return;
    }
    judged(p, a.error_code);
    if (a.error_code != KERR_NONE) return;
    (void)keep_id(p->id, a.member_id);
    p->generation = a.generation_id;
    p->id_count = 0;
    if (str_eq(a.leader, a.member_id) && a.members_n > 0) {
        begins_anew(p->generation);
        plan(p, &a);
    }
    p->stage = JOINED;
    p->moved = false;
    covered(p->c)->joins++;
    cluster_trace(p->c, "member %u is in generation %d of group team%s", p->index, p->generation, p->id_count ? ", which it leads" : "");
    again(p, MS);
}

static void join(struct member *p) {
    struct k_join_group_request q;
    struct k_join_group_request_protocols x = {.name = protocol_name, .metadata = {(const uint8_t *)"-", 1}};
    k_join_group_request_init(&q);
    q.group_id = group_name;
    q.session_timeout_ms = 1500;
    q.rebalance_timeout_ms = 1500;
    q.member_id = str_from(p->id);
    q.protocol_type = protocol_type;
    q.protocols = &x;
    q.protocols_n = 1;
    k_join_group_request_encode(&q, call_begin(&p->client, API_JOIN_GROUP, 7), 7);
    p->asking = true;
    p->share = p->fetched = 0;
    call_send(&p->client, p->coordinator, joined, p, 0, 4 * SECOND);
}

/* Each partition of a generation has one owner, whoever tells. */
static void check_share(struct member *p) {
    if (p->generation <= 0 || p->generation >= GENERATIONS) {
        cluster_violated(p->c, "13 group team is in generation %d", p->generation);
        return;
    }
    for (uint32_t k = 0; k < topic_partitions(p->c, TOPIC); k++) {
        int8_t *owner = &generations[p->generation].owner[k];
        if (!(p->share >> k & 1)) continue;
        if (*owner != 0 && *owner != (int8_t)(p->index + 1))
            cluster_violated(p->c, "13 in generation %d members %d and %u of group team both own %s-%u", p->generation, *owner - 1, p->index, topic_name(TOPIC), k);
        *owner = (int8_t)(p->index + 1);
    }
    if (p->generation > newest_generation) newest_generation = p->generation;
}

static void synced(struct call *call, struct wire_reader *r) {
    struct member *p = call->owner;
    struct k_sync_group_response a;
    p->asking = false;
    if (!r || k_sync_group_response_decode(&a, r, call->version) != OK) {
        lost(p);
        return;
    }
    judged(p, a.error_code);
    if (a.error_code != KERR_NONE) return;
    p->share = a.assignment.len == 1 ? a.assignment.p[0] : 0;
    p->stage = STABLE;
    check_share(p);
    covered(p->c)->generations++;
    cluster_trace(p->c, "member %u owns %#x in generation %d", p->index, p->share, p->generation);
}

static void sync_group(struct member *p) {
    struct k_sync_group_request q;
    struct k_sync_group_request_assignments x[MEMBERS];
    k_sync_group_request_init(&q);
    q.group_id = group_name;
    q.generation_id = p->generation;
    q.member_id = str_from(p->id);
    q.protocol_type = protocol_type;
    q.protocol_name = protocol_name;
    for (uint32_t i = 0; i < p->id_count; i++) x[i] = (struct k_sync_group_request_assignments){str_from(p->ids[i]), {&p->shares[i], 1}};
    q.assignments = x;
    q.assignments_n = (int32_t)p->id_count;
    k_sync_group_request_encode(&q, call_begin(&p->client, API_SYNC_GROUP, 5), 5);
    p->asking = true;
    call_send(&p->client, p->coordinator, synced, p, 0, 4 * SECOND);
}

/* ---- living ---------------------------------------------------------------------------------------- */

static void lives(struct call *call, struct wire_reader *r) {
    struct member *p = call->owner;
    struct k_heartbeat_response a;
    p->asking = false;
    if (!r || k_heartbeat_response_decode(&a, r, call->version) != OK) {
        lost(p);
        return;
    }
    judged(p, a.error_code);
    if (a.error_code != KERR_NONE) return;
    covered(p->c)->rode_through += p->moved;
    p->moved = false;
}

static void live(struct member *p) {
    struct k_heartbeat_request q;
    k_heartbeat_request_init(&q);
    q.group_id = group_name;
    q.generation_id = p->generation;
    q.member_id = str_from(p->id);
    k_heartbeat_request_encode(&q, call_begin(&p->client, API_HEARTBEAT, 4), 4);
    p->asking = true;
    call_send(&p->client, p->coordinator, lives, p, 0, SECOND);
}

static void left(struct call *call, struct wire_reader *r) {
    struct member *p = call->owner;
    p->asking = false;
    p->stage = OUTSIDE;
    p->id[0] = 0;
    covered(p->c)->leaves++;
    cluster_trace(p->c, "member %u has left%s", p->index, r ? "" : ", perhaps");
    again(p, SECOND);
}

static void leave(struct member *p) {
    struct k_leave_group_request q;
    struct k_leave_group_request_members x;
    k_leave_group_request_init(&q);
    k_leave_group_request_members_init(&x);
    x.member_id = str_from(p->id);
    q.group_id = group_name;
    q.members = &x;
    q.members_n = 1;
    k_leave_group_request_encode(&q, call_begin(&p->client, API_LEAVE_GROUP, 4), 4);
    p->asking = true;
    call_send(&p->client, p->coordinator, left, p, 0, SECOND);
}

/* ---- committing ------------------------------------------------------------------------------------- */

static void committed(struct call *call, struct wire_reader *r) {
    struct member *p = call->owner;
    struct k_offset_commit_response a;
    int64_t value = (int64_t)call->tag, now = sim_now_ns(p->c->world);
    p->asking = false;
    bool known = r && k_offset_commit_response_decode(&a, r, call->version) == OK && a.topics_n == 1 && a.topics[0].partitions_n == 1;
    int16_t error = known ? a.topics[0].partitions[0].error_code : KERR_NETWORK_EXCEPTION;
    uint32_t k = p->partition;
    judged(p, error);
    if (error == KERR_ILLEGAL_GENERATION || error == KERR_UNKNOWN_MEMBER_ID) return; /* not carried out */
    if (error != KERR_NONE) {
        if (now >= commits[k].late_until_ns || commits[k].late > value) commits[k].late = value;
        commits[k].late_until_ns = now + LATE_NS;
        p->fetched &= ~(1u << k);        /* what became of it is asked first */
        return;
    }
    if (p->newest > p->generation)
        cluster_violated(p->c, "12 a commit of generation %d is taken when generation %d of group team has its shares", p->generation, p->newest);
    covered(p->c)->member_commits++;
    cluster_trace(p->c, "member %u has committed %lld for %s-%u in generation %d", p->index, (long long)value, topic_name(TOPIC), k, p->generation);
    if (value > commits[k].acked) commits[k].acked = value;
    p->position[k] = value;
}

static void commit(struct member *p, uint32_t k) {
    struct k_offset_commit_request q;
    int64_t offset = p->position[k] + 1;
    k_offset_commit_request_init(&q);
    q.group_id = group_name;
    q.generation_id_or_member_epoch = p->generation;
    q.member_id = str_from(p->id);
    if (offset > commits[k].tried) commits[k].tried = offset;
    request_commit(&p->client, &q, 8, topic_name(TOPIC), (int32_t)k, offset);
    p->asking = true;
    p->partition = k;
    p->newest = newest_generation;
    call_send(&p->client, p->coordinator, committed, p, (uint64_t)offset, 3 * SECOND);
}

static void looked(struct call *call, struct wire_reader *r) {
    struct member *p = call->owner;
    int16_t error;
    int64_t offset;
    p->asking = false;
    if (!committed_told(call, r, &error, &offset)) {
        lost(p);
        return;
    }
    uint32_t k = p->partition;
    if (offset != OFFSET_UNTOLD) {
        if (offset < p->at_least || offset > commits[k].tried)
            cluster_violated(p->c, "12 group team has committed %lld for %s-%u (%lld tried) and member %u finds %lld", (long long)p->at_least, topic_name(TOPIC), k,
                             (long long)commits[k].tried, p->index, (long long)offset);
        p->position[k] = offset;
        p->fetched |= 1u << k;
        p->checked |= p->c->finishing ? 1u << k : 0;
        covered(p->c)->commit_checks++;
    }
    judged(p, error);
}

static void look(struct member *p, uint32_t k) {
    struct k_offset_fetch_request_groups g;
    k_offset_fetch_request_groups_init(&g);
    g.group_id = group_name;
    request_committed(&p->client, &g, 8, topic_name(TOPIC), (int32_t)k);
    p->asking = true;
    p->partition = k;
    bool late = sim_now_ns(p->c->world) < commits[k].late_until_ns;
    p->at_least = late ? MIN(commits[k].acked, commits[k].late) : commits[k].acked;
    call_send(&p->client, p->coordinator, looked, p, 0, 3 * SECOND);
}

/* ---- what to do next ---------------------------------------------------------------------------------- */

static void owner_works(struct member *p) {
    uint32_t k = (uint32_t)draw(p, topic_partitions(p->c, TOPIC));
    if (draw(p, 300) == 0) leave(p);
    else if (!(p->share >> k & 1) || draw(p, 4) == 0) live(p);
    else if (!(p->fetched >> k & 1)) look(p, k);
    else commit(p, k);
}

static void work(struct timer *timer) {
    struct member *p = CONTAINER_OF(timer, struct member, timer);
    again(p, 60 * MS);
    if (p->asking) return;
    if (p->coordinator == 0) {
        find(p);
    } else if (p->c->finishing) {
        uint32_t k = 0;
        while (p->checked >> k & 1) k++;
        if (k < topic_partitions(p->c, TOPIC)) look(p, k);
    } else if (p->stage == OUTSIDE) {
        join(p);
    } else if (p->stage == JOINED) {
        sync_group(p);
    } else {
        owner_works(p);
    }
}

void members_start(struct cluster *c) {
    memset(generations, 0, sizeof generations);
    newest_generation = 0;
    memset(commits, 0, sizeof commits);
    for (uint32_t k = 0; k < PARTITIONS_MAX; k++) commits[k].acked = commits[k].tried = -1;
    for (uint32_t i = 0; i < MEMBERS; i++) {
        struct member *p = &all[i];
        *p = (struct member){.c = c, .index = i};
        client_init(&p->client, c, "member");
        timer_init(&p->timer, work);
        again(p, SECOND);
    }
}

const char *members_waiting(struct cluster *c) {
    for (uint32_t k = 0; k < topic_partitions(c, TOPIC); k++)
        for (uint32_t i = 0; i < MEMBERS; i++)
            if (commits[k].acked >= 0 && !(all[i].checked >> k & 1)) return "the coordinator of a group with members does not answer";
    return NULL;
}
