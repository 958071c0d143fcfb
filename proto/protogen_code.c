/* protogen_code.c - writes kafka_messages.h and kafka_messages.c.
 *
 * For each struct: `_init`, a static `_read` (into zeroed memory: it sets only the defaults that
 * are not zero and what it finds) and a static `_write`; for each message the public decode and
 * encode around them. Version checks that cannot fail within the struct's versions are left out. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include "protogen.h"

/* ---- what fields are --------------------------------------------------------------------- */

/* Versions in which the field has its place in the order of fields, outside the tag section. */
static struct range positional(const struct field *f) {
    if (range_empty(f->tagged)) return f->versions;
    return (struct range){f->versions.lo, f->tagged.lo - 1};
}

static int struct_min_bytes(const struct strukt *s, int v);

static int field_min_bytes(const struct strukt *s, const struct field *f, int v) {
    bool flexible = !f->plain && v >= s->flexible.lo && v <= s->flexible.hi;
    struct range p = positional(f);
    if (v < p.lo || v > p.hi) return 0;
    if (f->array) return flexible ? 1 : 4;
    if (field_is_pointer(f) && v >= f->nullable.lo && v <= f->nullable.hi) return 1;
    if (f->kind == TYPE_STRUCT) return struct_min_bytes(f->of, v);
    return flexible ? type_infos[f->kind].min_flex_bytes : type_infos[f->kind].min_bytes;
}

static int struct_min_bytes(const struct strukt *s, int v) {
    int sum = v >= s->flexible.lo && v <= s->flexible.hi ? 1 : 0;
    for (int i = 0; i < s->field_count; i++) sum += field_min_bytes(s, &s->fields[i], v);
    return sum;
}

/* The least that an element of the array takes in any version that has the field. */
static int element_min_bytes(const struct field *f, struct range message_versions) {
    struct range r = range_and(f->versions, message_versions);
    int least = struct_min_bytes(f->of, r.lo);
    for (int v = r.lo + 1; v <= r.hi; v++) {
        int bytes = struct_min_bytes(f->of, v);
        if (bytes < least) least = bytes;
    }
    return least;
}

/* "m->x = ...;" for a default that is not all zero; NULL otherwise. */
static const char *default_stmt(const struct field *f) {
    static char text[256];
    if (f->array) {
        if (!f->default_null) return NULL;
        snprintf(text, sizeof text, "m->%s_n = -1;", f->cname);
    } else if (field_is_pointer(f)) {
        return NULL;
    } else if (f->kind == TYPE_STRUCT) {
        snprintf(text, sizeof text, "%s_init(&m->%s);", f->of->cname, f->cname);
    } else if (f->kind == TYPE_STRING) {
        if (f->default_null) return NULL;
        snprintf(text, sizeof text, "m->%s = STR_LIT(%s);", f->cname, f->default_value ? f->default_value : "\"\"");
    } else if (f->kind == TYPE_BYTES) {
        if (f->default_null) return NULL;
        snprintf(text, sizeof text, "m->%s = BYTES_EMPTY;", f->cname);
    } else {
        if (!f->default_value) return NULL;
        snprintf(text, sizeof text, "m->%s = %s;", f->cname, f->default_value);
    }
    return text;
}

/* C text for "the field differs from its default". */
static const char *differs_expr(const struct field *f) {
    static char texts[2][256];
    static int turn;
    char *text = texts[turn = !turn];
    size_t max = sizeof texts[0];
    bool nullable = !range_empty(f->nullable);
    const char *c = f->cname;
    if (f->array) snprintf(text, max, "m->%s_n != %d", c, f->default_null ? -1 : 0);
    else if (field_is_pointer(f)) snprintf(text, max, "m->%s != NULL", c);
    else if (f->kind == TYPE_STRUCT) snprintf(text, max, "!%s_is_default(&m->%s)", f->of->cname, c);
    else if (f->kind == TYPE_UUID) snprintf(text, max, "!uuid_is_zero(&m->%s)", c);
    else if (f->kind == TYPE_RECORDS) snprintf(text, max, "m->%s.p != NULL", c);
    else if (f->kind >= TYPE_STRING && f->default_null) snprintf(text, max, "m->%s.p != NULL", c);
    else if (f->kind >= TYPE_STRING && f->default_value) snprintf(text, max, "!str_is(m->%s, %s)", c, f->default_value);
    else if (f->kind >= TYPE_STRING && nullable) snprintf(text, max, "(m->%s.p == NULL || m->%s.len != 0)", c, c);
    else if (f->kind >= TYPE_STRING) snprintf(text, max, "m->%s.len != 0", c);
    else if (f->kind == TYPE_BOOL) snprintf(text, max, "%sm->%s", f->default_value ? "!" : "", c);
    else snprintf(text, max, "m->%s != %s", c, f->default_value ? f->default_value : "0");
    return text;
}

static const char *compact_expr(const struct strukt *s, const struct field *f, struct range present) {
    return f->plain ? "false" : range_expr(s->flexible, range_and(present, s->versions));
}

/* ---- the header -------------------------------------------------------------------------- */

static const char *upper(const char *name) {
    static char text[256];
    size_t n = 0;
    for (; name[n] && n < sizeof text - 1; n++) text[n] = (char)toupper((unsigned char)name[n]);
    text[n] = '\0';
    return text;
}

static void write_struct(FILE *out, const struct strukt *s) {
    fprintf(out, "struct %s {\n", s->cname);
    for (int i = 0; i < s->field_count; i++) {
        const struct field *f = &s->fields[i];
        const char *space = f->array || field_is_pointer(f) ? "*" : "";
        if (f->kind == TYPE_STRUCT) fprintf(out, "    struct %s %s%s;\n", f->of->cname, space, f->cname);
        else fprintf(out, "    %s %s%s;\n", type_infos[f->kind].c, space, f->cname);
        if (f->array) fprintf(out, "    int32_t %s_n;\n", f->cname);
    }
    if (s->field_count == 0) fprintf(out, "    uint8_t no_fields;\n");
    fprintf(out, "};\n");
}

void code_write_header(FILE *out, const struct schema *s) {
    fprintf(out, "/* Written by protogen from proto/kafka.schema; proto/kafka_api.h says how to read it. */\n"
                 "#ifndef PROTO_KAFKA_MESSAGES_H\n#define PROTO_KAFKA_MESSAGES_H\n#include \"proto/kafka_api.h\"\n\n"
                 "enum kafka_api_key {\n");
    for (int i = 0; i < s->api_count; i++) {
        /* The message's C name is k_<api>_request. */
        const struct message *m = s->messages;
        while (m->api_key != s->apis[i].key) m++;
        fprintf(out, "    API_%.*s = %d,\n", (int)(strlen(m->cname) - strlen("k__request")), upper(m->cname + 2),
                s->apis[i].key);
    }
    fprintf(out, "};\n\n/* Types of the records that coordinators keep: the int16 before a key. */\nenum kafka_record_type {\n");
    for (int i = 0; i < s->message_count; i++)
        if (s->messages[i].type_id >= 0)
            fprintf(out, "    %s_TYPE = %d,\n", upper(s->messages[i].cname), s->messages[i].type_id);
    fprintf(out, "};\n\n/* Ascending by key. */\nextern const struct kafka_api kafka_api_rows[%d];\n", s->api_count);
    for (int i = 0; i < s->message_count; i++) {
        const struct message *m = &s->messages[i];
        fprintf(out, "\n/* %s, versions %d to %d", m->name, m->versions.lo, m->versions.hi);
        if (!range_empty(m->flexible)) fprintf(out, ", flexible from %d", m->flexible.lo);
        fprintf(out, " */\n");
        for (int k = 0; k < m->struct_count; k++) write_struct(out, m->structs[k]);
        for (int k = 0; k < m->struct_count; k++)
            fprintf(out, "void %s_init(struct %s *m);\n", m->structs[k]->cname, m->structs[k]->cname);
        fprintf(out, "MUST_CHECK enum err %s_decode(struct %s *m, struct wire_reader *r, int16_t version);\n", m->cname,
                m->cname);
        fprintf(out, "void %s_encode(const struct %s *m, struct wire_writer *w, int16_t version);\n", m->cname, m->cname);
    }
    fprintf(out, "#endif\n");
}

/* ---- init, defaults ---------------------------------------------------------------------- */

static void write_init(FILE *out, const struct strukt *s) {
    fprintf(out, "\nvoid %s_init(struct %s *m) {\n    memset(m, 0, sizeof *m);\n", s->cname, s->cname);
    for (int i = 0; i < s->field_count; i++) {
        const char *stmt = default_stmt(&s->fields[i]);
        if (stmt) fprintf(out, "    %s\n", stmt);
    }
    fprintf(out, "}\n");
}

static void write_is_default(FILE *out, const struct strukt *s) {
    fprintf(out, "\nstatic bool %s_is_default(const struct %s *m) {\n    return !(", s->cname, s->cname);
    for (int i = 0; i < s->field_count; i++) fprintf(out, "%s%s", i ? " || " : "", differs_expr(&s->fields[i]));
    fprintf(out, "%s);\n}\n", s->field_count ? "" : "false");
}

/* ---- reading ----------------------------------------------------------------------------- */

/* The statement that reads the field; braces around it when it is more than one. */
static void write_read_stmt(FILE *out, const struct message *msg, const struct strukt *s, const struct field *f,
                            bool tagged) {
    struct range present = tagged ? f->tagged : positional(f);
    const char *compact = compact_expr(s, f, present), *nullable = range_expr(f->nullable, range_and(present, s->versions));
    const char *c = f->cname, *suffix = type_infos[f->kind].suffix;
    if (f->array && f->kind == TYPE_STRUCT) {
        fprintf(out, "{\n            m->%s = codec_get_structs(r, &m->%s_n, %s, %s, %d, sizeof *m->%s);\n", c, c,
                compact, nullable,
                element_min_bytes(f, msg->versions), c);
        fprintf(out, "            for (int32_t i = 0; i < m->%s_n && r->err == OK; i++) %s_read(&m->%s[i], r, v);\n", c,
                f->of->cname, c);
        fprintf(out, "        }");
    } else if (f->array) {
        fprintf(out, "m->%s = codec_get_%ss(r, &m->%s_n, %s, %s);", c, suffix, c, compact, nullable);
    } else if (field_is_pointer(f)) {
        fprintf(out, "{\n            m->%s = codec_get_struct(r, %s, %s, sizeof *m->%s);\n", c, nullable,
                tagged ? "true" : "false", c);
        fprintf(out, "            if (m->%s) %s_read(m->%s, r, v);\n        }", c, f->of->cname, c);
    } else if (f->kind == TYPE_STRUCT) {
        fprintf(out, "%s_read(&m->%s, r, v);", f->of->cname, c);
    } else if (f->kind >= TYPE_STRING) {
        fprintf(out, "m->%s = wire_get_%s(r, %s, %s);", c, f->kind == TYPE_STRING ? "str" : "bytes", compact, nullable);
    } else {
        fprintf(out, "m->%s = wire_get_%s(r);", c, suffix);
    }
}

static void write_read_tags(FILE *out, const struct message *msg, const struct strukt *s) {
    const char *cond = range_expr(s->flexible, s->versions);
    bool any = false;
    if (strcmp(cond, "false") == 0) return;
    for (int i = 0; i < s->field_count; i++) any = any || s->fields[i].tag >= 0;
    fprintf(out, "    ");
    if (strcmp(cond, "true") != 0) fprintf(out, "if (%s) ", cond);
    if (!any) {
        fprintf(out, "wire_skip_tags(r);\n");
        return;
    }
    fprintf(out, "for (uint32_t n = wire_get_uvarint(r); n > 0 && r->err == OK; n--) {\n"
                 "        struct codec_tag tag = codec_tag_open(r);\n        ");
    for (int i = 0; i < s->field_count; i++) {
        const struct field *f = &s->fields[i];
        if (f->tag < 0) continue;
        const char *since = range_cond(f->tagged, range_and(s->flexible, s->versions));
        fprintf(out, "if (tag.number == %d%s%s) ", f->tag, since ? " && " : "", since ? since : "");
        write_read_stmt(out, msg, s, f, true);
        fprintf(out, "\n        else ");
    }
    fprintf(out, "codec_tag_skip(r);\n        codec_tag_close(r, &tag);\n    }\n");
}

static void write_read(FILE *out, const struct message *msg, const struct strukt *s) {
    fprintf(out, "\nstatic void %s_read(struct %s *m, struct wire_reader *r, int16_t v) {\n", s->cname, s->cname);
    for (int i = 0; i < s->field_count; i++) {
        const struct field *f = &s->fields[i];
        const char *stmt = default_stmt(f);
        struct range p = positional(f);
        if (range_empty(p)) {
            if (stmt) fprintf(out, "    %s\n", stmt);
            continue;
        }
        const char *cond = range_cond(p, s->versions);
        if (cond) fprintf(out, "    if (%s) ", cond);
        else fprintf(out, "    ");
        write_read_stmt(out, msg, s, f, false);
        if (cond && stmt) fprintf(out, "\n    else %s", default_stmt(f));
        fprintf(out, "\n");
    }
    write_read_tags(out, msg, s);
    fprintf(out, "}\n");
}

/* ---- writing ----------------------------------------------------------------------------- */

static void write_write_stmt(FILE *out, const struct strukt *s, const struct field *f, bool tagged) {
    struct range present = tagged ? f->tagged : positional(f);
    const char *compact = compact_expr(s, f, present), *nullable = range_expr(f->nullable, range_and(present, s->versions));
    const char *c = f->cname, *suffix = type_infos[f->kind].suffix;
    if (f->array && f->kind == TYPE_STRUCT) {
        fprintf(out, "{\n            codec_put_count(w, m->%s_n, %s, %s);\n", c, compact, nullable);
        fprintf(out, "            for (int32_t i = 0; i < m->%s_n && w->err == OK; i++) %s_write(&m->%s[i], w, v);\n", c,
                f->of->cname, c);
        fprintf(out, "        }");
    } else if (f->array) {
        fprintf(out, "codec_put_%ss(w, m->%s, m->%s_n, %s, %s);", suffix, c, c, compact, nullable);
    } else if (field_is_pointer(f)) {
        fprintf(out, "{\n            if (codec_put_struct(w, m->%s != NULL, %s, %s)) %s_write(m->%s, w, v);\n        }",
                c, nullable,
                tagged ? "true" : "false", f->of->cname, c);
    } else if (f->kind == TYPE_STRUCT) {
        fprintf(out, "%s_write(&m->%s, w, v);", f->of->cname, c);
    } else if (f->kind >= TYPE_STRING) {
        fprintf(out, "wire_put_%s(w, m->%s, %s, %s);", suffix, c, compact, nullable);
    } else {
        fprintf(out, "wire_put_%s(w, %sm->%s);", suffix, f->kind == TYPE_UUID ? "&" : "", c);
    }
}

static int field_by_tag(const void *a, const void *b) {
    return (*(const struct field *const *)a)->tag - (*(const struct field *const *)b)->tag;
}

static void write_write_tags(FILE *out, const struct strukt *s) {
    const char *cond = range_expr(s->flexible, s->versions);
    if (strcmp(cond, "false") == 0) return;
    const struct field *tagged[64];
    size_t count = 0;
    for (int i = 0; i < s->field_count && count < sizeof tagged / sizeof tagged[0]; i++)
        if (s->fields[i].tag >= 0) tagged[count++] = &s->fields[i];
    qsort(tagged, count, sizeof tagged[0], field_by_tag);
    fprintf(out, "    ");
    if (strcmp(cond, "true") != 0) fprintf(out, "if (%s) ", cond);
    if (count == 0) {
        fprintf(out, "wire_put_uvarint(w, 0);\n");
        return;
    }
    fprintf(out, "{\n");
    for (size_t i = 0; i < count; i++) {
        const char *since = range_cond(tagged[i]->tagged, range_and(s->flexible, s->versions));
        fprintf(out, "        const bool tag%d = %s%s%s;\n", tagged[i]->tag, since ? since : "", since ? " && " : "",
                differs_expr(tagged[i]));
    }
    fprintf(out, "        wire_put_uvarint(w, (uint32_t)(");
    for (size_t i = 0; i < count; i++) fprintf(out, "%stag%d", i ? " + " : "", tagged[i]->tag);
    fprintf(out, "));\n");
    for (size_t i = 0; i < count; i++) {
        fprintf(out, "        if (tag%d) {\n            const size_t begin = codec_tag_begin(w, %d);\n            ",
                tagged[i]->tag, tagged[i]->tag);
        write_write_stmt(out, s, tagged[i], true);
        fprintf(out, "\n            codec_tag_end(w, begin);\n        }\n");
    }
    fprintf(out, "    }\n");
}

static void write_write(FILE *out, const struct strukt *s) {
    fprintf(out, "\nstatic void %s_write(const struct %s *m, struct wire_writer *w, int16_t v) {\n", s->cname, s->cname);
    for (int i = 0; i < s->field_count; i++) {
        const struct field *f = &s->fields[i];
        struct range p = positional(f);
        const char *absent = range_cond(f->versions, s->versions);
        if (absent && !f->ignorable)
            fprintf(out, "    if (!(%s) && %s) codec_write_fail(w, ERR_INVALID);\n", absent, differs_expr(f));
        if (range_empty(p)) continue;
        const char *cond = range_cond(p, s->versions);
        if (cond) fprintf(out, "    if (%s) ", cond);
        else fprintf(out, "    ");
        write_write_stmt(out, s, f, false);
        fprintf(out, "\n");
    }
    write_write_tags(out, s);
    fprintf(out, "}\n");
}

/* ---- the source -------------------------------------------------------------------------- */

static void write_message(FILE *out, const struct message *m) {
    const char *c = m->cname;
    for (int i = 0; i < m->struct_count; i++) {
        write_init(out, m->structs[i]);
        if (m->structs[i]->needs_is_default) write_is_default(out, m->structs[i]);
        write_read(out, m, m->structs[i]);
        write_write(out, m->structs[i]);
    }
    fprintf(out, "\nenum err %s_decode(struct %s *m, struct wire_reader *r, int16_t version) {\n    memset(m, 0, sizeof *m);\n"
                 "    if (version < %d || version > %d) codec_read_fail(r, ERR_UNSUPPORTED);\n"
                 "    else %s_read(m, r, version);\n    return r->err;\n}\n", c, c, m->versions.lo, m->versions.hi, c);
    fprintf(out, "\nvoid %s_encode(const struct %s *m, struct wire_writer *w, int16_t version) {\n"
                 "    if (version < %d || version > %d) codec_write_fail(w, ERR_INVALID);\n"
                 "    else %s_write(m, w, version);\n}\n", c, c, m->versions.lo, m->versions.hi, c);
}

void code_write_source(FILE *out, const struct schema *s) {
    fprintf(out, "/* Written by protogen from proto/kafka.schema. */\n"
                 "#include \"proto/codec.h\"\n#include \"proto/kafka_messages.h\"\n\n"
                 "#pragma GCC diagnostic ignored \"-Wunused-parameter\"\n"
                 "#define BYTES_EMPTY ((struct bytes){(const uint8_t *)\"\", 0})\n\n"
                 "const struct kafka_api kafka_api_rows[%d] = {\n", s->api_count);
    for (int i = 0; i < s->api_count; i++) {
        const struct api *a = &s->apis[i];
        fprintf(out, "    {%d, \"%s\", %d, %d, ", a->key, a->name, a->versions.lo, a->versions.hi);
        fprintf(out, range_empty(a->flexible) ? "INT16_MAX},\n" : "%d},\n", a->flexible.lo);
    }
    fprintf(out, "};\n");
    for (int i = 0; i < s->message_count; i++) write_message(out, &s->messages[i]);
}
