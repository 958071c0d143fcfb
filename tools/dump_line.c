/* dump_line.c - see dump_line.h. */
#include "tools/dump_line.h"
#include "log/kafka_files.h"

void line_begin(struct dump *d, const char *head, const char *path) {
    if (!d->json) {
        fputs(head, stdout);
        return;
    }
    json_object(&d->out, NULL);
    json_text(&d->out, "type", head[0] == '|' ? head + 2 : head);
    json_text(&d->out, "file", path);
}

void line_i64(struct dump *d, const char *name, int64_t value) {
    if (d->json) json_i64(&d->out, name, value);
    else printf(" %s: %" PRId64, name, value);
}

void line_u64(struct dump *d, const char *name, uint64_t value) {
    if (d->json) json_u64(&d->out, name, value);
    else printf(" %s: %" PRIu64, name, value);
}

void line_text(struct dump *d, const char *name, const char *value) {
    if (d->json) json_text(&d->out, name, value);
    else printf(" %s: %s", name, value);
}

void line_bool(struct dump *d, const char *name, bool value) {
    if (d->json) json_bool(&d->out, name, value);
    else printf(" %s: %s", name, value ? "true" : "false");
}

void line_hex(struct dump *d, const char *name, uint64_t value) {
    char text[17];
    snprintf(text, sizeof text, "%016" PRIx64, value);
    line_text(d, name, text);
}

void line_bytes(struct dump *d, const char *name, const void *p, size_t len) {
    enum { SHOWN_MAX = 512 };
    char text[2 * SHOWN_MAX + 1] = "";
    for (size_t i = 0; i < len && i < SHOWN_MAX; i++) snprintf(text + 2 * i, 3, "%02x", ((const uint8_t *)p)[i]);
    line_text(d, name, text);
}

void line_uuid(struct dump *d, const char *name, const void *p, size_t len) {
    struct uuid id;
    char text[UUID_TEXT_BYTES] = "-";
    if (len == sizeof id) {
        memcpy(&id, p, sizeof id);
        uuid_to_text(&id, text);
    }
    line_text(d, name, text);
}

void line_end(struct dump *d) {
    if (d->json) {
        json_object_end(&d->out);
        json_line(&d->out);
    } else {
        putchar('\n');
    }
}
