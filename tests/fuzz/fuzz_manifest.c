/* Manifests: as they are, and with the envelope made right so that the message behind it is reached. */
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "log/manifest.h"

static void decode(const uint8_t *data, size_t size) {
    struct manifest m, again;
    uint8_t *out;
    size_t len;
    if (manifest_decode(&m, data, size) != OK) return;
    for (uint32_t i = 1; i < m.segment_count; i++) ASSERT(m.segments[i - 1].base_offset < m.segments[i].base_offset);
    ASSERT(manifest_encode(&m, &out, &len) == OK);
    ASSERT(manifest_decode(&again, out, len) == OK && again.segment_count == m.segment_count && again.plid == m.plid);
    manifest_free(&again);
    manifest_free(&m);
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    decode(data, size);
    uint8_t *file = calloc(1, 32 + size);
    memcpy(file, "VMAN\x01\0\0\0", 8);
    store_le32(file + 8, (uint32_t)size);
    memcpy(file + 32, data, size);
    struct digest128 sum = digest128_of(file, 32 + size);
    memcpy(file + 16, &sum, sizeof sum);
    decode(file, 32 + size);
    free(file);
    return 0;
}
