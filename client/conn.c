#include "client/conn.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "client/core.h"
#include "proto/kafka_errors.h"
#include "proto/kafka_messages.h"

enum {
    REQUEST_BYTES_MAX = 512 << 20,
    ARENA_BYTES_MIN = 64 << 10, ARENA_EXPANSION = 64 /* decoded arrays against their encoding */
};

struct conn *conn_new(struct client *c, int32_t broker_id, struct str host, int32_t port) {
    struct conn *conn = calloc(1, sizeof *conn);
    if (!conn) return NULL;
    conn->client = c;
    conn->broker_id = broker_id;
    conn->host = strndup(host.p, (size_t)host.len);
    conn->port = port;
    conn->fd = -1;
    conn->asking_version = INT16_MAX;
    list_init(&conn->unsent);
    list_init(&conn->unanswered);
    if (conn->host) return conn;
    free(conn);
    return NULL;
}

static void forget_addresses(struct conn *conn) {
    if (conn->addresses) freeaddrinfo(conn->addresses);
    conn->addresses = conn->address = NULL;
}

void conn_free(struct conn *conn) {
    if (!conn) return;
    conn_close(conn, client_now_ns(), ERR_CLOSED, "the client is going away");
    forget_addresses(conn);
    free(conn->host);
    free(conn);
}

enum err conn_move(struct conn *conn, struct str host, int32_t port, int64_t now_ns) {
    if (str_is(host, conn->host) && port == conn->port) return OK;
    char *copy = strndup(host.p, (size_t)host.len);
    if (!copy) return ERR_NOMEM;
    conn_close(conn, now_ns, ERR_CLOSED, "the broker moved to another address");
    forget_addresses(conn);
    free(conn->host);
    conn->host = copy;
    conn->port = port;
    conn->failures = 0;
    conn->retry_at_ns = now_ns;
    return OK;
}

/* ---- requests --------------------------------------------------------------------------------- */

static void request_finish(struct conn *conn, struct request *r, enum err err, struct client_reply *reply,
                           struct wire_reader *body) {
    list_remove(&r->link);
    conn->in_flight--;
    r->done(r->owner, err, reply, body);
    free(r->frame);
    free(r);
}

static void fail_all(struct conn *conn, struct list *requests, enum err err) {
    while (!list_empty(requests)) {
        request_finish(conn, LIST_ENTRY(requests->next, struct request, link), err, NULL, NULL);
    }
}

void conn_close(struct conn *conn, int64_t now_ns, enum err err, const char *fmt, ...) {
    if (conn->fd >= 0) close(conn->fd);
    conn->fd = -1;
    va_list args;
    va_start(args, fmt);
    vsnprintf(conn->why, sizeof conn->why, fmt, args);
    va_end(args);
    free(conn->frame);
    conn->frame = NULL;
    conn->head_bytes = conn->frame_bytes = conn->frame_size = 0;
    bool connecting = conn->state == CONN_CONNECTING;
    if (conn->state == CONN_ASKING_VERSIONS) {
        /* Some brokers hang up on a version they do not know: the oldest one next time, then again the newest. */
        conn->asking_version = conn->asking_version == 0 ? INT16_MAX : 0;
    }
    conn->state = CONN_IDLE;
    conn->silent = conn->gone = false;
    if (connecting && conn->address) {
        conn->retry_at_ns = now_ns; /* the name has another address */
    } else {
        conn->retry_at_ns = now_ns + client_backoff_ns(conn->client, conn->failures++);
    }
    fail_all(conn, &conn->unanswered, err);
    fail_all(conn, &conn->unsent, err);
}

enum err conn_version(const struct conn *conn, int16_t api_key, int16_t version_max, int16_t *out) {
    const struct kafka_api *ours = kafka_api_by_key(api_key);
    if (api_key >= KAFKA_OWN_KEYS_FIRST) { /* not listed: a broker that does not know it closes the connection */
        *out = 0;
        return OK;
    }
    ASSERT(ours && api_key < CONN_API_KEYS);
    int16_t max = MIN(MIN(ours->max_version, conn->apis[api_key].max), version_max);
    if (max < ours->min_version || max < conn->apis[api_key].min) return ERR_UNSUPPORTED;
    *out = max;
    return OK;
}

static enum err encode(struct conn *conn, const struct conn_message *m, struct request *r) {
    struct wire_writer w;
    wire_writer_init(&w, REQUEST_BYTES_MAX);
    struct kafka_request_header header = {
        .api_key = m->api_key, .api_version = m->version, .correlation_id = conn->next_correlation_id,
        .client_id = str_from(conn->client->config.client_id)};
    wire_put_i32(&w, 0);
    kafka_request_header_write(&w, &header);
    m->encode(m->message, &w, m->version);
    if (!w.err) wire_patch_i32(&w, 0, (int32_t)(w.len - 4));
    if (w.err) {
        enum err err = w.err;
        wire_writer_free(&w);
        return err;
    }
    r->frame = w.data; /* the buffer is ours now */
    r->frame_bytes = w.len;
    return OK;
}

static enum err submit(struct conn *conn, const struct conn_message *m) {
    struct request *r = calloc(1, sizeof *r);
    if (!r) return ERR_NOMEM;
    enum err err = encode(conn, m, r);
    if (err) {
        free(r);
        return err;
    }
    r->api_key = m->api_key;
    r->version = m->version;
    r->correlation_id = conn->next_correlation_id;
    conn->next_correlation_id = conn->next_correlation_id == INT32_MAX ? 0 : conn->next_correlation_id + 1;
    r->unanswered = m->unanswered;
    r->deadline_ns = m->deadline_ns;
    r->done = m->done;
    r->owner = m->owner;
    list_push_back(&conn->unsent, &r->link);
    if (conn->in_flight++ == 0) conn->heard_ns = client_now_ns();
    return OK;
}

enum err conn_submit(struct conn *conn, const struct conn_message *m) {
    ASSERT(conn->state == CONN_READY);
    return submit(conn, m);
}

/* ---- ApiVersions ------------------------------------------------------------------------------ */

static void ask_versions(struct conn *conn, int64_t now_ns);

static void remember_apis(struct conn *conn, const struct k_api_versions_response *m) {
    for (int i = 0; i < CONN_API_KEYS; i++) conn->apis[i].max = -1;
    for (int32_t i = 0; i < m->api_keys_n; i++) {
        int16_t key = m->api_keys[i].api_key;
        if (key < 0 || key >= CONN_API_KEYS) continue;
        conn->apis[key].min = m->api_keys[i].min_version;
        conn->apis[key].max = m->api_keys[i].max_version;
    }
}

/* The reply to a version that the broker lacks has the body of version 0, whatever was asked, and
 * tells the range that would do (KIP-511). */
static enum err read_versions(struct wire_reader *body, int16_t version, struct k_api_versions_response *m) {
    struct wire_reader again = *body;
    if (version > 0 && wire_get_i16(&again) == KERR_UNSUPPORTED_VERSION) version = 0;
    return k_api_versions_response_decode(m, body, version);
}

static void versions_done(void *owner, enum err err, struct client_reply *reply, struct wire_reader *body) {
    struct conn *conn = owner;
    if (err) return; /* the connection is closing */
    struct k_api_versions_response m;
    int64_t now_ns = client_now_ns();
    err = read_versions(body, reply->version, &m);
    if (err) {
        conn_close(conn, now_ns, ERR_CORRUPT, "%s:%d: the ApiVersions response does not parse", conn->host, conn->port);
        return;
    }
    remember_apis(conn, &m);
    if (m.error_code == KERR_UNSUPPORTED_VERSION && conn->asking_version > 0) {
        int16_t offered = conn->apis[API_API_VERSIONS].max;
        conn->asking_version = (int16_t)MAX(0, MIN(offered, conn->asking_version - 1));
        ask_versions(conn, now_ns);
    } else if (m.error_code != KERR_NONE) {
        conn_close(conn, now_ns, ERR_UNSUPPORTED, "%s:%d: ApiVersions: %s", conn->host, conn->port,
                   kafka_error_name(m.error_code));
    } else {
        conn->state = CONN_READY;
        conn->failures = 0;
    }
}

static void encode_versions(const void *message, struct wire_writer *w, int16_t version) {
    k_api_versions_request_encode(message, w, version);
}

static void ask_versions(struct conn *conn, int64_t now_ns) {
    struct k_api_versions_request m;
    k_api_versions_request_init(&m);
    m.client_software_name = STR_LIT("libvarve");
    m.client_software_version = STR_LIT(VARVE_VERSION);
    conn->state = CONN_ASKING_VERSIONS;
    conn->asking_version = MIN(conn->asking_version, kafka_api_by_key(API_API_VERSIONS)->max_version);
    enum err err = submit(conn, &(struct conn_message){
        .api_key = API_API_VERSIONS, .version = conn->asking_version, .message = &m, .encode = encode_versions,
        .deadline_ns = now_ns + (int64_t)conn->client->config.request_timeout_ms * 1000000,
        .done = versions_done, .owner = conn});
    if (err) conn_close(conn, now_ns, err, "%s:%d: ApiVersions: %s", conn->host, conn->port, err_str(err));
}

/* ---- connecting ------------------------------------------------------------------------------- */

static int look_up(struct conn *conn) {
    char port[16];
    snprintf(port, sizeof port, "%d", conn->port);
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    forget_addresses(conn);
    int res = getaddrinfo(conn->host, port, &hints, &conn->addresses);
    if (res != 0) { /* AI_ADDRCONFIG hides ::1 and 127.0.0.1 on a machine without a network */
        hints.ai_flags = 0;
        res = getaddrinfo(conn->host, port, &hints, &conn->addresses);
    }
    if (res != 0) conn->addresses = NULL;
    conn->address = conn->addresses;
    return res;
}

static void begin(struct conn *conn, int64_t now_ns) {
    if (!conn->address) {
        int res = look_up(conn);
        if (res != 0) {
            conn_close(conn, now_ns, ERR_CLOSED, "%s: %s", conn->host, gai_strerror(res));
            return;
        }
    }
    const struct addrinfo *a = conn->address;
    conn->address = a->ai_next;
    conn->state = CONN_CONNECTING;
    conn->wanted = conn->silent = conn->gone = false; /* `wanted`: until somebody asks again */
    conn->heard_ns = now_ns;
    conn->connect_deadline_ns = now_ns + (int64_t)conn->client->config.connect_timeout_ms * 1000000;
    conn->fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int one = 1;
    if (conn->fd < 0 || setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) < 0 ||
        (connect(conn->fd, a->ai_addr, a->ai_addrlen) < 0 && errno != EINPROGRESS)) {
        conn_close(conn, now_ns, ERR_CLOSED, "%s:%d: %s", conn->host, conn->port, strerror(errno));
    }
}

bool conn_want(struct conn *conn, int64_t now_ns) {
    if (conn->state == CONN_READY) return true;
    conn->wanted = true;
    if (conn->state == CONN_IDLE && now_ns >= conn->retry_at_ns) begin(conn, now_ns);
    return false;
}

static void connected(struct conn *conn, int64_t now_ns) {
    int error = 0;
    socklen_t len = sizeof error;
    if (getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0) error = errno;
    if (error) {
        conn_close(conn, now_ns, ERR_CLOSED, "%s:%d: %s", conn->host, conn->port, strerror(error));
        return;
    }
    forget_addresses(conn); /* the next time the name may mean another machine */
    ask_versions(conn, now_ns);
}

/* ---- moving bytes ----------------------------------------------------------------------------- */

static void hung_up(struct conn *conn, int64_t now_ns, ssize_t n, const char *doing) {
    if (n == 0) conn_close(conn, now_ns, ERR_CLOSED, "%s:%d: the broker closed the connection", conn->host, conn->port);
    else conn_close(conn, now_ns, ERR_CLOSED, "%s:%d: %s: %s", conn->host, conn->port, doing, strerror(errno));
}

static void write_some(struct conn *conn, int64_t now_ns) {
    while (!list_empty(&conn->unsent)) {
        struct request *r = LIST_ENTRY(conn->unsent.next, struct request, link);
        ssize_t n = send(conn->fd, r->frame + r->sent_bytes, r->frame_bytes - r->sent_bytes, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return;
        if (n < 0) {
            hung_up(conn, now_ns, n, "send");
            return;
        }
        r->sent_bytes += (size_t)n;
        if (r->sent_bytes < r->frame_bytes) continue;
        free(r->frame);
        r->frame = NULL;
        if (r->unanswered) {
            request_finish(conn, r, OK, NULL, NULL);
        } else {
            list_remove(&r->link);
            list_push_back(&conn->unanswered, &r->link);
        }
    }
}

/* The frame belongs to the oldest request without an answer. Ownership of it passes on. */
static void deliver(struct conn *conn, int64_t now_ns) {
    struct client_reply reply = {.frame = conn->frame};
    size_t size = conn->frame_size;
    conn->frame = NULL;
    conn->head_bytes = conn->frame_bytes = conn->frame_size = 0;
    struct request *r = list_empty(&conn->unanswered) ? NULL : LIST_ENTRY(conn->unanswered.next, struct request, link);
    int32_t correlation_id = 0;
    bool bad = true;
    struct wire_reader body;
    if (r) {
        arena_init(&reply.arena, ARENA_BYTES_MIN + size * ARENA_EXPANSION);
        reply.version = r->version;
        body = wire_reader_init(reply.frame, size, &reply.arena);
        bad = kafka_response_header_read(&body, r->api_key, r->version, &correlation_id) ||
            correlation_id != r->correlation_id;
    }
    if (bad) {
        conn_close(conn, now_ns, ERR_CORRUPT, "%s:%d: an answer to nothing that was asked", conn->host, conn->port);
    } else {
        request_finish(conn, r, OK, &reply, &body);
    }
    client_reply_free(&reply);
}

static bool head_complete(struct conn *conn, int64_t now_ns) {
    int32_t size = (int32_t)load_be32(conn->head);
    if (size < 4 || (uint32_t)size > conn->client->config.response_bytes_max) {
        conn_close(conn, now_ns, ERR_CORRUPT, "%s:%d: a frame of %d bytes; is this a Kafka port without TLS?",
                   conn->host, conn->port, size);
        return false;
    }
    conn->frame_size = (size_t)size;
    conn->frame = malloc(conn->frame_size);
    if (!conn->frame) {
        conn_close(conn, now_ns, ERR_NOMEM, "%s:%d: no memory for a frame of %d bytes", conn->host, conn->port, size);
    }
    return conn->frame != NULL;
}

static void read_some(struct conn *conn, int64_t now_ns) {
    while (conn->fd >= 0) {
        bool head = conn->head_bytes < sizeof conn->head;
        uint8_t *to = head ? conn->head + conn->head_bytes : conn->frame + conn->frame_bytes;
        size_t want = head ? sizeof conn->head - conn->head_bytes : conn->frame_size - conn->frame_bytes;
        ssize_t n = recv(conn->fd, to, want, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) {
            hung_up(conn, now_ns, n, "receive");
            return;
        }
        conn->heard_ns = now_ns;
        conn->silent = conn->gone = false;
        if (head) {
            conn->head_bytes += (size_t)n;
            if (conn->head_bytes == sizeof conn->head && !head_complete(conn, now_ns)) return;
        } else {
            conn->frame_bytes += (size_t)n;
            if (conn->frame_bytes == conn->frame_size) deliver(conn, now_ns);
        }
        if ((size_t)n < want) return; /* the socket is empty now */
    }
}

short conn_events(const struct conn *conn) {
    if (conn->state == CONN_IDLE) return 0;
    if (conn->state == CONN_CONNECTING) return POLLOUT;
    return list_empty(&conn->unsent) ? POLLIN : POLLIN | POLLOUT;
}

void conn_ready(struct conn *conn, short revents, int64_t now_ns) {
    if (conn->state == CONN_CONNECTING) {
        if (revents & (POLLOUT | POLLERR | POLLHUP)) connected(conn, now_ns);
        return;
    }
    if (conn->fd >= 0 && revents & (POLLIN | POLLERR | POLLHUP)) read_some(conn, now_ns);
    if (conn->fd >= 0 && revents & POLLOUT) write_some(conn, now_ns);
}

/* Requests are in the order of sending; deadlines may not be, so all are looked at (they are few). */
static int64_t earliest(const struct list *requests, int64_t best) {
    LIST_FOREACH(it, requests) best = MIN(best, LIST_ENTRY(it, struct request, link)->deadline_ns);
    return best;
}

/* When silence begins to be worth a question. */
static int64_t silent_at(const struct conn *conn) {
    bool waits = conn->state == CONN_CONNECTING || conn->in_flight > 0;
    return waits && !conn->silent ? conn->heard_ns + CONN_SILENT_NS : INT64_MAX;
}

/* When what it waits for is given up. */
static int64_t given_up_at(const struct conn *conn) {
    if (conn->state == CONN_CONNECTING) return conn->connect_deadline_ns;
    return earliest(&conn->unsent, earliest(&conn->unanswered, INT64_MAX));
}

int64_t conn_deadline(const struct conn *conn) {
    if (conn->state == CONN_IDLE) return conn->wanted ? conn->retry_at_ns : INT64_MAX;
    return conn->gone ? 0 : MIN(silent_at(conn), given_up_at(conn));
}

void conn_expire(struct conn *conn, int64_t now_ns) {
    if (conn_deadline(conn) > now_ns) return;
    if (conn->state == CONN_IDLE) {
        begin(conn, now_ns);
    } else if (conn->gone) {
        conn_close(conn, now_ns, ERR_CLOSED, "%s:%d: no answer, and the other brokers say that it is down", conn->host, conn->port);
    } else if (given_up_at(conn) <= now_ns) {
        conn_close(conn, now_ns, ERR_TIMEOUT, "%s:%d: %s", conn->host, conn->port,
                   conn->state == CONN_CONNECTING ? "connecting took too long" : "no answer in time");
    } else {
        conn->silent = true;
        metadata_want(conn->client);
    }
}
