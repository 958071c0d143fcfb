/* consume_format.c - see consume_format.h. */
#include <stdlib.h>
#include "base/assert.h"
#include "tools/consume_format.h"
#include "tools/options.h"

/* ---- parsing ----------------------------------------------------------------------------- */

static void add(struct format *f, char directive, const char *text, size_t len) {
    struct format_part *parts = realloc(f->parts, (f->count + 1) * sizeof *parts);
    ASSERT(parts != NULL);
    f->parts = parts;
    f->parts[f->count++] = (struct format_part){directive, text, len};
}

bool format_parse(struct format *f, const char *text, char *wrong) {
    *f = (struct format){.copy = strdup(text)};
    ASSERT(f->copy != NULL);
    /* Escapes first: none of them makes a percent sign but \x25, which then is one. */
    const char *c = f->copy, *end = f->copy + options_unescape(f->copy);
    while (c < end) {
        const char *percent = memchr(c, '%', (size_t)(end - c));
        size_t len = (size_t)((percent ? percent : end) - c);
        if (len) add(f, 0, c, len);
        if (!percent) break;
        char letter = percent + 1 < end ? percent[1] : '\0';
        if (letter == '%') {
            add(f, 0, percent, 1);
        } else if (letter && strchr("sSRkKThtpo", letter)) {
            add(f, letter, NULL, 0);
        } else {
            *wrong = letter;
            format_free(f);
            return false;
        }
        c = percent + 2;
    }
    return true;
}

void format_free(struct format *f) {
    free(f->copy);
    free(f->parts);
    *f = (struct format){0};
}

/* ---- printing ---------------------------------------------------------------------------- */

static void print_bytes(FILE *out, const struct format *f, struct bytes b) {
    if (b.p) fwrite(b.p, 1, (size_t)b.len, out);
    else if (f->null_text) fputs("NULL", out);
}

static long long length(struct bytes b) { return b.p ? b.len : -1; }

static void print_length_bytes(FILE *out, struct bytes b) {
    uint8_t raw[4];
    store_be32(raw, (uint32_t)length(b));
    fwrite(raw, 1, sizeof raw, out);
}

/* a=1,b=2 */
static void print_headers(FILE *out, const struct record *r) {
    const uint8_t *cursor = r->headers_raw, *end = cursor + r->headers_raw_len;
    struct record_header h;
    for (int32_t i = 0; i < r->header_count && record_header_next(&cursor, end, &h) == OK; i++) {
        fprintf(out, "%s%.*s=", i ? "," : "", (int)h.key.len, h.key.p);
        if (h.value.p) fwrite(h.value.p, 1, (size_t)h.value.len, out);
        else fputs("NULL", out);
    }
}

void format_record(FILE *out, const struct format *f, const struct consumer_event *e) {
    const struct record *r = &e->record;
    for (size_t i = 0; i < f->count; i++) {
        const struct format_part *part = &f->parts[i];
        switch (part->directive) {
        case 0: fwrite(part->text, 1, part->len, out); break;
        case 's': print_bytes(out, f, r->value); break;
        case 'S': fprintf(out, "%lld", length(r->value)); break;
        case 'R': print_length_bytes(out, r->value); break;
        case 'k': print_bytes(out, f, r->key); break;
        case 'K': fprintf(out, "%lld", length(r->key)); break;
        case 'T': fprintf(out, "%lld", (long long)r->timestamp); break;
        case 'h': print_headers(out, r); break;
        case 't': fputs(e->topic, out); break;
        case 'p': fprintf(out, "%d", e->partition); break;
        case 'o': fprintf(out, "%lld", (long long)r->offset); break;
        default: ASSERT(!"a directive that format_parse let through");
        }
    }
}

void format_envelope(struct json_out *json, const struct consumer_event *e) {
    const struct record *r = &e->record;
    const uint8_t *cursor = r->headers_raw, *end = cursor + r->headers_raw_len;
    struct record_header h;
    json_object(json, NULL);
    json_text(json, "topic", e->topic);
    json_i64(json, "partition", e->partition);
    json_i64(json, "offset", r->offset);
    json_text(json, "tstype", e->log_append_time ? "logappend" : "create");
    json_i64(json, "ts", r->timestamp);
    if (r->header_count > 0) {
        json_array(json, "headers");
        for (int32_t i = 0; i < r->header_count && record_header_next(&cursor, end, &h) == OK; i++) {
            json_str(json, NULL, h.key);
            json_bytes(json, NULL, h.value);
        }
        json_array_end(json);
    }
    json_bytes(json, "key", r->key);
    json_bytes(json, "payload", r->value);
    json_object_end(json);
    json_line(json);
}
