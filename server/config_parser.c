/* config_parser.c - the properties syntax.
 *
 *   # or ! begins a comment line       key=value   key: value   key value
 *   a backslash at the end of a line continues it; blanks that begin the next line are dropped
 *   escapes: \t \n \r \f \uXXXX (as UTF-8); before any other character the backslash is dropped
 * Blanks before the key, around the separator and (unlike Java's) at the end of the value are dropped:
 * an invisible blank after a number is not worth an error. */
#include "base/assert.h"
#include "server/config.h"

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\f'; }
static bool is_eol(char c) { return c == '\n' || c == '\r'; }

static void eol_skip(struct config_parser *ps) {
    if (ps->p < ps->end && *ps->p == '\r') ps->p++;
    if (ps->p < ps->end && *ps->p == '\n') ps->p++;
    ps->next_line++;
}

/* To the first character of a line that holds a pair; false at the end. */
static bool pair_find(struct config_parser *ps) {
    while (ps->p < ps->end) {
        while (ps->p < ps->end && is_blank(*ps->p)) ps->p++;
        if (ps->p == ps->end) return false;
        if (*ps->p == '#' || *ps->p == '!')
            while (ps->p < ps->end && !is_eol(*ps->p)) ps->p++;
        if (ps->p == ps->end) return false;
        if (!is_eol(*ps->p)) return true;
        eol_skip(ps);
    }
    return false;
}

static size_t utf8_put(char *out, unsigned c) {
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    out[0] = (char)(0xe0 | c >> 12);
    out[1] = (char)(0x80 | (c >> 6 & 0x3f));
    out[2] = (char)(0x80 | (c & 0x3f));
    return 3;
}

static int hex_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* At a backslash. Returns the bytes written (at most 3, and never more than were read), -1 when malformed. */
static int escape_read(struct config_parser *ps, char *out) {
    ps->p++;
    if (ps->p == ps->end) return 0;
    char c = *ps->p;
    if (is_eol(c)) {
        eol_skip(ps);
        while (ps->p < ps->end && is_blank(*ps->p)) ps->p++;
        return 0;
    }
    ps->p++;
    switch (c) {
    case 't': *out = '\t'; return 1;
    case 'n': *out = '\n'; return 1;
    case 'r': *out = '\r'; return 1;
    case 'f': *out = '\f'; return 1;
    case 'u': {
        unsigned code = 0;
        if (ps->end - ps->p < 4) return -1;
        for (int i = 0; i < 4; i++) {
            int h = hex_value(ps->p[i]);
            if (h < 0) return -1;
            code = code << 4 | (unsigned)h;
        }
        if (code == 0 || (code >= 0xd800 && code <= 0xdfff)) return -1;
        ps->p += 4;
        return (int)utf8_put(out, code);
    }
    default: *out = c; return 1;
    }
}

/* Unescapes up to the end of the line, or of the key. -1: malformed. */
static int32_t part_read(struct config_parser *ps, char *out, bool key) {
    char *w = out, *solid = out; /* solid: behind the last character that is not a trailing blank */
    while (ps->p < ps->end && !is_eol(*ps->p)) {
        char c = *ps->p;
        if (key && (c == '=' || c == ':' || is_blank(c))) break;
        if (c == '\\') {
            int n = escape_read(ps, w);
            if (n < 0) return -1;
            w += n;
            if (n) solid = w;
            continue;
        }
        *w++ = c;
        ps->p++;
        if (!is_blank(c)) solid = w;
    }
    return (int32_t)(solid - out);
}

static void separator_skip(struct config_parser *ps) {
    while (ps->p < ps->end && is_blank(*ps->p)) ps->p++;
    if (ps->p == ps->end || (*ps->p != '=' && *ps->p != ':')) return;
    ps->p++;
    while (ps->p < ps->end && is_blank(*ps->p)) ps->p++;
}

enum config_parsed config_parse(struct config_parser *ps, char *scratch, size_t scratch_len, struct str *key,
                                struct str *value, const char **why) {
    if (ps->next_line == 0) ps->next_line = 1;
    if (!pair_find(ps)) return CONFIG_END;
    ps->line = ps->next_line;
    *why = "malformed \\u escape";
    ASSERT(scratch_len >= (size_t)(ps->end - ps->p));
    int32_t key_len = part_read(ps, scratch, true);
    if (key_len < 0) return CONFIG_BAD;
    *key = (struct str){scratch, key_len};
    *why = "no key before the separator";
    if (key_len == 0) return CONFIG_BAD;
    separator_skip(ps);
    *why = "malformed \\u escape";
    int32_t value_len = part_read(ps, scratch + key_len, false);
    if (value_len < 0) return CONFIG_BAD;
    *value = (struct str){scratch + key_len, value_len};
    *why = "a NUL byte";
    if (memchr(key->p, 0, (size_t)key_len) || memchr(value->p, 0, (size_t)value_len)) return CONFIG_BAD;
    return CONFIG_PAIR;
}
