/* test_protogen.c - a mistake in the schema ends the generator with file, line and reason. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[] = "/tmp/test_protogen.XXXXXX";

static void write_schema(const char *name, const char *text) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *out = fopen(path, "w");
    ck_assert(out != NULL);
    fputs(text, out);
    ck_assert_int_eq(fclose(out), 0);
}

/* Runs the generator on the schema; the exit status, and what it said in `said`. */
static int run(const char *schema, char *said, size_t said_len) {
    char command[1024];
    write_schema("s.schema", schema);
    snprintf(command, sizeof command, "%s %s/s.schema %s 2>&1", PROTOGEN, folder, folder);
    FILE *in = popen(command, "r");
    ck_assert(in != NULL);
    size_t n = fread(said, 1, said_len - 1, in);
    said[n] = '\0';
    return WEXITSTATUS(pclose(in));
}

static void refused(const char *schema, const char *reason) {
    char said[1024];
    int status = run(schema, said, sizeof said);
    ck_assert_msg(status == 1 && strstr(said, reason), "%s\n-> %d: %s (expected: %s)", schema, status, said, reason);
}

#define API(fields) "api 1 Foo 0-3 flexible 2+\n  request {\n" fields "  }\n  response {}\n"

START_TEST(mistakes_are_named_with_their_line) {
    refused("apis\n", "s.schema:1: error: api, data or include expected, not \"apis\"");
    refused("# comment\n\napi x Foo 0\n", "s.schema:3: error: an API key expected, not \"x\"");
    refused("api 1 foo 0\n", ":1: error: \"foo\" is not a name");
    refused("api 1 Foo 3-1\n", "versions (3, 3-5 or 3+) expected");
    refused("api 1 Foo 0+\n", "must end");
    refused("api 1 Foo 0-3 flexible 2-3\n", "write \"2+\"");
    refused("api 1 Foo 0-3\n  response {}\n", "the request of Foo expected");
    refused("api 1 Foo 0\n  request {\n", ":2: error: the brace is not closed");
    refused(API("") API(""), ":5: error: API 1 is described already: Foo");
    refused(API("    A int33\n"), ":3: error: unknown type \"int33\"");
    refused(API("    A int32\n    A string\n"), ":4: error: the struct has a field A already");
    refused(API("    A int32?\n"), "int32 cannot be null");
    refused(API("    A int32 5+\n"), "in no version of its struct");
    refused(API("    A int8 = 128\n"), "\"128\" is not a value of int8");
    refused(API("    A string = null\n"), "the default is null but the field cannot be");
    refused(API("    A string = x\n"), "a string in quotes expected");
    refused(API("    A int32 tag 0\n"), "a tag needs flexible versions");
    refused(API("    A int32 2+ tag 0\n    B int32 2+ tag 0\n"), ":4: error: tag 0 is taken by A");
    refused(API("    A struct\n"), "{ belongs after a field of type struct");
    refused(API("    A int32 {\n"), "{ belongs after a field of type struct");
    refused(API("    A int32 blue\n"), "unexpected \"blue\"");
    refused(API("    A\n"), "a type expected");
    refused("include nowhere.schema\n", "nowhere.schema");
}
END_TEST

START_TEST(an_error_in_an_included_file_names_that_file) {
    write_schema("part.schema", "data Part 0 {\n  A int99\n}\n");
    refused("include part.schema\n", "part.schema:2: error: unknown type");
}
END_TEST

START_TEST(a_good_schema_is_taken) {
    char said[1024], path[256], text[65536];
    int status = run("api 7 FooBar 0-3 flexible 2+\n  request {\n    struct Shared {\n      Default int32 = -5\n    }\n"
                     "    A []Shared? 1+\n    TLSPort struct? 3+ tag 4 = null {\n      B string\n    }\n  }\n  response {}\n", said, sizeof said);
    ck_assert_msg(status == 0, "%s", said);
    snprintf(path, sizeof path, "%s/kafka_messages.h", folder);
    FILE *in = fopen(path, "r");
    ck_assert(in != NULL);
    text[fread(text, 1, sizeof text - 1, in)] = '\0';
    fclose(in);
    ck_assert_ptr_nonnull(strstr(text, "API_FOO_BAR = 7,"));
    ck_assert_ptr_nonnull(strstr(text, "struct k_foo_bar_request_shared {\n    int32_t default_;\n};"));
    ck_assert_ptr_nonnull(strstr(text, "    struct k_foo_bar_request_shared *a;\n    int32_t a_n;\n    struct k_foo_bar_request_tls_port *tls_port;\n"));
}
END_TEST

static void setup(void) { ck_assert(mkdtemp(folder) != NULL); }

static void teardown(void) {
    char command[256];
    snprintf(command, sizeof command, "rm -r %s", folder);
    ck_assert_int_eq(system(command), 0);
}

int main(void) {
    Suite *s = suite_create("protogen");
    TCase *tc = tcase_create("protogen");
    tcase_add_unchecked_fixture(tc, setup, teardown);
    tcase_add_test(tc, mistakes_are_named_with_their_line);
    tcase_add_test(tc, an_error_in_an_included_file_names_that_file);
    tcase_add_test(tc, a_good_schema_is_taken);
    suite_add_tcase(s, tc);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
