/* request.c - from a frame to a handler, and from a finished reply back to the connection. */
#include <inttypes.h>
#include <stdlib.h>
#include "base/assert.h"
#include "base/trace.h"
#include "server/conn_impl.h"
#include "server/forward.h"
#include "server/quotas.h"

enum { KEY_API_VERSIONS = 18 };

void request_free(struct request *rq) {
    struct conn_set *set = rq->reactor->conns;
    for (uint32_t i = 0; i < rq->lent_count; i++) buf_unref(rq->lent[i].buf);
    free(rq->lent);
    free(rq->origin);
    set->reserved_bytes -= rq->reserved_bytes;
    set->small_bytes -= rq->small_bytes;
    wire_writer_free(&rq->out);
    request_slim(rq);
    free(rq);
}

/* An answer refers to nothing but what is lent (request_lend()): frame and decoded form may go before it does. */
void request_slim(struct request *rq) {
    rq->reactor->conns->used_bytes -= rq->used_bytes;
    rq->used_bytes = 0;
    arena_free(&rq->arena);
    buf_unref(rq->frame);
    rq->frame = NULL;
}

void request_charge(struct request *rq) {
    if (rq->arena_away) return;
    int64_t used = (int64_t)rq->frame->cap + (int64_t)rq->arena.used_bytes;
    rq->reactor->conns->used_bytes += used - rq->used_bytes;
    rq->used_bytes = used;
}

bool request_widen(struct request *rq, size_t bytes) {
    struct conn_set *set = rq->reactor->conns;
    int64_t others = set->used_bytes - rq->used_bytes;
    if (bytes > INT32_MAX || (others > 0 && set->used_bytes + set->backlog_bytes + (int64_t)bytes > set->budget_bytes)) return false;
    rq->used_bytes += (int64_t)bytes;
    set->used_bytes += (int64_t)bytes;
    rq->arena_away = true;
    rq->arena.limit_bytes = MAX(rq->arena.limit_bytes, rq->arena.used_bytes + bytes);
    return true;
}

/* What a client calls itself, fit for a terminal. */
static void client_text(struct str id, char out[65]) {
    int32_t n = id.p ? MIN(id.len, 64) : 0;
    for (int32_t i = 0; i < n; i++) out[i] = id.p[i] > ' ' && id.p[i] < 0x7f ? id.p[i] : '?';
    out[n] = 0;
}

static void refuse(struct conn *c, const struct request *rq, const char *why) {
    char client[65];
    c->set->stats.refused_requests++;
    client_text(rq->header.client_id, client);
    const struct kafka_api *api = kafka_api_by_key(rq->header.api_key);
    trace_warn("conn", "%s: closing: %s (API key %d%s%s, version %d, client \"%s\")", c->peer, why, rq->header.api_key,
               api ? " " : "", api ? api->name : "", rq->header.api_version, client);
    conn_close(c, NULL);
}

/* The handler, or NULL with the reason why this request closes the connection. */
static api_handler *handler_find(struct request *rq, const char **why) {
    enum err err = kafka_request_header_read(&rq->body, &rq->header);
    const struct api *api = api_find(rq->header.api_key);
    bool asks_versions = api && rq->header.api_key == KEY_API_VERSIONS; /* answers error 35 itself */
    *why = err == ERR_UNSUPPORTED ? "unknown API or version" : "malformed request header";
    if (err != OK && !(err == ERR_UNSUPPORTED && asks_versions)) return NULL;
    *why = "API not served";
    if (!api) return NULL;
    *why = "version not served";
    if (!asks_versions && (rq->header.api_version < api->min_version || rq->header.api_version > api->max_version)) return NULL;
    return forward_wanted(rq, api) ? forward_request : api->handle;
}

static struct request *request_new(struct conn_set *set, struct buf *frame, uint32_t len) {
    struct request *rq = calloc(1, sizeof *rq);
    if (!rq) return NULL;
    rq->reactor = set->reactor;
    rq->frame = frame;
    rq->used_bytes = rq->held_bytes = frame->cap;
    rq->received_ns = set->reactor->now_ns;
    list_init(&rq->link);
    arena_init(&rq->arena, (size_t)set->reactor->broker->config.request_arena_max_bytes);
    wire_writer_init(&rq->out, CONN_RESPONSE_BYTES_MAX);
    rq->body = wire_reader_init(frame->data, len, &rq->arena);
    return rq;
}

bool request_start(struct conn *c, struct buf *frame, uint32_t len) {
    struct conn_set *set = c->set;
    struct request *rq = request_new(set, frame, len);
    if (!rq) {
        set->used_bytes -= frame->cap;
        buf_unref(frame);
        conn_close(c, "out of memory");
        return false;
    }
    rq->conn = c;
    const char *why;
    api_handler *handle = handler_find(rq, &why);
    if (!handle) {
        refuse(c, rq, why);
        request_free(rq);
        return false;
    }
    list_push_back(&c->requests, &rq->link);
    c->request_count++;
    c->unfinished++;
    if (!request_is_produce(rq)) c->unfinished_others++;
    c->held_bytes += frame->cap;
    set->request_count++;
    set->stats.requests++;
    int64_t begun_ns = quotas_exist(rq->reactor) ? quota_handler_begin(rq) : 0;
    handle(rq);
    if (begun_ns) quota_handler_end(rq, begun_ns);
    request_charge(rq);
    return !c->closing;
}

void request_start_remote(struct reactor *r, struct buf *frame, uint32_t len, struct request_origin *origin) {
    struct conn_set *set = r->conns;
    struct request *rq = request_new(set, frame, len);
    ASSERT(rq != NULL);
    rq->origin = origin;
    set->used_bytes += frame->cap;
    set->request_count++;
    set->stats.requests++;
    list_push_back(&set->orphans, &rq->link);
    const char *why;
    api_handler *handle = handler_find(rq, &why);
    if (handle) handle(rq);
    else request_close(rq, why);
}

struct wire_writer *request_reply_begin(struct request *rq) {
    ASSERT(!rq->done && rq->out.len == 0);
    wire_put_i32(&rq->out, 0); /* the frame's size; request_reply() knows it */
    kafka_response_header_write(&rq->out, rq->header.api_key, rq->header.api_version, rq->header.correlation_id);
    rq->body_at = rq->out.len;
    return &rq->out;
}

/* The handler is through with it. Without a connection nobody else is interested. */
static void finish(struct request *rq) {
    struct conn *c = rq->conn;
    ASSERT(!rq->done);
    rq->done = true;
    rq->reactor->conns->request_count--;
    if (rq->body.err == OK && wire_left(&rq->body) > 0) rq->reactor->conns->stats.trailing_bytes += wire_left(&rq->body);
    if (!c) {
        if (rq->origin) rq->origin->answered(rq);
        list_remove(&rq->link);
        request_free(rq);
        return;
    }
    c->unfinished--;
    if (!request_is_produce(rq)) c->unfinished_others--;
    int64_t total = (int64_t)wire_writer_total(&rq->out);
    int64_t unreserved = MAX(total - rq->reserved_bytes, 0);
    rq->reserved_bytes += unreserved;
    rq->reactor->conns->reserved_bytes += unreserved;
    rq->held_bytes += total;
    c->held_bytes += total;
    conn_mark_dirty(c);
}

void request_show_pause(struct request *rq) {
    bool shown = rq->throttle_ms > 0 && !rq->no_reply && quota_answer_has_pause(rq->header.api_key, rq->header.api_version);
    if (shown && rq->out.len >= rq->body_at + sizeof(int32_t)) wire_patch_i32(&rq->out, rq->body_at, rq->throttle_ms);
}

void request_reply(struct request *rq) {
    size_t total = wire_writer_total(&rq->out);
    if (rq->out.err != OK || total < 8) {
        trace_error("request", "response of API key %d version %d cannot be encoded (%s): closing the connection",
                    rq->header.api_key, rq->header.api_version, err_str(rq->out.err));
        if (rq->conn) conn_close(rq->conn, NULL);
        rq->no_reply = true;
    } else {
        wire_patch_i32(&rq->out, 0, (int32_t)(total - 4));
        if (rq->throttle_ms > 0) request_show_pause(rq);
    }
    finish(rq);
}

void request_finish_silently(struct request *rq) {
    rq->no_reply = true;
    finish(rq);
}

void request_close(struct request *rq, const char *why) {
    if (rq->conn) refuse(rq->conn, rq, why);
    request_finish_silently(rq);
}

const char *request_peer(const struct request *rq) { return rq->origin ? rq->origin->peer : rq->conn ? rq->conn->peer : ""; }

const char *request_listener(const struct request *rq) {
    if (rq->origin) return rq->origin->listener;
    return rq->conn ? rq->conn->ticket->listener->config->name : rq->reactor->broker->config.listeners[0].name;
}

enum err request_lend(struct request *rq, struct slice s) {
    if (rq->lent_count == rq->lent_cap) {
        uint32_t cap = rq->lent_cap ? rq->lent_cap * 2 : 8;
        struct slice *grown = realloc(rq->lent, cap * sizeof *grown);
        if (!grown) {
            buf_unref(s.buf);
            return ERR_NOMEM;
        }
        rq->lent = grown;
        rq->lent_cap = cap;
    }
    rq->lent[rq->lent_count++] = s;
    return OK;
}

/* The first half of the memory goes in large shares, nobody's more than a quarter of what is left of it; the other half
 * in shares of a batch, for the first batch of an answer goes out whole. */
uint32_t request_reserve(struct request *rq, uint64_t wanted) {
    struct conn_set *set = rq->reactor->conns;
    int64_t left = set->response_budget_bytes - set->reserved_bytes;
    int64_t large = (left - set->response_budget_bytes / 2) / 4;
    int64_t batch = MIN(RESPONSE_BATCH_BYTES, set->response_budget_bytes / 16);
    int64_t grant = MIN(MAX(large, batch), (int64_t)MIN(wanted, INT32_MAX));
    if (left < grant) {
        set->short_ns = rq->reactor->now_ns;
        if (wanted > RESPONSE_SMALL_BYTES || set->small_bytes + grant > set->response_budget_bytes / RESPONSE_LANE) return 0;
        rq->small_bytes += grant; /* there is always a way for those who want little */
        set->small_bytes += grant;
    }
    rq->reserved_bytes += grant;
    set->reserved_bytes += grant;
    return (uint32_t)grant;
}
