/* mutants.c - see mutants.h. */
#include "tests/unit/mutants.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
