#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Straight to stderr with one write: the trace sink may be part of what is broken. */
void assert_failed(const char *expr, const char *file, int line, const char *func) {
    char text[512];
    int len = snprintf(text, sizeof text, "varve: broken invariant at %s:%d in %s: %s\n", file, line, func, expr);
    if (len > 0) {
        size_t bytes = (size_t)len < sizeof text ? (size_t)len : sizeof text - 1;
        ssize_t written = write(STDERR_FILENO, text, bytes);
        (void)written; /* the process ends here; there is nobody left to tell */
    }
    abort();
}
