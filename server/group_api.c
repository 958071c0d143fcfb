/* group_api.c - see group_api.h. */
#include "server/group_api.h"
#include "proto/kafka_messages.h"
#include "server/api_errors.h"

bool group_unknown(const struct group *g) { return g->offsets.count == 0 && !g->classic && !group_has_consumer(g); }

void group_op_begin(struct group_op *op) {
    if (op->group.len > 0) group_op_send(op);
    else group_op_refuse(op, KERR_INVALID_GROUP_ID);
}

int16_t group_commit_check(struct group *g, const struct group_committer *who, bool *per_partition) {
    *per_partition = false;
    if (group_has_consumer(g)) {
        struct group_view v;
        group_view_fill(g, &v);
        return consumer_group_check_commit(g->consumer, &v.env, who->member_id, who->instance_id, who->generation, false, who->version,
                                           per_partition);
    }
    if (g->classic) {
        struct classic_env env = group_classic_env(g);
        return classic_commit_check(g->classic, &env, who->generation, who->member_id, who->instance_id);
    }
    if (who->generation < 0) return KERR_NONE; /* makes a simple group */
    if (!group_unknown(g)) return KERR_UNKNOWN_MEMBER_ID;
    return who->version >= 9 ? KERR_GROUP_ID_NOT_FOUND : KERR_ILLEGAL_GENERATION;
}

int16_t group_fetch_check(const struct group *g, struct str member_id, int32_t member_epoch) {
    return group_has_consumer(g) ? consumer_group_check_fetch(g->consumer, member_id, member_epoch) : KERR_NONE;
}

bool group_is_empty(const struct group *g) {
    return group_has_consumer(g) ? consumer_group_member_count(g->consumer) == 0 : !g->classic || g->classic->count == 0;
}
bool group_recorded(const struct group *g) { return g->offsets.count > 0 || (g->classic && g->classic->recorded) || group_has_consumer(g); }
bool group_uses_consumer_protocol(const struct group *g) {
    return group_has_consumer(g) || (g->classic && str_is(g->classic->protocol_type, "consumer"));
}

/* ConsumerProtocolSubscription begins with the topics in every version. */
static bool subscription_has(struct bytes metadata, struct str topic) {
    struct wire_reader r = wire_reader_init(metadata.p, metadata.p ? (size_t)metadata.len : 0, NULL);
    int16_t version = wire_get_i16(&r);
    int32_t count = wire_get_count(&r, false, false, 2);
    for (int32_t i = 0; i < count && !r.err; i++)
        if (str_eq(wire_get_str(&r, false, false), topic) && !r.err) return true;
    return r.err || version < 0;
}

bool group_subscribes(const struct group *g, struct str topic) {
    if (group_has_consumer(g)) return consumer_group_subscribes(g->consumer, topic);
    if (!group_uses_consumer_protocol(g)) return false;
    for (const struct classic_member *m = g->classic->members; m; m = m->hh.next) {
        struct bytes metadata = classic_metadata(m, g->classic->protocol);
        if (!metadata.p && m->protocol_count > 0) metadata = m->protocols[0].metadata; /* it was in no generation yet */
        if (subscription_has(metadata, topic)) return true;
    }
    return false;
}

bool group_offsets_may_expire(const struct group *g) {
    return group_is_empty(g) || group_has_consumer(g) || (group_uses_consumer_protocol(g) && g->classic->state == CLASSIC_STABLE);
}

int64_t group_empty_since_ms(const struct group *g) {
    return !group_has_consumer(g) && g->classic && g->classic->protocol_type.p && g->classic->count == 0 ? g->classic->state_wall_ms : -1;
}

struct group_summary group_summary(const struct group *g) {
    struct group_summary s = {"Empty", "classic", STR_LIT(""), false};
    if (group_has_consumer(g)) {
        s = (struct group_summary){consumer_group_state_name(consumer_group_state(g->consumer)), "consumer", STR_LIT("consumer"), true};
    } else if (g->classic) {
        s.state = classic_state_name(g->classic->state);
        if (g->classic->protocol_type.p) s.protocol_type = g->classic->protocol_type;
    }
    return s;
}

/* ---- tombstones -------------------------------------------------------------------------------------- */

enum { TOMBSTONES_MAX = 1000, TOMBSTONES_BYTES_MAX = 1 << 20 };

void group_put_offset_tombstone(const struct group *g, struct str topic, int32_t partition, struct group_records *records) {
    struct group_key key = {.type = K_OFFSET_COMMIT_KEY_TYPE, .group = group_id(g), .topic = topic, .partition = partition};
    group_records_put(records, &key, NULL);
}

void group_put_group_tombstone(const struct group *g, struct group_records *records) {
    struct group_key key = {.type = K_GROUP_METADATA_KEY_TYPE, .group = group_id(g)};
    if (group_has_consumer(g)) consumer_group_delete(g->consumer, records);
    if (g->classic && g->classic->recorded) group_records_put(records, &key, NULL);
}

void group_put_tombstones(const struct group *g, struct group_records *records) {
    const struct group_offset_topic *topic;
    struct group_offsets_iter it = group_offsets_begin(&g->offsets);
    for (const struct group_offset *o; (o = group_offsets_next(&it, &topic));) {
        if (records->count >= TOMBSTONES_MAX || records->bytes.len >= TOMBSTONES_BYTES_MAX) return;
        group_put_offset_tombstone(g, (struct str){topic->name, topic->name_len}, o->partition, records);
    }
    group_put_group_tombstone(g, records);
}
