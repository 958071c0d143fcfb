/* group_members.c - what joins the core of a group of the consumer protocol (KIP-848) to its coordinator: the clock, the metadata, the log, and
 * the work that the core leaves to others.
 *
 * The core's clock is the wall's as of the start, going on with the monotonic one: it stamps records, and deadlines must not
 * jump. An assignment that is too large for a turn is computed by a helper; expressions over many topics are resolved in slices.
 * Neither holds the group's lock: what came meanwhile the core sorts out when the result arrives. */
#include <stdlib.h>
#include "base/assert.h"
#include "base/trace.h"
#include "server/api.h"
#include "server/group_api.h"
#include "server/group_config.h"
#include "server/group_coordinator_impl.h"

enum { TICK_ARENA_BYTES = 64 << 20, REST_MS = 1000 };

/* ---- the view -------------------------------------------------------------------------------------------- */

static void topic_fill(const struct image_topic *t, struct group_topic *out) {
    *out = (struct group_topic){t->id, {t->name, t->name_len}, t->partition_count, t->internal};
}
static void topic_at(const void *image, uint32_t i, struct group_topic *out) {
    topic_fill(((const struct image *)image)->by_name[i], out);
}
static bool topic_by_name(const void *image, struct str name, struct group_topic *out) {
    const struct image_topic *t = image_topic_by_name(image, name);
    if (t) topic_fill(t, out);
    return t != NULL;
}
static bool topic_by_id(const void *image, const struct uuid *id, struct group_topic *out) {
    const struct image_topic *t = image_topic_by_id(image, id);
    if (t) topic_fill(t, out);
    return t != NULL;
}

static int64_t steady_ms(const struct group_set *s) { return s->wall_base_ms + (s->reactor->now_ns - s->mono_base_ns) / 1000000; }

static enum group_migration migration(const char *text) {
    if (strcmp(text, "disabled") == 0) return GROUP_MIGRATION_DISABLED;
    if (strcmp(text, "upgrade") == 0) return GROUP_MIGRATION_UPGRADE;
    return strcmp(text, "downgrade") == 0 ? GROUP_MIGRATION_DOWNGRADE : GROUP_MIGRATION_BIDIRECTIONAL;
}

void group_view_fill(const struct group *g, struct group_view *v) {
    static const struct str assignors[] = {{"uniform", 7}, {"range", 5}};
    struct group_set *s = g->coordinator->set;
    const struct config *c = &s->reactor->broker->config;
    const struct image *im = reactor_image(s->reactor);
    const struct image_configs *own = im->groups ? image_group_configs(im, group_id(g)) : NULL;
    v->topics = (struct group_topics){s->topics_version, im->topic_count, im, topic_at, topic_by_name, topic_by_id, NULL};
    v->env = (struct group_env){
        .now_ms = steady_ms(s), .topics = &v->topics, .memory_full = group_memory_full(s->reactor),
        .session_timeout_ms = group_config_value(own, "consumer.session.timeout.ms", c->group_consumer_session_timeout_ms),
        .heartbeat_interval_ms = group_config_value(own, "consumer.heartbeat.interval.ms", c->group_consumer_heartbeat_interval_ms),
        .assignment_interval_ms = c->group_consumer_assignment_interval_ms,
        .regex_refresh_interval_ms = c->group_consumer_regex_refresh_interval_ms, .max_size = c->group_consumer_max_size,
        .assignors = assignors, .assignors_n = ARRAY_LEN(assignors), .migration = migration(c->group_consumer_migration_policy),
        .classic_max_size = c->group_max_size,
    };
}

bool group_has_consumer(const struct group *g) { return g->consumer && !consumer_group_is_gone(g->consumer); }

/* ---- work of others ------------------------------------------------------------------------------------------ */

struct group_assign_job {
    struct io_op io;
    struct group *group;
    struct consumer_group_assign *assign;
    bool done, dropped;                    /* dropped: nobody wants the result */
};

void group_consumer_free(struct group *g) {
    if (g->regex) consumer_group_regex_drop(g->consumer, g->regex);
    g->regex = NULL;
    if (g->assign && g->assign->done) {
        consumer_group_assign_drop(NULL, g->assign->assign);
        free(g->assign);
    } else if (g->assign) {
        g->assign->dropped = true;
    }
    g->assign = NULL;
    consumer_group_free(g->consumer);
    g->consumer = NULL;
}

/* Work in flight keeps the group and its coordinator. */
static void job_begins(struct group *g) {
    g->pins++;
    g->coordinator->jobs++;
}
static void job_ends(struct group *g) {
    struct coordinator *c = g->coordinator;
    g->pins--;
    c->jobs--;
    if (c->state == COORDINATOR_ACTIVE) g->tick_due = true;
    group_settle(g);
    coordinator_free_if_gone(c);
}

static void assign_work(struct io_op *io) { consumer_group_assign_run(CONTAINER_OF(io, struct group_assign_job, io)->assign); }

static void assign_done(struct io_op *io) {
    struct group_assign_job *job = CONTAINER_OF(io, struct group_assign_job, io);
    struct group *g = job->group;
    job->done = true;
    if (job->dropped) {
        consumer_group_assign_drop(NULL, job->assign);
        free(job);
    }
    job_ends(g);
}

static void assign_begin(struct group *g, const struct group_env *env) {
    struct group_assign_job *job = calloc(1, sizeof *job);
    if (job) job->assign = consumer_group_assign_begin(g->consumer, env);
    if (!job || !job->assign) {
        free(job);
        g->rest_until_ns = group_reactor(g)->now_ns + REST_MS * 1000000LL;
        return;
    }
    job->group = g;
    job->io = (struct io_op){.kind = IO_WORK, .work = assign_work, .done = assign_done};
    g->assign = job;
    job_begins(g);
    io_submit(group_reactor(g)->io, &job->io);
}

static void regex_slice(struct mail *m) {
    struct group *g = CONTAINER_OF(m, struct group, regex_mail);
    struct group_view v;
    group_view_fill(g, &v);
    if (g->regex && g->coordinator->state == COORDINATOR_ACTIVE && consumer_group_regex_run(g->regex, &v.env)) {
        mailbox_post(&group_reactor(g)->mailbox, m);
        return;
    }
    g->regex_away = false;
    job_ends(g);
}

static void regex_begin(struct group *g, const struct group_env *env) {
    if (g->regex_away) return; /* an older one's last mail */
    g->regex = consumer_group_regex_begin(g->consumer, env);
    if (!g->regex) {
        g->rest_until_ns = group_reactor(g)->now_ns + REST_MS * 1000000LL;
        return;
    }
    g->regex_away = true;
    job_begins(g);
    g->regex_mail.deliver = regex_slice;
    mailbox_post(&group_reactor(g)->mailbox, &g->regex_mail);
}

/* ---- records of the core ----------------------------------------------------------------------------------------- */

/* The last member of this protocol has gone: the others meet in a rebalance of their own. */
static void downgraded(struct group *g) {
    struct classic_env env = group_classic_env(g);
    struct group_records records;
    group_records_begin(&records);
    classic_left(g->classic, &env, group_id(g), &records);
    group_classic_after(g, &records, NULL, KERR_NONE);
}

static void appended(struct group *g, void *ctx, int16_t error) {
    struct group_op *op = ctx;
    bool downgrades = g->downgrades;
    g->downgrades = g->upgrades = false;
    if (op) group_op_finish(op, error);
    if (g->coordinator->state != COORDINATOR_ACTIVE) return;
    if (error) g->rest_until_ns = group_reactor(g)->now_ns + REST_MS * 1000000LL;
    else if (downgrades && g->classic) downgraded(g);
    group_arm(g);
}

void group_consumer_after(struct group *g, struct group_records *records, struct group_op *op, bool joins) {
    if (records->err || records->count == 0) {
        int16_t error = records->err ? KERR_COORDINATOR_NOT_AVAILABLE : KERR_NONE;
        if (records->err) trace_warn("groups", "group %.*s: its records cannot be written: %s", g->id_len, g->id, err_str(records->err));
        if (records->err) g->rest_until_ns = group_reactor(g)->now_ns + REST_MS * 1000000LL;
        group_records_free(records);
        if (op) group_op_finish(op, error);
        g->upgrades = false;
        group_arm(g);
        return;
    }
    g->downgrades = consumer_group_downgrades(records) && !joins;
    group_append(g, GROUP_EXCLUSIVE, records, appended, op);
}

void group_consumer_tick(struct group *g) {
    struct group_view v;
    struct arena arena;
    struct group_records records;
    group_view_fill(g, &v);
    arena_init(&arena, TICK_ARENA_BYTES);
    group_records_begin(&records);
    if (g->assign && g->assign->done) {
        consumer_group_assign_finish(g->consumer, &v.env, g->assign->assign, &records);
        free(g->assign);
        g->assign = NULL;
    } else if (g->regex && !g->regex_away) {
        consumer_group_regex_finish(g->consumer, &v.env, g->regex, &arena, &records);
        g->regex = NULL;
    } else {
        switch (consumer_group_tick(g->consumer, &v.env, &arena, &records)) {
        case CONSUMER_GROUP_NOTHING:
        case CONSUMER_GROUP_RECORDS: break;
        case CONSUMER_GROUP_ASSIGN: assign_begin(g, &v.env); break;
        case CONSUMER_GROUP_REGEX: regex_begin(g, &v.env); break;
        }
    }
    group_consumer_after(g, &records, NULL, false);
    arena_free(&arena);
}

int64_t group_consumer_deadline_ns(const struct group *g) {
    struct group_view v;
    group_view_fill(g, &v);
    int64_t now_ns = group_reactor(g)->now_ns, at_ms = consumer_group_deadline_ms(g->consumer, &v.env);
    if (at_ms == INT64_MAX) return INT64_MAX;
    int64_t left_ms = MIN(MAX(at_ms - v.env.now_ms, 1), INT64_MAX / 4000000);
    return MAX(now_ns + left_ms * 1000000, g->rest_until_ns);
}

enum err group_consumer_replay(struct group *g, const struct group_key *key, struct bytes value) {
    struct group_view v;
    if (!g->consumer && !value.p) return OK;
    if (!g->consumer) g->consumer = consumer_group_new(group_id(g));
    if (!g->consumer) return ERR_NOMEM;
    group_view_fill(g, &v);
    enum err err = consumer_group_replay(g->consumer, &v.env, key, value);
    return err == OK || err == ERR_NOMEM ? err : ERR_INVALID;
}
