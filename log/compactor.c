/* compactor.c - a run of compaction, operation by operation; see compactor.h. */
#include "log/compactor.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "base/trace.h"
#include "log/store.h"
#include "log/swap.h"
#include "log/writer.h"

enum {
    READ_BYTES = 1 << 20,
    SYNC_BYTES = 16 << 20,              /* so that the last sync does not take all at once */
    PAUSE_NS_MAX = 100 * 1000 * 1000,
    RETRY_MS = 15 * 1000
};
#define SECOND_NS INT64_C(1000000000)

static void source_begin(struct compactor *c);
static void source_end(struct compactor *c);
static void read_on(struct compactor *c);
static void group_begin(struct compactor *c);
static void finish_file(struct compactor *c);

/* ---- the end of a run --------------------------------------------------------------------------------- */

static void close_fd(struct compactor *c, int *fd) {
    if (*fd >= 0) (void)io_close(c->sh->io, *fd);
    *fd = -1;
}

void compactor_forget(struct compactor *c) {
    close_fd(c, &c->in_fd);
    close_fd(c, &c->out_fd);
    free(c->sources);
    free(c->producers);
    free(c->in);
    free(c->out);
    free(c->index_bytes);
    epochs_free(&c->epochs);
    offset_map_free(&c->map);
    index_free(&c->index);
    digester_free(c->in_digest);
    digester_free(c->out_digest);
    struct log_shard *sh = c->sh;
    struct timer timer = c->timer;
    *c = (struct compactor){.sh = sh, .timer = timer, .in_fd = -1, .out_fd = -1};
}

void compactor_end(struct compactor *c, enum err err, const char *why) {
    struct log_shard *sh = c->sh;
    struct log_impl *l = c->log;
    close_fd(c, &c->in_fd);
    close_fd(c, &c->out_fd);
    if (c->swap_id) swap_unlink(sh->io, sh->store->dir, l, c->sources[c->group_from].base, c->swap_id);
    if (c->mending) {
        mend_over(c, l, err, why);
        return;
    }
    struct compact_run *run = &c->run;
    run->err = err;
    run->at_ms = io_wall_ms(sh->io);
    run->elapsed_ms = (io_mono_ns(sh->io) - c->started_ns) / 1000000;
    if (why != run->why) snprintf(run->why, sizeof run->why, "%s", why);
    l->compact_run = *run;
    /* What fails, or brings nothing, is not tried again at once. */
    if (err != OK || why[0]) l->compact_retry_ms = run->at_ms + RETRY_MS;
    if (err == OK)
        trace_info("log", "%s: compacted in %lld ms: %llu of %llu records stay, %llu of %llu bytes%s%s", l->folder, (long long)run->elapsed_ms,
                   (unsigned long long)run->records_after, (unsigned long long)run->records_before, (unsigned long long)run->bytes_after,
                   (unsigned long long)run->bytes_before, why[0] ? "; " : run->map_full ? "; the map of keys was full, the rest comes next" : "", why);
    else if (err != ERR_CLOSED)
        trace_warn("log", "%s: not compacted: %s", l->folder, why);
    compactor_forget(c);
    l->reads--;
    shard_release_log(sh, l);
}

static void fail(struct compactor *c, int64_t neg_errno, const char *what) {
    char why[120];
    snprintf(why, sizeof why, "cannot %s: %s", what, neg_errno < 0 ? strerror((int)-neg_errno) : "short write");
    compactor_end(c, neg_errno < 0 ? err_from_errno((int)neg_errno) : ERR_IO, why);
}

static void checked(struct check *x) {
    struct compactor *c = x->owner;
    c->checking = false;
    compactor_end(c, ERR_CORRUPT, c->run.why);
}

static void check_slice(struct check *x) {
    struct compactor *c = x->owner;
    if (c->sh->failed == OK && !c->sh->stopping) {
        check_go(x);
        return;
    }
    check_stop(x);
    checked(x);
}

/* What exactly is damaged is for a check to find: it becomes a faulty range, and the log is not compacted while it has one. */
void compactor_damaged(struct compactor *c, const char *what) {
    struct log_impl *l = c->log;
    const struct segment *s = segment_by_base(l, c->source->base);
    snprintf(c->run.why, sizeof c->run.why, "segment %lld is damaged at position %u: %s", (long long)c->source->base, c->in_at + c->in_used, what);
    close_fd(c, &c->in_fd);
    if (!s) {
        compactor_end(c, ERR_CORRUPT, c->run.why);
        return;
    }
    c->check = (struct check){.slice = check_slice, .done = checked, .owner = c};
    c->checking = true;
    check_start(&c->check, l, s, INT64_MIN, UINT32_MAX, false);
}

/* Ends the run when the log, or the shard, is not what it was any more. */
static bool ended(struct compactor *c) {
    struct log_impl *l = c->log;
    const char *why = c->sh->failed != OK || c->sh->stopping ? "the broker stops"
                      : l->delete_joined                     ? "the topic is deleted"
                      : c->change != l->change               ? "the log was cut back"
                      : c->mending && !c->mend               ? "nobody waits for it"
                                                             : NULL;
    if (why) compactor_end(c, ERR_CLOSED, why);
    return why != NULL;
}

static void op_done(struct io_op *op) {
    struct compactor *c = CONTAINER_OF(op, struct compactor, op);
    if (!ended(c)) c->next(c, op->result);
}

static void submit(struct compactor *c, const struct io_op *op, void (*next)(struct compactor *c, int64_t result)) {
    c->op = *op;
    c->op.done = op_done;
    c->next = next;
    io_submit(c->sh->io, &c->op);
}

/* ---- the rate ----------------------------------------------------------------------------------------- */

static void paced(struct compactor *c, uint64_t bytes, void (*resume)(struct compactor *c));

static void timer_fired(struct timer *t) {
    struct compactor *c = CONTAINER_OF(t, struct compactor, timer);
    if (ended(c)) return;
    if (c->waiting) compactor_wait(c);
    else paced(c, 0, c->resume);
}

/* Goes on with `resume`, now or when the rate allows it. */
static void paced(struct compactor *c, uint64_t bytes, void (*resume)(struct compactor *c)) {
    uint64_t rate = c->sh->store->config.compact_bytes_per_second;
    int64_t now = io_mono_ns(c->sh->io);
    c->rate_bytes += bytes;
    int64_t due = rate > 0 ? c->rate_from_ns + (int64_t)((double)c->rate_bytes / (double)rate * (double)SECOND_NS) : now;
    if (due > now) {
        c->resume = resume;
        timer_set(c->sh->timers, &c->timer, MIN(due, now + PAUSE_NS_MAX));
        return;
    }
    if (now - c->rate_from_ns > SECOND_NS) { /* what was not used is not saved up */
        c->rate_from_ns = now;
        c->rate_bytes = 0;
    }
    resume(c);
}

/* ---- reading ------------------------------------------------------------------------------------------ */

static void worked(struct compactor *c, int64_t result);

static void got(struct compactor *c, int64_t result) {
    if (result < 0) {
        fail(c, result, "read a segment");
        return;
    }
    if (result == 0) {
        c->in_used = c->in_len;
        compactor_damaged(c, "the file is shorter than what was written");
        return;
    }
    c->in_len += (uint32_t)result;
    submit(c, &(struct io_op){.kind = IO_WORK, .work = compactor_work}, worked);
}

static void read_on(struct compactor *c) {
    uint32_t at = c->in_at + c->in_len, left = c->source->size_bytes - at;
    if (c->mending && mend_step(c, &left)) return;
    at = c->in_at + c->in_len;
    if (left == 0) {
        source_end(c);
        return;
    }
    if (c->in_need > c->in_cap) {
        uint8_t *v = realloc(c->in, c->in_need);
        if (!v) {
            compactor_end(c, ERR_NOMEM, "no memory for a batch");
            return;
        }
        c->in = v;
        c->in_cap = c->in_need;
    }
    submit(c, &(struct io_op){.kind = IO_READ, .fd = c->in_fd, .offset = at, .buf = c->in + c->in_len, .len = MIN(c->in_cap - c->in_len, left)}, got);
}

static void wrote(struct compactor *c, int64_t result);

static void write_out(struct compactor *c) {
    c->iov = (struct iovec){c->out, c->out_len};
    submit(c, &(struct io_op){.kind = IO_WRITE, .fd = c->out_fd, .offset = c->out_at, .iov = &c->iov, .iov_count = 1}, wrote);
}

static void worked(struct compactor *c, int64_t result) {
    (void)result;
    if (c->feeding) {
        mend_fed(c);
        return;
    }
    if (c->wrong) {
        compactor_damaged(c, c->wrong);
        return;
    }
    if (c->err != OK) {
        compactor_end(c, c->err, c->err == ERR_TOO_LARGE ? "a batch is above max.decompressed.batch.bytes, or the new segment above 2 GiB" : err_str(c->err));
        return;
    }
    uint32_t used = c->in_used;
    memmove(c->in, c->in + used, c->in_len - used);
    c->in_at += used;
    c->in_len -= used;
    c->in_used = 0;
    c->rate_bytes += used;
    if (!c->cleaning && c->map_full) source_end(c);
    else if (c->out_len > 0) write_out(c);
    else paced(c, 0, read_on);
}

static void synced(struct compactor *c, int64_t result) {
    if (result < 0) shard_fail(c->sh, ERR_IO, "a compacted segment could not be synced"); /* the device is not to be trusted any more */
    if (result < 0) compactor_end(c, ERR_IO, "a compacted segment could not be synced");
    else read_on(c);
}

static void wrote(struct compactor *c, int64_t result) {
    if (result != (int64_t)c->out_len) {
        fail(c, result < 0 ? result : -ENOSPC, "write a compacted segment");
        return;
    }
    c->out_at += c->out_len;
    c->unsynced_bytes += (uint32_t)c->out_len;
    uint64_t bytes = c->out_len;
    c->out_len = 0;
    if (c->unsynced_bytes >= SYNC_BYTES) {
        c->unsynced_bytes = 0;
        submit(c, &(struct io_op){.kind = IO_SYNC, .fd = c->out_fd}, synced);
    } else {
        paced(c, bytes, read_on);
    }
}

static void source_begin(struct compactor *c) {
    char path[PATH_BYTES];
    c->source = &c->sources[c->source_index];
    c->ends_group = c->source_index + 1 == c->group_to;
    c->in_at = c->in_len = c->in_used = c->in_need = 0;
    c->expected = c->source->base;
    digester_reset(c->in_digest);
    if (!segment_by_base(c->log, c->source->base)) {
        compactor_end(c, ERR_CLOSED, "its oldest segments went meanwhile");
        return;
    }
    path_segment(path, c->sh->store->dir, c->log->folder, c->source->base, FILE_LOG);
    int fd = io_open(c->sh->io, path, IO_OPEN_READ);
    if (fd == -ENOENT && !c->mending) { /* else nothing may be left to copy */
        compactor_damaged(c, "the file is missing");
        return;
    }
    if (fd < 0 && fd != -ENOENT) {
        fail(c, fd, "open a segment");
        return;
    }
    c->in_fd = fd;
    read_on(c);
}

static void map_end(struct compactor *c);

static void source_end(struct compactor *c) {
    bool whole = c->cleaning || !c->map_full;
    const char *wrong = whole && (c->cleaning || !c->source->has_digest) ? compactor_source_wrong(c) : NULL;
    close_fd(c, &c->in_fd);
    if (wrong) {
        compactor_damaged(c, wrong);
        return;
    }
    c->source_index++;
    if (!c->cleaning) {
        if (c->map_full || c->source_index == c->source_count) map_end(c);
        else source_begin(c);
    } else if (c->source_index < c->group_to) {
        source_begin(c);
    } else {
        c->out_kind = FILE_LOG;
        finish_file(c);
    }
}

/* ---- cleaning ----------------------------------------------------------------------------------------- */

static void map_end(struct compactor *c) {
    bool full = c->map.count == c->map.count_max;
    c->run.map_full = full && c->map_full;
    c->run.map_bytes = offset_map_bytes(&c->map);
    c->rules.map_end = c->map_end;
    if (c->map_end <= c->map_from) {
        char why[80];
        snprintf(why, sizeof why, "a transaction begins at offset %lld: what is behind it is not compacted", (long long)c->map_end);
        compactor_end(c, OK, why);
        return;
    }
    while (c->source_count > 0 && c->sources[c->source_count - 1].base >= c->map_end) c->source_count--;
    c->cleaning = true;
    c->group_to = 0;
    group_begin(c);
}

/* Neighbours that fit one segment, by size, by their indexes, and by the 31 bits of an index entry. */
static uint32_t group_find(const struct compactor *c, uint32_t from) {
    const struct log_config *config = &c->log->config;
    uint64_t bytes = 0, index_bytes = 0;
    uint32_t to = from;
    for (; to < c->source_count; to++) {
        const struct compact_source *s = &c->sources[to];
        bytes += s->size_bytes;
        index_bytes += s->index_bytes;
        bool fits = bytes <= config->segment_bytes && index_bytes <= config->segment_index_bytes && s->end - c->sources[from].base <= INT32_MAX;
        if (to > from && !fits) break;
    }
    return to;
}

static bool space_for(struct compactor *c) {
    struct io_space space;
    const struct log_store_config *config = &c->sh->store->config;
    uint64_t bytes = 0;
    for (uint32_t i = c->group_from; i < c->group_to; i++) bytes += c->sources[i].size_bytes;
    int rc = io_space(c->sh->io, c->sh->store->dir, &space);
    return rc < 0 || space.free_bytes >= bytes + config->disk_reserve_bytes / 2;
}

static void group_begin(struct compactor *c) {
    struct log_impl *l = c->log;
    c->group_from = c->group_to;
    if (c->group_from == c->source_count) {
        compactor_end(c, OK, "");
        return;
    }
    c->group_to = group_find(c, c->group_from);
    if (!space_for(c)) {
        compactor_end(c, ERR_NOSPACE, "the new segment would not leave the reserve free on the disk");
        return;
    }
    char path[PATH_BYTES];
    do io_entropy(c->sh->io, &c->swap_id, sizeof c->swap_id);
    while (c->swap_id == 0);
    path_swap(path, c->sh->store->dir, l->folder, c->sources[c->group_from].base, c->swap_id, FILE_LOG);
    int fd = io_open(c->sh->io, path, IO_OPEN_READ | IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_TRUNC);
    if (fd < 0) {
        fail(c, fd, "make a compacted segment");
        return;
    }
    c->out_fd = fd;
    c->out_at = c->out_len = 0;
    c->unsynced_bytes = 0;
    c->changed = false;
    c->first_timestamp = -1;
    index_free(&c->index);
    index_init(&c->index, c->sources[c->group_from].base, l->config.index_interval_bytes, l->config.segment_index_bytes);
    digester_reset(c->out_digest);
    c->source_index = c->group_from;
    source_begin(c);
}

/* ---- a new segment is complete -------------------------------------------------------------------------- */

static void group_end(struct compactor *c);

static void file_synced(struct compactor *c, int64_t result) {
    if (result < 0) {
        shard_fail(c->sh, ERR_IO, "a compacted segment could not be synced");
        compactor_end(c, ERR_IO, "a compacted segment could not be synced");
        return;
    }
    close_fd(c, &c->out_fd);
    free(c->index_bytes);
    c->index_bytes = NULL;
    c->out_written = false;
    if (c->out_kind == FILE_TIMEINDEX) {
        group_end(c);
        return;
    }
    c->out_kind = c->out_kind == FILE_LOG ? FILE_INDEX : FILE_TIMEINDEX;
    finish_file(c);
}

static void index_wrote(struct compactor *c, int64_t result) {
    if (result != (int64_t)c->iov.iov_len) {
        fail(c, result < 0 ? result : -ENOSPC, "write the index of a compacted segment");
        return;
    }
    c->out_written = true;
    finish_file(c);
}

static void index_begin(struct compactor *c) {
    char path[PATH_BYTES];
    bool times = c->out_kind == FILE_TIMEINDEX;
    uint32_t count = times ? c->index.time_count : c->index.offset_count;
    size_t len = (size_t)count * (times ? TIME_ENTRY_BYTES : INDEX_ENTRY_BYTES);
    path_swap(path, c->sh->store->dir, c->log->folder, c->sources[c->group_from].base, c->swap_id, c->out_kind);
    int fd = io_open(c->sh->io, path, IO_OPEN_READ | IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_TRUNC);
    if (fd < 0) {
        fail(c, fd, "make the index of a compacted segment");
        return;
    }
    c->out_fd = fd;
    c->index_bytes = malloc(len + 1);
    if (!c->index_bytes) {
        compactor_end(c, ERR_NOMEM, "no memory for an index");
        return;
    }
    if (times) index_encode_times(&c->index, 0, count, c->index_bytes);
    else index_encode(&c->index, 0, count, c->index_bytes);
    c->iov = (struct iovec){c->index_bytes, len};
    if (len == 0) index_wrote(c, 0);
    else submit(c, &(struct io_op){.kind = IO_WRITE, .fd = fd, .iov = &c->iov, .iov_count = 1}, index_wrote);
}

/* The .log is written: sync it; then the same for both indexes. */
static void finish_file(struct compactor *c) {
    if (c->out_kind == FILE_LOG && !c->changed && c->group_to - c->group_from == 1) group_end(c); /* nothing to gain */
    else if (c->out_kind == FILE_LOG && index_seal(&c->index) != OK) compactor_end(c, ERR_NOMEM, "no memory for an index");
    else if (c->out_kind != FILE_LOG && !c->out_written) index_begin(c);
    else submit(c, &(struct io_op){.kind = IO_SYNC, .fd = c->out_fd}, file_synced);
}

static void segment_of_group(const struct compactor *c, struct segment *out) {
    const struct compact_source *first = &c->sources[c->group_from], *last = &c->sources[c->group_to - 1];
    const struct segment_index *x = &c->index;
    *out = (struct segment){.base = first->base, .end = last->end, .size_bytes = (uint32_t)c->out_at, .written_bytes = (uint32_t)c->out_at,
                            .index_bytes = x->offset_count * INDEX_ENTRY_BYTES, .time_index_bytes = x->time_count * TIME_ENTRY_BYTES,
                            .max_timestamp = x->max_timestamp, .max_timestamp_offset = -1, .first_timestamp = c->first_timestamp,
                            .file_made = true, .swap_id = c->swap_id};
    if (x->max_timestamp >= 0) out->max_timestamp_offset = first->base + x->max_timestamp_relative;
    if (x->offset_count > 0) out->last_index = x->offsets[x->offset_count - 1];
    if (x->time_count > 0) out->last_time = x->times[x->time_count - 1];
    for (uint32_t i = c->group_from; i < c->group_to; i++) {
        const struct segment *s = segment_of(c->log, c->sources[i].base);
        out->created_ms = MAX(out->created_ms, s->created_ms);
    }
}

/* Whether the segments are those that were read, and nobody counts on their files. */
static bool group_is_there(const struct compactor *c) {
    const struct log_impl *l = c->log;
    for (uint32_t i = c->group_from; i < c->group_to; i++) {
        const struct segment *s = segment_of(l, c->sources[i].base);
        if (s->base != c->sources[i].base || s->size_bytes != c->sources[i].size_bytes || s->base >= l->synced.base) return false;
        if (l->in_checkpoint && s->base >= l->flush_to.base) return false;
    }
    return true;
}

/* No digest is left of what goes, and the names of the new files are durable. */
static enum err manifest_prepare(struct compactor *c) {
    struct log_shard *sh = c->sh;
    struct log_impl *l = c->log;
    struct manifest m;
    enum err err = folder_manifest_read(sh->io, sh->store->dir, l->folder, &m);
    if (err != OK) return err;
    impl_change(l);
    for (uint32_t i = c->group_from; i < c->group_to; i++) {
        manifest_remove(&m, c->sources[i].base);
        segment_of(l, c->sources[i].base)->sealed = false;
    }
    if (!c->mending || !c->dense) m.compacted_end = MAX(m.compacted_end, c->sources[c->group_to - 1].end);
    err = folder_manifest_write(sh->io, sh->store->dir, l, &m); /* syncs the folder, too */
    manifest_free(&m);
    return err;
}

static int64_t cleaned_end(const struct compactor *c) { return c->mending ? 0 : c->group_to == c->source_count ? c->map_end : 0; }

static void group_end(struct compactor *c) {
    struct log_impl *l = c->log;
    struct compact_source *first = &c->sources[c->group_from];
    uint32_t count = c->group_to - c->group_from;
    for (uint32_t i = 0; i < count; i++) c->run.bytes_before += first[i].size_bytes;
    c->run.bytes_after += c->out_at;
    if (!c->changed && count == 1) {
        close_fd(c, &c->out_fd);
        swap_unlink(c->sh->io, c->sh->store->dir, l, first->base, c->swap_id);
        c->swap_id = 0;
        if (cleaned_end(c) > l->cleaned_end) {
            impl_change(l);
            l->cleaned_end = cleaned_end(c);
            impl_dirty(l);
        }
        group_begin(c);
        return;
    }
    if (!group_is_there(c) || (l->faulty_count > 0 && !c->mending)) {
        compactor_end(c, ERR_CLOSED, l->faulty_count > 0 && !c->mending ? "damage was found in it meanwhile" : "its oldest segments went meanwhile");
        return;
    }
    struct sealed_segment sealed = {0};
    struct segment made;
    segment_of_group(c, &made);
    enum err err = digester_result(c->out_digest, first->base, &sealed);
    const char *wrong = err == OK && c->mending ? mend_wrong(c, &sealed.digest) : NULL;
    if (wrong) {
        free(sealed.chunks);
        compactor_end(c, ERR_CORRUPT, wrong);
        return;
    }
    if (err == OK) err = manifest_prepare(c);
    if (err == OK) err = swap_join(l, count, &made, &sealed.digest, cleaned_end(c), c->mending && c->dense);
    free(sealed.chunks);
    if (err != OK) {
        compactor_end(c, err, err == ERR_CORRUPT ? MANIFEST_FILE " is damaged" : "the manifest or the journal cannot be written");
        return;
    }
    c->change = l->change;
    c->swap_id = 0;
    group_begin(c);
}

/* ---- the beginning -------------------------------------------------------------------------------------- */

static void leftover(void *ctx, const char *name, bool is_dir) {
    struct compactor *c = ctx;
    char path[PATH_BYTES];
    if (is_dir || !swap_file_parse(name)) return;
    path_in_folder(path, c->sh->store->dir, c->log->folder, name);
    int rc = io_unlink(c->sh->io, path);
    if (rc < 0) trace_warn("log", "%s stays: %s", path, strerror(-rc));
}

static enum err take_sources(struct compactor *c, int64_t to, const struct manifest *m) {
    struct log_impl *l = c->log;
    c->sources = calloc(l->segment_count, sizeof *c->sources);
    if (!c->sources) return ERR_NOMEM;
    for (uint32_t i = 0; i < l->segment_count && l->segments[i].base < to; i++) {
        const struct segment *s = &l->segments[i];
        const struct sealed_segment *sealed = manifest_find(m, s->base);
        struct compact_source *out = &c->sources[c->source_count++];
        *out = (struct compact_source){.base = s->base, .end = s->end, .size_bytes = s->size_bytes, .has_gaps = segment_has_gaps(l, s),
                                       .index_bytes = MAX(s->index_bytes, s->time_index_bytes),
                                       .has_digest = s->sealed && sealed && sealed->size_bytes == s->size_bytes};
        if (out->has_digest) out->digest = sealed->digest;
    }
    return OK;
}

static enum err take_producers(struct compactor *c) {
    const struct producers *p = &c->log->pub.producers;
    uint32_t count;
    int64_t *ids = producers_sorted_ids(p, &count);
    if (!ids) return count > 0 || p->count > 0 ? ERR_NOMEM : OK;
    c->producers = calloc(count, sizeof *c->producers);
    for (uint32_t i = 0; i < count && c->producers; i++) {
        const struct producer *e = producers_find(p, ids[i]);
        c->producers[i] = (struct filter_producer){ids[i], e->count > 0 ? e->window[e->count - 1].last_offset : -1};
    }
    free(ids);
    c->rules.producers = c->producers;
    c->rules.producer_count = c->producers ? count : 0;
    return c->producers ? OK : ERR_NOMEM;
}

static enum err take_memory(struct compactor *c, const struct compact_look *look) {
    const struct log_store_config *config = &c->sh->store->config;
    uint64_t seed, bytes = config->compact_map_bytes / config->shards;
    io_entropy(c->sh->io, &seed, sizeof seed);
    enum err err = offset_map_init(&c->map, bytes, (uint64_t)(look->to - look->from), seed);
    if (err == OK) err = take_producers(c);
    return err == OK ? compactor_take_buffers(c) : err;
}

enum err compactor_take_buffers(struct compactor *c) {
    const struct epochs *e = &c->log->pub.epochs;
    enum err err = OK;
    epochs_reset(&c->epochs, e->base_epoch, e->base_end);
    for (uint32_t i = 0; i < e->count && err == OK; i++) err = epochs_append(&c->epochs, e->entries[i].epoch, e->entries[i].start);
    c->in = malloc(READ_BYTES);
    c->in_cap = READ_BYTES;
    c->in_digest = digester_new();
    c->out_digest = digester_new();
    return err == OK && c->in && c->in_digest && c->out_digest ? OK : ERR_NOMEM;
}

static void begin(struct compactor *c, const struct compact_look *look) {
    struct log_shard *sh = c->sh;
    struct log_impl *l = c->log;
    struct manifest m;
    char folder[PATH_BYTES];
    path_folder(folder, sh->store->dir, l->folder);
    int rc = io_list(sh->io, folder, leftover, c); /* of a run that a crash has ended */
    if (rc < 0) {
        fail(c, rc, "list the folder");
        return;
    }
    enum err err = folder_manifest_read(sh->io, sh->store->dir, l->folder, &m);
    if (err != OK) {
        compactor_end(c, err, MANIFEST_FILE " cannot be read");
        return;
    }
    err = take_sources(c, look->to, &m);
    manifest_free(&m);
    if (err == OK) err = take_memory(c, look);
    if (err != OK) {
        compactor_end(c, err, "no memory");
        return;
    }
    c->rules.map = &c->map;
    c->map_from = c->map_end = look->from;
    while (c->sources[c->source_index].end <= look->from) c->source_index++;
    source_begin(c);
}

struct compactor *compactor_take(struct log_shard *sh, struct log_impl *l, int64_t now_ms) {
    if (compactor_busy(sh)) return NULL;
    if (!sh->compactor) {
        sh->compactor = calloc(1, sizeof *sh->compactor);
        if (!sh->compactor) return NULL;
        *sh->compactor = (struct compactor){.sh = sh, .in_fd = -1, .out_fd = -1};
        timer_init(&sh->compactor->timer, timer_fired);
    }
    struct compactor *c = sh->compactor;
    c->log = l;
    c->change = l->change;
    c->started_ms = now_ms;
    c->started_ns = c->rate_from_ns = io_mono_ns(sh->io);
    epochs_init(&c->epochs);
    l->reads++;
    return c;
}

/* ---- for mending ------------------------------------------------------------------------------------- */

void compactor_begin(struct compactor *c) {
    c->cleaning = true;
    c->resume = group_begin;
    timer_set(c->sh->timers, &c->timer, c->started_ns);
}

void compactor_go_on(struct compactor *c) { paced(c, 0, read_on); }

void compactor_feed(struct compactor *c) {
    timer_cancel(c->sh->timers, &c->timer);
    submit(c, &(struct io_op){.kind = IO_WORK, .work = compactor_work}, worked);
}

void compactor_written(struct compactor *c) {
    if (c->out_len > 0) write_out(c);
    else compactor_go_on(c);
}

void compactor_wait(struct compactor *c) {
    c->resume = compactor_wait;
    timer_set(c->sh->timers, &c->timer, io_mono_ns(c->sh->io) + PAUSE_NS_MAX);
}

bool compact_start(struct log_shard *sh, struct log *pub, int64_t now_ms, int64_t bound) {
    struct log_impl *l = impl_of(pub);
    struct compact_look look;
    if (sh->failed != OK || sh->stopping || l->delete_joined || compactor_busy(sh) || sh->store->config.compact_map_bytes == 0) return false;
    compact_look(pub, now_ms, bound, &look);
    if ((look.reason != COMPACT_RATIO && look.reason != COMPACT_LAG) || !compact_may_start(pub, now_ms)) return false;
    struct compactor *c = compactor_take(sh, l, now_ms);
    if (!c) return false;
    c->rules = (struct filter_rules){.now_ms = now_ms, .delete_retention_ms = l->config.delete_retention_ms,
                                     .max_decompressed_bytes = sh->store->config.compact_batch_bytes ? sh->store->config.compact_batch_bytes : 64u << 20};
    begin(c, &look);
    return true;
}

bool compactor_busy(const struct log_shard *sh) { return sh->compactor && sh->compactor->log; }
bool compact_running(const struct log_shard *sh) { return compactor_busy(sh); }
bool compact_running_on(const struct log *l) { return l->shard->compactor && l->shard->compactor->log == impl_of_const(l); }

void compactor_free(struct log_shard *sh) {
    if (!sh->compactor) return;
    if (sh->timers) timer_cancel(sh->timers, &sh->compactor->timer);
    compactor_forget(sh->compactor);
    free(sh->compactor);
    sh->compactor = NULL;
}
