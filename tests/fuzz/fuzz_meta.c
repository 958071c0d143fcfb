/* What is read before anything else: varve.meta (as it is, and with right sums around any message), the command line and
 * the environment. */
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include "base/assert.h"
#include "log/meta.h"
#include "server/options.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void meta(const uint8_t *file, size_t size) {
    struct meta m;
    int bad = -1;
    if (meta_parse(file, size, &m, &bad) == OK) ASSERT(bad == 0 || bad == 1);
}

static void meta_with_sum(const uint8_t *data, size_t size) {
    static uint8_t file[META_BYTES];
    enum { HEAD = 24 };
    size = MIN(size, (size_t)IO_BLOCK_BYTES - HEAD);
    memset(file, 0, sizeof file);
    memcpy(file, "VRVM", 4);
    store_le32(file + 4, (uint32_t)size);
    memcpy(file + HEAD, data, size);
    XXH128_hash_t sum = XXH3_128bits(data, size);
    store_le64(file + 8, sum.low64);
    store_le64(file + 16, sum.high64);
    meta(file, sizeof file);
}

/* Words between zero bytes: arguments, then behind an empty one the environment. */
static void options(const uint8_t *data, size_t size) {
    enum { WORDS = 32 };
    char *text = malloc(size + 1), *argv[WORDS + 2] = {"varved"}, *env[WORDS + 1] = {NULL};
    int argc = 1, envc = 0;
    bool environment = false;
    if (!text) return;
    memcpy(text, data, size);
    text[size] = 0;
    for (size_t at = 0; at < size; at += strlen(text + at) + 1) {
        if (!text[at]) environment = true;
        else if (environment && envc < WORDS) env[envc++] = text + at;
        else if (!environment && text[at] == '-' && argc < WORDS) argv[argc++] = text + at; /* never a file's name */
    }
    struct config c;
    enum options_action action;
    char summary[256], why[1024] = "";
    enum err err = options_read(argc, argv, env, &action, &c, summary, sizeof summary, why, sizeof why);
    if (err != OK) ASSERT(why[0]);
    else if (action == OPTIONS_RUN) {
        ASSERT(c.listener_count > 0 && c.reactors > 0 && c.tail_bytes > 0 && c.socket_request_max_bytes > 0);
        config_free(&c);
    }
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    meta(data, size);
    meta_with_sum(data, size);
    options(data, size);
    return 0;
}
