/* Records of __consumer_offsets: a key, and a value of its type. What is accepted is written and read again. */
#include "base/assert.h"
#include "proto/group_records.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1 || data[0] > size - 1) return 0; /* the first byte: the length of the key */
    struct bytes key_bytes = {data + 1, data[0]}, value_bytes = {data + 1 + data[0], (int32_t)(size - 1 - data[0])};
    struct group_key key, key_again;
    struct group_value value, value_again;
    if (group_key_parse(key_bytes, &key) != OK) return 0;
    struct arena arena;
    arena_init(&arena, 1 << 20);
    if (group_value_parse(key.type, value_bytes, &arena, &value) == OK) {
        struct group_records records;
        group_records_init(&records, 1 << 20, 1);
        group_records_put(&records, &key, &value);
        ASSERT(records.err == OK && records.count == 1);
        ASSERT(group_key_parse(group_records_key(&records, 0), &key_again) == OK && str_eq(key.group, key_again.group));
        ASSERT(group_value_parse(key.type, group_records_value(&records, 0), &arena, &value_again) == OK ||
               arena.used_bytes > arena.limit_bytes / 4);
        group_records_free(&records);
    }
    arena_free(&arena);
    return 0;
}
