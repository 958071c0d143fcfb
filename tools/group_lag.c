/* group_lag.c - see group_lag.h. */
#include "tools/group_lag.h"

#include <time.h>

enum { RECORD_BYTES = 1 /* a broker gives at least one batch */, READ_MS_MAX = 5000 };

static int64_t clock_ms(clockid_t clock) {
    struct timespec ts;
    clock_gettime(clock, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static struct lag *find(struct lag *rows, int32_t count, const char *topic, int32_t partition) {
    for (int32_t i = 0; i < count; i++)
        if (rows[i].partition == partition && strcmp(rows[i].topic, topic) == 0) return &rows[i];
    return NULL;
}

/* The first record of each assigned partition; then it is let go. */
static void read_ages(struct consumer *k, struct lag *rows, int32_t count, int64_t deadline_ms) {
    while (consumer_assigned_count(k) > 0) {
        const struct consumer_event *e;
        int64_t left_ms = deadline_ms - clock_ms(CLOCK_MONOTONIC);
        enum err err = left_ms > 0 ? consumer_poll(k, (int32_t)left_ms, &e) : ERR_TIMEOUT;
        if (err != OK) return;
        if (e->kind == CONSUMER_ERROR) continue; /* it is not known, and not assigned any more */
        struct lag *row = find(rows, count, e->topic, e->partition);
        if (row) {
            int64_t age = e->kind == CONSUMER_RECORD ? clock_ms(CLOCK_REALTIME) - e->record.timestamp : 0;
            row->ms = age > 0 ? age : 0;
        }
        consumer_unassign(k, row ? row->topic : e->topic, e->partition);
    }
}

void group_lag(struct client *c, struct lag *rows, int32_t count, int32_t timeout_ms) {
    struct consumer_config cfg;
    int64_t deadline_ms = clock_ms(CLOCK_MONOTONIC) + (timeout_ms < READ_MS_MAX ? timeout_ms : READ_MS_MAX);
    consumer_config_init(&cfg);
    cfg.partition_max_bytes = RECORD_BYTES;
    cfg.reset = CONSUMER_RESET_EARLIEST;
    struct consumer *k = consumer_create(c, &cfg);
    for (int32_t i = 0; i < count; i++) {
        struct lag *row = &rows[i];
        struct client_offset at = {-1, -1, -1};
        row->err = client_list_offset(c, row->topic, row->partition, OFFSET_LATEST, timeout_ms, &at);
        row->end = row->err == OK ? at.offset : -1;
        row->records = row->end >= 0 && row->committed >= 0 ? (row->end > row->committed ? row->end - row->committed : 0) : -1;
        row->ms = row->records == 0 ? 0 : -1;
        if (k && row->records > 0 && consumer_assign(k, row->topic, row->partition, row->committed) != OK) row->ms = -1;
    }
    if (k) read_ages(k, rows, count, deadline_ms);
    consumer_destroy(k);
}
