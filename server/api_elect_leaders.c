/* api_elect_leaders.c - ElectLeaders (KIP-460), answered by the controller: it knows who leads, and asks these to hand over.
 *
 * Whoever leads has all that is committed, so nothing is ever elected against its will: a preferred replica that is in sync gets the
 * leadership; an unclean election finds that there is a leader, or nobody who could be one. */
#include <stdlib.h>
#include "proto/kafka_messages.h"
#include "proto/reassign.pb-c.h"
#include "proto/unpack.h"
#include "server/api_partitions.h"
#include "server/peer.h"

enum { ELECTION_PREFERRED = 0, ELECTION_UNCLEAN = 1 };
#define ELECTION_TIMEOUT_NS 10000000000

typedef struct k_elect_leaders_response_replica_election_results elect_topic;
typedef struct k_elect_leaders_response_replica_election_results_partition_result elect_partition;

struct elect_state;
struct elect_one {
    elect_partition *out;
    struct elect_state *all;
    uint64_t group;
    uint32_t owner;
    int32_t preferred, leader;           /* leader: who is to hand over; -1: nobody */
    struct partition_handover ask;       /* when that is this broker */
};
struct elect_call {                      /* to one other broker */
    struct peer_call call;
    struct elect_state *all;
    struct elect_one **ones;             /* in the order of the request */
    uint32_t count;
    uint8_t *packed;
};
struct elect_state {
    struct request *rq;
    struct k_elect_leaders_request in;
    struct k_elect_leaders_response out;
    struct partition_questions questions;
    struct elect_one *ones;
    uint32_t count, cap;
    uint32_t waiting;                    /* handovers and calls under way */
};

static void set_error(elect_partition *p, int16_t error) {
    p->error_code = error;
    switch (error) {
    case KERR_NONE: p->error_message = STR_NULL; break;
    case KERR_ELECTION_NOT_NEEDED: p->error_message = STR_LIT("Leader election not needed for topic partition."); break;
    case KERR_PREFERRED_LEADER_NOT_AVAILABLE: p->error_message = STR_LIT("The preferred leader was not available."); break;
    case KERR_ELIGIBLE_LEADERS_NOT_AVAILABLE: p->error_message = STR_LIT("Eligible topic partition leaders are not available."); break;
    default: p->error_message = STR_LIT("The leader did not hand over in time.");
    }
}

/* What is known of the leader decides, or says who is to be asked. */
static void take_leader(void *target, const struct partition_fact *fact) {
    struct elect_one *one = target;
    const struct leader_info *info = &fact->leader;
    bool preferred = one->all->in.election_type == ELECTION_PREFERRED;
    bool led = info->epoch >= 0 && info->leader >= 0 && peer_is_up(one->all->rq->reactor, info->leader); /* one that died is remembered */
    if (led && (!preferred || info->leader == one->preferred)) {
        set_error(one->out, KERR_ELECTION_NOT_NEEDED);
    } else if (preferred && led && leader_in_sync(info, one->preferred)) {
        one->leader = info->leader;
    } else {
        set_error(one->out, preferred ? KERR_PREFERRED_LEADER_NOT_AVAILABLE : KERR_ELIGIBLE_LEADERS_NOT_AVAILABLE);
    }
}

/* The list of them grows while questions are not sent yet. */
static bool elect_one(struct elect_state *s, elect_partition *out, const struct image_partition *p, int32_t index) {
    if (s->count == s->cap) {
        uint32_t cap = s->cap ? s->cap * 2 : 16;
        struct elect_one *grown = request_alloc(s->rq, cap, sizeof *grown);
        if (!grown) return false;
        if (s->count > 0) memcpy(grown, s->ones, s->count * sizeof *grown);
        s->ones = grown;
        s->cap = cap;
    }
    *out = (elect_partition){.partition_id = index};
    s->ones[s->count++] = (struct elect_one){.out = out, .all = s, .group = p->plid, .owner = p->owner, .preferred = p->replicas[0], .leader = -1};
    return true;
}

static bool ask_all(struct elect_state *s) {
    for (uint32_t i = 0; i < s->count; i++)
        if (!partition_questions_add(&s->questions, s->ones[i].owner, s->ones[i].group, &s->ones[i])) return false;
    return true;
}

static bool elect_asked(struct elect_state *s) {
    int32_t n = s->in.topic_partitions_n;
    s->out.replica_election_results = request_alloc(s->rq, (size_t)n, sizeof *s->out.replica_election_results);
    if (!s->out.replica_election_results) return false;
    s->out.replica_election_results_n = n;
    for (int32_t i = 0; i < n; i++) {
        const struct k_elect_leaders_request_topic_partitions *asked = &s->in.topic_partitions[i];
        elect_topic *out = &s->out.replica_election_results[i];
        const struct image_topic *t = image_topic_by_name(request_image(s->rq), asked->topic);
        k_elect_leaders_response_replica_election_results_init(out);
        out->topic = asked->topic;
        int32_t count = MAX(asked->partitions_n, 0);
        out->partition_result = request_alloc(s->rq, (size_t)count, sizeof *out->partition_result);
        if (!out->partition_result) return false;
        out->partition_result_n = count;
        for (int32_t k = 0; k < count; k++) {
            const struct image_partition *p = t ? image_partition(t, asked->partitions[k]) : NULL;
            elect_partition *r = &out->partition_result[k];
            if (p) {
                if (!elect_one(s, r, p, asked->partitions[k])) return false;
                continue;
            }
            *r = (elect_partition){asked->partitions[k], KERR_UNKNOWN_TOPIC_OR_PARTITION, t ? STR_LIT("No such partition")
                                                                                            : STR_LIT("No such topic")};
        }
    }
    return true;
}

static bool elect_all(struct elect_state *s) {
    const struct image *im = request_image(s->rq);
    s->out.replica_election_results = request_alloc(s->rq, im->topic_count, sizeof *s->out.replica_election_results);
    if (!s->out.replica_election_results) return false;
    for (uint32_t i = 0; i < im->topic_count; i++) {
        const struct image_topic *t = im->by_name[i];
        elect_topic *out = &s->out.replica_election_results[s->out.replica_election_results_n++];
        k_elect_leaders_response_replica_election_results_init(out);
        out->topic = request_copy(s->rq, (struct str){t->name, t->name_len});
        out->partition_result = request_alloc(s->rq, (size_t)t->partition_count, sizeof *out->partition_result);
        if (!out->partition_result) return false;
        out->partition_result_n = t->partition_count;
        for (int32_t k = 0; k < t->partition_count; k++)
            if (!elect_one(s, &out->partition_result[k], &t->partitions[k], k)) return false;
    }
    return true;
}

/* "When electing leaders for all partitions, we do not return partitions which already have the desired leader." */
static void drop_not_needed(struct elect_state *s) {
    int32_t topics = 0;
    for (int32_t i = 0; i < s->out.replica_election_results_n; i++) {
        elect_topic *t = &s->out.replica_election_results[i];
        int32_t kept = 0;
        for (int32_t k = 0; k < t->partition_result_n; k++)
            if (t->partition_result[k].error_code != KERR_ELECTION_NOT_NEEDED) t->partition_result[kept++] = t->partition_result[k];
        t->partition_result_n = kept;
        if (kept > 0) s->out.replica_election_results[topics++] = *t;
    }
    s->out.replica_election_results_n = topics;
}

static void finish(struct elect_state *s) {
    if (s->in.topic_partitions_n < 0) drop_not_needed(s);
    struct wire_writer *w = request_reply_begin(s->rq);
    k_elect_leaders_response_encode(&s->out, w, request_version(s->rq));
    request_reply(s->rq);
}

static void one_is_done(struct elect_state *s) {
    if (--s->waiting == 0) finish(s);
}

/* The leader's answer, as Kafka says it. */
static void take_answer(struct elect_one *one, int16_t error) {
    if (error == KERR_ELIGIBLE_LEADERS_NOT_AVAILABLE) error = KERR_PREFERRED_LEADER_NOT_AVAILABLE;
    set_error(one->out, error);
}

static void handed_over(struct partition_op *op) {
    struct elect_one *one = CONTAINER_OF(op, struct elect_one, ask.op);
    take_answer(one, op->error);
    one_is_done(one->all);
}

static void called(struct peer_call *base) {
    struct elect_call *c = base->owner;
    struct arena a;
    arena_init(&a, 0);
    const Varve__Reassign__HandOverAnswer *m =
        base->err ? NULL : unpack(&a, &varve__reassign__hand_over_answer__descriptor, base->answer, UNPACK_BYTES + c->count * UNPACK_ELEMENT_BYTES);
    bool whole = m && m->n_errors == c->count;
    for (uint32_t i = 0; i < c->count; i++)
        take_answer(c->ones[i], whole ? (int16_t)m->errors[i] : base->err == ERR_TIMEOUT ? KERR_REQUEST_TIMED_OUT : KERR_PREFERRED_LEADER_NOT_AVAILABLE);
    arena_free(&a);
    free(c->packed);
    one_is_done(c->all);
}

/* False: memory. */
static bool pack(struct elect_call *c, size_t *len) {
    Varve__Reassign__HandOver m = VARVE__REASSIGN__HAND_OVER__INIT;
    Varve__Reassign__HandOver__Partition *list = malloc(c->count * sizeof *list), **p = malloc(c->count * sizeof *p);
    for (uint32_t i = 0; list && p && i < c->count; i++) {
        p[i] = &list[i];
        varve__reassign__hand_over__partition__init(p[i]);
        list[i].group = c->ones[i]->group;
        list[i].node = c->ones[i]->preferred;
    }
    m.partitions = p;
    m.n_partitions = c->count;
    if (list && p) {
        *len = varve__reassign__hand_over__get_packed_size(&m);
        c->packed = malloc(*len);
        if (c->packed) varve__reassign__hand_over__pack(&m, c->packed);
    }
    free(list);
    free(p);
    return c->packed != NULL;
}

/* All that `node` leads, in one call. False: closing. */
static bool call_leader(struct elect_state *s, int32_t node) {
    struct elect_call *c = request_alloc(s->rq, 1, sizeof *c);
    if (!c) return false;
    c->all = s;
    c->ones = request_alloc(s->rq, s->count, sizeof *c->ones);
    if (!c->ones) return false;
    for (uint32_t i = 0; i < s->count; i++) {
        if (s->ones[i].leader != node) continue;
        s->ones[i].leader = -1; /* asked */
        c->ones[c->count++] = &s->ones[i];
    }
    size_t len = 0;
    if (!pack(c, &len)) {
        for (uint32_t i = 0; i < c->count; i++) set_error(c->ones[i]->out, KERR_PREFERRED_LEADER_NOT_AVAILABLE);
        return true;
    }
    c->call = (struct peer_call){
        .caller = s->rq->reactor, .node = node, .kind = PEER_CALL_HAND_OVER, .request = {c->packed, (int32_t)len},
        .timeout_ns = MIN(MAX(s->in.timeout_ms, 1) * INT64_C(1000000), ELECTION_TIMEOUT_NS), .done = called, .owner = c,
    };
    s->waiting++;
    peer_call(&c->call);
    return true;
}

static void leaders_known(struct partition_questions *q) {
    struct elect_state *s = CONTAINER_OF(q, struct elect_state, questions);
    struct broker *b = request_broker(s->rq);
    s->waiting = 1;
    for (uint32_t i = 0; i < s->count; i++) {
        struct elect_one *one = &s->ones[i];
        if (one->leader < 0 || one->leader == b->config.node_id) continue;
        if (!call_leader(s, one->leader)) return;
    }
    for (uint32_t i = 0; i < s->count; i++) {
        struct elect_one *one = &s->ones[i];
        if (one->leader != b->config.node_id) continue;
        one->ask = (struct partition_handover){
            .op = {.caller = s->rq->reactor, .owner = &b->reactors[one->owner], .plid = one->group, .done = handed_over}, .node = one->preferred,
        };
        s->waiting++;
        partition_handover(&one->ask);
    }
    one_is_done(s);
}

void api_elect_leaders(struct request *rq) {
    struct elect_state *s = request_alloc(rq, 1, sizeof *s);
    if (!s) return;
    s->rq = rq;
    if (!request_decoded(rq, k_elect_leaders_request_decode(&s->in, &rq->body, request_version(rq)))) return;
    k_elect_leaders_response_init(&s->out);
    s->questions = (struct partition_questions){.answer = take_leader, .done = leaders_known};
    if (!partition_questions_init(&s->questions, rq)) return;
    if (s->in.election_type != ELECTION_PREFERRED && s->in.election_type != ELECTION_UNCLEAN) s->out.error_code = KERR_INVALID_REQUEST;
    else if (s->in.topic_partitions_n < 0 ? !elect_all(s) : !elect_asked(s)) return;
    if (!ask_all(s)) return;
    partition_questions_send(&s->questions);
}
