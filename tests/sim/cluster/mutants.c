/* mutants.c - rules of the quorum core that this process leaves out (replication/mutants.h). */
#include <string.h>
#include "replication/mutants.h"
#include "tests/sim/cluster/run.h"
#include "tests/sim/cluster/mutants.h"

static const char *const names[] = {"NONE",
#define NAME(name) #name,
    REPLICA_MUTANTS(NAME)
#undef NAME
};
enum { NAMES = sizeof names / sizeof names[0] };

bool core_mutant_choose(const char *name) {
    for (int i = 0; i < NAMES; i++) {
        if (strcmp(names[i], name) != 0) continue;
        replica_mutant_now = i;
        return true;
    }
    return false;
}
void core_mutants_list(void (*each)(const char *name)) {
    for (int i = 1; i < NAMES; i++) each(names[i]);
}
