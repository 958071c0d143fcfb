/* kafka_files.c - see kafka_files.h. */
#include "log/kafka_files.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "log/names.h"
#include "log/text.h"

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

void uuid_to_text(const struct uuid *u, char out[UUID_TEXT_BYTES]) {
    uint32_t bits = 0;
    int have = 0, len = 0;
    for (int i = 0; i < 16; i++) {
        bits = bits << 8 | u->b[i];
        for (have += 8; have >= 6; have -= 6) out[len++] = digits[bits >> (have - 6) & 63];
    }
    out[len++] = digits[bits << (6 - have) & 63];
    out[len] = '\0';
}

bool uuid_from_text(struct str text, struct uuid *out) {
    uint32_t bits = 0;
    int have = 0, len = 0;
    if (text.len != UUID_TEXT_BYTES - 1) return false;
    for (int i = 0; i < text.len; i++) {
        const char *digit = memchr(digits, text.p[i], sizeof digits - 1);
        if (!digit) return false;
        bits = bits << 6 | (uint32_t)(digit - digits);
        have += 6;
        if (have < 8) continue;
        have -= 8;
        out->b[len++] = (uint8_t)(bits >> have);
    }
    return (bits & ((1u << have) - 1)) == 0;   /* the last digit has four bits to spare */
}

char *partition_metadata_to_text(const struct uuid *topic_id) {
    char id[UUID_TEXT_BYTES], *text = malloc(64);
    if (!text) return NULL;
    uuid_to_text(topic_id, id);
    snprintf(text, 64, "version: 0\ntopic_id: %s", id);
    return text;
}

enum err partition_metadata_from_text(const char *text, size_t len, struct uuid *topic_id) {
    struct text_cursor c = {text, text + len};
    struct str id;
    if (!text_literal(&c, "version: 0") || !text_line_end(&c) || !text_literal(&c, "topic_id: ")) return ERR_CORRUPT;
    if (!text_word(&c, &id) || !text_at_end(&c) || !uuid_from_text(id, topic_id)) return ERR_CORRUPT;
    return OK;
}

char *offset_checkpoint_to_text(const struct offset_entry *entries, uint32_t count) {
    size_t cap = 32, len;
    for (uint32_t i = 0; i < count; i++) cap += (size_t)entries[i].topic.len + 11 + 20 + 3;
    char *text = malloc(cap);
    if (!text) return NULL;
    len = (size_t)snprintf(text, cap, "0\n%u\n", count);
    for (uint32_t i = 0; i < count; i++)
        len += (size_t)snprintf(text + len, cap - len, "%.*s %d %lld\n", entries[i].topic.len, entries[i].topic.p,
                                entries[i].partition,
                                (long long)entries[i].offset);
    return text;
}

static bool parse_entry(struct text_cursor *c, struct offset_entry *out) {
    int64_t partition;
    if (!text_word(c, &out->topic) || !topic_name_ok(out->topic) || !text_char(c, ' ')) return false;
    if (!text_i64(c, &partition) || partition < 0 || partition > INT32_MAX || !text_char(c, ' ')) return false;
    out->partition = (int32_t)partition;
    return text_i64(c, &out->offset) && text_line_end(c);
}

enum err offset_checkpoint_from_text(struct offset_checkpoint *out, const char *text, size_t len) {
    struct text_cursor c = {text, text + len};
    int64_t count;
    *out = (struct offset_checkpoint){0};
    if (!text_checkpoint_head(&c, &count) || count > INT32_MAX) return ERR_CORRUPT;
    out->entries = calloc((size_t)count + 1, sizeof *out->entries);
    if (!out->entries) return ERR_NOMEM;
    while (out->count < count && parse_entry(&c, &out->entries[out->count])) out->count++;
    if (out->count == count && text_at_end(&c)) return OK;
    offset_checkpoint_free(out);
    return ERR_CORRUPT;
}

void offset_checkpoint_free(struct offset_checkpoint *c) {
    free(c->entries);
    *c = (struct offset_checkpoint){0};
}
