#define PCRE2_CODE_UNIT_WIDTH 8
#include "server/group_regex.h"

#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/compiler.h"

enum {
    WORKSPACE_INTS = 1500,      /* two lists of some 250 states */
    HEAP_LIMIT_KIB = 64,
    DEPTH_LIMIT = 100,
    PARENS_MAX = 100,
    REPEAT_MAX = 1000           /* RE2's */
};

struct group_regex {
    pcre2_code *code;
    pcre2_match_context *context;
    pcre2_match_data *data;
    size_t code_bytes;
    bool nested;                /* a quantifier around another: the automaton's states may multiply */
    int workspace[WORKSPACE_INTS];
};

/* ---- what RE2 has not ------------------------------------------------------------------------- */

struct scan { const char *p, *end; };

static bool digit(char c) { return c >= '0' && c <= '9'; }
static bool letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

/* At the character behind a backslash. */
static const char *scan_escape(struct scan *s) {
    if (s->p == s->end) return "it ends with a backslash";
    char c = *s->p++;
    if (c == 'Q') { /* as it is, up to \E */
        while (s->end - s->p >= 2 && !(s->p[0] == '\\' && s->p[1] == 'E')) s->p++;
        s->p = s->end - s->p >= 2 ? s->p + 2 : s->end;
        return NULL;
    }
    if (c >= '1' && c <= '9') return "back references are not supported";
    if (letter(c) && (c == '_' || !strchr("AbBzdDsSwWpPaftnrvxE", c))) return "this escape is not supported";
    return NULL;
}

/* Behind "(?": flags, a name, or nothing that captures. */
static const char *scan_group(struct scan *s) {
    if (s->p < s->end && *s->p == 'P') s->p++;
    else if (s->p < s->end && *s->p != '<') {
        while (s->p < s->end && (strchr("imsU-", *s->p) != NULL) && *s->p) s->p++;
        if (s->p < s->end && (*s->p == ':' || *s->p == ')')) {
            if (*s->p == ':') s->p++;
            return NULL;
        }
        return "this kind of group is not supported";
    }
    if (s->end - s->p < 2 || s->p[0] != '<' || !letter(s->p[1])) return "this kind of group is not supported";
    s->p++;
    while (s->p < s->end && (letter(*s->p) || digit(*s->p))) s->p++;
    if (s->p == s->end || *s->p != '>') return "the name of a group does not end";
    s->p++;
    return NULL;
}

/* A class, behind its "[". PCRE2 checks it; here it only has to be passed over. */
static const char *scan_class(struct scan *s) {
    if (s->p < s->end && *s->p == '^') s->p++;
    bool first = true;
    for (; s->p < s->end; first = false) {
        char c = *s->p++;
        if (c == ']' && !first) return NULL;
        if (c == '[' && s->p < s->end && (*s->p == '.' || *s->p == '=')) return "collating elements are not supported";
        if (c == '[' && s->p < s->end && *s->p == ':') { /* [:alpha:] */
            const char *q = s->p + 1;
            while (q < s->end && (letter(*q) || *q == '^')) q++;
            if (s->end - q >= 2 && q[0] == ':' && q[1] == ']') s->p = q + 2;
        }
        if (c == '\\') {
            const char *wrong = scan_escape(s);
            if (wrong) return wrong;
        }
    }
    return "missing ]";
}

/* Behind "{", when it is a quantifier: n, n, or n,m. Else nothing is passed over. */
static const char *scan_repeat(struct scan *s, bool *is_repeat) {
    const char *q = s->p;
    *is_repeat = false;
    for (int part = 0; part < 2; part++) {
        int n = 0, digits = 0;
        for (; q < s->end && digit(*q); q++, digits++) n = n > REPEAT_MAX ? n : n * 10 + (*q - '0');
        if (part == 0 && digits == 0) return NULL;
        if (q < s->end && *q == '}') {
            *is_repeat = true;
            s->p = q + 1;
            return n > REPEAT_MAX ? "a number of repetitions is too large" : NULL;
        }
        if (n > REPEAT_MAX) return "a number of repetitions is too large";
        if (part == 1 || q == s->end || *q != ',') return NULL;
        q++;
    }
    return NULL;
}

/* NULL: nothing that RE2 would not know; PCRE2 decides. */
static const char *scan_expression(struct str expression, bool *nested) {
    struct scan s = {expression.p, expression.p + expression.len};
    bool quantified = false, lazy = false; /* behind a quantifier, and behind its '?' */
    bool closed = false, repeats = false;  /* behind a ')'; there was a quantifier before it */
    *nested = false;
    while (s.p < s.end) {
        char c = *s.p++;
        const char *wrong = NULL;
        bool repeat = c == '*' || c == '+' || c == '?';
        if (c == '\\') wrong = scan_escape(&s);
        else if (c == '[') wrong = scan_class(&s);
        else if (c == '(' && s.p < s.end && *s.p == '*') wrong = "verbs are not supported";
        else if (c == '(' && s.p < s.end && *s.p == '?') s.p++, wrong = scan_group(&s);
        else if (c == '{') wrong = scan_repeat(&s, &repeat);
        if (!wrong && repeat && quantified && (c != '?' || lazy)) wrong = "a quantifier follows a quantifier";
        if (wrong) return wrong;
        if (repeat && closed && repeats) *nested = true;
        lazy = repeat && quantified;
        quantified = repeat;
        repeats |= repeat;
        closed = c == ')';
    }
    return NULL;
}

/* ---- compile and match ------------------------------------------------------------------------ */

static void say(char *reason, size_t reason_bytes, const char *text) {
    if (reason_bytes) snprintf(reason, reason_bytes, "%s", text);
}

static enum err compile(struct str expression, struct group_regex *re, char *reason, size_t reason_bytes) {
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context) return ERR_NOMEM;
    pcre2_set_parens_nest_limit(context, PARENS_MAX);
    int number = 0;
    PCRE2_SIZE at = 0;
    re->code = pcre2_compile((PCRE2_SPTR)expression.p, (PCRE2_SIZE)expression.len,
                             PCRE2_UTF | PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_DOLLAR_ENDONLY | PCRE2_NO_AUTO_CAPTURE |
                                 PCRE2_NEVER_BACKSLASH_C | PCRE2_NO_START_OPTIMIZE | PCRE2_NO_AUTO_POSSESS | PCRE2_DUPNAMES,
                             &number, &at, context);
    pcre2_compile_context_free(context);
    if (!re->code) {
        PCRE2_UCHAR text[120];
        if (number == PCRE2_ERROR_HEAP_FAILED) return ERR_NOMEM;
        if (pcre2_get_error_message(number, text, sizeof text) < 0) snprintf((char *)text, sizeof text, "error %d", number);
        if (reason_bytes) snprintf(reason, reason_bytes, "%s at offset %zu", (char *)text, (size_t)at);
        return ERR_INVALID;
    }
    re->context = pcre2_match_context_create(NULL);
    re->data = pcre2_match_data_create(1, NULL);
    if (!re->context || !re->data || pcre2_pattern_info(re->code, PCRE2_INFO_SIZE, &re->code_bytes) != 0) return ERR_NOMEM;
    pcre2_set_match_limit(re->context, DEPTH_LIMIT * 10);
    pcre2_set_depth_limit(re->context, DEPTH_LIMIT);
    pcre2_set_heap_limit(re->context, HEAP_LIMIT_KIB);
    return OK;
}

enum err group_regex_compile(struct str expression, struct group_regex **out, char *reason, size_t reason_bytes) {
    *out = NULL;
    if (expression.len > GROUP_REGEX_BYTES_MAX) {
        say(reason, reason_bytes, "it is too long");
        return ERR_INVALID;
    }
    bool nested;
    const char *wrong = scan_expression(expression, &nested);
    if (wrong) {
        say(reason, reason_bytes, wrong);
        return ERR_INVALID;
    }
    struct group_regex *re = calloc(1, sizeof *re);
    if (!re) return ERR_NOMEM;
    re->nested = nested;
    enum err err = compile(expression, re, reason, reason_bytes);
    bool matches;
    if (err == OK && group_regex_match(re, STR_LIT("a"), &matches) == ERR_TOO_LARGE) {
        say(reason, reason_bytes, "it is too expensive");
        err = ERR_INVALID;
    }
    if (err == OK) *out = re;
    else group_regex_free(re);
    return err;
}

void group_regex_free(struct group_regex *re) {
    if (!re) return;
    pcre2_code_free(re->code);
    pcre2_match_context_free(re->context);
    pcre2_match_data_free(re->data);
    free(re);
}

enum err group_regex_match(struct group_regex *re, struct str name, bool *matches) {
    int rc = pcre2_dfa_match(re->code, (PCRE2_SPTR)name.p, (PCRE2_SIZE)name.len, 0, 0, re->data, re->context, re->workspace, WORKSPACE_INTS);
    *matches = rc >= 0;
    if (rc >= 0 || rc == PCRE2_ERROR_NOMATCH) return OK;
    if (rc == PCRE2_ERROR_NOMEMORY) return ERR_NOMEM;
    if (rc <= PCRE2_ERROR_UTF8_ERR1 && rc >= PCRE2_ERROR_UTF8_ERR21) return OK; /* no topic's name */
    return ERR_TOO_LARGE;
}

uint64_t group_regex_cost(const struct group_regex *re, size_t name_bytes) {
    uint64_t states = re->nested ? WORKSPACE_INTS / 6 * 8 : MIN(re->code_bytes / 4, (uint64_t)WORKSPACE_INTS / 6);
    return 50 + (name_bytes + 1) * states;
}
