/* admin_log_dirs.c - what the data directories of a broker hold, and how full their disks are. */
#include "client/admin_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/kafka_errors.h"
#include "proto/kafka_messages.h"

ADMIN_ADAPTERS(describe_log_dirs)

static void dirs_result(const void *response, struct admin_result *out) {
    const struct k_describe_log_dirs_response *m = response;
    *out = (struct admin_result){true, m->error_code, STR_NULL};
}

struct snapshot {
    struct admin_log_dirs dirs;
    struct client_reply reply;
};

static int by_place(const void *a, const void *b) {
    const struct admin_dir_partition *x = a, *y = b;
    int order = strcmp(x->topic, y->topic);
    return order ? order : (x->partition > y->partition) - (x->partition < y->partition);
}

static bool dir_fill(struct arena *a, struct admin_log_dir *to, const struct k_describe_log_dirs_response_results *from) {
    int32_t n = 0;
    for (int32_t i = 0; i < from->topics_n; i++) n += MAX(from->topics[i].partitions_n, 0);
    struct admin_dir_partition *list = arena_array(a, (size_t)n + 1, sizeof *list);
    if (!list) return false;
    *to = (struct admin_log_dir){.path = arena_strdup(a, from->log_dir), .code = from->error_code, .total_bytes = from->total_bytes,
                                 .usable_bytes = from->usable_bytes, .partitions = list};
    for (int32_t i = 0; i < from->topics_n; i++) {
        const char *topic = arena_strdup(a, from->topics[i].name);
        if (!topic) return false;
        for (int32_t k = 0; k < from->topics[i].partitions_n; k++) {
            const struct k_describe_log_dirs_response_results_topics_partitions *p = &from->topics[i].partitions[k];
            list[to->partition_count++] = (struct admin_dir_partition){topic, p->partition_index, p->partition_size, p->offset_lag};
            to->log_bytes += MAX(p->partition_size, 0);
        }
    }
    qsort(list, (size_t)n, sizeof *list, by_place);
    return to->path != NULL;
}

static bool copy_dirs(struct snapshot *s, const struct k_describe_log_dirs_response *m) {
    struct arena *a = &s->reply.arena;
    a->limit_bytes *= 2; /* copies of the names and lists join the decoded message */
    int32_t n = MAX(m->results_n, 0);
    struct admin_log_dir *dirs = arena_array(a, (size_t)n + 1, sizeof *dirs);
    if (!dirs) return false;
    for (int32_t i = 0; i < n; i++)
        if (!dir_fill(a, &dirs[i], &m->results[i])) return false;
    s->dirs = (struct admin_log_dirs){dirs, n};
    return true;
}

enum err admin_describe_log_dirs(struct client *c, int32_t broker, int32_t timeout_ms, struct admin_log_dirs **out) {
    struct k_describe_log_dirs_request m = {.topics = NULL, .topics_n = -1}; /* null: all */
    struct k_describe_log_dirs_response res;
    struct client_exchange x = {.api_key = API_DESCRIBE_LOG_DIRS, .version_max = INT16_MAX, .broker = broker,
                                .request = &m, .encode = encode_describe_log_dirs,
                                .response = &res, .decode = decode_describe_log_dirs};
    struct snapshot *s = calloc(1, sizeof *s);
    if (!s) return client_fail(c, ERR_NOMEM, 0, "out of memory");
    char what[64];
    snprintf(what, sizeof what, "log directories of broker %d", broker);
    enum err err = admin_run(c, &x, timeout_ms, dirs_result, what, &s->reply);
    if (!err && !copy_dirs(s, &res)) {
        client_reply_free(&s->reply);
        err = client_fail(c, ERR_NOMEM, 0, "out of memory");
    }
    if (err) {
        free(s);
        return err;
    }
    *out = &s->dirs;
    return OK;
}

void admin_log_dirs_free(struct admin_log_dirs *dirs) {
    if (!dirs) return;
    struct snapshot *s = CONTAINER_OF(dirs, struct snapshot, dirs);
    client_reply_free(&s->reply);
    free(s);
}
