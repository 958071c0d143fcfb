/* dump_line.h - one line of output: "name: value name: value" or one JSON object, from the same calls. */
#ifndef TOOLS_DUMP_LINE_H
#define TOOLS_DUMP_LINE_H
#include <inttypes.h>
#include "tools/dump.h"

/* `head` begins the text line ("group"); the object has it as "type", with the file beside. */
void line_begin(struct dump *d, const char *head, const char *path);
void line_i64(struct dump *d, const char *name, int64_t value);
void line_u64(struct dump *d, const char *name, uint64_t value);
void line_text(struct dump *d, const char *name, const char *value);
void line_bool(struct dump *d, const char *name, bool value);
void line_hex(struct dump *d, const char *name, uint64_t value);       /* 16 digits */
void line_bytes(struct dump *d, const char *name, const void *p, size_t len);   /* two digits each; cut at 512 */
void line_uuid(struct dump *d, const char *name, const void *p, size_t len);
void line_end(struct dump *d);
#endif
