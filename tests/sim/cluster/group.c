/* group.c - programs that commit offsets for a group without members, and look whether what was committed stays. */
#include <stdlib.h>
#include "base/assert.h"
#include "proto/kafka_errors.h"
#include "tests/sim/cluster/cluster.h"

enum { GROUPS = 3 };
#define LATE_NS (20 * SECOND)            /* longer than any request waits in a link or a node that stands still */
struct committer {
    struct client client;
    struct cluster *c;
    char name[16];
    int32_t coordinator;                 /* 0: not known */
    int64_t tried, committed;            /* the highest */
    int64_t asked_at_least;              /* of the fetch under way: what was committed when it left */
    int64_t late, late_until_ns;         /* the lowest of commits that were lost: it may still be carried out late */
    bool asking, checked;                /* checked: after the faults ended */
    struct timer timer;
};
static struct committer all[GROUPS];

static uint64_t draw(struct committer *p, uint64_t n) { return prng_below(&p->c->work_prng, n); }
static void again(struct committer *p, int64_t most_ns) {
    timer_set(&p->c->timers, &p->timer, sim_now_ns(p->c->world) + 1 + (int64_t)draw(p, (uint64_t)most_ns));
}

static void judged(struct committer *p, int16_t error) {
    if (error == KERR_NONE) return;
    p->coordinator = 0;
    if (!kafka_error_retriable(error) && error != KERR_UNKNOWN_SERVER_ERROR) cluster_violated(p->c, "13 group %s gets error %d", p->name, error);
}

static void found(struct call *call, struct wire_reader *r) {
    struct committer *p = call->owner;
    int32_t node = client_coordinator(call, r);
    p->asking = false;
    if (node >= 0) p->coordinator = node;
}

static void find(struct committer *p) {
    p->asking = true;
    client_find_coordinator(&p->client, str_from(p->name), found, p);
}

static void committed(struct call *call, struct wire_reader *r) {
    struct committer *p = call->owner;
    struct k_offset_commit_response a;
    p->asking = false;
    bool known = r && k_offset_commit_response_decode(&a, r, call->version) == OK && a.topics_n == 1 && a.topics[0].partitions_n == 1;
    int16_t error = known ? a.topics[0].partitions[0].error_code : KERR_NETWORK_EXCEPTION;
    judged(p, error);
    if (error != KERR_NONE) {
        int64_t now = sim_now_ns(p->c->world);
        if (now >= p->late_until_ns || p->late > (int64_t)call->tag) p->late = (int64_t)call->tag;
        p->late_until_ns = now + LATE_NS;
        return;
    }
    covered(p->c)->commits++;
    cluster_trace(p->c, "group %s has committed %llu", p->name, (unsigned long long)call->tag);
    p->committed = (int64_t)call->tag;
}

static void commit(struct committer *p) {
    struct k_offset_commit_request q;
    k_offset_commit_request_init(&q);
    q.group_id = str_from(p->name);
    q.generation_id_or_member_epoch = -1;
    request_commit(&p->client, &q, 8, topic_name(0), 0, ++p->tried);
    p->asking = true;
    call_send(&p->client, p->coordinator, committed, p, (uint64_t)p->tried, 3 * SECOND);
}

static void looked(struct call *call, struct wire_reader *r) {
    struct committer *p = call->owner;
    int16_t error;
    int64_t offset;
    p->asking = false;
    if (!committed_told(call, r, &error, &offset)) {
        p->coordinator = 0;
        return;
    }
    if (offset != OFFSET_UNTOLD) {
        if (offset < p->asked_at_least || offset > p->tried)
            cluster_violated(p->c, "12 group %s has committed %lld (%lld tried) and finds %lld", p->name, (long long)p->asked_at_least, (long long)p->tried,
                             (long long)offset);
        covered(p->c)->commit_checks++;
        p->checked |= p->c->finishing;
    }
    judged(p, error);
}

static void look(struct committer *p) {
    struct k_offset_fetch_request_groups g;
    k_offset_fetch_request_groups_init(&g);
    g.group_id = str_from(p->name);
    request_committed(&p->client, &g, 8, topic_name(0), 0);
    p->asking = true;
    p->asked_at_least = sim_now_ns(p->c->world) < p->late_until_ns ? MIN(p->committed, p->late) : p->committed;
    call_send(&p->client, p->coordinator, looked, p, 0, 3 * SECOND);
}

static void work(struct timer *timer) {
    struct committer *p = CONTAINER_OF(timer, struct committer, timer);
    again(p, 100 * MS);
    if (p->asking) return;
    if (p->coordinator == 0) find(p);
    else if (p->c->finishing || (p->tried > 0 && draw(p, 3) == 0)) look(p);
    else commit(p);
}

void groups_start(struct cluster *c) {
    for (uint32_t i = 0; i < GROUPS; i++) {
        struct committer *p = &all[i];
        *p = (struct committer){.c = c, .committed = -1};
        client_init(&p->client, c, "group");
        snprintf(p->name, sizeof p->name, "group-%u", i);
        timer_init(&p->timer, work);
        again(p, SECOND);
    }
}

const char *groups_waiting(struct cluster *c) {
    (void)c;
    for (uint32_t i = 0; i < GROUPS; i++)
        if (all[i].committed >= 0 && !all[i].checked) return "a group's coordinator does not answer";
    return NULL;
}
