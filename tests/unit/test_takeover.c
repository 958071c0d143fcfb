/* Brokers that were replaced and do not know it yet, and those that take over: coordinators that slept, reassignments that are given up.
 * Whole brokers in the simulated world. */
#include "base/trace.h"
#include "server/cluster.h"
#include "server/group_coordinator.h"
#include "server/partition.h"
#include "tests/unit/cluster_calls.h"

static void set_up(void) {
    trace_set_level(getenv("VARVE_TEST_TRACE") ? TRACE_INFO : TRACE_ERROR);
    world_begin("");
}

/* From all other brokers; the client reaches it. */
static void cut_off(int32_t id, bool is) {
    for (int32_t k = 1; k <= BROKERS; k++) {
        if (k == id) continue;
        sim_link_cut(world, (unsigned)id, (unsigned)k, is);
        sim_link_cut(world, (unsigned)k, (unsigned)id, is);
    }
}

static int32_t not_controller(int32_t but) {
    int32_t id = other_than(controller_id());
    return id == but ? other_than(id) : id;
}

struct nodes { int32_t n, at[BROKERS]; };
#define NODES(...) ((struct nodes){.n = (int32_t)(sizeof (int32_t[]){__VA_ARGS__} / 4), .at = {__VA_ARGS__}})

/* Topic "t" with one partition, its replicas in this order. */
static void create_on(struct nodes where) {
    struct k_create_topics_request q;
    struct k_create_topics_response a;
    struct k_create_topics_request_topics t;
    struct k_create_topics_request_topics_assignments p = {0, where.at, where.n};
    k_create_topics_request_init(&q);
    k_create_topics_request_topics_init(&t);
    t.name = STR_LIT("t");
    t.num_partitions = t.replication_factor = -1;
    t.assignments = &p;
    t.assignments_n = 1;
    q.topics = &t;
    q.topics_n = 1;
    q.timeout_ms = 30000;
    ck_assert(TRY(controller_id(), API_CREATE_TOPICS, 7, create_topics, q, a));
    ck_assert_int_eq(a.topics[0].error_code, 0);
}

/* ---- controllers ------------------------------------------------------------------------------------------------------- */

static uint64_t group_of(const char *topic) {
    const struct image *im = atomic_load(&places[controller_id()].b->image);
    return image_partition(image_topic_by_name(im, str_from(topic)), 0)->plid;
}
static bool has_controller(void) { return controller_id() != 0; }

/* The next controller has no log of the newest partition: that its number is taken metadata alone tells it. */
START_TEST(no_two_partitions_have_one_number) {
    int32_t first = controller_id();
    create_on(NODES(first));
    uint64_t taken = group_of("t");
    place_kill(first);
    client_hang_up(first);
    ck_assert(world_until(has_controller, 5 * SECOND));
    ck_assert_int_eq(create_at(controller_id(), "u", 1, 1), 0);
    ck_assert_uint_gt(group_of("u"), taken);
    /* And whoever starts with all of metadata. */
    for (int32_t id = 1; id <= BROKERS; id++)
        if (places[id].b) place_kill(id);
    for (int32_t id = 1; id <= BROKERS; id++) {
        client_hang_up(id);
        place_start(id);
    }
    ck_assert(world_until(is_whole, 20 * SECOND));
    taken = MAX(taken, group_of("u"));
    ck_assert_int_eq(create_at(controller_id(), "v", 1, 1), 0);
    ck_assert_uint_gt(group_of("v"), taken);
}
END_TEST

/* ---- coordinators that slept --------------------------------------------------------------------------------------- */

/* Asks for a committed offset; the answer is fetched by asked_offset(). */
static void ask_offset(int32_t id, const char *group) {
    struct committed_question x;
    committed_question_init(&x, group);
    k_offset_fetch_request_encode(&x.q, call_begin(API_OFFSET_FETCH, 8), 8);
    ck_assert(call_send(id));
}
static int64_t asked_offset(int32_t id) {
    struct k_offset_fetch_response a;
    struct wire_reader r;
    ck_assert(call_receive(id, &r, 10 * SECOND));
    ck_assert_int_eq(k_offset_fetch_response_decode(&a, &r, 8), OK);
    return committed_answer(&a);
}

/* A coordinator that has committed offset 1, and nothing has happened for so long that heartbeats pause. */
static int32_t quiet_coordinator(void) {
    ck_assert_int_eq(create_at(1, "t", 1, 3), 0);
    int32_t id = await_coordinator(1, "g");
    for (int i = 0; i < 40 && commit_at(id, "g", 1); i++) world_run(50 * MS);
    world_run(5 * SECOND);
    ck_assert_int_eq(committed_at(id, "g"), 1);
    return id;
}
static void commit_elsewhere(int32_t sleeper) {
    int32_t next = await_coordinator(other_than(sleeper), "g");
    ck_assert_int_ne(next, sleeper);
    for (int i = 0; i < 40 && commit_at(next, "g", 2); i++) world_run(50 * MS);
    ck_assert_int_eq(committed_at(next, "g"), 2);
}

/* It wakes up with the question in its socket. */
static void wakes_with_a_question(int32_t sleeper) {
    ask_offset(sleeper, "g");
    world_run(100 * MS);
    places[sleeper].paused = false;
    int64_t told = asked_offset(sleeper);
    ck_assert_msg(told == 2 || told == -1000 - KERR_NOT_COORDINATOR, "it says %lld", (long long)told);
}

static void says_nothing_more(int32_t sleeper) {
    for (int64_t until = sim_now_ns(world) + 2 * SECOND; sim_now_ns(world) < until; world_run(20 * MS)) {
        ask_offset(sleeper, "g");
        ck_assert_int_eq(asked_offset(sleeper), -1000 - KERR_NOT_COORDINATOR);
    }
}

START_TEST(a_coordinator_that_slept_tells_nothing_old) {
    int32_t sleeper = quiet_coordinator();
    places[sleeper].paused = true;
    world_run(4 * SECOND);
    commit_elsewhere(sleeper);
    wakes_with_a_question(sleeper);
}
END_TEST

/* Nor does one that then hears of nobody what has happened. */
START_TEST(a_coordinator_that_slept_and_is_cut_off_tells_nothing_old) {
    int32_t sleeper = quiet_coordinator();
    cut_off(sleeper, true);
    places[sleeper].paused = true;
    world_run(4 * SECOND);
    commit_elsewhere(sleeper);
    wakes_with_a_question(sleeper);
    says_nothing_more(sleeper);
}
END_TEST

/* What the others said while they still followed lies in its sockets, and nothing of what came after. */
START_TEST(what_was_heard_before_a_sleep_is_no_answer_after_it) {
    int32_t sleeper = quiet_coordinator();
    places[sleeper].paused = true;
    world_run(300 * MS);
    cut_off(sleeper, true);
    world_run(3700 * MS);
    commit_elsewhere(sleeper);
    wakes_with_a_question(sleeper);
    says_nothing_more(sleeper);
}
END_TEST

/* The same where there was something to say: answers to its heartbeats lie there. */
START_TEST(an_answer_from_before_a_sleep_is_none_after_it) {
    ck_assert_int_eq(create_at(1, "t", 1, 3), 0);
    int32_t sleeper = await_coordinator(1, "g");
    for (int i = 0; i < 40 && commit_at(sleeper, "g", 1); i++) world_run(50 * MS);
    for (int32_t id = 1; id <= 3; id++)
        if (id != sleeper) sim_link_delay(world, (unsigned)id, (unsigned)sleeper, 250 * MS);
    world_run(SECOND);
    ck_assert_int_eq(committed_at(sleeper, "g"), 1);
    places[sleeper].paused = true;
    world_run(400 * MS);
    cut_off(sleeper, true);
    world_run(3600 * MS);
    commit_elsewhere(sleeper);
    wakes_with_a_question(sleeper);
    says_nothing_more(sleeper);
}
END_TEST

static void delete_topic(void) {
    struct k_delete_topics_request q;
    struct k_delete_topics_response a;
    struct str name = STR_LIT("t");
    k_delete_topics_request_init(&q);
    q.topic_names = &name;
    q.topic_names_n = 1;
    q.timeout_ms = 30000;
    ck_assert(TRY(controller_id(), API_DELETE_TOPICS, 5, delete_topics, q, a));
    ck_assert_int_eq(a.responses[0].error_code, 0);
}

/* A group whose coordinator is not the controller. */
static const char *group_beside_controller(void) {
    static const char *const names[] = {"a", "b", "c", "d"};
    for (int i = 0; i < 4; i++)
        if (await_coordinator(controller_id(), names[i]) != controller_id()) return names[i];
    ck_abort_msg("the controller coordinates all");
}

static void commit_and_delete_topic(const char *g, int32_t dies) {
    int32_t controller = controller_id(), coordinator = await_coordinator(controller, g);
    for (int i = 0; i < 40 && commit_at(coordinator, g, 7); i++) world_run(50 * MS);
    if (dies) place_kill(dies);
    world_run(2 * SECOND);
    ck_assert_int_eq(await_committed(controller, g), 7);
    delete_topic();
    for (int i = 0; i < 40 && await_committed(controller, g) != -1; i++) world_run(50 * MS);
    ck_assert_int_eq(await_committed(controller, g), -1);
}

/* At once, also at a coordinator that has taken over, with offsets (1) or without any (2): it has asked by then how new its metadata is. The
 * usual pass comes every ten minutes. */
START_TEST(offsets_go_with_their_topic) {
    int32_t controller = controller_id();
    create_on(NODES(controller));
    const char *g = group_beside_controller();
    int32_t coordinator = await_coordinator(controller, g);
    commit_and_delete_topic(g, _i == 1 ? coordinator : 0);
    if (_i != 2) return;
    place_kill(coordinator);
    world_run(SECOND);
    create_on(NODES(controller));
    commit_and_delete_topic(g, 0);
}
END_TEST

/* ---- coordinators whose metadata is old ------------------------------------------------------------------------------ */

static void set_up_expiry(void) {
    trace_set_level(getenv("VARVE_TEST_TRACE") ? TRACE_INFO : TRACE_ERROR);
    world_begin("offsets.retention.check.interval.ms=20\n");
}

/* A group whose partition lives on another reactor than the metadata log. */
static const char *group_beside_metadata(uint32_t metadata) {
    static const char *const names[] = {"a", "b", "c", "d"}; /* four partitions */
    const struct image *im = atomic_load(&places[controller_id()].b->image);
    const struct image_topic *t = image_topic_by_name(im, STR_LIT("__consumer_offsets"));
    for (int i = 0; i < 4; i++)
        if (t->partitions[group_partition_of(str_from(names[i]), t->partition_count)].owner != metadata) return names[i];
    ck_abort_msg("all partitions are on one reactor");
}

/* Offsets of a topic that is gone are removed. The one who takes over a group has not heard yet of a topic that was made a moment ago, and
 * that its predecessor took commits for; and what it hears of metadata then is from before that, for the thread that has its log stood still
 * (so many ms longer than the group's next coordinator took to load). It may be that the controller can tell it how much it lacks. */
static const struct { int64_t stands_on_ms; bool is_cut; } lacks[] = {{300, true}, {1100, true}, {3000, true}, {1100, false}};
START_TEST(offsets_of_a_topic_that_is_not_known_yet_are_kept) {
    uint32_t metadata, owner;
    int32_t controller = controller_id();
    (void)controller_metadata_plid(places[controller].b->controller, &metadata);
    await_coordinator(controller, "a");
    world_run(2 * SECOND);
    const char *g = group_beside_metadata(metadata);
    int32_t before = await_coordinator(controller, g), after = not_controller(before);
    /* What the controller has said so far lies there; more does not come. */
    places[after].stands[metadata] = true;
    world_run(200 * MS);
    sim_link_cut(world, (unsigned)controller, (unsigned)after, lacks[_i].is_cut);
    create_on(NODES(controller));
    for (int i = 0; i < 40 && commit_at(before, g, 7); i++) world_run(10 * MS);
    ck_assert_int_eq(committed_at(before, g), 7);
    const struct image *im = atomic_load(&places[controller].b->image);
    const struct image_topic *t = image_topic_by_name(im, STR_LIT("__consumer_offsets"));
    const struct image_partition *p = &t->partitions[group_partition_of(str_from(g), t->partition_count)];
    owner = p->owner;
    struct replica_member heir = {after, *log_store_incarnation(places[after].b->store)};
    ck_assert_int_eq(partition_transfer(&places[before].b->reactors[owner], p->plid, &heir), OK);
    for (int i = 0; i < 100 && committed_at(after, g) != 7; i++) world_run(MS);
    ck_assert_int_eq(committed_at(after, g), 7);
    world_run(lacks[_i].stands_on_ms * MS);
    places[after].stands[metadata] = false;
    if (lacks[_i].is_cut) world_run(100 * MS);
    ck_assert_ptr_null(image_topic_by_name(places[after].b->reactors[owner].image, STR_LIT("t")));
    sim_link_cut(world, (unsigned)controller, (unsigned)after, false);
    world_run(3 * SECOND);
    ck_assert_int_eq(await_committed(controller, g), 7);
}
END_TEST

START_TEST(how_new_metadata_is_can_be_asked_at_any_time) {
    for (int round = 0; round < 3; round++) {
        int64_t now_ns = sim_now_ns(world);
        for (int32_t id = 1; id <= BROKERS; id++)
            for (int i = 0; i < REACTORS; i++) ck_assert(!cluster_knows_since(&places[id].b->reactors[i], now_ns));
        world_run(100 * MS);
        for (int32_t id = 1; id <= BROKERS; id++)
            for (int i = 0; i < REACTORS; i++) ck_assert(cluster_knows_since(&places[id].b->reactors[i], now_ns));
    }
}
END_TEST

/* At any coordinator: also at one that takes over when the topic has gone already. By asking alone it can know so, for metadata does not
 * change any more. */
START_TEST(offsets_of_a_topic_that_is_gone_go) {
    int32_t controller = controller_id();
    create_on(NODES(controller));
    const char *g = group_beside_controller();
    int32_t coordinator = await_coordinator(controller, g);
    for (int i = 0; i < 40 && commit_at(coordinator, g, 7); i++) world_run(50 * MS);
    world_run(SECOND);
    ck_assert_int_eq(committed_at(coordinator, g), 7);
    if (_i == 1) place_kill(coordinator);
    delete_topic();
    for (int i = 0; i < 40 && await_committed(controller, g) != -1; i++) world_run(50 * MS);
    ck_assert_int_eq(await_committed(controller, g), -1);
}
END_TEST

/* Another topic has the name by the time that somebody looks. */
START_TEST(offsets_of_another_topic_of_that_name_go) {
    int32_t controller = controller_id();
    create_on(NODES(controller));
    const char *g = group_beside_controller();
    int32_t coordinator = await_coordinator(controller, g);
    for (int i = 0; i < 40 && commit_at(coordinator, g, 7); i++) world_run(50 * MS);
    world_run(SECOND);
    places[coordinator].paused = true; /* the next one is there half a second later */
    delete_topic();
    create_on(NODES(controller));
    for (int i = 0; i < 40 && await_committed(controller, g) != -1; i++) world_run(50 * MS);
    ck_assert_int_eq(await_committed(controller, g), -1);
}
END_TEST

/* ---- reassignments ---------------------------------------------------------------------------------------------------- */

/* Nobody: what is running is cancelled. Returns the partition's error code. */
static int16_t move_at(int32_t id, struct nodes to) {
    struct k_alter_partition_reassignments_request q;
    struct k_alter_partition_reassignments_response a;
    struct k_alter_partition_reassignments_request_topics_partitions p = {0, to.at, to.n ? to.n : -1};
    struct k_alter_partition_reassignments_request_topics t = {STR_LIT("t"), &p, 1};
    k_alter_partition_reassignments_request_init(&q);
    q.topics = &t;
    q.topics_n = 1;
    ck_assert(TRY(id, API_ALTER_PARTITION_REASSIGNMENTS, 1, alter_partition_reassignments, q, a));
    ck_assert_int_eq(a.error_code, 0);
    return a.responses[0].partitions[0].error_code;
}

static const struct image_partition *moved_partition(void) {
    const struct image *im = atomic_load(&places[controller_id()].b->image);
    return image_partition(image_topic_by_name(im, STR_LIT("t")), 0);
}
static bool is_moving(void) { return image_partition_is_moving(moved_partition()); }
static bool is_at_rest(void) { return controller_id() && !is_moving(); }
static bool replicas_are(struct nodes are) {
    const struct image_partition *p = moved_partition();
    bool same = p->replica_count == are.n;
    for (int32_t i = 0; same && i < are.n; i++) same = p->replicas[i] == are.at[i];
    return same;
}
static struct reactor *owner_on(int32_t id) { return &places[id].b->reactors[moved_partition()->owner]; }
static bool has_log(int32_t id) {
    int64_t end;
    return partition_log(owner_on(id), moved_partition()->plid, &end) != NULL;
}
/* One that leaves keeps its log until a majority of those who stay knows that it is none of them: before that it could still be asked for
 * its vote, and what it has may be elsewhere once. */
START_TEST(a_move_is_done_when_a_majority_knows) {
    int32_t leader = controller_id(), stays = not_controller(0), leaves = not_controller(stays);
    create_on(NODES(leader, stays, leaves));
    ck_assert_int_eq(await_leader(leader, "t"), leader);
    ck_assert_int_eq(produce_at(leader, "t").error, 0);
    world_run(SECOND);
    places[stays].paused = true;
    ck_assert_int_eq(move_at(leader, NODES(leader, stays)), 0);
    world_run(250 * MS);
    ck_assert_uint_eq(leaders_get(owner_on(leader), moved_partition()->plid)->count, 2); /* the leader's own step is made */
    ck_assert(is_moving() && has_log(leaves));
    world_run(2 * SECOND);
    ck_assert(is_moving() && has_log(leaves));
    places[stays].paused = false;
    ck_assert(world_until(is_at_rest, 10 * SECOND));
    ck_assert(replicas_are(NODES(leader, stays)));
    world_run(SECOND);
    ck_assert(!has_log(leaves));
}
END_TEST

/* Replicas are as they were before: who was to come goes, who was to leave stays. */
START_TEST(a_move_that_is_cancelled_leaves_what_was) {
    int32_t was = controller_id(), comes = not_controller(0);
    create_on(NODES(was));
    ck_assert_int_eq(await_leader(was, "t"), was);
    ck_assert_int_eq(produce_at(was, "t").error, 0);
    ck_assert_int_eq(move_at(was, NODES()), KERR_NO_REASSIGNMENT_IN_PROGRESS);
    places[comes].paused = true;
    ck_assert_int_eq(move_at(was, NODES(comes)), 0);
    world_run(100 * MS);
    ck_assert(is_moving());
    ck_assert_int_eq(move_at(was, NODES()), 0);
    world_run(100 * MS);
    places[comes].paused = false;
    ck_assert(world_until(is_at_rest, 10 * SECOND));
    ck_assert(replicas_are(NODES(was)));
    world_run(2 * SECOND);
    ck_assert(has_log(was) && !has_log(comes));
    ck_assert_int_eq(produce_at(was, "t").error, 0);
    ck_assert_int_gt(fetch_at(was, "t", 0, "", 12).bytes, 0);
}
END_TEST

static int32_t first_target;
static bool first_move_is_made(void) {
    const struct leader_info *info = leaders_get(owner_on(first_target), moved_partition()->plid);
    return info && info->leader == first_target && info->count == 1;
}

/* A leader's word that the move is done comes late: meanwhile another move was asked for. It is not that one's end: who has the records would
 * delete them before anybody else has any. */
START_TEST(a_late_word_ends_no_other_move) {
    int32_t from = controller_id(), second = not_controller(0);
    first_target = not_controller(second);
    create_on(NODES(from));
    ck_assert_int_eq(await_leader(from, "t"), from);
    ck_assert_int_eq(produce_at(from, "t").error, 0);
    world_run(SECOND);
    ck_assert_int_eq(move_at(from, NODES(first_target)), 0);
    ck_assert(world_until(first_move_is_made, 10 * SECOND));
    ck_assert(is_moving());
    sim_link_delay(world, (unsigned)first_target, (unsigned)from, 400 * MS);
    places[second].paused = true;
    ck_assert_int_eq(move_at(from, NODES(second)), 0);
    ck_assert(is_moving() && replicas_are(NODES(second, first_target, from)));
    world_run(SECOND);
    ck_assert(is_moving() && has_log(first_target));
    places[second].paused = false;
    sim_link_delay(world, (unsigned)first_target, (unsigned)from, 0);
    ck_assert(world_until(is_at_rest, 10 * SECOND));
    ck_assert(replicas_are(NODES(second)));
    ck_assert_int_eq(await_leader(from, "t"), second);
    ck_assert_int_gt(fetch_at(second, "t", 0, "", 12).bytes, 0);
}
END_TEST

int main(void) {
    Suite *s = suite_create("takeover");
    TCase *t = tcase_create("controllers");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, set_up, world_end);
    tcase_add_test(t, no_two_partitions_have_one_number);
    suite_add_tcase(s, t);
    t = tcase_create("coordinators");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, set_up, world_end);
    tcase_add_test(t, a_coordinator_that_slept_tells_nothing_old);
    tcase_add_test(t, a_coordinator_that_slept_and_is_cut_off_tells_nothing_old);
    tcase_add_test(t, what_was_heard_before_a_sleep_is_no_answer_after_it);
    tcase_add_test(t, an_answer_from_before_a_sleep_is_none_after_it);
    tcase_add_loop_test(t, offsets_go_with_their_topic, 0, 3);
    suite_add_tcase(s, t);
    t = tcase_create("metadata");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, set_up_expiry, world_end);
    tcase_add_test(t, how_new_metadata_is_can_be_asked_at_any_time);
    tcase_add_loop_test(t, offsets_of_a_topic_that_is_gone_go, 0, 2);
    tcase_add_test(t, offsets_of_another_topic_of_that_name_go);
    tcase_add_loop_test(t, offsets_of_a_topic_that_is_not_known_yet_are_kept, 0, ARRAY_LEN(lacks));
    suite_add_tcase(s, t);
    t = tcase_create("reassignments");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, set_up, world_end);
    tcase_add_test(t, a_move_is_done_when_a_majority_knows);
    tcase_add_test(t, a_move_that_is_cancelled_leaves_what_was);
    tcase_add_test(t, a_late_word_ends_no_other_move);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
