/* api_replicas.c - ElectLeaders (KIP-460), AlterPartitionReassignments and ListPartitionReassignments (KIP-455).
 *
 * With one broker every partition has its one replica here, which leads it: there is nothing to elect or to
 * move, and what is asked for is checked and answered as by a Kafka cluster of one. */
#include "proto/kafka_messages.h"
#include "server/api_partitions.h"

/* ---- ElectLeaders -------------------------------------------------------------------------------------- */

enum { ELECTION_PREFERRED = 0, ELECTION_UNCLEAN = 1 };

typedef struct k_elect_leaders_response_replica_election_results elect_topic;
typedef struct k_elect_leaders_response_replica_election_results_partition_result elect_partition;

struct elect_state {
    struct request *rq;
    struct k_elect_leaders_request in;
    struct k_elect_leaders_response out;
    struct partition_questions questions;
};

/* Led already, or its log is not here and nobody can lead it. */
static void take_leader(void *target, const struct partition_fact *fact) {
    elect_partition *p = target;
    if (fact->leader.epoch >= 0) {
        p->error_code = KERR_ELECTION_NOT_NEEDED;
        p->error_message = STR_LIT("Leader election not needed for topic partition.");
    }
}

static bool elect_one(struct elect_state *s, elect_partition *out, const struct image_partition *p, int32_t index) {
    bool preferred = s->in.election_type == ELECTION_PREFERRED;
    *out = (elect_partition){
        index, preferred ? KERR_PREFERRED_LEADER_NOT_AVAILABLE : KERR_ELIGIBLE_LEADERS_NOT_AVAILABLE,
        STR_LIT("The log of the partition is not available."),
    };
    return partition_questions_add(&s->questions, p->owner, p->plid, out);
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

static void elect_finish(struct partition_questions *q) {
    struct elect_state *s = CONTAINER_OF(q, struct elect_state, questions);
    if (s->in.topic_partitions_n < 0) drop_not_needed(s);
    struct wire_writer *w = request_reply_begin(s->rq);
    k_elect_leaders_response_encode(&s->out, w, request_version(s->rq));
    request_reply(s->rq);
}

void api_elect_leaders(struct request *rq) {
    struct elect_state *s = request_alloc(rq, 1, sizeof *s);
    if (!s) return;
    s->rq = rq;
    if (!request_decoded(rq, k_elect_leaders_request_decode(&s->in, &rq->body, request_version(rq)))) return;
    k_elect_leaders_response_init(&s->out);
    s->questions = (struct partition_questions){.answer = take_leader, .done = elect_finish};
    if (!partition_questions_init(&s->questions, rq)) return;
    if (s->in.election_type != ELECTION_PREFERRED && s->in.election_type != ELECTION_UNCLEAN) s->out.error_code = KERR_INVALID_REQUEST;
    else if (s->in.topic_partitions_n < 0 ? !elect_all(s) : !elect_asked(s)) return;
    partition_questions_send(&s->questions);
}

/* ---- AlterPartitionReassignments ------------------------------------------------------------------------- */

typedef struct k_alter_partition_reassignments_request_topics_partitions move_asked;
typedef struct k_alter_partition_reassignments_response_responses_partitions move_result;

static void move_refuse(move_result *r, int16_t error, struct str why) {
    r->error_code = error;
    r->error_message = why;
}

static void move_check(struct request *rq, move_result *r, const move_asked *asked, struct str topic, const struct image_topic *t) {
    int32_t self = request_broker(rq)->config.node_id;
    const struct image_partition *p = t ? image_partition(t, asked->partition_index) : NULL;
    int len = (int)MIN(topic.len, 249);
    if (!t) move_refuse(r, KERR_UNKNOWN_TOPIC_OR_PARTITION, request_printf(rq, "Unable to find a topic named %.*s.", len, topic.p));
    else if (!p) move_refuse(r, KERR_UNKNOWN_TOPIC_OR_PARTITION,
                             request_printf(rq, "Unable to find partition %.*s:%d.", len, topic.p, asked->partition_index));
    else if (asked->replicas_n < 0) move_refuse(r, KERR_NO_REASSIGNMENT_IN_PROGRESS, STR_LIT("No partition reassignment is in progress."));
    else if (asked->replicas_n == 0)
        move_refuse(r, KERR_INVALID_REPLICA_ASSIGNMENT, STR_LIT("The manual partition assignment includes an empty replica list."));
    for (int32_t i = 0; i < asked->replicas_n && !r->error_code; i++)
        if (asked->replicas[i] != self)
            move_refuse(r, KERR_INVALID_REPLICA_ASSIGNMENT,
                        request_printf(rq, "The manual partition assignment includes broker %d, but no such broker is registered.",
                                       asked->replicas[i]));
    if (!r->error_code && asked->replicas_n > 1)
        move_refuse(r, KERR_INVALID_REPLICA_ASSIGNMENT,
                    request_printf(rq, "The manual partition assignment includes the broker %d more than once.", self));
}

void api_alter_partition_reassignments(struct request *rq) {
    struct k_alter_partition_reassignments_request m;
    struct k_alter_partition_reassignments_response out;
    if (!request_decoded(rq, k_alter_partition_reassignments_request_decode(&m, &rq->body, request_version(rq)))) return;
    k_alter_partition_reassignments_response_init(&out);
    out.allow_replication_factor_change = m.allow_replication_factor_change;
    out.error_message = STR_NULL;
    int32_t n = MAX(m.topics_n, 0);
    out.responses = request_alloc(rq, (size_t)n, sizeof *out.responses);
    if (!out.responses) return;
    out.responses_n = n;
    for (int32_t i = 0; i < n; i++) {
        const struct image_topic *t = image_topic_by_name(request_image(rq), m.topics[i].name);
        struct k_alter_partition_reassignments_response_responses *r = &out.responses[i];
        k_alter_partition_reassignments_response_responses_init(r);
        r->name = m.topics[i].name;
        int32_t count = MAX(m.topics[i].partitions_n, 0);
        r->partitions = request_alloc(rq, (size_t)count, sizeof *r->partitions);
        if (!r->partitions) return;
        r->partitions_n = count;
        for (int32_t k = 0; k < count; k++) {
            r->partitions[k] = (move_result){m.topics[i].partitions[k].partition_index, KERR_NONE, STR_NULL};
            move_check(rq, &r->partitions[k], &m.topics[i].partitions[k], r->name, t);
        }
    }
    struct wire_writer *w = request_reply_begin(rq);
    k_alter_partition_reassignments_response_encode(&out, w, request_version(rq));
    request_reply(rq);
}

/* ---- ListPartitionReassignments --------------------------------------------------------------------------- */

/* A replica that is where it should be is not listed, nor is what does not exist. */
void api_list_partition_reassignments(struct request *rq) {
    struct k_list_partition_reassignments_request m;
    struct k_list_partition_reassignments_response out;
    if (!request_decoded(rq, k_list_partition_reassignments_request_decode(&m, &rq->body, request_version(rq)))) return;
    k_list_partition_reassignments_response_init(&out);
    out.error_message = STR_NULL;
    struct wire_writer *w = request_reply_begin(rq);
    k_list_partition_reassignments_response_encode(&out, w, request_version(rq));
    request_reply(rq);
}
