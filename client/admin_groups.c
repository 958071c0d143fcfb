/* admin_groups.c - groups from outside: list, describe, delete. */
#include "client/admin_groups.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/admin_impl.h"
#include "proto/kafka_errors.h"
#include "proto/kafka_messages.h"

enum { RESULT_BYTES_MAX = 256 << 20, SUBSCRIPTION_VERSION_MAX = 3, FILTERS_MAX = 16, VERSION_WITH_KEYS = 4 };

/* ---- the coordinator -------------------------------------------------------------------------- */

static void encode_find(const void *message, struct wire_writer *w, int16_t version) {
    const struct str *group = message;
    struct str key = *group;
    struct k_find_coordinator_request m;
    k_find_coordinator_request_init(&m);
    if (version >= VERSION_WITH_KEYS) {
        m.coordinator_keys = &key;
        m.coordinator_keys_n = 1;
    } else {
        m.key = key;
    }
    k_find_coordinator_request_encode(&m, w, version);
}

static enum err decode_find(void *m, struct wire_reader *r, int16_t version) {
    return k_find_coordinator_response_decode(m, r, version);
}

static bool worth_repeating(int16_t code) {
    return code == KERR_NOT_COORDINATOR || code == KERR_COORDINATOR_NOT_AVAILABLE || code == KERR_COORDINATOR_LOAD_IN_PROGRESS;
}

static int32_t left_ms(int64_t deadline_ns) {
    if (deadline_ns == INT64_MAX) return -1;
    int64_t ms = (deadline_ns - client_now_ns() + 999999) / 1000000;
    return (int32_t)MAX((int64_t)0, MIN(ms, (int64_t)INT32_MAX));
}

/* One attempt. `host` has room for 256. */
static enum err find(struct client *c, const char *group, int64_t deadline_ns, struct client_broker *out, char *host) {
    struct k_find_coordinator_response m;
    struct str key = str_from(group);
    struct client_exchange x = {.api_key = API_FIND_COORDINATOR, .version_max = INT16_MAX, .broker = CLIENT_ANY,
                                .request = &key, .encode = encode_find, .response = &m, .decode = decode_find};
    struct client_reply reply;
    enum err err = client_ask(c, &x, deadline_ns, &reply);
    if (err) return err;
    bool many = reply.version >= VERSION_WITH_KEYS;
    if (many && m.coordinators_n != 1) {
        client_reply_free(&reply);
        return client_fail(c, ERR_CORRUPT, 0, "the answer to FindCoordinator is about something else");
    }
    int16_t code = many ? m.coordinators[0].error_code : m.error_code;
    struct str where = many ? m.coordinators[0].host : m.host;
    *out = (struct client_broker){.id = many ? m.coordinators[0].node_id : m.node_id, .host = host,
                                  .port = many ? m.coordinators[0].port : m.port};
    snprintf(host, 256, "%.*s", MAX(where.len, 0), where.p ? where.p : "");
    if (code != KERR_NONE) err = client_fail_code(c, code, STR_NULL, "coordinator of \"%s\"", group);
    else err = client_know_broker(c, out->id, where, out->port, client_now_ns());
    client_reply_free(&reply);
    return err;
}

enum err group_admin_run(struct client *c, const char *group, struct client_exchange *x, int32_t timeout_ms, bool again,
                         admin_result_fn *result, const char *what, struct client_broker *coordinator, char *host,
                         struct client_reply *reply) {
    int64_t deadline_ns = client_deadline(timeout_ms);
    for (int32_t attempt = 0;; attempt++) {
        enum err err = find(c, group, deadline_ns, coordinator, host);
        x->broker = coordinator->id;
        bool repeat = err && worth_repeating(client_error_code(c));
        if (!err) {
            err = client_call(c, x, left_ms(deadline_ns), reply);
            repeat = again && (err == ERR_CLOSED || err == ERR_TIMEOUT);
        }
        if (!err) {
            struct admin_result res = {0};
            result(x->response, &res);
            if (res.present && res.code == KERR_NONE) return OK;
            if (res.present) err = client_fail_code(c, res.code, res.message, "%s", what);
            else err = client_fail(c, ERR_CORRUPT, 0, "%s: the answer is about something else", what);
            if (res.code == KERR_GROUP_ID_NOT_FOUND) err = ERR_NOT_FOUND;
            if (res.code == KERR_NON_EMPTY_GROUP || res.code == KERR_GROUP_SUBSCRIBED_TO_TOPIC) err = ERR_BUSY;
            client_reply_free(reply);
            repeat = worth_repeating(res.code);
        }
        if (!repeat || !client_pause(c, attempt, deadline_ns)) return err;
    }
}

/* ---- copies ----------------------------------------------------------------------------------- */

/* NULL also for a null; the arena tells whether it was full. */
static const char *copy(struct arena *a, struct str s, bool *full) {
    char *z = s.p ? arena_strdup(a, s) : NULL;
    if (s.p && !z) *full = true;
    return z;
}

static int compare_partitions(const void *a, const void *b) {
    const struct admin_partition *x = a, *y = b;
    int order = strcmp(x->topic, y->topic);
    return order ? order : (x->partition > y->partition) - (x->partition < y->partition);
}

/* ---- list ------------------------------------------------------------------------------------- */

ADMIN_ADAPTERS(list_groups)

struct listing { struct admin_groups groups; struct arena arena; struct admin_group *rows; int32_t count, room; };

static int compare_groups(const void *a, const void *b) {
    return strcmp(((const struct admin_group *)a)->name, ((const struct admin_group *)b)->name);
}

static enum err add_groups(struct listing *l, const struct k_list_groups_response *m) {
    bool full = false;
    for (int32_t i = 0; i < m->groups_n; i++) {
        if (l->count == l->room) {
            int32_t room = l->room ? l->room * 2 : 64;
            struct admin_group *rows = realloc(l->rows, (size_t)room * sizeof *rows);
            if (!rows) return ERR_NOMEM;
            l->rows = rows;
            l->room = room;
        }
        const struct k_list_groups_response_groups *g = &m->groups[i];
        struct admin_group *row = &l->rows[l->count++];
        row->name = copy(&l->arena, g->group_id, &full);
        row->protocol_type = copy(&l->arena, g->protocol_type, &full);
        row->state = copy(&l->arena, g->group_state, &full);
        row->type = copy(&l->arena, g->group_type, &full);
        if (full || !row->name || !row->protocol_type || !row->state || !row->type) return ERR_NOMEM;
    }
    return OK;
}

static int32_t split(const char *list, struct str out[static FILTERS_MAX]) {
    int32_t n = 0;
    for (const char *p = list; p && *p && n < FILTERS_MAX;) {
        size_t len = strcspn(p, ",");
        if (len > 0) out[n++] = (struct str){p, (int32_t)len};
        p += len + (p[len] == ',');
    }
    return n;
}

struct filters { struct str states[FILTERS_MAX], types[FILTERS_MAX]; int32_t state_count, type_count; };

static void encode_filtered(const void *message, struct wire_writer *w, int16_t version) {
    const struct filters *f = message;
    struct k_list_groups_request m;
    k_list_groups_request_init(&m);
    m.states_filter = (struct str *)f->states;
    m.states_filter_n = version >= 4 ? f->state_count : 0;
    m.types_filter = (struct str *)f->types;
    m.types_filter_n = version >= 5 ? f->type_count : 0;
    encode_list_groups(&m, w, version);
}

static enum err list_broker(struct client *c, int32_t broker, const struct filters *filters, int64_t deadline_ns, struct listing *l) {
    struct k_list_groups_response m;
    struct client_exchange x = {.api_key = API_LIST_GROUPS, .version_max = INT16_MAX, .broker = broker, .request = filters,
                                .encode = encode_filtered, .response = &m, .decode = decode_list_groups};
    for (int32_t attempt = 0;; attempt++) {
        struct client_reply reply;
        enum err err = client_ask(c, &x, deadline_ns, &reply);
        if (err) return err;
        int16_t code = m.error_code;
        err = code == KERR_NONE ? add_groups(l, &m) : client_fail_code(c, code, STR_NULL, "groups of broker %d", broker);
        client_reply_free(&reply);
        if (!worth_repeating(code) || !client_pause(c, attempt, deadline_ns)) return err;
    }
}

enum err admin_list_groups(struct client *c, const char *states, const char *types, int32_t timeout_ms, struct admin_groups **out) {
    int64_t deadline_ns = client_deadline(timeout_ms);
    struct client_cluster *cluster;
    struct filters filters;
    filters.state_count = split(states, filters.states);
    filters.type_count = split(types, filters.types);
    struct listing *l = calloc(1, sizeof *l);
    if (!l) return client_fail(c, ERR_NOMEM, 0, "out of memory");
    arena_init(&l->arena, RESULT_BYTES_MAX);
    enum err err = client_describe(c, (const char *const[]){""}, 0, timeout_ms, &cluster);
    if (!err) {
        for (int32_t i = 0; i < cluster->broker_count && !err; i++) err = list_broker(c, cluster->brokers[i].id, &filters, deadline_ns, l);
        client_cluster_free(cluster);
    }
    if (l->count > 1) qsort(l->rows, (size_t)l->count, sizeof *l->rows, compare_groups);
    l->groups = (struct admin_groups){l->rows, l->count};
    if (err) admin_groups_free(&l->groups);
    else *out = &l->groups;
    return err;
}

void admin_groups_free(struct admin_groups *groups) {
    if (!groups) return;
    struct listing *l = CONTAINER_OF(groups, struct listing, groups);
    arena_free(&l->arena);
    free(l->rows);
    free(l);
}

/* ---- describe --------------------------------------------------------------------------------- */

ADMIN_ADAPTERS(consumer_group_describe)
ADMIN_ADAPTERS(describe_groups)

struct picture { struct admin_group_details details; struct arena arena; char host[256]; };

void admin_group_details_free(struct admin_group_details *details) {
    if (!details) return;
    struct picture *p = CONTAINER_OF(details, struct picture, details);
    arena_free(&p->arena);
    free(p);
}

static void consumer_result(const void *response, struct admin_result *out) {
    const struct k_consumer_group_describe_response *m = response;
    if (m->groups_n == 1) *out = (struct admin_result){true, m->groups[0].error_code, m->groups[0].error_message};
}

static const struct admin_partition *copy_consumer_parts(struct arena *a, const struct k_consumer_group_describe_response_assignment *from,
                                                         int32_t *count, bool *full) {
    size_t room = 0;
    for (int32_t i = 0; i < from->topic_partitions_n; i++) room += (size_t)MAX(from->topic_partitions[i].partitions_n, 0);
    struct admin_partition *parts = arena_array(a, room + 1, sizeof *parts);
    *count = 0;
    if (!parts) *full = true;
    for (int32_t i = 0; parts && i < from->topic_partitions_n; i++) {
        const char *topic = copy(a, from->topic_partitions[i].topic_name, full);
        for (int32_t j = 0; topic && j < from->topic_partitions[i].partitions_n; j++) {
            parts[(*count)++] = (struct admin_partition){topic, from->topic_partitions[i].partitions[j]};
        }
    }
    if (*count > 1) qsort(parts, (size_t)*count, sizeof *parts, compare_partitions);
    return parts;
}

static const char *const *copy_topics(struct arena *a, const struct str *from, int32_t n, int32_t *count, bool *full) {
    const char **topics = arena_array(a, (size_t)MAX(n, 0) + 1, sizeof *topics);
    *count = 0;
    if (!topics) *full = true;
    for (int32_t i = 0; topics && i < n; i++) {
        const char *topic = copy(a, from[i], full);
        if (topic) topics[(*count)++] = topic;
    }
    return topics;
}

static void copy_consumer_member(struct arena *a, const struct k_consumer_group_describe_response_groups_members *from,
                                 struct admin_member *to, bool *full) {
    *to = (struct admin_member){
        .id = copy(a, from->member_id, full), .instance_id = copy(a, from->instance_id, full), .client_id = copy(a, from->client_id, full),
        .host = copy(a, from->client_host, full), .rack = copy(a, from->rack_id, full), .regex = copy(a, from->subscribed_topic_regex, full),
        .epoch = from->member_epoch, .classic = from->member_type == 0};
    to->topics = copy_topics(a, from->subscribed_topic_names, from->subscribed_topic_names_n, &to->topic_count, full);
    to->partitions = copy_consumer_parts(a, &from->assignment, &to->partition_count, full);
    to->target = copy_consumer_parts(a, &from->target_assignment, &to->target_count, full);
}

static enum err describe_consumer(struct client *c, const char *group, int32_t timeout_ms, struct picture *p) {
    struct k_consumer_group_describe_request m;
    struct k_consumer_group_describe_response res;
    struct str id = str_from(group);
    struct client_reply reply;
    char what[300];
    k_consumer_group_describe_request_init(&m);
    m.group_ids = &id;
    m.group_ids_n = 1;
    snprintf(what, sizeof what, "describe group \"%s\"", group);
    struct client_exchange x = {.api_key = API_CONSUMER_GROUP_DESCRIBE, .version_max = INT16_MAX, .request = &m,
                                .encode = encode_consumer_group_describe, .response = &res, .decode = decode_consumer_group_describe};
    struct admin_group_details *d = &p->details;
    enum err err = group_admin_run(c, group, &x, timeout_ms, true, consumer_result, what, &d->coordinator, p->host, &reply);
    if (err) return err;
    const struct k_consumer_group_describe_response_groups *g = &res.groups[0];
    bool full = false;
    d->name = copy(&p->arena, id, &full);
    d->state = copy(&p->arena, g->group_state, &full);
    d->assignor = copy(&p->arena, g->assignor_name, &full);
    d->type = d->protocol_type = "consumer";
    d->epoch = g->group_epoch;
    d->target_epoch = g->assignment_epoch;
    struct admin_member *members = arena_array(&p->arena, (size_t)MAX(g->members_n, 0) + 1, sizeof *members);
    for (int32_t i = 0; members && i < g->members_n; i++) copy_consumer_member(&p->arena, &g->members[i], &members[i], &full);
    d->members = members;
    d->member_count = g->members_n;
    client_reply_free(&reply);
    return full || !members ? client_fail(c, ERR_NOMEM, 0, "out of memory") : OK;
}

static void classic_result(const void *response, struct admin_result *out) {
    const struct k_describe_groups_response *m = response;
    if (m->groups_n != 1) return;
    *out = (struct admin_result){true, m->groups[0].error_code, m->groups[0].error_message};
    if (out->code == KERR_NONE && str_is(m->groups[0].group_state, "Dead")) out->code = KERR_GROUP_ID_NOT_FOUND; /* before version 6 */
}

/* What a consumer's metadata and assignment say; nothing when they are somebody else's format. */
static void copy_classic_contents(struct arena *a, const struct k_describe_groups_response_groups_members *from, struct admin_member *to,
                                  bool *full) {
    struct k_consumer_protocol_subscription s;
    struct k_consumer_protocol_assignment as;
    struct wire_reader r = wire_reader_init(from->member_metadata.p, (size_t)MAX(from->member_metadata.len, 0), a);
    int16_t version = wire_get_i16(&r);
    if (!r.err && version >= 0 && !k_consumer_protocol_subscription_decode(&s, &r, MIN(version, (int16_t)SUBSCRIPTION_VERSION_MAX))) {
        to->topics = copy_topics(a, s.topics, s.topics_n, &to->topic_count, full);
        to->rack = copy(a, s.rack_id, full);
    }
    r = wire_reader_init(from->member_assignment.p, (size_t)MAX(from->member_assignment.len, 0), a);
    version = wire_get_i16(&r);
    if (r.err || version < 0 || k_consumer_protocol_assignment_decode(&as, &r, MIN(version, (int16_t)SUBSCRIPTION_VERSION_MAX))) return;
    size_t room = 0;
    for (int32_t i = 0; i < as.assigned_partitions_n; i++) room += (size_t)MAX(as.assigned_partitions[i].partitions_n, 0);
    struct admin_partition *parts = arena_array(a, room + 1, sizeof *parts);
    if (!parts) *full = true;
    for (int32_t i = 0; parts && i < as.assigned_partitions_n; i++) {
        const char *topic = copy(a, as.assigned_partitions[i].topic, full);
        for (int32_t j = 0; topic && j < as.assigned_partitions[i].partitions_n; j++) {
            parts[to->partition_count++] = (struct admin_partition){topic, as.assigned_partitions[i].partitions[j]};
        }
    }
    if (to->partition_count > 1) qsort(parts, (size_t)to->partition_count, sizeof *parts, compare_partitions);
    to->partitions = to->target = parts;
    to->target_count = to->partition_count;
}

static enum err describe_classic(struct client *c, const char *group, int32_t timeout_ms, struct picture *p) {
    struct k_describe_groups_request m;
    struct k_describe_groups_response res;
    struct str id = str_from(group);
    struct client_reply reply;
    char what[300];
    k_describe_groups_request_init(&m);
    m.groups = &id;
    m.groups_n = 1;
    snprintf(what, sizeof what, "describe group \"%s\"", group);
    struct client_exchange x = {.api_key = API_DESCRIBE_GROUPS, .version_max = INT16_MAX, .request = &m, .encode = encode_describe_groups,
                                .response = &res, .decode = decode_describe_groups};
    struct admin_group_details *d = &p->details;
    enum err err = group_admin_run(c, group, &x, timeout_ms, true, classic_result, what, &d->coordinator, p->host, &reply);
    if (err) return err;
    const struct k_describe_groups_response_groups *g = &res.groups[0];
    bool full = false;
    d->name = copy(&p->arena, id, &full);
    d->state = copy(&p->arena, g->group_state, &full);
    d->assignor = copy(&p->arena, g->protocol_data, &full);
    d->protocol_type = copy(&p->arena, g->protocol_type, &full);
    d->type = "classic";
    d->epoch = d->target_epoch = -1;
    struct admin_member *members = arena_array(&p->arena, (size_t)MAX(g->members_n, 0) + 1, sizeof *members);
    for (int32_t i = 0; members && i < g->members_n; i++) {
        const struct k_describe_groups_response_groups_members *from = &g->members[i];
        members[i] = (struct admin_member){
            .id = copy(&p->arena, from->member_id, &full), .instance_id = copy(&p->arena, from->group_instance_id, &full),
            .client_id = copy(&p->arena, from->client_id, &full), .host = copy(&p->arena, from->client_host, &full), .epoch = -1, .classic = true};
        if (str_is(g->protocol_type, "consumer")) copy_classic_contents(&p->arena, from, &members[i], &full);
    }
    d->members = members;
    d->member_count = g->members_n;
    client_reply_free(&reply);
    return full || !members ? client_fail(c, ERR_NOMEM, 0, "out of memory") : OK;
}

enum err admin_describe_group(struct client *c, const char *group, int32_t timeout_ms, struct admin_group_details **out) {
    struct picture *p = calloc(1, sizeof *p);
    if (!p) return client_fail(c, ERR_NOMEM, 0, "out of memory");
    arena_init(&p->arena, RESULT_BYTES_MAX);
    enum err err = describe_consumer(c, group, timeout_ms, p);
    bool other = err == ERR_NOT_FOUND || err == ERR_UNSUPPORTED;
    if (other) err = describe_classic(c, group, timeout_ms, p);
    if (err) admin_group_details_free(&p->details);
    else *out = &p->details;
    return err;
}

/* ---- history ---------------------------------------------------------------------------------- */

ADMIN_ADAPTERS(describe_group_history)

struct chronicle { struct admin_group_history history; struct arena arena; };

void admin_group_history_free(struct admin_group_history *history) {
    if (!history) return;
    struct chronicle *h = CONTAINER_OF(history, struct chronicle, history);
    arena_free(&h->arena);
    free(h);
}

static void history_result(const void *response, struct admin_result *out) {
    const struct k_describe_group_history_response *m = response;
    if (m->groups_n == 1) *out = (struct admin_result){true, m->groups[0].error_code, STR_NULL};
}

static bool copy_history(struct chronicle *h, const struct k_describe_group_history_response_groups *g) {
    bool full = false;
    struct admin_rebalance *rows = arena_array(&h->arena, (size_t)MAX(g->rebalances_n, 0) + 1, sizeof *rows);
    for (int32_t i = 0; rows && i < g->rebalances_n; i++) {
        const struct k_describe_group_history_response_groups_rebalances *from = &g->rebalances[i];
        bool known = from->cause >= ADMIN_UNKNOWN_CAUSE && from->cause <= ADMIN_CHANGED;
        rows[i] = (struct admin_rebalance){
            from->begun_ms, from->elapsed_ms, from->epoch, from->members, known ? (enum admin_rebalance_cause)from->cause : ADMIN_UNKNOWN_CAUSE,
            copy(&h->arena, from->member, &full), copy(&h->arena, from->last_member, &full), from->last_after_ms};
    }
    h->history = (struct admin_group_history){.now_ms = g->now_ms, .rebalances = rows, .count = MAX(g->rebalances_n, 0)};
    h->history.waiting_for = copy_topics(&h->arena, g->waiting_for, g->waiting_for_n, &h->history.waiting_count, &full);
    return rows && !full;
}

enum err admin_group_history(struct client *c, const char *group, int32_t timeout_ms, struct admin_group_history **out) {
    struct k_describe_group_history_request m;
    struct k_describe_group_history_response res;
    struct str id = str_from(group);
    struct client_broker coordinator;
    struct client_reply reply;
    char what[300], host[256];
    k_describe_group_history_request_init(&m);
    m.groups = &id;
    m.groups_n = 1;
    snprintf(what, sizeof what, "history of group \"%s\"", group);
    struct client_exchange x = {.api_key = API_DESCRIBE_GROUP_HISTORY, .version_max = 0, .request = &m, .encode = encode_describe_group_history,
                                .response = &res, .decode = decode_describe_group_history};
    struct chronicle *h = calloc(1, sizeof *h);
    if (!h) return client_fail(c, ERR_NOMEM, 0, "out of memory");
    arena_init(&h->arena, RESULT_BYTES_MAX);
    enum err err = group_admin_run(c, group, &x, timeout_ms, false, history_result, what, &coordinator, host, &reply);
    if (!err) {
        if (!copy_history(h, &res.groups[0])) err = client_fail(c, ERR_NOMEM, 0, "out of memory");
        client_reply_free(&reply);
    }
    if (err) admin_group_history_free(&h->history);
    else *out = &h->history;
    return err;
}

/* ---- delete ----------------------------------------------------------------------------------- */

ADMIN_ADAPTERS(delete_groups)

static void delete_result(const void *response, struct admin_result *out) {
    const struct k_delete_groups_response *m = response;
    if (m->results_n == 1) *out = (struct admin_result){true, m->results[0].error_code, STR_NULL};
}

enum err admin_delete_group(struct client *c, const char *group, int32_t timeout_ms) {
    struct k_delete_groups_request m;
    struct k_delete_groups_response res;
    struct str id = str_from(group);
    struct client_broker coordinator;
    struct client_reply reply;
    char what[300], host[256];
    k_delete_groups_request_init(&m);
    m.groups_names = &id;
    m.groups_names_n = 1;
    snprintf(what, sizeof what, "delete group \"%s\"", group);
    struct client_exchange x = {.api_key = API_DELETE_GROUPS, .version_max = INT16_MAX, .request = &m, .encode = encode_delete_groups,
                                .response = &res, .decode = decode_delete_groups};
    enum err err = group_admin_run(c, group, &x, timeout_ms, false, delete_result, what, &coordinator, host, &reply);
    if (!err) client_reply_free(&reply);
    return err;
}
