/* reassign_calls.c - what other brokers ask about reassignments and elections (proto/reassign.proto). Reactor 0's thread. */
#include <stdlib.h>
#include "proto/reassign.pb-c.h"
#include "proto/unpack.h"
#include "server/partition.h"
#include "server/peer.h"
#include "server/reassign.h"

/* ---- the call of a leader on another broker -------------------------------------------------------------------------- */

struct serving {
    struct controller_change change;
    struct peer_answer *answer;
    uint32_t count;
    struct reassign_at_target list[];
};

static void serving_make(struct controller_change *ch, struct controller_edit *e) {
    struct serving *s = ch->owner;
    reassign_complete(e, s->list, s->count);
}
/* What did not come to pass is said again by the leader, with its next heartbeat. */
static void serving_done(struct controller_change *ch) {
    struct serving *s = ch->owner;
    peer_answer_send(s->answer, BYTES_NULL);
    free(s);
}

/* One partition twice in a change would be two records where the second contradicts the first. */
static bool is_twice(const struct serving *s, const struct reassign_at_target *t) {
    for (uint32_t i = 0; i < s->count; i++)
        if (s->list[i].partition == t->partition && uuid_eq(&s->list[i].topic, &t->topic)) return true;
    return false;
}

static void serve_reassigned(struct broker *b, struct peer_answer *a, struct bytes request) {
    enum { PARTITIONS_MAX = 1024 };
    struct arena arena;
    const Varve__Reassign__AtTarget *m = unpack(&arena, &varve__reassign__at_target__descriptor, request, UNPACK_BYTES + PARTITIONS_MAX * UNPACK_ELEMENT_BYTES);
    size_t n = m ? MIN(m->n_partitions, (size_t)PARTITIONS_MAX) : 0;
    struct serving *s = n > 0 ? calloc(1, sizeof *s + n * sizeof s->list[0]) : NULL;
    for (size_t i = 0; s && i < n; i++) {
        const Varve__Reassign__AtTarget__Partition *p = m->partitions[i];
        struct reassign_at_target t = {.partition = p->partition, .replicas_offset = p->replicas_offset};
        if (p->topic_id.len != sizeof t.topic.b) continue;
        memcpy(t.topic.b, p->topic_id.data, sizeof t.topic.b);
        if (!is_twice(s, &t)) s->list[s->count++] = t;
    }
    arena_free(&arena);
    if (!s) {
        peer_answer_send(a, BYTES_NULL);
        return;
    }
    s->answer = a;
    s->change = (struct controller_change){.caller = &b->reactors[0], .make = serving_make, .done = serving_done, .owner = s};
    controller_submit(b->controller, &s->change);
}

/* ---- the call to a leader, to hand over --------------------------------------------------------------------------------- */

struct handing;
struct handing_one { struct partition_handover ask; struct handing *all; };
struct handing {
    struct peer_answer *answer;
    uint32_t waiting, count;
    struct handing_one list[];
};

static void handing_end(struct handing *h) {
    Varve__Reassign__HandOverAnswer m = VARVE__REASSIGN__HAND_OVER_ANSWER__INIT;
    int32_t *errors = malloc(MAX(h->count, 1u) * sizeof *errors);
    m.n_errors = errors ? h->count : 0;
    m.errors = errors;
    for (uint32_t i = 0; errors && i < h->count; i++) errors[i] = h->list[i].ask.op.error;
    size_t len = varve__reassign__hand_over_answer__get_packed_size(&m);
    uint8_t *packed = malloc(MAX(len, (size_t)1));
    if (packed) varve__reassign__hand_over_answer__pack(&m, packed);
    peer_answer_send(h->answer, packed ? (struct bytes){packed, (int32_t)len} : BYTES_NULL); /* no answer for one: it counts as not done */
    free(packed);
    free(errors);
    free(h);
}

static void handed_over(struct partition_op *op) {
    struct handing *h = CONTAINER_OF(op, struct handing_one, ask.op)->all;
    if (--h->waiting == 0) handing_end(h);
}

static void serve_hand_over(struct broker *b, struct peer_answer *a, struct bytes request) {
    enum { PARTITIONS_MAX = 10000 };
    struct arena arena;
    const Varve__Reassign__HandOver *m = unpack(&arena, &varve__reassign__hand_over__descriptor, request, UNPACK_BYTES + PARTITIONS_MAX * UNPACK_ELEMENT_BYTES);
    size_t n = m ? m->n_partitions : 0;
    struct handing *h = n <= PARTITIONS_MAX ? calloc(1, sizeof *h + n * sizeof h->list[0]) : NULL;
    if (!h || n == 0) {
        arena_free(&arena);
        free(h);
        peer_answer_send(a, BYTES_NULL);
        return;
    }
    *h = (struct handing){.answer = a, .count = (uint32_t)n, .waiting = (uint32_t)n};
    for (size_t i = 0; i < n; i++) {
        const Varve__Reassign__HandOver__Partition *p = m->partitions[i];
        uint32_t owner = log_store_shard_of(b->store, p->group);
        h->list[i] = (struct handing_one){
            .ask = {.op = {.caller = &b->reactors[0], .owner = &b->reactors[owner], .plid = p->group, .done = handed_over}, .node = p->node}, .all = h,
        };
    }
    arena_free(&arena);
    for (size_t i = 0; i < n; i++) partition_handover(&h->list[i].ask);
}

void reassign_open(struct broker *b) {
    peer_serve(b, PEER_CALL_REASSIGNED, serve_reassigned);
    peer_serve(b, PEER_CALL_HAND_OVER, serve_hand_over);
}
