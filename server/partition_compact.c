/* partition_compact.c - compaction of a partition: its log and what bounds it. When and which: server/cleaner.c. */
#include "base/trace.h"
#include "log/compact.h"
#include "server/partition_impl.h"

static struct partition *at_rest(struct reactor *r, uint64_t plid) {
    struct partition *p = partition_find(r, plid);
    return p && p->known && p->created && !p->gone && p->replica.established ? p : NULL;
}

bool partition_compact_look(struct reactor *r, uint64_t plid, struct compact_look *out) {
    struct partition *p = at_rest(r, plid);
    if (!p) return false;
    enum err err = compact_wants_roll(p->log, r->now_ms) ? log_roll(p->log, r->now_ms) : OK;
    if (err != OK && err != ERR_CLOSED)
        trace_warn("log", "%s-%d: cannot begin another segment: %s", p->log->topic, p->log->partition, err_str(err));
    compact_look(p->log, r->now_ms, partition_bound(p), out);
    return true;
}

bool partition_compact(struct reactor *r, uint64_t plid) {
    struct partition *p = at_rest(r, plid);
    return p && compact_start(r->shard, p->log, r->now_ms, partition_bound(p));
}
