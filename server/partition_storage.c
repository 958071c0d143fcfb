/* partition_storage.c - what a partition's log is made of, for operators (api_describe_storage.c). */
#include <stdlib.h>
#include "log/retention.h"
#include "server/api_errors.h"
#include "server/partition_impl.h"

enum { SEGMENTS_MAX = 2000 };            /* listed in one answer, the oldest */

static bool list(struct partition_storage *op, const struct log *l, bool hold_time) {
    if (!op->list_segments) return true;
    uint32_t n = MIN(op->segment_count, (uint32_t)SEGMENTS_MAX);
    op->segments = calloc(n, sizeof *op->segments);
    op->fates = calloc(n, sizeof *op->fates);
    op->compaction = calloc(n, sizeof *op->compaction);
    if (!op->segments || !op->fates || !op->compaction) return false;
    op->listed = n;
    log_segments(l, n, op->segments);
    retention_of_first(l, op->now_ms, op->bound, hold_time, n, op->fates);
    compact_segments(l, op->now_ms, op->bound, n, op->compaction);
    return true;
}

void partition_storage_free(struct partition_storage *op) {
    free(op->segments);
    free(op->fates);
    free(op->compaction);
    op->segments = NULL;
    op->fates = NULL;
    op->compaction = NULL;
}

static void storage_start(struct partition_op *base) {
    struct partition_storage *op = CONTAINER_OF(base, struct partition_storage, op);
    struct reactor *r = base->owner;
    const struct partition *p = partition_find(r, base->plid);
    if (!p || !p->created) {
        partition_op_finish(base, KERR_NOT_LEADER_OR_FOLLOWER);
        return;
    }
    const struct log *l = p->log;
    op->now_ms = r->now_ms;
    op->start = l->start;
    op->bound = partition_bound(p);
    op->end = l->end;
    op->size_bytes = l->size_bytes;
    log_storage(l, &op->segment_count, &op->faulty_ranges);
    op->deletes = p->config.log.cleanup_delete;
    op->compacts = p->config.log.cleanup_compact;
    compact_look(l, op->now_ms, op->bound, &op->look);
    op->run = *compact_last_run(l);
    op->compacting = compact_running_on(l);
    const struct housekeeping *h = &r->housekeeping;
    bool ok = list(op, l, h->clock_jumped || h->clock_ahead || h->clock_unknown);
    partition_op_finish(base, ok ? KERR_NONE : KERR_KAFKA_STORAGE_ERROR);
}
void partition_storage(struct partition_storage *op) { partition_op_send(&op->op, storage_start); }
