/* dump_filter.c - which records are shown; see dump_filter.h. */
#include "tools/dump_filter.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static bool number(const char *text, int64_t *value) {
    char *end;
    errno = 0;
    *value = strtoll(text, &end, 10);
    return end != text && *end == '\0' && errno == 0 && *value >= 0;
}

static bool calendar(const char *text, int64_t *ms) {
    struct tm tm = {0};
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    if (!rest && (rest = strptime(text, "%Y-%m-%d", &tm)) && *rest != '\0') return false;
    if (!rest) return false;
    *ms = (int64_t)timegm(&tm) * 1000;
    if (*rest == '.') {
        int scale = 100;
        for (rest++; *rest >= '0' && *rest <= '9'; rest++, scale /= 10) *ms += scale * (*rest - '0');
    }
    if (*rest == 'Z') rest++;
    return *rest == '\0';
}

bool bound_parse(const char *text, struct bound *b) {
    *b = (struct bound){.set = true, .time = text[0] == '@'};
    if (!b->time) return number(text, &b->value);
    return number(text + 1, &b->value) || calendar(text + 1, &b->value);
}

void filter_header(struct filter *f, const char *text) {
    const char *equals = strchr(text, '=');
    f->header = text;
    f->header_len = equals ? (size_t)(equals - text) : strlen(text);
    f->header_value = equals ? equals + 1 : NULL;
}

bool filter_batch(const struct filter *f, const struct batch_header *h) {
    if (f->from.set && !f->from.time && batch_last_offset(h) < f->from.value) return false;
    if (f->to.set && !f->to.time && h->base_offset >= f->to.value) return false;
    if (f->from.set && f->from.time && h->max_timestamp < f->from.value) return false;
    return !filter_by_record(f) || !(h->attributes & BATCH_CONTROL);
}

static bool equal(struct bytes b, const char *text) { return b.p && (size_t)b.len == strlen(text) && memcmp(b.p, text, (size_t)b.len) == 0; }
static bool contains(struct bytes b, const char *text) { return b.p && memmem(b.p, (size_t)b.len, text, strlen(text)) != NULL; }

static bool header_matches(const struct filter *f, const struct record *r) {
    const uint8_t *cursor = r->headers_raw, *end = cursor + r->headers_raw_len;
    struct record_header h;
    for (int32_t i = 0; i < r->header_count && record_header_next(&cursor, end, &h) == OK; i++) {
        bool name = (size_t)h.key.len == f->header_len && memcmp(h.key.p, f->header, f->header_len) == 0;
        if (name && (!f->header_value || equal(h.value, f->header_value))) return true;
    }
    return false;
}

bool filter_record(const struct filter *f, const struct record *r) {
    if (f->from.set && (f->from.time ? r->timestamp : r->offset) < f->from.value) return false;
    if (f->to.set && (f->to.time ? r->timestamp : r->offset) >= f->to.value) return false;
    if (f->key && !equal(r->key, f->key)) return false;
    if (f->grep && !contains(r->key, f->grep) && !contains(r->value, f->grep)) return false;
    return !f->header || header_matches(f, r);
}
