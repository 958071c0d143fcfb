/* memory.c - see memory.h. */
#include "server/memory.h"
#include <stdio.h>
#include <stdlib.h>

#define MIB 1048576LL
#define FIXED_BYTES (16 * MIB)          /* code, heaps, the journal's own buffers */
#define REACTOR_BYTES (6 * MIB)         /* 4 MiB to receive into, a ring, a stack, helper threads */
#define LEAST_BYTES (128 * MIB)         /* of the whole budget */
#define AUTO_BYTES_MIN (1024 * MIB)     /* the most that is taken unasked is this, or */
#define AUTO_REACTOR_BYTES (512 * MIB)  /* so much for each reactor */
#define ARENA_BYTES_MAX (16 * MIB)
#define SUBMITTED_BYTES_MIN (2 * MIB)
#define SUBMITTED_BYTES_MAX (32 * MIB)
#define TEXT_BYTES 24

/* A budget whose default is a share. */
struct part {
    const char *key;
    int64_t share_divisor;              /* of memory.max.bytes */
    bool each_reactor;                  /* the share is for all reactors, the value for one */
    int64_t least;
};
static const struct part parts[] = {
    {"tail.bytes", 16, false, MIB},
    {"queued.max.request.bytes", 4, false, MIB},
    {"queued.max.response.bytes", 8, false, MIB},
    {"request.arena.max.bytes", 32, true, 65536},
    {"max.decompressed.batch.bytes", 8, true, MIB},
    {"log.cleaner.dedupe.buffer.size", 32, false, 65536},
    {"socket.request.max.bytes", 4, true, 1024},
};
enum { DERIVED = ARRAY_LEN(parts) + 1 };

static int64_t get(const struct config *c, const struct config_key *key) {
    const char *at = (const char *)c + key->offset;
    return key->type == CONFIG_INT ? *(const int32_t *)(const void *)at : *(const int64_t *)(const void *)at;
}

static void put(struct config *c, const char *name, int64_t value, unsigned slot) {
    const struct config_key *key = config_find(str_from(name));
    size_t count;
    char *text = c->derived + slot * TEXT_BYTES, *at = (char *)c + key->offset;
    if (key->type == CONFIG_INT) *(int32_t *)(void *)at = (int32_t)value;
    else *(int64_t *)(void *)at = value;
    snprintf(text, TEXT_BYTES, "%lld", (long long)value);
    struct config_value *v = &c->values[key - config_keys(&count)];
    if (v->source != CONFIG_DEFAULT) free((char *)v->text); /* it was set to 0 */
    *v = (struct config_value){text, CONFIG_DEFAULT};
}

static bool was_set(const struct config *c, const char *name) {
    return config_value(c, name)->source != CONFIG_DEFAULT && get(c, config_find(str_from(name))) != 0;
}

int64_t memory_submitted_bytes(const struct config *c) {
    return MAX(MIN(c->memory_max_bytes / 16 / MAX(c->reactors, 1), SUBMITTED_BYTES_MAX), SUBMITTED_BYTES_MIN);
}

/* A frame larger than a reactor's part is taken when nothing else is in work there. */
static int64_t requests_bytes(const struct config *c) {
    int64_t reactors = MAX(c->reactors, 1);
    return MAX(c->queued_max_request_bytes / reactors, (int64_t)c->socket_request_max_bytes) * reactors;
}

/* In doubles, lest absurd settings overflow: such sums are refused anyway. */
static double planned(const struct config *c) {
    double reactors = MAX(c->reactors, 1);
    double each = (double)REACTOR_BYTES + (double)c->request_arena_max_bytes + (double)c->max_decompressed_batch_bytes +
                  (double)memory_submitted_bytes(c);
    return (double)FIXED_BYTES + 2.5 * (double)c->tail_bytes + (double)MAX(c->queued_max_request_bytes, 0) +
           (double)(requests_bytes(c) - c->queued_max_request_bytes / (int64_t)reactors * (int64_t)reactors) +
           (double)c->queued_max_response_bytes + (double)c->log_cleaner_dedupe_buffer_size + reactors * each;
}

int64_t memory_planned_bytes(const struct config *c) {
    double sum = planned(c);
    return sum < 9e18 ? (int64_t)sum : INT64_MAX;
}

static void derive(struct config *c, const bool *given) {
    int64_t reactors = MAX(c->reactors, 1);
    for (unsigned i = 0; i < ARRAY_LEN(parts); i++) {
        if (given[i]) continue;
        const struct part *p = &parts[i];
        int64_t value = c->memory_max_bytes / p->share_divisor / (p->each_reactor ? reactors : 1);
        const struct config_key *key = config_find(str_from(p->key));
        int64_t table = strtoll(key->initial, NULL, 10); /* where it is not 0, the default is not above it */
        if (table > 0) value = MIN(value, table);
        if (str_is(str_from(p->key), "request.arena.max.bytes")) value = MIN(value, ARENA_BYTES_MAX);
        put(c, p->key, MAX(value, p->least), i);
    }
}

static int64_t budget(const struct config *c, int64_t machine_bytes) {
    int64_t most = MAX(AUTO_BYTES_MIN, (int64_t)c->reactors * AUTO_REACTOR_BYTES);
    return MAX(machine_bytes > 0 ? MIN(most, machine_bytes / 2) : most, LEAST_BYTES);
}

static enum err too_much(const struct config *c, char *why, size_t why_len) {
    snprintf(why, why_len,
             "memory.max.bytes is %lld MiB, but the settings need %lld MiB: tail.bytes %lld (2.5 times), queued.max.request.bytes %lld, "
             "queued.max.response.bytes %lld, log.cleaner.dedupe.buffer.size %lld, and for each of %d reactors request.arena.max.bytes %lld, max.decompressed.batch.bytes %lld, "
             "socket.request.max.bytes %d where that is more than its part of queued.max.request.bytes; give it more, or them less",
             (long long)(c->memory_max_bytes / MIB), (long long)(memory_planned_bytes(c) / MIB + 1), (long long)c->tail_bytes,
             (long long)c->queued_max_request_bytes, (long long)c->queued_max_response_bytes, (long long)c->log_cleaner_dedupe_buffer_size, c->reactors,
             (long long)c->request_arena_max_bytes, (long long)c->max_decompressed_batch_bytes, c->socket_request_max_bytes);
    return ERR_INVALID;
}

static enum err check_least(const struct config *c, char *why, size_t why_len) {
    for (unsigned i = 0; i < ARRAY_LEN(parts); i++) {
        if (get(c, config_find(str_from(parts[i].key))) >= parts[i].least) continue;
        snprintf(why, why_len, "%s must be at least %lld", parts[i].key, (long long)parts[i].least);
        return ERR_INVALID;
    }
    return OK;
}

enum err memory_plan(struct config *c, int64_t machine_bytes, char *why, size_t why_len) {
    bool given[ARRAY_LEN(parts)], whole = was_set(c, "memory.max.bytes");
    c->derived = calloc(DERIVED, TEXT_BYTES);
    if (!c->derived) {
        snprintf(why, why_len, "out of memory");
        return ERR_NOMEM;
    }
    for (unsigned i = 0; i < ARRAY_LEN(parts); i++) given[i] = was_set(c, parts[i].key);
    if (whole && c->memory_max_bytes < LEAST_BYTES) {
        snprintf(why, why_len, "memory.max.bytes must be at least %lld", (long long)LEAST_BYTES);
        return ERR_INVALID;
    }
    if (!whole) put(c, "memory.max.bytes", budget(c, machine_bytes), ARRAY_LEN(parts));
    derive(c, given);
    enum err err = check_least(c, why, why_len);
    if (err != OK || planned(c) <= (double)c->memory_max_bytes) return err;
    /* Nobody has said how much it may be: it is what the settings need, if the machine has that. */
    bool fits = machine_bytes <= 0 || planned(c) <= (double)machine_bytes;
    if (whole || !fits || planned(c) > 9e18) return too_much(c, why, why_len);
    put(c, "memory.max.bytes", memory_planned_bytes(c), ARRAY_LEN(parts));
    return OK;
}
