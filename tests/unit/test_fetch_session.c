/* Fetch sessions: the rules of KIP-227 one by one, and random sequences against a model that is written straight down. */
#include <check.h>
#include <stdlib.h>
#include "proto/kafka_errors.h"
#include "server/fetch_session.h"
#include "tests/sim/prng.h"

enum { EVICT_MS = 120000, FIRST_ID = 100, IDS = 50 };

static struct fetch_session_cache *c;
static const struct str names[] = {STR_LIT("a"), STR_LIT("topic-b"), STR_LIT("c")};
static const struct uuid ids[] = {{{1}}, {{2}}, {{3}}};
enum { TOPICS = 3 };

static void open_cache(uint32_t slots, int64_t bytes) {
    struct fetch_session_limits l = {slots, bytes, FIRST_ID, IDS, EVICT_MS};
    c = fetch_session_cache_new(&l);
}
static void set_up(void) { open_cache(4, 1 << 20); }
static void tear_down(void) { fetch_session_cache_free(c); }

/* ---- a request ------------------------------------------------------------------------------------------------ */

enum { WANTS_MAX = 24 };
struct want { int topic; int32_t partition; int64_t offset; };
/* One topic entry for each partition: the protocol allows it. */
struct asked {
    struct k_fetch_request in;
    struct k_fetch_request_topics topics[WANTS_MAX];
    struct k_fetch_request_topics_partitions parts[WANTS_MAX];
    struct k_fetch_request_forgotten_topics_data forgotten[WANTS_MAX];
    int32_t forgotten_parts[WANTS_MAX];
};

static void ask(struct asked *a, int32_t id, int32_t epoch) {
    memset(a, 0, sizeof *a);
    k_fetch_request_init(&a->in);
    a->in.session_id = id;
    a->in.session_epoch = epoch;
    a->in.topics = a->topics;
    a->in.forgotten_topics_data = a->forgotten;
}
static void ask_for(struct asked *a, bool by_id, struct want w) {
    int32_t n = a->in.topics_n++;
    k_fetch_request_topics_partitions_init(&a->parts[n]);
    a->parts[n].partition = w.partition;
    a->parts[n].fetch_offset = w.offset;
    a->parts[n].partition_max_bytes = 1000;
    a->topics[n] = (struct k_fetch_request_topics){
        .topic = by_id ? STR_LIT("") : names[w.topic], .topic_id = by_id ? ids[w.topic] : (struct uuid){{0}},
        .partitions = &a->parts[n], .partitions_n = 1,
    };
}
static void ask_to_forget(struct asked *a, bool by_id, int topic, int32_t partition) {
    int32_t n = a->in.forgotten_topics_data_n++;
    a->forgotten_parts[n] = partition;
    a->forgotten[n] = (struct k_fetch_request_forgotten_topics_data){
        .topic = by_id ? STR_LIT("") : names[topic], .topic_id = by_id ? ids[topic] : (struct uuid){{0}},
        .partitions = &a->forgotten_parts[n], .partitions_n = 1,
    };
}

/* ---- short forms: sessions of topic 0 by name ------------------------------------------------------------------- */

static struct fetch_session *make(int32_t parts, int64_t now_ms) {
    struct fetch_session *s = fetch_session_make(c, (uint32_t)parts, false, 0, now_ms);
    struct fetch_session_topic *topic = NULL;
    for (int32_t i = 0; s && i < parts; i++) {
        struct fetch_want want = {.partition = i, .max_bytes = 1000};
        uint32_t part;
        ck_assert_int_eq(fetch_session_add(c, s, &topic, names[0], &ids[0], &want, &part), OK);
        s->parts[part].high_watermark = 10;
        s->parts[part].log_start = 0;
    }
    return s;
}
static int16_t begin_at(const struct asked *a, int16_t version, int64_t now_ms, enum fetch_kind *kind,
                        struct fetch_session **s) {
    return fetch_session_begin(c, &a->in, version, now_ms, kind, s);
}
static int16_t go_on_at(int32_t id, int32_t epoch, int16_t version, int64_t now_ms) {
    struct asked a;
    enum fetch_kind kind;
    struct fetch_session *s;
    ask(&a, id, epoch);
    int16_t error = begin_at(&a, version, now_ms, &kind, &s);
    ck_assert(error || kind == FETCH_CONTINUED || epoch <= 0);
    ck_assert((s != NULL) == (!error && kind == FETCH_CONTINUED));
    return error;
}
static int16_t go_on(int32_t id, int32_t epoch) { return go_on_at(id, epoch, 12, 0); }
static int32_t first_partition(const struct fetch_session *s) { return s->parts[s->first].want.partition; }

/* ---- the rules ---------------------------------------------------------------------------------------------------- */

START_TEST(epochs_count_up_and_wrap_to_1) {
    struct fetch_session *s = make(2, 0);
    ck_assert_int_eq(s->epoch, 1);
    ck_assert_int_eq(go_on(s->id, 2), KERR_INVALID_FETCH_SESSION_EPOCH);
    ck_assert_int_eq(go_on(s->id, 1), 0);
    ck_assert_int_eq(go_on(s->id, 1), KERR_INVALID_FETCH_SESSION_EPOCH);
    ck_assert_int_eq(go_on(s->id, 2), 0);
    ck_assert_int_eq(go_on(s->id, -2), KERR_INVALID_FETCH_SESSION_EPOCH);
    s->epoch = INT32_MAX;
    ck_assert_int_eq(go_on(s->id, INT32_MAX), 0);
    ck_assert_int_eq(go_on(s->id, 1), 0);
    ck_assert_int_eq(go_on(s->id + 1, 1), KERR_FETCH_SESSION_ID_NOT_FOUND);
    ck_assert_int_eq(go_on(0, 1), KERR_FETCH_SESSION_ID_NOT_FOUND);
    ck_assert_int_eq(go_on(-5, 7), KERR_FETCH_SESSION_ID_NOT_FOUND);
}
END_TEST

START_TEST(a_full_fetch_closes_the_session_it_names) {
    struct asked a;
    enum fetch_kind kind;
    struct fetch_session *s, *x = make(1, 0), *y = make(1, 0), *z = make(1, 0);
    int32_t x_id = x->id, y_id = y->id;
    ask(&a, x_id, 0);
    ck_assert_int_eq(begin_at(&a, 12, 0, &kind, &s), 0);
    ck_assert(kind == FETCH_NEW && !s && !fetch_session_find(c, x_id));
    ask(&a, y_id, -1);
    ck_assert_int_eq(begin_at(&a, 12, 0, &kind, &s), 0);
    ck_assert(kind == FETCH_PLAIN && !s && !fetch_session_find(c, y_id));
    ask(&a, 77, 0); /* closing what is not there is no error */
    ck_assert_int_eq(begin_at(&a, 12, 0, &kind, &s), 0);
    ck_assert(kind == FETCH_NEW);
    ck_assert(fetch_session_find(c, z->id) == z);
}
END_TEST

START_TEST(names_and_ids_do_not_mix) {
    struct fetch_session *by_name = make(1, 0), *by_id = fetch_session_make(c, 1, true, 9, 0);
    struct fetch_session_topic *topic = NULL;
    struct fetch_want want = {.partition = 0};
    uint32_t part;
    ck_assert_int_eq(fetch_session_add(c, by_id, &topic, STR_LIT(""), &ids[0], &want, &part), OK);
    ck_assert_int_eq(go_on_at(by_name->id, 1, 13, 0), KERR_FETCH_SESSION_TOPIC_ID_ERROR);
    ck_assert_int_eq(go_on_at(by_id->id, 1, 12, 0), KERR_FETCH_SESSION_TOPIC_ID_ERROR);
    ck_assert_int_eq(go_on_at(by_name->id, 1, 12, 0), 0); /* nothing was changed */
    ck_assert_int_eq(go_on_at(by_id->id, 1, 13, 0), 0);
    ck_assert_int_eq(go_on_at(by_id->id, 1, 12, 0), KERR_INVALID_FETCH_SESSION_EPOCH); /* the epoch is looked at first */
}
END_TEST

START_TEST(only_news_is_told) {
    struct fetch_session *s = make(3, 0);
    struct fetch_told same = {.high_watermark = 10}, moved = {.high_watermark = 11}, trimmed = {.high_watermark = 11, .log_start = 3};
    ck_assert(!fetch_session_tell(s, 0, &same));
    ck_assert(fetch_session_tell(s, 0, &moved));
    ck_assert(!fetch_session_tell(s, 0, &moved));
    ck_assert(fetch_session_tell(s, 0, &trimmed));
    ck_assert(!fetch_session_tell(s, 0, &trimmed));
    ck_assert_int_eq(first_partition(s), 0);
    struct fetch_told diverges = {.high_watermark = 11, .log_start = 3, .diverging = true};
    ck_assert(fetch_session_tell(s, 0, &diverges) && fetch_session_tell(s, 0, &diverges));
    struct fetch_told error = {.high_watermark = -1, .log_start = -1, .error = 6};
    ck_assert(fetch_session_tell(s, 0, &error) && fetch_session_tell(s, 0, &error));
    ck_assert(fetch_session_tell(s, 0, &trimmed)); /* the error is gone */
    ck_assert(!fetch_session_tell(s, 0, &trimmed));
    ck_assert_int_eq(first_partition(s), 0);
    struct fetch_told records = {.high_watermark = 11, .log_start = 3, .records = true};
    ck_assert(fetch_session_tell(s, 0, &records));
    ck_assert_int_eq(first_partition(s), 1);
    ck_assert_uint_eq(s->last, 0);
}
END_TEST

START_TEST(an_answer_that_was_overtaken_is_refused) {
    struct fetch_session *s = make(1, 0);
    int16_t error;
    int32_t id = s->id;
    uint64_t serial = s->serial;
    ck_assert_int_eq(go_on(id, 1), 0);
    ck_assert_ptr_eq(fetch_session_end(c, id, serial, 1, &error), s);
    ck_assert_int_eq(error, 0);
    ck_assert_int_eq(go_on(id, 2), 0); /* through another connection */
    ck_assert_ptr_null(fetch_session_end(c, id, serial, 1, &error));
    ck_assert_int_eq(error, KERR_INVALID_FETCH_SESSION_EPOCH);
    ck_assert_ptr_eq(fetch_session_end(c, id, serial, 2, &error), s);
    fetch_session_remove(c, s);
    ck_assert_ptr_null(fetch_session_end(c, id, serial, 2, &error));
    ck_assert_int_eq(error, KERR_FETCH_SESSION_ID_NOT_FOUND);
    s = make(1, 0); /* the id again, but another session */
    ck_assert_int_eq(s->id, id);
    s->epoch = 3;
    ck_assert_ptr_null(fetch_session_end(c, id, serial, 2, &error));
}
END_TEST

START_TEST(a_session_that_forgets_all_is_gone) {
    struct asked a;
    enum fetch_kind kind;
    struct fetch_session *s = make(2, 0), *got;
    int32_t id = s->id;
    ask(&a, id, 1);
    ask_for(&a, false, (struct want){1, 5, 0});
    ask_to_forget(&a, false, 0, 0);
    ask_to_forget(&a, false, 0, 7); /* never asked for */
    ck_assert_int_eq(begin_at(&a, 12, 0, &kind, &got), 0);
    ck_assert(kind == FETCH_CONTINUED && got == s);
    ck_assert_uint_eq(s->part_count, 2);
    ask(&a, id, 2);
    ask_to_forget(&a, false, 0, 1);
    ask_to_forget(&a, false, 1, 5);
    ck_assert_int_eq(begin_at(&a, 12, 0, &kind, &got), 0);
    ck_assert(kind == FETCH_PLAIN && !got && !fetch_session_find(c, id));
    ck_assert_int_eq(c->bytes, 0);
}
END_TEST

START_TEST(who_gives_way) {
    struct fetch_session *s[4];
    int32_t id[4];
    for (int i = 0; i < 4; i++) {
        ck_assert_ptr_nonnull(s[i] = make(i + 2, i));
        id[i] = s[i]->id;
    }
    ck_assert_ptr_null(make(20, 1000)); /* all are young */
    for (int i = 0; i < 4; i++) ck_assert_int_eq(go_on_at(id[i], 1, 12, EVICT_MS), 0);
    ck_assert_ptr_null(make(20, EVICT_MS)); /* they must be older, and have been used since */
    for (int i = 3; i >= 0; i--) ck_assert_int_eq(go_on_at(id[i], 2, 12, EVICT_MS + 10), 0);
    ck_assert_ptr_null(make(2, EVICT_MS + 10)); /* as small as the smallest */
    struct fetch_session *larger = make(3, EVICT_MS + 10);
    ck_assert_ptr_nonnull(larger);
    ck_assert_ptr_eq(fetch_session_find(c, id[0]), larger); /* that id is free again */
    ck_assert_ptr_null(make(1, 2 * EVICT_MS + 10));
    struct fetch_session *small = make(1, 2 * EVICT_MS + 11); /* not used for so long: whoever comes */
    ck_assert_ptr_nonnull(small);
    ck_assert_ptr_eq(fetch_session_find(c, id[3]), small);
    ck_assert_ptr_nonnull(fetch_session_find(c, id[2]));
    ck_assert_uint_eq(c->count, 4);
    ck_assert_uint_eq(c->evicted, 2);
    ck_assert_uint_eq(c->refused, 4);
}
END_TEST

START_TEST(no_slots_no_sessions) {
    fetch_session_cache_free(c);
    open_cache(0, 1 << 20);
    ck_assert_ptr_null(make(1, 0));
    fetch_session_cache_free(c);
    open_cache(1000, 1 << 20); /* no more than there are ids, and these wrap */
    for (int i = 0; i < IDS; i++) {
        struct fetch_session *s = fetch_session_make(c, 1, false, UINT32_MAX - 3, 0);
        ck_assert(s && s->id >= FIRST_ID && s->id < FIRST_ID + IDS);
    }
    ck_assert_ptr_null(make(1, 0));
}
END_TEST

START_TEST(memory_is_bounded) {
    fetch_session_cache_free(c);
    open_cache(100, 20000);
    ck_assert_ptr_null(make(10000, 0));
    struct fetch_session *s = make(16, 0);
    ck_assert_ptr_nonnull(s);
    int made = 1;
    while (make(16, 0)) made++;
    ck_assert_int_gt(made, 3);
    ck_assert_int_le(c->bytes, 20000);
    /* A session that grows beyond it is dropped; its client makes a full fetch then. */
    int16_t error = 0;
    int32_t id = s->id, epoch = 1;
    for (int32_t i = 0; i < 1000 && !error; i++) {
        struct asked a;
        enum fetch_kind kind;
        struct fetch_session *got;
        ask(&a, id, epoch++);
        ask_for(&a, false, (struct want){1, i, 0});
        error = begin_at(&a, 12, 0, &kind, &got);
        ck_assert_int_le(c->bytes, 20000);
    }
    ck_assert_int_eq(error, KERR_FETCH_SESSION_ID_NOT_FOUND);
    ck_assert_ptr_null(fetch_session_find(c, id));
}
END_TEST

/* ---- a model --------------------------------------------------------------------------------------------------------
 * Sessions as plain lists, searched from the front. */

enum { MODEL_PARTS = 64, MODEL_SESSIONS = 3 };
struct model_part { struct want want; int64_t high_watermark, log_start; };
struct model_session {
    int32_t id, epoch;
    bool by_id, settled;
    int64_t created_ms, used_ms, used_order;
    struct model_part parts[MODEL_PARTS];
    int count;
};
static struct model_session model[MODEL_SESSIONS];
static int model_count;
static int64_t model_order;

static void model_drop(struct model_session *m) {
    int at = (int)(m - model);
    memmove(m, m + 1, (size_t)(model_count - at - 1) * sizeof *m);
    model_count--;
}
static int model_part(const struct model_session *m, int topic, int32_t partition) {
    for (int i = 0; i < m->count; i++)
        if (m->parts[i].want.topic == topic && m->parts[i].want.partition == partition) return i;
    return -1;
}
static void model_part_remove(struct model_session *m, int at) {
    memmove(&m->parts[at], &m->parts[at + 1], (size_t)(m->count - at - 1) * sizeof m->parts[0]);
    m->count--;
}
static void model_touch(struct model_session *m, int64_t now_ms) {
    m->used_ms = now_ms;
    m->used_order = ++model_order;
    m->settled = now_ms - m->created_ms > EVICT_MS;
}
static bool model_room(int parts, int64_t now_ms) {
    if (model_count < MODEL_SESSIONS) return true;
    struct model_session *oldest = &model[0], *smallest = NULL;
    for (int i = 0; i < model_count; i++) {
        struct model_session *m = &model[i];
        if (m->used_order < oldest->used_order) oldest = m;
        if (m->settled && (!smallest || m->count < smallest->count || (m->count == smallest->count && m->id < smallest->id)))
            smallest = m;
    }
    struct model_session *out = now_ms - oldest->used_ms > EVICT_MS        ? oldest
                                : smallest && smallest->count < parts ? smallest
                                                                      : NULL;
    if (out) model_drop(out);
    return out != NULL;
}

static void compare(void) {
    ck_assert_uint_eq(c->count, (unsigned)model_count);
    for (int i = 0; i < model_count; i++) {
        const struct model_session *m = &model[i];
        const struct fetch_session *s = fetch_session_find(c, m->id);
        ck_assert_ptr_nonnull(s);
        ck_assert_int_eq(s->epoch, m->epoch);
        ck_assert_uint_eq(s->part_count, (unsigned)m->count);
        uint32_t at = s->first;
        for (int k = 0; k < m->count; k++, at = s->parts[at].next) {
            const struct fetch_session_part *p = &s->parts[at];
            ck_assert_int_eq(p->want.partition, m->parts[k].want.partition);
            ck_assert_int_eq(p->want.offset, m->parts[k].want.offset);
            ck_assert_int_eq(p->high_watermark, m->parts[k].high_watermark);
            ck_assert_int_eq(p->log_start, m->parts[k].log_start);
            if (m->by_id) ck_assert(uuid_eq(&p->topic->id, &ids[m->parts[k].want.topic]));
            else ck_assert(str_eq((struct str){p->topic->name, p->topic->name_len}, names[m->parts[k].want.topic]));
        }
        ck_assert_uint_eq(at, FETCH_SESSION_NO_PART);
    }
}

static struct want random_want(struct prng *rng) {
    return (struct want){(int)prng_below(rng, TOPICS), (int32_t)prng_below(rng, 8), (int64_t)prng_below(rng, 1000)};
}
static struct fetch_told random_told(struct prng *rng) {
    if (prng_below(rng, 6) == 0) return (struct fetch_told){.high_watermark = -1, .log_start = -1, .error = 6};
    return (struct fetch_told){.high_watermark = (int64_t)prng_below(rng, 3), .log_start = (int64_t)prng_below(rng, 2),
                               .records = prng_below(rng, 4) == 0, .diverging = prng_below(rng, 10) == 0};
}

static void random_full(struct prng *rng, int64_t now_ms) {
    bool by_id = prng_below(rng, 2) == 0;
    int count = 1 + (int)prng_below(rng, 12);
    struct want wants[12];
    for (int i = 0; i < count; i++) {
        wants[i] = random_want(rng);
        for (int k = 0; k < i; k++)
            if (wants[k].topic == wants[i].topic && wants[k].partition == wants[i].partition) wants[i--] = wants[--count];
    }
    struct fetch_session *s = fetch_session_make(c, (uint32_t)count, by_id, (uint32_t)prng_next(rng), now_ms);
    ck_assert_int_eq(s != NULL, model_room(count, now_ms));
    if (!s) return;
    struct model_session *m = &model[model_count++];
    *m = (struct model_session){.id = s->id, .epoch = 1, .by_id = by_id, .created_ms = now_ms};
    model_touch(m, now_ms);
    struct fetch_session_topic *topic = NULL;
    for (int i = 0; i < count; i++) {
        struct fetch_want want = {.partition = wants[i].partition, .offset = wants[i].offset};
        uint32_t part;
        ck_assert_int_eq(fetch_session_add(c, s, &topic, by_id ? STR_LIT("") : names[wants[i].topic], &ids[wants[i].topic],
                                           &want, &part), OK);
        m->parts[m->count++] = (struct model_part){wants[i], -1, -1};
    }
}

static void model_update(struct prng *rng, struct model_session *m, struct asked *a) {
    for (uint64_t n = prng_below(rng, 5); n > 0; n--) {
        struct want w = random_want(rng);
        ask_for(a, m->by_id, w);
        int at = model_part(m, w.topic, w.partition);
        if (at >= 0) m->parts[at].want = w;
        else m->parts[m->count++] = (struct model_part){w, -1, -1};
    }
    for (uint64_t n = prng_below(rng, 8); n > 0; n--) {
        struct want w = random_want(rng);
        ask_to_forget(a, m->by_id, w.topic, w.partition);
        int at = model_part(m, w.topic, w.partition);
        if (at >= 0) model_part_remove(m, at);
    }
}

static void answer_all(struct prng *rng, struct fetch_session *s, struct model_session *m) {
    uint32_t order[MODEL_PARTS], n = 0;
    for (uint32_t at = s->first; at != FETCH_SESSION_NO_PART; at = s->parts[at].next) order[n++] = at;
    struct model_part was[MODEL_PARTS];
    memcpy(was, m->parts, sizeof was);
    for (uint32_t i = 0; i < n; i++) {
        struct fetch_told told = random_told(rng);
        bool expected = told.records || told.error || told.diverging || told.high_watermark != was[i].high_watermark ||
                        told.log_start != was[i].log_start;
        ck_assert_int_eq(fetch_session_tell(s, order[i], &told), expected);
        int at = model_part(m, was[i].want.topic, was[i].want.partition);
        struct model_part now = {was[i].want, told.error ? -1 : told.high_watermark, told.log_start};
        m->parts[at] = now;
        if (!told.records) continue;
        model_part_remove(m, at);
        m->parts[m->count++] = now;
    }
}

static void random_incremental(struct prng *rng, int64_t now_ms) {
    struct asked a;
    enum fetch_kind kind;
    struct fetch_session *s;
    if (model_count == 0) return;
    struct model_session *m = &model[prng_below(rng, (uint32_t)model_count)];
    int32_t id = m->id, epoch = m->epoch;
    uint64_t wrong = prng_below(rng, 12);
    ask(&a, wrong == 0 ? FIRST_ID + IDS : id, wrong == 1 ? epoch + 1 : epoch);
    int16_t version = m->by_id == (wrong != 2) ? 13 : 12;
    if (wrong >= 3) model_update(rng, m, &a);
    int16_t error = begin_at(&a, version, now_ms, &kind, &s);
    ck_assert_int_eq(error, wrong == 0   ? KERR_FETCH_SESSION_ID_NOT_FOUND
                            : wrong == 1 ? KERR_INVALID_FETCH_SESSION_EPOCH
                            : wrong == 2 ? KERR_FETCH_SESSION_TOPIC_ID_ERROR
                                         : 0);
    if (error) return;
    ck_assert_int_eq(kind, m->count == 0 ? FETCH_PLAIN : FETCH_CONTINUED);
    if (m->count == 0) {
        model_drop(m);
        return;
    }
    m->epoch++;
    model_touch(m, now_ms);
    if (prng_below(rng, 5) == 0) return; /* throttled: nothing is told */
    ck_assert_ptr_eq(fetch_session_end(c, id, s->serial, epoch, &error), s);
    answer_all(rng, s, m);
}

START_TEST(random_sequences_agree_with_the_model) {
    for (uint64_t seed = 1; seed <= 25; seed++) {
        struct prng rng = {seed};
        int64_t now_ms = 0;
        fetch_session_cache_free(c);
        open_cache(MODEL_SESSIONS, 1 << 20);
        model_count = 0;
        for (int step = 0; step < 500; step++) {
            now_ms += prng_below(&rng, 10) == 0 ? (int64_t)prng_below(&rng, 2 * EVICT_MS) : (int64_t)prng_below(&rng, 2000);
            uint64_t what = prng_below(&rng, 20);
            if (what < 3) random_full(&rng, now_ms);
            else if (what == 3 && model_count > 0) {
                struct model_session *m = &model[prng_below(&rng, (uint32_t)model_count)];
                ck_assert_int_eq(go_on_at(m->id, -1, 12, now_ms), 0);
                model_drop(m);
            } else random_incremental(&rng, now_ms);
            compare();
        }
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("fetch_session");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, epochs_count_up_and_wrap_to_1);
    tcase_add_test(t, a_full_fetch_closes_the_session_it_names);
    tcase_add_test(t, names_and_ids_do_not_mix);
    tcase_add_test(t, only_news_is_told);
    tcase_add_test(t, an_answer_that_was_overtaken_is_refused);
    tcase_add_test(t, a_session_that_forgets_all_is_gone);
    tcase_add_test(t, who_gives_way);
    tcase_add_test(t, no_slots_no_sessions);
    tcase_add_test(t, memory_is_bounded);
    tcase_add_test(t, random_sequences_agree_with_the_model);
    tcase_set_timeout(t, 60);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
