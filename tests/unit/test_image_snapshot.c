/* Snapshots in the metadata log: an image with something of everything comes back from one as it was; what is not a whole snapshot is
 * void, or damage; and an image that a snapshot makes takes the place of another one. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include "server/controller_impl.h"
#include "tests/unit/image_fixture.h"

static uint64_t kept;                              /* kinds of records that a snapshot had, as bits */

/* ---- an image with something of everything, and all that it says --------------------------------------------------- */

static void make_everything(void) {
    struct image_edit *e = begin();
    int32_t voters[] = {1, 2, 3};
    ck_assert_int_eq(set_feature(e, "group.version", 0), OK);
    ck_assert_int_eq(quorum(e, voters, 3), OK);
    for (int32_t n = 1; n <= 5; n++) ck_assert_int_eq(register_broker(e, n, (uint8_t)(100 + n), n % 2 ? "rack" : "", 9000 + n), OK);
    ck_assert_int_eq(register_broker(e, 2, 50, "other", 9999), OK);
    ck_assert_int_eq(drain(e, 3, true), OK);
    ck_assert_int_eq(drain(e, 4, true), OK);
    ck_assert_int_eq(drain(e, 4, false), OK);
    ck_assert_int_eq(unregister(e, 5), OK);
    ck_assert_int_eq(set_config(e, 4, "", "log.retention.ms", "777"), OK);
    ck_assert_int_eq(set_config(e, 4, "1", "log.level", "warn"), OK);
    ck_assert_int_eq(set_config(e, 4, "2", "log.level", "debug"), OK);
    ck_assert_int_eq(set_config(e, 4, "2", "from.a.later.version", "x"), OK);
    ck_assert_int_eq(set_config(e, 32, "g", "consumer.session.timeout.ms", "50000"), OK);
    ck_assert_int_eq(set_config(e, 32, "h", "consumer.heartbeat.interval.ms", "6000"), OK);
    ck_assert_int_eq(set_quota(e, "user", STR_LIT("u"), "producer_byte_rate", 1000), OK);
    ck_assert_int_eq(set_quota(e, "user", STR_LIT("u"), "request_percentage", 12.5), OK);
    ck_assert_int_eq(set_quota(e, "user", STR_LIT("v"), "consumer_byte_rate", 5), OK);
    ck_assert_int_eq(set_next_id(e, 5000), OK);
    end(e);
    e = begin();
    ck_assert_int_eq(add_topic(e, 1, "moved"), OK);
    ck_assert_int_eq(set_config(e, 2, "moved", "retention.ms", "12345"), OK);
    ck_assert_int_eq(set_config(e, 2, "moved", "cleanup.policy", "compact"), OK);
    ck_assert_int_eq(add_partition(e, 1, 0, 7, AT({1, 0, 0}, {2, 0, 0})), OK);
    ck_assert_int_eq(add_partition(e, 1, 1, 8, AT({2, 0, 0}, {3, 0, 0})), OK);
    ck_assert_int_eq(add_partition(e, 1, 2, 9, AT({3, 0, 0}, {1, 0, 0})), OK);
    ck_assert_int_eq(add_topic(e, 2, "a.gone"), OK);
    ck_assert_int_eq(add_partition(e, 2, 0, 90, AT({1, 0, 0})), OK);
    ck_assert_int_eq(add_topic(e, 3, "__consumer_offsets"), OK);
    ck_assert_int_eq(add_partition(e, 3, 0, 10, AT({1, 0, 0})), OK);
    end(e);
    e = begin();
    ck_assert_int_eq(move(e, 1, 0, AT({2, 0, 0}, {3, 1, '+'}, {1, 0, '-'})), OK); /* 1 leaves, comes back, and 4 came and went */
    ck_assert_int_eq(move(e, 1, 0, AT({2, 0, 0}, {3, 1, 0})), OK);
    ck_assert_int_eq(move(e, 1, 0, AT({2, 0, 0}, {3, 1, 0}, {4, 2, '+'})), OK);
    ck_assert_int_eq(move(e, 1, 0, AT({2, 0, 0}, {3, 1, 0}, {1, 5, '+'})), OK);
    ck_assert_int_eq(move(e, 1, 0, AT({2, 0, 0}, {1, 5, 0})), OK);
    ck_assert_int_eq(move(e, 1, 1, AT({2, 0, 0}, {3, 0, '-'}, {4, 9, '+'})), OK);
    ck_assert_int_eq(move(e, 1, 1, AT({2, 0, 0}, {3, 0, 0})), OK); /* given up: life 9 is over all the same */
    ck_assert_int_eq(remove_topic(e, 2), OK);
    end(e);
}

static void put_uuid(FILE *f, const struct uuid *id) {
    for (size_t i = 0; i < sizeof id->b; i++) fprintf(f, "%02x", id->b[i]);
}
static void put_configs(FILE *f, const char *of, const struct image_configs *c) {
    for (uint32_t i = 0; i < c->count; i++) fprintf(f, "config %s %s=%s\n", of, c->list[i].name, c->list[i].value);
}
static void put_replicas(FILE *f, const char *what, const struct image_replica *at, int32_t count) {
    for (int32_t i = 0; i < count; i++) {
        fprintf(f, "  %s %d life %u at %lu %d%d ", what, at[i].node, at[i].life, at[i].metadata_offset, at[i].adding, at[i].removing);
        put_uuid(f, &at[i].incarnation);
        fprintf(f, "\n");
    }
}
static void put_topic(FILE *f, const struct image_topic *t) {
    fprintf(f, "topic %s %d %d ", t->name, t->name_len, t->internal);
    put_uuid(f, &t->id);
    fprintf(f, " retention %ld\n", (long)t->config.log.retention_ms);
    put_configs(f, t->name, &t->configs);
    for (int32_t i = 0; i < t->partition_count; i++) {
        const struct image_partition *p = &t->partitions[i];
        fprintf(f, " partition %d group %lu at %lu owner %u replicas %lu lives %u\n", i, p->plid, p->metadata_offset, p->owner, p->replicas_offset, p->lives);
        put_replicas(f, "replica", p->at, p->replica_count);
        put_replicas(f, "first", p->first, p->first_count);
    }
}
static void put_named(FILE *f, const char *what, const struct image_groups *s) {
    for (uint32_t i = 0; s && i < s->count; i++) {
        fprintf(f, "%s ", what);
        put_configs(f, s->list[i].name, &s->list[i].configs);
    }
}
static void put_node(FILE *f, const struct image_node *n) {
    fprintf(f, "node %d peer %s:%d rack %s version %s drained %d at %lu ", n->node, n->peer_host, n->peer_port, n->rack, n->version, n->drained, n->metadata_offset);
    put_uuid(f, &n->incarnation);
    for (uint32_t i = 0; i < n->listener_count; i++) fprintf(f, " %s %s:%d", n->listeners[i].name, n->listeners[i].host, n->listeners[i].port);
    fprintf(f, "\n");
}

/* All that metadata says: not what a process counts, nor where snapshots are. malloc'ed. */
static char *dump(const struct image *image) {
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    ck_assert_ptr_nonnull(f);
    for (int i = 0; i < FEATURES_MAX; i++) fprintf(f, "feature %d %d\n", i, image->feature_levels[i]);
    fprintf(f, "producer ids %ld, partitions %ld, groups %lu\n", (long)image->next_producer_id, (long)image->partition_count, image->groups_end);
    for (uint32_t i = 0; i < image->quorum_voter_count; i++) fprintf(f, "voter %d\n", image->quorum_voters[i]);
    for (uint32_t i = 0; i < image->node_count; i++) put_node(f, &image->nodes[i]);
    put_configs(f, "brokers", &image->broker->defaults);
    put_configs(f, "this broker", &image->broker->own);
    fprintf(f, "in force: %s\n", image->broker->config.log_level);
    put_named(f, "broker", image->other_brokers);
    put_named(f, "group", image->groups);
    for (uint32_t i = 0; image->quotas && i < image->quotas->count; i++) {
        const struct quota *q = image->quotas->list[i];
        for (int t = 0; t < QUOTA_TYPES; t++) fprintf(f, "quota %d %.*s", q->entity.has[t], (int)MAX(q->entity.name[t].len, 0), q->entity.name[t].p ? q->entity.name[t].p : "");
        for (int k = 0; k < QUOTA_KEYS; k++) fprintf(f, " %g", q->values[k]);
        fprintf(f, "\n");
    }
    for (uint32_t i = 0; i < image->topic_count; i++) put_topic(f, image->by_name[i]);
    for (uint32_t i = 0; i < image->topic_count; i++) fprintf(f, "%s %s\n", image->by_id[i]->name, image->by_folded[i]->name);
    fclose(f);
    return text;
}

/* ---- a snapshot as records -------------------------------------------------------------------------------------------- */

enum { RECORDS_MAX = 400 };
struct records { struct { uint8_t *p; size_t len; } list[RECORDS_MAX]; uint32_t count; };

static void take(struct records *out, struct controller_edit *e) {
    uint8_t *bytes;
    size_t len;
    struct batch_header h;
    struct record_iter it;
    struct record r;
    ck_assert_int_eq(e->err, OK);
    ck_assert_int_eq(batch_builder_finish(&e->batch, &bytes, &len), OK);
    ck_assert_int_eq(batch_parse(bytes, len, &h), OK);
    ck_assert_int_eq(record_iter_init(&it, bytes, &h, 1 << 20), OK);
    while (record_iter_next(&it, &r) == OK) {
        ck_assert_uint_lt(out->count, RECORDS_MAX);
        out->list[out->count].p = malloc((size_t)r.value.len + 1);
        memcpy(out->list[out->count].p, r.value.p, (size_t)r.value.len);
        out->list[out->count++].len = (size_t)r.value.len;
        Varve__Metadata__Record *m = varve__metadata__record__unpack(NULL, (size_t)r.value.len, r.value.p);
        if (m->kept) kept |= UINT64_C(1) << m->kind_case;
        varve__metadata__record__free_unpacked(m, NULL);
    }
    record_iter_free(&it);
    free(bytes);
    batch_builder_reset(&e->batch);
}

/* Of `im`, in batches of at most `pieces` pieces. */
static struct records snapshot(uint32_t pieces) {
    struct records out = {.count = 0};
    struct controller_edit e = {0};
    struct snapshot_cursor at = {0};
    batch_builder_init(&e.batch, CODEC_NONE, CHANGE_BYTES_MAX);
    ck_assert_int_eq(controller_begin_snapshot(&e, im->groups_end), OK);
    while (!controller_add_pieces(&e, im, &at, 1 << 16, pieces))
        if (e.batch.record_count > 0) take(&out, &e);
    ck_assert_int_eq(controller_end_snapshot(&e, im->metadata_end), OK);
    take(&out, &e);
    batch_builder_free(&e.batch);
    return out;
}
static void records_free(struct records *r) {
    for (uint32_t i = 0; i < r->count; i++) free(r->list[i].p);
    r->count = 0;
}
/* The records [from, to), which lie at `base` + their index. */
static enum err apply_all(struct image_edit *e, const struct records *r, uint64_t base, uint32_t from, uint32_t to) {
    enum err err = OK;
    for (uint32_t i = from; i < to && !err; i++) err = image_edit_apply(e, base + i, r->list[i].p, r->list[i].len);
    return err;
}

static void check_same(const struct image *a, const struct image *b) {
    char *x = dump(a), *y = dump(b);
    ck_assert_str_eq(x, y);
    free(x);
    free(y);
}

/* ---- tests -------------------------------------------------------------------------------------------------------------- */

START_TEST(everything_comes_back) {
    make_everything();
    uint64_t base = im->metadata_end;
    for (uint32_t pieces = 1; pieces <= 64; pieces += 7) {
        struct records r = snapshot(pieces);
        struct image *empty = image_new_empty();
        struct image_edit *e = image_edit_begin_anew(&broker, empty, base);
        ck_assert(!image_edit_is_whole(e)); /* nothing is no image, either */
        for (uint32_t i = 0; i < r.count; i++) {
            ck_assert_int_eq(apply_all(e, &r, base, i, i + 1), OK);
            ck_assert(image_edit_is_whole(e) == (i + 1 == r.count)); /* half of one is none */
        }
        struct image *loaded = image_edit_finish(e, base + r.count);
        check_same(im, loaded);
        ck_assert_uint_eq(loaded->snapshots.last, base);
        ck_assert_uint_eq(loaded->snapshots.groups_end, im->groups_end);
        ck_assert_uint_eq(loaded->snapshots.tail_bytes, 0);
        image_free_older(empty, loaded);
        image_free_last(loaded);
        records_free(&r);
    }
}
END_TEST

/* A kind of record that is new belongs into make_everything(), dump() and controller_pieces.c, or among those that only remove. */
START_TEST(no_kind_of_record_is_forgotten) {
    uint64_t without = UINT64_C(1) << VARVE__METADATA__RECORD__KIND_REMOVE_TOPIC | UINT64_C(1) << VARVE__METADATA__RECORD__KIND_REMOVE_BROKER;
    uint64_t own = UINT64_C(1) << VARVE__METADATA__RECORD__KIND_SNAPSHOT_BEGIN | UINT64_C(1) << VARVE__METADATA__RECORD__KIND_SNAPSHOT_END;
    uint64_t all = 0;
    make_everything();
    struct records r = snapshot(100);
    records_free(&r);
    for (unsigned i = 0; i < varve__metadata__record__descriptor.n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &varve__metadata__record__descriptor.fields[i];
        if (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) all |= UINT64_C(1) << f->id;
    }
    ck_assert_uint_eq(kinds_made, all & ~own);
    ck_assert_uint_eq(kept, all & ~own & ~without);
    /* So does a field that is new. */
    ck_assert_uint_eq(varve__metadata__replica__descriptor.n_fields, 6);
    ck_assert_uint_eq(varve__metadata__partition__descriptor.n_fields, 5);
    ck_assert_uint_eq(varve__metadata__partition_replicas__descriptor.n_fields, 4);
    ck_assert_uint_eq(varve__metadata__broker__descriptor.n_fields, 7);
    ck_assert_uint_eq(varve__metadata__config__descriptor.n_fields, 5);
    ck_assert_uint_eq(varve__metadata__topic__descriptor.n_fields, 2);
    ck_assert_uint_eq(varve__metadata__client_quota__descriptor.n_fields, 4);
}
END_TEST

START_TEST(who_has_the_image_passes_over) {
    make_everything();
    uint64_t base = im->metadata_end;
    char *before = dump(im);
    struct records r = snapshot(100);
    struct image_edit *e = begin();
    ck_assert_int_eq(apply_all(e, &r, base, 0, r.count / 2), OK);
    offset = base + r.count / 2;
    end(e);
    ck_assert(im->snapshots.open);
    ck_assert_uint_eq(im->snapshots.last, 0);
    e = begin(); /* whoever wrote it is gone */
    ck_assert_int_eq(set_next_id(e, 5000), OK);
    end(e);
    ck_assert(!im->snapshots.open);
    e = begin();
    ck_assert_int_eq(apply_all(e, &r, base, r.count / 2, r.count), ERR_CORRUPT);
    image_edit_drop(e);
    records_free(&r);
    for (int i = 0; i < 2; i++) {
        r = snapshot(100);
        base = im->metadata_end;
        e = begin();
        ck_assert_int_eq(apply_all(e, &r, base, 0, r.count), OK);
        offset = base + r.count;
        end(e);
        ck_assert_uint_eq(im->snapshots.last, base);
        ck_assert_uint_eq(im->snapshots.before, i == 0 ? 0 : base - r.count);
        records_free(&r);
    }
    char *after = dump(im);
    ck_assert_str_eq(before, after);
    free(before);
    free(after);
}
END_TEST

static void check_damage(const struct records *r, uint64_t base, uint32_t first, uint32_t left_out) {
    struct image *empty = image_new_empty();
    struct image_edit *e = image_edit_begin_anew(&broker, empty, base);
    enum err err = OK;
    for (uint32_t i = first; i < r->count && !err; i++)
        if (i != left_out) err = apply_all(e, r, base, i, i + 1);
    ck_assert_int_eq(err, ERR_CORRUPT);
    image_edit_drop(e);
    image_free_last(empty);
}

START_TEST(what_is_not_whole_is_damage) {
    make_everything();
    uint64_t base = im->metadata_end;
    struct records r = snapshot(100);
    check_damage(&r, base, 1, UINT32_MAX);          /* the log begins with something else */
    check_damage(&r, base, 0, 2);
    check_damage(&r, base, 0, r.count - 2);
    struct image *empty = image_new_empty();
    struct image_edit *e = image_edit_begin_anew(&broker, empty, base);
    ck_assert_int_eq(apply_all(e, &r, base, 0, 5), OK);
    ck_assert_int_eq(set_next_id(e, 9000), ERR_CORRUPT);
    image_edit_drop(e);
    e = image_edit_begin_anew(&broker, empty, base);
    ck_assert_int_eq(apply_all(e, &r, base, 0, r.count - 1), OK);
    struct records one = {.count = 1};              /* its begin is not where it says */
    one.list[0].p = r.list[r.count - 1].p;
    one.list[0].len = r.list[r.count - 1].len;
    ck_assert_int_eq(apply_all(e, &one, 3, 0, 1), OK); /* only the content counts */
    ck_assert(image_edit_is_whole(e));
    image_edit_drop(e);
    image_free_last(empty);
    records_free(&r);
}
END_TEST

static uint32_t count_changes(const struct image *image, enum image_change_kind kind, const char *topic) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < image->change_count; i++) n += image->changes[i].kind == kind && strcmp(image->changes[i].topic->name, topic) == 0;
    return n;
}

START_TEST(it_takes_the_place_of_an_older_image) {
    struct image_edit *e = begin();                 /* what this broker knew when it was cut off */
    ck_assert_int_eq(add_topic(e, 1, "moved"), OK);
    ck_assert_int_eq(add_partition(e, 1, 0, 7, AT({1, 0, 0}, {2, 0, 0})), OK);
    ck_assert_int_eq(add_topic(e, 2, "stays"), OK);
    ck_assert_int_eq(add_partition(e, 2, 0, 8, AT({1, 0, 0})), OK);
    ck_assert_int_eq(add_topic(e, 3, "goes"), OK);
    ck_assert_int_eq(add_partition(e, 3, 0, 9, AT({1, 0, 0})), OK);
    ck_assert_int_eq(set_config(e, 4, "", "log.retention.ms", "777"), OK);
    end(e);
    struct image *known = im;
    struct image *blank = image_new_empty();        /* the same and more, at another broker */
    e = image_edit_begin_anew(&broker, blank, 0);
    offset = 0;
    ck_assert_int_eq(add_topic(e, 1, "moved"), OK);
    ck_assert_int_eq(add_partition(e, 1, 0, 7, AT({1, 0, 0}, {2, 0, 0})), OK);
    ck_assert_int_eq(add_topic(e, 2, "stays"), OK);
    ck_assert_int_eq(add_partition(e, 2, 0, 8, AT({1, 0, 0})), OK);
    ck_assert_int_eq(add_topic(e, 3, "goes"), OK);
    ck_assert_int_eq(add_partition(e, 3, 0, 9, AT({1, 0, 0})), OK);
    ck_assert_int_eq(set_config(e, 4, "", "log.retention.ms", "777"), OK);
    ck_assert_int_eq(move(e, 1, 0, AT({2, 0, 0}, {3, 1, 0}, {1, 2, 0})), OK);
    ck_assert_int_eq(remove_topic(e, 3), OK);
    ck_assert_int_eq(add_topic(e, 4, "goes"), OK); /* another one of that name */
    ck_assert_int_eq(add_partition(e, 4, 0, 10, AT({1, 0, 0}, {2, 0, 0})), OK);
    ck_assert_int_eq(set_config(e, 2, "stays", "retention.ms", "1"), OK);
    im = image_edit_finish(e, offset);
    image_free_older(blank, im);
    struct records r = snapshot(100);
    uint64_t base = im->metadata_end;
    e = image_edit_begin_anew(&broker, known, base);
    ck_assert_int_eq(apply_all(e, &r, base, 0, r.count), OK);
    struct image *now = image_edit_finish(e, base + r.count);
    check_same(im, now);
    ck_assert_uint_eq(count_changes(now, IMAGE_PARTITION_REMOVED, "moved"), 1);
    ck_assert_uint_eq(count_changes(now, IMAGE_PARTITION_ADDED, "moved"), 1);
    ck_assert_uint_eq(count_changes(now, IMAGE_PARTITION_CHANGED, "moved"), 1);
    ck_assert_uint_eq(count_changes(now, IMAGE_TOPIC_CONFIGURED, "stays"), 1);
    ck_assert_uint_eq(count_changes(now, IMAGE_PARTITION_REMOVED, "goes"), 1);
    ck_assert_uint_eq(count_changes(now, IMAGE_PARTITION_ADDED, "goes"), 1);
    ck_assert_uint_eq(now->change_count, 6);
    ck_assert_int_eq(now->changes[0].kind, IMAGE_PARTITION_REMOVED); /* before the one of its name comes */
    ck_assert_uint_eq(now->removed_count, 0);
    image_free_older(known, now);                   /* and all of the older one */
    image_free_last(now);
    records_free(&r);
}
END_TEST

int main(void) {
    Suite *s = suite_create("image_snapshot");
    TCase *c = tcase_create("image_snapshot");
    tcase_add_checked_fixture(c, set_up, tear_down);
    tcase_add_test(c, everything_comes_back);
    tcase_add_test(c, no_kind_of_record_is_forgotten);
    tcase_add_test(c, who_has_the_image_passes_over);
    tcase_add_test(c, what_is_not_whole_is_damage);
    tcase_add_test(c, it_takes_the_place_of_an_older_image);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
