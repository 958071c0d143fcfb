/* group_coordinator.c - finding the coordinator of a group, and a connection of our own to it: a
 * JoinGroup may wait there for minutes, and nothing else can be answered behind it. */
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/group_impl.h"
#include "proto/kafka_errors.h"
#include "proto/kafka_messages.h"

enum { VERSION_WITH_KEYS = 4 /* of FindCoordinator; earlier ones ask for one key */ };

/* ---- trouble ---------------------------------------------------------------------------------- */

void group_trouble(struct group *g, bool lost, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    vsnprintf(g->why, sizeof g->why, fmt, args);
    va_end(args);
    if (lost) g->coordinator_known = false;
    g->retry_at_ns = client_now_ns() + client_backoff_ns(g->client, g->failures);
    if (g->failures < 30) g->failures++;
}

void group_well(struct group *g) {
    g->failures = 0;
    g->why[0] = '\0';
}

bool group_coordinator_code(struct group *g, int16_t code, const char *what) {
    bool lost = code == KERR_NOT_COORDINATOR || code == KERR_COORDINATOR_NOT_AVAILABLE;
    if (!lost && code != KERR_COORDINATOR_LOAD_IN_PROGRESS && code != KERR_REQUEST_TIMED_OUT &&
        code != KERR_THROTTLING_QUOTA_EXCEEDED) {
        return false;
    }
    group_trouble(g, lost, "%s: %s", what, kafka_error_name(code));
    return true;
}

/* ---- finding ---------------------------------------------------------------------------------- */

static void encode_find(const void *message, struct wire_writer *w, int16_t version) {
    const struct group *g = message;
    struct k_find_coordinator_request m;
    struct str key = str_from(g->config.group);
    k_find_coordinator_request_init(&m);
    if (version >= VERSION_WITH_KEYS) {
        m.coordinator_keys = &key;
        m.coordinator_keys_n = 1;
    } else {
        m.key = key;
    }
    k_find_coordinator_request_encode(&m, w, version);
}

static void coordinator_at(struct group *g, struct str host, int32_t port) {
    enum err err = OK;
    if (host.len <= 0 || port <= 0 || port > 65535) {
        group_trouble(g, true, "FindCoordinator names no address");
        return;
    }
    if (g->conn) err = conn_move(g->conn, host, port, client_now_ns());
    else g->conn = client_add_conn(g->client, host, port);
    if (err || !g->conn) group_trouble(g, true, "out of memory");
    else g->coordinator_known = true;
}

static void find_done(void *owner, enum err err, struct client_reply *reply, struct wire_reader *body) {
    struct group_ask *ask = owner;
    struct group *g = ask->g;
    struct k_find_coordinator_response m;
    free(ask);
    if (!g) return;
    g->finding = NULL;
    if (!err) err = k_find_coordinator_response_decode(&m, body, reply->version);
    if (!err && reply->version >= VERSION_WITH_KEYS && m.coordinators_n != 1) err = ERR_CORRUPT;
    if (err) {
        group_trouble(g, true, "FindCoordinator: %s", err == ERR_CLOSED ? client_unreachable(g->client) : err_str(err));
        return;
    }
    bool many = reply->version >= VERSION_WITH_KEYS;
    int16_t code = many ? m.coordinators[0].error_code : m.error_code;
    if (code == KERR_NONE) {
        coordinator_at(g, many ? m.coordinators[0].host : m.host, many ? m.coordinators[0].port : m.port);
    } else if (group_coordinator_code(g, code, "FindCoordinator") || kafka_error_retriable(code)) {
        group_trouble(g, true, "FindCoordinator: %s", kafka_error_name(code));
    } else {
        group_fail(g, client_err_from_code(code), code, "FindCoordinator of \"%s\": %s", g->config.group, kafka_error_name(code));
    }
}

static void find(struct group *g, int64_t now_ns) {
    int16_t version;
    struct conn *any = client_any(g->client, now_ns);
    if (!any) {
        snprintf(g->why, sizeof g->why, "no broker can be reached: %s", client_unreachable(g->client));
        return;
    }
    struct group_ask *ask = calloc(1, sizeof *ask);
    enum err err = ask ? conn_version(any, API_FIND_COORDINATOR, INT16_MAX, &version) : ERR_NOMEM;
    if (!err) {
        ask->g = g;
        err = conn_submit(any, &(struct conn_message){
            .api_key = API_FIND_COORDINATOR, .version = version, .message = g, .encode = encode_find,
            .deadline_ns = now_ns + (int64_t)g->client->config.request_timeout_ms * 1000000, .done = find_done, .owner = ask});
    }
    if (!err) {
        g->finding = ask;
        return;
    }
    free(ask);
    if (err == ERR_UNSUPPORTED) group_fail(g, err, 0, "the broker serves no groups");
    else group_trouble(g, true, "FindCoordinator: %s", err_str(err));
}

struct conn *group_conn(struct group *g, int64_t now_ns, int64_t *next_ns) {
    if (g->failed) return NULL;
    if (now_ns < g->retry_at_ns) {
        *next_ns = MIN(*next_ns, g->retry_at_ns);
        return NULL;
    }
    if (!g->coordinator_known) {
        if (!g->finding) find(g, now_ns);
        return NULL;
    }
    if (conn_want(g->conn, now_ns)) return g->conn;
    if (g->conn->state == CONN_IDLE && g->conn->failures > 0) { /* it may have moved */
        group_trouble(g, true, "the coordinator: %s", g->conn->why);
        *next_ns = MIN(*next_ns, g->retry_at_ns);
    }
    return NULL;
}

/* ---- sending ---------------------------------------------------------------------------------- */

enum err group_send(struct group *g, struct conn *conn, const struct group_message *m) {
    int16_t version;
    enum err err = conn_version(conn, m->api_key, m->version_max, &version);
    if (err) return err;
    return conn_submit(conn, &(struct conn_message){
        .api_key = m->api_key, .version = version, .message = m->message, .encode = m->encode,
        .deadline_ns = m->deadline_ns, .done = m->done, .owner = g});
}

void group_forget_asks(struct group *g) {
    if (g->finding) g->finding->g = NULL;
    if (g->resolving) g->resolving->g = NULL;
    g->finding = g->resolving = NULL;
}
