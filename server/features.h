/* features.h - what clients and brokers agree on by level (KIP-584): ApiVersions, UpdateFeatures.
 *
 * One row for each feature that this broker can act at. The level in force (finalized) is part of the
 * metadata: `initial` until a record says otherwise, 0 means not in use. Whoever adds a feature adds a row
 * here and reads image_feature_level(). */
#ifndef SERVER_FEATURES_H
#define SERVER_FEATURES_H
#include <stdint.h>
#include "base/bytes.h"

#define FEATURES_MAX 8
struct feature {
    const char *name;
    int16_t min, max;                    /* levels that this version supports; min 0: it can be off */
    int16_t initial;
};
const struct feature *features_table(uint32_t *count); /* ascending by name */
const struct feature *feature_find(struct str name);   /* NULL: unknown */
uint32_t feature_index(const struct feature *f);
#endif
