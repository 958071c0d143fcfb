/* What a group has to do without being asked: members whose time is over, assignments and expressions that are too large for a call. */
#include <stdlib.h>
#include "base/assert.h"
#include "server/group_consumer_impl.h"

enum { JOB_BYTES_MAX = 256 << 20 };

static int64_t later(int64_t at_ms, int64_t by_ms) { return at_ms > INT64_MAX - by_ms ? INT64_MAX : at_ms + by_ms; }

static int64_t assignment_due_ms(const struct consumer_group *g, const struct group_env *env) {
    if (g->assigning || g->member_count == 0 || g->epoch <= g->assignment_epoch) return INT64_MAX;
    int64_t at_ms = g->assignment_ms == 0 || g->assignment_ms > env->now_ms ? env->now_ms : later(g->assignment_ms, env->assignment_interval_ms);
    return MAX(at_ms, g->assign_rest_ms);
}

static int64_t regex_due_ms(const struct consumer_group *g, const struct group_env *env) {
    if (g->resolving) return INT64_MAX;
    bool wanted = false, unresolved = false;
    for (const struct consumer_regex *re = g->regexes; re; re = re->hh.next) {
        if (re->members == 0) continue;
        wanted = true;
        unresolved |= !re->resolved;
    }
    if (!wanted) return INT64_MAX;
    if (!g->regex_checked) return env->now_ms;
    int64_t at_ms = later(g->regex_ms, env->regex_refresh_interval_ms);
    if (g->regex_version != env->topics->version) at_ms = MIN(at_ms, later(g->regex_ms, CONSUMER_GROUP_REST_MS));
    if (unresolved) at_ms = MIN(at_ms, later(g->regex_ms, CONSUMER_GROUP_REST_MS / 10));
    return at_ms;
}

/* All members speak the classic protocol by now (the last other one was a static member that a classic one replaced). */
static bool downgrade_due(struct consumer_group *g, const struct group_env *env) {
    struct change c;
    change_init(&c, g, env, NULL, NULL);
    return change_may_downgrade(&c);
}

int64_t consumer_group_deadline_ms(const struct consumer_group *g, const struct group_env *env) {
    int64_t at_ms = downgrade_due((struct consumer_group *)g, env) ? env->now_ms : g->timer_ms;
    at_ms = MIN(at_ms, assignment_due_ms(g, env));
    return MIN(at_ms, regex_due_ms(g, env));
}

static bool expired(const struct consumer_member *m, int64_t now_ms) {
    return m->known && MIN(MIN(m->session_ms, m->rebalance_ms), MIN(m->join_ms, m->sync_ms)) <= now_ms;
}

/* Their tombstones, the new epoch beside them, must fit into one batch: the others go with the next tick. */
enum { GONE_BYTES_MAX = 4 << 20, GONE_MAX = 10000 };

/* True: some members go. */
static bool expire(struct change *c) {
    struct consumer_group *g = c->g;
    int64_t now_ms = c->env->now_ms;
    if (g->timer_ms > now_ms) return false;
    uint32_t n = 0;
    g->timer_ms = INT64_MAX;
    for (struct consumer_member *m = g->members; m; m = m->hh.next) {
        if (!m->known) continue;
        n += expired(m, now_ms);
        g->timer_ms = MIN(g->timer_ms, MIN(MIN(m->session_ms, m->rebalance_ms), MIN(m->join_ms, m->sync_ms)));
    }
    if (n == 0) return false;
    n = MIN(n, (uint32_t)GONE_MAX);
    c->gone = arena_array(c->arena, n, sizeof *c->gone);
    if (!c->gone) {
        c->nomem = true;
        return true;
    }
    int64_t room = GONE_BYTES_MAX;
    for (struct consumer_member *m = g->members; m && c->gone_n < n && room > 0; m = m->hh.next) {
        if (!expired(m, now_ms)) continue;
        c->gone[c->gone_n++] = m;
        room -= 3LL * (g->id_len + m->id_len + 16) + m->meta.subscribed_topic_regex.len;
    }
    change_fence(c);
    return true;
}

enum consumer_group_due consumer_group_tick(struct consumer_group *g, const struct group_env *env, struct arena *arena, struct group_records *out) {
    struct change c;
    change_init(&c, g, env, arena, out);
    bool fenced = expire(&c);
    if (!fenced && change_may_downgrade(&c)) change_downgrade(&c);
    else if (!fenced && assignment_due_ms(g, env) <= env->now_ms && !change_assign(&c)) return CONSUMER_GROUP_ASSIGN;
    if (c.nomem) {
        group_records_reset(out);
        out->err = ERR_NOMEM;
        return CONSUMER_GROUP_RECORDS;
    }
    if (out->count > 0 || out->err != OK) return CONSUMER_GROUP_RECORDS;
    return regex_due_ms(g, env) <= env->now_ms ? CONSUMER_GROUP_REGEX : CONSUMER_GROUP_NOTHING;
}

/* ---- assignments as a job --------------------------------------------------------------------- */

struct consumer_group_assign {
    struct arena arena;
    struct assignor_input *in;
    assignor_fn *assign;
    int32_t epoch;
    enum err err;
};

struct consumer_group_assign *consumer_group_assign_begin(struct consumer_group *g, const struct group_env *env) {
    ASSERT(!g->assigning);
    struct consumer_group_assign *job = calloc(1, sizeof *job);
    if (!job) return NULL;
    arena_init(&job->arena, JOB_BYTES_MAX);
    struct change c;
    change_init(&c, g, env, &job->arena, NULL);
    job->epoch = g->epoch;
    job->in = change_assignor_input(&c, &job->assign);
    if (!job->in) {
        arena_free(&job->arena);
        free(job);
        g->assign_rest_ms = later(env->now_ms, CONSUMER_GROUP_REST_MS);
        return NULL;
    }
    g->assigning = true;
    return job;
}

void consumer_group_assign_run(struct consumer_group_assign *job) { job->err = job->assign(job->in, &job->arena); }

void consumer_group_assign_drop(struct consumer_group *g, struct consumer_group_assign *job) {
    if (g) g->assigning = false;
    arena_free(&job->arena);
    free(job);
}

void consumer_group_assign_finish(struct consumer_group *g, const struct group_env *env, struct consumer_group_assign *job, struct group_records *out) {
    struct change c;
    change_init(&c, g, env, &job->arena, out);
    if (job->err == OK && job->epoch > g->assignment_epoch && job->epoch <= g->epoch) change_put_targets(&c, job->in, job->epoch);
    if (c.nomem || job->err != OK) {
        group_records_reset(out);
        out->err = ERR_NOMEM;
    }
    if (out->err != OK) g->assign_rest_ms = later(env->now_ms, CONSUMER_GROUP_REST_MS);
    consumer_group_assign_drop(g, job);
}

/* ---- expressions as a job --------------------------------------------------------------------- */

struct regex_work {
    struct group_regex *re;               /* NULL: it does not compile any more */
    struct str text;
    struct str *matched;                  /* owned list of names in the arena */
    uint32_t matched_n, matched_cap;
};
struct consumer_group_regex {
    struct arena arena;
    struct regex_work *works;
    uint32_t works_n;
    uint64_t version;                     /* of the topics at the beginning */
    bool begun, failed;
    struct str cursor;                    /* the topic that is being tried ... */
    uint32_t next;                        /* ... by this one; works_n: it is through */
};

void consumer_group_regex_drop(struct consumer_group *g, struct consumer_group_regex *job) {
    if (g) g->resolving = false;
    for (uint32_t i = 0; i < job->works_n; i++) {
        group_regex_free(job->works[i].re);
        free(job->works[i].matched);
    }
    arena_free(&job->arena);
    free(job);
}

struct consumer_group_regex *consumer_group_regex_begin(struct consumer_group *g, const struct group_env *env) {
    ASSERT(!g->resolving);
    struct consumer_group_regex *job = calloc(1, sizeof *job);
    g->regex_ms = env->now_ms;
    if (!job) return NULL;
    arena_init(&job->arena, JOB_BYTES_MAX);
    job->version = env->topics->version;
    g->resolving = true;
    job->works = arena_array(&job->arena, MAX(HASH_CNT(hh, g->regexes), 1u), sizeof *job->works);
    for (struct consumer_regex *re = g->regexes; re && job->works && !job->failed; re = re->hh.next) {
        if (re->members == 0) continue;
        char *copy = arena_strdup(&job->arena, (struct str){re->text, re->len});
        struct regex_work *w = &job->works[job->works_n];
        w->text = (struct str){copy, re->len};
        enum err err = copy ? group_regex_compile(w->text, &w->re, NULL, 0) : ERR_NOMEM;
        job->failed = err == ERR_NOMEM;
        job->works_n++;
    }
    if (!job->works || job->failed) {
        consumer_group_regex_drop(g, job);
        return NULL;
    }
    return job;
}

static bool keep_match(struct consumer_group_regex *job, struct regex_work *w, struct str name) {
    if (w->matched_n == w->matched_cap) {
        uint32_t cap = w->matched_cap ? w->matched_cap * 2 : 16;
        struct str *list = realloc(w->matched, cap * sizeof *list);
        if (!list) return false;
        w->matched = list;
        w->matched_cap = cap;
    }
    char *copy = arena_strdup(&job->arena, name);
    if (copy) w->matched[w->matched_n++] = (struct str){copy, name.len};
    return copy != NULL;
}

/* The first topic whose name is not before the cursor. */
static uint32_t lower_bound(const struct group_topics *topics, struct str cursor) {
    uint32_t low = 0, high = topics->count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        struct group_topic t;
        topics->at(topics->image, mid, &t);
        if (str_compare(t.name, cursor) < 0) low = mid + 1;
        else high = mid;
    }
    return low;
}

bool consumer_group_regex_run(struct consumer_group_regex *job, const struct group_env *env) {
    const struct group_topics *topics = env->topics;
    uint64_t cost = 0;
    uint32_t i = job->begun ? lower_bound(topics, job->cursor) : 0;
    for (; i < topics->count && !job->failed; i++) {
        struct group_topic t;
        topics->at(topics->image, i, &t);
        uint32_t w = job->begun && str_eq(t.name, job->cursor) ? job->next : 0;
        for (; w < job->works_n && cost < CONSUMER_GROUP_REGEX_SLICE && !job->failed; w++) {
            bool matches = false;
            cost += 50;
            if (!job->works[w].re || t.internal) continue;
            cost += group_regex_cost(job->works[w].re, (size_t)t.name.len);
            /* Too expensive on a name that came later: as if it did not match. */
            job->failed = group_regex_match(job->works[w].re, t.name, &matches) == ERR_NOMEM ||
                          (matches && !keep_match(job, &job->works[w], t.name));
        }
        if (cost < CONSUMER_GROUP_REGEX_SLICE) continue;
        char *copy = arena_strdup(&job->arena, t.name); /* as the view ends with the call */
        job->failed |= !copy;
        job->cursor = (struct str){copy, t.name.len};
        job->next = w;
        job->begun = true;
        return !job->failed;
    }
    return false;
}

static bool topics_equal(const struct consumer_regex *re, const struct regex_work *w) {
    if (!re->resolved || (uint32_t)re->value.topics_n != w->matched_n) return false;
    for (uint32_t i = 0; i < w->matched_n; i++)
        if (!str_eq(re->value.topics[i], w->matched[i])) return false;
    return true;
}

void consumer_group_regex_finish(struct consumer_group *g, const struct group_env *env, struct consumer_group_regex *job, struct arena *arena,
                                 struct group_records *out) {
    struct change c;
    change_init(&c, g, env, arena, out);
    bool changed = false;
    c.regexes = arena_array(arena, MAX(job->works_n, 1u), sizeof *c.regexes);
    if (!c.regexes || job->failed) c.nomem = true;
    for (uint32_t i = 0; i < job->works_n && !c.nomem; i++) {
        struct regex_work *w = &job->works[i];
        const struct consumer_regex *re = consumer_regex_find(g, w->text);
        if (!re || re->members == 0 || topics_equal(re, w)) continue;
        changed |= re->resolved || w->matched_n > 0;
        c.regexes[c.regexes_n++] = (struct change_regex){w->text, w->matched, w->matched_n};
        change_put_regex(&c, &c.regexes[c.regexes_n - 1]);
    }
    if (changed && !c.nomem) {
        c.metadata_hash = change_hash(&c);
        change_put_epoch(&c);
    }
    if (c.nomem) {
        group_records_reset(out);
        out->err = ERR_NOMEM;
    }
    if (out->err == OK) {
        g->regex_checked = true;
        g->regex_version = job->version;
    }
    g->regex_ms = env->now_ms;
    consumer_group_regex_drop(g, job);
}
