/* watch.c - what a broker asks of its disk, looked at when it asks: bytes reach a segment only when the journal has them durably
 * (docs/storage.md, J3). */
#include <string.h>
#include "base/assert.h"
#include "log/impl.h"
#include "log/journal_impl.h"
#include "log/store.h"
#include "tests/sim/cluster/cluster.h"

/* How many bytes of the segment are durable in the journal. */
static uint64_t durable_bytes(const struct log_impl *l, const struct segment *s) {
    uint32_t i = tail_find(&l->tail, l->pub.durable_end);
    if (i == l->tail.count) return s->size_bytes;
    const struct tail_entry *e = tail_at(&l->tail, i);
    int64_t next = segment_next_base(l, s);
    if (e->base_offset < s->base) return 0;
    return e->base_offset < next ? e->position : s->size_bytes;
}

static void segment_written(struct node *n, struct log *log, const char *name, const struct sim_request *r) {
    struct log_impl *l = impl_of(log);
    for (uint32_t i = 0; i < l->segment_count; i++) {
        char file[32];
        snprintf(file, sizeof file, "%020lld.log", (long long)l->segments[i].base);
        if (strcmp(name, file) != 0) continue;
        uint64_t allowed = durable_bytes(l, &l->segments[i]);
        if (r->offset + r->len > allowed)
            cluster_violated(n->c, "3 (J3) node %d writes %s/%s up to byte %llu; the journal has it durably to %llu", n->id, l->folder, name,
                             (unsigned long long)(r->offset + r->len), (unsigned long long)allowed);
        covered(n->c)->segment_writes++;
    }
}

static void look(void *ctx, const struct sim_request *r) {
    struct node *n = ctx;
    const char *name = r->call == SIM_WRITE ? strrchr(r->path, '/') : NULL;
    if (!name || !n->up || n->rotten || strcmp(name + strlen(name) - MIN(strlen(name), 4u), ".log") != 0) return;
    for (uint32_t q = 0; q < n->c->reactors; q++) {
        struct log_shard *sh = n->broker.reactors[q].shard;
        for (struct log *l = sh ? log_shard_first(sh) : NULL; l; l = log_shard_next(sh, l)) {
            size_t len = strlen(impl_of(l)->folder);
            if (name - r->path > (ptrdiff_t)len && name[-(ptrdiff_t)len - 1] == '/' && memcmp(name - len, impl_of(l)->folder, len) == 0)
                segment_written(n, l, name + 1, r);
        }
    }
}

void watch_disk(struct node *n) { sim_watch(n->c->world, (unsigned)n->id, look, n); }

bool watch_out_of_order(const struct node *n) {
    const struct journal *j = n->broker.store ? n->broker.store->journal : NULL;
    if (!j || !j->in_flight || j->in_flight->complete) return false;
    for (const struct group *g = j->in_flight->next; g; g = g->next)
        if (g->complete) return true;
    return false;
}
