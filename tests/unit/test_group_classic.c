/* The classic group as a core: random lives of its members against the rules, with appends that fail or come late and
 * coordinators that start again at any point.
 *
 *   one owner      of a partition among those whose commits the group would take
 *   generations    only grow, and each has one leader
 *   every request  is answered once, and every wait ends
 *   replay         of the committed records is the recorded state */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include "proto/kafka_errors.h"
#include "server/group_classic.h"
#include "tests/sim/prng.h"

enum { CLIENTS = 6, PARTITIONS = 8, STEPS = 3000, TICKETS = STEPS + 1, LOG_MAX = STEPS };

struct ticket { int client; bool join, answered, dead; int32_t generation; };
struct client {
    char id[80], instance[8], members[CLIENTS * 4][80];
    int member_count;
    int32_t generation;
    bool waits, leads;
    unsigned owns;                       /* partitions, one bit each */
};
struct world {
    struct prng rng;
    int64_t now_ms;
    struct classic_group *g;
    struct client clients[CLIENTS];
    struct ticket tickets[TICKETS];
    int ticket_count, fresh;
    struct bytes log[LOG_MAX];           /* committed values, copies */
    int log_count;
    struct group_records pending;        /* of g->change */
    bool quiet;                          /* nobody asks any more */
    int32_t last_generation;
    char leader[80];                     /* of that */
};
static struct world w;

static bool chance(uint64_t percent) { return prng_below(&w.rng, 100) < percent; }
static struct str text(const char *s) { return str_from(s); }

/* ---- answers ------------------------------------------------------------------------------------------ */

static struct client *answered(void *ticket, bool join) {
    struct ticket *t = ticket;
    ck_assert(!t->answered);
    ck_assert_int_eq(t->join, join);
    t->answered = true;
    if (t->dead) return NULL;
    struct client *c = &w.clients[t->client];
    ck_assert(c->waits);
    c->waits = false;
    return c;
}

static void refused(struct client *c, int16_t error) {
    c->owns = 0;
    c->generation = 0;
    c->leads = false;
    if (error == KERR_UNKNOWN_MEMBER_ID || error == KERR_FENCED_INSTANCE_ID) c->id[0] = 0;
}

static void copy_text(char out[80], struct str s) { snprintf(out, 80, "%.*s", s.len, s.p ? s.p : ""); }

static void on_join(void *ctx, void *ticket, const struct classic_join_reply *r) {
    (void)ctx;
    struct client *c = answered(ticket, true);
    if (r->error == KERR_NONE) {
        char leader[80];
        copy_text(leader, r->leader);
        ck_assert_int_ge(r->generation, w.last_generation);
        if (r->generation > w.last_generation || w.last_generation == 0) snprintf(w.leader, sizeof w.leader, "%s", leader);
        /* A static leader that came back has another id; its group goes on. */
        else if (r->members && !r->skip_assignment) ck_assert_str_eq(leader, w.leader);
        w.last_generation = r->generation;
    } else {
        ck_assert_int_eq(r->generation, -1);
    }
    if (!c) return;
    if (r->error && r->error != KERR_MEMBER_ID_REQUIRED) {
        refused(c, r->error);
        return;
    }
    copy_text(c->id, r->member_id);
    ck_assert(c->id[0]);
    if (r->error) return;
    c->generation = r->generation;
    c->leads = r->members != NULL && !r->skip_assignment;
    c->member_count = 0;
    if (c->leads)
        for (const struct classic_member *m = r->members->members; m; m = m->hh.next) {
            ck_assert_ptr_nonnull(classic_metadata(m, r->protocol).p); /* all know the protocol */
            copy_text(c->members[c->member_count++], m->id);
        }
}

static void on_sync(void *ctx, void *ticket, const struct classic_sync_reply *r) {
    (void)ctx;
    struct client *c = answered(ticket, false);
    if (!r->error) ck_assert_int_eq(((struct ticket *)ticket)->generation, w.g->generation);
    if (!c) return;
    if (r->error) refused(c, r->error);
    else c->owns = r->assignment.len > 0 ? r->assignment.p[0] : 0;
}

static struct classic_env env_now(void) {
    return (struct classic_env){.now_ms = w.now_ms, .wall_ms = 1000000 + w.now_ms, .session_min_ms = 1, .session_max_ms = 100000,
                                .initial_delay_ms = w.rng.state % 2 ? 3000 : 0, .size_max = CLIENTS - 1, .join_reply = on_join, .sync_reply = on_sync};
}

/* ---- the log ---------------------------------------------------------------------------------------------- */

static void replay_into(struct classic_group *g, struct bytes value) {
    struct arena arena;
    struct group_value v;
    struct classic_env env = env_now();
    arena_init(&arena, 1 << 20);
    ck_assert_int_eq(group_value_parse(K_GROUP_METADATA_KEY_TYPE, value, &arena, &v), OK);
    ck_assert_int_eq(classic_replay(g, &env, &v.group_metadata), OK);
    arena_free(&arena);
}

static struct bytes keep(struct bytes b) {
    uint8_t *p = malloc((size_t)b.len);
    memcpy(p, b.p, (size_t)b.len);
    return (struct bytes){p, b.len};
}

static struct classic_group *load(void) {
    struct classic_group *g = classic_new();
    for (int i = 0; i < w.log_count; i++) replay_into(g, w.log[i]);
    return g;
}

/* What a restart would find is what is here, but for members that came or went since. */
static void check_replay(void) {
    struct classic_group *g = load();
    ck_assert_int_eq(g->generation, w.g->generation);
    ck_assert(str_eq(g->leader, w.g->leader) && str_eq(g->protocol, w.g->protocol));
    ck_assert_int_eq(g->recorded, w.g->recorded);
    if (w.g->state != CLASSIC_PREPARING && w.g->recorded) {
        ck_assert_int_eq(g->state, w.g->state);
        ck_assert_uint_eq(g->count, w.g->count);
    }
    for (const struct classic_member *m = g->members; m; m = m->hh.next) {
        const struct classic_member *live = classic_member(w.g, m->id);
        if (!live) ck_assert_int_eq(w.g->state, CLASSIC_PREPARING);
        else if (m->assignment.len != live->assignment.len || (m->assignment.len && memcmp(m->assignment.p, live->assignment.p, 1) != 0))
            ck_abort_msg("the assignment differs");
    }
    classic_free(g);
}

static void append_ends(bool good, int16_t error) {
    struct classic_env env = env_now();
    ck_assert_uint_eq(w.pending.count, 1);
    if (good) {
        w.log[w.log_count++] = keep(group_records_value(&w.pending, 0));
        replay_into(w.g, w.log[w.log_count - 1]);
        classic_committed(w.g, &env);
    } else {
        classic_failed(w.g, &env, error);
    }
    group_records_reset(&w.pending);
}

/* After each call of the core. */
static void took(void) {
    ck_assert_int_eq(w.pending.err, OK);
    ck_assert_uint_eq(w.pending.count, w.g->change != CLASSIC_NO_CHANGE);
    if (w.g->change != CLASSIC_NO_CHANGE && chance(60)) append_ends(chance(80), KERR_COORDINATOR_NOT_AVAILABLE);
}

/* ---- events -------------------------------------------------------------------------------------------------- */

static struct ticket *ticket_new(int client, bool join) {
    struct ticket *t = &w.tickets[w.ticket_count++];
    *t = (struct ticket){.client = client, .join = join};
    w.clients[client].waits = true;
    return t;
}

static void join_event(int i) {
    struct client *c = &w.clients[i];
    static const char *const names[] = {"range", "roundrobin", "sticky"};
    char fresh[16], metadata[4] = {'m', (char)('0' + prng_below(&w.rng, 2)), 0, 0};
    struct classic_protocol protocols[3];
    int count = 1 + (int)prng_below(&w.rng, 3);
    for (int k = 0; k < count; k++) protocols[k] = (struct classic_protocol){text(names[(i + k) % 2 && k ? k : k]), {(uint8_t *)metadata, 2}};
    snprintf(fresh, sizeof fresh, "%d", w.fresh++);
    c->owns = 0; /* whoever joins has given up what it had */
    c->generation = 0;
    struct classic_join in = {
        .ticket = ticket_new(i, true), .group = STR_LIT("g"), .member_id = text(c->id), .instance_id = c->instance[0] ? text(c->instance) : STR_NULL,
        .client_id = STR_LIT("client"), .client_host = STR_LIT("/host"), .protocol_type = STR_LIT("consumer"),
        .session_ms = chance(3) ? 0 : 5000 + (int32_t)prng_below(&w.rng, 20000), .rebalance_ms = 10000, .protocols = protocols, .protocol_count = count,
        .id_required = chance(50), .can_skip_assignment = chance(50), .fresh = text(fresh),
    };
    struct classic_env env = env_now();
    classic_join(w.g, &env, &in, &w.pending);
    took();
}

static void sync_event(int i) {
    struct client *c = &w.clients[i];
    struct classic_assignment assignments[CLIENTS * 4];
    uint8_t masks[CLIENTS * 4] = {0};
    int count = c->leads ? c->member_count : 0;
    for (int p = 0; p < PARTITIONS && count > 0; p++) masks[prng_below(&w.rng, (uint64_t)count)] |= (uint8_t)(1u << p);
    for (int k = 0; k < count; k++) assignments[k] = (struct classic_assignment){text(c->members[k]), {&masks[k], 1}};
    struct classic_sync in = {.ticket = ticket_new(i, false), .group = STR_LIT("g"), .member_id = text(c->id),
                              .instance_id = c->instance[0] ? text(c->instance) : STR_NULL, .generation = c->generation - chance(3),
                              .assignments = assignments, .assignment_count = count};
    ((struct ticket *)in.ticket)->generation = in.generation;
    struct classic_env env = env_now();
    classic_sync(w.g, &env, &in, &w.pending);
    took();
}

static void heartbeat_event(int i) {
    struct client *c = &w.clients[i];
    struct classic_env env = env_now();
    int16_t error = classic_heartbeat(w.g, &env, c->generation, text(c->id), c->instance[0] ? text(c->instance) : STR_NULL);
    if (error && error != KERR_REBALANCE_IN_PROGRESS) refused(c, error);
}

static void leave_event(int i) {
    struct client *c = &w.clients[i];
    struct classic_env env = env_now();
    bool administrator = c->instance[0] && chance(50);
    int16_t error = classic_leave(w.g, &env, text(administrator ? "" : c->id), c->instance[0] ? text(c->instance) : STR_NULL);
    if (!error) classic_left(w.g, &env, STR_LIT("g"), &w.pending);
    refused(c, KERR_UNKNOWN_MEMBER_ID);
    took();
}

/* The client is gone, with its memory; what it waits for is answered to nobody. */
static void die_event(int i) {
    for (int k = 0; k < w.ticket_count; k++)
        if (w.tickets[k].client == i) w.tickets[k].dead = true;
    char instance[8];
    memcpy(instance, w.clients[i].instance, sizeof instance);
    w.clients[i] = (struct client){0};
    memcpy(w.clients[i].instance, instance, sizeof instance);
}

static void tick(void) {
    struct classic_env env = env_now();
    if (w.g->change != CLASSIC_NO_CHANGE) return;
    classic_tick(w.g, &env, STR_LIT("g"), &w.pending);
    took();
}

/* Another coordinator, from the log; an append that was on its way may be in it. */
static void restart_event(void) {
    if (w.g->change != CLASSIC_NO_CHANGE && chance(50)) w.log[w.log_count++] = keep(group_records_value(&w.pending, 0));
    group_records_reset(&w.pending);
    for (int k = 0; k < w.ticket_count; k++) {
        struct ticket *t = &w.tickets[k];
        if (t->answered) continue;
        t->answered = true; /* NOT_COORDINATOR, or the end of the connection */
        if (!t->dead) w.clients[t->client].waits = false;
        if (!t->dead) w.clients[t->client].generation = 0;
    }
    classic_free(w.g);
    w.g = load();
}

static void step(void) {
    int i = (int)prng_below(&w.rng, CLIENTS);
    struct client *c = &w.clients[i];
    uint64_t event = prng_below(&w.rng, 100);
    if (w.g->change != CLASSIC_NO_CHANGE) { /* only questions until it ends */
        if (event < 60) append_ends(chance(80), KERR_NOT_COORDINATOR);
        else if (event < 64) restart_event();
        else if (!c->waits && c->id[0]) heartbeat_event(i);
        return;
    }
    if (event < 35 && !c->waits) {
        if (c->generation > 0 && chance(85)) sync_event(i);
        else join_event(i);
    } else if (event < 60) {
        if (!c->waits && c->id[0]) heartbeat_event(i);
    } else if (event < 64) {
        if (!c->waits && c->id[0]) leave_event(i);
    } else if (event < 68) {
        die_event(i);
    } else if (event < 70) {
        restart_event();
    } else {
        w.now_ms += (int64_t)prng_below(&w.rng, event < 75 ? 8000 : 500);
        tick();
    }
}

/* ---- rules ---------------------------------------------------------------------------------------------------- */

static bool commits(const struct client *c) {
    const struct classic_member *m = c->id[0] ? classic_member(w.g, text(c->id)) : NULL;
    return m && c->generation == w.g->generation && w.g->state != CLASSIC_COMPLETING && w.g->state != CLASSIC_EMPTY;
}

static void check_owners(void) {
    unsigned taken = 0;
    for (int i = 0; i < CLIENTS; i++) {
        const struct client *c = &w.clients[i];
        if (!c->owns || !commits(c)) continue;
        for (int k = 0; k < i; k++) /* two clients under one name: the older will be told that it is fenced */
            if (w.clients[k].owns && strcmp(w.clients[k].id, c->id) == 0) return;
        ck_assert_uint_eq(taken & c->owns, 0);
        taken |= c->owns;
    }
}

static void check_deadlines(void) {
    int64_t least = MIN(w.g->join_deadline_ms, w.g->sync_deadline_ms);
    for (const struct classic_member *m = w.g->members; m; m = m->hh.next) least = MIN(least, m->deadline_ms);
    ck_assert_int_le(w.g->next_deadline_ms, least);
    uint32_t joining = 0;
    for (const struct classic_member *m = w.g->members; m; m = m->hh.next) joining += m->join_ticket != NULL;
    ck_assert_uint_eq(joining, w.g->joining);
}

/* Nobody asks any more: every wait ends by itself, and the group with it. */
static void check_end(void) {
    for (int i = 0; i < CLIENTS; i++) die_event(i);
    for (int turn = 0; turn < 500; turn++) {
        if (w.g->change != CLASSIC_NO_CHANGE) append_ends(true, 0);
        if (w.g->next_deadline_ms == CLASSIC_NEVER) break;
        w.now_ms = MAX(w.now_ms, w.g->next_deadline_ms);
        struct classic_env env = env_now();
        classic_tick(w.g, &env, STR_LIT("g"), &w.pending);
    }
    for (int k = 0; k < w.ticket_count; k++) ck_assert(w.tickets[k].answered);
    ck_assert_int_eq(w.g->state, CLASSIC_EMPTY);
    ck_assert_uint_eq(w.g->count, 0);
}

START_TEST(lives_of_members) {
    memset(&w, 0, sizeof w);
    w.rng.state = (uint64_t)_i * 7919 + 1;
    w.g = classic_new();
    group_records_init(&w.pending, 1 << 20, 1);
    for (int i = 0; i < CLIENTS; i++)
        if (i % 3 == 0) w.clients[i].instance[0] = (char)('a' + i);
    for (int s = 0; s < STEPS; s++) {
        step();
        check_owners();
        check_deadlines();
        if (w.g->change == CLASSIC_NO_CHANGE && s % 16 == 0) check_replay();
    }
    check_end();
    ck_assert_int_gt(w.last_generation, 5);
    classic_free(w.g);
    group_records_free(&w.pending);
    for (int i = 0; i < w.log_count; i++) free((void *)w.log[i].p);
}
END_TEST

int main(void) {
    Suite *s = suite_create("group_classic");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, lives_of_members, 0, 20);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
