/* Compressed input from anywhere: the first byte picks the codec, the second the output cap. */
#include <limits.h>
#include <stdlib.h>

#include "base/assert.h"
#include "proto/compress.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) return 0;
    enum batch_codec codec = (enum batch_codec)(data[0] % (CODEC_COUNT + 1));
    size_t cap = (size_t)1 << (data[1] % 23), plain_len;
    uint8_t *plain;
    if (codec_decompress(codec, data + 2, size - 2, cap, &plain, &plain_len)) return 0;
    ASSERT(plain_len <= cap);
    uint8_t *packed, *again;
    size_t packed_len, again_len;
    if (codec_compress(codec, 1, plain, plain_len, &packed, &packed_len)) abort();
    if (codec_decompress(codec, packed, packed_len, cap, &again, &again_len)) abort();
    ASSERT(again_len == plain_len && (plain_len == 0 || memcmp(again, plain, plain_len) == 0));
    free(again);
    free(packed);
    free(plain);
    return 0;
}
