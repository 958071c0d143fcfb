/* dump_repair_folder.c - a partition folder by itself (a copy, or Kafka's): segments without what is no sound batch, and what is made
 * from batches made anew. Offsets that are lost become gaps, which every Kafka reader passes over. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include "log/index.h"
#include "log/kafka_files.h"
#include "log/producers.h"
#include "tools/dump_repair.h"
#include "tools/dump_scan.h"

enum { INDEX_INTERVAL = 4096, INDEX_BYTES_MAX = 10 << 20 };

struct one { struct repairing *r; const char *from, *to; struct folder *f; bool same, changed; int64_t compacted_end; };

static void join(char out[4096], const char *folder, const char *name) { snprintf(out, 4096, "%s/%s", folder, name); }

/* A file of `len` bytes: what is there already is not written again. */
static void put(struct one *x, const char *name, const void *data, size_t len, const char *why) {
    char path[4096];
    size_t old_len;
    int rc;
    join(path, x->to, name);
    uint8_t *old = x->same || why ? read_whole(x->same ? path : (join(path, x->from, name), path), &old_len, &rc) : NULL;
    bool equal = old && old_len == len && memcmp(old, data, len) == 0;
    free(old);
    join(path, x->to, name);
    if (!equal && why) {
        repair_say(x->r, path, x->r->dry ? "would be made again: %s" : "is made again: %s", why);
        x->r->places++;
    }
    if (x->r->dry || (x->same && equal)) return;
    rc = repair_replace(path, data, len);
    if (rc < 0) repair_failed(x->r, path, rc);
}

/* ---- a segment ------------------------------------------------------------------------------------- */

/* The offset that follows the sound batches [0, len). */
static int64_t offset_behind(const uint8_t *log, size_t len, int64_t base) {
    struct batch_header h;
    int64_t next = base;
    for (size_t at = 0; at < len && batch_parse(log + at, len - at, &h) == OK && batch_check(&h) == OK; at += h.total_bytes)
        next = MAX(next, batch_last_offset(&h) + 1);
    return next;
}

static size_t take_out(struct one *x, const char *path, const char *name, uint8_t *log, size_t len, int64_t base, int64_t next_base, struct bad_range *bad, uint32_t count) {
    size_t out = 0, at = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct bad_range *r = &bad[i];
        if (r->to <= at) continue;
        r->from = MAX(r->from, (uint64_t)at);
        char kept[4096] = "", aside[FOLDER_NAME_BYTES + FILE_NAME_BYTES + 40];
        memmove(log + out, log + at, r->from - at);
        out += r->from - at;
        struct batch_header h;
        bool behind = r->to < len && batch_parse(log + r->to, len - r->to, &h) == OK && batch_check(&h) == OK;
        int64_t start = offset_behind(log, out, base), end = behind ? MAX(h.base_offset, start) : next_base;
        if (end == INT64_MAX) end = start; /* how much the end of the log held is not known */
        snprintf(aside, sizeof aside, "%s_%" PRIu64, name, r->from);
        if (!x->r->dry && !repair_keep(x->r, aside, log + r->from, r->to - r->from, kept, sizeof kept)) return len;
        repair_lost(x->r, path, NULL, 0, r->from, r->to, start, end, r->why, x->r->dry ? NULL : kept);
        x->r->places++;
        if (!r->unfinished) x->compacted_end = MAX(x->compacted_end, MAX(end, base + 1));
        at = r->to;
    }
    memmove(log + out, log + at, len - at);
    return out + (len - at);
}

static bool index_all(struct one *x, const char *path, const uint8_t *log, size_t len, struct segment_index *index, bool last) {
    for (size_t at = 0; at < len;) {
        struct batch_header h;
        if (batch_parse(log + at, len - at, &h) != OK) break;
        if (index_add(index, &h, (uint32_t)at) != OK) {
            repair_failed(x->r, path, -ENOMEM);
            return false;
        }
        at += h.total_bytes;
    }
    return last || index_seal(index) == OK;
}

static void put_index(struct one *x, int64_t base, const struct segment_index *index, bool times) {
    char name[FILE_NAME_BYTES], path[4096];
    uint32_t count = times ? index->time_count : index->offset_count;
    size_t len = (size_t)count * (times ? TIME_ENTRY_BYTES : INDEX_ENTRY_BYTES);
    uint8_t *bytes = malloc(len + 1);
    file_name(name, base, times ? FILE_TIMEINDEX : FILE_INDEX);
    join(path, x->from, name);
    if (!bytes) {
        repair_failed(x->r, path, -ENOMEM);
        return;
    }
    if (times) index_encode_times(index, 0, count, bytes);
    else index_encode(index, 0, count, bytes);
    put(x, name, bytes, len, NULL);
    free(bytes);
}

/* Whether verification finds the indexes right as they are: Kafka's may be denser than ours would be. */
static bool indexes_sound(struct one *x, const char *stem, int64_t base) {
    struct dump quiet = {.verify = true, .json = true};
    FILE *nothing = fopen("/dev/null", "w");
    if (!nothing) return false;
    json_init(&quiet.out, nothing);
    verify_segment(&quiet, x->f, stem, base, VERIFY_INDEX | VERIFY_TIMES);
    fclose(nothing);
    return quiet.damages == 0 && !quiet.unreadable;
}

static void copy_file(struct one *x, const char *name) {
    char path[4096];
    size_t len;
    int rc;
    if (x->same || x->r->dry) return;
    join(path, x->from, name);
    uint8_t *data = read_whole(path, &len, &rc);
    if (data) put(x, name, data, len, NULL);
    else if (rc != -ENOENT) repair_failed(x->r, path, rc);
    free(data);
}

static void segment(struct one *x, uint32_t i) {
    int64_t base = x->f->bases[i], next_base = i + 1 < x->f->base_count ? x->f->bases[i + 1] : INT64_MAX;
    char name[FILE_NAME_BYTES], index_name[FILE_NAME_BYTES], path[4096], stem[4096];
    struct bad_range *bad;
    uint32_t count;
    size_t len;
    int rc;
    file_name(name, base, FILE_LOG);
    join(path, x->from, name);
    if (!scan_ranges(x->r->d, x->f, path, base, &bad, &count)) {
        x->r->failed = true;
        return;
    }
    uint8_t *log = read_whole(path, &len, &rc);
    if (!log) {
        repair_failed(x->r, path, rc);
        free(bad);
        return;
    }
    snprintf(stem, sizeof stem, "%.*s", (int)(strlen(path) - 4), path);
    bool sound = count == 0 && indexes_sound(x, stem, base);
    size_t kept = take_out(x, path, name, log, len, base, next_base, bad, count);
    x->changed |= count > 0;
    if (!x->r->failed && (count > 0 || !x->same)) put(x, name, log, kept, NULL);
    if (x->r->failed) {
        ;
    } else if (sound) {
        file_name(index_name, base, FILE_INDEX);
        copy_file(x, index_name);
        file_name(index_name, base, FILE_TIMEINDEX);
        copy_file(x, index_name);
    } else {
        struct segment_index index;
        index_init(&index, base, INDEX_INTERVAL, INDEX_BYTES_MAX);
        if (count == 0) {
            repair_say(x->r, stem, x->r->dry ? "the indexes would be made again" : "the indexes are made again");
            x->r->places++;
        }
        if (index_all(x, path, log, kept, &index, next_base == INT64_MAX)) {
            put_index(x, base, &index, false);
            put_index(x, base, &index, true);
        }
        index_free(&index);
    }
    free(log);
    free(bad);
}

/* ---- the rest --------------------------------------------------------------------------------------- */

static bool snapshot_sound(const uint8_t *data, size_t len) {
    struct producers p;
    producers_init(&p);
    bool sound = producers_from_snapshot(&p, data, len) == OK;
    producers_free(&p);
    return sound;
}

static void snapshot(struct one *x, const char *name) {
    char path[4096];
    size_t len;
    int rc;
    join(path, x->from, name);
    uint8_t *data = read_whole(path, &len, &rc);
    if (data && snapshot_sound(data, len)) {
        if (!x->same) put(x, name, data, len, NULL);
    } else if (data) {
        repair_say(x->r, path, x->r->dry ? "is damaged, and would be left out: Kafka makes it again" : "was damaged, and is left out: Kafka makes it again");
        x->r->places++;
        if (x->same && !x->r->dry && remove(path) != 0) repair_failed(x->r, path, -errno);
    } else {
        repair_failed(x->r, path, rc);
    }
    free(data);
}

/* Digests of what was changed go; what is left says that there may be gaps. */
static void manifest(struct one *x) {
    if (!x->f->has_manifest) return;
    struct manifest *m = &x->f->manifest;
    uint8_t *data;
    size_t len;
    if (!x->f->manifest_ok) {
        char path[4096];
        join(path, x->from, MANIFEST_FILE);
        repair_say(x->r, path, "is damaged, and is left out: whose folder this is only its name tells");
        x->r->places++;
        return;
    }
    if (x->changed) {
        m->compacted_end = MAX(m->compacted_end, x->compacted_end);
        while (m->segment_count > 0) manifest_remove(m, m->segments[0].base_offset);
    }
    if (x->r->dry || (x->same && !x->changed)) return;
    if (manifest_encode(m, &data, &len) != OK) {
        repair_failed(x->r, x->to, -ENOMEM);
        return;
    }
    put(x, MANIFEST_FILE, data, len, NULL);
    free(data);
}

void repair_folder(struct repairing *r, const char *path, const char *to) {
    struct folder f;
    struct names names;
    folder_load(&f, path, NULL);
    struct one x = {.r = r, .from = path, .to = to, .f = &f, .same = strcmp(path, to) == 0};
    for (uint32_t i = 0; i < f.base_count && !r->failed; i++) segment(&x, i);
    if (!r->failed && names_read(path, &names) == 0) {
        for (size_t i = 0; i < names.count; i++) {
            int64_t base;
            enum file_kind kind = file_parse(names.v[i], &base);
            if (kind == FILE_SNAPSHOT) snapshot(&x, names.v[i]);
            else if (kind == FILE_OTHER && strcmp(names.v[i], MANIFEST_FILE) != 0) copy_file(&x, names.v[i]);
        }
        names_free(&names);
    }
    if (!r->failed) manifest(&x);
    folder_free(&f);
}
