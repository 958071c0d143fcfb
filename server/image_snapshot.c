/* image_snapshot.c - snapshots in the metadata log (proto/metadata.proto), as readers take them.
 *
 * An edit that begins where the log begins makes the image of the pieces of the snapshot that it finds there. Everybody else
 * has that image already: they count the pieces, so that they know at its end that it is whole, and let it be. A snapshot
 * that is not what its end says would lose metadata once the log begins with it; it is damage, and who writes one finds that
 * out before it appends the end. */
#include "base/crc32c.h"
#include "server/image_impl.h"

static enum err begin(struct image_edit *e, uint64_t metadata_offset, const Varve__Metadata__SnapshotBegin *m, size_t len) {
    struct image_snapshots *s = &e->next->snapshots;
    if (e->loading) return ERR_CORRUPT;
    s->open = true;
    s->begin = metadata_offset;
    s->bytes = len;
    s->pieces = s->crc = 0;
    if (!e->blank) return OK;
    e->loading = true;
    s->groups_end = e->next->groups_end = m->groups_end;
    return OK;
}

static enum err end(struct image_edit *e, const Varve__Metadata__SnapshotEnd *m, size_t len) {
    struct image_snapshots *s = &e->next->snapshots;
    if (!s->open || m->begin != s->begin || m->pieces != s->pieces || m->crc != s->crc) return ERR_CORRUPT;
    s->open = e->loading = false;
    s->before = s->last;
    s->last = s->begin;
    s->last_bytes = s->bytes + len;
    s->tail_bytes = 0;
    return OK;
}

/* Each kind says here whether a snapshot has it; if so, server/controller_pieces.c writes it. */
static enum err piece_kind(const Varve__Metadata__Record *r) {
    switch (r->kind_case) {
    case VARVE__METADATA__RECORD__KIND_TOPIC:
    case VARVE__METADATA__RECORD__KIND_PARTITION:
    case VARVE__METADATA__RECORD__KIND_CONFIG:
    case VARVE__METADATA__RECORD__KIND_PRODUCER_IDS:
    case VARVE__METADATA__RECORD__KIND_FEATURE:
    case VARVE__METADATA__RECORD__KIND_CLIENT_QUOTA:
    case VARVE__METADATA__RECORD__KIND_BROKER:
    case VARVE__METADATA__RECORD__KIND_PARTITION_REPLICAS:
    case VARVE__METADATA__RECORD__KIND_QUORUM_VOTERS:
    case VARVE__METADATA__RECORD__KIND_DRAIN: return OK;
    case VARVE__METADATA__RECORD__KIND_REMOVE_TOPIC: /* what is not there is not kept */
    case VARVE__METADATA__RECORD__KIND_REMOVE_BROKER:
    case VARVE__METADATA__RECORD__KIND_SNAPSHOT_BEGIN:
    case VARVE__METADATA__RECORD__KIND_SNAPSHOT_END: return ERR_CORRUPT;
    case VARVE__METADATA__RECORD__KIND__NOT_SET:
    case _VARVE__METADATA__RECORD__KIND__CASE_IS_INT_SIZE: break;
    }
    return ERR_UNSUPPORTED;
}

static enum err piece(struct image_edit *e, const Varve__Metadata__Record *r, const uint8_t *record, size_t len, image_apply_fn *apply) {
    struct image_snapshots *s = &e->next->snapshots;
    if (!s->open || r->kept > s->begin) return ERR_CORRUPT;
    enum err err = piece_kind(r);
    if (!err && e->loading) err = apply(e, r->kept - 1, r);
    s->pieces++;
    s->crc = crc32c(s->crc, record, len);
    s->bytes += len;
    return err;
}

enum err image_snapshot_apply(struct image_edit *e, uint64_t metadata_offset, const Varve__Metadata__Record *r, const uint8_t *record,
                              size_t len, image_apply_fn *apply) {
    bool begins = r->kind_case == VARVE__METADATA__RECORD__KIND_SNAPSHOT_BEGIN && !r->kept;
    enum err err;
    if (e->blank && e->from > 0 && !begins) return ERR_CORRUPT;
    if (r->kept) {
        err = piece(e, r, record, len, apply);
    } else if (begins) {
        err = begin(e, metadata_offset, r->snapshot_begin, len);
    } else if (r->kind_case == VARVE__METADATA__RECORD__KIND_SNAPSHOT_END) {
        err = end(e, r->snapshot_end, len);
    } else {
        if (e->loading) return ERR_CORRUPT; /* the log would not begin with it if it had not been whole */
        e->next->snapshots.open = false;
        e->next->snapshots.tail_bytes += len;
        err = apply(e, metadata_offset, r);
    }
    e->blank = false;
    return err;
}
