/* check_images.c - brokers that have applied the metadata log up to the same offset know the same, however they came to it: record by
 * record, from a snapshot, or from a snapshot while they ran. */
#include <stdlib.h>
#include "base/assert.h"
#include "server/controller_impl.h"
#include "tests/sim/cluster/cluster.h"

enum { SEEN = 4096 };
struct check_images {
    struct { uint64_t end; uint32_t crc, pieces; int32_t node; } seen[SEEN]; /* by the end, the newest ones */
    uint64_t begun, last;                /* the newest snapshot that was seen, open and whole */
};

struct check_images *check_images_new(void) {
    struct check_images *k = calloc(1, sizeof *k);
    ASSERT(k != NULL);
    return k;
}

/* What a snapshot of it would say. */
static void fingerprint(const struct image *im, uint32_t *crc, uint32_t *pieces) {
    struct controller_edit e = {0};
    struct snapshot_cursor at = {0};
    batch_builder_init(&e.batch, CODEC_NONE, CHANGE_BYTES_MAX);
    (void)controller_begin_snapshot(&e, im->groups_end);
    e.kept = 1;
    while (!controller_add_pieces(&e, im, &at, CHANGE_BYTES_MAX, 1000)) ASSERT(e.err == OK);
    *crc = e.crc ^ (uint32_t)im->groups_end;
    *pieces = e.pieces;
    batch_builder_free(&e.batch);
}

static void compare(struct node *n, const struct image *im) {
    struct check_images *k = n->c->images;
    uint32_t crc, pieces, at = (uint32_t)(im->metadata_end % SEEN);
    fingerprint(im, &crc, &pieces);
    if (k->seen[at].end != im->metadata_end) {
        k->seen[at].end = im->metadata_end;
        k->seen[at].crc = crc;
        k->seen[at].pieces = pieces;
        k->seen[at].node = n->id;
        return;
    }
    covered(n->c)->images_compared++;
    if (k->seen[at].crc != crc || k->seen[at].pieces != pieces)
        cluster_violated(n->c, "20 metadata: nodes %d and %d know different things at offset %llu", k->seen[at].node, n->id,
                         (unsigned long long)im->metadata_end);
}

void check_image(struct node *n) {
    struct check_images *k = n->c->images;
    const struct image *im = atomic_load_explicit(&n->broker.image, memory_order_relaxed);
    if (!n->broker.controller || !im || im->edition == 0) return;
    bool first = n->image_life != n->life;
    if (!first && im->edition == n->image_edition) return;
    const struct image_snapshots *s = &im->snapshots;
    if (s->groups_end > 0 && first) covered(n->c)->images_loaded++;
    if (s->groups_end > 0 && !first && s->groups_end != n->image_groups_end) covered(n->c)->images_reloaded++;
    if (s->open && s->begin > k->begun) {
        if (k->begun > k->last) covered(n->c)->half_snapshots++;
        k->begun = s->begin;
    }
    if (s->last > k->last) {
        covered(n->c)->snapshots++;
        k->last = s->last;
    }
    n->image_life = n->life;
    n->image_edition = im->edition;
    n->image_groups_end = s->groups_end;
    compare(n, im);
}
