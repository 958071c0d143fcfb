/* From a classic group to a consumer group and back, while its members go on. */
#include "base/assert.h"
#include "server/group_consumer_impl.h"

enum { SUBSCRIPTION_VERSION_MAX = 3, ASSIGNMENT_VERSION_MAX = 3, ASSIGNMENT_BYTES_MAX = 16 << 20 };

/* ---- what classic consumers exchange ---------------------------------------------------------- */

enum err subscription_parse(struct bytes metadata, struct arena *arena, struct k_consumer_protocol_subscription *out) {
    struct wire_reader r = wire_reader_init(metadata.p, metadata.p ? (size_t)metadata.len : 0, arena);
    int16_t version = wire_get_i16(&r);
    if (r.err) return r.err;
    if (version < 0) return ERR_CORRUPT;
    enum err err = k_consumer_protocol_subscription_decode(out, &r, MIN(version, (int16_t)SUBSCRIPTION_VERSION_MAX));
    for (int32_t t = 0; err == OK && t < out->owned_partitions_n; t++)
        for (int32_t p = 0; p < out->owned_partitions[t].partitions_n; p++)
            if (out->owned_partitions[t].partitions[p] < 0) err = ERR_CORRUPT;
    return err;
}

static enum err assignment_parse(struct change *c, struct bytes assignment, int32_t epoch, struct group_parts *out) {
    *out = (struct group_parts){0};
    if (!assignment.p || assignment.len == 0) return OK;
    struct wire_reader r = wire_reader_init(assignment.p, (size_t)assignment.len, c->arena);
    int16_t version = wire_get_i16(&r);
    if (r.err) return r.err;
    if (version < 0) return ERR_CORRUPT;
    struct k_consumer_protocol_assignment a;
    enum err err = k_consumer_protocol_assignment_decode(&a, &r, MIN(version, (int16_t)ASSIGNMENT_VERSION_MAX));
    if (err != OK) return err;
    size_t total = 0;
    for (int32_t t = 0; t < a.assigned_partitions_n; t++) total += a.assigned_partitions[t].partitions_n > 0 ? (size_t)a.assigned_partitions[t].partitions_n : 0;
    err = group_parts_room(out, total, c->arena);
    for (int32_t t = 0; t < a.assigned_partitions_n && err == OK; t++) {
        struct group_topic topic;
        if (!c->env->topics->by_name(c->env->topics->image, a.assigned_partitions[t].topic, &topic)) continue;
        for (int32_t p = 0; p < a.assigned_partitions[t].partitions_n; p++) {
            if (a.assigned_partitions[t].partitions[p] < 0) return ERR_CORRUPT;
            group_parts_add(out, &topic.id, a.assigned_partitions[t].partitions[p], epoch);
        }
    }
    if (err == OK) group_parts_sort(out);
    return err;
}

struct bytes assignment_bytes(const struct group_env *env, const struct group_parts *set, struct bytes subscription, struct arena *arena) {
    struct group_topic_parts *topics;
    int32_t n, named = 0;
    if (group_parts_by_topic(set, arena, &topics, &n) != OK) return BYTES_NULL;
    struct k_consumer_protocol_assignment a;
    k_consumer_protocol_assignment_init(&a);
    a.assigned_partitions = arena_array(arena, (size_t)MAX(n, 1), sizeof *a.assigned_partitions);
    if (!a.assigned_partitions) return BYTES_NULL;
    for (int32_t t = 0; t < n; t++) {
        struct group_topic topic;
        if (!env->topics->by_id(env->topics->image, &topics[t].topic_id, &topic)) continue; /* deleted meanwhile */
        a.assigned_partitions[named].topic = topic.name;
        a.assigned_partitions[named].partitions = topics[t].partitions;
        a.assigned_partitions[named++].partitions_n = topics[t].partitions_n;
    }
    a.assigned_partitions_n = named;
    int16_t version = subscription.p && subscription.len >= 2 ? (int16_t)load_be16(subscription.p) : 0;
    version = MAX((int16_t)0, MIN(version, (int16_t)ASSIGNMENT_VERSION_MAX));
    struct wire_writer w;
    wire_writer_init(&w, ASSIGNMENT_BYTES_MAX);
    wire_put_i16(&w, version);
    k_consumer_protocol_assignment_encode(&a, &w, version);
    uint8_t *copy = w.err == OK ? arena_alloc(arena, w.len) : NULL;
    struct bytes out = {copy, copy ? (int32_t)w.len : 0};
    if (copy) memcpy(copy, w.data, w.len);
    wire_writer_free(&w);
    return out;
}

/* ---- upgrade ---------------------------------------------------------------------------------- */

/* The records from `first` on, into the group that is being made. */
static enum err replay_from(struct consumer_group *g, const struct group_env *env, const struct group_records *out, uint32_t first) {
    for (uint32_t i = first; i < out->count; i++) {
        struct group_key key;
        enum err err = group_key_parse(group_records_key(out, i), &key);
        if (err == OK && key.type != K_GROUP_METADATA_KEY_TYPE) err = consumer_group_replay(g, env, &key, group_records_value(out, i));
        if (err != OK) return err;
    }
    return OK;
}

static enum err upgrade_member(struct change *c, const struct group_upgrade_member *from) {
    struct k_consumer_protocol_subscription subscription;
    struct k_consumer_group_member_metadata_value_classic_member_metadata *classic = arena_alloc(c->arena, sizeof *classic);
    struct k_consumer_group_member_metadata_value_classic_member_metadata_supported_protocols *list =
        arena_array(c->arena, (size_t)MAX(from->protocols_n, 1), sizeof *list);
    if (!classic || !list) return ERR_NOMEM;
    enum err err = subscription_parse(from->subscription, c->arena, &subscription);
    if (err != OK) return err;
    for (int32_t i = 0; i < from->protocols_n; i++) {
        list[i].name = from->protocols[i].name;
        list[i].metadata = from->protocols[i].metadata;
    }
    *classic = (struct k_consumer_group_member_metadata_value_classic_member_metadata){
        .session_timeout_ms = from->session_timeout_ms, .supported_protocols = list, .supported_protocols_n = from->protocols_n};
    member_meta_init(&c->meta);
    c->id = from->member_id;
    c->meta.instance_id = from->instance_id;
    c->meta.rack_id = subscription.rack_id;
    c->meta.client_id = from->client_id;
    c->meta.client_host = from->client_host;
    c->meta.rebalance_timeout_ms = from->rebalance_timeout_ms;
    c->meta.classic_member_metadata = classic;
    change_set_topics(c, subscription.topics, subscription.topics_n);
    change_put_meta(c);
    return c->nomem ? ERR_NOMEM : c->out->err;
}

/* The group as it is: all stable in the generation, with what they have as their target. */
static enum err upgrade_records(struct change *c, const struct group_upgrade *classic) {
    struct consumer_group *g = c->g;
    uint32_t first = c->out->count;
    enum err err = OK;
    group_records_put(c->out, &(struct group_key){.type = K_GROUP_METADATA_KEY_TYPE, .group = group_name(g)}, NULL);
    for (int32_t i = 0; i < classic->members_n && err == OK; i++) err = upgrade_member(c, &classic->members[i]);
    if (err == OK) err = replay_from(g, c->env, c->out, first);
    if (err != OK) return err;
    first = c->out->count;
    int32_t epoch = MAX(classic->generation, 0);
    c->epoch = epoch - 1;
    c->metadata_hash = change_hash(c);
    change_put_epoch(c);
    for (int32_t i = 0; i < classic->members_n && err == OK; i++) {
        err = assignment_parse(c, classic->members[i].assignment, epoch, &c->current.assigned);
        if (err == OK) change_put_target(c, classic->members[i].member_id, &c->current.assigned);
    }
    struct group_value v;
    group_value_init(K_CONSUMER_GROUP_TARGET_ASSIGNMENT_METADATA_KEY_TYPE, &v);
    v.target_metadata.assignment_epoch = epoch; /* without a time: the next may be computed at once */
    change_put(c, K_CONSUMER_GROUP_TARGET_ASSIGNMENT_METADATA_KEY_TYPE, STR_NULL, &v);
    c->current.epoch = c->current.previous_epoch = epoch;
    c->current.state = CONSUMER_MEMBER_STABLE;
    for (int32_t i = 0; i < classic->members_n && err == OK; i++) {
        err = assignment_parse(c, classic->members[i].assignment, epoch, &c->current.assigned);
        c->id = classic->members[i].member_id;
        if (err == OK) change_put_current(c);
    }
    if (err == OK) err = c->nomem ? ERR_NOMEM : c->out->err;
    return err == OK ? replay_from(g, c->env, c->out, first) : err;
}

void consumer_group_upgrade(struct str group_id, const struct group_upgrade *classic, const struct group_env *env,
                            const struct k_consumer_group_heartbeat_request *rq, int16_t version, const struct group_client *client,
                            struct str fresh_id, struct arena *arena, struct group_records *out, struct k_consumer_group_heartbeat_response *reply) {
    k_consumer_group_heartbeat_response_init(reply);
    bool allowed = (env->migration == GROUP_MIGRATION_UPGRADE || env->migration == GROUP_MIGRATION_BIDIRECTIONAL) && rq->member_epoch == 0 &&
                   classic->members_n < env->max_size;
    struct consumer_group *g = allowed ? consumer_group_new(group_id) : NULL;
    struct change c;
    enum err err = !allowed ? ERR_INVALID : ERR_NOMEM;
    if (g) {
        change_init(&c, g, env, arena, out);
        err = upgrade_records(&c, classic);
    }
    if (err == OK) {
        consumer_group_heartbeat(g, env, rq, version, client, fresh_id, arena, out, reply);
    } else {
        group_records_reset(out);
        bool room = err == ERR_NOMEM || err == ERR_TOO_LARGE;
        reply->error_code = room ? KERR_COORDINATOR_NOT_AVAILABLE : KERR_GROUP_ID_NOT_FOUND;
        reply->error_message = room ? STR_LIT("The change does not fit into memory or one batch.") : STR_LIT("The group is not a consumer group.");
    }
    consumer_group_free(g);
}

/* ---- downgrade -------------------------------------------------------------------------------- */

bool change_may_downgrade(const struct change *c) {
    uint32_t gone_others = 0, left = c->g->member_count - c->gone_n;
    for (uint32_t i = 0; i < c->gone_n; i++) gone_others += !member_is_classic(c->gone[i]);
    bool allowed = c->env->migration == GROUP_MIGRATION_DOWNGRADE || c->env->migration == GROUP_MIGRATION_BIDIRECTIONAL;
    return allowed && left > 0 && c->g->member_count - c->g->classic_count == gone_others && (int64_t)left <= c->env->classic_max_size;
}

static bool is_gone(const struct change *c, const struct consumer_member *m) {
    for (uint32_t i = 0; i < c->gone_n; i++)
        if (c->gone[i] == m) return true;
    return false;
}

static const struct bytes *metadata_of(const struct consumer_member *m, struct str protocol) {
    const struct k_consumer_group_member_metadata_value_classic_member_metadata *classic = m->meta.classic_member_metadata;
    for (int32_t i = 0; i < classic->supported_protocols_n; i++)
        if (str_eq(classic->supported_protocols[i].name, protocol)) return &classic->supported_protocols[i].metadata;
    return NULL;
}

/* The first protocol of the first member that all have: JoinGroup made sure that there is one. */
static struct str common_protocol(const struct change *c, const struct consumer_member *first) {
    const struct k_consumer_group_member_metadata_value_classic_member_metadata *classic = first->meta.classic_member_metadata;
    for (int32_t i = 0; i < classic->supported_protocols_n; i++) {
        bool all = true;
        for (const struct consumer_member *m = c->g->members; m && all; m = m->hh.next)
            if (m->known && !is_gone(c, m)) all = metadata_of(m, classic->supported_protocols[i].name) != NULL;
        if (all) return classic->supported_protocols[i].name;
    }
    return classic->supported_protocols_n > 0 ? classic->supported_protocols[0].name : STR_LIT("");
}

void change_downgrade(struct change *c) {
    struct consumer_group *g = c->g;
    struct group_value v;
    group_value_init(K_GROUP_METADATA_KEY_TYPE, &v);
    struct k_group_metadata_value_member_metadata *members = arena_array(c->arena, g->member_count, sizeof *members);
    if (!members) {
        c->nomem = true;
        return;
    }
    const struct consumer_member *first = NULL;
    int32_t n = 0;
    struct str protocol = STR_NULL;
    for (const struct consumer_member *m = g->members; m; m = m->hh.next) {
        if (!m->known || is_gone(c, m)) continue;
        if (!first) {
            first = m;
            protocol = common_protocol(c, first);
        }
        const struct bytes *metadata = metadata_of(m, protocol);
        struct k_group_metadata_value_member_metadata *out = &members[n++];
        out->member_id = member_id(m);
        out->group_instance_id = m->meta.instance_id;
        out->client_id = m->meta.client_id;
        out->client_host = m->meta.client_host;
        out->rebalance_timeout = m->meta.rebalance_timeout_ms;
        out->session_timeout = m->meta.classic_member_metadata->session_timeout_ms;
        out->subscription = metadata ? *metadata : (struct bytes){(const uint8_t *)"", 0};
        out->assignment = assignment_bytes(c->env, &m->current.assigned, out->subscription, c->arena);
        if (!out->assignment.p) c->nomem = true;
    }
    consumer_group_delete(g, c->out);
    v.group_metadata.protocol_type = STR_LIT("consumer");
    v.group_metadata.generation = g->epoch;
    v.group_metadata.protocol = protocol;
    v.group_metadata.leader = member_id(first);
    v.group_metadata.current_state_timestamp = c->env->now_ms;
    v.group_metadata.members = members;
    v.group_metadata.members_n = n;
    if (!c->nomem) change_put(c, K_GROUP_METADATA_KEY_TYPE, STR_NULL, &v);
}

bool consumer_group_downgrades(const struct group_records *out) {
    if (out->count == 0) return false;
    struct group_key key;
    return group_key_parse(group_records_key(out, out->count - 1), &key) == OK && key.type == K_GROUP_METADATA_KEY_TYPE &&
           group_records_value(out, out->count - 1).p != NULL;
}
