/* seek_where.c - see seek_where.h. */
#include "tools/seek_where.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { DAY_MS = 86400000, HOUR_MS = 3600000, MINUTE_MS = 60000, SECOND_MS = 1000, DIGITS_MAX = 15 };

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* Digits only, up to the end of the text. */
static bool whole(const char *text, int64_t *out) {
    char *end;
    if (!is_digit(*text)) return false;
    errno = 0;
    *out = strtoll(text, &end, 10);
    return errno == 0 && *end == '\0';
}

/* `count` digits. */
static bool digits(const char **p, int count, int *out) {
    *out = 0;
    for (int i = 0; i < count; i++, (*p)++) {
        if (!is_digit(**p)) return false;
        *out = *out * 10 + (**p - '0');
    }
    return true;
}

static bool literal(const char **p, char c) {
    if (**p != c) return false;
    (*p)++;
    return true;
}

/* ".123" to ms; none is 0. */
static bool fraction(const char **p, int *ms) {
    int scale = 100;
    *ms = 0;
    if (!literal(p, '.')) return true;
    if (!is_digit(**p)) return false;
    for (; is_digit(**p); (*p)++, scale /= 10) *ms += (**p - '0') * scale;
    return true;
}

/* "", "Z", "+01:00", "-0130", "+02" to minutes. */
static bool zone(const char **p, int *minutes) {
    int hours, rest = 0;
    *minutes = 0;
    if (**p == '\0' || literal(p, 'Z')) return true;
    int sign = **p == '-' ? -1 : 1;
    if (**p != '+' && **p != '-') return false;
    (*p)++;
    if (!digits(p, 2, &hours)) return false;
    (void)literal(p, ':');
    if (is_digit(**p) && !digits(p, 2, &rest)) return false;
    *minutes = sign * (hours * 60 + rest);
    return hours <= 18 && rest < 60;
}

/* 2026-01-31T12:00[:00[.000]][zone]; UTC without a zone, as Kafka's tool has it. */
static bool date_time(const char *p, int64_t *out) {
    struct tm tm = {0};
    int year, month, ms, minutes;
    if (!digits(&p, 4, &year) || !literal(&p, '-') || !digits(&p, 2, &month) || !literal(&p, '-') || !digits(&p, 2, &tm.tm_mday) ||
        !literal(&p, 'T') || !digits(&p, 2, &tm.tm_hour) || !literal(&p, ':') || !digits(&p, 2, &tm.tm_min)) {
        return false;
    }
    if (literal(&p, ':') && !digits(&p, 2, &tm.tm_sec)) return false;
    if (!fraction(&p, &ms) || !zone(&p, &minutes) || *p != '\0') return false;
    if (year < 1970 || month < 1 || month > 12 || tm.tm_mday < 1 || tm.tm_mday > 31 || tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 60) {
        return false;
    }
    tm.tm_year = year - 1900;
    tm.tm_mon = month - 1;
    int day = tm.tm_mday;
    time_t seconds = timegm(&tm);
    if (tm.tm_mday != day) return false; /* the 30th of February */
    *out = ((int64_t)seconds - (int64_t)minutes * 60) * SECOND_MS + ms;
    return *out >= 0;
}

/* P1DT2H3M4.5S */
static bool duration(const char *p, int64_t *out) {
    static const struct { char letter; int64_t ms; bool time; } units[] = {
        {'D', DAY_MS, false}, {'H', HOUR_MS, true}, {'M', MINUTE_MS, true}, {'S', SECOND_MS, true}};
    size_t unit = 0;
    bool time = false, any = false;
    *out = 0;
    if (!literal(&p, 'P')) return false;
    while (*p) {
        if (!time && literal(&p, 'T')) {
            time = true;
            if (!*p) return false;
            continue;
        }
        int64_t n = 0;
        int ms, count = 0;
        for (; is_digit(*p) && count < DIGITS_MAX; p++, count++) n = n * 10 + (*p - '0');
        if (count == 0 || is_digit(*p) || !fraction(&p, &ms)) return false;
        while (unit < sizeof units / sizeof units[0] && (units[unit].letter != *p || units[unit].time != time)) unit++;
        if (unit == sizeof units / sizeof units[0] || (ms > 0 && *p != 'S') || n > INT64_MAX / 16 / units[unit].ms) return false;
        *out += n * units[unit++].ms + ms;
        any = true;
        p++;
    }
    return any;
}

bool where_parse(const char *text, int64_t now_ms, struct where *out) {
    int64_t n;
    *out = (struct where){WHERE_EARLIEST, 0};
    if (strcmp(text, "earliest") == 0 || strcmp(text, "beginning") == 0) return true;
    out->kind = WHERE_LATEST;
    if (strcmp(text, "latest") == 0 || strcmp(text, "end") == 0) return true;
    out->kind = WHERE_CURRENT;
    if (strcmp(text, "current") == 0) return true;
    out->kind = WHERE_OFFSET;
    if (whole(text, &out->n)) return true;
    if (*text == '+' || *text == '-') {
        out->kind = WHERE_SHIFT;
        bool good = whole(text + 1, &n);
        out->n = *text == '-' ? -n : n;
        return good;
    }
    out->kind = WHERE_TIME;
    if (*text == '@') return whole(text + 1, &out->n);
    if (*text == 'P') {
        bool good = duration(text, &n);
        out->n = good && n < now_ms ? now_ms - n : 0;
        return good;
    }
    return date_time(text, &out->n);
}

/* ---- files ----------------------------------------------------------------------------------- */

bool csv_parse(char *line, struct csv_row *out) {
    char *fields[4];
    int count = 0;
    int64_t partition;
    for (char *p = line; p && count < 4; count++) {
        char *comma = strchr(p, ',');
        if (comma) *comma = '\0';
        p += strspn(p, " \t\"");
        size_t len = strlen(p);
        while (len > 0 && strchr(" \t\r\n\"", p[len - 1])) len--;
        p[len] = '\0';
        fields[count] = p;
        p = comma ? comma + 1 : NULL;
        if (p && count == 3) return false;
    }
    if (count < 3) return false;
    *out = (struct csv_row){.group = count == 4 ? fields[0] : NULL, .topic = fields[count - 3]};
    if (!*out->topic || !whole(fields[count - 2], &partition) || partition > INT32_MAX || !whole(fields[count - 1], &out->offset)) return false;
    out->partition = (int32_t)partition;
    return true;
}

/* ---- scopes ---------------------------------------------------------------------------------- */

size_t scope_topic(const char *scope, const char **partitions) {
    const char *colon = strchr(scope, ':');
    *partitions = colon ? colon + 1 : NULL;
    return colon ? (size_t)(colon - scope) : strlen(scope);
}

/* The number at `*p`, which moves behind it and a comma. */
static bool next_number(const char **p, int32_t *out) {
    int64_t n = 0;
    if (!is_digit(**p)) return false;
    for (; is_digit(**p); (*p)++) {
        n = n * 10 + (**p - '0');
        if (n > INT32_MAX) return false;
    }
    if (**p == ',' && !is_digit((*p)[1])) return false;
    if (**p == ',') (*p)++;
    *out = (int32_t)n;
    return true;
}

bool scope_valid(const char *partitions, int32_t *largest) {
    int32_t n;
    *largest = -1;
    if (!partitions) return true;
    const char *p = partitions;
    do {
        if (!next_number(&p, &n)) return false;
        if (n > *largest) *largest = n;
    } while (*p);
    return true;
}

bool scope_has(const char *scope, const char *topic, int32_t partition) {
    const char *p;
    int32_t n;
    size_t len = scope_topic(scope, &p);
    if (strlen(topic) != len || memcmp(scope, topic, len) != 0) return false;
    if (!p) return true;
    while (*p && next_number(&p, &n))
        if (n == partition) return true;
    return false;
}
