/* Three brokers in one process share a partition: real logs over the simulated disks, real cores, and messages that the test carries,
 * loses, doubles and delays. Nothing listens and no metadata is there: a partition is made by hand on each. */
#include <check.h>
#include <errno.h>
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
#include "tests/sim/prng.h"

enum { NODES = 3, GROUP = 77, MESSAGES_MAX = 4096, MS = 1000000, SLOW_MS = 400 };

/* ---- the world --------------------------------------------------------------------------------- */

struct message { int64_t due_ns; int to; uint64_t group; struct replica_message m; uint8_t *records; uint32_t len; };
struct node { struct broker b; struct io *io; bool up; };

static struct sim_world *w;
static struct node nodes[NODES];
static struct message queue[MESSAGES_MAX];
static uint32_t queued, sent_appends, sent_bytes;
static bool cut[NODES][NODES];           /* from, to */
static int slow = -1;                    /* its disk takes SLOW_MS for whatever it is asked */
static uint32_t lose_ppm, double_ppm;
static int64_t delay_ns_max;
static struct prng dice;
static struct image_topic topic;
static struct image_partition topic_partition;

static struct reactor *reactor(int i) { return &nodes[i].b.reactors[0]; }
static struct partition *part(int i) { return nodes[i].up ? partition_find(reactor(i), GROUP) : NULL; }
static int index_of(int32_t node) { return node - 1; }

static void enqueue(int to, uint64_t group, const struct replica_message *m, const struct slice *slices, uint32_t count) {
    ck_assert_uint_lt(queued, MESSAGES_MAX);
    struct message *q = &queue[queued++];
    *q = (struct message){.due_ns = sim_now_ns(w) + 50000 + (int64_t)(delay_ns_max ? prng_next(&dice) % (uint64_t)delay_ns_max : 0),
                          .to = to, .group = group, .m = *m};
    for (uint32_t i = 0; i < count; i++) q->len += slices[i].len;
    q->records = q->len ? malloc(q->len) : NULL;
    for (uint32_t i = 0, at = 0; i < count; at += slices[i++].len) memcpy(q->records + at, slice_data(&slices[i]), slices[i].len);
}

static bool send_fake(struct reactor *r, uint64_t group, const struct replica_message *m, struct slice *slices, uint32_t count) {
    int from = index_of(r->broker->config.node_id), to = index_of(m->to.node);
    ck_assert(replica_message_is_valid(m));
    sent_appends += m->kind == REPLICA_APPEND;
    for (uint32_t i = 0; i < count; i++) sent_bytes += slices[i].len;
    bool lost = cut[from][to] || !nodes[to].up || prng_next(&dice) % 1000000 < lose_ppm;
    if (!lost) enqueue(to, group, m, slices, count);
    if (!lost && prng_next(&dice) % 1000000 < double_ppm) enqueue(to, group, m, slices, count);
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
    n->b.reactors[0].partitions->send = send_fake;
    n->up = true;
}

static void close_node(int i) {
    nodes[i].up = false;
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

static void kill_node(int i, enum sim_crash_policy policy) {
    sim_crash(w, (unsigned)i, policy);
    close_node(i);
}

static void deliver_due(void) {
    for (uint32_t k = 0; k < queued;) {
        if (queue[k].due_ns > sim_now_ns(w)) {
            k++;
            continue;
        }
        struct message q = queue[k];
        queue[k] = queue[--queued];
        struct bytes records = {q.records, (int32_t)q.len};
        if (nodes[q.to].up) partition_receive(reactor(q.to), q.group, &q.m, records);
        free(q.records);
        k = 0;
    }
}

static void check_agreement(void);

static void turn_node(int i) {
    struct sim_tuning *tuning = sim_tuning(w), usual = *tuning;
    if (i == slow) tuning->disk_ns_min = tuning->disk_ns_max = SLOW_MS * (int64_t)MS;
    reactor_turn(reactor(i), 0);
    *tuning = usual;
}

static void turn(void) {
    int64_t next = sim_now_ns(w) + 20 * MS;
    for (int i = 0; i < NODES; i++)
        if (nodes[i].up) turn_node(i);
    for (int i = 0; i < NODES; i++)
        if (nodes[i].up) next = MIN(next, reactor(i)->busy ? sim_now_ns(w) : timers_next(&reactor(i)->timers));
    for (uint32_t k = 0; k < queued; k++) next = MIN(next, queue[k].due_ns);
    sim_advance(w, MAX(next, sim_now_ns(w) + 1000));
    deliver_due();
    check_agreement();
}

static void run_ms(int64_t ms) {
    int64_t end = sim_now_ns(w) + ms * MS;
    while (sim_now_ns(w) < end) turn();
}

/* ---- a partition on all ----------------------------------------------------------------------------- */

static void created(void *ctx, enum err err) {
    ck_assert_int_eq(err, OK);
    *(bool *)ctx = true;
}

static struct replica_member member(int i) { return (struct replica_member){i + 1, *log_store_incarnation(nodes[i].b.store)}; }

static void create_on(int i, const struct replica_config *config, uint32_t life) {
    bool done = false;
    struct partition_spec spec = {.group = GROUP, .life = life, .config = config, .campaign_soon = i == 0};
    ck_assert(partition_create_replica(reactor(i), &topic, 0, &spec, created, &done));
    for (int n = 0; n < 1000 && !done; n++) turn();
    ck_assert(done);
}

static struct replica_config all_voters(int count) {
    struct replica_config c = {.id = {0, 1}, .voters = (uint8_t)count, .count = (uint8_t)count};
    for (int i = 0; i < count; i++) c.members[i] = member(i);
    return c;
}

static int leader(void) {
    int found = -1;
    for (int i = 0; i < NODES; i++) {
        const struct partition *p = part(i);
        if (p && p->started && partition_is_led(p) && p->replica.established &&
            (found < 0 || p->replica.epoch > part(found)->replica.epoch)) found = i;
    }
    return found;
}

static int await_leader(int64_t ms) {
    int64_t end = sim_now_ns(w) + ms * MS;
    while (leader() < 0 && sim_now_ns(w) < end) turn();
    ck_assert_msg(leader() >= 0, "no leader within %lld ms", (long long)ms);
    return leader();
}

/* Whatever two replicas both take for committed is the same; logs as a whole are compared at rest. */
static void check_agreement(void) {
    for (int i = 0; i < NODES; i++) {
        const struct partition *p = part(i);
        if (!p || !p->started) continue;
        ck_assert_int_le(p->replica.high_watermark, p->log->end);
        ck_assert_int_le(p->log->start, p->replica.high_watermark);
    }
}

static void start(int count) {
    memset(nodes, 0, sizeof nodes);
    memset(cut, 0, sizeof cut);
    queued = sent_appends = sent_bytes = lose_ppm = double_ppm = 0;
    delay_ns_max = 200000;
    slow = -1;
    trace_set_level(TRACE_ERROR);
    dice = (struct prng){4711};
    w = sim_world_new(99);
    sim_tuning(w)->disk_ns_max = 300000;
    topic = (struct image_topic){.name = "t", .name_len = 1, .partitions = &topic_partition, .partition_count = 1};
    topic.id.b[0] = 9;
    for (int i = 0; i < NODES; i++) open_node(i);
    topic_config_resolve(&topic.config, &nodes[0].b.config, NULL, 0);
    topic_partition.plid = GROUP;
    struct replica_config c = all_voters(count);
    for (int i = 0; i < count; i++) create_on(i, &c, 0);
}

static void stop(void) {
    for (int i = 0; i < NODES; i++)
        if (nodes[i].up) kill_node(i, SIM_LOSE_NONE);
    for (uint32_t k = 0; k < queued; k++) free(queue[k].records);
    sim_world_free(w);
}

/* ---- clients ------------------------------------------------------------------------------------------ */

struct write { struct partition_produce op; bool done; uint8_t *batch; int node; };
static int64_t next_sequence;

static void written(struct partition_op *op) { CONTAINER_OF(op, struct write, op.op)->done = true; }

static uint8_t *make_records(int32_t count, int32_t bytes, int64_t producer, int32_t sequence, size_t *len) {
    struct batch_builder b;
    uint8_t *out, *value = malloc((size_t)bytes + 8);
    batch_builder_init(&b, CODEC_NONE, 8 << 20);
    b.producer_id = producer;
    b.producer_epoch = producer < 0 ? -1 : 0;
    b.base_sequence = producer < 0 ? -1 : sequence;
    for (int32_t i = 0; i < count; i++) {
        memset(value, 'a' + i % 26, (size_t)bytes + 8);
        snprintf((char *)value, 8, "%07lld", (long long)next_sequence++);
        ck_assert_int_eq(batch_builder_add(&b, 1700000000000, BYTES_NULL, (struct bytes){value, bytes + 8}, NULL, 0), OK);
    }
    ck_assert_int_eq(batch_builder_finish(&b, &out, len), OK);
    batch_builder_free(&b);
    free(value);
    return out;
}

static void write_from(struct write *x, int node, int16_t acks, int32_t timeout_ms, uint8_t *batch, size_t len) {
    *x = (struct write){.batch = batch, .node = node, .op = {
        .op = {.caller = reactor(node), .owner = reactor(node), .plid = GROUP, .done = written},
        .records = {batch, (int32_t)len}, .api_version = 9, .acks = acks, .timeout_ms = timeout_ms,
    }};
    partition_produce(&x->op);
}

static void write_start(struct write *x, int node, int16_t acks, int32_t count, int32_t bytes) {
    size_t len;
    uint8_t *batch = make_records(count, bytes, -1, -1, &len);
    write_from(x, node, acks, 30000, batch, len);
}

static int16_t write_end(struct write *x, int64_t ms) {
    int64_t end = sim_now_ns(w) + ms * MS;
    while (!x->done && sim_now_ns(w) < end) turn();
    ck_assert_msg(x->done, "no answer");
    free(x->batch);
    return x->op.op.error;
}

static int16_t write_to(int node, int16_t acks, int32_t count) {
    struct write x;
    write_start(&x, node, acks, count, 100);
    return write_end(&x, 60000);
}

/* The bytes of a replica's log, from its start. */
static void read_is_done(struct log_read *r) { *(bool *)r->owner = true; }

static uint8_t *read_all(int i, size_t *len) {
    struct partition *p = part(i);
    uint8_t *out = NULL;
    *len = 0;
    for (int64_t at = partition_begin(p), end = p->log->end; at < end;) {
        bool done = false;
        struct log_read r = {.offset = at, .max_offset = end, .max_bytes = 1 << 20, .min_one = true, .done = read_is_done, .owner = &done};
        if (log_read(p->log, &r)) done = true;
        while (!done) turn();
        ck_assert_int_eq(r.err, OK);
        out = realloc(out, *len + r.bytes);
        for (uint32_t k = 0; k < r.slice_count; k++) {
            memcpy(out + *len, slice_data(&r.slices[k]), r.slices[k].len);
            *len += r.slices[k].len;
        }
        at = r.next_offset;
        log_read_release(&r);
    }
    return out;
}

static void logs_are_equal(int a, int b) {
    size_t x_len, y_len;
    ck_assert_int_eq(part(a)->log->end, part(b)->log->end);
    ck_assert_int_eq(partition_begin(part(a)), partition_begin(part(b)));
    ck_assert_uint_eq(part(a)->log->epochs.count, part(b)->log->epochs.count);
    uint8_t *x = read_all(a, &x_len), *y = read_all(b, &y_len);
    ck_assert_uint_eq(x_len, y_len);
    ck_assert_int_eq(x_len ? memcmp(x, y, x_len) : 0, 0);
    free(x);
    free(y);
}

static void all_equal(void) {
    run_ms(1500);
    int l = await_leader(3000);
    for (int i = 0; i < NODES; i++)
        if (i != l && part(i)) {
            logs_are_equal(l, i);
            ck_assert_int_eq(part(i)->replica.high_watermark, part(l)->replica.high_watermark);
        }
}

static void isolate(int i, bool is) {
    for (int k = 0; k < NODES; k++) cut[i][k] = cut[k][i] = is && k != i;
}

/* ---- tests --------------------------------------------------------------------------------------------- */

START_TEST(the_first_choice_leads_and_all_follow) {
    start(3);
    ck_assert_int_eq(await_leader(300), 0); /* campaign_soon */
    ck_assert_int_eq(write_to(0, -1, 10), KERR_NONE);
    ck_assert_int_eq(write_to(0, 1, 5), KERR_NONE);
    ck_assert_int_eq(write_to(1, -1, 1), KERR_NOT_LEADER_OR_FOLLOWER);
    all_equal();
    ck_assert_int_eq(part(0)->replica.high_watermark, 15);
    ck_assert_uint_eq(partition_in_sync_voters(part(0)), 3);
    const struct leader_info *known = leaders_get(reactor(0), GROUP);
    ck_assert(known && known->leader == 1 && known->established && known->in_sync == 7 && known->count == 3);
    known = leaders_get(reactor(2), GROUP);
    ck_assert(known && known->leader == 1);
    stop();
}
END_TEST

START_TEST(many_writes_of_a_turn_are_few_messages) {
    start(3);
    await_leader(300);
    run_ms(50);
    static struct write x[200];
    uint32_t before = sent_appends;
    for (int i = 0; i < 200; i++) write_start(&x[i], 0, -1, 1, 50);
    for (int i = 0; i < 200; i++) ck_assert_int_eq(write_end(&x[i], 1000), KERR_NONE);
    ck_assert_uint_lt(sent_appends - before, 40);
    all_equal();
    stop();
}
END_TEST

START_TEST(a_leader_that_dies_is_replaced_and_loses_nothing) {
    start(3);
    int first = await_leader(300);
    for (int i = 0; i < 20; i++) ck_assert_int_eq(write_to(first, -1, 3), KERR_NONE);
    kill_node(first, SIM_LOSE_ALL);
    int second = await_leader(3000);
    ck_assert_int_ne(first, second);
    ck_assert_int_ge(part(second)->replica.high_watermark, 60);
    for (int i = 0; i < 20; i++) ck_assert_int_eq(write_to(second, -1, 3), KERR_NONE);
    open_node(first);
    all_equal();
    ck_assert_int_eq(part(first)->log->end, 120);
    stop();
}
END_TEST

START_TEST(a_divergent_tail_is_cut_to_the_byte) {
    start(3);
    int old = await_leader(300);
    ck_assert_int_eq(write_to(old, -1, 10), KERR_NONE);
    run_ms(300);
    isolate(old, true);
    static struct write lost[30];
    for (int i = 0; i < 30; i++) write_start(&lost[i], old, i % 2 ? -1 : 1, 1 + i % 3, 200);
    run_ms(2500);
    for (int i = 0; i < 30; i++) {
        ck_assert(lost[i].done);
        int16_t error = lost[i].op.op.error;
        ck_assert(i % 2 ? error == KERR_NOT_LEADER_OR_FOLLOWER : error == KERR_NONE); /* acks=1: lost, as it may be */
        free(lost[i].batch);
    }
    ck_assert(!partition_is_led(part(old)));
    int now = leader();
    ck_assert(now >= 0 && now != old);
    for (int i = 0; i < 10; i++) ck_assert_int_eq(write_to(now, -1, 2), KERR_NONE);
    ck_assert_int_gt(part(old)->log->end, part(now)->log->end);
    isolate(old, false);
    all_equal();
    ck_assert_int_eq(part(old)->log->end, 30);
    stop();
}
END_TEST

START_TEST(what_is_durable_survives_the_death_of_all) {
    start(3);
    int l = await_leader(300);
    for (int i = 0; i < 30; i++) ck_assert_int_eq(write_to(l, -1, 2), KERR_NONE);
    int32_t epoch = part(l)->replica.epoch;
    for (int i = 0; i < NODES; i++) kill_node(i, SIM_LOSE_ALL);
    for (int i = 0; i < NODES; i++) open_node(i);
    l = await_leader(5000);
    ck_assert_int_gt(part(l)->replica.epoch, epoch);
    ck_assert_int_ge(part(l)->replica.high_watermark, 60);
    ck_assert_int_eq(write_to(l, -1, 1), KERR_NONE);
    all_equal();
    ck_assert_int_eq(part(l)->log->end, 61);
    stop();
}
END_TEST

static int32_t told_epoch(void) { return partition_leader(reactor(0), part(0), GROUP).epoch; }

/* Clients believe only newer epochs: one that a crash took back they would hold against the broker until somebody writes again. */
START_TEST(an_epoch_of_one_alone_is_told_when_it_is_durable) {
    start(1);
    ck_assert_int_eq(write_to(await_leader(300), -1, 1), KERR_NONE);
    kill_node(0, SIM_LOSE_ALL);
    open_node(0);
    int32_t before = told_epoch();
    struct write lost, kept;
    write_start(&lost, await_leader(300), -1, 1, 100);
    ck_assert_int_gt(part(0)->replica.epoch, before);
    ck_assert_int_eq(told_epoch(), before);
    ck_assert_int_eq(partition_check_epoch(part(0), before), KERR_NONE);
    kill_node(0, SIM_LOSE_ALL);
    free(lost.batch);
    open_node(0);
    await_leader(300);
    ck_assert_int_eq(told_epoch(), before);
    write_start(&kept, 0, -1, 1, 100);
    ck_assert_int_eq(told_epoch(), before);
    ck_assert_int_eq(write_end(&kept, 60000), KERR_NONE);
    ck_assert_int_gt(told_epoch(), before);
    ck_assert_int_eq(leaders_get(reactor(0), GROUP)->epoch, part(0)->replica.epoch);
    ck_assert_int_eq(partition_check_epoch(part(0), before), KERR_FENCED_LEADER_EPOCH);
    stop();
}
END_TEST

START_TEST(min_insync_replicas_before_and_after) {
    topic.config.min_insync_replicas = 0;
    start(3);
    int l = await_leader(300);
    ck_assert_int_eq(write_to(l, -1, 1), KERR_NONE);
    run_ms(300);
    for (int i = 0; i < NODES; i++) part(i)->config.min_insync_replicas = 3;
    struct write x;
    size_t len;
    int gone = (l + 1) % NODES;
    isolate(gone, true);
    uint8_t *batch = make_records(1, 10, -1, -1, &len);
    write_from(&x, l, -1, 900, batch, len); /* it is not known yet that one is gone */
    ck_assert_int_eq(write_end(&x, 5000), KERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND);
    ck_assert_int_eq(part(l)->replica.high_watermark, 2); /* committed all the same */
    ck_assert_int_eq(write_to(l, -1, 1), KERR_NOT_ENOUGH_REPLICAS);
    ck_assert_int_eq(write_to(l, 1, 1), KERR_NONE);
    isolate(gone, false);
    run_ms(500);
    ck_assert_int_eq(write_to(l, -1, 1), KERR_NONE);
    for (int i = 0; i < NODES; i++) part(i)->config.min_insync_replicas = 4;
    ck_assert_int_eq(write_to(l, -1, 1), KERR_NOT_ENOUGH_REPLICAS);
    stop();
}
END_TEST

START_TEST(a_duplicate_waits_for_the_original) {
    start(3);
    int l = await_leader(300);
    size_t len;
    uint8_t *batch = make_records(2, 10, 5, 0, &len), *again = malloc(len);
    memcpy(again, batch, len);
    run_ms(200);
    for (int i = 0; i < NODES; i++)
        if (i != l) isolate(i, true);
    struct write x, y;
    write_from(&x, l, -1, 30000, batch, len);
    run_ms(50);
    write_from(&y, l, -1, 30000, again, len);
    run_ms(50);
    ck_assert(!x.done && !y.done);
    for (int i = 0; i < NODES; i++) isolate(i, false);
    ck_assert_int_eq(write_end(&x, 2000), KERR_NONE);
    ck_assert_int_eq(write_end(&y, 2000), KERR_NONE);
    ck_assert_int_eq(x.op.base_offset, y.op.base_offset);
    ck_assert_int_eq(part(l)->log->end, 2);
    all_equal();
    /* And a retry at the next leader is one, too. */
    kill_node(l, SIM_LOSE_ALL);
    int next = await_leader(3000);
    next_sequence = 0;
    again = make_records(2, 10, 5, 0, &len);
    write_from(&x, next, -1, 30000, again, len);
    ck_assert_int_eq(write_end(&x, 2000), KERR_NONE);
    ck_assert_int_eq(x.op.base_offset, 0);
    ck_assert_int_eq(part(next)->log->end, 2);
    stop();
}
END_TEST

/* DeleteRecords */
struct deletion { struct partition_delete_records op; bool done; };
static void deleted(struct partition_op *op) { CONTAINER_OF(op, struct deletion, op.op)->done = true; }
static void delete_start(struct deletion *d, int node, int64_t offset) {
    *d = (struct deletion){.op = {.op = {.caller = reactor(node), .owner = reactor(node), .plid = GROUP, .done = deleted}, .offset = offset}};
    partition_delete_records(&d->op);
}
static int16_t delete_below(int node, int64_t offset) {
    struct deletion d;
    delete_start(&d, node, offset);
    for (int i = 0; i < 20000 && !d.done; i++) turn();
    ck_assert(d.done);
    if (!d.op.op.error) ck_assert_int_eq(d.op.low_watermark, offset);
    return d.op.op.error;
}

START_TEST(deleted_records_stay_deleted) {
    start(3);
    int l = await_leader(300);
    for (int i = 0; i < 10; i++) ck_assert_int_eq(write_to(l, -1, 10), KERR_NONE);
    ck_assert_int_eq(delete_below((l + 1) % NODES, 10), KERR_NOT_LEADER_OR_FOLLOWER);
    ck_assert_int_eq(delete_below(l, 1000), KERR_OFFSET_OUT_OF_RANGE);
    ck_assert_int_eq(delete_below(l, 35), KERR_NONE);
    uint32_t have = 0;
    for (int i = 0; i < NODES; i++) have += partition_begin(part(i)) == 35;
    ck_assert_uint_ge(have, 2);
    kill_node(l, SIM_LOSE_ALL);
    int next = await_leader(3000);
    ck_assert_int_eq(partition_begin(part(next)), 35);
    open_node(l);
    all_equal();
    ck_assert_int_eq(partition_begin(part(l)), 35);
    stop();
}
END_TEST

static enum err reconfigure(int l, const struct replica_config *to) {
    for (int i = 0; i < 400; i++) {
        enum err err = partition_reconfigure(reactor(l), GROUP, to);
        if (err != ERR_AGAIN) return err;
        run_ms(10);
    }
    return ERR_AGAIN;
}

/* Whatever is under way to `i` arrives so much later. */
static void hold_up(int i, int64_t ms) {
    for (uint32_t k = 0; k < queued; k++)
        if (queue[k].to == i) queue[k].due_ns = sim_now_ns(w) + ms * MS;
}

/* A start that one copy alone has is forgotten with it. */
START_TEST(a_deletion_is_told_when_a_majority_has_it) {
    struct deletion d;
    struct write x;
    start(3);
    int l = await_leader(300);
    ck_assert_int_eq(write_to(l, -1, 20), KERR_NONE);
    run_ms(200);
    write_start(&x, l, -1, 1, 10);
    for (int i = 0; i < 1000 && (part((l + 1) % NODES)->log->durable_end < 21 || part((l + 2) % NODES)->log->durable_end < 21); i++) turn();
    hold_up(l, 200); /* acknowledgements from before the deletion */
    ck_assert(!x.done);
    for (int i = 0; i < NODES; i++) cut[l][i] = true;
    delete_start(&d, l, 10);
    run_ms(100);
    ck_assert_int_eq(partition_begin(part(l)), 10);
    ck_assert_int_eq(write_end(&x, 150), KERR_NONE);
    run_ms(50);
    ck_assert(partition_is_led(part(l)) && !d.done);
    for (int i = 0; i < NODES; i++) cut[l][i] = false;
    run_ms(300);
    ck_assert(d.done);
    ck_assert_int_eq(d.op.op.error, KERR_NONE);
    ck_assert_int_eq(d.op.low_watermark, 10);
    /* The others have never heard of it, and go on without whoever has. */
    isolate(l, true);
    delete_start(&d, l, 15);
    run_ms(2500);
    ck_assert(d.done);
    ck_assert_int_eq(d.op.op.error, KERR_NOT_LEADER_OR_FOLLOWER);
    int next = leader();
    ck_assert(next >= 0 && next != l);
    ck_assert_int_eq(partition_begin(part(next)), 10);
    stop();
}
END_TEST

/* The leader's own copy counts when its disk has it: here the slow one of two. */
START_TEST(a_deletion_waits_for_the_leaders_disk) {
    struct deletion d;
    start(3);
    int l = await_leader(300), near = (l + 1) % NODES;
    ck_assert_int_eq(write_to(l, -1, 20), KERR_NONE);
    run_ms(200);
    isolate((l + 2) % NODES, true);
    slow = l;
    delete_start(&d, l, 10);
    run_ms(300);
    ck_assert_int_eq(partition_begin(part(near)), 10);
    ck_assert(partition_is_led(part(l)) && !d.done);
    run_ms(200);
    ck_assert(d.done && d.op.op.error == KERR_NONE);
    stop();
}
END_TEST

/* What the leader has been told of the start at `i`. */
static int64_t acknowledged_start(int l, int i) {
    const struct replica *core = &part(l)->replica;
    for (uint32_t k = 0; k < core->peer_count; k++)
        if (index_of(core->peers[k].member.node) == i) return core->peers[k].start;
    return -1;
}

/* A follower whose disk is behind is told of a start beyond what it has durably: it moves when it has that, and is acknowledged when it
 * has it. Whoever acknowledged it still has it after a crash. */
START_TEST(a_start_is_acknowledged_when_it_is_durable) {
    struct deletion d;
    start(3);
    int l = await_leader(300), behind = (l + 1) % NODES;
    ck_assert_int_eq(write_to(l, -1, 5), KERR_NONE);
    run_ms(200);
    slow = behind;
    ck_assert_int_eq(write_to(l, -1, 20), KERR_NONE);
    run_ms(20);
    delete_start(&d, l, 10);
    run_ms(50);
    ck_assert(d.done && d.op.op.error == KERR_NONE);
    ck_assert_int_eq(part(behind)->start_due, 10);
    ck_assert_int_lt(part(behind)->log->durable_end, 10);
    for (int i = 0; i < 10000 && acknowledged_start(l, behind) < 10; i++) turn();
    ck_assert_int_ge(acknowledged_start(l, behind), 10);
    slow = -1;
    kill_node(behind, SIM_LOSE_ALL);
    open_node(behind);
    ck_assert_int_eq(part(behind)->log->start, 10);
    all_equal();
    stop();
}
END_TEST

/* The same at a leader, whose own copy counts: two moves wait for what is committed and is not durable here yet. */
START_TEST(two_starts_of_a_leader_whose_disk_is_behind) {
    struct deletion d[2];
    start(3);
    int l = await_leader(300);
    ck_assert_int_eq(write_to(l, -1, 5), KERR_NONE);
    run_ms(200);
    slow = l;
    ck_assert_int_eq(write_to(l, -1, 1), KERR_NONE); /* its journal is busy with that: all else goes with the next write */
    ck_assert_int_eq(write_to(l, -1, 20), KERR_NONE);
    isolate((l + 2) % NODES, true);
    delete_start(&d[0], l, 10);
    delete_start(&d[1], l, 15);
    ck_assert_int_eq(part(l)->start_due, 15);
    for (int i = 0; i < 10000 && !d[0].done; i++) turn();
    ck_assert(d[0].done && d[0].op.op.error == KERR_NONE);
    slow = -1;
    kill_node(l, SIM_LOSE_ALL);
    open_node(l);
    ck_assert_int_ge(part(l)->log->start, 10);
    isolate((l + 2) % NODES, false);
    all_equal();
    stop();
}
END_TEST

/* Whose disk has forgotten what it acknowledged may forget this, too. */
START_TEST(a_deletion_is_not_told_by_who_went_back) {
    struct deletion d;
    start(3);
    int l = await_leader(300), far = (l + 1) % NODES;
    ck_assert_int_eq(write_to(l, -1, 20), KERR_NONE);
    run_ms(200);
    isolate(far, true);
    struct replica *core = &part(l)->replica;
    for (uint32_t i = 0; i < core->peer_count; i++) core->peers[i].went_back = index_of(core->peers[i].member.node) != far;
    delete_start(&d, l, 10);
    run_ms(300);
    ck_assert_int_eq(partition_begin(part((l + 2) % NODES)), 10);
    ck_assert(partition_is_led(part(l)) && !d.done);
    isolate(far, false);
    run_ms(300);
    ck_assert(d.done && d.op.op.error == KERR_NONE);
    stop();
}
END_TEST

/* Nor does who only learns count. */
START_TEST(a_deletion_is_told_by_voters) {
    struct deletion d;
    start(2);
    int l = await_leader(300), voter = 1 - l;
    create_on(2, NULL, 0);
    struct replica_config to = part(l)->replica.config;
    to.members[to.count++] = member(2);
    ck_assert_int_eq(reconfigure(l, &to), OK);
    ck_assert_int_eq(write_to(l, -1, 20), KERR_NONE);
    run_ms(300);
    isolate(voter, true);
    delete_start(&d, l, 10);
    run_ms(300);
    ck_assert_int_eq(partition_begin(part(2)), 10);
    ck_assert(partition_is_led(part(l)) && !d.done);
    isolate(voter, false);
    run_ms(300);
    ck_assert(d.done && d.op.op.error == KERR_NONE);
    stop();
}
END_TEST

/* One that waits for a helper is in the queue as long. If it stayed there for the next time that this broker leads, its client, which asks
 * the next leader meanwhile, would have written it twice. */
START_TEST(a_write_that_comes_back_from_a_helper_finds_another_leader) {
    start(3);
    int l = await_leader(300);
    run_ms(200);
    struct sim_tuning *tuning = sim_tuning(w), usual = *tuning;
    struct write x;
    part(l)->config.compression = 1;
    tuning->disk_ns_min = tuning->disk_ns_max = 1000 * (int64_t)MS;
    write_start(&x, l, -1, 10, 5000); /* more than the reactor looks through itself */
    *tuning = usual;
    ck_assert_uint_eq(part(l)->works, 1);
    struct replica_member heir = member((l + 1) % NODES);
    ck_assert_int_eq(partition_transfer(reactor(l), GROUP, &heir), OK);
    run_ms(500);
    ck_assert(!partition_is_led(part(l)) && part(l)->works == 1 && !x.done);
    ck_assert_int_eq(write_end(&x, 1000), KERR_NOT_LEADER_OR_FOLLOWER);
    ck_assert_int_eq(part(l)->log->end, 0);
    stop();
}
END_TEST

struct latest { struct partition_offset op; bool done; };
static void latest_told(struct partition_op *op) { CONTAINER_OF(op, struct latest, op.op)->done = true; }
static void ask_latest(struct latest *x, int node) {
    *x = (struct latest){.op = {.op = {.caller = reactor(node), .owner = reactor(node), .plid = GROUP, .done = latest_told},
                                .timestamp = -1, .current_leader_epoch = -1}};
    partition_offset(&x->op);
}

static void await_latest(struct latest *x, int64_t ms) {
    for (int64_t end = sim_now_ns(w) + ms * MS; !x->done && sim_now_ns(w) < end;) turn();
    ck_assert(x->done);
}

START_TEST(the_latest_offset_is_told_by_who_certainly_leads) {
    struct latest many[20], x;
    start(3);
    int l = await_leader(300);
    ck_assert_int_eq(write_to(l, -1, 10), KERR_NONE);
    run_ms(5);
    uint32_t before = sent_appends;
    for (int i = 0; i < 20; i++) ask_latest(&many[i], l);
    for (int i = 0; i < 20; i++) {
        await_latest(&many[i], 20);
        ck_assert_int_eq(many[i].op.op.error, KERR_NONE);
        ck_assert_int_eq(many[i].op.offset, 10);
        ck_assert_int_eq(many[i].op.found_epoch, part(l)->replica.epoch);
    }
    ck_assert_uint_le(sent_appends - before, 6); /* two rounds for all of them */
    ask_latest(&x, (l + 1) % NODES);
    await_latest(&x, 20);
    ck_assert_int_eq(x.op.op.error, KERR_NOT_LEADER_OR_FOLLOWER);
    /* Nobody says that it leads: it does not know what others acknowledge meanwhile. */
    isolate(l, true);
    ask_latest(&x, l);
    run_ms(100);
    ck_assert(partition_is_led(part(l)));
    ck_assert(!x.done);
    await_latest(&x, 2000);
    ck_assert_int_eq(x.op.op.error, KERR_NOT_LEADER_OR_FOLLOWER);
    /* The path is back before it gave up. */
    isolate(l, false);
    run_ms(1500);
    l = await_leader(3000);
    isolate(l, true);
    ask_latest(&x, l);
    run_ms(100);
    isolate(l, false);
    await_latest(&x, 1000);
    ck_assert_int_eq(x.op.op.error, KERR_NONE);
    ck_assert_int_eq(x.op.offset, 10);
    isolate(l, true);
    ask_latest(&x, l);
    kill_node(l, SIM_LOSE_ALL); /* answered, or dead with the broker */
    stop();
}
END_TEST

START_TEST(who_is_below_the_start_begins_anew_with_producers) {
    start(3);
    int l = await_leader(300), behind = (l + 1) % NODES;
    run_ms(200);
    isolate(behind, true);
    size_t len;
    struct write x;
    for (int i = 0; i < 6; i++) {
        uint8_t *batch = make_records(10, 100, 5, 10 * i, &len);
        write_from(&x, l, -1, 30000, batch, len);
        ck_assert_int_eq(write_end(&x, 3000), KERR_NONE);
    }
    ck_assert_int_eq(delete_below(l, 35), KERR_NONE); /* in the middle of a batch */
    isolate(behind, false);
    all_equal();
    ck_assert_int_eq(partition_begin(part(behind)), 35);
    ck_assert_int_eq(part(behind)->log->start, 35);
    ck_assert_int_eq(part(behind)->log->end, 60);
    const struct producer *known = producers_find(&part(behind)->log->producers, 5), *own = producers_find(&part(l)->log->producers, 5);
    ck_assert(known && own);
    ck_assert_int_eq(known->window[known->count - 1].last_sequence, 59);
    ck_assert_int_eq(known->count, own->count);
    kill_node(behind, SIM_LOSE_ALL);
    open_node(behind);
    all_equal();
    ck_assert_int_eq(partition_begin(part(behind)), 35);
    /* At the very end of the log: nothing but producers is left. */
    isolate(behind, true);
    uint8_t *batch = make_records(1, 100, 5, 60, &len);
    write_from(&x, l, -1, 30000, batch, len);
    ck_assert_int_eq(write_end(&x, 3000), KERR_NONE);
    ck_assert_int_eq(delete_below(l, 61), KERR_NONE);
    isolate(behind, false);
    all_equal();
    ck_assert_int_eq(part(behind)->log->end, 61);
    known = producers_find(&part(behind)->log->producers, 5);
    ck_assert(known && known->window[known->count - 1].last_sequence == 60);
    stop();
}
END_TEST

/* ElectLeaders */
struct handover { struct partition_handover op; bool done; };
static void handed_over(struct partition_op *op) { CONTAINER_OF(op, struct handover, op.op)->done = true; }
static void hand_over(struct handover *x, int node, int32_t to) {
    *x = (struct handover){.op = {.op = {.caller = reactor(node), .owner = reactor(node), .plid = GROUP, .done = handed_over}, .node = to}};
    partition_handover(&x->op);
}

START_TEST(an_election_is_answered_when_it_is_over) {
    struct handover x;
    start(3);
    int l = await_leader(300), heir = (l + 1) % NODES, third = (l + 2) % NODES;
    ck_assert_int_eq(write_to(l, -1, 1), KERR_NONE);
    run_ms(300);
    static const struct { int at, to; int16_t error; } refused[] = {
        {0, 0, KERR_ELECTION_NOT_NEEDED}, {0, 8, KERR_ELIGIBLE_LEADERS_NOT_AVAILABLE}, {1, 1, KERR_NOT_LEADER_OR_FOLLOWER},
    };
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        hand_over(&x, (l + refused[i].at) % NODES, refused[i].to < NODES ? (l + refused[i].to) % NODES + 1 : refused[i].to);
        run_ms(1);
        ck_assert(x.done);
        ck_assert_int_eq(x.op.op.error, refused[i].error);
    }
    isolate(third, true);
    run_ms(1500);
    hand_over(&x, l, third + 1); /* it is not there: the leader goes on */
    run_ms(1);
    ck_assert(x.done);
    ck_assert_int_eq(x.op.op.error, KERR_ELIGIBLE_LEADERS_NOT_AVAILABLE);
    ck_assert_int_eq(write_to(l, -1, 1), KERR_NONE);
    hand_over(&x, l, heir + 1);
    run_ms(200);
    ck_assert(x.done);
    ck_assert_int_eq(x.op.op.error, KERR_NONE);
    ck_assert_int_eq(leader(), heir);
    stop();
}
END_TEST

/* Whoever is to lead next must have everything, so nothing more is taken; when it does not come to lead the leader goes on, with what has
 * come meanwhile. */
START_TEST(writes_wait_for_a_handover_that_fails) {
    struct handover x;
    struct write y;
    start(3);
    int l = await_leader(300), heir = (l + 1) % NODES;
    ck_assert_int_eq(write_to(l, -1, 1), KERR_NONE);
    run_ms(300);
    isolate(heir, true);
    hand_over(&x, l, heir + 1);
    write_start(&y, l, -1, 1, 10);
    run_ms(300);
    ck_assert(!x.done && !y.done);
    ck_assert_int_eq(part(l)->log->end, 1);
    ck_assert_int_eq(write_end(&y, 500), KERR_NONE);
    ck_assert_int_eq(part(l)->log->end, 2);
    run_ms(2000);
    ck_assert(x.done);
    ck_assert_int_eq(x.op.op.error, KERR_REQUEST_TIMED_OUT);
    /* Who was in sync when a write came may not be when its turn comes. */
    isolate(heir, false);
    run_ms(1000);
    part(l)->config.min_insync_replicas = 3;
    isolate(heir, true);
    hand_over(&x, l, heir + 1);
    write_start(&y, l, -1, 1, 10);
    ck_assert_int_eq(write_end(&y, 1000), KERR_NOT_ENOUGH_REPLICAS);
    ck_assert_int_eq(part(l)->log->end, 2);
    run_ms(2000);
    ck_assert(x.done);
    stop();
}
END_TEST

START_TEST(members_come_and_go) {
    start(1); /* a group of one becomes one of three */
    int l = await_leader(300);
    ck_assert(!partition_is_replicated(part(l)));
    ck_assert_int_eq(write_to(l, -1, 10), KERR_NONE);
    ck_assert_int_eq(write_to(l, -1, 10), KERR_NONE);
    create_on(1, NULL, 0);
    create_on(2, NULL, 0);
    run_ms(1500);
    ck_assert(!partition_is_led(part(1)) && !partition_is_led(part(2)));
    struct replica_config to = part(l)->replica.config;
    to.members[to.count++] = member(1);
    ck_assert_int_eq(reconfigure(l, &to), OK);
    ck_assert_int_eq(write_to(l, -1, 10), KERR_NONE);
    run_ms(300);
    logs_are_equal(l, 1);
    to.voters = 2;
    ck_assert_int_eq(reconfigure(l, &to), OK);
    to.members[to.count++] = member(2);
    ck_assert_int_eq(reconfigure(l, &to), OK);
    run_ms(300);
    to.voters = 3;
    ck_assert_int_eq(reconfigure(l, &to), OK);
    ck_assert_int_eq(write_to(l, -1, 10), KERR_NONE);
    all_equal();
    struct replica_member heir = member(1);
    ck_assert_int_eq(partition_transfer(reactor(l), GROUP, &heir), OK);
    run_ms(200);
    ck_assert_int_eq(await_leader(100), 1);
    to.members[0] = member(1);
    to.members[1] = member(2);
    to.voters = to.count = 2;
    ck_assert_int_eq(reconfigure(1, &to), OK);
    bool done = false;
    partition_delete(reactor(0), GROUP, created, &done);
    for (int i = 0; i < 1000 && !done; i++) turn();
    ck_assert(done && !part(0));
    ck_assert_int_eq(write_to(1, -1, 10), KERR_NONE);
    create_on(0, NULL, 1); /* back again, in another life */
    to = part(1)->replica.config;
    to.members[to.count] = member(0);
    to.members[to.count].incarnation = replica_incarnation(&to.members[to.count].incarnation, 1);
    to.count++;
    ck_assert_int_eq(reconfigure(1, &to), OK);
    run_ms(300);
    logs_are_equal(1, 0);
    to.voters = 3;
    ck_assert_int_eq(reconfigure(1, &to), OK);
    run_ms(300);
    for (int i = 0; i < NODES; i++) kill_node(i, SIM_LOSE_ALL);
    for (int i = 0; i < NODES; i++) open_node(i);
    await_leader(5000);
    all_equal();
    ck_assert_int_eq(part(0)->replica.config.voters, 3);
    ck_assert_int_eq(part(0)->log->end, 50);
    stop();
}
END_TEST

/* What it hears first of its successor may be a configuration of fewer members than were in sync with it. */
START_TEST(a_leader_that_was_left_out_hears_of_it_late) {
    start(3);
    ck_assert_int_eq(await_leader(300), 0);
    ck_assert_int_eq(write_to(0, -1, 3), KERR_NONE);
    run_ms(300);
    ck_assert_int_eq(leaders_get(reactor(0), GROUP)->in_sync, 7);
    isolate(0, true);
    partition_peer_lost(reactor(1), 1);
    partition_peer_lost(reactor(2), 1);
    run_ms(100);
    int next = part(1)->replica.role == REPLICA_LEADER ? 1 : 2;
    ck_assert(partition_is_led(part(next)) && partition_is_led(part(0)));
    struct replica_config two = part(next)->replica.config;
    two.voters = two.count = 2;
    two.members[0] = member(1);
    two.members[1] = member(2);
    enum err err = ERR_AGAIN;
    for (int n = 0; n < 100 && err == ERR_AGAIN; n++) {
        turn();
        err = reconfigure(next, &two);
    }
    ck_assert_int_eq(err, OK);
    run_ms(20); /* both have it */
    ck_assert(partition_is_led(part(0)));
    isolate(0, false);
    run_ms(200);
    ck_assert(!partition_is_led(part(0)));
    ck_assert_int_eq(part(0)->replica.config.count, 2);
    const struct leader_info *known = leaders_get(reactor(0), GROUP);
    ck_assert(known && known->leader != 1 && known->in_sync >> known->count == 0);
    ck_assert_int_eq(write_to(next, -1, 3), KERR_NONE);
    stop();
}
END_TEST

START_TEST(a_member_far_behind_catches_up_from_files) {
    start(3);
    int l = await_leader(300), behind = (l + 1) % NODES;
    run_ms(200);
    isolate(behind, true);
    struct write x;
    for (int i = 0; i < 60; i++) { /* more than the tails hold */
        write_start(&x, l, -1, 10, 20000);
        ck_assert_int_eq(write_end(&x, 5000), KERR_NONE);
    }
    isolate(behind, false);
    run_ms(6000);
    ck_assert_int_eq(part(behind)->log->end, part(l)->log->end);
    ck_assert_int_eq(part(behind)->replica.high_watermark, 600);
    stop();
}
END_TEST

START_TEST(a_follower_without_room_goes_on_later) {
    start(3);
    int l = await_leader(300), full = (l + 1) % NODES;
    ck_assert_int_eq(write_to(l, -1, 10), KERR_NONE);
    run_ms(200);
    sim_disk_capacity(w, (unsigned)full, 1 << 20); /* it has more by now */
    struct write x;
    for (int i = 0; i < 100; i++) { /* more than its journal can hold without files */
        write_start(&x, l, -1, 20, 10000);
        ck_assert_int_eq(write_end(&x, 5000), KERR_NONE);
    }
    ck_assert_int_lt(part(full)->log->end, part(l)->log->end);
    ck_assert_int_gt(part(full)->leaders_mark, part(full)->log->end); /* and it knows how far behind it is */
    ck_assert(partition_is_led(part(l)));
    sim_disk_capacity(w, (unsigned)full, UINT64_C(1) << 40);
    run_ms(5000);
    all_equal();
    ck_assert_int_eq(part(full)->leaders_mark, part(full)->log->end);
    stop();
}
END_TEST

START_TEST(a_directory_that_fails_leads_no_more) {
    start(3);
    int bad = await_leader(300);
    ck_assert_int_eq(write_to(bad, -1, 10), KERR_NONE);
    run_ms(200);
    struct sim_fault fault = {.call = SIM_WRITE, .times = UINT64_MAX, .result = -EIO};
    sim_fault(w, (unsigned)bad, &fault);
    struct write x;
    write_start(&x, bad, -1, 1, 10);
    ck_assert_int_ne(write_end(&x, 5000), KERR_NONE);
    kill_node(bad, SIM_LOSE_ALL); /* what the process does by itself, a moment later */
    sim_faults_clear(w, (unsigned)bad);
    int next = await_leader(5000);
    ck_assert_int_ne(next, bad);
    ck_assert_int_eq(write_to(next, -1, 5), KERR_NONE);
    open_node(bad);
    all_equal();
    /* And a follower's: the others go on without it. */
    bad = (next + 1) % NODES;
    sim_fault(w, (unsigned)bad, &fault);
    ck_assert_int_eq(write_to(next, -1, 5), KERR_NONE);
    run_ms(1000);
    ck_assert_int_eq(write_to(next, -1, 5), KERR_NONE);
    kill_node(bad, SIM_LOSE_ALL);
    sim_faults_clear(w, (unsigned)bad);
    open_node(bad);
    all_equal();
    stop();
}
END_TEST

START_TEST(deleted_in_the_middle_of_replication) {
    start(3);
    int l = await_leader(300), behind = (l + 1) % NODES, third = (l + 2) % NODES;
    run_ms(200);
    isolate(behind, true);
    struct write x;
    for (int i = 0; i < 60; i++) {
        write_start(&x, l, -1, 10, 20000);
        ck_assert_int_eq(write_end(&x, 5000), KERR_NONE);
    }
    isolate(behind, false);
    for (int i = 0; i < 2000 && list_empty(&part(l)->reads); i++) turn();
    ck_assert(!list_empty(&part(l)->reads)); /* records for it are being read from files */
    bool gone[NODES] = {false};
    write_start(&x, l, -1, 10, 2000);
    partition_delete(reactor(l), GROUP, created, &gone[l]);
    ck_assert_int_eq(write_end(&x, 10), KERR_UNKNOWN_TOPIC_OR_PARTITION);
    run_ms(100);
    partition_delete(reactor(behind), GROUP, created, &gone[behind]);
    partition_delete(reactor(third), GROUP, created, &gone[third]);
    run_ms(2000);
    for (int i = 0; i < NODES; i++) ck_assert(gone[i] && !part(i));
    struct replica_config c = all_voters(3); /* and it is made again: other members, for they have forgotten everything */
    for (int i = 0; i < NODES; i++) c.members[i].incarnation = replica_incarnation(&c.members[i].incarnation, 1);
    for (int i = 0; i < NODES; i++) create_on(i, &c, 1);
    ck_assert_int_eq(write_to(await_leader(3000), -1, 1), KERR_NONE);
    all_equal();
    stop();
}
END_TEST

/* Everything at once: loss, doubles, late messages, deaths, cuts. What was acknowledged is there at the end. */
START_TEST(faults_of_all_kinds) {
    start(3);
    dice = (struct prng){1000 + (uint64_t)_i};
    lose_ppm = 50000;
    double_ppm = 50000;
    delay_ns_max = 20 * MS;
    int64_t acknowledged = 0, highest = -1;
    for (int round = 0; round < 60; round++) {
        int l = leader();
        if (l >= 0) {
            struct write x;
            write_start(&x, l, -1, 1 + (int)(prng_next(&dice) % 4), 300);
            int64_t end = sim_now_ns(w) + 3000 * (int64_t)MS;
            while (!x.done && sim_now_ns(w) < end) turn();
            ck_assert(x.done);
            if (x.op.op.error == KERR_NONE) {
                acknowledged++;
                ck_assert_int_gt(x.op.base_offset, highest);
                highest = x.op.last_offset;
            }
            free(x.batch);
        } else {
            run_ms(200);
        }
        int victim = (int)(prng_next(&dice) % NODES);
        switch (prng_next(&dice) % 6) {
        case 0:
            isolate(victim, true);
            run_ms((int64_t)(prng_next(&dice) % 1500));
            isolate(victim, false);
            break;
        case 1: {
            static const enum sim_crash_policy policies[] = {SIM_LOSE_ALL, SIM_RANDOM, SIM_TORN, SIM_KILLED};
            kill_node(victim, policies[prng_next(&dice) % 4]);
            run_ms((int64_t)(prng_next(&dice) % 1500));
            open_node(victim);
            break;
        }
        default: break;
        }
    }
    lose_ppm = double_ppm = 0;
    delay_ns_max = 200000;
    await_leader(10000);
    ck_assert_int_eq(write_to(leader(), -1, 1), KERR_NONE);
    all_equal();
    ck_assert_int_gt(acknowledged, 10);
    ck_assert_int_gt(part(leader())->replica.high_watermark, highest);
    stop();
}
END_TEST

int main(void) {
    Suite *s = suite_create("partition_replica");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, the_first_choice_leads_and_all_follow);
    tcase_add_test(t, many_writes_of_a_turn_are_few_messages);
    tcase_add_test(t, a_leader_that_dies_is_replaced_and_loses_nothing);
    tcase_add_test(t, a_divergent_tail_is_cut_to_the_byte);
    tcase_add_test(t, what_is_durable_survives_the_death_of_all);
    tcase_add_test(t, an_epoch_of_one_alone_is_told_when_it_is_durable);
    tcase_add_test(t, min_insync_replicas_before_and_after);
    tcase_add_test(t, a_duplicate_waits_for_the_original);
    tcase_add_test(t, deleted_records_stay_deleted);
    tcase_add_test(t, a_deletion_is_told_when_a_majority_has_it);
    tcase_add_test(t, a_deletion_waits_for_the_leaders_disk);
    tcase_add_test(t, a_start_is_acknowledged_when_it_is_durable);
    tcase_add_test(t, two_starts_of_a_leader_whose_disk_is_behind);
    tcase_add_test(t, a_deletion_is_not_told_by_who_went_back);
    tcase_add_test(t, a_deletion_is_told_by_voters);
    tcase_add_test(t, a_write_that_comes_back_from_a_helper_finds_another_leader);
    tcase_add_test(t, the_latest_offset_is_told_by_who_certainly_leads);
    tcase_add_test(t, who_is_below_the_start_begins_anew_with_producers);
    tcase_add_test(t, an_election_is_answered_when_it_is_over);
    tcase_add_test(t, writes_wait_for_a_handover_that_fails);
    tcase_add_test(t, members_come_and_go);
    tcase_add_test(t, a_leader_that_was_left_out_hears_of_it_late);
    tcase_add_test(t, a_member_far_behind_catches_up_from_files);
    tcase_add_test(t, a_follower_without_room_goes_on_later);
    tcase_add_test(t, a_directory_that_fails_leads_no_more);
    tcase_add_test(t, deleted_in_the_middle_of_replication);
    tcase_add_loop_test(t, faults_of_all_kinds, 0, 30);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
