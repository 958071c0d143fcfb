/* Errors, arena, buffers, list, timers, mailbox, crc32c, trace. */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/arena.h"
#include "base/assert.h"
#include "base/buf.h"
#include "base/crc32c.h"
#include "base/err.h"
#include "base/list.h"
#include "base/mailbox.h"
#include "base/timers.h"
#include "base/trace.h"

/* ---- err -------------------------------------------------------------------------------------- */

START_TEST(every_error_has_its_own_phrase) {
    for (int a = 0; a < ERR_COUNT; a++) {
        ck_assert_ptr_nonnull(err_str((enum err)a));
        ck_assert_str_ne(err_str((enum err)a), "unknown error");
        for (int b = 0; b < a; b++) ck_assert_str_ne(err_str((enum err)a), err_str((enum err)b));
    }
    ck_assert_str_eq(err_str((enum err)999), "unknown error");
} END_TEST

START_TEST(errno_maps_to_nearest) {
    ck_assert_int_eq(err_from_errno(0), OK);
    ck_assert_int_eq(err_from_errno(17), OK);
    ck_assert_int_eq(err_from_errno(-ENOSPC), ERR_NOSPACE);
    ck_assert_int_eq(err_from_errno(-EIO), ERR_IO);
    ck_assert_int_eq(err_from_errno(-ENOENT), ERR_NOT_FOUND);
    ck_assert_int_eq(err_from_errno(-EWOULDBLOCK), ERR_AGAIN);
    ck_assert_int_eq(err_from_errno(-ECONNRESET), ERR_CLOSED);
    ck_assert_int_eq(err_from_errno(-123456), ERR_IO);
} END_TEST

/* ---- arena ------------------------------------------------------------------------------------ */

START_TEST(arena_is_zeroed_aligned_and_disjoint) {
    struct arena a;
    arena_init(&a, 1 << 20);
    unsigned char *parts[200];
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        size_t size = i * 7 + 1;
        parts[i] = arena_alloc(&a, size);
        ck_assert_ptr_nonnull(parts[i]);
        ck_assert_uint_eq((uintptr_t)parts[i] % 16, 0);
        for (size_t k = 0; k < size; k++) ck_assert_uint_eq(parts[i][k], 0);
        memset(parts[i], (int)i, size);
    }
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        for (size_t k = 0; k < i * 7 + 1; k++) ck_assert_uint_eq(parts[i][k], i);
    arena_reset(&a);
    ck_assert_uint_eq(a.used_bytes, 0);
    ck_assert_ptr_nonnull(arena_alloc(&a, 1 << 20));
    arena_free(&a);
} END_TEST

START_TEST(arena_limit_holds_and_changes_nothing) {
    struct arena a;
    arena_init(&a, 4096);
    ck_assert_ptr_nonnull(arena_alloc(&a, 4000));
    size_t used = a.used_bytes;
    ck_assert_ptr_null(arena_alloc(&a, 200));
    ck_assert_ptr_null(arena_alloc(&a, SIZE_MAX));
    ck_assert_ptr_null(arena_alloc(&a, SIZE_MAX - 15));
    ck_assert_ptr_null(arena_array(&a, SIZE_MAX / 2, 3));
    ck_assert_uint_eq(a.used_bytes, used);
    ck_assert_ptr_nonnull(arena_alloc(&a, 96));
    ck_assert_ptr_null(arena_alloc(&a, 0));
    arena_free(&a);
    arena_init(&a, 0);
    ck_assert_ptr_null(arena_alloc(&a, 1));
    arena_free(&a);
} END_TEST

START_TEST(arena_copies_strings) {
    struct arena a;
    arena_init(&a, 4096);
    ck_assert_str_eq(arena_strdup(&a, STR_LIT("topic")), "topic");
    ck_assert_str_eq(arena_strdup(&a, (struct str){"topic", 3}), "top");
    ck_assert_str_eq(arena_strdup(&a, STR_NULL), "");
    arena_free(&a);
} END_TEST

/* ---- buf, list -------------------------------------------------------------------------------- */

START_TEST(buf_is_released_with_the_last_reference) {
    struct buf *b = buf_new(8192, 4096);
    ck_assert_ptr_nonnull(b);
    ck_assert_uint_eq((uintptr_t)b->data % 4096, 0);
    memset(b->data, 1, b->cap);
    struct slice s = {buf_ref(b), 10, 5};
    buf_unref(b);
    ck_assert_uint_eq(*slice_data(&s), 1);
    buf_unref(s.buf);
    buf_unref(NULL);
    b = buf_new(0, 0);
    ck_assert_ptr_nonnull(b);
    buf_unref(b);
} END_TEST

START_TEST(list_keeps_order) {
    struct list head, nodes[4];
    list_init(&head);
    ck_assert(list_empty(&head));
    ck_assert_ptr_null(list_pop_front(&head));
    list_push_back(&head, &nodes[1]);
    list_push_back(&head, &nodes[2]);
    list_push_front(&head, &nodes[0]);
    list_insert_before(&nodes[1], &nodes[3]);
    list_remove(&nodes[3]);
    list_remove(&nodes[3]);
    for (int i = 0; i < 3; i++) ck_assert_ptr_eq(list_pop_front(&head), &nodes[i]);
    ck_assert(list_empty(&head));
} END_TEST

/* ---- crc32c ----------------------------------------------------------------------------------- */

static uint32_t crc32c_bitwise(const uint8_t *p, size_t len) {
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < len; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? crc >> 1 ^ 0x82f63b78 : crc >> 1;
    }
    return ~crc;
}

START_TEST(crc32c_agrees_with_the_definition) {
    ck_assert_uint_eq(crc32c(0, "123456789", 9), 0xe3069283);
    ck_assert_uint_eq(crc32c(0, "", 0), 0);
    uint8_t zeros[32] = {0}; /* RFC 3720, B.4 */
    ck_assert_uint_eq(crc32c(0, zeros, 32), 0x8a9136aa);
    uint8_t bytes[3000];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)(i * 131 + i / 7);
    for (size_t len = 0; len <= sizeof bytes; len += 37) {
        uint32_t whole = crc32c(0, bytes, len), split = crc32c(0, bytes, len / 3);
        ck_assert_uint_eq(whole, crc32c_bitwise(bytes, len));
        ck_assert_uint_eq(crc32c(split, bytes + len / 3, len - len / 3), whole);
    }
} END_TEST

/* ---- timers ----------------------------------------------------------------------------------- */

struct alarm { struct timer timer; int id; int64_t rearm_ns; };
static struct timers timers;
static int fired[512];
static size_t fired_count;

static void note_fired(struct timer *t) {
    struct alarm *a = CONTAINER_OF(t, struct alarm, timer);
    fired[fired_count++] = a->id;
    if (a->rearm_ns) timer_set(&timers, t, a->rearm_ns);
}

START_TEST(timers_fire_by_deadline_then_by_insertion) {
    struct alarm alarms[100];
    timers_init(&timers);
    fired_count = 0;
    ck_assert_int_eq(timers_next(&timers), INT64_MAX);
    for (int i = 0; i < 100; i++) {
        alarms[i] = (struct alarm){.id = i};
        timer_init(&alarms[i].timer, note_fired);
        timer_set(&timers, &alarms[i].timer, (i * 37) % 10);
    }
    for (int i = 0; i < 100; i += 5) timer_cancel(&timers, &alarms[i].timer);
    timer_cancel(&timers, &alarms[0].timer);
    ck_assert(!timer_armed(&alarms[0].timer) && timer_armed(&alarms[1].timer));
    timers_run(&timers, 4);
    ck_assert_int_gt(timers_next(&timers), 4);
    timers_run(&timers, 100);
    ck_assert_uint_eq(fired_count, 80);
    for (size_t i = 1; i < fired_count; i++) {
        int before = (fired[i - 1] * 37) % 10, now = (fired[i] * 37) % 10;
        ck_assert(before < now || (before == now && fired[i - 1] < fired[i]));
    }
    timers_free(&timers);
} END_TEST

START_TEST(timer_moves_when_set_again) {
    struct alarm a = {.id = 1}, b = {.id = 2};
    timers_init(&timers);
    fired_count = 0;
    timer_init(&a.timer, note_fired);
    timer_init(&b.timer, note_fired);
    timer_set(&timers, &a.timer, 10);
    timer_set(&timers, &b.timer, 20);
    timer_set(&timers, &a.timer, 30);
    ck_assert_int_eq(timers_next(&timers), 20);
    timers_run(&timers, 30);
    ck_assert_uint_eq(fired_count, 2);
    ck_assert_int_eq(fired[0], 2);
    timers_free(&timers);
} END_TEST

START_TEST(timer_armed_while_running_waits_for_the_next_run) {
    struct alarm again = {.id = 1, .rearm_ns = 1}, other = {.id = 2};
    timers_init(&timers);
    fired_count = 0;
    timer_init(&again.timer, note_fired);
    timer_init(&other.timer, note_fired);
    timer_set(&timers, &again.timer, 5);
    timer_set(&timers, &other.timer, 8);
    timers_run(&timers, 10);
    ck_assert_uint_eq(fired_count, 2); /* `other` is not starved by the one that comes back */
    ck_assert_int_eq(fired[1], 2);
    ck_assert(timer_armed(&again.timer));
    again.rearm_ns = 0;
    timers_run(&timers, 11);
    ck_assert_uint_eq(fired_count, 3);
    timers_free(&timers);
} END_TEST

/* ---- mailbox ---------------------------------------------------------------------------------- */

#define SENDERS 4
#define MAILS 20000

struct letter { struct mail mail; int sender, number; };
static struct mailbox box;
static int next_number[SENDERS], delivered;
static bool in_order;

static void deliver(struct mail *m) {
    struct letter *l = CONTAINER_OF(m, struct letter, mail);
    if (l->number != next_number[l->sender]) in_order = false;
    next_number[l->sender] = l->number + 1;
    delivered++;
    free(l);
}

static void *send_letters(void *arg) {
    for (int i = 0; i < MAILS; i++) {
        struct letter *l = malloc(sizeof *l);
        *l = (struct letter){.mail.deliver = deliver, .sender = (int)(intptr_t)arg, .number = i};
        mailbox_post(&box, &l->mail);
    }
    return NULL;
}

/* Sleeps without a deadline whenever the box is empty: a lost wake-up would hang here. */
START_TEST(mailbox_delivers_all_in_order_from_many_threads) {
    char why[100];
    struct io *io = io_blocking_create(&(struct io_config){0}, why, sizeof why);
    ck_assert_msg(io, "%s", why);
    mailbox_init(&box, io);
    in_order = true;
    delivered = 0;
    memset(next_number, 0, sizeof next_number);
    pthread_t senders[SENDERS];
    for (intptr_t i = 0; i < SENDERS; i++) pthread_create(&senders[i], NULL, send_letters, (void *)i);
    while (delivered < SENDERS * MAILS) {
        io_turn(io, INT64_MAX);
        mailbox_drain(&box);
    }
    for (int i = 0; i < SENDERS; i++) pthread_join(senders[i], NULL);
    ck_assert(in_order);
    ck_assert(mailbox_empty(&box));
    io_destroy(io);
} END_TEST

static struct letter *own;
static int own_count;
static void deliver_own(struct mail *m) {
    if (++own_count < 3) mailbox_post(&box, m);
}

START_TEST(mail_to_oneself_comes_with_the_next_drain) {
    char why[100];
    struct io *io = io_blocking_create(&(struct io_config){0}, why, sizeof why);
    ck_assert_msg(io, "%s", why);
    mailbox_init(&box, io);
    own = calloc(1, sizeof *own);
    own->mail.deliver = deliver_own;
    own_count = 0;
    mailbox_post(&box, &own->mail);
    for (int i = 1; i <= 3; i++) {
        ck_assert_uint_eq(mailbox_drain(&box), 1);
        ck_assert_int_eq(own_count, i);
    }
    ck_assert_uint_eq(mailbox_drain(&box), 0);
    free(own);
    io_destroy(io);
} END_TEST

/* ---- trace ------------------------------------------------------------------------------------ */

static size_t trace_into(char *text, size_t len, enum trace_format format, unsigned lines, const char *message) {
    FILE *file = tmpfile();
    ck_assert_ptr_nonnull(file);
    trace_setup(TRACE_INFO, format, fileno(file));
    for (unsigned i = 0; i < lines; i++) trace_info("test", "%s", message);
    trace_debug("test", "not shown");
    trace_setup(TRACE_INFO, TRACE_TEXT, STDERR_FILENO);
    ssize_t n = pread(fileno(file), text, len - 1, 0);
    ck_assert_int_ge(n, 0);
    text[n] = 0;
    fclose(file);
    return (size_t)n;
}

START_TEST(trace_line_is_one_line) {
    char text[8192];
    trace_into(text, sizeof text, TRACE_TEXT, 1, "two\nlines\x1b[31m");
    ck_assert_ptr_nonnull(strstr(text, "INFO  test: two\\u000alines\\u001b[31m\n"));
    ck_assert_ptr_eq(strchr(text, '\n'), text + strlen(text) - 1);
    trace_into(text, sizeof text, TRACE_JSON, 1, "say \"hi\"");
    ck_assert_ptr_nonnull(strstr(text, "\"level\":\"info\",\"subsystem\":\"test\",\"msg\":\"say \\\"hi\\\"\"}\n"));
    trace_into(text, sizeof text, TRACE_LOGFMT, 1, "m");
    ck_assert_ptr_nonnull(strstr(text, "level=info subsystem=test msg=\"m\"\n"));
    static char longer[5000];
    memset(longer, 'a', sizeof longer - 1);
    size_t len = trace_into(text, sizeof text, TRACE_JSON, 1, longer);
    ck_assert_uint_lt(len, 2100);
    ck_assert_str_eq(text + len - 3, "\"}\n");
} END_TEST

START_TEST(trace_storm_is_held_back) {
    static char text[1 << 20];
    trace_into(text, sizeof text, TRACE_TEXT, 5000, "storm");
    unsigned lines = 0;
    for (char *p = text; (p = strchr(p, '\n')); p++) lines++;
    ck_assert_uint_ge(lines, 16); /* 20, less what the test before wrote in the same second */
    ck_assert_uint_lt(lines, 4000);
} END_TEST

int main(void) {
    Suite *suite = suite_create("base");
    TCase *tc = tcase_create("base");
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, every_error_has_its_own_phrase);
    tcase_add_test(tc, errno_maps_to_nearest);
    tcase_add_test(tc, arena_is_zeroed_aligned_and_disjoint);
    tcase_add_test(tc, arena_limit_holds_and_changes_nothing);
    tcase_add_test(tc, arena_copies_strings);
    tcase_add_test(tc, buf_is_released_with_the_last_reference);
    tcase_add_test(tc, list_keeps_order);
    tcase_add_test(tc, crc32c_agrees_with_the_definition);
    tcase_add_test(tc, timers_fire_by_deadline_then_by_insertion);
    tcase_add_test(tc, timer_moves_when_set_again);
    tcase_add_test(tc, timer_armed_while_running_waits_for_the_next_run);
    tcase_add_test(tc, mailbox_delivers_all_in_order_from_many_threads);
    tcase_add_test(tc, mail_to_oneself_comes_with_the_next_drain);
    tcase_add_test(tc, trace_line_is_one_line);
    tcase_add_test(tc, trace_storm_is_held_back);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
