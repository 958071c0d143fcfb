/* cmd_cluster.c - varve cluster describe | alter. */
#include <stdlib.h>
#include "tools/cli.h"
#include "tools/json_out.h"

/* What one broker says of itself; NULL where it was not to be had. */
struct broker_facts {
    struct admin_log_dirs *dirs;
    struct admin_configs *configs;
};

static bool set_at_run_time(const struct admin_config *c) {
    return c->source == ADMIN_SOURCE_BROKER || c->source == ADMIN_SOURCE_BROKER_DEFAULT;
}

/* What fails is told, and left out: the brokers are shown all the same. */
static int ask(struct client *c, const struct options *o, const struct client_broker *b, struct broker_facts *facts) {
    char id[16], what[64];
    int code = EXIT_OK;
    snprintf(id, sizeof id, "%d", b->id);
    *facts = (struct broker_facts){NULL, NULL};
    enum err err = admin_describe_log_dirs(c, b->id, o->timeout_ms, &facts->dirs);
    if (err != OK) {
        snprintf(what, sizeof what, "disks of broker %d", b->id);
        code = cli_failed(o, c, err, what);
    }
    err = admin_describe_configs(c, ADMIN_BROKER, id, o->timeout_ms, &facts->configs);
    if (err != OK) {
        snprintf(what, sizeof what, "configs of broker %d", b->id);
        code = cli_failed(o, c, err, what);
    }
    return code;
}

static void facts_free(struct broker_facts *facts) {
    admin_log_dirs_free(facts->dirs);
    admin_configs_free(facts->configs);
}

/* ---- describe: JSON ----------------------------------------------------------------------------- */

static void json_facts(struct json_out *json, const struct broker_facts *facts) {
    json_array(json, "log_dirs");
    for (int32_t i = 0; facts->dirs && i < facts->dirs->count; i++) {
        const struct admin_log_dir *d = &facts->dirs->dirs[i];
        json_object(json, NULL);
        json_text(json, "path", d->path);
        json_text(json, "error", d->code ? kafka_error_name(d->code) : NULL);
        json_i64(json, "total_bytes", d->total_bytes);
        json_i64(json, "usable_bytes", d->usable_bytes);
        json_i64(json, "log_bytes", d->log_bytes);
        json_i64(json, "partitions", d->partition_count);
        json_object_end(json);
    }
    json_array_end(json);
    json_object(json, "configs");
    for (int32_t i = 0; facts->configs && i < facts->configs->count; i++)
        if (set_at_run_time(&facts->configs->configs[i]))
            json_text(json, facts->configs->configs[i].name, facts->configs->configs[i].value);
    json_object_end(json);
}

static void print_json(const struct client_cluster *cluster, const struct broker_facts *facts) {
    struct json_out json;
    json_init(&json, stdout);
    json_object(&json, NULL);
    json_text(&json, "cluster", cluster->id);
    json_i64(&json, "controller", cluster->controller);
    json_array(&json, "brokers");
    for (int32_t i = 0; i < cluster->broker_count; i++) {
        const struct client_broker *b = &cluster->brokers[i];
        json_object(&json, NULL);
        json_i64(&json, "id", b->id);
        json_text(&json, "host", b->host);
        json_i64(&json, "port", b->port);
        json_text(&json, "rack", b->rack);
        json_facts(&json, &facts[i]);
        json_object_end(&json);
    }
    json_array_end(&json);
    json_object_end(&json);
    json_line(&json);
}

/* ---- describe: text ----------------------------------------------------------------------------- */

/* "12.3 GiB" */
static void cell_bytes(struct table *table, int64_t bytes) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1024 && unit + 1 < ARRAY_LEN(units)) {
        value /= 1024;
        unit++;
    }
    if (bytes < 0) table_cell(table, "-");
    else table_cell(table, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
}

static void print_disks(const struct client_cluster *cluster, const struct broker_facts *facts) {
    struct table table;
    table_init(&table, ">BROKER FOLDER >PARTITIONS >RECORDS >DISK >FREE STATE");
    for (int32_t i = 0; i < cluster->broker_count; i++)
        for (int32_t k = 0; facts[i].dirs && k < facts[i].dirs->count; k++) {
            const struct admin_log_dir *d = &facts[i].dirs->dirs[k];
            table_cell(&table, "%d", cluster->brokers[i].id);
            table_cell(&table, "%s", d->path);
            table_cell(&table, "%d", d->partition_count);
            cell_bytes(&table, d->log_bytes);
            cell_bytes(&table, d->total_bytes);
            cell_bytes(&table, d->usable_bytes);
            table_cell(&table, "%s", d->code ? kafka_error_name(d->code) : "-");
        }
    table_print(&table);
}

static void print_text(const struct client_cluster *cluster, const struct broker_facts *facts) {
    struct table table;
    printf("cluster %s\n", cluster->id ? cluster->id : "-");
    table_init(&table, ">BROKER HOST >PORT RACK ROLE");
    for (int32_t i = 0; i < cluster->broker_count; i++) {
        const struct client_broker *b = &cluster->brokers[i];
        table_cell(&table, "%d", b->id);
        table_cell(&table, "%s", b->host);
        table_cell(&table, "%d", b->port);
        table_cell(&table, "%s", b->rack ? b->rack : "-");
        table_cell(&table, "%s", b->id == cluster->controller ? "controller" : "-");
    }
    table_print(&table);
    print_disks(cluster, facts);
    for (int32_t i = 0; i < cluster->broker_count; i++)
        for (int32_t k = 0; facts[i].configs && k < facts[i].configs->count; k++) {
            const struct admin_config *c = &facts[i].configs->configs[k];
            if (set_at_run_time(c)) printf("broker %d config %s=%s\n", cluster->brokers[i].id, c->name, c->value ? c->value : "(hidden)");
        }
}

static int describe(struct client *c, const struct options *o, const struct client_cluster *cluster) {
    struct broker_facts *facts = calloc((size_t)cluster->broker_count + 1, sizeof *facts);
    int code = EXIT_OK;
    if (!facts) return cli_failed(o, c, ERR_NOMEM, NULL);
    for (int32_t i = 0; i < cluster->broker_count; i++) {
        int one = ask(c, o, &cluster->brokers[i], &facts[i]);
        if (one != EXIT_OK) code = one;
    }
    if (o->json) print_json(cluster, facts);
    else print_text(cluster, facts);
    for (int32_t i = 0; i < cluster->broker_count; i++) facts_free(&facts[i]);
    free(facts);
    return code;
}

int cmd_cluster_describe(const struct options *o) {
    int code;
    struct client *c = cli_connect(o, &code);
    struct client_cluster *cluster;
    if (!c) return code;
    enum err err = client_describe(c, (const char *const[]){""}, 0, o->timeout_ms, &cluster);
    if (err != OK) {
        code = cli_failed(o, c, err, NULL);
    } else {
        code = describe(c, o, cluster);
        client_cluster_free(cluster);
    }
    client_destroy(c);
    return code;
}

/* ---- alter ---------------------------------------------------------------------------------------- */

static int alter(struct client *c, const struct options *o, const char *broker, struct json_out *json) {
    enum err err = admin_alter_configs(c, ADMIN_BROKER, broker, o->changes, o->change_count, false, o->timeout_ms);
    if (err != OK) return cli_failed(o, c, err, broker[0] ? broker : "all brokers");
    if (json) {
        json_object(json, NULL);
        json_text(json, "broker", broker[0] ? broker : NULL);
        json_text(json, "result", "altered");
        json_object_end(json);
        json_line(json);
    } else {
        printf("altered %s\n", broker[0] ? broker : "all brokers");
    }
    return EXIT_OK;
}

int cmd_cluster_alter(const struct options *o) {
    int code;
    struct json_out json;
    if (o->change_count == 0) {
        fprintf(stderr, "varve cluster alter: nothing to change: give --config or --delete-config\n");
        return EXIT_USAGE;
    }
    struct client *c = cli_connect(o, &code);
    if (!c) return code;
    json_init(&json, stdout);
    code = o->arg_count == 0 ? alter(c, o, "", o->json ? &json : NULL) : EXIT_OK;
    for (int i = 0; i < o->arg_count; i++) {
        int one = alter(c, o, o->args[i], o->json ? &json : NULL);
        if (one != EXIT_OK) code = one;
    }
    client_destroy(c);
    return code;
}
