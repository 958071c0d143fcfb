/* Every served API at every version gets random messages, whole and damaged: the broker answers with
 * something that decodes, or closes the connection, and goes on. VARVE_TEST_SEED repeats a run. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include "proto/kafka_messages_test.h"
#include "server/request.h"
#include "tests/sim/prng.h"
#include "tests/unit/broker_fixture.h"
#include "tests/unit/codec_values.h"

enum { MESSAGES = 12, DAMAGED = 5 };

static struct fixture f;
static struct client c;

static uint64_t seed(void) {
    const char *text = getenv("VARVE_TEST_SEED");
    return text ? strtoull(text, NULL, 10) : 20261122;
}

static const struct codec_message *find(int16_t key, bool request) {
    for (const struct codec_message *m = kafka_message_tests; m < kafka_message_tests + KAFKA_MESSAGE_TESTS; m++)
        if (m->api_key == key && m->request == request) return m;
    ck_abort_msg("no message for API %d", key);
    return NULL;
}

static void reopen(void) {
    client_close(&c);
    client_open(&c, &f);
}

/* The request is in c.out. An answer must be understood; a closed connection is replaced. */
static void exchange(const struct codec_message *answer, int16_t version, bool answered_for_sure) {
    struct wire_reader r;
    client_send(&c);
    if (!answered_for_sure && client_waits(&c)) { /* Produce with acks=0, or a Fetch that waits long */
        reopen();
        return;
    }
    if (!client_receive(&c, &r)) {
        ck_assert_msg(!answered_for_sure, "%s version %d closed the connection", answer->name, version);
        reopen();
        return;
    }
    void *m = calloc(1, answer->size);
    ck_assert_msg(answer->decode(m, &r, version) == OK && wire_left(&r) == 0, "%s version %d", answer->name, version);
    free(m);
}

/* A random request body; `arena` holds what it points to. */
static void compose(const struct codec_message *request, int16_t version, struct arena *arena, uint64_t state) {
    struct codec_fill fill = {arena, state};
    void *m = calloc(1, request->size);
    request->fill(m, &fill, version);
    request->encode(m, client_begin(&c, request->api_key, version), version);
    free(m);
}

static void damage(struct prng *rng) {
    for (int i = 0; i < 3; i++) {
        size_t at = 12 + prng_below(rng, c.out.len - 12);
        uint8_t *p = c.out.data + at;
        if (prng_below(rng, 3) == 0 && at + 4 <= c.out.len) store_be32(p, prng_below(rng, 2) ? 0x7fffffff : 0xffffffff);
        else *p = (uint8_t)prng_below(rng, 256);
    }
    if (prng_below(rng, 4) == 0) c.out.len = 12 + prng_below(rng, c.out.len - 12);
}

START_TEST(random_messages) {
    size_t count;
    const struct api *apis = api_table(&count);
    const struct api *api = &apis[_i];
    const struct codec_message *request = find(api->key, true), *answer = find(api->key, false);
    struct arena arena;
    struct prng rng;
    ck_assert_uint_lt((size_t)_i, count);
    rng.state = seed() + (uint64_t)_i;
    arena_init(&arena, 64 << 20);
    for (int16_t v = api->min_version; v <= api->max_version; v++) {
        for (int i = 0; i < MESSAGES + DAMAGED; i++) {
            compose(request, v, &arena, prng_next(&rng));
            bool whole = i < MESSAGES, silent = api->key == KEY_PRODUCE; /* acks=0 has no answer */
            if (!whole) damage(&rng);
            exchange(answer, v, whole && !silent);
            arena_reset(&arena);
        }
    }
    arena_free(&arena);
    ck_assert_int_eq(topic_id(&c, "nobody").b[0], 0); /* it is still there */
}
END_TEST

static void set_up(void) {
    fixture_start(&f, NULL);
    client_open(&c, &f);
}
static void tear_down(void) {
    client_close(&c);
    fixture_stop(&f);
}

int main(void) {
    size_t count;
    api_table(&count);
    Suite *s = suite_create("api_random");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 300);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_loop_test(t, random_messages, 0, (int)count);
    suite_add_tcase(s, t);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? 1 : 0;
}
