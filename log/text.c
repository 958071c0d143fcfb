/* text.c - see text.h. */
#include "log/text.h"

bool text_char(struct text_cursor *c, char expected) {
    if (c->p == c->end || *c->p != expected) return false;
    c->p++;
    return true;
}

bool text_literal(struct text_cursor *c, const char *expected) {
    size_t len = strlen(expected);
    if ((size_t)(c->end - c->p) < len || memcmp(c->p, expected, len) != 0) return false;
    c->p += len;
    return true;
}

bool text_i64(struct text_cursor *c, int64_t *out) {
    bool negative = text_char(c, '-');
    const char *first = c->p;
    int64_t value = 0;   /* built downwards: INT64_MIN has no positive twin */
    while (c->p < c->end && *c->p >= '0' && *c->p <= '9') {
        if (__builtin_mul_overflow(value, 10, &value) || __builtin_sub_overflow(value, *c->p - '0', &value)) return false;
        c->p++;
    }
    if (c->p == first || (!negative && value == INT64_MIN)) return false;
    *out = negative ? value : -value;
    return true;
}

bool text_word(struct text_cursor *c, struct str *out) {
    const char *first = c->p;
    while (c->p < c->end && *c->p != ' ' && *c->p != '\n' && *c->p != '\r') c->p++;
    *out = (struct str){first, (int32_t)(c->p - first)};
    return c->p > first;
}

bool text_line_end(struct text_cursor *c) {
    if (c->p == c->end) return true;
    text_char(c, '\r');
    return text_char(c, '\n');
}

bool text_at_end(const struct text_cursor *c) {
    for (const char *p = c->p; p < c->end; p++)
        if (*p != ' ' && *p != '\n' && *p != '\r') return false;
    return true;
}

bool text_checkpoint_head(struct text_cursor *c, int64_t *count) {
    int64_t version;
    if (!text_i64(c, &version) || version != 0 || !text_line_end(c)) return false;
    if (!text_i64(c, count) || *count < 0 || !text_line_end(c)) return false;
    return *count <= (c->end - c->p) / 2 + 1;
}
