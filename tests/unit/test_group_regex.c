/* Regular expressions of subscriptions: what RE2 accepts matches, what it does not is refused, and nothing is expensive. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "base/compiler.h"
#include "server/group_regex.h"

static enum err match(const char *expression, const char *name, bool *matches) {
    struct group_regex *re;
    enum err err = group_regex_compile(str_from(expression), &re, NULL, 0);
    if (err != OK) return err;
    err = group_regex_match(re, str_from(name), matches);
    group_regex_free(re);
    return err;
}

START_TEST(whole_names) {
    static const struct { const char *expression, *name; bool matches; } cases[] = {
        {"foo", "foo", true}, {"foo", "food", false}, {"foo", "a-foo", false}, {"foo.*", "foo", true}, {"foo.*", "foo.bar-1", true},
        {".*", "", true}, {"", "", true}, {"", "a", false}, {"a|ab", "ab", true}, {"(a|b)+", "abba", true}, {"^foo$", "foo", true},
        {"[a-c]{2,3}", "abc", true}, {"[a-c]{2,3}", "abcd", false}, {"[^a]", "b", true}, {"[]a]+", "]a", true}, {"\\Qa.b\\E", "a.b", true},
        {"\\Qa.b\\E", "axb", false}, {"a\\.b", "axb", false}, {"(?i)FOO", "foo", true}, {"(?i:F)oo", "foo", true}, {"(?P<n>a)b", "ab", true},
        {"(?<n>a)b", "ab", true}, {"\\d+\\w\\S", "12ab", true}, {"[[:digit:]]+", "123", true}, {"[[:^digit:]]+", "123", false}, {"\\pL+", "abc", true},
        {"a+?", "aaa", true}, {"a??b", "b", true}, {"x*", "xxxx", true}, {"(?s).", "a", true}, {"\\x61", "a", true}, {"\\x{61}", "a", true},
        {"a{,2}", "a{,2}", true}, {"prod-(eu|us)-[0-9]+", "prod-eu-17", true}, {"prod-(eu|us)-[0-9]+", "prod-as-17", false}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        bool matches = !cases[i].matches;
        ck_assert_msg(match(cases[i].expression, cases[i].name, &matches) == OK, "%s is refused", cases[i].expression);
        ck_assert_msg(matches == cases[i].matches, "%s against %s", cases[i].expression, cases[i].name);
    }
}
END_TEST

START_TEST(what_re2_has_not) {
    static const char *const bad[] = {"(", ")", "[a", "a{2,1}", "*", "a**", "a++", "a?+", "a{2}{3}", "a{2}+", "(a)\\1", "(?=a)", "(?!a)", "(?<=a)b", "(?<!a)b", "(?>a)",
                                      "(?|a)", "(?R)", "(?1)", "(?C1)", "(?(1)a)", "(?P=n)", "(?P>n)", "(?#c)a", "(*UTF)a", "(*LIMIT_MATCH=1)a", "\\Ka", "\\G", "\\R",
                                      "\\g1", "\\k<n>", "\\", "a{1001}", "a{1,5000}", "[[.a.]]", "(?P<n", "(?x)a", "[\\", "\\Ca", "(?<1>a)", "((a{1000}){1000}){1000}"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char why[100] = "";
        struct group_regex *re = NULL;
        ck_assert_msg(group_regex_compile(str_from(bad[i]), &re, why, sizeof why) == ERR_INVALID, "%s is accepted", bad[i]);
        ck_assert_ptr_null(re);
        ck_assert_int_gt((int)strlen(why), 0);
    }
    static char long_one[GROUP_REGEX_BYTES_MAX + 2];
    memset(long_one, 'a', sizeof long_one - 1);
    bool matches;
    ck_assert_int_eq(match(long_one, "a", &matches), ERR_INVALID);
    ck_assert_int_eq(match("\xff", "a", &matches), ERR_INVALID);
}
END_TEST

/* Backtracking would take 2^n steps on these. The automaton either answers or says that it is too expensive. */
START_TEST(nothing_explodes) {
    static const char *const bombs[] = {"(a+)+b", "(a*)*b", "((a*)*)*b", "(a|aa)+b", "(a|a)*b", "(.|a|b|c){1,200}x", "(.*)(.*)(.*)(.*)x", ".*.*.*.*.*.*x", "(a?){100}a{100}b"};
    char name[250];
    memset(name, 'a', 249);
    name[249] = 0;
    for (size_t i = 0; i < ARRAY_LEN(bombs); i++) {
        bool matches = false;
        enum err err = match(bombs[i], name, &matches);
        ck_assert_msg(err == OK || err == ERR_TOO_LARGE || err == ERR_INVALID, "%s: %d", bombs[i], err);
        ck_assert(!matches);
    }
}
END_TEST

START_TEST(any_bytes) {
    uint64_t seed = 7;
    static const char alphabet[] = "ab.*+?|()[]{}^$\\,1-:<>P=!iQEd\xc3\xa9";
    for (int i = 0; i < 20000; i++) {
        char text[24];
        int32_t len = 0;
        for (; len < 20; len++) {
            seed = seed * 6364136223846793005ull + 1442695040888963407ull;
            text[len] = alphabet[(seed >> 33) % (sizeof alphabet - 1)];
            if ((seed >> 60) == 0) break;
        }
        struct group_regex *re;
        bool matches;
        if (group_regex_compile((struct str){text, len}, &re, NULL, 0) != OK) continue;
        enum err err = group_regex_match(re, STR_LIT("ab.ab-ab"), &matches);
        ck_assert(err == OK || err == ERR_TOO_LARGE);
        ck_assert_uint_gt(group_regex_cost(re, 8), 0);
        group_regex_free(re);
    }
}
END_TEST

int main(void) {
    Suite *s = suite_create("group_regex");
    TCase *t = tcase_create("group_regex");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, whole_names);
    tcase_add_test(t, what_re2_has_not);
    tcase_add_test(t, nothing_explodes);
    tcase_add_test(t, any_bytes);
    suite_add_tcase(s, t);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
