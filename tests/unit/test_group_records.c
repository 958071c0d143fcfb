/* Records of __consumer_offsets: Kafka's bytes, every type there and back with random values, damage, bounds. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "proto/group_records.h"
#include "proto/kafka_messages_test.h"

static struct group_records records;
static struct arena arena;

static void setup(void) {
    group_records_init(&records, 1 << 20, 1000);
    arena_init(&arena, 1 << 22);
}
static void teardown(void) {
    group_records_free(&records);
    arena_free(&arena);
}

static const char *hex(struct bytes b) {
    static char text[1024];
    if (!b.p) return "null";
    ck_assert_int_lt(b.len, 500);
    text[0] = 0;
    for (int32_t i = 0; i < b.len; i++) snprintf(text + 2 * i, 3, "%02x", b.p[i]);
    return text;
}

/* The bytes that Kafka 4.3.1 writes for the same facts. */
START_TEST(bytes_of_an_offset) {
    struct group_key key = {.type = K_OFFSET_COMMIT_KEY_TYPE, .group = STR_LIT("g"), .topic = STR_LIT("tt"), .partition = 3};
    struct group_value value;
    group_value_init(key.type, &value);
    value.offset_commit.offset = 5;
    value.offset_commit.metadata = STR_LIT("m");
    value.offset_commit.commit_timestamp = 9;
    group_records_put(&records, &key, &value);
    group_records_put(&records, &key, NULL);
    ck_assert_int_eq(records.err, OK);
    ck_assert_uint_eq(records.count, 2);
    ck_assert_str_eq(hex(group_records_key(&records, 0)), "0001" "000167" "00027474" "00000003");
    ck_assert_str_eq(hex(group_records_value(&records, 0)), "0004" "0000000000000005" "ffffffff" "026d" "0000000000000009" "00");
    ck_assert_str_eq(hex(group_records_key(&records, 1)), "0001" "000167" "00027474" "00000003");
    ck_assert_str_eq(hex(group_records_value(&records, 1)), "null");
}
END_TEST

START_TEST(bytes_of_a_consumer_group) {
    struct group_key key = {.type = K_CONSUMER_GROUP_METADATA_KEY_TYPE, .group = STR_LIT("g")};
    struct group_value value;
    group_value_init(key.type, &value);
    value.consumer_group.epoch = 2;
    value.consumer_group.metadata_hash = 1;
    group_records_put(&records, &key, &value);
    ck_assert_str_eq(hex(group_records_key(&records, 0)), "0003" "000167");
    ck_assert_str_eq(hex(group_records_value(&records, 0)), "0000" "00000002" "01" "00" "08" "0000000000000001");

    key = (struct group_key){.type = K_CONSUMER_GROUP_CURRENT_MEMBER_ASSIGNMENT_KEY_TYPE, .group = STR_LIT("g"), .member_id = STR_LIT("m1")};
    int32_t partitions[] = {1, 2}, epochs[] = {7, 8};
    struct k_consumer_group_current_member_assignment_value_topic_partitions topic = {
        .topic_id = {{1}}, .partitions = partitions, .partitions_n = 2, .assignment_epochs = epochs, .assignment_epochs_n = 2};
    group_value_init(key.type, &value);
    value.current_member.member_epoch = 8;
    value.current_member.previous_member_epoch = 7;
    value.current_member.assigned_partitions = &topic;
    value.current_member.assigned_partitions_n = 1;
    group_records_put(&records, &key, &value);
    ck_assert_int_eq(records.err, OK);
    ck_assert_str_eq(hex(group_records_key(&records, 1)), "0008" "000167" "00026d31");
    ck_assert_str_eq(hex(group_records_value(&records, 1)),
                     "0000" "00000008" "00000007" "00" "02" "01000000000000000000000000000000" "03" "00000001" "00000002"
                     "01" "00" "09" "03" "00000007" "00000008" "01" "00");
}
END_TEST

static const struct {
    int16_t type;
    const char *message;
} types[] = {
    {0, "LegacyOffsetCommitValue"}, {1, "OffsetCommitValue"}, {2, "GroupMetadataValue"}, {3, "ConsumerGroupMetadataValue"},
    {4, "ConsumerGroupPartitionMetadataValue"}, {5, "ConsumerGroupMemberMetadataValue"},
    {6, "ConsumerGroupTargetAssignmentMetadataValue"}, {7, "ConsumerGroupTargetAssignmentMemberValue"},
    {8, "ConsumerGroupCurrentMemberAssignmentValue"}, {16, "ConsumerGroupRegularExpressionValue"}};

static const struct codec_message *message_of(size_t i) {
    const char *name = i == 0 ? "OffsetCommitValue" : types[i].message; /* the old type has the new one's value */
    for (size_t m = 0; m < KAFKA_MESSAGE_TESTS; m++)
        if (strcmp(kafka_message_tests[m].name, name) == 0) return &kafka_message_tests[m];
    ck_abort_msg("no message %s", name);
}

static struct group_key random_key(int16_t type, struct codec_fill *fill) {
    struct group_key key = {.type = type, .group = fill_str(fill, false)};
    if (type <= 1) {
        key.topic = fill_str(fill, false);
        key.partition = fill_i32(fill);
    }
    if (type == 5 || type == 7 || type == 8) key.member_id = fill_str(fill, false);
    if (type == 16) key.regex = fill_str(fill, false);
    return key;
}

static bool key_equal(const struct group_key *a, const struct group_key *b) {
    return a->type == b->type && str_eq(a->group, b->group) && str_eq(a->topic, b->topic) && a->partition == b->partition &&
           str_eq(a->member_id, b->member_id) && str_eq(a->regex, b->regex);
}

/* Every type in every version: what was put is what is parsed; every shorter piece is refused, no byte crashes. */
START_TEST(there_and_back) {
    for (uint64_t seed = 1; seed <= 20; seed++) {
        for (size_t i = 0; i < ARRAY_LEN(types); i++) {
            const struct codec_message *message = message_of(i);
            for (int16_t version = message->min_version; version <= message->max_version; version++) {
                arena_reset(&arena);
                group_records_reset(&records);
                struct codec_fill fill = {&arena, seed * 131 + i};
                struct group_key key = random_key(types[i].type, &fill), key_back;
                struct group_value value, value_back;
                group_value_init(key.type, &value);
                value.version = version;
                message->fill(&value.offset_commit, &fill, version);
                group_records_put(&records, &key, &value);
                ck_assert_int_eq(records.err, OK);
                struct bytes k = group_records_key(&records, 0), v = group_records_value(&records, 0);
                ck_assert_int_eq(group_key_parse(k, &key_back), OK);
                ck_assert(key_equal(&key, &key_back));
                ck_assert_int_eq(group_value_parse(key.type, v, &arena, &value_back), OK);
                ck_assert_int_eq(value_back.version, version);
                ck_assert(message->equal(&value.offset_commit, &value_back.offset_commit));
                for (int32_t len = 0; len < k.len; len++)
                    ck_assert_int_ne(group_key_parse((struct bytes){k.p, len}, &key_back), OK);
                for (int32_t len = 0; len < v.len; len++)
                    ck_assert_int_ne(group_value_parse(key.type, (struct bytes){v.p, len}, &arena, &value_back), OK);
            }
        }
    }
}
END_TEST

START_TEST(other_types_are_passed_over) {
    for (int type = -2; type < 30; type++) {
        uint8_t bytes[] = {(uint8_t)(type >> 8), (uint8_t)type, 0, 1, 'g', 0, 1, 'x', 0, 0, 0, 1};
        struct group_key key;
        bool known = (type >= 0 && type <= 8) || type == 16;
        ck_assert_int_eq(group_key_parse((struct bytes){bytes, sizeof bytes}, &key), known ? OK : ERR_UNSUPPORTED);
        ck_assert_int_eq(key.type, type);
        ck_assert(group_record_type_known((int16_t)type) == known);
        struct group_value value;
        uint8_t newer[] = {0, 99};
        ck_assert_int_eq(group_value_parse((int16_t)type, (struct bytes){newer, 2}, &arena, &value), ERR_UNSUPPORTED);
    }
    ck_assert_int_eq(group_key_parse(BYTES_NULL, &(struct group_key){0}), ERR_TRUNCATED);
}
END_TEST

/* A bound that is hit sticks, keeps what was whole, and goes with a reset. */
START_TEST(lists_are_bounded) {
    struct group_key key = {.type = K_GROUP_METADATA_KEY_TYPE, .group = STR_LIT("group")};
    group_records_free(&records);
    group_records_init(&records, 1 << 20, 3);
    for (int i = 0; i < 5; i++) group_records_put(&records, &key, NULL);
    ck_assert_int_eq(records.err, ERR_TOO_LARGE);
    ck_assert_uint_eq(records.count, 3);
    group_records_reset(&records);
    group_records_put(&records, &key, NULL);
    ck_assert_int_eq(records.err, OK);

    group_records_free(&records);
    group_records_init(&records, 20, 100);
    for (int i = 0; i < 5; i++) group_records_put(&records, &key, NULL);
    ck_assert_int_eq(records.err, ERR_TOO_LARGE);
    ck_assert_uint_eq(records.count, 2);
    ck_assert_str_eq(hex(group_records_key(&records, 1)), "0002" "000567726f7570");
    group_records_reset(&records);
    static char long_name[40000];
    key.group = (struct str){long_name, sizeof long_name};
    group_records_put(&records, &key, NULL);
    ck_assert_int_eq(records.err, ERR_INVALID);
    ck_assert_uint_eq(records.count, 0);
}
END_TEST

int main(void) {
    Suite *s = suite_create("group_records");
    TCase *t = tcase_create("group_records");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, bytes_of_an_offset);
    tcase_add_test(t, bytes_of_a_consumer_group);
    tcase_add_test(t, there_and_back);
    tcase_add_test(t, other_types_are_passed_over);
    tcase_add_test(t, lists_are_bounded);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
