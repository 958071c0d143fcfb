/* json_out.h - streaming JSON: values go to a FILE as they are said, nothing is kept.
 *
 * The caller says objects and arrays in order; commas, quoting and escaping are done here. Bytes that
 * are not UTF-8 come out as U+FFFD. A `key` is NULL inside an array and at the top. Write errors
 * stay in the FILE: check ferror() at the end. */
#ifndef TOOLS_JSON_OUT_H
#define TOOLS_JSON_OUT_H
#include <stdio.h>
#include "base/bytes.h"

enum { JSON_DEPTH_MAX = 16 };
struct json_out {
    FILE *f;
    int depth;
    bool some[JSON_DEPTH_MAX + 1];   /* whether a value was said at this depth */
};

void json_init(struct json_out *j, FILE *f);
void json_object(struct json_out *j, const char *key);
void json_object_end(struct json_out *j);
void json_array(struct json_out *j, const char *key);
void json_array_end(struct json_out *j);
void json_str(struct json_out *j, const char *key, struct str value);      /* p NULL: null */
void json_text(struct json_out *j, const char *key, const char *value);    /* NULL: null */
void json_bytes(struct json_out *j, const char *key, struct bytes value);  /* as a string; p NULL: null */
void json_hex(struct json_out *j, const char *key, const void *p, size_t len);
void json_i64(struct json_out *j, const char *key, int64_t value);
void json_u64(struct json_out *j, const char *key, uint64_t value);
void json_f64(struct json_out *j, const char *key, double value);          /* with three decimals */
void json_bool(struct json_out *j, const char *key, bool value);
void json_null(struct json_out *j, const char *key);
/* Ends a line: one value at the top is one line. */
void json_line(struct json_out *j);
#endif
