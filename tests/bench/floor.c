/* floor: the least that a durable broker must do, for comparison in the same minute with the same client.
 *
 *   floor DIR PORT [copy]
 *
 * It takes Produce requests as `varve bench produce` sends them (all of one connection have one size), sums each with
 * CRC-32C, copies it into the open group of a journal that was zeroed beforehand, writes the group with O_DIRECT and
 * DSYNC as soon as the one before is done, and answers. One thread, one ring, registered buffers. It parses nothing, keeps
 * no offsets, and forgets everything. With `copy` the same bytes are written a second time, 512 KiB at a time, to
 * a file that grows, as a log's segments do. Beside it a thread for each other connection answers ApiVersions and Metadata. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <isa-l/crc.h>
#include <liburing.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include "proto/kafka_api.h"
#include "proto/kafka_messages.h"

enum { CONNECTIONS_MAX = 1024, GROUP_BYTES = 4 << 20, WRITE_BYTES = 512 << 10, JOURNAL_BYTES = 256 << 20, BLOCK = 4096, ENTRIES = 4096,
       ANSWER_BYTES_MAX = 256, SEGMENT_BYTES = 1 << 30, COPIES = 16, FRAME_BYTES_MAX = 4 << 20 };
enum { WRITE_DONE = CONNECTIONS_MAX, COPY_DONE, SENT, HELLO };

struct conn { int fd; uint8_t *request, answer[ANSWER_BYTES_MAX]; uint32_t bytes, answer_bytes; };
struct group { uint8_t *buf; size_t len; uint32_t *conns, count; };
static struct floor {
    struct io_uring ring;
    struct conn conns[CONNECTIONS_MAX];
    uint32_t conn_count;
    struct group groups[2];
    uint32_t open, writes;           /* the group that is being filled; writes of the other one in flight */
    uint32_t stalled[CONNECTIONS_MAX], stalled_count; /* requests that wait for room */
    int journal, segment;
    uint64_t journal_at, segment_at;
    uint8_t *copies[COPIES];         /* a ring of segment writes: [copy_first, + copy_full) wait or are on their way */
    uint32_t copy_first, copy_full;
    size_t copy_len;                 /* of the one that is being filled */
    bool copying, copy_busy;
    int hello[2];                    /* new connections come through this pipe */
    uint32_t hello_index;
    const char *dir;
    int port;
    uint32_t sum;
} f;

static _Noreturn void die(const char *what) {
    perror(what);
    exit(1);
}

static void *blocks(size_t size) {
    void *p;
    if (posix_memalign(&p, BLOCK, size) != 0) die("memory");
    memset(p, 0, size);
    return p;
}

static struct io_uring_sqe *sqe(void) {
    struct io_uring_sqe *q = io_uring_get_sqe(&f.ring);
    if (!q && io_uring_submit(&f.ring) >= 0) q = io_uring_get_sqe(&f.ring);
    if (!q) die("submission queue");
    return q;
}

/* ---- the second copy ------------------------------------------------------------------------- */

static void segment_new(void) {
    char path[4096];
    snprintf(path, sizeof path, "%s/segment", f.dir);
    if (f.segment > 0) close(f.segment);
    unlink(path);
    f.segment = open(path, O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0644);
    if (f.segment < 0) die(path);
    f.segment_at = 0;
}

static void copy_write(void) {
    if (f.copy_busy || f.copy_full == 0) return;
    if (f.segment_at + WRITE_BYTES > SEGMENT_BYTES) segment_new();
    struct io_uring_sqe *q = sqe();
    io_uring_prep_write(q, f.segment, f.copies[f.copy_first], WRITE_BYTES, f.segment_at);
    q->user_data = COPY_DONE;
    f.segment_at += WRITE_BYTES;
    f.copy_busy = true;
}

static bool copy_room(size_t len) { return !f.copying || f.copy_len + len + (size_t)f.copy_full * WRITE_BYTES < (size_t)COPIES * WRITE_BYTES; }

static void copy_bytes(const uint8_t *p, size_t len) {
    while (len > 0) {
        size_t n = len < WRITE_BYTES - f.copy_len ? len : WRITE_BYTES - f.copy_len;
        memcpy(f.copies[(f.copy_first + f.copy_full) % COPIES] + f.copy_len, p, n);
        f.copy_len += n;
        p += n;
        len -= n;
        if (f.copy_len < WRITE_BYTES) continue;
        f.copy_full++;
        f.copy_len = 0;
        copy_write();
    }
}

/* ---- journal --------------------------------------------------------------------------------- */

static void journal_open(void) {
    char path[4096];
    uint8_t *zeros = blocks(1 << 20);
    snprintf(path, sizeof path, "%s/journal", f.dir);
    f.journal = open(path, O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0644);
    if (f.journal < 0) die(path);
    for (off_t at = 0; at < JOURNAL_BYTES; at += 1 << 20)
        if (pwrite(f.journal, zeros, 1 << 20, at) != 1 << 20) die(path);
    if (fsync(f.journal) != 0) die(path);
    free(zeros);
}

static void receive(uint32_t i) {
    struct io_uring_sqe *q = sqe();
    io_uring_prep_recv(q, f.conns[i].fd, f.conns[i].request, f.conns[i].bytes, MSG_WAITALL);
    q->user_data = i;
}

/* The request of connection i joins the open group; its buffer is free for the next one. False: no room. */
static bool append(uint32_t i) {
    struct group *g = &f.groups[f.open];
    struct conn *c = &f.conns[i];
    if (g->len + c->bytes > GROUP_BYTES || g->count == ENTRIES || !copy_room(c->bytes)) return false;
    memcpy(g->buf + g->len, c->request, c->bytes);
    if (f.copying) copy_bytes(c->request, c->bytes);
    g->len += c->bytes;
    g->conns[g->count++] = i;
    receive(i);
    return true;
}

static void arrived(uint32_t i) {
    f.sum += crc32_iscsi(f.conns[i].request, (int)f.conns[i].bytes, 0);
    if (!append(i)) f.stalled[f.stalled_count++] = i;
}

static void stalled_retry(void) {
    uint32_t n = 0;
    for (uint32_t k = 0; k < f.stalled_count; k++)
        if (!append(f.stalled[k])) f.stalled[n++] = f.stalled[k];
    f.stalled_count = n;
}

static void group_submit(void) {
    struct group *g = &f.groups[f.open];
    if (f.writes > 0 || g->count == 0) return;
    size_t len = (g->len + BLOCK - 1) / BLOCK * BLOCK;
    if (f.journal_at + len > JOURNAL_BYTES) f.journal_at = 0;
    for (size_t at = 0; at < len; at += WRITE_BYTES) {
        struct io_uring_sqe *q = sqe();
        io_uring_prep_write_fixed(q, f.journal, g->buf + at, (unsigned)(len - at < WRITE_BYTES ? len - at : WRITE_BYTES), f.journal_at + at,
                                  (int)f.open);
        q->rw_flags = RWF_DSYNC;
        q->user_data = WRITE_DONE;
        f.writes++;
    }
    f.journal_at += len;
    f.open ^= 1;
}

static void group_durable(void) {
    struct group *g = &f.groups[f.open ^ 1];
    for (uint32_t k = 0; k < g->count; k++) {
        struct conn *c = &f.conns[g->conns[k]];
        struct io_uring_sqe *q = sqe();
        io_uring_prep_send(q, c->fd, c->answer, c->answer_bytes, MSG_NOSIGNAL);
        q->user_data = SENT;
        q->flags |= IOSQE_CQE_SKIP_SUCCESS;
    }
    g->count = 0;
    g->len = 0;
}

static void hello_wait(void) {
    struct io_uring_sqe *q = sqe();
    io_uring_prep_read(q, f.hello[0], &f.hello_index, sizeof f.hello_index, 0);
    q->user_data = HELLO;
}

static void complete(const struct io_uring_cqe *e) {
    switch (e->user_data) {
    case HELLO:
        arrived(f.hello_index); /* its first request is there already */
        hello_wait();
        break;
    case WRITE_DONE:
        if (e->res <= 0) die("journal write");
        if (--f.writes == 0) group_durable();
        break;
    case COPY_DONE:
        if (e->res != WRITE_BYTES) die("segment write");
        f.copy_busy = false;
        f.copy_first = (f.copy_first + 1) % COPIES;
        f.copy_full--;
        copy_write();
        break;
    case SENT: break; /* the client is gone */
    default:
        if (e->res == (int)f.conns[e->user_data].bytes) arrived((uint32_t)e->user_data);
        else close(f.conns[e->user_data].fd);
    }
}

static void *serve(void *unused) {
    struct io_uring_params p = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN};
    if (io_uring_queue_init_params(4096, &f.ring, &p) != 0) die("io_uring");
    struct iovec iov[2];
    for (int i = 0; i < 2; i++) {
        f.groups[i] = (struct group){.buf = blocks(GROUP_BYTES), .conns = calloc(ENTRIES, sizeof(uint32_t))};
        iov[i] = (struct iovec){f.groups[i].buf, GROUP_BYTES};
    }
    if (io_uring_register_buffers(&f.ring, iov, 2) != 0) die("io_uring buffers");
    hello_wait();
    for (;;) {
        struct io_uring_cqe *e;
        unsigned head, n = 0;
        stalled_retry();
        group_submit();
        stalled_retry();
        io_uring_submit_and_wait(&f.ring, 1);
        io_uring_for_each_cqe(&f.ring, head, e) {
            complete(e);
            n++;
        }
        io_uring_cq_advance(&f.ring, n);
    }
    return unused;
}

/* ---- the other requests ---------------------------------------------------------------------- */

static void put_versions(struct wire_writer *w, int16_t version) {
    static const int16_t ranges[][3] = {{0, 3, 7}, {3, 0, 4}, {18, 0, 2}};
    struct k_api_versions_response_api_keys keys[3];
    struct k_api_versions_response rs;
    k_api_versions_response_init(&rs);
    for (int i = 0; i < 3; i++) {
        k_api_versions_response_api_keys_init(&keys[i]);
        keys[i].api_key = ranges[i][0];
        keys[i].min_version = ranges[i][1];
        keys[i].max_version = ranges[i][2];
    }
    rs.api_keys = keys;
    rs.api_keys_n = 3;
    if (version > 2) rs.error_code = 35; /* answered in version 0: ask again */
    k_api_versions_response_encode(&rs, w, version > 2 ? 0 : version);
}

static void put_metadata(struct wire_writer *w, int16_t version, struct wire_reader *r) {
    struct k_metadata_request rq;
    struct k_metadata_response rs;
    struct k_metadata_response_brokers broker;
    struct k_metadata_response_topics topic;
    struct k_metadata_response_topics_partitions partition;
    int32_t one = 1;
    k_metadata_request_init(&rq);
    if (k_metadata_request_decode(&rq, r, version) != OK) die("metadata request");
    k_metadata_response_init(&rs);
    k_metadata_response_brokers_init(&broker);
    k_metadata_response_topics_init(&topic);
    k_metadata_response_topics_partitions_init(&partition);
    broker.node_id = 1;
    broker.host = STR_LIT("127.0.0.1");
    broker.port = f.port;
    partition.leader_id = 1;
    partition.replica_nodes = partition.isr_nodes = &one;
    partition.replica_nodes_n = partition.isr_nodes_n = 1;
    topic.partitions = &partition;
    topic.partitions_n = 1;
    if (rq.topics_n > 0) topic.name = rq.topics[0].name;
    rs.brokers = &broker;
    rs.brokers_n = 1;
    rs.controller_id = 1;
    rs.topics = &topic;
    rs.topics_n = rq.topics_n > 0;
    k_metadata_response_encode(&rs, w, version);
}

static void answer_other(int fd, uint8_t *frame, uint32_t len) {
    struct arena arena;
    struct wire_writer w;
    struct kafka_request_header h;
    arena_init(&arena, 1 << 20);
    struct wire_reader r = wire_reader_init(frame, len, &arena);
    if (kafka_request_header_read(&r, &h) != OK) die("request header");
    wire_writer_init(&w, 1 << 20);
    wire_put_i32(&w, 0);
    wire_put_i32(&w, h.correlation_id);
    if (h.api_key == 18) put_versions(&w, h.api_version);
    else put_metadata(&w, h.api_version, &r);
    wire_patch_i32(&w, 0, (int32_t)w.len - 4);
    if (send(fd, w.data, w.len, MSG_NOSIGNAL) != (ssize_t)w.len) die("send");
    wire_writer_free(&w);
    arena_free(&arena);
}

/* Its first request says what a connection is for. A Produce connection is handed to the ring with it. */
static bool adopt(int fd, uint8_t *request, uint32_t bytes) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    if (bytes < 128) return false;
    uint32_t name = load_be16(request + 12), topic = 14 + (name == 0xffff ? 0 : name) + 2 + 2 + 4 + 4;
    uint32_t topic_len = load_be16(request + topic);
    pthread_mutex_lock(&lock);
    uint32_t i = f.conn_count++;
    pthread_mutex_unlock(&lock);
    if (i >= CONNECTIONS_MAX || topic_len > 128) return false;
    struct conn *c = &f.conns[i];
    /* Version 7 with one topic and one partition: correlation id, 1, name, 1, index, error, base offset, append time, log start,
     * throttle time; all zero but the counts and the times. */
    *c = (struct conn){.fd = fd, .request = request, .bytes = bytes, .answer_bytes = 4 + 4 + 4 + 2 + topic_len + 4 + 30 + 4};
    store_be32(c->answer, c->answer_bytes - 4);
    memcpy(c->answer + 4, request + 8, 4);
    store_be32(c->answer + 8, 1);
    memcpy(c->answer + 12, request + topic, 2 + topic_len);
    store_be32(c->answer + 14 + topic_len, 1);
    return write(f.hello[1], &i, sizeof i) == sizeof i;
}

static void *greet(void *arg) {
    int fd = (int)(intptr_t)arg;
    for (;;) {
        uint8_t head[4];
        if (recv(fd, head, 4, MSG_WAITALL) != 4) break;
        uint32_t len = load_be32(head);
        if (len < 10 || len > FRAME_BYTES_MAX) break;
        uint8_t *frame = blocks(4 + (size_t)len);
        memcpy(frame, head, 4);
        if (recv(fd, frame + 4, len, MSG_WAITALL) != (ssize_t)len) break;
        if (load_be16(frame + 4) == 0) {
            if (!adopt(fd, frame, 4 + len)) break;
            return NULL;
        }
        answer_other(fd, frame + 4, len);
        free(frame);
    }
    close(fd);
    return NULL;
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: floor DIR PORT [copy]\n");
        return 2;
    }
    f.dir = argv[1];
    f.port = atoi(argv[2]);
    f.copying = argc > 3 && strcmp(argv[3], "copy") == 0;
    journal_open();
    for (int i = 0; i < COPIES; i++) f.copies[i] = blocks(WRITE_BYTES);
    if (f.copying) segment_new();
    if (pipe(f.hello) != 0) die("pipe");
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)f.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) != 0 || listen(listener, 1024) != 0) die("listen");
    pthread_t server;
    if (pthread_create(&server, NULL, serve, NULL) != 0) die("thread");
    for (;;) {
        pthread_t t;
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) die("accept");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (pthread_create(&t, NULL, greet, (void *)(intptr_t)fd) != 0) die("thread");
        pthread_detach(t);
    }
}
