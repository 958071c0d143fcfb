/* bench.h - what `varve bench produce` and `varve bench consume` share: connections that cost little
 * themselves, the clock, latencies, the server's CPU time, and the report.
 *
 * One thread, one epoll. A command gives two callbacks: `fill` puts the next request on a connection
 * that has room for one, `take` gets a whole answer. Requests are encoded beforehand where possible, so
 * that what is measured is the broker and the kernel, not the generator. */
#ifndef TOOLS_BENCH_H
#define TOOLS_BENCH_H
#include "client/client.h"
#include "tools/options.h"

enum { BENCH_FRAME_BYTES_MAX = 256 << 20 };

/* Times in nanoseconds, kept to 1.6 % in 64 steps for each power of two: p99.9 of any number of samples. */
enum { LATENCY_STEPS = 64, LATENCY_SLOTS = LATENCY_STEPS * 42 };
struct latencies { uint64_t slots[LATENCY_SLOTS]; uint64_t count; int64_t max_ns; };
void latency_add(struct latencies *l, int64_t ns);
int64_t latency_at(const struct latencies *l, double share);   /* share 0.5: the median; 0 without samples */

struct bench;
struct bench_conn {
    int fd;
    uint32_t index;
    int32_t broker;
    /* sending */
    const uint8_t *out;           /* borrowed until the request is sent; NULL: nothing on its way */
    size_t out_len, out_at;
    /* in flight, oldest first: when each was sent, or should have been (open loop) */
    int64_t *started_ns;
    uint64_t sent, answered;
    bool waiting_answer;          /* false for requests that are never answered (acks=0) */
    /* receiving */
    uint8_t *in;
    size_t in_cap, in_len;
    void *state;                  /* the command's */
};

struct bench {
    const struct options *o;
    struct client *client;
    struct client_cluster *cluster;
    struct bench_conn *conns;
    uint32_t conn_count;
    int epoll;
    /* The next request of `c`: sets c->out and c->out_len. False: it has none (for now, or any more). */
    bool (*fill)(struct bench *b, struct bench_conn *c);
    /* One answer, without its length: a view until the call returns. False: the run is over, b->why says why. */
    bool (*take)(struct bench *b, struct bench_conn *c, const uint8_t *frame, size_t len);
    void *run;                    /* the command's */
    bool no_answers;
    /* The run */
    int64_t begin_ns, end_ns;     /* no request begins at or after the end */
    int64_t interval_ns;          /* open loop: between two requests of one connection; 0: closed loop */
    uint64_t requests, records, bytes;   /* answered */
    struct latencies latencies;
    char why[256];                /* what ended it */
    /* The server, when its pid is known (--server-pid) */
    double cpu_user, cpu_system;  /* seconds during the run */
    int64_t rss_bytes;            /* at the end; -1 unknown */
};

/* Connects to the cluster and asks about the topic, which is made with --partitions if there is none and `create`.
 * An exit code; the reason was printed. */
int bench_open(struct bench *b, const struct options *o, const char *topic, bool create);
const struct client_topic *bench_topic(const struct bench *b);
/* Connection `c` gets a socket to that broker. */
bool bench_connect(struct bench *b, struct bench_conn *c, int32_t broker);
/* Runs until the time is up, fill() has no more and everything is answered, or something failed: an exit code. */
int bench_run(struct bench *b);
/* Prints what was measured; `what` says what was sent or read. */
void bench_report(const struct bench *b, const char *what);
void bench_close(struct bench *b);
int64_t bench_now_ns(void);
int bench_failed(const struct bench *b, const char *why);   /* prints; EXIT_FAILED */

int cmd_bench_produce(const struct options *o);
int cmd_bench_consume(const struct options *o);
#endif
