/* group_regex.h - the regular expressions by which consumers subscribe to topics (KIP-848).
 *
 * Clients send RE2 syntax, which is linear in time by design. PCRE2 accepts more, so what RE2 has not is refused before it is
 * compiled: look-around, back references, recursion, callouts, conditions, atomic groups, possessive quantifiers, verbs.
 * The rest runs on PCRE2's automaton (pcre2_dfa_match), which never goes back in the name, within a fixed number of
 * states; an expression that needs more is too expensive and counts as invalid.
 *
 * Pure. One thread at a time for each expression. */
#ifndef SERVER_GROUP_REGEX_H
#define SERVER_GROUP_REGEX_H
#include "base/bytes.h"
#include "base/err.h"

enum { GROUP_REGEX_BYTES_MAX = 4096 };

struct group_regex;
/* ERR_INVALID: not an expression of RE2, or too large; `reason` says why, when there is room (reason_bytes > 0). ERR_NOMEM. */
MUST_CHECK enum err group_regex_compile(struct str expression, struct group_regex **out, char *reason, size_t reason_bytes);
void group_regex_free(struct group_regex *re); /* NULL is fine */
/* Whether it matches the whole name. ERR_TOO_LARGE: too expensive. ERR_NOMEM. */
MUST_CHECK enum err group_regex_match(struct group_regex *re, struct str name, bool *matches);
/* Upper bound of the work of one match against a name of `name_bytes`, in steps of some nanoseconds. */
uint64_t group_regex_cost(const struct group_regex *re, size_t name_bytes);
#endif
