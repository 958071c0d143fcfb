/* offset_map.h - the newest offset of each key, within a fixed amount of memory. Pure.
 *
 * 24 bytes a slot: XXH3-128 of the key and offset + 1 (0: free). Open addressing, filled to nine tenths. Two keys with one hash
 * would cost one of them its value: 2^64 keys make that likely. The hash is seeded, so nobody can look for such keys. */
#ifndef LOG_OFFSET_MAP_H
#define LOG_OFFSET_MAP_H
#include <stdbool.h>
#include <stdint.h>
#include "base/bytes.h"
#include "base/err.h"

struct offset_slot { uint64_t low, high; int64_t offset_next; };
struct offset_map {
    struct offset_slot *slots;
    uint64_t slot_count, count, count_max;
    uint64_t seed;
};

/* Takes at most `bytes_max`, and not more than `keys` keys need. ERR_NOMEM. ERR_INVALID: not even one key fits. */
MUST_CHECK enum err offset_map_init(struct offset_map *m, uint64_t bytes_max, uint64_t keys, uint64_t seed);
void offset_map_free(struct offset_map *m);
uint64_t offset_map_bytes(const struct offset_map *m);
/* The key's newest offset is `offset` now. False: full, and the key is not in it; nothing has changed. */
MUST_CHECK bool offset_map_put(struct offset_map *m, struct bytes key, int64_t offset);
int64_t offset_map_get(const struct offset_map *m, struct bytes key);   /* -1: not there */
#endif
