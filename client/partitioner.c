/* partitioner.c - the key's partition: murmur2 with Kafka's seed, so that every client that keeps
 * Java's default sends a key to the same place. The hash is Austin Appleby's MurmurHash2. */
#include "client/client.h"

static uint32_t murmur2(const uint8_t *p, uint32_t len) {
    const uint32_t m = 0x5bd1e995u;
    uint32_t h = 0x9747b28cu ^ len;
    for (; len >= 4; p += 4, len -= 4) {
        uint32_t k = load_le32(p) * m;
        k = (k ^ (k >> 24)) * m;
        h = (h * m) ^ k;
    }
    switch (len) {
    case 3: h ^= (uint32_t)p[2] << 16; /* fall through */
    case 2: h ^= (uint32_t)p[1] << 8;  /* fall through */
    case 1: h = (h ^ p[0]) * m;
    }
    h = (h ^ (h >> 13)) * m;
    return h ^ (h >> 15);
}

int32_t producer_partition_for_key(struct bytes key, int32_t partition_count) {
    uint32_t positive = murmur2(key.p, (uint32_t)key.len) & 0x7fffffffu;
    return (int32_t)(positive % (uint32_t)partition_count);
}
