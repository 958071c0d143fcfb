/* The metadata image: records applied to edits, lookups, what an edit shares and what it replaces. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include "tests/unit/image_records.h"

static struct broker broker;
static struct image *im;

/* The edit asks the store for the reactor of each log: a store in a temporary folder would be heavier than
 * what is tested, so topics here have no partitions unless a test brings a store (test_api_admin.c). */
static void set_up(void) {
    memset(&broker, 0, sizeof broker);
    ck_assert_int_eq(config_defaults(&broker.config), OK);
    im = image_new_empty();
}
static void tear_down(void) {
    image_free_last(im);
    config_free(&broker.config);
}

static enum err apply(struct image_edit *e, const Varve__Metadata__Record *r) {
    uint8_t packed[2048];
    size_t len = varve__metadata__record__pack(r, packed);
    return image_edit_apply(e, 0, packed, len);
}

#define USER STR_LIT("u\0v")
static double quota_of(const struct image *image) {
    bool by_user, by_client;
    return quota_set_limit(image->quotas, QUOTA_PRODUCER_BYTES, (struct str){"u\0v", 3}, STR_LIT("c"), &by_user, &by_client);
}

static struct image_edit *begin(void) {
    struct image_edit *e = image_edit_begin(&broker, im);
    ck_assert_ptr_nonnull(e);
    return e;
}
/* The edit becomes the image, as when every reactor has moved on. */
static void end(struct image_edit *e) {
    struct image *next = image_edit_finish(e, im->metadata_end + 1);
    image_free_older(im, next);
    im = next;
}

START_TEST(client_quotas_are_set_and_removed) {
    struct image_edit *e = begin();
    ck_assert_int_eq(set_quota(e, "user", USER, "producer_byte_rate", 1000), OK);
    ck_assert_int_eq(set_quota(e, "user", USER, "producer_byte_rate", 2000), OK);
    end(e);
    ck_assert_double_eq(quota_of(im), 2000);
    const struct quota_set *before = im->quotas;
    e = begin(); /* another change shares them */
    ck_assert_int_eq(add_topic(e, 1, "t"), OK);
    end(e);
    ck_assert_ptr_eq(im->quotas, before);
    e = begin(); /* an edit that is dropped leaves them */
    ck_assert_int_eq(set_quota(e, "user", USER, "producer_byte_rate", 0), OK);
    ck_assert_int_eq(set_quota(e, "user", USER, "consumer_byte_rate", 5), OK);
    image_edit_drop(e);
    ck_assert_double_eq(quota_of(im), 2000);
    e = begin();
    ck_assert_int_eq(set_quota(e, "user", USER, "producer_byte_rate", 0), OK);
    ck_assert_int_eq(set_quota(e, "user", USER, "producer_byte_rate", 0), OK);
    ck_assert_int_eq(set_quota(e, "user", USER, "no_such_rate", 1), ERR_CORRUPT);
    ck_assert_int_eq(set_quota(e, "client-id", USER, "producer_byte_rate", 1), ERR_CORRUPT); /* twice */
    ck_assert_int_eq(set_quota(e, "group", USER, "producer_byte_rate", 1), ERR_CORRUPT);
    ck_assert_int_eq(set_quota(e, "ip", USER, "connection_creation_rate", 1), ERR_CORRUPT);
    ck_assert_int_eq(set_quota(e, "user", USER, "producer_byte_rate", -1), ERR_CORRUPT);
    ck_assert_int_eq(set_quota(e, "user", USER, "producer_byte_rate", 0.5), ERR_CORRUPT);
    end(e);
    ck_assert_double_eq(quota_of(im), 0);
    ck_assert_uint_eq(im->quotas->count, 0);
}
END_TEST

START_TEST(topics_are_found_by_name_and_id) {
    struct image_edit *e = begin();
    char name[16];
    for (uint8_t i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "t-%d", (i * 37) % 100); /* in no order */
        ck_assert_int_eq(add_topic(e, (uint8_t)((i * 37) % 100), name), OK);
    }
    end(e);
    ck_assert_uint_eq(im->topic_count, 100);
    for (uint8_t i = 0; i < 100; i++) {
        struct uuid id = id_of(i);
        snprintf(name, sizeof name, "t-%d", i);
        const struct image_topic *t = image_topic_by_name(im, str_from(name));
        ck_assert_ptr_nonnull(t);
        ck_assert_ptr_eq(t, image_topic_by_id(im, &id));
        ck_assert_str_eq(t->name, name);
    }
    struct uuid unknown = id_of(200);
    ck_assert_ptr_null(image_topic_by_name(im, STR_LIT("t-")));
    ck_assert_ptr_null(image_topic_by_name(im, STR_LIT("t-999")));
    ck_assert_ptr_null(image_topic_by_name(im, STR_LIT("")));
    ck_assert_ptr_null(image_topic_by_id(im, &unknown));
    for (uint32_t i = 1; i < im->topic_count; i++)
        ck_assert_int_lt(strcmp(im->by_name[i - 1]->name, im->by_name[i]->name), 0);
}
END_TEST

START_TEST(levels_of_features_are_those_that_are_known) {
    uint32_t count;
    const struct feature *features = features_table(&count);
    struct image_edit *e = begin();
    for (uint32_t i = 0; i < count; i++) {
        ck_assert_int_eq(im->feature_levels[i], features[i].initial);
        ck_assert_int_eq(set_feature(e, features[i].name, features[i].max + 1), ERR_UNSUPPORTED); /* a later version wrote it */
        ck_assert_int_eq(set_feature(e, features[i].name, -1), ERR_UNSUPPORTED);
        ck_assert_int_eq(set_feature(e, features[i].name, features[i].min), OK);
    }
    ck_assert_int_eq(set_feature(e, "from.the.future", 1), ERR_UNSUPPORTED);
    end(e);
    end(begin()); /* the next image has them too */
    for (uint32_t i = 0; i < count; i++) ck_assert_int_eq(im->feature_levels[i], features[i].min);
}
END_TEST

static const char *in_force(const char *key) { return config_value(image_config(im, &broker), key)->text; }

START_TEST(configs_of_brokers_lie_over_what_was_read_at_start) {
    struct image_edit *e = begin();
    ck_assert_int_eq(add_topic(e, 1, "plain"), OK);
    ck_assert_int_eq(add_topic(e, 2, "own"), OK);
    ck_assert_int_eq(set_config(e, 2, "own", "max.message.bytes", "500"), OK);
    end(e);
    ck_assert_ptr_null(im->broker);
    ck_assert_ptr_eq(image_config(im, &broker), &broker.config);
    e = begin();
    ck_assert_int_eq(set_config(e, 4, "", "message.max.bytes", "3000"), OK);
    ck_assert_int_eq(set_config(e, 4, "1", "message.max.bytes", "2000"), OK);
    ck_assert_int_eq(set_config(e, 3, "1", "message.max.bytes", "2000"), ERR_UNSUPPORTED);
    image_edit_drop(e);
    ck_assert_str_eq(in_force("message.max.bytes"), "1048588");
    e = begin();
    ck_assert_int_eq(set_config(e, 4, "", "message.max.bytes", "3000"), OK);
    ck_assert_int_eq(set_config(e, 4, "1", "message.max.bytes", "2000"), OK);
    ck_assert_int_eq(set_config(e, 4, "1", "from.a.later.version", "x"), OK); /* kept, without effect */
    end(e);
    ck_assert_str_eq(in_force("message.max.bytes"), "2000");
    const struct image_topic *own = image_topic_by_name(im, STR_LIT("own"));
    ck_assert_int_eq(image_topic_by_name(im, STR_LIT("plain"))->config.max_message_bytes, 2000);
    ck_assert_int_eq(own->config.max_message_bytes, 500);
    ck_assert_uint_eq(im->change_count, 1); /* only what follows is told to the reactors */
    ck_assert_ptr_eq(im->changes[0].topic, image_topic_by_name(im, STR_LIT("plain")));
    e = begin();
    ck_assert_int_eq(set_config(e, 4, "1", "message.max.bytes", NULL), OK);
    ck_assert_int_eq(add_topic(e, 3, "later"), OK);
    end(e);
    ck_assert_str_eq(in_force("message.max.bytes"), "3000");
    ck_assert_int_eq(image_topic_by_name(im, STR_LIT("plain"))->config.max_message_bytes, 3000);
    ck_assert_int_eq(image_topic_by_name(im, STR_LIT("later"))->config.max_message_bytes, 3000);
    ck_assert_ptr_eq(image_topic_by_name(im, STR_LIT("own")), own); /* shared */
    end(begin()); /* the next image shares the broker's, too */
    ck_assert_str_eq(in_force("message.max.bytes"), "3000");
}
END_TEST

START_TEST(other_brokers_keep_their_configs) {
    struct image_edit *e = begin();
    ck_assert_int_eq(set_config(e, 4, "2", "message.max.bytes", "2000"), OK);
    ck_assert_int_eq(set_config(e, 4, "10", "message.max.bytes", "3000"), OK);
    end(e);
    ck_assert_str_eq(in_force("message.max.bytes"), "1048588"); /* here nothing is */
    ck_assert_ptr_null(image_broker_configs(im, &broker, 1));
    ck_assert_ptr_null(image_broker_configs(im, &broker, 3));
    ck_assert_str_eq(image_config_get(image_broker_configs(im, &broker, 2), "message.max.bytes"), "2000");
    e = begin();
    ck_assert_int_eq(set_config(e, 4, "2", "message.max.bytes", NULL), OK);
    ck_assert_int_eq(set_config(e, 4, "1", "message.max.bytes", "4000"), OK);
    ck_assert_str_eq(image_config_get(image_broker_configs(im, &broker, 2), "message.max.bytes"), "2000"); /* as it was published */
    end(e);
    ck_assert_ptr_null(image_broker_configs(im, &broker, 2));
    ck_assert_str_eq(image_config_get(image_broker_configs(im, &broker, 10), "message.max.bytes"), "3000");
    ck_assert_str_eq(image_config_get(image_broker_configs(im, &broker, 1), "message.max.bytes"), "4000");
    image_edit_drop(begin());
}
END_TEST

START_TEST(names_that_differ_in_dots_only_collide) {
    struct image_edit *e = begin();
    ck_assert_int_eq(add_topic(e, 1, "a.b_c"), OK);
    ck_assert_int_eq(add_topic(e, 2, "other"), OK);
    end(e);
    ck_assert_ptr_nonnull(image_topic_colliding(im, STR_LIT("a_b_c")));
    ck_assert_ptr_nonnull(image_topic_colliding(im, STR_LIT("a.b.c")));
    ck_assert_ptr_null(image_topic_colliding(im, STR_LIT("a.b_c"))); /* itself */
    ck_assert_ptr_null(image_topic_colliding(im, STR_LIT("a-b_c")));
    ck_assert_ptr_null(image_topic_colliding(im, STR_LIT("othe.")));
}
END_TEST

START_TEST(records_that_contradict_are_refused) {
    struct image_edit *e = begin();
    ck_assert_int_eq(add_topic(e, 1, "a"), OK);
    ck_assert_int_eq(add_topic(e, 1, "b"), ERR_CORRUPT);
    ck_assert_int_eq(add_topic(e, 2, "a"), ERR_CORRUPT);
    ck_assert_int_eq(add_topic(e, 2, ""), ERR_CORRUPT);
    ck_assert_int_eq(remove_topic(e, 9), ERR_CORRUPT);
    ck_assert_int_eq(set_config(e, 2, "nobody", "retention.ms", "1"), ERR_CORRUPT);
    ck_assert_int_eq(set_config(e, 77, "a", "retention.ms", "1"), ERR_UNSUPPORTED);
    ck_assert_int_eq(set_next_id(e, 1000), OK);
    ck_assert_int_eq(set_next_id(e, 999), ERR_CORRUPT);
    uint8_t nothing = 0, garbage[] = {0xff, 0xff, 0xff}, later[] = {0xa2, 0x06, 0x00}; /* field 100: a kind of the future */
    ck_assert_int_eq(image_edit_apply(e, 0, &nothing, 0), ERR_UNSUPPORTED);
    ck_assert_int_eq(image_edit_apply(e, 0, garbage, sizeof garbage), ERR_CORRUPT);
    ck_assert_int_eq(image_edit_apply(e, 0, later, sizeof later), ERR_UNSUPPORTED);
    end(e);
    ck_assert_uint_eq(im->topic_count, 1);
    ck_assert_int_eq(im->next_producer_id, 1000);
}
END_TEST

START_TEST(an_edit_shares_what_it_leaves_alone) {
    struct image_edit *e = begin();
    ck_assert_int_eq(add_topic(e, 1, "changed"), OK);
    ck_assert_int_eq(add_topic(e, 2, "same"), OK);
    end(e);
    const struct image_topic *changed = image_topic_by_name(im, STR_LIT("changed"));
    const struct image_topic *same = image_topic_by_name(im, STR_LIT("same"));
    e = begin();
    ck_assert_int_eq(set_config(e, 2, "changed", "retention.ms", "1"), OK);
    ck_assert_int_eq(set_config(e, 2, "changed", "retention.ms", "2000"), OK);
    struct image *next = image_edit_finish(e, 2);
    ck_assert_ptr_eq(image_topic_by_name(next, STR_LIT("same")), same);
    const struct image_topic *copy = image_topic_by_name(next, STR_LIT("changed"));
    ck_assert_ptr_ne(copy, changed);
    ck_assert_int_eq(copy->config.log.retention_ms, 2000);
    ck_assert_int_eq(changed->config.log.retention_ms, 604800000); /* whoever still reads the older image */
    ck_assert_ptr_null(image_config_get(&changed->configs, "retention.ms"));
    ck_assert_uint_eq(next->garbage_count, 1);
    ck_assert_uint_eq(next->change_count, 2);
    ck_assert_ptr_eq(next->changes[0].topic, copy);
    ck_assert_int_eq(next->changes[0].kind, IMAGE_TOPIC_CONFIGURED);
    image_free_older(im, next);
    im = next;
}
END_TEST

START_TEST(configs_are_set_and_removed) {
    struct image_edit *e = begin();
    ck_assert_int_eq(add_topic(e, 1, "t"), OK);
    ck_assert_int_eq(set_config(e, 2, "t", "retention.ms", "1000"), OK);
    ck_assert_int_eq(set_config(e, 2, "t", "cleanup.policy", "compact"), OK);
    end(e);
    const struct image_topic *t = image_topic_by_name(im, STR_LIT("t"));
    ck_assert_uint_eq(t->configs.count, 2);
    ck_assert_str_eq(t->configs.list[0].name, "cleanup.policy"); /* ascending */
    ck_assert(t->config.log.cleanup_compact && !t->config.log.cleanup_delete);
    e = begin();
    ck_assert_int_eq(set_config(e, 2, "t", "cleanup.policy", NULL), OK);
    ck_assert_int_eq(set_config(e, 2, "t", "never.set", NULL), OK);
    end(e);
    t = image_topic_by_name(im, STR_LIT("t"));
    ck_assert_uint_eq(t->configs.count, 1);
    ck_assert(!t->config.log.cleanup_compact && t->config.log.cleanup_delete);
}
END_TEST

START_TEST(a_removed_topic_is_garbage_of_the_next_image) {
    struct image_edit *e = begin();
    ck_assert_int_eq(add_topic(e, 1, "t"), OK);
    ck_assert_int_eq(add_topic(e, 2, "u"), OK);
    ck_assert_int_eq(remove_topic(e, 2), OK); /* a replay may see both */
    end(e);
    ck_assert_uint_eq(im->topic_count, 1);
    ck_assert_uint_eq(im->garbage_count, 0);
    e = begin();
    ck_assert_int_eq(remove_topic(e, 1), OK);
    ck_assert_int_eq(add_topic(e, 3, "t"), OK); /* the name is free again */
    struct image *next = image_edit_finish(e, 2);
    ck_assert_uint_eq(next->topic_count, 1);
    ck_assert_uint_eq(next->garbage_count, 1);
    ck_assert_int_eq(next->changes[0].kind, IMAGE_PARTITION_REMOVED);
    ck_assert_ptr_eq(next->changes[0].topic, im->by_name[0]);
    image_free_older(im, next);
    im = next;
}
END_TEST

START_TEST(a_dropped_edit_leaves_nothing) {
    struct image_edit *e = begin();
    ck_assert_int_eq(add_topic(e, 1, "t"), OK);
    end(e);
    const struct image_topic *t = im->by_name[0];
    e = begin();
    ck_assert_int_eq(add_topic(e, 2, "u"), OK);
    ck_assert_int_eq(set_config(e, 2, "t", "retention.ms", "1"), OK);
    image_edit_drop(e);
    e = begin();
    ck_assert_int_eq(set_config(e, 2, "t", "retention.ms", "1"), OK);
    image_free_unpublished(image_edit_finish(e, 9));
    ck_assert_uint_eq(im->topic_count, 1);
    ck_assert_ptr_eq(im->by_name[0], t);
    ck_assert_uint_eq(t->configs.count, 0);
}
END_TEST

int main(void) {
    Suite *s = suite_create("image");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, topics_are_found_by_name_and_id);
    tcase_add_test(t, client_quotas_are_set_and_removed);
    tcase_add_test(t, levels_of_features_are_those_that_are_known);
    tcase_add_test(t, configs_of_brokers_lie_over_what_was_read_at_start);
    tcase_add_test(t, other_brokers_keep_their_configs);
    tcase_add_test(t, names_that_differ_in_dots_only_collide);
    tcase_add_test(t, records_that_contradict_are_refused);
    tcase_add_test(t, an_edit_shares_what_it_leaves_alone);
    tcase_add_test(t, configs_are_set_and_removed);
    tcase_add_test(t, a_removed_topic_is_garbage_of_the_next_image);
    tcase_add_test(t, a_dropped_edit_leaves_nothing);
    suite_add_tcase(s, t);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? 1 : 0;
}
