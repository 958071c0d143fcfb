/* api_group_fetch.c - OffsetFetch: what groups have committed, of one group (to version 7) or of several. What was
 * never committed is offset -1 without an error, also for a group that nobody knows.
 *
 * A group may have more offsets than a request's arena has room for. What an answer takes is estimated before it is made; a large
 * one is counted against the memory for requests first. When that is in use by others, the client is to try again. */
#include "proto/kafka_messages.h"
#include "server/api.h"
#include "server/group_api.h"

typedef struct k_offset_fetch_request_groups fetch_group_in;
typedef struct k_offset_fetch_request_groups_topics fetch_topic_in;
typedef struct k_offset_fetch_response_groups fetch_group_out;
typedef struct k_offset_fetch_response_groups_topics fetch_topic_out;
typedef struct k_offset_fetch_response_groups_topics_partitions fetch_partition_out;

enum { UNCOUNTED_BYTES = 1 << 20 };      /* smaller answers are counted when they are there */

struct fetch_state;
struct fetch_item {                      /* one group */
    struct group_op op;
    struct fetch_state *state;
    fetch_group_in *in;
    fetch_group_out *out;
    size_t needed_bytes;                 /* the answer waits until so much is counted */
    bool counted;
};
struct fetch_state {
    struct request *rq;
    struct k_offset_fetch_request in;
    struct k_offset_fetch_response out;
    fetch_group_in single;               /* to version 7 */
    fetch_group_out single_out;
    struct fetch_item *items;
    int32_t count, next;                 /* one after the other: they share the request's memory */
    bool out_of_memory;
};

/* ---- the answer ----------------------------------------------------------------------------------- */

/* To version 7 topics have names only; version 1 has no place for an error but the partitions. */
static bool fill_single(struct fetch_state *s) {
    const fetch_group_out *g = s->items[0].out;
    s->out.error_code = g->error_code;
    s->out.topics = request_alloc(s->rq, (size_t)g->topics_n, sizeof *s->out.topics);
    if (!s->out.topics) return false;
    s->out.topics_n = g->topics_n;
    for (int32_t i = 0; i < g->topics_n; i++) {
        struct k_offset_fetch_response_topics *t = &s->out.topics[i];
        const fetch_topic_out *from = &g->topics[i];
        k_offset_fetch_response_topics_init(t);
        t->name = from->name;
        t->partitions_n = from->partitions_n;
        t->partitions = request_alloc(s->rq, (size_t)from->partitions_n, sizeof *t->partitions);
        if (!t->partitions) return false;
        for (int32_t k = 0; k < from->partitions_n; k++) {
            const fetch_partition_out *p = &from->partitions[k];
            t->partitions[k] = (struct k_offset_fetch_response_topics_partitions){
                p->partition_index, p->committed_offset, p->committed_leader_epoch, p->metadata, p->error_code,
            };
        }
    }
    return true;
}

static void reply(struct fetch_state *s) {
    struct request *rq = s->rq;
    if (s->out_of_memory) {
        request_close(rq, "the answer needs more memory than request.arena.max.bytes");
        return;
    }
    if (request_version(rq) < 8 && !fill_single(s)) return;
    struct wire_writer *w = request_reply_begin(rq);
    k_offset_fetch_response_encode(&s->out, w, request_version(rq));
    request_reply(rq);
}

static void fill_partition(fetch_partition_out *p, int32_t partition, int16_t error) {
    k_offset_fetch_response_groups_topics_partitions_init(p);
    p->partition_index = partition;
    p->committed_offset = -1;
    p->committed_leader_epoch = -1;
    p->metadata = STR_LIT("");
    p->error_code = error;
}

/* Version 1 says it of each partition. */
static bool spread_error(struct fetch_item *item, int16_t error) {
    item->out->error_code = error;
    item->out->topics_n = 0;
    if (request_version(item->op.rq) >= 2) return true;
    int32_t n = MAX(item->in->topics_n, 0);
    item->out->topics = request_alloc(item->op.rq, (size_t)n, sizeof *item->out->topics);
    if (!item->out->topics) return false;
    for (int32_t i = 0; i < n; i++) {
        fetch_topic_out *t = &item->out->topics[i];
        k_offset_fetch_response_groups_topics_init(t);
        t->name = item->in->topics[i].name;
        t->partitions_n = item->in->topics[i].partition_indexes_n;
        t->partitions = request_alloc(item->op.rq, (size_t)t->partitions_n, sizeof *t->partitions);
        if (!t->partitions) return false;
        for (int32_t k = 0; k < t->partitions_n; k++) fill_partition(&t->partitions[k], item->in->topics[i].partition_indexes[k], error);
        item->out->topics_n++;
    }
    return true;
}

static void go_on(struct fetch_state *s);

static void item_done(struct group_op *op) {
    struct fetch_item *item = op->owner;
    struct fetch_state *s = item->state;
    if (!op->error && item->needed_bytes > 0) {
        if (request_widen(op->rq, item->needed_bytes)) {
            item->needed_bytes = 0;
            item->counted = true;
            group_op_send(op);
            return;
        }
        op->error = KERR_COORDINATOR_LOAD_IN_PROGRESS; /* every client tries again after it */
    }
    if (op->error && !s->out_of_memory && !spread_error(item, op->error)) return;
    go_on(s);
}

static void go_on(struct fetch_state *s) {
    if (s->next == s->count || s->out_of_memory) reply(s);
    else group_op_send(&s->items[s->next++].op);
}

/* ---- the owner's thread ----------------------------------------------------------------------------- */

static bool fill_found(struct fetch_item *item, fetch_partition_out *p, const struct group_offset *o) {
    if (!o) return true;
    struct str metadata = group_offset_metadata(o);
    p->committed_offset = o->offset;
    p->committed_leader_epoch = o->leader_epoch;
    if (metadata.len > 0) p->metadata = request_copy(item->op.rq, metadata);
    return p->metadata.p != NULL;
}

static void *take(struct fetch_item *item, int32_t count, size_t size) {
    return arena_array(&item->op.rq->arena, (size_t)MAX(count, 1), size);
}

static bool fetch_named(struct fetch_item *item, const struct group *g) {
    for (int32_t i = 0; i < item->out->topics_n; i++) {
        const fetch_topic_in *from = &item->in->topics[i];
        fetch_topic_out *t = &item->out->topics[i];
        bool unknown_id = request_version(item->op.rq) >= 10 && !from->name.p;
        t->partitions = take(item, from->partition_indexes_n, sizeof *t->partitions);
        if (!t->partitions) return false;
        t->partitions_n = from->partition_indexes_n;
        for (int32_t k = 0; k < t->partitions_n; k++) {
            fill_partition(&t->partitions[k], from->partition_indexes[k], unknown_id ? KERR_UNKNOWN_TOPIC_ID : KERR_NONE);
            if (unknown_id) continue;
            const struct group_offset *o = group_offsets_find(&g->offsets, from->name, &from->topic_id, from->partition_indexes[k]);
            if (!fill_found(item, &t->partitions[k], o)) return false;
        }
    }
    return true;
}

/* Newer clients know topics by id: those that are gone are left out for them. */
static bool topic_visible(const struct fetch_item *item, const struct group *g, const struct group_offset_topic *from, fetch_topic_out *t) {
    k_offset_fetch_response_groups_topics_init(t);
    struct str name = {from->name, from->name_len};
    t->name = request_copy(item->op.rq, name);
    if (request_version(item->op.rq) < 10) return true;
    const struct image_topic *known = image_topic_by_name(reactor_image(group_reactor(g)), name);
    if (!known || (!uuid_is_zero(&from->id) && !uuid_eq(&from->id, &known->id))) return false;
    t->topic_id = known->id;
    return true;
}

static bool fetch_all(struct fetch_item *item, const struct group *g) {
    const struct group_offset_topic *topic;
    item->out->topics_n = 0;
    item->out->topics = take(item, (int32_t)HASH_COUNT(g->offsets.topics), sizeof *item->out->topics);
    if (!item->out->topics) return false;
    for (topic = g->offsets.topics; topic; topic = topic->hh.next) {
        fetch_topic_out *t = &item->out->topics[item->out->topics_n];
        if (!topic_visible(item, g, topic, t)) continue;
        if (!t->name.p || !(t->partitions = take(item, (int32_t)topic->count, sizeof *t->partitions))) return false;
        item->out->topics_n++;
        for (uint32_t i = 0; i < topic->piece_count; i++)
            for (uint32_t k = 0; k < topic->pieces[i]->count; k++) {
                const struct group_offset *o = &topic->pieces[i]->list[k];
                fetch_partition_out *p = &t->partitions[t->partitions_n++];
                fill_partition(p, o->partition, KERR_NONE);
                if (!fill_found(item, p, o)) return false;
            }
    }
    return true;
}

/* The most that the answer takes of the arena: at once, whatever the size of the group. To version 7 it is made twice. */
static size_t answer_bytes(const struct fetch_item *item, const struct group *g) {
    size_t copies = request_version(item->op.rq) < 8 ? 2 : 1, topics = HASH_COUNT(g->offsets.topics), partitions = (size_t)g->offsets.count;
    size_t texts = (size_t)g->offsets.bytes; /* names and metadata are in there */
    if (item->in->topics_n >= 0) {
        topics = (size_t)item->in->topics_n;
        partitions = 0;
        for (size_t i = 0; i < topics; i++) partitions += (size_t)MAX(item->in->topics[i].partition_indexes_n, 0);
        texts = MIN(texts, partitions * ((size_t)group_reactor(g)->broker->config.offset_metadata_max_bytes + 32));
    }
    return copies * (partitions * sizeof(fetch_partition_out) + topics * (sizeof(fetch_topic_out) + 64)) + texts + 64;
}

static bool must_be_counted(const struct fetch_item *item, size_t bytes) {
    const struct arena *a = &item->op.rq->arena;
    return bytes > a->limit_bytes - a->used_bytes || (!item->counted && bytes > UNCOUNTED_BYTES);
}

static void run(struct group_op *op, struct group *g) {
    struct fetch_item *item = op->owner;
    int16_t error = group_fetch_check(g, item->in->member_id, item->in->member_epoch);
    bool all = item->in->topics_n < 0;
    size_t bytes = answer_bytes(item, g);
    if (!error && must_be_counted(item, bytes)) item->needed_bytes = bytes;
    else if (!error && !(all ? fetch_all(item, g) : fetch_named(item, g))) item->state->out_of_memory = true;
    group_op_finish(op, error);
}

/* ---- arrival ----------------------------------------------------------------------------------------- */

/* Names for ids (null: unknown), ids for names; the answer's topics are as the request's. */
static bool prepare_topics(struct request *rq, struct fetch_item *item) {
    fetch_group_out *out = item->out;
    int32_t n = MAX(item->in->topics_n, 0);
    out->topics = request_alloc(rq, (size_t)n, sizeof *out->topics);
    if (!out->topics) return false;
    out->topics_n = n;
    for (int32_t i = 0; i < n; i++) {
        fetch_topic_in *t = &item->in->topics[i];
        int16_t error;
        k_offset_fetch_response_groups_topics_init(&out->topics[i]);
        out->topics[i].name = t->name;
        out->topics[i].topic_id = t->topic_id;
        const struct image_topic *known = request_find_topic(rq, request_version(rq) >= 10, t->name, &t->topic_id, &error);
        if (request_version(rq) < 10) t->topic_id = known ? known->id : (struct uuid){{0}};
        else t->name = known ? request_copy(rq, (struct str){known->name, known->name_len}) : STR_NULL;
    }
    return true;
}

/* The one group of older versions, as newer ones say it. */
static bool take_single(struct fetch_state *s) {
    fetch_group_in *g = &s->single;
    k_offset_fetch_request_groups_init(g);
    g->group_id = s->in.group_id;
    g->topics_n = s->in.topics_n;
    g->topics = request_alloc(s->rq, (size_t)MAX(g->topics_n, 0), sizeof *g->topics);
    if (!g->topics) return false;
    for (int32_t i = 0; i < g->topics_n; i++) {
        k_offset_fetch_request_groups_topics_init(&g->topics[i]);
        g->topics[i].name = s->in.topics[i].name;
        g->topics[i].partition_indexes = s->in.topics[i].partition_indexes;
        g->topics[i].partition_indexes_n = s->in.topics[i].partition_indexes_n;
    }
    s->in.groups = g;
    s->in.groups_n = 1;
    return true;
}

static bool prepare(struct fetch_state *s) {
    if (request_version(s->rq) < 8 && !take_single(s)) return false;
    s->count = MAX(s->in.groups_n, 0);
    s->items = request_alloc(s->rq, (size_t)s->count, sizeof *s->items);
    if (!s->items) return false;
    s->out.groups = request_alloc(s->rq, (size_t)s->count, sizeof *s->out.groups);
    if (!s->out.groups) return false;
    for (int32_t i = 0; i < s->count; i++) {
        struct fetch_item *item = &s->items[i];
        k_offset_fetch_response_groups_init(&s->out.groups[i]);
        s->out.groups[i].group_id = s->in.groups[i].group_id;
        item->state = s;
        item->in = &s->in.groups[i];
        item->out = &s->out.groups[i];
        item->op = (struct group_op){.rq = s->rq, .group = item->in->group_id, .lock = GROUP_READ, .run = run, .done = item_done, .owner = item};
        if (!prepare_topics(s->rq, item)) return false;
    }
    s->out.groups_n = request_version(s->rq) < 8 ? 0 : s->count;
    return true;
}

void api_offset_fetch(struct request *rq) {
    struct fetch_state *s = request_alloc(rq, 1, sizeof *s);
    if (!s) return;
    s->rq = rq;
    if (!request_decoded(rq, k_offset_fetch_request_decode(&s->in, &rq->body, request_version(rq)))) return;
    k_offset_fetch_response_init(&s->out);
    if (!prepare(s)) return;
    go_on(s);
}
