/* dump_small.c - prints and verifies the files beside a .log. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include "log/index.h"
#include "log/kafka_files.h"
#include "log/producers.h"
#include "tools/dump.h"

static void json_open(struct dump *d, const char *type, const char *path) {
    json_object(&d->out, NULL);
    json_text(&d->out, "type", type);
    json_text(&d->out, "file", path);
}

static void json_close(struct dump *d) {
    json_object_end(&d->out);
    json_line(&d->out);
}

/* ---- indexes ---- */

static bool all_zero(const uint8_t *p, size_t len) {
    for (size_t i = 0; i < len; i++)
        if (p[i] != 0) return false;
    return true;
}

/* Calls `entry` for each entry up to the zeros that Kafka preallocates. */
static void print_entries(struct dump *d, const char *path, size_t entry_bytes,
                          void (*entry)(struct dump *d, const char *path, const uint8_t *p, int64_t base), int64_t base) {
    struct input in;
    int err = input_open(&in, path);
    if (err != 0) {
        dump_unreadable(d, path, err);
        return;
    }
    for (uint64_t at = 0; at < in.size; at += entry_bytes) {
        size_t got;
        const uint8_t *p = input_view(&in, at, entry_bytes, &got);
        if (got < entry_bytes || (at > 0 && all_zero(p, got))) break;
        if (at == 0 && all_zero(p, got) && in.size > entry_bytes) break;
        entry(d, path, p, base);
    }
    if (in.neg_errno != 0) dump_unreadable(d, path, in.neg_errno);
    input_close(&in);
}

static void print_index_entry(struct dump *d, const char *path, const uint8_t *p, int64_t base) {
    struct index_entry e = index_entry_get(p);
    if (!d->json) {
        printf("offset: %" PRId64 " position: %" PRIu32 "\n", base + e.relative, e.position);
        return;
    }
    json_open(d, "index", path);
    json_i64(&d->out, "offset", base + e.relative);
    json_u64(&d->out, "position", e.position);
    json_close(d);
}

static void print_time_entry(struct dump *d, const char *path, const uint8_t *p, int64_t base) {
    struct time_entry e = time_entry_get(p);
    if (!d->json) {
        printf("timestamp: %" PRId64 " offset: %" PRId64 "\n", e.timestamp, base + e.relative);
        return;
    }
    json_open(d, "timeindex", path);
    json_i64(&d->out, "timestamp", e.timestamp);
    json_i64(&d->out, "offset", base + e.relative);
    json_close(d);
}

void print_index(struct dump *d, const char *path, int64_t base_offset) {
    print_entries(d, path, INDEX_ENTRY_BYTES, print_index_entry, MAX(base_offset, 0));
}

void print_time_index(struct dump *d, const char *path, int64_t base_offset) {
    print_entries(d, path, TIME_ENTRY_BYTES, print_time_entry, MAX(base_offset, 0));
}

static void print_txn_entry(struct dump *d, const char *path, const uint8_t *p, int64_t base) {
    (void)base;
    const char *names[] = {"producerId", "firstOffset", "lastOffset", "lastStableOffset"};
    if (d->json) json_open(d, "txnindex", path);
    else printf("version: %d", (int16_t)load_be16(p));
    for (int i = 0; i < 4; i++) {
        int64_t value = (int64_t)load_be64(p + 2 + 8 * i);
        if (d->json) json_i64(&d->out, names[i], value);
        else printf(" %s: %" PRId64, names[i], value);
    }
    if (d->json) json_close(d);
    else putchar('\n');
}

/* i16 version 0, then producer id, first offset, last offset, last stable offset. */
void print_txn_index(struct dump *d, const char *path) { print_entries(d, path, 34, print_txn_entry, 0); }

/* ---- producer snapshots ---- */

static void print_producer(struct dump *d, const char *path, const struct producer *p) {
    const struct producer_batch *last = p->count ? &p->window[p->count - 1] : NULL;
    if (!d->json) {
        printf("producerId: %" PRId64 " producerEpoch: %d coordinatorEpoch: %" PRId32 " currentTxnFirstOffset: ", p->id,
               p->epoch, p->coordinator_epoch);
        if (p->txn_first_offset >= 0) printf("OptionalLong[%" PRId64 "]", p->txn_first_offset);
        else fputs("OptionalLong.empty", stdout);
        printf(" lastTimestamp: %" PRId64, p->last_timestamp_ms);
        if (last)
            printf(" firstSequence: %" PRId32 " lastSequence: %" PRId32 " lastOffset: %" PRId64 " offsetDelta: %" PRId64 " timestamp: %" PRId64,
                   last->first_sequence, last->last_sequence, last->last_offset, last->last_offset - last->first_offset, last->timestamp_ms);
        putchar('\n');
        return;
    }
    json_open(d, "producer", path);
    json_i64(&d->out, "producerId", p->id);
    json_i64(&d->out, "producerEpoch", p->epoch);
    json_i64(&d->out, "coordinatorEpoch", p->coordinator_epoch);
    json_i64(&d->out, "currentTxnFirstOffset", p->txn_first_offset);
    json_i64(&d->out, "lastTimestamp", p->last_timestamp_ms);
    if (last) {
        json_i64(&d->out, "firstSequence", last->first_sequence);
        json_i64(&d->out, "lastSequence", last->last_sequence);
        json_i64(&d->out, "firstOffset", last->first_offset);
        json_i64(&d->out, "lastOffset", last->last_offset);
    }
    json_close(d);
}

/* Reads and checks; false: said why. */
static bool load_snapshot(struct dump *d, const char *path, struct producers *p) {
    size_t len;
    int err;
    uint8_t *data = read_whole(path, &len, &err);
    if (!data) {
        dump_unreadable(d, path, err);
        return false;
    }
    enum err parsed = producers_from_snapshot(p, data, len);
    free(data);
    if (parsed == ERR_NOMEM) dump_unreadable(d, path, -ENOMEM);
    else if (parsed != OK) dump_damage(d, path, 0, "the snapshot does not match its CRC, or an entry is impossible");
    return parsed == OK;
}

void print_snapshot(struct dump *d, const char *path) {
    struct producers p;
    uint32_t count;
    if (!load_snapshot(d, path, &p)) return;
    int64_t *ids = producers_sorted_ids(&p, &count);
    for (uint32_t i = 0; i < count; i++) print_producer(d, path, producers_find(&p, ids[i]));
    free(ids);
    producers_free(&p);
}

void verify_snapshot(struct dump *d, const char *path) {
    struct producers p;
    if (load_snapshot(d, path, &p)) producers_free(&p);
}

/* ---- text files ---- */

static bool text_file_ok(const char *name, const char *text, size_t len) {
    if (strcmp(name, EPOCH_CHECKPOINT_FILE) == 0) {
        struct epochs e;
        enum err err = epochs_from_checkpoint(&e, text, len);
        if (err == OK) epochs_free(&e);
        return err == OK;
    }
    if (strcmp(name, PARTITION_METADATA_FILE) == 0) {
        struct uuid id;
        return partition_metadata_from_text(text, len, &id) == OK;
    }
    struct offset_checkpoint c;
    enum err err = offset_checkpoint_from_text(&c, text, len);
    if (err == OK) offset_checkpoint_free(&c);
    return err == OK;
}

static void json_epochs(struct dump *d, const char *path, const char *text, size_t len) {
    struct epochs e;
    if (epochs_from_checkpoint(&e, text, len) != OK) return;
    for (uint32_t i = 0; i < e.count; i++) {
        json_open(d, "epoch", path);
        json_i64(&d->out, "epoch", e.entries[i].epoch);
        json_i64(&d->out, "startOffset", e.entries[i].start);
        json_close(d);
    }
    epochs_free(&e);
}

static void json_offsets(struct dump *d, const char *path, const char *text, size_t len) {
    struct offset_checkpoint c;
    if (offset_checkpoint_from_text(&c, text, len) != OK) return;
    for (uint32_t i = 0; i < c.count; i++) {
        json_open(d, "offset", path);
        json_str(&d->out, "topic", c.entries[i].topic);
        json_i64(&d->out, "partition", c.entries[i].partition);
        json_i64(&d->out, "offset", c.entries[i].offset);
        json_close(d);
    }
    offset_checkpoint_free(&c);
}

static void json_partition_metadata(struct dump *d, const char *path, const char *text, size_t len) {
    struct uuid id;
    char id_text[UUID_TEXT_BYTES];
    if (partition_metadata_from_text(text, len, &id) != OK) return;
    uuid_to_text(&id, id_text);
    json_open(d, "partition", path);
    json_text(&d->out, "topicId", id_text);
    json_close(d);
}

static void check_text_file(struct dump *d, const char *path, const char *name, bool print) {
    size_t len;
    int err;
    char *text = (char *)read_whole(path, &len, &err);
    if (!text) {
        dump_unreadable(d, path, err);
        return;
    }
    if (print && !d->json) {
        fwrite(text, 1, len, stdout);
        if (len > 0 && text[len - 1] != '\n') putchar('\n');
    } else if (print && strcmp(name, EPOCH_CHECKPOINT_FILE) == 0) {
        json_epochs(d, path, text, len);
    } else if (print && strcmp(name, PARTITION_METADATA_FILE) == 0) {
        json_partition_metadata(d, path, text, len);
    } else if (print) {
        json_offsets(d, path, text, len);
    }
    if (!text_file_ok(name, text, len)) dump_damage(d, path, 0, "not what a %s looks like", name);
    free(text);
}

void print_text_file(struct dump *d, const char *path, const char *name) { check_text_file(d, path, name, true); }
void verify_text_file(struct dump *d, const char *path, const char *name) { check_text_file(d, path, name, false); }

/* ---- manifest ---- */

static void hex(char *out, const uint8_t *p, size_t len) {
    for (size_t i = 0; i < len; i++) sprintf(out + 2 * i, "%02x", p[i]);
}

static void print_manifest_text(const struct manifest *m) {
    char id[UUID_TEXT_BYTES], digest[33];
    uuid_to_text(&m->topic_id, id);
    printf("plid: %" PRIu64 " topic: %s partition: %" PRId32 " topicId: %s generation: %" PRIu64 " sealedSegments: %" PRIu32 "\n", m->plid, m->topic,
           m->partition, id, m->generation, m->segment_count);
    for (uint32_t i = 0; i < m->segment_count; i++) {
        const struct sealed_segment *s = &m->segments[i];
        hex(digest, s->digest.b, sizeof s->digest.b);
        printf("segment: %020" PRId64 ".log size: %" PRIu64 " xxh3: %s chunks: %" PRIu64 "\n", s->base_offset,
               s->size_bytes, digest,
               sealed_chunks(s->size_bytes));
    }
}

static void print_manifest_json(struct dump *d, const char *path, const struct manifest *m) {
    char id[UUID_TEXT_BYTES];
    uuid_to_text(&m->topic_id, id);
    json_open(d, "manifest", path);
    json_u64(&d->out, "plid", m->plid);
    json_text(&d->out, "topic", m->topic);
    json_i64(&d->out, "partition", m->partition);
    json_text(&d->out, "topicId", id);
    json_u64(&d->out, "generation", m->generation);
    json_array(&d->out, "segments");
    for (uint32_t i = 0; i < m->segment_count; i++) {
        json_object(&d->out, NULL);
        json_i64(&d->out, "baseOffset", m->segments[i].base_offset);
        json_u64(&d->out, "size", m->segments[i].size_bytes);
        json_hex(&d->out, "xxh3", m->segments[i].digest.b, sizeof m->segments[i].digest.b);
        json_object_end(&d->out);
    }
    json_array_end(&d->out);
    json_close(d);
}

static void check_manifest(struct dump *d, const char *path, bool print) {
    size_t len;
    int err;
    struct manifest m;
    uint8_t *data = read_whole(path, &len, &err);
    if (!data) {
        dump_unreadable(d, path, err);
        return;
    }
    enum err decoded = manifest_decode(&m, data, len);
    free(data);
    if (decoded == ERR_NOMEM) {
        dump_unreadable(d, path, -ENOMEM);
    } else if (decoded != OK) {
        dump_damage(d, path, 0, decoded == ERR_UNSUPPORTED ? "a manifest of a later version"
                    : "the manifest does not match its sum");
    } else {
        if (print && d->json) print_manifest_json(d, path, &m);
        else if (print) print_manifest_text(&m);
        manifest_free(&m);
    }
}

void print_manifest(struct dump *d, const char *path) { check_manifest(d, path, true); }
void verify_manifest(struct dump *d, const char *path) { check_manifest(d, path, false); }
