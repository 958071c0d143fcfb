/* raw_consume: a reader that costs little itself: C connections fetch one partition from offset START to its
 * end (its high watermark at the first answer) and throw the bytes away.
 *
 *   raw_consume PORT PID TOPIC PARTITION CONNECTIONS START MAX_BYTES
 *
 * START -N: the last N offsets. Prints one line: fetches, MB/s, the broker's CPU seconds per GB (from
 * /proc/PID/stat, all threads). */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "proto/kafka_api.h"
#include "proto/kafka_messages.h"
#include "proto/record_batch.h"

enum { CONNECTIONS_MAX = 256, VERSION = 11, FRAME_BYTES_MAX = 128 << 20 };

struct connection {
    int fd;
    int64_t offset;              /* the next one to ask for */
    uint8_t *frame;
    size_t cap, filled;
};
struct run {
    const char *topic;
    int32_t partition, max_bytes;
    int64_t end;                 /* high watermark at the start */
    uint64_t fetches, bytes;
};

static void die(const char *what) {
    perror(what);
    exit(1);
}

static double now_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double cpu_seconds(int pid) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *f = fopen(path, "r");
    unsigned long user = 0, system = 0;
    if (f == NULL || fscanf(f, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2) die(path);
    fclose(f);
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static void ask(struct connection *c, const struct run *run) {
    struct k_fetch_request_topics_partitions p;
    k_fetch_request_topics_partitions_init(&p);
    p.partition = run->partition;
    p.fetch_offset = c->offset;
    p.partition_max_bytes = run->max_bytes;
    struct k_fetch_request_topics t;
    k_fetch_request_topics_init(&t);
    t.topic = str_from(run->topic);
    t.partitions = &p;
    t.partitions_n = 1;
    struct k_fetch_request rq;
    k_fetch_request_init(&rq);
    rq.replica_id = -1;
    rq.max_wait_ms = 100;
    rq.min_bytes = 1;
    rq.max_bytes = run->max_bytes;
    rq.session_epoch = -1;
    rq.rack_id = STR_LIT("");
    rq.topics = &t;
    rq.topics_n = 1;
    struct wire_writer w;
    wire_writer_init(&w, 65536);
    wire_put_i32(&w, 0);
    kafka_request_header_write(&w, &(struct kafka_request_header){1, VERSION, 1, STR_LIT("raw")});
    k_fetch_request_encode(&rq, &w, VERSION);
    if (w.err != OK) die("encode");
    wire_patch_i32(&w, 0, (int32_t)w.len - 4);
    if (send(c->fd, w.data, w.len, MSG_NOSIGNAL) != (ssize_t)w.len) die("send");
    wire_writer_free(&w);
    c->filled = 0;
}

/* Reads on; true when the frame is complete. */
static bool receive(struct connection *c) {
    size_t want = c->filled < 4 ? 4 : 4u + load_be32(c->frame);
    if (want > FRAME_BYTES_MAX) die("frame");
    if (want > c->cap) {
        c->frame = realloc(c->frame, want);
        if (c->frame == NULL) die("memory");
        c->cap = want;
    }
    ssize_t n = recv(c->fd, c->frame + c->filled, want - c->filled, 0);
    if (n <= 0) die("recv");
    c->filled += (size_t)n;
    return c->filled > 4 && c->filled == 4u + load_be32(c->frame);
}

/* Takes the answer apart as far as the next offset. */
static void take(struct connection *c, struct run *run) {
    struct arena arena;
    arena_init(&arena, 1 << 20);
    struct wire_reader r = wire_reader_init(c->frame + 4, c->filled - 4, &arena);
    struct k_fetch_response rs;
    int32_t id;
    k_fetch_response_init(&rs);
    if (kafka_response_header_read(&r, 1, VERSION, &id) != OK || k_fetch_response_decode(&rs, &r, VERSION) != OK) die("decode");
    if (rs.error_code != 0 || rs.responses_n != 1 || rs.responses[0].partitions_n != 1) die("answer");
    const struct k_fetch_response_responses_partitions *p = &rs.responses[0].partitions[0];
    if (p->error_code != 0) die("an error was answered");
    if (run->end < 0) run->end = p->high_watermark;
    const uint8_t *at = p->records.p;
    for (int32_t left = p->records.len; left > 0;) {
        struct batch_header h;
        if (batch_parse(at, (size_t)left, &h) != OK) break; /* the last one may be cut off */
        c->offset = batch_last_offset(&h) + 1;
        at += h.total_bytes;
        left -= (int32_t)h.total_bytes;
    }
    run->fetches++;
    run->bytes += p->records.len > 0 ? (uint64_t)p->records.len : 0;
    arena_free(&arena);
}

static int connect_to(int port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0) die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

/* Asks at offset 0 with room for one batch, to learn the end. */
static int64_t find_end(struct run *run, int port) {
    struct connection c = {.fd = connect_to(port), .frame = malloc(4), .cap = 4};
    struct run first = {run->topic, run->partition, 1, -1, 0, 0};
    ask(&c, &first);
    while (!receive(&c)) {}
    take(&c, &first);
    close(c.fd);
    free(c.frame);
    return first.end;
}

int main(int argc, char **argv) {
    if (argc != 8) {
        fprintf(stderr, "usage: raw_consume PORT PID TOPIC PARTITION CONNECTIONS START MAX_BYTES\n");
        return 2;
    }
    int port = atoi(argv[1]), pid = atoi(argv[2]), count = atoi(argv[5]), left = count;
    if (count < 1 || count > CONNECTIONS_MAX) die("arguments");
    struct run run = {argv[3], atoi(argv[4]), atoi(argv[7]), -1, 0, 0};
    run.end = find_end(&run, port);
    int64_t start = atoll(argv[6]);
    if (start < 0) start = run.end + start > 0 ? run.end + start : 0;
    struct connection *c = calloc((size_t)count, sizeof *c);
    int ep = epoll_create1(0);
    for (int i = 0; i < count; i++) {
        c[i] = (struct connection){.fd = connect_to(port), .offset = start, .frame = malloc(4), .cap = 4};
        struct epoll_event e = {.events = EPOLLIN, .data.u32 = (uint32_t)i};
        epoll_ctl(ep, EPOLL_CTL_ADD, c[i].fd, &e);
    }
    double cpu = cpu_seconds(pid), begin = now_seconds();
    for (int i = 0; i < count; i++) ask(&c[i], &run);
    struct epoll_event events[CONNECTIONS_MAX];
    while (left > 0) {
        int n = epoll_wait(ep, events, CONNECTIONS_MAX, -1);
        for (int k = 0; k < n; k++) {
            struct connection *s = &c[events[k].data.u32];
            if (!receive(s)) continue;
            take(s, &run);
            if (s->offset < run.end) ask(s, &run);
            else {
                epoll_ctl(ep, EPOLL_CTL_DEL, s->fd, NULL);
                left--;
            }
        }
    }
    double seconds = now_seconds() - begin, used = cpu_seconds(pid) - cpu, gb = (double)run.bytes / 1e9;
    printf("connections %3d fetch %8d: %8.0f requests/s %7.1f MB/s  broker %.3f CPU-s/GB %.1f us/request\n", count, run.max_bytes,
           (double)run.fetches / seconds, gb * 1e3 / seconds, used / gb, used * 1e6 / (double)run.fetches);
    return 0;
}
