#include <stdarg.h>
#include <stdio.h>
#include <xxhash.h>
#include "server/api.h"
#include "server/controller.h"

void *request_alloc(struct request *rq, size_t count, size_t size) {
    void *p = arena_array(&rq->arena, count > 0 ? count : 1, size);
    if (!p) request_close(rq, "the request needs more memory than request.arena.max.bytes");
    return p;
}

bool request_decoded(struct request *rq, enum err err) {
    if (!err) return true;
    if (err == ERR_NOMEM) request_close(rq, "the request needs more memory than request.arena.max.bytes");
    else request_close(rq, "the body does not parse");
    return false;
}

struct str request_copy(struct request *rq, struct str s) {
    if (!s.p) return STR_NULL;
    char *p = arena_strdup(&rq->arena, s);
    return p ? (struct str){p, s.len} : STR_NULL;
}

struct bytes request_copy_bytes(struct request *rq, struct bytes b) {
    uint8_t *p = b.p ? arena_alloc(&rq->arena, (size_t)MAX(b.len, 1)) : NULL;
    if (!p) return BYTES_NULL;
    if (b.len > 0) memcpy(p, b.p, (size_t)b.len);
    return (struct bytes){p, b.len};
}

struct str request_fresh_uuid(struct request *rq) {
    struct uuid id;
    io_entropy(rq->reactor->io, id.b, sizeof id.b);
    id.b[6] = (uint8_t)((id.b[6] & 0x0f) | 0x40);
    id.b[8] = (uint8_t)((id.b[8] & 0x3f) | 0x80);
    return request_uuid_text(rq, &id);
}

void request_fresh_id(struct request *rq, char out[UUID_HEX_BYTES]) {
    uint8_t b[16];
    io_entropy(rq->reactor->io, b, sizeof b);
    b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
    b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
    snprintf(out, UUID_HEX_BYTES, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2], b[3], b[4], b[5],
             b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

struct str request_printf(struct request *rq, const char *fmt, ...) {
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return request_copy(rq, str_from(text));
}

void uuid_text(const struct uuid *id, char out[UUID_TEXT_BYTES]) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    char *o = out;
    for (int i = 0; i < 15; i += 3) {
        uint32_t v = (uint32_t)id->b[i] << 16 | (uint32_t)id->b[i + 1] << 8 | id->b[i + 2];
        *o++ = digits[v >> 18];
        *o++ = digits[v >> 12 & 63];
        *o++ = digits[v >> 6 & 63];
        *o++ = digits[v & 63];
    }
    *o++ = digits[id->b[15] >> 2];
    *o++ = digits[(id->b[15] & 3) << 4];
    *o = 0;
}

struct str request_uuid_text(struct request *rq, const struct uuid *id) {
    char text[UUID_TEXT_BYTES];
    uuid_text(id, text);
    return request_copy(rq, str_from(text));
}

const char *topic_name_problem(struct str name) {
    if (name.len <= 0) return "The topic name is empty";
    if (name.len > 249) return "The topic name is longer than 249 characters";
    if (str_is(name, ".") || str_is(name, "..")) return "The topic name may not be \".\" or \"..\"";
    if (str_is(name, METADATA_TOPIC)) return "The topic name is reserved for the metadata log";
    for (int32_t i = 0; i < name.len; i++) {
        char c = name.p[i];
        bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!alnum && c != '.' && c != '_' && c != '-')
            return "The topic name has characters other than ASCII letters, digits, '.', '_' and '-'";
    }
    return NULL;
}

bool topic_name_internal(struct str name) {
    return str_is(name, "__consumer_offsets") || str_is(name, "__transaction_state");
}

const struct image_topic *request_find_topic(struct request *rq, bool by_id, struct str name, const struct uuid *id,
                                             int16_t *error) {
    const struct image *im = request_image(rq);
    const struct image_topic *t = by_id ? image_topic_by_id(im, id) : image_topic_by_name(im, name);
    *error = t ? KERR_NONE : by_id ? KERR_UNKNOWN_TOPIC_ID : KERR_UNKNOWN_TOPIC_OR_PARTITION;
    return t;
}

struct api_partition request_find_partition(struct request *rq, bool by_id, struct str name, const struct uuid *id,
                                            int32_t partition) {
    struct api_partition found = {.index = partition};
    const struct image_topic *t = request_find_topic(rq, by_id, name, id, &found.error);
    if (!t) return found;
    const struct image_partition *p = image_partition(t, partition);
    if (!p) {
        found.error = KERR_UNKNOWN_TOPIC_OR_PARTITION;
        return found;
    }
    found.owner = &request_broker(rq)->reactors[p->owner];
    found.plid = p->plid;
    return found;
}

bool number_set_init(struct number_set *s, struct request *rq, size_t count) {
    size_t slots = 16;
    while (slots < count * 2) slots *= 2;
    s->slots = request_alloc(rq, slots, sizeof *s->slots);
    s->mask = slots - 1;
    return s->slots != NULL;
}

bool number_set_add(struct number_set *s, uint64_t number) {
    for (size_t i = (size_t)(number * 0x9e3779b97f4a7c15u >> 20) & s->mask;; i = (i + 1) & s->mask) {
        if (s->slots[i] == number) return false;
        if (s->slots[i] != 0) continue;
        s->slots[i] = number;
        return true;
    }
}

bool name_set_init(struct name_set *s, struct request *rq, const struct str *names, size_t count) {
    size_t slots = 16;
    while (slots < count * 2) slots *= 2;
    s->names = names;
    s->slots = request_alloc(rq, slots, sizeof *s->slots);
    s->mask = slots - 1;
    return s->slots != NULL;
}

int32_t name_set_add(struct name_set *s, int32_t index) {
    struct str name = s->names[index];
    if (!name.p) return -1;
    for (size_t i = (size_t)XXH3_64bits(name.p, (size_t)name.len) & s->mask;; i = (i + 1) & s->mask) {
        if (s->slots[i] == 0) {
            s->slots[i] = (uint32_t)index + 1;
            return -1;
        }
        if (str_eq(s->names[s->slots[i] - 1], name)) return (int32_t)s->slots[i] - 1;
    }
}

int16_t api_change_error(enum err err) {
    switch (err) {
    case ERR_FULL: return KERR_POLICY_VIOLATION;
    case ERR_AGAIN: return KERR_REQUEST_TIMED_OUT;
    case ERR_CLOSED: return KERR_NOT_CONTROLLER;
    case ERR_CORRUPT: return KERR_UNKNOWN_SERVER_ERROR;
    default: return api_error(err);
    }
}

bool api_change_failed(const struct controller_change *ch, int16_t error) {
    return ch->err == ERR_NOT_CONTROLLER || ch->err == ERR_CLOSED || (ch->err && !error);
}

int16_t topic_overrides_check(struct request *rq, const struct config *config, const struct topic_override *overrides, size_t count,
                              struct str *why) {
    char text[256];
    for (size_t i = 0; i < count; i++) {
        if (!overrides[i].value.p) {
            *why = request_printf(rq, "Null value not supported for topic configs: %.*s",
                                  (int)MIN(overrides[i].name.len, 200), overrides[i].name.p);
            return KERR_INVALID_CONFIG;
        }
        if (topic_config_check(overrides[i].name, overrides[i].value, text, sizeof text) == OK) continue;
        *why = request_copy(rq, str_from(text));
        return KERR_INVALID_CONFIG;
    }
    if (topic_config_check_all(config, overrides, count, text, sizeof text) == OK)
        return KERR_NONE;
    *why = request_copy(rq, str_from(text));
    return KERR_INVALID_CONFIG;
}
