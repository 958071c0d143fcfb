/* group_coordinator.c - operations on groups: there, through the lock, into the log, and back. */
#include <stdlib.h>
#include "base/assert.h"
#include "base/trace.h"
#include "server/api.h"
#include "server/group_api.h"
#include "server/group_coordinator_impl.h"

enum {
    BATCH_BYTES_MAX = 8 << 20,      /* records of one operation */
    BATCH_RECORDS_MAX = 100000,
    VISIT_GROUPS = 256              /* in one turn */
};

/* Java's String.hashCode() over UTF-16, as far as the bytes are UTF-8; then Kafka's Utils.abs(). */
int32_t group_partition_of(struct str group, int32_t partitions) {
    uint32_t hash = 0;
    for (int32_t i = 0; i < group.len;) {
        uint8_t c = (uint8_t)group.p[i];
        int32_t more = c < 0x80 ? 0 : c >= 0xf0 && c < 0xf8 ? 3 : c >= 0xe0 ? 2 : c >= 0xc0 ? 1 : -1;
        uint32_t code = more == 0 ? c : more == 3 ? c & 7u : more == 2 ? c & 15u : c & 31u;
        if (c >= 0xf8 || more > group.len - i - 1) more = -1;
        for (int32_t k = 1; k <= more; k++) {
            uint8_t next = (uint8_t)group.p[i + k];
            if ((next & 0xc0) != 0x80) more = -1;
            else code = code << 6 | (next & 0x3fu);
        }
        if (more < 0) code = 0xfffd;
        i += MAX(more, 0) + 1;
        if (code >= 0x10000) {
            hash = hash * 31 + (0xd800 + ((code - 0x10000) >> 10 & 0x3ff));
            code = 0xdc00 + (code & 0x3ff);
        }
        hash = hash * 31 + code;
    }
    int32_t n = (int32_t)hash;
    return (n == INT32_MIN ? 0 : n < 0 ? -n : n) % partitions;
}

struct reactor *group_reactor(const struct group *g) { return g->coordinator->set->reactor; }

static bool above_share(const struct reactor *r, int64_t divisor) {
    return atomic_load_explicit(&r->broker->group_bytes, memory_order_relaxed) > r->broker->config.memory_max_bytes / divisor;
}
bool group_memory_full(const struct reactor *r) { return above_share(r, 16); }
bool group_memory_spent(const struct reactor *r) { return above_share(r, 8); }

void group_records_begin(struct group_records *records) { group_records_init(records, BATCH_BYTES_MAX, BATCH_RECORDS_MAX); }

/* ---- groups ---------------------------------------------------------------------------------------- */

static struct group *group_find(struct coordinator *c, struct str id) {
    struct group *g = NULL;
    HASH_FIND(hh, c->groups, id.p, (unsigned)id.len, g);
    return g;
}

static struct group *group_get(struct coordinator *c, struct str id) {
    struct group *g = group_find(c, id);
    if (g) return g;
    g = calloc(1, sizeof *g + (size_t)id.len);
    if (!g) return NULL;
    g->coordinator = c;
    list_init(&g->queue);
    group_timer_init(g);
    if (id.len > 0) memcpy(g->id, id.p, (size_t)id.len);
    g->id_len = id.len;
    HASH_ADD(hh, c->groups, id, (unsigned)id.len, g);
    return g;
}

static void charge(struct group *g, int64_t bytes) {
    atomic_fetch_add_explicit(&group_reactor(g)->broker->group_bytes, bytes - g->charged_bytes, memory_order_relaxed);
    g->charged_bytes = bytes;
}

void group_free(struct group *g) {
    ASSERT(list_empty(&g->queue));
    charge(g, 0);
    timer_cancel(&group_reactor(g)->timers, &g->timer);
    classic_free(g->classic);
    group_consumer_free(g);
    group_offsets_free(&g->offsets);
    free(g->history);
    HASH_DEL(g->coordinator->groups, g);
    free(g);
}

/* Commits without end must not keep a deadline waiting. */
static bool may_run(const struct group *g, enum group_lock lock) {
    return lock == GROUP_READ || (!g->exclusive && (lock == GROUP_SHARED ? !g->tick_due : g->shared == 0));
}

static void run(struct group_op *op, struct group *g) {
    if (g->coordinator->state == COORDINATOR_GONE) group_op_finish(op, KERR_NOT_COORDINATOR);
    else op->run(op, g);
}

/* What was done last, before something else is: each note is the cause of what is seen next. The state of a consumer group is what its
 * records say, and it takes a look at all members to know it. */
static void see_done(struct group *g) {
    if (group_has_consumer(g) && (!g->unseen || g->exclusive)) return;
    group_see(g);
    g->unseen = false;
}

void group_settle(struct group *g) {
    g->pins++;
    if (g->tick_due && may_run(g, GROUP_EXCLUSIVE)) {
        g->tick_due = false;
        see_done(g);
        if (g->coordinator->state == COORDINATOR_ACTIVE) group_tick(g); /* else who waited has been answered: the core's tickets are gone */
    }
    while (!list_empty(&g->queue)) {
        struct group_op *op = LIST_ENTRY(g->queue.next, struct group_op, link);
        if (!may_run(g, op->lock)) break;
        list_remove(&op->link);
        see_done(g);
        run(op, g);
    }
    g->pins--;
    see_done(g);
    bool busy = g->pins > 0 || g->shared > 0 || g->exclusive || !list_empty(&g->queue);
    if (!busy && g->classic && classic_is_nothing(g->classic)) {
        classic_free(g->classic);
        g->classic = NULL;
    }
    if (!busy && g->consumer && consumer_group_is_gone(g->consumer)) group_consumer_free(g);
    if (!busy && g->offsets.count == 0 && !g->classic && !g->consumer) {
        group_free(g);
        return;
    }
    charge(g, (int64_t)sizeof *g + g->id_len + g->offsets.bytes + (g->classic ? g->classic->bytes : 0) +
                  (g->consumer ? consumer_group_bytes(g->consumer) : 0) + (g->history ? (int64_t)sizeof *g->history : 0));
}

/* ---- operations -------------------------------------------------------------------------------------- */

/* The owner fills the arena: it is counted before and after. */
void group_arena_away(struct request *rq) {
    request_charge(rq);
    rq->arena_away = true;
}
void group_arena_home(struct request *rq) {
    rq->arena_away = false;
    request_charge(rq);
}

static void op_home(struct mail *m) {
    struct group_op *op = CONTAINER_OF(m, struct group_op, mail);
    group_arena_home(op->rq);
    op->done(op);
}

void group_op_finish(struct group_op *op, int16_t error) {
    op->error = error;
    list_remove(&op->link);
    op->mail.deliver = op_home;
    mailbox_post(&op->caller->mailbox, &op->mail);
}

static int16_t state_error(const struct coordinator *c) {
    switch (c->state) {
    case COORDINATOR_ACTIVE: return KERR_NONE;
    case COORDINATOR_LOADING: return KERR_COORDINATOR_LOAD_IN_PROGRESS;
    case COORDINATOR_FAILED: return KERR_COORDINATOR_NOT_AVAILABLE;
    case COORDINATOR_GONE: break;
    }
    return KERR_NOT_COORDINATOR;
}

static void op_arrive(struct mail *m) {
    struct group_op *op = CONTAINER_OF(m, struct group_op, mail);
    struct group_set *s = op->reactor->groups;
    struct coordinator *c = group_set_coordinator(s, op->partition);
    int16_t error = c ? state_error(c) : KERR_NOT_COORDINATOR;
    struct group *g = error ? NULL : group_get(c, op->group);
    if (!error && !g) error = KERR_COORDINATOR_NOT_AVAILABLE;
    if (error) {
        group_op_finish(op, error);
        return;
    }
    if (op->lock == GROUP_READ) {
        g->pins++;
        run(op, g);
        g->pins--;
    } else {
        list_push_back(&g->queue, &op->link);
    }
    group_settle(g);
}

void group_op_refuse(struct group_op *op, int16_t error) {
    list_init(&op->link);
    op->caller = op->rq->reactor;
    group_op_finish(op, error);
}

void group_op_send(struct group_op *op) {
    struct reactor *r = op->rq->reactor;
    const struct image_topic *t = image_topic_by_name(reactor_image(r), STR_LIT(GROUP_TOPIC));
    list_init(&op->link);
    op->caller = r;
    op->error = KERR_NONE;
    if (!t || t->partition_count == 0) {
        group_op_finish(op, KERR_NOT_COORDINATOR);
        return;
    }
    op->partition = group_partition_of(op->group, t->partition_count);
    op->reactor = &r->broker->reactors[t->partitions[op->partition].owner];
    op->mail.deliver = op_arrive;
    group_arena_away(op->rq);
    mailbox_post(&op->reactor->mailbox, &op->mail);
}

void group_op_park(struct group_op *op, struct group *g) { list_push_back(&g->coordinator->parked, &op->link); }

/* ---- visits ------------------------------------------------------------------------------------------- */

static void visit_home(struct mail *m) {
    struct group_visit *v = CONTAINER_OF(m, struct group_visit, mail);
    v->done(v);
}

/* From `g` on. Where it rests, the next group is pinned, and its coordinator stays. */
static void visit_some(struct group_visit *v, struct coordinator *c, struct group *g) {
    if (c->state == COORDINATOR_FAILED || c->state == COORDINATOR_GONE) return; /* what the others have is told */
    if (c->state != COORDINATOR_ACTIVE) {
        v->error = state_error(c);
        return;
    }
    for (int i = 0; g && i < VISIT_GROUPS; i++, g = g->hh.next) v->visit(v, g);
    v->at = g;
    if (!g) return;
    g->pins++;
    c->jobs++;
}

static void visit_resume(struct group_visit *v) {
    struct group *g = v->at;
    struct coordinator *c = g->coordinator;
    v->at = NULL;
    visit_some(v, c, g);
    g->pins--;
    c->jobs--;
    group_settle(g);
    coordinator_free_if_gone(c);
}

/* Some groups of one coordinator in each turn. */
static void visit_arrive(struct mail *m) {
    struct group_visit *v = CONTAINER_OF(m, struct group_visit, mail);
    struct group_set *s = v->owner->groups;
    bool more = true;
    if (v->at) {
        visit_resume(v);
    } else if (s->stopped) {
        v->error = KERR_NOT_COORDINATOR;
        more = false;
    } else {
        struct coordinator *c = NULL;
        while (v->partition < s->count && !c) c = s->coordinators[v->partition++];
        if (c) visit_some(v, c, c->groups);
        more = c != NULL;
    }
    m->deliver = more ? visit_arrive : visit_home;
    mailbox_post(more ? &v->owner->mailbox : &v->caller->mailbox, m);
}

void group_visit_send(struct group_visit *v) {
    v->mail.deliver = visit_arrive;
    mailbox_post(&v->owner->mailbox, &v->mail);
}

/* ---- appends -------------------------------------------------------------------------------------------- */

struct group_commit {
    struct partition_produce append;
    struct list link;               /* in coordinator.commits */
    struct group *group;
    enum group_lock lock;
    struct group_records records;
    uint8_t *batch;
    group_then *then;
    void *ctx;
};

/* What a client is told so that it finds the coordinator again and tries once more; a batch that is too large it
 * cannot help. */
static int16_t append_error(int16_t error) {
    switch (error) {
    case KERR_NONE: return KERR_NONE;
    case KERR_NOT_LEADER_OR_FOLLOWER:
    case KERR_UNKNOWN_TOPIC_OR_PARTITION: return KERR_NOT_COORDINATOR;
    case KERR_MESSAGE_TOO_LARGE:
    case KERR_RECORD_LIST_TOO_LARGE: return KERR_UNKNOWN_SERVER_ERROR;
    default: return KERR_COORDINATOR_NOT_AVAILABLE;
    }
}

static void commit_free(struct group_commit *k) {
    list_remove(&k->link);
    group_records_free(&k->records);
    free(k->batch);
    free(k);
}

static void commit_end(struct group_commit *k, int16_t error) {
    struct group *g = k->group;
    struct coordinator *c = g->coordinator;
    if (c->state == COORDINATOR_GONE) error = KERR_NOT_COORDINATOR;
    for (uint32_t i = 0; !error && i < k->records.count; i++) {
        enum err err = coordinator_replay(c, group_records_key(&k->records, i), group_records_value(&k->records, i));
        ASSERT(err == OK); /* we wrote it; the state may not fall behind the log for want of memory */
    }
    if (k->lock == GROUP_EXCLUSIVE) g->exclusive = false;
    else g->shared--;
    k->then(g, k->ctx, error);
    commit_free(k);
    g->pins--;
    group_settle(g);
    coordinator_free_if_gone(c);
}

void coordinator_abandon_commits(struct coordinator *c) {
    while (!list_empty(&c->commits)) {
        struct group_commit *k = LIST_ENTRY(c->commits.next, struct group_commit, link);
        k->group->pins--;
        commit_free(k);
    }
}

static void append_done(struct partition_op *op) {
    commit_end(CONTAINER_OF(op, struct group_commit, append.op), append_error(op->error));
}

static enum err make_batch(struct group_commit *k, int64_t now_ms, size_t *len) {
    struct batch_builder b;
    batch_builder_init(&b, CODEC_NONE, 2 * BATCH_BYTES_MAX);
    enum err err = OK;
    for (uint32_t i = 0; err == OK && i < k->records.count; i++)
        err = batch_builder_add(&b, now_ms, group_records_key(&k->records, i), group_records_value(&k->records, i), NULL, 0);
    if (!err) err = batch_builder_finish(&b, &k->batch, len);
    batch_builder_free(&b);
    return err;
}

void group_append(struct group *g, enum group_lock lock, struct group_records *records, group_then *then, void *ctx) {
    struct coordinator *c = g->coordinator;
    struct reactor *r = group_reactor(g);
    size_t len = 0;
    ASSERT(records->count > 0 && records->err == OK && may_run(g, lock) && lock != GROUP_READ);
    struct group_commit *k = calloc(1, sizeof *k);
    if (!k) {
        group_records_free(records);
        then(g, ctx, KERR_COORDINATOR_NOT_AVAILABLE);
        return;
    }
    k->group = g;
    k->lock = lock;
    k->records = *records;
    *records = (struct group_records){0};
    k->then = then;
    k->ctx = ctx;
    g->pins++;
    list_push_back(&c->commits, &k->link);
    if (lock == GROUP_EXCLUSIVE) g->exclusive = true;
    else g->shared++;
    if (make_batch(k, r->now_ms, &len) != OK) {
        commit_end(k, KERR_COORDINATOR_NOT_AVAILABLE);
        return;
    }
    k->append = (struct partition_produce){
        .op = {.caller = r, .owner = r, .plid = c->plid, .done = append_done},
        .records = {k->batch, (int32_t)len}, .acks = -1, .trusted = true,
    };
    partition_produce(&k->append);
}

/* ---- replay ---------------------------------------------------------------------------------------------- */

static enum err replay_into(struct group *g, const struct group_key *key, const struct group_value *value) {
    switch (key->type) {
    case K_LEGACY_OFFSET_COMMIT_KEY_TYPE:
    case K_OFFSET_COMMIT_KEY_TYPE:
        return group_offsets_replay(&g->offsets, key->topic, key->partition, value ? &value->offset_commit : NULL);
    case K_GROUP_METADATA_KEY_TYPE: {
        struct classic_env env = group_classic_env(g);
        if (!value) {
            if (g->classic) classic_forget(g->classic, &env, g->upgrades ? KERR_REBALANCE_IN_PROGRESS : KERR_UNKNOWN_MEMBER_ID);
            return OK;
        }
        if (g->consumer) group_consumer_free(g);
        return group_classic(g) ? classic_replay(g->classic, &env, &value->group_metadata) : ERR_NOMEM;
    }
    default: return ERR_UNSUPPORTED;
    }
}

static bool is_of_consumer_group(int16_t type) {
    return type != K_LEGACY_OFFSET_COMMIT_KEY_TYPE && type != K_OFFSET_COMMIT_KEY_TYPE && type != K_GROUP_METADATA_KEY_TYPE;
}

enum err coordinator_replay(struct coordinator *c, struct bytes key_bytes, struct bytes value_bytes) {
    struct group_key key;
    struct group_value value;
    enum err err = key_bytes.p ? group_key_parse(key_bytes, &key) : ERR_CORRUPT;
    bool raw = !err && is_of_consumer_group(key.type);
    if (!err && value_bytes.p && !raw) err = group_value_parse(key.type, value_bytes, &c->set->arena, &value);
    struct group *g = NULL;
    if (!err && !(g = group_get(c, key.group))) err = ERR_NOMEM;
    if (g && raw) g->unseen = true;
    if (!err) err = raw ? group_consumer_replay(g, &key, value_bytes) : replay_into(g, &key, value_bytes.p ? &value : NULL);
    arena_reset(&c->set->arena);
    if (g) group_settle(g);
    return err;
}
