/* bench.c - see bench.h. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "base/assert.h"
#include "base/bytes.h"
#include "tools/bench.h"
#include "tools/cli.h"
#include "tools/json_out.h"

enum { EVENTS = 256, FRAME_BYTES = 64 << 10, DRAIN_SECONDS = 60 };
#define SECOND_NS INT64_C(1000000000)

int64_t bench_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * SECOND_NS + t.tv_nsec;
}

/* ---- latencies ------------------------------------------------------------------------------- */

static uint32_t latency_slot(int64_t ns) {
    uint64_t v = ns > 0 ? (uint64_t)ns : 0;
    if (v < LATENCY_STEPS) return (uint32_t)v;
    uint32_t octave = 63u - (uint32_t)__builtin_clzll(v) - 6u;   /* 64..127 is octave 0 */
    uint32_t slot = (octave + 1) * LATENCY_STEPS + (uint32_t)((v >> octave) & (LATENCY_STEPS - 1));
    return MIN(slot, LATENCY_SLOTS - 1u);
}

static int64_t latency_value(uint32_t slot) {
    if (slot < LATENCY_STEPS) return slot;
    uint32_t octave = slot / LATENCY_STEPS - 1;
    return (int64_t)(LATENCY_STEPS + slot % LATENCY_STEPS) << octave;
}

void latency_add(struct latencies *l, int64_t ns) {
    l->slots[latency_slot(ns)]++;
    l->count++;
    l->max_ns = MAX(l->max_ns, ns);
}

int64_t latency_at(const struct latencies *l, double share) {
    uint64_t rank = (uint64_t)((double)l->count * share), seen = 0;
    if (rank >= l->count) return l->max_ns;
    for (uint32_t i = 0; i < LATENCY_SLOTS; i++)
        if ((seen += l->slots[i]) > rank) return MIN(latency_value(i), l->max_ns);
    return l->max_ns;
}

/* ---- the server's process -------------------------------------------------------------------- */

/* User and system seconds of all its threads, the kernel's io_uring workers included. */
static bool process_cpu(int64_t pid, double *user, double *system) {
    char path[64];
    unsigned long u = 0, s = 0;
    snprintf(path, sizeof path, "/proc/%lld/stat", (long long)pid);
    FILE *f = fopen(path, "r");
    if (!f) return false;
    int n = fscanf(f, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &u, &s);
    fclose(f);
    *user = (double)u / (double)sysconf(_SC_CLK_TCK);
    *system = (double)s / (double)sysconf(_SC_CLK_TCK);
    return n == 2;
}

static int64_t process_rss(int64_t pid) {
    char path[64], line[256];
    long long kib = -1;
    snprintf(path, sizeof path, "/proc/%lld/status", (long long)pid);
    FILE *f = fopen(path, "r");
    if (!f) return -1;
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "VmRSS: %lld", &kib) == 1) break;
    fclose(f);
    return kib < 0 ? -1 : kib * 1024;
}

/* ---- connecting ------------------------------------------------------------------------------ */

int bench_failed(const struct bench *b, const char *why) {
    fprintf(stderr, "varve %s: %s\n", b->o->command->words, why);
    return EXIT_FAILED;
}

static int find_topic(struct bench *b, const char *topic, bool create) {
    for (;;) {
        enum err err = client_describe(b->client, &topic, 1, b->o->timeout_ms, &b->cluster);
        if (err != OK) return cli_failed(b->o, b->client, err, topic);
        const struct client_topic *t = bench_topic(b);
        if (t && t->error == 0 && t->partition_count > 0) return EXIT_OK;
        client_cluster_free(b->cluster);
        b->cluster = NULL;
        struct admin_new_topic make = {.name = topic, .partitions = b->o->partitions, .replication_factor = -1};
        if (!create) return bench_failed(b, "no such topic; varve bench produce makes one");
        err = admin_create_topic(b->client, &make, b->o->timeout_ms);
        if (err != OK) return cli_failed(b->o, b->client, err, topic);
        create = false;
    }
}

const struct client_topic *bench_topic(const struct bench *b) { return b->cluster->topic_count > 0 ? &b->cluster->topics[0] : NULL; }

int bench_open(struct bench *b, const struct options *o, const char *topic, bool create) {
    int code;
    *b = (struct bench){.o = o, .epoll = -1, .rss_bytes = -1};
    if (o->server_pid > 0 && process_rss(o->server_pid) < 0) return bench_failed(b, "--server-pid: no such process on this machine");
    b->client = cli_connect(o, &code);
    if (!b->client) return code;
    code = find_topic(b, topic, create);
    if (code != EXIT_OK) return code;
    b->conn_count = (uint32_t)o->connections;
    b->conns = calloc(b->conn_count, sizeof *b->conns);
    b->epoll = epoll_create1(EPOLL_CLOEXEC);
    ASSERT(b->conns && b->epoll >= 0);
    for (uint32_t i = 0; i < b->conn_count; i++) {
        b->conns[i] = (struct bench_conn){.fd = -1, .index = i, .in_cap = FRAME_BYTES};
        b->conns[i].in = malloc(FRAME_BYTES);
        b->conns[i].started_ns = calloc((size_t)o->in_flight, sizeof(int64_t));
        ASSERT(b->conns[i].in && b->conns[i].started_ns);
    }
    return EXIT_OK;
}

static int socket_to(const char *host, int32_t port) {
    char service[16];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    int fd = -1, one = 1;
    snprintf(service, sizeof service, "%d", port);
    if (getaddrinfo(host, service, &hints, &found) != 0) return -1;
    for (struct addrinfo *a = found; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) != 0) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(found);
    if (fd < 0) return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

bool bench_connect(struct bench *b, struct bench_conn *c, int32_t broker) {
    c->broker = broker;
    for (int32_t i = 0; i < b->cluster->broker_count; i++) {
        const struct client_broker *x = &b->cluster->brokers[i];
        if (x->id != broker) continue;
        c->fd = socket_to(x->host, x->port);
        struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.u32 = c->index};
        if (c->fd >= 0 && epoll_ctl(b->epoll, EPOLL_CTL_ADD, c->fd, &e) == 0) return true;
        fprintf(stderr, "varve %s: %s:%d: %s\n", b->o->command->words, x->host, x->port, strerror(errno));
        return false;
    }
    fprintf(stderr, "varve %s: a partition has no leader\n", b->o->command->words);
    return false;
}

void bench_close(struct bench *b) {
    for (uint32_t i = 0; i < b->conn_count; i++) {
        if (b->conns[i].fd >= 0) close(b->conns[i].fd);
        free(b->conns[i].in);
        free(b->conns[i].started_ns);
    }
    free(b->conns);
    if (b->epoll >= 0) close(b->epoll);
    if (b->cluster) client_cluster_free(b->cluster);
    client_destroy(b->client);
}

/* ---- the run --------------------------------------------------------------------------------- */

static bool stop(struct bench *b, const char *why) {
    if (!*b->why) snprintf(b->why, sizeof b->why, "%s", why);
    return false;
}

/* When the connection's next request is due. Open loop: by the clock, however late the ones before are. */
static int64_t due_ns(const struct bench *b, const struct bench_conn *c) {
    if (b->interval_ns == 0) return b->begin_ns;
    return b->begin_ns + (int64_t)c->sent * b->interval_ns + b->interval_ns * c->index / b->conn_count;
}

static bool may_begin(const struct bench *b, const struct bench_conn *c, int64_t now) {
    if (c->sent - c->answered >= (uint64_t)b->o->in_flight) return false;
    int64_t due = due_ns(b, c);
    return due <= now && (b->interval_ns == 0 ? now : due) < b->end_ns;
}

static bool answer(struct bench *b, struct bench_conn *c, const uint8_t *frame, size_t len) {
    if (c->answered == c->sent) return stop(b, "an answer came that nobody asked for");
    latency_add(&b->latencies, bench_now_ns() - c->started_ns[c->answered % (uint64_t)b->o->in_flight]);
    c->answered++;
    b->requests++;
    return b->take(b, c, frame, len);
}

static bool conn_receive(struct bench *b, struct bench_conn *c) {
    for (;;) {
        ssize_t n = recv(c->fd, c->in + c->in_len, c->in_cap - c->in_len, 0);
        if (n == 0) return stop(b, "the broker closed a connection");
        if (n < 0) return errno == EAGAIN || errno == EINTR ? true : stop(b, strerror(errno));
        c->in_len += (size_t)n;
        size_t at = 0;
        while (c->in_len - at >= 4) {
            uint32_t len = load_be32(c->in + at);
            if (len > BENCH_FRAME_BYTES_MAX) return stop(b, "the broker sent a frame of an impossible length");
            if (c->in_len - at - 4 < len) {
                if (c->in_cap >= 4 + (size_t)len) break;
                c->in = realloc(c->in, 4 + (size_t)len);
                ASSERT(c->in);
                c->in_cap = 4 + (size_t)len;
                break;
            }
            if (!answer(b, c, c->in + at + 4, len)) return false;
            at += 4 + (size_t)len;
        }
        memmove(c->in, c->in + at, c->in_len - at);
        c->in_len -= at;
    }
}

static bool conn_send(struct bench *b, struct bench_conn *c, int64_t now) {
    for (;;) {
        if (!c->out) {
            if (!may_begin(b, c, now) || !b->fill(b, c)) return true;
            c->started_ns[c->sent % (uint64_t)b->o->in_flight] = b->interval_ns ? due_ns(b, c) : now;
            c->sent++;
            c->out_at = 0;
        }
        ssize_t n = send(c->fd, c->out + c->out_at, c->out_len - c->out_at, MSG_NOSIGNAL);
        if (n < 0) return errno == EAGAIN || errno == EINTR ? true : stop(b, strerror(errno));
        c->out_at += (size_t)n;
        if (c->out_at < c->out_len) continue;
        c->out = NULL;
        now = bench_now_ns();
        if (b->no_answers) {
            c->answered++;
            b->requests++;
            if (!b->take(b, c, NULL, 0)) return false;
        }
    }
}

static bool idle(const struct bench *b) {
    for (uint32_t i = 0; i < b->conn_count; i++)
        if (b->conns[i].out || b->conns[i].sent != b->conns[i].answered) return false;
    return true;
}

/* Until when there is nothing to do unless the network says so. */
static struct timespec wait_time(const struct bench *b, int64_t now) {
    int64_t until = now + SECOND_NS / 10;
    for (uint32_t i = 0; b->interval_ns && i < b->conn_count; i++) {
        const struct bench_conn *c = &b->conns[i];
        if (!c->out && c->sent - c->answered < (uint64_t)b->o->in_flight) until = MIN(until, due_ns(b, c));
    }
    int64_t ns = MAX(until - now, 0);
    return (struct timespec){ns / SECOND_NS, ns % SECOND_NS};
}

static void loop(struct bench *b) {
    struct epoll_event events[EVENTS];
    struct progress progress;
    int signals = signals_open();
    progress_init(&progress, b->o);
    for (bool more = true; more;) {
        int64_t now = bench_now_ns();
        if (signals_pending(signals)) b->end_ns = MIN(b->end_ns, now);
        for (uint32_t i = 0; more && i < b->conn_count; i++) more = conn_send(b, &b->conns[i], now);
        if (!more || idle(b)) {
            bool later = more && b->interval_ns && now < b->end_ns;   /* open loop: the next one is not due yet */
            if (!later) break;
        }
        if (now > b->end_ns + DRAIN_SECONDS * SECOND_NS) more = stop(b, "requests were not answered");
        struct timespec wait = wait_time(b, now);
        int n = epoll_pwait2(b->epoll, events, EVENTS, &wait, NULL);
        for (int k = 0; more && k < n; k++)
            if (events[k].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) more = conn_receive(b, &b->conns[events[k].data.u32]);
        progress_show(&progress, b->requests, "requests", NULL);
    }
    progress_end(&progress);
    signals_default(signals);
}

int bench_run(struct bench *b) {
    double user = 0, system = 0, user_end = 0, system_end = 0;
    const struct options *o = b->o;
    bool server = o->server_pid > 0 && process_cpu(o->server_pid, &user, &system);
    if (o->rate > 0) b->interval_ns = (int64_t)((double)SECOND_NS * b->conn_count / (double)o->rate);
    b->begin_ns = bench_now_ns();
    b->end_ns = b->begin_ns + (o->seconds > 0 ? o->seconds : INT32_MAX) * SECOND_NS;
    loop(b);
    b->end_ns = bench_now_ns();
    if (server && process_cpu(o->server_pid, &user_end, &system_end)) {
        b->cpu_user = user_end - user;
        b->cpu_system = system_end - system;
        b->rss_bytes = process_rss(o->server_pid);
    }
    return *b->why ? bench_failed(b, b->why) : EXIT_OK;
}

/* ---- the report ------------------------------------------------------------------------------ */

static const struct { const char *text, *name; double share; } PERCENTILES[] = {
    {"p50", "p50_us", 0.5}, {"p90", "p90_us", 0.9}, {"p99", "p99_us", 0.99}, {"p99.9", "p999_us", 0.999}, {"max", "max_us", 1}};

static double ratio(double a, double b) { return b > 0 ? a / b : 0; }

static void report_json(const struct bench *b, const char *what, double seconds) {
    struct json_out j;
    double gb = (double)b->bytes / 1e9, cpu = b->cpu_user + b->cpu_system;
    json_init(&j, stdout);
    json_object(&j, NULL);
    json_text(&j, "bench", what);
    json_u64(&j, "connections", b->conn_count);
    json_i64(&j, "in_flight", b->o->in_flight);
    json_i64(&j, "elapsed_us", (int64_t)(seconds * 1e6));
    json_u64(&j, "requests", b->requests);
    json_u64(&j, "records", b->records);
    json_u64(&j, "bytes", b->bytes);
    json_f64(&j, "requests_per_s", ratio((double)b->requests, seconds));
    json_f64(&j, "mb_per_s", ratio(gb * 1e3, seconds));
    json_text(&j, "loop", b->interval_ns ? "open" : "closed");
    for (size_t i = 0; i < ARRAY_LEN(PERCENTILES); i++)
        json_i64(&j, PERCENTILES[i].name, latency_at(&b->latencies, PERCENTILES[i].share) / 1000);
    if (b->rss_bytes >= 0) {
        json_object(&j, "server");
        json_i64(&j, "user_us", (int64_t)(b->cpu_user * 1e6));
        json_i64(&j, "system_us", (int64_t)(b->cpu_system * 1e6));
        json_f64(&j, "cpu_s_per_gb", ratio(cpu, gb));
        json_f64(&j, "cpu_us_per_request", ratio(cpu * 1e6, (double)b->requests));
        json_f64(&j, "cpu_s_per_million_records", ratio(cpu * 1e6, (double)b->records));
        json_i64(&j, "rss_bytes", b->rss_bytes);
        json_object_end(&j);
    }
    json_object_end(&j);
    json_line(&j);
}

static void report_text(const struct bench *b, const char *what, double seconds) {
    double gb = (double)b->bytes / 1e9, cpu = b->cpu_user + b->cpu_system;
    printf("%s\n%llu requests, %llu records, %.1f MB in %.2f s: %.0f requests/s, %.0f records/s, %.1f MB/s\n", what,
           (unsigned long long)b->requests, (unsigned long long)b->records, gb * 1e3, seconds, ratio((double)b->requests, seconds),
           ratio((double)b->records, seconds), ratio(gb * 1e3, seconds));
    printf("latency (%s):", b->interval_ns ? "open loop, from the planned time" : "closed loop");
    for (size_t i = 0; i < ARRAY_LEN(PERCENTILES) && b->latencies.count > 0; i++)
        printf(" %s %.3f ms", PERCENTILES[i].text, (double)latency_at(&b->latencies, PERCENTILES[i].share) / 1e6);
    printf("%s\n", b->latencies.count > 0 ? "" : " no answers");
    if (b->rss_bytes < 0) return;
    printf("server: %.2f s user, %.2f s system: %.3f CPU-s/GB, %.1f us/request, %.3f s for a million records; RSS %.1f MB\n", b->cpu_user,
           b->cpu_system, ratio(cpu, gb), ratio(cpu * 1e6, (double)b->requests), ratio(cpu * 1e6, (double)b->records),
           (double)b->rss_bytes / 1e6);
}

void bench_report(const struct bench *b, const char *what) {
    double seconds = (double)(b->end_ns - b->begin_ns) / 1e9;
    if (b->o->json) report_json(b, what, seconds);
    else report_text(b, what, seconds);
}
