/* Batches from anywhere: parse, check, walk the records, rebuild under another codec.
 * Whatever walks to the end must still do so after recompression, with the same records. */
#include <stdlib.h>

#include "base/assert.h"
#include "proto/record_batch.h"

enum { CAP = 4 << 20 };

/* Number of records, or -1. `*sum` mixes what they hold. */
static int64_t walk(const uint8_t *batch, const struct batch_header *h, uint64_t *sum) {
    struct record_iter it;
    if (record_iter_init(&it, batch, h, CAP)) return -1;
    struct record r;
    int64_t count = 0;
    enum err err;
    *sum = 0;
    while (!(err = record_iter_next(&it, &r))) {
        const uint8_t *cursor = r.headers_raw, *end = cursor + r.headers_raw_len;
        struct record_header header;
        for (int32_t i = 0; i < r.header_count; i++) ASSERT(record_header_next(&cursor, end, &header) == OK);
        ASSERT(cursor == end);
        *sum = *sum * 31 + (uint64_t)r.offset + (uint64_t)r.timestamp * 7 + (uint64_t)r.key.len + (uint64_t)r.value.len;
        for (int32_t i = 0; r.value.p && i < r.value.len; i++) *sum = *sum * 31 + r.value.p[i];
        count++;
    }
    record_iter_free(&it);
    return err == ERR_NOT_FOUND ? count : -1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct batch_header h, g;
    uint64_t sum = 0, other_sum = 0;
    if (batch_parse(data, size, &h)) return 0;
    (void)batch_crc_ok(data, &h);
    (void)batch_last_sequence(&h);
    if (batch_check(&h)) return 0;
    int64_t count = walk(data, &h, &sum);
    if (count < 0) return 0;
    uint8_t *other;
    size_t other_len;
    enum batch_codec codec = (enum batch_codec)(h.crc % CODEC_COUNT);
    if (batch_recompress(data, &h, codec, 1, CAP, &other, &other_len)) return 0;
    ASSERT(batch_parse(other, other_len, &g) == OK && batch_crc_ok(other, &g));
    ASSERT(walk(other, &g, &other_sum) == count && other_sum == sum);
    free(other);
    return 0;
}
