/* history.c - what clients sent, what was acknowledged to them, what they read; and what must hold of it.
 *
 * A record's value is (producer, number, mark): 32 bytes of which the last part follows from the rest, so that what was never sent
 * is recognised. What one reader saw at an offset every reader sees there, for ever. */
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "tests/sim/cluster/cluster.h"

struct sent { uint8_t topic, partition; bool idempotent, acked, sure; int64_t acked_offset, seen_offset; /* -1: not yet */ };
struct sender { struct sent *records; uint32_t count, cap; };
struct seen { uint32_t producer_and_1, number; };
struct place { struct seen *records; int64_t cap, complete_to, known_end, deleting_to; };
struct history {
    struct cluster *c;
    struct sender senders[PRODUCERS_MAX];
    struct place places[TOPICS][PARTITIONS_MAX];
};

struct history *history_new(struct cluster *c) {
    struct history *h = calloc(1, sizeof *h);
    ASSERT(h != NULL);
    h->c = c;
    return h;
}

static void value_make(uint32_t producer, uint32_t number, uint8_t value[VALUE_BYTES]) {
    struct prng p = {((uint64_t)producer << 32 | number) ^ 0x5bd1e995u};
    memcpy(value, &producer, 4);
    memcpy(value + 4, &number, 4);
    for (int i = 8; i < VALUE_BYTES; i++) value[i] = (uint8_t)prng_next(&p);
}

uint32_t history_sent(struct history *h, uint32_t producer, uint32_t topic, uint32_t partition, bool idempotent, uint8_t value[VALUE_BYTES]) {
    struct sender *s = &h->senders[producer];
    if (s->count == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 256;
        s->records = realloc(s->records, s->cap * sizeof *s->records);
        ASSERT(s->records != NULL);
    }
    s->records[s->count] = (struct sent){.topic = (uint8_t)topic, .partition = (uint8_t)partition, .idempotent = idempotent, .acked_offset = -1, .seen_offset = -1};
    value_make(producer, s->count, value);
    covered(h->c)->produced++;
    return s->count++;
}

static void check_offsets(struct history *h, uint32_t producer, uint32_t number) {
    const struct sent *r = &h->senders[producer].records[number];
    if (r->acked_offset >= 0 && r->seen_offset >= 0 && r->sure && r->acked_offset != r->seen_offset)
        cluster_violated(h->c, "12 record %u of producer %u was acknowledged at offset %lld of %s-%u and is at %lld", number, producer,
                         (long long)r->acked_offset, topic_name(r->topic), r->partition, (long long)r->seen_offset);
}

int64_t history_known(struct history *h, uint32_t topic, uint32_t partition, int64_t end) {
    struct place *p = &h->places[topic][partition];
    if (end > p->known_end) p->known_end = end;
    return p->known_end;
}

void history_deleting(struct history *h, uint32_t topic, uint32_t partition, int64_t to) {
    struct place *p = &h->places[topic][partition];
    p->deleting_to = MAX(p->deleting_to, to);
}

int64_t history_deleting_to(const struct history *h, uint32_t topic, uint32_t partition) { return h->places[topic][partition].deleting_to; }

bool history_may_be_deleted(const struct history *h, uint32_t topic, uint32_t partition, int64_t offset) {
    return offset < history_deleting_to(h, topic, partition);
}

void history_acked(struct history *h, uint32_t producer, uint32_t number, int64_t offset, bool sure) {
    struct sent *r = &h->senders[producer].records[number];
    ASSERT(number < h->senders[producer].count);
    r->acked = true;
    r->sure = sure;
    r->acked_offset = offset;
    covered(h->c)->acked++;
    struct place *p = &h->places[r->topic][r->partition];
    if (sure) (void)history_known(h, r->topic, r->partition, offset + 1);
    if (sure && offset >= 0 && offset < p->cap && p->records[offset].producer_and_1 > 0) {
        struct seen *at = &p->records[offset];
        if (at->producer_and_1 != producer + 1 || at->number != number)
            cluster_violated(h->c, "12 record %u of producer %u is acknowledged at offset %lld of %s-%u, where another one was read", number, producer,
                             (long long)offset, topic_name(r->topic), r->partition);
    }
    check_offsets(h, producer, number);
}

static struct seen *seen_at(struct place *p, int64_t offset) {
    if (offset >= p->cap) {
        int64_t cap = p->cap ? p->cap : 1024;
        while (cap <= offset) cap *= 2;
        p->records = realloc(p->records, (size_t)cap * sizeof *p->records);
        ASSERT(p->records != NULL);
        memset(p->records + p->cap, 0, (size_t)(cap - p->cap) * sizeof *p->records);
        p->cap = cap;
    }
    return &p->records[offset];
}

void history_read(struct history *h, uint32_t topic, uint32_t partition, int64_t offset, const uint8_t *value, size_t len) {
    struct cluster *c = h->c;
    uint32_t producer = 0, number = 0;
    uint8_t wanted[VALUE_BYTES];
    if (len == VALUE_BYTES) {
        memcpy(&producer, value, 4);
        memcpy(&number, value + 4, 4);
    }
    if (len != VALUE_BYTES || producer >= PRODUCERS_MAX || number >= h->senders[producer].count) {
        cluster_violated(c, "13 at offset %lld of %s-%u lies what nobody sent", (long long)offset, topic_name(topic), partition);
        return;
    }
    struct sent *r = &h->senders[producer].records[number];
    value_make(producer, number, wanted);
    if (memcmp(wanted, value, VALUE_BYTES) != 0 || r->topic != topic || r->partition != partition) {
        cluster_violated(c, "13 at offset %lld of %s-%u lies what nobody sent there", (long long)offset, topic_name(topic), partition);
        return;
    }
    struct seen *at = seen_at(&h->places[topic][partition], offset);
    if (at->producer_and_1 > 0 && (at->producer_and_1 != producer + 1 || at->number != number))
        cluster_violated(c, "5 offset %lld of %s-%u held record %u of producer %u and holds record %u of producer %u", (long long)offset, topic_name(topic),
                         partition, at->number, at->producer_and_1 - 1, number, producer);
    *at = (struct seen){producer + 1, number};
    if (r->seen_offset >= 0 && r->seen_offset != offset)
        cluster_violated(c, "13 record %u of producer %u lies at offsets %lld and %lld of %s-%u", number, producer, (long long)r->seen_offset,
                         (long long)offset, topic_name(topic), partition);
    r->seen_offset = offset;
    (void)history_known(h, topic, partition, offset + 1);
    check_offsets(h, producer, number);
    covered(c)->read++;
}

void history_complete(struct history *h, uint32_t topic, uint32_t partition, int64_t end) {
    struct place *p = &h->places[topic][partition];
    if (end < p->complete_to)
        cluster_violated(h->c, "7 %s-%u ended at %lld and ends at %lld", topic_name(topic), partition, (long long)p->complete_to, (long long)end);
    p->complete_to = end;
}

/* Everything was read from the beginning to the end. */
void history_check_end(struct history *h) {
    for (uint32_t i = 0; i < PRODUCERS_MAX; i++) {
        const struct sender *s = &h->senders[i];
        int64_t last = -1;
        for (uint32_t n = 0; n < s->count; n++) {
            const struct sent *r = &s->records[n];
            /* Nobody came by before it was deleted, perhaps. */
            bool deleted = h->places[r->topic][r->partition].deleting_to > MAX(r->acked_offset, 0);
            if (r->acked && r->sure && r->seen_offset < 0 && !deleted)
                cluster_violated(h->c, "12 record %u of producer %u was acknowledged (at offset %lld of %s-%u) and is lost", n, i,
                                 (long long)r->acked_offset, topic_name(r->topic), r->partition);
            if (!r->idempotent || r->seen_offset < 0) continue;
            if (r->seen_offset < last)
                cluster_violated(h->c, "13 record %u of producer %u lies at offset %lld of %s-%u, before one that was sent earlier", n, i,
                                 (long long)r->seen_offset, topic_name(r->topic), r->partition);
            last = r->seen_offset;
        }
    }
}
