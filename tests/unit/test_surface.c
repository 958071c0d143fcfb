/* What clients see of a cluster of three: whom they may ask for what, who leads, where groups are, from whom to read. Whole brokers in the
 * simulated world. */
#include "tests/unit/cluster_calls.h"

#define RACK_AWARE "replica.selector.class=org.apache.kafka.common.replica.RackAwareReplicaSelector\n"

static void set_up(void) { world_begin(""); }
static void set_up_racks(void) { world_begin(RACK_AWARE); }

/* ---- requests for the controller ----------------------------------------------------------------------------- */

START_TEST(topics_are_made_through_any_broker) {
    char name[8];
    for (int32_t id = 1; id <= BROKERS; id++) {
        snprintf(name, sizeof name, "t%d", id);
        ck_assert_int_eq(create_at(id, name, 6, 3), 0);
        /* At once here; and led, for the answer waited for that. */
        struct k_metadata_response a = metadata_of(id, name, false);
        ck_assert_int_eq(a.topics[0].error_code, 0);
        ck_assert_int_eq(a.topics[0].partitions_n, 6);
        ck_assert_int_eq(create_at(other_than(id), name, 1, 1), KERR_TOPIC_ALREADY_EXISTS);
    }
    world_run(SECOND);
    for (int32_t id = 1; id <= BROKERS; id++) {
        struct k_metadata_response a = metadata_of(id, "t1", false);
        ck_assert_int_eq(a.controller_id, controller_id());
        ck_assert_int_eq(a.brokers_n, BROKERS);
        for (int32_t i = 0; i < BROKERS; i++) {
            char rack[4];
            snprintf(rack, sizeof rack, "r%d", i + 1);
            ck_assert(a.brokers[i].node_id == i + 1 && a.brokers[i].port == KAFKA + i + 1 && str_is(a.brokers[i].rack, rack));
        }
        uint32_t led[BROKERS + 1] = {0};
        for (int32_t i = 0; i < 6; i++) {
            const struct k_metadata_response_topics_partitions *p = &a.topics[0].partitions[i];
            ck_assert_int_eq(p->error_code, 0);
            ck_assert(p->replica_nodes_n == 3 && p->isr_nodes_n == 3 && p->offline_replicas_n == 0);
            ck_assert(p->leader_id >= 1 && p->leader_id <= BROKERS && p->leader_epoch >= 1);
            led[p->leader_id]++;
        }
        for (int32_t i = 1; i <= BROKERS; i++) ck_assert_uint_eq(led[i], 2);
    }
}
END_TEST

START_TEST(topics_are_made_on_first_use_through_any_broker) {
    int32_t id = other_than(controller_id());
    ck_assert_int_eq(metadata_of(id, "fresh", false).topics[0].error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    world_run(SECOND);
    ck_assert_int_eq(metadata_of(id, "fresh", true).topics[0].error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    await_leader(id, "fresh");
}
END_TEST

/* -1: no answer, or an error. */
static int64_t producer_id_at(int32_t id) {
    struct k_init_producer_id_request q;
    struct k_init_producer_id_response a;
    k_init_producer_id_request_init(&q);
    q.transaction_timeout_ms = INT32_MAX;
    q.producer_id = -1;
    q.producer_epoch = -1;
    q.transactional_id = STR_NULL;
    if (!TRY(id, API_INIT_PRODUCER_ID, 4, init_producer_id, q, a)) return -1;
    ck_assert(a.error_code == 0 || a.error_code == KERR_COORDINATOR_LOAD_IN_PROGRESS);
    return a.error_code ? -1 : a.producer_id;
}

enum { IDS_MAX = 40000 };
static bool id_seen[IDS_MAX];
static bool take_id(int32_t id) {
    int64_t given = producer_id_at(id);
    if (given < 0) return false;
    ck_assert_int_lt(given, IDS_MAX);
    ck_assert_msg(!id_seen[given], "id %lld was given twice", (long long)given);
    return id_seen[given] = true;
}
static void await_id(int32_t id) {
    for (int i = 0; i < 100 && !take_id(id); i++) world_run(100 * MS);
    ck_assert(take_id(id));
}
static int64_t next_block(int32_t id) { return places[id].b->image->next_producer_id; }

/* From blocks: a change of metadata for a thousand, and the next block before the last one is used up. */
START_TEST(producer_ids_are_given_out_once) {
    memset(id_seen, 0, sizeof id_seen);
    int32_t controller = controller_id(), other = other_than(controller);
    for (int round = 0; round < 20; round++)
        for (int32_t id = 1; id <= BROKERS; id++) ck_assert(take_id(id));
    ck_assert_int_le(next_block(controller), BROKERS * REACTORS * 1000);
    int64_t before = next_block(controller);
    int n = 0;
    for (; next_block(controller) == before; n++) ck_assert(n < 1000 && take_id(other));
    ck_assert_int_ge(n, 850); /* a tenth was left */
    for (n = 0; n < 2500; n++) ck_assert(take_id(other));
    ck_assert_int_le(next_block(controller), before + 4000);
}
END_TEST

START_TEST(producer_ids_without_a_controller) {
    memset(id_seen, 0, sizeof id_seen);
    int32_t id = other_than(controller_id());
    ck_assert(take_id(id));
    for (int32_t k = 1; k <= BROKERS; k++)
        if (k != id) place_kill(k);
    int n = 0;
    for (; n < 600; n++) ck_assert(take_id(id));
    while (n < 5000 && take_id(id)) n++;
    ck_assert_int_lt(n, 2000); /* it had no more, and said so */
    for (int32_t k = 1; k <= BROKERS; k++)
        if (k != id) place_start(k);
    for (int32_t k = 1; k <= BROKERS; k++) await_id(k);
    place_kill(id); /* with most of a block */
    place_start(id);
    for (int32_t k = 1; k <= BROKERS; k++) {
        await_id(k);
        for (int i = 0; i < 20; i++) ck_assert(take_id(k));
    }
}
END_TEST

START_TEST(without_a_controller_a_request_waits_and_is_told_so) {
    int32_t id = other_than(controller_id());
    for (int32_t k = 1; k <= BROKERS; k++)
        if (k != id) place_kill(k);
    int64_t begun = sim_now_ns(world);
    ck_assert_int_eq(create_at(id, "t", 1, 1), KERR_NOT_CONTROLLER);
    int64_t took = sim_now_ns(world) - begun;
    ck_assert(took > 3 * SECOND && took < 12 * SECOND);
}
END_TEST

START_TEST(a_controller_that_dies_with_the_request) {
    for (int i = 0; i < 6; i++) {
        char name[8];
        snprintf(name, sizeof name, "t%d", i);
        int32_t controller = controller_id(), id = other_than(controller);
        struct k_create_topics_request q;
        struct k_create_topics_response a;
        struct k_create_topics_request_topics t;
        struct wire_reader r;
        k_create_topics_request_init(&q);
        k_create_topics_request_topics_init(&t);
        t.name = str_from(name);
        t.num_partitions = 1;
        t.replication_factor = 2;
        q.topics = &t;
        q.topics_n = 1;
        k_create_topics_request_encode(&q, call_begin(API_CREATE_TOPICS, 7), 7);
        ck_assert(call_send(id));
        world_run((int64_t)i * 700 * 1000);
        place_kill(controller);
        ck_assert(call_receive(id, &r, 40 * SECOND));
        ck_assert_int_eq(k_create_topics_response_decode(&a, &r, 7), OK);
        int16_t error = a.topics[0].error_code;
        ck_assert_msg(error == 0 || error == KERR_TOPIC_ALREADY_EXISTS, "error %d", error);
        client_hang_up(controller);
        place_start(controller);
        ck_assert(world_until(is_whole, 20 * SECOND));
        await_leader(id, name);
    }
}
END_TEST

START_TEST(a_brokers_configs_are_set_through_any) {
    for (int32_t at = 1; at <= BROKERS; at++) {
        struct k_incremental_alter_configs_request q;
        struct k_incremental_alter_configs_response a;
        struct k_incremental_alter_configs_request_resources res;
        struct k_incremental_alter_configs_request_resources_configs one;
        char id[8];
        snprintf(id, sizeof id, "%d", at);
        k_incremental_alter_configs_request_init(&q);
        k_incremental_alter_configs_request_resources_init(&res);
        k_incremental_alter_configs_request_resources_configs_init(&one);
        one.name = STR_LIT("log.retention.ms");
        one.value = STR_LIT("7200000");
        res.resource_type = 4;
        res.resource_name = str_from(id);
        res.configs = &one;
        q.resources = &res;
        res.configs_n = q.resources_n = 1;
        ck_assert(TRY(at, API_INCREMENTAL_ALTER_CONFIGS, 1, incremental_alter_configs, q, a));
        ck_assert_int_eq(a.responses[0].error_code, 0);
        one.name = STR_LIT("root"); /* a level is its own: no controller is asked */
        one.value = STR_LIT("ERROR");
        res.resource_type = 8;
        ck_assert(TRY(at, API_INCREMENTAL_ALTER_CONFIGS, 1, incremental_alter_configs, q, a));
        ck_assert_int_eq(a.responses[0].error_code, 0);
    }
}
END_TEST

START_TEST(the_quorum_is_described_by_any) {
    for (int32_t at = 1; at <= BROKERS; at++) {
        struct k_describe_quorum_request q;
        struct k_describe_quorum_response a;
        struct k_describe_quorum_request_topics t;
        struct k_describe_quorum_request_topics_partitions p = {0};
        k_describe_quorum_request_init(&q);
        k_describe_quorum_request_topics_init(&t);
        t.topic_name = STR_LIT("__cluster_metadata");
        t.partitions = &p;
        q.topics = &t;
        t.partitions_n = q.topics_n = 1;
        ck_assert(TRY(at, API_DESCRIBE_QUORUM, 2, describe_quorum, q, a));
        const struct k_describe_quorum_response_topics_partitions *got = &a.topics[0].partitions[0];
        ck_assert_int_eq(got->error_code, 0);
        ck_assert_int_eq(got->leader_id, controller_id());
        ck_assert_int_eq(got->current_voters_n, BROKERS);
        ck_assert_int_eq(got->observers_n, 0);
        ck_assert_int_eq(a.nodes_n, BROKERS);
        for (int32_t i = 0; i < BROKERS; i++) {
            const struct k_describe_quorum_response_replica_state *v = &got->current_voters[i];
            ck_assert(uuid_eq(&v->replica_directory_id, log_store_incarnation(places[v->replica_id].b->store)));
            ck_assert(v->log_end_offset >= got->high_watermark - 1 && v->last_caught_up_timestamp > 0);
        }
    }
}
END_TEST

static int16_t remove_voter(int32_t node, struct uuid directory) {
    struct k_remove_raft_voter_request q;
    struct k_remove_raft_voter_response a;
    k_remove_raft_voter_request_init(&q);
    q.voter_id = node;
    q.cluster_id = STR_NULL;
    q.voter_directory_id = directory;
    ck_assert(TRY(controller_id(), API_REMOVE_RAFT_VOTER, 0, remove_raft_voter, q, a));
    return a.error_code;
}

/* KIP-853: a voter is a node and its directory. */
START_TEST(a_voter_is_removed_with_its_directory) {
    int32_t node = other_than(controller_id());
    ck_assert_int_eq(remove_voter(node, *log_store_incarnation(places[controller_id()].b->store)), KERR_VOTER_NOT_FOUND);
    ck_assert_int_eq(remove_voter(node, *log_store_incarnation(places[node].b->store)), KERR_NONE);
    ck_assert_int_eq(remove_voter(node, *log_store_incarnation(places[node].b->store)), KERR_VOTER_NOT_FOUND);
    ck_assert_int_eq(remove_voter(6 - node - controller_id(), (struct uuid){0}), KERR_NONE);
}
END_TEST

/* ---- who leads ------------------------------------------------------------------------------------------------- */

/* Who asks right after a leader's death is told of its successor, not that there is none. */
START_TEST(the_next_leader_is_waited_for) {
    int32_t victim = controller_id(), at = other_than(victim);
    ck_assert_int_eq(create_at(at, "t", 6, 3), 0);
    world_run(SECOND);
    place_kill(victim);
    client_hang_up(victim);
    world_run(MS);
    int64_t begun = sim_now_ns(world);
    struct k_metadata_response a = metadata_of(at, "t", false);
    ck_assert_int_le(sim_now_ns(world) - begun, 200 * MS);
    for (int32_t i = 0; i < 6; i++) ck_assert(a.topics[0].partitions[i].leader_id > 0 && a.topics[0].partitions[i].leader_id != victim);
    /* Without a majority nobody will lead: an answer that comes late at first, and then at once. */
    place_kill(6 - victim - at);
    world_run(MS);
    begun = sim_now_ns(world);
    (void)metadata_of(at, "t", false);
    ck_assert_int_le(sim_now_ns(world) - begun, 400 * MS);
    world_run(3 * SECOND);
    begun = sim_now_ns(world);
    ck_assert_int_eq(leader_at(at, "t"), -1);
    ck_assert_int_le(sim_now_ns(world) - begun, 20 * MS);
}
END_TEST

static int16_t grow_at(int32_t id, const char *name, int32_t count) {
    struct k_create_partitions_request q;
    struct k_create_partitions_response a;
    struct k_create_partitions_request_topics t;
    k_create_partitions_request_init(&q);
    k_create_partitions_request_topics_init(&t);
    t.name = str_from(name);
    t.count = count;
    t.assignments_n = -1;
    q.topics = &t;
    q.topics_n = 1;
    q.timeout_ms = 30000;
    if (!TRY(id, API_CREATE_PARTITIONS, 3, create_partitions, q, a)) return -1000;
    ck_assert_int_eq(a.results_n, 1);
    return a.results[0].error_code;
}

START_TEST(partitions_that_were_added_are_led) {
    int32_t controller = controller_id();
    ck_assert_int_eq(create_at(controller, "t", 2, 3), 0);
    ck_assert_int_eq(grow_at(controller, "t", 8), 0);
    struct k_metadata_response a = metadata_of(controller, "t", false); /* at once */
    ck_assert_int_eq(a.topics[0].partitions_n, 8);
    for (int32_t i = 0; i < 8; i++) ck_assert_int_gt(a.topics[0].partitions[i].leader_id, 0);
    ck_assert_int_eq(grow_at(controller, "t", 4), KERR_INVALID_PARTITIONS);
}
END_TEST

/* What an election of `type` says of each partition; partitions with one replica on `dead` have no leader. */
static void elections_without(int32_t at, const char *topic, int8_t type, int32_t dead, int16_t error) {
    struct k_elect_leaders_request q;
    struct k_elect_leaders_response a;
    struct k_elect_leaders_request_topic_partitions t = {str_from(topic), (int32_t[]){0, 1, 2}, 3};
    struct k_metadata_response m = metadata_of(at, topic, false);
    int32_t without = 0, replica[3];
    for (int32_t i = 0; i < 3; i++) replica[i] = m.topics[0].partitions[i].replica_nodes[0];
    k_elect_leaders_request_init(&q);
    q.election_type = type;
    q.topic_partitions = &t;
    q.topic_partitions_n = 1;
    ck_assert(TRY(at, API_ELECT_LEADERS, 2, elect_leaders, q, a));
    for (int32_t i = 0; i < 3; i++) {
        ck_assert_int_eq(a.replica_election_results[0].partition_result[i].error_code, replica[i] == dead ? error : KERR_ELECTION_NOT_NEEDED);
        without += replica[i] == dead;
    }
    ck_assert_int_eq(without, 1);
}

START_TEST(a_dead_leader_is_not_shown) {
    int32_t controller = controller_id(), at = other_than(controller);
    ck_assert_int_eq(create_at(at, "t", 3, 3), 0);
    ck_assert_int_eq(create_at(at, "alone", 3, 1), 0);
    int32_t victim = other_than(at) == controller ? at : other_than(at); /* not the controller */
    at = victim == at ? controller : at;
    place_kill(victim);
    client_hang_up(victim);
    world_run(SECOND);
    struct k_metadata_response a = metadata_of(at, "t", false);
    ck_assert_int_eq(a.brokers_n, 3); /* as a broker once more: clients that see it go may lose their way */
    a = metadata_of(at, "t", false);
    ck_assert_int_eq(a.brokers_n, 2);
    for (int32_t i = 0; i < 3; i++) {
        const struct k_metadata_response_topics_partitions *p = &a.topics[0].partitions[i];
        ck_assert_int_eq(p->error_code, 0);
        ck_assert(p->leader_id > 0 && p->leader_id != victim);
        ck_assert_int_eq(p->isr_nodes_n, 2);
        ck_assert_int_eq(p->offline_replicas_n, 1);
        ck_assert_int_eq(p->offline_replicas[0], victim);
    }
    elections_without(at, "alone", 1, victim, KERR_ELIGIBLE_LEADERS_NOT_AVAILABLE);
    elections_without(at, "alone", 0, victim, KERR_PREFERRED_LEADER_NOT_AVAILABLE);
    /* Two of three are gone: nobody leads, and the one that is left is all that is in sync. */
    int32_t second = 6 - victim - at;
    place_kill(second);
    client_hang_up(second);
    a = metadata_of(at, "t", false); /* it knows of no leaders yet: clients have no way to lose */
    ck_assert(a.brokers_n == 1 && a.topics[0].partitions[0].leader_id == -1);
    world_run(3 * SECOND);
    a = metadata_of(at, "t", false);
    ck_assert_int_eq(a.brokers_n, 1);
    ck_assert_int_eq(a.controller_id, -1);
    for (int32_t i = 0; i < 3; i++) {
        const struct k_metadata_response_topics_partitions *p = &a.topics[0].partitions[i];
        ck_assert_int_eq(p->error_code, KERR_LEADER_NOT_AVAILABLE);
        ck_assert(p->leader_id == -1 && p->isr_nodes_n == 1 && p->isr_nodes[0] == at && p->offline_replicas_n == 2);
    }
    place_start(victim);
    place_start(second);
    ck_assert(world_until(is_whole, 20 * SECOND));
    world_run(5 * SECOND);
    a = metadata_of(at, "t", false);
    for (int32_t i = 0; i < 3; i++) ck_assert_int_eq(a.topics[0].partitions[i].isr_nodes_n, 3);
}
END_TEST

/* It is back, and `at` has shown it while it was not. */
static void loses_and_finds(int32_t victim, int32_t at) {
    place_kill(victim);
    client_hang_up(victim);
    world_run(SECOND);
    ck_assert_int_eq(metadata_of(at, "t", false).brokers_n, 3);
    place_start(victim);
    ck_assert(world_until(is_whole, 5 * SECOND));
}

/* Clients are to forget what they know of a broker that was lost: one answer leaves it out, when it no longer is. But one that leads what nobody
 * else has is shown, whatever is asked for. */
START_TEST(a_broker_that_was_lost_is_left_out_once) {
    int32_t victim = other_than(controller_id()), at = 6 - victim - controller_id();
    ck_assert_int_eq(create_at(at, "t", 3, 3), 0);
    world_run(SECOND);
    loses_and_finds(victim, at);
    ck_assert_int_eq(metadata_of(at, "t", false).brokers_n, 2);
    ck_assert_int_eq(metadata_of(at, "t", false).brokers_n, 3);
    ck_assert_int_eq(create_at(at, "alone", 3, 1), 0); /* each broker leads one of them */
    static const char *const asked[] = {"t", "alone"};
    for (int i = 0; i < 2; i++) {
        world_run(SECOND);
        loses_and_finds(victim, at);
        for (int again = 0; again < 2; again++) ck_assert_int_eq(metadata_of(at, asked[i], false).brokers_n, 3);
    }
}
END_TEST

START_TEST(a_follower_names_the_leader) {
    ck_assert_int_eq(create_at(1, "t", 1, 3), 0);
    world_run(SECOND);
    int32_t leader = await_leader(1, "t");
    ck_assert_int_eq(produce_at(leader, "t").error, 0);
    for (int32_t id = 1; id <= BROKERS; id++) {
        if (id == leader) continue;
        struct produced r = produce_at(id, "t");
        ck_assert_int_eq(r.error, KERR_NOT_LEADER_OR_FOLLOWER);
        ck_assert_int_eq(r.leader, leader);
        ck_assert_int_ge(r.epoch, 1);
        ck_assert_uint_eq(r.port, KAFKA + leader);
    }
}
END_TEST

/* ---- groups ---------------------------------------------------------------------------------------------------- */

START_TEST(only_the_coordinator_answers_for_a_group) {
    ck_assert_int_eq(create_at(1, "t", 1, 3), 0);
    int32_t at = other_than(controller_id()), coordinator = await_coordinator(at, "g");
    for (int i = 0; i < 40 && commit_at(coordinator, "g", 7); i++) world_run(50 * MS);
    for (int32_t id = 1; id <= BROKERS; id++) {
        ck_assert_int_eq(coordinator_at(id, "g"), coordinator);
        ck_assert_int_eq(committed_at(id, "g"), id == coordinator ? 7 : -1000 - KERR_NOT_COORDINATOR);
        if (id != coordinator) ck_assert_int_eq(commit_at(id, "g", 8), KERR_NOT_COORDINATOR);
    }
}
END_TEST

/* An acknowledged commit is never forgotten, wherever the coordinator goes. */
START_TEST(groups_survive_the_loss_of_any_broker) {
    ck_assert_int_eq(create_at(1, "t", 1, 3), 0);
    int64_t acked = -1, tried = -1;
    await_coordinator(1, "g");
    for (int round = 0; round < 8; round++) {
        for (int i = 0; i < 10; i++) {
            int32_t at = await_coordinator(1 + i % BROKERS, "g");
            if (commit_at(at, "g", ++tried) == 0) acked = tried;
            int64_t now = await_committed(at, "g");
            ck_assert_msg(now >= acked && now <= tried, "offset %lld, acknowledged %lld, tried %lld", (long long)now, (long long)acked, (long long)tried);
        }
        int32_t victim = await_coordinator(1, "g"), at = other_than(victim);
        place_kill(victim);
        client_hang_up(victim);
        int64_t begun = sim_now_ns(world);
        ck_assert_int_ge(await_committed(at, "g"), acked);
        ck_assert_int_lt(sim_now_ns(world) - begun, 2 * SECOND);
        if (commit_at(await_coordinator(at, "g"), "g", ++tried) == 0) acked = tried;
        place_start(victim);
        ck_assert(world_until(is_whole, 20 * SECOND));
        world_run((int64_t)(round % 3) * SECOND);
    }
    ck_assert_int_gt(acked, 50);
}
END_TEST

/* ---- reading from followers -------------------------------------------------------------------------------------- */

START_TEST(readers_are_sent_to_their_rack) {
    ck_assert_int_eq(create_at(1, "t", 1, 3), 0);
    world_run(SECOND);
    int32_t leader = await_leader(1, "t"), near = other_than(leader);
    char rack[16];
    snprintf(rack, sizeof rack, "r%d", near);
    ck_assert_int_eq(produce_at(leader, "t").error, 0);
    world_run(SECOND);
    struct fetched r = fetch_at(leader, "t", 0, rack, 12);
    ck_assert(r.error == 0 && r.preferred == near && r.bytes == 0);
    r = fetch_at(near, "t", 0, rack, 12);
    ck_assert(r.error == 0 && r.preferred == -1 && r.bytes > 0 && r.high_watermark == 1);
    ck_assert_int_eq(fetch_at(near, "t", 2, rack, 12).error, KERR_OFFSET_NOT_AVAILABLE);
    ck_assert_int_eq(fetch_at(near, "t", 0, "", 10).error, KERR_NOT_LEADER_OR_FOLLOWER); /* who cannot say so gets nothing of a follower */
    /* Without a rack, in the leader's, or in one of nobody: from the leader. */
    snprintf(rack, sizeof rack, "r%d", leader);
    const char *racks[] = {"", rack, "elsewhere"};
    for (int i = 0; i < 3; i++) {
        r = fetch_at(leader, "t", 0, racks[i], 12);
        ck_assert(r.error == 0 && r.preferred == -1 && r.bytes > 0);
    }
    snprintf(rack, sizeof rack, "r%d", near);
    place_kill(near);
    client_hang_up(near);
    world_run(2 * SECOND);
    r = fetch_at(leader, "t", 0, rack, 12);
    ck_assert(r.error == 0 && r.preferred == -1 && r.bytes > 0);
}
END_TEST

START_TEST(by_default_everybody_reads_from_the_leader) {
    ck_assert_int_eq(create_at(1, "t", 1, 3), 0);
    int32_t leader = await_leader(1, "t");
    char rack[16];
    snprintf(rack, sizeof rack, "r%d", other_than(leader));
    for (int i = 0; i < 40 && produce_at(leader, "t").error; i++) world_run(50 * MS);
    struct fetched r = fetch_at(leader, "t", 0, rack, 12);
    ck_assert(r.error == 0 && r.preferred == -1 && r.bytes > 0);
}
END_TEST

int main(void) {
    Suite *s = suite_create("surface");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, set_up, world_end);
    tcase_add_test(t, topics_are_made_through_any_broker);
    tcase_add_test(t, topics_are_made_on_first_use_through_any_broker);
    tcase_add_test(t, producer_ids_are_given_out_once);
    tcase_add_test(t, producer_ids_without_a_controller);
    tcase_add_test(t, without_a_controller_a_request_waits_and_is_told_so);
    tcase_add_test(t, a_controller_that_dies_with_the_request);
    tcase_add_test(t, a_brokers_configs_are_set_through_any);
    tcase_add_test(t, the_quorum_is_described_by_any);
    tcase_add_test(t, a_voter_is_removed_with_its_directory);
    tcase_add_test(t, the_next_leader_is_waited_for);
    tcase_add_test(t, partitions_that_were_added_are_led);
    tcase_add_test(t, a_dead_leader_is_not_shown);
    tcase_add_test(t, a_broker_that_was_lost_is_left_out_once);
    tcase_add_test(t, a_follower_names_the_leader);
    tcase_add_test(t, only_the_coordinator_answers_for_a_group);
    tcase_add_test(t, groups_survive_the_loss_of_any_broker);
    tcase_add_test(t, by_default_everybody_reads_from_the_leader);
    suite_add_tcase(s, t);
    t = tcase_create("racks");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, set_up_racks, world_end);
    tcase_add_test(t, readers_are_sent_to_their_rack);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
