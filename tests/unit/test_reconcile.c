/* Four brokers in one process, real logs and cores, messages that the test carries. What metadata wants of a partition is an image made
 * by hand; how its leader gets there, and that nothing is lost on the way, is what is tested. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/trace.h"
#include "proto/kafka_errors.h"
#include "proto/record_batch.h"
#include "server/image.h"
#include "server/partition_impl.h"
#include "server/reactor.h"
#include "tests/sim/io_sim.h"

enum { NODES = 4, GROUP = 77, MESSAGES_MAX = 4096, MS = 1000000 };

/* ---- the world -------------------------------------------------------------------------------------------------- */

struct message { int64_t due_ns; int to; uint64_t group; struct replica_message m; uint8_t *records; uint32_t len; };
struct node { struct broker b; struct io *io; bool up; };
static struct sim_world *w;
static struct node nodes[NODES];
static struct message queue[MESSAGES_MAX];
static uint32_t queued;

/* One partition of one topic, all brokers registered. Changed in place: reactors look at it when they are told to. */
static struct image im;
static struct image_node registered[NODES];
static struct image_topic topic, *topics[1] = {&topic};
static struct image_partition partition;
static struct image_replica at[IMAGE_REPLICAS_MAX];
static int32_t replicas[IMAGE_REPLICAS_MAX];

static struct reactor *reactor(int i) { return &nodes[i].b.reactors[0]; }
static struct partition *part(int i) { return nodes[i].up ? partition_find(reactor(i), GROUP) : NULL; }
static struct replica_member member(int i) { return (struct replica_member){i + 1, *log_store_incarnation(nodes[i].b.store)}; }

static bool carry(struct reactor *r, uint64_t group, const struct replica_message *m, struct slice *slices, uint32_t count) {
    int to = m->to.node - 1;
    ck_assert(replica_message_is_valid(m));
    ck_assert_int_ne(to, r->broker->config.node_id - 1);
    if (nodes[to].up) {
        ck_assert_uint_lt(queued, MESSAGES_MAX);
        struct message *q = &queue[queued++];
        *q = (struct message){.due_ns = sim_now_ns(w) + 100000, .to = to, .group = group, .m = *m};
        for (uint32_t i = 0; i < count; i++) q->len += slices[i].len;
        q->records = q->len ? malloc(q->len) : NULL;
        for (uint32_t i = 0, end = 0; i < count; end += slices[i++].len) memcpy(q->records + end, slice_data(&slices[i]), slices[i].len);
    }
    for (uint32_t i = 0; i < count; i++) buf_unref(slices[i].buf);
    return true;
}

static void open_node(int i) {
    struct config config;
    struct log_recovery recovery;
    char text[256], why[512];
    snprintf(text, sizeof text, "log.dirs=/data\nnode.id=%d\nreactors=1\njournal.bytes=16777216\ntail.bytes=2097152\n"
             "disk.reserve.bytes=0\nlog.level=error\n", i + 1);
    struct config_builder *b = config_builder_new();
    ck_assert_int_eq(config_add_properties(b, "test", text, strlen(text), why, sizeof why), OK);
    ck_assert_msg(config_finish(b, &config, why, sizeof why) == OK, "%s", why);
    config_builder_free(b);
    struct node *n = &nodes[i];
    n->io = sim_io_create(w, (unsigned)i);
    ck_assert_int_eq(broker_init(&n->b, &config), OK);
    ck_assert_int_eq(reactor_init(&n->b.reactors[0], n->io), OK);
    ck_assert_msg(broker_open(&n->b, &recovery, why, sizeof why) == OK, "%s", why);
    reactor(i)->partitions->send = carry;
    reactor(i)->image = &im;
    n->up = true;
    registered[i] = (struct image_node){.node = i + 1, .incarnation = *log_store_incarnation(n->b.store), .drained = registered[i].drained};
}

static void kill_node(int i) {
    sim_crash(w, (unsigned)i, SIM_LOSE_ALL);
    nodes[i].up = false;
    reactor(i)->image = NULL;
    reactor_close(reactor(i));
    broker_close(&nodes[i].b);
    io_destroy(nodes[i].io);
    for (uint32_t k = 0; k < queued;) {
        if (queue[k].to != i) {
            k++;
            continue;
        }
        free(queue[k].records);
        queue[k] = queue[--queued];
    }
    for (int k = 0; k < NODES; k++)
        if (nodes[k].up) partition_peer_lost(reactor(k), i + 1);
}

static void deliver_due(void) {
    for (uint32_t k = 0; k < queued;) {
        if (queue[k].due_ns > sim_now_ns(w)) {
            k++;
            continue;
        }
        struct message q = queue[k];
        queue[k] = queue[--queued];
        if (nodes[q.to].up) partition_receive(reactor(q.to), q.group, &q.m, (struct bytes){q.records, (int32_t)q.len});
        free(q.records);
        k = 0;
    }
}

static void turn(void) {
    int64_t next = sim_now_ns(w) + 20 * MS;
    for (int i = 0; i < NODES; i++)
        if (nodes[i].up) reactor_turn(reactor(i), 0);
    for (int i = 0; i < NODES; i++)
        if (nodes[i].up) next = MIN(next, reactor(i)->busy ? sim_now_ns(w) : timers_next(&reactor(i)->timers));
    for (uint32_t k = 0; k < queued; k++) next = MIN(next, queue[k].due_ns);
    sim_advance(w, MAX(next, sim_now_ns(w) + 1000));
    for (int i = 0; i < NODES; i++)
        if (nodes[i].up) reactor(i)->now_ns = sim_now_ns(w);
    deliver_due();
}
static void run_ms(int64_t ms) {
    for (int64_t end = sim_now_ns(w) + ms * MS; sim_now_ns(w) < end;) turn();
}

/* ---- metadata ------------------------------------------------------------------------------------------------------ */

static void created(void *ctx, enum err err) {
    ck_assert_int_eq(err, OK);
    *(bool *)ctx = true;
}

static void make_log(int i) {
    bool done = false;
    ck_assert(partition_create(reactor(i), &topic, 0, created, &done));
    for (int n = 0; n < 1000 && !done; n++) turn();
    ck_assert(done);
}
static void drop_log(int i) {
    bool done = false;
    partition_delete(reactor(i), GROUP, created, &done);
    for (int n = 0; n < 1000 && !done; n++) turn();
    ck_assert(done);
}

/* "2 3 4+1 1-": nodes; +L comes, with that life; - leaves. Logs are made and deleted as the reactors would. */
static void want(const char *text) {
    bool had[NODES] = {0}, has[NODES] = {0};
    for (int32_t i = 0; i < partition.replica_count; i++) had[replicas[i] - 1] = true;
    int32_t n = 0;
    for (const char *p = text; *p; p++) {
        if (*p == ' ') continue;
        int32_t node = *p - '0';
        const struct image_replica *was = image_replica_of(&partition, node);
        struct image_replica r = was ? *was : (struct image_replica){.node = node, .incarnation = registered[node - 1].incarnation};
        r.adding = p[1] == '+';
        r.removing = p[1] == '-';
        if (r.adding) r.life = (uint32_t)(p[2] - '0');
        p += r.adding ? 2 : r.removing;
        has[node - 1] = true;
        at[IMAGE_REPLICAS_MAX - 1 - n++] = r; /* `was` points into the front */
    }
    for (int32_t i = 0; i < n; i++) {
        struct image_replica r = at[IMAGE_REPLICAS_MAX - 1 - i];
        ck_assert_int_le(2 * n, IMAGE_REPLICAS_MAX);
        at[i] = r;
        replicas[i] = r.node;
    }
    partition.replica_count = n;
    for (int i = 0; i < NODES; i++) {
        if (!nodes[i].up) continue;
        if (has[i] && !had[i]) make_log(i);
        if (!has[i] && had[i]) drop_log(i);
        partition_unsettle_all(reactor(i));
    }
}

static void start(const char *text) {
    memset(nodes, 0, sizeof nodes);
    memset(registered, 0, sizeof registered);
    queued = 0;
    trace_set_level(TRACE_ERROR);
    w = sim_world_new(99);
    partition = (struct image_partition){.plid = GROUP, .replicas = replicas, .at = at, .lives = 9};
    topic = (struct image_topic){.name = "t", .name_len = 1, .partitions = &partition, .partition_count = 1, .id = {{9}}};
    im = (struct image){.by_name = topics, .by_id = topics, .by_folded = topics, .topic_count = 1, .nodes = registered, .node_count = NODES,
                        .edition = 1, .partition_count = 1};
    for (int i = 0; i < NODES; i++) open_node(i);
    topic_config_resolve(&topic.config, &nodes[0].b.config, NULL, 0);
    want(text);
    /* As the first record: those replicas are the first configuration. */
    run_ms(1500);
}
static void stop(void) {
    for (int i = 0; i < NODES; i++)
        if (nodes[i].up) kill_node(i);
    for (uint32_t k = 0; k < queued; k++) free(queue[k].records);
    sim_world_free(w);
}

/* ---- looking ---------------------------------------------------------------------------------------------------------- */

static int leader(void) {
    int found = -1;
    for (int i = 0; i < NODES; i++) {
        const struct partition *p = part(i);
        if (p && p->started && partition_is_led(p) && p->replica.established &&
            (found < 0 || p->replica.epoch > part(found)->replica.epoch)) found = i;
    }
    return found;
}
/* "123": who votes, ascending; learners do not count. */
static const char *voters(void) {
    static char text[NODES + 1];
    int n = 0, l = leader();
    for (int i = 0; l >= 0 && i < NODES; i++)
        for (int k = 0; k < part(l)->replica.config.voters; k++)
            if (part(l)->replica.config.members[k].node == i + 1) text[n++] = (char)('1' + i);
    text[n] = 0;
    return text;
}
static void await(const char *who, int led_by, int64_t ms) {
    int64_t end = sim_now_ns(w) + ms * MS;
    while ((strcmp(voters(), who) != 0 || leader() != led_by - 1) && sim_now_ns(w) < end) turn();
    ck_assert_msg(strcmp(voters(), who) == 0 && leader() == led_by - 1, "voters %s, led by %d", voters(), leader() + 1);
}

struct write { struct partition_produce op; bool done; };
static void written(struct partition_op *op) { CONTAINER_OF(op, struct write, op.op)->done = true; }
/* acks=all, to whoever leads, until it is taken. */
static void write_one(void) {
    struct batch_builder b;
    uint8_t *batch;
    size_t len;
    batch_builder_init(&b, CODEC_NONE, 8 << 20);
    ck_assert_int_eq(batch_builder_add(&b, 1700000000000, BYTES_NULL, (struct bytes){(const uint8_t *)"value", 5}, NULL, 0), OK);
    ck_assert_int_eq(batch_builder_finish(&b, &batch, &len), OK);
    batch_builder_free(&b);
    int16_t error = KERR_NOT_LEADER_OR_FOLLOWER;
    for (int n = 0; n < 10000 && error == KERR_NOT_LEADER_OR_FOLLOWER; n++) {
        struct write x = {0};
        int l = leader();
        if (l < 0) {
            turn();
            continue;
        }
        x.op = (struct partition_produce){
            .op = {.caller = reactor(l), .owner = reactor(l), .plid = GROUP, .done = written}, .records = {batch, (int32_t)len}, .api_version = 9,
            .acks = -1, .timeout_ms = 30000,
        };
        partition_produce(&x.op);
        while (!x.done) turn();
        error = x.op.op.error;
    }
    ck_assert_int_eq(error, KERR_NONE);
    free(batch);
}
static void write_some(int count) {
    for (int i = 0; i < count; i++) write_one();
}

/* ---- tests ---------------------------------------------------------------------------------------------------------------- */

START_TEST(a_replica_moves_and_leadership_with_it) {
    start("1 2 3");
    ck_assert_int_eq(leader(), 0);
    write_some(20);
    want("4+1 2 3 1-");
    write_some(50);
    await("234", 4, 10000);
    write_some(20);
    want("4 2 3"); /* the controller has heard of it */
    write_some(20);
    run_ms(1000);
    for (int i = 1; i < NODES; i++) ck_assert_int_eq(part(i)->replica.high_watermark, part(leader())->log->end);
    ck_assert_ptr_null(part(0));
    want("4 2 3 1+2"); /* and back, in another life */
    await("1234", 4, 10000);
    want("1 2 3 4-");
    await("123", 1, 10000);
    ck_assert_int_ge(part(0)->log->end, 110); /* a write that met the end of a leader may be there twice */
    stop();
}
END_TEST

START_TEST(a_reassignment_that_is_given_up_leaves_nobody_behind) {
    start("1 2 3");
    write_some(10);
    want("1 2 3- 4+1");
    run_ms(150);
    want("1 2 3 4-");
    await("123", 1, 10000);
    run_ms(200);
    ck_assert_int_eq(part(leader())->replica.config.count, 3);
    want("1 2 3");
    write_some(10);
    stop();
}
END_TEST

START_TEST(replicas_grow_and_shrink) {
    start("1");
    write_some(10);
    want("1 2+1 3+2");
    await("123", 1, 10000);
    write_some(10);
    want("3 1- 2-");
    await("3", 3, 10000);
    want("3");
    write_some(10);
    ck_assert_int_eq(part(2)->log->end, 30);
    ck_assert_int_eq(part(2)->replica.config.count, 1);
    stop();
}
END_TEST

START_TEST(a_disk_that_is_replaced_is_filled_again) {
    start("1 2 3");
    write_some(30);
    kill_node(2);
    sim_disk_replace(w, 2);
    open_node(2);
    make_log(2);
    for (int i = 0; i < NODES; i++) partition_unsettle_all(reactor(i));
    await("123", 1, 10000);
    run_ms(1000);
    const struct replica_config *c = &part(0)->replica.config;
    struct replica_member now = member(2);
    ck_assert(replica_config_is_voter(c, &now));
    ck_assert_int_eq(part(2)->log->end, 30);
    kill_node(0); /* it counts again */
    write_some(10);
    stop();
}
END_TEST

/* 2 still has the configuration in which 3 voted; 3 came back with an empty log and has forgotten what it acknowledged since. Together
 * they would be a majority of the three. */
START_TEST(a_replica_that_came_back_gives_no_vote_to_the_past) {
    start("1 2 3");
    write_some(5);
    kill_node(1);
    want("1 2 4+1 3-");
    await("124", 1, 10000);
    want("1 2 4");
    write_some(10);
    kill_node(0);
    kill_node(3);
    want("1 2 4 3+2"); /* it hears of nobody in its new life */
    open_node(1);
    partition_configure(reactor(1), &topic, 0);
    run_ms(5000);
    ck_assert_int_eq(leader(), -1);
    open_node(0);
    partition_configure(reactor(0), &topic, 0);
    run_ms(3000);
    ck_assert_int_ge(leader(), 0);
    ck_assert_int_ge(part(leader())->log->end, 15);
    stop();
}
END_TEST

START_TEST(leadership_comes_back_to_the_preferred_after_a_while) {
    start("1 2 3");
    write_some(5);
    kill_node(0);
    write_some(5);
    ck_assert_int_ne(leader(), 0);
    open_node(0);
    int64_t back = sim_now_ns(w);
    partition_configure(reactor(0), &topic, 0);
    await("123", 1, 10000);
    ck_assert_int_ge(sim_now_ns(w) - back, 2000 * (int64_t)MS); /* not at once */
    write_some(5);
    stop();
}
END_TEST

/* It has to be there for a while without a break. */
START_TEST(a_preferred_that_goes_again_waits_anew) {
    start("1 2 3");
    write_some(5);
    kill_node(0);
    write_some(5);
    open_node(0);
    partition_configure(reactor(0), &topic, 0);
    run_ms(1500);
    ck_assert_int_ne(leader(), 0);
    kill_node(0);
    run_ms(3000);
    open_node(0);
    int64_t back = sim_now_ns(w);
    partition_configure(reactor(0), &topic, 0);
    await("123", 1, 10000);
    ck_assert_int_ge(sim_now_ns(w) - back, 2000 * (int64_t)MS);
    stop();
}
END_TEST

START_TEST(who_drains_leads_nothing) {
    start("1 2 3");
    write_some(5);
    registered[0].drained = true;
    for (int i = 0; i < NODES; i++) partition_unsettle_all(reactor(i));
    await("123", 2, 1000);
    run_ms(5000);
    ck_assert_int_eq(leader(), 1); /* and it stays there */
    write_some(5);
    for (int i = 0; i < 36; i++) { /* some at a time, and as often as it takes */
        for (int k = 0; k < 3; k++) registered[k].drained = k != i % 3;
        for (int k = 0; k < NODES; k++) partition_unsettle_all(reactor(k));
        await("123", i % 3 + 1, 2000);
    }
    write_some(5);
    stop();
}
END_TEST

int main(void) {
    Suite *s = suite_create("reconcile");
    TCase *c = tcase_create("reconcile");
    tcase_add_test(c, a_replica_moves_and_leadership_with_it);
    tcase_add_test(c, a_reassignment_that_is_given_up_leaves_nobody_behind);
    tcase_add_test(c, replicas_grow_and_shrink);
    tcase_add_test(c, a_disk_that_is_replaced_is_filled_again);
    tcase_add_test(c, a_replica_that_came_back_gives_no_vote_to_the_past);
    tcase_add_test(c, leadership_comes_back_to_the_preferred_after_a_while);
    tcase_add_test(c, a_preferred_that_goes_again_waits_anew);
    tcase_add_test(c, who_drains_leads_nothing);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
