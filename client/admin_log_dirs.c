/* admin_log_dirs.c - what the data directories of a broker hold, and how full their disks are. */
#include "client/admin_impl.h"

#include <stdio.h>
#include <stdlib.h>

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

static void dir_fill(struct admin_log_dir *to, const struct k_describe_log_dirs_response_results *from) {
    to->code = from->error_code;
    to->total_bytes = from->total_bytes;
    to->usable_bytes = from->usable_bytes;
    for (int32_t i = 0; i < from->topics_n; i++)
        for (int32_t k = 0; k < from->topics[i].partitions_n; k++) {
            to->partition_count++;
            to->log_bytes += MAX(from->topics[i].partitions[k].partition_size, 0);
        }
}

static bool copy_dirs(struct snapshot *s, const struct k_describe_log_dirs_response *m) {
    struct arena *a = &s->reply.arena;
    a->limit_bytes *= 2; /* copies of the strings join the decoded message */
    int32_t n = MAX(m->results_n, 0);
    struct admin_log_dir *dirs = arena_array(a, (size_t)n + 1, sizeof *dirs);
    if (!dirs) return false;
    for (int32_t i = 0; i < n; i++) {
        dirs[i].path = arena_strdup(a, m->results[i].log_dir);
        if (!dirs[i].path) return false;
        dir_fill(&dirs[i], &m->results[i]);
    }
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
