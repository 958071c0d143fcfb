/* dump_catalog.c - prints and verifies the journal's catalogue and varve.meta, and gathers what they and the
 * journal tell about each log. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include "log/entries.h"
#include "log/kafka_files.h"
#include "log/meta.h"
#include "log/state.h"
#include "proto/storage.pb-c.h"
#include "tools/dump_chain.h"
#include "tools/dump_line.h"

/* ---- catalogue ---- */

struct printing { struct dump *d; const char *path; };

static void show_state(struct dump *d, const struct catalog_record *r) {
    Varve__Storage__LogState *m = varve__storage__log_state__unpack(NULL, r->len, r->data);
    if (!m) return;
    if (r->plid == STORE_PLID) {
        line_u64(d, "metadataAssigned", (uint64_t)m->end);
    } else {
        line_text(d, "topic", m->topic);
        line_i64(d, "partition", m->partition);
        line_uuid(d, "topicId", m->topic_id.data, m->topic_id.len);
        line_i64(d, "startOffset", m->start);
        line_i64(d, "endOffset", m->end);
        line_u64(d, "size", m->size_bytes);
        line_u64(d, "segments", m->n_segments);
        line_u64(d, "producers", m->n_producers);
        line_u64(d, "epochs", m->n_epochs);
        if (m->n_epochs > 0) line_i64(d, "epoch", m->epochs[m->n_epochs - 1]->epoch);
        if (m->base_epoch > 0) line_i64(d, "baseEpoch", m->base_epoch);
        line_u64(d, "generation", m->generation);
        if (m->vote) {
            line_i64(d, "voteEpoch", m->vote->epoch);
            line_i64(d, "votedId", m->vote->voted_id);
            if (m->vote->voted_id >= 0) line_uuid(d, "votedIncarnation", m->vote->voted_incarnation.data, m->vote->voted_incarnation.len);
        }
        if (m->has_replica_config) line_bytes(d, "replicaConfig", m->replica_config.data, m->replica_config.len);
        if (m->n_faulty > 0) line_u64(d, "faultyRanges", m->n_faulty);
    }
    varve__storage__log_state__free_unpacked(m, NULL);
}

static enum err show_record(void *ctx, size_t offset, const struct catalog_record *r, const struct catalog_footer *f) {
    const struct printing *x = ctx;
    struct dump *d = x->d;
    line_begin(d, r->type == CATALOG_FOOTER ? "footer" : r->type == CATALOG_REMOVED ? "removed" : "state", x->path);
    line_u64(d, "position", offset);
    if (f) {
        line_u64(d, "checkpointSeq", f->checkpoint_seq);
        line_u64(d, "nextPiece", f->next.piece);
        line_u64(d, "nextPosition", f->next.offset);
        line_u64(d, "durableSeq", f->durable_seq);
        line_u64(d, "nextPlid", f->next_plid);
        line_u64(d, "journal", f->journal);
        line_u64(d, "set", f->set);
        line_u64(d, "pieceBytes", f->piece_bytes);
        line_bool(d, "cleanStop", f->clean_stop);
    } else {
        line_u64(d, "plid", r->plid);
        if (r->type == CATALOG_STATE) show_state(d, r);
    }
    line_end(d);
    return OK;
}

static enum err ignore_record(void *ctx, size_t offset, const struct catalog_record *r, const struct catalog_footer *f) {
    (void)ctx;
    (void)offset;
    (void)r;
    (void)f;
    return OK;
}

/* The directory says that it was stopped cleanly: then no checkpoint was cut short. */
static bool stopped_cleanly(const char *catalog) {
    char *path;
    const char *slash = strrchr(catalog, '/');
    if (!slash || asprintf(&path, "%.*s/../" CLEAN_SHUTDOWN_FILE, (int)(slash - catalog), catalog) < 0) return false;
    bool there = access(path, F_OK) == 0;
    free(path);
    return there;
}

static void check_catalog(struct dump *d, const char *path, catalog_walk_fn *fn) {
    struct catalog_extent extent;
    struct printing x = {d, path};
    size_t len;
    int rc;
    uint8_t *file = read_whole(path, &len, &rc);
    if (!file) {
        dump_unreadable(d, path, rc);
        return;
    }
    enum err err = catalog_walk(file, len, fn, &x, &extent);
    if (err != OK)
        dump_damage(d, path, extent.bad_at == SIZE_MAX ? extent.last_footer : extent.bad_at,
                    extent.complete_bytes == 0 ? "no complete footer: the state of no log is known"
                        : "a record that cannot be, with complete ones behind it");
    else if (extent.complete_bytes < len && stopped_cleanly(path))
        dump_damage(d, path, extent.bad_at == SIZE_MAX ? extent.complete_bytes : extent.bad_at,
                    "a record of the last checkpoint does not match its sum");
    else if (extent.complete_bytes < len)
        dump_note(d, path, "%zu bytes of an unfinished checkpoint at the end", len - extent.complete_bytes);
    free(file);
}

void print_catalog(struct dump *d, const char *path) { check_catalog(d, path, show_record); }
void verify_catalog(struct dump *d, const char *path) { check_catalog(d, path, ignore_record); }

/* ---- varve.meta ---- */

static void check_meta(struct dump *d, const char *path, bool print) {
    struct meta m;
    size_t len;
    int rc, bad = 0;
    uint8_t *file = read_whole(path, &len, &rc);
    if (!file) {
        dump_unreadable(d, path, rc);
        return;
    }
    enum err err = meta_parse(file, len, &m, &bad);
    if (err == OK && print) {
        line_begin(d, "meta", path);
        line_i64(d, "nodeId", m.node_id);
        line_uuid(d, "clusterId", m.cluster_id.b, sizeof m.cluster_id.b);
        line_uuid(d, "incarnation", m.incarnation.b, sizeof m.incarnation.b);
        line_u64(d, "journalSet", m.journal_set);
        line_u64(d, "journals", m.journals);
        line_u64(d, "sequence", m.sequence);
        line_end(d);
    }
    if (err == ERR_UNSUPPORTED) dump_damage(d, path, 0, "written by a later version");
    else if (err != OK) dump_damage(d, path, 0, "neither copy matches its sum");
    else if (bad > 0) {
        /* Which one: the first is bad if the second alone parses. */
        bool first_bad = meta_parse(file, MIN(len, (size_t)IO_BLOCK_BYTES), &m, &bad) != OK;
        dump_damage(d, path, first_bad ? 0 : IO_BLOCK_BYTES, "one of the two copies does not match its sum");
    }
    free(file);
}

void print_meta(struct dump *d, const char *path) { check_meta(d, path, true); }
void verify_meta(struct dump *d, const char *path) { check_meta(d, path, false); }

/* ---- what is known of each log ---- */

struct data_dir {
    struct known_log *logs;       /* ascending plid */
    size_t count, cap;
    uint32_t journal;             /* that is being loaded */
};

/* Index of the first log at or above `plid`. */
static size_t place_of(const struct data_dir *dir, uint64_t plid) {
    size_t low = 0, high = dir->count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (dir->logs[mid].plid < plid) low = mid + 1;
        else high = mid;
    }
    return low;
}

static struct known_log *find_log(struct data_dir *dir, uint64_t plid) {
    size_t at = place_of(dir, plid);
    return at < dir->count && dir->logs[at].plid == plid ? &dir->logs[at] : NULL;
}

static void clear_log(struct known_log *l) {
    epochs_free(&l->epochs);
    free(l->segments);
    *l = (struct known_log){.plid = l->plid, .journal = l->journal};
}

/* A new one, or the old one emptied. NULL: memory. */
static struct known_log *put_log(struct data_dir *dir, uint64_t plid) {
    struct known_log *l = find_log(dir, plid);
    if (l) {
        clear_log(l);
        return l;
    }
    if (dir->count == dir->cap) {
        size_t cap = dir->cap ? dir->cap * 2 : 64;
        struct known_log *grown = realloc(dir->logs, cap * sizeof *grown);
        if (!grown) return NULL;
        dir->logs = grown;
        dir->cap = cap;
    }
    size_t at = place_of(dir, plid);
    memmove(dir->logs + at + 1, dir->logs + at, (dir->count - at) * sizeof *dir->logs);
    dir->count++;
    dir->logs[at] = (struct known_log){.plid = plid, .journal = dir->journal};
    return &dir->logs[at];
}

static enum err fill_log(struct known_log *l, const Varve__Storage__LogState *m) {
    l->exact = true;
    snprintf(l->topic, sizeof l->topic, "%s", m->topic);
    l->partition = m->partition;
    l->segments = calloc(m->n_segments + 1, sizeof *l->segments);
    if (!l->segments) return ERR_NOMEM;
    for (size_t i = 0; i < m->n_segments; i++)
        l->segments[l->segment_count++] = (struct known_segment){m->segments[i]->base_offset,
                                                                 m->segments[i]->size_bytes, m->segments[i]->sealed};
    for (size_t i = 0; i < m->n_epochs; i++)
        if (epochs_append(&l->epochs, m->epochs[i]->epoch, m->epochs[i]->start) != OK) l->exact = false;
    return OK;
}

static enum err take_record(void *ctx, size_t offset, const struct catalog_record *r, const struct catalog_footer *f) {
    struct data_dir *dir = ctx;
    (void)offset;
    if (f || r->plid == STORE_PLID) return OK;
    struct known_log *l = put_log(dir, r->plid);
    if (!l) return ERR_NOMEM;
    if (r->type == CATALOG_REMOVED) return OK;
    Varve__Storage__LogState *m = varve__storage__log_state__unpack(NULL, r->len, r->data);
    if (!m) return OK;
    enum err err = fill_log(l, m);
    varve__storage__log_state__free_unpacked(m, NULL);
    return err;
}

static void log_start_moved(struct known_log *l, const struct journal_entry *e) {
    Varve__Storage__LogStartEntry *m = varve__storage__log_start_entry__unpack(NULL, e->body_len, e->body);
    if (!m) return;
    uint32_t gone = 0;
    while (gone < l->segment_count && l->segments[gone].base < m->segment_base) gone++;
    if (gone > 0) {
        l->segment_count -= gone;
        memmove(l->segments, l->segments + gone, l->segment_count * sizeof *l->segments);
    }
    varve__storage__log_start_entry__free_unpacked(m, NULL);
}

static void take_entry(struct data_dir *dir, const struct journal_entry *e) {
    struct entry_marker marker;
    if (e->type == ENTRY_ASSIGNED) return;
    struct known_log *l = e->type == ENTRY_CREATE ? put_log(dir, e->plid) : find_log(dir, e->plid);
    if (!l) return;
    l->clean_stop = false;
    if (e->type == ENTRY_CREATE) l->exact = true;
    if (e->type == ENTRY_MARKER && entry_marker_decode(&marker, e->header, e->header_len) == OK) {
        if (epochs_append(&l->epochs, marker.epoch, marker.start) != OK) l->exact = false;
    } else if (e->type == ENTRY_LOGSTART) {
        log_start_moved(l, e);
    } else if (e->type == ENTRY_TRUNCATE || e->type == ENTRY_RESET || e->type == ENTRY_DELETE || e->type == ENTRY_SWAP) {
        l->exact = false;
    }
}

static void take_group(void *ctx, const uint8_t *p, struct journal_pos at, const struct journal_group *g) {
    uint32_t offset = JOURNAL_GROUP_HEADER_BYTES;
    struct journal_entry e;
    while (journal_entry_next(p, g->bytes, &offset, at, g->seq, &e) == OK) take_entry(ctx, &e);
}

static void set_all(struct data_dir *dir, bool clean_stop) {
    for (size_t i = 0; i < dir->count; i++)
        if (dir->logs[i].journal == dir->journal) dir->logs[i].clean_stop = clean_stop && dir->logs[i].exact;
}

/* What a journal says that is damaged itself is not to be relied on. */
static void take_journal(struct data_dir *dir, const char *folder) {
    struct chain c;
    struct catalog_extent extent;
    char why[200];
    bool ok = chain_open(&c, folder) == OK && catalog_walk(c.catalog, c.catalog_len, take_record, dir, &extent) == OK;
    if (ok) {
        set_all(dir, c.footer.clean_stop);
        chain_walk(&c, take_group, dir);
        ok = !chain_damaged(&c, why, sizeof why);
    }
    for (size_t i = 0; !ok && i < dir->count; i++)
        if (dir->logs[i].journal == dir->journal) dir->logs[i].exact = dir->logs[i].clean_stop = false;
    chain_close(&c);
}

struct data_dir *data_dir_load(const char *path) {
    char *name;
    size_t len;
    int rc;
    struct meta m;
    if (asprintf(&name, "%s/varve.meta", path) < 0) return NULL;
    uint8_t *file = read_whole(name, &len, &rc);
    free(name);
    bool ok = file && meta_parse(file, len, &m, NULL) == OK;
    free(file);
    struct data_dir *dir = ok ? calloc(1, sizeof *dir) : NULL;
    for (uint32_t k = 0; dir && k < m.journals && k < 1024; k++) {
        if (asprintf(&name, "%s/journal-%" PRIu32, path, k) < 0) break;
        dir->journal = k;
        take_journal(dir, name);
        free(name);
    }
    return dir;
}

void data_dir_free(struct data_dir *dir) {
    if (!dir) return;
    for (size_t i = 0; i < dir->count; i++) clear_log(&dir->logs[i]);
    free(dir->logs);
    free(dir);
}

const struct known_log *data_dir_log(const struct data_dir *dir, uint64_t plid) {
    size_t at = place_of(dir, plid);
    return at < dir->count && dir->logs[at].plid == plid ? &dir->logs[at] : NULL;
}

const struct known_log *data_dir_at(const struct data_dir *dir, size_t i) { return i < dir->count ? &dir->logs[i] : NULL; }
