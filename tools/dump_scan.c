/* dump_scan.c - verifies one segment: the log, then its indexes against it, then the digests. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include "tools/dump_scan.h"

enum { ATTEMPTS = 3 };

void scan_damage(struct scan *s, unsigned what, uint64_t position, uint64_t bytes, const char *fmt, ...) {
    if (s->damage_count == s->damage_cap) {
        uint32_t cap = s->damage_cap ? s->damage_cap * 2 : 16;
        struct damage *grown = realloc(s->damages, cap * sizeof *grown);
        if (!grown) {
            s->nomem = true;
            return;
        }
        s->damages = grown;
        s->damage_cap = cap;
    }
    struct damage *d = &s->damages[s->damage_count++];
    *d = (struct damage){.what = what, .position = position, .bytes = bytes};
    va_list args;
    va_start(args, fmt);
    vsnprintf(d->text, sizeof d->text, fmt, args);
    va_end(args);
}

static void scan_free(struct scan *s) {
    input_close(&s->in);
    entries_free(&s->offsets);
    entries_free(&s->times);
    free(s->damages);
    free(s->holes);
}

/* What the folder and the catalogue tell about this segment. */
static void scan_context(struct scan *s, const struct folder *f, int64_t base) {
    *s = (struct scan){.d = s->d, .folder = f, .in = {.fd = -1}, .base = base, .own = f->has_manifest, .last = true, .next_base = INT64_MAX};
    if (base < 0) return;
    if (f->manifest_ok) s->sealed = manifest_find(&f->manifest, base);
    s->gaps = !s->own || (f->manifest_ok && base < f->manifest.compacted_end);
    for (uint32_t i = 0; i < f->base_count && s->last; i++) {
        if (f->bases[i] <= base) continue;
        s->last = false;
        s->next_base = f->bases[i];
    }
    for (uint32_t i = 0; f->known && f->known->exact && i < f->known->segment_count; i++) {
        if (f->known->segments[i].base != base) continue;
        s->durable_bytes = f->known->segments[i].size_bytes;
        s->ended = f->known->clean_stop;
    }
}

static char *with_suffix(const char *stem, const char *suffix) {
    char *path;
    return asprintf(&path, "%s%s", stem, suffix) < 0 ? NULL : path;
}

/* One pass. The indexes are read before the log is opened: a log that is being written is then never behind them. */
static bool scan_once(struct scan *s, const char *const paths[3], unsigned what) {
    if (what & VERIFY_INDEX) entries_load(s, &s->offsets, VERIFY_INDEX, paths[1]);
    if (what & VERIFY_TIMES) entries_load(s, &s->times, VERIFY_TIMES, paths[2]);
    int err = input_open(&s->in, paths[0]);
    if (err != 0) {
        dump_unreadable(s->d, paths[0], err);
        if (err == -ENOENT && !(what & VERIFY_LOG)) dump_note(s->d, paths[0], "not there, so its indexes are not compared");
        return false;
    }
    scan_batches(s);
    if (s->in.neg_errno != 0) {
        dump_unreadable(s->d, paths[0], s->in.neg_errno);
        return false;
    }
    bool end_said = s->hole_count > 0 && s->holes[s->hole_count - 1].to == s->in.size;
    if (s->in.size < s->durable_bytes && !end_said)
        scan_damage(s, VERIFY_LOG, s->end, 0, "the file ends at %" PRIu64 ", but %" PRIu64 " bytes of it were durable",
                    s->in.size, s->durable_bytes);
    entries_end(s);
    if (s->sealed) scan_digests(s);
    if (s->nomem) dump_unreadable(s->d, paths[0], -ENOMEM);
    return true;
}

static int by_position(const void *a, const void *b) {
    const struct bad_range *x = a, *y = b;
    return (x->from > y->from) - (x->from < y->from);
}

static uint64_t batch_bytes_at(struct scan *s, uint64_t position) {
    struct batch_header h;
    size_t got;
    const uint8_t *p = input_view(&s->in, position, BATCH_HEADER_BYTES, &got);
    enum err err = batch_parse(p, got, &h);
    return got == BATCH_HEADER_BYTES && (err == OK || err == ERR_TRUNCATED) ? h.total_bytes : 0;
}

bool scan_ranges(struct dump *d, const struct folder *f, const char *path, int64_t base, struct bad_range **out, uint32_t *count) {
    struct scan s = {.d = d};
    *out = NULL;
    *count = 0;
    scan_context(&s, f, base);
    int err = input_open(&s.in, path);
    if (err == 0) {
        scan_batches(&s);
        if (s.sealed) scan_digests(&s);
        err = s.in.neg_errno;
    }
    if (err == 0 && s.nomem) err = -ENOMEM;
    struct bad_range *v = err == 0 ? calloc(s.damage_count + 2, sizeof *v) : NULL;
    if (!v) {
        dump_unreadable(d, path, err ? err : -ENOMEM);
        scan_free(&s);
        return false;
    }
    uint64_t size = s.in.size;
    for (uint32_t i = 0; i < s.damage_count; i++) {
        const struct damage *x = &s.damages[i];
        uint64_t bytes = x->bytes > 0 ? x->bytes : batch_bytes_at(&s, x->position); /* a digest blames the batch there */
        if (x->what != VERIFY_LOG || bytes == 0) continue;
        struct bad_range *r = &v[(*count)++];
        *r = (struct bad_range){.from = x->position, .to = MIN(x->position + bytes, size)};
        snprintf(r->why, sizeof r->why, "%s", x->text);
    }
    if (*count > 0) qsort(v, *count, sizeof *v, by_position);
    if (s.unfinished_bytes > 0) {
        v[*count] = (struct bad_range){.from = size - s.unfinished_bytes, .to = size, .unfinished = true};
        snprintf(v[(*count)++].why, DAMAGE_TEXT_BYTES, "an unfinished batch");
    }
    scan_free(&s);
    *out = v;
    return true;
}

static int by_file_and_position(const void *a, const void *b) {
    const struct damage *x = a, *y = b;
    if (x->what != y->what) return x->what < y->what ? -1 : 1;
    return (x->position > y->position) - (x->position < y->position);
}

static void report(struct scan *s, const char *const paths[3], unsigned what) {
    if (s->damage_count > 0) qsort(s->damages, s->damage_count, sizeof *s->damages, by_file_and_position);
    for (uint32_t i = 0; i < s->damage_count; i++) {
        const struct damage *d = &s->damages[i];
        if (!(d->what & what)) continue;
        dump_damage(s->d, paths[d->what == VERIFY_LOG ? 0 : d->what == VERIFY_INDEX ? 1 : 2], d->position, "%s", d->text);
    }
    if ((what & VERIFY_LOG) && s->unfinished_bytes > 0)
        dump_note(s->d, paths[0], "%" PRIu64 " bytes of an unfinished batch at the end", s->unfinished_bytes);
}

void verify_segment(struct dump *d, const struct folder *f, const char *stem, int64_t base_offset, unsigned what) {
    char *paths[3] = {with_suffix(stem, ".log"), with_suffix(stem, ".index"), with_suffix(stem, ".timeindex")};
    bool memory = paths[0] && paths[1] && paths[2];
    if (!memory) dump_unreadable(d, stem, -ENOMEM);
    struct folder fresh = {0};
    for (int attempt = 1; memory && attempt <= ATTEMPTS; attempt++) {
        struct scan s = {.d = d};
        scan_context(&s, attempt == 1 ? f : &fresh, base_offset);
        bool ok = scan_once(&s, (const char *const *)paths, what);
        /* In a directory that is in use, what is known of the log may be older than its files, and files change
         * under our eyes: damage must be seen again with all that is known now. */
        bool again = ok && s.damage_count > 0 && (attempt == 1 || (attempt < ATTEMPTS && input_changed(&s.in)));
        if (ok && !again) report(&s, (const char *const *)paths, what);
        scan_free(&s);
        if (!again) break;
        folder_free(&fresh);
        folder_load(&fresh, f->path, NULL);
    }
    folder_free(&fresh);
    for (int i = 0; i < 3; i++) free(paths[i]);
}
