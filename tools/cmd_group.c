/* cmd_group.c - varve group list | describe | members | offsets | delete. */
#include <stdlib.h>
#include "base/assert.h"
#include "tools/cli.h"
#include "tools/group_lag.h"
#include "tools/json_out.h"
#include "tools/seek_where.h"

static const char *dash(const char *text) { return text && *text ? text : "-"; }

static void cell_i64(struct table *t, int64_t n) { table_cell(t, n < 0 ? "-" : "%lld", (long long)n); }

/* -1 as null */
static void json_known(struct json_out *json, const char *key, int64_t n) {
    if (n < 0) json_null(json, key);
    else json_i64(json, key, n);
}

typedef int group_fn(struct client *c, const struct options *o, const char *group, struct table *t);

/* Runs `one` for each group on the command line, which fills one table or prints JSON; the worst exit code. */
static int for_each_group(const struct options *o, const char *head, group_fn *one) {
    int code;
    struct table table;
    struct client *c = cli_connect(o, &code);
    if (!c) return code;
    code = EXIT_OK;
    table_init(&table, head);
    for (int i = 0; i < o->arg_count; i++) {
        int result = one(c, o, o->args[i], &table);
        if (result != EXIT_OK) code = result;
    }
    if (o->json || table.count == (size_t)table.columns) table_free(&table);
    else table_print(&table);
    client_destroy(c);
    return code;
}

/* ---- list -------------------------------------------------------------------------------- */

int cmd_group_list(const struct options *o) {
    int code;
    struct admin_groups *groups;
    struct table table;
    struct json_out json;
    struct client *c = cli_connect(o, &code);
    if (!c) return code;
    enum err err = admin_list_groups(c, o->state, o->type, o->timeout_ms, &groups);
    if (err != OK) {
        code = cli_failed(o, c, err, NULL);
        client_destroy(c);
        return code;
    }
    table_init(&table, "GROUP TYPE PROTOCOL STATE");
    json_init(&json, stdout);
    for (int32_t i = 0; i < groups->count; i++) {
        const struct admin_group *g = &groups->groups[i];
        table_cell(&table, "%s", g->name);
        table_cell(&table, "%s", dash(g->type));
        table_cell(&table, "%s", dash(g->protocol_type));
        table_cell(&table, "%s", dash(g->state));
        if (!o->json) continue;
        json_object(&json, NULL);
        json_text(&json, "group", g->name);
        json_text(&json, "type", g->type);
        json_text(&json, "protocol", g->protocol_type);
        json_text(&json, "state", g->state);
        json_object_end(&json);
        json_line(&json);
    }
    if (o->json) table_free(&table);
    else table_print(&table);
    admin_groups_free(groups);
    client_destroy(c);
    return EXIT_OK;
}

/* ---- describe ---------------------------------------------------------------------------- */

struct described { struct lag *lags; int32_t count; };

static struct lag *lag_row(struct described *d, const char *topic, int32_t partition) {
    for (int32_t i = 0; i < d->count; i++)
        if (d->lags[i].partition == partition && strcmp(d->lags[i].topic, topic) == 0) return &d->lags[i];
    d->lags = realloc(d->lags, ((size_t)d->count + 1) * sizeof *d->lags);
    ASSERT(d->lags != NULL);
    d->lags[d->count] = (struct lag){.topic = topic, .partition = partition, .committed = -1, .end = -1, .records = -1, .ms = -1};
    return &d->lags[d->count++];
}

static int compare_lags(const void *a, const void *b) {
    const struct lag *x = a, *y = b;
    int order = strcmp(x->topic, y->topic);
    return order ? order : (x->partition > y->partition) - (x->partition < y->partition);
}

/* What is committed and what is assigned, one row for each partition. */
static struct described rows_of(const struct admin_group_details *g, const struct admin_offsets *offsets) {
    struct described d = {0};
    for (int32_t i = 0; i < offsets->count; i++)
        lag_row(&d, offsets->offsets[i].topic, offsets->offsets[i].partition)->committed = offsets->offsets[i].offset;
    for (int32_t m = 0; m < g->member_count; m++)
        for (int32_t i = 0; i < g->members[m].partition_count; i++)
            (void)lag_row(&d, g->members[m].partitions[i].topic, g->members[m].partitions[i].partition);
    if (d.count > 1) qsort(d.lags, (size_t)d.count, sizeof *d.lags, compare_lags);
    return d;
}

static const struct admin_member *holder(const struct admin_group_details *g, const struct lag *row) {
    for (int32_t m = 0; m < g->member_count; m++)
        for (int32_t i = 0; i < g->members[m].partition_count; i++) {
            const struct admin_partition *p = &g->members[m].partitions[i];
            if (p->partition == row->partition && strcmp(p->topic, row->topic) == 0) return &g->members[m];
        }
    return NULL;
}

static void describe_row(struct table *t, const struct admin_group_details *g, const struct lag *row) {
    const struct admin_member *m = holder(g, row);
    table_cell(t, "%s", g->name);
    table_cell(t, "%s", row->topic);
    table_cell(t, "%d", row->partition);
    cell_i64(t, row->committed);
    cell_i64(t, row->end);
    cell_i64(t, row->records);
    table_cell(t, "%s", m ? dash(m->id) : "-");
    table_cell(t, "%s", m ? dash(m->host) : "-");
    table_cell(t, "%s", m ? dash(m->client_id) : "-");
    table_cell(t, row->ms < 0 ? "-" : "%.1f", (double)row->ms / 1000);
}

static void describe_json(const struct admin_group_details *g, const struct described *d) {
    struct json_out json;
    json_init(&json, stdout);
    json_object(&json, NULL);
    json_text(&json, "group", g->name);
    json_text(&json, "state", g->state);
    json_text(&json, "type", g->type);
    json_text(&json, "protocol", g->protocol_type);
    json_text(&json, "assignor", g->assignor);
    json_known(&json, "epoch", g->epoch);
    json_known(&json, "target_epoch", g->target_epoch);
    json_i64(&json, "coordinator", g->coordinator.id);
    json_i64(&json, "members", g->member_count);
    json_array(&json, "partitions");
    for (int32_t i = 0; i < d->count; i++) {
        const struct lag *row = &d->lags[i];
        const struct admin_member *m = holder(g, row);
        json_object(&json, NULL);
        json_text(&json, "topic", row->topic);
        json_i64(&json, "partition", row->partition);
        json_known(&json, "offset", row->committed);
        json_known(&json, "end", row->end);
        json_known(&json, "lag", row->records);
        if (row->ms < 0) json_null(&json, "lag_seconds");
        else json_f64(&json, "lag_seconds", (double)row->ms / 1000);
        json_text(&json, "member", m ? m->id : NULL);
        json_text(&json, "host", m ? m->host : NULL);
        json_text(&json, "client", m ? m->client_id : NULL);
        json_object_end(&json);
    }
    json_array_end(&json);
    json_object_end(&json);
    json_line(&json);
}

static int describe_one(struct client *c, const struct options *o, const char *group, struct table *t) {
    struct admin_group_details *g;
    struct admin_offsets *offsets;
    enum err err = admin_describe_group(c, group, o->timeout_ms, &g);
    if (err != OK) return cli_failed(o, c, err, NULL);
    err = admin_group_offsets(c, group, o->timeout_ms, &offsets);
    if (err != OK) {
        admin_group_details_free(g);
        return cli_failed(o, c, err, NULL);
    }
    struct described d = rows_of(g, offsets);
    group_lag(c, d.lags, d.count, o->timeout_ms);
    int code = EXIT_OK;
    for (int32_t i = 0; i < d.count && code == EXIT_OK; i++)
        if (d.lags[i].err != OK && d.lags[i].err != ERR_NOT_FOUND) code = cli_failed(o, c, d.lags[i].err, d.lags[i].topic);
    if (o->json) {
        describe_json(g, &d);
    } else {
        printf("group %s  state %s  type %s  assignor %s  members %d  coordinator %d (%s:%d)\n", group, dash(g->state), g->type,
               dash(g->assignor), g->member_count, g->coordinator.id, g->coordinator.host, g->coordinator.port);
        for (int32_t i = 0; i < d.count; i++) describe_row(t, g, &d.lags[i]);
    }
    free(d.lags);
    admin_offsets_free(offsets);
    admin_group_details_free(g);
    return code;
}

int cmd_group_describe(const struct options *o) {
    return for_each_group(o, "GROUP TOPIC >PARTITION >CURRENT-OFFSET >LOG-END-OFFSET >LAG CONSUMER-ID HOST CLIENT-ID >LAG-SECONDS", describe_one);
}

/* ---- members ----------------------------------------------------------------------------- */

/* "t:0,1;u:2" */
static char *parts_text(const struct admin_partition *parts, int32_t count) {
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    ASSERT(f != NULL);
    for (int32_t i = 0; i < count; i++) {
        bool same = i > 0 && strcmp(parts[i].topic, parts[i - 1].topic) == 0;
        if (same) fprintf(f, ",%d", parts[i].partition);
        else fprintf(f, "%s%s:%d", i > 0 ? ";" : "", parts[i].topic, parts[i].partition);
    }
    fclose(f);
    ASSERT(text != NULL);
    return text;
}

static void json_parts(struct json_out *json, const char *key, const struct admin_partition *parts, int32_t count) {
    json_array(json, key);
    for (int32_t i = 0; i < count; i++) {
        json_object(json, NULL);
        json_text(json, "topic", parts[i].topic);
        json_i64(json, "partition", parts[i].partition);
        json_object_end(json);
    }
    json_array_end(json);
}

static void member_json(const char *group, const struct admin_member *m) {
    struct json_out json;
    json_init(&json, stdout);
    json_object(&json, NULL);
    json_text(&json, "group", group);
    json_text(&json, "member", m->id);
    json_text(&json, "instance_id", m->instance_id);
    json_text(&json, "client", m->client_id);
    json_text(&json, "host", m->host);
    json_text(&json, "rack", m->rack);
    json_text(&json, "protocol", m->classic ? "classic" : "consumer");
    json_known(&json, "epoch", m->epoch);
    json_array(&json, "topics");
    for (int32_t i = 0; i < m->topic_count; i++) json_text(&json, NULL, m->topics[i]);
    json_array_end(&json);
    json_text(&json, "regex", m->regex);
    json_parts(&json, "partitions", m->partitions, m->partition_count);
    json_parts(&json, "target", m->target, m->target_count);
    json_object_end(&json);
    json_line(&json);
}

static int members_one(struct client *c, const struct options *o, const char *group, struct table *t) {
    struct admin_group_details *g;
    enum err err = admin_describe_group(c, group, o->timeout_ms, &g);
    if (err != OK) return cli_failed(o, c, err, NULL);
    for (int32_t i = 0; i < g->member_count; i++) {
        const struct admin_member *m = &g->members[i];
        if (o->json) {
            member_json(group, m);
            continue;
        }
        char *now = parts_text(m->partitions, m->partition_count), *target = parts_text(m->target, m->target_count);
        table_cell(t, "%s", group);
        table_cell(t, "%s", dash(m->id));
        table_cell(t, "%s", dash(m->instance_id));
        table_cell(t, "%s", dash(m->host));
        table_cell(t, "%s", dash(m->client_id));
        table_cell(t, "%d", m->partition_count);
        cell_i64(t, m->epoch);
        table_cell(t, "%s", dash(now));
        table_cell(t, "%s", strcmp(now, target) == 0 ? "=" : dash(target));
        free(now);
        free(target);
    }
    admin_group_details_free(g);
    return EXIT_OK;
}

int cmd_group_members(const struct options *o) {
    return for_each_group(o, "GROUP CONSUMER-ID GROUP-INSTANCE-ID HOST CLIENT-ID >#PARTITIONS >EPOCH ASSIGNMENT TARGET", members_one);
}

/* ---- offsets ----------------------------------------------------------------------------- */

static int offsets_one(struct client *c, const struct options *o, const char *group, struct table *t) {
    struct admin_offsets *offsets;
    struct json_out json;
    enum err err = admin_group_offsets(c, group, o->timeout_ms, &offsets);
    if (err != OK) return cli_failed(o, c, err, NULL);
    json_init(&json, stdout);
    for (int32_t i = 0; i < offsets->count; i++) {
        const struct admin_offset *p = &offsets->offsets[i];
        table_cell(t, "%s", group);
        table_cell(t, "%s", p->topic);
        table_cell(t, "%d", p->partition);
        cell_i64(t, p->offset);
        cell_i64(t, p->leader_epoch);
        table_cell(t, "%s", p->error ? kafka_error_name(p->error) : dash(p->metadata));
        if (!o->json) continue;
        json_object(&json, NULL);
        json_text(&json, "group", group);
        json_text(&json, "topic", p->topic);
        json_i64(&json, "partition", p->partition);
        json_known(&json, "offset", p->offset);
        json_known(&json, "leader_epoch", p->leader_epoch);
        json_text(&json, "metadata", p->metadata);
        json_text(&json, "error", p->error ? kafka_error_name(p->error) : NULL);
        json_object_end(&json);
        json_line(&json);
    }
    admin_offsets_free(offsets);
    return EXIT_OK;
}

int cmd_group_offsets(const struct options *o) {
    return for_each_group(o, "GROUP TOPIC >PARTITION >OFFSET >LEADER-EPOCH METADATA", offsets_one);
}

/* ---- delete ------------------------------------------------------------------------------ */

/* Those of the group's offsets that --topic names. The errors of single ones are in the rows. */
static enum err delete_offsets(struct client *c, const struct options *o, const char *group, int32_t *count) {
    struct admin_offsets *offsets;
    enum err err = admin_group_offsets(c, group, o->timeout_ms, &offsets);
    if (err != OK) return err;
    struct admin_offset *chosen = calloc((size_t)offsets->count + 1, sizeof *chosen);
    ASSERT(chosen != NULL);
    *count = 0;
    for (int32_t i = 0; i < offsets->count; i++) {
        bool named = false;
        for (int32_t t = 0; t < o->topic_count && !named; t++)
            named = scope_has(o->topics[t], offsets->offsets[i].topic, offsets->offsets[i].partition);
        if (named) chosen[(*count)++] = offsets->offsets[i];
    }
    err = admin_delete_group_offsets(c, group, chosen, *count, o->timeout_ms);
    free(chosen);
    admin_offsets_free(offsets);
    return err;
}

static int delete_one(struct client *c, const struct options *o, const char *group, struct table *t) {
    struct json_out json;
    int32_t count = -1;
    (void)t;
    enum err err = o->topic_count > 0 ? delete_offsets(c, o, group, &count) : admin_delete_group(c, group, o->timeout_ms);
    if (err != OK) return cli_failed(o, c, err, NULL);
    if (!o->json) {
        if (count < 0) printf("deleted %s\n", group);
        else printf("deleted %d offsets of %s\n", count, group);
        return EXIT_OK;
    }
    json_init(&json, stdout);
    json_object(&json, NULL);
    json_text(&json, "group", group);
    json_text(&json, "result", "deleted");
    if (count >= 0) json_i64(&json, "offsets", count);
    json_object_end(&json);
    json_line(&json);
    return EXIT_OK;
}

int cmd_group_delete(const struct options *o) {
    for (int32_t t = 0; t < o->topic_count; t++) {
        const char *partitions;
        int32_t largest;
        (void)scope_topic(o->topics[t], &partitions);
        if (scope_valid(partitions, &largest)) continue;
        fprintf(stderr, "varve group delete: \"%s\" is not TOPIC or TOPIC:P,P\n", o->topics[t]);
        return EXIT_USAGE;
    }
    return for_each_group(o, "GROUP", delete_one);
}
