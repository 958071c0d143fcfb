/* api_describe_topics.c - DescribeTopicPartitions (KIP-966): topics in the order of their names, a page at a time. */
#include <stdlib.h>
#include "proto/kafka_messages.h"
#include "server/api_nodes.h"
#include "server/api_partitions.h"

typedef struct k_describe_topic_partitions_response_topics topic_result;
typedef struct k_describe_topic_partitions_response_topics_partitions partition_result;

struct describe_state;
struct partition_target { struct describe_state *state; partition_result *out; };
struct describe_state {
    struct request *rq;
    struct api_nodes nodes;
    struct k_describe_topic_partitions_request in;
    struct k_describe_topic_partitions_response out;
    struct k_describe_topic_partitions_response_next_cursor next;
    struct partition_questions questions;
    int32_t left;                        /* partitions that the answer may still hold */
};

static int compare(struct str a, struct str b) {
    int32_t n = MIN(a.len, b.len);
    int c = n > 0 ? memcmp(a.p, b.p, (size_t)n) : 0;
    return c ? c : (a.len > b.len) - (a.len < b.len);
}
static int compare_names(const void *a, const void *b) { return compare(*(const struct str *)a, *(const struct str *)b); }

static bool fill_partition(struct describe_state *s, partition_result *out, const struct image_partition *p, int32_t index) {
    k_describe_topic_partitions_response_topics_partitions_init(out);
    out->partition_index = index;
    out->replica_nodes = request_alloc(s->rq, (size_t)p->replica_count * 3, sizeof *out->replica_nodes);
    struct partition_target *target = request_alloc(s->rq, 1, sizeof *target);
    if (!out->replica_nodes || !target) return false;
    memcpy(out->replica_nodes, p->replicas, (size_t)p->replica_count * sizeof *out->replica_nodes);
    out->replica_nodes_n = p->replica_count;
    out->isr_nodes = out->replica_nodes + p->replica_count;
    out->offline_replicas = out->isr_nodes + p->replica_count;
    out->eligible_leader_replicas_n = out->last_known_elr_n = 0;
    *target = (struct partition_target){s, out};
    return partition_questions_add(&s->questions, p->owner, p->plid, target);
}

/* The partitions of `t` from `first` on, as many as fit. False: closing. */
static bool fill_topic(struct describe_state *s, topic_result *out, const struct image_topic *t, int32_t first) {
    int32_t n = first < t->partition_count ? MIN(t->partition_count - first, s->left) : 0;
    out->name = request_copy(s->rq, (struct str){t->name, t->name_len});
    out->topic_id = t->id;
    out->is_internal = t->internal;
    out->topic_authorized_operations = API_TOPIC_OPERATIONS;
    out->partitions = request_alloc(s->rq, (size_t)n, sizeof *out->partitions);
    if (!out->partitions) return false;
    out->partitions_n = n;
    for (int32_t i = 0; i < n; i++)
        if (!fill_partition(s, &out->partitions[i], &t->partitions[first + i], first + i)) return false;
    s->left -= MAX(n, 1);                /* so that a page holds no more topics than partitions */
    if (n > 0 && first + n < t->partition_count) {
        s->next = (struct k_describe_topic_partitions_response_next_cursor){out->name, first + n};
        s->out.next_cursor = &s->next;
    }
    return true;
}

/* One topic of the page; sets the cursor instead when the page is full. */
static bool add_topic(struct describe_state *s, struct str name, const struct image_topic *t) {
    if (s->left == 0) {
        s->next = (struct k_describe_topic_partitions_response_next_cursor){request_copy(s->rq, name), 0};
        s->out.next_cursor = &s->next;
        return true;
    }
    topic_result *out = &s->out.topics[s->out.topics_n++];
    k_describe_topic_partitions_response_topics_init(out);
    if (!t) {
        out->name = name;
        out->error_code = topic_name_problem(name) ? KERR_INVALID_TOPIC_EXCEPTION : KERR_UNKNOWN_TOPIC_OR_PARTITION;
        out->is_internal = topic_name_internal(name);
        return true;
    }
    bool here = s->in.cursor && str_eq(s->in.cursor->topic_name, name);
    return fill_topic(s, out, t, here ? s->in.cursor->partition_index : 0);
}

/* The first topic of the image that is not below the cursor. */
static uint32_t first_of(const struct image *im, struct str cursor) {
    uint32_t low = 0, high = im->topic_count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (compare((struct str){im->by_name[mid]->name, im->by_name[mid]->name_len}, cursor) < 0) low = mid + 1;
        else high = mid;
    }
    return low;
}

static bool fill_all(struct describe_state *s, struct str cursor) {
    const struct image *im = request_image(s->rq);
    uint32_t first = first_of(im, cursor), n = MIN(im->topic_count - first, (uint32_t)s->left);
    s->out.topics = request_alloc(s->rq, n, sizeof *s->out.topics);
    if (!s->out.topics) return false;
    for (uint32_t i = first; i < im->topic_count && !s->out.next_cursor; i++)
        if (!add_topic(s, (struct str){im->by_name[i]->name, im->by_name[i]->name_len}, im->by_name[i])) return false;
    return true;
}

static bool fill_asked(struct describe_state *s, struct str *names, int32_t n, struct str cursor) {
    s->out.topics = request_alloc(s->rq, (size_t)n, sizeof *s->out.topics);
    if (!s->out.topics) return false;
    qsort(names, (size_t)n, sizeof *names, compare_names);
    for (int32_t i = 0; i < n && !s->out.next_cursor; i++) {
        if (compare(names[i], cursor) < 0 || (i > 0 && str_eq(names[i], names[i - 1]))) continue;
        if (!add_topic(s, names[i], image_topic_by_name(request_image(s->rq), names[i]))) return false;
    }
    return true;
}

/* "No leader: partition error 5, leader -1." */
static void take_leader(void *target, const struct partition_fact *fact) {
    const struct partition_target *t = target;
    const struct api_nodes *nodes = &t->state->nodes;
    partition_result *p = t->out;
    struct api_leader leader = api_leader_of(nodes, &fact->leader);
    p->leader_id = leader.id;
    p->leader_epoch = leader.epoch;
    p->error_code = leader.error;
    p->isr_nodes_n = api_in_sync(nodes, &fact->leader, p->replica_nodes, p->replica_nodes_n, p->isr_nodes);
    p->offline_replicas_n = api_offline(nodes, p->replica_nodes, p->replica_nodes_n, p->offline_replicas);
}

static void finish(struct partition_questions *q) {
    struct describe_state *s = CONTAINER_OF(q, struct describe_state, questions);
    struct wire_writer *w = request_reply_begin(s->rq);
    k_describe_topic_partitions_response_encode(&s->out, w, request_version(s->rq));
    request_reply(s->rq);
}

/* A cursor that cannot come from an answer: every topic gets the error, as in Kafka. */
static bool refuse_cursor(struct describe_state *s, const struct str *names, int32_t n) {
    s->out.topics = request_alloc(s->rq, (size_t)n, sizeof *s->out.topics);
    if (!s->out.topics) return false;
    s->out.topics_n = n;
    for (int32_t i = 0; i < n; i++) {
        k_describe_topic_partitions_response_topics_init(&s->out.topics[i]);
        s->out.topics[i].name = names[i];
        s->out.topics[i].error_code = KERR_INVALID_REQUEST;
    }
    return true;
}

static bool fill(struct describe_state *s) {
    int32_t n = MAX(s->in.topics_n, 0);
    struct str cursor = s->in.cursor ? s->in.cursor->topic_name : STR_LIT("");
    bool cursor_named = n == 0 || !s->in.cursor;
    struct str *names = request_alloc(s->rq, (size_t)n, sizeof *names);
    if (!names) return false;
    for (int32_t i = 0; i < n; i++) {
        names[i] = s->in.topics[i].name;
        if (str_eq(names[i], cursor)) cursor_named = true;
    }
    if (!cursor_named || (s->in.cursor && s->in.cursor->partition_index < 0)) return refuse_cursor(s, names, n);
    return n == 0 ? fill_all(s, cursor) : fill_asked(s, names, n, cursor);
}

void api_describe_topic_partitions(struct request *rq) {
    struct describe_state *s = request_alloc(rq, 1, sizeof *s);
    if (!s) return;
    s->rq = rq;
    if (!request_decoded(rq, k_describe_topic_partitions_request_decode(&s->in, &rq->body, request_version(rq)))) return;
    k_describe_topic_partitions_response_init(&s->out);
    s->questions = (struct partition_questions){.answer = take_leader, .done = finish};
    if (!partition_questions_init(&s->questions, rq) || !api_nodes_get(rq, &s->nodes)) return;
    s->left = MAX(MIN(request_broker(rq)->config.describe_partitions_max, s->in.response_partition_limit), 1);
    if (fill(s)) partition_questions_send(&s->questions);
}
