/* An expression, and behind the first line break a name to try it on. */
#include "base/assert.h"
#include "server/group_regex.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *end = memchr(data, '\n', size);
    if (size == 0 || size > 8192) return 0;
    struct str expression = {(const char *)data, (int32_t)(end ? (size_t)(end - data) : size)};
    struct str name = end ? (struct str){(const char *)end + 1, (int32_t)(size - (size_t)(end - data) - 1)} : STR_LIT("topic-1");
    struct group_regex *re;
    char why[80] = "";
    bool matches;
    enum err err = group_regex_compile(expression, &re, why, sizeof why);
    if (err != OK) {
        ASSERT(err == ERR_INVALID && !re && why[0]);
        return 0;
    }
    if (name.len > 249) name.len = 249;
    err = group_regex_match(re, name, &matches);
    ASSERT(err == OK || err == ERR_TOO_LARGE);
    group_regex_free(re);
    return 0;
}
