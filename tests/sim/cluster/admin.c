/* admin.c - a program that makes the topics of the others, and topics of its own that it deletes again. */
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "proto/kafka_errors.h"
#include "server/image.h"
#include "tests/sim/cluster/cluster.h"

/* A name is given up when an answer is lost: its request may still be carried out late. */
enum { FLEETING = 4 };
enum fleeting_state { ABSENT, PRESENT };
static struct {
    struct client client, mover;             /* mover: asks for other replicas */
    struct cluster *c;
    bool made[TOPICS], asking, moving;
    struct {
        enum fleeting_state state;
        uint32_t generation;
        char name[32];
        bool seen, deleting, gone;           /* in images that are as new as `since`: it was there; it is not any more */
        uint64_t since;                      /* older images may show a topic of the same name that was deleted before */
    } fleeting[FLEETING];
    uint64_t newest;                         /* how far the metadata went that any broker has shown */
    int64_t sent_ns;
    uint32_t lives[BROKERS_MAX + 1];         /* of the nodes, then */
    struct timer timer, move_timer;
} admin;

static uint64_t draw(uint64_t n) { return prng_below(&admin.c->work_prng, n); }
static void again(int64_t most_ns) { timer_set(&admin.c->timers, &admin.timer, sim_now_ns(admin.c->world) + 1 + (int64_t)draw((uint64_t)most_ns)); }

static const char *fleeting_name(uint32_t i) {
    snprintf(admin.fleeting[i].name, sizeof admin.fleeting[i].name, "fleeting-%u-%u", i, admin.fleeting[i].generation);
    return admin.fleeting[i].name;
}
static void give_up(uint32_t i) {
    admin.fleeting[i].generation++;
    admin.fleeting[i].state = ABSENT;
    admin.fleeting[i].seen = false;
}

/* ---- what images show: only what is committed, and nobody else makes or deletes these topics ---- */

static void look(uint32_t i, const struct image *im) {
    if (im->metadata_end < admin.fleeting[i].since) return;
    bool there = image_topic_by_name(im, str_from(fleeting_name(i))) != NULL;
    if (there && !admin.fleeting[i].seen) {
        admin.fleeting[i].seen = true;
        admin.fleeting[i].since = im->metadata_end;
    }
    if (there || !admin.fleeting[i].seen || admin.fleeting[i].gone) return;
    admin.fleeting[i].gone = true;
    if (!admin.fleeting[i].deleting) cluster_violated(admin.c, "12 topic %s is gone and nobody asked for that", fleeting_name(i));
}

void admin_look(const struct node *n) {
    const struct image *im = atomic_load(&n->broker.image);
    if (!im) return;
    for (uint32_t i = 0; i < FLEETING; i++) look(i, im);
    admin.newest = MAX(admin.newest, im->metadata_end);
}

static void await_new(uint32_t i) {
    admin.fleeting[i].seen = admin.fleeting[i].deleting = admin.fleeting[i].gone = false;
    admin.fleeting[i].since = admin.newest;
}

/* ---- requests ---- */

static void ask(call_done_fn *done, uint32_t i) {
    admin.asking = true;
    admin.sent_ns = sim_now_ns(admin.c->world);
    for (uint32_t k = 1; k <= admin.c->node_count; k++) admin.lives[k] = admin.c->nodes[k].life;
    call_send(&admin.client, draw(2) ? admin.client.controller : 0, done, &admin, i, 3 * SECOND); /* whoever is asked has it done */
}

/* Whoever says that it is done shows it, wherever it was done (server/forward.h; it waits for a second at most). */
static void check_shown(const struct call *call, const char *name, bool there) {
    const struct node *n = &admin.c->nodes[call->node];
    if (!n->ready || n->stopping || n->life != admin.lives[n->id] || sim_now_ns(admin.c->world) - admin.sent_ns >= SECOND) return;
    if ((image_topic_by_name(atomic_load(&n->broker.image), str_from(name)) != NULL) != there)
        cluster_violated(admin.c, "12 node %d says that topic %s is %s and shows otherwise", n->id, name, there ? "made" : "deleted");
}

static void created(struct call *call, struct wire_reader *r) {
    struct k_create_topics_response a;
    admin.asking = false;
    uint32_t i = (uint32_t)call->tag;
    bool known = r && k_create_topics_response_decode(&a, r, call->version) == OK && a.topics_n == 1;
    int16_t error = known ? a.topics[0].error_code : KERR_NETWORK_EXCEPTION;
    if (error == KERR_NOT_CONTROLLER || !known) client_refresh(&admin.client);
    bool exists = error == KERR_NONE || error == KERR_TOPIC_ALREADY_EXISTS;
    if (exists) check_shown(call, i < TOPICS ? topic_name(i) : fleeting_name(i - TOPICS), true);
    if (i < TOPICS) {
        admin.made[i] |= exists;
    } else {
        if (exists && !admin.fleeting[i - TOPICS].seen)
            cluster_violated(admin.c, "12 topic %s was made, it was said, and no broker has had it", fleeting_name(i - TOPICS));
        if (exists) /* already: a broker has asked the controller twice for us */ admin.fleeting[i - TOPICS].state = PRESENT;
        else give_up(i - TOPICS);
    }
    cluster_trace(admin.c, "making topic %u: error %d", i, error);
    if (error == KERR_NONE) covered(admin.c)->topics_made++;
}

static void create(uint32_t i) {
    struct k_create_topics_request q;
    struct k_create_topics_request_topics t;
    if (i >= TOPICS) await_new(i - TOPICS);
    k_create_topics_request_init(&q);
    k_create_topics_request_topics_init(&t);
    t.name = str_from(i < TOPICS ? topic_name(i) : fleeting_name(i - TOPICS));
    t.num_partitions = i < TOPICS ? (int32_t)topic_partitions(admin.c, i) : 1;
    /* Some have one replica, whose leader keeps its epoch over a restart. */
    bool may_be_lost = (admin.c->faults & (1u << FAULT_LOST_DISK | 1u << FAULT_ROT)) != 0;
    t.replication_factor = i >= TOPICS && !may_be_lost && draw(3) == 0 ? 1 : -1;
    q.topics = &t;
    q.topics_n = 1;
    q.timeout_ms = 2000;
    k_create_topics_request_encode(&q, call_begin(&admin.client, API_CREATE_TOPICS, 7), 7);
    ask(created, i);
}

static void deleted(struct call *call, struct wire_reader *r) {
    struct k_delete_topics_response a;
    admin.asking = false;
    uint32_t i = (uint32_t)call->tag;
    bool known = r && k_delete_topics_response_decode(&a, r, call->version) == OK && a.responses_n == 1;
    int16_t error = known ? a.responses[0].error_code : KERR_NETWORK_EXCEPTION;
    if (error == KERR_NOT_CONTROLLER || !known) client_refresh(&admin.client);
    cluster_trace(admin.c, "deleting %s: error %d", fleeting_name(i), error);
    /* Unknown, and it is true: a broker has asked the controller twice for us, and lost the answer to the first. */
    if (error == KERR_UNKNOWN_TOPIC_OR_PARTITION && !admin.fleeting[i].gone)
        cluster_violated(admin.c, "12 topic %s is unknown although its creation was acknowledged", fleeting_name(i));
    if (error == KERR_NONE && !admin.fleeting[i].gone)
        cluster_violated(admin.c, "12 topic %s was deleted, it was said, and no broker has done it", fleeting_name(i));
    if (error == KERR_NONE) check_shown(call, fleeting_name(i), false);
    if (error == KERR_NONE) covered(admin.c)->topics_deleted++;
    if (error == KERR_NONE) admin.fleeting[i].state = ABSENT;
    else give_up(i);
}

static void delete(uint32_t i) {
    struct k_delete_topics_request q;
    struct k_delete_topics_request_topics t;
    admin.fleeting[i].deleting = true;
    k_delete_topics_request_init(&q);
    k_delete_topics_request_topics_init(&t);
    t.name = str_from(fleeting_name(i));
    q.topics = &t;
    q.topics_n = 1;
    q.timeout_ms = 2000;
    k_delete_topics_request_encode(&q, call_begin(&admin.client, API_DELETE_TOPICS, 6), 6);
    ask(deleted, i);
}

static void reassigned(struct call *call, struct wire_reader *r) {
    struct k_alter_partition_reassignments_response a;
    admin.moving = false;
    bool known = r && k_alter_partition_reassignments_response_decode(&a, r, call->version) == OK;
    if (!known || a.error_code == KERR_NOT_CONTROLLER) client_refresh(&admin.mover);
    if (known && a.error_code == KERR_NONE && a.responses_n == 1 && a.responses[0].partitions_n == 1 && a.responses[0].partitions[0].error_code == KERR_NONE)
        covered(admin.c)->member_changes++;
}

void admin_reassign(struct cluster *c) {
    struct k_alter_partition_reassignments_request q;
    struct k_alter_partition_reassignments_request_topics t;
    struct k_alter_partition_reassignments_request_topics_partitions p;
    int32_t nodes[BROKERS_MAX], n = 0, want = (int32_t)(2 + below(c, MIN(c->node_count, 3u) - 1)); /* min.insync.replicas at least */
    if (c->faults & (1u << FAULT_LOST_DISK | 1u << FAULT_ROT)) want = (int32_t)MIN(c->node_count, 3u); /* one lost disk must be a minority */
    uint32_t topic = (uint32_t)below(c, TOPICS + 1), first = (uint32_t)below(c, c->node_count);
    uint32_t partition = (uint32_t)below(c, topic < TOPICS ? topic_partitions(c, topic) : 2);
    const char *name = topic < TOPICS ? topic_name(topic) : "__consumer_offsets"; /* coordinators move */
    if (admin.moving || !admin.made[MIN(topic, TOPICS - 1u)]) return;
    for (uint32_t i = 0; i < c->node_count && n < want; i++)
        if (c->node_count - i <= (uint32_t)(want - n) || chance(c, 2)) nodes[n++] = (int32_t)(1 + (first + i) % c->node_count);
    k_alter_partition_reassignments_request_init(&q);
    k_alter_partition_reassignments_request_topics_init(&t);
    k_alter_partition_reassignments_request_topics_partitions_init(&p);
    p.partition_index = (int32_t)partition;
    p.replicas = nodes;
    p.replicas_n = n;
    t.name = str_from(name);
    t.partitions = &p;
    t.partitions_n = 1;
    q.topics = &t;
    q.topics_n = 1;
    q.timeout_ms = 2000;
    cluster_trace(c, "%s-%u shall have %d replicas, the first on node %d", name, partition, n, nodes[0]);
    k_alter_partition_reassignments_request_encode(&q, call_begin(&admin.mover, API_ALTER_PARTITION_REASSIGNMENTS, 0), 0);
    admin.moving = true;
    call_send(&admin.mover, admin.mover.controller, reassigned, &admin, 0, 3 * SECOND);
}

/* Where members change at all they do so again and again: beside the other faults it would happen too seldom. */
static void move_some(struct timer *timer) {
    struct cluster *c = admin.c;
    timer_set(&c->timers, timer, sim_now_ns(c->world) + 1 + (int64_t)draw(1500 * MS));
    if (!c->healed) admin_reassign(c);
}

static void work(struct timer *timer) {
    (void)timer;
    again(200 * MS);
    if (admin.asking) return;
    for (uint32_t i = 0; i < TOPICS; i++) {
        if (admin.made[i]) continue;
        create(i);
        return;
    }
    again(2 * SECOND);
    if (admin.c->finishing) return;
    uint32_t i = (uint32_t)draw(FLEETING);
    if (admin.fleeting[i].state == ABSENT) create(TOPICS + i);
    else delete(i);
}

void admin_start(struct cluster *c) {
    memset(&admin, 0, sizeof admin);
    admin.c = c;
    client_init(&admin.client, c, "admin");
    client_init(&admin.mover, c, "mover");
    timer_init(&admin.timer, work);
    timer_init(&admin.move_timer, move_some);
    if (c->faults >> FAULT_MEMBERS & 1) move_some(&admin.move_timer);
    again(20 * MS);
}

const char *admin_waiting(struct cluster *c) {
    (void)c;
    for (uint32_t i = 0; i < TOPICS; i++)
        if (!admin.made[i]) return "a topic cannot be made";
    return NULL;
}
