/* api_create_topics.c - CreateTopics, and topics made on first use.
 *
 * Everything is validated on reactor 0 against the newest image, so that two requests at the same
 * time cannot both create a topic. The request's memory is used there while it waits. */
#include <stdlib.h>
#include "base/trace.h"
#include "proto/kafka_messages.h"
#include "server/api_await.h"
#include "server/api.h"
#include "server/api_assignment.h"
#include "server/api_configs.h"
#include "server/controller.h"
#include "server/quotas.h"

enum { PARTITIONS_PER_REQUEST_MAX = 10000 };

typedef struct k_create_topics_request_topics topic_spec;
typedef struct k_create_topics_response_topics topic_result;

struct create_state {
    struct request *rq;
    struct k_create_topics_request in;
    struct k_create_topics_response out;
    const topic_spec **specs;            /* beside out.topics: what each result is about */
    struct topic_override **overrides;
    struct name_set names, folded;       /* folded: '_' as '.', for names that would collide */
    int64_t partitions;                  /* accepted so far */
    struct placement placement;          /* of all that are made in this change */
    int32_t throttle_ms;
    struct controller_change change;
    struct api_await await;
};

static int16_t refuse(topic_result *r, int16_t error, struct str why) {
    r->error_code = error;
    r->error_message = why;
    return error;
}

/* ---- what may be created --------------------------------------------------------------------------- */

static int16_t check_name(struct create_state *s, int32_t i, const struct image *im) {
    topic_result *r = &s->out.topics[i];
    const char *problem = topic_name_problem(r->name);
    if (problem) return refuse(r, KERR_INVALID_TOPIC_EXCEPTION, str_from(problem));
    if (image_topic_by_name(im, r->name))
        return refuse(r, KERR_TOPIC_ALREADY_EXISTS,
                      request_printf(s->rq, "Topic '%.*s' already exists.", r->name.len, r->name.p));
    const struct image_topic *other = image_topic_colliding(im, r->name);
    if (other || name_set_add(&s->folded, i) >= 0)
        return refuse(r, KERR_INVALID_TOPIC_EXCEPTION,
                      STR_LIT("The topic name collides with another one: '.' and '_' may not be all that differs"));
    return KERR_NONE;
}

static int compare_numbers(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* "0-based, consecutive", each on brokers that exist, each once. */
static int16_t check_assignments(struct create_state *s, const topic_spec *t, topic_result *r, const struct image *im) {
    if (t->num_partitions != -1)
        return refuse(r, KERR_INVALID_REQUEST,
                      STR_LIT("A manual partition assignment was given, but numPartitions was not -1."));
    if (t->replication_factor != -1)
        return refuse(r, KERR_INVALID_REQUEST,
                      STR_LIT("A manual partition assignment was given, but replication factor was not -1."));
    int32_t n = t->assignments_n;
    int32_t *numbers = malloc((size_t)n * sizeof *numbers);
    if (!numbers) return refuse(r, KERR_KAFKA_STORAGE_ERROR, STR_LIT("Out of memory"));
    for (int32_t i = 0; i < n; i++) numbers[i] = t->assignments[i].partition_index;
    qsort(numbers, (size_t)n, sizeof *numbers, compare_numbers);
    bool dense = true;
    for (int32_t i = 0; i < n; i++) dense = dense && numbers[i] == i;
    free(numbers);
    if (!dense) return refuse(r, KERR_INVALID_REPLICA_ASSIGNMENT,
                              STR_LIT("Partitions must be numbered 0, 1, 2, ... without gaps."));
    for (int32_t i = 0; i < n; i++) {
        struct str why;
        int16_t error = assignment_check_new(s->rq, im, t->assignments[i].partition_index, t->assignments[i].broker_ids,
                                             t->assignments[i].broker_ids_n, &why);
        if (error) return refuse(r, error, why);
        if (t->assignments[i].broker_ids_n == t->assignments[0].broker_ids_n) continue;
        return refuse(r, KERR_INVALID_REPLICA_ASSIGNMENT,
                      request_printf(s->rq, "The manual partition assignment includes a partition with %d replica(s), but this is not consistent "
                                     "with previous partitions, which have %d replica(s).", t->assignments[i].broker_ids_n,
                                     t->assignments[0].broker_ids_n));
    }
    r->num_partitions = n;
    r->replication_factor = (int16_t)t->assignments[0].broker_ids_n;
    return KERR_NONE;
}

static int16_t check_counts(struct create_state *s, const topic_spec *t, topic_result *r) {
    const struct config *c = &request_broker(s->rq)->config;
    r->num_partitions = t->num_partitions == -1 ? c->num_partitions : t->num_partitions;
    r->replication_factor = t->replication_factor;
    if (t->replication_factor == -1) r->replication_factor = (int16_t)c->default_replication_factor;
    struct str why;
    int16_t error = assignment_check_factor(s->rq, &s->placement, r->replication_factor, &why);
    if (error) return refuse(r, error, why);
    if (r->num_partitions <= 0)
        return refuse(r, KERR_INVALID_PARTITIONS,
                      STR_LIT("Number of partitions must be larger than 0, or -1 to use the default value."));
    return KERR_NONE;
}

static int16_t check_limits(struct create_state *s, topic_result *r, const struct image *im) {
    int64_t sum = s->partitions + r->num_partitions;
    if (sum > PARTITIONS_PER_REQUEST_MAX)
        return refuse(r, KERR_POLICY_VIOLATION, STR_LIT("Excessively large number of partitions per request."));
    if (im->partition_count + sum > request_broker(s->rq)->config.max_topic_partitions)
        return refuse(r, KERR_POLICY_VIOLATION,
                      STR_LIT("The cluster would have more partitions than max.topic.partitions allows."));
    return KERR_NONE;
}

static int16_t check_topic(struct create_state *s, int32_t i, const struct image *im) {
    const topic_spec *t = s->specs[i];
    topic_result *r = &s->out.topics[i];
    int16_t error = check_name(s, i, im);
    if (!error) error = t->assignments_n > 0 ? check_assignments(s, t, r, im) : check_counts(s, t, r);
    if (!error) error = check_limits(s, r, im);
    if (error) return error;
    struct str why = STR_NULL;
    error = topic_overrides_check(s->rq, image_config(im, request_broker(s->rq)), s->overrides[i], (size_t)t->configs_n, &why);
    return error ? refuse(r, error, why) : KERR_NONE;
}

/* ---- creating: reactor 0 ---------------------------------------------------------------------------- */

static void add_topic(struct controller_edit *e, const struct uuid *id, struct str name, const struct topic_override *overrides,
                      int32_t override_count) {
    controller_add_topic(e, id, name);
    for (int32_t i = 0; i < override_count; i++)
        controller_set_config(e, API_RESOURCE_TOPIC, name, overrides[i].name, overrides[i].value);
}

static void add_placed(struct controller_edit *e, const struct uuid *id, struct placement *p, int32_t partitions, int32_t replicas) {
    int32_t nodes[PLACEMENT_NODES_MAX];
    for (int32_t i = 0; i < partitions; i++) {
        placement_next(p, nodes, (uint32_t)replicas);
        controller_add_partition(e, id, i, nodes, replicas);
    }
}

/* In the order of their numbers, which the client need not have kept. False: memory. */
static bool add_assigned(struct controller_edit *e, const struct uuid *id, const topic_spec *t) {
    int32_t n = t->assignments_n, *order = malloc((size_t)n * sizeof *order);
    for (int32_t i = 0; order && i < n; i++) order[t->assignments[i].partition_index] = i; /* dense: check_assignments() */
    for (int32_t i = 0; order && i < n; i++)
        controller_add_partition(e, id, i, t->assignments[order[i]].broker_ids, t->assignments[order[i]].broker_ids_n);
    free(order);
    return order != NULL;
}

static void make(struct controller_change *ch, struct controller_edit *e) {
    struct create_state *s = ch->owner;
    const struct image *im = controller_edit_image(e);
    placement_of_image(&s->placement, controller_edit_broker(e), im, (uint64_t)im->partition_count);
    for (int32_t i = 0; i < s->out.topics_n; i++) {
        topic_result *r = &s->out.topics[i];
        if (r->error_code || check_topic(s, i, im)) continue;
        if (!s->in.validate_only && !quota_change(s->rq, request_version(s->rq) >= 6, r->num_partitions, &s->throttle_ms)) {
            refuse(r, KERR_THROTTLING_QUOTA_EXCEEDED, STR_LIT("The throttling quota has been exceeded."));
            continue;
        }
        s->partitions += r->num_partitions;
        if (s->in.validate_only) continue;
        controller_edit_new_uuid(e, &r->topic_id);
        add_topic(e, &r->topic_id, r->name, s->overrides[i], s->specs[i]->configs_n);
        if (s->specs[i]->assignments_n <= 0) add_placed(e, &r->topic_id, &s->placement, r->num_partitions, r->replication_factor);
        else if (!add_assigned(e, &r->topic_id, s->specs[i])) controller_edit_fail(e, ERR_NOMEM);
    }
}

/* ---- answer -------------------------------------------------------------------------------------------- */

/* KIP-525: what the topic is configured as. */
static bool fill_configs(struct create_state *s, int32_t i) {
    topic_result *r = &s->out.topics[i];
    if (request_version(s->rq) < 5) return true;
    struct config_listing l = {.rq = s->rq, .overrides = s->overrides[i],
                               .override_count = (size_t)s->specs[i]->configs_n};
    if (!list_topic_configs(&l)) return false;
    r->configs = request_alloc(s->rq, (size_t)l.count, sizeof *r->configs);
    if (!r->configs) return false;
    r->configs_n = l.count;
    for (int32_t k = 0; k < l.count; k++) {
        k_create_topics_response_topics_configs_init(&r->configs[k]);
        r->configs[k].name = l.list[k].name;
        r->configs[k].value = l.list[k].value;
        r->configs[k].config_source = l.list[k].config_source;
    }
    return true;
}

static void reply(struct api_await *await) {
    struct create_state *s = CONTAINER_OF(await, struct create_state, await);
    struct wire_writer *w = request_reply_begin(s->rq);
    k_create_topics_response_encode(&s->out, w, request_version(s->rq));
    request_reply(s->rq);
}

static void await_leaders(struct create_state *s) {
    if (!api_await_init(&s->await, s->rq, reply)) return;
    for (int32_t i = 0; i < s->out.topics_n; i++) {
        const topic_result *r = &s->out.topics[i];
        const struct image_topic *t = r->error_code ? NULL : image_topic_by_id(request_image(s->rq), &r->topic_id);
        if (t && !api_await_topic(&s->await, t, 0)) return;
    }
    api_await_begin(&s->await);
}

static void done(struct controller_change *ch) {
    struct create_state *s = ch->owner;
    struct request *rq = s->rq;
    for (int32_t i = 0; i < s->out.topics_n; i++) {
        topic_result *r = &s->out.topics[i];
        if (api_change_failed(ch, r->error_code)) refuse(r, api_change_error(ch->err), str_from(err_str(ch->err)));
        if (r->error_code) {
            r->num_partitions = -1;
            r->replication_factor = -1;
            memset(&r->topic_id, 0, sizeof r->topic_id);
            r->configs_n = request_version(rq) < 5 ? 0 : -1;
        } else if (!fill_configs(s, i)) {
            return;
        }
    }
    quota_pause(rq, s->throttle_ms);
    if (ch->err || s->in.validate_only) reply(&s->await);
    else await_leaders(s);
}

/* ---- arrival ------------------------------------------------------------------------------------------- */

static struct str fold(struct request *rq, struct str name) {
    struct str copy = request_copy(rq, name);
    for (int32_t i = 0; copy.p && i < copy.len; i++)
        if (copy.p[i] == '_') ((char *)copy.p)[i] = '.';
    return copy;
}

static bool copy_overrides(struct create_state *s, int32_t i) {
    const topic_spec *t = s->specs[i];
    s->overrides[i] = request_alloc(s->rq, (size_t)t->configs_n, sizeof *s->overrides[i]);
    if (!s->overrides[i]) return false;
    for (int32_t k = 0; k < t->configs_n; k++)
        s->overrides[i][k] = (struct topic_override){t->configs[k].name, t->configs[k].value};
    return true;
}

/* One result for each name; a name that is given twice gets its error once. */
static bool prepare(struct create_state *s) {
    struct request *rq = s->rq;
    size_t n = (size_t)MAX(s->in.topics_n, 0);
    struct str *names = request_alloc(rq, n, sizeof *names);
    if (!names) return false;
    struct str *folded = request_alloc(rq, n, sizeof *folded);
    if (!folded || !name_set_init(&s->names, rq, names, n) || !name_set_init(&s->folded, rq, folded, n)) return false;
    s->out.topics = request_alloc(rq, n, sizeof *s->out.topics);
    if (!s->out.topics) return false;
    s->specs = request_alloc(rq, n, sizeof *s->specs);
    if (!s->specs) return false;
    s->overrides = request_alloc(rq, n, sizeof *s->overrides);
    if (!s->overrides) return false;
    for (size_t k = 0; k < n; k++) {
        int32_t i = s->out.topics_n;
        names[i] = s->in.topics[k].name;
        int32_t before = name_set_add(&s->names, i);
        if (before >= 0) {
            refuse(&s->out.topics[before], KERR_INVALID_REQUEST, STR_LIT("Duplicate topic name."));
            continue;
        }
        folded[i] = fold(rq, names[i]);
        s->specs[i] = &s->in.topics[k];
        k_create_topics_response_topics_init(&s->out.topics[i]);
        s->out.topics[i].name = names[i];
        s->out.topics[i].error_message = STR_NULL;
        s->out.topics_n++;
        if (!copy_overrides(s, i)) return false;
    }
    return true;
}

void api_create_topics(struct request *rq) {
    struct create_state *s = request_alloc(rq, 1, sizeof *s);
    if (!s) return;
    s->rq = rq;
    if (!request_decoded(rq, k_create_topics_request_decode(&s->in, &rq->body, request_version(rq)))) return;
    k_create_topics_response_init(&s->out);
    if (!prepare(s)) return;
    s->change = (struct controller_change){.caller = rq->reactor, .make = make, .done = done, .owner = s};
    controller_submit(request_broker(rq)->controller, &s->change);
}

/* ---- topics made on first use ------------------------------------------------------------------------------ */

struct auto_create {
    struct controller_change change;
    uint32_t count;
    struct str names[];                  /* their bytes follow */
};

static void auto_make(struct controller_change *ch, struct controller_edit *e) {
    struct auto_create *a = ch->owner;
    const struct config *c = &controller_edit_broker(e)->config;
    struct placement p;
    placement_of_image(&p, controller_edit_broker(e), controller_edit_image(e), (uint64_t)controller_edit_image(e)->partition_count);
    int32_t replicas = c->default_replication_factor;
    if (p.up == 0 || (uint32_t)replicas > p.count || replicas > IMAGE_REPLICAS_MAX) return; /* as CreateTopics refuses */
    int64_t partitions = controller_edit_image(e)->partition_count;
    for (uint32_t i = 0; i < a->count; i++) {
        const struct image *im = controller_edit_image(e);
        if (image_topic_by_name(im, a->names[i]) || image_topic_colliding(im, a->names[i])) continue;
        partitions += c->num_partitions;
        if (partitions > c->max_topic_partitions) return;
        struct uuid id;
        controller_edit_new_uuid(e, &id);
        add_topic(e, &id, a->names[i], NULL, 0);
        add_placed(e, &id, &p, c->num_partitions, replicas);
    }
}

static void auto_done(struct controller_change *ch) {
    if (ch->err) trace_warn("metadata", "creating a topic on first use failed: %s", err_str(ch->err));
    free(ch->owner);
}

void topics_auto_create(struct request *rq, const struct str *names, uint32_t count) {
    size_t bytes = 0;
    for (uint32_t i = 0; i < count; i++) bytes += (size_t)names[i].len;
    struct auto_create *a = calloc(1, sizeof *a + count * sizeof a->names[0] + bytes);
    if (!a) return; /* the client asks again */
    char *text = (char *)&a->names[count];
    for (uint32_t i = 0; i < count; i++) {
        bool twice = false;
        for (uint32_t k = 0; k < a->count; k++) twice = twice || str_eq(a->names[k], names[i]);
        if (twice) continue;
        memcpy(text, names[i].p, (size_t)names[i].len);
        a->names[a->count++] = (struct str){text, names[i].len};
        text += names[i].len;
    }
    a->change = (struct controller_change){.caller = rq->reactor, .make = auto_make, .done = auto_done, .owner = a};
    controller_submit(request_broker(rq)->controller, &a->change);
}
