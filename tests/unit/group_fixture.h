/* group_fixture.h - a broker for tests of groups, and the requests of members of both protocols and of administrators. */
#ifndef TESTS_UNIT_GROUP_FIXTURE_H
#define TESTS_UNIT_GROUP_FIXTURE_H
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include "proto/kafka_errors.h"
#include "server/group_coordinator_impl.h"
#include "tests/unit/broker_fixture.h"

enum { KEY_OFFSET_COMMIT = 8, KEY_OFFSET_FETCH = 9, KEY_JOIN = 11, KEY_HEARTBEAT = 12, KEY_LEAVE = 13, KEY_SYNC = 14,
       KEY_DESCRIBE = 15, KEY_LIST = 16, KEY_DELETE = 42, KEY_OFFSET_DELETE = 47,
       KEY_GROUP_HEARTBEAT = 68, KEY_GROUP_DESCRIBE = 69 };

static struct fixture f;
static struct client c;

static inline void set_up_with(const char *settings) {
    fixture_start(&f, settings);
    client_open(&c, &f);
    ck_assert_int_eq(create_topic(&c, "t", 4), 0);
}
static inline void set_up(void) {
    set_up_with("offsets.topic.num.partitions=4\ngroup.initial.rebalance.delay.ms=0\ngroup.min.session.timeout.ms=100\n");
}
static inline void tear_down(void) {
    client_close(&c);
    fixture_stop(&f);
}

static inline int16_t find_coordinator(int16_t v, const char *group) {
    struct k_find_coordinator_request q;
    struct k_find_coordinator_response a;
    struct str keys[2] = {str_from(group), STR_LIT("another")};
    k_find_coordinator_request_init(&q);
    if (v < 4) q.key = keys[0];
    else q.coordinator_keys = keys;
    q.coordinator_keys_n = v < 4 ? 0 : 2;
    CALL(&c, KEY_FIND_COORDINATOR, v, find_coordinator, q, a);
    if (v < 4) {
        if (!a.error_code) ck_assert(a.node_id == FIXTURE_ID && a.port == f.port && str_is(a.host, "127.0.0.1"));
        return a.error_code;
    }
    ck_assert_int_eq(a.coordinators_n, 2);
    ck_assert(str_is(a.coordinators[1].key, "another"));
    if (!a.coordinators[0].error_code) ck_assert(a.coordinators[0].node_id == FIXTURE_ID && a.coordinators[0].port == f.port);
    return a.coordinators[0].error_code;
}

struct committer { int32_t generation; const char *member, *instance; };

static inline int16_t commit_as(int16_t v, const char *group, struct committer who, const char *topic, int32_t partition, int64_t offset,
                         const char *metadata) {
    struct k_offset_commit_request q;
    struct k_offset_commit_response a;
    struct k_offset_commit_request_topics t;
    struct k_offset_commit_request_topics_partitions p;
    k_offset_commit_request_init(&q);
    k_offset_commit_request_topics_init(&t);
    k_offset_commit_request_topics_partitions_init(&p);
    q.group_id = str_from(group);
    q.generation_id_or_member_epoch = who.generation;
    q.member_id = str_from(who.member);
    if (v >= 7) q.group_instance_id = str_from(who.instance);
    if (v < 10) t.name = str_from(topic);
    else t.topic_id = topic_id(&c, topic);
    p.partition_index = partition;
    p.committed_offset = offset;
    if (v >= 6) p.committed_leader_epoch = 1;
    p.committed_metadata = str_from(metadata);
    t.partitions = &p;
    q.topics = &t;
    t.partitions_n = q.topics_n = 1;
    CALL(&c, KEY_OFFSET_COMMIT, v, offset_commit, q, a);
    ck_assert_int_eq(a.topics_n, 1);
    ck_assert(v >= 10 ? uuid_eq(&a.topics[0].topic_id, &t.topic_id) : str_is(a.topics[0].name, topic));
    ck_assert_int_eq(a.topics[0].partitions[0].partition_index, partition);
    return a.topics[0].partitions[0].error_code;
}
static inline int16_t commit(int16_t v, const char *group, const char *topic, int32_t partition, int64_t offset) {
    return commit_as(v, group, (struct committer){-1, "", NULL}, topic, partition, offset, NULL);
}

struct fetched_offset { int16_t error, group_error; int64_t offset; int32_t epoch; char metadata[64]; int32_t topics; };

static inline void take(struct fetched_offset *r, int64_t offset, int32_t epoch, struct str metadata, int16_t error) {
    r->offset = offset;
    r->epoch = epoch;
    r->error = error;
    snprintf(r->metadata, sizeof r->metadata, "%.*s", metadata.len, metadata.p ? metadata.p : "");
}

/* Partition `partition` of `topic`; a null topic: all, of which the first is shown. */
static inline struct fetched_offset committed(int16_t v, const char *group, const char *topic, int32_t partition) {
    struct k_offset_fetch_request q;
    struct k_offset_fetch_response a;
    struct k_offset_fetch_request_topics t = {.name = str_from(topic), .partition_indexes = &partition, .partition_indexes_n = 1};
    struct k_offset_fetch_request_groups g;
    struct k_offset_fetch_request_groups_topics gt = {.name = t.name, .partition_indexes = &partition, .partition_indexes_n = 1};
    struct fetched_offset r = {0};
    k_offset_fetch_request_init(&q);
    k_offset_fetch_request_groups_init(&g);
    if (v < 8) {
        q.group_id = str_from(group);
        q.topics = topic ? &t : NULL;
        q.topics_n = topic ? 1 : -1;
    } else {
        if (v >= 10 && topic) gt.topic_id = topic_id(&c, topic);
        g.group_id = str_from(group);
        g.topics = topic ? &gt : NULL;
        g.topics_n = topic ? 1 : -1;
        q.groups = &g;
        q.groups_n = 1;
    }
    if (v >= 7) q.require_stable = v % 2;
    CALL(&c, KEY_OFFSET_FETCH, v, offset_fetch, q, a);
    r.group_error = v < 8 ? a.error_code : a.groups[0].error_code;
    r.topics = v < 8 ? a.topics_n : a.groups[0].topics_n;
    r.offset = -2;
    if (r.topics <= 0) return r;
    if (v < 8) {
        const struct k_offset_fetch_response_topics_partitions *p = &a.topics[0].partitions[0];
        take(&r, p->committed_offset, v >= 5 ? p->committed_leader_epoch : -1, p->metadata, p->error_code);
    } else {
        const struct k_offset_fetch_response_groups_topics_partitions *p = &a.groups[0].topics[0].partitions[0];
        take(&r, p->committed_offset, p->committed_leader_epoch, p->metadata, p->error_code);
    }
    return r;
}

/* ---- members ------------------------------------------------------------------------------------------------ */

struct joiner {
    const char *member, *instance, *protocols[2], *metadata; /* metadata "": the protocol's name */
    int32_t session_ms, rebalance_ms;
    const char *type;
};

static inline void join_send(struct client *on, int16_t v, const char *group, struct joiner j) {
    struct k_join_group_request q;
    struct k_join_group_request_protocols p[2];
    k_join_group_request_init(&q);
    q.group_id = str_from(group);
    q.session_timeout_ms = j.session_ms ? j.session_ms : 30000;
    if (v >= 1) q.rebalance_timeout_ms = j.rebalance_ms ? j.rebalance_ms : 60000;
    q.member_id = str_from(j.member ? j.member : "");
    if (v >= 5) q.group_instance_id = str_from(j.instance);
    q.protocol_type = str_from(j.type ? j.type : "consumer");
    for (int i = 0; i < 2 && j.protocols[i]; i++) {
        k_join_group_request_protocols_init(&p[i]);
        p[i].name = str_from(j.protocols[i]);
        const char *metadata = j.metadata ? j.metadata : j.protocols[i];
        p[i].metadata = (struct bytes){(const uint8_t *)metadata, (int32_t)strlen(metadata)};
        q.protocols_n = i + 1;
    }
    q.protocols = p;
    k_join_group_request_encode(&q, client_begin(on, KEY_JOIN, v), v);
    client_send(on);
}
static inline struct k_join_group_response join_receive(struct client *on, int16_t v) {
    struct k_join_group_response a;
    struct wire_reader r;
    ck_assert(client_receive(on, &r));
    ck_assert_int_eq(k_join_group_response_decode(&a, &r, v), OK);
    ck_assert_uint_eq(wire_left(&r), 0);
    return a;
}
static inline struct k_join_group_response join(struct client *on, int16_t v, const char *group, struct joiner j) {
    join_send(on, v, group, j);
    return join_receive(on, v);
}

struct member { char id[128]; int32_t generation; bool leads; };
static inline struct member member_of(const struct k_join_group_response *a) {
    struct member m = {.generation = a->generation_id, .leads = str_eq(a->leader, a->member_id)};
    ck_assert_int_eq(a->error_code, 0);
    snprintf(m.id, sizeof m.id, "%.*s", a->member_id.len, a->member_id.p);
    return m;
}

static inline void sync_send(struct client *on, int16_t v, const char *group, const struct member *m, const char *instance, const struct member *all,
                      int count) {
    struct k_sync_group_request q;
    struct k_sync_group_request_assignments assignments[4];
    k_sync_group_request_init(&q);
    q.group_id = str_from(group);
    q.generation_id = m->generation;
    q.member_id = str_from(m->id);
    if (v >= 3) q.group_instance_id = str_from(instance);
    if (v >= 5) q.protocol_type = STR_LIT("consumer");
    if (v >= 5) q.protocol_name = STR_LIT("range");
    for (int i = 0; i < count; i++) {
        k_sync_group_request_assignments_init(&assignments[i]);
        assignments[i].member_id = str_from(all[i].id);
        assignments[i].assignment = (struct bytes){(const uint8_t *)all[i].id, (int32_t)strlen(all[i].id)}; /* its own id */
    }
    q.assignments = assignments;
    q.assignments_n = count;
    k_sync_group_request_encode(&q, client_begin(on, KEY_SYNC, v), v);
    client_send(on);
}
static inline struct k_sync_group_response sync_receive(struct client *on, int16_t v) {
    struct k_sync_group_response a;
    struct wire_reader r;
    ck_assert(client_receive(on, &r));
    ck_assert_int_eq(k_sync_group_response_decode(&a, &r, v), OK);
    ck_assert_uint_eq(wire_left(&r), 0);
    return a;
}
static inline void assigned_own_id(struct client *on, int16_t v, const struct member *m) {
    struct k_sync_group_response a = sync_receive(on, v);
    ck_assert_int_eq(a.error_code, 0);
    ck_assert_int_eq(a.assignment.len, (int32_t)strlen(m->id));
    ck_assert_mem_eq(a.assignment.p, m->id, (size_t)a.assignment.len);
    if (v >= 5) ck_assert(str_is(a.protocol_type, "consumer") && str_is(a.protocol_name, "range"));
}

static inline int16_t heartbeat(int16_t v, const char *group, const struct member *m, const char *instance) {
    struct k_heartbeat_request q;
    struct k_heartbeat_response a;
    k_heartbeat_request_init(&q);
    q.group_id = str_from(group);
    q.member_id = str_from(m->id);
    q.generation_id = m->generation;
    if (v >= 3) q.group_instance_id = str_from(instance);
    CALL(&c, KEY_HEARTBEAT, v, heartbeat, q, a);
    return a.error_code;
}

/* The error of the member, or of all. */
static inline int16_t leave(int16_t v, const char *group, const char *member, const char *instance) {
    struct k_leave_group_request q;
    struct k_leave_group_response a;
    struct k_leave_group_request_members m;
    k_leave_group_request_init(&q);
    k_leave_group_request_members_init(&m);
    q.group_id = str_from(group);
    if (v < 3) q.member_id = str_from(member);
    m.member_id = str_from(member);
    m.group_instance_id = str_from(instance);
    q.members = &m;
    q.members_n = v < 3 ? 0 : 1;
    CALL(&c, KEY_LEAVE, v, leave_group, q, a);
    if (v < 3 || a.error_code) return a.error_code;
    ck_assert_int_eq(a.members_n, 1);
    ck_assert(str_is(a.members[0].member_id, member));
    return a.members[0].error_code;
}

static const struct joiner range = {.protocols = {"range"}};

/* As `range`, with the id that it is given first from version 4 on. */
static inline struct member join_alone(struct client *on, int16_t v, const char *group) {
    struct joiner j = range;
    char id[128];
    struct k_join_group_response a = join(on, v, group, j);
    if (v >= 4) {
        ck_assert_int_eq(a.error_code, KERR_MEMBER_ID_REQUIRED);
        snprintf(id, sizeof id, "%.*s", a.member_id.len, a.member_id.p);
        j.member = id;
        a = join(on, v, group, j);
    }
    return member_of(&a);
}

/* ---- what administrators ask ------------------------------------------------------------------------------------ */

static inline struct k_describe_groups_response_groups describe(int16_t v, const char *group) {
    struct k_describe_groups_request q;
    struct k_describe_groups_response a;
    struct str names[2] = {str_from(group), STR_LIT("nobody's")};
    k_describe_groups_request_init(&q);
    q.groups = names;
    q.groups_n = 2;
    if (v >= 3) q.include_authorized_operations = true;
    CALL(&c, KEY_DESCRIBE, v, describe_groups, q, a);
    ck_assert_int_eq(a.groups_n, 2);
    ck_assert(str_is(a.groups[1].group_id, "nobody's") && str_is(a.groups[1].group_state, "Dead"));
    ck_assert_int_eq(a.groups[1].error_code, v >= 6 ? KERR_GROUP_ID_NOT_FOUND : 0);
    if (v >= 3) ck_assert_int_eq(a.groups[0].authorized_operations, 3400);
    return a.groups[0];
}

/* "group/protocol type/state/type " of each, in order of names. */
static inline const char *list_groups(int16_t v, const char *state, const char *type) {
    static char text[1024];
    struct k_list_groups_request q;
    struct k_list_groups_response a;
    struct str states[2] = {STR_LIT("dead"), str_from(state)}, types = str_from(type);
    k_list_groups_request_init(&q);
    q.states_filter = states;
    q.states_filter_n = v >= 4 && state ? 2 : 0;
    q.types_filter = &types;
    q.types_filter_n = v >= 5 && type ? 1 : 0;
    CALL(&c, KEY_LIST, v, list_groups, q, a);
    ck_assert_int_eq(a.error_code, 0);
    text[0] = 0;
    for (char first = 'a'; first <= 'z'; first++)
        for (int32_t i = 0; i < a.groups_n; i++) {
            const struct k_list_groups_response_groups *g = &a.groups[i];
            if (g->group_id.p[0] != first) continue;
            snprintf(text + strlen(text), sizeof text - strlen(text), "%.*s/%.*s/%.*s/%.*s ", g->group_id.len, g->group_id.p,
                     g->protocol_type.len, g->protocol_type.p, g->group_state.len, g->group_state.p, g->group_type.len, g->group_type.p);
        }
    return text;
}

static inline int16_t delete_group(int16_t v, const char *group) {
    struct k_delete_groups_request q;
    struct k_delete_groups_response a;
    struct str names[2] = {STR_LIT("nobody's"), str_from(group)};
    k_delete_groups_request_init(&q);
    q.groups_names = names;
    q.groups_names_n = 2;
    CALL(&c, KEY_DELETE, v, delete_groups, q, a);
    ck_assert_int_eq(a.results[0].error_code, KERR_GROUP_ID_NOT_FOUND);
    ck_assert(str_is(a.results[1].group_id, group));
    return a.results[1].error_code;
}

/* The error of the partition, or of all. */
static inline int16_t delete_offset(const char *group, const char *topic, int32_t partition) {
    struct k_offset_delete_request q;
    struct k_offset_delete_response a;
    struct k_offset_delete_request_topics t;
    struct k_offset_delete_request_topics_partitions p = {partition};
    k_offset_delete_request_init(&q);
    k_offset_delete_request_topics_init(&t);
    q.group_id = str_from(group);
    t.name = str_from(topic);
    t.partitions = &p;
    q.topics = &t;
    q.topics_n = t.partitions_n = 1;
    CALL(&c, KEY_OFFSET_DELETE, 0, offset_delete, q, a);
    return a.error_code ? a.error_code : a.topics[0].partitions[0].error_code;
}

static inline void delete_topic(const char *name) {
    struct k_delete_topics_request q;
    struct k_delete_topics_response a;
    struct str names = str_from(name);
    k_delete_topics_request_init(&q);
    q.topic_names = &names;
    q.topic_names_n = 1;
    q.timeout_ms = 30000;
    CALL(&c, KEY_DELETE_TOPICS, 5, delete_topics, q, a);
    ck_assert_int_eq(a.responses[0].error_code, 0);
}

/* ---- the consumer protocol (KIP-848) ----------------------------------------------------------------------------- */

struct beat { int16_t error; char member[64]; int32_t epoch, partitions; bool assigned; };

/* A heartbeat of a member that subscribes to "t"; `owned`: how many partitions it says it has, from `first` on; -1: as before. */
static inline struct beat beat(const char *group, const char *member, int32_t epoch, int32_t first, int32_t owned) {
    struct k_consumer_group_heartbeat_request q;
    struct k_consumer_group_heartbeat_response a;
    struct str names = STR_LIT("t");
    int32_t list[8];
    struct k_consumer_group_heartbeat_request_topic_partitions tp = {.topic_id = topic_id(&c, "t"), .partitions = list, .partitions_n = owned};
    struct beat r = {0};
    for (int32_t i = 0; i < owned; i++) list[i] = first + i;
    k_consumer_group_heartbeat_request_init(&q);
    q.group_id = str_from(group);
    q.member_id = str_from(member);
    q.member_epoch = epoch;
    if (epoch == 0) {
        q.rebalance_timeout_ms = 60000;
        q.subscribed_topic_names = &names;
        q.subscribed_topic_names_n = 1;
    }
    if (owned >= 0) {
        q.topic_partitions = &tp;
        q.topic_partitions_n = owned > 0;
    }
    CALL(&c, KEY_GROUP_HEARTBEAT, 1, consumer_group_heartbeat, q, a);
    r.error = a.error_code;
    r.epoch = a.member_epoch;
    r.assigned = a.assignment != NULL;
    snprintf(r.member, sizeof r.member, "%.*s", a.member_id.len, a.member_id.p ? a.member_id.p : "");
    for (int32_t i = 0; a.assignment && i < a.assignment->topic_partitions_n; i++) r.partitions += a.assignment->topic_partitions[i].partitions_n;
    return r;
}

static inline struct k_consumer_group_describe_response_groups group_describe(int16_t v, const char *group) {
    struct k_consumer_group_describe_request q;
    struct k_consumer_group_describe_response a;
    struct str names[2] = {str_from(group), STR_LIT("nobody's")};
    k_consumer_group_describe_request_init(&q);
    q.group_ids = names;
    q.group_ids_n = 2;
    q.include_authorized_operations = true;
    CALL(&c, KEY_GROUP_DESCRIBE, v, consumer_group_describe, q, a);
    ck_assert_int_eq(a.groups[1].error_code, KERR_GROUP_ID_NOT_FOUND);
    ck_assert_int_eq(a.groups[0].authorized_operations, 3400);
    return a.groups[0];
}

/* As the coordinator has it. */
static inline struct group *group_of(const char *name) {
    for (uint32_t i = 0; i < FIXTURE_REACTORS; i++)
        LIST_FOREACH(it, &f.b.reactors[i].groups->all) {
            struct group *g = LIST_ENTRY(it, struct coordinator, link)->groups;
            for (; g; g = g->hh.next)
                if (str_is(group_id(g), name)) return g;
        }
    ck_abort_msg("no group %s", name);
}
#endif
