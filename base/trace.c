#include "base/trace.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES_MAX 2048u
#define SITES 64u            /* call sites whose rate is watched, by format string */
#define SITE_LINES_MAX 20u   /* per second; more are counted and said in one line later */

struct site {
    const char *fmt;
    int64_t second;
    uint32_t lines, suppressed;
};

/* The one piece of process-wide state: where diagnostics go. */
static struct {
    _Atomic int level;
    enum trace_format format;
    int fd;
    bool systemd; /* stderr is the journal: it adds the time and understands <N> */
    pthread_mutex_t lock;
    struct site sites[SITES];
} sink = {.level = TRACE_INFO, .fd = STDERR_FILENO, .lock = PTHREAD_MUTEX_INITIALIZER};

/* systemd.exec(5): JOURNAL_STREAM holds device and inode of the stream that is the journal. */
static bool is_systemd_journal(int fd) {
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat st;
    return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && fstat(fd, &st) == 0 &&
           st.st_dev == device && st.st_ino == inode;
}

void trace_setup(enum trace_level level, enum trace_format format, int fd) {
    atomic_store_explicit(&sink.level, (int)level, memory_order_relaxed);
    sink.format = format;
    sink.fd = fd;
    sink.systemd = is_systemd_journal(fd);
}

static const char *const level_names[] = {"error", "warn", "info", "debug"};

void trace_set_level(enum trace_level level) { atomic_store_explicit(&sink.level, (int)level, memory_order_relaxed); }

const char *trace_level_name(enum trace_level level) { return level_names[level]; }

bool trace_level_parse(const char *name, enum trace_level *out) {
    for (size_t i = 0; i < sizeof level_names / sizeof *level_names; i++) {
        if (strcmp(name, level_names[i]) != 0) continue;
        *out = (enum trace_level)i;
        return true;
    }
    return false;
}

enum trace_level trace_level(void) {
    return (enum trace_level)atomic_load_explicit(&sink.level, memory_order_relaxed);
}

/* Whether the line may go out. `*suppressed` were held back before it. */
static bool rate_allows(const char *fmt, uint32_t *suppressed) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    *suppressed = 0;
    pthread_mutex_lock(&sink.lock);
    struct site *site = &sink.sites[((uintptr_t)fmt >> 3) % SITES];
    if (site->fmt != fmt || site->second != (int64_t)now.tv_sec) {
        if (site->fmt == fmt) *suppressed = site->suppressed;
        *site = (struct site){.fmt = fmt, .second = (int64_t)now.tv_sec};
    }
    bool allowed = site->lines < SITE_LINES_MAX;
    if (allowed) site->lines++;
    else site->suppressed++;
    pthread_mutex_unlock(&sink.lock);
    return allowed;
}

struct line {
    char text[LINE_BYTES_MAX];
    size_t len;
};

PRINTF_LIKE(2, 3) static void add(struct line *l, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    size_t room = sizeof l->text - 1 - l->len; /* one byte is kept for the newline */
    int len = vsnprintf(l->text + l->len, room, fmt, args);
    va_end(args);
    if (len > 0) l->len += (size_t)len < room ? (size_t)len : room - 1;
}

/* Control bytes never reach the terminal; quotes and backslashes only where `quoted` asks. */
static void add_escaped(struct line *l, const char *s, bool quoted) {
    for (; *s && l->len + 8 < sizeof l->text; s++) {
        unsigned char c = (unsigned char)*s;
        if (quoted && (c == '"' || c == '\\')) add(l, "\\%c", c);
        else if (c < 0x20 || c == 0x7f) add(l, "\\u%04x", c);
        else l->text[l->len++] = (char)c;
    }
}

static void add_time(struct line *l) {
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    char text[32];
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
    add(l, "%s.%03dZ", text, (int)(now.tv_nsec / 1000000));
}

static void add_head(struct line *l, enum trace_level level, const char *subsystem) {
    static const int priorities[] = {3, 4, 6, 7}; /* syslog(3) */
    static const char *const words[] = {"ERROR", "WARN ", "INFO ", "DEBUG"};
    if (sink.systemd) add(l, "<%d>", priorities[level]);
    switch (sink.format) {
    case TRACE_TEXT:
        if (!sink.systemd) {
            add_time(l);
            add(l, " ");
        }
        add(l, "%s %s: ", words[level], subsystem);
        break;
    case TRACE_LOGFMT:
        add(l, "ts=");
        add_time(l);
        add(l, " level=%s subsystem=%s msg=\"", trace_level_name(level), subsystem);
        break;
    case TRACE_JSON:
        add(l, "{\"ts\":\"");
        add_time(l);
        add(l, "\",\"level\":\"%s\",\"subsystem\":\"%s\",\"msg\":\"", trace_level_name(level), subsystem);
        break;
    }
}

void trace_line(enum trace_level level, const char *subsystem, const char *fmt, ...) {
    uint32_t suppressed;
    if (!rate_allows(fmt, &suppressed)) return;
    char message[LINE_BYTES_MAX - 256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof message, fmt, args);
    va_end(args);

    struct line l = {.len = 0};
    add_head(&l, level, subsystem);
    size_t tail = sizeof l.text - 64; /* room for what closes the line */
    add_escaped(&l, message, sink.format != TRACE_TEXT);
    if (l.len > tail) l.len = tail;
    if (suppressed) add(&l, " (%u more like this were suppressed)", suppressed);
    if (sink.format == TRACE_LOGFMT) add(&l, "\"");
    if (sink.format == TRACE_JSON) add(&l, "\"}");
    l.text[l.len++] = '\n';
    ssize_t written;
    do {
        written = write(sink.fd, l.text, l.len);
    } while (written < 0 && errno == EINTR); /* any other failure has nobody to be told to */
}
