/* space.c - the disk space that a log will need beside the bytes of its batches: its folder, its state, the ends of files. It is
 * counted when records are accepted, so that the checkpoint that writes them finds it. Upper bounds, not exact. */
#include "log/mutant.h"
#include "log/shard.h"

enum { LOG_STATE_BYTES = 512, SEGMENT_STATE_BYTES = 64, PRODUCER_STATE_BYTES = 208, EPOCH_STATE_BYTES = 24, PRODUCER_SNAPSHOT_BYTES = 46 };

static uint64_t blocks(uint64_t bytes) { return ALIGN_UP(bytes, (uint64_t)IO_BLOCK_BYTES); }

static uint64_t segment_owes(const struct segment *s, bool last) {
    uint64_t n = last || s->written_bytes < s->size_bytes ? IO_BLOCK_BYTES : 0; /* the part of a block at its end */
    if (last && !s->index) n += 2 * IO_BLOCK_BYTES;
    if (s->index)
        n += blocks((uint64_t)(s->index->offset_count - s->index->offset_written) * INDEX_ENTRY_BYTES) + IO_BLOCK_BYTES +
             blocks((uint64_t)(s->index->time_count - s->index->time_written) * TIME_ENTRY_BYTES) + IO_BLOCK_BYTES;
    if (s->snapshot) n += blocks(s->snapshot_len);
    return n;
}

static uint64_t owes(const struct log_impl *l) {
    if (l->delete_joined || (!l->dirty && !l->in_checkpoint)) return 0;
    uint64_t state = LOG_STATE_BYTES + (uint64_t)l->segment_count * SEGMENT_STATE_BYTES +
                     (uint64_t)l->pub.producers.count * PRODUCER_STATE_BYTES + (uint64_t)l->pub.epochs.count * EPOCH_STATE_BYTES;
    uint64_t n = 2 * state; /* in the catalogue, and once more when that is written anew */
    if (!l->folder_made) n += 3 * IO_BLOCK_BYTES; /* the folder, varve.manifest, partition.metadata */
    n += 2 * IO_BLOCK_BYTES + blocks((uint64_t)l->pub.producers.count * PRODUCER_SNAPSHOT_BYTES); /* Kafka's files, at a stop */
    for (uint32_t i = l->segment_count; i-- > 0;) {
        const struct segment *s = &l->segments[i];
        bool last = i + 1 == l->segment_count;
        if (!last && s->written_bytes == s->size_bytes && !s->index && !s->snapshot) break; /* and so are those before */
        n += segment_owes(s, last);
    }
    return n;
}

/* What every append may change; looked at more closely only when this has. Index entries by the hundred: a block has more. */
static uint32_t mark(const struct log_impl *l) {
    const struct segment_index *x = l->segments[l->segment_count - 1].index;
    return l->segment_count + l->pub.producers.count * 8191u + (x ? (x->offset_count - x->offset_written) / 128 : 0) * 131071u;
}

void impl_owe_more(struct log_impl *l) {
    if (l->owed_bytes > 0 && l->owed_mark == mark(l)) return;
    impl_owe(l);
}

void impl_owe(struct log_impl *l) {
    struct journal *j = l->pub.shard->journal;
    if (!j) return;
    l->owed_mark = mark(l);
    uint64_t now = MUTANT(NOTHING_OWED) ? 0 : owes(l);
    journal_owed_add(j, (int64_t)now - (int64_t)l->owed_bytes);
    l->owed_bytes = now;
}
