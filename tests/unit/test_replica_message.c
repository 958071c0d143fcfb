/* What replicas tell each other: which messages are well formed, and appends of which less was attached than was asked for. */
#include <check.h>
#include <stdlib.h>
#include "replication/message.h"

/* Elements behind (3, 10): records to 12, epoch 4, none, epoch 6, records to 15; from the leader of epoch 6. */
static struct replica_message append(void) {
    return (struct replica_message){
        .kind = REPLICA_APPEND, .epoch = 6, .prev = {3, 10}, .markers = {{4, 12}, {6, 12}}, .marker_count = 2, .end_offset = 15,
        .config = {.id = {6, 1}, .voters = 1, .count = 2, .members = {{.node = 1}, {.node = 2}}},
    };
}

START_TEST(what_is_well_formed) {
    struct replica_message m = append();
    ck_assert(replica_message_is_valid(&m));
    m.markers[0].start = 10; /* no records of epoch 3 */
    ck_assert(replica_message_is_valid(&m));
    m.markers[0].start = 12;
    m.end_offset = 12; /* none of epoch 6 */
    ck_assert(replica_message_is_valid(&m));
    m = (struct replica_message){.kind = REPLICA_TIMEOUT_NOW};
    ck_assert(replica_message_is_valid(&m));
    m = (struct replica_message){.kind = REPLICA_APPEND};
    ck_assert(replica_message_is_valid(&m));
    m = append(); /* of who leads no more, but not of who never did */
    m.epoch = 7;
    ck_assert(replica_message_is_valid(&m));
    m.marker_count = REPLICA_MESSAGE_MARKERS_MAX;
    for (int i = 0; i < REPLICA_MESSAGE_MARKERS_MAX; i++) m.markers[i] = (struct replica_marker){4 + i, 12};
    m.epoch = 3 + REPLICA_MESSAGE_MARKERS_MAX;
    ck_assert(replica_message_is_valid(&m));
}
END_TEST

#define REFUSED(change)                                                                     \
    do {                                                                                    \
        struct replica_message m = append();                                                \
        change;                                                                             \
        ck_assert_msg(!replica_message_is_valid(&m), "%s is taken for well formed", #change); \
    } while (0)

START_TEST(what_is_not) {
    REFUSED(m.kind = REPLICA_TIMEOUT_NOW + 1);
    REFUSED(m.epoch = -1);
    REFUSED(m.kind = REPLICA_VOTE; m.epoch = -1);
    REFUSED(m.asked_epoch = -1);
    REFUSED(m.prev.epoch = -1);
    REFUSED(m.prev.offset = -1);
    REFUSED(m.match.epoch = -1);
    REFUSED(m.match.offset = -1);
    REFUSED(m.high_watermark = -1);
    REFUSED(m.start = -1);
    REFUSED(m.config.voters = 0);
    REFUSED(m.config.voters = 3);
    REFUSED(m.config.count = REPLICA_MEMBERS_MAX + 1);
    REFUSED(m.config.members[1].node = 1);
    REFUSED(m.marker_count = REPLICA_MESSAGE_MARKERS_MAX + 1);
    REFUSED(m.markers[0].epoch = 3);
    REFUSED(m.markers[1].epoch = 4);
    REFUSED(m.markers[0].start = 9);
    REFUSED(m.markers[1].start = 11);
    REFUSED(m.end_offset = 11);
    REFUSED(m.marker_count = 0; m.end_offset = 9);
    REFUSED(m.epoch = 5);
    REFUSED(m.marker_count = 0; m.epoch = 2);
}
END_TEST

START_TEST(shortened) {
    struct replica_message m = append();
    replica_message_shorten(&m, 13);
    ck_assert(m.marker_count == 2 && m.end_offset == 13);
    replica_message_shorten(&m, 12); /* what begins where it ends stays: markers take no room */
    ck_assert(m.marker_count == 2 && m.end_offset == 12);
    ck_assert_int_eq(replica_message_end(&m).epoch, 6);
    replica_message_shorten(&m, 11);
    ck_assert(m.marker_count == 0 && m.end_offset == 11);
    ck_assert_int_eq(replica_message_end(&m).epoch, 3);
    ck_assert(replica_message_is_valid(&m));
}
END_TEST

int main(void) {
    Suite *s = suite_create("replica_message");
    TCase *t = tcase_create("replica_message");
    tcase_add_test(t, what_is_well_formed);
    tcase_add_test(t, what_is_not);
    tcase_add_test(t, shortened);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
