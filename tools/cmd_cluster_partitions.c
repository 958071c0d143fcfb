/* cmd_cluster_partitions.c - varve cluster partitions: who leads, who follows, who is behind. */
#include <stdlib.h>
#include "tools/cluster_view.h"

enum { IDS_TEXT = 256, ONE_MS = 2000 /* for one node or partition: those in trouble do not keep the others from being shown */ };

/* The copies of one partition, by the word of the brokers that hold them. */
struct node_dirs { int32_t node; struct admin_log_dirs *dirs; };
struct listing {
    struct client *c;
    const struct options *o;
    struct cluster_view view;
    struct node_dirs *dirs;       /* of every node that is up */
    int32_t dir_count;
    struct table table;
    struct json_out json;
};

static void ask_dirs(struct listing *l) {
    const struct admin_nodes *nodes = l->view.nodes;
    l->dirs = calloc((size_t)nodes->count + 1, sizeof *l->dirs);
    for (int32_t i = 0; l->dirs && i < nodes->count; i++) {
        struct admin_log_dirs *dirs;
        if (!nodes->nodes[i].up || admin_describe_log_dirs(l->c, nodes->nodes[i].id, MIN(l->o->timeout_ms, ONE_MS), &dirs) != OK) continue;
        l->dirs[l->dir_count++] = (struct node_dirs){nodes->nodes[i].id, dirs};
    }
}

static int by_place(const void *key, const void *element) {
    const struct admin_dir_partition *x = key, *y = element;
    int order = strcmp(x->topic, y->topic);
    return order ? order : (x->partition > y->partition) - (x->partition < y->partition);
}

/* Records that the slowest of the copies that answered is behind; -1: nobody told. */
static int64_t worst_lag(const struct listing *l, const char *topic, int32_t partition) {
    const struct admin_dir_partition wanted = {.topic = topic, .partition = partition};
    int64_t worst = -1;
    for (int32_t i = 0; i < l->dir_count; i++)
        for (int32_t k = 0; k < l->dirs[i].dirs->count; k++) {
            const struct admin_log_dir *d = &l->dirs[i].dirs->dirs[k];
            const struct admin_dir_partition *p = bsearch(&wanted, d->partitions, (size_t)d->partition_count, sizeof wanted, by_place);
            if (p) worst = MAX(worst, p->lag);
        }
    return worst;
}

static void row_text(struct listing *l, const struct client_topic *t, const struct client_partition *p, int64_t end, int64_t lag,
                     enum partition_state state) {
    char text[IDS_TEXT];
    const struct admin_reassignment *move = view_move(&l->view, t->name, p->index);
    table_cell(&l->table, "%s", t->name);
    table_cell(&l->table, "%d", p->index);
    if (p->leader < 0) table_cell(&l->table, "-");
    else table_cell(&l->table, "%d", p->leader);
    table_cell(&l->table, "%d", p->leader_epoch);
    ids_text(text, sizeof text, p->replicas, p->replica_count);
    table_cell(&l->table, "%s", text);
    ids_text(text, sizeof text, p->in_sync, p->in_sync_count);
    table_cell(&l->table, "%s", text);
    if (end < 0) table_cell(&l->table, "-");
    else table_cell(&l->table, "%lld", (long long)end);
    if (lag < 0) table_cell(&l->table, "-");
    else table_cell(&l->table, "%lld", (long long)lag);
    if (move) {
        char adding[IDS_TEXT], removing[IDS_TEXT];
        ids_text(adding, sizeof adding, move->adding, move->adding_count);
        ids_text(removing, sizeof removing, move->removing, move->removing_count);
        table_cell(&l->table, "%s +%s -%s", partition_state_name(state), adding, removing);
    } else {
        table_cell(&l->table, "%s", partition_state_name(state));
    }
}

static void row_json(struct listing *l, const struct client_topic *t, const struct client_partition *p, int64_t end, int64_t lag,
                     enum partition_state state) {
    const struct admin_reassignment *move = view_move(&l->view, t->name, p->index);
    json_object(&l->json, NULL);
    json_text(&l->json, "topic", t->name);
    json_i64(&l->json, "partition", p->index);
    json_i64(&l->json, "leader", p->leader);
    json_i64(&l->json, "epoch", p->leader_epoch);
    json_ids(&l->json, "replicas", p->replicas, p->replica_count);
    json_ids(&l->json, "isr", p->in_sync, p->in_sync_count);
    json_ids(&l->json, "offline", p->offline, p->offline_count);
    json_i64(&l->json, "high_watermark", end);
    json_i64(&l->json, "lag", lag);
    json_text(&l->json, "state", partition_state_name(state));
    json_ids(&l->json, "adding", move ? move->adding : NULL, move ? move->adding_count : 0);
    json_ids(&l->json, "removing", move ? move->removing : NULL, move ? move->removing_count : 0);
    json_object_end(&l->json);
    json_line(&l->json);
}

static int row(void *ctx, const struct client_topic *t, const struct client_partition *p) {
    struct listing *l = ctx;
    struct client_offset end = {.offset = -1};
    enum partition_state state = view_state(&l->view, t, p);
    if (l->o->unhealthy && (state == PARTITION_OK || state == PARTITION_NOT_PREFERRED)) return EXIT_OK;
    if (state != PARTITION_OFFLINE && client_list_offset(l->c, t->name, p->index, OFFSET_LATEST, MIN(l->o->timeout_ms, ONE_MS), &end) != OK) end.offset = -1;
    int64_t lag = worst_lag(l, t->name, p->index);
    if (l->o->json) row_json(l, t, p, end.offset, lag, state);
    else row_text(l, t, p, end.offset, lag, state);
    return EXIT_OK;
}

static int list(struct listing *l) {
    int code = EXIT_OK;
    if (l->o->json) json_init(&l->json, stdout);
    else table_init(&l->table, "TOPIC >PARTITION >LEADER >EPOCH REPLICAS ISR >END >LAG STATE");
    for (int i = 0; i < l->o->arg_count; i++) {
        int one = view_select(&l->view, l->o, l->o->args[i], row, l);
        if (one != EXIT_OK) code = one;
    }
    for (int32_t i = 0; l->o->arg_count == 0 && i < l->view.cluster->topic_count; i++)
        for (int32_t k = 0; k < l->view.cluster->topics[i].partition_count; k++)
            row(l, &l->view.cluster->topics[i], &l->view.cluster->topics[i].partitions[k]);
    if (!l->o->json) table_print(&l->table);
    return code;
}

int cmd_cluster_partitions(const struct options *o) {
    int code;
    struct listing l = {.o = o};
    l.c = cli_connect(o, &code);
    if (!l.c) return code;
    if ((code = view_load(&l.view, l.c, o)) == EXIT_OK) {
        ask_dirs(&l);
        code = list(&l);
        if (code == EXIT_OK) code = l.view.code;
        for (int32_t i = 0; i < l.dir_count; i++) admin_log_dirs_free(l.dirs[i].dirs);
        free(l.dirs);
        view_free(&l.view);
    }
    client_destroy(l.c);
    return code;
}
