/* rebuild.c - see rebuild.h. */
#include "log/rebuild.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "log/catalog_impl.h"
#include "log/names.h"
#include "log/state.h"
#include "log/writer.h"

enum { PIECE_BYTES = 16 << 20 };

struct old_state { uint64_t plid; const uint8_t *data; uint32_t len; };
struct rebuilding {
    struct io *io;
    const char *dir;
    const struct rebuild *how;
    struct rebuilt *r;
    struct old_state *old;               /* the newest of each log that can be read */
    uint32_t old_count, old_cap;
    struct catalog_footer footer;
    uint64_t bytes_cap;
    uint32_t states;
    enum err err;
};

static bool fits(void **v, uint32_t *cap, uint32_t count, size_t size) {
    if (count < *cap) return true;
    uint32_t n = *cap ? *cap * 2 : 64;
    void *grown = realloc(*v, n * size);
    if (!grown) return false;
    *v = grown;
    *cap = n;
    return true;
}

/* ---- what the old catalogue still says ------------------------------------------------------------- */

static void take_state(struct rebuilding *x, const struct catalog_record *c) {
    uint32_t i = 0;
    while (i < x->old_count && x->old[i].plid != c->plid) i++;
    if (i == x->old_count) {
        if (!fits((void **)&x->old, &x->old_cap, x->old_count, sizeof *x->old)) {
            x->err = ERR_NOMEM;
            return;
        }
        x->old_count++;
    }
    x->old[i] = (struct old_state){c->plid, c->data, c->len};
}

static void take_footer(struct rebuilding *x, const struct catalog_record *c) {
    Varve__Storage__CatalogFooter *m = varve__storage__catalog_footer__unpack(NULL, c->len, c->data);
    if (!m) return;
    x->footer.next_plid = MAX(x->footer.next_plid, m->next_plid);
    if (m->piece_bytes >= 4 * IO_BLOCK_BYTES && m->piece_bytes <= (1u << 30) && m->piece_bytes % IO_BLOCK_BYTES == 0) x->footer.piece_bytes = m->piece_bytes;
    x->r->seed = m->sum_seed;
    x->r->checkpoint_seq = m->checkpoint_seq;
    varve__storage__catalog_footer__free_unpacked(m, NULL);
}

static void read_old(struct rebuilding *x, const uint8_t *old, size_t len) {
    struct catalog_record c;
    for (size_t at = 0; at < len && x->err == OK;) {
        if (catalog_record_parse(old, len, at, &c) != OK) {
            at += 8;
            continue;
        }
        if (c.type == CATALOG_STATE) take_state(x, &c);
        else if (c.type == CATALOG_FOOTER) take_footer(x, &c);
        at += c.bytes;
    }
}

/* ---- one segment --------------------------------------------------------------------------------------- */

static bool sound_at(const uint8_t *data, size_t len, size_t at, int64_t expected, struct batch_header *h) {
    return batch_parse(data + at, len - at, h) == OK && batch_check(h) == OK && h->base_offset >= expected &&
           h->base_offset - expected <= INT32_MAX && batch_crc_ok(data + at, h);
}

static enum err add_batch(struct log_impl *l, struct segment *s, const struct batch_header *h) {
    struct log *pub = &l->pub;
    enum err err = OK;
    if (pub->epochs.count == 0 || h->leader_epoch > pub->epochs.entries[pub->epochs.count - 1].epoch)
        err = epochs_append(&pub->epochs, h->leader_epoch, h->base_offset);
    if (err == OK) err = producers_apply(&pub->producers, h);
    if (err != OK) return err == ERR_NOMEM ? err : OK; /* what does not fit is found by the check that follows */
    if (s->first_timestamp < 0) s->first_timestamp = h->max_timestamp;
    if (h->record_count > 0 && h->max_timestamp > s->max_timestamp) {
        s->max_timestamp = h->max_timestamp;
        s->max_timestamp_offset = batch_last_offset(h);
    }
    return OK;
}

/* `next_base` -1: it is the last, and ends with its last sound batch. */
static enum err add_segment(struct rebuilding *x, struct log_impl *l, int64_t base, int64_t next_base) {
    char path[PATH_BYTES];
    uint8_t *data;
    size_t len, at = 0, sound_to = 0;
    int64_t expected = base;
    path_segment(path, x->dir, l->folder, base, FILE_LOG);
    int rc = io_read_file(x->io, path, INT32_MAX, &data, &len);
    if (rc < 0) return err_from_errno(rc);
    enum err err = segment_add(l, base, io_wall_ms(x->io));
    struct segment *s = err == OK ? segment_last(l) : NULL;
    while (err == OK && at + BATCH_HEADER_BYTES <= len) {
        struct batch_header h;
        if (!sound_at(data, len, at, expected, &h)) {
            at++;
            continue;
        }
        if (at == sound_to && h.base_offset > expected) l->compacted_end = MAX(l->compacted_end, base + 1);
        err = add_batch(l, s, &h);
        expected = batch_last_offset(&h) + 1;
        at += h.total_bytes;
        sound_to = at;
    }
    if (err == OK) {
        bool last = next_base < 0;
        if (!last && sound_to == len && expected < next_base) l->compacted_end = MAX(l->compacted_end, base + 1);
        s->size_bytes = s->written_bytes = (uint32_t)(last ? sound_to : len);
        s->file_made = s->size_bytes > 0;
        s->end = last ? expected : MAX(next_base, base);
        l->pub.size_bytes += s->size_bytes;
        if (last && sound_to < len && !x->how->keep(x->how->ctx, l->folder, base, (uint32_t)sound_to, data + sound_to, len - sound_to)) err = ERR_IO;
        int fd = last && sound_to < len && err == OK && !x->how->dry ? io_open(x->io, path, IO_OPEN_READ | IO_OPEN_WRITE) : -1;
        if (fd >= 0) {
            rc = io_truncate(x->io, fd, sound_to);
            int synced = io_sync(x->io, fd), closed = io_close(x->io, fd);
            if (rc < 0 || synced < 0 || closed < 0) err = ERR_IO;
        }
    }
    free(data);
    return err;
}

/* ---- one log ---------------------------------------------------------------------------------------------- */

struct bases { int64_t *v; uint32_t count, cap; bool nomem; };
static void list_base(void *ctx, const char *name, bool is_dir) {
    struct bases *b = ctx;
    int64_t base;
    if (is_dir || file_parse(name, &base) != FILE_LOG) return;
    if (fits((void **)&b->v, &b->cap, b->count, sizeof *b->v)) b->v[b->count++] = base; /* names are sorted, and so are bases */
    else b->nomem = true;
}

/* Batches tell of epochs that have records; of the others, and of where they begin, only the old state does. */
static enum err inherit_epochs(struct log_impl *l, const struct epochs *old) {
    struct epochs merged;
    epochs_init(&merged);
    epochs_reset(&merged, old->base_epoch, old->base_end);
    enum err err = OK;
    for (uint32_t i = 0; i < old->count && err == OK; i++)
        if (old->entries[i].start <= l->pub.end) err = epochs_append(&merged, old->entries[i].epoch, old->entries[i].start);
    for (uint32_t i = 0; i < l->pub.epochs.count && err == OK; i++)
        if (l->pub.epochs.entries[i].epoch > epochs_last(&merged)) err = epochs_append(&merged, l->pub.epochs.entries[i].epoch, l->pub.epochs.entries[i].start);
    /* An epoch is never used twice, though its records are gone. */
    if (err == OK && epochs_last(old) > epochs_last(&merged)) err = epochs_append(&merged, epochs_last(old), l->pub.end);
    if (err != OK) {
        epochs_free(&merged);
        return err;
    }
    epochs_free(&l->pub.epochs);
    l->pub.epochs = merged;
    return OK;
}

/* What no file tells. */
static enum err inherit(struct log_impl *l, const struct log_impl *old) {
    l->config = old->config;
    l->pub.generation = old->pub.generation;
    l->cleaned_end = MIN(old->cleaned_end, l->pub.end);
    l->compacted_end = MAX(l->compacted_end, old->compacted_end);
    l->pub.start = MIN(MAX(old->pub.start, l->pub.start), l->pub.end);
    l->pub.vote = old->pub.vote;
    if (inherit_epochs(l, &old->pub.epochs) == ERR_NOMEM) return ERR_NOMEM; /* else they contradict the batches: those count */
    if (!old->pub.replica_config) return OK;
    return impl_set_replica_config(l, old->pub.replica_config, old->pub.replica_config_len);
}

static enum err put_state(struct rebuilding *x, uint64_t plid, const uint8_t *data, uint32_t len) {
    uint32_t bytes = catalog_record_bytes(len);
    struct rebuilt *r = x->r;
    if (r->len + bytes > x->bytes_cap) {
        uint64_t cap = MAX(x->bytes_cap * 2, r->len + bytes + 65536);
        uint8_t *grown = realloc(r->catalog, cap);
        if (!grown) return ERR_NOMEM;
        r->catalog = grown;
        x->bytes_cap = cap;
    }
    r->len += catalog_record_put(r->catalog + r->len, CATALOG_STATE, plid, data, len);
    x->states++;
    return OK;
}

static enum err put_log(struct rebuilding *x, struct log_impl *l) {
    struct rebuilt *r = x->r;
    uint8_t *data;
    uint32_t len;
    struct rebuilt_log *grown = realloc(r->logs, (r->count + 1) * sizeof *grown);
    if (!grown) return ERR_NOMEM;
    r->logs = grown;
    r->logs[r->count] = (struct rebuilt_log){.plid = l->pub.plid, .partition = l->pub.partition, .end = l->pub.end};
    snprintf(r->logs[r->count++].topic, sizeof r->logs->topic, "%s", l->pub.topic);
    x->footer.next_plid = MAX(x->footer.next_plid, (l->pub.plid & JOURNAL_PLID_GROUP) + 1);
    enum err err = state_encode(l, &data, &len);
    if (err != OK) return err;
    err = put_state(x, l->pub.plid, data, len);
    free(data);
    return err;
}

static enum err rebuild_log(struct rebuilding *x, const char *folder, const struct manifest *m) {
    char path[PATH_BYTES];
    struct bases bases = {0};
    path_folder(path, x->dir, folder);
    int rc = io_list(x->io, path, list_base, &bases);
    struct log_impl *l = rc < 0 || bases.nomem ? NULL : impl_new(NULL, m->plid, m->topic, strlen(m->topic), m->partition), *old = NULL;
    enum err err = rc < 0 ? err_from_errno(rc) : l ? OK : ERR_NOMEM;
    if (err == OK) {
        l->pub.topic_id = m->topic_id;
        l->pub.generation = m->generation;
        l->compacted_end = m->compacted_end;
    }
    for (uint32_t i = 0; i < bases.count && err == OK; i++) err = add_segment(x, l, bases.v[i], i + 1 < bases.count ? bases.v[i + 1] : -1);
    if (err == OK && bases.count == 0) err = segment_add(l, 0, io_wall_ms(x->io));
    if (err == OK) {
        l->pub.start = l->segments[0].base;
        l->pub.end = segment_last(l)->end;
        for (uint32_t i = 0; i < x->old_count && !old; i++)
            if (x->old[i].plid == m->plid && state_decode(NULL, m->plid, x->old[i].data, x->old[i].len, &old) != OK) old = NULL;
        if (old) err = inherit(l, old);
        err = put_log(x, l);
    }
    if (old) impl_free(old);
    if (l) impl_free(l);
    free(bases.v);
    return err;
}

static void visit(void *ctx, const char *name, bool is_dir) {
    struct rebuilding *x = ctx;
    struct str topic;
    int32_t partition;
    struct manifest m;
    char own[FOLDER_NAME_BYTES];
    if (!is_dir || x->err != OK || folder_parse(name, &topic, &partition) != FOLDER_PARTITION) return;
    enum err err = folder_manifest_read(x->io, x->dir, name, &m);
    if (err == ERR_NOMEM) x->err = err;
    if (err != OK) {
        x->how->skipped(x->how->ctx, name, "its manifest cannot be read");
        return;
    }
    folder_name(own, m.topic, m.partition);
    if (strcmp(own, name) != 0) x->how->skipped(x->how->ctx, name, "by its manifest it is the folder of another partition");
    else x->err = rebuild_log(x, name, &m);
    manifest_free(&m);
}

static enum err put_footer(struct rebuilding *x, const struct meta *meta) {
    x->footer.journal = 0;
    x->footer.set = meta->journal_set;
    x->footer.clean_stop = true;
    io_entropy(x->io, &x->footer.seed, sizeof x->footer.seed);
    uint32_t bytes;
    uint8_t *record = catalog_footer_build(&x->footer, x->r->catalog, x->r->len, x->states, 0, x->r->len, &bytes);
    uint8_t *grown = record ? realloc(x->r->catalog, x->r->len + bytes) : NULL;
    if (grown) {
        memcpy(grown + x->r->len, record, bytes);
        x->r->catalog = grown;
        x->r->len += bytes;
    }
    free(record);
    return grown ? OK : ERR_NOMEM;
}

enum err catalog_rebuild(struct io *io, const char *dir, const struct meta *meta, const uint8_t *old, size_t old_len, const struct rebuild *how,
                         struct rebuilt *r) {
    *r = (struct rebuilt){0};
    struct rebuilding x = {.io = io, .dir = dir, .how = how, .r = r, .footer = {.next_plid = 1, .piece_bytes = PIECE_BYTES}};
    read_old(&x, old, old_len);
    for (uint32_t i = 0; i < x.old_count && x.err == OK; i++)
        if (x.old[i].plid == STORE_PLID) x.err = put_state(&x, STORE_PLID, x.old[i].data, x.old[i].len);
    int rc = x.err == OK ? io_list(io, dir, visit, &x) : 0;
    if (rc < 0) x.err = err_from_errno(rc);
    if (x.err == OK) x.err = put_footer(&x, meta);
    free(x.old);
    if (x.err != OK) rebuilt_free(r);
    return x.err;
}

void rebuilt_free(struct rebuilt *r) {
    free(r->catalog);
    free(r->logs);
    *r = (struct rebuilt){0};
}
