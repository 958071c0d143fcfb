/* test_compact.c - compaction: the map of keys, what is left of a batch, and runs over the simulated disk. */
#include "log/batch_filter.h"
#include "log/compact.h"
#include "log/faulty.h"
#include "tests/unit/log_fixture.h"

static struct bytes bytes_of(const char *s) { return s ? (struct bytes){(const uint8_t *)s, (int32_t)strlen(s)} : BYTES_NULL; }

/* ---- the map ---------------------------------------------------------------------------------------- */

START_TEST(the_map_keeps_the_newest_offset_of_each_key) {
    struct offset_map x;
    ck_assert_int_eq(offset_map_init(&x, 1 << 20, 1000, 7), OK);
    ck_assert_uint_lt(offset_map_bytes(&x), 30000); /* no more than 1000 keys need */
    for (int64_t offset = 0; offset < 5000; offset++) {
        char key[16];
        snprintf(key, sizeof key, "%lld", (long long)offset % 1000);
        ck_assert(offset_map_put(&x, bytes_of(key), offset));
    }
    ck_assert_uint_eq(x.count, 1000);
    for (int64_t k = 0; k < 1000; k++) {
        char key[16];
        snprintf(key, sizeof key, "%lld", (long long)k);
        ck_assert_int_eq(offset_map_get(&x, bytes_of(key)), 4000 + k);
    }
    ck_assert_int_eq(offset_map_get(&x, bytes_of("other")), -1);
    ck_assert(offset_map_put(&x, bytes_of(""), 9)); /* an empty key is one */
    ck_assert_int_eq(offset_map_get(&x, bytes_of("")), 9);
    offset_map_free(&x);
}
END_TEST

START_TEST(a_full_map_takes_known_keys_only) {
    struct offset_map x;
    ck_assert_int_eq(offset_map_init(&x, 10 * sizeof(struct offset_slot), 1000000, 1), OK);
    char key[2] = {0};
    for (char c = 'a'; c < 'a' + 9; c++) {
        key[0] = c;
        ck_assert(offset_map_put(&x, bytes_of(key), c));
    }
    ck_assert(!offset_map_put(&x, bytes_of("z"), 1000));
    ck_assert_int_eq(offset_map_get(&x, bytes_of("z")), -1);
    ck_assert(offset_map_put(&x, bytes_of("c"), 1001));
    ck_assert_int_eq(offset_map_get(&x, bytes_of("c")), 1001);
    offset_map_free(&x);
    ck_assert_int_eq(offset_map_init(&x, sizeof(struct offset_slot), 10, 1), ERR_INVALID);
}
END_TEST

/* ---- one batch ---------------------------------------------------------------------------------------- */

struct kv { const char *key, *value; };

/* Records of keys and values, timestamps 1000, 1010, ...; malloc'ed. */
static uint8_t *batch_of(const struct kv *kv, int32_t n, int64_t base, enum batch_codec codec, struct batch_header *h) {
    struct batch_builder b;
    uint8_t *out;
    size_t len;
    batch_builder_init(&b, codec, 64u << 20);
    b.producer_id = 5;
    b.producer_epoch = 0;
    b.base_sequence = (int32_t)base;
    struct record_header header = {str_from("h"), bytes_of("v")};
    for (int32_t i = 0; i < n; i++)
        ck_assert_int_eq(batch_builder_add(&b, 1000 + 10 * i, bytes_of(kv[i].key), bytes_of(kv[i].value), &header, i % 2), OK);
    ck_assert_int_eq(batch_builder_finish(&b, &out, &len), OK);
    batch_builder_free(&b);
    batch_set_base_offset(out, base);
    ck_assert_int_eq(batch_parse(out, len, h), OK);
    return out;
}

static struct offset_map map;
static struct filter_rules rules_for(const struct kv *kv, int32_t n, int64_t base) {
    ck_assert_int_eq(offset_map_init(&map, 1 << 16, 1000, 3), OK);
    for (int32_t i = 0; i < n; i++)
        if (kv[i].key) ck_assert(offset_map_put(&map, bytes_of(kv[i].key), base + i));
    return (struct filter_rules){.map = &map, .map_end = base + n, .now_ms = 1000000, .delete_retention_ms = 500, .max_decompressed_bytes = 1 << 20};
}

/* Filters, and checks that what is left is "key=value@timestamp ..."; frees it unless `keep`. */
static struct filter_result filtered(const struct filter_rules *r, const uint8_t *batch, const struct batch_header *h, bool last, const char *expected) {
    struct filter_result out;
    char text[512] = "";
    ck_assert_int_eq(batch_filter(r, batch, h, last, &out), OK);
    if (out.verdict != FILTER_REPLACE) return out;
    struct batch_header g;
    struct record_iter it;
    struct record record;
    enum err err;
    ck_assert_int_eq(batch_parse(out.batch, out.batch_len, &g), OK);
    ck_assert_int_eq(batch_check(&g), OK);
    ck_assert(batch_crc_ok(out.batch, &g));
    ck_assert(g.base_offset == h->base_offset && g.last_offset_delta == h->last_offset_delta && g.base_sequence == h->base_sequence);
    ck_assert(g.producer_id == h->producer_id && g.producer_epoch == h->producer_epoch && g.leader_epoch == h->leader_epoch);
    ck_assert_int_eq(record_iter_init(&it, out.batch, &g, 1 << 20), OK);
    int64_t newest = -1;
    while ((err = record_iter_next(&it, &record)) == OK) {
        size_t at = strlen(text);
        snprintf(text + at, sizeof text - at, "%lld:%.*s=%.*s@%lld/%d ", (long long)record.offset, record.key.len, (const char *)record.key.p,
                 record.value.p ? record.value.len : 1, record.value.p ? (const char *)record.value.p : "-", (long long)record.timestamp, record.header_count);
        newest = MAX(newest, record.timestamp);
    }
    ck_assert_int_eq(err, ERR_NOT_FOUND);
    record_iter_free(&it);
    if (g.record_count > 0) ck_assert_int_eq(g.max_timestamp, newest);
    else ck_assert_int_eq(g.max_timestamp, h->max_timestamp);
    ck_assert_str_eq(text, expected);
    return out;
}

START_TEST(the_last_record_of_each_key_stays) {
    static const struct kv kv[] = {{"a", "1"}, {"b", "2"}, {"a", "3"}, {NULL, "x"}, {"c", "4"}, {"b", "5"}};
    for (int codec = CODEC_NONE; codec < CODEC_COUNT; codec++) {
        struct batch_header h;
        uint8_t *batch = batch_of(kv, 6, 100, (enum batch_codec)codec, &h);
        struct filter_rules r = rules_for(kv, 6, 100);
        struct filter_result out = filtered(&r, batch, &h, false, "102:a=3@1020/0 104:c=4@1040/0 105:b=5@1050/1 ");
        ck_assert_int_eq(out.verdict, FILTER_REPLACE);
        ck_assert_uint_eq(out.records_in, 6);
        ck_assert_uint_eq(out.records_out, 3);
        /* Once more: nothing changes. */
        struct batch_header g;
        struct filter_result again;
        ck_assert_int_eq(batch_parse(out.batch, out.batch_len, &g), OK);
        ck_assert_int_eq(batch_codec(&g), codec);
        ck_assert_int_eq(batch_filter(&r, out.batch, &g, false, &again), OK);
        ck_assert_int_eq(again.verdict, FILTER_KEEP);
        free(out.batch);
        free(batch);
        offset_map_free(&map);
    }
}
END_TEST

START_TEST(a_batch_without_records_goes_unless_its_header_says_something) {
    static const struct kv kv[] = {{"a", "1"}, {"b", "2"}};
    struct batch_header h, g;
    uint8_t *batch = batch_of(kv, 2, 10, CODEC_LZ4, &h);
    struct filter_rules r = rules_for(kv, 2, 50); /* newer ones of the same keys */
    r.map_end = 60;
    ck_assert_int_eq(filtered(&r, batch, &h, false, "").verdict, FILTER_DROP);
    struct filter_producer producers[] = {{4, 11}, {5, 10}, {6, 11}};
    r.producers = producers;
    r.producer_count = 3;
    ck_assert_int_eq(filtered(&r, batch, &h, false, "").verdict, FILTER_DROP); /* the producer has written on */
    producers[1].last_offset = 11;
    for (int k = 0; k < 2; k++) {
        struct filter_result out = filtered(&r, batch, &h, k == 1, "");
        ck_assert_int_eq(out.verdict, FILTER_REPLACE);
        ck_assert_uint_eq(out.batch_len, BATCH_HEADER_BYTES);
        ck_assert_int_eq(batch_parse(out.batch, out.batch_len, &g), OK);
        ck_assert_int_eq(g.record_count, 0);
        struct filter_result again;
        ck_assert_int_eq(batch_filter(&r, out.batch, &g, k == 1, &again), OK);
        ck_assert_int_eq(again.verdict, FILTER_KEEP);
        free(out.batch);
        if (k == 0) producers[1].last_offset = 99; /* next: only the end of the segment keeps it */
    }
    free(batch);
    offset_map_free(&map);
}
END_TEST

START_TEST(a_tombstone_stays_until_its_horizon) {
    static const struct kv kv[] = {{"a", "1"}, {"b", NULL}, {"a", NULL}, {"c", "3"}};
    for (int codec = CODEC_NONE; codec < CODEC_COUNT; codec++) {
        struct batch_header h, g, k;
        uint8_t *batch = batch_of(kv, 4, 0, (enum batch_codec)codec, &h);
        struct filter_rules r = rules_for(kv, 4, 0);
        struct filter_result out = filtered(&r, batch, &h, false, "1:b=-@1010/1 2:a=-@1020/0 3:c=3@1030/1 ");
        ck_assert_int_eq(batch_parse(out.batch, out.batch_len, &g), OK);
        ck_assert(g.attributes & BATCH_DELETE_HORIZON);
        ck_assert_int_eq(g.base_timestamp, 1000000 + 500);
        r.now_ms = 1000000 + 499;
        r.delete_retention_ms = 999999;
        ck_assert_int_eq(filtered(&r, out.batch, &g, false, "").verdict, FILTER_KEEP); /* a horizon does not move */
        r.now_ms = 1000000 + 500;
        struct filter_result later = filtered(&r, out.batch, &g, false, "3:c=3@1030/1 ");
        ck_assert_int_eq(later.verdict, FILTER_REPLACE);
        ck_assert_int_eq(batch_parse(later.batch, later.batch_len, &k), OK);
        free(later.batch);
        free(out.batch);
        free(batch);
        offset_map_free(&map);
    }
}
END_TEST

START_TEST(what_the_map_does_not_know_is_not_touched) {
    static const struct kv kv[] = {{"a", "1"}, {"a", NULL}, {"a", "3"}, {"b", NULL}};
    struct batch_header h;
    uint8_t *batch = batch_of(kv, 4, 0, CODEC_NONE, &h);
    struct filter_rules r = rules_for(kv, 2, 0); /* up to offset 2 */
    struct filter_result out = filtered(&r, batch, &h, false, "1:a=-@1010/1 2:a=3@1020/0 3:b=-@1030/1 ");
    struct batch_header g;
    ck_assert_int_eq(batch_parse(out.batch, out.batch_len, &g), OK);
    ck_assert(!(g.attributes & BATCH_DELETE_HORIZON)); /* it is known in part only */
    free(out.batch);
    r.map_end = 0;
    ck_assert_int_eq(filtered(&r, batch, &h, false, "").verdict, FILTER_KEEP);
    /* Control and transactional batches, wherever they are. */
    r.map_end = 100;
    int16_t special[] = {BATCH_CONTROL | BATCH_TRANSACTIONAL, BATCH_TRANSACTIONAL};
    for (size_t i = 0; i < ARRAY_LEN(special); i++) {
        batch[22] = (uint8_t)special[i];
        batch_seal(batch);
        ck_assert_int_eq(batch_parse(batch, h.total_bytes, &h), OK);
        ck_assert_int_eq(filtered(&r, batch, &h, false, "").verdict, FILTER_KEEP);
        int64_t end;
        ck_assert_int_eq(batch_keys(&map, batch, &h, 0, 1 << 20, &end), OK);
        ck_assert_int_eq(end, i == 0 ? 4 : 0); /* a commit or abort has no keys; behind open data nothing is known */
    }
    free(batch);
    offset_map_free(&map);
}
END_TEST

START_TEST(keys_go_into_the_map_until_it_is_full) {
    static const struct kv kv[] = {{"a", "1"}, {"b", "2"}, {NULL, "x"}, {"c", "3"}, {"a", "4"}, {"d", "5"}};
    struct batch_header h;
    uint8_t *batch = batch_of(kv, 6, 10, CODEC_ZSTD, &h);
    int64_t end;
    ck_assert_int_eq(offset_map_init(&map, 4 * sizeof(struct offset_slot), 1000, 3), OK);
    ck_assert_int_eq(batch_keys(&map, batch, &h, 0, 1 << 20, &end), OK);
    ck_assert_int_eq(end, 15); /* "d" did not fit */
    ck_assert_int_eq(offset_map_get(&map, bytes_of("a")), 14);
    offset_map_free(&map);
    ck_assert_int_eq(offset_map_init(&map, 4 * sizeof(struct offset_slot), 1000, 3), OK);
    ck_assert_int_eq(batch_keys(&map, batch, &h, 13, 1 << 20, &end), OK);
    ck_assert_int_eq(end, 16);
    ck_assert_int_eq(offset_map_get(&map, bytes_of("b")), -1); /* below where it was to begin */
    ck_assert_int_eq(batch_keys(&map, batch, &h, 0, 10, &end), ERR_TOO_LARGE);
    offset_map_free(&map);
    free(batch);
}
END_TEST


/* ---- runs over the simulated disk ---------------------------------------------------------------------- */

enum { T0 = 1000000 };

static struct log *compacted_log(struct model *x, uint32_t segment_bytes) {
    struct log_spec s = spec_of("t", 0);
    s.config.segment_bytes = segment_bytes;
    s.config.cleanup_compact = true;
    s.config.min_cleanable_ppm = 0;
    s.config.delete_retention_ms = 1000;
    return create_spec(x, &s);
}

/* One record of key "k<key>", value "<value>" and filler. */
static void put(struct log *l, int key, int value, uint32_t filler, int64_t timestamp) {
    struct batch_builder b;
    uint8_t *batch;
    size_t len;
    struct batch_header h;
    char k[16], *v = calloc(1, filler + 16);
    ck_assert_ptr_nonnull(v);
    snprintf(k, sizeof k, "k%d", key);
    int n = snprintf(v, 16, "%d", value);
    memset(v + n, '.', filler);
    batch_builder_init(&b, CODEC_NONE, 1 << 20);
    ck_assert_int_eq(batch_builder_add(&b, timestamp, bytes_of(k), value < 0 ? BYTES_NULL : (struct bytes){(uint8_t *)v, n + (int)filler}, NULL, 0), OK);
    ck_assert_int_eq(batch_builder_finish(&b, &batch, &len), OK);
    ck_assert_int_eq(batch_parse(batch, len, &h), OK);
    struct log_append a = {.batch = batch, .header = &h, .now_ms = timestamp, .log_append_time_ms = -1};
    enum err err;
    while ((err = log_append(l, &a)) == ERR_AGAIN) ck_assert(machine_turn(&m, 1000000));
    ck_assert_int_eq(err, OK);
    free(batch);
    free(v);
    batch_builder_free(&b);
}

/* `rounds` updates of each of `keys` keys, and a segment begun behind them, all in synced files. */
static void fill(struct log *l, int keys, int rounds, uint32_t filler) {
    for (int i = 0; i < rounds; i++)
        for (int k = 0; k < keys; k++) put(l, k, i, filler, T0 + l->end);
    ck_assert_int_eq(log_roll(l, T0), OK);
    put(l, 99, 0, 10, T0 + l->end);
    ck_assert(machine_settle(&m, l));
    checkpoint();
    checkpoint(); /* W is behind what is to be compacted */
}

static const struct compact_run *compact_now(struct log *l, int64_t now_ms) {
    ck_assert(compact_start(l->shard, l, now_ms, l->durable_end));
    while (compact_running(l->shard)) ck_assert(machine_turn(&m, 1000000));
    for (int i = 0; i < 20; i++) ck_assert(machine_turn(&m, 1000000));
    return compact_last_run(l);
}

/* Values by key, as a consumer sees them that reads from `from` on; -1: none, -2: a tombstone. */
static void read_values(struct log *l, int64_t from, int *values, int keys, uint32_t *records) {
    for (int k = 0; k < keys; k++) values[k] = -1;
    *records = 0;
    for (int64_t offset = from; offset < l->end;) {
        struct log_read r = {.offset = offset, .max_offset = l->end, .max_bytes = 3000, .min_one = true};
        ck_assert_int_eq(read_wait(&m, l, &r), OK);
        for (uint32_t i = 0; i < r.slice_count; i++) {
            const uint8_t *p = slice_data(&r.slices[i]);
            for (uint32_t at = 0; at < r.slices[i].len;) {
                struct batch_header h;
                struct record_iter it;
                struct record rec;
                ck_assert_int_eq(batch_parse(p + at, r.slices[i].len - at, &h), OK);
                ck_assert_int_eq(record_iter_init(&it, p + at, &h, 1 << 20), OK);
                while (record_iter_next(&it, &rec) == OK) {
                    int k = atoi((const char *)rec.key.p + 1);
                    if (k < keys) values[k] = rec.value.p ? atoi((const char *)rec.value.p) : -2;
                    ++*records;
                }
                record_iter_free(&it);
                at += h.total_bytes;
            }
        }
        ck_assert_int_gt(r.next_offset, offset);
        offset = r.next_offset;
        log_read_release(&r);
    }
}

START_TEST(a_run_leaves_one_record_of_each_key_and_joins_segments) {
    struct model a;
    int values[9];
    uint32_t records;
    setup(0, 1);
    m.config.compact_map_bytes = 1 << 20;
    start();
    struct log *l = compacted_log(&a, 12000);
    fill(l, 8, 20, 400);
    uint32_t before = impl_of(l)->segment_count;
    ck_assert_uint_gt(before, 5);
    struct compact_look look;
    compact_look(l, T0, l->durable_end, &look);
    ck_assert_int_eq(look.reason, COMPACT_RATIO);
    ck_assert_uint_eq(look.dirty_ppm, 1000000);
    compact_look(l, T0, 5, &look); /* not committed */
    ck_assert_int_eq(look.reason, COMPACT_CLEAN);
    const struct compact_run *run = compact_now(l, T0);
    ck_assert_msg(run->err == OK, "%s", run->why);
    ck_assert_uint_eq(run->records_before, 160);
    ck_assert_uint_eq(run->records_after, 8);
    compact_look(l, T0, l->durable_end, &look);
    ck_assert_int_eq(look.reason, COMPACT_CLEAN);
    /* From anywhere, gaps too. */
    for (int round = 0; round < 2; round++) {
        for (int64_t from = 0; from < 160; from += 9) {
            read_values(l, from, values, 9, &records);
            for (int k = 0; k < 8; k++) ck_assert_int_eq(values[k], from <= 152 + k ? 19 : -1);
        }
        struct log_find f = {.timestamp = T0 + 10, .max_offset = l->end};
        ck_assert_int_eq(find_wait(&m, l, &f), OK);
        ck_assert_int_eq(f.found_offset, 152); /* the first that is left */
        f = (struct log_find){.max_timestamp = true, .max_offset = 160};
        ck_assert_int_eq(find_wait(&m, l, &f), OK);
        ck_assert_int_eq(f.found_offset, 159);
        if (round == 1) break;
        stop();
        start();
        reopened(&a);
        l = a.log;
    }
    /* Small neighbours become one: the next run sees how small they are. */
    struct log_config c = impl_of(l)->config;
    c.cleanup_compact = true;
    c.min_cleanable_ppm = 0;
    log_configure(l, &c);
    fill(l, 8, 1, 400);
    run = compact_now(l, T0);
    ck_assert_msg(run->err == OK, "%s", run->why);
    ck_assert_uint_lt(impl_of(l)->segment_count, 4);
    read_values(l, 0, values, 9, &records);
    for (int k = 0; k < 8; k++) ck_assert_int_eq(values[k], 0);
    ck_assert_uint_eq(records, 10); /* eight keys, and 99 twice: once in what is being written */
    stop();
    model_free(&a);
    teardown();
}
END_TEST

/* Some clients give up after ten answers without a record: what compaction emptied is passed over for them. */
START_TEST(a_reader_of_records_passes_over_emptied_segments) {
    struct model a;
    setup(0, 1);
    m.config.compact_map_bytes = 1 << 20;
    start();
    struct log *l = compacted_log(&a, 3000);
    fill(l, 8, 20, 400);
    ck_assert_int_eq(compact_now(l, T0)->err, OK);
    ck_assert_uint_gt(impl_of(l)->segment_count, 11);
    struct batch_header h;
    for (int64_t offset = 0; offset <= 152; offset++) {
        struct log_read r = {.offset = offset, .max_offset = l->end, .max_bytes = 100, .min_one = true, .skip_empty = true};
        ck_assert_int_eq(read_wait(&m, l, &r), OK);
        ck_assert_int_eq(batch_parse(slice_data(&r.slices[0]), r.slices[0].len, &h), OK);
        ck_assert_int_eq(h.base_offset, 152);
        ck_assert_int_eq(h.record_count, 1);
        ck_assert_int_eq(r.next_offset, 153);
        log_read_release(&r);
    }
    /* A replica needs the headers as well. */
    struct log_read all = {.offset = 90, .max_offset = l->end, .max_bytes = 100, .min_one = true};
    ck_assert_int_eq(read_wait(&m, l, &all), OK);
    ck_assert_uint_eq(all.bytes, BATCH_HEADER_BYTES);
    int64_t limit = all.next_offset;
    log_read_release(&all);
    /* Where no record follows, the header alone takes the reader on. */
    for (int64_t offset = 0; offset < limit;) {
        struct log_read r = {.offset = offset, .max_offset = limit, .max_bytes = 100, .min_one = true, .skip_empty = true};
        ck_assert_int_eq(read_wait(&m, l, &r), OK);
        ck_assert_uint_eq(r.bytes, BATCH_HEADER_BYTES);
        ck_assert_int_gt(r.next_offset, offset);
        offset = r.next_offset;
        log_read_release(&r);
    }
    stop();
    model_free(&a);
    teardown();
}
END_TEST

START_TEST(tombstones_go_when_their_time_has_passed) {
    struct model a;
    int values[4];
    uint32_t records;
    setup(0, 1);
    m.config.compact_map_bytes = 1 << 20;
    start();
    struct log *l = compacted_log(&a, 1 << 20);
    fill(l, 3, 2, 100);
    put(l, 1, -1, 0, T0 + l->end);
    fill(l, 1, 1, 100);
    ck_assert_int_eq(compact_now(l, T0)->err, OK);
    read_values(l, 0, values, 4, &records);
    ck_assert_int_eq(values[1], -2);
    fill(l, 1, 1, 100);
    ck_assert_int_eq(compact_now(l, T0 + 999)->err, OK);
    read_values(l, 0, values, 4, &records);
    ck_assert_int_eq(values[1], -2);
    fill(l, 1, 1, 100);
    ck_assert_int_eq(compact_now(l, T0 + 1000)->err, OK);
    read_values(l, 0, values, 4, &records);
    ck_assert_int_eq(values[1], -1);
    ck_assert_int_eq(values[2], 1);
    kill_machine();
    start();
    reopened(&a);
    read_values(a.log, 0, values, 4, &records);
    ck_assert_int_eq(values[1], -1);
    ck_assert_int_eq(values[2], 1);
    stop();
    model_free(&a);
    teardown();
}
END_TEST

START_TEST(more_keys_than_the_map_holds_take_several_runs) {
    struct model a;
    int values[20];
    uint32_t records, runs = 0;
    setup(0, 1);
    m.config.compact_map_bytes = 6 * sizeof(struct offset_slot); /* five keys */
    start();
    struct log *l = compacted_log(&a, 1 << 20);
    fill(l, 19, 3, 200);
    struct compact_look look;
    for (compact_look(l, T0, l->durable_end, &look); look.reason == COMPACT_RATIO; compact_look(l, T0, l->durable_end, &look)) {
        ck_assert_int_eq(compact_now(l, T0)->err, OK);
        ck_assert_uint_lt(++runs, 30);
    }
    ck_assert_uint_ge(runs, 57 / 5);
    read_values(l, 0, values, 20, &records);
    ck_assert_uint_eq(records, 20);
    for (int k = 0; k < 19; k++) ck_assert_int_eq(values[k], 2);
    stop();
    model_free(&a);
    teardown();
}
END_TEST

/* DeleteRecords behind a change of leaders, in one segment: what lies before the log start is of an epoch that is forgotten. */
START_TEST(an_old_epoch_before_the_log_start_is_no_damage) {
    struct model a;
    setup(0, 1);
    m.config.compact_map_bytes = 1 << 20;
    start();
    struct log *l = compacted_log(&a, 1 << 20);
    for (int k = 0; k < 4; k++) put(l, k, 0, 60, T0 + l->end);
    ck_assert_int_eq(log_begin_epoch(l, 3), OK);
    fill(l, 4, 6, 60);
    ck_assert_int_eq(log_set_start(l, 10, NULL, NULL), OK);
    ck_assert(machine_settle(&m, l));
    const struct compact_run *run = compact_now(l, T0);
    ck_assert_msg(run->err == OK, "%s", run->why);
    ck_assert_uint_gt(run->records_before, run->records_after);
    ck_assert(!l->faulty);
    stop();
    model_free(&a);
    teardown();
}
END_TEST

/* A flipped bit anywhere in what is read: the log stays as it is, and says so. */
START_TEST(damage_is_found_and_not_written_anew) {
    for (int reopen = 0; reopen < 2; reopen++) {
        struct model a;
        setup(0, 1);
        m.config.compact_map_bytes = 1 << 20;
        start();
        struct log *l = compacted_log(&a, 1 << 20);
        fill(l, 4, 6, 60);
        for (int i = 0; i < 50; i++) ck_assert(machine_turn(&m, 1000000)); /* sealed: the digest is in the manifest */
        struct log_config config = impl_of(l)->config;
        stop(); /* nothing is served from memory any more */
        start();
        reopened(&a);
        l = a.log;
        log_configure(l, &config);
        const char *path = "/var/data/t-0/00000000000000000000.log";
        uint32_t size = impl_of(l)->segments[0].size_bytes;
        ck_assert(impl_of(l)->segments[0].sealed);
        if (reopen) { /* without a digest: CRC, offsets, epochs */
            impl_of(l)->segments[0].sealed = false;
        }
        for (uint32_t at = 0; at < size; at += 1 + at / 100) {
            /* Without the digest nothing is known of timestamps' meaning, but all bytes are under some check. */
            ck_assert_int_ge(sim_file_flip(m.world, 0, path, at, 0x10), 0);
            const struct compact_run *run = compact_now(l, T0);
            ck_assert_msg(run->err == ERR_CORRUPT, "flip at %u: %s %s", at, err_str(run->err), run->why);
            ck_assert_msg(l->faulty, "flip at %u, %d: %s", at, reopen, run->why);
            struct compact_look look;
            compact_look(l, T0, l->durable_end, &look);
            ck_assert_int_eq(look.reason, COMPACT_DAMAGED);
            ck_assert_int_ge(sim_file_flip(m.world, 0, path, at, 0x10), 0);
            ck_assert_uint_gt(impl_of(l)->faulty_count, 0);
            while (impl_of(l)->faulty_count > 0) faulty_heal(impl_of(l), impl_of(l)->faulty[0].start);
            impl_of(l)->compact_retry_ms = 0;
        }
        const struct compact_run *run = compact_now(l, T0);
        ck_assert_msg(run->err == OK, "%s", run->why);
        ck_assert_uint_eq(run->records_after, 4);
        stop();
        model_free(&a);
        teardown();
    }
}
END_TEST

static void gone(void *ctx, enum err err) { *(enum err *)ctx = err; }

START_TEST(a_run_ends_when_the_log_is_cut_or_deleted_or_the_broker_stops) {
    for (int what = 0; what < 3; what++)
        for (int turns = 0; turns < 25; turns++) {
            struct model a;
            setup(0, 1);
            m.config.compact_map_bytes = 1 << 20;
            start();
            struct log *l = compacted_log(&a, 4000);
            fill(l, 4, 10, 300);
            ck_assert(compact_start(l->shard, l, T0, l->durable_end));
            for (int i = 0; i < turns; i++) ck_assert(machine_turn(&m, 100000));
            enum err deleted = ERR_COUNT;
            if (what == 0) ck_assert_int_eq(log_truncate(l, 1, l->end), OK); /* at the very end: it could hit anything */
            if (what == 1) log_delete(l, gone, &deleted);
            if (what == 1) while (deleted == ERR_COUNT) ck_assert(machine_turn(&m, 1000000));
            if (what == 0) while (compact_running(l->shard)) ck_assert(machine_turn(&m, 1000000));
            stop();
            if (what != 1) {
                int values[5];
                uint32_t records;
                start();
                reopened(&a);
                read_values(a.log, 0, values, 5, &records);
                for (int k = 0; k < 4; k++) ck_assert_int_eq(values[k], 9);
                stop();
            }
            model_free(&a);
            teardown();
        }
}
END_TEST

START_TEST(a_full_disk_leaves_the_log_as_it_is) {
    struct model a;
    setup(0, 1);
    m.config.compact_map_bytes = 1 << 20;
    start();
    struct log *l = compacted_log(&a, 1 << 20);
    fill(l, 4, 10, 1000);
    sim_fault(m.world, 0, &(struct sim_fault){.call = SIM_WRITE, .path_part = ".cleaned", .times = 1, .result = -ENOSPC});
    const struct compact_run *run = compact_now(l, T0);
    ck_assert_int_eq(run->err, ERR_NOSPACE);
    ck_assert_int_eq(m.failed, OK);
    ck_assert(!l->faulty);
    ck_assert(!compact_start(l->shard, l, io_wall_ms(m.io), l->durable_end)); /* not at once */
    impl_of(l)->compact_retry_ms = 0;
    ck_assert_int_eq(compact_now(l, T0)->err, OK);
    sim_fault(m.world, 0, &(struct sim_fault){.call = SIM_SYNC, .path_part = ".cleaned", .times = 1, .result = -EIO});
    fill(l, 4, 10, 1000);
    impl_of(l)->compact_retry_ms = 0;
    ck_assert(compact_start(l->shard, l, T0, l->durable_end));
    while (compact_running(l->shard)) ck_assert(machine_turn(&m, 1000000));
    ck_assert(machine_turn(&m, 0));
    ck_assert_int_eq(m.failed, ERR_IO); /* the device is not believed any more */
    sim_crash(m.world, 0, SIM_LOSE_ALL);
    machine_close(&m);
    start();
    reopened(&a);
    int values[5];
    uint32_t records;
    read_values(a.log, 0, values, 5, &records);
    for (int k = 0; k < 4; k++) ck_assert_int_eq(values[k], 9);
    stop();
    model_free(&a);
    teardown();
}
END_TEST

START_TEST(the_rate_is_kept) {
    struct model a;
    setup(0, 1);
    m.config.compact_map_bytes = 1 << 20;
    m.config.compact_bytes_per_second = 100000;
    start();
    struct log *l = compacted_log(&a, 50000);
    fill(l, 4, 50, 1000); /* 200 KB, read twice */
    ck_assert(compact_start(l->shard, l, T0, l->durable_end));
    while (compact_running(l->shard)) ck_assert(machine_turn(&m, 1000000000));
    ck_assert_int_eq(compact_last_run(l)->err, OK);
    ck_assert_int_ge(compact_last_run(l)->elapsed_ms, 3500);
    stop();
    model_free(&a);
    teardown();
}
END_TEST

/* The log is cut while W of a checkpoint moves: what grows behind the cut is not below W, and not compacted before it is. A SWAP of segments
 * that no checkpoint knows would be damage to the next start. */
START_TEST(what_grows_behind_a_cut_waits_for_its_checkpoint) {
    struct model a, others[5];
    setup(0, 1);
    m.config.compact_map_bytes = 1 << 16;
    start();
    struct log *l = compacted_log(&a, 3000);
    for (int i = 0; i < 5; i++) {
        struct log_spec s = spec_of("other", i);
        create_spec(&others[i], &s);
    }
    fill(l, 4, 10, 1000);
    for (int i = 0; i < 60; i++) ck_assert(machine_turn(&m, 1000000));
    checkpoint(); /* of the digests: the log is to be the last one of the next */
    for (int i = 0; i < 20; i++) ck_assert(machine_turn(&m, 1000000));
    for (int i = 0; i < 5; i++) ck_assert_int_eq(log_begin_epoch(others[i].log, 2), OK);
    put(l, 99, 1, 10, T0 + l->end);
    ck_assert(machine_settle(&m, l));
    for (int i = 0; m.shards[0]->checkpoint.active; i++) ck_assert(i < 10000 && machine_turn(&m, 1000000));
    enum err done = ERR_COUNT;
    journal_checkpoint(m.store->journal, false, on_checkpoint, &done);
    for (int i = 0; !m.shards[0]->checkpoint.done; i++) ck_assert(i < 10000 && machine_turn(&m, 1000000));
    ck_assert(impl_of(l)->in_checkpoint);
    ck_assert_int_eq(log_truncate(l, 1, 0), OK);
    for (int i = 0; i < 12; i++) put(l, i % 3, i, 1000, T0 + l->end);
    ck_assert(machine_settle(&m, l));
    const struct segment *early = impl_of(l)->segments;
    for (int i = 0; early[0].index || early[1].index || early[2].index; i++) ck_assert(i < 10000 && machine_turn(&m, 100000));
    struct compact_look look;
    compact_look(l, T0, l->durable_end, &look);
    ck_assert_uint_eq(look.dirty_bytes, 0);
    if (compact_start(l->shard, l, T0, l->durable_end))
        for (int i = 0; compact_running(l->shard); i++) ck_assert(i < 10000 && machine_turn(&m, 1000000));
    for (int i = 0; i < 20; i++) ck_assert(machine_turn(&m, 1000000));
    sim_crash(m.world, 0, SIM_LOSE_ALL);
    machine_close(&m);
    start();
    stop();
    for (int i = 0; i < 5; i++) model_free(&others[i]);
    model_free(&a);
    teardown();
}
END_TEST

START_TEST(what_has_waited_is_completed_and_due) {
    struct model a;
    setup(0, 1);
    m.config.compact_map_bytes = 1 << 20;
    start();
    struct log *l = compacted_log(&a, 1 << 20);
    struct log_config c = impl_of(l)->config;
    c.min_cleanable_ppm = 900000;
    c.max_compaction_lag_ms = 5000;
    log_configure(l, &c);
    int64_t made = impl_of(l)->segments[0].created_ms;
    ck_assert(!compact_wants_roll(l, made + 9999)); /* empty */
    put(l, 1, 1, 10, made);
    ck_assert(!compact_wants_roll(l, made + 5000));
    ck_assert(compact_wants_roll(l, made + 5001));
    c.max_compaction_lag_ms = INT64_MAX;
    c.segment_ms = 7000;
    log_configure(l, &c);
    ck_assert(!compact_wants_roll(l, made + 7000));
    ck_assert(compact_wants_roll(l, made + 7001));
    c.max_compaction_lag_ms = 5000;
    c.min_compaction_lag_ms = 4000;
    log_configure(l, &c);
    fill(l, 1, 1, 10); /* its timestamps are those of long ago, T0 */
    struct compact_look look;
    int64_t newest = impl_of(l)->segments[0].max_timestamp;
    compact_look(l, newest + 3999, l->durable_end, &look);
    ck_assert_int_eq(look.reason, COMPACT_CLEAN);
    compact_look(l, newest + 4000, l->durable_end, &look);
    ck_assert_int_ne(look.reason, COMPACT_CLEAN);
    impl_of(l)->cleaned_end = 1;
    compact_look(l, look.lag_due_ms, l->durable_end, &look);
    ck_assert_int_ne(look.reason, COMPACT_LAG);
    stop();
    model_free(&a);
    teardown();
}
END_TEST

static int quiet(void) { return open("/dev/null", O_WRONLY | O_CLOEXEC); }

int main(void) {
    trace_setup(getenv("VARVE_TRACE") ? TRACE_DEBUG : TRACE_ERROR, TRACE_TEXT, getenv("VARVE_TRACE") ? 2 : quiet());
    Suite *s = suite_create("compact");
    TCase *t = tcase_create("pure");
    tcase_add_test(t, the_map_keeps_the_newest_offset_of_each_key);
    tcase_add_test(t, a_full_map_takes_known_keys_only);
    tcase_add_test(t, the_last_record_of_each_key_stays);
    tcase_add_test(t, a_batch_without_records_goes_unless_its_header_says_something);
    tcase_add_test(t, a_tombstone_stays_until_its_horizon);
    tcase_add_test(t, what_the_map_does_not_know_is_not_touched);
    tcase_add_test(t, keys_go_into_the_map_until_it_is_full);
    suite_add_tcase(s, t);
    t = tcase_create("runs");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, a_run_leaves_one_record_of_each_key_and_joins_segments);
    tcase_add_test(t, a_reader_of_records_passes_over_emptied_segments);
    tcase_add_test(t, tombstones_go_when_their_time_has_passed);
    tcase_add_test(t, more_keys_than_the_map_holds_take_several_runs);
    tcase_add_test(t, an_old_epoch_before_the_log_start_is_no_damage);
    tcase_add_test(t, damage_is_found_and_not_written_anew);
    tcase_add_test(t, a_run_ends_when_the_log_is_cut_or_deleted_or_the_broker_stops);
    tcase_add_test(t, a_full_disk_leaves_the_log_as_it_is);
    tcase_add_test(t, the_rate_is_kept);
    tcase_add_test(t, what_grows_behind_a_cut_waits_for_its_checkpoint);
    tcase_add_test(t, what_has_waited_is_completed_and_due);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failures = srunner_ntests_failed(r);
    srunner_free(r);
    return failures ? 1 : 0;
}
