/* api_fetch.c - Fetch: plan, perhaps wait, deal out the budget in order, read, answer.
 *
 *   session -> PLAN --enough, an error, or no time--> READ --> session --> answer
 *                \--too little--> WATCH --something came, or time is up--> PLAN
 *
 * The partitions are those of the request or, when it continues a session (KIP-227), those of the session, in its order
 * (api_fetch_session.c); the answer lists all of them, or those with news. They are grouped by the reactor that owns
 * them. Limits: the first batch of the first partition with data is returned whole even if it is larger than every
 * limit (KIP-74); everything else fits max_bytes. */
#include <stdlib.h>
#include "base/assert.h"
#include "server/api_fetch_impl.h"
#include "server/quotas.h"

/* A waiting fetch looks from time to time whether its connection still exists. */
enum { WAIT_CHECK_MS = 1000, SMALL_RECORDS_BYTES = 4096 };
/* How often a fetch asks again for memory, and how long beyond its time before it is answered without records. */
enum { MEMORY_CHECK_MS = 20, MEMORY_WAIT_MS = 5000 };

typedef struct k_fetch_response_responses_partitions fetch_result;

static void plan(struct fetch_state *s);

static void group_home(struct fetch_group *g) {
    struct fetch_state *s = g->request;
    if (--s->away == 0) s->next(s);
}

/* Sends all groups off; `next` runs when they are home, perhaps before this returns. */
static void all_groups(struct fetch_state *s, void (*go)(struct fetch_group *g), void (*next)(struct fetch_state *s)) {
    s->next = next;
    s->away = s->group_count + 1;
    for (uint32_t i = 0, n = s->group_count; i < n; i++) go(&s->groups[i]);
    if (--s->away == 0) next(s);
}

/* ---- answer ---------------------------------------------------------------------------------------- */

/* Where it is reached, once for each broker. No memory: it is left out, the client asks. */
static void name_endpoint(struct fetch_state *s, int32_t node) {
    for (int32_t i = 0; i < s->out.node_endpoints_n; i++)
        if (s->out.node_endpoints[i].node_id == node) return;
    if (s->nodes.count == 0 && !api_nodes_try(s->rq, &s->nodes)) return;
    if (!s->out.node_endpoints) s->out.node_endpoints = arena_array(&s->rq->arena, (size_t)s->nodes.count, sizeof *s->out.node_endpoints);
    const struct api_node *n = api_nodes_find(&s->nodes, node);
    if (!n || !api_node_is_shown(n) || !s->out.node_endpoints) return;
    struct k_fetch_response_node_endpoints *out = &s->out.node_endpoints[s->out.node_endpoints_n++];
    k_fetch_response_node_endpoints_init(out);
    out->node_id = n->id;
    out->host = n->host;
    out->port = n->port;
    out->rack = n->rack;
}

static void name_leader(struct fetch_state *s, fetch_result *r, const struct fetch_part *part) {
    if (request_version(s->rq) < 12 || part->leader < 0) return;
    r->current_leader.leader_id = part->leader;
    r->current_leader.leader_epoch = part->leader_epoch;
    if (request_version(s->rq) >= 16) name_endpoint(s, part->leader);
}

static void result_error(struct fetch_state *s, fetch_result *r, const struct fetch_part *part) {
    int16_t error = part->error;
    /* Version 6 brought KAFKA_STORAGE_ERROR. */
    if (error == KERR_KAFKA_STORAGE_ERROR && request_version(s->rq) < 6) error = KERR_NOT_LEADER_OR_FOLLOWER;
    r->error_code = error;
    r->high_watermark = r->last_stable_offset = r->log_start_offset = -1;
    if (error == KERR_NOT_LEADER_OR_FOLLOWER || error == KERR_FENCED_LEADER_EPOCH) name_leader(s, r, part);
}

static void fill_result(struct fetch_state *s, struct fetch_item *item) {
    const struct fetch_part *part = &item->part;
    fetch_result *r = item->result;
    k_fetch_response_responses_partitions_init(r);
    r->partition_index = item->partition;
    r->aborted_transactions_n = s->in.isolation_level == 0 ? -1 : 0;
    r->preferred_read_replica = -1;
    r->records = (struct bytes){(const uint8_t *)"", 0}; /* never null: librdkafka takes that for an error */
    if (part->error) {
        result_error(s, r, part);
        return;
    }
    r->high_watermark = r->last_stable_offset = part->high_watermark;
    r->log_start_offset = part->log_start;
    r->preferred_read_replica = part->preferred;
    if (part->diverging_epoch >= 0) {
        r->diverging_epoch.epoch = part->diverging_epoch;
        r->diverging_epoch.end_offset = part->diverging_end;
        return;
    }
    if (!part->read || part->read->bytes == 0) return;
    /* The first slice's address stands for all of them until lend_records(). */
    r->records = (struct bytes){slice_data(&part->read->slices[0]), (int32_t)part->read->bytes};
}

/* Small records that lie in pieces are put together: cheaper than an iovec for each. */
static void gather_small(struct fetch_state *s, struct fetch_item *item) {
    const struct log_read *read = item->part.read;
    if (item->result->records.len == 0 || read->bytes > SMALL_RECORDS_BYTES || read->slice_count < 2) return;
    uint8_t *all = arena_alloc(&s->rq->arena, read->bytes);
    item->result->records.p = all;
    if (!all) item->result->records = (struct bytes){(const uint8_t *)"", 0};
    if (!all) return;
    for (uint32_t i = 0; i < read->slice_count; i++) {
        memcpy(all, slice_data(&read->slices[i]), read->slices[i].len);
        all += read->slices[i].len;
    }
}

/* The writer has one reference for each records field; those in several slices become several. */
static enum err split_refs(struct fetch_state *s, struct wire_writer *w) {
    uint32_t count = 0, from = 0;
    for (uint32_t i = 0; i < s->item_count; i++)
        if (s->items[i].part.read) count += s->items[i].part.read->slice_count;
    if (count <= w->ref_count || w->err) return w->err;
    struct wire_ref *refs = malloc(count * sizeof *refs);
    if (!refs) return ERR_NOMEM;
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->item_count && from < w->ref_count; i++) {
        const struct log_read *read = s->items[i].part.read;
        if (!read || !s->items[i].told || s->items[i].result->records.p != w->refs[from].b.p || read->slice_count == 0) continue;
        for (uint32_t k = 0; k < read->slice_count; k++)
            refs[n++] = (struct wire_ref){w->refs[from].at,
                                          {slice_data(&read->slices[k]), (int32_t)read->slices[k].len}};
        from++;
    }
    free(w->refs);
    w->refs = refs;
    w->ref_count = n;
    w->ref_cap = count;
    return OK;
}

/* Those that follow each other and are of one topic are listed together. */
static bool same_topic(const struct fetch_item *a, const struct fetch_item *b) {
    return uuid_eq(&a->topic_id, &b->topic_id) && (a->topic.p == b->topic.p || str_eq(a->topic, b->topic));
}

static void list_result(struct fetch_state *s, struct fetch_item *item, fetch_result *result) {
    struct k_fetch_response_responses *t = &s->out.responses[s->out.responses_n - 1];
    item->result = result;
    t->partitions_n++;
    fill_result(s, item);
    gather_small(s, item);
}

/* False: the connection is being closed. */
static bool list_results(struct fetch_state *s) {
    const struct fetch_item *last = NULL;
    size_t told = 0, topics = 0;
    for (uint32_t i = 0; i < s->item_count; i++) {
        const struct fetch_item *item = &s->items[i];
        if (!item->told) continue;
        told++;
        topics += !last || !same_topic(last, item);
        last = item;
    }
    fetch_result *results = request_alloc(s->rq, told, sizeof *results);
    if (!results) return false;
    s->out.responses = request_alloc(s->rq, topics, sizeof *s->out.responses);
    if (!s->out.responses) return false;
    last = NULL;
    for (uint32_t i = 0; i < s->item_count; i++) {
        struct fetch_item *item = &s->items[i];
        if (!item->told) continue;
        if (!last || !same_topic(last, item)) {
            struct k_fetch_response_responses *t = &s->out.responses[s->out.responses_n++];
            k_fetch_response_responses_init(t);
            t->topic = item->topic;
            t->topic_id = item->topic_id;
            t->partitions = results;
        }
        list_result(s, item, results++);
        last = item;
    }
    return true;
}

/* What was read is lent to the answer, or given back with it. */
static enum err lend_all(struct fetch_state *s) {
    enum err err = OK;
    for (uint32_t i = 0; i < s->group_count; i++) {
        struct buf *loan = s->groups[i].loan ? fetch_loan_buf(s->groups[i].loan) : NULL;
        if (loan && request_lend(s->rq, (struct slice){loan, 0, 0}) != OK) err = ERR_NOMEM;
    }
    return err;
}

static void answer(struct fetch_state *s) {
    struct request *rq = s->rq;
    if (s->no_memory) {
        request_close(rq, "the request needs more memory than request.arena.max.bytes");
        return;
    }
    if (!list_results(s)) return;
    struct wire_writer *w = request_reply_begin(rq);
    w->ref_min_bytes = SMALL_RECORDS_BYTES + 1;
    k_fetch_response_encode(&s->out, w, request_version(rq));
    if (split_refs(s, &rq->out) != OK) request_close(rq, "not enough memory for the answer");
    else request_reply(rq);
}

static uint64_t read_bytes(const struct fetch_state *s) {
    uint64_t total = 0;
    for (uint32_t i = 0; i < s->item_count; i++)
        if (s->items[i].part.read) total += s->items[i].part.read->bytes;
    return total;
}

static void finished(struct fetch_state *s) {
    if (s->timer_used) timer_cancel(&s->rq->reactor->timers, &s->timer);
    if (lend_all(s) != OK) {
        request_close(s->rq, "not enough memory for the answer");
        return;
    }
    s->throttled = quotas_exist(s->rq->reactor) && !quota_fetch(s->rq, read_bytes(s));
    fetch_session_close(s, answer);
}

/* ---- budget ----------------------------------------------------------------------------------------- */

static int64_t response_bytes_max(const struct fetch_state *s) {
    return MIN((int64_t)MAX(s->in.max_bytes, 0), s->most_bytes);
}

static void deal(struct fetch_state *s) {
    int64_t left = s->granted_bytes;
    bool first = left > 0;
    for (uint32_t i = 0; i < s->item_count; i++) {
        struct fetch_part *part = &s->items[i].part;
        part->budget_bytes = 0;
        part->min_one = false;
        if (!s->items[i].owner || part->error || part->diverging_epoch >= 0 || part->preferred >= 0 || part->available_bytes == 0) continue;
        int64_t grant = MIN(left, (int64_t)MAX(part->max_bytes, 0));
        if (first) {
            part->min_one = true;
            grant = MAX(grant, 1);
            first = false;
        }
        if (grant <= 0) continue;
        part->budget_bytes = (uint32_t)MIN(grant, (int64_t)UINT32_MAX);
        left -= MIN(grant, (int64_t)part->available_bytes);
    }
}

static uint64_t planned_bytes(const struct fetch_state *s) {
    uint64_t total = 0;
    for (uint32_t i = 0; i < s->group_count; i++) total += s->groups[i].planned_bytes;
    return total;
}

static void read_all(struct fetch_state *s);
static void on_memory_timer(struct timer *t) { read_all(CONTAINER_OF(t, struct fetch_state, timer)); }

/* Many slow readers must not fill the memory with what they do not take. */
static void read_all(struct fetch_state *s) {
    struct reactor *r = s->rq->reactor;
    uint64_t wanted = MIN(planned_bytes(s), (uint64_t)MAX(response_bytes_max(s), 1));
    s->granted_bytes = wanted > 0 && s->rq->conn ? request_reserve(s->rq, wanted) : 0;
    if (wanted > 0 && s->granted_bytes == 0 && s->rq->conn && r->now_ns < s->deadline_ns + MEMORY_WAIT_MS * 1000000LL) {
        timer_init(&s->timer, on_memory_timer);
        s->timer_used = true;
        timer_set(&r->timers, &s->timer, r->now_ns + MEMORY_CHECK_MS * 1000000LL);
        return;
    }
    deal(s);
    all_groups(s, fetch_group_read, finished);
}

/* ---- waiting ------------------------------------------------------------------------------------------- */

/* Whoever comes home first ends the wait of the others. */
static void watch_home(struct fetch_group *g) {
    struct fetch_state *s = g->request;
    s->woken = true;
    for (uint32_t i = 0; i < s->group_count; i++)
        if (&s->groups[i] != g) fetch_group_cancel(&s->groups[i]);
    if (--s->away == 0) s->next(s);
}

static void on_timer(struct timer *t) {
    struct fetch_state *s = CONTAINER_OF(t, struct fetch_state, timer);
    struct reactor *r = s->rq->reactor;
    if (s->rq->conn && r->now_ns < s->deadline_ns) {
        timer_set(&r->timers, t, MIN(s->deadline_ns, r->now_ns + WAIT_CHECK_MS * 1000000LL));
        return;
    }
    s->deadline_ns = r->now_ns; /* also when nobody is there to read the answer */
    s->away++; /* the last one home would finish the request under this loop */
    for (uint32_t i = 0; i < s->group_count; i++) fetch_group_cancel(&s->groups[i]);
    if (--s->away == 0) s->next(s);
}

static void watched(struct fetch_state *s) {
    timer_cancel(&s->rq->reactor->timers, &s->timer);
    for (uint32_t i = 0; i < s->group_count; i++) s->groups[i].home = group_home;
    plan(s);
}

static void watch_group(struct fetch_group *g) {
    struct fetch_state *s = g->request;
    if (s->woken) {
        s->away--; /* not sent off at all; all_groups() holds the last count */
        return;
    }
    g->home = watch_home;
    fetch_group_watch(g);
}

static void wait(struct fetch_state *s) {
    struct reactor *r = s->rq->reactor;
    uint64_t missing = s->min_bytes - planned_bytes(s);
    /* If the sum has grown by what is missing, then one of the groups has grown by its share. */
    uint64_t share = (missing + s->group_count - 1) / s->group_count;
    for (uint32_t i = 0; i < s->group_count; i++) s->groups[i].wanted_bytes = s->groups[i].planned_bytes + share;
    if (!s->timer_used) timer_init(&s->timer, on_timer);
    s->timer_used = true;
    s->woken = false;
    timer_set(&r->timers, &s->timer, MIN(s->deadline_ns, r->now_ns + WAIT_CHECK_MS * 1000000LL));
    all_groups(s, watch_group, watched);
}

static void planned(struct fetch_state *s) {
    bool ready = s->refused || planned_bytes(s) >= s->min_bytes || s->group_count == 0;
    for (uint32_t i = 0; i < s->group_count && !ready; i++) ready = s->groups[i].planned_error;
    if (ready || s->rq->reactor->now_ns >= s->deadline_ns) read_all(s);
    else wait(s);
}

static void plan(struct fetch_state *s) { all_groups(s, fetch_group_plan, planned); }

/* ---- arrival --------------------------------------------------------------------------------------------- */

static void add_item(struct fetch_state *s, const struct k_fetch_request_topics *t,
                     const struct k_fetch_request_topics_partitions *p) {
    struct fetch_item *item = &s->items[s->item_count++];
    bool by_id = request_version(s->rq) >= 13;
    struct api_partition where = request_find_partition(s->rq, by_id, t->topic, &t->topic_id, p->partition);
    item->topic = t->topic;
    item->topic_id = t->topic_id;
    item->partition = p->partition;
    item->owner = where.error ? NULL : where.owner;
    item->part = (struct fetch_part){
        .plid = where.plid, .offset = p->fetch_offset, .max_bytes = p->partition_max_bytes,
        .current_leader_epoch = p->current_leader_epoch, .last_fetched_epoch = p->last_fetched_epoch,
        .diverging_epoch = -1, .leader_epoch = -1, .leader = -1, .preferred = -1, .error = where.error,
        .from_follower = request_version(s->rq) >= 11,
    };
    if (where.error) s->refused = true;
}

static bool add_items(struct fetch_state *s) {
    int32_t topics = s->in.topics_n, total = 0;
    for (int32_t i = 0; i < topics; i++) total += s->in.topics[i].partitions_n;
    s->items = request_alloc(s->rq, (size_t)total, sizeof *s->items);
    if (!s->items) return false;
    for (int32_t i = 0; i < topics; i++)
        for (int32_t k = 0; k < s->in.topics[i].partitions_n; k++)
            add_item(s, &s->in.topics[i], &s->in.topics[i].partitions[k]);
    return true;
}

/* Empty: it reads from the leader. */
static struct str reader_rack(const struct fetch_state *s) {
    const char *selector = request_broker(s->rq)->config.replica_selector;
    bool by_rack = selector && strstr(selector, "RackAware") && request_version(s->rq) >= 11;
    return by_rack ? s->in.rack_id : STR_NULL;
}

static bool make_groups(struct fetch_state *s) {
    struct broker *b = request_broker(s->rq);
    uint32_t *counts = request_alloc(s->rq, b->reactor_count, sizeof *counts);
    struct fetch_group **of = counts ? request_alloc(s->rq, b->reactor_count, sizeof *of) : NULL;
    s->groups = of ? request_alloc(s->rq, b->reactor_count, sizeof *s->groups) : NULL;
    if (!s->groups) return false;
    for (uint32_t i = 0; i < s->item_count; i++)
        if (s->items[i].owner) counts[s->items[i].owner->index]++;
    for (uint32_t i = 0; i < b->reactor_count; i++) {
        if (counts[i] == 0) continue;
        struct fetch_group *g = of[i] = &s->groups[s->group_count++];
        *g = (struct fetch_group){.caller = s->rq->reactor, .owner = &b->reactors[i], .home = group_home, .request = s,
                                  .rack = reader_rack(s)};
        g->parts = request_alloc(s->rq, counts[i], sizeof(struct fetch_part *));
        if (!g->parts) return false;
    }
    for (uint32_t i = 0; i < s->item_count; i++) {
        if (!s->items[i].owner) continue;
        struct fetch_group *g = of[s->items[i].owner->index];
        g->parts[g->part_count++] = &s->items[i].part;
    }
    return true;
}

static void session_open(struct fetch_state *s) {
    if (s->out.error_code || s->no_memory) {
        answer(s);
        return;
    }
    if (s->kind != FETCH_CONTINUED && !add_items(s)) return;
    if (!make_groups(s)) return;
    request_charge(s->rq);
    plan(s);
}

void api_fetch(struct request *rq) {
    struct fetch_state *s = request_alloc(rq, 1, sizeof *s);
    if (!s) return;
    s->rq = rq;
    if (!request_decoded(rq, k_fetch_request_decode(&s->in, &rq->body, request_version(rq)))) return;
    k_fetch_response_init(&s->out);
    request_refresh_time(rq);
    s->most_bytes = quota_fetch_max(rq, request_broker(rq)->config.fetch_max_bytes);
    s->min_bytes = (uint64_t)MIN((int64_t)MAX(s->in.min_bytes, 0), response_bytes_max(s));
    s->deadline_ns = rq->reactor->now_ns + MAX(s->in.max_wait_ms, 0) * 1000000LL;
    fetch_session_open(s, session_open);
}
