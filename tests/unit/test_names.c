/* Names of topics, folders and files, and Kafka's small text files. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "log/kafka_files.h"
#include "log/names.h"

START_TEST(topic_names) {
    const char *good[] = {"a", "A.b_c-9", "...", "-", "__consumer_offsets", "0"};
    const char *bad[] = {"", ".", "..", "a b", "a/b", "a:b", "\xc3\xa4", "a\n", "a\\b"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) ck_assert_msg(topic_name_ok(str_from(good[i])), "%s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) ck_assert_msg(!topic_name_ok(str_from(bad[i])), "%s", bad[i]);
    char name[300];
    memset(name, 'x', sizeof name);
    ck_assert(topic_name_ok((struct str){name, 249}));
    ck_assert(!topic_name_ok((struct str){name, 250}));
    ck_assert(!topic_name_ok(STR_NULL));
    ck_assert(!topic_name_ok((struct str){"a\0b", 3}));
}
END_TEST

START_TEST(clashing_names) {
    ck_assert(topic_names_clash(STR_LIT("a.b_c"), STR_LIT("a_b.c")));
    ck_assert(topic_names_clash(STR_LIT("a"), STR_LIT("a")));
    ck_assert(!topic_names_clash(STR_LIT("a.b"), STR_LIT("a-b")));
    ck_assert(!topic_names_clash(STR_LIT("a.b"), STR_LIT("a.bc")));
}
END_TEST

START_TEST(folders) {
    char name[FOLDER_NAME_BYTES], long_topic[250];
    struct str topic;
    int32_t partition;
    folder_name(name, "my-topic", 12);
    ck_assert_str_eq(name, "my-topic-12");
    ck_assert_int_eq(folder_parse(name, &topic, &partition), FOLDER_PARTITION);
    ck_assert(str_is(topic, "my-topic"));
    ck_assert_int_eq(partition, 12);
    memset(long_topic, 't', 249);
    long_topic[249] = '\0';
    folder_name(name, long_topic, INT32_MAX);
    ck_assert_int_eq(folder_parse(name, &topic, &partition), FOLDER_PARTITION);
    ck_assert_int_eq(topic.len, 249);
    folder_name_deleted(name, "t", 3, 77);
    ck_assert_str_eq(name, "t-3.77-delete");
    ck_assert_int_eq(folder_parse(name, &topic, &partition), FOLDER_DELETED);
    folder_name_deleted(name, long_topic, INT32_MAX, UINT64_MAX);
    ck_assert_uint_eq(strlen(name), 255);
    ck_assert_int_eq(folder_parse(name, &topic, &partition), FOLDER_DELETED);
    folder_name_stray(name, "t-3", 77);
    ck_assert_str_eq(name, "t-3.77-stray");
    ck_assert_int_eq(folder_parse(name, &topic, &partition), FOLDER_STRAY);
    ck_assert_int_eq(folder_parse("t-3.abc-future", &topic, &partition), FOLDER_FUTURE);
    folder_name(name, "journal", 0);   /* must not be the commit journal's folder */
    ck_assert_str_eq(name, "journal~-0");
    ck_assert_int_eq(folder_parse(name, &topic, &partition), FOLDER_PARTITION);
    ck_assert(str_is(topic, "journal"));
    ck_assert_int_eq(folder_parse("journal-3", &topic, &partition), FOLDER_JOURNAL);
    ck_assert_int_eq(partition, 3);
    const char *other[] = {"", "t", "t-", "-1", "t-01", "t-x", "t-2147483648", "t-1x", "..-", "a b-1", "t--",
                           "t-99999999999"};
    for (size_t i = 0; i < sizeof other / sizeof *other; i++)
        ck_assert_msg(folder_parse(other[i], &topic, &partition) == FOLDER_OTHER, "%s", other[i]);
    ck_assert_int_eq(folder_parse("t--1", &topic, &partition), FOLDER_PARTITION);
    ck_assert(str_is(topic, "t-"));
}
END_TEST

START_TEST(files) {
    char name[FILE_NAME_BYTES];
    int64_t offset = -1;
    file_name(name, 0, FILE_LOG);
    ck_assert_str_eq(name, "00000000000000000000.log");
    file_name(name, INT64_MAX, FILE_TIMEINDEX);
    ck_assert_str_eq(name, "09223372036854775807.timeindex");
    for (enum file_kind k = FILE_LOG; k < FILE_KIND_COUNT; k++) {
        file_name(name, 123456789012345, k);
        ck_assert_int_eq(file_parse(name, &offset), k);
        ck_assert_int_eq(offset, 123456789012345);
    }
    const char *other[] = {"", "0.log", "0000000000000000000.log", "000000000000000000000.log",
                           "00000000000000000000.lo", "00000000000000000000.log2",
                           "09223372036854775808.log", "99999999999999999999.log", "00000000000000000000", "0000000000000000000x.log"};
    for (size_t i = 0; i < sizeof other / sizeof *other; i++) ck_assert_msg(file_parse(other[i], &offset) == FILE_OTHER,
                                                                            "%s", other[i]);
}
END_TEST

START_TEST(uuid_text) {
    char text[UUID_TEXT_BYTES];
    struct uuid u = {{0}}, back;
    uuid_to_text(&u, text);
    ck_assert_str_eq(text, "AAAAAAAAAAAAAAAAAAAAAA");
    memset(&u, 0xff, sizeof u);
    uuid_to_text(&u, text);
    ck_assert_str_eq(text, "_____________________w");
    /* RFC 4648 base64url of 00 01 .. 0f */
    for (int i = 0; i < 16; i++) u.b[i] = (uint8_t)i;
    uuid_to_text(&u, text);
    ck_assert_str_eq(text, "AAECAwQFBgcICQoLDA0ODw");
    ck_assert(uuid_from_text(str_from(text), &back));
    ck_assert(uuid_eq(&u, &back));
    ck_assert(!uuid_from_text(STR_LIT("AAECAwQFBgcICQoLDA0OD"), &back));
    ck_assert(!uuid_from_text(STR_LIT("AAECAwQFBgcICQoLDA0OD+"), &back));
    ck_assert(!uuid_from_text(STR_LIT("AAECAwQFBgcICQoLDA0ODx"), &back));
}
END_TEST

START_TEST(partition_metadata) {
    struct uuid id, back;
    for (int i = 0; i < 16; i++) id.b[i] = (uint8_t)i;
    char *text = partition_metadata_to_text(&id);
    ck_assert_str_eq(text, "version: 0\ntopic_id: AAECAwQFBgcICQoLDA0ODw");
    ck_assert_int_eq(partition_metadata_from_text(text, strlen(text), &back), OK);
    ck_assert(uuid_eq(&id, &back));
    for (size_t len = 0; len < strlen(text); len++) ck_assert_int_eq(partition_metadata_from_text(text, len, &back),
                                                                     ERR_CORRUPT);
    free(text);
    const char *line = "version: 0\ntopic_id: AAECAwQFBgcICQoLDA0ODw\n";
    ck_assert_int_eq(partition_metadata_from_text(line, strlen(line), &back), OK);
    const char *later = "version: 1\ntopic_id: AAECAwQFBgcICQoLDA0ODw\n";
    ck_assert_int_eq(partition_metadata_from_text(later, strlen(later), &back), ERR_CORRUPT);
}
END_TEST

START_TEST(offset_checkpoints) {
    struct offset_entry in[] = {{STR_LIT("a"), 0, 0}, {STR_LIT("b.c"), 2147483647, INT64_MAX}};
    struct offset_checkpoint c;
    char *text = offset_checkpoint_to_text(in, 2);
    ck_assert_str_eq(text, "0\n2\na 0 0\nb.c 2147483647 9223372036854775807\n");
    ck_assert_int_eq(offset_checkpoint_from_text(&c, text, strlen(text)), OK);
    ck_assert_uint_eq(c.count, 2);
    ck_assert(str_is(c.entries[1].topic, "b.c"));
    ck_assert_int_eq(c.entries[1].partition, 2147483647);
    ck_assert_int_eq(c.entries[1].offset, INT64_MAX);
    offset_checkpoint_free(&c);
    free(text);
    const char *bad[] = {"", "0\n1\n", "1\n0\n", "0\n1\na 0\n", "0\n1\na 0 0 0\n", "0\n0\na 0 0\n", "0\n1\na -1 0\n",
                         "0\n1\na/b 0 0\n", "0\n1\na 2147483648 0\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(offset_checkpoint_from_text(&c, bad[i], strlen(bad[i])) == ERR_CORRUPT, "accepted: %s", bad[i]);
}
END_TEST

int main(void) {
    Suite *s = suite_create("names");
    TCase *t = tcase_create("names");
    tcase_add_test(t, topic_names);
    tcase_add_test(t, clashing_names);
    tcase_add_test(t, folders);
    tcase_add_test(t, files);
    tcase_add_test(t, uuid_text);
    tcase_add_test(t, partition_metadata);
    tcase_add_test(t, offset_checkpoints);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
