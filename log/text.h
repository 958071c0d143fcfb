/* text.h - reading Kafka's small text files (checkpoints, partition.metadata), strictly.
 *
 * Every function consumes what it names and returns true, or returns false and leaves the cursor
 * anywhere: the caller gives up then. */
#ifndef LOG_TEXT_H
#define LOG_TEXT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/bytes.h"

struct text_cursor { const char *p, *end; };

bool text_char(struct text_cursor *c, char expected);
bool text_literal(struct text_cursor *c, const char *expected);
/* Decimal, optional minus, no blanks, no overflow. */
bool text_i64(struct text_cursor *c, int64_t *out);
/* Non-empty run of characters other than blank and line end; a view. */
bool text_word(struct text_cursor *c, struct str *out);
bool text_line_end(struct text_cursor *c);           /* "\n", "\r\n" or the end of the text */
bool text_at_end(const struct text_cursor *c);       /* only blanks and line ends follow */
/* The two lines that begin every checkpoint: version 0 and the number of lines that follow, which is
 * checked against what is left (a line has at least two bytes). */
bool text_checkpoint_head(struct text_cursor *c, int64_t *count);
#endif
