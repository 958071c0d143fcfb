/* Records of a consumer group, as a damaged or foreign log might have them: replay refuses or keeps them, and the books stay right.
 * Input: for each record a byte for the length of its key, two for that of its value (0xffff: a tombstone), key, value. */
#include <stdlib.h>
#include "base/assert.h"
#include "server/group_consumer.h"
#include "server/group_consumer_impl.h"

static void no_topic_at(const void *image, uint32_t i, struct group_topic *out) { (void)image, (void)i, (void)out; }
static bool no_topic_by_name(const void *image, struct str name, struct group_topic *out) { return (void)image, (void)name, (void)out, false; }
static bool no_topic_by_id(const void *image, const struct uuid *id, struct group_topic *out) { return (void)image, (void)id, (void)out, false; }

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct group_topics topics = {.at = no_topic_at, .by_name = no_topic_by_name, .by_id = no_topic_by_id};
    struct group_env env = {.now_ms = 1000, .topics = &topics, .session_timeout_ms = 1000, .max_size = 1000, .migration = GROUP_MIGRATION_BIDIRECTIONAL, .classic_max_size = 1000};
    struct consumer_group *g = consumer_group_new(STR_LIT("g"));
    ASSERT(g);
    enum err err = OK;
    while (size >= 3 && (err == OK || err == ERR_UNSUPPORTED)) {
        size_t key_len = data[0], value_len = load_be16(data + 1);
        bool tombstone = value_len == 0xffff;
        if (tombstone) value_len = 0;
        data += 3, size -= 3;
        if (key_len + value_len > size) break;
        struct group_key key;
        err = group_key_parse((struct bytes){data, (int32_t)key_len}, &key);
        if (err == OK) err = consumer_group_replay(g, &env, &key, tombstone ? BYTES_NULL : (struct bytes){data + key_len, (int32_t)value_len});
        data += key_len + value_len, size -= key_len + value_len;
    }
    consumer_group_loaded(g, &env);
    uint64_t owned = 0;
    for (struct consumer_member *m = g->members; m; m = m->hh.next) owned += m->current.assigned.n + m->current.pending.n;
    ASSERT(HASH_CNT(hh, g->owners) <= owned);
    struct arena arena;
    struct group_records out;
    arena_init(&arena, 16 << 20);
    group_records_init(&out, 1 << 20, 10000);
    (void)consumer_group_deadline_ms(g, &env);
    env.now_ms = INT64_MAX - 1;
    (void)consumer_group_tick(g, &env, &arena, &out);
    struct k_consumer_group_describe_response_groups d;
    k_consumer_group_describe_response_groups_init(&d);
    (void)consumer_group_describe(g, &env, &arena, &d);
    group_records_free(&out);
    arena_free(&arena);
    consumer_group_free(g);
    return 0;
}
