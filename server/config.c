/* config.c - collecting values from their sources, checking them, filling struct config. */
#include "server/config.h"
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/assert.h"
#include "server/memory.h"

#define CONFIG_TEXT_MAX 65536 /* of one value */

struct config_builder {
    struct config_value *values; /* text is malloc'ed where the source is not CONFIG_DEFAULT */
    char **origins;              /* "server.properties:12" of each value that was set; owned */
    int64_t machine_bytes;       /* config_machine_memory() */
    unsigned ignored;
    char ignored_first[64];      /* one of them, as an example */
    char ignored_listeners[256]; /* controller.listener.names: their listeners are left out */
};

PRINTF_LIKE(3, 4) static enum err refuse(char *why, size_t why_len, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, why_len, fmt, ap);
    va_end(ap);
    return ERR_INVALID;
}

struct config_builder *config_builder_new(void) {
    size_t count;
    config_keys(&count);
    struct config_builder *b = calloc(1, sizeof *b);
    if (!b) return NULL;
    b->values = calloc(count, sizeof *b->values);
    b->origins = calloc(count, sizeof *b->origins);
    if (!b->values || !b->origins) {
        config_builder_free(b);
        return NULL;
    }
    return b;
}

void config_builder_free(struct config_builder *b) {
    if (!b) return;
    size_t count;
    config_keys(&count);
    for (size_t i = 0; i < count && b->values && b->origins; i++) {
        free((char *)b->values[i].text);
        free(b->origins[i]);
    }
    free(b->values);
    free(b->origins);
    free(b);
}

/* ---- values ------------------------------------------------------------------------------ */

static bool in_choices(const char *choices, const char *p, size_t len) {
    while (*choices) {
        size_t n = strcspn(choices, "|");
        if (n == len && memcmp(choices, p, n) == 0) return true;
        choices += n + (choices[n] == '|');
    }
    return false;
}

static bool is_true(struct str s) { return s.len == 4 && strncasecmp(s.p, "true", 4) == 0; }
static bool is_false(struct str s) { return s.len == 5 && strncasecmp(s.p, "false", 5) == 0; }

static enum err check_whole(enum config_type type, double min, double max, struct str text, char *why, size_t why_len) {
    char number[32], *end;
    if (text.len == 0 || (size_t)text.len >= sizeof number) return refuse(why, why_len, "is not a whole number");
    memcpy(number, text.p, (size_t)text.len);
    number[text.len] = 0;
    if (!strchr("+-0123456789", number[0])) return refuse(why, why_len, "is not a whole number");
    errno = 0;
    long long v = strtoll(number, &end, 10);
    if (*end || end == number) return refuse(why, why_len, "is not a whole number");
    if (errno || (type == CONFIG_INT && (v < INT32_MIN || v > INT32_MAX)))
        return refuse(why, why_len, "does not fit %d bits", type == CONFIG_INT ? 32 : 64);
    if ((min != 0 || max != 0) && ((double)v < min || (double)v > max)) {
        if (max >= 9223372036854775807.0 || (type == CONFIG_INT && max >= INT32_MAX))
            return refuse(why, why_len, "must be at least %.0f", min);
        return refuse(why, why_len, "must be between %.0f and %.0f", min, max);
    }
    return OK;
}

static enum err check_double(double min, double max, struct str text, char *why, size_t why_len) {
    char number[64], *end;
    if (text.len == 0 || (size_t)text.len >= sizeof number) return refuse(why, why_len, "is not a number");
    memcpy(number, text.p, (size_t)text.len);
    number[text.len] = 0;
    double v = strtod(number, &end);
    if (*end || end == number || !isfinite(v)) return refuse(why, why_len, "is not a number");
    if ((min != 0 || max != 0) && (v < min || v > max)) return refuse(why, why_len, "must be between %g and %g", min, max);
    return OK;
}

static enum err check_list(const char *choices, struct str text, char *why, size_t why_len) {
    for (int32_t i = 0; choices && i < text.len;) {
        int32_t from = i, to;
        while (i < text.len && text.p[i] != ',') i++;
        to = i++;
        while (from < to && text.p[from] == ' ') from++;
        while (to > from && text.p[to - 1] == ' ') to--;
        if (!in_choices(choices, text.p + from, (size_t)(to - from)))
            return refuse(why, why_len, "holds something else than %s", choices);
    }
    return OK;
}

enum err config_check_value(enum config_type type, double min, double max, const char *choices, struct str text,
                            char *why, size_t why_len) {
    if (text.len > CONFIG_TEXT_MAX) return refuse(why, why_len, "is too long");
    switch (type) {
    case CONFIG_BOOL: return is_true(text) || is_false(text) ? OK : refuse(why, why_len, "must be true or false");
    case CONFIG_INT:
    case CONFIG_LONG: return check_whole(type, min, max, text, why, why_len);
    case CONFIG_DOUBLE: return check_double(min, max, text, why, why_len);
    case CONFIG_LIST: return check_list(choices, text, why, why_len);
    case CONFIG_STRING:
        if (choices && !in_choices(choices, text.p, (size_t)text.len))
            return refuse(why, why_len, "must be one of %s", choices);
        return OK;
    }
    ASSERT(false);
    return ERR_INVALID;
}

/* ---- sources ----------------------------------------------------------------------------- */

static enum err value_set(struct config_builder *b, const struct config_key *key, enum config_source source,
                          const char *origin, struct str value, char *why, size_t why_len) {
    size_t count, i = (size_t)(key - config_keys(&count));
    char reason[160];
    if (config_check_value(key->type, key->min, key->max, key->choices, value, reason, sizeof reason) != OK ||
        config_connections_check(key, value, reason, sizeof reason) != OK)
        return refuse(why, why_len, "%s: %s: \"%.*s\" %s", origin, key->name, (int)MIN(value.len, 80), value.p, reason);
    char *text = strndup(value.p ? value.p : "", (size_t)value.len);
    char *from = strdup(origin);
    if (!text || !from) {
        free(text);
        free(from);
        (void)refuse(why, why_len, "%s: out of memory", origin);
        return ERR_NOMEM;
    }
    free((char *)b->values[i].text);
    free(b->origins[i]);
    b->values[i] = (struct config_value){text, source};
    b->origins[i] = from;
    return OK;
}

static void ignored_note(struct config_builder *b, struct str name, struct str value) {
    if (b->ignored++ == 0) snprintf(b->ignored_first, sizeof b->ignored_first, "%.*s", (int)name.len, name.p);
    if (str_is(name, "controller.listener.names"))
        snprintf(b->ignored_listeners, sizeof b->ignored_listeners, "%.*s", (int)value.len, value.p);
}

static enum err add(struct config_builder *b, enum config_source source, const char *origin, struct str name,
                    struct str value, char *why, size_t why_len) {
    const struct config_key *key = config_find(str_is(name, "broker.id") ? STR_LIT("node.id") : name);
    if (key) return value_set(b, key, source, origin, value, why, why_len);
    if (config_is_ignored(name)) {
        ignored_note(b, name, value);
        return OK;
    }
    const char *nearest = config_nearest(name);
    if (nearest)
        return refuse(why, why_len, "%s: unknown key \"%.*s\"; did you mean \"%s\"?", origin, (int)MIN(name.len, 80), name.p, nearest);
    return refuse(why, why_len, "%s: unknown key \"%.*s\" (varved --print-config-reference lists all)", origin,
                  (int)MIN(name.len, 80), name.p);
}

enum err config_add(struct config_builder *b, const char *origin, struct str name, struct str value, char *why, size_t why_len) {
    return add(b, CONFIG_FLAG, origin, name, value, why, why_len);
}

enum err config_add_properties(struct config_builder *b, const char *origin, const char *text, size_t len, char *why,
                               size_t why_len) {
    char *scratch = malloc(len + 2);
    if (!scratch) {
        (void)refuse(why, why_len, "%s: out of memory", origin);
        return ERR_NOMEM;
    }
    struct config_parser ps = {text, text + len, 0, 0};
    struct str key, value;
    const char *bad = NULL;
    enum config_parsed got;
    enum err err = OK;
    char at[320];
    while (err == OK && (got = config_parse(&ps, scratch, len + 2, &key, &value, &bad)) != CONFIG_END) {
        snprintf(at, sizeof at, "%s:%u", origin, ps.line);
        err = got == CONFIG_BAD ? refuse(why, why_len, "%s: %s", at, bad)
                                : add(b, CONFIG_FILE, at, key, value, why, why_len);
    }
    free(scratch);
    return err;
}

/* KAFKA_LOG_RETENTION__MS -> log.retention_ms: one underscore is a dot, two one underscore, three a dash. */
static int32_t environment_key(const char *name, size_t len, char *out) {
    size_t n = 0;
    for (size_t i = 0; i < len;) {
        size_t run = 0;
        while (i + run < len && name[i + run] == '_' && run < 3) run++;
        if (run) out[n++] = run == 1 ? '.' : run == 2 ? '_' : '-';
        else out[n++] = (char)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] + 32 : name[i]);
        i += run ? run : 1;
    }
    return (int32_t)n;
}

/* An unknown variable is refused only when it is one slip away from a key: machines set others with
 * the same prefix (KAFKA_HOME, KAFKA_HEAP_OPTS; Kubernetes makes KAFKA_PORT for a service "kafka"). */
static bool looks_misspelt(struct str key) {
    const char *nearest = config_nearest(key);
    if (!nearest || key.len < 8) return false;
    size_t n = strlen(nearest), m = (size_t)key.len, same = 0, tail = 0;
    while (same < n && same < m && nearest[same] == key.p[same]) same++;
    while (tail < n - same && tail < m - same && nearest[n - 1 - tail] == key.p[m - 1 - tail]) tail++;
    return n - same - tail <= 2 && m - same - tail <= 2;
}

enum err config_add_environment(struct config_builder *b, char *const *environ_strings, char *why, size_t why_len) {
    static const char prefix[] = "KAFKA_";
    enum err err = OK;
    for (char *const *e = environ_strings; err == OK && *e; e++) {
        const char *eq = strchr(*e, '=');
        if (!eq || strncmp(*e, prefix, sizeof prefix - 1) != 0) continue;
        const char *name = *e + sizeof prefix - 1;
        char key_text[128], origin[160];
        size_t len = (size_t)(eq - name);
        if (len == 0 || len > sizeof key_text) continue;
        struct str key = {key_text, environment_key(name, len, key_text)};
        snprintf(origin, sizeof origin, "environment %.*s", (int)(eq - *e), *e);
        bool known = config_find(key) || str_is(key, "broker.id") || config_is_ignored(key);
        if (known || looks_misspelt(key)) err = add(b, CONFIG_ENV, origin, key, str_from(eq + 1), why, why_len);
        else ignored_note(b, (struct str){*e, (int32_t)(eq - *e)}, STR_NULL);
    }
    return err;
}

bool config_ignored_summary(const struct config_builder *b, char *line, size_t line_len) {
    if (b->ignored == 0) return false;
    if (b->ignored == 1) snprintf(line, line_len, "%s is accepted but means nothing here", b->ignored_first);
    else snprintf(line, line_len, "%u settings are accepted but mean nothing here (%s, ...)", b->ignored, b->ignored_first);
    return true;
}

/* ---- finishing --------------------------------------------------------------------------- */

const struct config_value *config_value(const struct config *c, const char *name) {
    const struct config_key *key = config_find(str_from(name));
    ASSERT(key);
    size_t count;
    return &c->values[key - config_keys(&count)];
}

void config_field_fill(struct config *c, const struct config_key *key, const char *text) {
    char *at = (char *)c + key->offset;
    switch (key->type) {
    case CONFIG_BOOL: *(bool *)(void *)at = text && strcasecmp(text, "true") == 0; return;
    case CONFIG_INT: *(int32_t *)(void *)at = (int32_t)strtol(text, NULL, 10); return;
    case CONFIG_LONG: *(int64_t *)(void *)at = strtoll(text, NULL, 10); return;
    case CONFIG_DOUBLE: *(double *)(void *)at = strtod(text, NULL); return;
    case CONFIG_STRING:
    case CONFIG_LIST: *(const char **)(void *)at = text; return;
    }
}

static enum err values_copy(struct config_builder *b, struct config *out) {
    size_t count;
    const struct config_key *keys = config_keys(&count);
    out->values = calloc(count, sizeof *out->values);
    if (!out->values) return ERR_NOMEM;
    for (size_t i = 0; i < count; i++) {
        out->values[i] = (struct config_value){keys[i].initial, CONFIG_DEFAULT};
        if (b->values[i].source != CONFIG_DEFAULT) {
            char *text = strdup(b->values[i].text);
            if (!text) return ERR_NOMEM;
            out->values[i] = (struct config_value){text, b->values[i].source};
        }
        if (keys[i].offset != CONFIG_NO_FIELD) config_field_fill(out, &keys[i], out->values[i].text);
    }
    return OK;
}

static const char *origin_of(const struct config_builder *b, const char *name) {
    size_t count, i = (size_t)(config_find(str_from(name)) - config_keys(&count));
    return b->origins[i] ? b->origins[i] : "default";
}

/* malloc'ed; NULL: errno. */
static char *absolute_path(const char *dir) {
    if (dir[0] == '/') return strdup(dir);
    while (dir[0] == '.' && dir[1] == '/') dir += 2;
    char *here = getcwd(NULL, 0), *path = NULL;
    if (here && asprintf(&path, "%s/%s", here[1] ? here : "", dir) < 0) path = NULL;
    free(here);
    return path;
}

static enum err data_dir_fill(const struct config_builder *b, struct config *c, char *why, size_t why_len) {
    const char *dirs = config_value(c, "log.dirs")->text, *dir = config_value(c, "log.dir")->text;
    c->data_dir = dirs ? dirs : dir ? dir : "./varve-data";
    const char *origin = origin_of(b, dirs ? "log.dirs" : "log.dir");
    if (strchr(c->data_dir, ',')) return refuse(why, why_len, "%s: log.dirs: only one data directory is supported", origin);
    if (!c->data_dir[0]) return refuse(why, why_len, "%s: the data directory is empty", origin);
    if (strlen(c->data_dir) > 3000) return refuse(why, why_len, "%s: the data directory's name is too long", origin);
    c->data_path = absolute_path(c->data_dir);
    return c->data_path ? OK : refuse(why, why_len, "%s: the path of the data directory cannot be told: %s", origin, strerrordesc_np(errno));
}

void config_machine_memory(struct config_builder *b, int64_t bytes) { b->machine_bytes = bytes; }

/* One for each core, fewer where there is little memory for each. */
static int32_t reactors_default(const struct config_builder *b, const struct config *c) {
    const int64_t each = 64 << 20;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int64_t count = cores < 1 ? 1 : MIN(cores, 256), memory = c->memory_max_bytes;
    if (memory == 0) memory = b->machine_bytes / 2;
    if (memory > 0) count = MIN(count, MAX(memory / each, 1));
    return (int32_t)count;
}

enum err config_finish(struct config_builder *b, struct config *out, char *why, size_t why_len) {
    memset(out, 0, sizeof *out);
    enum err err = values_copy(b, out);
    if (err != OK) (void)refuse(why, why_len, "out of memory");
    if (err == OK) err = data_dir_fill(b, out, why, why_len);
    if (err == OK) {
        char reason[512];
        err = config_listeners_fill(out, b->ignored_listeners, reason, sizeof reason);
        if (err != OK) (void)refuse(why, why_len, "%s: %s", origin_of(b, "listeners"), reason);
    }
    if (err == OK) err = config_peers_fill(out, b->ignored_listeners, why, why_len);
    if (err == OK) {
        bool anybody = out->max_connections_per_ip > 0 || (out->max_connections_per_ip_overrides && *out->max_connections_per_ip_overrides);
        if (!anybody) err = refuse(why, why_len, "%s: max.connections.per.ip: 0 needs max.connections.per.ip.overrides", origin_of(b, "max.connections.per.ip"));
    }
    if (err == OK) {
        out->relaxed = strcmp(config_value(out, "durability")->text, "relaxed") == 0;
        if (out->reactors == 0) out->reactors = reactors_default(b, out);
        err = memory_plan(out, b->machine_bytes, why, why_len);
    }
    if (err != OK) config_free(out);
    return err;
}

enum err config_defaults(struct config *out) {
    char why[128];
    struct config_builder *b = config_builder_new();
    if (!b) return ERR_NOMEM;
    enum err err = config_finish(b, out, why, sizeof why);
    config_builder_free(b);
    return err;
}

void config_free(struct config *c) {
    size_t count;
    config_keys(&count);
    for (size_t i = 0; c->values && i < count; i++)
        if (c->values[i].source != CONFIG_DEFAULT) free((char *)c->values[i].text);
    free(c->values);
    free(c->derived);
    free(c->data_path);
    memset(c, 0, sizeof *c);
}
