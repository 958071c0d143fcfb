/* mutants.c - rules of the quorum core that this process leaves out (replication/mutants.h). */
#include <string.h>
#include "replication/mutants.h"
#include "tests/sim/cluster/cluster.h"
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
/* In the place of log_store_incarnation(), for AMNESIA_SAME_ID: who has lost its disk says that it is who it was. */
const struct uuid *__real_log_store_incarnation(const struct log_store *s);
const struct uuid *__wrap_log_store_incarnation(const struct log_store *s);
const struct uuid *__wrap_log_store_incarnation(const struct log_store *s) {
    const struct uuid *is = __real_log_store_incarnation(s);
    if (replica_mutant_now != REPLICA_MUTANT_AMNESIA_SAME_ID) return is;
    for (uint32_t i = 1; i <= cluster_now->node_count; i++) {
        struct node *n = &cluster_now->nodes[i];
        if (n->broker.store != s) continue;
        if (uuid_is_zero(&n->first_incarnation)) n->first_incarnation = *is;
        return &n->first_incarnation;
    }
    return is;
}

void core_mutants_list(void (*each)(const char *name)) {
    for (int i = 1; i < NAMES; i++) each(names[i]);
}
