/* ConsumerGroupHeartbeat: members join, tell what changes, acknowledge and leave. The order of records is Kafka's: member, expression,
 * group epoch, target assignment, current assignment; so a reader of the topic sees states that Kafka could have been in. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/assert.h"
#include "server/group_consumer_impl.h"

typedef const struct k_consumer_group_heartbeat_request request;
typedef struct k_consumer_group_heartbeat_response response;

static void fail(struct change *c, response *reply, int16_t code, const char *why) {
    group_records_reset(c->out);
    k_consumer_group_heartbeat_response_init(reply);
    reply->error_code = code;
    if (why) reply->error_message = str_from(why);
}

static struct str text(struct change *c, const char *format, ...) PRINTF_LIKE(2, 3);
static struct str text(struct change *c, const char *format, ...) {
    char *p = arena_alloc(c->arena, 400);
    if (!p) return STR_NULL;
    va_list args;
    va_start(args, format);
    vsnprintf(p, 400, format, args);
    va_end(args);
    return str_from(p);
}

/* ---- what is wrong with the request itself ---------------------------------------------------- */

static int16_t check_assignor(struct change *c, struct str name, response *reply) {
    if (!name.p) return 0;
    for (uint32_t i = 0; i < c->env->assignors_n; i++)
        if (str_eq(name, c->env->assignors[i])) return 0;
    char known[200] = "";
    for (uint32_t i = 0; i < c->env->assignors_n; i++) {
        size_t at = strlen(known);
        snprintf(known + at, sizeof known - at, "%s%.*s", i ? ", " : "", c->env->assignors[i].len, c->env->assignors[i].p);
    }
    struct str why = text(c, "ServerAssignor %.*s is not supported. Supported assignors: %s.", MIN(name.len, 100), name.p, known);
    fail(c, reply, KERR_UNSUPPORTED_ASSIGNOR, NULL);
    reply->error_message = why;
    return KERR_UNSUPPORTED_ASSIGNOR;
}

static const char *check_request(request *rq, int16_t version) {
    if ((version >= 1 || rq->member_epoch > 0 || rq->member_epoch == CONSUMER_LEAVE_EPOCH) && rq->member_id.len == 0) return "MemberId can't be empty.";
    if (rq->group_id.len == 0) return "GroupId can't be empty.";
    if (rq->instance_id.p && rq->instance_id.len == 0) return "InstanceId can't be empty.";
    if (rq->rack_id.p && rq->rack_id.len == 0) return "RackId can't be empty.";
    if (rq->member_epoch == 0) {
        if (rq->rebalance_timeout_ms == -1) return "RebalanceTimeoutMs must be provided in first request.";
        if (rq->topic_partitions_n != 0) return "TopicPartitions must be empty when (re-)joining.";
        if (rq->subscribed_topic_names_n < 0 && !rq->subscribed_topic_regex.p)
            return "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.";
    } else if (rq->member_epoch == CONSUMER_STATIC_LEAVE_EPOCH) {
        if (!rq->instance_id.p) return "InstanceId can't be null.";
    } else if (rq->member_epoch < CONSUMER_STATIC_LEAVE_EPOCH) {
        return "MemberEpoch is invalid.";
    }
    for (int32_t t = 0; t < rq->topic_partitions_n; t++)
        for (int32_t p = 0; p < rq->topic_partitions[t].partitions_n; p++)
            if (rq->topic_partitions[t].partitions[p] < 0) return "TopicPartitions has a negative partition.";
    return NULL;
}

/* ---- who it is -------------------------------------------------------------------------------- */

/* A client whose answer got lost is an epoch behind: fine, as long as it owns nothing that it was not given. */
static bool epoch_is_fenced(const struct consumer_member *m, int32_t epoch, bool owned_known, const struct group_parts *owned) {
    if (epoch == 0 || epoch == m->current.epoch) return false;
    if (epoch > m->current.epoch || epoch != m->current.previous_epoch || !owned_known) return true;
    for (uint32_t i = 0; i < owned->n; i++)
        if (!group_parts_find(&m->current.assigned, &owned->list[i].topic, owned->list[i].partition)) return true;
    return false;
}

/* Sets c->old or c->replaced, or neither for a new member. */
static int16_t locate(struct change *c, request *rq, bool owned_known, const struct group_parts *owned, const char **why) {
    struct consumer_member *m;
    if (rq->instance_id.p) {
        m = consumer_member_by_instance(c->g, rq->instance_id);
        if (!m && rq->member_epoch != 0) return *why = "Instance id is unknown.", KERR_UNKNOWN_MEMBER_ID;
        if (m && !str_eq(member_id(m), c->id)) {
            if (rq->member_epoch != 0) return *why = "Static member has been fenced by another member with the same instance id.", KERR_FENCED_INSTANCE_ID;
            if (!member_is_classic(m) && m->current.epoch != CONSUMER_STATIC_LEAVE_EPOCH)
                return *why = "The instance id is in use by another member of the group.", KERR_UNRELEASED_INSTANCE_ID;
            c->replaced = m;
            return 0;
        }
        /* The id of a dynamic member, or of another instance, is not taken over. */
        if (!m && consumer_member_find(c->g, c->id)) m = consumer_member_find(c->g, c->id);
    } else {
        m = consumer_member_find(c->g, c->id);
        if (!m && rq->member_epoch != 0) return *why = "The member is unknown to the group.", KERR_UNKNOWN_MEMBER_ID;
    }
    c->old = m;
    if (m && epoch_is_fenced(m, rq->member_epoch, owned_known, owned))
        return *why = "The member epoch is not the one that the group knows. The member must abandon all its partitions and rejoin.", KERR_FENCED_MEMBER_EPOCH;
    return 0;
}

/* ---- what it says ----------------------------------------------------------------------------- */

bool member_meta_equal(const member_meta *a, const member_meta *b) {
    if (!str_eq(a->instance_id, b->instance_id) || !str_eq(a->rack_id, b->rack_id) || !str_eq(a->client_id, b->client_id) ||
        !str_eq(a->client_host, b->client_host) || !str_eq(a->subscribed_topic_regex, b->subscribed_topic_regex) ||
        !str_eq(a->server_assignor, b->server_assignor) || a->rebalance_timeout_ms != b->rebalance_timeout_ms)
        return false;
    const struct k_consumer_group_member_metadata_value_classic_member_metadata *x = a->classic_member_metadata, *y = b->classic_member_metadata;
    if (!x || !y) return x == y;
    if (x->session_timeout_ms != y->session_timeout_ms || x->supported_protocols_n != y->supported_protocols_n) return false;
    for (int32_t i = 0; i < x->supported_protocols_n; i++) {
        struct bytes p = x->supported_protocols[i].metadata, q = y->supported_protocols[i].metadata;
        if (!str_eq(x->supported_protocols[i].name, y->supported_protocols[i].name)) return false;
        if (!str_eq((struct str){(const char *)p.p, p.len}, (struct str){(const char *)q.p, q.len})) return false;
    }
    return true;
}

bool member_names_equal(const member_meta *a, const member_meta *b) {
    if (a->subscribed_topic_names_n != b->subscribed_topic_names_n) return false;
    if (a->subscribed_topic_names == b->subscribed_topic_names) return true;
    for (int32_t i = 0; i < a->subscribed_topic_names_n; i++)
        if (!str_eq(a->subscribed_topic_names[i], b->subscribed_topic_names[i])) return false;
    return true;
}

void change_set_topics(struct change *c, const struct str *list, int32_t list_n) {
    uint32_t n = (uint32_t)MAX(list_n, 0);
    struct str *names = arena_array(c->arena, MAX(n, 1u), sizeof *names);
    if (!names) {
        c->nomem = true;
        return;
    }
    if (n) memcpy(names, list, n * sizeof *names);
    str_sort_unique(names, &n);
    c->meta.subscribed_topic_names = names;
    c->meta.subscribed_topic_names_n = (int32_t)n;
}

/* The member as it is after the request; c->meta starts as it was. */
static void apply_request(struct change *c, request *rq, const struct group_client *client) {
    member_meta *meta = &c->meta;
    if (rq->instance_id.p) meta->instance_id = rq->instance_id;
    if (rq->rack_id.p) meta->rack_id = rq->rack_id;
    if (rq->rebalance_timeout_ms != -1) meta->rebalance_timeout_ms = rq->rebalance_timeout_ms;
    if (rq->server_assignor.p) meta->server_assignor = rq->server_assignor;
    if (rq->subscribed_topic_regex.p) meta->subscribed_topic_regex = str_given(rq->subscribed_topic_regex) ? rq->subscribed_topic_regex : STR_NULL;
    if (rq->subscribed_topic_names_n >= 0) change_set_topics(c, rq->subscribed_topic_names, rq->subscribed_topic_names_n);
    meta->client_id = client->client_id.p ? client->client_id : STR_LIT("");
    meta->client_host = client->client_host.p ? client->client_host : STR_LIT("");
    meta->classic_member_metadata = NULL;
}

/* A new expression of the member: 0, or INVALID_REGULAR_EXPRESSION. Resolved at once when topics are few. */
static int16_t learn_regex(struct change *c, struct str *why) {
    struct str regex = c->meta.subscribed_topic_regex;
    const struct consumer_regex *known = consumer_regex_find(c->g, regex);
    if (known && (known->resolved || known->members > 0)) return 0; /* it was good enough for others */
    char reason[160] = "";
    struct group_regex *re;
    enum err err = group_regex_compile(regex, &re, reason, sizeof reason);
    if (err == ERR_NOMEM) c->nomem = true;
    if (err == ERR_INVALID) {
        *why = text(c, "SubscribedTopicRegex `%.*s` is not a valid regular expression: %s.", MIN(regex.len, 120), regex.p, reason);
        return KERR_INVALID_REGULAR_EXPRESSION;
    }
    if (err != OK) return 0;
    const struct group_topics *topics = c->env->topics;
    struct change_regex *result = arena_alloc(c->arena, sizeof *result);
    struct str *matched = arena_array(c->arena, MAX(topics->count, 1u), sizeof *matched);
    uint32_t matched_n = 0;
    uint64_t cost = 0;
    bool small = matched != NULL && result != NULL;
    for (uint32_t i = 0; i < topics->count && small; i++) {
        struct group_topic t;
        bool matches = false;
        topics->at(topics->image, i, &t);
        cost += group_regex_cost(re, (size_t)t.name.len);
        small = cost <= CONSUMER_GROUP_INLINE_REGEX;
        if (!small || t.internal) continue;
        err = group_regex_match(re, t.name, &matches);
        if (err == ERR_TOO_LARGE) {
            group_regex_free(re);
            *why = text(c, "SubscribedTopicRegex `%.*s` is too expensive.", MIN(regex.len, 120), regex.p);
            return KERR_INVALID_REGULAR_EXPRESSION;
        }
        if (err != OK) small = false;
        if (matches) matched[matched_n++] = t.name;
    }
    group_regex_free(re);
    if (!small) return 0; /* consumer_group_tick() */
    *result = (struct change_regex){regex, matched, matched_n};
    c->regexes = result;
    c->regexes_n = 1;
    return 0;
}

/* ---- joining and staying ---------------------------------------------------------------------- */

static void put_replaced(struct change *c) {
    if (!c->replaced) return;
    change_put_removed(c, member_id(c->replaced));
}

/* Whether the group epoch is to be raised; the hash is looked up when it may have changed. */
static bool raises_epoch(struct change *c, bool names_changed, bool regex_changed) {
    struct consumer_group *g = c->g;
    const struct consumer_regex *re = consumer_regex_find(g, c->meta.subscribed_topic_regex);
    bool regex_counts = regex_changed && (!str_given(c->meta.subscribed_topic_regex) || c->regexes_n > 0 || (re && re->resolved));
    bool raise = names_changed || regex_counts || (!c->old && !c->replaced);
    bool looked_up = g->hash_checked && g->hash_version == c->env->topics->version;
    if (looked_up && !(raise && change_touches_topics(c))) return raise;
    int64_t hash = change_hash(c);
    if (!raise && hash == g->metadata_hash) {
        g->hash_checked = true;
        g->hash_version = c->env->topics->version;
    }
    raise |= hash != g->metadata_hash;
    c->metadata_hash = hash;
    return raise;
}

static void reply_assignment(struct change *c, response *reply) {
    reply->assignment = arena_alloc(c->arena, sizeof *reply->assignment);
    struct group_topic_parts *topics;
    if (!reply->assignment || group_parts_by_topic(&c->current.assigned, c->arena, &topics, &reply->assignment->topic_partitions_n) != OK) {
        c->nomem = true;
        return;
    }
    reply->assignment->topic_partitions = (void *)topics;
}

void member_meta_init(member_meta *meta) {
    k_consumer_group_member_metadata_value_init(meta);
    meta->instance_id = meta->rack_id = meta->subscribed_topic_regex = meta->server_assignor = STR_NULL;
}

void change_begin_member(struct change *c) {
    const struct consumer_member *before = c->old ? c->old : c->replaced;
    c->has_member = true;
    member_meta_init(&c->meta);
    if (!before) return;
    c->meta = before->meta;
    c->current = before->current;
    c->target = before->target;
    if (c->replaced || c->current.epoch == CONSUMER_STATIC_LEAVE_EPOCH) c->current.epoch = c->current.previous_epoch = 0;
}

void change_member(struct change *c, const member_meta *was, bool owned_known, const struct group_parts *owned) {
    bool names_changed = !member_names_equal(was, &c->meta);
    bool regex_changed = !str_eq(was->subscribed_topic_regex, c->meta.subscribed_topic_regex);
    put_replaced(c);
    if (!c->old || names_changed || !member_meta_equal(was, &c->meta)) change_put_meta(c);
    if (c->replaced) change_put_target(c, c->id, &c->target);
    if (c->regexes_n) change_put_regex(c, c->regexes);
    if (regex_changed) change_drop_regexes(c);
    if (raises_epoch(c, names_changed, regex_changed)) change_put_epoch(c);
    (void)change_assign(c); /* what is too large, or too early, is due in consumer_group_tick() */
    if (change_reconcile(c, names_changed || regex_changed, owned_known, owned) || !c->old) change_put_current(c);
}

static void stay(struct change *c, request *rq, const struct group_client *client, bool owned_known, const struct group_parts *owned, response *reply) {
    struct str why = STR_NULL;
    change_begin_member(c);
    const member_meta was = c->meta;
    const struct group_parts had = c->current.assigned;
    apply_request(c, rq, client);
    if (str_given(c->meta.subscribed_topic_regex) && !str_eq(was.subscribed_topic_regex, c->meta.subscribed_topic_regex)) {
        int16_t code = learn_regex(c, &why);
        if (code) {
            fail(c, reply, code, NULL);
            reply->error_message = why;
            return;
        }
    }
    change_member(c, &was, owned_known, owned);

    reply->member_id = c->id;
    reply->member_epoch = c->current.epoch;
    reply->heartbeat_interval_ms = c->env->heartbeat_interval_ms;
    bool full = rq->rebalance_timeout_ms != -1 && (rq->subscribed_topic_names_n >= 0 || rq->subscribed_topic_regex.p) && rq->topic_partitions_n >= 0;
    if (rq->member_epoch == 0 || full || !group_parts_equal(&had, &c->current.assigned, false)) reply_assignment(c, reply);
    if (c->old) {
        consumer_timer_set(c->g, &c->old->session_ms, c->env->now_ms + c->env->session_timeout_ms);
        c->old->join_ms = c->old->sync_ms = INT64_MAX;
    }
}

/* ---- leaving ---------------------------------------------------------------------------------- */

static void leave(struct change *c, request *rq, response *reply) {
    struct consumer_member *m;
    if (rq->instance_id.p) {
        m = consumer_member_by_instance(c->g, rq->instance_id);
        if (!m) return fail(c, reply, KERR_UNKNOWN_MEMBER_ID, "Instance id is unknown.");
        if (!str_eq(member_id(m), rq->member_id)) return fail(c, reply, KERR_FENCED_INSTANCE_ID, "Static member has been fenced by another member with the same instance id.");
    } else {
        m = consumer_member_find(c->g, rq->member_id);
        if (!m) return fail(c, reply, KERR_UNKNOWN_MEMBER_ID, "The member is unknown to the group.");
    }
    reply->member_id = rq->member_id;
    reply->member_epoch = rq->member_epoch;
    if (rq->member_epoch == CONSUMER_STATIC_LEAVE_EPOCH) {
        /* It keeps its partitions for the member that will come back under its instance id, for a session's time. */
        c->id = member_id(m);
        c->current = m->current;
        c->current.epoch = CONSUMER_STATIC_LEAVE_EPOCH;
        c->current.pending = (struct group_parts){0};
        struct group_parts assigned;
        if (group_parts_room(&assigned, c->current.assigned.n, c->arena) != OK) {
            c->nomem = true;
            return;
        }
        for (uint32_t i = 0; i < c->current.assigned.n; i++)
            group_parts_add(&assigned, &c->current.assigned.list[i].topic, c->current.assigned.list[i].partition, 0);
        c->current.assigned = assigned;
        change_put_current(c);
        return;
    }
    c->gone = &m;
    c->gone_n = 1;
    change_fence(c);
    c->gone = NULL;
    c->gone_n = 0;
}

void consumer_group_heartbeat(struct consumer_group *g, const struct group_env *env, request *rq, int16_t version, const struct group_client *client,
                              struct str fresh_id, struct arena *arena, struct group_records *out, response *reply) {
    struct change c;
    change_init(&c, g, env, arena, out);
    k_consumer_group_heartbeat_response_init(reply);
    const char *why = check_request(rq, version);
    if (why) return fail(&c, reply, KERR_INVALID_REQUEST, why);
    if (check_assignor(&c, rq->server_assignor, reply)) return;
    if (rq->member_epoch < 0) {
        leave(&c, rq, reply);
    } else {
        struct group_parts owned = {0};
        c.id = rq->member_id.len ? rq->member_id : fresh_id;
        if (group_parts_from_topics((const struct group_topic_parts *)rq->topic_partitions, rq->topic_partitions_n, arena, &owned) != OK) c.nomem = true;
        int16_t code = c.nomem ? 0 : locate(&c, rq, rq->topic_partitions_n >= 0, &owned, &why);
        if (code) return fail(&c, reply, code, why);
        if (!c.old && !c.replaced && (int64_t)g->member_count >= env->max_size)
            return fail(&c, reply, KERR_GROUP_MAX_SIZE_REACHED, "The consumer group has reached its maximum capacity.");
        if (env->memory_full && ((!c.old && !c.replaced) || rq->subscribed_topic_names_n > 0 || rq->subscribed_topic_regex.p))
            return fail(&c, reply, KERR_COORDINATOR_NOT_AVAILABLE, "The memory for groups is used up.");
        if (!c.nomem) stay(&c, rq, client, rq->topic_partitions_n >= 0, &owned, reply);
    }
    if (c.nomem || (reply->error_code == 0 && out->err != OK)) fail(&c, reply, KERR_COORDINATOR_NOT_AVAILABLE, "The change does not fit into memory or one batch.");
}
