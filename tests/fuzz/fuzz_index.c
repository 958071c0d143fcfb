/* Index files: whatever loads is ordered, encodes to the same bytes and answers lookups.
 * Input: u16 length of the offset index, then both files. */
#include <stdlib.h>
#include "base/assert.h"
#include "log/index.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) return 0;
    size_t offsets_len = MIN((size_t)load_be16(data), size - 2), times_len = size - 2 - offsets_len;
    const uint8_t *offsets = data + 2, *times = offsets + offsets_len;
    struct segment_index x;
    uint32_t from;
    index_init(&x, 1000, 4096, 10 << 20);
    if (index_load(&x, offsets, offsets_len, times, times_len, 1 << 30, &from) == OK) {
        uint8_t *out = malloc(size + 1);
        index_encode(&x, 0, x.offset_count, out);
        ASSERT(memcmp(out, offsets, (size_t)x.offset_count * INDEX_ENTRY_BYTES) == 0);
        index_encode_times(&x, 0, x.time_count, out);
        ASSERT(memcmp(out, times, (size_t)x.time_count * TIME_ENTRY_BYTES) == 0);
        free(out);
        for (uint32_t i = 0; i < x.offset_count; i++) ASSERT(index_find(&x, 1000 + (int64_t)x.offsets[i].relative) == x.offsets[i].position);
        for (uint32_t i = 0; i < x.time_count; i++) ASSERT(index_find_time(&x, x.times[i].timestamp) <= 1000 + (int64_t)x.times[i].relative);
        index_truncate(&x, 1000 + (int64_t)(size % 50), 1 << 20, &from);
        ASSERT(index_find(&x, INT64_MAX) < 1 << 20);
    }
    index_free(&x);
    return 0;
}
