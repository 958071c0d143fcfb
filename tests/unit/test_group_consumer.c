/* One consumer group: conversations for each rule, then random ones with the invariants of group_consumer.h. */
#include "group_world.h"

static struct world w;
static struct k_consumer_group_heartbeat_response reply;
static void setup(void) { world_init(&w); }
static void teardown(void) { world_free(&w); }

/* ---- one request in words: "id epoch key=value..." --------------------------------------------- */

/* owned= and the answer: "topic:0,1 topic2:3"; "-" is none; null when it is not there. */
static struct k_consumer_group_heartbeat_request rq;
static struct str list[64];
static struct k_consumer_group_heartbeat_request_topic_partitions owned[16];
static int32_t owned_partitions[16][256];

static const struct world_topic *topic_named(const char *name) {
    for (uint32_t i = 0; i < w.all_n; i++)
        if (w.all[i].exists && strcmp(w.all[i].name, name) == 0) return &w.all[i];
    ck_abort_msg("no topic %s", name);
}
static int32_t parse_owned(char *text) {
    int32_t n = 0;
    if (strcmp(text, "-") == 0) return 0;
    for (char *save, *t = strtok_r(text, "/", &save); t; t = strtok_r(NULL, "/", &save), n++) {
        char *colon = strchr(t, ':');
        *colon = 0;
        owned[n].topic_id = topic_named(t)->id;
        owned[n].partitions = owned_partitions[n];
        owned[n].partitions_n = 0;
        for (char *save2, *p = strtok_r(colon + 1, ",", &save2); p; p = strtok_r(NULL, ",", &save2)) owned_partitions[n][owned[n].partitions_n++] = atoi(p);
    }
    return n;
}
static char words[2000];
static void request_of(const char *text) {
    snprintf(words, sizeof words, "%s", text);
    k_consumer_group_heartbeat_request_init(&rq);
    rq.group_id = STR_LIT("g");
    rq.subscribed_topic_names_n = rq.topic_partitions_n = -1;
    char *save, *word = strtok_r(words, " ", &save);
    rq.member_id = str_from(strcmp(word, "-") == 0 ? "" : word);
    rq.member_epoch = atoi(strtok_r(NULL, " ", &save));
    while ((word = strtok_r(NULL, " ", &save))) {
        char *value = strchr(word, '=');
        *value++ = 0;
        if (strcmp(word, "topics") == 0) {
            rq.subscribed_topic_names = list;
            rq.subscribed_topic_names_n = 0;
            for (char *save2, *t = strtok_r(value, ",", &save2); t; t = strtok_r(NULL, ",", &save2)) list[rq.subscribed_topic_names_n++] = str_from(t);
        } else if (strcmp(word, "owned") == 0) {
            rq.topic_partitions = owned;
            rq.topic_partitions_n = parse_owned(value);
        } else if (strcmp(word, "instance") == 0) rq.instance_id = str_from(value);
        else if (strcmp(word, "rack") == 0) rq.rack_id = str_from(value);
        else if (strcmp(word, "regex") == 0) rq.subscribed_topic_regex = str_from(value);
        else if (strcmp(word, "assignor") == 0) rq.server_assignor = str_from(value);
        else if (strcmp(word, "timeout") == 0) rq.rebalance_timeout_ms = atoi(value);
        else ck_abort_msg("what is %s?", word);
    }
}

static char answer[4000];
static const char *answer_of(void) {
    if (reply.error_code) {
        snprintf(answer, sizeof answer, "error %d", reply.error_code);
        return answer;
    }
    int at = snprintf(answer, sizeof answer, "%d", reply.member_epoch);
    if (!reply.assignment) return answer;
    if (reply.assignment->topic_partitions_n == 0) at += snprintf(answer + at, sizeof answer - (size_t)at, " -");
    for (uint32_t s = 0; s < w.topics.count; s++) { /* in order of names */
        for (int32_t t = 0; t < reply.assignment->topic_partitions_n; t++) {
            const struct k_consumer_group_heartbeat_response_topic_partitions *tp = &reply.assignment->topic_partitions[t];
            if (!uuid_eq(&tp->topic_id, &w.sorted[s]->id)) continue;
            at += snprintf(answer + at, sizeof answer - (size_t)at, " %s:", w.sorted[s]->name);
            for (int32_t p = 0; p < tp->partitions_n; p++) at += snprintf(answer + at, sizeof answer - (size_t)at, "%s%d", p ? "," : "", tp->partitions[p]);
        }
    }
    return answer;
}
static const char *send(int16_t version) {
    arena_reset(&w.arena);
    struct group_client client = {STR_LIT("client"), STR_LIT("/127.0.0.1")};
    consumer_group_heartbeat(w.group, &w.env, &rq, version, &client, STR_LIT("fresh"), &w.arena, &w.out, &reply);
    if (reply.error_code) ck_assert_uint_eq(w.out.count, 0);
    const char *text = answer_of();
    world_commit(&w);
    return text;
}
static const char *say(const char *text) {
    request_of(text);
    return send(1);
}
#define SAY(text, expected) ck_assert_str_eq(say(text), expected)

static enum consumer_group_due tick(void) {
    arena_reset(&w.arena);
    enum consumer_group_due due = consumer_group_tick(w.group, &w.env, &w.arena, &w.out);
    if (due == CONSUMER_GROUP_ASSIGN) {
        struct consumer_group_assign *job = consumer_group_assign_begin(w.group, &w.env);
        ck_assert_ptr_nonnull(job);
        consumer_group_assign_run(job);
        consumer_group_assign_finish(w.group, &w.env, job, &w.out);
    }
    if (due == CONSUMER_GROUP_REGEX) {
        struct consumer_group_regex *job = consumer_group_regex_begin(w.group, &w.env);
        ck_assert_ptr_nonnull(job);
        while (consumer_group_regex_run(job, &w.env)) {}
        consumer_group_regex_finish(w.group, &w.env, job, &w.arena, &w.out);
    }
    if (due != CONSUMER_GROUP_NOTHING) world_commit(&w);
    return due;
}

#define JOIN " 0 timeout=10000 owned=- "

/* ---- conversations ----------------------------------------------------------------------------- */

START_TEST(first_member_gets_everything) {
    world_topic(&w, "t", 3);
    SAY("a" JOIN "topics=t", "1 t:0,1,2");
    SAY("a 1", "1");
    ck_assert_int_eq(consumer_group_state(w.group), CONSUMER_GROUP_STABLE);
    ck_assert_int_eq(reply.heartbeat_interval_ms, 5000);
}
END_TEST

START_TEST(second_member_waits_until_the_first_has_let_go) {
    world_topic(&w, "t", 4);
    SAY("a" JOIN "topics=t", "1 t:0,1,2,3");
    SAY("b" JOIN "topics=t", "2 -");                /* all are with a */
    SAY("a 1", "1 t:0,1");                           /* to give up 2 and 3; stays in its epoch */
    SAY("b 2", "2");
    SAY("a 1 owned=t:0,1,2,3", "1");                 /* not yet */
    SAY("b 2", "2");
    ck_assert_int_eq(consumer_group_state(w.group), CONSUMER_GROUP_RECONCILING);
    SAY("a 1 owned=t:0,1", "2");                     /* done: the epoch moves, the assignment is as it was */
    SAY("b 2", "2 t:2,3");
    ck_assert_int_eq(consumer_group_state(w.group), CONSUMER_GROUP_STABLE);
}
END_TEST

START_TEST(who_leaves_frees_partitions) {
    world_topic(&w, "t", 2);
    SAY("a" JOIN "topics=t", "1 t:0,1");
    SAY("b" JOIN "topics=t", "2 -");
    SAY("a -1", "-1");
    SAY("b 2", "3 t:0,1");
    SAY("a 1", "error 25");
    SAY("b -1", "-1");
    ck_assert_int_eq(consumer_group_state(w.group), CONSUMER_GROUP_EMPTY);
    ck_assert_int_eq(w.group->epoch, 4);
    ck_assert(!consumer_group_is_gone(w.group));
    consumer_group_delete(w.group, &w.out);
    world_commit(&w);
    ck_assert(consumer_group_is_gone(w.group));
}
END_TEST

START_TEST(epochs_are_checked) {
    world_topic(&w, "t", 2);
    SAY("a" JOIN "topics=t", "1 t:0,1");
    SAY("a 2", "error 110");
    SAY("x 1", "error 25");
    world_topic(&w, "u", 2);
    SAY("a 1 topics=t,u", "2 t:0,1 u:0,1");
    SAY("a 1", "error 110");                         /* behind, and does not say what it owns */
    SAY("a 1 owned=t:0,1", "2");                     /* its answer was lost: it owns nothing that is not its own */
    SAY("a 0 timeout=10000 owned=- topics=t,u", "2 t:0,1 u:0,1");
    SAY("b" JOIN "topics=u", "3 -");
    SAY("a 2", "2 t:0,1");
    SAY("a 1 owned=t:0,1", "3");                     /* its last two answers were lost */
    SAY("a 1 owned=t:0,1", "error 110");
}
END_TEST

START_TEST(requests_are_checked) {
    world_topic(&w, "t", 2);
    SAY("a 0 owned=- topics=t", "error 42");
    SAY("a 0 timeout=1 topics=t", "error 42");
    SAY("a 0 timeout=1 owned=t:0 topics=t", "error 42");
    SAY("a 0 timeout=1 owned=-", "error 42");
    SAY("a -3", "error 42");
    SAY("a -2", "error 42");
    SAY("-" JOIN "topics=t", "error 42");
    SAY("a" JOIN "topics=t assignor=no", "error 112");
    ck_assert_str_eq(reply.error_message.p, "ServerAssignor no is not supported. Supported assignors: uniform, range.");
    SAY("a" JOIN "topics=t instance=", "error 42");
    SAY("a" JOIN "topics=t rack=", "error 42");
    request_of("-" JOIN "topics=t");
    ck_assert_str_eq(send(0), "1 t:0,1");            /* version 0: the group makes the id */
    ck_assert(str_is(reply.member_id, "fresh"));
    w.env.max_size = 1;
    SAY("b" JOIN "topics=t", "error 81");
    SAY("fresh 1", "1");
}
END_TEST

START_TEST(static_members_come_back) {
    world_topic(&w, "t", 4);
    SAY("a" JOIN "topics=t instance=i", "1 t:0,1,2,3");
    SAY("b" JOIN "topics=t", "2 -");
    SAY("a 1 instance=i", "1 t:0,1");
    SAY("a 1 instance=i owned=t:0,1", "2");
    SAY("b 2", "2 t:2,3");
    SAY("c" JOIN "topics=t instance=i", "error 111"); /* in use */
    SAY("a -2 instance=i", "-2");
    SAY("b 2", "2");                                  /* nothing moves */
    SAY("c" JOIN "topics=t instance=i", "2 t:0,1");
    SAY("a 2 instance=i", "error 82");
    SAY("b 2", "2");
    ck_assert_uint_eq(w.group->member_count, 2);
    SAY("c -1 instance=i", "-1");
    SAY("b 2", "3 t:0,1,2,3");
    SAY("c -1 instance=i", "error 25");
}
END_TEST

START_TEST(silent_members_are_removed) {
    world_topic(&w, "t", 2);
    SAY("a" JOIN "topics=t", "1 t:0,1");
    SAY("b" JOIN "topics=t", "2 -");
    ck_assert_int_eq(tick(), CONSUMER_GROUP_NOTHING);
    w.env.now_ms += 30000;
    SAY("b 2", "2");
    ck_assert_int_eq(consumer_group_deadline_ms(w.group, &w.env), w.env.now_ms + 15000);
    w.env.now_ms += 15000;
    ck_assert_int_eq(tick(), CONSUMER_GROUP_RECORDS);
    ck_assert_int_eq(tick(), CONSUMER_GROUP_RECORDS); /* the assignment */
    ck_assert_int_eq(tick(), CONSUMER_GROUP_NOTHING);
    SAY("a 1", "error 25");
    SAY("b 2", "3 t:0,1");
    w.env.now_ms += 45001;
    ck_assert_int_eq(tick(), CONSUMER_GROUP_RECORDS);
    ck_assert_uint_eq(w.group->member_count, 0);
    ck_assert_int_eq(tick(), CONSUMER_GROUP_NOTHING);
}
END_TEST

/* Tombstones of all would not fit into one batch, as their ids are long: then nobody would ever go. */
START_TEST(many_silent_members_go_one_batch_after_the_other) {
    enum { MEMBERS = 150, ID_BYTES = 30000 };
    static char id[ID_BYTES];
    memset(id, 'm', sizeof id);
    world_topic(&w, "t", 2);
    for (int i = 0; i < MEMBERS; i++) {
        request_of("m" JOIN "topics=t");
        snprintf(id, 8, "%07d", i);
        rq.member_id = (struct str){id, sizeof id};
        (void)send(1);
        ck_assert_int_eq(reply.error_code, 0);
    }
    w.env.now_ms += 45000;
    int ticks = 0;
    while (w.group->member_count > 0 && ticks++ < 20) {
        arena_reset(&w.arena);
        ck_assert_int_eq(consumer_group_tick(w.group, &w.env, &w.arena, &w.out), CONSUMER_GROUP_RECORDS);
        ck_assert_uint_lt(w.out.bytes.len, 5 << 20);
        world_commit(&w);
    }
    ck_assert_uint_eq(w.group->member_count, 0);
}
END_TEST

START_TEST(who_does_not_let_go_is_removed) {
    world_topic(&w, "t", 2);
    SAY("a" JOIN "topics=t", "1 t:0,1");
    SAY("b" JOIN "topics=t", "2 -");
    SAY("a 1", "1 t:0");
    for (int i = 0; i < 2; i++) {
        w.env.now_ms += 4999;
        SAY("a 1 owned=t:0,1", "1");
        ck_assert_int_eq(tick(), CONSUMER_GROUP_NOTHING);
    }
    w.env.now_ms += 2;
    ck_assert_int_eq(tick(), CONSUMER_GROUP_RECORDS);
    SAY("a 1", "error 25");
    SAY("b 2", "3 t:0,1");
}
END_TEST

START_TEST(topics_that_come_and_grow) {
    SAY("a" JOIN "topics=t,u", "1 -");
    SAY("a 1", "1");
    struct world_topic *t = world_topic(&w, "t", 1);
    SAY("a 1", "2 t:0");
    world_topic(&w, "other", 1);
    SAY("a 2", "2");
    t->partitions = 3;
    world_changed(&w);
    SAY("a 2", "3 t:0,1,2");
    snprintf(t->rack, sizeof t->rack, "r1"); /* KIP-1101: racks of partitions are part of the hash */
    world_changed(&w);
    SAY("a 3", "4");
    t->exists = false;
    world_changed(&w);
    SAY("a 4", "4 -"); /* to be given up */
    SAY("a 4 owned=-", "5");
    world_topic(&w, "t", 1); /* anew: another id */
    SAY("a 5", "6 t:0");
}
END_TEST

START_TEST(subscriptions_change) {
    world_topic(&w, "t", 2);
    world_topic(&w, "u", 2);
    SAY("a" JOIN "topics=t", "1 t:0,1");
    SAY("a 1 topics=u", "1 -");
    SAY("a 1 owned=-", "2 u:0,1");
    SAY("a 2 topics=u,t owned=u:0,1", "3 t:0,1 u:0,1");
    SAY("a 3 topics=t owned=t:0,1", "4 t:0,1"); /* u is no longer owned: nothing to wait for */
    SAY("a 4 rack=r", "4");
    SAY("a 4 assignor=range", "4");
    SAY("a 4 topics=t timeout=5 owned=t:0,1", "4 t:0,1"); /* says all: is told all */
}
END_TEST

START_TEST(assignors_are_voted_for) {
    world_topic(&w, "t", 3);
    world_topic(&w, "u", 3);
    SAY("a" JOIN "topics=t,u assignor=range", "1 t:0,1,2 u:0,1,2");
    SAY("b" JOIN "topics=t,u assignor=range", "2 -");
    SAY("a 1", "1 t:0,1 u:0,1");
    SAY("a 1 owned=t:0,1/u:0,1", "2");
    SAY("b 2", "2 t:2 u:2");
}
END_TEST

START_TEST(assignments_wait_for_their_interval) {
    world_topic(&w, "t", 4);
    w.env.assignment_interval_ms = 1000;
    SAY("a" JOIN "topics=t", "1 t:0,1,2,3");
    w.env.now_ms += 400;
    SAY("b" JOIN "topics=t", "1 -");
    SAY("c" JOIN "topics=t", "1 -");
    ck_assert_int_eq(consumer_group_state(w.group), CONSUMER_GROUP_ASSIGNING);
    ck_assert_int_eq(tick(), CONSUMER_GROUP_NOTHING);
    ck_assert_int_eq(consumer_group_deadline_ms(w.group, &w.env), w.env.now_ms + 600);
    w.env.now_ms += 600;
    ck_assert_int_eq(tick(), CONSUMER_GROUP_RECORDS);
    ck_assert_int_eq(w.group->assignment_epoch, 3);
    SAY("a 1", "1 t:0,1");
    SAY("b 1", "3");
}
END_TEST

START_TEST(expressions) {
    world_topic(&w, "foo-1", 1);
    world_topic(&w, "bar", 1);
    struct world_topic *hidden = world_topic(&w, "foo-internal", 1);
    hidden->internal = true;
    SAY("a" JOIN "regex=foo.*", "1 foo-1:0");
    SAY("a 1 regex=(", "error 128");
    SAY("a 1 regex=(a)\\1", "error 128");
    SAY("a 1", "1");
    w.env.now_ms += 2000;
    ck_assert_int_eq(tick(), CONSUMER_GROUP_REGEX);
    ck_assert_int_eq(tick(), CONSUMER_GROUP_NOTHING);
    world_topic(&w, "foo-2", 1);
    w.env.now_ms += 2000;
    ck_assert_int_eq(tick(), CONSUMER_GROUP_REGEX);
    ck_assert_int_eq(tick(), CONSUMER_GROUP_RECORDS);
    SAY("a 1", "2 foo-1:0 foo-2:0");
    SAY("b" JOIN "regex=foo-2 topics=bar", "3 bar:0");
    SAY("a 2 topics=bar regex=", "2 -");
    ck_assert_ptr_null(consumer_regex_find(w.group, STR_LIT("foo.*")));
    ck_assert(consumer_group_subscribes(w.group, STR_LIT("foo-2")));
    ck_assert(!consumer_group_subscribes(w.group, STR_LIT("foo-1")));
    ck_assert(consumer_group_subscribes(w.group, STR_LIT("bar")));
}
END_TEST

START_TEST(offsets_are_checked) {
    bool each;
    world_topic(&w, "t", 2);
    ck_assert_int_eq(consumer_group_check_commit(w.group, &w.env, STR_LIT(""), STR_NULL, -1, false, 9, &each), 0);
    SAY("a" JOIN "topics=t", "1 t:0,1");
    ck_assert_int_eq(consumer_group_check_commit(w.group, &w.env, STR_LIT(""), STR_NULL, -1, false, 9, &each), 25);
    ck_assert_int_eq(consumer_group_check_commit(w.group, &w.env, STR_LIT("a"), STR_NULL, 1, false, 9, &each), 0);
    ck_assert(!each);
    ck_assert_int_eq(consumer_group_check_commit(w.group, &w.env, STR_LIT("a"), STR_NULL, 1, false, 8, &each), 35);
    ck_assert_int_eq(consumer_group_check_commit(w.group, &w.env, STR_LIT("a"), STR_NULL, 2, false, 9, &each), 113);
    world_topic(&w, "u", 2);
    SAY("a 1 topics=t,u", "2 t:0,1 u:0,1");
    ck_assert_int_eq(consumer_group_check_commit(w.group, &w.env, STR_LIT("a"), STR_NULL, 1, false, 9, &each), 0);
    ck_assert(each); /* KIP-1251 */
    ck_assert_int_eq(consumer_group_check_partition(w.group, &w.env, STR_LIT("a"), 1, STR_LIT("t"), 0), 0);
    ck_assert_int_eq(consumer_group_check_partition(w.group, &w.env, STR_LIT("a"), 1, STR_LIT("u"), 0), 113);
    ck_assert_int_eq(consumer_group_check_partition(w.group, &w.env, STR_LIT("a"), 1, STR_LIT("none"), 0), 113);
    ck_assert_int_eq(consumer_group_check_fetch(w.group, STR_NULL, -1), 0);
    ck_assert_int_eq(consumer_group_check_fetch(w.group, STR_LIT("a"), 2), 0);
    ck_assert_int_eq(consumer_group_check_fetch(w.group, STR_LIT("a"), 1), 113);
    ck_assert_int_eq(consumer_group_check_fetch(w.group, STR_LIT("x"), 1), 25);
}
END_TEST

START_TEST(what_was_not_appended_did_not_happen) {
    world_topic(&w, "t", 2);
    w.drop_append = true;
    SAY("a" JOIN "topics=t", "1 t:0,1");
    ck_assert(consumer_group_is_gone(w.group));
    SAY("a" JOIN "topics=t", "1 t:0,1");
    char *before = world_dump(w.group);
    w.drop_append = true;
    SAY("b" JOIN "topics=t", "2 -");
    char *after = world_dump(w.group);
    ck_assert_str_eq(before, after);
    free(before);
    free(after);
    SAY("b 2", "error 25");
    SAY("a 1", "1");
}
END_TEST

START_TEST(describe) {
    world_topic(&w, "t", 2);
    SAY("b" JOIN "topics=t instance=i", "1 t:0,1");
    SAY("a" JOIN "topics=t regex=x", "2 -");
    struct k_consumer_group_describe_response_groups d;
    k_consumer_group_describe_response_groups_init(&d);
    ck_assert_int_eq(consumer_group_describe(w.group, &w.env, &w.arena, &d), OK);
    ck_assert(str_is(d.group_state, "Reconciling"));
    ck_assert_int_eq(d.group_epoch, 2);
    ck_assert_int_eq(d.assignment_epoch, 2);
    ck_assert(str_is(d.assignor_name, "uniform"));
    ck_assert_int_eq(d.members_n, 2);
    ck_assert(str_is(d.members[0].member_id, "a") && str_is(d.members[0].subscribed_topic_regex, "x"));
    ck_assert_int_eq(d.members[0].assignment.topic_partitions_n, 0);
    ck_assert_int_eq(d.members[0].target_assignment.topic_partitions_n, 1);
    ck_assert(str_is(d.members[1].instance_id, "i"));
    ck_assert_int_eq(d.members[1].assignment.topic_partitions[0].partitions_n, 2);
    ck_assert(str_is(d.members[1].assignment.topic_partitions[0].topic_name, "t"));
    ck_assert_int_eq(d.members[1].member_type, 1);
}
END_TEST

static const struct uuid *hash_id;
static const char *hash_rack;
static bool hash_by_name(const void *image, struct str name, struct group_topic *out) {
    bool found = world_by_name(image, name, out);
    out->id = *hash_id;
    return found;
}
static uint32_t hash_racks(const void *image, const struct uuid *id, int32_t partition, struct str *out, uint32_t max) {
    (void)image, (void)id, (void)partition, (void)max;
    out[0] = str_from(hash_rack);
    return hash_rack[0] != 0;
}

/* Kafka 4.3.1's own values for these topics (hash4j 0.22). */
START_TEST(hash_of_the_topics_is_kafkas) {
    struct world_topic *t = world_topic(&w, "topic-1", 2);
    for (int i = 0; i < 12; i++) t->id.b[i] = (uint8_t)i;
    static const uint8_t end[] = {0x0c, 0x0d, 0x0e, 0x0f};
    struct uuid id = t->id;
    memcpy(id.b + 12, end, sizeof end);
    hash_id = &id;
    hash_rack = "";
    w.topics.by_name = hash_by_name;
    w.topics.racks = hash_racks;
    struct change c;
    struct str name = STR_LIT("topic-1");
    change_init(&c, w.group, &w.env, &w.arena, &w.out);
    ck_assert_int_eq(change_hash(&c), 0);
    c.has_member = true;
    c.meta.subscribed_topic_names = &name;
    c.meta.subscribed_topic_names_n = 1;
    ck_assert_int_eq(change_hash(&c), -2150960471116953782);
    hash_rack = "r1";
    ck_assert_int_eq(change_hash(&c), -1808604579999494285);
}
END_TEST

#include "group_random.h"

int main(void) {
    Suite *s = suite_create("group_consumer");
    TCase *t = tcase_create("group_consumer");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, first_member_gets_everything);
    tcase_add_test(t, second_member_waits_until_the_first_has_let_go);
    tcase_add_test(t, who_leaves_frees_partitions);
    tcase_add_test(t, epochs_are_checked);
    tcase_add_test(t, requests_are_checked);
    tcase_add_test(t, static_members_come_back);
    tcase_add_test(t, silent_members_are_removed);
    tcase_add_test(t, many_silent_members_go_one_batch_after_the_other);
    tcase_add_test(t, who_does_not_let_go_is_removed);
    tcase_add_test(t, topics_that_come_and_grow);
    tcase_add_test(t, subscriptions_change);
    tcase_add_test(t, assignors_are_voted_for);
    tcase_add_test(t, assignments_wait_for_their_interval);
    tcase_add_test(t, expressions);
    tcase_add_test(t, offsets_are_checked);
    tcase_add_test(t, what_was_not_appended_did_not_happen);
    tcase_add_test(t, describe);
    tcase_add_test(t, hash_of_the_topics_is_kafkas);
    group_random_add(t);
    suite_add_tcase(s, t);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
