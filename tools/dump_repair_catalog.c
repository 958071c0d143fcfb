/* dump_repair_catalog.c - a catalogue that is damaged or gone: made again from the partition folders (log/rebuild.h). The journal begins
 * anew; the old one is put aside, and what only it held is said. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "log/entries.h"
#include "log/journal_format.h"
#include "log/rebuild.h"
#include "tools/dump_chain.h"
#include "tools/dump_repair.h"

struct work { struct repairing *r; struct rebuilt made; int64_t *ends; };

static void skipped(void *ctx, const char *folder, const char *why) {
    struct work *w = ctx;
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", w->r->path, folder);
    repair_say(w->r, path, "is left out: %s", why);
    w->r->places++;
}

static bool keep(void *ctx, const char *folder, int64_t base, uint32_t position, const uint8_t *data, size_t len) {
    struct work *w = ctx;
    char path[4096], name[FOLDER_NAME_BYTES + 80], file[FILE_NAME_BYTES];
    file_name(file, base, FILE_LOG);
    snprintf(path, sizeof path, "%s/%s/%s", w->r->path, folder, file);
    snprintf(name, sizeof name, "%s_%s_%" PRIu32, folder, file, position);
    repair_say(w->r, path, "bytes %" PRIu32 " to %" PRIu64 ", behind the last sound batch, %s", position, (uint64_t)position + len - 1, w->r->dry ? "would be cut off" : "are cut off");
    w->r->places++;
    return w->r->dry || repair_keep(w->r, name, data, len, NULL, 0);
}

/* ---- what the old journal held besides ------------------------------------------------------------ */

static void take_group(void *ctx, const uint8_t *p, uint32_t at, const struct journal_group *g, bool sum_ok) {
    struct work *w = ctx;
    uint32_t offset = JOURNAL_GROUP_HEADER_BYTES;
    struct journal_entry e;
    struct entry_records records;
    if (!sum_ok || g->seq <= w->made.checkpoint_seq) return;
    while (journal_entry_next(p, g->bytes, &offset, (struct journal_pos){0, at}, g->seq, &e) == OK) {
        if (e.type != ENTRY_RECORDS || entry_records_decode(&records, e.header, e.header_len) != OK) continue;
        for (uint32_t i = 0; i < w->made.count; i++)
            if (w->made.logs[i].plid == e.plid) w->ends[i] = MAX(w->ends[i], records.end_offset);
    }
}

static void piece_aside(struct work *w, const char *folder, const char *name) {
    char path[4096], to[4096];
    size_t len;
    int rc;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    snprintf(to, sizeof to, "%s/%s", w->r->aside, name);
    uint8_t *piece = read_whole(path, &len, &rc);
    if (!piece) {
        repair_failed(w->r, path, rc);
        return;
    }
    if (w->made.seed != 0) journal_piece_walk(piece, len, w->made.seed, take_group, w);
    if (!w->r->dry && repair_keep(w->r, name, piece, len, NULL, 0) && unlink(path) != 0) repair_failed(w->r, path, -errno);
    repair_say(w->r, path, w->r->dry ? "would be put aside" : "is put aside: the journal begins anew");
    free(piece);
}

static void journal_aside(struct work *w, const char *folder) {
    struct names names;
    w->ends = calloc(w->made.count + 1, sizeof *w->ends);
    int rc = w->ends ? names_read(folder, &names) : -ENOMEM;
    if (rc < 0) {
        repair_failed(w->r, folder, rc);
        return;
    }
    for (size_t i = 0; i < names.count && !w->r->failed; i++) {
        uint32_t piece;
        if (chain_piece_number(names.v[i], &piece)) piece_aside(w, folder, names.v[i]);
    }
    names_free(&names);
    if (w->made.seed == 0) repair_say(w->r, folder, "no footer of the catalogue can be read: what only the journal held is not known");
    for (uint32_t i = 0; i < w->made.count; i++) {
        const struct rebuilt_log *l = &w->made.logs[i];
        if (w->ends[i] > l->end) repair_lost(w->r, folder, l->topic, l->partition, 0, 0, l->end, w->ends[i], "only the journal had them", NULL);
    }
}

void repair_catalog(struct repairing *r, const char *folder, const struct meta *m) {
    struct work w = {.r = r};
    struct io_config config = {0};
    const struct rebuild how = {.skipped = skipped, .keep = keep, .dry = r->dry, .ctx = &w};
    char path[4096], why[200];
    size_t len;
    int rc;
    snprintf(path, sizeof path, "%s/catalog", folder);
    uint8_t *old = read_whole(path, &len, &rc);
    struct io *io = io_blocking_create(&config, why, sizeof why);
    repair_say(r, path, r->dry ? "is damaged or missing, and would be made again from the partition folders" : "is damaged or missing: it is made again from the partition folders");
    r->places++;
    enum err err = io ? catalog_rebuild(io, r->path, m, old, old ? len : 0, &how, &w.made) : ERR_NOMEM;
    if (err != OK) {
        repair_say(r, path, "cannot be made again: %s", err_str(err));
        r->failed = true;
    } else {
        if (!r->dry && old) (void)repair_keep(r, "catalog", old, len, NULL, 0); /* says what fails, and marks it */
        if (!r->failed) journal_aside(&w, folder);
        rc = r->dry || r->failed ? 0 : repair_replace(path, w.made.catalog, w.made.len);
        if (rc < 0) repair_failed(r, path, rc);
    }
    rebuilt_free(&w.made);
    free(w.ends);
    free(old);
    io_destroy(io);
}
