/* client.c - the client: its bootstrap list, its brokers, its loop, one exchange at a time. */
#include <ctype.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include "base/assert.h"
#include "client/core.h"

enum { POLL_FDS = 256, DEFAULT_PORT = 9092 };

/* ---- time, chance, errors --------------------------------------------------------------------- */

static int64_t clock_ns(clockid_t clock) {
    struct timespec ts;
    clock_gettime(clock, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int64_t client_now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }
int64_t client_wall_ms(void) { return clock_ns(CLOCK_REALTIME) / 1000000; }
int64_t client_deadline(int32_t timeout_ms) {
    return timeout_ms < 0 ? INT64_MAX : client_now_ns() + (int64_t)timeout_ms * 1000000;
}

uint64_t client_random(struct client *c) {
    c->random ^= c->random << 13;
    c->random ^= c->random >> 7;
    c->random ^= c->random << 17;
    return c->random;
}

int64_t client_backoff_ns(struct client *c, int32_t attempt) {
    int64_t ms = c->config.backoff_ms;
    while (attempt-- > 0 && ms < c->config.backoff_max_ms) ms *= 2;
    int64_t ns = MIN(ms, (int64_t)c->config.backoff_max_ms) * 1000000;
    return ns - ns / 5 + (int64_t)(client_random(c) % (uint64_t)(ns * 2 / 5 + 1)); /* a fifth up or down */
}

enum err client_fail(struct client *c, enum err err, int16_t code, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    vsnprintf(c->error, sizeof c->error, fmt, args);
    va_end(args);
    c->error_code = code;
    return err;
}

enum err client_fail_code(struct client *c, int16_t code, struct str message, const char *fmt, ...) {
    char what[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    bool more = message.p && message.len > 0;
    return client_fail(c, client_err_from_code(code), code, "%s: %s%s%.*s", what, kafka_error_name(code),
                       more ? ": " : "", more ? MIN(message.len, 200) : 0, more ? message.p : "");
}

const char *client_error(const struct client *c) { return c->error; }
int16_t client_error_code(const struct client *c) { return c->error_code; }

/* ---- making one ------------------------------------------------------------------------------- */

void client_config_init(struct client_config *cfg) {
    *cfg = (struct client_config){
        .bootstrap = "127.0.0.1:9092", .client_id = "varve",
        .connect_timeout_ms = 10000, .request_timeout_ms = 30000, .backoff_ms = 50, .backoff_max_ms = 1000,
        .metadata_max_age_ms = 300000, .response_bytes_max = 256u << 20};
}

static bool add_conn(struct client *c, struct conn *conn) {
    struct conn **grown = conn ? realloc(c->conns, (size_t)(c->conn_count + 1) * sizeof(struct conn *)) : NULL;
    if (!grown) {
        conn_free(conn);
        return false;
    }
    c->conns = grown;
    c->conns[c->conn_count++] = conn;
    return true;
}

/* "HOST", "HOST:PORT", "[V6]", "[V6]:PORT", or an IPv6 address alone. */
static bool parse_address(struct str s, struct str *host, int32_t *port) {
    const char *end = s.p + s.len, *colon = NULL;
    int colons = 0;
    *port = DEFAULT_PORT;
    if (s.len > 0 && s.p[0] == '[') {
        const char *close = memchr(s.p, ']', (size_t)s.len);
        if (!close || (close + 1 < end && close[1] != ':')) return false;
        *host = (struct str){s.p + 1, (int32_t)(close - s.p - 1)};
        colon = close + 1 < end ? close + 1 : NULL;
    } else {
        for (const char *p = s.p; p < end; p++) {
            if (*p != ':') continue;
            colon = p;
            colons++;
        }
        if (colons > 1) colon = NULL;
        *host = (struct str){s.p, (int32_t)((colon ? colon : end) - s.p)};
    }
    if (host->len == 0 || host->len > 255) return false;
    if (!colon) return true;
    int32_t value = 0;
    if (colon + 1 == end) return false;
    for (const char *p = colon + 1; p < end; p++) {
        if (!isdigit((unsigned char)*p)) return false;
        value = value * 10 + (*p - '0');
        if (value > 65535) return false;
    }
    *port = value;
    return value > 0;
}

static enum err add_bootstrap(struct client *c, char *why, size_t why_len) {
    const char *p = c->config.bootstrap;
    while (*p) {
        size_t len = strcspn(p, ", \t");
        struct str host;
        int32_t port;
        if (len > 0) {
            if (len > 1000 || !parse_address((struct str){p, (int32_t)len}, &host, &port)) {
                snprintf(why, why_len, "not HOST:PORT: \"%.*s\"", (int)MIN(len, (size_t)300), p);
                return ERR_INVALID;
            }
            if (!add_conn(c, conn_new(c, -1, host, port))) {
                snprintf(why, why_len, "out of memory");
                return ERR_NOMEM;
            }
        }
        p += len;
        p += strspn(p, ", \t");
    }
    if (c->conn_count > 0) return OK;
    snprintf(why, why_len, "no bootstrap address given");
    return ERR_INVALID;
}

struct client *client_create(const struct client_config *cfg, char *why, size_t why_len) {
    struct client *c = calloc(1, sizeof *c);
    if (c) {
        c->config = *cfg;
        c->config.bootstrap = strdup(cfg->bootstrap);
        c->config.client_id = strdup(cfg->client_id);
        c->metadata.controller = -1;
        list_init(&c->tasks);
        if (getrandom(&c->random, sizeof c->random, 0) != sizeof c->random) c->random = (uint64_t)client_now_ns();
        c->random |= 1;
    }
    if (!c || !c->config.bootstrap || !c->config.client_id) {
        snprintf(why, why_len, "out of memory");
        client_destroy(c);
        return NULL;
    }
    if (add_bootstrap(c, why, why_len)) {
        client_destroy(c);
        return NULL;
    }
    return c;
}

void client_destroy(struct client *c) {
    if (!c) return;
    for (int32_t i = 0; i < c->conn_count; i++) conn_free(c->conns[i]);
    free(c->conns);
    metadata_free(c);
    free((char *)c->config.bootstrap);
    free((char *)c->config.client_id);
    free(c);
}

/* ---- brokers ---------------------------------------------------------------------------------- */

struct conn *client_broker_conn(struct client *c, int32_t broker_id) {
    for (int32_t i = 0; i < c->conn_count; i++) {
        if (c->conns[i]->broker_id == broker_id) return c->conns[i];
    }
    return NULL;
}

enum err client_know_broker(struct client *c, int32_t id, struct str host, int32_t port, int64_t now_ns) {
    if (id < 0) return OK;
    struct conn *conn = client_broker_conn(c, id);
    if (conn) return conn_move(conn, host, port, now_ns);
    return add_conn(c, conn_new(c, id, host, port)) ? OK : ERR_NOMEM;
}

struct conn *client_add_conn(struct client *c, struct str host, int32_t port) {
    struct conn *conn = conn_new(c, -1, host, port);
    if (!conn || !add_conn(c, conn)) return NULL;
    conn->dedicated = true;
    return conn;
}

void client_remove_conn(struct client *c, struct conn *conn) {
    for (int32_t i = 0; i < c->conn_count; i++) {
        if (c->conns[i] != conn) continue;
        memmove(&c->conns[i], &c->conns[i + 1], (size_t)(c->conn_count - i - 1) * sizeof(struct conn *));
        c->conn_count--;
        break;
    }
    conn_free(conn);
}

/* Any that is ready; else one that is on its way; else the next in turn that may be tried. Silent ones only when there is no other. */
struct conn *client_any(struct client *c, int64_t now_ns) {
    bool coming = false;
    struct conn *silent = NULL;
    for (int32_t i = 0; i < c->conn_count; i++) {
        struct conn *conn = c->conns[i];
        if (conn->dedicated) continue;
        if (conn->state == CONN_READY && !conn->silent) return conn;
        if (conn->state == CONN_READY) silent = conn;
        coming |= conn->state != CONN_IDLE && !conn->silent;
    }
    for (int32_t i = 0; i < c->conn_count && !coming; i++) {
        struct conn *conn = c->conns[c->any_next++ % c->conn_count];
        if (c->any_next == INT32_MAX) c->any_next = 0;
        if (conn->dedicated || conn->state != CONN_IDLE) continue;
        if (now_ns < conn->retry_at_ns) {
            conn->wanted = true;
            continue;
        }
        conn_want(conn, now_ns);
        coming = conn->state != CONN_IDLE;
    }
    return coming ? NULL : silent;
}

const char *client_unreachable(const struct client *c) {
    for (int32_t i = c->conn_count - 1; i >= 0; i--) {
        if (c->conns[i]->state != CONN_READY && c->conns[i]->failures > 0) return c->conns[i]->why;
    }
    return "no broker answered in time";
}

/* ---- the loop --------------------------------------------------------------------------------- */

static int poll_timeout_ms(int64_t deadline_ns, int64_t now_ns) {
    if (deadline_ns <= now_ns) return 0;
    if (deadline_ns == INT64_MAX) return -1;
    int64_t ms = (deadline_ns - now_ns + 999999) / 1000000;
    return (int)MIN(ms, (int64_t)INT_MAX);
}

static bool expire(struct client *c, int64_t now_ns) {
    bool any = false;
    for (int32_t i = 0; i < c->conn_count; i++) {
        if (conn_deadline(c->conns[i]) > now_ns) continue;
        conn_expire(c->conns[i], now_ns);
        any = true;
    }
    return any;
}

/* More connections than POLL_FDS take turns: the start moves on. */
static void wait_and_move(struct client *c, int64_t deadline_ns, int64_t now_ns) {
    struct pollfd fds[POLL_FDS];
    struct conn *conns[POLL_FDS];
    nfds_t count = 0;
    for (int32_t i = 0; i < c->conn_count && count < POLL_FDS; i++) {
        struct conn *conn = c->conns[(i + (int32_t)(c->turns % (uint32_t)c->conn_count)) % c->conn_count];
        short events = conn_events(conn);
        deadline_ns = MIN(deadline_ns, conn_deadline(conn));
        if (!events) continue;
        conns[count] = conn;
        fds[count++] = (struct pollfd){.fd = conn->fd, .events = events};
    }
    c->turns++;
    if (poll(fds, count, poll_timeout_ms(deadline_ns, now_ns)) <= 0) return;
    now_ns = client_now_ns();
    for (nfds_t i = 0; i < count; i++) {
        if (fds[i].revents && conns[i]->fd == fds[i].fd) conn_ready(conns[i], fds[i].revents, now_ns);
    }
}

void client_turn(struct client *c, int64_t deadline_ns) {
    int64_t now_ns = client_now_ns();
    if (expire(c, now_ns)) deadline_ns = now_ns; /* something happened: do not wait for more */
    metadata_pump(c, now_ns);
    LIST_FOREACH(it, &c->tasks) {
        struct client_task *task = LIST_ENTRY(it, struct client_task, link);
        int64_t next_ns = task->pump(task, now_ns);
        deadline_ns = MIN(deadline_ns, next_ns);
    }
    wait_and_move(c, MIN(deadline_ns, metadata_deadline(c)), now_ns);
}

/* ---- one exchange ----------------------------------------------------------------------------- */

void client_reply_free(struct client_reply *reply) {
    free(reply->frame);
    arena_free(&reply->arena);
    *reply = (struct client_reply){0};
}

struct call {
    const struct client_exchange *x;
    struct client_reply *reply;
    enum err err;
    bool done, bad_answer;
};

static void call_done(void *owner, enum err err, struct client_reply *reply, struct wire_reader *body) {
    struct call *call = owner;
    call->done = true;
    call->err = err;
    if (err) return;
    call->err = call->x->decode(call->x->response, body, reply->version);
    call->bad_answer = call->err != OK;
    if (call->err) return;
    *call->reply = *reply;
    *reply = (struct client_reply){0};
}

/* A ready connection to where the exchange wants to go, within the time. */
static struct conn *reach(struct client *c, int32_t broker, int64_t deadline_ns) {
    for (;;) {
        int64_t now_ns = client_now_ns();
        struct conn *conn = NULL;
        if (broker == CLIENT_ANY) {
            conn = client_any(c, now_ns);
        } else {
            int32_t id = broker == CLIENT_CONTROLLER ? c->metadata.controller : broker;
            if (id < 0 && c->metadata.answers > 0 && (conn = client_any(c, now_ns))) return conn; /* it will pass it on */
            struct conn *known = id >= 0 ? client_broker_conn(c, id) : NULL;
            if (known && conn_want(known, now_ns)) conn = known;
            if (!known || known->failures > 0) metadata_want(c); /* it may have moved, or the role has */
        }
        if (conn || now_ns >= deadline_ns) return conn;
        client_turn(c, deadline_ns);
    }
}

static enum err call_until(struct client *c, const struct client_exchange *x, int64_t deadline_ns,
                           struct client_reply *reply) {
    const struct kafka_api *api = kafka_api_by_key(x->api_key);
    ASSERT(api);
    struct conn *conn = reach(c, x->broker, deadline_ns);
    if (!conn) return client_fail(c, ERR_CLOSED, 0, "no broker can be reached: %s", client_unreachable(c));
    int16_t version;
    if (conn_version(conn, x->api_key, x->version_max, &version)) {
        return client_fail(c, ERR_UNSUPPORTED, 0, "the broker does not serve %s at a version that we know", api->name);
    }
    struct call call = {.x = x, .reply = reply};
    int64_t request_ns = (int64_t)c->config.request_timeout_ms * 1000000;
    enum err err = conn_submit(conn, &(struct conn_message){
        .api_key = x->api_key, .version = version, .message = x->request, .encode = x->encode,
        .deadline_ns = MIN(deadline_ns, client_now_ns() + request_ns), .done = call_done, .owner = &call});
    if (err) {
        return client_fail(c, err, 0, "%s version %d: the request cannot be encoded: %s", api->name, version,
                           err_str(err));
    }
    while (!call.done) client_turn(c, INT64_MAX); /* ends: the request has a deadline */
    if (call.bad_answer) {
        return client_fail(c, ERR_CORRUPT, 0, "the answer to %s version %d does not parse", api->name, version);
    }
    if (call.err) return client_fail(c, call.err, 0, "%s: %s", api->name, conn->why);
    return OK;
}

enum err client_call(struct client *c, const struct client_exchange *x, int32_t timeout_ms,
                     struct client_reply *reply) {
    return call_until(c, x, client_deadline(timeout_ms), reply);
}

bool client_pause(struct client *c, int32_t attempt, int64_t deadline_ns) {
    int64_t until_ns = MIN(deadline_ns, client_now_ns() + client_backoff_ns(c, attempt));
    while (client_now_ns() < until_ns) client_turn(c, until_ns);
    return client_now_ns() < deadline_ns;
}

enum err client_ask(struct client *c, const struct client_exchange *x, int64_t deadline_ns,
                    struct client_reply *reply) {
    for (int32_t attempt = 0;; attempt++) {
        enum err err = call_until(c, x, deadline_ns, reply);
        if (err != ERR_CLOSED && err != ERR_TIMEOUT) return err;
        if (!client_pause(c, attempt, deadline_ns)) return err;
    }
}
