/* offset_map.c - see offset_map.h. */
#include "log/offset_map.h"
#include <stdlib.h>
#include "log/xxh3.h"

enum err offset_map_init(struct offset_map *m, uint64_t bytes_max, uint64_t keys, uint64_t seed) {
    uint64_t slots = bytes_max / sizeof(struct offset_slot), needed = keys < UINT64_MAX / 16 ? keys + keys / 9 + 2 : UINT64_MAX;
    *m = (struct offset_map){.slot_count = MIN(slots, needed), .seed = seed};
    m->count_max = m->slot_count / 10 * 9 + m->slot_count % 10 * 9 / 10;
    if (m->count_max == 0) return ERR_INVALID;
    m->slots = calloc(m->slot_count, sizeof *m->slots);   /* pages that are never touched cost nothing */
    return m->slots ? OK : ERR_NOMEM;
}

void offset_map_free(struct offset_map *m) {
    free(m->slots);
    *m = (struct offset_map){0};
}

uint64_t offset_map_bytes(const struct offset_map *m) { return m->slot_count * sizeof *m->slots; }

/* The key's slot, or the free one where it would go: there always is one. */
static struct offset_slot *slot_of(const struct offset_map *m, XXH128_hash_t hash) {
    uint64_t at = (uint64_t)(((unsigned __int128)hash.high64 * m->slot_count) >> 64);
    for (;;) {
        struct offset_slot *s = &m->slots[at];
        if (s->offset_next == 0 || (s->low == hash.low64 && s->high == hash.high64)) return s;
        if (++at == m->slot_count) at = 0;
    }
}

static XXH128_hash_t hash_of(const struct offset_map *m, struct bytes key) {
    return XXH3_128bits_withSeed(key.p, (size_t)key.len, m->seed);
}

bool offset_map_put(struct offset_map *m, struct bytes key, int64_t offset) {
    XXH128_hash_t hash = hash_of(m, key);
    struct offset_slot *s = slot_of(m, hash);
    if (s->offset_next == 0) {
        if (m->count == m->count_max) return false;
        m->count++;
    }
    *s = (struct offset_slot){hash.low64, hash.high64, offset + 1};
    return true;
}

int64_t offset_map_get(const struct offset_map *m, struct bytes key) { return slot_of(m, hash_of(m, key))->offset_next - 1; }
