/* export.c - files that Kafka's tools expect beside the logs, written at a clean stop. Nothing here reads them back, so
 * they are replaced by renaming, but not synced. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/trace.h"
#include "log/kafka_files.h"
#include "log/store.h"

static int replace(struct io *io, const char *path, const void *data, size_t len) {
    char tmp[PATH_BYTES + 8];
    snprintf(tmp, sizeof tmp, "%s.tmp", path);
    int fd = io_open(io, tmp, IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_TRUNC);
    if (fd < 0) return fd;
    int64_t n = len > 0 ? io_pwrite(io, fd, data, len, 0) : 0;
    int rc = io_close(io, fd);
    if (n < 0) rc = (int)n;
    else if (rc >= 0 && n < (int64_t)len) rc = -ENOSPC;
    if (rc >= 0) return io_rename(io, tmp, path);
    (void)io_unlink(io, tmp); /* or it is overwritten the next time; the first error is the one to tell */
    return rc;
}

static int export_epochs(struct log_shard *sh, struct log_impl *l) {
    char path[PATH_BYTES];
    char *text = epochs_to_checkpoint(&l->pub.epochs, l->pub.start);
    if (!text) return -ENOMEM;
    path_in_folder(path, sh->store->dir, l->folder, EPOCH_CHECKPOINT_FILE);
    int rc = replace(sh->io, path, text, strlen(text));
    free(text);
    return rc;
}

static int export_snapshot(struct log_shard *sh, struct log_impl *l) {
    char path[PATH_BYTES];
    uint8_t *data;
    size_t len;
    if (l->pub.producers.count == 0) return 0;
    if (producers_to_snapshot(&l->pub.producers, &data, &len) != OK) return -ENOMEM;
    path_segment(path, sh->store->dir, l->folder, l->pub.end, FILE_SNAPSHOT);
    int rc = replace(sh->io, path, data, len);
    free(data);
    return rc;
}

void export_logs(struct log_shard *sh) {
    for (uint32_t i = 0; i < sh->log_count; i++) {
        struct log_impl *l = sh->logs[i];
        if (!l->export_due || !l->folder_made || l->delete_joined) continue;
        int rc = export_epochs(sh, l);
        if (rc >= 0) rc = export_snapshot(sh, l);
        if (rc < 0) trace_warn("log", "%s: Kafka's checkpoint files could not be written: %s", l->folder, strerror(-rc));
        l->export_due = rc < 0;
    }
}

static int64_t end_of(const struct log *l) { return l->durable_end; }
static int64_t start_of(const struct log *l) { return l->start; }

static enum err export_offsets(struct log_store *s, const char *name, int64_t (*offset)(const struct log *l)) {
    uint32_t count = 0, cap = 0;
    for (uint32_t i = 0; i < s->config.shards; i++) cap += s->shards[i].log_count;
    struct offset_entry *entries = calloc(cap + 1, sizeof *entries);
    if (!entries) return ERR_NOMEM;
    for (uint32_t i = 0; i < s->config.shards; i++)
        for (struct log *l = log_shard_first(&s->shards[i]); l; l = log_shard_next(&s->shards[i], l))
            entries[count++] = (struct offset_entry){str_from(l->topic), l->partition, offset(l)};
    char *text = offset_checkpoint_to_text(entries, count);
    free(entries);
    if (!text) return ERR_NOMEM;
    char path[PATH_BYTES];
    path_folder(path, s->dir, name);
    int rc = replace(s->io, path, text, strlen(text));
    free(text);
    return rc < 0 ? err_from_errno(rc) : OK;
}

static enum err export_all(struct log_store *s) {
    enum err err = export_offsets(s, RECOVERY_POINT_FILE, end_of);
    if (err == OK) err = export_offsets(s, REPLICATION_OFFSET_FILE, end_of);
    if (err == OK) err = export_offsets(s, LOG_START_OFFSET_FILE, start_of);
    if (err != OK) return err;
    char path[PATH_BYTES];
    path_folder(path, s->dir, CLEAN_SHUTDOWN_FILE);
    int rc = replace(s->io, path, "{\"version\":0}", 13);
    return rc < 0 ? err_from_errno(rc) : OK;
}

/* Without them the stop is as clean: the last footer says so, and nothing reads these. */
enum err export_store(struct log_store *s) {
    enum err err = export_all(s);
    if (err != ERR_NOSPACE) return err;
    trace_warn("log", "%s: the disk is full: Kafka's checkpoint files are not written", s->dir);
    return OK;
}
