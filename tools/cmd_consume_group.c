/* cmd_consume_group.c - varve consume --group: as a member of a consumer group.
 *
 * What is committed has been written to standard output: a member that is killed prints some records
 * again when it comes back, and loses none. */
#include <stdlib.h>
#include "base/assert.h"
#include "tools/consume.h"

enum { POLL_MS = 500, BURST_EVENTS = 1000, COMMIT_MS = 2000, CLOSE_MS = 10000 };

struct share { char *topic; int32_t partition; bool ended; };
struct membership {
    struct consume *k;
    struct group *group;
    struct share *shares;         /* what we have now */
    int32_t share_count;
    int64_t committed_ms;
};

static bool is_regex(const char *topic) { return *topic == '^'; }

bool consume_args_ok(const struct options *o) {
    const char *wrong = NULL;
    if (!o->group && o->arg_count > 1) wrong = "more than one topic needs --group";
    if (!o->group && is_regex(o->args[0])) wrong = "a regular expression needs --group";
    if (!o->group && (o->group_protocol || o->assignor || o->instance_id)) wrong = "--group is missing";
    if (o->group && o->partition >= 0) wrong = "--partition does not go with --group, which shares the partitions out";
    int regexes = 0;
    for (int i = 0; i < o->arg_count; i++) regexes += is_regex(o->args[i]);
    if (regexes > 1) wrong = "one regular expression at most";
    if (regexes > 0 && o->group_protocol && strcmp(o->group_protocol, "classic") == 0)
        wrong = "a regular expression needs the group protocol \"consumer\"";
    if (wrong) fprintf(stderr, "varve consume: %s\ntry: varve consume --help\n", wrong);
    return !wrong;
}

/* ---- rebalances ------------------------------------------------------------------------------ */

static void report(const struct membership *m, const struct consumer_event *e) {
    static const char *const names[] = {[CONSUMER_ASSIGNED] = "assigned", [CONSUMER_REVOKED] = "revoked", [CONSUMER_LOST] = "lost"};
    struct group_stats stats = group_stats(m->group);
    progress_end(&m->k->progress);
    if (m->k->o->quiet) return;
    fprintf(stderr, "%% Group %s rebalanced (member %s, %s %d): %s:", m->k->o->group, stats.member_id[0] ? stats.member_id : "-",
            stats.protocol == GROUP_CLASSIC ? "generation" : "epoch", stats.generation, names[e->kind]);
    for (int32_t i = 0; i < e->partition_count; i++)
        fprintf(stderr, "%s %s [%d]", i ? "," : "", e->partitions[i].topic, e->partitions[i].partition);
    fputs(e->partition_count ? "\n" : " nothing\n", stderr);
}

static struct share *find(const struct membership *m, const char *topic, int32_t partition) {
    for (int32_t i = 0; i < m->share_count; i++)
        if (m->shares[i].partition == partition && strcmp(m->shares[i].topic, topic) == 0) return &m->shares[i];
    return NULL;
}

static void forget(struct membership *m, const char *topic, int32_t partition) {
    struct share *s = find(m, topic, partition);
    if (!s) return;
    free(s->topic);
    *s = m->shares[--m->share_count];
}

static enum err take(struct membership *m, const struct group_partition *p) {
    int64_t offset;
    struct share *bigger = realloc(m->shares, ((size_t)m->share_count + 1) * sizeof *bigger);
    ASSERT(bigger != NULL);
    m->shares = bigger;
    m->shares[m->share_count] = (struct share){strdup(p->topic), p->partition, false};
    ASSERT(m->shares[m->share_count].topic != NULL);
    m->share_count++;
    if (p->offset >= 0) return OK;
    enum err err = consume_start(m->k, p->topic, p->partition, &offset);
    return err == OK ? group_seek(m->group, p->topic, p->partition, offset) : err;
}

/* ---- the loop -------------------------------------------------------------------------------- */

/* Everything printed is out, then it is committed. */
static int commit(struct membership *m, bool wait) {
    int code = cli_finish(m->k->o, EXIT_OK);
    if (code != EXIT_OK) return code;
    m->committed_ms = now_ms();
    if (!wait) {
        group_commit_async(m->group);
        return EXIT_OK;
    }
    enum err err = group_commit(m->group, CLOSE_MS);
    if (err != OK) fprintf(stderr, "varve consume: %s: some records will be printed again\n", client_error(m->k->client));
    return EXIT_OK;
}

static int event(struct membership *m, const struct consumer_event *e) {
    struct share *s;
    enum err err = OK;
    int code = EXIT_OK;
    switch (e->kind) {
    case CONSUMER_RECORD:
        s = find(m, e->topic, e->partition);
        if (s) s->ended = false;
        consume_event(m->k, e);
        break;
    case CONSUMER_END:
        s = find(m, e->topic, e->partition);
        if (s) s->ended = true;
        break;
    case CONSUMER_ERROR:
        consume_event(m->k, e);
        s = find(m, e->topic, e->partition);
        if (s) s->ended = true;
        break;
    case CONSUMER_ASSIGNED:
        report(m, e);
        for (int32_t i = 0; i < e->partition_count && err == OK; i++) err = take(m, &e->partitions[i]);
        if (err != OK) code = cli_failed(m->k->o, m->k->client, err, m->k->o->group);
        break;
    case CONSUMER_REVOKED:
        report(m, e);
        code = commit(m, true);
        for (int32_t i = 0; i < e->partition_count; i++) forget(m, e->partitions[i].topic, e->partitions[i].partition);
        break;
    case CONSUMER_LOST:
        report(m, e);
        for (int32_t i = 0; i < e->partition_count; i++) forget(m, e->partitions[i].topic, e->partitions[i].partition);
        break;
    }
    return code;
}

static bool enough(const struct membership *m) {
    const struct options *o = m->k->o;
    if (o->count >= 0 && m->k->records >= (uint64_t)o->count) return true;
    bool all = o->exit_at_end && m->share_count > 0;
    for (int32_t i = 0; all && i < m->share_count; i++) all = m->shares[i].ended;
    return all;
}

static int loop(struct membership *m, int signals) {
    struct consume *k = m->k;
    const struct consumer_event *e;
    while (!enough(m) && !ferror(stdout) && !signals_pending(signals)) {
        enum err err = OK;
        int code = EXIT_OK;
        for (int i = 0; i < BURST_EVENTS && err == OK && code == EXIT_OK && !enough(m); i++) {
            err = group_poll(m->group, 0, &e);
            if (err == OK) code = event(m, e);
        }
        progress_show(&k->progress, k->records, "records", NULL);
        if (code == EXIT_OK && now_ms() - m->committed_ms >= COMMIT_MS) code = commit(m, false);
        if (code == EXIT_OK && err == ERR_TIMEOUT) {
            code = cli_finish(k->o, EXIT_OK);
            if (code == EXIT_OK) err = group_poll(m->group, POLL_MS, &e);
            if (code == EXIT_OK && err == OK) code = event(m, e);
        }
        if (code != EXIT_OK) return code;
        if (err != OK && err != ERR_TIMEOUT) return cli_failed(k->o, k->client, err, NULL);
    }
    return k->failed ? EXIT_FAILED : EXIT_OK;
}

static void configure(const struct options *o, struct group_config *cfg, const char **topics) {
    group_config_init(cfg);
    cfg->group = o->group;
    cfg->topics = topics;
    for (int i = 0; i < o->arg_count; i++) {
        if (is_regex(o->args[i])) cfg->regex = o->args[i];
        else topics[cfg->topic_count++] = o->args[i];
    }
    const char *protocol = o->group_protocol ? o->group_protocol : "auto";
    cfg->protocol = *protocol == 'a' ? GROUP_AUTO : strcmp(protocol, "classic") == 0 ? GROUP_CLASSIC : GROUP_CONSUMER;
    if (o->assignor && cfg->protocol == GROUP_CONSUMER) cfg->server_assignor = o->assignor;
    else if (o->assignor) cfg->assignors = o->assignor;
    if (o->assignor && cfg->protocol == GROUP_AUTO) cfg->protocol = GROUP_CLASSIC; /* the lists have other names */
    cfg->instance_id = o->instance_id;
    if (o->session_timeout_ms > 0) {
        cfg->session_timeout_ms = o->session_timeout_ms;
        cfg->heartbeat_ms = MIN(cfg->heartbeat_ms, MAX(o->session_timeout_ms / 3, 1));
    }
    cfg->auto_commit_ms = 0; /* we know what was printed */
    cfg->consumer.reset = CONSUMER_RESET_EARLIEST;
}

int consume_group(struct consume *k) {
    struct membership m = {.k = k, .committed_ms = now_ms()};
    struct group_config cfg;
    const char **topics = calloc((size_t)k->o->arg_count + 1, sizeof *topics);
    ASSERT(topics != NULL);
    configure(k->o, &cfg, topics);
    m.group = group_create(k->client, &cfg);
    free(topics);
    if (!m.group) return cli_failed(k->o, k->client, ERR_INVALID, k->o->group);
    int signals = signals_open();
    progress_init(&k->progress, k->o);
    int code = loop(&m, signals);
    progress_end(&k->progress);
    if (code == EXIT_OK || k->failed) {
        int written = commit(&m, true);
        if (code == EXIT_OK) code = written;
    }
    enum err err = group_close(m.group, CLOSE_MS);
    if (err != OK) {
        int left = cli_failed(k->o, k->client, err, NULL);
        if (code == EXIT_OK) code = left;
    }
    signals_default(signals);
    for (int32_t i = 0; i < m.share_count; i++) free(m.shares[i].topic);
    free(m.shares);
    return code;
}
