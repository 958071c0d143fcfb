/* mutants.h - the two lists of rules that can be left out, whose headers cannot be included together. */
#ifndef SIM_CLUSTER_MUTANTS_H
#define SIM_CLUSTER_MUTANTS_H
#include <stdbool.h>
bool core_mutant_choose(const char *name);        /* false: no such */
void core_mutants_list(void (*each)(const char *name));
bool journal_mutant_choose(const char *name);
void journal_mutants_list(void (*each)(const char *name));
#endif
