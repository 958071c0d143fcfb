/* dump_compare.h - `varve dump --compare A B`: whether two copies of a partition hold the same. */
#ifndef TOOLS_DUMP_COMPARE_H
#define TOOLS_DUMP_COMPARE_H
#include "tools/dump.h"

/* `paths`: two partition folders, or two data directories, whose partitions are matched by name. The exit code. */
int dump_compare(struct dump *d, char **paths, int count);
#endif
