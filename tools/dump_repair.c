/* dump_repair.c - see dump_repair.h. A data directory is opened as a broker does (log/repair.h), after its journal was made usable. */
#include "tools/dump_repair.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/trace.h"
#include "log/repair.h"
#include "tools/dump_scan.h"

enum { REPAIR_DONE = 0, REPAIR_FAILED = 1, REPAIR_USAGE = 2, REPAIR_NEEDED = 3, COPY_BYTES = 1 << 20, PATH_CHARS_MAX = 3000 /* what is below it fits 4096 */ };

/* ---- what is said --------------------------------------------------------------------------------- */

void repair_say(struct repairing *r, const char *path, const char *fmt, ...) {
    char what[4600];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    struct dump *d = r->d;
    if (!d->json) {
        printf("%s: %s\n", path, what);
        return;
    }
    json_object(&d->out, NULL);
    json_text(&d->out, "type", "repair");
    json_bool(&d->out, "dryRun", r->dry);
    json_text(&d->out, "file", path);
    json_text(&d->out, "what", what);
    json_object_end(&d->out);
    json_line(&d->out);
}

void repair_lost(struct repairing *r, const char *path, const char *topic, int32_t partition, uint64_t from, uint64_t to, int64_t start, int64_t end,
                 const char *why, const char *aside) {
    struct dump *d = r->d;
    bool kept = aside && aside[0];
    if (d->json) {
        json_object(&d->out, NULL);
        json_text(&d->out, "type", "lost");
        json_bool(&d->out, "dryRun", r->dry);
        json_text(&d->out, "file", path);
        if (topic) json_text(&d->out, "topic", topic);
        if (topic) json_i64(&d->out, "partition", partition);
        json_u64(&d->out, "position", from);
        json_u64(&d->out, "bytes", to - from);
        json_i64(&d->out, "firstOffset", start);
        json_i64(&d->out, "endOffset", end);
        json_text(&d->out, "why", why);
        json_text(&d->out, "kept", kept ? aside : NULL);
        json_object_end(&d->out);
        json_line(&d->out);
        return;
    }
    printf("%s: ", path);
    if (topic) printf("%s-%" PRId32 ": ", topic, partition);
    if (to > from) printf("bytes %" PRIu64 " to %" PRIu64 ": ", from, to - 1);
    printf("%s: ", why);
    if (end > start) printf("offsets %" PRId64 " to %" PRId64 " %s lost", start, end - 1, r->dry ? "would be" : "are");
    else printf("no offset that is known %s lost", r->dry ? "would be" : "is");
    printf("%s%s\n", kept ? "; kept in " : "", kept ? aside : "");
}

void repair_failed(struct repairing *r, const char *path, int neg_errno) {
    r->failed = true;
    fflush(stdout);
    fprintf(stderr, "varve dump: %s: %s\n", path, strerror(-neg_errno));
}

/* ---- files ------------------------------------------------------------------------------------------ */

static int write_all(int fd, const uint8_t *data, size_t len) {
    while (len > 0) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return n < 0 ? -errno : -EIO;
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

static int sync_folder_of(const char *path) {
    const char *slash = strrchr(path, '/');
    char folder[4096];
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path) + (slash == path) : 1, slash ? path : ".");
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return -errno;
    int rc = fsync(fd) == 0 ? 0 : -errno;
    close(fd);
    return rc;
}

int repair_replace(const char *path, const void *data, size_t len) {
    char tmp[4200];
    snprintf(tmp, sizeof tmp, "%s.repair", path);
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) return -errno;
    int rc = write_all(fd, data, len);
    if (rc == 0 && fsync(fd) != 0) rc = -errno;
    if (close(fd) != 0 && rc == 0) rc = -errno;
    if (rc == 0 && rename(tmp, path) != 0) rc = -errno;
    if (rc < 0) {
        unlink(tmp);
        return rc;
    }
    return sync_folder_of(path);
}

bool repair_keep(struct repairing *r, const char *name, const void *data, size_t len, char *path, size_t path_len) {
    char where[4096];
    snprintf(where, sizeof where, "%s/%s", r->aside, name);
    int rc = mkdir(r->aside, 0755) == 0 || errno == EEXIST ? repair_replace(where, data, len) : -errno;
    if (rc < 0) repair_failed(r, where, rc);
    if (path) snprintf(path, path_len, "%s", where);
    return rc >= 0;
}

static int copy_file(const char *from, const char *to, uint8_t *buf) {
    int in = open(from, O_RDONLY | O_CLOEXEC), rc = 0;
    if (in < 0) return -errno;
    int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (out < 0) rc = -errno;
    while (rc == 0) {
        ssize_t n = read(in, buf, COPY_BYTES);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) rc = -errno;
        if (n <= 0) break;
        rc = write_all(out, buf, (size_t)n);
    }
    if (rc == 0 && fsync(out) != 0) rc = -errno;
    if (out >= 0 && close(out) != 0 && rc == 0) rc = -errno;
    close(in);
    return rc;
}

static void copy_tree(struct repairing *r, const char *from, const char *to, int depth, uint8_t *buf) {
    struct names names;
    struct stat st;
    int rc = mkdir(to, 0755) == 0 ? names_read(from, &names) : -errno;
    if (rc < 0) {
        repair_failed(r, to, rc);
        return;
    }
    for (size_t i = 0; i < names.count && !r->failed; i++) {
        char a[4096], b[4096];
        snprintf(a, sizeof a, "%s/%s", from, names.v[i]);
        snprintf(b, sizeof b, "%s/%s", to, names.v[i]);
        if (strcmp(names.v[i], ".lock") == 0 || lstat(a, &st) != 0) continue;
        if (S_ISDIR(st.st_mode) && depth < 4) copy_tree(r, a, b, depth + 1, buf);
        else if (S_ISREG(st.st_mode) && (rc = copy_file(a, b, buf)) < 0) repair_failed(r, a, rc);
    }
    names_free(&names);
    if (!r->failed && (rc = sync_folder_of(to)) < 0) repair_failed(r, to, rc);
}

/* ---- data directories ------------------------------------------------------------------------------- */

static void lost(void *ctx, const struct repair_range *x) {
    struct repairing *r = ctx;
    char path[4096], folder[FOLDER_NAME_BYTES], name[FILE_NAME_BYTES];
    folder_name(folder, x->topic, x->partition);
    file_name(name, x->segment_base, FILE_LOG);
    snprintf(path, sizeof path, "%s/%s/%s", r->path, folder, name);
    repair_lost(r, path, x->topic, x->partition, x->position, x->position + x->bytes, x->start, x->end, x->bytes ? "damaged" : "missing", x->aside);
    r->places++;
}

static void note(void *ctx, const char *path, const char *what) {
    struct repairing *r = ctx;
    repair_say(r, path, "%s", what);
    r->places++;
}

static bool meta_of(struct repairing *r, struct meta *m) {
    char path[4096];
    size_t len;
    int rc, bad = 0;
    snprintf(path, sizeof path, "%s/varve.meta", r->path);
    uint8_t *file = read_whole(path, &len, &rc);
    enum err err = file ? meta_parse(file, len, m, &bad) : ERR_IO;
    free(file);
    if (err != OK) {
        repair_say(r, path, "neither copy can be read: whose directory this is is not known, and it is beyond repair; partition folders can be repaired one by one with --to");
        r->failed = true;
    } else if (bad > 0) {
        repair_say(r, path, "one of the two copies is damaged: %s", r->dry ? "it would be written anew" : "it is written anew");
        r->places++;
    }
    return err == OK;
}

static void journals(struct repairing *r, const struct meta *m) {
    for (uint32_t k = 0; k < m->journals && k < 1024 && !r->failed; k++) {
        char folder[4096];
        snprintf(folder, sizeof folder, "%s/journal-%" PRIu32, r->path, k);
        repair_journal(r, folder, m);
    }
}

static void logs(struct repairing *r, struct io *io, const struct meta *m) {
    struct log_store_config cfg = {.dir = r->path, .node_id = m->node_id, .shards = 1, .journal_bytes = 256u << 20, .journal_piece_bytes = 16u << 20,
                                   .journal_depth = 2, .tail_bytes = 64u << 20, .open_files_max = 256};
    const struct repair how = {.aside = r->aside, .lost = lost, .note = note, .ctx = r};
    struct repair_report report;
    char why[1024];
    enum err err = log_repair(io, &cfg, &how, &report, why, sizeof why);
    if (err == OK) {
        if (!r->d->json)
            fprintf(stderr, "%s: %" PRIu32 " partitions, %" PRIu32 " segments; %" PRIu32 " ranges of together %" PRIu64 " offsets are lost\n", r->path,
                    report.logs, report.segments, report.ranges, report.offsets);
        return;
    }
    fflush(stdout);
    fprintf(stderr, "varve dump: %s\n", why);
    r->failed = true;
}

static void data_dir_repair(struct repairing *r) {
    char lock[4096], why[200];
    struct meta m;
    struct io_config config = {0};
    snprintf(lock, sizeof lock, "%s/.lock", r->path);
    struct io *io = io_blocking_create(&config, why, sizeof why);
    int fd = io ? io_lock(io, lock) : -ENOMEM;
    if (fd == -EWOULDBLOCK) {
        fprintf(stderr, "varve dump: %s: a broker uses this directory: stop it first, or repair a copy with --to\n", r->path);
        r->failed = true;
    } else if (fd < 0) {
        repair_failed(r, lock, fd);
    } else {
        if (meta_of(r, &m)) journals(r, &m);
        (void)io_close(io, fd); /* taken again by the store */
        if (!r->failed) logs(r, io, &m);
    }
    io_destroy(io);
}

/* What would be done, by the rules of --verify. */
static void data_dir_dry(struct repairing *r) {
    struct meta m;
    struct names names;
    if (!meta_of(r, &m)) return;
    journals(r, &m);
    int rc = names_read(r->path, &names);
    if (rc < 0) {
        repair_failed(r, r->path, rc);
        return;
    }
    for (size_t i = 0; i < names.count; i++) {
        char path[4096];
        struct str topic;
        int32_t partition;
        if (folder_parse(names.v[i], &topic, &partition) != FOLDER_PARTITION) continue;
        snprintf(path, sizeof path, "%s/%s", r->path, names.v[i]);
        repair_folder(r, path, path);
    }
    names_free(&names);
    struct dump missing = {.verify = true, .json = r->d->json, .out = r->d->out};
    verify_missing(&missing, r->path);
    r->places += missing.damages;
}

/* ---- the command -------------------------------------------------------------------------------------- */

static bool has(const char *folder, const char *name) {
    char path[8192];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return access(path, F_OK) == 0;
}

static bool in_data_dir(const char *path) {
    char parent[4096];
    snprintf(parent, sizeof parent, "%s/..", path);
    return has(parent, "varve.meta");
}

static bool usable(const char *path, const char *to, bool in_place) {
    struct stat st;
    if (strlen(path) > PATH_CHARS_MAX || (to && strlen(to) > PATH_CHARS_MAX)) fprintf(stderr, "varve dump: the path is too long\n");
    else if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode)) fprintf(stderr, "varve dump: %s: --repair takes data directories and partition folders\n", path);
    else if (to && access(to, F_OK) == 0) fprintf(stderr, "varve dump: %s: is there already; --to makes a new folder\n", to);
    else if (in_place && in_data_dir(path)) fprintf(stderr, "varve dump: %s: lies in a data directory, which can only be repaired as a whole\n", path);
    else return true;
    return false;
}

static void repair_one(struct repairing *r, const char *path, const char *to, bool in_place) {
    bool data_dir = has(path, "varve.meta");
    uint8_t *buf = malloc(COPY_BYTES);
    r->path = to ? to : path;
    if (!buf) repair_failed(r, path, -ENOMEM);
    else if (r->dry && data_dir) data_dir_dry(r);
    else if (r->dry || (in_place && !data_dir)) repair_folder(r, path, path);
    else if (!data_dir && mkdir(to, 0755) != 0) repair_failed(r, to, -errno);
    else if (!data_dir) repair_folder(r, path, to);
    else {
        if (to) copy_tree(r, path, to, 0, buf);
        if (!r->failed) data_dir_repair(r);
    }
    free(buf);
}

int dump_repair(struct dump *d, char **paths, int count, const char *to, bool in_place) {
    if (count != 1 || (to && in_place)) {
        fprintf(stderr, "varve dump: --repair takes one folder, and either --to DIR or --in-place\n");
        return REPAIR_USAGE;
    }
    char *path = strdup(paths[0]), *target = to ? strdup(to) : NULL, *aside = NULL;
    int code = REPAIR_FAILED;
    if (path && (!to || target)) {
        for (size_t n = strlen(path); n > 1 && path[n - 1] == '/'; n--) path[n - 1] = '\0';
        for (size_t n = target ? strlen(target) : 0; n > 1 && target[n - 1] == '/'; n--) target[n - 1] = '\0';
        if (asprintf(&aside, "%s.damaged", target ? target : path) < 0) aside = NULL;
    }
    if (aside && !usable(path, target, in_place)) {
        code = REPAIR_USAGE;
    } else if (aside) {
        struct repairing r = {.d = d, .aside = aside, .dry = !target && !in_place};
        trace_setup(TRACE_ERROR, TRACE_TEXT, -1); /* what matters is said here */
        repair_one(&r, path, target, in_place);
        if (!d->json && r.dry && !r.failed)
            fprintf(stderr, "%" PRIu64 " places to repair; nothing was changed: --to DIR writes a repaired copy, --in-place changes what is there\n", r.places);
        code = r.failed ? REPAIR_FAILED : r.dry && r.places > 0 ? REPAIR_NEEDED : REPAIR_DONE;
    }
    free(path);
    free(target);
    free(aside);
    return code;
}
