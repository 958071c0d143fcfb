/* The bytes of a simulated file. */
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "tests/sim/sim_disk.h"

#define CHUNK_BYTES 65536u

static bool all_zero(const uint8_t *p, size_t len) {
    for (size_t i = 0; i < len; i++)
        if (p[i]) return false;
    return true;
}

size_t image_read(const struct sim_image *m, uint64_t offset, void *buf, size_t len) {
    if (offset >= m->size) return 0;
    len = (size_t)MIN((uint64_t)len, m->size - offset);
    size_t done = 0;
    while (done < len) {
        size_t index = (size_t)((offset + done) / CHUNK_BYTES), at = (size_t)((offset + done) % CHUNK_BYTES);
        size_t part = MIN(len - done, CHUNK_BYTES - at);
        const uint8_t *chunk = index < m->chunk_count ? m->chunks[index] : NULL;
        if (chunk) memcpy((uint8_t *)buf + done, chunk + at, part);
        else memset((uint8_t *)buf + done, 0, part);
        done += part;
    }
    return len;
}

static void need_chunks(struct sim_image *m, size_t count) {
    if (count <= m->chunk_count) return;
    count = MAX(count, m->chunk_count * 2);
    m->chunks = realloc(m->chunks, count * sizeof(*m->chunks));
    ASSERT(m->chunks);
    memset(m->chunks + m->chunk_count, 0, (count - m->chunk_count) * sizeof(*m->chunks));
    m->chunk_count = count;
}

/* Does not change the size: what lies behind it is never read, see image_resize. */
void image_write(struct sim_image *m, uint64_t offset, const void *bytes, size_t len) {
    size_t done = 0;
    while (done < len) {
        size_t index = (size_t)((offset + done) / CHUNK_BYTES), at = (size_t)((offset + done) % CHUNK_BYTES);
        size_t part = MIN(len - done, CHUNK_BYTES - at);
        const uint8_t *from = (const uint8_t *)bytes + done;
        done += part;
        if ((index >= m->chunk_count || !m->chunks[index]) && all_zero(from, part)) continue;
        need_chunks(m, index + 1);
        if (!m->chunks[index]) m->chunks[index] = calloc(1, CHUNK_BYTES);
        ASSERT(m->chunks[index]);
        memcpy(m->chunks[index] + at, from, part);
    }
}

/* Zeroes what is cut off, so that growing again shows zeros. */
void image_resize(struct sim_image *m, uint64_t size) {
    for (size_t i = (size_t)(size / CHUNK_BYTES); i < m->chunk_count; i++) {
        if (!m->chunks[i]) continue;
        size_t keep = i == size / CHUNK_BYTES ? (size_t)(size % CHUNK_BYTES) : 0;
        if (keep) {
            memset(m->chunks[i] + keep, 0, CHUNK_BYTES - keep);
        } else {
            free(m->chunks[i]);
            m->chunks[i] = NULL;
        }
    }
    m->size = size;
}

void image_copy(struct sim_image *to, const struct sim_image *from) {
    image_resize(to, 0);
    for (size_t i = 0; i < from->chunk_count; i++)
        if (from->chunks[i]) image_write(to, (uint64_t)i * CHUNK_BYTES, from->chunks[i], CHUNK_BYTES);
    image_resize(to, from->size); /* a write may have left bytes behind the size: gone now */
}

void image_free(struct sim_image *m) {
    image_resize(m, 0);
    free(m->chunks);
    *m = (struct sim_image){0};
}
