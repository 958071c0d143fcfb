/* cluster_view.c - see cluster_view.h. */
#include "tools/cluster_view.h"
#include <errno.h>
#include <stdlib.h>

enum { MIN_IN_SYNC_DEFAULT = 1, CONTROLLER_MS = 5000 /* what only a controller knows: a cluster in trouble is shown all the same */ };

int view_load(struct cluster_view *v, struct client *c, const struct options *o) {
    *v = (struct cluster_view){.code = EXIT_OK};
    enum err err = admin_describe_nodes(c, o->timeout_ms, &v->nodes);
    if (err == OK) err = client_describe(c, NULL, 0, o->timeout_ms, &v->cluster);
    if (err != OK) {
        int code = cli_failed(o, c, err, NULL);
        view_free(v);
        return code;
    }
    int32_t timeout_ms = MIN(o->timeout_ms, CONTROLLER_MS);
    if (v->nodes->controller < 0) return EXIT_OK; /* nobody could answer */
    if ((err = admin_describe_quorum(c, timeout_ms, &v->quorum)) != OK) v->code = cli_failed(o, c, err, NULL);
    if ((err = admin_list_reassignments(c, timeout_ms, &v->moves)) != OK) v->code = cli_failed(o, c, err, NULL);
    return EXIT_OK;
}

void view_free(struct cluster_view *v) {
    admin_nodes_free(v->nodes);
    admin_quorum_free(v->quorum);
    client_cluster_free(v->cluster);
    admin_reassignments_free(v->moves);
    *v = (struct cluster_view){0};
}

const struct admin_node *view_node(const struct cluster_view *v, int32_t id) {
    for (int32_t i = 0; i < v->nodes->count; i++)
        if (v->nodes->nodes[i].id == id) return &v->nodes->nodes[i];
    return NULL;
}

bool view_is_up(const struct cluster_view *v, int32_t id) {
    const struct admin_node *n = view_node(v, id);
    return n && n->up;
}

const struct admin_quorum_member *view_member(const struct cluster_view *v, int32_t id) {
    for (int32_t i = 0; v->quorum && i < v->quorum->count; i++)
        if (v->quorum->members[i].id == id) return &v->quorum->members[i];
    return NULL;
}

const struct admin_reassignment *view_move(const struct cluster_view *v, const char *topic, int32_t partition) {
    for (int32_t i = 0; v->moves && i < v->moves->count; i++)
        if (v->moves->list[i].partition == partition && strcmp(v->moves->list[i].topic, topic) == 0) return &v->moves->list[i];
    return NULL;
}

bool id_in(int32_t id, const int32_t *ids, int32_t count) {
    for (int32_t i = 0; i < count; i++)
        if (ids[i] == id) return true;
    return false;
}

void ids_text(char *text, size_t size, const int32_t *ids, int32_t count) {
    size_t used = 0;
    snprintf(text, size, "-");
    for (int32_t i = 0; i < count && used < size; i++) used += (size_t)snprintf(text + used, size - used, "%s%d", i ? "," : "", ids[i]);
}

void json_ids(struct json_out *json, const char *key, const int32_t *ids, int32_t count) {
    json_array(json, key);
    for (int32_t i = 0; i < count; i++) json_i64(json, NULL, ids[i]);
    json_array_end(json);
}

enum partition_state view_state(const struct cluster_view *v, const struct client_topic *t, const struct client_partition *p) {
    if (p->leader < 0 || !view_is_up(v, p->leader)) return PARTITION_OFFLINE;
    if (view_move(v, t->name, p->index)) return PARTITION_MOVING;
    if (p->in_sync_count < p->replica_count) return PARTITION_UNDER_REPLICATED;
    return p->replica_count > 0 && p->replicas[0] != p->leader ? PARTITION_NOT_PREFERRED : PARTITION_OK;
}

const char *partition_state_name(enum partition_state state) {
    static const char *const names[] = {[PARTITION_OK] = "ok", [PARTITION_MOVING] = "moving", [PARTITION_NOT_PREFERRED] = "not-preferred",
                                        [PARTITION_UNDER_REPLICATED] = "under-replicated", [PARTITION_OFFLINE] = "offline"};
    return names[state];
}

int32_t view_min_in_sync(struct client *c, const struct options *o, const char *topic) {
    struct admin_configs *configs;
    int32_t min = MIN_IN_SYNC_DEFAULT;
    if (admin_describe_configs(c, ADMIN_TOPIC, topic, MIN(o->timeout_ms, CONTROLLER_MS), &configs) != OK) return min;
    for (int32_t i = 0; i < configs->count; i++)
        if (strcmp(configs->configs[i].name, "min.insync.replicas") == 0 && configs->configs[i].value) min = atoi(configs->configs[i].value);
    admin_configs_free(configs);
    return min;
}

/* ---- choosing partitions ------------------------------------------------------------------------ */

static const struct client_topic *topic_named(const struct cluster_view *v, const char *name, size_t len) {
    for (int32_t i = 0; i < v->cluster->topic_count; i++) {
        const struct client_topic *t = &v->cluster->topics[i];
        if (strlen(t->name) == len && memcmp(t->name, name, len) == 0) return t;
    }
    return NULL;
}

static int unknown(const struct options *o, const char *text, const char *what) {
    fprintf(stderr, "varve %s: %s: %s\n", o->command->words, text, what);
    return EXIT_FAILED;
}

static int each_listed(const struct options *o, const struct client_topic *t, const char *text, const char *list, partition_fn *each, void *ctx) {
    int code = EXIT_OK;
    do {
        char *end;
        errno = 0;
        long n = strtol(list, &end, 10);
        if (errno || end == list || (*end && *end != ',') || n < 0) return unknown(o, text, "not a list of partitions");
        if (n >= t->partition_count) return unknown(o, text, "there is no such partition");
        int one = each(ctx, t, &t->partitions[n]);
        if (one != EXIT_OK) code = one;
        list = *end ? end + 1 : end;
    } while (*list);
    return code;
}

int view_select(const struct cluster_view *v, const struct options *o, const char *text, partition_fn *each, void *ctx) {
    const char *colon = strchr(text, ':'), *dash = strrchr(text, '-');
    const struct client_topic *t = topic_named(v, text, colon ? (size_t)(colon - text) : strlen(text));
    int code = EXIT_OK;
    if (t && colon) return each_listed(o, t, text, colon + 1, each, ctx);
    if (!t && !colon && dash && (t = topic_named(v, text, (size_t)(dash - text)))) return each_listed(o, t, text, dash + 1, each, ctx);
    if (!t) return unknown(o, text, "there is no such topic");
    for (int32_t i = 0; i < t->partition_count; i++) {
        int one = each(ctx, t, &t->partitions[i]);
        if (one != EXIT_OK) code = one;
    }
    return code;
}
