/* journal_pieces.c - the piece files: made once (zeros through O_DIRECT, so that no later write changes the file
 * system's own data), used along the chain of LINKs, free again after a checkpoint, used again. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "base/assert.h"
#include "base/trace.h"
#include "log/journal_impl.h"
#include "log/mutant.h"

void journal_piece_path_of(const struct journal *j, uint32_t piece, char *out, size_t len) {
    journal_piece_path(out, len, j->cfg.dir, j->cfg.index, piece);
}

int journal_piece_open(struct journal *j, uint32_t piece, bool create) {
    char path[4096];
    journal_piece_path_of(j, piece, path, sizeof path);
    int flags = IO_OPEN_READ | IO_OPEN_WRITE | (create ? IO_OPEN_CREATE : 0) | (j->cfg.direct ? IO_OPEN_DIRECT : 0);
    return io_open(j->io, path, flags);
}

int journal_fd(const struct journal *j, uint32_t piece) {
    ASSERT(piece < j->piece_slots);
    return j->pieces[piece].fd;
}

static struct buf *zeros_new(const struct journal *j) {
    uint32_t len = MIN(JOURNAL_WRITE_BYTES, j->piece_bytes);
    struct buf *b = buf_new(len, IO_BLOCK_BYTES);
    if (b != NULL) memset(b->data, 0, len);
    return b;
}

static uint32_t absent_slot(const struct journal *j) {
    for (uint32_t i = 0; i < j->piece_slots; i++)
        if (j->pieces[i].state == PIECE_ABSENT) return i;
    return UINT32_MAX;
}

/* Its space was set aside as that of a piece to be made; the disk is looked at later. */
static void piece_made(struct journal *j, uint32_t piece) {
    if (!MUTANT(PIECE_FORGOTTEN)) atomic_fetch_sub_explicit(&j->free_bytes, (int64_t)j->piece_bytes, memory_order_relaxed);
    j->pieces[piece].state = PIECE_FREE;
    j->piece_count++;
    j->free_count++;
}

static int zero_now(struct journal *j, int fd, const struct buf *zeros, uint32_t from) {
    for (uint32_t at = from; at < j->piece_bytes;) {
        uint32_t n = MIN(zeros->cap, j->piece_bytes - at);
        int64_t rc = io_pwrite(j->io, fd, zeros->data, n, at);
        if (rc < 0) return (int)rc;
        if (rc != n) return -ENOSPC;
        at += n;
    }
    int rc = io_sync(j->io, fd);
    return rc < 0 ? rc : io_sync_dir(j->io, j->folder);
}

enum err journal_piece_make_now(struct journal *j, uint32_t *piece) {
    uint32_t i = absent_slot(j);
    if (i == UINT32_MAX) return ERR_FULL;
    struct buf *zeros = zeros_new(j);
    if (zeros == NULL) return ERR_NOMEM;
    int fd = journal_piece_open(j, i, true);
    int rc = fd < 0 ? fd : zero_now(j, fd, zeros, 0);
    buf_unref(zeros);
    if (rc < 0) {
        if (fd >= 0) io_close(j->io, fd);
        return err_from_errno(rc);
    }
    j->pieces[i].fd = fd;
    piece_made(j, i);
    *piece = i;
    return OK;
}

int journal_piece_finish_now(struct journal *j, uint32_t piece, uint32_t from) {
    struct buf *zeros = zeros_new(j);
    if (zeros == NULL) return -ENOMEM;
    int rc = zero_now(j, j->pieces[piece].fd, zeros, from);
    buf_unref(zeros);
    return rc;
}

/* ---- a piece written anew ---------------------------------------------------------------------------- */

static void renewed_path(const struct journal *j, char *out, size_t len) { snprintf(out, len, "%s/renewed.tmp", j->folder); }

int journal_piece_renew_begin(struct journal *j) {
    char path[4096];
    renewed_path(j, path, sizeof path);
    int rc = io_unlink(j->io, path);
    return rc == -ENOENT ? 0 : rc;
}

/* False: there is none. */
static bool give_up_free_piece(struct journal *j) {
    char path[4096];
    for (uint32_t i = 0; i < j->piece_slots; i++) {
        struct piece *p = &j->pieces[i];
        if (p->state != PIECE_FREE) continue;
        journal_piece_path_of(j, i, path, sizeof path);
        if (io_unlink(j->io, path) < 0) return false;
        io_close(j->io, p->fd);
        *p = (struct piece){.fd = -1};
        j->piece_count--;
        j->free_count--;
        return true;
    }
    return false;
}

static int write_renewed(struct journal *j, int fd, const uint8_t *image) {
    for (uint32_t at = 0; at < j->piece_bytes;) {
        uint32_t n = MIN(JOURNAL_WRITE_BYTES, j->piece_bytes - at);
        int64_t rc = io_pwrite(j->io, fd, image + at, n, at);
        bool full = rc >= 0 ? rc < n : rc == -ENOSPC || rc == -EDQUOT;
        if (!full && rc < 0) return (int)rc;
        if (full && !give_up_free_piece(j)) return -ENOSPC;
        if (!full) at += n;
    }
    return io_sync(j->io, fd);
}

int journal_piece_renew_now(struct journal *j, uint32_t piece, const uint8_t *image) {
    char path[4096], name[4096];
    renewed_path(j, path, sizeof path);
    journal_piece_path_of(j, piece, name, sizeof name);
    int flags = IO_OPEN_READ | IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_TRUNC | (j->cfg.direct ? IO_OPEN_DIRECT : 0);
    int fd = io_open(j->io, path, flags);
    if (fd < 0) return fd;
    int rc = write_renewed(j, fd, image), closed = io_close(j->io, fd);
    if (rc == 0) rc = closed;
    if (rc == 0) rc = io_rename(j->io, path, name);
    if (rc < 0) {
        (void)io_unlink(j->io, path); /* else the next start does */
        return rc;
    }
    fd = journal_piece_open(j, piece, false);
    if (fd < 0) return fd;
    io_close(j->io, j->pieces[piece].fd);
    j->pieces[piece].fd = fd;
    j->pieces[piece].bytes = j->piece_bytes;
    return 0;
}

void journal_piece_use(struct journal *j, uint32_t piece) {
    ASSERT(j->pieces[piece].state == PIECE_FREE);
    j->pieces[piece].state = PIECE_USED;
    j->free_count--;
    j->used_count++;
}

uint32_t journal_piece_take(struct journal *j) {
    for (uint32_t i = 0; i < j->piece_slots; i++) {
        if (j->pieces[i].state != PIECE_FREE) continue;
        journal_piece_use(j, i);
        return i;
    }
    return UINT32_MAX;
}

void journal_pieces_release(struct journal *j, uint64_t seq) {
    for (uint32_t i = 0; i < j->piece_slots; i++) {
        struct piece *p = &j->pieces[i];
        if (p->state != PIECE_USED || p->last_seq > seq || i == j->head.piece) continue;
        p->state = PIECE_FREE;
        j->used_count--;
        j->free_count++;
    }
}

/* ---- making pieces while the reactor runs ------------------------------------------------------ */

static void maker_step(struct journal *j);

static void maker_stop(struct journal *j, int rc) {
    struct piece *p = &j->pieces[j->maker.piece];
    j->maker.active = false;
    if (rc >= 0) {
        piece_made(j, j->maker.piece);
        j->maker.failed = false;
        journal_pump(j);
        return;
    }
    io_close(j->io, p->fd);
    p->fd = -1;
    p->state = PIECE_ABSENT;
    if (rc != -ENOSPC && rc != -EDQUOT) {
        journal_fail(j, ERR_IO, "a new journal piece cannot be written");
        return;
    }
    /* A full disk: go on with the pieces there are, and try again. What is left of the file is overwritten then. */
    if (!j->maker.failed)
        trace_warn("journal", "no disk space for another journal piece; using the %u there are", j->piece_count);
    j->maker.failed = true;
    if (!timer_armed(&j->retry_timer)) timer_set(j->timers, &j->retry_timer, io_mono_ns(j->io) + JOURNAL_RETRY_NS);
    journal_pump(j);
}

static void maker_synced(struct io_op *op) {
    struct journal *j = CONTAINER_OF(op, struct journal, maker.op);
    int rc = (int)op->result;
    if (rc >= 0) rc = io_sync_dir(j->io, j->folder);
    maker_stop(j, rc);
}

static void maker_wrote(struct io_op *op) {
    struct journal *j = CONTAINER_OF(op, struct journal, maker.op);
    if (op->result != (int64_t)j->maker.iov.iov_len) {
        maker_stop(j, op->result < 0 ? (int)op->result : -ENOSPC);
        return;
    }
    j->maker.offset += (uint32_t)op->result;
    maker_step(j);
}

static void maker_step(struct journal *j) {
    int fd = j->pieces[j->maker.piece].fd;
    if (j->maker.offset == j->piece_bytes) {
        j->maker.op = (struct io_op){.kind = IO_SYNC, .fd = fd, .done = maker_synced};
    } else {
        j->maker.iov = (struct iovec){j->maker.zeros->data, MIN(j->maker.zeros->cap, j->piece_bytes - j->maker.offset)};
        j->maker.op = (struct io_op){.kind = IO_WRITE, .fd = fd, .offset = j->maker.offset, .iov = &j->maker.iov,
                                     .iov_count = 1, .done = maker_wrote};
    }
    io_submit(j->io, &j->maker.op);
}

static bool piece_wanted(const struct journal *j) {
    if (j->reserve_blocked && j->free_count == 0) return true;
    if (j->piece_count >= j->piece_limit) return false;
    uint32_t free_wanted = j->used_count > 1 ? 1 : 0; /* the reserved piece */
    if (j->head.offset >= j->piece_bytes / 2 || j->piece_blocked || j->space_blocked) free_wanted = 2;
    return j->free_count < free_wanted;
}

void journal_pieces_keep_ahead(struct journal *j) {
    if (j->maker.active || j->maker.failed || j->err != OK || j->mailbox == NULL || !piece_wanted(j)) return;
    uint32_t i = absent_slot(j);
    if (i == UINT32_MAX) return;
    if (j->maker.zeros == NULL) j->maker.zeros = zeros_new(j);
    int fd = j->maker.zeros == NULL ? -ENOMEM : journal_piece_open(j, i, true);
    if (fd < 0) {
        j->maker.failed = true;
        bool passes = fd == -ENOSPC || fd == -EDQUOT || fd == -ENOMEM || fd == -EMFILE || fd == -ENFILE;
        if (!passes) journal_fail(j, ERR_IO, "a new journal piece cannot be made");
        else if (!timer_armed(&j->retry_timer)) timer_set(j->timers, &j->retry_timer, io_mono_ns(j->io) + JOURNAL_RETRY_NS);
        return;
    }
    j->pieces[i].fd = fd;
    j->pieces[i].state = PIECE_MAKING;
    j->maker.piece = i;
    j->maker.offset = 0;
    j->maker.active = true;
    maker_step(j);
}
