/* cmd_cluster_explain.c - varve cluster explain: why a partition has no leader, or fewer copies than it should. */
#include <stdarg.h>
#include <stdlib.h>
#include "tools/cluster_view.h"

enum { NODE_MS = 5000, IDS_TEXT = 256, REASONS_MAX = 24, REASON_BYTES = 320 };

struct explaining {
    struct client *c;
    const struct options *o;
    struct cluster_view view;
    struct json_out json;
    bool well;                    /* nothing was wrong with any of them */
    /* of the partition at hand */
    char reasons[REASONS_MAX][REASON_BYTES];
    int32_t count;
};

static void say(struct explaining *e, const char *fmt, ...) {
    va_list args;
    if (e->count == REASONS_MAX) return;
    va_start(args, fmt);
    vsnprintf(e->reasons[e->count++], REASON_BYTES, fmt, args);
    va_end(args);
}

/* What the node itself says of its copy: NULL: it does not answer, or has none. */
static const struct admin_dir_partition *copy_at(struct explaining *e, int32_t node, const struct client_topic *t, int32_t partition,
                                                 struct admin_log_dirs **dirs, int16_t *code) {
    *code = 0;
    if (admin_describe_log_dirs(e->c, node, MIN(e->o->timeout_ms, NODE_MS), dirs) != OK) {
        *dirs = NULL;
        return NULL;
    }
    for (int32_t i = 0; i < (*dirs)->count; i++) {
        const struct admin_log_dir *d = &(*dirs)->dirs[i];
        if (d->code) *code = d->code;
        for (int32_t k = 0; k < d->partition_count; k++)
            if (d->partitions[k].partition == partition && strcmp(d->partitions[k].topic, t->name) == 0) return &d->partitions[k];
    }
    return NULL;
}

/* One replica that is not in sync. */
static void explain_replica(struct explaining *e, const struct client_topic *t, const struct client_partition *p, int32_t id) {
    const struct admin_node *n = view_node(&e->view, id);
    struct admin_log_dirs *dirs;
    int16_t code;
    if (!n) {
        say(e, "replica %d: no node with this id is registered; start it, or move the partition to other nodes (varve cluster move)", id);
        return;
    }
    if (!n->up) {
        say(e, "replica %d: the node (%s:%d) is down; it catches up by itself when it is back", id, n->host, n->port);
        return;
    }
    const struct admin_dir_partition *copy = copy_at(e, id, t, p->index, &dirs, &code);
    if (!dirs) say(e, "replica %d: the node is up, but does not answer: %s", id, client_error(e->c));
    else if (code) say(e, "replica %d: the data directory of the node is not in use: %s", id, kafka_error_name(code));
    else if (!copy) say(e, "replica %d: the node is up but has no copy yet, as with a new disk: it learns the partition from the leader", id);
    else if (copy->lag > 0) say(e, "replica %d: the node is up and %lld records behind: it is catching up, or its disk or network is slow", id, (long long)copy->lag);
    else if (p->leader < 0) say(e, "replica %d: the node is up and has all that is committed: it will be in sync when there is a leader", id);
    else say(e, "replica %d: the node is up and has all that is committed: it will be in sync as soon as the leader has heard so. If it stays so, the log "
                "of node %d, which leads, may say that it does not count it, and why", id, p->leader);
    admin_log_dirs_free(dirs);
}

static void explain_no_leader(struct explaining *e, const struct client_partition *p) {
    char up[IDS_TEXT] = "-", down[IDS_TEXT] = "-";
    int32_t ups[64], downs[64], up_count = 0, down_count = 0, majority = p->replica_count / 2 + 1;
    for (int32_t i = 0; i < p->replica_count && i < 64; i++) {
        if (view_is_up(&e->view, p->replicas[i])) ups[up_count++] = p->replicas[i];
        else downs[down_count++] = p->replicas[i];
    }
    ids_text(up, sizeof up, ups, up_count);
    ids_text(down, sizeof down, downs, down_count);
    if (up_count < majority)
        say(e, "no leader: of %d replicas %d must be up to elect one, and only %s %s; down: %s", p->replica_count, majority, up,
            up_count == 1 ? "is" : "are", down);
    else
        say(e, "no leader: enough replicas are up (%s), so an election is under way; ask again in a second. If it stays so, the ones that are down (%s) "
               "have records that the others lack, or the disks of some cannot be written", up, down);
}

static void explain_move(struct explaining *e, const struct admin_reassignment *m) {
    char replicas[IDS_TEXT], adding[IDS_TEXT], removing[IDS_TEXT];
    if (!m) return;
    ids_text(replicas, sizeof replicas, m->replicas, m->replica_count);
    ids_text(adding, sizeof adding, m->adding, m->adding_count);
    ids_text(removing, sizeof removing, m->removing, m->removing_count);
    say(e, "it is being moved: adding %s, removing %s", adding, removing);
    for (int32_t i = 0; i < m->adding_count; i++)
        if (!view_is_up(&e->view, m->adding[i])) say(e, "the move waits for node %d, which is down (varve cluster move --cancel gives it up)", m->adding[i]);
}

static void reasons(struct explaining *e, const struct client_topic *t, const struct client_partition *p) {
    enum partition_state state = view_state(&e->view, t, p);
    e->count = 0;
    if (e->view.nodes->controller < 0)
        say(e, "there is no controller: a majority of the metadata quorum's voters must be up before topics or assignments can change");
    if (state == PARTITION_OFFLINE) explain_no_leader(e, p);
    explain_move(e, view_move(&e->view, t->name, p->index));
    for (int32_t i = 0; i < p->replica_count; i++)
        if (!id_in(p->replicas[i], p->in_sync, p->in_sync_count)) explain_replica(e, t, p, p->replicas[i]);
    int32_t min = view_min_in_sync(e->c, e->o, t->name);
    if (state != PARTITION_OFFLINE && p->in_sync_count < min)
        say(e, "%d in sync are fewer than min.insync.replicas=%d: records with acks=all are refused (NOT_ENOUGH_REPLICAS), reads go on", p->in_sync_count, min);
    else if (state != PARTITION_OFFLINE && p->in_sync_count == min && p->in_sync_count < p->replica_count)
        say(e, "one more replica lost, and records with acks=all are refused: min.insync.replicas=%d", min);
    if (state != PARTITION_OFFLINE && p->replica_count > 0 && p->leader != p->replicas[0])
        say(e, "node %d leads; the preferred leader is %d, which takes over when it is in sync and not drained", p->leader, p->replicas[0]);
    e->well = e->well && (state == PARTITION_OK || state == PARTITION_NOT_PREFERRED || state == PARTITION_MOVING);
    if (e->count == 0) say(e, "all is well: %d replicas in sync, led by the preferred one", p->in_sync_count);
}

static int explain(void *ctx, const struct client_topic *t, const struct client_partition *p) {
    struct explaining *e = ctx;
    char replicas[IDS_TEXT], isr[IDS_TEXT];
    reasons(e, t, p);
    ids_text(replicas, sizeof replicas, p->replicas, p->replica_count);
    ids_text(isr, sizeof isr, p->in_sync, p->in_sync_count);
    if (e->o->json) {
        json_object(&e->json, NULL);
        json_text(&e->json, "topic", t->name);
        json_i64(&e->json, "partition", p->index);
        json_text(&e->json, "state", partition_state_name(view_state(&e->view, t, p)));
        json_i64(&e->json, "leader", p->leader);
        json_i64(&e->json, "epoch", p->leader_epoch);
        json_ids(&e->json, "replicas", p->replicas, p->replica_count);
        json_ids(&e->json, "isr", p->in_sync, p->in_sync_count);
        json_array(&e->json, "reasons");
        for (int32_t i = 0; i < e->count; i++) json_text(&e->json, NULL, e->reasons[i]);
        json_array_end(&e->json);
        json_object_end(&e->json);
        json_line(&e->json);
        return EXIT_OK;
    }
    printf("%s-%d: %s; ", t->name, p->index, partition_state_name(view_state(&e->view, t, p)));
    if (p->leader >= 0) printf("node %d leads in epoch %d; ", p->leader, p->leader_epoch);
    printf("replicas %s, in sync %s\n", replicas, isr);
    for (int32_t i = 0; i < e->count; i++) printf("  %s\n", e->reasons[i]);
    return EXIT_OK;
}

int cmd_cluster_explain(const struct options *o) {
    int code;
    struct explaining *e = calloc(1, sizeof *e);
    if (!e) return EXIT_FAILED;
    e->o = o;
    e->well = true;
    e->c = cli_connect(o, &code);
    if (e->c && (code = view_load(&e->view, e->c, o)) == EXIT_OK) {
        json_init(&e->json, stdout);
        for (int i = 0; i < o->arg_count; i++) {
            int one = view_select(&e->view, o, o->args[i], explain, e);
            if (one != EXIT_OK) code = one;
        }
        if (code == EXIT_OK) code = e->well ? e->view.code : EXIT_DAMAGE;
        view_free(&e->view);
    }
    if (e->c) client_destroy(e->c);
    free(e);
    return code;
}
