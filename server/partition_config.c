/* partition_config.c - see partition_config.h. */
#include "server/partition_config.h"
#include <string.h>
#include "base/bytes.h"

enum { FORMAT = 1, HEAD_BYTES = 12, MEMBER_BYTES = 20 };

uint32_t partition_config_encode(const struct replica_config *c, uint8_t out[PARTITION_CONFIG_BYTES_MAX]) {
    out[0] = FORMAT;
    out[1] = c->voters;
    out[2] = c->count;
    out[3] = 0;
    store_le32(out + 4, (uint32_t)c->id.epoch);
    store_le32(out + 8, (uint32_t)c->id.version);
    for (uint32_t i = 0; i < c->count; i++) {
        uint8_t *p = out + HEAD_BYTES + i * MEMBER_BYTES;
        store_le32(p, (uint32_t)c->members[i].node);
        memcpy(p + 4, c->members[i].incarnation.b, sizeof c->members[i].incarnation.b);
    }
    return HEAD_BYTES + c->count * (uint32_t)MEMBER_BYTES;
}

enum err partition_config_decode(struct replica_config *c, const uint8_t *data, uint32_t len) {
    if (len < HEAD_BYTES) return ERR_CORRUPT;
    if (data[0] != FORMAT) return ERR_UNSUPPORTED;
    if (data[2] > REPLICA_MEMBERS_MAX || data[1] > data[2] || len != HEAD_BYTES + data[2] * (uint32_t)MEMBER_BYTES) return ERR_CORRUPT;
    *c = (struct replica_config){.id = {(int32_t)load_le32(data + 4), (int32_t)load_le32(data + 8)}, .voters = data[1], .count = data[2]};
    for (uint32_t i = 0; i < c->count; i++) {
        const uint8_t *p = data + HEAD_BYTES + i * MEMBER_BYTES;
        c->members[i].node = (int32_t)load_le32(p);
        memcpy(c->members[i].incarnation.b, p + 4, sizeof c->members[i].incarnation.b);
    }
    return c->count == 0 || replica_config_is_valid(c) ? OK : ERR_CORRUPT;
}
