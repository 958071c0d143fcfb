/* test_cluster.c - brokers that form a cluster, join it, lose their disks, and change metadata while its leader moves: whole
 * brokers in one thread, in the simulated world (tests/sim/io_sim.h). */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "server/cluster_impl.h"
#include "server/controller_impl.h"
#include "server/partition_impl.h"
#include "server/peer.h"
#include "server/reactor.h"
#include "tests/sim/io_sim.h"

enum { PLACES = 6, REACTORS = 2, KAFKA = 9100, PEERS = 9200 };
#define MS INT64_C(1000000)
#define SECOND (1000 * MS)

/* One machine of the world. Its number there is its index; a wiped disk is another machine with the same id and ports. */
struct place {
    unsigned at;
    int32_t id;
    const char *settings;                /* beside id, ports and folder */
    struct broker *b;                    /* NULL: down */
    struct io *ios[REACTORS];
    struct log_recovery recovery;
    bool ready, failed, ended;
    bool stands[REACTORS];               /* this thread does not get to run */
    char why[512];
};
static struct sim_world *world;
static struct place places[PLACES];
static const char voters_123[] = "controller.quorum.voters=1@127.0.0.1:9201,2@127.0.0.1:9202,3@127.0.0.1:9203\n";

/* ---- life of a broker ------------------------------------------------------------------------------ */

static void on_ready(void *ctx, enum err err, const char *why) {
    struct place *p = ctx;
    p->ready = err == OK;
    p->failed = err != OK;
    if (err) snprintf(p->why, sizeof p->why, "%s", why);
}

static void begin(struct place *p) {
    char text[1024], why[512];
    struct config config;
    snprintf(text, sizeof text, "log.dirs=/data\nlisteners=127.0.0.1:%d\nnode.id=%d\nreactors=%d\njournal.bytes=4194304\ntail.bytes=1048576\n"
             "memory.max.bytes=134217728\ndisk.reserve.bytes=0\nshutdown.timeout.ms=200\npeer.listen=127.0.0.1:%d\nlog.level=%s\n%s",
             KAFKA + p->id, p->id, REACTORS, PEERS + p->id, getenv("VARVE_TEST_TRACE") ? "info" : "error", p->settings);
    struct config_builder *b = config_builder_new();
    ck_assert_msg(config_add_properties(b, "test", text, strlen(text), why, sizeof why) == OK, "%s", why);
    ck_assert_msg(config_finish(b, &config, why, sizeof why) == OK, "%s", why);
    config_builder_free(b);
    ck_assert_int_eq(broker_init(p->b, &config), OK);
    for (int i = 0; i < REACTORS; i++) {
        p->ios[i] = sim_io_create(world, p->at);
        ck_assert(p->ios[i] && reactor_init(&p->b->reactors[i], p->ios[i]) == OK);
    }
    enum err err = broker_open(p->b, &p->recovery, p->why, sizeof p->why);
    p->failed = err != OK;
    if (!err) broker_start(p->b, &p->recovery, on_ready, p);
}

#ifdef __SANITIZE_ADDRESS__
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0"; } /* of brokers that died */
#endif

/* As after kill -9, or a power cut; the memory is lost with it. */
static void die(struct place *p, enum sim_crash_policy policy) {
    if (!p->b) return;
    sim_crash(world, p->at, policy);
    for (int i = 0; i < REACTORS; i++) io_destroy(p->ios[i]);
    p->b = NULL;
    p->ready = false;
}

static void guarded(struct place *p, void (*what)(struct place *p, int arg), int arg) {
    static jmp_buf jump;
    struct sim_fatal *fatal = sim_fatal(world);
    fatal->jump = &jump;
    if (setjmp(jump) == 0) {
        what(p, arg);
    } else if (fatal->happened) {
        snprintf(p->why, sizeof p->why, "%s", fatal->message);
        p->ended = true;
    }
    fatal->jump = NULL;
    if (sim_crashed(world, p->at)) die(p, SIM_KILLED);
}
static void begin_guarded(struct place *p, int arg) {
    (void)arg;
    begin(p);
}
static void turn_guarded(struct place *p, int i) { reactor_turn(&p->b->reactors[i], 0); }

static void start(int at, int32_t id, const char *settings) {
    struct place *p = &places[at];
    ck_assert(!p->b);
    *p = (struct place){.at = (unsigned)at, .id = id, .settings = settings, .b = calloc(1, sizeof *p->b)};
    guarded(p, begin_guarded, 0);
}
static void restart(int at) { start(at, places[at].id, places[at].settings); }

/* ---- the world turns --------------------------------------------------------------------------------- */

static bool due(const struct place *p, int i) {
    if (p->stands[i]) return false;
    const struct reactor *r = &p->b->reactors[i];
    return sim_io_ready(p->ios[i]) || r->busy || timers_next(&r->timers) <= sim_now_ns(world);
}

static void pass(void) {
    int64_t next = sim_now_ns(world) + SECOND;
    bool turned = false;
    for (int k = 0; k < PLACES; k++) {
        struct place *p = &places[k];
        for (int i = 0; p->b && i < REACTORS; i++) {
            if (due(p, i)) {
                turned = true;
                guarded(p, turn_guarded, i);
            } else if (!p->stands[i]) {
                next = MIN(next, timers_next(&p->b->reactors[i].timers));
            }
        }
        if (p->b && broker_ended(p->b)) {
            bool clean = broker_clean(p->b);
            for (int i = 0; i < REACTORS; i++) reactor_close(&p->b->reactors[i]);
            broker_close(p->b);
            free(p->b);
            p->b = NULL;
            for (int i = 0; i < REACTORS; i++) io_destroy(p->ios[i]);
            ck_assert(clean);
        }
    }
    if (!turned) sim_advance(world, next);
}

static void run(int64_t ns) {
    int64_t until = sim_now_ns(world) + ns;
    while (sim_now_ns(world) < until) pass();
}
static bool run_until(bool (*what)(void), int64_t ns) {
    int64_t until = sim_now_ns(world) + ns;
    while (!what()) {
        if (sim_now_ns(world) >= until) return false;
        pass();
    }
    return true;
}

static void stop(int at) {
    broker_stop(places[at].b);
    int64_t until = sim_now_ns(world) + 10 * SECOND;
    while (places[at].b && sim_now_ns(world) < until) pass();
    ck_assert(!places[at].b);
}

/* ---- what to see -------------------------------------------------------------------------------------- */

static const struct image *image_of(int at) { return atomic_load(&places[at].b->image); }

static int active(void) {
    int found = -1;
    for (int k = 0; k < PLACES; k++)
        if (places[k].b && controller_is_active(places[k].b)) found = k;
    return found;
}

/* All that are up serve clients, know each other, and one of them is the controller. */
static bool whole(void) {
    uint32_t up = 0;
    for (int k = 0; k < PLACES; k++) up += places[k].b != NULL;
    if (active() < 0) return false;
    uint64_t end = image_of(active())->metadata_end;
    for (int k = 0; k < PLACES; k++) {
        if (!places[k].b) continue;
        if (!places[k].ready || image_of(k)->node_count < up || image_of(k)->metadata_end != end) return false;
        const struct image_node *n = image_node(image_of(k), places[k].id);
        if (!n || !uuid_eq(&n->incarnation, log_store_incarnation(places[k].b->store))) return false;
    }
    return true;
}
static void must_be_whole(int64_t ns) {
    if (run_until(whole, ns)) return;
    for (int k = 0; k < PLACES; k++)
        if (places[k].b)
            fprintf(stderr, "place %d, broker %d: ready %d, stage %d, active %d, nodes %u, end %llu %s\n", k, places[k].id, places[k].ready,
                    cluster_stage(places[k].b), controller_is_active(places[k].b), image_of(k)->node_count,
                    (unsigned long long)image_of(k)->metadata_end, places[k].why);
    ck_abort_msg("the cluster is not whole after %lld ms", (long long)(ns / MS));
}

static void same_cluster(void) {
    struct uuid first, other;
    bool any = false;
    for (int k = 0; k < PLACES; k++) {
        if (!places[k].b) continue;
        ck_assert(cluster_id(places[k].b, any ? &other : &first));
        if (any) ck_assert(uuid_eq(&first, &other));
        any = true;
    }
}

static void three(void) {
    for (int k = 0; k < 3; k++) start(k, k + 1, voters_123);
}

/* What a cluster does to begin with is over. */
static void three_at_rest(void) {
    three();
    must_be_whole(5 * SECOND);
    run(2 * SECOND);
}

static const struct replica_config *quorum(void) {
    return active() < 0 ? NULL : &places[active()].b->controller->role.config;
}
static bool votes(int at) {
    struct replica_member m = {places[at].id, *log_store_incarnation(places[at].b->store)};
    return quorum() && replica_config_is_voter(quorum(), &m);
}
static bool learns(int at) {
    struct replica_member m = {places[at].id, *log_store_incarnation(places[at].b->store)};
    return quorum() && replica_config_find(quorum(), &m) >= 0 && !votes(at);
}

static void setup_seed(uint64_t seed) {
    world = sim_world_new(seed);
    memset(places, 0, sizeof places);
    for (int k = 0; k < PLACES; k++) places[k].at = (unsigned)k;
}
static void setup(void) { setup_seed(1); }
static void teardown(void) {
    for (int k = 0; k < PLACES; k++) die(&places[k], SIM_KILLED);
    sim_world_free(world);
}

/* ---- forming -------------------------------------------------------------------------------------------- */

START_TEST(three_blank_brokers_form_one_cluster) {
    three();
    must_be_whole(5 * SECOND);
    same_cluster();
    ck_assert_uint_eq(quorum()->voters, 3);
    ck_assert_uint_eq(quorum()->count, 3);
}
END_TEST

START_TEST(it_is_formed_by_all_voters) {
    start(0, 1, voters_123);
    start(2, 3, voters_123);
    run(10 * SECOND);
    ck_assert(!places[0].ready && !places[2].ready && active() < 0);
    ck_assert_int_eq(cluster_stage(places[0].b), CLUSTER_FORMING);
    start(1, 2, voters_123);
    must_be_whole(5 * SECOND);
    same_cluster();
}
END_TEST

/* Each broker dies at each of the operations on its disk while the cluster forms. */
START_TEST(a_crash_while_forming) {
    for (uint64_t op = 1;; op++) {
        if (op > 1) {
            teardown();
            setup_seed(op);
        }
        int at = _i;
        sim_crash_at(world, (unsigned)at, op);
        three();
        run(3 * SECOND);
        bool crashed = !places[at].b;
        sim_crash_at(world, (unsigned)at, 0);
        if (crashed) restart(at);
        must_be_whole(10 * SECOND);
        same_cluster();
        if (!crashed) break;
        ck_assert_uint_lt(op, 1000);
    }
}
END_TEST

static bool three_vote(void) { return quorum() && quorum()->voters == 3 && quorum()->count == 3; }

/* The same, but it comes back with another disk, a blank one. */
START_TEST(a_disk_lost_while_forming) {
    for (uint64_t op = 1;; op++) {
        if (op > 1) {
            teardown();
            setup_seed(op);
        }
        int at = _i;
        sim_crash_at(world, (unsigned)at, op);
        three();
        int64_t until = sim_now_ns(world) + 2 * SECOND;
        while (places[at].b && sim_now_ns(world) < until) pass();
        bool crashed = !places[at].b;
        sim_crash_at(world, (unsigned)at, 0);
        if (crashed) start(5, at + 1, voters_123);
        must_be_whole(20 * SECOND);
        same_cluster();
        ck_assert(run_until(three_vote, 20 * SECOND));
        if (!crashed) break;
        ck_assert_uint_lt(op, 1000);
    }
}
END_TEST

/* Somebody who belongs to no cluster asks a broker all the time. */
struct question { struct peer_call call; int at; bool away, chosen; uint32_t neither, blank; };
static struct question questions[3];

static bool has_chosen(int at) { return places[at].b && atomic_load(&places[at].b->cluster->known); }
static bool blank_in(struct bytes answer) {
    Varve__Cluster__FormAnswer *m = varve__cluster__form_answer__unpack(NULL, (size_t)answer.len, answer.p);
    ck_assert(m && !(m->knows && m->blank));
    bool blank = m->blank, knows = m->knows;
    varve__cluster__form_answer__free_unpacked(m, NULL);
    if (!blank && !knows) questions[0].neither++;
    return blank;
}
static void question_answered(struct peer_call *c) {
    struct question *q = c->owner;
    q->away = false;
    if (c->err) return;
    bool blank = blank_in(c->answer);
    ck_assert_msg(!blank || !q->chosen, "broker %d belongs to a cluster and says that it is blank", q->at + 1);
    q->blank += blank;
}
static void question_ask(int at) {
    static const char *const host = "127.0.0.1";
    struct question *q = &questions[at];
    if (q->away) return;
    q->at = at;
    q->away = true;
    q->chosen = has_chosen(at);
    q->call = (struct peer_call){.caller = &places[3].b->reactors[0], .node = -1, .host = host, .port = PEERS + 1 + at,
                                 .kind = PEER_CALL_FORM, .request = BYTES_NULL, .timeout_ns = SECOND, .done = question_answered, .owner = q};
    peer_call(&q->call);
}

static bool three_are_ready(void) { return places[0].ready && places[1].ready && places[2].ready; }

/* Nobody who has chosen a cluster is taken for blank, while its metadata log is made and while it starts again. */
START_TEST(who_has_chosen_is_not_blank) {
    memset(questions, 0, sizeof questions);
    start(3, 4, "controller.quorum.bootstrap.servers=127.0.0.1:9299\n");
    three();
    for (int round = 0; round < 4; round++) {
        sim_tuning(world)->disk_ns_max = 20 * MS;
        int64_t until = sim_now_ns(world) + 4 * SECOND;
        while (sim_now_ns(world) < until) {
            for (int at = 0; at < 3; at++) question_ask(at);
            pass();
        }
        sim_tuning(world)->disk_ns_max = 2 * MS;
        ck_assert(run_until(three_are_ready, 10 * SECOND));
        die(&places[round % 3], SIM_KILLED);
        restart(round % 3);
    }
    ck_assert_uint_gt(questions[0].blank + questions[1].blank + questions[2].blank, 0);
    ck_assert_uint_gt(questions[0].neither, 0);
}
END_TEST

static bool new_ones_are_ready(void) { return places[3].ready && places[4].ready && places[5].ready; }

/* All lose their disks, one after the other; what the first of them said of the cluster that is gone comes late. */
START_TEST(a_late_answer_of_a_cluster_that_is_gone) {
    three();
    must_be_whole(5 * SECOND);
    struct uuid old = places[0].b->cluster_id;
    die(&places[1], SIM_KILLED);
    die(&places[2], SIM_KILLED);
    sim_link_delay(world, 0, 3, 300 * MS);
    sim_link_delay(world, 0, 4, 300 * MS);
    start(3, 2, voters_123);
    start(4, 3, voters_123);
    run(450 * MS); /* connected and greeted, and the answer is under way */
    ck_assert(places[3].b->cluster->targets[0].away && !has_chosen(3) && !has_chosen(4));
    die(&places[0], SIM_KILLED);
    start(5, 1, voters_123);
    ck_assert(run_until(new_ones_are_ready, 20 * SECOND));
    for (int at = 3; at < 6; at++) ck_assert(!uuid_eq(&places[at].b->cluster_id, &old));
}
END_TEST

/* ---- joining ---------------------------------------------------------------------------------------------- */

static bool fourth_learns(void) { return places[3].b && learns(3); }


START_TEST(a_fourth_joins_and_learns) {
    three();
    must_be_whole(5 * SECOND);
    start(3, 4, "controller.quorum.bootstrap.servers=127.0.0.1:9202\n");
    must_be_whole(5 * SECOND);
    same_cluster();
    ck_assert(run_until(fourth_learns, 5 * SECOND));
    ck_assert_uint_eq(quorum()->voters, 3);
}
END_TEST

static void add_size(void *ctx, const char *path, uint64_t size) {
    (void)path;
    *(uint64_t *)ctx += size;
}
static bool fourth_failed(void) { return places[3].failed; }

/* The metadata log's number is the same everywhere, whatever a first attempt has taken. */
START_TEST(a_fourth_joins_when_its_full_disk_has_room) {
    uint64_t used = 0;
    three();
    must_be_whole(5 * SECOND);
    start(3, 4, "controller.quorum.bootstrap.servers=127.0.0.1:9202\n");
    stop(3); /* its journal is there, and nothing in it needs a copy */
    sim_files(world, 3, add_size, &used);
    sim_disk_capacity(world, 3, used + 65536); /* for varve.meta, not for a log */
    restart(3);
    ck_assert(run_until(fourth_failed, 5 * SECOND));
    ck_assert_str_eq(places[3].why, "the metadata log could not be made");
    sim_disk_capacity(world, 3, UINT64_C(1) << 40);
    stop(3);
    restart(3);
    ck_assert(run_until(fourth_learns, 10 * SECOND));
    ck_assert_uint_eq(places[3].b->controller->partition.plid, METADATA_GROUP);
    must_be_whole(10 * SECOND);
    same_cluster();
}
END_TEST

START_TEST(others_join_a_broker_that_was_alone) {
    start(0, 1, "");
    must_be_whole(5 * SECOND);
    struct uuid before, after;
    ck_assert(cluster_id(places[0].b, &before));
    start(1, 2, voters_123);
    start(2, 3, "controller.quorum.bootstrap.servers=127.0.0.1:9201\n");
    must_be_whole(5 * SECOND);
    ck_assert(cluster_id(places[2].b, &after) && uuid_eq(&before, &after));
    ck_assert_uint_eq(quorum()->voters, 1);
}
END_TEST

START_TEST(a_broker_of_another_cluster_stays_outside) {
    start(3, 3, "");
    must_be_whole(5 * SECOND);
    stop(3);
    start(0, 1, voters_123);
    start(1, 2, voters_123);
    start(2, 3, voters_123);
    must_be_whole(5 * SECOND);
    struct uuid third = *log_store_incarnation(places[2].b->store);
    die(&places[2], SIM_KILLED);
    places[3].settings = voters_123;
    restart(3);
    run(3 * SECOND);
    ck_assert(places[3].failed && !places[3].ready);
    ck_assert_msg(strstr(places[3].why, "has a cluster of its own") != NULL, "%s", places[3].why);
    ck_assert(uuid_eq(&image_node(image_of(0), 3)->incarnation, &third));
    die(&places[3], SIM_KILLED);
    places[3].settings = "controller.quorum.bootstrap.servers=127.0.0.1:9203,127.0.0.1:9299\n"; /* itself, nobody */
    restart(3);
    run(3 * SECOND);
    ck_assert(places[3].ready); /* as long as it is told of nobody else, it goes on with its own */
    die(&places[3], SIM_KILLED);
    restart(2);
    must_be_whole(5 * SECOND);
}
END_TEST

START_TEST(a_second_broker_with_the_same_id_is_refused) {
    three();
    must_be_whole(5 * SECOND);
    struct place *p = &places[4];
    *p = (struct place){.at = 4};
    struct uuid third = *log_store_incarnation(places[2].b->store), seen;
    int32_t epoch = places[2].b->controller->role.epoch;
    start(4, 3, "controller.quorum.bootstrap.servers=127.0.0.1:9202,127.0.0.1:9201\nlisteners=127.0.0.1:9109\npeer.listen=127.0.0.1:9209\n");
    for (int i = 0; i < 70; i++) { /* the first one does not notice, nor do the others take the second for it */
        run(SECOND / 10);
        ck_assert(peer_incarnation(&places[0].b->reactors[0], 3, &seen) && uuid_eq(&seen, &third));
        ck_assert(peer_is_up(&places[0].b->reactors[0], 3) && peer_is_up(&places[2].b->reactors[0], 1));
        ck_assert_int_eq(places[2].b->controller->role.epoch, epoch);
    }
    ck_assert(!places[4].ready && places[4].failed);
    ck_assert_msg(strstr(places[4].why, "node.id") != NULL, "%s", places[4].why);
    die(&places[4], SIM_KILLED);
    must_be_whole(5 * SECOND);
    ck_assert(votes(2));
}
END_TEST

static int registered;                   /* -1: not answered */
static void was_registered(void *ctx, const Varve__Cluster__RegisterAnswer *m) {
    (void)ctx;
    registered = (int)m->status;
}
/* Somebody with an empty disk says at the controller that it is broker `id`. */
static int register_stranger(int32_t id) {
    struct uuid incarnation = {{1, 2, 3, (uint8_t)id}};
    Varve__Metadata__Broker m = VARVE__METADATA__BROKER__INIT;
    uint8_t packed[128];
    m.node = id;
    m.incarnation = (ProtobufCBinaryData){sizeof incarnation.b, incarnation.b};
    m.peer_host = "127.0.0.1";
    m.peer_port = 9299;
    struct bytes request = {packed, (int32_t)varve__metadata__broker__pack(&m, packed)};
    registered = -1;
    registration_handle(places[active()].b, request, was_registered, NULL);
    run(SECOND);
    ck_assert_int_ge(registered, 0);
    return registered;
}

/* It may have said hello while the one whose id that is was away, so the connection is no proof: the one that is known is asked for, at its
 * address. If it is there its replicas are its own. */
START_TEST(an_id_is_taken_while_its_broker_answers) {
    three_at_rest();
    for (int32_t id = 1; id <= 3; id++) {
        ck_assert_int_eq(register_stranger(id), VARVE__CLUSTER__REGISTER_ANSWER__STATUS__REFUSED);
        ck_assert(uuid_eq(&image_node(image_of(active()), id)->incarnation, log_store_incarnation(places[id - 1].b->store)));
    }
    int gone = (active() + 1) % 3;
    die(&places[gone], SIM_KILLED);
    run(3 * SECOND);
    ck_assert_int_eq(register_stranger(gone + 1), VARVE__CLUSTER__REGISTER_ANSWER__STATUS__OK);
}
END_TEST

static int unregistered;
static void unregister_make(struct controller_change *ch, struct controller_edit *e) {
    (void)ch;
    controller_remove_broker(e, places[unregistered].id);
}
static void unregister_done(struct controller_change *ch) { (void)ch; }
static bool is_unregistered(void) { return !image_node(image_of(unregistered), places[unregistered].id); }

/* It asks the controller to be entered again, which dies: then it asks the next one, though metadata does not change any more. */
START_TEST(a_broker_that_was_unregistered_asks_until_it_is_back) {
    static struct controller_change change;
    three_at_rest();
    int at = active();
    unregistered = (at + 1) % 3;
    change = (struct controller_change){.caller = &places[at].b->reactors[0], .make = unregister_make, .done = unregister_done};
    controller_submit(places[at].b->controller, &change);
    ck_assert(run_until(is_unregistered, SECOND));
    die(&places[at], SIM_LOSE_NONE);
    run(5 * SECOND);
    ck_assert_int_ge(active(), 0);
    for (int k = 0; k < 3; k++)
        if (k != at) ck_assert(image_node(image_of(k), places[unregistered].id) != NULL);
}
END_TEST

/* ---- disks that are lost, majorities that are away ------------------------------------------------------------ */

static bool third_votes_anew(void) { return places[5].b && votes(5) && quorum()->count == 3 && quorum()->voters == 3; }

START_TEST(a_broker_that_lost_its_disk_votes_again) {
    three();
    must_be_whole(5 * SECOND);
    die(&places[2], SIM_KILLED);
    start(5, 3, voters_123);
    must_be_whole(15 * SECOND);
    ck_assert(run_until(third_votes_anew, 15 * SECOND));
}
END_TEST

START_TEST(a_minority_waits) {
    three();
    must_be_whole(5 * SECOND);
    for (int k = 0; k < 3; k++) die(&places[k], SIM_LOSE_ALL);
    restart(1);
    run(10 * SECOND);
    ck_assert(!places[1].ready && !places[1].failed);
    ck_assert_int_eq(cluster_stage(places[1].b), CLUSTER_JOINING);
    restart(0);
    must_be_whole(5 * SECOND);
    restart(2);
    must_be_whole(5 * SECOND);
}
END_TEST

/* ---- voters that the configuration does not name ------------------------------------------------------------------- */

static bool quorum_written;
static const int32_t voters_345[] = {3, 4, 5};
static void quorum_make(struct controller_change *ch, struct controller_edit *e) {
    (void)ch;
    ck_assert_int_eq(controller_set_quorum(e, voters_345, 3), OK);
}
static void quorum_made(struct controller_change *ch) { quorum_written = ch->err == OK; }

static void want_voters_345(void) {
    static struct controller_change change;
    quorum_written = false;
    while (!quorum_written) {
        must_be_whole(15 * SECOND);
        struct broker *b = places[active()].b;
        change = (struct controller_change){.caller = &b->reactors[0], .make = quorum_make, .done = quorum_made};
        controller_submit(b->controller, &change);
        run(SECOND);
    }
}
static bool voters_are_345(void) {
    return active() >= 2 && quorum()->voters == 3 && votes(2) && votes(3) && votes(4);
}

/* Two of the first three have gone for good, and with them whoever knew from the start where the others are. The third one is named to the fourth
 * only, which tells it where it is, and the fifth, which knows of the fourth, hears from that where the third is. In the end one that has
 * been there all the time finds one that starts, and was told of nobody who is left. */
START_TEST(voters_that_were_added_find_each_other) {
    three();
    must_be_whole(5 * SECOND);
    start(3, 4, "controller.quorum.bootstrap.servers=127.0.0.1:9201,127.0.0.1:9203\n");
    start(4, 5, "controller.quorum.bootstrap.servers=127.0.0.1:9202,127.0.0.1:9204\n");
    want_voters_345();
    ck_assert(run_until(voters_are_345, 20 * SECOND));
    for (int k = 0; k < 5; k++) die(&places[k], SIM_LOSE_ALL);
    run(SECOND);
    for (int k = 2; k < 5; k++) restart(k);
    must_be_whole(10 * SECOND);
    ck_assert(voters_are_345());
    for (int k = 2; k < 5; k++) {
        int other = k == 2 ? 4 : 2;
        die(&places[other], SIM_LOSE_ALL);
        die(&places[k], SIM_LOSE_ALL);
        run(3 * SECOND);
        restart(k);
        must_be_whole(10 * SECOND);
        restart(other);
        must_be_whole(10 * SECOND);
    }
}
END_TEST

/* ---- changes ------------------------------------------------------------------------------------------------------ */

/* Takes numbers of a counter: each is given to one change, or to none. */
enum { TAKERS = 4, TAKEN_MAX = 20000 };
struct taker {
    struct controller_change change;
    struct broker *b;
    int64_t got;
    bool away;
};
static struct taker *takers[TAKERS];
static uint8_t taken[TAKEN_MAX];
static uint32_t taken_count, lost_count, unknown_count;

static void take_make(struct controller_change *ch, struct controller_edit *e) {
    struct taker *t = ch->owner;
    t->got = controller_edit_image(e)->next_producer_id;
    controller_set_next_producer_id(e, t->got + 1);
}
static void take_done(struct controller_change *ch) {
    struct taker *t = ch->owner;
    t->away = false;
    if (ch->err) {
        lost_count++;
        unknown_count += ch->unknown;
        ck_assert(ch->unknown || ch->err == ERR_NOT_CONTROLLER || ch->err == ERR_CLOSED);
        return;
    }
    ck_assert_int_lt(t->got, TAKEN_MAX);
    ck_assert_msg(!taken[t->got], "%lld was given twice", (long long)t->got);
    taken[t->got] = 1;
    taken_count++;
}
static void take(void) {
    for (int i = 0; i < TAKERS; i++) {
        struct taker *t = takers[i];
        bool gone = true;
        for (int k = 0; k < PLACES; k++) gone = gone && (!places[k].b || places[k].b != t->b);
        if (t->away && !gone) continue;
        int at = active();
        if (at < 0) continue;
        if (t->away) t = takers[i] = calloc(1, sizeof *t); /* its broker died with it */
        t->b = places[at].b;
        t->away = true;
        t->change = (struct controller_change){.caller = &t->b->reactors[i % REACTORS], .make = take_make, .done = take_done, .owner = t};
        controller_submit(t->b->controller, &t->change);
    }
}

START_TEST(changes_while_the_controller_moves) {
    teardown();
    setup_seed((uint64_t)_i + 1);
    memset(taken, 0, sizeof taken);
    taken_count = lost_count = unknown_count = 0;
    for (int i = 0; i < TAKERS; i++) takers[i] = calloc(1, sizeof *takers[i]);
    three();
    must_be_whole(5 * SECOND);
    int64_t next = sim_now_ns(world) + SECOND, until = sim_now_ns(world) + 30 * SECOND;
    uint32_t moves = 0;
    int down = -1, cut = -1;
    while (sim_now_ns(world) < until) {
        take();
        pass();
        if (sim_now_ns(world) < next) continue;
        next = sim_now_ns(world) + 700 * MS + (int64_t)(sim_hash(world) % 800) * MS;
        for (int k = 0; k < 3; k++) {
            if (cut < 0 || k == cut) continue;
            sim_link_cut(world, (unsigned)cut, (unsigned)k, false);
            sim_link_cut(world, (unsigned)k, (unsigned)cut, false);
        }
        if (down >= 0) restart(down);
        cut = down = -1;
        int at = active();
        if (at < 0) continue;
        moves++;
        if (sim_hash(world) & 1) {
            down = at;
            die(&places[at], SIM_RANDOM);
        } else {
            cut = at;
            for (int k = 0; k < 3; k++) {
                if (k == at) continue;
                sim_link_cut(world, (unsigned)at, (unsigned)k, true);
                sim_link_cut(world, (unsigned)k, (unsigned)at, true);
            }
        }
    }
    for (int a = 0; a < 3; a++)
        for (int b = 0; b < 3; b++)
            if (a != b) sim_link_cut(world, (unsigned)a, (unsigned)b, false);
    if (down >= 0) restart(down);
    must_be_whole(10 * SECOND);
    int64_t end = image_of(0)->next_producer_id;
    for (int k = 1; k < 3; k++) ck_assert_int_eq(image_of(k)->next_producer_id, end);
    for (int64_t i = end; i < TAKEN_MAX; i++) ck_assert(!taken[i]);
    ck_assert_uint_gt(moves, 5);
    ck_assert_uint_gt(taken_count, 100);
    ck_assert_uint_gt(lost_count, 0);
}
END_TEST

static void cut_off(int at, bool is) {
    for (int k = 0; k < 3; k++) {
        if (k == at) continue;
        sim_link_cut(world, (unsigned)at, (unsigned)k, is);
        sim_link_cut(world, (unsigned)k, (unsigned)at, is);
    }
}

struct asked { struct controller_change change; bool records, done; };
static void asked_make(struct controller_change *ch, struct controller_edit *e) {
    struct asked *x = ch->owner;
    if (x->records) controller_set_next_producer_id(e, controller_edit_image(e)->next_producer_id + 1);
}
static void asked_done(struct controller_change *ch) { ((struct asked *)ch->owner)->done = true; }
static void ask_change(struct asked *x, int at, bool records) {
    struct broker *b = places[at].b;
    *x = (struct asked){.records = records, .change = {.caller = &b->reactors[0], .make = asked_make, .done = asked_done, .owner = x}};
    controller_submit(b->controller, &x->change);
}

/* Whoever waits behind a change that cannot be committed any more hears so when that one does, and not when this broker is the controller
 * again: then they have long asked another one. */
START_TEST(changes_that_wait_end_with_the_role) {
    struct asked x[4];
    three_at_rest();
    int at = active();
    int64_t before = image_of(at)->next_producer_id;
    cut_off(at, true);
    for (int i = 0; i < 4; i++) ask_change(&x[i], at, i < 3);
    run(100 * MS);
    for (int i = 0; i < 4; i++) ck_assert(!x[i].done);
    run(3 * SECOND);
    for (int i = 0; i < 4; i++) {
        ck_assert(x[i].done);
        ck_assert_int_eq(x[i].change.err, ERR_NOT_CONTROLLER);
        ck_assert(x[i].change.unknown == (i == 0));
    }
    ck_assert_uint_eq(places[at].b->controller->queue_count, 0);
    cut_off(at, false);
    must_be_whole(5 * SECOND);
    ck_assert_int_le(image_of(at)->next_producer_id, before + 1);
}
END_TEST

static int replaced;
static bool another_is_active(void) {
    int found = -1;
    for (int k = 0; k < 3; k++)
        if (k != replaced && controller_is_active(places[k].b)) found = k;
    return found >= 0;
}

/* A controller that did not get to run does not know yet that there is another one. What it says of its image, that a topic is there for
 * instance, may be old: it says nothing. */
START_TEST(a_controller_that_was_replaced_tells_nothing_old) {
    struct asked x;
    three_at_rest();
    replaced = active();
    ask_change(&x, replaced, false);
    run(100 * MS);
    ck_assert(x.done && x.change.err == OK);
    cut_off(replaced, true);
    for (int i = 0; i < REACTORS; i++) places[replaced].stands[i] = true;
    ck_assert(run_until(another_is_active, 5 * SECOND));
    for (int i = 0; i < REACTORS; i++) places[replaced].stands[i] = false;
    ask_change(&x, replaced, false);
    run(50 * MS);
    ck_assert(controller_is_active(places[replaced].b)); /* as it thinks */
    ck_assert(!x.done);
    run(2 * SECOND);
    ck_assert(x.done);
    ck_assert_int_eq(x.change.err, ERR_NOT_CONTROLLER);
}
END_TEST

/* The reactor of the log says that something has changed, is asked what, and more changes while the answer is under way: it has said so
 * already, and does not say it again. Here it becomes the leader, and is established a moment later. */
START_TEST(a_role_that_changes_while_it_is_asked_for) {
    three_at_rest();
    int old = active(), at = (old + 1) % 3;
    struct broker *b = places[at].b;
    uint32_t owner;
    uint64_t group = controller_metadata_plid(b->controller, &owner);
    struct reactor *r = &b->reactors[owner];
    ck_assert_uint_ne(owner, 0); /* two threads */
    struct replica_member heir = {places[at].id, *log_store_incarnation(b->store)};
    ck_assert_int_eq(partition_transfer(&places[old].b->reactors[owner], group, &heir), OK);
    const struct replica *core = partition_replica(r, group);
    for (int i = 0; i < 10000 && core->role != REPLICA_LEADER; i++) pass();
    ck_assert(core->role == REPLICA_LEADER && !core->established);
    reactor_turn(&b->reactors[0], 0);                       /* asks */
    controller_quorum_changed(r, group);
    places[at].stands[0] = true;
    for (int i = 0; i < 10000 && !core->established; i++) pass();
    ck_assert(core->established && !controller_is_active(b));
    run(50 * MS);
    places[at].stands[0] = false;
    run(500 * MS);
    ck_assert(controller_is_active(b));
    must_be_whole(5 * SECOND);
}
END_TEST

static Suite *cluster_suite(void) {
    Suite *s = suite_create("cluster");
    TCase *t = tcase_create("forming");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, three_blank_brokers_form_one_cluster);
    tcase_add_test(t, it_is_formed_by_all_voters);
    tcase_add_test(t, who_has_chosen_is_not_blank);
    tcase_add_test(t, a_late_answer_of_a_cluster_that_is_gone);
    tcase_add_loop_test(t, a_crash_while_forming, 0, 3);
    tcase_add_loop_test(t, a_disk_lost_while_forming, 0, 3);
    suite_add_tcase(s, t);
    t = tcase_create("joining");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_fourth_joins_and_learns);
    tcase_add_test(t, a_fourth_joins_when_its_full_disk_has_room);
    tcase_add_test(t, others_join_a_broker_that_was_alone);
    tcase_add_test(t, a_broker_of_another_cluster_stays_outside);
    tcase_add_test(t, a_second_broker_with_the_same_id_is_refused);
    tcase_add_test(t, an_id_is_taken_while_its_broker_answers);
    tcase_add_test(t, a_broker_that_was_unregistered_asks_until_it_is_back);
    tcase_add_test(t, a_broker_that_lost_its_disk_votes_again);
    tcase_add_test(t, a_minority_waits);
    tcase_add_test(t, voters_that_were_added_find_each_other);
    suite_add_tcase(s, t);
    t = tcase_create("changes");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, changes_that_wait_end_with_the_role);
    tcase_add_test(t, a_controller_that_was_replaced_tells_nothing_old);
    tcase_add_test(t, a_role_that_changes_while_it_is_asked_for);
    tcase_add_loop_test(t, changes_while_the_controller_moves, 0, 4);
    suite_add_tcase(s, t);
    return s;
}

int main(void) {
    SRunner *r = srunner_create(cluster_suite());
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
