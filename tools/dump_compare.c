/* dump_compare.c - two copies of a partition, batch by batch.
 *
 * Replicas hold the same batches byte for byte, whatever files they lie in. Each may begin elsewhere (retention) and end elsewhere
 * (one is behind, or its latest records lie in its journal only): what both should hold is compared. What a compaction has been over
 * is not: each replica compacts when it finds time. */
#include "tools/dump_compare.h"
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { COMPARE_OK = 0, COMPARE_FAILED = 1, COMPARE_USAGE = 2, COMPARE_DIFFERENT = 3 };
#define CHUNK_BYTES (256u << 10)

/* One copy, as a stream of batches. */
struct side {
    struct dump *d;
    struct folder folder;
    char *file;                   /* the .log at hand; NULL: none is open */
    uint32_t next;                /* of folder.bases */
    struct input in;
    uint64_t position;            /* of the batch at hand */
    struct batch_header batch;
    bool there, failed;           /* `there`: a batch is at hand */
    int64_t start, end;           /* offsets of what lies in segment files; `end` as far as the walk came */
};

static void side_close_file(struct side *s) {
    if (!s->file) return;
    input_close(&s->in);
    free(s->file);
    s->file = NULL;
}

static bool side_open_next(struct side *s) {
    char name[FILE_NAME_BYTES];
    side_close_file(s);
    if (s->next >= s->folder.base_count) return false;
    file_name(name, s->folder.bases[s->next++], FILE_LOG);
    if (asprintf(&s->file, "%s/%s", s->folder.path, name) < 0) {
        s->file = NULL;
        s->failed = true;
        return false;
    }
    int err = input_open(&s->in, s->file);
    s->position = 0;
    if (err == 0) return true;
    dump_unreadable(s->d, s->file, err);
    free(s->file);
    s->file = NULL;
    s->failed = true;
    return false;
}

/* The batch at `position`. False: there is none, or not all of one. */
static bool side_parse(struct side *s) {
    size_t got;
    const uint8_t *p = input_view(&s->in, s->position, BATCH_HEADER_BYTES, &got);
    enum err parsed = batch_parse(p, got, &s->batch);
    bool good = (parsed == OK || parsed == ERR_TRUNCATED) && s->batch.total_bytes >= BATCH_HEADER_BYTES &&
        s->batch.total_bytes <= s->in.size - s->position;
    bool last = s->next == s->folder.base_count; /* where more may be about to be written */
    if (!good && s->position < s->in.size && !last) {
        dump_damage(s->d, s->file, s->position, "not a whole batch");
        s->failed = true;
    }
    return good;
}

/* Moves to the next batch. */
static void side_next(struct side *s) {
    if (s->there) s->position += s->batch.total_bytes;
    while (!s->failed) {
        if (!s->file && !side_open_next(s)) break;
        if (side_parse(s)) {
            s->there = true;
            s->end = MAX(s->end, batch_last_offset(&s->batch) + 1);
            return;
        }
        if (s->failed || s->next >= s->folder.base_count) break;
        side_close_file(s);
    }
    s->there = false;
}

static void side_open(struct side *s, struct dump *d, const char *path, const struct data_dir *shared) {
    *s = (struct side){.d = d};
    folder_load(&s->folder, path, shared);
    s->start = s->end = s->folder.base_count > 0 ? s->folder.bases[0] : 0;
    side_next(s);
    if (s->there) s->start = s->batch.base_offset;
}

static void side_close(struct side *s) {
    side_close_file(s);
    folder_free(&s->folder);
}

static bool side_stopped(const struct side *s) { return !s->folder.known || s->folder.known->clean_stop; }

/* ---- two of them -------------------------------------------------------------------------------- */

struct comparison {
    struct dump *d;
    struct side a, b;
    int64_t from;                 /* what lies below is not compared */
    bool compacted;               /* because of compaction */
    uint64_t batches;             /* that are the same */
    bool different;
    char what[320];
    uint64_t position_a, position_b;
    int64_t offset;
};

static void differs(struct comparison *c, int64_t offset, const char *fmt, ...) PRINTF_LIKE(3, 4);
static void differs(struct comparison *c, int64_t offset, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    vsnprintf(c->what, sizeof c->what, fmt, args);
    va_end(args);
    c->different = true;
    c->offset = offset;
    c->position_a = c->a.there ? c->a.position : 0;
    c->position_b = c->b.there ? c->b.position : 0;
}

static const char *crc_of(struct side *s) {
    uint32_t crc;
    return input_crc(&s->in, s->position + 21, s->batch.total_bytes - 21, &crc) && crc == s->batch.crc ? "good" : "wrong";
}

/* Batches of the same length at hand: where their bytes differ; -1: nowhere. */
static int64_t bytes_differ(struct comparison *c) {
    for (uint64_t at = 0; at < c->a.batch.total_bytes;) {
        size_t want = (size_t)MIN((uint64_t)CHUNK_BYTES, c->a.batch.total_bytes - at), got_a, got_b;
        const uint8_t *a = input_view(&c->a.in, c->a.position + at, want, &got_a);
        const uint8_t *b = input_view(&c->b.in, c->b.position + at, want, &got_b);
        if (got_a != want || got_b != want) return (int64_t)at;
        if (memcmp(a, b, want) != 0) {
            for (size_t i = 0; i < want; i++)
                if (a[i] != b[i]) return (int64_t)(at + i);
        }
        at += want;
    }
    return -1;
}

static bool compare_batch(struct comparison *c) {
    const struct batch_header *a = &c->a.batch, *b = &c->b.batch;
    int64_t at;
    if (a->base_offset != b->base_offset)
        differs(c, MIN(a->base_offset, b->base_offset), "A has a batch at offset %" PRId64 ", B the next one at %" PRId64, a->base_offset, b->base_offset);
    else if (a->leader_epoch != b->leader_epoch)
        differs(c, a->base_offset, "leader epoch %" PRId32 " in A, %" PRId32 " in B", a->leader_epoch, b->leader_epoch);
    else if (batch_last_offset(a) != batch_last_offset(b) || a->total_bytes != b->total_bytes)
        differs(c, a->base_offset, "the batch ends at offset %" PRId64 " with %" PRIu32 " bytes in A, at %" PRId64 " with %" PRIu32 " bytes in B",
                batch_last_offset(a), a->total_bytes, batch_last_offset(b), b->total_bytes);
    else if ((at = bytes_differ(c)) >= 0)
        differs(c, a->base_offset, "byte %" PRId64 " of the batch differs; CRC of A %s, of B %s", at, crc_of(&c->a), crc_of(&c->b));
    else c->batches++;
    return !c->different;
}

static void walk(struct comparison *c) {
    while (c->a.there && batch_last_offset(&c->a.batch) < c->from) side_next(&c->a);
    while (c->b.there && batch_last_offset(&c->b.batch) < c->from) side_next(&c->b);
    while (c->a.there && c->b.there && compare_batch(c)) {
        side_next(&c->a);
        side_next(&c->b);
    }
    while (c->a.there) side_next(&c->a); /* to their ends */
    while (c->b.there) side_next(&c->b);
}

/* Epochs that begin within what both hold, zero-length ones included. */
static void compare_epochs(struct comparison *c) {
    const struct epochs *a = &c->a.folder.epochs, *b = &c->b.folder.epochs;
    int64_t from = MAX(c->from, MAX(c->a.start, c->b.start)), end = MIN(c->a.end, c->b.end);
    uint32_t i = 0, k = 0;
    if (!c->a.folder.epochs_exact || !c->b.folder.epochs_exact || c->different) return;
    for (;;) {
        while (i < a->count && a->entries[i].start <= from) i++;
        while (k < b->count && b->entries[k].start <= from) k++;
        bool in_a = i < a->count && a->entries[i].start < end, in_b = k < b->count && b->entries[k].start < end;
        if (!in_a && !in_b) return;
        if (!in_a || !in_b || a->entries[i].epoch != b->entries[k].epoch || a->entries[i].start != b->entries[k].start) {
            const struct epoch_entry *e = in_a ? &a->entries[i] : &b->entries[k];
            differs(c, e->start, "epoch %" PRId32 " begins at offset %" PRId64 " in %s, otherwise in %s", e->epoch, e->start, in_a ? "A" : "B",
                    in_a ? "B" : "A");
            return;
        }
        i++;
        k++;
    }
}

static void judge(struct comparison *c) {
    if (c->different || c->a.failed || c->b.failed) return;
    if (c->a.end != c->b.end && side_stopped(&c->a) && side_stopped(&c->b))
        differs(c, MIN(c->a.end, c->b.end), "A ends at offset %" PRId64 ", B at %" PRId64, c->a.end, c->b.end);
    else if (c->batches == 0 && c->a.end > c->a.start && c->b.end > c->b.start && !c->compacted && (c->a.start >= c->b.end || c->b.start >= c->a.end))
        differs(c, MIN(c->a.end, c->b.end), "they have no offset in common");
}

static void say_text(const struct comparison *c, const char *name) {
    printf("%s: A %" PRId64 " to %" PRId64 ", B %" PRId64 " to %" PRId64 ": ", name, c->a.start, c->a.end, c->b.start, c->b.end);
    if (c->a.failed || c->b.failed) printf("cannot be compared\n");
    else if (!c->different) printf("the same, %" PRIu64 " batches", c->batches);
    else printf("different at offset %" PRId64 ": %s (position %" PRIu64 " of %s in A, %" PRIu64 " in B)\n", c->offset, c->what, c->position_a,
                c->a.file ? strrchr(c->a.file, '/') + 1 : "the end", c->position_b);
    if (c->different || c->a.failed || c->b.failed) return;
    if (c->compacted) printf("; what was compacted, below offset %" PRId64 ", is not compared", c->from);
    if (c->a.end != c->b.end) printf("; %s is ahead, or the rest of the other lies in its journal", c->a.end > c->b.end ? "A" : "B");
    putchar('\n');
}

static void say_json(const struct comparison *c, const char *name, struct json_out *out) {
    json_object(out, NULL);
    json_text(out, "type", "comparison");
    json_text(out, "partition", name);
    json_bool(out, "same", !c->different && !c->a.failed && !c->b.failed);
    json_i64(out, "startA", c->a.start);
    json_i64(out, "endA", c->a.end);
    json_i64(out, "startB", c->b.start);
    json_i64(out, "endB", c->b.end);
    json_i64(out, "comparedFrom", c->from);
    json_u64(out, "batches", c->batches);
    if (c->different) {
        json_i64(out, "offset", c->offset);
        json_text(out, "difference", c->what);
        json_u64(out, "positionA", c->position_a);
        json_u64(out, "positionB", c->position_b);
    }
    json_object_end(out);
    json_line(out);
}

static bool same_partition(const struct comparison *c) {
    const struct folder *a = &c->a.folder, *b = &c->b.folder;
    return !a->manifest_ok || !b->manifest_ok ||
        (uuid_eq(&a->manifest.topic_id, &b->manifest.topic_id) && a->manifest.partition == b->manifest.partition);
}

static int64_t compacted_end(const struct folder *f) { return f->manifest_ok ? f->manifest.compacted_end : 0; }

static int compare_partition(struct dump *d, const char *a, const char *b, const struct data_dir *dir_a, const struct data_dir *dir_b, const char *name) {
    struct comparison *c = calloc(1, sizeof *c);
    if (!c) {
        dump_unreadable(d, name, -ENOMEM);
        return COMPARE_FAILED;
    }
    c->d = d;
    side_open(&c->a, d, a, dir_a);
    side_open(&c->b, d, b, dir_b);
    int64_t compacted = MAX(compacted_end(&c->a.folder), compacted_end(&c->b.folder));
    c->from = MAX(c->a.start, c->b.start);
    c->compacted = compacted > c->from;
    c->from = MAX(c->from, compacted);
    if (!same_partition(c)) {
        differs(c, -1, "they are of different topics or partitions");
    } else {
        walk(c);
        compare_epochs(c);
        judge(c);
    }
    if (d->json) say_json(c, name, &d->out);
    else say_text(c, name);
    int code = c->different ? COMPARE_DIFFERENT : c->a.failed || c->b.failed ? COMPARE_FAILED : COMPARE_OK;
    side_close(&c->a);
    side_close(&c->b);
    free(c);
    return code;
}

/* ---- data directories --------------------------------------------------------------------------- */

static int worse(int a, int b) { return a > b ? a : b; }

static bool holds(const struct names *n, const char *name) {
    for (size_t i = 0; i < n->count; i++)
        if (strcmp(n->v[i], name) == 0) return true;
    return false;
}

static bool is_partition(const char *path, const char *name) {
    struct stat st;
    char *file;
    struct str topic;
    int32_t partition;
    if (folder_parse(name, &topic, &partition) != FOLDER_PARTITION || asprintf(&file, "%s/%s", path, name) < 0) return false;
    bool dir = stat(file, &st) == 0 && S_ISDIR(st.st_mode);
    free(file);
    return dir;
}

static void only_in(struct dump *d, const char *path, const struct names *n, const struct names *other, const char *which) {
    for (size_t i = 0; i < n->count; i++)
        if (is_partition(path, n->v[i]) && !holds(other, n->v[i])) dump_note(d, n->v[i], "only in %s", which);
}

static int compare_directories(struct dump *d, const char *a, const char *b) {
    struct names in_a, in_b;
    int code = COMPARE_OK, err;
    uint64_t compared = 0;
    if ((err = names_read(a, &in_a)) != 0) {
        dump_unreadable(d, a, err);
        return COMPARE_FAILED;
    }
    if ((err = names_read(b, &in_b)) != 0) {
        dump_unreadable(d, b, err);
        names_free(&in_a);
        return COMPARE_FAILED;
    }
    struct data_dir *dir_a = data_dir_load(a), *dir_b = data_dir_load(b);
    for (size_t i = 0; i < in_a.count; i++) {
        char *path_a, *path_b;
        if (!is_partition(a, in_a.v[i]) || !holds(&in_b, in_a.v[i])) continue;
        if (asprintf(&path_a, "%s/%s", a, in_a.v[i]) < 0) break;
        if (asprintf(&path_b, "%s/%s", b, in_a.v[i]) >= 0) {
            code = worse(code, compare_partition(d, path_a, path_b, dir_a, dir_b, in_a.v[i]));
            free(path_b);
            compared++;
        }
        free(path_a);
    }
    only_in(d, a, &in_a, &in_b, "A");
    only_in(d, b, &in_b, &in_a, "B");
    if (compared == 0) {
        fprintf(stderr, "varve dump: %s and %s have no partition in common\n", a, b);
        code = COMPARE_FAILED;
    }
    data_dir_free(dir_a);
    data_dir_free(dir_b);
    names_free(&in_a);
    names_free(&in_b);
    return code;
}

int dump_compare(struct dump *d, char **paths, int count) {
    if (count != 2) {
        fprintf(stderr, "varve dump: --compare takes two partition folders, or two data directories\n");
        return COMPARE_USAGE;
    }
    bool dirs[2], folders[2];
    for (int i = 0; i < 2; i++) {
        struct names names;
        int err = names_read(paths[i], &names);
        if (err != 0) {
            dump_unreadable(d, paths[i], err);
            return COMPARE_FAILED;
        }
        dirs[i] = holds(&names, "varve.meta");
        folders[i] = holds(&names, MANIFEST_FILE);
        for (size_t k = 0; k < names.count; k++) folders[i] = folders[i] || file_parse(names.v[k], &(int64_t){0}) == FILE_LOG;
        names_free(&names);
    }
    if (dirs[0] && dirs[1]) return compare_directories(d, paths[0], paths[1]);
    if (!folders[0] || !folders[1]) {
        fprintf(stderr, "varve dump: %s is no %s\n", paths[folders[0]], dirs[0] || dirs[1] ? "partition folder, as the other is no data directory" : "partition folder or data directory");
        return COMPARE_USAGE;
    }
    size_t len = strlen(paths[0]);
    while (len > 1 && paths[0][len - 1] == '/') paths[0][--len] = '\0';
    const char *slash = strrchr(paths[0], '/');
    return compare_partition(d, paths[0], paths[1], NULL, NULL, slash && slash[1] ? slash + 1 : paths[0]);
}
