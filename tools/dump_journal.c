/* dump_journal.c - prints and verifies pieces of the commit journal. */
#include <errno.h>
#include <stdlib.h>
#include "log/entries.h"
#include "proto/storage.pb-c.h"
#include "tools/dump_chain.h"
#include "tools/dump_line.h"

enum { ATTEMPTS = 5 };

static char *folder_of(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? strndup(path, (size_t)(slash - path)) : strdup(".");
}

/* ---- printing entries ---- */

static void show_records_header(struct dump *d, const struct entry_records *r) {
    line_i64(d, "baseOffset", r->base_offset);
    line_i64(d, "endOffset", r->end_offset);
    line_i64(d, "epoch", r->epoch);
    line_i64(d, "segment", r->place.segment_base);
    line_u64(d, "segmentPosition", r->place.position);
}

/* False: the header does not decode. */
static bool show_fixed(struct dump *d, const struct journal_entry *e) {
    struct entry_records records;
    struct entry_direct direct;
    struct entry_image image;
    struct entry_marker marker;
    struct entry_vote vote;
    struct entry_truncate truncate;
    if (e->type == ENTRY_RECORDS) {
        if (entry_records_decode(&records, e->header, e->header_len) != OK) return false;
        show_records_header(d, &records);
    } else if (e->type == ENTRY_DIRECT) {
        if (entry_direct_decode(&direct, e->header, e->header_len) != OK) return false;
        show_records_header(d, &direct.records);
        line_u64(d, "length", direct.length);
    } else if (e->type == ENTRY_IMAGE) {
        if (entry_image_decode(&image, e->header, e->header_len) != OK) return false;
        line_i64(d, "segment", image.place.segment_base);
        line_u64(d, "segmentPosition", image.place.position);
    } else if (e->type == ENTRY_MARKER) {
        if (entry_marker_decode(&marker, e->header, e->header_len) != OK) return false;
        line_i64(d, "epoch", marker.epoch);
        line_i64(d, "startOffset", marker.start);
    } else if (e->type == ENTRY_VOTE) {
        if (entry_vote_decode(&vote, e->header, e->header_len) != OK) return false;
        line_i64(d, "epoch", vote.epoch);
        line_i64(d, "id", vote.id);
        line_uuid(d, "incarnation", vote.incarnation.b, sizeof vote.incarnation.b);
    } else if (e->type == ENTRY_TRUNCATE) {
        if (entry_truncate_decode(&truncate, e->header, e->header_len) != OK) return false;
        line_i64(d, "endOffset", truncate.end);
        line_i64(d, "epoch", truncate.epoch);
        line_i64(d, "segment", truncate.place.segment_base);
        line_u64(d, "segmentPosition", truncate.place.position);
    }
    return true;
}

#define SHOW(Message, message, ...)                                                                               \
    do {                                                                                                          \
        Varve__Storage__##Message *m = varve__storage__##message##__unpack(NULL, e->body_len, e->body);           \
        if (!m) return false;                                                                                     \
        __VA_ARGS__;                                                                                              \
        varve__storage__##message##__free_unpacked(m, NULL);                                                      \
    } while (0)

/* False: the body does not decode. */
static bool show_message(struct dump *d, const struct journal_entry *e) {
    if (e->type == ENTRY_CREATE)
        SHOW(CreateEntry, create_entry, line_text(d, "topic", m->topic), line_i64(d, "partition", m->partition),
             line_uuid(d, "topicId", m->topic_id.data, m->topic_id.len),
             m->replica_config.len > 0 ? line_bytes(d, "replicaConfig", m->replica_config.data, m->replica_config.len) : (void)0);
    else if (e->type == ENTRY_CONFIG)
        SHOW(ConfigEntry, config_entry,
             m->has_replica_config ? line_bytes(d, "replicaConfig", m->replica_config.data, m->replica_config.len) : (void)0);
    else if (e->type == ENTRY_LOGSTART)
        SHOW(LogStartEntry, log_start_entry, line_i64(d, "startOffset", m->start),
             line_i64(d, "segment", m->segment_base), line_i64(d, "baseEpoch", m->base_epoch));
    else if (e->type == ENTRY_ROLL)
        SHOW(RollEntry, roll_entry, line_i64(d, "segment", m->segment_base));
    else if (e->type == ENTRY_RESET)
        SHOW(ResetEntry, reset_entry, line_i64(d, "baseOffset", m->base_offset), line_i64(d, "baseEpoch", m->base_epoch),
             line_u64(d, "generation", m->generation), line_u64(d, "producers", m->n_producers));
    else if (e->type == ENTRY_ASSIGNED)
        SHOW(AssignedEntry, assigned_entry, line_u64(d, "metadataEnd", m->metadata_end));
    return true;
}

static void show_entries(struct dump *d, const char *path, const uint8_t *p, uint32_t offset,
                         const struct journal_group *g) {
    uint32_t at = JOURNAL_GROUP_HEADER_BYTES, entry_at = offset + at;
    struct journal_entry e;
    enum err err;
    while ((err = journal_entry_next(p, g->bytes, &at, (struct journal_pos){0, offset}, g->seq, &e)) == OK) {
        char head[32];
        snprintf(head, sizeof head, "| %s", journal_entry_name(e.type));
        line_begin(d, head, path);
        line_u64(d, "position", entry_at);
        line_u64(d, "plid", e.plid);
        line_u64(d, "bodyBytes", e.body_len);
        bool decoded = show_fixed(d, &e) && show_message(d, &e);
        line_end(d);
        if (!decoded) dump_damage(d, path, entry_at, "%s entry that cannot be decoded", journal_entry_name(e.type));
        entry_at = offset + at;
    }
    if (err != ERR_NOT_FOUND) dump_damage(d, path, entry_at, "an entry that cannot be, in group %" PRIu64, g->seq);
}

/* ---- printing groups ---- */

struct printing { struct dump *d; const char *path; const struct catalog_footer *footer; };

static void show_group(void *ctx, const uint8_t *p, uint32_t offset, const struct journal_group *g, bool sum_ok) {
    const struct printing *x = ctx;
    struct dump *d = x->d;
    line_begin(d, "group", x->path);
    line_u64(d, "seq", g->seq);
    line_u64(d, "position", offset);
    line_text(d, "flags", g->flags & JOURNAL_START ? (g->flags & JOURNAL_LINK ? "START|LINK" : "START")
                          : g->flags & JOURNAL_LINK ? "LINK" : g->flags & JOURNAL_IDLE ? "IDLE" : "-");
    line_u64(d, "journal", g->journal);
    line_u64(d, "set", g->set);
    line_hex(d, "salt", g->salt);
    line_hex(d, "prev", g->prev);
    line_u64(d, "durableSeq", g->durable_seq);
    line_u64(d, "size", g->bytes);
    line_u64(d, "entries", g->entries);
    if (g->flags & JOURNAL_LINK) line_u64(d, "nextPiece", g->next_piece);
    if (!x->footer) line_text(d, "isvalid", "unknown");
    else line_bool(d, "isvalid", sum_ok);
    if (x->footer) line_bool(d, "checkpointed", g->seq <= x->footer->checkpoint_seq);
    line_end(d);
    if (d->records && (sum_ok || !x->footer)) show_entries(d, x->path, p, offset, g);
}

void print_journal_piece(struct dump *d, const char *path) {
    struct chain c;
    size_t len;
    int rc;
    char *folder = folder_of(path);
    uint8_t *piece = read_whole(path, &len, &rc);
    if (!piece || !folder) {
        dump_unreadable(d, path, piece ? -ENOMEM : rc);
    } else {
        bool seed = chain_open(&c, folder) == OK;
        if (!seed) dump_note(d, path, "the catalogue beside it cannot be used: sums are not checked");
        struct printing x = {d, path, seed ? &c.footer : NULL};
        journal_piece_walk(piece, len, c.footer.seed, show_group, &x);
        chain_close(&c);
    }
    free(piece);
    free(folder);
}

/* ---- verifying ---- */

struct checking { struct dump *d; const struct chain *chain; const char *only; };

static void check_group(void *ctx, const uint8_t *p, struct journal_pos at, const struct journal_group *g) {
    const struct checking *x = ctx;
    uint32_t offset = JOURNAL_GROUP_HEADER_BYTES, count = 0;
    struct journal_entry e;
    enum err err;
    while ((err = journal_entry_next(p, g->bytes, &offset, at, g->seq, &e)) == OK) count++;
    if (err == ERR_NOT_FOUND && count == g->entries) return;
    char path[4096];
    chain_piece_path(x->chain, at.piece, path, sizeof path);
    if (!x->only || strcmp(path, x->only) == 0)
        dump_damage(x->d, path, at.offset, "the entries of group %" PRIu64 " cannot be", g->seq);
}

/* Follows the chain from the last checkpoint; a checkpoint may come meanwhile, and free what is being read. */
static void verify_chain(struct dump *d, const char *folder, const char *only) {
    for (int attempt = 1;; attempt++) {
        struct chain c;
        char why[200], path[4096];
        enum err err = chain_open(&c, folder);
        if (err != OK) {
            /* The catalogue is verified by itself. */
            if (only && err != ERR_CORRUPT) dump_note(d, only, "without the catalogue nothing is checked");
            chain_close(&c);
            return;
        }
        uint64_t checkpoint = c.footer.checkpoint_seq;
        struct checking x = {d, &c, only};
        chain_walk(&c, check_group, &x);
        bool damaged = chain_damaged(&c, why, sizeof why);
        uint64_t stuck = c.next_seq;
        if (damaged) chain_walk(&c, check_group, &x);   /* it may have been on its way when we looked */
        damaged = damaged && c.next_seq == stuck;
        chain_piece_path(&c, c.head.piece, path, sizeof path);
        uint32_t offset = c.head.offset;
        chain_close(&c);
        if (!damaged) return;
        bool moved = chain_open(&c, folder) == OK && c.footer.checkpoint_seq != checkpoint;
        chain_close(&c);
        if (moved && attempt < ATTEMPTS) continue;
        if (moved) {
            dump_note(d, folder, "the journal is used faster than it can be verified");
            return;
        }
        if (!only || strcmp(path, only) == 0) dump_damage(d, path, offset, "%s", why);
        return;
    }
}

void verify_journal(struct dump *d, const char *folder) { verify_chain(d, folder, NULL); }

void verify_journal_piece(struct dump *d, const char *path) {
    char *folder = folder_of(path);
    if (!folder) dump_unreadable(d, path, -ENOMEM);
    else verify_chain(d, folder, path);
    free(folder);
}
