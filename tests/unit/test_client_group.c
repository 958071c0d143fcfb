/* Group members of libvarve: the assignors by their rules, and both protocols against a scripted
 * coordinator that says what real ones say rarely: fenced, moved, loading, nonsense. */
#include "tests/unit/tiny_broker.h"

#include "client/group_assign.h"
#include "client/group_impl.h"

enum { TIMEOUT_MS = 30000, MEMBERS_MAX = 7, TOPICS_MAX = 4 };

/* ---- assignors -------------------------------------------------------------------------------- */

struct world { /* of one assignment */
    struct assign_member members[MEMBERS_MAX];
    struct assign_topic topics[TOPICS_MAX];
    struct str wanted[MEMBERS_MAX][TOPICS_MAX];
    struct assign_partition owned[MEMBERS_MAX][256];
    struct assign_input in;
    struct assign_output out;
    uint64_t dice;
};

static const char *const ids[MEMBERS_MAX] = {"g", "b", "e", "a", "d", "c", "f"};
static const char *const names[TOPICS_MAX] = {"t2", "t0", "t3", "t1"};

static uint32_t roll(uint64_t *dice, uint32_t n) {
    *dice ^= *dice << 13;
    *dice ^= *dice >> 7;
    *dice ^= *dice << 17;
    return (uint32_t)(*dice >> 20) % n;
}

static void make_world(struct world *w, uint64_t seed, bool same_topics) {
    *w = (struct world){.dice = seed * 0x9e3779b97f4a7c15 + 1};
    w->in = (struct assign_input){w->members, 1 + (int32_t)roll(&w->dice, MEMBERS_MAX), w->topics, 1 + (int32_t)roll(&w->dice, TOPICS_MAX)};
    for (int32_t i = 0; i < w->in.topic_count; i++) w->topics[i] = (struct assign_topic){str_from(names[i]), (int32_t)roll(&w->dice, 20)};
    for (int32_t m = 0; m < w->in.member_count; m++) {
        w->members[m] = (struct assign_member){.id = ids[m], .topics = w->wanted[m], .owned = w->owned[m], .generation = 1};
        for (int32_t i = 0; i < w->in.topic_count; i++) {
            if (same_topics || roll(&w->dice, 3) > 0) w->wanted[m][w->members[m].topic_count++] = str_from(names[i]);
        }
    }
}

static bool wants(const struct assign_member *m, struct str topic) {
    for (int32_t i = 0; i < m->topic_count; i++) {
        if (str_eq(m->topics[i], topic)) return true;
    }
    return false;
}

static int32_t wanted_partitions(const struct world *w) {
    int32_t count = 0;
    for (int32_t i = 0; i < w->in.topic_count; i++) {
        bool any = false;
        for (int32_t m = 0; m < w->in.member_count; m++) any |= wants(&w->members[m], w->topics[i].name);
        count += any ? w->topics[i].partition_count : 0;
    }
    return count;
}

/* Each partition at most once, in order, and to one who wants it. Returns how many. */
static int32_t assign(struct world *w, const char *assignor) {
    assign_free(&w->out);
    ck_assert_int_eq(group_assign(assignor, &w->in, &w->out), OK);
    for (int32_t i = 0; i < w->out.count; i++) {
        const struct assign_row *row = &w->out.rows[i];
        ck_assert(wants(&w->members[row->member], row->topic));
        if (i == 0) continue;
        const struct assign_row *before = row - 1;
        int order = strncmp(before->topic.p, row->topic.p, 2);
        ck_assert(order < 0 || (order == 0 && before->partition < row->partition));
    }
    return w->out.count;
}

static void loads(const struct world *w, int32_t *min, int32_t *max) {
    int32_t load[MEMBERS_MAX] = {0};
    for (int32_t i = 0; i < w->out.count; i++) load[w->out.rows[i].member]++;
    *min = INT32_MAX;
    *max = 0;
    for (int32_t m = 0; m < w->in.member_count; m++) {
        *min = MIN(*min, load[m]);
        *max = MAX(*max, load[m]);
    }
}

/* Every member keeps what it has and is given, minus what it is not given: as after a rebalance. */
static void follow(struct world *w, int32_t generation) {
    for (int32_t m = 0; m < w->in.member_count; m++) {
        w->members[m].owned_count = 0;
        w->members[m].generation = generation;
    }
    for (int32_t i = 0; i < w->out.count; i++) {
        struct assign_member *m = &w->members[w->out.rows[i].member];
        m->owned[m->owned_count++] = (struct assign_partition){w->out.rows[i].topic, w->out.rows[i].partition};
    }
}

START_TEST(all_is_given_out) {
    struct world w;
    for (uint64_t seed = 1; seed < 200; seed++) {
        for (int same = 0; same < 2; same++) {
            int32_t min, max;
            make_world(&w, seed, same);
            ck_assert_int_eq(assign(&w, "range"), wanted_partitions(&w));
            ck_assert_int_eq(assign(&w, "roundrobin"), wanted_partitions(&w));
            loads(&w, &min, &max);
            if (same) ck_assert_int_le(max - min, 1);
            ck_assert_int_eq(assign(&w, "cooperative-sticky"), wanted_partitions(&w));
            loads(&w, &min, &max);
            if (same) ck_assert_int_le(max - min, 1);
            assign_free(&w.out);
        }
    }
}
END_TEST

START_TEST(range_gives_runs) {
    struct world w = {.dice = 1};
    struct str topic = STR_LIT("t");
    w.topics[0] = (struct assign_topic){topic, 7};
    for (int m = 0; m < 3; m++) w.members[m] = (struct assign_member){.id = ids[m], .topics = &topic, .topic_count = 1};
    w.members[2].instance_id = "zz"; /* static ones are first */
    w.in = (struct assign_input){w.members, 3, w.topics, 1};
    ck_assert_int_eq(assign(&w, "range"), 7);
    static const int32_t expected[7] = {2, 2, 2, 1, 1, 0, 0}; /* e (static), b, g */
    for (int i = 0; i < 7; i++) ck_assert_int_eq(w.out.rows[i].member, expected[i]);
    ck_assert_int_eq(assign(&w, "roundrobin"), 7);
    static const int32_t circle[7] = {2, 1, 0, 2, 1, 0, 2};
    for (int i = 0; i < 7; i++) ck_assert_int_eq(w.out.rows[i].member, circle[i]);
    assign_free(&w.out);
    ck_assert_int_eq(group_assign("sticky", &w.in, &w.out), ERR_UNSUPPORTED);
    ck_assert_int_eq(group_assign("range,roundrobin", &w.in, &w.out), ERR_UNSUPPORTED);
    ck_assert(assignors_known("range,roundrobin") && !assignors_known("") && !assignors_known("range,") && !assignors_known("x"));
}
END_TEST

START_TEST(sticky_moves_in_two_steps) {
    struct world w;
    for (uint64_t seed = 1; seed < 200; seed++) {
        make_world(&w, seed, seed % 2);
        int32_t all = wanted_partitions(&w), min, max;
        ck_assert_int_eq(assign(&w, "cooperative-sticky"), all);
        follow(&w, 1);
        /* nothing has changed: nothing moves */
        ck_assert_int_eq(assign(&w, "cooperative-sticky"), all);
        for (int32_t i = 0; i < w.out.count; i++) {
            const struct assign_member *m = &w.members[w.out.rows[i].member];
            bool had = false;
            for (int32_t j = 0; j < m->owned_count; j++) had |= str_eq(m->owned[j].topic, w.out.rows[i].topic) && m->owned[j].partition == w.out.rows[i].partition;
            ck_assert(had);
        }
        /* one comes, or goes */
        follow(&w, 2);
        if (seed % 3 && w.in.member_count < MEMBERS_MAX) {
            struct assign_member *m = &w.members[w.in.member_count];
            *m = (struct assign_member){.id = ids[w.in.member_count], .topics = w.wanted[0], .topic_count = w.members[0].topic_count,
                                        .owned = w.owned[w.in.member_count], .generation = -1};
            w.in.member_count++;
        } else if (w.in.member_count > 1) {
            w.in.member_count--;
        }
        all = wanted_partitions(&w);
        assign(&w, "cooperative-sticky");
        for (int32_t i = 0; i < w.out.count; i++) { /* nobody gets what another one still has */
            for (int32_t m = 0; m < w.in.member_count; m++) {
                for (int32_t j = 0; m != w.out.rows[i].member && j < w.members[m].owned_count; j++) {
                    const struct assign_partition *p = &w.members[m].owned[j];
                    ck_assert(!str_eq(p->topic, w.out.rows[i].topic) || p->partition != w.out.rows[i].partition);
                }
            }
        }
        int32_t rounds = 0, given;
        do { /* where all want the same, what was given back goes where it was meant to; else it may take more */
            follow(&w, 3 + rounds++);
            given = assign(&w, "cooperative-sticky");
        } while (given < all && seed % 2 == 0 && rounds < 5);
        ck_assert_int_eq(given, all);
        loads(&w, &min, &max);
        if (seed % 2) ck_assert_int_le(max - min, 1);
        assign_free(&w.out);
    }
}
END_TEST

START_TEST(sticky_believes_the_newer_generation) {
    struct world w = {.dice = 1};
    struct str topic = STR_LIT("t");
    w.topics[0] = (struct assign_topic){topic, 1};
    for (int m = 0; m < 2; m++) {
        w.members[m] = (struct assign_member){.id = ids[m], .topics = &topic, .topic_count = 1, .owned = w.owned[m], .owned_count = 1, .generation = 5 + m};
        w.owned[m][0] = (struct assign_partition){topic, 0};
    }
    w.in = (struct assign_input){w.members, 2, w.topics, 1};
    ck_assert_int_eq(assign(&w, "cooperative-sticky"), 1);
    ck_assert_int_eq(w.out.rows[0].member, 1);
    w.members[0].generation = 6; /* both say so: neither may go on */
    ck_assert_int_eq(assign(&w, "cooperative-sticky"), 0);
    w.owned[0][0] = (struct assign_partition){STR_LIT("other"), -7}; /* nonsense is no claim */
    ck_assert_int_eq(assign(&w, "cooperative-sticky"), 1);
    assign_free(&w.out);
}
END_TEST

/* ---- a coordinator by script ------------------------------------------------------------------ */

struct seen { int16_t api_key; int32_t epoch; int32_t owned; bool full; }; /* a request; owned -1: not told */
struct script {
    struct tiny_broker tiny;
    struct k_api_versions_response_api_keys apis[10];
    atomic_int assigned_now;      /* how many partitions of "t" a heartbeat assigns */
    atomic_int fail_next;         /* error of the next heartbeat; 0 none */
    atomic_int commit_fail_next;
    atomic_int find_fail_next;
    atomic_bool garble;
    uint64_t dice;
    int32_t epoch, told;          /* told: partitions in the latest assignment; -1 none yet */
    int64_t committed[TINY_PARTITIONS];
    struct seen seen[512];
    int seen_count;
};

static struct seen *see(struct script *s, int16_t api_key) {
    struct seen *seen = &s->seen[MIN(s->seen_count, 511)];
    if (s->seen_count < 511) s->seen_count++;
    *seen = (struct seen){.api_key = api_key, .owned = -1};
    return seen;
}

static void answer_find(struct script *s, struct wire_reader *r, struct wire_writer *w, int16_t version) {
    struct k_find_coordinator_request m;
    struct k_find_coordinator_response res;
    struct k_find_coordinator_response_coordinators c;
    if (k_find_coordinator_request_decode(&m, r, version)) abort();
    k_find_coordinator_response_init(&res);
    k_find_coordinator_response_coordinators_init(&c);
    c.error_code = (int16_t)atomic_exchange(&s->find_fail_next, 0);
    c.key = STR_LIT("g");
    c.node_id = res.node_id = 1;
    c.host = res.host = STR_LIT("127.0.0.1");
    c.port = res.port = s->tiny.port;
    if (version >= 4) {
        res.coordinators = &c;
        res.coordinators_n = 1;
        res.node_id = 0;
        res.host = STR_NULL;
        res.port = 0;
    } else {
        res.error_code = c.error_code;
    }
    k_find_coordinator_response_encode(&res, w, version);
}

static void answer_heartbeat(struct script *s, struct wire_reader *r, struct wire_writer *w, int16_t version) {
    struct k_consumer_group_heartbeat_request m;
    struct k_consumer_group_heartbeat_response res;
    struct k_consumer_group_heartbeat_response_assignment a;
    struct k_consumer_group_heartbeat_response_topic_partitions t;
    int32_t numbers[TINY_PARTITIONS] = {0, 1};
    if (k_consumer_group_heartbeat_request_decode(&m, r, version)) abort();
    struct seen *seen = see(s, API_CONSUMER_GROUP_HEARTBEAT);
    seen->epoch = m.member_epoch;
    seen->full = m.subscribed_topic_names_n > 0;
    if (m.topic_partitions_n >= 0) seen->owned = m.topic_partitions_n == 0 ? 0 : m.topic_partitions[0].partitions_n;
    k_consumer_group_heartbeat_response_init(&res);
    k_consumer_group_heartbeat_response_assignment_init(&a);
    k_consumer_group_heartbeat_response_topic_partitions_init(&t);
    res.heartbeat_interval_ms = 20;
    res.error_code = (int16_t)atomic_exchange(&s->fail_next, 0);
    if (m.member_epoch == 0) {
        s->epoch++;
        s->told = -1;
    }
    int32_t now = atomic_load(&s->assigned_now);
    if (res.error_code == KERR_NONE && m.member_epoch >= 0 && s->told != now) {
        if (s->told >= 0) s->epoch++;
        s->told = now;
        t.topic_id = s->tiny.topic_id;
        t.partitions = numbers;
        t.partitions_n = now;
        a.topic_partitions = &t;
        a.topic_partitions_n = 1;
        res.assignment = &a;
    }
    res.member_id = m.member_id;
    res.member_epoch = m.member_epoch < 0 ? m.member_epoch : s->epoch;
    k_consumer_group_heartbeat_response_encode(&res, w, version);
}

static void answer_offset_fetch(struct script *s, struct wire_reader *r, struct wire_writer *w, int16_t version) {
    struct k_offset_fetch_request m;
    struct k_offset_fetch_response res;
    struct k_offset_fetch_response_groups g;
    struct k_offset_fetch_response_groups_topics t;
    struct k_offset_fetch_response_groups_topics_partitions p[TINY_PARTITIONS];
    if (k_offset_fetch_request_decode(&m, r, version) || version < 8) abort();
    see(s, API_OFFSET_FETCH);
    k_offset_fetch_response_init(&res);
    k_offset_fetch_response_groups_init(&g);
    k_offset_fetch_response_groups_topics_init(&t);
    t.name = STR_LIT("t");
    t.partitions = p;
    for (int32_t i = 0; i < m.groups[0].topics[0].partition_indexes_n; i++) {
        k_offset_fetch_response_groups_topics_partitions_init(&p[i]);
        p[i].partition_index = m.groups[0].topics[0].partition_indexes[i];
        p[i].committed_offset = s->committed[p[i].partition_index];
        t.partitions_n++;
    }
    g.group_id = STR_LIT("g");
    g.topics = &t;
    g.topics_n = 1;
    res.groups = &g;
    res.groups_n = 1;
    k_offset_fetch_response_encode(&res, w, version);
}

static void answer_commit(struct script *s, struct wire_reader *r, struct wire_writer *w, int16_t version) {
    struct k_offset_commit_request m;
    struct k_offset_commit_response res;
    struct k_offset_commit_response_topics t;
    struct k_offset_commit_response_topics_partitions p[TINY_PARTITIONS];
    if (k_offset_commit_request_decode(&m, r, version)) abort();
    see(s, API_OFFSET_COMMIT)->epoch = m.generation_id_or_member_epoch;
    k_offset_commit_response_init(&res);
    k_offset_commit_response_topics_init(&t);
    t.name = STR_LIT("t");
    t.partitions = p;
    int16_t code = (int16_t)atomic_exchange(&s->commit_fail_next, 0);
    for (int32_t i = 0; i < m.topics[0].partitions_n; i++) {
        const struct k_offset_commit_request_topics_partitions *from = &m.topics[0].partitions[i];
        k_offset_commit_response_topics_partitions_init(&p[i]);
        p[i].partition_index = from->partition_index;
        p[i].error_code = code;
        if (from->committed_offset < s->committed[from->partition_index]) abort(); /* never back */
        if (code == KERR_NONE) s->committed[from->partition_index] = from->committed_offset;
        t.partitions_n++;
    }
    res.topics = &t;
    res.topics_n = 1;
    k_offset_commit_response_encode(&res, w, version);
}

/* One record for each offset below 100, one at a time. */
static void answer_fetch(struct wire_reader *r, struct wire_writer *w, int16_t version) {
    struct k_fetch_request m;
    struct k_fetch_response res;
    struct k_fetch_response_responses topic;
    struct k_fetch_response_responses_partitions parts[TINY_PARTITIONS];
    static uint8_t batches[TINY_PARTITIONS][256];
    if (k_fetch_request_decode(&m, r, version) || m.topics_n != 1) abort();
    k_fetch_response_init(&res);
    k_fetch_response_responses_init(&topic);
    topic.topic = m.topics[0].topic;
    topic.topic_id = m.topics[0].topic_id;
    topic.partitions = parts;
    topic.partitions_n = m.topics[0].partitions_n;
    for (int32_t i = 0; i < topic.partitions_n; i++) {
        const struct k_fetch_request_topics_partitions *asked = &m.topics[0].partitions[i];
        k_fetch_response_responses_partitions_init(&parts[i]);
        parts[i].partition_index = asked->partition;
        parts[i].high_watermark = 100;
        parts[i].records = (struct bytes){(const uint8_t *)"", 0};
        if (asked->fetch_offset >= 100) continue;
        struct batch_builder b;
        uint8_t *batch;
        size_t len;
        batch_builder_init(&b, CODEC_NONE, 1024);
        if (batch_builder_add(&b, 1, BYTES_NULL, (struct bytes){(const uint8_t *)"v", 1}, NULL, 0) || batch_builder_finish(&b, &batch, &len)) abort();
        batch_builder_free(&b);
        store_be64(batch, (uint64_t)asked->fetch_offset); /* outside the checksum */
        memcpy(batches[i], batch, MIN(len, sizeof batches[i]));
        parts[i].records = (struct bytes){batches[i], (int32_t)len};
        free(batch);
    }
    res.responses = &topic;
    res.responses_n = 1;
    k_fetch_response_encode(&res, w, version);
    poll(NULL, 0, 1);
}

static void answer_join(struct script *s, struct wire_reader *r, struct wire_writer *w, int16_t version) {
    struct k_join_group_request m;
    struct k_join_group_response res;
    struct k_join_group_response_members member;
    if (k_join_group_request_decode(&m, r, version)) abort();
    struct seen *seen = see(s, API_JOIN_GROUP);
    seen->epoch = m.member_id.len > 0;
    k_join_group_response_init(&res);
    k_join_group_response_members_init(&member);
    res.member_id = STR_LIT("m1");
    if (m.member_id.len == 0) {
        res.error_code = KERR_MEMBER_ID_REQUIRED;
    } else {
        res.generation_id = ++s->epoch;
        res.protocol_name = m.protocols[0].name;
        res.leader = STR_LIT("m1");
        member.member_id = STR_LIT("m1");
        member.metadata = m.protocols[0].metadata;
        res.members = &member;
        res.members_n = 1;
    }
    k_join_group_response_encode(&res, w, version);
}

static void answer_sync(struct script *s, struct wire_reader *r, struct wire_writer *w, int16_t version) {
    struct k_sync_group_request m;
    struct k_sync_group_response res;
    if (k_sync_group_request_decode(&m, r, version)) abort();
    see(s, API_SYNC_GROUP)->epoch = m.generation_id;
    k_sync_group_response_init(&res);
    res.error_code = (int16_t)atomic_exchange(&s->fail_next, 0);
    if (m.assignments_n == 1) res.assignment = m.assignments[0].assignment;
    k_sync_group_response_encode(&res, w, version);
}

static void answer_classic_heartbeat(struct script *s, struct wire_reader *r, struct wire_writer *w, int16_t version) {
    struct k_heartbeat_request m;
    struct k_heartbeat_response res;
    if (k_heartbeat_request_decode(&m, r, version)) abort();
    see(s, API_HEARTBEAT)->epoch = m.generation_id;
    k_heartbeat_response_init(&res);
    res.error_code = (int16_t)atomic_exchange(&s->fail_next, 0);
    k_heartbeat_response_encode(&res, w, version);
}

static void answer_leave(struct script *s, struct wire_reader *r, struct wire_writer *w, int16_t version) {
    struct k_leave_group_request m;
    struct k_leave_group_response res;
    if (k_leave_group_request_decode(&m, r, version)) abort();
    see(s, API_LEAVE_GROUP);
    k_leave_group_response_init(&res);
    k_leave_group_response_encode(&res, w, version);
}

static enum tiny_fate handle(void *ctx, const struct kafka_request_header *h, struct wire_reader *r, struct wire_writer *w) {
    struct script *s = ctx;
    size_t begin = w->len;
    switch (h->api_key) {
    case API_FIND_COORDINATOR: answer_find(s, r, w, h->api_version); break;
    case API_CONSUMER_GROUP_HEARTBEAT: answer_heartbeat(s, r, w, h->api_version); break;
    case API_OFFSET_FETCH: answer_offset_fetch(s, r, w, h->api_version); break;
    case API_OFFSET_COMMIT: answer_commit(s, r, w, h->api_version); break;
    case API_FETCH: answer_fetch(r, w, h->api_version); break;
    case API_JOIN_GROUP: answer_join(s, r, w, h->api_version); break;
    case API_SYNC_GROUP: answer_sync(s, r, w, h->api_version); break;
    case API_HEARTBEAT: answer_classic_heartbeat(s, r, w, h->api_version); break;
    case API_LEAVE_GROUP: answer_leave(s, r, w, h->api_version); break;
    default: abort();
    }
    if (atomic_load(&s->garble) && h->api_key != API_FETCH) {
        for (size_t i = begin; i < w->len; i++) {
            if (roll(&s->dice, 12) == 0) w->data[i] = (uint8_t)roll(&s->dice, 256);
        }
    }
    return TINY_ANSWER;
}

static struct script *script_start(void) {
    struct script *s = calloc(1, sizeof *s);
    ck_assert_ptr_nonnull(s);
    const struct k_api_versions_response_api_keys apis[] = {
        {API_FIND_COORDINATOR, 0, 6}, {API_CONSUMER_GROUP_HEARTBEAT, 0, 1}, {API_OFFSET_FETCH, 8, 9}, {API_OFFSET_COMMIT, 2, 9},
        {API_FETCH, 4, 12}, {API_JOIN_GROUP, 2, 9}, {API_SYNC_GROUP, 0, 5}, {API_HEARTBEAT, 0, 4}, {API_LEAVE_GROUP, 0, 5}};
    memcpy(s->apis, apis, sizeof apis);
    s->tiny = (struct tiny_broker){.ctx = s, .handle = handle, .apis = s->apis, .api_count = (int)(sizeof apis / sizeof apis[0]),
                                   .topic_id = {{1, 2, 3, 4, 5}}};
    s->told = -1;
    s->dice = 88172645463325252;
    s->committed[0] = 5;
    s->committed[1] = -1;
    atomic_store(&s->assigned_now, TINY_PARTITIONS);
    tiny_start(&s->tiny);
    return s;
}

struct member { struct client *client; struct group *group; };

static struct member member_new(struct script *s, enum group_protocol protocol, const char *assignors) {
    struct client_config ccfg;
    struct group_config cfg;
    char why[256];
    static const char *const topics[] = {"t"};
    client_config_init(&ccfg);
    ccfg.bootstrap = s->tiny.bootstrap;
    ccfg.backoff_ms = 5;
    ccfg.backoff_max_ms = 20;
    group_config_init(&cfg);
    cfg.group = "g";
    cfg.topics = topics;
    cfg.topic_count = 1;
    cfg.protocol = protocol;
    cfg.assignors = assignors;
    cfg.heartbeat_ms = 20;
    cfg.auto_commit_ms = 30;
    cfg.consumer.max_wait_ms = 1;
    struct member m = {.client = client_create(&ccfg, why, sizeof why)};
    ck_assert_ptr_nonnull(m.client);
    m.group = group_create(m.client, &cfg);
    ck_assert_msg(m.group != NULL, "%s", client_error(m.client));
    return m;
}

/* The next event that is none about records. */
static const struct consumer_event *rebalance(struct member *m) {
    const struct consumer_event *e;
    for (int i = 0; i < 100000; i++) {
        enum err err = group_poll(m->group, TIMEOUT_MS, &e);
        ck_assert_msg(err == OK, "%s", client_error(m->client));
        if (e->kind >= CONSUMER_ASSIGNED) return e;
        if (e->kind == CONSUMER_ERROR) ck_abort_msg("%s", e->message);
    }
    ck_abort_msg("no rebalance");
    return NULL;
}

static void expect_parts(const struct consumer_event *e, enum consumer_event_kind kind, int32_t first, int32_t count) {
    ck_assert_int_eq(e->kind, kind);
    ck_assert_int_eq(e->partition_count, count);
    for (int32_t i = 0; i < count; i++) {
        ck_assert_str_eq(e->partitions[i].topic, "t");
        ck_assert_int_eq(e->partitions[i].partition, first + i);
    }
}

static int64_t next_record(struct member *m, int32_t partition) {
    const struct consumer_event *e;
    for (int i = 0; i < 100000; i++) {
        enum err err = group_poll(m->group, TIMEOUT_MS, &e);
        ck_assert_msg(err == OK, "%s", client_error(m->client));
        ck_assert_int_le(e->kind, CONSUMER_END);
        if (e->kind == CONSUMER_RECORD && e->partition == partition) return e->record.offset;
    }
    ck_abort_msg("no record");
    return -1;
}

static void member_end(struct member *m, struct script *s) {
    enum err err = group_close(m->group, TIMEOUT_MS);
    ck_assert_msg(err == OK, "%s", client_error(m->client));
    client_destroy(m->client);
    tiny_stop(&s->tiny);
}

static int count_seen(const struct script *s, int16_t api_key, int32_t epoch) {
    int n = 0;
    for (int i = 0; i < s->seen_count; i++) n += s->seen[i].api_key == api_key && s->seen[i].epoch == epoch;
    return n;
}

START_TEST(heartbeats_assign_and_take_away) {
    struct script *s = script_start();
    struct member m = member_new(s, GROUP_CONSUMER, "range");
    const struct consumer_event *e = rebalance(&m);
    expect_parts(e, CONSUMER_ASSIGNED, 0, 2);
    ck_assert_int_eq(e->partitions[0].offset, 5);
    ck_assert_int_eq(e->partitions[1].offset, -1);
    ck_assert_int_eq(group_seek(m.group, "t", 1, 0), OK); /* the script knows no ListOffsets */
    ck_assert_int_eq(group_seek(m.group, "t", 2, 0), ERR_NOT_FOUND);
    ck_assert_int_eq(next_record(&m, 0), 5);
    ck_assert_int_eq(next_record(&m, 1), 0);
    ck_assert_int_eq(group_commit(m.group, TIMEOUT_MS), OK);
    atomic_store(&s->commit_fail_next, KERR_NOT_COORDINATOR); /* found again, and sent again */
    ck_assert_int_ge(next_record(&m, 0), 6);
    ck_assert_int_eq(group_commit(m.group, TIMEOUT_MS), OK);
    atomic_store(&s->commit_fail_next, KERR_STALE_MEMBER_EPOCH);
    ck_assert_int_ge(next_record(&m, 0), 7);
    ck_assert_int_eq(group_commit(m.group, TIMEOUT_MS), OK);
    atomic_store(&s->assigned_now, 1);
    int64_t last = next_record(&m, 1);
    e = rebalance(&m);
    expect_parts(e, CONSUMER_REVOKED, 1, 1);
    ck_assert_int_ge(e->partitions[0].offset, last + 1);
    int64_t given = e->partitions[0].offset;
    for (int i = 0; i < 20; i++) next_record(&m, 0);
    atomic_store(&s->fail_next, KERR_FENCED_MEMBER_EPOCH);
    expect_parts(rebalance(&m), CONSUMER_LOST, 0, 1);
    atomic_store(&s->fail_next, KERR_COORDINATOR_LOAD_IN_PROGRESS);
    atomic_store(&s->find_fail_next, KERR_COORDINATOR_NOT_AVAILABLE);
    expect_parts(rebalance(&m), CONSUMER_ASSIGNED, 0, 1);
    struct group_stats stats = group_stats(m.group);
    ck_assert_int_gt(stats.generation, 0);
    ck_assert_int_eq(stats.protocol, GROUP_CONSUMER);
    member_end(&m, s);
    ck_assert_int_eq(s->committed[1], given); /* what was handed out before it was given back */
    ck_assert_int_eq(count_seen(s, API_CONSUMER_GROUP_HEARTBEAT, -1), 1);
    bool told_two = false, told_one = false;
    for (int i = 0; i < s->seen_count; i++) {
        const struct seen *seen = &s->seen[i];
        if (seen->api_key != API_CONSUMER_GROUP_HEARTBEAT) continue;
        if (seen->epoch == 0) ck_assert(seen->full && seen->owned == 0); /* whoever joins owns nothing, and says so */
        told_two |= seen->epoch > 0 && seen->owned == 2;
        told_one |= told_two && seen->owned == 1;
    }
    ck_assert(told_two && told_one);
    free(s);
}
END_TEST

/* While the user works on a record, other calls on the client commit what came before it, and not the record. */
START_TEST(a_record_in_hand_is_not_committed) {
    struct script *s = script_start();
    struct member m = member_new(s, GROUP_CONSUMER, "range");
    expect_parts(rebalance(&m), CONSUMER_ASSIGNED, 0, 2);
    ck_assert_int_eq(group_seek(m.group, "t", 1, 0), OK); /* the script knows no ListOffsets */
    ck_assert_int_eq(next_record(&m, 0), 5);
    ck_assert_int_eq(group_commit(m.group, TIMEOUT_MS), OK);
    int64_t at = next_record(&m, 0);
    commit_start(m.group); /* as if it had been due, and the coordinator had been away */
    while (m.group->commit.wanted || m.group->commit.in_flight) client_turn(m.client, client_now_ns() + 1000000);
    ck_assert_int_eq(consumer_find(m.group->consumer, "t", 0)->committed, at);
    ck_assert_int_eq(group_commit(m.group, TIMEOUT_MS), OK); /* says that it is done */
    ck_assert_int_eq(consumer_find(m.group->consumer, "t", 0)->committed, at + 1);
    member_end(&m, s);
    free(s);
}
END_TEST

START_TEST(refusals_are_final) {
    static const struct { int16_t code; enum err err; } cases[] = {
        {KERR_UNRELEASED_INSTANCE_ID, ERR_FENCED}, {KERR_UNSUPPORTED_ASSIGNOR, ERR_INVALID}, {KERR_GROUP_AUTHORIZATION_FAILED, ERR_INVALID},
        {KERR_GROUP_MAX_SIZE_REACHED, ERR_INVALID}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct script *s = script_start();
        const struct consumer_event *e;
        atomic_store(&s->fail_next, cases[i].code);
        struct member m = member_new(s, GROUP_CONSUMER, "range");
        for (int twice = 0; twice < 2; twice++) {
            ck_assert_int_eq(group_poll(m.group, TIMEOUT_MS, &e), cases[i].err);
            ck_assert_int_eq(client_error_code(m.client), cases[i].code);
        }
        member_end(&m, s);
        free(s);
    }
}
END_TEST

START_TEST(auto_falls_back_to_classic) {
    struct script *s = script_start();
    atomic_store(&s->fail_next, KERR_UNSUPPORTED_VERSION);
    struct member m = member_new(s, GROUP_AUTO, "range");
    expect_parts(rebalance(&m), CONSUMER_ASSIGNED, 0, 2);
    ck_assert_int_eq(group_stats(m.group).protocol, GROUP_CLASSIC);
    ck_assert(group_stats(m.group).leader);
    ck_assert_int_eq(group_seek(m.group, "t", 1, 0), OK);
    ck_assert_int_eq(next_record(&m, 0), 5);
    member_end(&m, s);
    ck_assert_int_eq(count_seen(s, API_JOIN_GROUP, 0), 1); /* without an id, then with it */
    ck_assert_int_eq(count_seen(s, API_JOIN_GROUP, 1), 1);
    ck_assert_int_eq(count_seen(s, API_LEAVE_GROUP, 0), 1);
    ck_assert_int_ge(s->committed[0], 6);
    free(s);
}
END_TEST

START_TEST(classic_members_follow_the_coordinator) {
    bool cooperative = _i == 1;
    struct script *s = script_start();
    struct member m = member_new(s, GROUP_CLASSIC, cooperative ? "cooperative-sticky" : "range,roundrobin");
    atomic_store(&s->fail_next, KERR_REBALANCE_IN_PROGRESS); /* of the first SyncGroup */
    expect_parts(rebalance(&m), CONSUMER_ASSIGNED, 0, 2);
    ck_assert_int_eq(group_seek(m.group, "t", 1, 0), OK);
    ck_assert_int_eq(next_record(&m, 0), 5);
    atomic_store(&s->fail_next, KERR_REBALANCE_IN_PROGRESS); /* of a Heartbeat */
    if (cooperative) {
        expect_parts(rebalance(&m), CONSUMER_ASSIGNED, 0, 0); /* what it has, it keeps */
    } else {
        expect_parts(rebalance(&m), CONSUMER_REVOKED, 0, 2);
        expect_parts(rebalance(&m), CONSUMER_ASSIGNED, 0, 2);
    }
    int64_t at = next_record(&m, 0);
    ck_assert_int_ge(at, 6);
    atomic_store(&s->fail_next, KERR_ILLEGAL_GENERATION);
    expect_parts(rebalance(&m), CONSUMER_LOST, 0, 2);
    expect_parts(rebalance(&m), CONSUMER_ASSIGNED, 0, 2);
    next_record(&m, 0);
    atomic_store(&s->fail_next, KERR_UNKNOWN_MEMBER_ID);
    expect_parts(rebalance(&m), CONSUMER_LOST, 0, 2);
    expect_parts(rebalance(&m), CONSUMER_ASSIGNED, 0, 2);
    atomic_store(&s->commit_fail_next, KERR_UNKNOWN_MEMBER_ID);
    next_record(&m, 0);
    enum err err = group_commit(m.group, TIMEOUT_MS);
    ck_assert(err == OK || err == ERR_FENCED); /* the automatic one may have had the error */
    atomic_store(&s->fail_next, KERR_FENCED_INSTANCE_ID);
    const struct consumer_event *e;
    while ((err = group_poll(m.group, TIMEOUT_MS, &e)) == OK) continue;
    ck_assert_int_eq(err, ERR_FENCED);
    member_end(&m, s);
    ck_assert_int_eq(count_seen(s, API_JOIN_GROUP, 0), 2); /* first, and when the id was not known any more */
    free(s);
}
END_TEST

START_TEST(nonsense_ends_nowhere_bad) {
    for (int protocol = GROUP_CLASSIC; protocol <= GROUP_CONSUMER; protocol++) {
        struct script *s = script_start();
        s->dice += (uint64_t)_i * 7919;
        struct member m = member_new(s, protocol, "cooperative-sticky");
        const struct consumer_event *e;
        for (int i = 0; i < 300; i++) {
            atomic_store(&s->garble, i % 3 != 0);
            enum err err = group_poll(m.group, 2, &e);
            if (err != OK && err != ERR_TIMEOUT) break; /* refused, as far as it understood */
        }
        atomic_store(&s->garble, false);
        group_destroy(m.group);
        client_destroy(m.client);
        tiny_stop(&s->tiny);
        free(s);
    }
}
END_TEST

START_TEST(settings_that_contradict) {
    struct client_config ccfg;
    struct group_config cfg;
    char why[256];
    client_config_init(&ccfg);
    struct client *c = client_create(&ccfg, why, sizeof why);
    for (int i = 0; i < 5; i++) {
        group_config_init(&cfg);
        static const char *const topics[] = {"t"};
        cfg.group = i == 0 ? "" : "g";
        cfg.topics = topics;
        cfg.topic_count = i != 1;
        if (i == 2) cfg.regex = "x";
        if (i == 3) cfg.assignors = "range,fair";
        if (i == 4) cfg.session_timeout_ms = cfg.heartbeat_ms;
        ck_assert_ptr_null(group_create(c, &cfg));
        ck_assert_str_ne(client_error(c), "");
    }
    client_destroy(c);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("group");
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, all_is_given_out);
    tcase_add_test(tc, range_gives_runs);
    tcase_add_test(tc, sticky_moves_in_two_steps);
    tcase_add_test(tc, sticky_believes_the_newer_generation);
    tcase_add_test(tc, heartbeats_assign_and_take_away);
    tcase_add_test(tc, a_record_in_hand_is_not_committed);
    tcase_add_test(tc, refusals_are_final);
    tcase_add_test(tc, auto_falls_back_to_classic);
    tcase_add_loop_test(tc, classic_members_follow_the_coordinator, 0, 2);
    tcase_add_loop_test(tc, nonsense_ends_nowhere_bad, 0, 4);
    tcase_add_test(tc, settings_that_contradict);
    Suite *suite = suite_create("client_group");
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed;
}
