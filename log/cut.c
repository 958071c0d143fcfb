/* cut.c - files that get shorter or go: truncation, segments below the log start, deleted logs. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "base/trace.h"
#include "log/names.h"
#include "log/store.h"
#include "log/writer.h"

/* ---- dropped segments ------------------------------------------------------------------------- */

static const enum file_kind KINDS[] = {FILE_LOG, FILE_INDEX, FILE_TIMEINDEX, FILE_TXNINDEX, FILE_SNAPSHOT};

/* Sorted so that the .log goes first: an index without its log is harmless. */
static bool drop_next_file(struct seg_writer *w);

static void dropped(struct seg_writer *w, int64_t result) {
    free(w->path);
    w->path = NULL;
    if (result < 0 && result != -ENOENT) {
        writer_fail(w, result, "remove a segment file");
        return;
    }
    writer_step(w);
}

static bool drop_next_file(struct seg_writer *w) {
    struct log_impl *l = w->log;
    struct log_shard *sh = w->sh;
    if (!w->path) w->path = malloc(PATH_BYTES);
    if (!w->path) return false;
    path_segment(w->path, sh->store->dir, l->folder, l->dropped[0], KINDS[l->dropped_kind]);
    if (++l->dropped_kind == ARRAY_LEN(KINDS)) {
        l->dropped_kind = 0;
        l->dropped_count--;
        memmove(l->dropped, l->dropped + 1, l->dropped_count * sizeof *l->dropped);
    }
    l->folder_unsynced = true;
    w->op = (struct io_op){.kind = IO_UNLINK, .path = w->path};
    writer_submit(w, dropped);
    return true;
}

bool drop_step(struct seg_writer *w) {
    struct log_impl *l = w->log;
    uint32_t done = l->dropped_total - l->dropped_count;
    if (l->dropped_count == 0 || (int32_t)(l->droppable_total - done) <= 0) return false;
    if (l->dropped_kind == 0) files_forget(&w->sh->files, l->pub.plid, l->dropped[0]);
    return drop_next_file(w);
}

/* ---- truncation ------------------------------------------------------------------------------- */

static int file_cut(struct seg_writer *w, int64_t base, enum file_kind kind, uint64_t size) {
    struct log_shard *sh = w->sh;
    int rc = 0;
    struct file *f = files_get(&sh->files, w->log, base, kind, 0, &rc);
    if (!f) return rc == -ENOENT ? 0 : rc;
    struct io_stat st;
    rc = io_fstat(sh->io, f->fd, &st);
    if (rc == 0 && st.size_bytes > size) rc = io_truncate(sh->io, f->fd, size);
    files_put(&sh->files, f);
    return rc;
}

struct snapshots { struct seg_writer *w; int rc; };

static void snapshot_behind(void *ctx, const char *name, bool is_dir) {
    struct snapshots *x = ctx;
    struct log_impl *l = x->w->log;
    int64_t offset;
    if (is_dir || x->rc < 0 || file_parse(name, &offset) != FILE_SNAPSHOT || offset <= l->truncate_end) return;
    char path[PATH_BYTES];
    path_in_folder(path, x->w->sh->store->dir, l->folder, name);
    x->rc = io_unlink(x->w->sh->io, path);
    l->folder_unsynced = true;
}

/* Producer snapshots behind the cut tell of batches that are gone. */
static int snapshots_cut(struct seg_writer *w) {
    char path[PATH_BYTES];
    struct snapshots x = {.w = w};
    path_folder(path, w->sh->store->dir, w->log->folder);
    int rc = io_list(w->sh->io, path, snapshot_behind, &x);
    return rc < 0 ? rc : x.rc;
}

/* T1: durable now. Later files go, the one that holds P is cut there, after an IMAGE of the rest of its block. */
bool truncate_step(struct seg_writer *w) {
    struct log_impl *l = w->log;
    if (!l->truncated) return false;
    seal_forget(w);
    if (drop_step(w)) return true;
    struct segment *s = segment_by_base(l, l->truncate_place.base);
    if (s) {
        uint32_t position = MIN(l->truncate_place.position, s->written_bytes);
        if (image_step(w, s, position)) return true;
        int rc = file_cut(w, s->base, FILE_LOG, position);
        if (rc == 0) rc = file_cut(w, s->base, FILE_INDEX, s->index_bytes);
        if (rc == 0) rc = file_cut(w, s->base, FILE_TIMEINDEX, s->time_index_bytes);
        if (rc < 0) {
            writer_fail(w, rc, "cut a segment");
            return true;
        }
        if (s->file_made) s->unsynced = s->index_unsynced = true;
        s->written_bytes = position;
    }
    int rc = snapshots_cut(w);
    if (rc < 0) {
        writer_fail(w, rc, "remove a producer snapshot");
        return true;
    }
    l->truncated = false;
    l->truncate_end = -1;
    return false;
}

/* ---- reset -------------------------------------------------------------------------------------- */

/* T2: the folder moves away, and the log makes itself another. True: the log was let go. */
bool reset_step(struct seg_writer *w) {
    struct log_impl *l = w->log;
    struct log_shard *sh = w->sh;
    if (!l->reset_due) return false;
    seal_forget(w);
    w->image_to = 0;
    files_forget(&sh->files, l->pub.plid, -1);
    if (l->folder_made) {
        char from[PATH_BYTES], to[PATH_BYTES], name[FOLDER_NAME_BYTES];
        folder_name_reset(name, l->pub.topic, l->pub.partition, l->pub.plid, l->pub.generation);
        path_folder(from, sh->store->dir, l->folder);
        path_folder(to, sh->store->dir, name);
        int rc = io_rename(sh->io, from, to);
        if (rc < 0 && rc != -ENOENT) {
            writer_fail(w, rc, "put the folder of a discarded log aside");
            return true;
        }
        sh->dir_unsynced = true;
        if (rc == 0) folder_unlink(sh, name);
    }
    l->folder_made = l->folder_unsynced = l->manifest_unsynced = false;
    l->reset_due = false;
    return false;
}

/* ---- deletion --------------------------------------------------------------------------------- */

static void account_deleted(struct log_impl *l) {
    int64_t unwritten = 0;
    for (uint32_t i = 0; i < l->segment_count; i++) unwritten += l->segments[i].size_bytes - l->segments[i].written_bytes;
    journal_pending_add(l->pub.shard->journal, -unwritten);
    l->pending_bytes = 0;
}

bool delete_step(struct seg_writer *w) {
    struct log_impl *l = w->log;
    struct log_shard *sh = w->sh;
    ASSERT(!l->folder_moved);
    char from[PATH_BYTES], to[PATH_BYTES], name[FOLDER_NAME_BYTES];
    folder_name_deleted(name, l->pub.topic, l->pub.partition, l->pub.plid);
    path_folder(from, sh->store->dir, l->folder);
    path_folder(to, sh->store->dir, name);
    files_forget(&sh->files, l->pub.plid, -1);
    int rc = l->folder_made ? io_rename(sh->io, from, to) : 0;
    if (rc < 0 && rc != -ENOENT) {
        writer_fail(w, rc, "rename the folder of a deleted partition");
        return true;
    }
    sh->dir_unsynced |= l->folder_made;
    if (l->folder_made && rc == 0) folder_unlink(sh, name);
    l->folder_moved = true;
    account_deleted(l);
    if (sh->checkpoint.flushing) checkpoint_log_flushed(sh, l);
    writer_release(w);
    return true;
}
