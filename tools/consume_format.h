/* consume_format.h - how `varve consume` prints a record: kcat's format strings and JSON envelope. */
#ifndef TOOLS_CONSUME_FORMAT_H
#define TOOLS_CONSUME_FORMAT_H
#include <stdio.h>
#include "client/client.h"
#include "tools/json_out.h"

struct format_part {
    char directive;               /* 0: literal text; else the letter after % */
    const char *text;
    size_t len;
};
struct format {
    char *copy;                   /* owned; literal parts point into it */
    struct format_part *parts;    /* owned */
    size_t count;
    bool null_text;               /* print NULL for null keys and values, not nothing */
};
/* false: `*wrong` is the character after % that means nothing. */
bool format_parse(struct format *f, const char *text, char *wrong);
void format_free(struct format *f);
void format_record(FILE *out, const struct format *f, const struct consumer_event *e);
void format_envelope(struct json_out *json, const struct consumer_event *e);
#endif
