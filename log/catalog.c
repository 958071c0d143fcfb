/* catalog.c - the catalogue file: loading, renewing at start, and committing checkpoints. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "base/trace.h"
#include "log/catalog_impl.h"

#define CATALOG_BYTES_MAX ((size_t)1 << 31)

/* ---- the path and its relatives ------------------------------------------------------------ */

static enum err set_path(struct catalog *c, struct io *io, const char *path) {
    *c = (struct catalog){.io = io, .fd = -1, .tmp_fd = -1};
    size_t len = strlen(path);
    const char *slash = strrchr(path, '/');
    c->path = strdup(path);
    c->tmp_path = malloc(len + 5);
    c->folder = slash != NULL ? strndup(path, (size_t)(slash - path)) : strdup(".");
    if (c->path == NULL || c->tmp_path == NULL || c->folder == NULL) {
        catalog_close(c);
        return ERR_NOMEM;
    }
    snprintf(c->tmp_path, len + 5, "%s.tmp", path);
    return OK;
}

static enum err reopen(struct catalog *c) {
    if (c->fd >= 0) io_close(c->io, c->fd);
    c->fd = io_open(c->io, c->path, IO_OPEN_READ | IO_OPEN_WRITE);
    return c->fd < 0 ? err_from_errno(c->fd) : OK;
}

void catalog_close(struct catalog *c) {
    if (c->path != NULL && c->fd >= 0) io_close(c->io, c->fd);
    if (c->path != NULL && c->tmp_fd >= 0) io_close(c->io, c->tmp_fd);
    free(c->path);
    free(c->tmp_path);
    free(c->folder);
    free(c->live);
    free(c->next_live);
    free(c->buf);
    free(c->old);
    *c = (struct catalog){.fd = -1, .tmp_fd = -1};
}

void catalog_attach(struct catalog *c, struct io *io) { c->io = io; }

/* A stop makes two checkpoints, and the next start writes the file anew. */
uint64_t catalog_bytes(const struct catalog *c) { return c->live_bytes + c->promised_bytes + 3 * CATALOG_FOOTER_BYTES_MAX; }

/* ---- start ----------------------------------------------------------------------------------- */

enum err catalog_create(struct catalog *c, struct io *io, const char *path, const struct catalog_footer *f) {
    enum err err = set_path(c, io, path);
    if (err != OK) return err;
    err = catalog_renew(c, f);
    if (err != OK) catalog_close(c);
    return err;
}

static int live_order(const void *a, const void *b) {
    const struct catalog_live *x = a, *y = b;
    if (x->plid != y->plid) return x->plid < y->plid ? -1 : 1;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

struct load {
    struct catalog_live *all;     /* every STATE and REMOVED, bytes 0 for the latter */
    size_t count, cap;
    struct catalog_footer footer;
};

static enum err load_record(void *ctx, size_t offset, const struct catalog_record *r, const struct catalog_footer *footer) {
    struct load *l = ctx;
    if (footer != NULL) {
        l->footer = *footer;
        return OK;
    }
    if (l->count == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 64;
        struct catalog_live *all = realloc(l->all, cap * sizeof *all);
        if (all == NULL) return ERR_NOMEM;
        l->all = all;
        l->cap = cap;
    }
    l->all[l->count++] = (struct catalog_live){r->plid, offset, r->type == CATALOG_STATE ? r->bytes : 0};
    return OK;
}

/* Keeps the newest record of each plid, and of those only states. */
static void keep_newest(struct catalog *c, struct load *l) {
    if (l->count > 0) qsort(l->all, l->count, sizeof *l->all, live_order);
    size_t kept = 0;
    for (size_t i = 0; i < l->count; i++) {
        bool newest = i + 1 == l->count || l->all[i + 1].plid != l->all[i].plid;
        if (!newest || l->all[i].bytes == 0) continue;
        c->live_bytes += l->all[i].bytes;
        l->all[kept++] = l->all[i];
    }
    c->live = l->all;
    c->live_count = (uint32_t)kept;
    l->all = NULL;
}

enum err catalog_load(struct catalog *c, struct io *io, const char *path, struct catalog_footer *f,
                      enum err (*state)(void *ctx, uint64_t plid, const uint8_t *data, uint32_t len), void *ctx,
                      char *why, size_t why_len) {
    enum err err = set_path(c, io, path);
    if (err != OK) return err;
    size_t len = 0;
    struct load l = {0};
    struct catalog_extent x = {0};
    int rc = io_read_file(io, path, CATALOG_BYTES_MAX, &c->old, &len);
    if (rc < 0) {
        err = rc == -ENOENT ? ERR_NOT_FOUND : rc == -ENOMEM ? ERR_NOMEM : ERR_IO;
        snprintf(why, why_len, "%s cannot be read: %s", path, strerror(-rc));
    } else {
        err = catalog_walk(c->old, len, load_record, &l, &x);
        if (err == ERR_CORRUPT)
            snprintf(why, why_len, "%s is damaged at position %zu, before its last complete checkpoint", path,
                     x.bad_at == SIZE_MAX ? (size_t)0 : x.bad_at);
    }
    if (err == OK) {
        keep_newest(c, &l);
        c->file_bytes = x.complete_bytes;
        c->last_footer = x.last_footer;
        *f = l.footer;
    }
    for (uint32_t i = 0; err == OK && i < c->live_count; i++) {
        struct catalog_record r;
        err = catalog_record_parse(c->old, len, c->live[i].offset, &r);
        if (err == OK) err = state(ctx, r.plid, r.data, r.len);
        if (err != OK) snprintf(why, why_len, "%s: the state of log %llu cannot be used: %s", path,
                                (unsigned long long)c->live[i].plid, err_str(err));
    }
    free(l.all);
    if (err != OK) catalog_close(c);
    return err;
}

/* The live records of `old` and a footer, in one buffer. `live` gets its new places. ERR_CORRUPT: a record is not
 * what it was when it was written. */
static enum err assemble(const uint8_t *old, size_t old_len, struct catalog_live *live, uint32_t count, uint64_t live_bytes,
                         const struct catalog_footer *f, uint8_t **out, size_t *out_len, uint64_t *footer_at) {
    uint8_t *buf = calloc(1, live_bytes + CATALOG_FOOTER_BYTES_MAX);
    if (buf == NULL) return ERR_NOMEM;
    size_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct catalog_record r;
        bool same = catalog_record_parse(old, old_len, live[i].offset, &r) == OK && r.plid == live[i].plid;
        if (!same || r.bytes != live[i].bytes) {
            free(buf);
            return ERR_CORRUPT;
        }
        memcpy(buf + at, old + live[i].offset, r.bytes);
        live[i].offset = at;
        at += r.bytes;
    }
    uint32_t footer_bytes = 0;
    uint8_t *footer = catalog_footer_build(f, buf, at, count, 0, at, &footer_bytes);
    if (footer == NULL) {
        free(buf);
        return ERR_NOMEM;
    }
    memcpy(buf + at, footer, footer_bytes);
    free(footer);
    *footer_at = at;
    *out = buf;
    *out_len = at + footer_bytes;
    return OK;
}

enum err catalog_renew(struct catalog *c, const struct catalog_footer *f) {
    uint8_t *buf;
    size_t len;
    uint64_t footer_at;
    enum err err = assemble(c->old, c->file_bytes, c->live, c->live_count, c->live_bytes, f, &buf, &len, &footer_at);
    if (err != OK) return err;
    int rc = io_replace_file(c->io, c->path, buf, len);
    free(buf);
    free(c->old);
    c->old = NULL;
    if (rc < 0) return err_from_errno(rc);
    c->file_bytes = len;
    c->last_footer = footer_at;
    return reopen(c);
}

/* ---- commit ---------------------------------------------------------------------------------- */

static void finish(struct catalog *c, enum err err) {
    free(c->buf);
    free(c->old);
    free(c->next_live);
    c->buf = c->old = NULL;
    c->next_live = NULL;
    c->promised_bytes = 0;
    c->done(c->ctx, err);
}

static void adopt(struct catalog *c, uint64_t file_bytes, uint64_t last_footer) {
    free(c->live);
    c->live = c->next_live;
    c->live_count = c->next_count;
    c->live_bytes = c->next_bytes;
    c->next_live = NULL;
    c->file_bytes = file_bytes;
    c->last_footer = last_footer;
}

static void submit(struct catalog *c, enum io_kind kind, int fd, uint64_t offset, void (*done)(struct io_op *op)) {
    c->op = (struct io_op){.kind = kind, .fd = fd, .offset = offset, .done = done};
    if (kind == IO_WRITE) {
        c->iov = (struct iovec){c->buf, c->buf_len};
        c->op.iov = &c->iov;
        c->op.iov_count = 1;
    } else if (kind == IO_READ) {
        c->op.buf = c->old;
        c->op.len = (uint32_t)c->file_bytes;
    }
    io_submit(c->io, &c->op);
}

/* A write that found no space leaves bytes behind the last footer: away with them, durably, before the next attempt. */
static enum err cut_back(struct catalog *c) {
    int rc = io_truncate(c->io, c->fd, c->file_bytes);
    if (rc == 0) rc = io_sync(c->io, c->fd);
    return rc < 0 ? ERR_IO : ERR_NOSPACE;
}

static enum err write_error(const struct catalog *c) {
    if (c->op.result == (int64_t)c->buf_len) return OK;
    bool full = c->op.result >= 0 || c->op.result == -ENOSPC || c->op.result == -EDQUOT;
    return full ? ERR_NOSPACE : ERR_IO;
}

static void append_synced(struct io_op *op) {
    struct catalog *c = CONTAINER_OF(op, struct catalog, op);
    if (op->result < 0) {
        finish(c, ERR_IO);
        return;
    }
    adopt(c, c->file_bytes + c->buf_len, c->next_footer);
    finish(c, OK);
}

static void append_written(struct io_op *op) {
    struct catalog *c = CONTAINER_OF(op, struct catalog, op);
    enum err err = write_error(c);
    if (err == ERR_NOSPACE) err = cut_back(c);
    if (err == OK) submit(c, IO_SYNC, c->fd, 0, append_synced);
    else finish(c, err);
}

static void abandon_rewrite(struct catalog *c, enum err err) {
    if (c->tmp_fd >= 0) io_close(c->io, c->tmp_fd);
    c->tmp_fd = -1;
    if (err == ERR_NOSPACE && io_unlink(c->io, c->tmp_path) < 0) err = ERR_IO;
    finish(c, err);
}

static void rewrite_synced(struct io_op *op) {
    struct catalog *c = CONTAINER_OF(op, struct catalog, op);
    int rc = (int)op->result;
    if (rc >= 0) rc = io_rename(c->io, c->tmp_path, c->path);
    if (rc >= 0) rc = io_sync_dir(c->io, c->folder);
    if (rc < 0) {
        abandon_rewrite(c, ERR_IO);
        return;
    }
    io_close(c->io, c->fd);
    c->fd = c->tmp_fd;
    c->tmp_fd = -1;
    adopt(c, c->buf_len, c->next_footer);
    finish(c, OK);
}

static void rewrite_written(struct io_op *op) {
    struct catalog *c = CONTAINER_OF(op, struct catalog, op);
    enum err err = write_error(c);
    if (err == OK) submit(c, IO_SYNC, c->tmp_fd, 0, rewrite_synced);
    else abandon_rewrite(c, err);
}

/* `old` holds the file; `buf` the new records, which the merged list names at file_bytes and beyond. */
static void rewrite_work(struct io_op *op) {
    struct catalog *c = CONTAINER_OF(op, struct catalog, op);
    uint8_t *whole;
    size_t len;
    memcpy(c->old + c->file_bytes, c->buf, c->buf_len);
    c->work_err = assemble(c->old, c->file_bytes + c->buf_len, c->next_live, c->next_count, c->next_bytes, &c->footer,
                           &whole, &len, &c->next_footer);
    if (c->work_err != OK) return;
    free(c->buf);
    c->buf = whole;
    c->buf_len = len;
}

static void rewrite_made(struct io_op *op) {
    struct catalog *c = CONTAINER_OF(op, struct catalog, op);
    enum err err = c->work_err;
    if (err != OK) {
        if (err == ERR_CORRUPT) trace_error("journal", "%s: a record has changed on disk since it was written", c->path);
        finish(c, err == ERR_NOMEM ? ERR_NOMEM : ERR_IO);
        return;
    }
    c->tmp_fd = io_open(c->io, c->tmp_path, IO_OPEN_READ | IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_TRUNC);
    bool passes = c->tmp_fd == -ENOSPC || c->tmp_fd == -EDQUOT || c->tmp_fd == -EMFILE || c->tmp_fd == -ENFILE;
    if (c->tmp_fd < 0) finish(c, passes ? ERR_NOSPACE : ERR_IO);
    else submit(c, IO_WRITE, c->tmp_fd, 0, rewrite_written);
}

static void help(struct catalog *c, void (*work)(struct io_op *op), void (*done)(struct io_op *op)) {
    c->op = (struct io_op){.kind = IO_WORK, .work = work, .done = done};
    io_submit(c->io, &c->op);
}

static void rewrite_read(struct io_op *op) {
    struct catalog *c = CONTAINER_OF(op, struct catalog, op);
    if (op->result != (int64_t)c->file_bytes) finish(c, ERR_IO);
    else help(c, rewrite_work, rewrite_made);
}

static int state_order(const void *a, const void *b) {
    const struct journal_state *x = a, *y = b;
    return (x->plid > y->plid) - (x->plid < y->plid);
}

/* Encodes the states into `buf` (room for a footer behind them). */
static enum err encode_states(struct catalog *c, struct journal_state *states, uint32_t count) {
    size_t bytes = CATALOG_FOOTER_BYTES_MAX;
    for (uint32_t i = 0; i < count; i++) bytes += catalog_record_bytes(states[i].len);
    if (bytes > CATALOG_BYTES_MAX) return ERR_TOO_LARGE;
    c->buf = malloc(bytes);
    c->next_live = malloc((c->live_count + count + 1) * sizeof *c->next_live);
    if (c->buf == NULL || c->next_live == NULL) return ERR_NOMEM;
    c->buf_len = 0;
    for (uint32_t i = 0; i < count; i++) {
        enum catalog_record_type type = states[i].data != NULL ? CATALOG_STATE : CATALOG_REMOVED;
        c->buf_len += catalog_record_put(c->buf + c->buf_len, type, states[i].plid, states[i].data, states[i].len);
    }
    return OK;
}

/* The live list as it will be: the old one with `states`, both ascending, merged. */
static void merge(struct catalog *c, const struct journal_state *states, uint32_t count) {
    uint32_t old = 0;
    uint64_t at = c->file_bytes;
    c->next_count = 0;
    c->next_bytes = 0;
    for (uint32_t i = 0; i <= count; i++) {
        while (old < c->live_count && (i == count || c->live[old].plid < states[i].plid)) {
            c->next_bytes += c->live[old].bytes;
            c->next_live[c->next_count++] = c->live[old++];
        }
        if (i == count) break;
        if (old < c->live_count && c->live[old].plid == states[i].plid) old++;
        uint32_t bytes = catalog_record_bytes(states[i].len);
        if (states[i].data != NULL) {
            c->next_live[c->next_count++] = (struct catalog_live){states[i].plid, at, bytes};
            c->next_bytes += bytes;
        }
        at += bytes;
    }
}

static void commit_work(struct io_op *op) {
    struct catalog *c = CONTAINER_OF(op, struct catalog, op);
    uint32_t footer_bytes = 0;
    if (c->state_count > 0) qsort(c->states, c->state_count, sizeof *c->states, state_order);
    c->work_err = encode_states(c, c->states, c->state_count);
    if (c->work_err != OK) return;
    merge(c, c->states, c->state_count);
    c->next_footer = c->file_bytes + c->buf_len;
    uint8_t *footer = catalog_footer_build(&c->footer, c->buf, c->buf_len, c->state_count, c->last_footer, c->next_footer, &footer_bytes);
    if (footer == NULL) {
        c->work_err = ERR_NOMEM;
        return;
    }
    uint64_t appended = c->next_footer + footer_bytes;
    c->rewriting = appended > CATALOG_REWRITE_MIN_BYTES && appended > 2 * (c->next_bytes + footer_bytes);
    if (c->rewriting) {
        c->old = malloc(c->file_bytes + c->buf_len + 1);
        if (c->old == NULL) c->work_err = ERR_NOMEM;
    } else {
        memcpy(c->buf + c->buf_len, footer, footer_bytes);
        c->buf_len += footer_bytes;
    }
    free(footer);
}

static void commit_made(struct io_op *op) {
    struct catalog *c = CONTAINER_OF(op, struct catalog, op);
    if (c->work_err != OK) {
        finish(c, c->work_err);
        return;
    }
    c->promised_bytes = c->next_bytes;
    if (c->rewriting) submit(c, IO_READ, c->fd, 0, rewrite_read);
    else submit(c, IO_WRITE, c->fd, c->file_bytes, append_written);
}

void catalog_commit(struct catalog *c, struct journal_state *states, uint32_t count, const struct catalog_footer *f,
                    void (*done)(void *ctx, enum err err), void *ctx) {
    ASSERT(c->buf == NULL);
    c->done = done;
    c->ctx = ctx;
    c->footer = *f;
    c->states = states;
    c->state_count = count;
    help(c, commit_work, commit_made);
}
