/* group_consumer_impl.h - a consumer group from the inside; for server/group_consumer*.c and its tests only. */
#ifndef SERVER_GROUP_CONSUMER_IMPL_H
#define SERVER_GROUP_CONSUMER_IMPL_H
#include <uthash.h>
#include "proto/kafka_errors.h"
#include "server/group_assignor.h"
#include "server/group_consumer.h"
#include "server/group_parts.h"
#include "server/group_regex.h"

/* Work that one call may do itself; some 0.2 ms. */
enum {
    CONSUMER_GROUP_INLINE = 2048,            /* assignor_cost() */
    CONSUMER_GROUP_INLINE_REGEX = 100000,    /* group_regex_cost() over all topics */
    CONSUMER_GROUP_REGEX_SLICE = 20000,      /* the same, of one consumer_group_regex_run() */
    CONSUMER_GROUP_REST_MS = 1000            /* between two rounds of expressions over changed topics; after a lack of memory */
};

typedef struct k_consumer_group_member_metadata_value member_meta;

/* What a record of type 8 says. Epoch 0: nothing yet. */
struct consumer_current {
    int32_t epoch, previous_epoch;           /* CONSUMER_STATIC_LEAVE_EPOCH: a static member that will be back */
    int8_t state;
    struct group_parts assigned;             /* the client may use them; with the epoch in which it got each */
    struct group_parts pending;              /* it was told to give them up, and may still use them */
};

struct consumer_member {
    UT_hash_handle hh, hh_instance;
    bool known;                              /* there is a record of type 5; else only placed here by other records */
    member_meta meta;                        /* names ascending, without duplicates */
    uint8_t *meta_bytes;                     /* owned: what meta points into */
    struct arena meta_arena;
    struct consumer_current current;         /* lists owned */
    struct group_parts target;               /* owned */
    /* Soft; INT64_MAX: not running. */
    int64_t session_ms;                      /* a heartbeat is to come before */
    int64_t rebalance_ms;                    /* UNREVOKED: it is to have let go before */
    int64_t join_ms, sync_ms;                /* classic: it is to have rejoined, synced before */
    int32_t id_len;
    char id[];
};
static inline struct str member_id(const struct consumer_member *m) { return (struct str){m->id, m->id_len}; }
static inline bool member_is_classic(const struct consumer_member *m) { return m->meta.classic_member_metadata != NULL; }

/* Who owns a partition: it is in their `assigned` or `pending`. */
struct consumer_owner {
    UT_hash_handle hh;
    struct { struct uuid topic; int32_t partition; } key;
    struct consumer_member *member;
};
/* A topic that members subscribe to by name. */
struct consumer_topic {
    UT_hash_handle hh;
    uint32_t members;
    int32_t len;
    char name[];
};
/* An expression that members subscribe by, or that there is a record of. */
struct consumer_regex {
    UT_hash_handle hh;
    uint32_t members;
    bool resolved;
    struct k_consumer_group_regular_expression_value value; /* topics ascending */
    uint8_t *bytes;                          /* owned */
    struct arena arena;
    int32_t len;
    char text[];
};

struct consumer_group {
    struct consumer_member *members;         /* by id */
    struct consumer_member *instances;       /* static ones, by instance id */
    struct consumer_owner *owners;
    struct consumer_topic *topics;
    struct consumer_regex *regexes;
    uint32_t member_count, classic_count;    /* known ones */
    int32_t epoch, assignment_epoch;
    int64_t metadata_hash, assignment_ms;    /* when the target was computed */
    bool has_partition_metadata;             /* a record of type 4 is there */
    /* Soft */
    bool hash_checked;
    uint64_t hash_version;                   /* of the topics that metadata_hash was last found to be right for */
    bool regex_checked;
    uint64_t regex_version;                  /* of the topics that the expressions were last tried on */
    int64_t regex_ms;                        /* when */
    bool assigning, resolving;               /* a job has begun */
    int64_t assign_rest_ms;                  /* no assignment before: the last one did not fit into memory */
    int64_t timer_ms;                        /* no deadline of a member is earlier */
    int64_t bytes;
    int32_t id_len;
    char id[];
};
static inline struct str group_name(const struct consumer_group *g) { return (struct str){g->id, g->id_len}; }

struct consumer_member *consumer_member_find(const struct consumer_group *g, struct str id);       /* known ones */
struct consumer_member *consumer_member_by_instance(const struct consumer_group *g, struct str instance_id);
struct consumer_member *consumer_owner_of(const struct consumer_group *g, const struct uuid *topic, int32_t partition);
struct consumer_regex *consumer_regex_find(const struct consumer_group *g, struct str text);
/* Sets a deadline of a member, and the group's. */
void consumer_timer_set(struct consumer_group *g, int64_t *deadline_ms, int64_t at_ms);

/* ---- computing: group_consumer_compute.c ---- */

/* What the records so far would make of the group. Lives for one call, in its arena; `nomem` sticks. */
struct change {
    struct consumer_group *g;
    const struct group_env *env;
    struct arena *arena;
    struct group_records *out;
    bool nomem;
    int32_t epoch, assignment_epoch;         /* of the group, after the records so far */
    int64_t metadata_hash;
    /* Members that go; `replaced`: one whose place `member` takes. */
    struct consumer_member **gone;
    uint32_t gone_n;
    /* A member that comes or changes. */
    bool has_member;
    struct consumer_member *old;             /* NULL: it is new, or replaces another */
    const struct consumer_member *replaced;
    struct str id;
    member_meta meta;
    struct consumer_current current;         /* lists in the arena or the group's */
    struct group_parts target;
    /* Expressions that were resolved in the call. */
    struct change_regex *regexes;
    uint32_t regexes_n;
};
struct change_regex { struct str regex; struct str *topics; uint32_t topics_n; };
void change_init(struct change *c, struct consumer_group *g, const struct group_env *env, struct arena *arena, struct group_records *out);
void change_put(struct change *c, int16_t type, struct str member, const struct group_value *value); /* NULL: tombstone */
void change_put_meta(struct change *c);
void change_put_current(struct change *c);
void change_put_target(struct change *c, struct str member, const struct group_parts *target);
void change_put_removed(struct change *c, struct str member);           /* the three tombstones of a member */
void change_put_epoch(struct change *c);                                /* one more, with the hash */
/* Expressions without subscribers, after this change. */
void change_drop_regexes(struct change *c);
/* The hash over all topics that are subscribed to after this change (Kafka's: XXH3 of the topics' hashes in order of names). */
int64_t change_hash(struct change *c);
/* Whether the union of subscriptions may differ from what it was. */
bool change_touches_topics(const struct change *c);
/* The record of an expression, resolved at env->now_ms. */
void change_put_regex(struct change *c, const struct change_regex *re);
/* Topics of an expression: resolved now, or before; NULL and 0: none known. */
void change_regex_topics(const struct change *c, struct str regex, const struct str **topics, uint32_t *n);

/* Whether a new target assignment is wanted and may be computed by now. */
bool change_wants_assignment(const struct change *c);
/* Everything that the assignor needs, copied into c->arena; NULL: no memory. `*assign`: the assignor that most members prefer. */
struct assignor_input *change_assignor_input(struct change *c, assignor_fn **assign);
/* Records of members whose target differs from what it is, and of the new epoch of the target. */
void change_put_targets(struct change *c, const struct assignor_input *in, int32_t epoch);
/* Computes and records a target now, if it is wanted and small enough. False: it is wanted, but large. */
bool change_assign(struct change *c);

/* One step of c->current towards c->target. `owned`: what the client says that it owns (owned_known false: it says nothing).
 * True: something changed. */
bool change_reconcile(struct change *c, bool subscription_changed, bool owned_known, const struct group_parts *owned);

/* Members that go for good; records, new epoch, perhaps the downgrade. */
void change_fence(struct change *c);

/* ---- shared by the protocols ---- */
void member_meta_init(member_meta *meta);
/* Copies `names` into c->meta, sorted. */
void change_set_topics(struct change *c, const struct str *names, int32_t n);
bool member_meta_equal(const member_meta *a, const member_meta *b); /* all but the names of topics */
bool member_names_equal(const member_meta *a, const member_meta *b);
/* The member before the change becomes the draft of c->meta, c->current and c->target; or an empty one. */
void change_begin_member(struct change *c);
/* Records of the draft, of a higher group epoch and of a target if they are wanted; then one step of reconciliation.
 * `was`: the draft when it began. */
void change_member(struct change *c, const member_meta *was, bool owned_known, const struct group_parts *owned);

/* ---- migration: group_consumer_migrate.c ---- */
bool change_may_downgrade(const struct change *c);
void change_downgrade(struct change *c);
/* A ConsumerProtocolSubscription with its version in front; newer versions are read as the newest that is known (as in Kafka). */
MUST_CHECK enum err subscription_parse(struct bytes metadata, struct arena *arena, struct k_consumer_protocol_subscription *out);
/* What a member has, as a ConsumerProtocolAssignment of the version of its subscription; null: no memory. */
struct bytes assignment_bytes(const struct group_env *env, const struct group_parts *set, struct bytes subscription, struct arena *arena);

static inline int str_compare(struct str a, struct str b) {
    int order = memcmp(a.len ? a.p : "", b.len ? b.p : "", (size_t)MIN(a.len, b.len));
    return order ? order : (a.len > b.len) - (a.len < b.len);
}
int str_compare_sort(const void *a, const void *b);
/* Sorts, drops duplicates and nulls. */
void str_sort_unique(struct str *list, uint32_t *n);
static inline bool str_given(struct str s) { return s.p && s.len > 0; }
#endif
