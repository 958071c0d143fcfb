/* dump_folder.c - what the other files of a folder tell about its segments. */
#include <dirent.h>
#include <stdlib.h>
#include <sys/stat.h>
#include "log/kafka_files.h"
#include "tools/dump.h"

static uint8_t *read_beside(const char *folder, const char *name, size_t *len) {
    char *path;
    int err;
    if (asprintf(&path, "%s/%s", folder, name) < 0) return NULL;
    uint8_t *data = read_whole(path, len, &err);
    free(path);
    return data;
}

static int by_value(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void list_segments(struct folder *f) {
    DIR *dir = opendir(f->path);
    uint32_t cap = 0;
    if (!dir) return;
    for (struct dirent *e; (e = readdir(dir));) {
        int64_t base;
        if (file_parse(e->d_name, &base) != FILE_LOG) continue;
        if (f->base_count == cap) {
            cap = cap ? cap * 2 : 16;
            int64_t *grown = realloc(f->bases, cap * sizeof *grown);
            if (!grown) break;
            f->bases = grown;
        }
        f->bases[f->base_count++] = base;
    }
    closedir(dir);
    if (f->base_count > 0) qsort(f->bases, f->base_count, sizeof *f->bases, by_value);
}

static struct data_dir *parent_load(const char *path) {
    char *parent;
    if (asprintf(&parent, "%s/..", path) < 0) return NULL;
    struct data_dir *dir = data_dir_load(parent);
    free(parent);
    return dir;
}

void folder_load(struct folder *f, const char *path, const struct data_dir *shared) {
    size_t len;
    *f = (struct folder){.path = strdup(path)};
    if (!f->path) return;
    if (!shared) shared = f->dir = parent_load(path);
    uint8_t *data = read_beside(path, MANIFEST_FILE, &len);
    f->has_manifest = data != NULL;
    f->manifest_ok = data && manifest_decode(&f->manifest, data, len) == OK;
    free(data);
    if (f->manifest_ok && shared) f->known = data_dir_log(shared, f->manifest.plid);
    if (f->known && f->known->epochs.count > 0 && f->known->exact) {
        f->epochs = f->known->epochs;   /* borrowed: see folder_free */
        f->epochs_known = f->epochs_exact = true;
    } else if ((data = read_beside(path, EPOCH_CHECKPOINT_FILE, &len))) {
        f->epochs_known = epochs_from_checkpoint(&f->epochs, (const char *)data, len) == OK && f->epochs.count > 0;
        free(data);
    }
    list_segments(f);
}

void folder_free(struct folder *f) {
    if (f->manifest_ok) manifest_free(&f->manifest);
    if (!f->epochs_exact) epochs_free(&f->epochs);
    data_dir_free(f->dir);
    free(f->bases);
    free(f->path);
    *f = (struct folder){0};
}

static bool is_there(const char *path) {
    struct stat st;
    return stat(path, &st) == 0;
}

/* One log: its first file that is missing, or NULL. malloc'ed. */
static char *missing_of(const char *path, const struct known_log *l) {
    char folder[FOLDER_NAME_BYTES], name[FILE_NAME_BYTES], *file;
    folder_name(folder, l->topic, l->partition);
    for (uint32_t i = 0; i < l->segment_count; i++) {
        file_name(name, l->segments[i].base, FILE_LOG);
        if (l->segments[i].size_bytes == 0 || asprintf(&file, "%s/%s/%s", path, folder, name) < 0) continue;
        if (!is_there(file)) return file;
        free(file);
    }
    return NULL;
}

/* Deletion and retention go on meanwhile: what is missing by one look must be missing by a second, fresh one. */
void verify_missing(struct dump *d, const char *path) {
    struct data_dir *dir = data_dir_load(path), *again = NULL;
    const struct known_log *l;
    for (size_t i = 0; dir && (l = data_dir_at(dir, i)); i++) {
        char *file = l->exact ? missing_of(path, l) : NULL;
        if (!file) continue;
        free(file);
        if (!again && !(again = data_dir_load(path))) break;
        const struct known_log *now = data_dir_log(again, l->plid);
        file = now && now->exact ? missing_of(path, now) : NULL;
        if (file) dump_damage(d, file, 0, "the catalogue names this segment, but it is not there");
        free(file);
    }
    data_dir_free(dir);
    data_dir_free(again);
}
