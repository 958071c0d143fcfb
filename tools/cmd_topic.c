/* cmd_topic.c - varve topic create | list | describe | alter | delete. */
#include <stdlib.h>
#include "base/assert.h"
#include "tools/cli.h"
#include "tools/json_out.h"
#include "tools/topic_storage.h"

/* The 22 characters that Kafka shows for an id: base64url without padding. */
enum { UUID_TEXT_BYTES = 23 };
static const char *uuid_text(const struct uuid *id, char text[static UUID_TEXT_BYTES]) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    unsigned bits = 0, n = 0;
    char *out = text;
    for (size_t i = 0; i < sizeof id->b; i++) {
        bits = bits << 8 | id->b[i];
        for (n += 8; n >= 6; n -= 6) *out++ = digits[bits >> (n - 6) & 63];
    }
    *out++ = digits[bits << (6 - n) & 63];
    *out = '\0';
    return text;
}

typedef enum err topic_fn(struct client *c, const struct options *o, const char *name);

/* Runs `one` for each name on the command line; the worst exit code. */
static int for_each_name(const struct options *o, topic_fn *one, const char *done) {
    int code;
    struct client *c = cli_connect(o, &code);
    struct json_out json;
    if (!c) return code;
    json_init(&json, stdout);
    code = EXIT_OK;
    for (int i = 0; i < o->arg_count; i++) {
        enum err err = one(c, o, o->args[i]);
        if (err != OK) {
            code = cli_failed(o, c, err, o->args[i]);
        } else if (o->json) {
            json_object(&json, NULL);
            json_text(&json, "topic", o->args[i]);
            json_text(&json, "result", done);
            json_object_end(&json);
            json_line(&json);
        } else {
            printf("%s %s\n", done, o->args[i]);
        }
    }
    client_destroy(c);
    return code;
}

/* ---- create, alter, delete --------------------------------------------------------------- */

static enum err create(struct client *c, const struct options *o, const char *name) {
    struct admin_new_topic topic = {.name = name, .partitions = o->partitions, .replication_factor = o->replication_factor};
    struct admin_setting *settings = calloc((size_t)o->change_count + 1, sizeof *settings);
    ASSERT(settings != NULL);
    for (int32_t i = 0; i < o->change_count; i++)
        settings[i] = (struct admin_setting){o->changes[i].name, o->changes[i].value};
    topic.settings = settings;
    topic.setting_count = o->change_count;
    enum err err = admin_create_topic(c, &topic, o->timeout_ms);
    free(settings);
    if (err == OK && o->replication_factor == 2) /* with Kafka one of two may go */
        fprintf(stderr, "varve %s: note: a majority of two replicas is both: with one of them down there is no leader; one of three may be down\n",
                o->command->words);
    return err;
}

static enum err delete(struct client *c, const struct options *o, const char *name) {
    return admin_delete_topic(c, name, o->timeout_ms);
}

static enum err alter(struct client *c, const struct options *o, const char *name) {
    enum err err = OK;
    if (o->change_count > 0)
        err = admin_alter_configs(c, ADMIN_TOPIC, name, o->changes, o->change_count, false, o->timeout_ms);
    if (err == OK && o->partitions > 0) err = admin_create_partitions(c, name, o->partitions, false, o->timeout_ms);
    return err;
}

int cmd_topic_create(const struct options *o) { return for_each_name(o, create, "created"); }
int cmd_topic_delete(const struct options *o) { return for_each_name(o, delete, "deleted"); }

int cmd_topic_alter(const struct options *o) {
    if (o->change_count == 0 && o->partitions < 0) {
        fprintf(stderr, "varve topic alter: nothing to change: give --config, --delete-config or --partitions\n");
        return EXIT_USAGE;
    }
    return for_each_name(o, alter, "altered");
}

/* ---- list -------------------------------------------------------------------------------- */

static int32_t replication_factor(const struct client_topic *t) {
    return t->partition_count ? t->partitions[0].replica_count : 0;
}

static void list_json(const struct client_topic *t, const char *id) {
    struct json_out json;
    json_init(&json, stdout);
    json_object(&json, NULL);
    json_text(&json, "topic", t->name);
    json_text(&json, "id", id);
    json_i64(&json, "partitions", t->partition_count);
    json_i64(&json, "replication_factor", replication_factor(t));
    json_bool(&json, "internal", t->internal);
    json_object_end(&json);
    json_line(&json);
}

int cmd_topic_list(const struct options *o) {
    int code;
    struct client *c = cli_connect(o, &code);
    struct client_cluster *cluster;
    struct table table;
    if (!c) return code;
    enum err err = client_describe(c, NULL, 0, o->timeout_ms, &cluster);
    if (err != OK) {
        code = cli_failed(o, c, err, NULL);
        client_destroy(c);
        return code;
    }
    table_init(&table, "TOPIC >PARTITIONS >REPLICAS ID");
    for (int32_t i = 0; i < cluster->topic_count; i++) {
        const struct client_topic *t = &cluster->topics[i];
        char text[UUID_TEXT_BYTES];
        const char *id = uuid_is_zero(&t->id) ? NULL : uuid_text(&t->id, text);
        if (o->json) {
            list_json(t, id);
            continue;
        }
        table_cell(&table, "%s", t->name);
        table_cell(&table, "%d", t->partition_count);
        table_cell(&table, "%d", replication_factor(t));
        table_cell(&table, "%s", id ? id : "-");
    }
    if (o->json) table_free(&table);
    else table_print(&table);
    client_cluster_free(cluster);
    client_destroy(c);
    return EXIT_OK;
}

/* ---- describe ---------------------------------------------------------------------------- */

struct partition_ends { int64_t begin, end; }; /* -1: not known */

static struct partition_ends partition_ends(struct client *c, const struct options *o, const char *topic,
                                            const struct client_partition *p) {
    struct partition_ends ends = {-1, -1};
    struct client_offset at;
    if (p->leader < 0) return ends;
    if (client_list_offset(c, topic, p->index, OFFSET_EARLIEST, o->timeout_ms, &at) == OK) ends.begin = at.offset;
    if (client_list_offset(c, topic, p->index, OFFSET_LATEST, o->timeout_ms, &at) == OK) ends.end = at.offset;
    return ends;
}

/* NULL: not known. A broker that is not one of ours closes the connection, and is asked no more. */
static struct admin_storage *partition_storage(struct client *c, const struct options *o, const char *topic, const struct client_partition *p,
                                               bool *ours) {
    struct admin_storage *s = NULL;
    if (!*ours || p->leader < 0) return NULL;
    enum err err = admin_describe_storage(c, p->leader, topic, p->index, false, o->timeout_ms, &s);
    if (err == ERR_CLOSED) *ours = false;
    return err == OK ? s : NULL;
}

static void cell_storage(struct table *t, const struct admin_storage *s) {
    char text[STORAGE_TEXT_BYTES];
    table_cell(t, "%s", s ? storage_bytes(s->size_bytes, text) : "-");
    if (s) table_cell(t, "%d", s->segment_count);
    else table_cell(t, "-");
    if (s && s->compacts) table_cell(t, "%.1f%%", s->dirty_millionths / 1e4);
    else table_cell(t, "-");
}

/* Under the table: what compaction did, and damage. */
static void print_compaction(const char *topic, int32_t partition, const struct admin_storage *s) {
    char text[STORAGE_TEXT_BYTES];
    if (s && s->faulty_ranges > 0) printf("%s-%d: %d damaged ranges, kept and not served\n", topic, partition, s->faulty_ranges);
    if (s && s->compacts) printf("%s-%d: %s\n", topic, partition, storage_run(s, text));
}

/* "1,2,3" into a cell */
static void cell_ids(struct table *t, const int32_t *ids, int32_t count) {
    char text[256] = "-";
    size_t len = 0;
    for (int32_t i = 0; i < count && len < sizeof text - 16; i++)
        len += (size_t)snprintf(text + len, sizeof text - len, "%s%d", i ? "," : "", ids[i]);
    table_cell(t, "%s", text);
}

static void describe_text(struct client *c, const struct options *o, const struct client_topic *t,
                          const struct admin_configs *configs) {
    struct table table;
    char id[UUID_TEXT_BYTES];
    printf("topic %s  partitions %d  replicas %d", t->name, t->partition_count, replication_factor(t));
    if (!uuid_is_zero(&t->id)) printf("  id %s", uuid_text(&t->id, id));
    printf("%s\n", t->internal ? "  internal" : "");
    for (int32_t i = 0; configs && i < configs->count; i++)
        if (configs->configs[i].source == ADMIN_SOURCE_TOPIC)
            printf("config %s=%s\n", configs->configs[i].name, configs->configs[i].value ? configs->configs[i].value : "(hidden)");
    struct admin_storage **storage = calloc((size_t)t->partition_count + 1, sizeof *storage);
    ASSERT(storage != NULL);
    bool ours = true;
    table_init(&table, ">PARTITION >LEADER >EPOCH REPLICAS IN-SYNC >BEGIN >END >SIZE >SEGMENTS >DIRTY");
    for (int32_t i = 0; i < t->partition_count; i++) {
        const struct client_partition *p = &t->partitions[i];
        struct partition_ends ends = partition_ends(c, o, t->name, p);
        table_cell(&table, "%d", p->index);
        table_cell(&table, "%d", p->leader);
        table_cell(&table, "%d", p->leader_epoch);
        cell_ids(&table, p->replicas, p->replica_count);
        cell_ids(&table, p->in_sync, p->in_sync_count);
        table_cell(&table, ends.begin < 0 ? "-" : "%lld", (long long)ends.begin);
        table_cell(&table, ends.end < 0 ? "-" : "%lld", (long long)ends.end);
        cell_storage(&table, storage[i] = partition_storage(c, o, t->name, p, &ours));
    }
    table_print(&table);
    for (int32_t i = 0; i < t->partition_count; i++) {
        print_compaction(t->name, t->partitions[i].index, storage[i]);
        admin_storage_free(storage[i]);
    }
    free(storage);
}

static void json_ids(struct json_out *json, const char *key, const int32_t *ids, int32_t count) {
    json_array(json, key);
    for (int32_t i = 0; i < count; i++) json_i64(json, NULL, ids[i]);
    json_array_end(json);
}

static void describe_json(struct client *c, const struct options *o, const struct client_topic *t,
                          const struct admin_configs *configs) {
    struct json_out json;
    char id[UUID_TEXT_BYTES];
    json_init(&json, stdout);
    json_object(&json, NULL);
    json_text(&json, "topic", t->name);
    json_text(&json, "id", uuid_is_zero(&t->id) ? NULL : uuid_text(&t->id, id));
    json_bool(&json, "internal", t->internal);
    bool ours = true;
    json_array(&json, "partitions");
    for (int32_t i = 0; i < t->partition_count; i++) {
        const struct client_partition *p = &t->partitions[i];
        struct partition_ends ends = partition_ends(c, o, t->name, p);
        json_object(&json, NULL);
        json_i64(&json, "partition", p->index);
        json_i64(&json, "leader", p->leader);
        json_i64(&json, "leader_epoch", p->leader_epoch);
        json_ids(&json, "replicas", p->replicas, p->replica_count);
        json_ids(&json, "in_sync", p->in_sync, p->in_sync_count);
        json_i64(&json, "begin", ends.begin);
        json_i64(&json, "end", ends.end);
        struct admin_storage *storage = partition_storage(c, o, t->name, p, &ours);
        if (storage) storage_json(&json, storage);
        admin_storage_free(storage);
        json_object_end(&json);
    }
    json_array_end(&json);
    json_object(&json, "configs");
    for (int32_t i = 0; configs && i < configs->count; i++)
        if (configs->configs[i].source == ADMIN_SOURCE_TOPIC)
            json_text(&json, configs->configs[i].name, configs->configs[i].value);
    json_object_end(&json);
    json_object_end(&json);
    json_line(&json);
}

int cmd_topic_describe(const struct options *o) {
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
        struct admin_configs *configs = NULL;
        if (t->error) {
            fprintf(stderr, "varve topic describe: %s: %s\n", t->name, kafka_error_name(t->error));
            code = EXIT_FAILED;
            continue;
        }
        err = admin_describe_configs(c, ADMIN_TOPIC, t->name, o->timeout_ms, &configs);
        if (err != OK) code = cli_failed(o, c, err, "configs");
        if (o->json) describe_json(c, o, t, configs);
        else describe_text(c, o, t, configs);
        if (configs) admin_configs_free(configs);
    }
    client_cluster_free(cluster);
    client_destroy(c);
    return code;
}

/* ---- trim ------------------------------------------------------------------------------------ */

static int trim_partition(const struct options *o, struct client *c, const char *topic, int32_t partition, struct json_out *json) {
    int64_t start;
    char what[300];
    snprintf(what, sizeof what, "%s-%d", topic, partition);
    enum err err = admin_delete_records(c, topic, partition, o->before, o->timeout_ms, &start);
    if (err != OK) return cli_failed(o, c, err, what);
    if (json) {
        json_object(json, NULL);
        json_text(json, "topic", topic);
        json_i64(json, "partition", partition);
        json_i64(json, "start", start);
        json_object_end(json);
    } else {
        printf("%s: starts at offset %lld now\n", what, (long long)start);
    }
    return EXIT_OK;
}

int cmd_topic_trim(const struct options *o) {
    int code;
    int32_t count = 0;
    struct json_out json;
    if (o->before == -2) {
        fprintf(stderr, "varve topic trim: --before is missing: records below which offset?\n");
        return EXIT_USAGE;
    }
    struct client *c = cli_connect(o, &code);
    if (!c) return code;
    json_init(&json, stdout);
    if (o->json) json_array(&json, NULL);
    enum err err = client_partition_count(c, o->args[0], false, o->timeout_ms, &count);
    code = err == OK ? EXIT_OK : cli_failed(o, c, err, o->args[0]);
    for (int32_t i = 0; code == EXIT_OK && i < (o->partition >= 0 ? 1 : count); i++)
        code = trim_partition(o, c, o->args[0], o->partition >= 0 ? o->partition : i, o->json ? &json : NULL);
    if (o->json) {
        json_array_end(&json);
        json_line(&json);
    }
    client_destroy(c);
    return code;
}
