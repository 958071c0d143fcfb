/* dump_repair.h - `varve dump --repair`: what is damaged is taken out, what is readable stays.
 *
 *   dump_repair.c           the command: dry run, copy, data directories
 *   dump_repair_journal.c   groups behind a damaged one are discarded (docs/storage.md, R2)
 *   dump_repair_catalog.c   a catalogue made again from the partition folders
 *   dump_repair_folder.c    a partition folder by itself, Kafka's too
 *
 * Everything that is taken out is kept in files of the folder `aside`, and said with its offsets. */
#ifndef TOOLS_DUMP_REPAIR_H
#define TOOLS_DUMP_REPAIR_H
#include "log/meta.h"
#include "tools/dump.h"

struct repairing {
    struct dump *d;
    const char *path;             /* what is repaired */
    const char *aside;            /* folder for what is taken out; made when needed */
    bool dry;                     /* only says what would be done */
    uint64_t places;              /* that needed repair */
    bool failed;                  /* something could not be done: said */
};

int dump_repair(struct dump *d, char **paths, int count, const char *to, bool in_place);

/* One line, and one object with --json: "FILE: WHAT". */
void repair_say(struct repairing *r, const char *path, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* "FILE: bytes A to B: WHY: offsets X to Y are lost" */
void repair_lost(struct repairing *r, const char *path, const char *topic, int32_t partition, uint64_t from, uint64_t to, int64_t start, int64_t end,
                 const char *why, const char *aside);
void repair_failed(struct repairing *r, const char *path, int neg_errno);
/* Bytes into <aside>/<name>. False: said. `path` (NULL: not wanted) gets its path. */
bool repair_keep(struct repairing *r, const char *name, const void *data, size_t len, char *path, size_t path_len);
/* A new file with these bytes takes the place of `path`, synced. 0 or negative errno. */
int repair_replace(const char *path, const void *data, size_t len);

/* Journal `folder` of the data directory; its catalogue, when that is no use. */
void repair_journal(struct repairing *r, const char *folder, const struct meta *m);
void repair_catalog(struct repairing *r, const char *folder, const struct meta *m);
/* From `path` into `to` (may be the same). Only what differs is written when they are the same. */
void repair_folder(struct repairing *r, const char *path, const char *to);
#endif
