/* trace.h - diagnostics for the operator: one line per event, to stderr.
 *
 * Text (logfmt-like) by default, JSON with --log-format=json; `<N>` priority prefixes under
 * systemd. Storms of one call site are rate-limited with a count. Levels cost one comparison
 * when off. The sink is process-wide, set up once in main before any reactor starts, and
 * thread-safe: a line is one write(2). In the simulator the sink is a per-world file. */
#ifndef BASE_TRACE_H
#define BASE_TRACE_H
#include <stdbool.h>
#include "base/compiler.h"

enum trace_level { TRACE_ERROR, TRACE_WARN, TRACE_INFO, TRACE_DEBUG };
enum trace_format { TRACE_TEXT, TRACE_LOGFMT, TRACE_JSON };

void trace_setup(enum trace_level level, enum trace_format format, int fd);
enum trace_level trace_level(void);
void trace_set_level(enum trace_level level);              /* any thread */
const char *trace_level_name(enum trace_level level);      /* "error", ... */
/* False: no such level. */
bool trace_level_parse(const char *name, enum trace_level *out);
/* `subsystem` is one word ("journal"). The message says what happened and what follows from it. */
void trace_line(enum trace_level level, const char *subsystem, const char *fmt, ...) PRINTF_LIKE(3, 4);

#define TRACE(level, subsystem, ...) \
    do { if ((level) <= trace_level()) trace_line((level), (subsystem), __VA_ARGS__); } while (0)
#define trace_error(subsystem, ...) TRACE(TRACE_ERROR, subsystem, __VA_ARGS__)
#define trace_warn(subsystem, ...) TRACE(TRACE_WARN, subsystem, __VA_ARGS__)
#define trace_info(subsystem, ...) TRACE(TRACE_INFO, subsystem, __VA_ARGS__)
#define trace_debug(subsystem, ...) TRACE(TRACE_DEBUG, subsystem, __VA_ARGS__)
#endif
