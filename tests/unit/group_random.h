/* Random conversations: members that obey the protocol, of both protocols, over a network that loses answers and a log that loses appends;
 * they die, come back, change their minds; topics come, grow and go; the coordinator restarts from its log. After every step:
 *   no partition is with two members, in the group's books and as members themselves know it; epochs only grow
 * and now and then: the log, and what compaction would leave of it, replays to the same state. In the end faults cease, and
 * everybody gets what is theirs: the group is stable and every partition of every topic that is subscribed to has its owner. */
enum { R_TOPICS = 10, R_PARTITIONS = 6, R_CLIENTS = 9 };
enum r_kind { R_CONSUMER, R_EAGER, R_COOPERATIVE };

struct r_client {
    bool alive, joined, say_all;
    enum r_kind kind;
    char id[32], instance[16];
    int32_t epoch;
    uint32_t topics;                       /* bits */
    const char *regex;                     /* of consumers; NULL: none */
    bool has[R_TOPICS][R_PARTITIONS], is_to_have[R_TOPICS][R_PARTITIONS];
    bool changed;                          /* `has` is not told yet */
};
struct r_world {
    uint64_t seed;
    struct r_client clients[R_CLIENTS];
    uint32_t ids;
    int32_t group_epoch, assignment_epoch;
    struct consumer_group_assign *assign;
    struct consumer_group_regex *regex;
    uint32_t steps, lost, failed, restarts, fenced, joins, gains;
};
static struct r_world r;

static uint32_t dice(uint32_t n) {
    r.seed ^= r.seed << 13;
    r.seed ^= r.seed >> 7;
    r.seed ^= r.seed << 17;
    return (uint32_t)((r.seed * 0x2545f4914f6cdd1dull >> 33) % n);
}

static uint32_t topic_of(const struct uuid *id) { return load_be32(id->b + 12); }
static bool in_group(const struct r_client *c) {
    const struct consumer_member *m = consumer_member_find(w.group, str_from(c->id));
    return m && m->current.epoch != CONSUMER_STATIC_LEAVE_EPOCH;
}

static void drop_all(struct r_client *c) { memset(c->has, 0, sizeof c->has); }
static void leave_behind(struct r_client *c) {
    drop_all(c);
    memset(c->is_to_have, 0, sizeof c->is_to_have);
    c->joined = false;
    c->epoch = 0;
}

/* The client uses what it was given: nobody else who is in the group may still do so. */
static void gain(struct r_client *c) {
    for (uint32_t t = 0; t < R_TOPICS; t++) {
        for (uint32_t p = 0; p < R_PARTITIONS; p++) {
            if (!c->is_to_have[t][p] || c->has[t][p]) continue;
            for (uint32_t i = 0; i < R_CLIENTS; i++) {
                struct r_client *other = &r.clients[i];
                ck_assert_msg(other == c || !other->alive || !other->has[t][p] || !in_group(other), "seed: %s and %s both have %u-%u", c->id, other->id, t, p);
            }
            c->has[t][p] = c->changed = true;
            r.gains++;
        }
    }
}
static void give_up(struct r_client *c) {
    for (uint32_t t = 0; t < R_TOPICS; t++)
        for (uint32_t p = 0; p < R_PARTITIONS; p++)
            if (c->has[t][p] && !c->is_to_have[t][p]) c->has[t][p] = false, c->changed = true;
}

static void check_books(void) {
    static uint8_t owners[R_TOPICS + 64][64];
    memset(owners, 0, sizeof owners);
    uint32_t total = 0;
    for (const struct consumer_member *m = w.group->members; m; m = m->hh.next) {
        const struct group_parts *sets[] = {&m->current.assigned, &m->current.pending};
        for (int s = 0; s < 2; s++) {
            for (uint32_t i = 0; i < sets[s]->n; i++, total++) {
                const struct group_part *p = &sets[s]->list[i];
                ck_assert_msg(owners[topic_of(&p->topic)][p->partition]++ == 0, "two owners");
                ck_assert_ptr_eq(consumer_owner_of(w.group, &p->topic, p->partition), m);
            }
        }
        ck_assert_int_le(m->current.epoch, w.group->assignment_epoch);
        if (m->current.state != CONSUMER_MEMBER_UNREVOKED) ck_assert_uint_eq(m->current.pending.n, 0);
    }
    ck_assert_uint_eq(HASH_CNT(hh, w.group->owners), total);
    ck_assert_int_le(w.group->assignment_epoch, w.group->epoch);
    ck_assert_int_ge(w.group->epoch, r.group_epoch);
    ck_assert_int_ge(w.group->assignment_epoch, r.assignment_epoch);
    r.group_epoch = w.group->epoch;
    r.assignment_epoch = w.group->assignment_epoch;
}

/* The log, whole or compacted, says what the group says. */
static struct consumer_group *replayed(bool compacted) {
    struct consumer_group *g = consumer_group_new(STR_LIT("g"));
    for (size_t i = 0; i < w.log_n; i++) {
        const struct world_record *rec = &w.log[i];
        bool last = true;
        for (size_t j = i + 1; j < w.log_n && compacted && last; j++)
            last = w.log[j].key_len != rec->key_len || memcmp(w.log[j].key, rec->key, (size_t)rec->key_len) != 0;
        if (compacted && (!last || !rec->value)) continue;
        struct group_key key;
        ck_assert_int_eq(group_key_parse((struct bytes){rec->key, rec->key_len}, &key), OK);
        if (key.type != K_GROUP_METADATA_KEY_TYPE)
            ck_assert_int_eq(consumer_group_replay(g, &w.env, &key, (struct bytes){rec->value, rec->value_len}), OK);
    }
    consumer_group_loaded(g, &w.env);
    char *is = world_dump(g), *was = world_dump(w.group);
    ck_assert_str_eq(is, was);
    free(is);
    free(was);
    return g;
}
static void restart(void) {
    if (r.assign) consumer_group_assign_drop(w.group, r.assign);
    if (r.regex) consumer_group_regex_drop(w.group, r.regex);
    r.assign = NULL;
    r.regex = NULL;
    struct consumer_group *g = replayed(dice(2));
    consumer_group_free(w.group);
    w.group = g;
    r.restarts++;
}

/* ---- the consumer protocol --------------------------------------------------------------------- */

static struct k_consumer_group_heartbeat_request_topic_partitions r_owned[R_TOPICS];
static int32_t r_partitions[R_TOPICS][R_PARTITIONS];
static struct str r_names[R_TOPICS];

static int32_t names_of(const struct r_client *c) {
    int32_t n = 0;
    for (uint32_t t = 0; t < R_TOPICS && t < w.all_n; t++)
        if (c->topics >> t & 1) r_names[n++] = str_from(w.all[t].name);
    return n;
}
static int32_t owned_of(const struct r_client *c) {
    int32_t n = 0;
    for (uint32_t t = 0; t < R_TOPICS; t++) {
        int32_t k = 0;
        for (int32_t p = 0; p < R_PARTITIONS; p++)
            if (c->has[t][p]) r_partitions[n][k++] = p;
        if (k == 0) continue;
        r_owned[n] = (struct k_consumer_group_heartbeat_request_topic_partitions){w.all[t].id, r_partitions[n], k};
        n++;
    }
    return n;
}
static void take_answer(struct r_client *c) {
    memset(c->is_to_have, 0, sizeof c->is_to_have);
    for (int32_t t = 0; t < reply.assignment->topic_partitions_n; t++)
        for (int32_t p = 0; p < reply.assignment->topic_partitions[t].partitions_n; p++)
            c->is_to_have[topic_of(&reply.assignment->topic_partitions[t].topic_id)][reply.assignment->topic_partitions[t].partitions[p]] = true;
}

static void heartbeat(struct r_client *c, bool faults) {
    if (c->joined && dice(3)) give_up(c); /* or it takes its time */
    k_consumer_group_heartbeat_request_init(&rq);
    rq.group_id = STR_LIT("g");
    rq.member_id = str_from(c->id);
    rq.member_epoch = c->joined ? c->epoch : 0;
    if (c->instance[0]) rq.instance_id = str_from(c->instance);
    rq.subscribed_topic_names_n = rq.topic_partitions_n = -1;
    bool all = !c->joined || c->say_all;
    if (all) {
        rq.rebalance_timeout_ms = 20000;
        rq.subscribed_topic_names = r_names;
        rq.subscribed_topic_names_n = names_of(c);
        rq.subscribed_topic_regex = str_from(c->regex ? c->regex : "");
    }
    if (all || c->changed) {
        rq.topic_partitions = r_owned;
        rq.topic_partitions_n = owned_of(c);
    }
    w.drop_append = faults && dice(8) == 0;
    bool fails = w.drop_append;
    arena_reset(&w.arena);
    struct group_client client = {STR_LIT("client"), STR_LIT("/127.0.0.1")};
    consumer_group_heartbeat(w.group, &w.env, &rq, 1, &client, STR_NULL, &w.arena, &w.out, &reply);
    bool ok = world_commit(&w);
    if ((fails && !ok) || (faults && dice(12) == 0)) { /* an error, or silence: try again, and say everything */
        r.failed += !ok;
        r.lost += ok;
        c->say_all = true;
        return;
    }
    if (reply.error_code == KERR_UNRELEASED_INSTANCE_ID) return;
    if (reply.error_code) {
        ck_assert_msg(reply.error_code == KERR_FENCED_MEMBER_EPOCH || reply.error_code == KERR_UNKNOWN_MEMBER_ID || reply.error_code == KERR_FENCED_INSTANCE_ID,
                      "error %d", reply.error_code);
        r.fenced++;
        leave_behind(c);
        if (reply.error_code == KERR_FENCED_INSTANCE_ID) c->alive = false;
        return;
    }
    if (c->joined) ck_assert_int_ge(reply.member_epoch, c->epoch);
    r.joins += !c->joined;
    c->joined = true;
    c->say_all = c->changed = false;
    c->epoch = reply.member_epoch;
    if (!reply.assignment) return;
    take_answer(c);
    if (dice(4)) {
        give_up(c);
        gain(c);
    }
}

/* ---- the classic protocol ---------------------------------------------------------------------- */

static struct bytes subscription_of(const struct r_client *c) {
    struct k_consumer_protocol_subscription s;
    struct k_consumer_protocol_subscription_owned_partitions *list_of = arena_array(&w.arena, R_TOPICS, sizeof *list_of);
    k_consumer_protocol_subscription_init(&s);
    s.topics = r_names;
    s.topics_n = names_of(c);
    s.owned_partitions = list_of;
    s.owned_partitions_n = owned_of(c);
    for (int32_t t = 0; t < s.owned_partitions_n; t++) {
        list_of[t].topic = str_from(w.all[topic_of(&r_owned[t].topic_id)].name);
        list_of[t].partitions = r_owned[t].partitions;
        list_of[t].partitions_n = r_owned[t].partitions_n;
    }
    struct wire_writer writer;
    wire_writer_init(&writer, 1 << 16);
    wire_put_i16(&writer, 3);
    k_consumer_protocol_subscription_encode(&s, &writer, 3);
    uint8_t *copy = arena_alloc(&w.arena, writer.len);
    memcpy(copy, writer.data, writer.len);
    struct bytes out = {copy, (int32_t)writer.len};
    wire_writer_free(&writer);
    return out;
}

static void classic_error(struct r_client *c, int16_t code) {
    if (code == KERR_REBALANCE_IN_PROGRESS) {
        c->joined = false;
        return;
    }
    ck_assert_msg(code == KERR_UNKNOWN_MEMBER_ID || code == KERR_ILLEGAL_GENERATION || code == KERR_FENCED_INSTANCE_ID, "error %d", code);
    r.fenced++;
    leave_behind(c);
    if (code == KERR_FENCED_INSTANCE_ID) c->alive = false;
    if (code == KERR_UNKNOWN_MEMBER_ID) c->id[0] = 0;
}

static void classic_sync(struct r_client *c, bool faults) {
    struct k_sync_group_request sync;
    struct k_sync_group_response answered;
    k_sync_group_request_init(&sync);
    sync.group_id = STR_LIT("g");
    sync.member_id = str_from(c->id);
    sync.generation_id = c->epoch;
    sync.group_instance_id = c->instance[0] ? str_from(c->instance) : STR_NULL;
    sync.protocol_type = STR_LIT("consumer");
    sync.protocol_name = STR_LIT("range");
    consumer_group_sync(w.group, &w.env, &sync, &w.arena, &answered);
    if (faults && dice(12) == 0) {
        c->joined = false;
        return;
    }
    if (answered.error_code) {
        classic_error(c, answered.error_code);
        return;
    }
    struct wire_reader reader = wire_reader_init(answered.assignment.p, (size_t)answered.assignment.len, &w.arena);
    ck_assert_int_eq(wire_get_i16(&reader), 3);
    struct k_consumer_protocol_assignment a;
    ck_assert_int_eq(k_consumer_protocol_assignment_decode(&a, &reader, 3), OK);
    memset(c->is_to_have, 0, sizeof c->is_to_have);
    for (int32_t t = 0; t < a.assigned_partitions_n; t++)
        for (int32_t p = 0; p < a.assigned_partitions[t].partitions_n; p++) {
            struct group_topic topic;
            ck_assert(world_by_name(&w, a.assigned_partitions[t].topic, &topic));
            c->is_to_have[topic_of(&topic.id)][a.assigned_partitions[t].partitions[p]] = true;
        }
    c->changed = false;
    give_up(c);
    bool gave = c->changed;
    gain(c);
    if (gave) c->joined = false; /* cooperative: tell by joining again */
}

static void classic_join(struct r_client *c, bool faults) {
    if (c->kind == R_EAGER) drop_all(c);
    struct k_join_group_request join;
    struct k_join_group_response answered;
    k_join_group_request_init(&join);
    struct k_join_group_request_protocols protocol = {STR_LIT("range"), subscription_of(c)};
    join.group_id = STR_LIT("g");
    join.member_id = str_from(c->id);
    join.group_instance_id = c->instance[0] ? str_from(c->instance) : STR_NULL;
    join.session_timeout_ms = 30000;
    join.rebalance_timeout_ms = 20000;
    join.protocol_type = STR_LIT("consumer");
    join.protocols = &protocol;
    join.protocols_n = 1;
    char fresh[32];
    snprintf(fresh, sizeof fresh, "classic-%u", r.ids++);
    struct group_client client = {STR_LIT("classic"), STR_LIT("/127.0.0.1")};
    w.drop_append = faults && dice(8) == 0;
    consumer_group_join(w.group, &w.env, &join, 9, &client, str_from(fresh), &w.arena, &w.out, &answered);
    ck_assert(!consumer_group_downgrades(&w.out));
    char id[32];
    snprintf(id, sizeof id, "%.*s", answered.member_id.len, answered.member_id.p);
    if (!world_commit(&w) || (faults && dice(12) == 0)) return;
    if (answered.error_code == KERR_MEMBER_ID_REQUIRED) {
        memcpy(c->id, id, sizeof c->id);
        return;
    }
    if (answered.error_code) {
        classic_error(c, answered.error_code);
        return;
    }
    memcpy(c->id, id, sizeof c->id);
    r.joins++;
    c->joined = true;
    c->epoch = answered.generation_id;
    classic_sync(c, faults);
}

static void classic_turn(struct r_client *c, bool faults) {
    arena_reset(&w.arena);
    if (!c->joined) {
        classic_join(c, faults);
        return;
    }
    struct k_heartbeat_request hb;
    k_heartbeat_request_init(&hb);
    hb.member_id = str_from(c->id);
    hb.generation_id = c->epoch;
    hb.group_instance_id = c->instance[0] ? str_from(c->instance) : STR_NULL;
    int16_t code = consumer_group_classic_heartbeat(w.group, &w.env, &hb);
    if (code) classic_error(c, code);
}

static void classic_goodbye(struct r_client *c) {
    struct k_leave_group_request leaving;
    struct k_leave_group_response answered;
    struct k_leave_group_request_members member = {.member_id = str_from(c->id), .group_instance_id = c->instance[0] ? str_from(c->instance) : STR_NULL};
    k_leave_group_request_init(&leaving);
    leaving.members = &member;
    leaving.members_n = 1;
    arena_reset(&w.arena);
    consumer_group_leave(w.group, &w.env, &leaving, 5, &w.arena, &w.out, &answered);
    world_commit(&w);
}

/* ---- what happens ------------------------------------------------------------------------------ */

static void born(struct r_client *c, bool classic_too) {
    static const char *const texts[] = {"t[0-4]", ".*", "t(1|9)", "nothing"};
    char instance[16];
    memcpy(instance, c->instance, sizeof instance); /* a static one may come back */
    *c = (struct r_client){.alive = true, .topics = dice(3) ? 7 : dice(1 << R_TOPICS)};
    c->kind = classic_too && dice(3) == 0 ? (dice(2) ? R_EAGER : R_COOPERATIVE) : R_CONSUMER;
    if (c->kind == R_CONSUMER && dice(4) == 0) c->regex = texts[dice(ARRAY_LEN(texts))];
    if (instance[0] && dice(3)) memcpy(c->instance, instance, sizeof instance);
    else if (dice(3) == 0) snprintf(c->instance, sizeof c->instance, "i%u", dice(6));
    for (uint32_t i = 0; i < R_CLIENTS; i++)
        if (&r.clients[i] != c && r.clients[i].alive && strcmp(r.clients[i].instance, c->instance) == 0) c->instance[0] = 0;
    if (c->kind == R_CONSUMER) snprintf(c->id, sizeof c->id, "member-%u", r.ids++);
}

static void goodbye(struct r_client *c) {
    if (c->joined && c->kind != R_CONSUMER) {
        classic_goodbye(c);
    } else if (c->joined) {
        k_consumer_group_heartbeat_request_init(&rq);
        rq.group_id = STR_LIT("g");
        rq.member_id = str_from(c->id);
        rq.member_epoch = c->instance[0] && dice(2) ? CONSUMER_STATIC_LEAVE_EPOCH : CONSUMER_LEAVE_EPOCH;
        if (c->instance[0]) rq.instance_id = str_from(c->instance);
        rq.subscribed_topic_names_n = rq.topic_partitions_n = -1;
        send(1);
    }
    c->alive = false;
}

static void due(void) {
    if (r.assign && dice(2)) {
        consumer_group_assign_run(r.assign);
        consumer_group_assign_finish(w.group, &w.env, r.assign, &w.out);
        r.assign = NULL;
        world_commit(&w);
        return;
    }
    if (r.regex && dice(2)) {
        for (uint32_t i = 0; i < 3; i++)
            if (consumer_group_regex_run(r.regex, &w.env)) return;
        consumer_group_regex_finish(w.group, &w.env, r.regex, &w.arena, &w.out);
        r.regex = NULL;
        world_commit(&w);
        return;
    }
    if (!r.assign && w.group->epoch > w.group->assignment_epoch && w.group->member_count > 0 && dice(2)) {
        r.assign = consumer_group_assign_begin(w.group, &w.env); /* as if the group were large */
        return;
    }
    arena_reset(&w.arena);
    enum consumer_group_due what = consumer_group_tick(w.group, &w.env, &w.arena, &w.out);
    if (what == CONSUMER_GROUP_RECORDS) world_commit(&w);
    if (what == CONSUMER_GROUP_ASSIGN) r.assign = consumer_group_assign_begin(w.group, &w.env);
    if (what == CONSUMER_GROUP_REGEX) r.regex = consumer_group_regex_begin(w.group, &w.env);
}

static void step(bool classic_too) {
    struct r_client *c = &r.clients[dice(R_CLIENTS)];
    uint32_t what = dice(100);
    r.steps++;
    if (what < 60) {
        if (!c->alive) {
            if (dice(8) == 0) born(c, classic_too);
        } else if (c->kind == R_CONSUMER) {
            heartbeat(c, true);
        } else {
            classic_turn(c, true);
        }
    } else if (what < 75) {
        due();
    } else if (what < 80) {
        w.env.now_ms += dice(9000);
    } else if (what < 82) {
        if (c->alive && dice(2)) goodbye(c);
        else c->alive = false; /* silently */
    } else if (what < 84 && c->alive) {
        c->topics ^= 1u << dice(R_TOPICS);
        c->say_all = true;
        if (c->kind != R_CONSUMER) c->joined = false;
    } else if (what == 84) {
        if (w.all_n < R_TOPICS) {
            char name[16];
            snprintf(name, sizeof name, "t%u", w.all_n);
            world_topic(&w, name, 1 + (int32_t)dice(R_PARTITIONS));
        } else {
            struct world_topic *t = &w.all[dice(R_TOPICS)];
            if (dice(4) == 0) t->exists = !t->exists;
            else t->partitions = MIN(t->partitions + 1, R_PARTITIONS);
            world_changed(&w);
        }
    } else if (what == 85) {
        restart();
    }
    check_books();
}

static bool at_rest(void) {
    if (consumer_group_state(w.group) != CONSUMER_GROUP_STABLE || r.assign || r.regex) return false;
    for (uint32_t i = 0; i < R_CLIENTS; i++) {
        struct r_client *c = &r.clients[i];
        if (!c->alive) continue;
        const struct consumer_member *m = consumer_member_find(w.group, str_from(c->id));
        if (!m || !c->joined || c->epoch != m->current.epoch || memcmp(c->has, c->is_to_have, sizeof c->has) != 0) return false;
        uint32_t has = 0;
        for (uint32_t t = 0; t < R_TOPICS; t++)
            for (int32_t p = 0; p < R_PARTITIONS; p++) has += c->has[t][p];
        if (has != m->current.assigned.n) return false;
        for (uint32_t k = 0; k < m->current.assigned.n; k++)
            if (!c->has[topic_of(&m->current.assigned.list[k].topic)][m->current.assigned.list[k].partition]) return false;
    }
    return true;
}

/* Nothing fails any more: the dead are noticed, the living get everything. */
static void heal(void) {
    uint32_t round = 0;
    for (; round < 200 && (round < 30 || !at_rest()); round++) {
        for (uint32_t i = 0; i < R_CLIENTS; i++) {
            struct r_client *c = &r.clients[i];
            if (!c->alive) continue;
            if (c->kind == R_CONSUMER) {
                heartbeat(c, false);
                give_up(c);
                gain(c);
            } else {
                classic_turn(c, false);
            }
            check_books();
        }
        for (int i = 0; i < 6; i++) due();
        check_books();
        w.env.now_ms += 3000;
    }
    uint32_t alive = 0;
    for (uint32_t i = 0; i < R_CLIENTS; i++) alive += r.clients[i].alive;
    ck_assert_msg(alive == 0 || at_rest(), "no rest: %s", world_dump(w.group));
    ck_assert_uint_eq(w.group->member_count, alive);
    for (uint32_t t = 0; t < w.all_n; t++) {
        if (!w.all[t].exists) continue;
        bool wanted = consumer_group_subscribes(w.group, str_from(w.all[t].name));
        for (int32_t p = 0; p < R_PARTITIONS; p++)
            ck_assert_int_eq(consumer_owner_of(w.group, &w.all[t].id, p) != NULL, wanted && p < w.all[t].partitions);
    }
}

static void random_run(uint64_t seed, bool classic_too) {
    r = (struct r_world){.seed = seed * 0x9e3779b97f4a7c15ull + 1};
    w.env.migration = GROUP_MIGRATION_UPGRADE; /* it stays a consumer group */
    w.env.assignment_interval_ms = dice(2) ? 0 : 1000;
    for (int i = 0; i < 4; i++) {
        char name[16];
        snprintf(name, sizeof name, "t%d", i);
        world_topic(&w, name, 1 + (int32_t)dice(R_PARTITIONS));
    }
    for (uint32_t i = 0; i < R_CLIENTS / 2; i++) born(&r.clients[i], classic_too);
    for (int i = 0; i < 600; i++) step(classic_too);
    heal();
    struct consumer_group *g = replayed(true);
    consumer_group_free(g);
    if (r.assign) consumer_group_assign_drop(w.group, r.assign);
    if (r.regex) consumer_group_regex_drop(w.group, r.regex);
}

static uint32_t seeds(void) { return getenv("GROUP_SEEDS") ? (uint32_t)atoi(getenv("GROUP_SEEDS")) : 30; }
static void many_runs(bool classic_too) {
    uint64_t total[6] = {0};
    for (uint32_t seed = 1; seed <= seeds(); seed++) {
        if (getenv("GROUP_TRACE")) fprintf(stderr, "seed %u\n", seed);
        random_run(seed, classic_too);
        uint32_t counts[] = {r.lost, r.failed, r.restarts, r.fenced, r.joins, r.gains};
        for (int i = 0; i < 6; i++) total[i] += counts[i];
        world_free(&w);
        world_init(&w);
    }
    for (int i = 0; i < 6; i++) ck_assert_uint_gt(total[i], seeds() / 4); /* it has all happened */
}
START_TEST(random_conversations) { many_runs(false); }
END_TEST
START_TEST(random_conversations_of_both_protocols) { many_runs(true); }
END_TEST

static void group_random_add(TCase *t) {
    tcase_add_test(t, random_conversations);
    tcase_add_test(t, random_conversations_of_both_protocols);
}
