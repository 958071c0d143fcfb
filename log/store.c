/* store.c - opening, attaching, stopping and closing a data directory. */
#include "log/store.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "base/trace.h"
#include "log/journal_format.h"
#include "log/kafka_files.h"
#include "log/meta.h"
#include "log/scrub.h"
#include "log/state.h"
#include "log/writer.h"

#define LOCK_FILE ".lock"
#define ASIDE_PREFIX "damaged." /* no name of a partition's folder */
enum { STOP_POLL_NS = 1000 * 1000 };

/* ---- failure -------------------------------------------------------------------------------- */

static void stop_finish(struct log_store *s, enum err err) {
    void (*stopped)(void *ctx, enum err err) = s->stopped;
    s->stopped = NULL;
    if (stopped) stopped(s->stopped_ctx, err);
}

static void failed_deliver(struct mail *m) {
    struct log_store *s = CONTAINER_OF(m, struct log_store, failed_mail);
    if (s->config.failed) s->config.failed(s->config.failed_ctx, s->failed_err, s->failed_what);
    stop_finish(s, s->failed_err);
}

void store_fail(struct log_store *s, enum err err, const char *what) {
    if (atomic_exchange(&s->failed, true)) return;
    s->failed_err = err;
    s->failed_what = what;
    s->failed_mail.deliver = failed_deliver;
    if (s->shards[0].mailbox) mailbox_post(s->shards[0].mailbox, &s->failed_mail);
    else failed_deliver(&s->failed_mail);
}

static void journal_failed(void *ctx, enum err err, const char *what) { store_fail(ctx, err, what); }

/* ---- open ----------------------------------------------------------------------------------- */

/* Makes the folder at the first `len` bytes of `dir`, durably. One that is there may have been made just before a crash. */
static int make_part(struct io *io, const char *dir, size_t len) {
    char path[PATH_BYTES], parent[PATH_BYTES];
    snprintf(path, sizeof path, "%.*s", (int)len, dir);
    int rc = io_mkdir(io, path);
    if (rc < 0 && rc != -EEXIST) return rc;
    const char *slash = strrchr(path, '/');
    size_t parent_len = slash ? (size_t)(slash - path) : 0;
    snprintf(parent, sizeof parent, "%.*s", (int)parent_len, path);
    int synced = io_sync_dir(io, parent_len > 0 ? parent : slash ? "/" : ".");
    return rc == -EEXIST && synced == -EACCES ? 0 : synced; /* somebody else made it, and keeps its parent to himself */
}

static enum err make_dir(struct io *io, const char *dir, char *why, size_t why_len) {
    size_t len = strlen(dir);
    while (len > 1 && dir[len - 1] == '/') len--;
    if (len + FOLDER_NAME_BYTES + FILE_NAME_BYTES + 2 >= PATH_BYTES) {
        snprintf(why, why_len, "the path of the data directory is too long");
        return ERR_INVALID;
    }
    for (size_t i = 1; i <= len; i++) {
        if (i < len && dir[i] != '/') continue;
        int rc = make_part(io, dir, i);
        if (rc >= 0 || i < len) continue; /* a parent that may not be made may well exist */
        snprintf(why, why_len, "%s: cannot be made: %s", dir, strerror(-rc));
        return err_from_errno(rc);
    }
    return OK;
}

static enum err take_lock(struct log_store *s, char *why, size_t why_len) {
    char path[PATH_BYTES];
    path_folder(path, s->dir, LOCK_FILE);
    s->lock_fd = io_lock(s->io, path);
    if (s->lock_fd >= 0) return OK;
    if (s->lock_fd == -EWOULDBLOCK) {
        snprintf(why, why_len, "%s: another process uses this data directory (it holds %s)", s->dir, LOCK_FILE);
        return ERR_BUSY;
    }
    snprintf(why, why_len, "%s: cannot be locked: %s", path, strerror(-s->lock_fd));
    return err_from_errno(s->lock_fd);
}

static enum err load_meta(struct log_store *s, struct meta *m, char *why, size_t why_len) {
    enum err err = meta_load(s->io, s->dir, m, why, why_len);
    if (err == OK && m->node_id != s->config.node_id) {
        snprintf(why, why_len, "%s belongs to node %d, and this is node %d: start with --node-id %d, or use another directory", s->dir,
                 m->node_id, s->config.node_id, m->node_id);
        return ERR_INVALID;
    }
    if (err != ERR_NOT_FOUND) return err;
    struct io_stat st;
    char path[PATH_BYTES];
    journal_catalog_path(path, sizeof path, s->dir, 0);
    if (io_stat_path(s->io, path, &st) != -ENOENT) { /* varve.meta is durable before there is a journal */
        snprintf(why, why_len, "%s: varve.meta is missing, but there is a journal: put the file back, or use another directory", s->dir);
        return ERR_CORRUPT;
    }
    *m = (struct meta){.node_id = s->config.node_id, .journal_set = 1};
    io_entropy(s->io, m->cluster_id.b, sizeof m->cluster_id.b);
    io_entropy(s->io, m->incarnation.b, sizeof m->incarnation.b);
    err = meta_store(s->io, s->dir, m);
    if (err != OK) snprintf(why, why_len, "%s: varve.meta cannot be written: %s", s->dir, err_str(err));
    return err;
}

static enum err open_journal(struct log_store *s, struct meta *m, char *why, size_t why_len) {
    const struct log_store_config *c = &s->config;
    struct journal_config jc = {.dir = s->dir, .index = 0, .set = m->journal_set, .bytes = c->journal_bytes,
                                .piece_bytes = c->journal_piece_bytes, .depth = c->journal_depth, .shards = c->shards,
                                .disk_reserve_bytes = c->disk_reserve_bytes, .direct = c->direct, .fsync_never = c->fsync_never,
                                .must_exist = m->journals > 0, .failed = journal_failed, .ctx = s};
    struct journal_replay replay = {.ctx = s, .state = recover_state, .entry = recover_entry};
    struct journal_recovery rec;
    enum err err = journal_open(s->io, &jc, &replay, &s->journal, &rec, why, why_len);
    if (err != OK) return err;
    s->recovery.fresh = rec.fresh;
    s->recovery.clean = rec.clean;
    s->recovery.journal_groups = rec.groups;
    s->recovery.journal_bytes = rec.bytes;
    if (m->journals > 0) return OK;
    m->journals = 1;
    err = meta_store(s->io, s->dir, m);
    if (err != OK) snprintf(why, why_len, "%s: varve.meta cannot be written: %s", s->dir, err_str(err));
    return err;
}

static enum err open_parts(struct log_store *s, char *why, size_t why_len) {
    struct meta m;
    enum err err = make_dir(s->io, s->dir, why, why_len);
    if (err == OK) err = take_lock(s, why, why_len);
    if (err == OK) err = load_meta(s, &m, why, why_len);
    if (err != OK) return err;
    s->cluster_id = m.cluster_id;
    s->incarnation = m.incarnation;
    for (uint32_t i = 0; i < s->config.shards && err == OK; i++) err = shard_init(&s->shards[i], s, i);
    if (err == OK) err = open_journal(s, &m, why, why_len);
    if (err == OK) err = recover_files(s, why, why_len);
    if (err == ERR_NOMEM && why[0] == '\0') snprintf(why, why_len, "out of memory");
    if (err != OK) return err;
    for (uint32_t i = 0; i < s->config.shards; i++) atomic_store(&s->assigned[i], s->assigned_all);
    s->recovery.metadata_assigned = s->assigned_all;
    char path[PATH_BYTES];
    path_folder(path, s->dir, CLEAN_SHUTDOWN_FILE);
    int rc = io_unlink(s->io, path);
    if (rc >= 0 || rc == -ENOENT) return OK;
    snprintf(why, why_len, "%s: cannot be removed: %s", path, strerror(-rc));
    return ERR_IO;
}

/* ---- a lost disk ---------------------------------------------------------------------------- */

struct aside { struct io *io; const char *dir; char to[PATH_BYTES]; int rc; };

static void move_aside(void *ctx, const char *name, bool is_dir) {
    struct aside *x = ctx;
    char from[PATH_BYTES], to[PATH_BYTES];
    (void)is_dir;
    if (x->rc < 0 || strcmp(name, LOCK_FILE) == 0 || strncmp(name, ASIDE_PREFIX, sizeof ASIDE_PREFIX - 1) == 0) return;
    path_folder(from, x->dir, name);
    path_in_folder(to, x->dir, x->to, name);
    x->rc = io_rename(x->io, from, to);
}

/* In any order, and a crash in the middle is no harm: what is left is damaged, too. */
static enum err put_aside(struct log_store *s, char *why, size_t why_len) {
    struct aside x = {.io = s->io, .dir = s->dir};
    char path[PATH_BYTES];
    int64_t number = io_wall_ms(s->io);
    int rc;
    do {
        snprintf(x.to, sizeof x.to, ASIDE_PREFIX "%lld", (long long)number++);
        path_folder(path, s->dir, x.to);
        rc = io_mkdir(s->io, path);
    } while (rc == -EEXIST);
    if (rc >= 0) rc = io_list(s->io, s->dir, move_aside, &x);
    if (rc >= 0) rc = x.rc;
    if (rc >= 0) rc = io_sync_dir(s->io, path);
    if (rc >= 0) rc = io_sync_dir(s->io, s->dir);
    if (rc >= 0) {
        trace_error("log", "%s: the disk is lost: %s. Other brokers have what was here, so it begins anew, as another incarnation; what was there "
                    "is in %s, to be deleted when nobody wants to look at it any more", s->dir, why, path);
        return OK;
    }
    size_t len = strlen(why);
    snprintf(why + len, why_len - len, "; it cannot be moved to %s: %s", path, strerror(-rc));
    return err_from_errno(rc);
}

/* `*aside`: the directory was damaged and is empty now. */
static enum err open_once(struct io *io, const struct log_store_config *cfg, struct log_store **out, bool *aside, char *why, size_t why_len) {
    why[0] = '\0';
    struct log_store *s = calloc(1, sizeof *s);
    if (s) {
        *s = (struct log_store){.io = io, .config = *cfg, .dir = strdup(cfg->dir), .lock_fd = -1};
        s->shards = calloc(cfg->shards, sizeof *s->shards);
        s->assigned = calloc(cfg->shards, sizeof *s->assigned);
    }
    enum err err = s && s->dir && s->shards && s->assigned ? open_parts(s, why, why_len) : ERR_NOMEM;
    if (err != OK) {
        if (why[0] == '\0') snprintf(why, why_len, "%s: %s", cfg->dir, err_str(err));
        if (err == ERR_CORRUPT && cfg->has_peers && !*aside) *aside = put_aside(s, why, why_len) == OK; /* while the lock is held */
        else *aside = false;
        log_store_close(s);
        return err;
    }
    *out = s;
    return OK;
}

enum err log_store_open(struct io *io, const struct log_store_config *cfg, struct log_store **out, struct log_recovery *rec, char *why,
                        size_t why_len) {
    ASSERT(cfg->shards > 0 && why_len > 0);
    int64_t begin = io_mono_ns(io);
    bool aside = false, lost = false;
    *out = NULL;
    enum err err = open_once(io, cfg, out, &aside, why, why_len);
    if (err != OK && aside) {
        lost = true;
        err = open_once(io, cfg, out, &aside, why, why_len);
    }
    if (err != OK) return err;
    (*out)->recovery.lost = lost;
    (*out)->recovery.elapsed_ns = io_mono_ns(io) - begin;
    *rec = (*out)->recovery;
    return OK;
}

const struct uuid *log_store_cluster_id(const struct log_store *s) { return &s->cluster_id; }
enum err log_store_set_cluster_id(struct log_store *s, const struct uuid *id) {
    struct meta m;
    char why[256];
    if (uuid_eq(&s->cluster_id, id)) return OK;
    enum err err = meta_load(s->io, s->dir, &m, why, sizeof why);
    m.cluster_id = *id;
    if (err == OK) err = meta_store(s->io, s->dir, &m);
    if (err == OK) s->cluster_id = *id;
    return err;
}
const struct uuid *log_store_incarnation(const struct log_store *s) { return &s->incarnation; }
uint32_t log_store_shard_of(const struct log_store *s, uint64_t plid) { return log_shard_of(plid, s->config.shards); }
uint64_t log_store_new_plid(struct log_store *s) { return journal_new_plid(s->journal); }
void log_store_plid_taken(struct log_store *s, uint64_t plid) { journal_plid_taken(s->journal, log_plid_group(plid)); }

struct log_shard *log_store_attach(struct log_store *s, uint32_t index, struct io *io, struct mailbox *mailbox, struct timers *timers) {
    ASSERT(index < s->config.shards);
    struct log_shard *sh = &s->shards[index];
    ASSERT(!sh->mailbox);
    shard_attach(sh, io, mailbox, timers);
    if (index == 0) {
        s->io = io;
        journal_attach(s->journal, io, mailbox, timers);
        for (uint32_t i = 0; i < s->leftover_count; i++) folder_unlink(sh, s->leftovers[i]);
    }
    journal_attach_shard(s->journal, index, mailbox, &shard_journal_ops, sh);
    shard_work(sh);
    return sh;
}

/* ---- assigned ------------------------------------------------------------------------------- */

void store_assigned(struct log_store *s, struct log_shard *sh, uint64_t metadata_end) {
    atomic_store(&s->assigned[sh->index], metadata_end);
    uint64_t least = metadata_end;
    for (uint32_t i = 0; i < s->config.shards; i++) {
        uint64_t other = atomic_load(&s->assigned[i]);
        least = MIN(least, other);
    }
    uint64_t before = atomic_load(&s->assigned_all);
    do {
        if (least <= before) return;
    } while (!atomic_compare_exchange_weak(&s->assigned_all, &before, least));
    Varve__Storage__AssignedEntry m = VARVE__STORAGE__ASSIGNED_ENTRY__INIT;
    m.metadata_end = least;
    if (shard_message(sh, ENTRY_ASSIGNED, 0, &m.base) != OK) shard_fail(sh, ERR_NOMEM, "no memory for a journal entry");
}

/* ---- stop -----------------------------------------------------------------------------------
 *
 *   shard 0 --stop--> every shard: no more appends --> shard 0 --> checkpoint of everything
 *           --export--> every shard: its logs' files for Kafka --> shard 0: those of the directory, done */

static void answer(struct log_shard *sh, void (*deliver)(struct mail *m)) {
    sh->reply.deliver = deliver;
    mailbox_post(sh->store->shards[0].mailbox, &sh->reply);
}

static void exported_deliver(struct mail *m) {
    struct log_shard *sh = CONTAINER_OF(m, struct log_shard, reply);
    struct log_store *s = sh->store;
    if (--s->stop_waiting > 0) return;
    enum err err = store_failed(s) ? ERR_IO : export_store(s);
    stop_finish(s, err);
}

static void export_when_idle(struct log_shard *sh) {
    bool idle = sh->failed != OK || (sh->writers_busy == 0 && !sh->checkpoint.active && !timer_armed(&sh->more_work) && list_empty(&sh->unlinks) && list_empty(&sh->reads) && !scrub_busy(sh) &&
                                     !compactor_busy(sh) && (sh != &sh->store->shards[0] || journal_rest(sh->store->journal)));
    if (!idle) {
        timer_set(sh->timers, &sh->stop_timer, io_mono_ns(sh->io) + STOP_POLL_NS);
        return;
    }
    if (sh->failed == OK) export_logs(sh);
    answer(sh, exported_deliver);
}

void shard_stop_timer(struct timer *t) { export_when_idle(CONTAINER_OF(t, struct log_shard, stop_timer)); }

static void export_deliver(struct mail *m) { export_when_idle(CONTAINER_OF(m, struct log_shard, mail)); }

static void to_all(struct log_store *s, void (*deliver)(struct mail *m)) {
    s->stop_waiting = s->config.shards;
    for (uint32_t i = 0; i < s->config.shards; i++) {
        s->shards[i].mail.deliver = deliver;
        mailbox_post(s->shards[i].mailbox, &s->shards[i].mail);
    }
}

static void stop_checkpointed(void *ctx, enum err err) {
    struct log_store *s = ctx;
    if (err != OK) stop_finish(s, err);
    else to_all(s, export_deliver);
}

/* Everything is in files. The IMAGEs that this took lie behind the checkpoint, and nothing will be behind the next one:
 * that is what makes the stop a clean one. */
static void stop_flushed(void *ctx, enum err err) {
    struct log_store *s = ctx;
    if (err != OK) stop_finish(s, err);
    else journal_checkpoint(s->journal, true, stop_checkpointed, s);
}

static void stopping_deliver(struct mail *m) {
    struct log_shard *sh = CONTAINER_OF(m, struct log_shard, reply);
    struct log_store *s = sh->store;
    if (--s->stop_waiting > 0) return;
    if (store_failed(s)) stop_finish(s, s->failed_err);
    else journal_checkpoint(s->journal, false, stop_flushed, s);
}

static void stop_deliver(struct mail *m) {
    struct log_shard *sh = CONTAINER_OF(m, struct log_shard, mail);
    sh->stopping = true;
    scrub_stop(sh);
    answer(sh, stopping_deliver);
}

void log_store_stop(struct log_store *s, void (*done)(void *ctx, enum err err), void *ctx) {
    ASSERT(!s->stopped);
    s->stopped = done;
    s->stopped_ctx = ctx;
    to_all(s, stop_deliver);
}

uint64_t log_store_progress(const struct log_store *s) { return atomic_load_explicit(&s->progress, memory_order_relaxed); }

void log_store_close(struct log_store *s) {
    if (!s) return;
    for (uint32_t i = 0; s->shards && i < s->config.shards; i++)
        if (s->shards[i].store) shard_free(&s->shards[i]);
    if (s->journal) journal_close(s->journal);
    if (s->lock_fd >= 0) (void)io_close(s->io, s->lock_fd);
    for (uint32_t i = 0; i < s->leftover_count; i++) free(s->leftovers[i]);
    free(s->leftovers);
    free(s->shards);
    free(s->assigned);
    free(s->dir);
    free(s);
}
