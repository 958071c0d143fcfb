/* replica.c - what a replica adds to a log: changes that are numbered, votes, configurations, batches as the leader has them. */
#include <stdlib.h>
#include "base/trace.h"
#include "log/entries.h"
#include "log/shard.h"
#include "log/state.h"

void log_set_seq(struct log *pub, uint64_t seq) {
    struct log_impl *l = impl_of(pub);
    struct log_shard *sh = pub->shard;
    if (seq <= pub->seq) return;
    pub->seq = seq;
    if (sh->failed != OK || l->delete_joined) return;
    if (shard_effect_seq(sh, l, seq) != OK) shard_fail(sh, ERR_NOMEM, "no memory for a journal entry");
}

static enum err may_change(const struct log_impl *l) {
    const struct log_shard *sh = l->pub.shard;
    if (sh->failed != OK) return ERR_IO;
    return sh->stopping || l->delete_joined ? ERR_CLOSED : OK;
}

enum err log_set_vote(struct log *pub, const struct log_vote *v) {
    struct log_impl *l = impl_of(pub);
    enum err err = may_change(l);
    if (err == OK && (v->epoch < pub->vote.epoch || (v->has_voted && v->node < 0))) err = ERR_INVALID;
    if (err != OK) return err;
    uint8_t *p = shard_entry(pub->shard, ENTRY_VOTE, pub->plid, ENTRY_VOTE_BYTES, 0, NULL, &err);
    if (!p) return err;
    struct entry_vote e = {.epoch = v->epoch, .id = v->has_voted ? v->node : -1};
    if (v->has_voted) e.incarnation = v->incarnation;
    entry_vote_encode(p, &e);
    impl_change(l);
    pub->vote = (struct log_vote){.epoch = e.epoch, .has_voted = v->has_voted, .node = e.id, .incarnation = e.incarnation};
    impl_dirty(l);
    return OK;
}

enum err log_set_replica_config(struct log *pub, const uint8_t *data, uint32_t len) {
    struct log_impl *l = impl_of(pub);
    enum err err = may_change(l);
    if (err != OK) return err;
    Varve__Storage__ConfigEntry m = VARVE__STORAGE__CONFIG_ENTRY__INIT;
    m.has_replica_config = true;
    m.replica_config = (ProtobufCBinaryData){len, (uint8_t *)(uintptr_t)data};
    if ((err = shard_message(pub->shard, ENTRY_CONFIG, pub->plid, &m.base)) != OK) return err;
    impl_change(l);
    if ((err = impl_set_replica_config(l, data, len)) != OK) {
        shard_fail(pub->shard, err, "no memory for a replica's configuration"); /* the journal has it */
        return err;
    }
    impl_dirty(l);
    return OK;
}

enum err log_room(struct log *pub, uint32_t bytes) {
    struct log_impl *l = impl_of(pub);
    return l->delete_joined ? ERR_CLOSED : shard_room(pub->shard, &l->config, bytes);
}

/* ---- batches as the leader has them ------------------------------------------------------------ */

uint32_t log_batch_max(const struct log *pub) { return journal_body_max(pub->shard->journal); }

/* The log start may lie within a batch. */
static bool begins_below(const struct log_impl *l, const struct batch_header *h) {
    const struct log *pub = &l->pub;
    return l->segment_count == 1 && l->segments[0].size_bytes == 0 && pub->end == pub->start && h->base_offset < pub->end &&
           batch_last_offset(h) >= pub->end;
}

/* Everything about a batch but its producer, whose state is the leader's affair. `expected`: the log's end when it comes. */
static enum err copy_check(const struct log_impl *l, int32_t epoch, const uint8_t *p, size_t len, int64_t expected, bool first, struct batch_header *h) {
    if (batch_parse(p, len, h) != OK || batch_check(h) != OK) return ERR_CORRUPT;
    bool follows = h->base_offset >= expected || (first && begins_below(l, h));
    const struct segment *last = &l->segments[l->segment_count - 1];
    int64_t least = first && last->size_bytes == 0 ? MIN(last->base, expected) : expected; /* a segment that may begin there must hold it */
    if (!follows || batch_last_offset(h) - least > INT32_MAX || h->leader_epoch != epoch || !batch_crc_ok(p, h)) return ERR_CORRUPT;
    return h->total_bytes <= journal_body_max(l->pub.shard->journal) ? OK : ERR_TOO_LARGE;
}

enum err log_append_copies(struct log *pub, int32_t epoch, const uint8_t *batches, size_t len, int64_t now_ms) {
    struct log_impl *l = impl_of(pub);
    struct batch_header h;
    enum err err = may_change(l);
    if (err == OK && epoch != pub->epoch) err = ERR_INVALID;
    int64_t expected = pub->end;
    for (size_t at = 0; at < len && err == OK; at += h.total_bytes) {
        err = copy_check(l, epoch, batches + at, len - at, expected, at == 0, &h);
        expected = batch_last_offset(&h) + 1;
    }
    if (err != OK) return err;
    impl_change(l);
    impl_expire_producers(l, now_ms);
    for (size_t at = 0; at < len && err == OK; at += h.total_bytes) {
        err = batch_parse(batches + at, len - at, &h);
        if (err == OK && h.base_offset < pub->end) impl_begin_below(l, h.base_offset);
        if (err == OK) err = impl_append(l, batches + at, &h, -1, now_ms);
    }
    return err;
}
