/* inspect.c - see inspect.h. */
#include "log/inspect.h"
#include <errno.h>
#include <stdlib.h>
#include "base/trace.h"
#include "log/check.h"
#include "log/index.h"
#include "log/manifest.h"

/* ---- whose folder ----------------------------------------------------------------------------- */

enum folder_state inspect_folder(struct log_store *s, const struct log_impl *l, uint64_t *plid, int *neg_errno) {
    char path[PATH_BYTES];
    uint8_t head[MANIFEST_PEEK_BYTES];
    struct io_stat st = {0};
    path_in_folder(path, s->dir, l->folder, MANIFEST_FILE);
    int fd = io_open(s->io, path, IO_OPEN_READ);
    if (fd == -ENOENT) {
        path_folder(path, s->dir, l->folder);
        int rc = io_stat_path(s->io, path, &st);
        if (rc == -ENOENT) return FOLDER_MISSING;
        if (rc >= 0) return FOLDER_UNKNOWN;
        *neg_errno = rc;
        return FOLDER_UNREADABLE;
    }
    int rc = fd < 0 ? fd : io_fstat(s->io, fd, &st);
    int64_t n = rc < 0 ? rc : io_pread(s->io, fd, head, sizeof head, 0);
    if (fd >= 0) (void)io_close(s->io, fd);
    if (n < 0) {
        *neg_errno = (int)n;
        return FOLDER_UNREADABLE;
    }
    if (!manifest_peek(head, (size_t)n, st.size_bytes, plid)) return FOLDER_UNKNOWN;
    return *plid == l->pub.plid ? FOLDER_OWN : FOLDER_OTHERS;
}

/* ---- a file that is too short ------------------------------------------------------------------- */

struct short_walk { struct log_impl *log; const struct segment *s; uint64_t size; uint32_t position; int64_t expected; };

static bool header_at(struct short_walk *k, int fd, uint32_t position, struct batch_header *h) {
    uint8_t head[BATCH_HEADER_BYTES];
    if (position + (uint64_t)sizeof head > k->size) return false;
    if (io_pread(k->log->pub.shard->io, fd, head, sizeof head, position) != (int64_t)sizeof head) return false;
    enum err err = batch_parse(head, sizeof head, h);
    return (err == OK || err == ERR_TRUNCATED) && batch_check(h) == OK;
}

/* As far as the index leads, where the batch agrees with it. */
static void by_index(struct short_walk *k, int fd) {
    struct log_impl *l = k->log;
    char path[PATH_BYTES];
    uint8_t *data;
    size_t len;
    path_segment(path, l->pub.shard->store->dir, l->folder, k->s->base, FILE_INDEX);
    if (io_read_file(l->pub.shard->io, path, INT32_MAX, &data, &len) < 0) return;
    for (size_t at = len / INDEX_ENTRY_BYTES; at-- > 0;) {
        struct index_entry e = index_entry_get(data + at * INDEX_ENTRY_BYTES);
        struct batch_header h;
        if (e.position >= k->size || !header_at(k, fd, e.position, &h)) continue;
        if (batch_last_offset(&h) != k->s->base + e.relative) continue;
        k->position = e.position;
        k->expected = h.base_offset;
        break;
    }
    free(data);
}

static void whole_batches(struct short_walk *k, int fd) {
    struct batch_header h;
    by_index(k, fd);
    while (header_at(k, fd, k->position, &h) && (h.base_offset == k->expected || (segment_has_gaps(k->log, k->s) && h.base_offset > k->expected)) && h.total_bytes <= k->size - k->position) {
        k->position += h.total_bytes;
        k->expected = batch_last_offset(&h) + 1;
    }
}

void inspect_short(struct log_impl *l, const struct segment *s, uint64_t size, bool missing) {
    struct log_shard *sh = l->pub.shard;
    int64_t limit_offset;
    uint32_t limit = file_limit(l, s, &limit_offset);
    struct short_walk k = {.log = l, .s = s, .size = MIN(size, (uint64_t)limit), .expected = s->base};
    char path[PATH_BYTES];
    path_segment(path, sh->store->dir, l->folder, s->base, FILE_LOG);
    int fd = missing ? -1 : io_open(sh->io, path, IO_OPEN_READ);
    if (fd >= 0) {
        whole_batches(&k, fd);
        (void)io_close(sh->io, fd);
    }
    if (k.expected >= limit_offset) return;
    faulty_add(l, &(struct faulty_range){.start = k.expected, .end = limit_offset, .base = s->base, .position = k.position, .end_position = limit},
               missing ? "the file is missing" : "the file is shorter than what was synced");
}

/* ---- the three files ------------------------------------------------------------------------------ */

/* Size, or negative errno. */
static int64_t size_of(struct log_impl *l, const struct segment *s, enum file_kind kind) {
    struct log_shard *sh = l->pub.shard;
    char path[PATH_BYTES];
    struct io_stat st;
    path_segment(path, sh->store->dir, l->folder, s->base, kind);
    int rc = io_stat_path(sh->io, path, &st);
    return rc < 0 ? rc : (int64_t)st.size_bytes;
}

static int index_length(struct log_impl *l, struct segment *s, enum file_kind kind, uint32_t *expected) {
    if (*expected == 0) return 0;
    int64_t size = size_of(l, s, kind);
    if (size < 0 && size != -ENOENT) return (int)size;
    if (size >= (int64_t)*expected) return 0;
    if (!s->file_made) { /* there is nothing to make it from */
        *expected = 0;
        return 0;
    }
    trace_warn("log", "%s: the %s of segment %lld is %s; the index is made again", l->folder, file_suffix(kind), (long long)s->base,
               size < 0 ? "missing" : "too short");
    s->reindex = true;
    s->reindex_end = s->base;
    s->reindex_position = 0;
    return 0;
}

int inspect_segment(struct log_impl *l, struct segment *s) {
    if (s->written_bytes == 0) return 0;
    int64_t size = size_of(l, s, FILE_LOG);
    if (size < 0 && size != -ENOENT) return (int)size;
    s->file_made = size >= 0;
    if (size < (int64_t)s->written_bytes) inspect_short(l, s, size < 0 ? 0 : (uint64_t)size, size < 0);
    else if (size > (int64_t)s->written_bytes && s->size_bytes == s->written_bytes)
        trace_warn("log", "%s: segment %lld has %lld bytes, %u were written: what follows is not read", l->folder, (long long)s->base, (long long)size,
                   s->written_bytes);
    int rc = index_length(l, s, FILE_INDEX, &s->index_bytes);
    return rc < 0 ? rc : index_length(l, s, FILE_TIMEINDEX, &s->time_index_bytes);
}
