/* mutants_log.c - rules of the journal that this process breaks (log/mutant.h). */
#include <string.h>
#include "log/mutant.h"
#include "tests/sim/cluster/mutants.h"

enum mutant mutant_now = MUTANT_NONE;
#define NAME(name) #name,
static const char *const names[] = {"NONE", MUTANTS(NAME)};
enum { NAMES = sizeof names / sizeof names[0] };

bool journal_mutant_choose(const char *name) {
    for (int i = 0; i < NAMES; i++) {
        if (strcmp(names[i], name) != 0) continue;
        mutant_now = (enum mutant)i;
        return true;
    }
    return false;
}
void journal_mutants_list(void (*each)(const char *name)) {
    for (int i = 1; i < NAMES; i++) each(names[i]);
}
