/* cmd_topic_explain.c - varve topic explain: why each segment of a topic is still there, or when it goes. */
#include "tools/topic_storage.h"

static void explain_text(const char *topic, int32_t partition, const struct admin_storage *s) {
    char a[STORAGE_TEXT_BYTES], b[STORAGE_TEXT_BYTES], c[STORAGE_TEXT_BYTES];
    struct table table;
    printf("%s-%d  cleanup.policy %s  offsets %lld to %lld  %s in %d segments%s\n", topic, partition,
           s->deletes && s->compacts ? "compact,delete" : s->compacts ? "compact" : s->deletes ? "delete" : "none", (long long)s->start,
           (long long)s->end, storage_bytes(s->size_bytes, a), s->segment_count, s->faulty_ranges > 0 ? "  DAMAGED" : "");
    if (s->compacts)
        printf("%s of %s are dirty, from offset %lld on; %s; %s\n", storage_bytes(s->dirty_bytes, a), storage_bytes(s->dirty_bytes + s->clean_bytes, b),
               (long long)s->compacted_end, storage_compaction(s, c), storage_run(s, (char[STORAGE_TEXT_BYTES]){0}));
    table_init(&table, ">FIRST >LAST >SIZE NEWEST WHY");
    for (int32_t i = 0; i < s->listed; i++) {
        const struct admin_segment *g = &s->segments[i];
        table_cell(&table, "%lld", (long long)g->base);
        if (g->end > g->base) table_cell(&table, "%lld", (long long)g->end - 1);
        else table_cell(&table, "-");
        table_cell(&table, "%s", storage_bytes(g->size_bytes, a));
        table_cell(&table, "%s", storage_time(g->newest_timestamp, a));
        table_cell(&table, "%s", storage_segment(s, g, a));
    }
    table_print(&table);
    if (s->listed < s->segment_count) printf("and %d newer segments\n", s->segment_count - s->listed);
}

static void explain_json(struct json_out *json, const char *topic, int32_t partition, const struct admin_storage *s) {
    json_object(json, NULL);
    json_text(json, "topic", topic);
    json_i64(json, "partition", partition);
    json_i64(json, "now_ms", s->now_ms);
    json_i64(json, "start", s->start);
    json_i64(json, "committed_end", s->committed_end);
    json_i64(json, "end", s->end);
    json_bool(json, "deletes", s->deletes);
    json_bool(json, "compacts", s->compacts);
    storage_json(json, s);
    json_array(json, "list");
    for (int32_t i = 0; i < s->listed; i++) {
        const struct admin_segment *g = &s->segments[i];
        char text[STORAGE_TEXT_BYTES];
        json_object(json, NULL);
        json_i64(json, "base", g->base);
        json_i64(json, "end", g->end);
        json_i64(json, "size_bytes", g->size_bytes);
        json_i64(json, "newest_timestamp", g->newest_timestamp);
        json_i64(json, "created_ms", g->created_ms);
        json_text(json, "retention", storage_retention_word(g->retention));
        if (g->retention_due_ms == INT64_MAX) json_null(json, "retention_due_ms");
        else json_i64(json, "retention_due_ms", g->retention_due_ms);
        json_text(json, "compaction", storage_segment_word(g->compaction));
        json_text(json, "why", storage_segment(s, g, text));
        json_object_end(json);
    }
    json_array_end(json);
    json_object_end(json);
    json_line(json);
}

static int explain_partition(struct client *c, const struct options *o, const char *topic, const struct client_partition *p) {
    struct admin_storage *s;
    struct json_out json;
    char what[300];
    snprintf(what, sizeof what, "%s-%d", topic, p->index);
    enum err err = admin_describe_storage(c, p->leader, topic, p->index, true, o->timeout_ms, &s);
    if (err == ERR_CLOSED) {
        fprintf(stderr, "varve topic explain: %s: the broker does not tell: only Varve knows this request\n", what);
        return EXIT_FAILED;
    }
    if (err != OK) return cli_failed(o, c, err, what);
    json_init(&json, stdout);
    if (o->json) explain_json(&json, topic, p->index, s);
    else explain_text(topic, p->index, s);
    admin_storage_free(s);
    return EXIT_OK;
}

int cmd_topic_explain(const struct options *o) {
    int code;
    struct client *c = cli_connect(o, &code);
    struct client_cluster *cluster;
    if (!c) return code;
    enum err err = client_describe(c, (const char *const *)o->args, o->arg_count, o->timeout_ms, &cluster);
    if (err != OK) {
        code = cli_failed(o, c, err, NULL);
        client_destroy(c);
        return code;
    }
    code = EXIT_OK;
    for (int32_t i = 0; i < cluster->topic_count; i++) {
        const struct client_topic *t = &cluster->topics[i];
        if (t->error) {
            fprintf(stderr, "varve topic explain: %s: %s\n", t->name, kafka_error_name(t->error));
            code = EXIT_FAILED;
        }
        for (int32_t k = 0; k < t->partition_count && !t->error; k++) {
            if (o->partition >= 0 && t->partitions[k].index != o->partition) continue;
            int one = explain_partition(c, o, t->name, &t->partitions[k]);
            if (one != EXIT_OK) code = one;
        }
    }
    client_cluster_free(cluster);
    client_destroy(c);
    return code;
}
