/* admin_storage.c - what a partition's log is made of (DescribeStorage, Varve's own). */
#include "client/admin_impl.h"

#include <stdio.h>
#include <stdlib.h>

#include "proto/kafka_errors.h"
#include "proto/kafka_messages.h"

ADMIN_ADAPTERS(describe_storage)

typedef struct k_describe_storage_response_topics_partitions partition_part;

static const partition_part *only_partition(const struct k_describe_storage_response *m) {
    return m->topics_n == 1 && m->topics[0].partitions_n == 1 ? &m->topics[0].partitions[0] : NULL;
}

static void storage_result(const void *response, struct admin_result *out) {
    const partition_part *p = only_partition(response);
    if (p) *out = (struct admin_result){true, p->error_code, STR_NULL};
}

struct snapshot {
    struct admin_storage storage;
    struct client_reply reply;
};

static bool copy(struct snapshot *s, const partition_part *p) {
    struct arena *a = &s->reply.arena;
    a->limit_bytes *= 2; /* the copy joins the decoded message */
    int32_t n = MAX(p->segments_n, 0);
    struct admin_segment *segments = arena_array(a, (size_t)n + 1, sizeof *segments);
    if (!segments) return false;
    for (int32_t i = 0; i < n; i++) {
        const struct k_describe_storage_response_topics_partitions_segments *from = &p->segments[i];
        segments[i] = (struct admin_segment){from->base_offset, from->end_offset, from->size_bytes, from->newest_timestamp, from->created_ms,
                                             from->retention_due_ms, from->retention, from->compaction};
    }
    s->storage = (struct admin_storage){
        .now_ms = p->now_ms, .start = p->log_start_offset, .committed_end = p->committed_end, .end = p->log_end_offset,
        .size_bytes = p->size_bytes, .segment_count = p->segment_count, .faulty_ranges = p->faulty_ranges, .deletes = p->deletes,
        .compacts = p->compacts, .compacting = p->compacting, .compaction = p->compaction, .compacted_end = p->compacted_end,
        .clean_bytes = p->clean_bytes, .dirty_bytes = p->dirty_bytes, .compaction_due_ms = p->compaction_due_ms,
        .dirty_millionths = p->dirty_millionths, .ran = p->last_run != NULL, .run_message = "", .segments = segments, .listed = n,
    };
    if (!p->last_run) return true;
    s->storage.run_ended_ms = p->last_run->ended_ms;
    s->storage.run_elapsed_ms = p->last_run->elapsed_ms;
    s->storage.run_records_before = p->last_run->records_before;
    s->storage.run_records_after = p->last_run->records_after;
    s->storage.run_bytes_before = p->last_run->bytes_before;
    s->storage.run_bytes_after = p->last_run->bytes_after;
    s->storage.run_failed = p->last_run->failed;
    s->storage.run_map_full = p->last_run->map_full;
    s->storage.run_message = arena_strdup(a, p->last_run->message);
    return s->storage.run_message != NULL;
}

enum err admin_describe_storage(struct client *c, int32_t broker, const char *topic, int32_t partition, bool segments, int32_t timeout_ms,
                                struct admin_storage **out) {
    struct k_describe_storage_request_topics t = {.name = str_from(topic), .partitions = &partition, .partitions_n = 1};
    struct k_describe_storage_request m = {.topics = &t, .topics_n = 1, .include_segments = segments};
    struct k_describe_storage_response res;
    struct client_exchange x = {.api_key = API_DESCRIBE_STORAGE, .version_max = 0, .broker = broker, .request = &m,
                                .encode = encode_describe_storage, .response = &res, .decode = decode_describe_storage};
    struct snapshot *s = calloc(1, sizeof *s);
    if (!s) return client_fail(c, ERR_NOMEM, 0, "out of memory");
    char what[300];
    snprintf(what, sizeof what, "storage of %s-%d", topic, partition);
    enum err err = admin_run(c, &x, timeout_ms, storage_result, what, &s->reply);
    if (!err && !copy(s, only_partition(&res))) {
        client_reply_free(&s->reply);
        err = client_fail(c, ERR_NOMEM, 0, "out of memory");
    }
    if (err) {
        free(s);
        return err;
    }
    *out = &s->storage;
    return OK;
}

void admin_storage_free(struct admin_storage *storage) {
    if (!storage) return;
    struct snapshot *s = CONTAINER_OF(storage, struct snapshot, storage);
    client_reply_free(&s->reply);
    free(s);
}
