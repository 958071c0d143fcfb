/* writer.c - see writer.h: who works on what. */
#include "log/writer.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "base/trace.h"
#include "log/store.h"

enum { RETRY_NS = 10 * 1000 * 1000, RETRY_FULL_NS = 200 * 1000 * 1000, SLICE_NS = 500 * 1000 };

void writer_want(struct log_impl *l) {
    struct log_shard *sh = l->pub.shard;
    if (l->writer || sh->failed != OK) return; /* a writer looks again before it lets go */
    if (list_empty(&l->work_link)) list_push_back(&sh->work, &l->work_link);
    if (sh->mailbox) shard_work(sh);
}

static struct seg_writer *writer_idle(struct log_shard *sh) {
    for (int i = 0; i < WRITERS_MAX; i++) {
        if (!sh->writers[i]) {
            struct seg_writer *w = calloc(1, sizeof *w);
            if (!w) return NULL;
            w->sh = sh;
            sh->writers[i] = w;
        }
        if (!sh->writers[i]->log) return sh->writers[i];
    }
    return NULL;
}

/* One loop, whoever calls: a log may be done at once, and thousands of them must not nest. A turn works on them for a slice of time. */
void shard_work(struct log_shard *sh) {
    if (sh->working || timer_armed(&sh->more_work)) return;
    sh->working = true;
    int64_t begun_ns = io_mono_ns(sh->io);
    while (!list_empty(&sh->work) && sh->writers_busy < sh->writers_max && sh->failed == OK) {
        if (sh->timers && io_mono_ns(sh->io) - begun_ns > SLICE_NS) {
            timer_set(sh->timers, &sh->more_work, begun_ns);
            break;
        }
        struct seg_writer *w = writer_idle(sh);
        if (!w) break;
        struct log_impl *l = LIST_ENTRY(list_pop_front(&sh->work), struct log_impl, work_link);
        ASSERT(!l->writer);
        l->writer = w;
        w->log = l;
        w->seal_base = -1;
        w->image_to = 0;
        sh->writers_busy++;
        writer_step(w);
    }
    sh->working = false;
}

void writer_release(struct seg_writer *w) {
    struct log_shard *sh = w->sh;
    struct log_impl *l = w->log;
    ASSERT(l->writer == w && !w->file);
    digester_free(w->digester);
    w->digester = NULL;
    w->log = NULL;
    if (list_empty(&sh->work) && w != sh->writers[0]) {
        /* A burst is over: one writer's memory is enough for what trickles. */
        free(w->buf);
        free(w->bounce);
        w->buf = w->bounce = NULL;
    }
    l->writer = NULL;
    sh->writers_busy--;
    shard_pressure_changed(sh);
    shard_release_log(sh, l);
    shard_work(sh);
}

static void wait_for_name(struct seg_writer *w) {
    struct log_shard *sh = w->sh;
    struct log_impl *l = w->log;
    writer_release(w);
    list_push_back(&sh->waiting, &l->work_link);
    if (!timer_armed(&sh->retry)) timer_set(sh->timers, &sh->retry, io_mono_ns(sh->io) + RETRY_NS);
}

static bool flush_due(const struct log_impl *l) {
    return l->in_checkpoint && l->pub.shard->checkpoint.flushing && !l->flushed;
}

/* A log without bytes is whole in the catalogue: thousands of new ones cost a checkpoint nothing here. */
bool writer_needs_folder(const struct log_impl *l) {
    if (l->folder_made || l->pending_bytes > 0 || l->truncated || l->dropped_count > 0) return true;
    return l->flush_to.position > 0 || l->segments[0].base != l->flush_to.base;
}

static bool anything_durable(const struct log_impl *l) { return l->pending_bytes > 0 || flush_due(l) || l->folder_made || l->reset_due; }

void writer_step(struct seg_writer *w) {
    struct log_shard *sh = w->sh;
    struct log_impl *l = w->log;
    if (sh->failed != OK) {
        writer_release(w);
        return;
    }
    if (l->delete_durable) {
        delete_step(w);
        return;
    }
    /* T1: "until it is durable no byte of that partition goes to a file". */
    if (l->truncates_joined > 0 || !anything_durable(l)) {
        writer_release(w);
        return;
    }
    if (reset_step(w)) return;
    int made = writer_needs_folder(l) ? folder_make(sh, l) : 0;
    if (made == -EEXIST) {
        wait_for_name(w);
        return;
    }
    if (made < 0) {
        writer_fail(w, made, "make the folder");
        return;
    }
    if (truncate_step(w) || drop_step(w) || write_step(w)) return;
    if (finish_step(w, flush_due(l), flush_due(l) && !sh->checkpoint.sync_all)) return;
    if (flush_due(l) && l->droppable_total != l->dropped_total) {
        /* Segments that a LOGSTART has dropped are not written any more, but until it is durable a crash brings them back: the
         * checkpoint must not count on their files before. */
        writer_release(w);
        return;
    }
    if (flush_due(l)) {
        checkpoint_log_flushed(sh, l);
        writer_step(w);
        return;
    }
    if (seal_step(w)) return;
    writer_release(w);
}

void writer_image_durable(struct log_impl *l) {
    struct seg_writer *w = l->writer;
    if (!w || w->op.in_flight) return;
    w->image_durable = true;
    writer_step(w);
}

static void op_done(struct io_op *op) {
    struct seg_writer *w = CONTAINER_OF(op, struct seg_writer, op);
    if (w->file) files_put(&w->sh->files, w->file);
    w->file = NULL;
    if (op->kind == IO_WRITE && op->result > 0) atomic_fetch_add_explicit(&w->sh->store->progress, 1, memory_order_relaxed);
    w->next(w, op->result);
}

void writer_submit(struct seg_writer *w, void (*next)(struct seg_writer *w, int64_t result)) {
    w->next = next;
    w->op.done = op_done;
    w->change = w->log->change;
    io_submit(w->sh->io, &w->op);
}

bool writer_buffers(struct seg_writer *w) {
    if (!w->buf) w->buf = aligned_alloc(IO_BLOCK_BYTES, WRITE_BYTES + IO_BLOCK_BYTES);
    if (!w->bounce) w->bounce = aligned_alloc(IO_BLOCK_BYTES, WRITE_BYTES + IO_BLOCK_BYTES);
    if (w->buf && w->bounce) return true;
    writer_fail(w, -ENOMEM, "get memory to write segments");
    return false;
}

bool writer_open(struct seg_writer *w, int64_t base, enum file_kind kind, int flags) {
    int rc = 0;
    w->file = files_get(&w->sh->files, w->log, base, kind, flags, &rc);
    if (w->file) return true;
    writer_fail(w, rc, "open a segment file");
    return false;
}

void writer_io(struct seg_writer *w, enum io_kind kind, uint32_t skip, uint32_t len, uint64_t offset,
               void (*next)(struct seg_writer *w, int64_t result)) {
    w->op = (struct io_op){.kind = kind, .fd = w->file->fd, .offset = offset};
    if (kind == IO_WRITE) {
        w->iov = (struct iovec){w->buf + skip, len};
        w->op.iov = &w->iov;
        w->op.iov_count = 1;
    } else if (kind == IO_READ) {
        w->op.buf = w->buf + skip;
        w->op.len = len;
    }
    writer_submit(w, next);
}

static bool passes(int64_t neg_errno) {
    return neg_errno == -ENOSPC || neg_errno == -EDQUOT || neg_errno == -EMFILE || neg_errno == -ENFILE;
}

/* The bytes are safe in the journal; they go to the file when there is room, or a descriptor, again. */
static void wait_for_space(struct seg_writer *w, int64_t neg_errno, const char *what) {
    struct log_shard *sh = w->sh;
    struct log_impl *l = w->log;
    if (!sh->disk_full)
        trace_warn("log", "%s/%s: cannot %s: %s; what was acknowledged stays in the journal until that has passed", sh->store->dir, l->folder, what,
                   neg_errno == -ENOSPC ? "the disk is full" : strerror((int)-neg_errno));
    sh->disk_full = true;
    writer_release(w);
    list_push_back(&sh->waiting, &l->work_link);
    if (!timer_armed(&sh->retry)) timer_set(sh->timers, &sh->retry, io_mono_ns(sh->io) + RETRY_FULL_NS);
}

void writer_fail(struct seg_writer *w, int64_t neg_errno, const char *what) {
    struct log_shard *sh = w->sh;
    if (w->file) files_put(&sh->files, w->file);
    w->file = NULL;
    if (passes(neg_errno) && sh->timers) {
        wait_for_space(w, neg_errno, what);
        return;
    }
    trace_error("log", "%s/%s: cannot %s: %s; the data directory is no longer used", sh->store->dir, w->log->folder, what,
                neg_errno < 0 ? strerror((int)-neg_errno) : "short write");
    shard_fail(sh, neg_errno == -ENOSPC ? ERR_NOSPACE : neg_errno == -ENOMEM ? ERR_NOMEM : ERR_IO, "a segment file could not be written");
    writer_release(w);
}

void writers_free(struct log_shard *sh) {
    for (int i = 0; i < WRITERS_MAX; i++) {
        struct seg_writer *w = sh->writers[i];
        if (!w) continue;
        digester_free(w->digester);
        free(w->path);
        free(w->buf);
        free(w->bounce);
        free(w);
        sh->writers[i] = NULL;
    }
    folder_unlinks_free(sh);
}
