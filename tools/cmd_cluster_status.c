/* cmd_cluster_status.c - varve cluster status | nodes. */
#include <stdarg.h>
#include <stdlib.h>
#include "tools/cluster_view.h"

enum { NODES_MAX = 256, IDS_TEXT = 256 };

/* Every node that somebody speaks of, ascending. */
struct node_ids { int32_t ids[NODES_MAX], count; };

static void know(struct node_ids *n, int32_t id) {
    int32_t at = n->count;
    if (id < 0 || id_in(id, n->ids, n->count) || n->count == NODES_MAX) return;
    while (at > 0 && n->ids[at - 1] > id) {
        n->ids[at] = n->ids[at - 1];
        at--;
    }
    n->ids[at] = id;
    n->count++;
}

static void known_nodes(const struct cluster_view *v, struct node_ids *n) {
    *n = (struct node_ids){.count = 0};
    for (int32_t i = 0; i < v->nodes->count; i++) know(n, v->nodes->nodes[i].id);
    for (int32_t i = 0; v->quorum && i < v->quorum->count; i++) know(n, v->quorum->members[i].id);
    for (int32_t i = 0; i < v->cluster->topic_count; i++)
        for (int32_t k = 0; k < v->cluster->topics[i].partition_count; k++) {
            const struct client_partition *p = &v->cluster->topics[i].partitions[k];
            for (int32_t r = 0; r < p->replica_count; r++) know(n, p->replicas[r]);
        }
}

/* ---- status ------------------------------------------------------------------------------------- */

struct health {
    struct node_ids nodes, down;
    struct node_ids behind;       /* voters that are up and lack metadata */
    int32_t voters, voters_up;
    int32_t topics, partitions, offline, under_replicated, under_min, not_preferred, moving;
    char verdict[512];
    bool well;
};

static void count_partitions(struct client *c, const struct options *o, const struct cluster_view *v, struct health *h) {
    h->topics = v->cluster->topic_count;
    for (int32_t i = 0; i < v->cluster->topic_count; i++) {
        const struct client_topic *t = &v->cluster->topics[i];
        int32_t min = -1; /* not asked yet */
        for (int32_t k = 0; k < t->partition_count; k++) {
            const struct client_partition *p = &t->partitions[k];
            enum partition_state state = view_state(v, t, p);
            bool missing = p->in_sync_count < p->replica_count;
            h->partitions++;
            if (missing && min < 0) min = view_min_in_sync(c, o, t->name);
            h->offline += state == PARTITION_OFFLINE;
            h->under_replicated += missing;
            h->under_min += missing && p->in_sync_count < min;
            h->not_preferred += state == PARTITION_NOT_PREFERRED;
        }
    }
    h->moving = v->moves ? v->moves->count : 0;
}

static void count_nodes(const struct cluster_view *v, struct health *h) {
    known_nodes(v, &h->nodes);
    for (int32_t i = 0; i < h->nodes.count; i++)
        if (!view_is_up(v, h->nodes.ids[i])) know(&h->down, h->nodes.ids[i]);
    for (int32_t i = 0; v->quorum && i < v->quorum->count; i++) {
        if (!v->quorum->members[i].voter) continue;
        bool up = view_is_up(v, v->quorum->members[i].id);
        h->voters++;
        h->voters_up += up;
        if (up && v->quorum->members[i].caught_up_ms < 0) know(&h->behind, v->quorum->members[i].id);
    }
}

static void say(struct health *h, const char *fmt, ...) {
    size_t used = strlen(h->verdict);
    va_list args;
    if (used + 2 < sizeof h->verdict && !h->well) used += (size_t)snprintf(h->verdict + used, sizeof h->verdict - used, "%s", ", ");
    va_start(args, fmt);
    vsnprintf(h->verdict + used, sizeof h->verdict - used, fmt, args);
    va_end(args);
    h->well = false;
}

static void judge(const struct cluster_view *v, struct health *h) {
    char ids[IDS_TEXT];
    ids_text(ids, sizeof ids, h->down.ids, h->down.count);
    h->well = true;
    if (v->nodes->controller < 0) say(h, "no controller");
    if (h->offline) say(h, "%d of %d partitions without a leader", h->offline, h->partitions);
    if (h->under_min) say(h, "%d partitions refuse acks=all", h->under_min);
    if (h->down.count) say(h, "%s %s down", h->down.count > 1 ? "nodes" : "node", ids);
    if (h->under_replicated) say(h, "%d partitions under-replicated", h->under_replicated);
    ids_text(ids, sizeof ids, h->behind.ids, h->behind.count);
    if (h->behind.count) say(h, "%s %s not caught up with the metadata%s", h->behind.count > 1 ? "voters" : "voter", ids,
                             h->behind.count > 1 ? "" : ": just started, or on a new disk");
    if (!v->quorum) say(h, "the metadata quorum cannot be asked");
    else if (h->voters_up == h->voters / 2 + 1 && h->voters > 2) say(h, "one more lost voter stops the metadata quorum");
    if (h->well) snprintf(h->verdict, sizeof h->verdict, "healthy");
}

static int64_t member_lag(const struct cluster_view *v, const struct admin_quorum_member *m) {
    const struct admin_quorum_member *leader = view_member(v, v->quorum->leader);
    if (!leader || m->end < 0) return -1;
    return leader->end > m->end ? leader->end - m->end : 0;
}

static void status_text(const struct cluster_view *v, const struct health *h) {
    char ids[IDS_TEXT];
    printf("cluster      %s\n", v->nodes->cluster_id ? v->nodes->cluster_id : "-");
    if (v->nodes->controller >= 0) printf("controller   node %d\n", v->nodes->controller);
    else printf("controller   none\n");
    ids_text(ids, sizeof ids, h->down.ids, h->down.count);
    printf("nodes        %d of %d up%s%s\n", h->nodes.count - h->down.count, h->nodes.count, h->down.count ? "; down: " : "", h->down.count ? ids : "");
    if (v->quorum) {
        printf("voters       %d of %d up; epoch %d;", h->voters_up, h->voters, v->quorum->epoch);
        for (int32_t i = 0; i < v->quorum->count; i++) {
            const struct admin_quorum_member *m = &v->quorum->members[i];
            int64_t lag = member_lag(v, m);
            if (!m->voter) continue;
            if (m->id == v->quorum->leader) printf(" %d leads", m->id);
            else if (lag < 0) printf(" %d (lag unknown)", m->id);
            else printf(" %d (lag %lld)", m->id, (long long)lag);
        }
        putchar('\n');
    }
    printf("partitions   %d in %d topics: %d without a leader, %d under-replicated, %d below min.insync.replicas, %d not led by the preferred replica\n",
           h->partitions, h->topics, h->offline, h->under_replicated, h->under_min, h->not_preferred);
    if (h->moving) printf("moving       %d partitions\n", h->moving);
    printf("\n%s\n", h->verdict);
}

static void status_json(const struct cluster_view *v, const struct health *h) {
    struct json_out json;
    json_init(&json, stdout);
    json_object(&json, NULL);
    json_text(&json, "cluster", v->nodes->cluster_id);
    json_bool(&json, "healthy", h->well);
    json_text(&json, "verdict", h->verdict);
    json_i64(&json, "controller", v->nodes->controller);
    json_ids(&json, "nodes", h->nodes.ids, h->nodes.count);
    json_ids(&json, "nodes_down", h->down.ids, h->down.count);
    json_array(&json, "voters");
    for (int32_t i = 0; v->quorum && i < v->quorum->count; i++) {
        const struct admin_quorum_member *m = &v->quorum->members[i];
        if (!m->voter) continue;
        json_object(&json, NULL);
        json_i64(&json, "node", m->id);
        json_bool(&json, "leader", m->id == v->quorum->leader);
        json_i64(&json, "lag", member_lag(v, m));
        json_bool(&json, "caught_up", m->caught_up_ms >= 0);
        json_object_end(&json);
    }
    json_array_end(&json);
    json_i64(&json, "topics", h->topics);
    json_i64(&json, "partitions", h->partitions);
    json_i64(&json, "offline", h->offline);
    json_i64(&json, "under_replicated", h->under_replicated);
    json_i64(&json, "under_min_insync", h->under_min);
    json_i64(&json, "not_preferred", h->not_preferred);
    json_i64(&json, "moving", h->moving);
    json_object_end(&json);
    json_line(&json);
}

int cmd_cluster_status(const struct options *o) {
    int code;
    struct cluster_view v;
    struct health h = {.well = true};
    struct client *c = cli_connect(o, &code);
    if (!c) return code;
    if ((code = view_load(&v, c, o)) == EXIT_OK) {
        count_nodes(&v, &h);
        count_partitions(c, o, &v, &h);
        judge(&v, &h);
        if (o->json) status_json(&v, &h);
        else status_text(&v, &h);
        code = h.well ? v.code : EXIT_DAMAGE;
        view_free(&v);
    }
    client_destroy(c);
    return code;
}

/* ---- nodes -------------------------------------------------------------------------------------- */

struct node_load { int32_t replicas, leads, out_of_sync; };

static struct node_load load_of(const struct cluster_view *v, int32_t id) {
    struct node_load l = {0, 0, 0};
    for (int32_t i = 0; i < v->cluster->topic_count; i++)
        for (int32_t k = 0; k < v->cluster->topics[i].partition_count; k++) {
            const struct client_partition *p = &v->cluster->topics[i].partitions[k];
            bool holds = id_in(id, p->replicas, p->replica_count);
            l.replicas += holds;
            l.leads += p->leader == id;
            l.out_of_sync += holds && !id_in(id, p->in_sync, p->in_sync_count);
        }
    return l;
}

static const char *role(const struct cluster_view *v, int32_t id) {
    const struct admin_quorum_member *m = view_member(v, id);
    if (id == v->nodes->controller) return "controller";
    return !m ? "-" : m->voter ? "voter" : "learner";
}

static void nodes_text(const struct cluster_view *v, const struct node_ids *ids) {
    struct table table;
    table_init(&table, ">NODE HOST >PORT RACK STATE ROLE >LAG >LEADS >REPLICAS >OUT-OF-SYNC");
    for (int32_t i = 0; i < ids->count; i++) {
        const struct admin_node *n = view_node(v, ids->ids[i]);
        const struct admin_quorum_member *m = view_member(v, ids->ids[i]);
        struct node_load l = load_of(v, ids->ids[i]);
        int64_t lag = m ? member_lag(v, m) : -1;
        table_cell(&table, "%d", ids->ids[i]);
        table_cell(&table, "%s", n ? n->host : "-");
        table_cell(&table, "%d", n ? n->port : -1);
        table_cell(&table, "%s", n && n->rack ? n->rack : "-");
        table_cell(&table, "%s", n && n->up ? "up" : "down");
        table_cell(&table, "%s", role(v, ids->ids[i]));
        if (lag < 0) table_cell(&table, "-");
        else table_cell(&table, "%lld", (long long)lag);
        table_cell(&table, "%d", l.leads);
        table_cell(&table, "%d", l.replicas);
        table_cell(&table, "%d", l.out_of_sync);
    }
    table_print(&table);
}

static void nodes_json(const struct cluster_view *v, const struct node_ids *ids) {
    struct json_out json;
    json_init(&json, stdout);
    for (int32_t i = 0; i < ids->count; i++) {
        const struct admin_node *n = view_node(v, ids->ids[i]);
        const struct admin_quorum_member *m = view_member(v, ids->ids[i]);
        struct node_load l = load_of(v, ids->ids[i]);
        json_object(&json, NULL);
        json_i64(&json, "node", ids->ids[i]);
        json_text(&json, "host", n ? n->host : NULL);
        json_i64(&json, "port", n ? n->port : -1);
        json_text(&json, "rack", n ? n->rack : NULL);
        json_bool(&json, "up", n && n->up);
        json_text(&json, "role", role(v, ids->ids[i]));
        if (m) {
            json_hex(&json, "incarnation", m->incarnation.b, sizeof m->incarnation.b);
            json_text(&json, "peer_host", m->host);
            json_i64(&json, "peer_port", m->host ? m->port : -1);
            json_i64(&json, "metadata_lag", member_lag(v, m));
        }
        json_i64(&json, "leads", l.leads);
        json_i64(&json, "replicas", l.replicas);
        json_i64(&json, "out_of_sync", l.out_of_sync);
        json_object_end(&json);
        json_line(&json);
    }
}

int cmd_cluster_nodes(const struct options *o) {
    int code;
    struct cluster_view v;
    struct node_ids ids;
    struct client *c = cli_connect(o, &code);
    if (!c) return code;
    if ((code = view_load(&v, c, o)) == EXIT_OK) {
        known_nodes(&v, &ids);
        if (o->json) nodes_json(&v, &ids);
        else nodes_text(&v, &ids);
        code = v.code;
        view_free(&v);
    }
    client_destroy(c);
    return code;
}
