/* raw_produce: a generator that costs little itself: sends one pre-encoded Produce request again
 * and again over C connections with D in flight each, and counts answers.
 *
 *   raw_produce PORT PID TOPIC CONNECTIONS DEPTH BATCH_BYTES TOTAL_MB [PARTITIONS]
 *
 * Prints one line: requests, MB/s, the broker's CPU seconds per GB and microseconds per request (from
 * /proc/PID/stat, all threads), and the median and 99th percentile of the time from send to answer
 * (closed loop: it says how groups behave, not what an open-loop client sees). */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
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

enum { CONNECTIONS_MAX = 256, DEPTH_MAX = 256, ANSWER_BYTES_MAX = 4096 };

struct connection {
    int fd;
    size_t sent_bytes;           /* of the request being sent */
    uint64_t started, answered;
    int64_t started_ns[DEPTH_MAX];
    uint8_t answer[ANSWER_BYTES_MAX];
    size_t answer_len;
    struct wire_writer request;
};

static void die(const char *what) {
    perror(what);
    exit(1);
}

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
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

static void encode_request(struct wire_writer *w, const char *topic, int32_t partition, size_t batch_bytes) {
    struct batch_builder b;
    batch_builder_init(&b, CODEC_NONE, batch_bytes + 4096);
    uint8_t value[1024];
    for (size_t i = 0; i < sizeof value; i++) value[i] = (uint8_t)(i * 37);
    while (batch_builder_bytes(&b) + sizeof value < batch_bytes || b.record_count == 0) {
        size_t left = batch_bytes - batch_builder_bytes(&b);
        int32_t len = (int32_t)(left < sizeof value ? (left > 16 ? left - 16 : 1) : sizeof value);
        if (batch_builder_add(&b, 1700000000000, BYTES_NULL, (struct bytes){value, len}, NULL, 0) != OK) die("batch");
    }
    uint8_t *batch;
    size_t len;
    if (batch_builder_finish(&b, &batch, &len) != OK) die("batch");
    struct k_produce_request_topic_data_partition_data p;
    k_produce_request_topic_data_partition_data_init(&p);
    p.index = partition;
    p.records = (struct bytes){batch, (int32_t)len};
    struct k_produce_request_topic_data t;
    k_produce_request_topic_data_init(&t);
    t.name = str_from(topic);
    t.partition_data = &p;
    t.partition_data_n = 1;
    struct k_produce_request rq;
    k_produce_request_init(&rq);
    rq.acks = -1;
    rq.timeout_ms = 30000;
    rq.topic_data = &t;
    rq.topic_data_n = 1;
    wire_writer_init(w, 200u << 20);
    wire_put_i32(w, 0);
    kafka_request_header_write(w, &(struct kafka_request_header){0, 7, 1, STR_LIT("raw")});
    k_produce_request_encode(&rq, w, 7);
    if (w->err != OK) die("encode");
    wire_patch_i32(w, 0, (int32_t)w->len - 4);
    free(batch);
    batch_builder_free(&b);
}

static int compare(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    if (argc < 8) {
        fprintf(stderr, "usage: raw_produce PORT PID TOPIC CONNECTIONS DEPTH BATCH_BYTES TOTAL_MB [PARTITIONS]\n");
        return 2;
    }
    int port = atoi(argv[1]), pid = atoi(argv[2]), count = atoi(argv[4]), depth = atoi(argv[5]);
    size_t batch_bytes = (size_t)atol(argv[6]);
    uint64_t total = ((uint64_t)atol(argv[7]) << 20) / batch_bytes;
    int partitions = argc > 8 ? atoi(argv[8]) : 1;
    if (count < 1 || count > CONNECTIONS_MAX || depth < 1 || depth > DEPTH_MAX || total == 0 || partitions < 1) die("arguments");
    struct connection *c = calloc((size_t)count, sizeof *c);
    int64_t *latency = malloc((total + CONNECTIONS_MAX) * sizeof *latency);
    int ep = epoll_create1(0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (int i = 0; i < count; i++) {
        c[i].fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(c[i].fd, (struct sockaddr *)&to, sizeof to) != 0) die("connect");
        int one = 1;
        setsockopt(c[i].fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        fcntl(c[i].fd, F_SETFL, O_NONBLOCK);
        encode_request(&c[i].request, argv[3], i % partitions, batch_bytes);
        struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.u32 = (uint32_t)i};
        epoll_ctl(ep, EPOLL_CTL_ADD, c[i].fd, &e);
    }
    uint64_t issued = 0, done = 0;
    double cpu = cpu_seconds(pid);
    int64_t begin = now_ns();
    struct epoll_event events[CONNECTIONS_MAX];
    while (done < total) {
        int n = epoll_wait(ep, events, CONNECTIONS_MAX, -1);
        for (int k = 0; k < n; k++) {
            struct connection *s = &c[events[k].data.u32];
            for (;;) {
                ssize_t got = recv(s->fd, s->answer + s->answer_len, sizeof s->answer - s->answer_len, 0);
                if (got == 0) die("the broker closed the connection");
                if (got < 0) break;
                s->answer_len += (size_t)got;
                size_t at = 0;
                while (s->answer_len - at >= 4 && s->answer_len - at >= 4u + load_be32(s->answer + at)) {
                    /* v7: correlation 4, topics 4, name 2+n, partitions 4, index 4, error 2 */
                    const uint8_t *name = s->answer + at + 12;
                    if (load_be16(name + 2 + load_be16(name) + 8) != 0) die("an error was answered");
                    latency[done++] = now_ns() - s->started_ns[s->answered++ % (uint64_t)depth];
                    at += 4u + load_be32(s->answer + at);
                }
                memmove(s->answer, s->answer + at, s->answer_len - at);
                s->answer_len -= at;
            }
            while (s->sent_bytes > 0 || (s->started - s->answered < (uint64_t)depth && issued < total)) {
                if (s->sent_bytes == 0) {
                    s->started_ns[s->started++ % (uint64_t)depth] = now_ns();
                    issued++;
                }
                ssize_t put = send(s->fd, s->request.data + s->sent_bytes, s->request.len - s->sent_bytes, MSG_NOSIGNAL);
                if (put < 0 && errno != EAGAIN) die("send");
                if (put < 0) break;
                s->sent_bytes += (size_t)put;
                if (s->sent_bytes < s->request.len) break;
                s->sent_bytes = 0;
            }
        }
    }
    double seconds = (double)(now_ns() - begin) / 1e9, used = cpu_seconds(pid) - cpu;
    double gb = (double)total * (double)batch_bytes / 1e9;
    qsort(latency, done, sizeof *latency, compare);
    printf("connections %3d depth %2d batch %7zu: %8.0f requests/s %7.1f MB/s  broker %.3f CPU-s/GB %.1f us/request  p50 %lld us p99 %lld us\n",
           count, depth, batch_bytes, (double)total / seconds, gb * 1e3 / seconds, used / gb, used * 1e6 / (double)total,
           (long long)latency[done / 2] / 1000, (long long)latency[done * 99 / 100] / 1000);
    return 0;
}
