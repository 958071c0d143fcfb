/* log_watch.h - looks at everything that a log store asks of the simulated disk, when it asks, and at the journal's own words:
 *   J1  durable_seq only grows
 *   J3  bytes reach a segment only when their group is durable, and segments are cut or removed only when the entry that says
 *       so is
 *   J4, J5  no write overlaps a group that was durable and lies above the last footer
 *   J6  segments grow at their end only, by bytes of the log
 *   J7  a block that holds bytes below W is written again, or cut, only when an IMAGE behind S holds them
 * What was wrong first is in `wrong`. */
#ifndef LOG_WATCH_H
#define LOG_WATCH_H
#include "log/catalog.h"
#include "log/entries.h"
#include "log/journal_impl.h"
#include "proto/storage.pb-c.h"
#include "tests/unit/log_harness.h"

struct watched_group { uint64_t seq; uint32_t piece, offset, bytes; };
struct watched_image { uint64_t seq, plid; int64_t base; uint32_t from, to; };
/* Segments below `base` may go (LOGSTART), or those above it (TRUNCATE). */
struct watched_drop { uint64_t seq, plid; int64_t base; bool start; };
struct log_watch {
    struct machine *m;
    struct model *models;                /* by partition */
    uint32_t model_count;
    struct watched_group *groups;
    struct watched_image *images;
    struct watched_drop *drops;
    uint32_t group_count, group_cap, image_count, image_cap, drop_count, drop_cap;
    uint64_t durable_seq;                /* the highest that was ever known */
    uint64_t writes, rewrites;           /* of segments; of those, below W */
    char wrong[300];
};

#define WATCH_FAIL(w, ...) \
    do { \
        if (!(w)->wrong[0]) snprintf((w)->wrong, sizeof (w)->wrong, __VA_ARGS__); \
        return; \
    } while (0)

static inline void watch_free(struct log_watch *w) {
    free(w->groups);
    free(w->images);
    free(w->drops);
}

static inline const struct journal *watch_journal(const struct log_watch *w) { return w->m->store ? w->m->store->journal : NULL; }

static inline uint64_t watch_durable(struct log_watch *w) {
    const struct journal *j = watch_journal(w);
    if (j && j->durable_seq < w->durable_seq && !w->wrong[0])
        snprintf(w->wrong, sizeof w->wrong, "J1: durable_seq fell from %llu to %llu", (unsigned long long)w->durable_seq, (unsigned long long)j->durable_seq);
    if (j) w->durable_seq = MAX(w->durable_seq, j->durable_seq);
    return w->durable_seq;
}

static inline enum err watch_footer(void *ctx, size_t offset, const struct catalog_record *r, const struct catalog_footer *f) {
    (void)offset;
    (void)r;
    if (f) *(uint64_t *)ctx = f->checkpoint_seq;
    return OK;
}

/* S of the last footer on disk; 0: none. */
static inline uint64_t watch_checkpoint_seq(const struct log_watch *w) {
    char path[PATH_BYTES];
    uint8_t *data;
    size_t len;
    uint64_t seq = 0;
    struct catalog_extent x;
    snprintf(path, sizeof path, "%s/journal-0/catalog", w->m->config.dir);
    if (sim_file_read(w->m->world, 0, path, SIM_DURABLE, &data, &len) < 0) return 0;
    if (catalog_walk(data, len, watch_footer, &seq, &x) != OK) seq = 0;
    free(data);
    return seq;
}

/* ---- the journal ------------------------------------------------------------------------------------ */

static inline void watch_entry(struct log_watch *w, const struct journal_entry *e) {
    struct entry_image i;
    struct entry_truncate t;
    if (e->type == ENTRY_IMAGE && entry_image_decode(&i, e->header, e->header_len) == OK) {
        w->images = model_grow(w->images, &w->image_cap, w->image_count, sizeof *w->images);
        w->images[w->image_count++] = (struct watched_image){e->seq, e->plid, i.place.segment_base, i.place.position, i.place.position + e->body_len};
    }
    struct watched_drop d = {.seq = e->seq, .plid = e->plid};
    if (e->type == ENTRY_LOGSTART) {
        Varve__Storage__LogStartEntry *m = varve__storage__log_start_entry__unpack(NULL, e->body_len, e->body);
        if (!m) WATCH_FAIL(w, "a LOGSTART that cannot be read is written");
        d.base = m->segment_base;
        d.start = true;
        varve__storage__log_start_entry__free_unpacked(m, NULL);
    } else if (e->type == ENTRY_TRUNCATE && entry_truncate_decode(&t, e->header, e->header_len) == OK) {
        d.base = t.place.segment_base;
    } else {
        return;
    }
    w->drops = model_grow(w->drops, &w->drop_cap, w->drop_count, sizeof *w->drops);
    w->drops[w->drop_count++] = d;
}

/* What an earlier life wrote from this group on was not found again. */
static inline void watch_forget_from(struct log_watch *w, uint64_t seq) {
    while (w->group_count > 0 && w->groups[w->group_count - 1].seq >= seq) w->group_count--;
    while (w->image_count > 0 && w->images[w->image_count - 1].seq >= seq) w->image_count--;
    while (w->drop_count > 0 && w->drops[w->drop_count - 1].seq >= seq) w->drop_count--;
}

static inline void watch_piece(struct log_watch *w, const struct sim_request *r, uint32_t piece) {
    uint64_t durable = watch_durable(w), checkpoint = UINT64_MAX;
    for (uint32_t i = 0; i < w->group_count; i++) {
        const struct watched_group *g = &w->groups[i];
        uint64_t end = g->offset + journal_group_blocks_bytes(g->bytes);
        if (g->piece != piece || g->seq > durable || r->offset >= end || r->offset + r->len <= g->offset) continue;
        if (checkpoint == UINT64_MAX) checkpoint = watch_checkpoint_seq(w);
        if (g->seq <= checkpoint) continue;
        WATCH_FAIL(w, "J5: piece %u at %llu is written, where durable group %llu lies above footer %llu", piece, (unsigned long long)r->offset,
                   (unsigned long long)g->seq, (unsigned long long)checkpoint);
    }
    struct journal_group g;
    if (journal_group_parse(r->bytes, r->len, &g) != OK) return;
    for (uint32_t i = g.bytes; i < MIN(r->len, journal_group_blocks_bytes(g.bytes)); i++)
        if (r->bytes[i] != 0) WATCH_FAIL(w, "the last block of group %llu is not filled up with zeros", (unsigned long long)g.seq);
    if ((g.flags & JOURNAL_START) && g.seq <= durable)
        WATCH_FAIL(w, "J2: START takes the place of group %llu, which was durable", (unsigned long long)g.seq);
    watch_forget_from(w, g.seq);
    w->groups = model_grow(w->groups, &w->group_cap, w->group_count, sizeof *w->groups);
    w->groups[w->group_count++] = (struct watched_group){g.seq, piece, (uint32_t)r->offset, g.bytes};
    struct journal_entry e;
    uint32_t at = JOURNAL_GROUP_HEADER_BYTES;
    while (journal_entry_next(r->bytes, g.bytes, &at, (struct journal_pos){piece, (uint32_t)r->offset}, g.seq, &e) == OK) watch_entry(w, &e);
}

/* ---- segments ----------------------------------------------------------------------------------------- */

/* Bytes below `position` that only the file holds; then an IMAGE of them must be durable, and not of before S. */
static inline void watch_image(struct log_watch *w, const struct log_impl *l, int64_t base, uint64_t position, const char *what) {
    const struct journal *j = watch_journal(w);
    uint64_t from = ALIGN_DOWN(position, (uint64_t)IO_BLOCK_BYTES), to = 0;
    if (l->synced.base == base) to = l->synced.position;
    else if (l->synced.base > base) to = position;
    if (l->in_checkpoint && l->flush_to.base == base) to = MAX(to, l->flush_to.position);
    else if (l->in_checkpoint && l->flush_to.base > base) to = position;
    to = MIN(to, position);
    if (to <= from) return;
    w->rewrites++;
    uint64_t s = j->ck.phase >= CHECKPOINT_SEALED ? j->ck.seq : j->checkpoint_seq;
    if (j->ck.phase == CHECKPOINT_CUTTING && l->pub.shard->checkpoint.active && !l->pub.shard->checkpoint.done) s = UINT64_MAX;
    for (uint32_t i = 0; i < w->image_count; i++) {
        const struct watched_image *x = &w->images[i];
        if (x->plid == l->pub.plid && x->base == base && x->from <= from && x->to >= to && x->seq > s && x->seq <= watch_durable(w)) return;
    }
    WATCH_FAIL(w, "J7: %s %lld is %s at %llu, and no durable IMAGE behind group %llu holds [%llu, %llu)", l->folder, (long long)base, what,
               (unsigned long long)position, (unsigned long long)s, (unsigned long long)from, (unsigned long long)to);
}

static inline void watch_segment_write(struct log_watch *w, struct model *x, int64_t base, const struct sim_request *r) {
    const struct log_impl *l = impl_of_const(x->log);
    w->writes++;
    if (r->offset > r->size_bytes) WATCH_FAIL(w, "J6: %s %lld is written at %llu, behind its end %llu", l->folder, (long long)base,
                                              (unsigned long long)r->offset, (unsigned long long)r->size_bytes);
    if (l->truncates_joined > 0) WATCH_FAIL(w, "J3: %s %lld is written while a TRUNCATE is not durable", l->folder, (long long)base);
    uint64_t at = 0, end = r->offset + r->len;
    for (uint32_t k = model_find(x, base); k < x->count && at < end; k++) {
        const struct model_batch *b = &x->batches[k];
        uint64_t from = MAX(at, r->offset), to = MIN(at + b->len, end);
        if (from < to && memcmp(r->bytes + (from - r->offset), b->bytes + (from - at), to - from) != 0)
            WATCH_FAIL(w, "J6: %s %lld gets other bytes than the log's at %llu", l->folder, (long long)base, (unsigned long long)from);
        if (from < to && b->end > x->log->durable_end)
            WATCH_FAIL(w, "J3: %s %lld gets the batch at offset %lld, which is not durable", l->folder, (long long)base, (long long)b->base);
        at += b->len;
    }
    if (at < end) WATCH_FAIL(w, "J6: %s %lld gets more bytes than the log has", l->folder, (long long)base);
    watch_image(w, l, base, r->offset, "written");
}

static inline void watch_segment_unlink(struct log_watch *w, const struct log_impl *l, int64_t base) {
    for (uint32_t i = 0; i < w->drop_count; i++) {
        const struct watched_drop *d = &w->drops[i];
        if (d->plid == l->pub.plid && d->seq <= watch_durable(w) && (d->start ? base < d->base : base > d->base)) return;
    }
    WATCH_FAIL(w, "J3: %s: segment %lld is removed, and nothing durable says so", l->folder, (long long)base);
}

static inline void watch_request(void *ctx, const struct sim_request *r) {
    struct log_watch *w = ctx;
    const char *name = strrchr(r->path, '/');
    char *end;
    if (w->wrong[0] || !name) return;
    unsigned long number = strtoul(name + 1, &end, 10);
    if (r->call == SIM_WRITE && end != name + 1 && strcmp(end, ".vj") == 0) {
        watch_piece(w, r, (uint32_t)number);
        return;
    }
    int64_t base;
    if (file_parse(name + 1, &base) != FILE_LOG || !watch_journal(w)) return; /* recovery is judged by what is found */
    for (uint32_t i = 0; i < w->model_count; i++) {
        struct model *x = &w->models[i];
        if (!x->log || x->unsure) continue;
        const struct log_impl *l = impl_of_const(x->log);
        if (!l->folder_made || l->folder_moved) continue; /* the folder of that name is still that of a deleted log, or already of the next */
        size_t len = strlen(l->folder);
        if ((size_t)(name - r->path) < len + 1 || memcmp(name - len, l->folder, len) != 0 || name[-(ptrdiff_t)len - 1] != '/') continue;
        if (r->call == SIM_WRITE) watch_segment_write(w, x, base, r);
        else if (r->call == SIM_UNLINK) watch_segment_unlink(w, l, base);
        else if (r->call == SIM_TRUNCATE && l->truncates_joined > 0) WATCH_FAIL(w, "J3: %s is cut while a TRUNCATE is not durable", l->folder);
        else if (r->call == SIM_TRUNCATE) watch_image(w, l, base, r->offset, "cut");
        return;
    }
}
#endif
