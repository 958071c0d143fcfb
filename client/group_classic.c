/* group_classic.c - the classic protocol: JoinGroup, SyncGroup, Heartbeat, LeaveGroup.
 *
 * The leader is told the subscriptions of all and assigns (group_assign.h). A member that reads on
 * while it joins (cooperative) tells in its subscription what it owns. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "client/group_assign.h"
#include "client/group_impl.h"
#include "proto/kafka_errors.h"
#include "proto/kafka_messages.h"

enum { JOIN_SLACK_MS = 5000, SUBSCRIPTION_VERSION = 3, MESSAGE_BYTES_MAX = 16 << 20, SESSIONS_IN_SYNC = 2 };

#define ENCODER(name)                                                                       \
    static void encode_##name(const void *m, struct wire_writer *w, int16_t version) {      \
        k_##name##_request_encode(m, w, version);                                           \
    }
ENCODER(heartbeat)

static int64_t after_ms(int64_t now_ns, int64_t ms) { return now_ns + ms * 1000000; }

/* ---- leaving a generation --------------------------------------------------------------------- */

static void set_member_id(struct group *g, struct str id) {
    char *copy = strndup(id.p ? id.p : "", (size_t)MAX(id.len, 0));
    if (!copy) {
        group_fail(g, ERR_NOMEM, 0, "out of memory");
        return;
    }
    free(g->member_id);
    g->member_id = copy;
}

static void free_members(struct group *g) {
    for (int32_t i = 0; i < g->member_count; i++) {
        free(g->members[i].id);
        free(g->members[i].instance_id);
        free(g->members[i].metadata);
    }
    free(g->members);
    g->members = NULL;
    g->member_count = 0;
}

void classic_free(struct group *g) {
    free_members(g);
    free(g->assignor);
    free(g->counts);
}

static void out(struct group *g, bool expelled, bool new_id) {
    g->state = MEMBER_OUT;
    g->rejoin = true;
    if (new_id) set_member_id(g, STR_NULL);
    if (new_id || expelled) g->generation = -1;
    if (expelled) group_expel(g);
}

/* What every answer of the protocol may say. True: it was an error, and is dealt with. */
static bool dealt_with(struct group *g, enum err err, int16_t code, const char *what) {
    if (!err && code == KERR_NONE) return false;
    if (err) {
        group_trouble(g, err == ERR_CLOSED || err == ERR_TIMEOUT, "%s: %s", what,
                      err == ERR_CLOSED && g->conn ? g->conn->why : err_str(err));
        if (g->state != MEMBER_STABLE) out(g, false, false);
    } else if (group_coordinator_code(g, code, what)) {
        if (g->state != MEMBER_STABLE) out(g, false, false);
    } else if (code == KERR_REBALANCE_IN_PROGRESS) {
        out(g, false, false);
    } else if (code == KERR_ILLEGAL_GENERATION || code == KERR_UNKNOWN_MEMBER_ID) {
        snprintf(g->why, sizeof g->why, "%s: %s", what, kafka_error_name(code));
        out(g, true, code == KERR_UNKNOWN_MEMBER_ID);
    } else if (code == KERR_FENCED_INSTANCE_ID) {
        group_fail(g, ERR_FENCED, code, "another member has the instance id \"%s\"", g->config.instance_id ? g->config.instance_id : "");
    } else {
        group_fail(g, client_err_from_code(code), code, "%s in \"%s\": %s", what, g->config.group, kafka_error_name(code));
    }
    return true;
}

/* ---- join ------------------------------------------------------------------------------------- */

static bool copy_member(struct member_row *to, const struct k_join_group_response_members *from) {
    to->id = strndup(from->member_id.p, (size_t)from->member_id.len);
    to->instance_id = from->group_instance_id.p ? strndup(from->group_instance_id.p, (size_t)from->group_instance_id.len) : NULL;
    to->metadata = malloc((size_t)MAX(from->metadata.len, 0) + 1);
    to->metadata_len = MAX(from->metadata.len, 0);
    if (to->metadata && to->metadata_len > 0) memcpy(to->metadata, from->metadata.p, (size_t)to->metadata_len);
    return to->id && to->metadata && (to->instance_id || !from->group_instance_id.p);
}

static void take_members(struct group *g, const struct k_join_group_response *m) {
    free_members(g);
    g->members = calloc((size_t)m->members_n + 1, sizeof *g->members);
    bool good = g->members != NULL;
    for (int32_t i = 0; good && i < m->members_n; i++, g->member_count++) good = copy_member(&g->members[i], &m->members[i]);
    if (!good) group_fail(g, ERR_NOMEM, 0, "out of memory");
}

static void join_done(void *owner, enum err err, struct client_reply *reply, struct wire_reader *body) {
    struct group *g = owner;
    struct k_join_group_response m;
    g->in_flight = false;
    if (g->state != MEMBER_JOINING) return;
    if (!err) err = k_join_group_response_decode(&m, body, reply->version);
    if (!err && m.error_code == KERR_MEMBER_ID_REQUIRED) {
        set_member_id(g, m.member_id);
        g->state = MEMBER_OUT;
        return;
    }
    if (dealt_with(g, err, err ? KERR_NONE : m.error_code, "JoinGroup")) return;
    group_well(g);
    set_member_id(g, m.member_id);
    free(g->assignor);
    g->assignor = strndup(m.protocol_name.p ? m.protocol_name.p : "", (size_t)MAX(m.protocol_name.len, 0));
    if (!g->assignor) group_fail(g, ERR_NOMEM, 0, "out of memory");
    g->generation = m.generation_id;
    g->leader = str_eq(m.leader, m.member_id);
    g->skip_assignment = m.skip_assignment;
    g->rejoin = false;
    g->heard_ns = client_now_ns();
    if (g->leader) take_members(g, &m);
    else free_members(g);
    g->state = MEMBER_JOINED;
}

/* The subscription in one buffer: what we want, and what we own where that is kept. */
static enum err encode_subscription(const struct group *g, struct wire_writer *w) {
    struct k_consumer_protocol_subscription m;
    int32_t room = g->owned.count + 1, *numbers = calloc((size_t)room, sizeof *numbers);
    struct str *topics = calloc((size_t)g->config.topic_count + 1, sizeof *topics);
    struct k_consumer_protocol_subscription_owned_partitions *owned = calloc((size_t)room, sizeof *owned);
    enum err err = numbers && topics && owned ? OK : ERR_NOMEM;
    k_consumer_protocol_subscription_init(&m);
    for (int32_t i = 0; !err && i < g->config.topic_count; i++) topics[i] = str_from(g->config.topics[i]);
    m.topics = topics;
    m.topics_n = g->config.topic_count;
    m.owned_partitions = owned;
    for (int32_t i = 0; !err && g->cooperative && i < g->owned.count; i++) {
        const struct part *p = &g->owned.items[i];
        if (i == 0 || p->topic != p[-1].topic) {
            owned[m.owned_partitions_n].topic = str_from(p->topic->name);
            owned[m.owned_partitions_n++].partitions = &numbers[i];
        }
        numbers[i] = p->partition;
        owned[m.owned_partitions_n - 1].partitions_n++;
    }
    m.generation_id = g->generation;
    m.rack_id = str_from(g->config.rack);
    wire_put_i16(w, SUBSCRIPTION_VERSION);
    if (!err) k_consumer_protocol_subscription_encode(&m, w, SUBSCRIPTION_VERSION);
    free(numbers);
    free(topics);
    free(owned);
    return err ? err : w->err;
}

struct join { struct group *g; struct bytes subscription; };

static void encode_join(const void *message, struct wire_writer *w, int16_t version) {
    const struct join *join = message;
    const struct group *g = join->g;
    struct k_join_group_request m;
    struct k_join_group_request_protocols protocols[ASSIGNOR_COUNT];
    k_join_group_request_init(&m);
    m.group_id = str_from(g->config.group);
    m.session_timeout_ms = g->config.session_timeout_ms;
    m.rebalance_timeout_ms = g->config.rebalance_timeout_ms;
    m.member_id = str_from(g->member_id);
    m.group_instance_id = version >= 5 ? str_from(g->config.instance_id) : STR_NULL;
    m.protocol_type = STR_LIT("consumer");
    m.protocols = protocols;
    for (const char *p = g->config.assignors; *p && m.protocols_n < ASSIGNOR_COUNT;) {
        size_t len = strcspn(p, ",");
        k_join_group_request_protocols_init(&protocols[m.protocols_n]);
        protocols[m.protocols_n].name = (struct str){p, (int32_t)len};
        protocols[m.protocols_n++].metadata = join->subscription;
        p += len + (p[len] == ',');
    }
    k_join_group_request_encode(&m, w, version);
}

static void join(struct group *g, struct conn *conn, int64_t now_ns) {
    struct wire_writer w;
    wire_writer_init(&w, MESSAGE_BYTES_MAX);
    enum err err = encode_subscription(g, &w);
    if (!err) {
        struct join message = {g, {w.data, (int32_t)w.len}};
        err = group_send(g, conn, &(struct group_message){
            .api_key = API_JOIN_GROUP, .version_max = INT16_MAX, .message = &message, .encode = encode_join, .done = join_done,
            .deadline_ns = after_ms(now_ns, (int64_t)MAX(g->config.rebalance_timeout_ms, g->config.session_timeout_ms) + JOIN_SLACK_MS)});
    }
    wire_writer_free(&w);
    if (err) {
        group_fail(g, err, 0, "JoinGroup: %s", err_str(err));
        return;
    }
    g->in_flight = true;
    g->state = MEMBER_JOINING;
}

/* ---- assign ----------------------------------------------------------------------------------- */

static enum err parse_subscription(const struct member_row *row, struct assign_member *out, struct arena *arena) {
    struct k_consumer_protocol_subscription m;
    struct wire_reader r = wire_reader_init(row->metadata, (size_t)row->metadata_len, arena);
    out->id = row->id;
    out->instance_id = row->instance_id;
    out->generation = -1;
    int16_t version = wire_get_i16(&r);
    if (r.err || version < 0) return ERR_CORRUPT;
    enum err err = k_consumer_protocol_subscription_decode(&m, &r, MIN(version, (int16_t)SUBSCRIPTION_VERSION));
    if (err) return err;
    out->topics = m.topics;
    out->topic_count = m.topics_n;
    out->generation = m.generation_id;
    for (int32_t i = 0; i < m.owned_partitions_n; i++) out->owned_count += m.owned_partitions[i].partitions_n;
    out->owned = arena_alloc(arena, (size_t)out->owned_count * sizeof *out->owned + 1);
    if (!out->owned) return ERR_NOMEM;
    int32_t at = 0;
    for (int32_t i = 0; i < m.owned_partitions_n; i++) {
        for (int32_t j = 0; j < m.owned_partitions[i].partitions_n; j++) {
            out->owned[at++] = (struct assign_partition){m.owned_partitions[i].topic, m.owned_partitions[i].partitions[j]};
        }
    }
    return OK;
}

/* The partition counts of all topics that anybody wants. ERR_AGAIN: not all are known yet. */
static enum err count_partitions(struct group *g, const struct assign_member *members, struct assign_input *in) {
    size_t room = 0;
    bool waiting = false;
    for (int32_t i = 0; i < g->member_count; i++) room += (size_t)MAX(members[i].topic_count, 0);
    free(g->counts);
    g->counts = calloc(room + 1, sizeof *g->counts);
    in->topics = calloc(room + 1, sizeof *in->topics);
    g->count_count = 0;
    if (!g->counts || !in->topics) return ERR_NOMEM;
    for (int32_t i = 0; i < g->member_count; i++) {
        for (int32_t j = 0; j < members[i].topic_count; j++) {
            char name[256];
            struct str topic = members[i].topics[j];
            if (topic.len <= 0 || topic.len >= (int32_t)sizeof name) continue;
            snprintf(name, sizeof name, "%.*s", topic.len, topic.p);
            struct topic_meta *t = metadata_topic(g->client, name, false);
            if (!t) return ERR_NOMEM;
            bool known = false;
            for (int32_t k = 0; k < g->count_count && !known; k++) known = g->counts[k].topic == t;
            if (known) continue;
            if (!t->asked) waiting = true;
            g->counts[g->count_count].topic = t;
            g->counts[g->count_count++].count = t->partition_count;
            in->topics[in->topic_count++] = (struct assign_topic){str_from(t->name), t->partition_count};
        }
    }
    return waiting ? ERR_AGAIN : OK;
}

struct sync { struct group *g; const struct assign_input *in; const struct assign_output *assigned; };

/* One member's assignment, appended to `w`. */
static void put_assignment(struct wire_writer *w, const struct assign_output *out, int32_t member) {
    struct k_consumer_protocol_assignment m;
    int32_t count = 0, *numbers = calloc((size_t)out->count + 1, sizeof *numbers);
    struct k_consumer_protocol_assignment_assigned_partitions *rows = calloc((size_t)out->count + 1, sizeof *rows);
    k_consumer_protocol_assignment_init(&m);
    m.assigned_partitions = rows;
    if (!numbers || !rows) w->err = ERR_NOMEM;
    for (int32_t i = 0; numbers && rows && i < out->count; i++) {
        const struct assign_row *row = &out->rows[i];
        if (row->member != member) continue;
        if (m.assigned_partitions_n == 0 || !str_eq(rows[m.assigned_partitions_n - 1].topic, row->topic)) {
            rows[m.assigned_partitions_n].topic = row->topic;
            rows[m.assigned_partitions_n++].partitions = &numbers[count];
        }
        numbers[count++] = row->partition;
        rows[m.assigned_partitions_n - 1].partitions_n++;
    }
    wire_put_i16(w, SUBSCRIPTION_VERSION);
    k_consumer_protocol_assignment_encode(&m, w, SUBSCRIPTION_VERSION);
    free(numbers);
    free(rows);
}

static void encode_sync(const void *message, struct wire_writer *w, int16_t version) {
    const struct sync *sync = message;
    const struct group *g = sync->g;
    struct k_sync_group_request m;
    int32_t count = sync->assigned ? sync->in->member_count : 0;
    struct k_sync_group_request_assignments *rows = calloc((size_t)count + 1, sizeof *rows);
    struct wire_writer *bodies = calloc((size_t)count + 1, sizeof *bodies);
    if (!rows || !bodies) w->err = ERR_NOMEM;
    for (int32_t i = 0; rows && bodies && i < count; i++) {
        wire_writer_init(&bodies[i], MESSAGE_BYTES_MAX);
        put_assignment(&bodies[i], sync->assigned, i);
        if (bodies[i].err) w->err = bodies[i].err;
        rows[i].member_id = str_from(sync->in->members[i].id);
        rows[i].assignment = (struct bytes){bodies[i].data, (int32_t)bodies[i].len};
    }
    k_sync_group_request_init(&m);
    m.group_id = str_from(g->config.group);
    m.generation_id = g->generation;
    m.member_id = str_from(g->member_id);
    m.group_instance_id = version >= 3 ? str_from(g->config.instance_id) : STR_NULL;
    m.protocol_type = STR_LIT("consumer");
    m.protocol_name = str_from(g->assignor);
    m.assignments = rows;
    m.assignments_n = count;
    k_sync_group_request_encode(&m, w, version);
    for (int32_t i = 0; bodies && i < count; i++) wire_writer_free(&bodies[i]);
    free(bodies);
    free(rows);
}

static void take_assignment(struct group *g, struct bytes from) {
    struct k_consumer_protocol_assignment m;
    struct arena arena;
    enum err err = OK;
    arena_init(&arena, MESSAGE_BYTES_MAX);
    parts_clear(&g->target);
    k_consumer_protocol_assignment_init(&m);
    if (from.len > 0) { /* else nothing at all: no partitions */
        struct wire_reader r = wire_reader_init(from.p, (size_t)from.len, &arena);
        int16_t version = wire_get_i16(&r);
        err = r.err || version < 0 ? ERR_CORRUPT : k_consumer_protocol_assignment_decode(&m, &r, MIN(version, (int16_t)SUBSCRIPTION_VERSION));
    }
    for (int32_t i = 0; !err && i < m.assigned_partitions_n; i++) {
        char name[256];
        struct str topic = m.assigned_partitions[i].topic;
        if (topic.len <= 0 || topic.len >= (int32_t)sizeof name) err = ERR_CORRUPT;
        else snprintf(name, sizeof name, "%.*s", topic.len, topic.p);
        struct topic_meta *t = err ? NULL : metadata_topic(g->client, name, false);
        if (!err && !t) err = ERR_NOMEM;
        for (int32_t j = 0; !err && j < m.assigned_partitions[i].partitions_n; j++) {
            int32_t partition = m.assigned_partitions[i].partitions[j];
            err = partition < 0 ? ERR_CORRUPT : parts_add(&g->target, t, partition, -1);
        }
    }
    arena_free(&arena);
    if (err) group_fail(g, err, 0, "the leader's assignment does not parse: %s", err_str(err));
    parts_sort(&g->target);
    if (!err) group_set_target(g);
}

static void sync_done(void *owner, enum err err, struct client_reply *reply, struct wire_reader *body) {
    struct group *g = owner;
    struct k_sync_group_response m;
    g->in_flight = false;
    if (g->state != MEMBER_SYNCING) return;
    if (!err) err = k_sync_group_response_decode(&m, body, reply->version);
    if (dealt_with(g, err, err ? KERR_NONE : m.error_code, "SyncGroup")) return;
    group_well(g);
    g->state = MEMBER_STABLE;
    g->heard_ns = client_now_ns();
    g->next_heartbeat_ns = after_ms(g->heard_ns, g->config.heartbeat_ms);
    g->announce = true;
    g->gave_back = false;
    take_assignment(g, m.assignment);
}

/* Leaders assign first; ERR_AGAIN until the metadata is there. */
static enum err sync(struct group *g, struct conn *conn, int64_t now_ns) {
    struct arena arena;
    struct assign_input in = {.member_count = g->member_count};
    struct assign_output assigned = {0};
    enum err err = OK;
    arena_init(&arena, MESSAGE_BYTES_MAX);
    bool assigns = g->leader && !g->skip_assignment;
    if (g->leader) {
        struct assign_member *members = calloc((size_t)g->member_count + 1, sizeof *members);
        in.members = members;
        err = members ? OK : ERR_NOMEM;
        for (int32_t i = 0; !err && i < g->member_count; i++) {
            err = parse_subscription(&g->members[i], &members[i], &arena);
            if (err == ERR_CORRUPT || err == ERR_TRUNCATED) { /* gets nothing; the others go on */
                members[i] = (struct assign_member){.id = g->members[i].id, .instance_id = g->members[i].instance_id, .generation = -1};
                err = OK;
            }
        }
        if (!err) err = count_partitions(g, members, &in);
        if (!err && assigns) err = group_assign(g->assignor, &in, &assigned);
    }
    if (!err) {
        struct sync message = {g, &in, assigns ? &assigned : NULL};
        err = group_send(g, conn, &(struct group_message){
            .api_key = API_SYNC_GROUP, .version_max = INT16_MAX, .message = &message, .encode = encode_sync, .done = sync_done,
            .deadline_ns = after_ms(now_ns, (int64_t)g->config.rebalance_timeout_ms + JOIN_SLACK_MS)});
    }
    assign_free(&assigned);
    free(in.topics);
    free(in.members);
    arena_free(&arena);
    return err;
}

/* ---- heartbeats ------------------------------------------------------------------------------- */

static void heartbeat_done(void *owner, enum err err, struct client_reply *reply, struct wire_reader *body) {
    struct group *g = owner;
    struct k_heartbeat_response m;
    g->in_flight = false;
    if (g->state != MEMBER_STABLE) return;
    if (!err) err = k_heartbeat_response_decode(&m, body, reply->version);
    if (dealt_with(g, err, err ? KERR_NONE : m.error_code, "Heartbeat")) return;
    group_well(g);
    g->heard_ns = client_now_ns();
}

static void heartbeat(struct group *g, struct conn *conn, int64_t now_ns) {
    struct k_heartbeat_request m;
    k_heartbeat_request_init(&m);
    m.group_id = str_from(g->config.group);
    m.generation_id = g->generation;
    m.member_id = str_from(g->member_id);
    m.group_instance_id = str_from(g->config.instance_id);
    enum err err = group_send(g, conn, &(struct group_message){
        .api_key = API_HEARTBEAT, .version_max = INT16_MAX, .message = &m, .encode = encode_heartbeat, .done = heartbeat_done,
        .deadline_ns = after_ms(now_ns, g->config.session_timeout_ms)});
    if (err) {
        group_trouble(g, false, "Heartbeat: %s", err_str(err));
        return;
    }
    g->in_flight = true;
    g->next_heartbeat_ns = after_ms(now_ns, g->config.heartbeat_ms);
}

/* A leader assigns anew when its topics have more partitions, or have come or gone. */
static bool counts_changed(struct group *g) {
    if (!g->leader || g->client->metadata.answers == g->counted_answers) return false;
    g->counted_answers = g->client->metadata.answers;
    for (int32_t i = 0; i < g->count_count; i++) {
        if (g->counts[i].topic->partition_count != g->counts[i].count) return true;
    }
    return false;
}

int64_t classic_pump(struct group *g, int64_t now_ns) {
    int64_t next_ns = INT64_MAX;
    if (g->in_flight || g->state == MEMBER_LEFT || g->state == MEMBER_LEAVING) return next_ns;
    if (g->state == MEMBER_STABLE && counts_changed(g)) out(g, false, false);
    if (g->state == MEMBER_STABLE && g->rejoin && !g->target_set && g->handover == HANDOVER_NONE) out(g, false, false);
    if (g->state == MEMBER_OUT && !group_may_join(g)) return next_ns;
    if (g->state == MEMBER_STABLE && now_ns < g->next_heartbeat_ns) return g->next_heartbeat_ns;
    struct conn *conn = group_conn(g, now_ns, &next_ns);
    if (!conn) return next_ns;
    if (g->state == MEMBER_OUT) {
        join(g, conn, now_ns);
    } else if (g->state == MEMBER_JOINED) {
        enum err err = sync(g, conn, now_ns);
        if (err == ERR_AGAIN) return after_ms(now_ns, g->client->config.backoff_ms);
        if (err) group_fail(g, err, 0, "assigning by \"%s\": %s", g->assignor, err_str(err));
        else g->in_flight = true;
        g->state = MEMBER_SYNCING;
    } else if (g->state == MEMBER_STABLE) {
        heartbeat(g, conn, now_ns);
        next_ns = MIN(next_ns, g->next_heartbeat_ns);
    }
    return next_ns;
}

/* ---- leave ------------------------------------------------------------------------------------ */

static void leave_done(void *owner, enum err err, struct client_reply *reply, struct wire_reader *body) {
    struct group *g = owner;
    struct k_leave_group_response m;
    if (!err) err = k_leave_group_response_decode(&m, body, reply->version);
    int16_t code = err ? KERR_NONE : m.error_code;
    for (int32_t i = 0; !err && code == KERR_NONE && i < m.members_n; i++) code = m.members[i].error_code;
    if (err || (code != KERR_NONE && code != KERR_UNKNOWN_MEMBER_ID)) {
        g->err = err ? err : client_err_from_code(code);
        g->code = code;
        snprintf(g->why, sizeof g->why, "LeaveGroup: %s", err ? err_str(err) : kafka_error_name(code));
    }
    g->state = MEMBER_LEFT;
}

static void encode_leave(const void *message, struct wire_writer *w, int16_t version) {
    const struct group *g = message;
    struct k_leave_group_request m;
    struct k_leave_group_request_members member;
    k_leave_group_request_init(&m);
    k_leave_group_request_members_init(&member);
    m.group_id = str_from(g->config.group);
    if (version < 3) {
        m.member_id = str_from(g->member_id);
    } else {
        member.member_id = str_from(g->member_id);
        member.reason = STR_LIT("the consumer is closing");
        m.members = &member;
        m.members_n = 1;
    }
    k_leave_group_request_encode(&m, w, version);
}

void classic_leave(struct group *g, struct conn *conn) {
    enum err err = group_send(g, conn, &(struct group_message){
        .api_key = API_LEAVE_GROUP, .version_max = INT16_MAX, .message = g, .encode = encode_leave, .done = leave_done,
        .deadline_ns = after_ms(client_now_ns(), g->client->config.request_timeout_ms)});
    g->state = err ? MEMBER_LEFT : MEMBER_LEAVING;
}
