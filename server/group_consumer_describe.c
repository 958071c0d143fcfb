/* What others may know of a consumer group: its state, its members, and whether an offset request may pass. */
#include <stdlib.h>
#include "server/group_consumer_impl.h"

enum consumer_group_state consumer_group_state(const struct consumer_group *g) {
    if (g->member_count == 0) return CONSUMER_GROUP_EMPTY;
    if (g->epoch > g->assignment_epoch) return CONSUMER_GROUP_ASSIGNING;
    for (const struct consumer_member *m = g->members; m; m = m->hh.next)
        if (m->known && (m->current.state != CONSUMER_MEMBER_STABLE || m->current.epoch != g->assignment_epoch)) return CONSUMER_GROUP_RECONCILING;
    return CONSUMER_GROUP_STABLE;
}

const char *consumer_group_state_name(enum consumer_group_state state) {
    static const char *const names[] = {"Empty", "Assigning", "Reconciling", "Stable"};
    return names[state];
}

static int by_id(const void *a, const void *b) {
    return str_compare(member_id(*(const struct consumer_member *const *)a), member_id(*(const struct consumer_member *const *)b));
}

static bool copy_str(struct arena *arena, struct str s, struct str *out) {
    *out = s;
    if (!s.p) return true;
    out->p = arena_strdup(arena, s);
    return out->p != NULL;
}

static enum err describe_parts(const struct group_env *env, const struct group_parts *set, struct arena *arena,
                               struct k_consumer_group_describe_response_assignment *out) {
    struct group_topic_parts *topics;
    int32_t n;
    enum err err = group_parts_by_topic(set, arena, &topics, &n);
    if (err != OK) return err;
    out->topic_partitions = arena_array(arena, (size_t)MAX(n, 1), sizeof *out->topic_partitions);
    out->topic_partitions_n = 0;
    if (!out->topic_partitions) return ERR_NOMEM;
    for (int32_t t = 0; t < n; t++) {
        struct group_topic topic;
        if (!env->topics->by_id(env->topics->image, &topics[t].topic_id, &topic)) continue; /* deleted */
        struct k_consumer_group_describe_response_topic_partitions *to = &out->topic_partitions[out->topic_partitions_n++];
        *to = (struct k_consumer_group_describe_response_topic_partitions){
            .topic_id = topics[t].topic_id, .partitions = topics[t].partitions, .partitions_n = topics[t].partitions_n};
        if (!copy_str(arena, topic.name, &to->topic_name)) return ERR_NOMEM;
    }
    return OK;
}

static enum err describe_member(const struct consumer_member *m, const struct group_env *env, struct arena *arena,
                                struct k_consumer_group_describe_response_groups_members *out) {
    k_consumer_group_describe_response_groups_members_init(out);
    bool ok = copy_str(arena, member_id(m), &out->member_id) && copy_str(arena, m->meta.instance_id, &out->instance_id) &&
              copy_str(arena, m->meta.rack_id, &out->rack_id) && copy_str(arena, m->meta.client_id, &out->client_id) &&
              copy_str(arena, m->meta.client_host, &out->client_host) && copy_str(arena, m->meta.subscribed_topic_regex, &out->subscribed_topic_regex);
    out->subscribed_topic_names = arena_array(arena, (size_t)MAX(m->meta.subscribed_topic_names_n, 1), sizeof *out->subscribed_topic_names);
    if (!ok || !out->subscribed_topic_names) return ERR_NOMEM;
    for (int32_t i = 0; i < m->meta.subscribed_topic_names_n; i++)
        if (!copy_str(arena, m->meta.subscribed_topic_names[i], &out->subscribed_topic_names[i])) return ERR_NOMEM;
    out->subscribed_topic_names_n = m->meta.subscribed_topic_names_n;
    out->member_epoch = m->current.epoch;
    out->member_type = member_is_classic(m) ? 0 : 1;
    enum err err = describe_parts(env, &m->current.assigned, arena, &out->assignment);
    return err == OK ? describe_parts(env, &m->target, arena, &out->target_assignment) : err;
}

/* The assignor that most members ask for; the default when they do not care. */
static struct str assignor_name(const struct consumer_group *g, const struct group_env *env) {
    uint32_t votes[8] = {0}, best = 0;
    uint32_t n = MIN(env->assignors_n, ARRAY_LEN(votes));
    if (n == 0) return STR_LIT("uniform");
    for (const struct consumer_member *m = g->members; m; m = m->hh.next)
        for (uint32_t i = 0; i < n; i++) votes[i] += m->known && str_eq(m->meta.server_assignor, env->assignors[i]);
    for (uint32_t i = 1; i < n; i++)
        if (votes[i] > votes[best]) best = i;
    return env->assignors[best];
}

enum err consumer_group_describe(const struct consumer_group *g, const struct group_env *env, struct arena *arena,
                                 struct k_consumer_group_describe_response_groups *reply) {
    const struct consumer_member **list = arena_array(arena, MAX(g->member_count, 1u), sizeof *list);
    if (!list || !copy_str(arena, group_name(g), &reply->group_id)) return ERR_NOMEM;
    uint32_t n = 0;
    for (const struct consumer_member *m = g->members; m; m = m->hh.next)
        if (m->known) list[n++] = m;
    if (n > 1) qsort(list, n, sizeof *list, by_id);
    reply->group_state = str_from(consumer_group_state_name(consumer_group_state(g)));
    reply->group_epoch = g->epoch;
    reply->assignment_epoch = g->assignment_epoch;
    reply->assignor_name = assignor_name(g, env);
    reply->members = arena_array(arena, MAX(n, 1u), sizeof *reply->members);
    if (!reply->members) return ERR_NOMEM;
    reply->members_n = (int32_t)n;
    for (uint32_t i = 0; i < n; i++) {
        enum err err = describe_member(list[i], env, arena, &reply->members[i]);
        if (err != OK) return err;
    }
    return OK;
}

/* ---- offsets ---------------------------------------------------------------------------------- */

int16_t consumer_group_check_commit(struct consumer_group *g, const struct group_env *env, struct str id, struct str instance_id, int32_t epoch,
                                    bool transactional, int16_t version, bool *per_partition) {
    *per_partition = false;
    if (epoch < 0 && g->member_count == 0) return 0; /* an administrator sets offsets */
    if (transactional && epoch == -1 && id.len == 0 && !instance_id.p) return 0;
    struct consumer_member *m = consumer_member_find(g, id);
    if (!m) return KERR_UNKNOWN_MEMBER_ID;
    if (member_is_classic(m)) {
        consumer_timer_set(g, &m->session_ms, env->now_ms + m->meta.classic_member_metadata->session_timeout_ms);
    } else if (!transactional && version < 9) {
        return KERR_UNSUPPORTED_VERSION;
    }
    if (epoch == m->current.epoch) return 0;
    if (epoch > m->current.epoch) return member_is_classic(m) ? KERR_ILLEGAL_GENERATION : KERR_STALE_MEMBER_EPOCH;
    *per_partition = true;
    return 0;
}

int16_t consumer_group_check_partition(const struct consumer_group *g, const struct group_env *env, struct str id, int32_t epoch, struct str topic,
                                       int32_t partition) {
    const struct consumer_member *m = consumer_member_find(g, id);
    if (!m) return KERR_UNKNOWN_MEMBER_ID;
    struct group_topic t;
    const struct group_part *p = NULL;
    if (env->topics->by_name(env->topics->image, topic, &t)) {
        p = group_parts_find(&m->current.assigned, &t.id, partition);
        if (!p) p = group_parts_find(&m->current.pending, &t.id, partition);
    }
    if (p && p->epoch <= epoch) return 0;
    return member_is_classic(m) ? KERR_ILLEGAL_GENERATION : KERR_STALE_MEMBER_EPOCH;
}

int16_t consumer_group_check_fetch(const struct consumer_group *g, struct str id, int32_t epoch) {
    if (!id.p && epoch < 0) return 0;
    const struct consumer_member *m = consumer_member_find(g, id);
    if (!m) return KERR_UNKNOWN_MEMBER_ID;
    if (epoch == m->current.epoch) return 0;
    return member_is_classic(m) ? KERR_ILLEGAL_GENERATION : KERR_STALE_MEMBER_EPOCH;
}

bool consumer_group_subscribes(const struct consumer_group *g, struct str topic) {
    const struct consumer_topic *t = NULL;
    HASH_FIND(hh, g->topics, topic.p, (unsigned)topic.len, t);
    if (t) return true;
    for (const struct consumer_regex *re = g->regexes; re; re = re->hh.next)
        if (re->members > 0 && re->value.topics_n > 0 &&
            bsearch(&topic, re->value.topics, (size_t)re->value.topics_n, sizeof topic, str_compare_sort))
            return true;
    return false;
}

void consumer_group_delete(const struct consumer_group *g, struct group_records *out) {
    struct group_key key = {.group = group_name(g)};
    static const int16_t of_member[] = {K_CONSUMER_GROUP_CURRENT_MEMBER_ASSIGNMENT_KEY_TYPE, K_CONSUMER_GROUP_TARGET_ASSIGNMENT_MEMBER_KEY_TYPE,
                                        K_CONSUMER_GROUP_MEMBER_METADATA_KEY_TYPE};
    for (uint32_t i = 0; i < ARRAY_LEN(of_member); i++) {
        key.type = of_member[i];
        for (const struct consumer_member *m = g->members; m; m = m->hh.next) {
            key.member_id = member_id(m);
            group_records_put(out, &key, NULL);
        }
    }
    key.member_id = STR_NULL;
    key.type = K_CONSUMER_GROUP_REGULAR_EXPRESSION_KEY_TYPE;
    for (const struct consumer_regex *re = g->regexes; re; re = re->hh.next) {
        if (!re->resolved) continue;
        key.regex = (struct str){re->text, re->len};
        group_records_put(out, &key, NULL);
    }
    key.regex = STR_NULL;
    key.type = K_CONSUMER_GROUP_TARGET_ASSIGNMENT_METADATA_KEY_TYPE;
    if (g->assignment_epoch != 0) group_records_put(out, &key, NULL);
    key.type = K_CONSUMER_GROUP_PARTITION_METADATA_KEY_TYPE;
    if (g->has_partition_metadata) group_records_put(out, &key, NULL);
    key.type = K_CONSUMER_GROUP_METADATA_KEY_TYPE;
    group_records_put(out, &key, NULL);
}
