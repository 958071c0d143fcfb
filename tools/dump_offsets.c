/* dump_offsets.c - records of `__consumer_offsets` as JSON, in the words and the order of kafka-dump-log
 * --offsets-decoder: {"type":"1","data":{...}} for the key, {"version":"3","data":{...}} for the value. */
#include <stdlib.h>
#include "log/kafka_files.h"
#include "proto/group_records.h"
#include "tools/dump.h"

enum { SUBSCRIPTION_VERSION_MAX = 3, DATA_BYTES_MAX = 64 << 20 };

bool is_offsets_file(const char *path) { return dump_folder_is_of(path, "__consumer_offsets-"); }

/* ---- small values ---------------------------------------------------------------------------- */

static void json_base64(struct json_out *j, const char *key, struct bytes b) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if (!b.p) {
        json_null(j, key);
        return;
    }
    char *text = malloc((size_t)b.len / 3 * 4 + 5), *out = text;
    for (int32_t i = 0; text && i < b.len; i += 3) {
        uint32_t three = (uint32_t)b.p[i] << 16 | (i + 1 < b.len ? (uint32_t)b.p[i + 1] << 8 : 0) | (i + 2 < b.len ? b.p[i + 2] : 0);
        *out++ = digits[three >> 18];
        *out++ = digits[three >> 12 & 63];
        *out++ = i + 1 < b.len ? digits[three >> 6 & 63] : '=';
        *out++ = i + 2 < b.len ? digits[three & 63] : '=';
    }
    if (text) *out = '\0';
    json_text(j, key, text); /* null when memory is short */
    free(text);
}

static void json_uuid(struct json_out *j, const char *key, const struct uuid *id) {
    char text[UUID_TEXT_BYTES];
    uuid_to_text(id, text);
    json_text(j, key, text);
}

static void json_numbers(struct json_out *j, const char *key, const int32_t *numbers, int32_t count) {
    json_array(j, key);
    for (int32_t i = 0; i < count; i++) json_i64(j, NULL, numbers[i]);
    json_array_end(j);
}

static void json_names(struct json_out *j, const char *key, const struct str *names, int32_t count) {
    json_array(j, key);
    for (int32_t i = 0; i < count; i++) json_str(j, NULL, names[i]);
    json_array_end(j);
}

/* ---- what classic consumers keep in their group ---------------------------------------------- */

static bool subscription(struct json_out *j, struct bytes b, struct arena *arena) {
    struct k_consumer_protocol_subscription m;
    struct wire_reader r = wire_reader_init(b.p, (size_t)MAX(b.len, 0), arena);
    int16_t version = wire_get_i16(&r);
    if (r.err || version < 0 || version > SUBSCRIPTION_VERSION_MAX || k_consumer_protocol_subscription_decode(&m, &r, version)) return false;
    json_object(j, "subscription");
    json_names(j, "topics", m.topics, m.topics_n);
    json_base64(j, "userData", m.user_data);
    if (version >= 1) {
        json_array(j, "ownedPartitions");
        for (int32_t i = 0; i < m.owned_partitions_n; i++) {
            json_object(j, NULL);
            json_str(j, "topic", m.owned_partitions[i].topic);
            json_numbers(j, "partitions", m.owned_partitions[i].partitions, m.owned_partitions[i].partitions_n);
            json_object_end(j);
        }
        json_array_end(j);
    }
    if (version >= 2) json_i64(j, "generationId", m.generation_id);
    if (version >= 3) json_str(j, "rackId", m.rack_id);
    json_object_end(j);
    return true;
}

static bool assignment(struct json_out *j, struct bytes b, struct arena *arena) {
    struct k_consumer_protocol_assignment m;
    struct wire_reader r = wire_reader_init(b.p, (size_t)MAX(b.len, 0), arena);
    int16_t version = wire_get_i16(&r);
    if (r.err || version < 0 || version > SUBSCRIPTION_VERSION_MAX || k_consumer_protocol_assignment_decode(&m, &r, version)) return false;
    json_object(j, "assignment");
    json_array(j, "assignedPartitions");
    for (int32_t i = 0; i < m.assigned_partitions_n; i++) {
        json_object(j, NULL);
        json_str(j, "topic", m.assigned_partitions[i].topic);
        json_numbers(j, "partitions", m.assigned_partitions[i].partitions, m.assigned_partitions[i].partitions_n);
        json_object_end(j);
    }
    json_array_end(j);
    json_base64(j, "userData", m.user_data);
    json_object_end(j);
    return true;
}

static void classic_group(struct json_out *j, const struct group_value *v, struct arena *arena) {
    const struct k_group_metadata_value *g = &v->group_metadata;
    bool consumer = str_is(g->protocol_type, "consumer");
    json_str(j, "protocolType", g->protocol_type);
    json_i64(j, "generation", g->generation);
    json_str(j, "protocol", g->protocol);
    json_str(j, "leader", g->leader);
    if (v->version >= 2) json_i64(j, "currentStateTimestamp", g->current_state_timestamp);
    json_array(j, "members");
    for (int32_t i = 0; i < g->members_n; i++) {
        json_object(j, NULL);
        json_str(j, "memberId", g->members[i].member_id);
        if (v->version >= 3) json_str(j, "groupInstanceId", g->members[i].group_instance_id);
        json_str(j, "clientId", g->members[i].client_id);
        json_str(j, "clientHost", g->members[i].client_host);
        if (v->version >= 1) json_i64(j, "rebalanceTimeout", g->members[i].rebalance_timeout);
        json_i64(j, "sessionTimeout", g->members[i].session_timeout);
        if (!consumer || !subscription(j, g->members[i].subscription, arena)) json_base64(j, "subscription", g->members[i].subscription);
        if (!consumer || !assignment(j, g->members[i].assignment, arena)) json_base64(j, "assignment", g->members[i].assignment);
        json_object_end(j);
    }
    json_array_end(j);
}

/* ---- KIP-848 ---------------------------------------------------------------------------------- */

static void member(struct json_out *j, const struct k_consumer_group_member_metadata_value *m) {
    json_str(j, "instanceId", m->instance_id);
    json_str(j, "rackId", m->rack_id);
    json_str(j, "clientId", m->client_id);
    json_str(j, "clientHost", m->client_host);
    json_names(j, "subscribedTopicNames", m->subscribed_topic_names, m->subscribed_topic_names_n);
    json_str(j, "subscribedTopicRegex", m->subscribed_topic_regex);
    json_i64(j, "rebalanceTimeoutMs", m->rebalance_timeout_ms);
    json_str(j, "serverAssignor", m->server_assignor);
    if (!m->classic_member_metadata) {
        json_null(j, "classicMemberMetadata");
        return;
    }
    json_object(j, "classicMemberMetadata");
    json_i64(j, "sessionTimeoutMs", m->classic_member_metadata->session_timeout_ms);
    json_array(j, "supportedProtocols");
    for (int32_t i = 0; i < m->classic_member_metadata->supported_protocols_n; i++) {
        json_object(j, NULL);
        json_str(j, "name", m->classic_member_metadata->supported_protocols[i].name);
        json_base64(j, "metadata", m->classic_member_metadata->supported_protocols[i].metadata);
        json_object_end(j);
    }
    json_array_end(j);
    json_object_end(j);
}

static void target(struct json_out *j, const struct k_consumer_group_target_assignment_member_value *m) {
    json_array(j, "topicPartitions");
    for (int32_t i = 0; i < m->topic_partitions_n; i++) {
        json_object(j, NULL);
        json_uuid(j, "topicId", &m->topic_partitions[i].topic_id);
        json_numbers(j, "partitions", m->topic_partitions[i].partitions, m->topic_partitions[i].partitions_n);
        json_object_end(j);
    }
    json_array_end(j);
}

static void current_list(struct json_out *j, const char *key, const struct k_consumer_group_current_member_assignment_value_topic_partitions *list,
                         int32_t count) {
    json_array(j, key);
    for (int32_t i = 0; i < count; i++) {
        json_object(j, NULL);
        json_uuid(j, "topicId", &list[i].topic_id);
        json_numbers(j, "partitions", list[i].partitions, list[i].partitions_n);
        if (list[i].assignment_epochs_n >= 0) json_numbers(j, "assignmentEpochs", list[i].assignment_epochs, list[i].assignment_epochs_n);
        json_object_end(j);
    }
    json_array_end(j);
}

static void partition_metadata(struct json_out *j, const struct k_consumer_group_partition_metadata_value *m) {
    json_array(j, "topics");
    for (int32_t i = 0; i < m->topics_n; i++) {
        json_object(j, NULL);
        json_uuid(j, "topicId", &m->topics[i].topic_id);
        json_str(j, "topicName", m->topics[i].topic_name);
        json_i64(j, "numPartitions", m->topics[i].num_partitions);
        json_array(j, "partitionMetadata");
        for (int32_t p = 0; p < m->topics[i].partition_metadata_n; p++) {
            json_object(j, NULL);
            json_i64(j, "partition", m->topics[i].partition_metadata[p].partition);
            json_names(j, "racks", m->topics[i].partition_metadata[p].racks, m->topics[i].partition_metadata[p].racks_n);
            json_object_end(j);
        }
        json_array_end(j);
        json_object_end(j);
    }
    json_array_end(j);
}

static void offset_commit(struct json_out *j, const struct group_value *v) {
    const struct k_offset_commit_value *m = &v->offset_commit;
    json_i64(j, "offset", m->offset);
    if (v->version >= 3) json_i64(j, "leaderEpoch", m->leader_epoch);
    json_str(j, "metadata", m->metadata);
    json_i64(j, "commitTimestamp", m->commit_timestamp);
    if (v->version == 1) json_i64(j, "expireTimestamp", m->expire_timestamp);
    if (v->version >= 4 && !uuid_is_zero(&m->topic_id)) json_uuid(j, "topicId", &m->topic_id);
}

/* ---- keys and values -------------------------------------------------------------------------- */

static void put_version(struct json_out *j, const char *name, int16_t version) {
    char text[8];
    snprintf(text, sizeof text, "%d", version);
    json_text(j, name, text);
}

static void put_key(struct json_out *j, const char *name, const struct group_key *k) {
    json_object(j, name);
    put_version(j, "type", k->type);
    json_object(j, "data");
    json_str(j, k->type <= K_GROUP_METADATA_KEY_TYPE ? "group" : "groupId", k->group);
    switch (k->type) {
    case K_LEGACY_OFFSET_COMMIT_KEY_TYPE:
    case K_OFFSET_COMMIT_KEY_TYPE:
        json_str(j, "topic", k->topic);
        json_i64(j, "partition", k->partition);
        break;
    case K_CONSUMER_GROUP_MEMBER_METADATA_KEY_TYPE:
    case K_CONSUMER_GROUP_TARGET_ASSIGNMENT_MEMBER_KEY_TYPE:
    case K_CONSUMER_GROUP_CURRENT_MEMBER_ASSIGNMENT_KEY_TYPE:
        json_str(j, "memberId", k->member_id);
        break;
    case K_CONSUMER_GROUP_REGULAR_EXPRESSION_KEY_TYPE:
        json_str(j, "regularExpression", k->regex);
        break;
    default: break;
    }
    json_object_end(j);
    json_object_end(j);
}

static void put_value(struct json_out *j, const char *name, int16_t type, const struct group_value *v, struct arena *arena) {
    json_object(j, name);
    put_version(j, "version", v->version);
    json_object(j, "data");
    switch (type) {
    case K_LEGACY_OFFSET_COMMIT_KEY_TYPE:
    case K_OFFSET_COMMIT_KEY_TYPE: offset_commit(j, v); break;
    case K_GROUP_METADATA_KEY_TYPE: classic_group(j, v, arena); break;
    case K_CONSUMER_GROUP_METADATA_KEY_TYPE:
        json_i64(j, "epoch", v->consumer_group.epoch);
        if (v->consumer_group.metadata_hash != 0) json_i64(j, "metadataHash", v->consumer_group.metadata_hash);
        break;
    case K_CONSUMER_GROUP_PARTITION_METADATA_KEY_TYPE: partition_metadata(j, &v->partition_metadata); break;
    case K_CONSUMER_GROUP_MEMBER_METADATA_KEY_TYPE: member(j, &v->member); break;
    case K_CONSUMER_GROUP_TARGET_ASSIGNMENT_METADATA_KEY_TYPE:
        json_i64(j, "assignmentEpoch", v->target_metadata.assignment_epoch);
        if (v->target_metadata.assignment_timestamp != 0) json_i64(j, "assignmentTimestamp", v->target_metadata.assignment_timestamp);
        break;
    case K_CONSUMER_GROUP_TARGET_ASSIGNMENT_MEMBER_KEY_TYPE: target(j, &v->target_member); break;
    case K_CONSUMER_GROUP_CURRENT_MEMBER_ASSIGNMENT_KEY_TYPE:
        json_i64(j, "memberEpoch", v->current_member.member_epoch);
        json_i64(j, "previousMemberEpoch", v->current_member.previous_member_epoch);
        json_i64(j, "state", v->current_member.state);
        current_list(j, "assignedPartitions", v->current_member.assigned_partitions, v->current_member.assigned_partitions_n);
        current_list(j, "partitionsPendingRevocation", v->current_member.partitions_pending_revocation,
                     v->current_member.partitions_pending_revocation_n);
        break;
    case K_CONSUMER_GROUP_REGULAR_EXPRESSION_KEY_TYPE:
        json_names(j, "topics", v->regex.topics, v->regex.topics_n);
        json_i64(j, "version", v->regex.version);
        json_i64(j, "timestamp", v->regex.timestamp);
        break;
    default: break;
    }
    json_object_end(j);
    json_object_end(j);
}

/* Why a record cannot be decoded; "" when it was not a failure. */
static void say_undecoded(struct json_out *j, bool text, const struct record *r, const struct group_key *k, enum err err) {
    char what[120];
    if (err == ERR_UNSUPPORTED && !group_record_type_known(k->type)) {
        snprintf(what, sizeof what, "Unknown record type %d at offset %lld, skipping.", k->type, (long long)r->offset);
    } else {
        snprintf(what, sizeof what, "Error at offset %lld, skipping. %s", (long long)r->offset, err_str(err));
    }
    if (text) {
        printf(" key: %s", what);
        return;
    }
    json_text(j, "undecoded", what);
    json_hex(j, "key", r->key.p, (size_t)MAX(r->key.len, 0));
    if (r->value.p) json_hex(j, "payload", r->value.p, (size_t)r->value.len);
    else json_null(j, "payload");
}

void print_offsets_record(struct json_out *out, bool text, const struct record *r) {
    struct group_key key = {.type = -1};
    struct group_value value;
    struct arena arena;
    struct json_out plain;
    arena_init(&arena, DATA_BYTES_MAX);
    json_init(&plain, stdout);
    enum err err = r->key.p ? group_key_parse(r->key, &key) : ERR_TRUNCATED;
    if (err == OK && r->value.p) err = group_value_parse(key.type, r->value, &arena, &value);
    if (err != OK) {
        say_undecoded(out, text, r, &key, err);
    } else if (text) {
        fputs(" key: ", stdout);
        put_key(&plain, NULL, &key);
        fputs(" payload: ", stdout);
        json_init(&plain, stdout);
        if (r->value.p) put_value(&plain, NULL, key.type, &value, &arena);
        else fputs("<DELETE>", stdout);
    } else {
        put_key(out, "key", &key);
        if (r->value.p) put_value(out, "payload", key.type, &value, &arena);
        else json_null(out, "payload");
    }
    arena_free(&arena);
}
