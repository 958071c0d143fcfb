/* recover.c - from the catalogue's states and the journal's entries back to logs (docs/storage.md, R3 and R5).
 *
 * Folding touches no file. Afterwards only logs that the journal speaks of are looked at on disk:
 *   - files that the log does not list go, those longer than the log are cut (after an IMAGE, S3);
 *   - a block below W that was being rewritten is put right from its IMAGE;
 *   - what is pending stays in the journal: reads find it there, and the segment writer brings it into
 *     the files in its own time. Until then a file may hold stray bytes between W and the end.
 * A file below W that is shorter than W is damage: kept, reported, never cut. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "base/trace.h"
#include "log/entries.h"
#include "log/inspect.h"
#include "log/mutant.h"
#include "log/names.h"
#include "log/state.h"
#include "log/store.h"
#include "log/swap.h"
#include "log/truncate.h"
#include "log/writer.h"

/* ---- R3: fold ----------------------------------------------------------------------------------- */

enum err recover_state(void *ctx, uint64_t plid, const uint8_t *data, uint32_t len) {
    struct log_store *s = ctx;
    if (plid == STORE_PLID) {
        uint64_t assigned = 0;
        enum err err = state_decode_store(data, len, &assigned);
        s->assigned_all = MAX(s->assigned_all, assigned);
        return err;
    }
    struct log_shard *sh = &s->shards[log_store_shard_of(s, plid)];
    struct log_impl *l = NULL;
    enum err err = state_decode(sh, plid, data, len, &l);
    if (err == OK) err = shard_add_log(sh, l);
    if (err != OK && l) impl_free(l);
    return err;
}

static enum err fold_create(struct log_store *s, struct log_shard *sh, const struct journal_entry *e) {
    Varve__Storage__CreateEntry *m = varve__storage__create_entry__unpack(NULL, e->body_len, e->body);
    if (!m) return ERR_CORRUPT;
    enum err err = ERR_CORRUPT;
    struct log_impl *l = NULL;
    if (m->plid == e->plid && m->partition >= 0 && topic_name_ok(str_from(m->topic)) && !shard_find(sh, e->plid)) {
        l = impl_new(sh, e->plid, m->topic, strlen(m->topic), m->partition);
        err = l ? segment_add(l, 0, io_wall_ms(s->io)) : ERR_NOMEM;
    }
    if (err == OK) {
        if (m->topic_id.len == sizeof l->pub.topic_id.b) memcpy(l->pub.topic_id.b, m->topic_id.data, sizeof l->pub.topic_id.b);
        config_from_message(m->config, &l->config);
        l->producers_complete = true;
        if (m->replica_config.len > 0) err = impl_set_replica_config(l, m->replica_config.data, m->replica_config.len);
        if (err == OK) err = shard_add_log(sh, l);
    }
    varve__storage__create_entry__free_unpacked(m, NULL);
    if (err != OK && l) impl_free(l);
    else if (l) impl_dirty(l);
    return err;
}

static enum err fold_records(struct log_impl *l, const struct journal_entry *e) {
    struct entry_records r;
    enum err err = entry_records_decode(&r, e->header, e->header_len);
    if (err != OK) return err;
    struct segment *s = segment_last(l);
    bool below = r.base_offset < l->pub.end && r.end_offset > l->pub.end && l->segment_count == 1 && s->size_bytes == 0 && l->pub.end == l->pub.start;
    if (below) impl_begin_below(l, r.base_offset);
    if (r.base_offset < l->pub.end || r.place.segment_base != s->base || r.place.position != s->size_bytes) return ERR_CORRUPT;
    if ((err = tail_reserve(&l->tail)) != OK) return err;
    struct tail_entry t = {.base_offset = r.base_offset, .count = (uint32_t)(r.end_offset - r.base_offset), .len = e->body_len,
                           .position = s->size_bytes, .pos = e->pos};
    for (uint32_t at = 0; at < e->body_len;) {
        struct batch_header h;
        err = batch_parse(e->body + at, e->body_len - at, &h);
        if (err == OK) err = batch_check(&h);
        if (err == OK) err = impl_add_batch(l, &h, s->size_bytes);
        if (err != OK) return err == ERR_NOMEM ? err : ERR_CORRUPT;
        at += h.total_bytes;
    }
    if (l->pub.end != r.end_offset) return ERR_CORRUPT;
    tail_push(&l->tail, &t);
    l->pending_bytes += e->body_len;
    return OK;
}

/* An IMAGE counts when it reaches to W: an older one was made obsolete by the checkpoint that moved W there, which
 * synced the block. */
static enum err fold_image(struct log_impl *l, const struct journal_entry *e) {
    struct entry_image i;
    enum err err = entry_image_decode(&i, e->header, e->header_len);
    if (err != OK) return err;
    uint32_t from = i.place.position, to = from + e->body_len;
    if (e->body_len > IO_BLOCK_BYTES || from % IO_BLOCK_BYTES + e->body_len > IO_BLOCK_BYTES) return ERR_CORRUPT;
    if (i.place.segment_base != l->synced.base || from >= l->synced.position || to < l->synced.position) return OK;
    if (!l->image) l->image = malloc(sizeof *l->image);
    if (!l->image) return ERR_NOMEM;
    *l->image = (struct image){.base = l->synced.base, .from = from, .to = l->synced.position, .pos = e->pos};
    memcpy(l->image->bytes, e->body, l->synced.position - from);
    return OK;
}

static enum err fold_marker(struct log_impl *l, const struct journal_entry *e) {
    struct entry_marker m;
    enum err err = entry_marker_decode(&m, e->header, e->header_len);
    if (err == OK && m.start != l->pub.end) err = ERR_CORRUPT;
    if (err == OK) err = epochs_append(&l->pub.epochs, m.epoch, m.start);
    if (err != OK) return err == ERR_INVALID ? ERR_CORRUPT : err;
    impl_epochs_changed(l);
    return OK;
}

static enum err fold_vote(struct log_impl *l, const struct journal_entry *e) {
    struct entry_vote v;
    enum err err = entry_vote_decode(&v, e->header, e->header_len);
    if (err != OK) return err;
    l->pub.vote = (struct log_vote){.epoch = v.epoch, .has_voted = v.id >= 0, .node = v.id, .incarnation = v.incarnation};
    return OK;
}

static enum err fold_config(struct log_impl *l, const struct journal_entry *e) {
    Varve__Storage__ConfigEntry *m = varve__storage__config_entry__unpack(NULL, e->body_len, e->body);
    if (!m) return ERR_CORRUPT;
    if (m->config) config_from_message(m->config, &l->config);
    enum err err = m->has_replica_config ? impl_set_replica_config(l, m->replica_config.data, m->replica_config.len) : OK;
    varve__storage__config_entry__free_unpacked(m, NULL);
    return err;
}

static enum err fold_truncate(struct log_impl *l, const struct journal_entry *e) {
    struct entry_truncate t;
    enum err err = entry_truncate_decode(&t, e->header, e->header_len);
    if (err != OK) return err;
    if (t.end < l->pub.start || t.end > l->pub.end) return ERR_CORRUPT;
    return impl_cut(l, t.end, (struct place){t.place.segment_base, t.place.position}, t.epoch);
}

static enum err fold_start(struct log_impl *l, const struct journal_entry *e) {
    Varve__Storage__LogStartEntry *m = varve__storage__log_start_entry__unpack(NULL, e->body_len, e->body);
    if (!m) return ERR_CORRUPT;
    enum err err = m->start < l->pub.start || m->start > l->pub.end ? ERR_CORRUPT : OK;
    if (err == OK) impl_set_start(l, m->start);
    varve__storage__log_start_entry__free_unpacked(m, NULL);
    return err;
}

static enum err fold_roll(struct log_impl *l, const struct journal_entry *e) {
    Varve__Storage__RollEntry *m = varve__storage__roll_entry__unpack(NULL, e->body_len, e->body);
    if (!m) return ERR_CORRUPT;
    bool sound = m->segment_base == l->pub.end && segment_last(l)->base < l->pub.end;
    enum err err = sound ? impl_roll(l, m->created_ms) : ERR_CORRUPT;
    varve__storage__roll_entry__free_unpacked(m, NULL);
    return err;
}

static enum err fold_assigned(struct log_store *s, const struct journal_entry *e) {
    Varve__Storage__AssignedEntry *m = varve__storage__assigned_entry__unpack(NULL, e->body_len, e->body);
    if (!m) return ERR_CORRUPT;
    s->assigned_all = MAX(s->assigned_all, m->metadata_end);
    varve__storage__assigned_entry__free_unpacked(m, NULL);
    return OK;
}

static enum err fold_log(struct log_impl *l, const struct journal_entry *e) {
    impl_dirty(l);
    switch (e->type) {
    case ENTRY_RECORDS: return fold_records(l, e);
    case ENTRY_IMAGE: return fold_image(l, e);
    case ENTRY_MARKER: return fold_marker(l, e);
    case ENTRY_VOTE: return fold_vote(l, e);
    case ENTRY_CONFIG: return fold_config(l, e);
    case ENTRY_TRUNCATE: return fold_truncate(l, e);
    case ENTRY_RESET: return reset_fold(l, e->body, e->body_len);
    case ENTRY_LOGSTART: return fold_start(l, e);
    case ENTRY_ROLL: return fold_roll(l, e);
    case ENTRY_SWAP: return swap_fold(l, e->body, e->body_len);
    case ENTRY_DELETE:
        l->delete_joined = l->delete_durable = true;
        l->pending_bytes = 0; /* no file will hold them: the disk's reserve must not count them in this life */
        shard_forget_name(l->pub.shard, l);
        return OK;
    default: return ERR_UNSUPPORTED;
    }
}

enum err recover_entry(void *ctx, const struct journal_entry *e) {
    struct log_store *s = ctx;
    if (e->type == ENTRY_ASSIGNED) return fold_assigned(s, e);
    struct log_shard *sh = &s->shards[log_store_shard_of(s, e->plid)];
    if (e->type == ENTRY_CREATE) return fold_create(s, sh, e);
    struct log_impl *l = shard_find(sh, e->plid);
    /* An IMAGE may follow the DELETE that made it void. */
    if (!l) return e->type == ENTRY_IMAGE ? OK : ERR_CORRUPT;
    if (l->delete_durable) return e->type == ENTRY_IMAGE ? OK : ERR_CORRUPT;
    return fold_log(l, e);
}

/* ---- R5: files of one log ------------------------------------------------------------------------- */

struct fixing {
    struct log_store *s;
    struct log_impl *l;
    char *why;
    size_t why_len;
    enum err err;
};

static enum err refuse(struct fixing *f, int neg_errno, const char *what) {
    snprintf(f->why, f->why_len, "%s/%s: cannot %s: %s", f->s->dir, f->l->folder, what, strerror(-neg_errno));
    return f->err = neg_errno == -ENOMEM ? ERR_NOMEM : neg_errno == -ENOSPC ? ERR_NOSPACE : ERR_IO;
}

static void unlist(void *ctx, const char *name, bool is_dir) {
    struct fixing *f = ctx;
    int64_t base;
    enum file_kind kind = file_parse(name, &base);
    bool swap = kind == FILE_OTHER && swap_file_parse(name); /* those that count have their own names by now */
    if (f->err != OK || is_dir || (kind == FILE_OTHER && !swap)) return;
    if (!swap && kind != FILE_SNAPSHOT && segment_by_base(f->l, base)) return;
    /* One of a clean stop lies at the end of the log. One behind a cut tells of batches that are gone. */
    int64_t sound_end = f->l->truncate_end < 0 ? f->l->pub.end : f->l->truncate_end;
    if (kind == FILE_SNAPSHOT && base >= f->l->segments[0].base && base <= sound_end) return;
    char path[PATH_BYTES];
    path_in_folder(path, f->s->dir, f->l->folder, name);
    int rc = io_unlink(f->s->io, path);
    if (rc < 0 && rc != -ENOENT) refuse(f, rc, "remove a file that the log does not list");
}

/* Opens, or -ENOENT. */
static int open_kind(struct fixing *f, const struct segment *s, enum file_kind kind, uint64_t *size) {
    char path[PATH_BYTES];
    path_segment(path, f->s->dir, f->l->folder, s->base, kind);
    int fd = io_open(f->s->io, path, IO_OPEN_READ | IO_OPEN_WRITE);
    if (fd < 0) return fd;
    struct io_stat st;
    int rc = io_fstat(f->s->io, fd, &st);
    if (rc < 0) {
        (void)io_close(f->s->io, fd);
        return rc;
    }
    *size = st.size_bytes;
    return fd;
}

/* S3 "holds in recovery": the rest of the block goes into the journal before the file is cut inside it. */
static enum err image_now(struct fixing *f, int fd, const struct segment *s) {
    struct log_impl *l = f->l;
    uint32_t from, to;
    if (MUTANT(NO_IMAGE_RECOVERY) || !need_image(l, s, MIN(s->size_bytes, s->written_bytes), &from, &to)) return OK;
    if (l->image && l->image->base == s->base && l->image->from == from && l->image->to >= to) return OK;
    struct journal_slice slice = {0};
    enum err err = journal_slice_init(&slice, f->s->journal, l->pub.shard->index);
    if (err != OK) return refuse(f, -ENOMEM, "start");
    uint8_t *p = journal_slice_add(&slice, ENTRY_IMAGE, 0, l->pub.plid, ENTRY_IMAGE_BYTES, to - from, &err);
    if (p) {
        entry_image_encode(p, &(struct entry_image){.place = {s->base, from}});
        int64_t n = io_pread(f->s->io, fd, p + ENTRY_IMAGE_BYTES, to - from, from);
        err = n == (int64_t)(to - from) ? journal_write_now(f->s->journal, &slice) : ERR_IO;
    }
    buf_unref(slice.buf);
    return err == OK ? OK : refuse(f, err == ERR_NOMEM ? -ENOMEM : err == ERR_NOSPACE ? -ENOSPC : -EIO, "journal a block before a cut");
}

/* The block that holds W, from its IMAGE. Even if it reads right: what reads right may be a page whose sync has failed. */
static enum err put_image_back(struct fixing *f, int fd) {
    const struct image *i = f->l->image;
    uint32_t len = i->to - i->from;
    int64_t n = io_pwrite(f->s->io, fd, i->bytes, len, i->from);
    return n == (int64_t)len ? OK : refuse(f, n < 0 ? (int)n : -EIO, "put a block back");
}

static enum err fix_log_file(struct fixing *f, struct segment *s) {
    struct log_impl *l = f->l;
    uint64_t size = 0;
    int fd = open_kind(f, s, FILE_LOG, &size);
    if (fd == -ENOENT) {
        s->file_made = false;
        if (s->written_bytes > 0) inspect_short(l, s, 0, true);
        return OK;
    }
    if (fd < 0) return refuse(f, fd, "open a segment");
    s->file_made = s->unsynced = true;
    enum err err = OK;
    bool imaged = l->image && l->image->base == s->base && !MUTANT(IMAGE_UNUSED);
    if (size < s->written_bytes && !(imaged && size >= l->image->from)) inspect_short(l, s, size, false);
    else if (imaged) err = put_image_back(f, fd);
    if (err == OK && size > s->size_bytes) {
        err = image_now(f, fd, s);
        int rc = err == OK ? io_truncate(f->s->io, fd, s->size_bytes) : 0;
        if (rc < 0) err = refuse(f, rc, "cut a segment");
    }
    int rc = io_close(f->s->io, fd);
    return err != OK || rc >= 0 ? err : refuse(f, rc, "close a segment");
}

static void index_again(struct fixing *f, struct segment *s, enum file_kind kind, const char *why, uint32_t *expected) {
    trace_warn("log", "%s: the %s of segment %lld %s; the index is made again", f->l->folder, file_suffix(kind), (long long)s->base, why);
    s->reindex = true;
    s->reindex_end = s->base;
    s->reindex_position = 0;
    *expected = 0;
}

/* Whether the `n` entries at `p`, the last ones that the catalogue counts on, ascend and end with the one that it names. */
static bool index_end_sound(const struct segment *s, enum file_kind kind, const uint8_t *p, uint32_t n) {
    struct index_entry last = {0}, next = {0};
    struct time_entry last_time = {0}, next_time = {0};
    for (uint32_t i = 0; i < n; i++) {
        const char *wrong;
        if (kind == FILE_INDEX) {
            next = index_entry_get(p + i * INDEX_ENTRY_BYTES);
            wrong = index_entry_wrong(i > 0 ? &last : NULL, &next, s->size_bytes);
            last = next;
        } else {
            next_time = time_entry_get(p + i * TIME_ENTRY_BYTES);
            wrong = time_entry_wrong(i > 0 ? &last_time : NULL, &next_time);
            last_time = next_time;
        }
        if (wrong) return false;
    }
    if (kind == FILE_INDEX) return next.relative == s->last_index.relative && next.position == s->last_index.position;
    return next_time.timestamp == s->last_time.timestamp && next_time.relative == s->last_time.relative;
}

/* Entries are added to a block that holds older ones: a power cut may have torn all of it. No IMAGE protects an index, for
 * the batches can tell. */
static enum err check_index_end(struct fixing *f, struct segment *s, enum file_kind kind, uint32_t *expected) {
    uint32_t entry = kind == FILE_INDEX ? INDEX_ENTRY_BYTES : TIME_ENTRY_BYTES, count = *expected / entry;
    if (s->reindex || *expected % IO_BLOCK_BYTES == 0 || MUTANT(TORN_INDEX)) return OK;
    uint32_t first = ALIGN_DOWN(*expected, IO_BLOCK_BYTES) / entry; /* perhaps it began in the block before */
    uint8_t entries[IO_BLOCK_BYTES + TIME_ENTRY_BYTES];
    uint64_t size;
    int fd = open_kind(f, s, kind, &size);
    if (fd < 0) return refuse(f, fd, "open an index");
    uint32_t bytes = (count - first) * entry;
    int64_t n = io_pread(f->s->io, fd, entries, bytes, (uint64_t)first * entry);
    int closed = io_close(f->s->io, fd);
    if (n < 0 || closed < 0) return refuse(f, n < 0 ? (int)n : closed, "read an index");
    if (n < (int64_t)bytes || !index_end_sound(s, kind, entries, count - first)) index_again(f, s, kind, "is torn", expected);
    return OK;
}

/* An index file is cut to what the catalogue counts on: what lies behind comes from the journal. */
static enum err fix_index_file(struct fixing *f, struct segment *s, enum file_kind kind, uint32_t *expected) {
    uint64_t size = 0;
    int fd = open_kind(f, s, kind, &size);
    if (fd < 0 && fd != -ENOENT) return refuse(f, fd, "open an index");
    /* Damage; or a recovery that was cut short has cut the file after a truncation, to write other entries behind. */
    if (size < *expected) index_again(f, s, kind, "is too short", expected);
    if (fd == -ENOENT) return OK;
    int rc = size > *expected ? io_truncate(f->s->io, fd, *expected) : 0;
    s->index_unsynced = true; /* a process that was killed may have cut it, too */
    if (rc < 0) refuse(f, rc, "cut an index");
    int closed = io_close(f->s->io, fd);
    return rc < 0 ? f->err : closed < 0 ? refuse(f, closed, "close an index") : OK;
}

/* A segment that was cut: its index is made again, and its files are cut to what is left of them. */
static enum err reindex(struct fixing *f, struct segment *s) {
    struct log_impl *l = f->l;
    enum err err = truncate_reindex(l, s);
    if (err == ERR_NOMEM || err == ERR_IO) return refuse(f, err == ERR_IO ? -EIO : -ENOMEM, "index a segment that was cut");
    if (err != OK) {
        trace_error("log", "%s/%s: segment %lld cannot be read to its end; it has no index", f->s->dir, l->folder, (long long)s->base);
        s->reindex = false;
        s->index_bytes = s->time_index_bytes = 0;
    }
    err = fix_index_file(f, s, FILE_INDEX, &s->index_bytes);
    return err == OK ? fix_index_file(f, s, FILE_TIMEINDEX, &s->time_index_bytes) : err;
}

static void reindex_all(struct fixing *f) {
    for (uint32_t i = 0; i < f->l->segment_count && f->err == OK; i++)
        if (f->l->segments[i].reindex) reindex(f, &f->l->segments[i]);
    if (f->err != OK || !f->l->producers_lost) return;
    enum err err = truncate_find_producers(f->l);
    if (err == ERR_NOMEM || err == ERR_IO) refuse(f, err == ERR_IO ? -EIO : -ENOMEM, "find its producers");
    else if (err != OK) trace_error("log", "%s/%s cannot be read whole: some producers are not known any more", f->s->dir, f->l->folder);
}

static bool at_or_behind_synced(const struct log_impl *l, const struct segment *s) { return s->base >= l->synced.base; }

/* A segment of which the journal holds nothing. */
static void look_at(struct fixing *f, struct segment *s) {
    int rc = inspect_segment(f->l, s);
    if (rc < 0) refuse(f, rc, "look at its files");
}

/* A log that the journal does not speak of, or whose folder is gone. */
static void look_at_files(struct fixing *f) {
    struct log_impl *l = f->l;
    bool again = false;
    for (uint32_t i = 0; i < l->segment_count && f->err == OK; i++) {
        look_at(f, &l->segments[i]);
        again |= l->segments[i].reindex;
    }
    if (!again || f->err != OK) return;
    impl_dirty(l);
    reindex_all(f);
}

/* The SWAP is durable: its files get their names, if they did not before the crash. */
static enum err finish_swaps(struct fixing *f) {
    struct log_impl *l = f->l;
    for (uint32_t i = 0; i < l->segment_count; i++) {
        struct segment *s = &l->segments[i];
        if (!s->swap_id) continue;
        int rc = swap_rename(f->s->io, f->s->dir, l, s->base, s->swap_id);
        if (rc < 0) return refuse(f, rc, "give a compacted segment its name");
        s->swap_id = 0;
    }
    return OK;
}

static enum err fix_files(struct fixing *f) {
    struct log_impl *l = f->l;
    char path[PATH_BYTES];
    l->folder_unsynced = true; /* a process that was killed may have made files here and not come to sync their names */
    if (finish_swaps(f) != OK) return f->err;
    path_folder(path, f->s->dir, l->folder);
    int rc = io_list(f->s->io, path, unlist, f);
    if (rc < 0 && rc != -ENOENT) return refuse(f, rc, "list its files");
    for (uint32_t i = 0; i < l->segment_count && f->err == OK; i++) {
        struct segment *s = &l->segments[i];
        if (!at_or_behind_synced(l, s)) {
            look_at(f, s);
            continue;
        }
        if (fix_log_file(f, s) != OK) break;
        if (fix_index_file(f, s, FILE_INDEX, &s->index_bytes) != OK) break;
        if (fix_index_file(f, s, FILE_TIMEINDEX, &s->time_index_bytes) != OK) break;
        if (check_index_end(f, s, FILE_INDEX, &s->index_bytes) != OK) break;
        if (check_index_end(f, s, FILE_TIMEINDEX, &s->time_index_bytes) != OK) break;
    }
    reindex_all(f);
    return f->err;
}

/* ---- folders -------------------------------------------------------------------------------------- */

/* A folder without a readable manifest gets the time instead of a plid in its name. */
static enum err folder_aside(struct fixing *f, const char *name, uint64_t plid) {
    char from[PATH_BYTES], to[PATH_BYTES], stray[FOLDER_NAME_BYTES];
    uint64_t number = plid ? plid : (uint64_t)io_wall_ms(f->s->io);
    int rc;
    path_folder(from, f->s->dir, name);
    do {
        folder_name_stray(stray, name, number++);
        path_folder(to, f->s->dir, stray);
        rc = io_rename(f->s->io, from, to);
    } while (rc == -ENOTEMPTY || rc == -EEXIST);
    if (rc < 0) {
        snprintf(f->why, f->why_len, "%s: cannot be renamed to %s: %s", from, stray, strerror(-rc));
        return f->err = ERR_IO;
    }
    trace_warn("log", "%s: no partition of this directory; renamed to %s", from, stray);
    f->s->recovery.stray_folders++;
    return OK;
}

/* RESET is durable: the folder of a generation before it is garbage. */
static enum err old_generation_goes(struct fixing *f) {
    char from[PATH_BYTES], to[PATH_BYTES], name[FOLDER_NAME_BYTES];
    const struct log *pub = &f->l->pub;
    folder_name_reset(name, pub->topic, pub->partition, pub->plid, pub->generation);
    path_folder(from, f->s->dir, f->l->folder);
    path_folder(to, f->s->dir, name);
    int rc = io_rename(f->s->io, from, to);
    f->l->folder_made = f->l->folder_unsynced = f->l->manifest_unsynced = false;
    return rc < 0 ? refuse(f, rc, "put the folder of a discarded log aside") : OK;
}

/* "A CREATEd folder whose manifest is missing or torn is stray and is made again from the journal." So is that of a log without bytes
 * in files, whether or not the catalogue names it. */
static enum err fix_created_folder(struct fixing *f) {
    struct log_impl *l = f->l;
    char path[PATH_BYTES];
    struct io_stat st;
    path_folder(path, f->s->dir, l->folder);
    int rc = io_stat_path(f->s->io, path, &st);
    if (rc == -ENOENT) return OK;
    if (rc < 0) return refuse(f, rc, "look at its folder");
    struct manifest m;
    enum err err = folder_manifest_read(f->s->io, f->s->dir, l->folder, &m);
    uint64_t plid = err == OK ? m.plid : 0, generation = err == OK ? m.generation : 0;
    manifest_free(&m);
    if (plid == l->pub.plid && generation < l->pub.generation && !MUTANT(OLD_GENERATION)) return old_generation_goes(f);
    const struct log_impl *owner = plid ? shard_find(&f->s->shards[log_store_shard_of(f->s, plid)], plid) : NULL;
    if (owner && owner->delete_durable) return OK; /* fix_folders moves it */
    l->folder_made = l->folder_unsynced = l->manifest_unsynced = plid == l->pub.plid || MUTANT(BY_NAME);
    return l->folder_made ? OK : folder_aside(f, l->folder, plid);
}

/* What is in the folder of another partition is not touched: it is put aside, and comes back under the name of its owner if
 * that has no folder. */
static enum err fix_identity(struct fixing *f) {
    struct log_impl *l = f->l;
    uint64_t plid = 0;
    int rc = 0;
    switch (inspect_folder(f->s, l, &plid, &rc)) {
    case FOLDER_OWN: return OK;
    case FOLDER_UNREADABLE: return refuse(f, rc, "look at its folder");
    case FOLDER_MISSING:
        l->folder_made = false;
        return OK;
    case FOLDER_UNKNOWN:
        trace_warn("log", "%s/%s/%s is missing or damaged: it is made again, from what the files hold now", f->s->dir, l->folder, MANIFEST_FILE);
        return f->err = folder_manifest_remake(l->pub.shard, l);
    case FOLDER_OTHERS: break;
    }
    trace_error("log", "%s/%s: by its %s this is the folder of another partition", f->s->dir, l->folder, MANIFEST_FILE);
    l->folder_made = false;
    return folder_aside(f, l->folder, plid);
}

static void owner_back(void *ctx, const char *name, bool is_dir) {
    struct fixing *f = ctx;
    struct str topic;
    int32_t partition;
    if (!is_dir || f->err != OK || folder_parse(name, &topic, &partition) != FOLDER_STRAY) return;
    struct manifest m;
    enum err err = folder_manifest_read(f->s->io, f->s->dir, name, &m);
    uint64_t plid = err == OK ? m.plid : 0;
    manifest_free(&m);
    struct log_impl *l = plid ? shard_find(&f->s->shards[log_store_shard_of(f->s, plid)], plid) : NULL;
    if (!l || l->delete_durable || l->folder_made || !l->folder_counted) return;
    char from[PATH_BYTES], to[PATH_BYTES];
    path_folder(from, f->s->dir, name);
    path_folder(to, f->s->dir, l->folder);
    int rc = io_rename(f->s->io, from, to);
    f->l = l;
    if (rc < 0) {
        refuse(f, rc, "give it its folder back");
        return;
    }
    trace_warn("log", "%s: by its %s this is the folder of %s; renamed", from, MANIFEST_FILE, l->folder);
    l->folder_made = l->folder_unsynced = true;
    f->s->recovery.stray_folders -= MIN(f->s->recovery.stray_folders, 1u);
    impl_dirty(l);
}

static enum err fix_identities(struct fixing *f) {
    struct log_store *s = f->s;
    bool missing = false;
    for (uint32_t i = 0; i < s->config.shards; i++)
        for (uint32_t k = 0; k < s->shards[i].log_count && f->err == OK; k++) {
            f->l = s->shards[i].logs[k];
            if (!f->l->folder_counted || f->l->delete_durable) continue;
            fix_identity(f);
            missing |= !f->l->folder_made;
        }
    int rc = missing && f->err == OK ? io_list(s->io, s->dir, owner_back, f) : 0;
    if (rc < 0) {
        snprintf(f->why, f->why_len, "%s: cannot be listed: %s", s->dir, strerror(-rc));
        f->err = ERR_IO;
    }
    return f->err;
}

struct folders { struct fixing *f; char **known; uint32_t known_count; char **leftovers; uint32_t leftover_count, leftover_cap; };

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void leftover(struct folders *x, const char *name) {
    if (x->leftover_count == x->leftover_cap) {
        uint32_t cap = x->leftover_cap ? x->leftover_cap * 2 : 8;
        char **v = realloc(x->leftovers, cap * sizeof *v);
        if (!v) return; /* found again at the next start */
        x->leftovers = v;
        x->leftover_cap = cap;
    }
    char *copy = strdup(name);
    if (copy) x->leftovers[x->leftover_count++] = copy;
}

static void unknown_folder(void *ctx, const char *name, bool is_dir) {
    struct folders *x = ctx;
    struct fixing *f = x->f;
    if (!is_dir || f->err != OK) return;
    struct str topic;
    int32_t partition;
    enum folder_kind kind = folder_parse(name, &topic, &partition);
    if (kind == FOLDER_DELETED) leftover(x, name);
    if (kind != FOLDER_PARTITION || (x->known && bsearch(&name, x->known, x->known_count, sizeof *x->known, by_name))) return;
    struct manifest m;
    enum err err = folder_manifest_read(f->s->io, f->s->dir, name, &m);
    uint64_t plid = err == OK ? m.plid : 0;
    manifest_free(&m);
    struct log_impl *deleted = plid ? shard_find(&f->s->shards[log_store_shard_of(f->s, plid)], plid) : NULL;
    if (!deleted || !deleted->delete_durable) {
        folder_aside(f, name, plid);
        return;
    }
    char from[PATH_BYTES], to[PATH_BYTES], gone[FOLDER_NAME_BYTES];
    folder_name_deleted(gone, deleted->pub.topic, deleted->pub.partition, plid);
    path_folder(from, f->s->dir, name);
    path_folder(to, f->s->dir, gone);
    int rc = io_rename(f->s->io, from, to);
    if (rc < 0) {
        snprintf(f->why, f->why_len, "%s: cannot be renamed to %s: %s", from, gone, strerror(-rc));
        f->err = ERR_IO;
        return;
    }
    leftover(x, gone);
}

/* Names of the folders of live logs, sorted. A deleted log's name may be a new log's: its folder, if it still has the
 * name, tells by its manifest. */
static enum err known_folders(struct log_store *s, struct folders *x) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->config.shards; i++) n += s->shards[i].log_count;
    if (n == 0) return OK;
    x->known = malloc(n * sizeof *x->known);
    if (!x->known) return ERR_NOMEM;
    for (uint32_t i = 0; i < s->config.shards; i++)
        for (uint32_t k = 0; k < s->shards[i].log_count; k++) {
            struct log_impl *l = s->shards[i].logs[k];
            if (!l->delete_durable && (l->folder_counted || l->folder_made)) x->known[x->known_count++] = l->folder;
        }
    qsort(x->known, x->known_count, sizeof *x->known, by_name);
    return OK;
}

static enum err fix_folders(struct fixing *f) {
    struct log_store *s = f->s;
    struct folders x = {.f = f};
    f->err = known_folders(s, &x);
    int rc = f->err == OK ? io_list(s->io, s->dir, unknown_folder, &x) : 0;
    if (rc < 0) {
        snprintf(f->why, f->why_len, "%s: cannot be listed: %s", s->dir, strerror(-rc));
        f->err = ERR_IO;
    }
    free(x.known);
    s->leftovers = x.leftovers;
    s->leftover_count = x.leftover_count;
    return f->err;
}

/* ---- all together ----------------------------------------------------------------------------------- */

static enum err deleted_go(struct log_shard *sh) {
    for (uint32_t i = sh->log_count; i-- > 0;) {
        struct log_impl *l = sh->logs[i];
        if (!l->delete_durable) continue;
        l->folder_moved = true;
        shard_release_log(sh, l);
        if (sh->failed != OK) return ERR_NOMEM;
    }
    return OK;
}

static enum err fix_shard(struct fixing *f, struct log_shard *sh) {
    sh->dir_unsynced = true; /* folders of a process that was killed, and those that have been renamed just now */
    for (uint32_t i = 0; i < sh->log_count && f->err == OK; i++) {
        struct log_impl *l = f->l = sh->logs[i];
        l->pub.durable_end = l->pub.end;
        bool dirty = l->dirty;
        if (dirty && !l->delete_durable && l->folder_made) fix_files(f);
        else if (!l->delete_durable && l->folder_counted) look_at_files(f);
        if (dirty && !l->delete_durable && !l->folder_made) reindex_all(f);
        l->dropped_count = 0; /* a segment that the log has now may have the base of one that was dropped */
        l->droppable_total = l->dropped_total;
        l->truncate_end = -1;
        free(l->image);
        l->image = NULL;
        journal_pending_add(f->s->journal, (int64_t)l->pending_bytes);
        impl_owe(l);
        f->s->recovery.logs += !l->delete_durable;
        f->s->recovery.faulty_logs += l->pub.faulty;
        if (l->pending_bytes >= WRITE_BYTES || l->segment_count > 1) writer_want(l);
    }
    return f->err == OK ? deleted_go(sh) : f->err;
}

enum err recover_files(struct log_store *s, char *why, size_t why_len) {
    struct fixing f = {.s = s, .why = why, .why_len = why_len};
    for (uint32_t i = 0; i < s->config.shards; i++)
        for (uint32_t k = 0; k < s->shards[i].log_count && f.err == OK; k++) {
            f.l = s->shards[i].logs[k];
            if (!f.l->folder_counted && !f.l->delete_durable) fix_created_folder(&f);
        }
    if (f.err == OK) fix_identities(&f);
    if (f.err == OK) fix_folders(&f);
    for (uint32_t i = 0; i < s->config.shards && f.err == OK; i++) {
        s->shards[i].journal = s->journal;
        fix_shard(&f, &s->shards[i]);
    }
    return f.err;
}
