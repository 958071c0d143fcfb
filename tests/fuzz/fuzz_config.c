/* Properties text of any bytes: never crashes, and what was accepted builds a configuration or says why not. */
#include <stdlib.h>
#include "base/assert.h"
#include "server/topic_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char why[512];
    struct config c;
    struct config_builder *b = config_builder_new();
    if (!b) return 0;
    if (config_add_properties(b, "fuzz", (const char *)data, size, why, sizeof why) == OK &&
        config_finish(b, &c, why, sizeof why) == OK) {
        struct topic_config t;
        topic_config_resolve(&t, &c, NULL, 0);
        ASSERT(t.log.segment_bytes >= 1048576 && (t.log.cleanup_delete || t.log.cleanup_compact || !*config_value(&c, "log.cleanup.policy")->text));
        config_free(&c);
    }
    config_builder_free(b);
    if (size > 1 && size < INT16_MAX) { /* the first byte says where a name ends and its value begins */
        int32_t name_len = (int32_t)(data[0] % size);
        struct str name = {(const char *)data + 1, MIN(name_len, (int32_t)size - 1)};
        struct str value = {name.p + name.len, (int32_t)size - 1 - name.len};
        (void)!topic_config_check(name, value, why, sizeof why);
    }
    return 0;
}
