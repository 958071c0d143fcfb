/* files.c - see files.h. */
#include "log/files.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/assert.h"
#include "log/digests.h"

enum err files_init(struct files *f, struct io *io, const char *dir, uint32_t max) {
    *f = (struct files){.io = io, .dir = dir, .max = MAX(max, (uint32_t)WRITER_FILES), .slot_count = 64};
    while (f->slot_count < f->max && f->slot_count < 65536) f->slot_count *= 2;
    list_init(&f->idle);
    f->slots = calloc(f->slot_count, sizeof(struct file *));
    return f->slots ? OK : ERR_NOMEM;
}

void path_folder(char out[PATH_BYTES], const char *dir, const char *folder) {
    int n = snprintf(out, PATH_BYTES, "%s/%s", dir, folder);
    ASSERT(n > 0 && n < PATH_BYTES);
}

void path_segment(char out[PATH_BYTES], const char *dir, const char *folder, int64_t base, enum file_kind kind) {
    char name[FILE_NAME_BYTES];
    file_name(name, base, kind);
    path_in_folder(out, dir, folder, name);
}

void path_swap(char out[PATH_BYTES], const char *dir, const char *folder, int64_t base, uint64_t swap_id, enum file_kind kind) {
    char name[SWAP_NAME_BYTES];
    swap_file_name(name, base, swap_id, kind);
    path_in_folder(out, dir, folder, name);
}

void path_in_folder(char out[PATH_BYTES], const char *dir, const char *folder, const char *name) {
    int n = snprintf(out, PATH_BYTES, "%s/%s/%s", dir, folder, name);
    ASSERT(n > 0 && n < PATH_BYTES);
}

static uint32_t slot_of(const struct files *f, uint64_t plid, int64_t base) {
    uint64_t h = (plid * 0x9e3779b97f4a7c15u) ^ ((uint64_t)base * 0xff51afd7ed558ccdu);
    return (uint32_t)(h >> 32) & (f->slot_count - 1);
}

static void file_close(struct files *f, struct file *file) {
    struct file **at = &f->slots[slot_of(f, file->plid, file->base)];
    while (*at != file) at = &(*at)->next;
    *at = file->next;
    list_remove(&file->lru);
    digests_free(f, file);
    (void)io_close(f->io, file->fd); /* its data is safe only after a sync: nothing hangs on this result */
    f->count--;
    free(file);
}

static void make_room(struct files *f) {
    while (f->count >= f->max && !list_empty(&f->idle)) file_close(f, LIST_ENTRY(f->idle.next, struct file, lru));
}

void files_free(struct files *f) {
    if (!f->slots) return;
    for (uint32_t i = 0; i < f->slot_count; i++)
        while (f->slots[i]) file_close(f, f->slots[i]);
    free(f->slots);
    f->slots = NULL;
}

static struct file *find(struct files *f, uint64_t plid, int64_t base, enum file_kind kind, bool direct) {
    for (struct file *file = f->slots[slot_of(f, plid, base)]; file; file = file->next)
        if (file->plid == plid && file->base == base && file->kind == kind && file->direct == direct && !file->forgotten)
            return file;
    return NULL;
}

struct file *files_get(struct files *f, const struct log_impl *l, int64_t base, enum file_kind kind, int flags, int *neg_errno) {
    bool direct = flags & IO_OPEN_DIRECT;
    struct file *file = find(f, l->pub.plid, base, kind, direct);
    if (!file && l->folder_moved) {
        *neg_errno = -ENOENT; /* the name may be another log's by now */
        return NULL;
    }
    if (!file) {
        make_room(f);
        char path[PATH_BYTES];
        const struct segment *s = segment_of(l, base);
        if (s->base == base && s->swap_id) path_swap(path, f->dir, l->folder, base, s->swap_id, kind);
        else path_segment(path, f->dir, l->folder, base, kind);
        int fd = io_open(f->io, path, IO_OPEN_READ | IO_OPEN_WRITE | flags);
        if (fd < 0) {
            *neg_errno = fd;
            return NULL;
        }
        file = calloc(1, sizeof *file);
        if (!file) {
            (void)io_close(f->io, fd);
            *neg_errno = -ENOMEM;
            return NULL;
        }
        *file = (struct file){.fd = fd, .plid = l->pub.plid, .base = base, .kind = (uint8_t)kind, .direct = direct};
        list_init(&file->lru);
        struct file **slot = &f->slots[slot_of(f, file->plid, base)];
        file->next = *slot;
        *slot = file;
        f->count++;
    }
    file->users++;
    list_remove(&file->lru);
    return file;
}

void files_put(struct files *f, struct file *file) {
    if (!file) return;
    ASSERT(file->users > 0);
    if (--file->users > 0) return;
    list_push_back(&f->idle, &file->lru);
    if (file->forgotten) file_close(f, file);
    else if (f->count > f->max) make_room(f);
}

void files_forget(struct files *f, uint64_t plid, int64_t base) {
    for (uint32_t i = 0; i < f->slot_count; i++) {
        if (base >= 0) i = slot_of(f, plid, base);
        for (struct file *file = f->slots[i], *next; file; file = next) {
            next = file->next;
            if (file->plid != plid || (base >= 0 && file->base != base)) continue;
            if (file->users == 0) file_close(f, file);
            else file->forgotten = true;
        }
        if (base >= 0) return;
    }
}

void files_forget_digests(struct files *f, uint64_t plid, int64_t base) {
    for (struct file *file = f->slots[slot_of(f, plid, base)]; file; file = file->next)
        if (file->plid == plid && file->base == base) digests_free(f, file);
}
