/* cmd_cluster.c - varve cluster describe. */
#include "tools/cli.h"
#include "tools/json_out.h"

static void print_json(const struct client_cluster *cluster) {
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
        json_object_end(&json);
    }
    json_array_end(&json);
    json_object_end(&json);
    json_line(&json);
}

static void print_text(const struct client_cluster *cluster) {
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
}

int cmd_cluster_describe(const struct options *o) {
    int code;
    struct client *c = cli_connect(o, &code);
    struct client_cluster *cluster;
    if (!c) return code;
    enum err err = client_describe(c, (const char *const[]){""}, 0, o->timeout_ms, &cluster);
    code = EXIT_OK;
    if (err != OK) {
        code = cli_failed(o, c, err, NULL);
    } else {
        if (o->json) print_json(cluster);
        else print_text(cluster);
        client_cluster_free(cluster);
    }
    client_destroy(c);
    return code;
}
