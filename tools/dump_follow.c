/* dump_follow.c - `varve dump --follow`: goes on with what is added to the .log files of folders, from segment to segment.
 *
 * A broker writes segment files a moment after it has acknowledged (its journal comes first), so this lags behind what a
 * consumer sees. Files may be cut, dropped or replaced meanwhile: what was shown is told by its offset, not by its place. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include "tools/dump.h"

#define POLL_NS (200 * 1000 * 1000)

struct followed {
    char *path;                   /* of a .log, or of a folder with some */
    bool folder, live;
    int64_t base;                 /* segment at hand; -1: none yet */
    int64_t next_offset;          /* everything below it was shown */
    uint64_t position;
    uint64_t inode;
};
struct follow { struct dump *d; struct followed *v; size_t count, cap; };

static volatile sig_atomic_t interrupted; /* set by the handler, which can reach nothing else */
static void on_signal(int signal) {
    (void)signal;
    interrupted = 1;
}

static struct followed *find(struct follow *f, const char *path, bool folder) {
    for (size_t i = 0; i < f->count; i++)
        if (strcmp(f->v[i].path, path) == 0) return &f->v[i];
    if (f->count == f->cap) {
        size_t cap = f->cap ? f->cap * 2 : 16;
        struct followed *v = realloc(f->v, cap * sizeof *v);
        if (!v) return NULL;
        f->v = v;
        f->cap = cap;
    }
    char *copy = strdup(path);
    if (!copy) return NULL;
    f->v[f->count] = (struct followed){.path = copy, .folder = folder, .base = -1, .next_offset = INT64_MIN};
    return &f->v[f->count++];
}

/* What is new in one file. */
static void show_new(struct follow *f, struct followed *x, const char *path, bool last) {
    struct input in;
    struct stat st;
    if (stat(path, &st) != 0) return;
    if ((uint64_t)st.st_ino != x->inode || (uint64_t)st.st_size < x->position) x->position = 0; /* another file, or cut */
    x->inode = (uint64_t)st.st_ino;
    if ((uint64_t)st.st_size == x->position || input_open(&in, path) != 0) return;
    print_batches(f->d, &in, &x->position, &x->next_offset, !last);
    input_close(&in);
}

static void show_folder(struct follow *f, struct followed *x) {
    struct folder folder;
    char name[FILE_NAME_BYTES], *path;
    folder_load(&folder, x->path, NULL);
    for (uint32_t i = 0; i < folder.base_count; i++) {
        if (folder.bases[i] < x->base) continue;
        bool last = i + 1 == folder.base_count;
        if (folder.bases[i] != x->base) x->position = x->inode = 0;
        x->base = folder.bases[i];
        file_name(name, x->base, FILE_LOG);
        if (asprintf(&path, "%s/%s", x->path, name) < 0) break;
        show_new(f, x, path, last);
        free(path);
    }
    folder_free(&folder);
}

static void look(struct follow *f, const char *path, int depth) {
    struct stat st;
    struct names names;
    if (stat(path, &st) != 0) return;
    if (!S_ISDIR(st.st_mode)) {
        struct followed *x = find(f, path, false);
        if (x) show_new(f, x, path, true);
        return;
    }
    if (names_read(path, &names) != 0) return;
    bool logs = false;
    for (size_t i = 0; i < names.count; i++) {
        int64_t base;
        char *below;
        logs |= file_parse(names.v[i], &base) == FILE_LOG;
        struct str topic;
        int32_t partition;
        if (folder_parse(names.v[i], &topic, &partition) != FOLDER_PARTITION || depth > 0) continue;
        if (asprintf(&below, "%s/%s", path, names.v[i]) < 0) break;
        if (stat(below, &st) == 0 && S_ISDIR(st.st_mode)) look(f, below, depth + 1);
        free(below);
    }
    names_free(&names);
    struct followed *x = logs ? find(f, path, true) : NULL;
    if (x) show_folder(f, x);
}

int dump_follow(struct dump *d, char **paths, int count) {
    struct follow f = {.d = d};
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    while (!interrupted) {
        for (int i = 0; i < count; i++) look(&f, paths[i], 0);
        if (fflush(stdout) != 0 || ferror(stdout)) break;
        nanosleep(&(struct timespec){.tv_nsec = POLL_NS}, NULL);
    }
    for (size_t i = 0; i < f.count; i++) free(f.v[i].path);
    free(f.v);
    return 0;
}
