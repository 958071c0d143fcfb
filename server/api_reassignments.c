/* api_reassignments.c - AlterPartitionReassignments and ListPartitionReassignments (KIP-455), answered by the controller. */
#include "proto/kafka_messages.h"
#include "server/api_assignment.h"
#include "server/controller.h"
#include "server/reassign.h"

/* ---- AlterPartitionReassignments ------------------------------------------------------------------------- */

typedef struct k_alter_partition_reassignments_request_topics_partitions move_asked;
typedef struct k_alter_partition_reassignments_response_responses_partitions move_result;

struct alter_state {
    struct request *rq;
    struct k_alter_partition_reassignments_request in;
    struct k_alter_partition_reassignments_response out;
    struct number_set seen;
    struct controller_change change;
};

static void refuse(move_result *r, int16_t error, struct str why) {
    r->error_code = error;
    r->error_message = why;
}

static int32_t target_count(const struct image_partition *p) {
    int32_t n = 0;
    for (int32_t i = 0; i < p->replica_count; i++) n += !p->at[i].removing;
    return n;
}

static void check_target(const struct alter_state *s, const struct image *im, const struct image_partition *p, const move_asked *asked, move_result *r) {
    struct str why;
    int32_t n = asked->replicas_n;
    int16_t error = assignment_check(s->rq, im, asked->replicas, n, &why);
    if (error) {
        refuse(r, error, why);
    } else if (!s->in.allow_replication_factor_change && n != target_count(p)) {
        refuse(r, KERR_INVALID_REPLICATION_FACTOR,
               request_printf(s->rq, "The replication factor is changed from %d to %d", target_count(p), n));
    } else if (!reassign_fits(p, asked->replicas, n)) {
        refuse(r, KERR_INVALID_REPLICA_ASSIGNMENT,
               request_printf(s->rq, "Replicas that come and replicas that leave would be more than %d together: move it in two steps.",
                              IMAGE_REPLICAS_MAX));
    }
}

static void move_one(struct alter_state *s, struct controller_edit *e, move_result *r, const move_asked *asked, struct str topic) {
    const struct image *im = controller_edit_image(e);
    const struct image_topic *t = image_topic_by_name(im, topic);
    const struct image_partition *p = t ? image_partition(t, asked->partition_index) : NULL;
    int len = (int)MIN(topic.len, 249);
    if (!t) refuse(r, KERR_UNKNOWN_TOPIC_OR_PARTITION, request_printf(s->rq, "Unable to find a topic named %.*s.", len, topic.p));
    else if (!p) refuse(r, KERR_UNKNOWN_TOPIC_OR_PARTITION,
                        request_printf(s->rq, "Unable to find partition %.*s:%d.", len, topic.p, asked->partition_index));
    else if (!number_set_add(&s->seen, p->plid)) refuse(r, KERR_INVALID_REQUEST, STR_LIT("Duplicate partition in the request."));
    else if (asked->replicas_n >= 0) check_target(s, im, p, asked, r);
    if (r->error_code) return;
    if (asked->replicas_n >= 0) reassign_to(e, t, asked->partition_index, asked->replicas, asked->replicas_n);
    else if (!reassign_cancel(e, t, asked->partition_index))
        refuse(r, KERR_NO_REASSIGNMENT_IN_PROGRESS, STR_LIT("No partition reassignment is in progress."));
}

static void alter_make(struct controller_change *ch, struct controller_edit *e) {
    struct alter_state *s = ch->owner;
    for (int32_t i = 0; i < s->out.responses_n; i++)
        for (int32_t k = 0; k < s->out.responses[i].partitions_n; k++)
            move_one(s, e, &s->out.responses[i].partitions[k], &s->in.topics[i].partitions[k], s->in.topics[i].name);
}

static void alter_done(struct controller_change *ch) {
    struct alter_state *s = ch->owner;
    for (int32_t i = 0; ch->err && i < s->out.responses_n; i++)
        for (int32_t k = 0; k < s->out.responses[i].partitions_n; k++) {
            move_result *r = &s->out.responses[i].partitions[k];
            if (api_change_failed(ch, r->error_code)) refuse(r, api_change_error(ch->err), str_from(err_str(ch->err)));
        }
    if (ch->err == ERR_NOT_CONTROLLER) {
        s->out.error_code = KERR_NOT_CONTROLLER;
        s->out.error_message = str_from(err_str(ch->err));
    }
    struct wire_writer *w = request_reply_begin(s->rq);
    k_alter_partition_reassignments_response_encode(&s->out, w, request_version(s->rq));
    request_reply(s->rq);
}

/* False: closing. */
static bool alter_prepare(struct alter_state *s) {
    int32_t n = MAX(s->in.topics_n, 0);
    size_t all = 0;
    s->out.responses = request_alloc(s->rq, (size_t)n, sizeof *s->out.responses);
    if (!s->out.responses) return false;
    s->out.responses_n = n;
    for (int32_t i = 0; i < n; i++) {
        struct k_alter_partition_reassignments_response_responses *r = &s->out.responses[i];
        int32_t count = MAX(s->in.topics[i].partitions_n, 0);
        k_alter_partition_reassignments_response_responses_init(r);
        r->name = s->in.topics[i].name;
        r->partitions = request_alloc(s->rq, (size_t)count, sizeof *r->partitions);
        if (!r->partitions) return false;
        r->partitions_n = count;
        all += (size_t)count;
        for (int32_t k = 0; k < count; k++)
            r->partitions[k] = (move_result){s->in.topics[i].partitions[k].partition_index, KERR_NONE, STR_NULL};
    }
    return number_set_init(&s->seen, s->rq, all);
}

void api_alter_partition_reassignments(struct request *rq) {
    struct alter_state *s = request_alloc(rq, 1, sizeof *s);
    if (!s) return;
    s->rq = rq;
    if (!request_decoded(rq, k_alter_partition_reassignments_request_decode(&s->in, &rq->body, request_version(rq)))) return;
    k_alter_partition_reassignments_response_init(&s->out);
    s->out.allow_replication_factor_change = s->in.allow_replication_factor_change;
    s->out.error_message = STR_NULL;
    if (!alter_prepare(s)) return;
    s->change = (struct controller_change){.caller = rq->reactor, .make = alter_make, .done = alter_done, .owner = s};
    controller_submit(request_broker(rq)->controller, &s->change);
}

/* ---- ListPartitionReassignments --------------------------------------------------------------------------- */

typedef struct k_list_partition_reassignments_response_topics list_topic;
typedef struct k_list_partition_reassignments_response_topics_partitions list_partition;

/* False: closing. */
static bool list_partition_fill(struct request *rq, list_partition *out, const struct image_partition *p, int32_t index) {
    size_t n = (size_t)p->replica_count;
    *out = (list_partition){.partition_index = index, .replicas_n = p->replica_count};
    out->replicas = request_alloc(rq, n, sizeof *out->replicas);
    if (!out->replicas) return false;
    out->adding_replicas = request_alloc(rq, n, sizeof *out->adding_replicas);
    if (!out->adding_replicas) return false;
    out->removing_replicas = request_alloc(rq, n, sizeof *out->removing_replicas);
    if (!out->removing_replicas) return false;
    for (int32_t i = 0; i < p->replica_count; i++) {
        out->replicas[i] = p->replicas[i];
        if (p->at[i].removing) out->removing_replicas[out->removing_replicas_n++] = p->replicas[i];
        else if (p->at[i].adding) out->adding_replicas[out->adding_replicas_n++] = p->replicas[i];
    }
    return true;
}

/* The partitions of `t` that are being moved, `indexes` of them or all (NULL). A topic without any is left out. False: closing. */
static bool list_topic_fill(struct request *rq, struct k_list_partition_reassignments_response *out, const struct image_topic *t,
                            const int32_t *indexes, int32_t count) {
    list_topic *l = &out->topics[out->topics_n];
    int32_t n = 0;
    for (int32_t i = 0; i < count; i++) {
        const struct image_partition *p = image_partition(t, indexes ? indexes[i] : i);
        n += p && image_partition_is_moving(p);
    }
    if (n == 0) return true;
    k_list_partition_reassignments_response_topics_init(l);
    l->name = request_copy(rq, (struct str){t->name, t->name_len});
    l->partitions = request_alloc(rq, (size_t)n, sizeof *l->partitions);
    if (!l->partitions) return false;
    for (int32_t i = 0; i < count; i++) {
        int32_t index = indexes ? indexes[i] : i;
        const struct image_partition *p = image_partition(t, index);
        if (!p || !image_partition_is_moving(p)) continue;
        if (!list_partition_fill(rq, &l->partitions[l->partitions_n++], p, index)) return false;
    }
    out->topics_n++;
    return true;
}

/* A replica that is where it should be is not listed, nor is what does not exist. */
void api_list_partition_reassignments(struct request *rq) {
    struct k_list_partition_reassignments_request m;
    struct k_list_partition_reassignments_response out;
    const struct image *im = request_image(rq);
    if (!request_decoded(rq, k_list_partition_reassignments_request_decode(&m, &rq->body, request_version(rq)))) return;
    k_list_partition_reassignments_response_init(&out);
    out.error_message = STR_NULL;
    out.topics = request_alloc(rq, m.topics_n < 0 ? im->topic_count : (size_t)m.topics_n, sizeof *out.topics);
    if (!out.topics) return;
    for (int32_t i = 0; i < m.topics_n; i++) {
        const struct image_topic *t = image_topic_by_name(im, m.topics[i].name);
        if (t && !list_topic_fill(rq, &out, t, m.topics[i].partition_indexes, MAX(m.topics[i].partition_indexes_n, 0))) return;
    }
    for (uint32_t i = 0; m.topics_n < 0 && i < im->topic_count; i++)
        if (!list_topic_fill(rq, &out, im->by_name[i], NULL, im->by_name[i]->partition_count)) return;
    struct wire_writer *w = request_reply_begin(rq);
    k_list_partition_reassignments_response_encode(&out, w, request_version(rq));
    request_reply(rq);
}
