/* cmd_cluster_change.c - varve cluster move | drain | add | remove. */
#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include "tools/cluster_view.h"

enum { REPLICAS_MAX = 64, IDS_TEXT = 256, WAIT_PAUSE_MS = 200 };

/* "1,2,3"; how many, or 0: it is none. */
static int32_t parse_ids(const char *text, int32_t ids[static REPLICAS_MAX]) {
    int32_t n = 0;
    for (;;) {
        char *end;
        errno = 0;
        long id = strtol(text, &end, 10);
        if (errno || end == text || id < 0 || id > INT32_MAX || n == REPLICAS_MAX || id_in((int32_t)id, ids, n)) return 0;
        ids[n++] = (int32_t)id;
        if (!*end) return n;
        if (*end != ',') return 0;
        text = end + 1;
    }
}

static void done(const struct options *o, struct json_out *json, const char *what, const char *result) {
    if (!o->json) {
        printf("%s: %s\n", what, result);
        return;
    }
    json_object(json, NULL);
    json_text(json, "what", what);
    json_text(json, "result", result);
    json_object_end(json);
    json_line(json);
}

/* ---- move --------------------------------------------------------------------------------------- */

struct moving {
    struct client *c;
    const struct options *o;
    struct json_out json;
    int32_t replicas[REPLICAS_MAX], count; /* 0: cancel */
};

static int begin_move(void *ctx, const struct client_topic *t, const struct client_partition *p) {
    struct moving *m = ctx;
    char what[300], result[IDS_TEXT + 32] = "given up", ids[IDS_TEXT];
    snprintf(what, sizeof what, "%s-%d", t->name, p->index);
    enum err err = admin_reassign(m->c, t->name, p->index, m->replicas, m->count, m->o->timeout_ms);
    if (err != OK) return cli_failed(m->o, m->c, err, NULL);
    if (m->count > 0) {
        ids_text(ids, sizeof ids, m->replicas, m->count);
        snprintf(result, sizeof result, "moving to %s", ids);
    }
    done(m->o, &m->json, what, result);
    return EXIT_OK;
}

static int still_moving(void *ctx, const struct client_topic *t, const struct client_partition *p) {
    const struct cluster_view *v = ctx;
    return view_move(v, t->name, p->index) ? EXIT_DAMAGE : EXIT_OK;
}

/* Until none of the partitions is under way any more. */
static int wait_moved(struct moving *m) {
    int64_t end = now_ms() + m->o->timeout_ms;
    for (;;) {
        struct cluster_view v;
        int code = view_load(&v, m->c, m->o), under_way = EXIT_OK;
        if (code != EXIT_OK) return code;
        for (int i = 0; i < m->o->arg_count && under_way == EXIT_OK; i++) under_way = view_select(&v, m->o, m->o->args[i], still_moving, &v);
        code = v.code;
        view_free(&v);
        if (under_way != EXIT_DAMAGE) return under_way == EXIT_OK ? code : under_way;
        if (now_ms() >= end) {
            fprintf(stderr, "varve %s: still under way after %d seconds; it goes on\n", m->o->command->words, m->o->timeout_ms / 1000);
            return EXIT_FAILED;
        }
        nanosleep(&(struct timespec){.tv_nsec = WAIT_PAUSE_MS * 1000000L}, NULL);
    }
}

int cmd_cluster_move(const struct options *o) {
    struct moving m = {.o = o};
    struct cluster_view v;
    int code;
    if (!o->replicas == !o->cancel) {
        fprintf(stderr, "varve %s: give either --replicas or --cancel\n", o->command->words);
        return EXIT_USAGE;
    }
    if (o->replicas && (m.count = parse_ids(o->replicas, m.replicas)) == 0) {
        fprintf(stderr, "varve %s: \"%s\" is not a list of different nodes\n", o->command->words, o->replicas);
        return EXIT_USAGE;
    }
    if (!(m.c = cli_connect(o, &code))) return code;
    json_init(&m.json, stdout);
    if ((code = view_load(&v, m.c, o)) == EXIT_OK) {
        for (int i = 0; i < o->arg_count; i++) {
            int one = view_select(&v, o, o->args[i], begin_move, &m);
            if (one != EXIT_OK) code = one;
        }
        view_free(&v);
        if (code == EXIT_OK && o->wait) code = wait_moved(&m);
    }
    client_destroy(m.c);
    return code;
}

/* ---- drain -------------------------------------------------------------------------------------- */

static int32_t leads(const struct client_cluster *cluster, int32_t node) {
    int32_t n = 0;
    for (int32_t i = 0; i < cluster->topic_count; i++)
        for (int32_t k = 0; k < cluster->topics[i].partition_count; k++) n += cluster->topics[i].partitions[k].leader == node;
    return n;
}

static void drain_json(struct json_out *json, const struct admin_drain *d, int32_t led) {
    json_object(json, NULL);
    json_i64(json, "node", d->node);
    json_bool(json, "drained", d->drained);
    json_i64(json, "leads", led);
    json_i64(json, "replicas", d->replicas);
    json_i64(json, "moving", d->moving);
    json_i64(json, "stuck", d->stuck);
    json_object_end(json);
    json_line(json);
}

static void drain_text(const struct admin_drain *d, int32_t led) {
    printf("node %d: %s; leads %d, holds %d replicas", d->node, d->drained ? "drained" : "in use", led, d->replicas);
    if (d->moving) printf(", %d of them on their way to others", d->moving);
    if (d->stuck) printf(", %d cannot go: no other node that is up lacks them", d->stuck);
    putchar('\n');
}

/* Shows each, and whether all are as far as they get. */
static int drain_shown(struct client *c, const struct options *o, const struct admin_drains *drains, bool show, bool *settled) {
    struct client_cluster *cluster;
    struct json_out json;
    enum err err = client_describe(c, NULL, 0, o->timeout_ms, &cluster);
    if (err != OK) return cli_failed(o, c, err, NULL);
    json_init(&json, stdout);
    *settled = true;
    for (int32_t i = 0; i < drains->count; i++) {
        const struct admin_drain *d = &drains->list[i];
        int32_t led = leads(cluster, d->node);
        if (d->drained && (led > 0 || d->moving > 0 || d->replicas > d->stuck)) *settled = false;
        if (show && o->json) drain_json(&json, d, led);
        else if (show) drain_text(d, led);
    }
    client_cluster_free(cluster);
    return EXIT_OK;
}

static int drain(struct client *c, const struct options *o, const int32_t *nodes, int32_t count) {
    enum admin_drain_change change = count == 0 ? ADMIN_DRAIN_ASK : o->cancel ? ADMIN_DRAIN_END : ADMIN_DRAIN_BEGIN;
    int64_t end = now_ms() + o->timeout_ms;
    for (;;) {
        struct admin_drains *drains;
        bool settled = false;
        int code = EXIT_OK;
        enum err err = admin_drain(c, count ? nodes : NULL, count, change, o->timeout_ms, &drains);
        if (err != OK) code = cli_failed(o, c, err, NULL);
        bool last = code != EXIT_OK || !o->wait || now_ms() >= end;
        if (code == EXIT_OK) code = drain_shown(c, o, drains, false, &settled);
        if (code == EXIT_OK && (settled || last)) code = drain_shown(c, o, drains, true, &settled);
        admin_drains_free(drains);
        if (code != EXIT_OK || settled || !o->wait) return code;
        if (last) {
            fprintf(stderr, "varve %s: still under way after %d seconds; it goes on\n", o->command->words, o->timeout_ms / 1000);
            return EXIT_FAILED;
        }
        change = ADMIN_DRAIN_ASK;
        nanosleep(&(struct timespec){.tv_nsec = WAIT_PAUSE_MS * 1000000L}, NULL);
    }
}

int cmd_cluster_drain(const struct options *o) {
    int32_t nodes[REPLICAS_MAX], count = 0;
    int code;
    for (int i = 0; i < o->arg_count; i++) {
        int32_t one[REPLICAS_MAX];
        if (count == REPLICAS_MAX || parse_ids(o->args[i], one) != 1) {
            fprintf(stderr, "varve %s: \"%s\" is not the id of a node\n", o->command->words, o->args[i]);
            return EXIT_USAGE;
        }
        nodes[count++] = one[0];
    }
    struct client *c = cli_connect(o, &code);
    if (!c) return code;
    code = drain(c, o, nodes, count);
    client_destroy(c);
    return code;
}

/* ---- voters ------------------------------------------------------------------------------------- */

static const struct admin_quorum_member *member(const struct admin_quorum *q, int32_t id) {
    for (int32_t i = 0; i < q->count; i++)
        if (q->members[i].id == id) return &q->members[i];
    return NULL;
}

static int bad_node(const struct options *o, const char *text, const char *why) {
    fprintf(stderr, "varve %s: %s: %s\n", o->command->words, text, why);
    return EXIT_FAILED;
}

static int add_voter(struct client *c, const struct options *o, struct json_out *json, const struct admin_quorum *q, const char *text, int32_t id) {
    const struct admin_quorum_member *m = member(q, id);
    if (!m) return bad_node(o, text, "no such node follows the metadata log; start it with controller.quorum.bootstrap.servers first");
    if (m->voter) {
        done(o, json, text, "is a voter already");
        return EXIT_OK;
    }
    enum err err = admin_add_voter(c, m, o->timeout_ms);
    if (err != OK) return cli_failed(o, c, err, NULL);
    done(o, json, text, "is a voter now");
    return EXIT_OK;
}

/* Without its vote; when it has no partitions and is down it is forgotten, too. */
static int remove_node(struct client *c, const struct options *o, struct json_out *json, const struct admin_quorum *q, const char *text, int32_t id) {
    const struct admin_quorum_member *m = member(q, id);
    enum err err = OK;
    if (m && m->voter) err = admin_remove_voter(c, m, o->timeout_ms);
    if (err != OK) return cli_failed(o, c, err, NULL);
    if (m && m->voter) done(o, json, text, "is no voter any more");
    if (!o->forget) {
        if (!m || !m->voter) return bad_node(o, text, "is no voter; --forget makes the cluster forget a node that is gone for good");
        return EXIT_OK;
    }
    err = admin_unregister_node(c, id, o->timeout_ms);
    if (err != OK) return cli_failed(o, c, err, NULL);
    done(o, json, text, "is forgotten");
    return EXIT_OK;
}

typedef int voter_fn(struct client *c, const struct options *o, struct json_out *json, const struct admin_quorum *q, const char *text, int32_t id);

static int each_node(const struct options *o, voter_fn *change) {
    struct json_out json;
    int code = EXIT_OK;
    struct client *c = cli_connect(o, &code);
    if (!c) return code;
    json_init(&json, stdout);
    for (int i = 0; i < o->arg_count; i++) { /* asked anew each time: the set of voters changes */
        int32_t ids[REPLICAS_MAX];
        struct admin_quorum *q;
        int one;
        if (parse_ids(o->args[i], ids) != 1) {
            one = bad_node(o, o->args[i], "not the id of a node");
        } else {
            enum err err = admin_describe_quorum(c, o->timeout_ms, &q);
            if (err != OK) {
                one = cli_failed(o, c, err, NULL);
            } else {
                one = change(c, o, &json, q, o->args[i], ids[0]);
                admin_quorum_free(q);
            }
        }
        if (one != EXIT_OK) code = one;
    }
    client_destroy(c);
    return code;
}

int cmd_cluster_add(const struct options *o) { return each_node(o, add_voter); }
int cmd_cluster_remove(const struct options *o) { return each_node(o, remove_node); }
