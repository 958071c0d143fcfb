/* api_log_dirs.c - DescribeLogDirs (KIP-113, KIP-827): what lies in the data directory, and how full its disk is;
 * AlterReplicaLogDirs: there is one directory, so a replica can only be told to stay. */
#include "proto/kafka_messages.h"
#include "server/api_partitions.h"

typedef struct k_describe_log_dirs_response_results_topics topic_result;
typedef struct k_describe_log_dirs_response_results_topics_partitions partition_result;

struct dirs_state {
    struct request *rq;
    struct k_describe_log_dirs_request in;
    struct k_describe_log_dirs_response out;
    struct k_describe_log_dirs_response_results dir;
    struct partition_questions questions;
    struct number_set seen;              /* plids: the answer must not grow beyond what is there */
};

enum { NOT_HERE = -1 };                  /* in partition_size, until the answer is put together */

static void take_size(void *target, const struct partition_fact *fact) {
    partition_result *p = target;
    p->partition_size = fact->here ? (int64_t)fact->size_bytes : NOT_HERE;
    p->offset_lag = fact->lag;
}

static bool ask(struct dirs_state *s, topic_result *out, const struct image_partition *p, int32_t index) {
    partition_result *r = &out->partitions[out->partitions_n++];
    k_describe_log_dirs_response_results_topics_partitions_init(r);
    r->partition_index = index;
    return partition_questions_add(&s->questions, p->owner, p->plid, r);
}

static topic_result *topic_begin(struct dirs_state *s, const struct image_topic *t, int32_t partitions) {
    topic_result *out = &s->dir.topics[s->dir.topics_n];
    k_describe_log_dirs_response_results_topics_init(out);
    out->name = request_copy(s->rq, (struct str){t->name, t->name_len});
    out->partitions = request_alloc(s->rq, (size_t)partitions, sizeof *out->partitions);
    if (!out->partitions) return NULL;
    s->dir.topics_n++;
    return out;
}

static bool ask_all(struct dirs_state *s) {
    const struct image *im = request_image(s->rq);
    s->dir.topics = request_alloc(s->rq, im->topic_count, sizeof *s->dir.topics);
    if (!s->dir.topics) return false;
    for (uint32_t i = 0; i < im->topic_count; i++) {
        const struct image_topic *t = im->by_name[i];
        topic_result *out = topic_begin(s, t, t->partition_count);
        if (!out) return false;
        for (int32_t k = 0; k < t->partition_count; k++)
            if (!ask(s, out, &t->partitions[k], k)) return false;
    }
    return true;
}

/* What is asked for and is not here is left out, as in Kafka. */
static bool ask_some(struct dirs_state *s) {
    int32_t n = s->in.topics_n;
    size_t total = 0;
    for (int32_t i = 0; i < n; i++) total += (size_t)MAX(s->in.topics[i].partitions_n, 0);
    s->dir.topics = request_alloc(s->rq, (size_t)n, sizeof *s->dir.topics);
    if (!s->dir.topics || !number_set_init(&s->seen, s->rq, total)) return false;
    for (int32_t i = 0; i < n; i++) {
        const struct image_topic *t = image_topic_by_name(request_image(s->rq), s->in.topics[i].topic);
        if (!t) continue;
        topic_result *out = topic_begin(s, t, MAX(s->in.topics[i].partitions_n, 0));
        if (!out) return false;
        for (int32_t k = 0; k < s->in.topics[i].partitions_n; k++) {
            const struct image_partition *p = image_partition(t, s->in.topics[i].partitions[k]);
            if (p && number_set_add(&s->seen, p->plid) && !ask(s, out, p, s->in.topics[i].partitions[k])) return false;
        }
    }
    return true;
}

static void drop_absent(struct dirs_state *s) {
    int32_t topics = 0;
    for (int32_t i = 0; i < s->dir.topics_n; i++) {
        topic_result *t = &s->dir.topics[i];
        int32_t kept = 0;
        for (int32_t k = 0; k < t->partitions_n; k++)
            if (t->partitions[k].partition_size != NOT_HERE) t->partitions[kept++] = t->partitions[k];
        t->partitions_n = kept;
        if (kept > 0) s->dir.topics[topics++] = *t;
    }
    s->dir.topics_n = topics;
}

static void finish(struct partition_questions *q) {
    struct dirs_state *s = CONTAINER_OF(q, struct dirs_state, questions);
    struct io_space space;
    drop_absent(s);
    if (io_space(s->rq->reactor->io, request_broker(s->rq)->config.data_dir, &space) == 0) {
        s->dir.total_bytes = (int64_t)MIN(space.total_bytes, (uint64_t)INT64_MAX);
        s->dir.usable_bytes = (int64_t)MIN(space.free_bytes, (uint64_t)INT64_MAX);
    }
    struct wire_writer *w = request_reply_begin(s->rq);
    k_describe_log_dirs_response_encode(&s->out, w, request_version(s->rq));
    request_reply(s->rq);
}

void api_describe_log_dirs(struct request *rq) {
    struct dirs_state *s = request_alloc(rq, 1, sizeof *s);
    if (!s) return;
    s->rq = rq;
    if (!request_decoded(rq, k_describe_log_dirs_request_decode(&s->in, &rq->body, request_version(rq)))) return;
    k_describe_log_dirs_response_init(&s->out);
    k_describe_log_dirs_response_results_init(&s->dir);
    s->dir.log_dir = str_from(request_broker(rq)->config.data_path);
    s->out.results = &s->dir;
    s->out.results_n = 1;
    s->questions = (struct partition_questions){.answer = take_size, .done = finish};
    if (!partition_questions_init(&s->questions, rq)) return;
    /* A directory that has failed is offline: nothing is said of what lies in it. */
    if (atomic_load(&request_broker(rq)->failed)) s->dir.error_code = KERR_KAFKA_STORAGE_ERROR;
    else if (s->in.topics_n < 0 ? !ask_all(s) : !ask_some(s)) return;
    partition_questions_send(&s->questions);
}

/* ---- AlterReplicaLogDirs ---------------------------------------------------------------------------------- */

typedef struct k_alter_replica_log_dirs_response_results move_result;

static int16_t move_error(struct request *rq, struct str path, struct str topic, int32_t partition) {
    const struct image_topic *t = image_topic_by_name(request_image(rq), topic);
    if (atomic_load(&request_broker(rq)->failed)) return KERR_KAFKA_STORAGE_ERROR;
    if (!str_is(path, request_broker(rq)->config.data_path)) return KERR_LOG_DIR_NOT_FOUND;
    return t && image_partition(t, partition) ? KERR_NONE : KERR_UNKNOWN_TOPIC_OR_PARTITION;
}

/* One result for each topic of each path, as they were named. */
void api_alter_replica_log_dirs(struct request *rq) {
    struct k_alter_replica_log_dirs_request m;
    struct k_alter_replica_log_dirs_response out;
    if (!request_decoded(rq, k_alter_replica_log_dirs_request_decode(&m, &rq->body, request_version(rq)))) return;
    k_alter_replica_log_dirs_response_init(&out);
    size_t topics = 0;
    for (int32_t i = 0; i < m.dirs_n; i++) topics += (size_t)MAX(m.dirs[i].topics_n, 0);
    out.results = request_alloc(rq, topics, sizeof *out.results);
    if (!out.results) return;
    for (int32_t i = 0; i < m.dirs_n; i++)
        for (int32_t k = 0; k < m.dirs[i].topics_n; k++) {
            const struct k_alter_replica_log_dirs_request_dirs_topics *t = &m.dirs[i].topics[k];
            move_result *r = &out.results[out.results_n++];
            k_alter_replica_log_dirs_response_results_init(r);
            r->topic_name = t->name;
            r->partitions = request_alloc(rq, (size_t)MAX(t->partitions_n, 0), sizeof *r->partitions);
            if (!r->partitions) return;
            for (int32_t p = 0; p < t->partitions_n; p++)
                r->partitions[r->partitions_n++] = (struct k_alter_replica_log_dirs_response_results_partitions){
                    t->partitions[p], move_error(rq, m.dirs[i].path, t->name, t->partitions[p]),
                };
        }
    struct wire_writer *w = request_reply_begin(rq);
    k_alter_replica_log_dirs_response_encode(&out, w, request_version(rq));
    request_reply(rq);
}
