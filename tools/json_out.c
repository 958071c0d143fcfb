/* json_out.c - see json_out.h. */
#include "tools/json_out.h"
#include <inttypes.h>
#include "base/assert.h"

void json_init(struct json_out *j, FILE *f) { *j = (struct json_out){.f = f}; }

/* Length of the UTF-8 sequence at `p`, 0 when it is none (overlong forms and surrogates are none: RFC 3629). */
static size_t utf8_len(const uint8_t *p, size_t left) {
    if (p[0] < 0x80) return 1;
    size_t len = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4 || left < len) return 0;
    for (size_t i = 1; i < len; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] >= 0xa0) || (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] >= 0x90))
        return 0;
    return len;
}

static void put_char(FILE *f, uint8_t c) {
    if (c == '"' || c == '\\') fprintf(f, "\\%c", c);
    else if (c == '\n') fputs("\\n", f);
    else if (c == '\t') fputs("\\t", f);
    else if (c == '\r') fputs("\\r", f);
    else if (c < 0x20 || c == 0x7f) fprintf(f, "\\u%04x", c);
    else putc(c, f);
}

static void put_string(FILE *f, const uint8_t *p, size_t len) {
    putc('"', f);
    for (size_t i = 0; i < len;) {
        size_t n = utf8_len(p + i, len - i);
        if (n == 0) fputs("\\ufffd", f);
        else if (n == 1) put_char(f, p[i]);
        else fwrite(p + i, 1, n, f);
        i += n ? n : 1;
    }
    putc('"', f);
}

static void begin_value(struct json_out *j, const char *key) {
    if (j->some[j->depth]) putc(',', j->f);
    j->some[j->depth] = true;
    if (!key) return;
    put_string(j->f, (const uint8_t *)key, strlen(key));
    putc(':', j->f);
}

static void open_scope(struct json_out *j, const char *key, char bracket) {
    begin_value(j, key);
    putc(bracket, j->f);
    ASSERT(j->depth < JSON_DEPTH_MAX);
    j->some[++j->depth] = false;
}

static void close_scope(struct json_out *j, char bracket) {
    ASSERT(j->depth > 0);
    j->depth--;
    putc(bracket, j->f);
}

void json_object(struct json_out *j, const char *key) { open_scope(j, key, '{'); }
void json_object_end(struct json_out *j) { close_scope(j, '}'); }
void json_array(struct json_out *j, const char *key) { open_scope(j, key, '['); }
void json_array_end(struct json_out *j) { close_scope(j, ']'); }

void json_bytes(struct json_out *j, const char *key, struct bytes value) {
    begin_value(j, key);
    if (value.p) put_string(j->f, value.p, (size_t)value.len);
    else fputs("null", j->f);
}

void json_str(struct json_out *j, const char *key, struct str value) {
    json_bytes(j, key, (struct bytes){(const uint8_t *)value.p, value.len});
}

void json_text(struct json_out *j, const char *key, const char *value) { json_str(j, key, str_from(value)); }

void json_hex(struct json_out *j, const char *key, const void *p, size_t len) {
    begin_value(j, key);
    putc('"', j->f);
    for (size_t i = 0; i < len; i++) fprintf(j->f, "%02x", ((const uint8_t *)p)[i]);
    putc('"', j->f);
}

void json_i64(struct json_out *j, const char *key, int64_t value) {
    begin_value(j, key);
    fprintf(j->f, "%" PRId64, value);
}

void json_u64(struct json_out *j, const char *key, uint64_t value) {
    begin_value(j, key);
    fprintf(j->f, "%" PRIu64, value);
}

void json_f64(struct json_out *j, const char *key, double value) {
    begin_value(j, key);
    fprintf(j->f, "%.3f", value);
}

void json_bool(struct json_out *j, const char *key, bool value) {
    begin_value(j, key);
    fputs(value ? "true" : "false", j->f);
}

void json_null(struct json_out *j, const char *key) {
    begin_value(j, key);
    fputs("null", j->f);
}

void json_line(struct json_out *j) {
    ASSERT(j->depth == 0);
    putc('\n', j->f);
    j->some[0] = false;
}
