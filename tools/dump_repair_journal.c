/* dump_repair_journal.c - a journal of which a durable group is damaged: it and all behind it are discarded.
 *
 * Recovery refuses such a journal, for what the damaged group held is not known. On the operator's word every block that begins a
 * group with its number or a later one is cleared, and synced; then the journal ends before it, and the next start goes on there. What
 * could be read of the discarded groups is said and kept. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>
#include "log/entries.h"
#include "log/journal_format.h"
#include "log/state.h"
#include "proto/storage.pb-c.h"
#include "tools/dump_chain.h"
#include "tools/dump_repair.h"

struct end_of { uint64_t plid; int64_t end, lost_to; char name[FOLDER_NAME_BYTES]; char topic[256]; int32_t partition; };
struct work {
    struct repairing *r;
    struct chain c;
    struct end_of *ends;          /* of all logs, as of the group before the damaged one */
    size_t count, cap;
};

static struct end_of *end_of(struct work *w, uint64_t plid, bool make) {
    for (size_t i = 0; i < w->count; i++)
        if (w->ends[i].plid == plid) return &w->ends[i];
    if (!make) return NULL;
    if (w->count == w->cap) {
        size_t cap = w->cap ? w->cap * 2 : 64;
        struct end_of *v = realloc(w->ends, cap * sizeof *v);
        if (!v) return NULL;
        w->ends = v;
        w->cap = cap;
    }
    w->ends[w->count] = (struct end_of){.plid = plid};
    snprintf(w->ends[w->count].name, FOLDER_NAME_BYTES, "plid %" PRIu64, plid);
    return &w->ends[w->count++];
}

static void name_it(struct end_of *e, const char *topic, int32_t partition) {
    if (!topic_name_ok(str_from(topic)) || partition < 0) return;
    folder_name(e->name, topic, partition);
    snprintf(e->topic, sizeof e->topic, "%s", topic);
    e->partition = partition;
}

static enum err take_state(void *ctx, size_t offset, const struct catalog_record *record, const struct catalog_footer *f) {
    struct work *w = ctx;
    (void)offset;
    if (f || record->plid == STORE_PLID || record->type != CATALOG_STATE) return OK;
    Varve__Storage__LogState *m = varve__storage__log_state__unpack(NULL, record->len, record->data);
    struct end_of *e = m ? end_of(w, record->plid, true) : NULL;
    if (e) {
        e->end = m->end;
        name_it(e, m->topic, m->partition);
    }
    if (m) varve__storage__log_state__free_unpacked(m, NULL);
    return e ? OK : ERR_NOMEM;
}

/* `lost`: the entry is in a group that goes. */
static void take_entry(struct work *w, const struct journal_entry *x, bool lost) {
    struct entry_records records;
    struct entry_truncate cut;
    if (x->type == ENTRY_CREATE) {
        Varve__Storage__CreateEntry *m = varve__storage__create_entry__unpack(NULL, x->body_len, x->body);
        struct end_of *e = m ? end_of(w, x->plid, true) : NULL;
        if (e) name_it(e, m->topic, m->partition);
        if (m) varve__storage__create_entry__free_unpacked(m, NULL);
        return;
    }
    struct end_of *e = end_of(w, x->plid, lost);
    if (!e) return;
    if (x->type == ENTRY_RECORDS && entry_records_decode(&records, x->header, x->header_len) == OK) {
        if (lost) e->lost_to = MAX(e->lost_to, records.end_offset);
        else e->end = records.end_offset;
    } else if (!lost && x->type == ENTRY_TRUNCATE && entry_truncate_decode(&cut, x->header, x->header_len) == OK) {
        e->end = cut.end;
    }
}

static void take_entries(struct work *w, const uint8_t *p, struct journal_pos at, const struct journal_group *g, bool lost) {
    uint32_t offset = JOURNAL_GROUP_HEADER_BYTES;
    struct journal_entry e;
    while (journal_entry_next(p, g->bytes, &offset, at, g->seq, &e) == OK) take_entry(w, &e, lost);
}

static void walked(void *ctx, const uint8_t *p, struct journal_pos at, const struct journal_group *g) { take_entries(ctx, p, at, g, false); }

/* ---- clearing ------------------------------------------------------------------------------------ */

static int clear_block(int fd, size_t at) {
    static const uint8_t zeros[IO_BLOCK_BYTES];
    ssize_t n = pwrite(fd, zeros, sizeof zeros, (off_t)at);
    return n == (ssize_t)sizeof zeros ? 0 : n < 0 ? -errno : -EIO;
}

static void discard_group(struct work *w, int fd, const char *path, uint32_t piece, uint8_t *p, size_t at, const struct journal_group *g) {
    struct repairing *r = w->r;
    bool sound = journal_group_sum_ok(p, g, w->c.footer.seed);
    char name[64], kept[4096] = "";
    if (sound) take_entries(w, p, (struct journal_pos){piece, (uint32_t)at}, g, true);
    snprintf(name, sizeof name, "journal_%06" PRIu32 ".vj_%zu", piece, at);
    if (!r->dry && !repair_keep(r, name, p, g->bytes, kept, sizeof kept)) return;
    repair_say(r, path, "position %zu: group %" PRIu64 ", %s, %s%s%s", at, g->seq, sound ? "sound" : "damaged", r->dry ? "would be discarded" : "is discarded",
               r->dry ? "" : "; kept in ", kept);
    int rc = r->dry ? 0 : clear_block(fd, at);
    if (rc < 0) repair_failed(r, path, rc);
}

static void discard_in(struct work *w, uint32_t piece) {
    char path[4096];
    size_t len;
    int rc;
    chain_piece_path(&w->c, piece, path, sizeof path);
    uint8_t *image = read_whole(path, &len, &rc);
    int fd = image && !w->r->dry ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (!image || (!w->r->dry && fd < 0)) {
        repair_failed(w->r, path, image ? -errno : rc);
        free(image);
        return;
    }
    for (size_t at = 0; at + IO_BLOCK_BYTES <= len; at += IO_BLOCK_BYTES) {
        struct journal_group g;
        if (journal_group_parse(image + at, len - at, &g) != OK || g.journal != w->c.footer.journal || g.set != w->c.footer.set) continue;
        if (g.seq >= w->c.next_seq) discard_group(w, fd, path, piece, image + at, at, &g);
    }
    if (fd >= 0 && fdatasync(fd) != 0) repair_failed(w->r, path, -errno);
    if (fd >= 0) close(fd);
    free(image);
}

static void discard_all(struct work *w) {
    DIR *dir = opendir(w->c.folder);
    if (!dir) {
        repair_failed(w->r, w->c.folder, -errno);
        return;
    }
    for (struct dirent *e; (e = readdir(dir));) {
        uint32_t piece;
        if (chain_piece_number(e->d_name, &piece)) discard_in(w, piece);
    }
    closedir(dir);
}

/* The journal goes on in this piece: it must be there, whole. */
static void piece_whole(struct work *w) {
    char path[4096];
    uint8_t *zeros = calloc(1, w->c.footer.piece_bytes);
    chain_piece_path(&w->c, w->c.head.piece, path, sizeof path);
    if (zeros && access(path, F_OK) != 0) {
        repair_say(w->r, path, w->r->dry ? "is missing, and would be made empty" : "was missing, and is made empty");
        int rc = w->r->dry ? 0 : repair_replace(path, zeros, w->c.footer.piece_bytes);
        if (rc < 0) repair_failed(w->r, path, rc);
    }
    free(zeros);
}

static enum err no_state(void *ctx, uint64_t plid, const uint8_t *data, uint32_t len) {
    (void)ctx;
    (void)plid;
    (void)data;
    (void)len;
    return OK;
}

/* The footer says that the group was durable, too. */
static void lower_footer(struct work *w) {
    char path[4096], why[300] = "", io_why[200];
    struct io_config config = {0};
    struct catalog catalog;
    struct catalog_footer f;
    snprintf(path, sizeof path, "%s/catalog", w->c.folder);
    if (w->r->dry || w->c.footer.durable_seq < w->c.next_seq) return;
    struct io *io = io_blocking_create(&config, io_why, sizeof io_why);
    enum err err = io ? catalog_load(&catalog, io, path, &f, no_state, NULL, why, sizeof why) : ERR_NOMEM;
    if (err == OK) {
        f.durable_seq = w->c.next_seq - 1;
        err = catalog_renew(&catalog, &f);
        catalog_close(&catalog);
    }
    io_destroy(io);
    if (err != OK) repair_say(w->r, path, "cannot be written: %s", why[0] ? why : err_str(err));
    w->r->failed |= err != OK;
}

static void say_lost(struct work *w) {
    for (size_t i = 0; i < w->count; i++) {
        const struct end_of *e = &w->ends[i];
        if (e->lost_to > e->end)
            repair_lost(w->r, w->c.folder, e->topic, e->partition, 0, 0, e->end, e->lost_to, "in groups that are discarded", NULL);
    }
}

void repair_journal(struct repairing *r, const char *folder, const struct meta *m) {
    struct work w = {.r = r};
    struct catalog_extent extent;
    char why[300];
    enum err err = chain_open(&w.c, folder);
    if (err == OK) err = catalog_walk(w.c.catalog, w.c.catalog_len, take_state, &w, &extent);
    if (err == ERR_CORRUPT || err == ERR_NOT_FOUND) {
        repair_catalog(r, folder, m);
    } else if (err != OK) {
        repair_say(r, folder, "the catalogue cannot be read: %s", err_str(err));
        r->failed = true;
    } else {
        chain_walk(&w.c, walked, &w);
        if (chain_damaged(&w.c, why, sizeof why)) {
            repair_say(r, folder, "%s; what it held is not known", why);
            r->places++;
            discard_all(&w);
            lower_footer(&w);
            say_lost(&w);
        }
        if (w.c.next_seq > 1) piece_whole(&w);
    }
    chain_close(&w.c);
    free(w.ends);
}
