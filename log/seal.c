/* seal.c - digests of complete segments, taken from the file itself, for varve.manifest.
 *
 * A segment is read in slices; writes and checkpoints of the log go first. The digest of what was read
 * says what the file held when it was complete: reads, replicas and the scrubber compare with it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "base/crc32c.h"
#include "base/trace.h"
#include "log/store.h"
#include "log/writer.h"

static struct segment *first_unsealed(struct log_impl *l) {
    for (uint32_t i = 0; i + 1 < l->segment_count; i++) {
        struct segment *s = &l->segments[i];
        if (!s->sealed && !s->swap_id && s->written_bytes == s->size_bytes && !s->index) return s;
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

void seal_forget(struct seg_writer *w) {
    digester_free(w->digester);
    w->digester = NULL;
    w->seal_base = -1;
}

/* A digest of damaged bytes would hide what is wrong with them. */
static bool batches_right(struct seg_writer *w, const uint8_t *p, uint32_t len) {
    enum { CRC_FROM = 21 };
    struct segment *s = segment_by_base(w->log, w->seal_base);
    while (len > 0) {
        if (w->seal_left == 0) {
            uint32_t n = MIN(len, BATCH_HEADER_BYTES - w->seal_have);
            memcpy(w->seal_head + w->seal_have, p, n);
            w->seal_have += n;
            p += n;
            len -= n;
            if (w->seal_have < BATCH_HEADER_BYTES) return true;
            struct batch_header h;
            enum err err = batch_parse(w->seal_head, BATCH_HEADER_BYTES, &h);
            if ((err != OK && err != ERR_TRUNCATED) || batch_check(&h) != OK || h.base_offset < w->seal_next || (h.base_offset > w->seal_next && !segment_has_gaps(w->log, s)) || batch_last_offset(&h) >= s->end)
                return false;
            if (!epochs_fit(&w->log->pub.epochs, h.base_offset, batch_last_offset(&h), h.leader_epoch)) return false;
            w->seal_next = batch_last_offset(&h) + 1;
            w->seal_expected = h.crc;
            w->seal_crc = crc32c(0, w->seal_head + CRC_FROM, BATCH_HEADER_BYTES - CRC_FROM);
            w->seal_left = h.total_bytes - BATCH_HEADER_BYTES;
        }
        uint32_t n = MIN(len, w->seal_left);
        w->seal_crc = crc32c(w->seal_crc, p, n);
        w->seal_left -= n;
        p += n;
        len -= n;
        if (w->seal_left > 0) continue;
        if (w->seal_crc != w->seal_expected) return false;
        w->seal_have = 0;
    }
    return true;
}

/* No digest rather than a wrong one; reads of this range, or the scrubber, will report what is wrong with it. */
static void seal_give_up(struct seg_writer *w, struct segment *s, const char *why) {
    trace_error("log", "%s: segment %lld gets no digest, from byte %u: %s", w->log->folder, (long long)s->base, w->seal_at, why);
    impl_change(w->log);
    s->sealed = true;
    seal_forget(w);
    writer_step(w);
}

static void seal_read(struct seg_writer *w, int64_t result) {
    struct log_impl *l = w->log;
    struct segment *s = segment_by_base(l, w->seal_base);
    if (!s || w->change != l->change) {
        seal_forget(w);
        writer_step(w);
        return;
    }
    uint32_t left = s->size_bytes - w->seal_at;
    if (result > left) result = left; /* blocks were asked for */
    if (result >= 0 && (uint32_t)result < MIN(left, (uint32_t)WRITE_BYTES)) result = 0;
    if (result <= 0) {
        seal_give_up(w, s, result < 0 ? err_str(err_from_errno((int)result)) : "the file is too short");
        return;
    }
    if (!batches_right(w, w->buf, (uint32_t)result)) {
        seal_give_up(w, s, "there is damage");
        return;
    }
    w->seal_at += (uint32_t)result;
    enum err err = digester_feed(w->digester, w->buf, (size_t)result);
    if (err == OK && w->seal_at >= s->size_bytes) {
        err = manifest_add(w, s);
        impl_change(l);
        if (err == OK) {
            s->sealed = true;
            impl_dirty(l);
        } else if (err == ERR_CORRUPT) {
            trace_error("log", "%s/%s is damaged: segment %lld stays without digest", l->folder, MANIFEST_FILE, (long long)s->base);
            s->sealed = true;
        }
        seal_forget(w);
    }
    int failed = err == ERR_NOMEM ? -ENOMEM : err == ERR_NOSPACE ? -ENOSPC : -EIO;
    if (err != OK && err != ERR_CORRUPT) writer_fail(w, failed, "write the digests of a segment");
    else writer_step(w);
}

bool seal_step(struct seg_writer *w) {
    struct log_impl *l = w->log;
    struct segment *s = w->seal_base >= 0 ? segment_by_base(l, w->seal_base) : NULL;
    if (!s) {
        seal_forget(w);
        s = w->sh->stopping ? NULL : first_unsealed(l);
        if (!s) return false;
        w->digester = digester_new();
        if (!w->digester) return false; /* tried again with the next work on this log */
        w->seal_base = s->base;
        w->seal_at = w->seal_have = w->seal_left = 0;
        w->seal_next = s->base;
    }
    if (w->sh->stopping || !writer_buffers(w)) {
        seal_forget(w);
        return false;
    }
    /* Past the page cache: nobody asked for these bytes, and copying them out of it costs more than the digest. */
    bool direct = w->sh->store->config.direct;
    int rc = 0;
    w->file = files_get(&w->sh->files, l, s->base, FILE_LOG, direct ? IO_OPEN_DIRECT : 0, &rc);
    if (!w->file && rc == -ENOENT) {
        seal_give_up(w, s, "the file is missing");
        return true;
    }
    if (!w->file) {
        writer_fail(w, rc, "open a segment file");
        return true;
    }
    uint32_t len = MIN((uint32_t)WRITE_BYTES, s->size_bytes - w->seal_at);
    writer_io(w, IO_READ, 0, direct ? ALIGN_UP(len, IO_BLOCK_BYTES) : len, w->seal_at, seal_read);
    return true;
}
