/* tiny_broker.h - a broker in a thread for tests of libvarve: sockets, frames, ApiVersions and
 * Metadata (one broker, one topic "t"); what else it answers is the test's. */
#ifndef TESTS_UNIT_TINY_BROKER_H
#define TESTS_UNIT_TINY_BROKER_H
#include <check.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/client.h"
#include "proto/kafka_errors.h"
#include "proto/kafka_messages.h"

enum { TINY_PARTITIONS = 2, TINY_CONNS = 8, TINY_FRAME_MAX = 1 << 20 };
enum tiny_fate { TINY_ANSWER, TINY_HANG_UP, TINY_CUT_ANSWER };

struct tiny_broker {
    /* the test's; set before tiny_start() */
    void *ctx;
    enum tiny_fate (*handle)(void *ctx, const struct kafka_request_header *h, struct wire_reader *r, struct wire_writer *w);
    const struct k_api_versions_response_api_keys *apis; /* besides ApiVersions and Metadata */
    int api_count;
    struct uuid topic_id;
    size_t cut_bytes;             /* how much of an answer TINY_CUT_ANSWER lets through */
    /* its own */
    int listener, port;
    char bootstrap[64];
    int fds[TINY_CONNS];
    uint8_t *in[TINY_CONNS];
    size_t in_len[TINY_CONNS];
    atomic_bool stop;
    pthread_t thread;
};

static void tiny_metadata(const struct tiny_broker *b, struct wire_writer *w, int16_t version) {
    struct k_metadata_response m;
    struct k_metadata_response_brokers broker;
    struct k_metadata_response_topics topic;
    struct k_metadata_response_topics_partitions parts[TINY_PARTITIONS];
    k_metadata_response_init(&m);
    k_metadata_response_brokers_init(&broker);
    k_metadata_response_topics_init(&topic);
    broker.node_id = 1;
    broker.host = STR_LIT("127.0.0.1");
    broker.port = b->port;
    topic.name = STR_LIT("t");
    topic.topic_id = b->topic_id;
    for (int32_t i = 0; i < TINY_PARTITIONS; i++) {
        k_metadata_response_topics_partitions_init(&parts[i]);
        parts[i].partition_index = i;
        parts[i].leader_id = 1;
        parts[i].leader_epoch = 3;
    }
    topic.partitions = parts;
    topic.partitions_n = TINY_PARTITIONS;
    m.brokers = &broker;
    m.brokers_n = 1;
    m.controller_id = 1;
    m.topics = &topic;
    m.topics_n = 1;
    k_metadata_response_encode(&m, w, version);
}

static void tiny_versions(const struct tiny_broker *b, struct wire_writer *w, int16_t version) {
    struct k_api_versions_response m;
    struct k_api_versions_response_api_keys keys[16] = {{API_METADATA, 0, 12}, {API_API_VERSIONS, 0, 3}};
    for (int i = 0; i < b->api_count; i++) keys[2 + i] = b->apis[i];
    k_api_versions_response_init(&m);
    m.error_code = version > 3 ? KERR_UNSUPPORTED_VERSION : KERR_NONE;
    m.api_keys = keys;
    m.api_keys_n = 2 + b->api_count;
    k_api_versions_response_encode(&m, w, version > 3 ? 0 : version);
}

static enum tiny_fate tiny_answer(struct tiny_broker *b, struct wire_reader *r, struct wire_writer *w) {
    struct kafka_request_header h;
    if (kafka_request_header_read(r, &h)) abort();
    wire_put_i32(w, 0);
    kafka_response_header_write(w, h.api_key, h.api_version, h.correlation_id);
    enum tiny_fate fate = TINY_ANSWER;
    if (h.api_key == API_METADATA) tiny_metadata(b, w, h.api_version);
    else if (h.api_key == API_API_VERSIONS) tiny_versions(b, w, h.api_version);
    else fate = b->handle(b->ctx, &h, r, w);
    wire_patch_i32(w, 0, (int32_t)(w->len - 4));
    return fate;
}

static void tiny_hang_up(struct tiny_broker *b, int i) {
    close(b->fds[i]);
    b->fds[i] = -1;
    b->in_len[i] = 0;
}

static void tiny_frame(struct tiny_broker *b, int i, size_t size) {
    struct arena arena;
    struct wire_writer w;
    arena_init(&arena, 1 << 20);
    wire_writer_init(&w, 8 << 20);
    struct wire_reader r = wire_reader_init(b->in[i] + 4, size, &arena);
    enum tiny_fate fate = tiny_answer(b, &r, &w);
    if (w.err) abort();
    size_t len = fate == TINY_CUT_ANSWER ? b->cut_bytes % w.len : w.len;
    for (size_t at = 0; fate != TINY_HANG_UP && at < len;) {
        ssize_t n = send(b->fds[i], w.data + at, len - at, MSG_NOSIGNAL);
        if (n <= 0) fate = TINY_HANG_UP;
        else at += (size_t)n;
    }
    if (fate != TINY_ANSWER) tiny_hang_up(b, i);
    wire_writer_free(&w);
    arena_free(&arena);
}

static void tiny_readable(struct tiny_broker *b, int i) {
    ssize_t n = recv(b->fds[i], b->in[i] + b->in_len[i], TINY_FRAME_MAX - b->in_len[i], 0);
    if (n <= 0) {
        tiny_hang_up(b, i);
        return;
    }
    b->in_len[i] += (size_t)n;
    while (b->fds[i] >= 0 && b->in_len[i] >= 4) {
        size_t size = load_be32(b->in[i]);
        if (size + 4 > TINY_FRAME_MAX) abort();
        if (b->in_len[i] < size + 4) break;
        tiny_frame(b, i, size);
        if (b->fds[i] < 0) break;
        b->in_len[i] -= size + 4;
        memmove(b->in[i], b->in[i] + size + 4, b->in_len[i]);
    }
}

static void *tiny_serve(void *arg) {
    struct tiny_broker *b = arg;
    while (!atomic_load(&b->stop)) {
        struct pollfd fds[TINY_CONNS + 1] = {{.fd = b->listener, .events = POLLIN}};
        for (int i = 0; i < TINY_CONNS; i++) fds[i + 1] = (struct pollfd){.fd = b->fds[i], .events = POLLIN};
        if (poll(fds, TINY_CONNS + 1, 20) <= 0) continue;
        for (int i = 0; i < TINY_CONNS; i++) {
            if (fds[i + 1].fd >= 0 && fds[i + 1].revents) tiny_readable(b, i);
        }
        for (int i = 0; fds[0].revents && i < TINY_CONNS; i++) {
            if (b->fds[i] >= 0) continue;
            b->fds[i] = accept(b->listener, NULL, NULL);
            break;
        }
    }
    return NULL;
}

static void tiny_start(struct tiny_broker *b) {
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof addr;
    b->listener = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(b->listener, (struct sockaddr *)&addr, sizeof addr), 0);
    ck_assert_int_eq(listen(b->listener, 16), 0);
    ck_assert_int_eq(getsockname(b->listener, (struct sockaddr *)&addr, &len), 0);
    b->port = ntohs(addr.sin_port);
    snprintf(b->bootstrap, sizeof b->bootstrap, "127.0.0.1:%d", b->port);
    for (int i = 0; i < TINY_CONNS; i++) {
        b->fds[i] = -1;
        b->in[i] = malloc(TINY_FRAME_MAX);
    }
    atomic_store(&b->stop, false);
    ck_assert_int_eq(pthread_create(&b->thread, NULL, tiny_serve, b), 0);
}

/* After it the thread is gone, and what it wrote may be read. */
static void tiny_stop(struct tiny_broker *b) {
    atomic_store(&b->stop, true);
    pthread_join(b->thread, NULL);
    for (int i = 0; i < TINY_CONNS; i++) {
        if (b->fds[i] >= 0) close(b->fds[i]);
        free(b->in[i]);
    }
    close(b->listener);
}
#endif
