#include "server/features.h"
#include "base/assert.h"
#include "base/compiler.h"

static const struct feature table[] = {
    {"group.version", 0, 1, 1}, /* KIP-848 */
    /* 30 is 4.3-IV0, from which tools read the release. The metadata log is of our own kind: no other level means anything. */
    {"metadata.version", 30, 30, 30},
};

const struct feature *features_table(uint32_t *count) {
    STATIC_ASSERT(ARRAY_LEN(table) <= FEATURES_MAX);
    *count = ARRAY_LEN(table);
    return table;
}

const struct feature *feature_find(struct str name) {
    for (uint32_t i = 0; i < ARRAY_LEN(table); i++)
        if (str_is(name, table[i].name)) return &table[i];
    return NULL;
}

uint32_t feature_index(const struct feature *f) { return (uint32_t)(f - table); }
