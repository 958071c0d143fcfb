/* group.c - a member of a consumer group: what users call, and the partitions that come and go.
 *
 * The protocols say what we should own (`target`) or that we own nothing any more (`expelled`). Here
 * that becomes true, in group_poll() only, in steps that the user sees:
 *
 *   lost:     expelled -> taken from the consumer, CONSUMER_LOST
 *   given:    owned - target -> CONSUMER_REVOKED -> (next call) commit -> taken from the consumer
 *   taken:    target - owned -> their committed offsets are read -> the consumer has them, CONSUMER_ASSIGNED */
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "client/group_assign.h"
#include "client/group_impl.h"

void group_config_init(struct group_config *cfg) {
    *cfg = (struct group_config){.assignors = "range,cooperative-sticky", .session_timeout_ms = 45000, .heartbeat_ms = 3000,
                                 .rebalance_timeout_ms = 300000, .auto_commit_ms = 5000};
    consumer_config_init(&cfg->consumer);
    cfg->consumer.reset = CONSUMER_RESET_LATEST;
}

/* ---- for the protocols ------------------------------------------------------------------------ */

void group_fail(struct group *g, enum err err, int16_t code, const char *fmt, ...) {
    if (g->failed) return;
    va_list args;
    va_start(args, fmt);
    vsnprintf(g->why, sizeof g->why, fmt, args);
    va_end(args);
    g->failed = g->attention = true;
    g->err = err;
    g->code = code;
}

/* Nothing of it is ours yet, so it can be dropped anywhere. */
static void drop_fetching(struct group *g) {
    if (g->handover != HANDOVER_FETCHING) return;
    g->handover = HANDOVER_NONE;
    g->fetch_stale = g->fetch_in_flight;
    g->fetched = false;
    parts_clear(&g->moving);
}

void group_expel(struct group *g) {
    drop_fetching(g);
    g->target_set = false;
    g->expelled = g->owned.count > 0;
    g->attention = g->attention || g->expelled;
}

void group_set_target(struct group *g) {
    drop_fetching(g);
    g->target_set = g->attention = true;
}

bool group_may_join(struct group *g) {
    if (g->handover == HANDOVER_COMMITTING) return false;
    if (g->expelled || g->handover == HANDOVER_TOLD) {
        g->attention = true;
        return false;
    }
    drop_fetching(g);
    g->target_set = false; /* a newer one will come */
    if (g->owned.count == 0 || (g->protocol == GROUP_CLASSIC && g->cooperative)) return true;
    parts_clear(&g->target); /* all is given back first */
    g->target_set = g->attention = true;
    return false;
}

/* ---- making one ------------------------------------------------------------------------------- */

static int64_t pump(struct client_task *task, int64_t now_ns) {
    struct group *g = CONTAINER_OF(task, struct group, task);
    bool before = g->attention;
    if (g->failed) return INT64_MAX;
    int64_t next_ns = g->protocol == GROUP_CLASSIC ? classic_pump(g, now_ns) : heartbeat_pump(g, now_ns);
    int64_t fetch_ns = fetch_offsets_pump(g, now_ns), commit_ns = commit_pump(g, now_ns);
    next_ns = MIN(next_ns, MIN(fetch_ns, commit_ns));
    return g->attention && !before ? now_ns : next_ns; /* who waits for us must not sleep over it */
}

static bool copy_text(const char **field) {
    if (!*field) return true;
    *field = strdup(*field);
    return *field != NULL;
}

/* The config's strings become ours. */
static bool copy_config(struct group *g, const struct group_config *cfg) {
    struct group_config *c = &g->config;
    char **topics = calloc((size_t)cfg->topic_count + 1, sizeof *topics);
    *c = *cfg;
    c->topics = (const char *const *)topics;
    bool good = topics != NULL;
    for (int32_t i = 0; good && i < cfg->topic_count; i++) good = (topics[i] = strdup(cfg->topics[i])) != NULL;
    const char **texts[] = {&c->group, &c->regex, &c->assignors, &c->server_assignor, &c->instance_id, &c->rack};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) good &= copy_text(texts[i]);
    return good;
}

static const char *wrong(const struct group_config *cfg) {
    if (!cfg->group || !*cfg->group) return "a group needs a name";
    if (cfg->topic_count == 0 && !cfg->regex) return "a group needs topics";
    if (cfg->regex && cfg->protocol == GROUP_CLASSIC) return "a regular expression needs the KIP-848 protocol";
    if (cfg->protocol != GROUP_CONSUMER && !assignors_known(cfg->assignors)) return "an assignor is not known";
    if (cfg->heartbeat_ms <= 0 || cfg->session_timeout_ms <= cfg->heartbeat_ms || cfg->rebalance_timeout_ms <= 0 || cfg->auto_commit_ms < 0) {
        return "the timeouts contradict each other";
    }
    return NULL;
}

struct group *group_create(struct client *c, const struct group_config *cfg) {
    const char *why = wrong(cfg);
    if (why) {
        (void)client_fail(c, ERR_INVALID, 0, "%s", why);
        return NULL;
    }
    struct group *g = calloc(1, sizeof *g);
    bool good = g != NULL;
    if (good) {
        list_init(&g->task.link);
        g->task.pump = pump;
        g->client = c;
        g->protocol = cfg->protocol == GROUP_CLASSIC ? GROUP_CLASSIC : GROUP_CONSUMER;
        g->cooperative = strcmp(cfg->assignors, "cooperative-sticky") == 0;
        g->generation = -1;
        g->member_id = strdup("");
        g->consumer = consumer_create(c, &cfg->consumer);
        good = copy_config(g, cfg) && g->member_id && g->consumer;
    }
    for (int32_t i = 0; good && i < cfg->topic_count; i++) good = metadata_topic(c, cfg->topics[i], false) != NULL;
    if (!good) {
        group_destroy(g);
        (void)client_fail(c, ERR_NOMEM, 0, "out of memory");
        return NULL;
    }
    g->consumer->interrupt = &g->attention;
    g->auto_commit_at_ns = client_now_ns() + (int64_t)cfg->auto_commit_ms * 1000000;
    list_push_back(&c->tasks, &g->task.link);
    return g;
}

void group_destroy(struct group *g) {
    if (!g) return;
    list_remove(&g->task.link);
    if (g->conn) client_remove_conn(g->client, g->conn); /* completes what is on it */
    group_forget_asks(g);
    consumer_destroy(g->consumer);
    classic_free(g);
    struct parts *lists[] = {&g->owned, &g->target, &g->moving, &g->told, &g->commit.sent};
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) parts_free(lists[i]);
    free(g->told_list);
    free(g->target_ids);
    free(g->target_index);
    free(g->member_id);
    for (int32_t i = 0; g->config.topics && i < g->config.topic_count; i++) free((char *)g->config.topics[i]);
    free((void *)g->config.topics);
    const char *texts[] = {g->config.group, g->config.regex, g->config.assignors, g->config.server_assignor,
                           g->config.instance_id, g->config.rack};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) free((char *)texts[i]);
    free(g);
}

/* ---- events ----------------------------------------------------------------------------------- */

/* An event about `parts`, which are copied. */
static enum err tell(struct group *g, enum consumer_event_kind kind, const struct parts *parts, const struct consumer_event **out) {
    struct group_partition *list = realloc(g->told_list, ((size_t)parts->count + 1) * sizeof *list);
    if (!list) return client_fail(g->client, ERR_NOMEM, 0, "out of memory");
    g->told_list = list;
    for (int32_t i = 0; i < parts->count; i++) {
        list[i] = (struct group_partition){parts->items[i].topic->name, parts->items[i].partition, parts->items[i].offset};
    }
    g->event = (struct consumer_event){.kind = kind, .end_offset = -1, .partitions = list, .partition_count = parts->count};
    *out = &g->event;
    return OK;
}

/* Where each stands, for events. */
static void note_positions(struct group *g, struct parts *parts) {
    for (int32_t i = 0; i < parts->count; i++) {
        const struct assigned *a = consumer_find(g->consumer, parts->items[i].topic->name, parts->items[i].partition);
        parts->items[i].offset = a ? a->position : -1;
    }
}

static void take_away(struct group *g, const struct parts *parts) {
    for (int32_t i = 0; i < parts->count; i++) {
        struct part *own = parts_find(&g->owned, parts->items[i].topic, parts->items[i].partition);
        consumer_unassign(g->consumer, parts->items[i].topic->name, parts->items[i].partition);
        if (own) parts_remove(&g->owned, own);
    }
}

/* The partitions of `moving`, whose offsets have come, are ours. */
static enum err take_over(struct group *g) {
    int64_t reset = g->config.consumer.reset == CONSUMER_RESET_EARLIEST ? OFFSET_EARLIEST : OFFSET_LATEST;
    for (int32_t i = 0; i < g->moving.count; i++) {
        const struct part *p = &g->moving.items[i];
        enum err err = consumer_assign(g->consumer, p->topic->name, p->partition, p->offset >= 0 ? p->offset : reset);
        if (!err) err = parts_add(&g->owned, p->topic, p->partition, -1);
        if (err) return err;
        struct assigned *a = consumer_find(g->consumer, p->topic->name, p->partition);
        ASSERT(a != NULL);
        a->committed = p->offset;
        if (p->offset < 0 && g->config.consumer.reset == CONSUMER_RESET_ERROR) {
            assigned_give_up(a, ERR_NOT_FOUND, 0, "no offset is committed, and none to begin at was chosen");
        }
    }
    parts_sort(&g->owned);
    return OK;
}

/* ---- steps ------------------------------------------------------------------------------------ */

enum step { STEP_NOTHING, STEP_WAIT, STEP_AGAIN, STEP_EVENT, STEP_ERROR };

static enum step gave_back(struct group *g) {
    take_away(g, &g->moving);
    parts_clear(&g->moving);
    g->handover = HANDOVER_NONE;
    g->gave_back = true;
    if (g->protocol == GROUP_CONSUMER) heartbeat_owned_changed(g);
    return STEP_AGAIN;
}

/* owned is target: who waits for that is told. */
static void settled(struct group *g) {
    g->target_set = false;
    g->rebalances++;
    if (g->protocol == GROUP_CONSUMER) heartbeat_owned_changed(g);
    else if (g->cooperative && g->gave_back && g->state == MEMBER_STABLE) g->rejoin = true; /* others wait for them */
    g->gave_back = false;
}

static enum step begin_handover(struct group *g, const struct consumer_event **out) {
    enum err err = parts_without(&g->moving, &g->owned, &g->target);
    if (!err && g->moving.count > 0) {
        note_positions(g, &g->moving);
        g->handover = HANDOVER_TOLD;
        return tell(g, CONSUMER_REVOKED, &g->moving, out) ? STEP_ERROR : STEP_EVENT;
    }
    if (!err) err = parts_without(&g->moving, &g->target, &g->owned);
    if (err) {
        (void)client_fail(g->client, err, 0, "out of memory");
        return STEP_ERROR;
    }
    if (g->state != MEMBER_STABLE) { /* all is given back, and we join again */
        g->target_set = false;
        parts_clear(&g->moving);
        return STEP_AGAIN;
    }
    if (g->moving.count == 0) {
        settled(g);
        if (!g->announce) return STEP_AGAIN;
        g->announce = false;
        return tell(g, CONSUMER_ASSIGNED, &g->moving, out) ? STEP_ERROR : STEP_EVENT;
    }
    g->handover = HANDOVER_FETCHING;
    g->fetched = false;
    return STEP_AGAIN;
}

static enum step lost(struct group *g, const struct consumer_event **out) {
    note_positions(g, &g->owned);
    enum err err = tell(g, CONSUMER_LOST, &g->owned, out);
    while (g->owned.count > 0) {
        const struct part *p = &g->owned.items[g->owned.count - 1];
        consumer_unassign(g->consumer, p->topic->name, p->partition);
        g->owned.count--;
    }
    g->expelled = false;
    g->handover = HANDOVER_NONE;
    parts_clear(&g->moving);
    return err ? STEP_ERROR : STEP_EVENT;
}

static enum step step(struct group *g, const struct consumer_event **out) {
    if (g->expelled) return lost(g, out);
    switch (g->handover) {
    case HANDOVER_NONE:
        return g->target_set ? begin_handover(g, out) : STEP_NOTHING;
    case HANDOVER_TOLD:
        if (g->config.auto_commit_ms == 0 || g->generation < 0 || !commit_needed(g)) return gave_back(g);
        commit_start(g);
        g->handover = HANDOVER_COMMITTING;
        return STEP_AGAIN;
    case HANDOVER_COMMITTING:
        if (g->commit.wanted || g->commit.in_flight) return STEP_WAIT;
        return gave_back(g); /* if it failed they are read again by others: at least once */
    case HANDOVER_FETCHING:
        if (!g->fetched) return STEP_NOTHING; /* the others are read on meanwhile */
        if (take_over(g)) return STEP_ERROR;
        g->handover = HANDOVER_NONE;
        g->announce = false;
        settled(g);
        return tell(g, CONSUMER_ASSIGNED, &g->moving, out) ? STEP_ERROR : STEP_EVENT;
    }
    return STEP_NOTHING;
}

/* ---- polling ---------------------------------------------------------------------------------- */

static void auto_commit(struct group *g) {
    int64_t now_ns = client_now_ns();
    if (g->config.auto_commit_ms == 0 || now_ns < g->auto_commit_at_ns) return;
    g->auto_commit_at_ns = now_ns + (int64_t)g->config.auto_commit_ms * 1000000;
    if (g->state == MEMBER_STABLE && commit_needed(g)) commit_start(g);
}

static enum err timed_out(struct group *g, int32_t timeout_ms) {
    if (g->why[0] && g->state != MEMBER_STABLE) {
        return client_fail(g->client, ERR_TIMEOUT, 0, "not in the group \"%s\" yet: %s", g->config.group, g->why);
    }
    return client_fail(g->client, ERR_TIMEOUT, 0, "nothing in %d ms", timeout_ms);
}

static int32_t left_ms(int64_t deadline_ns) {
    if (deadline_ns == INT64_MAX) return -1;
    int64_t ms = (deadline_ns - client_now_ns() + 999999) / 1000000;
    return (int32_t)MAX((int64_t)0, MIN(ms, (int64_t)INT32_MAX));
}

static void keep_in_hand(struct group *g, const struct consumer_event *record) {
    g->in_hand.topic = g->consumer->chunk->a->topic;
    g->in_hand.partition = record->partition;
    g->in_hand.offset = record->record.offset;
}

enum err group_poll(struct group *g, int32_t timeout_ms, const struct consumer_event **out) {
    int64_t deadline_ns = client_deadline(timeout_ms);
    g->in_hand.topic = NULL;
    auto_commit(g);
    for (bool first = true;; first = false) {
        if (g->failed) return client_fail(g->client, g->err, g->code, "%s", g->why);
        g->attention = false;
        enum step now = step(g, out);
        if (now == STEP_EVENT) return OK;
        if (now == STEP_ERROR) return ERR_NOMEM;
        if (now == STEP_AGAIN) continue;
        bool reads = now == STEP_NOTHING && consumer_assigned_count(g->consumer) > 0;
        if (!first && client_now_ns() >= deadline_ns) return timed_out(g, timeout_ms);
        if (!reads) {
            client_turn(g->client, deadline_ns);
            continue;
        }
        int64_t wake_ns = g->config.auto_commit_ms > 0 ? MIN(deadline_ns, g->auto_commit_at_ns) : deadline_ns;
        enum err err = consumer_poll(g->consumer, left_ms(wake_ns), out);
        if (!err && (*out)->kind == CONSUMER_RECORD) keep_in_hand(g, *out);
        if (err != ERR_TIMEOUT) return err;
        auto_commit(g);
    }
}

enum err group_seek(struct group *g, const char *topic, int32_t partition, int64_t offset) {
    struct topic_meta *t = metadata_topic(g->client, topic, false);
    if (!t) return client_fail(g->client, ERR_NOMEM, 0, "out of memory");
    if (!parts_find(&g->owned, t, partition)) {
        return client_fail(g->client, ERR_NOT_FOUND, 0, "\"%s\" partition %d is not ours", topic, partition);
    }
    g->in_hand.topic = NULL;
    const struct assigned *before = consumer_find(g->consumer, topic, partition);
    int64_t committed = before ? before->committed : -1;
    enum err err = consumer_assign(g->consumer, topic, partition, offset);
    struct assigned *a = err ? NULL : consumer_find(g->consumer, topic, partition);
    if (a) a->committed = committed;
    return err;
}

/* ---- commits ---------------------------------------------------------------------------------- */

void group_commit_async(struct group *g) {
    g->in_hand.topic = NULL; /* the user is through with it */
    commit_start(g);
    client_turn(g->client, 0);
}

enum err group_commit(struct group *g, int32_t timeout_ms) {
    int64_t deadline_ns = client_deadline(timeout_ms);
    if (g->failed) return client_fail(g->client, g->err, g->code, "%s", g->why);
    while (g->commit.in_flight && client_now_ns() < deadline_ns) client_turn(g->client, deadline_ns);
    g->in_hand.topic = NULL;
    commit_start(g);
    while ((g->commit.wanted || g->commit.in_flight) && !g->failed) {
        if (client_now_ns() >= deadline_ns) return client_fail(g->client, ERR_TIMEOUT, 0, "commit: no answer in %d ms", timeout_ms);
        client_turn(g->client, deadline_ns);
    }
    if (g->failed) return client_fail(g->client, g->err, g->code, "%s", g->why);
    return g->commit.err ? client_fail(g->client, g->commit.err, g->commit.code, "%s", g->why) : OK;
}

/* ---- the end ---------------------------------------------------------------------------------- */

static bool may_leave(const struct group *g) {
    if (!g->member_id[0] || g->failed) return false;
    return g->protocol == GROUP_CONSUMER ? g->generation >= 0 : !g->config.instance_id;
}

enum err group_close(struct group *g, int32_t timeout_ms) {
    int64_t deadline_ns = client_deadline(timeout_ms);
    enum err err = OK;
    g->in_hand.topic = NULL;
    bool owns = !g->failed && g->generation >= 0 && !g->expelled && g->state == MEMBER_STABLE;
    if (g->config.auto_commit_ms > 0 && owns && commit_needed(g)) err = group_commit(g, timeout_ms);
    if (may_leave(g)) {
        enum member_state before = g->state;
        g->state = MEMBER_LEFT; /* the protocols rest */
        bool joining = g->in_flight && before == MEMBER_JOINING && g->conn;
        if (joining) conn_close(g->conn, client_now_ns(), ERR_CLOSED, "leaving"); /* nothing is answered behind a JoinGroup */
        while (client_now_ns() < deadline_ns && g->state == MEMBER_LEFT) {
            int64_t next_ns = deadline_ns;
            struct conn *conn = group_conn(g, client_now_ns(), &next_ns);
            if (g->failed) break;
            if (conn) {
                if (g->protocol == GROUP_CLASSIC) classic_leave(g, conn);
                else heartbeat_leave(g, conn);
                break;
            }
            client_turn(g->client, MIN(next_ns, deadline_ns));
        }
        bool asked = g->state == MEMBER_LEAVING;
        while (g->state == MEMBER_LEAVING && client_now_ns() < deadline_ns) client_turn(g->client, deadline_ns);
        if (!err && (!asked || g->state == MEMBER_LEAVING)) {
            err = client_fail(g->client, ERR_TIMEOUT, 0, "leaving the group was not acknowledged: %s", g->why);
        }
        if (!err && g->err) err = client_fail(g->client, g->err, g->code, "%s", g->why);
    }
    group_destroy(g);
    return err;
}

struct group_stats group_stats(const struct group *g) {
    return (struct group_stats){
        .member_id = g->member_id, .generation = g->generation, .protocol = g->protocol,
        .leader = g->leader && g->protocol == GROUP_CLASSIC, .rebalances = g->rebalances, .commits = g->commits,
        .commits_failed = g->commits_failed};
}
