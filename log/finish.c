/* finish.c - what goes with the bytes of a log: index files, producer snapshots, syncs.
 *
 * Indexes are written when their segment is complete and at checkpoints, so that the files hold what
 * the catalogue says; entries of batches that no file holds yet are left out. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "log/store.h"
#include "log/writer.h"

enum { OFFSETS_PER_WRITE = WRITE_BYTES / INDEX_ENTRY_BYTES, TIMES_PER_WRITE = WRITE_BYTES / TIME_ENTRY_BYTES };

/* First offset that is not wholly in the segment's file. */
static int64_t written_end(const struct log_impl *l, const struct segment *s) {
    int64_t next = segment_next_base(l, s);
    uint32_t i = tail_find_place(&l->tail, s->base, next, s->written_bytes);
    return i < l->tail.count && tail_at(&l->tail, i)->base_offset < next ? tail_at(&l->tail, i)->base_offset : s->end;
}

/* How many entries of the index in memory belong into the files. */
static uint32_t offsets_due(const struct segment *s) {
    const struct segment_index *x = s->index;
    uint32_t n = x->offset_count;
    while (n > x->offset_written && x->offsets[n - 1].position >= s->written_bytes) n--;
    return n;
}

static uint32_t times_due(const struct log_impl *l, const struct segment *s) {
    const struct segment_index *x = s->index;
    int64_t end = written_end(l, s);
    uint32_t n = x->time_count;
    while (n > x->time_written && s->base + x->times[n - 1].relative >= end) n--;
    return n;
}

static struct segment *segment_at_work(struct seg_writer *w, int64_t result, const char *what) {
    struct log_impl *l = w->log;
    if (result < 0 || (w->op.kind == IO_WRITE && (size_t)result != w->iov.iov_len)) {
        writer_fail(w, result < 0 ? result : -ENOSPC, what); /* short: the next try tells the cause */
        return NULL;
    }
    struct segment *s = segment_by_base(l, w->base);
    if (s && w->change == l->change) return s;
    writer_step(w);
    return NULL;
}

static void offsets_written(struct seg_writer *w, int64_t result) {
    struct segment *s = segment_at_work(w, result, "write an index");
    if (!s) return;
    ASSERT(s->index);
    s->index_unsynced = true;
    w->log->folder_unsynced |= s->index_bytes == 0;
    segment_index_written(s, s->index->offset_written + (uint32_t)(w->iov.iov_len / INDEX_ENTRY_BYTES), s->index->time_written);
    writer_step(w);
}

static void times_written(struct seg_writer *w, int64_t result) {
    struct segment *s = segment_at_work(w, result, "write a time index");
    if (!s) return;
    ASSERT(s->index);
    s->index_unsynced = true;
    w->log->folder_unsynced |= s->time_index_bytes == 0;
    segment_index_written(s, s->index->offset_written, s->index->time_written + (uint32_t)(w->iov.iov_len / TIME_ENTRY_BYTES));
    writer_step(w);
}

static bool index_write(struct seg_writer *w, struct segment *s) {
    struct segment_index *x = s->index;
    uint32_t offsets = offsets_due(s) - x->offset_written, times = times_due(w->log, s) - x->time_written;
    if (offsets == 0 && times == 0) {
        if (x->offset_written == x->offset_count && x->time_written == x->time_count)
            segment_index_written(s, x->offset_count, x->time_count); /* forgets the index */
        return false;
    }
    if (!writer_buffers(w)) return true;
    w->base = s->base;
    if (!writer_open(w, s->base, offsets ? FILE_INDEX : FILE_TIMEINDEX, IO_OPEN_CREATE)) return true;
    if (offsets) {
        offsets = MIN(offsets, OFFSETS_PER_WRITE);
        index_encode(x, x->offset_written, offsets, w->buf);
        writer_io(w, IO_WRITE, 0, offsets * INDEX_ENTRY_BYTES, s->index_bytes, offsets_written);
    } else {
        times = MIN(times, TIMES_PER_WRITE);
        index_encode_times(x, x->time_written, times, w->buf);
        writer_io(w, IO_WRITE, 0, times * TIME_ENTRY_BYTES, s->time_index_bytes, times_written);
    }
    return true;
}

/* Kafka rebuilds a snapshot that is missing, so this one file is neither synced nor checked. */
static int snapshot_write(struct seg_writer *w, struct segment *s) {
    struct log_shard *sh = w->sh;
    char path[PATH_BYTES];
    path_segment(path, sh->store->dir, w->log->folder, s->end, FILE_SNAPSHOT);
    int fd = io_open(sh->io, path, IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_TRUNC);
    if (fd < 0) return fd;
    int64_t n = io_pwrite(sh->io, fd, s->snapshot, s->snapshot_len, 0);
    int rc = io_close(sh->io, fd);
    if (n < 0 || rc < 0) return n < 0 ? (int)n : rc;
    if (n != s->snapshot_len) return -ENOSPC;
    free(s->snapshot);
    s->snapshot = NULL;
    return 0;
}

static void synced(struct seg_writer *w, int64_t result) {
    if (result < 0) writer_fail(w, -EIO, "sync a segment"); /* final whatever the reason: the pages may be gone */
    else writer_step(w);
}

/* Starts the next sync that the segment needs. Its mark goes when the file is open, before the sync: this writer alone sets it. An index
 * without entries may have no file; but one that was cut to nothing has, and must not come back with what it had. */
static bool sync_start(struct seg_writer *w, struct segment *s) {
    while (s->unsynced || s->index_unsynced || s->time_index_unsynced) {
        enum file_kind kind = s->unsynced ? FILE_LOG : s->index_unsynced ? FILE_INDEX : FILE_TIMEINDEX;
        uint32_t bytes = kind == FILE_LOG ? UINT32_MAX : kind == FILE_INDEX ? s->index_bytes : s->time_index_bytes;
        int rc = 0;
        w->file = files_get(&w->sh->files, w->log, s->base, kind, 0, &rc);
        if (!w->file && (rc != -ENOENT || bytes > 0)) {
            writer_fail(w, rc, "open a segment file");
            return true;
        }
        if (kind == FILE_LOG) s->unsynced = false;
        s->time_index_unsynced = kind == FILE_INDEX || (kind == FILE_LOG && s->time_index_unsynced);
        if (kind == FILE_INDEX) s->index_unsynced = false;
        if (!w->file) continue;
        writer_io(w, IO_SYNC, 0, 0, 0, synced);
        return true;
    }
    return false;
}

bool finish_step(struct seg_writer *w, bool flush, bool sync) {
    struct log_impl *l = w->log;
    for (uint32_t i = 0; i < l->segment_count; i++) {
        struct segment *s = &l->segments[i];
        bool complete = i + 1 < l->segment_count && s->written_bytes == s->size_bytes;
        if (s->index && (complete || flush) && index_write(w, s)) return true;
        int rc = complete && s->snapshot ? snapshot_write(w, s) : 0;
        if (rc < 0) {
            writer_fail(w, rc, "write a producer snapshot");
            return true;
        }
        if (sync && sync_start(w, s)) return true;
    }
    if (!sync || !l->folder_unsynced) return false;
    if (folder_sync(w->sh, l) == OK) return false;
    writer_fail(w, -5, "sync a partition's folder");
    return true;
}
