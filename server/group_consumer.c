/* The state of a consumer group: what its records say. Who owns a partition is kept beside the members' lists: a member's record
 * takes what it names, whoever had it (compaction may keep records of different ages), and gives up only what is still its own. */
#include "server/group_consumer.h"

#include <stdlib.h>
#include "base/assert.h"
#include "server/group_consumer_impl.h"

enum { ARENA_OF_RECORD = 256 << 20 }; /* more than what a batch of 8 MiB can say; a guard, not a budget */

int str_compare_sort(const void *a, const void *b) { return str_compare(*(const struct str *)a, *(const struct str *)b); }

void str_sort_unique(struct str *list, uint32_t *n) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < *n; i++)
        if (list[i].p) list[kept++] = list[i];
    *n = kept;
    if (kept < 2) return;
    qsort(list, kept, sizeof *list, str_compare_sort);
    kept = 1;
    for (uint32_t i = 1; i < *n; i++)
        if (!str_eq(list[i], list[kept - 1])) list[kept++] = list[i];
    *n = kept;
}

/* ---- lookups ---------------------------------------------------------------------------------- */

static struct consumer_member *member_any(const struct consumer_group *g, struct str id) {
    struct consumer_member *m = NULL;
    if (id.p) HASH_FIND(hh, g->members, id.p, (unsigned)id.len, m);
    return m;
}
struct consumer_member *consumer_member_find(const struct consumer_group *g, struct str id) {
    struct consumer_member *m = member_any(g, id);
    return m && m->known ? m : NULL;
}
struct consumer_member *consumer_member_by_instance(const struct consumer_group *g, struct str instance_id) {
    struct consumer_member *m = NULL;
    if (instance_id.p) HASH_FIND(hh_instance, g->instances, instance_id.p, (unsigned)instance_id.len, m);
    return m;
}

static struct consumer_owner *owner_find(const struct consumer_group *g, const struct uuid *topic, int32_t partition) {
    struct consumer_owner lookup, *found = NULL;
    lookup.key.topic = *topic;
    lookup.key.partition = partition;
    HASH_FIND(hh, g->owners, &lookup.key, sizeof lookup.key, found);
    return found;
}
struct consumer_member *consumer_owner_of(const struct consumer_group *g, const struct uuid *topic, int32_t partition) {
    struct consumer_owner *owner = owner_find(g, topic, partition);
    return owner ? owner->member : NULL;
}
struct consumer_regex *consumer_regex_find(const struct consumer_group *g, struct str text) {
    struct consumer_regex *re = NULL;
    if (text.p) HASH_FIND(hh, g->regexes, text.p, (unsigned)text.len, re);
    return re;
}

void consumer_timer_set(struct consumer_group *g, int64_t *deadline_ms, int64_t at_ms) {
    *deadline_ms = at_ms;
    g->timer_ms = MIN(g->timer_ms, at_ms);
}

/* ---- owners ----------------------------------------------------------------------------------- */

static void owners_drop(struct consumer_group *g, const struct consumer_member *m, const struct group_parts *set) {
    for (uint32_t i = 0; i < set->n; i++) {
        struct consumer_owner *owner = owner_find(g, &set->list[i].topic, set->list[i].partition);
        if (!owner || owner->member != m) continue;
        HASH_DELETE(hh, g->owners, owner);
        free(owner);
        g->bytes -= (int64_t)sizeof *owner;
    }
}

static enum err owners_take(struct consumer_group *g, struct consumer_member *m, const struct group_parts *set) {
    for (uint32_t i = 0; i < set->n; i++) {
        struct consumer_owner *owner = owner_find(g, &set->list[i].topic, set->list[i].partition);
        if (!owner) {
            owner = calloc(1, sizeof *owner);
            if (!owner) return ERR_NOMEM;
            owner->key.topic = set->list[i].topic;
            owner->key.partition = set->list[i].partition;
            HASH_ADD(hh, g->owners, key, sizeof owner->key, owner);
            g->bytes += (int64_t)sizeof *owner;
        }
        owner->member = m;
    }
    return OK;
}

/* An arena's smallest piece is 2 KiB, and what is used of a larger one is most of it. */
static int64_t arena_held(const struct arena *a) { return a->used_bytes ? (int64_t)MAX(a->used_bytes, (size_t)2048) : 0; }

/* ---- subscriptions ---------------------------------------------------------------------------- */

static enum err topic_ref(struct consumer_group *g, struct str name) {
    struct consumer_topic *t = NULL;
    HASH_FIND(hh, g->topics, name.p, (unsigned)name.len, t);
    if (!t) {
        t = calloc(1, sizeof *t + (size_t)name.len);
        if (!t) return ERR_NOMEM;
        t->len = name.len;
        memcpy(t->name, name.p, (size_t)name.len);
        HASH_ADD(hh, g->topics, name, (unsigned)name.len, t);
        g->bytes += (int64_t)sizeof *t + name.len;
    }
    t->members++;
    return OK;
}
static void topic_unref(struct consumer_group *g, struct str name) {
    struct consumer_topic *t = NULL;
    HASH_FIND(hh, g->topics, name.p, (unsigned)name.len, t);
    ASSERT(t);
    if (--t->members > 0) return;
    HASH_DELETE(hh, g->topics, t);
    g->bytes -= (int64_t)sizeof *t + t->len;
    free(t);
}

static struct consumer_regex *regex_get(struct consumer_group *g, struct str text) {
    struct consumer_regex *re = consumer_regex_find(g, text);
    if (re) return re;
    re = calloc(1, sizeof *re + (size_t)text.len);
    if (!re) return NULL;
    re->len = text.len;
    memcpy(re->text, text.p, (size_t)text.len);
    arena_init(&re->arena, ARENA_OF_RECORD);
    HASH_ADD(hh, g->regexes, text, (unsigned)text.len, re);
    g->bytes += (int64_t)sizeof *re + text.len;
    return re;
}
static void regex_clear(struct consumer_group *g, struct consumer_regex *re) {
    g->bytes -= arena_held(&re->arena);
    arena_free(&re->arena);
    free(re->bytes);
    re->bytes = NULL;
    re->resolved = false;
    re->value = (struct k_consumer_group_regular_expression_value){0};
}
static void regex_settle(struct consumer_group *g, struct consumer_regex *re) {
    if (re->members > 0 || re->resolved) return;
    regex_clear(g, re);
    HASH_DELETE(hh, g->regexes, re);
    g->bytes -= (int64_t)sizeof *re + re->len;
    free(re);
}

/* ---- members ---------------------------------------------------------------------------------- */

static struct consumer_member *member_get(struct consumer_group *g, struct str id) {
    struct consumer_member *m = member_any(g, id);
    if (m) return m;
    m = calloc(1, sizeof *m + (size_t)id.len);
    if (!m) return NULL;
    m->id_len = id.len;
    memcpy(m->id, id.p, (size_t)id.len);
    m->session_ms = m->rebalance_ms = m->join_ms = m->sync_ms = INT64_MAX;
    arena_init(&m->meta_arena, ARENA_OF_RECORD);
    HASH_ADD(hh, g->members, id, (unsigned)id.len, m);
    g->bytes += (int64_t)sizeof *m + id.len;
    return m;
}

static void meta_clear(struct consumer_group *g, struct consumer_member *m) {
    if (!m->known) return;
    if (m->meta.instance_id.p && consumer_member_by_instance(g, m->meta.instance_id) == m) HASH_DELETE(hh_instance, g->instances, m);
    for (int32_t i = 0; i < m->meta.subscribed_topic_names_n; i++) topic_unref(g, m->meta.subscribed_topic_names[i]);
    if (str_given(m->meta.subscribed_topic_regex)) {
        struct consumer_regex *re = consumer_regex_find(g, m->meta.subscribed_topic_regex);
        ASSERT(re && re->members > 0);
        re->members--;
        regex_settle(g, re);
    }
    g->member_count--;
    if (member_is_classic(m)) g->classic_count--;
    g->bytes -= arena_held(&m->meta_arena);
    arena_free(&m->meta_arena);
    free(m->meta_bytes);
    m->meta_bytes = NULL;
    m->meta = (member_meta){0};
    m->known = false;
}

static void parts_free(struct consumer_group *g, struct group_parts *set) {
    g->bytes -= (int64_t)(set->n * sizeof *set->list);
    free(set->list);
    *set = (struct group_parts){0};
}
static enum err parts_keep(struct consumer_group *g, struct group_parts *out, const struct group_parts *set) {
    enum err err = group_parts_copy(out, set);
    if (err == OK) g->bytes += (int64_t)(set->n * sizeof *set->list);
    return err;
}

static void current_clear(struct consumer_group *g, struct consumer_member *m) {
    owners_drop(g, m, &m->current.assigned);
    owners_drop(g, m, &m->current.pending);
    parts_free(g, &m->current.assigned);
    parts_free(g, &m->current.pending);
    m->current = (struct consumer_current){0};
    m->rebalance_ms = INT64_MAX;
}

static void member_free(struct consumer_group *g, struct consumer_member *m) {
    meta_clear(g, m);
    current_clear(g, m);
    parts_free(g, &m->target);
    HASH_DELETE(hh, g->members, m);
    g->bytes -= (int64_t)sizeof *m + m->id_len;
    free(m);
}

/* A member that no record says anything about any more. */
static void member_settle(struct consumer_group *g, struct consumer_member *m) {
    if (!m->known && m->current.epoch == 0 && m->current.assigned.n + m->current.pending.n + m->target.n == 0) member_free(g, m);
}

/* ---- replay ----------------------------------------------------------------------------------- */

static enum err value_copy(int16_t type, struct bytes value, struct arena *arena, uint8_t **bytes, struct group_value *out) {
    *bytes = malloc((size_t)value.len + 1);
    if (!*bytes) return ERR_NOMEM;
    memcpy(*bytes, value.p, (size_t)value.len);
    return group_value_parse(type, (struct bytes){*bytes, value.len}, arena, out);
}

static enum err replay_meta(struct consumer_group *g, const struct group_env *env, struct str id, struct bytes value) {
    struct consumer_member *m = value.p ? member_get(g, id) : member_any(g, id);
    if (!m) return value.p ? ERR_NOMEM : OK;
    bool was_known = m->known;
    if (!value.p) {
        member_free(g, m);
        return OK;
    }
    struct group_value v;
    uint8_t *bytes;
    struct arena arena;
    arena_init(&arena, ARENA_OF_RECORD);
    enum err err = value_copy(K_CONSUMER_GROUP_MEMBER_METADATA_KEY_TYPE, value, &arena, &bytes, &v);
    if (err != OK) {
        arena_free(&arena);
        free(bytes);
        member_settle(g, m);
        return err;
    }
    meta_clear(g, m);
    m->meta = v.member;
    m->meta_bytes = bytes;
    arena_free(&m->meta_arena);
    m->meta_arena = arena;
    m->known = true;
    uint32_t names = (uint32_t)MAX(m->meta.subscribed_topic_names_n, 0);
    str_sort_unique(m->meta.subscribed_topic_names, &names);
    m->meta.subscribed_topic_names_n = 0;
    g->member_count++;
    if (member_is_classic(m)) g->classic_count++;
    g->bytes += arena_held(&arena);
    for (uint32_t i = 0; i < names && err == OK; i++) {
        err = topic_ref(g, m->meta.subscribed_topic_names[i]);
        if (err == OK) m->meta.subscribed_topic_names_n++;
    }
    if (str_given(m->meta.subscribed_topic_regex)) {
        struct consumer_regex *re = regex_get(g, m->meta.subscribed_topic_regex);
        if (re) re->members++;
        else m->meta.subscribed_topic_regex = STR_NULL, err = ERR_NOMEM;
    }
    if (str_given(m->meta.instance_id)) {
        struct consumer_member *other = consumer_member_by_instance(g, m->meta.instance_id);
        if (other) HASH_DELETE(hh_instance, g->instances, other);
        HASH_ADD_KEYPTR(hh_instance, g->instances, m->meta.instance_id.p, (unsigned)m->meta.instance_id.len, m);
    } else {
        m->meta.instance_id = STR_NULL;
    }
    if (!was_known) {
        int32_t timeout = member_is_classic(m) ? m->meta.classic_member_metadata->session_timeout_ms : env->session_timeout_ms;
        consumer_timer_set(g, &m->session_ms, env->now_ms + timeout);
        if (member_is_classic(m)) consumer_timer_set(g, &m->sync_ms, env->now_ms + MAX(m->meta.rebalance_timeout_ms, 0));
    }
    return err;
}

/* The k_ struct of type 8 has epochs beside the partitions; they may be missing, and then are the member's (as in Kafka). */
static enum err parts_with_epochs(const struct k_consumer_group_current_member_assignment_value_topic_partitions *topics, int32_t n,
                                  int32_t epoch, struct arena *arena, struct group_parts *out) {
    size_t total = 0;
    for (int32_t t = 0; t < n; t++) total += topics[t].partitions_n > 0 ? (size_t)topics[t].partitions_n : 0;
    enum err err = group_parts_room(out, total, arena);
    for (int32_t t = 0; t < n && err == OK; t++) {
        for (int32_t p = 0; p < topics[t].partitions_n && err == OK; p++) {
            int32_t since = p < topics[t].assignment_epochs_n ? topics[t].assignment_epochs[p] : epoch;
            if (topics[t].partitions[p] < 0) err = ERR_CORRUPT;
            else group_parts_add(out, &topics[t].topic_id, topics[t].partitions[p], since);
        }
    }
    if (err == OK) group_parts_sort(out);
    return err;
}

static enum err replay_current(struct consumer_group *g, const struct group_env *env, struct str id, struct bytes value, struct arena *arena) {
    struct consumer_member *m = value.p ? member_get(g, id) : member_any(g, id);
    if (!m) return value.p ? ERR_NOMEM : OK;
    struct group_value v;
    struct group_parts assigned = {0}, pending = {0};
    enum err err = OK;
    if (value.p) {
        err = group_value_parse(K_CONSUMER_GROUP_CURRENT_MEMBER_ASSIGNMENT_KEY_TYPE, value, arena, &v);
        if (err == OK)
            err = parts_with_epochs(v.current_member.assigned_partitions, v.current_member.assigned_partitions_n, v.current_member.member_epoch,
                                    arena, &assigned);
        if (err == OK)
            err = parts_with_epochs(v.current_member.partitions_pending_revocation, v.current_member.partitions_pending_revocation_n,
                                    v.current_member.member_epoch, arena, &pending);
    }
    if (err == OK) {
        current_clear(g, m);
        if (value.p) {
            m->current.epoch = v.current_member.member_epoch;
            m->current.previous_epoch = v.current_member.previous_member_epoch;
            m->current.state = v.current_member.state;
            err = parts_keep(g, &m->current.assigned, &assigned);
            if (err == OK) err = parts_keep(g, &m->current.pending, &pending);
            if (err == OK) err = owners_take(g, m, &m->current.assigned);
            if (err == OK) err = owners_take(g, m, &m->current.pending);
            if (m->current.state == CONSUMER_MEMBER_UNREVOKED && m->current.epoch >= 0 && m->known && !member_is_classic(m))
                consumer_timer_set(g, &m->rebalance_ms, env->now_ms + MAX(m->meta.rebalance_timeout_ms, 0));
        }
    }
    member_settle(g, m);
    return err;
}

static enum err replay_target(struct consumer_group *g, struct str id, struct bytes value, struct arena *arena) {
    struct consumer_member *m = value.p ? member_get(g, id) : member_any(g, id);
    if (!m) return value.p ? ERR_NOMEM : OK;
    struct group_value v;
    struct group_parts target = {0};
    enum err err = OK;
    if (value.p) {
        err = group_value_parse(K_CONSUMER_GROUP_TARGET_ASSIGNMENT_MEMBER_KEY_TYPE, value, arena, &v);
        if (err == OK)
            err = group_parts_from_topics((const struct group_topic_parts *)v.target_member.topic_partitions,
                                          v.target_member.topic_partitions_n, arena, &target);
    }
    if (err == OK) {
        parts_free(g, &m->target);
        err = parts_keep(g, &m->target, &target);
    }
    member_settle(g, m);
    return err;
}

static enum err replay_regex(struct consumer_group *g, struct str text, struct bytes value) {
    struct consumer_regex *re = value.p ? regex_get(g, text) : consumer_regex_find(g, text);
    if (!re) return value.p ? ERR_NOMEM : OK;
    regex_clear(g, re);
    enum err err = OK;
    if (value.p) {
        struct group_value v;
        arena_init(&re->arena, ARENA_OF_RECORD);
        err = value_copy(K_CONSUMER_GROUP_REGULAR_EXPRESSION_KEY_TYPE, value, &re->arena, &re->bytes, &v);
        g->bytes += arena_held(&re->arena);
        if (err == OK) {
            uint32_t n = (uint32_t)MAX(v.regex.topics_n, 0);
            str_sort_unique(v.regex.topics, &n);
            v.regex.topics_n = (int32_t)n;
            re->value = v.regex;
            re->resolved = true;
        }
    }
    regex_settle(g, re);
    return err;
}

static enum err replay_epoch(struct consumer_group *g, struct bytes value, struct arena *arena) {
    struct group_value v;
    if (value.p) {
        enum err err = group_value_parse(K_CONSUMER_GROUP_METADATA_KEY_TYPE, value, arena, &v);
        if (err != OK) return err;
    }
    g->epoch = value.p ? v.consumer_group.epoch : 0;
    g->metadata_hash = value.p ? v.consumer_group.metadata_hash : 0;
    return OK;
}

static enum err replay_target_epoch(struct consumer_group *g, struct bytes value, struct arena *arena) {
    struct group_value v;
    if (value.p) {
        enum err err = group_value_parse(K_CONSUMER_GROUP_TARGET_ASSIGNMENT_METADATA_KEY_TYPE, value, arena, &v);
        if (err != OK) return err;
    }
    g->assignment_epoch = value.p ? v.target_metadata.assignment_epoch : 0;
    g->assignment_ms = value.p ? v.target_metadata.assignment_timestamp : 0;
    return OK;
}

enum err consumer_group_replay(struct consumer_group *g, const struct group_env *env, const struct group_key *key, struct bytes value) {
    struct arena arena;
    arena_init(&arena, ARENA_OF_RECORD);
    enum err err = OK;
    switch (key->type) {
    case K_CONSUMER_GROUP_METADATA_KEY_TYPE: err = replay_epoch(g, value, &arena); break;
    case K_CONSUMER_GROUP_PARTITION_METADATA_KEY_TYPE: g->has_partition_metadata = value.p != NULL; break;
    case K_CONSUMER_GROUP_MEMBER_METADATA_KEY_TYPE: err = replay_meta(g, env, key->member_id, value); break;
    case K_CONSUMER_GROUP_TARGET_ASSIGNMENT_METADATA_KEY_TYPE: err = replay_target_epoch(g, value, &arena); break;
    case K_CONSUMER_GROUP_TARGET_ASSIGNMENT_MEMBER_KEY_TYPE: err = replay_target(g, key->member_id, value, &arena); break;
    case K_CONSUMER_GROUP_CURRENT_MEMBER_ASSIGNMENT_KEY_TYPE: err = replay_current(g, env, key->member_id, value, &arena); break;
    case K_CONSUMER_GROUP_REGULAR_EXPRESSION_KEY_TYPE: err = replay_regex(g, key->regex, value); break;
    default: err = ERR_UNSUPPORTED; break;
    }
    arena_free(&arena);
    return err;
}

void consumer_group_loaded(struct consumer_group *g, const struct group_env *env) {
    struct consumer_member *m, *next;
    HASH_ITER(hh, g->members, m, next) {
        if (!m->known) { /* its tombstone, and what came before, have been compacted away */
            member_free(g, m);
            continue;
        }
        int32_t timeout = member_is_classic(m) ? m->meta.classic_member_metadata->session_timeout_ms : env->session_timeout_ms;
        consumer_timer_set(g, &m->session_ms, env->now_ms + timeout);
        m->rebalance_ms = m->join_ms = m->sync_ms = INT64_MAX;
        if (m->current.state == CONSUMER_MEMBER_UNREVOKED && m->current.epoch >= 0 && !member_is_classic(m))
            consumer_timer_set(g, &m->rebalance_ms, env->now_ms + MAX(m->meta.rebalance_timeout_ms, 0));
    }
}

/* ---- life ------------------------------------------------------------------------------------- */

struct consumer_group *consumer_group_new(struct str id) {
    struct consumer_group *g = calloc(1, sizeof *g + (size_t)id.len);
    if (!g) return NULL;
    g->id_len = id.len;
    if (id.len) memcpy(g->id, id.p, (size_t)id.len);
    g->timer_ms = INT64_MAX;
    g->bytes = (int64_t)sizeof *g + id.len;
    return g;
}

void consumer_group_free(struct consumer_group *g) {
    if (!g) return;
    struct consumer_member *m, *next_member;
    HASH_ITER(hh, g->members, m, next_member) member_free(g, m);
    struct consumer_regex *re, *next_regex;
    HASH_ITER(hh, g->regexes, re, next_regex) {
        regex_clear(g, re);
        regex_settle(g, re);
    }
    ASSERT(!g->owners && !g->topics && !g->regexes && !g->instances);
    free(g);
}

int64_t consumer_group_bytes(const struct consumer_group *g) { return g->bytes; }

bool consumer_group_is_gone(const struct consumer_group *g) {
    return !g->members && !g->regexes && g->epoch == 0 && g->assignment_epoch == 0 && !g->has_partition_metadata;
}

uint32_t consumer_group_member_count(const struct consumer_group *g) { return g->member_count; }
int32_t consumer_group_epoch(const struct consumer_group *g) { return g->epoch; }
