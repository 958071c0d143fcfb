/* main.c - varved: arguments, signals, threads. The only place that knows of a process.
 *
 * Each reactor's thread makes its own io (an io_uring belongs to the thread that uses it). Reactor 0's
 * thread opens the broker while the others wait; then all turn until the broker has ended. The main
 * thread waits for signals. */
#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>
#include "base/trace.h"
#include "server/cluster.h"
#include "server/options.h"
#include "server/reactor.h"

extern char **environ;

enum { EXIT_FAILED = 1, EXIT_USAGE = 2 };
/* Descriptors. Others: standard streams, lock, catalogue, listeners, a file that is opened for a moment; each reactor has a
 * ring or epoll, its wake-up and the like; a writer of segments needs its files at once, or it waits. */
enum { OTHER_FILES = 12, JOURNAL_PIECE_SHIFT = 24, JOURNAL_PIECES_MIN = 16, REACTOR_FILES = 8, WRITER_FILES = 4,
       OPEN_FILES_MAX = 65536, CONNECTIONS_FEW = 1000, CONNECTIONS_LEAST = 4 };
#define LARGE_BLOCK_BYTES (4 << 20)
#define WAIT_NS_MAX 3600000000000 /* a turn without any deadline; nothing depends on it */

struct process {
    struct broker broker;
    struct log_recovery recovery;
    pthread_barrier_t barrier;
    int ended_fd;                      /* eventfd: reactor 0 has ended */
    pthread_mutex_t stop_lock;         /* a signal may ask the broker to stop only while it cannot go away */
    bool over;                         /* under stop_lock: it is going away */
    char io_why[256];
    bool opened;                       /* the data directory is open; written before a barrier */
    bool failed;                       /* start or stop failed; written by reactor 0's thread before ended_fd, or at a barrier */
    bool uring_failed;
    int64_t start_ns;
};
struct thread { struct process *process; struct reactor *reactor; pthread_t id; char why[256]; bool failed; };

/* ---- start lines ------------------------------------------------------------------------- */

static void uuid_text(const struct uuid *u, char out[23]) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    unsigned bits = 0, have = 0, n = 0;
    for (int i = 0; i < 16; i++) {
        bits = bits << 8 | u->b[i];
        for (have += 8; have >= 6; have -= 6) out[n++] = digits[bits >> (have - 6) & 63];
    }
    out[n++] = digits[bits << (6 - have) & 63];
    out[n] = 0;
}

static void say_opened(const struct process *p) {
    const struct broker *b = &p->broker;
    const struct log_recovery *rec = &p->recovery;
    char id[23] = "(none yet)";
    struct uuid cluster;
    if (cluster_id(b, &cluster)) uuid_text(&cluster, id);
    trace_info("broker", "varved " VARVE_VERSION ", node %d of cluster %s, data in %s", b->config.node_id, id, b->config.data_dir);
    trace_info("broker", "I/O: %s, %u reactor%s (%s)", b->reactors[0].io->v->name, b->reactor_count,
               b->reactor_count == 1 ? "" : "s", p->io_why);
    trace_info("broker", "memory: at most %lld MiB (memory.max.bytes): recent batches %lld, requests %lld, responses %lld; the rest is for the state of "
               "topics, producers and connections", (long long)(b->config.memory_max_bytes >> 20), (long long)(b->config.tail_bytes >> 20),
               (long long)(b->config.queued_max_request_bytes >> 20), (long long)(b->config.queued_max_response_bytes >> 20));
    if (b->config.relaxed)
        trace_warn("broker", "durability: RELAXED: records are acknowledged before the device has them; a power cut may lose them");
    else trace_info("broker", "durability: synced: records are on the device before they are acknowledged");
    if (rec->fresh) trace_info("broker", "recovery: the data directory is new");
    else
        trace_info("broker", "recovery: %.1f ms after %s: %" PRIu64 " journal groups (%" PRIu64 " bytes), %u partitions",
                   (double)rec->elapsed_ns / 1e6, rec->clean ? "a clean stop" : "an unclean stop", rec->journal_groups,
                   rec->journal_bytes, rec->logs);
    if (rec->faulty_logs) trace_warn("broker", "%u partitions are damaged and are not served where they are", rec->faulty_logs);
}

/* From reactor 0's loop. */
static void on_ready(void *ctx, enum err err, const char *why) {
    struct process *p = ctx;
    if (err != OK) {
        trace_error("broker", "%s", why);
        p->failed = true;
        broker_stop(&p->broker);
        return;
    }
    char listens[512];
    broker_listens_text(&p->broker, listens, sizeof listens);
    trace_info("broker", "ready: listening on %s, started in %.1f ms", listens,
               (double)(io_mono_ns(p->broker.reactors[0].io) - p->start_ns) / 1e6);
}

/* ---- reactors ---------------------------------------------------------------------------- */

static struct io *io_make(struct process *p, const char *backend, char *why, size_t why_len) {
    struct io_config config = {.pooled_recv_buffers = 256, .ring_entries = 2048};
    char uring_why[160];
    if (strcmp(backend, "blocking") != 0) {
        struct io *io = io_uring_create(&config, uring_why, sizeof uring_why);
        if (io || strcmp(backend, "io_uring") == 0) {
            snprintf(why, why_len, "%s", io ? "the kernel offers it" : uring_why);
            return io;
        }
        p->uring_failed = true;
        struct io *blocking = io_blocking_create(&config, why, why_len);
        if (blocking) snprintf(why, why_len, "io_uring does not work here: %s", uring_why);
        return blocking;
    }
    struct io *io = io_blocking_create(&config, why, why_len);
    if (io) snprintf(why, why_len, "io.backend=blocking");
    return io;
}

static bool io_ready(struct thread *t) {
    struct io *io = io_make(t->process, t->process->broker.config.io_backend, t->why, sizeof t->why);
    if (!io) return false;
    if (reactor_init(t->reactor, io) == OK) return true;
    snprintf(t->why, sizeof t->why, "out of memory");
    return false;
}

/* Reactor 0's thread, while the others wait at the barrier. */
static void open_broker(struct process *p, const struct thread *threads) {
    char why[1024];
    for (uint32_t i = 0; i < p->broker.reactor_count; i++) {
        if (!threads[i].failed) continue;
        trace_error("broker", "reactor %u cannot do I/O: %s", i, threads[i].why);
        p->failed = true;
        return;
    }
    snprintf(p->io_why, sizeof p->io_why, "%s", threads[0].why);
    enum err err = broker_open(&p->broker, &p->recovery, why, sizeof why);
    if (err == OK) {
        p->opened = true;
        say_opened(p);
        return;
    }
    trace_error("broker", "%s", why);
    p->failed = true;
}

static void *reactor_main(void *arg) {
    struct thread *t = arg;
    struct process *p = t->process;
    struct reactor *r = t->reactor;
    bool first = r->index == 0;
    char name[16];
    snprintf(name, sizeof name, "reactor-%u", r->index);
    pthread_setname_np(pthread_self(), name);
    t->failed = !io_ready(t);
    pthread_barrier_wait(&p->barrier); /* all have their io */
    if (first) open_broker(p, t);
    pthread_barrier_wait(&p->barrier); /* opened, or not */
    if (p->opened) { /* not `failed`: the first may have failed to start meanwhile, and needs the others to stop */
        if (first) broker_start(&p->broker, &p->recovery, on_ready, p);
        while (!broker_ended(&p->broker)) reactor_turn(r, r->now_ns + WAIT_NS_MAX);
    }
    if (first) {
        pthread_mutex_lock(&p->stop_lock);
        p->over = true;
        pthread_mutex_unlock(&p->stop_lock);
    }
    bool clean = !p->failed && broker_clean(&p->broker);
    struct io *io = r->io;
    pthread_barrier_wait(&p->barrier); /* nobody turns any more */
    if (clean) reactor_close(r);
    pthread_barrier_wait(&p->barrier);
    if (first && clean) broker_close(&p->broker);
    pthread_barrier_wait(&p->barrier); /* closed: what it used may go */
    if (clean) io_destroy(io);
    if (first) {
        if (!clean) p->failed = true;
        uint64_t one = 1;
        if (write(p->ended_fd, &one, sizeof one) < 0) abort(); /* an eventfd takes it */
    }
    return NULL;
}

/* ---- process ----------------------------------------------------------------------------- */

/* The soft limit is raised to the hard one, and divided: what connections take, files must not miss. False: too few to
 * work with. */
static bool open_files_share(struct config *config) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return true;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) trace_warn("broker", "the open-file limit could not be raised: %s", strerror(errno));
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return true;
    int64_t most = (int64_t)MIN(limit.rlim_cur, (rlim_t)INT32_MAX);
    int64_t others = OTHER_FILES + MAX(config->journal_bytes >> JOURNAL_PIECE_SHIFT, JOURNAL_PIECES_MIN) + config->reactors * (int64_t)REACTOR_FILES;
    int64_t left = most - others, least = config->reactors * (int64_t)WRITER_FILES + CONNECTIONS_LEAST;
    if (left < least) {
        trace_error("broker", "the open-file limit of %" PRId64 " is too low: %d reactors need %" PRId64 " descriptors at least (ulimit -n, LimitNOFILE=, or fewer reactors)",
                    most, config->reactors, others + least);
        return false;
    }
    if (config->open_files_max == 0) config->open_files_max = (int32_t)MAX(MIN(left / 2, OPEN_FILES_MAX), config->reactors * WRITER_FILES);
    int32_t connections = (int32_t)MAX(left - config->open_files_max, CONNECTIONS_LEAST);
    if (connections >= config->max_connections) return true;
    config->max_connections = connections;
    if (connections < CONNECTIONS_FEW)
        trace_warn("broker", "the open-file limit of %" PRId64 " allows %d connections and %d open segment files", most, connections,
                   config->open_files_max);
    return true;
}

/* Waits for the broker's end; a first SIGTERM or SIGINT asks for it, a second one does not wait. */
static void signals_serve(struct process *p, int signal_fd) {
    bool asked = false;
    struct pollfd fds[2] = {{signal_fd, POLLIN, 0}, {p->ended_fd, POLLIN, 0}};
    for (;;) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR) abort();
        uint64_t one;
        if (fds[1].revents && read(p->ended_fd, &one, sizeof one) == (ssize_t)sizeof one) return;
        struct signalfd_siginfo info;
        if (!fds[0].revents || read(signal_fd, &info, sizeof info) != (ssize_t)sizeof info) continue;
        if (asked) {
            trace_warn("broker", "second signal: stopping at once; the next start recovers");
            _exit(EXIT_FAILED);
        }
        asked = true;
        trace_info("broker", "%s: stopping", info.ssi_signo == SIGTERM ? "SIGTERM" : "SIGINT");
        pthread_mutex_lock(&p->stop_lock);
        if (!p->over) broker_stop(&p->broker);
        pthread_mutex_unlock(&p->stop_lock);
    }
}

static int run(struct config *config) {
    struct process p = {.ended_fd = eventfd(0, EFD_CLOEXEC), .stop_lock = PTHREAD_MUTEX_INITIALIZER};
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL); /* inherited by the reactors */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);               /* a file at its size limit is an error of the write */
    int signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    p.start_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    if (!open_files_share(config)) return EXIT_FAILED;
    uint32_t count = (uint32_t)config->reactors;
    struct thread *threads = calloc(count, sizeof *threads);
    if (p.ended_fd < 0 || signal_fd < 0 || !threads || broker_init(&p.broker, config) != OK ||
        pthread_barrier_init(&p.barrier, NULL, count) != 0) {
        trace_error("broker", "the process has no memory or descriptors to start with");
        return EXIT_FAILED;
    }
    for (uint32_t i = 0; i < count; i++) {
        threads[i] = (struct thread){.process = &p, .reactor = &p.broker.reactors[i]};
        if (pthread_create(&threads[i].id, NULL, reactor_main, &threads[i]) == 0) continue;
        trace_error("broker", "a thread could not be made: %s", strerror(errno));
        _exit(EXIT_FAILED); /* threads made before wait for it; nothing was opened */
    }
    signals_serve(&p, signal_fd);
    if (p.failed) _exit(EXIT_FAILED);       /* as after a crash: the next start recovers */
    for (uint32_t i = 0; i < count; i++) pthread_join(threads[i].id, NULL);
    free(threads);
    trace_info("broker", "stopped cleanly");
    return EXIT_SUCCESS;
}

static void reference_put(void *ctx, const char *text) { fputs(text, ctx); }

static void diagnostics_setup(const struct config *config) {
    enum trace_format format = strcmp(config->log_format, "json") == 0     ? TRACE_JSON
                               : strcmp(config->log_format, "logfmt") == 0 ? TRACE_LOGFMT
                                                                           : TRACE_TEXT;
    enum trace_level level = TRACE_INFO;
    (void)trace_level_parse(config->log_level, &level); /* the configuration has checked it */
    trace_setup(level, format, STDERR_FILENO);
}

int main(int argc, char **argv) {
    struct config config;
    enum options_action action;
    char why[1024], summary[256];
    if (options_read(argc, argv, environ, &action, &config, summary, sizeof summary, why, sizeof why) != OK) {
        fprintf(stderr, "varved: %s\n", why);
        return EXIT_USAGE;
    }
    switch (action) {
    case OPTIONS_HELP: fputs(options_help, stdout); return EXIT_SUCCESS;
    case OPTIONS_VERSION: puts("varved " VARVE_VERSION); return EXIT_SUCCESS;
    case OPTIONS_REFERENCE: config_print_reference(reference_put, stdout); return EXIT_SUCCESS;
    case OPTIONS_RUN: break;
    }
    diagnostics_setup(&config);
    /* A larger block goes back to the system when it is freed; smaller ones are used again without new page faults. Left
     * alone the allocator would move this border up to 32 MiB and keep what once was needed. */
    mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES);
    mallopt(M_TRIM_THRESHOLD, 2 * LARGE_BLOCK_BYTES);
    if (summary[0]) trace_info("config", "%s", summary);
    return run(&config);
}
