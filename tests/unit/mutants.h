/* mutants.h - which rule of the journal is broken in this process (log/mutant.h); for the programs that tests/CMakeLists.txt
 * builds as mutant_*. VARVE_MUTANT names it, in lower case with dashes: "no-image". */
#ifndef UNIT_MUTANTS_H
#define UNIT_MUTANTS_H
#include "log/mutant.h"
enum { MUTANT_UNKNOWN_EXIT = 99 };
#ifdef VARVE_MUTANTS
void mutant_choose(void);   /* an unknown name ends the process */
#else
static inline void mutant_choose(void) {}
#endif
#endif
