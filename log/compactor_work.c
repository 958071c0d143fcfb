/* compactor_work.c - what a helper thread does with the batches of one read; see compactor.h. */
#include <stdlib.h>
#include <string.h>
#include "log/compactor.h"

/* What is wrong with the whole batch at `p`; NULL: nothing. As reads check it, and more: nothing wrong may get a new digest. */
static const char *wrong_with(const struct compactor *c, const uint8_t *p, const struct batch_header *h) {
    const struct compact_source *s = c->source;
    if (batch_check(h) != OK) return "the batch header is impossible";
    bool below = c->feeding && c->expected < c->feed_start && h->base_offset <= c->feed_start; /* others begin with the batch that holds the start */
    if (s->has_gaps || below || (c->feeding && c->gaps_fed) ? h->base_offset < c->expected : h->base_offset != c->expected) return "no batch of this offset begins here";
    if (batch_last_offset(h) >= (c->feeding ? c->range.end : s->end)) return "the batch's offsets go beyond the segment";
    if (!batch_crc_ok(p, h)) return "the batch's CRC does not match";
    if (!epochs_fit(&c->epochs, h->base_offset, batch_last_offset(h), h->leader_epoch)) return "the batch's leader epoch is not the one of this offset";
    return NULL;
}

static enum err out_add(struct compactor *c, const uint8_t *p, size_t len) {
    struct batch_header h;
    uint64_t position = c->out_at + c->out_len;
    if (position + len > INT32_MAX) return ERR_TOO_LARGE;
    if (c->out_cap - c->out_len < len) {
        size_t cap = MAX(c->out_cap * 2, c->out_len + len);
        uint8_t *v = realloc(c->out, cap);
        if (!v) return ERR_NOMEM;
        c->out = v;
        c->out_cap = cap;
    }
    memcpy(c->out + c->out_len, p, len);
    enum err err = batch_parse(c->out + c->out_len, len, &h);
    if (err != OK) return err;
    c->out_len += len;
    if (position == 0) c->first_timestamp = h.max_timestamp;
    err = index_add(&c->index, &h, (uint32_t)position);
    if (err == ERR_FULL) { /* sparser than asked for */
        index_rescan(&c->index, &h);
        err = OK;
    }
    return err == OK ? digester_feed(c->out_digest, p, len) : err;
}

static enum err clean(struct compactor *c, const uint8_t *p, const struct batch_header *h) {
    struct filter_result r;
    if (c->mending) {
        c->changed = true;
        return out_add(c, p, h->total_bytes);
    }
    bool last = c->ends_group && c->in_at + c->in_used + h->total_bytes == c->source->size_bytes;
    last |= epochs_begins_at(&c->epochs, batch_last_offset(h) + 1); /* a replica that copies the epoch must reach its end */
    enum err err = batch_filter(&c->rules, p, h, last, &r);
    if (err != OK) return err;
    c->run.records_before += r.records_in;
    if (r.verdict == FILTER_DROP) {
        c->changed = true;
        return OK;
    }
    c->run.records_after += r.records_out;
    c->changed |= r.verdict == FILTER_REPLACE;
    err = r.verdict == FILTER_REPLACE ? out_add(c, r.batch, r.batch_len) : out_add(c, p, h->total_bytes);
    free(r.batch);
    return err;
}

static enum err map_add(struct compactor *c, const uint8_t *p, const struct batch_header *h) {
    int64_t end;
    enum err err = batch_keys(&c->map, p, h, c->map_from, c->rules.max_decompressed_bytes, &end);
    if (err != OK) return err;
    c->map_end = MAX(c->map_end, end);
    c->map_full = end <= batch_last_offset(h);
    return OK;
}

static void take(struct compactor *c) {
    struct batch_header h;
    while (c->in_used < c->in_len && (c->cleaning || !c->map_full)) {
        const uint8_t *p = c->in + c->in_used;
        uint32_t left = c->in_len - c->in_used;
        enum err err = batch_parse(p, left, &h);
        if (err == ERR_TRUNCATED && c->feeding) {
            c->wrong = "it ends inside a batch";
            return;
        }
        if (err == ERR_TRUNCATED) {
            c->in_need = left >= BATCH_HEADER_BYTES ? h.total_bytes : BATCH_HEADER_BYTES;
            if (c->in_need > c->source->size_bytes - c->in_at - c->in_used) c->wrong = "the batch goes beyond the segment";
            return;
        }
        c->wrong = err != OK ? "no batch begins here" : wrong_with(c, p, &h);
        if (c->wrong) return;
        c->err = c->cleaning ? clean(c, p, &h) : map_add(c, p, &h);
        if (c->err == ERR_CORRUPT) c->wrong = "the records of the batch cannot be read";
        if (c->err != OK) return;
        if (c->feeding && h.base_offset > c->expected) c->dense = false;
        c->expected = batch_last_offset(&h) + 1;
        c->in_used += h.total_bytes;
    }
}

void compactor_work(struct io_op *op) {
    struct compactor *c = CONTAINER_OF(op, struct compactor, op);
    c->in_need = 0;
    c->in_used = 0;
    take(c);
    if (!c->wrong && c->err == OK && c->cleaning && c->source->has_digest) c->err = digester_feed(c->in_digest, c->in, c->in_used);
    if (c->wrong && c->err == OK) c->err = ERR_CORRUPT;
}

const char *compactor_source_wrong(struct compactor *c) {
    if (c->in_len > 0) return "it ends inside a batch";
    if (c->expected != c->source->end && !c->source->has_gaps) return "its last batch is missing";
    if (!c->source->has_digest) return NULL;
    struct sealed_segment sealed;
    enum err err = digester_result(c->in_digest, c->source->base, &sealed);
    if (err != OK) return "no memory for its digest";
    free(sealed.chunks);
    return memcmp(&sealed.digest, &c->source->digest, sizeof sealed.digest) == 0 ? NULL : "its digest is not the one in " MANIFEST_FILE;
}
