/* seek_where.h - what --to of `varve group seek` may say. */
#ifndef TOOLS_SEEK_WHERE_H
#define TOOLS_SEEK_WHERE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum where_kind { WHERE_EARLIEST, WHERE_LATEST, WHERE_CURRENT, WHERE_OFFSET, WHERE_SHIFT, WHERE_TIME };
struct where { enum where_kind kind; int64_t n; /* offset, shift, or ms since 1970 */ };
/* earliest, latest, current, N, +N, -N, @MS, a date with a time, or a duration before `now_ms`. */
bool where_parse(const char *text, int64_t now_ms, struct where *out);

/* "TOPIC,PARTITION,OFFSET" or "GROUP,TOPIC,PARTITION,OFFSET", quotes allowed around each, blanks at the ends. Cuts `line` up. */
struct csv_row { const char *group; /* NULL: not said */ const char *topic; int32_t partition; int64_t offset; };
bool csv_parse(char *line, struct csv_row *out);

/* "TOPIC" or "TOPIC:0,1": the length of the topic; `*partitions` is what follows the colon, or NULL. */
size_t scope_topic(const char *scope, const char **partitions);
/* Whether the scope has the partition in it. */
bool scope_has(const char *scope, const char *topic, int32_t partition);
/* Whether what follows the colon (NULL: nothing) is a list of numbers; the largest, or -1. */
bool scope_valid(const char *partitions, int32_t *largest);
#endif
