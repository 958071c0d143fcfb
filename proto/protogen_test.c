/* protogen_test.c - writes kafka_messages_test.h and .c: for every message random values that are
 * valid in a version, comparison, a text form, and a table of all messages through which tests
 * treat them alike. The helpers are in tests/unit/codec_values.h. */
#include <string.h>
#include "protogen.h"

void test_write_header(FILE *out, const struct schema *s) {
    fprintf(out, "/* Written by protogen from proto/kafka.schema, for tests only. */\n"
                 "#ifndef PROTO_KAFKA_MESSAGES_TEST_H\n#define PROTO_KAFKA_MESSAGES_TEST_H\n"
                 "#include \"proto/kafka_messages.h\"\n#include \"tests/unit/codec_values.h\"\n\n"
                 "/* Requests and responses of all APIs, ascending by key, and the data messages. */\n"
                 "enum { KAFKA_MESSAGE_TESTS = %d };\n"
                 "extern const struct codec_message kafka_message_tests[KAFKA_MESSAGE_TESTS];\n#endif\n", s->message_count);
}

/* "    " or "    if (v >= 3) ": whether the version has the field. */
static void write_cond(FILE *out, const struct strukt *s, const struct field *f) {
    const char *cond = range_cond(f->versions, s->versions);
    fprintf(out, "    ");
    if (cond) fprintf(out, "if (%s) ", cond);
}

static void write_fill(FILE *out, const struct strukt *s) {
    fprintf(out, "\nstatic void %s_fill(struct %s *m, struct codec_fill *f, int16_t v) {\n    %s_init(m);\n", s->cname,
            s->cname, s->cname);
    for (int i = 0; i < s->field_count; i++) {
        const struct field *f = &s->fields[i];
        const char *c = f->cname, *nullable = range_expr(f->nullable, f->versions);
        write_cond(out, s, f);
        if (f->tag >= 0) fprintf(out, "if (fill_chance(f)) ");
        if (f->array) {
            fprintf(out, "{\n        m->%s_n = fill_count(f, %s);\n", c, nullable);
            fprintf(out, "        m->%s = fill_array(f, m->%s_n, sizeof *m->%s);\n", c, c, c);
            fprintf(out, "        for (int32_t i = 0; i < m->%s_n; i++) ", c);
            if (f->kind == TYPE_STRUCT) fprintf(out, "%s_fill(&m->%s[i], f, v);\n    }\n", f->of->cname, c);
            else fprintf(out, "m->%s[i] = fill_%s(f%s);\n    }\n", c, type_infos[f->kind].suffix,
                         f->kind == TYPE_STRING ? ", false" : "");
        } else if (field_is_pointer(f)) {
            fprintf(out, "{\n        m->%s = fill_array(f, fill_null(f, %s) ? 0 : 1, sizeof *m->%s);\n", c, nullable, c);
            fprintf(out, "        if (m->%s) %s_fill(m->%s, f, v);\n    }\n", c, f->of->cname, c);
        } else if (f->kind == TYPE_STRUCT) {
            fprintf(out, "%s_fill(&m->%s, f, v);\n", f->of->cname, c);
        } else {
            fprintf(out, "m->%s = fill_%s(f%s%s);\n", c, f->kind == TYPE_RECORDS ? "bytes" : type_infos[f->kind].suffix,
                    f->kind >= TYPE_STRING ? ", " : "", f->kind >= TYPE_STRING ? nullable : "");
        }
    }
    fprintf(out, "}\n");
}

static void write_equal(FILE *out, const struct strukt *s) {
    fprintf(out, "\nstatic bool %s_equal(const struct %s *a, const struct %s *b) {\n", s->cname, s->cname, s->cname);
    for (int i = 0; i < s->field_count; i++) {
        const struct field *f = &s->fields[i];
        const char *c = f->cname;
        if (f->array) {
            fprintf(out, "    if (a->%s_n != b->%s_n) return false;\n", c, c);
            fprintf(out, "    for (int32_t i = 0; i < a->%s_n; i++)\n        if (!", c);
            if (f->kind == TYPE_STRUCT) fprintf(out, "%s_equal(&a->%s[i], &b->%s[i])", f->of->cname, c, c);
            else fprintf(out, "equal_%s(a->%s[i], b->%s[i])", type_infos[f->kind].suffix, c, c);
            fprintf(out, ") return false;\n");
        } else if (field_is_pointer(f)) {
            fprintf(out, "    if (!a->%s != !b->%s || (a->%s && !%s_equal(a->%s, b->%s))) return false;\n", c, c, c,
                    f->of->cname, c, c);
        } else if (f->kind == TYPE_STRUCT) {
            fprintf(out, "    if (!%s_equal(&a->%s, &b->%s)) return false;\n", f->of->cname, c, c);
        } else {
            fprintf(out, "    if (!equal_%s(a->%s, b->%s)) return false;\n",
                    f->kind == TYPE_RECORDS ? "bytes" : type_infos[f->kind].suffix, c, c);
        }
    }
    fprintf(out, "    return true;\n}\n");
}

static void write_dump_value(FILE *out, const struct field *f, const char *value, const char *amp) {
    if (f->kind == TYPE_STRUCT) fprintf(out, "%s_dump(out, %s%s, v);\n", f->of->cname, amp, value);
    else fprintf(out, "dump_%s(out, %s);\n", f->kind == TYPE_RECORDS ? "bytes" : type_infos[f->kind].suffix, value);
}

static void write_dump(FILE *out, const struct strukt *s) {
    char value[256];
    fprintf(out, "\nstatic void %s_dump(FILE *out, const struct %s *m, int16_t v) {\n    fputc('{', out);\n", s->cname,
            s->cname);
    for (int i = 0; i < s->field_count; i++) {
        const struct field *f = &s->fields[i];
        const char *c = f->cname;
        write_cond(out, s, f);
        fprintf(out, "{\n        dump_name(out, \"%s\");\n        ", c);
        if (f->array) {
            fprintf(out, "if (dump_open(out, m->%s_n)) {\n            for (int32_t i = 0; i < m->%s_n; i++) {\n"
                         "                dump_comma(out, i);\n                ", c, c);
            snprintf(value, sizeof value, "m->%s[i]", c);
            write_dump_value(out, f, value, "&");
            fprintf(out, "            }\n            fputc(']', out);\n        }\n");
        } else {
            snprintf(value, sizeof value, "m->%s", c);
            if (field_is_pointer(f)) fprintf(out, "if (!m->%s) fputs(\"null\", out);\n        else ", c);
            write_dump_value(out, f, value, field_is_pointer(f) ? "" : "&");
        }
        fprintf(out, "    }\n");
    }
    fprintf(out, "    fputc('}', out);\n}\n");
}

/* The table's functions take void pointers. */
static void write_wrappers(FILE *out, const struct message *m) {
    const char *c = m->cname;
    fprintf(out, "\nstatic void %s_init_any(void *m) { %s_init(m); }\n", c, c);
    fprintf(out, "static enum err %s_decode_any(void *m, struct wire_reader *r, int16_t v) { return %s_decode(m, r, v); }\n", c, c);
    fprintf(out, "static void %s_encode_any(const void *m, struct wire_writer *w, int16_t v) { %s_encode(m, w, v); }\n",
            c, c);
    fprintf(out, "static void %s_fill_any(void *m, struct codec_fill *f, int16_t v) { %s_fill(m, f, v); }\n", c, c);
    fprintf(out, "static bool %s_equal_any(const void *a, const void *b) { return %s_equal(a, b); }\n", c, c);
    fprintf(out, "static void %s_dump_any(FILE *out, const void *m, int16_t v) { %s_dump(out, m, v); }\n", c, c);
}

void test_write_source(FILE *out, const struct schema *s) {
    fprintf(out, "/* Written by protogen from proto/kafka.schema, for tests only. */\n#include \"proto/kafka_messages_test.h\"\n\n"
                 "#pragma GCC diagnostic ignored \"-Wunused-parameter\"\n");
    for (int i = 0; i < s->message_count; i++) {
        const struct message *m = &s->messages[i];
        for (int k = 0; k < m->struct_count; k++) {
            write_fill(out, m->structs[k]);
            write_equal(out, m->structs[k]);
            write_dump(out, m->structs[k]);
        }
        write_wrappers(out, m);
    }
    fprintf(out, "\nconst struct codec_message kafka_message_tests[KAFKA_MESSAGE_TESTS] = {\n");
    for (int i = 0; i < s->message_count; i++) {
        const struct message *m = &s->messages[i];
        const char *c = m->cname;
        fprintf(out, "    {\"%s\", %d, %s, %d, %d, sizeof(struct %s), %s_init_any, "
                     "%s_decode_any, %s_encode_any, %s_fill_any, %s_equal_any, %s_dump_any},\n",
                m->name, m->api_key, m->request ? "true" : "false", m->versions.lo, m->versions.hi, c, c, c, c, c, c, c);
    }
    fprintf(out, "};\n");
}
