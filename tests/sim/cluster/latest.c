/* latest.c - programs that ask where a partition ends: whichever broker answers, the answer has everything that was acknowledged to anybody,
 * or read by anybody, before the question left. */
#include "base/assert.h"
#include "proto/kafka_errors.h"
#include "tests/sim/cluster/cluster.h"

struct asker {
    struct client client;
    struct cluster *c;
    uint32_t topic, partition;
    int64_t known;                       /* when the question left */
    bool asking;
    struct timer timer;
};
enum { ASKERS_MAX = TOPICS * PARTITIONS_MAX };
static struct asker all[ASKERS_MAX];

static void again(struct asker *p, int64_t most_ns) {
    timer_set(&p->c->timers, &p->timer, sim_now_ns(p->c->world) + 1 + (int64_t)prng_below(&p->c->work_prng, (uint64_t)most_ns));
}

static void told(struct call *call, struct wire_reader *r) {
    struct asker *p = call->owner;
    struct k_list_offsets_response a;
    p->asking = false;
    if (!r || k_list_offsets_response_decode(&a, r, call->version) != OK || a.topics_n != 1 || a.topics[0].partitions_n != 1) return;
    const struct k_list_offsets_response_topics_partitions *x = &a.topics[0].partitions[0];
    if (x->error_code != KERR_NONE) return;
    covered(p->c)->latest_told++;
    if (x->offset < p->known)
        cluster_violated(p->c, "7 %s-%u ends at %lld, says node %d in epoch %d; before it was asked the end was %lld or more", topic_name(p->topic), p->partition,
                         (long long)x->offset, call->node, x->leader_epoch, (long long)p->known);
    history_known(p->c->history, p->topic, p->partition, x->offset);
}

static void work(struct timer *timer) {
    struct asker *p = CONTAINER_OF(timer, struct asker, timer);
    again(p, 60 * MS);
    if (p->asking || p->c->finishing) return;
    request_offset(&p->client, topic_name(p->topic), p->partition, -1, -1);
    p->asking = true;
    p->known = history_known(p->c->history, p->topic, p->partition, 0);
    call_send(&p->client, 0, told, p, 0, SECOND);
}

void askers_start(struct cluster *c) {
    uint32_t n = 0;
    for (uint32_t t = 0; t < TOPICS; t++)
        for (uint32_t k = 0; k < topic_partitions(c, t); k++) {
            struct asker *p = &all[n++];
            *p = (struct asker){.c = c, .topic = t, .partition = k};
            client_init(&p->client, c, "asker");
            timer_init(&p->timer, work);
            again(p, SECOND);
        }
}
