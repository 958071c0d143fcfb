/* journal_recover.c - opening a journal: R1 to R4.
 *
 *   R1  the catalogue up to its last complete footer
 *   R2  groups from the footer's position while they hold and chain; the first that does not is g.
 *       A group behind g that says that g was durable, or such a footer, means damage: refuse.
 *       Otherwise g was never acknowledged and the journal ends before it.
 *   R4  what was read is made durable, then START with a new salt takes the place of g
 *
 * Nothing is written before the verdict. Groups that were read but are not known to be durable become so in a copy of their
 * piece, which takes its name. Not in place: a power cut during the rewrite would tear what somebody may have acknowledged.
 * And not by a sync: one that failed in the life before may have left what was to be written in memory, readable and
 * counted as written, so that no later sync says anything about it. Each piece is read whole: R2 must look at every block of
 * every piece, for a damaged LINK hides where the journal went on. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "base/trace.h"
#include "log/journal_impl.h"
#include "log/mutant.h"

/* A header in some block that claims to be a later group. */
struct claim { uint32_t piece, offset; uint64_t seq, durable_seq; };

/* The groups of the chain that lie in one piece: `count` of them from `offset` on, the first is `seq` and follows `chain`. */
struct stretch { uint32_t offset, count; uint64_t seq, chain; };

struct recovery {
    struct journal *j;
    const struct journal_replay *h;
    struct journal_recovery *rec;
    struct catalog_footer footer;
    char *why;
    size_t why_len;
    uint8_t *image;               /* of piece `loaded` */
    uint32_t loaded;
    bool *scanned;                /* claims of the piece were collected */
    struct stretch *stretches;    /* of each piece */
    struct claim *claims;
    size_t claim_count, claim_cap;
    uint64_t durable_seq;         /* highest that anything valid states */
    bool content;                 /* entries behind the checkpoint */
};

PRINTF_LIKE(3, 4)
static enum err refuse(struct recovery *r, enum err err, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    int n = snprintf(r->why, r->why_len, "%s: ", r->j->folder);
    if (n >= 0 && (size_t)n < r->why_len) vsnprintf(r->why + n, r->why_len - (size_t)n, fmt, args);
    va_end(args);
    return err;
}

/* ---- the folder ---------------------------------------------------------------------------------- */

static bool piece_number(const char *name, uint32_t *piece) {
    unsigned n = 0;
    int end = 0;
    if (sscanf(name, "%9u.vj%n", &n, &end) != 1 || end == 0 || name[end] != '\0') return false;
    *piece = n;
    return n < (1u << 20);
}

struct piece_list { uint32_t count, highest; };
static void list_piece(void *ctx, const char *name, bool is_dir) {
    struct piece_list *l = ctx;
    uint32_t n;
    if (is_dir || !piece_number(name, &n)) return;
    l->count++;
    l->highest = MAX(l->highest, n);
}

static enum err make_folder(struct recovery *r) {
    struct journal *j = r->j;
    int rc = io_mkdir(j->io, j->folder);
    if (rc == 0 || rc == -EEXIST) return OK;
    return refuse(r, err_from_errno(rc), "cannot be made: %s", strerror(-rc));
}

static enum err alloc_slots(struct recovery *r, const struct piece_list *l) {
    struct journal *j = r->j;
    uint32_t slots = MAX(j->piece_limit, l->count > 0 ? l->highest + 1 : 0) + JOURNAL_PIECES_EXTRA;
    j->pieces = calloc(slots, sizeof *j->pieces);
    r->scanned = calloc(slots, sizeof *r->scanned);
    r->stretches = calloc(slots, sizeof *r->stretches);
    if (j->pieces == NULL || r->scanned == NULL || r->stretches == NULL) return refuse(r, ERR_NOMEM, "out of memory");
    j->piece_slots = slots;
    for (uint32_t i = 0; i < slots; i++) j->pieces[i].fd = -1;
    return OK;
}

/* As configured, but never more than an eighth of the file system. */
static enum err bytes_limit(struct recovery *r, uint64_t *bytes) {
    struct io_space space;
    int rc = io_space(r->j->io, r->j->cfg.dir, &space);
    if (rc < 0) return refuse(r, ERR_IO, "the size of the file system is unknown: %s", strerror(-rc));
    *bytes = MIN(r->j->cfg.bytes, space.total_bytes / 8);
    return OK;
}

/* A new journal on a small file system has smaller pieces. */
static uint32_t piece_bytes_for(const struct journal *j, uint64_t bytes) {
    uint32_t piece = j->cfg.piece_bytes;
    while (piece / 2 >= JOURNAL_PIECE_BYTES_MIN && bytes / piece < JOURNAL_PIECES_MIN)
        piece = ALIGN_DOWN(piece / 2, IO_BLOCK_BYTES);
    return piece;
}

/* A first start. The catalogue comes before the first piece, so a piece without a catalogue is damage. */
static enum err make_catalog(struct recovery *r, const char *path, const struct piece_list *l, uint64_t bytes) {
    struct journal *j = r->j;
    if (j->cfg.must_exist)
        return refuse(r, ERR_CORRUPT, "the catalogue is missing, but varve.meta says that this journal exists");
    if (l->count > 0) return refuse(r, ERR_CORRUPT, "there are %u pieces but no catalogue", l->count);
    r->footer = (struct catalog_footer){.next_plid = 1, .journal = j->cfg.index, .set = j->cfg.set,
                                        .piece_bytes = piece_bytes_for(j, bytes)};
    io_entropy(j->io, &r->footer.seed, sizeof r->footer.seed);
    enum err err = catalog_create(&j->catalog, j->io, path, &r->footer);
    if (err != OK) return refuse(r, err, "the catalogue cannot be made: %s", err_str(err));
    int rc = io_sync_dir(j->io, j->cfg.dir);
    if (rc < 0) return refuse(r, ERR_IO, "the folder cannot be synced: %s", strerror(-rc));
    r->rec->fresh = true;
    return OK;
}

static enum err check_footer(struct recovery *r) {
    const struct catalog_footer *f = &r->footer;
    const struct journal_config *cfg = &r->j->cfg;
    if (f->journal != cfg->index || f->set != cfg->set)
        return refuse(r, ERR_CORRUPT, "the catalogue belongs to journal %u of set %u, not to %u of %u", f->journal, f->set,
                      cfg->index, cfg->set);
    bool sound = f->piece_bytes >= 4 * IO_BLOCK_BYTES && f->piece_bytes <= (1u << 30) &&
                 f->piece_bytes % IO_BLOCK_BYTES == 0 &&
                 f->next.offset % IO_BLOCK_BYTES == 0 && f->next.offset < f->piece_bytes && f->next.piece < (1u << 20) &&
                 (f->checkpoint_seq > 0 || (f->next.piece == 0 && f->next.offset == 0)) && f->checkpoint_seq < UINT64_MAX / 2;
    return sound ? OK : refuse(r, ERR_CORRUPT, "the catalogue's last footer makes no sense");
}

/* R1. */
static enum err load_catalog(struct recovery *r) {
    struct journal *j = r->j;
    char path[4096];
    journal_catalog_path(path, sizeof path, j->cfg.dir, j->cfg.index);
    struct piece_list list = {0};
    int rc = io_list(j->io, j->folder, list_piece, &list);
    if (rc < 0) return refuse(r, err_from_errno(rc), "cannot be listed: %s", strerror(-rc));
    uint64_t bytes = 0;
    enum err err = bytes_limit(r, &bytes);
    if (err != OK) return err;
    err = catalog_load(&j->catalog, j->io, path, &r->footer, r->h->state, r->h->ctx, r->why, r->why_len);
    if (err == ERR_NOT_FOUND) err = make_catalog(r, path, &list, bytes);
    if (err == OK) err = check_footer(r);
    if (err != OK) return err;
    j->piece_bytes = r->footer.piece_bytes;
    j->piece_limit = (uint32_t)MAX(MIN(bytes / j->piece_bytes, (uint64_t)1 << 20), JOURNAL_PIECES_MIN);
    j->group_bytes = MIN(JOURNAL_GROUP_BYTES, ALIGN_UP(MAX(j->piece_bytes / 4, 2 * IO_BLOCK_BYTES), IO_BLOCK_BYTES));
    j->seed = r->footer.seed;
    return alloc_slots(r, &list);
}

static enum err open_piece(struct recovery *r, uint32_t i) {
    struct journal *j = r->j;
    int fd = journal_piece_open(j, i, false);
    if (fd == -ENOENT) return OK;
    if (fd < 0) return refuse(r, err_from_errno(fd), "piece %u cannot be opened: %s", i, strerror(-fd));
    struct io_stat st;
    int rc = io_fstat(j->io, fd, &st);
    /* A smaller one was not finished when the process died. Or it was finished, with a sync that failed, another process
     * found it whole and used it, and then the power went: so it may hold groups all the same. */
    bool sized = rc == 0 && st.size_bytes <= j->piece_bytes;
    if (rc == 0 && !sized) {
        io_close(j->io, fd);
        return refuse(r, ERR_CORRUPT, "piece %u has %llu bytes instead of %u", i, (unsigned long long)st.size_bytes, j->piece_bytes);
    }
    /* File systems let this wait for direct writes that a killed process left in flight: none may land behind our reads. */
    if (rc == 0 && st.size_bytes > 0) rc = io_reserve(j->io, fd, 0, st.size_bytes);
    if (rc < 0 && rc != -EOPNOTSUPP && rc != -ENOSPC) {
        io_close(j->io, fd);
        return refuse(r, ERR_IO, "piece %u cannot be used: %s", i, strerror(-rc));
    }
    j->pieces[i] = (struct piece){.fd = fd, .state = PIECE_FREE, .bytes = (uint32_t)st.size_bytes};
    j->piece_count++;
    j->free_count++;
    return OK;
}

/* ---- reading -------------------------------------------------------------------------------------- */

static bool is_ours(const struct recovery *r, const struct journal_group *g) {
    return g->journal == r->j->cfg.index && g->set == r->j->cfg.set;
}

static enum err collect_claims(struct recovery *r, uint32_t piece) {
    for (uint32_t at = 0; at < r->j->piece_bytes; at += IO_BLOCK_BYTES) {
        struct journal_group g;
        if (journal_group_parse(r->image + at, r->j->piece_bytes - at, &g) != OK || !is_ours(r, &g)) continue;
        if (g.seq <= r->footer.checkpoint_seq) continue;
        if (r->claim_count == r->claim_cap) {
            size_t cap = r->claim_cap ? 2 * r->claim_cap : 256;
            struct claim *claims = realloc(r->claims, cap * sizeof *claims);
            if (claims == NULL) return refuse(r, ERR_NOMEM, "out of memory");
            r->claims = claims;
            r->claim_cap = cap;
        }
        r->claims[r->claim_count++] = (struct claim){piece, at, g.seq, g.durable_seq};
    }
    r->scanned[piece] = true;
    return OK;
}

/* Reads a whole piece; what the file lacks is zeros. */
static enum err load_piece(struct recovery *r, uint32_t piece) {
    if (r->loaded == piece) return OK;
    struct journal *j = r->j;
    uint32_t at = 0;
    r->loaded = UINT32_MAX;
    uint32_t bytes = j->pieces[piece].bytes;
    memset(r->image + bytes, 0, j->piece_bytes - bytes);
    while (at < bytes) {
        int64_t n = io_pread(j->io, j->pieces[piece].fd, r->image + at, j->piece_bytes - at, at);
        bool last = n > 0 && at + (uint32_t)n >= bytes;
        if (n < IO_BLOCK_BYTES && !last)
            return refuse(r, ERR_IO, "piece %u cannot be read at %u: %s", piece, at,
                          n < 0 ? strerror((int)-n) : "short read");
        at += last ? (uint32_t)n : ALIGN_DOWN((uint32_t)n, IO_BLOCK_BYTES); /* O_DIRECT goes on at a block boundary only */
    }
    r->loaded = piece;
    return r->scanned[piece] ? OK : collect_claims(r, piece);
}

static enum err replay_group(struct recovery *r, const uint8_t *p, const struct journal_group *g, struct journal_pos at) {
    uint32_t offset = JOURNAL_GROUP_HEADER_BYTES, count = 0;
    struct journal_entry e;
    enum err err;
    while ((err = journal_entry_next(p, g->bytes, &offset, at, g->seq, &e)) == OK) {
        count++;
        uint64_t group = e.plid & JOURNAL_PLID_GROUP;
        if (e.type == ENTRY_CREATE && group >= r->footer.next_plid) r->footer.next_plid = group + 1;
        err = r->h->entry(r->h->ctx, &e);
        if (err != OK)
            return refuse(r, err, "entry %u (%s) of group %llu, piece %u at %u, cannot be replayed: %s", count,
                          journal_entry_name(e.type), (unsigned long long)g->seq, at.piece, at.offset, err_str(err));
    }
    if (err != ERR_NOT_FOUND || count != g->entries)
        return refuse(r, ERR_CORRUPT, "group %llu, piece %u at %u: its sum is good but its entries are not",
                      (unsigned long long)g->seq, at.piece, at.offset);
    r->content |= count > 0;
    if (count > 0) r->j->content_seq = g->seq;
    return OK;
}

static bool piece_there(const struct journal *j, uint32_t piece) {
    return piece < j->piece_slots && j->pieces[piece].state != PIECE_ABSENT;
}

/* Whether the loaded piece has group `seq`, which follows `chain`, at `offset`. */
static bool group_at(const struct recovery *r, uint32_t offset, uint64_t seq, uint64_t chain, struct journal_group *g) {
    const struct journal *j = r->j;
    uint8_t *p = r->image + offset;
    if (offset >= j->piece_bytes || journal_group_parse(p, j->piece_bytes - offset, g) != OK || !is_ours(r, g)) return false;
    return g->seq == seq && (g->prev == chain || MUTANT(NO_CHAIN)) && journal_group_sum_ok(p, g, j->seed);
}

/* The group at the head, when it is the next of the chain. */
static enum err next_group(struct recovery *r, struct journal_group *g, bool *found) {
    struct journal *j = r->j;
    *found = false;
    if (!piece_there(j, j->head.piece) || j->head.offset >= j->piece_bytes) return OK;
    enum err err = load_piece(r, j->head.piece);
    if (err != OK) return err;
    *found = group_at(r, j->head.offset, j->next_seq, j->chain, g);
    return OK;
}

/* The chain goes on in the piece of the head. */
static void enter_piece(struct recovery *r) {
    struct journal *j = r->j;
    if (!piece_there(j, j->head.piece)) return;
    journal_piece_use(j, j->head.piece);
    r->stretches[j->head.piece] = (struct stretch){.offset = j->head.offset, .seq = j->next_seq, .chain = j->chain};
}

static enum err step_over(struct recovery *r, const struct journal_group *g) {
    struct journal *j = r->j;
    uint32_t len = journal_group_blocks_bytes(g->bytes);
    r->stretches[j->head.piece].count++;
    j->next_seq++;
    j->chain = g->sum_low;
    r->durable_seq = MAX(r->durable_seq, g->durable_seq);
    j->pieces[j->head.piece].last_seq = g->seq;
    j->chain_bytes += len;
    j->head.offset += len;
    if (!(g->flags & JOURNAL_LINK)) return OK;
    if (g->next_piece >= j->piece_slots || j->pieces[g->next_piece].state == PIECE_USED)
        return refuse(r, ERR_CORRUPT, "group %llu leads to piece %u, which is none or in use",
                      (unsigned long long)g->seq, g->next_piece);
    j->chain_bytes += j->piece_bytes - j->head.offset;
    j->head = (struct journal_pos){g->next_piece, 0};
    enter_piece(r);
    if (piece_there(j, g->next_piece)) j->pieces[g->next_piece].last_seq = g->seq;
    return OK;
}

/* R2, first half, with R3's entries. */
static enum err walk_chain(struct recovery *r) {
    struct journal *j = r->j;
    j->head = r->footer.next;
    j->next_seq = r->footer.checkpoint_seq + 1;
    j->chain = r->footer.chain;
    r->durable_seq = r->footer.durable_seq;
    enter_piece(r);
    for (;;) {
        struct journal_group g;
        bool found;
        enum err err = next_group(r, &g, &found);
        if (err != OK || !found) return err;
        struct journal_pos at = j->head;
        err = replay_group(r, r->image + at.offset, &g, at);
        if (err == OK) err = step_over(r, &g);
        if (err != OK) return err;
        r->rec->groups++;
        r->rec->bytes += journal_group_blocks_bytes(g.bytes);
    }
}

/* R2, second half: does anything say that the group which is missing was durable? */
static enum err verdict(struct recovery *r) {
    struct journal *j = r->j;
    uint64_t g = j->next_seq;
    if (MUTANT(CUT_AT_DAMAGE)) return OK;
    const char *what = "was durable and is damaged or missing: the disk has lost acknowledged data";
    if (r->durable_seq >= g)
        return refuse(r, ERR_CORRUPT, "group %llu, piece %u at %u, %s", (unsigned long long)g, j->head.piece,
                      j->head.offset, what);
    for (uint32_t i = 0; i < j->piece_slots; i++) {
        if (!piece_there(j, i) || r->scanned[i]) continue;
        enum err err = load_piece(r, i);
        if (err != OK) return err;
    }
    for (size_t i = 0; i < r->claim_count; i++) {
        const struct claim *c = &r->claims[i];
        if (c->seq <= g || c->durable_seq < g) continue;
        enum err err = load_piece(r, c->piece);
        if (err != OK) return err;
        struct journal_group later;
        uint8_t *p = r->image + c->offset;
        if (journal_group_parse(p, j->piece_bytes - c->offset, &later) != OK) continue;
        if (!journal_group_sum_ok(p, &later, j->seed)) continue;
        return refuse(r, ERR_CORRUPT, "group %llu, piece %u at %u, %s (group %llu, piece %u at %u, says so)",
                      (unsigned long long)g, j->head.piece, j->head.offset, what, (unsigned long long)c->seq, c->piece,
                      c->offset);
    }
    return OK;
}

/* ---- R4 ------------------------------------------------------------------------------------------- */

/* Pieces that were never finished: of use only for what was found in them. */
static enum err settle_pieces(struct recovery *r) {
    struct journal *j = r->j;
    for (uint32_t i = 0; i < j->piece_slots; i++) {
        struct piece *p = &j->pieces[i];
        if (p->fd < 0 || p->bytes == j->piece_bytes) continue;
        if (p->state == PIECE_USED) {
            uint32_t from = i == j->head.piece ? j->head.offset : ALIGN_UP(p->bytes, IO_BLOCK_BYTES);
            int rc = journal_piece_finish_now(j, i, from);
            if (rc < 0) return refuse(r, err_from_errno(rc), "piece %u cannot be finished: %s", i, strerror(-rc));
            continue;
        }
        io_close(j->io, p->fd);
        *p = (struct piece){.fd = -1};
        j->piece_count--;
        j->free_count--;
    }
    return OK;
}

/* The copy must hold what was replayed: nothing less may be read the second time. */
static enum err load_again(struct recovery *r, uint32_t piece) {
    const struct stretch *s = &r->stretches[piece];
    uint32_t at = s->offset;
    uint64_t chain = s->chain;
    enum err err = load_piece(r, piece);
    for (uint32_t i = 0; err == OK && i < s->count; i++) {
        struct journal_group g;
        if (!group_at(r, at, s->seq + i, chain, &g))
            return refuse(r, ERR_IO, "piece %u at %u does not read as it did a moment ago", piece, at);
        at += journal_group_blocks_bytes(g.bytes);
        chain = g.sum_low;
    }
    return err;
}

/* Groups that nothing says to be durable, and perhaps are not, whatever syncs say now. */
static bool holds_unvouched(const struct recovery *r, uint32_t piece) {
    const struct stretch *s = &r->stretches[piece];
    return s->count > 0 && s->seq + s->count - 1 > r->durable_seq;
}

static enum err renew_pieces(struct recovery *r) {
    struct journal *j = r->j;
    for (uint32_t i = 0; i < j->piece_slots; i++) {
        if (!holds_unvouched(r, i) || j->cfg.fsync_never || MUTANT(READABLE_IS_DURABLE)) continue;
        enum err err = load_again(r, i);
        if (err != OK) return err;
        int rc = journal_piece_renew_now(j, i, r->image);
        if (rc < 0) return refuse(r, err_from_errno(rc), "piece %u cannot be copied: %s", i, strerror(-rc));
    }
    return OK;
}

/* What was readable becomes durable. */
static enum err make_durable(struct recovery *r) {
    struct journal *j = r->j;
    int rc = journal_piece_renew_begin(j); /* first of all: on a full disk it has the space that the rest wants */
    if (rc < 0) return refuse(r, ERR_IO, "what an earlier start has left cannot be removed: %s", strerror(-rc));
    enum err err = r->rec->fresh ? OK : catalog_renew(&j->catalog, &r->footer);
    if (err != OK) return refuse(r, err, "the catalogue cannot be renewed: %s", err_str(err));
    err = renew_pieces(r);
    if (err != OK) return err;
    rc = io_sync_dir(j->io, j->folder);
    if (rc == 0) rc = io_sync_dir(j->io, j->cfg.dir);
    return rc < 0 ? refuse(r, ERR_IO, "cannot be synced: %s", strerror(-rc)) : OK;
}

/* Writes the group at `at` and waits for it. */
static enum err write_now(struct journal *j, struct journal_pos at, const uint8_t *data, uint32_t len) {
    int fd = j->pieces[at.piece].fd;
    for (uint32_t done = 0; done < len;) {
        uint32_t n = MIN(JOURNAL_WRITE_BYTES, len - done);
        int64_t rc = io_pwrite(j->io, fd, data + done, n, at.offset + done);
        if (rc != n) return ERR_IO;
        done += n;
    }
    return j->cfg.fsync_never || io_sync(j->io, fd) == 0 ? OK : ERR_IO;
}

/* A piece to go on in, made if there is none. */
static enum err take_piece_now(struct journal *j, uint32_t *next) {
    *next = journal_piece_take(j);
    if (*next != UINT32_MAX) return OK;
    enum err err = journal_piece_make_now(j, next);
    if (err == OK) journal_piece_use(j, *next);
    return err;
}

static enum err write_start(struct recovery *r) {
    struct journal *j = r->j;
    if (!piece_there(j, j->head.piece)) {
        /* Only a first start, or one that died in its first start, has no piece. */
        if (j->next_seq != 1) return refuse(r, ERR_CORRUPT, "piece %u, where the journal goes on, is missing", j->head.piece);
        uint32_t made;
        enum err err = journal_piece_make_now(j, &made);
        if (err != OK) return refuse(r, err, "piece %u cannot be made: %s", j->head.piece, err_str(err));
        ASSERT(made == j->head.piece);
        journal_piece_use(j, made);
    }
    uint32_t next = UINT32_MAX;
    if (j->head.offset + IO_BLOCK_BYTES == j->piece_bytes) {
        enum err err = take_piece_now(j, &next);
        if (err != OK) return refuse(r, err, "another piece cannot be made: %s", err_str(err));
    }
    struct buf *b = buf_new(IO_BLOCK_BYTES, IO_BLOCK_BYTES);
    if (b == NULL) return refuse(r, ERR_NOMEM, "out of memory");
    io_entropy(j->io, &j->salt, sizeof j->salt);
    if (MUTANT(NO_SALT)) j->salt = 0;
    j->durable_seq = j->next_seq - 1;
    struct journal_group g = {.flags = JOURNAL_START, .bytes = JOURNAL_GROUP_HEADER_BYTES};
    struct journal_pos at = j->head;
    journal_seal_next(j, b->data, &g, next);
    enum err err = write_now(j, at, b->data, IO_BLOCK_BYTES);
    buf_unref(b);
    if (err != OK) return refuse(r, err, "the journal cannot be written at piece %u, %u", at.piece, at.offset);
    j->durable_seq = g.seq;
    return OK;
}

static enum err recover(struct recovery *r) {
    struct journal *j = r->j;
    enum err err = make_folder(r);
    if (err == OK) err = load_catalog(r);
    for (uint32_t i = 0; err == OK && i < j->piece_slots; i++) err = open_piece(r, i);
    if (err != OK) return err;
    struct buf *image = buf_new(j->piece_bytes, IO_BLOCK_BYTES);
    if (image == NULL) return refuse(r, ERR_NOMEM, "out of memory");
    r->image = image->data;
    err = walk_chain(r);
    if (err == OK) err = verdict(r);
    if (err == OK) err = make_durable(r);
    buf_unref(image);
    if (err == OK) err = settle_pieces(r);
    return err == OK ? write_start(r) : err;
}

/* ---- opening --------------------------------------------------------------------------------------- */

static struct journal *journal_new(struct io *io, const struct journal_config *cfg) {
    struct journal *j = calloc(1, sizeof *j);
    if (j == NULL) return NULL;
    j->cfg = *cfg;
    j->io = io;
    j->catalog.fd = j->catalog.tmp_fd = -1;
    j->cfg.dir = strdup(cfg->dir);
    j->shards = calloc(cfg->shards, sizeof *j->shards);
    size_t len = strlen(cfg->dir) + 24;
    j->folder = malloc(len);
    if (j->cfg.dir == NULL || j->shards == NULL || j->folder == NULL) {
        journal_close(j);
        return NULL;
    }
    snprintf(j->folder, len, "%s/journal-%u", cfg->dir, cfg->index);
    return j;
}

enum err journal_open(struct io *io, const struct journal_config *cfg, const struct journal_replay *h, struct journal **out,
                      struct journal_recovery *rec, char *why, size_t why_len) {
    *rec = (struct journal_recovery){0};
    *out = NULL;
    if (why_len > 0) why[0] = '\0';
    if (cfg->shards == 0 || cfg->depth == 0 || cfg->piece_bytes < 4 * IO_BLOCK_BYTES || cfg->piece_bytes > (1u << 30) ||
        cfg->piece_bytes % IO_BLOCK_BYTES != 0) {
        snprintf(why, why_len, "the journal's pieces must be whole blocks of %u bytes, at least 4 of them", IO_BLOCK_BYTES);
        return ERR_INVALID;
    }
    struct recovery r = {.h = h, .rec = rec, .why = why, .why_len = why_len, .loaded = UINT32_MAX};
    r.j = journal_new(io, cfg);
    enum err err = r.j == NULL ? ERR_NOMEM : recover(&r);
    free(r.scanned);
    free(r.stretches);
    free(r.claims);
    if (err != OK) {
        journal_close(r.j);
        return err;
    }
    struct journal *j = r.j;
    j->checkpoint_seq = r.footer.checkpoint_seq;
    atomic_init(&j->next_plid, r.footer.next_plid);
    rec->clean = r.footer.clean_stop && !r.content;
    rec->next_plid = r.footer.next_plid;
    rec->checkpoint_seq = r.footer.checkpoint_seq;
    rec->last_seq = j->next_seq - 2; /* before START */
    journal_space_poll(j);
    *out = j;
    return OK;
}

enum err journal_write_now(struct journal *j, struct journal_slice *s) {
    ASSERT(j->mailbox == NULL && s->journal == j);
    if (j->err != OK) return j->err;
    uint32_t len = journal_group_blocks_bytes(s->used);
    struct buf *block = buf_new(IO_BLOCK_BYTES, IO_BLOCK_BYTES);
    if (block == NULL) return ERR_NOMEM;
    struct buf *whole = s->buf->cap >= len ? buf_ref(s->buf) : buf_new(len, IO_BLOCK_BYTES);
    enum err err = whole == NULL ? ERR_NOMEM : OK;
    if (err == OK && journal_place(j, len, SPACE_RESERVE) != PLACE_HERE) {
        uint32_t next;
        err = take_piece_now(j, &next);
        if (err == OK) {
            struct journal_group link = {.bytes = JOURNAL_GROUP_HEADER_BYTES};
            struct journal_pos at = j->head;
            journal_seal_next(j, block->data, &link, next);
            err = write_now(j, at, block->data, IO_BLOCK_BYTES);
            if (err == OK) j->durable_seq = link.seq;
        }
    }
    if (err == OK) {
        struct journal_group g = {.bytes = JOURNAL_GROUP_HEADER_BYTES, .entries = s->entries};
        struct journal_pos at = j->head;
        journal_join(whole->data, &g.bytes, s);
        journal_seal_next(j, whole->data, &g, UINT32_MAX);
        s->pos = (struct journal_pos){at.piece, at.offset + JOURNAL_GROUP_HEADER_BYTES};
        s->seq = g.seq;
        err = write_now(j, at, whole->data, len);
        if (err == OK) j->durable_seq = g.seq;
    }
    buf_unref(whole);
    buf_unref(block);
    if (err == ERR_IO) j->err = err;
    s->err = err;
    return err;
}
