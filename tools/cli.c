/* cli.c - see cli.h. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>
#include "base/assert.h"
#include "tools/cli.h"

enum { CONNECT_TIMEOUT_MS = 5000, PROGRESS_MS = 200 };

/* ---- client ------------------------------------------------------------------------------ */

struct client *cli_connect(const struct options *o, int *code) {
    struct client_config cfg;
    struct client_cluster *cluster;
    char why[256] = "";
    client_config_init(&cfg);
    cfg.bootstrap = o->bootstrap;
    cfg.connect_timeout_ms = CONNECT_TIMEOUT_MS;
    struct client *c = client_create(&cfg, why, sizeof why);
    if (!c) {
        fprintf(stderr, "varve %s: %s\n", o->command->words, why);
        *code = EXIT_USAGE;
        return NULL;
    }
    enum err err = client_describe(c, (const char *const[]){""}, 0, MIN(o->timeout_ms, CONNECT_TIMEOUT_MS), &cluster);
    if (err == OK) {
        client_cluster_free(cluster);
        return c;
    }
    *code = cli_failed(o, c, err, o->bootstrap);
    if (err == ERR_TIMEOUT) *code = EXIT_CANNOT_CONNECT;
    client_destroy(c);
    return NULL;
}

int cli_failed(const struct options *o, const struct client *c, enum err err, const char *what) {
    const char *reason = client_error(c);
    if (!reason || !*reason) reason = err_str(err);
    fprintf(stderr, "varve %s: %s%s%s\n", o->command->words, what ? what : "", what ? ": " : "", reason);
    return err == ERR_CLOSED ? EXIT_CANNOT_CONNECT : EXIT_FAILED;
}

int cli_finish(const struct options *o, int code) {
    bool flushed = fflush(stdout) == 0;
    if (flushed && !ferror(stdout)) return code;
    fprintf(stderr, "varve %s: writing to standard output failed%s%s\n", o->command->words, flushed ? "" : ": ",
            flushed ? "" : strerror(errno));
    clearerr(stdout); /* said once */
    return EXIT_FAILED;
}

/* ---- tables ------------------------------------------------------------------------------ */

static void table_add(struct table *t, char *cell) {
    char **cells = realloc(t->cells, (t->count + 1) * sizeof *cells);
    ASSERT(cells != NULL && cell != NULL);
    t->cells = cells;
    t->cells[t->count++] = cell;
}

void table_init(struct table *t, const char *head) {
    *t = (struct table){0};
    while (*head) {
        ASSERT(t->columns < TABLE_COLUMNS_MAX);
        bool right = *head == '>';
        size_t len = strcspn(head += right, " ");
        t->right[t->columns++] = right;
        table_add(t, strndup(head, len));
        head += len;
        head += *head == ' ';
    }
}

void table_cell(struct table *t, const char *fmt, ...) {
    char *cell = NULL;
    va_list args;
    va_start(args, fmt);
    if (vasprintf(&cell, fmt, args) < 0) cell = NULL;
    va_end(args);
    table_add(t, cell);
}

void table_print(struct table *t) {
    int width[TABLE_COLUMNS_MAX] = {0}, columns = t->columns;
    const char *no_color = getenv("NO_COLOR");
    bool bold = isatty(STDOUT_FILENO) && !(no_color && *no_color);
    for (size_t i = 0; i < t->count; i++) width[i % columns] = MAX(width[i % columns], (int)strlen(t->cells[i]));
    for (size_t i = 0; i < t->count; i++) {
        int column = (int)(i % (size_t)columns);
        bool last = column == columns - 1;
        if (bold && i == 0) fputs("\033[1m", stdout);
        if (t->right[column]) printf("%*s", width[column], t->cells[i]);
        else printf("%-*s", last ? 0 : width[column], t->cells[i]);
        if (bold && last && i < (size_t)columns) fputs("\033[0m", stdout);
        fputs(last ? "\n" : "  ", stdout);
    }
    table_free(t);
}

void table_free(struct table *t) {
    for (size_t i = 0; i < t->count; i++) free(t->cells[i]);
    free(t->cells);
    *t = (struct table){0};
}

/* ---- progress ---------------------------------------------------------------------------- */

int64_t now_ms(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void progress_init(struct progress *p, const struct options *o) {
    *p = (struct progress){.on = !o->quiet && isatty(STDERR_FILENO), .begin_ms = now_ms()};
}

void progress_show(struct progress *p, uint64_t count, const char *unit, const char *more) {
    if (!p->on) return;
    int64_t now = now_ms(), since = now - (p->shown_ms ? p->shown_ms : p->begin_ms);
    if (since < PROGRESS_MS) return;
    fprintf(stderr, "\r%llu %s, %llu/s%s%s\033[K", (unsigned long long)count, unit,
            (unsigned long long)((count - p->shown_count) * 1000 / (uint64_t)since), more ? ", " : "", more ? more : "");
    p->shown_ms = now;
    p->shown_count = count;
}

void progress_end(struct progress *p) {
    if (p->on && p->shown_ms) fputs("\r\033[K", stderr);
}

/* ---- signals ----------------------------------------------------------------------------- */

static sigset_t signals_set(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    return set;
}

int signals_open(void) {
    sigset_t set = signals_set();
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd >= 0 && sigprocmask(SIG_BLOCK, &set, NULL) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

bool signals_pending(int fd) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return fd >= 0 && poll(&p, 1, 0) > 0;
}

void signals_default(int fd) {
    struct signalfd_siginfo info;
    sigset_t set = signals_set();
    /* Take those that have come, or unblocking would deliver them at once. */
    while (fd >= 0 && read(fd, &info, sizeof info) == (ssize_t)sizeof info) continue;
    if (fd >= 0) close(fd);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
}
