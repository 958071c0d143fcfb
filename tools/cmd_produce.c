/* cmd_produce.c - varve produce: each line of standard input becomes a record.
 *
 * The loop never leaves a record lying: when no input is there it moves what waits; when nothing
 * waits it sleeps until input comes. Exit code 0 says that every line was acknowledged. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include "base/assert.h"
#include "tools/cli.h"
#include "tools/json_out.h"

enum { READ_BYTES = 256 << 10, LINE_BYTES_MAX = 256 << 20, POLL_MS = 10, FAILURES_SHOWN = 5 };

struct produce {
    const struct options *o;
    struct client *client;
    struct producer *producer;
    struct progress progress;
    struct json_out json;
    uint64_t lines, acknowledged, failed;
    bool finished;                /* nothing more can be sent */
    char *buf;                    /* input not yet sent: [begin, end) of cap */
    size_t begin, end, cap;
    size_t scanned;               /* no delimiter lies before it */
};

static void failure(struct produce *p, const char *what) {
    if (++p->failed > FAILURES_SHOWN) return;
    progress_end(&p->progress);
    fprintf(stderr, "varve produce: %s\n", what);
}

/* One that is acknowledged, at once, for whoever reads along. */
static void acknowledged(struct produce *p, const struct producer_report *r) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
    if (p->o->json) {
        json_object(&p->json, NULL);
        json_u64(&p->json, "line", r->tag);
        json_i64(&p->json, "partition", r->partition);
        json_i64(&p->json, "offset", r->offset);
        json_i64(&p->json, "acknowledged_ms", ms);
        json_object_end(&p->json);
        json_line(&p->json);
    } else {
        printf("%llu %d %lld %lld\n", (unsigned long long)r->tag, r->partition, (long long)r->offset, (long long)ms);
    }
}

static void report(void *ctx, const struct producer_report *r) {
    struct produce *p = ctx;
    char text[512];
    if (r->err == OK) {
        p->acknowledged++;
        if (p->o->report) acknowledged(p, r);
        return;
    }
    snprintf(text, sizeof text, "line %llu: %s", (unsigned long long)r->tag, r->message ? r->message : err_str(r->err));
    failure(p, text);
}

/* ---- lines ------------------------------------------------------------------------------- */

static struct bytes value_of(const struct options *o, const char *text, size_t len) {
    if (len == 0 && o->null_empty) return BYTES_NULL;
    return (struct bytes){(const uint8_t *)text, (int32_t)len};
}

static void send_line(struct produce *p, const char *line, size_t len) {
    const struct options *o = p->o;
    struct producer_record record = {
        .topic = o->args[0], .partition = o->partition >= 0 ? o->partition : PARTITION_ANY, .key = BYTES_NULL,
        .headers = o->headers, .header_count = o->header_count, .timestamp_ms = -1, .tag = ++p->lines,
    };
    const char *split = o->key_delimiter.p ? memmem(line, len, o->key_delimiter.p, (size_t)o->key_delimiter.len) : NULL;
    if (split) {
        record.key = value_of(o, line, (size_t)(split - line));
        len -= (size_t)(split - line) + (size_t)o->key_delimiter.len;
        line = split + o->key_delimiter.len;
    }
    record.value = value_of(o, line, len);
    enum err err = producer_send(p->producer, &record);
    if (err == OK) return;
    char text[512];
    snprintf(text, sizeof text, "line %llu: %s", (unsigned long long)p->lines, client_error(p->client));
    failure(p, text);
    p->finished = err != ERR_TOO_LARGE; /* the next line would fare no better */
}

static void send_lines(struct produce *p) {
    const struct bytes *d = &p->o->delimiter;
    while (!p->finished) {
        char *from = p->buf + p->scanned;
        char *at = memmem(from, p->end - p->scanned, d->p, (size_t)d->len);
        if (!at) break;
        send_line(p, p->buf + p->begin, (size_t)(at - (p->buf + p->begin)));
        p->begin = p->scanned = (size_t)(at - p->buf) + (size_t)d->len;
    }
    /* The delimiter may have come in part. */
    size_t tail = MIN((size_t)d->len - 1, p->end - p->begin);
    p->scanned = MAX(p->begin, p->end - tail);
}

/* Reads once; false at the end of the input. */
static bool read_input(struct produce *p) {
    if (p->begin > 0 && p->cap - p->end < READ_BYTES) {
        memmove(p->buf, p->buf + p->begin, p->end - p->begin);
        p->end -= p->begin;
        p->scanned -= p->begin;
        p->begin = 0;
    }
    if (p->cap - p->end < READ_BYTES) {
        size_t cap = MAX(2 * p->cap, (size_t)(2 * READ_BYTES));
        char *buf = cap <= LINE_BYTES_MAX ? realloc(p->buf, cap) : NULL;
        if (!buf) {
            failure(p, "a line is too long for memory");
            p->finished = true;
            return false;
        }
        p->buf = buf;
        p->cap = cap;
    }
    ssize_t n = read(STDIN_FILENO, p->buf + p->end, p->cap - p->end);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return true;
    if (n < 0) {
        fprintf(stderr, "varve produce: reading standard input failed: %s\n", strerror(errno));
        p->finished = true;
        p->failed++;
    }
    if (n <= 0) return false;
    p->end += (size_t)n;
    return true;
}

/* ---- the loop ---------------------------------------------------------------------------- */

static bool waiting(const struct produce *p) {
    const struct producer_stats *s = producer_stats(p->producer);
    return s->records_sent > s->records_delivered + s->records_failed;
}

static void show(struct produce *p) {
    char more[64];
    snprintf(more, sizeof more, "%llu lines read", (unsigned long long)p->lines);
    progress_show(&p->progress, p->acknowledged, "acknowledged", more);
}

static void stream(struct produce *p, int signals) {
    struct pollfd fds[2] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = signals, .events = POLLIN}};
    while (!p->finished) {
        show(p);
        int ready = poll(fds, 2, waiting(p) ? 0 : -1);
        if (ready < 0 && errno != EINTR) return;
        if (ready > 0 && fds[1].revents) return;
        if (ready <= 0) {
            /* Errors come as reports; a timeout is what an idle moment looks like. */
            enum err err = producer_poll(p->producer, POLL_MS);
            if (err == ERR_FENCED) p->finished = true;
            continue;
        }
        bool more = read_input(p);
        send_lines(p);
        if (more) continue;
        if (p->end > p->begin && !p->finished) send_line(p, p->buf + p->begin, p->end - p->begin);
        return;
    }
}

/* Until everything is acknowledged or given up. */
static void drain(struct produce *p) {
    int64_t deadline = now_ms() + p->o->timeout_ms + 5000;
    while (waiting(p) && now_ms() < deadline) {
        show(p);
        if (producer_flush(p->producer, 100) == ERR_FENCED) return;
    }
}

static int finish(struct produce *p) {
    progress_end(&p->progress);
    if (p->failed > FAILURES_SHOWN) fprintf(stderr, "varve produce: %llu lines failed in all\n",
                                            (unsigned long long)p->failed);
    uint64_t lost = p->lines - MIN(p->lines, p->acknowledged);
    fprintf(stderr, "%llu lines acknowledged", (unsigned long long)p->acknowledged);
    if (lost) fprintf(stderr, ", %llu not", (unsigned long long)lost);
    fputc('\n', stderr);
    if (p->o->json) {
        json_object(&p->json, NULL);
        json_text(&p->json, "topic", p->o->args[0]);
        json_u64(&p->json, "lines", p->lines);
        json_u64(&p->json, "acknowledged", p->acknowledged);
        json_object_end(&p->json);
        json_line(&p->json);
    }
    return p->failed || lost ? EXIT_FAILED : EXIT_OK;
}

int cmd_produce(const struct options *o) {
    struct produce p = {.o = o};
    struct producer_config cfg;
    int code;
    json_init(&p.json, stdout);
    p.client = cli_connect(o, &code);
    if (!p.client) return code;
    producer_config_init(&cfg);
    cfg.codec = o->codec;
    cfg.acks = o->acks;
    cfg.idempotent = o->acks == -1;
    cfg.delivery_timeout_ms = o->timeout_ms;
    cfg.report = report;
    cfg.report_ctx = &p;
    p.producer = producer_create(p.client, &cfg);
    if (!p.producer) {
        code = cli_failed(o, p.client, ERR_NOMEM, NULL);
        client_destroy(p.client);
        return code;
    }
    int signals = signals_open();
    progress_init(&p.progress, o);
    stream(&p, signals);
    signals_default(signals); /* once more ends the wait */
    drain(&p);
    code = finish(&p);
    producer_destroy(p.producer);
    client_destroy(p.client);
    free(p.buf);
    return code;
}
