/* digests.c - see digests.h. */
#include "log/digests.h"
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "base/trace.h"
#include "log/store.h"
#include "log/writer.h"

bool digests_wanted(const struct file *file, const struct segment *s) { return s->sealed && !file->digests && !file->digests_tried; }

void digests_free(struct files *f, struct file *file) {
    if (!file->digests) return;
    f->digest_bytes -= file->digests->bytes;
    free(file->digests->sealed.chunks);
    free(file->digests->verified);
    free(file->digests);
    file->digests = NULL;
    file->digests_tried = false;
}

static void make_room(struct files *f, uint64_t bytes) {
    LIST_FOREACH(it, &f->idle) {
        if (f->digest_bytes + bytes <= DIGESTS_BYTES_MAX) return;
        digests_free(f, LIST_ENTRY(it, struct file, lru));
    }
}

/* Takes the segment's part out of the manifest. */
static void keep(struct digest_load *x) {
    struct files *f = &x->log->pub.shard->files;
    const struct sealed_segment *found = manifest_find(&x->manifest, x->base);
    if (!found || found->size_bytes != x->size_bytes) return;
    uint64_t marks = sealed_chunks(x->size_bytes) / 8 + 1, bytes = sizeof(struct digests) + sealed_chunks(x->size_bytes) * sizeof(uint64_t) + marks;
    make_room(f, bytes);
    if (f->digest_bytes + bytes > DIGESTS_BYTES_MAX) return;
    struct digests *d = calloc(1, sizeof *d);
    uint8_t *verified = d ? calloc(1, marks) : NULL;
    if (!verified) {
        free(d);
        return;
    }
    struct sealed_segment *s = &x->manifest.segments[found - x->manifest.segments];
    *d = (struct digests){.sealed = *s, .verified = verified, .bytes = bytes};
    s->chunks = NULL; /* ours now */
    f->digest_bytes += bytes;
    x->file->digests = d;
}

static void end(struct digest_load *x) {
    void (*done)(struct digest_load *x) = x->done;
    digest_load_free(x);
    done(x);
}

/* No digest rather than a wrong one; batches have their own checks. */
static void remake(struct log_impl *l) {
    struct log_shard *sh = l->pub.shard;
    trace_error("log", "%s/%s/%s is damaged: it is made again, from what the files hold now", sh->store->dir, l->folder, MANIFEST_FILE);
    enum err err = sh->failed == OK && !sh->stopping ? folder_manifest_remake(sh, l) : OK;
    if (err != OK) trace_error("log", "%s/%s/%s cannot be written: %s", sh->store->dir, l->folder, MANIFEST_FILE, err_str(err));
    else writer_want(l);
}

static void decoded(struct io_op *op) {
    struct digest_load *x = CONTAINER_OF(op, struct digest_load, op);
    struct log_impl *l = x->log;
    if (x->err == OK && x->manifest.plid != l->pub.plid) x->err = ERR_CORRUPT;
    if (x->err == OK && x->change == l->change) keep(x);
    else if (x->err == ERR_CORRUPT && !l->folder_moved && !l->delete_joined) remake(l);
    end(x);
}

static void decode(struct io_op *op) {
    struct digest_load *x = CONTAINER_OF(op, struct digest_load, op);
    x->err = manifest_decode(&x->manifest, x->data, op->len);
}

static void manifest_read(struct io_op *op) {
    struct digest_load *x = CONTAINER_OF(op, struct digest_load, op);
    if (op->result != (int64_t)op->len) {
        end(x);
        return;
    }
    op->kind = IO_WORK;
    op->work = decode;
    op->done = decoded;
    io_submit(x->log->pub.shard->io, op);
}

static void nothing(struct io_op *op) { end(CONTAINER_OF(op, struct digest_load, op)); }
static void no_work(struct io_op *op) { (void)op; }

void digests_load(struct digest_load *x, struct log_impl *l, const struct segment *s, struct file *file, void (*done)(struct digest_load *x),
                  void *owner) {
    struct log_shard *sh = l->pub.shard;
    *x = (struct digest_load){.log = l, .file = file, .base = s->base, .size_bytes = s->size_bytes, .change = l->change, .fd = -1, .done = done,
                              .owner = owner, .err = ERR_IO};
    manifest_init(&x->manifest);
    file->digests_tried = true;
    char path[PATH_BYTES];
    struct io_stat st = {0};
    path_in_folder(path, sh->store->dir, l->folder, MANIFEST_FILE);
    x->fd = l->folder_moved ? -1 : io_open(sh->io, path, IO_OPEN_READ);
    if (x->fd >= 0 && io_fstat(sh->io, x->fd, &st) >= 0 && st.size_bytes > 0 && st.size_bytes <= DIGESTS_MANIFEST_MAX) x->data = malloc(st.size_bytes);
    if (x->data) x->op = (struct io_op){.kind = IO_READ, .fd = x->fd, .buf = x->data, .len = (uint32_t)st.size_bytes, .done = manifest_read};
    else x->op = (struct io_op){.kind = IO_WORK, .work = no_work, .done = nothing}; /* never from inside the call */
    io_submit(sh->io, &x->op);
}

void digest_load_free(struct digest_load *x) {
    if (!x->log) return;
    if (x->fd >= 0) (void)io_close(x->log->pub.shard->io, x->fd);
    x->fd = -1;
    free(x->data);
    x->data = NULL;
    manifest_free(&x->manifest);
    x->log = NULL;
}

bool digests_cover(const struct digests *d, uint32_t from, uint32_t to) {
    for (uint64_t c = from / MANIFEST_CHUNK_BYTES; c * MANIFEST_CHUNK_BYTES < to; c++)
        if (!digests_verified(d, c)) return false;
    return true;
}

bool digests_check(struct digests *d, const uint8_t *data, uint32_t from, uint32_t len, bool again, uint64_t *chunk) {
    ASSERT(from % MANIFEST_CHUNK_BYTES == 0);
    uint64_t size = d->sealed.size_bytes;
    for (uint64_t c = MAX(*chunk, (uint64_t)from / MANIFEST_CHUNK_BYTES); c < sealed_chunks(size); c++) {
        uint64_t at = c * MANIFEST_CHUNK_BYTES, n = MIN((uint64_t)MANIFEST_CHUNK_BYTES, size - at);
        if (at + n > (uint64_t)from + len) return true;
        if (!again && digests_verified(d, c)) continue;
        if (!sealed_chunk_ok(&d->sealed, c, data + (at - from), n)) {
            *chunk = c;
            return false;
        }
        d->verified[c / 8] |= (uint8_t)(1u << c % 8);
    }
    return true;
}
