/* Producer snapshots (with and without a right CRC) and the epoch checkpoint: what is accepted
 * survives a round trip. */
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "log/epochs.h"
#include "log/kafka_files.h"
#include "log/producers.h"

static void snapshot(const uint8_t *data, size_t size) {
    struct producers p;
    uint8_t *out;
    size_t len;
    if (producers_from_snapshot(&p, data, size) != OK) return;
    ASSERT(producers_to_snapshot(&p, &out, &len) == OK && len == size);
    free(out);
    producers_expire(&p, INT64_MAX, 0);
    producers_free(&p);
}

static void texts(const char *text, size_t size) {
    struct epochs e, again;
    if (epochs_from_checkpoint(&e, text, size) == OK) {
        char *out = epochs_to_checkpoint(&e, 0);
        ASSERT(out && epochs_from_checkpoint(&again, out, strlen(out)) == OK && again.count == e.count);
        ASSERT(e.count == 0 || memcmp(again.entries, e.entries, e.count * sizeof *e.entries) == 0);
        epochs_free(&again);
        epochs_free(&e);
        free(out);
    }
    struct offset_checkpoint c;
    struct uuid id;
    if (offset_checkpoint_from_text(&c, text, size) == OK) offset_checkpoint_free(&c);
    if (partition_metadata_from_text(text, size, &id) == OK) {
        char *out = partition_metadata_to_text(&id);
        ASSERT(out && strlen(out) <= size);
        free(out);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    snapshot(data, size);
    if (size >= 6) {
        uint8_t *copy = malloc(size);
        memcpy(copy, data, size);
        store_be32(copy + 2, crc32c(0, copy + 6, size - 6));
        snapshot(copy, size);
        free(copy);
    }
    texts((const char *)data, size);
    return 0;
}
