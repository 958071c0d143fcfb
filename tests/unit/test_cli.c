/* test_cli.c - what `varve` makes of its command line, and of a record to print. */
#include <check.h>
#include <stdlib.h>
#include "tools/bench.h"
#include "tools/cli.h"
#include "tools/consume_format.h"

static const struct command produce = {"produce", "TOPIC", "", COMMAND_PRODUCE, 1, 1, NULL, NULL};
static const struct command consume = {"consume", "TOPIC", "", COMMAND_CONSUME, 1, 1, NULL, NULL};
static const struct command create = {"topic create", "NAME...", "", COMMAND_TOPIC_CREATE, 1, 9, NULL, NULL};
static const struct command alter = {"topic alter", "NAME...", "", COMMAND_TOPIC_ALTER, 1, 9, NULL, NULL};

/* ---- options ----------------------------------------------------------------------------- */

/* Parses words separated by blanks. The options point into a copy that is never freed but at the next call. */
static int parse(const struct command *c, struct options *o, const char *line) {
    static char copy[512];
    static char *argv[32];
    int argc = 0;
    snprintf(copy, sizeof copy, "varve %s", line);
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " ")) argv[argc++] = word;
    argv[argc] = NULL;
    return options_parse(c, argc, argv, o);
}

START_TEST(options_before_and_after_arguments) {
    struct options o;
    ck_assert_int_eq(parse(&produce, &o, "-z zstd lines -b a:1,b:2 -k : --acks 1 -p 3 -Z --timeout 7"), EXIT_OK);
    ck_assert_int_eq(o.arg_count, 1);
    ck_assert_str_eq(o.args[0], "lines");
    ck_assert_str_eq(o.bootstrap, "a:1,b:2");
    ck_assert_int_eq(o.codec, CODEC_ZSTD);
    ck_assert_int_eq(o.acks, 1);
    ck_assert_int_eq(o.partition, 3);
    ck_assert_int_eq(o.timeout_ms, 7000);
    ck_assert(o.null_empty);
    ck_assert_int_eq(o.key_delimiter.len, 1);
    options_free(&o);
}
END_TEST

START_TEST(defaults) {
    struct options o;
    ck_assert_int_eq(parse(&produce, &o, "lines"), EXIT_OK);
    ck_assert_str_eq(o.bootstrap, "127.0.0.1:9092");
    ck_assert_int_eq(o.acks, -1);
    ck_assert_int_eq(o.codec, CODEC_NONE);
    ck_assert_int_eq(o.partition, -1);
    ck_assert_ptr_null(o.key_delimiter.p);
    ck_assert_int_eq(o.delimiter.len, 1);
    ck_assert_int_eq(o.delimiter.p[0], '\n');
    ck_assert_int_eq(o.timeout_ms, 120000);
    ck_assert(!o.json);
    options_free(&o);
}
END_TEST

START_TEST(repeated_options_keep_their_order) {
    struct options o;
    ck_assert_int_eq(parse(&alter, &o, "--config a=1 --delete-config b --config c=x=y t"), EXIT_OK);
    ck_assert_int_eq(o.change_count, 3);
    ck_assert_int_eq(o.changes[0].op, ADMIN_SET);
    ck_assert_str_eq(o.changes[0].name, "a");
    ck_assert_str_eq(o.changes[0].value, "1");
    ck_assert_int_eq(o.changes[1].op, ADMIN_DELETE);
    ck_assert_str_eq(o.changes[1].name, "b");
    ck_assert_str_eq(o.changes[2].value, "x=y");
    options_free(&o);
    ck_assert_int_eq(parse(&produce, &o, "t -H k=v -H none -H empty="), EXIT_OK);
    ck_assert_int_eq(o.header_count, 3);
    ck_assert(str_is(o.headers[0].key, "k"));
    ck_assert_int_eq(o.headers[0].value.len, 1);
    ck_assert_ptr_null(o.headers[1].value.p);
    ck_assert_ptr_nonnull(o.headers[2].value.p);
    options_free(&o);
}
END_TEST

START_TEST(a_negative_offset_is_a_value) {
    struct options o;
    ck_assert_int_eq(parse(&consume, &o, "t -o -10 -e -c 5 -J"), EXIT_OK);
    ck_assert_str_eq(o.offset, "-10");
    ck_assert(o.exit_at_end && o.json);
    ck_assert_int_eq(o.count, 5);
    options_free(&o);
}
END_TEST

START_TEST(wrong_usage) {
    static const struct { const struct command *command; const char *line; } wrong[] = {
        {&produce, ""}, {&produce, "a b"}, {&produce, "a -z lzma"}, {&produce, "a --acks 2"},
        {&produce, "a --bogus"}, {&produce, "a -x"},
        {&produce, "a -p -1"}, {&produce, "a -p x"}, {&produce, "a -k"}, {&produce, "a --timeout 0"}, {&produce, "a -o end"},
        {&create, "a --partitions 0"}, {&create, "a --partitions 99999999999"},
        {&create, "a --config novalue"}, {&create, "a --config =x"},
        {&create, "a --delete-config x"}, {&create, "a --replication-factor 40000"}, {&consume, "t -c -1"}};
    ck_assert_ptr_nonnull(freopen("/dev/null", "w", stderr));
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct options o;
        ck_assert_msg(parse(wrong[i].command, &o, wrong[i].line) == EXIT_USAGE, "%s", wrong[i].line);
    }
}
END_TEST

START_TEST(escapes) {
    static const struct { const char *text, *bytes; size_t len; } cases[] = {
        {"a\\tb\\n", "a\tb\n", 4}, {"\\x41\\x0a", "A\n", 2}, {"\\0", "\0", 1}, {"\\\\n", "\\n", 2},
        {"\\xg", "\\xg", 3}, {"end\\", "end\\", 4}, {"", "", 0}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[32];
        strcpy(text, cases[i].text);
        ck_assert_uint_eq(options_unescape(text), cases[i].len);
        ck_assert_mem_eq(text, cases[i].bytes, cases[i].len);
    }
}
END_TEST

/* ---- formats ----------------------------------------------------------------------------- */

#define BYTES(s) ((struct bytes){(const uint8_t *)(s), sizeof(s) - 1})
/* Headers as a record has them: a=1, b null. */
static const uint8_t two_headers[] = {2, 'a', 2, '1', 2, 'b', 1};

static struct consumer_event event(struct bytes key, struct bytes value) {
    return (struct consumer_event){.kind = CONSUMER_RECORD, .topic = "top", .partition = 4,
        .record = {.offset = 17, .timestamp = 1700000000123, .key = key, .value = value, .header_count = 2,
                   .headers_raw = two_headers, .headers_raw_len = sizeof two_headers}};
}

static void printed(const char *text, const struct consumer_event *e, bool null_text, const void *expected, size_t len) {
    struct format f;
    char wrong, *out;
    size_t out_len;
    ck_assert_msg(format_parse(&f, text, &wrong), "%s", text);
    f.null_text = null_text;
    FILE *file = open_memstream(&out, &out_len);
    format_record(file, &f, e);
    fclose(file);
    ck_assert_msg(out_len == len && memcmp(out, expected, len) == 0, "%s -> %.*s", text, (int)out_len, out);
    free(out);
    format_free(&f);
}
#define PRINTED(text, e, expected) printed(text, e, false, expected, sizeof(expected) - 1)

START_TEST(every_directive) {
    struct consumer_event e = event(BYTES("key"), BYTES("value")), nulls = event(BYTES_NULL, BYTES_NULL);
    struct consumer_event empty = event(BYTES(""), BYTES(""));
    PRINTED("%s\\n", &e, "value\n");
    PRINTED("%t [%p] at %o: key %k (%K) value %s (%S) %T %h 100%%", &e,
            "top [4] at 17: key key (3) value value (5) 1700000000123 a=1,b=NULL 100%");
    PRINTED("%R%s", &e, "\0\0\0\5value");
    PRINTED("%R%K%S%k%s", &nulls, "\xff\xff\xff\xff-1-1");
    PRINTED("%K,%S", &empty, "0,0");
    printed("%k|%s", &nulls, true, "NULL|NULL", 9);
    printed("%k|%s", &empty, true, "|", 1);
    PRINTED("", &e, "");
    PRINTED("\\x41%%\\t", &e, "A%\t");
    PRINTED("%s", (&(struct consumer_event){.topic = "t", .record = {.value = BYTES("a\0b")}}), "a\0b");
}
END_TEST

START_TEST(unknown_directives_are_named) {
    struct format f;
    char wrong = 'z';
    ck_assert(!format_parse(&f, "%s %q", &wrong));
    ck_assert_int_eq(wrong, 'q');
    ck_assert(!format_parse(&f, "50%", &wrong));
    ck_assert_int_eq(wrong, '\0');
}
END_TEST

START_TEST(envelopes) {
    struct consumer_event e = event(BYTES("k\""), BYTES_NULL);
    struct json_out json;
    char *out;
    size_t len;
    FILE *file = open_memstream(&out, &len);
    json_init(&json, file);
    format_envelope(&json, &e);
    e.record.header_count = 0;
    e.log_append_time = true;
    format_envelope(&json, &e);
    fclose(file);
    ck_assert_str_eq(out, "{\"topic\":\"top\",\"partition\":4,\"offset\":17,\"tstype\":\"create\",\"ts\":1700000000123,"
                          "\"headers\":[\"a\",\"1\",\"b\",null],\"key\":\"k\\\"\",\"payload\":null}\n"
                          "{\"topic\":\"top\",\"partition\":4,\"offset\":17,\"tstype\":\"logappend\",\"ts\":1700000000123,\"key\":\"k\\\"\",\"payload\":null}\n");
    free(out);
}
END_TEST

/* ---- bench ------------------------------------------------------------------------------- */

/* Percentiles of 1..n are known; slots are 1.6 % wide. */
START_TEST(latencies_to_two_percent) {
    struct latencies *l = calloc(1, sizeof *l);
    ck_assert_int_eq(latency_at(l, 0.5), 0);
    for (int64_t i = 1; i <= 1000000; i++) latency_add(l, i * 1000);
    static const struct { double share; int64_t ns; } expected[] = {{0.5, 500000000}, {0.9, 900000000}, {0.99, 990000000}, {0.999, 999000000}};
    for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
        int64_t ns = latency_at(l, expected[i].share);
        ck_assert_msg(ns <= expected[i].ns + 1000 && ns >= expected[i].ns - expected[i].ns / 50, "%.3f: %lld", expected[i].share, (long long)ns);
    }
    ck_assert_int_eq(latency_at(l, 1), 1000000000);
    latency_add(l, -5);             /* a clock that went back */
    latency_add(l, INT64_MAX);
    ck_assert_int_eq(latency_at(l, 1), INT64_MAX);
    ck_assert_int_eq(latency_at(l, 0), 0);
    free(l);
}
END_TEST

int main(void) {
    Suite *s = suite_create("cli");
    TCase *options = tcase_create("options"), *format = tcase_create("format");
    tcase_add_test(options, options_before_and_after_arguments);
    tcase_add_test(options, defaults);
    tcase_add_test(options, repeated_options_keep_their_order);
    tcase_add_test(options, a_negative_offset_is_a_value);
    tcase_add_test(options, escapes);
    tcase_add_test(format, every_directive);
    tcase_add_test(format, unknown_directives_are_named);
    tcase_add_test(format, envelopes);
    tcase_add_test(options, wrong_usage);
    tcase_add_test(options, latencies_to_two_percent);
    suite_add_tcase(s, format);
    suite_add_tcase(s, options);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
