/* What `varve group seek` reads: places, CSV rows, scopes. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "tools/seek_where.h"

enum { NOW_MS = 1800000000 };

START_TEST(places) {
    static const struct { const char *text; enum where_kind kind; int64_t n; } good[] = {
        {"earliest", WHERE_EARLIEST, 0}, {"end", WHERE_LATEST, 0}, {"current", WHERE_CURRENT, 0}, {"0", WHERE_OFFSET, 0},
        {"9223372036854775807", WHERE_OFFSET, INT64_MAX}, {"+7", WHERE_SHIFT, 7}, {"-7", WHERE_SHIFT, -7}, {"@123", WHERE_TIME, 123},
        {"1970-01-02T00:00", WHERE_TIME, 86400000}, {"1970-01-01T00:00:01", WHERE_TIME, 1000}, {"1970-01-01T00:00:01.5", WHERE_TIME, 1500},
        {"1970-01-01T00:00:01.2345Z", WHERE_TIME, 1234}, {"1970-01-01T02:00:00.000+01:30", WHERE_TIME, 1800000},
        {"1970-01-01T00:00:00-0100", WHERE_TIME, 3600000}, {"1970-01-01T01:00:00+01", WHERE_TIME, 0}, {"2024-02-29T12:00:00.000", WHERE_TIME, 1709208000000},
        {"PT1S", WHERE_TIME, NOW_MS - 1000}, {"PT1.5S", WHERE_TIME, NOW_MS - 1500}, {"P1DT2H3M4S", WHERE_TIME, NOW_MS - 93784000},
        {"P1D", WHERE_TIME, NOW_MS - 86400000}, {"P100D", WHERE_TIME, 0}, {"PT90M", WHERE_TIME, NOW_MS - 5400000}};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct where w;
        ck_assert_msg(where_parse(good[i].text, NOW_MS, &w), "%s", good[i].text);
        ck_assert_int_eq(w.kind, good[i].kind);
        if (w.kind >= WHERE_OFFSET) ck_assert_msg(w.n == good[i].n, "%s is %lld", good[i].text, (long long)w.n);
    }
    static const char *const bad[] = {
        "", "first", "9223372036854775808", "+", "-", "--1", "1x", "@", "@-1", "P", "PT", "P1", "P1H", "PT1D", "PT1M2H", "P1DT", "PT1.5M", "PT1.S",
        "P99999999999999999D", "P999999999999999D", "1969-12-31T23:59", "2023-02-29T12:00", "2024-13-01T00:00", "2024-01-01", "2024-01-01T24:00", "2024-01-01T00:00:00.",
        "2024-01-01T00:00X", "2024-01-01T00:00+1", "2024-01-01T00:00+19:00", "1970-01-01T00:00+01:00"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct where w;
        ck_assert_msg(!where_parse(bad[i], NOW_MS, &w), "%s", bad[i]);
    }
}
END_TEST

START_TEST(rows) {
    struct csv_row row;
    char a[] = "topic,1,20\n", b[] = " \"g\" , \"my topic\",0,0\r\n", c[] = "t,1", d[] = "t,-1,0", e[] = "t,1,x", f[] = ",1,1", g[] = "a,b,1,2,3",
         h[] = "t,2147483648,1", i[] = "";
    ck_assert(csv_parse(a, &row));
    ck_assert(row.group == NULL && strcmp(row.topic, "topic") == 0 && row.partition == 1 && row.offset == 20);
    ck_assert(csv_parse(b, &row));
    ck_assert(strcmp(row.group, "g") == 0 && strcmp(row.topic, "my topic") == 0 && row.partition == 0 && row.offset == 0);
    ck_assert(!csv_parse(c, &row) && !csv_parse(d, &row) && !csv_parse(e, &row) && !csv_parse(f, &row) && !csv_parse(g, &row));
    ck_assert(!csv_parse(h, &row) && !csv_parse(i, &row));
}
END_TEST

START_TEST(scopes) {
    const char *partitions;
    int32_t largest;
    ck_assert_uint_eq(scope_topic("t", &partitions), 1);
    ck_assert(partitions == NULL && scope_valid(partitions, &largest) && largest == -1);
    ck_assert_uint_eq(scope_topic("ab:3,12", &partitions), 2);
    ck_assert(scope_valid(partitions, &largest) && largest == 12);
    ck_assert(scope_has("t", "t", 5) && !scope_has("t", "tt", 5) && !scope_has("tt", "t", 5));
    ck_assert(scope_has("t:3,12", "t", 12) && scope_has("t:3,12", "t", 3) && !scope_has("t:3,12", "t", 1) && !scope_has("t:3,12", "u", 3));
    static const char *const bad[] = {"", ",", "1,", ",1", "1,,2", "a", "1a", "-1", "2147483648"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) ck_assert_msg(!scope_valid(bad[i], &largest), "%s", bad[i]);
}
END_TEST

START_TEST(nonsense) { /* must only come back */
    static const char letters[] = "0123456789+-@PTDHMS:.,Z\" \tet";
    uint64_t dice = 88172645463325252;
    for (int i = 0; i < 200000; i++) {
        char text[24], line[24];
        struct where w;
        struct csv_row row;
        int32_t largest;
        size_t len = 0;
        do {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            text[len++] = letters[dice % (sizeof letters - 1)];
        } while (len < sizeof text - 1 && dice >> 60);
        text[len] = '\0';
        memcpy(line, text, sizeof line);
        if (where_parse(text, NOW_MS, &w) && w.kind == WHERE_TIME) ck_assert_int_ge(w.n, 0);
        (void)csv_parse(line, &row);
        if (scope_valid(text, &largest)) {
            char scope[32];
            scope[0] = 't';
            scope[1] = ':';
            memcpy(scope + 2, text, len + 1);
            ck_assert(scope_has(scope, "t", largest));
        }
    }
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("seek");
    tcase_add_test(tc, places);
    tcase_add_test(tc, rows);
    tcase_add_test(tc, scopes);
    tcase_add_test(tc, nonsense);
    Suite *suite = suite_create("cli_seek");
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed;
}
