/* protogen.h - the schema as protogen holds it: parsed by protogen_schema.c, written out as C by
 * protogen_code.c (the codec) and protogen_test.c (what the tests need). A program of seconds:
 * memory is never freed, and every mistake in the schema ends it with file, line and reason. */
#ifndef PROTO_PROTOGEN_H
#define PROTO_PROTOGEN_H
#include <stdbool.h>
#include <stdio.h>

enum { VERSION_MAX = 32767 };
/* Versions lo..hi, both included; hi VERSION_MAX: "lo+"; lo > hi: none. */
struct range { int lo, hi; };

enum type_kind {
    TYPE_BOOL, TYPE_INT8, TYPE_INT16, TYPE_UINT16, TYPE_INT32, TYPE_UINT32, TYPE_INT64, TYPE_FLOAT64, TYPE_UUID,
    TYPE_STRING, TYPE_BYTES, TYPE_RECORDS, TYPE_STRUCT
};
/* What the generator knows of a kind, indexed by it. */
struct type_info {
    const char *name;      /* in the schema */
    const char *c;         /* C type */
    const char *suffix;    /* of wire_get_, wire_put_ and the array helpers */
    int min_bytes;         /* least encoded size outside flexible versions */
    int min_flex_bytes;
};
extern const struct type_info type_infos[];

struct field {
    char *name, *cname;         /* "TopicId", "topic_id" */
    enum type_kind kind;
    bool array;
    struct strukt *of;          /* TYPE_STRUCT: the struct of the field or of its elements */
    struct range versions;      /* within those of the enclosing struct */
    struct range nullable;      /* within `versions` */
    int tag;                    /* -1: none */
    struct range tagged;        /* within `versions`; empty without a tag */
    bool ignorable;             /* may be dropped when the version lacks it */
    bool plain;                 /* length never compact, even in flexible versions */
    bool default_null;
    const char *default_value;  /* as C text; NULL: zero or empty */
};
struct strukt {
    char *name;                 /* the schema's name of a common struct; NULL for others */
    char *cname;                /* without "struct ": "k_fetch_request_topics" */
    struct field *fields;
    int field_count;
    struct range versions;
    struct range flexible;
    bool needs_is_default;
};
struct message {
    char *name, *cname;         /* "FetchRequest", "k_fetch_request" */
    int api_key;                /* -1: data */
    int type_id;                /* record type of a `data` key; -1: none */
    bool request;
    struct strukt **structs;    /* children before parents; the last is the message itself */
    int struct_count;
    struct range versions, flexible;
};
struct api { int key; char *name; struct range versions, flexible; };
struct schema {
    struct message *messages;
    int message_count;
    struct api *apis;           /* ascending by key */
    int api_count;
};

/* Reads the file and those it includes; exits with a message when they are wrong. */
struct schema schema_read(const char *path);
static inline struct strukt *message_root(const struct message *m) { return m->structs[m->struct_count - 1]; }
/* A nullable struct field that is no array: a pointer in C. */
static inline bool field_is_pointer(const struct field *f) {
    return f->kind == TYPE_STRUCT && !f->array && f->nullable.lo <= f->nullable.hi;
}
/* A struct field that is a struct in C. */
static inline bool field_is_embedded(const struct field *f) {
    return f->kind == TYPE_STRUCT && !f->array && !field_is_pointer(f);
}

/* C text for "version v is in r" where v is known to be in `within`: NULL when always true. The
 * result is valid until the next but three call. */
const char *range_cond(struct range r, struct range within);
bool range_covers(struct range r, struct range within);
static inline bool range_empty(struct range r) { return r.lo > r.hi; }
struct range range_and(struct range a, struct range b);
/* As range_cond, but "true" and "false" instead of NULL and a range outside `within`. */
const char *range_expr(struct range r, struct range within);

void code_write_header(FILE *out, const struct schema *s);
void code_write_source(FILE *out, const struct schema *s);
void test_write_header(FILE *out, const struct schema *s);
void test_write_source(FILE *out, const struct schema *s);
#endif
