/* protogen_schema.c - reads proto/kafka.schema; the language is described at the top of that file.
 *
 * One statement to a line; `#` begins a comment. Errors name file and line. */
#include <ctype.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "protogen.h"

const struct type_info type_infos[] = {
    [TYPE_BOOL] = {"bool", "bool", "bool", 1, 1},
    [TYPE_INT8] = {"int8", "int8_t", "i8", 1, 1},
    [TYPE_INT16] = {"int16", "int16_t", "i16", 2, 2},
    [TYPE_UINT16] = {"uint16", "uint16_t", "u16", 2, 2},
    [TYPE_INT32] = {"int32", "int32_t", "i32", 4, 4},
    [TYPE_UINT32] = {"uint32", "uint32_t", "u32", 4, 4},
    [TYPE_INT64] = {"int64", "int64_t", "i64", 8, 8},
    [TYPE_FLOAT64] = {"float64", "double", "f64", 8, 8},
    [TYPE_UUID] = {"uuid", "struct uuid", "uuid", 16, 16},
    [TYPE_STRING] = {"string", "struct str", "str", 2, 1},
    [TYPE_BYTES] = {"bytes", "struct bytes", "bytes", 4, 1},
    [TYPE_RECORDS] = {"records", "struct bytes", "records", 4, 1},
    [TYPE_STRUCT] = {"struct", NULL, NULL, 0, 0},
};

enum { WORDS_MAX = 24, DEPTH_MAX = 8, LINE_MAX_CHARS = 1024 };

struct parser {
    const char *path;
    FILE *in;
    int line;
    char text[LINE_MAX_CHARS];
    char *words[WORDS_MAX];
    int word_count, next_word;
    struct schema *schema;
    struct message *message;     /* being read */
    struct strukt **commons;     /* of the message */
    int common_count;
};

__attribute__((noreturn, format(printf, 2, 3))) static void fail(const struct parser *p, const char *fmt, ...) {
    va_list args;
    fprintf(stderr, "%s:%d: error: ", p->path, p->line);
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

static void *grow(void *array, int count, size_t size) {
    void *bigger = realloc(array, ((size_t)count + 1) * size);
    if (!bigger) abort();
    memset((char *)bigger + (size_t)count * size, 0, size);
    return bigger;
}

__attribute__((format(printf, 1, 2))) static char *text_of(const char *fmt, ...) {
    va_list args;
    char *text;
    va_start(args, fmt);
    int n = vasprintf(&text, fmt, args);
    va_end(args);
    if (n < 0) abort();
    return text;
}

/* ---- ranges ------------------------------------------------------------------------------ */

bool range_covers(struct range r, struct range within) { return r.lo <= within.lo && r.hi >= within.hi; }

struct range range_and(struct range a, struct range b) {
    return (struct range){a.lo > b.lo ? a.lo : b.lo, a.hi < b.hi ? a.hi : b.hi};
}

const char *range_cond(struct range r, struct range within) {
    static char texts[4][48];
    static int turn;
    char *text = texts[turn = (turn + 1) % 4];
    if (range_covers(r, within)) return NULL;
    if (r.lo == r.hi) snprintf(text, sizeof texts[0], "v == %d", r.lo);
    else if (r.lo <= within.lo) snprintf(text, sizeof texts[0], "v <= %d", r.hi);
    else if (r.hi >= within.hi) snprintf(text, sizeof texts[0], "v >= %d", r.lo);
    else snprintf(text, sizeof texts[0], "v >= %d && v <= %d", r.lo, r.hi);
    return text;
}

const char *range_expr(struct range r, struct range within) {
    if (range_empty(range_and(r, within))) return "false";
    const char *cond = range_cond(r, within);
    return cond ? cond : "true";
}

/* "3", "3-5" or "3+" */
static bool range_parse(const char *text, struct range *out) {
    char *end;
    if (!isdigit((unsigned char)*text)) return false;
    long lo = strtol(text, &end, 10), hi = lo;
    if (*end == '+') {
        hi = VERSION_MAX;
        end++;
    } else if (*end == '-') {
        if (!isdigit((unsigned char)end[1])) return false;
        hi = strtol(end + 1, &end, 10);
    }
    if (*end || lo > hi || hi > VERSION_MAX) return false;
    *out = (struct range){(int)lo, (int)hi};
    return true;
}

/* ---- names ------------------------------------------------------------------------------- */

/* "TopicId" -> "topic_id", "TLSPort" -> "tls_port" */
static char *snake(const char *name) {
    char *out = malloc(2 * strlen(name) + 1), *o = out;
    if (!out) abort();
    for (const char *c = name; *c; c++) {
        bool upper = isupper((unsigned char)*c);
        bool after_lower = c > name && !isupper((unsigned char)c[-1]);
        bool before_lower = c > name && islower((unsigned char)c[1]);
        if (upper && (after_lower || before_lower)) *o++ = '_';
        *o++ = (char)tolower((unsigned char)*c);
    }
    *o = '\0';
    return out;
}

static char *field_cname(const char *name) {
    static const char *const keywords[] = {
        "auto", "bool", "break", "case", "char", "const", "continue", "default", "do", "double", "else", "enum", "extern",
        "float", "for", "goto", "if", "inline", "int", "long", "register", "restrict", "return", "short", "signed",
        "sizeof", "static", "struct", "switch", "typedef", "union", "unsigned", "void", "volatile", "while"};
    char *cname = snake(name);
    for (size_t i = 0; i < sizeof keywords / sizeof keywords[0]; i++)
        if (strcmp(cname, keywords[i]) == 0) return text_of("%s_", cname);
    return cname;
}

static void name_check(const struct parser *p, const char *name) {
    bool good = isupper((unsigned char)*name);
    for (const char *c = name; *c; c++) good = good && isalnum((unsigned char)*c);
    if (!good) fail(p, "\"%s\" is not a name: it must start with a capital letter and consist of letters and digits", name);
}

/* ---- lines and words --------------------------------------------------------------------- */

static bool line_split(struct parser *p) {
    p->word_count = p->next_word = 0;
    char *c = p->text;
    for (;;) {
        while (isspace((unsigned char)*c)) c++;
        if (!*c || *c == '#') return p->word_count > 0;
        if (p->word_count == WORDS_MAX) fail(p, "more than %d words in a line", WORDS_MAX);
        p->words[p->word_count++] = c;
        if (*c == '"') {
            c = strchr(c + 1, '"');
            if (!c) fail(p, "the string is not closed");
            c++;
        }
        while (*c && !isspace((unsigned char)*c)) c++;
        if (*c) *c++ = '\0';
    }
}

/* Reads the next line with words; false at the end of the file. */
static bool line_next(struct parser *p) {
    while (fgets(p->text, sizeof p->text, p->in)) {
        p->line++;
        if (!strchr(p->text, '\n') && !feof(p->in)) fail(p, "line longer than %d characters", LINE_MAX_CHARS - 2);
        if (line_split(p)) return true;
    }
    return false;
}

static const char *word_peek(const struct parser *p) { return p->next_word < p->word_count ? p->words[p->next_word] : NULL; }

static const char *word_take(struct parser *p, const char *what) {
    if (p->next_word >= p->word_count) fail(p, "%s expected", what);
    return p->words[p->next_word++];
}

static bool word_accept(struct parser *p, const char *word) {
    const char *next = word_peek(p);
    if (!next || strcmp(next, word) != 0) return false;
    p->next_word++;
    return true;
}

static void words_end(struct parser *p) {
    if (word_peek(p)) fail(p, "unexpected \"%s\"", word_peek(p));
}

static int number_take(struct parser *p, const char *what, int max) {
    const char *word = word_take(p, what);
    char *end;
    long n = strtol(word, &end, 10);
    if (*end || !isdigit((unsigned char)*word) || n > max) fail(p, "%s expected, not \"%s\"", what, word);
    return (int)n;
}

static struct range range_take(struct parser *p, const char *what) {
    struct range r;
    const char *word = word_take(p, what);
    if (!range_parse(word, &r)) fail(p, "%s (3, 3-5 or 3+) expected, not \"%s\"", what, word);
    return r;
}

/* ---- fields ------------------------------------------------------------------------------ */

static struct strukt *common_find(const struct parser *p, const char *name, size_t len) {
    for (int i = 0; i < p->common_count; i++)
        if (strlen(p->commons[i]->name) == len && memcmp(p->commons[i]->name, name, len) == 0) return p->commons[i];
    return NULL;
}

/* "[]int32?5+": array, type, nullable and since when. */
static void type_take(struct parser *p, struct field *f) {
    const char *word = word_take(p, "a type"), *name = word;
    if (strncmp(name, "[]", 2) == 0) {
        f->array = true;
        name += 2;
    }
    size_t len = strcspn(name, "?");
    int kind = 0;
    while (kind <= TYPE_STRUCT && !(strlen(type_infos[kind].name) == len && memcmp(type_infos[kind].name, name, len) == 0))
        kind++;
    if (kind > TYPE_STRUCT) {
        kind = TYPE_STRUCT;
        f->of = common_find(p, name, len);
        if (!f->of) fail(p, "unknown type \"%s\"", word);
    }
    f->kind = (enum type_kind)kind;
    if (f->array && (kind == TYPE_BOOL || kind == TYPE_FLOAT64 || kind == TYPE_BYTES || kind == TYPE_RECORDS))
        fail(p, "arrays of %s are not supported", type_infos[kind].name);
    f->nullable = (struct range){1, 0};
    if (name[len] == '?') {
        f->nullable = (struct range){0, VERSION_MAX};
        if (name[len + 1] && !range_parse(name + len + 1, &f->nullable))
            fail(p, "\"%s\" is not a version range", name + len + 1);
        if (!f->array && kind < TYPE_STRING) fail(p, "%s cannot be null", type_infos[kind].name);
    }
}

static const char *default_int(const struct parser *p, const struct field *f, const char *word) {
    static const long long mins[] = {[TYPE_INT8] = INT8_MIN, [TYPE_INT16] = INT16_MIN, [TYPE_UINT16] = 0,
                                     [TYPE_INT32] = INT32_MIN, [TYPE_UINT32] = 0, [TYPE_INT64] = INT64_MIN};
    static const long long maxs[] = {[TYPE_INT8] = INT8_MAX, [TYPE_INT16] = INT16_MAX, [TYPE_UINT16] = UINT16_MAX,
                                     [TYPE_INT32] = INT32_MAX, [TYPE_UINT32] = UINT32_MAX, [TYPE_INT64] = INT64_MAX};
    char *end;
    long long value = strtoll(word, &end, 10);
    if (*end || end == word || value < mins[f->kind] || value > maxs[f->kind])
        fail(p, "\"%s\" is not a value of %s", word, type_infos[f->kind].name);
    if (value == INT64_MIN) return "INT64_MIN";
    if (value == INT32_MIN) return "INT32_MIN";
    if (value == INT64_MAX) return "INT64_MAX";
    return value ? text_of("%lld", value) : NULL;
}

static void default_take(struct parser *p, struct field *f) {
    const char *word = word_take(p, "a default");
    if (strcmp(word, "null") == 0) {
        if (range_empty(f->nullable)) fail(p, "the default is null but the field cannot be");
        f->default_null = true;
    } else if (f->array || f->kind == TYPE_STRUCT || f->kind == TYPE_BYTES || f->kind == TYPE_RECORDS) {
        fail(p, "the default of this type can only be null");
    } else if (f->kind == TYPE_BOOL) {
        if (strcmp(word, "true") != 0) fail(p, "the default of a bool is false unless \"true\"");
        f->default_value = "true";
    } else if (f->kind == TYPE_STRING) {
        size_t len = strlen(word);
        if (len < 2 || word[0] != '"' || word[len - 1] != '"') fail(p, "a string in quotes expected, not %s", word);
        f->default_value = text_of("%s", word);
    } else if (f->kind <= TYPE_INT64) {
        f->default_value = default_int(p, f, word);
    } else {
        fail(p, "no default for this type");
    }
}

static void fields_read(struct parser *p, struct strukt *s, int depth);

static struct strukt *struct_new(const struct parser *p, char *cname, struct range versions) {
    struct strukt *s = calloc(1, sizeof *s);
    if (!s) abort();
    for (int m = 0; m < p->schema->message_count; m++)
        for (int i = 0; i < p->schema->messages[m].struct_count; i++)
            if (strcmp(p->schema->messages[m].structs[i]->cname, cname) == 0) fail(p, "a struct %s exists already", cname);
    *s = (struct strukt){.cname = cname, .versions = versions, .flexible = p->message->flexible};
    return s;
}

/* Puts a finished struct behind those it uses. */
static void struct_add(struct parser *p, struct strukt *s) {
    struct message *m = p->message;
    m->structs = grow(m->structs, m->struct_count, sizeof *m->structs);
    m->structs[m->struct_count++] = s;
}

static void field_check(const struct parser *p, const struct strukt *s, const struct field *f) {
    for (int i = 0; i < s->field_count - 1; i++) {
        const struct field *other = &s->fields[i];
        if (strcmp(other->cname, f->cname) == 0) fail(p, "the struct has a field %s already", f->name);
        if (f->tag >= 0 && other->tag == f->tag && !range_empty(range_and(other->tagged, f->tagged)))
            fail(p, "tag %d is taken by %s", f->tag, other->name);
    }
    if (f->tag >= 0 && !range_covers(f->plain ? (struct range){1, 0} : s->flexible, range_and(f->tagged, s->versions)))
        fail(p, "a tag needs flexible versions");
    if (f->tag >= 0 && f->tagged.hi < f->versions.hi) fail(p, "once tagged, a field stays so: write \"%d+\"", f->tagged.lo);
    if (f->tag >= 0 && f->kind == TYPE_RECORDS) fail(p, "records cannot be tagged");
    if (field_is_pointer(f) && !f->default_null && f->tag >= 0) fail(p, "a tagged nullable struct must default to null");
    if (f->plain && f->kind != TYPE_STRING) fail(p, "plain is for strings");
}

static void field_read(struct parser *p, struct strukt *s, int depth) {
    s->fields = grow(s->fields, s->field_count, sizeof *s->fields);
    struct field *f = &s->fields[s->field_count++];
    struct range r;
    const char *name = word_take(p, "a name");
    bool opens = false;
    name_check(p, name);
    *f = (struct field){.name = text_of("%s", name), .cname = field_cname(name), .tag = -1, .tagged = {1, 0},
                        .versions = {0, VERSION_MAX}};
    type_take(p, f);
    if (word_peek(p) && range_parse(word_peek(p), &r)) {
        f->versions = r;
        p->next_word++;
    }
    if (word_accept(p, "tag")) {
        f->tag = number_take(p, "a tag number", 1000);
        f->tagged = f->versions;
        if (word_peek(p) && range_parse(word_peek(p), &r)) {
            f->tagged = r;
            p->next_word++;
        }
    }
    f->plain = word_accept(p, "plain");
    f->ignorable = word_accept(p, "ignorable");
    if (word_accept(p, "=")) default_take(p, f);
    opens = word_accept(p, "{");
    words_end(p);
    if (range_empty(range_and(f->versions, s->versions))) fail(p, "%s is in no version of its struct", f->name);
    f->versions = range_and(f->versions, s->versions);
    f->nullable = range_and(f->nullable, f->versions);
    f->tagged = range_and(f->tagged, f->versions);
    field_check(p, s, f);
    if (opens != (f->kind == TYPE_STRUCT && !f->of)) fail(p, "{ belongs after a field of type struct, and only there");
    if (!opens) return;
    struct strukt *of = struct_new(p, text_of("%s_%s", s->cname, f->cname), f->versions);
    f->of = of;
    fields_read(p, of, depth + 1);
    struct_add(p, of);
}

static void common_read(struct parser *p, int depth) {
    const char *name = word_take(p, "a name");
    name_check(p, name);
    if (common_find(p, name, strlen(name))) fail(p, "a struct %s exists already", name);
    struct strukt *s = struct_new(p, text_of("%s_%s", p->message->cname, field_cname(name)), p->message->versions);
    s->name = text_of("%s", name);
    if (!word_accept(p, "{")) fail(p, "{ expected");
    words_end(p);
    fields_read(p, s, depth + 1);
    struct_add(p, s);
    p->commons = grow(p->commons, p->common_count, sizeof *p->commons);
    p->commons[p->common_count++] = s;
}

/* Up to and including the closing brace. */
static void fields_read(struct parser *p, struct strukt *s, int depth) {
    int opened = p->line;
    if (depth > DEPTH_MAX) fail(p, "structs nest deeper than %d", DEPTH_MAX);
    while (line_next(p)) {
        if (word_accept(p, "}")) {
            words_end(p);
            return;
        }
        if (depth == 0 && word_accept(p, "struct")) common_read(p, depth);
        else field_read(p, s, depth);
    }
    p->line = opened;
    fail(p, "the brace is not closed");
}

/* ---- messages ---------------------------------------------------------------------------- */

/* After the name: "{" or "{}". */
static void message_read(struct parser *p, const struct message *head) {
    struct schema *s = p->schema;
    s->messages = grow(s->messages, s->message_count, sizeof *s->messages);
    struct message *m = p->message = &s->messages[s->message_count];
    *m = *head;
    m->cname = text_of("k_%s", snake(m->name));
    p->commons = NULL;
    p->common_count = 0;
    struct strukt *root = struct_new(p, m->cname, m->versions);
    s->message_count++;
    bool empty = word_accept(p, "{}");
    if (!empty && !word_accept(p, "{")) fail(p, "{ or {} expected");
    words_end(p);
    if (!empty) fields_read(p, root, 0);
    struct_add(p, root);
}

static struct range flexible_take(struct parser *p) {
    if (!word_accept(p, "flexible")) return (struct range){1, 0};
    struct range r = range_take(p, "the flexible versions");
    if (r.hi != VERSION_MAX) fail(p, "once flexible, all later versions are: write \"%d+\"", r.lo);
    return r;
}

static void api_read(struct parser *p) {
    struct schema *s = p->schema;
    struct api api = {.key = number_take(p, "an API key", 32767)};
    const char *name = word_take(p, "a name");
    name_check(p, name);
    api.name = text_of("%s", name);
    api.versions = range_take(p, "versions");
    if (api.versions.hi == VERSION_MAX) fail(p, "the versions of an API must end");
    api.flexible = flexible_take(p);
    words_end(p);
    for (int i = 0; i < s->api_count; i++)
        if (s->apis[i].key == api.key) fail(p, "API %d is described already: %s", api.key, s->apis[i].name);
    s->apis = grow(s->apis, s->api_count, sizeof *s->apis);
    s->apis[s->api_count++] = api;
    for (int response = 0; response < 2; response++) {
        const char *word = response ? "response" : "request";
        if (!line_next(p) || !word_accept(p, word)) fail(p, "the %s of %s expected", word, api.name);
        message_read(p, &(struct message){.name = text_of("%s%s", api.name, response ? "Response" : "Request"),
                                          .api_key = api.key, .type_id = -1, .request = !response,
                                          .versions = api.versions, .flexible = api.flexible});
    }
}

static void data_read(struct parser *p) {
    const char *name = word_take(p, "a name");
    name_check(p, name);
    struct message m = {.name = text_of("%s", name), .api_key = -1, .type_id = -1};
    m.versions = range_take(p, "versions");
    if (m.versions.hi == VERSION_MAX) fail(p, "the versions of a message must end");
    m.flexible = flexible_take(p);
    if (word_accept(p, "type")) m.type_id = number_take(p, "a record type", 32767);
    message_read(p, &m);
}

static void file_read(struct schema *s, const char *path, bool may_include) {
    struct parser p = {.path = path, .schema = s, .in = fopen(path, "r")};
    if (!p.in) {
        fprintf(stderr, "protogen: %s: ", path);
        perror(NULL);
        exit(1);
    }
    while (line_next(&p)) {
        if (word_accept(&p, "api")) api_read(&p);
        else if (word_accept(&p, "data")) data_read(&p);
        else if (may_include && word_accept(&p, "include")) {
            const char *slash = strrchr(path, '/');
            file_read(s, text_of("%.*s%s", slash ? (int)(slash - path) + 1 : 0, path, word_take(&p, "a file name")), false);
            words_end(&p);
        } else fail(&p, "api, data%s expected, not \"%s\"", may_include ? " or include" : "", word_peek(&p));
    }
    fclose(p.in);
}

/* A struct whose presence must be judged against its default: a tagged one, one that some
 * versions lack, and those inside them. */
static void mark_is_default(struct strukt *s) {
    if (s->needs_is_default) return;
    s->needs_is_default = true;
    for (int i = 0; i < s->field_count; i++)
        if (field_is_embedded(&s->fields[i])) mark_is_default(s->fields[i].of);
}

static int api_by_key(const void *a, const void *b) { return ((const struct api *)a)->key - ((const struct api *)b)->key; }

static void schema_finish(struct schema *s) {
    if (s->api_count) qsort(s->apis, (size_t)s->api_count, sizeof *s->apis, api_by_key);
    for (int m = 0; m < s->message_count; m++)
        for (int i = 0; i < s->messages[m].struct_count; i++) {
            struct strukt *st = s->messages[m].structs[i];
            for (int k = 0; k < st->field_count; k++) {
                struct field *f = &st->fields[k];
                bool judged = f->tag >= 0 || (!range_covers(f->versions, st->versions) && !f->ignorable);
                if (field_is_embedded(f) && judged) mark_is_default(f->of);
            }
        }
}

struct schema schema_read(const char *path) {
    struct schema s = {0};
    file_read(&s, path, true);
    schema_finish(&s);
    return s;
}
