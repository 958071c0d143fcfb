/* dump_chain.h - reads a commit journal from outside: the catalogue's last footer, and the chain of
 * groups behind it. Nothing is written, and the journal may be in use meanwhile. */
#ifndef TOOLS_DUMP_CHAIN_H
#define TOOLS_DUMP_CHAIN_H
#include "log/catalog.h"
#include "log/journal_format.h"
#include "tools/dump.h"

struct chain {
    char *folder;
    uint8_t *catalog;             /* the catalogue's bytes */
    size_t catalog_len;
    struct catalog_extent extent;
    struct catalog_footer footer;
    uint8_t *image;               /* of piece `loaded` */
    size_t image_len;
    uint32_t loaded;
    struct journal_pos head;      /* behind the last group that was walked */
    uint64_t next_seq, link, durable_seq;
};

/* OK: the catalogue has a complete footer (it may be damaged otherwise: see chain_open's callers). ERR_NOT_FOUND: no
 * catalogue. ERR_CORRUPT: no complete footer, or damage at extent.bad_at. ERR_IO, ERR_NOMEM: cannot be read. */
MUST_CHECK enum err chain_open(struct chain *c, const char *folder);
void chain_close(struct chain *c);

typedef void chain_group_fn(void *ctx, const uint8_t *p, struct journal_pos at, const struct journal_group *g);
/* Walks on from the head while groups hold and chain. */
void chain_walk(struct chain *c, chain_group_fn *fn, void *ctx);
/* After the walk: whether something says that the group at the head was durable; it is then damaged or missing. */
bool chain_damaged(struct chain *c, char *why, size_t why_len);
void chain_piece_path(const struct chain *c, uint32_t piece, char *out, size_t len);
/* "000012.vj" */
bool chain_piece_number(const char *name, uint32_t *piece);
#endif
