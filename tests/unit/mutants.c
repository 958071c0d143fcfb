/* mutants.c - see mutants.h and alloc_hook.h. */
#include "tests/unit/mutants.h"
#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/buf.h"
#include "tests/unit/alloc_hook.h"

enum mutant mutant_now = MUTANT_NONE;

#define MUTANT_NAME(name) #name,
static const char *const names[] = {"NONE", MUTANTS(MUTANT_NAME)};

void mutant_choose(void) {
    const char *name = getenv("VARVE_MUTANT");
    char upper[64] = "NONE";
    for (size_t i = 0; name && i + 1 < sizeof upper; i++) {
        upper[i] = name[i] == '-' ? '_' : (char)toupper((unsigned char)name[i]);
        if (!name[i]) break;
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(names[i], upper) == 0) {
            mutant_now = (enum mutant)i;
            return;
        }
    fprintf(stderr, "VARVE_MUTANT: there is no mutant '%s'\n", name);
    exit(MUTANT_UNKNOWN_EXIT);
}

struct alloc_hook alloc_hook;

static bool fails(void) {
    if (alloc_hook.paused) return false;
    uint64_t n = ++alloc_hook.count;
    if (alloc_hook.from == 0 || n < alloc_hook.from || n - alloc_hook.from >= alloc_hook.times) return false;
    alloc_hook.failed++;
    return true;
}

void *hook_malloc(size_t n) { return fails() ? NULL : malloc(n); }
void *hook_calloc(size_t n, size_t size) { return fails() ? NULL : calloc(n, size); }
void *hook_realloc(void *p, size_t n) { return fails() ? NULL : realloc(p, n); }
void *hook_aligned_alloc(size_t align, size_t n) { return fails() ? NULL : aligned_alloc(align, n); }
char *hook_strdup(const char *s) { return fails() ? NULL : strdup(s); }
struct buf *hook_buf_new(uint32_t cap, uint32_t align) { return fails() ? NULL : buf_new(cap, align); }
