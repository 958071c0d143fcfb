/* manifest.c - the file and its envelope; see manifest.h. Digests: digester.c. */
#include "log/manifest.h"
#include <stdio.h>
#include <stdlib.h>
#include "base/assert.h"
#include "log/names.h"
#include "proto/storage_manifest.pb-c.h"

enum { ENVELOPE_BYTES = 32, SUM_AT = 16, MANIFEST_VERSION = 1 };
static const uint8_t magic[4] = {'V', 'M', 'A', 'N'};

void manifest_init(struct manifest *m) { *m = (struct manifest){0}; }

void manifest_free(struct manifest *m) {
    for (uint32_t i = 0; i < m->segment_count; i++) free(m->segments[i].chunks);
    free(m->segments);
    manifest_init(m);
}

/* Index of the first segment at or above `base_offset`. */
static uint32_t place_of(const struct manifest *m, int64_t base_offset) {
    uint32_t low = 0, high = m->segment_count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (m->segments[mid].base_offset < base_offset) low = mid + 1;
        else high = mid;
    }
    return low;
}

const struct sealed_segment *manifest_find(const struct manifest *m, int64_t base_offset) {
    uint32_t at = place_of(m, base_offset);
    return at < m->segment_count && m->segments[at].base_offset == base_offset ? &m->segments[at] : NULL;
}

enum err manifest_put(struct manifest *m, const struct sealed_segment *s) {
    manifest_remove(m, s->base_offset);
    if (m->segment_count == m->segment_cap) {
        uint32_t cap = m->segment_cap ? m->segment_cap * 2 : 8;
        struct sealed_segment *grown = realloc(m->segments, cap * sizeof *grown);
        if (!grown) return ERR_NOMEM;
        m->segments = grown;
        m->segment_cap = cap;
    }
    uint32_t at = place_of(m, s->base_offset);
    memmove(m->segments + at + 1, m->segments + at, (m->segment_count - at) * sizeof *m->segments);
    m->segments[at] = *s;
    m->segment_count++;
    return OK;
}

void manifest_remove(struct manifest *m, int64_t base_offset) {
    uint32_t at = place_of(m, base_offset);
    if (at == m->segment_count || m->segments[at].base_offset != base_offset) return;
    free(m->segments[at].chunks);
    m->segment_count--;
    memmove(m->segments + at, m->segments + at + 1, (m->segment_count - at) * sizeof *m->segments);
}

static void seal_envelope(uint8_t *file, size_t len) {
    memcpy(file, magic, sizeof magic);
    store_le16(file + 4, MANIFEST_VERSION);
    store_le32(file + 8, (uint32_t)(len - ENVELOPE_BYTES));
    struct digest128 sum = digest128_of(file, len);
    memcpy(file + SUM_AT, &sum, sizeof sum);
}

enum err manifest_encode(const struct manifest *m, uint8_t **out, size_t *len) {
    Varve__Storage__Manifest msg = VARVE__STORAGE__MANIFEST__INIT;
    Varve__Storage__SealedSegment *segments = calloc(m->segment_count + 1, sizeof *segments);
    Varve__Storage__SealedSegment **list = calloc(m->segment_count + 1, sizeof *list);
    enum err err = segments && list ? OK : ERR_NOMEM;
    for (uint32_t i = 0; err == OK && i < m->segment_count; i++) {
        const struct sealed_segment *s = &m->segments[i];
        varve__storage__sealed_segment__init(&segments[i]);
        segments[i].base_offset = s->base_offset;
        segments[i].size_bytes = s->size_bytes;
        segments[i].digest = (ProtobufCBinaryData){sizeof s->digest, (uint8_t *)s->digest.b};
        segments[i].n_chunk_digests = sealed_chunks(s->size_bytes);
        segments[i].chunk_digests = s->chunks;
        list[i] = &segments[i];
    }
    msg.plid = m->plid;
    msg.topic_id = (ProtobufCBinaryData){sizeof m->topic_id, (uint8_t *)m->topic_id.b};
    msg.topic = (char *)m->topic;
    msg.partition = m->partition;
    msg.generation = m->generation;
    msg.compacted_end = m->compacted_end;
    msg.n_segments = m->segment_count;
    msg.segments = list;
    size_t packed = err == OK ? varve__storage__manifest__get_packed_size(&msg) : 0;
    if (packed > MANIFEST_BYTES_MAX - ENVELOPE_BYTES) err = ERR_TOO_LARGE;
    uint8_t *file = err == OK ? calloc(1, ENVELOPE_BYTES + packed) : NULL;
    if (file) {
        varve__storage__manifest__pack(&msg, file + ENVELOPE_BYTES);
        seal_envelope(file, ENVELOPE_BYTES + packed);
        *out = file;
        *len = ENVELOPE_BYTES + packed;
    } else if (err == OK) {
        err = ERR_NOMEM;
    }
    free(segments);
    free(list);
    return err;
}

static enum err check_envelope(const uint8_t *data, size_t len) {
    if (len < ENVELOPE_BYTES || len > MANIFEST_BYTES_MAX || memcmp(data, magic, sizeof magic) != 0) return ERR_CORRUPT;
    if (load_le32(data + 8) != len - ENVELOPE_BYTES) return ERR_CORRUPT;
    uint8_t *copy = malloc(len);   /* the sum is taken with its own field zero */
    if (!copy) return ERR_NOMEM;
    memcpy(copy, data, len);
    memset(copy + SUM_AT, 0, sizeof(struct digest128));
    struct digest128 sum = digest128_of(copy, len);
    free(copy);
    if (memcmp(&sum, data + SUM_AT, sizeof sum) != 0) return ERR_CORRUPT;
    return load_le16(data + 4) == MANIFEST_VERSION ? OK : ERR_UNSUPPORTED;
}

bool manifest_peek(const uint8_t *data, size_t len, uint64_t file_bytes, uint64_t *plid) {
    enum { PLID_TAG = 0x09 }; /* field 1, 64 bits: protobuf writes fields in ascending order */
    if (len < ENVELOPE_BYTES + 9 || memcmp(data, magic, sizeof magic) != 0 || load_le16(data + 4) != MANIFEST_VERSION) return false;
    if (load_le32(data + 8) != file_bytes - ENVELOPE_BYTES || data[ENVELOPE_BYTES] != PLID_TAG) return false;
    *plid = load_le64(data + ENVELOPE_BYTES + 1);
    return len < file_bytes || check_envelope(data, len) == OK;
}

static enum err segment_from(const Varve__Storage__SealedSegment *in, struct sealed_segment *out) {
    if (in->base_offset < 0 || in->digest.len != sizeof out->digest) return ERR_CORRUPT;
    if (in->n_chunk_digests != sealed_chunks(in->size_bytes)) return ERR_CORRUPT;
    *out = (struct sealed_segment){.base_offset = in->base_offset, .size_bytes = in->size_bytes};
    memcpy(&out->digest, in->digest.data, sizeof out->digest);
    out->chunks = malloc((in->n_chunk_digests + 1) * sizeof *out->chunks);
    if (!out->chunks) return ERR_NOMEM;
    if (in->n_chunk_digests > 0) memcpy(out->chunks, in->chunk_digests, in->n_chunk_digests * sizeof *out->chunks);
    return OK;
}

static enum err manifest_from(struct manifest *m, const Varve__Storage__Manifest *msg) {
    if (msg->topic_id.len != sizeof m->topic_id || msg->partition < 0) return ERR_CORRUPT;
    if (!topic_name_ok(str_from(msg->topic))) return ERR_CORRUPT;
    m->plid = msg->plid;
    memcpy(&m->topic_id, msg->topic_id.data, sizeof m->topic_id);
    snprintf(m->topic, sizeof m->topic, "%s", msg->topic);
    m->partition = msg->partition;
    m->generation = msg->generation;
    m->compacted_end = msg->compacted_end;
    for (size_t i = 0; i < msg->n_segments; i++) {
        struct sealed_segment s;
        if (i > 0 && msg->segments[i]->base_offset <= msg->segments[i - 1]->base_offset) return ERR_CORRUPT;
        enum err err = segment_from(msg->segments[i], &s);
        if (err != OK) return err;
        err = manifest_put(m, &s);
        if (err != OK) {
            free(s.chunks);
            return err;
        }
    }
    return OK;
}

enum err manifest_decode(struct manifest *m, const uint8_t *data, size_t len) {
    manifest_init(m);
    enum err err = check_envelope(data, len);
    if (err != OK) return err;
    Varve__Storage__Manifest *msg = varve__storage__manifest__unpack(NULL, len - ENVELOPE_BYTES, data + ENVELOPE_BYTES);
    err = msg ? manifest_from(m, msg) : ERR_CORRUPT;
    if (msg) varve__storage__manifest__free_unpacked(msg, NULL);
    if (err != OK) manifest_free(m);
    return err;
}
