/* api_topics.c - DeleteTopics and CreatePartitions. Validated on reactor 0, as in api_create_topics.c. */
#include "proto/kafka_messages.h"
#include "server/api.h"
#include "server/api_assignment.h"
#include "server/api_await.h"
#include "server/controller.h"
#include "server/quotas.h"

/* ---- DeleteTopics -------------------------------------------------------------------------------------- */

typedef struct k_delete_topics_response_responses delete_result;

struct delete_state {
    struct request *rq;
    struct k_delete_topics_response out;
    bool *by_id;
    struct number_set seen;
    int32_t throttle_ms;
    struct controller_change change;
};

static void delete_refuse(delete_result *r, int16_t error, struct str why) {
    r->error_code = error;
    r->error_message = why;
}

static void delete_one(struct delete_state *s, int32_t i, struct controller_edit *e) {
    delete_result *r = &s->out.responses[i];
    const struct image *im = controller_edit_image(e);
    const struct image_topic *t = s->by_id[i] ? image_topic_by_id(im, &r->topic_id) : image_topic_by_name(im, r->name);
    if (!t) {
        if (s->by_id[i]) delete_refuse(r, KERR_UNKNOWN_TOPIC_ID, STR_LIT("This server does not host this topic ID."));
        else delete_refuse(r, KERR_UNKNOWN_TOPIC_OR_PARTITION,
                           STR_LIT("This server does not host this topic-partition."));
        return;
    }
    r->name = request_copy(s->rq, (struct str){t->name, t->name_len});
    r->topic_id = t->id;
    if (quota_change(s->rq, request_version(s->rq) >= 5, t->partition_count, &s->throttle_ms)) controller_remove_topic(e, &t->id);
    else delete_refuse(r, KERR_THROTTLING_QUOTA_EXCEEDED, STR_LIT("The throttling quota has been exceeded."));
}

/* The same topic by name and by id, or twice: refused before anything is removed. */
static void delete_find_twice(struct delete_state *s, struct controller_edit *e) {
    for (int32_t i = 0; i < s->out.responses_n; i++) {
        delete_result *r = &s->out.responses[i];
        const struct image *im = controller_edit_image(e);
        if (r->error_code) continue;
        const struct image_topic *t = s->by_id[i] ? image_topic_by_id(im, &r->topic_id) : image_topic_by_name(im,
            r->name);
        if (t && !number_set_add(&s->seen, (uint64_t)(uintptr_t)t))
            delete_refuse(r, KERR_INVALID_REQUEST, STR_LIT("Duplicate topic in the request."));
    }
}

static void delete_make(struct controller_change *ch, struct controller_edit *e) {
    struct delete_state *s = ch->owner;
    delete_find_twice(s, e);
    for (int32_t i = 0; i < s->out.responses_n; i++)
        if (!s->out.responses[i].error_code) delete_one(s, i, e);
}

static void delete_reply(struct delete_state *s) {
    quota_pause(s->rq, s->throttle_ms);
    struct wire_writer *w = request_reply_begin(s->rq);
    k_delete_topics_response_encode(&s->out, w, request_version(s->rq));
    request_reply(s->rq);
}

static void delete_done(struct controller_change *ch) {
    struct delete_state *s = ch->owner;
    for (int32_t i = 0; i < s->out.responses_n; i++)
        if (api_change_failed(ch, s->out.responses[i].error_code))
            delete_refuse(&s->out.responses[i], api_change_error(ch->err), str_from(err_str(ch->err)));
    delete_reply(s);
}

/* Version 6 names topics by name or id in structs, older ones by plain names. */
static bool delete_prepare(struct delete_state *s, const struct k_delete_topics_request *m) {
    int16_t version = request_version(s->rq);
    int32_t n = MAX(version >= 6 ? m->topics_n : m->topic_names_n, 0);
    bool enabled = request_broker(s->rq)->config.delete_topic;
    s->out.responses = request_alloc(s->rq, (size_t)n, sizeof *s->out.responses);
    if (!s->out.responses) return false;
    s->by_id = request_alloc(s->rq, (size_t)n, sizeof *s->by_id);
    if (!s->by_id || !number_set_init(&s->seen, s->rq, (size_t)n)) return false;
    s->out.responses_n = n;
    for (int32_t i = 0; i < n; i++) {
        delete_result *r = &s->out.responses[i];
        k_delete_topics_response_responses_init(r);
        r->name = version >= 6 ? m->topics[i].name : m->topic_names[i];
        if (version >= 6) r->topic_id = m->topics[i].topic_id;
        s->by_id[i] = r->name.p == NULL;
        if (!enabled)
            delete_refuse(r, version >= 3 ? KERR_TOPIC_DELETION_DISABLED : KERR_INVALID_REQUEST,
                          STR_LIT("Topic deletion is disabled."));
        else if (version >= 6 && s->by_id[i] == uuid_is_zero(&r->topic_id))
            delete_refuse(r, KERR_INVALID_REQUEST,
                          STR_LIT("Either a topic name or a topic ID is needed, and not both."));
    }
    return true;
}

void api_delete_topics(struct request *rq) {
    struct k_delete_topics_request m;
    struct delete_state *s = request_alloc(rq, 1, sizeof *s);
    if (!s) return;
    s->rq = rq;
    if (!request_decoded(rq, k_delete_topics_request_decode(&m, &rq->body, request_version(rq)))) return;
    k_delete_topics_response_init(&s->out);
    if (!delete_prepare(s, &m)) return;
    s->change = (struct controller_change){.caller = rq->reactor, .make = delete_make, .done = delete_done, .owner = s};
    controller_submit(request_broker(rq)->controller, &s->change);
}

/* ---- CreatePartitions ------------------------------------------------------------------------------------ */

enum { PARTITIONS_PER_REQUEST_MAX = 10000 };

typedef struct k_create_partitions_request_topics grow_spec;
typedef struct k_create_partitions_response_results grow_result;

struct grow_state {
    struct request *rq;
    struct k_create_partitions_request in;
    struct k_create_partitions_response out;
    const grow_spec **specs;         /* beside out.results */
    int32_t *had;                    /* partitions before; beside them */
    int64_t partitions;              /* accepted so far */
    struct placement placement;      /* of all that are made in this change */
    int32_t throttle_ms;
    struct controller_change change;
    struct api_await await;
};

static int16_t grow_refuse(grow_result *r, int16_t error, struct str why) {
    r->error_code = error;
    r->error_message = why;
    return error;
}

/* New partitions get as many replicas as the first one is to have. */
static int32_t grow_factor(const struct image_topic *t) {
    int32_t n = 0;
    for (int32_t i = 0; i < t->partitions[0].replica_count; i++) n += !t->partitions[0].at[i].removing;
    return n;
}

static void grow_add(struct grow_state *s, struct controller_edit *e, const grow_spec *spec, const struct image_topic *t) {
    int32_t now = t->partition_count, placed[PLACEMENT_NODES_MAX];
    for (int32_t k = now; k < spec->count; k++) {
        const int32_t *nodes = placed;
        int32_t n = grow_factor(t);
        if (spec->assignments_n >= 0) {
            nodes = spec->assignments[k - now].broker_ids;
            n = spec->assignments[k - now].broker_ids_n;
        } else {
            placement_next(&s->placement, placed, (uint32_t)n);
        }
        controller_add_partition(e, &t->id, k, nodes, n);
    }
}

static int16_t grow_check(struct grow_state *s, const grow_spec *t, grow_result *r, const struct image *im) {
    struct broker *b = request_broker(s->rq);
    const struct image_topic *topic = image_topic_by_name(im, t->name);
    if (!topic) return grow_refuse(r, KERR_UNKNOWN_TOPIC_OR_PARTITION,
                                   STR_LIT("This server does not host this topic-partition."));
    if (topic_name_internal(t->name)) /* groups are found by it: they would be looked for, and made anew, elsewhere */
        return grow_refuse(r, KERR_INVALID_PARTITIONS, STR_LIT("The number of partitions of an internal topic cannot be changed."));
    int32_t now = topic->partition_count;
    if (t->count == now) return grow_refuse(r, KERR_INVALID_PARTITIONS,
                                            request_printf(s->rq, "Topic already has %d partition(s).", now));
    if (t->count < now)
        return grow_refuse(r, KERR_INVALID_PARTITIONS,
                           request_printf(s->rq, "The topic %.*s currently has %d partition(s); %d would not be an "
                                          "increase.", t->name.len, t->name.p, now, t->count));
    int64_t more = (int64_t)t->count - now;
    if (t->assignments_n >= 0 && t->assignments_n != more)
        return grow_refuse(r, KERR_INVALID_REPLICA_ASSIGNMENT,
                           request_printf(s->rq, "Attempted to add %lld additional partition(s), but only %d "
                                          "assignment(s) were specified.", (long long)more, t->assignments_n));
    int16_t error = KERR_NONE;
    struct str why;
    for (int32_t i = 0; i < t->assignments_n && !error; i++)
        error = assignment_check_new(s->rq, im, now + i, t->assignments[i].broker_ids, t->assignments[i].broker_ids_n, &why);
    for (int32_t i = 1; i < t->assignments_n && !error; i++) {
        int32_t n = t->assignments[i].broker_ids_n, before = t->assignments[0].broker_ids_n;
        if (n == before) continue;
        why = request_printf(s->rq, "The manual partition assignment includes a partition with %d replica(s), but this is not consistent with "
                             "previous partitions, which have %d replica(s).", n, before);
        error = KERR_INVALID_REPLICA_ASSIGNMENT;
    }
    if (!error && t->assignments_n < 0) error = assignment_check_factor(s->rq, &s->placement, grow_factor(topic), &why);
    if (error) return grow_refuse(r, error, why);
    if (s->partitions + more > PARTITIONS_PER_REQUEST_MAX)
        return grow_refuse(r, KERR_POLICY_VIOLATION, STR_LIT("Excessively large number of partitions per request."));
    if (im->partition_count + s->partitions + more > b->config.max_topic_partitions)
        return grow_refuse(r, KERR_POLICY_VIOLATION,
                           STR_LIT("The cluster would have more partitions than max.topic.partitions allows."));
    return KERR_NONE;
}

static void grow_make(struct controller_change *ch, struct controller_edit *e) {
    struct grow_state *s = ch->owner;
    const struct image *im = controller_edit_image(e);
    placement_of_image(&s->placement, request_broker(s->rq), im, (uint64_t)im->partition_count);
    for (int32_t i = 0; i < s->out.results_n; i++) {
        grow_result *r = &s->out.results[i];
        if (r->error_code || grow_check(s, s->specs[i], r, im)) continue;
        const struct image_topic *t = image_topic_by_name(im, s->specs[i]->name);
        int32_t more = s->specs[i]->count - t->partition_count;
        if (!s->in.validate_only && !quota_change(s->rq, request_version(s->rq) >= 3, more, &s->throttle_ms)) {
            grow_refuse(r, KERR_THROTTLING_QUOTA_EXCEEDED, STR_LIT("The throttling quota has been exceeded."));
            continue;
        }
        s->partitions += more;
        s->had[i] = t->partition_count;
        if (!s->in.validate_only) grow_add(s, e, s->specs[i], t);
    }
}

static void grow_reply(struct api_await *await) {
    struct grow_state *s = CONTAINER_OF(await, struct grow_state, await);
    struct wire_writer *w = request_reply_begin(s->rq);
    k_create_partitions_response_encode(&s->out, w, request_version(s->rq));
    request_reply(s->rq);
}

static void grow_await(struct grow_state *s) {
    if (!api_await_init(&s->await, s->rq, grow_reply)) return;
    for (int32_t i = 0; i < s->out.results_n; i++) {
        const grow_result *r = &s->out.results[i];
        const struct image_topic *t = r->error_code ? NULL : image_topic_by_name(request_image(s->rq), r->name);
        if (t && !api_await_topic(&s->await, t, s->had[i])) return;
    }
    api_await_begin(&s->await);
}

static void grow_done(struct controller_change *ch) {
    struct grow_state *s = ch->owner;
    for (int32_t i = 0; i < s->out.results_n; i++)
        if (api_change_failed(ch, s->out.results[i].error_code))
            grow_refuse(&s->out.results[i], api_change_error(ch->err), str_from(err_str(ch->err)));
    quota_pause(s->rq, s->throttle_ms);
    if (ch->err || s->in.validate_only) grow_reply(&s->await);
    else grow_await(s);
}

static bool grow_prepare(struct grow_state *s) {
    struct request *rq = s->rq;
    size_t n = (size_t)MAX(s->in.topics_n, 0);
    struct name_set seen;
    struct str *names = request_alloc(rq, n, sizeof *names);
    if (!names || !name_set_init(&seen, rq, names, n)) return false;
    s->specs = request_alloc(rq, n, sizeof *s->specs);
    s->had = request_alloc(rq, n, sizeof *s->had);
    if (!s->specs || !s->had) return false;
    s->out.results = request_alloc(rq, n, sizeof *s->out.results);
    if (!s->out.results) return false;
    for (size_t k = 0; k < n; k++) {
        int32_t i = s->out.results_n;
        names[i] = s->in.topics[k].name;
        int32_t before = name_set_add(&seen, i);
        if (before >= 0) {
            grow_refuse(&s->out.results[before], KERR_INVALID_REQUEST, STR_LIT("Duplicate topic name."));
            continue;
        }
        s->specs[i] = &s->in.topics[k];
        k_create_partitions_response_results_init(&s->out.results[i]);
        s->out.results[i].name = names[i];
        s->out.results_n++;
    }
    return true;
}

void api_create_partitions(struct request *rq) {
    struct grow_state *s = request_alloc(rq, 1, sizeof *s);
    if (!s) return;
    s->rq = rq;
    if (!request_decoded(rq, k_create_partitions_request_decode(&s->in, &rq->body, request_version(rq)))) return;
    k_create_partitions_response_init(&s->out);
    if (!grow_prepare(s)) return;
    s->change = (struct controller_change){.caller = rq->reactor, .make = grow_make, .done = grow_done, .owner = s};
    controller_submit(request_broker(rq)->controller, &s->change);
}
