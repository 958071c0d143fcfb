/* codec_values.h - values of the protocol's types for tests: made from a seed, compared, printed.
 * The generated kafka_messages_test.c builds whole messages of them. */
#ifndef TESTS_UNIT_CODEC_VALUES_H
#define TESTS_UNIT_CODEC_VALUES_H
#include <stdio.h>
#include "proto/wire.h"

/* Where random values come from; memory is the arena's. Running out of it aborts. */
struct codec_fill {
    struct arena *arena;
    uint64_t state;              /* the seed at first */
};

/* One message of the schema, with functions over a void pointer to its struct. */
struct codec_message {
    const char *name;
    int16_t api_key;             /* -1: not part of an API */
    bool request;
    int16_t min_version, max_version;
    size_t size;
    void (*init)(void *m);
    enum err (*decode)(void *m, struct wire_reader *r, int16_t version);
    void (*encode)(const void *m, struct wire_writer *w, int16_t version);
    void (*fill)(void *m, struct codec_fill *f, int16_t version);
    bool (*equal)(const void *a, const void *b);
    void (*dump)(FILE *out, const void *m, int16_t version);  /* {name=value,...}, the version's fields */
};

bool fill_chance(struct codec_fill *f);                    /* about one half */
bool fill_null(struct codec_fill *f, bool nullable);
int32_t fill_count(struct codec_fill *f, bool nullable);   /* -1 to 3 */
void *fill_array(struct codec_fill *f, int32_t count, size_t size); /* NULL when count <= 0 */
bool fill_bool(struct codec_fill *f);
int8_t fill_i8(struct codec_fill *f);
int16_t fill_i16(struct codec_fill *f);
uint16_t fill_u16(struct codec_fill *f);
int32_t fill_i32(struct codec_fill *f);
uint32_t fill_u32(struct codec_fill *f);
int64_t fill_i64(struct codec_fill *f);
double fill_f64(struct codec_fill *f);
struct uuid fill_uuid(struct codec_fill *f);
struct str fill_str(struct codec_fill *f, bool nullable);
struct bytes fill_bytes(struct codec_fill *f, bool nullable);

static inline bool equal_bool(bool a, bool b) { return a == b; }
static inline bool equal_i8(int8_t a, int8_t b) { return a == b; }
static inline bool equal_i16(int16_t a, int16_t b) { return a == b; }
static inline bool equal_u16(uint16_t a, uint16_t b) { return a == b; }
static inline bool equal_i32(int32_t a, int32_t b) { return a == b; }
static inline bool equal_u32(uint32_t a, uint32_t b) { return a == b; }
static inline bool equal_i64(int64_t a, int64_t b) { return a == b; }
static inline bool equal_f64(double a, double b) { return memcmp(&a, &b, sizeof a) == 0; }
static inline bool equal_uuid(struct uuid a, struct uuid b) { return uuid_eq(&a, &b); }
static inline bool equal_str(struct str a, struct str b) { return str_eq(a, b); }
bool equal_bytes(struct bytes a, struct bytes b);

void dump_name(FILE *out, const char *name);               /* "name=" */
bool dump_open(FILE *out, int32_t count);                  /* "[" and true, or "null" and false */
void dump_comma(FILE *out, int32_t index);
void dump_bool(FILE *out, bool v);
void dump_i8(FILE *out, int8_t v);
void dump_i16(FILE *out, int16_t v);
void dump_u16(FILE *out, uint16_t v);
void dump_i32(FILE *out, int32_t v);
void dump_u32(FILE *out, uint32_t v);
void dump_i64(FILE *out, int64_t v);
void dump_f64(FILE *out, double v);
void dump_uuid(FILE *out, struct uuid v);                  /* 32 hex digits */
void dump_str(FILE *out, struct str v);                    /* in quotes, as it is */
void dump_bytes(FILE *out, struct bytes v);                /* #hex */
#endif
