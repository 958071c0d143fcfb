/* Batches from anywhere: parse, check, walk the records, rebuild under another codec.
 * Whatever walks to the end must still do so after recompression, with the same records; and after compaction, with fewer. */
#include <stdlib.h>

#include "base/assert.h"
#include "log/batch_filter.h"
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

static void compact(const uint8_t *batch, const struct batch_header *h) {
    struct offset_map map;
    struct filter_result out;
    struct batch_header g;
    int64_t end;
    uint64_t sum;
    if (offset_map_init(&map, 64 * sizeof(struct offset_slot), 1000, 1)) abort();
    enum err err = batch_keys(&map, batch, h, h->base_offset, CAP, &end);
    ASSERT(err == OK && end >= h->base_offset && end <= batch_last_offset(h) + 1);
    struct filter_rules r = {.map = &map, .map_end = end, .now_ms = 1, .delete_retention_ms = 5, .max_decompressed_bytes = CAP};
    for (int last = 0; last < 2; last++) {
        if (batch_filter(&r, batch, h, last, &out)) abort();
        if (out.verdict != FILTER_REPLACE) continue;
        ASSERT(batch_parse(out.batch, out.batch_len, &g) == OK && batch_check(&g) == OK && batch_crc_ok(out.batch, &g));
        ASSERT(walk(out.batch, &g, &sum) == (int64_t)out.records_out && out.records_out <= out.records_in);
        free(out.batch);
    }
    offset_map_free(&map);
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
    compact(data, &h);
    uint8_t *other;
    size_t other_len;
    enum batch_codec codec = (enum batch_codec)(h.crc % CODEC_COUNT);
    if (batch_recompress(data, &h, codec, 1, CAP, &other, &other_len)) return 0;
    ASSERT(batch_parse(other, other_len, &g) == OK && batch_crc_ok(other, &g));
    ASSERT(walk(other, &g, &other_sum) == count && other_sum == sum);
    free(other);
    return 0;
}
