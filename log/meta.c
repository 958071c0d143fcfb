/* meta.c - varve.meta; the layout is in meta.h. */
#include "log/meta.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include "base/assert.h"
#include "base/trace.h"
#include "proto/storage.pb-c.h"

#define META_MAGIC 0x4d565256u /* "VRVM" */
#define META_FORMAT 1u
#define META_HEAD_BYTES 24u
#define META_BYTES_MAX 65536u

static bool take_uuid(struct uuid *out, const ProtobufCBinaryData *in) {
    if (in->len != sizeof out->b) return false;
    memcpy(out->b, in->data, sizeof out->b);
    return true;
}

static enum err parse_copy(const uint8_t *p, struct meta *m) {
    uint32_t len = load_le32(p + 4);
    if (load_le32(p) != META_MAGIC || len > IO_BLOCK_BYTES - META_HEAD_BYTES) return ERR_CORRUPT;
    XXH128_hash_t sum = XXH3_128bits(p + META_HEAD_BYTES, len);
    if (load_le64(p + 8) != sum.low64 || load_le64(p + 16) != sum.high64) return ERR_CORRUPT;
    Varve__Storage__Meta *msg = varve__storage__meta__unpack(NULL, len, p + META_HEAD_BYTES);
    if (msg == NULL) return ERR_CORRUPT;
    *m = (struct meta){.node_id = msg->node_id, .journal_set = msg->journal_set, .journals = msg->journals,
                       .sequence = msg->sequence};
    bool sound = take_uuid(&m->cluster_id, &msg->cluster_id) && take_uuid(&m->incarnation, &msg->incarnation);
    enum err err = !sound ? ERR_CORRUPT : msg->format > META_FORMAT ? ERR_UNSUPPORTED : OK;
    varve__storage__meta__free_unpacked(msg, NULL);
    return err;
}

enum err meta_parse(const uint8_t *file, size_t len, struct meta *m, int *bad_copies) {
    enum err found = ERR_CORRUPT;
    int bad = 0;
    for (size_t at = 0; at < META_BYTES; at += IO_BLOCK_BYTES) {
        struct meta copy;
        enum err err = at + IO_BLOCK_BYTES <= len ? parse_copy(file + at, &copy) : ERR_CORRUPT;
        if (err != OK) bad++;
        if (err == OK && (found != OK || copy.sequence > m->sequence)) *m = copy;
        if (err == OK || (found != OK && err == ERR_UNSUPPORTED)) found = err;
    }
    if (bad_copies != NULL) *bad_copies = bad;
    return found;
}

enum err meta_store(struct io *io, const char *dir, struct meta *m) {
    m->sequence++;
    Varve__Storage__Meta msg = VARVE__STORAGE__META__INIT;
    msg.format = META_FORMAT;
    msg.node_id = m->node_id;
    msg.cluster_id = (ProtobufCBinaryData){sizeof m->cluster_id.b, m->cluster_id.b};
    msg.incarnation = (ProtobufCBinaryData){sizeof m->incarnation.b, m->incarnation.b};
    msg.journal_set = m->journal_set;
    msg.journals = m->journals;
    msg.sequence = m->sequence;
    uint8_t *file = calloc(1, META_BYTES);
    if (file == NULL) return ERR_NOMEM;
    size_t len = varve__storage__meta__get_packed_size(&msg);
    ASSERT(len <= IO_BLOCK_BYTES - META_HEAD_BYTES);
    varve__storage__meta__pack(&msg, file + META_HEAD_BYTES);
    XXH128_hash_t sum = XXH3_128bits(file + META_HEAD_BYTES, len);
    store_le32(file, META_MAGIC);
    store_le32(file + 4, (uint32_t)len);
    store_le64(file + 8, sum.low64);
    store_le64(file + 16, sum.high64);
    memcpy(file + IO_BLOCK_BYTES, file, IO_BLOCK_BYTES);
    char path[4096];
    snprintf(path, sizeof path, "%s/varve.meta", dir);
    int rc = io_replace_file(io, path, file, META_BYTES);
    free(file);
    return rc < 0 ? err_from_errno(rc) : OK;
}

enum err meta_load(struct io *io, const char *dir, struct meta *m, char *why, size_t why_len) {
    char path[4096];
    snprintf(path, sizeof path, "%s/varve.meta", dir);
    uint8_t *file;
    size_t len;
    int rc = io_read_file(io, path, META_BYTES_MAX, &file, &len);
    if (rc == -ENOENT) return ERR_NOT_FOUND;
    if (rc < 0) {
        snprintf(why, why_len, "%s cannot be read: %s", path, strerror(-rc));
        return err_from_errno(rc);
    }
    int bad = 0;
    enum err err = meta_parse(file, len, m, &bad);
    free(file);
    if (err == ERR_UNSUPPORTED) snprintf(why, why_len, "%s was written by a later version", path);
    else if (err != OK) snprintf(why, why_len, "both copies in %s are damaged", path);
    if (err != OK) return err == ERR_UNSUPPORTED ? ERR_CORRUPT : err;
    if (bad > 0) trace_warn("journal", "one of the two copies in %s was damaged; it is written anew", path);
    err = meta_store(io, dir, m);
    if (err != OK) snprintf(why, why_len, "%s cannot be written: %s", path, err_str(err));
    return err;
}
