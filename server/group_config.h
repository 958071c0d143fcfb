/* group_config.h - what is set for single groups (resource type 32, KIP-848): names, ranges, and the broker keys that
 * are in force where a group sets nothing. Ranges are those of Kafka's group.consumer.min.* and max.* keys at their defaults. */
#ifndef SERVER_GROUP_CONFIG_H
#define SERVER_GROUP_CONFIG_H
#include "base/bytes.h"
#include "base/compiler.h"
#include "base/err.h"

struct image_configs;
enum { GROUP_CONFIGS_MAX = 10000 };      /* groups that have some */

struct group_config_key {
    const char *name, *broker;           /* broker: the key that gives the default */
    int32_t min, max;
    const char *doc;
};
const struct group_config_key *group_config_keys(size_t *count); /* ascending by name */
const struct group_config_key *group_config_find(struct str name); /* NULL: unknown */
/* ERR_INVALID: `why` is a sentence for the client. */
MUST_CHECK enum err group_config_check(const struct group_config_key *key, struct str value, char *why, size_t why_len);
/* A group's own value of a key that exists, or `otherwise`. `configs` NULL: it sets nothing. */
int32_t group_config_value(const struct image_configs *configs, const char *name, int32_t otherwise);
#endif
