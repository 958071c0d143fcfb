/* What a change to a group adds up to: the records, the hash over the topics, the target assignment, the next step of a member. */
#include <stdlib.h>
#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>
#include "base/assert.h"
#include "server/group_consumer_impl.h"

void change_init(struct change *c, struct consumer_group *g, const struct group_env *env, struct arena *arena, struct group_records *out) {
    *c = (struct change){.g = g, .env = env, .arena = arena, .out = out,
                         .epoch = g->epoch, .assignment_epoch = g->assignment_epoch, .metadata_hash = g->metadata_hash};
}

static void *change_array(struct change *c, size_t n, size_t size) {
    void *p = arena_array(c->arena, MAX(n, 1u), size);
    if (!p) c->nomem = true;
    return p;
}

/* ---- records ---------------------------------------------------------------------------------- */

void change_put(struct change *c, int16_t type, struct str member, const struct group_value *value) {
    struct group_key key = {.type = type, .group = group_name(c->g), .member_id = member};
    group_records_put(c->out, &key, value);
}

void change_put_meta(struct change *c) {
    struct group_value v;
    group_value_init(K_CONSUMER_GROUP_MEMBER_METADATA_KEY_TYPE, &v);
    v.member = c->meta;
    change_put(c, K_CONSUMER_GROUP_MEMBER_METADATA_KEY_TYPE, c->id, &v);
}

static void parts_value(struct change *c, const struct group_parts *set,
                        struct k_consumer_group_current_member_assignment_value_topic_partitions **out, int32_t *out_n) {
    struct group_topic_parts *topics;
    int32_t n;
    *out = NULL;
    *out_n = 0;
    if (group_parts_by_topic(set, c->arena, &topics, &n) != OK) {
        c->nomem = true;
        return;
    }
    if (n == 0) return;
    struct k_consumer_group_current_member_assignment_value_topic_partitions *list = change_array(c, (size_t)n, sizeof *list);
    int32_t *epochs = change_array(c, set->n, sizeof *epochs);
    if (!list || !epochs) return;
    for (uint32_t i = 0; i < set->n; i++) epochs[i] = set->list[i].epoch;
    for (int32_t t = 0; t < n; t++) {
        list[t].topic_id = topics[t].topic_id;
        list[t].partitions = topics[t].partitions;
        list[t].partitions_n = list[t].assignment_epochs_n = topics[t].partitions_n;
        list[t].assignment_epochs = epochs + (topics[t].partitions - topics[0].partitions);
    }
    *out = list;
    *out_n = n;
}

void change_put_current(struct change *c) {
    struct group_value v;
    group_value_init(K_CONSUMER_GROUP_CURRENT_MEMBER_ASSIGNMENT_KEY_TYPE, &v);
    v.current_member.member_epoch = c->current.epoch;
    v.current_member.previous_member_epoch = c->current.previous_epoch;
    v.current_member.state = c->current.state;
    parts_value(c, &c->current.assigned, &v.current_member.assigned_partitions, &v.current_member.assigned_partitions_n);
    parts_value(c, &c->current.pending, &v.current_member.partitions_pending_revocation, &v.current_member.partitions_pending_revocation_n);
    if (!c->nomem) change_put(c, K_CONSUMER_GROUP_CURRENT_MEMBER_ASSIGNMENT_KEY_TYPE, c->id, &v);
}

void change_put_target(struct change *c, struct str member, const struct group_parts *target) {
    struct group_value v;
    struct group_topic_parts *topics;
    group_value_init(K_CONSUMER_GROUP_TARGET_ASSIGNMENT_MEMBER_KEY_TYPE, &v);
    if (group_parts_by_topic(target, c->arena, &topics, &v.target_member.topic_partitions_n) != OK) {
        c->nomem = true;
        return;
    }
    v.target_member.topic_partitions = (void *)topics;
    change_put(c, K_CONSUMER_GROUP_TARGET_ASSIGNMENT_MEMBER_KEY_TYPE, member, &v);
}

void change_put_removed(struct change *c, struct str member) {
    change_put(c, K_CONSUMER_GROUP_CURRENT_MEMBER_ASSIGNMENT_KEY_TYPE, member, NULL);
    change_put(c, K_CONSUMER_GROUP_TARGET_ASSIGNMENT_MEMBER_KEY_TYPE, member, NULL);
    change_put(c, K_CONSUMER_GROUP_MEMBER_METADATA_KEY_TYPE, member, NULL);
}

void change_put_epoch(struct change *c) {
    struct group_value v;
    group_value_init(K_CONSUMER_GROUP_METADATA_KEY_TYPE, &v);
    v.consumer_group.epoch = ++c->epoch;
    v.consumer_group.metadata_hash = c->metadata_hash;
    change_put(c, K_CONSUMER_GROUP_METADATA_KEY_TYPE, STR_NULL, &v);
    if (c->g->has_partition_metadata) change_put(c, K_CONSUMER_GROUP_PARTITION_METADATA_KEY_TYPE, STR_NULL, NULL);
}

/* ---- subscriptions after the change ----------------------------------------------------------- */

/* Members that are no longer what they were: those that go, the replaced one, the old form of the changed one. */
static bool leaves(const struct change *c, const struct consumer_member *m) {
    if (m == c->old || m == c->replaced) return true;
    for (uint32_t i = 0; i < c->gone_n; i++)
        if (c->gone[i] == m) return true;
    return false;
}

static uint32_t regex_members_after(const struct change *c, const struct consumer_regex *re) {
    struct str text = {re->text, re->len};
    uint32_t n = re->members;
    for (uint32_t i = 0; i < c->gone_n; i++) n -= str_eq(c->gone[i]->meta.subscribed_topic_regex, text);
    if (c->old) n -= str_eq(c->old->meta.subscribed_topic_regex, text);
    if (c->replaced) n -= str_eq(c->replaced->meta.subscribed_topic_regex, text);
    if (c->has_member) n += str_eq(c->meta.subscribed_topic_regex, text);
    return n;
}

void change_drop_regexes(struct change *c) {
    struct consumer_regex *re, *next;
    HASH_ITER(hh, c->g->regexes, re, next) {
        if (!re->resolved || regex_members_after(c, re) > 0) continue;
        struct group_key key = {.type = K_CONSUMER_GROUP_REGULAR_EXPRESSION_KEY_TYPE, .group = group_name(c->g), .regex = {re->text, re->len}};
        group_records_put(c->out, &key, NULL);
    }
}

void change_put_regex(struct change *c, const struct change_regex *re) {
    struct group_value v;
    struct group_key key = {.type = K_CONSUMER_GROUP_REGULAR_EXPRESSION_KEY_TYPE, .group = group_name(c->g), .regex = re->regex};
    group_value_init(key.type, &v);
    v.regex.topics = re->topics;
    v.regex.topics_n = (int32_t)re->topics_n;
    v.regex.version = (int64_t)c->env->topics->version;
    v.regex.timestamp = c->env->now_ms;
    group_records_put(c->out, &key, &v);
}

void change_regex_topics(const struct change *c, struct str regex, const struct str **topics, uint32_t *n) {
    *topics = NULL;
    *n = 0;
    if (!str_given(regex)) return;
    for (uint32_t i = 0; i < c->regexes_n; i++) {
        if (!str_eq(regex, c->regexes[i].regex)) continue;
        *topics = c->regexes[i].topics;
        *n = c->regexes[i].topics_n;
        return;
    }
    const struct consumer_regex *re = consumer_regex_find(c->g, regex);
    if (!re || !re->resolved) return;
    *topics = re->value.topics;
    *n = (uint32_t)re->value.topics_n;
}

struct name_delta { struct str name; int64_t members; };
static int delta_order(const void *a, const void *b) { return str_compare(((const struct name_delta *)a)->name, ((const struct name_delta *)b)->name); }

static void delta_add(struct name_delta *list, uint32_t *n, const member_meta *meta, int members) {
    for (int32_t i = 0; i < meta->subscribed_topic_names_n; i++) list[(*n)++] = (struct name_delta){meta->subscribed_topic_names[i], members};
}

/* What the change adds to the numbers of subscribers, by name; ascending. */
static struct name_delta *deltas(struct change *c, uint32_t *out_n) {
    size_t room = 0;
    for (uint32_t i = 0; i < c->gone_n; i++) room += (size_t)c->gone[i]->meta.subscribed_topic_names_n;
    if (c->old) room += (size_t)c->old->meta.subscribed_topic_names_n;
    if (c->replaced) room += (size_t)c->replaced->meta.subscribed_topic_names_n;
    if (c->has_member) room += (size_t)c->meta.subscribed_topic_names_n;
    struct name_delta *list = change_array(c, room, sizeof *list);
    *out_n = 0;
    if (!list) return NULL;
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->gone_n; i++) delta_add(list, &n, &c->gone[i]->meta, -1);
    if (c->old) delta_add(list, &n, &c->old->meta, -1);
    if (c->replaced) delta_add(list, &n, &c->replaced->meta, -1);
    if (c->has_member) delta_add(list, &n, &c->meta, 1);
    if (n > 1) qsort(list, n, sizeof *list, delta_order);
    for (uint32_t i = 0; i < n; i++) {
        if (*out_n > 0 && str_eq(list[*out_n - 1].name, list[i].name)) list[*out_n - 1].members += list[i].members;
        else list[(*out_n)++] = list[i];
    }
    return list;
}

bool change_touches_topics(const struct change *c) {
    struct change probe = *c;
    uint32_t n;
    const struct name_delta *list = deltas(&probe, &n);
    if (!list) return true;
    for (uint32_t i = 0; i < n; i++) {
        const struct consumer_topic *t = NULL;
        HASH_FIND(hh, c->g->topics, list[i].name.p, (unsigned)list[i].name.len, t);
        int64_t before = t ? t->members : 0;
        if ((before > 0) != (before + list[i].members > 0)) return true;
    }
    const struct consumer_regex *re;
    for (re = c->g->regexes; re; re = re->hh.next)
        if ((re->members > 0) != (regex_members_after(c, re) > 0)) return true;
    return c->regexes_n > 0 || (c->has_member && str_given(c->meta.subscribed_topic_regex) && !consumer_regex_find(c->g, c->meta.subscribed_topic_regex));
}

/* Names of all topics that somebody subscribes to; ascending, without duplicates. */
static struct str *union_of_topics(struct change *c, uint32_t *out_n) {
    uint32_t delta_n, n = 0;
    const struct name_delta *delta = deltas(c, &delta_n);
    *out_n = 0;
    if (!delta) return NULL;
    size_t room = HASH_CNT(hh, c->g->topics) + (size_t)delta_n;
    for (uint32_t i = 0; i < c->regexes_n; i++) room += c->regexes[i].topics_n;
    const struct consumer_regex *re;
    for (re = c->g->regexes; re; re = re->hh.next) room += (size_t)re->value.topics_n;
    struct str *list = change_array(c, room, sizeof *list);
    if (!list) return NULL;
    const struct consumer_topic *t;
    for (t = c->g->topics; t; t = t->hh.next) {
        struct name_delta lookup = {.name = {t->name, t->len}};
        const struct name_delta *d = delta_n ? bsearch(&lookup, delta, delta_n, sizeof *delta, delta_order) : NULL;
        if ((int64_t)t->members + (d ? d->members : 0) > 0) list[n++] = lookup.name;
    }
    for (uint32_t i = 0; i < delta_n; i++)
        if (delta[i].members > 0) list[n++] = delta[i].name;
    for (re = c->g->regexes; re; re = re->hh.next) {
        const struct str *topics;
        uint32_t topics_n;
        bool now = false; /* in this call: below */
        for (uint32_t i = 0; i < c->regexes_n; i++) now |= str_eq(c->regexes[i].regex, (struct str){re->text, re->len});
        if (now || regex_members_after(c, re) == 0) continue;
        change_regex_topics(c, (struct str){re->text, re->len}, &topics, &topics_n);
        for (uint32_t i = 0; i < topics_n; i++) list[n++] = topics[i];
    }
    for (uint32_t r = 0; r < c->regexes_n; r++)
        for (uint32_t i = 0; i < c->regexes[r].topics_n; i++) list[n++] = c->regexes[r].topics[i];
    str_sort_unique(list, &n);
    *out_n = n;
    return list;
}

/* ---- the hash over the topics ----------------------------------------------------------------- */

/* Kafka's (KIP-1101), so that a group keeps its epoch when its coordinator changes hands: XXH3-64 over magic 0, the id as two
 * int64, the name in UTF-16 followed by its length, the number of partitions, and for each its number and its
 * racks (length, name, length), ascending; integers little-endian. Names of topics are ASCII. */
struct hasher { XXH3_state_t state; };
static void hash_i32(struct hasher *h, uint32_t v) {
    uint8_t b[4];
    store_le32(b, v);
    XXH3_64bits_update(&h->state, b, sizeof b);
}
static void hash_i64(struct hasher *h, uint64_t v) {
    uint8_t b[8];
    store_le64(b, v);
    XXH3_64bits_update(&h->state, b, sizeof b);
}
static void hash_str(struct hasher *h, struct str s) {
    for (int32_t i = 0; i < s.len; i++) {
        uint8_t unit[2] = {(uint8_t)s.p[i], 0};
        XXH3_64bits_update(&h->state, unit, sizeof unit);
    }
    hash_i32(h, (uint32_t)s.len);
}

enum { RACKS_MAX = 16 };

static uint64_t topic_hash(const struct group_topics *topics, const struct group_topic *t) {
    struct hasher h;
    XXH3_64bits_reset(&h.state);
    XXH3_64bits_update(&h.state, "", 1);
    hash_i64(&h, load_be64(t->id.b));
    hash_i64(&h, load_be64(t->id.b + 8));
    hash_str(&h, t->name);
    hash_i32(&h, (uint32_t)t->partitions);
    for (int32_t p = 0; p < t->partitions; p++) {
        struct str racks[RACKS_MAX];
        hash_i32(&h, (uint32_t)p);
        uint32_t n = topics->racks ? topics->racks(topics->image, &t->id, p, racks, RACKS_MAX) : 0;
        for (uint32_t i = 0; i < n; i++) {
            hash_i32(&h, (uint32_t)racks[i].len);
            hash_str(&h, racks[i]);
        }
    }
    return XXH3_64bits_digest(&h.state);
}

int64_t change_hash(struct change *c) {
    uint32_t n;
    const struct str *names = union_of_topics(c, &n);
    if (!names) return c->metadata_hash;
    struct hasher h;
    bool any = false;
    XXH3_64bits_reset(&h.state);
    for (uint32_t i = 0; i < n; i++) {
        struct group_topic t;
        if (!c->env->topics->by_name(c->env->topics->image, names[i], &t)) continue;
        hash_i64(&h, topic_hash(c->env->topics, &t));
        any = true;
    }
    return any ? (int64_t)XXH3_64bits_digest(&h.state) : 0;
}

/* ---- target assignment ------------------------------------------------------------------------ */

bool change_wants_assignment(const struct change *c) {
    if (c->epoch <= c->assignment_epoch) return false;
    int64_t since_ms = c->env->now_ms - c->g->assignment_ms;
    return c->g->assignment_ms == 0 || since_ms < 0 || since_ms >= c->env->assignment_interval_ms;
}

struct named_topic { struct str name; struct uuid id; int32_t partitions; uint32_t index; };
static int named_by_id(const void *a, const void *b) {
    return memcmp(&((const struct named_topic *)a)->id, &((const struct named_topic *)b)->id, sizeof(struct uuid));
}
static int named_by_name(const void *a, const void *b) { return str_compare(((const struct named_topic *)a)->name, ((const struct named_topic *)b)->name); }

static int index_order(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Indexes of the topics of one subscription. */
static void subscribed_indexes(struct change *c, const struct named_topic *topics, uint32_t topics_n, const member_meta *meta, struct assignor_member *m) {
    const struct str *extra;
    uint32_t extra_n, n = 0;
    change_regex_topics(c, meta->subscribed_topic_regex, &extra, &extra_n);
    uint32_t *list = change_array(c, (size_t)meta->subscribed_topic_names_n + extra_n, sizeof *list);
    if (!list) return;
    for (uint32_t i = 0; i < (uint32_t)meta->subscribed_topic_names_n + extra_n; i++) {
        struct named_topic lookup;
        lookup.name = i < (uint32_t)meta->subscribed_topic_names_n ? meta->subscribed_topic_names[i] : extra[i - (uint32_t)meta->subscribed_topic_names_n];
        const struct named_topic *t = topics_n ? bsearch(&lookup, topics, topics_n, sizeof *topics, named_by_name) : NULL;
        if (t) list[n++] = t->index;
    }
    if (n > 1) qsort(list, n, sizeof *list, index_order);
    uint32_t kept = MIN(n, 1u);
    for (uint32_t i = 1; i < n; i++)
        if (list[i] != list[kept - 1]) list[kept++] = list[i];
    m->topics = list;
    m->topics_n = kept;
}

static bool same_subscription(const member_meta *a, const member_meta *b) {
    if (a->subscribed_topic_names_n != b->subscribed_topic_names_n || !str_eq(a->subscribed_topic_regex, b->subscribed_topic_regex)) return false;
    for (int32_t i = 0; i < a->subscribed_topic_names_n; i++)
        if (!str_eq(a->subscribed_topic_names[i], b->subscribed_topic_names[i])) return false;
    return true;
}

static struct str copy_str(struct change *c, struct str s) {
    if (!s.p) return s;
    char *p = arena_strdup(c->arena, s);
    if (!p) c->nomem = true;
    return (struct str){p ? p : "", p ? s.len : 0};
}

struct input_build {
    struct assignor_input *in;
    const struct named_topic *topics;     /* by name */
    const member_meta *before;            /* the subscription of the member before */
    uint32_t votes[8];                    /* for env->assignors */
};

static void input_member(struct change *c, struct input_build *b, struct str id, const member_meta *meta, const struct group_parts *target) {
    struct assignor_member *m = &b->in->members[b->in->members_n];
    *m = (struct assignor_member){.id = copy_str(c, id), .instance_id = copy_str(c, meta->instance_id)};
    if (b->before && same_subscription(b->before, meta)) {
        m->topics = m[-1].topics;
        m->topics_n = m[-1].topics_n;
    } else {
        subscribed_indexes(c, b->topics, b->in->topics_n, meta, m);
    }
    b->before = meta;
    if (group_parts_room(&m->current, target->n, c->arena) != OK) {
        c->nomem = true;
    } else if (target->n) {
        memcpy(m->current.list, target->list, target->n * sizeof *target->list);
        m->current.n = target->n;
    }
    for (uint32_t i = 0; i < MIN(c->env->assignors_n, ARRAY_LEN(b->votes)); i++) b->votes[i] += str_eq(meta->server_assignor, c->env->assignors[i]);
    b->in->members_n++;
}

struct assignor_input *change_assignor_input(struct change *c, assignor_fn **assign) {
    uint32_t names_n, n = 0;
    const struct str *names = union_of_topics(c, &names_n);
    struct assignor_input *in = change_array(c, 1, sizeof *in);
    struct named_topic *topics = change_array(c, names_n, sizeof *topics);
    if (!names || !in || !topics) return NULL;
    for (uint32_t i = 0; i < names_n; i++) {
        struct group_topic t;
        if (c->env->topics->by_name(c->env->topics->image, names[i], &t)) topics[n++] = (struct named_topic){.name = names[i], .id = t.id, .partitions = t.partitions};
    }
    struct assignor_topic *list = change_array(c, n, sizeof *list);
    in->members = change_array(c, c->g->member_count + 1u, sizeof *in->members);
    if (!list || !in->members) return NULL;
    if (n > 1) qsort(topics, n, sizeof *topics, named_by_id);
    for (uint32_t i = 0; i < n; i++) {
        topics[i].index = i;
        list[i] = (struct assignor_topic){topics[i].id, topics[i].partitions};
    }
    if (n > 1) qsort(topics, n, sizeof *topics, named_by_name);
    in->topics = list;
    in->topics_n = n;
    struct input_build b = {.in = in, .topics = topics};
    for (const struct consumer_member *m = c->g->members; m && !c->nomem; m = m->hh.next)
        if (m->known && !leaves(c, m)) input_member(c, &b, member_id(m), &m->meta, &m->target);
    if (c->has_member && !c->nomem) input_member(c, &b, c->id, &c->meta, &c->target);
    uint32_t best = 0;
    for (uint32_t i = 1; i < MIN(c->env->assignors_n, ARRAY_LEN(b.votes)); i++)
        if (b.votes[i] > b.votes[best]) best = i;
    *assign = c->env->assignors_n ? assignor_by_name(c->env->assignors[best]) : assignor_uniform;
    ASSERT(*assign); /* the configuration knows the names */
    return c->nomem ? NULL : in;
}

void change_put_targets(struct change *c, const struct assignor_input *in, int32_t epoch) {
    for (uint32_t i = 0; i < in->members_n && !c->nomem; i++) {
        const struct assignor_member *m = &in->members[i];
        bool ours = c->has_member && str_eq(m->id, c->id);
        if (!ours) {
            const struct consumer_member *now = consumer_member_find(c->g, m->id);
            if (!now || leaves(c, now) || group_parts_equal(&now->target, &m->target, false)) continue;
        } else {
            bool same = group_parts_equal(&c->target, &m->target, false);
            c->target = m->target;
            if (same) continue;
        }
        change_put_target(c, m->id, &m->target);
    }
    struct group_value v;
    group_value_init(K_CONSUMER_GROUP_TARGET_ASSIGNMENT_METADATA_KEY_TYPE, &v);
    v.target_metadata.assignment_epoch = c->assignment_epoch = epoch;
    v.target_metadata.assignment_timestamp = c->env->now_ms;
    change_put(c, K_CONSUMER_GROUP_TARGET_ASSIGNMENT_METADATA_KEY_TYPE, STR_NULL, &v);
}

/* What change_assignor_input() would have to look at: without building it. */
static uint64_t cost_bound(const struct change *c) {
    uint64_t cost = c->g->member_count + (uint64_t)HASH_CNT(hh, c->g->owners);
    for (const struct consumer_topic *t = c->g->topics; t; t = t->hh.next) cost += t->members;
    const struct consumer_regex *re;
    for (re = c->g->regexes; re; re = re->hh.next) cost += (uint64_t)re->value.topics_n * re->members;
    return cost;
}

bool change_assign(struct change *c) {
    if (!change_wants_assignment(c)) return true;
    if (c->g->assigning || cost_bound(c) > CONSUMER_GROUP_INLINE) return false;
    assignor_fn *assign;
    struct assignor_input *in = change_assignor_input(c, &assign);
    if (!in) return true;
    if (assignor_cost(in) > CONSUMER_GROUP_INLINE) return false;
    if (assign(in, c->arena) != OK) c->nomem = true;
    else change_put_targets(c, in, c->epoch);
    return true;
}

/* ---- reconciliation --------------------------------------------------------------------------- */

static bool owns_any(const struct group_parts *owned, const struct group_parts *set) {
    for (uint32_t i = 0; i < set->n; i++)
        if (group_parts_find(owned, &set->list[i].topic, set->list[i].partition)) return true;
    return false;
}

/* Whether the member subscribes to the topic of a partition; `*last` and `*answer` remember the last topic. */
static bool subscribed(struct change *c, const struct uuid *topic, struct uuid *last, bool *answer) {
    if (!uuid_is_zero(last) && uuid_eq(topic, last)) return *answer;
    *last = *topic;
    *answer = false;
    struct group_topic t;
    if (!c->env->topics->by_id(c->env->topics->image, topic, &t)) return false;
    if (c->meta.subscribed_topic_names_n > 0 &&
        bsearch(&t.name, c->meta.subscribed_topic_names, (size_t)c->meta.subscribed_topic_names_n, sizeof t.name, str_compare_sort))
        return *answer = true;
    const struct str *topics;
    uint32_t n;
    change_regex_topics(c, c->meta.subscribed_topic_regex, &topics, &n);
    return *answer = n > 0 && bsearch(&t.name, topics, n, sizeof t.name, str_compare_sort) != NULL;
}

static void move_to_epoch(struct consumer_current *current, int32_t epoch) {
    if (current->epoch == epoch) return; /* the client may still be in the epoch before */
    current->previous_epoch = current->epoch;
    current->epoch = epoch;
}

/* Partitions of topics that the member does not subscribe to any more are to be given up, whatever the target says. */
static bool drop_unsubscribed(struct change *c, bool owned_known, const struct group_parts *owned) {
    struct consumer_current *cur = &c->current;
    struct group_parts assigned, pending;
    struct uuid last = {{0}};
    bool answer = false;
    if (group_parts_room(&assigned, cur->assigned.n, c->arena) != OK ||
        group_parts_room(&pending, (size_t)cur->assigned.n + cur->pending.n, c->arena) != OK) {
        c->nomem = true;
        return false;
    }
    for (uint32_t i = 0; i < cur->pending.n; i++) group_parts_add(&pending, &cur->pending.list[i].topic, cur->pending.list[i].partition, cur->pending.list[i].epoch);
    for (uint32_t i = 0; i < cur->assigned.n; i++) {
        const struct group_part *p = &cur->assigned.list[i];
        group_parts_add(subscribed(c, &p->topic, &last, &answer) ? &assigned : &pending, &p->topic, p->partition, p->epoch);
    }
    if (assigned.n == cur->assigned.n) return false;
    group_parts_sort(&pending);
    cur->assigned = assigned;
    if (!owned_known || owns_any(owned, &pending)) {
        cur->state = CONSUMER_MEMBER_UNREVOKED;
        cur->pending = pending;
    }
    return true;
}

/* Merges what the member has with its target; both are sorted alike. */
static bool next_assignment(struct change *c, bool owned_known, const struct group_parts *owned) {
    struct consumer_current *cur = &c->current;
    const struct group_parts *has = &cur->assigned, *target = &c->target;
    struct group_parts keep, revoke, gain;
    if (group_parts_room(&keep, (size_t)has->n + target->n, c->arena) != OK || group_parts_room(&revoke, has->n, c->arena) != OK ||
        group_parts_room(&gain, target->n, c->arena) != OK) {
        c->nomem = true;
        return false;
    }
    struct uuid last = {{0}};
    bool answer = false, unreleased = false;
    for (uint32_t i = 0, j = 0; i < has->n || j < target->n;) {
        int order = i == has->n ? 1 : j == target->n ? -1 : group_part_compare(&has->list[i], &target->list[j]);
        const struct group_part *p = order <= 0 ? &has->list[i] : &target->list[j];
        bool wanted = order >= 0 && subscribed(c, &p->topic, &last, &answer);
        if (order <= 0) {
            group_parts_add(wanted ? &keep : &revoke, &p->topic, p->partition, p->epoch);
        } else if (wanted) {
            const struct consumer_member *owner = consumer_owner_of(c->g, &p->topic, p->partition);
            bool free_for_us = !owner || group_parts_find(&cur->pending, &p->topic, p->partition);
            if (free_for_us) group_parts_add(&gain, &p->topic, p->partition, c->assignment_epoch);
            else unreleased = true;
        }
        i += order <= 0;
        j += order >= 0;
    }
    if (revoke.n > 0 && (!owned_known || owns_any(owned, &revoke))) {
        cur->state = CONSUMER_MEMBER_UNREVOKED;
        cur->assigned = keep;
        cur->pending = revoke;
        return true;
    }
    for (uint32_t i = 0; i < gain.n; i++) keep.list[keep.n++] = gain.list[i];
    group_parts_sort(&keep);
    cur->state = unreleased ? CONSUMER_MEMBER_UNRELEASED : CONSUMER_MEMBER_STABLE;
    cur->assigned = keep;
    cur->pending = (struct group_parts){0};
    move_to_epoch(cur, c->assignment_epoch);
    return true;
}

static bool current_equal(const struct consumer_current *a, const struct consumer_current *b) {
    return a->epoch == b->epoch && a->previous_epoch == b->previous_epoch && a->state == b->state &&
           group_parts_equal(&a->assigned, &b->assigned, true) && group_parts_equal(&a->pending, &b->pending, true);
}

bool change_reconcile(struct change *c, bool subscription_changed, bool owned_known, const struct group_parts *owned) {
    const struct consumer_current before = c->current;
    switch (before.state) {
    case CONSUMER_MEMBER_STABLE:
        if (before.epoch != c->assignment_epoch) next_assignment(c, owned_known, owned);
        else if (subscription_changed) drop_unsubscribed(c, owned_known, owned);
        break;
    case CONSUMER_MEMBER_UNREVOKED:
        if (before.pending.n == 0 || (owned_known && !owns_any(owned, &before.pending))) next_assignment(c, owned_known, owned);
        else if (subscription_changed) drop_unsubscribed(c, owned_known, owned);
        break;
    default: next_assignment(c, owned_known, owned); break;
    }
    return !c->nomem && !current_equal(&before, &c->current);
}

/* ---- members that go -------------------------------------------------------------------------- */

void change_fence(struct change *c) {
    if (change_may_downgrade(c)) {
        change_downgrade(c);
        return;
    }
    for (uint32_t i = 0; i < c->gone_n; i++) change_put_removed(c, member_id(c->gone[i]));
    change_drop_regexes(c);
    c->metadata_hash = change_hash(c);
    change_put_epoch(c);
}
