/* folder.c - the folder of a partition: its making, its manifest, and its end.
 *
 * A folder belongs to the plid in its manifest, whatever its name. It is made with the first bytes, not before (writer_needs_folder),
 * and synced, manifest and parent too, before a checkpoint counts on it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "base/trace.h"
#include "log/kafka_files.h"
#include "log/mutant.h"
#include "log/store.h"
#include "log/writer.h"

enum err folder_manifest_read(struct io *io, const char *dir, const char *folder, struct manifest *m) {
    char path[PATH_BYTES];
    uint8_t *data;
    size_t len;
    manifest_init(m);
    path_in_folder(path, dir, folder, MANIFEST_FILE);
    int rc = io_read_file(io, path, MANIFEST_BYTES_MAX, &data, &len);
    if (rc == -ENOENT) return ERR_NOT_FOUND;
    if (rc < 0) return err_from_errno(rc);
    enum err err = manifest_decode(m, data, len);
    free(data);
    return err;
}

enum err folder_manifest_write(struct io *io, const char *dir, const struct log_impl *l, const struct manifest *m) {
    char path[PATH_BYTES];
    uint8_t *data;
    size_t len;
    enum err err = manifest_encode(m, &data, &len);
    if (err != OK) return err;
    path_in_folder(path, dir, l->folder, MANIFEST_FILE);
    int rc = io_replace_file(io, path, data, len);
    free(data);
    return rc < 0 ? err_from_errno(rc) : OK;
}

/* Plain bytes into a new file; a torn one is noticed by whoever reads it. */
static int file_write(struct io *io, const char *path, const void *data, size_t len) {
    int fd = io_open(io, path, IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_TRUNC);
    if (fd < 0) return fd;
    int64_t n = io_pwrite(io, fd, data, len, 0);
    int rc = io_close(io, fd);
    return n < 0 ? (int)n : n < (int64_t)len ? -ENOSPC : rc;
}

static void manifest_of(const struct log_impl *l, struct manifest *m) {
    manifest_init(m);
    m->plid = l->pub.plid;
    m->topic_id = l->pub.topic_id;
    m->partition = l->pub.partition;
    m->generation = l->pub.generation;
    snprintf(m->topic, sizeof m->topic, "%s", l->pub.topic);
}

enum err folder_manifest_remake(struct log_shard *sh, struct log_impl *l) {
    struct manifest m;
    manifest_of(l, &m);
    enum err err = folder_manifest_write(sh->io, sh->store->dir, l, &m);
    impl_change(l);
    for (uint32_t i = 0; i < l->segment_count; i++) {
        l->segments[i].sealed = false;
        files_forget_digests(&sh->files, l->pub.plid, l->segments[i].base);
    }
    impl_dirty(l);
    return err;
}

/* Negative errno. */
static int manifest_make(struct log_shard *sh, struct log_impl *l) {
    struct manifest m;
    char path[PATH_BYTES];
    uint8_t *data;
    size_t len;
    manifest_of(l, &m);
    enum err err = manifest_encode(&m, &data, &len);
    manifest_free(&m);
    if (err != OK) return -ENOMEM;
    path_in_folder(path, sh->store->dir, l->folder, MANIFEST_FILE);
    int rc = file_write(sh->io, path, data, len);
    free(data);
    char *text = partition_metadata_to_text(&l->pub.topic_id);
    if (!text) return -ENOMEM;
    path_in_folder(path, sh->store->dir, l->folder, PARTITION_METADATA_FILE);
    if (rc >= 0) rc = file_write(sh->io, path, text, strlen(text));
    free(text);
    return rc;
}

/* What a full disk has let half happen would stand in the way of the next try. */
static void unmake(struct log_shard *sh, const struct log_impl *l) {
    char path[PATH_BYTES];
    path_in_folder(path, sh->store->dir, l->folder, PARTITION_METADATA_FILE);
    (void)io_unlink(sh->io, path); /* perhaps it was never made */
    path_in_folder(path, sh->store->dir, l->folder, MANIFEST_FILE);
    (void)io_unlink(sh->io, path);
    path_folder(path, sh->store->dir, l->folder);
    int rc = io_rmdir(sh->io, path);
    if (rc < 0) trace_warn("log", "%s: cannot remove the folder that could not be filled: %s", path, strerror(-rc));
}

int folder_make(struct log_shard *sh, struct log_impl *l) {
    if (l->folder_made) return 0;
    char path[PATH_BYTES];
    path_folder(path, sh->store->dir, l->folder);
    int rc = io_mkdir(sh->io, path);
    /* T2: of a deleted log, perhaps another shard's, whose folder is about to be renamed. Recovery moves all others away. */
    if (rc == -EEXIST && MUTANT(BY_NAME)) rc = 0;
    if (rc < 0) return rc;
    rc = manifest_make(sh, l);
    if (rc < 0) {
        unmake(sh, l);
        return rc;
    }
    l->folder_made = true;
    l->folder_unsynced = l->manifest_unsynced = true;
    sh->dir_unsynced = true;
    return 0;
}

static int sync_file(struct io *io, const char *path) {
    int fd = io_open(io, path, IO_OPEN_READ | IO_OPEN_WRITE);
    if (fd < 0) return fd;
    int rc = io_sync(io, fd);
    int closed = io_close(io, fd);
    return rc < 0 ? rc : closed;
}

enum err folder_sync(struct log_shard *sh, struct log_impl *l) {
    char path[PATH_BYTES];
    int rc = 0;
    if (l->manifest_unsynced) {
        path_in_folder(path, sh->store->dir, l->folder, MANIFEST_FILE);
        rc = sync_file(sh->io, path);
    }
    path_folder(path, sh->store->dir, l->folder);
    if (rc >= 0) rc = io_sync_dir(sh->io, path);
    if (rc < 0) return err_from_errno(rc);
    l->folder_unsynced = l->manifest_unsynced = false;
    return OK;
}

/* ---- the end of a folder ----------------------------------------------------------------------
 * A few folders at a time: thousands of operations in flight would keep the journal's writes waiting behind them. */

struct unlink_job {
    struct io_op op;
    struct list link;
    struct log_shard *sh;
    char **names;
    uint32_t count, cap, next;
    char *path;                     /* PATH_BYTES; NULL: it has not begun */
    char folder[FOLDER_NAME_BYTES];
};

static void job_free(struct unlink_job *j) {
    list_remove(&j->link);
    for (uint32_t i = 0; i < j->count; i++) free(j->names[i]);
    free(j->names);
    free(j->path);
    free(j);
}

static void folder_remove(struct unlink_job *j) {
    path_folder(j->path, j->sh->store->dir, j->folder);
    int rc = io_rmdir(j->sh->io, j->path);
    if (rc < 0) trace_warn("log", "%s stays: %s", j->path, strerror(-rc));
    job_free(j);
}

static void more_unlinks(struct log_shard *sh);

static void unlink_next(struct unlink_job *j) {
    struct log_shard *sh = j->sh;
    if (j->next < j->count) {
        path_in_folder(j->path, sh->store->dir, j->folder, j->names[j->next++]);
        io_submit(sh->io, &j->op);
        return;
    }
    folder_remove(j);
    ASSERT(sh->unlinks_busy > 0);
    sh->unlinks_busy--;
    more_unlinks(sh);
}

static void unlinked(struct io_op *op) {
    struct unlink_job *j = CONTAINER_OF(op, struct unlink_job, op);
    if (op->result < 0) trace_warn("log", "%s stays: %s", j->path, strerror((int)-op->result));
    unlink_next(j);
}

static void collect(void *ctx, const char *name, bool is_dir) {
    struct unlink_job *j = ctx;
    if (is_dir) return;
    if (j->count == j->cap) {
        uint32_t cap = j->cap ? j->cap * 2 : 8;
        char **v = realloc(j->names, cap * sizeof *v);
        if (!v) return; /* the folder stays, and is found again at the next start */
        j->names = v;
        j->cap = cap;
    }
    char *copy = strdup(name);
    if (copy) j->names[j->count++] = copy;
}

/* False: there is nothing to wait for. */
static bool job_begin(struct unlink_job *j) {
    struct log_shard *sh = j->sh;
    j->path = malloc(PATH_BYTES);
    if (!j->path) return false; /* found again at the next start, too */
    path_folder(j->path, sh->store->dir, j->folder);
    int rc = io_list(sh->io, j->path, collect, j);
    if (rc < 0) {
        trace_warn("log", "%s stays: %s", j->path, strerror(-rc));
        return false;
    }
    j->op = (struct io_op){.kind = IO_UNLINK, .path = j->path, .done = unlinked};
    return true;
}

/* Those that have begun are at the front of the list. */
static void more_unlinks(struct log_shard *sh) {
    while (sh->unlinks_busy < UNLINKS_MAX) {
        struct unlink_job *next = NULL;
        LIST_FOREACH(it, &sh->unlinks) {
            struct unlink_job *j = LIST_ENTRY(it, struct unlink_job, link);
            if (j->path) continue;
            next = j;
            break;
        }
        if (!next) return;
        if (!job_begin(next)) {
            job_free(next);
        } else if (next->count == 0) {
            folder_remove(next);
        } else {
            sh->unlinks_busy++;
            unlink_next(next);
        }
    }
}

void folder_unlink(struct log_shard *sh, const char *folder) {
    struct unlink_job *j = calloc(1, sizeof *j);
    if (!j) return;
    j->sh = sh;
    snprintf(j->folder, sizeof j->folder, "%s", folder);
    list_push_back(&sh->unlinks, &j->link);
    more_unlinks(sh);
}

void folder_unlinks_free(struct log_shard *sh) {
    while (!list_empty(&sh->unlinks)) job_free(LIST_ENTRY(sh->unlinks.next, struct unlink_job, link));
}
