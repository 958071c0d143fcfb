/* seal.c - digests of complete segments, taken from the file itself, for varve.manifest.
 *
 * A segment is read in slices; writes and checkpoints of the log go first. The digest of what was read
 * says what the file held when it was complete: reads, replicas and the scrubber compare with it. */
#include <stdlib.h>
#include "base/assert.h"
#include "base/trace.h"
#include "log/store.h"
#include "log/writer.h"

static struct segment *first_unsealed(struct log_impl *l) {
    for (uint32_t i = 0; i + 1 < l->segment_count; i++) {
        struct segment *s = &l->segments[i];
        if (!s->sealed && s->written_bytes == s->size_bytes && !s->index) return s;
    }
    return NULL;
}

static enum err manifest_add(struct seg_writer *w, struct segment *s) {
    struct log_shard *sh = w->sh;
    struct manifest m;
    struct sealed_segment sealed;
    enum err err = folder_manifest_read(sh->io, sh->store->dir, w->log->folder, &m);
    if (err != OK) return err;
    err = digester_result(w->digester, s->base, &sealed);
    if (err == OK) {
        err = manifest_put(&m, &sealed);
        if (err != OK) free(sealed.chunks);
    }
    for (uint32_t i = 0; i < m.segment_count && err == OK;) {
        if (segment_by_base(w->log, m.segments[i].base_offset)) i++;
        else manifest_remove(&m, m.segments[i].base_offset);
    }
    if (err == OK) err = folder_manifest_write(sh->io, sh->store->dir, w->log, &m);
    manifest_free(&m);
    return err;
}

static void seal_end(struct seg_writer *w) {
    digester_free(w->digester);
    w->digester = NULL;
    w->seal_base = -1;
}

static void seal_read(struct seg_writer *w, int64_t result) {
    struct log_impl *l = w->log;
    struct segment *s = segment_by_base(l, w->seal_base);
    if (!s || w->change != l->change) {
        seal_end(w);
        writer_step(w);
        return;
    }
    uint32_t left = s->size_bytes - w->seal_at;
    if (result > left) result = left; /* blocks were asked for */
    if (result >= 0 && (uint32_t)result < MIN(left, (uint32_t)WRITE_BYTES)) result = 0;
    if (result <= 0) {
        /* No digest rather than a wrong one; reads of this range will report what is wrong with it. */
        trace_error("log", "%s: segment %lld cannot be read for its digest at %u: %s", l->folder, (long long)s->base, w->seal_at,
                    result < 0 ? err_str(err_from_errno((int)result)) : "the file is too short");
        s->sealed = true;
        seal_end(w);
        writer_step(w);
        return;
    }
    w->seal_at += (uint32_t)result;
    enum err err = digester_feed(w->digester, w->buf, (size_t)result);
    if (err == OK && w->seal_at >= s->size_bytes) {
        err = manifest_add(w, s);
        if (err == OK) {
            s->sealed = true;
            impl_dirty(l);
        } else if (err == ERR_CORRUPT) {
            trace_error("log", "%s/%s is damaged: segment %lld stays without digest", l->folder, MANIFEST_FILE, (long long)s->base);
            s->sealed = true;
        }
        seal_end(w);
    }
    if (err != OK && err != ERR_CORRUPT) writer_fail(w, err == ERR_NOMEM ? -12 : -5, "write the digests of a segment");
    else writer_step(w);
}

bool seal_step(struct seg_writer *w) {
    struct log_impl *l = w->log;
    struct segment *s = w->seal_base >= 0 ? segment_by_base(l, w->seal_base) : NULL;
    if (!s) {
        seal_end(w);
        s = w->sh->stopping ? NULL : first_unsealed(l);
        if (!s) return false;
        w->digester = digester_new();
        if (!w->digester) return false; /* tried again with the next work on this log */
        w->seal_base = s->base;
        w->seal_at = 0;
    }
    if (w->sh->stopping || !writer_buffers(w)) {
        seal_end(w);
        return false;
    }
    /* Past the page cache: nobody asked for these bytes, and copying them out of it costs more than the digest. */
    bool direct = w->sh->store->config.direct;
    if (!writer_open(w, s->base, FILE_LOG, direct ? IO_OPEN_DIRECT : 0)) return true;
    uint32_t len = MIN((uint32_t)WRITE_BYTES, s->size_bytes - w->seal_at);
    writer_io(w, IO_READ, 0, direct ? ALIGN_UP(len, IO_BLOCK_BYTES) : len, w->seal_at, seal_read);
    return true;
}
