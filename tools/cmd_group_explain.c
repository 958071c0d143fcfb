/* cmd_group_explain.c - varve group explain: the last rebalances and why they were, who holds what, who is slow. */
#include <stdlib.h>
#include <time.h>
#include "base/assert.h"
#include "tools/cli.h"
#include "tools/group_lag.h"
#include "tools/json_out.h"

static const char *const causes[] = {
    [ADMIN_UNKNOWN_CAUSE] = "unknown", [ADMIN_JOINED] = "joined", [ADMIN_LEFT] = "left", [ADMIN_SILENT] = "silent", [ADMIN_CHANGED] = "changed"};

/* One member with the lag of what it holds. */
struct holder { const struct admin_member *member; int64_t lag, lag_ms; bool behind; };
struct explained {
    const char *group;
    struct admin_group_details *details;
    struct admin_group_history *history;
    struct holder *holders;
};

/* ---- finding out ----------------------------------------------------------------------------- */

static int64_t committed_of(const struct admin_offsets *offsets, const struct admin_partition *p) {
    for (int32_t i = 0; i < offsets->count; i++)
        if (offsets->offsets[i].partition == p->partition && strcmp(offsets->offsets[i].topic, p->topic) == 0) return offsets->offsets[i].offset;
    return -1;
}

static bool waited_for(const struct explained *e, const struct admin_member *m) {
    bool behind = e->details->epoch >= 0 && m->epoch >= 0 && m->epoch < e->details->epoch;
    for (int32_t i = 0; i < e->history->waiting_count; i++) behind |= strcmp(e->history->waiting_for[i], m->id) == 0;
    return behind;
}

static void hold(struct client *c, const struct options *o, struct explained *e, const struct admin_offsets *offsets) {
    e->holders = calloc((size_t)e->details->member_count + 1, sizeof *e->holders);
    ASSERT(e->holders != NULL);
    for (int32_t m = 0; m < e->details->member_count; m++) {
        const struct admin_member *member = &e->details->members[m];
        struct lag *rows = calloc((size_t)member->partition_count + 1, sizeof *rows);
        ASSERT(rows != NULL);
        for (int32_t i = 0; i < member->partition_count; i++)
            rows[i] = (struct lag){.topic = member->partitions[i].topic, .partition = member->partitions[i].partition,
                                   .committed = committed_of(offsets, &member->partitions[i])};
        group_lag(c, rows, member->partition_count, o->timeout_ms);
        e->holders[m] = (struct holder){.member = member, .behind = waited_for(e, member)};
        for (int32_t i = 0; i < member->partition_count; i++) {
            e->holders[m].lag += MAX(rows[i].records, (int64_t)0);
            e->holders[m].lag_ms = MAX(e->holders[m].lag_ms, rows[i].ms);
        }
        free(rows);
    }
}

/* ---- telling --------------------------------------------------------------------------------- */

static const char *clock_text(int64_t ms, char text[static 32]) {
    time_t seconds = (time_t)(ms / 1000);
    struct tm tm;
    if (!gmtime_r(&seconds, &tm)) return "-";
    size_t n = strftime(text, 32, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text + n, 32 - n, ".%03dZ", (int)(ms % 1000));
    return text;
}

static void cause_cell(struct table *t, const struct admin_rebalance *r) {
    const char *who = *r->member ? r->member : "a member";
    switch (r->cause) {
    case ADMIN_JOINED: table_cell(t, "%s joined", who); break;
    case ADMIN_LEFT: table_cell(t, "%s left", who); break;
    case ADMIN_SILENT: table_cell(t, "%s was silent for too long", who); break;
    case ADMIN_CHANGED: table_cell(t, "subscriptions or topics changed, said %s", who); break;
    case ADMIN_UNKNOWN_CAUSE: table_cell(t, "not known"); break;
    }
}

static void explain_text(const struct explained *e) {
    const struct admin_group_details *g = e->details;
    struct table t;
    char when[32];
    printf("group %s  state %s  type %s  assignor %s  members %d", e->group, g->state, g->type, *g->assignor ? g->assignor : "-", g->member_count);
    if (g->epoch >= 0) printf("  epoch %d", g->epoch);
    putchar('\n');
    table_init(&t, "MEMBER CLIENT-ID HOST >#PARTITIONS >EPOCH >LAG >LAG-SECONDS STATE");
    for (int32_t i = 0; i < g->member_count; i++) {
        const struct holder *h = &e->holders[i];
        table_cell(&t, "%s", h->member->id);
        table_cell(&t, "%s", h->member->client_id);
        table_cell(&t, "%s", h->member->host);
        table_cell(&t, "%d", h->member->partition_count);
        table_cell(&t, h->member->epoch < 0 ? "-" : "%d", h->member->epoch);
        table_cell(&t, "%lld", (long long)h->lag);
        table_cell(&t, "%.1f", (double)h->lag_ms / 1000);
        table_cell(&t, "%s", h->behind ? "the group waits for it" : "up to date");
    }
    if (g->member_count > 0) table_print(&t);
    else table_free(&t);
    if (e->history->count == 0) {
        printf("no rebalance since the coordinator began\n");
        return;
    }
    table_init(&t, "BEGAN >TOOK >EPOCH >MEMBERS LAST-TO-COME CAUSE");
    for (int32_t i = 0; i < e->history->count; i++) {
        const struct admin_rebalance *r = &e->history->rebalances[i];
        table_cell(&t, "%s", clock_text(r->begun_ms, when));
        if (r->elapsed_ms < 0) table_cell(&t, "%.1f s so far", (double)MAX(e->history->now_ms - r->begun_ms, (int64_t)0) / 1000);
        else table_cell(&t, "%.3f s", (double)r->elapsed_ms / 1000);
        table_cell(&t, "%d", r->epoch);
        table_cell(&t, "%d", r->members);
        table_cell(&t, "%s", *r->last_member ? r->last_member : "-");
        cause_cell(&t, r);
    }
    table_print(&t);
}

static void explain_json(const struct explained *e) {
    const struct admin_group_details *g = e->details;
    struct json_out json;
    json_init(&json, stdout);
    json_object(&json, NULL);
    json_text(&json, "group", e->group);
    json_text(&json, "state", g->state);
    json_text(&json, "type", g->type);
    json_array(&json, "members");
    for (int32_t i = 0; i < g->member_count; i++) {
        const struct holder *h = &e->holders[i];
        json_object(&json, NULL);
        json_text(&json, "member", h->member->id);
        json_text(&json, "client", h->member->client_id);
        json_text(&json, "host", h->member->host);
        json_i64(&json, "partitions", h->member->partition_count);
        if (h->member->epoch < 0) json_null(&json, "epoch");
        else json_i64(&json, "epoch", h->member->epoch);
        json_i64(&json, "lag", h->lag);
        json_f64(&json, "lag_seconds", (double)h->lag_ms / 1000);
        json_bool(&json, "waited_for", h->behind);
        json_object_end(&json);
    }
    json_array_end(&json);
    json_array(&json, "rebalances");
    for (int32_t i = 0; i < e->history->count; i++) {
        const struct admin_rebalance *r = &e->history->rebalances[i];
        json_object(&json, NULL);
        json_i64(&json, "begun_ms", r->begun_ms);
        if (r->elapsed_ms < 0) json_null(&json, "elapsed_ms");
        else json_i64(&json, "elapsed_ms", r->elapsed_ms);
        json_i64(&json, "epoch", r->epoch);
        json_i64(&json, "members", r->members);
        json_text(&json, "cause", causes[r->cause]);
        json_text(&json, "member", *r->member ? r->member : NULL);
        json_text(&json, "last_member", *r->last_member ? r->last_member : NULL);
        json_i64(&json, "last_after_ms", r->last_after_ms);
        json_object_end(&json);
    }
    json_array_end(&json);
    json_object_end(&json);
    json_line(&json);
}

static int explain(struct client *c, const struct options *o, const char *group) {
    struct explained e = {.group = group};
    struct admin_offsets *offsets = NULL;
    enum err err = admin_describe_group(c, group, o->timeout_ms, &e.details);
    if (err == OK) err = admin_group_offsets(c, group, o->timeout_ms, &offsets);
    if (err == OK) {
        err = admin_group_history(c, group, o->timeout_ms, &e.history);
        if (err == ERR_CLOSED) fprintf(stderr, "varve group explain: only Varve knows this request; is the broker one?\n");
    }
    int code = err == OK ? EXIT_OK : cli_failed(o, c, err, NULL);
    if (err == OK) {
        hold(c, o, &e, offsets);
        if (o->json) explain_json(&e);
        else explain_text(&e);
    }
    free(e.holders);
    admin_offsets_free(offsets);
    admin_group_history_free(e.history);
    admin_group_details_free(e.details);
    return code;
}

int cmd_group_explain(const struct options *o) {
    int code;
    struct client *c = cli_connect(o, &code);
    if (!c) return code;
    code = EXIT_OK;
    for (int i = 0; i < o->arg_count; i++) {
        int one = explain(c, o, o->args[i]);
        if (one != EXIT_OK) code = one;
    }
    client_destroy(c);
    return code;
}
