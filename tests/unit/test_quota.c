/* Client quotas: which one applies, what is accepted, and the buckets in virtual time, beside Kafka's windows. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "server/quota_set.h"
#include "server/quota_table.h"
#include "tests/sim/prng.h"

#define SECOND INT64_C(1000000000)
static struct quota_table *t;
static struct quota_set *set;

static void set_up(void) {
    t = quota_table_new(7);
    set = quota_set_copy(NULL, 1);
}
static void tear_down(void) {
    free(t);
    quota_set_free(set);
}

static struct quota_limit limit(double rate, const char *client) {
    return (struct quota_limit){rate, 10 * SECOND, quota_name(t, 0, 5, STR_NULL, str_from(client))};
}

/* ---- buckets ----------------------------------------------------------------------------------------------------- */

START_TEST(a_burst_then_the_rate) {
    struct quota_limit l = limit(1000, "c");
    int64_t now = 5 * SECOND;
    for (int i = 0; i < 10; i++) ck_assert_int_eq(quota_take(t, &l, 1000, now), 0); /* ten seconds' worth */
    ck_assert_int_eq(quota_take(t, &l, 500, now), SECOND / 2);
    ck_assert_int_eq(quota_overdrawn(t, &l, now), SECOND / 2);
    ck_assert_int_eq(quota_take(t, &l, 500, now), SECOND);
    now += SECOND;
    ck_assert_int_eq(quota_overdrawn(t, &l, now), 0);
    ck_assert_int_eq(quota_take(t, &l, 1, now), SECOND / 1000);
    ck_assert_int_eq(quota_take(t, &l, 10000, now + 100 * SECOND), 0); /* full again, and not fuller */
    ck_assert_int_eq(quota_take(t, &l, 1000, now + 100 * SECOND), SECOND);
}
END_TEST

START_TEST(what_is_only_tried_costs_nothing_when_refused) {
    struct quota_limit l = limit(1000, "c");
    int64_t now = SECOND;
    ck_assert_int_eq(quota_try(t, &l, 9000, now), 0);
    ck_assert_int_eq(quota_try(t, &l, 3000, now), 2 * SECOND);
    ck_assert_int_eq(quota_try(t, &l, 3000, now), 2 * SECOND);
    ck_assert_int_eq(quota_try(t, &l, 1000, now), 0);
    ck_assert_int_eq(quota_try(t, &l, 3000, now + 3 * SECOND), 0);
    /* More than the bucket can hold: it waits until that is full, no longer. */
    int64_t wait = quota_try(t, &l, 50000, now + 3 * SECOND);
    ck_assert_int_eq(wait, 10 * SECOND);
    ck_assert_int_eq(quota_try(t, &l, 50000, now + 3 * SECOND + wait), 0);
    ck_assert_int_eq(quota_overdrawn(t, &l, now + 3 * SECOND + wait), 40 * SECOND);
}
END_TEST

START_TEST(extreme_numbers) {
    struct quota_limit tiny = limit(1e-9, "a"), huge = limit(1e300, "b");
    ck_assert_int_eq(quota_take(t, &tiny, 1e18, 0), QUOTA_DEBT_NS_MAX - 10 * SECOND);
    ck_assert_int_eq(quota_take(t, &tiny, 1e18, 0), QUOTA_DEBT_NS_MAX - 10 * SECOND);
    ck_assert_int_gt(quota_try(t, &tiny, 1, SECOND), 0);
    for (int i = 0; i < 1000; i++) ck_assert_int_eq(quota_take(t, &huge, 1e18, 0), 0);
}
END_TEST

START_TEST(buckets_are_apart) {
    struct quota_limit a = limit(1, "a"), b = limit(1, "b");
    ck_assert_int_eq(quota_take(t, &a, 100, 0), 90 * SECOND);
    ck_assert_int_eq(quota_overdrawn(t, &b, 0), 0);
    ck_assert_uint_ne(quota_name(t, 0, 5, STR_LIT("x"), STR_NULL), quota_name(t, 0, 5, STR_NULL, STR_LIT("x")));
    ck_assert_uint_ne(quota_name(t, 0, 5, STR_LIT("x"), STR_NULL), quota_name(t, 1, 5, STR_LIT("x"), STR_NULL));
    ck_assert_uint_ne(quota_name(t, 0, 5, STR_LIT("x"), STR_LIT("")), quota_name(t, 0, 5, STR_LIT("x"), STR_NULL));
    ck_assert_uint_ne(quota_name(t, 0, 5, STR_LIT("x"), STR_NULL), quota_name(t, 0, 6, STR_LIT("x"), STR_NULL)); /* another quota */
    struct quota_table *other = quota_table_new(8); /* nobody outside can tell which names meet */
    ck_assert_uint_ne(quota_name(t, 0, 5, STR_LIT("x"), STR_NULL), quota_name(other, 0, 5, STR_LIT("x"), STR_NULL));
    free(other);
}
END_TEST

START_TEST(a_crowd_of_names_does_not_free_a_debtor) {
    struct quota_limit debtor = limit(1, "debtor");
    char name[32];
    ck_assert_int_eq(quota_take(t, &debtor, 1000, 0), 990 * SECOND);
    for (int i = 0; i < 20 * QUOTA_SLOTS; i++) { /* each a little in use */
        snprintf(name, sizeof name, "crowd-%d", i);
        struct quota_limit l = limit(1000, name);
        ck_assert_int_eq(quota_take(t, &l, 1, i), 0);
    }
    ck_assert_int_eq(quota_overdrawn(t, &debtor, 0), 990 * SECOND);
}
END_TEST

/* Kafka's Rate (SampledStat): windows of a second, eleven of them, and (O - T) / T * W to wait. */
struct windows { int64_t begun[11]; double sum[11]; int used; };
static int64_t kafka_take(struct windows *w, double rate, double n, int64_t now) {
    int last = w->used - 1;
    if (w->used == 0 || now - w->begun[last] >= SECOND) {
        if (w->used == 11) {
            memmove(w->begun, w->begun + 1, sizeof w->begun - sizeof w->begun[0]);
            memmove(w->sum, w->sum + 1, sizeof w->sum - sizeof w->sum[0]);
            w->used--;
        }
        last = w->used++;
        w->begun[last] = now;
        w->sum[last] = 0;
    }
    w->sum[last] += n;
    double total = 0;
    int64_t oldest = now;
    for (int i = 0; i < w->used; i++) {
        if (now - w->begun[i] >= 11 * SECOND) continue;
        total += w->sum[i];
        oldest = MIN(oldest, w->begun[i]);
    }
    int64_t elapsed = now - oldest, full = elapsed / SECOND;
    if (full < 10) elapsed += (10 - full) * SECOND;
    double seconds = (double)elapsed / 1e9, observed = total / seconds;
    return observed > rate ? (int64_t)((observed - rate) / rate * seconds * 1e9) : 0;
}

START_TEST(a_client_that_stays_away_as_told_gets_the_rate) {
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct prng rng = {seed};
        double rate = (double)(1 + prng_below(&rng, 10000000)), ours = 0, kafkas = 0, largest = rate * 2;
        char name[16];
        snprintf(name, sizeof name, "%d", (int)seed);
        struct quota_limit l = limit(rate, name);
        struct windows w = {0};
        const int64_t end = 600 * SECOND;
        for (int64_t now = 0; now < end;) {
            double n = (double)prng_below(&rng, (uint64_t)largest) + 1;
            ours += n;
            now += SECOND / 1000 + quota_take(t, &l, n, now);
        }
        for (int64_t now = 0; now < end;) {
            double n = (double)prng_below(&rng, (uint64_t)largest) + 1;
            kafkas += n;
            now += SECOND / 1000 + kafka_take(&w, rate, n, now);
        }
        ck_assert_double_ge(ours, rate * 600);
        ck_assert_double_le(ours, rate * 610 + largest);
        ck_assert_double_ge(kafkas, rate * 570);
        ck_assert_double_le(kafkas, rate * 640);
    }
}
END_TEST

/* ---- which quota applies -------------------------------------------------------------------------------------------- */

/* NULL: not part of the entity; "*": its default. */
static struct quota_entity entity(const char *user, const char *client, const char *ip) {
    const char *names[QUOTA_TYPES] = {user, client, ip};
    struct quota_entity e = {0};
    for (int i = 0; i < QUOTA_TYPES; i++) {
        e.has[i] = names[i] != NULL;
        if (names[i] && strcmp(names[i], "*") != 0) e.name[i] = str_from(names[i]);
    }
    return e;
}
static enum err put(const char *user, const char *client, enum quota_key key, double value) {
    struct quota_entity e = entity(user, client, NULL);
    return quota_set_put(set, &e, key, value);
}
/* The limit, and by what its bucket is named: 1 the user, 2 the client id, 3 both. */
static double applies(const char *user, const char *client, int *by) {
    bool by_user, by_client;
    double v = quota_set_limit(set, QUOTA_PRODUCER_BYTES, str_from(user), str_from(client), &by_user, &by_client);
    *by = by_user + 2 * by_client;
    return v;
}

START_TEST(the_most_specific_quota_applies) {
    static const struct { const char *user, *client; int by; } levels[] = {
        {NULL, "*", 2}, {NULL, "c", 2}, {"*", NULL, 1}, {"*", "*", 3}, {"*", "c", 3}, {"u", NULL, 1}, {"u", "*", 3}, {"u", "c", 3},
    };
    int by;
    ck_assert_double_eq(applies("u", "c", &by), 0);
    for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
        ck_assert_int_eq(put(levels[i].user, levels[i].client, QUOTA_PRODUCER_BYTES, (double)(i + 1)), OK);
        ck_assert_int_eq(put(levels[i].user, levels[i].client, QUOTA_CONSUMER_BYTES, 999), OK); /* another key */
        ck_assert_double_eq(applies("u", "c", &by), (double)(i + 1));
        ck_assert_int_eq(by, levels[i].by);
    }
    ck_assert_double_eq(applies("u", "other", &by), 7);
    ck_assert_double_eq(applies("other", "c", &by), 5);
    ck_assert_double_eq(applies("other", "other", &by), 4);
    ck_assert_double_eq(applies("other", "", &by), 4);
    for (size_t i = ARRAY_LEN(levels); i-- > 0;) {
        ck_assert_double_eq(applies("u", "c", &by), (double)(i + 1));
        ck_assert_int_eq(put(levels[i].user, levels[i].client, QUOTA_PRODUCER_BYTES, 0), OK);
    }
    ck_assert_double_eq(applies("u", "c", &by), 0);
    ck_assert_uint_eq(set->setting[QUOTA_PRODUCER_BYTES], 0);
    ck_assert_uint_eq(set->count, ARRAY_LEN(levels)); /* they have the other key */
    for (size_t i = 0; i < ARRAY_LEN(levels); i++) ck_assert_int_eq(put(levels[i].user, levels[i].client, QUOTA_CONSUMER_BYTES, 0), OK);
    ck_assert_uint_eq(set->count, 0);
}
END_TEST

START_TEST(addresses) {
    char out[QUOTA_ADDRESS_BYTES];
    struct quota_entity any = entity(NULL, NULL, "*"), one = entity(NULL, NULL, "10.0.0.1");
    ck_assert_int_eq(quota_set_put(set, &any, QUOTA_CONNECTIONS, 5), OK);
    ck_assert_int_eq(quota_set_put(set, &one, QUOTA_CONNECTIONS, 50), OK);
    ck_assert_double_eq(quota_set_connections(set, STR_LIT("10.0.0.1")), 50);
    ck_assert_double_eq(quota_set_connections(set, STR_LIT("10.0.0.2")), 5);
    ck_assert_double_eq(quota_set_connections(NULL, STR_LIT("10.0.0.2")), 0);
    ck_assert(quota_address(STR_LIT("::ffff:10.0.0.1"), out) && strcmp(out, "10.0.0.1") == 0);
    ck_assert(quota_address(STR_LIT("0:0:0:0:0:0:0:1"), out) && strcmp(out, "::1") == 0);
    ck_assert(!quota_address(STR_LIT("localhost"), out) && !quota_address(STR_LIT(""), out) && !quota_address(STR_LIT("1.2.3.4\0x"), out));
    ck_assert(!quota_address(STR_LIT("1.2.3.4.5.6.7.8.9.1.2.3.4.5.6.7.8.9.1.2.3.4.5.6.7.8.9"), out));
}
END_TEST

START_TEST(what_kafka_refuses) {
    static char long_name[QUOTA_NAME_BYTES_MAX + 1];
    struct quota_entity none = entity(NULL, NULL, NULL), mixed = entity("u", NULL, "1.2.3.4"), empty = entity("", NULL, NULL),
                        host = entity(NULL, NULL, "example.org"), user = entity("u", NULL, NULL), ip = entity(NULL, NULL, "1.2.3.4"),
                        longest = user;
    ck_assert_ptr_nonnull(quota_entity_problem(&none));
    ck_assert_ptr_nonnull(quota_entity_problem(&mixed));
    ck_assert_ptr_nonnull(quota_entity_problem(&empty));
    ck_assert_ptr_nonnull(quota_entity_problem(&host));
    ck_assert_ptr_null(quota_entity_problem(&user));
    ck_assert_ptr_null(quota_entity_problem(&ip));
    memset(long_name, 'x', sizeof long_name);
    longest.name[QUOTA_USER] = (struct str){long_name, QUOTA_NAME_BYTES_MAX};
    ck_assert_ptr_null(quota_entity_problem(&longest));
    longest.name[QUOTA_USER].len++;
    ck_assert_ptr_nonnull(quota_entity_problem(&longest));
    static const double bad[] = {0, -1, NAN, INFINITY, -INFINITY, 1.5, 1e19};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        ck_assert_ptr_nonnull(quota_value_problem(&user, QUOTA_PRODUCER_BYTES, bad[i]));
        if (bad[i] != 0) ck_assert_int_eq(quota_set_put(set, &user, QUOTA_PRODUCER_BYTES, bad[i]), ERR_INVALID);
    }
    ck_assert_ptr_null(quota_value_problem(&user, QUOTA_PRODUCER_BYTES, 1048576));
    ck_assert_ptr_null(quota_value_problem(&user, QUOTA_REQUEST_PERCENT, 0.5));
    ck_assert_ptr_null(quota_value_problem(&user, QUOTA_CONTROLLER_CHANGES, 1.5));
    ck_assert_ptr_nonnull(quota_value_problem(&user, QUOTA_CONNECTIONS, 5));
    ck_assert_ptr_nonnull(quota_value_problem(&ip, QUOTA_PRODUCER_BYTES, 5));
    ck_assert_ptr_null(quota_value_problem(&ip, QUOTA_CONNECTIONS, 5));
    ck_assert_ptr_nonnull(quota_value_problem(&ip, QUOTA_CONNECTIONS, 3e9));
    ck_assert_uint_eq(set->count, 0);
}
END_TEST

START_TEST(editions_share_what_they_leave_alone) {
    int by;
    ck_assert_int_eq(put("u", NULL, QUOTA_PRODUCER_BYTES, 1), OK);
    ck_assert_int_eq(put("v", NULL, QUOTA_PRODUCER_BYTES, 2), OK);
    struct quota_set *older = set;
    set = quota_set_copy(older, 2);
    ck_assert_ptr_eq(set->list[0], older->list[0]);
    ck_assert_int_eq(put("u", NULL, QUOTA_PRODUCER_BYTES, 10), OK);
    ck_assert_int_eq(put("v", NULL, QUOTA_PRODUCER_BYTES, 0), OK);
    for (int i = 0; i < 100; i++) {
        char name[8];
        snprintf(name, sizeof name, "n%d", i);
        ck_assert_int_eq(put(NULL, name, QUOTA_PRODUCER_BYTES, 100), OK);
    }
    ck_assert_double_eq(applies("u", "c", &by), 10);
    ck_assert_double_eq(applies("v", "c", &by), 0);
    struct quota_set *newer = set;
    set = older;
    ck_assert_double_eq(applies("u", "c", &by), 1);
    ck_assert_double_eq(applies("v", "c", &by), 2);
    ck_assert_uint_eq(set->count, 2);
    quota_set_free(older);
    set = newer;
    ck_assert_double_eq(applies("x", "n99", &by), 100);
    ck_assert_uint_eq(set->count, 101);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("quota");
    TCase *tc = tcase_create("all");
    tcase_add_checked_fixture(tc, set_up, tear_down);
    tcase_add_test(tc, a_burst_then_the_rate);
    tcase_add_test(tc, what_is_only_tried_costs_nothing_when_refused);
    tcase_add_test(tc, extreme_numbers);
    tcase_add_test(tc, buckets_are_apart);
    tcase_add_test(tc, a_crowd_of_names_does_not_free_a_debtor);
    tcase_add_test(tc, a_client_that_stays_away_as_told_gets_the_rate);
    tcase_add_test(tc, the_most_specific_quota_applies);
    tcase_add_test(tc, addresses);
    tcase_add_test(tc, what_kafka_refuses);
    tcase_add_test(tc, editions_share_what_they_leave_alone);
    tcase_set_timeout(tc, 60);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
