/* repair.c - see repair.h.
 *
 *   first life    open, stop: what was only in the journal is in files, as far as it can be
 *   second life   every segment is checked; a damaged one that is still written to gets a successor; stop
 *   third life    damaged segments are swapped, indexes compared; stop */
#include "log/repair.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "log/check.h"
#include "log/producers.h"
#include "log/store.h"
#include "log/swap.h"
#include "log/truncate.h"
#include "log/writer.h"

enum { COPY_BYTES = 1 << 20, SNAPSHOT_BYTES_MAX = 1 << 30, WAIT_NS = 5 * 1000 * 1000 };

struct life {
    struct io *io;
    const struct repair *r;
    struct repair_report *report;
    struct log_store *store;
    struct log_shard *sh;
    struct mailbox mailbox;
    struct timers timers;
    bool stopped;
    enum err err;
    char *why;
    size_t why_len;
};

static enum err failed(struct life *x, enum err err, const char *where, const char *what) {
    if (x->err != OK) return x->err;
    snprintf(x->why, x->why_len, "%s: %s: %s", where, what, err_str(err));
    return x->err = err;
}

/* ---- a life -------------------------------------------------------------------------------------- */

static void turn(struct life *x) {
    mailbox_drain(&x->mailbox);
    timers_run(&x->timers, io_mono_ns(x->io));
    log_shard_turn(x->sh);
    int64_t now = io_mono_ns(x->io), next = timers_next(&x->timers);
    if (!mailbox_empty(&x->mailbox)) next = now;
    if (x->stopped) return;
    if (io_turn(x->io, MIN(next, now + WAIT_NS)) < 0) failed(x, ERR_IO, x->store->dir, "waiting for the disk");
    if (store_failed(x->store)) failed(x, x->store->failed_err, x->store->dir, x->store->failed_what);
}

static void stopped(void *ctx, enum err err) {
    struct life *x = ctx;
    x->stopped = true;
    if (err != OK) failed(x, err, x->store->dir, "the stop");
}

static enum err life_begin(struct life *x, const struct log_store_config *cfg) {
    struct log_recovery rec;
    x->stopped = false;
    timers_init(&x->timers);
    mailbox_init(&x->mailbox, x->io);
    enum err err = log_store_open(x->io, cfg, &x->store, &rec, x->why, x->why_len);
    if (err != OK) return x->err = err;
    x->sh = log_store_attach(x->store, 0, x->io, &x->mailbox, &x->timers);
    return OK;
}

static enum err life_end(struct life *x) {
    if (x->store && x->err == OK) {
        log_store_stop(x->store, stopped, x);
        while (!x->stopped && x->err == OK) turn(x);
    }
    log_store_close(x->store);
    x->store = NULL;
    timers_free(&x->timers);
    return x->err;
}

static void settle(struct life *x) {
    struct log_shard *sh = x->sh;
    while (x->err == OK && (sh->open || sh->submitted_count > 0 || sh->writers_busy > 0 || !list_empty(&sh->work))) turn(x);
}

/* ---- finding ----------------------------------------------------------------------------------------- */

static void checked(struct check *c) { *(bool *)c->owner = true; }

static void check_segment(struct life *x, struct log_impl *l, const struct segment *s) {
    bool done = false;
    struct check c = {.done = checked, .owner = &done};
    check_start(&c, l, s, INT64_MIN, UINT32_MAX, false);
    while (!done && x->err == OK) turn(x);
    if (done && c.err != OK && c.err != ERR_CLOSED) failed(x, c.err, l->folder, "a segment cannot be read");
}

static void find_damage(struct life *x) {
    for (uint32_t i = 0; i < x->sh->log_count && x->err == OK; i++) {
        struct log_impl *l = x->sh->logs[i];
        if (l->delete_joined) continue;
        x->report->logs++;
        for (uint32_t k = 0; k < l->segment_count && x->err == OK; k++) {
            if (l->segments[k].size_bytes > 0) check_segment(x, l, &l->segments[k]);
            x->report->segments++;
        }
        const struct segment *last = segment_last(l);
        if (x->err == OK && last->size_bytes > 0 && faulty_overlaps(l, last->base, 0, last->size_bytes)) {
            enum err err = log_roll(&l->pub, io_wall_ms(x->io));
            if (err != OK) failed(x, err, l->folder, "another segment cannot be begun");
        }
    }
    if (x->err == OK) settle(x);
}

/* ---- one segment, written anew -------------------------------------------------------------------------- */

struct anew {
    struct life *x;
    struct log_impl *l;
    const struct segment *s;
    int from, to;                        /* files; -1: there is no old one */
    uint64_t size;                       /* of the old one */
    uint32_t at;                         /* written so far */
    uint8_t *buf;
    struct digester *digester;
};

static int write_all(struct io *io, int fd, const void *data, size_t len, uint64_t at) {
    for (size_t done = 0; done < len;) {
        int64_t n = io_pwrite(io, fd, (const uint8_t *)data + done, len - done, at + done);
        if (n <= 0) return n < 0 ? (int)n : -EIO;
        done += (size_t)n;
    }
    return 0;
}

/* Bytes [from, to) of the old file, as far as they are there. */
static int copy_out(struct anew *a, uint32_t from, uint32_t to, int fd, uint64_t at, bool kept) {
    struct io *io = a->x->io;
    while (from < to) {
        int64_t n = io_pread(io, a->from, a->buf, MIN(to - from, (uint32_t)COPY_BYTES), from);
        if (n == 0) return kept ? -EIO : 0;
        int rc = n < 0 ? (int)n : write_all(io, fd, a->buf, (size_t)n, at);
        if (rc < 0) return rc;
        if (kept && digester_feed(a->digester, a->buf, (size_t)n) != OK) return -ENOMEM;
        from += (uint32_t)n;
        at += (uint64_t)n;
    }
    return 0;
}

static int sync_close(struct io *io, int fd, int rc) {
    int synced = rc < 0 ? rc : io_sync(io, fd), closed = io_close(io, fd);
    return synced < 0 ? synced : closed;
}

/* What is taken out, into a file of its own. */
static int put_aside(struct anew *a, const struct faulty_range *f) {
    struct life *x = a->x;
    struct log_impl *l = a->l;
    uint32_t to = (uint32_t)MIN((uint64_t)f->end_position, a->size);
    struct repair_range r = {.topic = l->pub.topic, .partition = l->pub.partition, .start = f->start, .end = f->end, .segment_base = f->base,
                             .position = f->position, .bytes = to > f->position ? to - f->position : 0};
    char path[PATH_BYTES];
    int rc = 0;
    if (a->from >= 0 && r.bytes > 0) {
        snprintf(path, sizeof path, "%s/%s_%020lld.log_%u", x->r->aside, l->folder, (long long)f->base, f->position);
        rc = io_mkdir(x->io, x->r->aside);
        int fd = rc < 0 && rc != -EEXIST ? rc : io_open(x->io, path, IO_OPEN_READ | IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_TRUNC);
        rc = fd < 0 ? fd : sync_close(x->io, fd, copy_out(a, f->position, to, fd, 0, false));
        if (rc >= 0) rc = io_sync_dir(x->io, x->r->aside);
        r.aside = path;
    }
    if (rc < 0) return rc;
    x->report->ranges++;
    x->report->offsets += (uint64_t)(f->end - f->start);
    x->report->bytes += r.bytes;
    x->r->lost(x->r->ctx, &r);
    return 0;
}

/* A batch without records in the place of those at the log's end: otherwise readers, whom batches take along, would wait before the
 * end for ever. Compaction leaves such ones, too. */
static int fill_end(struct anew *a, const struct faulty_range *f) {
    enum { LENGTH_AT = 8, MAGIC_AT = 16, LAST_DELTA_AT = 23, TIMES_AT = 27 };
    uint8_t b[BATCH_HEADER_BYTES] = {0};
    store_be32(b + LENGTH_AT, BATCH_HEADER_BYTES - BATCH_LENGTH_OVERHEAD);
    b[MAGIC_AT] = 2;
    store_be32(b + LAST_DELTA_AT, (uint32_t)(f->end - 1 - f->start));
    memset(b + TIMES_AT, 0xff, 16);                              /* -1: none */
    batch_set_producer(b, -1, -1, -1);
    batch_set_base_offset(b, f->start);
    batch_set_leader_epoch(b, MAX(epochs_at(&a->l->pub.epochs, f->start), 0));
    batch_seal(b);
    int rc = write_all(a->x->io, a->to, b, sizeof b, a->at);
    if (rc >= 0 && digester_feed(a->digester, b, sizeof b) != OK) rc = -ENOMEM;
    a->at += sizeof b;
    return rc;
}

static int copy_sound(struct anew *a) {
    uint32_t at = 0;
    int rc = 0;
    for (uint32_t i = 0; i < a->l->faulty_count && rc >= 0; i++) {
        const struct faulty_range *f = &a->l->faulty[i];
        if (f->base != a->s->base) continue;
        rc = copy_out(a, at, f->position, a->to, a->at, true);
        a->at += f->position - at;
        at = f->end_position;
        if (rc >= 0) rc = put_aside(a, f);
        if (rc >= 0 && f->end == a->l->pub.end) rc = fill_end(a, f);
    }
    if (rc >= 0 && at < a->s->size_bytes) rc = copy_out(a, at, a->s->size_bytes, a->to, a->at, true);
    a->at += a->s->size_bytes - at;
    return rc;
}

/* Reads the headers of the new file. */
static int index_new(struct anew *a, struct segment_index *index, int64_t *first_timestamp) {
    uint32_t at = 0;
    *first_timestamp = -1;
    while (at < a->at) {
        uint8_t head[BATCH_HEADER_BYTES];
        struct batch_header h;
        if (io_pread(a->x->io, a->to, head, sizeof head, at) != (int64_t)sizeof head) return -EIO;
        enum err err = batch_parse(head, sizeof head, &h);
        if (err != OK && err != ERR_TRUNCATED) return -EIO;
        err = index_add(index, &h, at);
        if (err != OK) return err == ERR_NOMEM ? -ENOMEM : -EIO;
        if (at == 0) *first_timestamp = h.max_timestamp;
        at += h.total_bytes;
    }
    return index_seal(index) == OK ? 0 : -ENOMEM;
}

static int index_file_new(struct anew *a, const struct segment_index *index, enum file_kind kind, uint64_t id) {
    char path[PATH_BYTES];
    bool times = kind == FILE_TIMEINDEX;
    uint32_t count = times ? index->time_count : index->offset_count;
    size_t len = (size_t)count * (times ? TIME_ENTRY_BYTES : INDEX_ENTRY_BYTES);
    uint8_t *bytes = malloc(len + 1);
    if (!bytes) return -ENOMEM;
    if (times) index_encode_times(index, 0, count, bytes);
    else index_encode(index, 0, count, bytes);
    path_swap(path, a->x->store->dir, a->l->folder, a->s->base, id, kind);
    int fd = io_open(a->x->io, path, IO_OPEN_READ | IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_TRUNC);
    int rc = fd < 0 ? fd : sync_close(a->x->io, fd, write_all(a->x->io, fd, bytes, len, 0));
    free(bytes);
    return rc;
}

/* The new segment takes the place of the old one. */
static enum err swap(struct anew *a, const struct segment_index *index, int64_t first_timestamp, uint64_t id) {
    struct log_impl *l = a->l;
    struct segment made = {.base = a->s->base, .end = a->s->end, .size_bytes = a->at, .written_bytes = a->at,
                           .index_bytes = index->offset_count * INDEX_ENTRY_BYTES, .time_index_bytes = index->time_count * TIME_ENTRY_BYTES,
                           .max_timestamp = index->max_timestamp, .max_timestamp_offset = -1, .first_timestamp = first_timestamp,
                           .created_ms = a->s->created_ms, .file_made = true, .swap_id = id};
    if (made.max_timestamp >= 0) made.max_timestamp_offset = made.base + index->max_timestamp_relative;
    if (index->offset_count > 0) made.last_index = index->offsets[index->offset_count - 1];
    if (index->time_count > 0) made.last_time = index->times[index->time_count - 1];
    struct sealed_segment sealed = {0};
    struct manifest m;
    enum err err = folder_manifest_read(a->x->io, a->x->store->dir, l->folder, &m);
    if (err != OK) return err;
    manifest_remove(&m, made.base);
    m.compacted_end = MAX(m.compacted_end, made.end);
    err = folder_manifest_write(a->x->io, a->x->store->dir, l, &m);
    manifest_free(&m);
    if (err == OK) err = digester_result(a->digester, made.base, &sealed);
    if (err == OK) err = swap_join(l, 1, &made, &sealed.digest, 0, false);
    free(sealed.chunks);
    return err;
}

static void write_anew(struct life *x, struct log_impl *l, const struct segment *s) {
    struct anew a = {.x = x, .l = l, .s = s, .from = -1, .to = -1};
    char path[PATH_BYTES];
    struct segment_index index;
    struct io_stat st;
    uint64_t id = 0;
    int64_t first_timestamp;
    int64_t base = s->base;
    io_entropy(x->io, &id, sizeof id);
    id |= 1;
    index_init(&index, base, l->config.index_interval_bytes, l->config.segment_index_bytes);
    a.buf = malloc(COPY_BYTES);
    a.digester = digester_new();
    path_segment(path, x->store->dir, l->folder, base, FILE_LOG);
    a.from = io_open(x->io, path, IO_OPEN_READ);
    int rc = a.from < 0 && a.from != -ENOENT ? a.from : 0;
    if (a.from >= 0 && (rc = io_fstat(x->io, a.from, &st)) >= 0) a.size = st.size_bytes;
    if (rc >= 0) rc = folder_make(x->sh, l); /* where it was missing */
    path_swap(path, x->store->dir, l->folder, base, id, FILE_LOG);
    if (rc >= 0) a.to = rc = io_open(x->io, path, IO_OPEN_READ | IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_TRUNC);
    if (rc >= 0 && (!a.buf || !a.digester)) rc = -ENOMEM;
    if (rc >= 0) rc = copy_sound(&a);
    if (rc >= 0) rc = io_sync(x->io, a.to);
    if (rc >= 0) rc = index_new(&a, &index, &first_timestamp);
    if (rc >= 0) rc = index_file_new(&a, &index, FILE_INDEX, id);
    if (rc >= 0) rc = index_file_new(&a, &index, FILE_TIMEINDEX, id);
    enum err err = rc < 0 ? err_from_errno(rc) : swap(&a, &index, first_timestamp, id);
    if (a.from >= 0) (void)io_close(x->io, a.from);
    if (a.to >= 0) (void)io_close(x->io, a.to); /* synced before */
    index_free(&index);
    digester_free(a.digester);
    free(a.buf);
    if (err != OK) failed(x, err, l->folder, "a segment cannot be written without its damage");
}

/* ---- what is made from batches ----------------------------------------------------------------------------- */

static bool file_is(struct life *x, struct log_impl *l, const struct segment *s, enum file_kind kind, const uint8_t *want, size_t want_len) {
    char path[PATH_BYTES];
    uint8_t *data = NULL;
    size_t len = 0;
    path_segment(path, x->store->dir, l->folder, s->base, kind);
    bool is = io_read_file(x->io, path, INT32_MAX, &data, &len) >= 0 ? len == want_len && memcmp(data, want, len) == 0 : want_len == 0;
    free(data);
    return is;
}

/* Makes the index again from the batches; what the files hold is kept only if it is the same. */
static void compare_index(struct life *x, struct log_impl *l, struct segment *s) {
    impl_change(l);
    s->index_bytes = s->time_index_bytes = 0;
    s->reindex = true;
    s->reindex_end = s->base;
    s->reindex_position = 0;
    enum err err = truncate_reindex(l, s);
    if (err != OK) {
        failed(x, err, l->folder, "an index cannot be made");
        return;
    }
    uint32_t offsets = s->index ? s->index->offset_count : 0, times = s->index ? s->index->time_count : 0;
    uint8_t *a = malloc((size_t)offsets * INDEX_ENTRY_BYTES + 1), *b = malloc((size_t)times * TIME_ENTRY_BYTES + 1);
    if (!a || !b) {
        failed(x, ERR_NOMEM, l->folder, "an index cannot be made");
    } else {
        if (offsets) index_encode(s->index, 0, offsets, a);
        if (times) index_encode_times(s->index, 0, times, b);
        bool same = file_is(x, l, s, FILE_INDEX, a, (size_t)offsets * INDEX_ENTRY_BYTES) && file_is(x, l, s, FILE_TIMEINDEX, b, (size_t)times * TIME_ENTRY_BYTES);
        char path[PATH_BYTES];
        for (int k = 0; k < 2 && !same; k++) {
            path_segment(path, x->store->dir, l->folder, s->base, k ? FILE_TIMEINDEX : FILE_INDEX);
            int rc = io_unlink(x->io, path);
            if (rc < 0 && rc != -ENOENT) failed(x, err_from_errno(rc), path, "it cannot be removed");
            files_forget(&x->sh->files, l->pub.plid, s->base);
        }
        if (!same) x->r->note(x->r->ctx, path, "the indexes of this segment are made again from its batches");
        if (same && s->index) segment_index_written(s, offsets, times);
        if (!same) impl_dirty(l);
    }
    free(a);
    free(b);
}

struct snapshots { struct life *x; struct log_impl *l; };
static void look_at_snapshot(void *ctx, const char *name, bool is_dir) {
    struct snapshots *y = ctx;
    struct life *x = y->x;
    int64_t base;
    char path[PATH_BYTES];
    uint8_t *data;
    size_t len;
    if (is_dir || file_parse(name, &base) != FILE_SNAPSHOT) return;
    path_in_folder(path, x->store->dir, y->l->folder, name);
    if (io_read_file(x->io, path, SNAPSHOT_BYTES_MAX, &data, &len) < 0) return;
    struct producers p;
    producers_init(&p);
    bool sound = producers_from_snapshot(&p, data, len) == OK;
    producers_free(&p);
    free(data);
    if (sound) return;
    int rc = io_unlink(x->io, path);
    if (rc < 0) failed(x, err_from_errno(rc), path, "it cannot be removed");
    else x->r->note(x->r->ctx, path, "removed: it was damaged, and holds nothing that is not elsewhere");
}

/* ---- all ----------------------------------------------------------------------------------------------------- */

static void mend_log(struct life *x, struct log_impl *l) {
    struct snapshots y = {x, l};
    char path[PATH_BYTES];
    for (uint32_t k = 0; k < l->segment_count && x->err == OK; k++) {
        struct segment *s = &l->segments[k];
        if (s->size_bytes == 0) continue;
        if (faulty_overlaps(l, s->base, 0, s->size_bytes)) write_anew(x, l, s);
        else compare_index(x, l, s);
    }
    impl_change(l);
    impl_dirty(l); /* Kafka's checkpoint files of the folder are written anew at the stop */
    path_folder(path, x->store->dir, l->folder);
    int rc = x->err == OK ? io_list(x->io, path, look_at_snapshot, &y) : 0;
    if (rc < 0 && rc != -ENOENT) failed(x, err_from_errno(rc), path, "it cannot be listed");
}

static void mend(struct life *x) {
    for (uint32_t i = 0; i < x->sh->log_count && x->err == OK; i++)
        if (!x->sh->logs[i]->delete_joined) mend_log(x, x->sh->logs[i]);
    if (x->err == OK) settle(x);
}

enum err log_repair(struct io *io, const struct log_store_config *cfg, const struct repair *r, struct repair_report *report, char *why, size_t why_len) {
    ASSERT(cfg->shards == 1);
    *report = (struct repair_report){0};
    struct life x = {.io = io, .r = r, .report = report, .why = why, .why_len = why_len};
    void (*const work[])(struct life *x) = {NULL, find_damage, mend};
    for (size_t i = 0; i < ARRAY_LEN(work) && x.err == OK; i++) {
        if (life_begin(&x, cfg) == OK && work[i]) work[i](&x);
        (void)life_end(&x);
    }
    return x.err;
}
