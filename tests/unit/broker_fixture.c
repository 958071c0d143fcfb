#include "tests/unit/broker_fixture.h"
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include "server/acceptor.h"
#include "server/reactor.h"

enum { TURNS_MAX = 200000, WAIT_TURNS = 60 };

/* ---- broker --------------------------------------------------------------------------------------- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static struct io *io_new(void) {
    char why[256];
    struct io_config config = {.pooled_recv_buffers = 8};
    const char *which = getenv("VARVE_TEST_IO");
    struct io *io = which && strcmp(which, "blocking") == 0 ? NULL : io_uring_create(&config, why, sizeof why);
    if (!io) io = io_blocking_create(&config, why, sizeof why);
    ck_assert_ptr_nonnull(io);
    return io;
}

static void on_ready(void *ctx, enum err err, const char *why) {
    struct fixture *f = ctx;
    ck_assert_msg(err == OK, "%s", why);
    f->ready = true;
}

void fixture_turn(struct fixture *f) {
    for (int i = 0; i < FIXTURE_REACTORS; i++)
        reactor_turn(&f->b.reactors[i], f->b.reactors[i].now_ns + (i ? 0 : 300000));
}

static void settings_apply(struct config_builder *b, const char *text) {
    char why[512];
    enum err err = config_add_properties(b, "test", text, strlen(text), why, sizeof why);
    ck_assert_msg(err == OK, "%s", why);
}

static void open_broker(struct fixture *f) {
    struct config config;
    char text[512], why[512];
    struct config_builder *b = config_builder_new();
    snprintf(text, sizeof text, "log.dirs=%s\nlisteners=127.0.0.1:0\nnode.id=%d\nreactors=%d\njournal.bytes=16777216\n"
             "tail.bytes=4194304\ndisk.reserve.bytes=0\nshutdown.timeout.ms=2000\n", f->dir, FIXTURE_ID,
                 FIXTURE_REACTORS);
    settings_apply(b, text);
    if (f->settings) settings_apply(b, f->settings);
    ck_assert_msg(config_finish(b, &config, why, sizeof why) == OK, "%s", why);
    config_builder_free(b);
    ck_assert_int_eq(broker_init(&f->b, &config), OK);
    for (int i = 0; i < FIXTURE_REACTORS; i++) {
        f->ios[i] = io_new();
        ck_assert_int_eq(reactor_init(&f->b.reactors[i], f->ios[i]), OK);
    }
    ck_assert_msg(broker_open(&f->b, &f->recovery, why, sizeof why) == OK, "%s", why);
    f->ready = false;
    broker_start(&f->b, &f->recovery, on_ready, f);
    for (int i = 0; i < TURNS_MAX && !f->ready; i++) fixture_turn(f);
    ck_assert(f->ready);
    f->port = ntohs(((struct sockaddr_in *)(void *)&broker_acceptor(&f->b)->listeners[0].addr)->sin_port);
}

static void close_broker(struct fixture *f) {
    for (int i = 0; i < FIXTURE_REACTORS; i++) reactor_close(&f->b.reactors[i]);
    broker_close(&f->b);
    for (int i = 0; i < FIXTURE_REACTORS; i++) io_destroy(f->ios[i]);
}

static void stop_broker(struct fixture *f) {
    broker_stop(&f->b);
    for (int i = 0; i < TURNS_MAX && !broker_ended(&f->b); i++) fixture_turn(f);
    ck_assert(broker_ended(&f->b) && broker_clean(&f->b));
    close_broker(f);
}

void fixture_start(struct fixture *f, const char *settings) {
    memset(f, 0, sizeof *f);
    f->settings = settings;
    strcpy(f->dir, "/tmp/varve-test-api-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(f->dir));
    open_broker(f);
}

void fixture_stop(struct fixture *f) {
    stop_broker(f);
    nftw(f->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

void fixture_restart(struct fixture *f) {
    stop_broker(f);
    open_broker(f);
}

/* ---- client ------------------------------------------------------------------------------------------ */

void client_open(struct client *c, struct fixture *f) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(f->port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    memset(c, 0, sizeof *c);
    c->f = f;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(c->fd, (struct sockaddr *)&to, sizeof to), 0);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    arena_init(&c->arena, 64 << 20);
    for (int i = 0; i < 5; i++) fixture_turn(f);
}

void client_close(struct client *c) {
    close(c->fd);
    arena_free(&c->arena);
    wire_writer_free(&c->out);
    free(c->in);
}

struct wire_writer *client_begin(struct client *c, int16_t key, int16_t version) {
    wire_writer_free(&c->out);
    wire_writer_init(&c->out, 128 << 20);
    c->key = key;
    c->version = version;
    struct kafka_request_header h = {key, version, ++c->correlation, STR_LIT("test")};
    wire_put_i32(&c->out, 0);
    kafka_request_header_write(&c->out, &h);
    return &c->out;
}

void client_send(struct client *c) {
    ck_assert_int_eq(c->out.err, OK);
    wire_patch_i32(&c->out, 0, (int32_t)(c->out.len - 4));
    size_t sent = 0;
    for (int i = 0; i < TURNS_MAX && sent < c->out.len; i++) {
        ssize_t n = send(c->fd, c->out.data + sent, c->out.len - sent, MSG_NOSIGNAL);
        if (n > 0) sent += (size_t)n;
        else ck_assert_int_eq(errno, EAGAIN);
        if (sent < c->out.len) fixture_turn(c->f);
    }
    ck_assert_uint_eq(sent, c->out.len);
}

/* False: the connection ended. */
static bool receive(struct client *c, void *p, size_t len) {
    size_t got = 0;
    for (int i = 0; i < TURNS_MAX && got < len; i++) {
        ssize_t n = read(c->fd, (char *)p + got, len - got);
        if (n == 0 || (n < 0 && errno != EAGAIN)) return false;
        if (n > 0) got += (size_t)n;
        else fixture_turn(c->f);
    }
    ck_assert_msg(got == len, "no response");
    return true;
}

bool client_receive(struct client *c, struct wire_reader *r) {
    uint8_t size[4];
    int32_t correlation;
    if (!receive(c, size, sizeof size)) return false;
    size_t len = load_be32(size);
    free(c->in);
    c->in = malloc(len);
    if (!receive(c, c->in, len)) return false;
    arena_reset(&c->arena);
    *r = wire_reader_init(c->in, len, &c->arena);
    ck_assert_int_eq(kafka_response_header_read(r, c->key, c->version, &correlation), OK);
    ck_assert_int_eq(correlation, c->correlation);
    return true;
}

bool client_waits(struct client *c) {
    char byte;
    for (int i = 0; i < WAIT_TURNS; i++) fixture_turn(c->f);
    return recv(c->fd, &byte, 1, MSG_PEEK) < 0 && errno == EAGAIN;
}

bool client_is_closed(struct client *c) {
    char byte;
    return !receive(c, &byte, 1);
}

/* ---- short forms ------------------------------------------------------------------------------------------ */

int64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int16_t create_topic_with(struct client *c, const char *name, int32_t partitions, const char *config,
                          const char *value) {
    struct k_create_topics_request q;
    struct k_create_topics_response a;
    struct k_create_topics_request_topics t;
    struct k_create_topics_request_topics_configs kv = {str_from(config), str_from(value)};
    k_create_topics_request_init(&q);
    k_create_topics_request_topics_init(&t);
    t.name = str_from(name);
    t.num_partitions = partitions;
    t.replication_factor = -1;
    t.configs = &kv;
    t.configs_n = config ? 1 : 0;
    q.topics = &t;
    q.topics_n = 1;
    CALL(c, KEY_CREATE_TOPICS, 7, create_topics, q, a);
    ck_assert_int_eq(a.topics_n, 1);
    return a.topics[0].error_code;
}

int16_t create_topic(struct client *c, const char *name, int32_t partitions) {
    return create_topic_with(c, name, partitions, NULL, NULL);
}

struct uuid topic_id(struct client *c, const char *name) {
    struct k_metadata_request q;
    struct k_metadata_response a;
    struct k_metadata_request_topics t = {.name = str_from(name)};
    k_metadata_request_init(&q);
    q.topics = &t;
    q.topics_n = 1;
    q.allow_auto_topic_creation = false;
    CALL(c, KEY_METADATA, 12, metadata, q, a);
    ck_assert_int_eq(a.topics_n, 1);
    return a.topics[0].topic_id;
}

struct bytes make_batch(enum batch_codec codec, int32_t count, int32_t value_bytes, int64_t timestamp) {
    struct batch_builder b;
    uint8_t *value = malloc((size_t)value_bytes + 1), *out;
    size_t len;
    memset(value, 'v', (size_t)value_bytes + 1);
    batch_builder_init(&b, codec, 64 << 20);
    for (int32_t i = 0; i < count; i++) {
        struct bytes key = {(const uint8_t *)"key", 3};
        ck_assert_int_eq(batch_builder_add(&b, timestamp, key, (struct bytes){value, value_bytes}, NULL, 0), OK);
    }
    ck_assert_int_eq(batch_builder_finish(&b, &out, &len), OK);
    batch_builder_free(&b);
    free(value);
    return (struct bytes){out, (int32_t)len};
}

void produce_send(struct client *c, const char *topic, int32_t partition, struct bytes records, int16_t acks,
                  int16_t version) {
    struct k_produce_request q;
    struct k_produce_request_topic_data t = {.name = str_from(topic)};
    struct k_produce_request_topic_data_partition_data p = {partition, records};
    k_produce_request_init(&q);
    q.acks = acks;
    q.timeout_ms = 0; /* the leader's own append is not subject to it */
    t.partition_data = &p;
    t.partition_data_n = 1;
    q.topic_data = &t;
    q.topic_data_n = 1;
    k_produce_request_encode(&q, client_begin(c, KEY_PRODUCE, version), version);
    client_send(c);
}

struct produced produce_receive(struct client *c, int16_t version) {
    struct k_produce_response a;
    struct wire_reader r;
    ck_assert_msg(client_receive(c, &r), "connection closed");
    ck_assert_int_eq(k_produce_response_decode(&a, &r, version), OK);
    ck_assert_int_eq(a.responses_n, 1);
    ck_assert_int_eq(a.responses[0].partition_responses_n, 1);
    const struct k_produce_response_responses_partition_responses *p = &a.responses[0].partition_responses[0];
    return (struct produced){p->error_code, p->base_offset, p->log_append_time_ms, p->log_start_offset,
                             p->error_message, p->record_errors_n};
}

struct produced produce(struct client *c, const char *topic, int32_t partition, struct bytes records) {
    produce_send(c, topic, partition, records, -1, 12);
    return produce_receive(c, 12);
}

void fetch_send(struct client *c, const char *topic, int32_t partition, int64_t offset, int32_t min_bytes,
                int32_t max_wait_ms) {
    struct k_fetch_request q;
    struct k_fetch_request_topics t = {.topic = str_from(topic)};
    struct k_fetch_request_topics_partitions p;
    k_fetch_request_init(&q);
    k_fetch_request_topics_partitions_init(&p);
    q.max_wait_ms = max_wait_ms;
    q.min_bytes = min_bytes;
    q.max_bytes = INT32_MAX;
    p.partition = partition;
    p.fetch_offset = offset;
    p.partition_max_bytes = 1 << 20;
    t.partitions = &p;
    t.partitions_n = 1;
    q.topics = &t;
    q.topics_n = 1;
    k_fetch_request_encode(&q, client_begin(c, KEY_FETCH, 12), 12);
    client_send(c);
}

struct fetched fetch_receive(struct client *c) {
    struct k_fetch_response a;
    struct wire_reader r;
    ck_assert_msg(client_receive(c, &r), "connection closed");
    ck_assert_int_eq(k_fetch_response_decode(&a, &r, 12), OK);
    ck_assert_int_eq(a.responses_n, 1);
    ck_assert_int_eq(a.responses[0].partitions_n, 1);
    const struct k_fetch_response_responses_partitions *p = &a.responses[0].partitions[0];
    ck_assert_ptr_nonnull(p->records.p);
    return (struct fetched){p->error_code, p->high_watermark, p->log_start_offset, p->records};
}

struct fetched fetch(struct client *c, const char *topic, int32_t partition, int64_t offset) {
    fetch_send(c, topic, partition, offset, 0, 0);
    return fetch_receive(c);
}
