/* memory_machine.c - how much memory there is: of the machine, of the container (control groups, both versions), and
 * what the process may map. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include "server/memory.h"

static int64_t number_in(const char *path) {
    char text[64];
    FILE *f = fopen(path, "r");
    if (!f) return 0;
    bool got = fgets(text, sizeof text, f) != NULL;
    fclose(f);
    long long n = got ? strtoll(text, NULL, 10) : 0; /* "max" is 0 */
    return n > 0 ? n : 0;
}

static void lower(int64_t *limit, int64_t to) {
    if (to > 0 && (*limit == 0 || to < *limit)) *limit = to;
}

/* A group's limit holds for those below it. */
static void lower_by_group(int64_t *limit, const char *root, const char *file, char *group) {
    char path[4608];
    for (;;) {
        snprintf(path, sizeof path, "%s%s/%s", root, group, file);
        lower(limit, number_in(path));
        char *slash = strrchr(group, '/');
        if (!slash) return;
        *slash = 0;
    }
}

int64_t memory_machine_bytes(void) {
    int64_t limit = 0;
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    if (pages > 0 && page > 0) limit = (int64_t)pages * page;
    struct rlimit space;
    if (getrlimit(RLIMIT_AS, &space) == 0 && space.rlim_cur != RLIM_INFINITY && space.rlim_cur < INT64_MAX)
        lower(&limit, (int64_t)space.rlim_cur);
    FILE *f = fopen("/proc/self/cgroup", "r");
    char line[4200];
    while (f && fgets(line, sizeof line, f)) { /* "0::/group" or "9:memory:/group" */
        line[strcspn(line, "\n")] = 0;
        char *kinds = strchr(line, ':'), *group = kinds ? strchr(kinds + 1, ':') : NULL;
        if (!group) continue;
        *group++ = 0;
        if (kinds[1] == 0) lower_by_group(&limit, "/sys/fs/cgroup", "memory.max", group);
        else if (strstr(kinds + 1, "memory")) lower_by_group(&limit, "/sys/fs/cgroup/memory", "memory.limit_in_bytes", group);
    }
    if (f) fclose(f);
    return limit;
}
