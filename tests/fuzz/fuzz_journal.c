/* Recovery over any bytes in the catalogue and the pieces: it opens or it refuses with a reason, and never crashes.
 *
 *   mode u8 | catalogue length u16 | catalogue | bytes of pieces 0, 1, 2
 *
 * Checksums would stop a fuzzer at the door, so from mode 1 on they are made good: the catalogue's bytes
 * become the fields of a footer, and each block that begins with the magic becomes the next group of a chain (mode 2:
 * keeps the sequence number it states). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "base/bytes.h"
#include "base/trace.h"
#include "log/catalog_impl.h"
#include "log/entries.h"
#include "log/journal_format.h"
#include "proto/storage.pb-c.h"
#include "tests/sim/io_sim.h"

enum { PIECE = 16384, PIECES = 3, SEED = 12345 };
#define FOLDER "/d/journal-0"

static void file_put(struct io *io, const char *path, const uint8_t *data, size_t len) {
    int fd = io_open(io, path, IO_OPEN_WRITE | IO_OPEN_CREATE);
    ASSERT(fd >= 0 && io_pwrite(io, fd, data, len, 0) == (int64_t)len);
    io_close(io, fd);
}

static enum err state(void *ctx, uint64_t plid, const uint8_t *data, uint32_t len) {
    uint64_t *sum = ctx;
    *sum += plid;
    Varve__Storage__LogState *m = varve__storage__log_state__unpack(NULL, len, data);
    if (m != NULL) varve__storage__log_state__free_unpacked(m, NULL);
    return OK;
}

static enum err entry(void *ctx, const struct journal_entry *e) {
    uint64_t *sum = ctx;
    for (uint32_t i = 0; i < e->header_len; i++) *sum += e->header[i];
    for (uint32_t i = 0; i < e->body_len; i++) *sum += e->body[i];
    struct entry_records records;
    struct entry_direct direct;
    struct entry_image image;
    struct entry_marker marker;
    struct entry_vote vote;
    struct entry_truncate truncate;
    switch (e->type) {
        case ENTRY_RECORDS: return entry_records_decode(&records, e->header, e->header_len);
        case ENTRY_DIRECT: return entry_direct_decode(&direct, e->header, e->header_len);
        case ENTRY_IMAGE: return entry_image_decode(&image, e->header, e->header_len);
        case ENTRY_MARKER: return entry_marker_decode(&marker, e->header, e->header_len);
        case ENTRY_VOTE: return entry_vote_decode(&vote, e->header, e->header_len);
        case ENTRY_TRUNCATE: return entry_truncate_decode(&truncate, e->header, e->header_len);
        default: return OK;
    }
}

static void make_chain(uint8_t *pieces, const struct catalog_footer *f, bool keep_seq) {
    uint64_t seq = f->checkpoint_seq, chain = f->chain;
    for (uint32_t at = 0; at < PIECES * PIECE; at += IO_BLOCK_BYTES) {
        struct journal_group g;
        uint32_t room = PIECE - at % PIECE;
        if (load_le32(pieces + at) == JOURNAL_MAGIC) store_le16(pieces + at + 4, JOURNAL_VERSION);
        if (journal_group_parse(pieces + at, room, &g) != OK) continue;
        if (!keep_seq) g.seq = ++seq;
        g.prev = chain;
        g.journal = 0;
        g.set = 1;
        journal_group_seal(pieces + at, &g, SEED);
        chain = g.sum_low;
        at += journal_group_blocks_bytes(g.bytes) - IO_BLOCK_BYTES;
    }
}

static struct catalog_footer footer_of(const uint8_t *p, size_t len) {
    uint8_t v[16] = {0};
    if (len > 0) memcpy(v, p, MIN(len, sizeof v));
    return (struct catalog_footer){
        .checkpoint_seq = v[0], .next = {v[1], v[2] * IO_BLOCK_BYTES}, .chain = v[3], .durable_seq = v[4],
        .next_plid = 1 + load_le64(v + 8) % 100, .journal = 0, .set = 1, .piece_bytes = PIECE, .seed = SEED,
        .clean_stop = v[5] & 1};
}

static void write_catalog(struct io *io, int mode, const uint8_t *p, size_t len) {
    if (mode == 0) {
        file_put(io, FOLDER "/catalog", p, len);
        return;
    }
    struct catalog_footer f = footer_of(p, len);
    uint8_t *states = malloc(len + 64);
    uint32_t bytes = 0, n = catalog_record_put(states, CATALOG_STATE, 7, p, (uint32_t)len);
    uint8_t *footer = catalog_footer_build(&f, states, n, 1, 0, n, &bytes);
    uint8_t *file = malloc(n + bytes);
    memcpy(file, states, n);
    memcpy(file + n, footer, bytes);
    file_put(io, FOLDER "/catalog", file, n + bytes);
    free(file);
    free(footer);
    free(states);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 3) return 0;
    trace_setup(TRACE_ERROR, TRACE_TEXT, -1);
    int mode = data[0] % 3;
    size_t catalog_len = MIN((size_t)load_le16(data + 1), size - 3);
    const uint8_t *catalog = data + 3;
    struct sim_world *w = sim_world_new(1);
    struct io *io = sim_io_create(w, 0);
    io_mkdir(io, "/d");
    io_mkdir(io, FOLDER);
    write_catalog(io, mode, catalog, catalog_len);
    uint8_t *pieces = calloc(PIECES, PIECE);
    memcpy(pieces, catalog + catalog_len, MIN(size - 3 - catalog_len, (size_t)PIECES * PIECE));
    struct catalog_footer f = footer_of(catalog, catalog_len);
    if (mode > 0) make_chain(pieces, &f, mode == 2);
    for (uint32_t i = 0; i < PIECES; i++) {
        char path[64];
        journal_piece_path(path, sizeof path, "/d", 0, i);
        file_put(io, path, pieces + i * PIECE, PIECE);
    }
    struct journal_config cfg = {.dir = "/d", .set = 1, .bytes = 4 * PIECE, .piece_bytes = PIECE, .depth = 2, .shards = 1,
                                 .direct = true};
    uint64_t sum = 0;
    char why[256];
    struct journal_recovery rec;
    struct journal *j;
    enum err err = journal_open(io, &cfg, &(struct journal_replay){&sum, state, entry}, &j, &rec, why, sizeof why);
    ASSERT(err == OK || why[0] != '\0');
    uint64_t first_groups = rec.groups, first = sum;
    journal_close(j);
    if (err == OK) { /* what opens once opens again, with START behind it, and says the same */
        sum = 0;
        enum err again = journal_open(io, &cfg, &(struct journal_replay){&sum, state, entry}, &j, &rec, why, sizeof why);
        ASSERT(again == OK && rec.groups == first_groups + 1 && sum == first);
        journal_close(j);
    }
    free(pieces);
    io_destroy(io);
    sim_world_free(w);
    return 0;
}
