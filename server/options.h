/* options.h - the command line of varved. */
#ifndef SERVER_OPTIONS_H
#define SERVER_OPTIONS_H
#include "server/config.h"

enum options_action { OPTIONS_RUN, OPTIONS_HELP, OPTIONS_VERSION, OPTIONS_REFERENCE };

/* Reads CONFIG, environment and flags into a configuration. ERR_INVALID: usage or configuration
 * error, `why` says which; `summary` holds the line about ignored settings, or is empty. */
MUST_CHECK enum err options_read(int argc, char **argv, char *const *environ_strings, enum options_action *action,
                                 struct config *out, char *summary, size_t summary_len, char *why, size_t why_len);
extern const char options_help[];
#endif
