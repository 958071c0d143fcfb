/* dump_chain.c - see dump_chain.h. The rules are those of recovery (log/journal_recover.c, R2). */
#include "tools/dump_chain.h"
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

static enum err keep_footer(void *ctx, size_t offset, const struct catalog_record *r,
                            const struct catalog_footer *footer) {
    struct chain *c = ctx;
    (void)offset;
    (void)r;
    if (footer) c->footer = *footer;
    return OK;
}

static bool footer_sound(const struct catalog_footer *f) {
    return f->piece_bytes >= 4 * IO_BLOCK_BYTES && f->piece_bytes <= (1u << 30) && f->piece_bytes % IO_BLOCK_BYTES == 0 &&
           f->next.offset % IO_BLOCK_BYTES == 0 && f->next.offset < f->piece_bytes;
}

enum err chain_open(struct chain *c, const char *folder) {
    char *path;
    int rc;
    *c = (struct chain){.folder = strdup(folder), .loaded = UINT32_MAX};
    if (!c->folder || asprintf(&path, "%s/catalog", folder) < 0) return ERR_NOMEM;
    c->catalog = read_whole(path, &c->catalog_len, &rc);
    free(path);
    if (!c->catalog) return err_from_errno(rc);
    enum err err = catalog_walk(c->catalog, c->catalog_len, keep_footer, c, &c->extent);
    if (err == OK && !footer_sound(&c->footer)) {
        c->extent.bad_at = c->extent.last_footer;
        err = ERR_CORRUPT;
    }
    c->head = c->footer.next;
    c->next_seq = c->footer.checkpoint_seq + 1;
    c->link = c->footer.chain;
    c->durable_seq = c->footer.durable_seq;
    return err;
}

void chain_close(struct chain *c) {
    free(c->folder);
    free(c->catalog);
    free(c->image);
    *c = (struct chain){0};
}

void chain_piece_path(const struct chain *c, uint32_t piece, char *out, size_t len) {
    snprintf(out, len, "%s/%06" PRIu32 ".vj", c->folder, piece);
}

bool chain_piece_number(const char *name, uint32_t *piece) {
    unsigned n = 0;
    int end = 0;
    if (sscanf(name, "%9u.vj%n", &n, &end) != 1 || end == 0 || name[end] != '\0') return false;
    *piece = n;
    return true;
}

static bool load(struct chain *c, uint32_t piece, bool again) {
    char path[4096];
    int rc;
    if (c->loaded == piece && !again) return true;
    free(c->image);
    chain_piece_path(c, piece, path, sizeof path);
    c->image = read_whole(path, &c->image_len, &rc);
    c->loaded = c->image ? piece : UINT32_MAX;
    return c->image != NULL;
}

static bool is_ours(const struct chain *c, const struct journal_group *g) {
    return g->journal == c->footer.journal && g->set == c->footer.set;
}

/* The group at the head, when it is the next of the chain. */
static bool next_group(struct chain *c, bool again, struct journal_group *g) {
    if (!load(c, c->head.piece, again) || c->head.offset >= c->image_len) return false;
    uint8_t *p = c->image + c->head.offset;
    if (journal_group_parse(p, c->image_len - c->head.offset, g) != OK || !is_ours(c, g)) return false;
    return g->seq == c->next_seq && g->prev == c->link && journal_group_sum_ok(p, g, c->footer.seed);
}

void chain_walk(struct chain *c, chain_group_fn *fn, void *ctx) {
    struct journal_group g;
    /* What was read may have been written on since: the group that ends the walk is looked for twice. */
    while (next_group(c, false, &g) || next_group(c, true, &g)) {
        if (fn) fn(ctx, c->image + c->head.offset, c->head, &g);
        c->next_seq++;
        c->link = g.sum_low;
        if (g.durable_seq > c->durable_seq) c->durable_seq = g.durable_seq;
        c->head.offset += journal_group_blocks_bytes(g.bytes);
        if (g.flags & JOURNAL_LINK) c->head = (struct journal_pos){g.next_piece, 0};
    }
}

/* A group behind the head in this piece that says that the head's was durable. */
static bool claim_in(struct chain *c, uint32_t piece, char *why, size_t why_len) {
    if (!load(c, piece, false)) return false;
    for (size_t at = 0; at + JOURNAL_GROUP_HEADER_BYTES <= c->image_len; at += IO_BLOCK_BYTES) {
        struct journal_group g;
        uint8_t *p = c->image + at;
        if (journal_group_parse(p, c->image_len - at, &g) != OK || !is_ours(c, &g)) continue;
        if (g.seq <= c->next_seq || g.durable_seq < c->next_seq || !journal_group_sum_ok(p, &g, c->footer.seed)) continue;
        snprintf(why, why_len, "group %" PRIu64 " is damaged or missing, but was durable (group %" PRIu64 ", piece %" PRIu32 " at %zu, says so)", c->next_seq,
                 g.seq, piece, at);
        return true;
    }
    return false;
}

bool chain_damaged(struct chain *c, char *why, size_t why_len) {
    if (c->durable_seq >= c->next_seq) {
        snprintf(why, why_len, "group %" PRIu64 " is damaged or missing, but was durable", c->next_seq);
        return true;
    }
    DIR *dir = opendir(c->folder);
    bool found = false;
    if (!dir) return false;
    for (struct dirent *e; !found && (e = readdir(dir));) {
        uint32_t piece;
        found = chain_piece_number(e->d_name, &piece) && claim_in(c, piece, why, why_len);
    }
    closedir(dir);
    return found;
}
