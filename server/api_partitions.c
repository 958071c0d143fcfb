#include "server/api_partitions.h"

struct partition_question {              /* what one reactor is asked */
    struct partition_facts ask;
    struct partition_questions *all;
    uint64_t *plids;
    void **targets;                      /* beside the plids */
    uint32_t count, cap;
};

bool partition_questions_init(struct partition_questions *q, struct request *rq) {
    q->rq = rq;
    q->waiting = 0;
    q->of = request_alloc(rq, request_broker(rq)->reactor_count, sizeof *q->of);
    return q->of != NULL;
}

static bool question_grow(struct request *rq, struct partition_question *one) {
    uint32_t cap = one->cap ? one->cap * 2 : 16;
    uint64_t *plids = request_alloc(rq, cap, sizeof *plids);
    if (!plids) return false;
    void **targets = request_alloc(rq, cap, sizeof *targets);
    if (!targets) return false;
    if (one->count > 0) {
        memcpy(plids, one->plids, one->count * sizeof *plids);
        memcpy(targets, one->targets, one->count * sizeof *targets);
    }
    one->plids = plids;
    one->targets = targets;
    one->cap = cap;
    return true;
}

bool partition_questions_add(struct partition_questions *q, uint32_t owner, uint64_t plid, void *target) {
    struct partition_question *one = &q->of[owner];
    if (one->count == one->cap && !question_grow(q->rq, one)) return false;
    one->plids[one->count] = plid;
    one->targets[one->count++] = target;
    return true;
}

static void answered(struct partition_op *base) {
    struct partition_question *one = CONTAINER_OF(base, struct partition_question, ask.op);
    struct partition_questions *q = one->all;
    for (uint32_t i = 0; i < one->count; i++) q->answer(one->targets[i], &one->ask.facts[i]);
    if (--q->waiting == 0) q->done(q);
}

void partition_questions_send(struct partition_questions *q) {
    struct broker *b = request_broker(q->rq);
    for (uint32_t i = 0; i < b->reactor_count; i++) {
        struct partition_question *one = &q->of[i];
        if (one->count == 0) continue;
        one->all = q;
        struct partition_fact *facts = one->ask.facts; /* when they are sent again */
        if (!facts) facts = request_alloc(q->rq, one->count, sizeof *facts);
        if (!facts) return;
        one->ask = (struct partition_facts){
            .op = {.caller = q->rq->reactor, .owner = &b->reactors[i], .done = answered}, .count = one->count, .plids = one->plids,
            .facts = facts,
        };
        q->waiting++;
    }
    if (q->waiting == 0) {
        q->done(q);
        return;
    }
    for (uint32_t i = 0; i < b->reactor_count; i++)
        if (q->of[i].count > 0) partition_facts(&q->of[i].ask);
}
