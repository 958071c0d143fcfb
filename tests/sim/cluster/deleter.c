/* deleter.c - a program that deletes the oldest records of partitions (DeleteRecords): in some runs.
 *
 * What was answered holds: no leader of a later epoch begins below it (docs/replication.md 8), and only what somebody asked to be deleted may be
 * gone (history.c). */
#include <string.h>
#include "base/assert.h"
#include "proto/kafka_errors.h"
#include "server/image.h"
#include "server/partition_impl.h"
#include "tests/sim/cluster/cluster.h"

static struct {
    struct client client;
    struct cluster *c;
    bool asking;
    uint32_t topic, partition;
    struct timer timer;
} deleter;

static uint64_t draw(uint64_t n) { return prng_below(&deleter.c->work_prng, n); }
static void again(int64_t most_ns) { timer_set(&deleter.c->timers, &deleter.timer, sim_now_ns(deleter.c->world) + 1 + (int64_t)draw((uint64_t)most_ns)); }

/* The group of the partition, as anybody's metadata has it. */
static uint64_t group_of(const struct cluster *c) {
    for (uint32_t i = 1; i <= c->node_count; i++) {
        const struct image *im = c->nodes[i].up ? atomic_load(&c->nodes[i].broker.image) : NULL;
        const struct image_topic *t = im ? image_topic_by_name(im, str_from(topic_name(deleter.topic))) : NULL;
        const struct image_partition *p = t ? image_partition(t, (int32_t)deleter.partition) : NULL;
        if (p) return p->plid;
    }
    return 0;
}

/* Where an epoch begins, in somebody's log: there a start is as it should be only if nothing of that epoch goes with what lies before. */
static int64_t start_of_epoch(struct cluster *c, int64_t end) {
    struct node *n = &c->nodes[1 + draw(c->node_count)];
    uint64_t group = group_of(c);
    const struct partition *p = n->up && group != 0 ? check_replica(n, group) : NULL;
    if (!p || p->replica.walk.count == 0) return 0;
    int64_t start = p->replica.walk.markers[draw(p->replica.walk.count)].start;
    return start <= end ? start : 0;
}

static void deleted(struct call *call, struct wire_reader *r) {
    struct k_delete_records_response a;
    struct cluster *c = deleter.c;
    int64_t to = (int64_t)call->tag;
    deleter.asking = false;
    if (!r || k_delete_records_response_decode(&a, r, call->version) != OK || a.topics_n != 1 || a.topics[0].partitions_n != 1) {
        client_refresh(&deleter.client);
        return;
    }
    const struct k_delete_records_response_topics_partitions *x = &a.topics[0].partitions[0];
    cluster_trace(c, "deleting %s-%u to %lld: error %d, starts at %lld", topic_name(deleter.topic), deleter.partition, (long long)to, x->error_code, (long long)x->low_watermark);
    if (x->error_code != KERR_NONE) {
        client_refresh(&deleter.client);
        if (!kafka_error_retriable(x->error_code) && x->error_code != KERR_UNKNOWN_SERVER_ERROR && x->error_code != KERR_OFFSET_OUT_OF_RANGE)
            cluster_violated(c, "13 deleting records of %s-%u: error %d", topic_name(deleter.topic), deleter.partition, x->error_code);
        return;
    }
    covered(c)->deletions++;
    if (x->low_watermark < to)
        cluster_violated(c, "15 %s-%u was deleted to %lld, it is said, and starts at %lld", topic_name(deleter.topic), deleter.partition, (long long)to, (long long)x->low_watermark);
    uint64_t group = group_of(c);
    if (group != 0) check_start_promised(c, group, to);
}

static void work(struct timer *timer) {
    struct cluster *c = deleter.c;
    struct k_delete_records_request q;
    struct k_delete_records_request_topics t;
    struct k_delete_records_request_topics_partitions x;
    (void)timer;
    again(200 * MS);
    if (deleter.asking || c->finishing) return;
    deleter.topic = (uint32_t)draw(TOPICS);
    deleter.partition = (uint32_t)draw(topic_partitions(c, deleter.topic));
    int32_t leader = deleter.client.places[deleter.topic][deleter.partition].leader;
    int64_t end = history_known(c->history, deleter.topic, deleter.partition, 0);
    if (leader == 0) client_refresh(&deleter.client);
    if (leader == 0 || end == 0) return;
    int64_t to = draw(2) == 0 ? start_of_epoch(c, end) : 0;
    if (to == 0) to = 1 + (int64_t)draw((uint64_t)end);
    history_deleting(c->history, deleter.topic, deleter.partition, to);
    k_delete_records_request_init(&q);
    k_delete_records_request_topics_init(&t);
    k_delete_records_request_topics_partitions_init(&x);
    x.partition_index = (int32_t)deleter.partition;
    x.offset = to;
    t.name = str_from(topic_name(deleter.topic));
    t.partitions = &x;
    t.partitions_n = 1;
    q.topics = &t;
    q.topics_n = 1;
    q.timeout_ms = 1500;
    k_delete_records_request_encode(&q, call_begin(&deleter.client, API_DELETE_RECORDS, 2), 2);
    deleter.asking = true;
    call_send(&deleter.client, leader, deleted, &deleter, (uint64_t)to, 3 * SECOND);
}

void deleter_start(struct cluster *c) {
    memset(&deleter, 0, sizeof deleter);
    deleter.c = c;
    client_init(&deleter.client, c, "deleter");
    timer_init(&deleter.timer, work);
    if (draw(2) == 0) again(SECOND);
}
