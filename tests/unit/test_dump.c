/* `varve dump`: every byte of small segments and indexes is flipped, and the place that is reported must be right. */
#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "log/index.h"
#include "log/kafka_files.h"
#include "log/manifest.h"
#include "log/names.h"
#include "log/producers.h"
#include "proto/metadata.pb-c.h"
#include "proto/record_batch.h"
#include "tools/dump.h"

enum { SEGMENTS = 2, BATCHES = 9, INTERVAL = 150 };

static char root[64], out[1 << 20];
struct seg {
    int64_t base;
    uint8_t log[16384], index[1024], times[1024];
    size_t log_len, index_len, times_len;
    uint32_t starts[BATCHES + 1];
};
static struct seg segs[SEGMENTS];

/* ---- making files ---- */

static const char *path_of(const char *name) {
    static char path[8][PATH_MAX];
    static int turn;
    turn = (turn + 1) % 8;
    snprintf(path[turn], PATH_MAX, "%s/%s", root, name);
    return path[turn];
}

static void write_file(const char *name, const void *data, size_t len) {
    FILE *f = fopen(path_of(name), "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(data, 1, len, f), len);
    fclose(f);
}

static const char *seg_name(int i, enum file_kind kind) {
    static char name[4][FILE_NAME_BYTES];
    static int turn;
    turn = (turn + 1) % 4;
    file_name(name[turn], segs[i].base, kind);
    return name[turn];
}

/* A batch of a few records at `offset`; epochs 1, then 3 from the fifth batch of the first segment on. */
static size_t make_batch(uint8_t *at, int64_t offset, int32_t epoch, int records, int64_t timestamp) {
    struct batch_builder b;
    uint8_t *bytes;
    size_t len;
    batch_builder_init(&b, CODEC_NONE, 1 << 20);
    for (int r = 0; r < records; r++) {
        char value[40];
        snprintf(value, sizeof value, "value %d of offset %" PRId64, r, offset);
        struct record_header header = {STR_LIT("h"), {(const uint8_t *)"x", 1}};
        ck_assert_int_eq(batch_builder_add(&b, timestamp + r, (struct bytes){(const uint8_t *)"k", 1},
                                           (struct bytes){(const uint8_t *)value,
                                                          (int32_t)strlen(value)}, &header, r == 0), OK);
    }
    ck_assert_int_eq(batch_builder_finish(&b, &bytes, &len), OK);
    batch_set_base_offset(bytes, offset);
    batch_set_leader_epoch(bytes, epoch);
    memcpy(at, bytes, len);
    free(bytes);
    batch_builder_free(&b);
    return len;
}

static void make_segments(void) {
    int64_t offset = 100;
    for (int i = 0; i < SEGMENTS; i++) {
        struct seg *s = &segs[i];
        struct segment_index x;
        *s = (struct seg){.base = offset};
        index_init(&x, offset, INTERVAL, 1 << 20);
        for (int b = 0; b < BATCHES; b++) {
            int records = 1 + (b * 7 + i) % 4;
            struct batch_header h;
            s->starts[b] = (uint32_t)s->log_len;
            s->log_len += make_batch(s->log + s->log_len, offset, i == 0 && b < 4 ? 1 : 3, records,
                                     1700000000000 + offset * 10);
            ck_assert_int_eq(batch_parse(s->log + s->starts[b], s->log_len - s->starts[b], &h), OK);
            ck_assert_int_eq(index_add(&x, &h, s->starts[b]), OK);
            offset += records;
        }
        s->starts[BATCHES] = (uint32_t)s->log_len;
        if (i + 1 < SEGMENTS) ck_assert_int_eq(index_seal(&x), OK);
        index_encode(&x, 0, x.offset_count, s->index);
        s->index_len = x.offset_count * INDEX_ENTRY_BYTES;
        index_encode_times(&x, 0, x.time_count, s->times);
        s->times_len = x.time_count * TIME_ENTRY_BYTES;
        ck_assert_uint_gt(x.offset_count, 2);
        ck_assert_uint_gt(x.time_count, 2);
        index_free(&x);
    }
}

static void put_segment(int i) {
    write_file(seg_name(i, FILE_LOG), segs[i].log, segs[i].log_len);
    write_file(seg_name(i, FILE_INDEX), segs[i].index, segs[i].index_len);
    write_file(seg_name(i, FILE_TIMEINDEX), segs[i].times, segs[i].times_len);
}

static void put_manifest(void) {
    struct manifest m;
    struct sealed_segment s;
    struct digester *d = digester_new();
    uint8_t *bytes;
    size_t len;
    manifest_init(&m);
    strcpy(m.topic, "t");
    for (int i = 0; i + 1 < SEGMENTS; i++) {
        digester_reset(d);
        ck_assert_int_eq(digester_feed(d, segs[i].log, segs[i].log_len), OK);
        ck_assert_int_eq(digester_result(d, segs[i].base, &s), OK);
        ck_assert_int_eq(manifest_put(&m, &s), OK);
    }
    ck_assert_int_eq(manifest_encode(&m, &bytes, &len), OK);
    write_file(MANIFEST_FILE, bytes, len);
    free(bytes);
    manifest_free(&m);
    digester_free(d);
}

static void empty_root(void) {
    DIR *dir = opendir(root);
    for (struct dirent *e; (e = readdir(dir));)
        if (e->d_name[0] != '.') unlink(path_of(e->d_name));
    closedir(dir);
}

/* A whole partition folder. */
static void put_folder(bool manifest, bool epochs) {
    empty_root();
    for (int i = 0; i < SEGMENTS; i++) put_segment(i);
    if (manifest) put_manifest();
    char text[64];
    int len = snprintf(text, sizeof text, "0\n2\n1 0\n3 %" PRId64 "\n",
                       (int64_t)load_be64(segs[0].log + segs[0].starts[4]));
    if (epochs) write_file(EPOCH_CHECKPOINT_FILE, text, (size_t)len);
}

/* ---- running ---- */

/* Runs `varve dump` with its standard output and errors in `out`. */
static int dump(const char *a, const char *b, const char *c) {
    char *argv[] = {(char *)"dump", (char *)a, (char *)b, (char *)c, NULL};
    int argc = c ? 4 : b ? 3 : 2;
    fflush(stdout);
    fflush(stderr);
    int saved_out = dup(1), saved_err = dup(2), file = open(path_of(".output"), O_RDWR | O_CREAT | O_TRUNC, 0600);
    ck_assert_int_ge(file, 0);
    dup2(file, 1);
    dup2(file, 2);
    int code = cmd_dump(argc, argv);
    fflush(stdout);
    fflush(stderr);
    ssize_t n = pread(file, out, sizeof out - 1, 0);
    dup2(saved_out, 1);
    dup2(saved_err, 2);
    close(saved_out);
    close(saved_err);
    close(file);
    out[n > 0 ? n : 0] = '\0';
    return code;
}

/* Damage lines in `out`; `*last` is the last one's position and `name` must be the file of all. */
static int damages(const char *name, uint64_t *last) {
    int count = 0;
    for (char *line = out; (line = strstr(line, ": position ")); line++) {
        char *start = line;
        while (start > out && start[-1] != '\n') start--;
        ck_assert_msg(strncmp(start, path_of(name), strlen(path_of(name))) == 0 &&
                      start + strlen(path_of(name)) == line, "%s: %s", name, out);
        *last = strtoull(line + 11, NULL, 10);
        count++;
    }
    return count;
}

static void expect_one(const char *name, uint64_t position, const char *what, size_t byte, int bit) {
    uint64_t at = UINT64_MAX;
    int code = dump("--verify", root, NULL);
    int count = damages(name, &at);
    ck_assert_msg(code == 3 && count == 1 && at == position,
                  "%s: byte %zu bit %d: exit %d, %d damages, position %" PRIu64 " not %" PRIu64 "\n%s", what, byte, bit,
                  code, count, at, position, out);
}

/* A later epoch in the last batch of the log is no contradiction while only the checkpoint file tells of epochs. */
static bool may_be_a_new_epoch(int i, size_t byte) {
    return i + 1 == SEGMENTS && byte >= segs[i].starts[BATCHES - 1] + 12 && byte < segs[i].starts[BATCHES - 1] + 16;
}

static uint64_t batch_start(const struct seg *s, size_t byte) {
    int b = 0;
    while (s->starts[b + 1] <= byte) b++;
    return s->starts[b];
}

/* ---- tests ---- */

START_TEST(sound_folders_are_sound) {
    for (int manifest = 0; manifest < 2; manifest++) {
        for (int epochs = 0; epochs < 2; epochs++) {
            put_folder(manifest, epochs);
            ck_assert_msg(dump("--verify", root, NULL) == 0, "%s", out);
            ck_assert_ptr_null(strstr(out, "position"));
            ck_assert_msg(dump("--records", root, NULL) == 0, "%s", out);
            ck_assert_int_eq(dump("--json", "--records", root), 0);
        }
    }
}
END_TEST

/* Every bit of the first segment (sealed) and of the second (being written), with all that a folder tells. */
START_TEST(flips_in_a_log) {
    put_folder(true, true);
    for (int i = 0; i < SEGMENTS; i++) {
        for (size_t byte = 0; byte < segs[i].log_len; byte++) {
            int bit = (int)(byte * 5 % 8);
            segs[i].log[byte] ^= (uint8_t)(1 << bit);
            put_segment(i);
            segs[i].log[byte] ^= (uint8_t)(1 << bit);
            if (!may_be_a_new_epoch(i, byte)) expect_one(seg_name(i, FILE_LOG), batch_start(&segs[i], byte), "log",
                                                         byte, bit);
        }
        put_segment(i);
    }
}
END_TEST

/* The fields before the CRC: every bit. */
START_TEST(flips_where_no_crc_looks) {
    put_folder(true, true);
    for (int i = 0; i < SEGMENTS; i++) {
        for (int b = 0; b < BATCHES; b++) {
            for (size_t byte = segs[i].starts[b]; byte < segs[i].starts[b] + 17; byte++) {
                for (int bit = 0; bit < 8; bit++) {
                    segs[i].log[byte] ^= (uint8_t)(1 << bit);
                    put_segment(i);
                    segs[i].log[byte] ^= (uint8_t)(1 << bit);
                    if (!may_be_a_new_epoch(i, byte)) expect_one(seg_name(i, FILE_LOG), segs[i].starts[b], "header",
                                                                 byte, bit);
                }
            }
        }
        put_segment(i);
    }
}
END_TEST

/* A lone .log. What cannot be known without anything beside it: an epoch that fits between its neighbours, and offsets
 * that seem to be missing before the last batch (compaction makes such gaps). */
START_TEST(flips_in_a_lone_log) {
    struct seg *s = &segs[0];
    empty_root();
    int missed = 0;
    for (size_t byte = 0; byte < s->log_len; byte++) {
        int bit = (int)(byte * 3 % 8);
        s->log[byte] ^= (uint8_t)(1 << bit);
        write_file(seg_name(0, FILE_LOG), s->log, s->log_len);
        s->log[byte] ^= (uint8_t)(1 << bit);
        uint64_t at = UINT64_MAX, start = batch_start(s, byte), field = byte - start;
        int code = dump("--verify", path_of(seg_name(0, FILE_LOG)), NULL), count = damages(seg_name(0, FILE_LOG), &at);
        if (code == 0 && count == 0 && ((field < 8 && start == s->starts[BATCHES - 1]) || (field >= 12 && field < 16))) {
            missed++;
            continue;
        }
        ck_assert_msg(code == 3 && count == 1 && at == start,
                      "byte %zu bit %d: exit %d, %d damages, position %" PRIu64 " not %" PRIu64 "\n%s", byte, bit, code, count,
                      at, start, out);
    }
    ck_assert_int_le(missed, 12);
}
END_TEST

static void flip_entries(enum file_kind kind, size_t entry_bytes, bool manifest) {
    put_folder(manifest, manifest);
    for (int i = 0; i < SEGMENTS; i++) {
        uint8_t *bytes = kind == FILE_INDEX ? segs[i].index : segs[i].times;
        size_t len = kind == FILE_INDEX ? segs[i].index_len : segs[i].times_len;
        for (size_t byte = 0; byte < len; byte++) {
            for (int bit = 0; bit < 8; bit++) {
                bytes[byte] ^= (uint8_t)(1 << bit);
                put_segment(i);
                bytes[byte] ^= (uint8_t)(1 << bit);
                if (kind == FILE_TIMEINDEX && !manifest && byte % 12 >= 8) {
                    /* An offset inside the same batch: versions of Kafka differ in which one they name. */
                    if (dump("--verify", root, NULL) == 0) continue;
                }
                expect_one(seg_name(i, kind), byte - byte % entry_bytes, file_suffix(kind), byte, bit);
            }
        }
        put_segment(i);
    }
}

START_TEST(flips_in_an_index) {
    flip_entries(FILE_INDEX, INDEX_ENTRY_BYTES, true);
    flip_entries(FILE_INDEX, INDEX_ENTRY_BYTES, false);
}
END_TEST

START_TEST(flips_in_a_time_index) {
    flip_entries(FILE_TIMEINDEX, TIME_ENTRY_BYTES, true);
    flip_entries(FILE_TIMEINDEX, TIME_ENTRY_BYTES, false);
}
END_TEST

START_TEST(an_index_alone_is_compared_with_its_log) {
    put_folder(true, true);
    segs[0].index[9] ^= 4;
    segs[0].log[30] ^= 4;
    put_segment(0);
    segs[0].index[9] ^= 4;
    segs[0].log[30] ^= 4;
    uint64_t at;
    ck_assert_int_eq(dump("--verify", path_of(seg_name(0, FILE_INDEX)), NULL), 3);
    ck_assert_int_eq(damages(seg_name(0, FILE_INDEX), &at), 1);
    ck_assert_uint_eq(at, 8);
    ck_assert_int_eq(dump("--verify", path_of(seg_name(0, FILE_TIMEINDEX)), NULL), 0);
}
END_TEST

/* The log that is being written may end anywhere; a sealed one may not. */
START_TEST(torn_ends) {
    for (int i = 0; i < SEGMENTS; i++) {
        put_folder(true, true);
        unlink(path_of(seg_name(i, FILE_INDEX)));
        unlink(path_of(seg_name(i, FILE_TIMEINDEX)));
        for (size_t len = 0; len < segs[i].log_len; len++) {
            write_file(seg_name(i, FILE_LOG), segs[i].log, len);
            uint64_t at, start = batch_start(&segs[i], len);
            int code = dump("--verify", root, NULL), count = damages(seg_name(i, FILE_LOG), &at);
            if (i + 1 < SEGMENTS) {
                ck_assert_msg(code == 3 && count == 1 && at == start, "%zu bytes: exit %d, %" PRIu64 "\n%s", len, code,
                              at, out);
            } else {
                char note[100];
                snprintf(note, sizeof note, ": %zu bytes of an unfinished batch", len - (size_t)start);
                ck_assert_msg(code == 0 && (len == start || strstr(out, note)), "%zu bytes: exit %d\n%s", len, code, out);
            }
        }
    }
}
END_TEST

START_TEST(damage_in_two_batches_is_two_damages) {
    put_folder(true, true);
    struct seg *s = &segs[0];
    uint8_t saved[sizeof s->log];
    memcpy(saved, s->log, sizeof saved);
    s->log[s->starts[2] + 70] ^= 1;
    s->log[s->starts[3] + 70] ^= 1;
    memset(s->log + s->starts[5], 0, s->starts[6] - s->starts[5]);
    put_segment(0);
    memcpy(s->log, saved, sizeof saved);
    uint64_t at;
    ck_assert_int_eq(dump("--verify", root, NULL), 3);
    ck_assert_msg(damages(seg_name(0, FILE_LOG), &at) == 3, "%s", out);
    ck_assert_uint_eq(at, s->starts[5]);
}
END_TEST

START_TEST(preallocated_files_of_kafka) {
    put_folder(false, true);
    struct seg s = segs[1];
    write_file(seg_name(1, FILE_LOG), s.log, s.log_len + 3000);
    write_file(seg_name(1, FILE_INDEX), s.index, s.index_len + 8 * 10);
    write_file(seg_name(1, FILE_TIMEINDEX), s.times, s.times_len + 12 * 10);
    ck_assert_msg(dump("--verify", root, NULL) == 0, "%s", out);
    ck_assert_ptr_nonnull(strstr(out, "3000 bytes of an unfinished batch"));
    dump(path_of(seg_name(1, FILE_INDEX)), NULL, NULL);
    int lines = 0;
    for (char *p = out; (p = strstr(p, "offset: ")); p++) lines++;
    ck_assert_int_eq(lines, (int)(s.index_len / 8));
    put_manifest();   /* ours have no zeros */
    ck_assert_int_eq(dump("--verify", path_of(seg_name(1, FILE_INDEX)), NULL), 3);
}
END_TEST

START_TEST(other_files) {
    put_folder(true, true);
    struct producers p;
    struct batch_header h = {.producer_id = 7, .producer_epoch = 1, .base_sequence = 3, .last_offset_delta = 4,
                             .base_offset = 100, .max_timestamp = 9};
    uint8_t *bytes;
    size_t len;
    producers_init(&p);
    ck_assert_int_eq(producers_apply(&p, &h), OK);
    ck_assert_int_eq(producers_to_snapshot(&p, &bytes, &len), OK);
    write_file("00000000000000000105.snapshot", bytes, len);
    ck_assert_int_eq(dump(path_of("00000000000000000105.snapshot"), NULL, NULL), 0);
    ck_assert_ptr_nonnull(strstr(out,
                                 "\nproducerId: 7 producerEpoch: 1 coordinatorEpoch: -1 currentTxnFirstOffset: OptionalLong.empty lastTimestamp: 9 "
                                      "firstSequence: 3 lastSequence: 7 lastOffset: 104 offsetDelta: 4 timestamp: 9\n"));
    ck_assert_int_eq(dump("--verify", root, NULL), 0);
    bytes[20] ^= 1;
    write_file("00000000000000000105.snapshot", bytes, len);
    expect_one("00000000000000000105.snapshot", 0, "snapshot", 20, 0);
    unlink(path_of("00000000000000000105.snapshot"));
    write_file(EPOCH_CHECKPOINT_FILE, "0\n1\n1\n", 6);
    expect_one(EPOCH_CHECKPOINT_FILE, 0, "epochs", 0, 0);
    unlink(path_of(EPOCH_CHECKPOINT_FILE));
    write_file(PARTITION_METADATA_FILE, "version: 0\ntopic_id: x", 22);
    expect_one(PARTITION_METADATA_FILE, 0, "metadata", 0, 0);
    unlink(path_of(PARTITION_METADATA_FILE));
    write_file(MANIFEST_FILE, "x", 1);
    expect_one(MANIFEST_FILE, 0, "manifest", 0, 0);
    free(bytes);
    producers_free(&p);
}
END_TEST

START_TEST(output_is_that_of_kafka_dump_log) {
    empty_root();
    uint8_t log[1000];
    char want[2000];
    size_t len = make_batch(log, 0, 5, 2, 1700000000000);
    struct batch_header h;
    ck_assert_int_eq(batch_parse(log, len, &h), OK);
    log[len] = 1;   /* the begin of another batch */
    write_file("00000000000000000000.log", log, len + 1);
    const char *path = path_of("00000000000000000000.log");
    int head = snprintf(want, sizeof want,
                        "Dumping %s\nLog starting offset: 0\n"
                        "baseOffset: 0 lastOffset: 1 count: 2 baseSequence: -1 lastSequence: -1 producerId: -1 producerEpoch: -1 "
                        "partitionLeaderEpoch: 5 isTransactional: false isControl: false deleteHorizonMs: OptionalLong.empty position: 0 "
                        "CreateTime: 1700000000001 size: %zu magic: 2 compresscodec: none crc: %" PRIu32 " isvalid: true\n",
                        path, len, h.crc);
    const char *records = "| offset: 0 CreateTime: 1700000000000 keySize: 1 valueSize: 19 sequence: -1 headerKeys: [h] key: k payload: value 0 of offset 0\n"
                          "| offset: 1 CreateTime: 1700000000001 keySize: 1 valueSize: 19 sequence: -1 headerKeys: [] key: k payload: value 1 of offset 0\n";
    const char *tail = "Found 1 invalid bytes at the end of 00000000000000000000.log\n";
    strcpy(want + head, tail);
    ck_assert_int_eq(dump(path, NULL, NULL), 0);
    ck_assert_str_eq(out, want);
    snprintf(want + head, sizeof want - (size_t)head, "%s%s", records, tail);
    ck_assert_int_eq(dump("--records", path, NULL), 0);
    ck_assert_str_eq(out, want);
}
END_TEST

static int lines_with(const char *text) {
    int n = 0;
    for (const char *p = out; (p = strstr(p, text)); p++) n++;
    return n;
}

/* ---- records of the metadata log ---- */

static size_t packed(uint8_t *out_bytes, Varve__Metadata__Record__KindCase kind, const void *m, uint64_t kept) {
    Varve__Metadata__Record r = VARVE__METADATA__RECORD__INIT;
    r.kind_case = kind;
    r.topic = (Varve__Metadata__Topic *)m; /* the members of the union are pointers */
    r.kept = kept;
    return varve__metadata__record__pack(&r, out_bytes);
}

struct value { uint8_t bytes[400]; int32_t len; };
static void put_values(const struct value *values, int count) {
    struct batch_builder b;
    uint8_t *bytes;
    size_t len;
    batch_builder_init(&b, CODEC_NONE, 1 << 20);
    for (int i = 0; i < count; i++)
        ck_assert_int_eq(batch_builder_add(&b, 1700000000000, BYTES_NULL,
                                           values[i].len < 0 ? BYTES_NULL : (struct bytes){values[i].bytes, values[i].len}, NULL, 0), OK);
    ck_assert_int_eq(batch_builder_finish(&b, &bytes, &len), OK);
    write_file("00000000000000000000.log", bytes, len);
    free(bytes);
    batch_builder_free(&b);
}

static int partition_record(struct value *v) {
    Varve__Metadata__Partition m = VARVE__METADATA__PARTITION__INIT;
    Varve__Metadata__Replica replica[2], *list[2] = {&replica[0], &replica[1]};
    static uint8_t id[16] = {1, 2, 3}, incarnation[16] = {9};
    for (int i = 0; i < 2; i++) {
        varve__metadata__replica__init(&replica[i]);
        replica[i].node = i + 1;
    }
    replica[1].incarnation = (ProtobufCBinaryData){sizeof incarnation, incarnation};
    replica[1].life = 4;
    replica[1].adding = true;
    m.topic_id = (ProtobufCBinaryData){sizeof id, id};
    m.partition = 7;
    m.plid = 1ull << 39;
    m.at = list;
    m.n_at = 2;
    return v->len = (int32_t)packed(v->bytes, VARVE__METADATA__RECORD__KIND_PARTITION, &m, 12);
}

/* Known, unknown, cut off, none, Kafka's: each line says what it is, and the others are shown all the same. */
START_TEST(metadata_records) {
    static struct value values[6];
    static const uint8_t unknown[] = {0xfa, 0x07, 2, 8, 1}, kafkas[] = {1, 2, 0, 'x'}; /* field 127 */
    Varve__Metadata__SnapshotEnd end = VARVE__METADATA__SNAPSHOT_END__INIT;
    empty_root();
    end.begin = 5;
    end.pieces = 3;
    end.crc = UINT32_MAX;
    values[0].len = (int32_t)packed(values[0].bytes, VARVE__METADATA__RECORD__KIND_SNAPSHOT_END, &end, 0);
    memcpy(values[1].bytes, unknown, sizeof unknown);
    values[1].len = sizeof unknown;
    values[2].len = partition_record(&values[2]) - 1;
    values[3].len = -1;
    memcpy(values[4].bytes, kafkas, sizeof kafkas);
    values[4].len = sizeof kafkas;
    partition_record(&values[5]);
    put_values(values, 6);
    const char *path = path_of("00000000000000000000.log");
    static const char *const want[] = {
        "payload: {\"type\":\"SNAPSHOT_END_RECORD\",\"data\":{\"begin\":5,\"pieces\":3,\"crc\":4294967295}}\n",
        "payload: Unknown record kind 127 at offset 1, skipping.\n",
        "payload: Error at offset 2, skipping. It does not parse\n",
        "payload: Error at offset 3, skipping. It has no value\n",
        "payload: Error at offset 4, skipping. It is a record of Kafka's own, type 2, version 0\n",
        "payload: {\"type\":\"PARTITION_RECORD\",\"kept\":12,\"data\":{\"topicId\":\"AQIDAAAAAAAAAAAAAAAAAA\",\"partition\":7,\"plid\":549755813888,"
        "\"replicas\":[],\"at\":[{\"node\":1,\"incarnation\":null,\"life\":0,\"adding\":false,\"removing\":false,\"assigned\":0},"
        "{\"node\":2,\"incarnation\":\"CQAAAAAAAAAAAAAAAAAAAA\",\"life\":4,\"adding\":true,\"removing\":false,\"assigned\":0}]}}\n",
    };
    ck_assert_int_eq(dump("--cluster-metadata-decoder", path, NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(want); i++) ck_assert_msg(strstr(out, want[i]), "no %s in %s", want[i], out);
    ck_assert_int_eq(dump("--cluster-metadata-decoder", "--json", path), 0);
    ck_assert_int_eq(lines_with("\"type\":\"record\""), 6);
    ck_assert_int_eq(lines_with("\"undecoded\":\""), 4);
    ck_assert(strstr(out, "\"undecoded\":\"Unknown record kind 127 at offset 1, skipping.\",\"payload\":\"fa07020801\"}"));
    ck_assert(strstr(out, ",\"payload\":{\"type\":\"SNAPSHOT_END_RECORD\",\"data\":{"));
    ck_assert_int_eq(dump("--records", path, NULL), 0); /* as they are: nothing says that they are of the metadata log */
    ck_assert_int_eq(lines_with("_RECORD"), 0);
    ck_assert_int_eq(dump("--cluster-metadata-decoder", "--offsets-decoder", path), 2);
}
END_TEST

/* Whatever bytes a record has: a line for each. */
START_TEST(noise_as_metadata_records) {
    enum { RECORDS = 40 };
    static struct value values[RECORDS];
    srandom(11);
    for (int round = 0; round < 200; round++) {
        for (int i = 0; i < RECORDS; i++) {
            partition_record(&values[i]);
            if (i % 4 == 3) values[i].len = (int32_t)(random() % 100);
            for (long flips = random() % 4; flips > 0; flips--) values[i].bytes[random() % MAX(values[i].len, 1)] = (uint8_t)random();
        }
        empty_root();
        put_values(values, RECORDS);
        ck_assert_int_eq(dump("--cluster-metadata-decoder", round % 2 ? "--json" : "--records", path_of("00000000000000000000.log")), 0);
        ck_assert_int_eq(lines_with(round % 2 ? "\"type\":\"record\"" : "| offset: "), RECORDS);
    }
}
END_TEST

/* ---- filters and figures ---- */

/* `records` 0..: how many record lines, of which the first is of `first`; batches: how many batch lines. */
static const struct filter_case { const char *option, *value; int records, batches; int64_t first; } filter_cases[] = {
    {"--from", "118", 25, 11, 118},       {"--to", "102", 2, 2, 100},           {"--from", "@1700000001185", 23, 10, 120},
    {"--to", "@1700000001015", 5, 2, 100}, {"--to", "@2023-11-14T22:13:21.015Z", 5, 2, 100}, {"--key", "k", 43, 18, 100}, {"--key", "kk", 0, 0, 0},
    {"--grep", "of offset 101", 4, 1, 101}, {"--header", "h", 18, 18, 100},     {"--header", "h=x", 18, 18, 100},
    {"--header", "h=y", 0, 0, 0},         {"--grep", "nothing like it", 0, 0, 0}, {"--from", "143", 0, 0, 0},
};

START_TEST(filters) {
    const struct filter_case *c = &filter_cases[_i];
    put_folder(true, true);
    char option[80];
    snprintf(option, sizeof option, "%s=%s", c->option, c->value);
    ck_assert_int_eq(dump(option, "--records", root), 0);
    ck_assert_msg(lines_with("| offset: ") == c->records, "%s: %d records\n%.2000s", option, lines_with("| offset: "), out);
    ck_assert_msg(lines_with("baseOffset: ") == c->batches, "%s: %d batches\n%.2000s", option, lines_with("baseOffset: "), out);
    ck_assert_int_eq(lines_with("offset: N"), 0);
    if (c->records > 0) ck_assert_int_eq(strtoll(strstr(out, "| offset: ") + 10, NULL, 10), c->first);
    ck_assert_int_eq(dump(option, "--json", root), 0);
    ck_assert_int_eq(lines_with("\"type\":\"batch\""), c->batches);
}
END_TEST

START_TEST(bad_filters) {
    static const char *const bad[] = {"--from=x", "--from=-1", "--to=@", "--to=@2026-13-40", "--from=@2026-11-28T09:00:00x", "--verify", "--summary"};
    put_folder(true, true);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ck_assert_msg(dump(bad[i], strcmp(bad[i], "--summary") == 0 ? "--follow" : "--to=7x", root) == 2, "%s", bad[i]);
    ck_assert_int_eq(dump("--verify", "--grep=x", root), 2);
}
END_TEST

static void expect(const char *text) { ck_assert_msg(strstr(out, text), "'%s' is missing in\n%.2000s", text, out); }

START_TEST(figures) {
    put_folder(true, true);
    ck_assert_int_eq(dump("--summary", root, NULL), 0);
    char line[200];
    snprintf(line, sizeof line, "  files: 2, %zu bytes\n  batches: 18, %zu bytes\n  records: 43\n  offsets: 100 to 142\n  leader epochs: 1 to 3\n",
             segs[0].log_len + segs[1].log_len, segs[0].log_len + segs[1].log_len);
    expect(line);
    expect("  timestamps: 1700000001000 to ");
    expect("  codec none: 18 batches");
    expect("    k: 43 records, ");
    ck_assert_ptr_null(strstr(out, "gaps"));
    ck_assert_int_eq(dump("--summary", "--json", root), 0);
    expect("\"type\":\"summary\"");
    expect("\"records\":43");
    expect("\"lastOffset\":142");
    /* A gap, a damaged batch, bytes at the end. */
    empty_root();
    uint8_t log[4000];
    size_t len = make_batch(log, 0, 1, 2, 1000), third;
    len += make_batch(log + len, 10, 1, 1, 2000);
    third = len;
    len += make_batch(log + len, 11, 1, 1, 3000);
    log[third + 70] ^= 1;
    log[len] = 0;
    write_file("00000000000000000000.log", log, len + 1);
    ck_assert_int_eq(dump("--summary", root, NULL), 3);
    expect("1 damaged batches, 1 bytes behind the last batch");
    expect("offsets: 0 to 10, 1 gaps of together 8 offsets");
    ck_assert_int_eq(dump("--summary", "--key=k", root), 3);
    expect("records: 3");
}
END_TEST

START_TEST(compressed_batches_and_producers_in_figures) {
    empty_root();
    struct batch_builder b;
    uint8_t *bytes, file[4096];
    size_t len, at = 0;
    for (int i = 0; i < 3; i++) {
        char value[1000];
        memset(value, 'a' + i, sizeof value);
        batch_builder_init(&b, i ? CODEC_ZSTD : CODEC_NONE, 1 << 20);
        b.producer_id = 4711;
        b.producer_epoch = 0;
        b.base_sequence = i;
        ck_assert_int_eq(batch_builder_add(&b, 1000, BYTES_NULL, (struct bytes){(const uint8_t *)value, sizeof value}, NULL, 0), OK);
        ck_assert_int_eq(batch_builder_finish(&b, &bytes, &len), OK);
        batch_set_base_offset(bytes, i);
        memcpy(file + at, bytes, len);
        at += len;
        free(bytes);
        batch_builder_free(&b);
    }
    write_file("00000000000000000000.log", file, at);
    ck_assert_int_eq(dump("--summary", root, NULL), 0);
    expect("codec none: 1 batches");
    expect("codec zstd: 2 batches");
    expect("  compression: ");
    expect("  producers: 1\n    4711: 3 records, ");
}
END_TEST

START_TEST(exit_codes) {
    empty_root();
    ck_assert_int_eq(dump("--no-such-option", root, NULL), 2);
    ck_assert_int_eq(dump("--verify", NULL, NULL), 2);
    ck_assert_int_eq(dump(path_of("00000000000000000000.log"), NULL, NULL), 1);
    ck_assert_int_eq(dump("--verify", path_of("00000000000000000000.log"), NULL), 1);
    write_file("something", "x", 1);
    ck_assert_int_eq(dump(path_of("something"), NULL, NULL), 1);
    ck_assert_int_eq(dump("--verify", root, NULL), 0);
    ck_assert_int_eq(dump("--help", NULL, NULL), 0);
}
END_TEST

/* Whatever the bytes are: no crash, and an exit code. */
START_TEST(noise) {
    static const char *const names[] = {"00000000000000000100.log", "00000000000000000100.index",
                                        "00000000000000000100.timeindex", "00000000000000000100.snapshot",
                                        EPOCH_CHECKPOINT_FILE, PARTITION_METADATA_FILE, MANIFEST_FILE, "varve.meta", "catalog", "000000.vj",
                                        RECOVERY_POINT_FILE, "00000000000000000100.txnindex"};
    uint32_t x = 12345;
    for (int round = 0; round < 60; round++) {
        empty_root();
        for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
            uint8_t bytes[3000];
            size_t len = (x >> 7) % sizeof bytes;
            memcpy(bytes, segs[0].log, sizeof bytes);
            for (size_t i = 0; i < len; i++) {
                x = x * 1664525u + 1013904223u;
                if (round % 3 == 0 || (x >> 20) % 50 == 0) bytes[i] = (uint8_t)(x >> 24);
            }
            write_file(names[n], bytes, len);
        }
        if (round % 2) unlink(path_of("varve.meta"));
        if (round % 2) unlink(path_of("catalog"));
        ck_assert_int_eq(dump("--verify", root, NULL), 3);
        int code = dump("--records", root, NULL);
        ck_assert(code == 3 || code == 0);
        code = dump("--summary", "--json", root);
        ck_assert(code == 3 || code == 0);
        code = dump("--grep=value", "--from=@1", root);
        ck_assert(code == 3 || code == 0);
        code = dump("--records", "--json", root);
        ck_assert(code == 3 || code == 0);
    }
}
END_TEST

int main(void) {
    snprintf(root, sizeof root, "%s/varve-test-dump.XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(root)) return 1;
    Suite *s = suite_create("dump");
    TCase *t = tcase_create("dump");
    tcase_set_timeout(t, 300);
    tcase_add_unchecked_fixture(t, make_segments, NULL);
    tcase_add_test(t, sound_folders_are_sound);
    tcase_add_test(t, flips_in_a_log);
    tcase_add_test(t, flips_where_no_crc_looks);
    tcase_add_test(t, flips_in_a_lone_log);
    tcase_add_test(t, flips_in_an_index);
    tcase_add_test(t, flips_in_a_time_index);
    tcase_add_test(t, an_index_alone_is_compared_with_its_log);
    tcase_add_test(t, torn_ends);
    tcase_add_test(t, damage_in_two_batches_is_two_damages);
    tcase_add_test(t, preallocated_files_of_kafka);
    tcase_add_test(t, other_files);
    tcase_add_test(t, output_is_that_of_kafka_dump_log);
    tcase_add_test(t, metadata_records);
    tcase_add_test(t, noise_as_metadata_records);
    tcase_add_loop_test(t, filters, 0, ARRAY_LEN(filter_cases));
    tcase_add_test(t, bad_filters);
    tcase_add_test(t, figures);
    tcase_add_test(t, compressed_batches_and_producers_in_figures);
    tcase_add_test(t, exit_codes);
    tcase_add_test(t, noise);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    empty_root();
    unlink(path_of(".output"));
    rmdir(root);
    return failed != 0;
}
