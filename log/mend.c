/* mend.c - see mend.h: what a run that mends does differently from one that compacts (compactor.h). */
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "base/trace.h"
#include "log/compactor.h"
#include "log/store.h"
#include "log/writer.h"

/* The first faulty range of the segment that ends behind byte `at`; NULL: none. */
static const struct faulty_range *range_behind(const struct compactor *c, uint32_t at) {
    const struct log_impl *l = c->log;
    for (uint32_t i = 0; i < l->faulty_count; i++)
        if (l->faulty[i].base == c->source->base && l->faulty[i].end_position > at) return &l->faulty[i];
    return NULL;
}

static void want(struct compactor *c) {
    struct log_mend *m = c->mend;
    bool refused = c->refused;
    c->waiting = true;
    c->refused = false;
    compactor_wait(c);
    c->feed_start = c->log->pub.start;
    m->want(m, MAX(c->expected, c->feed_start), c->range.end, refused); /* may end the run */
}

bool mend_step(struct compactor *c, uint32_t *left) {
    uint32_t at = c->in_at + c->in_len;
    if (c->in_range && c->range.end <= c->log->pub.start && c->expected < c->range.end) { /* it is not needed any more, all of a sudden */
        c->expected = c->range.end;
        c->dense = false;
    }
    if (c->in_range && c->expected < c->range.end) {
        want(c);
        return true;
    }
    if (c->in_range) {
        c->in_range = false;
        at = c->in_at = c->range.end_position;
        c->expected = c->range.end;
        *left = c->source->size_bytes - at;
    }
    const struct faulty_range *next = range_behind(c, at);
    if (!next) return false;
    if (next->position > at) {
        *left = MIN(*left, next->position - at);
        return false;
    }
    if (c->in_len > 0 || next->position < at) {
        compactor_damaged(c, "the batch before the damage reaches into it");
        return true;
    }
    c->range = *next;
    c->in_range = true;
    if (next->end <= c->log->pub.start) { /* nobody reads it any more, and nobody may have it */
        c->expected = next->end;
        c->dense = false;
        return mend_step(c, left);
    }
    want(c);
    return true;
}

void mend_fed(struct compactor *c) {
    bool refused = c->wrong != NULL || c->in_used < c->in_len;
    c->feeding = false;
    c->in_used = c->in_len = c->in_need = 0;
    if (c->err != OK && c->err != ERR_CORRUPT) {
        compactor_end(c, c->err, err_str(c->err));
        return;
    }
    if (refused) trace_warn("log", "%s: what another replica has for offset %lld is not right: %s", c->log->folder, (long long)c->expected,
                            c->wrong ? c->wrong : "it cannot be read");
    c->wrong = NULL;
    c->err = OK;
    /* Nothing there: only where batches may be missing. */
    if (!refused && c->feed_next > c->expected && (c->gaps_fed || c->source->has_gaps)) {
        c->expected = MIN(c->feed_next, c->range.end);
        c->dense = false;
    }
    c->refused = refused || c->expected == c->feed_from;
    compactor_written(c);
}

void log_mend_feed(struct log_mend *m, const uint8_t *batches, size_t len, int64_t next) {
    struct compactor *c = m->run;
    if (!c) return; /* it has ended meanwhile */
    ASSERT(c->waiting && c->mend == m);
    c->waiting = false;
    if (len > c->in_cap) {
        uint8_t *v = len <= INT32_MAX ? realloc(c->in, len) : NULL;
        if (!v) {
            compactor_end(c, ERR_NOMEM, "no memory for a batch");
            return;
        }
        c->in = v;
        c->in_cap = (uint32_t)len;
    }
    if (len > 0) memcpy(c->in, batches, len);
    c->in_len = (uint32_t)len;
    c->feed_next = next;
    c->feed_from = c->expected;
    c->feeding = true;
    compactor_feed(c);
}

const char *mend_wrong(const struct compactor *c, const struct digest128 *made) {
    const struct compact_source *s = &c->sources[0];
    if (!c->has_wanted_digest) return NULL;
    if (c->out_at != s->size_bytes) {
        trace_warn("log", "%s: segment %lld has %llu bytes now instead of %u: the other replica's batches are not those that were here",
                   c->log->folder, (long long)s->base, (unsigned long long)c->out_at, s->size_bytes);
        return NULL;
    }
    return memcmp(made, &c->wanted_digest, sizeof *made) == 0 ? NULL : "every batch in it is sound, but its digest is not the one in " MANIFEST_FILE;
}

void mend_over(struct compactor *c, struct log_impl *l, enum err err, const char *why) {
    struct log_shard *sh = c->sh;
    struct log_mend *m = c->mend;
    long long base = c->source_count > 0 ? (long long)c->sources[0].base : -1;
    if (err == OK) trace_info("log", "%s: segment %lld is whole again, %s", l->folder, base, c->has_wanted_digest && c->out_at == c->sources[0].size_bytes ? "byte for byte" : "made of another replica's batches");
    else if (err != ERR_CLOSED) trace_warn("log", "%s: segment %lld is not mended: %s", l->folder, base, why);
    timer_cancel(sh->timers, &c->timer);
    compactor_forget(c);
    if (m) {
        m->run = NULL;
        m->err = err;
        m->done(m);
    }
    l->reads--;
    shard_release_log(sh, l);
}

/* ---- the beginning, the end ------------------------------------------------------------------------- */

static enum err may_start(struct log_impl *l, const struct segment *s, int64_t now_ms) {
    struct log_shard *sh = l->pub.shard;
    if (sh->failed != OK) return ERR_IO;
    if (sh->stopping || l->delete_joined) return ERR_CLOSED;
    if (!s || !faulty_overlaps(l, s->base, 0, s->size_bytes)) return ERR_NOT_FOUND;
    for (uint32_t i = 0; i < l->segment_count; i++)
        if (l->segments[i].swap_id) return ERR_AGAIN; /* its files do not have their names yet */
    if (s == segment_last(l)) {
        enum err err = log_roll(&l->pub, now_ms);
        return err == OK ? ERR_AGAIN : err;
    }
    if (s->base >= l->synced.base || (l->in_checkpoint && s->base >= l->flush_to.base)) return ERR_AGAIN;
    return compactor_busy(sh) ? ERR_AGAIN : OK;
}

static enum err take_source(struct compactor *c, const struct segment *s, const struct manifest *m) {
    struct log_impl *l = c->log;
    const struct sealed_segment *sealed = manifest_find(m, s->base);
    c->sources = calloc(1, sizeof *c->sources);
    if (!c->sources) return ERR_NOMEM;
    c->source_count = 1;
    c->sources[0] = (struct compact_source){.base = s->base, .end = s->end, .size_bytes = s->size_bytes, .has_gaps = segment_has_gaps(l, s),
                                            .index_bytes = MAX(s->index_bytes, s->time_index_bytes)};
    c->has_wanted_digest = s->sealed && sealed && sealed->size_bytes == s->size_bytes;
    if (c->has_wanted_digest) c->wanted_digest = sealed->digest;
    return compactor_take_buffers(c);
}

enum err log_mend_start(struct log *pub, struct log_mend *m, int64_t now_ms) {
    struct log_impl *l = impl_of(pub);
    struct log_shard *sh = pub->shard;
    struct segment *s = segment_by_base(l, m->segment);
    struct manifest manifest;
    m->run = NULL;
    enum err err = may_start(l, s, now_ms);
    if (err != OK) return err;
    if ((err = folder_manifest_read(sh->io, sh->store->dir, l->folder, &manifest)) != OK) {
        manifest_free(&manifest);
        return err == ERR_CORRUPT || err == ERR_NOT_FOUND ? ERR_IO : err;
    }
    struct compactor *c = compactor_take(sh, l, now_ms);
    if (!c) {
        manifest_free(&manifest);
        return ERR_NOMEM;
    }
    c->mending = c->dense = true;
    c->gaps_fed = l->config.cleanup_compact;
    err = take_source(c, s, &manifest);
    manifest_free(&manifest);
    if (err != OK) {
        compactor_end(c, err, err_str(err)); /* nobody was told that it began */
        return err;
    }
    c->mend = m;
    m->run = c;
    m->err = OK;
    compactor_begin(c);
    return OK;
}

bool log_mend_running(const struct log_mend *m) { return m->run != NULL; }

void log_mend_stop(struct log_mend *m) {
    struct compactor *c = m->run;
    if (!c) return;
    m->run = NULL;
    c->mend = NULL;
    if (c->waiting) compactor_end(c, ERR_CLOSED, "nobody waits for it");
}
