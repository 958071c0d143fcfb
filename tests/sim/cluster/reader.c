/* reader.c - programs that read a partition from its beginning, over and over, as consumers do. */
#include <stdlib.h>
#include "base/assert.h"
#include "proto/kafka_errors.h"
#include "proto/record_batch.h"
#include "tests/sim/cluster/cluster.h"

struct reader {
    struct client client;
    struct cluster *c;
    uint32_t topic, partition;
    int64_t offset;                      /* of the next record */
    int64_t end;                         /* what the last answer said; -1: none yet since the last write */
    int64_t asked_ns;
    bool asking, begun_again;
    int32_t asked_leader, asked_epoch;
    int64_t shown;                       /* the highest high watermark, */
    int32_t shown_epoch;                 /* by a leader of this epoch or a later one */
    struct timer timer;
};
enum { READERS_MAX = TOPICS * PARTITIONS_MAX };
static struct reader *all[READERS_MAX];
static uint32_t all_count;

static uint64_t draw(struct reader *p, uint64_t n) { return prng_below(&p->c->work_prng, n); }
static void again(struct reader *p, int64_t most_ns) {
    timer_set(&p->c->timers, &p->timer, sim_now_ns(p->c->world) + 1 + (int64_t)draw(p, (uint64_t)most_ns));
}

static bool read_batch(struct reader *p, const uint8_t *bytes, const struct batch_header *h) {
    struct record_iter it;
    struct record rec;
    if (record_iter_init(&it, bytes, h, 1 << 20) != OK) return false;
    while (record_iter_next(&it, &rec) == OK) {
        if (rec.offset < p->offset) continue; /* the batch holds the offset that was asked for */
        if (rec.offset != p->offset)
            cluster_violated(p->c, "19 behind offset %lld of %s-%u comes %lld", (long long)p->offset - 1, topic_name(p->topic), p->partition, (long long)rec.offset);
        history_read(p->c->history, p->topic, p->partition, rec.offset, rec.value.p, (size_t)(rec.value.len > 0 ? rec.value.len : 0));
        p->offset = rec.offset + 1;
    }
    record_iter_free(&it);
    return true;
}

static void read_records(struct reader *p, const struct k_fetch_response_responses_partitions *a) {
    size_t left = a->records.len > 0 ? (size_t)a->records.len : 0;
    const uint8_t *at = a->records.p;
    struct batch_header h;
    while (left > 0 && batch_parse(at, left, &h) == OK) {
        if (!batch_crc_ok(at, &h) || !read_batch(p, at, &h)) {
            cluster_violated(p->c, "18 damaged records of %s-%u reach a client", topic_name(p->topic), p->partition);
            return;
        }
        if (batch_last_offset(&h) >= a->high_watermark)
            cluster_violated(p->c, "14 offset %lld of %s-%u is shown below the high watermark %lld", (long long)batch_last_offset(&h), topic_name(p->topic),
                             p->partition, (long long)a->high_watermark);
        at += h.total_bytes;
        left -= h.total_bytes;
    }
}

/* A leader that was replaced may show less than the one after it; nobody else. */
static void check_shown(struct reader *p, int64_t high_watermark) {
    if (p->asked_epoch < 0) return;
    if (p->asked_epoch >= p->shown_epoch && high_watermark < p->shown)
        cluster_violated(p->c, "7 node %d shows high watermark %lld of %s-%u in epoch %d; %lld was shown in epoch %d", p->asked_leader, (long long)high_watermark,
                         topic_name(p->topic), p->partition, p->asked_epoch, (long long)p->shown, p->shown_epoch);
    if (high_watermark > p->shown) p->shown = high_watermark;
    if (p->asked_epoch > p->shown_epoch) p->shown_epoch = p->asked_epoch;
}

/* What it wants is gone, as somebody wished: it goes on where the log begins. */
static void start_told(struct call *call, struct wire_reader *r) {
    struct reader *p = call->owner;
    struct k_list_offsets_response a;
    p->asking = false;
    again(p, 10 * MS);
    if (!r || k_list_offsets_response_decode(&a, r, call->version) != OK || a.topics_n != 1 || a.topics[0].partitions_n != 1 ||
        a.topics[0].partitions[0].error_code != KERR_NONE) {
        client_refresh(&p->client);
        return;
    }
    int64_t start = a.topics[0].partitions[0].offset;
    if (start > 0 && !history_may_be_deleted(p->c->history, p->topic, p->partition, start - 1))
        cluster_violated(p->c, "15 %s-%u starts at %lld, which nobody has asked for", topic_name(p->topic), p->partition, (long long)start);
    if (start > p->offset) p->offset = start;
}

static void ask_start(struct reader *p) {
    request_offset(&p->client, topic_name(p->topic), p->partition, p->asked_epoch, -2);
    p->asking = true;
    call_send(&p->client, p->asked_leader, start_told, p, 0, SECOND);
}

static void fetched(struct call *call, struct wire_reader *r) {
    struct reader *p = call->owner;
    struct k_fetch_response a;
    p->asking = false;
    again(p, 10 * MS);
    if (!r || k_fetch_response_decode(&a, r, call->version) != OK || a.error_code != KERR_NONE || a.responses_n != 1 || a.responses[0].partitions_n != 1) {
        client_refresh(&p->client);
        return;
    }
    const struct k_fetch_response_responses_partitions *x = &a.responses[0].partitions[0];
    if (x->error_code != KERR_NONE) {
        if (x->error_code == KERR_OFFSET_OUT_OF_RANGE && history_may_be_deleted(p->c->history, p->topic, p->partition, p->offset)) {
            ask_start(p);
            return;
        }
        if (x->error_code == KERR_OFFSET_OUT_OF_RANGE)
            cluster_violated(p->c, "12 offset %lld of %s-%u was readable up to here and is out of range at node %d (log %lld to %lld)", (long long)p->offset,
                             topic_name(p->topic), p->partition, p->asked_leader, (long long)x->log_start_offset, (long long)x->high_watermark);
        else if (!kafka_error_retriable(x->error_code))
            cluster_violated(p->c, "12 reading %s-%u fails with error %d", topic_name(p->topic), p->partition, x->error_code);
        client_refresh(&p->client);
        again(p, 50 * MS);
        return;
    }
    check_shown(p, x->high_watermark);
    read_records(p, x);
    if (p->c->quiet_ns > 0 && p->asked_ns > p->c->quiet_ns) p->end = x->high_watermark;
}

static void work(struct timer *timer) {
    struct reader *p = CONTAINER_OF(timer, struct reader, timer);
    again(p, 100 * MS);
    if (p->asking) return;
    if (p->c->quiet_ns > 0 && !p->begun_again) { /* what is there at the end is read from the beginning */
        p->begun_again = true;
        p->offset = 0;
        p->end = -1;
    } else if (!p->c->finishing && draw(p, 50) == 0) {
        p->offset = (int64_t)draw(p, (uint64_t)p->offset + 1);
    }
    const struct topic_place *place = &p->client.places[p->topic][p->partition];
    if (place->leader == 0) {
        client_refresh(&p->client);
        return;
    }
    struct k_fetch_request_topics_partitions x;
    k_fetch_request_topics_partitions_init(&x);
    int32_t wait_ms = (int32_t)draw(p, 200);
    x.partition = (int32_t)p->partition;
    x.current_leader_epoch = place->leader_epoch;
    x.fetch_offset = p->offset;
    x.partition_max_bytes = 1024 + (int32_t)draw(p, 32768);
    request_fetch(&p->client, topic_name(p->topic), &x, wait_ms, 65536);
    p->asking = true;
    p->asked_ns = sim_now_ns(p->c->world);
    p->asked_leader = place->leader;
    p->asked_epoch = place->leader_epoch;
    call_send(&p->client, place->leader, fetched, p, 0, 3 * SECOND);
}

void readers_start(struct cluster *c) {
    all_count = 0;
    for (uint32_t t = 0; t < TOPICS; t++)
        for (uint32_t k = 0; k < topic_partitions(c, t); k++) {
            struct reader *p = all[all_count++] = calloc(1, sizeof *p);
            ASSERT(p != NULL);
            p->shown_epoch = -1;
            client_init(&p->client, c, "reader");
            p->c = c;
            p->topic = t;
            p->partition = k;
            p->end = -1;
            timer_init(&p->timer, work);
            again(p, 200 * MS);
        }
}

const char *readers_waiting(struct cluster *c) {
    static char what[120];
    for (uint32_t i = 0; i < all_count; i++) {
        const struct reader *p = all[i];
        if (p->begun_again && p->end >= 0 && p->offset >= p->end) continue;
        snprintf(what, sizeof what, "a reader of %s-%u is at %lld%s of %lld", topic_name(p->topic), p->partition, (long long)p->offset, p->begun_again ? "" : " (before the end)",
                 (long long)p->end);
        return what;
    }
    for (uint32_t i = 0; i < all_count; i++) history_complete(c->history, all[i]->topic, all[i]->partition, all[i]->end);
    return NULL;
}
